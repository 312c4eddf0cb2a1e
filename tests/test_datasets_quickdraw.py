"""Quick, Draw!: bitmaps that are mapped into memory, strokes that are drawn, downloads from this machine."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import numpy as np
import pytest
from dataset_helpers import refused

from tinyconv.datasets import quickdraw
from tinyconv.datasets.download import DownloadError
from tinyconv.datasets.strokes import rasterize, read_ndjson

pytestmark = pytest.mark.once


def bitmaps(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 784), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Three classes of 20, 10 and 5 sketches; the first pixels of each say which it is."""
    for number, (name, count) in enumerate((("cat", 20), ("dog", 10), ("full_numpy_bitmap_t-shirt", 5))):
        rows = bitmaps(count, number)
        rows[:, 0], rows[:, 1] = number, np.arange(count)
        np.save(tmp_path / f"{name}.npy", rows)
    return tmp_path


# --- bitmaps ---


def test_load_splits_every_class_and_keeps_the_names(folder):
    (x, y), (x_test, y_test), names = quickdraw.load(folder, test_split=0.2, seed=3)
    assert names == ["cat", "dog", "t-shirt"]
    assert (x.shape, x.dtype, y.dtype) == ((28, 28, 28), np.uint8, np.int32)
    assert np.bincount(y).tolist() == [16, 8, 4]
    assert np.bincount(y_test).tolist() == [4, 2, 1]
    np.testing.assert_array_equal(x[:, 0, 0], y)
    np.testing.assert_array_equal(x_test[:, 0, 0], y_test)
    seen = {(label, int(image[0, 1])) for images, labels in ((x, y), (x_test, y_test))
            for image, label in zip(images, labels.tolist(), strict=True)}
    assert len(seen) == 35  # every sketch once
    assert not np.array_equal(y, np.sort(y))


def test_load_is_repeatable_and_takes_the_first_of_chosen_classes(folder):
    first, second, other = (quickdraw.load(folder, ["dog", "cat"], 8, seed=seed) for seed in (1, 1, 2))
    assert first.class_names == ["dog", "cat"]
    for one, two in zip((*first.train, *first.test), (*second.train, *second.test), strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first.train[0], other.train[0])
    assert len(first.train[1]) + len(first.test[1]) == 16
    assert first.train[0][:, 0, 1].max() < 8
    assert len(quickdraw.load(folder, ["dog"], test_split=0).test[0]) == 0


def test_what_is_held_out_of_a_class_depends_on_no_other(folder):
    together, alone = quickdraw.load(folder), quickdraw.load(folder, ["dog"])
    for all_parts, part in zip(together[:2], alone[:2], strict=True):
        x = all_parts[0][all_parts[1] == 1]
        assert set(x[:, 0, 1].tolist()) == set(part[0][:, 0, 1].tolist())


def test_open_bitmaps_maps_the_file(folder):
    mapped = quickdraw.open_bitmaps(folder / "cat.npy")
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags.writeable
    np.testing.assert_array_equal(mapped.reshape(20, 784), np.load(folder / "cat.npy"))


def test_real_sketches_are_loaded(data_folder):
    if not (data_folder / "quickdraw").is_dir():
        pytest.skip("no quickdraw in the data folder")
    (x, _), (x_test, y_test), names = quickdraw.load(data_folder / "quickdraw", max_per_class=500)
    assert len(names) == 24
    assert len(x) + len(x_test) == 23 * 500 + 498
    assert set(y_test.tolist()) == set(range(24))
    assert x.reshape(len(x), -1).max(axis=1).min() > 200  # white lines on black


