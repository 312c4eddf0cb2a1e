/* tinyconv: training and running small convolutional networks on a CPU.
 *
 * A network is a flat list of operations (tc_op) over images of float32 values,
 * (H, W, C) each; a vector of F features is (1, 1, F).  Every array a caller passes
 * is row-major and stays the caller's: the library reads x, y and weights, and
 * writes only what a function below says that it writes.
 *
 * Functions return TC_OK or the reason why not; they never print, abort or keep a
 * pointer other than the weights given to tc_program_create.  One program may be
 * used by several threads at once for tc_predict and tc_evaluate; a caller must not
 * train or change weights at the same time. */
#ifndef TINYCONV_H
#define TINYCONV_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum tc_status {
    TC_OK,
    TC_ERROR_MEMORY,      /* an allocation failed */
    TC_ERROR_ARGUMENT,    /* shapes or numbers that contradict each other */
    TC_ERROR_UNAVAILABLE, /* an instruction set that this processor or build lacks */
};

/* The numbering is that of tinyconv/engine/program.py. */
enum tc_op_kind {
    TC_OP_CONV2D,
    TC_OP_CONV2D_TRANSPOSE,
    TC_OP_DENSE,
    TC_OP_MAX_POOL2D,
    TC_OP_AVERAGE_POOL2D,
    TC_OP_ACTIVATION,
    TC_OP_DROPOUT,
    TC_OP_RESCALE,
    TC_OP_RESHAPE,
    TC_OP_GATHER,
    TC_OP_BATCH_NORMALIZATION,
    TC_OP_RANDOM_AFFINE,
    TC_OP_PRELU,
    TC_OP_RANDOM_LEVELS,
    TC_OP_COUNT,
};

enum tc_activation {
    TC_LINEAR,
    TC_RELU,
    TC_SIGMOID,
    TC_TANH,
    TC_SOFTMAX,
    TC_LEAKY_RELU,
    TC_ELU,
    TC_SELU,
    TC_SOFTPLUS,
    TC_SOFTSIGN,
    TC_EXPONENTIAL,
    TC_HARD_SIGMOID,
    TC_SILU,
    TC_HARD_SILU,
    TC_GELU,
    TC_GELU_TANH,
    TC_MISH,
    TC_LOG_SOFTMAX,
    TC_CELU,
    TC_LOG_SIGMOID,
    TC_HARD_TANH,
    TC_TANH_SHRINK,
    TC_SOFT_SHRINK,
    TC_HARD_SHRINK,
    TC_SQUAREPLUS,
    TC_SPARSE_PLUS,
    TC_SPARSE_SIGMOID,
    TC_ACTIVATION_COUNT,
};

enum tc_noise {
    TC_NOISE_DROPOUT,          /* amount: rate */
    TC_NOISE_SPATIAL_DROPOUT,  /* rate */
    TC_NOISE_GAUSSIAN_NOISE,   /* standard deviation */
    TC_NOISE_GAUSSIAN_DROPOUT, /* rate */
    TC_NOISE_ALPHA_DROPOUT,    /* rate */
    TC_NOISE_COUNT,
};

enum tc_transform { /* parameters: */
    TC_TRANSFORM_FLIP,        /* horizontally, vertically: 1 or 0 */
    TC_TRANSFORM_TRANSLATION, /* least and most of the height, of the width */
    TC_TRANSFORM_ROTATION,    /* least and most of a turn */
    TC_TRANSFORM_ZOOM,        /* least and most of the height, of the width, less 1 */
    TC_TRANSFORM_COUNT,
};

enum tc_levels_kind { TC_LEVELS_BRIGHTNESS, TC_LEVELS_CONTRAST, TC_LEVELS_COUNT };

enum tc_fill { TC_FILL_CONSTANT, TC_FILL_NEAREST, TC_FILL_REFLECT, TC_FILL_WRAP, TC_FILL_COUNT };

