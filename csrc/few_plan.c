/* The plan for one image at a time: see few.c. */
#include "few.h"

#include <stdlib.h>
#include <string.h>

#include "few_steps.h"
#include "norms.h"

/* What does nothing here: outside training. */
static int is_idle(const tc_op *op) {
    return op->kind == TC_OP_RESHAPE || op->kind == TC_OP_DROPOUT || op->kind == TC_OP_RANDOM_AFFINE ||
           op->kind == TC_OP_RANDOM_LEVELS;
}

static int is_pool(const tc_op *op) { return op->kind == TC_OP_MAX_POOL2D || op->kind == TC_OP_AVERAGE_POOL2D; }

static int is_softmax(const tc_op *op) {
    return op->kind == TC_OP_ACTIVATION && (op->function == TC_SOFTMAX || op->function == TC_LOG_SOFTMAX);
}

static few_tensor few_tensor_of(ptrdiff_t h, ptrdiff_t w, ptrdiff_t c, ptrdiff_t padded, ptrdiff_t left,
                                ptrdiff_t right) {
    return (few_tensor){h, w, c, padded, left, right, (left + w + right) * padded, 0};
}

/* The columns of zeros that an operation reads beside its input. */
static void few_margins(const tc_op *op, ptrdiff_t *left, ptrdiff_t *right) {
    *left = *right = 0;
    if (!is_depthwise(op)) tc_input_margins(op, left, right);
}

/* ---- what a step reads and writes ----------------------------------------------------- */

/* The input of `op`: the tensor as it is, or a copy in its shape, with its margins; channels in
 * whole vectors where they lie in the lanes, as often as a depthwise convolution has filters for each. */
static const few_tensor *few_input(tc_few *few, const tc_op *op) {
    const few_tensor *x = &few->tensors[few->count];
    const ptrdiff_t narrow = few->kernels->narrow, lanes = few->lanes;
    int depthwise = is_depthwise(op), pool = is_pool(op), reads_shape = op->kind != TC_OP_DENSE;
    if (op->kind == TC_OP_RESCALE || (op->kind == TC_OP_ACTIVATION && !is_softmax(op))) reads_shape = 0;
    int reshaped = x->height != op->in_height || x->width != op->in_width || x->channels != op->in_channels;
    int whole = x->padded % narrow == 0 && (!depthwise || x->padded >= lanes);
    ptrdiff_t repeat = depthwise ? op->out_channels / op->in_channels : 1, left, right;
    few_margins(op, &left, &right);
    if (!(reads_shape && reshaped) && left <= x->left && right <= x->right && repeat == 1 &&
        (whole || (!depthwise && !pool)))
        return x;
    ptrdiff_t channels = op->in_channels * repeat, padded = round_up(channels, narrow);
    few->steps[few->count] = (few_step){.kind = TC_STEP_COPY, .repeat = repeat};
    few->tensors[++few->count] = few_tensor_of(op->in_height, op->in_width, channels,
                                               depthwise ? tc_max(padded, lanes) : padded, left, right);
    return &few->tensors[few->count];
}

/* Floats of a pixel that a convolution writes: wide vectors where a depthwise one is the next to read them. */
static ptrdiff_t few_padded(const tc_few *few, const tc_op *ops, ptrdiff_t left) {
    ptrdiff_t padded = tc_few_padded(few->kernels, ops), i = 1;
    while (i < left && !is_convolution(&ops[i])) i++;
    int wide = i < left && is_depthwise(&ops[i]) && ops[i].in_channels == ops[i].out_channels;
    return wide ? tc_max(padded, few->lanes) : padded;
}

static void few_pool(const tc_op *op, few_step *step, ptrdiff_t padded) {
    step->pool = (tc_pool){op->in_height, op->in_width, padded, op->out_height, op->out_width, op->window_height,
                           op->window_width, op->stride_height, op->stride_width, op->pad_top, op->pad_left};
}

/* ---- convolutions and what fuses with them ---------------------------------------------- */

/* How many of `size` rows or columns a pool reads. */
static ptrdiff_t few_pooled(ptrdiff_t size, ptrdiff_t outputs, ptrdiff_t stride, ptrdiff_t window) {
    ptrdiff_t read = (outputs - 1) * stride + window;
    return read < size ? read : size;
}

/* Whether ops[taken] reads the image as the operation before it writes it. */
static int few_follows(const tc_op *ops, ptrdiff_t left, ptrdiff_t taken) {
    if (taken >= left) return 0;
    const tc_op *op = &ops[taken - 1], *next = &ops[taken];
    return op->out_height == next->in_height && op->out_width == next->in_width &&
           op->out_channels == next->in_channels;
}

