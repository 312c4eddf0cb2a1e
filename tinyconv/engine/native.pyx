# cython: language_level=3, boundscheck=False, wraparound=False
"""Runs a `Program` in the C engine: validate, allocate, release the GIL, call."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyObject_GetBuffer, PyBuffer_Release
from libc.stdlib cimport calloc, free
from libc.string cimport memset

import numpy as np

from tinyconv.engine import program as _program
from tinyconv.engine.validate import check_batch, check_program, check_update

cdef dict _KINDS = {kind: i for i, kind in enumerate(_program.OP_KINDS)}
cdef dict _FUNCTIONS = {name: i for i, name in enumerate(_program.ACTIVATIONS)}
cdef dict _NOISES = {name: i for i, name in enumerate(_program.NOISES)}
cdef dict _LOSSES = {name: i for i, name in enumerate(_program.LOSSES)}
cdef dict _METRICS = {name: i for i, name in enumerate(_program.METRICS)}
cdef dict _OPTIMIZERS = {name: i for i, name in enumerate(_program.OPTIMIZERS)}
cdef dict _CONSTRAINTS = {name: i for i, name in enumerate(_program.CONSTRAINTS)}


cdef void *_address(object array, bint writable=False) except? NULL:
    """The first byte of a C-contiguous array; the caller keeps the array alive."""
    cdef Py_buffer view
    if array is None:
        return NULL
    PyObject_GetBuffer(array, &view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
    cdef void *address = view.buf
    PyBuffer_Release(&view)
    return address


cdef int _check(int status) except -1:
    if status == TC_ERROR_MEMORY:
        raise MemoryError("The engine could not allocate its workspace. Use a smaller batch.")
    if status != TC_OK:
        raise ValueError("The engine refused the program: its shapes contradict each other.")
    return 0


cdef _fill_op(tc_op *to, op):
    attributes = op.attributes
    to.kind = _KINDS[op.kind]
    to.in_height, to.in_width, to.in_channels = op.input_shape
    to.out_height, to.out_width, to.out_channels = op.output_shape
    to.window_height, to.window_width = attributes.get("kernel_size") or attributes.get("pool_size") or (1, 1)
    to.stride_height, to.stride_width = attributes.get("strides", (1, 1))
    to.dilation_height, to.dilation_width = attributes.get("dilation_rate", (1, 1))
    if "padding" in attributes:
        (to.pad_top, _), (to.pad_left, _) = attributes["padding"]
    to.groups = attributes.get("groups", 1)
    to.stream = attributes.get("stream", 0)
    if op.kind == "activation":
        to.function = _FUNCTIONS[attributes["function"]]
        defaults = _program.ACTIVATIONS[attributes["function"]]
        parameters = tuple(attributes.get("parameters") or ())
        parameters += defaults[len(parameters):]
    elif op.kind == "rescale":
        parameters = (attributes["scale"], attributes["offset"])
    elif op.kind == "random_affine":
        parameters = attributes["factors"]
        to.function = _program.TRANSFORMS.index(attributes["transform"])
        to.fill_mode = _program.FILL_MODES.index(attributes["fill_mode"])
        to.fill_value = attributes["fill_value"]
        to.nearest = attributes["nearest"]
        to.tied = attributes["tied"]
    elif op.kind == "random_levels":
        parameters = (*attributes["factors"], *attributes["limits"])
        to.function = _program.LEVELS.index(attributes["levels"])
    elif op.kind == "dropout":
        to.function = _NOISES[attributes.get("noise", "dropout")]
        parameters = (attributes["rate"],)
    else:
        parameters = ()
    for i, value in enumerate(parameters):
        to.parameters[i] = value
    weights = list(op.weights)
    if op.kind == "prelu":
        to.shared_height, to.shared_width, to.shared_channels = attributes["shared"]
    elif op.kind == "batch_normalization":
        to.variance, to.mean = weights.pop(), weights.pop()
        to.momentum, to.epsilon, to.frozen = attributes["momentum"], attributes["epsilon"], attributes["frozen"]
        to.inverse = attributes.get("inverse", False)
        if not attributes["scale"]:
            weights.insert(0, -1)
    to.kernel = weights[0] if len(weights) > 0 else -1
    to.bias = weights[1] if len(weights) > 1 else -1


cdef _fill_map(tc_map *to, attributes):
    to.rows = attributes["starts"].size - 1
    to.run = attributes["run"]
    to.starts = <const int32_t *>_address(attributes["starts"])
    to.indices = <const int32_t *>_address(attributes["indices"])
    to.factors = <const float *>_address(attributes["factors"])


cdef _fill_rules(tc_weight *to, rules):
    to.l1, to.l2 = rules.l1, rules.l2
    to.constraint = _CONSTRAINTS[rules.constraint]
    to.constraint_min, to.constraint_max, to.constraint_rate = rules.minimum, rules.maximum, rules.rate
    if rules.shape is not None:
        for k in range(5):
            to.constraint_shape[k] = rules.shape[k]


cdef class Executor:
    """Executes a program in C; `tinyconv.engine.reference.Executor` says what each method does."""

    cdef tc_program *_handle
    cdef readonly object program
    cdef float **_pointers   # state arrays, TC_MAX_STATES a weight
    cdef list _arrays        # what _pointers names, kept alive
    cdef Py_ssize_t _state_count
    cdef object _optimizer   # the rule that they were checked for
    cdef int _extras         # and the arrays behind the rule's: bit 0 the gradients' sum, bit 1 the average
    cdef double *_decay      # a weight, of `UpdateOptions`
    cdef object _loss
    cdef object _metrics
    cdef tc_objective _objective
    cdef bint _by_batch      # whether the loss's scale and parameters follow from the batch
    cdef ptrdiff_t _positions

    backend = "native"

    def __cinit__(self, program):
        check_program(program)
        cdef Py_ssize_t i, count = len(program.ops), weight_count = len(program.weights)
        self.program = program
        self._positions = program.output_shape[0] * program.output_shape[1]
        cdef tc_op *ops = <tc_op *>calloc(count + 1, sizeof(tc_op))
        cdef tc_map *maps = <tc_map *>calloc(count + 1, sizeof(tc_map))
        cdef tc_weight *weights = <tc_weight *>calloc(weight_count + 1, sizeof(tc_weight))
        self._pointers = <float **>calloc(weight_count * TC_MAX_STATES + 1, sizeof(float *))
        self._decay = <double *>calloc(weight_count + 1, sizeof(double))
        if not ops or not maps or not weights or not self._pointers or not self._decay:
            free(ops)
            free(maps)
            free(weights)
            raise MemoryError()
        try:
            for i in range(count):
                _fill_op(&ops[i], program.ops[i])
                if program.ops[i].kind == "gather":
                    _fill_map(&maps[i], program.ops[i].attributes)
                    ops[i].map = &maps[i]
            if count == 0:
                # The identity, so that a program without operations runs as any other.
                identity = _program.Op("reshape", program.input_shape, program.output_shape)
                _fill_op(&ops[0], identity)
            for i in range(weight_count):
                weights[i].values = <float *>_address(program.weights[i], True)
                weights[i].count = program.weights[i].size
                weights[i].trainable = bool(program.trainable[i])
                if i in program.rules:
                    _fill_rules(&weights[i], program.rules[i])
            _check(tc_program_create(ops, max(count, 1), weights, weight_count,
                                     <uint64_t>(program.seed & 0xFFFFFFFFFFFFFFFF), &self._handle))
        finally:
            free(ops)
            free(maps)
            free(weights)

    def __dealloc__(self):
        tc_program_destroy(self._handle)
        free(self._pointers)
        free(self._decay)

    cdef _fill_batch(self, tc_batch *batch, x, y, indices, sample_weight, Py_ssize_t n):
        batch.x = _address(x)
        batch.x_is_uint8 = x.dtype.kind == "u"
        batch.y = _address(y)
        batch.y_is_sparse = y is not None and y.dtype.kind == "i"
        batch.sample_weight = <const float *>_address(sample_weight)
        batch.indices = <const int64_t *>_address(indices)
        batch.n = n

    cdef tc_objective _objective_of(self, loss, metrics, y, indices, sample_weight, Py_ssize_t n) except *:
        """Kept from call to call, but for what follows from the batch: a training loop passes the
        same objects every step."""
        if loss is not self._loss or metrics is not self._metrics:
            self._fill_objective(loss, metrics)
        cdef tc_objective objective = self._objective
        if self._by_batch:
            self._fill_terms(&objective, loss, y, indices, sample_weight, n)
        return objective

    cdef _fill_objective(self, loss, metrics):
        if len(metrics) > TC_MAX_METRICS:
            raise ValueError(f"At most {TC_MAX_METRICS} metrics are counted at once. Received: {len(metrics)}")
        self._loss = self._metrics = None
        self._objective.loss = _LOSSES[loss.kind]
        self._objective.from_logits = loss.from_logits
        self._objective.label_smoothing = loss.label_smoothing
        self._by_batch = loss.by_batch
        if not self._by_batch:
            self._fill_terms(&self._objective, loss, None, None, None, 0)
        self._objective.metric_count = len(metrics)
        for i, metric in enumerate(metrics):
            self._objective.metrics[i] = _METRICS[metric.kind]
            self._objective.metric_parameters[i] = metric.parameter
        self._loss, self._metrics = loss, metrics

    cdef _fill_terms(self, tc_objective *objective, loss, y, indices, sample_weight, Py_ssize_t n):
        objective.loss_scale, parameters = loss.terms(y, indices, sample_weight, n, self._positions)
        for i, value in enumerate(parameters):
            objective.loss_parameters[i] = value

    cdef bint _states_known(self, optimizer, list state, int extras):
        """Whether _pointers names these very arrays, checked for this rule."""
        cdef Py_ssize_t i = 0
        if optimizer != self._optimizer or extras != self._extras or len(state) != self._state_count:
            return False
        for arrays in state:
            for array in arrays:
                if i >= len(self._arrays) or self._arrays[i] is not array:
                    return False
                i += 1
        return i == len(self._arrays)

    cdef _fill_states(self, optimizer, hyperparameters, state, options):
        """Checked and kept, with the arrays themselves, as the objective is."""
        cdef int extras = 0
        if options is not None:
            extras = bool(options.accumulation_steps) + 2 * (options.average_momentum is not None)
        if self._states_known(optimizer, state, extras):
            return
        cdef Py_ssize_t i, k, count, place
        self._optimizer = None
        check_update(self.program, optimizer, hyperparameters, state, options)
        count = _program.OPTIMIZERS[optimizer][1]
        places = [*range(count), *((TC_STATE_ACCUMULATOR,) if extras & 1 else ()),
                  *((TC_STATE_AVERAGE,) if extras & 2 else ())]
        for i in range(len(self.program.weights)):
            arrays = state[i] if i < len(state) else []
            for k in range(TC_MAX_STATES):
                self._pointers[i * TC_MAX_STATES + k] = NULL
            for place, array in zip(places, arrays):
                self._pointers[i * TC_MAX_STATES + place] = <float *>_address(array, True)
        self._arrays = [array for arrays in state for array in arrays]
        self._state_count = len(state)
        self._optimizer, self._extras = optimizer, extras

    cdef _fill_options(self, tc_update *update, options):
        cdef Py_ssize_t i
        for limit, kind in ((options.clipvalue, TC_CLIP_VALUE), (options.clipnorm, TC_CLIP_NORM),
                            (options.global_clipnorm, TC_CLIP_GLOBAL_NORM)):
            if limit:
                update.clip, update.clip_limit = kind, limit
        if options.decay:
            for i in range(len(self.program.weights)):
                self._decay[i] = 0 if i in options.undecayed else options.decay
            update.decay = self._decay
        update.accumulation_steps = options.accumulation_steps
        update.accumulate_only = not options.applies
        if options.average_momentum is not None:
            update.average = 1
            update.average_momentum = options.average_momentum
            update.overwrite = options.overwrites

    def predict(self, x, indices=None):
        x, _, indices, _, _, n = check_batch(self.program, x, None, indices)
        output = np.empty((n, *self.program.output_shape), np.float32)
        cdef tc_batch batch
        self._fill_batch(&batch, x, None, indices, None, n)
        cdef float *to = <float *>_address(output, True)
        cdef int status = TC_OK
        if n:
            with nogil:
                status = tc_predict(self._handle, &batch, to)
        _check(status)
        return output

    def evaluate(self, x, y, loss, metrics=(), indices=None, sample_weight=None, predictions=None):
        x, y, indices, sample_weight, predictions, n = check_batch(
            self.program, x, y, indices, sample_weight, loss, metrics, predictions)
        sums = np.zeros(1 + len(metrics))
        cdef tc_batch batch
        self._fill_batch(&batch, x, y, indices, sample_weight, n)
        cdef tc_objective objective = self._objective_of(loss, metrics, y, indices, sample_weight, n)
        cdef double *to = <double *>_address(sums, True)
        cdef float *outputs = <float *>_address(predictions, True)
        cdef int status = TC_OK
        if n:
            with nogil:
                status = tc_evaluate(self._handle, &batch, &objective, to, outputs)
        _check(status)
        return sums

    def train_step(self, x, y, loss, optimizer, hyperparameters, state, step, metrics=(), indices=None,
                   sample_weight=None, predictions=None, options=None):
        x, y, indices, sample_weight, predictions, n = check_batch(
            self.program, x, y, indices, sample_weight, loss, metrics, predictions)
        sums = np.zeros(1 + len(metrics))
        cdef tc_batch batch
        cdef tc_update update
        self._fill_batch(&batch, x, y, indices, sample_weight, n)
        memset(&update, 0, sizeof(update))
        self._fill_states(optimizer, hyperparameters, state, options)
        if options is not None:
            self._fill_options(&update, options)
        if len(hyperparameters) != len(_program.OPTIMIZERS[optimizer][0]):
            check_update(self.program, optimizer, hyperparameters, state, options)
        update.optimizer = _OPTIMIZERS[optimizer]
        for i, value in enumerate(hyperparameters):
            update.hyperparameters[i] = value
        update.states = self._pointers
        cdef tc_objective objective = self._objective_of(loss, metrics, y, indices, sample_weight, n)
        cdef double *to = <double *>_address(sums, True)
        cdef float *outputs = <float *>_address(predictions, True)
        cdef uint64_t number = step
        cdef int status = TC_OK
        if n:
            with nogil:
                status = tc_train_step(self._handle, &batch, &objective, &update, number, to, outputs)
        _check(status)
        return sums

    def gradients(self, x, y, loss, step=0, training=True, indices=None, sample_weight=None, input_gradient=False,
                  value=True):
        x, y, indices, sample_weight, _, n = check_batch(self.program, x, y, indices, sample_weight, loss)
        sums = np.zeros(1)
        results = [np.zeros(w.shape, np.float32) if trainable else None
                   for w, trainable in zip(self.program.weights, self.program.trainable)]
        dx = np.empty((n, *self.program.input_shape), np.float32) if input_gradient else None
        cdef tc_batch batch
        self._fill_batch(&batch, x, y, indices, sample_weight, n)
        cdef tc_objective objective = self._objective_of(loss, (), y, indices, sample_weight, n)
        cdef double *to = <double *>_address(sums, True) if value else NULL
        cdef float *dx_to = <float *>_address(dx, True)
        cdef float **gradients = <float **>calloc(len(results) + 1, sizeof(float *))
        cdef uint64_t number = step
        cdef int active = bool(training)
        cdef int status = TC_OK
        if not gradients:
            raise MemoryError()
        try:
            for i, array in enumerate(results):
                gradients[i] = <float *>_address(array, True)
            if n:
                with nogil:
                    status = tc_gradients(self._handle, &batch, &objective, active, number, to, gradients, dx_to)
        finally:
            free(gradients)
        _check(status)
        return sums, results, dx

    def weights_changed(self):
        tc_program_weights_changed(self._handle)

    def workspace_bytes(self, Py_ssize_t n, bint training=True):
        """Bytes of working memory for a batch of n samples with the threads set now."""
        return tc_program_workspace(self._handle, n, training)


def max_pool2d(x, kh, kw, sh, sw, pad_top, pad_left, oh, ow, want_index):
    """(n, h, w, c) float32 -> y (n, oh, ow, c) and the int32 positions in the window, or None."""
    cdef ptrdiff_t n, h, w, c, a = kh, b = kw, s = sh, t = sw, top = pad_top, left = pad_left, i = oh, j = ow
    n, h, w, c = x.shape
    y = np.empty((n, oh, ow, c), np.float32)
    index = np.empty((n, oh, ow, c), np.int32) if want_index else None
    cdef const float *from_x = <const float *>_address(x)
    cdef float *to_y = <float *>_address(y, True)
    cdef int32_t *to_index = <int32_t *>_address(index, True)
    cdef int status
    with nogil:
        status = tc_max_pool2d(from_x, n, h, w, c, a, b, s, t, top, left, i, j, to_y, to_index)
    _check(status)
    return y, index


def max_pool2d_backward(dy, index, input_shape, kh, kw, sh, sw, pad_top, pad_left):
    """dy (n, oh, ow, c) float32 and its int32 positions -> dx (n, h, w, c)."""
    cdef ptrdiff_t n, h, w, c, a = kh, b = kw, s = sh, t = sw, top = pad_top, left = pad_left, i, j
    n, h, w, c = input_shape
    i, j = dy.shape[1], dy.shape[2]
    dx = np.empty((n, h, w, c), np.float32)
    cdef const float *from_dy = <const float *>_address(dy)
    cdef const int32_t *from_index = <const int32_t *>_address(index)
    cdef float *to_dx = <float *>_address(dx, True)
    cdef int status
    with nogil:
        status = tc_max_pool2d_backward(from_dy, from_index, n, h, w, c, a, b, s, t, top, left, i, j, to_dx)
    _check(status)
    return dx


def softmax_cross_entropy(logits, labels):
    """logits (n, c) float32, labels int32 (n,) or float32 (n, c) -> (mean loss, gradient of the logits)."""
    cdef ptrdiff_t n, c
    n, c = logits.shape
    gradient = np.empty((n, c), np.float32)
    cdef bint sparse = labels.ndim == 1
    cdef const float *from_logits = <const float *>_address(logits)
    cdef void *from_labels = _address(labels)
    cdef float *to = <float *>_address(gradient, True)
    cdef double loss = 0
    cdef int status
    with nogil:
        status = tc_softmax_cross_entropy(from_logits, <int32_t *>from_labels if sparse else NULL,
                                          NULL if sparse else <float *>from_labels, n, c, &loss, to)
    _check(status)
    return loss, gradient


def measure_peak(double seconds):
    """The most float32 operations a second, with the threads and the instruction set in use."""
    cdef double peak
    with nogil:
        peak = tc_measure_peak(seconds)
    return peak


def set_num_threads(int threads):
    tc_set_threads(threads)


def get_num_threads():
    return tc_threads()


def has_openmp():
    return bool(tc_has_openmp())


def instruction_sets():
    """[(name, supported by this processor)], best first."""
    result = []
    cdef int i = 0
    while tc_isa_name(i) != NULL:
        result.append((tc_isa_name(i).decode(), bool(tc_isa_supported(i))))
        i += 1
    return result


def select_instruction_set(name):
    """Chooses the kernels; False where this build or processor lacks them."""
    if name is None:
        return tc_select_isa(NULL) == TC_OK
    encoded = name.encode()
    return tc_select_isa(encoded) == TC_OK


def selected_instruction_set():
    return tc_selected_isa().decode()


def lanes():
    """Images side by side in a vector of the instruction set in use."""
    return tc_lanes()
