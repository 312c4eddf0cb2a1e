/* The plan for one image at a time: see few.c. */
#include "few.h"

#include <stdlib.h>
#include <string.h>

#include "few_steps.h"
#include "norms.h"

/* A filter a channel: channels in the lanes, in and out. */
static int is_depthwise(const tc_op *op) {
    return op->kind == TC_OP_CONV2D && op->groups > 1 && op->groups == op->in_channels &&
           op->groups == op->out_channels;
}

int tc_few_can(const tc_op *ops, ptrdiff_t count) {
    for (ptrdiff_t i = 0; i < count; i++)
        if ((ops[i].groups > 1 && !is_depthwise(&ops[i])) || ops[i].kind == TC_OP_CONV2D_TRANSPOSE) return 0;
    return 1;
}

/* What does nothing here: outside training. */
static int is_idle(const tc_op *op) {
    return op->kind == TC_OP_RESHAPE || op->kind == TC_OP_DROPOUT || op->kind == TC_OP_RANDOM_AFFINE;
}

static ptrdiff_t round_up(ptrdiff_t n, ptrdiff_t unit) { return (n + unit - 1) / unit * unit; }

static few_tensor few_tensor_of(ptrdiff_t h, ptrdiff_t w, ptrdiff_t c, ptrdiff_t padded, ptrdiff_t left,
                                ptrdiff_t right) {
    return (few_tensor){h, w, c, padded, left, right, (left + w + right) * padded, 0};
}

/* The columns of zeros that an operation reads beside its input. */
static void few_margins(const tc_op *op, ptrdiff_t *left, ptrdiff_t *right) {
    *left = *right = 0;
    if (!is_depthwise(op)) tc_input_margins(op, left, right);
}

/* Floats of a pixel that ops[0] writes: whole vectors, wide ones where a depthwise convolution
 * is the next to read them. */
static ptrdiff_t few_padded(const tc_kernels *k, const tc_op *ops, ptrdiff_t left) {
    ptrdiff_t padded = round_up(ops->out_channels, k->narrow), i = 1;
    while (i < left && ops[i].kind != TC_OP_CONV2D && ops[i].kind != TC_OP_DENSE) i++;
    int wide = is_depthwise(ops) || (i < left && is_depthwise(&ops[i]));
    return wide ? tc_max(padded, k->lanes) : padded;
}

