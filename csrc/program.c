/* From operations to a plan: fuses, lays out tensors, finds every offset once. */
#include <stdlib.h>
#include <string.h>

#include "activation_kind.h"
#include "few.h"
#include "norms.h"
#include "program.h"
#include "single.h"
#include "update.h"

static int is_elementwise(const tc_op *op) {
    return op->kind == TC_OP_ACTIVATION && op->function != TC_SOFTMAX && op->function != TC_LOG_SOFTMAX;
}

/* An activation that a step before it can take over: backward needs only its output. */
static int is_fusible(const tc_op *op) {
    return is_elementwise(op) && !activation_saves_input(op->function, op->parameters);
}

/* Whether `next` reads the image as `op` writes it: a reshape between them has vanished. */
static int same_image(const tc_op *op, const tc_op *next) {
    return op->out_height == next->in_height && op->out_width == next->in_width &&
           op->out_channels == next->in_channels;
}

/* A pool that a convolution can feed row by row: no row belongs to two windows. */
static int is_fusible_pool(const tc_op *op) {
    return op->kind == TC_OP_MAX_POOL2D && op->pad_top == 0 && op->pad_left == 0 &&
           op->window_height <= op->stride_height && op->window_width <= op->stride_width &&
           op->window_height * op->window_width <= 256;
}

static void plan_pool(const tc_op *op, tc_step *step) {
    step->pooled = 1;
    step->pool = (tc_pool){.x_rows = op->in_height, .x_columns = op->in_width, .channels = op->in_channels,
                           .y_rows = op->out_height, .y_columns = op->out_width,
                           .window_height = op->window_height, .window_width = op->window_width,
                           .stride_height = op->stride_height, .stride_width = op->stride_width,
                           .pad_top = op->pad_top, .pad_left = op->pad_left};
    step->index_bytes = op->window_height * op->window_width <= 256 ? 1 : 4;
}

/* ---- the plan -------------------------------------------------------------------- */

/* The norm of a batch normalization, into the program's list. */
static const tc_norm *plan_norm(tc_program *p, const tc_op *op) {
    tc_norm *norm = &p->norms[p->norm_count++];
    *norm = tc_norm_of(op);
    norm->offset = p->norm_size;
    p->norm_size += TC_NORM_NUMBERS * norm->channels;
    p->widest_norm = tc_max(p->widest_norm, norm->channels);
    return norm;
}

/* Whether a batch normalization behind `op` can go into its weights: always where nothing
 * is trained, else where it and they stay as they are. */
static int is_foldable(const tc_op *op, const tc_op *norm, const tc_weight *weights, int inference) {
    if (norm->kind != TC_OP_BATCH_NORMALIZATION || !same_image(op, norm)) return 0;
    if (op->kind == TC_OP_CONV2D_TRANSPOSE) return 0; /* filters are not the kernel's last axis */
    const int used[] = {op->kernel, op->bias, norm->kernel, norm->bias};
    for (int i = 0; i < 4; i++)
        if (!inference && used[i] >= 0 && weights[used[i]].trainable) return 0;
    return inference || norm->frozen;
}

/* Takes an activation behind operation `taken` - 1 into the step, where that is possible. */
static ptrdiff_t fuse_activation(const tc_op *ops, ptrdiff_t count, ptrdiff_t taken, tc_step *step) {
    /* A sigmoid that ends the program stays alone: binary cross-entropy wants its input. */
    if (taken >= count || !is_fusible(&ops[taken]) || !same_image(&ops[taken - 1], &ops[taken]) ||
        (taken + 1 == count && ops[taken].function == TC_SIGMOID))
        return taken;
    step->function = ops[taken].function;
    memcpy(step->parameters, ops[taken].parameters, sizeof step->parameters);
    return taken + 1;
}

