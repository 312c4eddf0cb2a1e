/* One image at a time, filters in the lanes: see kernels/filters.h.
 *
 * Every tensor is [h][left + w + right][padded channels] floats; a tensor keeps the
 * shape it was produced in, so that flatten costs nothing. */
#include "few.h"

#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "few_steps.h"
#include "threads.h"

/* Where filters fill the vectors, an image costs a lane's share of what a block does, and up to five
 * eighths of a block's images are ahead here. */
int tc_few_pays(const tc_program *p, ptrdiff_t n) {
    if (!p->few || n == 1) return p->few != NULL;
    return n * 8 <= p->kernels->lanes * 5 && (double)n * p->few->image_cost <= 0.65 * p->few->block_cost;
}

/* y = f(x) for n floats at any address: the kernel takes whole vectors. */
static void few_activation(const tc_kernels *k, const few_step *step, const float *x, float *y, ptrdiff_t n) {
    _Alignas(64) float part[1024];
    const ptrdiff_t most = sizeof part / sizeof *part;
    for (ptrdiff_t i = 0; i < n; i += most) {
        ptrdiff_t count = n - i < most ? n - i : most, vectors = (count + k->lanes - 1) / k->lanes;
        memset(part + (vectors - 1) * k->lanes, 0, sizeof(float) * (size_t)k->lanes);
        memcpy(part, x + i, sizeof(float) * (size_t)count);
        k->activation(step->function, step->parameters, part, part, vectors);
        memcpy(y + i, part, sizeof(float) * (size_t)count);
    }
}

/* Row a of a correlation.  What a group leaves behind its filters the next one overwrites. */
static void few_row(const few_step *step, const few_phase *phase, ptrdiff_t a, const float *x, int relu, float *y) {
    const float *packed = step->packed + phase->first;
    for (ptrdiff_t i = 0; i < step->groups; i++)
        step->correlate(&phase->g, a, x + i * phase->g.x_channels, packed + i * step->group_weights,
                        step->packed_bias + i * step->group_biases, relu, y + i * step->filters);
}

/* Row a of the pool behind a convolution; rows: room for those of its window. */
static void few_pooled_row(const tc_kernels *k, const few_step *step, ptrdiff_t a, const float *x, float *rows,
                           float *y) {
    const tc_pool *pool = &step->pool;
    const tc_correlation *g = &step->phases->g;
    if (step->pool_in_registers) {
        for (ptrdiff_t i = 0; i < step->groups; i++)
            k->correlate_pool_filters(g, a, x + i * g->x_channels, step->packed + i * step->group_weights,
                                      step->packed_bias + i * step->group_biases, pool->y_columns, step->paired,
                                      y + i * step->filters);
        return;
    }
    const float *window[MAX_FUSED_ROWS];
    for (ptrdiff_t i = 0; i < pool->window_height; i++) {
        ptrdiff_t z = a * pool->stride_height + i;
        float *row = rows + i * step->z_columns * pool->channels;
        window[i] = z < step->z_rows ? row : NULL;
        if (window[i]) few_row(step, step->phases, z, x, 1, row);
    }
    k->max_pool_filters(pool, window, y);
}

static void few_correlate(const tc_kernels *k, const tc_few *few, const few_step *step, float *m, const few_tensor *x,
                          const few_tensor *y) {
    int relu = tc_is_plain_relu(step->function, step->parameters);
    float *to = m + y->offset + y->left * y->padded;
    for (ptrdiff_t a = 0; a < y->height; a++, to += y->row_stride) {
        if (step->pooled) {
            few_pooled_row(k, step, a, m + x->offset, m + few->row_offset, to);
            continue;
        }
        const few_phase *first = step->phases + a % step->phase_rows * step->phase_columns;
        for (const few_phase *phase = first; phase < first + step->phase_columns; phase++)
            few_row(step, phase, a / step->phase_rows, m + x->offset, relu, to + phase->g.y_start);
        if (!relu && step->function != TC_LINEAR) few_activation(k, step, to, to, y->width * y->padded);
    }
}

