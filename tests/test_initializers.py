"""Bounds, moments and repeatability of the initializers.

The sample moments are compared within five standard errors: with fixed seeds
the tests are deterministic.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from tinyconv import initializers
from tinyconv.initializers import (
    Constant,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    Identity,
    LecunNormal,
    LecunUniform,
    Ones,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
    Zeros,
)

KERNEL = (5, 5, 16, 64)  # fan_in 400, fan_out 1600
FAN_IN, FAN_OUT = 400, 1600
FAN_AVG = (FAN_IN + FAN_OUT) / 2

ALL = [
    Zeros(),
    Ones(),
    Constant(0.5),
    RandomNormal(0.1, 0.2),
    RandomUniform(-1.0, 2.0),
    TruncatedNormal(0.0, 0.3),
    VarianceScaling(2.0, "fan_out", "untruncated_normal", seed=5),
    GlorotUniform(),
    GlorotNormal(),
    HeUniform(),
    HeNormal(),
    LecunUniform(),
    LecunNormal(seed=3),
    Orthogonal(0.5),
]


def _assert_moments(values: np.ndarray, mean: float, stddev: float) -> None:
    error = stddev / math.sqrt(values.size)
    assert abs(values.mean(dtype=np.float64) - mean) < 5 * error
    # For a normal the standard error of the deviation is stddev / sqrt(2n); the others' is smaller.
    assert abs(values.std(dtype=np.float64) - stddev) < 5 * error / math.sqrt(2)


@pytest.mark.parametrize(
    "initializer, limit",
    [
        (GlorotUniform(), math.sqrt(6 / (FAN_IN + FAN_OUT))),
        (HeUniform(), math.sqrt(6 / FAN_IN)),
        (LecunUniform(), math.sqrt(3 / FAN_IN)),
        (VarianceScaling(3.0, "fan_out", "uniform"), math.sqrt(9 / FAN_OUT)),
        (RandomUniform(), 0.05),
    ],
    ids=repr,
)
def test_uniform_fills_its_interval(initializer, limit):
    values = initializer(KERNEL, seed=1)
    assert values.dtype == np.float32 and values.shape == KERNEL
    assert limit * 0.999 < np.abs(values).max() <= np.float32(limit)
    _assert_moments(values, 0.0, limit / math.sqrt(3))


@pytest.mark.parametrize(
    "initializer, stddev",
    [
        (GlorotNormal(), math.sqrt(1 / FAN_AVG)),
        (HeNormal(), math.sqrt(2 / FAN_IN)),
        (LecunNormal(), math.sqrt(1 / FAN_IN)),
        (VarianceScaling(), math.sqrt(1 / FAN_IN)),
        (VarianceScaling(4.0, "fan_avg", "normal"), math.sqrt(4 / FAN_AVG)),
    ],
    ids=repr,
)
def test_scaled_normal_has_its_variance_after_the_truncation(initializer, stddev):
    values = initializer(KERNEL, seed=2)
    _assert_moments(values, 0.0, stddev)
    bound = 2 * stddev / 0.87962566103423978
    assert bound * 0.99 < np.abs(values).max() <= np.float32(bound)


def test_untruncated_normal_has_tails():
    values = VarianceScaling(1.0, "fan_in", "untruncated_normal")(KERNEL, seed=3)
    _assert_moments(values, 0.0, math.sqrt(1 / FAN_IN))
    assert np.abs(values).max() > 3.5 * math.sqrt(1 / FAN_IN)


def test_random_normal_and_truncated_normal_moments():
    _assert_moments(RandomNormal(0.5, 0.25)(KERNEL, seed=4), 0.5, 0.25)
    truncated = TruncatedNormal(1.0, 0.25)(KERNEL, seed=4)
    assert np.abs(truncated - 1.0).max() <= 0.5
    _assert_moments(truncated, 1.0, 0.25 * 0.87962566103423978)


def _normal_cdf(z: np.ndarray) -> np.ndarray:
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in z])


def _truncated_cdf(z: np.ndarray) -> np.ndarray:
    low, high = _normal_cdf(np.array([-2.0, 2.0]))
    return (_normal_cdf(z) - low) / (high - low)


@pytest.mark.parametrize(
    "initializer, scale, cdf",
    [
        (RandomNormal(stddev=0.3), 0.3, _normal_cdf),
        (TruncatedNormal(stddev=0.3), 0.3, _truncated_cdf),
        (RandomUniform(-0.3, 0.3), 0.3, lambda z: (z + 1) / 2),
        (GlorotUniform(), math.sqrt(6 / (FAN_IN + FAN_OUT)), lambda z: (z + 1) / 2),
        (HeNormal(), math.sqrt(2 / FAN_IN) / 0.87962566103423978, _truncated_cdf),
        (LecunNormal(), math.sqrt(1 / FAN_IN) / 0.87962566103423978, _truncated_cdf),
        (VarianceScaling(distribution="untruncated_normal"), math.sqrt(1 / FAN_IN), _normal_cdf),
    ],
    ids=lambda value: repr(value) if isinstance(value, initializers.Initializer) else "",
)
def test_values_have_their_distribution(initializer, scale, cdf):
    # The statistic of Kolmogorov and Smirnov: the largest distance of the two distribution functions.
    z = np.sort(initializer(KERNEL, seed=6).ravel().astype(np.float64)) / scale
    expected, steps = cdf(z), np.arange(z.size + 1) / z.size
    distance = max((steps[1:] - expected).max(), (expected - steps[:-1]).max())
    assert distance < 1.95 / math.sqrt(z.size)  # passed by 999 of 1,000 samples of the distribution


@pytest.mark.parametrize("shape", [(6, 6), (8, 3), (3, 8), (3, 3, 2, 5), (2, 2, 1, 7)], ids=str)
def test_orthogonal_has_orthogonal_columns_or_rows(shape):
    matrix = Orthogonal(1.5)(shape, np.float64, seed=7).reshape(-1, shape[-1])
    short = matrix if matrix.shape[0] < matrix.shape[1] else matrix.T
    np.testing.assert_allclose(short @ short.T, 2.25 * np.eye(len(short)), atol=1e-14)


def test_orthogonal_prefers_no_direction():
    # An entry of an orthogonal 4 x 4 matrix, uniform among all, has mean 0 and variance 1/4.
    drawn = np.array([Orthogonal()((4, 4), seed=seed) for seed in range(400)])
    assert np.abs(drawn.mean(axis=0)).max() < 5 * 0.5 / math.sqrt(400)
    np.testing.assert_allclose(np.square(drawn).mean(axis=0), 0.25, atol=0.06)


def test_identity_fills_the_main_diagonal():
    np.testing.assert_array_equal(Identity()((2, 3)), [[1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(Identity(-2.0)((2, 2)), [[-2, 0], [0, -2]])
    assert initializers.get({"class_name": "Identity", "config": {"gain": 3}}) == Identity(3)


@pytest.mark.parametrize("initializer, shape", [(Identity(), (3, 3, 1, 1)), (Identity(), (3,)),
                                                (Orthogonal(), (3,)), (Orthogonal(), ())], ids=str)
def test_matrix_initializers_refuse_other_shapes(initializer, shape):
    with pytest.raises(ValueError, match="dimensions. Received: shape="):
        initializer(shape)


def test_constants_fill():
    assert not Zeros()((2, 3)).any()
    assert (Ones()((2, 3)) == 1).all()
    assert (Constant(-2.5)((2, 3)) == -2.5).all()


@pytest.mark.parametrize(
    "shape, fans",
    [((), (1, 1)), ((7,), (7, 7)), ((3, 4), (3, 4)), ((5, 5, 2, 8), (50, 200)), ((3, 2, 8), (6, 24))],
    ids=str,
)
def test_compute_fans_counts_taps(shape, fans):
    assert initializers.compute_fans(shape) == fans


@pytest.mark.parametrize("initializer", ALL, ids=repr)
def test_initializer_is_repeatable_by_seed(initializer):
    first = initializer((3, 3, 4, 5), np.float32, 11)
    np.testing.assert_array_equal(first, initializer((3, 3, 4, 5), np.float32, 11))
    assert first.flags.c_contiguous and first.flags.writeable
    own = initializer.get_config().get("seed")
    if isinstance(initializer, initializers.RandomInitializer):
        assert np.array_equal(first, initializer((3, 3, 4, 5), np.float32, 12)) == (own is not None)
        assert np.array_equal(initializer((3, 2)), initializer((3, 2))) == (own is not None)


def test_initializer_values_are_fixed_forever():
    # A saved seed must mean the same numbers in every later version.
    drawn = [0.77395605, 0.43887844, 0.85859792, 0.69736803]  # PCG64's first numbers for the seed 42
    limit = math.sqrt(6 / 4)
    expected = [limit * (2 * u - 1) for u in drawn]
    np.testing.assert_allclose(GlorotUniform()((2, 2), seed=42).ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize("initializer", ALL, ids=repr)
def test_initializer_config_round_trip(initializer):
    config = initializers.serialize(initializer)
    again = initializers.get(config)
    assert again == initializer and initializers.serialize(again) == config
    assert hash(again) == hash(initializer)
    # As TensorFlow 1 and Keras 3.15 write it.
    config["config"].update(dtype="float32", input_axes=None, output_axes=None)
    assert initializers.deserialize(config) == initializer


def test_serialize_is_the_plain_form():
    assert initializers.serialize(GlorotUniform()) == {
        "class_name": "GlorotUniform",
        "config": {"seed": None},
    }
    assert initializers.serialize(Zeros()) == {"class_name": "Zeros", "config": {}}


def test_get_finds_names_classes_and_instances():
    for name in (
        "zeros",
        "ones",
        "constant",
        "variance_scaling",
        "glorot_uniform",
        "glorot_normal",
        "he_uniform",
        "he_normal",
        "lecun_uniform",
        "lecun_normal",
        "truncated_normal",
        "random_uniform",
        "random_normal",
        "orthogonal",
        "identity",
    ):
        assert type(initializers.get(name)) is getattr(initializers, name)
    assert isinstance(initializers.get("HeNormal"), HeNormal)
    assert isinstance(initializers.get(HeNormal), HeNormal)
    instance = HeNormal(1)
    assert initializers.get(instance) is instance
    assert initializers.get(None) is None


@pytest.mark.parametrize(
    "identifier",
    [
        "orthogonalish",
        3,
        print,
        {"class_name": "os.system", "config": {}},
        {"class_name": ["Zeros"]},
        {"class_name": "Zeros", "config": "x"},
        {"class_name": "Zeros", "config": {"value": 1}},
        {},
    ],
    ids=str,
)
def test_get_refuses_unknown(identifier):
    with pytest.raises(ValueError, match="Received:"):
        initializers.get(identifier)


@pytest.mark.parametrize(
    "cls, arguments",
    [
        (VarianceScaling, {"scale": 0}),
        (VarianceScaling, {"scale": -1.0}),
        (VarianceScaling, {"mode": "fan"}),
        (VarianceScaling, {"distribution": "cauchy"}),
        (RandomNormal, {"stddev": -1.0}),
        (Constant, {"value": "1"}),
        (RandomUniform, {"minval": 1.0, "maxval": 0.0}),
        (GlorotUniform, {"seed": 1.5}),
        (GlorotUniform, {"seed": -1}),
        (GlorotUniform, {"seed": True}),
        (RandomNormal, {"mean": math.nan}),
        (Orthogonal, {"gain": None}),
        (Identity, {"gain": math.inf}),
    ],
    ids=str,
)
def test_initializer_refuses_bad_arguments(cls, arguments):
    name = list(arguments)[-1]
    with pytest.raises(ValueError, match=f"{name}.*Received: {name}="):
        cls(**arguments)


def test_a_clone_has_the_settings():
    initializer = initializers.HeNormal(seed=3)
    clone = initializer.clone()
    assert clone == initializer and clone is not initializer
    np.testing.assert_array_equal(clone((4, 5)), initializer((4, 5)))
