"""Single image files, of any kind that Pillow knows: opened within limits, read into uint8 arrays."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from tinyconv.datasets.png import eight_bits

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["FORMATS", "SUFFIXES", "as_array", "opened_image"]

# Pillow reads many more by their first bytes, some of them with other programs.
FORMATS = ("BMP", "GIF", "JPEG", "PNG")
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
# An image of more pixels is refused: a small file can ask for any amount of memory.
MAX_PIXELS = 1 << 26
# Nor do its bytes hold more than this many each: deflate packs 1032 bytes of 8 pixels into one.
_PIXELS_PER_BYTE, _FREE_PIXELS = 1 << 14, 1 << 20
# Every scan of a JPEG file goes over the whole image, and may have a hundred bytes: pixels times scans.
_MAX_SCANNED = 1 << 31
# Markers that something follows which says how long it is, and the end; no other occurs in an image that is decoded.
_MARKER, _PIECE = re.compile(rb"\xff[\xc0-\xcf\xd9-\xdd\xe0-\xef\xfe]", re.DOTALL), 1 << 20
_SCAN, _END = 0xDA, 0xD9
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@contextmanager
def opened_image(path: Any, file: Any = None, formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """An image file, open in Pillow; what goes wrong inside of the `with` is the file's fault.

    Args:
        path: The file.
        file: The open file where `path` is only its name. Defaults to None.
        formats: Pillow's names of the formats that it may have. Defaults to BMP, GIF, JPEG and PNG.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If the file is no image, is damaged, or has more than 2**26 pixels.
    """
    from PIL import Image

    if file is None and os.path.exists(path) and not os.path.isfile(path):  # opening a pipe would wait for ever
        raise ValueError(f"Expected an image. Received: {path} (not a file)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's of large images, refused here, and of odd ones
            with Image.open(path if file is None else file, formats=formats) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise OSError(f"{image.width} x {image.height}: more than {MAX_PIXELS} pixels")
                size = os.path.getsize(path) if file is None else os.fstat(file.fileno()).st_size
                if image.width * image.height > _PIXELS_PER_BYTE * size + _FREE_PIXELS:
                    raise OSError(f"{image.width} x {image.height} pixels in {size} bytes")
                if image.format in ("JPEG", "MPO"):
                    _check_scans(image)
                yield image
    except FileNotFoundError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged file makes Pillow raise almost anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"Expected an image. Received: {path} ({reason})") from None


def _check_scans(image: Any) -> None:
    """Raises OSError where a JPEG file has more scans than its size allows."""
    place = image.fp.tell()
    count = _count_scans(image.fp)
    image.fp.seek(place)
    if count * image.width * image.height > _MAX_SCANNED:
        raise OSError(f"{image.width} x {image.height} pixels in {count} scans")


def _count_scans(file: BinaryIO) -> int:
    """Scans of the image that a JPEG file begins with; a film or a preview may lie in a block of it, or behind it."""
    data, start, place, count = b"", 0, 2, 0  # a piece of the file, where that begins, and where to go on
    while True:
        found = _MARKER.search(data, place - start) if place < start + len(data) else None
        end = found.end() if found else 0
        if found is None or (end + 2 > len(data) and data[end - 1] != _END):
            begin = start + found.start() if found else max(place, start + len(data) - 1)
            file.seek(begin)
            data, following = file.read(_PIECE), data
            if begin == start and len(data) == len(following) or len(data) < 2:
                return count
            start = place = begin
            continue
        if data[end - 1] == _END:
            return count
        count += data[end - 1] == _SCAN
        place = start + end + max(2, int.from_bytes(data[end:end + 2], "big"))


def as_array(image: Image.Image, channels: int | None = None) -> np.ndarray:
    """The pixels of an image, uint8 (height, width, channels).

    Args:
        image: The image.
        channels: 1 for grey, 3 for RGB, 4 for RGBA. Defaults to None: 1 where the image is grey, else 3.
    """
    image = eight_bits(image)
    if channels is None:
        channels = 1 if image.mode in ("1", "L", "LA", "La", "F") else 3
    picture = image if image.mode == _MODES[channels] else image.convert(_MODES[channels])
    return np.asarray(picture, np.uint8).reshape(image.height, image.width, channels)