/* The operations of step `at`; returns how many it takes. */
static ptrdiff_t plan_step(tc_program *p, const tc_op *ops, ptrdiff_t count, const tc_weight *weights, int inference,
                           tc_step *step) {
    const tc_op *op = ops;
    ptrdiff_t taken = 1;
    memset(step, 0, sizeof *step);
    step->kernel = op->kernel, step->bias = op->bias, step->stream = op->stream;
    step->function = TC_LINEAR;
    memcpy(step->parameters, op->parameters, sizeof step->parameters);
    step->inputs = op->in_channels, step->outputs = op->out_channels;
    step->kernel_rows = step->kernel_columns = 1, step->groups = op->groups;
    switch (op->kind) {
    case TC_OP_CONV2D:
    case TC_OP_CONV2D_TRANSPOSE:
    case TC_OP_DENSE:
        step->kind = op->kind == TC_OP_CONV2D   ? TC_STEP_CONV2D
                     : op->kind == TC_OP_DENSE ? TC_STEP_DENSE
                                               : TC_STEP_CONV2D_TRANSPOSE;
        step->z_rows = op->out_height, step->z_columns = op->out_width;
        if (op->kind != TC_OP_DENSE)
            step->kernel_rows = op->window_height, step->kernel_columns = op->window_width;
        if (taken < count && is_foldable(op, &ops[taken], weights, inference)) step->norm = plan_norm(p, &ops[taken++]);
        taken = fuse_activation(ops, count, taken, step);
        if (op->kind == TC_OP_CONV2D && taken < count && is_fusible_pool(&ops[taken]) &&
            same_image(op, &ops[taken])) {
            plan_pool(&ops[taken], step);
            tc_pool *pool = &step->pool;
            ptrdiff_t rows = (pool->y_rows - 1) * pool->stride_height + pool->window_height;
            ptrdiff_t columns = (pool->y_columns - 1) * pool->stride_width + pool->window_width;
            if (rows < step->z_rows) step->z_rows = rows;
            if (columns < step->z_columns) step->z_columns = columns;
            pool->x_rows = step->z_rows, pool->x_columns = step->z_columns;
            taken++;
        }
        break;
    case TC_OP_MAX_POOL2D:
    case TC_OP_AVERAGE_POOL2D:
        step->kind = op->kind == TC_OP_MAX_POOL2D ? TC_STEP_MAX_POOL2D : TC_STEP_AVERAGE_POOL2D;
        plan_pool(op, step);
        break;
    case TC_OP_ACTIVATION:
        step->kind = is_elementwise(op) ? TC_STEP_ACTIVATION : TC_STEP_SOFTMAX;
        step->function = op->function;
        break;
    case TC_OP_DROPOUT:
        step->kind = TC_STEP_DROPOUT;
        step->function = op->function;
        break;
    case TC_OP_RANDOM_AFFINE:
        step->kind = TC_STEP_AFFINE;
        step->function = op->function, step->tied = op->tied;
        step->affine = (tc_affine){op->in_height, op->in_width, op->in_channels, op->fill_mode, op->nearest,
                                   op->fill_value};
        break;
    case TC_OP_RANDOM_LEVELS:
        step->kind = TC_STEP_LEVELS;
        step->function = op->function;
        break;
    case TC_OP_GATHER:
        step->kind = TC_STEP_GATHER;
        step->map = op->map, step->map_transposed = op->map + 1;
        break;
    case TC_OP_BATCH_NORMALIZATION:
        step->kind = TC_STEP_BATCH_NORM;
        step->kernel = step->bias = -1;
        step->norm = plan_norm(p, op);
        taken = fuse_activation(ops, count, taken, step);
        break;
    case TC_OP_PRELU:
        step->kind = TC_STEP_PRELU;
        step->kernel = -1;
        step->slopes = tc_slopes_of(op);
        break;
    default: step->kind = TC_STEP_RESCALE; break;
    }
    return taken;
}

