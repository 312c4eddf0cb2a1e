"""Keras' files: written and read back, the front door, real files; with Keras itself: tests/parity."""

from __future__ import annotations

import json
import sys
import warnings
import zipfile

import numpy as np
import pytest
from formats_cases import OPTIMIZERS, data, same_bits, small_model

from tinyconv import Sequential, layers, load_model, optimizers
from tinyconv.callbacks import BackupAndRestore, ModelCheckpoint
from tinyconv.formats import FormatError, save_model
from tinyconv.image_input import ImageInput

h5py = pytest.importorskip("h5py", reason="the extra [keras] is not installed")

FILES = [("model.keras", None), ("model.h5", None), ("model.hdf5", "keras2")]
files = pytest.mark.parametrize(("name", "dialect"), FILES, ids=["keras", "h5", "h5-keras2"])


def trained(optimizer: object = "adam", epochs: int = 2) -> Sequential:
    model = small_model()
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
    model.fit(*data(), batch_size=8, epochs=epochs, verbose=0)
    return model


@files
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_training_goes_on_bit_for_bit(make, name, dialect, tmp_path):
    model = trained(make())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras 2 does not have all settings
        model.save(tmp_path / name, dialect=dialect)
    again = load_model(tmp_path / name)
    assert same_bits(model, again)
    assert again.get_compile_config() == model.get_compile_config()
    for each in (model, again):
        each.fit(*data(), batch_size=8, epochs=2, verbose=0)
    assert same_bits(model, again)


def test_keras_2_gets_settings_that_it_has_and_the_state_in_its_order(tmp_path):
    model = Sequential([
        layers.Input((8, 4)), layers.ZeroPadding1D(2), layers.Reshape((12, 4, 1)), layers.Resizing(4, 4),
        layers.CenterCrop(3, 3), layers.RandomFlip(), layers.RandomRotation(0.1), layers.RandomZoom(0.1),
        layers.RandomTranslation(0.1, 0.1), layers.RandomBrightness(0.1), layers.RandomContrast(0.1), layers.Flatten(),
        layers.Dense(2, name="d"),
    ])
    model.compile(optimizers.AdamW(0.01, amsgrad=True), "mse")
    model.fit(np.ones((4, 8, 4)), np.ones((4, 2)), verbose=0)
    model.save(tmp_path / "m.h5", dialect="keras2")
    with h5py.File(tmp_path / "m.h5") as file:
        config, training = (json.loads(file.attrs[name]) for name in ("model_config", "training_config"))
        names = [name.decode() for name in file["optimizer_weights"].attrs["weight_names"]]
    settings = {entry["class_name"]: entry["config"].keys() for entry in config["config"]["layers"]}
    assert settings["ZeroPadding1D"] == {"name", "trainable", "padding", "dtype"}
    assert settings["Resizing"] == {"name", "trainable", "dtype", "height", "width", "interpolation",
                                    "crop_to_aspect_ratio"}
    for name in ("CenterCrop", "RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomBrightness",
                 "RandomContrast"):
        assert "data_format" not in settings[name]
    assert "value_range" in settings["RandomBrightness"] and "value_range" not in settings["RandomContrast"]
    # As Keras 2.15 does: it would take the optimizer for one of before 2.11.
    assert training["optimizer_config"]["config"]["is_legacy_optimizer"] is False
    assert names == ["iteration:0", "AdamW/m/d/kernel:0", "AdamW/v/d/kernel:0", "AdamW/m/d/bias:0", "AdamW/v/d/bias:0",
                     "AdamW/vhat/d/kernel:0", "AdamW/vhat/d/bias:0"]
    assert load_model(tmp_path / "m.h5").optimizer.iterations == 1


@pytest.mark.parametrize(("version", "factor"), [("2.15.0", [0.3, 0.3]), ("3.15.1", [0.0, 0.3])])
def test_one_factor_of_contrast_is_read_as_its_keras_takes_it(version, factor, tmp_path):
    Sequential([layers.Input((4, 4, 1)), layers.RandomContrast((0.3, 0.3), name="c")]).save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "a") as file:
        del file.attrs["tinyconv"]
        config = json.loads(file.attrs["model_config"])
        [entry] = [entry for entry in config["config"]["layers"] if entry["class_name"] == "RandomContrast"]
        entry["config"]["factor"] = 0.3
        file.attrs["model_config"], file.attrs["keras_version"] = json.dumps(config), version
    assert load_model(tmp_path / "m.h5").get_layer("c").get_config()["factor"] == factor


