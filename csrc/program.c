/* From operations to a plan: fuses, lays out tensors, finds every offset once. */
#include <stdlib.h>
#include <string.h>

#include "activation_kind.h"
#include "few.h"
#include "program.h"

/* Rows of dz that a weight-gradient pass takes at a time: four filters' worth of
 * them should stay in a 32 KB L1 beside the input rows. */
#define STRIP_BYTES (20 * 1024)
/* What a convolution computes before it is pooled; as much again is its input. */
#define CHUNK_BYTES (12 * 1024)

static ptrdiff_t floor_div(ptrdiff_t a, ptrdiff_t b) { return a / b - (a % b < 0); }

static ptrdiff_t max(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }

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

/* ---- tiles ------------------------------------------------------------------------- */

/* The kernel columns [*j0, *j1) that any of `pixels` output pixels from `column` has. */
static void tile_columns(const tc_correlation *g, ptrdiff_t column, ptrdiff_t pixels, ptrdiff_t *j0, ptrdiff_t *j1) {
    ptrdiff_t low = column * g->column_step, high = (column + pixels - 1) * g->column_step;
    *j0 = 0, *j1 = g->kernel_columns;
    while (*j0 < *j1 && high + g->columns[*j0].position < 0) ++*j0;
    while (*j1 > *j0 && low + g->columns[*j1 - 1].position >= g->x_columns) --*j1;
}

static int tile_runs(const tc_correlation *g, tc_tile *tile, ptrdiff_t j0, ptrdiff_t j1) {
    tile->runs = malloc(sizeof *tile->runs * (size_t)(g->kernel_rows * (j1 - j0) + 1));
    if (!tile->runs) return 0;
    ptrdiff_t n = tc_make_runs(g, 0, g->kernel_rows, j0, j1, tile->runs);
    tile->runs_per_row = g->kernel_rows ? n / g->kernel_rows : 0;
    return 1;
}

/* What a tile costs, in multiply-adds: its own, counting a load as a quarter of one (they
 * mostly hide behind the arithmetic), and its start and end. */
static double tile_cost(const tc_correlation *g, ptrdiff_t column, ptrdiff_t pixels, int filters) {
    ptrdiff_t j0, j1;
    tile_columns(g, column, pixels, &j0, &j1);
    double taps = (double)(g->kernel_rows * (j1 - j0) * g->x_channels);
    return taps * ((double)(pixels * filters) + 0.25 * (double)(pixels + filters)) + 2.0 * (double)(pixels * filters) +
           20.0;
}

/* The cheapest cover: narrow tiles at the edges skip taps that lie outside the image
 * for all of their pixels, wide tiles inside load less.  best[b] is the cost of the
 * columns before b, found from left to right. */
int tc_plan_tiles(tc_correlation *g, int widest, int filters) {
    ptrdiff_t n = g->y_columns;
    g->tiles = calloc((size_t)n + 1, sizeof *g->tiles);
    if (!g->tiles) return 0;
    if (!widest) {
        g->tile_count = 1;
        g->tiles[0].pixels = n;
        return tile_runs(g, &g->tiles[0], 0, g->kernel_columns);
    }
    double *best = malloc(sizeof *best * (size_t)(n + 1));
    ptrdiff_t *width = malloc(sizeof *width * (size_t)(n + 1));
    int status = best && width;
    if (status) {
        best[0] = 0;
        for (ptrdiff_t b = 1; b <= n; b++) {
            best[b] = __builtin_inf();
            for (ptrdiff_t pixels = 1; pixels <= widest && pixels <= b; pixels++) {
                double cost = best[b - pixels] + tile_cost(g, b - pixels, pixels, filters);
                if (cost < best[b]) best[b] = cost, width[b] = pixels;
            }
        }
        for (ptrdiff_t b = n; b > 0; b -= width[b]) g->tile_count++;
        ptrdiff_t tile = g->tile_count;
        for (ptrdiff_t b = n; b > 0 && status; b -= width[b]) {
            tc_tile *t = &g->tiles[--tile];
            ptrdiff_t j0, j1;
            t->column = b - width[b], t->pixels = width[b];
            tile_columns(g, t->column, t->pixels, &j0, &j1);
            status = tile_runs(g, t, j0, j1);
        }
    }
    free(best);
    free(width);
    return status;
}

