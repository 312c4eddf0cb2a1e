"""Operators of ONNX with weights or windows, as layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinyconv import layers, shapes
from tinyconv.formats.onnx.arguments import (
    Pads,
    Shape,
    add_zeros,
    as_image,
    check_margins,
    optional,
    short,
    tensor,
    vector,
    whole,
)
from tinyconv.formats.onnx.chain import Chain, Weight
from tinyconv.formats.onnx.file import Node, Tensor
from tinyconv.formats.onnx.fold import axes_of, number

__all__ = ["WITH_WEIGHTS"]


# --- convolutions ---


def _steps(node: Node, name: str, rank: int) -> Shape:
    found = node.attributes.get(name) or [1] * rank
    if len(found) != rank or min(found) < 1:
        raise ValueError(f"expected {name} of {rank} positive numbers")
    return tuple(found)


def _pads(node: Node, sizes: Shape, extents: Shape, strides: Shape) -> Pads:
    """The padding before and after every axis, explicit."""
    rank, auto = len(sizes), node.attributes.get("auto_pad") or "NOTSET"
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pairs = [shapes.same_padding(*one) for one in zip(sizes, extents, strides, strict=True)]
        return pairs if auto == "SAME_UPPER" else [(after, before) for before, after in pairs]
    found = node.attributes.get("pads") if auto == "NOTSET" else None
    found = found or [0] * (2 * rank)
    if auto not in ("NOTSET", "VALID") or len(found) != 2 * rank or min(found) < 0:
        raise ValueError(f"expected pads of {2 * rank} numbers that are not negative")
    check_margins(found, sizes)
    return list(zip(found[:rank], found[rank:], strict=True))


def _pad_by_name(pads: Pads, sizes: Shape, extents: Shape, strides: Shape) -> str | None:
    """ "valid" or "same" where that is the padding; else None."""
    if not any(map(any, pads)):
        return "valid"
    same = [shapes.same_padding(*one) for one in zip(sizes, extents, strides, strict=True)]
    return "same" if pads == same else None


def _kernel(node: Node, values: list[Any]) -> Tensor:
    kernel = tensor(values, 1, "kernel")
    if len(kernel.shape) not in (3, 4) or min(kernel.shape) < 1:
        raise ValueError("expected a kernel of 1 or 2 dimensions")
    if tuple(node.attributes.get("kernel_shape") or kernel.shape[2:]) != kernel.shape[2:]:
        raise ValueError(f"expected kernel_shape to be {list(kernel.shape[2:])}")
    return kernel


def _conv(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    kernel, bias = _kernel(node, values), optional(values, 2, "bias")
    rank, size, group = len(kernel.shape) - 2, kernel.shape[2:], node.attributes.get("group", 1)
    sizes = as_image(chain, rank)
    channels, filters = chain.shape[-1], kernel.shape[0]
    if group < 1 or kernel.shape[1] * group != channels or filters % group:
        raise ValueError(f"expected a kernel for {channels} channels in {group} groups")
    strides, dilations = _steps(node, "strides", rank), _steps(node, "dilations", rank)
    extents = tuple(shapes.dilated_size(*one) for one in zip(size, dilations, strict=True))
    pads = _pads(node, sizes, extents, strides)
    padding = _pad_by_name(pads, sizes, extents, strides)
    if padding is None and rank == 1 and pads == [(extents[0] - 1, 0)]:
        padding = "causal"
    is_depthwise = group == channels > 1
    if padding is None or (padding == "causal" and is_depthwise):
        add_zeros(chain, pads)
        padding = "valid"
    config: dict[str, Any] = {"kernel_size": size, "strides": strides, "padding": padding, "dilation_rate": dilations,
                              "use_bias": bias is not None}
    weights = [vector(bias, filters, "bias")] if bias else []
    if is_depthwise:
        multiplier = filters // channels
        weight = Weight.of(kernel).then((*size, channels, multiplier), lambda array: array.reshape(
            channels, multiplier, *size).transpose(*range(2, 2 + rank), 0, 1))
        chain.add(layers.DepthwiseConv1D if rank == 1 else layers.DepthwiseConv2D,
                  {**config, "depth_multiplier": multiplier}, [weight, *weights])
    else:
        chain.add(layers.Conv1D if rank == 1 else layers.Conv2D, {**config, "filters": filters, "groups": group},
                  [_filters_last(kernel), *weights])


def _filters_last(kernel: Tensor) -> Weight:
    """(filters, channels, ...) -> (..., channels, filters)."""
    axes = (*range(2, len(kernel.shape)), 1, 0)
    return Weight.of(kernel).then(tuple(kernel.shape[axis] for axis in axes), lambda array: array.transpose(axes))


def _conv_transpose(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    kernel, bias = _kernel(node, values), optional(values, 2, "bias")
    rank, size = len(kernel.shape) - 2, kernel.shape[2:]
    sizes = as_image(chain, rank)
    if node.attributes.get("group", 1) != 1 or kernel.shape[0] != chain.shape[-1]:
        raise ValueError(f"expected one group and a kernel for {chain.shape[-1]} channels")
    strides, dilations = _steps(node, "strides", rank), _steps(node, "dilations", rank)
    extents = tuple(shapes.dilated_size(*one) for one in zip(size, dilations, strict=True))
    covered = [(own - 1) * stride + extent for own, stride, extent in zip(sizes, strides, extents, strict=True)]
    cuts, outputs = _cuts(node, sizes, covered, strides)
    filters = kernel.shape[1]
    config: dict[str, Any] = {"filters": filters, "kernel_size": size, "strides": strides, "dilation_rate": dilations,
                              "use_bias": bias is not None}
    weights = [_filters_last(kernel), *([vector(bias, filters, "bias")] if bias else [])]
    cls = layers.Conv1DTranspose if rank == 1 else layers.Conv2DTranspose
    for padding in ("valid", "same"):
        found = [shapes.transposed_size(own, extent, stride, padding)
                 for own, extent, stride in zip(sizes, extents, strides, strict=True)]
        own_cuts = [shapes.transposed_padding(own, output, extent, stride)[0]
                    for own, output, extent, stride in zip(sizes, found, extents, strides, strict=True)]
        if found == outputs and own_cuts == cuts:
            chain.add(cls, {**config, "padding": padding}, weights)
            return
    # All that the windows cover, cut afterwards: the bias is the same everywhere.
    chain.add(cls, {**config, "padding": "valid"}, weights)
    margins = [(cut, own - cut - output) for cut, own, output in zip(cuts, chain.shape[:-1], outputs, strict=True)]
    if min(map(min, margins)) < 0:
        raise ValueError("expected an output no larger than what the windows cover")
    chain.add(layers.Cropping1D if rank == 1 else layers.Cropping2D,
              {"cropping": margins[0] if rank == 1 else tuple(margins)})


def _cuts(node: Node, sizes: Shape, covered: list[int], strides: Shape) -> tuple[list[int], list[int]]:
    """What a transposed convolution cuts off before, and the sizes of its output."""
    rank = len(sizes)
    extra = node.attributes.get("output_padding") or [0] * rank
    wanted = node.attributes.get("output_shape")
    auto = node.attributes.get("auto_pad") or "NOTSET"
    if len(extra) != rank or min(extra) < 0 or (wanted is not None and len(wanted) < rank):
        raise ValueError(f"expected output_padding and output_shape of {rank} numbers")
    if wanted is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [own * stride for own, stride in zip(sizes, strides, strict=True)]
    if wanted is not None:
        totals = [full + more - output for full, more, output in zip(covered, extra, wanted[-rank:], strict=True)]
        if min(totals) < 0:
            raise ValueError("expected an output no larger than what the windows cover")
        before = [total // 2 if auto == "SAME_UPPER" else total - total // 2 for total in totals]
        return before, list(wanted[-rank:])
    pads = _pads(node, sizes, tuple(covered), strides)
    left = [full + more - sum(pad) for full, more, pad in zip(covered, extra, pads, strict=True)]
    return [pad for pad, _ in pads], left


# --- pools ---


def _pool(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    size = tuple(whole(node.attributes.get("kernel_shape"), "kernel_shape"))
    rank, is_max = len(size), node.op == "MaxPool"
    sizes = as_image(chain, rank)
    strides = _steps(node, "strides", rank)
    if any(step != 1 for step in _steps(node, "dilations", rank)):
        raise ValueError("expected a pool without dilations")
    pads = _pads(node, sizes, size, strides)
    extended = _extended(pads, sizes, size, strides) if node.attributes.get("ceil_mode") else pads
    counts = not is_max and bool(node.attributes.get("count_include_pad"))
    padding = _pad_by_name(extended, sizes, size, strides)
    if padding == "same" and counts:
        padding = None
    cls = (layers.MaxPooling1D if rank == 1 else layers.MaxPooling2D) if is_max else (
        layers.AveragePooling1D if rank == 1 else layers.AveragePooling2D)
    if padding is None and (chain.is_not_negative if is_max else counts and extended == pads):
        add_zeros(chain, extended)
        padding = "valid"
    if padding is not None:
        chain.add(cls, {"pool_size": size, "strides": strides, "padding": padding})
        return
    # At every pixel, and of these as many as are wanted: the windows of "same" stand about a pixel.
    middle = [((window - 1) // 2, (own - 1) // stride + 1)
              for own, window, stride in zip(sizes, size, strides, strict=True)]
    found = [(pad[0], (own + sum(pad) - window) // stride + 1)
             for own, pad, window, stride in zip(sizes, extended, size, strides, strict=True)]
    if counts or found != middle:
        raise ValueError("expected pads as of SAME_UPPER, or about the middle of the window")
    chain.add(cls, {"pool_size": size, "strides": 1, "padding": "same"})
    chain.add(layers.MaxPooling1D if rank == 1 else layers.MaxPooling2D, {"pool_size": 1, "strides": strides})


def _extended(pads: Pads, sizes: Shape, windows: Shape, strides: Shape) -> Pads:
    """The padding with what ceil_mode adds: a last window that begins before the end."""
    found = []
    for (before, after), own, window, stride in zip(pads, sizes, windows, strides, strict=True):
        count = -(-(own + before + after - window) // stride) + 1
        if (count - 1) * stride >= own + before:
            count -= 1
        found.append((before, max(after, (count - 1) * stride + window - own - before)))
    return found


def _global_pool(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    sizes = as_image(chain, len(chain.sizes) - 1)
    _add_global(chain, len(sizes), "Max" in node.op, True)


def _add_global(chain: Chain, rank: int, is_max: bool, keepdims: bool) -> None:
    cls = ((layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D) if is_max else
           (layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D))[rank - 1]
    order = chain.order
    chain.add(cls, {"keepdims": keepdims})
    chain.order = order if keepdims else (0,)


def _reduce(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    rank = len(chain.sizes)
    axes = {axis + rank + 1 if axis < 0 else axis for axis in axes_of(node, values) or ()}
    rest = [axis for axis in range(1, rank + 1) if axis not in axes]
    if 0 in axes or rank not in (2, 3) or len(rest) != 1 or len(axes) != rank - 1:
        raise ValueError("expected all axes but those of the batch and the channels")
    chain.last(rest[0] - 1)
    _add_global(chain, rank - 1, node.op == "ReduceMax", bool(node.attributes.get("keepdims", 1)))


# --- matrices and numbers ---


def _gemm(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    kernel, bias = tensor(values, 1, "matrix"), optional(values, 2, "bias")
    alpha, beta = node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
    if len(chain.sizes) != 1 or len(kernel.shape) != 2 or node.attributes.get("transA"):
        raise ValueError("expected vectors and a matrix")
    weight = Weight.of(kernel)
    if node.attributes.get("transB"):
        weight = weight.then(kernel.shape[::-1], np.transpose)
    if alpha != 1:
        weight = weight.then(weight.shape, lambda array: array * np.float32(alpha))
    units = weight.shape[1]
    if bias is not None:
        if bias.shape not in ((units,), (1, units), (1,), (), (1, 1)):
            raise ValueError(f"expected {units} numbers as bias")
        summand = Weight.of(bias, (bias.size,)).then(
            (units,), lambda array: np.broadcast_to(array, units) * np.float32(beta))
    chain.dense(weight, None if bias is None else summand)


def _matmul(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    kernel = tensor(values, 1, "matrix")
    if len(kernel.shape) != 2:
        raise ValueError("expected a matrix")
    chain.dense(Weight.of(kernel), None)


def _arithmetic(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    """x + c, x - c, c - x, x * c and x / c."""
    if len(values) != 2:
        raise ValueError("expected two inputs")
    is_first = isinstance(values[0], str)
    constant = tensor(values, 1 if is_first else 0, "number")
    if constant.size > math.prod(chain.sizes):
        raise ValueError("expected no more numbers than a sample has")
    given = number(constant)
    array = constant.load().astype(np.float64) if given is None else np.array(given)
    match node.op:
        case "Add" | "Sum":
            chain.affine(1, array)
        case "Sub":
            chain.affine(1 if is_first else -1, -array if is_first else array)
        case "Mul":
            chain.affine(array, 0)
        case _:
            if not is_first or not array.all():
                raise ValueError("expected to divide by numbers other than 0")
            chain.affine(1 / array, 0)


def _negative(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    chain.affine(-1, 0)


def _batch_normalization(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    if node.attributes.get("training_mode") or node.attributes.get("spatial", 1) != 1:
        raise ValueError("expected statistics of the channels, outside training")
    chain.last(0)
    size = chain.shape[-1]
    weights = [vector(tensor(values, index, what), size, what)
               for index, what in enumerate(("scale", "bias", "mean", "variance"), 1)]
    epsilon, momentum = (short(node.attributes.get(name, default)) for name, default in
                         (("epsilon", 1e-5), ("momentum", 0.9)))
    chain.add(layers.BatchNormalization, {"epsilon": epsilon, "momentum": momentum}, weights)


WITH_WEIGHTS: dict[str, Callable[[Chain, Node, list[Any], int], None]] = {
    **dict.fromkeys(("Add", "Div", "Mul", "Sub", "Sum"), _arithmetic),
    **dict.fromkeys(("AveragePool", "MaxPool"), _pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), _global_pool),
    **dict.fromkeys(("ReduceMax", "ReduceMean"), _reduce),
    "BatchNormalization": _batch_normalization,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Neg": _negative,
}
