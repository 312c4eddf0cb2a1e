"""Files that are damaged or malicious: a clear error of one line, or a correct load."""

from __future__ import annotations

import copy
import json
import os
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyconv import Sequential, layers, load_model
from tinyconv.formats import FormatError

needs_links = pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sequential, dict[str, Any], bytes]:
    """A model, its description and its weights; the tests change copies."""
    model = Sequential([
        layers.Rescaling(0.5, input_shape=(6, 6, 1), name="rescaling"),
        layers.Conv2D(2, 3, activation="relu", name="conv"), layers.MaxPooling2D(2, name="pool"),
        layers.Dropout(0.2, name="dropout"), layers.Flatten(name="flatten"),
        layers.Dense(3, "softmax", name="dense"),
    ], name="model", seed=1)
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    model.optimizer.build(model.program.weights, model.program.trainable)
    folder = tmp_path_factory.mktemp("origin")
    model.save(folder)
    return model, json.loads((folder / "model.json").read_text()), (folder / "weights.bin").read_bytes()


@pytest.fixture
def write(origin: tuple, tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a changed copy of the model; the checksum goes where the weights may differ."""
    _, document, weights = origin

    def write(change: Callable[[dict], object] | None = None, data: bytes = weights) -> Path:
        changed = copy.deepcopy(document)
        if change is not None:
            change(changed)
        (tmp_path / "model.json").write_text(json.dumps(changed))
        (tmp_path / "weights.bin").write_bytes(data)
        return tmp_path

    return write


def refused(path: Path, message: str = "[Ee]xpected|no such file") -> str:
    """Loads, and returns the message of the refusal: one line that is not too long."""
    with pytest.raises(FormatError, match=message) as caught:
        load_model(path)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 600 + len(os.fspath(path)) * 2
    return text


def outcome(path: Path, model: Sequential) -> bool:
    """True where the file loads with exactly the model's weights, False where it is refused."""
    began = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = load_model(path)
    except FormatError as error:
        assert "\n" not in str(error)
        return False
    finally:
        assert time.perf_counter() - began < 30  # the question is whether it hangs, on a busy machine too
    weights = [array.tobytes() for array in loaded.get_weights()]
    assert weights == [array.tobytes() for array in model.get_weights()]
    return True


# --- paths ---

@pytest.mark.parametrize("path", [
    "/etc/passwd", "../weights.bin", "a/../../weights.bin", "..", ".", "", "a\\b", "C:weights.bin",
    "weights.bin\0", "http://example.com/weights.bin", "file:///etc/passwd", None, 3, ["weights.bin"],
    "x" * 5000, "missing.bin",
    "weights.bin/x", "\u202eweights.bin", "x" * 300, "NUL", "aux.bin", "con /weights.bin", "a/COM1", "lpt\xb9.txt",
])
def test_paths_out_of_the_folder_are_refused(path: Any, write: Callable) -> None:
    folder = write(lambda document: document["weightsManifest"][0].update(paths=[path]))
    (folder.parent / "weights.bin").write_bytes((folder / "weights.bin").read_bytes())
    refused(folder, "weightsManifest paths")


@needs_links
def test_links_out_of_the_folder_are_refused_and_inside_are_followed(write: Callable, origin: tuple) -> None:
    folder = write()
    outside = folder.parent / "outside.bin"
    (folder / "weights.bin").rename(outside)
    (folder / "weights.bin").symlink_to(outside)
    refused(folder, "inside the model's folder")
    (folder / "weights.bin").unlink()
    outside.rename(folder / "inside.bin")
    (folder / "weights.bin").symlink_to("inside.bin")
    assert outcome(folder, origin[0])
    (folder / "weights.bin").unlink()
    (folder / "weights.bin").symlink_to("weights.bin")
    refused(folder, "weightsManifest paths")


@needs_links
def test_linked_folder_out_of_the_folder_is_refused(write: Callable,
                                                    tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    folder = write(lambda document: document["weightsManifest"][0].update(paths=["sub/weights.bin"]))
    (folder / "weights.bin").rename(outside / "weights.bin")
    (folder / "sub").symlink_to(outside)
    refused(folder, "inside the model's folder")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["weights.bin", "model.json"])
def test_pipes_and_folders_are_no_files(name: str, write: Callable) -> None:
    folder = write()
    (folder / name).unlink()
    os.mkfifo(folder / name)
    refused(folder, "plain file")
    (folder / name).unlink()
    (folder / name).mkdir()
    refused(folder)


def test_one_file_under_two_names_is_refused(write: Callable, origin: tuple) -> None:
    def twice(document: dict) -> None:
        group = document["weightsManifest"][0]
        del group["sha256"]
        half = len(group["weights"]) // 2
        document["weightsManifest"] = [
            {"paths": ["weights.bin"], "weights": group["weights"][:half]},
            {"paths": ["./weights.bin"], "weights": group["weights"][half:]},
        ]

    refused(write(twice), "every file once|bytes for")
    folder = write(lambda document: document["weightsManifest"][0].update(paths=["weights.bin"] * 2))
    refused(folder)
    folder = write(lambda document: document["weightsManifest"][0].update(
        paths=["weights.bin", "./weights.bin"], sha256=[]))
    refused(folder, "every file once")


@pytest.mark.parametrize("path", ["", "missing", "missing/model.json", "folder/model.json/x"])
def test_load_of_a_path_that_is_no_model(path: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="load_model expected|no such file"):
        load_model(path if path == "" else tmp_path / path)
    refused(tmp_path / "folder", "no such file")
    with pytest.raises(ValueError, match="expected a path"):
        load_model(None)


# --- sizes ---

def first_weight(**changes: Any) -> Callable[[dict], None]:
    def change(document: dict) -> None:
        document["weightsManifest"][0]["weights"][0].update(changes)
    return change


@pytest.mark.parametrize("changes", [
    {"shape": [3, 3, 1]}, {"shape": [9, 2]}, {"shape": [2, 1, 3, 3]}, {"shape": [2**31 - 1]}, {"shape": [1]},
    {"shape": [-3, -3, 1, 2]}, {"shape": [3.0, 3, 1, 2]}, {"shape": [True, 3, 1, 2]}, {"shape": None},
    {"dtype": "string"}, {"dtype": "complex64"}, {"dtype": "float64"}, {"dtype": None},
    {"dtype": ["float32"]},
    {"dtype": "int32", "quantization": {"dtype": "float16"}}, {"quantization": {"dtype": "uint8"}},
    {"quantization": {"dtype": "uint8", "scale": 1e38, "min": 0}}, {"quantization": []},
    {"quantization": {"dtype": "uint4", "scale": 1, "min": 0}}, {"quantization": {"dtype": ["uint8"]}},
    {"quantization": {"dtype": "uint8", "scale": True, "min": 0}},
    {"quantization": {"dtype": "uint16", "scale": 1}},
    {"name": "conv/bias"}, {"name": ""}, {"name": 5}, {"name": "a\nb"}, {"name": "x" * 10_000},
], ids=str)
def test_specs_that_do_not_fit_are_refused(changes: dict, write: Callable) -> None:
    refused(write(first_weight(**changes)))


@pytest.mark.parametrize("change", [
    lambda size: size - 1, lambda size: size + 1, lambda size: 0, lambda size: size // 2,
    lambda size: size + 4096,
], ids=["one_short", "one_long", "empty", "half", "long"])
def test_weights_of_the_wrong_length_are_refused(change: Callable, write: Callable, origin: tuple) -> None:
    weights = origin[2]
    length = change(len(weights))
    text = refused(write(data=(weights * 9)[:length]), "bytes for")
    assert f"{length} bytes" in text
    assert f"{len(weights)} bytes" in text


def test_missing_and_extra_weights_are_named(write: Callable, origin: tuple) -> None:
    weights = origin[2]
    folder = write(lambda document: document["weightsManifest"][0]["weights"].pop(0), weights[72:])
    assert "missing ['conv/kernel']" in refused(folder)
    extra = {"name": "foreign/kernel", "shape": [1], "dtype": "float32"}
    folder = write(lambda document: document["weightsManifest"][0]["weights"].append(extra),
                   weights + b"abcd")
    assert "unknown ['foreign/kernel']" in refused(folder)
    folder = write(lambda document: document.pop("weightsManifest"))
    refused(folder, "weightsManifest")


@pytest.mark.parametrize("layer", [
    {"class_name": "Dense", "config": {"name": "dense", "units": 2**31 - 1}},
    {"class_name": "Dense", "config": {"name": "dense", "units": 10**8}},
    {"class_name": "Conv2D", "config": {"name": "conv", "filters": 10**6, "kernel_size": [1000, 1000],
                                        "padding": "same"}},
    {"class_name": "Dense", "config": {"name": "dense", "units": 10**30}},
    {"class_name": "MaxPooling2D", "config": {"name": "pool", "pool_size": 10**9, "padding": "valid"}},
    {"class_name": "Reshape", "config": {"name": "reshape", "target_shape": [2**40, 2**40]}},
], ids=str)
def test_huge_layers_take_no_memory(layer: dict, write: Callable) -> None:
    def change(document: dict) -> None:
        layer["config"]["batch_input_shape"] = [None, 6, 6, 1]
        document["modelTopology"]["config"]["layers"] = [layer]

    folder = write(change)
    tracemalloc.start()
    try:
        refused(folder)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [
    [None, 2**31, 1, 1], [None, 10**6, 10**6, 1], [None, None, None, 1], [None], [], None,
    [None, -6, 6, 1], "6661",
    [None, 6, 6, 1.5], [None, 6, 6, True], {"0": 6}, [None, 6, 6, 1, 1, 1],
], ids=str)
def test_input_shapes_that_cannot_be_are_refused(shape: Any, write: Callable) -> None:
    def change(document: dict) -> None:
        document["modelTopology"]["config"]["layers"][0]["config"]["batch_input_shape"] = shape

    refused(write(change))


