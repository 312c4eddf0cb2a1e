/* Images sampled along an affine map, another one in each lane: augmentation. */
#ifndef TC_AFFINE_H
#define TC_AFFINE_H

#include "../kernels.h"
#include "vector.h"

/* The pixels that one sample reads: places in floats, of channel 0; weights; and, where
 * pixels outside count as the fill value, which lie inside. */
typedef struct taps {
    int count;
    vint place[4];
    vfloat weight[4];
    vmask inside[4];
} taps;

/* The largest integer that is no more than a; |a| < 2**22. */
ALWAYS_INLINE vfloat v_floor(vfloat a) {
    vfloat whole = v_from_int(v_round_to_int(a));
    return v_select(v_gt(whole, a), whole - 1.0f, whole);
}

/* p[i] in every lane. */
ALWAYS_INLINE vfloat v_gather(const float *p, vint i) {
#if defined(__AVX512F__)
    return (vfloat)_mm512_i32gather_ps((__m512i)i, p, 4);
#elif defined(__AVX2__)
    return (vfloat)_mm256_i32gather_ps(p, (__m256i)i, 4);
#else
    vfloat v;
    for (int l = 0; l < LANES; l++) v[l] = p[i[l]];
    return v;
#endif
}

/* Brings whole numbers i into [0, n); *inside: which were. */
ALWAYS_INLINE vfloat into_image(int fill_mode, vfloat i, float n, vmask *inside) {
    *inside = m_and(v_ge(i, (vfloat){0}), v_gt(v_set1(n), i));
    if (fill_mode == TC_FILL_REFLECT) { /* d c b a | a b c d | d c b a */
        i = i - 2.0f * n * v_floor(i / (2.0f * n));
        i = v_select(v_ge(i, v_set1(n)), (2.0f * n - 1.0f) - i, i);
    } else if (fill_mode == TC_FILL_WRAP) {
        i = i - n * v_floor(i / n);
    }
    return v_min(v_set1(n - 1.0f), v_max((vfloat){0}, i));
}

ALWAYS_INLINE vfloat round_away(vfloat a) {
    return v_select(v_ge(a, (vfloat){0}), v_floor(a + 0.5f), -v_floor(0.5f - a));
}

ALWAYS_INLINE void find_taps(const tc_affine *g, const vfloat *m, ptrdiff_t a, ptrdiff_t b, taps *t) {
    const float row = (float)a, column = (float)b;
    vfloat x = m[0] * column + m[1] * row + m[2], y = m[3] * column + m[4] * row + m[5];
    vfloat x0 = g->nearest ? round_away(x) : v_floor(x), y0 = g->nearest ? round_away(y) : v_floor(y);
    vfloat right = x - x0, below = y - y0;
    vint lane;
    for (int l = 0; l < LANES; l++) lane[l] = l;
    t->count = g->nearest ? 1 : 4;
    for (int k = 0; k < t->count; k++) {
        vmask inside_x, inside_y;
        vfloat column_k = into_image(g->fill_mode, k & 1 ? x0 + 1.0f : x0, (float)g->columns, &inside_x);
        vfloat row_k = into_image(g->fill_mode, k & 2 ? y0 + 1.0f : y0, (float)g->rows, &inside_y);
        t->place[k] = v_round_to_int(row_k) * (int32_t)(g->columns * g->channels * LANES) +
                      v_round_to_int(column_k) * (int32_t)(g->channels * LANES) + lane;
        t->weight[k] = (k & 1 ? right : 1.0f - right) * (k & 2 ? below : 1.0f - below);
        if (g->nearest) t->weight[k] = v_set1(1.0f);
        t->inside[k] = m_and(inside_x, inside_y);
    }
}

/* x [rows][columns][channels]; y, row a [columns][channels]: overwritten. */
static void affine_row(const tc_affine *g, const float *m, ptrdiff_t a, const float *x, float *y) {
    vfloat *to = (vfloat *)y;
    for (ptrdiff_t b = 0; b < g->columns; b++) {
        taps t;
        find_taps(g, (const vfloat *)m, a, b, &t);
        for (ptrdiff_t c = 0; c < g->channels; c++) {
            vfloat sum = {0};
            for (int k = 0; k < t.count; k++) {
                vfloat v = v_gather(x + c * LANES, t.place[k]);
                if (g->fill_mode == TC_FILL_CONSTANT) v = v_select(t.inside[k], v, v_set1(g->fill_value));
                sum = v_fma(t.weight[k], v, sum);
            }
            *to++ = sum;
        }
    }
}

/* dy, row a [columns][channels]; dx [rows][columns][channels]: accumulated, pixel after pixel. */
static void affine_row_backward(const tc_affine *g, const float *m, ptrdiff_t a, const float *dy, float *dx) {
    const vfloat *from = (const vfloat *)dy;
    for (ptrdiff_t b = 0; b < g->columns; b++, from += g->channels) {
        taps t;
        find_taps(g, (const vfloat *)m, a, b, &t);
        for (int k = 0; k < t.count; k++) {
            vfloat weight = t.weight[k];
            if (g->fill_mode == TC_FILL_CONSTANT) weight = v_select(t.inside[k], weight, (vfloat){0});
            for (ptrdiff_t c = 0; c < g->channels; c++) {
                vfloat share = weight * from[c];
                for (int l = 0; l < LANES; l++) dx[c * LANES + t.place[k][l]] += share[l];
            }
        }
    }
}

#endif
