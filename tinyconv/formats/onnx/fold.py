"""Operators on constants and on shapes: what exporters leave to be calculated.

Two kinds of values are known before any data: tensors, and `Sizes`, lists of numbers that stem from
the shape of a tensor.  A calculated tensor is never larger than what it is made of, and all of them
together cost no more than a few times the constants of the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinyconv.formats.onnx.file import Node, Tensor

__all__ = ["Folder", "Sizes", "axes_of", "integers", "number", "squeezed", "unsqueezed"]

# Numbers of a shape, and of what is calculated from it.
_MAX_SIZES = 64
# Values that may be made of fewer.
_FREE_VALUES = 1024
# Values that calculations may take beside some times those of the file, and what each costs at least.
_FREE_CALCULATED, _COST = 1 << 18, 32
# Beyond what any tensor has: the "everything" of slices.
_FAR = 1 << 30


class Sizes(NamedTuple):
    """Whole numbers, None where they depend on the size of a batch; one, or a list of them."""

    values: tuple[int | None, ...]
    is_list: bool = True


class NotFoldedError(ValueError):
    """Nothing here calculates this; the message says what was expected."""

    def __init__(self, expected: str) -> None:
        super().__init__(f"expected {expected}")


def integers(value: Any) -> tuple[int | None, ...]:
    """The whole numbers that a constant or a shape holds, at most 64.

    Raises:
        ValueError: If it holds none, or too many.
    """
    return _sizes(value).values


def number(value: Any) -> float | None:
    """The only number that a constant holds, or None where there are more."""
    if isinstance(value, Tensor) and value.size == 1:
        array = value.load()
        # As it was before it was rounded to float32.
        return float(str(array.ravel()[0])) if array.dtype in (np.float32, np.float16) else float(array.ravel()[0])
    return None


class Folder:
    """Calculates constants, as many values as a file's constants allow.

    Args:
        held: Values of all constants in the file.
    """

    def __init__(self, held: int) -> None:
        self._left = 4 * held + _FREE_CALCULATED

    def fold(self, node: Node, values: list[Any]) -> Any:
        """The result of an operator on constants, `Sizes` and None for what is not given.

        Raises:
            ValueError: If there is no such operator here, or its arguments do not fit; the message says
                what was expected.
        """
        given = [value for value in values if value is not None]
        if node.op == "Constant":
            return _constant(node)
        if any(isinstance(value, Sizes) for value in given):
            if node.op in _SIZES:
                found = _SIZES[node.op](node, values)
                return found if None in found.values else _of_sizes(found)
        elif node.op in _TENSORS and given:
            self._left -= _COST + sum(value.size for value in given)
            if self._left < 0:
                raise NotFoldedError("fewer calculations with constants")
            return _TENSORS[node.op](node, values)
        raise NotFoldedError("an operator that tinyconv has")


def _of_sizes(sizes: Sizes) -> Tensor:
    array = np.array(sizes.values, np.int64)
    return _of_array(array if sizes.is_list else array.reshape(()))


# --- tensors ---


def _constant(node: Node) -> Tensor:
    for name, kind in (("value_float", "<f4"), ("value_floats", "<f4"), ("value_int", "<i8"), ("value_ints", "<i8")):
        if node.attributes.get(name) is not None:
            return _of_array(np.array(node.attributes[name], kind))
    value = node.attributes.get("value")
    if not isinstance(value, Tensor):
        raise NotFoldedError("a value of numbers")
    return value


def _of_array(array: np.ndarray) -> Tensor:
    return Tensor(array.shape, array.dtype.kind == "f", lambda: array)


def _reshaped(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    if math.prod(shape) != tensor.size:
        raise NotFoldedError(f"a shape of {tensor.size} values")
    return _of_array(tensor.load().reshape(shape))


def _identity(node: Node, values: list[Any]) -> Any:
    return values[0]


def _cast(node: Node, values: list[Any]) -> Tensor:
    tensor, to = values[0], node.attributes.get("to")
    kinds = {1: "<f4", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8"}
    if to not in kinds:
        raise NotFoldedError("a type of numbers")
    with np.errstate(all="ignore"):
        return _of_array(tensor.load().astype(kinds[to]))


def axes_of(node: Node, values: list[Any]) -> tuple[int, ...] | None:
    """Axes, an attribute until opset 12 and an input since; None where none are given."""
    if len(values) > 1 and values[1] is not None:
        return tuple(_known(values[1]))
    axes = node.attributes.get("axes")
    return None if axes is None else tuple(axes)


def unsqueezed(sizes: tuple[Any, ...], axes: tuple[int, ...] | None) -> tuple[Any, ...]:
    """A shape with a 1 at every one of `axes` of the result."""
    if axes is None:
        raise NotFoldedError("axes")
    rank = len(sizes) + len(axes)
    places = {axis + rank if axis < 0 else axis for axis in axes}
    if len(places) != len(axes) or not all(0 <= place < rank for place in places):
        raise NotFoldedError(f"axes of {rank} dimensions")
    rest = iter(sizes)
    return tuple(1 if axis in places else next(rest) for axis in range(rank))


def squeezed(sizes: tuple[Any, ...], axes: tuple[int, ...] | None) -> tuple[Any, ...]:
    """A shape without its `axes`, which are 1; by default all that are."""
    rank = len(sizes)
    if axes is None:
        return tuple(size for size in sizes if size != 1)
    places = {axis + rank if axis < 0 else axis for axis in axes}
    if any(not 0 <= place < rank or sizes[place] != 1 for place in places):
        raise NotFoldedError("axes of size 1")
    return tuple(size for axis, size in enumerate(sizes) if axis not in places)


def _unsqueeze(node: Node, values: list[Any]) -> Tensor:
    return _reshaped(values[0], unsqueezed(values[0].shape, axes_of(node, values)))


def _squeeze(node: Node, values: list[Any]) -> Tensor:
    return _reshaped(values[0], squeezed(values[0].shape, axes_of(node, values)))


def _reshape(node: Node, values: list[Any]) -> Tensor:
    tensor = values[0]
    target = _known(values[1])
    shape = [tensor.shape[axis] if size == 0 and axis < len(tensor.shape) else size for axis, size in enumerate(target)]
    rest = math.prod(size for size in shape if size != -1)
    if shape.count(-1) > 1 or min(shape, default=1) < -1 or (-1 in shape and (rest == 0 or tensor.size % rest)):
        raise NotFoldedError(f"a shape of {tensor.size} values")
    return _reshaped(tensor, tuple(tensor.size // rest if size == -1 else size for size in shape))


def _flatten(node: Node, values: list[Any]) -> Tensor:
    tensor, axis = values[0], node.attributes.get("axis", 1)
    axis = axis + len(tensor.shape) if axis < 0 else axis
    if not 0 <= axis <= len(tensor.shape):
        raise NotFoldedError(f"an axis of {len(tensor.shape)} dimensions")
    return _reshaped(tensor, (math.prod(tensor.shape[:axis]), math.prod(tensor.shape[axis:])))


def _transpose(node: Node, values: list[Any]) -> Tensor:
    tensor = values[0]
    axes = node.attributes.get("perm") or list(range(len(tensor.shape)))[::-1]
    if sorted(axes) != list(range(len(tensor.shape))):
        raise NotFoldedError(f"a permutation of {len(tensor.shape)} axes")
    return _of_array(tensor.load().transpose(axes))


def _elementwise(function: Callable[..., Any], like: int | None = 0) -> Callable[..., Tensor]:
    """A function of values at one position; its result has the type of an argument, or truth values."""
    def apply(node: Node, values: list[Any]) -> Tensor:
        if isinstance(function, np.ufunc) and len(values) != function.nin:  # one more would be written to
            raise NotFoldedError(f"{function.nin} inputs")
        try:
            shape = np.broadcast_shapes(*(value.shape for value in values))
        except ValueError:
            raise NotFoldedError("shapes that fit each other") from None
        if math.prod(shape) > max(_FREE_VALUES, *(value.size for value in values)):
            raise NotFoldedError("a result no larger than what it is made of")
        arrays = [value.load() for value in values]
        with np.errstate(all="ignore"):
            return _of_array(np.asarray(function(*arrays), bool if like is None else arrays[like].dtype))
    return apply


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whole numbers are rounded towards zero; nothing of a shape is divided by 0."""
    if a.dtype.kind == "f":
        return a / b
    safe = np.where(b == 0, 1, b)
    return np.sign(a) * np.sign(safe) * (np.abs(a) // np.abs(safe))


def _modulo(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.mod(a, np.where(b == 0, 1, b))


def _power(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.power(a, b) if a.dtype.kind == "f" else np.power(a.astype(np.float64), b)


def _concatenate(node: Node, values: list[Any]) -> Tensor:
    axis = node.attributes.get("axis", 0)
    shapes = [value.shape for value in values]
    rank = len(shapes[0])
    if not -rank <= axis < rank or len({(*shape[:axis % rank], *shape[axis % rank + 1:]) for shape in shapes}) != 1:
        raise NotFoldedError("shapes that fit each other")
    return _of_array(np.concatenate([value.load() for value in values], axis))


def _bounded_size(size: int, values: list[Any]) -> None:
    if size > max(_FREE_VALUES, *(value.size for value in values if value is not None)):
        raise NotFoldedError("a result no larger than what it is made of")


def _slice(node: Node, values: list[Any]) -> Tensor:
    array = values[0].load()
    parts = [slice(None)] * array.ndim
    for axis, part in _slices(node, values, array.ndim).items():
        parts[axis] = part
    return _of_array(array[tuple(parts)])


def _slices(node: Node, values: list[Any], rank: int) -> dict[int, slice]:
    """What a Slice takes of every axis that it names: attributes until opset 9, inputs since."""
    given = [_known(value) if value is not None else None for value in values[1:5]]
    given = given or [node.attributes.get(name) for name in ("starts", "ends", "axes")]
    starts, ends, axes, steps = (given + [None] * 4)[:4]
    starts, ends = starts or [], ends or []
    axes, steps = axes or list(range(len(starts))), steps or [1] * len(starts)
    places = [axis + rank if axis < 0 else axis for axis in axes]
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps \
            or len(set(places)) != len(places) or not set(places) <= set(range(rank)):
        raise NotFoldedError("starts, ends, axes and steps of one length")
    # Far before the beginning a backward slice ends with the first value.
    return {place: slice(start, None if step < 0 and end < -_FAR else end, step)
            for place, start, end, step in zip(places, starts, ends, steps, strict=True)}


def _gather(node: Node, values: list[Any]) -> Tensor:
    array, indices = values[0].load(), values[1]
    axis = node.attributes.get("axis", 0)
    if not -array.ndim <= axis < array.ndim or indices.is_float:
        raise NotFoldedError(f"an axis of {array.ndim}, and indices")
    _bounded_size(array.size // max(1, array.shape[axis]) * indices.size, values)
    return _of_array(np.take(array, indices.load(), axis))


def _filled(node: Node, values: list[Any]) -> Tensor:
    """ConstantOfShape."""
    shape, value = _known(values[0]), node.attributes.get("value")
    if len(shape) > 4 or any(not 0 <= size <= _FREE_VALUES for size in shape) or math.prod(shape) > _FREE_VALUES:
        raise NotFoldedError(f"at most {_FREE_VALUES} values")
    return _of_array(np.full(shape, 0 if value is None else value.load().ravel()[0], None if value is None else
                             value.load().dtype))


def _shape_of(node: Node, values: list[Any]) -> Tensor:
    shape = values[0].shape[node.attributes.get("start", 0):node.attributes.get("end")]
    return _of_array(np.array(shape, np.int64))


def _product_of(node: Node, values: list[Any]) -> Tensor:
    if len(values[0].shape) != 1 or values[0].is_float:
        raise NotFoldedError("a list of whole numbers")
    return _of_array(np.prod(values[0].load(), keepdims=bool(node.attributes.get("keepdims", 1))))


_TENSORS: dict[str, Callable[..., Any]] = {
    "Add": _elementwise(np.add), "Cast": _cast, "Ceil": _elementwise(np.ceil), "Concat": _concatenate,
    "ConstantOfShape": _filled, "Div": _elementwise(_divide), "Equal": _elementwise(np.equal, None),
    "Flatten": _flatten, "Floor": _elementwise(np.floor),
    "Gather": _gather, "Identity": _identity, "Max": _elementwise(np.maximum), "Min": _elementwise(np.minimum),
    "Mod": _elementwise(_modulo), "Mul": _elementwise(np.multiply), "Neg": _elementwise(np.negative),
    "Pow": _elementwise(_power), "Reciprocal": _elementwise(np.reciprocal), "ReduceProd": _product_of,
    "Reshape": _reshape, "Shape": _shape_of, "Slice": _slice, "Sqrt": _elementwise(np.sqrt), "Squeeze": _squeeze,
    "Sub": _elementwise(np.subtract), "Transpose": _transpose, "Unsqueeze": _unsqueeze,
    "Where": _elementwise(np.where, 1),
}


# --- shapes ---


def _sizes(value: Any) -> Sizes:
    if isinstance(value, Sizes):
        return value
    if not isinstance(value, Tensor) or value.size > _MAX_SIZES or len(value.shape) > 1:
        raise NotFoldedError("a list of whole numbers")
    array = value.load()
    if value.is_float and not (np.isfinite(array).all() and (array == np.rint(array)).all()):
        raise NotFoldedError("a list of whole numbers")
    return Sizes(tuple(int(item) for item in array.ravel()), bool(value.shape))


def _known(value: Any) -> list[int]:
    found = _sizes(value).values
    if None in found:
        raise NotFoldedError("numbers that do not depend on the size of a batch")
    return [item for item in found if item is not None]


def _same(node: Node, values: list[Any]) -> Sizes:
    return _sizes(values[0])


def _as_list(node: Node, values: list[Any]) -> Sizes:
    return Sizes(_sizes(values[0]).values)


def _as_one(node: Node, values: list[Any]) -> Sizes:
    found = _sizes(values[0]).values
    return Sizes(found, len(found) != 1)


def _chosen(node: Node, values: list[Any]) -> Sizes:
    found, indices = _sizes(values[0]).values, _sizes(values[1])
    if any(index is None or not -len(found) <= index < len(found) for index in indices.values):
        raise NotFoldedError(f"indices of {len(found)} numbers")
    return Sizes(tuple(found[index] for index in indices.values if index is not None), indices.is_list)


def _sliced(node: Node, values: list[Any]) -> Sizes:
    return Sizes(_sizes(values[0]).values[_slices(node, values, 1).get(0, slice(None))])


def _joined(node: Node, values: list[Any]) -> Sizes:
    found = tuple(item for value in values for item in _sizes(value).values)
    if len(found) > _MAX_SIZES:
        raise NotFoldedError(f"at most {_MAX_SIZES} numbers")
    return Sizes(found)


def _calculated(function: Callable[[int, int], int]) -> Callable[..., Sizes]:
    def apply(node: Node, values: list[Any]) -> Sizes:
        first, second = _sizes(values[0]), _sizes(values[1])
        count = max(len(first.values), len(second.values))
        if min(len(first.values), len(second.values)) not in (1, count):
            raise NotFoldedError("lists of one length")
        pairs = zip((first.values * count)[:count], (second.values * count)[:count], strict=True)
        return Sizes(tuple(None if one is None or other is None else _bounded(function(one, other))
                           for one, other in pairs), first.is_list or second.is_list)
    return apply


def _bounded(value: int) -> int | None:
    return value if abs(value) < 1 << 63 else None


def _quotient(one: int, other: int) -> int:
    return 0 if other == 0 else int(math.copysign(1, one) * math.copysign(1, other)) * (abs(one) // abs(other))


def _product(node: Node, values: list[Any]) -> Sizes:
    found = _sizes(values[0]).values
    product = None if None in found else _bounded(math.prod(item for item in found if item is not None))
    return Sizes((product,), bool(node.attributes.get("keepdims", 1)))


def _length(node: Node, values: list[Any]) -> Sizes:
    return Sizes((len(values[0].values),)[:values[0].is_list])


_SIZES: dict[str, Callable[..., Sizes]] = {
    "Add": _calculated(lambda one, other: one + other), "Cast": _same, "Concat": _joined,
    "Div": _calculated(_quotient), "Gather": _chosen, "Identity": _same, "Max": _calculated(max),
    "Min": _calculated(min), "Mod": _calculated(lambda one, other: one % (other or 1)),
    "Mul": _calculated(lambda one, other: one * other), "ReduceProd": _product, "Reshape": _as_list, "Shape": _length,
    "Slice": _sliced, "Squeeze": _as_one, "Sub": _calculated(lambda one, other: one - other), "Unsqueeze": _as_list,
}
