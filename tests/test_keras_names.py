"""What scripts for Keras ask for besides layers and training: pictures, data sets by number, the backend."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from PIL import Image

import tinyconv
from tinyconv import Sequential, backend, layers, models, optimizers, saving, utils

X = np.random.default_rng(0).random((12, 3)).astype(np.float32)
Y = np.eye(2, dtype=np.float32)[np.arange(12) % 2]


def small_model() -> Sequential:
    model = Sequential([layers.Dense(2, activation="softmax", input_shape=(3,))], seed=1)
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


class Numbered(utils.PyDataset):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.begun, self.ended = 0, 0

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return X[4 * index:4 * index + 4], Y[4 * index:4 * index + 4]

    def on_epoch_begin(self):
        self.begun += 1

    def on_epoch_end(self):
        self.ended += 1


def test_a_py_dataset_trains_a_model():
    data, ours, theirs = Numbered(workers=2), small_model(), small_model()
    history = ours.fit(data, epochs=2, shuffle=False, verbose=0)
    theirs.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    assert (data.begun, data.ended, data.num_batches, len(history.epoch)) == (2, 2, 3, 2)
    np.testing.assert_array_equal(ours.get_weights()[0], theirs.get_weights()[0])
    assert ours.predict(data).shape == (12, 2)
    assert utils.Sequence is utils.PyDataset
    for call in (lambda: len(utils.PyDataset()), lambda: utils.PyDataset()[0]):
        with pytest.raises(TypeError, match="define `__"):
            call()


def test_pictures_become_arrays_and_pictures_again(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.float32)
    pixels[0, 0], pixels[0, 1] = 0, 255
    path = tmp_path / "picture.png"
    utils.save_img(path, pixels)
    picture = utils.load_img(path)
    np.testing.assert_array_equal(utils.img_to_array(picture), pixels)
    np.testing.assert_array_equal(utils.img_to_array(picture, "channels_first"), pixels.transpose(2, 0, 1))
    picture = utils.array_to_img(pixels.transpose(2, 0, 1), "channels_first")
    np.testing.assert_array_equal(utils.img_to_array(picture), pixels)
    assert utils.img_to_array(picture, dtype="uint8").dtype == np.uint8
    gray = utils.load_img(path, color_mode="grayscale", target_size=(4, 6), interpolation="bilinear")
    assert (gray.mode, gray.size) == ("L", (6, 4)) and utils.img_to_array(gray).shape == (4, 6, 1)
    square = utils.load_img(path, target_size=(5, 5), keep_aspect_ratio=True)
    np.testing.assert_array_equal(utils.img_to_array(square), pixels[:, 1:6])


def test_array_to_img_scales_as_keras_does():
    assert np.asarray(utils.array_to_img(np.array([[[1.0], [3.0]]]))).tolist() == [[0, 255]]
    assert np.asarray(utils.array_to_img(np.zeros((1, 2, 1)))).tolist() == [[0, 0]]
    large = utils.array_to_img(np.array([[[10.0], [300.0]]]), scale=False)
    assert large.mode == "I" and np.asarray(large).tolist() == [[10, 300]]
    for seed in range(50):  # the largest is 255, not what rounds to more
        assert utils.array_to_img(np.random.default_rng(seed).random((2, 2, 1))).mode == "L"
    assert [utils.array_to_img(np.ones((2, 3, n))).mode for n in (1, 3, 4)] == ["L", "RGB", "RGBA"]


@pytest.mark.parametrize("call", [
    lambda path: utils.load_img(path, color_mode="hsv"), lambda path: utils.load_img(path, interpolation="fast"),
    lambda path: utils.load_img(path, target_size=5), lambda path: utils.load_img(path, target_size=(0, 5)),
    lambda path: utils.array_to_img(np.ones((2, 2))), lambda path: utils.array_to_img(np.ones((2, 2, 2))),
    lambda path: utils.img_to_array(np.ones(2)), lambda path: utils.img_to_array(np.ones((2, 2)), "last"),
    lambda path: utils.load_img(path.with_suffix(".txt")),
])
def test_pictures_refuse_what_they_cannot(call, tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (3, 2)).save(path)
    path.with_suffix(".txt").write_text("no picture")
    with pytest.raises(ValueError, match="Received: "):
        call(path)


def test_the_backend_answers():
    found = backend.backend(), backend.floatx(), backend.image_data_format()
    assert found == ("tinyconv", "float32", "channels_last")
    assert backend.epsilon() == 1e-7
    backend.clear_session()
    assert layers.Dense(1).name == "dense"
    assert tinyconv.backend is backend and tinyconv.saving is saving


def test_a_learning_rate_is_a_number_that_can_be_assigned():
    optimizer = optimizers.SGD(0.5)
    rate = optimizer.learning_rate
    rate.assign(rate * 0.5)
    assert rate == 0.5 and optimizer.learning_rate == 0.25 and optimizer.learning_rate.numpy() == np.float32(0.25)
    assert type(copy.deepcopy(rate)) is float and json.dumps(rate) == "0.5"
    with pytest.raises(ValueError, match="`learning_rate`"):
        rate.assign(-1.0)
    with pytest.raises(TypeError, match="a schedule's cannot be set"):
        optimizers.SGD(optimizers.schedules.ExponentialDecay(0.5, 10, 0.5)).learning_rate.assign(0.1)


def test_saving_has_the_functions_of_keras(tmp_path):
    model = small_model()
    model.fit(X, Y, verbose=0)
    saving.save_model(model, tmp_path / "model")
    saving.save_weights(model, tmp_path / "weights.npz")
    whole, bare = saving.load_model(tmp_path / "model"), saving.load_model(tmp_path / "model", compile=False)
    assert whole.optimizer.iterations == 1 and whole.compiled
    assert bare.optimizer is None and not bare.compiled and bare.loss is None and bare.get_compile_config() is None
    np.testing.assert_array_equal(bare.predict(X), model.predict(X))
    bare.compile("sgd", "mse")
    bare.fit(X, Y, verbose=0)
    saving.load_weights(bare, tmp_path / "weights.npz")
    np.testing.assert_array_equal(bare.predict(X), model.predict(X))
    assert models.load_model(tmp_path / "model", {}, safe_mode=False).built
    with pytest.raises(ValueError, match="custom_objects to be None. Received: .'f'."):
        saving.load_model(tmp_path / "model", custom_objects={"f": 1})
