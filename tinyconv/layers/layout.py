"""channels_first at the edges of a layer: the engine's images are always (height, width, channels)."""

from __future__ import annotations

from tinyconv import maps
from tinyconv.engine.program import ProgramBuilder, as_image_shape
from tinyconv.layers.base import Shape

__all__ = ["add_permutation", "channels_first", "channels_last", "from_channels_last", "to_channels_last"]


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
    attributes = maps.of_permutation(shape, axes)
    last = builder.ops[-1] if builder.ops else None
    if last is not None and last.kind == "gather" and last.input_shape == output \
            and maps.undoes(attributes, last.attributes):
        builder.ops.pop()
        builder.shape = output
        return
    builder.add("gather", output, layer=layer, **attributes)


def to_channels_last(builder: ProgramBuilder, shape: Shape, data_format: str, layer: str) -> None:
    """Before the operations of a layer: turns its input of `shape` into a channels_last image."""
    if data_format == "channels_first":
        add_permutation(builder, shape, (*range(1, len(shape)), 0), layer)


def from_channels_last(builder: ProgramBuilder, shape: Shape, data_format: str, layer: str) -> None:
    """After the operations of a layer: turns the channels_last image into its output of `shape`."""
    if data_format == "channels_first":
        add_permutation(builder, channels_last(shape, data_format), (len(shape) - 1, *range(len(shape) - 1)), layer)
