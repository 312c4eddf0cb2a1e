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

typedef void outer_tile_function(const tc_outer_sum *, const float *x, const float *dz, float *dw);

#if LANES == 16
#define WIDTH 16
#include "filters_gradient_tile.h"
#undef WIDTH
#define WIDTH 8
#include "filters_gradient_tile.h"
#undef WIDTH
#define outer_tiles_narrow outer_tiles_8
#elif LANES == 8
#define WIDTH 8
#include "filters_gradient_tile.h"
#undef WIDTH
#define outer_tiles_narrow outer_tiles_8
#else
#define WIDTH 4
#include "filters_gradient_tile.h"
#undef WIDTH
#define outer_tiles_narrow outer_tiles_4
#endif

static void outer_sum(const tc_outer_sum *s) {
    for (ptrdiff_t f = 0; f < s->filters;) {
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
        for (ptrdiff_t tile = 0, t = 0; tile < tiles; tile++) {
            ptrdiff_t count = (s->taps - t + (tiles - tile) - 1) / (tiles - tile);
            functions[count](s, s->x + t, s->dz + f, s->dw + t * s->dw_row + f);
            t += count;
        }
        f += vectors * width;
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
