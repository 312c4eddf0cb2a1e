/* What happens to gradients and weights around an optimizer's rule: penalties, clipping,
 * decay, averages, constraints.  Plain arrays of any length at any address; what is not a
 * whole vector goes through the same arithmetic, lane by lane. */
#ifndef TC_RULES_H
#define TC_RULES_H

#include "vector.h"

/* Calls f(vector number's first float, floats in it) for every vector of n floats. */
#define FOR_VECTORS(i, part, n)                                                                        \
    for (ptrdiff_t i = 0, part = (n) < LANES ? (n) : LANES; i < (n);                                   \
         i += LANES, part = (n) - i < LANES ? (n) - i : LANES)

ALWAYS_INLINE vfloat load_some(const float *p, ptrdiff_t part) {
    return part == LANES ? v_load(p) : v_load_part(p, part, 0.0f);
}

ALWAYS_INLINE void store_some(float *p, vfloat a, ptrdiff_t part) {
    if (part == LANES) v_store(p, a);
    else v_store_part(p, a, part);
}

/* w, g [n]: returns l1 sum |w| + l2 sum w w, and adds its gradient to g unless that is NULL.
 * |w| has the gradient 0 where w is 0. */
static double penalize(float l1, float l2, ptrdiff_t n, const float *w, float *g) {
    const vfloat zero = {0}, first = v_set1(l1), twice = v_set1(2 * l2);
    vfloat absolute = zero, squares = zero;
    FOR_VECTORS(i, part, n) {
        vfloat v = load_some(w + i, part);
        absolute += v_abs(v);
        squares += v * v;
        if (!g) continue;
        vfloat sign = v_select(v_gt(v, zero), first, v_select(v_gt(zero, v), -first, first * v));
        store_some(g + i, v_fma(twice, v, load_some(g + i, part) + sign), part);
    }
    /* A factor of 0 is no penalty, even on infinity. */
    return (l1 != 0 ? (double)l1 * v_sum(absolute) : 0) + (l2 != 0 ? (double)l2 * v_sum(squares) : 0);
}

/* g [n]: the sum of its squares. */
static float sum_squares(ptrdiff_t n, const float *g) {
    vfloat sum = {0};
    FOR_VECTORS(i, part, n) {
        vfloat v = load_some(g + i, part);
        sum += v * v;
    }
    return v_sum(sum);
}

/* to [n] = a x + b y, overwritten; it may be x or y. */
static void add_scaled(ptrdiff_t n, float a, const float *x, float b, const float *y, float *to) {
    const vfloat of_x = v_set1(a), of_y = v_set1(b);
    FOR_VECTORS(i, part, n)
        store_some(to + i, v_fma(of_x, load_some(x + i, part), of_y * load_some(y + i, part)), part);
}

/* g [n]: to [-limit, limit], in place; NaN stays. */
static void clip(ptrdiff_t n, float limit, float *g) {
    const vfloat most = v_set1(limit);
    FOR_VECTORS(i, part, n) store_some(g + i, v_min(most, v_max(-most, load_some(g + i, part))), part);
}

/* w [n]: to [0, infinity), in place; NaN stays. */
static void non_negative(ptrdiff_t n, float *w) {
    const vfloat zero = {0};
    FOR_VECTORS(i, part, n) store_some(w + i, v_max(zero, load_some(w + i, part)), part);
}

/* ---- norms ------------------------------------------------------------------------ */

/* Columns of the last axis in a unit of work. */
#define NORM_COLUMNS (4 * LANES)

/* Independent units of constrain_norm: shape [0] x [2] and stretches of the last axis. */
static ptrdiff_t norm_units(const ptrdiff_t *shape) {
    return shape[0] * shape[2] * ((shape[4] + NORM_COLUMNS - 1) / NORM_COLUMNS);
}

/* What vectors of these norms are scaled by; NaN gives NaN. */
ALWAYS_INLINE vfloat norm_factor(vfloat norm, float min, float max, float rate) {
    vfloat clipped = v_min(v_set1(max), v_max(v_set1(min), norm));
    return (rate * clipped + (1 - rate) * norm) / (norm + 1e-7f);
}

/* w (shape[0], ..., shape[4]): the vectors along axes 1 and 3 of one unit are scaled by
 * norm_factor of their norm, in place.  Sums run in row-major order. */
static void constrain_norm(const ptrdiff_t *shape, float min, float max, float rate, ptrdiff_t unit, float *w) {
    const ptrdiff_t columns = shape[4], stretches = (columns + NORM_COLUMNS - 1) / NORM_COLUMNS;
    const ptrdiff_t column = unit % stretches * NORM_COLUMNS, middle = unit / stretches % shape[2];
    const ptrdiff_t inner = shape[3] * columns, outer = shape[2] * inner;
    float *first = w + unit / stretches / shape[2] * shape[1] * outer + middle * inner + column;
    if (columns == 1) {
        /* The vectors lie along the memory. */
        vfloat sum = {0};
        for (ptrdiff_t a = 0; a < shape[1]; a++)
            FOR_VECTORS(i, part, inner) {
                vfloat v = load_some(first + a * outer + i, part);
                sum += v * v;
            }
        vfloat factor = norm_factor(v_sqrt(v_set1(v_sum(sum))), min, max, rate);
        for (ptrdiff_t a = 0; a < shape[1]; a++)
            FOR_VECTORS(i, part, inner) {
                float *at = first + a * outer + i;
                store_some(at, load_some(at, part) * factor, part);
            }
        return;
    }
    const ptrdiff_t wide = columns - column < NORM_COLUMNS ? columns - column : NORM_COLUMNS;
    vfloat factors[4] = {{0}};
    for (ptrdiff_t a = 0; a < shape[1]; a++)
        for (ptrdiff_t b = 0; b < shape[3]; b++)
            FOR_VECTORS(i, part, wide) {
                vfloat v = load_some(first + a * outer + b * columns + i, part);
                factors[i / LANES] += v * v;
            }
    for (int k = 0; k < 4; k++) factors[k] = norm_factor(v_sqrt(factors[k]), min, max, rate);
    for (ptrdiff_t a = 0; a < shape[1]; a++)
        for (ptrdiff_t b = 0; b < shape[3]; b++)
            FOR_VECTORS(i, part, wide) {
                float *at = first + a * outer + b * columns + i;
                store_some(at, load_some(at, part) * factors[i / LANES], part);
            }
}

#endif