void tc_correlation_clear(tc_correlation *g) {
    for (ptrdiff_t i = 0; g->tiles && i < g->tile_count; i++) free(g->tiles[i].runs);
    free(g->tiles);
    free(g->rows);
}

/* ---- convolution geometry ------------------------------------------------------- */

/* Vectors from row to row of the tensor that a convolution reads. */
static ptrdiff_t input_row_stride(const tc_op *op, const tc_tensor *x) {
    return (x->left + op->in_width + x->right) * op->in_channels;
}

static int plan_forward(const tc_kernels *k, const tc_op *op, tc_step *step, const tc_tensor *x) {
    tc_correlation *g = &step->forward;
    ptrdiff_t taps_row = op->window_width * op->in_channels;
    *g = (tc_correlation){.y_rows = step->z_rows, .y_columns = step->z_columns, .y_channels = op->out_channels,
                          .y_column_stride = op->out_channels, .x_rows = op->in_height, .x_columns = op->in_width,
                          .x_channels = op->in_channels, .x_start = x->left * op->in_channels,
                          .x_row_stride = input_row_stride(op, x), .x_column_stride = op->in_channels, .row_step = op->stride_height,
                          .column_step = op->stride_width, .taps = op->window_height * taps_row,
                          .kernel_rows = op->window_height, .kernel_columns = op->window_width};
    g->rows = malloc(sizeof *g->rows * (size_t)(op->window_height + op->window_width));
    if (!g->rows) return TC_ERROR_MEMORY;
    g->columns = g->rows + op->window_height;
    for (ptrdiff_t i = 0; i < op->window_height; i++)
        g->rows[i] = (tc_offset){i * op->dilation_height - op->pad_top, i * taps_row};
    for (ptrdiff_t j = 0; j < op->window_width; j++)
        g->columns[j] = (tc_offset){j * op->dilation_width - op->pad_left, j * op->in_channels};
    int filters, widest = k->widest_tile(g->y_channels, &filters);
    return tc_plan_tiles(g, widest, filters) ? TC_OK : TC_ERROR_MEMORY;
}

/* Kernel positions k of `count` that reach input pixels of one phase: input pixel
 * phase + step * b reads dz at b + position.  Ascending, so from the last k down. */
static ptrdiff_t phase_offsets(ptrdiff_t count, ptrdiff_t dilation, ptrdiff_t step, ptrdiff_t pad, ptrdiff_t phase,
                               ptrdiff_t tap, int reversed, tc_offset *offsets) {
    ptrdiff_t n = 0;
    for (ptrdiff_t k = count - 1; k >= 0; k--) {
        ptrdiff_t at = phase + pad - k * dilation;
        if (at - floor_div(at, step) * step != 0) continue;
        offsets[n++] = (tc_offset){floor_div(at, step), (reversed ? count - 1 - k : k) * tap};
    }
    return n;
}

/* Backward-data is a correlation of dz with the transposed kernel, one for each phase
 * of the stride: the pixels of a phase all meet the same taps. */
