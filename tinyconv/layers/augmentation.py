"""Layers that change images at random in training: flips, shifts, turns, zooms, brightness, contrast.

The first four sample an image along an affine map of its pixels, one "random_affine" operation; the
others change its values, one "random_levels" operation. What they do follows from the image's random
numbers. Outside training they do nothing.
"""

from __future__ import annotations

from typing import Any

from tinyconv import shapes
from tinyconv.engine.program import FILL_MODES, ProgramBuilder
from tinyconv.layers.base import Layer, Shape
from tinyconv.layers.layout import from_channels_last, to_channels_last
from tinyconv.layers.regularization import check_seed, random_stream
from tinyconv.shapes import describe
from tinyconv.utils import check_number

__all__ = ["RandomBrightness", "RandomContrast", "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom"]

Factors = tuple[float, float]


class _Augmentation(Layer):
    """Base of the layers of this module."""

    def __init__(self, seed: int | None, data_format: str | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = check_seed(seed)
        self.data_format = shapes.standardize_data_format(data_format, shapes.DATA_FORMATS)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 3:
            raise ValueError(f"Expected an input of 3 dimensions, an image. Received: input_shape={input_shape}")
        return input_shape

    def lower(self, builder: ProgramBuilder) -> None:
        to_channels_last(builder, self.input_shape, self.data_format, self.name)
        self._add_operation(builder, random_stream(builder, self.seed))
        from_channels_last(builder, self.output_shape, self.data_format, self.name)

    def _add_operation(self, builder: ProgramBuilder, stream: int) -> None:
        """Adds what is done to images with their channels last, keyed by the stream."""

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed, "data_format": self.data_format}


class _RandomAffine(_Augmentation):
    """Base of those that sample along a map."""

    transform = "flip"
    tied = False
    fill_mode = "reflect"
    interpolation = "bilinear"
    fill_value = 0.0

    def factors(self) -> tuple[float, float, float, float]:
        """The parameters of the transform."""
        return 0.0, 0.0, 0.0, 0.0

    def _add_operation(self, builder: ProgramBuilder, stream: int) -> None:
        builder.add("random_affine", builder.shape, layer=self.name, transform=self.transform,
                    factors=self.factors(), tied=self.tied, fill_mode=self.fill_mode, fill_value=self.fill_value,
                    nearest=self.interpolation == "nearest", stream=stream)


class _Resampling(_RandomAffine):
    """Base of those that read between pixels and beyond the border."""

    def __init__(self, fill_mode: str, interpolation: str, seed: int | None, fill_value: float,
                 data_format: str | None, **kwargs: Any) -> None:
        super().__init__(seed, data_format, **kwargs)
        self.fill_mode = _check_choice(fill_mode, "fill_mode", FILL_MODES)
        self.interpolation = _check_choice(interpolation, "interpolation", ("nearest", "bilinear"))
        self.fill_value = check_number(fill_value, "fill_value", -3e38, 3e38)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "fill_mode": self.fill_mode, "interpolation": self.interpolation,
                "fill_value": self.fill_value}