@pytest.mark.parametrize("stored", [None, "float16", "uint8"])
def test_memory_stays_near_the_size_of_the_weights(stored: str | None, tmp_path: Path) -> None:
    model = Sequential([layers.Dense(1000, input_shape=(1000,), use_bias=False)])
    model.save(tmp_path)
    if stored:
        document = json.loads((tmp_path / "model.json").read_text())
        [group] = document["weightsManifest"]
        del group["sha256"]
        group["weights"][0]["quantization"] = {"dtype": stored, "scale": 0.1, "min": 0}
        (tmp_path / "model.json").write_text(json.dumps(document))
        (tmp_path / "weights.bin").write_bytes(bytes(10**6 * np.dtype(stored).itemsize))
    del model
    load_model(tmp_path)
    tracemalloc.start()
    try:
        load_model(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 1.5 * 4_000_000 + (4 << 20)
    finally:
        tracemalloc.stop()


def test_groups_of_optimizer_weights_are_checked_as_well(write: Callable) -> None:
    def optimizer_weights(document: dict) -> list[dict]:
        return [spec for spec in document["weightsManifest"][0]["weights"] if spec.get("group")]

    def swap_shapes(document: dict) -> None:
        first, second = optimizer_weights(document)[1:3]
        first["shape"], second["shape"] = second["shape"], first["shape"]

    def no_steps(document: dict) -> None:
        optimizer_weights(document)[0].update(dtype="float32")

    refused(write(swap_shapes), "optimizer weight")
    refused(write(no_steps), "number of steps")


# --- topology ---

def stack_of(document: dict) -> list[dict]:
    return document["modelTopology"]["config"]["layers"]


@pytest.mark.parametrize(("change", "message"), [
    (lambda d: d.update(format="graph-model"), "graph models"),
    (lambda d: d.update(modelTopology={"node": [], "library": {}}), "graph model"),
    (lambda d: d.update(modelTopology=None), "modelTopology"),
    (lambda d: d["modelTopology"].update(class_name="os.system"), "os.system"),
    (lambda d: stack_of(d)[1].update(class_name="LSTM"), "layer 1 .*LSTM"),
    (lambda d: stack_of(d)[1].update(class_name="tinyconv>LSTM"), "LSTM"),
    (lambda d: stack_of(d)[1].update(class_name="Layer"), "Layer"),
    (lambda d: stack_of(d)[1].update(class_name="__class__"), "__class__"),
    (lambda d: stack_of(d)[1].update(class_name=["Conv2D"]), "class_name"),
    (lambda d: stack_of(d)[1].update(config=[]), "config"),
    (lambda d: stack_of(d)[1]["config"].update(name="dense"), "every name once"),
    (lambda d: stack_of(d)[1]["config"].update(name="a/b"), "name"),
    (lambda d: stack_of(d)[1]["config"].pop("name"), "name"),
    (lambda d: stack_of(d)[1]["config"].update(groups=2), "groups"),
    (lambda d: stack_of(d)[1]["config"].update(strides=[0, 1]), "strides"),
    (lambda d: stack_of(d)[1]["config"].update(filters=-1), "filters"),
    (lambda d: stack_of(d)[1]["config"].update(filters=True), "filters"),
    (lambda d: stack_of(d)[1]["config"].update(kernel_size=[9, 9]), "conv"),
    (lambda d: stack_of(d)[1]["config"].update(dilation_rate=[1, 10**6], padding="same"), "dilation_rate"),
    (lambda d: stack_of(d)[2]["config"].update(pool_size=[10**8, 1], padding="same"), "pool_size"),
    (lambda d: stack_of(d)[2]["config"].update(strides=[2, 10**8], padding="same"), "strides"),
    (lambda d: stack_of(d)[1]["config"].update(data_format="channels_middle"), "data_format"),
    (lambda d: stack_of(d)[1]["config"].update(activation="hard_sigmoid"), "hard_sigmoid"),
    (lambda d: stack_of(d)[1]["config"].update(activation="eval"), "activation"),
    (lambda d: stack_of(d)[1]["config"].update(activation={"class_name": "Lambda", "config": "x"}),
     "activation"),
    (lambda d: stack_of(d)[1]["config"].update(_seed=1), "_seed"),
    (lambda d: stack_of(d)[1]["config"].update(weights=[]), "weights"),
    (lambda d: stack_of(d).clear(), "at least one layer"),
    (lambda d: stack_of(d).append(copy.deepcopy(d["modelTopology"])), "layer 'model_conv': Expected an input of shape"),
    (lambda d: d["userDefinedMetadata"]["tinyconv"]["compile"].update(optimizer={"class_name": "os"}),
     "optimizer"),
    (lambda d: d["userDefinedMetadata"]["tinyconv"]["training"].update(seed=-1), "training state"),
    (lambda d: d["userDefinedMetadata"]["tinyconv"]["training"].update(epochs_seen=1e300), "training state"),
], ids=range(32))
def test_topologies_that_cannot_be_read_are_refused(change: Callable, message: str, write: Callable) -> None:
    refused(write(change), message)


@pytest.mark.parametrize("text", ["[]", "null", "3", '"text"', "{}", '{"modelTopology": []}'])
def test_descriptions_that_are_none_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(text)
    refused(tmp_path, "expected an object")


def test_json_that_is_no_model_is_told_by_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"name": "app", "scripts": {}}')
    refused(tmp_path / "package.json", "expected an object with modelTopology, .* Received: \\['name', 'scripts'\\]")


