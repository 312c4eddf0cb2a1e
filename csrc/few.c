/* One image at a time, filters in the lanes: see kernels/filters.h.
 *
 * Every tensor is [h][left + w + right][padded channels] floats; a tensor keeps the
 * shape it was produced in, so that flatten costs nothing: a dense layer is the
 * convolution whose kernel is the whole image. */
#include "few.h"

#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "few_steps.h"
#include "norms.h"
#include "threads.h"

/* An image costs about an eleventh of a full block of 16 here, a fifth of one of 8: up to
 * five eighths of a vector of images this path is ahead on every network measured. */
int tc_few_pays(const tc_program *p, ptrdiff_t n) { return p->few && (n * 8 <= p->kernels->lanes * 5 || n == 1); }

int tc_few_can(const tc_op *ops, ptrdiff_t count) {
    for (ptrdiff_t i = 0; i < count; i++)
        if (ops[i].groups > 1 || ops[i].kind == TC_OP_CONV2D_TRANSPOSE) return 0;
    return 1;
}

#define MAX_FUSED_ROWS 64

/* What does nothing here: outside training. */
static int is_idle(const tc_op *op) {
    return op->kind == TC_OP_RESHAPE || op->kind == TC_OP_DROPOUT || op->kind == TC_OP_RANDOM_AFFINE;
}

static ptrdiff_t round_up(ptrdiff_t n, ptrdiff_t unit) { return (n + unit - 1) / unit * unit; }

static few_tensor few_tensor_of(ptrdiff_t h, ptrdiff_t w, ptrdiff_t c, ptrdiff_t padded, ptrdiff_t left,
                                ptrdiff_t right) {
    return (few_tensor){h, w, c, padded, left, right, (left + w + right) * padded, 0};
}

static int few_correlation(const tc_kernels *k, few_step *step, const few_tensor *x, ptrdiff_t kh, ptrdiff_t kw,
                           const tc_op *op) {
    tc_correlation *g = &step->g;
    int windowed = op->kind == TC_OP_CONV2D;
    ptrdiff_t padded = step->filters;
    *g = (tc_correlation){.y_rows = step->z_rows, .y_columns = step->z_columns, .y_channels = padded,
                          .y_column_stride = padded, .x_rows = x->height, .x_columns = x->width,
                          .x_channels = x->channels, .x_start = x->left * x->padded, .x_row_stride = x->row_stride,
                          .x_column_stride = x->padded, .row_step = windowed ? op->stride_height : 1,
                          .column_step = windowed ? op->stride_width : 1, .taps = kh * kw * x->channels,
                          .kernel_rows = kh, .kernel_columns = kw};
    const tc_pool *pool = &step->pool;
    step->pool_in_registers = k->correlate_pool_filters && step->pooled && pool->window_height == 2 &&
                              pool->window_width == 2 && pool->stride_height == 2 && pool->stride_width == 2 &&
                              g->row_step == 1 && (kh == 1 || op->dilation_height == 1) &&
                              2 * pool->y_rows <= step->z_rows && 2 * pool->y_columns <= step->z_columns;
    step->paired = step->pool_in_registers && padded == k->narrow && k->lanes == 2 * k->narrow &&
                   g->column_step * g->x_column_stride == 1;
    size_t stored = (size_t)padded * (step->paired ? 2 : 1);
    g->rows = malloc(sizeof *g->rows * (size_t)(kh + kw));
    step->packed = malloc(sizeof(float) * (size_t)g->taps * stored);
    step->packed_bias = malloc(sizeof(float) * stored);
    if (!g->rows || !step->packed || !step->packed_bias) return 0;
    g->columns = g->rows + kh;
    for (ptrdiff_t i = 0; i < kh; i++)
        g->rows[i] = (tc_offset){windowed ? i * op->dilation_height - op->pad_top : i, i * kw * x->channels};
    for (ptrdiff_t j = 0; j < kw; j++)
        g->columns[j] = (tc_offset){windowed ? j * op->dilation_width - op->pad_left : j, j * x->channels};
    return tc_plan_tiles(g, 0, 0);
}

/* A step that repacks a tensor into the shape, padding and margins the next one reads. */
static few_tensor *few_copy(tc_few *few, few_tensor wanted) {
    few->steps[few->count] = (few_step){.kind = TC_STEP_ACTIVATION, .function = -1};
    few->tensors[++few->count] = wanted;
    return &few->tensors[few->count];
}

static void few_pool(const tc_op *op, few_step *step, ptrdiff_t padded) {
    step->pool = (tc_pool){op->in_height, op->in_width, padded, op->out_height, op->out_width, op->window_height,
                           op->window_width, op->stride_height, op->stride_width, op->pad_top, op->pad_left};
}