class RandomFlip(_RandomAffine):
    """In training, mirrors every other image, at random.

    Args:
        mode: "horizontal" (left becomes right), "vertical", or "horizontal_and_vertical" (both at
            once). Defaults to "horizontal_and_vertical".
        seed: Integer: layers with the same seed draw the same numbers. The numbers also depend on
            the model's seed. Defaults to None: every layer draws its own.
        data_format: None, "channels_last" or "channels_first". Defaults to None: "channels_last".

    Input shape: (height, width, channels), or (channels, height, width) with "channels_first".
    Output shape: the input's.
    """

    def __init__(self, mode: str = "horizontal_and_vertical", seed: int | None = None,
                 data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(seed, data_format, **kwargs)
        self.mode = _check_choice(mode, "mode", ("horizontal", "vertical", "horizontal_and_vertical"))

    def factors(self) -> tuple[float, float, float, float]:
        return float("horizontal" in self.mode), float("vertical" in self.mode), 0.0, 0.0

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mode": self.mode}


class RandomTranslation(_Resampling):
    """In training, shifts every image by a random part of its size.

    Args:
        height_factor: Two numbers in [-1, 1], least and most of the height to go down by; or one f,
            for (-f, f).
        width_factor: The same of the width, to the right.
        fill_mode: What lies beyond the border: "reflect" (dcba|abcd|dcba), "constant" (`fill_value`),
            "wrap" (abcd|abcd|abcd) or "nearest" (aaaa|abcd|dddd). Defaults to "reflect".
        interpolation: "bilinear" or "nearest". Defaults to "bilinear".
        seed: As of `RandomFlip`.
        fill_value: Of fill_mode "constant". Defaults to 0.
        data_format: As of `RandomFlip`.

    Input shape: (height, width, channels), or (channels, height, width) with "channels_first".
    Output shape: the input's.
    """

    transform = "translation"

    def __init__(self, height_factor: Any, width_factor: Any, fill_mode: str = "reflect",
                 interpolation: str = "bilinear", seed: int | None = None, fill_value: float = 0.0,
                 data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.height_factor, self._height = height_factor, _check_factor(height_factor, "height_factor")
        self.width_factor, self._width = width_factor, _check_factor(width_factor, "width_factor")

    def factors(self) -> tuple[float, float, float, float]:
        return *self._height, *self._width

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "height_factor": self.height_factor, "width_factor": self.width_factor}


class RandomRotation(_Resampling):
    """In training, turns every image about its middle by a random angle.

    Args:
        factor: Two numbers in [-1, 1], least and most of a full turn against the clock; or one f,
            for (-f, f).
        fill_mode, interpolation, seed, fill_value, data_format: As of `RandomTranslation`.

    Input shape: (height, width, channels), or (channels, height, width) with "channels_first".
    Output shape: the input's.
    """

    transform = "rotation"

    def __init__(self, factor: Any, fill_mode: str = "reflect", interpolation: str = "bilinear",
                 seed: int | None = None, fill_value: float = 0.0, data_format: str | None = None,
                 **kwargs: Any) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.factor = _check_factor(factor, "factor")

    def factors(self) -> tuple[float, float, float, float]:
        return *self.factor, 0.0, 0.0

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": list(self.factor)}


class RandomZoom(_Resampling):
    """In training, zooms every image in or out about its middle.

    Args:
        height_factor: Two numbers in (-1, 1], least and most; 0.2 shows 20% more of the height,
            -0.2 20% less; or one f, for (-f, f).
        width_factor: The same of the width. Defaults to None: as the height, so that the aspect
            ratio stays.
        fill_mode, interpolation, seed, fill_value, data_format: As of `RandomTranslation`.

    Input shape: (height, width, channels), or (channels, height, width) with "channels_first".
    Output shape: the input's.
    """

    transform = "zoom"

    def __init__(self, height_factor: Any, width_factor: Any = None, fill_mode: str = "reflect",
                 interpolation: str = "bilinear", seed: int | None = None, fill_value: float = 0.0,
                 data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.height_factor, self._height = height_factor, _check_factor(height_factor, "height_factor", True)
        self.tied = width_factor is None
        self.width_factor = width_factor
        self._width = self._height if self.tied else _check_factor(width_factor, "width_factor", True)

    def factors(self) -> tuple[float, float, float, float]:
        return *self._height, *self._width

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "height_factor": self.height_factor, "width_factor": self.width_factor}


class _RandomLevels(_Augmentation):
    """Base of those that change values."""

    levels = "brightness"
    least = -1.0  # of a factor

    def __init__(self, factor: Any, value_range: Any = (0, 255), seed: int | None = None,
                 data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(seed, data_format, **kwargs)
        self.factor = _check_factor(factor, "factor", least=self.least)
        self.value_range = _check_range(value_range)

    def numbers(self) -> Factors:
        """Least and most of the number that is drawn."""
        low, high = self.value_range
        return self.factor[0] * (high - low), self.factor[1] * (high - low)

    def _add_operation(self, builder: ProgramBuilder, stream: int) -> None:
        builder.add("random_levels", builder.shape, layer=self.name, levels=self.levels, factors=self.numbers(),
                    limits=self.value_range, stream=stream)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": list(self.factor), "value_range": list(self.value_range)}


class RandomBrightness(_RandomLevels):
    """In training, adds a random number to all values of an image and clips them.

    Args:
        factor: Two numbers in [-1, 1], least and most of what is added, as a share of the range of
            values; or one f, for (-|f|, |f|).
        value_range: Least and most of the values. Defaults to (0, 255).
        seed: As of `RandomFlip`.
        data_format: As of `RandomFlip`.

    Input shape: (height, width, channels), or (channels, height, width) with "channels_first".
    Output shape: the input's.

    Raises:
        ValueError: If an argument is out of range.
    """


class RandomContrast(_RandomLevels):
    """In training, multiplies how far values are from their channel's mean in the image, and clips them.

    y = (x - mean) * f + mean, with a random f for each image.

    Args:
        factor: Two numbers (a, b) in [0, 1]: f is from 1 - a to 1 + b, a the smaller of them; or one b,
            for (0, b), as Keras 3 computes (its documentation says (b, b)).
        value_range: Least and most of the values, which results are clipped to. Defaults to (0, 255).
        seed: As of `RandomFlip`.
        data_format: As of `RandomFlip`.

    Input shape: (height, width, channels), or (channels, height, width) with "channels_first".
    Output shape: the input's.

    Raises:
        ValueError: If an argument is out of range.
    """

    levels = "contrast"
    least = 0.0

    def numbers(self) -> Factors:
        return 1 - self.factor[0], 1 + self.factor[1]


# --- arguments ---


def _check_choice(value: Any, name: str, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"Expected {name} to be one of {choices}. Received: {name}={describe(value)}")
    return value


def _check_range(value: Any) -> Factors:
    """Least and most of values, in order."""
    pair = tuple(value) if isinstance(value, (tuple, list)) else ()
    try:
        numbers = sorted(check_number(number, "value_range", -1e38, 1e38) for number in pair)
    except ValueError:
        numbers = []
    if len(numbers) != 2:
        raise ValueError(f"Expected value_range to be two numbers. Received: value_range={describe(value)}")
    return numbers[0], numbers[1]


def _check_factor(value: Any, name: str, open_below: bool = False, least: float = -1.0) -> Factors:
    """(least, most) from two numbers in [least, 1], or from one: (-f, f) as far as that is in it."""
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    try:
        numbers = [check_number(factor, name, least, 1.0) for factor in pair]
    except ValueError:
        numbers = []
    if open_below and -1.0 in numbers:
        numbers = []
    if len(numbers) == 1:
        numbers = [max(least, -abs(numbers[0])), abs(numbers[0])]
    if len(numbers) != 2:
        interval = f"{'(' if open_below else '['}{least:g}, 1]"
        raise ValueError(f"Expected {name} to be a number in {interval}, or 2 of them. "
                         f"Received: {name}={describe(value)}")
    return min(numbers), max(numbers)
