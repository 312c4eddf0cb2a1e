/* What a training step computes where layers are frozen: prints, for every set of trainable
 * weights given on the command line as a string of 0 and 1, how many kernel gradients, bias
 * gradients and correlations one step of one block takes, and how many correlations forward. */
#include <stdio.h>
#include <stdlib.h>

#include "program.h"

enum { SIDE = 6, OPS = 4, WEIGHTS = 8 };

static const tc_kernels *kernels;
static int kernel_gradients, bias_gradients, correlations;

static void count_weight_gradient(const tc_weight_gradient *g, ptrdiff_t first, ptrdiff_t last, const float *x,
                                  const float *dz, float *dw) {
    kernel_gradients += first == 0;
    kernels->weight_gradient(g, first, last, x, dz, dw);
}

static void count_dense_gradient(const float *x, const float *dz, ptrdiff_t inputs, ptrdiff_t units, float *dw,
                                 float *scratch) {
    kernel_gradients++;
    kernels->dense_weight_gradient(x, dz, inputs, units, dw, scratch);
}

static void count_bias_gradient(const float *dz, ptrdiff_t rows, ptrdiff_t row_stride, ptrdiff_t columns,
                                ptrdiff_t channels, float *db) {
    bias_gradients++;
    kernels->bias_gradient(dz, rows, row_stride, columns, channels, db);
}

static void count_correlation(const tc_correlation *g, ptrdiff_t a, ptrdiff_t first, ptrdiff_t last, const float *x,
                              const float *packed, const float *bias, int relu, float *y) {
    correlations += a == 0;
    kernels->correlate_tiles(g, a, first, last, x, packed, bias, relu, y);
}

static void count_image(const tc_correlation *g, const float *x, const float *packed, const float *bias, int relu,
                        float *y, ptrdiff_t y_row) {
    correlations++;
    kernels->correlate_image(g, x, packed, bias, relu, y, y_row);
}

static int run(const char *trainable) {
    tc_op ops[OPS];
    for (int i = 0; i < OPS; i++)
        ops[i] = (tc_op){.kind = TC_OP_CONV2D, .in_height = SIDE, .in_width = SIDE, .in_channels = 2,
                         .out_height = SIDE, .out_width = SIDE, .out_channels = 2, .window_height = 3,
                         .window_width = 3,
                         .stride_height = 1, .stride_width = 1, .dilation_height = 1, .dilation_width = 1,
                         .pad_top = 1, .pad_left = 1, .kernel = 2 * i, .bias = 2 * i + 1};
    tc_op *last = &ops[OPS - 1];
    *last = (tc_op){.kind = TC_OP_DENSE, .in_height = 1, .in_width = 1, .in_channels = 2 * SIDE * SIDE, .out_height = 1,
                    .out_width = 1, .out_channels = 2, .kernel = 6, .bias = 7};
    static float values[WEIGHTS][2 * 2 * SIDE * SIDE], x[2 * SIDE * SIDE], y[2], outputs[2];
    static float *gradients[WEIGHTS], room[WEIGHTS][2 * 2 * SIDE * SIDE];
    tc_weight weights[WEIGHTS];
    for (int i = 0; i < WEIGHTS; i++) {
        weights[i] = (tc_weight){.values = values[i], .count = i % 2 ? 2 : i == 6 ? 4 * SIDE * SIDE : 36,
                                 .trainable = trainable[i] == '1'};
        for (ptrdiff_t k = 0; k < weights[i].count; k++) values[i][k] = 0.01f * (float)(k % 7 - 3);
        gradients[i] = room[i];
    }
    tc_program *program;
    int status = tc_program_create(ops, OPS, weights, WEIGHTS, 1, &program);
    if (status != TC_OK) return status;
    kernels = program->kernels;
    tc_kernels counting = *kernels;
    counting.weight_gradient = count_weight_gradient, counting.dense_weight_gradient = count_dense_gradient;
    counting.bias_gradient = count_bias_gradient, counting.correlate_tiles = count_correlation;
    counting.correlate_image = count_image;
    program->kernels = &counting;
    const tc_batch batch = {.x = x, .y = y, .n = 1};
    const tc_objective objective = {.loss = TC_LOSS_MEAN_SQUARED_ERROR};
    double sums[1];
    correlations = kernel_gradients = bias_gradients = 0;
    status = tc_evaluate(program, &batch, &objective, sums, outputs);
    int forward = correlations;
    correlations = 0;
    if (status == TC_OK) status = tc_gradients(program, &batch, &objective, 1, 0, sums, gradients, NULL);
    printf("%d %d %d %d\n", kernel_gradients, bias_gradients, correlations, forward);
    program->kernels = kernels;
    tc_program_destroy(program);
    return status;
}

int main(int count, char **sets) {
    int status = TC_OK;
    for (int i = 1; i < count && status == TC_OK; i++) status = run(sets[i]);
    return status;
}
