/* The executor: blocks of images through the whole program, in one parallel region.
 *
 * A batch is cut into blocks of as many images as a vector has lanes, and the blocks
 * into slots.  A slot is the unit of work: one thread takes it, runs each of its
 * blocks forward and backward while the block's activations are in the cache, and
 * adds the gradients up in the slot's own buffer.  Then all threads share out the
 * weights, and each adds up the slots of its share, in their order, and updates it.
 * How a batch is cut depends on the batch alone, so the result does not depend on
 * how many threads there are or which takes what. */
#include <stdlib.h>
#include <string.h>

#include "activation_kind.h"
#include "cpu.h"
#include "few.h"
#include "program.h"
#include "random_key.h"
#include "threads.h"

/* More slots let more threads share a batch; each costs a pass over the gradients. */
#define TRAINING_SLOTS 32
#define SLOT_BYTES ((ptrdiff_t)64 << 20)
#define INFERENCE_SLOTS 256
/* Weights in a share of the update. */
#define SHARE 2048
/* Rows of the largest window that fuses (256 pixels). */
#define MAX_WINDOW 256

struct tc_workspace {
    float *memory; /* aligned to a vector */
    void *allocation;
    ptrdiff_t threads, thread_floats; /* one stretch a thread */
    ptrdiff_t slots;                  /* gradient buffers behind the stretches */
    double *slot_sums;
};

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
    tc_workspace *workspace;
} job;

static size_t sample_bytes(const tc_batch *batch) { return batch->x_is_uint8 ? 1 : sizeof(float); }

static ptrdiff_t tensor_values(const tc_tensor *t) { return t->height * t->width * t->channels; }

/* ---- workspace -------------------------------------------------------------------- */

void tc_workspace_destroy(tc_workspace *w) {
    if (!w) return;
    free(w->allocation);
    free(w->slot_sums);
    free(w);
}

static size_t workspace_bytes(const tc_program *p, ptrdiff_t threads, ptrdiff_t vectors, ptrdiff_t slots) {
    size_t thread = (size_t)(vectors * p->kernels->lanes) * sizeof(float);
    return (size_t)threads * thread + (size_t)slots * (size_t)p->gradient_size * sizeof(float) + 64;
}

/* The program's workspace if it is free and large enough, else a new one. */
static tc_workspace *workspace_take(tc_program *p, const job *j, ptrdiff_t threads) {
    ptrdiff_t vectors = j->input_gradient ? p->input_gradient_size : j->backward ? p->training_size : p->forward_size;
    ptrdiff_t thread_floats = vectors * p->kernels->lanes, gradient_slots = j->backward ? j->slots : 0;
    tc_workspace *w = atomic_exchange(&p->workspace, NULL);
    if (w && w->threads >= threads && w->thread_floats >= thread_floats && w->slots >= gradient_slots) return w;
    tc_workspace_destroy(w);
    w = calloc(1, sizeof *w);
    if (!w) return NULL;
    /* calloc: the zero columns beside padded tensors are never written afterwards. */
    w->allocation = calloc(1, workspace_bytes(p, threads, vectors, gradient_slots));
    w->slot_sums = malloc(sizeof(double) * (1 + TC_MAX_METRICS) *
                          (size_t)(INFERENCE_SLOTS > TRAINING_SLOTS ? INFERENCE_SLOTS : TRAINING_SLOTS));
    if (!w->allocation || !w->slot_sums) {
        tc_workspace_destroy(w);
        return NULL;
    }
    w->memory = (float *)(((uintptr_t)w->allocation + 63) & ~(uintptr_t)63);
    w->threads = threads, w->thread_floats = thread_floats, w->slots = gradient_slots;
    return w;
}

static void workspace_return(tc_program *p, tc_workspace *w) {
    tc_workspace_destroy(atomic_exchange(&p->workspace, w));
}

/* ---- one block forward --------------------------------------------------------------- */

/* One thread's view of the block it is working on. */
typedef struct block {
    const job *job;
    const tc_program *program;
    const tc_kernels *k;
    float *memory;            /* the thread's workspace */
    ptrdiff_t first;          /* position of its first image in the batch */
    int count;                /* images; the other lanes idle */
    float *slot;              /* gradients are added here */
} block;

static float *at(const block *b, ptrdiff_t vectors) { return b->memory + vectors * b->k->lanes; }

static float *tensor_row(const block *b, const tc_tensor *t, ptrdiff_t row) {
    return at(b, t->offset + row * t->row_stride + t->left * t->channels);
}

static char *index_row(const block *b, const tc_step *step, ptrdiff_t row) {
    return (char *)at(b, step->index_offset) +
           row * step->pool.y_columns * step->pool.channels * step->index_bytes * b->k->lanes;
}

