"""A model's folder: replaced whole or not at all, and nothing else in it is touched."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from formats_cases import (
    read_description,
    same_bits,
    small_model,
    write_description,
)

from tinyconv import Sequential, layers, load_model


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Sequential, Path, dict]:
    """A model, the folder it was saved to, and the description there."""
    model = small_model()
    model.save(tmp_path / "model")
    return model, tmp_path / "model", read_description(tmp_path / "model")


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
        assert ("weights.bin" in names) == (seed == 0)  # a name never returns with another content
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


def test_paths_of_folder_and_description(saved: tuple, tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    model, folder, _ = saved
    assert same_bits(model, load_model(folder / "model.json"))
    assert same_bits(model, load_model(str(folder)))
    (folder / "model.json").rename(folder / "other.json")
    assert same_bits(model, load_model(folder / "other.json"))
    model.save(tmp_path / "deep" / "er" / "model.json")
    assert same_bits(model, load_model(tmp_path / "deep" / "er"))
    monkeypatch.chdir(tmp_path / "deep")
    assert same_bits(model, load_model("er"))


@pytest.mark.parametrize("name", ["model.npz", "model.pb", "file"])
def test_save_refuses_names_of_files(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="or the name of a folder"):
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
        # A link that fails is the ordinary case of a name that is taken: be interrupted there instead.
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
    save(-1.0)
    assert float(load_model(folder).get_weights()[0][0, 0]) == -1.0
    print("all whole")
    """
    assert "all whole" in run_python(code, str(tmp_path / "model")).stdout


def test_load_while_another_thread_saves(tmp_path: Path) -> None:
    model = Sequential([layers.Dense(50, input_shape=(50,))])

    def save(value: int) -> None:
        model.set_weights([np.full(array.shape, value, np.float32) for array in model.get_weights()])
        model.save(tmp_path)

    save(0)
    thread = threading.Thread(target=lambda: [save(value) for value in range(60)])
    thread.start()
    seen = []
    while thread.is_alive() or not seen:
        arrays = load_model(tmp_path).get_weights()
        seen.append({value for array in arrays for value in array.ravel().tolist()})
    thread.join()
    assert all(len(values) == 1 for values in seen)
    assert load_model(tmp_path).get_weights()[0][0, 0] == 59
