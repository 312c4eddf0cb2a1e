/* The engine from C alone: trains a small network through csrc/tinyconv.h, predicts one
 * image and many, and prints the first and last loss and the largest difference. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tinyconv.h"

enum { SIDE = 8, SAMPLES = 90, STEPS = 60, WEIGHTS = 4 };

/* A bar that lies or stands, one pixel of noise. */
static void draw(float *x, int32_t *y) {
    for (int i = 0; i < SAMPLES; i++) {
        y[i] = i % 2;
        for (int p = 0; p < SIDE * SIDE; p++) {
            int row = p / SIDE, column = p % SIDE;
            x[i * SIDE * SIDE + p] = (y[i] ? row : column) == i % 5 + 1;
        }
        x[i * SIDE * SIDE + i * 7 % (SIDE * SIDE)] = 0.5f;
    }
}

/* Whether operations with numbers that lead out of arrays are refused. */
static int refuses(void) {
    const float factors[] = {NAN, INFINITY, 1.5f, -1.5f};
    const ptrdiff_t shapes[][5] = {{-1, -1, 1, 1, 6}, {1, 0, 1, 1, 6}, {1, 4, 1, 1, 1},
                                   {(ptrdiff_t)1 << 62, 4, 1, 1, 6}};
    float values[6] = {0};
    int refused = 1;
    for (int i = 0; i < 4; i++) {
        tc_op op = {.kind = TC_OP_RANDOM_AFFINE, .in_height = 1, .in_width = 1, .in_channels = 6, .out_height = 1,
                    .out_width = 1, .out_channels = 6, .function = TC_TRANSFORM_ZOOM, .kernel = -1, .bias = -1};
        tc_weight weight = {.values = values, .count = 6, .trainable = 1, .constraint = TC_CONSTRAINT_NORM};
        tc_program *program;
        op.parameters[i] = factors[i];
        refused &= tc_program_create(&op, 1, NULL, 0, 1, &program) == TC_ERROR_ARGUMENT;
        op.kind = TC_OP_RANDOM_LEVELS, op.function = TC_LEVELS_CONTRAST;
        refused &= tc_program_create(&op, 1, NULL, 0, 1, &program) == TC_ERROR_ARGUMENT;
        op.kind = TC_OP_RANDOM_AFFINE, op.function = TC_TRANSFORM_ZOOM;
        op.parameters[i] = 0;
        for (int k = 0; k < 5; k++) weight.constraint_shape[k] = shapes[i][k];
        refused &= tc_program_create(&op, 1, &weight, 1, 1, &program) == TC_ERROR_ARGUMENT;
    }
    return refused;
}

int main(void) {
    if (!refuses()) return TC_ERROR_ARGUMENT;
    const tc_op ops[] = {
        {.kind = TC_OP_CONV2D, .in_height = SIDE, .in_width = SIDE, .in_channels = 1, .out_height = SIDE,
         .out_width = SIDE, .out_channels = 4, .window_height = 3, .window_width = 3, .stride_height = 1,
         .stride_width = 1, .dilation_height = 1, .dilation_width = 1, .pad_top = 1, .pad_left = 1,
         .kernel = 0, .bias = 1},
        {.kind = TC_OP_ACTIVATION, .in_height = SIDE, .in_width = SIDE, .in_channels = 4, .out_height = SIDE,
         .out_width = SIDE, .out_channels = 4, .function = TC_TANH, .kernel = -1, .bias = -1},
        {.kind = TC_OP_MAX_POOL2D, .in_height = SIDE, .in_width = SIDE, .in_channels = 4, .out_height = 1,
         .out_width = 1, .out_channels = 4, .window_height = SIDE, .window_width = SIDE, .stride_height = SIDE,
         .stride_width = SIDE, .dilation_height = 1, .dilation_width = 1, .kernel = -1, .bias = -1},
        {.kind = TC_OP_DENSE, .in_height = 1, .in_width = 1, .in_channels = 4, .out_height = 1, .out_width = 1,
         .out_channels = 2, .kernel = 2, .bias = 3},
    };
    const ptrdiff_t counts[WEIGHTS] = {36, 4, 8, 2};
    tc_weight weights[WEIGHTS];
    float *states[WEIGHTS * TC_MAX_STATES];
    for (int i = 0; i < WEIGHTS; i++) {
        weights[i] = (tc_weight){.values = calloc((size_t)counts[i], sizeof(float)), .count = counts[i],
                                 .trainable = 1};
        for (ptrdiff_t k = 0; k < counts[i]; k++) weights[i].values[k] = 0.5f * sinf((float)(11 * i + 3 * k + 1));
        for (int s = 0; s < TC_MAX_STATES; s++)
            states[i * TC_MAX_STATES + s] = calloc((size_t)counts[i], sizeof(float));
    }
    tc_program *program;
    int status = tc_program_create(ops, 4, weights, WEIGHTS, 1, &program);
    if (status != TC_OK) return status;

    static float x[SAMPLES * SIDE * SIDE], all[SAMPLES * 2], one[2];
    static int32_t y[SAMPLES];
    draw(x, y);
    const tc_batch batch = {.x = x, .y = y, .y_is_sparse = 1, .n = SAMPLES};
    const tc_objective objective = {.loss = TC_LOSS_SPARSE_CATEGORICAL_CROSSENTROPY, .from_logits = 1,
                                    .loss_scale = 1, .loss_parameters = {-1}};
    const tc_update update = {.optimizer = TC_OPTIMIZER_ADAM, .hyperparameters = {0.05, 0.9, 0.999, 1e-7},
                              .states = states};
    double first = 0, loss = 0, difference = 0;
    for (int step = 0; step < STEPS; step++) {
        status = tc_train_step(program, &batch, &objective, &update, (uint64_t)step, &loss, NULL);
        if (status != TC_OK) return status;
        if (step == 0) first = loss;
    }
    tc_predict(program, &batch, all);
    for (int i = 0; i < SAMPLES; i++) {
        const tc_batch single = {.x = x + i * SIDE * SIDE, .n = 1};
        tc_predict(program, &single, one);
        for (int k = 0; k < 2; k++) difference = fmax(difference, fabs((double)one[k] - all[i * 2 + k]));
    }
    printf("%s %.6f %.6f %.3g\n", tc_selected_isa(), first / SAMPLES, loss / SAMPLES, difference);
    tc_program_destroy(program);
    for (int i = 0; i < WEIGHTS; i++) {
        free(weights[i].values);
        for (int s = 0; s < TC_MAX_STATES; s++) free(states[i * TC_MAX_STATES + s]);
    }
    return 0;
}
