"""Folders of images as batches."""

from __future__ import annotations

import io
import os
import zlib

import numpy as np
import pytest
from PIL import Image

from tinyconv import Sequential, datasets, layers, utils
from tinyconv.datasets import image_dataset_from_directory


def picture(path, value: int) -> None:
    """A plain image of 4 x 6 pixels; the value is that of every channel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 6, 3), value, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Three cats (values 10, 11, 12), five dogs (20 ...); one of them a folder below, one no image."""
    for i in range(3):
        picture(tmp_path / "cat" / f"{i}.png", 10 + i)
    for i in range(5):
        picture(tmp_path / "dog" / ("more" if i == 4 else "") / f"{i}.PNG", 20 + i)
    (tmp_path / "dog" / "notes.txt").write_text("not an image")
    (tmp_path / "loose.png").write_bytes(b"in no class")
    return tmp_path


def everything(data):
    """All values, and all labels, batch after batch."""
    batches = list(data)
    return np.concatenate([x[:, 0, 0, 0] for x, _ in batches]), np.concatenate([y for _, y in batches])


def test_classes_are_folders_and_batches_hold_their_images(folder, capsys):
    data = image_dataset_from_directory(folder, image_size=(4, 6), batch_size=3, shuffle=False)
    assert capsys.readouterr().out == "Found 8 files belonging to 2 classes.\n"
    assert data.class_names == ["cat", "dog"]
    assert len(data) == 3
    assert [x.shape for x, _ in data] == [(3, 4, 6, 3), (3, 4, 6, 3), (2, 4, 6, 3)]
    values, labels = everything(data)
    assert values.tolist() == [10, 11, 12, 20, 21, 22, 23, 24]
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    assert values.dtype == np.float32
    assert labels.dtype == np.int32
    assert [os.path.basename(path) for path in data.file_paths][-2:] == ["3.PNG", "4.PNG"]


@pytest.mark.parametrize(("mode", "expected"), [
    ("int", [0, 0, 0, 1, 1, 1, 1, 1]), ("binary", [[0.]] * 3 + [[1.]] * 5),
    ("categorical", [[1., 0.]] * 3 + [[0., 1.]] * 5)])
def test_label_modes(folder, mode, expected):
    data = image_dataset_from_directory(folder, label_mode=mode, image_size=(4, 6), shuffle=False, verbose=False)
    assert everything(data)[1].tolist() == expected


def test_without_labels_and_with_given_ones(folder):
    for arguments, count in (({"labels": None}, 9), ({"label_mode": None}, 8)):  # 9: the loose one, too
        data = image_dataset_from_directory(folder, **arguments, image_size=(4, 6), verbose=False)
        assert len(data.file_paths) == count
        assert data.labels is None
    (x,) = list(data)
    assert x.shape == (8, 4, 6, 3)
    data = image_dataset_from_directory(folder / "dog", labels=[2, 0, 1, 1, 2], image_size=(4, 6), shuffle=False,
                                        verbose=False)
    assert everything(data)[1].tolist() == [2, 0, 1, 1, 2]
    assert data.class_names == ["0", "1", "2"]


def test_class_names_choose_and_order(folder):
    data = image_dataset_from_directory(folder, class_names=["dog", "cat"], image_size=(4, 6), shuffle=False,
                                        verbose=False)
    assert everything(data)[1].tolist() == [0] * 5 + [1] * 3


@pytest.mark.parametrize(("mode", "channels"), [("grayscale", 1), ("rgb", 3), ("rgba", 4)])
def test_colour_modes_and_sizes(folder, mode, channels):
    data = image_dataset_from_directory(folder, color_mode=mode, image_size=(8, 5), batch_size=8, verbose=False)
    x, _ = next(iter(data))
    assert x.shape == (8, 8, 5, channels)
    assert sorted(x[:, 3, 2, 0].tolist()) == [10, 11, 12, 20, 21, 22, 23, 24]


def test_cropping_takes_the_middle(tmp_path):
    array = np.zeros((4, 12), np.uint8)
    array[:, 4:8] = 200
    (tmp_path / "a").mkdir()
    Image.fromarray(array).save(tmp_path / "a" / "x.png")
    arguments = {"image_size": (4, 4), "color_mode": "grayscale", "interpolation": "nearest", "verbose": False}
    (x, _), = image_dataset_from_directory(tmp_path, crop_to_aspect_ratio=True, **arguments)
    assert (x == 200).all()
    (x, _), = image_dataset_from_directory(tmp_path, **arguments)
    assert not (x == 200).all()


def test_orders_differ_by_epoch_and_follow_from_the_seed(folder):
    data, again = (image_dataset_from_directory(folder, seed=4, image_size=(4, 6), verbose=False) for _ in range(2))
    orders = [everything(data)[0].tolist() for _ in range(3)]
    assert orders == [everything(again)[0].tolist() for _ in range(3)]
    assert len({tuple(order) for order in orders}) > 1
    assert all(sorted(order) == [10, 11, 12, 20, 21, 22, 23, 24] for order in orders)


def test_a_split_is_a_partition_and_the_same_whichever_half_is_asked_for(folder):
    arguments = {"validation_split": 0.25, "seed": 3, "image_size": (4, 6), "verbose": False}
    both = image_dataset_from_directory(folder, subset="both", **arguments)
    halves = [image_dataset_from_directory(folder, subset=subset, **arguments)
              for subset in ("training", "validation")]
    for ours, half, size in zip(both, halves, (6, 2), strict=True):
        assert ours.file_paths == half.file_paths
        assert len(ours.file_paths) == size
    assert not set(both[0].file_paths) & set(both[1].file_paths)


