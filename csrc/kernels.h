/* What the executor asks of the kernels: one table of functions per instruction set.
 *
 * Image-lane arrays are [h][w][c][lane]: a "vector" is the value of one element for
 * `lanes` images side by side.  All strides and sizes below count vectors unless
 * they say floats.  Kernels hold no threads and allocate nothing. */
#ifndef TC_KERNELS_H
#define TC_KERNELS_H

#include "tinyconv.h"

/* One row or column of a kernel: where it reads, and which tap of the weights. */
typedef struct tc_offset {
    ptrdiff_t position; /* input row (column) that it reads for output row (column) 0 */
    ptrdiff_t tap;      /* its first tap among the packed weights */
} tc_offset;

/* A stretch of vectors, contiguous in the input and in the packed weights. */
typedef struct tc_run {
    ptrdiff_t x, tap, length;
} tc_run;

/* A correlation of an image block with packed weights: the forward convolution, or
 * one phase of backward-data (whose input is dz and whose output is dx).  Strides
 * count vectors; in the path for few images, whose pixels are scalars, floats.
 * x_channels and y_channels are those of one group; the groups lie side by side in x, in y
 * and, one behind the other, in the packed weights; where depthwise is set, see
 * kernels/depthwise.h for the packed weights.
 * y[a][b][f] = bias[f] + sum over kernel rows i, columns j, channels c of
 *     x[a * row_step + rows[i].position][b * column_step + columns[j].position][c]
 *     * w[rows[i].tap + columns[j].tap + c][f]
 * Kernel rows outside the image are left out; columns outside it must be stored as
 * zeros, as far as a column with any pixel inside the image reaches. */
typedef struct tc_correlation {
    int depthwise; /* groups of one channel: x_channels (in backward-data y_channels) is 1 */
    ptrdiff_t groups, y_rows, y_columns, y_channels;
    ptrdiff_t y_start, y_row_stride, y_column_stride;
    ptrdiff_t x_rows, x_columns, x_channels;
    ptrdiff_t x_start, x_row_stride, x_column_stride; /* x_start: of pixel (0, 0) */
    ptrdiff_t row_step, column_step;
    ptrdiff_t taps; /* length of the packed weights per output channel */
    ptrdiff_t kernel_rows, kernel_columns;
    tc_offset *rows, *columns; /* both by ascending position */
    struct tc_tile *tiles; /* how a row of the output is covered, planned once */
    ptrdiff_t tile_count;
} tc_correlation;

/* A stretch of output pixels that one register tile computes, and the taps that any of
 * them has: runs[i * runs_per_row ...] for kernel row i. */
typedef struct tc_tile {
    ptrdiff_t column, pixels;
    tc_run *runs;
    ptrdiff_t runs_per_row;
} tc_tile;

/* The runs of kernel rows [i0, i1) and columns [j0, j1): one a kernel row where its
 * columns are neighbours in x and in the weights, else one a tap.  Returns how many. */
static inline ptrdiff_t tc_make_runs(const tc_correlation *g, ptrdiff_t i0, ptrdiff_t i1, ptrdiff_t j0,
                                     ptrdiff_t j1, tc_run *runs) {
    ptrdiff_t n = 0;
    for (ptrdiff_t i = i0; i < i1; i++) {
        ptrdiff_t row = g->rows[i].position * g->x_row_stride;
        for (ptrdiff_t j = j0; j < j1; j++) {
            tc_run run = {row + g->columns[j].position * g->x_column_stride, g->rows[i].tap + g->columns[j].tap,
                          g->x_channels};
            if (j > j0 && runs[n - 1].x + runs[n - 1].length == run.x &&
                runs[n - 1].tap + runs[n - 1].length == run.tap)
                runs[n - 1].length += run.length;
            else
                runs[n++] = run;
        }
    }
    return n;
}

/* Max-pooling or average-pooling geometry. */
typedef struct tc_pool {
    ptrdiff_t x_rows, x_columns, channels, y_rows, y_columns;
    ptrdiff_t window_height, window_width, stride_height, stride_width, pad_top, pad_left;
} tc_pool;

