"""ONNX files as they are written, run by others."""

from __future__ import annotations

import numpy as np
import pytest
from formats_cases import small_model
from onnx_helpers import IMAGE, MODELS, as_channels_first, assert_close, filled, onnx, run, samples

from tinyconv import Sequential, activations, layers
from tinyconv.engine.program import ACTIVATIONS
from tinyconv.formats import save_model


@pytest.mark.parametrize("name", MODELS)
def test_a_model_runs_elsewhere_with_the_same_outputs(name, tmp_path):
    shape, stack = MODELS[name]
    model = filled(shape, *stack)
    model.save(tmp_path / "m.onnx")
    onnx.checker.check_model(str(tmp_path / "m.onnx"), full_check=True)
    x = samples(shape)
    assert_close(run(tmp_path / "m.onnx", x), model.predict(x, verbose=0))


@pytest.mark.parametrize("name", ["tutorial", "groups", "sequence", "transposed-same", "borders", "vectors",
                                  "normalized"])
def test_images_may_enter_and_leave_with_their_channels_first(name, tmp_path):
    shape, stack = MODELS[name]
    model = filled(shape, *stack)
    model.save(tmp_path / "m.onnx", data_format="channels_first")
    x = samples(shape)
    y = run(tmp_path / "m.onnx", as_channels_first(x) if x.ndim > 2 else x)
    expected = model.predict(x, verbose=0)
    assert_close(y, as_channels_first(expected) if expected.ndim > 2 else expected)
    if name == "tutorial":
        operators = [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node]
        assert operators == ["Conv", "Relu", "MaxPool", "Conv", "Relu", "MaxPool", "Flatten", "Gemm", "Softmax"]


RELUS = [(None, 0.2, 0.3), (1.5, 0.2, 0.3), (1.5, 0, 0), (1.5, 0.2, 0), (1.5, 0, 0.3), (None, 0, 0.3)]


@pytest.mark.parametrize("opset", [13, 20])
def test_activations_are_the_same_functions(opset, tmp_path):
    x = np.linspace(-30, 30, 601, dtype=np.float32).reshape(1, 601, 1)
    for layer in [*(layers.Activation(name) for name in ACTIVATIONS), layers.LeakyReLU(0.1), layers.ELU(0.5),
                  *(layers.ReLU(*arguments) for arguments in RELUS)]:
        model = Sequential([layers.Input((601, 1)), layer])
        model.save(tmp_path / "m.onnx", opset=opset)
        y, expected = run(tmp_path / "m.onnx", x), model.predict(x, verbose=0)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6, err_msg=str(layer.get_config()))


def test_every_activation_has_a_line():
    assert {activations.lower(activations.get(name))[0] for name in ACTIVATIONS} == set(ACTIVATIONS)


def test_the_batch_size_stays_free(tmp_path):
    model = filled((28, 28, 1), *MODELS["tutorial"][1])
    model.save(tmp_path / "m.onnx")
    for count in (1, 2, 5):
        x = samples((28, 28, 1), count)
        assert_close(run(tmp_path / "m.onnx", x), model.predict(x, verbose=0))
    graph = onnx.load(tmp_path / "m.onnx").graph
    assert [dim.dim_param or dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim] == ["batch", 28, 28, 1]
    assert [dim.dim_param or dim.dim_value for dim in graph.output[0].type.tensor_type.shape.dim] == ["batch", 10]
    assert [node.op_type for node in graph.node].count("Transpose") == 1


def test_operators_are_those_of_the_opset(tmp_path):
    model = Sequential([layers.Input((4,)), *(layers.Activation(name) for name in ("mish", "gelu", "hard_silu"))])
    found = {}
    for opset in (None, 14, 18, 20):
        model.save(tmp_path / "m.onnx", opset=opset)
        proto = onnx.load(tmp_path / "m.onnx")
        found[proto.opset_import[0].version] = {node.op_type for node in proto.graph.node}
    assert {"Mish", "Gelu", "HardSwish"} & found[13] == set()
    assert {"Mish", "Gelu", "HardSwish"} & found[14] == {"HardSwish"}
    assert {"Mish", "Gelu", "HardSwish"} & found[18] == {"HardSwish", "Mish"}
    assert found[20] == {"Mish", "Gelu", "HardSwish"}


def test_names_of_layers_are_kept_apart(tmp_path):
    model = Sequential([layers.Input((4,)), layers.Dense(3, name="input"), layers.Dense(2, name="output"),
                        layers.Dense(2, name="batch", activation="mish")])
    model.save(tmp_path / "m.onnx")
    onnx.checker.check_model(str(tmp_path / "m.onnx"), full_check=True)
    assert_close(run(tmp_path / "m.onnx", samples((4,))), model.predict(samples((4,)), verbose=0))


class _Own(layers.Dense):
    pass


@pytest.mark.parametrize(("layer", "message"), [
    (layers.Resizing(3, 3, "lanczos3", name="one"), "Received: 'one': ONNX has no interpolation 'lanczos3'"),
    (layers.Resizing(3, 3, antialias=True, name="one"), "Received: 'one': ONNX has no antialias"),
    (layers.Resizing(3, 3, "bicubic", name="one"), "Received: 'one': ONNX Runtime does not shrink"),
    (_Own(3, name="one"), "Received: 'one' of class _Own"),
])
def test_what_onnx_has_not_is_refused_by_name_before_anything_is_written(layer, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        filled(IMAGE, layer).save(tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_arguments_are_checked(tmp_path):
    model = small_model()
    for opset in (12, 1000, 13.0, True):
        with pytest.raises(ValueError, match="Expected opset to be an integer from 13 to"):
            model.save(tmp_path / "m.onnx", opset=opset)
    with pytest.raises(ValueError, match="data_format"):
        model.save(tmp_path / "m.onnx", data_format="nchw")
    with pytest.raises(ValueError, match="dialect for .keras and .h5 files and TensorFlow.js' folders only"):
        model.save(tmp_path / "m.onnx", dialect="keras3")
    for setting in ({"opset": 13}, {"data_format": "channels_last"}):
        with pytest.raises(ValueError, match=f"expected {next(iter(setting))} for .onnx files only"):
            model.save(tmp_path / "m.keras", **setting)
    with pytest.raises(ValueError, match="a built model"):
        save_model(Sequential([layers.Dense(3)]), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_replaced_when_it_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    small_model().save(path)
    first = path.read_bytes()
    with pytest.raises(FileExistsError):
        small_model(2).save(path, overwrite=False)
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            small_model(2).save(path)
    assert path.read_bytes() == first
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]
    small_model(2).save(path)
    assert path.read_bytes() != first


def test_without_onnx_one_line_says_what_to_install(run_python, tmp_path):
    out = run_python("""
        import sys
        sys.modules["onnx"] = None
        from tinyconv import Sequential, layers
        try:
            Sequential([layers.Dense(2, input_shape=(3,))]).save(sys.argv[1])
        except ImportError as error:
            print(error)
        """, str(tmp_path / "m.onnx")).stdout
    assert out.splitlines() == ["ONNX files need onnx: pip install 'tinyconv[onnx]'"]