static const float *weight_values(const block *b, int i) { return i < 0 ? NULL : b->program->weights[i].values; }

/* Applies the activation fused behind a convolution or dense layer to n vectors. */
static void activate(const block *b, const tc_step *step, float *y, ptrdiff_t n) {
    if (step->function != TC_LINEAR) b->k->activation(step->function, step->parameters, y, y, n);
}

/* The points of every row of a convolution's input (or of dz). */
static void make_points(const block *b, const tc_winograd *w, const float *x, ptrdiff_t x_row_stride) {
    const tc_kernels *k = b->k;
    ptrdiff_t channels = w->g.x_channels;
    for (ptrdiff_t row = 0; row < w->g.x_rows; row++)
        k->winograd_input(x + (row * x_row_stride + w->first * channels) * k->lanes, w->n, w->stored, w->tiles, channels,
                          at(b, b->program->points_offset + row * w->g.x_row_stride));
}

/* Row a of a correlation, from the points. */
static void points_row(const block *b, const tc_winograd *w, ptrdiff_t a, ptrdiff_t columns, const float *bias, int relu,
                       float *y) {
    const tc_correlation *g = &w->g;
    float *products = at(b, b->program->products_offset);
    for (int k = 0; k < w->n; k++)
        b->k->correlate_tiles(g, a, 0, g->tile_count, at(b, b->program->points_offset + k * w->tiles * g->x_channels),
                              w->packed + k * g->taps * g->y_channels, NULL, 0,
                              products + k * w->tiles * g->y_channels * b->k->lanes);
    b->k->winograd_output(products, w->n, columns, w->tiles, g->y_channels, bias, relu, y);
}

/* The activation of every fusible function never falls, so the maximum is taken first
 * and only what the pool keeps is activated. */
static void conv2d_forward(const block *b, const tc_step *step, const tc_tensor *x, const tc_tensor *y) {
    const tc_correlation *g = &step->forward;
    const tc_kernels *k = b->k;
    const float *input = at(b, x->offset), *bias = weight_values(b, step->bias);
    int relu = tc_is_plain_relu(step->function, step->parameters);
    const tc_winograd *w = &step->forward_points;
    if (w->n) make_points(b, w, input, g->x_row_stride);
    if (!step->pooled) {
        for (ptrdiff_t a = 0; a < g->y_rows; a++) {
            float *row = tensor_row(b, y, a);
            if (w->n) points_row(b, w, a, g->y_columns, bias, relu, row);
            else k->correlate_tiles(g, a, 0, g->tile_count, input, step->packed, bias, relu, row);
            if (!relu) activate(b, step, row, y->width * y->channels);
        }
        return;
    }
    const float *rows[MAX_WINDOW];
    tc_pool pool = step->pool;
    for (ptrdiff_t a = 0; a < step->pool.y_rows; a++) {
        float *row = tensor_row(b, y, a);
        char *index = b->job->backward ? index_row(b, step, a) : NULL;
        for (const tc_chunk *c = step->chunks; c < step->chunks + step->chunk_count; c++) {
            for (ptrdiff_t i = 0; i < pool.window_height; i++) {
                ptrdiff_t z = a * pool.stride_height + i;
                float *to = at(b, b->program->row_offset + i * c->columns * step->outputs);
                rows[i] = z < step->z_rows ? to : NULL;
                if (rows[i] && w->n) points_row(b, w, z, g->y_columns, bias, relu, to);
                else if (rows[i])
                    k->correlate_tiles(g, z, c->first_tile, c->last_tile, input, step->packed, bias, relu, to);
            }
            ptrdiff_t before = c->y_column * pool.channels;
            pool.x_columns = c->columns, pool.y_columns = c->y_columns;
            k->max_pool_row(&pool, rows, row + before * k->lanes,
                            index ? index + before * k->lanes * step->index_bytes : NULL, step->index_bytes);
        }
        if (!relu) activate(b, step, row, y->width * y->channels);
    }
}

/* Pointers to the rows of `tensor` that output row a pools; NULL in the padding. */
static void window_rows(const tc_pool *pool, ptrdiff_t a, float *first, ptrdiff_t stride, float **rows) {
    for (ptrdiff_t i = 0; i < pool->window_height; i++) {
        ptrdiff_t row = a * pool->stride_height - pool->pad_top + i;
        rows[i] = row >= 0 && row < pool->x_rows ? first + row * stride : NULL;
    }
}