static void few_pool_step(const tc_kernels *k, const tc_few *few, const few_step *step, float *m, const few_tensor *x,
                          const few_tensor *y) {
    const tc_pool *pool = &step->pool;
    const float **rows = (const float **)(m + few->pointers_offset);
    for (ptrdiff_t a = 0; a < pool->y_rows; a++) {
        for (ptrdiff_t i = 0; i < pool->window_height; i++) {
            ptrdiff_t row = a * pool->stride_height - pool->pad_top + i;
            rows[i] = row >= 0 && row < pool->x_rows ? m + x->offset + row * x->row_stride + x->left * x->padded : NULL;
        }
        float *to = m + y->offset + a * y->row_stride + y->left * y->padded;
        (step->kind == TC_STEP_MAX_POOL2D ? k->max_pool_filters : k->average_pool_filters)(pool, rows, to);
    }
}

/* n values, each `repeat` times: more than two four at once, of which the next value overwrites those
 * that are too many. */
static void few_repeat(const float *restrict x, ptrdiff_t n, ptrdiff_t repeat, float *restrict y) {
    for (ptrdiff_t i = 0; repeat == 2 && i < n; i++) y[2 * i] = y[2 * i + 1] = x[i];
    for (ptrdiff_t i = 0; repeat > 2 && i < n; i++)
        for (ptrdiff_t r = 0; r < repeat; r += 4)
            for (int k = 0; k < 4; k++) y[i * repeat + r + k] = x[i];
}

/* x in the shape of y, every value `repeat` times. */
static void few_copy(ptrdiff_t repeat, float *m, const few_tensor *x, const few_tensor *y) {
    ptrdiff_t xi = 0, xj = 0, xc = 0;
    for (ptrdiff_t i = 0; i < y->height; i++)
        for (ptrdiff_t j = 0; j < y->width; j++) {
            float *to = m + y->offset + i * y->row_stride + (y->left + j) * y->padded;
            for (ptrdiff_t left = y->channels / repeat, n; left > 0; left -= n, to += n * repeat) {
                const float *from = m + x->offset + xi * x->row_stride + (x->left + xj) * x->padded + xc;
                n = left < x->channels - xc ? left : x->channels - xc;
                if (repeat > 1) few_repeat(from, n, repeat, to);
                else memcpy(to, from, sizeof(float) * (size_t)n);
                if ((xc += n) < x->channels) continue;
                xc = 0;
                if (++xj == x->width) xj = 0, xi++;
            }
        }
}

static void few_elementwise(const tc_kernels *k, const few_step *step, float *m, const few_tensor *x,
                            const few_tensor *y) {
    ptrdiff_t n = y->width * y->padded;
    for (ptrdiff_t a = 0; a < y->height; a++) {
        const float *from = m + x->offset + a * x->row_stride + x->left * x->padded;
        float *to = m + y->offset + a * y->row_stride + y->left * y->padded;
        if (step->kind == TC_STEP_SOFTMAX)
            k->softmax_rows(from, to, y->width, y->channels, y->padded, step->function == TC_LOG_SOFTMAX);
        else if (step->kind == TC_STEP_BATCH_NORM)
            for (ptrdiff_t i = 0; i < y->width; i++)
                for (ptrdiff_t c = 0; c < y->channels; c++)
                    to[i * y->padded + c] = from[i * x->padded + c] * step->folded[c] + step->folded_bias[c];
        else if (step->kind == TC_STEP_RESCALE)
            for (ptrdiff_t i = 0; i < n; i++) to[i] = from[i] * step->scale + step->shift;
        else
            few_activation(k, step, from, to, n);
    }
}

