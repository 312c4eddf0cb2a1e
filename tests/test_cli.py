"""The command line, from training to the prediction of an image file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tinyconv
from tinyconv import ImageInput, bench, cli, cli_data, cli_networks, cli_predict, cli_train, datasets, layers


@pytest.fixture(scope="module")
def sprite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sprite of three classes that one glance tells apart: where the bright third is."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 360)
    images = random.integers(0, 90, (360, 18, 18), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[label * 6:label * 6 + 6] += 150
    folder = tmp_path_factory.mktemp("sprite")
    datasets.write_sprite(images, labels, folder)
    return folder


@pytest.fixture(scope="module")
def model(sprite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "new" / "model"
    assert cli.main(["train", str(sprite), "--epochs", "6", "--batch-size", "16", "--learning-rate", "0.003",
                     "--seed", "1", "--output", str(folder)]) == 0
    return folder


@pytest.fixture(autouse=True)
def threads_restored():
    threads = tinyconv.get_num_threads()
    yield
    tinyconv.set_num_threads(threads)


def fails(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Runs a command that must fail; returns its one line on stderr."""
    assert cli.main(list(argv)) == 2
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith("tinyconv: error: ")
    return line


@pytest.mark.parametrize(("name", "classes", "parameters"), [("digits", 10, 5994), ("sketch", 100, 110_052)])
def test_networks_have_the_parameters_of_the_tutorials(name, classes, parameters):
    network = cli_networks.NETWORKS[name]
    assert network.build((28, 28, 1), classes, seed=0).count_params() == parameters
    smallest = network.smallest
    assert network.build((smallest, smallest + 1, 3), 2, seed=0).built
    with pytest.raises(ValueError, match=f"at least {smallest}x{smallest} for {network.title}. Received: 40x"):
        network.build((40, smallest - 1, 1), 2, seed=0)


def test_train_reports_and_saves(sprite, tmp_path, capsys):
    output = tmp_path / "model"
    assert cli.main(["train", str(sprite), "--epochs", "2", "--batch-size", "32", "--optimizer", "sgd",
                     "--learning-rate", "0.1", "--seed", "4", "--threads", "1", "--limit", "90",
                     "--output", str(output)]) == 0
    text = capsys.readouterr().out
    assert f"the sprite in {sprite}; images 18x18x1 of 3 classes, 90 for training, 60 held out" in text
    assert "Total params" in text
    assert "Epoch 2/2" in text
    assert re.search(r"^Held-out images: loss \d+\.\d{4}, accuracy [01]\.\d{4}$", text, re.MULTILINE)
    assert re.search(r"^Trained in .* s: [\d,]+ images/s on 1 thread$", text, re.MULTILINE)
    assert text.endswith(f"Saved to {output}\n")
    loaded = tinyconv.load_model(output)
    assert type(loaded.optimizer).__name__ == "SGD"
    assert float(loaded.optimizer.learning_rate) == pytest.approx(0.1)  # as at the start, to train on


