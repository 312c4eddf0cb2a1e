/* Depthwise convolution of NHWC arrays, down the image: channels in the lanes.
 *
 * The rows of depthwise_channels.h read x once for every kernel row, most of it from addresses that straddle
 * two cache lines, NumPy's arrays being aligned as they are.  Here a tile of P pixels walks down the image, as
 * in depthwise_columns.h, and a row of x meets all kernel rows at once:
 *
 *     for each row of x:
 *         for each pixel q of it, kernel row i, tap j:
 *             a[K - 1 - i][q - j] += x[q] * w[i][j]
 *         a[0] is complete, a row of y; the others move up
 *
 * and the gradient of the kernel keeps the last K rows of dz,
 *
 *     for each row of x:
 *         d[0] is a row of dz; the others move down
 *         for each pixel q of it, kernel row i, tap j:
 *             a[i][j] += x[q] * d[i][q - j]
 *
 * It takes 3x3 kernels with a stride of 1, and the four phases that backward-data has of one with a stride of 2:
 * 2x2, 2x1, 1x2 and 1x1. */
#ifndef TC_DEPTHWISE_CHANNELS_COLUMNS_H
#define TC_DEPTHWISE_CHANNELS_COLUMNS_H

#include "depthwise_channels.h"

#if LANES == 16 || defined(__aarch64__)
/* 32 registers: 21 sums, 9 weights, a pixel. */
#define WALK_TILES(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define WALK_PIXELS 7
#define WALK_GRADIENT 1 /* 9 sums, 21 of dz, a pixel; with fewer registers kernel row by kernel row is as fast */
#else
/* 16 registers: 9 sums, the others for weights. */
#define WALK_TILES(X) X(1) X(2) X(3)
#define WALK_PIXELS 3
#endif

/* The columns that the first and the last pixel lack: 0 or less for none. */
ALWAYS_INLINE ptrdiff_t channels_lack_left(const tc_correlation *g) { return -g->columns[0].position; }
ALWAYS_INLINE ptrdiff_t channels_lack_right(const tc_correlation *g) {
    return g->y_columns - 1 + g->columns[0].position + g->kernel_columns - g->x_columns;
}

/* ---- forward and backward-data ---------------------------------------------------- */

typedef struct channels_walk_args {
    ptrdiff_t top, rows, x_rows; /* x row of kernel row 0 for the first row of y; rows of y; of x */
    const float *x;              /* what tap 0 of the first pixel reads, in row 0 */
    ptrdiff_t x_row, pixel;
    vfloat weights[9];           /* [kernel row][column] */
    vfloat bias;
    int relu;
    float *y;
    ptrdiff_t y_row, y_pixel;
} channels_walk_args;

/* P pixels of all rows.  The first `left` and the last `right` of the pixels of x that they read lie outside it. */
ALWAYS_INLINE void channels_walk(const channels_walk_args *args, const int P, const int KH, const int KW,
                                 const int left, const int right) {
    const int width = P + KW - 1;
    const ptrdiff_t pixel = args->pixel, y_pixel = args->y_pixel;
    const vfloat bias = args->bias;
    vfloat a[3][WALK_PIXELS];
    UNROLL for (int k = 0; k < KH; k++)
        UNROLL for (int p = 0; p < P; p++) a[k][p] = bias;
    vfloat w[9];
    UNROLL for (int t = 0; t < KH * KW; t++) w[t] = args->weights[t];
    float *y = args->y;
    for (ptrdiff_t t = 0; t < args->rows + KH - 1; t++) {
        ptrdiff_t row = args->top + t;
        if (row >= 0 && row < args->x_rows) {
            const float *x = args->x + row * args->x_row;
            UNROLL for (int q = left; q < width - right; q++) {
                vfloat in = v_load(x + q * pixel);
                UNROLL for (int j = 0; j < KW; j++)
                    if (q >= j && q - j < P)
                        UNROLL for (int i = 0; i < KH; i++) a[KH - 1 - i][q - j] += in * w[i * KW + j];
            }
        }
        if (t >= KH - 1) {
            UNROLL for (int p = 0; p < P; p++)
                v_store(y + p * y_pixel, args->relu ? v_max((vfloat){0}, a[0][p]) : a[0][p]);
            y += args->y_row;
        }
        UNROLL for (int k = 0; k < KH - 1; k++)
            UNROLL for (int p = 0; p < P; p++) a[k][p] = a[k + 1][p];
        UNROLL for (int p = 0; p < P; p++) a[KH - 1][p] = bias;
    }
}

