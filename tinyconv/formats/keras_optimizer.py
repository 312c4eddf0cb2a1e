"""The optimizer's state in Keras' files: in Keras 3's order, or found by Keras 2's names.

Keras 3: the number of batches, the learning rate (where it is no schedule's), then the
state arrays of the trained weights as `Optimizer.get_weights` orders them; Nadam's
product comes last.  Keras 2 before 2.11 has all arrays of a kind together, later as
Keras 3, and says in the name of each what it is.

A weight that was frozen in the midst of training has state, too, which Keras does not
take back from a file: it is kept apart (`write_frozen`).
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from tinyconv.formats.guard import FormatError, fail
from tinyconv.formats.hdf5 import Dataset
from tinyconv.formats.names import named_weights
from tinyconv.utils import warn

__all__ = ["Entry", "read_state", "write_frozen", "write_state"]

# What Keras 2 calls the slots.
_TOKENS = {
    "m": "momentum", "v": "velocity", "vhat": "velocity_hat", "u": "norm", "rms": "velocity", "mg": "average_gradient",
    "accum_grad": "accumulated_grad", "accum_var": "accumulated_delta_var",
}
_TOKENS_2 = {"momentum": "m", "velocity": "v", "velocity_hat": "vhat", "norm": "u"}
_MAX_BATCHES = 2**62

Entry = tuple[str | None, Dataset]  # the name of an array of the file, where it has one
Place = tuple[str, int]  # slot and index of the weight


def _trained(model: Any) -> list[int]:
    return [index for index, trains in enumerate(model._trained()) if trains]


def _places(optimizer: Any, owners: list[int]) -> list[Place]:
    """Whose every state array is, in Keras 3's order; `owners` are the weights that have some."""
    groups = [(slot,) for slot in ("average", "gradient_accumulator") if slot in optimizer.slots]
    return [(slot, index) for group in [*groups, *optimizer._slot_groups()] for index in owners for slot in group]


# --- writing ---


def write_state(model: Any, settings: dict[str, Any], is_keras3: bool = True) -> list[tuple[str, np.ndarray]]:
    """Names and arrays of the state of a compiled model's optimizer, as it begins where it made no step yet.

    State of weights that are frozen now is left out: see `write_frozen`.
    """
    optimizer = model.optimizer
    batches = np.array(optimizer.batches, np.int64)
    written: list[tuple[str, np.ndarray]] = [(f"{optimizer.name}/iteration" if is_keras3 else "iteration:0", batches)]
    if is_keras3 and not isinstance(settings["optimizer"]["config"]["learning_rate"], dict):
        written.append((f"{optimizer.name}/learning_rate", np.array(optimizer.learning_rate, np.float32)))
    names = list(named_weights(model))
    for slot, index in _places(optimizer, _trained(model)):
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


def write_frozen(model: Any) -> list[tuple[str, np.ndarray]]:
    """Names ("3/momentum", of the weight 3) and arrays of the state of weights that are frozen now."""
    optimizer = model.optimizer
    frozen = [index for index, trains in enumerate(model._trained()) if not trains]
    return [(f"{index}/{slot}", array.reshape(model.weights[index].shape)) for index in frozen
            for slot, array in zip(optimizer.slots, optimizer.state_of(model.weights[index]))]


def _token(optimizer: Any, slot: str) -> str:
    """Keras 2.15's name of a slot."""
    return slot if optimizer.kind.startswith("rmsprop") else _TOKENS_2.get(slot, slot)


# --- reading ---


