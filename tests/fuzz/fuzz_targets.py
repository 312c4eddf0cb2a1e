"""Every reader: what it reads, from which files it begins, and what has to work with what it read."""

from __future__ import annotations

import importlib.util
import json
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py  # noqa: F401 - its import asks the system for more than a reader may
import numpy as np
from fuzz_cases import ARCHIVE, Files
from fuzz_remote import read_remote, remote_seeds

import tinyconv
from tinyconv import Sequential, datasets, layers, load_model
from tinyconv.callbacks import BackupAndRestore
from tinyconv.cli_predict import read_picture
from tinyconv.image_input import ImageInput

__all__ = ["TARGETS", "Target"]

# A layer that computes more is not run: a few bytes can ask for hours of honest work.
_MAX_WORK = 1 << 22
_REAL_BYTES = 200_000


class Target(NamedTuple):
    """A reader."""

    read: Callable[[Path], Any]
    seeds: Callable[[Path], list[Files]]
    use: Callable[[Any], None]


# --- models ---


def _small_model() -> Sequential:
    model = Sequential([
        layers.Conv2D(3, 3, activation="relu", input_shape=(8, 8, 1)), layers.MaxPooling2D(2), layers.Dropout(0.4),
        layers.Flatten(), layers.Dense(4, activation="softmax"),
    ], seed=1)
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    random = np.random.default_rng(1)
    model.fit(random.random((8, 8, 8, 1), np.float32), np.eye(4, dtype=np.float32)[[0, 1, 2, 3] * 2], epochs=1,
              verbose=0)
    model.class_names = ["a", "b", "c", "d"]
    model.image_input = ImageInput(scale=1 / 255)
    return model


def _varied_model() -> Sequential:
    return Sequential([
        layers.Input((8, 8, 3)), layers.Rescaling(1 / 255), layers.ZeroPadding2D(1), layers.DepthwiseConv2D(3),
        layers.BatchNormalization(), layers.ReLU(6.0), layers.SeparableConv2D(4, 3, padding="same"), layers.PReLU(),
        layers.AveragePooling2D(2), layers.Conv2DTranspose(2, 2), layers.LeakyReLU(), layers.UpSampling2D(2),
        layers.Cropping2D(1), layers.Reshape((-1, 4)), layers.Permute((2, 1)), layers.Flatten(),
        layers.GaussianNoise(0.1), layers.Dense(3), layers.Activation("softmax"),
    ], seed=2)


def _load_into(path: Path) -> Sequential:
    model = _LOADED.setdefault("model", _small_model())
    model.load_weights(path)
    return model


_LOADED: dict[str, Sequential] = {}


def _predict(model: Sequential) -> None:
    """One prediction, where it is little work."""
    shape = tuple(size or 1 for size in model.input_shape[1:])
    work = int(np.prod(shape, dtype=np.float64))
    for layer in model.layers:
        size = np.prod([size or 1 for size in layer.output_shape[1:]], dtype=np.float64)
        windows = [getattr(layer, name, ()) for name in ("kernel_size", "pool_size")]
        weights = max([np.prod(weight.shape, dtype=np.float64) for weight in layer.weights], default=1)
        work += size * weights * np.prod([np.prod(window, dtype=np.float64) for window in windows])
        if work > _MAX_WORK:
            return
    model.predict(np.zeros((2, *shape), np.float32), verbose=0)


def _folder_files(folder: Path) -> Files:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file()}


def _saved(name: str, save: Callable[[Sequential, Path], None]) -> Callable[[Path], list[Files]]:
    """Seeds: models of ours, as files in a folder."""

    def seeds(work: Path) -> list[Files]:
        found = []
        for number, model in enumerate((_small_model(), _varied_model())):
            folder = work / str(number)
            folder.mkdir()
            save(model, folder / name)
            found.append(_opened(_folder_files(folder)))
        return found

    return seeds


def _opened(files: Files) -> Files:
    """Zip archives as the files in them."""
    import io
    import zipfile

    opened: Files = {}
    for name, data in files.items():
        if data.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                opened.update({f"{name}{ARCHIVE}{member}": archive.read(member) for member in archive.namelist()})
        else:
            opened[name] = data
    return opened


