/* A program that is one convolution, from array to array with filters in the lanes. */
#ifndef TC_SINGLE_H
#define TC_SINGLE_H

#include "program.h"

/* The plan of a program whose steps are planned, in *single: NULL where it is not one
 * convolution, alone or with a ReLU.  Of a transposed convolution there is the kernel's gradient. */
int tc_single_create(const tc_program *program, tc_single **single);
void tc_single_destroy(tc_single *single);
/* Packs the weights again, for the directions in `which` (TC_STALE_SINGLE_* bits). */
void tc_single_pack(const tc_program *program, tc_single *single, int which);

enum { TC_SINGLE_FORWARD, TC_SINGLE_BACKWARD_INPUT, TC_SINGLE_BACKWARD_KERNEL };
/* How many of n images, the last ones, are better computed here than in image lanes: those of
 * a block that they do not fill, or all. */
ptrdiff_t tc_single_share(const tc_program *program, int direction, ptrdiff_t n);

/* x (n, H, W, C) -> y (n, OH, OW, F), overwritten. */
int tc_single_forward(const tc_program *program, const float *x, ptrdiff_t n, float *y);
/* dy (n, OH, OW, F) -> dx (n, H, W, C), overwritten. */
int tc_single_backward_input(const tc_program *program, const float *dy, ptrdiff_t n, float *dx);
/* dw (KH, KW, C, F), of a transposed convolution (KH, KW, F, C): overwritten, or accumulated. */
int tc_single_backward_kernel(const tc_program *program, const float *x, const float *dy, ptrdiff_t n, int accumulate,
                              float *dw);

#endif
