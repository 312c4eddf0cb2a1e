/* Every kernel of one instruction set: this unit is compiled once per set, with its
 * flags and TC_ISA naming it, and exports one table. */
#include "../activation_kind.h"
#include "../random_key.h"
#include "vector.h"

#include "activations.h"
#include "affine.h"
#include "arrays.h"
#include "batchnorm.h"
#include "conv2d.h"
#include "dense.h"
#include "depthwise_channels.h"
#include "depthwise_channels_columns.h"
#include "depthwise_channels_gradient.h"
#include "filters.h"
#include "filters_gradient.h"
#include "filters_group.h"
#include "filters_pool.h"
#include "lanes.h"
#include "levels.h"
#include "losses.h"
#include "map.h"
#include "math.h"
#include "metrics.h"
#include "optimizers.h"
#include "peak.h"
#include "pooling.h"
#include "prelu.h"
#include "random.h"
#include "rules.h"
#include "softmax.h"
#include "winograd.h"

/* The table speaks of floats; a vector of lanes is one of ours. */

static void table_activation(int function, const float *parameters, const float *x, float *y, ptrdiff_t n) {
    activation_forward(function, parameters, (const vfloat *)x, (vfloat *)y, n);
}

static void table_activation_backward(int function, const float *parameters, const float *saved, const float *dy,
                                      float *dx, ptrdiff_t n) {
    activation_backward(function, parameters, (const vfloat *)saved, (const vfloat *)dy, (vfloat *)dx, n);
}

static void table_scale(const float *x, float *y, ptrdiff_t n, float scale, float offset) {
    for (ptrdiff_t i = 0; i < n; i++) ((vfloat *)y)[i] = ((const vfloat *)x)[i] * scale + offset;
}

static void table_softmax(const float *x, float *y, ptrdiff_t positions, ptrdiff_t channels, int logarithm) {
    softmax_forward((const vfloat *)x, (vfloat *)y, positions, channels, logarithm);
}

static void table_softmax_backward(const float *y, const float *dy, float *dx, ptrdiff_t positions,
                                   ptrdiff_t channels, int logarithm) {
    softmax_backward((const vfloat *)y, (const vfloat *)dy, (vfloat *)dx, positions, channels, logarithm);
}

static void table_noise(int kind, int backward, float amount, const float *x, float *y, ptrdiff_t n,
                        const uint32_t *key0, const uint32_t *key1) {
    vuint first, second;
    memcpy(&first, key0, sizeof first);
    memcpy(&second, key1, sizeof second);
    noise(kind, backward, amount, (const vfloat *)x, (vfloat *)y, n, first, second);
}

static void table_loss(const tc_loss_request *r) {
    vfloat weight;
    memcpy(&weight, r->weight, sizeof weight);
    vfloat value = {0};
    tc_loss_args args = {.kind = r->kind, .from_logits = r->from_logits, .label_smoothing = r->label_smoothing,
                         .parameters = r->parameters, .positions = r->positions, .channels = r->channels,
                         .output = (const vfloat *)r->output, .dense = (const vfloat *)r->dense,
                         .sparse = (const vint *)r->sparse, .weight = weight,
                         .gradient = (vfloat *)r->gradient, .loss = &value};
    loss(&args);
    memcpy(r->loss, &value, sizeof value);
}

static void table_metric(int kind, float parameter, ptrdiff_t positions, ptrdiff_t channels, const float *output,
                         const float *dense, const int32_t *sparse, float *value) {
    vfloat v = metric(kind, parameter, positions, channels, (const vfloat *)output, (const vfloat *)dense,
                      (const vint *)sparse);
    memcpy(value, &v, sizeof v);
}

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define NAME_OF(isa) tc_kernels_##isa
#define NAME(isa) NAME_OF(isa)

extern const tc_kernels NAME(TC_ISA);
const tc_kernels NAME(TC_ISA) = {
    .name = TEXT(TC_ISA),
    .lanes = LANES,
    .gather = gather,
    .scatter = scatter,
    .pack = pack,
    .correlate_tiles = correlate_row_tiles,
    .correlate_image = correlate_image,
    .widest_tile = widest_tile,
    .weight_gradient = weight_gradient,
    .bias_gradient = bias_gradient,
    .winograd_input = winograd_input,
    .winograd_gradient_points = winograd_gradient_points,
    .winograd_output = winograd_output,
    .winograd_kernel = winograd_kernel,
    .winograd_kernel_gradient = winograd_kernel_gradient,
    .dense = dense,
    .dense_weight_gradient = dense_weight_gradient,
    .max_pool_row = max_pool_row,
    .max_pool_row_backward = max_pool_row_backward,
    .average_pool_row = average_pool_row,
    .average_pool_row_backward = average_pool_row_backward,
    .activation = table_activation,
    .activation_backward = table_activation_backward,
    .scale = table_scale,
    .apply_map = apply_map,
    .norm_statistics = norm_statistics,
    .normalize = normalize,
    .norm_sums = norm_sums,
    .norm_backward = norm_backward,
    .prelu_row = prelu_row,
    .prelu_row_backward = prelu_row_backward,
    .softmax = table_softmax,
    .softmax_backward = table_softmax_backward,
    .affine_row = affine_row,
    .affine_row_backward = affine_row_backward,
    .level_sums = level_sums,
    .level_row = level_row,
    .level_row_backward = level_row_backward,
    .level_spread = level_spread,
    .noise = table_noise,
    .loss = table_loss,
    .metric = table_metric,
    .narrow = NARROW,
    .pack_filters = pack_filters,
    .correlate_filters = correlate_filters,
#ifdef FILTER_POOL_TILES
    .correlate_pool_filters = correlate_pool_filters,
#endif
#ifdef HAVE_FILTER_GROUPS
    .grouped_filters = GROUPED_FILTERS,
    .pack_groups = pack_groups,
    .correlate_groups = correlate_groups,
#endif
    .outer_sum = outer_sum,
    .correlate_channels = correlate_channels,
    .correlate_channel_rows = correlate_channel_rows,
    .channels_gradient = channels_gradient,
    .turn_kernel = turn_kernel,
    .max_pool_filters = max_pool_filters,
    .average_pool_filters = average_pool_filters,
    .softmax_rows = softmax_rows,
    .sum_slots = sum_slots,
    .update = update_weights,
    .penalize = penalize,
    .sum_squares = sum_squares,
    .add_scaled = add_scaled,
    .clip = clip,
    .non_negative = non_negative,
    .norm_units = norm_units,
    .constrain_norm = constrain_norm,
    .max_pool_array = max_pool2d_array,
    .max_pool_array_backward = max_pool2d_array_backward,
    .softmax_cross_entropy_rows = softmax_cross_entropy_rows,
    .peak = peak,
};
