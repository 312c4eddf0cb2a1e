"""The command line: tinyconv train, evaluate, predict, dataset, bench, info."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinyconv
from tinyconv import cli_dataset, layers, optimizers

__all__ = ["main"]

DATA_HELP = ("digits (synthetic, drawn on the spot), mnist, or a folder with a sprite: "
             "a PNG with one image a row and a file of labels")
RAW_HELP = "the model takes 0 to 255, although it does not rescale"
# Chosen on the last 10,000 of MNIST's 55,000 training images: 0.9893 of them after 4 epochs
# (mean of 8 seeds); ten epochs of batches of 128 from half this rate reach 0.9889.
ADAM_LEARNING_RATE, ADAM_BETA_2 = 0.008, 0.99
EPOCHS, BATCH_SIZE = 4, 64
# Every run, and so `evaluate` after `train`, holds the same images of a sprite out.
_SPLIT_SEED = 0

Pair = tuple[np.ndarray, np.ndarray]


class Images(NamedTuple):
    """Labelled uint8 images (N, H, W, C) and class ids, split; `description` says where they come from."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: int
    description: str


def load_images(data: str, limit: int | None = None) -> Images:
    """The images that DATA on the command line means; at most `limit` for training and for testing."""
    from tinyconv import datasets

    classes = 10
    if data == "digits":
        train, test = datasets.digits.load_data()
        description = "digits: synthetic, drawn on the spot"
    elif data == "mnist":
        train, test = datasets.mnist.load_data()
        description = "MNIST: handwritten digits"
    else:
        train, test, classes = _split_sprite(Path(data))
        description = f"the sprite in {data}"
    x, y, x_test, y_test = (array[:limit] for array in (*train, *test))
    if not len(x) or not len(x_test):
        raise ValueError(f"Expected DATA to have images for training and for testing. Received: {data}")
    if x.ndim == 3:
        x, x_test = x[..., np.newaxis], x_test[..., np.newaxis]
    return Images(x, y, x_test, y_test, classes, description)


def describe(images: Images, training: bool) -> str:
    """The line that says what is used."""
    shape = "x".join(map(str, images.x.shape[1:]))
    used = f"{len(images.x):,} for training, {len(images.x_test):,} held out" if training else (
        f"{len(images.x_test):,} held out")
    return f"Data: {images.description}; images {shape} of {images.classes} classes, {used}"


def seed_network(input_shape: tuple[int, ...], classes: int, seed: int | None) -> tinyconv.Sequential:
    """The network of the classic MNIST tutorial; 5,994 parameters for 28x28x1 and 10 classes."""
    start: dict[str, Any] = {"kernel_initializer": "variance_scaling"}
    return tinyconv.Sequential([
        layers.Input(shape=input_shape),
        layers.Rescaling(1 / 255),
        layers.Conv2D(8, 5, activation="relu", **start),
        layers.MaxPooling2D(2),
        layers.Conv2D(16, 5, activation="relu", **start),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(classes, activation="softmax", **start),
    ], name="tinyconv", seed=seed)


def make_optimizer(name: str, learning_rate: float | None) -> optimizers.Optimizer:
    """The optimizer of that name, with this command's settings where it is Adam."""
    optimizer = optimizers.get(name)
    if optimizer.kind == "adam":
        optimizer = optimizers.Adam(ADAM_LEARNING_RATE, beta_2=ADAM_BETA_2)
    if learning_rate is not None:
        optimizer.learning_rate = learning_rate
    return optimizer


def train(arguments: argparse.Namespace) -> None:
    output = Path(arguments.output)
    if output.exists() and not output.is_dir():  # better now than after the training
        raise ValueError(f"Expected --output to be a folder. Received: {arguments.output}")
    optimizer = make_optimizer(arguments.optimizer, arguments.learning_rate)

    images = load_images(arguments.data, arguments.limit)
    print(describe(images, training=True))
    model = seed_network(images.x.shape[1:], images.classes, arguments.seed)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.summary()
    rate, steps = optimizer.learning_rate, arguments.epochs * math.ceil(len(images.x) / arguments.batch_size)
    optimizer.learning_rate = optimizers.schedules.CosineDecay(rate, steps).__call__  # as a function, for now
    start = time.perf_counter()
    model.fit(images.x, images.y, batch_size=arguments.batch_size, epochs=arguments.epochs,
              verbose=1 if sys.stdout.isatty() else 2)
    seconds = time.perf_counter() - start
    optimizer.learning_rate = rate  # a number, which every format knows, and not 0 for who trains on
    loss, accuracy = np.asarray(model.evaluate(images.x_test, images.y_test, verbose=0))
    print(f"Held-out images: loss {loss:.4f}, accuracy {accuracy:.4f}")
    threads = tinyconv.get_num_threads()
    print(f"Trained in {seconds:.2f} s: {arguments.epochs * len(images.x) / seconds:,.0f} images/s "
          f"on {threads} thread{'s' * (threads > 1)}")
    model.save(output)
    print(f"Saved to {output}")


