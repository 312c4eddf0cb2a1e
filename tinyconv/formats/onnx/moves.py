"""Operators of ONNX that move values or leave them where they are, as layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyconv import layers, maps
from tinyconv.formats.onnx.arguments import (
    Pads,
    Shape,
    add_zeros,
    as_image,
    check_margins,
    optional,
    short,
    tensor,
    whole,
)
from tinyconv.formats.onnx.chain import Chain
from tinyconv.formats.onnx.file import Node
from tinyconv.formats.onnx.fold import axes_of, integers, number, squeezed, unsqueezed

__all__ = ["MOVES", "pool_with_pads"]

_FLOATS = (1, 10, 11, 16)  # of TensorProto.DataType
_EVERYTHING = 2**31 - 1  # what a Slice ends with that goes to the end, or more
_ROUNDING = 1e-6  # how far a float32 factor may take a size from a whole one


# --- shapes ---


def _nothing(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    """What is the identity outside training."""


def _cast(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    if node.attributes.get("to") not in _FLOATS:
        raise ValueError("expected floating-point numbers")


def _dropout(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    ratio = number(values[1]) if len(values) > 1 and values[1] is not None else node.attributes.get("ratio", 0.5)
    if ratio is None or not 0 <= ratio < 1:
        raise ValueError("expected a ratio in [0, 1)")
    if ratio:
        chain.add(layers.Dropout, {"rate": short(ratio)})


def _reshape(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    target = list(integers(values[1])) if len(values) > 1 else whole(node.attributes.get("shape"), "shape")
    sizes = (None, *chain.sizes)
    if not node.attributes.get("allowzero"):
        target = [sizes[axis] if size == 0 and axis < len(sizes) else size for axis, size in enumerate(target)]
    if not target or any(size is None or size < -1 or size == 0 for size in target[1:]) or target[1:].count(-1) > 1:
        raise ValueError("expected a shape whose first dimension is the batch's, and the others known")
    known = math.prod(size for size in target[1:] if size is not None and size != -1)
    total = math.prod(chain.sizes)
    if total % known:
        raise ValueError(f"expected a shape of {total} values a sample")
    chain.reshape(tuple(total // known if size == -1 else int(size or 0) for size in target[1:]))


def _flatten(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    axis = node.attributes.get("axis", 1)
    axis = axis + len(chain.sizes) + 1 if axis < 0 else axis
    if axis < 1 or axis > len(chain.sizes) or math.prod(chain.sizes[:axis - 1]) != 1:
        raise ValueError("expected all axes but the batch's")
    chain.reshape((math.prod(chain.sizes),))


def _squeeze(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    """Squeeze and Unsqueeze."""
    axes = axes_of(node, values)
    # The batch is of any size but 1.
    found = (squeezed if node.op == "Squeeze" else unsqueezed)((0, *chain.sizes), axes)
    if found[:1] != (0,):
        raise ValueError("expected the batch to stay the first axis")
    chain.reshape(found[1:])


def _transpose(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    chain.transpose(node.attributes.get("perm") or list(range(len(chain.sizes) + 1))[::-1])


def _tile(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    repeats = whole(values[1], "repeats") if len(values) > 1 else []
    if len(repeats) != 3 or repeats[0] != 1 or repeats[2] != 1 or len(chain.sizes) != 2 or chain.sizes[0] != 1:
        raise ValueError("expected one vector, repeated")
    chain.last(1)
    chain.add(layers.UpSampling1D, {"size": repeats[1]})


# --- images: what lies where ---


def _margins(chain: Chain, margins: list[tuple[int, int]]) -> Pads:
    """Numbers for each axis of the tensor, as those of rows and columns, or steps; brings the channels last."""
    if len(margins) != len(chain.sizes) or len(margins) not in (2, 3):
        raise ValueError("expected a sequence or an image")
    if any(margins[chain.order.index(len(margins) - 1)]):
        if any(margins[0]):
            raise ValueError("expected the channels to stay as they are")
        chain.channels_last()
    else:
        chain.settle()
    found = {logical: margin for logical, margin in zip(chain.order, margins, strict=True)}
    return [found[axis] for axis in range(len(margins) - 1)]


def _pad(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    mode, value, pairs = read_pads(chain, node, values, opset)
    if mode != "constant" or value != 0:
        raise ValueError("expected zeros around the image")
    margins = _margins(chain, pairs)
    added, cut = ([(max(0, sign * before), max(0, sign * after)) for before, after in margins] for sign in (1, -1))
    if any(map(any, added)):
        add_zeros(chain, added)
    _crop(chain, cut)


def read_pads(chain: Chain, node: Node, values: list[Any], opset: int) -> tuple[str, float | None, Pads]:
    """Of a Pad: its mode, the value of a constant one, and what lies before and after each axis of a sample."""
    if opset < 11:
        pads, value = node.attributes.get("pads") or [], node.attributes.get("value", 0.0)
    else:
        pads = whole(values[1], "pads") if len(values) > 1 else []
        value = number(values[2]) if len(values) > 2 and values[2] is not None else 0.0
    rank = len(chain.sizes)
    axes = whole(values[3], "axes") if len(values) > 3 and values[3] is not None else list(range(rank + 1))
    places = [axis + rank + 1 if axis < 0 else axis for axis in axes]
    if len(pads) != 2 * len(places) or len(set(places)) != len(places) or not set(places) <= set(range(rank + 1)):
        raise ValueError(f"expected pads of {2 * len(places)} numbers")
    pairs = dict(zip(places, zip(pads[:len(places)], pads[len(places):], strict=True), strict=True))
    if any(pairs.get(0, (0, 0))):
        raise ValueError("expected the batch to stay as it is")
    check_margins(pads, chain.sizes)
    return node.attributes.get("mode", "constant"), value, [pairs.get(axis, (0, 0)) for axis in range(1, rank + 1)]


def pool_with_pads(chain: Chain, node: Node, values: list[Any], opset: int, pool: Node) -> Node:
    """A MaxPool that has the padding of the Pad before it, where that never wins: minus infinity, or the edge's pixels.

    Raises:
        ValueError: If it might win, or the pool pads by a rule of its own.
    """
    mode, value, pairs = read_pads(chain, node, values, opset)
    sizes = pool.attributes.get("kernel_shape") or []
    own = pool.attributes.get("pads") or [0] * (2 * len(sizes))
    never = mode == "edge" or (mode == "constant" and value is not None and value < -3e38)
    if not never or len(pairs) != len(sizes) + 1 or any(pairs[0]) or len(own) != 2 * len(sizes) or any(
            not 0 <= pad < size for pair, size in zip(pairs[1:], sizes, strict=True) for pad in pair) or \
            (any(own) and mode == "edge") or pool.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise ValueError("expected zeros around the image, or before a MaxPool what is never the largest")
    given = [pair[end] for end in (0, 1) for pair in pairs[1:]]
    pads = [one + other for one, other in zip(own, given, strict=True)]
    return pool._replace(attributes={**pool.attributes, "auto_pad": "NOTSET", "pads": pads})


def _crop(chain: Chain, margins: Pads) -> None:
    if any(map(any, margins)):
        chain.add(layers.Cropping1D if len(margins) == 1 else layers.Cropping2D,
                  {"cropping": margins[0] if len(margins) == 1 else tuple(margins)})


def _slice(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    if opset < 10:
        starts, ends = node.attributes.get("starts") or [], node.attributes.get("ends") or []
        axes, steps = node.attributes.get("axes"), None
    else:
        starts, ends = whole(values[1], "starts"), whole(values[2], "ends")
        axes, steps = (whole(values[index], "axes") if len(values) > index and values[index] is not None else None
                       for index in (3, 4))
    axes = list(range(len(starts))) if axes is None else axes
    rank = len(chain.sizes)
    if not len(starts) == len(ends) == len(axes) or (steps is not None and set(steps) != {1}):
        raise ValueError("expected starts, ends and axes of one length, and steps of 1")
    margins = [(0, 0)] * rank
    for start, end, axis in zip(starts, ends, axes, strict=True):
        place = (axis + rank + 1 if axis < 0 else axis) - 1
        if place == -1 and start == 0 and end >= _EVERYTHING:
            continue
        if not 0 <= place < rank:
            raise ValueError("expected the batch to stay as it is")
        size = chain.sizes[place]
        first, last, _ = slice(start, end).indices(size)
        margins[place] = first, size - max(first, last)
    _crop(chain, _margins(chain, margins))


def _gather(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    """The nearest pixels along rows or columns."""
    indices, rank = tensor(values, 1, "list of indices"), len(chain.sizes)
    axis = node.attributes.get("axis", 0)
    place = (axis + rank + 1 if axis < 0 else axis) - 1
    if rank != 3 or place not in (1, 2) or len(indices.shape) != 1 or not indices.size:
        raise ValueError("expected rows or columns of an image, channels first")
    sizes = list(as_image(chain, 2))
    wanted = maps.resize(sizes[place - 1], indices.size, "nearest").indices[:, 0]
    if not np.array_equal(indices.load(), wanted):
        raise ValueError("expected the nearest rows or columns")
    sizes[place - 1] = indices.size
    chain.add(layers.Resizing, {"height": sizes[0], "width": sizes[1], "interpolation": "nearest"})


def _resize(chain: Chain, node: Node, values: list[Any], opset: int) -> None:
    """Resize, and Upsample before it."""
    rank = len(chain.sizes)
    outputs = _resized(chain.sizes, node, values, opset)
    if outputs[0] != chain.sizes[0] or rank not in (2, 3):
        raise ValueError("expected an image or a sequence, channels first")
    maps.check_entries(math.prod(outputs[1:]), (outputs[1], outputs[-1]))
    sizes = as_image(chain, rank - 1)
    mode = {"nearest": "nearest", "linear": "bilinear", "bilinear": "bilinear", "cubic": "bicubic"}.get(
        node.attributes.get("mode", "nearest"))
    where = node.attributes.get("coordinate_transformation_mode", "half_pixel" if opset > 10 else "asymmetric")
    rounding = node.attributes.get("nearest_mode", "round_prefer_floor" if opset > 10 else "floor")
    pairs = list(zip(sizes, outputs[1:], strict=True))
    if mode is None or not _is_ours(node, mode, where, rounding, pairs):
        raise ValueError("expected pixels whose centres lie at halves, without antialias, "
                         "or by cubic_coeff_a=-0.5 and exclude_outside=1")
    if all(wanted % own == 0 for own, wanted in pairs) and (rank == 3 or mode == "nearest"):
        factors = tuple(wanted // own for own, wanted in pairs)
        chain.add(*((layers.UpSampling1D, {"size": factors[0]}) if rank == 2 else
                    (layers.UpSampling2D, {"size": factors, "interpolation": mode})))
    elif rank == 3:
        chain.add(layers.Resizing, {"height": pairs[0][1], "width": pairs[1][1], "interpolation": mode})
    else:
        raise ValueError("expected a sequence whose steps are repeated")


def _resized(sizes: Shape, node: Node, values: list[Any], opset: int) -> list[int]:
    """The size of every axis of the output, by factors or as it is given."""
    rank = len(sizes)
    index = 1 if opset <= 10 else 2
    given = optional(values, index, "list of factors")
    factors = node.attributes.get("scales") if given is None or not given.size else given.load().ravel().tolist()
    axes = node.attributes.get("axes") or list(range(rank + 1))
    places = [axis + rank + 1 if axis < 0 else axis for axis in axes]
    wanted = integers(values[3]) if len(values) > 3 and factors is None else ()
    if len(places) != len(wanted if factors is None else factors):
        raise ValueError("expected a factor or a size for each axis")
    if factors is not None:
        found = dict(zip(places, factors, strict=True))
        if found.get(0, 1) != 1 or not all(0 < factor < 1e4 for factor in factors):
            raise ValueError("expected positive factors, 1 for the batch")
        products = [size * found.get(axis, 1) for axis, size in enumerate(sizes, 1)]
        # Pixels are taken by the factor itself, which has to be the quotient of the sizes.
        if any(product - math.floor(product) > _ROUNDING * product for product in products):
            raise ValueError("expected factors that make whole sizes of these")
        return [math.floor(product) for product in products]
    given_sizes = dict(zip(places, wanted, strict=True))
    outputs = [given_sizes.get(axis, size) for axis, size in enumerate(sizes, 1)]
    if node.attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise ValueError("expected sizes that are stretched to")
    return whole(outputs, "sizes")


def _is_ours(node: Node, mode: str, where: str, rounding: str, pairs: Sequence[tuple[int, int]]) -> bool:
    """Whether a resizing takes the pixels that `maps.resize` does."""
    if all(own == wanted for own, wanted in pairs):
        return True
    centred = where == "half_pixel" or (where == "pytorch_half_pixel" and all(wanted > 1 for _, wanted in pairs))
    if mode != "nearest":
        cubic = (abs(node.attributes.get("cubic_coeff_a", -0.75) + 0.5) < 1e-6
                 and node.attributes.get("exclude_outside") == 1)
        return centred and not node.attributes.get("antialias") and (mode == "bilinear" or cubic)
    for own, wanted in pairs:
        steps = np.arange(wanted)
        if centred:
            twice = (2 * steps + 1) * own  # 2 * wanted times the place, and a half
            found = {"round_prefer_ceil": twice // (2 * wanted), "round_prefer_floor": -(-twice // (2 * wanted)) - 1,
                     "floor": (twice - wanted) // (2 * wanted),
                     "ceil": -(-(twice - wanted) // (2 * wanted))}.get(rounding)
        elif where == "asymmetric":
            found = {"floor": steps * own // wanted, "ceil": -(-steps * own // wanted)}.get(rounding)
            if found is None:
                found = np.floor(steps * own / wanted + 0.5).astype(np.int64)
        else:
            return False
        if found is None or not np.array_equal(np.clip(found, 0, own - 1),
                                               maps.resize(own, wanted, "nearest").indices[:, 0]):
            return False
    return True


MOVES: dict[str, Callable[[Chain, Node, list[Any], int], None]] = {
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    **dict.fromkeys(("Squeeze", "Unsqueeze"), _squeeze),
    "Cast": _cast,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Gather": _gather,
    "Identity": _nothing,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "Tile": _tile,
    "Transpose": _transpose,
}
