"""Sprites, the data format of the TensorFlow.js tutorials: all images of a data set in one PNG.

A sprite is two files. The PNG has one image a row, its pixels in row-major order;
the label file has for each image one byte a class, 1 for its class and 0 for the
others (one-hot), or a single byte, the class id.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv.datasets.png import MAX_BYTES, read_png
from tinyconv.datasets.replace import current, file_names
from tinyconv.shapes import check_integer, describe

__all__ = ["Sprite"]

LABEL_FORMATS = ("auto", "one_hot", "indices")


class Sprite:
    """Labelled images, kept as uint8: 51 MB for 65,000 digits that would take 204 MB as float32.

    Args:
        path: The PNG file, or a folder that holds one pair `*images*.png` and `*labels*uint8`.
        labels: The label file. Defaults to None: `path` is a folder.
        image_shape: (height, width) or (height, width, channels) of one image. With one channel,
            the default, the red channel is taken, as the tutorials do; 3 and 4 take RGB and RGBA.
            Defaults to None: a square as large as the rows are wide.
        num_classes: Number of classes. Defaults to None: for one-hot labels as many as they have
            bytes, otherwise the largest class id plus 1.
        label_format: "one_hot", "indices", or "auto", the default: indices where the label file
            has as many bytes as there are images.
        max_bytes: Most memory that the decoded PNG may take. Defaults to 1 GiB.

    Attributes:
        images: uint8 array (N, height, width, channels).
        labels: Class ids, (N,), of the smallest unsigned type that holds them: uint8 up to 256 classes.
        num_classes: Number of classes.

    Raises:
        ValueError: If a file is corrupt, truncated or not of the expected size, or a label is
            out of range.
        OSError: If a file cannot be read.

    `len(sprite)` is the number of images; `sprite[10:20]` is a sprite of these images (views, no
    copy), as is `sprite[order]` for an array of indices or a mask (copies).
    """

    images: np.ndarray
    labels: np.ndarray
    num_classes: int

    def __init__(self, path: Any, labels: Any = None, *, image_shape: tuple[int, ...] | None = None,
                 num_classes: int | None = None, label_format: str = "auto",
                 max_bytes: int = MAX_BYTES) -> None:
        if label_format not in LABEL_FORMATS:
            raise ValueError(f"Expected label_format to be one of {', '.join(LABEL_FORMATS)}. "
                             f"Received: label_format={describe(label_format)}")
        shape = None if image_shape is None else _check_image_shape(image_shape)
        image_path, label_path = find_pair(path) if labels is None else (Path(path), Path(labels))
        rows = read_png(current(image_path), 1 if shape is None else shape[2], max_bytes)
        shape = _square(rows.shape[1], image_path) if shape is None else shape
        height, width, channels = shape
        if rows.shape[1] != height * width * channels:
            raise ValueError(f"Expected {image_path} to be {height * width} pixels wide for "
                             f"image_shape={shape}. Received: {rows.shape[1] // channels} pixels")
        self.images = rows.reshape(-1, *shape)
        self.labels, self.num_classes = read_labels(current(label_path), len(rows), num_classes, label_format)

    @classmethod
    def from_folder(cls, folder: Any, **options: Any) -> Sprite:
        """The sprite of a folder: its only pair of `*images*.png` and `*labels*uint8`.

        Args:
            folder: The folder.
            **options: Further arguments of `Sprite`.
        """
        return cls(folder, **options)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.image_shape))
        return f"<Sprite of {len(self)} images {shape}, {self.num_classes} classes>"

    def __getitem__(self, rows: Any) -> Sprite:
        if not isinstance(rows, (slice, list, np.ndarray)):
            raise TypeError("Expected a slice or an array of indices; single images are sprite.images[i]. "
                            f"Received: {describe(rows)}")
        part = object.__new__(type(self))
        try:
            part.images, part.labels = self.images[rows], self.labels[rows]
        except IndexError as error:
            raise IndexError(f"Expected indices of {len(self)} images. Received: {error}") from None
        part.num_classes = self.num_classes
        return part

    __iter__ = None  # else Python would try sprite[0], sprite[1], ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of one image."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    @property
    def flat_images(self) -> np.ndarray:
        """The images as rows: a uint8 view (N, height * width * channels)."""
        return self.images.reshape(len(self), -1)

    def one_hot(self) -> np.ndarray:
        """The labels as one-hot rows, float32 (N, num_classes)."""
        return np.equal.outer(self.labels, np.arange(self.num_classes)).astype(np.float32)

    def as_float32(self, out: np.ndarray | None = None) -> np.ndarray:
        """The images as values in [0, 1]: float32 (N, height, width, channels), value / 255.

        Args:
            out: Float32 array of that shape to fill. Defaults to None: a new one.

        Raises:
            ValueError: If out is of another type or shape.
        """
        out = np.empty(self.images.shape, np.float32) if out is None else out
        if out.shape != self.images.shape or out.dtype != np.float32:
            raise ValueError(f"Expected out to be float32 of shape {self.images.shape}. "
                             f"Received: {out.dtype} of shape {out.shape}")
        # NumPy converts a few thousand values at a time; no second float32 copy exists.
        return np.divide(self.images, np.float32(255), out=out)

    def batches(self, batch_size: int = 32, shuffle: bool = False,
                seed: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Goes once through the images, converting one batch at a time.

        Args:
            batch_size: Images a batch; the last batch may be smaller. Defaults to 32.
            shuffle: Whether in random order. Defaults to False.
            seed: Makes that order repeatable. Defaults to None.

        Yields:
            (images, labels): float32 (n, height, width, channels) in [0, 1], float32 (n, num_classes).
        """
        size = check_integer(batch_size, "batch_size")
        order = np.random.default_rng(seed).permutation(len(self)) if shuffle else None
        return self._batches(size, order)

    def _batches(self, size: int, order: np.ndarray | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(self), size):
            part = self[start:start + size] if order is None else self[order[start:start + size]]
            yield part.as_float32(), part.one_hot()


