"""What is written for TensorFlow.js, in the real TensorFlow.js: one process of Node for all cases.

npm installs the package in a scratch folder; TINYCONV_TFJS names a node_modules folder that has it already.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyconv import Sequential, image_input, initializers, layers, load_model, optimizers
from tinyconv.formats import keras2, training

pytestmark = pytest.mark.once

PACKAGE = "@tensorflow/tfjs@4.22.0"
# Seconds that a worker waits for another one which installs and runs everything.
PATIENCE = 300.0
STEPS = 3
FIRST: dict[str, Any] = {"data_format": "channels_first"}

# --- cases: layers ---


def image_layers(shape: tuple, options: dict) -> dict[str, tuple]:
    """Layers of images in one of the two orders."""
    return {name: (shape, [layer]) for name, layer in {
        "conv": layers.Conv2D(4, 3, strides=2, padding="same", **options),
        "conv-valid": layers.Conv2D(4, (2, 3), strides=(2, 1), use_bias=False, **options),
        "conv-dilated": layers.Conv2D(4, 3, dilation_rate=(2, 1), **options),
        "depthwise": layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2, **options),
        "transpose": layers.Conv2DTranspose(4, 3, strides=2, padding="same", **options),
        "transpose-valid": layers.Conv2DTranspose(4, 2, strides=(3, 2), **options),
        "max": layers.MaxPooling2D(3, 2, padding="same", **options),
        "average": layers.AveragePooling2D((3, 2), (2, 1), padding="same", **options),
        "average-valid": layers.AveragePooling2D(2, 1, **options),
        "global-max": layers.GlobalMaxPooling2D(**options),
        "global-average": layers.GlobalAveragePooling2D(**options),
        "upsample": layers.UpSampling2D((2, 3), **options),
        "pad": layers.ZeroPadding2D(((1, 2), (0, 3)), **options),
        "crop": layers.Cropping2D(((1, 2), (0, 3)), **options),
        "flatten": layers.Flatten(**options),
    }.items()}


LAYERS: dict[str, tuple] = {
    **image_layers((9, 8, 3), {}),
    **{f"{name}-first": case for name, case in image_layers((3, 9, 8), FIRST).items()},
    "separable": ((9, 8, 3), [layers.SeparableConv2D(4, 3, strides=2, padding="same", depth_multiplier=2)]),
    "separable-dilated": ((9, 8, 3), [layers.SeparableConv2D(4, 3, dilation_rate=2, activation="relu")]),
    "conv1d": ((9, 3), [layers.Conv1D(4, 3, strides=2, padding="same")]),
    "conv1d-dilated": ((9, 3), [layers.Conv1D(4, 3, dilation_rate=2)]),
    "max1d": ((9, 3), [layers.MaxPooling1D(3, 2, padding="same")]),
    "average1d": ((9, 3), [layers.AveragePooling1D(3, 2, padding="same")]),
    "global-max1d": ((9, 3), [layers.GlobalMaxPooling1D()]),
    "global-average1d": ((9, 3), [layers.GlobalAveragePooling1D()]),
    "dense": ((5,), [layers.Dense(3)]),
    "dense-on-images": ((4, 3, 5), [layers.Dense(3, use_bias=False)]),
    "normalize": ((4, 3, 5), [layers.BatchNormalization()]),
    "normalize-unscaled": ((5,), [layers.BatchNormalization(scale=False, epsilon=1e-5)]),
    "normalize-uncentred": ((4, 5), [layers.BatchNormalization(center=False)]),
    "prelu": ((4, 3, 5), [layers.PReLU("random_normal", shared_axes=[1, 2])]),
    "prelu-unshared": ((4, 3), [layers.PReLU()]),
    "relu": ((4, 3), [layers.ReLU(), layers.ReLU(max_value=0.7)]),
    "leaky-relu": ((4, 3), [layers.LeakyReLU(0.2)]),
    "elu": ((4, 3), [layers.ELU()]),
    "softmax": ((4, 3), [layers.Softmax(), layers.Softmax(axis=2)]),
    "permute": ((4, 3, 5), [layers.Permute((3, 1, 2))]),
    "repeat": ((5,), [layers.RepeatVector(3)]),
    "reshape": ((4, 3, 5), [layers.Reshape((-1, 6))]),
    "rescale": ((4, 3), [layers.Rescaling(1 / 3, offset=-0.7)]),
    "input": ((4, 3), [layers.Activation("tanh", input_shape=(4, 3))]),
    "noise": ((4, 3), [layers.Dropout(0.3), layers.SpatialDropout1D(0.3), layers.GaussianDropout(0.3),
                       layers.GaussianNoise(0.3), layers.AlphaDropout(0.3)]),
    "initializers": ((9, 8, 3), [
        layers.Conv2D(5, 3, kernel_initializer=kind, bias_initializer="random_normal", kernel_regularizer="l1_l2",
                      padding="same")
        for kind in ("lecun_normal", "lecun_uniform", "he_normal", "he_uniform", "glorot_normal", "truncated_normal",
                     "orthogonal", initializers.VarianceScaling(1.5, "fan_avg", "untruncated_normal"))]),
    "constraints": ((9, 8, 3), [
        layers.Conv2D(5, 3, kernel_constraint=constraint, bias_constraint="non_neg", padding="same")
        for constraint in ("max_norm", "non_neg", "unit_norm", "min_max_norm")]),
}
ACTIVATIONS = ("elu", "gelu", "linear", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu",
               "softmax", "softplus", "softsign", "tanh")


def stacked(case: tuple) -> Sequential:
    """A model of a case's layers, with weights of both signs that are none of the initializers'."""
    shape, stack = case
    model = Sequential([layers.Input(shape), *[type(layer).from_config(layer.get_config()) for layer in stack]], seed=3)
    random = np.random.default_rng(5)
    model.set_weights([random.uniform(0.1, 1, weight.shape) if "variance" in weight.name
                       else random.normal(size=weight.shape) / 2 for weight in model.weights])
    for weight in model.weights:  # TensorFlow.js holds weights to their constraints when it loads them
        if weight.constraint is not None:
            weight.value[...] = weight.constraint(weight.value)
    return model


# --- cases: training ---

OPTIMIZERS: dict[str, tuple[str, Callable]] = {
    "sgd": ("SGD", lambda: optimizers.SGD(0.1)),
    "momentum": ("Momentum", lambda: optimizers.SGD(0.05, momentum=0.9)),
    "nesterov": ("Momentum", lambda: optimizers.SGD(0.05, momentum=0.8, nesterov=True)),
    "adam": ("Adam", lambda: optimizers.Adam(0.01, beta_2=0.99)),
    "rmsprop": ("RMSProp", lambda: optimizers.RMSprop(0.01, rho=0.8)),
    "rmsprop-momentum": ("RMSProp", lambda: optimizers.RMSprop(0.01, momentum=0.5)),
    "adagrad": ("Adagrad", lambda: optimizers.Adagrad(0.05, initial_accumulator_value=0.2)),
}
# The activation before a loss, and what its labels are.
LOSSES = {
    "binary_crossentropy": ("sigmoid", "bits"), "categorical_crossentropy": ("softmax", "one-hot"),
    "categorical_hinge": ("tanh", "one-hot"), "cosine_similarity": ("tanh", "numbers"), "hinge": ("tanh", "signs"),
    "kl_divergence": ("softmax", "shares"), "log_cosh": ("linear", "numbers"), "mean_absolute_error": ("linear", "numbers"),
    "mean_absolute_percentage_error": ("linear", "numbers"), "mean_squared_error": ("linear", "numbers"),
    "mean_squared_logarithmic_error": ("softplus", "numbers"), "poisson": ("softplus", "numbers"),
    "sparse_categorical_crossentropy": ("softmax", "classes"), "squared_hinge": ("tanh", "signs"),
}
# By loss and number of outputs.
_BINARY = ("acc", "accuracy", "binary_accuracy", "ce", "crossentropy", "mae", "mape", "mse")
METRICS = {
    ("binary_crossentropy", 1): _BINARY, ("binary_crossentropy", 4): _BINARY,
    ("categorical_crossentropy", 4): ("acc", "accuracy", "categorical_accuracy", "categorical_crossentropy", "ce",
                                      "crossentropy", "mean_absolute_error", "mean_absolute_percentage_error",
                                      "mean_squared_error"),
    ("sparse_categorical_crossentropy", 4): ("acc", "accuracy", "sparse_categorical_accuracy",
                                             "sparse_categorical_crossentropy"),
}


def labels(kind: str) -> np.ndarray:
    """12 rows of labels for 4 outputs."""
    random = np.random.default_rng(8)
    numbers = random.uniform(0.2, 1.5, (12, 4))
    return {"bits": numbers > 0.8, "one-hot": np.eye(4)[np.arange(12) % 4], "numbers": numbers,
            "signs": np.sign(numbers - 0.8), "shares": numbers / numbers.sum(1, keepdims=True),
            "classes": np.arange(12)[:, None] % 4}[kind].astype(np.float32)


def dense(loss: str, outputs: int = 4, metrics: list[str] | None = None) -> Sequential:
    model = Sequential([layers.Input((5,)), layers.Dense(6, activation="tanh"),
                        layers.Dense(outputs, activation=LOSSES[loss][0])], seed=2)
    model.compile(optimizers.SGD(0.05), loss, metrics=metrics)
    return model


IMAGES = np.random.default_rng(6).normal(size=(16, 8, 8, 1)).astype(np.float32)
CLASSES = np.eye(4, dtype=np.float32)[np.arange(16) % 4]


def convolutional(optimizer: object, *between: layers.Layer, constraint: str | None = None) -> Sequential:
    """A network that is trained a little."""
    model = Sequential([layers.Input((8, 8, 1)),
                        layers.Conv2D(4, 3, activation="relu", kernel_regularizer="l2", kernel_constraint=constraint),
                        layers.MaxPooling2D(2), *between, layers.Flatten(), layers.Dense(4, activation="softmax")], seed=4)
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy", "top_k_categorical_accuracy"])
    model.fit(IMAGES, CLASSES, batch_size=16, epochs=STEPS, verbose=0, shuffle=False)
    return model


def adamax(steps: int) -> Sequential:
    model = dense("mean_squared_error")
    model.compile(optimizers.Adamax(0.02), "mean_squared_error")
    if steps:
        model.fit(features(model), labels("numbers"), batch_size=12, epochs=steps, verbose=0, shuffle=False)
    return model


def features(model: Sequential) -> np.ndarray:
    """Inputs of a model that is not trained on IMAGES."""
    shape: Any = model.input_shape[1:]
    return np.random.default_rng(7).normal(size=(12, *shape)).astype(np.float32)


def evaluation(model: Sequential, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Loss and metrics, one behind the other."""
    values: Any = model.evaluate(x, y, verbose=0)
    return np.ravel(values)


