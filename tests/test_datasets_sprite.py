"""Sprites: reading them, what is refused, and writing them."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from dataset_helpers import make, one_line
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tinyconv.datasets import Sprite, write_sprite

pytestmark = pytest.mark.once


@pytest.fixture
def folder(tmp_path):
    """A folder with a sprite of 7 images 4x4 of 3 classes."""
    write_sprite(*make(), tmp_path)
    return tmp_path


# --- reading ---

def test_sprite_holds_images_and_labels(folder):
    images, labels = make()
    sprite = Sprite(folder)
    assert (len(sprite), sprite.num_classes, sprite.image_shape) == (7, 3, (4, 4, 1))
    assert sprite.images.dtype == np.uint8
    assert sprite.labels.dtype == np.uint8
    np.testing.assert_array_equal(sprite.images[..., 0], images)
    np.testing.assert_array_equal(sprite.labels, labels)
    np.testing.assert_array_equal(sprite.flat_images, images.reshape(7, 16))
    assert np.shares_memory(sprite.flat_images, sprite.images)
    assert repr(sprite) == "<Sprite of 7 images 4x4x1, 3 classes>"


def test_sprite_takes_paths_and_from_folder(folder):
    by_paths = Sprite(folder / "images.png", str(folder / "labels_uint8"))
    np.testing.assert_array_equal(by_paths.images, Sprite.from_folder(str(folder)).images)
    assert by_paths.num_classes == 3


def test_one_hot_has_a_one_for_each_label(folder):
    sprite = Sprite(folder)
    rows = sprite.one_hot()
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, np.eye(3, dtype=np.float32)[sprite.labels])


def test_as_float32_divides_by_255_as_javascript_does(tmp_path):
    write_sprite(np.arange(256, dtype=np.uint8).reshape(1, 16, 16), [0], tmp_path)
    values = Sprite(tmp_path).as_float32()
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values.ravel(), (np.arange(256) / 255).astype(np.float32))


def test_as_float32_fills_out(folder):
    sprite = Sprite(folder)
    out = np.empty(sprite.images.shape, np.float32)
    assert sprite.as_float32(out) is out
    np.testing.assert_array_equal(out, sprite.as_float32())
    with pytest.raises(ValueError, match="out to be float32") as error:
        sprite.as_float32(out[1:])
    one_line(error)


def test_slices_are_views_and_indices_are_copies(folder):
    sprite = Sprite(folder)
    part = sprite[2:5]
    assert np.shares_memory(part.images, sprite.images)
    assert (len(part), part.num_classes) == (3, 3)
    order = np.array([6, 0, 6])
    np.testing.assert_array_equal(sprite[order].images, sprite.images[order])
    np.testing.assert_array_equal(sprite[order].labels, sprite.labels[order])
    np.testing.assert_array_equal(sprite[sprite.labels == 2].labels, 2)
    assert len(sprite[:0].as_float32()) == len(sprite[:0].one_hot()) == 0


def test_single_indices_and_iteration_are_refused(folder):
    sprite = Sprite(folder)
    with pytest.raises(TypeError, match=r"sprite\.images\[i\]"):
        sprite[3]
    with pytest.raises(TypeError, match="not iterable"):
        iter(sprite)
    with pytest.raises(IndexError, match="indices of 7 images"):
        sprite[[7]]


def test_batches_go_once_through_the_images(folder):
    sprite = Sprite(folder)
    parts = list(sprite.batches(3))
    assert [len(x) for x, _ in parts] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in parts]), sprite.as_float32())
    np.testing.assert_array_equal(np.concatenate([y for _, y in parts]), sprite.one_hot())


def test_batches_shuffle_by_seed(folder):
    sprite = Sprite(folder)
    first, again, other = (next(sprite.batches(7, shuffle=True, seed=seed))[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(np.sort(first.ravel()), np.sort(sprite.as_float32().ravel()))
    with pytest.raises(ValueError, match="batch_size"):
        sprite.batches(0)


# --- modes ---

def as_mode(values, mode):
    """An image whose red channel, or grey level, are the values."""
    other = np.full_like(values, 17)
    if mode == "1":
        return Image.fromarray((values > 127).astype(np.uint8) * 255).convert("1")
    if mode == "I;16":
        return Image.frombytes("I;16", values.shape[::-1], (values.astype("<u2") * 256 + 99).tobytes())
    if mode == "P":
        image = Image.fromarray(values, "L").copy()
        image = Image.frombytes("P", image.size, (255 - values).tobytes())
        image.putpalette([number for i in range(256) for number in (255 - i, 3, 5)])
        return image
    layers = {"L": [values], "LA": [values, other], "RGB": [values, other, other],
              "RGBA": [values, other, other, other]}[mode]
    return Image.merge(mode, [Image.frombytes("L", values.shape[::-1], layer.tobytes()) for layer in layers])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "P transparent", "I;16", "RGB", "RGBA"])
def test_red_channel_of_every_mode(tmp_path, mode):
    images, labels = make()
    options = {"transparency": bytes(range(256))} if mode == "P transparent" else {}
    as_mode(images.reshape(7, 16), mode.split()[0]).save(tmp_path / "images.png", **options)
    (tmp_path / "labels_uint8").write_bytes(labels.astype(np.uint8).tobytes())
    expected = (images > 127) * 255 if mode == "1" else images
    np.testing.assert_array_equal(Sprite(tmp_path).images[..., 0], expected)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
def test_colour_is_read_where_it_is_asked_for(tmp_path, mode, channels):
    images, labels = make()
    image = as_mode(images.reshape(7, 16), mode)
    image.save(tmp_path / "images.png")
    (tmp_path / "labels_uint8").write_bytes(labels.astype(np.uint8).tobytes())
    sprite = Sprite(tmp_path, image_shape=(4, 4, channels))
    assert sprite.images.shape == (7, 4, 4, channels)
    np.testing.assert_array_equal(sprite.images[..., 0], images)
    np.testing.assert_array_equal(sprite.images[..., 1], images if mode in ("L", "I;16") else 17)
    if channels == 4:
        np.testing.assert_array_equal(sprite.images[..., 3], 17 if mode == "RGBA" else 255)


def test_rows_that_are_no_squares_need_a_shape(tmp_path):
    images, labels = make(shape=(2, 3))
    write_sprite(images, labels, tmp_path)
    np.testing.assert_array_equal(Sprite(tmp_path, image_shape=(2, 3)).images[..., 0], images)
    with pytest.raises(ValueError, match="Expected image_shape for .*6 pixels a row") as error:
        Sprite(tmp_path)
    one_line(error)


def test_many_rows_are_read_strip_by_strip(tmp_path):
    images, labels = make(count=3000, shape=(28, 28), classes=10)
    write_sprite(images, labels, tmp_path)
    np.testing.assert_array_equal(Sprite(tmp_path).images[..., 0], images)


# --- labels ---

def test_label_formats_are_detected_and_declared(folder):
    _, labels = make()
    (folder / "labels_uint8").write_bytes(labels.astype(np.uint8).tobytes())
    for options in ({}, {"label_format": "indices"}, {"num_classes": 3}):
        sprite = Sprite(folder, **options)
        assert sprite.num_classes == 3
        np.testing.assert_array_equal(sprite.labels, labels)
    assert Sprite(folder, num_classes=5).one_hot().shape == (7, 5)


@pytest.mark.parametrize(("content", "options", "message"), [
    (b"", {}, "a multiple of 7 bytes, one for each image and class. Received: 0 bytes"),
    (bytes(20), {}, "a multiple of 7 bytes, one for each image and class. Received: 20 bytes"),
    (bytes(21), {"num_classes": 4}, "28 bytes, 4 for each of 7 images. Received: 21 bytes"),
    (bytes(21), {"label_format": "indices"}, "7 bytes, one for each image. Received: 21 bytes"),
    (bytes(21), {}, "3 bytes an image, one of them 1, the others 0. Received: [0, 0, 0] for image 0"),
    (b"\1\0\0" * 6 + b"\1\1\0", {}, r"Received: [1, 1, 0] for image 6"),
    (b"\1\0\0" * 6 + b"\2\0\0", {}, r"Received: [2, 0, 0] for image 6"),
    (b"\0\1\2\3\4\5\6", {"num_classes": 6}, "class ids from 0 to 5. Received: 6 for image 6"),
    (bytes(7), {"label_format": "one_hot"}, "Received: [0] for image 0"),
    (bytes(7), {"num_classes": 0}, "Received: num_classes=0"),
    (bytes(7), {"label_format": "csv"}, "Received: label_format='csv'"),
], ids=str)
def test_labels_that_do_not_fit_are_refused(folder, content, options, message):
    (folder / "labels_uint8").write_bytes(content)
    with pytest.raises(ValueError) as error:
        Sprite(folder, **options)
    assert message in one_line(error)


# --- files that are refused ---

def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, data, color_type=0, depth=8) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_hand_made_png_is_read(folder):
    rows = b"".join(b"\0" + bytes([i] * 16) for i in range(7))
    (folder / "images.png").write_bytes(png(16, 7, zlib.compress(rows)))
    np.testing.assert_array_equal(Sprite(folder).images[:, 0, 0, 0], np.arange(7))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("rows", [7, 6])
def test_black_rows_are_not_missing_rows(folder, mode, rows):
    """Pillow itself leaves rows black that a file lacks."""
    channels, depth, color_type = {
        "1": (1, 1, 0), "L": (1, 8, 0), "LA": (2, 8, 4), "P": (1, 8, 3), "RGB": (3, 8, 2), "RGBA": (4, 8, 6),
        "I;16": (1, 16, 0)}[mode]
    data = zlib.compress(bytes((1 + 16 * channels * depth // 8) * rows))
    content = png(16, 7, data, color_type, depth)
    if mode == "P":
        content = content[:33] + chunk(b"PLTE", bytes(3)) + content[33:]
    (folder / "images.png").write_bytes(content)
    if rows == 7:
        assert not Sprite(folder).images.any()
    else:
        with pytest.raises(ValueError, match="whole PNG image of 16x7 pixels. Received: data for") as error:
            Sprite(folder)
        one_line(error)


# A Pillow that writes interlaced files does not exist: this one is made by hand, pass by pass.
@pytest.mark.parametrize("missing", [0, 1])
def test_interlaced_png_is_read_and_checked(folder, missing):
    images, _ = make()
    pixels = images.reshape(7, 16)
    steps = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    data = b"".join(b"\0" + row.tobytes() for left, top, right, down in steps
                    for row in pixels[top::down, left::right])
    header = struct.pack(">IIBBBBB", 16, 7, 8, 0, 0, 0, 1)
    (folder / "images.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(data[:len(data) - missing])) + chunk(b"IEND", b""))
    if missing:
        with pytest.raises(ValueError, match="whole PNG image"):
            Sprite(folder)
    else:
        np.testing.assert_array_equal(Sprite(folder).images[..., 0], images)


@pytest.mark.parametrize(("content", "message"), [
    (b"", "to be a PNG file"),
    (b"GIF89a" + bytes(100), "to be a PNG file"),
    (png(16, 7, zlib.compress(bytes(17 * 6))), "whole PNG image of 16x7 pixels"),
    (png(16, 7, b"no zlib data"), "whole PNG image of 16x7 pixels"),
    (png(16, 7, b""), "whole PNG image of 16x7 pixels"),
    (png(0, 7, b""), "a valid PNG header"),
    (png(16, 7, b"", color_type=9), "a valid PNG header"),
    (png(16, 7, b"", depth=5), "a valid PNG header"),
    (png(16, 7, b"", color_type=3, depth=16), "whole PNG image of 16x7 pixels"),
    (png(16, 7, b"")[:-12], "before its end chunk"),
    (png(60_000, 60_000, zlib.compress(bytes(1000))), "max_bytes=1073741824 decoded. Received: 60000x60000"),
    (png(20_000, 20_000, b"", color_type=6), "Received: 20000x20000 pixels, 1600000000 bytes"),
], ids=["empty", "gif", "a row too few", "no zlib", "no data", "width 0", "colour type", "depth",
        "16 bit palette", "no end", "bomb", "RGBA bomb"])
def test_broken_png_is_refused(folder, content, message):
    (folder / "images.png").write_bytes(content)
    with pytest.raises(ValueError) as error:
        Sprite(folder)
    text = one_line(error)
    assert message in text
    assert "images.png" in text


def test_budget_is_an_argument(folder):
    assert len(Sprite(folder, max_bytes=7 * 16)) == 7
    with pytest.raises(ValueError, match="at most max_bytes=111 decoded"):
        Sprite(folder, max_bytes=7 * 16 - 1)


def test_large_images_raise_no_warning_of_pillow(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    write_sprite(*make(count=200), tmp_path)
    assert len(Sprite(tmp_path, max_bytes=3200)) == 200


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_truncated_or_altered_png_is_refused(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("sprite")
    write_sprite(*make(), folder)
    content = bytearray((folder / "images.png").read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)):]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (folder / "images.png").write_bytes(content)
    with pytest.raises(ValueError) as error:
        Sprite(folder)
    one_line(error)


def test_other_formats_are_refused(folder):
    buffer = io.BytesIO()
    Image.open(folder / "images.png").save(buffer, "BMP")
    (folder / "images.png").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="to be a PNG file. Received: a file that starts with b'BM"):
        Sprite(folder)


def test_folder_must_hold_one_pair(folder, tmp_path_factory):
    with pytest.raises(ValueError, match=r"Received: .*nowhere, which is no folder"):
        Sprite(folder / "nowhere")
    with pytest.raises(ValueError, match=r"Expected one file \*images\*\.png .*no such file"):
        Sprite(tmp_path_factory.mktemp("empty"))
    (folder / "more_images.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"Received: \['images.png', 'more_images.png'\]") as error:
        Sprite(folder)
    one_line(error)


def test_missing_files_raise_their_own_error(folder):
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        Sprite(folder / "none.png", folder / "labels_uint8")
    with pytest.raises(FileNotFoundError, match="none"):
        Sprite(folder / "images.png", folder / "none")


@pytest.mark.parametrize(("image_shape", "message"), [
    ((4, 5), "20 pixels wide"), ((16,), "Received: image_shape=(16,)"), (16, "Received: image_shape=16"),
    ((4, 4, 2), "1, 3 or 4 channels"), ((0, 16), "positive integer"),
    ((4, 4, 1, 1), "Received: image_shape=(4, 4, 1, 1)"),
], ids=str)
def test_image_shape_that_does_not_fit_is_refused(folder, image_shape, message):
    with pytest.raises(ValueError) as error:
        Sprite(folder, image_shape=image_shape)
    assert message in one_line(error)


# --- the real one ---

def test_real_sprite_takes_little_memory(data_folder, run_python):
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not tell how much memory a process has taken")
    lines = run_python("""
        import sys
        import tinyconv
        import tinyconv.datasets

        def status(key):
            line = next(line for line in open("/proc/self/status") if line.startswith(key))
            return int(line.split()[1]) / 1024

        before = status("VmRSS")
        sprite = tinyconv.datasets.Sprite(sys.argv[1])
        print(len(sprite), status("VmHWM") - before, status("VmRSS") - before)
    """, str(data_folder / "mnist")).stdout.split()
    count, peak, kept = map(float, lines)
    assert count == 65_000
    assert peak < 125
    assert kept < 60
