"""Layers that add noise in training and do nothing outside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinyconv import shapes
from tinyconv.engine.program import ProgramBuilder
from tinyconv.layers.arguments import refuse_unsupported
from tinyconv.layers.base import Layer, Shape
from tinyconv.layers.layout import axes_last, from_channels_last, image_of, to_channels_last
from tinyconv.shapes import describe
from tinyconv.utils import check_number

__all__ = [
    "AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise", "SpatialDropout1D", "SpatialDropout2D",
    "check_seed", "random_stream",
]

# Flag of a stream that comes from the layer's own seed; counted streams stay below it.
_SEEDED_STREAM = 1 << 63


def check_seed(seed: Any) -> int | None:
    """Returns a layer's seed, a non-negative integer or None."""
    return None if seed is None else shapes.check_integer(seed, "seed", 0, _SEEDED_STREAM - 1)


def random_stream(builder: ProgramBuilder, seed: int | None) -> int:
    """The key of a layer's random numbers: its own, or that of all layers of this seed."""
    return builder.stream() if seed is None else _SEEDED_STREAM | seed


class _Noise(Layer):
    """Base of the noise layers: one operation, whose amount is `rate`."""

    noise = "dropout"
    all_may_go = False  # whether a rate of 1 makes sense

    def __init__(self, rate: float, seed: int | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = check_number(rate, "rate", 0.0, 1.0, exclusive=not self.all_may_go)
        self.seed = check_seed(seed)

    def lower(self, builder: ProgramBuilder) -> None:
        if self.rate:
            self._add_noise(builder, self.noise)

    def _add_noise(self, builder: ProgramBuilder, noise: str) -> None:
        builder.add("dropout", builder.shape, layer=self.name, noise=noise, rate=self.rate,
                    stream=random_stream(builder, self.seed))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


class Dropout(_Noise):
    """In training, sets values to 0 at random and scales the rest by 1 / (1 - rate).

    Args:
        rate: Share of the values that are dropped, in [0, 1]; at 1 all are.
        noise_shape: The shape of what is drawn, with the batch's None in front: 1 in an axis drops values
            along it together, the axis's size or None each by itself; (None, 1, 1, None) is a
            `SpatialDropout2D`. Defaults to None: each value by itself.
        seed: Integer: layers with the same seed draw the same numbers. The numbers also depend on
            the model's seed. Defaults to None: every layer draws its own.

    Input shape: any. Output shape: the input's.

    Raises:
        ValueError: If an argument is out of range, or noise_shape does not fit the input.
    """

    all_may_go = True

    def __init__(self, rate: float, noise_shape: Sequence[int | None] | None = None, seed: int | None = None,
                 **kwargs: Any) -> None:
        super().__init__(rate, seed, **kwargs)
        self.noise_shape = None if noise_shape is None else _check_noise_shape(noise_shape)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        self._drawn_axes(input_shape)
        return input_shape

    def _drawn_axes(self, shape: Shape) -> tuple[int, ...]:
        """The axes of a sample along which values are dropped one by one."""
        sizes = (None,) * len(shape) if self.noise_shape is None else self.noise_shape[1:]
        if len(sizes) != len(shape) or any(own not in (None, 1, size) for own, size in zip(sizes, shape)):
            raise ValueError(f"Expected noise_shape to be (None, ...), and 1, None or the size for each of {shape}. "
                             f"Received: noise_shape={self.noise_shape}")
        return tuple(axis for axis, own in enumerate(sizes) if own != 1 or shape[axis] == 1)

    def lower(self, builder: ProgramBuilder) -> None:
        drawn = self._drawn_axes(self.input_shape)
        if not self.rate or len(drawn) == len(self.input_shape):
            super().lower(builder)
            return
        with axes_last(builder, self.input_shape, drawn, self.name):
            self._add_noise(builder, "spatial_dropout")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "noise_shape": None if self.noise_shape is None else list(self.noise_shape)}


