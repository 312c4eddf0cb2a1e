/* Metrics, images in the lanes: the mean over positions of a hit, 0 or 1. */
#ifndef TC_METRICS_H
#define TC_METRICS_H

#include "../tinyconv.h"
#include "vector.h"

/* x [channels]: where the largest is and, in *largest, what; the first of equals, the
 * first NaN before all. */
ALWAYS_INLINE vint argmax(const vfloat *x, ptrdiff_t channels, vfloat *largest) {
    vfloat m = x[0];
    vint at = {0};
    for (ptrdiff_t c = 1; c < channels; c++) {
        vmask better = m_and(m_not(v_ge(m, x[c])), v_eq(m, m));
        m = v_select(better, x[c], m);
        at = vi_select(better, vi_set1((int32_t)c), at);
    }
    *largest = m;
    return at;
}

/* Whether fewer than k of x [channels] are greater than x[label], which must be there and a number. */
ALWAYS_INLINE vmask in_top_k(const vfloat *x, vint label, ptrdiff_t channels, float k) {
    vfloat own = v_set1(__builtin_nanf("")), greater = {0};
    for (ptrdiff_t c = 0; c < channels; c++) own = v_select(vi_eq(label, vi_set1((int32_t)c)), x[c], own);
    for (ptrdiff_t c = 0; c < channels; c++)
        greater += v_select(v_gt(x[c], own), v_set1(1.0f), (vfloat){0});
    return m_and(v_gt(v_set1(k), greater), v_eq(own, own));
}

/* output, dense [positions][channels], sparse [positions]; of the labels the kind's
 * own are read.  parameter: threshold or k.  A NaN output is never a hit. */
static vfloat metric(int kind, float parameter, ptrdiff_t positions, ptrdiff_t channels, const vfloat *output,
                     const vfloat *dense, const vint *sparse) {
    const vfloat one = v_set1(1.0f), zero = {0};
    vfloat hits = {0};
    if (kind == TC_METRIC_BINARY_ACCURACY) {
        for (ptrdiff_t i = 0; i < positions * channels; i++) {
            vfloat predicted = v_select(v_gt(output[i], v_set1(parameter)), one, zero);
            hits += v_select(m_and(v_eq(predicted, dense[i]), v_eq(output[i], output[i])), one, zero);
        }
        return hits / (float)(positions * channels);
    }
    const int from_dense = kind == TC_METRIC_CATEGORICAL_ACCURACY || kind == TC_METRIC_TOP_K_CATEGORICAL_ACCURACY;
    const int top_k =
        kind == TC_METRIC_TOP_K_CATEGORICAL_ACCURACY || kind == TC_METRIC_SPARSE_TOP_K_CATEGORICAL_ACCURACY;
    for (ptrdiff_t p = 0; p < positions; p++, output += channels) {
        vfloat largest;
        vint label = from_dense ? argmax(dense + p * channels, channels, &largest) : sparse[p];
        vmask hit;
        if (top_k) {
            hit = in_top_k(output, label, channels, parameter);
        } else {
            hit = vi_eq(argmax(output, channels, &largest), label);
            hit = m_and(hit, v_eq(largest, largest));
        }
        hits += v_select(hit, one, zero);
    }
    return hits / (float)positions;
}

#endif
