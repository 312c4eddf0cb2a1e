"""Pictures as inputs: the settings, what is stored with a model, and what `predict` and `evaluate` make of it."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image, ImageDraw

import tinyconv
from tinyconv import ImageInput, Sequential, cli, cli_data, cli_predict, datasets, image, layers
from tinyconv.formats import FormatError

pytestmark = pytest.mark.once


def drawing(side=60, paper=255, ink=0):
    """A line drawing, (side, side, 1), off the middle."""
    picture = Image.new("L", (side, side), paper)
    ImageDraw.Draw(picture).line((side // 4, side // 6, side // 2, side * 5 // 6), fill=ink, width=4)
    return np.asarray(picture)[..., None]


# --- settings ---


@pytest.mark.parametrize("fit", ["stretch", "content", "mnist"])
def test_dark_drawings_become_what_bright_ones_do(fit):
    settings = ImageInput(fit)
    found = settings(drawing(), (28, 28, 1))
    assert (found.shape, found.dtype) == ((28, 28, 1), np.float32)
    np.testing.assert_array_equal(found, settings(drawing(paper=0, ink=255), (28, 28, 1)))
    assert found[0].max() == 0
    if fit == "stretch":
        np.testing.assert_allclose(255 - found, ImageInput(fit, invert=False)(drawing(), (28, 28, 1)), atol=1e-4)


def test_fits_are_those_of_the_image_functions():
    bright = drawing(paper=0, ink=255)
    np.testing.assert_array_equal(ImageInput("mnist")(bright, (28, 28, 1)),
                                  image.stretch_levels(image.fit_by_mass(bright)))
    np.testing.assert_array_equal(ImageInput("content", margin=0.1)(bright, (14, 14, 1)),
                                  image.stretch_levels(image.resize_area(image.crop_to_content(bright, 0.1), 14)))
    np.testing.assert_array_equal(ImageInput()(bright, (30, 20, 1)), image.resize_area(bright, (30, 20)))
    np.testing.assert_array_equal(ImageInput()(bright, (90, 70, 1)),
                                  image.resize_bilinear(bright, (90, 70), half_pixel_centers=True))


def test_photographs_of_drawings_become_what_scans_do():
    """Paper in uneven light, grain, and a pale pencil; a line that reaches the border."""
    lines = drawing(240, paper=0, ink=1)[..., 0].astype(float)
    lines[:3, 40:90] = 1
    paper = 150 + np.linspace(0, 60, 240) + np.linspace(-15, 15, 240)[:, None]
    grain = np.random.default_rng(0).normal(0, 1, (240, 240))
    photograph = np.rint(paper * (1 - 0.4 * lines) + grain).astype(np.uint8)[..., None]
    scan = np.rint(255 * (1 - lines)).astype(np.uint8)[..., None]
    found, expected = (ImageInput("content")(picture, (28, 28, 1)) for picture in (photograph, scan))
    assert np.abs(found - expected).mean() < 4


def test_large_photographs_lose_their_grain():
    lines = np.kron(drawing(60, paper=0, ink=1)[..., 0], np.ones((20, 20)))
    grain = np.random.default_rng(0).normal(0, 12, lines.shape)
    photograph = np.clip(180 - 90 * lines + grain, 0, 255).astype(np.uint8)[..., None]
    expected = ImageInput("content")(drawing(), (28, 28, 1))
    assert np.abs(ImageInput("content")(photograph, (28, 28, 1)) - expected).mean() < 8


def test_pictures_of_the_inputs_size_stay_as_they_are():
    sample = drawing(28, paper=0, ink=255)
    for fit in ("stretch", "content", "mnist"):
        np.testing.assert_array_equal(ImageInput(fit, scale=1 / 255)(sample, (28, 28, 1)) * 255, sample)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures_of_any_channels_become_inputs_of_any(channels):
    picture = np.zeros((5, 5, channels), np.uint8)
    picture[..., 0] = 100
    picture[..., 3:] = 255
    for wanted in (1, 3, 4):
        found = ImageInput(invert=False)(picture, (5, 5, wanted))
        assert found.shape == (5, 5, wanted)
        expected = 100 if wanted > 1 or channels == 1 else 30  # 0.2989 of red
        assert (found[..., 0] == expected).all()
        assert (found[..., 3:] == 255).all()
        assert (ImageInput(invert=True)(picture, (5, 5, wanted))[..., 0] == 255 - expected).all()


def test_values_are_scaled_and_shifted():
    found = ImageInput(invert=False, scale=-1 / 255, offset=1)(np.full((2, 2, 1), 255, np.uint8), (2, 2, 1))
    np.testing.assert_allclose(found, 0, atol=1e-7)


@pytest.mark.parametrize("config", [
    {"fit": "crop"}, {"invert": 1}, {"invert": "yes"}, {"margin": 2}, {"scale": float("inf")}, {"offset": "0"},
    {"size": 3}, [], None,
])
def test_settings_that_are_none_are_refused(config):
    with pytest.raises(ValueError, match="Received: ") as caught:
        ImageInput.from_config(config)
    assert "\n" not in str(caught.value)


# --- stored with a model ---


def small_model(shape=(8, 8, 1), classes=3):
    return Sequential([layers.Input(shape), layers.Flatten(), layers.Dense(classes, activation="softmax")], seed=0)


def test_a_model_keeps_class_names_and_image_input(tmp_path):
    model = small_model()
    model.class_names, model.image_input = ["cat", "Hund", "猫"], ImageInput("content", True, 0.2, 1 / 255, -0.5)
    model.save(tmp_path)
    document = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    assert document["userDefinedMetadata"]["tinyconv"]["class_names"] == ["cat", "Hund", "猫"]
    loaded = tinyconv.load_model(tmp_path)
    assert loaded.class_names == ["cat", "Hund", "猫"]
    assert loaded.image_input == model.image_input
    assert Sequential().class_names is None
    assert tinyconv.load_model(tmp_path).image_input.margin == 0.2


@pytest.mark.parametrize(("name", "value"), [
    ("class_names", ["a", "a"]), ("class_names", "cat"), ("class_names", [1]), ("class_names", []),
    ("image_input", []), ("image_input", {"fit": "what"}), ("image_input", {"run": "rm"}),
    ("image_input", {"scale": "1"}), ("image_input", {"margin": None}),
])
def test_damaged_metadata_is_refused(name, value, tmp_path):
    small_model().save(tmp_path)
    path = tmp_path / "model.json"
    document = json.loads(path.read_text())
    document["userDefinedMetadata"]["tinyconv"][name] = value
    path.write_text(json.dumps(document))
    with pytest.raises(FormatError, match="userDefinedMetadata") as caught:
        tinyconv.load_model(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "value", "error"), [
    ("class_names", ["a", "a"], ValueError), ("class_names", "ab", ValueError), ("image_input", {}, TypeError),
])
def test_metadata_that_is_none_is_not_saved(name, value, error, tmp_path):
    model = small_model()
    setattr(model, name, value)
    with pytest.raises(error, match=name):
        model.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


# --- the command line ---


@pytest.fixture(scope="module")
def sketches(tmp_path_factory):
    """Bitmaps of two classes: horizontal and vertical strokes."""
    folder = tmp_path_factory.mktemp("sketches")
    random = np.random.default_rng(0)
    for name, axis in (("flat", 0), ("the tall one", 1)):
        images = np.zeros((120, 28, 28), np.uint8)
        for row in images:
            at = random.integers(8, 18)
            line = row if axis == 0 else row.T
            line[at:at + 3, 3:25] = 255
        np.save(folder / f"{name}.npy", images.reshape(-1, 784))
    return folder


@pytest.fixture(scope="module")
def trained(sketches, tmp_path_factory):
    output = tmp_path_factory.mktemp("trained")
    assert cli.main(["train", str(sketches), "--epochs", "3", "--seed", "1", "--output", str(output)]) == 0
    return output


def test_train_keeps_the_names_of_sketches_and_how_they_are_placed(trained):
    model = tinyconv.load_model(trained)
    assert model.class_names == ["flat", "the tall one"]
    assert model.image_input == ImageInput("content", "auto")


def test_predict_names_dark_drawings_of_any_size(trained, tmp_path, capsys):
    picture = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(picture).line((100, 30, 100, 170), fill="black", width=20)
    picture.save(tmp_path / "x.jpg")
    assert cli.main(["predict", str(trained), str(tmp_path / "x.jpg")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"  the tall one  0\.[5-9]", lines[1])
    assert re.match(r"          flat  0\.", lines[2])


def test_predict_turns_photographs_upright(tmp_path):
    picture = Image.new("L", (6, 4))
    picture.putpixel((0, 0), 255)
    exif = picture.getexif()
    exif[0x0112] = 6  # turned a quarter to the right to be looked at
    picture.save(tmp_path / "x.png", exif=exif)
    found = cli_predict.read_picture(str(tmp_path / "x.png"))
    assert found.shape == (6, 4, 1)
    assert found[0, 3, 0] == 255


def test_evaluate_matches_classes_by_name(trained, sketches, tmp_path, capsys):
    images = datasets.read(sketches)
    swapped = datasets.ImageSet(images.images, 1 - images.labels, images.class_names[::-1])
    datasets.write(swapped, tmp_path / "swapped", "idx")
    for data in (sketches, tmp_path / "swapped"):
        assert cli.main(["evaluate", str(trained), str(data)]) == 0
        text = capsys.readouterr().out
        assert float(re.search(r"Accuracy: ([\d.]+)", text)[1]) > 0.9
        assert "1 the tall one" in text
    datasets.write(datasets.ImageSet(images.images, images.labels, ["flat", "new"]), tmp_path / "other")
    assert cli.main(["evaluate", str(trained), str(tmp_path / "other")]) == 2
    assert "new" in capsys.readouterr().err


def test_sketches_may_be_chosen(sketches, capsys):
    images = cli_data.load_images(str(sketches), classes=["the tall one", "flat"], max_per_class=60)
    assert images.names == ["the tall one", "flat"]
    assert (len(images.x), len(images.x_test)) == (96, 24)
    assert cli.main(["train", "digits", "--classes", "cat"]) == 2
    assert "--classes" in capsys.readouterr().err


def test_sketches_held_out_are_those_of_load(sketches):
    images = cli_data.load_images(str(sketches))
    (x, y), (x_test, y_test), names = datasets.quickdraw.load(sketches)
    assert images.names == names
    for ours, theirs in ((images.x[..., 0], x), (images.y, y), (images.x_test[..., 0], x_test),
                         (images.y_test, y_test)):
        np.testing.assert_array_equal(ours, theirs)


def test_train_chooses_the_network_by_the_data(sketches, tmp_path, capsys):
    shown = {}
    for name, options in (("sketch", []), ("digits", ["--network", "digits"])):
        assert cli.main(["train", str(sketches), "--limit", "40", "--output", str(tmp_path / name), *options]) == 0
        shown[name] = capsys.readouterr().out
    assert [tinyconv.load_model(tmp_path / name).count_params() for name in shown] == [97_410, 3_938]
    assert "Epoch 5/5\n1/1 " in shown["sketch"]
    assert "Epoch 4/4\n1/1 " in shown["digits"]
    assert cli.main(["train", str(sketches / "flat.npy"), "--output", str(tmp_path / "one")]) == 2
    assert "at least 2 classes" in capsys.readouterr().err


def test_train_and_evaluate_say_how_often_the_class_is_among_five(sketches, tmp_path, capsys):
    images = datasets.read(sketches)
    labels = np.arange(len(images)) % 7
    datasets.write(datasets.ImageSet(images.images, labels), tmp_path / "data", "idx")
    assert cli.main(["train", str(tmp_path / "data"), "--network", "sketch", "--epochs", "1", "--seed", "1",
                     "--output", str(tmp_path / "model")]) == 0
    trained = re.search(r"^Held-out images: loss [\d.]+, accuracy ([\d.]+), top-5 ([\d.]+)$",
                        capsys.readouterr().out, re.MULTILINE).groups()
    assert cli.main(["evaluate", str(tmp_path / "model"), str(tmp_path / "data")]) == 0
    text = capsys.readouterr().out
    assert (re.search(r"^Accuracy: ([\d.]+)", text, re.MULTILINE)[1],
            re.search(r"^Top-5 accuracy: ([\d.]+)$", text, re.MULTILINE)[1]) == trained
    assert float(trained[1]) > 0.5  # chance: 5 of 7


def test_quickdraw_means_the_sketches_of_the_cache(sketches, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TINYCONV_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "quickdraw"]) == 2
    assert "classes" in capsys.readouterr().err
    (tmp_path / "cache" / "quickdraw").mkdir(parents=True)
    monkeypatch.setenv("TINYCONV_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "quickdraw" / "flat.npy").write_bytes((sketches / "flat.npy").read_bytes())
    images = cli_data.load_images("quickdraw", classes=["flat"])
    assert (images.names, len(images.x), images.kind) == (["flat"], 96, "sketches")


def test_settings_come_from_options_then_the_model_then_its_layers():
    def settings(model, *options):
        return cli_predict.input_settings(model, cli._parser().parse_args(["predict", "M", "I", *options]))

    model = small_model()
    assert settings(model) == ImageInput(scale=1 / 255)
    assert settings(model, "--raw", "--no-invert", "--fit", "mnist") == ImageInput("mnist", False)
    model.image_input = ImageInput("content", True, scale=2)
    assert settings(model) == model.image_input
    assert settings(model, "--fit", "stretch") == ImageInput("stretch", True, scale=2)
    rescaling = Sequential([layers.Input((8, 8, 1)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(2)])
    assert settings(rescaling) == ImageInput()


def test_names_beside_a_model_are_used_where_they_fit(tmp_path):
    model = small_model()
    model.save(tmp_path)
    assert cli_predict.class_names(model, str(tmp_path), 3) == ["0", "1", "2"]
    (tmp_path / "class_names.txt").write_text("a\nb\nc\n")
    assert cli_predict.class_names(model, str(tmp_path / "model.json"), 3) == ["a", "b", "c"]
    (tmp_path / "class_names.txt").write_text("a\nb\n")
    assert cli_predict.class_names(model, str(tmp_path), 3) == ["0", "1", "2"]
    model.class_names = ["x", "y", "z"]
    assert cli_predict.class_names(model, str(tmp_path), 3) == ["x", "y", "z"]


def test_a_real_sketch_model_names_real_sketches(data_folder, tmp_path, capsys):
    model = data_folder / "models" / "tfjs" / "zaid-sketcher-100"
    if not model.is_dir() or not (data_folder / "quickdraw" / "umbrella.npy").is_file():
        pytest.skip("no zaid-sketcher-100 or no quickdraw/umbrella.npy in the data folder")
    sketches = np.load(data_folder / "quickdraw" / "umbrella.npy")[:20].reshape(-1, 28, 28)
    paths = [str(tmp_path / f"{i}.png") for i in range(20)]
    for path, sketch in zip(paths, sketches, strict=True):  # dark on white, enlarged: as somebody draws
        Image.fromarray(255 - sketch).resize((224, 224), Image.Resampling.BICUBIC).save(path)
    assert cli.main(["predict", str(model), *paths, "--top", "1"]) == 0
    assert capsys.readouterr().out.count("umbrella") >= 14
