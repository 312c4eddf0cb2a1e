"""Models' files whose few bytes ask for much time or memory, or name things twice: refused before, or read in time."""

from __future__ import annotations

import json
import struct
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyconv
from tinyconv import Sequential, formats, layers, load_model
from tinyconv.formats import FormatError, hdf5, topology
from tinyconv.formats.hdf5_heaps import check_heaps

SECONDS = 2.0


def layer(class_name: str, name: str, **settings: Any) -> dict[str, Any]:
    return {"class_name": class_name, "config": {"name": name, **settings}}


def sequential(inner: list[dict[str, Any]], name: str = "model") -> dict[str, Any]:
    return {"class_name": "Sequential", "config": {"name": name, "layers": inner}}


def first(name: str = "first") -> dict[str, Any]:
    return layer("Dropout", name, rate=0.5, batch_input_shape=[None, 4])


def written(folder: Path, model: dict[str, Any], **others: Any) -> Path:
    document = {"format": "layers-model", "modelTopology": model, "weightsManifest": [], **others}
    (folder / "model.json").write_text(json.dumps(document))
    return folder


def refused(path: Path, message: str) -> None:
    began = time.process_time()
    with pytest.raises(FormatError, match=message) as caught:
        load_model(path)
    assert time.process_time() - began < SECONDS
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


# --- descriptions ---


@pytest.mark.parametrize("stack", [
    [first(), *(layer("Dropout", f"d{number}", rate=0.5) for number in range(20_000))],
    [first(), *(sequential([layer("Dropout", "d", rate=0.5)], f"s{number}") for number in range(15_000))],
    [first(), sequential([sequential([layer("Flatten", f"f{number}") for number in range(1000)], "a")] * 3)],
], ids=["layers", "models", "models in models"])
def test_models_of_too_many_layers_are_refused_at_once(stack: list, tmp_path: Path) -> None:
    refused(written(tmp_path, sequential(stack)), "layers: expected at most 2000")


def test_models_of_the_most_layers_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topology, "MAX_LAYERS", 5)
    model = sequential([first(), sequential([layer("Dropout", "a", rate=0.5)], "s"),
                        {"class_name": "Sequential", "config": [layer("Dropout", "b", rate=0.5)]}])
    assert [each.name for each in load_model(written(tmp_path, model)).layers] == ["first", "a", "b"]
    model["config"]["layers"].append(layer("Dropout", "c", rate=0.5))
    refused(written(tmp_path, model), "layers: expected at most 5")


def test_a_model_of_more_layers_than_are_read_is_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "MAX_LAYERS", 2)
    model = Sequential([layers.Input((4,)), layers.Dense(4), layers.ReLU()], name="m")
    model.save(tmp_path / "two")
    model.add(layers.ReLU())
    for name in ("three", "three.keras", "three.onnx"):
        with pytest.raises(ValueError, match="save expected at most 2 layers, .* Received: model 'm' of 3 layers"):
            model.save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["two"]


