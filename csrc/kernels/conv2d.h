/* Convolution with images in the lanes: forward, backward-data, backward-weights.
 *
 * The idea, on one screen.  Forward and backward-data are one loop, a correlation:
 * for a tile of P pixels and F filters,
 *
 *     for each run of taps:                 runs are contiguous in x and in the weights
 *         for t in run:
 *             a[p][f] += x[p][t] * w[t][f]  x: a vector of images, w: a scalar
 *
 * with P * F accumulators in registers.  Backward-weights turns the accumulators
 * round (taps x filters), runs over pixels, and adds the lanes up at the end:
 *
 *     for each pixel:
 *         a[t][f] += x[pixel][t] * dz[pixel][f]
 *
 * What follows is edges: which taps a pixel has, and how tiles cover a row.
 *
 * Shapes: x [h][w][c][lane], y and dz [oh][ow][f][lane], packed weights
 * [tile of filters][tap][filter]. */
#ifndef TC_CONV2D_H
#define TC_CONV2D_H

#include "../kernels.h"
#include "depthwise_columns.h"
#include "tiles.h"

/* ---- weights ------------------------------------------------------------------ */

/* One group of a kernel whose taps are `stride` filters apart; returns the end of `packed`. */
static float *pack_group(const float *kernel, ptrdiff_t kernel_rows, ptrdiff_t kernel_columns, ptrdiff_t channels,
                         ptrdiff_t filters, ptrdiff_t stride, int transposed, int one_pixel, float *packed) {
    int widest = one_pixel ? TILE_FILTERS_ONE_PIXEL : TILE_FILTERS;
    ptrdiff_t outputs = transposed ? channels : filters, inputs = transposed ? filters : channels;
    ptrdiff_t output_stride = transposed ? stride : 1, input_stride = transposed ? 1 : stride;
    for (ptrdiff_t o = 0; o < outputs;) {
        int width = tile_filters(outputs - o, widest);
        for (ptrdiff_t i = 0; i < kernel_rows; i++)
            for (ptrdiff_t j = 0; j < kernel_columns; j++) {
                ptrdiff_t column = transposed ? kernel_columns - 1 - j : j;
                const float *w = kernel + (i * kernel_columns + column) * channels * stride + o * output_stride;
                for (ptrdiff_t t = 0; t < inputs; t++)
                    for (int f = 0; f < width; f++) *packed++ = w[t * input_stride + f * output_stride];
            }
        o += width;
    }
    return packed;
}

static void pack(const float *kernel, ptrdiff_t kernel_rows, ptrdiff_t kernel_columns, ptrdiff_t channels,
                 ptrdiff_t filters, ptrdiff_t groups, int transposed, int one_pixel, float *packed) {
    if (groups > 1 && channels == 1) {
        depthwise_pack(kernel, kernel_rows, kernel_columns, groups * filters, transposed, packed);
        return;
    }
    for (ptrdiff_t group = 0; group < groups; group++)
        packed = pack_group(kernel + group * filters, kernel_rows, kernel_columns, channels, filters, groups * filters,
                            transposed, one_pixel, packed);
}

/* ---- forward and backward-data ------------------------------------------------- */

typedef struct correlate_tile_args {
    const tc_run *runs;
    ptrdiff_t run_count;
    const vfloat *x;      /* runs[].x is relative to this */
    ptrdiff_t pixel;      /* vectors between two pixels of the tile */
    const float *weights; /* [tap][F] */
    const float *bias;    /* [F], or NULL */
    int relu;
    vfloat *y; /* [P][..F], y_pixel apart */
    ptrdiff_t y_pixel;
} correlate_tile_args;

ALWAYS_INLINE void correlate_tile(const correlate_tile_args *args, const int P, const int F) {
    vfloat a[8][16];
    UNROLL for (int f = 0; f < F; f++) {
        vfloat start = args->bias ? v_set1(args->bias[f]) : (vfloat){0};
        UNROLL for (int p = 0; p < P; p++) a[p][f] = start;
    }
    const ptrdiff_t pixel = args->pixel;
    for (ptrdiff_t r = 0; r < args->run_count; r++) {
        const vfloat *x = args->x + args->runs[r].x;
        const float *w = args->weights + args->runs[r].tap * F;
        for (ptrdiff_t t = args->runs[r].length; t > 0; t--, x++, w += F) {
            vfloat in[8];
            UNROLL for (int p = 0; p < P; p++) in[p] = x[p * pixel];
            UNROLL for (int f = 0; f < F; f++) {
                vfloat weight = v_set1(w[f]);
                UNROLL for (int p = 0; p < P; p++) a[p][f] += in[p] * weight;
            }
        }
    }
    if (args->relu) {
        /* v_max(0, a) is a where a is NaN. */
        UNROLL for (int p = 0; p < P; p++)
            UNROLL for (int f = 0; f < F; f++) a[p][f] = v_max((vfloat){0}, a[p][f]);
    }
    vfloat *y = args->y;
    UNROLL for (int p = 0; p < P; p++)
        UNROLL for (int f = 0; f < F; f++) y[p * args->y_pixel + f] = a[p][f];
}

