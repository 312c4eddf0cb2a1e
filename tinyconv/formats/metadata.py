"""What a model says about its data, for files that can hold it: class names, and how pictures become inputs."""

from __future__ import annotations

from typing import Any

from tinyconv.formats.guard import FormatError
from tinyconv.image_input import ImageInput, check_class_names

__all__ = ["OWN", "own_part", "read_metadata", "write_metadata"]

# What other readers pass over in a file goes by this name.
OWN = "tinyconv"


def own_part(metadata: Any) -> dict[str, Any] | None:
    """What a file's metadata hold of this package, if anything."""
    own = metadata.get(OWN) if isinstance(metadata, dict) else None
    return own if isinstance(own, dict) else None


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
