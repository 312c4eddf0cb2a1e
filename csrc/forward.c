/* One block forward: load, and every kind of step. */
#include <string.h>

#include "block.h"
#include "norms.h"
#include "random_key.h"

/* Applies the activation fused behind a convolution or dense layer to n vectors. */
static void activate(const block *b, const tc_step *step, float *y, ptrdiff_t n) {
    if (step->function != TC_LINEAR) b->k->activation(step->function, step->parameters, y, y, n);
}

void tc_make_points(const block *b, const tc_winograd *w, const float *x, ptrdiff_t x_row_stride) {
    const tc_kernels *k = b->k;
    ptrdiff_t channels = w->g.x_channels;
    for (ptrdiff_t row = 0; row < w->g.x_rows; row++) {
        const float *from = x + (row * x_row_stride + w->first * channels) * k->lanes;
        k->winograd_input(from, w->n, w->stored, w->tiles, channels,
                          at(b, b->program->points_offset + row * w->g.x_row_stride));
    }
}

void tc_points_row(const block *b, const tc_winograd *w, ptrdiff_t a, ptrdiff_t columns, const float *bias, int relu,
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
    const float *input = at(b, x->offset), *bias = step_bias(b, step);
    int relu = tc_is_plain_relu(step->function, step->parameters);
    const tc_winograd *w = &step->forward_points;
    if (w->n) tc_make_points(b, w, input, g->x_row_stride);
    if (!step->pooled) {
        if (g->depthwise) {
            k->correlate_image(g, input, step->packed, bias, relu, tensor_row(b, y, 0), y->row_stride);
            for (ptrdiff_t a = 0; !relu && a < g->y_rows; a++)
                activate(b, step, tensor_row(b, y, a), y->width * y->channels);
        }
        for (ptrdiff_t a = 0; !g->depthwise && a < g->y_rows; a++) {
            float *row = tensor_row(b, y, a);
            if (w->n) tc_points_row(b, w, a, g->y_columns, bias, relu, row);
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
                if (rows[i] && w->n) tc_points_row(b, w, z, g->y_columns, bias, relu, to);
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

/* The phases of the stride write y pixel by pixel; a row is complete after the last. */
static void conv2d_transpose_forward(const block *b, const tc_step *step, const tc_tensor *x, const tc_tensor *y) {
    const float *bias = step_bias(b, step);
    int relu = tc_is_plain_relu(step->function, step->parameters);
    for (ptrdiff_t phase = 0; phase < step->phases; phase++) {
        const tc_correlation *g = &step->backward[phase];
        b->k->correlate_image(g, at(b, x->offset), step->packed_transposed, bias, relu,
                              tensor_row(b, y, 0) + g->y_start * b->k->lanes, g->y_row_stride);
    }
    for (ptrdiff_t a = 0; !relu && a < y->height; a++) activate(b, step, tensor_row(b, y, a), y->width * y->channels);
}

void tc_window_rows(const tc_pool *pool, ptrdiff_t a, float *first, ptrdiff_t stride, float **rows) {
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
        tc_window_rows(pool, a, at(b, x->offset), stride, rows);
        if (step->kind == TC_STEP_MAX_POOL2D)
            b->k->max_pool_row(pool, (const float *const *)rows, tensor_row(b, y, a),
                               b->job->backward ? index_row(b, step, a) : NULL, step->index_bytes);
        else
            b->k->average_pool_row(pool, (const float *const *)rows, tensor_row(b, y, a));
    }
}

void tc_random_keys(const block *b, const tc_step *step, uint32_t *key0, uint32_t *key1) {
    for (int l = 0; l < b->k->lanes; l++) {
        uint64_t key = tc_random_key(b->program->seed, b->job->step, step->stream, (uint64_t)lane_image(b, l));
        key0[l] = (uint32_t)key, key1[l] = (uint32_t)(key >> 32);
    }
}

void tc_make_noise(const block *b, const tc_step *step, int backward, const float *x, float *y, ptrdiff_t n,
                   uint32_t *key0, const uint32_t *key1) {
    /* The number of an element only ever meets the first key in a sum: normals take two. */
    ptrdiff_t lanes = b->k->lanes, numbers = n;
    int kind = step->function, spatial = kind == TC_NOISE_SPATIAL_DROPOUT;
    if (kind == TC_NOISE_GAUSSIAN_NOISE || kind == TC_NOISE_GAUSSIAN_DROPOUT) numbers = 2 * n;
    for (ptrdiff_t done = 0, part = spatial ? step->outputs : n; done < n; done += part)
        b->k->noise(kind, backward, step->parameters[0], x + done * lanes, y + done * lanes, part, key0, key1);
    for (int l = 0; !spatial && l < b->k->lanes; l++) key0[l] += (uint32_t)numbers;
}

/* Steps that treat every value (or position) alone, row by row: the rows of y may
 * have zero columns beside them, those of x are contiguous. */
static void elementwise_forward(const block *b, const tc_step *step, const tc_tensor *x, const tc_tensor *y) {
    ptrdiff_t n = y->width * y->channels;
    ptrdiff_t rows = y->height;
    if (!y->left && y->row_stride == n && step->kind != TC_STEP_SOFTMAX) n *= rows, rows = 1;
    uint32_t key0[MAX_LANES], key1[MAX_LANES];
    int active = step->kind == TC_STEP_DROPOUT && b->job->training;
    if (active) tc_random_keys(b, step, key0, key1);
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
                tc_make_noise(b, step, 0, from, to, n, key0, key1);
            } else {
                memcpy(to, from, sizeof(float) * (size_t)(n * b->k->lanes));
            }
        }
    }
}

