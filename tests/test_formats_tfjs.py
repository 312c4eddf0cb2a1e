"""TensorFlow.js folders: what is written reads back, and so does what others write."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import formats_cases
import numpy as np
import pytest
from formats_cases import OPTIMIZERS, data, read_description, same_bits, small_model, write_description

from tinyconv import Sequential, formats, initializers, layers, load_model, losses, metrics, optimizers

saved = formats_cases.saved  # a fixture


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
    ((4, 4, 2), layers.BatchNormalization(axis=1, name="a"),
     "BatchNormalization 'a' with an axis that is not the last"),
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
    ((2, 4, 4), layers.SeparableConv2D(2, 3, **FIRST, name="a"),
     "SeparableConv2D 'a' with data_format='channels_first'"),
    ((2, 6), layers.Conv1D(2, 3, **FIRST, name="a"), "Conv1D 'a' with data_format='channels_first'"),
    ((2, 6), layers.MaxPooling1D(**FIRST, name="a"), "MaxPooling1D 'a' with data_format='channels_first'"),
    ((6, 2), layers.Conv1D(2, 3, padding="causal", name="a"), "Conv1D 'a' with causal padding"),
    *[((6, 2), layer, f"{type(layer).__name__} 'a'") for layer in (
        layers.DepthwiseConv1D(2, name="a"), layers.SeparableConv1D(2, 3, name="a"), layers.UpSampling1D(name="a"),
        layers.Conv1DTranspose(2, 3, name="a"), layers.ZeroPadding1D(name="a"), layers.Cropping1D(name="a"))],
    *[((4, 4, 2), layer, f"{type(layer).__name__} 'a'") for layer in (
        layers.RandomFlip(name="a"), layers.RandomRotation(0.1, name="a"), layers.RandomTranslation(0.1, 0.1, name="a"),
        layers.RandomZoom(0.1, name="a"),
        layers.RandomBrightness(0.1, name="a"), layers.RandomContrast(0.1, name="a"))],
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
