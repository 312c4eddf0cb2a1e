"""The program: the flat list of operations that a model lowers to.

A `Program` is plain data.  Layers write it (`ProgramBuilder`), an executor runs
it: `tinyconv.engine.native` in C, `tinyconv.engine.reference` in NumPy.  Both
run the same records and give the same numbers up to float32 rounding.

Every activation has the shape (H, W, C) per image; a vector of F features is
(1, 1, F) and a (W, C) sequence is (1, W, C).  Convolution kernels hold
(KH, KW, C / groups, F) values, dense kernels are (inputs, units), both float32 and
C-contiguous.

Operation kinds and their attributes:

==================  =========================================================
conv2d              kernel_size, strides, dilation_rate: (int, int);
                    padding: ((top, bottom), (left, right)) in zero pixels;
                    groups: int, 1 where it is missing: filters g * F / groups to
                    (g + 1) * F / groups read the channels of group g;
                    weights: (kernel,) or (kernel, bias).  The kernel may lack the
                    KH of 1, and where a group has one channel be (KH, KW, C, F / C)
conv2d_transpose    the gradient of a conv2d from (OH, OW, F) to (H, W, C) with
                    respect to its input: attributes as that conv2d's, without
                    groups; the kernel is (KH, KW, F, C)
dense               weights: (kernel,) or (kernel, bias); input is (1, 1, inputs)
max_pool2d          pool_size, strides: (int, int); padding as conv2d, counted
                    as minus infinity; the first maximum in row-major order wins
average_pool2d      as max_pool2d; padding is left out of the count
activation          function: a name in ACTIVATIONS; parameters: tuple of floats
dropout             noise: a name in NOISES; rate: float, in [0, 1), or 1 where
                    values are dropped, or any of a gaussian_noise; stream: int, the key of its random numbers;
                    identity outside training
rescale             scale, offset: float; y = x * scale + offset
batch_normalization epsilon, momentum: float; scale, center: whether there are a gamma
                    and a beta; frozen: bool; weights: ([gamma,] [beta,] moving_mean,
                    moving_variance), (C,) each, the last two not trainable.
                    y = (x - mean) / sqrt(variance + epsilon) * gamma + beta with the
                    moving statistics; in training, unless frozen, with those of the
                    batch, over all samples and pixels, and a training step then
                    moves the moving ones: moving * momentum + batch * (1 - momentum),
                    the variance being the biased one.  inverse, only where frozen and
                    without gamma and beta: y = x * sqrt(variance + epsilon) + mean
reshape             none; the values keep their row-major order
gather              a constant linear map, by rows of sparse sums: starts, int32
                    (rows + 1,); indices, int32; factors, float32 or None for
                    ones; run, an int that divides the channels of input and
                    output: with values taken in runs of so many, run o of y is
                    the sum over k in [starts[o], starts[o + 1]) of factors[k]
                    times run indices[k] of x (see tinyconv.maps)
random_affine       transform: a name in TRANSFORMS; factors: four floats, its
                    parameters; tied: bool; fill_mode: a name in FILL_MODES;
                    fill_value: float; nearest: bool, else bilinear; stream:
                    int, the key of its random numbers; identity outside training
random_levels       levels: a name in LEVELS; factors: two floats, its parameters; limits:
                    two floats that results are clipped to; stream: int, the key of its
                    random numbers; identity outside training
prelu               shared: (bool, bool, bool), axes along which there is one slope;
                    weights: (slopes,) of the input's shape with 1 for those axes;
                    y = max(0, x) + slopes * min(0, x), the derivative at 0 being 0
==================  =========================================================
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tinyconv.engine.update_rules import CONSTRAINTS, OPTIMIZERS, UpdateOptions, WeightRules

__all__ = [
    "ACTIVATIONS", "CONSTRAINTS", "FILL_MODES", "LEVELS", "LOSSES", "MAX_AFFINE_VALUES", "METRICS", "NOISES",
    "OPTIMIZERS", "OP_KINDS", "REDUCTIONS", "SMOOTHED_LOSSES", "TRANSFORMS", "Loss", "Metric", "Op", "Program",
    "ProgramBuilder", "UpdateOptions", "WeightRules", "as_image_shape", "random_bits", "random_key", "random_normal",
]

Shape3 = tuple[int, int, int]

# Operation kinds; the order is the numbering in csrc/tinyconv.h (a test holds them together).
OP_KINDS = (
    "conv2d", "conv2d_transpose", "dense", "max_pool2d", "average_pool2d", "activation", "dropout", "rescale",
    "reshape", "gather",
    "batch_normalization",
    "random_affine",
    "prelu",
    "random_levels",
)

# Activation functions and the defaults of their parameters; the order is the
# numbering in csrc/tinyconv.h.
ACTIVATIONS: dict[str, tuple[float, ...]] = {
    "linear": (),
    "relu": (0.0, float("inf"), 0.0),  # negative_slope, max_value, threshold
    "sigmoid": (),
    "tanh": (),
    "softmax": (),
    "leaky_relu": (0.2,),  # negative_slope
    "elu": (1.0,),  # alpha
    "selu": (),
    "softplus": (),
    "softsign": (),
    "exponential": (),
    "hard_sigmoid": (),
    "silu": (),
    "hard_silu": (),
    "gelu": (),  # exact, with erf
    "gelu_tanh": (),  # the tanh approximation
    "mish": (),
    "log_softmax": (),
    "celu": (1.0,),  # alpha
    "log_sigmoid": (),
    "hard_tanh": (),
    "tanh_shrink": (),
    "soft_shrink": (0.5,),  # threshold
    "hard_shrink": (0.5,),  # threshold
    "squareplus": (4.0,),  # b
    "sparse_plus": (),
    "sparse_sigmoid": (),
}

# Kinds of noise in training, under the random numbers of `random_bits`; the order is the
# numbering in csrc/tinyconv.h.  m is 1 where an element is kept (see `random_key`), N the
# element's `random_normal`, s = sqrt(rate / (1 - rate)).
NOISES = (
    "dropout",  # m x / (1 - rate)
    "spatial_dropout",  # the same, a channel's number for all of its pixels
    "gaussian_noise",  # x + rate N
    "gaussian_dropout",  # x (1 + s N)
    "alpha_dropout",  # a (m x + (1 - m) p) + b; p is selu's limit, a and b restore mean 0 and variance 1
)

# Maps of the pixels of an image about its middle, drawn from its random numbers: u and v are the
# random bits of 0 and 1 (tied: both of 0), >> 8, by 2**24.  The order is the numbering in csrc/tinyconv.h.
TRANSFORMS = (
    "flip",  # where u <= 1/2: horizontally and vertically, as factors 0 and 1 say (1 or 0)
    "translation",  # by factors[0] + (factors[1] - factors[0]) u heights down, and as much of 2, 3 and v to the right
    "rotation",  # by factors[0] + (factors[1] - factors[0]) u turns
    "zoom",  # pixels 1 + factors[0] + (factors[1] - factors[0]) u apart, and 2, 3 and v across
)
# What changes the values of an image, by a number r = factors[0] + (factors[1] - factors[0]) u of it, u as above,
# before they are clipped; the order is the numbering in csrc/tinyconv.h.
LEVELS = (
    "brightness",  # x + r
    "contrast",  # (x - m) r + m, m being the mean of the channel in the image
)
# What lies beyond an image abcd: fill_value, aaaa|abcd|dddd, dcba|abcd|dcba or abcd|abcd|abcd.
FILL_MODES = ("constant", "nearest", "reflect", "wrap")
# Values of an image that random_affine takes.
MAX_AFFINE_VALUES = 2**24

# Losses and the defaults of their parameters; the order is the numbering in csrc/tinyconv.h.
# "inner_product" is sum(y_true * y_pred): its gradient with respect to the output is y_true
# itself, which makes any vector-Jacobian product a call of `gradients`.
LOSSES: dict[str, tuple[float, ...]] = {
    "categorical_crossentropy": (),
    "sparse_categorical_crossentropy": (float("inf"),),  # a class id whose positions do not count
    "binary_crossentropy": (),
    "mean_squared_error": (),
    "inner_product": (),
    "mean_absolute_error": (),
    "mean_absolute_percentage_error": (),
    "mean_squared_logarithmic_error": (),
    "huber": (1.0,),  # delta
    "log_cosh": (),
    "poisson": (),
    "kl_divergence": (),
    "hinge": (0.0,),  # 1 where labels of 0 stand for -1
    "squared_hinge": (0.0,),
    "categorical_hinge": (),
    "cosine_similarity": (),
    "binary_focal_crossentropy": (2.0, 1.0, 1.0),  # gamma, weights of the labels 1 and 0
    "categorical_focal_crossentropy": (2.0, 0.25),  # gamma, alpha
}

# Losses of labels -1 and 1, whose parameter follows from a batch's labels.
_SIGNED_LOSSES = ("hinge", "squared_hinge")

# How a batch's loss follows from those of its samples and positions: `Loss.reduction`.
REDUCTIONS = ("mean", "sum", "mean_with_sample_weight")

# Losses of labels that can be smoothed, towards 1 / C or, of the binary ones, 1 / 2.
SMOOTHED_LOSSES = (
    "categorical_crossentropy", "binary_crossentropy", "binary_focal_crossentropy",
    "categorical_focal_crossentropy",
)

# Metrics counted while a batch runs; the order is the numbering in csrc/tinyconv.h.
METRICS = (
    "categorical_accuracy",
    "sparse_categorical_accuracy",
    "binary_accuracy",  # parameter: threshold
    "top_k_categorical_accuracy",  # parameter: k
    "sparse_top_k_categorical_accuracy",  # parameter: k
)

@dataclass(frozen=True)
class Op:
    """One operation: shapes per image, attributes, indices into `Program.weights`."""

    kind: str
    input_shape: Shape3
    output_shape: Shape3
    attributes: dict[str, Any] = field(default_factory=dict)
    weights: tuple[int, ...] = ()
    layer: str = ""  # name of the layer that lowered to this operation, for messages


@dataclass(frozen=True)
class Loss:
    """What a batch is measured by.

    The output (H, W, C) is H*W positions of C values.  The loss of a sample is the
    mean over positions of: a sum over C for the (sparse and focal) categorical
    cross-entropies, the Kullback-Leibler divergence, the cosine similarity and the
    categorical hinge; for the others a mean over C.  "inner_product" sums over everything.

    y_true is float32 (N, H*W*C), or int32 (N, H*W) for the sparse losses.
    A batch's loss is `weight` times
      mean: sum(sample_weight * loss) / N; where a class is ignored, divided by the share
        of the positions that count as well;
      sum: the sum over samples and positions;
      mean_with_sample_weight: sum(sample_weight * loss) / sum(sample_weight).
    """

    kind: str
    from_logits: bool = False
    label_smoothing: float = 0.0
    parameters: tuple[float, ...] = ()  # the first of the kind's, instead of the defaults
    reduction: str = "mean"
    weight: float = 1.0

    @property
    def is_sparse(self) -> bool:
        """Whether labels are class ids."""
        return self.kind.startswith("sparse_")

    @property
    def by_batch(self) -> bool:
        """Whether `terms` are others from batch to batch."""
        ignores_a_class = self.is_sparse and self._values()[0] < float("inf")
        return self.reduction != "mean" or self.kind in _SIGNED_LOSSES or ignores_a_class

    def _values(self) -> tuple[float, ...]:
        return self.parameters + LOSSES[self.kind][len(self.parameters):]

    def terms(self, y: np.ndarray, indices: np.ndarray | None, sample_weight: np.ndarray | None, n: int,
              positions: int) -> tuple[float, tuple[float, ...]]:
        """What of the loss follows from a batch as a whole: n samples, the arrays as an executor gets them.

        Returns:
            (scale, parameters).  The batch's loss is scale / N * sum(sample_weight * loss).
        """
        scale, parameters = self.weight, self._values()
        if not self.by_batch or not n:
            return scale, parameters
        rows = slice(None) if indices is None else indices
        if self.kind in _SIGNED_LOSSES:
            parameters = (float(np.isin(y[rows], (0, 1)).all()),)
        if self.reduction == "sum":
            return scale * n * positions, parameters
        counted = np.ones(n)
        if self.is_sparse and parameters[0] < float("inf"):
            counted = (y[rows].reshape(n, -1) != parameters[0]).mean(axis=1)
        if self.reduction == "mean_with_sample_weight" and sample_weight is not None:
            counted = counted * sample_weight[rows]
        total = float(counted.sum())
        return (scale * n / total if total else 0.0), parameters


@dataclass(frozen=True)
class Metric:
    """A metric counted by the executor: a sum over samples of the mean over positions."""

    kind: str
    parameter: float = 0.0  # threshold of binary_accuracy, k of the top-k family


@dataclass
class Program:
    """A model, lowered: run by an executor.

    weights are the arrays that the layers own; training changes them in place.
    rules has what else there is to a weight, by its index.
    """

    ops: tuple[Op, ...]
    weights: tuple[np.ndarray, ...]
    trainable: tuple[bool, ...]
    input_shape: Shape3
    output_shape: Shape3
    seed: int = 0
    rules: dict[int, WeightRules] = field(default_factory=dict)

    def frozen(self) -> Program:
        """The same without a weight that is trained."""
        return replace(self, trainable=(False,) * len(self.weights))

    def multiply_adds(self, op: Op) -> int:
        """Multiply-adds of one image in a convolution or dense layer, as the direct way has them; 0 in others.

        Zeros of padding count; a transposed convolution has those of the one that it turns round."""
        if op.kind not in ("conv2d", "conv2d_transpose", "dense"):
            return 0
        height, width, _ = op.input_shape if op.kind == "conv2d_transpose" else op.output_shape
        return height * width * self.weights[op.weights[0]].size

    @property
    def softmax_output(self) -> bool:
        """Whether the program ends in a softmax (cross-entropy is then taken from its input)."""
        return self._ends_in("softmax")

    @property
    def sigmoid_output(self) -> bool:
        """Whether the program ends in a sigmoid (binary cross-entropy is then taken from its input)."""
        return self._ends_in("sigmoid")

    def _ends_in(self, function: str) -> bool:
        for op in reversed(self.ops):
            if op.kind == "reshape" and op.input_shape[2] == op.output_shape[2]:
                continue
            return op.kind == "activation" and op.attributes["function"] == function
        return False


class ProgramBuilder:
    """Collects the operations of a model, layer by layer.

    `shape` is the image shape after the operations so far.
    """

    def __init__(self, input_shape: Shape3, seed: int = 0) -> None:
        self.input_shape = input_shape
        self.shape = input_shape
        self.seed = seed
        self.ops: list[Op] = []
        self.weights: list[np.ndarray] = []
        self.trainable: list[bool] = []
        self.rules: dict[int, WeightRules] = {}
        self._streams = 0
        self._constants: list[np.ndarray] = []

    def weight(self, array: np.ndarray, trainable: bool = True, rules: WeightRules | None = None) -> int:
        """Registers a weight array and returns its index."""
        _check_weight(array)
        self.weights.append(array)
        self.trainable.append(trainable)
        if rules is not None:
            self.rules[len(self.weights) - 1] = rules
        return len(self.weights) - 1

    def constant(self, array: np.ndarray) -> int:
        """Registers an array that is no weight of a layer and returns what stands for its index.

        Constants come behind the weights of all layers, none of which changes its index by them.
        """
        _check_weight(array)
        self._constants.append(array)
        return -len(self._constants)

    def add(self, kind: str, output_shape: Shape3, weights: tuple[int, ...] = (), layer: str = "",
            **attributes: Any) -> None:
        """Appends an operation whose input is the output of the one before; ValueError where there is no such kind."""
        if kind not in OP_KINDS:
            raise ValueError(f"Unknown operation. Expected one of {OP_KINDS}. Received: kind={kind!r}")
        self.ops.append(Op(kind, self.shape, output_shape, attributes, weights, layer))
        self.shape = output_shape

    def stream(self) -> int:
        """A key for the random numbers of one operation: its position among the random ones."""
        self._streams += 1
        return self._streams - 1

    def build(self) -> Program:
        """The program of all operations so far."""
        count = len(self.weights)
        ops = tuple(replace(op, weights=tuple(count - 1 - w if w < 0 else w for w in op.weights)) for op in self.ops)
        return Program(ops, (*self.weights, *self._constants), (*self.trainable, *[False] * len(self._constants)),
                       self.input_shape, self.shape, self.seed, dict(self.rules))


def _check_weight(array: np.ndarray) -> None:
    if array.dtype != np.float32 or not array.flags.c_contiguous:
        raise TypeError(f"A weight must be a C-contiguous float32 array. Received: dtype={array.dtype}")


def as_image_shape(shape: tuple[int, ...]) -> Shape3:
    """(F,) -> (1, 1, F); (W, C) -> (1, W, C); (H, W, C) as it is.

    Raises:
        ValueError: If it has not 1 to 3 dimensions.
    """
    if not 1 <= len(shape) <= 3:
        raise ValueError(
            f"Expected a shape of 1 to 3 dimensions per sample. Received: shape={tuple(shape)}"
        )
    height, width, channels = (1,) * (3 - len(shape)) + tuple(int(d) for d in shape)
    return height, width, channels


_MASK64 = (1 << 64) - 1


def _splitmix64(x: int) -> int:
    # Steele, Lea, Flood: Fast splittable pseudorandom number generators (2014).
    x = (x + 0x9E3779B97F4A7C15) & _MASK64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK64
    return x ^ (x >> 31)


def random_key(seed: int, step: int, stream: int, image: int) -> tuple[int, int]:
    """The two 32-bit keys of one image's random numbers at one training step.

    `image` is the position in the batch.  Element e (row-major within the image)
    gets the 32-bit number u of `random_bits`; dropout keeps it where
    (u >> 8) >= ceil(rate * 2**24).
    """
    z = _splitmix64(seed & _MASK64)
    z = _splitmix64(z ^ (step & _MASK64))
    z = _splitmix64(z ^ (stream & _MASK64))
    z = _splitmix64(z ^ (image & _MASK64))
    return z & 0xFFFFFFFF, z >> 32


def random_bits(key: tuple[int, int], elements: np.ndarray) -> np.ndarray:
    """uint32 random numbers for uint32 element numbers under one key.

    A 32-bit finalizer (the constants of Wellons' hash-prospector "lowbias32")
    with the second key mixed in between its two multiplications.
    """
    x = elements.astype(np.uint32) + np.uint32(key[0])
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= np.uint32(key[1])
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return x


def random_normal(key: tuple[int, int], elements: np.ndarray) -> np.ndarray:
    """Normally distributed float64 numbers for uint32 element numbers under one key.

    Box and Muller's (1958): element e takes the random bits u and v of 2 e and 2 e + 1,
    sqrt(-2 log(((u >> 8) + 1) / 2**24)) * cos(2 pi (v >> 8) / 2**24).
    """
    twice = elements.astype(np.uint32) * np.uint32(2)
    u = (random_bits(key, twice) >> np.uint32(8)) + 1.0
    v = (random_bits(key, twice + np.uint32(1)) >> np.uint32(8)) * 2.0**-24
    return np.sqrt(-2 * np.log(u * 2.0**-24)) * np.cos(2 * np.pi * v)
