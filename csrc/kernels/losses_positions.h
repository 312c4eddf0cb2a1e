/* Losses of the channels of a position together: the categorical cross-entropies, for dense and
 * for sparse labels (`sparse` is a constant in every loop), the hinge and the cosine similarity. */
#ifndef TC_LOSSES_POSITIONS_H
#define TC_LOSSES_POSITIONS_H

#include "loss_args.h"

/* Label c of position p, smoothed: label * keep + spread.  Of sparse labels parameters[0] is the
 * class whose positions do not count: they have no label. */
ALWAYS_INLINE vfloat loss_label(const tc_loss_args *args, ptrdiff_t p, ptrdiff_t c, float keep, float spread,
                                const int sparse) {
    if (!sparse) return args->dense[p * args->channels + c] * keep + spread;
    const float one = (float)c == args->parameters[0] ? 0.0f : 1.0f;
    return v_select(vi_eq(args->sparse[p], vi_set1((int32_t)c)), v_set1(one), (vfloat){0});
}

/* label * value, and 0 where the label is: log(0) of a class that is not asked for does not count. */
ALWAYS_INLINE vfloat label_times(vfloat label, vfloat value) {
    return v_select(v_eq(label, (vfloat){0}), (vfloat){0}, label * value);
}

/* sum(y) log(sum(exp(x))) - sum(y x); gradient softmax(x) sum(y) - y. */
ALWAYS_INLINE vfloat softmax_loss(const tc_loss_args *args, const int sparse) {
    const ptrdiff_t positions = args->positions, channels = args->channels;
    const float keep = 1.0f - args->label_smoothing, spread = args->label_smoothing / (float)channels;
    const vfloat weight = args->weight, scale = weight / (float)positions;
    vfloat total = {0};
    for (ptrdiff_t p = 0; p < positions; p++) {
        const vfloat *x = args->output + p * channels;
        vfloat *g = args->gradient ? args->gradient + p * channels : NULL;
        vfloat m = softmax_max(x, channels), sum = {0}, mass = {0}, dot = {0};
        for (ptrdiff_t c = 0; c < channels; c++) {
            vfloat d = x[c] - m, e = softmax_exp(d), y = loss_label(args, p, c, keep, spread, sparse);
            sum += e;
            mass += y;
            dot += label_times(y, d);
            if (g) g[c] = e;
        }
        total += mass * v_log(sum) - dot;
        if (!g) continue;
        vfloat inverse = mass / sum;
        for (ptrdiff_t c = 0; c < channels; c++)
            g[c] = weigh(weight, g[c] * inverse - loss_label(args, p, c, keep, spread, sparse), scale);
    }
    return total / (float)positions;
}

/* The loss of a class whose share of the probability is q, with the label y; *slope: its derivative
 * with respect to q, 0 where q is clipped. */
enum { ENTROPY, FOCAL };

ALWAYS_INLINE vfloat class_loss(const tc_loss_args *args, const int kind, vfloat q, vfloat y, vfloat *slope) {
    vfloat p = clipped(q), logarithm = v_log(p);
    if (kind == ENTROPY) {
        *slope = v_select(unclipped(q), -y / q, (vfloat){0});
        return -label_times(y, logarithm);
    }
    const float gamma = args->parameters[0], alpha = args->parameters[1];
    vfloat miss = 1.0f - p, factor = power(miss, gamma);
    vfloat rise = gamma * power(miss, gamma - 1.0f) * logarithm - factor / p;
    *slope = v_select(unclipped(q), alpha * y * rise, (vfloat){0});
    return -alpha * factor * label_times(y, logarithm);
}

/* The share that x has of the probability. */
ALWAYS_INLINE vfloat share_of(vfloat x, vfloat m, vfloat sum, const int logits) {
    return (logits ? softmax_exp(x - m) : x) / sum;
}

/* The sum of class_loss over the channels, mean over positions.  Shares are output / sum(output) or,
 * of logits, softmax(output). */
