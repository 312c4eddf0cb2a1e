"""What the parity tests share: both libraries, one way to build the same thing in each, and the tolerance.

What is built in each are the calls of `parity.calls`; the tables of cases hold such calls.
"""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("JAX_PLATFORMS", "cpu")


def _compiler_flags() -> str:
    """What makes XLA compile fast: most of the time goes into compiling programs that run once.

    At level 0 XLA itself is wrong now and then: the gradient of a global maximum behind a normalization
    is infinite there.  A flag that XLA does not know ends the process, so the last one, which takes the
    older and smaller code of its loops, is only for the versions that have been seen to know it.
    """
    flags = "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"
    try:
        known = version("jaxlib").startswith("0.10.")
    except PackageNotFoundError:
        known = False
    return f"{flags} --xla_cpu_use_fusion_emitters=false" if known else flags


os.environ.setdefault("XLA_FLAGS", _compiler_flags())
_REASON = "Keras with JAX is not installed: pip install 'tinyconv[parity]'"
jax = pytest.importorskip("jax", reason=_REASON)
keras: Any = pytest.importorskip("keras", reason=_REASON)
if keras.backend.backend() != "jax":
    pytest.skip(f"Keras runs on {keras.backend.backend()}: set KERAS_BACKEND=jax", allow_module_level=True)

from parity.calls import New, has, is_lacking, is_present, make, member

import tinyconv

__all__ = ["EPSILON", "New", "as_numpy", "assert_agrees", "assert_same_config", "has", "is_lacking", "is_present",
           "jax", "keras", "libraries", "make", "member", "plain", "random_array", "tinyconv"]

EPSILON = float(np.finfo(np.float32).eps)


def libraries(value: Any) -> tuple[Any, Any]:
    """(tinyconv's, Keras') object of a call."""
    return make(tinyconv, value), make(keras, value)


def random_array(shape: tuple[int, ...], seed: int = 0, scale: float = 1.0) -> np.ndarray:
    """float32 normal numbers; no two are equal, none is 0."""
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def as_numpy(value: Any) -> np.ndarray:
    """What Keras returns, or holds in a variable, as an array."""
    return np.asarray(value.value if isinstance(value, keras.Variable) else value)


def assert_agrees(actual: Any, expected: Any, length: float, what: str = "", scale: float | None = None) -> None:
    """Both are the same float32 sums of `length` products, each with its own rounding.

    Rounding errors are of either sign: they grow as the square root of the length.  Each side may be
    off by (4 + sqrt(length)) units of the last place of the largest number, hence twice that together.

    scale: The largest number that went into the sums, where it is not the largest of the results.
    """
    actual, expected = np.float64(as_numpy(actual)), np.float64(as_numpy(expected))
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, Keras {expected.shape}"
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected), f"{what}: NaN")
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~finite], expected[~finite], f"{what}: not finite")
    difference = np.abs(np.subtract(actual, expected, where=finite, out=np.zeros_like(expected)))
    largest = np.abs(expected, where=finite, out=np.zeros_like(expected)).max(initial=scale or 0)
    bound = 2 * EPSILON * (4 + np.sqrt(length)) * largest + 1e-37
    worst = np.unravel_index(difference.argmax(), difference.shape) if difference.size else ()
    assert difference.max(initial=0) <= bound, (
        f"{what}: off by {difference.max():.3g} at {tuple(map(int, worst))}, where tinyconv has "
        f"{actual[worst]:.9g} and Keras {expected[worst]:.9g}; allowed are {bound:.3g}")


def plain(value: Any) -> Any:
    """Tuples as lists, numbers as float32 holds them, objects as {class_name, config} alone."""
    if isinstance(value, dict) and "class_name" in value:
        return {"class_name": value["class_name"], "config": plain(value.get("config"))}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (np.generic, np.ndarray, jax.Array)):
        return plain(value.tolist())
    return float(np.float32(value)) if isinstance(value, float) else value


def assert_same_config(ours: dict[str, Any], theirs: dict[str, Any], ignored: set[str]) -> None:
    """The keys that both configs have hold equal values."""
    for key in sorted((ours.keys() & theirs.keys()) - ignored):
        one, other = plain(ours[key]), plain(theirs[key])
        assert one == other, f"get_config()[{key!r}] is {one!r}, Keras has {other!r}"
