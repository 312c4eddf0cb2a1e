"""Images in folders, one folder a class, read batch by batch: nothing but a list of files is kept.

    train, test = datasets.image_dataset_from_directory("flowers", validation_split=0.2, subset="both",
                                                        seed=1, image_size=(64, 64))
    model.fit(train, validation_data=test)
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv.datasets.image_files import SUFFIXES, opened_image
from tinyconv.datasets.png import eight_bits
from tinyconv.shapes import check_integer, standardize_pair
from tinyconv.utils import check_flag, check_number, default_seed, to_categorical

__all__ = ["ImageFolder", "image_dataset_from_directory"]

_MODES = {"grayscale": ("L", 1), "rgb": ("RGB", 3), "rgba": ("RGBA", 4)}
_INTERPOLATIONS = {"nearest": "NEAREST", "bilinear": "BILINEAR", "bicubic": "BICUBIC", "area": "BOX",
                   "lanczos3": "LANCZOS"}
_LABEL_MODES = ("int", "categorical", "binary", None)


class ImageFolder:
    """Batches of images and labels; what `image_dataset_from_directory` returns.

    Attributes:
        class_names: Names of the classes, in the order of their numbers.
        file_paths: The files, in the order that they were found in (and shuffled, where they are split).
        labels: int32 (N,), the class of every file; None without labels.
    """

    def __init__(self, file_paths: list[str], labels: np.ndarray | None, class_names: list[str],
                 label_mode: str | None, color_mode: str, batch_size: int | None, image_size: tuple[int, int],
                 shuffle: bool, seed: int, interpolation: str, crop_to_aspect_ratio: bool) -> None:
        self.file_paths = file_paths
        self.labels = labels
        self.class_names = class_names
        self._label_mode = label_mode
        self._color_mode = color_mode
        self._batch_size = batch_size
        self._image_size = image_size
        self._shuffle = shuffle
        self._seed = seed
        self._interpolation = interpolation
        self._crop = crop_to_aspect_ratio
        self._epoch = 0

    def __len__(self) -> int:
        """The number of batches, or of images where `batch_size` is None."""
        return math.ceil(len(self.file_paths) / (self._batch_size or 1))

    def __iter__(self) -> Iterator[Any]:
        order = np.arange(len(self.file_paths))
        if self._shuffle:
            np.random.default_rng((self._seed, self._epoch)).shuffle(order)
            self._epoch += 1
        size = self._batch_size or 1
        for start in range(0, len(order), size):
            rows = order[start:start + size].tolist()
            x = np.stack([self._read(self.file_paths[row]) for row in rows])
            y = self._labels_of(rows)
            if self._batch_size is None:
                yield x[0] if y is None else (x[0], y[0])
            else:
                yield x if y is None else (x, y)

    def _labels_of(self, rows: list[int]) -> np.ndarray | None:
        if self.labels is None or self._label_mode is None:
            return None
        labels = self.labels[rows]
        if self._label_mode == "categorical":
            return to_categorical(labels, len(self.class_names))
        return labels.astype(np.float32).reshape(-1, 1) if self._label_mode == "binary" else labels

    def _read(self, path: str) -> np.ndarray:
        """One image, float32 (height, width, channels) of values from 0 to 255."""
        from PIL import Image

        mode, channels = _MODES[self._color_mode]
        with opened_image(path) as image:
            height, width = self._image_size
            picture = eight_bits(image).convert(mode)
            box = _middle(picture.width, picture.height, width / height) if self._crop else None
            if picture.size != (width, height) or box is not None:
                filter_ = Image.Resampling[_INTERPOLATIONS[self._interpolation]]
                picture = picture.resize((width, height), filter_, box=box)
            return np.asarray(picture, np.float32).reshape(height, width, channels)

    def __repr__(self) -> str:
        return f"<ImageFolder of {len(self.file_paths)} images, {len(self.class_names)} classes>"


def _middle(width: int, height: int, ratio: float) -> tuple[float, float, float, float]:
    """The largest box of that ratio of width to height in the middle of an image."""
    inner_width, inner_height = min(width, height * ratio), min(height, width / ratio)
    left, top = (width - inner_width) / 2, (height - inner_height) / 2
    return left, top, left + inner_width, top + inner_height


def image_dataset_from_directory(directory: str | os.PathLike[str], labels: Any = "inferred",
                                 label_mode: str | None = "int", class_names: Sequence[str] | None = None,
                                 color_mode: str = "rgb", batch_size: int | None = 32,
                                 image_size: tuple[int, int] = (256, 256), shuffle: bool = True,
                                 seed: int | None = None, validation_split: float | None = None,
                                 subset: str | None = None, interpolation: str = "bilinear",
                                 follow_links: bool = False, crop_to_aspect_ratio: bool = False,
                                 verbose: bool = True) -> Any:
    """Batches out of a folder of images, as Keras' function of this name makes them.

    Args:
        directory: A folder with a folder for each class (hidden ones, whose names begin with a dot, do not
            count); PNG, JPEG, BMP and GIF files (of these the
            first picture) count, in folders below as well.
        labels: `"inferred"`: from the folders; a list of whole numbers, one a file in alphabetical
            order of their paths; or None. Defaults to `"inferred"`.
        label_mode: `"int"`: int32 (N,); `"categorical"`: one-hot float32 (N, classes); `"binary"`:
            float32 (N, 1); or None for images alone. Defaults to `"int"`.
        class_names: The folders to read, in the order of their numbers. Defaults to all, by name.
        color_mode: `"grayscale"`, `"rgb"` or `"rgba"`. Defaults to `"rgb"`.
        batch_size: Images a batch; None: single images. Defaults to 32.
        image_size: (height, width) that images are resized to. Defaults to (256, 256).
        shuffle: Whether every pass over the batches has an order of its own. Defaults to `True`.
        seed: What the order, and the split, follow from. Defaults to the next one of
            `utils.set_random_seed`, or a fresh one.
        validation_split: Share of the images, in (0, 1), to set apart. Defaults to none.
        subset: `"training"`, `"validation"` or `"both"`; goes with `validation_split`.
        interpolation: `"nearest"`, `"bilinear"`, `"bicubic"`, `"area"` or `"lanczos3"`, as Pillow computes
            them: unlike in Keras, images are smoothed when they shrink. Defaults to `"bilinear"`.
        follow_links: Whether to follow links to folders. Defaults to `False`.
        crop_to_aspect_ratio: Whether to cut the middle out of an image of another shape instead of
            squeezing it. Defaults to `False`.
        verbose: Whether to print how many files were found. Defaults to `True`.

    Returns:
        An `ImageFolder`, which `fit`, `evaluate` and `predict` take; two for `subset="both"`.
        Its images are float32 of values from 0 to 255.

    Raises:
        ValueError: If an argument has none of these values, or there are no images.
        FileNotFoundError: If the folder does not exist.
    """
    root = Path(directory)
    if not root.is_dir():
        raise FileNotFoundError(f"Expected directory to be a folder. Received: directory={str(directory)!r}")
    for name, value, allowed in (("label_mode", label_mode, _LABEL_MODES), ("color_mode", color_mode, tuple(_MODES)),
                                 ("interpolation", interpolation, tuple(_INTERPOLATIONS))):
        if value not in allowed:
            raise ValueError(f"Expected {name} to be one of {allowed}. Received: {name}={value!r}")
    inferred = isinstance(labels, str)
    if inferred and labels != "inferred":
        raise ValueError(f"Expected labels to be 'inferred', a list, or None. Received: labels={labels!r}")
    share = _checked_split(validation_split, subset)
    names = _classes(root, class_names) if inferred else []
    paths, ids = _files(root, names if inferred else None, check_flag(follow_links, "follow_links"))
    if not paths:
        raise ValueError(f"Expected images ({', '.join(SUFFIXES)}) in directory. "
                         f"Received: directory={str(directory)!r} without any")
    if not inferred and labels is not None:
        ids, names = _given_labels(labels, len(paths), class_names)
    known = ids if (inferred or labels is not None) and label_mode is not None else None
    if label_mode == "binary" and known is not None and len(names) != 2:
        raise ValueError(f"Expected two classes for label_mode='binary'. Received: {names}")
    if verbose:
        print(f"Found {len(paths)} files" + (f" belonging to {len(names)} classes." if names else "."))
    key = default_seed() if seed is None else check_integer(seed, "seed", 0)
    size = standardize_pair(image_size, "image_size")
    settings = (label_mode, color_mode, None if batch_size is None else check_integer(batch_size, "batch_size"),
                size, check_flag(shuffle, "shuffle"), key, interpolation,
                check_flag(crop_to_aspect_ratio, "crop_to_aspect_ratio"))

    def of(rows: np.ndarray) -> ImageFolder:
        return ImageFolder([paths[row] for row in rows.tolist()], None if known is None else known[rows], names,
                           *settings)

    order = np.arange(len(paths))
    if share is None:
        return of(order)
    np.random.default_rng(key).shuffle(order)
    cut = len(order) - int(share * len(order))
    if cut in (0, len(order)):
        raise ValueError(f"Expected enough images to set a part apart. Received: {len(order)} images, "
                         f"validation_split={validation_split!r}")
    if verbose:
        print(f"Using {cut} files for training and {len(order) - cut} for validation.")
    parts = {"training": of(order[:cut]), "validation": of(order[cut:])}
    return tuple(parts.values()) if subset == "both" else parts[str(subset)]


def _checked_split(validation_split: float | None, subset: str | None) -> float | None:
    if (validation_split is None) != (subset is None) or subset not in (None, "training", "validation", "both"):
        raise ValueError("Expected validation_split together with subset='training', 'validation' or 'both'. "
                         f"Received: validation_split={validation_split!r}, subset={subset!r}")
    if validation_split is None:
        return None
    share = check_number(validation_split, "validation_split", 0.0, 1.0, exclusive=True)
    if share == 0:
        raise ValueError(f"Expected validation_split to be in (0, 1). Received: {validation_split!r}")
    return share


def _classes(root: Path, class_names: Sequence[str] | None) -> list[str]:
    found = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if class_names is None:
        return found
    names = list(class_names)
    if set(names) - set(found) or len(set(names)) != len(names):
        raise ValueError(f"Expected class_names to be folders in directory, of {found}. "
                         f"Received: class_names={names}")
    return names


def _files(root: Path, names: list[str] | None, follow_links: bool) -> tuple[list[str], np.ndarray]:
    """Paths and class numbers, class by class and by name; no classes: all files below the folder."""
    paths: list[str] = []
    ids: list[int] = []
    for number, top in enumerate([root] if names is None else [root / name for name in names]):
        below = sorted(os.path.join(folder, file) for folder, _, files in os.walk(top, followlinks=follow_links)
                       for file in files if file.lower().endswith(SUFFIXES))
        paths += below
        ids += [number] * len(below)
    return paths, np.array(ids, np.int32)


def _given_labels(labels: Any, count: int, class_names: Sequence[str] | None) -> tuple[np.ndarray, list[str]]:
    ids = np.asarray(labels)
    if ids.shape != (count,) or ids.dtype.kind not in "iu" or ids.size and ids.min() < 0:
        raise ValueError(f"Expected labels to be {count} whole numbers from 0, one a file. "
                         f"Received: {ids.dtype} of shape {ids.shape}")
    names = [str(number) for number in range(int(ids.max()) + 1)] if class_names is None else list(class_names)
    if len(names) <= ids.max():
        raise ValueError(f"Expected a name for every class up to {ids.max()}. Received: class_names={names}")
    return ids.astype(np.int32), names
