"""`load_weights` of a file that does not fit in all its layers, or has them in models within a model."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from tinyconv import Sequential, layers, saving

NAMES = ["w.npz", "w.weights.h5", "w.safetensors", "m.keras", "m.h5"]
EXTRAS = {"npz": "numpy", "h5": "h5py", "keras": "h5py", "safetensors": "safetensors"}


def model_of(inputs: int, classes: int, seed: int = 1, depth: int = 1) -> Sequential:
    rest = [layers.Dense(classes, name="head")] if classes else []
    middle = [layers.Dense(4, name=f"middle_{index}") for index in range(depth)]
    made = Sequential([layers.Input((inputs,)), layers.Dense(4, name="first"), *middle, *rest], seed=seed)
    rng = np.random.default_rng(seed)
    made.set_weights([rng.normal(size=array.shape) for array in made.get_weights()])
    return made


def write(model: Sequential, path) -> None:
    pytest.importorskip(EXTRAS[path.name.split(".")[-1]])
    (model.save if path.name.startswith("m.") else model.save_weights)(path)


def layers_that_are(model: Sequential, other: Sequential) -> list[str]:
    """Names of the layers that have the weights of another model's layer of that name."""
    return [layer.name for layer in model.layers if all(
        np.array_equal(a, b) for a, b in zip(layer.get_weights(), other.get_layer(layer.name).get_weights()))]


@pytest.mark.parametrize("name", NAMES)
def test_layers_of_other_shapes_are_skipped_with_a_warning_each(name, tmp_path):
    saved, other, before = model_of(5, 3), model_of(6, 2, seed=2), model_of(6, 2, seed=2)
    write(saved, tmp_path / name)
    with pytest.raises(ValueError, match="expected"):
        other.load_weights(tmp_path / name)
    assert layers_that_are(other, before) == ["first", "middle_0", "head"]
    with pytest.warns(UserWarning, match="keeps its weights") as caught:
        other.load_weights(tmp_path / name, skip_mismatch=True)
    assert [str(warning.message).split("'")[1] for warning in caught] == ["first", "head"]
    assert all("\n" not in str(warning.message) and warning.filename == __file__ for warning in caught)
    assert layers_that_are(other, saved) == ["middle_0"]
    assert layers_that_are(other, before) == ["first", "head"]  # the biases too


@pytest.mark.parametrize("name", ["w.npz", "w.weights.h5", "m.keras"])
def test_layers_that_the_file_has_not_are_skipped(name, tmp_path):
    saved, other = model_of(5, 0), model_of(5, 3, seed=2)
    write(saved, tmp_path / name)
    with pytest.warns(UserWarning, match="Layer 'head' keeps its weights"):
        saving.load_weights(other, tmp_path / name, skip_mismatch=True)
    assert layers_that_are(other, model_of(5, 3, seed=2)) == ["head"]
    assert layers_that_are(saved, other) == ["first", "middle_0"]


