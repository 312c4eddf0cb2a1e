/* Depthwise convolution of NHWC arrays: channels in the lanes.
 *
 * A channel meets only itself, so the arrays' own layout is a vector's: y[c] += x[c] * w[c],
 * contiguous all of them.  Tiles are those of depthwise.h with a vector of weights a tap.
 * The columns outside the image are left out: none are stored, none are read.
 *
 * Shapes: x [h][w][c], y and dz [oh][ow][c], weights [tap][c]; c is LANES or more, and the last
 * vector of channels, where they fill none, overlaps the one before. */
#ifndef TC_DEPTHWISE_CHANNELS_H
#define TC_DEPTHWISE_CHANNELS_H

#include "depthwise.h"

typedef struct channels_args {
    const tc_offset *rows, *columns;
    ptrdiff_t row_count, column_count;
    const float *x; /* of pixel (0, 0) of what the first output pixel's positions count from */
    ptrdiff_t x_row, x_column, pixel;
    const float *weights;
    ptrdiff_t tap; /* floats from tap to tap */
    vfloat bias;
    int relu;
    float *y; /* [P], y_pixel apart */
    ptrdiff_t y_pixel;
} channels_args;

/* P pixels.  KW: the kernel's columns, as neighbours; 0 for columns that lie anywhere.
 * The first `left` and the last `right` of the P + KW - 1 pixels of x lie outside the image. */
ALWAYS_INLINE void channels_tile(const channels_args *args, const int P, const int KW, const int left,
                                 const int right) {
    vfloat a[8];
    UNROLL for (int p = 0; p < P; p++) a[p] = args->bias;
    const ptrdiff_t pixel = args->pixel, tap = args->tap;
    for (ptrdiff_t i = 0; i < args->row_count; i++) {
        const float *row = args->x + args->rows[i].position * args->x_row;
        const float *weights = args->weights + args->rows[i].tap * tap;
        if (KW) {
            row += args->columns->position * args->x_column;
            weights += args->columns->tap * tap;
            vfloat in[12];
            UNROLL for (int p = 0; p < P + KW - 1; p++)
                if (p >= left && p < P + KW - 1 - right) in[p] = v_load(row + p * pixel);
            UNROLL for (int j = 0; j < KW; j++) {
                vfloat weight = v_load(weights + j * tap);
                UNROLL for (int p = 0; p < P; p++)
                    if (p + j >= left && p + j < P + KW - 1 - right) a[p] += in[p + j] * weight;
            }
        } else {
            for (ptrdiff_t j = 0; j < args->column_count; j++) {
                const float *x = row + args->columns[j].position * args->x_column;
                vfloat weight = v_load(weights + args->columns[j].tap * tap);
                UNROLL for (int p = 0; p < P; p++) a[p] += v_load(x + p * pixel) * weight;
            }
        }
    }
    if (args->relu) UNROLL for (int p = 0; p < P; p++) a[p] = v_max((vfloat){0}, a[p]);
    UNROLL for (int p = 0; p < P; p++) v_store(args->y + p * args->y_pixel, a[p]);
}

#define X(P) \
    static void channels_tile_##P##_any(const channels_args *args) { channels_tile(args, P, 0, 0, 0); } \
    static void channels_tile_##P##_3(const channels_args *args) { channels_tile(args, P, 3, 0, 0); } \
    static void channels_tile_##P##_3_left(const channels_args *args) { channels_tile(args, P, 3, 1, 0); } \
    static void channels_tile_##P##_3_right(const channels_args *args) { channels_tile(args, P, 3, 0, 1); } \
    static void channels_tile_##P##_3_both(const channels_args *args) { channels_tile(args, P, 3, 1, 1); } \
    static void channels_tile_##P##_5(const channels_args *args) { channels_tile(args, P, 5, 0, 0); } \
    static void channels_tile_##P##_5_left(const channels_args *args) { channels_tile(args, P, 5, 2, 0); } \
    static void channels_tile_##P##_5_right(const channels_args *args) { channels_tile(args, P, 5, 0, 2); } \
    static void channels_tile_##P##_5_both(const channels_args *args) { channels_tile(args, P, 5, 2, 2); }
DEPTHWISE_TILES(X)
#undef X