static void pool_forward(const block *b, const tc_step *step, const tc_tensor *x, const tc_tensor *y) {
    const tc_pool *pool = &step->pool;
    float **rows = (float **)at(b, b->program->scratch_offset);
    ptrdiff_t stride = pool->x_columns * pool->channels * b->k->lanes;
    for (ptrdiff_t a = 0; a < pool->y_rows; a++) {
        window_rows(pool, a, at(b, x->offset), stride, rows);
        if (step->kind == TC_STEP_MAX_POOL2D)
            b->k->max_pool_row(pool, (const float *const *)rows, tensor_row(b, y, a),
                               b->job->backward ? index_row(b, step, a) : NULL, step->index_bytes);
        else
            b->k->average_pool_row(pool, (const float *const *)rows, tensor_row(b, y, a));
    }
}

/* The two keys of every image's random numbers at this step; idle lanes repeat. */
static void random_keys(const block *b, const tc_step *step, uint32_t *key0, uint32_t *key1) {
    for (int l = 0; l < b->k->lanes; l++) {
        uint64_t key = tc_random_key(b->program->seed, b->job->step, step->stream, (uint64_t)(b->first + l));
        key0[l] = (uint32_t)key, key1[l] = (uint32_t)(key >> 32);
    }
}

/* Steps that treat every value (or position) alone, row by row: the rows of y may
 * have zero columns beside them, those of x are contiguous. */
static void elementwise_forward(const block *b, const tc_step *step, const tc_tensor *x, const tc_tensor *y) {
    ptrdiff_t n = y->width * y->channels;
    ptrdiff_t rows = y->height;
    if (!y->left && y->row_stride == n && step->kind != TC_STEP_SOFTMAX) n *= rows, rows = 1;
    uint32_t key0[64], key1[64];
    int active = step->kind == TC_STEP_DROPOUT && b->job->training;
    if (active) random_keys(b, step, key0, key1);
    for (ptrdiff_t row = 0; row < rows; row++) {
        const float *from = at(b, x->offset + row * n);
        float *to = tensor_row(b, y, row);
        switch (step->kind) {
        case TC_STEP_ACTIVATION: b->k->activation(step->function, step->parameters, from, to, n); break;
        case TC_STEP_SOFTMAX:
            b->k->softmax(from, to, y->width, y->channels, step->function == TC_LOG_SOFTMAX);
            break;
        case TC_STEP_RESCALE: b->k->scale(from, to, n, step->parameters[0], step->parameters[1]); break;
        default:
            if (active) {
                b->k->dropout(from, to, n, step->parameters[0], key0, key1);
                /* The number of an element only ever meets the first key in a sum. */
                for (int l = 0; l < b->k->lanes; l++) key0[l] += (uint32_t)n;
            } else {
                memcpy(to, from, sizeof(float) * (size_t)(n * b->k->lanes));
            }
        }
    }
}

static void step_forward(const block *b, ptrdiff_t i) {
    const tc_step *step = &b->program->steps[i];
    const tc_tensor *x = &b->program->tensors[i], *y = x + 1;
    switch (step->kind) {
    case TC_STEP_CONV2D: conv2d_forward(b, step, x, y); break;
    case TC_STEP_DENSE: {
        int relu = tc_is_plain_relu(step->function, step->parameters);
        float *output = tensor_row(b, y, 0);
        b->k->dense(at(b, x->offset), step->inputs, step->outputs, step->packed, weight_values(b, step->bias), relu,
                    output);
        if (!relu) activate(b, step, output, step->outputs);
        break;
    }
    case TC_STEP_MAX_POOL2D:
    case TC_STEP_AVERAGE_POOL2D: pool_forward(b, step, x, y); break;
    default: elementwise_forward(b, step, x, y);
    }
}

/* Gathers the block's images, rescaled, into the first tensor. */
static void load_block(const block *b) {
    const tc_batch *batch = b->job->batch;
    const tc_tensor *t = &b->program->tensors[0];
    const void *source[64];
    size_t bytes = (size_t)tensor_values(t) * sample_bytes(batch);
    for (int l = 0; l < b->count; l++) {
        ptrdiff_t sample = b->first + l;
        if (batch->indices) sample = (ptrdiff_t)batch->indices[sample];
        source[l] = (const char *)batch->x + (size_t)sample * bytes;
    }
    ptrdiff_t rows = t->height, row = t->width * t->channels;
    if (t->row_stride == row) row *= rows, rows = 1;
    b->k->gather(source, b->count, batch->x_is_uint8, rows, row, b->program->load_scale, b->program->load_offset,
                 tensor_row(b, t, 0), t->row_stride);
}

/* ---- one block backward ----------------------------------------------------------------- */

static float *gradient_of(const block *b, int weight) {
    ptrdiff_t offset = weight < 0 ? -1 : b->program->gradient_offset[weight];
    return offset < 0 ? NULL : b->slot + offset;
}