@pytest.mark.parametrize("name", NAMES)
def test_all_that_fits_is_loaded_silently(name, tmp_path):
    saved, other = model_of(5, 3), model_of(5, 3, seed=2)
    write(saved, tmp_path / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.load_weights(tmp_path / name, skip_mismatch=True)
    assert layers_that_are(other, saved) == ["first", "middle_0", "head"]


def test_a_damaged_file_is_no_mismatch(tmp_path):
    saved, other = model_of(5, 3), model_of(5, 3, seed=2)
    saved.save_weights(tmp_path / "w.npz")
    data = bytearray((tmp_path / "w.npz").read_bytes())
    data[200] ^= 1
    (tmp_path / "w.npz").write_bytes(data)
    with pytest.raises(ValueError, match=r"expected an \.npz archive"):
        other.load_weights(tmp_path / "w.npz", skip_mismatch=True)
    assert layers_that_are(other, model_of(5, 3, seed=2)) == ["first", "middle_0", "head"]


def test_layers_go_by_their_names_where_asked(tmp_path):
    saved, other = model_of(5, 3), model_of(5, 0, seed=2, depth=2)
    write(saved, tmp_path / "m.h5")
    with pytest.warns(UserWarning, match="expected shape") as caught:
        model_of(6, 3).load_weights(tmp_path / "m.h5", skip_mismatch=True, by_name=True)
    assert len(caught) == 1
    with pytest.raises(ValueError, match="expected shape"):
        model_of(6, 3).load_weights(tmp_path / "m.h5", by_name=True)
    before = other.get_layer("middle_1").get_weights()
    other.load_weights(tmp_path / "m.h5", by_name=True)  # without head, with middle_1
    np.testing.assert_array_equal(other.get_layer("middle_1").get_weights()[0], before[0])
    for name in ("first", "middle_0"):
        np.testing.assert_array_equal(other.get_layer(name).get_weights()[0], saved.get_layer(name).get_weights()[0])


@pytest.mark.parametrize("name", ["w.npz", "w.weights.h5", "w.safetensors", "m.keras"])
def test_names_are_asked_of_legacy_files_only(name, tmp_path):
    write(model_of(5, 3), tmp_path / name)
    with pytest.raises(ValueError, match="by_name=True for .h5 and .hdf5 files only. Received: by_name=True, path="):
        model_of(5, 3).load_weights(tmp_path / name, by_name=True)


# --- models within models, in numbered files ---


def images(seed: int, names: tuple[str, str, str] = ("a", "b", "c")) -> Sequential:
    """Three convolutions of the same shapes and a dense layer."""
    made = Sequential([layers.Input((6, 6, 2)), *(layers.Conv2D(2, 1, name=name) for name in names), layers.Flatten(),
                       layers.Dense(3)], seed=seed)
    rng = np.random.default_rng(seed)
    made.set_weights([rng.normal(size=array.shape) for array in made.get_weights()])
    return made


def moved(model: Sequential, path, moves: dict[str, str]) -> None:
    """Writes a model's weights and moves groups, as Keras has them of models within models."""
    h5py = pytest.importorskip("h5py")
    model.save_weights(path)
    with h5py.File(path, "a") as file:
        file.attrs.pop("tinyconv")
        for old, new in moves.items():
            file.move(f"layers/{old}", f"layers/{new}")


BASE = "sequential/layers"


@pytest.mark.parametrize("moves", [
    {"conv2d": f"{BASE}/conv2d", "conv2d_1": f"{BASE}/conv2d_1", "conv2d_2": f"{BASE}/conv2d_2"},
    {"conv2d": f"{BASE}/conv2d", "conv2d_1": f"{BASE}/conv2d_1", "conv2d_2": f"{BASE}/conv2d_2",
     "flatten": "sequential_1/layers/flatten", "dense": "sequential_1/layers/dense"},
    {"conv2d": f"{BASE}/conv2d", "conv2d_1": f"{BASE}/functional/layers/conv2d", "conv2d_2": f"{BASE}/conv2d_1",
     "dense": f"{BASE}/dense"},
], ids=["base", "base and head", "a base in a base"])
def test_weights_of_models_in_models_load(moves, tmp_path):
    saved, other = images(1), images(2)
    moved(saved, tmp_path / "w.weights.h5", moves)
    other.load_weights(tmp_path / "w.weights.h5")
    for a, b in zip(saved.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_models_in_models_that_fit_in_several_ways_go_by_names(tmp_path):
    saved, path = images(1), tmp_path / "w.weights.h5"
    moved(saved, path, {"conv2d_2": f"{BASE}/conv2d"})  # which may be before the two others as well
    other = images(2)
    other.load_weights(path)
    np.testing.assert_array_equal(other.get_layer("c").get_weights()[0], saved.get_layer("c").get_weights()[0])
    strange = images(2, ("x", "y", "z"))
    with pytest.raises(ValueError, match="fit this model's in one way, or have its layers' names"):
        strange.load_weights(path)
    for a, b in zip(strange.get_weights(), images(2).get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_model_in_a_model_of_other_layers_is_refused(tmp_path):
    moved(images(1), tmp_path / "w.weights.h5", {"conv2d": f"{BASE}/conv2d"})
    other = Sequential([layers.Input((6, 6, 2)), layers.Conv2D(2, 1), layers.Flatten(), layers.Dense(3)])
    for options in ({}, {"skip_mismatch": True}):
        with pytest.raises(ValueError, match="layers in models: expected"):
            other.load_weights(tmp_path / "w.weights.h5", **options)


def test_models_in_models_are_skipped_by_layers(tmp_path):
    saved = images(1)
    moved(saved, tmp_path / "w.weights.h5", {f"conv2d{end}": f"{BASE}/conv2d{end}" for end in ("", "_1", "_2")})
    other = Sequential([layers.Input((6, 6, 2)), *images(2).layers[:-1], layers.Dense(4, name="other")])
    with pytest.warns(UserWarning, match="Layer 'other' keeps its weights"):
        other.load_weights(tmp_path / "w.weights.h5", skip_mismatch=True)
    for a, b in zip(saved.get_weights()[:-2], other.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(a, b)


def test_groups_that_hold_themselves_end(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "w.weights.h5"
    moved(images(1), path, {"conv2d": f"{BASE}/conv2d"})
    with h5py.File(path, "a") as file:
        for number in range(3):
            file[f"layers/sequential/layers/sequential_{number + 1}"] = file["layers/sequential"]
    with pytest.raises(ValueError, match="expected at most 10000 layers"):
        images(2).load_weights(path)


@pytest.mark.parametrize("name", ["w.weights.h5", "m.keras"])
def test_layers_of_a_numbered_file_that_the_model_has_not_are_passed_over(name, tmp_path):
    """As in Keras; the checksum, which is one of all the weights, says nothing then."""
    saved, other = model_of(5, 4, depth=2), model_of(5, 4, seed=2, depth=1)
    write(saved, tmp_path / name)
    other.load_weights(tmp_path / name)
    for a, b in zip(saved.get_weights()[:-2], other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_by_name_takes_the_layer_itself_before_one_of_its_name_in_a_model(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "m.h5"
    held = {"base": ["base/dense", "base/other"], "one": ["one/dense"], "dense": ["dense"], "two": ["two/twice"],
            "three": ["three/twice"]}
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in held]
        for number, (name, parts) in enumerate(held.items()):
            paths = [f"{part}/kernel:0" for part in parts]
            file.create_group(name).attrs["weight_names"] = [path.encode() for path in paths]
            for index, inner in enumerate(paths):
                file[f"{name}/{inner}"] = np.full((4, 4), 10 * number + index, "f4")

    def loaded(*names):
        model = Sequential([layers.Input((4,)), *(layers.Dense(4, use_bias=False, name=name) for name in names)])
        model.set_weights([np.full((4, 4), -1.0)] * len(names))
        model.load_weights(path, by_name=True)
        return [array[0, 0] for array in model.get_weights()]

    assert loaded("dense", "other", "base_dense", "one_dense", "else") == [20, 1, 0, 10, -1]
    assert loaded("one", "other") == [10, 1]
    with pytest.raises(ValueError, match="layers called 'twice': expected one. Received: \\['two', 'three'\\]"):
        loaded("twice")
