"""The command line's `tinyconv dataset`: what a data set holds, and the same in another format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyconv.cli_arguments import parse_positive, parse_shape

if TYPE_CHECKING:
    import argparse

    from tinyconv.datasets import ImageSet

__all__ = ["IN_HELP", "add_commands", "convert", "info"]

_NAMES = "sprite, idx, quickdraw, csv or folders"
IN_HELP = ("a sprite (a PNG with one image a row and a file of labels), IDX files, Quick, Draw! files (NAME.npy or "
           "NAME.ndjson), a folder with a CSV file, or a folder a class")


def add_commands(commands: Any) -> None:
    """Adds `info` and `convert` to argparse's `commands`."""

    def command(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(function=function)
        sub.add_argument("data", metavar="IN", help=IN_HELP)
        sub.add_argument("--from", dest="source", metavar="FORMAT", help=f"{_NAMES}; found out if not given")
        sub.add_argument("--shape", type=parse_shape, metavar="HxW[xC]",
                         help="of an image in a sprite (a grey square if not given), or the size to which image "
                              "files are resized")
        sub.add_argument("--max-per-class", type=parse_positive, default=5000, metavar="N",
                         help="sketches of a class of Quick, Draw! (default: 5000)")
        return sub

    sub = command("info", info, "Say what a data set holds: shapes, classes and counts.")
    sub.add_argument("--sheet", metavar="FILE.png", help="write a picture with the first images of every class")
    sub.add_argument("--columns", type=parse_positive, default=16, metavar="N",
                     help="images a class on it (default: 16)")

    sub = command("convert", convert, "Write a data set in another format.")
    sub.add_argument("output", metavar="OUT", help="a folder; or NAME.png for a sprite (NAME_images.png and "
                     "NAME_labels_uint8), NAME-images-idx3-ubyte[.gz] for IDX, labels.csv for a folder and a CSV file")
    sub.add_argument("--to", metavar="FORMAT", help=f"{_NAMES}; what OUT's name says, else sprite, if not given")


def info(arguments: argparse.Namespace) -> None:
    """Says what a data set holds, and draws its sheet where one is asked for."""
    from tinyconv.datasets import sheet

    if arguments.sheet is not None and Path(arguments.sheet).suffix.lower() != ".png":
        raise ValueError(f"Expected --sheet to be a PNG file. Received: {arguments.sheet}")
    images, name = _read(arguments)
    print(f"{arguments.data}: {name}, {describe(images)}")
    if images.num_train is not None:
        print(f"{images.num_train:,} for training, {len(images) - images.num_train:,} for testing")
    width = max(map(len, images.class_names))
    for class_name, count in zip(images.class_names, images.counts().tolist(), strict=True):
        print(f"  {class_name:<{width}}  {count:>8,}")
    if arguments.sheet is not None:
        sheet.write_sheet(images, Path(arguments.sheet), arguments.columns)
        print(f"Wrote {arguments.sheet}")


def convert(arguments: argparse.Namespace) -> None:
    """Reads a data set and writes it in another format."""
    from tinyconv.datasets import registry

    source, target = (Path(place).resolve() for place in (arguments.data, arguments.output))
    # A file more in its folder could make it another kind of data set, or be one of its images; a file may be replaced.
    if source in (target, registry.first_file(target, "sprite").resolve()) or (
            target.is_relative_to(source) if source.is_dir() else target == source.parent):
        raise ValueError(f"Expected OUT to be another place than IN, and not in it. Received: {arguments.output}")
    images, name = _read(arguments)
    written = registry.write(images, arguments.output, arguments.to)
    print(f"Wrote {describe(images)}, from {name} to {written}: {registry.first_file(arguments.output, written)}")


def describe(images: ImageSet) -> str:
    """How many images, of which shape and how many classes."""
    shape = "x".join(map(str, images.images.shape[1:]))
    return f"{len(images):,} images {shape} of {len(images.class_names)} classes"


def _read(arguments: argparse.Namespace) -> tuple[ImageSet, str]:
    from tinyconv.datasets import registry

    path, shape = Path(arguments.data), arguments.shape
    kind = registry.recognise(path) if arguments.source is None else registry.find_format(arguments.source)
    size = None if shape is None else shape[:2]
    channels = None if shape is None or len(shape) < 3 else shape[2]
    images = registry.read(path, kind.name, image_size=size, channels=channels, image_shape=shape,
                           max_per_class=arguments.max_per_class)
    return images, kind.name
