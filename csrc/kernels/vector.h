/* The vector type of every kernel: LANES floats, one register of the instruction
 * set this unit is compiled for.  Arithmetic (+ - * /) is GCC/Clang's own on vector
 * types; here is what those lack.  A comparison with NaN is false. */
#ifndef TC_VECTOR_H
#define TC_VECTOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define LANES 16
#elif defined(__AVX2__)
#include <immintrin.h>
#define LANES 8
#elif defined(__SSE2__)
#include <emmintrin.h>
#define LANES 4
#else
#if defined(__aarch64__)
#include <arm_neon.h>
#endif
#include <math.h>
#define LANES 4
#endif

typedef float vfloat __attribute__((vector_size(4 * LANES)));
typedef int32_t vint __attribute__((vector_size(4 * LANES)));
typedef uint32_t vuint __attribute__((vector_size(4 * LANES)));
/* The same, at any float's address. */
typedef float vfloat_unaligned __attribute__((vector_size(4 * LANES), aligned(4)));

#define ALWAYS_INLINE static inline __attribute__((always_inline, unused))

/* s in every lane.  s - 0 is s for every s (s + 0 is not, for -0), so this folds to a broadcast. */
ALWAYS_INLINE vfloat v_set1(float s) { return s - (vfloat){0}; }
ALWAYS_INLINE vint vi_set1(int32_t s) { return s - (vint){0}; }
ALWAYS_INLINE vuint vu_set1(uint32_t s) { return s - (vuint){0}; }
ALWAYS_INLINE vfloat v_load(const float *p) { return *(const vfloat_unaligned *)p; }
ALWAYS_INLINE void v_store(float *p, vfloat a) { *(vfloat_unaligned *)p = a; }
ALWAYS_INLINE vint v_as_int(vfloat a) { return (vint)a; }
ALWAYS_INLINE vfloat v_as_float(vint a) { return (vfloat)a; }
ALWAYS_INLINE vfloat v_abs(vfloat a) { return (vfloat)((vint)a & 0x7fffffff); }
ALWAYS_INLINE vfloat v_from_int(vint a) { return __builtin_convertvector(a, vfloat); }

/* Masks: one truth value a lane.  v_select(m, a, b) is a where m holds, else b.
 * v_not_le(a, b) is true where either is NaN.
 * v_max(a, b) is a > b ? a : b: b where either is NaN (as the instruction does). */
