/* What few_plan.c plans and few.c runs: the steps of one image with filters in the lanes. */
#ifndef TC_FEW_STEPS_H
#define TC_FEW_STEPS_H

#include "few.h"

/* Rows of a convolution that may wait for a pool at once. */
#define MAX_FUSED_ROWS 64

typedef struct few_step {
    int kind; /* tc_step_kind */
    int function;
    float parameters[TC_MAX_PARAMETERS];
    int kernel, bias;
    float scale, shift;
    ptrdiff_t taps, filters;
    tc_correlation g;
    tc_pool pool;
    int pooled;
    int pool_in_registers; /* with two rows of the convolution at once */
    int paired;            /* and two pixels side by side in the lanes: each weight is packed twice */
    ptrdiff_t z_columns, z_rows;
    float *packed, *packed_bias;
    tc_slopes slopes;   /* of TC_STEP_PRELU */
    const tc_map *map;  /* of a gather, */
    ptrdiff_t *sources; /* and where in x each of its entries reads */
    tc_norm norm;                /* of TC_STEP_BATCH_NORM, or folded into kernel and bias */
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
    _Atomic(few_memory *) memory; /* one, kept between calls; another caller makes its own */
};

#endif