/* The gradient of a convolution's weights from rows of dz.
 * x_channels and dz_channels are those of one group; dw has `filters` values a tap.
 * dw[(kh, kw, c), f] += sum over lanes, rows a, columns b of
 *     x[a * row_step + kh * row_dilation - pad_top][b * column_step + kw * column_dilation - pad_left][c]
 *     * dz[a][b][f] */
typedef struct tc_weight_gradient {
    ptrdiff_t groups, filters;
    ptrdiff_t x_rows, x_channels, x_start, x_row_stride, x_column_stride; /* x_start: of pixel (0, -pad_left) */
    ptrdiff_t dz_columns, dz_channels, dz_row_stride, dz_column_stride;
    ptrdiff_t kernel_rows, kernel_columns, row_step, column_step, row_dilation, column_dilation, pad_top;
} tc_weight_gradient;

/* dw[i][t][f] += sum over images, rows, columns of x[image][row][column][i][t] * dz[...][f]; all
 * in floats, filters a multiple of `narrow`, the taps t of a pixel and kernel row i contiguous. */
typedef struct tc_outer_sum {
    const float *x, *dz; /* of the first pixel */
    ptrdiff_t images, rows, columns, kernel_rows, taps, filters;
    ptrdiff_t x_image, x_row, x_pixel, x_kernel_row, dz_image, dz_row, dz_pixel;
    float *dw;
    ptrdiff_t dw_row, dw_kernel_row; /* from tap to tap, from kernel row to kernel row */
} tc_outer_sum;

/* What changes the values of images: one vector each, and limits for all; see kernels/levels.h. */
typedef struct tc_levels {
    const float *factor, *shift;
    float low, high;
} tc_levels;

/* Sampling an image at the places that an affine map of its pixels names. */
typedef struct tc_affine {
    ptrdiff_t rows, columns, channels;
    int fill_mode, nearest;
    float fill_value;
} tc_affine;

/* A loss of one block; see kernels/loss_args.h for the fields' meaning. */
typedef struct tc_loss_request {
    int kind, from_logits;
    float label_smoothing;
    const float *parameters;
    ptrdiff_t positions, channels;
    const float *output, *dense;
    const int32_t *sparse;
    const float *weight; /* one vector: sample weight * scale / n, 0 in idle lanes */
    float *gradient;     /* or NULL */
    float *loss;         /* one vector, overwritten */
} tc_loss_request;

