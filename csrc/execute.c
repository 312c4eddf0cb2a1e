/* The executor: blocks of images through the whole program, in one parallel region.
 *
 * A batch is cut into blocks of as many images as a vector has lanes, and the blocks
 * into slots.  A slot is the unit of work: one thread takes it, runs each of its
 * blocks forward and backward while the block's activations are in the cache, and
 * adds the gradients up in the slot's own buffer.  Then all threads share out the
 * weights (update.c).
 * How a batch is cut depends on the batch alone, so the result does not depend on
 * how many threads there are or which takes what.
 *
 * Batch normalization in training looks across the batch: it cuts the program into
 * segments.  All blocks run up to a cut and leave their tensors in memory of their own,
 * the slots' statistics are merged, and all blocks go on; likewise on the way back. */
#include <stdlib.h>
#include <string.h>

#include "block.h"
#include "cpu.h"
#include "few.h"
#include "norms.h"
#include "single.h"
#include "threads.h"
#include "update.h"

/* More slots let more threads share a batch; each costs a pass over the gradients. */
#define TRAINING_SLOTS 32
#define SLOT_BYTES ((ptrdiff_t)64 << 20)
#define INFERENCE_SLOTS 256

struct tc_workspace {
    float *memory; /* aligned to a vector */
    void *allocation;
    ptrdiff_t threads, thread_floats; /* one stretch a thread */
    ptrdiff_t slots;                  /* gradient buffers behind the stretches */
    ptrdiff_t kept_floats;            /* of all blocks, behind those: what segments leave to each other */
    ptrdiff_t norm_slots;
    double *slot_sums;
    double *norm_statistics;          /* a part a slot, and the numbers of the norms */
    double *share_sums;               /* (2, shares) penalties and squares, then (weights) scales: see tc_finish */
};

/* ---- workspace -------------------------------------------------------------------- */

void tc_workspace_destroy(tc_workspace *w) {
    if (!w) return;
    free(w->allocation);
    free(w->slot_sums);
    free(w->share_sums);
    free(w->norm_statistics);
    free(w);
}

static size_t workspace_bytes(const tc_program *p, ptrdiff_t threads, ptrdiff_t vectors, ptrdiff_t slots,
                              ptrdiff_t kept_floats) {
    size_t thread = (size_t)(vectors * p->kernels->lanes) * sizeof(float);
    return (size_t)threads * thread + ((size_t)slots * (size_t)p->gradient_size + (size_t)kept_floats) * sizeof(float) +
           64;
}

/* The statistics of every slot and the numbers of every norm. */
static size_t norm_bytes(const tc_program *p, ptrdiff_t slots) {
    if (!p->norm_count) return 0;
    return (size_t)slots * (size_t)tc_norm_statistics_size(p) * sizeof(double) + (size_t)p->norm_size * sizeof(float);
}

/* The program's workspace if it is free and large enough, else a new one. */
static tc_workspace *workspace_take(tc_program *p, const job *j, ptrdiff_t threads) {
    ptrdiff_t vectors = j->input_gradient ? p->input_gradient_size : j->backward ? p->training_size : p->forward_size;
    ptrdiff_t thread_floats = vectors * p->kernels->lanes, gradient_slots = j->backward ? j->slots : 0;
    ptrdiff_t kept_floats = j->segmented ? j->blocks * p->kept_size * p->kernels->lanes : 0;
    tc_workspace *w = atomic_exchange(&p->workspace, NULL);
    if (w && w->threads >= threads && w->thread_floats >= thread_floats && w->slots >= gradient_slots &&
        w->kept_floats >= kept_floats && (!p->norm_count || w->norm_slots >= j->slots))
        return w;
    tc_workspace_destroy(w);
    w = calloc(1, sizeof *w);
    if (!w) return NULL;
    /* calloc: the zero columns beside padded tensors are never written afterwards. */
    w->allocation = calloc(1, workspace_bytes(p, threads, vectors, gradient_slots, kept_floats));
    w->slot_sums = malloc(sizeof(double) * (1 + TC_MAX_METRICS) *
                          (size_t)(INFERENCE_SLOTS > TRAINING_SLOTS ? INFERENCE_SLOTS : TRAINING_SLOTS));
    w->share_sums = malloc(sizeof(double) * (size_t)(2 * p->share_count + p->weight_count + 1));
    if (p->norm_count) w->norm_statistics = malloc(norm_bytes(p, j->slots));
    if (!w->allocation || !w->slot_sums || !w->share_sums || (p->norm_count && !w->norm_statistics)) {
        tc_workspace_destroy(w);
        return NULL;
    }
    w->memory = (float *)(((uintptr_t)w->allocation + 63) & ~(uintptr_t)63);
    w->threads = threads, w->thread_floats = thread_floats, w->slots = gradient_slots;
    w->kept_floats = kept_floats, w->norm_slots = j->slots;
    return w;
}