def evaluate(arguments: argparse.Namespace) -> None:
    model = tinyconv.load_model(arguments.model)
    images = load_images(arguments.data, arguments.limit)
    print(describe(images, training=False))
    classes = _output_classes(model)
    if images.classes > classes:
        raise ValueError(f"Expected DATA to have at most the model's {classes} classes. "
                         f"Received: {images.classes} classes")
    x, y = _as_input(model, images.x_test, arguments), images.y_test.astype(np.int64)
    predicted = _probabilities(model, x).argmax(axis=1)
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (y, predicted), 1)
    print(f"Accuracy: {matrix.trace() / len(y):.4f} ({matrix.trace()} of {len(y)} held-out images)\n")
    print("class  accuracy  images")
    for i, row in enumerate(matrix):
        share = f"{row[i] / row.sum():.4f}" if row.sum() else "-"
        print(f"{i:>5}  {share:>8}  {row.sum():>6}")
    width = max(len(str(matrix.max())), len(str(classes - 1))) + 1
    print("\nConfusion matrix: a row for each true class, a column for each predicted one")
    print(f"{'':>5} " + "".join(f"{i:>{width}}" for i in range(classes)))
    for i, row in enumerate(matrix):
        print(f"{i:>5} " + "".join(f"{count:>{width}}" for count in row))


def predict(arguments: argparse.Namespace) -> None:
    model = tinyconv.load_model(arguments.model)
    count = min(arguments.top, _output_classes(model))
    shape = _per_sample(model.input_shape)
    images = np.stack([_read_image(path, shape, arguments.invert) for path in arguments.images])
    probabilities = _probabilities(model, _as_input(model, images, arguments))
    for path, row in zip(arguments.images, probabilities, strict=True):
        print(path)
        for i in np.argsort(-row, kind="stable")[:count]:
            print(f"  {i:>4}  {row[i]:.4f}")


def bench(arguments: argparse.Namespace) -> None:
    from tinyconv.bench import report

    report(arguments.seconds, arguments.json)


def info(arguments: argparse.Namespace) -> None:
    tinyconv.show_config()


