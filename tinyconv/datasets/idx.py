"""IDX files, the format of MNIST and its family (Fashion-MNIST, EMNIST, KMNIST), compressed or not.

Two zero bytes, the type, the number of dimensions, each dimension as a big-endian 32 bit number,
then the values (http://yann.lecun.com/exdb/mnist).  A data set is two files, `*images-idx3-ubyte` and
`*labels-idx1-ubyte`, or four, whose names say `train` and `t10k` or `test`.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tinyconv.datasets.image_set import NAMES_FILE, ImageSet, encode_names, read_names
from tinyconv.datasets.png import MAX_BYTES
from tinyconv.datasets.replace import current, file_names, replace_all
from tinyconv.shapes import describe

__all__ = ["find_pairs", "is_idx", "read_idx", "read_idx_set", "write_idx", "write_idx_set"]

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CODES = {np.dtype(name).newbyteorder("="): code for code, name in _TYPES.items()}
_GZIP = b"\x1f\x8b"
# Deflate makes data at most 1032 times shorter.
_RATIO = 1032
_MAX_RANK = 8
_PIECE = 1 << 20


# --- arrays ---


def read_idx(path: Any, max_bytes: int = MAX_BYTES,
             check: Callable[[np.dtype, tuple[int, ...]], None] | None = None) -> np.ndarray:
    """Reads an IDX file; whether it is compressed (gzip) its content says, not its name.

    Args:
        path: The file.
        max_bytes: Most memory that its values may take. Defaults to 1 GiB.
        check: Called with type and shape before any memory is taken; raises where they do not fit.
            Defaults to none.

    Returns:
        The array, in the machine's byte order.

    Raises:
        ValueError: If the file is no IDX file, is not as long as its header says, or exceeds `max_bytes`.
        OSError: If it cannot be opened.
    """
    import gzip

    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        compressed = file.read(2) == _GZIP
        file.seek(0)
        if not compressed:
            return _read(file, path, size, max_bytes, check)
        try:
            with gzip.GzipFile(fileobj=file, mode="rb") as inner:
                return _read(inner, path, size * _RATIO, max_bytes, check)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"Expected {path} to be an intact gzip file. Received: {describe(str(error))}") from None


def _read(file: Any, path: Any, most: int, max_bytes: int, check: Any) -> np.ndarray:
    """The array of a file that has at most `most` bytes."""
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _TYPES or not 1 <= head[3] <= _MAX_RANK:
        raise ValueError(f"Expected {path} to be an IDX file. Received: a file that starts with {head!r}")
    dtype, rank = np.dtype(_TYPES[head[2]]), head[3]
    shape = tuple(int(number) for number in np.frombuffer(_exactly(file, path, 4 * rank, "its header"), ">u4"))
    size = math.prod(shape) * dtype.itemsize
    if size > max_bytes:
        raise ValueError(f"Expected {path} to take at most max_bytes={max_bytes}. Received: shape {shape}")
    if check is not None:
        check(dtype, shape)
    if size > most:
        raise ValueError(f"Expected {path} to hold the {size} bytes of its shape {shape}. Received: a shorter file")
    data = _exactly(file, path, size, f"its shape {shape}")
    if file.read(1):
        raise ValueError(f"Expected {path} to end after the {size} bytes of its shape {shape}. Received: more bytes")
    values = np.frombuffer(data, dtype)
    return values.astype(dtype.newbyteorder("="), copy=False).reshape(shape)


def _exactly(file: Any, path: Any, size: int, what: str) -> bytearray:
    """`size` bytes, read piece by piece: no memory is taken for what is not there."""
    data = bytearray()
    while len(data) < size and (piece := file.read(min(_PIECE, size - len(data)))):
        data += piece
    if len(data) != size:
        raise ValueError(f"Expected {path} to hold the {size} bytes of {what}. Received: {len(data)} bytes")
    return data


def write_idx(file: BinaryIO, array: Any, compress: bool = False) -> None:
    """Writes an array as an IDX file.

    Args:
        file: Where to.
        array: Of uint8, int8, int16, int32, float32 or float64 values, with 1 to 8 dimensions.
        compress: Whether to write gzip; the same array gives the same bytes. Defaults to False.

    Raises:
        ValueError: If the format has no such type or number of dimensions.
    """
    import gzip

    array = np.asarray(array)
    if array.dtype not in _CODES or not 1 <= array.ndim <= _MAX_RANK or max(array.shape) >= 2**32:
        raise ValueError("Expected array to hold uint8, int8, int16, int32, float32 or float64 in 1 to 8 dimensions. "
                         f"Received: {array.dtype} of shape {array.shape}")
    code = _CODES[array.dtype]
    head = bytes([0, 0, code, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    values = np.ascontiguousarray(array, _TYPES[code])
    if not compress:
        file.write(head)
        file.write(values.data)
        return
    with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0, compresslevel=6) as outer:
        outer.write(head)
        outer.write(values.data)


# --- data sets ---


def is_idx(path: Path) -> bool:
    """Whether a file is an IDX file of images, or a folder has a pair of them."""
    if path.is_dir():
        return bool(find_pairs(path))
    return _labels_of(path) is not None


def find_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """The pairs (images, labels) of IDX files of a folder; those for training first."""
    pairs: dict[str, tuple[Path, Path]] = {}
    for name in file_names(folder):  # a plain file comes before its compressed twin
        path = folder / name
        labels = _labels_of(path)
        if labels is not None:
            pairs.setdefault(path.name.removesuffix(".gz"), (path, labels))
    return [pair for _, pair in sorted(pairs.items(), key=lambda item: ("train" not in item[0], item[0]))]


def _labels_of(path: Path) -> Path | None:
    name = path.name
    if "images" not in name or "idx" not in name or not path.parent.is_dir():
        return None
    there = file_names(path.parent)
    if name not in there:
        return None
    for dimensions in ("idx3", "idx4"):
        plain = name.replace("images", "labels").replace(dimensions, "idx1").removesuffix(".gz")
        for candidate in (path.with_name(plain), path.with_name(plain + ".gz")):
            if candidate.name != name and candidate.name in there:
                return candidate
    return None


def read_idx_set(path: Path) -> ImageSet:
    """Reads the images and labels of a folder, or of a file of images and its file of labels.

    Of two pairs, one for training, the images are joined and `num_train` tells where they part.

    Raises:
        ValueError: If there is not one pair of files, or two, or they are damaged.
    """
    if path.is_dir():
        pairs = find_pairs(path)
    else:
        labels = _labels_of(path)
        pairs = [] if labels is None else [(path, labels)]
    if not pairs or len(pairs) > 2 or (len(pairs) == 2 and "train" not in pairs[0][0].name):
        names = [image.name for image, _ in pairs]
        raise ValueError("Expected a pair *images-idx3-ubyte and *labels-idx1-ubyte, or one for training and one for "
                         f"testing. Received: {describe(names)} in {path}")
    parts = [_read_pair(*pair) for pair in pairs]
    if len({images.shape[1:] for images, _ in parts}) != 1:
        raise ValueError(f"Expected {path} to hold images of one shape. "
                         f"Received: {[images.shape for images, _ in parts]}")
    joined = parts[0] if len(parts) == 1 else (np.concatenate([images for images, _ in parts]),
                                               np.concatenate([labels for _, labels in parts]))
    return ImageSet(*joined, read_names(pairs[0][0].parent), len(parts[0][0]) if len(parts) > 1 else None)


def _read_pair(image_path: Path, label_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels, as many: a compressed file of labels alone could ask for any amount of memory."""

    def check_images(dtype: np.dtype, shape: tuple[int, ...]) -> None:
        if dtype != np.uint8 or len(shape) not in (3, 4) or not math.prod(shape):
            raise ValueError(f"Expected {image_path} to hold images of unsigned bytes. "
                             f"Received: {dtype} of shape {shape}")

    images = read_idx(current(image_path), check=check_images)

    def check_labels(dtype: np.dtype, shape: tuple[int, ...]) -> None:
        if shape != (len(images),) or dtype.kind not in "iu":
            raise ValueError(f"Expected {label_path} to hold {len(images)} integers, one for each image of "
                             f"{image_path.name}. Received: {dtype} of shape {shape}")

    return images, read_idx(current(label_path), check=check_labels)


