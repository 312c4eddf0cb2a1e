"""Initial values of weights, with Keras' names, defaults and statistics.

An initializer is called as `initializer(shape, dtype, seed)`.  The numbers come
from NumPy's PCG64 and depend on the shape and the seed alone; a seed given to
the initializer itself goes before the caller's.
"""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np

from tinyconv.named import Configured, Named, serialize_object
from tinyconv.shapes import describe
from tinyconv.utils import check_number, default_seed, to_snake_case

__all__ = [
    "Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "Identity", "Initializer",
    "LecunNormal", "LecunUniform", "Ones", "Orthogonal", "RandomNormal", "RandomUniform", "TruncatedNormal",
    "VarianceScaling", "Zeros", "compute_fans", "deserialize", "get", "serialize",
]

# Standard deviation of a standard normal truncated at two: Keras divides by it, so that what is
# left after the truncation has the variance asked for.
TRUNCATED_STDDEV = 0.87962566103423978


class Initializer(Configured):
    """Base of all initializers: `_fill` is what a subclass writes."""

    def __call__(self, shape: tuple[int, ...], dtype: Any = None, seed: int | None = None) -> np.ndarray:
        """Returns an array of initial values.

        Args:
            shape: Shape of the weight; convolution kernels are (height, width, inputs, filters).
            dtype: NumPy dtype. Defaults to float32.
            seed: Seed to use where the initializer has none of its own.
        """
        shape = tuple(int(size) for size in shape)
        values = self._fill(shape, seed)
        return np.ascontiguousarray(values, dtype=np.float32 if dtype is None else dtype).reshape(shape)

    def _fill(self, shape: tuple[int, ...], seed: int | None) -> np.ndarray:
        raise TypeError(f"{type(self).__name__} does not say how to fill a weight: define `_fill`.")

    def clone(self) -> Self:
        """A new initializer of the same settings."""
        return type(self).from_config(self.get_config())

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        # TensorFlow 1 wrote a dtype (the weights here are always float32), Keras 3.15 settings that are
        # null where they are not in use.
        return cls(**{key: value for key, value in config.items() if key != "dtype" and value is not None})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Initializer) and type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((type(self), repr(self.get_config())))


class Constant(Initializer):
    """Fills with one number.

    Args:
        value: The number. Defaults to 0.
    """

    def __init__(self, value: float = 0.0) -> None:
        self.value = check_number(value, "value")

    def _fill(self, shape: tuple[int, ...], seed: int | None) -> np.ndarray:
        return np.full(shape, self.value)

    def get_config(self) -> dict[str, Any]:
        return {"value": self.value}


class Zeros(Initializer):
    """Fills with 0."""

    def _fill(self, shape: tuple[int, ...], seed: int | None) -> np.ndarray:
        return np.zeros(shape)


class Ones(Initializer):
    """Fills with 1."""

    def _fill(self, shape: tuple[int, ...], seed: int | None) -> np.ndarray:
        return np.ones(shape)


class Identity(Initializer):
    """Fills a matrix with ones on its main diagonal and zeros elsewhere.

    Args:
        gain: Factor. Defaults to 1.

    Raises:
        ValueError: If the weight has not two dimensions.
    """

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = check_number(gain, "gain")

    def _fill(self, shape: tuple[int, ...], seed: int | None) -> np.ndarray:
        if len(shape) != 2:
            raise ValueError(f"Identity expected a weight of 2 dimensions. Received: shape={shape}")
        return self.gain * np.eye(*shape)

    def get_config(self) -> dict[str, Any]:
        return {"gain": self.gain}


class RandomInitializer(Initializer):
    """Base of those that draw random numbers.

    Args:
        seed: Integer that makes the values repeatable whatever the model's seed is. Defaults to
            None: the caller's seed.
    """

    def __init__(self, seed: int | None = None) -> None:
        integer = isinstance(seed, (int, np.integer)) and not isinstance(seed, bool)
        if seed is not None and (not integer or seed < 0):
            raise ValueError(
                f"Expected seed to be None or a non-negative integer. "
                f"Received: seed={describe(seed)}"
            )
        self.seed = None if seed is None else int(seed)

    def _generator(self, seed: int | None) -> np.random.Generator:
        if self.seed is not None:
            seed = self.seed
        return np.random.Generator(np.random.PCG64(default_seed() if seed is None else seed))

    def get_config(self) -> dict[str, Any]:
        return {"seed": self.seed}


