"""`tinyconv convert`: from any format to any other, and whether the other runtime agrees."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from formats_cases import read_description, same_bits

from tinyconv import Sequential, cli, cli_check, layers, load_model

EXTRAS = {".keras": "h5py", ".h5": "h5py", ".onnx": "onnx", ".safetensors": "safetensors"}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sequential:
    """A model in the folder "in"; what is installed beside tinyconv is hidden."""
    made = Sequential([
        layers.Input((8, 7, 2)), layers.Rescaling(1 / 255), layers.Conv2D(3, 3, activation="relu"),
        layers.BatchNormalization(), layers.Flatten(), layers.Dense(4, activation="softmax"),
    ], seed=3)
    made.compile("adam", "sparse_categorical_crossentropy")
    made.save(tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli_check, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    return made


def convert(*argv: str, status: int = 0) -> None:
    assert cli.main(["convert", *argv]) == status


@pytest.mark.parametrize("name", ["out", "out/model.json", "m.keras", "m.h5", "m.onnx", "w.npz", "w.weights.h5",
                                  "w.safetensors"])
def test_every_format_is_written_and_read_again(name, model, capsys):
    pytest.importorskip(EXTRAS.get(Path(name).suffix, "numpy"))
    convert("in", name, "--check")
    wrote, checked = capsys.readouterr().out.splitlines()
    assert wrote == f"Wrote {name}: 5 layers, {model.count_params():,} weights"
    assert checked.startswith("Checked with tinyconv, which read it again, 16 random inputs: largest difference ")
    assert checked.endswith(" relative 0") or name == "m.onnx"
    if name.startswith("w."):
        other = Sequential.from_config(model.get_config())
        other.load_weights(name)
        assert same_bits(other, model)
        return
    convert(name, "back")  # and from there
    assert same_bits(load_model(name), load_model("back"))
    if name != "m.onnx":  # which has neither the same layers nor an optimizer
        assert same_bits(load_model("back"), model)
        assert load_model("back").optimizer is not None


def test_dialect_and_quantization(model, capsys):
    h5py = pytest.importorskip("h5py")
    convert("in", "m.h5", "--dialect", "keras2")
    with h5py.File("m.h5") as file:
        assert file.attrs["keras_version"] in ("2.15.0", b"2.15.0")
    convert("in", "out", "--quantization", "uint8", "--check")
    [group] = read_description(Path("out"))["weightsManifest"]
    assert {spec["quantization"]["dtype"] for spec in group["weights"]} == {"uint8"}
    _, _, quantized, checked = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"Weights as uint8: largest difference \d.*, relative \d.*", quantized)
    assert checked.endswith("largest difference 0, relative 0")


def test_every_option_of_save_is_one_of_convert(capsys):
    with pytest.raises(SystemExit):
        cli.main(["convert", "--help"])
    options = set(re.findall(r"--([a-z-]+)", capsys.readouterr().out)) - {"help", "threads", "check"}
    arguments = set(inspect.signature(Sequential.save).parameters) - {"self", "filepath", "overwrite"}
    assert {option.replace("-", "_") for option in options} == arguments


def test_opset_and_data_format_of_onnx(model, capsys):
    onnx = pytest.importorskip("onnx")
    convert("in", "m.onnx", "--opset", "17", "--data-format", "channels_first", "--check")
    written = onnx.load("m.onnx")
    assert written.opset_import[0].version == 17
    sizes = written.graph.input[0].type.tensor_type.shape.dim
    assert [size.dim_value for size in sizes[1:]] == [2, 8, 7]
    assert float(capsys.readouterr().out.split()[-1]) < 1e-5


def test_images_that_leave_with_their_channels_first_are_compared(model, capsys):
    pytest.importorskip("onnx")
    Sequential(load_model("in").layers[:3]).save("images")
    convert("images", "m.onnx", "--data-format", "channels_first", "--check")
    assert float(capsys.readouterr().out.split()[-1]) < 1e-5


def test_shard_bytes_cut_the_weights(model):
    convert("in", "out", "--shard-bytes", "1024")
    assert {path.stat().st_size for path in Path("out").glob("*.bin")} >= {1024}
    assert same_bits(load_model("out"), model)


@pytest.mark.parametrize(("argv", "error"), [
    (("in", "out", "--opset", "17"), "save expected opset for .onnx files only. Received: opset=17, path='out'"),
    (("in", "m.h5", "--data-format", "channels_first"), "save expected data_format for .onnx files only"),
    (("in", "m.h5", "--shard-bytes", "1024"), "save expected shard_bytes for TensorFlow.js' folders only"),
    (("in", "out", "--shard-bytes", "1023"), "save expected shard_bytes to be an integer of 1024 or more"),
    (("in", "w.npz", "--data-format", "channels_last"), "Expected no --data-format for weights alone"),
    (("in", "out", "--dialect", "keras2"), "expected dialect to be None or 'tinyconv' for a folder"),
    (("in", "m.h5", "--quantization", "uint8"), "expected quantization for TensorFlow.js' folders only"),
    (("in", "w.npz", "--quantization", "uint8"), "Expected no --quantization for weights alone"),
    (("in", "m.pb"), "or the name of a folder"),
    (("missing", "out"), "expected a model's folder"),
    (("w.npz", "out"), "holds weights alone"),
], ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")
def test_what_cannot_be_is_one_line_and_writes_nothing(argv, error, model, capsys):
    pytest.importorskip("h5py")
    convert(*argv, status=2)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("tinyconv: error: ")
    assert error in line
    assert [path.name for path in Path().iterdir()] == ["in"]


def test_layers_that_tensorflow_js_lacks_are_refused_or_asked_for(tmp_path, model, capsys):
    made = Sequential([layers.Input((8, 8, 1)), layers.CenterCrop(4, 4, name="crop"), layers.Flatten()])
    made.save(tmp_path / "odd", dialect="tinyconv")
    convert("odd", "out", status=2)
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("Received: CenterCrop 'crop'") and not (tmp_path / "out").exists()
    convert("odd", "out", "--dialect", "tinyconv")
    assert (tmp_path / "out" / "model.json").exists()


def test_warnings_of_formats_are_lines(tmp_path, model, capsys):
    pytest.importorskip("h5py")
    made = Sequential([layers.Input((8, 8, 1)), layers.Activation("celu"), layers.Flatten()])
    made.save(tmp_path / "odd", dialect="tinyconv")
    convert("odd", "m.h5", "--dialect", "keras2")
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("tinyconv: warning: Keras 2 will refuse this model, it has no activation celu")


@pytest.mark.parametrize(("change", "status", "relative"), [
    (lambda y: y * (1 + 5e-5), 0, "5e-05"), (lambda y: y * (1 - 2e-4), 2, "0.0002"), (lambda y: y * np.nan, 2, "nan")])
def test_a_difference_of_more_than_the_limit_is_status_2(change, status, relative, model, capsys, monkeypatch):
    monkeypatch.setattr(cli_check, "_tfjs", lambda model, target, x: ("TensorFlow.js 4", change(model.predict(x,
    verbose=0))))
    convert("in", "out", "--check", status=status)
    printed = capsys.readouterr()
    assert "\nChecked with TensorFlow.js 4, 16 random inputs: largest difference " in printed.out
    assert printed.out.endswith(f"relative {relative}\n")
    assert ("at most 0.0001" in printed.err) == bool(status)


def test_a_runtime_that_refuses_the_file_is_status_2(model, capsys, monkeypatch):
    def _tfjs(*_):
        raise RuntimeError("no such\nlayer")

    monkeypatch.setattr(cli_check, "_tfjs", _tfjs)
    convert("in", "out", "--check", status=2)
    assert capsys.readouterr().err == "tinyconv: error: --check expected tfjs to take out. Received: no such layer\n"


def test_inputs_are_those_of_a_model_that_rescales(model):
    x = cli_check._inputs(model)
    assert x.shape == (16, 8, 7, 2)
    assert 200 < x.max() <= 255
    assert cli_check._inputs(Sequential([layers.Input((5,)), layers.Dense(2)])).max() <= 1


def test_the_runtime_of_onnx_agrees(model, tmp_path, capsys, monkeypatch):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    monkeypatch.undo()
    convert(str(tmp_path / "in"), str(tmp_path / "m.onnx"), "--check")
    assert "Checked with ONNX Runtime" in capsys.readouterr().out


def tfjs_is_there() -> bool:
    return shutil.which("node") is not None and not subprocess.run(
        ["node", "-e", "require.resolve('@tensorflow/tfjs')"], capture_output=True, check=False).returncode


@pytest.mark.skipif(not tfjs_is_there(), reason="Node cannot find @tensorflow/tfjs: set NODE_PATH")
@pytest.mark.parametrize("options", [(), ("--quantization", "uint16")], ids=str)
def test_tensorflow_js_agrees(options, model, tmp_path, capsys, monkeypatch):
    monkeypatch.undo()
    convert(str(tmp_path / "in"), str(tmp_path / "out"), "--check", *options)
    assert re.search(r"Checked with TensorFlow.js \d", capsys.readouterr().out)
