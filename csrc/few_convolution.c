/* Convolutions of one image as correlations with filters in the lanes: their plans and packed weights.
 *
 * A dense layer is a convolution whose kernel is the whole image, a transposed convolution is a
 * correlation for each phase of its stride, and groups are correlations of slices of the channels. */
#include <stdlib.h>
#include <string.h>

#include "few_steps.h"

ptrdiff_t tc_few_padded(const tc_kernels *k, const tc_op *op) {
    ptrdiff_t groups = op->kind == TC_OP_CONV2D && !is_depthwise(op) && op->groups ? op->groups : 1;
    ptrdiff_t filters = op->out_channels / groups;
    return round_up((groups - 1) * filters + round_up(filters, k->narrow), k->narrow);
}

/* ---- plans --------------------------------------------------------------------------- */

/* The kernel's rows and columns of a convolution; taps: of a pixel.  0 without memory. */
static int few_offsets(tc_correlation *g, const tc_op *op, ptrdiff_t taps) {
    ptrdiff_t kh = op->window_height, kw = op->window_width;
    g->kernel_rows = kh, g->kernel_columns = kw, g->taps = kh * kw * taps;
    g->row_step = op->stride_height, g->column_step = op->stride_width;
    g->rows = malloc(sizeof *g->rows * (size_t)(kh + kw));
    if (!g->rows) return 0;
    g->columns = g->rows + kh;
    for (ptrdiff_t i = 0; i < kh; i++) g->rows[i] = (tc_offset){i * op->dilation_height - op->pad_top, i * kw * taps};
    for (ptrdiff_t j = 0; j < kw; j++) g->columns[j] = (tc_offset){j * op->dilation_width - op->pad_left, j * taps};
    return 1;
}

static void few_place(tc_correlation *g, const few_tensor *x) {
    g->x_rows = x->height, g->x_columns = x->width;
    g->x_start = x->left * x->padded, g->x_row_stride = x->row_stride, g->x_column_stride = x->padded;
}

/* x has as many channels as there are filters; no zeros beside it are read. */
static int few_depthwise(const tc_kernels *k, few_step *step, const few_tensor *x, const tc_op *op) {
    tc_correlation *g = &step->phases->g;
    *g = (tc_correlation){.depthwise = 1, .groups = x->padded, .y_rows = step->z_rows, .y_columns = step->z_columns,
                          .y_channels = 1, .y_column_stride = x->padded, .x_channels = 1};
    few_place(g, x);
    g->x_start = 0;
    step->correlate = k->correlate_channels;
    step->groups = 1, step->filters = x->padded;
    return few_offsets(g, op, 1);
}

/* Which kernel a correlation of filters takes, whose x_channels and taps are set.  Where there are few of
 * them, pixels enough to hide a multiply-add's latency and runs of taps enough to pay for the sums at
 * their end, taps share the lanes with them.  Returns the y_channels. */
static ptrdiff_t few_choose(const tc_kernels *k, few_step *step, const tc_correlation *g, ptrdiff_t columns) {
    step->shared = step->filters <= k->grouped_filters && columns > 1 && g->x_channels >= 4 && g->taps >= 8 &&
                   !step->pool_in_registers;
    step->correlate = step->shared ? k->correlate_groups : k->correlate_filters;
    return step->shared ? step->filters : round_up(step->filters, k->narrow);
}

