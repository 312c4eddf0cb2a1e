/* Eight filters or fewer, in a vector of sixteen lanes: the lanes left over take more taps.
 *
 *     for each run of taps:
 *         for t in run, G at a time:
 *             a[p][(f, k)] += x[p][t + k] * w[t + k][f]      k: 0 to G - 1
 *
 * where G neighbouring floats of x are broadcast at once, G = 2 for eight filters, 4 for
 * four, and the G sums of a filter are added up at the end.  The last taps of a run whose
 * length G does not divide are loaded beside zeros. */
#ifndef TC_FILTERS_GROUP_H
#define TC_FILTERS_GROUP_H

#include "filters.h"

#if LANES == 16 && defined(__AVX512F__)
#define HAVE_FILTER_GROUPS 1
#define GROUPED_FILTERS 8

static int group_taps(ptrdiff_t filters) { return filters <= 4 ? 4 : 2; }

/* The G floats at x, over and over; or the first `count` of them and zeros. */
ALWAYS_INLINE vfloat group_load(const float *x, const int G) {
    double two;
    if (G == 4) return (vfloat)_mm512_broadcast_f32x4(_mm_loadu_ps(x));
    memcpy(&two, x, sizeof two);
    return (vfloat)_mm512_castpd_ps(_mm512_set1_pd(two));
}

ALWAYS_INLINE vfloat group_load_part(const float *x, ptrdiff_t count, const int G) {
    __m128 part = _mm_maskz_loadu_ps((__mmask8)((1u << count) - 1), x);
    if (G == 4) return (vfloat)_mm512_broadcast_f32x4(part);
    return (vfloat)_mm512_castpd_ps(_mm512_broadcastsd_pd(_mm_castps_pd(part)));
}

/* The sum of each filter's G lanes, in the first lanes. */
ALWAYS_INLINE vfloat group_sum(vfloat a, const int G) {
    const __m512i order = _mm512_setr_epi32(0, G, 2 * G, 3 * G, 4 * G % 16, 5 * G % 16, 6 * G % 16, 7 * G % 16, 0, 0, 0,
                                            0, 0, 0, 0, 0);
    a += (vfloat)_mm512_permute_ps((__m512)a, 0xb1);
    if (G == 4) a += (vfloat)_mm512_permute_ps((__m512)a, 0x4e);
    return (vfloat)_mm512_permutexvar_ps(order, (__m512)a);
}

typedef struct group_tile_args {
    const tc_run *runs;
    ptrdiff_t run_count;
    const float *x, *weights, *bias;
    int relu;
    float *y;
    ptrdiff_t pixel, y_pixel, filters;
} group_tile_args;

ALWAYS_INLINE void group_tile(const group_tile_args *args, const int P, const int G) {
    vfloat a[12];
    UNROLL for (int p = 0; p < P; p++) a[p] = v_load(args->bias);
    const ptrdiff_t pixel = args->pixel;
    const float *w = args->weights;
    for (ptrdiff_t r = 0; r < args->run_count; r++) {
        const float *x[4];
        for (int i = 0; i < 4; i++) x[i] = args->x + args->runs[r].x + i * pixel;
        ptrdiff_t t = args->runs[r].length;
        for (; t >= G; t -= G, w += LANES) {
            vfloat weight = v_load(w);
            UNROLL for (int p = 0; p < P; p++)
                a[p] += group_load(x[pixel_base[p]] + pixel_steps[p] * pixel, G) * weight;
            for (int i = 0; i < 4; i++) x[i] += G;
        }
        if (t) {
            vfloat weight = v_load(w);
            UNROLL for (int p = 0; p < P; p++)
                a[p] += group_load_part(x[pixel_base[p]] + pixel_steps[p] * pixel, t, G) * weight;
            w += LANES;
        }
    }
    UNROLL for (int p = 0; p < P; p++) {
        vfloat y = group_sum(a[p], G);
        if (args->relu) y = v_max((vfloat){0}, y);
        v_store_part(args->y + p * args->y_pixel, y, args->filters);
    }
}

#define GROUP_TILES(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#define X(P) \
    static void group_tile_##P##_2(const group_tile_args *args) { group_tile(args, P, 2); } \
    static void group_tile_##P##_4(const group_tile_args *args) { group_tile(args, P, 4); }
GROUP_TILES(X)
#undef X

typedef void group_tile_function(const group_tile_args *);
#define X(P) [P] = {group_tile_##P##_2, group_tile_##P##_4},
static group_tile_function *const group_tiles[13][2] = {GROUP_TILES(X)};
#undef X

/* Vectors of packed weights of the first `count` runs. */
static ptrdiff_t group_vectors(const tc_run *runs, ptrdiff_t count, int G) {
    ptrdiff_t vectors = 0;
    for (ptrdiff_t r = 0; r < count; r++) vectors += (runs[r].length + G - 1) / G;
    return vectors;
}

static ptrdiff_t pack_groups(const tc_correlation *g, const float *kernel, ptrdiff_t stride, const float *bias,
                             float *packed, float *packed_bias) {
    const tc_tile *whole = g->tiles;
    ptrdiff_t filters = g->y_channels, count = g->kernel_rows * whole->runs_per_row;
    int G = group_taps(filters);
    if (!kernel) return group_vectors(whole->runs, count, G) * LANES;
    for (ptrdiff_t l = 0; l < LANES; l++) packed_bias[l] = bias && l % G == 0 && l / G < filters ? bias[l / G] : 0.0f;
    float *to = packed;
    for (const tc_run *run = whole->runs; run < whole->runs + count; run++)
        for (ptrdiff_t t = 0; t < run->length; t += G, to += LANES)
            for (ptrdiff_t l = 0; l < LANES; l++) {
                ptrdiff_t f = l / G, tap = t + l % G;
                to[l] = f < filters && tap < run->length ? kernel[(run->tap + tap) * stride + f] : 0.0f;
            }
    return to - packed;
}

static void correlate_groups(const tc_correlation *g, ptrdiff_t a, const float *x, const float *packed,
                             const float *packed_bias, int relu, float *y) {
    ptrdiff_t row = a * g->row_step, i0 = 0, i1 = g->kernel_rows;
    while (i0 < i1 && row + g->rows[i0].position < 0) i0++;
    while (i1 > i0 && row + g->rows[i1 - 1].position >= g->x_rows) i1--;
    const tc_tile *whole = g->tiles;
    ptrdiff_t before = i0 * whole->runs_per_row, tiles = (g->y_columns + 11) / 12;
    int G = group_taps(g->y_channels);
    group_tile_args args = {.runs = whole->runs + before, .run_count = (i1 - i0) * whole->runs_per_row,
                            .weights = packed + group_vectors(whole->runs, before, G) * LANES, .bias = packed_bias,
                            .relu = relu, .pixel = g->column_step * g->x_column_stride,
                            .y_pixel = g->y_column_stride, .filters = g->y_channels};
    const float *x_row = x + g->x_start + row * g->x_row_stride;
    for (ptrdiff_t tile = 0, b = 0; tile < tiles; tile++) {
        ptrdiff_t pixels = (g->y_columns - b + (tiles - tile) - 1) / (tiles - tile);
        args.x = x_row + b * args.pixel;
        args.y = y + b * g->y_column_stride;
        group_tiles[pixels][G == 4](&args);
        b += pixels;
    }
}

#endif
#endif
