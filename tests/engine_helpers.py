"""What the tests of the engine share: executors, small programs, tolerances.

`executor_class` runs a test on every executor there is; `exact(program)` is the float64
reference that float32 results are held against.
"""

from __future__ import annotations

import numpy as np
import oracles
import pytest

from tinyconv import engine, maps
from tinyconv.engine import reference
from tinyconv.engine.program import Loss, ProgramBuilder

EPSILON = float(np.finfo(np.float32).eps)
INNER_PRODUCT = Loss("inner_product")
BATCHES = (1, 2, 7, 16, 17, 33)


def executors() -> dict[str, type]:
    """The executors of the backend in use, by name; the reference is always among them."""
    found = {"numpy": reference.Executor}
    if engine.backend() == "native":
        from tinyconv.engine import native

        found["native"] = native.Executor
    return found


@pytest.fixture(params=executors())
def executor_class(request):
    """The class of an executor: `executor_class(program)`."""
    return executors()[request.param]


def exact(program):
    """The reference in float64."""
    return reference.Executor(program, dtype=np.float64)


# --- programs ---


class Network(ProgramBuilder):
    """A ProgramBuilder with a method an operation, random weights and padding by name.

    padding: "valid", "same" or ((top, bottom), (left, right)).
    """

    def __init__(self, input_shape, seed=0, trainable=True):
        super().__init__(input_shape, seed)
        self.random = np.random.default_rng(seed)
        self.train = trainable

    def new_weight(self, *shape, scale=None):
        scale = 1 / np.sqrt(max(1, np.prod(shape[:-1]))) if scale is None else scale
        return self.weight((self.random.standard_normal(shape) * scale).astype(np.float32), self.train)

    def conv2d(self, filters, kernel_size, strides=(1, 1), padding="valid", dilation=(1, 1), bias=True,
               groups=1):
        padding = explicit_padding(self.shape, kernel_size, strides, padding, dilation)
        weights = [self.new_weight(*kernel_size, self.shape[2] // groups, filters)]
        if bias:
            weights.append(self.new_weight(filters, scale=0.3))
        self.add("conv2d", (*output_size(self.shape, kernel_size, strides, padding, dilation), filters),
                 tuple(weights), kernel_size=kernel_size, strides=strides, dilation_rate=dilation,
                 padding=padding, groups=groups)
        return self

    def conv2d_transpose(self, filters, kernel_size, output_size, strides=(1, 1), padding=oracles.NO_PADDING,
                         dilation=(1, 1), bias=True):
        """padding: of the convolution from (*output_size, filters) that this is the gradient of."""
        weights = [self.new_weight(*kernel_size, filters, self.shape[2])]
        if bias:
            weights.append(self.new_weight(filters, scale=0.3))
        self.add("conv2d_transpose", (*output_size, filters), tuple(weights), kernel_size=kernel_size,
                 strides=strides, dilation_rate=dilation, padding=padding)
        return self

    def pool(self, kind, pool_size, strides=None, padding="valid"):
        strides = pool_size if strides is None else strides
        padding = explicit_padding(self.shape, pool_size, strides, padding)
        self.add(f"{kind}_pool2d", (*output_size(self.shape, pool_size, strides, padding), self.shape[2]),
                 pool_size=pool_size, strides=strides, padding=padding)
        return self

    def dense(self, units, bias=True):
        weights = [self.new_weight(self.shape[2], units)]
        if bias:
            weights.append(self.new_weight(units, scale=0.3))
        self.add("dense", (1, 1, units), tuple(weights))
        return self

    def batch_norm(self, scale=True, center=True, frozen=False, momentum=0.9, epsilon=1e-3):
        channels = self.shape[2]
        arrays = [self.random.uniform(0.5, 1.5, channels), self.random.standard_normal(channels) * 0.3,
                  self.random.standard_normal(channels) * 0.3, self.random.uniform(0.5, 2, channels)]
        used = [(arrays[0], self.train)] * scale + [(arrays[1], self.train)] * center
        weights = [self.weight(array.astype(np.float32), train)
                   for array, train in [*used, (arrays[2], False), (arrays[3], False)]]
        self.add("batch_normalization", self.shape, tuple(weights), scale=scale, center=center, frozen=frozen,
                 momentum=momentum, epsilon=epsilon)
        return self

    def prelu(self, shared=(True, True, False)):
        slopes = self.new_weight(*(1 if one else size for one, size in zip(shared, self.shape)), scale=0.5)
        self.add("prelu", self.shape, (slopes,), shared=shared)
        return self

    def activation(self, function, *parameters):
        self.add("activation", self.shape, function=function, parameters=parameters)
        return self

    def dropout(self, rate, noise="dropout"):
        self.add("dropout", self.shape, rate=rate, noise=noise, stream=self.stream())
        return self

    def rescale(self, scale, offset=0.0):
        self.add("rescale", self.shape, scale=scale, offset=offset)
        return self

    def reshape(self, *shape):
        self.add("reshape", shape)
        return self

    def gather(self, rows, columns):
        """Rows and columns of the output: two maps.Axis."""
        shape = (len(rows.indices), len(columns.indices), self.shape[2])
        self.add("gather", shape, **maps.of_image(rows, columns, self.shape))
        return self

    def gather_vector(self, indices):
        """These values of a vector; zeros for negative indices."""
        axis = maps.Axis(np.array(indices)[:, None], np.ones((len(indices), 1)))
        width = int(np.prod(self.shape))
        self.add("gather", (1, 1, len(indices)), **maps.of_image(maps.window(0, 1), axis, (1, width, 1)))
        return self

    def permute(self, *axes):
        self.add("gather", tuple(self.shape[axis] for axis in axes), **maps.of_permutation(self.shape, axes))
        return self

    def flatten(self):
        return self.reshape(1, 1, int(np.prod(self.shape)))


def explicit_padding(shape, window, strides, padding, dilation=(1, 1)):
    if padding == "valid":
        return oracles.NO_PADDING
    if padding == "same":
        return tuple(oracles.same_padding(shape[a], window[a], strides[a], dilation[a]) for a in (0, 1))
    return padding


def output_size(shape, window, strides, padding, dilation=(1, 1)):
    return tuple(oracles.output_size(shape[a], window[a], strides[a], dilation[a], padding[a])
                 for a in (0, 1))


def seed_network(seed=0):
    """The network of the tutorials: 5,994 parameters."""
    network = Network((28, 28, 1), seed)
    network.conv2d(8, (5, 5)).activation("relu").pool("max", (2, 2))
    network.conv2d(16, (5, 5)).activation("relu").pool("max", (2, 2))
    return network.flatten().dense(10).activation("softmax").build()


def identity(*shape):
    """A program whose output is its input: what losses and metrics are tested with."""
    return Network(shape).reshape(*shape).build()


def images(program, n, seed=1):
    return np.random.default_rng(seed).standard_normal((n, *program.input_shape)).astype(np.float32)


def one_hot(ids, channels):
    return np.eye(channels, dtype=np.float32)[ids]


def labels_for(loss, program, n, seed=2):
    """Random labels of the kind that the loss takes."""
    random = np.random.default_rng(seed)
    height, width, channels = program.output_shape
    positions, values = height * width, (n, height * width * channels)
    if loss.kind == "sparse_categorical_crossentropy":
        return random.integers(0, channels, (n, positions)).astype(np.int32)
    if loss.kind.startswith("categorical"):
        return one_hot(random.integers(0, channels, (n, positions)), channels).reshape(n, -1)
    if loss.kind.startswith("binary"):
        return random.integers(0, 2, values).astype(np.float32)
    if "hinge" in loss.kind:
        return random.choice([-1, 1], values).astype(np.float32)
    if loss.kind in ("poisson", "kl_divergence", "mean_squared_logarithmic_error"):
        return random.uniform(0.05, 1, values).astype(np.float32)
    return random.standard_normal(values).astype(np.float32)


def new_state(program, count):
    """Zero state arrays of an optimizer that wants `count` a weight."""
    return [[np.zeros_like(weight) for _ in range(count)] for weight in program.weights]


# --- comparisons ---


def assert_rounded(actual, expected, magnitude, length):
    """float32 sums of `length` products hold the exact ones but for rounding.

    magnitude: the sum of the products' absolute values, an array or a number.  The bound
    grows as the square root of the length: rounding errors are of either sign.
    """
    actual, expected = np.float64(actual), np.float64(expected)
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all()
    excess = np.abs(actual - expected) - EPSILON * (4 + np.sqrt(length)) * magnitude - 1e-37
    assert excess.max(initial=0) <= 0, f"off by up to {np.abs(actual - expected).max()}"


def by_points(kernel, strides, dilation):
    """Whether the C engine may take a convolution by Winograd's points (csrc/kernels/winograd.h)."""
    height, width, channels, filters = kernel.shape
    return width in (3, 5) and height >= 3 and min(channels, filters) >= 8 and strides == dilation == (1, 1)


def along(magnitude, axis, reach):
    """The largest magnitude within `reach` along an axis: points mix neighbours, and their rounding."""
    magnitude = np.asarray(magnitude)
    padded = np.pad(magnitude, [(reach, reach) if i == axis % magnitude.ndim else (0, 0)
                                for i in range(magnitude.ndim)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis)
    return windows.max(-1)


def assert_close(actual, expected, tolerance=2e-5):
    """Within `tolerance` of the largest expected value: for what went through several operations."""
    actual, expected = np.float64(actual), np.float64(expected)
    assert actual.shape == expected.shape
    scale = np.abs(expected).max(initial=0)
    worst = np.abs(actual - expected).max(initial=0)
    assert worst <= tolerance * scale + 1e-30, f"off by {worst} where the largest is {scale}"


def assert_all_close(actual, expected, tolerance=2e-5):
    """`assert_close` for lists of arrays, or None in both."""
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert_close(one, other, tolerance)
