/* The tile of filters.h for one vector width; included once for each WIDTH.
 * P pixels (broadcast scalars) by V vectors of WIDTH filters. */

#define JOIN_OF(a, b) a##b
#define JOIN(a, b) JOIN_OF(a, b)
#define VECTOR JOIN(filters_vector_, WIDTH)
#define INTEGERS JOIN(filters_integers_, WIDTH)

typedef float VECTOR __attribute__((vector_size(4 * WIDTH), aligned(4)));
typedef int32_t INTEGERS __attribute__((vector_size(4 * WIDTH), aligned(4)));

/* max(0, a); NaN stays NaN. */
ALWAYS_INLINE VECTOR JOIN(filters_relu_, WIDTH)(VECTOR a) {
    return (VECTOR)((INTEGERS)a & ~(INTEGERS)(a < 0));
}

/* The greater of both, NaN where either is: the instruction returns its second operand
 * there, so that one of the two orders keeps the NaN, and a NaN with more bits set is one. */
ALWAYS_INLINE VECTOR JOIN(filters_max_, WIDTH)(VECTOR a, VECTOR b) {
#if WIDTH == 16
    return (VECTOR)_mm512_or_ps(_mm512_max_ps((__m512)a, (__m512)b), _mm512_max_ps((__m512)b, (__m512)a));
#elif WIDTH == 8
    return (VECTOR)_mm256_or_ps(_mm256_max_ps((__m256)a, (__m256)b), _mm256_max_ps((__m256)b, (__m256)a));
#elif defined(__SSE2__)
    return (VECTOR)_mm_or_ps(_mm_max_ps((__m128)a, (__m128)b), _mm_max_ps((__m128)b, (__m128)a));
#else
    INTEGERS first = (a > b) | (a != a);
    return (VECTOR)((first & (INTEGERS)a) | (~first & (INTEGERS)b));
#endif
}

ALWAYS_INLINE void JOIN(filters_tile_, WIDTH)(const filters_tile_args *args, const int P, const int V) {
    VECTOR a[12][2];
    UNROLL for (int v = 0; v < V; v++) {
        VECTOR start = *(const VECTOR *)(args->bias + v * WIDTH);
        UNROLL for (int p = 0; p < P; p++) a[p][v] = start;
    }
    const ptrdiff_t pixel = args->pixel;
    for (ptrdiff_t r = 0; r < args->run_count; r++) {
        const float *x[4];
        for (int i = 0; i < 4; i++) x[i] = args->x + args->runs[r].x + i * pixel;
        const float *w = args->weights + args->runs[r].tap * (V * WIDTH);
        for (ptrdiff_t t = args->runs[r].length; t > 0; t--, w += V * WIDTH) {
            VECTOR weight[2];
            UNROLL for (int v = 0; v < V; v++) weight[v] = *(const VECTOR *)(w + v * WIDTH);
            UNROLL for (int p = 0; p < P; p++) {
                float in = x[pixel_base[p]][pixel_steps[p] * pixel];
                UNROLL for (int v = 0; v < V; v++) a[p][v] += in * weight[v];
            }
            for (int i = 0; i < 4; i++) x[i]++;
        }
    }
    UNROLL for (int p = 0; p < P; p++)
        UNROLL for (int v = 0; v < V; v++) {
            float *y = args->y + p * args->y_pixel + v * WIDTH;
            if (args->relu) a[p][v] = JOIN(filters_relu_, WIDTH)(a[p][v]);
            *(VECTOR *)y = a[p][v];
        }
}

/* One pixel, as of a dense layer: four sums at once hide a multiply-add's latency. */
ALWAYS_INLINE void JOIN(filters_pixel_, WIDTH)(const filters_tile_args *args, const int V) {
    VECTOR a[4][2] = {{{0}}};
    UNROLL for (int v = 0; v < V; v++) a[0][v] = *(const VECTOR *)(args->bias + v * WIDTH);
    for (ptrdiff_t r = 0; r < args->run_count; r++) {
        const float *x = args->x + args->runs[r].x;
        const float *w = args->weights + args->runs[r].tap * (V * WIDTH);
        ptrdiff_t n = args->runs[r].length, t = 0;
        for (; t + 4 <= n; t += 4)
            UNROLL for (int k = 0; k < 4; k++)
                UNROLL for (int v = 0; v < V; v++)
                    a[k][v] += x[t + k] * *(const VECTOR *)(w + (t + k) * (V * WIDTH) + v * WIDTH);
        for (; t < n; t++)
            UNROLL for (int v = 0; v < V; v++) a[0][v] += x[t] * *(const VECTOR *)(w + t * (V * WIDTH) + v * WIDTH);
    }
    UNROLL for (int v = 0; v < V; v++) {
        VECTOR sum = (a[0][v] + a[1][v]) + (a[2][v] + a[3][v]);
        if (args->relu) sum = JOIN(filters_relu_, WIDTH)(sum);
        *(VECTOR *)(args->y + v * WIDTH) = sum;
    }
}

#define X(P, V) \
    static void JOIN(filters_tile_##P##x##V##_, WIDTH)(const filters_tile_args *args) { \
        if (P == 1) JOIN(filters_pixel_, WIDTH)(args, V); \
        else JOIN(filters_tile_, WIDTH)(args, P, V); \
    }
FILTER_TILES(X)
#undef X

#define X(P, V) [V][P] = JOIN(filters_tile_##P##x##V##_, WIDTH),
static filters_tile_function *const JOIN(filters_tiles_, WIDTH)[3][13] = {FILTER_TILES(X)};
#undef X

#ifdef FILTER_POOL_TILES
#include "filters_pool_tile.h"
#endif

#undef VECTOR
#undef INTEGERS
#undef JOIN
#undef JOIN_OF
