/* A planned program: what program.c makes of the operations and execute.c runs. */
#ifndef TC_PROGRAM_H
#define TC_PROGRAM_H

#include <stdatomic.h>

#include "kernels.h"

/* The activations of one block: [height][left + width + right][channels][lane].  The
 * columns left and right are zeros, for the convolution that reads the tensor. */
typedef struct tc_tensor {
    ptrdiff_t height, width, channels, left, right;
    ptrdiff_t row_stride, size, offset; /* in vectors; offset into the workspace */
} tc_tensor;

/* What one trip through the network does; several operations may fuse into one. */
enum tc_step_kind {
    TC_STEP_CONV2D, /* + activation + max-pool */
    TC_STEP_CONV2D_TRANSPOSE, /* + activation; see tc_plan_conv2d_transpose */
    TC_STEP_DENSE,  /* + activation */
    TC_STEP_MAX_POOL2D,
    TC_STEP_AVERAGE_POOL2D,
    TC_STEP_ACTIVATION, /* linear: a copy into the next convolution's layout */
    TC_STEP_SOFTMAX,
    TC_STEP_DROPOUT,
    TC_STEP_RESCALE,
    TC_STEP_GATHER,
    TC_STEP_BATCH_NORM, /* + activation */
    TC_STEP_PRELU,
    TC_STEP_LEVELS, /* brightness or contrast drawn for each image; a copy outside training */
    TC_STEP_AFFINE, /* an affine map drawn for each image; a copy outside training */
};

/* Tiles of a convolution's row that are pooled while they are still in L1. */
typedef struct tc_chunk {
    ptrdiff_t first_tile, last_tile, columns, y_column, y_columns;
} tc_chunk;

/* A correlation by Winograd's filtering along rows: n correlations of points, each with
 * a kernel one column wide.  See kernels/winograd.h. */
typedef struct tc_winograd {
    int n;                /* points of a tile of four columns; 0 where the direct way is taken */
    ptrdiff_t tiles;      /* of a row of the output */
    ptrdiff_t first;      /* column of the stored input row that tile 0 starts at */
    ptrdiff_t stored;     /* columns stored from there */
    tc_correlation g;     /* of one point: from u [rows][n][tiles][channels] to [tiles][filters] */
    float *packed;        /* [n] packed kernels */
} tc_winograd;

/* Batch normalization: y = (x - mean) * gamma / sqrt(variance + epsilon) + beta, channel by
 * channel.  gamma, beta, mean, variance: weights; gamma and beta may be -1, for 1 and 0. */
typedef struct tc_norm {
    int gamma, beta, mean, variance;
    int frozen; /* never takes the statistics of the batch */
    int inverse; /* y = x * sqrt(variance + epsilon) + mean */
    double momentum, epsilon;
    ptrdiff_t channels;
    ptrdiff_t offset; /* of its numbers (norms.h), floats into those of a call */
} tc_norm;

/* Slopes below 0 of a weight: where that of row 0, column 0, channel 0 is the first, steps from
 * one to the next along each axis; 0 along an axis that shares one. */
typedef struct tc_slopes {
    int weight;
    ptrdiff_t row, column, channel;
} tc_slopes;

typedef struct tc_step {
    int kind;
    int function; /* activation, also the one fused behind a convolution or dense layer */
    float parameters[TC_MAX_PARAMETERS];
    uint64_t stream;
    int kernel, bias; /* weights, or -1 */
    const tc_norm *norm; /* of TC_STEP_BATCH_NORM, or folded into a kernel and its bias; or NULL */
    float *folded, *folded_bias; /* kernel and bias with the norm in them */
    ptrdiff_t kernel_rows, kernel_columns, inputs, outputs, groups;

    /* Convolution: z is its output before the pool, cut to what the pool reads. */
    tc_correlation forward;
    tc_correlation *backward; /* one a phase of the stride */
    ptrdiff_t phases;
    tc_weight_gradient gradient;
    tc_winograd forward_points, backward_points;
    tc_weight_gradient gradient_points; /* of one point */
    ptrdiff_t z_rows, z_columns;
    ptrdiff_t dz_left, dz_row_stride;       /* dz: [rows][left + columns + right][filters] */
    ptrdiff_t dz_offset, dz_whole_offset;        /* as training needs it; all rows */
    ptrdiff_t strip;                             /* rows of dz made and used at a time */
    float *packed, *packed_transposed;

    const tc_map *map, *map_transposed; /* of a gather */
    tc_slopes slopes; /* of TC_STEP_PRELU */
    tc_affine affine;
    int tied; /* height and width of an affine map take one number */

    int pooled;
    tc_pool pool;
    tc_chunk *chunks; /* of a convolution's row before its pool */
    ptrdiff_t chunk_count;
    int index_bytes;
    ptrdiff_t index_offset; /* the maxima's positions, index_bytes a lane */
} tc_step;

