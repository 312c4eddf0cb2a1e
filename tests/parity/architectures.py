"""Random sequential models: what hypothesis draws, as calls that either library can make."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from hypothesis import strategies as st
from parity.calls import New, is_lacking, is_present, make

import tinyconv

__all__ = ["SMOOTH", "Architecture", "architectures"]

Shape = tuple[int, ...]
Draw = Callable[..., Any]

MAX_VALUES = 1200  # of one image after any layer
SMOOTH = ("elu", "gelu", "sigmoid", "silu", "softplus", "softsign", "tanh", "mish")
ACTIVATIONS = (None, "relu", "relu6", "leaky_relu", "hard_sigmoid", "selu", *SMOOTH)


@dataclass
class Architecture:
    """A model, what it is trained with, and the seed of its data."""

    input_shape: Shape
    layers: list[New]
    loss: New
    optimizer: New
    batch: int
    seed: int


def padding(draw: Draw) -> str:
    return draw(st.sampled_from(("valid", "same")))


def size(draw: Draw, limit: int, low: int = 1, high: int = 4) -> int:
    return draw(st.integers(low, max(low, min(limit, high))))


def pair(draw: Draw, shape: Shape, high: int = 4) -> tuple[int, int]:
    return size(draw, shape[0], high=high), size(draw, shape[1], high=high)


def activation(draw: Draw) -> str | None:
    return draw(st.sampled_from(ACTIVATIONS))


def steps(draw: Draw) -> dict[str, Any]:
    """Strides or dilation, of which Keras takes only one, and padding."""
    strides, dilation = draw(st.sampled_from(((1, 1), (2, 1), (3, 1), (1, 2))))
    return {"strides": strides, "dilation_rate": dilation, "padding": padding(draw)}


def rules(draw: Draw) -> dict[str, Any]:
    """What a kernel is penalized by and put back to."""
    return {"kernel_regularizer": draw(st.sampled_from((None, None, "l2", "l1l2"))),
            "kernel_constraint": draw(st.sampled_from((None, None, "max_norm", "unit_norm")))}


def filters(draw: Draw, channels: int) -> int:
    return draw(st.sampled_from((1, 2, 3, 5, 8)))


def new(name: str, *args: Any, **kwargs: Any) -> New:
    return New(f"layers.{name}", *args, **kwargs)


def conv2d(draw: Draw, shape: Shape) -> New:
    groups = 1
    if draw(st.booleans()) and shape[2] > 1:
        groups = shape[2]
    return new("Conv2D", groups * draw(st.integers(1, 4)), pair(draw, shape), **steps(draw), groups=groups,
               activation=activation(draw), use_bias=draw(st.booleans()), **rules(draw))


def conv1d(draw: Draw, shape: Shape) -> New:
    return new("Conv1D", filters(draw, shape[1]), size(draw, shape[0]), **steps(draw),
               activation=activation(draw), use_bias=draw(st.booleans()))


def depthwise(name: str) -> Callable[[Draw, Shape], New]:
    def build(draw: Draw, shape: Shape) -> New:
        window = pair(draw, shape) if name.endswith("2D") else size(draw, shape[0])
        arguments = steps(draw)
        return new(name, window, **arguments, depth_multiplier=draw(st.integers(1, 2)),
                   activation=activation(draw), use_bias=draw(st.booleans()))
    return build


def separable(name: str) -> Callable[[Draw, Shape], New]:
    def build(draw: Draw, shape: Shape) -> New:
        window = pair(draw, shape) if name.endswith("2D") else size(draw, shape[0])
        return new(name, filters(draw, shape[-1]), window, **steps(draw),
                   depth_multiplier=draw(st.integers(1, 2)), activation=activation(draw))
    return build


def transposed(name: str) -> Callable[[Draw, Shape], New]:
    def build(draw: Draw, shape: Shape) -> New:
        window = (size(draw, 3), size(draw, 3)) if name.startswith("Conv2D") else size(draw, 3)
        return new(name, draw(st.integers(1, 4)), window, strides=draw(st.integers(1, 2)), padding=padding(draw),
                   activation=activation(draw), use_bias=draw(st.booleans()))
    return build


def pooling(name: str) -> Callable[[Draw, Shape], New]:
    def build(draw: Draw, shape: Shape) -> New:
        window = pair(draw, shape) if name.endswith("2D") else size(draw, shape[0])
        return new(name, window, strides=draw(st.sampled_from((None, 1, 2))), padding=padding(draw))
    return build


def global_pooling(name: str) -> Callable[[Draw, Shape], New]:
    return lambda draw, shape: new(name, keepdims=draw(st.booleans()))


def border(name: str, high: int) -> Callable[[Draw, Shape], New]:
    def build(draw: Draw, shape: Shape) -> New:
        def side() -> tuple[int, int]:
            return draw(st.integers(0, high)), draw(st.integers(0, high))
        return new(name, (side(), side()) if name.endswith("2D") else side())
    return build


def upsampling2d(draw: Draw, shape: Shape) -> New:
    return new("UpSampling2D", (draw(st.integers(1, 2)), draw(st.integers(1, 3))),
               interpolation=draw(st.sampled_from(("nearest", "bilinear"))))


def reshape(draw: Draw, shape: Shape) -> New:
    count = math.prod(shape)
    first = draw(st.sampled_from([divisor for divisor in range(1, 13) if count % divisor == 0]))
    return new("Reshape", draw(st.sampled_from(((first, -1), (-1,), (first, -1, 1)))))


def permute(draw: Draw, shape: Shape) -> New:
    return new("Permute", tuple(draw(st.permutations(range(1, len(shape) + 1)))))


ANY: dict[str, Callable[[Draw, Shape], New]] = {
    "Dense": lambda draw, shape: new("Dense", filters(draw, shape[-1]), activation=activation(draw),
                                     use_bias=draw(st.booleans()), **rules(draw)),
    "Activation": lambda draw, shape: new("Activation", draw(st.sampled_from(ACTIVATIONS[1:]))),
    "ReLU": lambda draw, shape: new("ReLU", draw(st.sampled_from((None, 0.8))), draw(st.sampled_from((0.0, 0.2))),
                                    draw(st.sampled_from((0.0, 0.3)))),
    "LeakyReLU": lambda draw, shape: new("LeakyReLU", draw(st.sampled_from((0.3, 0.05)))),
    "ELU": lambda draw, shape: new("ELU", draw(st.sampled_from((1.0, 0.5)))),
    "PReLU": lambda draw, shape: new("PReLU"),
    "Softmax": lambda draw, shape: new("Softmax"),
    "Flatten": lambda draw, shape: new("Flatten"),
    "Reshape": reshape,
    "Permute": permute,
    "Identity": lambda draw, shape: new("Identity"),
    "Rescaling": lambda draw, shape: new("Rescaling", draw(st.sampled_from((0.5, -1.5))),
                                         draw(st.sampled_from((0.0, 0.25)))),
    "Dropout": lambda draw, shape: new("Dropout", 0.0),
    "BatchNormalization": lambda draw, shape: new(
        "BatchNormalization", momentum=draw(st.sampled_from((0.99, 0.5))), epsilon=0.01,
        center=draw(st.booleans()), scale=draw(st.booleans())),
    "LayerNormalization": lambda draw, shape: new("LayerNormalization", epsilon=0.01),
}
IMAGES: dict[str, Callable[[Draw, Shape], New]] = {
    "Conv2D": conv2d,
    "DepthwiseConv2D": depthwise("DepthwiseConv2D"),
    "SeparableConv2D": separable("SeparableConv2D"),
    "Conv2DTranspose": transposed("Conv2DTranspose"),
    **{name: pooling(name) for name in ("MaxPooling2D", "AveragePooling2D")},
    **{name: global_pooling(name) for name in ("GlobalMaxPooling2D", "GlobalAveragePooling2D")},
    "ZeroPadding2D": border("ZeroPadding2D", 2),
    "Cropping2D": border("Cropping2D", 1),
    "UpSampling2D": upsampling2d,
    "SpatialDropout2D": lambda draw, shape: new("SpatialDropout2D", 0.0),
}
SEQUENCES: dict[str, Callable[[Draw, Shape], New]] = {
    "Conv1D": conv1d,
    "DepthwiseConv1D": depthwise("DepthwiseConv1D"),
    "SeparableConv1D": separable("SeparableConv1D"),
    "Conv1DTranspose": transposed("Conv1DTranspose"),
    **{name: pooling(name) for name in ("MaxPooling1D", "AveragePooling1D")},
    **{name: global_pooling(name) for name in ("GlobalMaxPooling1D", "GlobalAveragePooling1D")},
    "ZeroPadding1D": border("ZeroPadding1D", 2),
    "Cropping1D": border("Cropping1D", 1),
    "UpSampling1D": lambda draw, shape: new("UpSampling1D", draw(st.integers(1, 3))),
    "SpatialDropout1D": lambda draw, shape: new("SpatialDropout1D", 0.0),
}
VECTORS: dict[str, Callable[[Draw, Shape], New]] = {
    "RepeatVector": lambda draw, shape: new("RepeatVector", draw(st.integers(1, 4))),
}

# What a model ends in, and is trained with: the last layer's activation and the loss.
ENDS: tuple[tuple[str | None, New], ...] = (
    ("softmax", New("losses.SparseCategoricalCrossentropy")),
    (None, New("losses.SparseCategoricalCrossentropy", from_logits=True)),
    ("softmax", New("losses.CategoricalCrossentropy")),
    ("softmax", New("losses.CategoricalCrossentropy", label_smoothing=0.1)),
    (None, New("losses.CategoricalCrossentropy", from_logits=True)),
    ("sigmoid", New("losses.BinaryCrossentropy")),
    (None, New("losses.BinaryCrossentropy", from_logits=True, label_smoothing=0.2)),
    (None, New("losses.MeanSquaredError")),
    ("tanh", New("losses.MeanSquaredError")),
    (None, New("losses.MeanAbsoluteError")),
    (None, New("losses.Huber", delta=0.5)),
    (None, New("losses.LogCosh")),
    ("softmax", New("losses.KLDivergence")),
    (None, New("losses.Hinge")),
    (None, New("losses.CosineSimilarity")),
)
# With an epsilon that is not small beside the gradients: where a gradient is 0 but for rounding, such as
# that of a bias before a normalization, rounding errors would otherwise decide where a weight goes.
OPTIMIZERS: tuple[New, ...] = (
    New("optimizers.SGD", 0.1),
    New("optimizers.SGD", 0.05, momentum=0.9),
    New("optimizers.SGD", 0.05, momentum=0.8, nesterov=True),
    New("optimizers.Adam", 0.01, epsilon=0.01),
    New("optimizers.Adam", 0.01, beta_1=0.8, beta_2=0.9, epsilon=0.1),
    New("optimizers.AdamW", 0.01, epsilon=0.01, weight_decay=0.1),
    New("optimizers.RMSprop", 0.01, epsilon=0.01),
    New("optimizers.Adagrad", 0.01, epsilon=0.01),
    New("optimizers.Adamax", 0.01, epsilon=0.01),
    New("optimizers.Nadam", 0.01, epsilon=0.01),
    New("optimizers.Adadelta", 0.5, epsilon=0.01),
)


def _present(table: dict[str, Callable[[Draw, Shape], New]]) -> dict[str, Callable[[Draw, Shape], New]]:
    return {name: build for name, build in table.items() if not is_lacking(f"layers.{name}")}


def _next_shape(library: ModuleType, call: New, shape: Shape) -> Shape | None:
    """The shape after a layer as a library has it; None where it does not fit, or grows too large."""
    state = random.getstate()  # Keras seeds initializers from it; what hypothesis draws must not depend on that
    try:
        layer = make(library, call)
        after = tuple(layer.compute_output_shape(shape) if library is tinyconv
                      else layer.compute_output_shape((None, *shape))[1:])
    except ValueError:
        return None
    finally:
        random.setstate(state)
    fits = len(after) <= 3 and min(after) > 0 and math.prod(after) <= MAX_VALUES
    return after if fits else None


def _is_conditioned(call: New, shape: Shape, batch: int) -> bool:
    """Whether a normalization has enough values to take a variance of, and a softmax more than one."""
    if call.name == "BatchNormalization":
        return batch * math.prod(shape[:-1]) >= 6
    return shape[-1] >= {"LayerNormalization": 3, "Softmax": 2}.get(call.name, 1)


@st.composite
def architectures(draw: Draw, library: ModuleType = tinyconv) -> Architecture:
    """1 to 6 layers, which fit each other by what a library says, then a Dense to what the loss wants."""
    size_ = st.integers(2, 12)
    channels = draw(st.sampled_from((1, 2, 3)))
    shape: Shape = draw(st.sampled_from((3, 3, 3, 2, 1)).flatmap(
        lambda rank: st.tuples(*[size_] * (rank - 1), st.just(channels if rank > 1 else 7))))
    input_shape, batch = shape, draw(st.integers(1, 9))
    layers: list[New] = []
    for _ in range(draw(st.integers(1, 6))):
        table = {**ANY, **{3: IMAGES, 2: SEQUENCES, 1: VECTORS}[len(shape)]}
        call = draw(st.sampled_from(list(_present(table).items())))[1](draw, shape)
        after = _next_shape(library, call, shape)
        if after is not None and _is_conditioned(call, shape, batch):
            layers.append(call)
            shape = after
    function, loss = draw(st.sampled_from([end for end in ENDS if is_present(end[1])]))
    if len(shape) > 1 and draw(st.booleans()):
        layers.append(new("Flatten"))
    layers.append(new("Dense", draw(st.integers(2, 5)), activation=function))
    optimizer = draw(st.sampled_from([optimizer for optimizer in OPTIMIZERS if is_present(optimizer)]))
    return Architecture(input_shape, layers, loss, optimizer, batch, draw(st.integers(0, 9999)))
