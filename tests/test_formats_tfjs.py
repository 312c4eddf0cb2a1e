"""TensorFlow.js folders: what is written reads back, and what others wrote reads."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
from tinyconv import Sequential, formats, initializers, layers, load_model, optimizers
from tinyconv.formats import FormatError
from tinyconv.formats.manifest import parse_manifest

CLASSES = 4


def small_model(seed: int = 1) -> Sequential:
    return Sequential([
        layers.Conv2D(3, 3, activation="relu", input_shape=(8, 8, 1)),
        layers.MaxPooling2D(2),
        layers.Dropout(0.4),
        layers.Flatten(),
        layers.Dense(CLASSES, activation="softmax"),
    ], seed=seed)


def data(n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(5)
    x = random.normal(size=(n, 8, 8, 1)).astype(np.float32)
    return x, np.eye(CLASSES, dtype=np.float32)[random.integers(CLASSES, size=n)]


def same_bits(first: Sequential, second: Sequential) -> bool:
    arrays = list(zip(first.get_weights(), second.get_weights(), strict=True))
    return all(a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in arrays)


def read_description(folder: Path) -> dict:
    return json.loads((folder / "model.json").read_text())


def write_description(folder: Path, document: dict) -> None:
    (folder / "model.json").write_text(json.dumps(document))


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
    "dense_on_image": [layers.Dense(5, "sigmoid", kernel_initializer="lecun_uniform")],
    "max_pooling": [layers.MaxPooling2D((3, 2), 2, padding="same")],
    "average_pooling": [layers.AveragePooling2D(2, (1, 2))],
    "global_max": [layers.GlobalMaxPooling2D()],
    "global_average": [layers.GlobalAveragePooling2D()],
    "flatten_dense": [layers.Flatten(), layers.Dense(3, use_bias=False)],
    "reshape": [layers.Reshape((4, 32)), layers.Reshape((-1,))],
    "dropout": [layers.Dropout(0.5, seed=3)],
    "activations": [layers.Activation(name) for name in ("elu", "gelu", "log_softmax", "mish", "relu6", "selu",
                                                         "silu", "softmax", "softplus", "softsign", "linear")],
    "relu": [layers.ReLU(), layers.ReLU(max_value=2.0)],
    "leaky_relu_elu": [layers.LeakyReLU(0.1), layers.ELU()],
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
def test_save_writes_initializers_that_others_have(name: object, written: dict, tmp_path: Path) -> None:
    model = Sequential([layers.Conv2D(4, 3, kernel_initializer=name, input_shape=(5, 5, 2))])
    model.save(tmp_path)
    [layer] = read_description(tmp_path)["modelTopology"]["config"]["layers"]
    assert layer["config"]["kernel_initializer"]["config"] == written
    assert same_bits(model, load_model(tmp_path))


@pytest.mark.parametrize("layer", [
    layers.Activation("hard_sigmoid"), layers.Conv2D(2, 1, activation="leaky_relu"),
    layers.Dense(2, activation=layers.ReLU(max_value=1)), layers.ReLU(negative_slope=0.5), layers.ELU(0.5),
    layers.ReLU(threshold=1.0), layers.GlobalMaxPooling2D(keepdims=True),
], ids=lambda layer: layer.name)
def test_save_warns_of_what_only_tinyconv_reads(layer: layers.Layer, tmp_path: Path) -> None:
    model = Sequential([layers.Input((4, 4, 2)), type(layer).from_config(layer.get_config())])
    with pytest.warns(UserWarning, match="TensorFlow.js will refuse"):
        model.save(tmp_path)
    assert "tinyconv>" in (tmp_path / "model.json").read_text()
    assert load_model(tmp_path).program.ops == model.program.ops


def test_save_refuses_unbuilt_model_and_foreign_layers(tmp_path: Path) -> None:
    class Mine(layers.Layer):
        pass

    with pytest.raises(ValueError, match="expected a built model"):
        Sequential([layers.Dense(2)]).save(tmp_path / "a")
    with pytest.raises(ValueError, match="of class Mine"):
        Sequential([layers.Input((3,)), Mine()]).save(tmp_path / "a")
    assert not (tmp_path / "a").exists()


# --- training goes on ---

OPTIMIZERS = {
    "adam": lambda: optimizers.Adam(0.01),
    "sgd": lambda: optimizers.SGD(0.1),
    "momentum": lambda: optimizers.SGD(0.05, momentum=0.9),
    "nesterov": lambda: optimizers.SGD(0.05, momentum=0.8, nesterov=True),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_training_goes_on_bit_for_bit_after_load(make: object, tmp_path: Path) -> None:
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
    assert resumed.optimizer.iterations == 6
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


def test_compile_settings_are_kept_in_full(tmp_path: Path) -> None:
    from tinyconv import losses, metrics

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
        "optimizer": {"class_name": "SGD", "config": {
            "name": "sgd", "learning_rate": 0.25, "momentum": 0.5, "nesterov": True}},
        "loss": "mean_squared_error", "metrics": ["acc"],
    }


# --- the folder ---


def test_save_replaces_its_own_files_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "weights-mine.bin").write_text("mine")
    for seed in range(4):
        model = small_model(seed)
        model.save(tmp_path)
        assert same_bits(load_model(tmp_path), model)
        names = {path.name for path in tmp_path.iterdir()}
        assert {"notes.txt", "weights-mine.bin", "model.json"} < names
        assert len(names) == 4
    model.save(tmp_path)  # the same weights again
    assert same_bits(load_model(tmp_path), model)
    assert (tmp_path / "weights-mine.bin").read_text() == "mine"


def test_save_leaves_the_weights_of_another_writer(tmp_path: Path, saved: tuple) -> None:
    _, folder, document = saved
    write_description(folder, {**document, "generatedBy": "TensorFlow.js tfjs-layers v4.22.0"})
    before = (folder / "weights.bin").read_bytes()
    model = small_model(9)
    model.save(folder)
    assert (folder / "weights.bin").read_bytes() == before
    assert same_bits(load_model(folder), model)


def test_paths_of_folder_and_description(saved: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, folder, _ = saved
    assert same_bits(model, load_model(folder / "model.json"))
    assert same_bits(model, load_model(str(folder)))
    (folder / "model.json").rename(folder / "other.json")
    assert same_bits(model, load_model(folder / "other.json"))
    model.save(tmp_path / "deep" / "er" / "model.json")
    assert same_bits(model, load_model(tmp_path / "deep" / "er"))
    monkeypatch.chdir(tmp_path / "deep")
    assert same_bits(model, load_model("er"))


@pytest.mark.parametrize("name", ["model.h5", "model.keras", "model.onnx", "file"])
def test_save_refuses_names_of_files(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="expected the name of a folder"):
        small_model().save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("call", ["os.fsync", "os.replace", "os.link"])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("existing", [False, True])
def test_save_that_fails_leaves_everything_as_it_was(call: str, count: int, existing: bool, tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "model"
    old = small_model(1)
    if existing:
        old.save(folder)
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    original, calls = getattr(os, call[3:]), []

    def failing(*arguments: object) -> object:
        calls.append(arguments)
        # A link that fails is the ordinary case of a name that is taken: end the process there instead.
        if len(calls) == count:
            raise KeyboardInterrupt if call == "os.link" else OSError(28, "No space left on device")
        return original(*arguments)

    monkeypatch.setattr(call, failing)
    try:
        small_model(2).save(folder)
    except (OSError, KeyboardInterrupt):
        after = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert after == before
        assert folder.exists() == existing
    else:
        assert len(calls) < count
        assert same_bits(load_model(folder), small_model(2))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_save_killed_at_any_moment_leaves_a_whole_model(tmp_path: Path, run_python) -> None:
    code = """
    import os, random, signal, sys, time
    import numpy as np
    from tinyconv import Sequential, layers, load_model

    folder = sys.argv[1]
    model = Sequential([layers.Dense(300, input_shape=(300,))])

    def save(value):
        model.set_weights([np.full(array.shape, value, np.float32) for array in model.get_weights()])
        model.save(folder)

    save(0.0)
    began = time.perf_counter()
    save(0.0)
    duration = time.perf_counter() - began
    random.seed(1)
    for trial in range(30):
        child = os.fork()
        if child == 0:
            for value in range(1, 1000):
                save(float(1000 * trial + value))
            os._exit(0)
        time.sleep(random.uniform(0, 4 * duration))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        values = {float(value) for array in load_model(folder).get_weights() for value in array.ravel()}
        assert len(values) == 1, values
        assert values == {0.0} or 1000 * trial < max(values) <= 1000 * trial + 999 or max(values) < 1000 * trial
    save(-1.0)
    assert float(load_model(folder).get_weights()[0][0, 0]) == -1.0
    print("all whole")
    """
    assert "all whole" in run_python(code, str(tmp_path / "model")).stdout


def test_load_while_another_thread_saves(tmp_path: Path) -> None:
    import threading

    model = Sequential([layers.Dense(50, input_shape=(50,))])
    model.save(tmp_path)
    done = threading.Event()

    def save() -> None:
        for value in range(60):
            model.set_weights([np.full(array.shape, value, np.float32) for array in model.get_weights()])
            model.save(tmp_path)
        done.set()

    thread = threading.Thread(target=save)
    thread.start()
    loads = 0
    try:
        while not done.is_set() or loads == 0:
            first, *rest = {float(v) for array in load_model(tmp_path).get_weights()[:1] for v in array.ravel()[:2]}
            loads += 1
            assert isinstance(first, float)
    finally:
        thread.join()
    assert loads >= 1


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


def suffixed(document: dict) -> dict:
    return renamed(document, lambda name: name + ":0")


def prefixed(document: dict) -> dict:
    return renamed(document, lambda name: "sequential/" + name)


def numbered(document: dict) -> dict:
    counter = iter(range(100))
    return renamed(document, lambda name: f"layer_{next(counter)}/{name.split('/')[1]}_7")


def renamed(document: dict, rename: object) -> dict:
    for spec in document["weightsManifest"][0]["weights"]:
        spec["name"] = rename(spec["name"])
    return document


def reordered_settings(document: dict) -> dict:
    for layer in document["modelTopology"]["config"]["layers"]:
        layer["config"] = dict(reversed(layer["config"].items()))
        layer["config"].update(kernel_regularizer=None, bias_constraint=None)
    return document


@pytest.mark.parametrize("change", [wrapped, bare_list, with_input_layer, with_build_shape, functional, suffixed,
                                    prefixed, numbered, reordered_settings], ids=lambda change: change.__name__)
def test_load_reads_dialects(change: object, saved: tuple) -> None:
    model, folder, document = saved
    write_description(folder, change(document))
    loaded = load_model(folder)
    assert same_bits(model, loaded)
    assert loaded.program.ops == model.program.ops


@pytest.mark.parametrize("size", [7, 64, 100, 10**6])
def test_load_reads_many_shards(size: int, saved: tuple) -> None:
    model, folder, document = saved
    content = (folder / "weights.bin").read_bytes()
    (folder / "sub").mkdir()
    paths = []
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
    groups, start = [], 0
    for index, spec in enumerate(specs):
        length = 4 * math.prod(spec["shape"])
        (folder / f"group{index}").write_bytes(content[start:start + length])
        groups.insert(0, {"paths": [f"group{index}"], "weights": [spec]})
        start += length
    document["weightsManifest"] = groups
    write_description(folder, document)
    assert same_bits(model, load_model(folder))


@pytest.mark.parametrize(("stored", "dtype"), [
    ("uint8", "float32"), ("uint16", "float32"), ("float16", "float32"), ("uint8", "int32"), ("uint16", "int32"),
    (None, "int32"), (None, "bool"),
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
        values = random.integers(0, np.iinfo(stored).max, size=(400, 300)).astype(np.dtype(stored).newbyteorder("<"))
        spec["quantization"] = {"dtype": stored, "scale": 0.0078125, "min": -1}
        expected = values.astype(np.float64) * 0.0078125 - 1
        expected = (np.floor(expected + 0.5) if dtype == "int32" else expected).astype(np.float32)
    else:
        values = random.integers(0, 2, size=(400, 300)).astype({"int32": "<i4", "bool": "|u1"}[dtype])
        expected = values.astype(np.float32)
    (tmp_path / "weights.bin").write_bytes(values.tobytes())
    write_description(tmp_path, document)
    np.testing.assert_array_equal(load_model(tmp_path).get_weights()[0], expected)


def test_load_warns_of_a_training_configuration_it_lacks(saved: tuple) -> None:
    model, folder, document = saved
    document["trainingConfig"] = {"loss": "categorical_crossentropy", "metrics": ["accuracy"], "optimizer_config": {
        "class_name": "Ftrl", "config": {"learning_rate": 0.001}}}
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
        {"name": "c", "shape": [5], "dtype": "float32", "quantization": {"dtype": "uint16", "scale": 1, "min": 0}},
    ]}])
    assert group.nbytes == 24 + 4 + 10
    assert [spec.size for spec in group.specs] == [6, 1, 5]


# --- real files ---


def real_model(data_folder: Path, name: str) -> Sequential:
    folder = data_folder / "models" / "tfjs" / name
    if not folder.is_dir():
        pytest.skip(f"no data: {folder} is not there")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # regularizers are left out
        return load_model(folder)


def test_real_mnist_model_has_its_accuracy(data_folder: Path) -> None:
    from PIL import Image

    model = real_model(data_folder, "aslamplr-mnist")
    with Image.open(data_folder / "mnist" / "mnist_images.png") as sprite:
        x = np.asarray(sprite.crop((0, 55000, 784, 55500))).reshape(500, 28, 28, 1).astype(np.float32)
    labels = np.fromfile(data_folder / "mnist" / "mnist_labels_uint8", np.uint8).reshape(-1, 10)[55000:55500]
    accuracy = (model.predict(x).argmax(1) == labels.argmax(1)).mean()
    assert abs(accuracy - 0.996) < 0.005
    assert model.get_compile_config()["loss"] == "categorical_crossentropy"


def sketches(data_folder: Path, folder: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` drawings of every class that both the model and the data have, and the model's class ids."""
    names = (data_folder / "models" / "tfjs" / folder / "class_names.txt").read_text().split("\n")
    names = [name.strip().replace("_", " ") for name in names]
    found = [(index, data_folder / "quickdraw" / f"{name}.npy") for index, name in enumerate(names)]
    found = [(index, path) for index, path in found if path.is_file()]
    x = np.concatenate([np.load(path, mmap_mode="r")[:count] for _, path in found])
    return x.reshape(-1, 28, 28, 1).astype(np.float32) / 255, np.repeat([index for index, _ in found], count)


