"""What goes by a name and has a config: how a string, a class or a file's description becomes an object."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Generic, Self, TypeVar

from tinyconv.shapes import describe

__all__ = ["Configured", "Named", "deserialize_object", "serialize_object"]

T = TypeVar("T")


class Configured:
    """Base of what its config, a dict that JSON can hold, makes again."""

    def get_config(self) -> dict[str, Any]:
        """The arguments that create this object again."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Creates an object from its config."""
        return cls(**config)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.get_config().items())})"


class Named(Generic[T]):
    """The classes of a module, by their names: a closed table.

    Args:
        kind: What they are, for messages: "optimizer".
        classes: The classes.
        names: Further names. Defaults to none.
        base: Whose instances and subclasses are taken as well, be they in the table or not. Defaults to
            None: only those of the table.
        ignores_case: Whether names may be written in any case; those of the table are in lower case then.
    """

    def __init__(self, kind: str, classes: Iterable[type[T]], names: Mapping[str, type[T]] | None = None,
                 base: type[T] | None = None, ignores_case: bool = False) -> None:
        self.kind = kind
        self.classes = {cls.__name__: cls for cls in classes}
        self.names = {**self.classes, **(names or {})}
        self._base = base
        self._ignores_case = ignores_case

    def _is_ours(self, cls: type) -> bool:
        if self._base is None or cls is self._base:
            return cls in self.classes.values()
        return issubclass(cls, self._base)

    def _key(self, name: str) -> str:
        return name.lower() if self._ignores_case else name

    def find(self, identifier: Any) -> T | None:
        """The object that a name, a class, a config or itself stands for; None where it stands for none.

        Raises:
            ValueError: If a config is not that of such a class.
        """
        if isinstance(identifier, dict):
            return self.deserialize(identifier)
        if isinstance(identifier, str):
            cls = self.names.get(self._key(identifier))
            return None if cls is None else cls()
        if isinstance(identifier, type):
            return identifier() if self._is_ours(identifier) else None
        return identifier if self._is_ours(type(identifier)) else None

    def get(self, identifier: Any) -> T:
        """As `find`.

        Raises:
            ValueError: If it stands for none.
        """
        found = self.find(identifier)
        if found is None and inspect.isroutine(identifier):
            raise ValueError(f"Unknown {self.kind}: the engine computes it, and takes no function of one's own. "
                             f"Expected one of {sorted(set(self.names) - set(self.classes))}. "
                             f"Received: {describe(identifier)}")
        if found is None:
            raise ValueError(f"Unknown {self.kind}. Expected one of {sorted(set(self.names) - set(self.classes))}, an "
                             f"instance of {sorted(self.classes)} or its config. Received: {describe(identifier)}")
        return found

    def deserialize(self, config: dict[str, Any]) -> T:
        """The reverse of `serialize_object`, for classes of the table.

        Raises:
            ValueError: If the table has no such class, or the class no such setting.
        """
        name = config.get("class_name")
        if isinstance(name, str) and self._key(name) in self.names:
            config = {**config, "class_name": self._key(name)}
        return deserialize_object(config, self.names, self.kind)


def serialize_object(instance: Any) -> dict[str, Any]:
    """{"class_name": ..., "config": ...}: how Keras and TensorFlow.js write what has a config."""
    return {"class_name": type(instance).__name__, "config": instance.get_config()}


def deserialize_object(config: dict[str, Any], classes: Mapping[str, Any], kind: str) -> Any:
    """The reverse of `serialize_object`.

    Args:
        config: A dict with a class_name and, where the class has settings, a config.
        classes: The closed table that the class is looked up in.
        kind: What the classes are, for messages: "optimizer".

    Raises:
        ValueError: If the table has no such class, or the class no such setting.
    """
    name, arguments = config.get("class_name"), config.get("config", {})
    cls = classes.get(name) if isinstance(name, str) else None
    if cls is None or not isinstance(arguments, dict):
        known = sorted({known.__name__ for known in classes.values()})
        raise ValueError(f"Unknown {kind}. Expected class_name to be one of {known}. "
                         f"Received: {describe(config)}")
    try:
        return cls.from_config(arguments)
    except TypeError as error:
        raise ValueError(f"{error}. Received: config={describe(arguments)}") from error
