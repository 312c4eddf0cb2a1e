"""What scripts ask Keras' backend for; the answers are always the same here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyconv.left_out import explain
from tinyconv.shapes import describe
from tinyconv.utils import clear_session

__all__ = ["backend", "clear_session", "epsilon", "floatx", "image_data_format", "set_epsilon", "set_floatx",
           "set_image_data_format"]


def backend() -> str:
    """"tinyconv"."""
    return "tinyconv"


def floatx() -> str:
    """The type of weights and activations: "float32"."""
    return "float32"


def epsilon() -> float:
    """1e-7, what keeps divisions finite."""
    return 1e-7


def image_data_format() -> str:
    """The order of an image's axes where a layer is not told another: "channels_last"."""
    return "channels_last"


def set_floatx(value: str) -> None:
    """Takes "float32", which it is.

    Raises:
        ValueError: If it is another type.
    """
    _check("value", value, floatx())


def set_epsilon(value: float) -> None:
    """Takes 1e-7, which it is.

    Raises:
        ValueError: If it is another number.
    """
    _check("value", value, epsilon())


def set_image_data_format(data_format: str) -> None:
    """Takes "channels_last", which it is.

    Raises:
        ValueError: If it is "channels_first", which every layer that has channels takes as its own `data_format`.
    """
    _check("data_format", data_format, image_data_format(), "; layers take data_format='channels_first' one by one")


def _check(name: str, value: Any, known: Any, hint: str = "") -> None:
    if value != known:
        raise ValueError(f"Expected {name} to be {known!r}, which nothing changes here{hint}. "
                         f"Received: {name}={describe(value)}")


if not TYPE_CHECKING:
    __getattr__ = explain(__name__)
