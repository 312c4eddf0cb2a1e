/* The numbers that an executor relies on; the Python side has told the user more kindly. */
#include "program.h"

/* Whether a batch normalization has statistics that are not trained, and weights of its channels. */
static int check_norm(const tc_op *op, const tc_weight *weights, ptrdiff_t weight_count) {
    const int used[] = {op->mean, op->variance, op->kernel, op->bias};
    if (op->in_height != op->out_height || op->in_width != op->out_width || !(op->epsilon > 0)) return 0;
    if (op->inverse && (!op->frozen || op->kernel >= 0 || op->bias >= 0)) return 0;
    for (int k = 0; k < 4; k++) {
        if (used[k] >= weight_count || (used[k] < 0 && k < 2)) return 0;
        if (used[k] < 0) continue;
        if (weights[used[k]].count != op->in_channels || (weights[used[k]].trainable && k < 2)) return 0;
    }
    return 1;
}

/* Whether a prelu has as many slopes as its input has values along the axes that share none. */
static int check_prelu(const tc_op *op, const tc_weight *weights, ptrdiff_t weight_count) {
    ptrdiff_t slopes = (op->shared_height ? 1 : op->in_height) * (op->shared_width ? 1 : op->in_width) *
                       (op->shared_channels ? 1 : op->in_channels);
    return op->in_height == op->out_height && op->in_width == op->out_width && op->kernel >= 0 &&
           op->kernel < weight_count && op->bias < 0 && weights[op->kernel].count == slopes;
}

/* Whether the five axes of a constrained norm are those of an array of all values. */
static int check_constraint(const tc_weight *weight) {
    if (weight->constraint < 0 || weight->constraint >= TC_CONSTRAINT_COUNT) return 0;
    if (weight->constraint != TC_CONSTRAINT_NORM) return 1;
    ptrdiff_t left = weight->count;
    for (int k = 0; k < 5; k++) {
        if (weight->constraint_shape[k] < 1 || left % weight->constraint_shape[k]) return 0;
        left /= weight->constraint_shape[k];
    }
    return left == 1;
}

/* Whether a random affine map has kinds that there are and factors that lead to finite places. */
static int check_affine(const tc_op *op) {
    for (int k = 0; k < TC_MAX_PARAMETERS; k++)
        if (!(op->parameters[k] >= -1 && op->parameters[k] <= 1)) return 0;
    return op->function >= 0 && op->function < TC_TRANSFORM_COUNT && op->fill_mode >= 0 &&
           op->fill_mode < TC_FILL_COUNT && op->in_height == op->out_height && op->in_width == op->out_width &&
           op->in_height * op->in_width * op->in_channels <= TC_MAX_AFFINE_VALUES;
}

/* Whether random levels have a kind that there is and numbers that are finite, the limits in order. */
static int check_levels(const tc_op *op) {
    for (int k = 0; k < TC_MAX_PARAMETERS; k++)
        if (!(op->parameters[k] - op->parameters[k] == 0)) return 0;
    return op->function >= 0 && op->function < TC_LEVELS_COUNT && op->parameters[2] <= op->parameters[3] &&
           op->in_height == op->out_height && op->in_width == op->out_width;
}

/* Whether a convolution's or a pool's window has a size, and every window of a pool meets the image. */
static int check_window(const tc_op *op, int convolution) {
    if (op->window_height < 1 || op->window_width < 1 || op->stride_height < 1 || op->stride_width < 1 ||
        op->dilation_height < 1 || op->dilation_width < 1 || op->pad_top < 0 || op->pad_left < 0)
        return 0;
    if (convolution) return 1;
    ptrdiff_t reach_h = (op->window_height - 1) * op->dilation_height;
    ptrdiff_t reach_w = (op->window_width - 1) * op->dilation_width;
    return op->in_channels == op->out_channels && op->pad_top <= reach_h && op->pad_left <= reach_w &&
           (op->out_height - 1) * op->stride_height - op->pad_top < op->in_height &&
           (op->out_width - 1) * op->stride_width - op->pad_left < op->in_width;
}

