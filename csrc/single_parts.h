/* What single.c plans and runs, and single_gradient.c takes further. */
#ifndef TC_SINGLE_PARTS_H
#define TC_SINGLE_PARTS_H

#include "single.h"

/* Filters whose weights pass over the rows at a time: a multiple of every tile. */
#define FILTERS 32
/* Independent pieces that a call is cut into, for threads to share, whatever their number. */
#define PIECES 16
/* Rows, at least, of a piece of a depthwise convolution: each meets those above and below it again. */
#define DEPTHWISE_PART 7

/* A correlation, forward or of backward-data. */
typedef struct direction {
    tc_correlation *phases;
    ptrdiff_t phase_count;
    ptrdiff_t left, right;         /* columns of zeros beside a row of x */
    ptrdiff_t filters, padded;     /* padded: to whole vectors */
    ptrdiff_t x_image, y_image;    /* floats */
    float *packed, *bias;
    int grouped;                   /* packed in groups of taps, phase after phase */
} direction;

typedef struct single_memory {
    size_t floats;
} single_memory;

struct tc_single {
    direction forward, backward;
    float *turned; /* the transposed kernel, on its way to backward's packed one */
    int relu;
    int depthwise;  /* channels in the lanes, in and out */
    int transposed; /* a transposed convolution: the gradient of the kernel alone */
    /* That gradient, of the convolution: the transposed one's x is its dz.  joined: a kernel row's
     * taps are one stretch of x; stacked: all kernel rows at once, of images with rows of zeros above
     * and below. */
    tc_tensor image; /* x, with the columns of zeros that the plan counts on */
    int joined, stacked;
    ptrdiff_t above, below, together; /* together: kernel rows that share a tile */
    ptrdiff_t padded, group, strip, width; /* width: filters that pass over the rows at a time */
    _Atomic(single_memory *) memory; /* one, kept between calls; another caller makes its own */
};

static inline ptrdiff_t smaller(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

/* single.c.  The memory kept, if it is free and large enough, or some more; NULL without any. */
single_memory *tc_single_take(tc_single *single, size_t floats);
void tc_single_return(tc_single *single, single_memory *memory);
/* Its floats, aligned to a cache line. */
float *tc_single_floats(single_memory *memory);
/* Rows of `values` floats to rows with zeros beside them. */
void tc_single_copy_rows(const float *x, ptrdiff_t rows, ptrdiff_t values, ptrdiff_t left, ptrdiff_t right, float *to);

/* single_gradient.c.  The plan of the kernel's gradient; `image` is set. */
void tc_single_plan_gradient(const tc_program *program, tc_single *single);

#endif
