/* The gradient of one convolution's kernel, straight from NHWC arrays: sums of outer products
 * with filters in the lanes. */
#include <string.h>

#include "cpu.h"
#include "single_parts.h"
#include "threads.h"

/* Floats of dz, of FILTERS filters, that stay in L1 while the taps pass over them. */
#define STRIP_FLOATS (6 * 1024)
/* Taps of a kernel row that are too few for a tile of their own. */
#define STACKED_TAPS 6
/* Of a convolution in groups the taps of a kernel row and column, and the kernel rows that share a tile. */
#define GROUPED_TAPS 8
#define GROUPED_ROWS 3
#define SLOT_BYTES ((ptrdiff_t)64 << 20)

void tc_single_plan_gradient(const tc_program *p, tc_single *s) {
    const tc_step *step = p->steps;
    const tc_weight_gradient *g = &step->gradient;
    ptrdiff_t rows = step->forward.y_rows;
    int margins = s->image.left || s->image.right;
    s->joined = g->kernel_columns == 1 ||
                (g->groups == 1 && g->column_dilation == 1 && (!margins || g->x_channels < 32));
    s->stacked = s->joined && g->kernel_rows > 1 && g->kernel_columns * g->x_channels <= STACKED_TAPS;
    if (s->stacked) {
        s->above = g->pad_top;
        s->below = tc_max(0, (rows - 1) * g->row_step + (g->kernel_rows - 1) * g->row_dilation - g->pad_top -
                                 (g->x_rows - 1));
    }
    s->together = g->groups > 1 && g->x_channels <= GROUPED_TAPS ? GROUPED_ROWS : 1;
    s->padded = s->depthwise ? g->filters : round_up(g->filters, p->kernels->narrow);
    s->width = s->depthwise ? s->padded : FILTERS;
    while (g->groups > 1 && !s->depthwise && g->filters / g->groups % s->width) s->width -= p->kernels->narrow;
    ptrdiff_t pixels = rows * g->dz_columns, most = STRIP_FLOATS / smaller(FILTERS, s->padded);
    ptrdiff_t strips = smaller((pixels + most - 1) / most, rows);
    s->group = tc_max(1, most / pixels);
    s->strip = (rows + strips - 1) / strips;
}

/* The images that a gradient is summed over at a time, as the outer sums read them. */
typedef struct stretch {
    const float *x, *dz;
    ptrdiff_t images, x_image, x_row, dz_image, dz_row;
} stretch;

/* Kernel rows [i, i + count), from rows [a0, a1) of the stretch: filters [f, f + width) of dw (taps, padded),
 * accumulated. */
static void gradient_rows(const tc_kernels *k, const tc_step *step, const tc_single *s, const stretch *t, ptrdiff_t i,
                          ptrdiff_t count, ptrdiff_t a0, ptrdiff_t a1, ptrdiff_t f, ptrdiff_t width, float *dw) {
    if (a0 >= a1) return;
    const tc_weight_gradient *g = &step->gradient;
    ptrdiff_t stretches = s->joined ? 1 : g->kernel_columns, taps = g->x_channels * g->kernel_columns / stretches;
    ptrdiff_t pixel = g->x_column_stride, group = f / (s->padded / g->groups) * g->x_channels;
    tc_outer_sum sum = {.images = t->images, .rows = a1 - a0, .kernel_rows = count, .taps = taps, .filters = width,
                        .x_image = t->x_image, .x_row = g->row_step * t->x_row, .x_pixel = g->column_step * pixel,
                        .x_kernel_row = g->row_dilation * t->x_row, .dz_image = t->dz_image, .dz_row = t->dz_row,
                        .dz_pixel = s->padded, .dw_row = s->padded,
                        .dw_kernel_row = g->kernel_columns * g->x_channels * s->padded};
    ptrdiff_t left = s->joined ? 0 : (step->forward.x_start - g->x_start) / pixel;
    const float *x = t->x + (a0 * g->row_step + i * g->row_dilation - g->pad_top) * t->x_row + group;
    for (ptrdiff_t j = 0; j < stretches; j++) {
        ptrdiff_t at = j * g->column_dilation - left, b0 = 0, b1 = g->dz_columns;
        if (!s->joined) {
            while (b0 < b1 && b0 * g->column_step + at < 0) b0++;
            while (b1 > b0 && (b1 - 1) * g->column_step + at >= step->forward.x_columns) b1--;
        }
        sum.columns = b1 - b0;
        sum.x = x + (b0 * g->column_step + at) * pixel;
        sum.dz = t->dz + a0 * t->dz_row + b0 * s->padded + f;
        sum.dw = dw + (i * stretches + j) * taps * s->padded + f;
        if (sum.columns) k->outer_sum(&sum);
    }
}

/* Rows of dz among [first, last) for which kernel row i lies in the image. */
static void image_rows(const tc_weight_gradient *g, ptrdiff_t i, ptrdiff_t *first, ptrdiff_t *last) {
    ptrdiff_t shift = i * g->row_dilation - g->pad_top;
    while (*first < *last && *first * g->row_step + shift < 0) ++*first;
    while (*last > *first && (*last - 1) * g->row_step + shift >= g->x_rows) --*last;
}