static tc_tensor tensor_of(ptrdiff_t height, ptrdiff_t width, ptrdiff_t channels, ptrdiff_t left, ptrdiff_t right) {
    tc_tensor t = {height, width, channels, left, right, 0, 0, 0};
    t.row_stride = (left + width + right) * channels;
    t.size = height * t.row_stride;
    return t;
}

/* The tensor that `op` reads: a convolution wants zero columns at both sides. */
static tc_tensor tensor_for(const tc_op *op) {
    ptrdiff_t left, right;
    tc_input_margins(op, &left, &right);
    return tensor_of(op->in_height, op->in_width, op->in_channels, left, right);
}

static int same_shape(const tc_tensor *t, const tc_op *op) {
    return t->height == op->out_height && t->width == op->out_width && t->channels == op->out_channels;
}

/* Fuses ops into steps and tensors.  Reshapes vanish; where a convolution that pads
 * reads a reshaped tensor, a linear activation copies it into the padded layout. */
static int plan_steps(tc_program *p, const tc_op *ops, ptrdiff_t count, const tc_weight *weights, int inference) {
    const tc_op *end = &ops[count - 1];
    tc_op *kept = malloc(sizeof *kept * (size_t)(count + 1));
    p->steps = calloc((size_t)(2 * count + 1), sizeof *p->steps);
    p->tensors = calloc((size_t)(2 * count + 2), sizeof *p->tensors);
    p->norms = calloc((size_t)count, sizeof *p->norms);
    p->cuts = calloc((size_t)count, sizeof *p->cuts);
    if (!kept || !p->steps || !p->tensors || !p->norms || !p->cuts) {
        free(kept);
        return TC_ERROR_MEMORY;
    }
    ptrdiff_t n = 0;
    p->load_scale = 1.0f;
    for (ptrdiff_t i = 0; i < count; i++) {
        if (ops[i].kind == TC_OP_RESHAPE) continue;
        if (ops[i].kind == TC_OP_RESCALE && n == 0) {
            p->load_scale = ops[i].parameters[0] * p->load_scale;
            p->load_offset = ops[i].parameters[0] * p->load_offset + ops[i].parameters[1];
            continue;
        }
        kept[n] = ops[i];
        if (!kept[n].groups) kept[n].groups = 1;
        n++;
    }
    int status = TC_OK;
    p->tensors[0] = n ? tensor_for(&kept[0]) : tensor_of(end->out_height, end->out_width, end->out_channels, 0, 0);
    p->output_positions = end->out_height * end->out_width, p->output_channels = end->out_channels;
    for (ptrdiff_t i = 0; i < n && status == TC_OK;) {
        const tc_op *op = &kept[i];
        tc_step *step = &p->steps[p->step_count];
        tc_tensor *x = &p->tensors[p->step_count++], *y = x + 1;
        i += plan_step(p, op, n - i, weights, inference, step);
        if (step->kind == TC_STEP_BATCH_NORM && !step->norm->frozen && !inference)
            p->cuts[p->cut_count++] = step - p->steps;
        const tc_op *last = &kept[i - 1];
        *y = tensor_of(last->out_height, last->out_width, last->out_channels, 0, 0);
        if (i < n) {
            tc_tensor wanted = tensor_for(&kept[i]);
            if (wanted.left || wanted.right) {
                if (!same_shape(&wanted, last)) {
                    p->steps[p->step_count] = (tc_step){.kind = TC_STEP_ACTIVATION, .function = TC_LINEAR,
                                                        .kernel = -1, .bias = -1};
                    y = &p->tensors[++p->step_count];
                }
                *y = wanted;
            }
        }
        if (step->kind == TC_STEP_CONV2D) {
            status = tc_plan_conv2d(p->kernels, op, step, x);
        }
        if (step->kind == TC_STEP_CONV2D_TRANSPOSE) {
            status = tc_plan_conv2d_transpose(p->kernels, op, step, x, x + 1);
            p->flops += (double)op->in_height * op->in_width * step->forward.taps * op->in_channels;
        }
        if (op->kind == TC_OP_CONV2D)
            p->flops += (double)step->z_rows * step->z_columns * step->forward.taps * op->out_channels;
        if (op->kind == TC_OP_DENSE) p->flops += (double)op->in_channels * op->out_channels;
        if (op->kind == TC_OP_GATHER) p->flops += (double)op->map->starts[op->map->rows] * op->map->run;
    }
    free(kept);
    return status;
}

