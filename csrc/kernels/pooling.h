/* Max- and average-pooling with images in the lanes, one output row at a time.
 *
 * A pool row takes the rows of its window as pointers (NULL where the padding is),
 * so that a convolution can hand over rows that never leave the cache.  The position
 * of each maximum is kept, a byte a lane where the window allows: backward then needs
 * neither the input nor a comparison with it. */
#ifndef TC_POOLING_H
#define TC_POOLING_H

#include "../kernels.h"
#include "vector.h"

/* Positions in the window, one a lane, as bytes or as 32-bit integers. */
ALWAYS_INLINE void store_index(void *index, int bytes, ptrdiff_t i, vint value) {
    if (bytes == 4) {
        ((vint *)index)[i] = value;
        return;
    }
    uint8_t *to = (uint8_t *)index + i * LANES;
#if LANES == 16 && defined(__AVX512F__)
    _mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8((__m512i)value));
#elif LANES == 8 && defined(__AVX2__)
    const __m256i low_bytes = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4, 8,
                                               12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    __m256i packed = _mm256_shuffle_epi8((__m256i)value, low_bytes);
    __m128i both = _mm_unpacklo_epi32(_mm256_castsi256_si128(packed), _mm256_extracti128_si256(packed, 1));
    _mm_storel_epi64((__m128i *)to, both);
#else
    for (int l = 0; l < LANES; l++) to[l] = (uint8_t)value[l];
#endif
}

ALWAYS_INLINE vint load_index(const void *index, int bytes, ptrdiff_t i) {
    if (bytes == 4) return ((const vint *)index)[i];
    const uint8_t *from = (const uint8_t *)index + i * LANES;
#if LANES == 16 && defined(__AVX512F__)
    return (vint)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)from));
#elif LANES == 8 && defined(__AVX2__)
    return (vint)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)from));
#else
    vint value;
    for (int l = 0; l < LANES; l++) value[l] = from[l];
    return value;
#endif
}

/* v beats m: greater, or the first that is not a number. */
ALWAYS_INLINE vmask beats(vfloat v, vfloat m) { return m_and(v_not_le(v, m), v_eq(m, m)); }

ALWAYS_INLINE void max_pool_row_of(const tc_pool *pool, const float *const *x, float *y, void *index,
                                   const int index_bytes) {
    const ptrdiff_t channels = pool->channels;
    vfloat *out = (vfloat *)y;
    for (ptrdiff_t b = 0; b < pool->y_columns; b++) {
        ptrdiff_t left = b * pool->stride_width - pool->pad_left;
        ptrdiff_t j0 = left < 0 ? -left : 0, j1 = pool->window_width;
        if (left + j1 > pool->x_columns) j1 = pool->x_columns - left;
        ptrdiff_t i0 = 0;
        while (!x[i0]) i0++;
        for (ptrdiff_t c = 0; c < channels; c++) {
            vfloat m = v_set1(-__builtin_inff()); /* the first pixel, should all be no greater */
            vint at = vi_set1((int32_t)(i0 * pool->window_width + j0));
            for (ptrdiff_t i = 0; i < pool->window_height; i++) {
                if (!x[i]) continue;
                const vfloat *row = (const vfloat *)x[i] + left * channels + c;
                for (ptrdiff_t j = j0; j < j1; j++) {
                    vfloat v = row[j * channels];
                    vmask better = beats(v, m);
                    m = v_select(better, v, m);
                    if (index_bytes) at = vi_select(better, vi_set1((int32_t)(i * pool->window_width + j)), at);
                }
            }
            out[b * channels + c] = m;
            if (index_bytes) store_index(index, index_bytes, b * channels + c, at);
        }
    }
}

/* The window of nearly every network: 2 x 2, stride 2, wholly inside the image. */
ALWAYS_INLINE void max_pool_row_2x2(const tc_pool *pool, const float *const *x, float *y, void *index,
                                    const int index_bytes) {
    const ptrdiff_t channels = pool->channels;
    const vfloat *top = (const vfloat *)x[0], *bottom = (const vfloat *)x[1];
    vfloat *out = (vfloat *)y;
    for (ptrdiff_t b = 0; b < pool->y_columns; b++, top += channels, bottom += channels)
        for (ptrdiff_t c = 0; c < channels; c++, top++, bottom++, out++) {
            vfloat m = top[0], v[3] = {top[channels], bottom[0], bottom[channels]};
            vint at = vi_set1(0);
            for (int k = 0; k < 3; k++) {
                vmask better = beats(v[k], m);
                m = v_select(better, v[k], m);
                if (index_bytes) at = vi_select(better, vi_set1(k + 1), at);
            }
            *out = m;
            if (index_bytes) store_index(index, index_bytes, b * channels + c, at);
        }
}

static int is_2x2_inside(const tc_pool *pool, const void *first, const void *second) {
    return pool->window_height == 2 && pool->window_width == 2 && pool->stride_width == 2 && pool->pad_left == 0 &&
           pool->y_columns * 2 <= pool->x_columns && first && second;
}

static void max_pool_row(const tc_pool *pool, const float *const *x, float *y, void *index, int index_bytes) {
    int small = is_2x2_inside(pool, x[0], pool->window_height > 1 ? x[1] : NULL);
    if (small && !index) max_pool_row_2x2(pool, x, y, NULL, 0);
    else if (small && index_bytes == 1) max_pool_row_2x2(pool, x, y, index, 1);
    else if (!index) max_pool_row_of(pool, x, y, NULL, 0);
    else if (index_bytes == 1) max_pool_row_of(pool, x, y, index, 1);
    else max_pool_row_of(pool, x, y, index, 4);
}