static void workspace_return(tc_program *p, tc_workspace *w) {
    tc_workspace_destroy(atomic_exchange(&p->workspace, w));
}

/* Every block of a slot through a segment, up or down. */
static void run_slot(const job *j, ptrdiff_t slot, int thread, ptrdiff_t segment, int down) {
    const tc_program *p = j->program;
    const tc_workspace *w = j->workspace;
    double *sums = w->slot_sums + slot * j->sum_count;
    block b = {.job = j, .program = p, .k = p->kernels, .memory = w->memory + thread * w->thread_floats};
    b.kept = b.memory;
    if (j->backward) b.slot = w->memory + w->threads * w->thread_floats + slot * p->gradient_size;
    if (segment == 0 && !down) {
        memset(sums, 0, sizeof *sums * (size_t)j->sum_count);
        if (j->backward) memset(b.slot, 0, sizeof(float) * (size_t)p->gradient_size);
    }
    if (p->norm_count) {
        b.statistics = w->norm_statistics + slot * tc_norm_statistics_size(p);
        tc_norm_reset(&b);
    }
    float *kept = w->memory + w->threads * w->thread_floats + w->slots * p->gradient_size;
    for (ptrdiff_t i = slot * j->blocks / j->slots; i < (slot + 1) * j->blocks / j->slots; i++) {
        b.first = i * b.k->lanes;
        ptrdiff_t left = j->batch->n - b.first;
        b.count = (int)(left < b.k->lanes ? left : b.k->lanes);
        if (j->segmented) b.kept = kept + i * p->kept_size * b.k->lanes;
        if (down) tc_run_block_down(&b, segment);
        else tc_run_block(&b, segment, sums);
    }
}

/* ---- the batch ---------------------------------------------------------------------------- */

static void pack_now(tc_program *p, int which) {
    while (atomic_flag_test_and_set(&p->packing)) {}
    /* Cleared before: weights that change meanwhile are packed again the next time. */
    int stale = atomic_fetch_and(&p->stale, ~which) & which;
    if (stale) {
        for (ptrdiff_t i = 0; i < p->step_count; i++) tc_pack_step(p, i, stale);
        if (stale & TC_STALE_FEW) tc_few_pack(p, p->few);
        if (p->single) tc_single_pack(p, p->single, stale);
    }
    atomic_flag_clear(&p->packing);
}

/* All segments up, and down again as far as a gradient is wanted; all threads call it.
 * Where one ends, one thread makes the batch's statistics while the others wait. */
static void run_segments(const job *j, int update) {
    const tc_program *p = j->program;
    const tc_workspace *w = j->workspace;
    ptrdiff_t cuts = j->segmented ? p->cut_count : 0, lowest = j->input_gradient ? 0 : p->lowest;
    for (ptrdiff_t segment = 0; segment <= cuts; segment++) {
        TC_PRAGMA(omp for schedule(dynamic, 1))
        for (ptrdiff_t slot = 0; slot < j->slots; slot++) run_slot(j, slot, tc_thread_number(), segment, 0);
        if (segment == cuts) break;
        TC_PRAGMA(omp single)
        tc_norm_merge(j, p->cuts[segment], w->norm_statistics, update);
    }
    for (ptrdiff_t segment = cuts; j->backward && segment-- > 0 && p->cuts[segment] >= lowest;) {
        TC_PRAGMA(omp single)
        tc_norm_merge_gradients(j, p->cuts[segment], w->norm_statistics, w->memory + w->threads * w->thread_floats);
        if (p->cuts[segment] == lowest && !j->input_gradient) break;
        TC_PRAGMA(omp for schedule(dynamic, 1))
        for (ptrdiff_t slot = 0; slot < j->slots; slot++) run_slot(j, slot, tc_thread_number(), segment, 1);
    }
}

