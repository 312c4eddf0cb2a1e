"""Labelled images with the names of their classes: what every reader gives and every writer takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv.datasets.replace import current
from tinyconv.formats.guard import open_inside
from tinyconv.image_input import check_class_names
from tinyconv.shapes import check_integer

__all__ = ["NAMES_FILE", "ImageSet", "encode_names", "read_names"]

# Beside the images, a name a line, in the order of the class numbers; models in the wild have it too.
NAMES_FILE = "class_names.txt"
MAX_CLASSES = 1 << 16
_MAX_NAMES_BYTES = 4 << 20


class ImageSet:
    """Images, labels and class names.

    Args:
        images: uint8 (N, height, width, channels) with 1, 3 or 4 channels, or (N, height, width).
        labels: Class numbers, integers (N,).
        class_names: A name for each class. Defaults to None: "0", "1", ... up to the largest label.
        num_train: How many images, from the start, are those for training, where the data say so;
            the rest is for testing. Defaults to None: not known.

    Attributes:
        images: uint8 (N, height, width, channels).
        labels: int32 (N,).
        class_names: List of strings.
        num_train: As given.

    Raises:
        TypeError: If the images are not uint8.
        ValueError: If shapes do not fit each other, or a label has no name.
    """

    def __init__(self, images: Any, labels: Any, class_names: Sequence[str] | None = None,
                 num_train: int | None = None) -> None:
        images, labels = np.asarray(images), np.asarray(labels)
        images = images[..., None] if images.ndim == 3 else images
        if images.dtype != np.uint8:
            raise TypeError(f"Expected images to be uint8. Received: images.dtype={images.dtype}")
        if images.ndim != 4 or not images.size or images.shape[3] not in (1, 3, 4):
            raise ValueError("Expected images to have the shape (N, height, width, channels), not empty, with 1, 3 "
                             f"or 4 channels. Received: images.shape={images.shape}")
        if labels.shape != (len(images),) or labels.dtype.kind not in "iu" or labels.min() < 0 \
                or labels.max() >= MAX_CLASSES:
            raise ValueError(f"Expected labels to be {len(images)} integers from 0 to {MAX_CLASSES - 1}. "
                             f"Received: {labels.dtype} of shape {labels.shape}")
        largest = int(labels.max())
        names = [str(number) for number in range(largest + 1)] if class_names is None else class_names
        self.images, self.labels = images, labels.astype(np.int32)
        self.class_names = check_class_names(names)
        if len(self.class_names) <= largest:
            raise ValueError(f"Expected a name for every class up to {largest}. "
                             f"Received: {len(self.class_names)} class_names")
        self.num_train = None if num_train is None else check_integer(num_train, "num_train")
        if self.num_train is not None and self.num_train >= len(images):
            raise ValueError(f"Expected num_train to be below the number of images, {len(images)}. "
                             f"Received: num_train={num_train}")

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.images.shape[1:]))
        return f"<ImageSet of {len(self)} images {shape}, {len(self.class_names)} classes>"

    def counts(self) -> np.ndarray:
        """How many images each class has: (classes,)."""
        return np.bincount(self.labels, minlength=len(self.class_names))


def read_names(folder: Path) -> list[str] | None:
    """The class names that a folder states in its `class_names.txt`; None where there is no such file.

    Raises:
        ValueError: If it is too long, no UTF-8 text, or two names are alike.
    """
    path = current(folder / NAMES_FILE)
    if not path.is_file():
        return None
    what = str(folder / NAMES_FILE)
    file, size = open_inside(folder, path.name, what, "its folder")
    with file:
        if size > _MAX_NAMES_BYTES:
            raise ValueError(f"Expected {what} to have at most {_MAX_NAMES_BYTES} bytes. Received: {size} bytes")
        data = file.read(size)
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"Expected {what} to be UTF-8 text. Received: byte {error.start} is not") from None
    return check_class_names([line.strip() for line in lines if line.strip()])


def encode_names(class_names: Sequence[str]) -> bytes:
    """The content of `class_names.txt`."""
    return "".join(f"{name}\n" for name in class_names).encode()