#define EDGES(P, KH, KW) \
    static void channels_walk_##P##_##KH##KW(const channels_walk_args *args) { channels_walk(args, P, KH, KW, 0, 0); } \
    static void channels_walk_##P##_##KH##KW##_left(const channels_walk_args *args) { \
        channels_walk(args, P, KH, KW, KW / 2, 0); \
    } \
    static void channels_walk_##P##_##KH##KW##_right(const channels_walk_args *args) { \
        channels_walk(args, P, KH, KW, 0, KW / 2); \
    } \
    static void channels_walk_##P##_##KH##KW##_both(const channels_walk_args *args) { \
        channels_walk(args, P, KH, KW, KW / 2, KW / 2); \
    }
#define X(P) EDGES(P, 3, 3) EDGES(P, 2, 2) EDGES(P, 1, 2) \
    static void channels_walk_##P##_21(const channels_walk_args *args) { channels_walk(args, P, 2, 1, 0, 0); } \
    static void channels_walk_##P##_11(const channels_walk_args *args) { channels_walk(args, P, 1, 1, 0, 0); }
WALK_TILES(X)
#undef X
#undef EDGES

typedef void channels_walk_function(const channels_walk_args *);
/* By the kernel, as channels_walk_kind says, then by the edges of the image: left 1, right 2. */
#define EDGES(name) {name, name##_left, name##_right, name##_both}
#define X(P) \
    [P] = {EDGES(channels_walk_##P##_33), EDGES(channels_walk_##P##_22), EDGES(channels_walk_##P##_12), \
           {channels_walk_##P##_21}, {channels_walk_##P##_11}},
static channels_walk_function *const channels_walks[WALK_PIXELS + 1][5][4] = {WALK_TILES(X)};
#undef X
#undef EDGES

/* Which of channels_walks a correlation takes; -1 where none.  A pixel at the edge lacks no column or half of them. */
static int channels_walk_kind(const tc_correlation *g) {
    static const signed char kinds[4][4] = {{-1, -1, -1, -1}, {-1, 4, 2, -1}, {-1, 3, 1, -1}, {-1, -1, -1, 0}};
    ptrdiff_t half = g->kernel_columns / 2;
    if (g->row_step != 1 || g->column_step != 1 || g->kernel_rows > 3 || g->kernel_columns > 3) return -1;
    if (!g->kernel_columns || (channels_lack_left(g) > 0 && channels_lack_left(g) != half) ||
        (channels_lack_right(g) > 0 && channels_lack_right(g) != half))
        return -1;
    for (ptrdiff_t i = 1; i < g->kernel_rows; i++)
        if (g->rows[i].position != g->rows[0].position + i) return -1;
    for (ptrdiff_t j = 1; j < g->kernel_columns; j++)
        if (g->columns[j].position != g->columns[0].position + j) return -1;
    return kinds[g->kernel_rows][g->kernel_columns];
}

/* Rows [first, last) of y, g->y_row_stride apart, y pointing at row 0. */
static void correlate_channel_rows(const tc_correlation *g, ptrdiff_t first, ptrdiff_t last, const float *x,
                                   const float *weights, const float *bias, int relu, float *y) {
    int kind = channels_walk_kind(g);
    if (kind < 0) {
        for (ptrdiff_t a = first; a < last; a++)
            correlate_channels(g, a, x, weights, bias, relu, y + a * g->y_row_stride);
        return;
    }
    ptrdiff_t tiles = (g->y_columns + WALK_PIXELS - 1) / WALK_PIXELS, channels = g->groups;
    int left = channels_lack_left(g) > 0, right = channels_lack_right(g) > 0;
    channels_walk_args args = {.top = first + g->rows[0].position, .rows = last - first, .x_rows = g->x_rows,
                               .x_row = g->x_row_stride, .pixel = g->x_column_stride, .relu = relu,
                               .y_row = g->y_row_stride, .y_pixel = g->y_column_stride};
    for (ptrdiff_t c = 0; c < channels; c += LANES) {
        ptrdiff_t at = c + LANES <= channels ? c : channels - LANES;
        for (ptrdiff_t i = 0; i < g->kernel_rows; i++)
            for (ptrdiff_t j = 0; j < g->kernel_columns; j++)
                args.weights[i * g->kernel_columns + j] =
                    v_load(weights + (g->rows[i].tap + g->columns[j].tap) * channels + at);
        args.bias = v_load(bias + at);
        for (ptrdiff_t tile = 0, b = 0; tile < tiles; tile++) {
            ptrdiff_t pixels = (g->y_columns - b + (tiles - tile) - 1) / (tiles - tile);
            args.x = x + (b + g->columns[0].position) * g->x_column_stride + at;
            args.y = y + first * g->y_row_stride + b * g->y_column_stride + at;
            channels_walks[pixels][kind][(tile == 0 && left) | (tile == tiles - 1 && right) << 1](&args);
            b += pixels;
        }
    }
}

#ifdef WALK_GRADIENT
/* ---- the gradient of a 3x3 kernel -------------------------------------------------- */

typedef struct walk_gradient_args {
    ptrdiff_t top, rows, x_rows; /* x row of kernel row 0 for the first row of dz; rows of dz; of x */
    const float *x, *dz;         /* what tap 0 of the first pixel reads, in row 0; that pixel */
    ptrdiff_t x_row, pixel, dz_row, dz_pixel;
    vfloat sums[9]; /* [kernel row][tap], accumulated */
} walk_gradient_args;

/* A row of x and the kernel rows [low, high) that it meets, all of them where whole is set. */
ALWAYS_INLINE void walk_gradient_row(vfloat a[9], vfloat d[3][WALK_PIXELS], const float *x, ptrdiff_t pixel,
                                     const int P, const int left, const int right, const int whole, ptrdiff_t low,
                                     ptrdiff_t high) {
    UNROLL for (int q = left; q < P + 2 - right; q++) {
        vfloat in = v_load(x + q * pixel);
        UNROLL for (int i = 0; i < 3; i++) {
            if (!whole && (i < low || i >= high)) continue;
            UNROLL for (int j = 0; j < 3; j++)
                if (q >= j && q - j < P) a[i * 3 + j] += in * d[i][q - j];
        }
    }
}

ALWAYS_INLINE void walk_gradient(walk_gradient_args *args, const int P, const int left, const int right) {
    vfloat a[9], d[3][WALK_PIXELS];
    UNROLL for (int t = 0; t < 9; t++) a[t] = args->sums[t];
    UNROLL for (int i = 0; i < 3; i++)
        UNROLL for (int p = 0; p < P; p++) d[i][p] = (vfloat){0};
    const ptrdiff_t pixel = args->pixel, dz_pixel = args->dz_pixel, rows = args->rows;
    for (ptrdiff_t t = 0; t < rows + 2; t++) {
        ptrdiff_t row = args->top + t;
        UNROLL for (int p = 0; p < P; p++) d[2][p] = d[1][p], d[1][p] = d[0][p];
        if (t < rows) UNROLL for (int p = 0; p < P; p++) d[0][p] = v_load(args->dz + t * args->dz_row + p * dz_pixel);
        if (row < 0 || row >= args->x_rows) continue;
        const float *x = args->x + row * args->x_row;
        if (t >= 2 && t < rows) walk_gradient_row(a, d, x, pixel, P, left, right, 1, 0, 3);
        else walk_gradient_row(a, d, x, pixel, P, left, right, 0, t < rows ? 0 : t - rows + 1, t < 2 ? t + 1 : 3);
    }
    UNROLL for (int t = 0; t < 9; t++) args->sums[t] = a[t];
}

#define X(P) \
    static void walk_gradient_##P(walk_gradient_args *args) { walk_gradient(args, P, 0, 0); } \
    static void walk_gradient_##P##_left(walk_gradient_args *args) { walk_gradient(args, P, 1, 0); } \
    static void walk_gradient_##P##_right(walk_gradient_args *args) { walk_gradient(args, P, 0, 1); } \
    static void walk_gradient_##P##_both(walk_gradient_args *args) { walk_gradient(args, P, 1, 1); }
WALK_TILES(X)
#undef X

typedef void walk_gradient_function(walk_gradient_args *);
#define X(P) [P] = {walk_gradient_##P, walk_gradient_##P##_left, walk_gradient_##P##_right, walk_gradient_##P##_both},
static walk_gradient_function *const walk_gradients[WALK_PIXELS + 1][4] = {WALK_TILES(X)};
#undef X

/* As channels_gradient, of a 3x3 kernel that channels_walk_kind knows: one image, channels [at, at + LANES);
 * sums [kernel row][tap], accumulated. */
static void walk_gradient_image(const tc_correlation *g, const float *x, const float *dz, vfloat *sums) {
    ptrdiff_t tiles = (g->y_columns + WALK_PIXELS - 1) / WALK_PIXELS;
    int left = channels_lack_left(g) > 0, right = channels_lack_right(g) > 0;
    walk_gradient_args args = {.top = g->rows[0].position, .rows = g->y_rows, .x_rows = g->x_rows,
                               .x_row = g->x_row_stride, .pixel = g->x_column_stride, .dz_row = g->y_row_stride,
                               .dz_pixel = g->y_column_stride};
    memcpy(args.sums, sums, sizeof args.sums);
    for (ptrdiff_t tile = 0, b = 0; tile < tiles; tile++) {
        ptrdiff_t pixels = (g->y_columns - b + (tiles - tile) - 1) / (tiles - tile);
        args.x = x + (b + g->columns[0].position) * g->x_column_stride;
        args.dz = dz + b * g->y_column_stride;
        walk_gradients[pixels][(tile == 0 && left) | (tile == tiles - 1 && right) << 1](&args);
        b += pixels;
    }
    memcpy(sums, args.sums, sizeof args.sums);
}
#endif

#endif
