"""Models and weights in files, under the names of `keras.saving`."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

from tinyconv.models import load_model, save_model

if TYPE_CHECKING:
    from tinyconv.models import Sequential

__all__ = ["load_model", "load_weights", "save_model", "save_weights"]


def save_weights(model: Sequential, filepath: str | PathLike[str], overwrite: bool = True) -> None:
    """Another way to call `Sequential.save_weights`."""
    model.save_weights(filepath, overwrite)


def load_weights(model: Sequential, filepath: Any, skip_mismatch: bool = False, **kwargs: Any) -> None:
    """Another way to call `Sequential.load_weights`."""
    model.load_weights(filepath, skip_mismatch, **kwargs)