@pytest.mark.parametrize(("layer", "setting"), [
    (layers.ZeroPadding1D(1, data_format="channels_first"), "data_format='channels_first'"),
    (layers.Resizing(2, 2, antialias=True, input_shape=(4, 4, 1)), "antialias=True"),
    (layers.CenterCrop(2, 2, data_format="channels_first", input_shape=(1, 4, 4)), "data_format='channels_first'"),
], ids=["padding", "resizing", "crop"])
def test_settings_that_keras_2_lacks_are_said(layer, setting, tmp_path):
    model = Sequential([layer])
    model.build((None, *(layer.batch_input_shape or (None, 4, 4))[1:]))
    with pytest.warns(UserWarning, match=f"Keras 2 will refuse this model, it has no {setting} of '{layer.name}'"):
        model.save(tmp_path / "m.h5", dialect="keras2")
    assert load_model(tmp_path / "m.h5").layers[0].get_config() == {
        **layer.get_config(), "batch_input_shape": list(model.input_shape)}


@files
def test_configuration_survives(name, dialect, tmp_path):
    model = Sequential([
        layers.Input((8, 8, 2), name="given"), layers.Rescaling(0.5), layers.RandomFlip("horizontal", seed=3),
        layers.Conv2D(4, 3, groups=2, kernel_regularizer="l1_l2", kernel_constraint="max_norm", trainable=False),
        layers.BatchNormalization(), layers.LeakyReLU(0.1), layers.SeparableConv2D(3, 3, activation=layers.ELU(0.5)),
        layers.DepthwiseConv2D(2), layers.GlobalAveragePooling2D(keepdims=True), layers.Reshape((-1,)),
        layers.Dense(3, activation="gelu", kernel_initializer="he_uniform"),
    ], name="mine", seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras 2 does not have layers as activations
        model.save(tmp_path / name, dialect=dialect)
    again = load_model(tmp_path / name)
    assert again.name == "mine"
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    assert same_bits(model, again)
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 2)).astype(np.float32)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    np.testing.assert_array_equal([w.trainable for layer in again.layers for w in layer.weights],
                                  [w.trainable for layer in model.layers for w in layer.weights])
    assert not again.layers[2].trainable


@files
@pytest.mark.parametrize("include_optimizer", [True, False])
def test_class_names_and_image_input_survive(include_optimizer, name, dialect, tmp_path):
    model = trained()
    model.class_names = ["cat", "Hund", "猫"]
    model.image_input = ImageInput("content", True, 0.2, 1 / 255, -0.5)
    save_model(model, tmp_path / name, include_optimizer, dialect)
    again = load_model(tmp_path / name)
    assert again.class_names == model.class_names
    assert again.image_input == model.image_input
    assert same_bits(model, again)
    model.class_names = ["a", "a"]
    with pytest.raises(ValueError, match="class"):
        model.save(tmp_path / name, dialect=dialect)


@pytest.mark.parametrize(("entry", "value"), [("class_names", ["a", "a"]), ("image_input", {"run": "rm"})])
def test_damaged_metadata_is_refused(entry, value, tmp_path):
    trained().save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        own = json.loads(file.attrs["tinyconv"])
        del own["sha256"]
        file.attrs["tinyconv"] = json.dumps({**own, entry: value})
    with pytest.raises(FormatError, match="tinyconv: .*xpected"):
        load_model(tmp_path / "m.h5")


def test_a_model_that_is_not_compiled_stays_so(tmp_path):
    for name, _ in FILES:
        small_model().save(tmp_path / name)
        assert load_model(tmp_path / name).optimizer is None