class RandomNormal(RandomInitializer):
    """Draws from a normal distribution.

    Args:
        mean: Mean. Defaults to 0.
        stddev: Standard deviation. Defaults to 0.05.
        seed: See `RandomInitializer`.
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.mean = check_number(mean, "mean")
        self.stddev = check_number(stddev, "stddev", minimum=0.0)

    def _fill(self, shape: tuple[int, ...], seed: int | None) -> np.ndarray:
        return self._generator(seed).normal(self.mean, self.stddev, shape)

    def get_config(self) -> dict[str, Any]:
        return {"mean": self.mean, "stddev": self.stddev, "seed": self.seed}


class TruncatedNormal(RandomNormal):
    """Draws from a normal distribution; values more than two `stddev` away are drawn again.

    Args:
        mean: Mean. Defaults to 0.
        stddev: Standard deviation before the truncation. Defaults to 0.05.
        seed: See `RandomInitializer`.
    """

    def _fill(self, shape: tuple[int, ...], seed: int | None) -> np.ndarray:
        return self.mean + self.stddev * _truncated_normal(self._generator(seed), shape)


class RandomUniform(RandomInitializer):
    """Draws uniformly between two bounds.

    Args:
        minval: Lower bound. Defaults to -0.05.
        maxval: Upper bound. Defaults to 0.05.
        seed: See `RandomInitializer`.
    """

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.minval = check_number(minval, "minval")
        self.maxval = check_number(maxval, "maxval", minimum=self.minval)

    def _fill(self, shape: tuple[int, ...], seed: int | None) -> np.ndarray:
        return self._generator(seed).uniform(self.minval, self.maxval, shape)

    def get_config(self) -> dict[str, Any]:
        return {"minval": self.minval, "maxval": self.maxval, "seed": self.seed}


class Orthogonal(RandomInitializer):
    """Draws a random orthogonal matrix, uniformly among all (Saxe et al., 2014; Mezzadri, 2007).

    All dimensions but the last count as one: a kernel's filters, seen as vectors, are orthogonal
    where there are no more of them than taps, otherwise the taps are.

    Args:
        gain: Factor; the length of the orthogonal vectors. Defaults to 1.
        seed: See `RandomInitializer`.

    Raises:
        ValueError: If the weight has fewer than two dimensions.
    """

    def __init__(self, gain: float = 1.0, seed: int | None = None) -> None:
        super().__init__(seed)
        self.gain = check_number(gain, "gain")

    def _fill(self, shape: tuple[int, ...], seed: int | None) -> np.ndarray:
        if len(shape) < 2:
            raise ValueError(f"Orthogonal expected a weight of at least 2 dimensions. Received: shape={shape}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        normal = self._generator(seed).standard_normal((max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(normal)
        # The sign of every column is free: fixed by r's diagonal, no direction is preferred.
        q *= np.where(np.diag(r) < 0, -1.0, 1.0)
        return self.gain * (q if rows >= columns else q.T).reshape(shape)

    def get_config(self) -> dict[str, Any]:
        return {"gain": self.gain, "seed": self.seed}


class VarianceScaling(RandomInitializer):
    """Draws with a variance of `scale / n`, n being a count of the weight's inputs or outputs.

    Args:
        scale: Positive factor. Defaults to 1.
        mode: "fan_in" (n = inputs of a unit), "fan_out" (n = units that an input feeds) or
            "fan_avg" (their mean). Defaults to "fan_in".
        distribution: "truncated_normal" (also called "normal"), "untruncated_normal" or "uniform"
            (within sqrt(3 scale / n)). Defaults to "truncated_normal".
        seed: See `RandomInitializer`.
    """

    def __init__(self, scale: float = 1.0, mode: str = "fan_in", distribution: str = "truncated_normal",
                 seed: int | None = None) -> None:
        super().__init__(seed)
        self.scale = check_number(scale, "scale")
        if self.scale <= 0:
            raise ValueError(f"Expected scale to be positive. Received: scale={describe(scale)}")
        self.mode = _choice(mode, "mode", ("fan_in", "fan_out", "fan_avg"))
        distribution = "truncated_normal" if distribution == "normal" else distribution
        self.distribution = _choice(
            distribution, "distribution", ("truncated_normal", "untruncated_normal", "uniform")
        )

    def _fill(self, shape: tuple[int, ...], seed: int | None) -> np.ndarray:
        fan_in, fan_out = compute_fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        generator = self._generator(seed)
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * variance)
            return generator.uniform(-limit, limit, shape)
        if self.distribution == "untruncated_normal":
            return generator.normal(0.0, math.sqrt(variance), shape)
        return math.sqrt(variance) / TRUNCATED_STDDEV * _truncated_normal(generator, shape)

    def get_config(self) -> dict[str, Any]:
        return {"scale": self.scale, "mode": self.mode, "distribution": self.distribution, "seed": self.seed}


class _NamedScaling(VarianceScaling):
    """A VarianceScaling whose only argument is the seed."""

    _arguments: tuple[float, str, str] = (1.0, "fan_in", "truncated_normal")

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(*self._arguments, seed=seed)

    def get_config(self) -> dict[str, Any]:
        return {"seed": self.seed}


class GlorotUniform(_NamedScaling):
    """Uniform within sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010); Keras' default for kernels."""

    _arguments = (1.0, "fan_avg", "uniform")


