/* Depthwise convolution with images in the lanes, all rows at once.
 *
 * The tiles of depthwise.h read x once for every kernel row.  The pixels of a row lie as
 * far apart as the image has channels, often a power of two of kilobytes, so that none of
 * them is still in L1 when the next kernel row asks.  Here a tile of P columns walks down
 * the image, and a row of x meets all kernel rows at once.  Forward it is part of K rows of
 * y, whose sums wait in registers,
 *
 *     for each row of x:
 *         for each kernel row i, tap j of it:
 *             a[K - 1 - i][p] += x[p + j] * w[i][j]
 *         a[0] is complete, a row of y; the others move up
 *
 * and backward-weights keeps the last K rows of dz,
 *
 *     for each row of x:
 *         d[0] is a row of dz; the others move down
 *         for each kernel row i, tap j of it:
 *             a[i][j] += x[p + j] * d[i][p]
 *
 * Strides and dilation are 1.  The way down the image is none that the processor sees
 * coming: the tile asks for what it will read two channels later. */
#ifndef TC_DEPTHWISE_COLUMNS_H
#define TC_DEPTHWISE_COLUMNS_H

#include "depthwise.h"

#define COLUMN_AHEAD 2 /* channels */

#if LANES == 16 || defined(__aarch64__)
/* 32 registers: 20 sums, 8 pixels, a weight; 9 sums, 21 of dz, a pixel. */
#define COLUMN_TILES(X) X(1) X(2) X(3) X(4)
#define COLUMN_PIXELS 4
#define COLUMN_GRADIENT_TILES(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define COLUMN_GRADIENT_PIXELS 7
#else
#define COLUMN_TILES(X) X(1) X(2) X(3)
#define COLUMN_PIXELS 3
#define COLUMN_GRADIENT_TILES(X) X(1) X(2) X(3) X(4)
#define COLUMN_GRADIENT_PIXELS 4
#endif

/* ---- forward and backward-data: 5x5 --------------------------------------------- */

/* A smaller kernel gains nothing here: it waits for memory either way. */
#define COLUMN_TAPS 5

typedef struct column_args {
    ptrdiff_t top, rows, x_rows; /* x row of kernel row 0 for the first row of y; rows of y; of x */
    const vfloat *x;             /* the first tap of the tile in row 0 */
    ptrdiff_t x_row, pixel;
    const float *weights[COLUMN_TAPS]; /* of every kernel row */
    ptrdiff_t tap;                     /* floats from tap to tap */
    float bias;
    int relu;
    vfloat *y;
    ptrdiff_t y_row, y_pixel;
} column_args;

ALWAYS_INLINE void column_tile(const column_args *args, const int P) {
    enum { K = COLUMN_TAPS };
    vfloat a[K][4];
    const vfloat bias = v_set1(args->bias);
    UNROLL for (int k = 0; k < K; k++)
        UNROLL for (int p = 0; p < P; p++) a[k][p] = bias;
    const ptrdiff_t pixel = args->pixel, tap = args->tap, y_pixel = args->y_pixel;
    vfloat *y = args->y;
    for (ptrdiff_t t = 0; t < args->rows + K - 1; t++) {
        ptrdiff_t row = args->top + t;
        if (row >= 0 && row < args->x_rows) {
            const vfloat *x = args->x + row * args->x_row;
            vfloat in[8];
            UNROLL for (int p = 0; p < P + K - 1; p++) {
                in[p] = x[p * pixel];
                __builtin_prefetch(x + p * pixel + COLUMN_AHEAD);
            }
            UNROLL for (int i = 0; i < K; i++)
                UNROLL for (int j = 0; j < K; j++) {
                    vfloat weight = v_set1(args->weights[i][j * tap]);
                    UNROLL for (int p = 0; p < P; p++) a[K - 1 - i][p] += in[p + j] * weight;
                }
        }
        if (t >= K - 1) {
            UNROLL for (int p = 0; p < P; p++) {
                y[p * y_pixel] = args->relu ? v_max((vfloat){0}, a[0][p]) : a[0][p];
                __builtin_prefetch(y + p * y_pixel + COLUMN_AHEAD, 1);
            }
            y += args->y_row;
        }
        UNROLL for (int k = 0; k < K - 1; k++)
            UNROLL for (int p = 0; p < P; p++) a[k][p] = a[k + 1][p];
        UNROLL for (int p = 0; p < P; p++) a[K - 1][p] = bias;
    }
}

