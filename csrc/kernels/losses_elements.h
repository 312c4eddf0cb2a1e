/* Losses that are sums over outputs: a table of functions of one output and its label, and the
 * loop that all of them share. */
#ifndef TC_LOSSES_ELEMENTS_H
#define TC_LOSSES_ELEMENTS_H

#include "loss_args.h"

/* The loss of output x with the label y; *slope: its derivative with respect to x. */
typedef vfloat element(const float *parameters, vfloat x, vfloat y, vfloat *slope);

/* The sign of d: 0 of 0; NaN of NaN. */
ALWAYS_INLINE vfloat sign(vfloat d) {
    vfloat zero_or_nan = d - d;
    return v_select(v_gt(v_abs(d), (vfloat){0}), v_copysign(v_set1(1.0f), d), zero_or_nan);
}

ALWAYS_INLINE vfloat squared_error(const float *parameters, vfloat x, vfloat y, vfloat *slope) {
    (void)parameters;
    vfloat d = x - y;
    *slope = 2.0f * d;
    return d * d;
}

ALWAYS_INLINE vfloat absolute_error(const float *parameters, vfloat x, vfloat y, vfloat *slope) {
    (void)parameters;
    vfloat d = x - y;
    *slope = sign(d);
    return v_abs(d);
}

ALWAYS_INLINE vfloat percentage_error(const float *parameters, vfloat x, vfloat y, vfloat *slope) {
    (void)parameters;
    vfloat d = x - y, percent = 100.0f / v_max(v_set1(EPSILON), v_abs(y));
    *slope = sign(d) * percent;
    return v_abs(d) * percent;
}

ALWAYS_INLINE vfloat logarithmic_error(const float *parameters, vfloat x, vfloat y, vfloat *slope) {
    (void)parameters;
    const vfloat low = v_set1(EPSILON);
    vfloat d = v_log1p(v_max(low, x)) - v_log1p(v_max(low, y));
    *slope = v_select(v_gt(low, x), (vfloat){0}, 2.0f * d / (1.0f + x));
    return d * d;
}

/* parameters: delta. */
ALWAYS_INLINE vfloat huber_error(const float *parameters, vfloat x, vfloat y, vfloat *slope) {
    const vfloat delta = v_set1(parameters[0]);
    vfloat d = x - y, size = v_abs(d);
    *slope = v_min(delta, v_max(-delta, d));
    return v_select(v_ge(delta, size), 0.5f * d * d, delta * size - 0.5f * delta * delta);
}

/* log(cosh(d)) = |d| + log(1 + exp(-2 |d|)) - log(2). */
ALWAYS_INLINE vfloat log_cosh_error(const float *parameters, vfloat x, vfloat y, vfloat *slope) {
    (void)parameters;
    vfloat d = x - y, size = v_abs(d);
    *slope = v_tanh(d);
    return size + v_log1p(v_exp(-2.0f * size)) - 0.693147181f;
}

ALWAYS_INLINE vfloat poisson_element(const float *parameters, vfloat x, vfloat y, vfloat *slope) {
    (void)parameters;
    vfloat shifted = x + EPSILON;
    *slope = 1.0f - y / shifted;
    return x - y * v_log(shifted);
}

/* y log(y / p) of y and p clipped to [EPSILON, 1]. */
ALWAYS_INLINE vfloat divergence_element(const float *parameters, vfloat x, vfloat y, vfloat *slope) {
    (void)parameters;
    const vfloat low = v_set1(EPSILON), one = v_set1(1.0f);
    vfloat p = v_min(one, v_max(low, x)), q = v_min(one, v_max(low, y));
    *slope = v_select(m_or(v_gt(low, x), v_gt(x, one)), (vfloat){0}, -q / p);
    return q * v_log(q / p);
}

