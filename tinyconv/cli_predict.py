"""The command line's `evaluate` and `predict`: from files to what a model thinks of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyconv import layers
from tinyconv.cli_arguments import parse_positive
from tinyconv.cli_data import add_data_options, describe, load_images
from tinyconv.image import batch
from tinyconv.image_input import FITS, ImageInput
from tinyconv.metrics import confusion_matrix, sparse_top_k_categorical_accuracy
from tinyconv.models import Sequential, load_model

if TYPE_CHECKING:
    import argparse

__all__ = ["add_evaluate_options", "add_predict_options", "evaluate", "input_settings", "predict", "read_picture"]

_TOP = 5

# Formats of Pillow's that need no other program.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# As large as a JPEG file can be.
_MAX_SIDE = 65_535


def add_evaluate_options(sub: argparse.ArgumentParser) -> None:
    """The arguments of `evaluate`."""
    _add_model(sub)
    add_data_options(sub)


def add_predict_options(sub: argparse.ArgumentParser) -> None:
    """The arguments of `predict`."""
    _add_model(sub)
    sub.add_argument("images", nargs="+", metavar="IMAGE", help="image file; resized to the model's input")
    sub.add_argument("--top", type=parse_positive, default=3, metavar="N", help="how many classes (default: 3)")
    sub.add_argument("--invert", action=_boolean(),
                     help="invert the images, or do not; if not given, as the model says, else where they are "
                          "dark on light and the model has one channel")
    sub.add_argument("--fit", choices=FITS, help="stretch: resize the whole image; content: cut the drawing out; "
                     "mnist: place it as MNIST's digits; if not given, as the model says, else stretch")


def _add_model(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", metavar="MODEL",
                     help="folder, or .keras, .h5 or .onnx file, of a model, or address of a model.json")
    sub.add_argument("--raw", action="store_true", help="the model takes 0 to 255, although it does not rescale")


def _boolean() -> Any:
    """An option with its opposite: --invert and --no-invert."""
    from argparse import BooleanOptionalAction

    return BooleanOptionalAction


def evaluate(arguments: argparse.Namespace) -> None:
    """Measures a model on the images held out."""
    model = load_model(arguments.model)
    images = load_images(arguments.data, arguments.limit, arguments.classes, arguments.max_per_class)
    print(describe(images, training=False))
    classes = _output_classes(model)
    if images.classes > classes:
        raise ValueError(f"Expected DATA to have at most the model's {classes} classes. "
                         f"Received: {images.classes} classes")
    names = class_names(model, arguments.model, classes)
    settings = input_settings(model, arguments)
    x = images.x_test if (settings.scale, settings.offset) == (1, 0) else settings.rescale(images.x_test)
    y = _as_labels(images.y_test, images.names, names)
    probabilities = _probabilities(model, x)
    predicted = probabilities.argmax(axis=1)
    matrix = confusion_matrix(y, predicted, classes)
    print(f"Accuracy: {matrix.trace() / len(y):.4f} ({matrix.trace()} of {len(y)} held-out images)")
    if classes > _TOP:
        among = sparse_top_k_categorical_accuracy(y, probabilities, _TOP).mean()
        print(f"Top-{_TOP} accuracy: {among:.4f}")
    print()
    _print_matrix(matrix, names)


def _print_matrix(matrix: np.ndarray, names: list[str]) -> None:
    """Accuracy of every class, and the confusion matrix, whose columns are numbered where classes have names."""
    numbers = [str(number) for number in range(len(names))]
    titles = names if names == numbers else [f"{number} {name}" for number, name in zip(numbers, names, strict=True)]
    first = max(5, *map(len, titles))
    print(f"{'class':<{first}}  accuracy  images")
    for title, row, right in zip(titles, matrix, matrix.diagonal(), strict=True):
        share = f"{right / row.sum():.4f}" if row.sum() else "-"
        print(f"{title:>{first}}  {share:>8}  {row.sum():>6}")
    width = max(len(str(matrix.max())), len(numbers[-1])) + 1
    print("\nConfusion matrix: a row for each true class, a column for each predicted one")
    print(f"{'':>{first}} " + "".join(f"{number:>{width}}" for number in numbers))
    for title, row in zip(titles, matrix, strict=True):
        print(f"{title:>{first}} " + "".join(f"{count:>{width}}" for count in row))


def predict(arguments: argparse.Namespace) -> None:
    """Names the most probable classes of image files."""
    model = load_model(arguments.model)
    classes = _output_classes(model)
    names = class_names(model, arguments.model, classes)
    shape = _image_shape(model)
    settings = input_settings(model, arguments)
    x = batch(settings(read_picture(path), shape) for path in arguments.images)
    width = max(4, *map(len, names))
    for path, row in zip(arguments.images, _probabilities(model, x), strict=True):
        print(path)
        for i in np.argsort(-row, kind="stable")[:min(arguments.top, classes)]:
            print(f"  {names[i]:>{width}}  {row[i]:.4f}")


def read_picture(path: str) -> np.ndarray:
    """An image file, uint8 (height, width, channels): grey, RGB, or RGBA where some of it may be transparent.

    A photograph that its camera was turned for is turned upright.
    """
    from PIL import ImageOps

    from tinyconv.datasets.image_files import as_array, opened_image

    with opened_image(path, formats=_FORMATS) as image:
        if max(image.size) > _MAX_SIDE:
            raise ValueError(f"Expected {path} to be at most {_MAX_SIDE} pixels wide and high. "
                             f"Received: {image.width} x {image.height}")
        transparent = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
        return as_array(ImageOps.exif_transpose(image), 4 if transparent else None)


def input_settings(model: Sequential, arguments: argparse.Namespace) -> ImageInput:
    """How pictures become inputs: as the model says, else 0 to 255 where it rescales them, else 0 to 1.

    The options --raw, --fit and --invert, where they are given, come first.
    """
    stored = model.image_input
    if stored is None:
        stored = ImageInput(scale=1.0 if isinstance(model.layers[0], layers.Rescaling) else 1 / 255)
    changes: dict[str, Any] = {"scale": 1.0, "offset": 0.0} if arguments.raw else {}
    for name in ("fit", "invert"):
        if getattr(arguments, name, None) is not None:
            changes[name] = getattr(arguments, name)
    return ImageInput(**{**stored.get_config(), **changes})


def class_names(model: Sequential, path: str, classes: int) -> list[str]:
    """The model's class names; else those of class_names.txt beside it; else numbers."""
    from tinyconv.datasets.image_set import read_names

    names = model.class_names
    if names is None:
        place = Path(path)
        names = read_names(place if place.is_dir() else place.parent)
    return names if names is not None and len(names) == classes else [str(number) for number in range(classes)]