static int plan_backward(const tc_kernels *k, const tc_op *op, tc_step *step) {
    ptrdiff_t sh = op->stride_height, sw = op->stride_width, kh = op->window_height, kw = op->window_width;
    step->phases = sh * sw;
    step->backward = calloc((size_t)step->phases, sizeof *step->backward);
    if (!step->backward) return TC_ERROR_MEMORY;
    ptrdiff_t left = 0, right = 0, taps_row = kw * op->out_channels;
    for (ptrdiff_t phase = 0; phase < step->phases; phase++) {
        ptrdiff_t top = phase / sw, start = phase % sw;
        tc_correlation *g = &step->backward[phase];
        *g = (tc_correlation){
            .y_rows = max(0, (op->in_height - top + sh - 1) / sh),
            .y_columns = max(0, (op->in_width - start + sw - 1) / sw), .y_channels = op->in_channels,
            .y_start = (top * op->in_width + start) * op->in_channels,
            .y_row_stride = sh * op->in_width * op->in_channels, .y_column_stride = sw * op->in_channels,
            .x_rows = step->z_rows, .x_columns = step->z_columns, .x_channels = op->out_channels,
            .x_column_stride = op->out_channels, .row_step = 1,
            .column_step = 1, .taps = kh * taps_row};
        g->rows = malloc(sizeof *g->rows * (size_t)(kh + kw));
        if (!g->rows) return TC_ERROR_MEMORY;
        g->columns = g->rows + kh;
        g->kernel_rows = phase_offsets(kh, op->dilation_height, sh, op->pad_top, top, taps_row, 0, g->rows);
        g->kernel_columns = phase_offsets(kw, op->dilation_width, sw, op->pad_left, start, op->out_channels, 1,
                                          g->columns);
        if (g->kernel_columns > 0 && g->y_columns > 0) {
            left = max(left, -g->columns[0].position);
            right = max(right, g->y_columns - 1 + g->columns[g->kernel_columns - 1].position -
                                   (step->z_columns - 1));
        }
    }
    int filters, widest = k->widest_tile(op->in_channels, &filters);
    step->dz_left = left;
    step->dz_row_stride = (left + step->z_columns + right) * op->out_channels;
    for (ptrdiff_t phase = 0; phase < step->phases; phase++) {
        step->backward[phase].x_start = left * op->out_channels;
        step->backward[phase].x_row_stride = step->dz_row_stride;
        if (!tc_plan_tiles(&step->backward[phase], widest, filters)) return TC_ERROR_MEMORY;
    }
    return TC_OK;
}

/* Groups tiles so that the rows of a pool's window, as far as they are computed before
 * they are pooled, take a part of L1.  A chunk ends where a window does. */
static int plan_chunks(tc_step *step, ptrdiff_t vector_bytes, int whole) {
    const tc_correlation *g = &step->forward;
    const tc_pool *pool = &step->pool;
    step->chunks = calloc((size_t)g->tile_count, sizeof *step->chunks);
    if (!step->chunks) return TC_ERROR_MEMORY;
    ptrdiff_t column_bytes = pool->window_height * g->y_channels * vector_bytes, start = 0;
    tc_chunk chunk = {0};
    for (ptrdiff_t i = 0; i < g->tile_count; i++) {
        ptrdiff_t end = g->tiles[i].column + g->tiles[i].pixels, last = i == g->tile_count - 1;
        chunk.columns = end - start;
        if (whole && !last) continue;
        ptrdiff_t next = i + 1 < g->tile_count ? g->tiles[i + 1].pixels : 0;
        if (!last && (end % pool->stride_width || (chunk.columns + next) * column_bytes <= CHUNK_BYTES)) continue;
        chunk.last_tile = i + 1;
        chunk.y_columns = last ? pool->y_columns - chunk.y_column : chunk.columns / pool->stride_width;
        step->chunks[step->chunk_count++] = chunk;
        chunk = (tc_chunk){.first_tile = i + 1, .y_column = chunk.y_column + chunk.y_columns};
        start = end;
    }
    return TC_OK;
}