def metric_cases() -> list[tuple[str, int, str]]:
    return [(loss, outputs, metric) for (loss, outputs), names in METRICS.items() for metric in names]


# --- one process for all ---

# Name -> the model, its inputs, its labels or None, options of `save`, entries of the job.
Case = tuple[Sequential, np.ndarray, np.ndarray | None, dict, dict]


def cases() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for name, case in LAYERS.items():
        model = stacked(case)
        found[f"layer {name}"] = model, features(model), None, {}, {}
    for name in ACTIVATIONS:
        model = stacked(((6,), [layers.Activation(name), layers.Dense(5, activation=name)]))
        found[f"activation {name}"] = model, 3 * features(model), None, {}, {}
    for name, (_, kind) in LOSSES.items():
        model = dense(name)
        found[f"loss {name}"] = model, features(model), labels(kind), {}, {"epochs": STEPS}
    for loss, outputs, metric in metric_cases():
        model = dense(loss, outputs, [metric])
        y = labels(LOSSES[loss][1])
        found[f"metric {loss} {outputs} {metric}"] = model, features(model), y if outputs > 1 else y[:, :1], {}, {}
    for name, (_, make) in OPTIMIZERS.items():
        found[f"optimizer {name}"] = convolutional(make(), constraint="max_norm"), IMAGES, CLASSES, {}, {"epochs": STEPS}
    found["adamax"] = adamax(0), features(adamax(0)), labels("numbers"), {}, {"epochs": STEPS, "save": ""}
    found["adamax trained"] = adamax(1), features(adamax(0)), None, {}, {}
    model = convolutional("adam", layers.BatchNormalization(), layers.Dropout(0.3))
    model.class_names = ["a", "b", "c", "d"]
    model.image_input = image_input.ImageInput("content")
    found["everything"] = model, IMAGES, CLASSES, {}, {"epochs": STEPS}
    for kind in ("uint8", "uint16", "float16"):
        found[f"quantized {kind}"] = model, IMAGES, None, {"quantization": kind}, {}
    found["shards"] = stacked(((9, 8, 3), [layers.Conv2D(32, 3), layers.Conv2D(16, 3)])), \
        np.ones((2, 9, 8, 3), np.float32), None, {"shard_bytes": 4096}, {}
    private = Sequential([layers.Input((3,)), layers.Activation("hard_sigmoid")])
    found["private"] = private, np.zeros((1, 3), np.float32), None, {"dialect": "tinyconv"}, {}
    return found


