"""Every format's files cut at every 1,024 bytes, and with bytes changed: an error of ours, or what was saved.

What can be promised follows from the format.  Weights of TensorFlow.js folders, Keras' files
and `.npz` archives have checksums, some of them this package's own; so have PNG and gzip.
What is plain bytes, or text, has at most a length: a changed byte there is another value.
"""

from __future__ import annotations

import random
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tinyconv import Sequential, datasets, layers, load_model

pytestmark = pytest.mark.once  # the reading has no part in C

STEP = 1024
FLIPS = 200


class Case(NamedTuple):
    """A file of a format.

    Attributes:
        save: Writes the format into a folder.
        read: What of it counts, as arrays.
        name: The file, its path within the folder.
        is_checked: Whether every change of a byte is told, or harmless.
        has_length: Whether every cut is told.
        needs: The package without which the format is not read.
    """

    save: Callable[[Path], Any]
    read: Callable[[Path], list[np.ndarray]]
    name: str
    is_checked: bool = True
    has_length: bool = True
    needs: str | None = None


def a_model() -> Sequential:
    model = Sequential([
        layers.Conv2D(4, 3, activation="relu", input_shape=(10, 10, 1), name="conv2d"),
        layers.MaxPooling2D(2, name="pool"), layers.Flatten(name="flatten"),
        layers.Dense(20, name="dense"), layers.Dense(3, activation="softmax", name="last"),
    ], seed=1)
    model.compile("adam", "categorical_crossentropy")
    return model


def an_image_set() -> datasets.ImageSet:
    pixels = np.random.default_rng(2).integers(0, 256, (40, 28, 28), np.uint8)
    return datasets.ImageSet(pixels, np.arange(40) % 3, ["a", "b", "c"])


def loaded(name: str) -> Callable[[Path], list[np.ndarray]]:
    return lambda folder: load_model(folder / name).get_weights()


def loaded_weights(name: str) -> Callable[[Path], list[np.ndarray]]:
    def read(folder: Path) -> list[np.ndarray]:
        model = a_model()
        before = model.get_weights()
        model.set_weights([array + 1 for array in before])
        try:
            model.load_weights(folder / name)
        except ValueError:
            for array, old in zip(model.get_weights(), before, strict=True):
                np.testing.assert_array_equal(array, old + 1)  # nothing was changed
            raise
        return model.get_weights()

    return read


def model_case(path: str, name: str, needs: str | None = None, **options: Any) -> Case:
    return Case(lambda folder: a_model().save(folder / path, **options), loaded(path), name, needs=needs)


def weights_case(name: str, is_checked: bool = True, needs: str | None = None) -> Case:
    return Case(lambda folder: a_model().save_weights(folder / name), loaded_weights(name), name, is_checked,
                needs=needs)


def data_case(format: str, name: str, target: str = "", is_checked: bool = False, has_length: bool = True) -> Case:
    def read(folder: Path) -> list[np.ndarray]:
        images = datasets.read(folder / "data", format)
        return [images.images, images.labels]

    return Case(lambda folder: datasets.write(an_image_set(), folder / "data" / target, format), read, f"data/{name}",
                is_checked, has_length)


def save_drawings(folder: Path) -> None:
    (folder / "data").mkdir()
    line = '{"word":"cat","drawing":[[[%d,100,255,7],[0,50,%d,9]],[[3,8],[4,200]]]}\n'
    (folder / "data" / "cat.ndjson").write_text("".join(line % (number, number) for number in range(40)))


CASES = {
    "tfjs weights": model_case("model", "model/weights.bin"),
    "tfjs model.json": model_case("model", "model/model.json"),
    "keras": model_case("m.keras", "m.keras", "h5py"),
    "h5": model_case("m.h5", "m.h5", "h5py"),
    "h5 of Keras 2": model_case("m.h5", "m.h5", "h5py", dialect="keras2"),
    "weights.h5": weights_case("m.weights.h5", needs="h5py"),
    "npz": weights_case("m.npz"),
    "safetensors": weights_case("m.safetensors", is_checked=False, needs="safetensors"),
    "onnx": model_case("m.onnx", "m.onnx", "onnx")._replace(is_checked=False),
    "sprite png": data_case("sprite", "images.png", is_checked=True),
    "sprite labels": data_case("sprite", "labels_uint8"),
    "idx": data_case("idx", "images-idx3-ubyte"),
    "idx gz": data_case("idx", "images-idx3-ubyte.gz", "images-idx3-ubyte.gz", is_checked=True),
    "quickdraw npy": data_case("quickdraw", "a.npy"),
    "quickdraw ndjson": data_case("quickdraw", "cat.ndjson", has_length=False)._replace(save=save_drawings),
    "csv": data_case("csv", "labels.csv", has_length=False),
    "csv png": data_case("csv", "images/000003.png", is_checked=True),
}


def cuts(data: bytes) -> Iterator[bytes]:
    for size in range(0, len(data), STEP):
        yield data[:size]
    yield data[:-1]


def flips(data: bytes) -> Iterator[bytes]:
    """One changed byte, or several; every second near the start, where headers are."""
    source = random.Random(3)
    for number in range(FLIPS):
        changed = bytearray(data)
        reach = len(data) if number % 2 else min(len(data), STEP)
        for _ in range(1 if number % 4 < 2 else source.randrange(2, 9)):
            changed[source.randrange(reach)] ^= source.randrange(1, 256)
        yield bytes(changed)


