"""Layers without weights as modules of torch.nn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinyconv import layers, shapes
from tinyconv.formats.torch.activations import Unmapped, module_of_activation
from tinyconv.formats.torch.chain import Chain, add_modules
from tinyconv.layers import Layer
from tinyconv.layers.layout import axes_of, channels_last, image_of, pair_of
from tinyconv.layers.nonlinear import ActivationLayer
from tinyconv.layers.pooling import GlobalPooling, Pooling

__all__: list[str] = []


# --- what changes the shape ---


@add_modules.register
def _(layer: layers.Flatten, chain: Chain) -> None:
    order = chain.order
    if layer.data_format == "channels_first":
        moved = np.moveaxis(np.arange(order.size).reshape(layer.input_shape), 0, -1)
        order = np.argsort(moved, axis=None)[order]
    chain.order = order.reshape(-1)
    chain.add("Flatten")


@add_modules.register
def _(layer: layers.Reshape, chain: Chain) -> None:
    standard = chain.standard(layer.output_shape)
    if not np.array_equal(chain.order.reshape(-1), standard.reshape(-1)):
        raise Unmapped("of values in another order")
    chain.order = standard
    chain.add("Flatten")
    if standard.ndim > 1:
        chain.add("Unflatten", {"dim": 1, "unflattened_size": standard.shape})


@add_modules.register
def _(layer: layers.RepeatVector, chain: Chain) -> None:
    chain.require(layer.input_shape, chain.data_format)
    chain.order = chain.standard(layer.output_shape)
    if chain.data_format == "channels_first":
        raise Unmapped("in a model with the channels first")
    chain.add("Unflatten", {"dim": 1, "unflattened_size": (*layer.input_shape, 1)})
    chain.add("Upsample", {"scale_factor": float(layer.n), "mode": "nearest"})


# --- pooling ---


@add_modules.register
def _(layer: Pooling, chain: Chain) -> None:
    chain.require(layer.input_shape, layer.data_format)
    image, rank = image_of(layer.input_shape, layer.rank, layer.data_format), layer.rank
    padding = shapes.window_padding(image, pair_of(layer.pool_size), pair_of(layer.strides),
                                    layer.padding)[2 - rank:]
    arguments: dict[str, Any] = {"kernel_size": layer.pool_size, "stride": layer.strides,
                                 "padding": tuple(before for before, _ in padding)}
    is_even = all(before == after for before, after in padding)
    if layer.kind == "max_pool2d":
        if not is_even:
            del arguments["padding"]
            chain.pad(padding, -math.inf)
    else:
        arguments["count_include_pad"] = False
        if not is_even:  # windows may begin inside and end beyond the padding, which does not count
            arguments["ceil_mode"] = True
            if any(_ceil_windows(*sizes) != wanted for *sizes, wanted in zip(
                    image[2 - rank:2], layer.pool_size, layer.strides, arguments["padding"],
                    image_of(layer.output_shape, rank, layer.data_format)[2 - rank:2], strict=True)):
                raise Unmapped("with more padding after than before")
    chain.add(f"{'Max' if layer.kind == 'max_pool2d' else 'Avg'}Pool{rank}d", arguments)
    chain.order = chain.standard(layer.output_shape)


def _ceil_windows(size: int, window: int, stride: int, padding: int) -> int:
    """How many windows PyTorch has in its ceil_mode."""
    count = -(-(size + 2 * padding - window) // stride) + 1
    return count - ((count - 1) * stride >= size + padding)


@add_modules.register
def _(layer: GlobalPooling, chain: Chain) -> None:
    chain.require(layer.input_shape, layer.data_format)
    chain.add(f"Adaptive{'Max' if layer.kind == 'max_pool2d' else 'Avg'}Pool{layer.rank}d", {"output_size": 1})
    if not layer.keepdims:
        chain.add("Flatten")
    chain.order = chain.standard(layer.output_shape)


# --- what works value by value, or channel by channel ---


@add_modules.register
def _(layer: ActivationLayer, chain: Chain) -> None:
    axes = axes_of(layer.axis if isinstance(layer, layers.Softmax) else -1, layer.input_shape)
    if len(axes) > 1:
        raise Unmapped("of several axes")
    if chain.order.ndim > 1:
        chain.require(layer.input_shape, chain.data_format)
    module = module_of_activation(*layer.operation(), chain.axis(layer.input_shape, axes[0]))
    chain.add(*(module or ("Identity", {})))


@add_modules.register
def _(layer: layers.Rescaling, chain: Chain) -> None:
    chain.add("Rescaling", {"scale": layer.scale, "offset": layer.offset})


@add_modules.register(layers.Dropout)
@add_modules.register(layers.AlphaDropout)
def _(layer: Any, chain: Chain) -> None:
    chain.add(type(layer).__name__, {"p": layer.rate})


@add_modules.register
def _(layer: layers.SpatialDropout2D, chain: Chain) -> None:
    rank = len(layer.input_shape) - 1
    chain.require(layer.input_shape, layer.data_format)
    chain.add(f"Dropout{rank}d", {"p": layer.rate})


@add_modules.register(layers.GaussianDropout)
@add_modules.register(layers.GaussianNoise)
@add_modules.register(layers.RandomBrightness)
@add_modules.register(layers.RandomContrast)
@add_modules.register(layers.RandomFlip)
@add_modules.register(layers.RandomRotation)
@add_modules.register(layers.RandomTranslation)
@add_modules.register(layers.RandomZoom)
def _(layer: Layer, chain: Chain) -> None:
    chain.add("Identity")  # what they do in training, torch.nn does not have


# --- pixels ---


@add_modules.register(layers.ZeroPadding1D)
@add_modules.register(layers.ZeroPadding2D)
@add_modules.register(layers.Cropping1D)
@add_modules.register(layers.Cropping2D)
@add_modules.register(layers.CenterCrop)
def _(layer: Any, chain: Chain) -> None:
    chain.require(layer.input_shape, layer.data_format)
    if isinstance(layer, layers.CenterCrop):
        size, wanted = (channels_last(shape, layer.data_format)[:2]
                        for shape in (layer.input_shape, layer.output_shape))
        if wanted[0] > size[0] or wanted[1] > size[1]:
            raise Unmapped("that enlarges")
        starts = [(large - small) // 2 for large, small in zip(size, wanted, strict=True)]
        margins: tuple[tuple[int, int], ...] = tuple(
            (-start, start + small - large) for large, small, start in zip(size, wanted, starts, strict=True))
    else:
        sign = 1 if hasattr(layer, "padding") else -1
        pairs = layer.padding if sign > 0 else layer.cropping
        margins = tuple((sign * before, sign * after)
                        for before, after in (pairs if layer.rank == 2 else (pairs,)))
    count = len(chain.modules)
    chain.pad(margins)
    if len(chain.modules) == count:
        chain.add("Identity")
    chain.order = chain.standard(layer.output_shape)


@add_modules.register(layers.Resizing)
@add_modules.register(layers.UpSampling1D)
@add_modules.register(layers.UpSampling2D)
def _(layer: Any, chain: Chain) -> None:
    chain.require(layer.input_shape, layer.data_format)
    interpolation = getattr(layer, "interpolation", "nearest")
    modes = {"nearest": "nearest-exact", "bilinear": "bilinear"}
    if interpolation not in modes:
        raise Unmapped(f"of interpolation={interpolation!r}")
    if isinstance(layer, layers.Resizing) and (layer.antialias or layer.crop_to_aspect_ratio
                                              or layer.pad_to_aspect_ratio):
        raise Unmapped("with antialias or an aspect ratio")
    image = image_of(layer.output_shape, layer.rank, layer.data_format)
    chain.add("Upsample", {"size": image[2 - layer.rank:2], "mode": modes[interpolation]})
    chain.order = chain.standard(layer.output_shape)