enum tc_loss {
    TC_LOSS_CATEGORICAL_CROSSENTROPY,
    TC_LOSS_SPARSE_CATEGORICAL_CROSSENTROPY,
    TC_LOSS_BINARY_CROSSENTROPY,
    TC_LOSS_MEAN_SQUARED_ERROR,
    TC_LOSS_INNER_PRODUCT,
    TC_LOSS_MEAN_ABSOLUTE_ERROR,
    TC_LOSS_MEAN_ABSOLUTE_PERCENTAGE_ERROR,
    TC_LOSS_MEAN_SQUARED_LOGARITHMIC_ERROR,
    TC_LOSS_HUBER,
    TC_LOSS_LOG_COSH,
    TC_LOSS_POISSON,
    TC_LOSS_KL_DIVERGENCE,
    TC_LOSS_HINGE,
    TC_LOSS_SQUARED_HINGE,
    TC_LOSS_CATEGORICAL_HINGE,
    TC_LOSS_COSINE_SIMILARITY,
    TC_LOSS_BINARY_FOCAL_CROSSENTROPY,
    TC_LOSS_CATEGORICAL_FOCAL_CROSSENTROPY,
    TC_LOSS_COUNT,
};

enum tc_metric {
    TC_METRIC_CATEGORICAL_ACCURACY,
    TC_METRIC_SPARSE_CATEGORICAL_ACCURACY,
    TC_METRIC_BINARY_ACCURACY,
    TC_METRIC_TOP_K_CATEGORICAL_ACCURACY,
    TC_METRIC_SPARSE_TOP_K_CATEGORICAL_ACCURACY,
    TC_METRIC_COUNT,
};

/* Update rules; tinyconv/engine/program.py has their formulas.  In brackets the state
 * arrays that a weight has. */
enum tc_optimizer {
    TC_OPTIMIZER_SGD,               /* hyperparameters: learning_rate [] */
    TC_OPTIMIZER_MOMENTUM,          /* learning_rate, momentum, nesterov [momentum] */
    TC_OPTIMIZER_ADAM,              /* alpha, beta_1, beta_2, epsilon [momentum, velocity] */
    TC_OPTIMIZER_AMSGRAD,           /* as adam [momentum, velocity, velocity_hat] */
    TC_OPTIMIZER_RMSPROP,           /* learning_rate, rho, momentum, epsilon [velocity] */
    TC_OPTIMIZER_RMSPROP_MOMENTUM,  /* as rmsprop [velocity, momentum] */
    TC_OPTIMIZER_RMSPROP_CENTERED,  /* as rmsprop [velocity, average_gradient] */
    TC_OPTIMIZER_RMSPROP_CENTERED_MOMENTUM, /* as rmsprop [velocity, momentum, average_gradient] */
    TC_OPTIMIZER_ADAMAX,            /* alpha, beta_1, beta_2, epsilon [momentum, norm] */
    TC_OPTIMIZER_NADAM,             /* momentum_rate, gradient_rate, beta_1, beta_2, velocity_scale, epsilon
                                     * [momentum, velocity] */
    TC_OPTIMIZER_ADAGRAD,           /* learning_rate, epsilon [accumulator] */
    TC_OPTIMIZER_ADADELTA,          /* learning_rate, rho, epsilon [accumulated_grad, accumulated_delta_var] */
    TC_OPTIMIZER_COUNT,
};

/* What is done to a gradient that is too large. */
enum tc_clip {
    TC_CLIP_NONE,
    TC_CLIP_VALUE,       /* every value to [-limit, limit] */
    TC_CLIP_NORM,        /* every weight's gradient to a norm of at most limit */
    TC_CLIP_GLOBAL_NORM, /* all gradients together */
    TC_CLIP_COUNT,
};

/* What a weight is put back to after an update. */
enum tc_constraint {
    TC_CONSTRAINT_NONE,
    TC_CONSTRAINT_NON_NEG, /* w = max(w, 0) */
    TC_CONSTRAINT_NORM,    /* see tc_weight */
    TC_CONSTRAINT_COUNT,
};

#define TC_MAX_METRICS 16
#define TC_MAX_LOSS_PARAMETERS 3
#define TC_MAX_PARAMETERS 4
#define TC_MAX_HYPERPARAMETERS 6
/* State arrays of a weight: up to 3 of the rule, then one of the gradients' sum and one
 * of the weights' average, NULL where there is none. */
#define TC_MAX_STATES 5
#define TC_STATE_ACCUMULATOR 3
#define TC_STATE_AVERAGE 4
/* Values of an image that a random_affine takes: its places count in 32 bits. */
#define TC_MAX_AFFINE_VALUES ((ptrdiff_t)1 << 24)

/* A constant linear map of values, taken in runs of `run` neighbours; sparse, row by row:
 * y[o][r] = sum over k in [starts[o], starts[o + 1]) of factors[k] * x[indices[k]][r]. */
