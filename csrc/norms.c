/* Batch normalization: statistics of a batch from those of its blocks, and what follows.
 *
 * Blocks of one slot are merged in their order, and slots in theirs, in double precision, by
 * the formula of Chan, Golub and LeVeque (Updating formulae and a pairwise algorithm for
 * computing sample variances, 1979): the result depends on the batch alone, not on threads,
 * and a mean that is large beside the deviations from it costs no digits. */
#include "norms.h"

#include <math.h>
#include <string.h>

static float *numbers(const job *j, const tc_norm *norm, enum tc_norm_number which) {
    return j->norms + norm->offset + which * norm->channels;
}

/* Row `row` of what step i reads.  A reshape may lie before it: the shape is that of what it
 * writes, and the values are contiguous. */
static float *input_row(const block *b, ptrdiff_t i, ptrdiff_t row) {
    const tc_tensor *x = &b->program->tensors[i], *y = x + 1;
    return at(b, x->offset + row * y->width * y->channels);
}

static const float *values_or_null(const tc_program *p, int weight) {
    return weight < 0 ? NULL : p->weights[weight].values;
}

/* Inverse, scale and beta of channel c, for a variance. */
static void set_scale(const job *j, const tc_norm *norm, ptrdiff_t c, double variance) {
    const float *gamma = values_or_null(j->program, norm->gamma), *beta = values_or_null(j->program, norm->beta);
    double inverse = 1.0 / sqrt(variance + norm->epsilon);
    numbers(j, norm, TC_NORM_INVERSE)[c] = (float)inverse;
    numbers(j, norm, TC_NORM_SCALE)[c] = (float)(gamma ? gamma[c] * inverse : inverse);
    numbers(j, norm, TC_NORM_BETA)[c] = beta ? beta[c] : 0.0f;
}

void tc_norm_fold(const tc_program *p, const tc_norm *norm, const float *kernel, ptrdiff_t rows, const float *bias,
                  float *folded, float *folded_bias) {
    const float *gamma = values_or_null(p, norm->gamma), *beta = values_or_null(p, norm->beta);
    const float *mean = p->weights[norm->mean].values, *variance = p->weights[norm->variance].values;
    for (ptrdiff_t c = 0; c < norm->channels; c++) {
        double deviation = sqrt(variance[c] + norm->epsilon);
        double scale = norm->inverse ? deviation : (gamma ? gamma[c] : 1.0) / deviation, b = bias ? bias[c] : 0.0;
        for (ptrdiff_t i = c; i < rows * norm->channels; i += norm->channels)
            folded[i] = (float)((kernel ? kernel[i] : 1.0) * scale);
        folded_bias[c] = (float)(norm->inverse ? b * scale + mean[c]
                                               : (b - mean[c]) * scale + (beta ? beta[c] : 0.0));
    }
}

void tc_norms_prepare(const job *j) {
    const tc_program *p = j->program;
    for (const tc_norm *norm = p->norms; norm < p->norms + p->norm_count; norm++) {
        size_t bytes = sizeof(float) * (size_t)norm->channels;
        const float *mean = p->weights[norm->mean].values;
        memcpy(numbers(j, norm, TC_NORM_MEAN), mean, bytes);
        memset(numbers(j, norm, TC_NORM_DY_MEAN), 0, bytes);
        memset(numbers(j, norm, TC_NORM_SLOPE), 0, bytes);
        const float *variance = p->weights[norm->variance].values;
        for (ptrdiff_t c = 0; c < norm->channels; c++) set_scale(j, norm, c, variance[c]);
        for (ptrdiff_t c = 0; norm->inverse && c < norm->channels; c++) {
            numbers(j, norm, TC_NORM_MEAN)[c] = 0;
            numbers(j, norm, TC_NORM_SCALE)[c] = (float)sqrt(variance[c] + norm->epsilon);
            numbers(j, norm, TC_NORM_BETA)[c] = mean[c];
        }
    }
}