/* The plan of a depthwise convolution, which reads no zeros beside x; 0 without memory. */
static int few_depthwise(few_step *step, const few_tensor *x, const tc_op *op) {
    tc_correlation *g = &step->g;
    ptrdiff_t kh = op->window_height, kw = op->window_width;
    *g = (tc_correlation){.depthwise = 1, .groups = x->padded, .y_rows = step->z_rows, .y_columns = step->z_columns,
                          .y_channels = 1, .y_column_stride = x->padded, .x_rows = x->height, .x_columns = x->width,
                          .x_channels = 1, .x_row_stride = x->row_stride, .x_column_stride = x->padded,
                          .row_step = op->stride_height, .column_step = op->stride_width, .taps = kh * kw,
                          .kernel_rows = kh, .kernel_columns = kw};
    g->rows = malloc(sizeof *g->rows * (size_t)(kh + kw));
    step->packed = malloc(sizeof(float) * (size_t)(kh * kw * x->padded));
    step->packed_bias = malloc(sizeof(float) * (size_t)x->padded);
    if (!g->rows || !step->packed || !step->packed_bias) return 0;
    g->columns = g->rows + kh;
    for (ptrdiff_t i = 0; i < kh; i++) g->rows[i] = (tc_offset){i * op->dilation_height - op->pad_top, i * kw};
    for (ptrdiff_t j = 0; j < kw; j++) g->columns[j] = (tc_offset){j * op->dilation_width - op->pad_left, j};
    return 1;
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
static ptrdiff_t few_plan(tc_few *few, const tc_op *ops, ptrdiff_t left, ptrdiff_t *rows) {
    const tc_op *op = ops;
    ptrdiff_t taken = 1, narrow = few->kernels->narrow, padded = few_padded(few->kernels, ops, left);
    few_tensor *x = &few->tensors[few->count];
    int spatial = op->kind == TC_OP_CONV2D || op->kind == TC_OP_MAX_POOL2D || op->kind == TC_OP_AVERAGE_POOL2D;
    int rowwise = op->kind == TC_OP_BATCH_NORMALIZATION ||
                  (op->kind == TC_OP_ACTIVATION && (op->function == TC_SOFTMAX || op->function == TC_LOG_SOFTMAX));
    ptrdiff_t before, after;
    few_margins(op, &before, &after);
    int reshaped = x->height != op->in_height || x->width != op->in_width || x->channels != op->in_channels;
    int whole = !spatial || op->kind == TC_OP_CONV2D || x->padded % narrow == 0, depthwise = is_depthwise(op);
    if (depthwise) whole = x->padded == padded;
    if (((spatial || rowwise || op->kind == TC_OP_GATHER || op->kind == TC_OP_PRELU) && reshaped) ||
        before > x->left || after > x->right || !whole)
        x = few_copy(few, few_tensor_of(op->in_height, op->in_width, op->in_channels,
                                        depthwise ? padded : round_up(op->in_channels, narrow), before, after));
    few_step *step = &few->steps[few->count];
    *step = (few_step){.kernel = op->kernel, .bias = op->bias, .function = TC_LINEAR};
    memcpy(step->parameters, op->parameters, sizeof step->parameters);
    few_tensor y = few_tensor_of(op->out_height, op->out_width, op->out_channels, padded, 0, 0);
    switch (op->kind) {
    case TC_OP_CONV2D:
    case TC_OP_DENSE: {
        int dense = op->kind == TC_OP_DENSE;
        ptrdiff_t channels = depthwise ? 1 : op->in_channels; /* of a filter */
        step->kind = dense ? TC_STEP_DENSE : TC_STEP_CONV2D;
        step->filters = y.padded;
        step->z_rows = op->out_height, step->z_columns = op->out_width;
        if (taken < left && ops[taken].kind == TC_OP_BATCH_NORMALIZATION && ops[taken].in_height == op->out_height &&
            ops[taken].in_width == op->out_width && ops[taken].in_channels == op->out_channels)
            if (!few_norm(step, &ops[taken++], dense ? x->height * x->width * x->channels
                                                     : op->window_height * op->window_width * channels))
                return 0;
        if (taken < left && ops[taken].kind == TC_OP_ACTIVATION && ops[taken].function != TC_SOFTMAX &&
            ops[taken].function != TC_LOG_SOFTMAX) {
            step->function = ops[taken].function;
            memcpy(step->parameters, ops[taken].parameters, sizeof step->parameters);
            taken++;
        }
        const tc_op *pool = &ops[taken];
        if (!dense && !depthwise && taken < left && pool->kind == TC_OP_MAX_POOL2D && pool->pad_top == 0 &&
            pool->pad_left == 0 && pool->window_height <= pool->stride_height &&
            pool->window_height <= MAX_FUSED_ROWS && tc_is_plain_relu(step->function, step->parameters)) {
            few_pool(pool, step, y.padded);
            step->pooled = 1;
            y = few_tensor_of(pool->out_height, pool->out_width, pool->out_channels, y.padded, 0, 0);
            step->z_rows = few_pooled(step->z_rows, pool->out_height, pool->stride_height, pool->window_height);
            step->z_columns = few_pooled(step->z_columns, pool->out_width, pool->stride_width, pool->window_width);
            if (*rows < pool->window_height * step->z_columns * y.padded)
                *rows = pool->window_height * step->z_columns * y.padded;
            taken++;
        }
        if (depthwise) {
            if (!few_depthwise(step, x, op)) return 0;
        } else if (!few_correlation(few->kernels, step, x, dense ? x->height : op->window_height,
                                    dense ? x->width : op->window_width, op)) {
            return 0;
        }
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
    case TC_OP_PRELU:
        step->kind = TC_STEP_PRELU;
        step->slopes = tc_slopes_of(op);
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
    if (taken < left && ops[taken].in_height == y.height && ops[taken].in_width == y.width &&
        ops[taken].in_channels == y.channels) {
        few_margins(&ops[taken], &before, &after);
        y = few_tensor_of(y.height, y.width, y.channels, y.padded, before, after);
    }
    few->tensors[++few->count] = y;
    return taken;
}

tc_few *tc_few_create(const tc_program *p, const tc_op *ops, ptrdiff_t count) {
    tc_few *few = calloc(1, sizeof *few);
    if (!few) return NULL;
    ptrdiff_t rows = 0, i = 0;
    few->kernels = p->kernels;
    few->lanes = p->kernels->lanes;
    few->steps = calloc((size_t)(2 * count + 2), sizeof *few->steps);
    few->tensors = calloc((size_t)(2 * count + 3), sizeof *few->tensors);
    if (!few->steps || !few->tensors) goto fail;
    /* The image as it comes: no channel padding, margins by a copy if it is needed. */
    while (i < count && (ops[i].kind == TC_OP_RESHAPE || ops[i].kind == TC_OP_RESCALE)) i++;
    const tc_op *first = i < count ? &ops[i] : &ops[count - 1];
    ptrdiff_t h = first->in_height, w = first->in_width, c = first->in_channels, left, right;
    few_margins(first, &left, &right);
    few->tensors[0] = few_tensor_of(h, w, c, c, left, right);
    while (i < count) {
        if (is_idle(&ops[i])) {
            i++;
            continue;
        }
        ptrdiff_t taken = few_plan(few, ops + i, count - i, &rows);
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

/* kernel [tap][channel], bias or NULL, zeros behind the channels. */
static void pack_depthwise(few_step *step, const float *kernel, const float *bias, ptrdiff_t channels) {
    ptrdiff_t padded = step->g.groups;
    memset(step->packed, 0, sizeof(float) * (size_t)(step->g.taps * padded));
    memset(step->packed_bias, 0, sizeof(float) * (size_t)padded);
    for (ptrdiff_t t = 0; t < step->g.taps; t++)
        memcpy(step->packed + t * padded, kernel + t * channels, sizeof(float) * (size_t)channels);
    if (bias) memcpy(step->packed_bias, bias, sizeof(float) * (size_t)channels);
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
        if (step->g.depthwise)
            pack_depthwise(step, kernel, bias, filters);
        else
            p->kernels->pack_filters(kernel, bias, step->g.taps, filters, step->filters, step->paired ? 2 : 1,
                                     step->packed, step->packed_bias);
    }
}
