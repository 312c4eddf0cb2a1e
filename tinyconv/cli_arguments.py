"""Values of options on the command line; argparse reports what they raise."""

from __future__ import annotations

__all__ = ["parse_names", "parse_positive", "parse_shape"]

_MAX_SIDE = 1 << 16


def parse_positive(text: str) -> int:
    """A positive integer."""
    from argparse import ArgumentTypeError

    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise ArgumentTypeError(f"expected a positive integer. Received: {text}")
    return value


def parse_names(text: str) -> list[str]:
    """Names between commas."""
    return [name.strip() for name in text.split(",")]


def parse_shape(text: str) -> tuple[int, ...]:
    """HxW or HxWxC as numbers."""
    from argparse import ArgumentTypeError

    try:
        sizes = tuple(int(size) for size in text.lower().split("x"))
    except ValueError:
        sizes = ()
    if len(sizes) not in (2, 3) or min(sizes) < 1 or max(sizes) > _MAX_SIDE:
        raise ArgumentTypeError(f"expected HxW or HxWxC. Received: {text}")
    return sizes