typedef struct tc_kernels {
    const char *name;
    int lanes;

    /* Rows source[i] (i < count <= lanes) of `length` values, uint8 or float32, into
     * lanes: y[k * y_stride ...] = scale * value + offset; idle lanes get zeros.
     * Rows of `row` values each go to y row by row, y_row_stride apart. */
    void (*gather)(const void *const *source, int count, int is_uint8, ptrdiff_t rows, ptrdiff_t row, float scale,
                   float offset, float *y, ptrdiff_t y_row_stride);
    /* The first count lanes of x (rows of `row` vectors, x_row_stride apart) to rows target[i]. */
    void (*scatter)(const float *x, ptrdiff_t x_row_stride, ptrdiff_t rows, ptrdiff_t row, int count,
                    float *const *target);

    /* packed: taps * outputs floats.  Tap (kh, kw, c) of output f is kernel[((kh*KW + kw)*C + c)*F + f];
     * transposed: tap (kh, KW-1-kw, f) of output c.  one_pixel: for `dense`, not correlate_tiles.
     * channels and filters: of one group, of which the kernel has `groups` side by side. */
    void (*pack)(const float *kernel, ptrdiff_t kernel_rows, ptrdiff_t kernel_columns, ptrdiff_t channels,
                 ptrdiff_t filters, ptrdiff_t groups, int transposed, int one_pixel, float *packed);
    /* Tiles [first, last) of output row a of a correlation, overwritten; y points at their
     * first pixel, x at the block's input.  bias (floats) or NULL; relu: max(0, .) at the end. */
    void (*correlate_tiles)(const tc_correlation *geometry, ptrdiff_t a, ptrdiff_t first, ptrdiff_t last,
                            const float *x, const float *packed, const float *bias, int relu, float *y);
    /* The same for all of its rows, y_row vectors apart: y points at the first pixel. */
    void (*correlate_image)(const tc_correlation *geometry, const float *x, const float *packed, const float *bias,
                            int relu, float *y, ptrdiff_t y_row);
    /* Pixels of the widest tile beside the filters of the first tile of `channels`. */
    int (*widest_tile)(ptrdiff_t channels, int *filters);
    /* dw (floats): accumulated; dz points at row `first` of [first, last). */
    void (*weight_gradient)(const tc_weight_gradient *geometry, ptrdiff_t first, ptrdiff_t last, const float *x,
                            const float *dz, float *dw);
    /* db (floats) += sum over lanes and pixels of dz rows. */
    void (*bias_gradient)(const float *dz, ptrdiff_t rows, ptrdiff_t row_stride, ptrdiff_t columns,
                          ptrdiff_t channels, float *db);

    /* The transforms of kernels/winograd.h, row by row, with n points (6 or 8). */
    void (*winograd_input)(const float *x, int n, ptrdiff_t columns, ptrdiff_t tiles, ptrdiff_t channels, float *u);
    void (*winograd_gradient_points)(const float *dz, int n, ptrdiff_t columns, ptrdiff_t tiles, ptrdiff_t channels,
                                     float *d);
    void (*winograd_output)(const float *products, int n, ptrdiff_t columns, ptrdiff_t tiles, ptrdiff_t filters,
                            const float *bias, int relu, float *y);
    void (*winograd_kernel)(const float *kernel, int n, int k, ptrdiff_t kernel_rows, ptrdiff_t plane, int reversed,
                            float *points);
    void (*winograd_kernel_gradient)(const float *points, int n, ptrdiff_t kernel_rows, ptrdiff_t plane, float *dw);

    /* y[u] = bias[u] + sum_k x[k] w[k][u], overwritten; x [inputs], y [units]. */
    void (*dense)(const float *x, ptrdiff_t inputs, ptrdiff_t units, const float *packed, const float *bias,
                  int relu, float *y);
    /* dw[k][u] (floats) += sum over lanes of x[k] dz[u]; scratch: units + 1 vectors. */
    void (*dense_weight_gradient)(const float *x, const float *dz, ptrdiff_t inputs, ptrdiff_t units, float *dw,
                                  float *scratch);

    /* Output row a of a pool.  x rows are given one by one (x[i]: window row i, NULL where
     * outside the image).  index: bytes a lane (1 or 4) and array, or NULL; position in the window. */
    void (*max_pool_row)(const tc_pool *pool, const float *const *x, float *y, void *index, int index_bytes);
    /* dx rows of output row a: dx[i] overwritten (accumulate == 0) or accumulated. */
    void (*max_pool_row_backward)(const tc_pool *pool, const float *dy, const void *index, int index_bytes,
                                  float *const *dx, int accumulate);
    void (*average_pool_row)(const tc_pool *pool, const float *const *x, float *y);
    void (*average_pool_row_backward)(const tc_pool *pool, const float *dy, float *const *dx);

    /* Element-wise over n vectors. */
    void (*activation)(int function, const float *parameters, const float *x, float *y, ptrdiff_t n);
    void (*activation_backward)(int function, const float *parameters, const float *saved, const float *dy,
                                float *dx, ptrdiff_t n);
    void (*scale)(const float *x, float *y, ptrdiff_t n, float scale, float offset);
    /* Rows [first, last) of a map, each of `run` vectors: y overwritten, from its first. */
    void (*apply_map)(const tc_map *map, ptrdiff_t first, ptrdiff_t last, const float *x, float *y);
    /* Batch normalization; see kernels/batchnorm.h. */
    void (*norm_statistics)(const float *x, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t channels,
                            int count, double *mean, double *deviations);
    void (*normalize)(const float *x, ptrdiff_t columns, ptrdiff_t channels, const float *mean, const float *scale,
                      const float *beta, int relu, float *y);
    void (*norm_sums)(const float *x, const float *dy, ptrdiff_t pixels, ptrdiff_t channels, int count,
                      const float *mean, const float *inverse, double *sums);
    void (*norm_backward)(const float *x, const float *dy, ptrdiff_t pixels, ptrdiff_t channels, int count,
                          const float *mean, const float *scale, const float *dy_mean, const float *slope, float *dx);
    /* Slopes below 0; see kernels/prelu.h. */
    void (*prelu_row)(const float *x, ptrdiff_t columns, ptrdiff_t channels, const float *slopes,
                      ptrdiff_t column_stride, ptrdiff_t channel_stride, float *y);
    void (*prelu_row_backward)(const float *x, const float *dy, ptrdiff_t columns, ptrdiff_t channels,
                               const float *slopes, ptrdiff_t column_stride, ptrdiff_t channel_stride,
                               float *dslopes, float *dx);
    void (*softmax)(const float *x, float *y, ptrdiff_t positions, ptrdiff_t channels, int logarithm);
    void (*softmax_backward)(const float *y, const float *dy, float *dx, ptrdiff_t positions, ptrdiff_t channels,
                             int logarithm);
    /* Row a of an image sampled at x = m[0] b + m[1] a + m[2], y = m[3] b + m[4] a + m[5] for its
     * columns b; m: six vectors.  y overwritten; backward: dx of the whole image accumulated. */
    void (*affine_row)(const tc_affine *geometry, const float *m, ptrdiff_t a, const float *x, float *y);
    void (*affine_row_backward)(const tc_affine *geometry, const float *m, ptrdiff_t a, const float *dy, float *dx);
    /* Values of images changed; see kernels/levels.h. */
    void (*level_sums)(const float *x, ptrdiff_t pixels, ptrdiff_t channels, float *sums);
    void (*level_row)(const tc_levels *levels, const float *middle, const float *x, ptrdiff_t pixels,
                      ptrdiff_t channels, float *y);
    void (*level_row_backward)(const tc_levels *levels, const float *middle, const float *x, ptrdiff_t pixels,
                               ptrdiff_t channels, float *dy, float *sums);
    void (*level_spread)(const float *factors, const float *mean, ptrdiff_t pixels, ptrdiff_t channels, float *dy);
    /* Noise under two keys a lane (one vector each); its gradient where backward is 1. */
    void (*noise)(int kind, int backward, float amount, const float *x, float *y, ptrdiff_t n, const uint32_t *key0,
                  const uint32_t *key1);
    void (*loss)(const tc_loss_request *request);
    void (*metric)(int kind, float parameter, ptrdiff_t positions, ptrdiff_t channels, const float *output,
                   const float *dense, const int32_t *sparse, float *value);

    /* Few images: plain [h][w][c] arrays, filters in the lanes, channels padded to whole
     * vectors of `narrow` floats.  pack_filters: taps x `padded` filters floats of a kernel
     * with `stride` from tap to tap, and the bias, padded with zeros; each weight `copies`
     * times.  correlate_filters: as correlate_tiles, a whole row.  correlate_pool_filters: two
     * rows, relu and row a of their 2x2 pool, or NULL where they do not fit into registers;
     * paired: `narrow` filters, packed in two copies, and pixels of one float. */
    int narrow;
    void (*pack_filters)(const float *kernel, ptrdiff_t stride, const float *bias, ptrdiff_t taps, ptrdiff_t filters,
                         ptrdiff_t padded, int copies, float *packed, float *packed_bias);
    void (*correlate_filters)(const tc_correlation *geometry, ptrdiff_t a, const float *x, const float *packed,
                              const float *packed_bias, int relu, float *y);
    void (*correlate_pool_filters)(const tc_correlation *geometry, ptrdiff_t a, const float *x, const float *packed,
                                   const float *packed_bias, ptrdiff_t columns, int paired, float *y);
    /* As correlate_filters for grouped_filters or fewer (y_channels: as many as there are), that
     * many floats a pixel overwritten; grouped_filters is 0 where there is none.  pack_groups
     * returns how many floats are packed, and packs none where kernel (`stride` floats from tap to
     * tap) is NULL; packed_bias: one vector. */
    int grouped_filters;
    ptrdiff_t (*pack_groups)(const tc_correlation *geometry, const float *kernel, ptrdiff_t stride, const float *bias,
                             float *packed, float *packed_bias);
    void (*correlate_groups)(const tc_correlation *geometry, ptrdiff_t a, const float *x, const float *packed,
                             const float *packed_bias, int relu, float *y);
    void (*outer_sum)(const tc_outer_sum *sum);
    /* Depthwise, one filter a channel, g->groups of them, `lanes` or more; weights and dw [tap][channel],
     * nothing stored outside the image.  correlate_channels: as correlate_filters; correlate_channel_rows:
     * rows [first, last), y pointing at row 0.  channels_gradient: dw += that of some images, y being dz. */
    void (*correlate_channels)(const tc_correlation *geometry, ptrdiff_t a, const float *x, const float *weights,
                               const float *bias, int relu, float *y);
    void (*correlate_channel_rows)(const tc_correlation *geometry, ptrdiff_t first, ptrdiff_t last, const float *x,
                                   const float *weights, const float *bias, int relu, float *y);
    void (*channels_gradient)(const tc_correlation *geometry, ptrdiff_t images, const float *x, ptrdiff_t x_image,
                              const float *dz, ptrdiff_t dz_image, float *dw);
    /* (KH, KW, C, F) -> (KH, KW, F, C) with the columns reversed, overwritten. */
    void (*turn_kernel)(const float *kernel, ptrdiff_t kernel_rows, ptrdiff_t kernel_columns, ptrdiff_t channels,
                        ptrdiff_t filters, float *turned);
    void (*max_pool_filters)(const tc_pool *pool, const float *const *x, float *y);
    void (*average_pool_filters)(const tc_pool *pool, const float *const *x, float *y);
    void (*softmax_rows)(const float *x, float *y, ptrdiff_t rows, ptrdiff_t channels, ptrdiff_t stride,
                         int logarithm);

    /* The update of n floats at any address; kernels/optimizers.h and kernels/rules.h. */
    void (*sum_slots)(const float *slots, ptrdiff_t stride, ptrdiff_t count, ptrdiff_t n, float *g);
    void (*update)(int kind, const double *hyperparameters, ptrdiff_t n, float *w, const float *g, float *s0,
                   float *s1, float *s2);
    double (*penalize)(float l1, float l2, ptrdiff_t n, const float *w, float *g);
    float (*sum_squares)(ptrdiff_t n, const float *g);
    void (*add_scaled)(ptrdiff_t n, float a, const float *x, float b, const float *y, float *to);
    void (*clip)(ptrdiff_t n, float limit, float *g);
    void (*non_negative)(ptrdiff_t n, float *w);
    ptrdiff_t (*norm_units)(const ptrdiff_t *shape);
    void (*constrain_norm)(const ptrdiff_t *shape, float min, float max, float rate, ptrdiff_t unit, float *w);

    /* Arrays, NHWC, one image. */
    void (*max_pool_array)(const float *x, ptrdiff_t h, ptrdiff_t w, ptrdiff_t c, ptrdiff_t kh, ptrdiff_t kw,
                           ptrdiff_t sh, ptrdiff_t sw, ptrdiff_t pad_top, ptrdiff_t pad_left, ptrdiff_t oh,
                           ptrdiff_t ow, float *y, int32_t *index);
    void (*max_pool_array_backward)(const float *dy, const int32_t *index, ptrdiff_t h, ptrdiff_t w, ptrdiff_t c,
                                    ptrdiff_t kh, ptrdiff_t kw, ptrdiff_t sh, ptrdiff_t sw, ptrdiff_t pad_top,
                                    ptrdiff_t pad_left, ptrdiff_t oh, ptrdiff_t ow, float *dx);
    void (*softmax_cross_entropy_rows)(const float *logits, const int32_t *labels, const float *dense, ptrdiff_t rows,
                                       ptrdiff_t channels, float scale, float *losses, float *gradient);

    /* Nothing but arithmetic, `rounds` times; returns the number of operations.  *sink: overwritten. */
    double (*peak)(ptrdiff_t rounds, float *sink);
} tc_kernels;

#endif
