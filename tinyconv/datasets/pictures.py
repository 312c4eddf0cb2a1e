"""Pictures as arrays and back, with Keras' names: what `utils` has of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tinyconv.datasets.image_files import opened_image
from tinyconv.shapes import DATA_FORMATS, check_integer, describe, standardize_data_format

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["array_to_img", "img_to_array", "load_img", "save_img"]

_COLORS = {"grayscale": "L", "rgb": "RGB", "rgba": "RGBA"}
_INTERPOLATIONS = ("bicubic", "bilinear", "box", "hamming", "lanczos", "nearest")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def load_img(path: Any, color_mode: str = "rgb", target_size: tuple[int, int] | None = None,
             interpolation: str = "nearest", keep_aspect_ratio: bool = False) -> Image.Image:
    """An image file as a Pillow image: BMP, GIF, JPEG or PNG.

    Args:
        path: The file.
        color_mode: `"grayscale"`, `"rgb"` or `"rgba"`. Defaults to `"rgb"`.
        target_size: (height, width) to resize to. Defaults to None: the file's.
        interpolation: `"nearest"`, `"bilinear"`, `"bicubic"`, `"hamming"`, `"box"` or `"lanczos"`.
            Defaults to `"nearest"`.
        keep_aspect_ratio: Whether to cut off what does not have the proportions of target_size first.

    Raises:
        FileNotFoundError: If there is no file.
        ValueError: If it is no image, or an argument is not one of these.
    """
    from PIL import Image

    if color_mode not in _COLORS:
        raise ValueError(f"Expected color_mode to be one of {tuple(_COLORS)}. Received: color_mode={color_mode!r}")
    if interpolation not in _INTERPOLATIONS:
        raise ValueError(f"Expected interpolation to be one of {_INTERPOLATIONS}. Received: "
                         f"interpolation={interpolation!r}")
    with opened_image(path) as image:
        picture = image.convert(_COLORS[color_mode])
    if target_size is None:
        return picture
    if not isinstance(target_size, (tuple, list)) or len(target_size) != 2:
        raise ValueError(f"Expected target_size to be (height, width). Received: target_size={describe(target_size)}")
    height, width = (check_integer(size, "target_size") for size in target_size)
    box = None
    if keep_aspect_ratio:
        wide, high = min(picture.width, picture.height * width // height), min(picture.height,
                                                                             picture.width * height // width)
        left, top = (picture.width - wide) // 2, (picture.height - high) // 2
        box = (left, top, left + wide, top + high)
    return picture.resize((width, height), Image.Resampling[interpolation.upper()], box=box)


def img_to_array(img: Any, data_format: str | None = None, dtype: Any = None) -> np.ndarray:
    """A Pillow image, or an array (height, width), as an array of its pixels, 0 to 255.

    Args:
        img: The image.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to None: `"channels_last"`.
        dtype: Type of the numbers. Defaults to None: float32.

    Returns:
        An array (height, width, channels), or (channels, height, width).

    Raises:
        ValueError: If it has not 2 or 3 dimensions.
    """
    data_format = standardize_data_format(data_format, DATA_FORMATS)
    array = np.asarray(img, np.float32 if dtype is None else dtype)
    if array.ndim == 2:
        array = array[..., None]
    elif array.ndim != 3:
        raise ValueError(f"Expected an image of 2 or 3 dimensions. Received: img of shape {array.shape}")
    elif isinstance(img, np.ndarray):
        return array
    return array.transpose(2, 0, 1) if data_format == "channels_first" else array


def array_to_img(x: Any, data_format: str | None = None, scale: bool = True, dtype: Any = None) -> Image.Image:
    """An array of pixels as a Pillow image.

    Args:
        x: (height, width, channels), of 1, 3 or 4 channels; or (channels, height, width).
        data_format: `"channels_last"` or `"channels_first"`. Defaults to None: `"channels_last"`.
        scale: Whether the least value becomes 0 and the largest 255. Defaults to True.
        dtype: Type to compute with. Defaults to None: float32.

    Raises:
        ValueError: If x has another shape.
    """
    from PIL import Image

    data_format = standardize_data_format(data_format, DATA_FORMATS)
    array = np.asarray(x, np.float32 if dtype is None else dtype)
    if array.ndim == 3 and data_format == "channels_first":
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[2] not in _MODES or not array.size:
        raise ValueError(f"Expected x to be an image of 1, 3 or 4 channels. Received: x of shape {np.shape(x)}")
    if scale:
        array = array - array.min()
        array = array / (array.max() or 1) * 255
    if array.shape[2] == 1 and array.max() > 255:
        return Image.fromarray(array[..., 0].astype(np.int32))
    pixels = array.astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if array.shape[2] == 1 else pixels)


def save_img(path: Any, x: Any, data_format: str | None = None, file_format: str | None = None, scale: bool = True,
             **kwargs: Any) -> None:
    """Writes an array of pixels as an image file.

    Args:
        path: The file.
        x, data_format, scale: As of `array_to_img`.
        file_format: Pillow's name of a format, such as `"png"`. Defaults to None: what the path ends in.
        **kwargs: For Pillow's `save`.
    """
    picture = array_to_img(x, data_format, scale)
    if picture.mode == "RGBA" and str(file_format or path).lower().endswith(("jpg", "jpeg")):
        picture = picture.convert("RGB")
    picture.save(path, format=file_format, **kwargs)