typedef struct tc_workspace tc_workspace;
typedef struct tc_few tc_few;
typedef struct tc_single tc_single;

struct tc_program {
    const tc_kernels *kernels;
    tc_step *steps;
    tc_tensor *tensors; /* step i reads tensors[i] and writes tensors[i + 1] */
    ptrdiff_t step_count;
    ptrdiff_t output_positions, output_channels;
    float load_scale, load_offset; /* rescaling of the input, fused into the load */
    uint64_t seed;

    tc_weight *weights;
    ptrdiff_t weight_count;
    ptrdiff_t *gradient_offset; /* floats into a slot; -1 for weights that are not trained */
    ptrdiff_t gradient_size;
    ptrdiff_t *share_offset;    /* number of a weight's first share (update.h), trained or not */
    ptrdiff_t share_count;
    int penalized, constrained; /* whether any trainable weight is */
    ptrdiff_t lowest; /* first step with a trainable weight; step_count if none */

    /* Batch statistics cut the program into segments: cuts[s] is the step that starts
     * segment s + 1.  Where there are any, vectors [0, kept_size) of a block's workspace
     * are kept for every block of the batch. */
    ptrdiff_t *cuts, cut_count, kept_size;
    tc_norm *norms;
    ptrdiff_t norm_count, norm_size, widest_norm; /* floats of all norms; most channels of one */
    struct tc_program *inference; /* the same with every norm folded that can be; NULL without norms */

    /* The workspace of one thread, in vectors from its start. */
    ptrdiff_t forward_size, training_size, input_gradient_size;
    ptrdiff_t row_offset;                           /* rows of z on their way to the pool */
    ptrdiff_t gradient_a, gradient_b;               /* dy and dx change places */
    ptrdiff_t label_offset, scratch_offset;
    ptrdiff_t points_offset, products_offset;       /* Winograd: u, and a row before it is taken back */
    ptrdiff_t gradient_points_offset, kernel_points_offset; /* dz and dw at the points */
    double flops; /* multiply-adds an image, forward */

    tc_map *maps; /* of the gathers: a map and its transposed, by turns */
    ptrdiff_t map_count;

    atomic_int stale;                    /* TC_STALE_* bits: packed weights older than the weights */
    atomic_flag packing;
    tc_few *few;                         /* the plan for few images; NULL where `inference` has it */
    tc_single *single;                   /* the plan of a program that is one convolution, or NULL */
    _Atomic(tc_workspace *) workspace;   /* one, kept between calls; another caller makes its own */
};

static inline ptrdiff_t tc_max(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }
static inline ptrdiff_t round_up(ptrdiff_t n, ptrdiff_t unit) { return (n + unit - 1) / unit * unit; }

/* TC_OK, or TC_ERROR_ARGUMENT where operations contradict each other or their weights. */
int tc_check_ops(const tc_op *ops, ptrdiff_t count, const tc_weight *weights, ptrdiff_t weight_count);
/* Plans what `op` and the pool fused behind it need, all but their place in the
 * workspace.  step: kind, sizes, z and pool are set; x: the tensor that it reads. */
int tc_plan_conv2d(const tc_kernels *kernels, const tc_op *op, tc_step *step, const tc_tensor *x);
/* The same for a transposed convolution, which is a convolution run backwards: `backward`
 * makes y of x, `forward` makes dx of dz, and in `gradient` x and dz change places.
 * dz_left and dz_row_stride are of the gradient of y.  y: the tensor that it writes. */
