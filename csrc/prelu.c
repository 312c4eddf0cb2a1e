/* Rectifiers whose slopes are trained, in blocks and for one image. */
#include "block.h"
#include "few_steps.h"

/* The slopes of row `a`, from those of the first. */
static const float *row_slopes(const tc_program *p, const tc_slopes *s, ptrdiff_t a) {
    return p->weights[s->weight].values + a * s->row;
}

void tc_prelu_forward(const block *b, ptrdiff_t i) {
    const tc_slopes *s = &b->program->steps[i].slopes;
    const tc_tensor *x = &b->program->tensors[i], *y = x + 1;
    for (ptrdiff_t a = 0; a < y->height; a++)
        b->k->prelu_row(at(b, x->offset + a * y->width * y->channels), y->width, y->channels,
                        row_slopes(b->program, s, a), s->column, s->channel, tensor_row(b, y, a));
}

void tc_prelu_backward(const block *b, ptrdiff_t i, float *dy) {
    const tc_slopes *s = &b->program->steps[i].slopes;
    const tc_tensor *x = &b->program->tensors[i], *y = x + 1;
    float *dslopes = gradient_of(b, s->weight);
    ptrdiff_t row = y->width * y->channels;
    for (ptrdiff_t a = 0; a < y->height; a++) {
        float *d = dy + a * row * b->k->lanes;
        b->k->prelu_row_backward(at(b, x->offset + a * row), d, y->width, y->channels, row_slopes(b->program, s, a),
                                 s->column, s->channel, dslopes ? dslopes + a * s->row : NULL, d);
    }
}

/* n channels of a pixel, whose slopes are `step` apart. */
static inline void few_prelu_pixel(const float *restrict x, const float *restrict slopes, ptrdiff_t step, ptrdiff_t n,
                                   float *restrict y) {
    for (ptrdiff_t c = 0; c < n; c++) y[c] = x[c] < 0 ? slopes[c * step] * x[c] : x[c];
}

void tc_few_prelu(const tc_program *p, const tc_slopes *s, float *m, const few_tensor *x, const few_tensor *y) {
    for (ptrdiff_t a = 0; a < y->height; a++) {
        const float *from = m + x->offset + a * x->row_stride + x->left * x->padded, *slopes = row_slopes(p, s, a);
        float *to = m + y->offset + a * y->row_stride + y->left * y->padded;
        for (ptrdiff_t j = 0; j < y->width; j++, from += x->padded, to += y->padded, slopes += s->column)
            if (s->channel) few_prelu_pixel(from, slopes, 1, y->channels, to);
            else few_prelu_pixel(from, slopes, 0, y->channels, to);
    }
}
