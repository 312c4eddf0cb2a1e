/* exp, log and what follows from them, a vector at a time.
 *
 * The usual scheme: an exact reduction of the argument to a short interval, a
 * minimax polynomial there (fitted by iterated weighted least squares), and an exact
 * scaling back.  Largest errors, measured over random sweeps against double
 * precision: exp 1.0, log 0.9, sigmoid 2.4, tanh 1.5 units in the last place. */
#ifndef TC_MATH_H
#define TC_MATH_H

#include "vector.h"

#define V_INFINITY v_set1(__builtin_inff())
/* ln 2 = LN2_HIGH + LN2_LOW; LN2_HIGH times any exponent is exact. */
#define LN2_HIGH 0.693359375f
#define LN2_LOW -2.12194440e-4f
/* Adding this rounds a float below 2**22 to an integer, held in its lowest bits. */
#define ROUNDER 12582912.0f

/* |a| with the sign of s. */
ALWAYS_INLINE vfloat v_copysign(vfloat a, vfloat s) {
    return (vfloat)(((vint)a & 0x7fffffff) | ((vint)s & INT32_MIN));
}

/* x = n ln 2 + r: returns r; *n as a float. */
ALWAYS_INLINE vfloat exp_reduce(vfloat x, vfloat *n) {
    *n = (x * 1.44269504f + ROUNDER) - ROUNDER;
    return (x - *n * LN2_HIGH) - *n * LN2_LOW;
}

/* exp(r) - 1 for |r| <= ln(2) / 2. */
ALWAYS_INLINE vfloat exp_polynomial(vfloat r) {
    vfloat q = r * 0x1.6a106cp-10f + 0x1.1245d4p-7f;
    q = q * r + 0x1.55593ep-5f;
    q = q * r + 0x1.555482p-3f;
    q = q * r + 0x1.fffffcp-2f;
    return r + r * r * q;
}

/* 2**n for whole n in [-126, 127]. */
ALWAYS_INLINE vfloat power_of_two(vint n) { return (vfloat)(((vuint)n + 127) << 23); }

ALWAYS_INLINE vint whole(vfloat n) { return (vint)(n + ROUNDER) - 0x4b400000; }

/* Overflows to infinity, underflows gradually to 0. */
ALWAYS_INLINE vfloat v_exp(vfloat x) {
    /* v_min and v_max pass on a second argument that is NaN. */
    x = v_min(v_set1(89.0f), v_max(v_set1(-104.0f), x));
    vfloat n, r = exp_reduce(x, &n), p = 1.0f + exp_polynomial(r);
#if LANES == 16 && defined(__AVX512F__)
    return (vfloat)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    /* In two steps: the exponents of results reach from -150 to 128. */
    vint k = whole(n), half = k >> 1;
    return p * power_of_two(half) * power_of_two(k - half);
#endif
}

ALWAYS_INLINE vfloat v_expm1(vfloat x) {
    x = v_min(v_set1(89.0f), v_max(v_set1(-25.0f), x));
    vfloat n, p = exp_polynomial(exp_reduce(x, &n));
    /* 2**n (1 + p) - 1, halved on the way: 2**128 is no float. */
    vfloat s = power_of_two(whole(n) - 1);
    return 2.0f * (s * p + (s - 0.5f));
}

/* exponent ln 2 + log(1 + f) + tail, for 1 + f in [sqrt(1/2), sqrt(2)]. */
ALWAYS_INLINE vfloat log_polynomial(vfloat f, vfloat exponent, vfloat tail) {
    vfloat q = f * -0x1.3917fap-4f + 0x1.05b3a4p-3f;
    q = q * f - 0x1.0d9ca6p-3f;
    q = q * f + 0x1.22cff4p-3f;
    q = q * f - 0x1.546f00p-3f;
    q = q * f + 0x1.99a058p-3f;
    q = q * f - 0x1.000232p-2f;
    q = q * f + 0x1.555554p-2f;
    vfloat square = f * f;
    vfloat rest = f * square * q + (exponent * LN2_LOW + tail);
    rest = rest - 0.5f * square;
    return exponent * LN2_HIGH + (f + rest);
}

/* A positive normal x = 2**exponent (1 + f). */
ALWAYS_INLINE vfloat log_reduce(vfloat x, vfloat *exponent) {
    const uint32_t sqrt_half = 0x3f3504f3;
    vint e = (vint)((vuint)x - sqrt_half) >> 23;
    *exponent = v_from_int(e);
    return (vfloat)((vuint)x - ((vuint)e << 23)) - 1.0f;
}

/* log(0) is minus infinity, of a negative number NaN. */
ALWAYS_INLINE vfloat v_log(vfloat x) {
    vmask tiny = v_gt(v_set1(0x1p-126f), x);
    vfloat exponent, f = log_reduce(v_select(tiny, x * 0x1p23f, x), &exponent);
    exponent -= v_select(tiny, v_set1(23.0f), (vfloat){0});
    vfloat y = log_polynomial(f, exponent, (vfloat){0});
    vfloat special = v_select(v_gt((vfloat){0}, x), v_set1(__builtin_nanf("")), x);
    special = v_select(v_eq(x, (vfloat){0}), -V_INFINITY, special);
    return v_select(m_and(v_gt(x, (vfloat){0}), v_gt(V_INFINITY, x)), y, special);
}

