/* What every loss is given, and what they share. */
#ifndef TC_LOSS_ARGS_H
#define TC_LOSS_ARGS_H

#include "../tinyconv.h"
#include "softmax.h"

typedef struct tc_loss_args {
    int kind;                      /* enum tc_loss */
    int from_logits;               /* output is what goes into a softmax (sigmoid); else probabilities */
    float label_smoothing;         /* of dense labels */
    const float *parameters;       /* the kind's own */
    ptrdiff_t positions, channels;
    const vfloat *output;          /* [positions][channels] */
    const vfloat *dense;           /* [positions][channels], or NULL */
    const vint *sparse;            /* [positions], or NULL */
    vfloat weight;                 /* sample weight * scale / batch size, 0 in idle lanes */
    vfloat *gradient;              /* [positions][channels]: of the output, overwritten, may be output; or NULL */
    vfloat *loss;                  /* one vector, overwritten: the mean over positions, without the weight */
} tc_loss_args;

/* Keras' epsilon: probabilities are clipped to [EPSILON, 1 - EPSILON]. */
#define EPSILON 1e-7f

/* 0 in lanes of weight 0, whatever g is there. */
ALWAYS_INLINE vfloat weigh(vfloat weight, vfloat g, vfloat scale) {
    return v_select(v_eq(weight, (vfloat){0}), (vfloat){0}, g * scale);
}

/* Whether share lies in [EPSILON, 1 - EPSILON]. */
ALWAYS_INLINE vmask unclipped(vfloat share) {
    return m_and(v_ge(share, v_set1(EPSILON)), v_ge(v_set1(1.0f - EPSILON), share));
}

ALWAYS_INLINE vfloat clipped(vfloat share) {
    return v_min(v_set1(1.0f - EPSILON), v_max(v_set1(EPSILON), share));
}

/* base ** exponent of base >= 0, the usual exponents exactly. */
ALWAYS_INLINE vfloat power(vfloat base, float exponent) {
    if (exponent == 2.0f) return base * base;
    if (exponent == 1.0f) return base;
    if (exponent == 0.0f) return v_set1(1.0f);
    return v_exp(exponent * v_log(base));
}

#endif