/* ---- statistics ---------------------------------------------------------------------- */

void tc_norm_reset(const block *b) {
    memset(b->statistics, 0, sizeof *b->statistics * (size_t)tc_norm_statistics_size(b->program));
}

/* count, mean and deviations of a set of values take in those of another. */
static void merge(double *statistics, double n, const double *mean, const double *deviations, ptrdiff_t channels) {
    double before = statistics[0], all = before + n, *own_mean = statistics + 1, *own = own_mean + channels;
    for (ptrdiff_t c = 0; c < channels; c++) {
        double apart = mean[c] - own_mean[c];
        own_mean[c] += apart * (n / all);
        own[c] += deviations[c] + apart * apart * (before * (n / all));
    }
    statistics[0] = all;
}

void tc_norm_measure(const block *b, ptrdiff_t i) {
    const tc_tensor *y = &b->program->tensors[i + 1];
    double *mean = b->statistics + 1 + 2 * y->channels, *deviations = mean + y->channels;
    b->k->norm_statistics(input_row(b, i, 0), y->height, y->width, y->channels, b->count, mean, deviations);
    merge(b->statistics, (double)y->height * (double)y->width * b->count, mean, deviations, y->channels);
}

void tc_norm_merge(const job *j, ptrdiff_t i, double *statistics, int update) {
    const tc_program *p = j->program;
    const tc_norm *norm = p->steps[i].norm;
    ptrdiff_t size = tc_norm_statistics_size(p), channels = norm->channels;
    for (ptrdiff_t slot = 1; slot < j->slots; slot++) {
        const double *other = statistics + slot * size;
        merge(statistics, other[0], other + 1, other + 1 + channels, channels);
    }
    float *moving_mean = p->weights[norm->mean].values, *moving_variance = p->weights[norm->variance].values;
    for (ptrdiff_t c = 0; c < channels; c++) {
        double mean = statistics[1 + c], variance = statistics[1 + channels + c] / statistics[0];
        numbers(j, norm, TC_NORM_MEAN)[c] = (float)mean;
        set_scale(j, norm, c, variance);
        if (!update) continue;
        moving_mean[c] = (float)(moving_mean[c] * norm->momentum + mean * (1.0 - norm->momentum));
        moving_variance[c] = (float)(moving_variance[c] * norm->momentum + variance * (1.0 - norm->momentum));
    }
}

/* ---- forward ------------------------------------------------------------------------- */

void tc_norm_forward(const block *b, ptrdiff_t i) {
    const tc_step *step = &b->program->steps[i];
    const tc_tensor *y = &b->program->tensors[i + 1];
    const tc_norm *norm = step->norm;
    int relu = tc_is_plain_relu(step->function, step->parameters);
    for (ptrdiff_t row = 0; row < y->height; row++) {
        float *to = tensor_row(b, y, row);
        b->k->normalize(input_row(b, i, row), y->width, y->channels, numbers(b->job, norm, TC_NORM_MEAN),
                        numbers(b->job, norm, TC_NORM_SCALE), numbers(b->job, norm, TC_NORM_BETA), relu, to);
        if (!relu && step->function != TC_LINEAR)
            b->k->activation(step->function, step->parameters, to, to, y->width * y->channels);
    }
}

/* ---- backward ------------------------------------------------------------------------ */

