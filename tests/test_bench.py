"""`tinyconv bench` and the pure parts of the benchmarks; nothing here asserts a speed."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinyconv
from tinyconv import bench, engine

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def peers():
    """A function that imports a module of benchmarks.peers, which is no installed package."""
    if not FOLDER.is_dir():
        pytest.skip("the project's sources are not here")
    spec = importlib.util.spec_from_file_location("benchmarks", FOLDER / "__init__.py",
                                                  submodule_search_locations=[str(FOLDER)])
    sys.modules.setdefault("benchmarks", importlib.util.module_from_spec(spec))
    return lambda name: importlib.import_module(f"benchmarks.peers.{name}")


# --- tinyconv bench ---


def test_operations_count_multiply_adds_twice_and_spare_the_first_input_gradient():
    program = bench.seed_network().program
    forward = 2 * (24 * 24 * 25 * 8 + 8 * 8 * 200 * 16 + 256 * 10)
    assert bench.operations(program) == forward
    assert bench.operations(program, training=True) == 3 * forward - 2 * 24 * 24 * 25 * 8


def test_operations_of_a_transposed_convolution_are_those_of_the_one_that_it_turns_round():
    layers = [tinyconv.layers.Input((5, 4, 3)), tinyconv.layers.Conv2DTranspose(2, 3, strides=2)]
    assert bench.operations(tinyconv.Sequential(layers).program) == 2 * 5 * 4 * 9 * 3 * 2


def test_operations_of_a_network_without_weights_are_none():
    program = tinyconv.Sequential([tinyconv.layers.Input(shape=(4, 4, 1)), tinyconv.layers.Flatten()]).program
    assert bench.operations(program) == bench.operations(program, training=True) == 0


def test_measure_peak_is_positive_or_unknown():
    peak = engine.measure_peak(0.001)
    assert peak is None if engine.backend() == "numpy" else 0 < peak < math.inf


def test_measure_finds_every_figure():
    figures = bench.measure(0.01)
    settings = engine.config()
    assert figures.instruction_set == settings["instruction_set"] or figures.instruction_set == "numpy"
    assert figures.threads == settings["threads"]
    assert min(figures.training, figures.prediction, figures.one_image) > 0
    assert (figures.peak is None) == (figures.training_share is None) == (engine.backend() == "numpy")


def test_configurations_hold_every_instruction_set_and_numpy():
    names = list(dict.fromkeys(name for name, _ in bench.configurations()))
    available = engine.config()["instruction_sets_available"]
    forced = os.environ.get("TINYCONV_ISA")
    assert names == [*([forced] if forced in available else available), "numpy"]


def test_table_rows_stand_under_their_heads():
    full = bench.Figures("avx512", 16, 4.1e12, 1234567.8, 0.715, 3210987.6, 0.8, 8.15e-6)
    empty = bench.Figures("numpy", 1, None, 812.3, None, 4001.2, None, 1.1e-4)
    width = len(bench.TABLE_HEAD.splitlines()[1])
    assert [len(bench.table_row(figures)) for figures in (full, empty)] == [width, width]
    assert bench.table_row(full).split() == [
        "avx512", "16", "4100.0", "1,234,568", "72%", "3,210,988", "80%", "8.2"]


def test_run_tells_why_a_process_failed():
    with pytest.raises(OSError, match="nonesuch on 1 threads failed: .*nonesuch is not available"):
        list(bench.run(0.01, [("nonesuch", 1)]))


@pytest.mark.slow
def test_report_prints_json(capsys, monkeypatch):
    monkeypatch.setattr(bench, "configurations", lambda: [("numpy", 1)])
    bench.report(0.01, as_json=True)
    data = json.loads(capsys.readouterr().out)
    assert data["training_operations"] == 1704960
    assert [entry["instruction_set"] for entry in data["results"]] == ["numpy"]
    assert data["results"][0]["training"] > 0


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf])
def test_report_refuses_seconds_that_are_no_time(seconds):
    with pytest.raises(ValueError, match="Expected seconds to be a positive number. Received"):
        bench.report(seconds)


# --- benchmarks.peers ---


def test_output_sizes_of_convolutions(peers):
    conv = peers("workloads").Convolution
    assert conv(1, 28, 28, 1, 8, 5).output_size == (24, 24)
    assert conv(1, 7, 9, 32, 64, 3, "same").output_size == (7, 9)
    assert conv(1, 96, 96, 3, 16, 7, stride=2).output_size == (45, 45)
    assert conv(1, 28, 28, 16, 16, 3, dilation=2).output_size == (24, 24)
    assert conv(2, 28, 28, 1, 8, 5).operations == 2 * 2 * 24 * 24 * 8 * 25
    assert conv(2, 28, 28, 8, 8, 5, groups=8).operations == 2 * 2 * 24 * 24 * 8 * 25


def test_channels_first_weights_give_the_same_dense_output(peers):
    wl = peers("workloads")
    last, first = wl.initial_weights(wl.SEED_NETWORK), wl.channels_first_weights(wl.SEED_NETWORK)
    features = np.random.default_rng(0).random((3, 4, 4, 16), dtype=np.float32)
    expected = features.reshape(3, -1) @ last[4]
    assert features.transpose(0, 3, 1, 2).reshape(3, -1) @ first[4].T == pytest.approx(expected, abs=1e-5)
    assert first[2] == pytest.approx(last[2].transpose(3, 2, 0, 1))


def test_results_refuse_what_disagrees(peers):
    measure = peers("measure")
    results = measure.Results(1.0, {"loss": [2.3]})
    results.check("loss", 2.3001)
    results.check("not expected", 7)
    with pytest.raises(measure.Disagreement, match=r"loss: expected \[2.3\], computed \[2.5\]"):
        results.check("loss", 2.5)
    assert results.checks == {"loss": [2.5], "not expected": [7.0]}


def test_time_calls_takes_three_at_least(peers):
    calls = []
    assert peers("measure").time_calls(lambda: calls.append(1), seconds=1e-9, warm_up=2) >= 0
    assert 1 <= len(calls) <= 5


def records_of(peers, values):
    """Records of W1 (images/s) and W3 (us): {(peer, variant): [(images/s, us) of a round]}."""
    runner = peers("runner")
    records = []
    for (peer, variant), rounds in values.items():
        for number, (speed, latency) in enumerate(rounds):
            case = runner.Case("W1", peer, variant, 1)
            records.append(runner.Record(case, number, {"batch 512": (speed, "images/s")}, version="1.0"))
            case = runner.Case("W3", peer, variant, 1)
            records.append(runner.Record(case, number, {"one image": (latency, "us")}))
    return records


def test_report_compares_with_the_best_variant_of_the_best_peer(peers):
    report = peers("report")
    records = records_of(peers, {
        ("tinyconv", "fit"): [(1000, 5), (900, 4), (5000, 6)],
        ("torch", "eager"): [(100, 10)], ("torch", "compiled"): [(500, 20)], ("jax", "jit"): [(400, 50)]})
    training, latency = report.collect(records)
    assert training.best(1) == (("torch", "compiled"), report.Spread(500, 500, 500))
    assert latency.best(1) == (("torch", "eager"), report.Spread(10, 10, 10))
    assert training.best(2) is None
    ours = training.best(1, "tinyconv")[1]
    assert ours == report.Spread(1000, 900, 5000)
    assert training.ratio(ours, training.best(1)[1]) == 2
    assert latency.ratio(latency.best(1, "tinyconv")[1], latency.best(1)[1]) == 2
    text = " ".join(report.markdown(records, {"date": "today"}, variants=True).split())
    assert "| W1 batch 512, images/s | 1 | 1,000 (900 to 5,000) | 500 torch compiled | 2.00 |" in text
    assert "- versions: jax 1.0, tinyconv 1.0, torch 1.0" in text
    assert "| torch eager | 100 | 10.00 |" in text


def test_report_shows_failures(peers):
    runner = peers("runner")
    record = runner.Record(runner.Case("W1", "torch", "eager", 2), 0, error="Disagreement: loss")
    assert "- W1 torch eager, 2 threads: Disagreement: loss" in peers("report").markdown([record], {})


def test_records_survive_json(peers):
    record = records_of(peers, {("tinyconv", "fit"): [(1000, 5)]})[0]
    assert type(record).from_json(json.loads(json.dumps(record.to_json()))) == record


def test_cases_leave_out_what_cannot_be_held_to_an_instruction_set(peers, monkeypatch):
    runner = peers("runner")
    monkeypatch.setattr(runner, "interpreter", lambda peer: sys.executable)
    assert runner.cases("W3", ["onnxruntime"], ["*"], [1], None)
    assert not runner.cases("W3", ["onnxruntime"], ["*"], [1], "avx2")
    chosen = runner.cases("W1", ["torch"], ["eager-*"], [1, 2], "avx2")
    assert {case.variant for case in chosen} == {"eager-nchw", "eager-cl", "eager-nchw-tuned"}
    assert runner.environment(chosen[0], "avx2")["ATEN_CPU_CAPABILITY"] == "avx2"


def test_adapters_promise_what_their_engines_can(peers):
    runner, wl = peers("runner"), peers("workloads")
    methods = {"W1": "trainer", "W1e": "fit", "W2": "trainer", "W3": "predictor", "W4": "convolution",
               "W6": "convolution", "W7": "convolution"}
    for peer in runner.peers():
        adapter = runner.adapter(peer)
        assert set(adapter.VARIANTS) <= set(wl.WORKLOADS)
        for workload in adapter.VARIANTS:
            assert hasattr(adapter.Engine, methods[workload]), (peer, workload)


@pytest.mark.slow
def test_peers_run_end_to_end(tmp_path):
    """tinyconv and NumPy, from this interpreter: it agrees with it, and the reports are written."""
    if not FOLDER.is_dir():
        pytest.skip("the project's sources are not here")
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PEERS_")}
    command = [sys.executable, "-m", "benchmarks.peers", "W3", "--peers", "tinyconv,numpy", "--threads", "1",
               "--rounds", "1", "--seconds", "0.001", "--json", str(tmp_path / "run.json"),
               "--markdown", str(tmp_path / "run.md")]
    result = subprocess.run(command, cwd=ROOT, env={**variables, "PEERS_HOME": str(tmp_path)}, timeout=300,
                            capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    data = json.loads((tmp_path / "run.json").read_text())
    assert {record["case"]["peer"] for record in data["records"]} == {"tinyconv", "numpy"}
    assert "## W3: prediction" in (tmp_path / "run.md").read_text()
