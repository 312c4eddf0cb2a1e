/* Depthwise convolution with images in the lanes: groups of one channel.
 *
 * Nothing is summed over channels, so there is no outer product of pixels and filters:
 * a vector of x meets one weight of each tap.  What a register tile saves is loads: the
 * taps of a kernel row see neighbouring pixels, so P + KW - 1 vectors of x serve
 * P * KW multiply-adds,
 *
 *     for each kernel row, each tap j of it:
 *         a[p] += x[p + j] * w[j]
 *
 * and backward-weights keeps the taps of a kernel row in registers while pixels pass,
 *
 *     a[j] += x[pixel + j] * dz[pixel]
 *
 * Channels are the loop around the tile: neighbours in memory, they share its lines' way
 * into the cache.
 *
 * Shapes: x [h][w][c][lane], y and dz [oh][ow][c][multiplier][lane], packed weights
 * [tap][c][multiplier], which forward is the kernel itself, (KH, KW, 1, C * multiplier). */
#ifndef TC_DEPTHWISE_H
#define TC_DEPTHWISE_H

#include "../kernels.h"
#include "tiles.h"

/* transposed: with every kernel row turned round, as correlations of dz read it. */
static void depthwise_pack(const float *kernel, ptrdiff_t kernel_rows, ptrdiff_t kernel_columns, ptrdiff_t filters,
                           int transposed, float *packed) {
    for (ptrdiff_t i = 0; i < kernel_rows; i++)
        for (ptrdiff_t j = 0; j < kernel_columns; j++, packed += filters) {
            ptrdiff_t column = transposed ? kernel_columns - 1 - j : j;
            memcpy(packed, kernel + (i * kernel_columns + column) * filters, sizeof(float) * (size_t)filters);
        }
}

/* ---- forward and backward-data ------------------------------------------------- */

typedef struct depthwise_args {
    const tc_run *runs;
    ptrdiff_t rows, runs_per_row;
    const vfloat *x; /* runs[].x is relative to this */
    ptrdiff_t pixel; /* vectors between two pixels of the tile */
    const float *weights;
    ptrdiff_t tap; /* floats from tap to tap */
    float bias;
    int relu;
    vfloat *y; /* [P], y_pixel apart */
    ptrdiff_t y_pixel;
} depthwise_args;

/* One output channel of P pixels.  KW: the taps of a kernel row, all of them next to each
 * other and a pixel apart; 0 for taps that lie anywhere, and runs longer than one. */
ALWAYS_INLINE void depthwise_tile(const depthwise_args *args, const int P, const int KW) {
    vfloat a[8];
    UNROLL for (int p = 0; p < P; p++) a[p] = v_set1(args->bias);
    const ptrdiff_t pixel = args->pixel, tap = args->tap;
    const tc_run *run = args->runs;
    for (ptrdiff_t i = 0; i < args->rows; i++) {
        if (KW) {
            const vfloat *x = args->x + run->x;
            const float *w = args->weights + run->tap * tap;
            vfloat in[16];
            UNROLL for (int p = 0; p < P + KW - 1; p++) in[p] = x[p * pixel];
            UNROLL for (int j = 0; j < KW; j++) {
                vfloat weight = v_set1(w[j * tap]);
                UNROLL for (int p = 0; p < P; p++) a[p] += in[p + j] * weight;
            }
            run += KW;
        } else {
            for (ptrdiff_t r = args->runs_per_row; r > 0; r--, run++) {
                const vfloat *x = args->x + run->x;
                const float *w = args->weights + run->tap * tap;
                for (ptrdiff_t t = 0; t < run->length; t++) {
                    vfloat weight = v_set1(w[t]);
                    UNROLL for (int p = 0; p < P; p++) a[p] += x[p * pixel + t] * weight;
                }
            }
        }
    }
    if (args->relu) UNROLL for (int p = 0; p < P; p++) a[p] = v_max((vfloat){0}, a[p]);
    UNROLL for (int p = 0; p < P; p++) args->y[p * args->y_pixel] = a[p];
}

