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

/* n is a multiple of LANES. */
static void update_vectors(int kind, const double *hyper, ptrdiff_t n, float *w, const float *g, float *s0,
                           float *s1) {
    switch (kind) {
    case TC_OPTIMIZER_SGD: update_sgd(hyper, n, w, g); break;
    case TC_OPTIMIZER_MOMENTUM: update_momentum(hyper, n, w, g, s0); break;
    case TC_OPTIMIZER_ADAM: update_adam(hyper, n, w, g, s0, s1); break;
    }
}

/* w, g, s0, s1 [n]: w and the states the rule has are updated; others may be NULL.
 * kind: enum tc_optimizer, which tells what hyper holds. */
static void update_weights(int kind, const double *hyper, ptrdiff_t n, float *w, const float *g, float *s0,
                           float *s1) {
    const ptrdiff_t whole_vectors = n / LANES * LANES, rest = n - whole_vectors;
    if (whole_vectors) update_vectors(kind, hyper, whole_vectors, w, g, s0, s1);
    if (!rest) return;
    float padded[4][LANES] = {{0}};
    float *const source[4] = {w + whole_vectors, NULL, s0 ? s0 + whole_vectors : NULL, s1 ? s1 + whole_vectors : NULL};
    const size_t bytes = (size_t)rest * sizeof(float);
    memcpy(padded[1], g + whole_vectors, bytes);
    for (int k = 0; k < 4; k++)
        if (source[k]) memcpy(padded[k], source[k], bytes);
    update_vectors(kind, hyper, LANES, padded[0], padded[1], padded[2], padded[3]);
    for (int k = 0; k < 4; k++)
        if (source[k]) memcpy(source[k], padded[k], bytes);
}

#endif
