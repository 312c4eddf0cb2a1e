"""fit, evaluate and predict on iterables, memory-mapped arrays, and under Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest

from tinyconv import Sequential, layers
from tinyconv.callbacks import LambdaCallback

RNG = np.random.default_rng(7)
X = RNG.standard_normal((40, 6)).astype(np.float32)
Y = np.eye(3, dtype=np.float32)[RNG.integers(0, 3, 40)]
WEIGHT = RNG.uniform(0.5, 2.0, 40).astype(np.float32)


def model_of(seed: int = 1, metrics=("accuracy",), built: bool = True) -> Sequential:
    declared = {"input_shape": (6,)} if built else {}
    model = Sequential([layers.Dense(5, activation="relu", **declared),
                        layers.Dense(3, activation="softmax")], seed=seed)
    model.compile("sgd", "categorical_crossentropy", metrics=list(metrics))
    return model


class Numbered:
    """Batches by number, like keras.utils.PyDataset."""

    def __init__(self, size: int = 8, weights: bool = False) -> None:
        self.size = size
        self.weights = weights
        self.asked: list[int] = []
        self.epochs = 0

    def __len__(self) -> int:
        return len(X) // self.size

    def __getitem__(self, number: int):
        self.asked.append(number)
        rows = slice(number * self.size, (number + 1) * self.size)
        return (X[rows], Y[rows], WEIGHT[rows]) if self.weights else (X[rows], Y[rows])

    def on_epoch_end(self) -> None:
        self.epochs += 1


class Loader:
    """Iterated anew every epoch, with lists for batches, like a DataLoader."""

    def __init__(self) -> None:
        self.begun = 0

    def __iter__(self):
        self.begun += 1
        return ([X[i:i + 8], Y[i:i + 8]] for i in range(0, 40, 8))


def endless(weights: bool = False):
    while True:
        for i in range(0, 40, 8):
            yield (X[i:i + 8], Y[i:i + 8], WEIGHT[i:i + 8]) if weights else (X[i:i + 8], Y[i:i + 8])


def same_weights(a: Sequential, b: Sequential) -> bool:
    return all(np.array_equal(v, w) for v, w in zip(a.get_weights(), b.get_weights(), strict=True))


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("kind", ["numbered", "generator"])
def test_fit_on_batches_equals_fit_on_arrays(kind, weights):
    source, steps = (Numbered(weights=weights), None) if kind == "numbered" else (endless(weights), 5)
    ours, arrays = model_of(), model_of()
    history = ours.fit(source, epochs=3, steps_per_epoch=steps, shuffle=False, verbose=0)
    expected = arrays.fit(X, Y, batch_size=8, epochs=3, shuffle=False, verbose=0,
                          sample_weight=WEIGHT if weights else None)
    assert same_weights(ours, arrays)
    assert history.history == expected.history
    assert ours.optimizer.iterations == 15


def test_an_iterable_is_begun_anew_every_epoch():
    source, model = Loader(), model_of()
    model.fit(source, epochs=3, verbose=0)
    assert source.begun == 3
    assert model.optimizer.iterations == 15


def test_an_iterable_goes_on_where_steps_are_counted():
    seen = []

    class Counted(Loader):
        def __iter__(self):
            self.begun += 1
            for i in range(5):
                seen.append(i)
                yield X[8 * i:8 * i + 8], Y[8 * i:8 * i + 8]

    source, model = Counted(), model_of()
    with pytest.warns(UserWarning, match="ran out of data after 1 batches"):
        model.fit(source, epochs=3, steps_per_epoch=2, verbose=0)
    assert model.optimizer.iterations == 5
    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("source", [Loader, Numbered])
@pytest.mark.parametrize(("steps", "epochs"), [(5, 3), (1, 12)])
def test_an_iterable_that_counted_steps_end_with_is_begun_anew(source, steps, epochs):
    batches, model = source(), model_of()
    history = model.fit(batches, epochs=epochs, steps_per_epoch=steps, verbose=0)
    assert history.epoch == list(range(epochs))
    assert model.optimizer.iterations == steps * epochs
    if source is Numbered:
        assert batches.epochs == epochs


def test_a_generator_is_not_read_further_than_it_is_used():
    given = []

    def counting():
        for batch in endless():
            given.append(1)
            yield batch

    model_of().fit(counting(), epochs=2, steps_per_epoch=3, verbose=0)
    assert len(given) == 6


def test_a_generator_that_ends_ends_training():
    model = model_of()
    batches = ((X[i:i + 8], Y[i:i + 8]) for i in range(0, 40, 8))
    history = model.fit(batches, epochs=4, verbose=0)
    assert history.epoch == [0]
    assert model.optimizer.iterations == 5


def test_batches_by_number_are_shuffled_every_epoch_and_told_of_its_end():
    source = Numbered()
    model_of().fit(source, epochs=3, verbose=0)
    epochs = [source.asked[i:i + 5] for i in range(0, 15, 5)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert source.epochs == 3
    again = Numbered()
    model_of().fit(again, epochs=3, verbose=0)
    assert again.asked == source.asked


def test_a_model_without_shape_is_built_by_the_first_batch_which_is_not_lost():
    ours, arrays = model_of(built=False), model_of(built=False)
    ours.fit(Loader(), verbose=0)
    arrays.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    assert same_weights(ours, arrays)


@pytest.mark.parametrize("source", [Loader, Numbered])
def test_evaluate_and_predict_on_batches(source):
    model = model_of(metrics=("accuracy", "mse"))
    assert model.evaluate(source(), verbose=0) == pytest.approx(model.evaluate(X, Y, verbose=0), rel=1e-6)
    for batches, expected in ((source(), X), (iter([X[:3], X[3:]]), X)):
        np.testing.assert_allclose(model.predict(batches), model.predict(expected), rtol=1e-6)
    np.testing.assert_allclose(model.predict(source(), steps=2), model.predict(X[:16]), rtol=1e-6)


def test_validation_on_batches():
    model, arrays = model_of(), model_of()
    history = model.fit(X, Y, validation_data=Loader(), epochs=2, verbose=0)
    expected = arrays.fit(X, Y, validation_data=(X, Y), epochs=2, verbose=0)
    assert history.history["val_loss"] == pytest.approx(expected.history["val_loss"], rel=1e-6)
    model.fit(X, Y, validation_data=endless(), validation_steps=3, verbose=0)


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("source", [Loader, Numbered])
def test_every_validation_begins_anew_but_for_generators(source, built):
    model = model_of(built=built)
    model.compile("sgd", "categorical_crossentropy")
    frozen = LambdaCallback(on_train_begin=lambda logs: setattr(model.optimizer, "learning_rate", 0.0))
    values = model.fit(X, Y, validation_data=source(), validation_steps=2, epochs=4, verbose=0,
                       callbacks=[frozen]).history["val_loss"]
    assert len(set(values)) == 1
    values = model.fit(X, Y, validation_data=endless(), validation_steps=2, epochs=3, verbose=0,
                       callbacks=[frozen]).history["val_loss"]
    assert len(set(values)) == 3


def test_order_of_batches_goes_on_with_the_epochs_of_the_model():
    once, parts = Numbered(), Numbered()
    model_of().fit(once, epochs=3, verbose=0)
    model = model_of(built=False)
    model.fit(parts, epochs=1, verbose=0)
    model.fit(parts, initial_epoch=1, epochs=3, verbose=0)
    assert parts.asked == once.asked


def test_a_batch_that_does_not_fit_ends_the_thread():
    with pytest.raises(ValueError, match="shape"):
        model_of().fit(iter([(X, Y), (X[:, :5], Y), (X, Y), (X, Y), (X, Y)]), verbose=0)
    assert not [thread for thread in threading.enumerate() if thread.name == "tinyconv-batches"]


@pytest.mark.parametrize("batch", [({"a": X}, Y), {"x": X, "y": Y}])
def test_batches_of_dicts_are_refused(batch):
    with pytest.raises(TypeError, match="Expected x to be an array"):
        model_of().fit(iter([batch]), verbose=0)


def test_class_weight_applies_to_every_batch():
    ours, arrays = model_of(), model_of()
    ours.fit(Loader(), class_weight={0: 3.0}, verbose=0)
    arrays.fit(X, Y, batch_size=8, shuffle=False, class_weight={0: 3.0}, verbose=0)
    assert same_weights(ours, arrays)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"y": Y}, "y to be None"),
    ({"batch_size": 8}, "batch_size to be None"),
    ({"sample_weight": WEIGHT}, "sample_weight to be None"),
    ({"validation_split": 0.2}, "arrays for validation_split"),
])
def test_arguments_that_need_arrays_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        model_of().fit(Loader(), verbose=0, **arguments)
    assert "Received: " in str(caught.value)


@pytest.mark.parametrize("batch", [(), (X, Y, WEIGHT, X)])
def test_a_batch_of_another_form_is_refused(batch):
    with pytest.raises(ValueError, match="to yield"):
        model_of().fit(iter([batch]), verbose=0)


@pytest.mark.parametrize("call", ["fit", "evaluate", "predict"])
@pytest.mark.parametrize("built", [False, True])
def test_nothing_to_read_is_an_error(call, built):
    with pytest.raises(ValueError, match="at least one batch"):
        getattr(model_of(built=built), call)(iter([]), verbose=0)


def test_an_error_in_a_generator_reaches_the_caller_and_ends_its_thread():
    def failing():
        yield X[:8], Y[:8]
        raise OSError("disk")

    model = model_of()
    with pytest.raises(OSError, match="disk"):
        model.fit(failing(), verbose=0)
    assert model.optimizer.iterations == 1
    assert not [thread for thread in threading.enumerate() if thread.name == "tinyconv-batches"]


def test_stopping_in_the_middle_of_an_epoch_ends_the_thread():
    model = model_of()

    def stop(batch, logs):
        model.stop_training = batch == 1

    model.fit(endless(), steps_per_epoch=1000, verbose=0, callbacks=[LambdaCallback(on_train_batch_end=stop)])
    assert model.optimizer.iterations == 2
    assert not [thread for thread in threading.enumerate() if thread.name == "tinyconv-batches"]


def test_progress_of_an_unknown_number_of_batches(capsys):
    model_of().fit(Loader(), verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Epoch 1/1"
    assert lines[1].startswith("5/5 - 0s - ")


# --- memory-mapped arrays ---

@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.float64, np.int16, ">f4"])
def test_memory_mapped_arrays(tmp_path, dtype):
    x = RNG.integers(0, 9, (40, 6)).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    ours, arrays = model_of(), model_of()
    history = ours.fit(mapped, Y, batch_size=8, epochs=2, validation_split=0.25, verbose=0)
    expected = arrays.fit(x.astype(np.float32), Y, batch_size=8, epochs=2, validation_split=0.25, verbose=0)
    assert same_weights(ours, arrays)
    assert history.history == expected.history
    assert ours.evaluate(mapped, Y, batch_size=7, verbose=0) == pytest.approx(
        arrays.evaluate(x.astype(np.float32), Y, verbose=0), rel=1e-6)
    np.testing.assert_array_equal(ours.predict(mapped), arrays.predict(x.astype(np.float32)))


def test_a_mapped_array_is_never_converted_as_a_whole(tmp_path):
    import tracemalloc

    samples = 50_000
    mapped = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float64, (samples, 6))
    y = np.zeros((samples, 3), np.float32)
    y[:, 0] = 1
    model = model_of()
    tracemalloc.start()
    model.fit(mapped, y, batch_size=1000, verbose=0, shuffle=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < samples * 6 * 4 / 2


# --- Ctrl-C ---

@pytest.fixture(autouse=True)
def _python_handles_ctrl_c():
    """A process that a shell starts in the background ignores the signal, and Python leaves it at that."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


