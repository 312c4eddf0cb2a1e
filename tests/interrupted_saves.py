"""Kills processes that save, at every call of the system and at random moments: the old one or the new one is there.

    python tests/interrupted_saves.py FOLDER --kills 200 [--formats NAME...]

`test_interrupted_saves.py` does it with fewer kills.  A child saves two models, or two data
sets, in turn to one place; whenever it is killed, what is there loads and is one of the
two.  In the end the next save has removed whatever the killed ones left.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinyconv import Sequential, datasets, layers, load_model
from tinyconv.callbacks import BackupAndRestore

# What changes a folder; a save is killed before each of its calls of these.
_CALLS = ("fsync", "link", "mkdir", "open", "rename", "replace", "rmdir", "unlink")


class Case(NamedTuple):
    """A format: how one of two things is saved to a path, and which of them is read there."""

    save: Callable[[int, Path], Any]
    find: Callable[[Path], int]
    path: str


def _model(value: int) -> Sequential:
    model = _MODELS.setdefault(value, Sequential([layers.Dense(150, name="dense", input_shape=(150,))]))
    model.set_weights([np.full(array.shape, value, np.float32) for array in model.get_weights()])
    return model


_MODELS: dict[int, Sequential] = {}


def _value(model: Sequential) -> int:
    values = {float(value) for array in model.get_weights() for value in np.unique(array)}
    assert len(values) == 1, values
    return int(values.pop())


def _saved_model(path: str, save: str = "save") -> Case:
    def find(place: Path) -> int:
        if save == "save":
            return _value(load_model(place))
        model = _model(7)
        model.load_weights(place)
        return _value(model)

    return Case(lambda value, place: getattr(_model(value), save)(place), find, path)


def _find_bytes(place: Path) -> int:
    """Of a format that is not read here: the file has the very bytes of one of the two."""
    for value in (1, 2):
        whole = place.with_name(f"whole-{value}{place.suffix}")
        if not whole.exists():
            _model(value).save(whole)
        if whole.read_bytes() == place.read_bytes():
            return value
    raise AssertionError(f"{place} is neither")


def _images(value: int) -> datasets.ImageSet:
    """Of both things other images, labels and names, all of the same size."""
    images = np.full((60, 28, 28), value, np.uint8)
    labels = (np.arange(60) + value) % 3
    return datasets.ImageSet(images, labels, [f"{name}{value}" for name in "abc"], num_train=50)


def _find_images(place: Path, format: str) -> int:
    images = datasets.read(place, format)
    values = {int(value) for value in np.unique(images.images)}
    assert len(values) == 1, values
    value = values.pop()
    expected = _images(value)
    assert images.class_names == expected.class_names, (value, images.class_names)
    order = np.argsort(expected.labels, kind="stable") if format == "folders" else np.arange(60)
    assert (images.labels == expected.labels[order]).all(), value
    return value


def _data_set(format: str) -> Case:
    return Case(lambda value, place: datasets.write(_images(value), place, format),
                lambda place: _find_images(place, format), f"data of {format[:2]}")


def _save_bitmaps(value: int, place: Path) -> None:
    """Quick, Draw! files are a class each: of both things the same classes."""
    images = _images(value)
    datasets.write(datasets.ImageSet(images.images, images.labels, ["a", "b", "c"]), place, "quickdraw")


def _find_bitmaps(place: Path) -> int:
    images = datasets.read(place, "quickdraw")
    values = {int(value) for value in np.unique(images.images)}
    assert len(values) == 1, values
    assert images.counts().tolist() == [20, 20, 20]
    return values.pop()


def _backup(value: int, place: Path) -> None:
    callback = BackupAndRestore(place)
    model = _model(value)
    model.compile("sgd", "mse")
    callback.set_model(model)
    callback._kept = callback._read_index()
    callback._epoch = value
    callback._save()


def _find_backup(place: Path) -> int:
    model = _model(7)
    model.compile("sgd", "mse")
    callback = BackupAndRestore(place)
    callback.set_model(model)
    callback.on_train_begin()
    assert _value(model) == model._initial_epoch
    return _value(model)


CASES = {
    "tfjs": _saved_model("model"), "keras": _saved_model("m.keras"), "h5": _saved_model("m.h5"),
    "weights_h5": _saved_model("m.weights.h5", "save_weights"), "npz": _saved_model("m.npz", "save_weights"),
    "safetensors": _saved_model("m.safetensors", "save_weights"),
    "onnx": Case(lambda value, place: _model(value).save(place), _find_bytes, "m.onnx"),
    "backup": Case(_backup, _find_backup, "backup"),
    "sprite": _data_set("sprite"), "idx": _data_set("idx"), "quickdraw": Case(_save_bitmaps, _find_bitmaps, "bitmaps"),
}


# What is only written where nothing is.
NEW_FOLDERS = ("csv", "folders")


def _child(work: Callable[[], None]) -> int:
    """Runs something in a process of its own; returns its number."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    except BaseException as error:  # noqa: BLE001 - a child must not go on as its parent
        print(f"child: {error!r}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def _die_at(count: int, save: Callable[[], None]) -> None:
    """Saves, and kills itself before the call number `count` of those that change a folder."""
    left = count

    def dying(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **options)
        return call

    for name in _CALLS:
        setattr(os, name, dying(getattr(os, name)))
    save()


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def _age(folder: Path) -> None:
    """Makes what is there as old as if some time had passed: a temporary file of this moment is never removed."""
    for path in folder.rglob("*"):
        if path.name.startswith("."):
            os.utime(path, (0, time.time() - 10))


def check_every_call(case: Case, folder: Path) -> int:
    """Kills a save before each of its calls; returns how many there were."""
    place = folder / case.path
    case.save(1, place)
    count = 0
    while True:
        count += 1
        old = case.find(place)
        new = 3 - old
        child = _child(partial(_die_at, count, partial(case.save, new, place)))
        if not os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            assert case.find(place) == new
            return count - 1
        assert case.find(place) in (old, new), count
        _age(folder)


def check_random_moments(case: Case, folder: Path, kills: int, seed: int = 1) -> None:
    """Kills saves that follow each other, at random moments; then the next one cleans up."""
    source = random.Random(seed)
    place = folder / case.path
    began = time.perf_counter()
    case.save(1, place)
    case.save(2, place)
    assert case.find(place) == 2
    clean = len(_names(folder))
    duration = (time.perf_counter() - began) / 2

    def save_in_turn() -> None:
        value = 3 - case.find(place)
        while True:
            case.save(value, place)
            value = 3 - value

    for _ in range(kills):
        child = _child(save_in_turn)
        time.sleep(source.uniform(0, 4 * duration))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert case.find(place) in (1, 2)
    _age(folder)
    for value in (1, 2, 1):
        case.save(value, place)
        assert case.find(place) == value
    names = _names(folder)
    assert len(names) == clean, names


def check_new_folders(format: str, folder: Path, kills: int, seed: int = 1) -> None:
    """Kills what writes a new folder, before each of its calls and at random moments: it is whole, or not there."""
    source = random.Random(seed)
    place = folder / format
    began = time.perf_counter()
    datasets.write(_images(1), place, format)
    duration = time.perf_counter() - began
    for trial in range(2 * kills):
        shutil.rmtree(place, ignore_errors=True)
        write = partial(datasets.write, _images(2), place, format)
        if trial < kills:
            child = _child(partial(_die_at, trial + 1, write))
        else:
            child = _child(write)
            time.sleep(source.uniform(0, 1.5 * duration))
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert not place.exists() or _find_images(place, format) == 2, trial
        _age(folder)
    shutil.rmtree(place, ignore_errors=True)
    datasets.write(_images(1), place, format)
    assert [path.name for path in folder.iterdir()] == [format]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--formats", nargs="*", default=[*CASES, *NEW_FOLDERS])
    arguments = parser.parse_args()
    for name in arguments.formats:
        if name in NEW_FOLDERS:
            (arguments.folder / name).mkdir(parents=True)
            check_new_folders(name, arguments.folder / name, arguments.kills)
            print(f"{name}: killed at {2 * arguments.kills} moments of writing a new folder", flush=True)
            continue
        for part in ("calls", "moments"):
            (arguments.folder / name / part).mkdir(parents=True)
        calls = check_every_call(CASES[name], arguments.folder / name / "calls")
        check_random_moments(CASES[name], arguments.folder / name / "moments", arguments.kills)
        print(f"{name}: killed before each of {calls} calls, and at {arguments.kills} random moments", flush=True)


if __name__ == "__main__":
    main()
