/* Activation functions and their derivatives, element by element.
 *
 * One formula a function, in `activate` and `activation_slope`; the loops around them
 * are made per function, so that inside a loop the choice is a constant. */
#ifndef TC_ACTIVATIONS_H
#define TC_ACTIVATIONS_H

#include "../activation_kind.h"
#include "math.h"

/* Klambauer et al., Self-normalizing neural networks (2017). */
#define SELU_SCALE 1.05070098f
#define SELU_ALPHA 1.67326324f
#define GELU_SCALE 0.797884561f /* sqrt(2 / pi) */
#define GELU_CUBIC 0.044715f

ALWAYS_INLINE int activation_parameter_count(int function) {
    switch (function) {
    case TC_RELU: return 3;
    case TC_LEAKY_RELU:
    case TC_ELU:
    case TC_CELU:
    case TC_SOFT_SHRINK:
    case TC_HARD_SHRINK:
    case TC_SQUAREPLUS: return 1;
    default: return 0;
    }
}

/* f(x).  A literal `function` leaves one formula.  Softmax is none of these: x. */
ALWAYS_INLINE vfloat activate(const int function, const float *parameters, vfloat x) {
    const vfloat zero = {0};
    switch (function) {
    case TC_RELU: {
        vfloat below = parameters[0] != 0 ? parameters[0] * (x - parameters[2]) : zero;
        /* v_min(max_value, NaN) is NaN. */
        return v_select(v_ge(v_set1(parameters[2]), x), below, v_min(v_set1(parameters[1]), x));
    }
    case TC_SIGMOID: return v_sigmoid(x);
    case TC_TANH: return v_tanh(x);
    case TC_LEAKY_RELU: return v_select(v_gt(zero, x), parameters[0] != 0 ? parameters[0] * x : zero, x);
    case TC_ELU: return v_select(v_gt(x, zero), x, parameters[0] * v_expm1(v_min(zero, x)));
    case TC_SELU: return SELU_SCALE * v_select(v_gt(x, zero), x, SELU_ALPHA * v_expm1(v_min(zero, x)));
    case TC_SOFTPLUS: return v_softplus(x);
    case TC_SOFTSIGN: return x / (1.0f + v_abs(x));
    case TC_EXPONENTIAL: return v_exp(x);
    case TC_HARD_SIGMOID: return v_min(v_set1(1.0f), v_max(zero, x * (1.0f / 6) + 0.5f));
    case TC_SILU: return x * v_sigmoid(x);
    case TC_HARD_SILU: return x * v_min(v_set1(1.0f), v_max(zero, x * (1.0f / 6) + 0.5f));
    case TC_GELU: return x * v_normal_cdf(x);
    case TC_GELU_TANH: /* (1 + tanh(u)) / 2 is sigmoid(2u), which keeps small values accurate */
        return x * v_sigmoid(2 * GELU_SCALE * (x + GELU_CUBIC * x * x * x));
    case TC_MISH: {
        /* tanh(log(1 + w)) = n / (n + 2) with n = w (w + 2); 1 from 20 on. */
        vfloat w = v_exp(v_min(v_set1(20.0f), x)), n = w * (w + 2.0f);
        return x * (n / (n + 2.0f));
    }
    case TC_CELU: return v_select(v_gt(x, zero), x, parameters[0] * v_expm1(v_min(zero, x) / parameters[0]));
    case TC_LOG_SIGMOID: return -v_softplus(-x);
    case TC_HARD_TANH: return v_min(v_set1(1.0f), v_max(v_set1(-1.0f), x));
    case TC_TANH_SHRINK: return v_tanh_shrink(x);
    case TC_SOFT_SHRINK: return x - v_max(v_set1(-parameters[0]), v_min(v_set1(parameters[0]), x));
    case TC_HARD_SHRINK: return v_select(v_not_le(v_abs(x), v_set1(parameters[0])), x, zero);
    case TC_SQUAREPLUS: { /* (x + root) / 2; left of 0 in the form that does not cancel */
        vfloat root = v_sqrt(x * x + parameters[0]);
        return v_select(v_gt(zero, x), 0.5f * parameters[0] / (root - x), 0.5f * (x + root));
    }
    case TC_SPARSE_PLUS: {
        vfloat half = 0.5f * (x + 1.0f), inner = v_select(v_ge(x, v_set1(1.0f)), x, half * half);
        return v_select(v_ge(v_set1(-1.0f), x), zero, inner);
    }
    case TC_SPARSE_SIGMOID: return v_min(v_set1(1.0f), v_max(zero, 0.5f * (x + 1.0f)));
    default: return x;
    }
}

