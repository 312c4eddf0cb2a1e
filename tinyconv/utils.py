"""Small helpers: one-hot labels, seeds, automatic names."""

from __future__ import annotations

import itertools
import math
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import Any

import numpy as np

from tinyconv.left_out import explain
from tinyconv.shapes import describe

__all__ = [
    "check_dtype", "check_flag", "check_list", "check_number", "check_seed", "clear_session", "default_seed",
    "derive_seed", "get_random_seed", "import_extra", "missing_extra", "normalize", "refuse_mask", "seed_scope",
    "set_random_seed", "to_categorical", "to_snake_case", "unique_name", "warn",
]

# How often each prefix was given out by `unique_name`.
_name_counts: dict[str, int] = {}
# The seed of `set_random_seed` and how many seeds `default_seed` has drawn from it.
_random_seed: int | None = None
_seeds_drawn = 0
# The seed of `seed_scope`, and what counts those drawn from it.
_scope: ContextVar[tuple[int, Iterator[int]] | None] = ContextVar("seed_scope", default=None)


def to_categorical(x: Any, num_classes: int | None = None) -> np.ndarray:
    """Turns class indices into one-hot rows.

    Args:
        x: Array-like of integers in [0, num_classes), of shape (...) or (..., 1).
        num_classes: Number of classes. Defaults to `max(x) + 1`.

    Returns:
        A float32 array of shape (..., num_classes).

    Raises:
        ValueError: If a label is negative, fractional or not below `num_classes`.
    """
    refuse_mask(x, "x")
    labels = np.asarray(x)
    if labels.dtype.kind not in "iub":
        whole = labels.astype(np.int64) if labels.dtype.kind == "f" and np.isfinite(labels).all() else None
        if whole is None or not np.array_equal(whole, labels):
            raise ValueError(f"Expected x to hold integer class indices. Received: x.dtype={labels.dtype}")
        labels = whole
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    labels = labels.astype(np.int64)
    if num_classes is None:
        if labels.size == 0:
            raise ValueError("Expected num_classes for an empty x. Received: num_classes=None")
        num_classes = int(labels.max()) + 1
    if labels.size and (labels.min() < 0 or labels.max() >= num_classes):
        raise ValueError(
            f"Expected labels in [0, {num_classes}). Received: labels from {labels.min()} to {labels.max()}"
        )
    one_hot = np.zeros((labels.size, num_classes), np.float32)
    one_hot[np.arange(labels.size), labels.ravel()] = 1.0
    return one_hot.reshape(*labels.shape, num_classes)


def normalize(x: Any, axis: int = -1, order: int = 2) -> np.ndarray:
    """Divides `x` by its norm along `axis`; vectors of norm 0 stay as they are.

    Args:
        x: Array-like of numbers.
        axis: Axis of the vectors. Defaults to -1.
        order: Order of the norm, 2 for the Euclidean. Defaults to 2.
    """
    x = np.asarray(x)
    norm = np.atleast_1d(np.linalg.norm(x, order, axis))
    norm[norm == 0] = 1
    return x / np.expand_dims(norm, axis)


def check_number(value: Any, name: str, minimum: float = -math.inf, maximum: float = math.inf,
                 exclusive: bool = False) -> float:
    """Returns `value` as a finite float in [minimum, maximum], or [minimum, maximum) if exclusive.

    Raises:
        ValueError: If it is another.
    """
    try:
        number = math.nan if isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or not minimum <= number <= maximum or (exclusive and number == maximum):
        if maximum < math.inf:
            limits = f"in [{minimum:g}, {maximum:g}{')' if exclusive else ']'}"
            if hasattr(value, "__len__"):
                limits = f"one number {limits}"
        else:
            limits = "a finite number" if minimum == -math.inf else f"a finite number >= {minimum:g}"
        raise ValueError(f"Expected {name} to be {limits}. Received: {name}={describe(value)}")
    return number


def check_flag(value: Any, name: str) -> bool:
    """Returns `value` as a bool; anything but True, False, 1 and 0 is refused.

    Raises:
        ValueError: If it is another.
    """
    if not isinstance(value, (bool, int, np.bool_)) or value not in (True, False):
        raise ValueError(f"Expected {name} to be True or False. Received: {name}={describe(value)}")
    return bool(value)


def check_list(value: Any, name: str) -> list[Any]:
    """Returns an iterable `value` as a list.

    Raises:
        TypeError: If it cannot be iterated.
    """
    if not isinstance(value, Iterable):
        raise TypeError(f"Expected {name} to be a list. Received: {name}={describe(value)}")
    return list(value)