typedef struct tc_map {
    ptrdiff_t rows, run;         /* rows: runs of the output */
    const int32_t *starts;       /* rows + 1, ascending from 0 */
    const int32_t *indices;      /* runs of the input */
    const float *factors;        /* or NULL for ones */
} tc_map;

/* One operation; what it means is told in tinyconv/engine/program.py. */
typedef struct tc_op {
    int kind;
    ptrdiff_t in_height, in_width, in_channels;
    ptrdiff_t out_height, out_width, out_channels;
    ptrdiff_t window_height, window_width; /* kernel or pool */
    ptrdiff_t stride_height, stride_width;
    ptrdiff_t dilation_height, dilation_width;
    ptrdiff_t pad_top, pad_left; /* bottom and right follow from the output's size */
    ptrdiff_t groups;            /* of a convolution; 0 counts as 1 */
    int function;                /* of an activation; tc_noise of a dropout; tc_transform; tc_levels_kind */
    float parameters[TC_MAX_PARAMETERS]; /* activation's own; rescale: scale, offset; dropout: amount;
                                            random_levels: least and most of the number, limits of the values */
    uint64_t stream;             /* dropout, random_*: the key of its random numbers */
    int kernel, bias;            /* weights, -1 for none; batch normalization: gamma and beta; prelu: slopes */
    int fill_mode, nearest, tied; /* of a random_affine: tc_fill; not bilinear; one number for height and width */
    float fill_value;
    const tc_map *map;           /* of a gather: the program makes a copy */
    int mean, variance;          /* batch normalization: weights, its moving statistics */
    double momentum, epsilon;    /* of batch normalization */
    int frozen;                  /* batch normalization uses its moving statistics in training, too */
    int inverse;                 /* batch normalization, frozen, the other way round */
    int shared_height, shared_width, shared_channels; /* prelu: one slope along that axis */
} tc_op;

/* conv2d kernel (KH, KW, C / groups, F); conv2d_transpose (KH, KW, F, C); dense kernel
 * (inputs, units); bias (F); gamma, beta, mean and variance (C).  mean and variance are
 * not trainable.
 *
 * l1 * sum |w| + l2 * sum w^2 is a trainable weight's penalty, part of every loss but
 * TC_LOSS_INNER_PRODUCT.  TC_CONSTRAINT_NORM sees the weight as an array of five axes and
 * scales its vectors along the second and fourth of them, of norm r, by
 * (rate * clip(r, min, max) + (1 - rate) * r) / (r + 1e-7). */
typedef struct tc_weight {
    float *values;
    ptrdiff_t count;
    int trainable;
    float l1, l2;
    int constraint;
    float constraint_min, constraint_max, constraint_rate;
    ptrdiff_t constraint_shape[5];
} tc_weight;

/* n samples: rows indices[0..n) of x (N, H*W*C), y and sample_weight; rows 0..n
 * where indices is NULL. */
typedef struct tc_batch {
    const void *x;
    int x_is_uint8;              /* uint8, else float32 */
    const void *y;               /* float32 (N, outputs), or int32 (N, positions) where y_is_sparse */
    int y_is_sparse;
    const float *sample_weight;  /* (N), or NULL for ones */
    const int64_t *indices;
    ptrdiff_t n;
} tc_batch;

typedef struct tc_objective {
    int loss;
    int from_logits;
    float label_smoothing;
    double loss_scale;           /* n times the batch's loss is loss_scale * sum(weight * loss); usually 1 */
    float loss_parameters[TC_MAX_LOSS_PARAMETERS]; /* the loss's own; program.py says what they are */
    int metric_count;
    int metrics[TC_MAX_METRICS];
    float metric_parameters[TC_MAX_METRICS]; /* threshold or k */
} tc_objective;

/* One update, in this order: the gradient (with the penalty's) is added to the sum of
 * those before, clipped, the weight decays, the rule applies, the average follows, the
 * constraint is put back.  All zeros but the first three: the rule alone. */
typedef struct tc_update {
    int optimizer;
    double hyperparameters[TC_MAX_HYPERPARAMETERS];
    float *const *states;        /* TC_MAX_STATES pointers a weight, updated in place */
    int clip;
    double clip_limit;
    const double *decay;         /* (weights) w -= decay * w before the rule; or NULL */
    int accumulation_steps;      /* the update is by the mean of so many gradients; 0: by this one */
    int accumulate_only;         /* this one is not the last of them: only add it to the sum */
    int average;                 /* average = average_momentum * average + (1 - average_momentum) * w */
    double average_momentum;
    int overwrite;               /* then w = average */
} tc_update;