#define DEPTHWISE_TILES(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)
#define X(P) \
    static void depthwise_tile_##P##_any(const depthwise_args *args) { depthwise_tile(args, P, 0); } \
    static void depthwise_tile_##P##_3(const depthwise_args *args) { depthwise_tile(args, P, 3); } \
    static void depthwise_tile_##P##_5(const depthwise_args *args) { depthwise_tile(args, P, 5); }
DEPTHWISE_TILES(X)
#undef X

typedef void depthwise_tile_function(const depthwise_args *);
#define X(P) [P] = {depthwise_tile_##P##_any, depthwise_tile_##P##_3, depthwise_tile_##P##_5},
static depthwise_tile_function *const depthwise_tiles[9][3] = {DEPTHWISE_TILES(X)};
#undef X

/* Which column of depthwise_tiles a tile takes. */
ALWAYS_INLINE int depthwise_width(const tc_tile *tile, ptrdiff_t pixel) {
    ptrdiff_t taps = tile->runs_per_row;
    if ((taps != 3 && taps != 5) || tile->runs[0].length != 1) return 0;
    for (ptrdiff_t r = 1; r < taps; r++)
        if (tile->runs[r].x != tile->runs[0].x + r * pixel || tile->runs[r].tap != tile->runs[0].tap + r) return 0;
    return taps == 3 ? 1 : 2;
}

static void depthwise_row_tiles(const tc_correlation *g, ptrdiff_t a, ptrdiff_t first, ptrdiff_t last, const float *x,
                                const float *packed, const float *bias, int relu, float *y) {
    /* The kernel rows that lie in the image. */
    ptrdiff_t row = a * g->row_step, i0 = 0, i1 = g->kernel_rows;
    while (i0 < i1 && row + g->rows[i0].position < 0) i0++;
    while (i1 > i0 && row + g->rows[i1 - 1].position >= g->x_rows) i1--;
    const vfloat *x_row = (const vfloat *)x + g->x_start + row * g->x_row_stride;
    ptrdiff_t channels = g->groups * g->y_channels;
    /* A run's tap counts the x_channels of a group: one tap is all of the kernel's filters. */
    depthwise_args args = {.rows = i1 - i0, .pixel = g->column_step * g->x_column_stride, .tap = channels,
                           .relu = relu, .y_pixel = g->y_column_stride};
    for (const tc_tile *tile = g->tiles + first; tile < g->tiles + last; tile++) {
        depthwise_tile_function *function =
            depthwise_tiles[tile->pixels][i0 < i1 ? depthwise_width(tile, args.pixel) : 0];
        args.runs = tile->runs + i0 * tile->runs_per_row;
        args.runs_per_row = tile->runs_per_row;
        const vfloat *x_tile = x_row + tile->column * args.pixel;
        vfloat *y_tile = (vfloat *)y + (tile->column - g->tiles[first].column) * g->y_column_stride;
        for (ptrdiff_t f = 0; f < channels; f++) {
            args.x = x_tile + f / g->y_channels * g->x_channels;
            args.weights = packed + f * g->x_channels;
            args.bias = bias ? bias[f] : 0.0f;
            args.y = y_tile + f;
            function(&args);
        }
    }
}

/* ---- backward-weights ------------------------------------------------------------ */

/* Kernel rows that share a pass over dz: a multiply-add waits for the last one on its
 * accumulator, so few taps alone would wait most of the time.  Then the pixels that share
 * their loads. */
#if LANES == 16 || defined(__aarch64__)
#define DEPTHWISE_ROWS(taps) 3
#define DEPTHWISE_PIXELS 4
#else
#define DEPTHWISE_ROWS(taps) ((taps) <= 3 ? 3 : 1)
#define DEPTHWISE_PIXELS 2
#endif

