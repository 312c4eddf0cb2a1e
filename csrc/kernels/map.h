/* Constant linear maps of a block: padding, cropping, resizing, permutations. */
#ifndef TC_KERNEL_MAP_H
#define TC_KERNEL_MAP_H

#include "../tinyconv.h"
#include "vector.h"

/* y[r] = sum over k < count of factors[k] * x[indices[k]][r] for `width` (a literal) of
 * the vectors of a run: that many sums in registers. */
ALWAYS_INLINE void map_sums(const int width, const int32_t *indices, const float *factors, ptrdiff_t count,
                            ptrdiff_t run, const vfloat *x, vfloat *y) {
    vfloat sums[8];
    const vfloat *from = x + indices[0] * run;
    for (int r = 0; r < width; r++) sums[r] = factors ? factors[0] * from[r] : from[r];
    for (ptrdiff_t k = 1; k < count; k++) {
        from = x + indices[k] * run;
        for (int r = 0; r < width; r++)
            sums[r] = factors ? v_fma(v_set1(factors[k]), from[r], sums[r]) : sums[r] + from[r];
    }
    for (int r = 0; r < width; r++) y[r] = sums[r];
}

/* Rows [first, last) of a map; x [inputs][run], y [last - first][run]: overwritten, in runs. */
static void apply_map(const tc_map *map, ptrdiff_t first, ptrdiff_t last, const float *x, float *y) {
    const vfloat *from = (const vfloat *)x;
    vfloat *to = (vfloat *)y;
    const ptrdiff_t run = map->run;
    for (ptrdiff_t o = first; o < last; o++, to += run) {
        const int32_t *indices = map->indices + map->starts[o];
        const float *factors = map->factors ? map->factors + map->starts[o] : NULL;
        ptrdiff_t count = map->starts[o + 1] - map->starts[o], r = 0;
        if (count == 0) {
            for (; r < run; r++) to[r] = (vfloat){0};
        } else if (count == 1 && !factors) {
            const vfloat *source = from + indices[0] * run;
            for (; r < run; r++) to[r] = source[r];
        } else {
            for (; r + 8 <= run; r += 8) map_sums(8, indices, factors, count, run, from + r, to + r);
            for (; r < run; r++) map_sums(1, indices, factors, count, run, from + r, to + r);
        }
    }
}

#endif