static void plan_weight_gradient(const tc_op *op, tc_step *step, const tc_tensor *x, ptrdiff_t vector_bytes) {
    step->gradient = (tc_weight_gradient){
        .x_rows = op->in_height, .x_channels = op->in_channels, .x_start = (x->left - op->pad_left) * op->in_channels,
        .x_row_stride = input_row_stride(op, x), .dz_columns = step->z_columns, .dz_channels = op->out_channels,
        .dz_row_stride = step->dz_row_stride, .kernel_rows = op->window_height, .kernel_columns = op->window_width,
        .row_step = op->stride_height, .column_step = op->stride_width, .row_dilation = op->dilation_height,
        .column_dilation = op->dilation_width, .pad_top = op->pad_top};
    ptrdiff_t period = step->pooled ? step->pool.stride_height : 1;
    ptrdiff_t rows = STRIP_BYTES / (step->z_columns * 4 * vector_bytes);
    step->strip = max(period, rows / period * period);
}

/* ---- Winograd ---------------------------------------------------------------------- */

/* How many points a convolution of these operands takes, 0 for the direct way: the
 * transforms pay where channels, filters and kernel rows share them, and their rounding
 * is lost in that of a sum of some length. */
static int winograd_points(const tc_op *op, ptrdiff_t columns) {
    ptrdiff_t tiles = (columns + 3) / 4;
    if (op->stride_height != 1 || op->stride_width != 1 || op->dilation_height != 1 || op->dilation_width != 1)
        return 0;
    if ((op->window_width != 3 && op->window_width != 5) || op->window_height < 3) return 0;
    if (op->in_channels < 8 || op->out_channels < 8 || columns < 4 || tiles * 4 * 3 > columns * 4) return 0;
    return (int)op->window_width + 3;
}

/* Fills in what `direct` (whose offsets are planned) does, by points. */
static int plan_winograd(const tc_kernels *k, const tc_correlation *direct, int n, ptrdiff_t stored, tc_winograd *w) {
    ptrdiff_t channels = direct->x_channels;
    w->n = n;
    w->tiles = (direct->y_columns + 3) / 4;
    w->first = direct->x_start / channels + direct->columns[0].position;
    w->stored = stored - w->first;
    tc_correlation *g = &w->g;
    *g = *direct;
    g->y_columns = w->tiles, g->y_column_stride = g->y_channels;
    g->x_columns = w->tiles, g->x_start = 0, g->x_row_stride = n * w->tiles * channels, g->x_column_stride = channels;
    g->taps = direct->kernel_rows * channels, g->kernel_columns = 1;
    g->tiles = NULL, g->tile_count = 0;
    g->rows = malloc(sizeof *g->rows * (size_t)(g->kernel_rows + 1));
    w->packed = malloc(sizeof(float) * (size_t)(n * g->taps * g->y_channels));
    if (!g->rows || !w->packed) return TC_ERROR_MEMORY;
    g->columns = g->rows + g->kernel_rows;
    /* A tap of the direct kernel is row * columns * channels; here there is one column. */
    for (ptrdiff_t i = 0; i < g->kernel_rows; i++)
        g->rows[i] = (tc_offset){direct->rows[i].position, direct->rows[i].tap / direct->kernel_columns};
    g->columns[0] = (tc_offset){0, 0};
    int filters, widest = k->widest_tile(g->y_channels, &filters);
    return tc_plan_tiles(g, widest, filters) ? TC_OK : TC_ERROR_MEMORY;
}

static int plan_points(const tc_kernels *k, const tc_op *op, tc_step *step, const tc_tensor *x) {
    int n = winograd_points(op, step->z_columns), status = TC_OK;
    if (!n) return TC_OK;
    status = plan_winograd(k, &step->forward, n, x->left + op->in_width + x->right, &step->forward_points);
    if (status == TC_OK && winograd_points(op, op->in_width))
        status = plan_winograd(k, &step->backward[0], n, step->dz_row_stride / op->out_channels,
                               &step->backward_points);
    ptrdiff_t tiles = step->forward_points.tiles;
    step->gradient_points = step->gradient;
    step->gradient_points.x_start = 0, step->gradient_points.x_row_stride = n * tiles * op->in_channels;
    step->gradient_points.dz_columns = tiles, step->gradient_points.dz_row_stride = n * tiles * op->out_channels;
    step->gradient_points.kernel_columns = 1;
    return status;
}

