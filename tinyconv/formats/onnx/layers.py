"""Every layer in ONNX' operators: a line of the table at the end, and a function that writes nodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyconv import layers, maps, shapes
from tinyconv.formats import keras2
from tinyconv.formats.onnx.write import Writer
from tinyconv.layers.layout import axes_of, image_of, pair_of
from tinyconv.layers.nonlinear import activation_operation

__all__ = ["write_layers"]

# What does nothing outside training.
_NOISE = (layers.Dropout, layers.SpatialDropout2D, layers.GaussianNoise, layers.GaussianDropout, layers.AlphaDropout,
          layers.RandomBrightness, layers.RandomContrast, layers.RandomFlip, layers.RandomTranslation,
          layers.RandomRotation, layers.RandomZoom)
_ACTIVATIONS = (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU)
# The least standard deviation that a Normalization divides by.
_LEAST_DEVIATION = 1e-7


def write_layers(writer: Writer, model_layers: Sequence[Any]) -> None:
    """Writes the layers of a model.

    Raises:
        ValueError: If a layer has no equivalent; the message names it.
    """
    for index, layer in enumerate(model_layers):
        shape = layer.compute_output_shape(writer.shape)
        class_name = keras2.class_name_of(layer)
        if class_name not in _LAYERS:
            refuse(layer, f"ONNX has no operator for {class_name}")
        writer.meets_dense = _meets_dense(model_layers[index + 1:])
        _LAYERS[class_name](writer, layer)
        writer.shape = shape


def _meets_dense(following: Sequence[Any]) -> bool:
    """Whether a Dense layer comes next, but for what treats all values alike."""
    for layer in following:
        if isinstance(layer, layers.Dense):
            return True
        treats_alike = isinstance(layer, _NOISE) or (
            isinstance(layer, _ACTIVATIONS) and "softmax" not in activation_operation(layer)[0])
        if not treats_alike:
            return False
    return False


def refuse(layer: Any, reason: str) -> None:
    raise ValueError(f"save expected layers that ONNX has. Received: '{layer.name}': {reason}")


# --- layers with weights ---


def _bias(writer: Writer, layer: Any) -> list[str]:
    return [writer.constant(layer.bias.value, f"{layer.name}/bias")] if layer.use_bias else []


def _window(layer: Any, attributes: dict[str, Any]) -> dict[str, list[int]]:
    """Kernel, steps and explicit padding of the engine's operation, as ONNX names them."""
    rank = layer.rank
    before, after = zip(*attributes["padding"][-rank:], strict=True)
    names = {"kernel_size": "kernel_shape", "pool_size": "kernel_shape", "strides": "strides",
             "dilation_rate": "dilations"}
    window = {names[key]: list(sizes[-rank:]) for key, sizes in attributes.items() if key in names}
    return {**window, "pads": [*before, *after]}


def _filters_first(kernel: np.ndarray) -> np.ndarray:
    """(..., channels, filters) -> (filters, channels, ...)."""
    rank = kernel.ndim - 2
    return kernel.transpose(rank + 1, rank, *range(rank))


def _by_channel(kernel: np.ndarray) -> np.ndarray:
    """A depthwise kernel (..., channels, multiplier) -> (channels * multiplier, 1, ...)."""
    rank = kernel.ndim - 2
    return kernel.transpose(rank, rank + 1, *range(rank)).reshape(-1, 1, *kernel.shape[:rank])


def _convolution(writer: Writer, layer: Any) -> None:
    window = _window(layer, layer.window(layer.image_of(writer.shape)))
    channels = layer.image_of(writer.shape)[2]
    writer.channels_first(layer)
    name, bias = layer.name, _bias(writer, layer)
    if isinstance(layer, (layers.SeparableConv1D, layers.SeparableConv2D)):
        depthwise, pointwise = layer.weights[:2]
        kernel = writer.constant(_by_channel(depthwise.value), f"{name}/{depthwise.name}")
        writer.append("Conv", layer, kernel, group=channels, **window)
        kernel = writer.constant(_filters_first(pointwise.value), f"{name}/{pointwise.name}")
        writer.append("Conv", layer, kernel, *bias, kernel_shape=[1] * layer.rank)
    elif isinstance(layer, (layers.DepthwiseConv1D, layers.DepthwiseConv2D)):
        kernel = writer.constant(_by_channel(layer.kernel.value), f"{name}/kernel")
        writer.append("Conv", layer, kernel, *bias, group=channels, **window)
    else:
        kernel = writer.constant(_filters_first(layer.kernel.value), f"{name}/kernel")
        writer.append("Conv", layer, kernel, *bias, group=layer.groups, **window)
    _activate_convolved(writer, layer)