def check_dtype(dtype: Any) -> None:
    """Raises TypeError for what is neither None nor a spelling of float32, such as Keras 3's policy object."""
    name = dtype
    if isinstance(dtype, dict):
        policy = dtype.get("config")
        name = policy.get("name") if isinstance(policy, dict) else None
    # NumPy compares a text with a type by parsing it, and warns of some.
    if dtype is None or (name == "float32" if isinstance(name, str) else name == np.dtype(np.float32)):
        return
    raise TypeError(f"Expected dtype to be None or 'float32'. Received: dtype={describe(dtype)}")


def check_seed(seed: Any, bits: int = 64) -> int:
    """Returns `seed` as an int in [0, 2**bits).

    Raises:
        ValueError: If it is no integer, or out of range.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 1 << bits:
        raise ValueError(f"Expected seed to be an integer in [0, 2**{bits}). Received: seed={describe(seed)}")
    return int(seed)


def refuse_mask(value: Any, name: str) -> None:
    """Raises TypeError where values of an array are masked: what lies beneath the mask would be computed with."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise TypeError(f"Expected {name} without a mask: call its method filled(). "
                        f"Received: {name} with {np.ma.count_masked(value)} of {value.size} values masked")


def set_random_seed(seed: int) -> None:
    """Seeds Python's `random`, NumPy's global generator, and every model created afterwards.

    Args:
        seed: Integer in [0, 2**32).

    Raises:
        ValueError: If it is another.
    """
    import random

    global _random_seed, _seeds_drawn
    _random_seed, _seeds_drawn = check_seed(seed, bits=32), 0
    random.seed(_random_seed)
    np.random.seed(_random_seed)


def get_random_seed() -> int | None:
    """The seed of the last `set_random_seed`, or None."""
    return _random_seed


@contextmanager
def seed_scope(seed: int) -> Iterator[None]:
    """Inside, in this thread, `default_seed` gives seeds that follow from `seed`."""
    token = _scope.set((seed, itertools.count()))
    try:
        yield
    finally:
        _scope.reset(token)


def default_seed() -> int:
    """A fresh 63-bit seed: the next one of a `seed_scope` or of `set_random_seed`, else from the system's entropy."""
    global _seeds_drawn
    scope = _scope.get()
    if scope is not None:
        seed, drawn = scope
        return derive_seed(seed, next(drawn))
    if _random_seed is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0] >> np.uint64(1))
    _seeds_drawn += 1
    return derive_seed(_random_seed, _seeds_drawn - 1)


def derive_seed(seed: int, *key: int) -> int:
    """A 63-bit seed that depends on `seed` and on every number of `key`, and on nothing else."""
    words = [abs(int(number)) for number in (seed, *key)]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))


def to_snake_case(name: str) -> str:
    """MaxPooling2D -> max_pooling2d, ReLU -> re_lu: how Keras names layers after their class."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", name).lower()


def unique_name(prefix: str) -> str:
    """`prefix`, then `prefix_1`, `prefix_2`, ... in this process."""
    count = _name_counts.get(prefix, 0)
    _name_counts[prefix] = count + 1
    return f"{prefix}_{count}" if count else prefix


def clear_session(free_memory: bool = True) -> None:
    """Starts the automatic names over: the next Conv2D is "conv2d" again.

    Args:
        free_memory: Accepted for Keras' sake; models are freed when nothing refers to them.
    """
    _name_counts.clear()


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warns at the line that called into this package, however deep in it the cause lies."""
    frame = sys._getframe(1)
    inside = ("tinyconv", "importlib")  # the latter's frames stand between a module and its import
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in inside:
        frame = frame.f_back
    warnings.warn_explicit(message, category, frame.f_code.co_filename, frame.f_lineno,
                           registry=frame.f_globals.setdefault("__warningregistry__", {}))


def import_extra(module: str, extra: str, what: str) -> Any:
    """Imports what an extra of this package brings.

    Args:
        module: The module: "h5py".
        extra: The extra that has it: "keras".
        what: What needs it, in the plural: "Keras' .h5 and .keras files".

    Raises:
        ImportError: If it is not installed; one line says what to install.
    """
    try:
        return import_module(module)
    except ImportError:
        raise missing_extra(module, extra, what) from None


def missing_extra(module: str, extra: str, what: str) -> ImportError:
    """The error of `import_extra`."""
    return ImportError(f"{what} need {module.split('.')[0]}: pip install 'tinyconv[{extra}]'")


# Keras' names for what lives elsewhere here, imported when it is asked for.
_ELSEWHERE = {
    "PyDataset": ("sources", "PyDataset"), "Sequence": ("sources", "PyDataset"),
    "image_dataset_from_directory": ("datasets.folder", "image_dataset_from_directory"),
    **{name: ("datasets.pictures", name) for name in ("array_to_img", "img_to_array", "load_img", "save_img")},
}


def __getattr__(name: str) -> Any:
    if name not in _ELSEWHERE:
        return explain(__name__)(name)
    module, found = _ELSEWHERE[name]
    return getattr(import_module(f"tinyconv.{module}"), found)
