/* The tile of filters_gradient.h for one vector width; included once for each WIDTH.
 * R kernel rows of T taps (broadcast scalars) by V vectors of WIDTH filters. */

#define JOIN_OF(a, b) a##b
#define JOIN(a, b) JOIN_OF(a, b)
#define VECTOR JOIN(filters_vector_, WIDTH)

ALWAYS_INLINE void JOIN(outer_tile_, WIDTH)(const tc_outer_sum *s, const float *x_first, const float *dz_first,
                                            float *dw, const int R, const int T, const int V) {
    VECTOR a[24][2];
    UNROLL for (int i = 0; i < R; i++)
        UNROLL for (int t = 0; t < T; t++)
            UNROLL for (int v = 0; v < V; v++) a[i * T + t][v] = (VECTOR){0};
    const ptrdiff_t x_pixel = s->x_pixel, dz_pixel = s->dz_pixel, below = s->x_kernel_row;
    for (ptrdiff_t image = 0; image < s->images; image++)
        for (ptrdiff_t row = 0; row < s->rows; row++) {
            const float *x = x_first + image * s->x_image + row * s->x_row;
            const float *dz = dz_first + image * s->dz_image + row * s->dz_row;
            for (ptrdiff_t column = s->columns; column > 0; column--, x += x_pixel, dz += dz_pixel) {
                VECTOR d[2];
                UNROLL for (int v = 0; v < V; v++) d[v] = *(const VECTOR *)(dz + v * WIDTH);
                UNROLL for (int i = 0; i < R; i++)
                    UNROLL for (int t = 0; t < T; t++)
                        UNROLL for (int v = 0; v < V; v++) a[i * T + t][v] += x[i * below + t] * d[v];
            }
        }
    const ptrdiff_t dw_row = s->dw_row, dw_below = s->dw_kernel_row;
    UNROLL for (int i = 0; i < R; i++)
        UNROLL for (int t = 0; t < T; t++)
            UNROLL for (int v = 0; v < V; v++) {
                VECTOR *to = (VECTOR *)(dw + i * dw_below + t * dw_row + v * WIDTH);
                *to += a[i * T + t][v];
            }
}

#define X(T, V) \
    static void JOIN(outer_tile_##T##x##V##_, WIDTH)(const tc_outer_sum *s, const float *x, const float *dz, \
                                                     float *dw) { \
        JOIN(outer_tile_, WIDTH)(s, x, dz, dw, 1, T, V); \
    }
FILTER_TILES(X)
#undef X

#define X(T, V) [V][T] = JOIN(outer_tile_##T##x##V##_, WIDTH),
static outer_tile_function *const JOIN(outer_tiles_, WIDTH)[3][13] = {FILTER_TILES(X)};
#undef X

#define X(R, T) \
    static void JOIN(outer_rows_##R##x##T##_, WIDTH)(const tc_outer_sum *s, const float *x, const float *dz, \
                                                     float *dw) { \
        JOIN(outer_tile_, WIDTH)(s, x, dz, dw, R, T, 1); \
    }
ROW_TILES(X)
#undef X

#define X(R, T) [R][T] = JOIN(outer_rows_##R##x##T##_, WIDTH),
static outer_tile_function *const JOIN(outer_rows_, WIDTH)[4][ROW_TAPS + 1] = {ROW_TILES(X)};
#undef X
#undef VECTOR
#undef JOIN
#undef JOIN_OF