int tc_plan_conv2d_transpose(const tc_kernels *kernels, const tc_op *op, tc_step *step, const tc_tensor *x,
                             const tc_tensor *y);
/* The convolution that a transposed one is the gradient of. */
tc_op tc_turned(const tc_op *transposed);
/* That gradient, of a convolution's input, is a correlation of dz with the transposed kernel for each phase of
 * the stride that has pixels: those of a phase all meet the same taps.  How many there are down and across, and
 * phase number `phase`, row by row: all of it but where x lies (x_rows to x_column_stride) and the tiles.
 * y_row, y_column: what is between two rows and two pixels of the whole y.  Returns 0 without memory. */
ptrdiff_t tc_phase_rows(const tc_op *conv);
ptrdiff_t tc_phase_columns(const tc_op *conv);
int tc_plan_phase(const tc_op *conv, ptrdiff_t phase, ptrdiff_t y_row, ptrdiff_t y_column, tc_correlation *geometry);
/* The zero columns at both sides that an operation reads beside its input. */
void tc_input_margins(const tc_op *op, ptrdiff_t *left, ptrdiff_t *right);
/* Covers the rows of a correlation whose other fields are set: by tiles of up to
 * `widest` pixels beside `filters` filters, or by one that stands for the whole row
 * where widest is 0.  Returns 0 without memory. */
int tc_plan_tiles(tc_correlation *geometry, int widest, int filters);
/* Whether the kernel's gradient of a convolution takes all rows of dz at once, not strip by strip. */
static inline int tc_dz_is_whole(const tc_step *step) { return step->forward_points.n || step->forward.depthwise; }
/* Frees what tc_plan_tiles and the offsets took. */
void tc_correlation_clear(tc_correlation *geometry);

static inline tc_slopes tc_slopes_of(const tc_op *op) {
    ptrdiff_t channels = op->shared_channels ? 1 : op->in_channels, columns = op->shared_width ? 1 : op->in_width;
    return (tc_slopes){.weight = op->kernel, .row = op->shared_height ? 0 : columns * channels,
                       .column = op->shared_width ? 0 : channels, .channel = !op->shared_channels};
}

/* plan_workspace.c.  Offsets of tensors, indices and scratch, from the steps. */
void tc_plan_workspace(tc_program *p);

/* map.c.  Whether a map takes `inputs` runs and names no run outside them. */
int tc_map_fits(const tc_map *map, ptrdiff_t inputs, ptrdiff_t rows);
/* A copy of a map of `inputs` runs, and the transposed map: of a gradient.  Returns 0 without memory. */
int tc_map_copy(const tc_map *map, tc_map *copy);
int tc_map_transpose(const tc_map *map, ptrdiff_t inputs, tc_map *transposed);
void tc_map_clear(tc_map *map);
/* Copies of the gathers' maps, and the transposed ones, into the program; *own: the operations,
 * naming those, to be freed. */
int tc_plan_maps(tc_program *p, const tc_op *ops, ptrdiff_t count, tc_op **own);

enum {
    TC_STALE_FORWARD = 1,
    TC_STALE_BACKWARD = 2,
    TC_STALE_FEW = 4,
    TC_STALE_SINGLE_FORWARD = 8,
    TC_STALE_SINGLE_BACKWARD = 16,
    TC_STALE_ALL = 31,
};

/* max(0, x), which the kernels apply while the result is in registers. */
static inline int tc_is_plain_relu(int function, const float *parameters) {
    return function == TC_RELU && parameters[0] == 0.0f && parameters[1] == __builtin_inff() && parameters[2] == 0.0f;
}

/* Packs the weights of step i for the directions in `which` (TC_STALE_* bits). */
void tc_pack_step(tc_program *program, ptrdiff_t i, int which);
/* kernel [rows][channels] (NULL: ones) and bias [channels] (NULL: zeros) with the norm of their
 * output in them; folded and folded_bias: overwritten. */
void tc_norm_fold(const tc_program *program, const tc_norm *norm, const float *kernel, ptrdiff_t rows,
                  const float *bias, float *folded, float *folded_bias);
void tc_workspace_destroy(tc_workspace *workspace);
const tc_kernels *tc_selected_kernels(void);

#endif