def _activate_convolved(writer: Writer, layer: Any) -> None:
    """Writes the activation of a layer on its output's shape."""
    writer.shape = layer.compute_output_shape(writer.shape)
    writer.activation(layer.activation, layer)


def _transposed(writer: Writer, layer: Any) -> None:
    image, output = layer.image_of(writer.shape), layer.image_of(layer.compute_output_shape(writer.shape))
    dilation = shapes.clip_dilation(output, pair_of(layer.dilation_rate))
    before, after, extra = [], [], []
    for index in range(layer.rank):
        axis, stride = 2 - layer.rank + index, layer.strides[index]
        extent = shapes.dilated_size(layer.kernel_size[index], dilation[axis])
        first, last = shapes.transposed_padding(image[axis], output[axis], extent, stride)
        before.append(first)
        after.append(last)
        extra.append(output[axis] - ((image[axis] - 1) * stride + extent - first - last))
    writer.channels_first(layer)
    kernel = writer.constant(_filters_first(layer.kernel.value), f"{layer.name}/kernel")
    writer.append("ConvTranspose", layer, kernel, *_bias(writer, layer), kernel_shape=list(layer.kernel_size),
                  strides=list(layer.strides), dilations=list(dilation[-layer.rank:]), pads=[*before, *after],
                  output_padding=extra)
    _activate_convolved(writer, layer)


def _dense(writer: Writer, layer: Any) -> None:
    kernel = layer.kernel.value
    if len(writer.shape) == 1:
        if writer.rows is not None:
            kernel, writer.rows = kernel[writer.rows], None
        writer.append("Gemm", layer, writer.constant(kernel, f"{layer.name}/kernel"), *_bias(writer, layer))
    else:
        writer.in_order(layer)
        writer.append("MatMul", layer, writer.constant(kernel, f"{layer.name}/kernel"))
        for bias in _bias(writer, layer):
            writer.append("Add", layer, bias)
    _activate_convolved(writer, layer)


def _batch_normalization(writer: Writer, layer: Any) -> None:
    channels = layer.channels_axis(writer.shape)
    size = writer.shape[channels]
    if writer.order[0] != channels:
        writer.arrange((channels, *(axis for axis in writer.order if axis != channels)), layer)
    values = {weight.name: weight.value for weight in layer.weights}
    defaults = {"gamma": np.ones(size, np.float32), "beta": np.zeros(size, np.float32)}
    inputs = [writer.constant(values.get(name, defaults.get(name)), f"{layer.name}/{name}")
              for name in ("gamma", "beta", "moving_mean", "moving_variance")]
    writer.append("BatchNormalization", layer, *inputs, epsilon=layer.epsilon, momentum=layer.momentum)


def _prelu(writer: Writer, layer: Any) -> None:
    slope = layer.alpha.value.transpose(writer.order)
    writer.append("PRelu", layer, writer.constant(slope, f"{layer.name}/alpha"))


def _normalization(writer: Writer, layer: Any) -> None:
    kept = layer.kept_axes(writer.shape)
    sizes = tuple(size if axis in kept else 1 for axis, size in enumerate(writer.shape))

    def constant(name: str, values: np.ndarray) -> str:
        values = np.broadcast_to(values, [writer.shape[axis] for axis in kept])
        placed = values.reshape(sizes).transpose(writer.order) if kept else values
        return writer.constant(placed.astype(np.float32), f"{layer.name}/{name}")

    mean, variance = layer.moments()
    center = constant("mean", mean)
    width = constant("deviation", np.maximum(np.sqrt(np.asarray(variance, np.float64)), _LEAST_DEVIATION))
    for op, name in (("Mul", width), ("Add", center)) if layer.invert else (("Sub", center), ("Div", width)):
        writer.append(op, layer, name)


# --- layers without ---


def _nothing(writer: Writer, layer: Any) -> None:
    """What is the identity outside training."""


def _activation(writer: Writer, layer: Any) -> None:
    writer.activation(layer, layer)


