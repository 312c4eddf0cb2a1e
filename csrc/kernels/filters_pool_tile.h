/* The tile of filters_pool.h for one vector width; included by filters_tile.h, whose
 * names it uses.  Two rows of P pixels by V vectors of WIDTH filters: an input row is
 * read once for both. */

#if WIDTH == 16
/* Two neighbours (x[0], x[1]) beside each other in the lanes, eight times. */
ALWAYS_INLINE VECTOR filters_pair(const float *x) {
    double both;
    memcpy(&both, x, sizeof both);
    return (VECTOR)_mm512_set1_pd(both);
}
#endif

/* The taps of one run, for the upper row (weights w), the lower (weights w - back), or both. */
ALWAYS_INLINE void JOIN(filters_pool_run_, WIDTH)(const filters_pool_args *args, const tc_run *run, ptrdiff_t row,
                                                  VECTOR a[2][12][2], const int P, const int V, const int paired,
                                                  const int upper, const int lower) {
    const ptrdiff_t pixel = args->pixel, stride = V * WIDTH, back = args->row_taps * stride;
    const float *x[4];
    for (int i = 0; i < 4; i++) x[i] = args->x + row * args->x_row_stride + run->x + i * pixel;
    const float *w = args->weights + (row * args->row_taps + run->tap) * stride;
    for (ptrdiff_t t = run->length; t > 0; t--, w += stride) {
        VECTOR first[2], second[2];
        UNROLL for (int v = 0; v < V; v++) {
            if (upper) first[v] = *(const VECTOR *)(w + v * WIDTH);
            if (lower) second[v] = *(const VECTOR *)(w - back + v * WIDTH);
        }
        UNROLL for (int p = 0; p < P; p++) {
#if WIDTH == 16
            VECTOR in = paired ? filters_pair(x[0] + 2 * p) : x[pixel_base[p]][pixel_steps[p] * pixel] - (VECTOR){0};
#else
            VECTOR in = x[pixel_base[p]][pixel_steps[p] * pixel] - (VECTOR){0};
#endif
            UNROLL for (int v = 0; v < V; v++) {
                if (upper) a[0][p][v] += in * first[v];
                if (lower) a[1][p][v] += in * second[v];
            }
        }
        for (int i = 0; i < 4; i++) x[i]++;
        /* GCC would keep pixels for the next tap's neighbours, in registers that it lacks. */
        if (paired) __asm__("" : "+r"(x[0]));
    }
}

ALWAYS_INLINE void JOIN(filters_pool_, WIDTH)(const filters_pool_args *args, const int P, const int V,
                                              const int paired) {
    VECTOR a[2][12][2];
    UNROLL for (int v = 0; v < V; v++) {
        VECTOR start = *(const VECTOR *)(args->bias + v * WIDTH);
        UNROLL for (int p = 0; p < P; p++) a[0][p][v] = a[1][p][v] = start;
    }
    ptrdiff_t row = args->first_row;
    const tc_run *end = args->runs + args->run_count;
    if (row == 0 && row < args->last_row) {
        for (const tc_run *run = args->runs; run < end; run++)
            JOIN(filters_pool_run_, WIDTH)(args, run, 0, a, P, V, paired, 1, 0);
        row = 1;
    }
    for (; row < args->kernel_rows && row < args->last_row; row++)
        for (const tc_run *run = args->runs; run < end; run++)
            JOIN(filters_pool_run_, WIDTH)(args, run, row, a, P, V, paired, 1, 1);
    if (row < args->last_row)
        for (const tc_run *run = args->runs; run < end; run++)
            JOIN(filters_pool_run_, WIDTH)(args, run, row, a, P, V, paired, 0, 1);
#if WIDTH == 16
    if (paired) {
        UNROLL for (int p = 0; p < P; p++) {
            VECTOR m = filters_max_16(a[0][p][0], a[1][p][0]);
            m = filters_relu_16(filters_max_16(m, (VECTOR)_mm512_permute_ps((__m512)m, 0xb1)));
            _mm256_storeu_si256((__m256i *)(args->y + p * args->y_pixel), _mm512_cvtepi64_epi32((__m512i)m));
        }
        return;
    }
#endif
    UNROLL for (int p = 0; p + 1 < P; p += 2)
        UNROLL for (int v = 0; v < V; v++) {
            VECTOR m = JOIN(filters_max_, WIDTH)(JOIN(filters_max_, WIDTH)(a[0][p][v], a[0][p + 1][v]),
                                                 JOIN(filters_max_, WIDTH)(a[1][p][v], a[1][p + 1][v]));
            *(VECTOR *)(args->y + p / 2 * args->y_pixel + v * WIDTH) = JOIN(filters_relu_, WIDTH)(m);
        }
}

#define X(C, V) \
    static void JOIN(filters_pool_##C##x##V##_, WIDTH)(const filters_pool_args *args) { \
        JOIN(filters_pool_, WIDTH)(args, 2 * C, V, 0); \
    }
FILTER_POOL_TILES(X)
#undef X

#define X(C, V) [V][C] = JOIN(filters_pool_##C##x##V##_, WIDTH),
static filters_pool_function *const JOIN(filters_pools_, WIDTH)[3][FILTER_POOL_COLUMNS + 1] = {FILTER_POOL_TILES(X)};
#undef X

#if WIDTH == 16
/* Tiles of two neighbouring pixels in the lanes: P results of the pool each. */
#define FILTER_POOL_PAIRS 12
#define PAIRS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#define X(P) \
    static void filters_pairs_##P(const filters_pool_args *args) { filters_pool_16(args, P, 1, 1); }
PAIRS(X)
#undef X
#define X(P) [P] = filters_pairs_##P,
static filters_pool_function *const filters_pairs[FILTER_POOL_PAIRS + 1] = {PAIRS(X)};
#undef X
#undef PAIRS
#endif