def _as_labels(labels: np.ndarray, names: list[str], known: list[str]) -> np.ndarray:
    """Class numbers of the data as the model's, by their names where both have some."""
    numbered = [str(number) for number in range(max(len(names), len(known)))]
    if names == known or names == numbered[:len(names)] or known == numbered[:len(known)]:
        return labels.astype(np.int64)
    missing = sorted(set(names) - set(known))
    if missing:
        raise ValueError(f"Expected DATA to have classes that the model knows. Received: {', '.join(missing[:5])}")
    return np.array([known.index(name) for name in names])[labels]


def _image_shape(model: Sequential) -> tuple[int, int, int]:
    shape = _per_sample(model.input_shape)
    if len(shape) != 3 or shape[2] not in (1, 3, 4):
        raise ValueError("Expected MODEL to take images of 1, 3 or 4 channels. "
                         f"Received: input shape {shape}")
    return shape[0], shape[1], shape[2]


def _per_sample(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """A shape without the dimension of the batch, the only one that may be None."""
    return tuple(size for size in shape[1:] if size is not None)


def _output_classes(model: Sequential) -> int:
    shape = _per_sample(model.output_shape)
    if len(shape) != 1:
        raise ValueError(f"Expected MODEL to tell classes apart, with an output of one dimension. "
                         f"Received: output shape {shape}")
    return max(2, shape[0])  # one output: the probability of the second class of two


def _probabilities(model: Sequential, x: np.ndarray) -> np.ndarray:
    y: np.ndarray = model.predict(x, batch_size=512, verbose=0)
    return np.concatenate([1 - y, y], axis=1) if y.shape[1] == 1 else y