def chain(*links: tuple[str, list]) -> dict:
    stack = [{"class_name": "InputLayer" if name == "in" else "Flatten", "name": name, "inbound_nodes": nodes,
              "config": {"name": name, **({"batch_input_shape": [None, 2, 2, 1]} if name == "in" else {})}}
             for name, nodes in links]
    return {"modelTopology": {"class_name": "Model", "config": {"layers": stack}}, "weightsManifest": []}


@pytest.mark.parametrize("document", [
    chain(("in", []), ("a", [[["in", 0, 0, {}]]]), ("b", [[["in", 0, 0, {}]]])),
    chain(("in", []), ("a", [[["in", 0, 0], ["in", 0, 0]]])),
    chain(("in", []), ("a", [[["in", 0, 0]], [["in", 0, 0]]])),
    chain(("in", []), ("a", [[["b", 0, 0]]]), ("b", [[["a", 0, 0]]])),
    chain(("a", [[["a", 0, 0]]])),
    chain(("in", []), ("in", []), ("a", [[["in", 0, 0]]])),
    chain(("in", []), ("a", [])),
    chain(("in", []), ("a", [[["in", 1, 0]]])),
    chain(("in", []), ("a", [[[["in"], 0, 0]]])),
    chain(("in", []), ("a", [[["missing", 0, 0]]])),
    chain(("in", []), ("a", [[["in", 0, 0, {"training": True}]]])),
    chain(("in", []), ("a", [["in", 0, 0, {"training": True}]])),
    chain(("in", []), ("a", [[["in", 0, 0, {"training": False}, {"mask": [1]}]]])),
    chain(),
], ids=range(14))
def test_functional_models_that_are_no_chain_are_refused(document: dict, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps(document))
    refused(tmp_path)


