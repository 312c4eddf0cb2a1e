/* Sums of outer products, filters in the lanes: the gradient of a convolution's kernel
 * straight from NHWC arrays.
 *
 *     for each pixel:
 *         a[t][v] += x[pixel][t] * dz[pixel][v]      x: a scalar, dz: a vector of filters
 *
 * with T taps, contiguous in x, by V vectors of filters in registers: the tiles are those
 * of filters.h, with taps where that has pixels.
 *
 * The other half is the transposed kernel that backward-data takes. */
#ifndef TC_FILTERS_GRADIENT_H
#define TC_FILTERS_GRADIENT_H

#include "filters.h"
#include "lanes.h"

/* Kernel rows of few taps share a tile, for enough sums to hide a multiply-add's latency. */
#if LANES == 16 || defined(__aarch64__)
/* 32 registers: 24 sums, a vector of dz. */
#define ROW_TILES(X) \
    X(1, 1) X(1, 2) X(1, 3) X(1, 4) X(1, 5) X(1, 6) X(1, 7) X(1, 8) \
    X(2, 1) X(2, 2) X(2, 3) X(2, 4) X(2, 5) X(2, 6) X(2, 7) X(2, 8) \
    X(3, 1) X(3, 2) X(3, 3) X(3, 4) X(3, 5) X(3, 6) X(3, 7) X(3, 8)
#define ROW_TAPS 8
#define ROW_TILE_ROWS(taps) 3
#else
/* 16 registers: 12 sums. */
#define ROW_TILES(X) \
    X(1, 1) X(1, 2) X(1, 3) X(1, 4) X(1, 5) X(1, 6) \
    X(2, 1) X(2, 2) X(2, 3) X(2, 4) X(2, 5) X(2, 6) \
    X(3, 1) X(3, 2) X(3, 3) X(3, 4)
#define ROW_TAPS 6
#define ROW_TILE_ROWS(taps) ((taps) > 4 ? 2 : 3)
#endif

typedef void outer_tile_function(const tc_outer_sum *, const float *x, const float *dz, float *dw);

#include "filters_gradient_group.h"

#if LANES == 16
#define WIDTH 16
#include "filters_gradient_tile.h"
#undef WIDTH
#define WIDTH 8
#include "filters_gradient_tile.h"
#undef WIDTH
#define outer_tiles_narrow outer_tiles_8
#define outer_rows_narrow outer_rows_8
#elif LANES == 8
#define WIDTH 8
#include "filters_gradient_tile.h"
#undef WIDTH
#define outer_tiles_narrow outer_tiles_8
#define outer_rows_narrow outer_rows_8
#else
#define WIDTH 4
#include "filters_gradient_tile.h"
#undef WIDTH
#define outer_tiles_narrow outer_tiles_4
#define outer_rows_narrow outer_rows_4
#endif

/* Few taps, of all kernel rows, by one vector of filters. */
static ptrdiff_t outer_sum_rows(const tc_outer_sum *s, ptrdiff_t f) {
#if LANES == 16
    int wide = s->filters - f >= 16;
    outer_tile_function *const(*functions)[ROW_TAPS + 1] = wide ? outer_rows_16 : outer_rows_narrow;
#else
    const int wide = 0;
    outer_tile_function *const(*functions)[ROW_TAPS + 1] = outer_rows_narrow;
#endif
    ptrdiff_t widest = ROW_TILE_ROWS(s->taps), tiles = (s->kernel_rows + widest - 1) / widest;
    for (ptrdiff_t tile = 0, i = 0; tile < tiles; tile++) {
        ptrdiff_t count = (s->kernel_rows - i + (tiles - tile) - 1) / (tiles - tile);
        functions[count][s->taps](s, s->x + i * s->x_kernel_row, s->dz + f, s->dw + i * s->dw_kernel_row + f);
        i += count;
    }
    return wide ? 16 : NARROW;
}

/* The taps of every kernel row by one or two vectors of filters. */
static ptrdiff_t outer_sum_taps(const tc_outer_sum *s, ptrdiff_t f) {
    ptrdiff_t left = s->filters - f;
    int wide = LANES == 16 && left >= 16;
    ptrdiff_t width = wide ? 16 : NARROW;
    int vectors = left >= 2 * width ? 2 : 1;
#if LANES == 16
    outer_tile_function *const *functions = wide ? outer_tiles_16[vectors] : outer_tiles_narrow[vectors];
#else
    outer_tile_function *const *functions = outer_tiles_narrow[vectors];
#endif
    ptrdiff_t widest = filter_tile_pixels[vectors], tiles = (s->taps + widest - 1) / widest;
    for (ptrdiff_t i = 0; i < s->kernel_rows; i++)
        for (ptrdiff_t tile = 0, t = 0; tile < tiles; tile++) {
            ptrdiff_t count = (s->taps - t + (tiles - tile) - 1) / (tiles - tile);
            functions[count](s, s->x + i * s->x_kernel_row + t, s->dz + f,
                             s->dw + i * s->dw_kernel_row + t * s->dw_row + f);
            t += count;
        }
    return vectors * width;
}

static void outer_sum(const tc_outer_sum *s) {
    for (ptrdiff_t f = 0; f < s->filters;) {
#ifdef HAVE_FILTER_GROUPS
        if (s->filters - f == 8) {
            outer_sum_pairs(s, f);
            return;
        }
#endif
        f += s->kernel_rows > 1 && s->taps <= ROW_TAPS ? outer_sum_rows(s, f) : outer_sum_taps(s, f);
    }
}

/* kernel (KH, KW, C, F) -> turned (KH, KW, F, C), the columns in reverse order; overwritten. */
static void turn_kernel(const float *kernel, ptrdiff_t kernel_rows, ptrdiff_t kernel_columns, ptrdiff_t channels,
                        ptrdiff_t filters, float *turned) {
    ptrdiff_t plane = channels * filters;
    for (ptrdiff_t i = 0; i < kernel_rows; i++)
        for (ptrdiff_t j = 0; j < kernel_columns; j++) {
            const float *from = kernel + (i * kernel_columns + kernel_columns - 1 - j) * plane;
            float *to = turned + (i * kernel_columns + j) * plane;
            ptrdiff_t c = 0;
            for (; c + LANES <= channels; c += LANES) {
                ptrdiff_t f = 0;
                for (; f + LANES <= filters; f += LANES) {
                    vfloat r[LANES];
                    for (int l = 0; l < LANES; l++) r[l] = v_load(from + (c + l) * filters + f);
                    transpose(r);
                    for (int l = 0; l < LANES; l++) v_store(to + (f + l) * channels + c, r[l]);
                }
                for (; f < filters; f++)
                    for (int l = 0; l < LANES; l++) to[f * channels + c + l] = from[(c + l) * filters + f];
            }
            for (; c < channels; c++)
                for (ptrdiff_t f = 0; f < filters; f++) to[f * channels + c] = from[c * filters + f];
        }
}

#endif
