"""Pictures as arrays and back, under the names of `keras.preprocessing.image`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyconv.datasets.pictures import array_to_img, img_to_array, load_img, save_img
from tinyconv.left_out import explain

__all__ = ["array_to_img", "img_to_array", "load_img", "save_img"]

if not TYPE_CHECKING:
    __getattr__ = explain(__name__)
