"""The command line's DATA: what it means, how it is split, and what pictures like it become."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tinyconv.cli_arguments import parse_names, parse_positive
from tinyconv.cli_dataset import IN_HELP
from tinyconv.image import is_dark_on_light
from tinyconv.image_input import ImageInput

if TYPE_CHECKING:
    import argparse

__all__ = ["Images", "add_data_options", "describe", "load_images"]

# Every run, and so `evaluate` after `train`, holds the same images of a data set out.  Of sketches they are those
# of `quickdraw.load` by default.
_SPLIT_SEED, _SKETCHES_HELD_OUT = 0, 0.2
# How pictures are placed for a model of such images (see `ImageInput`).
_FITS = {"digits": "mnist", "sketches": "content", "images": "stretch"}

Pair = tuple[np.ndarray, np.ndarray]


def add_data_options(sub: argparse.ArgumentParser, default: str | None = None) -> None:
    """DATA, optional where it has a default, and which images of it are taken."""
    text = ("digits (synthetic, drawn on the spot), mnist, quickdraw (with --classes, which are downloaded), or "
            f"the path of {IN_HELP}")
    if default is None:
        sub.add_argument("data", metavar="DATA", help=text)
    else:
        sub.add_argument("data", nargs="?", default=default, metavar="DATA", help=f"{text} (default: {default})")
    sub.add_argument("--classes", type=parse_names, metavar="NAME,...", help="classes of sketches; all if not given")
    sub.add_argument("--max-per-class", type=parse_positive, default=5000, metavar="N",
                     help="sketches of a class (default: %(default)s)")
    sub.add_argument("--limit", type=parse_positive, metavar="N",
                     help="use at most so many images for training, and so many of those held out")


class Images(NamedTuple):
    """Labelled uint8 images (N, H, W, C) and class ids, split.

    `description` says where they come from, `names` what their classes are called, `kind` is "digits",
    "sketches" or "images".
    """

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    names: list[str]
    description: str
    kind: str

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.names)

    def image_input(self) -> ImageInput:
        """How a picture becomes an input, for a model that rescales these images itself."""
        height, width, channels = self.x.shape[1:]
        # A drawing on paper is inverted for a model of bright drawings on black, and only for such a model.
        ground = self.x[:1000].mean(axis=0).reshape(height, width, channels)
        drawings = channels == 1 and not is_dark_on_light(ground)
        return ImageInput(_FITS[self.kind] if drawings else "stretch", "auto" if drawings else False)


def load_images(data: str, limit: int | None = None, classes: Sequence[str] | None = None,
                max_per_class: int = 5000) -> Images:
    """The images that DATA on the command line means.

    Args:
        data: "digits", "mnist", "quickdraw" (downloaded, `classes` only), or the path of a data set.
        limit: At most so many for training, and for testing. Defaults to None: all.
        classes: Of sketches, the classes to take. Defaults to None: all.
        max_per_class: Of sketches, how many of a class. Defaults to 5,000.
    """
    from tinyconv import datasets

    digits = [str(digit) for digit in range(10)]
    names, kind = digits, "digits"
    if data == "digits":
        train, test = datasets.digits.load_data()
        description = "digits: synthetic, drawn on the spot"
    elif data == "mnist":
        train, test = datasets.mnist.load_data()
        description = "MNIST: handwritten digits"
    elif data == "quickdraw" and not Path(data).exists():
        if classes is None:
            raise ValueError("Expected --classes with quickdraw, those to download, such as --classes cat,dog. "
                             "Received: none")
        train, test, names = datasets.quickdraw.load(None, classes, max_per_class, _SKETCHES_HELD_OUT,
                                                        _SPLIT_SEED)
        description, kind = "Quick, Draw!: sketches", "sketches"
    else:
        train, test, names, title, kind = _load_path(Path(data), classes, max_per_class)
        description = f"{title} in {data}"
    if classes is not None and names != list(classes):
        raise ValueError(f"Expected --classes with sketches, a file NAME.npy or NAME.ndjson a class. Received: {data}")
    x, y, x_test, y_test = (array[:limit] for array in (*train, *test))
    if not len(x) or not len(x_test):
        raise ValueError(f"Expected DATA to have images for training and for testing. Received: {data}")
    if x.ndim == 3:
        x, x_test = x[..., np.newaxis], x_test[..., np.newaxis]
    return Images(x, y, x_test, y_test, names, description, kind)


def _load_path(path: Path, classes: Sequence[str] | None,
               max_per_class: int) -> tuple[Pair, Pair, list[str], str, str]:
    """The images for training, those held out, class names, what it is, and of which kind (see `Images`).

    MNIST, and what has a part for testing, is split as always; of every class of sketches a fifth is held
    out; of other data sets five sixths, in a fixed random order, are for training.
    """
    from tinyconv.datasets import mnist, quickdraw, registry

    if not path.exists():
        raise ValueError(f"Expected DATA to be digits, mnist, quickdraw or the path of a data set. Received: {path}")
    kind = registry.recognise(path)
    if kind.name == "quickdraw" and path.is_dir():
        train, test, names = quickdraw.load(path, classes, max_per_class, _SKETCHES_HELD_OUT, _SPLIT_SEED)
        return train, test, names, kind.title, "sketches"
    images = registry.read(path, kind.name, max_per_class=max_per_class)
    is_mnist = images.images.shape == (mnist.NUM_IMAGES, 28, 28, 1) and len(images.class_names) == 10
    cut = mnist.NUM_TRAIN if is_mnist else images.num_train
    rows: Sequence[slice | np.ndarray]
    if cut is not None:
        rows = [slice(cut), slice(cut, None)]
    else:
        order = np.random.default_rng(_SPLIT_SEED).permutation(len(images))
        rows = np.split(order, [len(order) * 5 // 6])
    train, test = ((images.images[part], images.labels[part]) for part in rows)
    return train, test, images.class_names, kind.title, "digits" if is_mnist else "images"


def describe(images: Images, training: bool) -> str:
    """The line that says what is used."""
    shape = "x".join(map(str, images.x.shape[1:]))
    used = f"{len(images.x):,} for training, {len(images.x_test):,} held out" if training else (
        f"{len(images.x_test):,} held out")
    return f"Data: {images.description}; images {shape} of {images.classes} classes, {used}"