def _softmax(writer: Writer, layer: Any) -> None:
    *others, axis = axes_of(layer.axis, writer.shape)
    if not others:
        writer.softmax("softmax", axis, layer)
        return
    first = tuple(one for one in range(len(writer.shape)) if one not in (*others, axis))
    writer.arrange((*first, *others, axis), layer)
    sizes = writer.sizes

    def reshape(*shape: int) -> None:
        writer.append("Reshape", layer, writer.constant(np.array([0, *shape], np.int64), f"{layer.name}/shape"))

    reshape(*sizes[:len(first)], -1)
    writer.append("Softmax", layer, axis=1 + len(first))
    reshape(*sizes)


def _rescaling(writer: Writer, layer: Any) -> None:
    if layer.scale != 1:
        writer.append("Mul", layer, writer.number(layer.scale, layer))
    if layer.offset:
        writer.append("Add", layer, writer.number(layer.offset, layer))


def _pooling(writer: Writer, layer: Any) -> None:
    rank = layer.rank
    image = image_of(writer.shape, rank, layer.data_format)
    size, strides = shapes.clip_window(image, *(pair_of(pair) for pair in (layer.pool_size, layer.strides)))
    padding = shapes.window_padding(image, size, strides, layer.padding)
    writer.channels_first(layer)
    writer.append("MaxPool" if layer.kind == "max_pool2d" else "AveragePool", layer,
                  **_window(layer, {"pool_size": size, "strides": strides, "padding": padding}))


def _global_pooling(writer: Writer, layer: Any) -> None:
    writer.channels_first(layer)
    writer.append("GlobalMaxPool" if layer.kind == "max_pool2d" else "GlobalAveragePool", layer)
    if not layer.keepdims:
        writer.append("Flatten", layer, axis=1)
        writer.order = (0,)


def _flatten(writer: Writer, layer: Any) -> None:
    rank = len(writer.shape)
    # The sample's axes in the order in which they are flattened.
    wanted = (*range(1, rank), 0) if layer.data_format == "channels_first" else tuple(range(rank))
    if [axis for axis in writer.order if writer.shape[axis] > 1] != [axis for axis in wanted if writer.shape[axis] > 1]:
        if writer.meets_dense:
            flat = np.arange(math.prod(writer.shape)).reshape([writer.shape[axis] for axis in wanted])
            writer.rows = flat.transpose([wanted.index(axis) for axis in writer.order]).ravel()
        else:
            writer.arrange(wanted, layer)
    if rank > 1:
        writer.append("Flatten", layer, axis=1)
    writer.order = (0,)


def _reshape(writer: Writer, layer: Any) -> None:
    shape = layer.compute_output_shape(writer.shape)
    if len(shape) == 1:
        _flatten(writer, layers.Flatten(name=layer.name))
        return
    writer.in_order(layer)
    if shape != writer.shape:
        writer.reshape(shape, layer)


def _permute(writer: Writer, layer: Any) -> None:
    """Renames axes: nothing is moved until an operator asks for it."""
    places = [dimension - 1 for dimension in layer.dims]
    writer.order = tuple(places.index(axis) for axis in writer.order)


def _repeat(writer: Writer, layer: Any) -> None:
    writer.reshape((1, *writer.shape), layer)
    writer.append("Tile", layer, writer.constant(np.array([1, layer.n, 1], np.int64), f"{layer.name}/repeats"))
    writer.order = (0, 1)


# --- images: what lies where ---


def _image_map(writer: Writer, layer: Any) -> None:
    """A part of the image, with zeros beyond its border, resized."""
    rank = layer.rank
    height, width, _ = image_of(writer.shape, rank, layer.data_format)
    output = layer.output_size(height, width)[-rank:]
    start, size = (pair[-rank:] for pair in layer.box(height, width))
    first = 1 if layer.data_format == "channels_first" else 0
    given = writer.shape[first:first + rank]
    axes = [1 + writer.order.index(first + axis) for axis in range(rank)]
    _take(writer, layer, axes, list(zip(given, start, size, strict=True)))
    if size != output:
        _resize(writer, layer, size, output)


