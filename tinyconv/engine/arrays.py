"""Functions of whole arrays for `tinyconv.ops`: the C engine's, or NumPy's without it."""

from __future__ import annotations

from tinyconv import engine

if engine.backend() == "native":
    from tinyconv.engine.native import max_pool2d, max_pool2d_backward, softmax_cross_entropy
else:
    from tinyconv.engine.arrays_reference import max_pool2d, max_pool2d_backward, softmax_cross_entropy

__all__ = ["max_pool2d", "max_pool2d_backward", "softmax_cross_entropy"]
