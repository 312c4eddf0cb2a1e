"""Data sets: sprites of the TensorFlow.js tutorials, MNIST, and digits drawn at run time.

    (x_train, y_train), (x_test, y_test) = datasets.mnist.load_data()
    (x_train, y_train), (x_test, y_test) = datasets.digits.load_data()  # synthetic; needs no files
    sprite = datasets.Sprite("folder with a sprite")
    data = datasets.MnistData("folder with a sprite").load()
    datasets.write_sprite(images, labels, "folder")
    batches = datasets.image_dataset_from_directory("folder with a folder a class", image_size=(28, 28))
"""

from __future__ import annotations

from tinyconv.datasets import digits, mnist
from tinyconv.datasets.folder import ImageFolder, image_dataset_from_directory
from tinyconv.datasets.mnist import MnistData
from tinyconv.datasets.sprite import Sprite
from tinyconv.datasets.write import write_sprite

__all__ = [
    "ImageFolder", "MnistData", "Sprite", "digits", "image_dataset_from_directory", "mnist", "write_sprite",
]