/* dy *= f'(.) over the whole of tensor y, whose gradient is contiguous. */
static void activation_backward(const block *b, const tc_step *step, const tc_tensor *saved, float *dy) {
    if (step->function == TC_LINEAR) return;
    ptrdiff_t n = saved->width * saved->channels;
    for (ptrdiff_t row = 0; row < saved->height; row++) {
        float *d = dy + row * n * b->k->lanes;
        b->k->activation_backward(step->function, step->parameters, tensor_row(b, saved, row), d, d, n);
    }
}

/* Rows [first, last) of a convolution's dz from the gradient of its output (already
 * through the activation); dz points at row `first`. */
static void make_dz(const block *b, const tc_step *step, const float *dy, ptrdiff_t first, ptrdiff_t last, float *dz) {
    ptrdiff_t lanes = b->k->lanes, stride = step->dz_row_stride * lanes, row = step->z_columns * step->outputs;
    if (!step->pooled) {
        for (ptrdiff_t a = first; a < last; a++)
            memcpy(dz + (a - first) * stride, dy + a * row * lanes, sizeof(float) * (size_t)(row * lanes));
        return;
    }
    const tc_pool *pool = &step->pool;
    int gaps = pool->stride_height > pool->window_height || pool->stride_width > pool->window_width;
    float *rows[MAX_WINDOW];
    for (ptrdiff_t a = first; a < last; a += pool->stride_height) {
        ptrdiff_t p = a / pool->stride_height;
        for (ptrdiff_t i = 0; i < pool->stride_height && a + i < last; i++) {
            float *to = dz + (a + i - first) * stride;
            if (gaps) memset(to, 0, sizeof(float) * (size_t)(row * lanes));
            if (i < pool->window_height) rows[i] = to;
        }
        for (ptrdiff_t i = 0; i < pool->window_height; i++)
            if (a + i >= last) rows[i] = NULL;
        b->k->max_pool_row_backward(pool, dy + p * pool->y_columns * pool->channels * lanes, index_row(b, step, p),
                                    step->index_bytes, rows, 0);
    }
}

/* dw from the points of x and dz, whose rows start at dz. */
static void points_weight_gradient(const block *b, const tc_step *step, const float *x, const float *dz, float *dw) {
    const tc_kernels *k = b->k;
    const tc_winograd *w = &step->forward_points;
    const tc_weight_gradient *g = &step->gradient_points;
    ptrdiff_t plane = step->inputs * step->outputs, count = step->kernel_rows * plane;
    float *d = at(b, b->program->gradient_points_offset), *u = at(b, b->program->points_offset);
    float *points = at(b, b->program->kernel_points_offset);
    make_points(b, w, x, step->forward.x_row_stride);
    for (ptrdiff_t a = 0; a < step->z_rows; a++)
        k->winograd_gradient_points(dz + a * step->dz_row_stride * k->lanes, w->n, step->z_columns, w->tiles,
                                    step->outputs, d + a * g->dz_row_stride * k->lanes);
    memset(points, 0, sizeof(float) * (size_t)(w->n * count));
    for (int i = 0; i < w->n; i++)
        k->weight_gradient(g, 0, step->z_rows, u + i * w->tiles * step->inputs * k->lanes,
                           d + i * w->tiles * step->outputs * k->lanes, points + i * count);
    k->winograd_kernel_gradient(points, w->n, step->kernel_rows, plane, dw);
}

static void conv2d_backward(const block *b, ptrdiff_t i, float *dy, float *dx) {
    const tc_step *step = &b->program->steps[i];
    const tc_tensor *x = &b->program->tensors[i], *y = x + 1;
    float *dw = gradient_of(b, step->kernel), *db = gradient_of(b, step->bias);
    ptrdiff_t dz_offset = dx ? step->dz_whole_offset : step->dz_offset;
    float *dz = at(b, dz_offset + step->dz_left * step->outputs);
    ptrdiff_t lanes = b->k->lanes;
    activation_backward(b, step, y, dy);
    for (ptrdiff_t first = 0; first < step->z_rows; first += step->strip) {
        ptrdiff_t last = first + step->strip < step->z_rows ? first + step->strip : step->z_rows;
        float *rows = dx || step->forward_points.n ? dz + first * step->dz_row_stride * lanes : dz;
        make_dz(b, step, dy, first, last, rows);
        if (db) b->k->bias_gradient(rows, last - first, step->dz_row_stride, step->z_columns, step->outputs, db);
        if (dw && !step->forward_points.n)
            b->k->weight_gradient(&step->gradient, first, last, at(b, x->offset), rows, dw);
    }
    if (dw && step->forward_points.n) points_weight_gradient(b, step, at(b, x->offset), dz, dw);
    if (!dx) return;
    const tc_winograd *w = &step->backward_points;
    if (w->n) {
        make_points(b, w, at(b, dz_offset), step->dz_row_stride);
        for (ptrdiff_t a = 0; a < w->g.y_rows; a++)
            points_row(b, w, a, step->backward[0].y_columns, NULL, 0, dx + a * w->g.y_row_stride * lanes);
        return;
    }
    for (ptrdiff_t phase = 0; phase < step->phases; phase++) {
        const tc_correlation *g = &step->backward[phase];
        for (ptrdiff_t a = 0; a < g->y_rows; a++)
            b->k->correlate_tiles(g, a, 0, g->tile_count, at(b, dz_offset), step->packed_transposed, NULL, 0,
                                  dx + (g->y_start + a * g->y_row_stride) * lanes);
    }
}

