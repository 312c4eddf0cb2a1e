"""Every instruction set, thread count and process gives the right numbers, and the one asked for runs."""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import tinyconv
from tinyconv import engine, layers

CONFIG = engine.config()
AVAILABLE = CONFIG["instruction_sets_available"]
NATIVE = CONFIG["backend"] == "native"
native_only = pytest.mark.skipif(not NATIVE, reason="the compiled engine is not in use")

# A network in which every kind of operation occurs, and data for it.
SETUP = """
import hashlib, json, os, sys
import numpy as np
import tinyconv
from tinyconv import layers

def network(rate=0.25):
    model = tinyconv.Sequential([
        layers.Input(shape=(14, 13, 2)),
        layers.Rescaling(1 / 255),
        layers.Conv2D(5, 3, activation="relu", padding="same"),
        layers.MaxPooling2D(2),
        layers.Conv2D(9, (3, 2), activation="tanh"),
        layers.AveragePooling2D(2),
        layers.Flatten(),
        layers.Dropout(rate),
        layers.Dense(17, activation="sigmoid"),
        layers.Dense(10, activation="softmax"),
    ], seed=3)
    model.compile(tinyconv.optimizers.SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy",
                  metrics=["accuracy"])
    return model

random = np.random.default_rng(11)
x = random.integers(0, 256, (530, 14, 13, 2), dtype=np.uint8)
y = random.integers(0, 10, 530).astype(np.int32)

def digest(model):
    return hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest()
"""


def backend_variables(name: str) -> dict[str, str | None]:
    """The environment that asks for an instruction set, or for the NumPy reference."""
    if name == "numpy":
        return {"TINYCONV_BACKEND": "numpy", "TINYCONV_ISA": None}
    return {"TINYCONV_BACKEND": "native", "TINYCONV_ISA": name}


def test_isa_of_this_run_is_the_one_asked_for():
    backend, isa = os.environ.get("TINYCONV_BACKEND"), os.environ.get("TINYCONV_ISA")
    assert CONFIG["backend"] == (backend or "native")
    assert CONFIG["instruction_set"] == ((isa or AVAILABLE[0]) if NATIVE else None)


@native_only
def test_isa_baseline_is_always_available():
    assert {"baseline", "neon"} & set(AVAILABLE)
    assert set(AVAILABLE) <= set(CONFIG["instruction_sets_built"])


