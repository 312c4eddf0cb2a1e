"""What the weights of a model are called: "layer/weight", in the order of the layers."""

from __future__ import annotations

from typing import Any

from tinyconv.layers import Weight

__all__ = ["named_weights"]


def named_weights(model: Any) -> dict[str, Weight]:
    """All weights of a built model by their names, such as "conv2d/kernel"."""
    return {f"{layer.name}/{weight.name}": weight for layer in model.layers for weight in layer.weights}
