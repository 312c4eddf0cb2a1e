"""Layers as they are read from an ONNX file, one behind the other.

ONNX' images have their channels first, the layers made here have them last.  The chain therefore
keeps the order in which the axes of a sample lie in the file's tensor, as the writer does: a Transpose
costs nothing, a Permute layer is made where the layers' order has to become another, and the rows of
the first Dense layer behind a Flatten are permuted instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinyconv import layers
from tinyconv.formats.onnx.file import Tensor

__all__ = ["Chain", "Entry", "Weight"]

Shape = tuple[int, ...]

# Layers that are linear, with a bias or none and an activation of their own.
_LINEAR = (layers.Conv1D, layers.Conv2D, layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Dense,
           layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_GLOBAL = (layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalMaxPooling1D,
           layers.GlobalMaxPooling2D)
_NOT_NEGATIVE = {"relu", "relu6", "sigmoid", "hard_sigmoid", "softmax", "softplus", "exponential", "sparse_sigmoid"}
# A normalization that leaves values as they are: 1 - epsilon and epsilon add up to 1 exactly.
_EPSILON = 2.0**-10
_MOST_FACTOR = 1e6


@dataclass(frozen=True)
class Weight:
    """What a weight will be: its shape, and a function that gets the values."""

    shape: Shape
    load: Callable[[], np.ndarray]

    @staticmethod
    def of(tensor: Tensor, shape: Shape | None = None) -> Weight:
        """A constant, perhaps of another shape."""
        shape = tensor.shape if shape is None else shape
        return Weight(shape, lambda: tensor.load().reshape(shape))

    @staticmethod
    def full(values: Any) -> Weight:
        """A weight of values that are known."""
        array = np.asarray(values, np.float32)
        return Weight(array.shape, lambda: array)

    def then(self, shape: Shape, function: Callable[[np.ndarray], np.ndarray]) -> Weight:
        """What a function makes of the values."""
        return Weight(shape, lambda: function(self.load()))


@dataclass
class Entry:
    """A layer to be: its class, settings, and weights in the layer's order.

    is_squeeze: Whether it only adds or removes axes of size 1, before the last one.
    """

    cls: type
    config: dict[str, Any]
    weights: list[Weight] = field(default_factory=list)
    is_squeeze: bool = False

    @property
    def is_linear(self) -> bool:
        """Whether factors and summands of its outputs can go into its weights."""
        return issubclass(self.cls, _LINEAR) and "activation" not in self.config


@dataclass
class _Affine:
    """Factors and summands that were read and are in no layer yet: one number each, or one a channel."""

    scale: np.ndarray
    offset: np.ndarray


@dataclass
class _Flattened:
    """A Flatten of a tensor whose axes were in another order than the sample's."""

    place: int  # among the layers
    shape: Shape
    order: Shape

    def rows(self) -> np.ndarray:
        """Value i of the tensor is value rows[i] of the sample."""
        return np.arange(math.prod(self.shape)).reshape(self.shape).transpose(self.order).ravel()


def _may_divide(scale: np.ndarray) -> bool:
    """Whether factors may be those of a Normalization, whose deviations have a least value and squares in float32."""
    return bool(((scale > 1 / _MOST_FACTOR) & (scale < _MOST_FACTOR)).all())