/* A pool that a convolution feeds row by row, with a ReLU between them at most. */
static int few_takes_pool(const few_step *step, const tc_op *op, const tc_op *pool) {
    return op->kind == TC_OP_CONV2D && !is_depthwise(op) && pool->kind == TC_OP_MAX_POOL2D && pool->pad_top == 0 &&
           pool->pad_left == 0 && pool->window_height <= pool->stride_height &&
           pool->window_height <= MAX_FUSED_ROWS && tc_is_plain_relu(step->function, step->parameters);
}

/* What fuses with ops[0]: a batch normalization, an activation, a pool.  Returns how many operations
 * the step takes. */
static ptrdiff_t few_fuse(few_step *step, const tc_op *ops, ptrdiff_t left, ptrdiff_t padded) {
    ptrdiff_t taken = 1;
    step->z_rows = ops->out_height, step->z_columns = ops->out_width;
    if (few_follows(ops, left, taken) && ops[taken].kind == TC_OP_BATCH_NORMALIZATION) {
        step->normed = 1;
        step->norm = tc_norm_of(&ops[taken++]);
    }
    if (few_follows(ops, left, taken) && ops[taken].kind == TC_OP_ACTIVATION && !is_softmax(&ops[taken])) {
        step->function = ops[taken].function;
        memcpy(step->parameters, ops[taken++].parameters, sizeof step->parameters);
    }
    if (few_follows(ops, left, taken) && few_takes_pool(step, ops, &ops[taken])) {
        const tc_op *pool = &ops[taken++];
        few_pool(pool, step, padded);
        step->pooled = 1;
        step->z_rows = few_pooled(step->z_rows, pool->out_height, pool->stride_height, pool->window_height);
        step->z_columns = few_pooled(step->z_columns, pool->out_width, pool->stride_width, pool->window_width);
    }
    return taken;
}

/* ---- the plan ---------------------------------------------------------------------------- */

/* A step of one operation that is no convolution; 0 without memory. */
static int few_plan_alone(few_step *step, const tc_op *op, const few_tensor *x) {
    switch (op->kind) {
    case TC_OP_MAX_POOL2D:
    case TC_OP_AVERAGE_POOL2D:
        step->kind = op->kind == TC_OP_MAX_POOL2D ? TC_STEP_MAX_POOL2D : TC_STEP_AVERAGE_POOL2D;
        few_pool(op, step, x->padded);
        return 1;
    case TC_OP_GATHER:
        step->kind = TC_STEP_GATHER;
        step->map = op->map;
        step->sources = tc_few_map_sources(step->map, x);
        return step->sources != NULL;
    case TC_OP_BATCH_NORMALIZATION:
        step->kind = TC_STEP_BATCH_NORM;
        step->norm = tc_norm_of(op);
        step->folded = malloc(sizeof(float) * (size_t)op->in_channels);
        step->folded_bias = malloc(sizeof(float) * (size_t)op->in_channels);
        return step->folded && step->folded_bias;
    case TC_OP_PRELU:
        step->kind = TC_STEP_PRELU;
        step->slopes = tc_slopes_of(op);
        return 1;
    case TC_OP_RESCALE:
        step->kind = TC_STEP_RESCALE;
        step->scale = op->parameters[0], step->shift = op->parameters[1];
        return 1;
    default:
        step->kind = is_softmax(op) ? TC_STEP_SOFTMAX : TC_STEP_ACTIVATION;
        step->function = op->function;
        return 1;
    }
}

/* Plans ops[0] and what fuses with it; returns how many operations it took, 0 without memory. */
static ptrdiff_t few_plan(tc_few *few, const tc_op *ops, ptrdiff_t left) {
    const few_tensor *x = few_input(few, ops);
    few_step *step = &few->steps[few->count];
    *step = (few_step){.kernel = ops->kernel, .bias = ops->bias, .function = TC_LINEAR};
    memcpy(step->parameters, ops->parameters, sizeof step->parameters);
    /* Element by element, in the shape that the tensor has. */
    few_tensor y = few_tensor_of(x->height, x->width, x->channels, x->padded, 0, 0);
    ptrdiff_t taken = 1;
    if (is_convolution(ops)) {
        step->kind = ops->kind == TC_OP_DENSE ? TC_STEP_DENSE : TC_STEP_CONV2D;
        if (!is_depthwise(ops)) y.padded = few_padded(few, ops, left);
        taken = few_fuse(step, ops, left, y.padded);
        if (!tc_few_plan_convolution(few->kernels, step, x, ops, y.padded)) return 0;
    } else if (!few_plan_alone(step, ops, x)) {
        return 0;
    }
    if (is_convolution(ops) || is_pool(ops) || ops->kind == TC_OP_GATHER) {
        const tc_op *last = step->pooled ? &ops[taken - 1] : ops;
        y.height = last->out_height, y.width = last->out_width, y.channels = last->out_channels;
        if (ops->kind == TC_OP_GATHER) y.padded = few_padded(few, ops, left);
    }
    /* The margins that the next convolution needs, if it reads this shape. */
    while (taken < left && is_idle(&ops[taken])) taken++;
    if (taken < left && ops[taken].in_height == y.height && ops[taken].in_width == y.width &&
        ops[taken].in_channels == y.channels)
        few_margins(&ops[taken], &y.left, &y.right);
    few->tensors[++few->count] = few_tensor_of(y.height, y.width, y.channels, y.padded, y.left, y.right);
    return taken;
}