ALWAYS_INLINE vfloat share_loss(const tc_loss_args *args, const int kind, const int logits, const int sparse) {
    const ptrdiff_t positions = args->positions, channels = args->channels;
    const float keep = 1.0f - args->label_smoothing, spread = args->label_smoothing / (float)channels;
    const vfloat weight = args->weight, scale = weight / (float)positions;
    vfloat total = {0};
    for (ptrdiff_t p = 0; p < positions; p++) {
        const vfloat *x = args->output + p * channels;
        vfloat m = logits ? softmax_max(x, channels) : (vfloat){0}, sum = {0}, dot = {0};
        for (ptrdiff_t c = 0; c < channels; c++) sum += logits ? softmax_exp(x[c] - m) : x[c];
        for (ptrdiff_t c = 0; c < channels; c++) {
            vfloat slope, q = share_of(x[c], m, sum, logits), y = loss_label(args, p, c, keep, spread, sparse);
            total += class_loss(args, kind, q, y, &slope);
            /* A NaN share makes the loss NaN, label or not. */
            total += v_select(v_eq(q, q), (vfloat){0}, q);
            dot += slope * q;
        }
        if (!args->gradient) continue;
        vfloat *g = args->gradient + p * channels;
        for (ptrdiff_t c = 0; c < channels; c++) {
            vfloat slope, q = share_of(x[c], m, sum, logits), y = loss_label(args, p, c, keep, spread, sparse);
            class_loss(args, kind, q, y, &slope);
            g[c] = weigh(weight, logits ? (slope - dot) * q : (slope - dot) / sum, scale);
        }
    }
    return total / (float)positions;
}

/* max(0, 1 + max((1 - y) x) - sum(y x)); equal maxima share the gradient. */
static vfloat categorical_hinge_loss(const tc_loss_args *args) {
    const ptrdiff_t positions = args->positions, channels = args->channels;
    const vfloat weight = args->weight, scale = weight / (float)positions, zero = {0}, one = v_set1(1.0f);
    vfloat total = {0};
    for (ptrdiff_t p = 0; p < positions; p++) {
        const vfloat *x = args->output + p * channels, *y = args->dense + p * channels;
        vfloat largest = (one - y[0]) * x[0], own = {0}, equal = {0};
        for (ptrdiff_t c = 0; c < channels; c++) {
            largest = v_max((one - y[c]) * x[c], largest);
            own += y[c] * x[c];
        }
        for (ptrdiff_t c = 0; c < channels; c++)
            equal += v_select(v_eq((one - y[c]) * x[c], largest), one, zero);
        vfloat margin = largest - own + one;
        total += v_max(zero, margin);
        if (!args->gradient) continue;
        vfloat *g = args->gradient + p * channels, share = one / equal;
        for (ptrdiff_t c = 0; c < channels; c++) {
            vfloat other = v_select(v_eq((one - y[c]) * x[c], largest), share * (one - y[c]), zero);
            g[c] = weigh(weight, v_select(v_ge(zero, margin), zero, other - y[c]), scale);
        }
    }
    return total / (float)positions;
}

/* -sum(y x) / (|y| |x|); norms are at least EPSILON. */
static vfloat cosine_loss(const tc_loss_args *args) {
    const ptrdiff_t positions = args->positions, channels = args->channels;
    const vfloat weight = args->weight, scale = weight / (float)positions, low = v_set1(EPSILON);
    vfloat total = {0};
    for (ptrdiff_t p = 0; p < positions; p++) {
        const vfloat *x = args->output + p * channels, *y = args->dense + p * channels;
        vfloat xx = {0}, yy = {0}, xy = {0};
        for (ptrdiff_t c = 0; c < channels; c++) {
            xx += x[c] * x[c];
            yy += y[c] * y[c];
            xy += x[c] * y[c];
        }
        vfloat norm = v_sqrt(xx), of_x = 1.0f / v_max(low, norm), of_y = 1.0f / v_max(low, v_sqrt(yy));
        vfloat similarity = xy * of_x * of_y;
        total -= similarity;
        if (!args->gradient) continue;
        vfloat along = v_select(v_gt(low, norm), (vfloat){0}, similarity * of_x);
        for (ptrdiff_t c = 0; c < channels; c++)
            args->gradient[p * channels + c] = weigh(weight, (along * x[c] - y[c] * of_y) * of_x, scale);
    }
    return total / (float)positions;
}

#endif
