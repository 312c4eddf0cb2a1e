"""From checked layers to a model: the weights that they will have, and a model that holds zeros for them.

Every reader goes this way: what a file says about shapes is compared with `expected_weights`
before memory is taken, then `build_model` takes it, once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyconv import initializers
from tinyconv.formats import keras2
from tinyconv.formats.guard import FormatError, checked_integer, checked_product, shorten
from tinyconv.models import Sequential

__all__ = ["build_model", "expected_weights", "guarded", "weight_shapes"]

# Windows and steps of more pixels than this many times the input's size (and a few) are no network's:
# running such a layer could take for ever.
_WINDOW_FACTOR, _WINDOW_EXTRA = 4, 64


def expected_weights(created: list[Any]) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of every weight in a file, from the layers' settings alone."""
    shapes = weight_shapes(created)
    return [(keras2.weight_name(layer, name), size) for layer, sizes in zip(created, shapes)
            for name, size in sizes.items()]


def weight_shapes(created: list[Any]) -> list[dict[str, tuple[int, ...]]]:
    """For every layer the names and shapes of its weights, from the layers' settings alone."""
    expected = []
    shape = created[0].batch_input_shape[1:]
    for layer in created:
        what = f"layer {shorten(layer.name, 40)}"
        sizes = guarded(what, layer.weight_shapes, shape)
        for name, size in sizes.items():
            checked_product(size, f"{what} {name}")
        expected.append(sizes)
        _check_windows(layer, shape, what)
        shape = guarded(what, layer.compute_output_shape, shape)
        checked_product(shape, what)
    return expected


def _check_windows(layer: Any, shape: tuple[int, ...], what: str) -> None:
    limit = _WINDOW_FACTOR * max(shape) + _WINDOW_EXTRA
    for name in ("pool_size", "kernel_size", "dilation_rate", "strides"):
        for size in getattr(layer, name, ()):
            checked_integer(size, f"{what} {name}", 1, limit)


class _Unset(initializers.Initializer):
    """Takes the memory that the weights will need, and no more."""

    def _fill(self, shape: tuple[int, ...], seed: int | None) -> np.ndarray:
        return np.zeros(shape, np.float32)


def build_model(created: list[Any], name: str | None) -> Any:
    """The model, its weights zeros: random ones would be overwritten."""
    shape = created[0].batch_input_shape[1:]
    for layer in created:
        kept = {key: value for key, value in vars(layer).items() if key.endswith("_initializer")}
        vars(layer).update({key: _Unset() for key in kept})
        layer._seed = 0
        guarded(f"layer {shorten(layer.name, 40)}", layer.build, shape)
        vars(layer).update(kept)
        for weight in layer.weights:
            weight.initializer = kept[layer.argument_of(weight.name, "initializer")]
        shape = layer.output_shape
    return guarded("layers", Sequential, created, name)


def guarded(what: str, function: Any, *arguments: Any) -> Any:
    """Calls a function with what a file says; its complaints become a FormatError of one line."""
    try:
        return function(*arguments)
    except FormatError:
        raise
    except keras2.BAD_SETTINGS as error:
        raise FormatError(f"{what}: {keras2.shorten_message(error)}") from None
