/* Gradient sums and weight updates over plain arrays of any length at any address.
 *
 * What is not a whole vector is copied into one and goes through the same code, so
 * that a weight's new value does not depend on where it lies. */
#ifndef TC_OPTIMIZERS_H
#define TC_OPTIMIZERS_H

#include "../tinyconv.h"
#include "vector.h"

/* slots (count, stride), g [n]: g[i] = slots[0][i] + slots[1][i] + ..., in that order; overwritten. */
static void sum_slots(const float *slots, ptrdiff_t stride, ptrdiff_t count, ptrdiff_t n, float *g) {
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vfloat sum = {0};
        for (ptrdiff_t s = 0; s < count; s++) sum += v_load(slots + s * stride + i);
        v_store(g + i, sum);
    }
    for (; i < n; i++) {
        float sum = 0;
        for (ptrdiff_t s = 0; s < count; s++) sum += slots[s * stride + i];
        g[i] = sum;
    }
}

/* w -= learning_rate * g. */
static __attribute__((noinline)) void update_sgd(const double *hyper, ptrdiff_t n, float *w, const float *g) {
    const vfloat rate = v_set1((float)hyper[0]);
    for (ptrdiff_t i = 0; i < n; i += LANES) v_store(w + i, v_load(w + i) - rate * v_load(g + i));
}

/* m = momentum * m - learning_rate * g;  w += m, or w += momentum * m - learning_rate * g. */
static __attribute__((noinline)) void update_momentum(const double *hyper, ptrdiff_t n, float *w, const float *g,
                                                      float *m) {
    const vfloat rate = v_set1((float)hyper[0]), momentum = v_set1((float)hyper[1]);
    const int nesterov = hyper[2] != 0;
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        vfloat step = rate * v_load(g + i), speed = v_fma(momentum, v_load(m + i), -step);
        v_store(m + i, speed);
        v_store(w + i, v_load(w + i) + (nesterov ? v_fma(momentum, speed, -step) : speed));
    }
}

/* m += (g - m) (1 - beta_1);  v += (g g - v) (1 - beta_2);  w -= m alpha / (sqrt(v) + epsilon). */
static __attribute__((noinline)) void update_adam(const double *hyper, ptrdiff_t n, float *w, const float *g,
                                                  float *first, float *second) {
    const vfloat alpha = v_set1((float)hyper[0]), epsilon = v_set1((float)hyper[3]);
    const vfloat rate_1 = v_set1((float)(1 - hyper[1])), rate_2 = v_set1((float)(1 - hyper[2]));
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        vfloat d = v_load(g + i), m = v_load(first + i), v = v_load(second + i);
        m += (d - m) * rate_1;
        v += (d * d - v) * rate_2;
        v_store(first + i, m);
        v_store(second + i, v);
        v_store(w + i, v_load(w + i) - m * alpha / (v_sqrt(v) + epsilon));
    }
}

/* As adam, divided by sqrt(the largest v so far). */
static __attribute__((noinline)) void update_amsgrad(const double *hyper, ptrdiff_t n, float *w, const float *g,
                                                     float *first, float *second, float *largest) {
    const vfloat alpha = v_set1((float)hyper[0]), epsilon = v_set1((float)hyper[3]);
    const vfloat rate_1 = v_set1((float)(1 - hyper[1])), rate_2 = v_set1((float)(1 - hyper[2]));
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        vfloat d = v_load(g + i), m = v_load(first + i), v = v_load(second + i);
        m += (d - m) * rate_1;
        v += (d * d - v) * rate_2;
        vfloat most = v_max(v_load(largest + i), v);
        v_store(first + i, m);
        v_store(second + i, v);
        v_store(largest + i, most);
        v_store(w + i, v_load(w + i) - m * alpha / (v_sqrt(most) + epsilon));
    }
}

/* v = rho v + (1 - rho) g g;  step = learning_rate g / sqrt(v + epsilon);  w -= step.
 * With speeds, m = momentum m + step and w -= m.  With means, a = rho a + (1 - rho) g
 * and v - a a, which rounding must not make negative, takes the place of v in the root. */
