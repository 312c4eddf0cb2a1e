/* The plan of a convolution: which tiles cover its rows, the correlations that its
 * forward and backward passes are, and their Winograd forms. */
#include <stdlib.h>

#include "program.h"

/* Rows of dz that a weight-gradient pass takes at a time: four filters' worth of
 * them should stay in a 32 KB L1 beside the input rows. */
#define STRIP_BYTES (20 * 1024)
/* What a convolution computes before it is pooled; as much again is its input. */
#define CHUNK_BYTES (12 * 1024)

static ptrdiff_t floor_div(ptrdiff_t a, ptrdiff_t b) { return a / b - (a % b < 0); }

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

/* One channel a group: an output channel is no sum over channels, and there is no outer
 * product of pixels and filters. */
static int is_depthwise(const tc_op *op) { return op->groups > 1 && op->groups == op->in_channels; }

static int plan_tiles(const tc_kernels *k, tc_correlation *g) {
    int filters, widest = k->widest_tile(g->depthwise ? 1 : g->y_channels, &filters);
    return tc_plan_tiles(g, widest, filters) ? TC_OK : TC_ERROR_MEMORY;
}

static int plan_forward(const tc_kernels *k, const tc_op *op, tc_step *step, const tc_tensor *x) {
    tc_correlation *g = &step->forward;
    ptrdiff_t channels = op->in_channels / op->groups, taps_row = op->window_width * channels;
    *g = (tc_correlation){.groups = op->groups, .depthwise = is_depthwise(op), .y_rows = step->z_rows,
                          .y_columns = step->z_columns, .y_channels = op->out_channels / op->groups,
                          .y_column_stride = op->out_channels, .x_rows = op->in_height, .x_columns = op->in_width,
                          .x_channels = channels, .x_start = x->left * op->in_channels,
                          .x_row_stride = input_row_stride(op, x), .x_column_stride = op->in_channels,
                          .row_step = op->stride_height, .column_step = op->stride_width,
                          .taps = op->window_height * taps_row, .kernel_rows = op->window_height,
                          .kernel_columns = op->window_width};
    g->rows = malloc(sizeof *g->rows * (size_t)(op->window_height + op->window_width));
    if (!g->rows) return TC_ERROR_MEMORY;
    g->columns = g->rows + op->window_height;
    for (ptrdiff_t i = 0; i < op->window_height; i++)
        g->rows[i] = (tc_offset){i * op->dilation_height - op->pad_top, i * taps_row};
    for (ptrdiff_t j = 0; j < op->window_width; j++)
        g->columns[j] = (tc_offset){j * op->dilation_width - op->pad_left, j * channels};
    return plan_tiles(k, g);
}

/* Kernel positions k of `count` that reach input pixels of one phase: input pixel
 * phase + step * b reads dz at b + position.  Ascending, so from the last k down.  Returns how many;
 * offsets: those, overwritten, or NULL. */
static ptrdiff_t phase_offsets(ptrdiff_t count, ptrdiff_t dilation, ptrdiff_t step, ptrdiff_t pad, ptrdiff_t phase,
                               ptrdiff_t tap, int reversed, tc_offset *offsets) {
    ptrdiff_t n = 0;
    for (ptrdiff_t k = count - 1; k >= 0; k--) {
        ptrdiff_t at = phase + pad - k * dilation;
        if (at - floor_div(at, step) * step != 0) continue;
        if (offsets) offsets[n] = (tc_offset){floor_div(at, step), (reversed ? count - 1 - k : k) * tap};
        n++;
    }
    return n;
}

/* The columns beside dz, `columns` wide, that backward-data of a convolution reads. */
static void backward_margins(const tc_op *op, ptrdiff_t columns, ptrdiff_t *left, ptrdiff_t *right) {
    ptrdiff_t reach = (op->window_width - 1) * op->dilation_width;
    *left = tc_max(0, floor_div(reach - op->pad_left, op->stride_width));
    *right = tc_max(0, (op->in_width - 1 + op->pad_left) / op->stride_width - (columns - 1));
}

