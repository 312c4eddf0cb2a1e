"""What scripts for Keras ask for besides layers and training: pictures, data sets by number, the backend."""

from __future__ import annotations

import copy
import functools
import importlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tinyconv
from tinyconv import Sequential, backend, layers, losses, metrics, models, optimizers, preprocessing, saving, utils

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
    with pytest.raises(ValueError, match="Expected learning_rate"):
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


ALTERNATIVES = [
    ("layers", "Lambda", "compose the layers"), ("layers", "Conv3D", "other networks"), ("layers", "LSTM", "Conv1D"),
    ("layers", "Concatenate", "one row"), ("layers", "LayerNormalization", "BatchNormalization"),
    ("layers", "RandomHue", "generator"), ("layers", "RandomCrop", "CenterCrop"),
    ("models", "Model", "Sequential"),
    ("utils", "plot_model", "summary"), ("utils", "np_utils", "to_categorical"), ("utils", "get_file", "urlretrieve"),
    ("datasets", "cifar10", "datasets.read"), ("datasets", "fashion_mnist", "IDX"),
    ("preprocessing.image", "ImageDataGenerator", "RandomFlip"), ("backend", "function", "Sequential"),
    ("backend", "image_dim_ordering", "image_data_format"), ("backend", "mean", "NumPy"),
    ("", "Model", "Sequential"), ("", "wrappers", "sklearn"),
]


@pytest.mark.parametrize(("module", "name", "alternative"), ALTERNATIVES, ids=lambda value: value or "tinyconv")
def test_name_that_is_left_out_says_what_there_is(module, name, alternative):
    path = f"tinyconv.{module}".rstrip(".")
    found = importlib.import_module(path)
    with pytest.raises(AttributeError, match=f"^{path} has no '{name}': .*{alternative}.*keras.md") as error:
        getattr(found, name)
    assert "\n" not in str(error.value) and name not in dir(found) and not hasattr(found, name)
    page = (Path(__file__).parent.parent / "docs" / "keras.md").read_text(encoding="utf-8")
    assert {"LSTM": "recurrent layers", "Conv3D": "3-D layers", "mean": "functions of tensors",
            "function": "`backend.function`", "wrappers": "`keras.wrappers`"}.get(name, f"`{name}`") in page


def test_import_statement_shows_the_message():
    with pytest.raises(ImportError, match="^tinyconv.layers has no 'Lambda': "):
        from tinyconv.layers import Lambda  # noqa: F401
    with pytest.raises(ImportError, match="^tinyconv.utils has no 'plot_model': "):
        from tinyconv.utils import plot_model  # noqa: F401
    with pytest.raises(ImportError, match="^tinyconv has no 'Model': "):
        from tinyconv import Model  # noqa: F401


@pytest.mark.parametrize("module", ["", *{module: None for module, _, _ in ALTERNATIVES if module}])
def test_name_that_nobody_has_is_an_attribute_error(module):
    found = importlib.import_module(f"tinyconv.{module}".rstrip("."))
    assert not hasattr(found, "no_such_name")


def test_attributes_of_older_keras_say_what_there_is():
    model = small_model()
    for name, alternative in {"fit_generator": "fit takes", "predict_classes": "argmax", "predict_proba": "predict",
                              "to_yaml": "to_json"}.items():
        assert not hasattr(model, name)
        with pytest.raises(AttributeError, match=f"'Sequential' object has no attribute '{name}': .*{alternative}"):
            getattr(model, name)
    with pytest.raises(AttributeError, match="'Adam' object has no attribute 'lr': its name is learning_rate"):
        _ = model.optimizer.lr
    with pytest.raises(AttributeError, match="^'Adam' object has no attribute 'rate'$"):
        _ = model.optimizer.rate
    assert copy.deepcopy(model.optimizer).learning_rate == model.optimizer.learning_rate