/* parameters: whether a label of 0 stands for -1. */
ALWAYS_INLINE vfloat hinge_element(const float *parameters, vfloat x, vfloat y, vfloat *slope) {
    if (parameters[0] != 0.0f) y = v_select(v_eq(y, (vfloat){0}), v_set1(-1.0f), y);
    vfloat margin = 1.0f - y * x;
    *slope = v_select(v_ge((vfloat){0}, margin), (vfloat){0}, -y);
    return v_max((vfloat){0}, margin);
}

ALWAYS_INLINE vfloat squared_hinge_element(const float *parameters, vfloat x, vfloat y, vfloat *slope) {
    vfloat margin = hinge_element(parameters, x, y, slope);
    *slope = 2.0f * margin * *slope;
    return margin * margin;
}

/* log(1 + exp(x)) - x y. */
ALWAYS_INLINE vfloat sigmoid_entropy(const float *parameters, vfloat x, vfloat y, vfloat *slope) {
    (void)parameters;
    const vfloat zero = {0};
    vfloat e = v_exp(-v_abs(x));
    *slope = v_select(v_gt(zero, x), e, v_set1(1.0f)) / (1.0f + e) - y;
    return (v_max(zero, x) - x * y) + v_log1p(e);
}

/* -y log(p) - (1 - y) log(1 - p) of clipped p; the derivative through a clipped value is 0. */
ALWAYS_INLINE vfloat binary_entropy(const float *parameters, vfloat x, vfloat y, vfloat *slope) {
    (void)parameters;
    vfloat p = clipped(x);
    *slope = v_select(unclipped(x), (p - y) / (p * (1.0f - p)), (vfloat){0});
    return -(y * v_log(p) + (1.0f - y) * v_log(1.0f - p));
}

/* The entropy times (1 - p(y))**gamma and the label's weight; parameters: gamma, weights of 1 and 0. */
ALWAYS_INLINE vfloat binary_focal(const float *parameters, vfloat x, vfloat y, vfloat *slope) {
    const float gamma = parameters[0];
    vfloat rise, entropy = binary_entropy(parameters, x, y, &rise);
    vfloat miss = 1.0f - (y * x + (1.0f - y) * (1.0f - x));
    vfloat weight = y * parameters[1] + (1.0f - y) * parameters[2], factor = power(miss, gamma);
    vfloat bend = {0};
    if (gamma != 0.0f) bend = gamma * power(miss, gamma - 1.0f) * (1.0f - 2.0f * y);
    *slope = weight * (bend * entropy + factor * rise);
    return weight * factor * entropy;
}

ALWAYS_INLINE vfloat sigmoid_focal(const float *parameters, vfloat x, vfloat y, vfloat *slope) {
    vfloat p = v_sigmoid(x), value = binary_focal(parameters, p, y, slope);
    *slope *= p * (1.0f - p);
    return value;
}

/* The mean over positions of the sum over channels, divided by `parts`.  Only the binary
 * cross-entropies have labels to smooth, towards 1/2. */
ALWAYS_INLINE vfloat element_loss(const tc_loss_args *args, float parts, element *of) {
    const ptrdiff_t n = args->positions * args->channels;
    const float keep = 1.0f - args->label_smoothing, spread = 0.5f * args->label_smoothing;
    const float divisor = (float)args->positions * parts;
    const vfloat weight = args->weight, scale = weight / divisor;
    vfloat total = {0};
    for (ptrdiff_t i = 0; i < n; i++) {
        vfloat slope, y = args->dense[i] * keep + spread;
        total += of(args->parameters, args->output[i], y, &slope);
        if (args->gradient) args->gradient[i] = weigh(weight, slope, scale);
    }
    return total / divisor;
}

/* The sum over positions and channels. */
static vfloat inner_product_loss(const tc_loss_args *args) {
    const ptrdiff_t n = args->positions * args->channels;
    vfloat total = {0};
    for (ptrdiff_t i = 0; i < n; i++) {
        vfloat y = args->dense[i];
        total += y * args->output[i];
        if (args->gradient) args->gradient[i] = weigh(args->weight, y, args->weight);
    }
    return total;
}

#endif