def write_idx_set(images: ImageSet, path: Path) -> None:
    """Writes a folder of IDX files, one pair or, where `num_train` is known, two, and the class names.

    Args:
        images: What to write.
        path: The folder; or a file of images in it, `NAME-images-idx3-ubyte` or the same with `.gz`,
            of which the other names follow.

    Raises:
        ValueError: If path is a file of another name.
    """
    folder, compress = path, False
    prefixes = ["train-", "t10k-"] if images.num_train is not None else [""]
    if "idx" in path.name and not path.is_dir():
        folder, compress = path.parent, path.suffix.lower() == ".gz"
        start, found, _ = path.name.partition("images")
        if not found:
            raise ValueError(f"Expected the name of a file of images, such as images-idx3-ubyte. Received: {path}")
        prefixes = prefixes if images.num_train is not None else [start]
    labels = images.labels.astype(np.uint8) if len(images.class_names) <= 256 else images.labels
    pixels = images.images[..., 0] if images.images.shape[3] == 1 else images.images
    cuts = [0, *([images.num_train] if images.num_train is not None else []), len(images)]
    end = ".gz" if compress else ""
    files: list[Any] = []
    for prefix, start_row, stop in zip(prefixes, cuts, cuts[1:], strict=False):
        for name, array in ((f"{prefix}images-idx{pixels.ndim}-ubyte{end}", pixels[start_row:stop]),
                            (f"{prefix}labels-idx1-ubyte{end}", labels[start_row:stop])):
            files.append((folder / name, lambda file, array=array: write_idx(file, array, compress)))
    files.append((folder / NAMES_FILE, lambda file: file.write(encode_names(images.class_names))))
    replace_all(files)