def _split_sprite(folder: Path) -> tuple[Pair, Pair, int]:
    """A sprite's images for training, those held out, and its number of classes.

    MNIST is split as always, 55,000 and 10,000; five sixths of another sprite, in a
    fixed random order, are for training.
    """
    from tinyconv import datasets

    if not folder.is_dir():
        raise ValueError(f"Expected DATA to be digits, mnist or a folder with a sprite. Received: {folder}")
    sprite = datasets.Sprite(folder)
    count, train_count = datasets.mnist.NUM_IMAGES, datasets.mnist.NUM_TRAIN
    if sprite.images.shape == (count, 28, 28, 1) and sprite.num_classes == 10:
        train, test = sprite[:train_count], sprite[train_count:]
    else:
        order = np.random.default_rng(_SPLIT_SEED).permutation(len(sprite))
        train, test = (sprite[part] for part in np.split(order, [len(order) * 5 // 6]))
    return (train.images, train.labels), (test.images, test.labels), sprite.num_classes


def _per_sample(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """A shape without the dimension of the batch, the only one that may be None."""
    return tuple(size for size in shape[1:] if size is not None)


def _output_classes(model: tinyconv.Sequential) -> int:
    shape = _per_sample(model.output_shape)
    if len(shape) != 1:
        raise ValueError(f"Expected MODEL to tell classes apart, with an output of one dimension. "
                         f"Received: output shape {shape}")
    return max(2, shape[0])  # one output: the probability of the second class of two


def _probabilities(model: tinyconv.Sequential, x: np.ndarray) -> np.ndarray:
    y = model.predict(x, batch_size=512, verbose=0)
    return np.concatenate([1 - y, y], axis=1) if y.shape[1] == 1 else y


def _as_input(model: tinyconv.Sequential, images: np.ndarray, arguments: argparse.Namespace) -> np.ndarray:
    """uint8 images as the model wants them: 0 to 255 where it rescales them itself, else 0 to 1."""
    if arguments.raw or isinstance(model.layers[0], layers.Rescaling):
        return images
    return images.astype(np.float32) / 255


def _read_image(path: str, shape: tuple[int, ...], invert: bool) -> np.ndarray:
    """An image file, fitted to the model's input: its size and number of channels."""
    from PIL import Image

    modes = {1: "L", 3: "RGB", 4: "RGBA"}
    if len(shape) != 3 or shape[2] not in modes:
        raise ValueError("Expected MODEL to take images of 1, 3 or 4 channels. "
                         f"Received: input shape {shape}")
    height, width, channels = shape
    try:
        with Image.open(path) as file:
            image = file.convert("RGBA")
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: {error}") from error
    if channels < 4:  # what is transparent becomes white, as on a page
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert(modes[channels]).resize((width, height), Image.Resampling.BILINEAR)
    values = np.asarray(image, np.uint8).reshape(shape)
    return 255 - values if invert else values


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer. Received: {text}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tinyconv",
                                     description="Trains and runs small convolutional networks.")
    parser.add_argument("--version", action="version", version=f"tinyconv {tinyconv.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(function: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(function.__name__, help=text, description=text,
                                  formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        sub.set_defaults(function=function)
        if function not in (bench, info):
            sub.add_argument("--threads", type=_positive, help="number of threads")
        return sub

    sub = command(train, "Train the network of the classic MNIST tutorial and save it.")
    sub.add_argument("data", nargs="?", default="digits", metavar="DATA", help=DATA_HELP)
    sub.add_argument("--epochs", type=_positive, default=EPOCHS, help="passes over the training images")
    sub.add_argument("--batch-size", type=_positive, default=BATCH_SIZE, help="images a training step")
    sub.add_argument("--optimizer", default="adam", help="adam or sgd")
    sub.add_argument("--learning-rate", type=float, help="at the start, from where it falls to 0; "
                     f"{ADAM_LEARNING_RATE} for Adam, else the optimizer's own, if not given")
    sub.add_argument("--seed", type=int, help="makes the run repeatable")
    sub.add_argument("--limit", type=_positive, help="use at most so many images of each part")
    sub.add_argument("--output", default="tinyconv-model", help="folder for the model")

    sub = command(evaluate, "Measure a model on the held-out images.")
    sub.add_argument("model", metavar="MODEL", help="folder of a model")
    sub.add_argument("data", metavar="DATA", help=DATA_HELP)
    sub.add_argument("--limit", type=_positive, help="use at most so many images")
    sub.add_argument("--raw", action="store_true", help=RAW_HELP)

    sub = command(predict, "Name the most probable classes of image files.")
    sub.add_argument("model", metavar="MODEL", help="folder of a model")
    sub.add_argument("images", nargs="+", metavar="IMAGE", help="image file; resized to the model's input")
    sub.add_argument("--top", type=_positive, default=3, help="how many classes")
    sub.add_argument("--invert", action="store_true", help="the images are dark on light, unlike the model's")
    sub.add_argument("--raw", action="store_true", help=RAW_HELP)

    text = "Say what a data set holds, or write it in another format."
    group = commands.add_parser("dataset", help=text, description=text)
    cli_dataset.add_commands(group.add_subparsers(title="commands", metavar="COMMAND", required=True), _positive)

    sub = command(bench, "Measure this machine's speed: every instruction set, one thread and all, and NumPy.")
    sub.add_argument("--seconds", type=float, default=30, help="how long, about")
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")

    command(info, "Show versions, instruction sets, threads, and why a fallback is in use.")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0, 2 for an error (one line on stderr), 130 for Ctrl-C."""
    arguments = _parser().parse_args(argv)
    try:
        if getattr(arguments, "threads", None):
            tinyconv.set_num_threads(arguments.threads)
        arguments.function(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing fails again at the end
        return 0
    except (ValueError, TypeError, OSError, MemoryError) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"tinyconv: error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("tinyconv: stopped", file=sys.stderr)
        return 130
    return 0
