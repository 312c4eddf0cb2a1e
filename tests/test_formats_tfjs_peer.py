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
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tfjs_peer_cases import (
    ACTIVATIONS,
    CLASSES,
    IMAGES,
    LAYERS,
    LOSSES,
    METRICS,
    OPTIMIZERS,
    STEPS,
    cases,
    evaluation,
    labels,
    metric_cases,
)

from tinyconv import Sequential, layers, load_model
from tinyconv.formats import keras2, training

pytestmark = pytest.mark.once
PACKAGE = "@tensorflow/tfjs@4.22.0"
# Seconds that a worker waits for another one which installs and runs everything.
PATIENCE = 300.0


# --- one process for all ---

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
         "--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=3000", "--prefix",
         str(root), PACKAGE],
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


@pytest.mark.parametrize("name", [*(f"layer {name}" for name in LAYERS),
                                  *(f"activation {name}" for name in ACTIVATIONS),
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
    moved = [not np.array_equal(own, other)
             for own, other in zip(ours.get_weights(), theirs.get_weights(), strict=True)]
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