#if defined(__AVX512F__)
typedef __mmask16 vmask;
ALWAYS_INLINE vmask v_gt(vfloat a, vfloat b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ); }
ALWAYS_INLINE vmask v_ge(vfloat a, vfloat b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GE_OQ); }
ALWAYS_INLINE vmask v_eq(vfloat a, vfloat b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_EQ_OQ); }
ALWAYS_INLINE vmask vi_eq(vint a, vint b) { return _mm512_cmpeq_epi32_mask((__m512i)a, (__m512i)b); }
ALWAYS_INLINE vmask vi_gt(vint a, vint b) { return _mm512_cmpgt_epi32_mask((__m512i)a, (__m512i)b); }
ALWAYS_INLINE vmask v_not_le(vfloat a, vfloat b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_NLE_UQ); }
ALWAYS_INLINE vmask m_or(vmask a, vmask b) { return (vmask)(a | b); }
ALWAYS_INLINE vmask m_and(vmask a, vmask b) { return (vmask)(a & b); }
ALWAYS_INLINE vmask m_not(vmask a) { return (vmask)~a; }
ALWAYS_INLINE vfloat v_select(vmask m, vfloat a, vfloat b) {
    return (vfloat)_mm512_mask_blend_ps(m, (__m512)b, (__m512)a);
}
ALWAYS_INLINE vint vi_select(vmask m, vint a, vint b) {
    return (vint)_mm512_mask_blend_epi32(m, (__m512i)b, (__m512i)a);
}
ALWAYS_INLINE vfloat v_max(vfloat a, vfloat b) { return (vfloat)_mm512_max_ps((__m512)a, (__m512)b); }
ALWAYS_INLINE vfloat v_min(vfloat a, vfloat b) { return (vfloat)_mm512_min_ps((__m512)a, (__m512)b); }
ALWAYS_INLINE vfloat v_sqrt(vfloat a) { return (vfloat)_mm512_sqrt_ps((__m512)a); }
ALWAYS_INLINE vint v_round_to_int(vfloat a) { return (vint)_mm512_cvtps_epi32((__m512)a); }
#else
typedef vint vmask;
ALWAYS_INLINE vmask v_gt(vfloat a, vfloat b) { return a > b; }
ALWAYS_INLINE vmask v_ge(vfloat a, vfloat b) { return a >= b; }
ALWAYS_INLINE vmask v_eq(vfloat a, vfloat b) { return a == b; }
ALWAYS_INLINE vmask vi_eq(vint a, vint b) { return a == b; }
ALWAYS_INLINE vmask vi_gt(vint a, vint b) { return a > b; }
ALWAYS_INLINE vmask v_not_le(vfloat a, vfloat b) { return ~(a <= b); }
ALWAYS_INLINE vmask m_or(vmask a, vmask b) { return a | b; }
ALWAYS_INLINE vmask m_and(vmask a, vmask b) { return a & b; }
ALWAYS_INLINE vmask m_not(vmask a) { return ~a; }
ALWAYS_INLINE vint vi_select(vmask m, vint a, vint b) { return (m & a) | (~m & b); }
#if defined(__AVX2__)
ALWAYS_INLINE vfloat v_select(vmask m, vfloat a, vfloat b) {
    return (vfloat)_mm256_blendv_ps((__m256)b, (__m256)a, (__m256)m);
}
ALWAYS_INLINE vfloat v_max(vfloat a, vfloat b) { return (vfloat)_mm256_max_ps((__m256)a, (__m256)b); }
ALWAYS_INLINE vfloat v_min(vfloat a, vfloat b) { return (vfloat)_mm256_min_ps((__m256)a, (__m256)b); }
ALWAYS_INLINE vfloat v_sqrt(vfloat a) { return (vfloat)_mm256_sqrt_ps((__m256)a); }
ALWAYS_INLINE vint v_round_to_int(vfloat a) { return (vint)_mm256_cvtps_epi32((__m256)a); }
#elif defined(__SSE2__)
ALWAYS_INLINE vfloat v_select(vmask m, vfloat a, vfloat b) { return (vfloat)vi_select(m, (vint)a, (vint)b); }
ALWAYS_INLINE vfloat v_max(vfloat a, vfloat b) { return (vfloat)_mm_max_ps((__m128)a, (__m128)b); }
ALWAYS_INLINE vfloat v_min(vfloat a, vfloat b) { return (vfloat)_mm_min_ps((__m128)a, (__m128)b); }
ALWAYS_INLINE vfloat v_sqrt(vfloat a) { return (vfloat)_mm_sqrt_ps((__m128)a); }
ALWAYS_INLINE vint v_round_to_int(vfloat a) { return (vint)_mm_cvtps_epi32((__m128)a); }
#else
ALWAYS_INLINE vfloat v_select(vmask m, vfloat a, vfloat b) { return (vfloat)vi_select(m, (vint)a, (vint)b); }
ALWAYS_INLINE vfloat v_max(vfloat a, vfloat b) { return v_select(a > b, a, b); }
ALWAYS_INLINE vfloat v_min(vfloat a, vfloat b) { return v_select(a < b, a, b); }
ALWAYS_INLINE vfloat v_sqrt(vfloat a) {
    for (int l = 0; l < LANES; l++) a[l] = sqrtf(a[l]);
    return a;
}
/* To the nearest integer; |a| < 2**22. */
ALWAYS_INLINE vint v_round_to_int(vfloat a) {
    return (vint)(a + v_set1(12582912.0f)) - (vint)v_set1(12582912.0f);
}
#endif
#endif

/* a * b + c, rounded once where the instruction set can.  A plain a * b + c becomes the
 * same, at the compiler's discretion; this is for a sum of two products, where its
 * choice of the one to fuse would change from place to place. */
ALWAYS_INLINE vfloat v_fma(vfloat a, vfloat b, vfloat c) {
#if defined(__AVX512F__)
    return (vfloat)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__) && LANES == 8
    return (vfloat)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
    return (vfloat)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}