def _check_noise_shape(noise_shape: Any) -> tuple[int | None, ...]:
    sizes = tuple(noise_shape) if isinstance(noise_shape, (tuple, list)) else ()
    if not sizes or sizes[0] is not None:
        raise ValueError("Expected noise_shape to be (None, ...): every sample draws numbers of its own. "
                         f"Received: noise_shape={describe(noise_shape)}")
    return (None, *(None if size is None else shapes.check_integer(size, "noise_shape") for size in sizes[1:]))


class SpatialDropout2D(_Noise):
    """In training, sets whole channels of an image to 0 at random and scales the rest by 1 / (1 - rate).

    Args:
        rate: Share of the channels that are dropped, in [0, 1]; at 1 all are.
        data_format: None, "channels_last" or "channels_first". Defaults to None: "channels_last".
        seed: As of `Dropout`.

    Input shape: (height, width, channels), or (channels, height, width) with "channels_first".
    Output shape: the input's.
    """

    noise = "spatial_dropout"
    all_may_go = True
    data_format = "channels_last"
    rank = 2

    def __init__(self, rate: float, data_format: str | None = None, seed: int | None = None, name: str | None = None,
                 dtype: Any = None, **kwargs: Any) -> None:
        super().__init__(rate, seed, name=name, dtype=dtype, **kwargs)
        self.data_format = shapes.standardize_data_format(data_format, shapes.DATA_FORMATS)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        image_of(input_shape, self.rank, self.data_format)  # refuses other ranks
        return input_shape

    def lower(self, builder: ProgramBuilder) -> None:
        if self.rate:
            to_channels_last(builder, self.input_shape, self.data_format, self.name)
            super().lower(builder)
            from_channels_last(builder, self.output_shape, self.data_format, self.name)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "data_format": self.data_format}


class SpatialDropout1D(SpatialDropout2D):
    """In training, sets whole channels of a sequence to 0 at random and scales the rest by 1 / (1 - rate).

    Args:
        rate: Share of the channels that are dropped, in [0, 1]; at 1 all are.
        seed: As of `Dropout`.

    Input shape: (steps, channels). Output shape: the input's.
    """

    rank = 1

    def __init__(self, rate: float, seed: int | None = None, name: str | None = None, dtype: Any = None,
                 **kwargs: Any) -> None:
        super().__init__(rate, None, seed, name, dtype, **kwargs)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["data_format"]
        return config


class GaussianNoise(_Noise):
    """In training, adds normally distributed numbers.

    Args:
        stddev: Their standard deviation, 0 or more.
        seed: As of `Dropout`.

    Input shape: any. Output shape: the input's.
    """

    noise = "gaussian_noise"

    def __init__(self, stddev: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(0.0, seed, **kwargs)
        self.stddev = self.rate = check_number(stddev, "stddev", 0.0, 3e38)

    def get_config(self) -> dict[str, Any]:
        return {**Layer.get_config(self), "stddev": self.stddev, "seed": self.seed}


class GaussianDropout(_Noise):
    """In training, multiplies by normally distributed numbers of mean 1 and variance rate / (1 - rate).

    Args:
        rate: In [0, 1), as of a dropout of the same variance.
        seed: As of `Dropout`.

    Input shape: any. Output shape: the input's.
    """

    noise = "gaussian_dropout"

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(rate, seed, **kwargs)


class AlphaDropout(_Noise):
    """In training, sets values to selu's limit at random, and keeps mean 0 and variance 1.

    Klambauer et al., Self-normalizing neural networks (2017).

    Args:
        rate: Share of the values that are dropped, in [0, 1).
        noise_shape: None: what is dropped is drawn value by value.
        seed: As of `Dropout`.

    Input shape: any. Output shape: the input's.
    """

    noise = "alpha_dropout"

    def __init__(self, rate: float, noise_shape: None = None, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(rate, seed, **kwargs)
        refuse_unsupported(noise_shape=noise_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "noise_shape": None}