/* With moving statistics: sums to the slot's gradients, and dy times the scale. */
static void backward_alone(const block *b, ptrdiff_t i, int downward, float *dy) {
    const tc_tensor *y = &b->program->tensors[i + 1];
    const tc_norm *norm = b->program->steps[i].norm;
    const float *mean = numbers(b->job, norm, TC_NORM_MEAN), *scale = numbers(b->job, norm, TC_NORM_SCALE);
    float *dgamma = gradient_of(b, norm->gamma), *dbeta = gradient_of(b, norm->beta);
    ptrdiff_t pixels = y->height * y->width;
    if (dgamma || dbeta) {
        /* The slot's statistics may be those of a norm above: a block's place is free. */
        double *sums = b->statistics + 1 + 2 * b->program->widest_norm;
        memset(sums, 0, sizeof *sums * (size_t)(2 * norm->channels));
        b->k->norm_sums(input_row(b, i, 0), dy, pixels, norm->channels, b->count, mean,
                        numbers(b->job, norm, TC_NORM_INVERSE), sums);
        for (ptrdiff_t c = 0; c < norm->channels; c++) {
            if (dbeta) dbeta[c] += (float)sums[c];
            if (dgamma) dgamma[c] += (float)sums[norm->channels + c];
        }
    }
    if (downward)
        b->k->normalize(dy, pixels, norm->channels, numbers(b->job, norm, TC_NORM_DY_MEAN), scale,
                        numbers(b->job, norm, TC_NORM_SLOPE), 0, dy);
}

void tc_norm_backward(const block *b, ptrdiff_t i, float *dy) {
    const tc_tensor *y = &b->program->tensors[i + 1];
    const tc_norm *norm = b->program->steps[i].norm;
    int downward = i > b->program->lowest || b->job->input_gradient;
    if (!tc_norm_is_live(b->job, i)) {
        backward_alone(b, i, downward, dy);
        return;
    }
    b->k->norm_sums(input_row(b, i, 0), dy, y->height * y->width, norm->channels, b->count,
                    numbers(b->job, norm, TC_NORM_MEAN), numbers(b->job, norm, TC_NORM_INVERSE), b->statistics + 1);
    ptrdiff_t row = y->width * y->channels * b->k->lanes;
    for (ptrdiff_t a = 0; downward && a < y->height; a++)
        memcpy(tensor_row(b, y, a), dy + a * row, sizeof(float) * (size_t)row);
}

void tc_norm_merge_gradients(const job *j, ptrdiff_t i, const double *statistics, float *slot) {
    const tc_program *p = j->program;
    const tc_tensor *y = &p->tensors[i + 1];
    const tc_norm *norm = p->steps[i].norm;
    ptrdiff_t size = tc_norm_statistics_size(p), channels = norm->channels;
    ptrdiff_t dgamma = norm->gamma < 0 ? -1 : p->gradient_offset[norm->gamma];
    ptrdiff_t dbeta = norm->beta < 0 ? -1 : p->gradient_offset[norm->beta];
    double n = (double)y->height * (double)y->width * (double)j->batch->n;
    for (ptrdiff_t c = 0; c < channels; c++) {
        double sum = 0, product = 0;
        for (ptrdiff_t s = 0; s < j->slots; s++) {
            sum += statistics[s * size + 1 + c];
            product += statistics[s * size + 1 + channels + c];
        }
        if (dbeta >= 0) slot[dbeta + c] = (float)sum;
        if (dgamma >= 0) slot[dgamma + c] = (float)product;
        numbers(j, norm, TC_NORM_DY_MEAN)[c] = (float)(sum / n);
        numbers(j, norm, TC_NORM_SLOPE)[c] = (float)(product / n * numbers(j, norm, TC_NORM_INVERSE)[c]);
    }
}

void tc_norm_resume(const block *b, ptrdiff_t i, float *dx) {
    const tc_tensor *y = &b->program->tensors[i + 1];
    const tc_norm *norm = b->program->steps[i].norm;
    for (ptrdiff_t row = 0; row < y->height; row++)
        b->k->norm_backward(input_row(b, i, row), tensor_row(b, y, row), y->width, y->channels, b->count,
                            numbers(b->job, norm, TC_NORM_MEAN), numbers(b->job, norm, TC_NORM_SCALE),
                            numbers(b->job, norm, TC_NORM_DY_MEAN), numbers(b->job, norm, TC_NORM_SLOPE),
                            dx + row * y->width * y->channels * b->k->lanes);
}
