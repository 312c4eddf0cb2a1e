/* Augmentation: an affine map for every image, drawn from its random numbers. */
#include <math.h>
#include <string.h>

#include "block.h"
#include "random_key.h"

/* m: x = m[0] b + m[1] a + m[2] and y = m[3] b + m[4] a + m[5] are what the pixel in row a, column b
 * reads; transform as in tinyconv/engine/program.py. */
static void draw_map(const tc_step *step, uint64_t key, double *m) {
    const float *range = step->parameters;
    const uint32_t second = step->tied ? 0 : 1;
    double cx = 0.5 * (double)(step->affine.columns - 1), cy = 0.5 * (double)(step->affine.rows - 1);
    double a0 = 1, a1 = 0, b0 = 0, b1 = 1, dx = 0, dy = 0;
    switch (step->function) {
    case TC_TRANSFORM_FLIP:
        if ((tc_random_bits(key, 0) >> 8) > 1u << 23) break;
        a0 = range[0] != 0 ? -1 : 1, b1 = range[1] != 0 ? -1 : 1;
        break;
    case TC_TRANSFORM_TRANSLATION:
        dy = tc_random_between(key, 0, range) * (double)step->affine.rows;
        dx = tc_random_between(key, second, range + 2) * (double)step->affine.columns;
        break;
    case TC_TRANSFORM_ROTATION: {
        double angle = 6.283185307179586 * tc_random_between(key, 0, range);
        a0 = b1 = cos(angle), b0 = sin(angle), a1 = -b0;
        break;
    }
    default: b1 = 1 + tc_random_between(key, 0, range), a0 = 1 + tc_random_between(key, second, range + 2);
    }
    /* About the middle of the image. */
    m[0] = a0, m[1] = a1, m[2] = cx - a0 * cx - a1 * cy - dx;
    m[3] = b0, m[4] = b1, m[5] = cy - b0 * cx - b1 * cy - dy;
}

static void draw_maps(const block *b, const tc_step *step, float *maps) {
    for (int l = 0; l < b->k->lanes; l++) {
        double m[6];
        draw_map(step, tc_random_key(b->program->seed, b->job->step, step->stream, (uint64_t)lane_image(b, l)), m);
        for (int i = 0; i < 6; i++) maps[i * b->k->lanes + l] = (float)m[i];
    }
}

void tc_affine_forward(const block *b, const tc_step *step, const tc_tensor *x, const tc_tensor *y) {
    _Alignas(64) float maps[6 * MAX_LANES];
    ptrdiff_t row = y->width * y->channels;
    if (b->job->training) draw_maps(b, step, maps);
    for (ptrdiff_t a = 0; a < y->height; a++) {
        if (b->job->training) b->k->affine_row(&step->affine, maps, a, at(b, x->offset), tensor_row(b, y, a));
        else memcpy(tensor_row(b, y, a), at(b, x->offset + a * row), sizeof(float) * (size_t)(row * b->k->lanes));
    }
}

void tc_affine_backward(const block *b, const tc_step *step, const float *dy, float *dx) {
    _Alignas(64) float maps[6 * MAX_LANES];
    ptrdiff_t row = step->affine.columns * step->affine.channels * b->k->lanes;
    draw_maps(b, step, maps);
    memset(dx, 0, sizeof(float) * (size_t)(step->affine.rows * row));
    for (ptrdiff_t a = 0; a < step->affine.rows; a++)
        b->k->affine_row_backward(&step->affine, maps, a, dy + a * row, dx);
}