#define X(P, F) \
    static void correlate_tile_##P##x##F(const correlate_tile_args *args) { correlate_tile(args, P, F); }
TILES(X)
#undef X

typedef void correlate_tile_function(const correlate_tile_args *);
#define X(P, F) [F][P] = correlate_tile_##P##x##F,
static correlate_tile_function *const correlate_tiles[17][9] = {TILES(X)};
#undef X

static int widest_tile(ptrdiff_t channels, int *filters) {
    *filters = tile_filters(channels, TILE_FILTERS);
    return tile_pixels[*filters];
}

static void correlate_row_tiles(const tc_correlation *g, ptrdiff_t a, ptrdiff_t first, ptrdiff_t last, const float *x,
                                const float *packed, const float *bias, int relu, float *y) {
    if (g->depthwise) {
        depthwise_row_tiles(g, a, first, last, x, packed, bias, relu, y);
        return;
    }
    /* The kernel rows that lie in the image. */
    ptrdiff_t row = a * g->row_step, i0 = 0, i1 = g->kernel_rows;
    while (i0 < i1 && row + g->rows[i0].position < 0) i0++;
    while (i1 > i0 && row + g->rows[i1 - 1].position >= g->x_rows) i1--;
    const vfloat *x_row = (const vfloat *)x + g->x_start + row * g->x_row_stride;
    correlate_tile_args args = {.pixel = g->column_step * g->x_column_stride, .relu = relu,
                                .y_pixel = g->y_column_stride};
    for (const tc_tile *tile = g->tiles + first; tile < g->tiles + last; tile++) {
        args.runs = tile->runs + i0 * tile->runs_per_row;
        args.run_count = (i1 - i0) * tile->runs_per_row;
        args.x = x_row + tile->column * args.pixel;
        args.weights = packed;
        args.bias = bias;
        args.y = (vfloat *)y + (tile->column - g->tiles[first].column) * g->y_column_stride;
        for (ptrdiff_t group = 0; group < g->groups; group++, args.x += g->x_channels)
            for (ptrdiff_t f = 0; f < g->y_channels;) {
                int filters = tile_filters(g->y_channels - f, TILE_FILTERS);
                correlate_tiles[filters][tile->pixels](&args);
                args.weights += g->taps * filters;
                args.bias = bias ? args.bias + filters : NULL;
                args.y += filters;
                f += filters;
            }
    }
}

/* All rows. */
static void correlate_image(const tc_correlation *g, const float *x, const float *packed, const float *bias, int relu,
                            float *y, ptrdiff_t y_row) {
    if (g->depthwise && column_fits(g)) {
        depthwise_columns(g, x, packed, bias, relu, y, y_row);
        return;
    }
    for (ptrdiff_t a = 0; a < g->y_rows; a++)
        correlate_row_tiles(g, a, 0, g->tile_count, x, packed, bias, relu, y + a * y_row * LANES);
}

/* ---- backward-weights ------------------------------------------------------------ */

typedef struct gradient_tile_args {
    const vfloat *x, *dz;            /* first pixel: [T] taps, [F] filters */
    ptrdiff_t x_row, x_pixel;        /* vectors from row to row, pixel to pixel */
    ptrdiff_t dz_row, dz_pixel;
    ptrdiff_t rows, columns;
    float *dw;                       /* [T][..F], filters apart; accumulated */
    ptrdiff_t filters;
} gradient_tile_args;

ALWAYS_INLINE void gradient_tile(const gradient_tile_args *args, const int T, const int F) {
    vfloat a[8][16];
    UNROLL for (int t = 0; t < T; t++)
        UNROLL for (int f = 0; f < F; f++) a[t][f] = (vfloat){0};
    const ptrdiff_t x_pixel = args->x_pixel, dz_pixel = args->dz_pixel;
    for (ptrdiff_t i = 0; i < args->rows; i++) {
        const vfloat *x = args->x + i * args->x_row, *dz = args->dz + i * args->dz_row;
        for (ptrdiff_t j = args->columns; j > 0; j--, x += x_pixel, dz += dz_pixel) {
            vfloat d[16];
            UNROLL for (int f = 0; f < F; f++) d[f] = dz[f];
            UNROLL for (int t = 0; t < T; t++) {
                vfloat in = x[t];
                UNROLL for (int f = 0; f < F; f++) a[t][f] += in * d[f];
            }
        }
    }
    UNROLL for (int t = 0; t < T; t++) {
        float *dw = args->dw + t * args->filters;
        if (F % 4 == 0) {
            UNROLL for (int f = 0; f + 4 <= F; f += 4) {
                float sums[4];
                v_sum4(a[t][f], a[t][f + 1], a[t][f + 2], a[t][f + 3], sums);
                for (int k = 0; k < 4; k++) dw[f + k] += sums[k];
            }
        } else {
            UNROLL for (int f = 0; f < F; f++) dw[f] += v_sum(a[t][f]);
        }
    }
}

