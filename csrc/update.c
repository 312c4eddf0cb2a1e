/* The threads share out the weights: each adds up the gradients of its shares, slot by
 * slot in their order, and updates them while they are in the cache.  Norms of gradients
 * want a pass of their own before that, constraints one behind it; sums over shares are
 * taken in the order of the shares, so that threads change no bit. */
#include "update.h"

#include <math.h>
#include <string.h>

#include "threads.h"

static int is_penalized(const tc_weight *w) { return w->trainable && (w->l1 != 0 || w->l2 != 0); }

/* The share's stretch of a state array, or NULL. */
static float *state_of(const tc_update *u, ptrdiff_t weight, int k, ptrdiff_t from) {
    float *whole = u->states ? u->states[weight * TC_MAX_STATES + k] : NULL;
    return whole ? whole + from : NULL;
}

static void follow_average(const tc_finish *f, ptrdiff_t i, ptrdiff_t from, ptrdiff_t n) {
    const tc_update *u = f->update;
    const tc_kernels *k = f->program->kernels;
    float *w = f->program->weights[i].values + from, *average = state_of(u, i, TC_STATE_AVERAGE, from);
    if (!u->average || !average) return;
    k->add_scaled(n, (float)u->average_momentum, average, (float)(1 - u->average_momentum), w, average);
    if (u->overwrite) memcpy(w, average, sizeof *w * (size_t)n);
}

/* g [n]: the gradient, clipped. */
static void update_share(const tc_finish *f, ptrdiff_t i, ptrdiff_t from, ptrdiff_t n, const float *g) {
    const tc_update *u = f->update;
    const tc_kernels *k = f->program->kernels;
    float *w = f->program->weights[i].values + from;
    if (u->decay && u->decay[i] != 0) k->add_scaled(n, -(float)u->decay[i], w, 1, w, w);
    k->update(u->optimizer, u->hyperparameters, n, w, g, state_of(u, i, 0, from), state_of(u, i, 1, from),
              state_of(u, i, 2, from));
    follow_average(f, i, from, n);
}

/* Share s of weight i, as far as it goes without the norms of the gradients. */
static void finish_share(const tc_finish *f, ptrdiff_t i, ptrdiff_t s, int norms) {
    const tc_program *p = f->program;
    const tc_kernels *k = p->kernels;
    const tc_weight *weight = &p->weights[i];
    const tc_update *u = f->update;
    ptrdiff_t from = s * TC_SHARE, n = weight->count - from < TC_SHARE ? weight->count - from : TC_SHARE;
    float sum[TC_SHARE], *slots = f->slots + p->gradient_offset[i] + from;
    float *g = f->gradients ? f->gradients[i] + from : norms ? slots : sum;
    k->sum_slots(slots, p->gradient_size, f->slot_count, n, g);
    if (f->penalties && is_penalized(weight))
        f->penalties[p->share_offset[i] + s] = k->penalize(weight->l1, weight->l2, n, weight->values + from, g);
    if (!u) return;
    float *accumulated = state_of(u, i, TC_STATE_ACCUMULATOR, from);
    if (u->accumulation_steps && accumulated) {
        if (u->accumulate_only) {
            k->add_scaled(n, 1, g, 1, accumulated, accumulated);
            follow_average(f, i, from, n);
            return;
        }
        float share = (float)(1.0 / u->accumulation_steps);
        k->add_scaled(n, share, g, share, accumulated, g);
        memset(accumulated, 0, sizeof *accumulated * (size_t)n);
    }
    if (norms) {
        f->squares[p->share_offset[i] + s] = k->sum_squares(n, g);
        return;
    }
    if (u->clip == TC_CLIP_VALUE) k->clip(n, (float)u->clip_limit, g);
    update_share(f, i, from, n, g);
}

/* What every weight's gradient is scaled by. */
static void set_scales(const tc_finish *f) {
    const tc_program *p = f->program;
    const double limit = f->update->clip_limit;
    double all = 0;
    for (ptrdiff_t i = 0; i < p->weight_count; i++) {
        double sum = 0;
        if (!p->weights[i].trainable) continue;
        for (ptrdiff_t s = 0; s < tc_shares(p->weights[i].count); s++) sum += f->squares[p->share_offset[i] + s];
        all += sum;
        double norm = sqrt(sum);
        f->scales[i] = norm <= limit ? 1 : limit / norm;
    }
    if (f->update->clip != TC_CLIP_GLOBAL_NORM) return;
    double norm = sqrt(all);
    /* Keras': one gradient that is not finite makes all of them NaN. */
    double scale = (norm <= limit ? 1 : limit / norm) + (norm - norm);
    for (ptrdiff_t i = 0; i < p->weight_count; i++) f->scales[i] = scale;
}