/* f'(x) dy, where saved is x or f(x) as activation_saves_input says.  Where f has a
 * corner the derivative is that of its flatter side; where it is 0, so is the result,
 * whatever dy. */
ALWAYS_INLINE vfloat activation_slope(const int function, const float *parameters, vfloat saved, vfloat dy) {
    const vfloat zero = {0}, y = saved;
    vfloat x = saved;
    switch (function) {
    case TC_RELU: {
        vfloat below = parameters[0] != 0 ? parameters[0] * dy : zero, above = dy;
        if (parameters[1] < __builtin_inff()) above = v_select(v_ge(x, v_set1(parameters[1])), zero, dy);
        return v_select(v_gt(x, v_set1(parameters[2])), above, below);
    }
    case TC_SIGMOID: return dy * (y * (1.0f - y));
    case TC_TANH: return dy * (1.0f - y * y);
    case TC_LEAKY_RELU: return v_select(v_gt(x, zero), dy, parameters[0] != 0 ? parameters[0] * dy : zero);
    case TC_ELU:
        if (parameters[0] >= 0) return dy * v_select(v_gt(y, zero), v_set1(1.0f), y + parameters[0]);
        return dy * v_select(v_gt(x, zero), v_set1(1.0f), parameters[0] * v_exp(v_min(zero, x)));
    case TC_SELU: return dy * v_select(v_gt(y, zero), v_set1(SELU_SCALE), y + SELU_SCALE * SELU_ALPHA);
    case TC_SOFTPLUS: return dy * -v_expm1(-y); /* sigmoid(x) = 1 - exp(-y) */
    case TC_SOFTSIGN: {
        vfloat rest = 1.0f - v_abs(y); /* 1 / (1 + |x|) */
        return dy * rest * rest;
    }
    case TC_EXPONENTIAL: return dy * y;
    case TC_HARD_SIGMOID: return v_select(m_and(v_gt(y, zero), v_gt(v_set1(1.0f), y)), dy * (1.0f / 6), zero);
    case TC_SILU: {
        vfloat s = v_sigmoid(x);
        return dy * (s * (1.0f + x * (1.0f - s)));
    }
    case TC_HARD_SILU: {
        vfloat slope = v_select(v_gt(v_set1(3.0f), x), x * (1.0f / 3) + 0.5f, v_set1(1.0f));
        return v_select(v_ge(v_set1(-3.0f), x), zero, dy * slope);
    }
    case TC_GELU: { /* Phi(x) + x phi(x) */
        vfloat bell = v_exp(-0.5f * x * x), half_tail = 0.5f * bell * v_erfcx(v_abs(x) * 0.707106781f);
        vfloat cdf = v_select(v_gt(x, zero), 1.0f - half_tail, half_tail);
        vfloat near = v_min(v_set1(20.0f), v_max(v_set1(-20.0f), x)); /* bell is 0 beyond */
        return dy * (cdf + near * bell * 0.398942280f);
    }
    case TC_GELU_TANH: {
        x = v_min(v_set1(20.0f), v_max(v_set1(-20.0f), x)); /* s is 0 or 1 there */
        vfloat s = v_sigmoid(2 * GELU_SCALE * (x + GELU_CUBIC * x * x * x));
        vfloat inner = 2 * GELU_SCALE * (1.0f + 3 * GELU_CUBIC * x * x);
        return dy * (s * (1.0f + x * (1.0f - s) * inner));
    }
    case TC_MISH: { /* n / (n + 2) + 4 x w (1 + w) / (n + 2)**2 */
        x = v_min(v_set1(20.0f), v_max(v_set1(-104.0f), x));
        vfloat w = v_exp(x), n = w * (w + 2.0f), inverse = 1.0f / (n + 2.0f);
        return dy * ((n + 4.0f * x * w * (1.0f + w) * inverse) * inverse);
    }
    case TC_CELU: return dy * v_select(v_gt(y, zero), v_set1(1.0f), y / parameters[0] + 1.0f);
    case TC_LOG_SIGMOID: return dy * -v_expm1(y);
    case TC_HARD_TANH: return v_select(v_gt(v_set1(1.0f), v_abs(y)), dy, zero);
    case TC_TANH_SHRINK: {
        vfloat t = v_tanh(x);
        return dy * (t * t);
    }
    case TC_SOFT_SHRINK:
    case TC_HARD_SHRINK: return v_select(v_eq(y, zero), zero, dy);
    case TC_SQUAREPLUS: return dy * (y * y / (y * y + 0.25f * parameters[0]));
    case TC_SPARSE_PLUS: return dy * v_min(v_set1(1.0f), v_sqrt(y));
    case TC_SPARSE_SIGMOID: return v_select(m_and(v_gt(y, zero), v_gt(v_set1(1.0f), y)), 0.5f * dy, zero);
    default: return dy;
    }
}

