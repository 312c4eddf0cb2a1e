/* Images into lanes and back: the transposes at both ends of a program. */
#ifndef TC_LANES_H
#define TC_LANES_H

#include "vector.h"

/* r[i][l] <-> r[l][i]: LANES vectors, in place. */
ALWAYS_INLINE void transpose(vfloat *r) {
#if LANES == 16 && defined(__AVX512F__)
    __m512 a[16], b[16];
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_ps((__m512)r[i], (__m512)r[i + 1]);
        a[i + 1] = _mm512_unpackhi_ps((__m512)r[i], (__m512)r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int k = 0; k < 2; k++) {
            b[i + 2 * k] = _mm512_shuffle_ps(a[i + k], a[i + k + 2], 0x44);
            b[i + 2 * k + 1] = _mm512_shuffle_ps(a[i + k], a[i + k + 2], 0xee);
        }
    /* b[4g + q] holds, in its 128-bit part p, element 4p + q of images 4g..4g+3. */
    for (int q = 0; q < 4; q++) {
        __m512 s = _mm512_shuffle_f32x4(b[q], b[4 + q], 0x88), t = _mm512_shuffle_f32x4(b[q], b[4 + q], 0xdd);
        __m512 u = _mm512_shuffle_f32x4(b[8 + q], b[12 + q], 0x88), v = _mm512_shuffle_f32x4(b[8 + q], b[12 + q], 0xdd);
        r[q] = (vfloat)_mm512_shuffle_f32x4(s, u, 0x88);
        r[8 + q] = (vfloat)_mm512_shuffle_f32x4(s, u, 0xdd);
        r[4 + q] = (vfloat)_mm512_shuffle_f32x4(t, v, 0x88);
        r[12 + q] = (vfloat)_mm512_shuffle_f32x4(t, v, 0xdd);
    }
#elif LANES == 8 && defined(__AVX2__)
    __m256 a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_ps((__m256)r[i], (__m256)r[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps((__m256)r[i], (__m256)r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int k = 0; k < 2; k++) {
            b[i + 2 * k] = _mm256_shuffle_ps(a[i + k], a[i + k + 2], 0x44);
            b[i + 2 * k + 1] = _mm256_shuffle_ps(a[i + k], a[i + k + 2], 0xee);
        }
    for (int q = 0; q < 4; q++) {
        r[q] = (vfloat)_mm256_permute2f128_ps(b[q], b[4 + q], 0x20);
        r[4 + q] = (vfloat)_mm256_permute2f128_ps(b[q], b[4 + q], 0x31);
    }
#elif defined(__SSE2__)
    __m128 a = (__m128)r[0], b = (__m128)r[1], c = (__m128)r[2], d = (__m128)r[3];
    _MM_TRANSPOSE4_PS(a, b, c, d);
    r[0] = (vfloat)a, r[1] = (vfloat)b, r[2] = (vfloat)c, r[3] = (vfloat)d;
#else
    for (int i = 0; i < LANES; i++)
        for (int l = 0; l < i; l++) {
            float t = r[i][l];
            r[i][l] = r[l][i], r[l][i] = t;
        }
#endif
}

ALWAYS_INLINE vfloat load_bytes(const uint8_t *p) {
#if LANES == 16 && defined(__AVX512F__)
    return (vfloat)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
#elif LANES == 8 && defined(__AVX2__)
    return (vfloat)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)));
#else
    vfloat v;
    for (int l = 0; l < LANES; l++) v[l] = p[l];
    return v;
#endif
}

ALWAYS_INLINE void gather_of(const void *const *source, int count, const int is_uint8, ptrdiff_t rows,
                             ptrdiff_t row, float scale, float offset, float *y, ptrdiff_t y_row_stride) {
    for (ptrdiff_t i = 0; i < rows; i++) {
        vfloat *to = (vfloat *)y + i * y_row_stride;
        /* The last stretch of a row overlaps the one before; a row shorter than a
         * vector goes value by value. */
        for (ptrdiff_t k = 0; k < row; k += LANES) {
            ptrdiff_t at = k + LANES <= row ? k : row - LANES;
            vfloat r[LANES];
            if (at >= 0) {
                for (int l = 0; l < LANES; l++) {
                    if (l >= count) r[l] = (vfloat){0};
                    else if (is_uint8) r[l] = load_bytes((const uint8_t *)source[l] + i * row + at);
                    else r[l] = v_load((const float *)source[l] + i * row + at);
                    if (l < count) r[l] = r[l] * scale + offset;
                }
                transpose(r);
                for (int l = 0; l < LANES; l++) to[at + l] = r[l];
            } else {
                for (ptrdiff_t e = 0; e < row; e++) {
                    vfloat v = {0};
                    for (int l = 0; l < count; l++) {
                        float value = is_uint8 ? (float)((const uint8_t *)source[l])[i * row + e]
                                               : ((const float *)source[l])[i * row + e];
                        v[l] = value;
                    }
                    v = v * scale + offset;
                    for (int l = count; l < LANES; l++) v[l] = 0;
                    to[e] = v;
                }
            }
        }
    }
}

static void gather(const void *const *source, int count, int is_uint8, ptrdiff_t rows, ptrdiff_t row, float scale,
                   float offset, float *y, ptrdiff_t y_row_stride) {
    if (is_uint8) gather_of(source, count, 1, rows, row, scale, offset, y, y_row_stride);
    else gather_of(source, count, 0, rows, row, scale, offset, y, y_row_stride);
}

static void scatter(const float *x, ptrdiff_t x_row_stride, ptrdiff_t rows, ptrdiff_t row, int count,
                    float *const *target) {
    for (ptrdiff_t i = 0; i < rows; i++) {
        const vfloat *from = (const vfloat *)x + i * x_row_stride;
        ptrdiff_t k = 0;
        for (; k + LANES <= row; k += LANES) {
            vfloat r[LANES];
            for (int l = 0; l < LANES; l++) r[l] = from[k + l];
            transpose(r);
            for (int l = 0; l < LANES; l++)
                if (l < count) v_store(target[l] + i * row + k, r[l]);
        }
        for (; k < row; k++)
            for (int l = 0; l < count; l++) target[l][i * row + k] = from[k][l];
    }
}

#endif