static void dense_backward(const block *b, ptrdiff_t i, float *dy, float *dx) {
    const tc_step *step = &b->program->steps[i];
    const tc_tensor *x = &b->program->tensors[i], *y = x + 1;
    float *dw = gradient_of(b, step->kernel), *db = gradient_of(b, step->bias);
    activation_backward(b, step, y, dy);
    if (db) b->k->bias_gradient(dy, 1, 0, 1, step->outputs, db);
    if (dw)
        b->k->dense_weight_gradient(at(b, x->offset), dy, step->inputs, step->outputs, dw,
                                    at(b, b->program->scratch_offset));
    if (dx) b->k->dense(dy, step->outputs, step->inputs, step->packed_transposed, NULL, 0, dx);
}

static void pool_backward(const block *b, ptrdiff_t i, const float *dy, float *dx) {
    const tc_step *step = &b->program->steps[i];
    const tc_pool *pool = &step->pool;
    ptrdiff_t lanes = b->k->lanes, row = pool->x_columns * pool->channels * lanes;
    ptrdiff_t y_row = pool->y_columns * pool->channels * lanes;
    float **rows = (float **)at(b, b->program->scratch_offset);
    memset(dx, 0, sizeof(float) * (size_t)(pool->x_rows * row));
    for (ptrdiff_t a = 0; a < pool->y_rows; a++) {
        window_rows(pool, a, dx, row, rows);
        if (step->kind == TC_STEP_MAX_POOL2D)
            b->k->max_pool_row_backward(pool, dy + a * y_row, index_row(b, step, a), step->index_bytes, rows, 1);
        else
            b->k->average_pool_row_backward(pool, dy + a * y_row, rows);
    }
}

/* In place: dy becomes dx. */
static void elementwise_backward(const block *b, ptrdiff_t i, float *dy) {
    const tc_step *step = &b->program->steps[i];
    const tc_tensor *x = &b->program->tensors[i], *y = x + 1;
    ptrdiff_t n = tensor_values(y), row = y->width * y->channels, lanes = b->k->lanes;
    uint32_t key0[64], key1[64];
    switch (step->kind) {
    case TC_STEP_ACTIVATION:
        if (activation_saves_input(step->function, step->parameters))
            b->k->activation_backward(step->function, step->parameters, at(b, x->offset), dy, dy, n);
        else
            activation_backward(b, step, y, dy);
        break;
    case TC_STEP_SOFTMAX:
        for (ptrdiff_t a = 0; a < y->height; a++)
            b->k->softmax_backward(tensor_row(b, y, a), dy + a * row * lanes, dy + a * row * lanes, y->width,
                                   y->channels, step->function == TC_LOG_SOFTMAX);
        break;
    case TC_STEP_RESCALE: b->k->scale(dy, dy, n, step->parameters[0], 0.0f); break;
    default:
        if (!b->job->training) break;
        random_keys(b, step, key0, key1);
        b->k->dropout(dy, dy, n, step->parameters[0], key0, key1); /* the same mask, the same scale */
    }
}

/* From the gradient of tensors[last], in dy, down to step `lowest`; returns where the
 * gradient of tensors[lowest] ended up if the step `lowest` was asked for one. */
static float *run_backward(const block *b, ptrdiff_t last, ptrdiff_t lowest, float *dy, float *other) {
    for (ptrdiff_t i = last - 1; i >= lowest; i--) {
        const tc_step *step = &b->program->steps[i];
        float *dx = i > lowest || b->job->input_gradient ? other : NULL;
        switch (step->kind) {
        case TC_STEP_CONV2D: conv2d_backward(b, i, dy, dx); break;
        case TC_STEP_DENSE: dense_backward(b, i, dy, dx); break;
        case TC_STEP_MAX_POOL2D:
        case TC_STEP_AVERAGE_POOL2D: pool_backward(b, i, dy, other); break;
        default: elementwise_backward(b, i, dy); continue;
        }
        other = dy;
        dy = dx;
    }
    return dy;
}

/* ---- one block, whole ------------------------------------------------------------------- */

