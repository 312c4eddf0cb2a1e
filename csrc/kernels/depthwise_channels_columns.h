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
 * It takes 3x3 kernels with a stride of 1, and the four phases that backward-data has of one with a stride of 2:
 * 2x2, 2x1, 1x2 and 1x1. */
#ifndef TC_DEPTHWISE_CHANNELS_COLUMNS_H
#define TC_DEPTHWISE_CHANNELS_COLUMNS_H

#include "depthwise_channels.h"

#if LANES == 16 || defined(__aarch64__)
/* 32 registers: 21 sums, 9 weights, a pixel. */
#define WALK_TILES(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define WALK_PIXELS 7
#else
/* 16 registers: 9 sums, the others for weights. */
#define WALK_TILES(X) X(1) X(2) X(3)
#define WALK_PIXELS 3
#endif

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

/* Which of channels_walks a correlation takes; -1 where none. */
static int channels_walk_kind(const tc_correlation *g) {
    static const signed char kinds[4][4] = {{-1, -1, -1, -1}, {-1, 4, 2, -1}, {-1, 3, 1, -1}, {-1, -1, -1, 0}};
    if (g->row_step != 1 || g->column_step != 1 || g->kernel_rows > 3 || g->kernel_columns > 3) return -1;
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
    /* The columns that the first and the last pixel lack: none, or half of the kernel's for a tile. */
    ptrdiff_t half = g->kernel_columns / 2, first_column = kind < 0 ? 0 : g->columns[0].position;
    ptrdiff_t left = -first_column, right = g->y_columns - 1 + first_column + g->kernel_columns - g->x_columns;
    if (kind < 0 || (left > 0 && left != half) || (right > 0 && right != half)) {
        for (ptrdiff_t a = first; a < last; a++)
            correlate_channels(g, a, x, weights, bias, relu, y + a * g->y_row_stride);
        return;
    }
    ptrdiff_t tiles = (g->y_columns + WALK_PIXELS - 1) / WALK_PIXELS, channels = g->groups;
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
            args.x = x + (b + first_column) * g->x_column_stride + at;
            args.y = y + first * g->y_row_stride + b * g->y_column_stride + at;
            channels_walks[pixels][kind][(tile == 0 && left > 0) | (tile == tiles - 1 && right > 0) << 1](&args);
            b += pixels;
        }
    }
}

#endif
