"""MNIST from its sprite, and the tutorials' data class."""

from __future__ import annotations

import hashlib
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from tinyconv import datasets
from tinyconv.datasets import MnistData, Sprite, mnist, write_sprite

pytestmark = pytest.mark.once


@pytest.fixture
def folder(tmp_path):
    """A sprite of 60 images 28x28: image i is filled with i, its class is i % 10."""
    images = np.repeat(np.arange(60, dtype=np.uint8), 784).reshape(60, 28, 28)
    write_sprite(images, np.arange(60) % 10, tmp_path / "small", prefix="mnist")
    return tmp_path / "small"


@pytest.fixture
def serve(monkeypatch):
    """A function that serves a folder on this machine and returns its address."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    started = []

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    def start(path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(path)))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        started.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server, thread in started:
        server.shutdown()
        thread.join()
        server.server_close()


def known_as_mnist(monkeypatch, folder, address, num_train, num_images):
    """Makes the sprite of a folder, served at an address, the one that is known as MNIST."""
    urls = {name: f"{address}/{name}" for name in ("mnist_images.png", "mnist_labels_uint8")}
    monkeypatch.setattr(mnist, "SHA256", {
        url: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name, url in urls.items()})
    monkeypatch.setattr(mnist, "IMAGES_URL", urls["mnist_images.png"])
    monkeypatch.setattr(mnist, "LABELS_URL", urls["mnist_labels_uint8"])
    monkeypatch.setattr(mnist, "NUM_TRAIN", num_train)
    monkeypatch.setattr(mnist, "NUM_IMAGES", num_images)


# --- load_data ---


def test_load_data_has_keras_form(data_folder):
    (x, y), (x_test, y_test) = mnist.load_data(data_folder / "mnist")
    assert (x.shape, y.shape) == ((55000, 28, 28), (55000,))
    assert (x_test.shape, y_test.shape) == ((10000, 28, 28), (10000,))
    assert {array.dtype for array in (x, y, x_test, y_test)} == {np.dtype(np.uint8)}
    assert all(array.flags.c_contiguous for array in (x, y, x_test, y_test))
    # As known of MNIST: its test images begin 7, 2, 1, 0, 4; the classes' counts among them.
    assert y_test[:5].tolist() == [7, 2, 1, 0, 4]
    assert np.bincount(y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert x_test.mean() == pytest.approx(0.1325 * 255, rel=1e-3)


def test_known_checksums_are_those_of_the_real_files(data_folder):
    for url, sha256 in mnist.SHA256.items():
        content = (data_folder / "mnist" / url.rpartition("/")[2]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == sha256


def test_load_data_refuses_another_sprite(folder):
    with pytest.raises(ValueError, match="65000 images 28x28x1, 10 classes. Received: <Sprite of 60 images"):
        mnist.load_data(folder)


def test_load_data_downloads_once_into_the_cache(folder, serve, monkeypatch, tmp_path, capsys):
    known_as_mnist(monkeypatch, folder, serve(folder), 50, 60)
    monkeypatch.setenv("TINYCONV_CACHE", str(tmp_path / "cache"))
    (x, y), (x_test, _) = datasets.mnist.load_data()
    assert (x.shape, x_test.shape) == ((50, 28, 28), (10, 28, 28))
    np.testing.assert_array_equal(y, np.arange(50) % 10)
    cached = sorted((tmp_path / "cache" / "mnist").iterdir())
    assert [path.name for path in cached] == ["mnist_images.png", "mnist_labels_uint8"]
    assert "mnist_images.png" in capsys.readouterr().err

    shutil.rmtree(folder)  # from now on only the cache has them
    mnist.load_data()
    assert capsys.readouterr().err == ""


def test_load_data_replaces_a_broken_file_of_the_cache(folder, serve, monkeypatch, tmp_path):
    known_as_mnist(monkeypatch, folder, serve(folder), 50, 60)
    monkeypatch.setenv("TINYCONV_CACHE", str(tmp_path / "cache"))
    mnist.load_data()
    path = tmp_path / "cache" / "mnist" / "mnist_images.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:-50])
    mnist.load_data()
    assert path.read_bytes() == whole


def test_load_data_without_connection_says_what_to_do(folder, monkeypatch, tmp_path):
    known_as_mnist(monkeypatch, folder, "http://127.0.0.1:1", 50, 60)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("TINYCONV_CACHE", str(tmp_path / "cache"))
    with pytest.raises(OSError, match="Could not download http://127.0.0.1:1/mnist_images.png: ") as error:
        mnist.load_data()
    text = str(error.value)
    assert "\n" not in text
    assert "give as path a folder that holds mnist_images.png and mnist_labels_uint8" in text
    assert str(tmp_path / "cache" / "mnist") in text
    assert "datasets.digits needs no files" in text
    assert list((tmp_path / "cache" / "mnist").iterdir()) == []


# --- MnistData ---


def ids(xs):
    """Which images of `folder` they are."""
    np.testing.assert_array_equal(xs, xs[:, :1].repeat(784, axis=1))
    return np.rint(xs[:, 0] * 255).astype(int).tolist()


def test_batches_have_the_tutorials_form(folder):
    data = MnistData(folder, split=50, seed=1)
    assert data.load() is data
    for take in (data.next_train_batch, data.next_test_batch):
        xs, labels = take(8)
        assert (xs.shape, labels.shape) == ((8, 784), (8, 10))
        assert (xs.dtype, labels.dtype) == (np.float32, np.float32)
        assert 0 <= xs.min() <= xs.max() <= 1
        np.testing.assert_array_equal(labels, np.eye(10)[np.array(ids(xs)) % 10])


def test_batches_are_shuffled_and_wrap_around(folder):
    data = MnistData(folder, split=50, seed=1).load()
    taken = [number for _ in range(10) for number in ids(data.next_train_batch(15)[0])]
    assert sorted(taken[:50]) == list(range(50))
    assert taken[:50] != list(range(50))
    assert taken[:50] == taken[50:100] == taken[100:150]


def test_test_batches_have_their_own_place(folder):
    data, other = (MnistData(folder, split=50, seed=1).load() for _ in range(2))
    first = ids(data.next_test_batch(4)[0])
    data.next_train_batch(33)
    rest = ids(data.next_test_batch(6)[0])
    assert sorted(first + rest) == list(range(50, 60))
    assert ids(other.next_test_batch(25)[0]) == ((first + rest) * 3)[:25]


def test_seed_determines_the_order(folder):
    first, again, other = (ids(MnistData(folder, split=50, seed=seed).load().next_train_batch(50)[0])
                           for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize(("split", "count"), [
    (50, 50), (5 / 6, 50), (0.999, 59), (1, 1), (np.int64(7), 7), (12.0, 12)])
def test_split_is_a_number_or_a_ratio(folder, split, count):
    data = MnistData(folder, split=split).load()
    assert (len(data.train), len(data.test)) == (count, 60 - count)
    assert isinstance(data.train, Sprite)
    assert np.shares_memory(data.train.images, data.test.images.base)


@pytest.mark.parametrize(("split", "count"), [(55_000, 55_000), (5 / 6, 54_166)])
def test_real_sprite_is_split_as_the_tutorials_split_it(data_folder, split, count):
    data = MnistData(data_folder / "mnist", split=split, seed=1).load()
    assert (len(data.train), len(data.test)) == (count, 65_000 - count)
    assert data.train.images.dtype == np.uint8
    xs, labels = data.next_train_batch(512)
    assert (xs.shape, labels.shape, xs.max()) == ((512, 784), (512, 10), 1)


@pytest.mark.parametrize("split", [0, -1, 0.0, 1.5, "a", None, True, float("nan"), float("inf")], ids=repr)
def test_split_that_is_none_is_refused(folder, split):
    with pytest.raises(ValueError, match="Expected split to be .* Received: split="):
        MnistData(folder, split=split)


@pytest.mark.parametrize("split", [55_000, 60, 0.001])
def test_split_that_leaves_nothing_is_refused(folder, split):
    with pytest.raises(ValueError, match=f"Received: split={split} of 60 images"):
        MnistData(folder, split=split).load()


def test_batches_need_load_and_a_size(folder):
    data = MnistData(folder, split=50)
    with pytest.raises(RuntimeError, match=r"Expected load\(\)"):
        data.next_train_batch(3)
    data.load()
    for size in (0, -1, 1.5):
        with pytest.raises(ValueError, match=f"Received: batch_size={size}"):
            data.next_test_batch(size)


def test_addresses_are_loaded_anew_each_time(folder, serve, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("TINYCONV_CACHE", str(tmp_path / "cache"))
    address = serve(folder)
    data = MnistData(images_url=f"{address}/mnist_images.png", labels_url=f"{address}/mnist_labels_uint8",
                     split=50)
    assert sorted(ids(data.load().next_train_batch(50)[0])) == list(range(50))
    write_sprite(np.full((60, 28, 28), 9, np.uint8), np.arange(60) % 10, folder, prefix="mnist")
    assert set(ids(data.load().next_train_batch(50)[0])) == {9}
    assert not (tmp_path / "cache").exists()


def test_addresses_default_to_mnists_and_its_cache(folder, serve, monkeypatch, tmp_path):
    known_as_mnist(monkeypatch, folder, serve(folder), 50, 60)
    monkeypatch.setenv("TINYCONV_CACHE", str(tmp_path / "cache"))
    MnistData(split=50).load()
    shutil.rmtree(folder)
    assert len(MnistData(split=50).load().train) == 50


def test_missing_address_is_reported(folder, serve):
    address = serve(folder)
    data = MnistData(images_url=f"{address}/none.png", labels_url=f"{address}/mnist_labels_uint8", split=50)
    with pytest.raises(OSError, match="none.png: HTTP status 404"):
        data.load()


@pytest.mark.parametrize("arguments", [
    {"images_url": "http://127.0.0.1/a"}, {"labels_url": "http://127.0.0.1/a"},
    {"path": "x", "images_url": "http://127.0.0.1/a", "labels_url": "http://127.0.0.1/b"},
], ids=lambda arguments: "+".join(arguments))
def test_path_and_addresses_exclude_each_other(arguments):
    with pytest.raises(ValueError, match="Expected either path, or both images_url and labels_url"):
        MnistData(**arguments)


def test_addresses_that_are_files_are_refused(folder):
    data = MnistData(images_url=(folder / "mnist_images.png").as_uri(), labels_url="http://127.0.0.1/b")
    with pytest.raises(ValueError, match="http or https address. Received: 'file://"):
        data.load()
