/* Counter-based random numbers, one image's in each lane; random_bits in
 * tinyconv/engine/program.py, bit for bit.  Keys come from tc_random_key. */
#ifndef TC_RANDOM_H
#define TC_RANDOM_H

#include "../random_key.h"
#include "../tinyconv.h"
#include "activations.h"
#include "math.h"

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

/* rate in units of those 24 bits, rounded up; of a rate in [0, 1]. */
ALWAYS_INLINE int32_t drop_threshold(float rate) {
    const float scaled = rate * 0x1p24f;
    const int32_t whole = (int32_t)scaled;
    return whole + ((float)whole < scaled);
}

/* Which elements a dropout keeps: those whose number is at least rate. */
ALWAYS_INLINE vmask is_kept(vuint key0, vuint key1, uint32_t element, int32_t threshold) {
    return vi_gt((vint)(random_bits(key0, key1, element) >> 8), vi_set1(threshold - 1));
}

/* A normally distributed number of one element, from its numbers 2 e and 2 e + 1 (Box, Muller:
 * A note on the generation of random normal deviates, 1958). */
ALWAYS_INLINE vfloat random_normal(vuint key0, vuint key1, uint32_t element) {
    vfloat u = v_from_int((vint)((random_bits(key0, key1, 2 * element) >> 8) + 1)) * 0x1p-24f;
    vfloat turn = v_from_int((vint)(random_bits(key0, key1, 2 * element + 1) >> 8)) * 0x1p-24f;
    return v_sqrt(-2.0f * v_log(u)) * v_cos_turn(turn);
}

/* x, y [n]: y overwritten, may be x.  Noise of `kind` on x, or its gradient: as linear
 * functions of x, of the same random numbers.  See tinyconv/engine/program.py. */
static void noise(int kind, int backward, float amount, const vfloat *x, vfloat *y, ptrdiff_t n, vuint key0,
                  vuint key1) {
    switch (kind) {
    case TC_NOISE_GAUSSIAN_NOISE:
        for (ptrdiff_t i = 0; i < n; i++)
            y[i] = backward ? x[i] : x[i] + amount * random_normal(key0, key1, (uint32_t)i);
        break;
    case TC_NOISE_GAUSSIAN_DROPOUT: {
        const float deviation = __builtin_sqrtf(amount / (1.0f - amount));
        for (ptrdiff_t i = 0; i < n; i++) y[i] = x[i] * (1.0f + deviation * random_normal(key0, key1, (uint32_t)i));
        break;
    }
    case TC_NOISE_ALPHA_DROPOUT: {
        /* What is dropped becomes selu's limit; then mean 0 and variance 1 are restored. */
        const float limit = -SELU_SCALE * SELU_ALPHA;
        const float scale = 1.0f / __builtin_sqrtf((1.0f - amount) * (1.0f + amount * limit * limit));
        const float offset = backward ? 0.0f : -scale * limit * amount;
        const vfloat dropped = v_set1(backward ? 0.0f : scale * limit + offset);
        const int32_t threshold = drop_threshold(amount);
        for (ptrdiff_t i = 0; i < n; i++)
            y[i] = v_select(is_kept(key0, key1, (uint32_t)i, threshold), x[i] * scale + offset, dropped);
        break;
    }
    default: {
        const float scale = amount < 1 ? 1.0f / (1.0f - amount) : 0; /* at 1 nothing is kept */
        const int32_t threshold = drop_threshold(amount);
        for (ptrdiff_t i = 0; i < n; i++)
            y[i] = v_select(is_kept(key0, key1, (uint32_t)i, threshold), x[i] * scale, (vfloat){0});
    }
    }
}

#endif
