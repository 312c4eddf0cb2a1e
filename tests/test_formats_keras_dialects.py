"""Keras' files of other writers: Keras 1 and 2, models within models."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from formats_cases import same_bits

from tinyconv import Sequential, layers, load_model
from tinyconv.formats import FormatError
from tinyconv.formats.keras1 import Origin

h5py = pytest.importorskip("h5py", reason="the extra [keras] is not installed")


# --- older dialects ---

def write_old(path: Path, config: object, weights: dict[str, dict[str, np.ndarray]], **attributes: str) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        for name, value in attributes.items():
            file.attrs[name] = value
        group = file.create_group("model_weights")
        for name, value in attributes.items():
            group.attrs[name] = value
        group.attrs["layer_names"] = [name.encode() for name in weights]
        for name, arrays in weights.items():
            own = group.create_group(name)
            own.attrs["weight_names"] = [key.encode() for key in arrays]
            for key, array in arrays.items():
                own.create_dataset(key, data=array)
    return path


def keras1_layers(ordering: str) -> list[dict[str, object]]:
    shape = [None, 8, 8, 2] if ordering == "tf" else [None, 2, 8, 8]
    return [
        {"class_name": "Convolution2D", "config": {
            "name": "convolution2d_1", "batch_input_shape": shape, "nb_filter": 3, "nb_row": 3, "nb_col": 2,
            "border_mode": "same", "subsample": [1, 2], "dim_ordering": ordering, "init": "glorot_uniform",
            "activation": "relu", "bias": True, "W_regularizer": {"name": "WeightRegularizer", "l1": 0.0, "l2": 0.01},
            "b_regularizer": None, "activity_regularizer": None, "W_constraint": None, "b_constraint": None,
            "trainable": True, "input_dtype": "float32"}},
        {"class_name": "MaxPooling2D", "config": {
            "name": "maxpooling2d_1", "pool_size": [2, 2], "strides": [2, 2], "border_mode": "valid",
            "dim_ordering": ordering, "trainable": True}},
        {"class_name": "Dropout", "config": {"name": "dropout_1", "p": 0.25, "trainable": True}},
        {"class_name": "Flatten", "config": {"name": "flatten_1", "trainable": True}},
        {"class_name": "Dense", "config": {
            "name": "dense_1", "output_dim": 4, "init": "uniform", "activation": "softmax", "bias": True,
            "W_regularizer": None, "b_regularizer": None, "activity_regularizer": None, "W_constraint": None,
            "b_constraint": None, "input_dim": 24, "trainable": True}},
    ]


@pytest.mark.parametrize(("ordering", "backend"), [("tf", "tensorflow"), ("th", "tensorflow"), ("th", "theano")])
def test_files_of_keras_1_load(ordering, backend, tmp_path):
    random = np.random.default_rng(1)
    kernel, dense = random.normal(size=(3, 2, 2, 3)), random.normal(size=(24, 4))
    stored = kernel[::-1, ::-1] if backend == "theano" else kernel
    arrays = {
        "convolution2d_1": {"convolution2d_1_W": (stored if ordering == "tf" else stored.transpose(3, 2, 0, 1)),
                            "convolution2d_1_b": np.arange(3.0)},
        "dense_1": {"dense_1_W": dense, "dense_1_b": np.arange(4.0)},
    }
    arrays = {name: {key: value.astype(np.float32) for key, value in held.items()} for name, held in arrays.items()}
    path = write_old(tmp_path / "old.h5", {"class_name": "Sequential", "config": keras1_layers(ordering)}, arrays,
                     keras_version="1.2.2", backend=backend)
    model = load_model(path)
    assert [type(layer).__name__ for layer in model.layers] == ["Conv2D", "MaxPooling2D", "Dropout", "Flatten", "Dense"]
    assert model.layers[0].strides == (1, 2)
    assert model.layers[0].kernel_regularizer.l2 == 0.01
    assert model.layers[2].rate == 0.25
    np.testing.assert_array_equal(model.layers[0].kernel.value, kernel.astype(np.float32))
    np.testing.assert_array_equal(model.layers[4].kernel.value, arrays["dense_1"]["dense_1_W"])


@pytest.mark.parametrize("ordering", ["tf", "th"])
def test_padding_of_keras_1_has_the_other_layers_order(ordering, tmp_path):
    first, *_ = keras1_layers(ordering)
    shape = first["config"].pop("batch_input_shape")
    row = [{"class_name": "ZeroPadding2D",
            "config": {"name": "p", "batch_input_shape": shape, "padding": [1, 2, 3, 4]}},
           {"class_name": "UpSampling2D", "config": {"name": "u", "size": [2, 1]}},
           {"class_name": "Cropping2D", "config": {"name": "c", "cropping": [[1, 0], [0, 2]]}}, first]
    model = load_model(write_old(tmp_path / "m.h5", {"class_name": "Sequential", "config": row}, {
        "convolution2d_1": {"W": np.ones((3, 2, 2, 3) if ordering == "tf" else (3, 2, 3, 2), np.float32),
                            "b": np.zeros(3, np.float32)}}, keras_version="1.2.2"))
    sizes = [layer.output_shape for layer in model.layers]
    assert sizes == ([(11, 15, 2), (22, 15, 2), (21, 13, 2), (21, 7, 3)] if ordering == "tf" else
                     [(2, 11, 15), (2, 22, 15), (2, 21, 13), (3, 21, 7)])


def test_sequences_of_keras_1_have_a_dimension_less_here():
    layer, shape = layers.Conv1D(4, 3), (3, 2, 4)
    value = np.arange(24, dtype=np.float32).reshape(3, 1, 2, 4)
    assert Origin("1.0", None).stored_shape(layer, "kernel", shape) == value.shape
    np.testing.assert_array_equal(Origin("1.0", None).convert(layer, "kernel", shape, value), value[:, 0])
    assert Origin("2.1", None).stored_shape(layer, "kernel", shape) == shape


def test_long_lists_of_names_come_in_parts(tmp_path):
    names = [f"{'x' * 900}{index}" for index in range(100)]
    model = Sequential([layers.Input((2,)), *(layers.Dense(2, name=name) for name in names)], seed=1)
    model.save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5") as file:
        assert "layer_names1" in file["model_weights"].attrs
    assert same_bits(load_model(tmp_path / "m.h5"), model)


def test_hard_sigmoid_is_another_function_in_keras_2(tmp_path):
    config = {"class_name": "Sequential", "config": {"layers": [
        {"class_name": "Activation", "config": {"name": "a", "activation": "hard_sigmoid",
                                                "batch_input_shape": [None, 3]}}]}}
    assert load_model(write_old(tmp_path / "3.h5", config, {}, keras_version="3.3.0")).output_shape == (None, 3)
    with pytest.raises(FormatError, match="Keras 2's hard_sigmoid"):
        load_model(write_old(tmp_path / "2.h5", config, {}, keras_version="2.9.0"))


@pytest.mark.parametrize("noise_shape", [2, [32, 1], [None, 1], None])
def test_noise_shapes_that_are_not_here_change_no_prediction(noise_shape, tmp_path):
    row = [{"class_name": "Dropout", "config": {"name": "d", "batch_input_shape": [None, 3], "rate": 0.5,
                                                "noise_shape": noise_shape}}]
    path = write_old(tmp_path / "m.h5", {"class_name": "Sequential", "config": {"layers": row}}, {})
    if noise_shape in (2, [32, 1]):
        with pytest.warns(UserWarning, match="Left out, as it matters to further training only: noise_shape of 'd'"):
            model = load_model(path)
        assert model.layers[0].noise_shape is None
    else:
        model = load_model(path)
        assert model.layers[0].noise_shape == (noise_shape and tuple(noise_shape))
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(model.predict(x, verbose=0), x)


# --- real files ---

def nested(tmp_path: Path, name: str) -> tuple[Sequential, Path]:
    """A model, and a file in which its second to fourth layer are a model of their own, as Keras writes one."""
    model = Sequential([
        layers.Input((6, 6, 2)), layers.Conv2D(3, 1, name="a"), layers.Conv2D(4, 3, name="b"),
        layers.BatchNormalization(name="c"), layers.ReLU(name="d"), layers.Conv2D(2, 2, name="e"),
    ], seed=1)
    path = tmp_path / name
    model.save(path)
    if name.endswith(".h5"):
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = json.dumps(_with_inner(json.loads(file.attrs["model_config"])))
            group, names = file["model_weights"], []
            for layer in ("b", "c"):
                names += [f"{layer}/{weight.name}" for weight in model.get_layer(layer).weights]
                for weight in model.get_layer(layer).weights:
                    group[f"inner/{layer}/{weight.name}"] = weight.value
                del group[layer]
            # What is trained comes first, in Keras.
            group["inner"].attrs["weight_names"] = sorted(names, key=lambda name: "moving" in name)
            group.attrs["layer_names"] = ["a", "inner", "e"]
            del file.attrs["tinyconv"]
        return model, path
    with zipfile.ZipFile(path) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    inside = tmp_path / "weights.h5"
    inside.write_bytes(members["model.weights.h5"])
    with h5py.File(inside, "r+") as file:
        for old, new in (("conv2d_1", "conv2d"), ("batch_normalization", "batch_normalization"), ("re_lu", "re_lu")):
            file.move(f"layers/{old}", f"layers/sequential/layers/{new}")
        file.move("layers/conv2d_2", "layers/conv2d_1")
    members["model.weights.h5"] = inside.read_bytes()
    members["config.json"] = json.dumps(_with_inner(json.loads(members["config.json"]))).encode()
    del members["metadata.json"]
    with zipfile.ZipFile(path, "w") as archive:
        for each, content in members.items():
            archive.writestr(each, content)
    return model, path


def _with_inner(config: dict[str, object]) -> dict[str, object]:
    config["config"].pop("build_input_shape", None)
    entries = config["config"]["layers"]
    start = next(index for index, entry in enumerate(entries) if entry["config"]["name"] == "b")
    entries[start:start + 3] = [{"class_name": "Sequential", "module": "keras",
                                 "config": {"name": "inner", "layers": entries[start:start + 3]}}]
    return config


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_models_in_models_are_read(name, tmp_path):
    model, path = nested(tmp_path, name)
    again = load_model(path)
    assert [layer.name for layer in again.layers] == ["a", "b", "c", "d", "e"]
    assert same_bits(model, again)


@pytest.mark.parametrize("change", ["a layer more", "a layer less", "a name"])
def test_weights_of_models_in_models_have_to_fit(change, tmp_path):
    _, path = nested(tmp_path, "m.h5")
    with h5py.File(path, "r+") as file:
        names = list(file["model_weights/inner"].attrs["weight_names"])
        if change == "a layer more":
            file["model_weights/inner/x/kernel"] = np.zeros(3, np.float32)
            names.append("x/kernel")
        elif change == "a layer less":
            names = [name for name in names if not name.startswith("c/")]
        else:
            file.move("model_weights/inner/b", "model_weights/inner/x")
            names = [name.replace("b/", "x/") for name in names]
        file["model_weights/inner"].attrs["weight_names"] = names
    with pytest.raises(FormatError, match="layers of 'inner'|weights of layer '[bc]'"):
        load_model(path)


# --- Keras 2.12 to 2.15: groups counted twice, and of Windows ---


def renamed(path: Path, groups: dict[str, str]) -> None:
    """Moves the groups of the weights in a `.keras` or `.weights.h5` file to other places."""
    members = {}
    inside = path
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            members = {each: archive.read(each) for each in archive.namelist()}
        inside = path.with_name("inside.h5")
        inside.write_bytes(members["model.weights.h5"])
    with h5py.File(inside, "r+") as file:
        file.attrs.pop("tinyconv", None)
        for old, new in groups.items():
            file.move(f"layers/{old}/vars", f"{new}/vars")
        del file["layers"]
    if members:
        members["model.weights.h5"] = inside.read_bytes()
        with zipfile.ZipFile(path, "w") as archive:
            for each, content in members.items():
                archive.writestr(each, content)


def several_of_a_class() -> Sequential:
    return Sequential([
        layers.Input((8, 8, 1)), layers.Conv2D(2, 3), layers.ReLU(), layers.Conv2D(2, 3), layers.ReLU(),
        layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(3), layers.Dense(2),
    ], seed=1)


TWICE = {"conv2d": "conv2d", "conv2d_1": "conv2d_2", "conv2d_2": "conv2d_4", "re_lu": "re_lu", "re_lu_1": "re_lu_1",
         "flatten": "flatten", "dense": "dense", "dense_1": "dense_2"}
ONCE = {name: name for name in TWICE}


@pytest.mark.parametrize("base, names", [
    ("_layer_checkpoint_dependencies/", TWICE), ("_layer_checkpoint_dependencies\\", TWICE),
    ("_layer_checkpoint_dependencies/", ONCE), ("_layer_checkpoint_dependencies\\", ONCE), ("layers\\", ONCE),
], ids=["2.13", "2.13 Windows", "2.14", "2.14 Windows", "2.15 Windows"])
@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5"])
def test_groups_of_keras_2_are_found(name, base, names, tmp_path):
    model, path = several_of_a_class(), tmp_path / name
    (model.save if name == "m.keras" else model.save_weights)(path)
    renamed(path, {old: f"{base}{new}" for old, new in names.items()})
    again = several_of_a_class()
    again.set_weights([np.zeros_like(array) for array in again.get_weights()])
    again.load_weights(path)
    assert same_bits(model, again)
    if name == "m.keras":
        assert same_bits(model, load_model(path))


@pytest.mark.parametrize("separator", ["/", "\\"])
def test_groups_of_models_in_models_of_keras_2_are_found(separator, tmp_path):
    model, path = nested(tmp_path, "m.keras")
    base = "_layer_checkpoint_dependencies"
    renamed(path, {old: f"{base}/{new}".replace("/", separator) for old, new in {
        "conv2d": "conv2d", "conv2d_1": "conv2d_2", "sequential/layers/conv2d": f"sequential/{base}/conv2d",
        "sequential/layers/batch_normalization": f"sequential/{base}/batch_normalization",
    }.items()})
    assert same_bits(model, load_model(path))


def test_a_group_of_keras_2_that_is_missing_is_refused(tmp_path):
    path = tmp_path / "m.keras"
    several_of_a_class().save(path)
    renamed(path, {old: f"_layer_checkpoint_dependencies/{new}" for old, new in TWICE.items() if old != "dense_1"})
    with pytest.raises(FormatError, match="weights of layer 'dense_.*Received: 0"):
        load_model(path)