static int run(job *j, double *sums, const tc_update *update, float *const *gradients) {
    tc_program *p = j->program;
    ptrdiff_t lanes = p->kernels->lanes;
    j->blocks = (j->batch->n + lanes - 1) / lanes;
    ptrdiff_t most = INFERENCE_SLOTS;
    if (j->backward) {
        ptrdiff_t bytes = p->gradient_size * (ptrdiff_t)sizeof(float) + 1;
        most = SLOT_BYTES / bytes < 2 ? 2 : SLOT_BYTES / bytes > TRAINING_SLOTS ? TRAINING_SLOTS : SLOT_BYTES / bytes;
    }
    j->slots = j->blocks < most ? j->blocks : most;
    j->segmented = j->training && p->cut_count;
    j->sum_count = 1 + (j->objective ? j->objective->metric_count : 0);
    int threads = tc_threads_for(p->flops * (double)j->batch->n * (j->backward ? 3 : 1), j->slots);
    tc_workspace *w = j->workspace = workspace_take(p, j, threads);
    if (!w) return TC_ERROR_MEMORY;
    if (p->norm_count) {
        j->norms = (float *)(w->norm_statistics + w->norm_slots * tc_norm_statistics_size(p));
        tc_norms_prepare(j);
    }
    int forward = p->step_count > j->skip_last, downward = j->input_gradient || p->lowest + 1 < p->step_count;
    int penalized = p->penalized && j->objective && j->objective->loss != TC_LOSS_INNER_PRODUCT;
    double *shares = w->share_sums;
    const tc_finish finish = {.program = p, .slots = w->memory + w->threads * w->thread_floats, .slot_count = j->slots,
                              .penalties = penalized ? shares : NULL, .squares = shares + p->share_count,
                              .scales = shares + 2 * p->share_count, .update = update, .gradients = gradients};
    pack_now(p, (forward ? TC_STALE_FORWARD : 0) | (j->backward && downward ? TC_STALE_BACKWARD : 0));
    (void)threads;
    TC_PRAGMA(omp parallel num_threads(threads) if (threads > 1))
    {
        unsigned mode = tc_denormals_off();
        run_segments(j, update != NULL);
        if (update || gradients) tc_finish_batch(&finish);
        else if (penalized) tc_measure_penalties(p, shares);
        tc_denormals_restore(mode);
    }
    if (update) tc_program_weights_changed(p);
    for (ptrdiff_t k = 0; sums && k < j->sum_count; k++) {
        sums[k] = 0;
        for (ptrdiff_t slot = 0; slot < j->slots; slot++) sums[k] += w->slot_sums[slot * j->sum_count + k];
    }
    if (sums && penalized) sums[0] += (double)j->batch->n * tc_sum_penalties(p, shares);
    workspace_return(p, w);
    return TC_OK;
}

size_t tc_program_workspace(const tc_program *p, ptrdiff_t n, int training) {
    ptrdiff_t blocks = (n + p->kernels->lanes - 1) / p->kernels->lanes;
    ptrdiff_t slots = blocks < TRAINING_SLOTS ? blocks : TRAINING_SLOTS;
    ptrdiff_t threads = tc_threads() < slots ? tc_threads() : slots;
    if (!training && p->inference) p = p->inference;
    ptrdiff_t kept = training ? blocks * p->kept_size * p->kernels->lanes : 0;
    return workspace_bytes(p, threads, training ? p->training_size : p->forward_size, training ? slots : 0, kept) +
           norm_bytes(p, slots);
}

/* ---- a program that is one convolution ------------------------------------------------------- */

/* Whether the samples are read as they lie. */
static int is_plain(const tc_batch *batch) {
    return !batch->x_is_uint8 && !batch->indices && !batch->sample_weight;
}

/* The last `rest` images of a batch, the others in image lanes. */
static int predict_single(job *j, ptrdiff_t rest) {
    tc_program *p = j->program;
    tc_batch blocks = *j->batch;
    const tc_tensor *x = p->tensors, *y = x + 1;
    blocks.n -= rest;
    pack_now(p, TC_STALE_SINGLE_FORWARD);
    int status = tc_single_forward(p, (const float *)blocks.x + blocks.n * tensor_values(x), rest,
                                   j->predictions + blocks.n * tensor_values(y));
    j->batch = &blocks;
    return status == TC_OK && blocks.n ? run(j, NULL, NULL, NULL) : status;
}

/* How many of the last images' gradients do without image lanes. */
static ptrdiff_t single_gradients(const job *j) {
    const tc_program *p = j->program;
    if (!p->single || !j->skip_last || !is_plain(j->batch) || p->steps->bias >= 0) return 0;
    ptrdiff_t n = j->batch->n, input = n, kernel = n;
    if (j->input_gradient) input = tc_single_share(p, TC_SINGLE_BACKWARD_INPUT, n);
    if (p->lowest < p->step_count) kernel = tc_single_share(p, TC_SINGLE_BACKWARD_KERNEL, n);
    return input < kernel ? input : kernel;
}