def read_state(model: Any, entries: list[Entry], frozen: list[Entry]) -> None:
    """Takes over the state of a compiled model's optimizer; with a warning it begins afresh where it does not fit.

    Args:
        model: The model; it gets an optimizer that no weight is known to yet.
        entries: The state as Keras has it.
        frozen: What `write_frozen` wrote.

    Raises:
        FormatError: If what `write_frozen` wrote is damaged.
    """
    if not entries:
        return
    others = _read_frozen(model, frozen)
    try:
        batches, rate, arrays = _assigned(model, entries)
    except FormatError as error:
        warn(f"The optimizer begins afresh, its state cannot be used here: {error}")
        return
    optimizer = model.optimizer = model.optimizer.fresh()
    program, owners = model.program, {index for _, index in (*arrays, *others)}
    optimizer.build(program.weights, [index in owners or trains for index, trains in enumerate(program.trainable)],
                    [weight.name for weight in model.weights])
    for (slot, index), value in {**others, **arrays}.items():
        state = optimizer.state[index][optimizer.slots.index(slot)]
        state[...] = value.reshape(state.shape)
    model._build_optimizer()
    optimizer.batches = batches
    if rate is not None and not optimizer.scheduled and np.float32(optimizer.learning_rate) != rate:
        optimizer.learning_rate = float(rate)


def _read_frozen(model: Any, entries: list[Entry]) -> dict[Place, np.ndarray]:
    arrays = {}
    for name, dataset in entries:
        index, _, slot = str(name).partition("/")
        if not re.fullmatch("[0-9]{1,6}", index) or int(index) >= len(model.weights) \
                or slot not in model.optimizer.slots:
            fail("optimizer state of frozen weights", "number and slot of a weight", name)
        arrays[slot, int(index)] = dataset.read(model.weights[int(index)].shape)
    return arrays


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
    if not held and not first:  # Keras had not trained yet
        return 0, rate, {}
    owners = _owners(model, len(held))
    found = (_by_slot(model.optimizer, owners, held) if held and held[0][0] is not None
             else _in_order(_places(model.optimizer, owners), held))
    arrays = {}
    for (slot, index), dataset in found.items():
        if slot in model.optimizer.slots:
            arrays[slot, index] = dataset.read(model.weights[index].shape).astype(np.float32, copy=False)
    return int(first), rate, arrays


def _owners(model: Any, count: int) -> list[int]:
    """The weights that have state among `count` arrays: those that train, or all that could when training began."""
    every = [index for index, weight in enumerate(model.weights) if weight.trainable]
    return every if count == len(model.optimizer.slots) * len(every) else _trained(model)


def _in_order(places: list[Place], held: list[Entry]) -> dict[Place, Dataset]:
    if places and len(held) != len(places):
        fail("optimizer state", f"{len(places)} arrays", len(held))
    return {place: dataset for place, (_, dataset) in zip(places, held)}


def _by_slot(optimizer: Any, owners: list[int], held: list[Entry]) -> dict[Place, Dataset]:
    """By the slots that names tell; where they tell none ("Variable_3"), all weights' of a slot come together."""
    tokens = {**_TOKENS, "v": "norm"} if optimizer.kind == "adamax" else _TOKENS
    slots = [_slot_of(name or "", tokens, optimizer.slots) for name, _ in held]
    if None in slots:
        if optimizer.slots and len(held) < len(optimizer.slots) * len(owners):
            fail("optimizer state", f"{len(optimizer.slots) * len(owners)} arrays", len(held))
        slots = [slot for slot in optimizer.slots for _ in owners]
    found: dict[Place, Dataset] = {}
    counts: dict[str, int] = {}
    for slot, (_, dataset) in zip(slots, held):
        count = counts.get(str(slot), 0)
        if count < len(owners):
            found[str(slot), owners[count]] = dataset
        counts[str(slot)] = count + 1
    for slot in optimizer.slots:
        if counts.get(slot, 0) != len(owners):
            fail(f"optimizer state, {slot}", f"{len(owners)} arrays", counts.get(slot, 0))
    return found


def _slot_of(name: str, tokens: dict[str, str], own: tuple[str, ...]) -> str | None:
    """"Adam/conv2d/kernel/m:0", "Adam/m/conv2d/kernel:0" or "adam/conv2d_kernel_momentum"."""
    parts = re.sub(r":\d+$", "", name).split("/")
    for part in (parts[-1], parts[1] if len(parts) > 2 else ""):
        if part in tokens or part in own:
            return tokens.get(part, part)
    return max((slot for slot in own if parts[-1].endswith(f"_{slot}")), key=len, default=None)