typedef struct depthwise_gradient_args {
    const float *x, *dz;            /* of the first pixel; all strides in floats */
    ptrdiff_t x_row, x_pixel;       /* from row to row, pixel to pixel of dz */
    ptrdiff_t x_kernel_row, x_tap;  /* from kernel row to kernel row, tap to tap */
    ptrdiff_t dz_row, dz_pixel;
    ptrdiff_t rows, columns;
    vfloat sums[15];                /* [kernel row][tap], overwritten */
} depthwise_gradient_args;

/* T taps of R kernel rows; joined: tap t of one pixel is tap t - 1 of the next. */
ALWAYS_INLINE void depthwise_gradient_tile(depthwise_gradient_args *args, const int R, const int T, const int joined) {
    vfloat a[15];
    UNROLL for (int t = 0; t < R * T; t++) a[t] = (vfloat){0};
    const ptrdiff_t x_pixel = args->x_pixel, dz_pixel = args->dz_pixel, x_tap = args->x_tap;
    const ptrdiff_t kernel_row = args->x_kernel_row;
    for (ptrdiff_t i = 0; i < args->rows; i++) {
        const float *x = args->x + i * args->x_row, *dz = args->dz + i * args->dz_row;
        ptrdiff_t j = args->columns;
        if (joined)
            for (; j >= DEPTHWISE_PIXELS; j -= DEPTHWISE_PIXELS) {
                vfloat d[DEPTHWISE_PIXELS];
                UNROLL for (int p = 0; p < DEPTHWISE_PIXELS; p++) d[p] = v_load(dz + p * dz_pixel);
                UNROLL for (int r = 0; r < R; r++) {
                    vfloat in[DEPTHWISE_PIXELS + 4];
                    UNROLL for (int p = 0; p < T + DEPTHWISE_PIXELS - 1; p++)
                        in[p] = v_load(x + r * kernel_row + p * x_pixel);
                    UNROLL for (int p = 0; p < DEPTHWISE_PIXELS; p++)
                        UNROLL for (int t = 0; t < T; t++) a[r * T + t] += in[p + t] * d[p];
                }
                x += DEPTHWISE_PIXELS * x_pixel;
                dz += DEPTHWISE_PIXELS * dz_pixel;
            }
        for (; j > 0; j--, x += x_pixel, dz += dz_pixel) {
            vfloat d = v_load(dz);
            UNROLL for (int r = 0; r < R; r++)
                UNROLL for (int t = 0; t < T; t++) a[r * T + t] += v_load(x + r * kernel_row + t * x_tap) * d;
        }
    }
    UNROLL for (int t = 0; t < R * T; t++) args->sums[t] = a[t];
}

#define DEPTHWISE_TAPS(X) \
    X(1, 1) X(1, 2) X(1, 3) X(1, 4) X(1, 5) X(2, 1) X(2, 2) X(2, 3) X(2, 4) X(2, 5) \
    X(3, 1) X(3, 2) X(3, 3) X(3, 4) X(3, 5)
#define X(R, T) \
    static void depthwise_gradient_##R##_##T(depthwise_gradient_args *args) { \
        depthwise_gradient_tile(args, R, T, 0); \
    } \
    static void depthwise_gradient_##R##_##T##_joined(depthwise_gradient_args *args) { \
        depthwise_gradient_tile(args, R, T, 1); \
    }
DEPTHWISE_TAPS(X)
#undef X

typedef void depthwise_gradient_function(depthwise_gradient_args *);
#define X(R, T) [R][T] = {depthwise_gradient_##R##_##T, depthwise_gradient_##R##_##T##_joined},
static depthwise_gradient_function *const depthwise_gradients[4][6][2] = {DEPTHWISE_TAPS(X)};
#undef X

/* dw[t * stride] += the sum of the lanes of sums[t], t < count. */
static void depthwise_add_sums(const vfloat *sums, int count, float *dw, ptrdiff_t stride) {
    for (int t = 0; t < count; t += 4) {
        float sum[4];
        const vfloat *s = sums + t;
        int last = count - 1 - t;
        v_sum4(s[0], s[last < 1 ? last : 1], s[last < 2 ? last : 2], s[last < 3 ? last : 3], sum);
        for (int i = 0; i < 4 && t + i < count; i++) dw[(t + i) * stride] += sum[i];
    }
}