/* How many of `size` rows or columns a pool reads. */
static ptrdiff_t few_pooled(ptrdiff_t size, ptrdiff_t outputs, ptrdiff_t stride, ptrdiff_t window) {
    ptrdiff_t read = (outputs - 1) * stride + window;
    return read < size ? read : size;
}

/* Room for what a batch normalization makes of `rows` rows of its channels; 0 without memory. */
static int few_norm(few_step *step, const tc_op *op, ptrdiff_t rows) {
    step->norm = tc_norm_of(op);
    step->folded = malloc(sizeof(float) * (size_t)(rows * op->in_channels));
    step->folded_bias = malloc(sizeof(float) * (size_t)op->in_channels);
    return step->folded && step->folded_bias;
}

/* Plans op i (and what fuses with it); returns how many operations it took, 0 without memory. */
static ptrdiff_t few_plan(tc_few *few, const tc_op *ops, ptrdiff_t left, ptrdiff_t narrow, ptrdiff_t *rows) {
    const tc_op *op = ops;
    ptrdiff_t taken = 1;
    few_tensor *x = &few->tensors[few->count];
    int spatial = op->kind == TC_OP_CONV2D || op->kind == TC_OP_MAX_POOL2D || op->kind == TC_OP_AVERAGE_POOL2D;
    int rowwise = op->kind == TC_OP_BATCH_NORMALIZATION ||
                  (op->kind == TC_OP_ACTIVATION && (op->function == TC_SOFTMAX || op->function == TC_LOG_SOFTMAX));
    ptrdiff_t before = 0, after = 0;
    if (op->kind == TC_OP_CONV2D) {
        before = op->pad_left;
        after = (op->out_width - 1) * op->stride_width + (op->window_width - 1) * op->dilation_width - op->pad_left -
                (op->in_width - 1);
        if (after < 0) after = 0;
    }
    int reshaped = x->height != op->in_height || x->width != op->in_width || x->channels != op->in_channels;
    int whole = !spatial || op->kind == TC_OP_CONV2D || x->padded % narrow == 0;
    if (((spatial || rowwise || op->kind == TC_OP_GATHER) && reshaped) || before > x->left || after > x->right || !whole)
        x = few_copy(few, few_tensor_of(op->in_height, op->in_width, op->in_channels,
                                        round_up(op->in_channels, narrow), before, after));
    few_step *step = &few->steps[few->count];
    *step = (few_step){.kernel = op->kernel, .bias = op->bias, .function = TC_LINEAR};
    memcpy(step->parameters, op->parameters, sizeof step->parameters);
    few_tensor y = few_tensor_of(op->out_height, op->out_width, op->out_channels,
                                 round_up(op->out_channels, narrow), 0, 0);
    switch (op->kind) {
    case TC_OP_CONV2D:
    case TC_OP_DENSE: {
        int dense = op->kind == TC_OP_DENSE;
        step->kind = dense ? TC_STEP_DENSE : TC_STEP_CONV2D;
        step->filters = y.padded;
        step->z_rows = op->out_height, step->z_columns = op->out_width;
        if (taken < left && ops[taken].kind == TC_OP_BATCH_NORMALIZATION && ops[taken].in_height == op->out_height &&
            ops[taken].in_width == op->out_width && ops[taken].in_channels == op->out_channels)
            if (!few_norm(step, &ops[taken++], dense ? x->height * x->width * x->channels
                                                     : op->window_height * op->window_width * op->in_channels))
                return 0;
        if (taken < left && ops[taken].kind == TC_OP_ACTIVATION && ops[taken].function != TC_SOFTMAX &&
            ops[taken].function != TC_LOG_SOFTMAX) {
            step->function = ops[taken].function;
            memcpy(step->parameters, ops[taken].parameters, sizeof step->parameters);
            taken++;
        }
        const tc_op *pool = &ops[taken];
        if (!dense && taken < left && pool->kind == TC_OP_MAX_POOL2D && pool->pad_top == 0 && pool->pad_left == 0 &&
            pool->window_height <= pool->stride_height && pool->window_height <= MAX_FUSED_ROWS &&
            tc_is_plain_relu(step->function, step->parameters)) {
            few_pool(pool, step, y.padded);
            step->pooled = 1;
            y = few_tensor_of(pool->out_height, pool->out_width, pool->out_channels, y.padded, 0, 0);
            step->z_rows = few_pooled(step->z_rows, pool->out_height, pool->stride_height, pool->window_height);
            step->z_columns = few_pooled(step->z_columns, pool->out_width, pool->stride_width, pool->window_width);
            if (*rows < pool->window_height * step->z_columns * y.padded)
                *rows = pool->window_height * step->z_columns * y.padded;
            taken++;
        }
        if (!few_correlation(few->kernels, step, x, dense ? x->height : op->window_height,
                             dense ? x->width : op->window_width, op))
            return 0;
        break;
    }
    case TC_OP_MAX_POOL2D:
    case TC_OP_AVERAGE_POOL2D:
        step->kind = op->kind == TC_OP_MAX_POOL2D ? TC_STEP_MAX_POOL2D : TC_STEP_AVERAGE_POOL2D;
        few_pool(op, step, x->padded);
        y.padded = x->padded;
        y = few_tensor_of(y.height, y.width, y.channels, x->padded, 0, 0);
        break;
    case TC_OP_GATHER:
        step->kind = TC_STEP_GATHER;
        step->map = op->map;
        step->sources = tc_few_map_sources(step->map, x);
        if (!step->sources) return 0;
        break;
    case TC_OP_BATCH_NORMALIZATION:
        step->kind = TC_STEP_BATCH_NORM;
        if (!few_norm(step, op, 1)) return 0;
        y = few_tensor_of(x->height, x->width, x->channels, x->padded, 0, 0);
        break;
    default: /* element by element, in the shape that the tensor has */
        step->kind = rowwise ? TC_STEP_SOFTMAX : op->kind == TC_OP_RESCALE ? TC_STEP_RESCALE : TC_STEP_ACTIVATION;
        if (op->kind == TC_OP_ACTIVATION) step->function = op->function;
        if (op->kind == TC_OP_RESCALE) step->scale = op->parameters[0], step->shift = op->parameters[1];
        y = few_tensor_of(x->height, x->width, x->channels, x->padded, 0, 0);
    }
    /* The margins that the next convolution needs, if it reads this shape. */
    for (ptrdiff_t i = taken; i < left && is_idle(&ops[i]); i++) taken++;
    if (taken < left && ops[taken].kind == TC_OP_CONV2D && ops[taken].in_height == y.height &&
        ops[taken].in_width == y.width && ops[taken].in_channels == y.channels) {
        const tc_op *next = &ops[taken];
        ptrdiff_t need = (next->out_width - 1) * next->stride_width +
                         (next->window_width - 1) * next->dilation_width - next->pad_left - (next->in_width - 1);
        y = few_tensor_of(y.height, y.width, y.channels, y.padded, next->pad_left, need > 0 ? need : 0);
    }
    few->tensors[++few->count] = y;
    return taken;
}