def _tfjs_seeds(work: Path) -> list[Files]:
    found = _saved("model", lambda model, path: model.save(path))(work)
    first = {name.removeprefix("model/"): data for name, data in found[0].items()}
    found = [first, {name.removeprefix("model/"): data for name, data in found[1].items()}]
    for stored, width in (("uint8", 1), ("uint16", 2), ("float16", 2)):
        document = json.loads(first["model.json"])
        document["modelTopology"] = {"model_config": document["modelTopology"]}
        for key in ("userDefinedMetadata", "trainingConfig", "generatedBy"):
            document.pop(key)
        [group] = document["weightsManifest"]
        weights = [spec for spec in group["weights"] if "group" not in spec]
        for spec in weights:
            spec["quantization"] = {"dtype": stored, "scale": 0.01, "min": -1.0}
        size = width * sum(int(np.prod(spec["shape"])) for spec in weights)
        document["weightsManifest"] = [{"paths": ["group1-shard1of2", "group1-shard2of2"], "weights": weights}]
        found.append({"model.json": json.dumps(document).encode(), "group1-shard1of2": bytes(range(100)),
                      "group1-shard2of2": bytes(size - 100)})
    return found + _real("models/tfjs/*/model.json", "model.json")


def _real(pattern: str, name: str) -> list[Files]:
    """Real files that are small, in the folder TINYCONV_DATA."""
    data = os.environ.get("TINYCONV_DATA")
    found = []
    for path in sorted(Path(data).glob(pattern)) if data else []:
        if path.stat().st_size <= _REAL_BYTES:
            beside = [other for other in path.parent.iterdir() if other.suffix != path.suffix and other.is_file()
                      and other.stat().st_size <= _REAL_BYTES] if name == "model.json" else []
            found.append(_opened({name: path.read_bytes(), **{other.name: other.read_bytes() for other in beside}}))
    return found


def _h5_seeds(work: Path) -> list[Files]:
    (work / "3").mkdir()
    (work / "2").mkdir()
    return [*_saved("m.h5", lambda model, path: model.save(path))(work / "3"),
            *_saved("m.h5", lambda model, path: model.save(path, dialect="keras2"))(work / "2"),
            *_real("models/keras/*.h5", "m.h5")]


def _weights_seeds(name: str) -> Callable[[Path], list[Files]]:
    return lambda work: _saved(name, lambda model, path: model.save_weights(path))(work)[:1]


def _onnx_seeds(work: Path) -> list[Files]:
    found = []
    for number, model in enumerate((_small_model(), _varied_model())):
        for data_format in ("channels_last", "channels_first"):
            path = work / f"{number}{data_format}.onnx"
            model.save(path, data_format=data_format)
            found.append({"m.onnx": path.read_bytes()})
    return found


# --- data sets ---


def _images(channels: int = 1) -> datasets.ImageSet:
    random = np.random.default_rng(3)
    return datasets.ImageSet(random.integers(0, 256, (5, 6, 6, channels), np.uint8), [0, 1, 2, 1, 0], ["a", "b", "c"])


def _written(name: str, format: str, channels: tuple[int, ...] = (1,)) -> Callable[[Path], list[Files]]:
    """Seeds: data sets of ours."""

    def seeds(work: Path) -> list[Files]:
        found = []
        for count in channels:
            folder = work / str(count)
            datasets.write(_images(count), folder / name, format)
            files = _folder_files(folder / name if (folder / name).is_dir() else folder)
            found.append({key: _inflated(data) for key, data in files.items()})
        return found

    return seeds


def _inflated(data: bytes) -> bytes:
    import gzip

    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def _read_set(format: str, **options: Any) -> Callable[[Path], Any]:
    return lambda folder: datasets.read(folder, format, **options)


def _npy_seeds(work: Path) -> list[Files]:
    random = np.random.default_rng(4)
    found: list[Files] = []
    for shape in ((3, 784), (2, 28, 28)):
        np.save(work / "cat.npy", random.integers(0, 256, shape, np.uint8))
        found.append({"cat.npy": (work / "cat.npy").read_bytes()})
    return found


def _ndjson_seeds(work: Path) -> list[Files]:
    drawings = [{"word": "cat", "countrycode": "DE", "recognized": True, "key_id": str(number),
                 "drawing": [[[10, 100, 255], [0, 50, number]], [[3], [4]]]} for number in range(3)]
    timed = [{**drawing, "drawing": [[*map(float, xs)] for xs in ([10, 900, 255], [0, 50, 7], [0, 30, 60])]}
             for drawing in drawings]
    timed = [{**drawing, "drawing": [drawing["drawing"]]} for drawing in timed]
    return [{"cat.ndjson": "\n".join(map(json.dumps, lines)).encode()} for lines in (drawings, timed)]