def interrupt_at(step: int, seen: list[int]) -> LambdaCallback:
    def strike(batch, logs):
        seen.append(batch)
        if len(seen) == step:
            os.kill(os.getpid(), signal.SIGINT)
    return LambdaCallback(on_train_batch_end=strike)


def test_ctrl_c_ends_fit_with_the_history_so_far(capsys):
    model, seen, ended = model_of(), [], []
    history = model.fit(X, Y, batch_size=8, epochs=10, verbose=2,
                        callbacks=[interrupt_at(13, seen), LambdaCallback(on_train_end=lambda logs: ended.append(1))])
    assert history.epoch == [0, 1]
    assert len(history.history["loss"]) == 2
    assert model.interrupted
    assert ended == [1]
    assert model.optimizer.iterations == 13
    assert "Interrupted: training ends after 2 whole epochs." in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    model.fit(X, Y, epochs=1, verbose=0)
    assert not model.interrupted


def test_ctrl_c_at_any_moment_leaves_whole_steps():
    model, twin = model_of(), model_of()
    for delay in (0.0005, 0.001, 0.002, 0.004, 0.008):
        timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
        model.fit(X, Y, batch_size=40, epochs=1_000_000, shuffle=False, verbose=0,
                  callbacks=[LambdaCallback(on_train_begin=lambda logs, timer=timer: timer.start())])
        assert model.interrupted
    twin.fit(X, Y, batch_size=40, epochs=model.optimizer.iterations, shuffle=False, verbose=0)
    assert same_weights(model, twin)


