/* One block backward: the gradient of every kind of step. */
#include <string.h>

#include "activation_kind.h"
#include "block.h"
#include "norms.h"

/* Row `row` of tensor y: to = dy * f'(.), which may be dy. */
static void activation_row_backward(const block *b, const tc_step *step, const tc_tensor *y, ptrdiff_t row,
                                    const float *dy, float *to) {
    ptrdiff_t n = y->width * y->channels;
    if (step->function != TC_LINEAR)
        b->k->activation_backward(step->function, step->parameters, tensor_row(b, y, row), dy, to, n);
    else if (to != dy)
        memcpy(to, dy, sizeof(float) * (size_t)(n * b->k->lanes));
}

/* dy *= f'(.) over the whole of tensor y, whose gradient is contiguous. */
static void activation_backward(const block *b, const tc_step *step, const tc_tensor *saved, float *dy) {
    ptrdiff_t row = saved->width * saved->channels * b->k->lanes;
    for (ptrdiff_t a = 0; a < saved->height; a++)
        activation_row_backward(b, step, saved, a, dy + a * row, dy + a * row);
}

/* Rows [first, last) of a convolution's dz from the gradient of its output y, or of its pool's,
 * already through the activation; dz points at row `first`. */
static void make_dz(const block *b, const tc_step *step, const tc_tensor *y, const float *dy, ptrdiff_t first,
                    ptrdiff_t last, float *dz) {
    ptrdiff_t lanes = b->k->lanes, stride = step->dz_row_stride * lanes, row = step->z_columns * step->outputs;
    if (!step->pooled) {
        for (ptrdiff_t a = first; a < last; a++)
            activation_row_backward(b, step, y, a, dy + a * row * lanes, dz + (a - first) * stride);
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
    tc_make_points(b, w, x, step->forward.x_row_stride);
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
    int whole = tc_dz_is_whole(step);
    if (step->pooled) activation_backward(b, step, y, dy);
    for (ptrdiff_t first = 0; first < step->z_rows; first += step->strip) {
        ptrdiff_t last = first + step->strip < step->z_rows ? first + step->strip : step->z_rows;
        float *rows = dx || whole ? dz + first * step->dz_row_stride * lanes : dz;
        make_dz(b, step, y, dy, first, last, rows);
        if (db) b->k->bias_gradient(rows, last - first, step->dz_row_stride, step->z_columns, step->outputs, db);
        if (dw && !whole) b->k->weight_gradient(&step->gradient, first, last, at(b, x->offset), rows, dw);
    }
    if (dw && step->forward_points.n) points_weight_gradient(b, step, at(b, x->offset), dz, dw);
    else if (dw && whole) b->k->weight_gradient(&step->gradient, 0, step->z_rows, at(b, x->offset), dz, dw);
    if (!dx) return;
    const tc_winograd *w = &step->backward_points;
    if (w->n) {
        tc_make_points(b, w, at(b, dz_offset), step->dz_row_stride);
        for (ptrdiff_t a = 0; a < w->g.y_rows; a++)
            tc_points_row(b, w, a, step->backward[0].y_columns, NULL, 0, dx + a * w->g.y_row_stride * lanes);
        return;
    }
    for (ptrdiff_t phase = 0; phase < step->phases; phase++) {
        const tc_correlation *g = &step->backward[phase];
        b->k->correlate_image(g, at(b, dz_offset), step->packed_transposed, NULL, 0, dx + g->y_start * lanes,
                              g->y_row_stride);
    }
}

static void conv2d_transpose_backward(const block *b, ptrdiff_t i, float *dy, float *dx) {
    const tc_step *step = &b->program->steps[i];
    const tc_tensor *x = &b->program->tensors[i], *y = x + 1;
    const tc_correlation *g = &step->forward;
    float *dw = gradient_of(b, step->kernel), *db = gradient_of(b, step->bias);
    float *dz = at(b, step->dz_offset), *first = dz + step->dz_left * step->outputs * b->k->lanes;
    make_dz(b, step, y, dy, 0, step->z_rows, first);
    if (db) b->k->bias_gradient(first, step->z_rows, step->dz_row_stride, step->z_columns, step->outputs, db);
    for (ptrdiff_t a = 0; dw && a < g->y_rows; a += step->strip) {
        ptrdiff_t last = a + step->strip < g->y_rows ? a + step->strip : g->y_rows;
        b->k->weight_gradient(&step->gradient, a, last, dz, tensor_row(b, x, a), dw);
    }
    if (dx) b->k->correlate_image(g, dz, step->packed, NULL, 0, dx, g->y_columns * g->y_channels);
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
        tc_window_rows(pool, a, dx, row, rows);
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
    uint32_t key0[MAX_LANES], key1[MAX_LANES];
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
        tc_random_keys(b, step, key0, key1);
        tc_make_noise(b, step, 1, dy, dy, n, key0, key1);
    }
}

float *tc_backward(const block *b, ptrdiff_t last, ptrdiff_t lowest, float *dy, float *other) {
    for (ptrdiff_t i = last - 1; i >= lowest; i--) {
        const tc_step *step = &b->program->steps[i];
        float *dx = i > lowest || b->job->input_gradient ? other : NULL;
        switch (step->kind) {
        case TC_STEP_CONV2D: conv2d_backward(b, i, dy, dx); break;
        case TC_STEP_CONV2D_TRANSPOSE: conv2d_transpose_backward(b, i, dy, dx); break;
        case TC_STEP_DENSE: dense_backward(b, i, dy, dx); break;
        case TC_STEP_MAX_POOL2D:
        case TC_STEP_AVERAGE_POOL2D: pool_backward(b, i, dy, other); break;
        case TC_STEP_AFFINE:
            if (!b->job->training) continue; /* dy is dx */
            tc_affine_backward(b, step, dy, other);
            break;
        case TC_STEP_GATHER:
            b->k->apply_map(step->map_transposed, 0, step->map_transposed->rows, dy, other);
            break;
        case TC_STEP_BATCH_NORM:
            activation_backward(b, step, &b->program->tensors[i + 1], dy);
            tc_norm_backward(b, i, dy);
            continue;
        case TC_STEP_PRELU: tc_prelu_backward(b, i, dy); continue;
        case TC_STEP_LEVELS:
            if (b->job->training) tc_levels_backward(b, i, dy);
            continue;
        default: elementwise_backward(b, i, dy); continue;
        }
        other = dy;
        dy = dx;
    }
    return dy;
}
