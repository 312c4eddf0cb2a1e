"""Metrics of the NumPy reference.

Outputs are (N, P, C): P positions of C values.  Labels are (N, P, C) floats or, for the
sparse metrics, (N, P) class ids.
"""

from __future__ import annotations

import numpy as np

from tinyconv.engine.program import Metric

__all__ = ["count"]


def count(metric: Metric, outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The metric of every sample, the mean over its positions, float64 (N,).  NaN never counts as a hit."""
    if metric.kind == "binary_accuracy":
        hits = ((outputs > metric.parameter) == labels) & ~np.isnan(outputs)
        return hits.mean(axis=(1, 2), dtype=np.float64)
    own = labels if labels.ndim == 2 else labels.argmax(axis=-1)
    # A class id that there is none of, as of what the loss ignores, is never a hit.
    there = (own >= 0) & (own < outputs.shape[-1])
    own_output = np.take_along_axis(outputs, np.where(there, own, 0)[..., None], axis=-1)
    if "top_k" in metric.kind:
        hits = (outputs > own_output).sum(axis=-1) < metric.parameter  # ties at the boundary are hits
    else:
        hits = outputs.argmax(axis=-1) == own  # of equals the lowest index
    return (hits & there & ~np.isnan(own_output[..., 0])).mean(axis=1, dtype=np.float64)