static int gradients_single(job *j, ptrdiff_t rest, float *const *gradients) {
    tc_program *p = j->program;
    tc_batch blocks = *j->batch;
    int status = TC_OK;
    blocks.n -= rest;
    const float *x = (const float *)blocks.x + blocks.n * tensor_values(p->tensors);
    const float *dy = (const float *)blocks.y + blocks.n * tensor_values(p->tensors + 1);
    j->batch = &blocks;
    if (blocks.n) status = run(j, NULL, NULL, gradients);
    if (status == TC_OK && j->input_gradient) {
        pack_now(p, TC_STALE_SINGLE_BACKWARD);
        status = tc_single_backward_input(p, dy, rest, j->input_gradient + blocks.n * tensor_values(p->tensors));
    }
    if (status == TC_OK && p->lowest < p->step_count)
        status = tc_single_backward_kernel(p, x, dy, rest, blocks.n > 0, gradients[p->steps->kernel]);
    return status;
}

/* ---- the library's calls ---------------------------------------------------------------------- */

int tc_predict(tc_program *program, const tc_batch *batch, float *output) {
    if (batch->n < 1) return TC_ERROR_ARGUMENT;
    if (program->inference) program = program->inference;
    job j = {.program = program, .batch = batch, .predictions = output};
    ptrdiff_t rest = is_plain(batch) ? tc_single_share(program, TC_SINGLE_FORWARD, batch->n) : 0;
    if (rest) return predict_single(&j, rest);
    if (tc_few_pays(program, batch->n)) {
        pack_now(program, TC_STALE_FEW);
        return tc_few_predict(program, program->few, batch, output);
    }
    return run(&j, NULL, NULL, NULL);
}

/* Whether the labels are of the kind that the loss and the metrics take. */
static int check_objective(const tc_batch *batch, const tc_objective *o) {
    if (batch->n < 1 || o->loss < 0 || o->loss >= TC_LOSS_COUNT || o->metric_count < 0 ||
        o->metric_count > TC_MAX_METRICS)
        return TC_ERROR_ARGUMENT;
    if (!batch->y_is_sparse != (o->loss != TC_LOSS_SPARSE_CATEGORICAL_CROSSENTROPY)) return TC_ERROR_ARGUMENT;
    for (int m = 0; m < o->metric_count; m++) {
        int sparse = o->metrics[m] == TC_METRIC_SPARSE_CATEGORICAL_ACCURACY ||
                     o->metrics[m] == TC_METRIC_SPARSE_TOP_K_CATEGORICAL_ACCURACY;
        if (o->metrics[m] < 0 || o->metrics[m] >= TC_METRIC_COUNT || sparse != !!batch->y_is_sparse)
            return TC_ERROR_ARGUMENT;
    }
    return TC_OK;
}

int tc_evaluate(tc_program *program, const tc_batch *batch, const tc_objective *objective, double *sums,
                float *predictions) {
    int status = check_objective(batch, objective);
    if (status != TC_OK) return status;
    if (program->inference) program = program->inference;
    job j = {.program = program, .batch = batch, .objective = objective, .predictions = predictions};
    return run(&j, sums, NULL, NULL);
}

int tc_train_step(tc_program *program, const tc_batch *batch, const tc_objective *objective, const tc_update *update,
                  uint64_t step, double *sums, float *predictions) {
    int status = check_objective(batch, objective);
    if (status != TC_OK) return status;
    if (update->optimizer < 0 || update->optimizer >= TC_OPTIMIZER_COUNT || update->clip < 0 ||
        update->clip >= TC_CLIP_COUNT)
        return TC_ERROR_ARGUMENT;
    job j = {.program = program, .batch = batch, .objective = objective, .predictions = predictions, .training = 1,
             .backward = 1, .normalized = objective->loss != TC_LOSS_INNER_PRODUCT, .step = step};
    return run(&j, sums, update, NULL);
}

int tc_gradients(tc_program *program, const tc_batch *batch, const tc_objective *objective, int training,
                 uint64_t step, double *sums, float *const *gradients, float *input_gradient) {
    int status = check_objective(batch, objective);
    if (status != TC_OK) return status;
    job j = {.program = program, .batch = batch, .objective = objective, .training = training, .backward = 1,
             .normalized = objective->loss != TC_LOSS_INNER_PRODUCT, .step = step, .input_gradient = input_gradient};
    if (program->step_count && !sums && objective->loss == TC_LOSS_INNER_PRODUCT && !objective->metric_count) {
        const tc_step *last = &program->steps[program->step_count - 1];
        j.skip_last = (last->kind == TC_STEP_CONV2D || last->kind == TC_STEP_CONV2D_TRANSPOSE ||
                       last->kind == TC_STEP_DENSE) && !last->pooled &&
                      last->function == TC_LINEAR;
    }
    ptrdiff_t rest = single_gradients(&j);
    if (rest) return gradients_single(&j, rest, gradients);
    return run(&j, sums, NULL, gradients);
}