#define X(P) static void column_tile_##P(const column_args *args) { column_tile(args, P); }
COLUMN_TILES(X)
#undef X

typedef void column_tile_function(const column_args *);
#define X(P) [P] = column_tile_##P,
static column_tile_function *const column_tiles[COLUMN_PIXELS + 1] = {COLUMN_TILES(X)};
#undef X

static int column_fits(const tc_correlation *g) {
    if (g->kernel_rows != COLUMN_TAPS || g->kernel_columns != COLUMN_TAPS || g->x_channels != 1 || g->row_step != 1 ||
        g->column_step != 1)
        return 0;
    for (ptrdiff_t k = 1; k < COLUMN_TAPS; k++)
        if (g->rows[k].position != g->rows[0].position + k || g->columns[k].position != g->columns[0].position + k ||
            g->columns[k].tap != g->columns[0].tap + k)
            return 0;
    return 1;
}

/* All rows of y, y_row apart: else as depthwise_row_tiles. */
static void depthwise_columns(const tc_correlation *g, const float *x, const float *packed, const float *bias,
                              int relu, float *y, ptrdiff_t y_row) {
    ptrdiff_t channels = g->groups * g->y_channels, tiles = (g->y_columns + COLUMN_PIXELS - 1) / COLUMN_PIXELS;
    column_args args = {.top = g->rows[0].position, .rows = g->y_rows, .x_rows = g->x_rows, .x_row = g->x_row_stride,
                        .pixel = g->x_column_stride, .tap = channels, .relu = relu, .y_row = y_row,
                        .y_pixel = g->y_column_stride};
    const vfloat *x_first = (const vfloat *)x + g->x_start + g->columns[0].position * g->x_column_stride;
    for (ptrdiff_t tile = 0, b = 0; tile < tiles; tile++) {
        ptrdiff_t pixels = (g->y_columns - b + (tiles - tile) - 1) / (tiles - tile);
        for (ptrdiff_t f = 0; f < channels; f++) {
            args.x = x_first + b * args.pixel + f / g->y_channels;
            for (int i = 0; i < COLUMN_TAPS; i++)
                args.weights[i] = packed + (g->rows[i].tap + g->columns[0].tap) * channels + f;
            args.bias = bias ? bias[f] : 0.0f;
            args.y = (vfloat *)y + b * args.y_pixel + f;
            column_tiles[pixels](&args);
        }
        b += pixels;
    }
}

/* ---- backward-weights: 3x3 -------------------------------------------------------- */

typedef struct column_gradient_args {
    ptrdiff_t top, rows, x_rows; /* x row of kernel row 0 for the first row of dz; rows of dz; of x */
    const vfloat *x, *dz;        /* the first tap of the tile in row 0; the tile's first pixel */
    ptrdiff_t x_row, x_pixel, dz_row, dz_pixel;
    vfloat sums[9]; /* [kernel row][tap], accumulated */
} column_gradient_args;

/* A row of x and the kernel rows [low, high) that it meets, all of them where whole is set. */
ALWAYS_INLINE void column_gradient_row(vfloat a[3][3], vfloat d[3][7], const vfloat *x, ptrdiff_t pixel, const int P,
                                       const int whole, ptrdiff_t low, ptrdiff_t high) {
    vfloat in[9];
    UNROLL for (int p = 0; p < P + 2; p++) {
        in[p] = x[p * pixel];
        __builtin_prefetch(x + p * pixel + COLUMN_AHEAD);
    }
    UNROLL for (int i = 0; i < 3; i++) {
        if (!whole && (i < low || i >= high)) continue;
        UNROLL for (int p = 0; p < P; p++)
            UNROLL for (int j = 0; j < 3; j++) a[i][j] += in[p + j] * d[i][p];
    }
}