@pytest.mark.parametrize(("call", "message"), [
    (lambda: layers.Conv2D(8, 3, border_mode="same"), "border_mode='same' (Keras 1's name of padding)"),
    (lambda: layers.Conv2D(8, 3, subsample=2), "subsample=2 (Keras 1's name of strides)"),
    (lambda: layers.Dense(8, init="normal"), "init='normal' (Keras 1's name of kernel_initializer)"),
    (lambda: layers.Dense(8, initializer="normal"), "initializer='normal'"),
])
def test_arguments_of_keras_1_say_their_names(call, message):
    with pytest.raises(TypeError, match=re.escape(f"unexpected argument. Received: {message}") + "$"):
        call()


def test_backend_takes_the_settings_that_it_has_alone():
    backend.set_floatx("float32"), backend.set_epsilon(1e-7), backend.set_image_data_format("channels_last")
    for call, value in ((backend.set_floatx, "float16"), (backend.set_epsilon, 1e-3)):
        with pytest.raises(ValueError, match=f"Expected value to be .*Received: value={value!r}"):
            call(value)
    with pytest.raises(ValueError, match="Expected data_format to be 'channels_last'.*layers take data_format="):
        backend.set_image_data_format("channels_first")


@pytest.mark.parametrize(("old", "new"), losses.KERAS_2_NAMES.items())
def test_losses_of_keras_2_go_by_their_old_names(old, new):
    assert getattr(losses, old) is getattr(losses, new)
    assert type(losses.get(old)) is type(losses.get(new))
    model = small_model()
    model.compile("adam", old)
    assert model.loss == new and model.get_compile_config()["loss"] == new


@pytest.mark.parametrize("call", [
    lambda f: layers.Dense(2, activation=f), lambda f: layers.Dense(2, kernel_initializer=f),
    lambda f: layers.Dense(2, kernel_regularizer=f), lambda f: layers.Dense(2, kernel_constraint=f),
    lambda f: Sequential([layers.Dense(2)]).compile("adam", f),
    lambda f: Sequential([layers.Dense(2)]).compile(f, "mse"),
], ids=["activation", "initializer", "regularizer", "constraint", "loss", "optimizer"])
def test_function_of_ones_own_is_refused_with_the_reason(call):
    def own(*arguments):
        return arguments[0]

    with pytest.raises(ValueError, match="takes no function of one's own. Expected one of .*Received: <function"):
        call(own)


def test_preprocessing_has_the_pictures_under_their_other_name():
    assert preprocessing.image.load_img is utils.load_img
    assert preprocessing.image_dataset_from_directory is utils.image_dataset_from_directory
    for name in ("Layer", "Loss", "Metric", "Optimizer", "Initializer", "Regularizer"):
        assert issubclass(getattr(tinyconv, name), object)


@pytest.mark.parametrize(("base", "method"), [
    (layers.Layer, "call"), (layers.Conv2D, "call"), (Sequential, "call"), (Sequential, "train_step"),
])
def test_method_that_nothing_would_call_is_refused(base, method):
    with pytest.raises(TypeError, match=f"{base.__name__} without a method `{method}`.*Received: Mine$"):
        type("Mine", (base,), {method: lambda self, x: x})
    assert issubclass(type("Mine", (base,), {"helper": lambda self: 1}), base)


def test_metrics_of_ones_own_have_the_names_of_keras():
    """As Keras 3.15 names them: in snake case, without what is no letter."""
    def myTop3(y_true, y_pred):
        return np.zeros(len(y_pred))

    class Distance:
        def __call__(self, y_true, y_pred):
            return np.zeros(len(y_pred))

    model = small_model()
    model.compile("sgd", "categorical_crossentropy", metrics=[myTop3, Distance(), functools.partial(myTop3),
                                                              lambda y_true, y_pred: np.zeros(len(y_pred))])
    assert list(model.fit(X, Y, verbose=0).history) == ["distance", "lambda", "loss", "my_top3", "partial"]
    named = functools.partial(myTop3)
    named.name = "third"
    assert metrics.get(named).name == "third"
