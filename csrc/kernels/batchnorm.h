/* Batch normalization with images in the lanes: sums over pixels and lanes, and what is
 * done with them value by value.
 *
 * Lanes count to LANES are idle: they are left out of the sums and get gradients of 0. */
#ifndef TC_BATCHNORM_H
#define TC_BATCHNORM_H

#include "tiles.h"
#include "vector.h"

/* Channels whose sums are in registers at once. */
#define NORM_TILE 4

ALWAYS_INLINE double norm_sum(vfloat a, int count) {
    double sum = 0;
    for (int l = 0; l < count; l++) sum += a[l];
    return sum;
}

/* K channels of norm_statistics.  Deviations are taken from the mean of the first row, at
 * most a few standard deviations from that of all: what is subtracted in the end is no
 * larger than what it is subtracted from by more than the number of rows.  The sums of a
 * row are added up first, so that none is long. */
ALWAYS_INLINE void norm_statistics_tile(const vfloat *x, ptrdiff_t rows, ptrdiff_t columns,
                                        ptrdiff_t channels, int count, double *mean, double *deviations,
                                        const int K) {
    vfloat origin[NORM_TILE], first[NORM_TILE], second[NORM_TILE];
    for (int k = 0; k < K; k++) {
        vfloat sum = {0};
        for (ptrdiff_t j = 0; j < columns; j++) sum += x[j * channels + k];
        origin[k] = v_set1((float)(norm_sum(sum, count) / ((double)columns * count)));
        first[k] = second[k] = (vfloat){0};
    }
    for (ptrdiff_t i = 0; i < rows; i++) {
        const vfloat *row = x + i * columns * channels;
        vfloat sum[NORM_TILE], square[NORM_TILE];
        UNROLL for (int k = 0; k < K; k++) sum[k] = square[k] = (vfloat){0};
        for (ptrdiff_t j = 0; j < columns; j++)
            UNROLL for (int k = 0; k < K; k++) {
                vfloat d = row[j * channels + k] - origin[k];
                sum[k] += d;
                square[k] += d * d;
            }
        UNROLL for (int k = 0; k < K; k++) {
            first[k] += sum[k];
            second[k] += square[k];
        }
    }
    const double n = (double)rows * (double)columns * count;
    for (int k = 0; k < K; k++) {
        double sum = norm_sum(first[k], count), rest = norm_sum(second[k], count) - sum / n * sum;
        mean[k] = origin[k][0] + sum / n;
        deviations[k] = rest < 0 ? 0 : rest;
    }
}

/* x [rows][columns][channels][lane].  mean [channels], and deviations [channels], the sum of the
 * squared deviations from it: overwritten. */
static void norm_statistics(const float *x, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t channels, int count,
                            double *mean, double *deviations) {
    const vfloat *from = (const vfloat *)x;
    ptrdiff_t c = 0;
    for (; c + NORM_TILE <= channels; c += NORM_TILE)
        norm_statistics_tile(from + c, rows, columns, channels, count, mean + c, deviations + c, NORM_TILE);
    for (; c < channels; c++)
        norm_statistics_tile(from + c, rows, columns, channels, count, mean + c, deviations + c, 1);
}

ALWAYS_INLINE void normalize_tile(const vfloat *x, ptrdiff_t columns, ptrdiff_t channels, const float *mean,
                                  const float *scale, const float *beta, vfloat *y, const int relu, const int K) {
    vfloat m[NORM_TILE], s[NORM_TILE], o[NORM_TILE];
    UNROLL for (int k = 0; k < K; k++) m[k] = v_set1(mean[k]), s[k] = v_set1(scale[k]), o[k] = v_set1(beta[k]);
    for (ptrdiff_t j = 0; j < columns * channels; j += channels)
        UNROLL for (int k = 0; k < K; k++) {
            const vfloat v = (x[j + k] - m[k]) * s[k] + o[k];
            y[j + k] = relu ? v_max((vfloat){0}, v) : v; /* v_max(0, v) is v where v is NaN */
        }
}

/* x, y [columns][channels][lane].  y, overwritten, may be x: (x - mean) * scale + beta; relu:
 * max(0, .) of it. */
static void normalize(const float *x, ptrdiff_t columns, ptrdiff_t channels, const float *mean, const float *scale,
                      const float *beta, int relu, float *y) {
    const vfloat *from = (const vfloat *)x;
    vfloat *to = (vfloat *)y;
    for (ptrdiff_t c = 0; c < channels;) {
        const int four = c + NORM_TILE <= channels;
        if (four && relu)
            normalize_tile(from + c, columns, channels, mean + c, scale + c, beta + c, to + c, 1, NORM_TILE);
        else if (four) normalize_tile(from + c, columns, channels, mean + c, scale + c, beta + c, to + c, 0, NORM_TILE);
        else normalize_tile(from + c, columns, channels, mean + c, scale + c, beta + c, to + c, relu, 1);
        c += four ? NORM_TILE : 1;
    }
}