/* Those beside the input, `columns` wide, that the convolution itself reads. */
static void forward_margins(const tc_op *op, ptrdiff_t *left, ptrdiff_t *right) {
    *left = op->pad_left;
    *right = tc_max(0, (op->out_width - 1) * op->stride_width + (op->window_width - 1) * op->dilation_width -
                           op->pad_left - (op->in_width - 1));
}

tc_op tc_turned(const tc_op *op) {
    tc_op conv = *op;
    conv.in_height = op->out_height, conv.in_width = op->out_width, conv.in_channels = op->out_channels;
    conv.out_height = op->in_height, conv.out_width = op->in_width, conv.out_channels = op->in_channels;
    conv.groups = 1;
    return conv;
}

void tc_input_margins(const tc_op *op, ptrdiff_t *left, ptrdiff_t *right) {
    *left = *right = 0;
    if (op->kind == TC_OP_CONV2D) forward_margins(op, left, right);
    if (op->kind == TC_OP_CONV2D_TRANSPOSE) {
        tc_op conv = tc_turned(op);
        backward_margins(&conv, op->in_width, left, right);
    }
}

ptrdiff_t tc_phase_rows(const tc_op *conv) {
    return conv->stride_height < conv->in_height ? conv->stride_height : conv->in_height;
}

ptrdiff_t tc_phase_columns(const tc_op *conv) {
    return conv->stride_width < conv->in_width ? conv->stride_width : conv->in_width;
}

int tc_plan_phase(const tc_op *conv, ptrdiff_t phase, ptrdiff_t y_row, ptrdiff_t y_column, tc_correlation *g) {
    ptrdiff_t sh = conv->stride_height, sw = conv->stride_width, kh = conv->window_height, kw = conv->window_width;
    ptrdiff_t top = phase / tc_phase_columns(conv), start = phase % tc_phase_columns(conv);
    ptrdiff_t filters = conv->out_channels / conv->groups;
    *g = (tc_correlation){.groups = conv->groups, .y_rows = (conv->in_height - top + sh - 1) / sh,
                          .y_columns = (conv->in_width - start + sw - 1) / sw,
                          .y_channels = conv->in_channels / conv->groups, .y_start = top * y_row + start * y_column,
                          .y_row_stride = sh * y_row, .y_column_stride = sw * y_column, .x_channels = filters,
                          .row_step = 1, .column_step = 1, .taps = kh * kw * filters};
    /* Room for what the phase has: there may be as many phases as taps, each with one of them. */
    g->kernel_rows = phase_offsets(kh, conv->dilation_height, sh, conv->pad_top, top, 0, 0, NULL);
    g->kernel_columns = phase_offsets(kw, conv->dilation_width, sw, conv->pad_left, start, 0, 1, NULL);
    g->rows = malloc(sizeof *g->rows * (size_t)(g->kernel_rows + g->kernel_columns + 1));
    if (!g->rows) return 0;
    g->columns = g->rows + g->kernel_rows;
    phase_offsets(kh, conv->dilation_height, sh, conv->pad_top, top, kw * filters, 0, g->rows);
    phase_offsets(kw, conv->dilation_width, sw, conv->pad_left, start, filters, 1, g->columns);
    return 1;
}