/* ---- the plan -------------------------------------------------------------------- */

/* The operations of step `at`; returns how many it takes. */
static ptrdiff_t plan_step(const tc_op *ops, ptrdiff_t count, tc_step *step) {
    const tc_op *op = ops;
    ptrdiff_t taken = 1;
    memset(step, 0, sizeof *step);
    step->kernel = op->kernel, step->bias = op->bias, step->stream = op->stream;
    step->function = TC_LINEAR;
    memcpy(step->parameters, op->parameters, sizeof step->parameters);
    step->inputs = op->in_channels, step->outputs = op->out_channels;
    step->kernel_rows = step->kernel_columns = 1;
    switch (op->kind) {
    case TC_OP_CONV2D:
    case TC_OP_DENSE:
        step->kind = op->kind == TC_OP_CONV2D ? TC_STEP_CONV2D : TC_STEP_DENSE;
        step->z_rows = op->out_height, step->z_columns = op->out_width;
        if (op->kind == TC_OP_CONV2D)
            step->kernel_rows = op->window_height, step->kernel_columns = op->window_width;
        /* A sigmoid that ends the program stays alone: binary cross-entropy wants its input. */
        if (taken < count && is_fusible(&ops[taken]) && same_image(op, &ops[taken]) &&
            !(taken + 1 == count && ops[taken].function == TC_SIGMOID)) {
            step->function = ops[taken].function;
            memcpy(step->parameters, ops[taken].parameters, sizeof step->parameters);
            taken++;
        }
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
    case TC_OP_DROPOUT: step->kind = TC_STEP_DROPOUT; break;
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
    ptrdiff_t left = 0, right = 0;
    if (op->kind == TC_OP_CONV2D) {
        left = op->pad_left;
        right = max(0, (op->out_width - 1) * op->stride_width + (op->window_width - 1) * op->dilation_width -
                           op->pad_left - (op->in_width - 1));
    }
    return tensor_of(op->in_height, op->in_width, op->in_channels, left, right);
}

static int same_shape(const tc_tensor *t, const tc_op *op) {
    return t->height == op->out_height && t->width == op->out_width && t->channels == op->out_channels;
}

/* Fuses ops into steps and tensors.  Reshapes vanish; where a convolution that pads
 * reads a reshaped tensor, a linear activation copies it into the padded layout. */
static int plan_steps(tc_program *p, const tc_op *ops, ptrdiff_t count, ptrdiff_t vector_bytes) {
    const tc_op *end = &ops[count - 1];
    tc_op *kept = malloc(sizeof *kept * (size_t)(count + 1));
    p->steps = calloc((size_t)(2 * count + 1), sizeof *p->steps);
    p->tensors = calloc((size_t)(2 * count + 2), sizeof *p->tensors);
    if (!kept || !p->steps || !p->tensors) {
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
        kept[n++] = ops[i];
    }
    int status = TC_OK;
    p->tensors[0] = n ? tensor_for(&kept[0]) : tensor_of(end->out_height, end->out_width, end->out_channels, 0, 0);
    p->output_positions = end->out_height * end->out_width, p->output_channels = end->out_channels;
    for (ptrdiff_t i = 0; i < n && status == TC_OK;) {
        const tc_op *op = &kept[i];
        tc_step *step = &p->steps[p->step_count];
        tc_tensor *x = &p->tensors[p->step_count++], *y = x + 1;
        i += plan_step(op, n - i, step);
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
            status = plan_forward(p->kernels, op, step, x);
            if (status == TC_OK) status = plan_backward(p->kernels, op, step);
            if (status == TC_OK && step->pooled) status = plan_chunks(step, vector_bytes, winograd_points(op, step->z_columns));
            plan_weight_gradient(op, step, x, vector_bytes);
            if (status == TC_OK) status = plan_points(p->kernels, op, step, x);
        }
        if (op->kind == TC_OP_CONV2D)
            p->flops += (double)step->z_rows * step->z_columns * step->forward.taps * op->out_channels;
        if (op->kind == TC_OP_DENSE) p->flops += (double)op->in_channels * op->out_channels;
    }
    free(kept);
    return status;
}

