"""Pictures, under the names of `keras.preprocessing`; augmentation is done by layers, such as `layers.RandomFlip`."""

from __future__ import annotations

from tinyconv.datasets.folder import image_dataset_from_directory
from tinyconv.preprocessing import image

__all__ = ["image", "image_dataset_from_directory"]
