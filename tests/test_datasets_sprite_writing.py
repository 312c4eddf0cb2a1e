"""Writing sprites: names, formats, what is refused, and what stays where it fails."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from dataset_helpers import make, one_line
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tinyconv.datasets import Sprite, write_sprite

pytestmark = pytest.mark.once


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 20), classes=st.integers(2, 300), one_hot=st.booleans(), seed=st.integers(0, 99),
       shape=st.tuples(st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 3, 4])))
def test_written_sprite_is_read_back(tmp_path_factory, count, shape, classes, one_hot, seed):
    classes = classes if one_hot else min(classes, 256)
    images, labels = make(count, shape, classes, seed)
    folder = tmp_path_factory.mktemp("sprite")
    write_sprite(images, labels, folder, num_classes=classes, one_hot=one_hot)
    sprite = Sprite(folder, image_shape=shape, num_classes=classes,
                    label_format="one_hot" if one_hot else "indices")
    np.testing.assert_array_equal(sprite.images, images)
    np.testing.assert_array_equal(sprite.labels, labels)
    assert sprite.num_classes == classes


def test_write_sprite_names_and_formats(tmp_path):
    images, labels = make()
    paths = write_sprite(images.reshape(7, 16), np.eye(3)[labels], tmp_path / "new", prefix="mnist")
    assert paths == (tmp_path / "new" / "mnist_images.png", tmp_path / "new" / "mnist_labels_uint8")
    assert paths[1].read_bytes() == np.eye(3, dtype=np.uint8)[labels].tobytes()
    with Image.open(paths[0]) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (16, 7))
    pair = (tmp_path / "a.png", tmp_path / "b")
    assert write_sprite(images, labels, pair, one_hot=False) == pair
    assert pair[1].read_bytes() == labels.astype(np.uint8).tobytes()
    np.testing.assert_array_equal(Sprite(*pair).images[..., 0], images)


def test_write_sprite_takes_views_and_leaves_them(tmp_path):
    images, labels = make(shape=(4, 4))
    images = images.transpose(0, 2, 1)[::-1]
    images.flags.writeable = False
    before = images.copy()
    write_sprite(images, labels.tolist(), tmp_path)
    np.testing.assert_array_equal(Sprite(tmp_path).images[..., 0], before)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize(("changes", "kind", "message"), [
    ({"images": np.zeros((7, 4, 4))}, TypeError, "images.dtype=float64"),
    ({"images": np.zeros((0, 4, 4), np.uint8), "labels": []}, ValueError, "images.shape=(0, 4, 4)"),
    ({"images": np.zeros((7, 4, 4, 2), np.uint8)}, ValueError, "images.shape=(7, 4, 4, 2)"),
    ({"images": np.zeros(7, np.uint8)}, ValueError, "images.shape=(7,)"),
    ({"labels": [0] * 6}, ValueError, "labels.shape=(6,)"),
    ({"labels": [0, 1, 2, 0, 1, 2, -1]}, ValueError, "labels from -1 to 2"),
    ({"labels": [0, 1, 2, 0, 1, 2, 3], "num_classes": 3}, ValueError, "0 to 2. Received: labels from 0 to 3"),
    ({"labels": [0.5] * 7}, ValueError, "whole numbers"),
    ({"labels": [float("nan")] * 7}, ValueError, "whole numbers"),
    ({"labels": ["a"] * 7}, ValueError, "whole numbers"),
    ({"labels": np.ones((7, 3))}, ValueError, "one-hot rows"),
    ({"labels": [300] * 7, "one_hot": False}, ValueError, "at most 256 classes"),
    ({"prefix": "../x"}, ValueError, "prefix='../x'"),
    ({"path": ("a",)}, ValueError, "two different paths"),
    ({"path": ("a", "a")}, ValueError, "two different paths"),
], ids=str)
def test_write_sprite_refuses_what_does_not_fit(tmp_path, changes, kind, message):
    images, labels = make()
    with pytest.raises(kind) as error:
        write_sprite(**{"images": images, "labels": labels, "path": tmp_path / "new", **changes})
    assert message in one_line(error)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("before", [True, False], ids=["over another", "first"])
@pytest.mark.parametrize("fails", [0, 1])
def test_write_sprite_that_fails_leaves_what_was_there(tmp_path, monkeypatch, before, fails):
    if before:
        write_sprite(*make(seed=1), tmp_path)
    content = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    replace = os.replace
    calls = []

    def failing(source, target):
        if Path(source).suffix == ".new":
            calls.append(target)
            if len(calls) == fails + 1:
                raise OSError("disk full")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="disk full"):
        write_sprite(*make(seed=2), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == content


def test_write_sprite_replaces_what_was_there(tmp_path):
    write_sprite(*make(seed=1), tmp_path)
    images, _ = make(seed=2)
    write_sprite(*make(seed=2), tmp_path)
    np.testing.assert_array_equal(Sprite(tmp_path).images[..., 0], images)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images.png", "labels_uint8"]


def test_write_sprite_does_not_replace_a_folder(tmp_path):
    (tmp_path / "images.png").mkdir()
    with pytest.raises(ValueError, match="which is a folder"):
        write_sprite(*make(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["images.png"]


# --- the real one ---

def test_write_sprite_keeps_class_names(tmp_path):
    write_sprite(*make(), tmp_path, class_names=["a", "b", "c"])
    assert (tmp_path / "class_names.txt").read_text(encoding="utf-8") == "a\nb\nc\n"
    for names in (["a", "b"], ["a", "a", "b"], "abc"):
        with pytest.raises(ValueError, match="class_names") as error:
            write_sprite(*make(), tmp_path / "new", class_names=names)
        one_line(error)
    assert not (tmp_path / "new").exists()
