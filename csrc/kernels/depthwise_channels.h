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

/* P pixels, S apart.  KW: the kernel's columns, as neighbours; 0 for columns that lie anywhere.
 * The first `left` and the last `right` of the pixels of x that they read lie outside the image. */
ALWAYS_INLINE void channels_tile(const channels_args *args, const int P, const int KW, const int S, const int left,
                                 const int right) {
    vfloat a[8];
    UNROLL for (int p = 0; p < P; p++) a[p] = args->bias;
    const int width = (P - 1) * S + KW;
    const ptrdiff_t pixel = args->pixel, x_column = args->x_column, tap = args->tap;
    for (ptrdiff_t i = 0; i < args->row_count; i++) {
        const float *row = args->x + args->rows[i].position * args->x_row;
        const float *weights = args->weights + args->rows[i].tap * tap;
        if (KW) {
            row += args->columns->position * x_column;
            weights += args->columns->tap * tap;
            vfloat in[17];
            UNROLL for (int p = 0; p < width; p++)
                if (p >= left && p < width - right) in[p] = v_load(row + p * x_column);
            UNROLL for (int j = 0; j < KW; j++) {
                vfloat weight = v_load(weights + j * tap);
                UNROLL for (int p = 0; p < P; p++)
                    if (p * S + j >= left && p * S + j < width - right) a[p] += in[p * S + j] * weight;
            }
        } else {
            for (ptrdiff_t j = 0; j < args->column_count; j++) {
                const float *x = row + args->columns[j].position * x_column;
                vfloat weight = v_load(weights + args->columns[j].tap * tap);
                UNROLL for (int p = 0; p < P; p++) a[p] += v_load(x + p * pixel) * weight;
            }
        }
    }
    if (args->relu) UNROLL for (int p = 0; p < P; p++) a[p] = v_max((vfloat){0}, a[p]);
    UNROLL for (int p = 0; p < P; p++) v_store(args->y + p * args->y_pixel, a[p]);
}

#define EDGES(P, KW, S, name) \
    static void channels_tile_##P##name(const channels_args *args) { channels_tile(args, P, KW, S, 0, 0); } \
    static void channels_tile_##P##name##_left(const channels_args *args) { \
        channels_tile(args, P, KW, S, KW / 2, 0); \
    } \
    static void channels_tile_##P##name##_right(const channels_args *args) { \
        channels_tile(args, P, KW, S, 0, KW / 2); \
    } \
    static void channels_tile_##P##name##_both(const channels_args *args) { \
        channels_tile(args, P, KW, S, KW / 2, KW / 2); \
    }
#define X(P) \
    static void channels_tile_##P##_any(const channels_args *args) { channels_tile(args, P, 0, 1, 0, 0); } \
    EDGES(P, 3, 1, _3) EDGES(P, 3, 2, _3_apart) EDGES(P, 5, 1, _5)
DEPTHWISE_TILES(X)
#undef X
#undef EDGES

typedef void channels_tile_function(const channels_args *);
/* By the kernel's columns (anywhere, 3, 5, 3 with a stride of 2), then by the edges of the image:
 * left 1, right 2. */
#define EDGES(name) {name, name##_left, name##_right, name##_both}
#define X(P) \
    [P] = {{channels_tile_##P##_any}, EDGES(channels_tile_##P##_3), EDGES(channels_tile_##P##_5), \
           EDGES(channels_tile_##P##_3_apart)},
static channels_tile_function *const channels_tiles[9][4][4] = {DEPTHWISE_TILES(X)};
#undef X
#undef EDGES

#if LANES == 16 || defined(__aarch64__)
#define CHANNELS_PIXELS 8
#else
#define CHANNELS_PIXELS 4
#endif

/* Which of channels_tiles a pixel with all of the kernel's columns takes. */
static int channels_width(const tc_correlation *g) {
    ptrdiff_t taps = g->kernel_columns;
    if (!(g->column_step == 1 && (taps == 3 || taps == 5)) && !(g->column_step == 2 && taps == 3)) return 0;
    for (ptrdiff_t j = 1; j < taps; j++)
        if (g->columns[j].position != g->columns[0].position + j || g->columns[j].tap != g->columns[0].tap + j)
            return 0;
    return g->column_step == 2 ? 3 : taps == 3 ? 1 : 2;
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
    /* The kernel's columns that the first and the last pixel lack: none or half of them for a tile. */
    ptrdiff_t half = g->kernel_columns / 2, left = width ? -g->columns[0].position : 0;
    ptrdiff_t right = (g->y_columns - 1) * g->column_step - left + g->kernel_columns - g->x_columns;
    int whole = width && (left == 0 || left == half) && (right == 0 || right == half);
    int edges = (left != 0) | (right != 0) << 1;
    channels_args args = {.rows = g->rows + i0, .row_count = i1 - i0, .x_row = g->x_row_stride,
                          .x_column = g->x_column_stride, .pixel = g->column_step * g->x_column_stride,
                          .tap = channels, .relu = relu, .y_pixel = g->y_column_stride};
    for (ptrdiff_t c = 0; c < channels; c += LANES) {
        ptrdiff_t at = c + LANES <= channels ? c : channels - LANES;
        const float *x_row = x + row * g->x_row_stride + at;
        args.weights = weights + at;
        args.bias = v_load(bias + at);
        if (whole) channels_stretch(g, &args, 0, g->y_columns, 0, g->kernel_columns, width, edges, x_row, y + at);
        else channels_row(g, &args, width, x_row, y + at);
    }
}

#endif
