/* Few images: a convolution, relu and a pool of 2x2, which never leave the registers.
 *
 * A tile is two rows of the convolution, so that its results are whole windows of the
 * pool and each pixel that is read serves both rows: kernel row i of the upper one is
 * kernel row i - 1 of the lower one.  Sums run in the order of correlate_filters.
 *
 * With pixels of one channel and eight filters, half a register of 16 lanes, the lanes
 * hold two neighbouring pixels: [filter][2], and each weight twice. */
#ifndef TC_FILTERS_POOL_H
#define TC_FILTERS_POOL_H

#include "filters.h"

#ifdef FILTER_POOL_TILES

/* Row a of the pool, `columns` results of y_channels each, from rows 2a and 2a + 1 of the
 * convolution (both in range; row_step and row dilation 1): y overwritten. */
static void correlate_pool_filters(const tc_correlation *g, ptrdiff_t a, const float *x, const float *packed,
                                   const float *packed_bias, ptrdiff_t columns, int paired, float *y) {
    /* The input rows that lie in the image, counted from that of the upper row's first tap. */
    ptrdiff_t top = 2 * a + g->rows[0].position, first = top < 0 ? -top : 0, last = g->kernel_rows + 1;
    if (last > g->x_rows - top) last = g->x_rows - top;
    const tc_tile *whole = g->tiles;
    filters_pool_args args = {.runs = whole->runs, .run_count = whole->runs_per_row, .kernel_rows = g->kernel_rows,
                              .first_row = first, .last_row = last, .row_taps = g->taps / g->kernel_rows,
                              .x_row_stride = g->x_row_stride, .pixel = g->column_step * g->x_column_stride,
                              .y_pixel = g->y_column_stride};
    const float *x_row = x + g->x_start + 2 * a * g->x_row_stride;
    for (ptrdiff_t f = 0; f < g->y_channels;) {
        int vectors;
        filters_tile_function *const *single;
        ptrdiff_t width = filters_next(g->y_channels - f, &vectors, &single), widest = FILTER_POOL_COLUMNS / vectors;
        filters_pool_function *const *functions = filters_pools_narrow[vectors];
#if LANES == 16
        if (width >= 16) functions = filters_pools_16[vectors];
        if (paired) functions = filters_pairs, widest = FILTER_POOL_PAIRS;
#endif
        (void)paired;
        args.weights = packed + f * g->taps;
        args.bias = packed_bias + f;
        ptrdiff_t tiles = (columns + widest - 1) / widest;
        for (ptrdiff_t tile = 0, b = 0; tile < tiles; tile++) {
            ptrdiff_t n = (columns - b + (tiles - tile) - 1) / (tiles - tile);
            args.x = x_row + 2 * b * args.pixel;
            args.y = y + b * g->y_column_stride + f;
            functions[n](&args);
            b += n;
        }
        f += width;
    }
}

#endif

#endif
