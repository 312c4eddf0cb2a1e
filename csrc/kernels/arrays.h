/* Kernels of plain row-major arrays, one image or one row: what tinyconv.ops runs.
 *
 * Pools take the vector along the channels: LANES of them at a time (a strip), the
 * rest in part.  Where the window moves by one column, neighbouring outputs are
 * neighbours in memory too, and a strip runs over all of them.
 *
 * Letters: x (h, w, c), y (oh, ow, c), index (oh, ow, c): the place in the window,
 * row * kw + column. */
#ifndef TC_ARRAYS_H
#define TC_ARRAYS_H

#include "softmax.h"

/* The part of a window that lies in the image: rows [i0, i1), columns [j0, j1) of it. */
typedef struct array_window {
    ptrdiff_t i0, i1, j0, j1;
} array_window;

ALWAYS_INLINE void window_clip(ptrdiff_t start, ptrdiff_t window, ptrdiff_t size, ptrdiff_t *first, ptrdiff_t *last) {
    *first = start < 0 ? -start : 0;
    *last = start + window > size ? size - start : window;
    if (*last < *first) *last = *first;
}

/* One strip of `count` channels.  x: the first pixel inside the image, of the window's
 * `rows` x `columns`; `first` is its place.  Starting there, a better value is one
 * that is greater or the first NaN. */
ALWAYS_INLINE void max_pool_strip(const float *x, ptrdiff_t x_row, ptrdiff_t x_pixel, ptrdiff_t rows,
                                  ptrdiff_t columns, int32_t first, int32_t kw, ptrdiff_t count, float *y,
                                  int32_t *index) {
    vfloat m = count == LANES ? v_load(x) : v_load_part(x, count, 0);
    vint at = vi_set1(first);
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = 0; j < columns; j++) {
            const float *from = x + i * x_row + j * x_pixel;
            vfloat v = count == LANES ? v_load(from) : v_load_part(from, count, 0);
            vmask better = m_and(m_not(v_ge(m, v)), v_eq(m, m));
            m = v_select(better, v, m);
            if (index) at = vi_select(better, vi_set1(first + (int32_t)i * kw + (int32_t)j), at);
        }
    if (count == LANES) {
        v_store(y, m);
        if (index) memcpy(index, &at, sizeof at);
    } else {
        v_store_part(y, m, count);
        if (index) vi_store_part(index, at, count);
    }
}

/* The same, one channel. */
ALWAYS_INLINE void max_pool_one(const float *x, ptrdiff_t x_row, ptrdiff_t x_pixel, ptrdiff_t rows,
                                ptrdiff_t columns, int32_t first, int32_t kw, float *y, int32_t *index) {
    float m = x[0];
    int32_t at = first;
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = 0; j < columns; j++) {
            float v = x[i * x_row + j * x_pixel];
            int better = !(m >= v) & (m == m);
            m = better ? v : m;
            at = better ? first + (int32_t)i * kw + (int32_t)j : at;
        }
    *y = m;
    if (index) *index = at;
}

/* n neighbouring outputs whose windows differ by nothing but where they start. */
ALWAYS_INLINE void max_pool_stretch(const float *x, ptrdiff_t x_row, ptrdiff_t x_pixel, ptrdiff_t rows,
                                    ptrdiff_t columns, int32_t first, int32_t kw, ptrdiff_t n, float *y,
                                    int32_t *index) {
    ptrdiff_t k = 0;
    for (; k + LANES <= n; k += LANES)
        max_pool_strip(x + k, x_row, x_pixel, rows, columns, first, kw, LANES, y + k, index ? index + k : NULL);
    if (LANES_HAVE_PARTS && k < n) {
        max_pool_strip(x + k, x_row, x_pixel, rows, columns, first, kw, n - k, y + k, index ? index + k : NULL);
        return;
    }
    for (; k < n; k++) max_pool_one(x + k, x_row, x_pixel, rows, columns, first, kw, y + k, index ? index + k : NULL);
}