/* Where the tensors lie in memory, and rows and pointers on their way to a pool. */
static void few_place_tensors(tc_few *few) {
    ptrdiff_t end = 0, rows = 0, window = 1;
    for (ptrdiff_t t = 0; t <= few->count; t++) {
        few_tensor *tensor = &few->tensors[t];
        tensor->offset = end;
        end += round_up(tensor->height * tensor->row_stride, few->lanes) + few->lanes;
    }
    for (ptrdiff_t i = 0; i < few->count; i++) {
        const few_step *step = &few->steps[i];
        window = tc_max(window, step->pool.window_height);
        if (step->pooled) rows = tc_max(rows, step->pool.window_height * step->z_columns * step->pool.channels);
    }
    few->row_offset = end, end += round_up(rows, few->lanes);
    few->pointers_offset = end;
    few->size = end + round_up((ptrdiff_t)((size_t)window * sizeof(float *) / sizeof(float)), few->lanes);
}

/* What images cost, in vectors of multiply-adds, as measured: a value that passes alone costs as much,
 * one that is pooled in image lanes, with the place of the maximum, four times that. */
static void few_costs(tc_few *few, double flops) {
    few->block_cost = flops;
    for (ptrdiff_t i = 0; i < few->count; i++) {
        const few_step *step = &few->steps[i];
        const few_tensor *x = &few->tensors[i], *y = x + 1;
        few->image_cost += tc_few_vectors(few->kernels, step);
        if (step->kind == TC_STEP_GATHER)
            few->image_cost += (double)(step->map->starts[step->map->rows] * step->map->run);
        if (step->kind == TC_STEP_PRELU || step->kind == TC_STEP_SOFTMAX || step->repeat > 1)
            few->image_cost += (double)(x->height * x->width * x->channels);
        if (step->kind == TC_STEP_MAX_POOL2D)
            few->block_cost += 4.0 * (double)(y->height * y->width * y->channels * step->pool.window_height *
                                              step->pool.window_width);
    }
}

tc_few *tc_few_create(const tc_program *p, const tc_op *ops, ptrdiff_t count) {
    tc_few *few = calloc(1, sizeof *few);
    if (!few) return NULL;
    ptrdiff_t i = 0, taken;
    few->kernels = p->kernels;
    few->lanes = p->kernels->lanes;
    few->steps = calloc((size_t)(2 * count + 2), sizeof *few->steps);
    few->tensors = calloc((size_t)(2 * count + 3), sizeof *few->tensors);
    if (!few->steps || !few->tensors) goto fail;
    /* The image as it comes: no channel padding, margins by a copy if it is needed. */
    while (i < count && (ops[i].kind == TC_OP_RESHAPE || ops[i].kind == TC_OP_RESCALE)) i++;
    while (i < count && is_idle(&ops[i])) i++;
    const tc_op *first = i < count ? &ops[i] : &ops[count - 1];
    ptrdiff_t h = first->in_height, w = first->in_width, c = first->in_channels, left, right;
    few_margins(first, &left, &right);
    few->tensors[0] = few_tensor_of(h, w, c, c, left, right);
    for (; i < count; i += taken) {
        taken = few_plan(few, ops + i, count - i);
        if (!taken) goto fail;
    }
    few_place_tensors(few);
    few_costs(few, p->flops);
    return few;
fail:
    tc_few_destroy(few);
    return NULL;
}

void tc_few_destroy(tc_few *few) {
    if (!few) return;
    for (ptrdiff_t i = 0; few->steps && i < few->count + 1; i++) {
        few_step *step = &few->steps[i];
        for (ptrdiff_t k = 0; step->phases && k < step->phase_rows * step->phase_columns; k++)
            tc_correlation_clear(&step->phases[k].g);
        free(step->phases);
        free(step->room);
        free(step->turned);
        free(step->sources);
        free(step->folded);
        free(step->folded_bias);
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
        if (step->phases) tc_few_pack_convolution(p, step);
    }
}