class GlorotNormal(_NamedScaling):
    """Truncated normal of variance 2 / (fan_in + fan_out) (Glorot and Bengio, 2010)."""

    _arguments = (1.0, "fan_avg", "truncated_normal")


class HeUniform(_NamedScaling):
    """Uniform within sqrt(6 / fan_in) (He et al., 2015)."""

    _arguments = (2.0, "fan_in", "uniform")


class HeNormal(_NamedScaling):
    """Truncated normal of variance 2 / fan_in (He et al., 2015)."""

    _arguments = (2.0, "fan_in", "truncated_normal")


class LecunUniform(_NamedScaling):
    """Uniform within sqrt(3 / fan_in) (LeCun et al., 1998)."""

    _arguments = (1.0, "fan_in", "uniform")


class LecunNormal(_NamedScaling):
    """Truncated normal of variance 1 / fan_in (LeCun et al., 1998)."""

    _arguments = (1.0, "fan_in", "truncated_normal")


def compute_fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(inputs of a unit, units that an input feeds) of a weight; a kernel's taps count in both."""
    if len(shape) < 2:
        fan = shape[0] if shape else 1
        return fan, fan
    taps = math.prod(shape[:-2])
    return taps * shape[-2], taps * shape[-1]


def _truncated_normal(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    values = generator.standard_normal(math.prod(shape))
    outside = np.flatnonzero(np.abs(values) > 2.0)
    while outside.size:
        values[outside] = generator.standard_normal(outside.size)
        outside = outside[np.abs(values[outside]) > 2.0]
    return values.reshape(shape)


def _choice(value: Any, name: str, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value.lower() not in choices:
        raise ValueError(f"Expected {name} to be one of {choices}. Received: {name}={describe(value)}")
    return value.lower()


_CLASSES: tuple[type[Initializer], ...] = (
    Constant, GlorotNormal, GlorotUniform, HeNormal, HeUniform, Identity, LecunNormal, LecunUniform, Ones, Orthogonal,
    RandomNormal, RandomUniform, TruncatedNormal, VarianceScaling, Zeros,
)
_TABLE: Named[Initializer] = Named("initializer", _CLASSES, {
    **{to_snake_case(cls.__name__): cls for cls in _CLASSES},
    "IdentityInitializer": Identity, "OrthogonalInitializer": Orthogonal,
    "normal": RandomNormal, "one": Ones, "uniform": RandomUniform, "zero": Zeros,
}, base=Initializer)


def serialize(initializer: Initializer) -> dict[str, Any]:
    """Returns {"class_name": ..., "config": ...}."""
    return serialize_object(initializer)


def deserialize(config: dict[str, Any]) -> Initializer:
    """The reverse of `serialize`; the class must be one of this module's."""
    return _TABLE.deserialize(config)


def get(identifier: str | dict[str, Any] | Initializer | type[Initializer] | None) -> Initializer | None:
    """Returns an initializer from its name, class, config or itself; None stays None.

    Raises:
        ValueError: If there is no such initializer.
    """
    return None if identifier is None else _TABLE.get(identifier)


# Keras' functional spellings: initializers.glorot_uniform() is initializers.GlorotUniform().
constant, zeros, ones, identity = Constant, Zeros, Ones, Identity
random_normal, random_uniform, truncated_normal = RandomNormal, RandomUniform, TruncatedNormal
variance_scaling, orthogonal = VarianceScaling, Orthogonal
IdentityInitializer, OrthogonalInitializer = Identity, Orthogonal
glorot_normal, glorot_uniform = GlorotNormal, GlorotUniform
he_normal, he_uniform = HeNormal, HeUniform
lecun_normal, lecun_uniform = LecunNormal, LecunUniform