/* The first count (1 to LANES) values at p, the other lanes filled with `fill`; and back. */
#if defined(__AVX512F__)
#define LANES_HAVE_PARTS 1 /* parts of a vector cost no more than a whole one */
ALWAYS_INLINE __mmask16 m_first(ptrdiff_t count) { return (__mmask16)(0xffffu >> (16 - count)); }
ALWAYS_INLINE vfloat v_load_part(const float *p, ptrdiff_t count, float fill) {
    return (vfloat)_mm512_mask_loadu_ps((__m512)v_set1(fill), m_first(count), p);
}
ALWAYS_INLINE void v_store_part(float *p, vfloat a, ptrdiff_t count) {
    _mm512_mask_storeu_ps(p, m_first(count), (__m512)a);
}
ALWAYS_INLINE vint vi_load_part(const int32_t *p, ptrdiff_t count) {
    return (vint)_mm512_maskz_loadu_epi32(m_first(count), p);
}
ALWAYS_INLINE void vi_store_part(int32_t *p, vint a, ptrdiff_t count) {
    _mm512_mask_storeu_epi32(p, m_first(count), (__m512i)a);
}
#else
#define LANES_HAVE_PARTS 0
ALWAYS_INLINE vfloat v_load_part(const float *p, ptrdiff_t count, float fill) {
    vfloat a = v_set1(fill);
    memcpy(&a, p, (size_t)count * sizeof(float));
    return a;
}
ALWAYS_INLINE void v_store_part(float *p, vfloat a, ptrdiff_t count) { memcpy(p, &a, (size_t)count * sizeof(float)); }
ALWAYS_INLINE vint vi_load_part(const int32_t *p, ptrdiff_t count) {
    vint a = {0};
    memcpy(&a, p, (size_t)count * sizeof(int32_t));
    return a;
}
ALWAYS_INLINE void vi_store_part(int32_t *p, vint a, ptrdiff_t count) {
    memcpy(p, &a, (size_t)count * sizeof(int32_t));
}
#endif

/* Lane l is lane places[l] of a and b, one behind the other; places from 0 to 2 LANES - 1. */
#if defined(__AVX512F__)
#define LANES_CAN_MOVE 1
ALWAYS_INLINE vfloat v_pick(vfloat a, vfloat b, vint places) {
    return (vfloat)_mm512_permutex2var_ps((__m512)a, (__m512i)places, (__m512)b);
}
#elif defined(__AVX2__)
#define LANES_CAN_MOVE 1
ALWAYS_INLINE vfloat v_pick(vfloat a, vfloat b, vint places) {
    /* The instruction looks at the lowest three bits of a place. */
    __m256 of_a = _mm256_permutevar8x32_ps((__m256)a, (__m256i)places);
    __m256 of_b = _mm256_permutevar8x32_ps((__m256)b, (__m256i)places);
    return v_select(places >= LANES, (vfloat)of_b, (vfloat)of_a);
}
#else
#define LANES_CAN_MOVE 0
ALWAYS_INLINE vfloat v_pick(vfloat a, vfloat b, vint places) {
    vfloat y;
    for (int l = 0; l < LANES; l++) y[l] = places[l] < LANES ? a[places[l]] : b[places[l] - LANES];
    return y;
}
#endif

/* The largest lane; of lanes that are NaN nothing is promised. */
ALWAYS_INLINE float v_max_across(vfloat a) {
    float t[LANES];
    v_store(t, a);
    for (int half = LANES / 2; half; half /= 2)
        for (int l = 0; l < half; l++) t[l] = t[l + half] > t[l] ? t[l + half] : t[l];
    return t[0];
}

/* The sum of the lanes, pairwise: ((0+L/2) + ...), the same order on every call. */
ALWAYS_INLINE float v_sum(vfloat a) {
    float t[LANES];
    memcpy(t, &a, sizeof t);
    for (int half = LANES / 2; half; half /= 2)
        for (int l = 0; l < half; l++) t[l] += t[l + half];
    return t[0];
}

/* sums[i] = the sum of the lanes of the i-th vector, each in one fixed order. */
ALWAYS_INLINE void v_sum4(vfloat a, vfloat b, vfloat c, vfloat d, float *sums) {
#if defined(__SSE2__)
#if LANES == 16
    /* Within each 128-bit part: [a0+a2, b0+b2, a1+a3, b1+b3], then [a, b, c, d]. */
    __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps((__m512)a, (__m512)b), _mm512_unpackhi_ps((__m512)a, (__m512)b));
    __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps((__m512)c, (__m512)d), _mm512_unpackhi_ps((__m512)c, (__m512)d));
    __m512 all = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
#elif LANES == 8
    __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps((__m256)a, (__m256)b), _mm256_unpackhi_ps((__m256)a, (__m256)b));
    __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps((__m256)c, (__m256)d), _mm256_unpackhi_ps((__m256)c, (__m256)d));
    __m256 all = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
#else
    __m128 ab = _mm_add_ps(_mm_unpacklo_ps((__m128)a, (__m128)b), _mm_unpackhi_ps((__m128)a, (__m128)b));
    __m128 cd = _mm_add_ps(_mm_unpacklo_ps((__m128)c, (__m128)d), _mm_unpackhi_ps((__m128)c, (__m128)d));
    __m128 sum = _mm_add_ps(_mm_shuffle_ps(ab, cd, 0x44), _mm_shuffle_ps(ab, cd, 0xee));
#endif
    _mm_storeu_ps(sums, sum);
#else
    sums[0] = v_sum(a), sums[1] = v_sum(b), sums[2] = v_sum(c), sums[3] = v_sum(d);
#endif
}

#endif