static void update_scaled_share(const tc_finish *f, ptrdiff_t i, ptrdiff_t s) {
    const tc_program *p = f->program;
    ptrdiff_t from = s * TC_SHARE, left = p->weights[i].count - from, n = left < TC_SHARE ? left : TC_SHARE;
    float *g = f->slots + p->gradient_offset[i] + from;
    p->kernels->add_scaled(n, (float)f->scales[i], g, 0, g, g);
    update_share(f, i, from, n, g);
}

static void constrain(const tc_program *p, const tc_weight *w) {
    if (w->constraint == TC_CONSTRAINT_NON_NEG) {
        TC_PRAGMA(omp for schedule(static) nowait)
        for (ptrdiff_t s = 0; s < tc_shares(w->count); s++) {
            ptrdiff_t left = w->count - s * TC_SHARE;
            p->kernels->non_negative(left < TC_SHARE ? left : TC_SHARE, w->values + s * TC_SHARE);
        }
    } else if (w->constraint == TC_CONSTRAINT_NORM) {
        ptrdiff_t units = p->kernels->norm_units(w->constraint_shape);
        TC_PRAGMA(omp for schedule(static) nowait)
        for (ptrdiff_t unit = 0; unit < units; unit++)
            p->kernels->constrain_norm(w->constraint_shape, w->constraint_min, w->constraint_max, w->constraint_rate,
                                       unit, w->values);
    }
}

void tc_finish_batch(const tc_finish *f) {
    const tc_program *p = f->program;
    const tc_update *u = f->update;
    int norms = u && !u->accumulate_only && (u->clip == TC_CLIP_NORM || u->clip == TC_CLIP_GLOBAL_NORM);
    for (ptrdiff_t i = 0; i < p->weight_count; i++) {
        if (!p->weights[i].trainable) continue;
        ptrdiff_t shares = tc_shares(p->weights[i].count);
        TC_PRAGMA(omp for schedule(static) nowait)
        for (ptrdiff_t s = 0; s < shares; s++) finish_share(f, i, s, norms);
    }
    if (norms) {
        TC_PRAGMA(omp barrier)
        TC_PRAGMA(omp single)
        set_scales(f);
        for (ptrdiff_t i = 0; i < p->weight_count; i++) {
            if (!p->weights[i].trainable) continue;
            ptrdiff_t shares = tc_shares(p->weights[i].count);
            TC_PRAGMA(omp for schedule(static) nowait)
            for (ptrdiff_t s = 0; s < shares; s++) update_scaled_share(f, i, s);
        }
    }
    if (!u || !p->constrained) return;
    TC_PRAGMA(omp barrier)
    for (ptrdiff_t i = 0; i < p->weight_count; i++)
        if (p->weights[i].trainable) constrain(p, &p->weights[i]);
}

void tc_measure_penalties(const tc_program *p, double *penalties) {
    for (ptrdiff_t i = 0; i < p->weight_count; i++) {
        const tc_weight *w = &p->weights[i];
        if (!is_penalized(w)) continue;
        ptrdiff_t shares = tc_shares(w->count);
        TC_PRAGMA(omp for schedule(static) nowait)
        for (ptrdiff_t s = 0; s < shares; s++) {
            ptrdiff_t from = s * TC_SHARE, n = w->count - from < TC_SHARE ? w->count - from : TC_SHARE;
            penalties[p->share_offset[i] + s] = p->kernels->penalize(w->l1, w->l2, n, w->values + from, NULL);
        }
    }
}

double tc_sum_penalties(const tc_program *p, const double *penalties) {
    double sum = 0;
    for (ptrdiff_t i = 0; i < p->weight_count; i++)
        for (ptrdiff_t s = 0; is_penalized(&p->weights[i]) && s < tc_shares(p->weights[i].count); s++)
            sum += penalties[p->share_offset[i] + s];
    return sum;
}
