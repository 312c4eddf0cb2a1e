/* One block of images on its way through a program: what the executor's parts share. */
#ifndef TC_BLOCK_H
#define TC_BLOCK_H

#include "program.h"

/* Rows of the largest window that fuses (256 pixels). */
#define MAX_WINDOW 256
/* Lanes of the widest vector, with room to spare. */
#define MAX_LANES 64

/* A call of the library: a batch and what is wanted of it. */
typedef struct job {
    tc_program *program;
    const tc_batch *batch;
    const tc_objective *objective; /* NULL: predict */
    int training;                  /* dropout is active */
    int backward;
    int normalized; /* the loss is divided by n */
    uint64_t step;
    float *predictions;
    float *input_gradient;
    int skip_last; /* nobody asks for the last step's output */
    ptrdiff_t blocks, slots, sum_count;
    int segmented; /* batch statistics are taken: the program's cuts count */
    float *norms;  /* the numbers of every norm, see norms.h */
    tc_workspace *workspace;
} job;

/* One thread's view of the block it is working on. */
typedef struct block {
    const job *job;
    const tc_program *program;
    const tc_kernels *k;
    float *memory;            /* the thread's workspace */
    float *kept;              /* its first part: the thread's, or the block's own where segments need it */
    ptrdiff_t first;          /* position of its first image in the batch */
    int count;                /* images; the other lanes idle, see lane_image */
    float *slot;              /* gradients are added here */
    double *statistics;       /* of the slot, for the segment's norm: see norms.h */
} block;

static inline ptrdiff_t tensor_values(const tc_tensor *t) { return t->height * t->width * t->channels; }

/* Where in the batch lane l's image lies.  Idle lanes repeat the block's first, so that they hold
 * no infinity that the images do not: 0, their gradient, times that would be NaN. */
static inline ptrdiff_t lane_image(const block *b, int l) { return b->first + (l < b->count ? l : 0); }

static inline float *at(const block *b, ptrdiff_t vectors) {
    return (vectors < b->program->kept_size ? b->kept : b->memory) + vectors * b->k->lanes;
}

static inline float *tensor_row(const block *b, const tc_tensor *t, ptrdiff_t row) {
    return at(b, t->offset + row * t->row_stride + t->left * t->channels);
}

static inline char *index_row(const block *b, const tc_step *step, ptrdiff_t row) {
    return (char *)at(b, step->index_offset) +
           row * step->pool.y_columns * step->pool.channels * step->index_bytes * b->k->lanes;
}

static inline const float *step_bias(const block *b, const tc_step *step) {
    if (step->folded_bias) return step->folded_bias;
    return step->bias < 0 ? NULL : b->program->weights[step->bias].values;
}

static inline float *gradient_of(const block *b, int weight) {
    ptrdiff_t offset = weight < 0 ? -1 : b->program->gradient_offset[weight];
    return offset < 0 ? NULL : b->slot + offset;
}

/* forward.c.  Gathers the block's images, rescaled, into the first tensor. */
void tc_load_block(const block *b);
/* Step i, from its tensor to the next. */
void tc_step_forward(const block *b, ptrdiff_t i);
/* The points of every row of a convolution's input (or of dz), into the workspace. */
void tc_make_points(const block *b, const tc_winograd *w, const float *x, ptrdiff_t x_row_stride);
/* Row a of a correlation, `columns` wide, from the points. */
void tc_points_row(const block *b, const tc_winograd *w, ptrdiff_t a, ptrdiff_t columns, const float *bias, int relu,
                   float *y);
/* Pointers to the rows of a tensor that output row a pools; NULL in the padding. */
void tc_window_rows(const tc_pool *pool, ptrdiff_t a, float *first, ptrdiff_t stride, float **rows);
/* Noise on n vectors of a dropout step, or its gradient; y is overwritten, key0 goes on to the values that follow. */
void tc_make_noise(const block *b, const tc_step *step, int backward, const float *x, float *y, ptrdiff_t n,
                   uint32_t *key0, const uint32_t *key1);
/* The two keys of every image's random numbers at this step. */
void tc_random_keys(const block *b, const tc_step *step, uint32_t *key0, uint32_t *key1);

/* prelu.c.  Step i, from its tensor to the next; dy becomes the gradient before it, and the slot's
 * gradient of the slopes is added to. */
void tc_prelu_forward(const block *b, ptrdiff_t i);
void tc_prelu_backward(const block *b, ptrdiff_t i, float *dy);

/* affine.c.  A random_affine step, and its gradient in training; y and dx are overwritten. */
void tc_affine_forward(const block *b, const tc_step *step, const tc_tensor *x, const tc_tensor *y);
void tc_affine_backward(const block *b, const tc_step *step, const float *dy, float *dx);

/* levels.c.  A random_levels step, y is overwritten; its gradient in training, dy becomes the one before it. */
void tc_levels_forward(const block *b, const tc_step *step, const tc_tensor *x, const tc_tensor *y);
void tc_levels_backward(const block *b, ptrdiff_t i, float *dy);

/* backward.c.  From the gradient of tensors[last], in dy, down to step `lowest`, with
 * `other` as much room as dy; returns where the gradient of tensors[lowest] ended up,
 * should the call want one. */
float *tc_backward(const block *b, ptrdiff_t last, ptrdiff_t lowest, float *dy, float *other);

/* block.c.  Up through a segment: the whole trip where there is but one.  From the last
 * segment it goes back down to that segment's start: loss and metrics are added to sums,
 * gradients to the slot. */
void tc_run_block(const block *b, ptrdiff_t segment, double *sums);
/* Down through a lower segment, from the gradient that the norm above it kept. */
void tc_run_block_down(const block *b, ptrdiff_t segment);

#endif