ALWAYS_INLINE void norm_sums_tile(const vfloat *x, const vfloat *dy, ptrdiff_t pixels, ptrdiff_t channels, int count,
                                  const float *mean, const float *inverse, double *sums, const int K) {
    vfloat m[NORM_TILE], first[NORM_TILE], second[NORM_TILE];
    for (int k = 0; k < K; k++) m[k] = v_set1(mean[k]), first[k] = second[k] = (vfloat){0};
    for (ptrdiff_t start = 0; start < pixels; start += 32) {
        const ptrdiff_t end = start + 32 < pixels ? start + 32 : pixels;
        vfloat sum[NORM_TILE], product[NORM_TILE];
        UNROLL for (int k = 0; k < K; k++) sum[k] = product[k] = (vfloat){0};
        for (ptrdiff_t j = start; j < end; j++)
            UNROLL for (int k = 0; k < K; k++) {
                vfloat d = dy[j * channels + k];
                sum[k] += d;
                product[k] += d * (x[j * channels + k] - m[k]);
            }
        UNROLL for (int k = 0; k < K; k++) {
            first[k] += sum[k];
            second[k] += product[k];
        }
    }
    for (int k = 0; k < K; k++) {
        sums[k] += norm_sum(first[k], count);
        sums[channels + k] += norm_sum(second[k], count) * inverse[k];
    }
}

/* x, dy [pixels][channels][lane].  sums [2][channels], accumulated: the sums of dy, and of
 * dy * (x - mean) * inverse. */
static void norm_sums(const float *x, const float *dy, ptrdiff_t pixels, ptrdiff_t channels, int count,
                      const float *mean, const float *inverse, double *sums) {
    const vfloat *from = (const vfloat *)x, *gradient = (const vfloat *)dy;
    ptrdiff_t c = 0;
    for (; c + NORM_TILE <= channels; c += NORM_TILE)
        norm_sums_tile(from + c, gradient + c, pixels, channels, count, mean + c, inverse + c, sums + c, NORM_TILE);
    for (; c < channels; c++)
        norm_sums_tile(from + c, gradient + c, pixels, channels, count, mean + c, inverse + c, sums + c, 1);
}

ALWAYS_INLINE void norm_backward_tile(const vfloat *x, const vfloat *dy, ptrdiff_t pixels, ptrdiff_t channels,
                                      const float *mean, const float *scale, const float *dy_mean,
                                      const float *slope, vmask used, vfloat *dx, const int whole, const int K) {
    vfloat m[NORM_TILE], s[NORM_TILE], d[NORM_TILE], a[NORM_TILE];
    UNROLL for (int k = 0; k < K; k++) {
        m[k] = v_set1(mean[k]), s[k] = v_set1(scale[k]);
        d[k] = v_set1(dy_mean[k]), a[k] = v_set1(slope[k]);
    }
    for (ptrdiff_t j = 0; j < pixels * channels; j += channels)
        UNROLL for (int k = 0; k < K; k++) {
            const vfloat v = s[k] * (dy[j + k] - d[k] - (x[j + k] - m[k]) * a[k]);
            dx[j + k] = whole ? v : v_select(used, v, (vfloat){0});
        }
}

/* x, dy, dx [pixels][channels][lane]; dx, overwritten, may be dy:
 * scale * (dy - dy_mean - (x - mean) * slope), and 0 in the idle lanes. */
static void norm_backward(const float *x, const float *dy, ptrdiff_t pixels, ptrdiff_t channels, int count,
                          const float *mean, const float *scale, const float *dy_mean, const float *slope, float *dx) {
    const vfloat *from = (const vfloat *)x, *gradient = (const vfloat *)dy;
    vfloat *to = (vfloat *)dx;
    vint lane = {0};
    for (int l = 0; l < LANES; l++) lane[l] = l;
    const vmask used = vi_gt(vi_set1(count), lane);
    for (ptrdiff_t c = 0; c < channels;) {
        const int four = c + NORM_TILE <= channels;
        if (four && count == LANES)
            norm_backward_tile(from + c, gradient + c, pixels, channels, mean + c, scale + c, dy_mean + c, slope + c,
                               used, to + c, 1, NORM_TILE);
        else if (four)
            norm_backward_tile(from + c, gradient + c, pixels, channels, mean + c, scale + c, dy_mean + c, slope + c,
                               used, to + c, 0, NORM_TILE);
        else
            norm_backward_tile(from + c, gradient + c, pixels, channels, mean + c, scale + c, dy_mean + c, slope + c,
                               used, to + c, 0, 1);
        c += four ? NORM_TILE : 1;
    }
}

#undef NORM_TILE
#endif
