/* The values of an image scaled, moved and clipped, by other numbers in each lane: augmentation.
 *
 * y = clip((x - middle) * factor + middle + shift), with a middle for each channel. */
#ifndef TC_LEVELS_H
#define TC_LEVELS_H

#include "../kernels.h"
#include "vector.h"

ALWAYS_INLINE vfloat level(vfloat x, vfloat middle, vfloat factor, vfloat shift) {
    return (x - middle) * factor + middle + shift;
}

/* x [pixels][channels]; sums [channels]: accumulated, each by the sum of all pixels. */
static void level_sums(const float *x, ptrdiff_t pixels, ptrdiff_t channels, float *sums) {
    const vfloat *from = (const vfloat *)x;
    vfloat *to = (vfloat *)sums;
    for (ptrdiff_t c = 0; c < channels; c++) {
        vfloat sum = {0};
        for (ptrdiff_t j = 0; j < pixels; j++) sum += from[j * channels + c];
        to[c] += sum;
    }
}

/* x, y [pixels][channels]; middle [channels], factor and shift one vector; y, overwritten, may be x. */
static void level_row(const tc_levels *g, const float *middle, const float *x, ptrdiff_t pixels, ptrdiff_t channels,
                      float *y) {
    const vfloat *from = (const vfloat *)x, *m = (const vfloat *)middle;
    const vfloat factor = *(const vfloat *)g->factor, shift = *(const vfloat *)g->shift;
    const vfloat low = v_set1(g->low), high = v_set1(g->high);
    vfloat *to = (vfloat *)y;
    for (ptrdiff_t j = 0; j < pixels; j++)
        for (ptrdiff_t c = 0; c < channels; c++)
            /* In this order NaN stays NaN. */
            *to++ = v_min(high, v_max(low, level(*from++, m[c], factor, shift)));
}

/* What of dy [pixels][channels] clipping lets through, in its place; sums [channels]: accumulated as in level_sums. */
static void level_row_backward(const tc_levels *g, const float *middle, const float *x, ptrdiff_t pixels,
                               ptrdiff_t channels, float *dy, float *sums) {
    const vfloat *from = (const vfloat *)x, *m = (const vfloat *)middle;
    const vfloat factor = *(const vfloat *)g->factor, shift = *(const vfloat *)g->shift;
    const vfloat low = v_set1(g->low), high = v_set1(g->high);
    vfloat *d = (vfloat *)dy;
    for (ptrdiff_t j = 0; j < pixels; j++)
        for (ptrdiff_t c = 0; c < channels; c++, d++) {
            const vfloat y = level(*from++, m[c], factor, shift);
            *d = v_select(m_or(v_gt(low, y), v_gt(y, high)), (vfloat){0}, *d);
        }
    level_sums(dy, pixels, channels, sums);
}

/* dx = factor * dy + (1 - factor) * mean in the place of dy [pixels][channels]; mean [channels]. */
static void level_spread(const float *factors, const float *mean, ptrdiff_t pixels, ptrdiff_t channels, float *dy) {
    const vfloat factor = *(const vfloat *)factors, *m = (const vfloat *)mean;
    vfloat *d = (vfloat *)dy;
    for (ptrdiff_t j = 0; j < pixels; j++)
        for (ptrdiff_t c = 0; c < channels; c++, d++) *d = factor * *d + (1.0f - factor) * m[c];
}

#endif
