"""One table of the kinds of data sets on disk: how each is recognised, read and written.

    images = datasets.read("fashion-mnist")      # a folder of IDX files
    datasets.write(images, "fashion.png")        # a sprite
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tinyconv.datasets import idx, quickdraw, trees
from tinyconv.datasets.image_set import ImageSet, read_names
from tinyconv.datasets.replace import current
from tinyconv.datasets.sprite import Sprite, find_pair
from tinyconv.datasets.write import write_sprite
from tinyconv.shapes import check_integer, describe

__all__ = ["FORMATS", "Format", "Options", "find_format", "first_file", "read", "recognise", "write"]


class Options(NamedTuple):
    """What a reader may be told; each takes what concerns it."""

    image_size: Any = None
    channels: int | None = None
    image_shape: tuple[int, ...] | None = None
    max_per_class: int = 5000


class Format(NamedTuple):
    """A kind of data set.

    Attributes:
        name: What it is called on the command line.
        title: What it is called in a sentence.
        description: For people.
        matches: Whether what is at a path is of this kind, by content and names.
        read: Reads it.
        target: Whether the name of a path to write means this kind.
        write: Writes it.
    """

    name: str
    title: str
    description: str
    matches: Callable[[Path], bool]
    read: Callable[[Path, Options], ImageSet]
    target: Callable[[Path], bool]
    write: Callable[[ImageSet, Path], None]


def _is_sprite(path: Path) -> bool:
    try:
        find_pair(path if path.is_dir() else path.parent)
    except ValueError:
        return False
    return path.is_dir() or path.suffix.lower() == ".png"


def _read_sprite(path: Path, options: Options) -> ImageSet:
    folder = path if path.is_dir() else path.parent
    image_path, label_path = find_pair(folder)
    if not path.is_dir() and path.name != image_path.name:
        raise ValueError(f"Expected {image_path}, the images of the sprite in {folder}. Received: {path}")
    sprite = Sprite(image_path, label_path, image_shape=options.image_shape)
    names = read_names(folder)
    if names is None:
        names = [str(number) for number in range(sprite.num_classes)]
    return ImageSet(sprite.images, sprite.labels, names)


def _write_sprite(images: ImageSet, path: Path) -> None:
    place: Any = path
    if path.suffix.lower() == ".png":
        first = first_file(path, "sprite")
        place = (first, first.with_name(f"{first.stem.replace('images', 'labels')}_uint8"))
    write_sprite(images.images, images.labels, place, len(images.class_names), class_names=images.class_names)


def first_file(path: Any, format: str) -> Path:
    """What `write` writes first of what it is told to write: of a sprite NAME.png it is NAME_images.png."""
    place = Path(path)
    if format != "sprite" or place.suffix.lower() != ".png":
        return place
    return place.with_name(f"{place.stem if 'images' in place.stem else f'{place.stem}_images'}.png")


def _is_quickdraw(path: Path) -> bool:
    if path.is_dir():
        return bool(quickdraw.class_files(path))
    return path.suffix.lower() in (".npy", ".ndjson")


def _csv_folder(path: Path) -> Path:
    if path.suffix.lower() == ".csv" and path.name != "labels.csv":
        raise ValueError(f"Expected a folder, or labels.csv in it, for one folder and a CSV file. Received: {path}")
    return path.parent if path.suffix.lower() == ".csv" else path


def _never(path: Path) -> bool:
    return False


# In the order in which they are tried.
FORMATS = (
    Format("sprite", "the sprite", "a PNG with one image a row and a file of labels", _is_sprite, _read_sprite,
           lambda path: path.suffix.lower() == ".png", _write_sprite),
    Format("idx", "the IDX files", "IDX files of the MNIST family, gzip or not", idx.is_idx,
           lambda path, options: idx.read_idx_set(path),
           lambda path: re.search(r"idx[134]", path.name) is not None, idx.write_idx_set),
    Format("quickdraw", "the sketches", "a file NAME.npy of bitmaps, or NAME.ndjson of strokes, a class", _is_quickdraw,
           lambda path, options: quickdraw.read_set(path, options.max_per_class), _never, quickdraw.write_set),
    Format("csv", "the images and labels", "one folder of images and a CSV file of names and labels",
           lambda path: trees.find_csv(path) is not None,
           lambda path, options: trees.read_csv_set(path, options.image_size, options.channels),
           lambda path: path.suffix.lower() == ".csv",
           lambda images, path: trees.write_csv_set(images, _csv_folder(path))),
    Format("folders", "the class folders", "a folder a class",
           lambda path: path.is_dir() and bool(trees.class_folders(path)),
           lambda path, options: trees.read_folder_set(path, options.image_size, options.channels),
           _never, trees.write_folder_set),
)


def find_format(name: str) -> Format:
    """The format of a name.

    Raises:
        ValueError: If there is none.
    """
    for kind in FORMATS:
        if kind.name == name:
            return kind
    raise ValueError(f"Expected format to be one of {', '.join(kind.name for kind in FORMATS)}. "
                     f"Received: format={describe(name)}")


def recognise(path: Path) -> Format:
    """The format of what is at a path.

    Raises:
        FileNotFoundError: If nothing is there.
        ValueError: If it is none of them.
    """
    if not current(path).exists():
        raise FileNotFoundError(f"Expected a data set. Received: {path}, which is not there")
    for kind in FORMATS:
        if kind.matches(path):
            return kind
    kinds = "; ".join(f"{kind.name}, {kind.description}" for kind in FORMATS)
    raise ValueError(f"Expected a data set ({kinds}). Received: {path}")


def read(path: Any, format: str | None = None, *, image_size: Any = None, channels: int | None = None,
         image_shape: tuple[int, ...] | None = None, max_per_class: int = 5000) -> ImageSet:
    """Loads labelled images of any kind.

    Args:
        path: A folder or a file.
        format: "sprite", "idx", "quickdraw", "csv" or "folders". Defaults to None: what it is, by its content.
        image_size: Of image files, the (height, width) to resize them to. Defaults to that of the first.
        channels: Of image files, 1, 3 or 4. Defaults to the first's: 1 if it is grey, else 3.
        image_shape: Of a sprite, (height, width, channels) of an image. Defaults to a grey square.
        max_per_class: Of Quick, Draw! files, how many sketches. Defaults to 5,000.

    Returns:
        An `ImageSet`: `images` uint8 (N, height, width, channels), `labels` int32 (N,), `class_names`.

    Raises:
        FileNotFoundError: If nothing is there.
        ValueError: If it is no data set, or damaged.
    """
    place = Path(path)
    kind = recognise(place) if format is None else find_format(format)
    options = Options(image_size, channels, image_shape, check_integer(max_per_class, "max_per_class"))
    return kind.read(place, options)


def write(images: ImageSet, path: Any, format: str | None = None) -> str:
    """Writes labelled images; complete or not at all.

    Args:
        images: An `ImageSet`.
        path: A folder, or for some formats a file: `NAME.png` for a sprite, `labels.csv`,
            `NAME-images-idx3-ubyte` or the same with `.gz`.
        format: See `read`. Defaults to None: what the path's name says, otherwise a sprite.

    Returns:
        The name of the format.

    Raises:
        FileExistsError: If the format writes a new folder, and files are there.
        ValueError: If the format cannot hold the images.
    """
    place = Path(path)
    kind = find_format(format) if format is not None else next((kind for kind in FORMATS if kind.target(place)),
                                                               FORMATS[0])
    kind.write(images, place)
    return kind.name
