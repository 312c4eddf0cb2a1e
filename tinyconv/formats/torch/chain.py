"""The modules of torch.nn that stand for a model's layers, and the order of a sample's values between them.

PyTorch's samples are (channels, height, width), those of a model mostly (height, width, channels):
kernels are transposed, and what follows a `Flatten` has its rows in PyTorch's order.  A `Chain`
follows the values of a sample through the layers and knows that order at every place.
"""

from __future__ import annotations

import math
from functools import singledispatch
from typing import Any, NamedTuple

import numpy as np

from tinyconv.formats.torch.activations import Unmapped, module_of_activation
from tinyconv.layers import Layer, Weight
from tinyconv.layers.nonlinear import activation_operation

__all__ = ["Chain", "Module", "Tensor", "add_modules"]

Shape = tuple[int, ...]


class Tensor(NamedTuple):
    """A tensor of a module: the values of a weight in another order, or a constant."""

    weight: Weight | None
    owner: str  # the name of the layer
    places: np.ndarray  # where in the flat weight each value of the tensor is
    constant: float = 0.0  # where there is no weight
    is_counter: bool = False  # an integer, of no effect here and not in every file


class Module(NamedTuple):
    """A module of torch.nn."""

    name: str
    arguments: dict[str, Any]
    tensors: dict[str, Tensor]


class Chain:
    """The modules so far, and the order of a sample's values behind them.

    Attributes:
        order: For every value of PyTorch's sample where it is in the flat sample here.
        number: Of the layer that is added.
    """

    def __init__(self, model: Any) -> None:
        formats = [layer.data_format for layer in model.layers
                   if hasattr(layer, "data_format") and len(layer.input_shape) > 1]
        self.data_format = formats[0] if formats else "channels_last"
        self.modules: list[Module] = []
        self.number = 0
        self.layers: list[Layer] = model.layers
        self.order = self.standard(model.layers[0].input_shape)

    def standard(self, shape: Shape) -> np.ndarray:
        """The order of a sample whose channels PyTorch has first and whose other axes are in order."""
        order = np.arange(math.prod(shape)).reshape(shape)
        return np.moveaxis(order, -1, 0) if self.data_format == "channels_last" else order

    def is_standard(self, shape: Shape) -> bool:
        """Whether a sample of this shape stands in the order of `standard`."""
        return np.array_equal(self.order, self.standard(shape))

    def require(self, shape: Shape, data_format: str) -> None:
        """Raises where the next module would take its channels from another axis."""
        if self.data_format != data_format or not self.is_standard(shape):
            raise Unmapped("behind layers that leave the axes in another order")

    def add(self, name: str, arguments: dict[str, Any] | None = None, **tensors: Tensor) -> None:
        """Appends a module of torch.nn, with the arguments and tensors of its names there."""
        self.modules.append(Module(name, arguments or {}, tensors))

    def pad(self, margins: tuple[tuple[int, int], ...], value: float = 0.0) -> None:
        """Appends padding around an image or sequence, or cropping where margins are negative."""
        sides = [side for pair in reversed(margins) for side in pair]
        if any(sides):
            self.add(f"ConstantPad{len(margins)}d", {"padding": tuple(sides), "value": value})

    def activate(self, layer: Layer, activation: Any) -> None:
        """Appends the module of an activation, if it needs one."""
        module = module_of_activation(*activation_operation(activation), self.axis(layer.output_shape, -1))
        if module is not None:
            self.add(*module)

    def axis(self, shape: Shape, axis: int) -> int:
        """PyTorch's number of a sample's axis, the batch counted."""
        last = len(shape) - 1
        position = axis % len(shape)
        if self.data_format == "channels_first":
            return position + 1
        return 1 if position == last else position + 2


@singledispatch
def add_modules(layer: Layer, chain: Chain) -> None:
    """Appends the modules of a layer.

    Raises:
        Unmapped: If torch.nn has none that compute the same.
    """
    raise Unmapped("")
