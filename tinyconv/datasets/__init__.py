"""Data sets: sprites of the TensorFlow.js tutorials, MNIST, Quick, Draw!, digits drawn at run time, and files.

    (x_train, y_train), (x_test, y_test) = datasets.mnist.load_data()
    (x_train, y_train), (x_test, y_test) = datasets.digits.load_data()  # synthetic; needs no files
    sprite = datasets.Sprite("folder with a sprite")
    data = datasets.MnistData("folder with a sprite").load()
    datasets.write_sprite(images, labels, "folder")
    (x_train, y_train), (x_test, y_test), names = datasets.quickdraw.load("folder with a file a class")
    images = datasets.read("sprite, IDX, Quick, Draw!, folder a class, or folder and CSV")
    datasets.write(images, "folder", format="idx")
    batches = datasets.image_dataset_from_directory("folder with a folder a class", image_size=(28, 28))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyconv.datasets import digits, mnist, quickdraw
from tinyconv.datasets.folder import ImageFolder, image_dataset_from_directory
from tinyconv.datasets.image_set import ImageSet
from tinyconv.datasets.mnist import MnistData
from tinyconv.datasets.registry import read, write
from tinyconv.datasets.sheet import contact_sheet
from tinyconv.datasets.sprite import Sprite
from tinyconv.datasets.write import write_sprite
from tinyconv.left_out import explain

__all__ = [
    "ImageFolder", "ImageSet", "MnistData", "Sprite", "contact_sheet", "digits", "image_dataset_from_directory",
    "mnist", "quickdraw", "read", "write", "write_sprite",
]

if not TYPE_CHECKING:
    __getattr__ = explain(__name__)
