"""`load_weights` of files of Keras that do not fit in all layers, or have models within models; beside Keras."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from parity.harness import keras, tinyconv

pytest.importorskip("h5py", reason="the extra [keras] is not installed")

# Of Keras, with newer versions of NumPy.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
FILES = ["w.weights.h5", "m.keras", "m.h5"]


def write(model: Any, path: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an .h5 file is Keras' legacy format
        (model.save_weights if path.name.startswith("w.") else model.save)(path)


def fill(model: Any, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    model.set_weights([rng.random(weight.shape, np.float32) + seed for weight in model.weights])
    return model


def dense(library: Any, inputs: int, units: dict[str, int], seed: int) -> Any:
    layers = library.layers
    return fill(library.Sequential([layers.Input((inputs,)),
                                    *(layers.Dense(number, name=name) for name, number in units.items())]), seed)


def values(model: Any) -> list[np.ndarray]:
    return [np.asarray(array) for array in model.get_weights()]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("inputs", "units"), [(6, {"a": 4, "b": 3}), (5, {"a": 4, "b": 7}), (5, {"a": 4, "b": 3})])
def test_layers_that_are_skipped_are_those_of_keras(inputs, units, name, tmp_path):
    write(dense(keras, 5, {"a": 4, "b": 3}, 1), tmp_path / name)
    found = []
    for library in (tinyconv, keras):
        model = dense(library, inputs, units, 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.load_weights(tmp_path / name, skip_mismatch=True)
        # Keras' legacy files are the difference on the page: a bias that fits is taken where the kernel is not.
        found.append(values(model)[::2 if name == "m.h5" else 1])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_layer_that_the_file_has_not_is_skipped_as_in_keras(tmp_path):
    write(dense(keras, 5, {"a": 4}, 1), tmp_path / "w.weights.h5")
    for library in (tinyconv, keras):
        model = dense(library, 5, {"a": 4, "b": 3}, 2)
        with pytest.warns(UserWarning, match="weights|objects could not be loaded"):
            model.load_weights(tmp_path / "w.weights.h5", skip_mismatch=True)
        assert [int(array.min()) for array in values(model)] == [1, 1, 2, 2]
        with pytest.raises(ValueError, match="expected 2|could not be loaded"):
            model.load_weights(tmp_path / "w.weights.h5")


@pytest.mark.parametrize("units", [{"a": 4, "new": 4, "b": 3}, {"a": 4}, {"x": 4, "a": 4}, {"b": 3, "a": 4}])
def test_layers_by_name_are_those_of_keras(units, tmp_path):
    write(dense(keras, 4, {"a": 4, "b": 3}, 1), tmp_path / "m.h5")
    for is_skipping in (True, False):
        found: list[Any] = []
        for library in (tinyconv, keras):
            model = dense(library, 4, units, 2)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    model.load_weights(tmp_path / "m.h5", by_name=True, skip_mismatch=is_skipping)
                    found.append([array for array in values(model) if array.ndim == 2])
                except ValueError:
                    found.append(None)
        assert (found[0] is None) == (found[1] is None)
        for a, b in zip(found[0] or [], found[1] or [], strict=True):
            np.testing.assert_array_equal(a, b)


# --- models within models ---


def parts(layers: Any) -> list[Any]:
    return [layers.Conv2D(4, 1), layers.BatchNormalization(), layers.Conv2D(4, 1), layers.Conv2D(4, 1)]


def nested(is_functional: bool) -> Any:
    """Augmentation, a base, part of it frozen, and a head; some of its layers have the same shapes."""
    layers = keras.layers
    base = keras.Sequential([keras.Input((6, 6, 4)), *parts(layers)], name="base")
    if is_functional:
        given = y = keras.Input((6, 6, 4))
        for part in parts(layers):
            y = part(y)
        base = keras.Model(given, y, name="base")
    base.layers[-2].trainable = base.layers[-4].trainable = False
    move = keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.1)], name="augmentation")
    head = keras.Sequential([layers.Flatten(), layers.Dropout(0.5), layers.Dense(5), layers.Dense(5)], name="head")
    return fill(keras.Sequential([keras.Input((6, 6, 4)), move, base, head, layers.Dense(3)]), 1)


def flat() -> Any:
    layers = tinyconv.layers
    row = parts(layers)
    row[-2].trainable = row[-4].trainable = False
    return fill(tinyconv.Sequential([
        layers.Input((6, 6, 4)), layers.RandomFlip(), layers.RandomRotation(0.1), *row, layers.Flatten(),
        layers.Dropout(0.5), layers.Dense(5), layers.Dense(5), layers.Dense(3)]), 2)


@pytest.mark.parametrize("is_functional", [False, True], ids=["Sequential", "Functional"])
@pytest.mark.parametrize("name", FILES)
def test_weights_of_models_in_models_go_into_the_row_of_their_layers(name, is_functional, tmp_path):
    theirs = nested(is_functional)
    write(theirs, tmp_path / name)
    model = flat()
    model.load_weights(tmp_path / name)
    expected = {array.tobytes() for array in values(theirs)}
    assert {array.tobytes() for array in values(model)} == expected
    x = np.random.default_rng(0).random((3, 6, 6, 4), np.float32) - np.float32(0.5)
    y = np.asarray(theirs(x, training=False))
    np.testing.assert_allclose(model.predict(x, verbose=0), y, rtol=1e-5)  # each in its place
    write(theirs, tmp_path / "whole.keras")
    whole = tinyconv.load_model(tmp_path / "whole.keras")
    fill(whole, 3).load_weights(tmp_path / name)  # by the names of Keras
    for a, b in zip(values(model), values(whole), strict=True):
        np.testing.assert_array_equal(a, b)