class Chain:
    """Layers so far, and where the last value lies.

    Args:
        sizes: The shape of a sample in the file's tensor.

    Attributes:
        entries: The layers.
        shape: The shape of a sample as the layers see it.
        order: Axis i of the tensor is axis order[i] of the sample.
    """

    def __init__(self, sizes: Shape) -> None:
        self.input_shape = self.shape = sizes
        self.order: Shape = tuple(range(len(sizes)))
        self.entries: list[Entry] = []
        self._affine: _Affine | None = None
        self._flattened: _Flattened | None = None

    @property
    def sizes(self) -> Shape:
        """The shape of a sample in the file's tensor."""
        return tuple(self.shape[axis] for axis in self.order)

    def add(self, cls: type, config: dict[str, Any] | None = None, weights: list[Weight] | None = None) -> None:
        """Appends a layer; the tensor's axes keep their order where their number stays.

        Raises:
            ValueError: If the layer cannot follow.
        """
        self.flush()
        entry = Entry(cls, config or {}, weights or [])
        self.shape = cls(**entry.config).compute_output_shape(self.shape)
        self.entries.append(entry)

    # --- order ---

    def transpose(self, permutation: list[int]) -> None:
        """A transposition of the file's tensor, the batch counted."""
        if len(permutation) != len(self.order) + 1 or sorted(permutation) != list(range(len(permutation))):
            raise ValueError(f"expected a permutation of {len(self.order) + 1} axes")
        if permutation[0] != 0:
            raise ValueError("expected samples along the first axis")
        self.order = tuple(self.order[axis - 1] for axis in permutation[1:])

    def _permute(self, axes: Shape) -> None:
        """Makes the sample's axis k what the tensor's axis axes[k] is."""
        dims = tuple(self.order[axis] + 1 for axis in axes)
        if dims != tuple(range(1, len(dims) + 1)):
            self.add(layers.Permute, {"dims": dims})
        self.order = tuple(axes.index(axis) for axis in range(len(axes)))

    @property
    def _linear(self) -> Entry | None:
        """The last layer, if it is linear, but for what may as well come behind a bias and an activation."""
        for entry in reversed(self.entries):
            if not entry.is_squeeze and not issubclass(entry.cls, (layers.Cropping1D, layers.Cropping2D)):
                return entry if entry.is_linear else None
        return None

    def in_order(self) -> None:
        """Makes the sample what the tensor is."""
        self.settle()
        self._permute(tuple(range(len(self.order))))

    def channels_last(self) -> None:
        """Makes the sample an image or sequence with its channels last, the tensor's being first."""
        self.settle()
        rank = len(self.order)
        self._permute((*range(1, rank), 0))

    def last(self, axis: int) -> None:
        """Makes an axis of the tensor the sample's last."""
        self.settle()
        if self.order[axis] != len(self.order) - 1:
            self._permute((*(other for other in range(len(self.order)) if other != axis), axis))

    def settle(self) -> None:
        """Undoes that values were flattened in another order: they are brought in order before."""
        if self._flattened is not None:
            self.flush()
            dims = tuple(axis + 1 for axis in self._flattened.order)
            self.entries.insert(self._flattened.place, Entry(layers.Permute, {"dims": dims}))
            self._flattened = None

    # --- shapes ---

    def reshape(self, sizes: Shape) -> None:
        """Takes the tensor's values in another shape."""
        if math.prod(sizes) != math.prod(self.shape):
            raise ValueError(f"expected a shape of {math.prod(self.shape)} values a sample")
        if sizes == self.sizes:
            return
        if not 1 <= len(sizes) <= 3:
            raise ValueError("expected a shape of 1 to 3 dimensions a sample")
        if len(sizes) == 1:
            self._flat()
            return
        self.settle()
        if not self._squeeze(sizes):
            self.in_order()
            self.add(layers.Reshape, {"target_shape": sizes})
            self.order = tuple(range(len(sizes)))

    def _flat(self) -> None:
        last = self.entries[-1] if self.entries and self._affine is None else None
        if last is not None and issubclass(last.cls, _GLOBAL) and last.config.get("keepdims"):
            last.config["keepdims"] = False
            self.shape, self.order = (math.prod(self.shape),), (0,)
            return
        self.flush()
        moved = [axis for axis in self.order if self.shape[axis] > 1]
        if moved != sorted(moved):
            self._flattened = _Flattened(len(self.entries), self.shape, self.order)
        self.add(layers.Flatten)
        self.order = (0,)

    def _squeeze(self, sizes: Shape) -> bool:
        """Adds or removes axes of size 1, where the others may keep their order; returns whether it could."""
        kept = [axis for axis, size in enumerate(self.sizes) if size > 1]
        places = [axis for axis, size in enumerate(sizes) if size > 1]
        if [self.sizes[axis] for axis in kept] != [sizes[axis] for axis in places]:
            return False
        wanted = [kept.index(axis) for axis in sorted(kept, key=lambda axis: self.order[axis])]
        rank = len(sizes)
        for axes in ((*range(1, rank), 0), tuple(range(rank))):
            if [places.index(axis) for axis in axes if sizes[axis] > 1] == wanted:
                target = tuple(sizes[axis] for axis in axes)
                if target != self.shape:
                    same = target[-1] == self.shape[-1]
                    self.add(layers.Reshape, {"target_shape": target})
                    self.entries[-1].is_squeeze = same
                self.order = tuple(axes.index(axis) for axis in range(rank))
                return True
        return False

    def repeat(self, axis: int, count: int) -> None:
        """Repeats every position along an axis of the tensor."""
        last = len(self.order) - 1
        if self.order[axis] == last:
            if axis == 0:
                raise ValueError("expected the channels to stay as they are")
            self.channels_last()
        self.settle()
        if last == 1:
            self.add(layers.UpSampling1D, {"size": count})
            return
        factors = (count, 1) if self.order[axis] == 0 else (1, count)
        before = self.entries[-1] if self.entries and self._affine is None else None
        if before is not None and before.cls is layers.UpSampling2D and len(before.config) == 1:
            rows, columns = before.config["size"]
            self.entries.pop()
            self.shape = (self.shape[0] // rows, self.shape[1] // columns, self.shape[2])
            factors = (factors[0] * rows, factors[1] * columns)
        self.add(layers.UpSampling2D, {"size": factors})

    # --- values ---

    def dense(self, kernel: Weight, bias: Weight | None) -> None:
        """A Dense layer whose kernel's rows are the tensor's last axis."""
        inputs, units = kernel.shape
        if self.sizes[-1] != inputs:
            raise ValueError(f"expected a matrix of {self.sizes[-1]} rows for the tensor's last axis")
        flattened, self._flattened = self._flattened, None
        if len(self.order) > 1 and self.order[-1] != len(self.order) - 1:
            self.in_order()

        def load() -> np.ndarray:
            values = kernel.load()
            if flattened is None:
                return values
            ordered = np.empty_like(values)
            ordered[flattened.rows()] = values
            return ordered

        self.add(layers.Dense, {"units": units, "use_bias": bias is not None},
                 [Weight(kernel.shape, load), *([bias] if bias else [])])

    def activation(self, found: Any, axis: int | None = None) -> None:
        """An activation: a name, or {class_name, config}.

        Args:
            found: Which one.
            axis: Of the softmaxes: the tensor's axis that they run along.
        """
        self.flush()
        if isinstance(found, dict):
            self.add(layers.get(found["class_name"]), found["config"])
            return
        if axis is not None and self.order[axis] != len(self.order) - 1:
            if found != "softmax":
                self.last(axis)
            else:
                self.add(layers.Softmax, {"axis": self.order[axis] + 1})
                return
        if found == "linear":
            return
        if self._linear is not None:
            self._linear.config["activation"] = found
        else:
            self.add(layers.Activation, {"activation": found})

    def replace_activation(self, replaced: dict[str, str]) -> bool:
        """Puts another activation in the place of the last one; returns whether it could."""
        config = self.entries[-1].config if self.entries and self._affine is None else {}
        if config.get("activation") not in replaced:
            return False
        config["activation"] = replaced[config["activation"]]
        return True

    def prelu(self, slopes: Tensor, sign: int) -> None:
        """A PReLU whose slopes, times a sign, are broadcast to the tensor."""
        rank = len(self.order)
        if len(slopes.shape) > rank + 1 or (len(slopes.shape) == rank + 1 and slopes.shape[0] != 1):
            raise ValueError("expected slopes of a sample")
        self.settle()
        shape = slopes.shape[-rank:] if len(slopes.shape) >= rank else (1,) * (rank - len(slopes.shape)) + slopes.shape
        if any(size not in (1, own) for size, own in zip(shape, self.sizes, strict=True)):
            raise ValueError(f"expected slopes for samples of {list(self.sizes)}")
        places = tuple(self.order.index(axis) for axis in range(rank))
        target = tuple(shape[place] for place in places)
        shared = [axis for axis, size in enumerate(target, 1) if size == 1 and self.shape[axis - 1] > 1]
        weight = Weight.of(slopes, shape).then(target, lambda array: array.transpose(places) * np.float32(sign))
        self.add(layers.PReLU, {"shared_axes": shared or None}, [weight])

    @property
    def is_not_negative(self) -> bool:
        """Whether the last layer's values are certainly 0 or more."""
        if self._affine is not None:
            return False
        for entry in reversed(self.entries):
            if issubclass(entry.cls, (layers.ReLU, layers.Softmax)):
                return not entry.config.get("negative_slope")
            if "activation" in entry.config:
                return entry.config["activation"] in _NOT_NEGATIVE
            if not issubclass(entry.cls, (layers.MaxPooling1D, layers.MaxPooling2D, layers.Dropout, layers.Permute,
                                          layers.ZeroPadding1D, layers.ZeroPadding2D)):
                return False
        return False

    def affine(self, scale: Any, offset: Any) -> None:
        """x * scale + offset, in float64, with numbers or arrays that are broadcast to the tensor."""
        scale, offset = (self._placed(np.asarray(array, np.float64)) for array in (scale, offset))
        before = self._affine or _Affine(np.array(1.0), np.array(0.0))
        self._affine = _Affine(before.scale * scale, before.offset * scale + offset)
        if not (np.isfinite(self._affine.scale).all() and np.isfinite(self._affine.offset).all()):
            raise ValueError("expected finite numbers")

    def _placed(self, array: np.ndarray) -> np.ndarray:
        """An array that is broadcast to the tensor, as one that is broadcast to the sample."""
        if array.size == 1:
            return array.reshape(())
        rank = len(self.order)
        if array.ndim == rank + 1 and array.shape[0] == 1:
            array = array[0]
        if array.ndim > rank or any(size not in (1, own) for size, own in zip(
                array.shape[::-1], self.sizes[::-1], strict=False)):
            raise ValueError(f"expected numbers for samples of {list(self.sizes)}")
        array = array.reshape((1,) * (rank - array.ndim) + array.shape)
        along = [axis for axis, size in enumerate(array.shape) if size > 1]
        if len(along) == 1:
            self.last(along[0])
            return array.ravel()
        self.settle()
        return array.transpose([self.order.index(axis) for axis in range(rank)])

    def flush(self) -> None:
        """Makes layers of the factors and summands that were read."""
        if self._affine is None:
            return
        scale, offset = np.broadcast_arrays(self._affine.scale, self._affine.offset)
        self._affine = None
        if self._linear is not None and (scale == 1).all() and offset.ndim < 2:
            self._add_bias(self._linear, offset)
        elif scale.ndim == 0:
            if (scale, offset) != (1, 0):
                self.add(layers.Rescaling, {"scale": float(scale), "offset": float(offset)})
        elif scale.ndim == 1 and (any(entry.weights for entry in self.entries) or not _may_divide(scale)):
            weights = [Weight.full(values) for values in (
                scale, offset, np.zeros(len(scale)), np.full(len(scale), 1 - _EPSILON))]
            self.add(layers.BatchNormalization, {"epsilon": _EPSILON, "trainable": False}, weights)
        else:
            if not _may_divide(scale):
                raise ValueError("expected positive factors, or one for each channel")
            along = [len(self.shape) - scale.ndim + axis for axis, size in enumerate(scale.shape) if size > 1]
            mean, variance = (values.reshape([self.shape[axis] for axis in along]) for values in (
                -offset / scale, scale**-2.0))
            self.add(layers.Normalization, {"axis": tuple(axis + 1 for axis in along), "mean": mean,
                                            "variance": variance})

    def _add_bias(self, entry: Entry, offset: np.ndarray) -> None:
        values = Weight.full(np.broadcast_to(offset, self.shape[-1:]))
        if entry.config.get("use_bias", True):
            values = entry.weights.pop().then(values.shape, lambda bias: bias + offset)
        entry.config["use_bias"] = True
        entry.weights.append(values)

