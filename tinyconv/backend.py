"""What scripts ask Keras' backend for; the answers are always the same here."""

from __future__ import annotations

from tinyconv.utils import clear_session

__all__ = ["backend", "clear_session", "epsilon", "floatx", "image_data_format"]


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
