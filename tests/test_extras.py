"""Without the extras: what needs none works, and what needs one says in one line what to install."""

from __future__ import annotations

import io
import sys
import tomllib
from pathlib import Path

import pytest

from tinyconv import progress

ROOT = Path(__file__).resolve().parent.parent
# What each extra is for, for users; the others are for who works on the package.
USES = {
    "keras": [
        "model.save('m.keras')", "model.save('m.h5')", "model.save('m.h5', dialect='keras2')",
        "model.save_weights('w.weights.h5')", "model.load_weights('hdf5.weights.h5')", "model.load_weights('hdf5.h5')",
        "model.load_weights('zip.keras')", "tinyconv.load_model('hdf5.h5')", "tinyconv.load_model('zip.keras')",
        "tinyconv.load_model('hdf5')", "tinyconv.load_model('zip')",
        "checkpoint('m.keras')", "checkpoint('w.weights.h5', save_weights_only=True)",
    ],
    "onnx": ["model.save('m.onnx')", "tinyconv.load_model('any.onnx')"],
    "safetensors": [
        "model.save_weights('w.safetensors')", "model.load_weights('any.safetensors')",
        "checkpoint('w.safetensors', save_weights_only=True)",
    ],
    "sklearn": ["import tinyconv.sklearn", "from tinyconv.sklearn import Classifier"],
    "tensorboard": ["tinyconv.callbacks.TensorBoard('logs')"],
    "progress": [],  # there are lines instead of bars
}
HIDDEN = ("h5py", "jax", "keras", "onnx", "onnxruntime", "safetensors", "scipy", "sklearn", "tensorboard", "tensorflow",
          "torch", "tqdm")
START = f"""
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HIDDEN}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hidden())
import numpy as np
import tinyconv
from tinyconv import layers

model = tinyconv.Sequential([layers.Input((6, 6, 1)), layers.Conv2D(2, 3, activation="relu"), layers.Flatten(),
                             layers.Dense(3, activation="softmax")], seed=1)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
x = np.random.default_rng(0).random((20, 6, 6, 1)).astype(np.float32)
y = np.arange(20) // 7

def checkpoint(*arguments, **settings):
    callback = tinyconv.callbacks.ModelCheckpoint(*arguments, **settings)
    model.fit(x, y, verbose=0, callbacks=[callback])
"""


def test_every_extra_is_here():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert USES.keys() == extras.keys() - {"bench", "fuzz", "parity", "test"}


def test_without_extras_models_train_and_are_saved_for_tensorflow_js(run_python, tmp_path):
    code = START + """
import importlib, os, pkgutil
os.chdir(sys.argv[1])
for module in pkgutil.walk_packages(tinyconv.__path__, "tinyconv."):
    if module.name not in ("tinyconv.sklearn", "tinyconv.__main__"):
        importlib.import_module(module.name)
history = model.fit(x, y, epochs=2, batch_size=5)
model.save("model")
again = tinyconv.load_model("model")
assert (again.predict(x) == model.predict(x)).all()
again.fit(x, y, verbose=0)
model.save_weights("w.npz")
model.load_weights("w.npz")
tinyconv.show_config()
print(sorted(set(sys.modules) & set(sys.argv[2:])))
"""
    result = run_python(code, str(tmp_path), *HIDDEN)
    assert result.stdout.splitlines()[-1] == "[]"
    assert "Epoch 2/2" in result.stdout
    assert result.stderr == ""


def test_every_use_of_a_missing_extra_says_what_to_install(run_python, tmp_path):
    (tmp_path / "zip.keras").write_bytes(b"PK\3\4")
    (tmp_path / "zip").write_bytes(b"PK\3\4")
    for name in ("hdf5.weights.h5", "hdf5.h5", "hdf5"):
        (tmp_path / name).write_bytes(b"\x89HDF\r\n\x1a\n")
    for name in ("any.safetensors", "any.onnx"):
        (tmp_path / name).write_bytes(bytes(16))
    code = START + """
import os
os.chdir(sys.argv[1])
before = sorted(os.listdir())
for use in sys.argv[2:]:
    try:
        exec(use)
    except ImportError as error:
        print(error)
    else:
        print("no error:", use)
assert sorted(os.listdir()) == before
"""
    pairs = [(extra, use) for extra, uses in USES.items() for use in uses]
    lines = run_python(code, str(tmp_path), *(use for _, use in pairs)).stdout.splitlines()
    assert len(lines) == len(pairs)  # one line each
    for (extra, use), line in zip(pairs, lines, strict=True):
        assert line.endswith(f": pip install 'tinyconv[{extra}]'"), (use, line)
        assert " need " in line


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_is_told_once_that_there_are_no_bars(terminal, monkeypatch):
    error = io.StringIO()
    monkeypatch.setattr(error, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", error)
    monkeypatch.setattr(progress, "_told", False)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert progress.make_bar(total=3) is None
    assert progress.make_bar(total=3) is None
    line = "tinyconv: Progress bars need tqdm: pip install 'tinyconv[progress]'\n"
    assert error.getvalue() == (line if terminal else "")
