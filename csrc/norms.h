/* Batch normalization across the blocks of a batch. */
#ifndef TC_NORMS_H
#define TC_NORMS_H

#include "block.h"

/* What a norm computes with in one call, each [channels]; floats from job.norms + offset. */
enum tc_norm_number {
    TC_NORM_MEAN,    /* what is taken off: 0 in the inverse */
    TC_NORM_INVERSE, /* 1 / sqrt(variance + epsilon) */
    TC_NORM_SCALE,   /* gamma * inverse */
    TC_NORM_BETA,    /* what is added: the mean in the inverse */
    TC_NORM_DY_MEAN, /* of the gradient over the batch; 0 with moving statistics */
    TC_NORM_SLOPE,   /* inverse * the mean of dy * (x - mean) * inverse; likewise */
    TC_NORM_NUMBERS,
};

/* Doubles of a slot's statistics: the count, then its and a block's [2][channels]. */
static inline ptrdiff_t tc_norm_statistics_size(const tc_program *p) { return 1 + 4 * p->widest_norm; }

/* Whether step i of this call takes the statistics of the batch. */
static inline int tc_norm_is_live(const job *j, ptrdiff_t i) {
    return j->segmented && !j->program->steps[i].norm->frozen;
}

/* The norm that `op` asks for; its place among the numbers is left open. */
static inline tc_norm tc_norm_of(const tc_op *op) {
    return (tc_norm){.gamma = op->kernel, .beta = op->bias, .mean = op->mean, .variance = op->variance,
                     .frozen = op->frozen, .inverse = op->inverse, .momentum = op->momentum, .epsilon = op->epsilon,
                     .channels = op->in_channels};
}

/* The numbers of every norm from its moving statistics; those that are live are replaced. */
void tc_norms_prepare(const job *j);
/* Forgets the slot's statistics: a segment begins. */
void tc_norm_reset(const block *b);
/* Adds the block's values before step i to the slot's statistics. */
void tc_norm_measure(const block *b, ptrdiff_t i);
/* The batch's statistics before step i from all slots', in order; moves the moving ones. */
void tc_norm_merge(const job *j, ptrdiff_t i, double *statistics, int update);

/* Step i, from its tensor to the next. */
void tc_norm_forward(const block *b, ptrdiff_t i);
/* dy, the gradient behind step i's norm, becomes the one before it.  With batch statistics
 * that has to wait for all blocks: the slot's sums are added to, and dy is kept in the place
 * of step i's output. */
void tc_norm_backward(const block *b, ptrdiff_t i, float *dy);
/* The gradients of gamma and beta, and what tc_norm_resume needs, from all slots' sums. */
void tc_norm_merge_gradients(const job *j, ptrdiff_t i, const double *statistics, float *slot);
/* dx, overwritten: the gradient before step i, from what tc_norm_backward kept. */
void tc_norm_resume(const block *b, ptrdiff_t i, float *dx);

#endif
