/* Softmax and log-softmax: images in the lanes, or plain rows. */
#ifndef TC_SOFTMAX_H
#define TC_SOFTMAX_H

#include "math.h"

/* exp(x - max): x - max <= 0.  Denormal results, slow on some processors and of no
 * weight beside exp(0), are made 0. */
ALWAYS_INLINE vfloat softmax_exp(vfloat x) { return v_select(v_gt(v_set1(-87.0f), x), (vfloat){0}, v_exp(x)); }

/* x [channels]; the largest.  A NaN may be passed over: it comes back through x - max. */
ALWAYS_INLINE vfloat softmax_max(const vfloat *x, ptrdiff_t channels) {
    vfloat m = x[0];
    for (ptrdiff_t c = 1; c < channels; c++) m = v_max(x[c], m);
    return m;
}

/* x, y [positions][channels]: y overwritten, may be x. */
static void softmax_forward(const vfloat *x, vfloat *y, ptrdiff_t positions, ptrdiff_t channels, int logarithm) {
    for (ptrdiff_t p = 0; p < positions; p++, x += channels, y += channels) {
        vfloat m = softmax_max(x, channels), sum = {0};
        if (logarithm) {
            for (ptrdiff_t c = 0; c < channels; c++) sum += softmax_exp(x[c] - m);
            vfloat log_sum = v_log(sum);
            for (ptrdiff_t c = 0; c < channels; c++) y[c] = (x[c] - m) - log_sum;
        } else {
            for (ptrdiff_t c = 0; c < channels; c++) sum += y[c] = softmax_exp(x[c] - m);
            vfloat inverse = 1.0f / sum;
            for (ptrdiff_t c = 0; c < channels; c++) y[c] *= inverse;
        }
    }
}

/* y (the output), dy, dx [positions][channels]: dx overwritten, may be dy or y. */
static void softmax_backward(const vfloat *y, const vfloat *dy, vfloat *dx, ptrdiff_t positions,
                             ptrdiff_t channels, int logarithm) {
    for (ptrdiff_t p = 0; p < positions; p++, y += channels, dy += channels, dx += channels) {
        vfloat sum = {0};
        if (logarithm) {
            for (ptrdiff_t c = 0; c < channels; c++) sum += dy[c];
            for (ptrdiff_t c = 0; c < channels; c++) dx[c] = dy[c] - v_exp(y[c]) * sum;
        } else {
            for (ptrdiff_t c = 0; c < channels; c++) sum += dy[c] * y[c];
            for (ptrdiff_t c = 0; c < channels; c++) dx[c] = y[c] * (dy[c] - sum);
        }
    }
}

/* Vectors of a plain row of `channels` floats: all whole but perhaps the last. */
ALWAYS_INLINE ptrdiff_t row_part(ptrdiff_t channels, ptrdiff_t c) {
    return channels - c < LANES ? channels - c : LANES;
}

ALWAYS_INLINE vfloat row_load(const float *x, ptrdiff_t channels, ptrdiff_t c, float fill) {
    ptrdiff_t count = row_part(channels, c);
    return count == LANES ? v_load(x + c) : v_load_part(x + c, count, fill);
}

ALWAYS_INLINE void row_store(float *y, ptrdiff_t channels, ptrdiff_t c, vfloat a) {
    ptrdiff_t count = row_part(channels, c);
    if (count == LANES) v_store(y + c, a);
    else v_store_part(y + c, a, count);
}

ALWAYS_INLINE float row_max(const float *x, ptrdiff_t channels) {
    vfloat m = -V_INFINITY;
    for (ptrdiff_t c = 0; c < channels; c += LANES) m = v_max(row_load(x, channels, c, -__builtin_inff()), m);
    return v_max_across(m);
}

/* x, y (rows, channels) floats, rows `stride` floats apart: y overwritten, may be x. */
static void softmax_rows(const float *x, float *y, ptrdiff_t rows, ptrdiff_t channels, ptrdiff_t stride,
                         int logarithm) {
    const float low = -__builtin_inff(); /* exp(low) adds nothing to the sum */
    for (ptrdiff_t r = 0; r < rows; r++, x += stride, y += stride) {
        vfloat m = v_set1(row_max(x, channels)), sum = {0};
        for (ptrdiff_t c = 0; c < channels; c += LANES) {
            vfloat d = row_load(x, channels, c, low) - m, e = softmax_exp(d);
            sum += e;
            row_store(y, channels, c, logarithm ? d : e);
        }
        vfloat total = v_set1(v_sum(sum)), log_total = v_log(total), inverse = 1.0f / total;
        for (ptrdiff_t c = 0; c < channels; c += LANES) {
            vfloat a = row_load(y, channels, c, 0);
            row_store(y, channels, c, logarithm ? a - log_total : a * inverse);
        }
    }
}

#endif