def test_ctrl_c_while_a_generator_is_slow():
    def slow():
        yield X[:8], Y[:8]
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        time.sleep(0.4)
        yield X[:8], Y[:8]

    model = model_of()
    model.fit(slow(), verbose=0)
    assert model.interrupted
    assert model.optimizer.iterations == 1


def test_a_second_ctrl_c_is_raised():
    model = model_of()

    def twice(batch, logs):
        os.kill(os.getpid(), signal.SIGINT)

    def again(logs):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, verbose=0, callbacks=[LambdaCallback(on_train_batch_end=twice, on_train_end=again)])


def test_a_handler_of_the_program_is_left_alone():
    caught = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: caught.append(number))
    try:
        model = model_of()
        model.fit(X, Y, batch_size=8, verbose=0, callbacks=[interrupt_at(2, [])])
    finally:
        signal.signal(signal.SIGINT, previous)
    assert caught == [signal.SIGINT]
    assert not model.interrupted
    assert model.optimizer.iterations == 5


def test_ctrl_c_in_a_fit_inside_a_callback_ends_both():
    outer, inner, twin = model_of(), model_of(seed=2), model_of(seed=2)

    def train(epoch, logs):
        inner.fit(X, Y, batch_size=8, epochs=50, shuffle=False, verbose=0, callbacks=[interrupt_at(7, [])])

    history = outer.fit(X, Y, epochs=5, verbose=0, callbacks=[LambdaCallback(on_epoch_end=train)])
    assert history.epoch == []
    assert outer.interrupted
    assert inner.interrupted
    twin.fit(X, Y, batch_size=8, shuffle=False, steps_per_epoch=5, verbose=0)
    twin.fit(X, Y, batch_size=8, shuffle=False, steps_per_epoch=2, verbose=0)
    assert same_weights(inner, twin)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_while_averages_become_the_weights_is_not_lost(monkeypatch):
    model = model_of()
    finalize = model._finalize_weights

    def struck():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        finalize()

    monkeypatch.setattr(model, "_finalize_weights", struck)
    history = model.fit(X, Y, epochs=2, verbose=0)
    assert history.epoch == [0, 1]
    assert model.interrupted
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Foreign:
    """A tensor that cannot become an array, as one of bfloat16 cannot."""

    shape = (4, 6)

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Got unsupported ScalarType BFloat16")


@pytest.mark.parametrize("call", [
    lambda model: model.predict(Foreign()), lambda model: model.fit(Foreign(), np.eye(4), verbose=0),
    lambda model: model.fit(iter([(Foreign(), np.eye(4))]), verbose=0), lambda model: model.predict(iter([Foreign()])),
], ids=["predict", "fit", "fit-stream", "predict-stream"])
def test_tensors_that_cannot_be_arrays_are_named_with_their_reason(call):
    model = Sequential([layers.Input((6,)), layers.Dense(4)])
    model.compile("sgd", "mse")
    with pytest.raises(TypeError, match=r"^Expected x to (be an array|yield arrays)\. Received: Foreign \(Got unsup"):
        call(model)