/* log(1 + x), exact for small x. */
ALWAYS_INLINE vfloat v_log1p(vfloat x) {
    /* What rounding took from u, by the order of the addends. */
    vfloat u = 1.0f + x;
    vfloat lost = v_select(v_gt(x, v_set1(1.0f)), 1.0f - (u - x), x - (u - 1.0f));
    vfloat exponent, f = log_reduce(u, &exponent);
    vfloat y = log_polynomial(f, exponent, lost / u);
    vfloat special = v_select(v_gt((vfloat){0}, u), v_set1(__builtin_nanf("")), u);
    special = v_select(v_eq(u, (vfloat){0}), -V_INFINITY, special);
    return v_select(m_and(v_gt(u, (vfloat){0}), v_gt(V_INFINITY, u)), y, special);
}

/* x - tanh(x) for |x| <= 0.55. */
ALWAYS_INLINE vfloat tanh_polynomial(vfloat x) {
    vfloat square = x * x;
    vfloat q = square * -0x1.9ab1b4p-8f + 0x1.5927f4p-6f;
    q = q * square - 0x1.b92616p-5f;
    q = q * square + 0x1.110d18p-3f;
    q = q * square - 0x1.55554ap-2f;
    return -(x * square * q);
}

ALWAYS_INLINE vfloat v_tanh(vfloat x) {
    vfloat t = v_abs(x), far = 1.0f - 2.0f / (v_exp(2.0f * t) + 1.0f);
    return v_select(v_gt(v_set1(0.55f), t), x - tanh_polynomial(x), v_copysign(far, x));
}

/* x - tanh(x), which does not cancel near 0. */
ALWAYS_INLINE vfloat v_tanh_shrink(vfloat x) {
    return v_select(v_gt(v_set1(0.55f), v_abs(x)), tanh_polynomial(x), x - v_tanh(x));
}

ALWAYS_INLINE vfloat v_sigmoid(vfloat x) {
    vfloat e = v_exp(-v_abs(x));
    return v_select(v_gt((vfloat){0}, x), e, v_set1(1.0f)) / (1.0f + e);
}

/* log(1 + exp(x)). */
ALWAYS_INLINE vfloat v_softplus(vfloat x) { return v_max((vfloat){0}, x) + v_log1p(v_exp(-v_abs(x))); }

/* cos(2 pi t) for 0 <= t < 1: the sine of the angle from the nearer half turn's quarter, by its series. */
ALWAYS_INLINE vfloat v_cos_turn(vfloat t) {
    vfloat z = 6.28318531f * (v_abs(t - 0.5f) - 0.25f), square = z * z;
    vfloat q = square * -2.50521084e-8f + 2.75573192e-6f;
    q = q * square - 1.98412698e-4f;
    q = q * square + 8.33333333e-3f;
    q = q * square - 1.66666667e-1f;
    return z + z * square * q;
}

/* exp(t * t) * (1 - erf(t)) for t >= 0: 1 / (1 + t/2) times a polynomial in that. */
ALWAYS_INLINE vfloat v_erfcx(vfloat t) {
    vfloat u = 1.0f / (1.0f + 0.5f * t), v = u - 0.5f;
    vfloat q = v * 0x1.5af2cep-5f - 0x1.38da04p-6f;
    q = q * v - 0x1.382bd0p-4f;
    q = q * v + 0x1.c515a6p-5f;
    q = q * v + 0x1.908f3cp-4f;
    q = q * v - 0x1.a94038p-4f;
    q = q * v - 0x1.604ccep-3f;
    q = q * v + 0x1.2a8c2ep-3f;
    q = q * v + 0x1.1e2dc2p-1f;
    q = q * v + 0x1.5fd384p-1f;
    q = q * v + 0x1.058672p-1f;
    return u * q;
}

ALWAYS_INLINE vfloat v_erf(vfloat x) {
    vfloat t = v_abs(x), square = x * x;
    vfloat q = square * 0x1.496a2cp-14f - 0x1.a3f6fep-11f;
    q = q * square + 0x1.5405b2p-8f;
    q = q * square - 0x1.b7f90cp-6f;
    q = q * square + 0x1.ce2cf8p-4f;
    q = q * square - 0x1.81273ep-2f;
    q = q * square + 0x1.20dd74p+0f;
    vfloat far = 1.0f - v_exp(-square) * v_erfcx(t);
    return v_select(v_gt(v_set1(1.0f), t), x * q, v_copysign(far, x));
}

/* The normal distribution function; accurate relative to itself where it is small. */
ALWAYS_INLINE vfloat v_normal_cdf(vfloat x) {
    vfloat half_tail = 0.5f * v_exp(-0.5f * x * x) * v_erfcx(v_abs(x) * 0.707106781f);
    return v_select(v_gt(x, (vfloat){0}), 1.0f - half_tail, half_tail);
}

#endif