def real_models() -> dict[str, Path]:
    data = Path(os.environ.get("TINYCONV_DATA") or Path(__file__).parents[2] / "shared" / "data")
    folders = sorted((data / "models" / "tfjs").glob("*/model.json"))
    return {path.parent.name: path.parent for path in folders if not path.parent.name.startswith("rejected")}


def write_jobs(root: Path) -> None:
    jobs = {}

    def add(name: str, folder: Path, x: np.ndarray, y: np.ndarray | None, entries: dict) -> None:
        here = root / name
        here.mkdir(exist_ok=True)
        job: dict[str, Any] = {"folder": str(folder), "out": str(here / "out"), "save": str(here / "theirs")}
        for key, array in (("x", x), ("y", y)):
            if array is not None:
                array.astype("<f4").tofile(here / key)
                job[key] = {"file": str(here / key), "shape": array.shape}
        jobs[name] = {**job, **entries}

    for name, (model, x, y, options, entries) in cases().items():
        model.save(root / name / "ours", **options)
        add(name, root / name / "ours", x, y, entries)
    for name, folder in real_models().items():
        document = json.loads((folder / "model.json").read_text())["modelTopology"]
        config = document.get("model_config", document)["config"]
        first = (config if isinstance(config, list) else config["layers"])[0]["config"]
        shape = first["batch_input_shape"][1:]
        add(f"real {name}", folder, np.random.default_rng(2).random((3, *shape)), None, {})
    (root / "jobs.json").write_text(json.dumps(jobs))


