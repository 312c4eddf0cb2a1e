/* Dense layers with images in the lanes.
 *
 * Forward and backward-data are the correlation tile with one pixel.  The gradient
 * of the weights sums over images, which are the lanes: instead of adding lanes up
 * for every weight, dz is turned so that units lie in the lanes, and each image is
 * one outer product, x (a scalar an input) by dz (a vector of units). */
#ifndef TC_DENSE_H
#define TC_DENSE_H

#include "conv2d.h"

static void dense(const float *x, ptrdiff_t inputs, ptrdiff_t units, const float *packed, const float *bias,
                  int relu, float *y) {
    tc_run run = {0, 0, inputs};
    correlate_tile_args args = {.runs = &run, .run_count = 1, .x = (const vfloat *)x, .relu = relu};
    for (ptrdiff_t u = 0; u < units;) {
        int width = tile_filters(units - u, TILE_FILTERS_ONE_PIXEL);
        args.weights = packed + u * inputs;
        args.bias = bias ? bias + u : NULL;
        args.y = (vfloat *)y + u;
        correlate_tiles[width][1](&args);
        u += width;
    }
}

/* Inputs K by vectors of units U: dw[k][u] += sum over images of x[k][image] * turned[image][u].
 * turned rows are `stride` floats apart; the last `spare` units of the last vector
 * do not exist in dw. */
ALWAYS_INLINE void dense_gradient_tile(const float *x, const float *turned, ptrdiff_t stride, float *dw,
                                       ptrdiff_t units, ptrdiff_t spare, const int K, const int U) {
    vfloat a[8][4];
    UNROLL for (int k = 0; k < K; k++)
        UNROLL for (int u = 0; u < U; u++) a[k][u] = (vfloat){0};
    for (int image = 0; image < LANES; image++) {
        vfloat d[4];
        UNROLL for (int u = 0; u < U; u++) d[u] = *(const vfloat *)(turned + image * stride + u * LANES);
        UNROLL for (int k = 0; k < K; k++) {
            vfloat in = v_set1(x[k * LANES + image]);
            UNROLL for (int u = 0; u < U; u++) a[k][u] += in * d[u];
        }
    }
    UNROLL for (int k = 0; k < K; k++)
        UNROLL for (int u = 0; u < U; u++) {
            float *w = dw + k * units + u * LANES;
            if (u < U - 1 || !spare) {
                v_store(w, v_load(w) + a[k][u]);
            } else {
                float rest[LANES];
                memcpy(rest, &a[k][u], sizeof rest);
                for (ptrdiff_t i = 0; i < LANES - spare; i++) w[i] += rest[i];
            }
        }
}

#define DENSE_TILE(U) \
    static void dense_gradient_##U(const float *x, const float *turned, ptrdiff_t stride, float *dw, \
                                   ptrdiff_t inputs, ptrdiff_t units, ptrdiff_t spare) { \
        ptrdiff_t k = 0; \
        for (; k + 4 <= inputs; k += 4) \
            dense_gradient_tile(x + k * LANES, turned, stride, dw + k * units, units, spare, 4, U); \
        for (; k < inputs; k++) \
            dense_gradient_tile(x + k * LANES, turned, stride, dw + k * units, units, spare, 1, U); \
    }
DENSE_TILE(1)
DENSE_TILE(2)

/* scratch: room for units rounded up to whole vectors, for every image. */
static void dense_weight_gradient(const float *x, const float *dz, ptrdiff_t inputs, ptrdiff_t units, float *dw,
                                  float *scratch) {
    ptrdiff_t vectors = (units + LANES - 1) / LANES, stride = vectors * LANES;
    for (ptrdiff_t u = 0; u < stride; u++)
        for (int image = 0; image < LANES; image++)
            scratch[image * stride + u] = u < units ? dz[u * LANES + image] : 0.0f;
    for (ptrdiff_t v = 0; v < vectors; v += 2) {
        int pair = v + 1 < vectors;
        ptrdiff_t spare = v + 1 + pair == vectors ? stride - units : 0;
        (pair ? dense_gradient_2 : dense_gradient_1)(x, scratch + v * LANES, stride, dw + v * LANES, inputs, units,
                                                     spare);
    }
}

#endif
