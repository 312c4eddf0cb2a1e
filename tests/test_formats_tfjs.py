"""TensorFlow.js folders: what is written reads back, and so does what others write."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from formats_cases import (
    OPTIMIZERS,
    data,
    read_description,
    same_bits,
    small_model,
    write_description,
)

from tinyconv import Sequential, formats, initializers, layers, load_model, losses, metrics, optimizers
from tinyconv.formats import FormatError
from tinyconv.formats.manifest import parse_manifest


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Sequential, Path, dict]:
    """A model, the folder it was saved to, and the description there."""
    model = small_model()
    model.save(tmp_path / "model")
    return model, tmp_path / "model", read_description(tmp_path / "model")


# --- round trips ---

LAYER_STACKS = {
    "conv2d": [layers.Conv2D(3, (3, 2), strides=(1, 2), padding="same", activation="tanh",
                             kernel_initializer="he_normal", bias_initializer=initializers.Constant(0.5))],
    "conv2d_dilated_no_bias": [layers.Conv2D(2, 2, dilation_rate=(2, 1), use_bias=False, trainable=False)],
    "conv1d": [layers.Reshape((16, 8)), layers.Conv1D(3, 3, strides=2, padding="same"), layers.MaxPooling1D(),
               layers.AveragePooling1D(2, 1), layers.GlobalAveragePooling1D()],
    "depthwise": [layers.DepthwiseConv2D(3, depth_multiplier=2, depthwise_initializer="he_uniform")],
    "separable": [layers.SeparableConv2D(3, 3, dilation_rate=2, pointwise_initializer="lecun_normal")],
    "transpose": [layers.Conv2DTranspose(3, 3, strides=2, padding="same", activation="relu")],
    "dense_on_image": [layers.Dense(5, "sigmoid", kernel_initializer="lecun_uniform")],
    "batch_normalization": [layers.BatchNormalization(3, 0.9, 1e-5, gamma_initializer="random_normal"),
                            layers.BatchNormalization(center=False, scale=False, trainable=False)],
    "max_pooling": [layers.MaxPooling2D((3, 2), 2, padding="same")],
    "average_pooling": [layers.AveragePooling2D(2, (1, 2))],
    "global_max": [layers.GlobalMaxPooling2D()],
    "global_average": [layers.GlobalAveragePooling2D()],
    "flatten_dense": [layers.Flatten(), layers.Dense(3, use_bias=False)],
    "reshape": [layers.Reshape((4, 32)), layers.Reshape((-1,))],
    "dropout": [layers.Dropout(0.5, seed=3)],
    "activations": [layers.Activation(name) for name in (
        "elu", "gelu", "log_softmax", "mish", "relu6", "selu", "silu", "softmax", "softplus", "softsign",
        "linear")],
    "relu": [layers.ReLU(), layers.ReLU(max_value=2.0)],
    "leaky_relu_elu": [layers.LeakyReLU(0.1), layers.ELU()],
    "prelu": [layers.PReLU(shared_axes=[1, 2]), layers.PReLU("random_normal", alpha_regularizer="l2", shared_axes=1),
              layers.Flatten(), layers.PReLU(alpha_constraint="non_neg", trainable=False)],
    "softmax": [layers.Softmax(), layers.Softmax(axis=3)],
    "rescaling": [layers.Rescaling(1 / 3, offset=-0.7)],
}


@pytest.mark.parametrize("stack", LAYER_STACKS.values(), ids=LAYER_STACKS.keys())
def test_save_load_keeps_every_layer(stack: list, tmp_path: Path) -> None:
    stack = [type(layer).from_config(layer.get_config()) for layer in stack]
    model = Sequential([layers.Input((8, 8, 2)), *stack], name="mine")
    model.save(tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.name == "mine"
    assert same_bits(model, loaded)
    assert loaded.input_shape == model.input_shape
    assert loaded.output_shape == model.output_shape
    assert [op for op in loaded.program.ops] == [op for op in model.program.ops]
    assert [layer.trainable for layer in loaded.layers] == [layer.trainable for layer in model.layers]


def test_save_writes_the_keras_2_dialect(saved: tuple) -> None:
    _, folder, document = saved
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "weights.bin"]
    assert document["format"] == "layers-model"
    first = document["modelTopology"]["config"]["layers"][0]
    assert first["class_name"] == "Conv2D"
    assert first["config"]["batch_input_shape"] == [None, 8, 8, 1]
    assert first["config"]["dtype"] == "float32"
    assert "groups" not in first["config"]
    assert first["config"]["kernel_initializer"] == {"class_name": "GlorotUniform", "config": {"seed": None}}
    names = [spec["name"] for spec in document["weightsManifest"][0]["weights"]]
    conv, dense = (document["modelTopology"]["config"]["layers"][i]["config"]["name"] for i in (0, 4))
    assert names == [f"{conv}/kernel", f"{conv}/bias", f"{dense}/kernel", f"{dense}/bias"]


@pytest.mark.parametrize(("name", "written"), [
    ("lecun_normal", {"scale": 1.0, "mode": "fan_in", "distribution": "truncated_normal", "seed": None}),
    ("glorot_normal", {"seed": None}),
    (initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal", 7),
     {"mean": 0.0, "stddev": math.sqrt(2 / 36), "seed": 7}),
])
def test_save_writes_initializers_that_others_have(name: Any, written: dict, tmp_path: Path) -> None:
    model = Sequential([layers.Conv2D(4, 3, kernel_initializer=name, input_shape=(5, 5, 2))])
    model.save(tmp_path)
    [layer] = read_description(tmp_path)["modelTopology"]["config"]["layers"]
    assert layer["config"]["kernel_initializer"]["config"] == written
    assert same_bits(model, load_model(tmp_path))


FIRST: dict[str, Any] = {"data_format": "channels_first"}
# What TensorFlow.js lacks, or computes otherwise: the input's shape, the layer, and what is said of it.
LACKING = [
    ((4, 4, 2), layers.Activation("hard_sigmoid", name="a"), "activation hard_sigmoid of 'a'"),
    ((4, 4, 2), layers.Activation("gelu_tanh", name="a"), "activation gelu_tanh of 'a'"),
    ((4, 4, 2), layers.Conv2D(2, 1, activation="leaky_relu", name="a"), "activation leaky_relu of 'a'"),
    ((4, 4, 2), layers.Dense(2, activation=layers.ReLU(max_value=1), name="a"), "activation ReLU of 'a'"),
    ((4, 4, 2), layers.ReLU(negative_slope=0.5, name="a"), "ReLU 'a' with negative_slope"),
    ((4, 4, 2), layers.ReLU(threshold=1.0, name="a"), "ReLU 'a' with threshold"),
    ((4, 4, 2), layers.ELU(0.5, name="a"), "ELU 'a' with alpha"),
    ((4, 4, 2), layers.Softmax(axis=1, name="a"), "Softmax 'a' with an axis that is not the last"),
    ((4, 4, 2), layers.BatchNormalization(axis=1, name="a"), "BatchNormalization 'a' with an axis that is not the last"),
    ((4, 4, 2), layers.GlobalMaxPooling2D(keepdims=True, name="a"), "GlobalMaxPooling2D 'a' with keepdims"),
    ((4, 4, 2), layers.Normalization(name="a"), "Normalization 'a'"),
    ((4, 4, 2), layers.Normalization(axis=None, mean=0.5, variance=2.0, invert=True, name="a"), "Normalization 'a'"),
    ((4, 4, 2), layers.UpSampling2D(2, interpolation="bilinear", name="a"), "UpSampling2D 'a' with interpolation"),
    ((4, 4, 2), layers.Resizing(3, 3, name="a"), "Resizing 'a'"),
    ((4, 4, 2), layers.CenterCrop(3, 3, name="a"), "CenterCrop 'a'"),
    ((4, 4, 2), layers.SpatialDropout2D(0.5, name="a"), "SpatialDropout2D 'a'"),
    ((4, 4, 2), layers.Conv2D(4, 3, groups=2, name="a"), "Conv2D 'a' with groups"),
    ((6, 6, 2), layers.Conv2D(2, 2, strides=(2, 1), dilation_rate=2, name="a"), "Conv2D 'a' with strides and dilation"),
    ((6, 6, 2), layers.SeparableConv2D(2, 2, strides=2, dilation_rate=2, name="a"), "'a' with strides and dilation"),
    ((6, 6, 2), layers.DepthwiseConv2D(2, dilation_rate=2, name="a"), "DepthwiseConv2D 'a' with dilation"),
    ((4, 4, 2), layers.Conv2DTranspose(2, 3, strides=2, output_padding=1, name="a"), "'a' with output_padding"),
    ((4, 4, 2), layers.Conv2DTranspose(2, 3, dilation_rate=2, name="a"), "Conv2DTranspose 'a' with dilation"),
    ((2, 4, 4), layers.SeparableConv2D(2, 3, **FIRST, name="a"), "SeparableConv2D 'a' with data_format='channels_first'"),
    ((2, 6), layers.Conv1D(2, 3, **FIRST, name="a"), "Conv1D 'a' with data_format='channels_first'"),
    ((2, 6), layers.MaxPooling1D(**FIRST, name="a"), "MaxPooling1D 'a' with data_format='channels_first'"),
    ((6, 2), layers.Conv1D(2, 3, padding="causal", name="a"), "Conv1D 'a' with causal padding"),
    *[((6, 2), layer, f"{type(layer).__name__} 'a'") for layer in (
        layers.DepthwiseConv1D(2, name="a"), layers.SeparableConv1D(2, 3, name="a"), layers.UpSampling1D(name="a"),
        layers.Conv1DTranspose(2, 3, name="a"), layers.ZeroPadding1D(name="a"), layers.Cropping1D(name="a"))],
    *[((4, 4, 2), layer, f"{type(layer).__name__} 'a'") for layer in (
        layers.RandomFlip(name="a"), layers.RandomRotation(0.1, name="a"), layers.RandomTranslation(0.1, 0.1, name="a"),
        layers.RandomZoom(0.1, name="a"))],
]


@pytest.mark.parametrize(("shape", "layer", "message"), LACKING, ids=[case[2].replace(" ", "-") for case in LACKING])
def test_save_refuses_what_tensorflow_js_lacks(shape: tuple, layer: layers.Layer, message: str, tmp_path: Path) -> None:
    model = Sequential([layers.Input(shape), type(layer).from_config(layer.get_config())], seed=1)
    with pytest.raises(ValueError, match="save expected for a folder what TensorFlow.js has .*Received: ") as caught:
        model.save(tmp_path / "model")
    assert str(caught.value).endswith(f"Received: {message}") or str(caught.value).endswith(message)
    assert "\n" not in str(caught.value) and not (tmp_path / "model").exists()
    model.save(tmp_path / "model", dialect="tinyconv")
    assert "tinyconv>" in (tmp_path / "model" / "model.json").read_text()
    loaded = load_model(tmp_path / "model")
    assert str(loaded.program.ops) == str(model.program.ops)
    assert same_bits(loaded, model)


def test_save_names_all_that_tensorflow_js_lacks(tmp_path: Path) -> None:
    model = Sequential([layers.Input((4, 4, 2)), layers.RandomFlip(name="flip"), layers.Flatten(),
                        layers.Dense(2, activation="celu", name="out")])
    with pytest.raises(ValueError, match="Received: RandomFlip 'flip', activation celu of 'out'$"):
        model.save(tmp_path)
    model = Sequential([layers.Input((4, 4, 2)), *[layers.RandomFlip(name=f"flip{index}") for index in range(99)]])
    with pytest.raises(ValueError, match=r"\.\.\.$") as caught:
        model.save(tmp_path)
    assert len(str(caught.value)) < 500
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("options", "message"), [
    ({"dialect": "keras3"}, "dialect to be None or 'tinyconv' for a folder. Received: dialect='keras3'"),
    ({"shard_bytes": 1000}, "shard_bytes to be an integer of 1024 or more. Received: shard_bytes=1000"),
    ({"shard_bytes": 4096.0}, "Received: shard_bytes=4096.0"),
    ({"shard_bytes": 1024}, "shard_bytes for at most 256 files of weights. Received: shard_bytes=1024 for 257"),
    ({"opset": 13}, "save expected opset for .onnx files only. Received: opset=13"),
])
def test_save_checks_its_options(options: dict, message: str, tmp_path: Path) -> None:
    model = Sequential([layers.Input((64,)), layers.Dense(1025, use_bias=False)])
    with pytest.raises(ValueError, match=message):
        model.save(tmp_path / "model", **options)
    with pytest.raises(ValueError, match="save expected shard_bytes for TensorFlow.js' folders only"):
        model.save(tmp_path / "m.keras", shard_bytes=4096)
    assert list(tmp_path.iterdir()) == []


def test_save_writes_shards(tmp_path: Path) -> None:
    x, y = data(8)
    model = Sequential([layers.Input((8, 8, 1)), layers.Conv2D(16, 3), layers.Flatten(), layers.Dense(4)], seed=1)
    model.compile("adam", "mse")
    model.fit(x, y, verbose=0)
    model.save(tmp_path, shard_bytes=4096)
    [group] = read_description(tmp_path)["weightsManifest"]
    assert group["paths"] == [f"weights-shard{index}of8.bin" for index in range(1, 9)]
    sizes = [(tmp_path / path).stat().st_size for path in group["paths"]]
    assert sizes[:-1] == [4096] * 7 and 0 < sizes[-1] <= 4096
    loaded = load_model(tmp_path)
    assert same_bits(model, loaded)
    assert [a.tobytes() for a in loaded.optimizer.get_weights()] == [
        a.tobytes() for a in model.optimizer.get_weights()]
    model.fit(x, y, verbose=0)
    model.save(tmp_path, shard_bytes=20000)  # the old files go
    model.save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert same_bits(model, load_model(tmp_path))


def test_load_reads_the_activation_that_tensorflow_js_alone_has(tmp_path: Path) -> None:
    Sequential([layers.Input((3,)), layers.Activation("relu")]).save(tmp_path)
    path = tmp_path / "model.json"
    path.write_text(path.read_text().replace('"relu"', '"gelu_new"'))
    x = np.array([[-1, 0.5, 2]], np.float32)
    np.testing.assert_allclose(load_model(tmp_path).predict(x, verbose=0), [[-0.158808, 0.345714, 1.954598]], atol=2e-6)


def test_load_finds_the_depth_multiplier_that_tensorflow_js_leaves_out(tmp_path: Path) -> None:
    model = Sequential([layers.Input((6, 6, 2)), layers.SeparableConv2D(3, 2, depth_multiplier=2)])
    model.save(tmp_path)
    document = read_description(tmp_path)
    del document["modelTopology"]["config"]["layers"][0]["config"]["depth_multiplier"]
    write_description(tmp_path, document)
    assert same_bits(model, load_model(tmp_path))


def test_save_writes_the_weight_names_of_tensorflow_js(tmp_path: Path) -> None:
    Sequential([layers.Input((6, 6, 2)), layers.DepthwiseConv2D(3, name="deep"),
                layers.SeparableConv2D(2, 2, name="apart")]).save(tmp_path)
    names = [spec["name"] for spec in read_description(tmp_path)["weightsManifest"][0]["weights"]]
    assert names == ["deep/depthwise_kernel", "deep/bias", "apart/depthwise_kernel", "apart/pointwise_kernel",
                     "apart/bias"]


def test_save_load_keeps_channels_first(tmp_path: Path) -> None:
    first: dict[str, Any] = {"data_format": "channels_first"}
    model = Sequential([layers.Input((2, 8, 7)), layers.Conv2D(3, 3, **first), layers.MaxPooling2D(2, **first),
                        layers.Flatten(**first)])
    model.save(tmp_path)
    x = np.random.default_rng(1).normal(size=(3, 2, 8, 7)).astype(np.float32)
    np.testing.assert_array_equal(load_model(tmp_path).predict(x, verbose=0), model.predict(x, verbose=0))


def test_save_refuses_unbuilt_model_and_foreign_layers(tmp_path: Path) -> None:
    class Mine(layers.Layer):
        pass

    with pytest.raises(ValueError, match="expected a built model"):
        Sequential([layers.Dense(2)]).save(tmp_path / "a")
    with pytest.raises(ValueError, match="of class Mine"):
        Sequential([layers.Input((3,)), Mine()]).save(tmp_path / "a")
    assert not (tmp_path / "a").exists()


# --- training goes on ---

@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_training_goes_on_bit_for_bit_after_load(make: Any, tmp_path: Path) -> None:
    x, y = data()
    straight, interrupted = small_model(), small_model()
    for model in (straight, interrupted):
        model.compile(make(), "categorical_crossentropy", metrics=["accuracy"])
    straight.fit(x, y, batch_size=16, epochs=2, verbose=0)
    rest = straight.fit(x, y, batch_size=16, epochs=2, verbose=0)
    interrupted.fit(x, y, batch_size=16, epochs=2, verbose=0)
    interrupted.save(tmp_path)
    resumed = load_model(tmp_path)
    assert same_bits(interrupted, resumed)
    assert resumed.optimizer.batches == 6
    assert [a.tobytes() for a in resumed.optimizer.get_weights()] == [
        a.tobytes() for a in interrupted.optimizer.get_weights()]
    history = resumed.fit(x, y, batch_size=16, epochs=2, verbose=0)
    assert history.history == rest.history
    assert same_bits(straight, resumed)


def test_training_goes_on_with_layers_frozen_between(tmp_path: Path) -> None:
    x, y = data()
    model = small_model()
    model.compile(optimizers.SGD(0.1, momentum=0.9), "categorical_crossentropy")
    model.fit(x, y, verbose=0)
    model.layers[0].trainable = False
    model.save(tmp_path)
    resumed = load_model(tmp_path)
    for each in (model, resumed):
        each.fit(x, y, verbose=0)
        each.layers[0].trainable = True
        each.fit(x, y, verbose=0)
    assert same_bits(model, resumed)


@pytest.mark.parametrize("frozen", [False, True])
def test_training_goes_on_where_the_engine_sees_weights_in_another_shape(tmp_path: Path, frozen: bool) -> None:
    x, y = data()
    model = Sequential([layers.PReLU(input_shape=x.shape[1:]), layers.Flatten(), layers.Dense(y.shape[1])])
    model.compile("adam", "mse")
    model.fit(x, y, verbose=0)
    model.layers[0].trainable = not frozen
    model.save(tmp_path)
    resumed = load_model(tmp_path)
    model.layers[0].trainable = resumed.layers[0].trainable = True
    for each in (model, resumed):
        each.fit(x, y, verbose=0)
    assert same_bits(model, resumed)


def test_compile_settings_are_kept_in_full(tmp_path: Path) -> None:

    model = small_model()
    model.compile(optimizers.Adam(0.002, beta_1=0.8), losses.CategoricalCrossentropy(label_smoothing=0.1),
                  metrics=["acc", metrics.TopKCategoricalAccuracy(2, name="top2")])
    model.save(tmp_path)
    assert "trainingConfig" not in read_description(tmp_path)  # TensorFlow.js would not smooth the labels
    loaded = load_model(tmp_path)
    assert loaded.get_compile_config() == model.get_compile_config()
    assert loaded.optimizer.iterations == 0


def test_training_config_names_what_tensorflow_js_has(tmp_path: Path) -> None:
    model = small_model()
    model.compile(optimizers.SGD(0.1, momentum=0.5), "categorical_crossentropy",
                  metrics=["accuracy", "top_k_categorical_accuracy"])
    model.save(tmp_path)
    assert read_description(tmp_path)["trainingConfig"] == {
        "loss": "categorical_crossentropy", "metrics": ["accuracy"],
        "optimizer_config": {"class_name": "Momentum", "config": {
            "learning_rate": 0.1, "momentum": 0.5, "use_nesterov": False}},
    }
    assert load_model(tmp_path).get_compile_config() == model.get_compile_config()


def test_save_without_optimizer(tmp_path: Path) -> None:
    x, y = data(8)
    model = small_model()
    model.compile("adam", "mse")
    model.fit(x, y, verbose=0)
    formats.save_model(model, tmp_path, include_optimizer=False)
    loaded = load_model(tmp_path)
    assert not loaded.compiled
    assert same_bits(model, loaded)
    assert (tmp_path / "weights.bin").stat().st_size == 4 * model.count_params()


def test_compile_settings_changed_by_tensorflow_js_win(saved: tuple) -> None:
    model, folder, _ = saved
    model.compile("adam", "categorical_crossentropy", metrics=["top_k_categorical_accuracy"])
    model.save(folder)
    document = read_description(folder)
    document["trainingConfig"] = {
        "loss": "meanSquaredError", "metrics": ["acc"],
        "optimizer_config": {"class_name": "Momentum", "config": {
            "learningRate": 0.25, "momentum": 0.5, "useNesterov": True}},
    }
    write_description(folder, document)
    loaded = load_model(folder)
    assert loaded.get_compile_config() == {
        "optimizer": optimizers.serialize(optimizers.SGD(0.25, momentum=0.5, nesterov=True)),
        "loss": "mean_squared_error", "metrics": ["acc"],
    }


# --- dialects ---


def wrapped(document: dict) -> dict:
    topology = document.pop("modelTopology")
    del document["format"]
    return {**document, "modelTopology": {"keras_version": "2.1.6", "backend": "tensorflow",
                                          "model_config": topology, "training_config": None}}


def bare_list(document: dict) -> dict:
    document["modelTopology"]["config"] = document["modelTopology"]["config"]["layers"]
    return wrapped(document)


def with_input_layer(document: dict) -> dict:
    stack = document["modelTopology"]["config"]["layers"]
    shape = stack[0]["config"].pop("batch_input_shape")
    stack.insert(0, {"class_name": "InputLayer", "config": {
        "batch_input_shape": shape, "dtype": "float32", "sparse": False, "ragged": False, "name": "input_1"}})
    return document


def with_build_shape(document: dict) -> dict:
    config = document["modelTopology"]["config"]
    config["build_input_shape"] = config["layers"][0]["config"].pop("batch_input_shape")
    return document


def functional(document: dict) -> dict:
    stack = with_input_layer(document)["modelTopology"]["config"]["layers"]
    for before, layer in zip([None, *stack], stack):
        layer["name"] = layer["config"]["name"]
        layer["inbound_nodes"] = [[[before["name"], 0, 0, {}]]] if before else []
    ends = [[stack[0]["name"], 0, 0]], [[stack[-1]["name"], 0, 0]]
    document["modelTopology"] = {"class_name": "Functional", "config": {
        "name": "model_1", "layers": stack[::-1], "input_layers": ends[0], "output_layers": ends[1]}}
    return document


def nested(document: dict) -> dict:
    """As transfer learning makes it: a frozen model and a new head in a model, all layers called alike."""
    stack = document["modelTopology"]["config"]["layers"]
    head = [{**layer, "config": {**layer["config"]}} for layer in stack[3:]]
    body = functional(document)["modelTopology"]["config"]
    body["layers"] = [layer for layer in body["layers"] if layer["name"] not in {each["config"]["name"] for each in head}]
    body["output_layers"] = [stack[3]["name"], 0, 0]
    inner = [{"class_name": "Model", "config": {**body, "name": "body"}},
             {"class_name": "Sequential", "config": {"name": "head", "layers": [
                 {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 3, 3, 3], "name": "in"}}, *head]}}]
    document["modelTopology"] = {"class_name": "Sequential", "config": {"name": "whole", "layers": inner}}
    return document


def called_twice(document: dict) -> dict:
    """A functional model that calls another, whose first call, node 0, was its own creation."""
    stack = with_input_layer(document)["modelTopology"]["config"]["layers"]
    name = stack[0]["config"]["name"]
    inner = {"class_name": "Sequential", "name": "inner", "inbound_nodes": [[[name, 0, 0, {}]]],
             "config": {"name": "inner", "layers": stack[1:4]}}
    rest = [{**layer, "name": layer["config"]["name"]} for layer in stack[4:]]
    for before, layer, node in zip([inner, *rest], rest, [1, 0, 0, 0]):
        layer["inbound_nodes"] = [[[before["name"], node, 0, {"training": False}]]]
    document["modelTopology"] = {"class_name": "Model", "config": {"name": "outer", "layers": [
        {**stack[0], "name": name, "inbound_nodes": []}, inner, *rest],
        "input_layers": [[name, 0, 0]], "output_layers": [[rest[-1]["name"], 0, 0]]}}
    return document


def suffixed(document: dict) -> dict:
    return renamed(document, lambda name: name + ":0")


def prefixed(document: dict) -> dict:
    return renamed(document, lambda name: "sequential/" + name)


def numbered(document: dict) -> dict:
    counter = iter(range(100))
    return renamed(document, lambda name: f"layer_{next(counter)}/{name.split('/')[1]}_7")


def renamed(document: dict, rename: Any) -> dict:
    for spec in document["weightsManifest"][0]["weights"]:
        spec["name"] = rename(spec["name"])
    return document


def reordered_settings(document: dict) -> dict:
    for layer in document["modelTopology"]["config"]["layers"]:
        layer["config"] = dict(reversed(layer["config"].items()))
        layer["config"].update(kernel_regularizer=None, bias_constraint=None)
    return document


@pytest.mark.parametrize("change", [
    wrapped, bare_list, with_input_layer, with_build_shape, functional, nested, called_twice, suffixed, prefixed,
    numbered, reordered_settings,
], ids=lambda change: change.__name__)
def test_load_reads_dialects(change: Any, saved: tuple) -> None:
    model, folder, document = saved
    write_description(folder, change(document))
    loaded = load_model(folder)
    assert same_bits(model, loaded)
    assert loaded.program.ops == model.program.ops


def test_load_takes_models_within_models_apart(tmp_path: Path) -> None:
    """Names that occur twice are told apart, and what is frozen as a whole is so layer for layer."""
    model = Sequential([layers.Input((4,)), layers.Dense(3, name="a"), layers.Dense(5, name="b"),
                        layers.Dense(2, name="c")])
    model.save(tmp_path)
    document = read_description(tmp_path)
    stack = document["modelTopology"]["config"]["layers"]
    stack[2]["config"]["name"] = "a"
    stack[1:] = [{"class_name": "Sequential", "config": {"name": "in", "trainable": False, "layers": stack[1:]}}]
    for spec, name in zip(document["weightsManifest"][0]["weights"], ["a/kernel", "a/bias", "b/kernel", "b/bias",
                                                                      "a_1/kernel", "a_1/bias"]):
        spec["name"] = name
    write_description(tmp_path, document)
    loaded = load_model(tmp_path)
    assert [layer.name for layer in loaded.layers] == ["a", "b", "in_a"]
    assert [layer.trainable for layer in loaded.layers] == [True, False, False]
    assert same_bits(model, loaded)


def two_outputs(document: dict) -> str:
    config = functional(document)["modelTopology"]["config"]
    config["output_layers"].insert(0, [config["layers"][1]["name"], 0, 0])
    return "output_layers: expected the last layer of the chain"


def shared_input(document: dict) -> str:
    stack = functional(document)["modelTopology"]["config"]["layers"][::-1]
    stack[2]["inbound_nodes"] = stack[1]["inbound_nodes"]
    return r"expected a plain chain.*Received: .*with the input of"


def merged(document: dict) -> str:
    stack = functional(document)["modelTopology"]["config"]["layers"]
    stack[1]["class_name"] = "Concatenate"
    stack[1]["inbound_nodes"] = [[[stack[2]["name"], 0, 0, {}], [stack[3]["name"], 0, 0, {}]]]
    return r"expected a layer that tinyconv has. Received: 'Concatenate'"


def called_with_two(document: dict) -> str:
    stack = functional(document)["modelTopology"]["config"]["layers"]
    stack[1]["inbound_nodes"] = [[[stack[2]["name"], 0, 0, {}], [stack[3]["name"], 0, 0, {}]]]
    return "expected a plain chain.*Received: 'Flatten with 2 inputs'"


def layers_alone(document: dict) -> str:
    topology = document.pop("modelTopology")
    document.clear()
    document.update(topology)
    return "expected a model with its weights. Received: layers alone"


def nameless(document: dict) -> str:
    config = document["modelTopology"]["config"]
    for layer in config["layers"][1:]:
        del layer["config"]["name"]
    config["layers"][1:] = [{"class_name": "Sequential", "config": {"name": "in", "layers": config["layers"][1:]}}]
    return r"name: expected a name. Received: None"


@pytest.mark.parametrize("change", [two_outputs, shared_input, merged, called_with_two, layers_alone, nameless],
                         ids=lambda change: change.__name__)
def test_load_refuses_what_is_no_chain_of_its_layers(change: Any, saved: tuple) -> None:
    _, folder, document = saved
    message = change(document)
    write_description(folder, document)
    with pytest.raises(FormatError, match=message) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [7, 64, 100, 10**6])
def test_load_reads_many_shards(size: int, saved: tuple) -> None:
    model, folder, document = saved
    content = (folder / "weights.bin").read_bytes()
    (folder / "sub").mkdir()
    paths: list[str] = []
    for start in range(0, len(content), size):
        paths.append(f"./sub/group1-shard{len(paths) + 1}.bin")
        (folder / paths[-1]).write_bytes(content[start:start + size])
    group = document["weightsManifest"][0]
    document["weightsManifest"] = [{"paths": paths, "weights": group["weights"]}]
    write_description(folder, document)
    assert same_bits(model, load_model(folder))


def test_load_reads_a_group_per_layer_in_any_order(saved: tuple) -> None:
    model, folder, document = saved
    specs = document["weightsManifest"][0]["weights"]
    content = (folder / "weights.bin").read_bytes()
    groups: list[dict] = []
    start = 0
    for index, spec in enumerate(specs):
        length = 4 * math.prod(spec["shape"])
        (folder / f"group{index}").write_bytes(content[start:start + length])
        groups.insert(0, {"paths": [f"group{index}"], "weights": [spec]})
        start += length
    document["weightsManifest"] = groups
    write_description(folder, document)
    assert same_bits(model, load_model(folder))


def normed_model(seed: int = 1) -> Sequential:
    model = Sequential([layers.Conv2D(3, 3, input_shape=(8, 8, 1)), layers.BatchNormalization(),
                        layers.Flatten(), layers.Dense(4)], seed=seed)
    random = np.random.default_rng(seed)
    model.set_weights([random.random(weight.shape) for weight in model.weights])
    return model


def test_load_finds_moving_statistics_behind_the_trained_weights(tmp_path: Path) -> None:
    """TensorFlow.js writes trainable weights first."""
    model = normed_model()
    model.save(tmp_path)
    document = read_description(tmp_path)
    group, content = document["weightsManifest"][0], (tmp_path / "weights.bin").read_bytes()
    pieces, start = [], 0
    for spec in group["weights"]:
        size = 4 * math.prod(spec["shape"])
        pieces.append((spec, content[start:start + size]))
        start += size
    pieces.sort(key=lambda piece: "moving" in piece[0]["name"])
    (tmp_path / "weights.bin").write_bytes(b"".join(piece for _, piece in pieces))
    document["weightsManifest"] = [{"paths": group["paths"], "weights": [spec for spec, _ in pieces]}]
    write_description(tmp_path, document)
    assert same_bits(model, load_model(tmp_path))
    for spec in document["weightsManifest"][0]["weights"]:
        spec["name"] = "other_" + spec["name"]  # now by order, in which the roles do not fit
    write_description(tmp_path, document)
    with pytest.raises(FormatError, match="moving_mean.*Received"):
        load_model(tmp_path)


def test_load_reads_the_axis_of_keras_2(tmp_path: Path) -> None:
    model = normed_model()
    model.save(tmp_path)
    document = read_description(tmp_path)
    document["modelTopology"]["config"]["layers"][1]["config"]["axis"] = [3]
    write_description(tmp_path, document)
    loaded = load_model(tmp_path)
    assert same_bits(model, loaded) and loaded.layers[1].get_config()["axis"] == 3


def test_load_reads_the_thresholded_relu_of_tensorflow_js(tmp_path: Path) -> None:
    Sequential([layers.Input((5,)), layers.ReLU(name="mine")]).save(tmp_path)
    document = read_description(tmp_path)
    [layer] = document["modelTopology"]["config"]["layers"]
    layer["class_name"], config = "ThresholdedReLU", layer["config"]
    layer["config"] = {**{key: config[key] for key in ("name", "batch_input_shape", "trainable")}, "theta": 1.5}
    write_description(tmp_path, document)
    x = np.array([[-2.0, 0.0, 1.5, np.nextafter(np.float32(1.5), np.float32(2)), 7.0]], np.float32)
    np.testing.assert_array_equal(load_model(tmp_path).predict(x, verbose=0), x * (x > 1.5))
    for theta in (-1.0, "a", None):
        layer["config"]["theta"] = theta
        write_description(tmp_path, document)
        with pytest.raises(FormatError, match="ThresholdedReLU theta: expected a number of 0 or more. Received: "):
            load_model(tmp_path)


@pytest.mark.parametrize(("stored", "dtype"), [
    ("uint8", "float32"), ("uint16", "float32"), ("float16", "float32"), ("uint8", "int32"),
    ("uint16", "int32"), (None, "int32"), (None, "bool"),
])
def test_load_reads_quantized_and_integer_weights(stored: str | None, dtype: str, tmp_path: Path) -> None:
    model = Sequential([layers.Dense(300, input_shape=(400,), use_bias=False)])
    model.save(tmp_path)
    document = read_description(tmp_path)
    group = document["weightsManifest"][0]
    del group["sha256"]
    [spec] = group["weights"]
    spec["dtype"] = dtype
    random = np.random.default_rng(3)
    if stored == "float16":
        values = random.normal(size=(400, 300)).astype("<f2")
        expected = values.astype(np.float32)
        spec["quantization"] = {"dtype": stored, "original_dtype": "float32"}
    elif stored:
        values = random.integers(0, np.iinfo(stored).max, size=(400, 300))
        values = values.astype(np.dtype(stored).newbyteorder("<"))
        spec["quantization"] = {"dtype": stored, "scale": 0.0078125, "min": -1}
        exact = values.astype(np.float64) * 0.0078125 - 1
        expected = (np.floor(exact + 0.5) if dtype == "int32" else exact).astype(np.float32)
    else:
        values = random.integers(0, 2, size=(400, 300)).astype({"int32": "<i4", "bool": "|u1"}[dtype])
        expected = values.astype(np.float32)
    (tmp_path / "weights.bin").write_bytes(values.tobytes())
    write_description(tmp_path, document)
    np.testing.assert_array_equal(load_model(tmp_path).get_weights()[0], expected)


def test_load_warns_of_a_training_configuration_it_lacks(saved: tuple) -> None:
    model, folder, document = saved
    document["trainingConfig"] = {
        "loss": "categorical_crossentropy", "metrics": ["accuracy"],
        "optimizer_config": {"class_name": "Ftrl", "config": {"learning_rate": 0.001}},
    }
    write_description(folder, document)
    with pytest.warns(UserWarning, match="not compiled.*Ftrl"):
        loaded = load_model(folder)
    assert not loaded.compiled
    assert same_bits(model, loaded)


def test_load_skips_optimizer_weights_without_a_training_configuration(tmp_path: Path) -> None:
    x, y = data(8)
    model = small_model()
    model.compile("adam", "mse")
    model.fit(x, y, verbose=0)
    model.save(tmp_path)
    document = read_description(tmp_path)
    del document["trainingConfig"], document["userDefinedMetadata"]
    write_description(tmp_path, document)
    loaded = load_model(tmp_path)
    assert not loaded.compiled
    assert same_bits(model, loaded)


def test_load_matches_optimizer_weights_in_order_where_names_differ(tmp_path: Path) -> None:
    x, y = data(8)
    model = small_model()
    model.compile("adam", "mse")
    model.fit(x, y, verbose=0)
    model.save(tmp_path)
    document = read_description(tmp_path)
    for spec in document["weightsManifest"][0]["weights"]:
        if spec.get("group") and spec["name"] != "iter":
            spec["name"] = spec["name"].replace("/kernel/", "/kernel_1/").replace("/bias/", "/bias_1/")
    write_description(tmp_path, document)
    loaded = load_model(tmp_path)
    assert [a.tobytes() for a in loaded.optimizer.get_weights()] == [
        a.tobytes() for a in model.optimizer.get_weights()]


def test_load_takes_momentum_of_tensorflow_js(tmp_path: Path) -> None:
    x, y = data(8)
    model = small_model()
    model.compile(optimizers.SGD(0.5, momentum=0.9), "mse")
    model.fit(x, y, verbose=0)
    model.save(tmp_path)
    document = read_description(tmp_path)
    [group] = document["weightsManifest"]
    content = np.frombuffer((tmp_path / "weights.bin").read_bytes(), "<f4").copy()
    # As after training there: the accumulated gradients have changed, what it carries along has not.
    start = 0
    for spec in group["weights"]:
        size = math.prod(spec["shape"])
        if spec["name"].endswith("/momentum"):
            content[start:start + size] = 3
        start += size
    (tmp_path / "weights.bin").write_bytes(content.tobytes())
    del group["sha256"]
    write_description(tmp_path, document)
    state = load_model(tmp_path).optimizer.state
    assert all((array == -1.5).all() for arrays in state for array in arrays)


def test_parse_manifest_sums_sizes() -> None:
    [group] = parse_manifest([{"paths": ["a"], "weights": [
        {"name": "a", "shape": [2, 3], "dtype": "float32"}, {"name": "b", "shape": [], "dtype": "int32"},
        {"name": "c", "shape": [5], "dtype": "float32",
         "quantization": {"dtype": "uint16", "scale": 1, "min": 0}},
    ]}])
    assert group.nbytes == 24 + 4 + 10
    assert [spec.size for spec in group.specs] == [6, 1, 5]
