/* What ends a training step: gradients added up, weights updated. */
#ifndef TC_UPDATE_H
#define TC_UPDATE_H

#include "program.h"

/* Weights in a share of the work. */
#define TC_SHARE 2048
static inline ptrdiff_t tc_shares(ptrdiff_t count) { return (count + TC_SHARE - 1) / TC_SHARE; }

typedef struct tc_finish {
    const tc_program *program;
    float *slots;              /* (slot_count, program->gradient_size); overwritten where norms are clipped */
    ptrdiff_t slot_count;
    double *penalties;         /* (shares) overwritten for penalized weights; NULL where the loss has none */
    double *squares;           /* (shares) scratch of an update that clips norms */
    double *scales;            /* (weights) the same */
    const tc_update *update;   /* or NULL */
    float *const *gradients;   /* overwritten; or NULL */
} tc_finish;

/* Adds the gradients up and hands them out or updates the weights.  To be called by every
 * thread of a parallel region, after a barrier; the result does not depend on their number. */
void tc_finish_batch(const tc_finish *finish);
/* Writes the penalties only; to be called as tc_finish_batch is. */
void tc_measure_penalties(const tc_program *program, double *penalties);
/* The sum of what either wrote. */
double tc_sum_penalties(const tc_program *program, const double *penalties);

#endif
