/* Part of filters_gradient.h: the gradient of eight filters or fewer, in a vector of sixteen lanes: two taps a vector.
 *
 *     for each pixel:
 *         a[u][(f, k)] += x[pixel][2 u + k] * dz[pixel][f]      k: 0, 1
 *
 * Two neighbouring floats of x are broadcast at once beside dz with every value doubled. */
#ifndef TC_FILTERS_GRADIENT_GROUP_H
#define TC_FILTERS_GRADIENT_GROUP_H

#include "filters_group.h"

#ifdef HAVE_FILTER_GROUPS

/* Adds the vectors of eight filters that pairs[(f, k)] are to the taps dw and dw + dw_row. */
ALWAYS_INLINE void store_pair(vfloat pairs, float *dw, ptrdiff_t dw_row, int both) {
    const __m512i order = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
    __m512 turned = _mm512_permutexvar_ps(order, (__m512)pairs);
    _mm256_storeu_ps(dw, _mm256_add_ps(_mm256_loadu_ps(dw), _mm512_castps512_ps256(turned)));
    if (both)
        _mm256_storeu_ps(dw + dw_row, _mm256_add_ps(_mm256_loadu_ps(dw + dw_row), _mm512_extractf32x8_ps(turned, 1)));
}

/* R kernel rows of T taps. */
ALWAYS_INLINE void pair_tile(const tc_outer_sum *s, const float *x_first, const float *dz_first, float *dw,
                             const int R, const int T) {
    const int U = (T + 1) / 2;
    const __m512i doubled = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    vfloat a[16];
    UNROLL for (int u = 0; u < R * U; u++) a[u] = (vfloat){0};
    const ptrdiff_t x_pixel = s->x_pixel, dz_pixel = s->dz_pixel, below = s->x_kernel_row;
    for (ptrdiff_t image = 0; image < s->images; image++)
        for (ptrdiff_t row = 0; row < s->rows; row++) {
            const float *x = x_first + image * s->x_image + row * s->x_row;
            const float *dz = dz_first + image * s->dz_image + row * s->dz_row;
            for (ptrdiff_t column = s->columns; column > 0; column--, x += x_pixel, dz += dz_pixel) {
                vfloat d = (vfloat)_mm512_permutexvar_ps(doubled, _mm512_castps256_ps512(_mm256_loadu_ps(dz)));
                UNROLL for (int i = 0; i < R; i++)
                    UNROLL for (int u = 0; u < U; u++) {
                        const float *at = x + i * below + 2 * u;
                        a[i * U + u] += (2 * u + 1 < T ? group_load(at, 2) : v_set1(*at)) * d;
                    }
            }
        }
    UNROLL for (int i = 0; i < R; i++)
        UNROLL for (int u = 0; u < U; u++)
            store_pair(a[i * U + u], dw + i * s->dw_kernel_row + 2 * u * s->dw_row, s->dw_row, 2 * u + 1 < T);
}

#define PAIR_TILES(X) \
    X(1, 1) X(1, 2) X(1, 3) X(1, 4) X(1, 5) X(1, 6) X(1, 7) X(1, 8) X(1, 9) X(1, 10) X(1, 11) X(1, 12) \
    X(1, 13) X(1, 14) X(1, 15) X(1, 16) X(1, 17) X(1, 18) X(1, 19) X(1, 20) X(1, 21) X(1, 22) X(1, 23) X(1, 24) \
    X(2, 1) X(2, 2) X(2, 3) X(2, 4) X(2, 5) X(2, 6) X(2, 7) X(2, 8) \
    X(3, 1) X(3, 2) X(3, 3) X(3, 4) X(3, 5) X(3, 6) X(3, 7) X(3, 8) \
    X(4, 1) X(4, 2) X(4, 3) X(4, 4) X(4, 5) X(4, 6) \
    X(5, 1) X(5, 2) X(5, 3) X(5, 4) X(5, 5) X(5, 6)
#define X(R, T) \
    static void pair_tile_##R##x##T(const tc_outer_sum *s, const float *x, const float *dz, float *dw) { \
        pair_tile(s, x, dz, dw, R, T); \
    }
PAIR_TILES(X)
#undef X

#define X(R, T) [R][T] = pair_tile_##R##x##T,
static outer_tile_function *const pair_tiles[6][25] = {PAIR_TILES(X)};
#undef X

/* Eight filters, from f on, of all taps. */
static void outer_sum_pairs(const tc_outer_sum *s, ptrdiff_t f) {
    ptrdiff_t rows = s->taps <= 6 ? 5 : s->taps <= 8 ? 3 : 1, row_tiles = (s->kernel_rows + rows - 1) / rows;
    ptrdiff_t tiles = (s->taps + 23) / 24;
    for (ptrdiff_t tile = 0, i = 0; tile < row_tiles; tile++) {
        ptrdiff_t height = (s->kernel_rows - i + (row_tiles - tile) - 1) / (row_tiles - tile);
        for (ptrdiff_t t = 0; t < s->taps;) {
            /* Even but for the last, so that no pair is cut. */
            ptrdiff_t count = tiles == 1 ? s->taps : (s->taps / tiles + 1) / 2 * 2;
            if (t + count > s->taps) count = s->taps - t;
            pair_tiles[height][count](s, s->x + i * s->x_kernel_row + t, s->dz + f,
                                      s->dw + i * s->dw_kernel_row + t * s->dw_row + f);
            t += count;
        }
        i += height;
    }
}

#endif
#endif