static void gather_forward(const block *b, const tc_step *step, const tc_tensor *x, const tc_tensor *y) {
    ptrdiff_t runs = y->width * y->channels / step->map->run;
    for (ptrdiff_t row = 0; row < y->height; row++)
        b->k->apply_map(step->map, row * runs, (row + 1) * runs, at(b, x->offset), tensor_row(b, y, row));
}

void tc_step_forward(const block *b, ptrdiff_t i) {
    const tc_step *step = &b->program->steps[i];
    const tc_tensor *x = &b->program->tensors[i], *y = x + 1;
    switch (step->kind) {
    case TC_STEP_CONV2D: conv2d_forward(b, step, x, y); break;
    case TC_STEP_CONV2D_TRANSPOSE: conv2d_transpose_forward(b, step, x, y); break;
    case TC_STEP_DENSE: {
        int relu = tc_is_plain_relu(step->function, step->parameters);
        float *output = tensor_row(b, y, 0);
        b->k->dense(at(b, x->offset), step->inputs, step->outputs, step->packed, step_bias(b, step), relu,
                    output);
        if (!relu) activate(b, step, output, step->outputs);
        break;
    }
    case TC_STEP_MAX_POOL2D:
    case TC_STEP_AVERAGE_POOL2D: pool_forward(b, step, x, y); break;
    case TC_STEP_LEVELS: tc_levels_forward(b, step, x, y); break;
    case TC_STEP_AFFINE: tc_affine_forward(b, step, x, y); break;
    case TC_STEP_GATHER: gather_forward(b, step, x, y); break;
    case TC_STEP_BATCH_NORM: tc_norm_forward(b, i); break;
    case TC_STEP_PRELU: tc_prelu_forward(b, i); break;
    default: elementwise_forward(b, step, x, y);
    }
}

void tc_load_block(const block *b) {
    const tc_batch *batch = b->job->batch;
    const tc_tensor *t = &b->program->tensors[0];
    const void *source[MAX_LANES];
    size_t bytes = (size_t)tensor_values(t) * (batch->x_is_uint8 ? 1 : sizeof(float));
    for (int l = 0; l < b->k->lanes; l++) {
        ptrdiff_t sample = lane_image(b, l);
        if (batch->indices) sample = (ptrdiff_t)batch->indices[sample];
        source[l] = (const char *)batch->x + (size_t)sample * bytes;
    }
    ptrdiff_t rows = t->height, row = t->width * t->channels;
    if (t->row_stride == row) row *= rows, rows = 1;
    b->k->gather(source, b->k->lanes, batch->x_is_uint8, rows, row, b->program->load_scale, b->program->load_offset,
                 tensor_row(b, t, 0), t->row_stride);
}