ALWAYS_INLINE void max_pool2d_array_of(const float *x, ptrdiff_t h, ptrdiff_t w, ptrdiff_t c, ptrdiff_t kh,
                                       ptrdiff_t kw, ptrdiff_t sh, ptrdiff_t sw, ptrdiff_t pad_top,
                                       ptrdiff_t pad_left, ptrdiff_t oh, ptrdiff_t ow, float *y, int32_t *index) {
    for (ptrdiff_t a = 0; a < oh; a++) {
        array_window v;
        window_clip(a * sh - pad_top, kh, h, &v.i0, &v.i1);
        const ptrdiff_t rows = v.i1 - v.i0;
        for (ptrdiff_t b = 0, run; b < ow; b += run) {
            const ptrdiff_t left = b * sw - pad_left;
            window_clip(left, kw, w, &v.j0, &v.j1);
            const ptrdiff_t columns = v.j1 - v.j0;
            /* With step 1 whole windows join up to the last that fits. */
            run = sw == 1 && columns == kw ? w - kw - left + 1 : 1;
            if (run > ow - b) run = ow - b;
            const ptrdiff_t n = run * c;
            if (rows == 0 || columns == 0) {
                for (ptrdiff_t k = 0; k < n; k++) y[k] = -__builtin_inff();
                for (ptrdiff_t k = 0; index && k < n; k++) index[k] = -1;
            } else {
                const float *from = x + ((a * sh - pad_top + v.i0) * w + left + v.j0) * c;
                const int32_t first = (int32_t)(v.i0 * kw + v.j0);
                if (rows == 2 && columns == 2) /* the usual window, unrolled */
                    max_pool_stretch(from, w * c, c, 2, 2, first, (int32_t)kw, n, y, index);
                else
                    max_pool_stretch(from, w * c, c, rows, columns, first, (int32_t)kw, n, y, index);
            }
            y += n;
            if (index) index += n;
        }
    }
}

/* y and index (or NULL): overwritten.  The first of equal maxima wins, and the first
 * NaN over every number; a window without a pixel has minus infinity at place -1. */
static void max_pool2d_array(const float *x, ptrdiff_t h, ptrdiff_t w, ptrdiff_t c, ptrdiff_t kh, ptrdiff_t kw,
                             ptrdiff_t sh, ptrdiff_t sw, ptrdiff_t pad_top, ptrdiff_t pad_left, ptrdiff_t oh,
                             ptrdiff_t ow, float *y, int32_t *index) {
    if (index) max_pool2d_array_of(x, h, w, c, kh, kw, sh, sw, pad_top, pad_left, oh, ow, y, index);
    else max_pool2d_array_of(x, h, w, c, kh, kw, sh, sw, pad_top, pad_left, oh, ow, y, NULL);
}

/* Windows up to this many places are compared place by place, a strip at a time; in
 * larger ones every gradient goes to its one place by itself. */
#define PLACES_COMPARED 9

/* One window.  origin: its first pixel in dx, which may lie outside of the image;
 * x_row floats to the next row. */
typedef struct array_window_backward {
    array_window v;
    int32_t kw;
    int compared, overlap; /* overlap: a pixel may lie in several windows */
    ptrdiff_t x_row, c, origin;
    float *dx;
} array_window_backward;

/* Channels [k, k + count). */
ALWAYS_INLINE void max_pool_strip_backward(const array_window_backward *at, const float *dy, const int32_t *index,
                                           ptrdiff_t k, ptrdiff_t count, ptrdiff_t rows, ptrdiff_t columns,
                                           const int overlap) {
    vfloat d = count == LANES ? v_load(dy + k) : v_load_part(dy + k, count, 0);
    vint place;
    if (count == LANES) memcpy(&place, index + k, sizeof place);
    else place = vi_load_part(index + k, count);
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = 0; j < columns; j++) {
            const ptrdiff_t row = at->v.i0 + i, column = at->v.j0 + j;
            float *to = at->dx + (at->origin + row * at->x_row + column * at->c + k);
            vmask here = vi_eq(place, vi_set1((int32_t)row * at->kw + (int32_t)column));
            vfloat share = v_select(here, d, (vfloat){0});
            if (count == LANES) v_store(to, overlap ? v_load(to) + share : share);
            else v_store_part(to, share, count);
        }
}