/* Every input pixel of the row's windows gets dy where it was the maximum, else 0
 * (or dy added, where windows overlap). */
ALWAYS_INLINE void max_pool_row_backward_of(const tc_pool *pool, const float *dy, const void *index,
                                            const int index_bytes, float *const *dx, const int accumulate) {
    const ptrdiff_t channels = pool->channels;
    for (ptrdiff_t b = 0; b < pool->y_columns; b++) {
        ptrdiff_t left = b * pool->stride_width - pool->pad_left;
        ptrdiff_t j0 = left < 0 ? -left : 0, j1 = pool->window_width;
        if (left + j1 > pool->x_columns) j1 = pool->x_columns - left;
        for (ptrdiff_t c = 0; c < channels; c++) {
            vfloat d = ((const vfloat *)dy)[b * channels + c];
            vint at = load_index(index, index_bytes, b * channels + c);
            for (ptrdiff_t i = 0; i < pool->window_height; i++) {
                if (!dx[i]) continue;
                vfloat *row = (vfloat *)dx[i] + left * channels + c;
                for (ptrdiff_t j = j0; j < j1; j++) {
                    vmask here = vi_eq(at, vi_set1((int32_t)(i * pool->window_width + j)));
                    vfloat value = v_select(here, d, (vfloat){0});
                    row[j * channels] = accumulate ? row[j * channels] + value : value;
                }
            }
        }
    }
}

ALWAYS_INLINE void max_pool_row_backward_2x2(const tc_pool *pool, const float *dy, const void *index,
                                             float *const *dx) {
    const ptrdiff_t channels = pool->channels;
    vfloat *top = (vfloat *)dx[0], *bottom = (vfloat *)dx[1];
    const vfloat *d = (const vfloat *)dy;
    for (ptrdiff_t b = 0; b < pool->y_columns; b++, top += channels, bottom += channels)
        for (ptrdiff_t c = 0; c < channels; c++, top++, bottom++, d++) {
            vint at = load_index(index, 1, b * channels + c);
            top[0] = v_select(vi_eq(at, vi_set1(0)), *d, (vfloat){0});
            top[channels] = v_select(vi_eq(at, vi_set1(1)), *d, (vfloat){0});
            bottom[0] = v_select(vi_eq(at, vi_set1(2)), *d, (vfloat){0});
            bottom[channels] = v_select(vi_eq(at, vi_set1(3)), *d, (vfloat){0});
        }
}

static void max_pool_row_backward(const tc_pool *pool, const float *dy, const void *index, int index_bytes,
                                  float *const *dx, int accumulate) {
    int small = is_2x2_inside(pool, dx[0], pool->window_height > 1 ? dx[1] : NULL);
    if (small && index_bytes == 1 && !accumulate) max_pool_row_backward_2x2(pool, dy, index, dx);
    else if (index_bytes == 1) max_pool_row_backward_of(pool, dy, index, 1, dx, accumulate);
    else max_pool_row_backward_of(pool, dy, index, 4, dx, accumulate);
}

/* The mean over the pixels of the window that lie in the image. */
static void average_pool_row(const tc_pool *pool, const float *const *x, float *y) {
    const ptrdiff_t channels = pool->channels;
    ptrdiff_t rows = 0;
    for (ptrdiff_t i = 0; i < pool->window_height; i++) rows += x[i] != NULL;
    for (ptrdiff_t b = 0; b < pool->y_columns; b++) {
        ptrdiff_t left = b * pool->stride_width - pool->pad_left;
        ptrdiff_t j0 = left < 0 ? -left : 0, j1 = pool->window_width;
        if (left + j1 > pool->x_columns) j1 = pool->x_columns - left;
        const vfloat count = v_set1((float)(rows * (j1 - j0)));
        for (ptrdiff_t c = 0; c < channels; c++) {
            vfloat sum = {0};
            for (ptrdiff_t i = 0; i < pool->window_height; i++)
                if (x[i])
                    for (ptrdiff_t j = j0; j < j1; j++) sum += ((const vfloat *)x[i])[(left + j) * channels + c];
            ((vfloat *)y)[b * channels + c] = sum / count;
        }
    }
}

/* dx += dy / count over the window. */
static void average_pool_row_backward(const tc_pool *pool, const float *dy, float *const *dx) {
    const ptrdiff_t channels = pool->channels;
    ptrdiff_t rows = 0;
    for (ptrdiff_t i = 0; i < pool->window_height; i++) rows += dx[i] != NULL;
    for (ptrdiff_t b = 0; b < pool->y_columns; b++) {
        ptrdiff_t left = b * pool->stride_width - pool->pad_left;
        ptrdiff_t j0 = left < 0 ? -left : 0, j1 = pool->window_width;
        if (left + j1 > pool->x_columns) j1 = pool->x_columns - left;
        const vfloat count = v_set1((float)(rows * (j1 - j0)));
        for (ptrdiff_t c = 0; c < channels; c++) {
            vfloat share = ((const vfloat *)dy)[b * channels + c] / count;
            for (ptrdiff_t i = 0; i < pool->window_height; i++)
                if (dx[i])
                    for (ptrdiff_t j = j0; j < j1; j++) ((vfloat *)dx[i])[(left + j) * channels + c] += share;
        }
    }
}

#endif
