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
static int few_depthwise(few_step *step, const few_tensor *x, const tc_op *op) {
    tc_correlation *g = step->phases;
    *g = (tc_correlation){.depthwise = 1, .groups = x->padded, .y_rows = step->z_rows, .y_columns = step->z_columns,
                          .y_channels = 1, .y_column_stride = x->padded, .x_channels = 1};
    few_place(g, x);
    return few_offsets(g, op, 1);
}

static int few_correlation(const tc_kernels *k, few_step *step, const few_tensor *x, const tc_op *op,
                           ptrdiff_t y_padded) {
    tc_correlation *g = step->phases;
    const tc_pool *pool = &step->pool;
    ptrdiff_t groups = op->groups ? op->groups : 1;
    step->filters = op->out_channels / groups;
    *g = (tc_correlation){.groups = groups, .y_rows = step->z_rows, .y_columns = step->z_columns,
                          .y_channels = round_up(step->filters, k->narrow), .y_column_stride = y_padded,
                          .x_channels = op->in_channels / groups};
    few_place(g, x);
    if (!few_offsets(g, op, g->x_channels)) return 0;
    step->pool_in_registers = k->correlate_pool_filters && step->pooled && pool->window_height == 2 &&
                              pool->window_width == 2 && pool->stride_height == 2 && pool->stride_width == 2 &&
                              g->row_step == 1 && (op->window_height == 1 || op->dilation_height == 1) &&
                              2 * pool->y_rows <= step->z_rows && 2 * pool->y_columns <= step->z_columns;
    step->paired = step->pool_in_registers && y_padded == k->narrow && k->lanes == 2 * k->narrow &&
                   g->column_step * g->x_column_stride == 1;
    return tc_plan_tiles(g, 0, 0);
}

static int few_transposed(const tc_kernels *k, few_step *step, const few_tensor *x, const tc_op *op,
                          ptrdiff_t y_padded) {
    tc_op conv = tc_turned(op);
    step->filters = op->out_channels;
    step->kernel_rows = op->window_height, step->kernel_columns = op->window_width;
    for (ptrdiff_t i = 0; i < step->phase_rows * step->phase_columns; i++) {
        tc_correlation *g = &step->phases[i];
        /* Rows are found one by one: y_start is that of a row's first pixel. */
        if (!tc_plan_phase(&conv, i, 0, y_padded, g)) return 0;
        g->y_channels = round_up(step->filters, k->narrow);
        few_place(g, x);
        if (!tc_plan_tiles(g, 0, 0)) return 0;
    }
    step->turned = malloc(sizeof(float) * (size_t)(step->phases->taps * step->filters));
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

int tc_few_plan_convolution(const tc_kernels *k, few_step *step, const few_tensor *x, const tc_op *op,
                            ptrdiff_t y_padded) {
    tc_op conv = op->kind == TC_OP_DENSE ? few_whole_image(op, x) : *op;
    int transposed = op->kind == TC_OP_CONV2D_TRANSPOSE, status;
    conv = transposed ? tc_turned(op) : conv;
    step->phase_rows = transposed ? tc_phase_rows(&conv) : 1;
    step->phase_columns = transposed ? tc_phase_columns(&conv) : 1;
    step->phases = calloc((size_t)(step->phase_rows * step->phase_columns), sizeof *step->phases);
    if (!step->phases) return 0;
    if (transposed) status = few_transposed(k, step, x, op, y_padded);
    else if (is_depthwise(op)) status = few_depthwise(step, x, op);
    else status = few_correlation(k, step, x, &conv, y_padded);
    if (!status) return 0;
    const tc_correlation *g = step->phases;
    size_t stored = (size_t)(g->groups * g->y_channels) * (step->paired ? 2 : 1);
    step->packed = malloc(sizeof(float) * (size_t)g->taps * stored);
    step->packed_bias = malloc(sizeof(float) * stored);
    if (step->normed) {
        step->folded = malloc(sizeof(float) * (size_t)(g->taps * op->out_channels));
        step->folded_bias = malloc(sizeof(float) * (size_t)op->out_channels);
    }
    return step->packed && step->packed_bias && (!step->normed || (step->folded && step->folded_bias));
}

/* ---- weights ------------------------------------------------------------------------- */

/* kernel [tap][channel], bias or NULL, zeros behind the channels. */
static void pack_depthwise(few_step *step, const float *kernel, const float *bias, ptrdiff_t channels) {
    ptrdiff_t padded = step->phases->groups, taps = step->phases->taps;
    memset(step->packed, 0, sizeof(float) * (size_t)(taps * padded));
    memset(step->packed_bias, 0, sizeof(float) * (size_t)padded);
    for (ptrdiff_t t = 0; t < taps; t++)
        memcpy(step->packed + t * padded, kernel + t * channels, sizeof(float) * (size_t)channels);
    if (bias) memcpy(step->packed_bias, bias, sizeof(float) * (size_t)channels);
}

void tc_few_pack_convolution(const tc_program *p, few_step *step) {
    const tc_kernels *k = p->kernels;
    const tc_correlation *g = step->phases;
    const tc_weight *weight = &p->weights[step->kernel];
    const float *kernel = weight->values, *bias = step->bias < 0 ? NULL : p->weights[step->bias].values;
    ptrdiff_t filters = weight->count / g->taps;
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
    for (ptrdiff_t i = 0; i < g->groups; i++) {
        ptrdiff_t first = i * step->filters, vectors = i * g->y_channels; /* groups > 1 are packed once */
        k->pack_filters(kernel + first, filters, bias ? bias + first : NULL, g->taps, step->filters, g->y_channels,
                        step->paired ? 2 : 1, step->packed + vectors * g->taps, step->packed_bias + vectors);
    }
}
