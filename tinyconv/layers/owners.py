"""Who holds a layer, and what it means for them that the layer changes."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

__all__ = ["Owners", "change", "is_setting"]

# Attributes that are no settings of what a layer computes, or that its networks ask for themselves.
_STATE = {"built", "input_shape", "output_shape", "weights", "trainable", "dtype", "batch_input_shape"}


class Owners:
    """The networks that hold a layer; called when the layer's weights were written."""

    def __init__(self) -> None:
        self.networks: WeakSet[Any] = WeakSet()

    def __call__(self) -> None:
        for network in self.networks:
            network._weights_changed()

    def lower_anew(self) -> None:
        """After a change of the layer's settings; raises ValueError where a network does not fit together."""
        for network in self.networks:
            network._lower_anew()


def change(layer: Any, owners: Owners, name: str, value: Any) -> dict[str, Any]:
    """What is to be set where an attribute of a layer is to change that networks hold.

    A setting is checked as the layer's constructor checks it; what follows from it changes as well. Of layers
    of one's own, whose constructors may want what no config holds, it is set as it is.

    Returns:
        The attributes with their values.

    Raises:
        ValueError: If the setting cannot be, wants other weights than are there, or is another layer's name.
        TypeError: If the attribute is a weight.
    """
    if any(weight.name == name and weight is not value for weight in layer.weights):
        raise TypeError(f"Expected {name} to be written by its method assign(). Received: layer.{name} = ...")
    if name == "name":
        _check_name(layer, owners, value)
    own = type(layer).__module__.startswith("tinyconv.")
    if not own or not is_setting(layer, name) or name not in layer.get_config():
        return {name: value}
    twin = type(layer).from_config({**layer.get_config(), name: value})
    if layer.built and twin.weight_shapes(layer.input_shape) != {w.name: w.shape for w in layer.weights}:
        raise ValueError(f"Layer '{layer.name}' has weights that another {name} does not fit: make a new layer. "
                         f"Received: {name}={value!r}")
    return {key: made for key, made in vars(twin).items() if key not in {*_STATE, "_on_change", "_seed"}}


def is_setting(layer: Any, name: str) -> bool:
    """Whether a layer has an attribute of this name that says what it computes, or what it is called."""
    return name not in _STATE and not name.startswith("_") and name in vars(layer)


def _check_name(layer: Any, owners: Owners, name: Any) -> None:
    if not isinstance(name, str) or not name or "/" in name:
        raise ValueError(f"Expected name to be a non-empty string without '/'. Received: name={name!r}")
    if any(other is not layer and other.name == name for network in owners.networks for other in network.layers):
        raise ValueError(f"Expected layers with unique names. Received: a second layer '{name}'")
