"""MNIST, handwritten digits, from the sprite of the TensorFlow.js tutorials.

65,000 images of 28 x 28 pixels, white on black: MNIST's training images 5,000 to 59,999, then its
10,000 test images. MNIST is by Yann LeCun, Corinna Cortes and Christopher Burges (CC BY-SA 3.0).
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv.datasets.download import DownloadError, cache_folder, download
from tinyconv.datasets.sprite import Sprite
from tinyconv.shapes import check_integer, describe

__all__ = ["IMAGES_URL", "LABELS_URL", "MnistData", "load_data"]

IMAGES_URL = "https://storage.googleapis.com/learnjs-data/model-builder/mnist_images.png"
LABELS_URL = "https://storage.googleapis.com/learnjs-data/model-builder/mnist_labels_uint8"
SHA256 = {
    IMAGES_URL: "498b7f6789ef0dd5606d77d7fc7f4502f4af73d71bf5aa68c095babe137a7491",
    LABELS_URL: "54dbbc2cab00508c5ade36a807f48bc83d0ee3285bbeb8ae25377aaa12b2250c",
}
NUM_TRAIN = 55_000
NUM_IMAGES = 65_000
# The images take 10.7 MB; what claims to be another sprite may take more.
_MAX_DOWNLOAD = 512 << 20

Arrays = tuple[np.ndarray, np.ndarray]


def load_data(path: Any = None) -> tuple[Arrays, Arrays]:
    """Loads MNIST in Keras' form.

    Args:
        path: Folder with `mnist_images.png` and `mnist_labels_uint8`. Defaults to None: the folder
            `mnist` of the cache (the environment variable TINYCONV_CACHE, or `~/.cache/tinyconv`), into
            which the files, 11 MB, are downloaded where they are missing.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: uint8 arrays of shape (55000, 28, 28), (55000,),
        (10000, 28, 28) and (10000,). Unlike Keras' these leave out MNIST's first 5,000 training images,
        which the sprite does not have.

    Raises:
        ValueError: If the files of the folder are not MNIST's sprite.
        OSError: If a file cannot be read, or not be downloaded.
    """
    sprite = _load(path)
    if sprite.images.shape != (NUM_IMAGES, 28, 28, 1) or sprite.num_classes != 10:
        raise ValueError(f"Expected path to hold the MNIST sprite, {NUM_IMAGES} images 28x28x1, 10 classes. "
                         f"Received: {sprite!r}")
    images = sprite.images[..., 0]
    return (images[:NUM_TRAIN], sprite.labels[:NUM_TRAIN]), (images[NUM_TRAIN:], sprite.labels[NUM_TRAIN:])


class MnistData:
    """The data class of the TensorFlow.js tutorials: random batches from a sprite.

    The images stay uint8; each batch is converted when it is taken.

    Args:
        path: Folder with a sprite, of MNIST or of other images. Defaults to None: from `images_url` and
            `labels_url`.
        images_url: Address of the PNG, http or https. Defaults to None: MNIST's, kept in the cache as
            `load_data` keeps it. Other addresses are loaded anew each time.
        labels_url: Address of the labels. Defaults to None; both or none must be given.
        split: Images for training, taken from the start; the rest is for testing. A whole number, or a
            ratio in (0, 1) such as 5/6, which gives floor(65000 * 5/6) = 54,166. Defaults to 55,000.
        seed: Makes the order repeatable. Defaults to None: another order each time.

    Attributes:
        train, test: The two parts, each a `Sprite` in the order of the file; there after `load`.

    Example:

        data = MnistData("mnist").load()
        xs, labels = data.next_train_batch(512)
    """

    train: Sprite
    test: Sprite

    def __init__(self, path: Any = None, *, images_url: str | None = None, labels_url: str | None = None,
                 split: float = NUM_TRAIN, seed: int | None = None) -> None:
        if (images_url is None) != (labels_url is None) or (path is not None and images_url is not None):
            raise ValueError("Expected either path, or both images_url and labels_url, or none of them. "
                             f"Received: path={describe(path)}, images_url={describe(images_url)}, "
                             f"labels_url={describe(labels_url)}")
        self._path = path
        self._urls = None if images_url is None or labels_url is None else (images_url, labels_url)
        self._split = _check_split(split)
        self._seed = seed
        self._orders: dict[str, np.ndarray] = {}
        self._cursors = {"train": 0, "test": 0}

    def load(self) -> MnistData:
        """Loads the sprite and shuffles both parts, each on its own; returns this object.

        Raises:
            ValueError: If the split leaves one of the parts empty.
        """
        sprite = _load(self._path, self._urls)
        cut = self._split if isinstance(self._split, int) else math.floor(len(sprite) * self._split)
        if not 0 < cut < len(sprite):
            raise ValueError(f"Expected split to leave images for training and for testing. Received: "
                             f"split={self._split} of {len(sprite)} images")
        self.train, self.test = sprite[:cut], sprite[cut:]
        random = np.random.default_rng(self._seed)
        self._orders = {"train": random.permutation(len(self.train)),
                        "test": random.permutation(len(self.test))}
        self._cursors = {"train": 0, "test": 0}
        return self

    def next_train_batch(self, batch_size: int) -> Arrays:
        """The next images for training; after the last one it begins again.

        Args:
            batch_size: How many.

        Returns:
            (xs, labels): float32 (batch_size, 784), values in [0, 1]; float32 (batch_size, 10), one-hot.
        """
        return self._next("train", batch_size)

    def next_test_batch(self, batch_size: int) -> Arrays:
        """As `next_train_batch`, of the images for testing."""
        return self._next("test", batch_size)

    def _next(self, part: str, batch_size: int) -> Arrays:
        size = check_integer(batch_size, "batch_size")
        if not self._orders:
            raise RuntimeError("Expected load() before the first batch. Received: data that is not loaded")
        order, start = self._orders[part], self._cursors[part]
        rows = order[np.arange(start, start + size) % len(order)]
        batch = self.train[rows] if part == "train" else self.test[rows]
        self._cursors[part] = (start + size) % len(order)
        return batch.as_float32().reshape(size, -1), batch.one_hot()


def _check_split(split: Any) -> int | float:
    """An int, or a float in (0, 1)."""
    try:
        whole = not isinstance(split, bool) and split == int(split) and split >= 1
        if whole or 0 < split < 1:
            return int(split) if whole else float(split)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError("Expected split to be a number of images or a ratio between 0 and 1. "
                     f"Received: split={describe(split)}")


def _load(path: Any, urls: tuple[str, str] | None = None) -> Sprite:
    """The sprite of a folder; without one, of two addresses, MNIST's by default."""
    if path is not None:
        return Sprite.from_folder(path)
    urls = (IMAGES_URL, LABELS_URL) if urls is None else urls
    if all(url in SHA256 for url in urls):
        return _fetch(cache_folder() / "mnist", urls)
    with tempfile.TemporaryDirectory(prefix="tinyconv-") as folder:
        return _fetch(Path(folder), urls)


def _fetch(folder: Path, urls: tuple[str, str]) -> Sprite:
    """The sprite of two addresses; what is in the folder already, and whole, is not loaded again."""
    names = ("mnist_images.png", "mnist_labels_uint8")
    for name, url in zip(names, urls, strict=True):
        try:
            download(url, folder / name, SHA256.get(url), _MAX_DOWNLOAD)
        except DownloadError as error:
            raise DownloadError(f"{error}. Without a connection, give as path a folder that holds {names[0]} "
                                f"and {names[1]}, or put them into {cache_folder() / 'mnist'}; "
                                "datasets.digits needs no files") from error
    return Sprite(folder / names[0], folder / names[1])