def install(root: Path) -> Path:
    """The node_modules folder with TensorFlow.js."""
    given = os.environ.get("TINYCONV_TFJS")
    if given:
        return Path(given).resolve()
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    result = subprocess.run(
        [npm, "install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error",
         "--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=3000", "--prefix", str(root), PACKAGE],
        capture_output=True, text=True, timeout=PATIENCE, check=False)
    if result.returncode:
        reason = " ".join(result.stderr.replace("npm error", "").split())
        pytest.skip(f"npm cannot install {PACKAGE}: {reason[:150]}")
    return root / "node_modules"


def run_all(root: Path) -> None:
    modules = install(root)
    write_jobs(root)
    node = shutil.which("node")
    assert node is not None
    result = subprocess.run([node, str(Path(__file__).with_name("tfjs_peer.js")), str(root / "jobs.json"),
                             str(root / "report.new")], env={**os.environ, "NODE_PATH": str(modules)},
                            capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert result.returncode == 0, result.stderr
    (root / "report.new").rename(root / "report.json")


class Peer:
    """What TensorFlow.js made of the cases."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._report = json.loads((root / "report.json").read_text())

    def error(self, name: str) -> str:
        return self._report[name]["error"]

    def report(self, name: str) -> dict:
        assert "error" not in self._report[name], self._report[name]["error"]
        return self._report[name]

    def array(self, name: str, key: str, model: Sequential) -> np.ndarray:
        """"x", or "out", the predictions."""
        shape = model.input_shape if key == "x" else model.output_shape
        return np.fromfile(self._root / name / key, "<f4").reshape(-1, *shape[1:])

    def ours(self, name: str) -> Sequential:
        return load_model(self._root / name / "ours")

    def theirs(self, name: str) -> Sequential:
        return load_model(self._root / name / "theirs")


@pytest.fixture(scope="session")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Peer:
    """Runs TensorFlow.js once, also where several workers of pytest-xdist share the tests."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "tfjs-peer"
    try:
        root.mkdir()
    except FileExistsError:
        deadline = time.monotonic() + PATIENCE
        while not (root / "report.json").exists():
            if (root / "failed").exists():
                pytest.skip((root / "failed").read_text())
            assert time.monotonic() < deadline, "another worker does not come to an end"
            time.sleep(0.1)
        return Peer(root)
    try:
        run_all(root)
    except BaseException as error:
        (root / "failed").write_text(f"TensorFlow.js did not run: {error}")
        raise
    return Peer(root)


# --- what it made of them ---


def assert_near(theirs: np.ndarray, ours: np.ndarray, tolerance: float = 1e-5) -> None:
    assert theirs.shape == ours.shape and np.isfinite(ours).all()
    error = float(np.abs(theirs - ours).max() / np.abs(ours).max())
    assert error <= tolerance


def assert_same_bits(theirs: Sequential, ours: Sequential) -> None:
    for other, own in zip(theirs.get_weights(), ours.get_weights(), strict=True):
        assert other.shape == own.shape and np.array_equal(other.view(np.int32), own.view(np.int32))


@pytest.mark.parametrize("name", [*(f"layer {name}" for name in LAYERS), *(f"activation {name}" for name in ACTIVATIONS),
                                  "shards", "quantized uint8", "quantized uint16", "quantized float16"])
def test_predictions_agree_and_weights_come_back(name: str, peer: Peer) -> None:
    peer.report(name)
    ours, theirs = peer.ours(name), peer.theirs(name)
    assert_near(peer.array(name, "out", ours), ours.predict(peer.array(name, "x", ours), verbose=0))
    if name != "layer constraints":  # which round once more there
        assert_same_bits(theirs, ours)  # quantized ones as they were unpacked on either side
    assert str(theirs.program.ops) == str(ours.program.ops)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_there_and_here(name: str, peer: Peer) -> None:
    case, (class_name, _) = f"optimizer {name}", OPTIMIZERS[name]
    report, ours, theirs = peer.report(case), peer.ours(case), peer.theirs(case)
    assert report["optimizer"] == class_name
    assert report["iterations"] == 2 * STEPS
    assert theirs.optimizer.iterations == 2 * STEPS
    assert theirs.get_compile_config() == ours.get_compile_config()
    # The loss that it evaluates has no regularizers in it.
    np.testing.assert_allclose(report["evaluation"][1], evaluation(ours, IMAGES, CLASSES)[1], rtol=1e-6)
    # The same steps here, and then one more from either: moments and momentum came across.
    history = ours.fit(IMAGES, CLASSES, batch_size=16, epochs=STEPS, verbose=0, shuffle=False)
    np.testing.assert_allclose(report["losses"], history.history["loss"], rtol=2e-4)
    for _ in range(2):
        for own, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_allclose(other, own, rtol=1e-3, atol=2e-4)
        for each in (ours, theirs):
            each.fit(IMAGES, CLASSES, batch_size=16, verbose=0, shuffle=False)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_agree(name: str, peer: Peer) -> None:
    case = f"loss {name}"
    report, ours, theirs = peer.report(case), peer.ours(case), peer.theirs(case)
    x, y = peer.array(case, "x", ours), labels(LOSSES[name][1])
    assert_near(np.array(report["evaluation"]), evaluation(ours, x, y))
    history = ours.fit(x, y, batch_size=12, epochs=STEPS, verbose=0, shuffle=False)
    np.testing.assert_allclose(report["losses"], history.history["loss"], rtol=2e-5)
    for own, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(other, own, rtol=1e-4, atol=1e-5)
    assert theirs.get_compile_config() == ours.get_compile_config()


@pytest.mark.parametrize(("loss", "outputs", "metric"), metric_cases())
def test_metrics_agree(loss: str, outputs: int, metric: str, peer: Peer) -> None:
    case = f"metric {loss} {outputs} {metric}"
    report, ours, theirs = peer.report(case), peer.ours(case), peer.theirs(case)
    y = labels(LOSSES[loss][1])
    values = evaluation(ours, peer.array(case, "x", ours), y if outputs > 1 else y[:, :1])
    assert len(values) == len(report["evaluation"]) == 2
    np.testing.assert_allclose(report["evaluation"], values, rtol=1e-5)
    assert theirs.get_compile_config() == ours.get_compile_config()


def test_all_that_both_sides_have_is_compared() -> None:
    compared = {type(layer).__name__ for _, stack in LAYERS.values() for layer in stack}
    assert set(layers._CLASSES) == compared | keras2._PRIVATE_CLASSES | {"InputLayer"}
    assert not compared & keras2._PRIVATE_CLASSES
    assert keras2._SHARED_ACTIVATIONS == set(ACTIVATIONS)
    assert set(training._LOSSES) == set(LOSSES)
    assert set(training._METRICS) == {metric for names in METRICS.values() for metric in names} - {
        "sparse_categorical_accuracy"}
    assert {class_name for class_name, _ in training._OPTIMIZERS.values()} == {
        *(class_name for class_name, _ in OPTIMIZERS.values()), "Adamax"}


def test_adamax_trains_there_from_its_first_step(peer: Peer) -> None:
    """Its state cannot be loaded or saved there: who trained already is not handed over."""
    report, ours = peer.report("adamax"), peer.ours("adamax")
    history = ours.fit(peer.array("adamax", "x", ours), labels("numbers"), batch_size=12, epochs=STEPS, verbose=0,
                       shuffle=False)
    assert report["optimizer"] == "Adamax"
    np.testing.assert_allclose(report["losses"], history.history["loss"], rtol=2e-5)
    assert peer.report("adamax trained")["optimizer"] is None
    assert peer.ours("adamax trained").optimizer.iterations == 1


def test_metadata_and_statistics_pass_through_training_there(peer: Peer) -> None:
    ours, theirs = peer.ours("everything"), peer.theirs("everything")
    assert len(peer.report("everything")["losses"]) == STEPS
    assert theirs.class_names == ["a", "b", "c", "d"] and theirs.image_input == ours.image_input
    assert all(np.isfinite(weight).all() for weight in theirs.get_weights())
    moved = [not np.array_equal(own, other) for own, other in zip(ours.get_weights(), theirs.get_weights(), strict=True)]
    assert all(moved)


def test_what_only_tinyconv_reads_is_refused_there(peer: Peer) -> None:
    assert "tinyconv>" in peer.error("private")


@pytest.mark.parametrize("name", ["aslamplr-mnist", "raymondvan-50", "tfjssave-codingtrain-shapes-1.7.2",
                                  "zaid-sketcher-100"])
def test_real_models_agree(name: str, peer: Peer) -> None:
    if name not in real_models():
        pytest.skip(f"no data: {name} is not there")
    peer.report(f"real {name}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # regularizers are left out
        model = load_model(real_models()[name])
    x = peer.array(f"real {name}", "x", model)
    assert_near(peer.array(f"real {name}", "out", model), model.predict(x, verbose=0))
