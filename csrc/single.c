/* One convolution, from the caller's arrays to the caller's arrays: filters in the lanes,
 * so that nothing changes its layout.  Only what the image's edges need is copied: rows
 * with zero columns beside them. */
#include "single.h"

#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "threads.h"

/* Filters whose weights pass over the rows at a time: a multiple of every tile. */
#define FILTERS 32
/* Floats of dz, of that many filters, that stay in L1 while the taps pass over them. */
#define STRIP_FLOATS (6 * 1024)
/* Taps of a kernel row that are too few for a tile of their own. */
#define STACKED_TAPS 6
/* Independent pieces that a call is cut into, for threads to share, whatever their number. */
#define PIECES 16
#define SLOT_BYTES ((ptrdiff_t)64 << 20)

/* A correlation, forward or of backward-data. */
typedef struct direction {
    tc_correlation *phases;
    ptrdiff_t phase_count;
    ptrdiff_t left, right;         /* columns of zeros beside a row of x */
    ptrdiff_t filters, padded;     /* padded: to whole vectors */
    ptrdiff_t x_image, y_image;    /* floats */
    float *packed, *bias;
    int grouped;                   /* packed in groups of taps, phase after phase */
} direction;

typedef struct single_memory {
    size_t floats;
} single_memory;

struct tc_single {
    direction forward, backward;
    float *turned; /* the transposed kernel, on its way to backward's packed one */
    int relu;
    /* The gradient of the kernel.  joined: a kernel row's taps are one stretch of x; stacked:
     * all kernel rows at once, of images with rows of zeros above and below. */
    int joined, stacked;
    int depthwise; /* channels in the lanes, in and out */
    ptrdiff_t above, below;
    ptrdiff_t padded, group, strip, width; /* width: filters that pass over the rows at a time */
    _Atomic(single_memory *) memory; /* one, kept between calls; another caller makes its own */
};

