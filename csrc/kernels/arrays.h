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

/* v, at a place behind those seen so far, of which *m is the best, at *at (or NULL). */
ALWAYS_INLINE void max_pool_step(vfloat v, int32_t place, vfloat *m, vint *at) {
    if (!at) {
        vfloat larger = v_max(v, *m); /* *m where they are equal or either is NaN */
        *m = v_select(v_eq(v, v), larger, v);
        return;
    }
    vmask better = m_and(m_not(v_ge(*m, v)), v_eq(*m, *m));
    *m = v_select(better, v, *m);
    *at = vi_select(better, vi_set1(place), *at);
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
        for (ptrdiff_t j = i == 0; j < columns; j++) {
            const float *from = x + i * x_row + j * x_pixel;
            max_pool_step(count == LANES ? v_load(from) : v_load_part(from, count, 0),
                          first + (int32_t)i * kw + (int32_t)j, &m, index ? &at : NULL);
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

/* Whether max_pool_pairs and its gradient take c channels. */
ALWAYS_INLINE int pairs_fill_lanes(ptrdiff_t c) { return c % LANES == 0 || (LANES_CAN_MOVE && LANES % c == 0); }

ALWAYS_INLINE vint lane_numbers(void) {
    vint lane = {0};
    for (int l = 0; l < LANES; l++) lane[l] = l;
    return lane;
}

/* Of 2 LANES floats in a row, pixels of c channels, a power of two: where the channels
 * of even pixels lie; those of odd ones lie c behind. */
ALWAYS_INLINE vint even_pixels(ptrdiff_t c) {
    const vint lane = lane_numbers();
    return lane + (lane & -(int32_t)c);
}

/* The way back: the first LANES of those floats, taken from the even pixels and, behind
 * them, the odd ones; the other floats lie LANES / 2 behind. */
ALWAYS_INLINE vint joined_pixels(ptrdiff_t c) {
    const vint lane = lane_numbers();
    return ((lane & -2 * (int32_t)c) >> 1) + (lane & (int32_t)(c - 1)) + (lane & (int32_t)c) * (int32_t)(LANES / c);
}

/* n windows of 2x2 side by side, whole, for channels of pairs_fill_lanes: vectors of
 * whole windows; returns how many windows those are. */
ALWAYS_INLINE ptrdiff_t max_pool_pairs(const float *x, ptrdiff_t x_row, ptrdiff_t c, ptrdiff_t n, float *y,
                                       int32_t *index) {
    if (c % LANES == 0) {
        for (ptrdiff_t b = 0; b < n; b++)
            for (ptrdiff_t k = 0; k < c; k += LANES)
                max_pool_strip(x + 2 * b * c + k, x_row, c, 2, 2, 0, 2, LANES, y + b * c + k,
                               index ? index + b * c + k : NULL);
        return n;
    }
    const vint even = even_pixels(c), odd = even + (int32_t)c;
    const ptrdiff_t whole = n * c / LANES;
    for (ptrdiff_t k = 0; k < whole * LANES; k += LANES) {
        vfloat top[2] = {v_load(x + 2 * k), v_load(x + 2 * k + LANES)};
        vfloat bottom[2] = {v_load(x + x_row + 2 * k), v_load(x + x_row + 2 * k + LANES)};
        vfloat m = v_pick(top[0], top[1], even);
        vint at = {0};
        max_pool_step(v_pick(top[0], top[1], odd), 1, &m, index ? &at : NULL);
        max_pool_step(v_pick(bottom[0], bottom[1], even), 2, &m, index ? &at : NULL);
        max_pool_step(v_pick(bottom[0], bottom[1], odd), 3, &m, index ? &at : NULL);
        v_store(y + k, m);
        if (index) memcpy(index + k, &at, sizeof at);
    }
    return whole * LANES / c;
}

/* Asks for `count` floats, `ahead` floats behind p: a window's rows are too short for
 * the processor to foresee the next ones.  They may lie outside of the array. */
ALWAYS_INLINE void prefetch_floats(const float *p, ptrdiff_t ahead, ptrdiff_t count) {
    const uintptr_t from = (uintptr_t)p + sizeof(float) * (uintptr_t)ahead;
    for (ptrdiff_t k = 0; k < count; k += 64 / (ptrdiff_t)sizeof(float))
        __builtin_prefetch((const void *)(from + sizeof(float) * (uintptr_t)k));
}

ALWAYS_INLINE void max_pool2d_array_of(const float *x, ptrdiff_t h, ptrdiff_t w, ptrdiff_t c, ptrdiff_t kh,
                                       ptrdiff_t kw, ptrdiff_t sh, ptrdiff_t sw, ptrdiff_t pad_top,
                                       ptrdiff_t pad_left, ptrdiff_t oh, ptrdiff_t ow, float *y, int32_t *index) {
    const int pairs = kh == 2 && kw == 2 && sw == 2 && pairs_fill_lanes(c);
    for (ptrdiff_t a = 0; a < oh; a++) {
        array_window v;
        window_clip(a * sh - pad_top, kh, h, &v.i0, &v.i1);
        const ptrdiff_t rows = v.i1 - v.i0;
        if (a + 1 < oh) prefetch_floats(x, ((a + 1) * sh - pad_top + kh) * w * c, sh * w * c);
        for (ptrdiff_t b = 0, run; b < ow; b += run) {
            const ptrdiff_t left = b * sw - pad_left;
            window_clip(left, kw, w, &v.j0, &v.j1);
            const ptrdiff_t columns = v.j1 - v.j0;
            const float *from = x + ((a * sh - pad_top + v.i0) * w + left + v.j0) * c;
            const int32_t first = (int32_t)(v.i0 * kw + v.j0);
            run = 0;
            if (pairs && rows == 2 && columns == 2) {
                const ptrdiff_t fit = (w - left) / 2;
                run = max_pool_pairs(from, w * c, c, fit < ow - b ? fit : ow - b, y, index);
            }
            ptrdiff_t n = run * c;
            if (!run) {
                /* With step 1 whole windows join up to the last that fits. */
                run = sw == 1 && columns == kw ? w - kw - left + 1 : 1;
                if (run > ow - b) run = ow - b;
                n = run * c;
                if (rows == 0 || columns == 0) {
                    for (ptrdiff_t k = 0; k < n; k++) y[k] = -__builtin_inff();
                    for (ptrdiff_t k = 0; index && k < n; k++) index[k] = -1;
                } else if (rows == 2 && columns == 2) { /* the usual window, unrolled */
                    max_pool_stretch(from, w * c, c, 2, 2, first, (int32_t)kw, n, y, index);
                } else {
                    max_pool_stretch(from, w * c, c, rows, columns, first, (int32_t)kw, n, y, index);
                }
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

/* n windows of 2x2 side by side, whole, that share no pixel; dx: overwritten.  As max_pool_pairs. */
ALWAYS_INLINE ptrdiff_t max_pool_pairs_backward(const float *dy, const int32_t *index, ptrdiff_t x_row, ptrdiff_t c,
                                                ptrdiff_t n, float *dx) {
    const vfloat zero = {0};
    const int packed = c % LANES != 0;
    const vint left = packed ? joined_pixels(c) : (vint){0}, right = left + LANES / 2;
    const ptrdiff_t whole = n * c / LANES;
    for (ptrdiff_t k = 0; k < whole * LANES; k += LANES) {
        const vfloat d = v_load(dy + k);
        /* Where the window begins, and how far its other column lies behind. */
        const ptrdiff_t from = packed ? 2 * k : k / c * 2 * c + k % c, step = packed ? LANES : c;
        vint place;
        memcpy(&place, index + k, sizeof place);
        for (int32_t row = 0; row < 2; row++) {
            vfloat even = v_select(vi_eq(place, vi_set1(2 * row)), d, zero);
            vfloat odd = v_select(vi_eq(place, vi_set1(2 * row + 1)), d, zero);
            float *to = dx + row * x_row + from;
            v_store(to, packed ? v_pick(even, odd, left) : even);
            v_store(to + step, packed ? v_pick(even, odd, right) : odd);
        }
    }
    return whole * LANES / c;
}

/* dx (h, w, c): overwritten, each dy added where its index says; an index that is
 * not in the window and in the image adds nothing. */
static void max_pool2d_array_backward(const float *dy, const int32_t *index, ptrdiff_t h, ptrdiff_t w, ptrdiff_t c,
                                      ptrdiff_t kh, ptrdiff_t kw, ptrdiff_t sh, ptrdiff_t sw, ptrdiff_t pad_top,
                                      ptrdiff_t pad_left, ptrdiff_t oh, ptrdiff_t ow, float *dx) {
    memset(dx, 0, sizeof(float) * (size_t)(h * w * c));
    array_window_backward at = {.kw = (int32_t)kw, .compared = kh * kw <= PLACES_COMPARED,
                                .overlap = kh > sh || kw > sw, .x_row = w * c, .c = c, .dx = dx};
    const int pairs = kh == 2 && kw == 2 && sw == 2 && sh >= 2 && pairs_fill_lanes(c);
    for (ptrdiff_t a = 0; a < oh; a++) {
        const ptrdiff_t top = a * sh - pad_top;
        window_clip(top, kh, h, &at.v.i0, &at.v.i1);
        for (ptrdiff_t b = 0, run; b < ow; b += run, dy += run * c, index += run * c) {
            const ptrdiff_t left = b * sw - pad_left;
            window_clip(left, kw, w, &at.v.j0, &at.v.j1);
            const ptrdiff_t rows = at.v.i1 - at.v.i0, columns = at.v.j1 - at.v.j0;
            at.origin = (top * w + left) * c;
            if (pairs && rows == 2 && columns == 2) {
                const ptrdiff_t fit = (w - left) / 2;
                run = max_pool_pairs_backward(dy, index, w * c, c, fit < ow - b ? fit : ow - b, dx + at.origin);
                if (run) continue;
            }
            run = 1;
            if (rows == 0 || columns == 0) continue;
            if (rows == 2 && columns == 2) /* the usual window, unrolled */
                max_pool_window_backward(&at, dy, index, 2, 2);
            else
                max_pool_window_backward(&at, dy, index, rows, columns);
        }
    }
}
#undef PLACES_COMPARED

/* Rows of up to this many classes are turned into the lanes, LANES of them at a time:
 * beyond it the turning takes longer than the ends of rows that do not fill vectors. */
#define CLASSES_TURNED (LANES_HAVE_PARTS ? 40 : 128)

/* One row; the arguments are those of softmax_cross_entropy_rows. */
static float cross_entropy_row(const float *logits, int32_t label, const float *dense, ptrdiff_t channels, float scale,
                               float *gradient) {
    const float low = -__builtin_inff();
    const vfloat m = v_set1(row_max(logits, channels)), zero = {0};
    const float of_label = dense ? 0 : logits[label] - m[0];
    vfloat sum = {0}, mass = {0}, dot = {0};
    for (ptrdiff_t c = 0; c < channels; c += LANES) {
        vfloat d = row_load(logits, channels, c, low) - m, e = softmax_exp(d);
        sum += e;
        row_store(gradient, channels, c, e);
        if (dense) {
            vfloat y = row_load(dense, channels, c, 0);
            mass += y;
            dot += v_select(v_eq(y, zero), zero, y * d);
        }
    }
    const float total = v_sum(sum), weight = dense ? v_sum(mass) : 1.0f;
    const vfloat inverse = v_set1(weight / total);
    for (ptrdiff_t c = 0; c < channels; c += LANES) {
        vfloat p = row_load(gradient, channels, c, 0) * inverse;
        if (dense) p -= row_load(dense, channels, c, 0);
        row_store(gradient, channels, c, p * scale);
    }
    if (!dense) gradient[label] -= scale;
    return weight * v_log(v_set1(total))[0] - (dense ? v_sum(dot) : of_label);
}

/* (rows, channels) -> [channels][LANES]; rows that are not there are copies of the first. */
ALWAYS_INLINE void turn_rows(const float *from, ptrdiff_t rows, ptrdiff_t channels, vfloat *to) {
    float *t = (float *)to;
    for (ptrdiff_t l = 0; l < LANES; l++)
        for (ptrdiff_t c = 0; c < channels; c++) t[c * LANES + l] = from[(l < rows ? l : 0) * channels + c];
}

/* Up to LANES rows, a row a lane; the arguments are those of softmax_cross_entropy_rows. */
static void cross_entropy_turned(const float *logits, const int32_t *labels, const float *dense, ptrdiff_t rows,
                                 ptrdiff_t channels, float scale, float *losses, float *gradient) {
    const vfloat zero = {0};
    vfloat p[CLASSES_TURNED], y[CLASSES_TURNED], sum = zero, mass = v_set1(1), dot = zero;
    turn_rows(logits, rows, channels, p);
    if (dense) turn_rows(dense, rows, channels, y), mass = zero;
    for (ptrdiff_t l = 0; !dense && l < rows; l++) dot[l] = logits[l * channels + labels[l]];
    vfloat m = -V_INFINITY;
    for (ptrdiff_t c = 0; c < channels; c++) m = v_max(p[c], m);
    if (!dense) dot -= m;
    for (ptrdiff_t c = 0; c < channels; c++) {
        vfloat d = p[c] - m;
        sum += p[c] = softmax_exp(d);
        if (dense) mass += y[c], dot += v_select(v_eq(y[c], zero), zero, y[c] * d);
    }
    const vfloat inverse = mass / sum, loss = mass * v_log(sum) - dot;
    for (ptrdiff_t c = 0; c < channels; c++) p[c] = (dense ? p[c] * inverse - y[c] : p[c] * inverse) * scale;
    for (ptrdiff_t l = 0; l < rows; l++) {
        for (ptrdiff_t c = 0; c < channels; c++) gradient[l * channels + c] = ((const float *)p)[c * LANES + l];
        if (!dense) gradient[l * channels + labels[l]] -= scale;
    }
    v_store_part(losses, loss, rows);
}

/* The cross-entropies of softmax(logits) (rows, channels) with classes, or with dense
 * (rows, channels) where that is not NULL.  losses (rows): overwritten; gradient (rows,
 * channels): overwritten with scale times the losses', may be logits. */
static void softmax_cross_entropy_rows(const float *logits, const int32_t *labels, const float *dense, ptrdiff_t rows,
                                       ptrdiff_t channels, float scale, float *losses, float *gradient) {
    const int turned = channels <= CLASSES_TURNED;
    for (ptrdiff_t r = 0; r < rows; r += turned ? LANES : 1) {
        const ptrdiff_t at = r * channels;
        const float *targets = dense ? dense + at : NULL;
        if (turned)
            cross_entropy_turned(logits + at, labels + r, targets, rows - r < LANES ? rows - r : LANES, channels,
                                 scale, losses + r, gradient + at);
        else
            losses[r] = cross_entropy_row(logits + at, dense ? 0 : labels[r], targets, channels, scale, gradient + at);
    }
}

#endif