typedef struct depthwise_range {
    ptrdiff_t first, last;
} depthwise_range;

/* Rows of dz among [first, last) for which kernel row i lies in the image. */
ALWAYS_INLINE depthwise_range depthwise_gradient_rows(const tc_weight_gradient *g, ptrdiff_t i, ptrdiff_t first,
                                                      ptrdiff_t last) {
    ptrdiff_t shift = i * g->row_dilation - g->pad_top;
    while (first < last && first * g->row_step + shift < 0) first++;
    while (last > first && (last - 1) * g->row_step + shift >= g->x_rows) last--;
    return (depthwise_range){first, last};
}

/* Kernel rows [i, i + count) of filter f, from rows [a0, a1) of dz, whose first is `first`. */
static void depthwise_gradient_part(const tc_weight_gradient *g, depthwise_gradient_args *args, ptrdiff_t f,
                                    ptrdiff_t i, int count, ptrdiff_t first, ptrdiff_t a0, ptrdiff_t a1, const float *x,
                                    const float *dz, float *dw) {
    if (a0 >= a1) return;
    args->rows = a1 - a0;
    args->dz = dz + (a0 - first) * args->dz_row + f * LANES;
    const float *x_row = x + g->x_start * LANES + a0 * args->x_row + f / g->dz_channels * LANES +
                         (i * g->row_dilation - g->pad_top) * g->x_row_stride * LANES;
    for (ptrdiff_t j = 0; j < g->kernel_columns;) {
        int taps = g->kernel_columns - j < 5 ? (int)(g->kernel_columns - j) : 5;
        args->x = x_row + j * args->x_tap;
        depthwise_gradients[count][taps][args->x_tap == args->x_pixel](args);
        for (int r = 0; r < count; r++)
            depthwise_add_sums(args->sums + r * taps, taps, dw + ((i + r) * g->kernel_columns + j) * g->filters + f,
                               g->filters);
        j += taps;
    }
}

static void depthwise_weight_gradient(const tc_weight_gradient *g, ptrdiff_t first, ptrdiff_t last, const float *x,
                                      const float *dz, float *dw) {
    depthwise_gradient_args args = {.x_row = g->row_step * g->x_row_stride * LANES,
                                    .x_pixel = g->column_step * g->x_column_stride * LANES,
                                    .x_kernel_row = g->row_dilation * g->x_row_stride * LANES,
                                    .x_tap = g->column_dilation * g->x_column_stride * LANES,
                                    .dz_row = g->dz_row_stride * LANES,
                                    .dz_pixel = g->dz_column_stride * LANES,
                                    .columns = g->dz_columns};
    int most = DEPTHWISE_ROWS(g->kernel_columns);
    for (ptrdiff_t f = 0; f < g->filters; f++)
        for (ptrdiff_t i = 0; i < g->kernel_rows; i += most) {
            int count = g->kernel_rows - i < most ? (int)(g->kernel_rows - i) : most;
            /* Rows that all of these kernel rows have; the others come kernel row by kernel row. */
            ptrdiff_t low = depthwise_gradient_rows(g, i, first, last).first;
            ptrdiff_t high = depthwise_gradient_rows(g, i + count - 1, first, last).last;
            if (high < low) high = low;
            depthwise_gradient_part(g, &args, f, i, count, first, low, high, x, dz, dw);
            for (ptrdiff_t r = i; r < i + count; r++) {
                depthwise_range own = depthwise_gradient_rows(g, r, first, last);
                ptrdiff_t before = own.last < low ? own.last : low, after = own.first > high ? own.first : high;
                depthwise_gradient_part(g, &args, f, r, 1, first, own.first, before, x, dz, dw);
                depthwise_gradient_part(g, &args, f, r, 1, first, after, own.last, x, dz, dw);
            }
        }
}

#endif