static ptrdiff_t place(ptrdiff_t *end, ptrdiff_t size) {
    ptrdiff_t at = *end;
    *end += size;
    return at;
}

static void plan_workspace(tc_program *p, ptrdiff_t vector_bytes) {
    ptrdiff_t points = 0, products = 0, gradient_points = 0, kernel_points = 0;
    ptrdiff_t end = 0, rows = 0, scratch = 1, largest = 1;
    for (ptrdiff_t i = 0; i <= p->step_count; i++) {
        p->tensors[i].offset = place(&end, p->tensors[i].size);
        largest = max(largest, p->tensors[i].height * p->tensors[i].width * p->tensors[i].channels);
    }
    for (ptrdiff_t i = 0; i < p->step_count; i++) {
        const tc_step *step = &p->steps[i];
        for (ptrdiff_t c = 0; c < step->chunk_count; c++)
            rows = max(rows, step->pool.window_height * step->chunks[c].columns * step->outputs);
        if (step->kind == TC_STEP_DENSE) scratch = max(scratch, step->outputs + p->kernels->lanes);
        if (step->pooled)
            scratch = max(scratch, step->pool.window_height * (ptrdiff_t)sizeof(float *) / vector_bytes + 1);
    }
    for (ptrdiff_t i = 0; i < p->step_count; i++) {
        const tc_step *step = &p->steps[i];
        const tc_winograd *f = &step->forward_points, *b = &step->backward_points;
        if (!f->n) continue;
        points = max(points, max(f->g.x_rows * f->g.x_row_stride, b->n ? b->g.x_rows * b->g.x_row_stride : 0));
        products = max(products, f->n * max(f->tiles * step->outputs, b->tiles * step->inputs));
        gradient_points = max(gradient_points, step->z_rows * step->gradient_points.dz_row_stride);
        kernel_points = max(kernel_points, f->n * step->kernel_rows * step->inputs * step->outputs);
    }
    p->row_offset = place(&end, rows);
    p->points_offset = place(&end, points);
    p->products_offset = place(&end, products);
    p->scratch_offset = place(&end, scratch);
    p->label_offset = place(&end, p->tensors[p->step_count].size + 4);
    p->forward_size = end;
    for (ptrdiff_t i = 0; i < p->step_count; i++) {
        tc_step *step = &p->steps[i];
        if (step->kind == TC_STEP_CONV2D) {
            /* Without an input gradient only a strip of dz is ever alive. */
            ptrdiff_t alive = step->strip < step->z_rows ? step->strip : step->z_rows;
            step->dz_offset = place(&end, step->dz_row_stride * (i > p->lowest || step->forward_points.n ? step->z_rows : alive));
        }
        if (step->pooled && (step->kind == TC_STEP_CONV2D || step->kind == TC_STEP_MAX_POOL2D)) {
            ptrdiff_t count = step->pool.y_rows * step->pool.y_columns * step->pool.channels;
            step->index_offset = place(&end, (count * step->index_bytes + 3) / 4);
        }
    }
    p->gradient_points_offset = place(&end, gradient_points);
    p->kernel_points_offset = place(&end, kernel_points / p->kernels->lanes + 1);
    p->gradient_a = place(&end, largest);
    p->gradient_b = place(&end, largest);
    p->training_size = end;
    /* Only a caller of tc_gradients who asks for the input's gradient needs all of dz
     * where training itself stops. */
    for (ptrdiff_t i = 0; i < p->step_count; i++) {
        tc_step *step = &p->steps[i];
        step->dz_whole_offset = step->dz_offset;
        if (step->kind == TC_STEP_CONV2D && i <= p->lowest)
            step->dz_whole_offset = place(&end, step->dz_row_stride * step->z_rows);
    }
    p->input_gradient_size = end;
}

