/* Losses and their gradients, images in the lanes.
 *
 * Every loss is one loop over positions and channels, made for dense and for sparse
 * labels: `sparse` is a constant in it. */
#ifndef TC_LOSSES_H
#define TC_LOSSES_H

#include "../tinyconv.h"
#include "softmax.h"

typedef struct tc_loss_args {
    int kind;                      /* enum tc_loss */
    int from_logits;               /* output is what goes into a softmax (sigmoid); else probabilities */
    float label_smoothing;         /* of dense labels */
    ptrdiff_t positions, channels;
    const vfloat *output;          /* [positions][channels] */
    const vfloat *dense;           /* [positions][channels], or NULL */
    const vint *sparse;            /* [positions], or NULL */
    vfloat weight;                 /* sample weight / batch size, 0 in idle lanes */
    vfloat *gradient;              /* [positions][channels]: of the output, overwritten, may be output; or NULL */
    vfloat *loss;                  /* one vector, overwritten: the mean over positions, without the weight */
} tc_loss_args;

/* Keras' epsilon: probabilities are clipped to [EPSILON, 1 - EPSILON]. */
#define EPSILON 1e-7f

/* Label c of position p, smoothed: label * keep + spread. */
ALWAYS_INLINE vfloat loss_label(const tc_loss_args *args, ptrdiff_t p, ptrdiff_t c, float keep, float spread,
                                const int sparse) {
    if (sparse) return v_select(vi_eq(args->sparse[p], vi_set1((int32_t)c)), v_set1(1.0f), (vfloat){0});
    return args->dense[p * args->channels + c] * keep + spread;
}

/* label * value, and 0 where the label is: log(0) of a class that is not asked for does not count. */
ALWAYS_INLINE vfloat label_times(vfloat label, vfloat value) {
    return v_select(v_eq(label, (vfloat){0}), (vfloat){0}, label * value);
}

/* 0 in lanes of weight 0, whatever g is there. */
ALWAYS_INLINE vfloat weigh(vfloat weight, vfloat g, vfloat scale) {
    return v_select(v_eq(weight, (vfloat){0}), (vfloat){0}, g * scale);
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

/* -sum(y log(clip(q / sum(q)))); the gradient through a clipped value is 0. */
ALWAYS_INLINE vfloat probability_loss(const tc_loss_args *args, const int sparse) {
    const ptrdiff_t positions = args->positions, channels = args->channels;
    const float keep = 1.0f - args->label_smoothing, spread = args->label_smoothing / (float)channels;
    const vfloat weight = args->weight, scale = weight / (float)positions;
    const vfloat low = v_set1(EPSILON), high = v_set1(1.0f - EPSILON);
    vfloat total = {0};
    for (ptrdiff_t p = 0; p < positions; p++) {
        const vfloat *q = args->output + p * channels;
        vfloat *g = args->gradient ? args->gradient + p * channels : NULL;
        vfloat sum = {0}, inside = {0};
        for (ptrdiff_t c = 0; c < channels; c++) sum += q[c];
        for (ptrdiff_t c = 0; c < channels; c++) {
            vfloat share = q[c] / sum, y = loss_label(args, p, c, keep, spread, sparse);
            total -= label_times(y, v_log(v_min(high, v_max(low, share))));
            /* A NaN share makes the loss NaN, label or not. */
            total += v_select(v_eq(share, share), (vfloat){0}, share);
            vmask open = m_and(v_ge(share, low), v_ge(high, share));
            inside += v_select(open, y, (vfloat){0});
        }
        if (!g) continue;
        for (ptrdiff_t c = 0; c < channels; c++) {
            vfloat share = q[c] / sum, y = loss_label(args, p, c, keep, spread, sparse);
            vmask open = m_and(v_ge(share, low), v_ge(high, share));
            g[c] = weigh(weight, (inside - v_select(open, y / share, (vfloat){0})) / sum, scale);
        }
    }
    return total / (float)positions;
}

/* log(1 + exp(x)) - x y; gradient sigmoid(x) - y. */
static vfloat sigmoid_loss(const tc_loss_args *args) {
    const ptrdiff_t n = args->positions * args->channels;
    const float keep = 1.0f - args->label_smoothing, spread = 0.5f * args->label_smoothing;
    const vfloat weight = args->weight, scale = weight / (float)n, zero = {0};
    vfloat total = {0};
    for (ptrdiff_t i = 0; i < n; i++) {
        vfloat x = args->output[i], y = loss_label(args, 0, i, keep, spread, 0), e = v_exp(-v_abs(x));
        total += (v_max(zero, x) - x * y) + v_log1p(e);
        if (!args->gradient) continue;
        vfloat s = v_select(v_gt(zero, x), e, v_set1(1.0f)) / (1.0f + e);
        args->gradient[i] = weigh(weight, s - y, scale);
    }
    return total / (float)n;
}

/* -y log(p) - (1 - y) log(1 - p) of clipped p; the gradient through a clipped value is 0. */
static vfloat binary_probability_loss(const tc_loss_args *args) {
    const ptrdiff_t n = args->positions * args->channels;
    const float keep = 1.0f - args->label_smoothing, spread = 0.5f * args->label_smoothing;
    const vfloat weight = args->weight, scale = weight / (float)n;
    const vfloat low = v_set1(EPSILON), high = v_set1(1.0f - EPSILON);
    vfloat total = {0};
    for (ptrdiff_t i = 0; i < n; i++) {
        vfloat q = args->output[i], y = loss_label(args, 0, i, keep, spread, 0);
        vfloat p = v_min(high, v_max(low, q));
        total -= y * v_log(p) + (1.0f - y) * v_log(1.0f - p);
        if (!args->gradient) continue;
        vmask open = m_and(v_ge(q, low), v_ge(high, q));
        args->gradient[i] = weigh(weight, v_select(open, (p - y) / (p * (1.0f - p)), (vfloat){0}), scale);
    }
    return total / (float)n;
}

static vfloat squared_loss(const tc_loss_args *args) {
    const ptrdiff_t n = args->positions * args->channels;
    const vfloat weight = args->weight, scale = 2.0f * weight / (float)n;
    vfloat total = {0};
    for (ptrdiff_t i = 0; i < n; i++) {
        vfloat d = args->output[i] - args->dense[i];
        total += d * d;
        if (args->gradient) args->gradient[i] = weigh(weight, d, scale);
    }
    return total / (float)n;
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

/* *args->loss and, where asked for, args->gradient: both overwritten. */
static void loss(const tc_loss_args *args) {
    switch (args->kind) {
    case TC_LOSS_CATEGORICAL_CROSSENTROPY:
        *args->loss = args->from_logits ? softmax_loss(args, 0) : probability_loss(args, 0);
        break;
    case TC_LOSS_SPARSE_CATEGORICAL_CROSSENTROPY:
        *args->loss = args->from_logits ? softmax_loss(args, 1) : probability_loss(args, 1);
        break;
    case TC_LOSS_BINARY_CROSSENTROPY:
        *args->loss = args->from_logits ? sigmoid_loss(args) : binary_probability_loss(args);
        break;
    case TC_LOSS_MEAN_SQUARED_ERROR: *args->loss = squared_loss(args); break;
    default: *args->loss = inner_product_loss(args); break;
    }
}

#undef EPSILON
#endif
