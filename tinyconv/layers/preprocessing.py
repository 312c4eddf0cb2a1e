"""Layers that prepare the input."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyconv.engine.program import ProgramBuilder
from tinyconv.layers.base import Layer
from tinyconv.utils import check_number

__all__ = ["Rescaling"]

_LARGEST = float(np.finfo(np.float32).max)


class Rescaling(Layer):
    """y = x * scale + offset; as a model's first layer it costs nothing.

    Args:
        scale: Factor, such as 1/255.
        offset: What is added. Defaults to 0.

    Input shape: any. Output shape: the input's.
    """

    def __init__(self, scale: float, offset: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = check_number(scale, "scale", -_LARGEST, _LARGEST)
        self.offset = check_number(offset, "offset", -_LARGEST, _LARGEST)

    def lower(self, builder: ProgramBuilder) -> None:
        builder.add("rescale", builder.shape, layer=self.name, scale=self.scale, offset=self.offset)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale, "offset": self.offset}