ALWAYS_INLINE void update_rmsprop(const double *hyper, ptrdiff_t n, float *w, const float *g, float *squares,
                                  float *speeds, float *means) {
    const vfloat rate = v_set1((float)hyper[0]), rho = v_set1((float)hyper[1]);
    const vfloat rest = v_set1((float)(1 - hyper[1])), momentum = v_set1((float)hyper[2]);
    const vfloat epsilon = v_set1((float)hyper[3]), zero = {0};
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        vfloat d = v_load(g + i), v = v_fma(rho, v_load(squares + i), rest * (d * d));
        v_store(squares + i, v);
        if (means) {
            vfloat a = v_fma(rho, v_load(means + i), rest * d);
            v_store(means + i, a);
            v = v_max(zero, v_fma(-a, a, v));
        }
        vfloat step = rate * d / v_sqrt(v + epsilon);
        if (speeds) {
            step = v_fma(momentum, v_load(speeds + i), step);
            v_store(speeds + i, step);
        }
        v_store(w + i, v_load(w + i) - step);
    }
}

static __attribute__((noinline)) void update_rmsprop_plain(const double *hyper, ptrdiff_t n, float *w, const float *g,
                                                           float *squares) {
    update_rmsprop(hyper, n, w, g, squares, NULL, NULL);
}

static __attribute__((noinline)) void update_rmsprop_any(const double *hyper, ptrdiff_t n, float *w, const float *g,
                                                         float *squares, float *speeds, float *means) {
    update_rmsprop(hyper, n, w, g, squares, speeds, means);
}

/* m += (g - m) (1 - beta_1);  u = max(beta_2 u, |g|);  w -= alpha m / (u + epsilon). */
static __attribute__((noinline)) void update_adamax(const double *hyper, ptrdiff_t n, float *w, const float *g,
                                                    float *first, float *norms) {
    const vfloat alpha = v_set1((float)hyper[0]), epsilon = v_set1((float)hyper[3]);
    const vfloat rate_1 = v_set1((float)(1 - hyper[1])), beta_2 = v_set1((float)hyper[2]);
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        vfloat d = v_load(g + i), m = v_load(first + i), u = v_max(beta_2 * v_load(norms + i), v_abs(d));
        m += (d - m) * rate_1;
        v_store(first + i, m);
        v_store(norms + i, u);
        v_store(w + i, v_load(w + i) - alpha * m / (u + epsilon));
    }
}

/* m, v as adam;  w -= (momentum_rate m + gradient_rate g) / (sqrt(velocity_scale v) + epsilon). */
static __attribute__((noinline)) void update_nadam(const double *hyper, ptrdiff_t n, float *w, const float *g,
                                                   float *first, float *second) {
    const vfloat of_m = v_set1((float)hyper[0]), of_g = v_set1((float)hyper[1]);
    const vfloat rate_1 = v_set1((float)(1 - hyper[2])), rate_2 = v_set1((float)(1 - hyper[3]));
    const vfloat scale = v_set1((float)hyper[4]), epsilon = v_set1((float)hyper[5]);
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        vfloat d = v_load(g + i), m = v_load(first + i), v = v_load(second + i);
        m += (d - m) * rate_1;
        v += (d * d - v) * rate_2;
        v_store(first + i, m);
        v_store(second + i, v);
        v_store(w + i, v_load(w + i) - v_fma(of_m, m, of_g * d) / (v_sqrt(scale * v) + epsilon));
    }
}

/* a += g g;  w -= learning_rate g / sqrt(a + epsilon). */
static __attribute__((noinline)) void update_adagrad(const double *hyper, ptrdiff_t n, float *w, const float *g,
                                                     float *sums) {
    const vfloat rate = v_set1((float)hyper[0]), epsilon = v_set1((float)hyper[1]);
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        vfloat d = v_load(g + i), a = v_load(sums + i) + d * d;
        v_store(sums + i, a);
        v_store(w + i, v_load(w + i) - rate * d / v_sqrt(a + epsilon));
    }
}