/* All kernel rows, from rows [first, last) of the stretch. */
static void gradient_strip(const tc_kernels *k, const tc_step *step, const tc_single *s, const stretch *t,
                           ptrdiff_t first, ptrdiff_t last, ptrdiff_t f, ptrdiff_t width, float *dw) {
    const tc_weight_gradient *g = &step->gradient;
    if (s->stacked) {
        gradient_rows(k, step, s, t, 0, g->kernel_rows, first, last, f, width, dw);
        return;
    }
    for (ptrdiff_t i = 0; i < g->kernel_rows; i += s->together) {
        /* Rows that all of these kernel rows have; the others come kernel row by kernel row. */
        ptrdiff_t count = smaller(s->together, g->kernel_rows - i), low = first, high = last, end = last;
        image_rows(g, i, &low, &end);
        end = first;
        image_rows(g, i + count - 1, &end, &high);
        high = tc_max(low, high);
        gradient_rows(k, step, s, t, i, count, low, high, f, width, dw);
        for (ptrdiff_t r = i; count > 1 && r < i + count; r++) {
            ptrdiff_t a0 = first, a1 = last;
            image_rows(g, r, &a0, &a1);
            gradient_rows(k, step, s, t, r, 1, a0, smaller(a1, low), f, width, dw);
            gradient_rows(k, step, s, t, r, 1, tc_max(a0, high), a1, f, width, dw);
        }
    }
}

/* Floats of an image with zeros around it. */
static ptrdiff_t copied_image(const tc_single *s) {
    return (s->above + s->image.height + s->below) * s->image.row_stride;
}

/* Filters [f, f + width) of dw, summed over images [from, to). */
static void gradient_piece(const tc_program *p, const float *x, const float *dy, ptrdiff_t from, ptrdiff_t to,
                           ptrdiff_t f, ptrdiff_t width, float *memory, float *dw) {
    const tc_single *s = p->single;
    const tc_step *step = p->steps;
    const tc_tensor *input = &s->image;
    ptrdiff_t rows = step->forward.y_rows, columns = step->gradient.dz_columns, filters = step->gradient.filters;
    ptrdiff_t values = input->width * input->channels;
    ptrdiff_t x_image = input->height * values, dy_image = rows * columns * filters;
    int copy_x = s->joined && (input->left || input->right || s->above || s->below);
    stretch t = {.x_image = x_image, .x_row = values, .dz_image = dy_image, .dz_row = columns * filters};
    if (s->depthwise) {
        p->kernels->channels_gradient(s->forward.phases, to - from, x + from * x_image, x_image, dy + from * dy_image,
                                      dy_image, dw);
        return;
    }
    if (copy_x) t.x_row = input->row_stride, t.x_image = copied_image(s);
    if (s->padded != filters) t.dz_row = columns * s->padded, t.dz_image = rows * t.dz_row;
    for (ptrdiff_t image = from; image < to; image += s->group) {
        t.images = smaller(s->group, to - image);
        t.x = x + image * x_image, t.dz = dy + image * dy_image;
        if (copy_x) {
            for (ptrdiff_t i = 0; i < t.images; i++) {
                float *to = memory + i * t.x_image, *end = to + t.x_image;
                memset(to, 0, sizeof *to * (size_t)(s->above * t.x_row));
                tc_single_copy_rows(t.x + i * x_image, input->height, values, input->left * input->channels,
                                    input->right * input->channels, to + s->above * t.x_row);
                memset(end - s->below * t.x_row, 0, sizeof *to * (size_t)(s->below * t.x_row));
            }
            t.x = memory + s->above * t.x_row;
        }
        if (s->padded != filters) {
            float *dz = memory + s->group * copied_image(s);
            tc_single_copy_rows(t.dz, t.images * rows * columns, filters, 0, s->padded - filters, dz);
            t.dz = dz;
        }
        for (ptrdiff_t first = 0; first < rows; first += s->strip)
            gradient_strip(p->kernels, step, s, &t, first, smaller(first + s->strip, rows), f, width, dw);
    }
}

int tc_single_backward_kernel(const tc_program *p, const float *x, const float *dy, ptrdiff_t n, int accumulate,
                              float *dw) {
    tc_single *s = p->single;
    const tc_step *step = p->steps;
    if (s->transposed) {
        const float *swap = x;
        x = dy, dy = swap;
    }
    ptrdiff_t taps = step->forward.taps, filters = step->gradient.filters, count = taps * s->padded;
    ptrdiff_t blocks = (s->padded + s->width - 1) / s->width, groups = (n + s->group - 1) / s->group;
    /* Slots of images, where the filters' blocks are too few pieces. */
    ptrdiff_t slots = smaller(smaller((PIECES + blocks - 1) / blocks, groups),
                              tc_max(1, SLOT_BYTES / (count * (ptrdiff_t)sizeof(float))));
    int direct = slots == 1 && !accumulate && s->padded == filters;
    ptrdiff_t dz_image = step->forward.y_rows * step->gradient.dz_columns * s->padded;
    ptrdiff_t size = round_up(s->group * (copied_image(s) + dz_image), 16);
    int threads = tc_threads_for(p->flops * (double)n, slots * blocks);
    single_memory *m = tc_single_take(s, (size_t)(size * threads + (direct ? 0 : slots * count)));
    if (!m) return TC_ERROR_MEMORY;
    float *memory = tc_single_floats(m), *sums = direct ? dw : memory + size * threads;
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
    tc_single_return(s, m);
    return TC_OK;
}