static int plan_weights(tc_program *p, const tc_weight *weights, ptrdiff_t count) {
    p->weights = calloc((size_t)count + 1, sizeof *p->weights);
    p->gradient_offset = calloc((size_t)count + 1, sizeof *p->gradient_offset);
    p->share_offset = calloc((size_t)count + 1, sizeof *p->share_offset);
    if (!p->weights || !p->gradient_offset || !p->share_offset) return TC_ERROR_MEMORY;
    if (count) memcpy(p->weights, weights, sizeof *weights * (size_t)count);
    p->weight_count = count;
    for (ptrdiff_t i = 0; i < count; i++) {
        p->gradient_offset[i] = weights[i].trainable ? p->gradient_size : -1;
        /* Whole cache lines, so that two weights never share one. */
        if (weights[i].trainable) p->gradient_size += (weights[i].count + 15) / 16 * 16;
        p->share_offset[i] = p->share_count;
        p->share_count += tc_shares(weights[i].count);
        p->penalized |= weights[i].trainable && (weights[i].l1 != 0 || weights[i].l2 != 0);
        p->constrained |= weights[i].trainable && weights[i].constraint != TC_CONSTRAINT_NONE;
    }
    p->lowest = p->step_count;
    for (ptrdiff_t i = p->step_count - 1; i >= 0; i--) {
        const tc_step *step = &p->steps[i];
        const int used[] = {step->kernel, step->bias, step->norm ? step->norm->gamma : -1,
                            step->norm ? step->norm->beta : -1,
                            step->kind == TC_STEP_PRELU ? step->slopes.weight : -1};
        for (int k = 0; k < 5; k++)
            if (used[k] >= 0 && weights[used[k]].trainable) p->lowest = i;
    }
    for (ptrdiff_t i = 0; i < p->step_count; i++) {
        tc_step *step = &p->steps[i];
        if (step->kernel < 0) continue;
        size_t bytes = sizeof(float) * (size_t)weights[step->kernel].count;
        step->packed = malloc(bytes);
        step->packed_transposed = malloc(bytes);
        if (!step->packed || !step->packed_transposed) return TC_ERROR_MEMORY;
        if (!step->norm) continue;
        step->folded = malloc(bytes);
        step->folded_bias = malloc(sizeof(float) * (size_t)step->outputs);
        if (!step->folded || !step->folded_bias) return TC_ERROR_MEMORY;
    }
    return TC_OK;
}

/* As tc_program_create, of operations that were checked.  inference: nothing will be trained. */
static int create(const tc_op *ops, ptrdiff_t op_count, const tc_weight *weights, ptrdiff_t weight_count,
                  uint64_t seed, int inference, tc_program **program) {
    int status;
    tc_program *p = calloc(1, sizeof *p);
    if (!p) return TC_ERROR_MEMORY;
    p->kernels = tc_selected_kernels();
    p->seed = seed;
    tc_op *own = NULL;
    status = tc_plan_maps(p, ops, op_count, &own);
    if (status == TC_OK) status = plan_steps(p, own, op_count, weights, inference);
    if (status == TC_OK) status = plan_weights(p, weights, weight_count);
    if (status == TC_OK) status = tc_single_create(p, &p->single);
    if (status == TC_OK && p->norm_count && !inference)
        status = create(ops, op_count, weights, weight_count, seed, 1, &p->inference);
    if (status == TC_OK && !p->inference && !(p->few = tc_few_create(p, own, op_count)))
        status = TC_ERROR_MEMORY;
    free(own);
    if (status != TC_OK) {
        tc_program_destroy(p);
        return status;
    }
    tc_plan_workspace(p);
    tc_program_weights_changed(p);
    atomic_flag_clear(&p->packing);
    *program = p;
    return TC_OK;
}

