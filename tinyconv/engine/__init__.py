"""The engine: a `Program` and the executors that run it.

TINYCONV_BACKEND chooses "native" (the C engine) or "numpy" (the reference);
without it the C engine is used where it was built.  TINYCONV_ISA forces an
instruction set, TINYCONV_NUM_THREADS sets the number of threads.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from tinyconv.engine.program import Program
from tinyconv.utils import warn

__all__ = ["Executor", "Program", "backend", "config", "get_num_threads", "measure_peak", "set_num_threads"]

_reason = ""  # why the fallback is in use
_native: Any = None
_MOST_THREADS = 1024


def _load_native() -> Any:
    """The compiled extension, or None with `_reason` set."""
    global _reason
    wanted = os.environ.get("TINYCONV_BACKEND") or None
    if wanted not in (None, "native", "numpy"):
        raise ValueError(f"TINYCONV_BACKEND must be 'native' or 'numpy'. Received: {wanted!r}")
    if wanted == "numpy":
        _reason = "TINYCONV_BACKEND=numpy"
        return None
    try:
        native = _import_native()
    except ImportError as error:
        if wanted == "native":
            raise ImportError("TINYCONV_BACKEND=native, but the compiled engine is not there: "
                              f"{error}") from error
        _reason = f"the compiled engine is not there ({_build_failure() or error})"
        warn(
            f"tinyconv runs on its NumPy reference, many times slower: {_reason}. Install a C compiler and "
            "reinstall, or set TINYCONV_BACKEND=numpy to silence this.",
            RuntimeWarning,
        )
        return None
    _configure(native)
    return native


def _build_failure() -> str | None:
    """Why the installation went without the extension, if it recorded that."""
    try:
        from tinyconv.engine import _build
    except ImportError:
        return None
    return _build.FALLBACK


def _import_native() -> Any:
    """The extension, and with it the OpenMP runtime, told to wait patiently.

    GNU's runtime lets a thread that waits for others spin for about a millisecond, which
    costs nothing on an idle machine; on a busy one the spinning keeps the processor from
    the very threads that it waits for, and steps took 10 times as long.  It reads its
    settings once, when it is loaded; the user's own settings are left alone.
    """
    setting = "GOMP_SPINCOUNT"
    ours = setting not in os.environ and "OMP_WAIT_POLICY" not in os.environ
    if ours:
        os.environ[setting] = "2000"
    try:
        return importlib.import_module("tinyconv.engine.native")
    finally:
        if ours:
            del os.environ[setting]


def _configure(native: Any) -> None:
    """Applies TINYCONV_ISA and TINYCONV_NUM_THREADS; both fail loudly."""
    isa = os.environ.get("TINYCONV_ISA") or None
    if not native.select_instruction_set(isa):
        built = native.instruction_sets()
        raise RuntimeError(
            f"TINYCONV_ISA={isa} is not available. This processor and build offer "
            f"{', '.join(name for name, supported in built if supported)}."
        )
    threads = os.environ.get("TINYCONV_NUM_THREADS")
    if threads:
        if not (threads.isascii() and threads.isdigit() and 1 <= int(threads) <= _MOST_THREADS):
            raise ValueError(f"TINYCONV_NUM_THREADS must be an integer from 1 to {_MOST_THREADS}. "
                             f"Received: {threads!r}")
        native.set_num_threads(int(threads))


def backend() -> str:
    """The backend in use: "native" or "numpy"."""
    return "native" if _native is not None else "numpy"


def Executor(program: Program) -> Any:
    """An executor of the program on the backend in use."""
    if _native is not None:
        return _native.Executor(program)
    from tinyconv.engine import reference

    return reference.Executor(program)


def set_num_threads(threads: int) -> None:
    """Sets how many threads the engine uses.

    Args:
        threads: an integer from 1 to 1024.  Results do not depend on it.

    Raises:
        ValueError: threads is out of range.
        TypeError: threads is no integer.
    """
    if isinstance(threads, bool) or not hasattr(threads, "__index__"):
        raise TypeError(f"threads must be a positive integer. Received: threads={threads!r}")
    threads = threads.__index__()
    if not 1 <= threads <= _MOST_THREADS:
        raise ValueError(f"threads must be from 1 to {_MOST_THREADS}. Received: threads={threads}")
    if _native is not None:
        _native.set_num_threads(threads)


def get_num_threads() -> int:
    """How many threads the engine uses; 1 on the NumPy backend, whose BLAS has its own setting."""
    return _native.get_num_threads() if _native is not None else 1


def measure_peak(seconds: float = 0.2) -> float | None:
    """The most float32 operations a second (a multiply-add is two) that this processor does.

    Args:
        seconds: How long to measure. Defaults to 0.2.

    Returns:
        FLOP/s with the threads and the instruction set in use; None on the NumPy backend.
    """
    return _native.measure_peak(seconds) if _native is not None else None


def config() -> dict[str, Any]:
    """What runs and why: backend, instruction sets, OpenMP, threads, the reason for a fallback."""
    if _native is None:
        return {"backend": "numpy", "reason": _reason, "instruction_set": None,
                "instruction_sets_available": [], "instruction_sets_built": [], "openmp": False,
                "threads": get_num_threads()}
    built = _native.instruction_sets()
    return {
        "backend": "native",
        "reason": "",
        "instruction_set": _native.selected_instruction_set(),
        "instruction_sets_available": [name for name, supported in built if supported],
        "instruction_sets_built": [name for name, _ in built],
        "openmp": _native.has_openmp(),
        "threads": get_num_threads(),
    }


_native = _load_native()