ALWAYS_INLINE void max_pool_window_backward(const array_window_backward *at, const float *dy, const int32_t *index,
                                            ptrdiff_t rows, ptrdiff_t columns) {
    ptrdiff_t k = 0;
    for (; at->compared && at->overlap && k + LANES <= at->c; k += LANES)
        max_pool_strip_backward(at, dy, index, k, LANES, rows, columns, 1);
    for (; at->compared && !at->overlap && k + LANES <= at->c; k += LANES)
        max_pool_strip_backward(at, dy, index, k, LANES, rows, columns, 0);
    /* Not where they overlap: to read a part just after it was stored takes longer than all else. */
    if (LANES_HAVE_PARTS && at->compared && !at->overlap && k < at->c) {
        max_pool_strip_backward(at, dy, index, k, at->c - k, rows, columns, 0);
        return;
    }
    for (; k < at->c; k++) {
        const int32_t i = index[k] / at->kw, j = index[k] % at->kw;
        if (index[k] >= 0 && i >= at->v.i0 && i < at->v.i1 && j >= at->v.j0 && j < at->v.j1)
            at->dx[at->origin + i * at->x_row + j * at->c + k] += dy[k];
    }
}

/* dx (h, w, c): overwritten, each dy added where its index says; an index that is
 * not in the window and in the image adds nothing. */
static void max_pool2d_array_backward(const float *dy, const int32_t *index, ptrdiff_t h, ptrdiff_t w, ptrdiff_t c,
                                      ptrdiff_t kh, ptrdiff_t kw, ptrdiff_t sh, ptrdiff_t sw, ptrdiff_t pad_top,
                                      ptrdiff_t pad_left, ptrdiff_t oh, ptrdiff_t ow, float *dx) {
    memset(dx, 0, sizeof(float) * (size_t)(h * w * c));
    array_window_backward at = {.kw = (int32_t)kw, .compared = kh * kw <= PLACES_COMPARED,
                                .overlap = kh > sh || kw > sw, .x_row = w * c, .c = c, .dx = dx};
    for (ptrdiff_t a = 0; a < oh; a++) {
        const ptrdiff_t top = a * sh - pad_top;
        window_clip(top, kh, h, &at.v.i0, &at.v.i1);
        for (ptrdiff_t b = 0; b < ow; b++, dy += c, index += c) {
            const ptrdiff_t left = b * sw - pad_left;
            window_clip(left, kw, w, &at.v.j0, &at.v.j1);
            const ptrdiff_t rows = at.v.i1 - at.v.i0, columns = at.v.j1 - at.v.j0;
            if (rows == 0 || columns == 0) continue;
            at.origin = (top * w + left) * c;
            if (rows == 2 && columns == 2) /* the usual window, unrolled */
                max_pool_window_backward(&at, dy, index, 2, 2);
            else
                max_pool_window_backward(&at, dy, index, rows, columns);
        }
    }
}
#undef PLACES_COMPARED

/* The cross-entropy of softmax(logits) [channels] with a class, or with dense [channels]
 * where that is not NULL.  gradient [channels], or NULL: overwritten with scale times
 * the loss's, may be logits. */
static float softmax_cross_entropy_row(const float *logits, int32_t label, const float *dense, ptrdiff_t channels,
                                       float scale, float *gradient) {
    const float low = -__builtin_inff();
    const vfloat m = v_set1(row_max(logits, channels)), zero = {0};
    vfloat sum = {0}, mass = {0}, dot = {0};
    for (ptrdiff_t c = 0; c < channels; c += LANES) {
        vfloat d = row_load(logits, channels, c, low) - m, e = softmax_exp(d);
        sum += e;
        if (dense) {
            vfloat y = row_load(dense, channels, c, 0);
            mass += y;
            dot += v_select(v_eq(y, zero), zero, y * d);
        }
    }
    const float total = v_sum(sum), weight = dense ? v_sum(mass) : 1.0f;
    const float product = dense ? v_sum(dot) : logits[label] - m[0];
    const float value = weight * v_log(v_set1(total))[0] - product;
    if (!gradient) return value;
    const vfloat inverse = v_set1(weight / total);
    for (ptrdiff_t c = 0; c < channels; c += LANES) {
        vfloat p = softmax_exp(row_load(logits, channels, c, low) - m) * inverse;
        if (dense) p -= row_load(dense, channels, c, 0);
        row_store(gradient, channels, c, p * scale);
    }
    if (!dense) gradient[label] -= scale;
    return value;
}

#endif
