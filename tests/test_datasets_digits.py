"""The synthetic digits."""

from __future__ import annotations

import numpy as np
import pytest

import tinyconv
from tinyconv import Sequential, layers
from tinyconv.datasets import digits

pytestmark = pytest.mark.once


def test_load_data_has_keras_form():
    (x, y), (x_test, y_test) = digits.load_data(num_train=300, num_test=100)
    assert (x.shape, y.shape, x_test.shape, y_test.shape) == ((300, 28, 28), (300,), (100, 28, 28), (100,))
    assert {array.dtype for array in (x, y, x_test, y_test)} == {np.dtype(np.uint8)}
    assert all(array.flags.c_contiguous and array.flags.writeable for array in (x, y, x_test, y_test))
    assert set(y) == set(range(10))


def test_load_data_has_6500_images_by_default():
    (x, y), (x_test, y_test) = digits.load_data()
    assert (len(x), len(y), len(x_test), len(y_test)) == (5500, 5500, 1000, 1000)
    assert np.bincount(y).min() > 450


def test_seed_determines_the_images():
    (x, y), (x_test, y_test) = digits.load_data(50, 20, seed=3)
    (again, labels), (again_test, labels_test) = digits.load_data(50, 20, seed=3)
    (other, _), _ = digits.load_data(50, 20, seed=4)
    for one, two in ((x, again), (y, labels), (x_test, again_test), (y_test, labels_test)):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(x, other)


def test_test_images_are_others_and_do_not_depend_on_the_training_images():
    (x, _), (x_test, y_test) = digits.load_data(40, 40)
    _, (again, labels) = digits.load_data(10, 40)
    np.testing.assert_array_equal(x_test, again)
    np.testing.assert_array_equal(y_test, labels)
    assert not set(map(bytes, x)) & set(map(bytes, x_test))


def test_images_do_not_depend_on_the_instruction_set_of_numpy(run_python):
    code = """
        import hashlib, warnings
        warnings.simplefilter("ignore")  # NumPy's, of features that this processor lacks
        from tinyconv.datasets import digits
        (x, _), _ = digits.load_data(400, 0, seed=1)
        print(hashlib.sha256(x.tobytes()).hexdigest())
    """
    many = "AVX512F AVX512CD AVX512_SKX AVX512_ICL AVX512_SPR AVX2 FMA3 X86_V3 X86_V4"
    hashes = {run_python(code, NPY_DISABLE_CPU_FEATURES=features).stdout for features in (None, many)}
    assert len(hashes) == 1


def test_draw_makes_the_given_digits():
    labels = np.repeat(np.arange(10), 3)
    images = digits.draw(labels, seed=5)
    assert images.shape == (30, 28, 28)
    np.testing.assert_array_equal(images, digits.draw(labels, seed=5))
    assert len({image.tobytes() for image in images}) == 30


def test_images_are_white_on_black_and_centred():
    images = digits.draw(np.arange(1000) % 10).astype(float)
    assert 15 < images.mean() < 45
    assert images.max(axis=(1, 2)).min() > 120
    border = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    assert np.median(border) == 0
    grid = np.arange(28) - 13.5
    mass = images.sum(axis=(1, 2))
    for axis in (1, 2):
        centre = (images.sum(axis=axis) * grid).sum(axis=1) / mass
        assert abs(centre.mean()) < 0.3
        assert abs(centre).max() < 4


@pytest.mark.parametrize("digit", range(10))
def test_every_shape_of_a_digit_is_drawn(digit):
    assert len(digits.SHAPES[digit]) >= 3
    for text in digits.SHAPES[digit]:
        numbers = [int(number) for place in text.replace("/", " ").replace("*", "").split()
                   for number in place.split(",")]
        assert 0 <= min(numbers) <= max(numbers) <= 100
    strength = (digits.draw(np.full(60, digit)) > 100).sum(axis=(1, 2))
    assert strength.min() > 8
    assert strength.max() < 400


def test_digits_say_that_they_are_synthetic():
    assert "synthetic" in digits.DESCRIPTION
    assert "synthetic" in (digits.load_data.__doc__ or "").lower()
    assert "synthetic" in (digits.__doc__ or "").lower()


def test_no_images_are_an_empty_array():
    (x, y), (x_test, y_test) = digits.load_data(0, 3)
    assert (x.shape, y.shape, len(x_test), len(y_test)) == ((0, 28, 28), (0,), 3, 3)
    assert digits.draw(np.array([], np.int64)).shape == (0, 28, 28)


@pytest.mark.parametrize(("arguments", "name"), [
    ({"num_train": -1}, "num_train"), ({"num_test": 1.5}, "num_test"), ({"seed": -1}, "seed"),
    ({"seed": "a"}, "seed"),
], ids=str)
def test_load_data_refuses_what_does_not_fit(arguments, name):
    with pytest.raises(ValueError, match=f"{name}.*Received: {name}="):
        digits.load_data(**arguments)


@pytest.mark.parametrize("labels", [[10], [-1], [[1]], [0.5], ["1"]], ids=str)
def test_draw_refuses_labels_that_are_no_digits(labels):
    with pytest.raises(ValueError, match=r"labels to be integers from 0 to 9, of shape \(N,\)\. Received: "):
        digits.draw(labels)


@pytest.fixture
def one_thread():
    """So little work is done sooner by one thread, above all on a busy machine."""
    threads = tinyconv.get_num_threads()
    tinyconv.set_num_threads(1)
    yield
    tinyconv.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_network_learns_them_but_not_at_once():
    (x, y), (x_test, y_test) = digits.load_data(2000, 500)
    model = Sequential([
        layers.Input((28, 28, 1)), layers.Rescaling(1 / 255), layers.Conv2D(8, 5, activation="relu"),
        layers.MaxPooling2D(2), layers.Conv2D(16, 5, activation="relu"), layers.MaxPooling2D(2),
        layers.Flatten(), layers.Dense(10, activation="softmax")], seed=1)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=32, epochs=1, verbose=0)
    assert 0.3 < model.evaluate(x_test, y_test, verbose=0)[1] < 0.97
    model.fit(x, y, batch_size=32, epochs=9, verbose=0)
    assert model.evaluate(x_test, y_test, verbose=0)[1] > 0.93
