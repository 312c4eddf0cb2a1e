"""What is installed and what runs."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

from tinyconv import engine

__all__ = ["config", "show_config"]


def config() -> dict[str, Any]:
    """Versions, and what `engine.config` tells.

    Returns:
        dict with the versions of tinyconv, Python, NumPy and Pillow, the backend, the
        instruction sets in use, available and built, OpenMP, threads, and why a fallback is in use.
    """
    import tinyconv

    return {
        "tinyconv": tinyconv.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "numpy": _version("numpy"),
        "pillow": _version("pillow"),
        **engine.config(),
    }


def show_config() -> None:
    """Prints `config()`, a line an entry."""
    entries = {name.replace("_", " "): _text(value) for name, value in config().items()}
    width = max(map(len, entries))
    for name, text in entries.items():
        print(f"{name:<{width}}  {text}")


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return "-" if value in (None, "") else str(value)