def _take(writer: Writer, layer: Any, axes: list[int], parts: list[tuple[int, int, int]]) -> None:
    """Cuts axes of a tensor to a part of each, (own size, start, size), beyond which lie zeros."""
    margins = {axis: (max(0, -start), max(0, start + size - own))
               for axis, (own, start, size) in zip(axes, parts, strict=True)}
    if any(map(any, margins.values())):
        pads = [margins.get(axis, (0, 0))[end] for end in (0, 1) for axis in range(1 + len(writer.shape))]
        writer.append("Pad", layer, writer.constant(np.array(pads, np.int64), f"{layer.name}/pads"))
    cuts = [(axis, max(0, start), max(0, start) + size) for axis, (own, start, size) in zip(axes, parts, strict=True)
            if start > 0 or max(0, start) + size < own + sum(margins[axis])]
    if cuts:
        names = [writer.constant(np.array(values, np.int64), f"{layer.name}/{what}")
                 for what, values in zip(("axes", "starts", "ends"), zip(*cuts, strict=True), strict=True)]
        writer.append("Slice", layer, names[1], names[2], names[0])


def _resize(writer: Writer, layer: Any, size: Sequence[int], output: Sequence[int]) -> None:
    """Enlarges or shrinks rows and columns."""
    pairs = list(zip(size, output, strict=True))
    if layer.interpolation not in ("nearest", "bilinear", "bicubic"):
        refuse(layer, f"ONNX has no interpolation '{layer.interpolation}'")
    if any(own > wanted for own, wanted in pairs):
        if layer.antialias and layer.interpolation != "nearest":
            refuse(layer, "ONNX has no antialias of these numbers")
        if layer.interpolation == "bicubic":  # where it takes a Transpose out of the way
            refuse(layer, "ONNX Runtime does not shrink by 'bicubic'")
    writer.channels_first(layer)
    scales = [1.0, 1.0, *(_scale(own, wanted) for own, wanted in pairs)]
    if layer.interpolation != "nearest":
        cubic = {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1}
        attributes = {"mode": "linear"} if layer.interpolation == "bilinear" else cubic
        _append_resize(writer, layer, scales, coordinate_transformation_mode="half_pixel", **attributes)
    elif all(wanted % own == 0 for own, wanted in pairs):
        _append_resize(writer, layer, scales, mode="nearest", coordinate_transformation_mode="asymmetric",
                       nearest_mode="floor")
    else:  # which pixel is nearest would depend on how a quotient is rounded
        for axis, (own, wanted) in enumerate(pairs, 2):
            indices = maps.resize(own, wanted, "nearest").indices[:, 0]
            writer.append("Gather", layer, writer.constant(indices, f"{layer.name}/indices"), axis=axis)


def _append_resize(writer: Writer, layer: Any, scales: list[float], **attributes: Any) -> None:
    writer.append("Resize", layer, "", writer.constant(np.array(scales, np.float32), f"{layer.name}/scales"),
                  **attributes)


def _scale(own: int, wanted: int) -> float:
    """A float32 factor whose product with a size, rounded down, is another, however precise the product is."""
    scale = np.float32(wanted / own)
    while own * float(scale) < wanted:
        scale = np.nextafter(scale, np.float32(np.inf))
    return float(scale)


_LAYERS: dict[str, Callable[[Writer, Any], None]] = {
    **dict.fromkeys((cls.__name__ for cls in _NOISE), _nothing),
    "SpatialDropout1D": _nothing,
    **dict.fromkeys((cls.__name__ for cls in _ACTIVATIONS), _activation),
    "BatchNormalization": _batch_normalization,
    **dict.fromkeys(("Conv1D", "Conv2D", "DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D"),
                    _convolution),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose"), _transposed),
    **dict.fromkeys(("AveragePooling1D", "AveragePooling2D", "MaxPooling1D", "MaxPooling2D"), _pooling),
    **dict.fromkeys(("GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D"),
                    _global_pooling),
    **dict.fromkeys(("CenterCrop", "Cropping1D", "Cropping2D", "Resizing", "UpSampling1D", "UpSampling2D",
                     "ZeroPadding1D", "ZeroPadding2D"), _image_map),
    "Dense": _dense,
    "Flatten": _flatten,
    "Normalization": _normalization,
    "PReLU": _prelu,
    "Permute": _permute,
    "RepeatVector": _repeat,
    "Rescaling": _rescaling,
    "Reshape": _reshape,
    "Softmax": _softmax,
}