typedef struct tc_program tc_program;

/* The program of these operations; weights[i].values must live as long as it does.
 * Returns TC_OK and *program, or a reason and NULL. */
int tc_program_create(const tc_op *ops, ptrdiff_t op_count, const tc_weight *weights,
                      ptrdiff_t weight_count, uint64_t seed, tc_program **program);
void tc_program_destroy(tc_program *program);
/* To be called after anything but tc_train_step wrote the weights' values. */
void tc_program_weights_changed(tc_program *program);
/* Bytes of working memory for a batch of n with the threads set now. */
size_t tc_program_workspace(const tc_program *program, ptrdiff_t n, int training);

/* output (n, outputs): overwritten. */
int tc_predict(tc_program *program, const tc_batch *batch, float *output);

/* sums[0]: loss_scale * sum of weight * loss, and n times the penalty; sums[1 + i]: sum of metric i;
 * overwritten.  predictions (n, outputs): overwritten, or NULL. */
int tc_evaluate(tc_program *program, const tc_batch *batch, const tc_objective *objective,
                double *sums, float *predictions);

/* One step: as tc_evaluate in training mode, then the trainable weights are updated
 * in place by the gradient of sums[0] / n.  Batch normalization that is not frozen moves
 * its statistics towards the batch's.  step keys the random numbers. */
int tc_train_step(tc_program *program, const tc_batch *batch, const tc_objective *objective,
                  const tc_update *update, uint64_t step, double *sums, float *predictions);

/* gradients[i] (count of weight i) for trainable weights, overwritten; input_gradient
 * (n, inputs) or NULL, overwritten.  Of sums[0] / n, or of sums[0] for
 * TC_LOSS_INNER_PRODUCT.  training: whether dropout is active, and batch normalization
 * takes the statistics of the batch. */
int tc_gradients(tc_program *program, const tc_batch *batch, const tc_objective *objective,
                 int training, uint64_t step, double *sums, float *const *gradients,
                 float *input_gradient);

/* Array functions, NHWC.  index: position in the window, row-major, or NULL.
 * y (n, oh, ow, c) and index: overwritten. */
int tc_max_pool2d(const float *x, ptrdiff_t n, ptrdiff_t h, ptrdiff_t w, ptrdiff_t c, ptrdiff_t window_height,
                  ptrdiff_t window_width, ptrdiff_t stride_height, ptrdiff_t stride_width, ptrdiff_t pad_top,
                  ptrdiff_t pad_left, ptrdiff_t oh, ptrdiff_t ow, float *y, int32_t *index);
/* dx (n, h, w, c): overwritten.  index values must lie in the window and in the image. */
int tc_max_pool2d_backward(const float *dy, const int32_t *index, ptrdiff_t n, ptrdiff_t h, ptrdiff_t w,
                           ptrdiff_t c, ptrdiff_t window_height, ptrdiff_t window_width, ptrdiff_t stride_height,
                           ptrdiff_t stride_width, ptrdiff_t pad_top, ptrdiff_t pad_left, ptrdiff_t oh,
                           ptrdiff_t ow, float *dx);
/* logits (n, c); labels int32 (n) or dense float32 (n, c), the other NULL.
 * *loss: the mean; gradient (n, c): of the mean, overwritten. */
int tc_softmax_cross_entropy(const float *logits, const int32_t *labels, const float *dense, ptrdiff_t n,
                             ptrdiff_t c, double *loss, float *gradient);

/* The most float32 operations a second (a multiply-add is two) that the threads set now
 * reach with the instruction set in use; runs for about that many seconds. */
double tc_measure_peak(double seconds);

/* Threads: 0 or less restores the default (OMP_NUM_THREADS, affinity, cgroup quota). */
void tc_set_threads(int threads);
int tc_threads(void);
int tc_has_openmp(void);

/* Instruction sets by name, best first; tc_isa_name(i) is NULL past the last built. */
const char *tc_isa_name(int i);
int tc_isa_supported(int i); /* by this processor */
/* Chooses one by name, or the best for NULL.  To be called before any program is created. */
int tc_select_isa(const char *name);
const char *tc_selected_isa(void);
int tc_lanes(void); /* images side by side in a vector */

#ifdef __cplusplus
}
#endif
#endif
