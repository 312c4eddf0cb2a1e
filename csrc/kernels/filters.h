/* Few images: the filters lie in the lanes, and a pixel is a broadcast scalar.
 *
 * The mirror image of conv2d.h, for batches too small to fill the lanes with images:
 *
 *     for each run of taps:
 *         for t in run:
 *             a[p][v] += x[p][t] * w[t][v]    x: a scalar, w: a vector of filters
 *
 * Shapes: x [h][w][c], with c padded to whole vectors of NARROW floats; packed
 * weights [tile of filters][tap][filter], the padded filters zero. */
#ifndef TC_FILTERS_H
#define TC_FILTERS_H

#include "conv2d.h"

/* Half a register where a whole one has 16 lanes: eight filters would waste half. */
#define NARROW (LANES == 16 ? 8 : LANES)

typedef struct filters_tile_args {
    const tc_run *runs;
    ptrdiff_t run_count;
    const float *x; /* runs[].x is relative to this */
    ptrdiff_t pixel;
    const float *weights, *bias;
    int relu;
    float *y;
    ptrdiff_t y_pixel;
} filters_tile_args;

/* Pixel p is base[p] + steps[p] pixels away: four pointers reach twelve pixels through
 * the processor's own address arithmetic, whose multiples are 1, 2, 4 and 8. */
static const signed char pixel_base[12] = {0, 0, 0, 3, 0, 3, 2, 3, 0, 1, 2, 3};
static const signed char pixel_steps[12] = {0, 1, 2, 0, 4, 2, 4, 4, 8, 8, 8, 8};

typedef void filters_tile_function(const filters_tile_args *);

/* Of a tile of filters_pool.h.  Input rows count from that of the upper row's first tap. */
typedef struct filters_pool_args {
    const tc_run *runs; /* of the first kernel row */
    ptrdiff_t run_count, kernel_rows;
    ptrdiff_t first_row, last_row; /* those in the image */
    ptrdiff_t row_taps;
    const float *x; /* runs[].x is relative to this */
    ptrdiff_t x_row_stride, pixel;
    const float *weights, *bias;
    float *y;
    ptrdiff_t y_pixel;
} filters_pool_args;

typedef void filters_pool_function(const filters_pool_args *);

#if LANES == 16 || defined(__aarch64__)
/* 32 registers: 12 x 2 accumulators, 2 weights, 1 pixel. */
#define FILTER_TILES(X) \
    X(1, 1) X(2, 1) X(3, 1) X(4, 1) X(5, 1) X(6, 1) X(7, 1) X(8, 1) X(9, 1) X(10, 1) X(11, 1) X(12, 1) \
    X(1, 2) X(2, 2) X(3, 2) X(4, 2) X(5, 2) X(6, 2) X(7, 2) X(8, 2) X(9, 2) X(10, 2) X(11, 2) X(12, 2)
static const signed char filter_tile_pixels[3] = {0, 12, 12};
/* 2 x 12 x 1 or 2 x 6 x 2 accumulators, 2 or 4 weights, 1 pixel. */
#define FILTER_POOL_TILES(X) X(1, 1) X(2, 1) X(3, 1) X(4, 1) X(5, 1) X(6, 1) X(1, 2) X(2, 2) X(3, 2)
#define FILTER_POOL_COLUMNS 6
#else
/* 16 registers: 12 x 1 accumulators, or 6 x 2. */
#define FILTER_TILES(X) \
    X(1, 1) X(2, 1) X(3, 1) X(4, 1) X(5, 1) X(6, 1) X(7, 1) X(8, 1) X(9, 1) X(10, 1) X(11, 1) X(12, 1) \
    X(1, 2) X(2, 2) X(3, 2) X(4, 2) X(5, 2) X(6, 2)
static const signed char filter_tile_pixels[3] = {0, 12, 6};
#endif

#if LANES == 16
#define WIDTH 16
#include "filters_tile.h"
#undef WIDTH
#define WIDTH 8
#include "filters_tile.h"
#undef WIDTH
#define filters_tiles_narrow filters_tiles_8
#define filters_pools_narrow filters_pools_8
#define narrow_max filters_max_8
#elif LANES == 8
#define WIDTH 8
#include "filters_tile.h"
#undef WIDTH
#define filters_tiles_narrow filters_tiles_8
#define filters_pools_narrow filters_pools_8
#define narrow_max filters_max_8
#else
#define WIDTH 4
#include "filters_tile.h"
#undef WIDTH
#define filters_tiles_narrow filters_tiles_4
#define filters_pools_narrow filters_pools_4
#define narrow_max filters_max_4
#endif

/* The next tile of filters when `left` (a multiple of NARROW) remain: its filters, its
 * vectors, and the table of its functions. */
ALWAYS_INLINE ptrdiff_t filters_next(ptrdiff_t left, int *vectors, filters_tile_function *const **tiles) {
#if LANES == 16
    if (left >= 16) {
        *vectors = left >= 32 ? 2 : 1;
        *tiles = filters_tiles_16[*vectors];
        return *vectors * 16;
    }
#endif
    *vectors = left >= 2 * NARROW ? 2 : 1;
    *tiles = filters_tiles_narrow[*vectors];
    return *vectors * NARROW;
}

#define PACKED_TAPS 64