#define X(P, F) \
    static void gradient_tile_##P##x##F(const gradient_tile_args *args) { gradient_tile(args, P, F); }
TILES(X)
#undef X

typedef void gradient_tile_function(const gradient_tile_args *);
#define X(P, F) [F][P] = gradient_tile_##P##x##F,
static gradient_tile_function *const gradient_tiles[17][9] = {TILES(X)};
#undef X

/* The widest filter tile whose tap tile still covers `taps` well: few taps (3 of a
 * one-channel 3 x 3 kernel) take more filters, many take the tile with fewest loads. */
ALWAYS_INLINE int gradient_filters(ptrdiff_t taps, ptrdiff_t left) {
    int filters = tile_filters(left, TILE_FILTERS);
    if (filters == TILE_FILTERS && TILE_FILTERS == 8 && taps > 3) filters = 4;
    return filters;
}

/* x, dz and dw point at the first channel and filter of a group. */
static void weight_gradient_group(const tc_weight_gradient *g, ptrdiff_t first, ptrdiff_t last, const vfloat *x,
                                  const vfloat *dz, float *dw) {
    /* With no dilation along the row a kernel row's taps are one stretch of memory. */
    int joined = g->x_column_stride == g->x_channels && (g->column_dilation == 1 || g->kernel_columns == 1);
    ptrdiff_t stretches = joined ? 1 : g->kernel_columns;
    ptrdiff_t taps = joined ? g->kernel_columns * g->x_channels : g->x_channels;
    gradient_tile_args args = {.x_row = g->row_step * g->x_row_stride,
                               .x_pixel = g->column_step * g->x_column_stride,
                               .dz_row = g->dz_row_stride,
                               .dz_pixel = g->dz_column_stride,
                               .columns = g->dz_columns,
                               .filters = g->filters};
    /* Filters outermost: their columns of dz stay in L1 while the taps pass. */
    for (ptrdiff_t f = 0; f < g->dz_channels;) {
        int filters = gradient_filters(taps, g->dz_channels - f);
        for (ptrdiff_t i = 0; i < g->kernel_rows; i++) {
            /* Rows of dz for which this kernel row lies in the image. */
            ptrdiff_t shift = i * g->row_dilation - g->pad_top, a0 = first, a1 = last;
            while (a0 < a1 && a0 * g->row_step + shift < 0) a0++;
            while (a1 > a0 && (a1 - 1) * g->row_step + shift >= g->x_rows) a1--;
            if (a0 == a1) continue;
            args.rows = a1 - a0;
            args.dz = dz + (a0 - first) * g->dz_row_stride + f;
            const vfloat *x_row = x + (a0 * g->row_step + shift) * g->x_row_stride;
            for (ptrdiff_t j = 0; j < stretches; j++) {
                int widest = tile_pixels[filters];
                ptrdiff_t tiles = (taps + widest - 1) / widest;
                for (ptrdiff_t tile = 0, t = 0; tile < tiles; tile++) {
                    ptrdiff_t count = (taps - t + (tiles - tile) - 1) / (tiles - tile);
                    args.x = x_row + j * g->column_dilation * g->x_column_stride + t;
                    args.dw = dw + ((i * stretches + j) * taps + t) * g->filters + f;
                    gradient_tiles[filters][count](&args);
                    t += count;
                }
            }
        }
        f += filters;
    }
}

static void weight_gradient(const tc_weight_gradient *g, ptrdiff_t first, ptrdiff_t last, const float *x,
                            const float *dz, float *dw) {
    if (g->groups > 1 && g->x_channels == 1) {
        if (column_gradient_fits(g)) depthwise_columns_gradient(g, first, last, x, dz, dw);
        else depthwise_weight_gradient(g, first, last, x, dz, dw);
        return;
    }
    for (ptrdiff_t group = 0; group < g->groups; group++)
        weight_gradient_group(g, first, last, (const vfloat *)x + g->x_start + group * g->x_channels,
                              (const vfloat *)dz + group * g->dz_channels, dw + group * g->dz_channels);
}

static void bias_gradient(const float *dz, ptrdiff_t rows, ptrdiff_t row_stride, ptrdiff_t columns,
                          ptrdiff_t channels, float *db) {
    for (ptrdiff_t f = 0; f < channels;) {
        int filters = tile_filters(channels - f, TILE_FILTERS);
        vfloat a[8] = {{0}};
        for (ptrdiff_t i = 0; i < rows; i++) {
            const vfloat *d = (const vfloat *)dz + i * row_stride + f;
            for (ptrdiff_t j = 0; j < columns; j++, d += channels)
                for (int k = 0; k < filters; k++) a[k] += d[k];
        }
        for (int k = 0; k < filters; k++) db[f + k] += v_sum(a[k]);
        f += filters;
    }
}

#endif