@pytest.mark.parametrize(("name", "invert", "top1"), [("zaid-sketcher-100", False, 0.84), ("raymondvan-50", True, 0.74)])
def test_real_sketch_models_recognize_drawings(name: str, invert: bool, top1: float, data_folder: Path) -> None:
    model = real_model(data_folder, name)
    x, classes = sketches(data_folder, name, 100)
    predictions = model.predict(1 - x if invert else x).argmax(1)
    assert len(x) >= 1000
    assert (predictions == classes).mean() > top1 - 0.04  # other drawings than those of the figure


def test_real_model_saved_by_tensorflow_js_loads(data_folder: Path) -> None:
    model = real_model(data_folder, "tfjssave-codingtrain-shapes-1.7.2")
    y = model.predict(np.full((2, 64, 64, 4), 0.5, np.float32))
    assert y.shape == (2, 3)
    np.testing.assert_allclose(y.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize(("name", "message"), [
    ("rejected-graph-model", "expected layers-model"),
    ("rejected-missing-shard-file", "no such file .*model.weights.bin"),
])
def test_real_files_that_cannot_be_read_are_refused(name: str, message: str, data_folder: Path) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        real_model(data_folder, name)
    assert "\n" not in str(caught.value)


# --- the real TensorFlow.js ---


@pytest.fixture(scope="session")
def tensorflow_js(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A function that runs tfjs_peer.js: TINYCONV_TFJS names a node_modules folder with @tensorflow/tfjs."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    modules = os.environ.get("TINYCONV_TFJS")
    if modules is None and os.environ.get("TINYCONV_NETWORK_TESTS") == "1" and shutil.which("npm"):
        scratch = tmp_path_factory.mktemp("npm")
        subprocess.run(["npm", "install", "--no-save", "--prefix", str(scratch), "@tensorflow/tfjs@4.22.0"],
                       check=True, capture_output=True, timeout=600)
        modules = str(scratch / "node_modules")
    if modules is None or not (Path(modules) / "@tensorflow" / "tfjs").is_dir():
        pytest.skip("@tensorflow/tfjs is not there: set TINYCONV_TFJS to a node_modules folder that has it, "
                    "or TINYCONV_NETWORK_TESTS=1 to install it with npm")

    def run(folder: Path, x: np.ndarray, outputs: int, train: tuple[np.ndarray, int] | None = None,
            save: Path | None = None) -> tuple[dict, np.ndarray, np.ndarray | None]:
        scratch = tmp_path_factory.mktemp("peer")
        x.astype("<f4").tofile(scratch / "x")
        request = {"folder": str(folder), "x": str(scratch / "x"), "shape": x.shape, "out": str(scratch / "out")}
        if train is not None:
            train[0].astype("<f4").tofile(scratch / "y")
            request["train"] = {"y": str(scratch / "y"), "shape": train[0].shape, "epochs": train[1]}
        if save is not None:
            request["save"] = str(save)
        result = subprocess.run([node, str(Path(__file__).with_name("tfjs_peer.js")), json.dumps(request)],
                                env={**os.environ, "NODE_PATH": str(Path(modules).resolve())}, timeout=300,
                                capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        trained = np.fromfile(f"{request['out']}.trained", "<f4").reshape(-1, outputs) if train else None
        report = json.loads(result.stdout.strip().splitlines()[-1])
        return report, np.fromfile(request["out"], "<f4").reshape(-1, outputs), trained

    return run


def everything_model() -> Sequential:
    """Every layer and activation that both sides have."""
    names = ("elu", "gelu", "linear", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "softmax",
             "softplus", "softsign", "tanh")
    kinds = ("lecun_normal", "lecun_uniform", "he_normal", "he_uniform", "glorot_normal", "glorot_uniform",
             "truncated_normal", initializers.VarianceScaling(1.5, "fan_avg", "untruncated_normal"))
    stack = [layers.Input((12, 12, 3)), layers.Rescaling(0.5, offset=0.1)]
    for index, name in enumerate(names):
        stack.append(layers.Conv2D(5, (3, 1 + index % 3), padding="same", activation=name, use_bias=index % 3 != 0,
                                   kernel_initializer=kinds[index % len(kinds)], bias_initializer="random_normal"))
        stack.append(layers.Rescaling(2.0))
    stack += [
        layers.ReLU(), layers.ReLU(max_value=1.5), layers.LeakyReLU(0.2), layers.ELU(), layers.Softmax(),
        layers.Activation("tanh"), layers.Dropout(0.2), layers.AveragePooling2D(2, 1, padding="same"),
        layers.MaxPooling2D(3, 2, padding="same"), layers.Dense(8), layers.Reshape((12, -1)),
        layers.Reshape((6, 6, -1)), layers.Conv2D(6, 2, strides=2, activation="relu"), layers.Flatten(),
        layers.Dense(7, activation="softmax"),
    ]
    return Sequential(stack, seed=4)


def test_tensorflow_js_predicts_the_same(tensorflow_js: object, tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(size=(5, 12, 12, 3)).astype(np.float32)
    for outputs, model in [
        (7, everything_model()),
        (3, Sequential([layers.Conv2D(3, 3, dilation_rate=2, input_shape=(12, 12, 3)), layers.GlobalMaxPooling2D()])),
        (3, Sequential([layers.GlobalAveragePooling2D(input_shape=(12, 12, 3)), layers.Dense(3)])),
    ]:
        model.save(tmp_path)
        report, y, _ = tensorflow_js(tmp_path, x, outputs)
        assert report["optimizer"] is None
        np.testing.assert_allclose(y, model.predict(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_tensorflow_js_goes_on_training(make: object, tensorflow_js: object, tmp_path: Path) -> None:
    x, y = data(16)
    model = small_model()
    model.pop(), model.pop(), model.pop()
    model.add(layers.Flatten())
    model.add(layers.Dense(CLASSES, activation="softmax"))
    model.compile(make(), "categorical_crossentropy", metrics=["accuracy", "top_k_categorical_accuracy"])
    model.fit(x, y, batch_size=16, epochs=3, verbose=0, shuffle=False)
    model.save(tmp_path / "ours")
    report, before, after = tensorflow_js(tmp_path / "ours", x, CLASSES, (y, 3), tmp_path / "theirs")
    assert report["iterations"] == 3
    np.testing.assert_allclose(before, model.predict(x), rtol=1e-5, atol=1e-6)
    theirs = load_model(tmp_path / "theirs")
    assert theirs.optimizer.iterations == 6
    assert theirs.get_compile_config() == model.get_compile_config()
    np.testing.assert_allclose(after, theirs.predict(x), rtol=1e-5, atol=1e-6)
    content = (tmp_path / "theirs" / "weights.bin").read_bytes()
    own = b"".join(array.astype("<f4").tobytes() for array in theirs.get_weights())
    assert content.startswith(own)
    # The same three steps here, and then one more from either: moments and momentum came across.
    model.fit(x, y, batch_size=16, epochs=3, verbose=0, shuffle=False)
    for _ in range(2):
        for ours, other in zip(model.get_weights(), theirs.get_weights()):
            np.testing.assert_allclose(other, ours, rtol=1e-3, atol=2e-4)
        for each in (model, theirs):
            each.fit(x, y, batch_size=16, verbose=0, shuffle=False)


def test_tensorflow_js_refuses_what_it_would_misread(tensorflow_js: object, tmp_path: Path) -> None:
    model = Sequential([layers.Activation("hard_sigmoid", input_shape=(3,))])
    with pytest.warns(UserWarning, match="TensorFlow.js will refuse"):
        model.save(tmp_path)
    with pytest.raises(AssertionError, match="tinyconv>"):
        tensorflow_js(tmp_path, np.zeros((1, 3), np.float32), 3)
