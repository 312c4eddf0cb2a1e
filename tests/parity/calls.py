"""Calls that either library can make.

`New("layers.Conv2D", 8, 5)` is one: `make(tinyconv, ...)` and `make(keras, ...)` give the two objects
that a test compares.
"""

from __future__ import annotations

from fnmatch import fnmatch
from types import ModuleType
from typing import Any

from parity.differences import LEFT_OUT, REFUSED

import tinyconv

__all__ = ["New", "Ref", "has", "is_lacking", "is_present", "make", "member"]


class New:
    """A call that is made in either library: the path of a class or function, and its arguments.

    Arguments may be such calls themselves.
    """

    def __init__(self, path: str, /, *args: Any, **kwargs: Any) -> None:
        self.path, self.args, self.kwargs = path, args, kwargs

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]

    def __repr__(self) -> str:
        arguments = [*map(repr, self.args), *(f"{key}={value!r}" for key, value in self.kwargs.items())]
        return f"{self.name}({', '.join(arguments)})"


class Ref:
    """A name that either library has: `Ref("activations.relu")`."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __repr__(self) -> str:
        return self.path.rpartition(".")[2]


def member(library: ModuleType, path: str) -> Any:
    """`optimizers.schedules.CosineDecay` of a library."""
    found: Any = library
    for part in path.split("."):
        found = getattr(found, part)
    return found


def has(path: str) -> bool:
    """Whether tinyconv has a name."""
    try:
        member(tinyconv, path)
    except (AttributeError, ImportError):
        return False
    return True


def is_lacking(path: str) -> bool:
    """Whether tinyconv does without a name, or refuses an argument, and says why."""
    return path.rpartition(".")[2] in LEFT_OUT or any(fnmatch(path, pattern) for pattern in REFUSED)


def is_present(call: New) -> bool:
    """Whether a call, and those within it, ask for nothing that is left out or refused: else it has to work."""
    inner = [value for value in (*call.args, *call.kwargs.values()) if isinstance(value, New)]
    return all(map(is_present, inner)) and not any(
        map(is_lacking, (call.path, *(f"{call.path}.{argument}" for argument in call.kwargs))))


def make(library: ModuleType, value: Any) -> Any:
    """The object that a `New` stands for; other values, and what is in lists and dicts, as they are."""
    if isinstance(value, New):
        args = [make(library, argument) for argument in value.args]
        kwargs = {key: make(library, argument) for key, argument in value.kwargs.items()}
        return member(library, value.path)(*args, **kwargs)
    if isinstance(value, Ref):
        return member(library, value.path)
    if isinstance(value, list):
        return [make(library, item) for item in value]
    return value
