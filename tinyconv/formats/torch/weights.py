"""Layers with weights as modules of torch.nn: dense, convolutions, normalizations, PReLU."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinyconv import layers, shapes
from tinyconv.formats.torch.activations import Unmapped
from tinyconv.formats.torch.chain import Chain, Tensor, add_modules
from tinyconv.layers import Layer, Weight
from tinyconv.layers.conv import BaseConvolution, Convolution
from tinyconv.layers.conv_transpose import TransposedConvolution
from tinyconv.layers.depthwise import DepthwiseConvolution, SeparableConvolution
from tinyconv.layers.layout import axes_of, pair_of
from tinyconv.layers.nonlinear import ActivationLayer

__all__: list[str] = []

# Keras' least standard deviation, 1e-7, as something to be added to a variance.
_NORMALIZATION_EPSILON = 1e-14
# Layers that treat the values of a vector alike, in whatever order they are, or one by one.
_POINTWISE = (ActivationLayer, layers.AlphaDropout, layers.BatchNormalization, layers.Dropout,
              layers.GaussianDropout, layers.GaussianNoise, layers.PReLU, layers.Rescaling)


def _positions(weight: Weight) -> np.ndarray:
    return np.arange(weight.value.size).reshape(weight.shape)


def _tensors(layer: Any, kernel: str, order: Callable[[np.ndarray], np.ndarray]) -> dict[str, Tensor]:
    """The weight and the bias of a module; `order` says how PyTorch has the weight."""
    weight = getattr(layer, kernel)
    return {"weight": Tensor(weight, layer.name, order(_positions(weight))), **_bias(layer)}


def _bias(layer: Any, order: Any = ...) -> dict[str, Tensor]:
    return {"bias": Tensor(layer.bias, layer.name, _positions(layer.bias)[order])} if layer.use_bias else {}


@add_modules.register
def _(layer: layers.Dense, chain: Chain) -> None:
    inputs, units = layer.kernel.shape
    weight = _positions(layer.kernel).T
    rank = len(layer.input_shape) - 1
    if rank:  # over the last axis: a convolution of one tap
        chain.require(layer.input_shape, "channels_last")
        chain.add(f"Conv{rank}d", {"in_channels": inputs, "out_channels": units, "kernel_size": (1,) * rank,
                                   "bias": layer.use_bias},
                  weight=Tensor(layer.kernel, layer.name, weight.reshape(units, inputs, *(1,) * rank)), **_bias(layer))
        chain.order = chain.standard(layer.output_shape)
    else:
        order = _order_of_outputs(layer, chain)
        chain.add("Linear", {"in_features": inputs, "out_features": units, "bias": layer.use_bias},
                  weight=Tensor(layer.kernel, layer.name, weight[order][:, chain.order]), **_bias(layer, order))
        chain.order = order
    chain.activate(layer, layer.activation)


def _order_of_outputs(layer: layers.Dense, chain: Chain) -> np.ndarray:
    """The order of a dense layer's outputs: that of the image that a `Reshape` makes of them, else their own."""
    for later in chain.layers[chain.number + 1:]:
        if isinstance(later, layers.Reshape):
            return chain.standard(later.output_shape).reshape(-1)
        if not isinstance(later, _POINTWISE):
            break
    return np.arange(layer.units)


# --- convolutions ---


def _convolve(chain: Chain, layer: BaseConvolution, channels: int, filters: int, groups: int,
              **tensors: Tensor) -> None:
    image = layer.image_of(layer.input_shape)
    rank = layer.rank
    padding = shapes.window_padding(image, pair_of(layer.kernel_size), pair_of(layer.strides), layer.padding,
                                    pair_of(layer.dilation_rate))[2 - rank:]
    arguments: dict[str, Any] = {
        "in_channels": channels, "out_channels": filters, "kernel_size": layer.kernel_size,
        "stride": layer.strides, "dilation": layer.dilation_rate, "groups": groups, "bias": "bias" in tensors,
    }
    if all(before == after for before, after in padding):
        arguments["padding"] = tuple(before for before, _ in padding)
    else:
        chain.pad(padding)
    chain.add(f"Conv{rank}d", arguments, **tensors)


def _transposed(kernel: np.ndarray) -> np.ndarray:
    """(taps..., a, b) -> (b, a, taps...)."""
    return np.moveaxis(kernel, (-1, -2), (0, 1))


def _depthwise(kernel: np.ndarray) -> np.ndarray:
    """(taps..., channels, multiplier) -> (channels * multiplier, 1, taps...)."""
    moved = np.moveaxis(kernel, (-2, -1), (0, 1))
    return moved.reshape(-1, 1, *moved.shape[2:])


def _end_convolution(layer: BaseConvolution, chain: Chain) -> None:
    chain.order = chain.standard(layer.output_shape)
    chain.activate(layer, layer.activation)


@add_modules.register
def _(layer: Convolution, chain: Chain) -> None:
    chain.require(layer.input_shape, layer.data_format)
    channels = layer.image_of(layer.input_shape)[2]
    _convolve(chain, layer, channels, layer.filters, layer.groups, **_tensors(layer, "kernel", _transposed))
    _end_convolution(layer, chain)


@add_modules.register
def _(layer: DepthwiseConvolution, chain: Chain) -> None:
    chain.require(layer.input_shape, layer.data_format)
    channels = layer.image_of(layer.input_shape)[2]
    _convolve(chain, layer, channels, channels * layer.depth_multiplier, channels,
              **_tensors(layer, "kernel", _depthwise))
    _end_convolution(layer, chain)