def test_a_model_trains_on_a_folder(folder):
    model = Sequential([layers.Rescaling(1 / 255, input_shape=(4, 6, 1)), layers.Flatten(),
                        layers.Dense(2, activation="softmax")], seed=0)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    data, test = image_dataset_from_directory(folder, color_mode="grayscale", image_size=(4, 6), batch_size=2,
                                              validation_split=0.25, subset="both", seed=1, verbose=False)
    history = model.fit(data, validation_data=test, epochs=2, verbose=0)
    assert model.optimizer.iterations == 6
    assert "val_accuracy" in history.history
    assert model.predict(data).shape == (6, 2)


def test_single_images_and_the_name_in_utils(folder):
    data = utils.image_dataset_from_directory(folder, batch_size=None, image_size=(4, 6), verbose=False)
    x, y = next(iter(data))
    assert x.shape == (4, 6, 3)
    assert y in (0, 1)
    assert len(data) == 8
    assert isinstance(data, datasets.ImageFolder)


@pytest.mark.parametrize("arguments", [
    {"label_mode": "one"}, {"color_mode": "hsv"}, {"interpolation": "magic"}, {"labels": "folders"},
    {"labels": [1, 2]}, {"labels": [-1] * 9}, {"validation_split": 0.2}, {"subset": "both"},
    {"validation_split": 1.0, "subset": "both"}, {"validation_split": 0, "subset": "both"}, {"class_names": ["bird"]},
    {"class_names": ["cat", "cat"]}, {"batch_size": 0}, {"image_size": (0, 3)},
    {"label_mode": "binary", "class_names": ["cat"]},
])
def test_bad_arguments_are_refused(folder, arguments):
    with pytest.raises(ValueError, match="Received: "):
        image_dataset_from_directory(folder, verbose=False, **arguments)


def test_no_folder_no_images(tmp_path):
    with pytest.raises(FileNotFoundError, match="directory to be a folder"):
        image_dataset_from_directory(tmp_path / "missing")
    with pytest.raises(ValueError, match="without any"):
        image_dataset_from_directory(tmp_path)


def bomb() -> bytes:
    """A PNG file that claims 60,000 x 60,000 pixels."""
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "PNG")
    data = bytearray(file.getvalue())
    data[16:24] = (60000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + b"\0" * 20, bomb()],
                         ids=["empty", "gif", "png", "bomb"])
def test_a_file_that_is_no_image_is_named(tmp_path, data):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").write_bytes(data)
    with pytest.raises(ValueError, match="Expected an image.*x.png") as caught:
        next(iter(image_dataset_from_directory(tmp_path, verbose=False)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("plugin", ["TIFF", "PPM", "EPS"])
def test_other_formats_are_not_opened_whatever_the_name(tmp_path, plugin):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (3, 3)).save(tmp_path / "a" / "x.png", plugin)
    with pytest.raises(ValueError, match="Expected an image.*x.png"):
        next(iter(image_dataset_from_directory(tmp_path, verbose=False)))


def test_damaged_files_are_named_whatever_pillow_makes_of_them(tmp_path):
    path = tmp_path / "a" / "x.png"
    picture(path, 7)
    whole, random = path.read_bytes(), np.random.default_rng(1)
    data = image_dataset_from_directory(tmp_path, image_size=(4, 4), verbose=False)
    read = 0
    for position in range(8, 45):
        damaged = bytearray(whole)
        damaged[position] ^= int(random.integers(1, 256))
        path.write_bytes(damaged)
        try:
            x, _ = next(iter(data))
        except ValueError as error:
            assert str(error).startswith("Expected an image. Received: ")
        else:
            assert x.shape == (1, 4, 4, 3)
            read += 1
    assert read < 15


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes among files")
def test_a_pipe_is_not_waited_for_and_a_dangling_link_is_missing(tmp_path):
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a" / "x.png")
    with pytest.raises(ValueError, match="not a file"):
        next(iter(image_dataset_from_directory(tmp_path, verbose=False)))
    (tmp_path / "a" / "x.png").unlink()
    (tmp_path / "a" / "x.png").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError):
        next(iter(image_dataset_from_directory(tmp_path, verbose=False)))


def test_images_of_16_bits_keep_their_upper_8(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(np.arange(0, 65536, 4369, np.uint16).reshape(4, 4)).save(tmp_path / "a" / "x.png")
    for mode in ("grayscale", "rgb"):
        x, _ = next(iter(image_dataset_from_directory(tmp_path, image_size=(4, 4), color_mode=mode, verbose=False)))
        np.testing.assert_array_equal(x[0, :, :, 0].ravel(), np.arange(0, 256, 17))


def test_hidden_folders_are_no_classes_and_a_split_has_two_parts(folder):
    picture(folder / ".ipynb_checkpoints" / "0.png", 1)
    assert image_dataset_from_directory(folder, verbose=False).class_names == ["cat", "dog"]
    with pytest.raises(ValueError, match="enough images"):
        image_dataset_from_directory(folder, verbose=False, validation_split=0.1, subset="both", class_names=["cat"])


def test_the_real_folders(data_folder):
    data = image_dataset_from_directory(data_folder / "mnist-folders", color_mode="grayscale", image_size=(28, 28),
                                        batch_size=16, verbose=False)
    assert data.class_names == [str(digit) for digit in range(10)]
    x, y = next(iter(data))
    assert x.shape == (16, 28, 28, 1)
    assert len(y) == 16