/* Whether the loss is taken from the input of the program's last step. */
static int loss_before_last(const tc_program *p, const tc_objective *objective) {
    if (!objective || objective->from_logits || !p->step_count) return 0;
    const tc_step *last = &p->steps[p->step_count - 1];
    if (objective->loss == TC_LOSS_CATEGORICAL_CROSSENTROPY ||
        objective->loss == TC_LOSS_SPARSE_CATEGORICAL_CROSSENTROPY)
        return last->kind == TC_STEP_SOFTMAX && last->function == TC_SOFTMAX && last->outputs == p->output_channels;
    return objective->loss == TC_LOSS_BINARY_CROSSENTROPY && last->kind == TC_STEP_ACTIVATION &&
           last->function == TC_SIGMOID;
}

/* The block's labels in lanes, dense (vectors) or sparse (int32). */
static void load_labels(const block *b, float *labels, ptrdiff_t positions, ptrdiff_t channels) {
    const tc_batch *batch = b->job->batch;
    const void *source[64];
    ptrdiff_t lanes = b->k->lanes, values = batch->y_is_sparse ? positions : positions * channels;
    for (int l = 0; l < b->count; l++) {
        ptrdiff_t sample = b->first + l;
        if (batch->indices) sample = (ptrdiff_t)batch->indices[sample];
        source[l] = (const float *)batch->y + sample * values; /* int32 and float32 are as wide */
    }
    if (!batch->y_is_sparse) {
        b->k->gather(source, b->count, 0, 1, values, 1.0f, 0.0f, labels, values);
        return;
    }
    int32_t *sparse = (int32_t *)labels;
    for (ptrdiff_t i = 0; i < positions; i++)
        for (ptrdiff_t l = 0; l < lanes; l++) sparse[i * lanes + l] = l < b->count ? ((const int32_t *)source[l])[i] : 0;
}

/* Loss and metrics of the block, added to sums; the gradient into dy where wanted. */
static void measure(const block *b, float *dy, double *sums) {
    const job *j = b->job;
    const tc_program *p = b->program;
    const tc_objective *o = j->objective;
    int before = loss_before_last(p, o);
    const tc_tensor *output = &p->tensors[p->step_count], *measured = before ? output - 1 : output;
    ptrdiff_t channels = p->output_channels, positions = p->output_positions;
    float *labels = at(b, p->label_offset), weight[64], values[64];
    load_labels(b, labels, positions, channels);
    float share = j->normalized ? 1.0f / (float)j->batch->n : 1.0f;
    for (int l = 0; l < b->k->lanes; l++) {
        weight[l] = 0.0f;
        if (l >= b->count) continue;
        ptrdiff_t sample = b->first + l;
        if (j->batch->indices) sample = (ptrdiff_t)j->batch->indices[sample];
        weight[l] = j->batch->sample_weight ? j->batch->sample_weight[sample] : 1.0f;
    }
    float scaled[64];
    for (int l = 0; l < b->k->lanes; l++) scaled[l] = weight[l] * share;
    const float *dense = j->batch->y_is_sparse ? NULL : labels;
    const int32_t *sparse = j->batch->y_is_sparse ? (const int32_t *)labels : NULL;
    tc_loss_request request = {.kind = o->loss, .from_logits = o->from_logits || before,
                               .label_smoothing = o->label_smoothing, .positions = positions, .channels = channels,
                               .output = at(b, measured->offset), .dense = dense, .sparse = sparse,
                               .weight = scaled, .gradient = dy, .loss = values};
    b->k->loss(&request);
    for (int l = 0; l < b->count; l++) sums[0] += (double)weight[l] * values[l];
    for (int m = 0; m < o->metric_count; m++) {
        b->k->metric(o->metrics[m], o->metric_parameters[m], positions, channels, at(b, output->offset), dense, sparse,
                     values);
        for (int l = 0; l < b->count; l++) sums[1 + m] += values[l];
    }
}

static void store_rows(const block *b, const float *x, ptrdiff_t row_stride, ptrdiff_t rows, ptrdiff_t row,
                       float *array) {
    float *target[64];
    for (int l = 0; l < b->count; l++) target[l] = array + (b->first + l) * rows * row;
    b->k->scatter(x, row_stride, rows, row, b->count, target);
}

static void run_block(const block *b, double *sums) {
    const job *j = b->job;
    const tc_program *p = b->program;
    int before = loss_before_last(p, j->objective);
    int whole = j->predictions || !j->objective || j->objective->metric_count || !before;
    load_block(b);
    for (ptrdiff_t i = 0; i < p->step_count; i++)
        if (i < p->step_count - 1 || (whole && !j->skip_last)) step_forward(b, i);
    const tc_tensor *output = &p->tensors[p->step_count];
    if (j->predictions)
        store_rows(b, at(b, output->offset), output->row_stride, output->height, output->width * output->channels,
                   j->predictions);
    if (!j->objective) return;
    float *dy = j->backward ? at(b, p->gradient_a) : NULL;
    measure(b, dy, sums);
    if (!j->backward) return;
    ptrdiff_t lowest = j->input_gradient ? 0 : p->lowest;
    float *dx = run_backward(b, p->step_count - before, lowest, dy, at(b, p->gradient_b));
    if (j->input_gradient) {
        const tc_tensor *input = &p->tensors[0];
        ptrdiff_t n = tensor_values(input);
        if (p->load_scale != 1.0f) b->k->scale(dx, dx, n, p->load_scale, 0.0f);
        store_rows(b, dx, n, 1, n, j->input_gradient);
    }
}

