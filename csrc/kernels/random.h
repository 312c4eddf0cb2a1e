/* Counter-based random numbers, one image's in each lane; random_bits in
 * tinyconv/engine/program.py, bit for bit.  Keys come from tc_random_key. */
#ifndef TC_RANDOM_H
#define TC_RANDOM_H

#include "../random_key.h"
#include "vector.h"

/* 32 random bits of one element under each lane's keys. */
ALWAYS_INLINE vuint random_bits(vuint key0, vuint key1, uint32_t element) {
    vuint x = key0 + element;
    x ^= x >> 16;
    x *= 0x7FEB352Du;
    x ^= key1;
    x ^= x >> 15;
    x *= 0x846CA68Bu;
    return x ^ x >> 16;
}

/* x, y [n]: y overwritten, may be x.  y = x / (1 - rate) where the element's random
 * number is at least rate, else 0.  Backward is the same function of dy: it makes
 * the same mask again. */
static void dropout_forward(const vfloat *x, vfloat *y, ptrdiff_t n, float rate, vuint key0, vuint key1) {
    const float scaled = rate * 0x1p24f, scale = 1.0f / (1.0f - rate);
    int32_t threshold = (int32_t)scaled;
    threshold += (float)threshold < scaled; /* rounded up */
    for (ptrdiff_t i = 0; i < n; i++) {
        vint number = (vint)(random_bits(key0, key1, (uint32_t)i) >> 8);
        y[i] = v_select(vi_gt(number, vi_set1(threshold - 1)), x[i] * scale, (vfloat){0});
    }
}

#endif
