"""Quantized weights for TensorFlow.js: as close as their steps are, and readable here."""

from __future__ import annotations

import math

import numpy as np
import pytest
from formats_cases import data, read_description, same_bits, small_model

from tinyconv import Sequential, layers, load_model
from tinyconv.formats import FormatError
from tinyconv.formats.quantize import QUANTIZATIONS, quantize

BYTES = {"uint8": 1, "uint16": 2, "float16": 2}


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
@pytest.mark.parametrize("values", [[-1.0, 0.0, 2.5], [0.5, 3.0], [-2.0, -1.0], [0.0], [7.0, 7.0], [-1e-30, 1e-30],
[9e34, -9e34]])
def test_stored_numbers_stand_for_values_within_a_step(kind, values):
    array = np.concatenate([values, np.linspace(min(values), max(values), 999)]).astype(np.float32)
    stored, how = quantize(array, kind, "w")
    assert stored.dtype == how["dtype"] == kind
    assert how["original_dtype"] == "float32"
    found = stored * how["scale"] + how["min"]
    steps = 2 ** (8 * stored.itemsize) - 1
    span = float(array.max()) - float(array.min())
    assert math.isclose(how["scale"], span / steps or 1.0)
    np.testing.assert_allclose(found, array, rtol=1e-7, atol=how["scale"] if span else 0)
    assert (found[array == 0] == 0).all()  # zeros stay zeros


@pytest.mark.parametrize("kind", QUANTIZATIONS)
def test_quantized_model_is_small_and_loads(kind, tmp_path):
    model = small_model()
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    x, y = data()
    model.fit(x, y, verbose=0)
    model.save(tmp_path, quantization=kind)
    size = sum(weight.value.size for weight in model.weights)
    assert (tmp_path / "weights.bin").stat().st_size == BYTES[kind] * size
    specs = [spec for group in read_description(tmp_path)["weightsManifest"] for spec in group["weights"]]
    assert {spec["quantization"]["dtype"] for spec in specs} == {kind}
    assert {spec["dtype"] for spec in specs} == {"float32"}
    loaded = load_model(tmp_path)
    for weight, spec, own in zip(loaded.weights, specs, model.weights, strict=True):
        step = spec["quantization"].get("scale", 2**-11 * np.abs(own.value).max())
        np.testing.assert_allclose(weight.value, own.value, atol=step)
    assert loaded.optimizer.iterations == 0  # compiled, its state begins afresh
    loaded.fit(x, y, verbose=0)
    loaded.save(tmp_path)
    assert same_bits(load_model(tmp_path), loaded)


@pytest.mark.parametrize(("kind", "value"), [("float16", 65520.0), ("uint8", 2e35), ("uint16", np.inf),
("uint8", np.nan)])
def test_values_that_do_not_fit_are_refused_before_anything_is_written(kind, value, tmp_path):
    model = Sequential([layers.Dense(2, input_shape=(3,), name="d")])
    model.set_weights([np.full((3, 2), value, np.float32), np.zeros(2)])
    with pytest.raises(ValueError, match=f"expected weights from .* to quantize to {kind}. Received: 'd/kernel' from"):
        model.save(tmp_path / "model", quantization=kind)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "kind"), [("model", "int8"), ("model", 8), ("model.keras", "uint8"),
("model.onnx", "uint8")])
def test_other_quantizations_are_refused(name, kind, tmp_path):
    pytest.importorskip("onnx" if name.endswith("onnx") else "h5py")
    with pytest.raises(ValueError, match="save expected quantization .* Received: quantization=") as caught:
        small_model().save(tmp_path / name, quantization=kind)
    assert not isinstance(caught.value, FormatError)
    assert not list(tmp_path.iterdir())
