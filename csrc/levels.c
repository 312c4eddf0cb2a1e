/* Augmentation: brightness or contrast of every image changed by a number drawn for it. */
#include <string.h>

#include "block.h"
#include "random_key.h"

/* Room in scratch: for every channel a middle and a sum. */
static float *middles(const block *b) { return at(b, b->program->scratch_offset); }

/* The numbers of a block's images, a vector of factors and one of shifts into `numbers`, and the
 * channels' middles: 0, or the means that contrast leaves alone. */
static tc_levels draw_levels(const block *b, const tc_step *step, const tc_tensor *x, float *numbers) {
    const float *range = step->parameters;
    int contrast = step->function == TC_LEVELS_CONTRAST;
    ptrdiff_t lanes = b->k->lanes, row = x->width * x->channels;
    float *middle = middles(b), *factor = numbers, *shift = numbers + lanes;
    const tc_levels levels = {factor, shift, range[2], range[3]};
    for (int l = 0; l < lanes; l++) {
        uint64_t key = tc_random_key(b->program->seed, b->job->step, step->stream, (uint64_t)lane_image(b, l));
        float number = (float)tc_random_between(key, 0, range);
        factor[l] = contrast ? number : 1.0f, shift[l] = contrast ? 0.0f : number;
    }
    memset(middle, 0, sizeof(float) * (size_t)(x->channels * lanes));
    if (!contrast) return levels;
    for (ptrdiff_t a = 0; a < x->height; a++)
        b->k->level_sums(at(b, x->offset + a * row), x->width, x->channels, middle);
    b->k->scale(middle, middle, x->channels, 1.0f / (float)(x->height * x->width), 0.0f);
    return levels;
}

void tc_levels_forward(const block *b, const tc_step *step, const tc_tensor *x, const tc_tensor *y) {
    _Alignas(64) float numbers[2 * MAX_LANES];
    ptrdiff_t row = y->width * y->channels;
    tc_levels levels = {0};
    if (b->job->training) levels = draw_levels(b, step, x, numbers);
    for (ptrdiff_t a = 0; a < y->height; a++) {
        const float *from = at(b, x->offset + a * row);
        float *to = tensor_row(b, y, a);
        if (b->job->training) b->k->level_row(&levels, middles(b), from, y->width, y->channels, to);
        else memcpy(to, from, sizeof(float) * (size_t)(row * b->k->lanes));
    }
}

void tc_levels_backward(const block *b, ptrdiff_t i, float *dy) {
    const tc_step *step = &b->program->steps[i];
    const tc_tensor *x = &b->program->tensors[i];
    ptrdiff_t lanes = b->k->lanes, row = x->width * x->channels;
    float *sums = middles(b) + x->channels * lanes;
    _Alignas(64) float numbers[2 * MAX_LANES];
    const tc_levels levels = draw_levels(b, step, x, numbers);
    memset(sums, 0, sizeof(float) * (size_t)(x->channels * lanes));
    for (ptrdiff_t a = 0; a < x->height; a++)
        b->k->level_row_backward(&levels, middles(b), at(b, x->offset + a * row), x->width, x->channels,
                                 dy + a * row * lanes, sums);
    if (step->function != TC_LEVELS_CONTRAST) return;
    b->k->scale(sums, sums, x->channels, 1.0f / (float)(x->height * x->width), 0.0f);
    b->k->level_spread(levels.factor, sums, x->height * x->width, x->channels, dy);
}