static int few_correlation(const tc_kernels *k, few_step *step, const few_tensor *x, const tc_op *op,
                           ptrdiff_t y_padded) {
    tc_correlation *g = &step->phases->g;
    const tc_pool *pool = &step->pool;
    step->groups = op->groups ? op->groups : 1;
    step->filters = op->out_channels / step->groups;
    *g = (tc_correlation){.groups = step->groups, .y_rows = step->z_rows, .y_columns = step->z_columns,
                          .y_column_stride = y_padded, .x_channels = op->in_channels / step->groups};
    few_place(g, x);
    if (!few_offsets(g, op, g->x_channels)) return 0;
    step->pool_in_registers = k->correlate_pool_filters && step->pooled && pool->window_height == 2 &&
                              pool->window_width == 2 && pool->stride_height == 2 && pool->stride_width == 2 &&
                              g->row_step == 1 && (op->window_height == 1 || op->dilation_height == 1) &&
                              2 * pool->y_rows <= step->z_rows && 2 * pool->y_columns <= step->z_columns;
    step->paired = step->pool_in_registers && y_padded == k->narrow && k->lanes == 2 * k->narrow &&
                   g->column_step * g->x_column_stride == 1;
    g->y_channels = few_choose(k, step, g, step->z_columns);
    return tc_plan_tiles(g, 0, 0);
}

/* conv: the convolution that the transposed one is the gradient of. */
static int few_transposed(const tc_kernels *k, few_step *step, const few_tensor *x, const tc_op *conv,
                          ptrdiff_t y_padded) {
    step->groups = 1, step->filters = conv->in_channels;
    step->kernel_rows = conv->window_height, step->kernel_columns = conv->window_width;
    for (ptrdiff_t i = 0; i < step->phase_rows * step->phase_columns; i++) {
        tc_correlation *g = &step->phases[i].g;
        /* Rows are found one by one: y_start is that of a row's first pixel. */
        if (!tc_plan_phase(conv, i, 0, y_padded, g)) return 0;
        g->y_channels = few_choose(k, step, g, x->width);
        few_place(g, x);
        if (!tc_plan_tiles(g, 0, 0)) return 0;
    }
    step->turned = malloc(sizeof(float) * (size_t)(step->phases->g.taps * step->filters));
    return step->turned != NULL;
}

/* A dense layer as the convolution that it is. */
static tc_op few_whole_image(const tc_op *dense, const few_tensor *x) {
    tc_op conv = *dense;
    conv.in_height = conv.window_height = x->height, conv.in_width = conv.window_width = x->width;
    conv.in_channels = x->channels;
    conv.stride_height = conv.stride_width = conv.dilation_height = conv.dilation_width = conv.groups = 1;
    conv.pad_top = conv.pad_left = 0;
    return conv;
}

/* Room for the packed weights, of which every phase has its own where taps share the lanes; 0 without. */
static int few_make_room(const tc_kernels *k, few_step *step, ptrdiff_t phases, ptrdiff_t filters) {
    const tc_correlation *g = &step->phases->g;
    ptrdiff_t vectors = (g->depthwise ? g->groups : g->y_channels) * (step->paired ? 2 : 1), floats = 0;
    step->group_weights = g->taps * vectors, step->group_biases = round_up(vectors, k->lanes);
    for (ptrdiff_t i = 0; i < (step->shared ? phases : 1); i++) {
        if (step->shared) step->group_weights = k->pack_groups(&step->phases[i].g, NULL, 0, NULL, NULL, NULL);
        step->phases[i].first = floats;
        floats += step->group_weights * step->groups;
    }
    floats = round_up(floats, 16);
    step->room = malloc(sizeof(float) * (size_t)(floats + step->group_biases * step->groups) + 64);
    if (!step->room) return 0;
    step->packed = (float *)(((uintptr_t)step->room + 63) & ~(uintptr_t)63); /* a vector is one cache line */
    step->packed_bias = step->packed + floats;
    if (!step->normed) return 1;
    step->folded = malloc(sizeof(float) * (size_t)(g->taps * filters));
    step->folded_bias = malloc(sizeof(float) * (size_t)filters);
    return step->folded && step->folded_bias;
}

