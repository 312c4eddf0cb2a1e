# The C engine, as csrc/tinyconv.h declares it.
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, int64_t, uint64_t


cdef extern from "tinyconv.h" nogil:
    enum:
        TC_OK
        TC_ERROR_MEMORY
        TC_ERROR_ARGUMENT
        TC_ERROR_UNAVAILABLE
        TC_MAX_METRICS
        TC_MAX_LOSS_PARAMETERS
        TC_MAX_PARAMETERS
        TC_MAX_STATES
        TC_STATE_ACCUMULATOR
        TC_STATE_AVERAGE
        TC_CLIP_VALUE
        TC_CLIP_NORM
        TC_CLIP_GLOBAL_NORM

    ctypedef struct tc_map:
        ptrdiff_t rows, run
        const int32_t *starts
        const int32_t *indices
        const float *factors

    ctypedef struct tc_op:
        int kind
        ptrdiff_t in_height, in_width, in_channels
        ptrdiff_t out_height, out_width, out_channels
        ptrdiff_t window_height, window_width
        ptrdiff_t stride_height, stride_width
        ptrdiff_t dilation_height, dilation_width
        ptrdiff_t pad_top, pad_left
        ptrdiff_t groups
        int function
        float parameters[4]
        uint64_t stream
        int kernel, bias
        int fill_mode, nearest, tied
        float fill_value
        const tc_map *map
        int mean, variance
        double momentum, epsilon
        int frozen
        int inverse
        int shared_height, shared_width, shared_channels

    ctypedef struct tc_weight:
        float *values
        ptrdiff_t count
        int trainable
        float l1, l2
        int constraint
        float constraint_min, constraint_max, constraint_rate
        ptrdiff_t constraint_shape[5]

    ctypedef struct tc_batch:
        const void *x
        int x_is_uint8
        const void *y
        int y_is_sparse
        const float *sample_weight
        const int64_t *indices
        ptrdiff_t n

    ctypedef struct tc_objective:
        int loss
        int from_logits
        float label_smoothing
        double loss_scale
        float loss_parameters[3]
        int metric_count
        int metrics[16]
        float metric_parameters[16]

    ctypedef struct tc_update:
        int optimizer
        double hyperparameters[6]
        float *const *states
        int clip
        double clip_limit
        const double *decay
        int accumulation_steps
        int accumulate_only
        int average
        double average_momentum
        int overwrite

    ctypedef struct tc_program:
        pass

    int tc_program_create(const tc_op *ops, ptrdiff_t op_count, const tc_weight *weights,
                          ptrdiff_t weight_count, uint64_t seed, tc_program **program) noexcept
    void tc_program_destroy(tc_program *program) noexcept
    void tc_program_weights_changed(tc_program *program) noexcept
    size_t tc_program_workspace(const tc_program *program, ptrdiff_t n, int training) noexcept
    int tc_predict(tc_program *program, const tc_batch *batch, float *output) noexcept
    int tc_evaluate(tc_program *program, const tc_batch *batch, const tc_objective *objective,
                    double *sums, float *predictions) noexcept
    int tc_train_step(tc_program *program, const tc_batch *batch, const tc_objective *objective,
                      const tc_update *update, uint64_t step, double *sums, float *predictions) noexcept
    int tc_gradients(tc_program *program, const tc_batch *batch, const tc_objective *objective,
                     int training, uint64_t step, double *sums, float *const *gradients,
                     float *input_gradient) noexcept

    int tc_max_pool2d(const float *x, ptrdiff_t n, ptrdiff_t h, ptrdiff_t w, ptrdiff_t c,
                      ptrdiff_t window_height, ptrdiff_t window_width, ptrdiff_t stride_height,
                      ptrdiff_t stride_width, ptrdiff_t pad_top, ptrdiff_t pad_left, ptrdiff_t oh,
                      ptrdiff_t ow, float *y, int32_t *index) noexcept
    int tc_max_pool2d_backward(const float *dy, const int32_t *index, ptrdiff_t n, ptrdiff_t h, ptrdiff_t w,
                               ptrdiff_t c, ptrdiff_t window_height, ptrdiff_t window_width,
                               ptrdiff_t stride_height, ptrdiff_t stride_width, ptrdiff_t pad_top,
                               ptrdiff_t pad_left, ptrdiff_t oh, ptrdiff_t ow, float *dx) noexcept
    int tc_softmax_cross_entropy(const float *logits, const int32_t *labels, const float *dense,
                                 ptrdiff_t n, ptrdiff_t c, double *loss, float *gradient) noexcept

    double tc_measure_peak(double seconds) noexcept
    void tc_set_threads(int threads) noexcept
    int tc_threads() noexcept
    int tc_has_openmp() noexcept
    const char *tc_isa_name(int i) noexcept
    int tc_isa_supported(int i) noexcept
    int tc_select_isa(const char *name) noexcept
    const char *tc_selected_isa() noexcept
    int tc_lanes() noexcept