@pytest.fixture
def damaged(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Case, Path, list[np.ndarray]]:
    """A case, its file, and what is read there before it is damaged."""
    case = CASES[request.param]
    if case.needs is not None:
        pytest.importorskip(case.needs, reason=f"the extra with {case.needs} is not installed")
    case.save(tmp_path)
    return case, tmp_path / case.name, case.read(tmp_path)


def outcome(case: Case, folder: Path) -> list[np.ndarray] | None:
    """What is read; None where it is refused, in one line that names something."""
    began = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return case.read(folder)
    except (ValueError, FileNotFoundError) as error:
        text = str(error)
        assert "xpected" in text or "no such" in text.lower() or "Received: " in text, text
        assert text.isprintable(), text
        assert len(text) < 1000
        return None
    finally:
        assert time.process_time() - began < 2


def same(found: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    return len(found) == len(expected) and all(
        one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()
        for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("damaged", CASES, indirect=True)
def test_cut_files_are_refused_or_read_as_they_were(damaged: tuple, tmp_path: Path) -> None:
    case, file, expected = damaged
    refusals = 0
    for data in cuts(file.read_bytes()):
        file.write_bytes(data)
        found = outcome(case, tmp_path)
        refusals += found is None
        if found is not None and case.has_length:
            assert same(found, expected), f"{len(data)} bytes"
    assert refusals


@pytest.mark.parametrize("damaged", CASES, indirect=True)
def test_files_with_changed_bytes_are_refused_or_read_as_they_were(damaged: tuple, tmp_path: Path) -> None:
    case, file, expected = damaged
    for number, data in enumerate(flips(file.read_bytes())):
        file.write_bytes(data)
        found = outcome(case, tmp_path)
        if found is None:
            continue
        if case.is_checked:
            assert same(found, expected), f"change {number}"
        elif case.has_length:
            assert [array.dtype for array in found] == [array.dtype for array in expected], f"change {number}"
            assert [array.shape for array in found] == [array.shape for array in expected], f"change {number}"


def test_weights_files_of_keras_keep_their_checksum_when_they_are_packed(tmp_path: Path) -> None:
    """Another program may write a file anew: the checksum is one of the contents."""
    h5py = pytest.importorskip("h5py", reason="the extra [keras] is not installed")
    for name in ("m.weights.h5", "m.h5"):
        model = a_model()
        model.save_weights(tmp_path / name) if "weights" in name else model.save(tmp_path / name)
        with h5py.File(tmp_path / name) as old, h5py.File(tmp_path / f"packed.{name}", "w") as new:
            new.attrs.update(old.attrs)

            def copy(path: str, node: Any, h5py: Any = h5py, new: Any = new) -> None:
                if isinstance(node, h5py.Dataset):
                    options = {"compression": "gzip", "shuffle": True} if node.shape else {}
                    written = new.create_dataset(path, data=node[()], **options)
                else:
                    written = new.require_group(path)
                written.attrs.update(node.attrs)

            old.visititems(copy)
        other = a_model()
        other.set_weights([array + 1 for array in other.get_weights()])
        other.load_weights(tmp_path / f"packed.{name}")
        assert same(other.get_weights(), model.get_weights())


@pytest.mark.parametrize("name", ["m.weights.h5", "m.h5"])
def test_weights_files_of_keras_that_were_changed_in_place_are_refused_until_their_checksum_goes(
        name: str, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="the extra [keras] is not installed")
    model = a_model()
    model.save_weights(tmp_path / name) if "weights" in name else model.save(tmp_path / name)
    paths: list[str] = []
    with h5py.File(tmp_path / name, "r+") as file:
        file.visititems(lambda path, node: paths.append(path) if getattr(node, "shape", None) == (20, 3) else None)
        file[paths[0]][0, 0] = 7
    before = model.get_weights()
    with pytest.raises(ValueError, match="damaged, or was changed in place and kept its attribute 'tinyconv'"):
        model.load_weights(tmp_path / name)
    assert same(model.get_weights(), before)
    with h5py.File(tmp_path / name, "r+") as file:
        del file.attrs["tinyconv"]
    model.load_weights(tmp_path / name)
    assert model.get_weights()[-2][0, 0] == 7


@pytest.mark.parametrize("path", ["tfjs/aslamplr-mnist", "tfjs/tfjssave-codingtrain-shapes-1.7.2",
                                  "keras/sipeed-mnist_dw.h5",
                                  "keras/07subhadip-Subhadip_Hensh_MNIST_CNN.keras"])
def test_real_files_that_are_damaged_are_refused_or_read_in_their_shapes(path: str, data_folder: Path,
                                                                         tmp_path: Path) -> None:
    """Of other writers' `.h5` files and shards nothing but the length can be told; `.keras` archives have checksums."""
    source = data_folder / "models" / path
    if not source.exists():
        pytest.skip(f"{path} is not among the data")
    if source.suffix:
        pytest.importorskip("h5py", reason="the extra [keras] is not installed")
    target = tmp_path / source.name
    shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    case = Case(print, loaded(source.name), source.name)
    expected = outcome(case, tmp_path)
    assert expected is not None
    file = target if target.is_file() else max(
        target.iterdir(), key=lambda path: (path.suffix != ".json", path.stat().st_size))
    original = file.read_bytes()
    for number, data in enumerate([*list(cuts(original))[:: 1 + len(original) // (8 * STEP)],
                                   *list(flips(original))[:12]]):
        file.write_bytes(data)
        found = outcome(case, tmp_path)
        if found is not None:
            assert [array.shape for array in found] == [array.shape for array in expected], number
            assert source.suffix != ".keras" or same(found, expected), number
