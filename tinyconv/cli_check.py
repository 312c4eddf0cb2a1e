"""Whether a written model computes in another runtime what it computes here: `tinyconv convert --check`.

A runtime that is not installed is no error: the file is then read here again.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv.layers import Rescaling
from tinyconv.models import Sequential, load_model

__all__ = ["LIMIT", "check"]

# Largest difference, as a share of the largest output, that counts as the same.
LIMIT = 1e-4
_SAMPLES = 16
_BACKENDS = ("tensorflow", "jax", "torch")  # those of Keras, its own choice first
_SECONDS = 300
_NO_TFJS = 3
_NODE = """
let tf;
try { tf = require('@tensorflow/tfjs'); } catch (error) { process.exit(3); }
const fs = require('fs'), path = require('path');
const {folder, x, shape, y} = JSON.parse(process.argv[1]);
const read = name => { const b = fs.readFileSync(name); return b.buffer.slice(b.byteOffset, b.byteOffset + b.length); };
const load = async () => tf.io.getModelArtifactsForJSON(
    JSON.parse(fs.readFileSync(path.join(folder, 'model.json'), 'utf8')),
    async groups => [groups.flatMap(group => group.weights), tf.io.concatenateArrayBuffers(
        groups.flatMap(group => group.paths).map(name => read(path.join(folder, name))))]);