@native_only
@pytest.mark.once
def test_isa_every_level_gives_the_same_numbers(run_python):
    code = SETUP + """
model = network(rate=0)
before = model.predict(x[:70], verbose=0)
few = model.predict(x[:2], verbose=0)
history = model.fit(x, y, batch_size=96, epochs=2, verbose=0, shuffle=True).history
after = model.predict(x[:70], verbose=0)
print(json.dumps([tinyconv.engine.config(), before.tolist(), few.tolist(), history["loss"], after.tolist()]))
"""
    results = {}
    for name in [*AVAILABLE, "numpy"]:
        config, *results[name] = json.loads(run_python(code, **backend_variables(name)).stdout)
        assert config["instruction_set"] == (None if name == "numpy" else name)
        assert config["backend"] == ("numpy" if name == "numpy" else "native")
    before, few, loss, after = results["numpy"]
    for name in AVAILABLE:
        # Outputs are at most 1 and sums at most 140 terms long: 140 * 2**-24 with room to spare.
        np.testing.assert_allclose(results[name][0], before, rtol=0, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(results[name][1], few, rtol=0, atol=1e-5, err_msg=name)
        # Twelve steps on, the roundings have grown.
        np.testing.assert_allclose(results[name][2], loss, rtol=1e-4, err_msg=name)
        np.testing.assert_allclose(results[name][3], after, rtol=0, atol=1e-3, err_msg=name)


@pytest.mark.once
@pytest.mark.parametrize(("variable", "value"), [
    ("TINYCONV_ISA", "mmx"), ("TINYCONV_ISA", "AVX2"), ("TINYCONV_BACKEND", "cuda"),
    ("TINYCONV_NUM_THREADS", "0"), ("TINYCONV_NUM_THREADS", "many"), ("TINYCONV_NUM_THREADS", "1025"),
    ("TINYCONV_NUM_THREADS", "99999999999"), ("TINYCONV_NUM_THREADS", "\N{SUPERSCRIPT TWO}"),
])
@native_only
def test_environment_with_an_unknown_value_fails_loudly(run_python, variable, value):
    result = run_python("import tinyconv", status=1, **{variable: value})
    assert variable in result.stderr.splitlines()[-1]
    assert value in result.stderr.splitlines()[-1]


@native_only
@pytest.mark.once
@pytest.mark.parametrize("isa", AVAILABLE)
def test_training_gives_the_same_bits_for_every_number_of_threads(run_python, isa):
    code = SETUP + """
for batch in (1, 7, 16, 33, 512):
    digests = {}
    for threads in (1, 2, 3, 7):
        tinyconv.set_num_threads(threads)
        assert tinyconv.get_num_threads() == threads
        model = network()
        logs = model.fit(x, y, batch_size=batch, epochs=1, verbose=0).history
        outputs = model.predict(x, verbose=0).tobytes()
        digests[threads] = digest(model), logs["loss"], logs["accuracy"], outputs
    assert len(set(map(str, digests.values()))) == 1, (batch, digests)
    assert digest(network()) != digests[1][0]
print("same")
"""
    assert run_python(code, **backend_variables(isa)).stdout == "same\n"


@native_only
def test_threads_follow_the_environment(run_python):
    code = "import tinyconv; print(tinyconv.get_num_threads())"
    clean: dict[str, str | None] = {"TINYCONV_NUM_THREADS": None, "OMP_NUM_THREADS": None}
    three = run_python(code, **clean | {"TINYCONV_NUM_THREADS": "3"}).stdout.strip()
    assert three == ("3" if CONFIG["openmp"] else "1")
    assert run_python(code, **clean | {"OMP_NUM_THREADS": "1"}).stdout.strip() == "1"
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert 1 <= int(run_python(code, **clean).stdout) <= processors


@native_only
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no CPU affinity")
def test_threads_follow_affinity(run_python):
    code = """
        import os
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        import tinyconv
        print(tinyconv.get_num_threads())
    """
    assert run_python(code, TINYCONV_NUM_THREADS=None, OMP_NUM_THREADS=None).stdout == "1\n"


@pytest.mark.parametrize("threads", [0, -1, 10**6, True, 1.5, "2", None])
def test_set_num_threads_refuses(threads):
    before = tinyconv.get_num_threads()
    with pytest.raises((ValueError, TypeError), match="threads.*Received: threads="):
        tinyconv.set_num_threads(threads)
    assert tinyconv.get_num_threads() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_fork_after_training_then_training_in_the_child(run_python):
    code = SETUP + """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on forks of threaded processes
model = network()
model.fit(x, y, batch_size=64, epochs=1, verbose=0)
reader, writer = os.pipe()
child = os.fork()
model.fit(x, y, batch_size=64, epochs=1, verbose=0)
result = digest(model) + str(model.evaluate(x, y, verbose=0))
if child == 0:
    os.write(writer, result.encode())
    os._exit(0)
os.close(writer)
with os.fdopen(reader) as pipe:
    assert pipe.read() == result
assert os.waitpid(child, 0)[1] == 0
print("same")
"""
    assert run_python(code, timeout=120, TINYCONV_NUM_THREADS="2").stdout == "same\n"


def test_predict_from_four_threads_at_once():
    model = tinyconv.Sequential([
        layers.Input(shape=(12, 12, 3)), layers.Conv2D(8, 3, activation="relu"), layers.MaxPooling2D(2),
        layers.Flatten(), layers.Dense(10, activation="softmax"),
    ], seed=5)
    model.compile("sgd", "sparse_categorical_crossentropy")
    random = np.random.default_rng(0)
    batches = [random.random((n, 12, 12, 3), dtype=np.float32) for n in (1, 5, 16, 33, 64, 100, 2, 77)]
    labels = [random.integers(0, 10, len(batch)) for batch in batches]
    expected = [model.predict(batch, verbose=0) for batch in batches]
    losses = [model.evaluate(batch, label, verbose=0) for batch, label in zip(batches, labels, strict=True)]

    def work(start: int) -> None:
        for i in range(start, start + 40):
            k = i % len(batches)
            np.testing.assert_array_equal(model.predict(batches[k], verbose=0), expected[k])
            assert model.evaluate(batches[k], labels[k], verbose=0) == losses[k]

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work, start) for start in range(4)]:
            future.result()


# What the project promises; the reference, many times slower, gets a tenth.
CALLS, STEPS = (100_000, 10_000) if NATIVE else (10_000, 1_000)
MIB = 1 << 20


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(("work", "count", "limit"), [
    ("model.predict(x[:1], verbose=0)", CALLS, 2 * MIB),
    ("model.predict(x[:40], verbose=0)", CALLS // 10, 2 * MIB),
    ("model.train_on_batch(x[:32], y[:32])", STEPS, 2 * MIB),
    # What a dead model leaves in the allocator comes and goes; a lost workspace would be 100 KiB each.
    ("network().fit(x[:32], y[:32], verbose=0)", STEPS // 10, 20 * MIB),
], ids=["predict-one", "predict-many", "train", "new-models"])
def test_memory_stays_flat(run_python, work, count, limit):
    code = SETUP + f"""
import gc, resource
def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
model = network()
def work(count):
    for i in range(count):
        {work}
work({count // 5})
before = resident()
work({count})
print(resident() - before)
"""
    assert int(run_python(code, timeout=600).stdout) < limit
