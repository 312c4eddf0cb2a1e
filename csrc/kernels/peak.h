/* The most arithmetic that one core does: what the other kernels are measured against.
 *
 * A step multiplies and adds in every lane of CHAINS vectors.  No vector waits for
 * another: enough of them to hide the latency of a multiply-add, few enough to stay in
 * the registers, so that nothing but the arithmetic units is busy. */
#ifndef TC_PEAK_H
#define TC_PEAK_H

#include "vector.h"

#if LANES == 16 || defined(__aarch64__)
#define PEAK_CHAINS 24 /* of 32 registers */
#else
#define PEAK_CHAINS 12 /* of 16 registers */
#endif

/* Does `rounds` steps and returns the number of operations.  *sink: overwritten with a
 * number that depends on all of them, so that none is left out. */
static double peak(ptrdiff_t rounds, float *sink) {
    vfloat chain[PEAK_CHAINS];
    /* Every chain goes from above down to 1: no denormals, and none starts where it stays. */
    const vfloat factor = v_set1(0.9999f), term = v_set1(0.0001f);
    _Pragma("GCC unroll 24")
    for (int i = 0; i < PEAK_CHAINS; i++) chain[i] = v_set1((float)(i + 2));
    for (ptrdiff_t round = 0; round < rounds; round++) {
        _Pragma("GCC unroll 24")
        for (int i = 0; i < PEAK_CHAINS; i++) chain[i] = chain[i] * factor + term;
    }
    vfloat sum = chain[0];
    _Pragma("GCC unroll 24")
    for (int i = 1; i < PEAK_CHAINS; i++) sum += chain[i];
    *sink = v_sum(sum);
    return 2.0 * LANES * PEAK_CHAINS * (double)rounds;
}

#endif
