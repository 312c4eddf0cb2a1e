"""The command line: tinyconv train, evaluate, predict, dataset, bench, info."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tinyconv
from tinyconv import cli_dataset, formats, layers, optimizers
from tinyconv.cli_data import describe, load_images
from tinyconv.cli_predict import evaluate, predict
from tinyconv.image_input import FITS

__all__ = ["main"]

DATA_HELP = ("digits (synthetic, drawn on the spot), mnist, quickdraw (with --classes, which are downloaded), or "
             f"the path of {cli_dataset.IN_HELP}")
RAW_HELP = "the model takes 0 to 255, although it does not rescale"
# Chosen on the last 10,000 of MNIST's 55,000 training images: 0.9893 of them after 4 epochs
# (mean of 8 seeds); ten epochs of batches of 128 from half this rate reach 0.9889.
ADAM_LEARNING_RATE, ADAM_BETA_2 = 0.008, 0.99
EPOCHS, BATCH_SIZE = 4, 64


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
    try:
        formats.check_save_path(output)  # better now than after the training
    except ValueError as error:
        raise ValueError(f"--output: {error}") from None
    optimizer = make_optimizer(arguments.optimizer, arguments.learning_rate)

    images = load_images(arguments.data, arguments.limit, arguments.classes, arguments.max_per_class)
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
    model.class_names, model.image_input = images.names, images.image_input()
    model.save(output)
    print(f"Saved to {output}")


def bench(arguments: argparse.Namespace) -> None:
    from tinyconv.bench import report

    report(arguments.seconds, arguments.json)


def info(arguments: argparse.Namespace) -> None:
    tinyconv.show_config()


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer. Received: {text}")
    return value


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


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
        if function in (train, evaluate):
            sub.add_argument("--classes", type=_names, metavar="NAME,...", help="classes of sketches; all if not given")
            sub.add_argument("--max-per-class", type=_positive, default=5000, help="sketches of a class")
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
    sub.add_argument("--output", default="tinyconv-model", help="folder, or .keras or .h5 file, for the model")

    sub = command(evaluate, "Measure a model on the held-out images.")
    sub.add_argument("model", metavar="MODEL", help="folder of a model")
    sub.add_argument("data", metavar="DATA", help=DATA_HELP)
    sub.add_argument("--limit", type=_positive, help="use at most so many images")
    sub.add_argument("--raw", action="store_true", help=RAW_HELP)

    sub = command(predict, "Name the most probable classes of image files.")
    sub.add_argument("model", metavar="MODEL", help="folder of a model")
    sub.add_argument("images", nargs="+", metavar="IMAGE", help="image file; resized to the model's input")
    sub.add_argument("--top", type=_positive, default=3, help="how many classes")
    sub.add_argument("--invert", action=argparse.BooleanOptionalAction,
                     help="invert the images, or do not; if not given, as the model says, else where they are "
                          "dark on light and the model has one channel")
    sub.add_argument("--fit", choices=FITS, help="stretch: resize the whole image; content: cut the drawing out; "
                     "mnist: place it as MNIST's digits; if not given, as the model says, else stretch")
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
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"tinyconv: error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("tinyconv: stopped", file=sys.stderr)
        return 130
    return 0
