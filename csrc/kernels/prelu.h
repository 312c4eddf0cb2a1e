/* max(0, x) + slope * min(0, x) with images in the lanes and slopes that are trained.
 *
 * The slope of column j and channel c of a row is slopes[j * column_stride + c *
 * channel_stride]: a stride is 0 along an axis that shares one. */
#ifndef TC_PRELU_H
#define TC_PRELU_H

#include "tiles.h"
#include "vector.h"

/* Channels of a column whose slopes are in registers at once. */
#define PRELU_TILE 4

ALWAYS_INLINE vfloat prelu(vfloat x, vfloat slope) { return v_select(v_gt((vfloat){0}, x), slope * x, x); }

/* As in Keras, the derivative at 0 is 0; at NaN it is NaN. */
ALWAYS_INLINE vfloat prelu_slope(vfloat x, vfloat dy, vfloat slope) {
    const vfloat zero = {0};
    return v_select(v_gt(x, zero), dy, v_select(v_gt(zero, x), slope * dy, x + zero));
}

ALWAYS_INLINE void prelu_tile(const vfloat *x, ptrdiff_t columns, ptrdiff_t channels, const float *slopes,
                              ptrdiff_t channel_stride, vfloat *y, const int K) {
    vfloat a[PRELU_TILE];
    UNROLL for (int k = 0; k < K; k++) a[k] = v_set1(slopes[k * channel_stride]);
    for (ptrdiff_t j = 0; j < columns * channels; j += channels)
        UNROLL for (int k = 0; k < K; k++) y[j + k] = prelu(x[j + k], a[k]);
}

/* x, y [columns][channels][lane]; y, overwritten, may be x. */
static void prelu_row(const float *x, ptrdiff_t columns, ptrdiff_t channels, const float *slopes,
                      ptrdiff_t column_stride, ptrdiff_t channel_stride, float *y) {
    const vfloat *from = (const vfloat *)x;
    vfloat *to = (vfloat *)y;
    if (column_stride) {
        for (ptrdiff_t j = 0; j < columns; j++, slopes += column_stride, from += channels, to += channels)
            for (ptrdiff_t c = 0; c < channels; c++) to[c] = prelu(from[c], v_set1(slopes[c * channel_stride]));
        return;
    }
    ptrdiff_t c = 0;
    for (; c + PRELU_TILE <= channels; c += PRELU_TILE)
        prelu_tile(from + c, columns, channels, slopes + c * channel_stride, channel_stride, to + c, PRELU_TILE);
    for (; c < channels; c++)
        prelu_tile(from + c, columns, channels, slopes + c * channel_stride, channel_stride, to + c, 1);
}

/* K channels of prelu_row_backward.  v_min(0, x) is x where x is NaN. */
ALWAYS_INLINE void prelu_backward_tile(const vfloat *x, const vfloat *dy, ptrdiff_t columns, ptrdiff_t channels,
                                       const float *slopes, ptrdiff_t channel_stride, float *dslopes, vfloat *dx,
                                       const int K) {
    vfloat a[PRELU_TILE], sum[PRELU_TILE];
    float sums[PRELU_TILE];
    UNROLL for (int k = 0; k < K; k++) a[k] = v_set1(slopes[k * channel_stride]), sum[k] = (vfloat){0};
    for (ptrdiff_t j = 0; j < columns * channels; j += channels)
        UNROLL for (int k = 0; k < K; k++) {
            const vfloat d = dy[j + k];
            sum[k] += v_min((vfloat){0}, x[j + k]) * d;
            dx[j + k] = prelu_slope(x[j + k], d, a[k]);
        }
    if (!dslopes) return;
    if (K == PRELU_TILE) v_sum4(sum[0], sum[1], sum[2], sum[3], sums);
    else for (int k = 0; k < K; k++) sums[k] = v_sum(sum[k]);
    for (int k = 0; k < K; k++) dslopes[k * channel_stride] += sums[k];
}

/* x, dy, dx [columns][channels][lane]; dx, overwritten, may be dy.  dslopes, laid out as the
 * slopes, or NULL: accumulated. */
static void prelu_row_backward(const float *x, const float *dy, ptrdiff_t columns, ptrdiff_t channels,
                               const float *slopes, ptrdiff_t column_stride, ptrdiff_t channel_stride,
                               float *dslopes, float *dx) {
    const vfloat *from = (const vfloat *)x, *gradient = (const vfloat *)dy;
    vfloat *to = (vfloat *)dx;
    /* Where columns have slopes of their own, each is a row of one. */
    const ptrdiff_t rows = column_stride ? columns : 1, width = column_stride ? 1 : columns;
    for (ptrdiff_t i = 0; i < rows; i++) {
        const ptrdiff_t at = i * channels, first = i * column_stride;
        for (ptrdiff_t c = 0; c < channels;) {
            const int four = c + PRELU_TILE <= channels;
            const ptrdiff_t slope = first + c * channel_stride;
            float *sums = dslopes ? dslopes + slope : NULL;
            if (four)
                prelu_backward_tile(from + at + c, gradient + at + c, width, channels, slopes + slope, channel_stride,
                                    sums, to + at + c, PRELU_TILE);
            else
                prelu_backward_tile(from + at + c, gradient + at + c, width, channels, slopes + slope, channel_stride,
                                    sums, to + at + c, 1);
            c += four ? PRELU_TILE : 1;
        }
    }
}

#undef PRELU_TILE
#endif