int tc_program_create(const tc_op *ops, ptrdiff_t op_count, const tc_weight *weights, ptrdiff_t weight_count,
                      uint64_t seed, tc_program **program) {
    *program = NULL;
    int status = tc_check_ops(ops, op_count, weights, weight_count);
    return status == TC_OK ? create(ops, op_count, weights, weight_count, seed, 0, program) : status;
}

void tc_program_destroy(tc_program *p) {
    if (!p) return;
    for (ptrdiff_t i = 0; p->steps && i < p->step_count; i++) {
        tc_step *step = &p->steps[i];
        free(step->chunks);
        tc_correlation_clear(&step->forward);
        tc_correlation_clear(&step->forward_points.g);
        tc_correlation_clear(&step->backward_points.g);
        free(step->forward_points.packed);
        free(step->backward_points.packed);
        for (ptrdiff_t phase = 0; step->backward && phase < step->phases; phase++)
            tc_correlation_clear(&step->backward[phase]);
        free(step->backward);
        free(step->packed);
        free(step->packed_transposed);
        free(step->folded);
        free(step->folded_bias);
    }
    for (ptrdiff_t i = 0; i < p->map_count; i++) tc_map_clear(&p->maps[i]);
    free(p->maps);
    tc_program_destroy(p->inference);
    tc_few_destroy(p->few);
    tc_single_destroy(p->single);
    tc_workspace_destroy(atomic_load(&p->workspace));
    free(p->steps);
    free(p->tensors);
    free(p->norms);
    free(p->cuts);
    free(p->weights);
    free(p->gradient_offset);
    free(p->share_offset);
    free(p);
}

void tc_program_weights_changed(tc_program *program) {
    atomic_store(&program->stale, TC_STALE_ALL);
    if (program->inference) tc_program_weights_changed(program->inference);
}

void tc_pack_step(tc_program *p, ptrdiff_t i, int which) {
    tc_step *step = &p->steps[i];
    if (step->kernel < 0) return;
    const float *kernel = p->weights[step->kernel].values;
    if (step->norm && step->folded) {
        tc_norm_fold(p, step->norm, kernel, p->weights[step->kernel].count / step->outputs,
                     step->bias < 0 ? NULL : p->weights[step->bias].values, step->folded, step->folded_bias);
        kernel = step->folded;
    }
    int dense = step->kind == TC_STEP_DENSE, turned = step->kind == TC_STEP_CONV2D_TRANSPOSE;
    /* As the kernel has them: (KH, KW, channels, filters). */
    ptrdiff_t channels = turned ? step->outputs : step->inputs, filters = turned ? step->inputs : step->outputs;
    for (int transposed = 0; transposed < 2; transposed++) {
        if (!(which & (transposed != turned ? TC_STALE_BACKWARD : TC_STALE_FORWARD))) continue;
        const tc_winograd *w = transposed ? &step->backward_points : &step->forward_points;
        if (!w->n) {
            p->kernels->pack(kernel, step->kernel_rows, step->kernel_columns, channels / step->groups,
                             filters / step->groups, step->groups, transposed, dense,
                             transposed ? step->packed_transposed : step->packed);
            continue;
        }
        ptrdiff_t plane = step->inputs * step->outputs, count = step->kernel_rows * plane;
        for (int k = 0; k < w->n; k++) {
            /* `packed` itself is room enough for a kernel one column wide. */
            p->kernels->winograd_kernel(kernel, w->n, k, step->kernel_rows, plane, transposed, step->packed);
            p->kernels->pack(step->packed, step->kernel_rows, 1, step->inputs, step->outputs, 1, transposed, 0,
                             w->packed + k * count);
        }
    }
}