static int plan_weights(tc_program *p, const tc_weight *weights, ptrdiff_t count) {
    p->weights = calloc((size_t)count + 1, sizeof *p->weights);
    p->gradient_offset = calloc((size_t)count + 1, sizeof *p->gradient_offset);
    if (!p->weights || !p->gradient_offset) return TC_ERROR_MEMORY;
    if (count) memcpy(p->weights, weights, sizeof *weights * (size_t)count);
    p->weight_count = count;
    for (ptrdiff_t i = 0; i < count; i++) {
        p->gradient_offset[i] = weights[i].trainable ? p->gradient_size : -1;
        /* Whole cache lines, so that two weights never share one. */
        if (weights[i].trainable) p->gradient_size += (weights[i].count + 15) / 16 * 16;
    }
    p->lowest = p->step_count;
    for (ptrdiff_t i = p->step_count - 1; i >= 0; i--) {
        const tc_step *step = &p->steps[i];
        if ((step->kernel >= 0 && weights[step->kernel].trainable) ||
            (step->bias >= 0 && weights[step->bias].trainable))
            p->lowest = i;
    }
    for (ptrdiff_t i = 0; i < p->step_count; i++) {
        tc_step *step = &p->steps[i];
        if (step->kernel < 0) continue;
        size_t bytes = sizeof(float) * (size_t)weights[step->kernel].count;
        step->packed = malloc(bytes);
        step->packed_transposed = malloc(bytes);
        if (!step->packed || !step->packed_transposed) return TC_ERROR_MEMORY;
    }
    return TC_OK;
}

/* The numbers an executor relies on; the Python side has told the user more kindly. */
static int check(const tc_op *ops, ptrdiff_t count, const tc_weight *weights, ptrdiff_t weight_count) {
    if (count < 1) return TC_ERROR_ARGUMENT;
    for (ptrdiff_t i = 0; i < count; i++) {
        const tc_op *op = &ops[i];
        if (op->kind < 0 || op->kind >= TC_OP_COUNT || op->in_height < 1 || op->in_width < 1 ||
            op->in_channels < 1 || op->out_height < 1 || op->out_width < 1 || op->out_channels < 1)
            return TC_ERROR_ARGUMENT;
        ptrdiff_t in = op->in_height * op->in_width * op->in_channels;
        ptrdiff_t out = op->out_height * op->out_width * op->out_channels;
        if (i && in != ops[i - 1].out_height * ops[i - 1].out_width * ops[i - 1].out_channels)
            return TC_ERROR_ARGUMENT;
        int windowed = op->kind == TC_OP_CONV2D || op->kind == TC_OP_MAX_POOL2D || op->kind == TC_OP_AVERAGE_POOL2D;
        if (windowed) {
            if (op->window_height < 1 || op->window_width < 1 || op->stride_height < 1 || op->stride_width < 1 ||
                op->dilation_height < 1 || op->dilation_width < 1 || op->pad_top < 0 || op->pad_left < 0)
                return TC_ERROR_ARGUMENT;
            /* Every window must meet the image. */
            ptrdiff_t reach_h = (op->window_height - 1) * op->dilation_height;
            ptrdiff_t reach_w = (op->window_width - 1) * op->dilation_width;
            if (op->kind != TC_OP_CONV2D &&
                (op->in_channels != op->out_channels || op->pad_top > reach_h || op->pad_left > reach_w ||
                 (op->out_height - 1) * op->stride_height - op->pad_top >= op->in_height ||
                 (op->out_width - 1) * op->stride_width - op->pad_left >= op->in_width))
                return TC_ERROR_ARGUMENT;
        } else if (op->kind != TC_OP_DENSE && in != out) {
            return TC_ERROR_ARGUMENT;
        }
        if (op->kind == TC_OP_CONV2D || op->kind == TC_OP_DENSE) {
            ptrdiff_t taps = op->in_channels;
            if (op->kind == TC_OP_CONV2D) taps *= op->window_height * op->window_width;
            else if (in != op->in_channels || out != op->out_channels) return TC_ERROR_ARGUMENT;
            if (op->kernel < 0 || op->kernel >= weight_count || weights[op->kernel].count != taps * op->out_channels)
                return TC_ERROR_ARGUMENT;
            if (op->bias >= weight_count || (op->bias >= 0 && weights[op->bias].count != op->out_channels))
                return TC_ERROR_ARGUMENT;
        } else if (op->kernel >= 0 || op->bias >= 0) {
            return TC_ERROR_ARGUMENT;
        }
        if (op->kind == TC_OP_ACTIVATION && (op->function < 0 || op->function >= TC_ACTIVATION_COUNT))
            return TC_ERROR_ARGUMENT;
    }
    return TC_OK;
}