def header(**changes):
    stated = {"descr": "'|u1'", "fortran_order": "False", "shape": "(4, 784)", **changes}
    text = "{" + ", ".join(f"'{key}': {value}" for key, value in stated.items()) + "}\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def pickled():
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], object), allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize("data", [
    b"", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x09\x00" + bytes(100), header() + bytes(4 * 784 - 1),
    header() + bytes(4 * 784 + 1), header(shape="(4611686018427387904, 784)") + bytes(784),
    header(shape="(-1, 784)") + bytes(784), header(shape="(0, 784)"), header(shape="(4, 3)") + bytes(12),
    header(shape="(4.0, 784)") + bytes(4 * 784), header(descr="'<f4'", shape="(1, 784)") + bytes(4 * 784),
    header(descr="'|O'", shape="(1, 784)") + bytes(8 * 784), header(fortran_order="True") + bytes(4 * 784),
    header(shape="(" * 5000), header(shape="__import__('os')"), pickled(),
    header(descr="()"),
], ids=["empty", "cut", "version", "short", "long", "huge", "negative", "none", "small", "float", "type", "objects",
        "columns", "nested", "code", "pickle", "no-type"])
def test_npy_files_that_lie_are_refused(data, tmp_path):
    (tmp_path / "cat.npy").write_bytes(data)
    refused(lambda: quickdraw.load(tmp_path), "cat.npy")


def test_arguments_are_checked(folder):
    refused(lambda: quickdraw.load(folder, ["cat", "cow"]), "cow")
    refused(lambda: quickdraw.load(folder, "cat"), "class_names")
    refused(lambda: quickdraw.load(folder, max_per_class=0), "max_per_class")
    refused(lambda: quickdraw.load(folder, test_split=1), "test_split")
    refused(lambda: quickdraw.load(folder / "gone"), "gone")
    refused(lambda: quickdraw.load(), "classes")
    (folder / "empty").mkdir()
    refused(lambda: quickdraw.load(folder / "empty"), "none")


# --- strokes ---


def coverage(strokes, side, line_width=16, padding=16, zoom=32):
    """How much of each pixel lies within half a line's width of a segment, by distance; 0 to 255.

    Of several strokes each covers its share of what those before it left.
    """
    total = 256 + 2 * padding + line_width
    places = (np.arange(side * zoom) + 0.5) * total / (side * zoom) - padding - line_width / 2
    shift = [(256 - max(max(stroke[axis]) for stroke in strokes)) / 2 for axis in (0, 1)]
    left = np.ones((side, side))
    for stroke in strokes:
        nearest = np.full((side * zoom, side * zoom), np.inf)
        xs, ys = np.array(stroke[0]) + shift[0], np.array(stroke[1]) + shift[1]
        for i in range(max(1, len(xs) - 1)):
            j = min(i + 1, len(xs) - 1)
            dx, dy = xs[j] - xs[i], ys[j] - ys[i]
            length = dx * dx + dy * dy
            t = np.clip(((places - xs[i]) * dx + (places[:, None] - ys[i]) * dy) / length, 0, 1) if length else 0
            nearest = np.minimum(nearest, (places - xs[i] - t * dx)**2 + (places[:, None] - ys[i] - t * dy)**2)
        left *= 1 - (nearest <= (line_width / 2)**2).reshape(side, zoom, side, zoom).mean(axis=(1, 3))
    return 255 * (1 - left)


DRAWINGS = {
    "dot": [[[100], [30]]],
    "line": [[[0, 255], [0, 0]]],
    "diagonal": [[[0, 255], [0, 200]]],
    "bent": [[[0, 120, 120, 30], [0, 10, 10, 250]], [[200, 210], [100, 90]]],
}


@pytest.mark.parametrize("name", DRAWINGS)
@pytest.mark.parametrize("options", [{}, {"side": 20, "line_width": 40, "padding": 4}], ids=["28", "20"])
def test_rasterize_covers_what_is_near_a_stroke(name, options):
    image = rasterize([DRAWINGS[name]], **options)[0]
    assert image.dtype == np.uint8
    expected = coverage(DRAWINGS[name], **{"side": 28, **options})
    # Pillow's edges are up to a pixel of 64 a side away: 4 of 255 along an edge, more where edges meet.
    np.testing.assert_allclose(image, expected, atol=10)
    assert abs(image.mean() - expected.mean()) < 0.5


