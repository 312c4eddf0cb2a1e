/* The gradient of a depthwise kernel from NHWC arrays: channels in the lanes.
 *
 * The sums of up to three kernel rows and five taps stay in registers while the pixels of
 * an image pass,
 *
 *     a[i][j] += x[pixel at kernel row i, tap j] * dz[pixel]
 *
 * Pixels at the image's edges, which lack rows or taps, are taken one by one.  Where registers are many, 3x3
 * kernels go down the image: see depthwise_channels_columns.h.
 *
 * Shapes: as depthwise_channels.h; dw [tap][c]. */
#ifndef TC_DEPTHWISE_CHANNELS_GRADIENT_H
#define TC_DEPTHWISE_CHANNELS_GRADIENT_H

#include "depthwise_channels_columns.h"

typedef struct channels_gradient_args {
    const tc_correlation *g;
    const tc_offset *rows, *columns; /* the R kernel rows and the T taps */
    const float *x, *dz;             /* an image's, from the first channel of the vector */
    ptrdiff_t low, high;             /* pixels of a row of dz that have all taps */
    vfloat sums[15];                 /* [kernel row][tap], overwritten */
} channels_gradient_args;

/* Pixel b of row `row`, as far as its taps lie in the image. */
ALWAYS_INLINE void channels_gradient_pixel(const channels_gradient_args *args, vfloat *a, ptrdiff_t row, ptrdiff_t b,
                                           const int R, const int T) {
    const tc_correlation *g = args->g;
    vfloat d = v_load(args->dz + row * g->y_row_stride + b * g->y_column_stride);
    UNROLL for (int r = 0; r < R; r++) {
        ptrdiff_t i = row * g->row_step + args->rows[r].position;
        if ((size_t)i >= (size_t)g->x_rows) continue; /* nor below 0 */
        const float *x = args->x + i * g->x_row_stride;
        UNROLL for (int t = 0; t < T; t++) {
            ptrdiff_t j = b * g->column_step + args->columns[t].position;
            if ((size_t)j < (size_t)g->x_columns) a[r * T + t] += v_load(x + j * g->x_column_stride) * d;
        }
    }
}

/* R kernel rows of T taps.  S: taps from pixel to pixel; 0 where it is no such number. */
ALWAYS_INLINE void channels_gradient_tile(channels_gradient_args *args, const int R, const int T, const int S) {
    const tc_correlation *g = args->g;
    vfloat a[15];
    UNROLL for (int t = 0; t < R * T; t++) a[t] = (vfloat){0};
    const ptrdiff_t dz_pixel = g->y_column_stride, x_pixel = g->column_step * g->x_column_stride;
    const ptrdiff_t x_tap = T > 1 ? (args->columns[1].position - args->columns[0].position) * g->x_column_stride : 0;
    const ptrdiff_t below = R > 1 ? (args->rows[1].position - args->rows[0].position) * g->x_row_stride : 0;
    for (ptrdiff_t row = 0; row < g->y_rows; row++) {
        ptrdiff_t top = row * g->row_step + args->rows[0].position, b = args->low;
        if (top < 0 || row * g->row_step + args->rows[R - 1].position >= g->x_rows || args->low == args->high) {
            for (b = 0; b < g->y_columns; b++) channels_gradient_pixel(args, a, row, b, R, T);
            continue;
        }
        for (ptrdiff_t i = 0; i < args->low; i++) channels_gradient_pixel(args, a, row, i, R, T);
        const float *dz = args->dz + row * g->y_row_stride + b * dz_pixel;
        const float *x = args->x + top * g->x_row_stride + b * x_pixel + args->columns[0].position * g->x_column_stride;
        if (S)
            for (; b + DEPTHWISE_PIXELS <= args->high; b += DEPTHWISE_PIXELS) {
                vfloat d[DEPTHWISE_PIXELS];
                UNROLL for (int p = 0; p < DEPTHWISE_PIXELS; p++) d[p] = v_load(dz + p * dz_pixel);
                UNROLL for (int r = 0; r < R; r++) {
                    vfloat in[2 * DEPTHWISE_PIXELS + 4];
                    UNROLL for (int p = 0; p < T + (DEPTHWISE_PIXELS - 1) * S; p++)
                        in[p] = v_load(x + r * below + p * x_tap);
                    UNROLL for (int p = 0; p < DEPTHWISE_PIXELS; p++)
                        UNROLL for (int t = 0; t < T; t++) a[r * T + t] += in[p * S + t] * d[p];
                }
                x += DEPTHWISE_PIXELS * x_pixel;
                dz += DEPTHWISE_PIXELS * dz_pixel;
            }
        for (; b < args->high; b++, x += x_pixel, dz += dz_pixel) {
            vfloat d = v_load(dz);
            UNROLL for (int r = 0; r < R; r++)
                UNROLL for (int t = 0; t < T; t++) a[r * T + t] += v_load(x + r * below + t * x_tap) * d;
        }
        for (; b < g->y_columns; b++) channels_gradient_pixel(args, a, row, b, R, T);
    }
    UNROLL for (int t = 0; t < R * T; t++) args->sums[t] = a[t];
}