/* Whether a map reads and writes whole runs of what there is. */
static int check_map(const tc_op *op, ptrdiff_t in, ptrdiff_t out) {
    const tc_map *map = op->map;
    return map && map->run >= 1 && op->in_channels % map->run == 0 && op->out_channels % map->run == 0 &&
           tc_map_fits(map, in / map->run, out / map->run);
}

/* Whether the kernel and the bias of a convolution or a dense layer have as many values as it takes. */
static int check_kernel(const tc_op *op, ptrdiff_t in, ptrdiff_t out, const tc_weight *weights,
                        ptrdiff_t weight_count) {
    ptrdiff_t taps = op->in_channels;
    if (op->kind == TC_OP_DENSE) {
        if (in != op->in_channels || out != op->out_channels) return 0;
    } else {
        ptrdiff_t groups = op->groups ? op->groups : 1;
        if (groups < 0 || (op->kind == TC_OP_CONV2D_TRANSPOSE && groups != 1) || op->in_channels % groups ||
            op->out_channels % groups)
            return 0;
        taps = taps / groups * op->window_height * op->window_width;
    }
    if (op->kernel < 0 || op->kernel >= weight_count || weights[op->kernel].count != taps * op->out_channels) return 0;
    return op->bias < weight_count && (op->bias < 0 || weights[op->bias].count == op->out_channels);
}

/* Whether an operation without a kernel names a function that there is, and the weights of its kind. */
static int check_other(const tc_op *op, const tc_weight *weights, ptrdiff_t weight_count) {
    switch (op->kind) {
    case TC_OP_BATCH_NORMALIZATION: return check_norm(op, weights, weight_count);
    case TC_OP_PRELU: return check_prelu(op, weights, weight_count);
    }
    if (op->kernel >= 0 || op->bias >= 0) return 0;
    switch (op->kind) {
    case TC_OP_RANDOM_AFFINE: return check_affine(op);
    case TC_OP_RANDOM_LEVELS: return check_levels(op);
    case TC_OP_DROPOUT: return op->function >= 0 && op->function < TC_NOISE_COUNT;
    case TC_OP_ACTIVATION: return op->function >= 0 && op->function < TC_ACTIVATION_COUNT;
    default: return 1;
    }
}

static int check_op(const tc_op *op, const tc_weight *weights, ptrdiff_t weight_count) {
    if (op->kind < 0 || op->kind >= TC_OP_COUNT || op->in_height < 1 || op->in_width < 1 || op->in_channels < 1 ||
        op->out_height < 1 || op->out_width < 1 || op->out_channels < 1)
        return 0;
    ptrdiff_t in = op->in_height * op->in_width * op->in_channels;
    ptrdiff_t out = op->out_height * op->out_width * op->out_channels;
    int convolution = op->kind == TC_OP_CONV2D || op->kind == TC_OP_CONV2D_TRANSPOSE;
    if (convolution || op->kind == TC_OP_MAX_POOL2D || op->kind == TC_OP_AVERAGE_POOL2D) {
        if (!check_window(op, convolution)) return 0;
    } else if (op->kind == TC_OP_GATHER) {
        if (!check_map(op, in, out)) return 0;
    } else if (op->kind != TC_OP_DENSE && in != out) {
        return 0;
    }
    if (convolution || op->kind == TC_OP_DENSE) return check_kernel(op, in, out, weights, weight_count);
    return check_other(op, weights, weight_count);
}

int tc_check_ops(const tc_op *ops, ptrdiff_t count, const tc_weight *weights, ptrdiff_t weight_count) {
    if (count < 1) return TC_ERROR_ARGUMENT;
    for (ptrdiff_t i = 0; i < weight_count; i++)
        if (!check_constraint(&weights[i])) return TC_ERROR_ARGUMENT;
    for (ptrdiff_t i = 0; i < count; i++) {
        const tc_op *op = &ops[i], *before = op - (i > 0);
        if (!check_op(op, weights, weight_count)) return TC_ERROR_ARGUMENT;
        ptrdiff_t in = op->in_height * op->in_width * op->in_channels;
        if (i && in != before->out_height * before->out_width * before->out_channels) return TC_ERROR_ARGUMENT;
    }
    return TC_OK;
}