static void pack_filters(const float *kernel, ptrdiff_t stride, const float *bias, ptrdiff_t taps, ptrdiff_t filters,
                         ptrdiff_t padded, int copies, float *packed, float *packed_bias) {
    for (ptrdiff_t f = 0; f < padded * copies; f++)
        packed_bias[f] = bias && f / copies < filters ? bias[f / copies] : 0.0f;
    /* Some taps at a time, so that large kernels are read in their order. */
    for (ptrdiff_t first = 0; first < taps; first += PACKED_TAPS)
        for (ptrdiff_t f = 0; f < padded;) {
            int vectors;
            filters_tile_function *const *tiles;
            ptrdiff_t width = filters_next(padded - f, &vectors, &tiles);
            ptrdiff_t last = first + PACKED_TAPS < taps ? first + PACKED_TAPS : taps;
            float *to = packed + (f * taps + first * width) * copies;
            const float *from = kernel + first * stride + f;
            for (ptrdiff_t t = first; t < last; t++, from += stride, to += width * copies) {
                if (copies == 1 && f + width <= filters)
                    memcpy(to, from, sizeof *to * (size_t)width);
                else
                    for (ptrdiff_t k = 0; k < width * copies; k++)
                        to[k] = f + k / copies < filters ? from[k / copies] : 0.0f;
            }
            f += width;
        }
}

static void correlate_filters(const tc_correlation *g, ptrdiff_t a, const float *x, const float *packed,
                              const float *packed_bias, int relu, float *y) {
    /* The kernel rows that lie in the image; the columns outside are zeros in memory. */
    ptrdiff_t row = a * g->row_step, i0 = 0, i1 = g->kernel_rows;
    while (i0 < i1 && row + g->rows[i0].position < 0) i0++;
    while (i1 > i0 && row + g->rows[i1 - 1].position >= g->x_rows) i1--;
    const tc_tile *whole = g->tiles;
    filters_tile_args args = {.runs = whole->runs + i0 * whole->runs_per_row,
                              .run_count = (i1 - i0) * whole->runs_per_row,
                              .pixel = g->column_step * g->x_column_stride, .relu = relu,
                              .y_pixel = g->y_column_stride};
    const float *x_row = x + g->x_start + row * g->x_row_stride;
    for (ptrdiff_t f = 0; f < g->y_channels;) {
        int vectors;
        filters_tile_function *const *functions;
        ptrdiff_t width = filters_next(g->y_channels - f, &vectors, &functions);
        ptrdiff_t widest = filter_tile_pixels[vectors], tiles = (g->y_columns + widest - 1) / widest;
        args.weights = packed + f * g->taps;
        args.bias = packed_bias + f;
        for (ptrdiff_t tile = 0, b = 0; tile < tiles; tile++) {
            ptrdiff_t pixels = (g->y_columns - b + (tiles - tile) - 1) / (tiles - tile);
            args.x = x_row + b * args.pixel;
            args.y = y + b * g->y_column_stride + f;
            functions[pixels](&args);
            b += pixels;
        }
        f += width;
    }
}

typedef float vnarrow __attribute__((vector_size(4 * NARROW), aligned(4)));

ALWAYS_INLINE vnarrow narrow_load(const float *p) { return *(const vnarrow *)p; }

/* As the pools of pooling.h, over channels; pool->channels counts the padded ones. */
static void max_pool_filters(const tc_pool *pool, const float *const *x, float *y) {
    const ptrdiff_t channels = pool->channels;
    if (pool->window_height == 2 && pool->window_width == 2 && pool->stride_width == 2 && pool->pad_left == 0 &&
        pool->y_columns * 2 <= pool->x_columns && x[0] && x[1]) {
        const float *top = x[0], *bottom = x[1];
        for (ptrdiff_t b = 0; b < pool->y_columns; b++, top += 2 * channels, bottom += 2 * channels, y += channels)
            for (ptrdiff_t c = 0; c < channels; c += NARROW)
                *(vnarrow *)(y + c) =
                    narrow_max(narrow_max(narrow_load(top + c), narrow_load(top + channels + c)),
                               narrow_max(narrow_load(bottom + c), narrow_load(bottom + channels + c)));
        return;
    }
    for (ptrdiff_t b = 0; b < pool->y_columns; b++) {
        ptrdiff_t left = b * pool->stride_width - pool->pad_left;
        ptrdiff_t j0 = left < 0 ? -left : 0, j1 = pool->window_width;
        if (left + j1 > pool->x_columns) j1 = pool->x_columns - left;
        for (ptrdiff_t c = 0; c < pool->channels; c += NARROW) {
            vnarrow m = -__builtin_inff() - (vnarrow){0};
            for (ptrdiff_t i = 0; i < pool->window_height; i++)
                for (ptrdiff_t j = j0; x[i] && j < j1; j++)
                    m = narrow_max(m, narrow_load(x[i] + (left + j) * pool->channels + c));
            *(vnarrow *)(y + b * pool->channels + c) = m;
        }
    }
}

static void average_pool_filters(const tc_pool *pool, const float *const *x, float *y) {
    ptrdiff_t rows = 0;
    for (ptrdiff_t i = 0; i < pool->window_height; i++) rows += x[i] != NULL;
    for (ptrdiff_t b = 0; b < pool->y_columns; b++) {
        ptrdiff_t left = b * pool->stride_width - pool->pad_left;
        ptrdiff_t j0 = left < 0 ? -left : 0, j1 = pool->window_width;
        if (left + j1 > pool->x_columns) j1 = pool->x_columns - left;
        for (ptrdiff_t c = 0; c < pool->channels; c += NARROW) {
            vnarrow sum = {0};
            for (ptrdiff_t i = 0; i < pool->window_height; i++)
                for (ptrdiff_t j = j0; x[i] && j < j1; j++)
                    sum += *(const vnarrow *)(x[i] + (left + j) * pool->channels + c);
            *(vnarrow *)(y + b * pool->channels + c) = sum / (float)(rows * (j1 - j0));
        }
    }
}

#endif