static ptrdiff_t round_up(ptrdiff_t n, ptrdiff_t unit) { return (n + unit - 1) / unit * unit; }
static ptrdiff_t smaller(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

/* ---- the plan ------------------------------------------------------------------------ */

/* What the image-lane plan `from` computes, with filters in the lanes. */
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
    for (; d->phases && d->phase_count < count; d->phase_count++) {
        tc_correlation *g = &d->phases[d->phase_count];
        if (!plan_phase(&phases[d->phase_count], 1, g)) return 0;
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
    for (; d->phases && d->phase_count < count; d->phase_count++) {
        tc_correlation *g = &d->phases[d->phase_count];
        if (!plan_phase(&phases[d->phase_count], d->grouped ? d->filters : d->padded, g)) return 0;
        if (d->grouped) floats += k->pack_groups(g, NULL, NULL, NULL, NULL);
    }
    d->packed = malloc(sizeof(float) * (size_t)(floats + 1));
    d->bias = malloc(sizeof(float) * (size_t)(d->padded + k->lanes));
    return d->phases && d->packed && d->bias;
}

/* kernel: taps x filters. */
static void pack_direction(const tc_kernels *k, direction *d, const float *kernel, const float *bias) {
    float *packed = d->packed;
    if (!d->grouped) k->pack_filters(kernel, bias, d->phases[0].taps, d->filters, 1, packed, d->bias);
    for (ptrdiff_t i = 0; d->grouped && i < d->phase_count; i++)
        packed += k->pack_groups(&d->phases[i], kernel, bias, packed, d->bias);
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

int tc_single_create(const tc_program *p, tc_single **single) {
    const tc_step *step = p->steps;
    const tc_tensor *x = p->tensors;
    *single = NULL;
    if (p->step_count != 1 || step->kind != TC_STEP_CONV2D || step->pooled || step->norm ||
        p->load_scale != 1.0f || p->load_offset != 0.0f)
        return TC_OK;
    int depthwise = step->forward.depthwise && step->outputs == step->groups && step->outputs >= p->kernels->lanes;
    if (step->groups != 1 && !depthwise) return TC_OK;
    int relu = tc_is_plain_relu(step->function, step->parameters);
    if (!relu && step->function != TC_LINEAR) return TC_OK;
    tc_single *s = calloc(1, sizeof *s);
    if (!s) return TC_ERROR_MEMORY;
    s->relu = relu, s->depthwise = depthwise;
    ptrdiff_t narrow = p->kernels->narrow;
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
    const tc_weight_gradient *g = &step->gradient;
    int margins = x->left || x->right;
    s->joined = depthwise || g->kernel_columns == 1 || (g->column_dilation == 1 && (!margins || g->x_channels < 32));
    s->stacked = depthwise || (s->joined && g->kernel_rows > 1 && g->kernel_columns * g->x_channels <= STACKED_TAPS);
    if (s->stacked) {
        s->above = g->pad_top;
        s->below = tc_max(0, (step->z_rows - 1) * g->row_step + (g->kernel_rows - 1) * g->row_dilation - g->pad_top -
                                 (g->x_rows - 1));
    }
    s->padded = depthwise ? step->outputs : round_up(step->outputs, narrow);
    s->width = depthwise ? s->padded : FILTERS;
    ptrdiff_t pixels = step->z_rows * step->z_columns, most = STRIP_FLOATS / smaller(FILTERS, s->padded);
    ptrdiff_t strips = smaller((pixels + most - 1) / most, step->z_rows);
    s->group = tc_max(1, most / pixels);
    s->strip = (step->z_rows + strips - 1) / strips;
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
    if (s->depthwise) return;
    if (which & TC_STALE_SINGLE_FORWARD) pack_direction(k, &s->forward, kernel, bias);
    if (which & TC_STALE_SINGLE_BACKWARD) {
        k->turn_kernel(kernel, step->kernel_rows, step->kernel_columns, step->inputs, step->outputs, s->turned);
        pack_direction(k, &s->backward, s->turned, NULL);
    }
}

/* ---- memory -------------------------------------------------------------------------- */

static single_memory *memory_take(tc_single *s, size_t floats) {
    single_memory *m = atomic_exchange(&s->memory, NULL);
    if (m && m->floats >= floats) return m;
    free(m);
    m = malloc(sizeof *m + 64 + floats * sizeof(float));
    if (m) m->floats = floats;
    return m;
}

static void memory_return(tc_single *s, single_memory *m) { free(atomic_exchange(&s->memory, m)); }

static float *memory_floats(single_memory *m) { return (float *)(((uintptr_t)(m + 1) + 63) & ~(uintptr_t)63); }

/* Rows of `values` floats to rows with zeros beside them. */
static void copy_rows(const float *x, ptrdiff_t rows, ptrdiff_t values, ptrdiff_t left, ptrdiff_t right, float *to) {
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
        copy_rows(x + low * values, high - low, values, d->left * first->x_channels, d->right * first->x_channels,
                  memory + low * first->x_row_stride);
        x = memory;
    }
    const float *packed = d->packed;
    for (const tc_correlation *g = first; g < first + d->phase_count; g++) {
        ptrdiff_t a0 = part * g->y_rows / parts, a1 = (part + 1) * g->y_rows / parts;
        for (ptrdiff_t a = a0; g->depthwise && a < a1; a++)
            k->correlate_channels(g, a, x, d->packed, d->bias, relu, y + g->y_start + a * g->y_row_stride);
        if (g->depthwise) continue;
        if (!d->grouped) {
            correlate_rows(k, d, g, a0, a1, relu, x, row, y);
            continue;
        }
        for (ptrdiff_t a = a0; a < a1; a++)
            k->correlate_groups(g, a, x, packed, d->bias, relu, y + g->y_start + a * g->y_row_stride);
        packed += k->pack_groups(g, NULL, NULL, NULL, NULL);
    }
}

static int correlate(const tc_program *p, const direction *d, const float *x, ptrdiff_t n, int relu, float *y) {
    const tc_correlation *g = d->phases;
    tc_single *s = p->single;
    ptrdiff_t columns = 0, parts = n < PIECES ? smaller(g->y_rows, (PIECES + n - 1) / n) : 1;
    for (ptrdiff_t i = 0; i < d->phase_count; i++) columns = tc_max(columns, g[i].y_columns);
    ptrdiff_t size = round_up(g->x_rows * (d->left + g->x_columns + d->right) * g->x_channels + columns * FILTERS, 16);
    int threads = tc_threads_for(p->flops * (double)n, n * parts);
    single_memory *m = memory_take(s, (size_t)(size * threads));
    if (!m) return TC_ERROR_MEMORY;
    float *memory = memory_floats(m);
    TC_PRAGMA(omp parallel num_threads(threads) if (threads > 1))
    {
        unsigned mode = tc_denormals_off();
        TC_PRAGMA(omp for schedule(dynamic, 1))
        for (ptrdiff_t i = 0; i < n * parts; i++)
            correlate_piece(p->kernels, d, i % parts, parts, relu, x + i / parts * d->x_image,
                            memory + size * tc_thread_number(), y + i / parts * d->y_image);
        tc_denormals_restore(mode);
    }
    memory_return(s, m);
    return TC_OK;
}

int tc_single_forward(const tc_program *p, const float *x, ptrdiff_t n, float *y) {
    return correlate(p, &p->single->forward, x, n, p->single->relu, y);
}

int tc_single_backward_input(const tc_program *p, const float *dy, ptrdiff_t n, float *dx) {
    return correlate(p, &p->single->backward, dy, n, 0, dx);
}

/* ---- backward-weights ---------------------------------------------------------------- */

/* The images that a gradient is summed over at a time, as the outer sums read them. */
typedef struct stretch {
    const float *x, *dz;
    ptrdiff_t images, x_image, x_row, dz_image, dz_row;
} stretch;

/* Rows [first, last) of the stretch: filters [f, f + width) of dw (taps, padded), accumulated. */
static void gradient_strip(const tc_kernels *k, const tc_step *step, const tc_single *s, const stretch *t,
                           ptrdiff_t first, ptrdiff_t last, ptrdiff_t f, ptrdiff_t width, float *dw) {
    const tc_weight_gradient *g = &step->gradient;
    ptrdiff_t stretches = s->joined ? 1 : g->kernel_columns, taps = g->x_channels * g->kernel_columns / stretches;
    ptrdiff_t stacked = s->stacked ? g->kernel_rows : 1;
    tc_outer_sum sum = {.images = t->images, .kernel_rows = stacked, .taps = taps, .filters = width, .x_image = t->x_image,
                        .x_row = g->row_step * t->x_row, .x_pixel = g->column_step * g->x_channels,
                        .x_kernel_row = g->row_dilation * t->x_row, .dz_image = t->dz_image, .dz_row = t->dz_row, .dz_pixel = s->padded, .dw_row = s->padded};
    ptrdiff_t left = s->joined ? 0 : step->forward.x_start / g->x_channels - g->x_start / g->x_channels;
    for (ptrdiff_t i = 0; i < g->kernel_rows; i += stacked) {
        ptrdiff_t shift = i * g->row_dilation - g->pad_top, a0 = first, a1 = last;
        while (!s->stacked && a0 < a1 && a0 * g->row_step + shift < 0) a0++;
        while (!s->stacked && a1 > a0 && (a1 - 1) * g->row_step + shift >= g->x_rows) a1--;
        sum.rows = a1 - a0;
        for (ptrdiff_t j = 0; j < stretches && sum.rows; j++) {
            ptrdiff_t at = j * g->column_dilation - left, b0 = 0, b1 = g->dz_columns;
            if (!s->joined) {
                while (b0 < b1 && b0 * g->column_step + at < 0) b0++;
                while (b1 > b0 && (b1 - 1) * g->column_step + at >= step->forward.x_columns) b1--;
            }
            sum.columns = b1 - b0;
            sum.x = t->x + (a0 * g->row_step + shift) * t->x_row + (b0 * g->column_step + at) * g->x_channels;
            sum.dz = t->dz + a0 * t->dz_row + b0 * s->padded + f;
            sum.dw = dw + (i * stretches + j) * taps * s->padded + f;
            if (sum.columns) k->outer_sum(&sum);
        }
    }
}

/* The whole stretch, all channels. */
static void channels_gradient(const tc_kernels *k, const tc_step *step, const tc_single *s, const stretch *t,
                              float *dw) {
    const tc_weight_gradient *g = &step->gradient;
    tc_outer_sum sum = {.x = t->x - g->pad_top * t->x_row + g->x_start, .dz = t->dz, .images = t->images,
                        .rows = step->z_rows, .columns = g->dz_columns, .kernel_rows = g->kernel_rows,
                        .taps = g->kernel_columns, .filters = s->padded, .x_image = t->x_image,
                        .x_row = g->row_step * t->x_row, .x_pixel = g->column_step * s->padded,
                        .x_kernel_row = g->row_dilation * t->x_row, .dz_image = t->dz_image, .dz_row = t->dz_row,
                        .dz_pixel = s->padded, .dw = dw, .dw_row = s->padded};
    k->channels_sum(&sum, g->column_dilation * s->padded);
}

/* Floats of an image with zeros around it. */
static ptrdiff_t copied_image(const tc_program *p) {
    const tc_tensor *x = p->tensors;
    return (p->single->above + x->height + p->single->below) * x->row_stride;
}

/* Filters [f, f + width) of dw, summed over images [from, to). */
static void gradient_piece(const tc_program *p, const float *x, const float *dy, ptrdiff_t from, ptrdiff_t to,
                           ptrdiff_t f, ptrdiff_t width, float *memory, float *dw) {
    const tc_single *s = p->single;
    const tc_step *step = p->steps;
    const tc_tensor *input = p->tensors;
    ptrdiff_t columns = step->z_columns, filters = step->outputs, values = input->width * input->channels;
    ptrdiff_t x_image = input->height * values, dy_image = step->z_rows * columns * filters;
    int copy_x = s->joined && (input->left || input->right || s->above || s->below);
    stretch t = {.x_image = x_image, .x_row = values, .dz_image = dy_image, .dz_row = columns * filters};
    if (copy_x) t.x_row = input->row_stride, t.x_image = copied_image(p);
    if (s->padded != filters) t.dz_row = columns * s->padded, t.dz_image = step->z_rows * t.dz_row;
    for (ptrdiff_t image = from; image < to; image += s->group) {
        t.images = smaller(s->group, to - image);
        t.x = x + image * x_image, t.dz = dy + image * dy_image;
        if (copy_x) {
            for (ptrdiff_t i = 0; i < t.images; i++) {
                float *to = memory + i * t.x_image, *end = to + t.x_image;
                memset(to, 0, sizeof *to * (size_t)(s->above * t.x_row));
                copy_rows(t.x + i * x_image, input->height, values, input->left * input->channels,
                          input->right * input->channels, to + s->above * t.x_row);
                memset(end - s->below * t.x_row, 0, sizeof *to * (size_t)(s->below * t.x_row));
            }
            t.x = memory + s->above * t.x_row;
        }
        if (s->padded != filters) {
            float *dz = memory + s->group * copied_image(p);
            copy_rows(t.dz, t.images * step->z_rows * columns, filters, 0, s->padded - filters, dz);
            t.dz = dz;
        }
        if (s->depthwise) channels_gradient(p->kernels, step, s, &t, dw);
        for (ptrdiff_t first = 0; !s->depthwise && first < step->z_rows; first += s->strip)
            gradient_strip(p->kernels, step, s, &t, first, smaller(first + s->strip, step->z_rows), f, width, dw);
    }
}

int tc_single_backward_kernel(const tc_program *p, const float *x, const float *dy, ptrdiff_t n, int accumulate,
                              float *dw) {
    tc_single *s = p->single;
    const tc_step *step = p->steps;
    ptrdiff_t taps = step->forward.taps, filters = step->outputs, count = taps * s->padded;
    ptrdiff_t blocks = (s->padded + s->width - 1) / s->width, groups = (n + s->group - 1) / s->group;
    /* Slots of images, where the filters' blocks are too few pieces. */
    ptrdiff_t slots = smaller(smaller((PIECES + blocks - 1) / blocks, groups),
                              tc_max(1, SLOT_BYTES / (count * (ptrdiff_t)sizeof(float))));
    int direct = slots == 1 && !accumulate && s->padded == filters;
    ptrdiff_t size = round_up(s->group * (copied_image(p) + step->z_rows * step->z_columns * s->padded), 16);
    int threads = tc_threads_for(p->flops * (double)n, slots * blocks);
    single_memory *m = memory_take(s, (size_t)(size * threads + (direct ? 0 : slots * count)));
    if (!m) return TC_ERROR_MEMORY;
    float *memory = memory_floats(m), *sums = direct ? dw : memory + size * threads;
    ptrdiff_t rows = filters == s->padded ? tc_max(1, 2048 / filters) : 1; /* a share of the last sum */
    TC_PRAGMA(omp parallel num_threads(threads) if (threads > 1))
    {
        unsigned mode = tc_denormals_off();
        TC_PRAGMA(omp for schedule(dynamic, 1))
        for (ptrdiff_t i = 0; i < slots * blocks; i++) {
            ptrdiff_t slot = i / blocks, f = i % blocks * s->width, width = smaller(s->width, s->padded - f);
            float *to = sums + slot * count;
            for (ptrdiff_t t = 0; t < taps; t++) memset(to + t * s->padded + f, 0, sizeof *to * (size_t)width);
            gradient_piece(p, x, dy, smaller(n, slot * groups / slots * s->group),
                           smaller(n, (slot + 1) * groups / slots * s->group), f, width,
                           memory + size * tc_thread_number(), to);
        }
        if (!direct) {
            TC_PRAGMA(omp for schedule(static))
            for (ptrdiff_t t = 0; t < taps; t += rows) {
                float *to = dw + t * filters;
                ptrdiff_t values = smaller(rows, taps - t) * filters;
                if (!accumulate) p->kernels->sum_slots(sums + t * s->padded, count, slots, values, to);
                for (ptrdiff_t slot = 0; accumulate && slot < slots; slot++)
                    for (ptrdiff_t i = 0; i < values; i++) to[i] += sums[slot * count + t * s->padded + i];
            }
        }
        tc_denormals_restore(mode);
    }
    memory_return(s, m);
    return TC_OK;
}
