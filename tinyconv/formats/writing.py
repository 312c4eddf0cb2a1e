"""What writers of models share."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["check_built", "dump_json"]


def check_built(model: Any, function: str = "save") -> None:
    """Raises ValueError where a model has no weights yet; `function` is the subject of the message."""
    if not getattr(model, "built", False):
        raise ValueError(f"{function} expected a built model: give an input_shape, or call build or fit. "
                         f"Received: model '{getattr(model, 'name', model)}' without weights")


def dump_json(document: dict[str, Any]) -> bytes:
    """A description as JSON that every reader takes; raises ValueError where it holds what JSON cannot."""
    try:
        return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise ValueError(f"save expected settings that JSON can hold. Received: {error}") from None
