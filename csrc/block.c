/* One block from its images to its gradients: load, forward, loss, backward. */
#include "block.h"
#include "norms.h"

/* Whether the loss is taken from the input of the program's last step. */
static int loss_before_last(const tc_program *p, const tc_objective *objective) {
    if (!objective || objective->from_logits || !p->step_count) return 0;
    const tc_step *last = &p->steps[p->step_count - 1];
    if (objective->loss == TC_LOSS_CATEGORICAL_CROSSENTROPY ||
        objective->loss == TC_LOSS_SPARSE_CATEGORICAL_CROSSENTROPY)
        return last->kind == TC_STEP_SOFTMAX && last->function == TC_SOFTMAX && last->outputs == p->output_channels;
    return objective->loss == TC_LOSS_BINARY_CROSSENTROPY && last->kind == TC_STEP_ACTIVATION &&
           last->function == TC_SIGMOID;
}

/* The block's labels in lanes, dense (vectors) or sparse (int32). */
static void load_labels(const block *b, float *labels, ptrdiff_t positions, ptrdiff_t channels) {
    const tc_batch *batch = b->job->batch;
    const void *source[MAX_LANES];
    ptrdiff_t lanes = b->k->lanes, values = batch->y_is_sparse ? positions : positions * channels;
    for (int l = 0; l < b->count; l++) {
        ptrdiff_t sample = b->first + l;
        if (batch->indices) sample = (ptrdiff_t)batch->indices[sample];
        source[l] = (const float *)batch->y + sample * values; /* int32 and float32 are as wide */
    }
    if (!batch->y_is_sparse) {
        b->k->gather(source, b->count, 0, 1, values, 1.0f, 0.0f, labels, values);
        return;
    }
    int32_t *sparse = (int32_t *)labels;
    for (ptrdiff_t i = 0; i < positions; i++)
        for (ptrdiff_t l = 0; l < lanes; l++)
            sparse[i * lanes + l] = l < b->count ? ((const int32_t *)source[l])[i] : 0;
}

/* Loss and metrics of the block, added to sums; the gradient into dy where wanted. */
static void measure(const block *b, float *dy, double *sums) {
    const job *j = b->job;
    const tc_program *p = b->program;
    const tc_objective *o = j->objective;
    int before = loss_before_last(p, o);
    const tc_tensor *output = &p->tensors[p->step_count], *measured = before ? output - 1 : output;
    ptrdiff_t channels = p->output_channels, positions = p->output_positions;
    float *labels = at(b, p->label_offset), weight[MAX_LANES], values[MAX_LANES];
    load_labels(b, labels, positions, channels);
    const float share = (float)o->loss_scale / (j->normalized ? (float)j->batch->n : 1.0f);
    for (int l = 0; l < b->k->lanes; l++) {
        weight[l] = 0.0f;
        if (l >= b->count) continue;
        ptrdiff_t sample = b->first + l;
        if (j->batch->indices) sample = (ptrdiff_t)j->batch->indices[sample];
        weight[l] = j->batch->sample_weight ? j->batch->sample_weight[sample] : 1.0f;
    }
    float scaled[MAX_LANES];
    for (int l = 0; l < b->k->lanes; l++) scaled[l] = weight[l] * share;
    const float *dense = j->batch->y_is_sparse ? NULL : labels;
    const int32_t *sparse = j->batch->y_is_sparse ? (const int32_t *)labels : NULL;
    tc_loss_request request = {.kind = o->loss, .from_logits = o->from_logits || before,
                               .label_smoothing = o->label_smoothing, .parameters = o->loss_parameters,
                               .positions = positions, .channels = channels,
                               .output = at(b, measured->offset), .dense = dense, .sparse = sparse,
                               .weight = scaled, .gradient = dy, .loss = values};
    b->k->loss(&request);
    for (int l = 0; l < b->count; l++) sums[0] += o->loss_scale * (double)weight[l] * values[l];
    for (int m = 0; m < o->metric_count; m++) {
        b->k->metric(o->metrics[m], o->metric_parameters[m], positions, channels, at(b, output->offset), dense, sparse,
                     values);
        for (int l = 0; l < b->count; l++) sums[1 + m] += values[l];
    }
}

static void store_rows(const block *b, const float *x, ptrdiff_t row_stride, ptrdiff_t rows, ptrdiff_t row,
                       float *array) {
    float *target[MAX_LANES];
    for (int l = 0; l < b->count; l++) target[l] = array + (b->first + l) * rows * row;
    b->k->scatter(x, row_stride, rows, row, b->count, target);
}

/* Backward from the gradient of tensors[last], in dy, to the start of the segment. */
static void descend(const block *b, ptrdiff_t last, ptrdiff_t segment, float *dy) {
    const job *j = b->job;
    const tc_program *p = b->program;
    ptrdiff_t lowest = j->input_gradient ? 0 : p->lowest;
    float *dx = tc_backward(b, last, segment ? tc_max(lowest, p->cuts[segment - 1]) : lowest, dy, at(b, p->gradient_b));
    if (j->input_gradient && !segment) {
        const tc_tensor *input = &p->tensors[0];
        ptrdiff_t n = tensor_values(input);
        if (p->load_scale != 1.0f) b->k->scale(dx, dx, n, p->load_scale, 0.0f);
        store_rows(b, dx, n, 1, n, j->input_gradient);
    }
}

void tc_run_block(const block *b, ptrdiff_t segment, double *sums) {
    const job *j = b->job;
    const tc_program *p = b->program;
    ptrdiff_t cuts = j->segmented ? p->cut_count : 0, first = segment ? p->cuts[segment - 1] : 0;
    /* The gradient of a convolution's input needs no input. */
    if (segment == 0 && (!j->skip_last || p->step_count > 1 || p->lowest < p->step_count)) tc_load_block(b);
    if (segment < cuts) {
        for (ptrdiff_t i = first; i < p->cuts[segment]; i++) tc_step_forward(b, i);
        tc_norm_measure(b, p->cuts[segment]);
        return;
    }
    int before = loss_before_last(p, j->objective);
    int whole = j->predictions || !j->objective || j->objective->metric_count || !before;
    for (ptrdiff_t i = first; i < p->step_count; i++)
        if (i < p->step_count - 1 || (whole && !j->skip_last)) tc_step_forward(b, i);
    const tc_tensor *output = &p->tensors[p->step_count];
    if (j->predictions)
        store_rows(b, at(b, output->offset), output->row_stride, output->height, output->width * output->channels,
                   j->predictions);
    if (!j->objective) return;
    float *dy = j->backward ? at(b, p->gradient_a) : NULL;
    measure(b, dy, sums);
    if (j->backward) descend(b, p->step_count - before, segment, dy);
}

void tc_run_block_down(const block *b, ptrdiff_t segment) {
    const tc_program *p = b->program;
    float *dy = at(b, p->gradient_a);
    tc_norm_resume(b, p->cuts[segment], dy);
    descend(b, p->cuts[segment], segment, dy);
}
