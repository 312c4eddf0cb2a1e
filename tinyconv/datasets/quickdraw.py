"""Quick, Draw!, sketches of 345 classes by Google's players: bitmaps (NAME.npy), or strokes (NAME.ndjson).

    data = datasets.quickdraw.load("quickdraw", classes=["cat", "dog"])
    (x_train, y_train), (x_test, y_test), class_names = data

The bitmaps are white on black, 28 x 28.  The data set is Google's (CC BY 4.0),
https://github.com/googlecreativelab/quickdraw-dataset.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinyconv.datasets import strokes
from tinyconv.datasets.download import cache_folder, download
from tinyconv.datasets.image_set import ImageSet
from tinyconv.datasets.replace import current, file_names, replace_all
from tinyconv.formats.npy import read_header
from tinyconv.image_input import check_class_names
from tinyconv.shapes import check_integer, describe
from tinyconv.utils import check_number

__all__ = ["BITMAPS_URL", "QuickDraw", "class_files", "fetch", "load", "open_bitmaps", "read_set", "write_set"]

BITMAPS_URL = "https://storage.googleapis.com/quickdraw_dataset/full/numpy_bitmap/"
SIDE = 28
# What the files of the bucket are called where it is copied as it is.
_PREFIXES = ("full_numpy_bitmap_", "full_simplified_", "full_raw_")
_SUFFIXES = (".npy", ".ndjson")  # in this order: bitmaps are quicker to read
_CLASS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 '.-]{0,80}")
_MAX_DOWNLOAD = 1 << 30

Arrays = tuple[np.ndarray, np.ndarray]


class QuickDraw(NamedTuple):
    """What `load` returns."""

    train: Arrays
    test: Arrays
    class_names: list[str]


def load(folder: Any = None, classes: Sequence[str] | None = None, max_per_class: int = 5000,
         test_split: float = 0.2, seed: int = 0) -> QuickDraw:
    """Loads sketches from a folder with a file a class.

    The files are mapped into memory: of each only the sketches that are asked for are read.

    Args:
        folder: Folder with `NAME.npy`, or `NAME.ndjson`, whose drawings, simplified or raw, are drawn as
            bitmaps (`datasets.strokes`). Defaults to None: the folder `quickdraw` of the cache, into which
            the bitmaps of `classes` are downloaded where they are missing.
        classes: Names of classes, in the order of their numbers. Defaults to None: all of the folder, by name.
        max_per_class: Sketches of a class, the first ones of its file. Defaults to 5,000.
        test_split: Share of every class, in [0, 1), to hold out. Defaults to 0.2.
        seed: What the order, and the choice of those held out, follow from. Defaults to 0. Of a class the
            same sketches are held out whatever other classes are loaded.

    Returns:
        `(x_train, y_train), (x_test, y_test), class_names`: uint8 (N, 28, 28), white on black, and
        int32 (N,), in random order; and the list of names.

    Raises:
        ValueError: If a class is not there, or a file is damaged.
        OSError: If a file cannot be read or downloaded.
    """
    limit = check_integer(max_per_class, "max_per_class")
    share = check_number(test_split, "test_split", 0, 1, exclusive=True)
    seed = check_integer(seed, "seed", 0)
    if folder is None:
        if classes is None:
            raise ValueError("Expected classes to download, or a folder. Received: folder=None, classes=None")
        folder = fetch(classes)
    parts = _open_all(Path(folder), classes, limit)
    held_out = [_held_out(len(images), share, [seed, *name.encode()]) for name, images in parts.items()]
    random = np.random.default_rng(seed)
    test = _gather(list(parts.values()), held_out, random)
    train = _gather(list(parts.values()), [~mask for mask in held_out], random)
    return QuickDraw(train, test, list(parts))


def _held_out(count: int, share: float, seed: Sequence[int]) -> np.ndarray:
    """Which of so many sketches are held out: bool (count,)."""
    return np.random.default_rng(seed).permutation(count) < int(count * share)


def _gather(parts: list[np.ndarray], masks: list[np.ndarray], random: np.random.Generator) -> Arrays:
    """Images (N, 28, 28) that the masks choose and their class numbers, in random order."""
    sizes = [int(mask.sum()) for mask in masks]
    places = np.split(random.permutation(sum(sizes)), np.cumsum(sizes)[:-1])
    x, y = np.empty((sum(sizes), SIDE, SIDE), np.uint8), np.empty(sum(sizes), np.int32)
    for number, (part, mask, place) in enumerate(zip(parts, masks, places, strict=True)):
        x[place], y[place] = part[mask], number
    return x, y


def read_set(path: Path, max_per_class: int = 5000) -> ImageSet:
    """The sketches of a folder, or of a single file, class by class in the order of the files."""
    if path.is_dir():
        parts = _open_all(path, None, max_per_class)
    else:
        parts = {_class_of(path): _open(path, max_per_class)}
    labels = np.repeat(np.arange(len(parts)), [len(part) for part in parts.values()])
    images = np.concatenate(list(parts.values()))
    return ImageSet(images, labels, list(parts))


def write_set(images: ImageSet, folder: Path) -> None:
    """Writes bitmaps as the data set has them, `NAME.npy` with rows of 784 bytes for every class that has images.

    Raises:
        ValueError: If images have another size, or a class name cannot be a file's.
    """
    if images.images.shape[1:] != (SIDE, SIDE, 1):
        raise ValueError(f"Expected images of {SIDE}x{SIDE}x1 for Quick, Draw! bitmaps. "
                         f"Received: {'x'.join(map(str, images.images.shape[1:]))}")
    files: list[Any] = []
    for number in np.flatnonzero(images.counts()).tolist():
        name = images.class_names[number]
        if not _CLASS_NAME.fullmatch(name):
            raise ValueError(f"Expected class names that can be names of files. Received: {describe(name)}")
        rows = images.images[images.labels == number].reshape(-1, SIDE * SIDE)
        files.append((folder / f"{name}.npy",
                      lambda file, rows=rows: np.lib.format.write_array(file, rows, allow_pickle=False)))
    replace_all(files)


# --- files ---


def class_files(folder: Path) -> dict[str, Path]:
    """The file of every class of a folder, by name.

    Raises:
        ValueError: If it is no folder, or holds no such file.
    """
    if not folder.is_dir():
        raise ValueError(f"Expected folder to hold Quick, Draw! files, NAME.npy. Received: {folder}, no folder")
    found: dict[str, Path] = {}
    there = file_names(folder)
    for suffix in _SUFFIXES:
        for name in there:
            if name.endswith(suffix):
                found.setdefault(_class_of(folder / name), folder / name)
    return dict(sorted(found.items()))


def _class_of(path: Path) -> str:
    name = path.stem
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _open_all(folder: Path, classes: Sequence[str] | None, limit: int) -> dict[str, np.ndarray]:
    files = class_files(folder)
    names = list(files) if classes is None else check_class_names(classes)
    missing = [name for name in names if name not in files]
    if missing or not names:
        what = f"no file of {describe(missing)}" if missing else "none"
        raise ValueError(f"Expected a file NAME.npy or NAME.ndjson of every class in {folder}. Received: {what}")
    return {name: _open(files[name], limit) for name in names}


def _open(path: Path, limit: int) -> np.ndarray:
    """The first sketches of a file: uint8 (at most limit, 28, 28)."""
    if path.suffix.lower() == ".npy":
        return open_bitmaps(current(path))[:limit]
    images = strokes.read_bitmaps(current(path), SIDE, limit)
    if not len(images):
        raise ValueError(f"Expected {path} to hold drawings. Received: an empty file")
    return images


def open_bitmaps(path: Any) -> np.ndarray:
    """Maps the bitmaps of a class into memory.

    Args:
        path: An .npy file, uint8 (N, 784) or (N, 28, 28).

    Returns:
        A read-only `numpy.memmap` of shape (N, 28, 28).

    Raises:
        ValueError: If the file holds something else, or is not as long as its header says.
        OSError: If it cannot be opened.
    """
    with open(path, "rb") as file:
        shape, by_columns, dtype = read_header(file, str(path))
        offset, size = file.tell(), file.seek(0, 2)
        # Compared before it is mapped: who reads beyond the end of a file is killed.
        if dtype != np.uint8 or by_columns or len(shape) not in (2, 3) or shape[0] < 1 \
                or shape[1:] not in ((SIDE * SIDE,), (SIDE, SIDE)):
            raise ValueError(f"Expected {path} to hold uint8 bitmaps of shape (N, {SIDE * SIDE}). "
                             f"Received: {dtype} of shape {describe(shape)}")
        if math.prod(shape) != size - offset:
            raise ValueError(f"Expected {path} to hold the {math.prod(shape)} bytes of its shape {shape}. "
                             f"Received: {size - offset} bytes")
    return np.memmap(path, np.uint8, "r", offset, (shape[0], SIDE, SIDE))


def fetch(classes: Sequence[str], folder: Any = None, sha256: dict[str, str] | None = None,
          url: str = BITMAPS_URL, progress: bool = True) -> Path:
    """Downloads the bitmaps of classes, 50 to 300 MB each.

    A file that is there already, and whole, is not loaded again. What arrives is compared with the MD5
    that the server states, with `sha256`, and with the format.

    Args:
        classes: Names, such as "cat" and "The Eiffel Tower".
        folder: Where to. Defaults to None: the folder `quickdraw` of the cache (TINYCONV_CACHE, or
            `~/.cache/tinyconv`).
        sha256: The SHA-256 of some classes' files, by name. Defaults to none.
        url: Where `NAME.npy` is. Defaults to Google's bucket.
        progress: Whether to show progress on stderr. Defaults to True.

    Returns:
        The folder.

    Raises:
        ValueError: If a name is none, or a file is not what it should be.
        DownloadError: An OSError: if a file cannot be downloaded.
    """
    from urllib.parse import quote

    target = cache_folder() / "quickdraw" if folder is None else Path(folder)
    names = check_class_names(classes)
    for name in names:
        if not _CLASS_NAME.fullmatch(name):
            raise ValueError(f"Expected names of Quick, Draw! classes. Received: {describe(name)}")
    for name in names:
        path = target / f"{name}.npy"
        checksum = (sha256 or {}).get(name)
        if checksum is None and path.exists():
            open_bitmaps(path)
            continue
        download(f"{url}{quote(name)}.npy", path, checksum, _MAX_DOWNLOAD, progress=progress)
        try:
            open_bitmaps(path)
        except ValueError:
            path.unlink()  # else it would stay in the way
            raise
    return target
