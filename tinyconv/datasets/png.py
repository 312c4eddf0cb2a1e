"""Sprite PNG files: one image a row, read into uint8 arrays and written from them.

A file is checked before it is decoded: its signature, its dimensions against the
budget of memory, and the checksum of every chunk, which Pillow itself skips.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MAX_BYTES", "eight_bits", "read_png", "write_png"]

# Room for 345 classes of 3,000 sketches, and far below what a hostile file could ask for.
MAX_BYTES = 1 << 30
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOR_TYPES = {0: "grey", 2: "RGB", 3: "palette", 4: "grey and alpha", 6: "RGBA"}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
# First column and row, and steps to the next, of the passes of an interlaced image.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
# Deflate makes data at most 1032 times shorter.
_RATIO = 1032
_PIECE = 1 << 20
# Writers put 8 KB or more into a chunk.
_MAX_CHUNKS = 1 << 18


class _Header(NamedTuple):
    width: int
    height: int
    depth: int
    color_type: int
    interlaced: bool

    @property
    def scanline_bytes(self) -> int:
        """Size of the decompressed data: rows, each after one byte that names its filter."""
        bits = self.depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[self.color_type]
        size = 0
        for left, top, right, down in _ADAM7 if self.interlaced else ((0, 0, 1, 1),):
            columns, rows = -((left - self.width) // right), -((top - self.height) // down)
            if columns > 0 and rows > 0:
                size += rows * (1 + (columns * bits + 7) // 8)
        return size

    @property
    def decoded_bytes(self) -> int:
        """Memory that Pillow takes for the pixels: 4 bytes each but for plain grey and palettes."""
        if self.color_type not in (0, 3):
            return 4 * self.width * self.height
        return (4 if self.depth == 16 else 1) * self.width * self.height


def read_png(path: Path, channels: int = 1, max_bytes: int = MAX_BYTES) -> np.ndarray:
    """Decodes a PNG file of any colour type.

    Args:
        path: The file.
        channels: 1 for the red channel (grey levels of a grey file), 3 for RGB, 4 for RGBA.
        max_bytes: Most memory that the decoded pixels may take, and the array.

    Returns:
        uint8 array (height, width * channels), C-contiguous. Of 16 bit values the high byte.

    Raises:
        ValueError: If the file is no PNG, is truncated or corrupt, or is larger than `max_bytes`.
        OSError: If the file cannot be opened.
    """
    import struct
    import zlib

    from PIL.PngImagePlugin import PngImageFile

    with open(path, "rb") as file:
        header = _check(file, path, channels, max_bytes)
        file.seek(0)
        # Not Image.open: no other format may answer, and max_bytes is the budget, not a warning of Pillow's.
        try:
            with PngImageFile(file) as image:
                image.load()
                # Pillow leaves rows black that the data do not reach; looking costs time, so only then.
                last = image.crop((0, image.height - 1, image.width, image.height)).tobytes()
                if header.interlaced or not any(last):
                    _check_data(file, header)
                return _pixels(image, channels)
        except (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error, zlib.error) as error:
            raise ValueError(f"Expected {path} to be a whole PNG image of {header.width}x{header.height} "
                             f"pixels. Received: {' '.join(str(error).split())}") from error


def _check(file: BinaryIO, path: Path, channels: int, max_bytes: int) -> _Header:
    """Walks through the chunks; the header, if the file is whole and within the budget."""
    from zlib import crc32

    def need(size: int, piece: bytes) -> bytes:
        if len(piece) != size:
            raise ValueError(f"Expected {path} to be a whole PNG file. Received: a file that ends after "
                             f"{file.tell()} bytes, before its end chunk")
        return piece

    signature = file.read(len(_SIGNATURE))
    if signature != _SIGNATURE:
        raise ValueError(f"Expected {path} to be a PNG file. Received: a file that starts with {signature!r}")
    header = None
    for _ in range(_MAX_CHUNKS):
        length = int.from_bytes(need(4, file.read(4)), "big")
        kind = need(4, file.read(4))
        start = file.tell()
        if header is None:
            header = _read_header(kind, length, need(13, file.read(13)), path)
            _check_size(header, path, channels, max_bytes)
            file.seek(start)
        checksum = crc32(kind)
        left = length
        while left:
            piece = file.read(min(left, _PIECE))
            need(min(left, _PIECE), piece)
            checksum = crc32(piece, checksum)
            left -= len(piece)
        if need(4, file.read(4)) != checksum.to_bytes(4, "big"):
            raise ValueError(f"Expected {path} to be an intact PNG file. Received: a wrong checksum of the "
                             f"chunk {kind!r} at byte {start - 8}")
        if kind == b"IEND":
            return header
    raise ValueError(f"Expected {path} to have at most {_MAX_CHUNKS} chunks. Received: more")


def _check_size(header: _Header, path: Path, channels: int, max_bytes: int) -> None:
    """Compares what the header states with the budget of memory, and with what the file can hold."""
    needed = max(header.decoded_bytes, header.width * header.height * channels)
    if needed > max_bytes:
        raise ValueError(f"Expected {path} to take at most max_bytes={max_bytes} decoded. Received: "
                         f"{header.width}x{header.height} pixels, {needed} bytes")
    size = path.stat().st_size
    if header.scanline_bytes > _RATIO * size:
        raise ValueError(f"Expected {path} to be a whole PNG file. Received: {header.width}x{header.height} pixels, "
                         f"more than its {size} bytes can hold")


def _read_header(kind: bytes, length: int, data: bytes, path: Path) -> _Header:
    width, height = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")
    header = _Header(width, height, data[8], data[9], bool(data[12]))
    if kind != b"IHDR" or length != 13 or not header.width or not header.height \
            or header.color_type not in _COLOR_TYPES or header.depth not in (1, 2, 4, 8, 16):
        raise ValueError(f"Expected {path} to start with a valid PNG header. Received: {kind!r}, "
                         f"{header.width}x{header.height} pixels, bit depth {header.depth}, "
                         f"colour type {header.color_type}")
    return header


def _check_data(file: BinaryIO, header: _Header) -> None:
    """Decompresses the data of a checked file and compares their size with the header."""
    from zlib import decompressobj

    inflater = decompressobj()
    size = 0
    file.seek(len(_SIGNATURE))
    while size < header.scanline_bytes:  # what follows is never looked at
        length, kind = int.from_bytes(file.read(4), "big"), file.read(4)
        if kind == b"IEND":
            break
        end = file.tell() + length + 4
        while kind == b"IDAT" and file.tell() < end - 4 and size < header.scanline_bytes:
            size += len(inflater.decompress(file.read(min(end - 4 - file.tell(), _PIECE >> 6))))
        file.seek(end)
    if size < header.scanline_bytes:
        raise ValueError(f"data for {size} of {header.scanline_bytes} bytes of rows")


def _pixels(image: Image.Image, channels: int) -> np.ndarray:
    """The pixels of a loaded image, strip by strip: Pillow's own conversion needs three copies at once."""
    width, height = image.size
    pixels = np.empty((height, width * channels), np.uint8)
    rows = max(1, _PIECE // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = _as_mode(image.crop((0, top, width, bottom)), channels)
        pixels[top:bottom] = np.frombuffer(strip.tobytes(), np.uint8).reshape(bottom - top, -1)
    return pixels


def _as_mode(image: Image.Image, channels: int) -> Image.Image:
    image = eight_bits(image)  # the high byte, as Pillow takes it of 16 bit RGB
    if image.mode == _MODES[channels]:
        return image
    if channels > 1:
        return image.convert("RGBA").convert(_MODES[channels])
    if image.mode == "P":
        image = image.convert("RGBA")  # not RGB: it would warn of a palette with transparency
    return image.convert("L") if image.mode == "1" else image.getchannel(0)


def eight_bits(image: Image.Image) -> Image.Image:
    """An image of 16 bits with the upper 8 of them: where Pillow converts one, all above 255 is white."""
    from PIL import Image

    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))


def write_png(file: BinaryIO, rows: np.ndarray, channels: int = 1) -> None:
    """Writes a PNG file.

    Args:
        file: Where to.
        rows: uint8 array (N, width * channels).
        channels: 1 for a grey file, 3 for RGB, 4 for RGBA.
    """
    from PIL import Image

    mode = _MODES[channels]
    size = (rows.shape[1] // channels, rows.shape[0])
    Image.frombuffer(mode, size, np.ascontiguousarray(rows), "raw", mode, 0, 1).save(file, "PNG")
