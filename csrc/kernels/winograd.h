/* Winograd's minimal filtering along rows, images in the lanes.
 *
 * m neighbouring outputs of an r-tap filter need n = m + r - 1 multiplications, not
 * m * r: the n inputs and the r taps are both taken to n points (of a polynomial whose
 * coefficients they are), multiplied there, and taken back to m outputs.
 *
 *     y = A' [ (G g) * (B' d) ]              forward, for n inputs d and r taps g
 *     dg = G' [ (A dy) * (B' d) ]            its gradient with respect to the taps
 *
 * Summed over channels and kernel rows the products are n correlations of a kernel one
 * column wide, which conv2d.h does; here are the three transforms around them.
 * Source: S. Winograd, Arithmetic Complexity of Computations (1980); for networks
 * Lavin and Gray, Fast Algorithms for Convolutional Neural Networks (2016).
 *
 * Shapes: a row of x [columns][c][lane], its points u [n][tiles][c][lane]. */
#ifndef TC_WINOGRAD_KERNELS_H
#define TC_WINOGRAD_KERNELS_H

#include "../kernels.h"
#include "../winograd_tables.h"
#include "tiles.h"
#include "vector.h"

/* u[k] = sum over j of matrix[k][j] x[j]: zeros of a constant matrix cost nothing. */
#define POINTS_OF(NAME, OUT, IN, MATRIX) \
    ALWAYS_INLINE void NAME(const vfloat *in, vfloat *out) { \
        UNROLL for (int k = 0; k < OUT; k++) { \
            vfloat sum = {0}; \
            UNROLL for (int j = 0; j < IN; j++) \
                if (MATRIX(k, j) != 0) sum += in[j] * MATRIX(k, j); \
            out[k] = sum; \
        } \
    }
#define B6(k, j) winograd_b6[k][j]
#define B8(k, j) winograd_b8[k][j]
#define A6(i, k) winograd_a6[i][k]
#define A8(i, k) winograd_a8[i][k]
#define A6_TURNED(k, i) winograd_a6[i][k]
#define A8_TURNED(k, i) winograd_a8[i][k]
POINTS_OF(input_points_6, 6, 6, B6)
POINTS_OF(input_points_8, 8, 8, B8)
POINTS_OF(outputs_6, 4, 6, A6)
POINTS_OF(outputs_8, 4, 8, A8)
POINTS_OF(output_points_6, 6, 4, A6_TURNED)
POINTS_OF(output_points_8, 8, 4, A8_TURNED)

/* One row: tile t takes `count` columns of x from column 4 t; columns from `columns` on
 * count as zeros.  u [n][tiles][channels], overwritten. */
ALWAYS_INLINE void to_points(const vfloat *x, ptrdiff_t columns, ptrdiff_t tiles, ptrdiff_t channels, vfloat *u,
                             const int count, const int n, void (*transform)(const vfloat *, vfloat *)) {
    for (ptrdiff_t t = 0; t < tiles; t++)
        for (ptrdiff_t c = 0; c < channels; c++) {
            const vfloat *from = x + 4 * t * channels + c;
            vfloat in[8], out[8];
            if (4 * t + count <= columns) {
                UNROLL for (int j = 0; j < count; j++) in[j] = from[j * channels];
            } else {
                UNROLL for (int j = 0; j < count; j++) in[j] = 4 * t + j < columns ? from[j * channels] : (vfloat){0};
            }
            transform(in, out);
            UNROLL for (int k = 0; k < n; k++) u[(k * tiles + t) * channels + c] = out[k];
        }
}

static void winograd_input(const float *x, int n, ptrdiff_t columns, ptrdiff_t tiles, ptrdiff_t channels, float *u) {
    if (n == 6) to_points((const vfloat *)x, columns, tiles, channels, (vfloat *)u, 6, 6, input_points_6);
    else to_points((const vfloat *)x, columns, tiles, channels, (vfloat *)u, 8, 8, input_points_8);
}

static void winograd_gradient_points(const float *dz, int n, ptrdiff_t columns, ptrdiff_t tiles, ptrdiff_t channels,
                                     float *d) {
    if (n == 6) to_points((const vfloat *)dz, columns, tiles, channels, (vfloat *)d, 4, 6, output_points_6);
    else to_points((const vfloat *)dz, columns, tiles, channels, (vfloat *)d, 4, 8, output_points_8);
}

/* One row back: products [n][tiles][filters] -> y [columns][filters] + bias, overwritten. */
ALWAYS_INLINE void from_points(const vfloat *products, ptrdiff_t columns, ptrdiff_t tiles, ptrdiff_t filters,
                               const float *bias, int relu, vfloat *y, const int n,
                               void (*transform)(const vfloat *, vfloat *)) {
    for (ptrdiff_t t = 0; t < tiles; t++)
        for (ptrdiff_t f = 0; f < filters; f++) {
            vfloat in[8], out[4];
            UNROLL for (int k = 0; k < n; k++) in[k] = products[(k * tiles + t) * filters + f];
            transform(in, out);
            vfloat start = v_set1(bias ? bias[f] : 0.0f);
            UNROLL for (int i = 0; i < 4; i++) {
                out[i] += start;
                if (relu) out[i] = v_max((vfloat){0}, out[i]);
                if (4 * t + i < columns) y[(4 * t + i) * filters + f] = out[i];
            }
        }
}

static void winograd_output(const float *products, int n, ptrdiff_t columns, ptrdiff_t tiles, ptrdiff_t filters,
                            const float *bias, int relu, float *y) {
    if (n == 6)
        from_points((const vfloat *)products, columns, tiles, filters, bias, relu, (vfloat *)y, 6, outputs_6);
    else
        from_points((const vfloat *)products, columns, tiles, filters, bias, relu, (vfloat *)y, 8, outputs_8);
}

/* ---- weights ------------------------------------------------------------------------ */

ALWAYS_INLINE float winograd_g(int n, int k, ptrdiff_t tap) {
    return n == 6 ? winograd_g6[k][tap] : winograd_g8[k][tap];
}

/* The taps of a kernel (KH, n - 3, C, F) at point k: points (KH, 1, C, F), overwritten.
 * reversed: of the kernel turned round along its rows, for backward-data. */
static void winograd_kernel(const float *kernel, int n, int k, ptrdiff_t kernel_rows, ptrdiff_t plane, int reversed,
                            float *points) {
    int taps = n - 3;
    for (ptrdiff_t i = 0; i < kernel_rows; i++) {
        const float *row = kernel + i * taps * plane;
        float *to = points + i * plane;
        for (ptrdiff_t e = 0; e < plane; e++) to[e] = 0;
        for (int tap = 0; tap < taps; tap++) {
            float g = winograd_g(n, k, reversed ? taps - 1 - tap : tap);
            if (g != 0)
                for (ptrdiff_t e = 0; e < plane; e++) to[e] += g * row[tap * plane + e];
        }
    }
}

/* dw (KH, n - 3, C, F) += the gradients at the points, (n, KH, 1, C, F), taken back. */
static void winograd_kernel_gradient(const float *points, int n, ptrdiff_t kernel_rows, ptrdiff_t plane, float *dw) {
    int taps = n - 3;
    for (ptrdiff_t i = 0; i < kernel_rows; i++)
        for (int tap = 0; tap < taps; tap++) {
            float *to = dw + (i * taps + tap) * plane;
            for (int k = 0; k < n; k++) {
                float g = winograd_g(n, k, tap);
                const float *from = points + (k * kernel_rows + i) * plane;
                if (g != 0)
                    for (ptrdiff_t e = 0; e < plane; e++) to[e] += g * from[e];
            }
        }
}

#endif