def test_rasterize_keeps_the_margin_of_the_data_set():
    """The largest drawing leaves padding, 16 of 304 units: one pixel and a half stay black on every side."""
    image = rasterize([[[[0, 255, 255, 0, 0], [0, 0, 255, 255, 0]]]])[0]
    assert image[0].max() == image[-1].max() == image[:, 0].max() == image[:, -1].max() == 0
    assert image[2, 2:-2].min() > 200
    np.testing.assert_allclose(image, image.T, atol=10)
    np.testing.assert_allclose(image, image[::-1, ::-1], atol=15)  # 255 is not 256


# Two cats of the data set (Google, CC BY 4.0), the rows 20 and 21 of its bitmaps.
CATS = {
    20: [[[3, 0, 7, 17, 41, 65, 79, 84, 91, 88, 84], [207, 103, 59, 39, 12, 0, 3, 12, 43, 253, 255]],
         [[8, 27, 58, 86], [48, 49, 56, 57]]],
    21: [[[34, 0, 27, 73], [110, 62, 63, 79]], [[154, 190, 223, 235, 235, 220, 206], [70, 28, 4, 0, 11, 63, 78]],
         [[154, 114, 104, 69], [65, 64, 71, 84]],
         [[29, 28, 35, 49, 75, 97, 111, 135, 150, 162, 179, 198, 199],
          [115, 163, 195, 224, 248, 255, 254, 248, 237, 224, 195, 131, 86]]],
}


def test_rasterize_draws_as_the_authors_did(data_folder):
    path = data_folder / "quickdraw" / "cat.npy"
    if not path.is_file():
        pytest.skip("no quickdraw/cat.npy in the data folder")
    expected = quickdraw.open_bitmaps(path)[list(CATS)].astype(float)
    difference = rasterize(CATS.values()) - expected
    assert np.sqrt((difference**2).mean()) < 1.5
    assert np.abs(difference).max() < 15


@pytest.mark.parametrize("side", [1, 2, 100])
def test_rasterize_draws_thin_lines_and_tiny_images(side):
    image, = rasterize([DRAWINGS["bent"]], side=side, line_width=1, padding=0)
    assert image.shape == (side, side)
    assert 0 < image.max() <= 255


def write_drawings(path, *drawings, word="cat"):
    path.write_text("".join(json.dumps({"word": word, "recognized": True, "drawing": drawing}) + "\n"
                            for drawing in drawings))


def test_ndjson_is_read_and_drawn(tmp_path):
    write_drawings(tmp_path / "full_simplified_cat.ndjson", *DRAWINGS.values())
    assert [drawing for _, drawing in read_ndjson(tmp_path / "full_simplified_cat.ndjson", 2)] == [
        [(stroke[0], stroke[1]) for stroke in DRAWINGS[name]] for name in ("dot", "line")]
    np.save(tmp_path / "dog.npy", bitmaps(3))
    (x, _), _, names = quickdraw.load(tmp_path, ["cat"], max_per_class=3, test_split=0)
    assert names == ["cat"]
    expected = rasterize(list(DRAWINGS.values())[:3])
    np.testing.assert_array_equal(np.sort(x.sum(axis=(1, 2))), np.sort(expected.sum(axis=(1, 2))))
    assert len(quickdraw.read_set(tmp_path)) == 7


@pytest.mark.parametrize("line", [
    b"", b"{", b"[]", b'{"drawing": [[[1], [1]]]}', b'{"word": "cat"}', b'{"word": "cat", "drawing": []}',
    b'{"word": "cat", "drawing": [[[], []]]}', b'{"word": "cat", "drawing": [[[1, 2], [1]]]}',
    b'{"word": "cat", "drawing": [[[1], [1], [1], [1]]]}', b'{"word": "cat", "drawing": [[["1"], [1]]]}',
    b'{"word": "cat", "drawing": [[[1e300], [1]]]}', b'{"word": "cat", "drawing": [[[1e999], [1]]]}',
    b'{"word": "cat", "drawing": [[[-1], [1]]]}', b'{"word": "cat", "drawing": [[[NaN], [1]]]}',
    b'{"word": "cat", "drawing": [[[' + b"9" * 5000 + b'], [1]]]}', b'{"word": "cat", "drawing": ' + b"[" * 50_000,
    b'{"word": "' + b"x" * (1 << 21) + b'"}',
    b'{"word": "cat", "drawing": [[' + 2 * (b"[" + b"1," * 6_000 + b"1],") [:-1] + b"]]}", b"\xff\xfe",
    json.dumps({"word": "cat", "drawing": [[[0, 255], [0, 255]]] * 101}).encode(),
], ids=["empty", "cut", "list", "word", "none", "no-strokes", "no-points", "uneven", "four", "text", "large",
        "infinite", "negative", "nan", "digits", "deep", "line", "points", "bytes", "strokes"])
