/* Where everything lies in the working memory of a thread. */
#include "program.h"

static ptrdiff_t place(ptrdiff_t *end, ptrdiff_t size) {
    ptrdiff_t at = *end;
    *end += size;
    return at;
}

static void place_indices(tc_program *p, ptrdiff_t *end) {
    for (ptrdiff_t i = 0; i < p->step_count; i++) {
        tc_step *step = &p->steps[i];
        if (!step->pooled || (step->kind != TC_STEP_CONV2D && step->kind != TC_STEP_MAX_POOL2D)) continue;
        ptrdiff_t count = step->pool.y_rows * step->pool.y_columns * step->pool.channels;
        step->index_offset = place(end, (count * step->index_bytes + 3) / 4);
    }
}

void tc_plan_workspace(tc_program *p) {
    ptrdiff_t vector_bytes = (ptrdiff_t)sizeof(float) * p->kernels->lanes;
    ptrdiff_t points = 0, products = 0, gradient_points = 0, kernel_points = 0;
    ptrdiff_t end = 0, rows = 0, scratch = 1, largest = 1;
    for (ptrdiff_t i = 0; i <= p->step_count; i++) {
        p->tensors[i].offset = place(&end, p->tensors[i].size);
        largest = tc_max(largest, p->tensors[i].height * p->tensors[i].width * p->tensors[i].channels);
    }
    if (p->cut_count) {
        /* What segments leave to each other: the tensors, and where maxima were. */
        place_indices(p, &end);
        p->kept_size = end;
    }
    for (ptrdiff_t i = 0; i < p->step_count; i++) {
        const tc_step *step = &p->steps[i];
        for (ptrdiff_t c = 0; c < step->chunk_count; c++)
            rows = tc_max(rows, step->pool.window_height * step->chunks[c].columns * step->outputs);
        if (step->kind == TC_STEP_DENSE) scratch = tc_max(scratch, step->outputs + p->kernels->lanes);
        if (step->kind == TC_STEP_LEVELS) scratch = tc_max(scratch, 2 * p->tensors[i].channels);
        if (step->pooled)
            scratch = tc_max(scratch, step->pool.window_height * (ptrdiff_t)sizeof(float *) / vector_bytes + 1);
    }
    for (ptrdiff_t i = 0; i < p->step_count; i++) {
        const tc_step *step = &p->steps[i];
        const tc_winograd *f = &step->forward_points, *b = &step->backward_points;
        if (!f->n) continue;
        points = tc_max(points, tc_max(f->g.x_rows * f->g.x_row_stride, b->n ? b->g.x_rows * b->g.x_row_stride : 0));
        products = tc_max(products, f->n * tc_max(f->tiles * step->outputs, b->tiles * step->inputs));
        gradient_points = tc_max(gradient_points, step->z_rows * step->gradient_points.dz_row_stride);
        kernel_points = tc_max(kernel_points, f->n * step->kernel_rows * step->inputs * step->outputs);
    }
    p->row_offset = place(&end, rows);
    p->points_offset = place(&end, points);
    p->products_offset = place(&end, products);
    p->scratch_offset = place(&end, scratch);
    p->label_offset = place(&end, p->tensors[p->step_count].size + 4);
    p->forward_size = end;
    for (ptrdiff_t i = 0; i < p->step_count; i++) {
        tc_step *step = &p->steps[i];
        if (step->kind == TC_STEP_CONV2D_TRANSPOSE)
            step->dz_offset = place(&end, step->dz_row_stride * step->z_rows);
        if (step->kind == TC_STEP_CONV2D) {
            /* Without an input gradient only a strip of dz is ever alive. */
            ptrdiff_t alive = step->strip < step->z_rows ? step->strip : step->z_rows;
            if (i > p->lowest || tc_dz_is_whole(step)) alive = step->z_rows;
            step->dz_offset = place(&end, step->dz_row_stride * alive);
        }
    }
    if (!p->cut_count) place_indices(p, &end);
    p->gradient_points_offset = place(&end, gradient_points);
    p->kernel_points_offset = place(&end, kernel_points / p->kernels->lanes + 1);
    p->gradient_a = place(&end, largest);
    p->gradient_b = place(&end, largest);
    p->training_size = end;
    /* Only a caller of tc_gradients who asks for the input's gradient needs all of dz
     * where training itself stops. */
    for (ptrdiff_t i = 0; i < p->step_count; i++) {
        tc_step *step = &p->steps[i];
        step->dz_whole_offset = step->dz_offset;
        if (step->kind == TC_STEP_CONV2D && i <= p->lowest)
            step->dz_whole_offset = place(&end, step->dz_row_stride * step->z_rows);
    }
    p->input_gradient_size = end;
}