int tc_program_create(const tc_op *ops, ptrdiff_t op_count, const tc_weight *weights, ptrdiff_t weight_count,
                      uint64_t seed, tc_program **program) {
    *program = NULL;
    int status = check(ops, op_count, weights, weight_count);
    if (status != TC_OK) return status;
    tc_program *p = calloc(1, sizeof *p);
    if (!p) return TC_ERROR_MEMORY;
    p->kernels = tc_selected_kernels();
    p->seed = seed;
    ptrdiff_t vector_bytes = (ptrdiff_t)sizeof(float) * p->kernels->lanes;
    status = plan_steps(p, ops, op_count, vector_bytes);
    if (status == TC_OK) status = plan_weights(p, weights, weight_count);
    if (status == TC_OK && !(p->few = tc_few_create(p, ops, op_count))) status = TC_ERROR_MEMORY;
    if (status != TC_OK) {
        tc_program_destroy(p);
        return status;
    }
    plan_workspace(p, vector_bytes);
    tc_program_weights_changed(p);
    atomic_flag_clear(&p->packing);
    *program = p;
    return TC_OK;
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
    }
    tc_few_destroy(p->few);
    tc_workspace_destroy(atomic_load(&p->workspace));
    free(p->steps);
    free(p->tensors);
    free(p->weights);
    free(p->gradient_offset);
    free(p);
}

void tc_program_weights_changed(tc_program *program) {
    atomic_store(&program->stale, TC_STALE_FORWARD | TC_STALE_BACKWARD | TC_STALE_FEW);
}

void tc_pack_step(tc_program *p, ptrdiff_t i, int which) {
    tc_step *step = &p->steps[i];
    if (step->kernel < 0) return;
    const float *kernel = p->weights[step->kernel].values;
    int dense = step->kind == TC_STEP_DENSE;
    for (int transposed = 0; transposed < 2; transposed++) {
        if (!(which & (transposed ? TC_STALE_BACKWARD : TC_STALE_FORWARD))) continue;
        const tc_winograd *w = transposed ? &step->backward_points : &step->forward_points;
        if (!w->n) {
            p->kernels->pack(kernel, step->kernel_rows, step->kernel_columns, step->inputs, step->outputs, transposed,
                             dense, transposed ? step->packed_transposed : step->packed);
            continue;
        }
        ptrdiff_t plane = step->inputs * step->outputs, count = step->kernel_rows * plane;
        for (int k = 0; k < w->n; k++) {
            /* `packed` itself is room enough for a kernel one column wide. */
            p->kernels->winograd_kernel(kernel, w->n, k, step->kernel_rows, plane, transposed, step->packed);
            p->kernels->pack(step->packed, step->kernel_rows, 1, step->inputs, step->outputs, transposed, 0,
                             w->packed + k * count);
        }
    }
}