/* A copy of the parameters: results may be stored next to any float, the copy stays in registers. */
#define LOCAL_PARAMETERS \
    float local[TC_MAX_PARAMETERS] = {0}; \
    for (int k = 0; k < activation_parameter_count(function); k++) local[k] = parameters[k];

ALWAYS_INLINE void activate_all(const int function, const float *parameters, const vfloat *x, vfloat *y,
                                ptrdiff_t n) {
    LOCAL_PARAMETERS
    for (ptrdiff_t i = 0; i < n; i++) y[i] = activate(function, local, x[i]);
}

ALWAYS_INLINE void activation_slope_all(const int function, const float *parameters, const vfloat *saved,
                                        const vfloat *dy, vfloat *dx, ptrdiff_t n) {
    LOCAL_PARAMETERS
    for (ptrdiff_t i = 0; i < n; i++) dx[i] = activation_slope(function, local, saved[i], dy[i]);
}
#undef LOCAL_PARAMETERS

/* The element-wise functions: all but softmax and log_softmax. */
#define ELEMENTWISE(X) \
    X(TC_LINEAR) X(TC_RELU) X(TC_SIGMOID) X(TC_TANH) X(TC_LEAKY_RELU) X(TC_ELU) X(TC_SELU) X(TC_SOFTPLUS) \
    X(TC_SOFTSIGN) X(TC_EXPONENTIAL) X(TC_HARD_SIGMOID) X(TC_SILU) X(TC_HARD_SILU) X(TC_GELU) X(TC_GELU_TANH) \
    X(TC_MISH) X(TC_CELU) X(TC_LOG_SIGMOID) X(TC_HARD_TANH) X(TC_TANH_SHRINK) X(TC_SOFT_SHRINK) X(TC_HARD_SHRINK) \
    X(TC_SQUAREPLUS) X(TC_SPARSE_PLUS) X(TC_SPARSE_SIGMOID)

/* The parameters of what nearly every relu is, max(0, x). */
static const float plain_relu[TC_MAX_PARAMETERS] = {0, __builtin_inff(), 0};

/* x, y [n]: y overwritten, may be x. */
static void activation_forward(int function, const float *parameters, const vfloat *x, vfloat *y, ptrdiff_t n) {
    if (function == TC_RELU && !activation_saves_input(function, parameters)) {
        for (ptrdiff_t i = 0; i < n; i++) y[i] = activate(TC_RELU, plain_relu, x[i]);
        return;
    }
    switch (function) {
#define X(f) \
    case f: activate_all(f, parameters, x, y, n); break;
        ELEMENTWISE(X)
#undef X
    }
}

/* saved, dy, dx [n]: dx overwritten, may be dy or saved.  saved: the input or the
 * output of the function, as activation_saves_input says. */
static void activation_backward(int function, const float *parameters, const vfloat *saved, const vfloat *dy,
                                vfloat *dx, ptrdiff_t n) {
    if (function == TC_RELU && !activation_saves_input(function, parameters)) {
        for (ptrdiff_t i = 0; i < n; i++) dx[i] = activation_slope(TC_RELU, plain_relu, saved[i], dy[i]);
        return;
    }
    switch (function) {
#define X(f) \
    case f: activation_slope_all(f, parameters, saved, dy, dx, n); break;
        ELEMENTWISE(X)
#undef X
    }
}
#undef ELEMENTWISE

#endif