static void few_load(const tc_program *p, const tc_few *few, const tc_batch *batch, ptrdiff_t image, float *m) {
    const few_tensor *t = &few->tensors[0];
    ptrdiff_t sample = batch->indices ? (ptrdiff_t)batch->indices[image] : image, row = t->width * t->channels;
    for (ptrdiff_t a = 0; a < t->height; a++) {
        float *to = m + t->offset + a * t->row_stride + t->left * t->padded;
        ptrdiff_t at = (sample * t->height + a) * row;
        if (!batch->x_is_uint8 && p->load_scale == 1.0f && p->load_offset == 0.0f)
            memcpy(to, (const float *)batch->x + at, sizeof(float) * (size_t)row);
        else if (batch->x_is_uint8)
            for (ptrdiff_t i = 0; i < row; i++)
                to[i] = ((const uint8_t *)batch->x)[at + i] * p->load_scale + p->load_offset;
        else
            for (ptrdiff_t i = 0; i < row; i++)
                to[i] = ((const float *)batch->x)[at + i] * p->load_scale + p->load_offset;
    }
}

static void few_store(const tc_few *few, const float *m, float *output) {
    const few_tensor *t = &few->tensors[few->count];
    for (ptrdiff_t i = 0; i < t->height; i++)
        for (ptrdiff_t j = 0; j < t->width; j++, output += t->channels)
            memcpy(output, m + t->offset + i * t->row_stride + (t->left + j) * t->padded,
                   sizeof(float) * (size_t)t->channels);
}

/* One image, in the stretch of memory of one thread. */
static void few_run(const tc_program *p, const tc_few *few, const tc_batch *batch, ptrdiff_t image, float *m,
                    float *output) {
    const tc_kernels *k = p->kernels;
    const few_tensor *last = &few->tensors[few->count];
    few_load(p, few, batch, image, m);
    for (ptrdiff_t i = 0; i < few->count; i++) {
        const few_step *step = &few->steps[i];
        const few_tensor *x = &few->tensors[i], *y = x + 1;
        switch (step->kind) {
        case TC_STEP_CONV2D:
        case TC_STEP_DENSE: few_correlate(k, few, step, m, x, y); break;
        case TC_STEP_MAX_POOL2D:
        case TC_STEP_AVERAGE_POOL2D: few_pool_step(k, few, step, m, x, y); break;
        case TC_STEP_GATHER: tc_few_apply_map(step->map, step->sources, m, x, y); break;
        case TC_STEP_COPY: few_copy(step->repeat, m, x, y); break;
        case TC_STEP_PRELU: tc_few_prelu(p, &step->slopes, m, x, y); break;
        default: few_elementwise(k, step, m, x, y);
        }
    }
    few_store(few, m, output + image * last->height * last->width * last->channels);
}

int tc_few_predict(const tc_program *p, tc_few *few, const tc_batch *batch, float *output) {
    int threads = tc_threads_for(p->flops * (double)batch->n, batch->n);
    few_memory *memory = atomic_exchange(&few->memory, NULL);
    if (!memory || memory->threads < threads) {
        free(memory);
        /* Zeros: the margins are never written afterwards. */
        memory = calloc(1, sizeof *memory + 64 + sizeof(float) * (size_t)(few->size * threads));
        if (!memory) return TC_ERROR_MEMORY;
        memory->threads = threads;
    }
    float *first = (float *)(((uintptr_t)(memory + 1) + 63) & ~(uintptr_t)63);
    if (threads == 1) { /* without OpenMP's microsecond */
        unsigned mode = tc_denormals_off();
        for (ptrdiff_t image = 0; image < batch->n; image++) few_run(p, few, batch, image, first, output);
        tc_denormals_restore(mode);
    } else {
        TC_PRAGMA(omp parallel num_threads(threads))
        {
            unsigned mode = tc_denormals_off();
            TC_PRAGMA(omp for schedule(dynamic, 1))
            for (ptrdiff_t image = 0; image < batch->n; image++)
                few_run(p, few, batch, image, first + few->size * tc_thread_number(), output);
            tc_denormals_restore(mode);
        }
    }
    free(atomic_exchange(&few->memory, memory));
    return TC_OK;
}
