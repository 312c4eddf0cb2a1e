"""The command line's `train`: from a data set to a saved model."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyconv import engine, formats, metrics, optimizers
from tinyconv.cli_arguments import parse_positive
from tinyconv.cli_data import Images, add_data_options, describe, load_images
from tinyconv.cli_networks import DIGITS, NETWORKS, SKETCH, Network

if TYPE_CHECKING:
    import argparse

    from tinyconv.models import Sequential

__all__ = ["add_options", "make_optimizer", "train"]

# Of no more classes than these the right one is always among them.
_TOP = 5


def add_options(sub: argparse.ArgumentParser) -> None:
    """The arguments of `train`."""

    def of_networks(setting: str) -> str:
        return ", ".join(f"{getattr(network, setting)} for {network.name}" for network in NETWORKS.values())

    add_data_options(sub, default="digits")
    titles = "; ".join(f"{network.name}: {network.title}" for network in NETWORKS.values())
    sub.add_argument("--network", choices=list(NETWORKS),
                     help=f"{titles} (default: {SKETCH.name} for Quick, Draw! files, else {DIGITS.name})")
    sub.add_argument("--epochs", type=parse_positive, metavar="N",
                     help=f"passes over the training images (default: {of_networks('epochs')})")
    sub.add_argument("--batch-size", type=parse_positive, metavar="N",
                     help=f"images a training step (default: {of_networks('batch_size')})")
    sub.add_argument("--optimizer", default="adam", metavar="NAME", help="adam, sgd, ... (default: %(default)s)")
    sub.add_argument("--learning-rate", type=float, metavar="RATE", help="the highest, from where it falls to 0 "
                     f"(default: Adam's {of_networks('learning_rate')}; else the optimizer's own)")
    sub.add_argument("--seed", type=int, metavar="N", help="makes the run repeatable")
    sub.add_argument("--output", default="tinyconv-model", metavar="PATH",
                     help="folder, or .keras, .h5 or .onnx file, for the model (default: %(default)s)")


def train(arguments: argparse.Namespace) -> None:
    """Trains a network and saves it."""
    output = Path(arguments.output)
    try:
        formats.check_save_path(output)  # better now than after the training
    except ValueError as error:
        raise ValueError(f"--output: {error}") from None
    images = load_images(arguments.data, arguments.limit, arguments.classes, arguments.max_per_class)
    if images.classes < 2:
        raise ValueError(f"Expected DATA to have at least 2 classes to tell apart. Received: {arguments.data}")
    network = NETWORKS[arguments.network or (SKETCH if images.kind == "sketches" else DIGITS).name]
    model = network.build(images.x.shape[1:], images.classes, arguments.seed)
    model.compile(make_optimizer(network, arguments.optimizer, arguments.learning_rate),
                  "sparse_categorical_crossentropy", metrics=_metrics(images.classes))
    print(describe(images, training=True))
    model.summary()
    epochs, batch_size = arguments.epochs or network.epochs, arguments.batch_size or network.batch_size
    seconds = _fit(model, images, epochs, batch_size, network.warmup)
    figures = model.evaluate(images.x_test, images.y_test, verbose=0, return_dict=True)
    assert isinstance(figures, dict)
    order = [(name, figures[name]) for name in model.metrics_names]
    print("Held-out images: " + ", ".join(f"{name.replace('_', '-')} {value:.4f}" for name, value in order))
    threads = engine.get_num_threads()
    print(f"Trained in {seconds:.2f} s: {epochs * len(images.x) / seconds:,.0f} images/s "
          f"on {threads} thread{'s' * (threads > 1)}")
    model.class_names, model.image_input = images.names, images.image_input()
    model.save(output)
    print(f"Saved to {output}")


def make_optimizer(network: Network, name: str, learning_rate: float | None) -> optimizers.Optimizer:
    """The optimizer of that name, with the network's settings where it is Adam."""
    optimizer = optimizers.get(name)
    if optimizer.kind == "adam":
        optimizer = optimizers.Adam(network.learning_rate, beta_2=network.beta_2)
    if learning_rate is not None:
        optimizer.learning_rate = learning_rate
    return optimizer


def _metrics(classes: int) -> list[Any]:
    among = metrics.SparseTopKCategoricalAccuracy(_TOP, name=f"top_{_TOP}")
    return ["accuracy", among] if classes > _TOP else ["accuracy"]


def _fit(model: Sequential, images: Images, epochs: int, batch_size: int, warmup: float) -> float:
    """Trains; the rate rises for a share of the steps, then falls along half a cosine wave.  Returns the seconds."""
    optimizer = model.optimizer
    rate, steps = optimizer.learning_rate, epochs * math.ceil(len(images.x) / batch_size)
    rising = int(warmup * steps)
    schedule = optimizers.schedules.CosineDecay(0.0, steps - rising, warmup_target=rate, warmup_steps=rising)
    optimizer.learning_rate = schedule.__call__  # as a function, for now
    start = time.perf_counter()
    model.fit(images.x, images.y, batch_size=batch_size, epochs=epochs, verbose=1 if sys.stdout.isatty() else 2)
    seconds = time.perf_counter() - start
    optimizer.learning_rate = rate  # a number, which every format knows, and not 0 for who trains on
    return seconds