tc_few *tc_few_create(const tc_program *p, const tc_op *ops, ptrdiff_t count) {
    tc_few *few = calloc(1, sizeof *few);
    if (!few) return NULL;
    ptrdiff_t rows = 0, i = 0, narrow = p->kernels->narrow;
    few->kernels = p->kernels;
    few->lanes = p->kernels->lanes;
    few->steps = calloc((size_t)(2 * count + 2), sizeof *few->steps);
    few->tensors = calloc((size_t)(2 * count + 3), sizeof *few->tensors);
    if (!few->steps || !few->tensors) goto fail;
    /* The image as it comes: no channel padding, margins by a copy if it is needed. */
    while (i < count && (ops[i].kind == TC_OP_RESHAPE || ops[i].kind == TC_OP_RESCALE)) i++;
    const tc_op *first = i < count ? &ops[i] : &ops[count - 1];
    ptrdiff_t h = first->in_height, w = first->in_width, c = first->in_channels, left = 0, right = 0;
    if (first->kind == TC_OP_CONV2D) {
        left = first->pad_left;
        right = (first->out_width - 1) * first->stride_width + (first->window_width - 1) * first->dilation_width -
                first->pad_left - (first->in_width - 1);
        if (right < 0) right = 0;
    }
    few->tensors[0] = few_tensor_of(h, w, c, c, left, right);
    while (i < count) {
        if (is_idle(&ops[i])) {
            i++;
            continue;
        }
        ptrdiff_t taken = few_plan(few, ops + i, count - i, narrow, &rows);
        if (!taken) goto fail;
        i += taken;
    }
    ptrdiff_t end = 0;
    for (ptrdiff_t t = 0; t <= few->count; t++) {
        few->tensors[t].offset = end;
        end += round_up(few->tensors[t].height * few->tensors[t].row_stride, few->lanes) + few->lanes;
    }
    few->row_offset = end, end += round_up(rows, few->lanes);
    ptrdiff_t window = 1;
    for (ptrdiff_t t = 0; t < few->count; t++)
        if (few->steps[t].pool.window_height > window) window = few->steps[t].pool.window_height;
    few->pointers_offset = end;
    end += round_up((ptrdiff_t)((size_t)window * sizeof(float *) / sizeof(float)), few->lanes);
    few->size = end;
    return few;
fail:
    tc_few_destroy(few);
    return NULL;
}