static void run_slot(const job *j, ptrdiff_t slot, int thread) {
    const tc_program *p = j->program;
    const tc_workspace *w = j->workspace;
    double *sums = w->slot_sums + slot * j->sum_count;
    block b = {.job = j, .program = p, .k = p->kernels, .memory = w->memory + thread * w->thread_floats};
    memset(sums, 0, sizeof *sums * (size_t)j->sum_count);
    if (j->backward) {
        b.slot = w->memory + w->threads * w->thread_floats + slot * p->gradient_size;
        memset(b.slot, 0, sizeof(float) * (size_t)p->gradient_size);
    }
    for (ptrdiff_t i = slot * j->blocks / j->slots; i < (slot + 1) * j->blocks / j->slots; i++) {
        b.first = i * b.k->lanes;
        ptrdiff_t left = j->batch->n - b.first;
        b.count = (int)(left < b.k->lanes ? left : b.k->lanes);
        run_block(&b, sums);
    }
}

/* ---- the batch ---------------------------------------------------------------------------- */

/* Share `s` of weight i: its slots added up in order, then the update or the result. */
static void finish_share(const job *j, ptrdiff_t i, ptrdiff_t s, const tc_update *update, float *const *gradients) {
    const tc_program *p = j->program;
    const tc_weight *weight = &p->weights[i];
    const tc_workspace *w = j->workspace;
    ptrdiff_t from = s * SHARE, n = weight->count - from < SHARE ? weight->count - from : SHARE;
    const float *slots = w->memory + w->threads * w->thread_floats + p->gradient_offset[i] + from;
    float sum[SHARE];
    p->kernels->sum_slots(slots, p->gradient_size, j->slots, n, gradients ? gradients[i] + from : sum);
    if (!update) return;
    float *state[TC_MAX_STATES];
    for (int k = 0; k < TC_MAX_STATES; k++) {
        float *whole = update->states ? update->states[i * TC_MAX_STATES + k] : NULL;
        state[k] = whole ? whole + from : NULL;
    }
    p->kernels->update(update->optimizer, update->hyperparameters, n, weight->values + from, sum, state[0], state[1]);
}

static void pack_now(tc_program *p, int which) {
    while (atomic_flag_test_and_set(&p->packing)) {}
    /* Cleared before: weights that change meanwhile are packed again the next time. */
    int stale = atomic_fetch_and(&p->stale, ~which) & which;
    if (stale) {
        for (ptrdiff_t i = 0; i < p->step_count; i++) tc_pack_step(p, i, stale);
        if (stale & TC_STALE_FEW) tc_few_pack(p, p->few);
    }
    atomic_flag_clear(&p->packing);
}

static int run(job *j, double *sums, const tc_update *update, float *const *gradients) {
    tc_program *p = j->program;
    ptrdiff_t lanes = p->kernels->lanes;
    j->blocks = (j->batch->n + lanes - 1) / lanes;
    ptrdiff_t most = INFERENCE_SLOTS;
    if (j->backward) {
        ptrdiff_t bytes = p->gradient_size * (ptrdiff_t)sizeof(float) + 1;
        most = SLOT_BYTES / bytes < 2 ? 2 : SLOT_BYTES / bytes > TRAINING_SLOTS ? TRAINING_SLOTS : SLOT_BYTES / bytes;
    }
    j->slots = j->blocks < most ? j->blocks : most;
    j->sum_count = 1 + (j->objective ? j->objective->metric_count : 0);
    int threads = tc_threads_for(p->flops * (double)j->batch->n * (j->backward ? 3 : 1), j->slots);
    tc_workspace *w = j->workspace = workspace_take(p, j, threads);
    if (!w) return TC_ERROR_MEMORY;
    pack_now(p, TC_STALE_FORWARD | (j->backward ? TC_STALE_BACKWARD : 0));
    (void)threads;
    TC_PRAGMA(omp parallel num_threads(threads) if (threads > 1))
    {
        unsigned mode = tc_denormals_off();
        TC_PRAGMA(omp for schedule(dynamic, 1))
        for (ptrdiff_t slot = 0; slot < j->slots; slot++) run_slot(j, slot, tc_thread_number());
        if (update || gradients)
            for (ptrdiff_t i = 0; i < p->weight_count; i++) {
                if (!p->weights[i].trainable) continue;
                ptrdiff_t shares = (p->weights[i].count + SHARE - 1) / SHARE;
                TC_PRAGMA(omp for schedule(static) nowait)
                for (ptrdiff_t s = 0; s < shares; s++) finish_share(j, i, s, update, gradients);
            }
        tc_denormals_restore(mode);
    }
    if (update) tc_program_weights_changed(p);
    for (ptrdiff_t k = 0; sums && k < j->sum_count; k++) {
        sums[k] = 0;
        for (ptrdiff_t slot = 0; slot < j->slots; slot++) sums[k] += w->slot_sums[slot * j->sum_count + k];
    }
    workspace_return(p, w);
    return TC_OK;
}