@pytest.mark.parametrize("arguments", [[], [{}], [{"training": False}], [{"training": None, "mask": None}]])
def test_functional_chain_loads(arguments: list, tmp_path: Path) -> None:
    document = chain(("a", [[["in", 0, 0, *arguments]]]), ("in", []))
    (tmp_path / "model.json").write_text(json.dumps(document))
    assert load_model(tmp_path).output_shape == (None, 4)


# --- everything, a little wrong ---

NASTY = [None, True, -1, 0, 1.5, 1e308, 2**62, "", "x", "__class__", "../x", [], {}, [None], [[-1]],
         {"class_name": "x"}, {"config": {}}]


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every value."""
    for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
        yield node, key
        if isinstance(value, (dict, list)):
            yield from places(value)


@pytest.mark.parametrize("part", range(4))
def test_any_value_replaced_is_refused_or_harmless(part: int, origin: tuple, write: Callable) -> None:
    model, document, _ = origin
    folder = write()
    changed = copy.deepcopy(document)
    outcomes = set()
    for container, key in list(places(changed)):
        kept = container[key]
        for nasty in NASTY[part::4]:
            container[key] = nasty
            (folder / "model.json").write_text(json.dumps(changed))
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    loaded = load_model(folder)
            except FormatError as error:
                assert "\n" not in str(error)
                outcomes.add("refused")
            else:
                outcomes.add("loaded")
                assert loaded.count_params() == model.count_params()
        container[key] = kept
    assert outcomes == {"refused", "loaded"}


@pytest.mark.parametrize("name", ["model.json", "weights.bin"])
def test_files_cut_anywhere_are_refused(name: str, origin: tuple, write: Callable) -> None:
    folder = write()
    content = (folder / name).read_bytes()
    for length in range(0, len(content), max(1, len(content) // 97)):
        (folder / name).write_bytes(content[:length])
        refused(folder)
    (folder / name).write_bytes(content)
    assert outcome(folder, origin[0])


def test_weights_with_a_flipped_bit_are_refused(origin: tuple, write: Callable) -> None:
    folder = write()
    content = bytearray((folder / "weights.bin").read_bytes())
    random = np.random.default_rng(2)
    for position in random.integers(len(content), size=60).tolist():
        content[position] ^= 1 << int(random.integers(8))
        (folder / "weights.bin").write_bytes(content)
        refused(folder, "damaged")
        content[:] = origin[2]


def test_description_with_flipped_bits_is_refused_or_keeps_weights(origin: tuple, write: Callable) -> None:
    folder = write()
    content = (folder / "model.json").read_bytes()
    random = np.random.default_rng(3)
    loaded = 0
    for _ in range(300):
        changed = bytearray(content)
        for position in random.integers(len(content), size=random.integers(1, 4)).tolist():
            changed[position] ^= 1 << int(random.integers(8))
        (folder / "model.json").write_bytes(changed)
        loaded += outcome(folder, origin[0])
    assert 0 < loaded < 300
