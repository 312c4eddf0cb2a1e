/* One convolution, from the caller's arrays to the caller's arrays: filters in the lanes,
 * so that nothing changes its layout.  Only what the image's edges need is copied: rows
 * with zero columns beside them. */
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "single_parts.h"
#include "threads.h"

/* ---- the plan ------------------------------------------------------------------------ */

/* What the image-lane plan `from` computes, with filters in the lanes.  0 without memory: g is to be cleared. */
static int plan_phase(const tc_correlation *from, ptrdiff_t filters, tc_correlation *g) {
    *g = *from;
    g->tiles = NULL, g->tile_count = 0, g->y_channels = filters;
    g->rows = malloc(sizeof *g->rows * (size_t)(g->kernel_rows + g->kernel_columns + 1));
    if (!g->rows) return 0;
    g->columns = g->rows + g->kernel_rows;
    memcpy(g->rows, from->rows, sizeof *g->rows * (size_t)g->kernel_rows);
    memcpy(g->columns, from->columns, sizeof *g->rows * (size_t)g->kernel_columns);
    return tc_plan_tiles(g, 0, 0);
}

/* The same where nothing is stored beside the rows of x. */
static int plan_channels(const tc_kernels *k, const tc_correlation *phases, ptrdiff_t count, direction *d) {
    d->filters = d->padded = phases[0].groups;
    d->phases = calloc((size_t)count, sizeof *d->phases);
    for (ptrdiff_t i = 0; d->phases && i < count; i++) {
        tc_correlation *g = &d->phases[d->phase_count++];
        if (!plan_phase(&phases[i], 1, g)) return 0;
        g->x_start = 0, g->x_row_stride = g->x_columns * g->groups;
    }
    d->packed = malloc(sizeof(float) * (size_t)(phases[0].taps * d->filters + 1));
    d->bias = malloc(sizeof(float) * (size_t)(d->padded + k->lanes));
    return d->phases && d->packed && d->bias;
}

static int plan_direction(const tc_kernels *k, const tc_correlation *phases, ptrdiff_t count, direction *d) {
    if (phases[0].depthwise) return plan_channels(k, phases, count, d);
    d->filters = phases[0].y_channels;
    d->padded = round_up(d->filters, k->narrow);
    d->grouped = d->filters <= k->grouped_filters;
    d->phases = calloc((size_t)count, sizeof *d->phases);
    ptrdiff_t floats = d->grouped ? 0 : phases[0].taps * d->padded;
    for (ptrdiff_t i = 0; d->phases && i < count; i++) {
        tc_correlation *g = &d->phases[d->phase_count++];
        if (!plan_phase(&phases[i], d->grouped ? d->filters : d->padded, g)) return 0;
        if (d->grouped) floats += k->pack_groups(g, NULL, 0, NULL, NULL, NULL);
    }
    d->packed = malloc(sizeof(float) * (size_t)(floats + 1));
    d->bias = malloc(sizeof(float) * (size_t)(d->padded + k->lanes));
    return d->phases && d->packed && d->bias;
}

/* kernel: taps x filters. */
static void pack_direction(const tc_kernels *k, direction *d, const float *kernel, const float *bias) {
    float *packed = d->packed;
    if (!d->grouped)
        k->pack_filters(kernel, d->filters, bias, d->phases[0].taps, d->filters, d->padded, 1, packed, d->bias);
    for (ptrdiff_t i = 0; d->grouped && i < d->phase_count; i++)
        packed += k->pack_groups(&d->phases[i], kernel, d->filters, bias, packed, d->bias);
}

/* A kernel of one tap sees an image as one row. */
static void flatten(tc_correlation *g) {
    g->x_columns *= g->x_rows, g->y_columns *= g->y_rows;
    g->x_rows = g->y_rows = 1;
}

static int is_pointwise(const tc_step *step, const tc_tensor *x) {
    return step->kernel_rows == 1 && step->kernel_columns == 1 && step->gradient.row_step == 1 &&
           step->gradient.column_step == 1 && step->z_rows == x->height && step->z_columns == x->width &&
           !step->gradient.pad_top && !x->left;
}

/* Of a transposed convolution and of one in groups, the gradient of the kernel. */
static int create_gradient(const tc_program *p, tc_single **single) {
    const tc_step *step = p->steps;
    tc_single *s = calloc(1, sizeof *s);
    if (!s) return TC_ERROR_MEMORY;
    s->transposed = step->kind == TC_STEP_CONV2D_TRANSPOSE;
    s->image = *p->tensors;
    if (s->transposed) {
        s->image = (tc_tensor){.height = step->z_rows, .width = step->z_columns, .channels = step->outputs,
                               .left = step->dz_left, .row_stride = step->dz_row_stride};
        s->image.right = step->dz_row_stride / step->outputs - s->image.left - s->image.width;
    }
    tc_single_plan_gradient(p, s);
    *single = s;
    return TC_OK;
}

