"""Sequences, images and channels_first at the edges of a layer: the engine's images are always
(height, width, channels), and a sequence is an image of one row."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tinyconv import maps
from tinyconv.engine.program import ProgramBuilder, as_image_shape
from tinyconv.layers.base import Shape
from tinyconv.shapes import describe

__all__ = [
    "Image", "Pair", "add_permutation", "add_reshape", "axes_last", "axes_of", "channels_first", "channels_last",
    "check_axes", "from_channels_last", "image_of", "pair_of", "shape_of", "to_channels_last",
]

Image = tuple[int, int, int]
Pair = tuple[int, int]


def image_of(shape: Shape, rank: int, data_format: str) -> Image:
    """The (height, width, channels) of a layer's input, a sequence (rank 1) or an image (rank 2).

    Raises:
        ValueError: If the input has another number of dimensions.
    """
    if len(shape) != rank + 1:
        size = "height, width" if rank == 2 else "steps"
        expected = f"(channels, {size})" if data_format == "channels_first" else f"({size}, channels)"
        raise ValueError(f"Expected an input of shape {expected}. Received: input_shape={shape}")
    return as_image_shape(channels_last(shape, data_format))


def shape_of(image: Image, rank: int, data_format: str) -> Shape:
    """The shape of a layer's output of (height, width, channels)."""
    return channels_first(image[2 - rank:], data_format)


def pair_of(sizes: tuple[int, ...]) -> Pair:
    """One or two sizes, along height and width."""
    return (sizes[0], sizes[1]) if len(sizes) == 2 else (1, sizes[0])


def channels_last(shape: Shape, data_format: str) -> Shape:
    """A sample's shape with the channels at its end."""
    return (*shape[1:], shape[0]) if data_format == "channels_first" else shape


def channels_first(shape: Shape, data_format: str) -> Shape:
    """The shape with its channels, which stand at the end, where `data_format` wants them."""
    return (shape[-1], *shape[:-1]) if data_format == "channels_first" else shape


def add_permutation(builder: ProgramBuilder, shape: Shape, axes: tuple[int, ...], layer: str) -> None:
    """Appends np.transpose(x, axes) of samples of `shape`; two that undo each other vanish.

    Args:
        builder: Where to.
        shape: The shape of a sample now.
        axes: As of np.transpose, without the batch.
        layer: The layer's name.
    """
    output = as_image_shape(tuple(shape[axis] for axis in axes))
    moved = [axis for axis in axes if shape[axis] > 1]
    if moved == sorted(moved):  # the values keep their order
        builder.add("reshape", output, layer=layer)
        return
    attributes = maps.of_permutation(shape, axes)
    last = builder.ops[-1] if builder.ops else None
    if last is not None and last.kind == "gather" and last.input_shape == output \
            and maps.undoes(attributes, last.attributes):
        builder.ops.pop()
        builder.shape = output
        return
    builder.add("gather", output, layer=layer, **attributes)


def axes_of(axis: Any, shape: Shape) -> tuple[int, ...]:
    """Axes of a sample of a shape from Keras' numbers, which count the batch: in order, from 0.

    Args:
        axis: A number, or several; negative ones count from the end.
        shape: The shape of a sample.

    Raises:
        ValueError: If one is the batch's, or beyond the sample.
    """
    rank = len(shape) + 1
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    if any(not -rank < one < rank or one == 0 for one in axes):
        raise ValueError(f"Expected axis to be in [1, {rank - 1}], or to count from the end, -1 to {1 - rank}. "
                         f"Received: axis={axis}")
    return tuple(sorted({one % rank - 1 for one in axes}))


def check_axes(axis: Any, least: int = 0) -> tuple[int, ...]:
    """The axes that an argument names, one or several, as numbers that count the batch.

    Raises:
        ValueError: If they are no integers, one is 0, or there are fewer than `least`.
    """
    axes = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    if len(axes) < least or any(isinstance(one, bool) or not hasattr(one, "__index__") or one == 0 for one in axes):
        raise ValueError("Expected axis to be an integer other than 0, the batch's, or several. "
                         f"Received: axis={describe(axis)}")
    return tuple(int(one) for one in axes)


@contextmanager
def axes_last(builder: ProgramBuilder, shape: Shape, axes: tuple[int, ...], layer: str) -> Iterator[None]:
    """Around operations along some axes of samples of `shape`: they find these as the channels.

    Where there are several or none, the images are of one row; behind the operations the sample's own
    shape is back.
    """
    order = (*(axis for axis in range(len(shape)) if axis not in axes), *axes)
    in_order = order == tuple(range(len(shape)))
    image = builder.shape
    if not in_order:
        add_permutation(builder, shape, order, layer)
    turned = builder.shape
    size = math.prod(shape[axis] for axis in axes)
    if len(axes) != 1:
        add_reshape(builder, (1, math.prod(shape) // size, size), layer)
    yield
    add_reshape(builder, turned if not in_order else image, layer)
    if not in_order:
        back = tuple(order.index(axis) for axis in range(len(shape)))
        add_permutation(builder, tuple(shape[axis] for axis in order), back, layer)


def add_reshape(builder: ProgramBuilder, shape: Image, layer: str) -> None:
    """Takes the values for an image of another shape, where it is another."""
    if builder.shape != shape:
        builder.add("reshape", shape, layer=layer)


def to_channels_last(builder: ProgramBuilder, shape: Shape, data_format: str, layer: str) -> None:
    """Before the operations of a layer: turns its input of `shape` into a channels_last image."""
    if data_format == "channels_first":
        add_permutation(builder, shape, (*range(1, len(shape)), 0), layer)


def from_channels_last(builder: ProgramBuilder, shape: Shape, data_format: str, layer: str) -> None:
    """After the operations of a layer: turns the channels_last image into its output of `shape`."""
    if data_format == "channels_first":
        add_permutation(builder, channels_last(shape, data_format), (len(shape) - 1, *range(len(shape) - 1)), layer)
