"""This package's own part of a file: class names, how pictures become inputs, and what training goes on from."""

from __future__ import annotations

from typing import Any

from tinyconv.formats.assemble import guarded
from tinyconv.formats.guard import FormatError
from tinyconv.image_input import ImageInput, check_class_names

__all__ = ["OWN", "own_part", "read_metadata", "read_own_part", "write_metadata", "write_own_part"]

# What other readers pass over in a file goes by this name.
OWN = "tinyconv"


def own_part(metadata: Any) -> dict[str, Any] | None:
    """What a file's metadata hold of this package, if anything."""
    own = metadata.get(OWN) if isinstance(metadata, dict) else None
    return own if isinstance(own, dict) else None


def write_own_part(model: Any, settings: dict[str, Any] | None, goes_on: bool) -> dict[str, Any]:
    """What `read_own_part` reads, for JSON.

    Args:
        model: A built `Sequential`.
        settings: Its compile settings, or None where they are not to be saved.
        goes_on: Whether to write what the order of samples follows from when training goes on.
    """
    own: dict[str, Any] = {"version": 1, **write_metadata(model)}
    if goes_on:
        own["training"] = model.get_training_state()
    if settings is not None:
        own["compile"] = settings
    return own


def read_own_part(model: Any, own: dict[str, Any] | None, what: str) -> None:
    """Gives a model all that `write_own_part` wrote but the compile settings, which each format weighs itself.

    Args:
        model: A `Sequential`.
        own: As from `own_part`.
        what: Subject of the error messages.

    Raises:
        FormatError: If an entry is damaged.
    """
    if own is None:
        return
    read_metadata(model, own, what)
    if own.get("training") is not None:
        guarded("training state", model.set_training_state, own["training"])


def write_metadata(model: Any) -> dict[str, Any]:
    """The entries of a model that has class names or an `image_input`, for JSON.

    Raises:
        ValueError: If the class names are no different names.
        TypeError: If `image_input` is no `ImageInput`.
    """
    entries: dict[str, Any] = {}
    if model.class_names is not None:
        entries["class_names"] = check_class_names(model.class_names)
    if model.image_input is not None:
        if not isinstance(model.image_input, ImageInput):
            raise TypeError(f"Expected image_input to be an ImageInput. Received: {model.image_input!r}")
        entries["image_input"] = model.image_input.get_config()
    return entries


def read_metadata(model: Any, entries: dict[str, Any], what: str) -> None:
    """Gives a model what `write_metadata` wrote.

    Args:
        model: A `Sequential`.
        entries: What the file holds of this package.
        what: Subject of the error messages.

    Raises:
        FormatError: If an entry is damaged.
    """
    try:
        if entries.get("class_names") is not None:
            model.class_names = check_class_names(entries["class_names"])
        if entries.get("image_input") is not None:
            model.image_input = ImageInput.from_config(entries["image_input"])
    except ValueError as error:
        raise FormatError(f"{what}: {error}") from None
