/* The engine without memory: every allocation of the library fails once.  Prints, for every program,
 * how many allocations there are, how many programs could not be created, how many calls failed, and how many
 * allocations were never freed.  To be linked with --wrap for malloc, calloc and free. */
#include <stdio.h>
#include <stdlib.h>

#include "tinyconv.h"

enum { SIDE = 6, MOST = 20, VALUES = 1 << 14, WEIGHTS = 16, PROGRAMS = 7 };

static long made, failing, alive;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void __wrap_free(void *memory);

static void *counted(void *memory) {
    alive += memory != NULL;
    return memory;
}

void *__wrap_malloc(size_t size) { return made++ == failing ? NULL : counted(__real_malloc(size)); }

void *__wrap_calloc(size_t count, size_t size) {
    return made++ == failing ? NULL : counted(__real_calloc(count, size));
}

void __wrap_free(void *memory) {
    alive -= memory != NULL;
    __real_free(memory);
}

static tc_weight weights[WEIGHTS];
static int weight_count;
static float values[VALUES], gradient[WEIGHTS][VALUES], x[MOST * VALUES], y[MOST * VALUES], dx[MOST * VALUES];

static int weight(ptrdiff_t count, int trainable) {
    weights[weight_count] = (tc_weight){.values = values, .count = count, .trainable = trainable};
    return weight_count++;
}

/* An operation on images of `side` by `side`; a window of 3 x 3 that keeps that size, or doubles it transposed. */
static tc_op of_kind(int kind, ptrdiff_t side, ptrdiff_t channels, ptrdiff_t filters, ptrdiff_t groups) {
    int transposed = kind == TC_OP_CONV2D_TRANSPOSE;
    tc_op op = {.kind = kind, .in_height = side, .in_width = side, .in_channels = channels, .window_height = 3,
                .window_width = 3, .stride_height = 1 + transposed, .stride_width = 1 + transposed,
                .dilation_height = 1, .dilation_width = 1, .pad_top = 1, .pad_left = 1, .groups = groups,
                .kernel = -1, .bias = -1};
    op.out_height = op.out_width = side << transposed, op.out_channels = filters;
    if (kind == TC_OP_CONV2D || transposed) op.kernel = weight(9 * channels / groups * filters, 1);
    return op;
}

/* One convolution of each kind; then a network, with a norm so that training and inference have programs. */
static int describe(int program, tc_op *ops) {
    const ptrdiff_t alone[PROGRAMS - 1][3] = {{3, 8, 1}, {16, 64, 1}, {32, 64, 2}, {32, 32, 32}, {4, 12, 4}, {5, 3, 1}};
    weight_count = 0;
    if (program < PROGRAMS - 1) {
        const ptrdiff_t *sizes = alone[program];
        ops[0] = of_kind(program == PROGRAMS - 2 ? TC_OP_CONV2D_TRANSPOSE : TC_OP_CONV2D, SIDE, sizes[0], sizes[1],
                         sizes[2]);
        return 1;
    }
    ops[0] = of_kind(TC_OP_CONV2D, SIDE, 6, 12, 3);
    ops[1] = of_kind(TC_OP_BATCH_NORMALIZATION, SIDE, 12, 12, 1);
    ops[1].momentum = 0.9f, ops[1].epsilon = 1e-3f;
    ops[1].mean = weight(12, 0), ops[1].variance = weight(12, 0);
    ops[2] = of_kind(TC_OP_CONV2D, SIDE, 12, 36, 12);
    ops[3] = of_kind(TC_OP_CONV2D_TRANSPOSE, SIDE, 36, 4, 1);
    ops[4] = of_kind(TC_OP_PRELU, 2 * SIDE, 4, 4, 1);
    ops[4].shared_height = ops[4].shared_width = 1, ops[4].kernel = weight(4, 1);
    return 5;
}

/* Calls that take few images and many, and a gradient of the kernel alone and of the input too: how many failed. */
static int use(tc_program *program) {
    const tc_objective objective = {.loss = TC_LOSS_INNER_PRODUCT, .loss_scale = 1, .loss_parameters = {-1}};
    const ptrdiff_t sizes[] = {1, 3, MOST};
    float *gradients[WEIGHTS];
    int failed = 0;
    for (int i = 0; i < WEIGHTS; i++) gradients[i] = gradient[i];
    for (int i = 0; i < 3; i++) {
        const tc_batch batch = {.x = x, .y = x, .n = sizes[i]};
        failed += tc_predict(program, &batch, y) != TC_OK;
        for (int input = 0; input < 2; input++)
            failed += tc_gradients(program, &batch, &objective, 0, 0, NULL, gradients, input ? dx : NULL) != TC_OK;
    }
    return failed;
}

int main(void) {
    for (int i = 0; i < PROGRAMS; i++) {
        tc_op ops[5];
        int count = describe(i, ops), refused = 0, failed = 0;
        long all = 0;
        for (failing = -1; failing < all; failing++) { /* the first time none fails */
            tc_program *program;
            made = 0;
            int status = tc_program_create(ops, count, weights, weight_count, 1, &program);
            if (status != TC_OK && (status != TC_ERROR_MEMORY || program)) return 1;
            if (status == TC_OK) failed += use(program);
            else refused++;
            tc_program_destroy(program);
            if (failing < 0) all = made;
        }
        printf("%ld %d %d %ld\n", all, refused, failed, alive);
    }
    return 0;
}