(async () => {
  await tf.setBackend('cpu');
  const model = await tf.loadLayersModel({load});
  fs.writeFileSync(y, Buffer.from((await model.predict(tf.tensor(new Float32Array(read(x)), shape)).data()).buffer));
  console.log(tf.version.tfjs);
})().catch(error => { console.error(error.message); process.exit(1); });
"""


def check(model: Sequential, path: str | os.PathLike[str], quantization: str | None = None,
          data_format: str | None = None) -> None:
    """Prints how far the outputs of a file are from those of the model that it was written from.

    Args:
        model: The model.
        path: The file or folder.
        quantization: How its weights were quantized: the other runtime is then compared with what tinyconv
            makes of the same file, and what quantizing changed is a line of its own.
        data_format: How images enter and leave the file's model. Defaults to None: as the model's.

    Raises:
        ValueError: If the runtime does not take the file, or a difference is more than `LIMIT` of the
            largest output.
    """
    target = Path(path)
    x = _inputs(model)
    expected = model.predict(x, verbose=0)
    if quantization is not None:
        exact, expected = expected, load_model(target).predict(x, verbose=0)
        print(f"Weights as {quantization}: {_describe(*_differences(exact, expected))}")
    if data_format == "channels_first":
        name, found = _run(model, target, np.ascontiguousarray(np.moveaxis(x, -1, 1)))
        found = np.moveaxis(found, 1, -1)
    else:
        name, found = _run(model, target, x)
    largest, relative = _differences(expected, found)
    print(f"Checked with {name}, {len(x)} random inputs: {_describe(largest, relative)}")
    if not relative <= LIMIT:
        raise ValueError(f"--check expected a relative difference of at most {LIMIT:g}. Received: {relative:.2g}")


def _inputs(model: Sequential) -> np.ndarray:
    """Numbers from 0 to 1, or what a `Rescaling` in front makes numbers of that size."""
    first = model.layers[0]
    size = 1 / abs(first.scale) if isinstance(first, Rescaling) and first.scale else 1
    shape = tuple(length or 1 for length in model.input_shape[1:])
    return (size * np.random.default_rng(0).random((_SAMPLES, *shape))).astype(np.float32)


def _differences(expected: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """The largest difference, and what share of the largest output it is."""
    if expected.shape != found.shape:
        raise ValueError(f"--check expected outputs of shape {expected.shape}. Received: {found.shape}")
    largest = float(np.abs(expected.astype(np.float64) - found).max())
    return largest, largest / (float(np.abs(expected).max()) or 1.0)


def _describe(largest: float, relative: float) -> str:
    return f"largest difference {largest:.2g}, relative {relative:.2g}"


def _run(model: Sequential, target: Path, x: np.ndarray) -> tuple[str, np.ndarray]:
    """The name of the runtime that could be had for a file, and its outputs."""
    runtimes = {".keras": _keras, ".h5": _keras, ".hdf5": _keras, ".onnx": _onnx, ".safetensors": _torch}
    runtime = runtimes.get(target.suffix.lower(), _tfjs if target.is_dir() or target.name == "model.json" else None)
    if runtime is not None:
        try:
            result = runtime(model, target, x)
        except Exception as error:  # noqa: BLE001 (whatever another program raises)
            text = " ".join(str(error).split())[:300] or type(error).__name__
            raise ValueError(f"--check expected {runtime.__name__[1:]} to take {target}. Received: {text}") from None
        if result is not None:
            return result
    if target.name.endswith((".npz", ".safetensors", ".weights.h5")):
        again = Sequential.from_config(model.get_config())
        again.load_weights(target)
    else:
        again = load_model(target)
    return "tinyconv, which read it again", again.predict(x, verbose=0)


def _keras(model: Sequential, target: Path, x: np.ndarray) -> tuple[str, np.ndarray] | None:
    if find_spec("keras") is None:
        return None
    if "KERAS_BACKEND" not in os.environ:
        backend = next((name for name in _BACKENDS if find_spec(name) is not None), None)
        if backend is None:
            return None
        os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        keras: Any = import_module("keras")
        if target.name.endswith(".weights.h5"):
            whole = Path(folder, "model.keras")
            model.save(whole)
            loaded = keras.models.load_model(whole, compile=False)
            loaded.load_weights(target)
        else:
            loaded = keras.models.load_model(target, compile=False)
        y = keras.ops.convert_to_numpy(loaded(x, training=False))
    return f"Keras {keras.__version__} on {keras.backend.backend()}", y


def _onnx(model: Sequential, target: Path, x: np.ndarray) -> tuple[str, np.ndarray] | None:
    if find_spec("onnxruntime") is None:
        return None
    runtime: Any = import_module("onnxruntime")
    session = runtime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    return f"ONNX Runtime {runtime.__version__}", session.run(None, {session.get_inputs()[0].name: x})[0]


def _torch(model: Sequential, target: Path, x: np.ndarray) -> tuple[str, np.ndarray] | None:
    from tinyconv.formats.torch.network import data_format_of, torch_modules

    if find_spec("torch") is None:
        return None
    try:
        modules = torch_modules(model)
    except ValueError:  # the file is not laid out for PyTorch
        return None
    torch: Any = import_module("torch")
    load: Any = import_module("safetensors.torch")

    class Rescaled(torch.nn.Module):
        def __init__(self, scale: float, offset: float) -> None:
            super().__init__()
            self.scale, self.offset = scale, offset

        def forward(self, values: Any) -> Any:
            return values * self.scale + self.offset

    network = torch.nn.Sequential(*(Rescaled(**settings) if name == "Rescaling" else getattr(torch.nn, name)(**settings)
                                    for name, settings in modules)).eval()
    network.load_state_dict(load.load_file(target))
    first = data_format_of(model) == "channels_first"
    with torch.no_grad():
        y = network(torch.from_numpy(x if first else np.ascontiguousarray(np.moveaxis(x, -1, 1)))).numpy()
    return f"PyTorch {torch.__version__}", y if first else np.moveaxis(y, 1, -1)


def _tfjs(model: Sequential, target: Path, x: np.ndarray) -> tuple[str, np.ndarray] | None:
    """In Node; the package is looked for as `require` does, from the current folder and in NODE_PATH."""
    import subprocess

    node = shutil.which("node")
    if node is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        given, result = Path(folder, "x"), Path(folder, "y")
        given.write_bytes(x.astype("<f4").tobytes())
        request = {"folder": str((target if target.is_dir() else target.parent).resolve()), "x": str(given),
                   "shape": x.shape, "y": str(result)}
        done = subprocess.run([node, "-e", _NODE, json.dumps(request)], capture_output=True, text=True,
                              timeout=_SECONDS, check=False)
        if done.returncode == _NO_TFJS:
            return None
        if done.returncode:
            raise ValueError(done.stderr)
        y = np.frombuffer(result.read_bytes(), "<f4").reshape(len(x), *model.layers[-1].output_shape)
    return f"TensorFlow.js {done.stdout.split()[-1]}", y
