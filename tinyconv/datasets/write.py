"""Writes sprites, the two files that `Sprite` reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tinyconv.datasets.image_set import NAMES_FILE, encode_names
from tinyconv.datasets.png import write_png
from tinyconv.datasets.replace import replace_all
from tinyconv.image_input import check_class_names
from tinyconv.shapes import check_integer, describe

__all__ = ["write_sprite"]


def write_sprite(images: Any, labels: Any, path: Any, num_classes: int | None = None, one_hot: bool = True,
                 prefix: str = "", class_names: Sequence[str] | None = None) -> tuple[Path, Path]:
    """Writes labelled images as a sprite: a PNG with one image a row, and a file of labels.

    The files are written under temporary names and renamed when they are complete; where one
    cannot be, the files that were there before stay. Files of one folder are replaced as one:
    whenever the process ends, all old files are read there or all new ones.

    Args:
        images: uint8 array (N, height, width), (N, height * width), or (N, height, width, channels)
            with 1, 3 (RGB) or 4 (RGBA) channels.
        labels: Class ids (N,), or one-hot rows (N, num_classes).
        path: Folder for the files, created where it is missing, or a pair of paths (images, labels).
        num_classes: Number of classes. Defaults to None: the width of one-hot rows, otherwise the
            largest class id plus 1.
        one_hot: Whether the label file is one-hot, one byte an image and class, as the tutorials
            expect, or has one byte an image, for at most 256 classes. Defaults to True.
        prefix: Start of the file names in a folder: "mnist" gives `mnist_images.png` and
            `mnist_labels_uint8`. Defaults to "": `images.png` and `labels_uint8`.
        class_names: A name for each class, written to `class_names.txt` beside the images.
            Defaults to None: no such file.

    Returns:
        The paths of the PNG and of the label file.

    Raises:
        ValueError: If images, labels and names do not fit each other.
        OSError: If a file cannot be written.
    """
    rows, channels = _as_rows(images)
    ids, classes = _as_ids(labels, len(rows), num_classes)
    if not one_hot and classes > 256:
        raise ValueError(f"Expected at most 256 classes with one_hot=False. Received: {classes} classes")
    image_path, label_path = _paths(path, prefix)

    def write_labels(file: BinaryIO) -> None:
        for start in range(0, len(ids), 4096):
            part = ids[start:start + 4096]
            block = np.equal.outer(part, np.arange(classes)) if one_hot else part
            file.write(block.astype(np.uint8).tobytes())

    files: list[tuple[Path, Callable[[BinaryIO], Any]]] = [
        (image_path, lambda file: write_png(file, rows, channels)), (label_path, write_labels)]
    if class_names is not None:
        names = encode_names(check_class_names(class_names))
        if len(class_names) != classes:
            raise ValueError(f"Expected {classes} class_names, one for each class. Received: {len(class_names)}")
        files.append((image_path.parent / NAMES_FILE, lambda file: file.write(names)))
    replace_all(files)
    return image_path, label_path


def _as_rows(images: Any) -> tuple[np.ndarray, int]:
    """The images as rows (N, size), and the number of channels."""
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise TypeError(f"Expected images to be uint8. Received: images.dtype={images.dtype}")
    channels = images.shape[3] if images.ndim == 4 else 1
    if images.ndim not in (2, 3, 4) or channels not in (1, 3, 4) or not images.size:
        raise ValueError("Expected images to have the shape (N, size), (N, height, width) or "
                         "(N, height, width, channels), not empty, with 1, 3 or 4 channels. "
                         f"Received: images.shape={images.shape}")
    return images.reshape(len(images), -1), channels


def _as_ids(labels: Any, count: int, num_classes: int | None) -> tuple[np.ndarray, int]:
    """Class ids, int64 (N,), and the number of classes."""
    labels = np.asarray(labels)
    if labels.shape not in ((count,), (count, 1)) and (labels.ndim != 2 or len(labels) != count):
        raise ValueError(f"Expected labels to be {count} class ids or one-hot rows, one for each image. "
                         f"Received: labels.shape={labels.shape}")
    if labels.dtype.kind not in "biuf" or not np.isfinite(labels).all() or (labels != np.floor(labels)).any():
        raise ValueError("Expected labels to be whole numbers. "
                         f"Received: {labels.dtype}, {describe(labels.ravel()[:8].tolist())}")
    classes = None if num_classes is None else check_integer(num_classes, "num_classes")
    if labels.size == count:
        ids = labels.astype(np.int64).reshape(count)
    else:
        if ((labels != 0) & (labels != 1)).any() or (np.count_nonzero(labels, axis=1) != 1).any():
            raise ValueError("Expected labels to be one-hot rows: one 1 and otherwise 0. "
                             f"Received: labels of shape {labels.shape} with other rows")
        ids = labels.argmax(axis=1)
        classes = labels.shape[1] if classes is None else classes
    largest = int(ids.max())
    classes = largest + 1 if classes is None else classes
    if ids.min() < 0 or largest >= classes or classes > 1 << 16:
        raise ValueError(f"Expected labels to be class ids from 0 to {min(classes, 1 << 16) - 1}. "
                         f"Received: labels from {ids.min()} to {largest}")
    return ids, classes


def _paths(path: Any, prefix: str) -> tuple[Path, Path]:
    if isinstance(path, (tuple, list)):
        if len(path) != 2 or Path(path[0]).absolute() == Path(path[1]).absolute():
            raise ValueError("Expected path to be a folder or two different paths. "
                             f"Received: {describe(path)}")
        return Path(path[0]), Path(path[1])
    if not isinstance(prefix, str) or set(prefix) & set("/\\\0"):
        raise ValueError("Expected prefix to be the start of a file name. "
                         f"Received: prefix={describe(prefix)}")
    start = f"{prefix}_" if prefix else ""
    return Path(path) / f"{start}images.png", Path(path) / f"{start}labels_uint8"