size_t tc_program_workspace(const tc_program *p, ptrdiff_t n, int training) {
    ptrdiff_t blocks = (n + p->kernels->lanes - 1) / p->kernels->lanes;
    ptrdiff_t slots = blocks < TRAINING_SLOTS ? blocks : TRAINING_SLOTS;
    ptrdiff_t threads = tc_threads() < slots ? tc_threads() : slots;
    return workspace_bytes(p, threads, training ? p->training_size : p->forward_size, training ? slots : 0);
}

int tc_predict(tc_program *program, const tc_batch *batch, float *output) {
    if (batch->n < 1) return TC_ERROR_ARGUMENT;
    if (tc_few_pays(program, batch->n)) {
        pack_now(program, TC_STALE_FEW);
        return tc_few_predict(program, program->few, batch, output);
    }
    job j = {.program = program, .batch = batch, .predictions = output};
    return run(&j, NULL, NULL, NULL);
}

/* Whether the labels are of the kind that the loss and the metrics take. */
static int check_objective(const tc_batch *batch, const tc_objective *o) {
    if (batch->n < 1 || o->loss < 0 || o->loss >= TC_LOSS_COUNT || o->metric_count < 0 ||
        o->metric_count > TC_MAX_METRICS)
        return TC_ERROR_ARGUMENT;
    if (!batch->y_is_sparse != (o->loss != TC_LOSS_SPARSE_CATEGORICAL_CROSSENTROPY)) return TC_ERROR_ARGUMENT;
    for (int m = 0; m < o->metric_count; m++) {
        int sparse = o->metrics[m] == TC_METRIC_SPARSE_CATEGORICAL_ACCURACY ||
                     o->metrics[m] == TC_METRIC_SPARSE_TOP_K_CATEGORICAL_ACCURACY;
        if (o->metrics[m] < 0 || o->metrics[m] >= TC_METRIC_COUNT || sparse != !!batch->y_is_sparse)
            return TC_ERROR_ARGUMENT;
    }
    return TC_OK;
}

int tc_evaluate(tc_program *program, const tc_batch *batch, const tc_objective *objective, double *sums,
                float *predictions) {
    int status = check_objective(batch, objective);
    if (status != TC_OK) return status;
    job j = {.program = program, .batch = batch, .objective = objective, .predictions = predictions};
    return run(&j, sums, NULL, NULL);
}

int tc_train_step(tc_program *program, const tc_batch *batch, const tc_objective *objective, const tc_update *update,
                  uint64_t step, double *sums, float *predictions) {
    int status = check_objective(batch, objective);
    if (status != TC_OK) return status;
    if (update->optimizer < 0 || update->optimizer >= TC_OPTIMIZER_COUNT) return TC_ERROR_ARGUMENT;
    job j = {.program = program, .batch = batch, .objective = objective, .predictions = predictions, .training = 1,
             .backward = 1, .normalized = objective->loss != TC_LOSS_INNER_PRODUCT, .step = step};
    return run(&j, sums, update, NULL);
}

int tc_gradients(tc_program *program, const tc_batch *batch, const tc_objective *objective, int training,
                 uint64_t step, double *sums, float *const *gradients, float *input_gradient) {
    int status = check_objective(batch, objective);
    if (status != TC_OK) return status;
    job j = {.program = program, .batch = batch, .objective = objective, .training = training, .backward = 1,
             .normalized = objective->loss != TC_LOSS_INNER_PRODUCT, .step = step, .input_gradient = input_gradient};
    if (program->step_count && !sums && objective->loss == TC_LOSS_INNER_PRODUCT && !objective->metric_count) {
        const tc_step *last = &program->steps[program->step_count - 1];
        j.skip_last = (last->kind == TC_STEP_CONV2D || last->kind == TC_STEP_DENSE) && !last->pooled &&
                      last->function == TC_LINEAR;
    }
    return run(&j, sums, NULL, gradients);
}