int tc_single_create(const tc_program *p, tc_single **single) {
    const tc_step *step = p->steps;
    const tc_tensor *x = p->tensors;
    *single = NULL;
    if (p->step_count != 1 || step->pooled || step->norm || p->load_scale != 1.0f || p->load_offset != 0.0f)
        return TC_OK;
    if (step->kind == TC_STEP_CONV2D_TRANSPOSE) return create_gradient(p, single);
    if (step->kind != TC_STEP_CONV2D) return TC_OK;
    int depthwise = step->forward.depthwise && step->outputs == step->groups && step->outputs >= p->kernels->lanes;
    if (step->groups != 1 && !depthwise)
        return step->gradient.filters / step->groups % p->kernels->narrow ? TC_OK : create_gradient(p, single);
    int relu = tc_is_plain_relu(step->function, step->parameters);
    if (!relu && step->function != TC_LINEAR) return TC_OK;
    tc_single *s = calloc(1, sizeof *s);
    if (!s) return TC_ERROR_MEMORY;
    s->relu = relu, s->depthwise = depthwise;
    direction *f = &s->forward, *b = &s->backward;
    s->turned = malloc(sizeof(float) * (size_t)(step->forward.taps * step->outputs));
    if (!s->turned || !plan_direction(p->kernels, &step->forward, 1, f) ||
        !plan_direction(p->kernels, step->backward, step->phases, b)) {
        tc_single_destroy(s);
        return TC_ERROR_MEMORY;
    }
    if (!depthwise) f->left = x->left, f->right = x->right;
    f->phases[0].y_row_stride = step->z_columns * step->outputs;
    if (!depthwise) b->left = step->dz_left, b->right = step->dz_row_stride / step->outputs - b->left - step->z_columns;
    f->x_image = b->y_image = x->height * x->width * x->channels;
    f->y_image = b->x_image = step->z_rows * step->z_columns * step->outputs;
    if (!depthwise && is_pointwise(step, x)) {
        flatten(f->phases);
        flatten(b->phases);
    }
    s->image = *x;
    tc_single_plan_gradient(p, s);
    *single = s;
    return TC_OK;
}

static void clear_direction(direction *d) {
    for (ptrdiff_t i = 0; d->phases && i < d->phase_count; i++) tc_correlation_clear(&d->phases[i]);
    free(d->phases);
    free(d->packed);
    free(d->bias);
}

void tc_single_destroy(tc_single *s) {
    if (!s) return;
    clear_direction(&s->forward);
    clear_direction(&s->backward);
    free(s->turned);
    free(atomic_load(&s->memory));
    free(s);
}

void tc_single_pack(const tc_program *p, tc_single *s, int which) {
    const tc_step *step = p->steps;
    const tc_kernels *k = p->kernels;
    const float *kernel = p->weights[step->kernel].values;
    const float *bias = step->bias < 0 ? NULL : p->weights[step->bias].values;
    for (int turn = 0; s->depthwise && turn < 2; turn++) {
        direction *d = turn ? &s->backward : &s->forward;
        if (!(which & (turn ? TC_STALE_SINGLE_BACKWARD : TC_STALE_SINGLE_FORWARD))) continue;
        k->pack(kernel, step->kernel_rows, step->kernel_columns, 1, 1, step->groups, turn, 0, d->packed);
        for (ptrdiff_t f = 0; f < d->filters; f++) d->bias[f] = bias && !turn ? bias[f] : 0.0f;
    }
    if (s->depthwise || !s->forward.phases) return;
    if (which & TC_STALE_SINGLE_FORWARD) pack_direction(k, &s->forward, kernel, bias);
    if (which & TC_STALE_SINGLE_BACKWARD) {
        k->turn_kernel(kernel, step->kernel_rows, step->kernel_columns, step->inputs, step->outputs, s->turned);
        pack_direction(k, &s->backward, s->turned, NULL);
    }
}

/* ---- memory -------------------------------------------------------------------------- */

single_memory *tc_single_take(tc_single *s, size_t floats) {
    single_memory *m = atomic_exchange(&s->memory, NULL);
    if (m && m->floats >= floats) return m;
    free(m);
    m = malloc(sizeof *m + 64 + floats * sizeof(float));
    if (m) m->floats = floats;
    return m;
}

void tc_single_return(tc_single *s, single_memory *m) { free(atomic_exchange(&s->memory, m)); }

float *tc_single_floats(single_memory *m) { return (float *)(((uintptr_t)(m + 1) + 63) & ~(uintptr_t)63); }

void tc_single_copy_rows(const float *x, ptrdiff_t rows, ptrdiff_t values, ptrdiff_t left, ptrdiff_t right, float *to) {
    for (; rows > 0; rows--, x += values) {
        for (ptrdiff_t i = 0; i < left; i++) *to++ = 0.0f;
        memcpy(to, x, sizeof *to * (size_t)values);
        to += values;
        for (ptrdiff_t i = 0; i < right; i++) *to++ = 0.0f;
    }
}

/* ---- forward and backward-data ------------------------------------------------------- */