@files
@pytest.mark.parametrize("make", [OPTIMIZERS["rmsprop"], OPTIMIZERS["ema"]], ids=["rmsprop", "ema"])
def test_state_of_layers_frozen_in_the_midst_is_kept(make, name, dialect, tmp_path):
    model = trained(make())
    model.layers[0].trainable = False
    model.fit(*data(), batch_size=8, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras 2 does not have all settings
        model.save(tmp_path / name, dialect=dialect)
    again = load_model(tmp_path / name)
    for trainable in (False, True):
        for each in (model, again):
            each.layers[0].trainable = trainable
            each.fit(*data(), batch_size=8, verbose=0)
        assert same_bits(model, again)


@pytest.mark.parametrize("names", [["0/nonsense", "1/velocity"], ["99/velocity", "1/velocity"], ["x/velocity",
"1/velocity"],
                                   ["0/velocity", "0/velocity"], ["1/velocity", "0/velocity"], []], ids=str)
def test_damaged_state_of_frozen_layers_is_refused(names, tmp_path):
    model = trained(optimizers.RMSprop())
    model.layers[0].trainable = False
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    (tmp_path / "w.h5").write_bytes(parts["model.weights.h5"])
    with h5py.File(tmp_path / "w.h5", "r+") as file:
        assert list(file["tinyconv"].attrs["weight_names"]) == [b"0/velocity", b"1/velocity"]
        file["tinyconv"].attrs["weight_names"] = np.array(names, "S") if names else np.zeros(3)
    parts["model.weights.h5"] = (tmp_path / "w.h5").read_bytes()
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    with pytest.raises(FormatError, match="expected .* Received: "):
        load_model(tmp_path / "model.keras")


def test_frozen_layers_have_no_state(tmp_path):
    model = trained()
    model.layers[0].trainable = False
    model.compile("adam", "categorical_crossentropy")
    model.fit(*data(), verbose=0)
    model.save(tmp_path / "model.keras")
    again = load_model(tmp_path / "model.keras")
    for each in (model, again):
        each.fit(*data(), verbose=0)
    assert same_bits(model, again)


def test_settings_that_keras_lacks_are_kept_with_a_warning(tmp_path):
    model = trained(optimizers.Adam(optimizers.schedules.OneCycle(0.01, 10)))
    for name in ("model.keras", "model.h5"):
        with pytest.warns(UserWarning, match="Keras will load this model uncompiled"):
            model.save(tmp_path / name)
        assert load_model(tmp_path / name).get_compile_config() == model.get_compile_config()
    with pytest.warns(UserWarning, match="Keras 2 will refuse this model, it has no activation hard_silu of"):
        Sequential([layers.Activation("hard_silu", input_shape=(3,))]).save(tmp_path / "model.h5", dialect="keras2")


def test_only_the_new_file_or_the_old_one_is_there(tmp_path, monkeypatch):
    first, second = small_model(1), small_model(2)
    first.save(tmp_path / "model.keras")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("tinyconv.formats.store.os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        second.save(tmp_path / "model.keras")
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]
    assert same_bits(load_model(tmp_path / "model.keras"), first)


# --- the front door ---

def test_content_tells_the_format(tmp_path):
    model = small_model()
    model.save(tmp_path / "model.keras")
    model.save(tmp_path / "model.h5")
    for name in ("model.keras", "model.h5"):
        (tmp_path / name).rename(tmp_path / f"{name}.bak")
        assert same_bits(load_model(tmp_path / f"{name}.bak"), model)
    model.save(tmp_path / "folder")
    assert same_bits(load_model(tmp_path / "folder" / "model.json"), model)


def test_weights_alone_are_refused_with_a_hint(tmp_path):
    model = small_model()
    for name in ("w.npz", "w.weights.h5"):
        model.save_weights(tmp_path / name)
        with pytest.raises(FormatError, match="load_weights"):
            load_model(tmp_path / name)


@pytest.mark.parametrize("name", ["m.json", "m.pb", "m.pt", "m.weights.h5", "m.zip"])
def test_other_names_are_refused_for_models(name, tmp_path):
    with pytest.raises(ValueError, match=r"save_model expected"):
        small_model().save(tmp_path / name)


def test_dialects_are_checked(tmp_path):
    with pytest.raises(ValueError, match="'keras3' for a .keras file"):
        small_model().save(tmp_path / "m.keras", dialect="keras2")
    with pytest.raises(ValueError, match="one of"):
        small_model().save(tmp_path / "m.h5", dialect="keras9")
    with pytest.raises(ValueError, match="dialect to be None or 'tinyconv' for a folder"):
        save_model(small_model(), tmp_path / "m", dialect="keras2")


def test_nothing_is_overwritten_unasked(tmp_path):
    small_model().save(tmp_path / "m.keras")
    with pytest.raises(FileExistsError):
        small_model().save(tmp_path / "m.keras", overwrite=False)
    small_model().save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(FileExistsError):
        small_model().save_weights(tmp_path / "m.weights.h5", overwrite=False)


def test_missing_extra_says_what_to_install(tmp_path, monkeypatch):
    small_model().save(tmp_path / "m.keras")
    monkeypatch.setitem(sys.modules, "h5py", None)
    for call in (lambda: small_model().save(tmp_path / "n.h5"), lambda: load_model(tmp_path / "m.keras"),
                 lambda: small_model().save_weights(tmp_path / "n.weights.h5")):
        with pytest.raises(ImportError, match=r"pip install 'tinyconv\[keras\]'"):
            call()


@pytest.mark.parametrize("name", ["a.weights.h5", "a.keras", "a.h5"])
def test_weights_of_any_file_load(name, tmp_path):
    model, other = small_model(1), small_model(2)
    (model.save_weights if ".weights." in name else model.save)(tmp_path / name)
    other.load_weights(tmp_path / name)
    assert same_bits(model, other)
    wrong = Sequential([layers.Dense(3, input_shape=(4,)), layers.Dense(2)], seed=1)
    before = wrong.get_weights()
    with pytest.raises(FormatError, match="expected"):
        wrong.load_weights(tmp_path / name)
    assert all(np.array_equal(a, b) for a, b in zip(before, wrong.get_weights(), strict=True))


@pytest.mark.parametrize("suffix", ["keras", "h5", "weights.h5"])
def test_checkpoints_write_keras_files(suffix, tmp_path):
    model = small_model()
    model.compile("sgd", "categorical_crossentropy")
    path = tmp_path / f"at-{{epoch}}.{suffix}"
    model.fit(*data(), epochs=2, verbose=0,
              callbacks=[ModelCheckpoint(path, save_weights_only=suffix == "weights.h5"),
                         BackupAndRestore(tmp_path / "backup.keras")])
    assert {file.name for file in tmp_path.iterdir()} == {f"at-1.{suffix}", f"at-2.{suffix}"}
    if suffix != "weights.h5":
        assert same_bits(load_model(tmp_path / f"at-2.{suffix}"), model)


# --- real files ---

@pytest.mark.parametrize(("name", "accuracy"), [
    ("Jhas876622-mnist_cnn.h5", 0.994), ("Jhas876622-mnist_cnn.keras", 0.994), ("sipeed-mnist_same.h5", 0.944),
    ("sipeed-mnist_dw.h5", 0.91), ("07subhadip-Subhadip_Hensh_MNIST_CNN.keras", 0.988),
])
def test_real_digit_models_have_their_accuracy(name, accuracy, data_folder):
    from PIL import Image

    path = data_folder / "models" / "keras" / name
    if not path.is_file():
        pytest.skip(f"no data: {path} is not there")
    model = load_model(path)
    with Image.open(data_folder / "mnist" / "mnist_images.png") as sprite:
        x = np.asarray(sprite.crop((0, 55000, 784, 55500))).reshape(500, 28, 28, 1).astype(np.float32) / 255
    labels = np.fromfile(data_folder / "mnist" / "mnist_labels_uint8", np.uint8).reshape(-1, 10)[55000:55500]
    assert abs((model.predict(x).argmax(1) == labels.argmax(1)).mean() - accuracy) <= 0.005
    if model.optimizer is not None:
        assert model.optimizer.iterations > 0
        y = labels[:32] if "sparse" not in str(model.get_compile_config()["loss"]) else labels[:32].argmax(1)
        assert np.isfinite(model.fit(x[:32], y, verbose=0).history["loss"][0])


def test_real_model_is_the_same_in_keras_and_tensorflow_js(data_folder):
    path = data_folder / "models" / "keras" / "raymond-van-qd_classifier.h5"
    if not path.is_file():
        pytest.skip(f"no data: {path} is not there")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, other = load_model(path), load_model(data_folder / "models" / "tfjs" / "raymondvan-50")
    assert same_bits(one, other)


def test_keras_file_is_a_plain_zip(tmp_path):
    small_model().save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        assert archive.namelist() == ["metadata.json", "config.json", "model.weights.h5"]