static int plan_backward(const tc_kernels *k, const tc_op *op, tc_step *step, ptrdiff_t y_row_stride) {
    step->phases = tc_phase_rows(op) * tc_phase_columns(op);
    step->backward = calloc((size_t)step->phases, sizeof *step->backward);
    if (!step->backward) return TC_ERROR_MEMORY;
    for (ptrdiff_t phase = 0; phase < step->phases; phase++) {
        tc_correlation *g = &step->backward[phase];
        if (!tc_plan_phase(op, phase, y_row_stride, op->in_channels, g)) return TC_ERROR_MEMORY;
        g->depthwise = is_depthwise(op);
        g->x_rows = step->z_rows, g->x_columns = step->z_columns;
        g->x_start = step->dz_left * op->out_channels;
        g->x_row_stride = step->dz_row_stride, g->x_column_stride = op->out_channels;
        int status = plan_tiles(k, g);
        if (status != TC_OK) return status;
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
        .groups = op->groups, .filters = op->out_channels, .x_rows = op->in_height,
        .x_channels = op->in_channels / op->groups, .x_start = (x->left - op->pad_left) * op->in_channels,
        .x_row_stride = input_row_stride(op, x), .x_column_stride = op->in_channels, .dz_columns = step->z_columns,
        .dz_channels = op->out_channels / op->groups, .dz_row_stride = step->dz_row_stride,
        .dz_column_stride = op->out_channels, .kernel_rows = op->window_height, .kernel_columns = op->window_width,
        .row_step = op->stride_height, .column_step = op->stride_width, .row_dilation = op->dilation_height,
        .column_dilation = op->dilation_width, .pad_top = op->pad_top};
    ptrdiff_t period = step->pooled ? step->pool.stride_height : 1;
    ptrdiff_t rows = STRIP_BYTES / (step->z_columns * 4 * vector_bytes);
    step->strip = tc_max(period, rows / period * period);
}

/* ---- Winograd ---------------------------------------------------------------------- */

/* How many points a convolution of these operands takes, 0 for the direct way: the
 * transforms pay where channels, filters and kernel rows share them, and their rounding
 * is lost in that of a sum of some length. */
static int winograd_points(const tc_op *op, ptrdiff_t columns) {
    ptrdiff_t tiles = (columns + 3) / 4;
    if (op->stride_height != 1 || op->stride_width != 1 || op->dilation_height != 1 || op->dilation_width != 1)
        return 0;
    if (op->groups != 1) return 0;
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
    return plan_tiles(k, g);
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

/* ---- all of it --------------------------------------------------------------------- */

int tc_plan_conv2d(const tc_kernels *k, const tc_op *op, tc_step *step, const tc_tensor *x) {
    ptrdiff_t vector_bytes = (ptrdiff_t)sizeof(float) * k->lanes;
    ptrdiff_t left, right;
    backward_margins(op, step->z_columns, &left, &right);
    step->dz_left = left, step->dz_row_stride = (left + step->z_columns + right) * op->out_channels;
    int status = plan_forward(k, op, step, x);
    if (status == TC_OK) status = plan_backward(k, op, step, op->in_width * op->in_channels);
    if (status == TC_OK && step->pooled) status = plan_chunks(step, vector_bytes, winograd_points(op, step->z_columns));
    plan_weight_gradient(op, step, x, vector_bytes);
    return status == TC_OK ? plan_points(k, op, step, x) : status;
}

int tc_plan_conv2d_transpose(const tc_kernels *k, const tc_op *op, tc_step *step, const tc_tensor *x,
                             const tc_tensor *y) {
    tc_op conv = tc_turned(op);
    tc_tensor dz = {.height = conv.in_height, .width = conv.in_width, .channels = conv.in_channels};
    forward_margins(&conv, &dz.left, &dz.right);
    /* What the plan of `conv` calls z is x here. */
    tc_step as_conv = *step;
    as_conv.z_rows = conv.out_height, as_conv.z_columns = conv.out_width;
    as_conv.dz_left = x->left, as_conv.dz_row_stride = input_row_stride(op, x);
    int status = plan_forward(k, &conv, &as_conv, &dz);
    if (status == TC_OK) status = plan_backward(k, &conv, &as_conv, y->row_stride);
    plan_weight_gradient(&conv, &as_conv, &dz, (ptrdiff_t)sizeof(float) * k->lanes);
    *step = as_conv;
    step->z_rows = conv.in_height, step->z_columns = conv.in_width;
    step->dz_left = dz.left, step->dz_row_stride = (dz.left + dz.width + dz.right) * dz.channels;
    return status;
}
