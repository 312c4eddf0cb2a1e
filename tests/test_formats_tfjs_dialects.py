"""TensorFlow.js folders of other writers: dialects of the topology, of the weights and of the optimizer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import formats_cases
import numpy as np
import pytest
from formats_cases import data, read_description, same_bits, small_model, write_description

from tinyconv import Sequential, layers, load_model, optimizers
from tinyconv.formats import FormatError
from tinyconv.formats.manifest import parse_manifest

saved = formats_cases.saved  # a fixture


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
    body["layers"] = [layer for layer in body["layers"]
                      if layer["name"] not in {each["config"]["name"] for each in head}]
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
