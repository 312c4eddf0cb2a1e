"""Weights as fewer bytes, as TensorFlow.js' converter writes and TensorFlow.js reads them.

"uint8" and "uint16": value = stored * scale + min, the range cut into 255 or 65535 equal steps, of which
one is at 0 where the weights are on both sides of it.  "float16": rounded to half precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["QUANTIZATIONS", "quantize"]

QUANTIZATIONS = ("uint8", "uint16", "float16")
# Beyond it a reader might compute what float32 does not hold.
_LARGEST = 1e35


def quantize(array: np.ndarray, kind: str, name: str) -> tuple[np.ndarray, dict[str, Any]]:
    """The stored numbers of a float32 weight, and the manifest's "quantization" of it.

    Args:
        array: The weight.
        kind: One of `QUANTIZATIONS`.
        name: What the weight is called, for messages.

    Raises:
        ValueError: If the weight has values that such numbers cannot stand for.
    """
    least, most = float(array.min()), float(array.max())
    limit = float(np.finfo(kind).max) if kind == "float16" else _LARGEST
    if not max(-least, most) <= limit:
        raise ValueError(f"save expected weights from {-limit:.5g} to {limit:.5g} to quantize to {kind}. "
                         f"Received: '{name}' from {least:.5g} to {most:.5g}")
    if kind == "float16":
        return array.astype(np.float16), {"dtype": kind, "original_dtype": "float32"}
    steps = int(np.iinfo(kind).max)
    scale = (most - least) / steps or 1.0
    if least < 0 < most:
        least = -round(-least / scale) * scale
    stored = np.clip(np.rint((array.astype(np.float64) - least) / scale), 0, steps).astype(kind)
    return stored, {"dtype": kind, "scale": scale, "min": least, "original_dtype": "float32"}