@add_modules.register
def _(layer: SeparableConvolution, chain: Chain) -> None:
    chain.require(layer.input_shape, layer.data_format)
    channels = layer.image_of(layer.input_shape)[2]
    between = channels * layer.depth_multiplier
    kernel = Tensor(layer.depthwise_kernel, layer.name, _depthwise(_positions(layer.depthwise_kernel)))
    _convolve(chain, layer, channels, between, channels, weight=kernel)
    chain.add(f"Conv{layer.rank}d", {"in_channels": between, "out_channels": layer.filters,
                                     "kernel_size": (1,) * layer.rank, "bias": layer.use_bias},
              **_tensors(layer, "pointwise_kernel", _transposed))
    _end_convolution(layer, chain)


@add_modules.register
def _(layer: TransposedConvolution, chain: Chain) -> None:
    chain.require(layer.input_shape, layer.data_format)
    image, output = (layer.image_of(shape) for shape in (layer.input_shape, layer.output_shape))
    padding, extra, cut = [], [], []
    for axis, (taps, rate, stride) in enumerate(zip(layer.kernel_size, layer.dilation_rate, layer.strides,
                                                    strict=True), 2 - layer.rank):
        window = shapes.dilated_size(taps, rate)
        before, after = shapes.transposed_padding(image[axis], output[axis], window, stride)
        padding.append(before)
        extra.append(max(0, output[axis] - (image[axis] - 1) * stride - window))
        cut.append((0, before - after))
        if extra[-1] >= max(stride, rate):
            raise Unmapped(f"of output_padding={layer.output_padding}")
    chain.add(f"ConvTranspose{layer.rank}d", {
        "in_channels": image[2], "out_channels": layer.filters, "kernel_size": layer.kernel_size,
        "stride": layer.strides, "padding": tuple(padding), "output_padding": tuple(extra),
        "dilation": layer.dilation_rate, "bias": layer.use_bias,
    }, **_tensors(layer, "kernel", _transposed))
    chain.pad(tuple(cut))
    _end_convolution(layer, chain)


# --- normalizations ---


@add_modules.register
def _(layer: layers.PReLU, chain: Chain) -> None:
    positions = _positions(layer.alpha)
    if positions.ndim == 1:
        positions = positions[chain.order] if positions.size > 1 else positions
    else:
        chain.require(layer.input_shape, chain.data_format)
        positions = np.moveaxis(positions, -1, 0) if chain.data_format == "channels_last" else positions
        if positions.size != positions.shape[0]:
            raise Unmapped("with slopes that differ along an image or a sequence")
    chain.add("PReLU", {"num_parameters": positions.size},
              weight=Tensor(layer.alpha, layer.name, positions.reshape(-1)))


@add_modules.register
def _(layer: layers.BatchNormalization, chain: Chain) -> None:
    order = _channels(layer, chain, layer.channels_axis(layer.input_shape))
    moving = {f"running_{name}": Tensor(weight, layer.name, order)
              for name, weight in (("mean", layer.moving_mean), ("var", layer.moving_variance))}
    affine = {}
    if layer.scale or layer.center:  # PyTorch has both or none
        affine = {"weight": Tensor(layer.gamma if layer.scale else None, layer.name, order, 1.0),
                  "bias": Tensor(layer.beta if layer.center else None, layer.name, order)}
    chain.add(_normalization(layer), {"num_features": order.size, "eps": layer.epsilon,
                                      "momentum": 1 - layer.momentum, "affine": bool(affine)},
              **affine, **moving, num_batches_tracked=_counter(None, layer))


@add_modules.register
def _(layer: layers.Normalization, chain: Chain) -> None:
    mean, variance = layer.input_mean, layer.input_variance
    if mean is not None and variance is not None:
        if mean.size > 1:
            raise Unmapped("with a mean for every channel among its arguments")
        deviation, center = max(math.sqrt(variance.item()), math.sqrt(_NORMALIZATION_EPSILON)), mean.item()
        scale, offset = (deviation, center) if layer.invert else (1 / deviation, -center / deviation)
        chain.add("Rescaling", {"scale": scale, "offset": offset})
        return
    axes = axes_of(layer.axis, layer.input_shape)
    if layer.invert or len(axes) != 1:
        raise Unmapped("of several axes, or inverted")
    order = _channels(layer, chain, axes[0])
    chain.add(_normalization(layer), {"num_features": order.size, "eps": _NORMALIZATION_EPSILON, "momentum": 0.0,
                                      "affine": False},
              running_mean=Tensor(layer.mean, layer.name, order),
              running_var=Tensor(layer.variance, layer.name, order),
              num_batches_tracked=_counter(layer.count, layer))


def _channels(layer: Layer, chain: Chain, axis: int) -> np.ndarray:
    """PyTorch's order of the statistics of an axis of the sample, which has to be that of its channels."""
    if len(layer.input_shape) == 1:
        return chain.order
    chain.require(layer.input_shape, chain.data_format)
    if chain.axis(layer.input_shape, axis) != 1:
        raise Unmapped("of another axis than the channels'")
    return np.arange(layer.input_shape[axis])


def _normalization(layer: Layer) -> str:
    return f"BatchNorm{max(1, len(layer.input_shape) - 1)}d"


def _counter(weight: Weight | None, layer: Layer) -> Tensor:
    return Tensor(weight, layer.name, np.zeros((), np.int64), is_counter=True)