int tc_few_plan_convolution(const tc_kernels *k, few_step *step, const few_tensor *x, const tc_op *op,
                            ptrdiff_t y_padded) {
    int transposed = op->kind == TC_OP_CONV2D_TRANSPOSE, status;
    tc_op conv = transposed ? tc_turned(op) : op->kind == TC_OP_DENSE ? few_whole_image(op, x) : *op;
    step->phase_rows = transposed ? tc_phase_rows(&conv) : 1;
    step->phase_columns = transposed ? tc_phase_columns(&conv) : 1;
    ptrdiff_t phases = step->phase_rows * step->phase_columns;
    step->phases = calloc((size_t)phases, sizeof *step->phases);
    if (!step->phases) return 0;
    if (transposed) status = few_transposed(k, step, x, &conv, y_padded);
    else if (is_depthwise(op)) status = few_depthwise(k, step, x, op);
    else status = few_correlation(k, step, x, &conv, y_padded);
    return status && few_make_room(k, step, phases, op->out_channels);
}

double tc_few_vectors(const tc_kernels *k, const few_step *step) {
    double sum = 0;
    for (ptrdiff_t i = 0; step->phases && i < step->phase_rows * step->phase_columns; i++) {
        const tc_correlation *g = &step->phases[i].g;
        ptrdiff_t taps = g->kernel_rows * g->kernel_columns * g->x_channels;
        ptrdiff_t vectors = taps * (round_up(g->depthwise ? g->groups : g->y_channels, k->lanes) / k->lanes);
        /* The sums of a pixel's lanes cost some more. */
        if (step->shared) vectors = k->pack_groups(g, NULL, 0, NULL, NULL, NULL) / k->lanes + 3;
        sum += (double)(g->y_rows * g->y_columns * step->groups * vectors) / (step->paired ? 2 : 1);
    }
    return sum;
}

/* ---- weights ------------------------------------------------------------------------- */

/* kernel [tap][channel], bias or NULL, zeros behind the channels. */
static void pack_depthwise(few_step *step, const float *kernel, const float *bias, ptrdiff_t channels) {
    ptrdiff_t padded = step->phases->g.groups, taps = step->phases->g.taps;
    memset(step->packed, 0, sizeof(float) * (size_t)(taps * padded));
    memset(step->packed_bias, 0, sizeof(float) * (size_t)padded);
    for (ptrdiff_t t = 0; t < taps; t++)
        memcpy(step->packed + t * padded, kernel + t * channels, sizeof(float) * (size_t)channels);
    if (bias) memcpy(step->packed_bias, bias, sizeof(float) * (size_t)channels);
}

void tc_few_pack_convolution(const tc_program *p, few_step *step) {
    const tc_kernels *k = p->kernels;
    const tc_correlation *g = &step->phases->g;
    const tc_weight *weight = &p->weights[step->kernel];
    const float *kernel = weight->values, *bias = step->bias < 0 ? NULL : p->weights[step->bias].values;
    ptrdiff_t filters = weight->count / g->taps, phases = step->phase_rows * step->phase_columns;
    if (step->turned) {
        k->turn_kernel(kernel, step->kernel_rows, step->kernel_columns, filters, g->x_channels, step->turned);
        kernel = step->turned;
    }
    if (step->normed) {
        tc_norm_fold(p, &step->norm, kernel, g->taps, bias, step->folded, step->folded_bias);
        kernel = step->folded, bias = step->folded_bias;
    }
    if (g->depthwise) {
        pack_depthwise(step, kernel, bias, filters);
        return;
    }
    for (ptrdiff_t i = 0; i < step->groups; i++) {
        const float *own = kernel + i * step->filters, *own_bias = bias ? bias + i * step->filters : NULL;
        float *packed = step->packed + i * step->group_weights;
        float *packed_bias = step->packed_bias + i * step->group_biases;
        if (!step->shared)
            k->pack_filters(own, filters, own_bias, g->taps, step->filters, g->y_channels, step->paired ? 2 : 1, packed,
                            packed_bias);
        for (ptrdiff_t phase = 0; step->shared && phase < phases; phase++)
            packed += k->pack_groups(&step->phases[phase].g, own, filters, own_bias, packed, packed_bias);
    }
}