def test_train_with_a_seed_is_repeatable(sprite, tmp_path, capsys):
    weights = []
    for name, threads in (("first", "1"), ("second", "2")):
        assert cli.main(["train", str(sprite), "--epochs", "1", "--seed", "7", "--threads", threads,
                         "--output", str(tmp_path / name)]) == 0
        weights.append(tinyconv.load_model(tmp_path / name).get_weights())
    for first, second in zip(*weights, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.skipif(os.name != "posix", reason="pipes break otherwise elsewhere")
def test_output_that_nobody_reads_is_no_error():
    command = [sys.executable, "-P", "-m", "tinyconv", "info"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()  # before the child has written anything
        errors = process.stderr.read()
    assert (process.returncode, errors) == (0, b"")


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.skipif(tinyconv.engine.backend() == "numpy", reason="takes minutes without the C engine")
def test_train_learns_the_real_digits(data_folder, tmp_path, capsys):
    """The bound that the project promises for its defaults, a few epochs over 55,000 images."""
    assert cli.main(["train", str(data_folder / "mnist"), "--seed", "3",
                     "--output", str(tmp_path / "model")]) == 0
    text = capsys.readouterr().out
    assert "55,000 for training, 10,000 held out" in text
    assert float(re.search(r"loss [\d.]+, accuracy ([\d.]+)", text)[1]) >= 0.988


def test_output_can_be_a_file_of_keras_and_replace_it(sprite, tmp_path, capsys):
    pytest.importorskip("h5py")
    output = tmp_path / "model.keras"
    for _ in range(2):
        assert cli.main(["train", str(sprite), "--epochs", "1", "--limit", "32", "--output", str(output)]) == 0
        assert tinyconv.load_model(output).count_params() == 3475
        assert capsys.readouterr().out.endswith(f"Saved to {output}\n")


def test_output_that_needs_h5py_is_refused_before_the_training(sprite, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    monkeypatch.setattr(cli_train, "load_images", lambda *_: pytest.fail("the data is loaded"))
    assert "tinyconv[keras]" in fails(capsys, "train", str(sprite), "--output", str(tmp_path / "model.keras"))


@pytest.mark.parametrize("target", ["b.png", "b_images.png", "link.png", "."])
def test_dataset_convert_does_not_replace_the_file_that_it_reads(target, tmp_path, capsys):
    datasets.write_sprite(np.zeros((6, 4, 4), np.uint8), np.arange(6) % 2,
                          (tmp_path / "b_images.png", tmp_path / "b_labels_uint8"))
    (tmp_path / "link_images.png").symlink_to("b_images.png")
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    line = fails(capsys, "dataset", "convert", str(tmp_path / "b_images.png"), str(tmp_path / target))
    assert "Expected OUT to be another place than IN, and not in it" in line
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["file/model", "file/m.keras", "file/deep/er", "closed/model", "closed/m.keras"])
def test_output_that_cannot_be_created_is_refused_before_the_training(name, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "closed").mkdir()
    access = os.access  # root may write everywhere
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "closed" and access(path, mode))
    monkeypatch.setattr(cli_train, "load_images", lambda *_: pytest.fail("the data is loaded"))
    assert "Expected a place " in fails(capsys, "train", "digits", "--output", str(tmp_path / name))


def test_train_uses_synthetic_digits_by_default_and_says_so(tmp_path, capsys):
    assert cli.main(["train", "--epochs", "1", "--limit", "200", "--output", str(tmp_path / "model")]) == 0
    assert "Data: digits: synthetic" in capsys.readouterr().out


@pytest.mark.slow
def test_train_on_digits_learns(tmp_path, capsys):
    output = str(tmp_path / "model")
    assert cli.main(["train", "digits", "--epochs", "5", "--seed", "1", "--output", output]) == 0
    text = capsys.readouterr().out
    assert "5,500 for training, 1,000 held out" in text
    assert float(re.search(r"loss [\d.]+, accuracy ([\d.]+), top-5", text).group(1)) > 0.9


@pytest.mark.slow
def test_train_splits_mnist_as_always(data_folder, tmp_path, capsys):
    assert cli.main(["train", str(data_folder / "mnist"), "--epochs", "1", "--seed", "1", "--limit", "6000",
                     "--output", str(tmp_path / "model")]) == 0
    text = capsys.readouterr().out
    assert "images 28x28x1 of 10 classes, 6,000 for training, 6,000 held out" in text
    images = cli_data.load_images(str(data_folder / "mnist"))
    assert (len(images.x), len(images.x_test)) == (55_000, 10_000)


def test_evaluate_counts_every_held_out_image(model, sprite, capsys):
    assert cli.main(["evaluate", str(model), str(sprite)]) == 0
    text = capsys.readouterr().out
    accuracy, right, total = re.search(r"Accuracy: ([\d.]+) \((\d+) of (\d+)", text).groups()
    assert total == "60"
    assert float(accuracy) == pytest.approx(int(right) / 60, abs=1e-4)
    assert int(right) >= 55
    matrix = np.array([[int(number) for number in line.split()[1:]] for line in text.splitlines()[-3:]])
    assert matrix.shape == (3, 3)
    assert matrix.trace() == int(right)
    assert matrix.sum() == 60
    rows = [line.split() for line in text.split("class  accuracy")[1].splitlines()[1:4]]
    for row, (label, share, count) in zip(matrix, rows, strict=True):
        assert int(count) == row.sum()
        assert float(share) == pytest.approx(row[int(label)] / row.sum(), abs=1e-4)


def test_evaluate_feeds_models_without_rescaling_values_from_0_to_1(sprite, tmp_path, capsys):
    network = tinyconv.Sequential([layers.Input(shape=(18, 18, 1)), layers.Flatten(),
                                   layers.Dense(3, activation="softmax")], seed=0)
    kernel = np.zeros((18, 18, 3), np.float32)
    for label in range(3):
        kernel[label * 6:label * 6 + 6, :, label] = 1
    bias = np.zeros(3, np.float32)
    network.set_weights([kernel.reshape(324, 3), bias])
    network.save(tmp_path)
    assert cli.main(["evaluate", str(tmp_path), str(sprite)]) == 0
    assert "Accuracy: 1.0000" in capsys.readouterr().out
    x = cli_data.load_images(str(sprite)).x_test
    for raw, scale in (([], 255), (["--raw"], 1)):
        arguments = cli._parser().parse_args(["evaluate", "MODEL", "DATA", *raw])
        settings = cli_predict.input_settings(network, arguments)
        np.testing.assert_allclose(settings.rescale(x) * scale, x, rtol=1e-6)


def write_image(path: Path, bright: int, size: int = 18, mode: str = "L", invert: bool = False) -> Path:
    values = np.full((18, 18), 40, np.uint8)
    values[bright * 6:bright * 6 + 6] = 220
    image = Image.fromarray(255 - values if invert else values).resize((size, size))
    image.convert(mode).save(path)
    return path


@pytest.mark.parametrize(("size", "mode", "invert"), [
    (18, "L", False), (90, "RGB", False), (18, "RGBA", False), (40, "P", False), (18, "L", True),
], ids=["gray", "rgb-large", "rgba", "palette", "inverted"])
def test_predict_names_the_class_of_image_files(model, tmp_path, capsys, size, mode, invert):
    paths = [str(write_image(tmp_path / f"{i}.png", i, size, mode, invert)) for i in range(3)]
    assert cli.main(["predict", str(model), *paths, "--top", "2", *["--invert"] * invert]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[::3] == paths
    for i in range(3):
        (best, p), (_, q) = (line.split() for line in lines[3 * i + 1:3 * i + 3])
        assert best == str(i)
        assert 1 >= float(p) >= float(q) >= 0


def test_predict_takes_transparent_pixels_as_white(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(np.zeros((4, 4, 4), np.uint8)).save(path)
    picture = cli_predict.read_picture(str(path))
    for invert, channels, value in ((False, 1, 255), (True, 3, 0), ("auto", 1, 0), ("auto", 3, 255), (False, 4, 0)):
        found = ImageInput(invert=invert)(picture, (4, 4, channels))
        assert found.shape == (4, 4, channels)
        assert (found == value).all()


def test_predict_completes_the_probability_of_two_classes(tmp_path, capsys):
    network = tinyconv.Sequential([layers.Input(shape=(18, 18, 1)), layers.Flatten(),
                                   layers.Dense(1, activation="sigmoid")], seed=0)
    network.set_weights([np.zeros((324, 1), np.float32), np.array([-2.0], np.float32)])
    network.save(tmp_path / "model")
    image = write_image(tmp_path / "image.png", 0)
    assert cli.main(["predict", str(tmp_path / "model"), str(image)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[1:]] == [["0", "0.8808"], ["1", "0.1192"]]


def test_info_shows_the_configuration(capsys):
    assert cli.main(["info"]) == 0
    text = capsys.readouterr().out
    assert tinyconv.__version__ in text
    assert "backend" in text


@pytest.mark.once
@pytest.mark.slow
def test_bench_prints_a_line_for_every_configuration(capsys):
    assert cli.main(["bench", "--seconds", "0.5"]) == 0
    text = capsys.readouterr().out
    for name, _ in bench.configurations():
        assert re.search(rf"^{name} .*\d$", text, re.MULTILINE), text
    fails(capsys, "bench", "--seconds", "-1")


def test_errors_are_one_line_and_name_what_is_wrong(model, sprite, tmp_path, capsys):
    image = write_image(tmp_path / "image.png", 0)
    (tmp_path / "text.png").write_text("no image")
    assert "no-such-data" in fails(capsys, "train", "no-such-data")
    assert "momentous" in fails(capsys, "train", str(sprite), "--optimizer", "momentous")
    assert "learning_rate" in fails(capsys, "train", str(sprite), "--learning-rate", "-1")
    assert "--output" in fails(capsys, "train", str(sprite), "--output", str(image))
    assert "no-model" in fails(capsys, "evaluate", str(tmp_path / "no-model"), str(sprite))
    assert "text.png" in fails(capsys, "predict", str(model), str(tmp_path / "text.png"))
    Image.new("L", (100_000, 1)).save(tmp_path / "long.png")
    assert "100000 x 1" in fails(capsys, "predict", str(model), str(tmp_path / "long.png"))
    assert "gone.png" in fails(capsys, "predict", str(model), str(image), str(tmp_path / "gone.png"))
    fails(capsys, "evaluate", str(model), "digits", "--limit", "5")


def test_errors_of_damaged_files_are_one_line(model, sprite, tmp_path, capsys):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("{")
    fails(capsys, "evaluate", str(tmp_path / "model"), str(sprite))
    (tmp_path / "sprite").mkdir()
    for path in sprite.iterdir():
        (tmp_path / "sprite" / path.name).write_bytes(path.read_bytes()[:100])
    fails(capsys, "train", str(tmp_path / "sprite"), "--output", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("argv", [
    [], ["fly"], ["train", "--epochs", "0"], ["train", "--batch-size", "many"], ["train", "--threads", "-1"],
    ["evaluate", "model"], ["predict", "model"], ["predict", "model", "image", "--top", "0"],
], ids=" ".join)
def test_wrong_arguments_end_with_status_2(argv, capsys):
    with pytest.raises(SystemExit) as error:
        cli.main(argv)
    assert error.value.code == 2
    assert "error: " in capsys.readouterr().err.splitlines()[-1]


def test_interrupt_ends_with_status_130(monkeypatch, capsys):
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_train, "load_images", interrupt)
    assert cli.main(["train"]) == 130
    assert capsys.readouterr().err == "tinyconv: stopped\n"


def test_command_and_module_run(run_python):
    code = """
        import runpy, sys
        sys.argv = ["tinyconv", *sys.argv[1:]]
        runpy.run_module("tinyconv", run_name="__main__")
    """
    assert run_python(code, "--version").stdout == f"tinyconv {tinyconv.__version__}\n"
    assert "no-such-data" in run_python(code, "train", "no-such-data", status=2).stderr
    script = Path(sys.executable).parent / ("tinyconv.exe" if sys.platform == "win32" else "tinyconv")
    if script.exists():
        result = subprocess.run([script, "--version"], capture_output=True, text=True, check=True, timeout=60)
        assert result.stdout == f"tinyconv {tinyconv.__version__}\n"


@pytest.mark.skipif(os.name != "posix", reason="descriptors are closed otherwise elsewhere")
def test_output_that_is_closed_is_no_error(tmp_path):
    command = f"{sys.executable} -m tinyconv info >&-"
    result = subprocess.run(["sh", "-c", command], check=False, capture_output=True, text=True, timeout=60,
                            cwd=tmp_path)  # away from sources, which have no engine
    assert (result.returncode, result.stderr) == (0, "")
