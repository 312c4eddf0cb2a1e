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

void tc_few_prelu(const tc_program *p, const tc_slopes *s, float *m, const few_tensor *x, const few_tensor *y) {
    for (ptrdiff_t a = 0; a < y->height; a++) {
        const float *from = m + x->offset + a * x->row_stride + x->left * x->padded, *slopes = row_slopes(p, s, a);
        float *to = m + y->offset + a * y->row_stride + y->left * y->padded;
        for (ptrdiff_t j = 0; j < y->width; j++)
            for (ptrdiff_t c = 0; c < y->channels; c++) {
                float value = from[j * x->padded + c];
                to[j * y->padded + c] = value < 0 ? slopes[j * s->column + c * s->channel] * value : value;
            }
    }
}
