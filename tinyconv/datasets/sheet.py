"""Contact sheets: a few images of every class on one picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tinyconv.datasets.image_set import ImageSet
from tinyconv.datasets.png import write_png
from tinyconv.datasets.replace import replace_all
from tinyconv.shapes import check_integer

__all__ = ["contact_sheet", "write_sheet"]

_GAP = 2
_TEXT_WIDTH, _LINE = 112, 14
_PAPER, _INK = 255, 0
# A sheet is to be looked at: images are shown at most this large, and not more than this many classes.
_MAX_SIDE, _MAX_CLASSES = 128, 100


def contact_sheet(images: ImageSet, columns: int = 16) -> np.ndarray:
    """The first images of every class, a row a class, its name and number of images on the left.

    Args:
        images: The data set; of more than 100 classes the first 100 are shown.
        columns: Images a class, 1 to 100. Defaults to 16.

    Returns:
        uint8 (height, width, 3), dark text on white.
    """
    from PIL import Image, ImageDraw

    columns = min(check_integer(columns, "columns"), 100)
    height, width = images.images.shape[1:3]
    shrink = max(1, -(-max(height, width) // _MAX_SIDE))
    cell_height, cell_width = -(-height // shrink), -(-width // shrink)
    row_height = max(cell_height, 2 * _LINE) + _GAP
    counts = images.counts()[:_MAX_CLASSES]
    sheet = Image.new("RGB", (_TEXT_WIDTH + columns * (cell_width + _GAP), len(counts) * row_height + _GAP),
                      (_PAPER,) * 3)
    pen = ImageDraw.Draw(sheet)
    for number, count in enumerate(counts.tolist()):
        top = _GAP + number * row_height
        name = images.class_names[number].encode("ascii", "replace").decode()  # what Pillow's own font has
        pen.text((_GAP, top), name[:18], fill=(_INK,) * 3)
        pen.text((_GAP, top + _LINE), f"{count:,}", fill=(_INK,) * 3)
        for column, row in enumerate(np.flatnonzero(images.labels == number)[:columns].tolist()):
            pixels = images.images[row, ::shrink, ::shrink]
            tile = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels[..., :3])
            sheet.paste(tile, (_TEXT_WIDTH + column * (cell_width + _GAP), top))
    return np.asarray(sheet)


def write_sheet(images: ImageSet, path: Path, columns: int = 16) -> None:
    """Writes `contact_sheet` as a PNG file."""
    sheet = contact_sheet(images, columns)
    replace_all([(path, lambda file: write_png(file, sheet.reshape(len(sheet), -1), 3))])