ALWAYS_INLINE void column_gradient_tile(column_gradient_args *args, const int P) {
    vfloat a[3][3], d[3][7];
    UNROLL for (int t = 0; t < 9; t++) a[t / 3][t % 3] = args->sums[t];
    UNROLL for (int i = 0; i < 3; i++)
        UNROLL for (int p = 0; p < P; p++) d[i][p] = (vfloat){0};
    const ptrdiff_t pixel = args->x_pixel, dz_pixel = args->dz_pixel, rows = args->rows;
    for (ptrdiff_t t = 0; t < rows + 2; t++) {
        ptrdiff_t row = args->top + t;
        UNROLL for (int p = 0; p < P; p++) d[2][p] = d[1][p], d[1][p] = d[0][p];
        if (t < rows)
            UNROLL for (int p = 0; p < P; p++) {
                d[0][p] = args->dz[t * args->dz_row + p * dz_pixel];
                __builtin_prefetch(args->dz + t * args->dz_row + p * dz_pixel + COLUMN_AHEAD);
            }
        if (row < 0 || row >= args->x_rows) continue;
        const vfloat *x = args->x + row * args->x_row;
        if (t >= 2 && t < rows) column_gradient_row(a, d, x, pixel, P, 1, 0, 3);
        else column_gradient_row(a, d, x, pixel, P, 0, t < rows ? 0 : t - rows + 1, t < 2 ? t + 1 : 3);
    }
    UNROLL for (int t = 0; t < 9; t++) args->sums[t] = a[t / 3][t % 3];
}

#define X(P) \
    static void column_gradient_##P(column_gradient_args *args) { column_gradient_tile(args, P); }
COLUMN_GRADIENT_TILES(X)
#undef X

typedef void column_gradient_function(column_gradient_args *);
#define X(P) [P] = column_gradient_##P,
static column_gradient_function *const column_gradients[COLUMN_GRADIENT_PIXELS + 1] = {COLUMN_GRADIENT_TILES(X)};
#undef X

static int column_gradient_fits(const tc_weight_gradient *g) {
    return g->kernel_rows == 3 && g->kernel_columns == 3 && g->row_step == 1 && g->column_step == 1 &&
           g->row_dilation == 1 && g->column_dilation == 1 && g->dz_channels == 1;
}

/* As depthwise_weight_gradient. */
static void depthwise_columns_gradient(const tc_weight_gradient *g, ptrdiff_t first, ptrdiff_t last, const float *x,
                                       const float *dz, float *dw) {
    ptrdiff_t tiles = (g->dz_columns + COLUMN_GRADIENT_PIXELS - 1) / COLUMN_GRADIENT_PIXELS;
    column_gradient_args args = {.top = first - g->pad_top, .rows = last - first, .x_rows = g->x_rows,
                                 .x_row = g->x_row_stride, .x_pixel = g->x_column_stride, .dz_row = g->dz_row_stride,
                                 .dz_pixel = g->dz_column_stride};
    for (ptrdiff_t tile = 0, b = 0; tile < tiles; tile++) {
        ptrdiff_t pixels = (g->dz_columns - b + (tiles - tile) - 1) / (tiles - tile);
        for (ptrdiff_t f = 0; f < g->filters; f++) {
            args.x = (const vfloat *)x + g->x_start + b * args.x_pixel + f;
            args.dz = (const vfloat *)dz + b * args.dz_pixel + f;
            memset(args.sums, 0, sizeof args.sums);
            column_gradients[pixels](&args);
            depthwise_add_sums(args.sums, 9, dw + f, g->filters);
        }
        b += pixels;
    }
}

#endif