def _use_images(images: Any) -> None:
    """A data set is what it says: as many labels as images, each of a class."""
    assert images.images.dtype == np.uint8
    assert images.images.ndim == 4
    assert len(images.labels) == len(images.images)
    assert 0 <= images.labels.min()
    assert images.labels.max() < len(images.class_names)
    int(images.images.sum())


def _picture_seeds(format: str) -> Callable[[Path], list[Files]]:
    def seeds(work: Path) -> list[Files]:
        from PIL import Image

        found: list[Files] = []
        for mode in ("L", "RGB", "P", "RGBA", "1", "I;16"):
            path = work / f"x.{format}"
            pixels = np.random.default_rng(5).integers(0, 256, (9, 7, 4), np.uint8)
            try:
                Image.fromarray(pixels, "RGBA").convert("RGB").convert(mode).save(path)
            except (OSError, ValueError, KeyError):
                continue
            found.append({path.name: path.read_bytes()})
        return found

    return seeds


def _read_picture(folder: Path) -> Any:
    return [read_picture(str(path)) for path in sorted(folder.iterdir())]


def _use_nothing(result: Any) -> None:
    pass


def _backup_seeds(work: Path) -> list[Files]:
    files = _saved("model", lambda model, path: model.save(path))(work)[0]
    index = json.dumps([{"folder": "a", "epoch": 1}]).encode()
    return [{"training.json": index, **{name.replace("model/", "a/", 1): data for name, data in files.items()}}]


def _restore(folder: Path) -> Any:
    model = _LOADED.setdefault("backup", _small_model())
    callback = BackupAndRestore(folder)
    callback.set_model(model)
    callback.on_train_begin()
    return model


_TARGETS = {
    "tfjs": Target(load_model, _tfjs_seeds, _predict),
    "remote": Target(read_remote, lambda work: remote_seeds(_tfjs_seeds(work)), _predict),
    "keras": Target(lambda folder: load_model(folder / "m.keras"), lambda work: [
        *_saved("m.keras", lambda model, path: model.save(path))(work), *_real("models/keras/*.keras", "m.keras")],
        _predict),
    "h5": Target(lambda folder: load_model(folder / "m.h5"), _h5_seeds, _predict),
    "weights_h5": Target(lambda folder: _load_into(folder / "m.weights.h5"), _weights_seeds("m.weights.h5"), _predict),
    "npz": Target(lambda folder: _load_into(folder / "m.npz"), _weights_seeds("m.npz"), _predict),
    "safetensors": Target(lambda folder: _load_into(folder / "m.safetensors"), _weights_seeds("m.safetensors"),
                          _predict),
    "onnx": Target(lambda folder: load_model(folder / "m.onnx"), _onnx_seeds, _predict),
    "backup": Target(_restore, _backup_seeds, _predict),
    "sprite": Target(lambda folder: datasets.read(folder, "sprite", image_shape=(6, 6, 1)),
                     _written("s", "sprite"), _use_images),
    "sprite_rgb": Target(lambda folder: datasets.Sprite(folder, image_shape=(6, 6, 3)), _written("s", "sprite", (3, 4)),
                         _use_nothing),
    "idx": Target(_read_set("idx"), lambda work: [
        *_written("images-idx3-ubyte", "idx")(work / "plain"), *_written("images-idx3-ubyte.gz", "idx")(work / "gz")],
        _use_images),
    "npy": Target(_read_set("quickdraw"), _npy_seeds, _use_images),
    "ndjson": Target(_read_set("quickdraw"), _ndjson_seeds, _use_images),
    "csv": Target(_read_set("csv"), _written("c", "csv", (1, 3)), _use_images),
    "folders": Target(_read_set("folders", image_size=4), _written("f", "folders"), _use_images),
    **{f"picture_{format}": Target(_read_picture, _picture_seeds(format), _use_nothing)
       for format in ("png", "jpg", "gif", "bmp", "ppm", "tiff", "webp")},
}
# What needs a package that is not there is left out.
_NEEDS = {"onnx": "onnx", "safetensors": "safetensors"}
TARGETS = {name: target for name, target in _TARGETS.items()
           if name not in _NEEDS or importlib.util.find_spec(_NEEDS[name]) is not None}


def seeds_of(name: str) -> list[Files]:
    """The inputs that a target begins from."""
    with tempfile.TemporaryDirectory() as work, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a format cannot express
        found = TARGETS[name].seeds(Path(work))
    assert found, f"{name}: no seeds for {tinyconv.__version__}"
    return found
