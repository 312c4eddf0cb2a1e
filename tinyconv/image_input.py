"""What a model is given for a picture: settings that are stored with it, and pure functions that follow them."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from tinyconv import image as images_module
from tinyconv.shapes import describe
from tinyconv.utils import check_number

__all__ = ["FITS", "ImageInput", "check_class_names"]

# "stretch": the whole picture; "content": the drawing cut out, in a square; "mnist": placed as MNIST's digits.
FITS = ("stretch", "content", "mnist")
# Pixels this much above black belong to a drawing: JPEG files and scans have no clean ground.
_THRESHOLD = 48
# A picture of twice this height or width, or more, is shrunk by a whole factor first, which takes its grain away.
_SIDE = 256
_MAX_CLASSES = 1 << 16
_LARGEST = float(np.finfo(np.float32).max)


class ImageInput:
    """How a picture of any size becomes the input of a model.

    The picture is laid on white where it is transparent, made grey where the model has one channel,
    inverted, fitted to the model's height and width by area, and its values, 0 to 255, become
    value * scale + offset.  A picture that has the model's height and width is not fitted.  A drawing that
    is cut out has its ground made black and its strongest line white, before and after it is fitted.

    Args:
        fit: "stretch", the default: the whole picture is resized. "content": the drawing is cut out and
            stands in the middle of a square, with `margin` around it. "mnist": it is scaled to 20/28 of
            the input and centred by mass. The last two are for bright drawings on black.
        invert: True, False, or "auto", the default: where the picture is dark on light and the model
            has one channel.
        margin: For "content": the margin, as a share of the drawing's longer side. Defaults to 0.06,
            which is what Quick, Draw! bitmaps have.
        scale: Factor of the values. Defaults to 1.
        offset: What is added. Defaults to 0.

    Raises:
        ValueError: If an argument has none of these values.
    """

    def __init__(self, fit: str = "stretch", invert: Any = "auto", margin: float = 0.06, scale: float = 1.0,
                 offset: float = 0.0) -> None:
        if fit not in FITS:
            raise ValueError(f"Expected fit to be one of {FITS}. Received: fit={describe(fit)}")
        if not isinstance(invert, bool) and invert != "auto":
            raise ValueError(f"Expected invert to be True, False or 'auto'. Received: invert={describe(invert)}")
        self.fit: str = fit
        self.invert: bool | str = invert
        self.margin = check_number(margin, "margin", 0, 1)
        self.scale = check_number(scale, "scale", -_LARGEST, _LARGEST)
        self.offset = check_number(offset, "offset", -_LARGEST, _LARGEST)

    def __call__(self, picture: Any, shape: tuple[int, int, int]) -> np.ndarray:
        """The input for a picture.

        Args:
            picture: uint8 (height, width, channels), channels 1, 3 (RGB) or 4 (RGBA).
            shape: (height, width, channels) of the input, channels 1, 3 or 4.

        Returns:
            float32 array of that shape.
        """
        return self.rescale(self._fitted(self._colored(picture, shape[2]), shape))

    def rescale(self, values: Any) -> np.ndarray:
        """value * scale + offset of images that fit already, float32 of the same shape."""
        out = np.asarray(values).astype(np.float32)
        if (self.scale, self.offset) != (1, 0):
            out = (out * np.float32(self.scale) + np.float32(self.offset)).astype(np.float32)
        return out

    def _colored(self, picture: Any, channels: int) -> np.ndarray:
        """The picture with as many channels, bright on black where it is a drawing: float32, 0 to 255."""
        values = np.asarray(picture)
        if values.ndim != 3 or values.shape[2] not in (1, 3, 4):
            raise ValueError("Expected a picture of the shape (height, width, channels) with 1, 3 or 4 channels. "
                             f"Received: shape {values.shape}")
        if channels == 4:
            opaque = np.full((*values.shape[:2], 1), 255, np.float32)
            colors = np.repeat(values, 3, axis=2) if values.shape[2] == 1 else values[..., :3]
            alpha = values[..., 3:] if values.shape[2] == 4 else opaque
            values = np.concatenate([images_module.invert(colors) if self.invert is True else colors, alpha], axis=2)
            return values.astype(np.float32)
        if values.shape[2] == 4:
            values = images_module.flatten_alpha(values)
        if channels == 1:  # as whole levels: the weights of the colours do not quite add up to 1
            values = np.rint(images_module.to_grayscale(values))
        if values.shape[2] < channels:
            values = np.repeat(values, channels, axis=2)
        automatic = self.invert == "auto" and channels == 1
        if self.invert is True or (automatic and images_module.is_dark_on_light(values)):
            values = images_module.invert(values)
        return values.astype(np.float32)

    def _fitted(self, values: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        height, width = shape[:2]
        if values.shape[:2] == (height, width):
            return values
        if self.fit == "stretch":
            return _resized(values, height, width)
        shrink = max(1, max(values.shape[:2]) // _SIDE)
        if shrink > 1:
            values = images_module.resize_area(values, [max(1, round(side / shrink)) for side in values.shape[:2]])
        values = images_module.even_light(values)
        if self.fit == "mnist" and height == width:
            fitted = images_module.fit_by_mass(values, height, max(1, round(height * 20 / 28)), _THRESHOLD)
        else:
            fitted = _resized(images_module.crop_to_content(values, self.margin, threshold=_THRESHOLD), height, width)
        return images_module.stretch_levels(fitted)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as JSON can hold them."""
        return {"fit": self.fit, "invert": self.invert, "margin": self.margin, "scale": self.scale,
                "offset": self.offset}

    @classmethod
    def from_config(cls, config: Any) -> Self:
        """From what `get_config` returned.

        Raises:
            ValueError: If it is something else.
        """
        known = {"fit", "invert", "margin", "scale", "offset"}
        if not isinstance(config, dict) or set(config) - known:
            raise ValueError(f"Expected settings of {sorted(known)}. Received: {describe(config)}")
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImageInput) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash(tuple(self.get_config().items()))

    def __repr__(self) -> str:
        return f"ImageInput({', '.join(f'{key}={value!r}' for key, value in self.get_config().items())})"


def _resized(values: np.ndarray, height: int, width: int) -> np.ndarray:
    if values.shape[0] >= height and values.shape[1] >= width:
        return images_module.resize_area(values, (height, width))
    return images_module.resize_bilinear(values, (height, width), half_pixel_centers=True)


def check_class_names(names: Any) -> list[str]:
    """A list of different, printable names of classes.

    Raises:
        ValueError: If it is none.
    """
    checked = list(names) if isinstance(names, (list, tuple)) else []
    valid = [isinstance(name, str) and 0 < len(name) <= 200 and name.isprintable() for name in checked]
    if not checked or not all(valid) or len(set(checked)) != len(checked) or len(checked) > _MAX_CLASSES:
        raise ValueError(f"Expected class_names to be a list of different names. Received: {describe(names)}")
    return checked
