"""Who holds a layer, and what it means for them that the layer changes."""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakSet

__all__ = ["Owners", "change", "is_setting"]

# Attributes that are no settings of what a layer computes, or that its networks ask for themselves.
_STATE = {"built", "input_shape", "output_shape", "weights", "trainable", "dtype", "batch_input_shape"}
# What a layer gets when it is built, and from its networks.
_PRIVATE = {"_input_shape", "_output_shape", "_on_change", "_seed"}


class Owners:
    """The networks that hold a layer; called when the layer's weights were written."""

    def __init__(self) -> None:
        self._networks: WeakSet[Any] = WeakSet()
        self._lock = threading.Lock()  # threads may put the layer into networks, and write its weights

    @property
    def networks(self) -> list[Any]:
        """The networks that are there now."""
        with self._lock:
            return list(self._networks)

    def add(self, network: Any) -> None:
        """Tells a network from now on."""
        with self._lock:
            self._networks.add(network)

    def discard(self, network: Any) -> None:
        """Tells a network no longer."""
        with self._lock:
            self._networks.discard(network)

    def __call__(self, writer: Any = None) -> None:
        """Tells all networks but the one that wrote the weights; asked after every step, where it is alone."""
        if writer is not None and len(self._networks) < 2:
            return
        for network in self.networks:
            if network is not writer:
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
    for weight in layer.weights:
        if weight.name == name and weight is not value:
            raise TypeError(f"Expected {name} to be written by its method assign(). Received: layer.{name} = ...")
        if weight is value:
            return {name: value}
    if name == "name":
        _check_name(layer, owners, value)
    own = type(layer).__module__.startswith("tinyconv.")
    config = layer.get_config() if own and is_setting(layer, name) else {}
    if name not in config:
        return {name: value}
    # Objects, such as initializers of one's own, as they are.
    objects = {key: layer.__dict__[key] for key, setting in config.items()
               if isinstance(setting, dict) and key in layer.__dict__}
    twin = type(layer).from_config({**config, **objects, name: value})
    if layer.built and twin.weight_shapes(layer.input_shape) != {w.name: w.shape for w in layer.weights}:
        raise ValueError(f"Layer '{layer.name}' has weights that another {name} does not fit: make a new layer. "
                         f"Received: {name}={value!r}")
    return {key: made for key, made in vars(twin).items() if key not in {*_STATE, *_PRIVATE}}


def is_setting(layer: Any, name: str) -> bool:
    """Whether a layer has an attribute of this name that says what it computes, or what it is called."""
    return name not in _STATE and not name.startswith("_") and name in vars(layer)


def _check_name(layer: Any, owners: Owners, name: Any) -> None:
    if not isinstance(name, str) or not name or "/" in name:
        raise ValueError(f"Expected name to be a non-empty string without '/'. Received: name={name!r}")
    if any(other is not layer and other.name == name for network in owners.networks for other in network.layers):
        raise ValueError(f"Expected layers with unique names. Received: a second layer '{name}'")