/* a = rho a + (1 - rho) g g;  d = -g sqrt(b + epsilon) / sqrt(a + epsilon);
 * b = rho b + (1 - rho) d d;  w += learning_rate d. */
static __attribute__((noinline)) void update_adadelta(const double *hyper, ptrdiff_t n, float *w, const float *g,
                                                      float *squares, float *deltas) {
    const vfloat rate = v_set1((float)hyper[0]), rho = v_set1((float)hyper[1]);
    const vfloat rest = v_set1((float)(1 - hyper[1])), epsilon = v_set1((float)hyper[2]);
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        vfloat d = v_load(g + i), b = v_load(deltas + i);
        vfloat a = v_fma(rho, v_load(squares + i), rest * (d * d));
        vfloat step = v_sqrt(b + epsilon) * d / v_sqrt(a + epsilon);
        v_store(squares + i, a);
        v_store(deltas + i, v_fma(rho, b, rest * (step * step)));
        v_store(w + i, v_load(w + i) - rate * step);
    }
}

/* n is a multiple of LANES. */
static void update_vectors(int kind, const double *hyper, ptrdiff_t n, float *w, const float *g, float *s0,
                           float *s1, float *s2) {
    switch (kind) {
    case TC_OPTIMIZER_SGD: update_sgd(hyper, n, w, g); break;
    case TC_OPTIMIZER_MOMENTUM: update_momentum(hyper, n, w, g, s0); break;
    case TC_OPTIMIZER_ADAM: update_adam(hyper, n, w, g, s0, s1); break;
    case TC_OPTIMIZER_AMSGRAD: update_amsgrad(hyper, n, w, g, s0, s1, s2); break;
    case TC_OPTIMIZER_RMSPROP: update_rmsprop_plain(hyper, n, w, g, s0); break;
    case TC_OPTIMIZER_RMSPROP_MOMENTUM: update_rmsprop_any(hyper, n, w, g, s0, s1, NULL); break;
    case TC_OPTIMIZER_RMSPROP_CENTERED: update_rmsprop_any(hyper, n, w, g, s0, NULL, s1); break;
    case TC_OPTIMIZER_RMSPROP_CENTERED_MOMENTUM: update_rmsprop_any(hyper, n, w, g, s0, s1, s2); break;
    case TC_OPTIMIZER_ADAMAX: update_adamax(hyper, n, w, g, s0, s1); break;
    case TC_OPTIMIZER_NADAM: update_nadam(hyper, n, w, g, s0, s1); break;
    case TC_OPTIMIZER_ADAGRAD: update_adagrad(hyper, n, w, g, s0); break;
    case TC_OPTIMIZER_ADADELTA: update_adadelta(hyper, n, w, g, s0, s1); break;
    }
}

/* w, g, s0, s1, s2 [n]: w and the states the rule has are updated; others may be NULL.
 * kind: enum tc_optimizer, which tells what hyper holds. */
static void update_weights(int kind, const double *hyper, ptrdiff_t n, float *w, const float *g, float *s0,
                           float *s1, float *s2) {
    const ptrdiff_t whole_vectors = n / LANES * LANES, rest = n - whole_vectors;
    if (whole_vectors) update_vectors(kind, hyper, whole_vectors, w, g, s0, s1, s2);
    if (!rest) return;
    float padded[5][LANES] = {{0}};
    float *const source[5] = {w + whole_vectors, NULL, s0 ? s0 + whole_vectors : NULL, s1 ? s1 + whole_vectors : NULL,
                              s2 ? s2 + whole_vectors : NULL};
    const size_t bytes = (size_t)rest * sizeof(float);
    memcpy(padded[1], g + whole_vectors, bytes);
    for (int k = 0; k < 5; k++)
        if (source[k]) memcpy(padded[k], source[k], bytes);
    update_vectors(kind, hyper, LANES, padded[0], padded[1], padded[2], padded[3], padded[4]);
    for (int k = 0; k < 5; k++)
        if (source[k]) memcpy(source[k], padded[k], bytes);
}

#endif
