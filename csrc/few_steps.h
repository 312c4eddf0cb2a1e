/* What few_plan.c plans and few.c runs: the steps of one image with filters in the lanes. */
#ifndef TC_FEW_STEPS_H
#define TC_FEW_STEPS_H

#include "few.h"

/* Rows of a convolution that may wait for a pool at once. */
#define MAX_FUSED_ROWS 64

/* Beside those of tc_step_kind: x in the shape, padding and margins that the next step reads,
 * every value `repeat` times. */
enum { TC_STEP_COPY = -1 };

/* A correlation, and where its weights are among the packed ones. */
typedef struct few_phase {
    tc_correlation g;
    ptrdiff_t first;
} few_phase;

typedef struct few_step {
    int kind; /* tc_step_kind or TC_STEP_COPY */
    int function;
    float parameters[TC_MAX_PARAMETERS];
    int kernel, bias;
    float scale, shift;
    ptrdiff_t repeat;
    /* A convolution or dense layer: one correlation, or those of a transposed convolution, whose
     * output rows a take correlations a % phase_rows * phase_columns and on. */
    few_phase *phases;
    ptrdiff_t phase_rows, phase_columns;
    void (*correlate)(const tc_correlation *geometry, ptrdiff_t a, const float *x, const float *packed,
                      const float *packed_bias, int relu, float *y);
    int shared;                /* the lanes, by filters and taps: correlate_groups */
    ptrdiff_t groups, filters; /* filters: of a group */
    ptrdiff_t group_weights, group_biases; /* floats packed for each */
    ptrdiff_t z_columns, z_rows;
    tc_pool pool;
    int pooled;
    int pool_in_registers; /* with two rows of the convolution at once */
    int paired;            /* and two pixels side by side in the lanes: each weight is packed twice */
    void *room; /* of the packed weights */
    float *packed, *packed_bias;
    float *turned;         /* the kernel of a transposed convolution, as its correlations take it, */
    ptrdiff_t kernel_rows, kernel_columns; /* and its size */
    tc_slopes slopes;   /* of TC_STEP_PRELU */
    const tc_map *map;  /* of a gather, */
    ptrdiff_t *sources; /* and where in x each of its entries reads */
    int normed;
    tc_norm norm;                /* of TC_STEP_BATCH_NORM, or folded into kernel and bias where normed */
    float *folded, *folded_bias; /* kernel and bias with the norm; scale and offset without a kernel */
} few_step;

/* The tensors of one image for each thread, behind this, aligned to a cache line. */
typedef struct few_memory {
    ptrdiff_t threads;
} few_memory;

struct tc_few {
    const tc_kernels *kernels;
    few_step *steps;
    few_tensor *tensors;
    ptrdiff_t count, row_offset, size, lanes;
    ptrdiff_t pointers_offset; /* to the rows of a pool's window */
    double image_cost, block_cost; /* here, and of a block in image lanes: vectors of multiply-adds */
    _Atomic(few_memory *) memory; /* one, kept between calls; another caller makes its own */
};

/* Groups of one channel: channels in the lanes, in and out. */
static inline int is_depthwise(const tc_op *op) {
    return op->kind == TC_OP_CONV2D && op->groups > 1 && op->groups == op->in_channels;
}

static inline int is_convolution(const tc_op *op) {
    return op->kind == TC_OP_CONV2D || op->kind == TC_OP_CONV2D_TRANSPOSE || op->kind == TC_OP_DENSE;
}

/* few_convolution.c.  Plans the correlations of `op` from x to pixels of y_padded floats; the step's
 * z_rows, z_columns and what is fused with it are set.  Returns 0 without memory. */
int tc_few_plan_convolution(const tc_kernels *kernels, few_step *step, const few_tensor *x, const tc_op *op,
                            ptrdiff_t y_padded);
/* Floats of a pixel that groups of filters write: each whole vectors, from its first filter on. */
ptrdiff_t tc_few_padded(const tc_kernels *kernels, const tc_op *op);
/* Vectors of multiply-adds that a step has. */
double tc_few_vectors(const tc_kernels *kernels, const few_step *step);
void tc_few_pack_convolution(const tc_program *program, few_step *step);

#endif