def test_ndjson_that_is_hostile_is_refused(line, tmp_path):
    (tmp_path / "cat.ndjson").write_bytes(line + b"\n")
    refused(lambda: quickdraw.load(tmp_path), "cat.ndjson")


@pytest.mark.parametrize("call", [
    lambda: rasterize([[]]), lambda: rasterize([[[[1, 2], [1]]]]), lambda: rasterize([[[[300], [1]]]]),
    lambda: rasterize(["text"]), lambda: rasterize([], side=0), lambda: rasterize([], side=2000),
    lambda: rasterize([[[[0, 255], [0, 255]]] * 101]), lambda: rasterize([], line_width=-1),
    lambda: rasterize([], padding=float("nan")),
])
def test_rasterize_checks_its_arguments(call):
    refused(call)


# --- downloads ---


@pytest.fixture
def server():
    """Serves .npy files of three sketches under every name; `stated` is the MD5 that it states."""
    file = io.BytesIO()
    np.save(file, bitmaps(3))
    content = file.getvalue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            http.requested.append(unquote(self.path))
            self.send_response(200)
            self.send_header("Content-Length", str(len(http.content)))
            for line in http.stated:
                self.send_header("x-goog-hash", line)
            self.end_headers()
            self.wfile.write(http.content)

        def log_message(self, *arguments):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.requested, http.content = [], content
    http.stated = ["crc32c=AAAAAA==", "md5=" + base64.b64encode(hashlib.md5(content).digest()).decode()]
    http.url = f"http://127.0.0.1:{http.server_address[1]}/"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield http
    http.shutdown()
    thread.join()
    http.server_close()


def test_fetch_brings_each_class_once(server, tmp_path):
    names = ["cat", "The Eiffel Tower"]
    assert quickdraw.fetch(names, tmp_path, url=server.url, progress=False) == tmp_path
    assert quickdraw.fetch(names, tmp_path, url=server.url, progress=False) == tmp_path
    assert server.requested == ["/cat.npy", "/The Eiffel Tower.npy"]
    assert quickdraw.load(tmp_path).class_names == ["The Eiffel Tower", "cat"]


def test_load_without_a_folder_uses_the_cache(server, tmp_path, monkeypatch):
    monkeypatch.setenv("TINYCONV_CACHE", str(tmp_path))
    quickdraw.fetch(["cat"], url=server.url, progress=False)
    assert len(quickdraw.load(classes=["cat"], test_split=0).train[0]) == 3


def test_fetch_compares_checksums(server, tmp_path):
    sha256 = hashlib.sha256(server.content).hexdigest()
    quickdraw.fetch(["cat"], tmp_path, {"cat": sha256}, server.url, progress=False)
    with pytest.raises(DownloadError, match="SHA-256"):
        quickdraw.fetch(["dog"], tmp_path, {"dog": "0" * 64}, server.url, progress=False)
    server.content = server.content[:-1] + b"\0"
    with pytest.raises(DownloadError, match="MD5"):
        quickdraw.fetch(["owl"], tmp_path, url=server.url, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cat.npy"]


def test_fetch_refuses_other_names_and_files(server, tmp_path):
    for name in ("../cat", "a/b", "", "cat\n"):
        refused(lambda name=name: quickdraw.fetch([name], tmp_path, url=server.url, progress=False))
    assert server.requested == []
    server.content, server.stated = b"no such class", []
    refused(lambda: quickdraw.fetch(["cat"], tmp_path, url=server.url, progress=False), "cat.npy")
    assert list(tmp_path.iterdir()) == []