@pytest.mark.parametrize(("name", "options"), [("m.keras", {}), ("m.h5", {}), ("m.h5", {"dialect": "keras2"})], ids=str)
def test_a_model_of_the_most_layers_and_names_is_read(name: str, options: dict, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("h5py", reason="the extra [keras] is not installed")
    count, most = 20, hdf5._MAX_NAMES / topology.MAX_LAYERS
    model = Sequential([layers.Input((4, 2)), *(layers.SeparableConv1D(2, 1) for _ in range(count))])
    model.compile(tinyconv.optimizers.Adam(amsgrad=True, use_ema=True), "mse")
    model.fit(np.zeros((2, 4, 2)), np.zeros((2, 4, 2)), verbose=0)
    model.save(tmp_path / name, **options)
    monkeypatch.setattr(topology, "MAX_LAYERS", count)
    monkeypatch.setattr(hdf5, "_MAX_NAMES", int(count * most) + 20)  # names that are not those of layers
    assert len(load_model(tmp_path / name).layers) == count


def test_layers_of_one_name_in_several_models_get_names_of_their_own(tmp_path: Path) -> None:
    """In Keras a name is one of its own model alone."""
    twins = [sequential([sequential([layer("Dropout", "d", rate=0.5)], "inner")], f"outer{number}")
             for number in range(4)]
    model = load_model(written(tmp_path, sequential([first(), *twins])))
    assert [each.name for each in model.layers] == ["first", "d", "inner_d", "inner_d_1", "inner_d_2"]


def test_many_weights_that_do_not_fit_many_layers_are_told_in_time(tmp_path: Path) -> None:
    stack = [layer("Dense", f"d{number}", units=1, batch_input_shape=[None, 1]) for number in range(800)]
    specs = [{"name": f"q{number}", "shape": [1], "dtype": "float32"} for number in range(30_000)]
    path = written(tmp_path, sequential(stack), weightsManifest=[{"paths": ["w"], "weights": specs}])
    began = time.process_time()
    with pytest.raises(FormatError, match="expected the model's 1600 weights. Received: 30000 weights"):
        load_model(path)
    assert time.process_time() - began < 2 * SECONDS


@pytest.mark.parametrize(("class_name", "settings"), [
    ("AUC", {"num_thresholds": 10**9}), ("PrecisionAtRecall", {"recall": 0.5, "num_thresholds": 10**9}),
    ("SensitivityAtSpecificity", {"specificity": 0.5, "num_thresholds": 2**31 - 1}),
    ("MeanIoU", {"num_classes": 10**6}),
    ("IoU", {"num_classes": 10**6, "target_class_ids": [0]}), ("OneHotMeanIoU", {"num_classes": 20_000}),
], ids=str)
def test_metrics_of_a_file_take_no_memory_for_its_numbers(class_name: str, settings: dict, tmp_path: Path) -> None:
    config = {"loss": "mse", "metrics": [{"class_name": class_name, "config": settings}],
              "optimizer_config": {"class_name": "SGD", "config": {"learning_rate": 0.1}}}
    with pytest.warns(UserWarning, match="The model is not compiled, .*Expected num_.* to be at most"):
        model = load_model(written(tmp_path, sequential([first()]), trainingConfig=config))
    assert model.optimizer is None


# --- HDF5 ---


@pytest.fixture
def change(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a model's `.h5` or `.keras` file, changed, without its checksum."""
    h5py = pytest.importorskip("h5py", reason="the extra [keras] is not installed")

    def change(edit: Callable[[Any], object], inputs: int = 4) -> Path:
        stack = [layers.Input((inputs,)), layers.Dense(inputs, use_bias=False, name="dense")]
        model = Sequential(stack, name="m", seed=1)
        model.compile("adam", "mse")
        path = tmp_path / "m.h5"
        model.save(path)
        with h5py.File(path, "r+") as file:
            del file.attrs["tinyconv"]
            edit(file)
        return path

    return change


def put_names(group: Any, name: str, values: list[bytes]) -> None:
    if name in group.attrs:
        del group.attrs[name]
    for index, part in enumerate(np.array_split(np.array(values, "S"), 8)):
        group.attrs[f"{name}{index}"] = part


def test_a_layer_that_is_named_again_and_again_is_refused(change: Callable) -> None:
    def edit(file: Any) -> None:
        group = file["model_weights"]
        group.create_group("a").attrs["weight_names"] = np.array([b"x"] * 22_000, "S1")
        put_names(group, "layer_names", [b"a"] * 22_000)

    refused(change(edit), "at most 40000 names in a file")


def test_groups_that_are_one_under_many_names_are_refused(change: Callable) -> None:
    def edit(file: Any) -> None:
        group = file["model_weights"]
        inner = group.create_group("a")
        inner.attrs["weight_names"] = np.array([b"x"] * 9000, "S1")
        for number in range(50):
            group[str(number)] = inner
        put_names(group, "layer_names", [str(number).encode() for number in range(50)])

    refused(change(edit), "at most 40000 names in a file")


def test_arrays_that_are_one_under_many_names_are_refused(change: Callable) -> None:
    def edit(file: Any) -> None:
        group = file["optimizer_weights"]
        names = [str(number).encode() for number in range(50_000)]
        group[names[0]] = np.zeros(1, "f4")
        put_names(group, "weight_names", names)

    refused(change(edit), "at most 40000 names in a file")


def test_paths_through_a_group_that_holds_itself_are_refused(change: Callable) -> None:
    def edit(file: Any) -> None:
        group = file["model_weights"]
        group["a"] = group
        del group.attrs["layer_names"]
        group.attrs.create("layer_names", ["a/" * 2_000_000 + "a"])

    refused(change(edit), "a path of at most 200 names")


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}], ids=["plain", "deflate"])
def test_chunks_that_are_many_and_tiny_are_refused(options: dict, change: Callable) -> None:
    def edit(file: Any) -> None:
        path = "model_weights/dense/m/dense/kernel"
        del file[path]
        file.create_dataset(path, (1000, 1000), "f4", chunks=(2, 2), **options)

    refused(change(edit, 1000), "chunk: expected fewer and larger ones")


def test_a_hundred_texts_in_one_place_are_bounded(change: Callable) -> None:
    text, count = b"x" * 5_000_001, 99

    def edit(file: Any) -> None:
        group = file["model_weights"]
        del group.attrs["layer_names"]
        group.attrs.create("layer_names", [text.decode(), *["y"] * (count - 1)])

    path = change(edit)
    data = path.read_bytes()
    start = data.index(len(text).to_bytes(4, "little"))
    path.write_bytes(data[:start] + data[start:start + 16] * count + data[start + 16 * count:])
    refused(path, "attribute 'layer_names': expected a size of at most")


def test_texts_of_variable_length_are_read_whatever_the_weights_beside_them_take(change: Callable) -> None:
    def edit(file: Any) -> None:
        file["model_weights"].attrs.create("layer_names", ["dense"])
        for number in range(120):
            file["model_weights"].create_group(f"other{number}")
        file["model_weights"].attrs.create("layer_names", ["dense", *(f"other{number}" for number in range(120))])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert load_model(change(edit, 600)).count_params() == 600 * 600


def test_heaps_within_heaps_are_walked_through_once() -> None:
    """Every head is also the content of an object of the heap before it."""
    units = 5000
    data = bytearray()
    for unit in range(units):
        data += b"GCOL\x01\0\0\0" + struct.pack("<Q", 32 * (units - unit) + 16) + struct.pack("<H6xQ", 1, 16)
    began = time.process_time()
    with pytest.raises(FormatError, match="at most 200000 objects"):
        check_heaps(memory(bytes(data) + bytes(16)), "it")
    assert time.process_time() - began < SECONDS


def test_check_heaps_gives_the_longest_object() -> None:
    objects = b"".join(struct.pack("<H6xQ", number, size) + bytes((size + 7) // 8 * 8)
                       for number, size in ((1, 24), (2, 333), (3, 8)))
    heap = b"GCOL\x01\0\0\0" + struct.pack("<Q", 16 + len(objects)) + objects
    assert check_heaps(memory(bytes(40) + heap + bytes(100)), "it") == 333
    assert check_heaps(memory(bytes(1000)), "it") == 0


def memory(data: bytes) -> Any:
    import io

    return io.BytesIO(data)