def find_pair(folder: Any) -> tuple[Path, Path]:
    """The image and the label file of a folder with one sprite."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError("Expected path to be a folder with a sprite, or the paths of its two files. "
                         f"Received: {folder}, which is no folder")
    found = []
    there = file_names(folder)
    for pattern in ("*images*.png", "*labels*uint8"):
        names = [name for name in there if fnmatchcase(name, pattern)]
        if len(names) != 1:
            what = describe(names) if names else f"no such file in {folder}"
            raise ValueError(f"Expected one file {pattern} in {folder}. Received: {what}")
        found.append(folder / names[0])
    return found[0], found[1]


def read_labels(path: Path, count: int, num_classes: int | None, label_format: str) -> tuple[np.ndarray, int]:
    """Reads the labels of `count` images; returns class ids and the number of classes."""
    if num_classes is not None:
        num_classes = check_integer(num_classes, "num_classes")
    size = path.stat().st_size
    if label_format == "auto":
        label_format = "indices" if size == count else "one_hot"
    if label_format == "indices":
        expected = f"{count} bytes, one for each image"
        fits = size == count
    elif num_classes is None:
        expected = f"a multiple of {count} bytes, one for each image and class"
        fits = size > 0 and size % count == 0
    else:
        expected = f"{count * num_classes} bytes, {num_classes} for each of {count} images"
        fits = size == count * num_classes
    if not fits or size // count > 1 << 16 or size > MAX_BYTES:
        raise ValueError(f"Expected {path} to have {expected}. Received: {size} bytes")
    values = np.fromfile(path, np.uint8)
    if values.size != size:
        raise ValueError(f"Expected {path} to have {size} bytes. Received: {values.size} bytes")
    if label_format == "indices":
        return _check_ids(values, num_classes, path)
    return _from_one_hot(values.reshape(count, -1), path)


def _from_one_hot(rows: np.ndarray, path: Path) -> tuple[np.ndarray, int]:
    valid = (rows.max(axis=1) == 1) & (np.count_nonzero(rows, axis=1) == 1)
    if not valid.all():
        row = int(np.argmin(valid))
        raise ValueError(f"Expected {path} to be one-hot, {rows.shape[1]} bytes an image, one of them 1, the "
                         f"others 0. Received: {describe(rows[row].tolist())} for image {row}")
    classes = rows.shape[1]
    return rows.argmax(axis=1).astype(np.min_scalar_type(classes - 1)), classes


def _check_ids(ids: np.ndarray, num_classes: int | None, path: Path) -> tuple[np.ndarray, int]:
    largest = int(ids.max())
    if num_classes is not None and largest >= num_classes:
        raise ValueError(f"Expected {path} to hold class ids from 0 to {num_classes - 1}. "
                         f"Received: {largest} for image {int(np.argmax(ids))}")
    return ids, largest + 1 if num_classes is None else num_classes


def _check_image_shape(image_shape: Any) -> tuple[int, int, int]:
    if not isinstance(image_shape, (tuple, list)) or len(image_shape) not in (2, 3):
        raise ValueError("Expected image_shape to be (height, width) or (height, width, channels). "
                         f"Received: image_shape={describe(image_shape)}")
    height, width, channels = (check_integer(size, "image_shape") for size in (*image_shape, 1)[:3])
    if channels not in (1, 3, 4):
        raise ValueError("Expected image_shape to have 1, 3 or 4 channels. "
                         f"Received: image_shape={image_shape}")
    return height, width, channels


def _square(pixels: int, path: Path) -> tuple[int, int, int]:
    side = math.isqrt(pixels)
    if side * side != pixels:
        raise ValueError(f"Expected image_shape for {path}, whose rows are no square images. "
                         f"Received: image_shape=None, {pixels} pixels a row")
    return side, side, 1