/* Rows [a0, a1) of a phase; x and y: the image. */
static void correlate_rows(const tc_kernels *k, const direction *d, const tc_correlation *g, ptrdiff_t a0, ptrdiff_t a1,
                           int relu, const float *x, float *row, float *y) {
    tc_correlation part = *g;
    for (ptrdiff_t f = 0; f < d->padded; f += FILTERS) {
        ptrdiff_t width = smaller(FILTERS, d->padded - f), real = smaller(width, d->filters - f);
        part.y_channels = width;
        part.y_column_stride = real == width ? g->y_column_stride : width;
        for (ptrdiff_t a = a0; a < a1; a++) {
            float *to = y + g->y_start + a * g->y_row_stride + f;
            k->correlate_filters(&part, a, x, d->packed + f * g->taps, d->bias + f, relu, real == width ? to : row);
            for (ptrdiff_t b = 0; real < width && b < g->y_columns; b++, to += g->y_column_stride)
                for (ptrdiff_t i = 0; i < real; i++) to[i] = row[b * width + i];
        }
    }
}

/* Piece `part` of `parts` of an image. */
static void correlate_piece(const tc_kernels *k, const direction *d, ptrdiff_t part, ptrdiff_t parts, int relu,
                            const float *x, float *memory, float *y) {
    const tc_correlation *first = d->phases;
    ptrdiff_t image = first->x_rows * (d->left + first->x_columns + d->right) * first->x_channels;
    ptrdiff_t low = first->x_rows, high = 0;
    float *row = memory + image;
    if (d->left || d->right) {
        for (const tc_correlation *g = first; g < first + d->phase_count; g++) {
            ptrdiff_t a0 = part * g->y_rows / parts, a1 = (part + 1) * g->y_rows / parts;
            if (a0 == a1 || !g->kernel_rows) continue;
            low = smaller(low, tc_max(0, a0 * g->row_step + g->rows[0].position));
            high = tc_max(high, smaller(g->x_rows, (a1 - 1) * g->row_step + g->rows[g->kernel_rows - 1].position + 1));
        }
        ptrdiff_t values = first->x_columns * first->x_channels;
        tc_single_copy_rows(x + low * values, high - low, values, d->left * first->x_channels,
                            d->right * first->x_channels, memory + low * first->x_row_stride);
        x = memory;
    }
    const float *packed = d->packed;
    for (const tc_correlation *g = first; g < first + d->phase_count; g++) {
        ptrdiff_t a0 = part * g->y_rows / parts, a1 = (part + 1) * g->y_rows / parts;
        if (g->depthwise) {
            k->correlate_channel_rows(g, a0, a1, x, d->packed, d->bias, relu, y + g->y_start);
            continue;
        }
        if (!d->grouped) {
            correlate_rows(k, d, g, a0, a1, relu, x, row, y);
            continue;
        }
        for (ptrdiff_t a = a0; a < a1; a++)
            k->correlate_groups(g, a, x, packed, d->bias, relu, y + g->y_start + a * g->y_row_stride);
        packed += k->pack_groups(g, NULL, 0, NULL, NULL, NULL);
    }
}

static int correlate(const tc_program *p, const direction *d, const float *x, ptrdiff_t n, int relu, float *y) {
    const tc_correlation *g = d->phases;
    tc_single *s = p->single;
    ptrdiff_t most = s->depthwise ? tc_max(1, g->y_rows / DEPTHWISE_PART) : g->y_rows;
    ptrdiff_t columns = 0, parts = n < PIECES ? smaller(most, (PIECES + n - 1) / n) : 1;
    for (ptrdiff_t i = 0; i < d->phase_count; i++) columns = tc_max(columns, g[i].y_columns);
    ptrdiff_t size = round_up(g->x_rows * (d->left + g->x_columns + d->right) * g->x_channels + columns * FILTERS, 16);
    int threads = tc_threads_for(p->flops * (double)n, n * parts);
    single_memory *m = tc_single_take(s, (size_t)(size * threads));
    if (!m) return TC_ERROR_MEMORY;
    float *memory = tc_single_floats(m);
    TC_PRAGMA(omp parallel num_threads(threads) if (threads > 1))
    {
        unsigned mode = tc_denormals_off();
        TC_PRAGMA(omp for schedule(dynamic, 1))
        for (ptrdiff_t i = 0; i < n * parts; i++)
            correlate_piece(p->kernels, d, i % parts, parts, relu, x + i / parts * d->x_image,
                            memory + size * tc_thread_number(), y + i / parts * d->y_image);
        tc_denormals_restore(mode);
    }
    tc_single_return(s, m);
    return TC_OK;
}

int tc_single_forward(const tc_program *p, const float *x, ptrdiff_t n, float *y) {
    return correlate(p, &p->single->forward, x, n, p->single->relu, y);
}

int tc_single_backward_input(const tc_program *p, const float *dy, ptrdiff_t n, float *dx) {
    return correlate(p, &p->single->backward, dy, n, 0, dx);
}