typedef void channels_tile_function(const channels_args *);
/* By the kernel's columns (anywhere, 3, 5), then by the edges of the image: left 1, right 2. */
#define X(P) \
    [P] = {{channels_tile_##P##_any}, \
           {channels_tile_##P##_3, channels_tile_##P##_3_left, channels_tile_##P##_3_right, \
            channels_tile_##P##_3_both}, \
           {channels_tile_##P##_5, channels_tile_##P##_5_left, channels_tile_##P##_5_right, \
            channels_tile_##P##_5_both}},
static channels_tile_function *const channels_tiles[9][3][4] = {DEPTHWISE_TILES(X)};
#undef X

#if LANES == 16 || defined(__aarch64__)
#define CHANNELS_PIXELS 8
#else
#define CHANNELS_PIXELS 4
#endif

/* Which of channels_tiles a pixel with all of the kernel's columns takes. */
static int channels_width(const tc_correlation *g) {
    ptrdiff_t taps = g->kernel_columns;
    if ((taps != 3 && taps != 5) || g->column_step != 1) return 0;
    for (ptrdiff_t j = 1; j < taps; j++)
        if (g->columns[j].position != g->columns[0].position + j || g->columns[j].tap != g->columns[0].tap + j)
            return 0;
    return taps == 3 ? 1 : 2;
}

/* Output pixels [b0, b1), which have kernel columns [j0, j1); edges: those that x ends at. */
static void channels_stretch(const tc_correlation *g, channels_args *args, ptrdiff_t b0, ptrdiff_t b1, ptrdiff_t j0,
                             ptrdiff_t j1, int width, int edges, const float *x, float *y) {
    ptrdiff_t tiles = (b1 - b0 + CHANNELS_PIXELS - 1) / CHANNELS_PIXELS;
    args->columns = g->columns + j0, args->column_count = j1 - j0;
    for (int left = edges & 1; tiles > 0; tiles--, left = 0) {
        ptrdiff_t pixels = (b1 - b0 + tiles - 1) / tiles;
        args->x = x + b0 * args->pixel, args->y = y + b0 * args->y_pixel;
        channels_tiles[pixels][width][left | (tiles == 1 ? edges & 2 : 0)](args);
        b0 += pixels;
    }
}

/* Pixels that lack columns of the kernel are computed one by one. */
static void channels_row(const tc_correlation *g, channels_args *args, int width, const float *x, float *y) {
    ptrdiff_t low = 0, high = g->y_columns, last = g->kernel_columns - 1, step = g->column_step;
    while (last >= 0 && low < high && low * step + g->columns[0].position < 0) low++;
    while (last >= 0 && high > low && (high - 1) * step + g->columns[last].position >= g->x_columns) high--;
    for (ptrdiff_t b = 0; b < g->y_columns; b++) {
        if (b == low && low < high) {
            channels_stretch(g, args, low, high, 0, g->kernel_columns, width, 0, x, y);
            b = high - 1;
            continue;
        }
        ptrdiff_t j0 = 0, j1 = g->kernel_columns;
        while (j0 < j1 && b * step + g->columns[j0].position < 0) j0++;
        while (j1 > j0 && b * step + g->columns[j1 - 1].position >= g->x_columns) j1--;
        channels_stretch(g, args, b, b + 1, j0, j1, 0, 0, x, y);
    }
}

/* Output row a; g->groups channels. */
static void correlate_channels(const tc_correlation *g, ptrdiff_t a, const float *x, const float *weights,
                               const float *bias, int relu, float *y) {
    ptrdiff_t row = a * g->row_step, i0 = 0, i1 = g->kernel_rows, channels = g->groups;
    while (i0 < i1 && row + g->rows[i0].position < 0) i0++;
    while (i1 > i0 && row + g->rows[i1 - 1].position >= g->x_rows) i1--;
    int width = channels_width(g);
    /* As many columns as x has: the kernel's middle column is the pixel itself. */
    int same = width && g->y_columns == g->x_columns && g->columns[0].position == -g->kernel_columns / 2;
    channels_args args = {.rows = g->rows + i0, .row_count = i1 - i0, .x_row = g->x_row_stride,
                          .x_column = g->x_column_stride, .pixel = g->column_step * g->x_column_stride,
                          .tap = channels, .relu = relu, .y_pixel = g->y_column_stride};
    for (ptrdiff_t c = 0; c < channels; c += LANES) {
        ptrdiff_t at = c + LANES <= channels ? c : channels - LANES;
        const float *x_row = x + row * g->x_row_stride + at;
        args.weights = weights + at;
        args.bias = v_load(bias + at);
        if (same) channels_stretch(g, &args, 0, g->y_columns, 0, g->kernel_columns, width, 3, x_row, y + at);
        else channels_row(g, &args, width, x_row, y + at);
    }
}

/* dw[i][t][c] += sum over images, rows, columns of x[image][row][column] at kernel row i, tap t, of
 * channel c, times dz[...][c]; sum->filters channels, contiguous; x_tap: from tap to tap. */
static void channels_sum(const tc_outer_sum *sum, ptrdiff_t x_tap) {
    depthwise_gradient_args args = {.x_row = sum->x_row, .x_pixel = sum->x_pixel, .x_kernel_row = sum->x_kernel_row,
                                    .x_tap = x_tap, .dz_row = sum->dz_row, .dz_pixel = sum->dz_pixel,
                                    .rows = sum->rows, .columns = sum->columns};
    ptrdiff_t channels = sum->filters;
    int most = DEPTHWISE_ROWS(sum->taps);
    for (ptrdiff_t image = 0; image < sum->images; image++)
        for (ptrdiff_t c = 0; c < channels; c += LANES) {
            ptrdiff_t at = c + LANES <= channels ? c : channels - LANES;
            for (ptrdiff_t i = 0; i < sum->kernel_rows; i += most)
                for (ptrdiff_t j = 0; j < sum->taps; j += 5) {
                    int rows = sum->kernel_rows - i < most ? (int)(sum->kernel_rows - i) : most;
                    int taps = sum->taps - j < 5 ? (int)(sum->taps - j) : 5;
                    args.x = sum->x + image * sum->x_image + i * sum->x_kernel_row + j * x_tap + at;
                    args.dz = sum->dz + image * sum->dz_image + at;
                    depthwise_gradients[rows][taps][x_tap == sum->x_pixel](&args);
                    for (int t = 0; t < rows * taps; t++) {
                        float *dw = sum->dw + ((i + t / taps) * sum->taps + j + t % taps) * sum->dw_row;
                        float values[LANES];
                        v_store(values, args.sums[t]);
                        for (ptrdiff_t l = c - at; l < LANES; l++) dw[at + l] += values[l];
                    }
                }
        }
}

#endif
