"""Data sets of single image files: a folder a class, or one folder and a CSV file of labels."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv.datasets.image_files import SUFFIXES, as_array, opened_image
from tinyconv.datasets.image_set import NAMES_FILE, ImageSet, encode_names, read_names
from tinyconv.datasets.png import MAX_BYTES, write_png
from tinyconv.formats.guard import FormatError, open_inside, shorten
from tinyconv.formats.temporary import remove_abandoned, temporary_folder
from tinyconv.image import resize_area
from tinyconv.shapes import describe, standardize_pair

__all__ = ["class_folders", "find_csv", "read_csv_set", "read_folder_set", "write_csv_set", "write_folder_set"]

_MAX_CSV_BYTES = 32 << 20
_MAX_ROWS = 1 << 20
_MAX_LINE = 1 << 18
_SHOWN_NAME = 120
_FILE_COLUMNS = ("filename", "file", "image", "path", "file_name", "image_path", "name")
_LABEL_COLUMNS = ("label", "class", "category", "target", "y")
# Class names that are no names of folders: on some system they mean something else.
_BAD_FOLDER = re.compile(r'[/\\:*?"<>|]|^\.|[. ]$|^$')


# --- reading ---


def class_folders(root: Path) -> list[str]:
    """The folders of a folder that hold images, by name."""
    return sorted(entry.name for entry in root.iterdir()
                  if entry.is_dir() and not entry.name.startswith(".") and _images_of(entry))


def _images_of(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder)
                  if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".") and entry.is_file())


def read_folder_set(root: Path, image_size: Any = None, channels: int | None = None) -> ImageSet:
    """Loads the images of a folder with a folder a class.

    The classes are numbered by name, or as `class_names.txt` has them where it names every folder; names
    in it that no folder has are classes without images.

    Args:
        root: The folder. Nothing outside of it is read.
        image_size: (height, width), or one number for both, to which images are resized by area.
            Defaults to None: all have the size of the first one.
        channels: 1, 3 or 4. Defaults to None: 1 where the first image is grey, else 3.

    Raises:
        ValueError: If there are no images, a folder is a link, or an image is damaged or has another size.
    """
    found = class_folders(root)
    if not found:
        raise ValueError(f"Expected folders with images ({', '.join(SUFFIXES)}) in {root}. Received: none")
    for name in found:
        if (root / name).is_symlink():
            raise ValueError(f"Expected the classes of {root} to be folders. Received: {describe(name)}, a link")
    names = read_names(root)
    if names is None or not set(found) <= set(names):
        names = found
    # Only what is in the folder is read: a line of class_names.txt could be a path to anywhere.
    present = set(found)
    files = [(f"{name}/{file}", label) for label, name in enumerate(names) if name in present
             for file in _images_of(root / name)]
    images = _read_all([(root, file) for file, _ in files], image_size, channels)
    return ImageSet(images, np.array([label for *_, label in files]), names)


def find_csv(path: Path) -> Path | None:
    """The CSV file that a path means: itself, or the only one of a folder."""
    if path.is_file():
        return path if path.suffix.lower() == ".csv" else None
    found = sorted(path.glob("*.csv")) if path.is_dir() else []
    return found[0] if len(found) == 1 else None


def read_csv_set(path: Path, image_size: Any = None, channels: int | None = None) -> ImageSet:
    """Loads the images that a CSV file names.

    Each row has a file and a label; a first row may say which column is which (`filename`, `label`, ...).
    Files are relative to the folder of the CSV file or to one folder in it, and never outside of it.
    Labels that are all whole numbers are class numbers; others are names, numbered in their order, or
    as `class_names.txt` beside the CSV file has them.

    Args:
        path: The CSV file, or a folder with a single one.
        image_size, channels: See `read_folder_set`.

    Raises:
        ValueError: If a row does not fit, or a file is missing, damaged or outside of the folder.
    """
    table = find_csv(path)
    if table is None:
        raise ValueError(f"Expected a CSV file, or a folder with a single one. Received: {path}")
    rows = _read_rows(table)
    labels, names = _as_labels([label for _, label in rows], read_names(table.parent), table)
    base = _base_of(table.parent, rows[0][0])
    images = _read_all([(table.parent, base + file) for file, _ in rows], image_size, channels)
    return ImageSet(images, labels, names)


def _read_rows(table: Path) -> list[tuple[str, str]]:
    """The pairs (file, label)."""
    file, size = open_inside(table.parent, table.name, str(table), "its folder")
    with file:
        if size > _MAX_CSV_BYTES:
            raise ValueError(f"Expected {table} to have at most {_MAX_CSV_BYTES} bytes. Received: {size} bytes")
        rows: list[tuple[str, str]] = []
        columns = (0, 1)
        try:
            text = io.TextIOWrapper(io.BufferedReader(file), "utf-8-sig", newline="")
            for number, row in enumerate(csv.reader(_lines(text))):
                if number > 2 * _MAX_ROWS:  # empty ones are counted, too
                    raise ValueError(f"more than {_MAX_ROWS} rows")
                if number == 0 and (named := _named_columns(row)):
                    columns = named
                elif row:
                    if len(row) <= max(columns):
                        raise ValueError(f"{describe(row)} in row {number + 1}")
                    if len(rows) == _MAX_ROWS:
                        raise ValueError(f"more than {_MAX_ROWS} rows")
                    rows.append((row[columns[0]].strip(), row[columns[1]].strip()))
        except UnicodeDecodeError:
            raise ValueError(f"Expected {table} to be UTF-8 text. Received: something else") from None
        except (csv.Error, ValueError) as error:
            raise ValueError(f"Expected {table} to have a file and a label in every row. "
                             f"Received: {error}") from None
    if not rows:
        raise ValueError(f"Expected {table} to have a file and a label in every row. Received: no rows")
    return rows


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    """The lines of a text, none so long that it becomes many fields."""
    while line := text.readline(_MAX_LINE + 1):
        if len(line) > _MAX_LINE:
            raise ValueError(f"a line of more than {_MAX_LINE} characters")
        yield line


def _named_columns(row: Sequence[str]) -> tuple[int, int] | None:
    titles = [title.strip().lower() for title in row]
    files = [titles.index(title) for title in _FILE_COLUMNS if title in titles]
    labels = [titles.index(title) for title in _LABEL_COLUMNS if title in titles]
    return (files[0], labels[0]) if files and labels else None


def _as_labels(texts: list[str], names: list[str] | None, table: Path) -> tuple[np.ndarray, list[str] | None]:
    """Class numbers, and the names of the classes."""
    unique = sorted(set(texts))
    if names is None and all(re.fullmatch("[0-9]{1,5}", text) for text in unique):
        return np.array([int(text) for text in texts]), None
    names = unique if names is None else names
    numbers = {name: number for number, name in enumerate(names)}
    unknown = [text for text in unique if text not in numbers]
    if unknown:
        raise ValueError(f"Expected the labels of {table} to be names of {NAMES_FILE}. "
                         f"Received: {describe(unknown[0])}")
    return np.array([numbers[text] for text in texts]), names


def _base_of(folder: Path, name: str) -> str:
    """The folder within `folder` that file names are relative to: "" or one that has the first of them."""
    inner = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    for base in ("", *(f"{entry}/" for entry in inner)):
        with suppress(FormatError):
            open_inside(folder, base + name, name, "its folder")[0].close()
            return base
    return ""  # what is wrong with the name is said when it is opened


def _read_all(files: Sequence[tuple[Path, str]], image_size: Any, channels: int | None) -> np.ndarray:
    """The images of files, each named within a folder: uint8 (N, height, width, channels)."""
    if channels not in (None, 1, 3, 4):
        raise ValueError(f"Expected channels to be 1, 3 or 4. Received: channels={describe(channels)}")
    size = None if image_size is None else standardize_pair(image_size, "image_size")
    out: np.ndarray | None = None
    # A file that is named again, by whatever name, is not read again.
    read: dict[object, int] = {}
    for row, (folder, name) in enumerate(files):
        if out is not None and (folder, name) in read:
            out[row] = out[read[folder, name]]
            continue
        what = str(folder / (name if len(name) <= _SHOWN_NAME and name.isprintable() else shorten(name)))
        file, _ = open_inside(folder, name, what, "its folder")
        status = os.fstat(file.fileno())
        place = (status.st_dev, status.st_ino)
        if out is not None and status.st_ino and place in read:
            file.close()
            out[row] = out[read[place]]
            continue
        with file, opened_image(what, file) as image:
            pixels = as_array(image, channels)
        read[place] = read[folder, name] = row
        if size is not None and pixels.shape[:2] != size:
            pixels = np.rint(resize_area(pixels, size)).astype(np.uint8)
        if out is None:  # only now: the first image is as large as it says
            channels = pixels.shape[2]
            if len(files) * pixels.size > MAX_BYTES:
                raise ValueError(f"Expected images that take at most {MAX_BYTES} bytes. "
                                 f"Received: {len(files)} of {pixels.shape}")
            out = np.empty((len(files), *pixels.shape), np.uint8)
        elif pixels.shape != out.shape[1:]:
            raise ValueError(f"Expected images of one size, {out.shape[1:]}, or an image_size to resize them to. "
                             f"Received: {what} of {pixels.shape}")
        out[row] = pixels
    assert out is not None
    return out


# --- writing ---


def write_folder_set(images: ImageSet, root: Path) -> None:
    """Writes a new folder with a folder a class, PNG files, and `class_names.txt`.

    Args:
        images: What to write; every class name must be usable as a folder's.
        root: The folder, which must not be there, or be empty.

    Raises:
        ValueError: If a class name cannot be a folder's, or there is something already.
    """
    bad = [name for name in images.class_names if _BAD_FOLDER.search(name)]
    if bad:
        raise ValueError(f"Expected class names that can be folders. Received: {describe(bad[0])}")

    def write(folder: Path) -> None:
        for name in images.class_names:
            (folder / name).mkdir()
        _write_images(images, (folder / images.class_names[label] for label in images.labels.tolist()))

    _write_folder(root, images.class_names, write)


def write_csv_set(images: ImageSet, root: Path) -> None:
    """Writes a new folder with `labels.csv`, the images in `images/`, and `class_names.txt`.

    Args:
        images: What to write.
        root: The folder, which must not be there, or be empty.
    """

    def write(folder: Path) -> None:
        (folder / "images").mkdir()
        _write_images(images, (folder / "images" for _ in range(len(images))))
        with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("filename", "label"))
            writer.writerows((_file_name(row), images.class_names[label])
                             for row, label in enumerate(images.labels.tolist()))

    _write_folder(root, images.class_names, write)


def _file_name(row: int) -> str:
    return f"{row:06d}.png"


def _write_images(images: ImageSet, folders: Iterable[Path]) -> None:
    channels = images.images.shape[3]
    for row, folder in enumerate(folders):
        with open(folder / _file_name(row), "xb") as file:
            write_png(file, images.images[row].reshape(images.images.shape[1], -1), channels)


def _write_folder(root: Path, class_names: list[str], write: Callable[[Path], None]) -> None:
    """Lets a folder be written beside its place, then renames it: it is there as a whole or not at all."""
    with _new_folder(root) as folder:
        (folder / NAMES_FILE).write_bytes(encode_names(class_names))
        write(folder)


@contextmanager
def _new_folder(root: Path) -> Iterator[Path]:
    root = root.absolute()
    if root.is_symlink() or (root.exists() and not root.is_dir()) or (root.is_dir() and any(root.iterdir())):
        raise FileExistsError(f"Expected a folder that is new or empty. Received: {root}")
    root.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(root.parent)
    with temporary_folder(root.parent) as temporary:
        yield temporary
        if os.name == "nt" and root.is_dir():
            root.rmdir()  # it is empty; elsewhere a rename replaces it
        temporary.rename(root)
