/* Constant linear maps (tc_map) of one image. */
#include <stdlib.h>
#include <string.h>

#include "few.h"

ptrdiff_t *tc_few_map_sources(const tc_map *map, const few_tensor *x) {
    ptrdiff_t entries = map->starts[map->rows];
    ptrdiff_t *sources = malloc(sizeof *sources * (size_t)(entries + 1));
    for (ptrdiff_t k = 0; sources && k < entries; k++) {
        ptrdiff_t value = map->indices[k] * map->run, pixel = value / x->channels;
        sources[k] = pixel / x->width * x->row_stride + (x->left + pixel % x->width) * x->padded + value % x->channels;
    }
    return sources;
}

/* y[r] = sum over k < count of factors[k] * x[sources[k] + r], r < run. */
static void few_sums(const ptrdiff_t *sources, const float *factors, ptrdiff_t count, ptrdiff_t run,
                     const float *restrict x, float *restrict y) {
    if (count == 1 && !factors) {
        memcpy(y, x + sources[0], sizeof(float) * (size_t)run);
        return;
    }
    for (ptrdiff_t r = 0; r < run; r++) y[r] = 0.0f;
    for (ptrdiff_t k = 0; k < count; k++) {
        float factor = factors ? factors[k] : 1.0f;
        const float *from = x + sources[k];
        for (ptrdiff_t r = 0; r < run; r++) y[r] += factor * from[r];
    }
}

void tc_few_apply_map(const tc_map *map, const ptrdiff_t *sources, float *m, const few_tensor *x,
                      const few_tensor *y) {
    const int32_t *starts = map->starts;
    ptrdiff_t o = 0;
    for (ptrdiff_t i = 0; i < y->height; i++)
        for (ptrdiff_t j = 0; j < y->width; j++) {
            float *to = m + y->offset + i * y->row_stride + (y->left + j) * y->padded;
            for (ptrdiff_t c = 0; c < y->channels; c += map->run, o++)
                few_sums(sources + starts[o], map->factors ? map->factors + starts[o] : NULL, starts[o + 1] - starts[o],
                         map->run, m + x->offset, to + c);
        }
}