#define X(R, T) \
    static void channels_gradient_##R##_##T(channels_gradient_args *args) { channels_gradient_tile(args, R, T, 0); } \
    static void channels_gradient_##R##_##T##_joined(channels_gradient_args *args) { \
        channels_gradient_tile(args, R, T, T > 1); \
    } \
    static void channels_gradient_##R##_##T##_apart(channels_gradient_args *args) { \
        channels_gradient_tile(args, R, T, T > 1 ? 2 : 0); \
    }
DEPTHWISE_TAPS(X)
#undef X

typedef void channels_gradient_function(channels_gradient_args *);
#define X(R, T) \
    [R][T] = {channels_gradient_##R##_##T, channels_gradient_##R##_##T##_joined, channels_gradient_##R##_##T##_apart},
static channels_gradient_function *const channels_gradients[4][6][3] = {DEPTHWISE_TAPS(X)};
#undef X

/* Adds the sums of `rows` kernel rows by `taps` to channels [c, ..) of dw, the vector being that of channel `at`. */
static void channels_gradient_add(const channels_gradient_args *args, int rows, int taps, ptrdiff_t c, ptrdiff_t at,
                                  float *dw) {
    for (int t = 0; t < rows * taps; t++) {
        float *to = dw + (args->rows[t / taps].tap + args->columns[t % taps].tap) * args->g->groups + at;
        if (c == at) {
            v_store(to, v_load(to) + args->sums[t]);
            continue;
        }
        float values[LANES];
        v_store(values, args->sums[t]);
        for (ptrdiff_t l = c - at; l < LANES; l++) to[l] += values[l];
    }
}

/* dw (taps, g->groups) += the gradient of the convolution g of some images; nothing is read outside them. */
static void channels_gradient(const tc_correlation *g, ptrdiff_t images, const float *x, ptrdiff_t x_image,
                              const float *dz, ptrdiff_t dz_image, float *dw) {
    channels_gradient_args args = {.g = g};
    int most = DEPTHWISE_ROWS(g->kernel_columns);
    ptrdiff_t step = g->column_step;
    for (ptrdiff_t image = 0; image < images; image++)
        for (ptrdiff_t c = 0; c < g->groups; c += LANES) {
            ptrdiff_t at = c + LANES <= g->groups ? c : g->groups - LANES;
            args.x = x + image * x_image + at, args.dz = dz + image * dz_image + at;
#ifdef WALK_GRADIENT
            if (channels_walk_kind(g) == 0) {
                args.rows = g->rows, args.columns = g->columns;
                memset(args.sums, 0, sizeof args.sums);
                walk_gradient_image(g, args.x, args.dz, args.sums);
                channels_gradient_add(&args, 3, 3, c, at, dw);
                continue;
            }
#endif
            for (ptrdiff_t j = 0; j < g->kernel_columns; j += 5) {
                int taps = g->kernel_columns - j < 5 ? (int)(g->kernel_columns - j) : 5;
                args.columns = g->columns + j;
                ptrdiff_t low = 0, high = g->y_columns, last = args.columns[taps - 1].position;
                while (low < high && low * step + args.columns[0].position < 0) low++;
                while (high > low && (high - 1) * step + last >= g->x_columns) high--;
                args.low = low, args.high = high;
                ptrdiff_t apart = taps > 1 ? args.columns[1].position - args.columns[0].position : 0;
                int kind = apart == step ? 1 : 2 * apart == step ? 2 : 0;
                for (ptrdiff_t i = 0; i < g->kernel_rows; i += most) {
                    int rows = g->kernel_rows - i < most ? (int)(g->kernel_rows - i) : most;
                    args.rows = g->rows + i;
                    channels_gradients[rows][taps][kind](&args);
                    channels_gradient_add(&args, rows, taps, c, at, dw);
                }
            }
        }
}

#endif