void tc_few_destroy(tc_few *few) {
    if (!few) return;
    for (ptrdiff_t i = 0; few->steps && i < few->count + 1; i++) {
        tc_correlation_clear(&few->steps[i].g);
        free(few->steps[i].packed);
        free(few->steps[i].packed_bias);
        free(few->steps[i].sources);
        free(few->steps[i].folded);
        free(few->steps[i].folded_bias);
    }
    free(atomic_load(&few->memory));
    free(few->steps);
    free(few->tensors);
    free(few);
}

void tc_few_pack(const tc_program *p, tc_few *few) {
    for (ptrdiff_t i = 0; i < few->count; i++) {
        few_step *step = &few->steps[i];
        if (step->kind == TC_STEP_BATCH_NORM)
            tc_norm_fold(p, &step->norm, NULL, 1, NULL, step->folded, step->folded_bias);
        if (!step->packed) continue;
        const tc_weight *weight = &p->weights[step->kernel];
        const float *kernel = weight->values, *bias = step->bias < 0 ? NULL : p->weights[step->bias].values;
        ptrdiff_t filters = weight->count / step->g.taps;
        if (step->folded) {
            tc_norm_fold(p, &step->norm, kernel, step->g.taps, bias, step->folded, step->folded_bias);
            kernel = step->folded, bias = step->folded_bias;
        }
        p->kernels->pack_filters(kernel, bias, step->g.taps, filters, step->paired ? 2 : 1, step->packed,
                                 step->packed_bias);
    }
}

/* ---- running ------------------------------------------------------------------------- */

/* y = f(x) for n floats at any address: the kernel takes whole vectors. */
static void few_activation(const tc_kernels *k, const few_step *step, const float *x, float *y, ptrdiff_t n) {
    _Alignas(64) float in[64], out[64];
    for (ptrdiff_t i = 0; i < n; i += k->lanes) {
        size_t bytes = sizeof(float) * (size_t)(n - i < k->lanes ? n - i : k->lanes);
        memset(in, 0, sizeof in);
        memcpy(in, x + i, bytes);
        k->activation(step->function, step->parameters, in, out, 1);
        memcpy(y + i, out, bytes);
    }
}

static void few_correlate(const tc_kernels *k, const tc_few *few, const few_step *step, float *m, const few_tensor *x,
                          const few_tensor *y) {
    int relu = tc_is_plain_relu(step->function, step->parameters);
    float *y0 = m + y->offset + y->left * y->padded;
    if (!step->pooled) {
        for (ptrdiff_t a = 0; a < step->z_rows; a++) {
            float *row = y0 + a * y->row_stride;
            k->correlate_filters(&step->g, a, m + x->offset, step->packed, step->packed_bias, relu, row);
            if (!relu && step->function != TC_LINEAR) few_activation(k, step, row, row, y->width * y->padded);
        }
        return;
    }
    const tc_pool *pool = &step->pool;
    for (ptrdiff_t a = 0; step->pool_in_registers && a < pool->y_rows; a++)
        k->correlate_pool_filters(&step->g, a, m + x->offset, step->packed, step->packed_bias, pool->y_columns,
                                  step->paired, y0 + a * y->row_stride);
    for (ptrdiff_t a = 0; !step->pool_in_registers && a < pool->y_rows; a++) {
        const float *rows[MAX_FUSED_ROWS];
        for (ptrdiff_t i = 0; i < pool->window_height; i++) {
            ptrdiff_t z = a * pool->stride_height + i;
            float *row = m + few->row_offset + i * step->z_columns * y->padded;
            rows[i] = z < step->z_rows ? row : NULL;
            if (rows[i])
                k->correlate_filters(&step->g, z, m + x->offset, step->packed, step->packed_bias, relu, row);
        }
        k->max_pool_filters(pool, rows, y0 + a * y->row_stride);
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

/* Repacks x, value by value, into the shape of y. */
static void few_repack(float *m, const few_tensor *x, const few_tensor *y) {
    ptrdiff_t xi = 0, xj = 0, xc = 0;
    for (ptrdiff_t i = 0; i < y->height; i++)
        for (ptrdiff_t j = 0; j < y->width; j++)
            for (ptrdiff_t c = 0; c < y->channels; c++) {
                m[y->offset + i * y->row_stride + (y->left + j) * y->padded + c] =
                    m[x->offset + xi * x->row_stride + (x->left + xj) * x->padded + xc];
                if (++xc == x->channels) {
                    xc = 0;
                    if (++xj == x->width) xj = 0, xi++;
                }
            }
}

static void few_elementwise(const tc_kernels *k, const few_step *step, float *m, const few_tensor *x,
                            const few_tensor *y) {
    if (step->kind == TC_STEP_ACTIVATION && step->function < 0) {
        few_repack(m, x, y);
        return;
    }
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
