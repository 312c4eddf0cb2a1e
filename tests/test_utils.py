from __future__ import annotations

import json
import random
import sys

import numpy as np
import pytest

from tinyconv import Sequential, callbacks, layers, load_model, utils


@pytest.fixture(autouse=True)
def _restore_session(monkeypatch):
    monkeypatch.setattr(utils, "_random_seed", None)
    monkeypatch.setattr(utils, "_seeds_drawn", 0)
    monkeypatch.setattr(utils, "_name_counts", {})
    state, numpy_state = random.getstate(), np.random.get_state()
    yield
    random.setstate(state)
    np.random.set_state(numpy_state)


def test_to_categorical_makes_one_hot_rows():
    one_hot = utils.to_categorical([0, 2, 1])
    assert one_hot.dtype == np.float32
    assert one_hot.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert utils.to_categorical(np.array([[3], [0]], np.uint8), num_classes=5).shape == (2, 5)
    assert utils.to_categorical(np.zeros((2, 3), int), 4).shape == (2, 3, 4)
    assert utils.to_categorical(np.array([1.0, 0.0])).tolist() == [[0, 1], [1, 0]]
    assert utils.to_categorical([], 3).shape == (0, 3)


@pytest.mark.parametrize(
    "labels, classes",
    [([-1, 0], None), ([0, 3], 3), ([0.5], None), (["a"], None), ([np.nan], 2), ([], None)],
    ids=repr,
)
def test_to_categorical_refuses(labels, classes):
    with pytest.raises(ValueError, match="Received:"):
        utils.to_categorical(labels, classes)


def test_normalize_divides_by_the_norm():
    x = np.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(utils.normalize(x), [[0.6, 0.8], [0, 0]])
    np.testing.assert_allclose(utils.normalize(x, axis=0, order=1), [[1, 1], [0, 0]])


def test_set_random_seed_repeats_everything():
    utils.set_random_seed(7)
    first = [random.random(), np.random.rand(), utils.default_seed(), utils.default_seed()]
    utils.set_random_seed(7)
    assert [random.random(), np.random.rand(), utils.default_seed(), utils.default_seed()] == first
    assert first[2] != first[3]
    assert utils.get_random_seed() == 7


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "1", True, None], ids=repr)
def test_set_random_seed_refuses(seed):
    with pytest.raises(ValueError, match="Received: seed="):
        utils.set_random_seed(seed)


def test_default_seed_is_fresh_without_a_seed():
    seeds = {utils.default_seed() for _ in range(8)}
    assert len(seeds) == 8 and all(0 <= seed < 2**63 for seed in seeds)
    assert utils.get_random_seed() is None


def test_derive_seed_depends_on_every_number():
    seeds = {utils.derive_seed(seed, a, b) for seed in range(4) for a in range(4) for b in range(4)}
    assert len(seeds) == 64
    assert utils.derive_seed(1, 2, 3) == utils.derive_seed(1, 2, 3)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("Conv2D", "conv2d"),
        ("MaxPooling2D", "max_pooling2d"),
        ("GlobalAveragePooling2D", "global_average_pooling2d"),
        ("ReLU", "re_lu"),
        ("LeakyReLU", "leaky_re_lu"),
        ("ELU", "elu"),
        ("InputLayer", "input_layer"),
        ("Sequential", "sequential"),
        ("Conv2DTranspose", "conv2d_transpose"),
    ],
)
def test_to_snake_case_names_as_keras_does(name, expected):
    assert utils.to_snake_case(name) == expected


def test_unique_name_counts_until_clear_session():
    assert [layers.Dense(1).name for _ in range(3)] == ["dense", "dense_1", "dense_2"]
    assert layers.Dense(1, name="mine").name == "mine"
    assert layers.Conv2D(1, 1).name == "conv2d"
    utils.clear_session()
    assert layers.Dense(1).name == "dense"


@pytest.mark.parametrize("value", [np.nan, np.inf, True, "1", None, [1], 10**400], ids=lambda v: str(v)[:8])
def test_check_number_refuses(value):
    with pytest.raises(ValueError, match="rate to be a finite number. Received: rate="):
        utils.check_number(value, "rate")


def test_check_number_respects_limits():
    assert utils.check_number(np.float32(0.5), "rate", 0.0, 1.0) == 0.5
    assert utils.check_number(1, "rate", 0.0, 1.0) == 1.0
    with pytest.raises(ValueError, match=r"in \[0, 1\)"):
        utils.check_number(1, "rate", 0.0, 1.0, exclusive=True)
    with pytest.raises(ValueError, match=">= 0"):
        utils.check_number(-sys.float_info.min, "rate", 0.0)


def test_check_flag_refuses_what_is_no_flag():
    assert utils.check_flag(np.True_, "use_bias") is True and utils.check_flag(0, "use_bias") is False
    for value in ("no", None, 2, 1.0):
        with pytest.raises(ValueError, match="use_bias to be True or False"):
            utils.check_flag(value, "use_bias")


def _fit_with_early_stopping(model, x, y, folder):
    model.fit(x, y, verbose=0, callbacks=[callbacks.EarlyStopping()])


def _fit_beyond_the_end(model, x, y, folder):
    model.fit(iter([(x, y)]), steps_per_epoch=2, verbose=0)


def _save_a_function(model, x, y, folder):
    model.compile("sgd", "mse", metrics=[lambda y_true, y_pred: y_pred[:, 0]])
    model.save(folder / "model")


def _save_a_schedule(model, x, y, folder):
    model.optimizer.learning_rate = lambda: 0.1
    model.save(folder / "model")


def _load_what_does_not_compile(model, x, y, folder):
    model.save(folder / "model")
    path = folder / "model" / "model.json"
    document = json.loads(path.read_text())
    document["trainingConfig"]["loss"] = "of one's own"
    del document["userDefinedMetadata"]["tinyconv"]["compile"]
    path.write_text(json.dumps(document))
    load_model(path)


def _make_from_a_config(model, x, y, folder):
    layers.Dense.from_config({"units": 2, "activity_regularizer": "l2"})


@pytest.mark.parametrize("cause", [
    _fit_with_early_stopping, _fit_beyond_the_end, _save_a_function, _save_a_schedule, _load_what_does_not_compile,
    _make_from_a_config,
])
def test_warnings_are_of_the_line_that_called_the_package(cause, tmp_path):
    model = Sequential([layers.Input((3,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning) as caught:
        cause(model, np.zeros((4, 3), np.float32), np.zeros((4, 1), np.float32), tmp_path)
    assert [(warning.filename, warning.category) for warning in caught] == [(__file__, UserWarning)]
