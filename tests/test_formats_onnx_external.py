"""ONNX files whose tensors lie in files beside them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_helpers import MODELS, filled, node, onnx, random, write

from tinyconv import load_model
from tinyconv.formats import FormatError

WEIGHT = random(6, 3)


def saved(folder: Path, attribute: bool = False, clear: bool = True, **entries: str) -> Path:
    """A file of one MatMul, its weight in another one; `entries` say where."""
    nodes = [node("MatMul", "input w", "y")]
    path = write(folder / "m.onnx", nodes, (6,), {"w": WEIGHT})
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    if clear:
        tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key.rstrip("_"), value=value)
    if attribute:
        model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["w"], value=tensor))
        del model.graph.initializer[:]
    path.write_bytes(model.SerializeToString())
    return path


def refused(path: Path, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        load_model(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("location", ["m.onnx.data", "sub/weights.bin"])
def test_weights_beside_the_model_are_read(location, tmp_path):
    shape, stack = MODELS["tutorial"]
    model, path = filled(shape, *stack), tmp_path / "m.onnx"
    model.save(path)
    expected = load_model(path)
    (tmp_path / location).parent.mkdir(exist_ok=True)
    onnx.save_model(onnx.load(path), path, save_as_external_data=True, location=location, size_threshold=0)
    assert (tmp_path / location).stat().st_size >= sum(array.nbytes for array in model.get_weights())
    again = load_model(path)
    for a, b in zip(expected.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    (tmp_path / location).unlink()
    refused(path, f"no such file in {tmp_path}. Received: '{location}'")


@pytest.mark.parametrize("entries", [{}, {"offset": "8"}, {"offset": "8", "length": "72"}])
def test_places_in_the_file_are_kept(entries, tmp_path):
    data = bytes(int(entries.get("offset", "0"))) + WEIGHT.tobytes() + bytes(3)
    (tmp_path / "w.bin").write_bytes(data)
    model = load_model(saved(tmp_path, location="w.bin", **entries))
    np.testing.assert_array_equal(model.get_weights()[0], WEIGHT)


@pytest.mark.parametrize("entries, message", [
    ({"location": "../w.bin"}, "a relative path inside the model's folder"),
    ({"location": "sub/../../w.bin"}, "a relative path inside the model's folder"),
    ({"location": "/etc/hostname"}, "a relative path inside the model's folder"),
    ({"location": "C:\\w.bin"}, "a relative path inside the model's folder"),
    ({"location": "link.bin"}, "a path inside the model's folder"),
    ({"location": "folder"}, "a plain file"),
    ({"location": ""}, "a name"),
    ({}, "a name"),
    ({"location": "w.bin", "location_": "w.bin"}, "every name once"),
    ({"location": "w.bin", "offset": "-1"}, "a number of bytes"),
    ({"location": "w.bin", "offset": "1e1"}, "a number of bytes"),
    ({"location": "w.bin", "offset": "1"}, "72 bytes of 'w.bin' (72 bytes)"),
    ({"location": "w.bin", "offset": "9" * 18}, "72 bytes of 'w.bin' (72 bytes)"),
    ({"location": "w.bin", "length": "71"}, "72 bytes of 'w.bin' (72 bytes)"),
    ({"location": "w.bin", "length": ""}, "a number of bytes"),
], ids=str)
def test_other_places_are_refused(entries, message, tmp_path):
    folder = tmp_path / "model"
    (folder / "folder").mkdir(parents=True)
    for place in (tmp_path, folder):
        (place / "w.bin").write_bytes(bytes(72))
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    refused(saved(folder, **entries), message)


def test_named_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "w.bin")
    refused(saved(tmp_path, location="w.bin"), "a plain file")


def test_values_in_two_places_and_attributes_elsewhere_are_refused(tmp_path):
    (tmp_path / "w.bin").write_bytes(bytes(72))
    refused(saved(tmp_path, location="w.bin", clear=False), "values in the file itself")
    refused(saved(tmp_path, location="w.bin", attribute=True), "values in the file itself")


@pytest.mark.parametrize("name", ["./w.bin", "soft.bin", "hard.bin"])
def test_bytes_of_a_file_count_once(name, tmp_path):
    (tmp_path / "w.bin").write_bytes(bytes(72))
    if os.name != "nt":
        (tmp_path / "soft.bin").symlink_to("w.bin")
        os.link(tmp_path / "w.bin", tmp_path / "hard.bin")
    elif name != "./w.bin":
        pytest.skip("links need rights on Windows")
    path = saved(tmp_path, location="w.bin")
    model: Any = onnx.load(path, load_external_data=False)
    copy = model.graph.initializer.add()
    copy.CopyFrom(model.graph.initializer[0])
    copy.name = "v"
    copy.external_data[0].value = name
    path.write_bytes(model.SerializeToString())
    refused(path, f"tensors of 72 bytes in '{name}'")


def test_a_file_that_shrinks_meanwhile_is_refused(tmp_path, monkeypatch):
    from tinyconv.formats.onnx import external

    (tmp_path / "w.bin").write_bytes(bytes(72))
    true_open = external.open_inside

    def shrink(*arguments: Any) -> Any:
        found = true_open(*arguments)
        (tmp_path / "w.bin").write_bytes(bytes(10))
        return found

    monkeypatch.setattr(external, "open_inside", shrink)
    refused(saved(tmp_path, location="w.bin"), "72 bytes of 'w.bin'. Received: 10")
