"""The optimizer's state in Keras' files: in Keras 3's order, or found by Keras 2's names.

Keras 3: the number of batches, the learning rate (where it is no schedule's), then the
state arrays of the trained weights as `Optimizer.get_weights` orders them; Nadam's
product comes last.  Keras 2 before 2.11 has all arrays of a kind together, later as
Keras 3, and says in the name of each what it is.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np

from tinyconv.formats.guard import FormatError, fail
from tinyconv.formats.hdf5 import Dataset
from tinyconv.formats.names import named_weights

__all__ = ["read_state", "write_state"]

# What Keras 2 calls the slots.
_TOKENS = {
    "m": "momentum", "v": "velocity", "vhat": "velocity_hat", "u": "norm", "rms": "velocity", "mg": "average_gradient",
    "accum_grad": "accumulated_grad", "accum_var": "accumulated_delta_var",
}
_TOKENS_2 = {"momentum": "m", "velocity": "v", "velocity_hat": "vhat", "norm": "u"}
_MAX_BATCHES = 2**62

Entry = tuple[str | None, Dataset]  # the name of an array of the file, where it has one
Place = tuple[str, int]  # slot and index of the weight


def _places(model: Any) -> list[Place]:
    """Whose every state array is, in Keras 3's order."""
    optimizer = model.optimizer
    trained = [index for index, trains in enumerate(model._trained()) if trains]
    groups = [(slot,) for slot in ("average", "gradient_accumulator") if slot in optimizer.slots]
    return [(slot, index) for group in [*groups, *optimizer._slot_groups()] for index in trained for slot in group]


# --- writing ---


def write_state(model: Any, settings: dict[str, Any], is_keras3: bool = True) -> list[tuple[str, np.ndarray]]:
    """Names and arrays of the state of a compiled model's optimizer, as it begins where it made no step yet.

    State of weights that are frozen now is left out: Keras has none of them.
    """
    optimizer = model.optimizer
    batches = np.array(optimizer.batches, np.int64)
    written: list[tuple[str, np.ndarray]] = [(f"{optimizer.name}/iteration" if is_keras3 else "iteration:0", batches)]
    if is_keras3 and not isinstance(settings["optimizer"]["config"]["learning_rate"], dict):
        written.append((f"{optimizer.name}/learning_rate", np.array(optimizer.learning_rate, np.float32)))
    names = list(named_weights(model))
    for slot, index in _places(model):
        weight = model.weights[index].value
        state = optimizer.state_of(weight) or optimizer.new_state(weight)
        array = state[optimizer.slots.index(slot)].reshape(weight.shape)
        if is_keras3:
            name = f"{optimizer.name}/{model.name}_{names[index].replace('/', '_')}_{slot}"
        else:
            name = f"{type(optimizer).__name__}/{_token(optimizer, slot)}/{names[index]}:0"
        written.append((name, array))
    if is_keras3 and optimizer.kind == "nadam":
        product = optimizer._share_product(optimizer.iterations)
        written.append((f"{optimizer.name}/u_product", np.array(product, np.float32)))
    return written


def _token(optimizer: Any, slot: str) -> str:
    """Keras 2.15's name of a slot."""
    return slot if optimizer.kind.startswith("rmsprop") else _TOKENS_2.get(slot, slot)


# --- reading ---


def read_state(model: Any, entries: list[Entry]) -> None:
    """Takes over the state of a compiled model's optimizer; with a warning it begins afresh where it does not fit."""
    if not entries:
        return
    try:
        batches, rate, arrays = _assigned(model, entries)
    except FormatError as error:
        warnings.warn(f"The optimizer begins afresh, its state cannot be used here: {error}", stacklevel=5)
        return
    optimizer = model.optimizer
    model._build_optimizer()
    for (slot, index), value in arrays.items():
        state = optimizer.state[index][optimizer.slots.index(slot)]
        state[...] = value.reshape(state.shape)
    optimizer.batches = batches
    if rate is not None and not optimizer.scheduled and np.float32(optimizer.learning_rate) != rate:
        optimizer.learning_rate = float(rate)


def _assigned(model: Any, entries: list[Entry]) -> tuple[int, np.floating | None, dict[Place, np.ndarray]]:
    """Batches, learning rate and arrays of the state; raises FormatError where one does not fit."""
    scalars = [(name, dataset) for name, dataset in entries if dataset.shape == ()]
    if not scalars:
        fail("optimizer state", "the number of batches", "none")
    first = float(scalars[0][1].read((), "iuf"))
    if not 0 <= first < _MAX_BATCHES or first != int(first):
        fail("optimizer iterations", "a non-negative integer", first)
    rate = None
    if len(scalars) > 1 and re.search("(^|/)learning_rate$", scalars[1][0] or "learning_rate"):
        rate = np.float32(scalars[1][1].read(()))
    held = [(name, dataset) for name, dataset in entries if dataset.shape != ()]
    places = _places(model)
    if not held and not first:  # Keras had not trained yet
        return 0, rate, {}
    shapes = [weight.shape for weight in model.weights]
    found = _by_slot(model, held) if held and held[0][0] is not None else _in_order(places, held)
    arrays = {}
    for slot, index in places:
        values = found[slot, index].read(shapes[index])
        arrays[slot, index] = values.astype(np.float32, copy=False)
    return int(first), rate, arrays


def _in_order(places: list[Place], held: list[Entry]) -> dict[Place, Dataset]:
    if places and len(held) != len(places):
        fail("optimizer state", f"{len(places)} arrays", len(held))
    return {place: dataset for place, (_, dataset) in zip(places, held)}


def _by_slot(model: Any, held: list[Entry]) -> dict[Place, Dataset]:
    """By the slots that names tell; where they tell none ("Variable_3"), all weights' of a slot come together."""
    optimizer = model.optimizer
    trained = [index for index, trains in enumerate(model._trained()) if trains]
    tokens = {**_TOKENS, "v": "norm"} if optimizer.kind == "adamax" else _TOKENS
    slots = [_slot_of(name or "", tokens, optimizer.slots) for name, _ in held]
    if None in slots:
        if optimizer.slots and len(held) < len(optimizer.slots) * len(trained):
            fail("optimizer state", f"{len(optimizer.slots) * len(trained)} arrays", len(held))
        slots = [slot for slot in optimizer.slots for _ in trained]
    found: dict[Place, Dataset] = {}
    counts: dict[str, int] = {}
    for slot, (_, dataset) in zip(slots, held):
        count = counts.get(str(slot), 0)
        if count < len(trained):
            found[str(slot), trained[count]] = dataset
        counts[str(slot)] = count + 1
    for slot in optimizer.slots:
        if counts.get(slot, 0) != len(trained):
            fail(f"optimizer state, {slot}", f"{len(trained)} arrays", counts.get(slot, 0))
    return found


def _slot_of(name: str, tokens: dict[str, str], own: tuple[str, ...]) -> str | None:
    """"Adam/conv2d/kernel/m:0", "Adam/m/conv2d/kernel:0" or "adam/conv2d_kernel_momentum"."""
    parts = re.sub(r":\d+$", "", name).split("/")
    for part in (parts[-1], parts[1] if len(parts) > 2 else ""):
        if part in tokens or part in own:
            return tokens.get(part, part)
    return max((slot for slot in own if parts[-1].endswith(f"_{slot}")), key=len, default=None)
