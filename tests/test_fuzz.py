"""What the fuzzer (`tests/fuzz`) found, each as a file of its own; and that the fuzzer's parts work."""

from __future__ import annotations

import gzip
import io
import os
import random
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from formats_cases import read_description, small_model, write_description
from PIL import Image

from tinyconv import Sequential, datasets, layers, load_model
from tinyconv.cli_predict import read_picture
from tinyconv.datasets.download import DownloadError, download
from tinyconv.formats import FormatError


def refused(read, message: str, budget: int = 8 << 20) -> None:
    """The error is one printable line, and not much memory was taken before it came."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message) as caught:
            read()
        assert tracemalloc.get_traced_memory()[1] < budget
    finally:
        tracemalloc.stop()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 800


# --- models ---


@pytest.mark.parametrize(("change", "message"), [
    (lambda d: d["modelTopology"]["config"]["layers"][0]["config"].update({"a\ufeffb": 1}), r"a\\ufeffb=1"),
    (lambda d: d["modelTopology"]["config"]["layers"][0]["config"].update({"a\u0007": 1}), r"a\\x07=1"),
    (lambda d: d["userDefinedMetadata"]["tinyconv"]["compile"].pop("loss"), "expected settings .* KeyError: 'loss'"),
    (lambda d: d["userDefinedMetadata"]["tinyconv"]["compile"].update(optimizer=1), "expected settings"),
], ids=range(4))
def test_settings_that_are_none_are_refused_in_a_printable_line(change, message, tmp_path):
    model = small_model()
    model.compile("adam", "mse")
    model.save(tmp_path)
    document = read_description(tmp_path)
    change(document)
    write_description(tmp_path, document)
    refused(lambda: load_model(tmp_path), message)


@pytest.mark.parametrize("dtype", ["a", "a4", {"config": {"name": "a"}}, "f4,f4", {"names": ["x"], "formats": ["f4"]},
                                   "O", "U3", 5],
                         ids=str)
def test_types_of_layers_that_are_no_numbers_are_refused(dtype, tmp_path):
    Sequential([layers.Dense(2, input_shape=(3,))]).save(tmp_path)
    document = read_description(tmp_path)
    document["modelTopology"]["config"]["layers"][0]["config"]["dtype"] = dtype
    write_description(tmp_path, document)
    refused(lambda: load_model(tmp_path), "Expected dtype to be")
    with pytest.raises(TypeError, match="Expected dtype to be a number's type"):
        layers.Input((3,), dtype=dtype)


@pytest.mark.parametrize("text", ["a\nb", "a\u0007", "\u202ea", "\ufeff", "\ud800", "\u2028"])
def test_messages_are_printable_whatever_they_name(text):
    error = FormatError(f"layer '{text}': expected another")
    assert str(error).isprintable()
    assert str(error).startswith("layer '")
    assert str(FormatError("Füße: expected 足")) == "Füße: expected 足"


def test_npz_types_that_numpy_warns_of_are_refused(tmp_path):
    model = small_model()
    model.save_weights(tmp_path / "m.npz")
    with zipfile.ZipFile(tmp_path / "m.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = next(iter(members))
    header = b"{'descr': '|a4', 'fortran_order': False, 'shape': (3,), }\n"
    members[name] = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    refused(lambda: model.load_weights(tmp_path / "m.npz"), "expected floats of shape")


def heap(*objects: tuple[int, int], size: int = 96) -> bytes:
    """A global heap of HDF5: of every object its number and the length that it says it has."""
    data = b"GCOL\x01\0\0\0" + struct.pack("<Q", size)
    for number, length in objects:
        data += struct.pack("<HHIQ", number, 1, 0, length)
        data += bytes((length + 7) // 8 * 8 if number and length < 64 else 0)
    return data.ljust(96, b"\0")


@pytest.mark.parametrize(("objects", "ends"), [
    ([(1, 5), (0, 56)], True), ([(1, 64)], True), ([(0, 80)], True), ([(1, 8), (2, 8), (0, 32)], True),
    ([(0, 0)], False), ([(1, 5), (0, 0)], False), ([(1, 2**64 - 16)], False), ([(1, 2**64 - 8)], False),
    ([(1, 5), (2, 500)], False), ([(0, 8), (0, 0)], False), ([(0, 2**63)], False),
])
def test_hdf5_heaps_that_libhdf5_would_not_come_to_the_end_of_are_refused(objects, ends):
    from tinyconv.formats.hdf5_heaps import check_heaps

    file = io.BytesIO(bytes(100) + heap(*objects) + bytes(7))
    if ends:
        check_heaps(file, "file")
    else:
        refused(lambda: check_heaps(file, "file"), "global heaps whose objects lie in them")
    check_heaps(io.BytesIO(heap((0, 0), size=10_000)), "file")  # longer than the file: libhdf5 sees that
    check_heaps(io.BytesIO(b"GCOL\x01"), "file")
    check_heaps(io.BytesIO(b"GCOL\x02" + bytes(100)), "file")


def test_hdf5_file_whose_heap_has_no_end_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py", reason="the extra [keras] is not installed")
    small_model().save(tmp_path / "m.h5")
    data = bytearray((tmp_path / "m.h5").read_bytes())
    place = data.index(b"GCOL") + 16
    while data[place:place + 2] != b"\0\0":
        place += 16 + -(-struct.unpack_from("<Q", data, place + 8)[0] // 8) * 8
    data[place + 8:place + 16] = bytes(8)
    (tmp_path / "m.h5").write_bytes(data)
    refused(lambda: load_model(tmp_path / "m.h5"), "global heaps")
    sizes = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    sizes.set_sizes(4, 4)
    h5py.h5f.create(os.fsencode(tmp_path / "s.h5"), fcpl=sizes).close()
    refused(lambda: load_model(tmp_path / "s.h5"), "addresses and lengths of 64 bits")


# --- data sets ---


def png(width: int, height: int, data: bytes = b"", depth: int = 8, color: int = 0) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def write_pair(folder: Path, image: bytes, labels: bytes = b"\1") -> None:
    (folder / "images.png").write_bytes(image)
    (folder / "labels_uint8").write_bytes(labels)


def test_sprites_of_more_pixels_than_their_bytes_can_hold_are_refused(tmp_path):
    write_pair(tmp_path, png(784, 1_000_000))
    refused(lambda: datasets.Sprite(tmp_path), "more than its .* bytes can hold")
    write_pair(tmp_path, png(784, 4, bytes(4 * 785)), bytes(4))
    assert not datasets.Sprite(tmp_path, num_classes=1).images.any()


def test_sprite_channels_count_in_the_budget(tmp_path):
    write_pair(tmp_path, png(16, 4, bytes(4 * 17)), bytes(4))
    assert len(datasets.Sprite(tmp_path, max_bytes=64)) == 4
    assert len(datasets.Sprite(tmp_path, image_shape=(4, 4, 4), max_bytes=256)) == 4
    refused(lambda: datasets.Sprite(tmp_path, image_shape=(4, 4, 4), max_bytes=255), "max_bytes=255")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_are_no_files_of_a_sprite(tmp_path):
    write_pair(tmp_path, png(16, 4, bytes(4 * 17)), bytes(4))
    (tmp_path / "images.png").unlink()
    os.mkfifo(tmp_path / "images.png")
    refused(lambda: datasets.Sprite(tmp_path), "Expected one file")


@pytest.mark.parametrize(("kind", "make"), [
    ("webp", lambda: b"RIFF\x60\0\0\0WEBPVP8 \x54\0\0\0\x90\x01\0\x9d\x01*" + struct.pack("<HH", 16_000, 4000)
     + bytes(80)),
    ("png", lambda: png(8000, 8000)), ("png", lambda: png(60_000, 1000, depth=1)),
])
def test_pictures_of_more_pixels_than_their_bytes_can_hold_are_refused(kind, make, tmp_path):
    path = tmp_path / f"x.{kind}"
    path.write_bytes(make())
    refused(lambda: read_picture(str(path)), "pixels in")
    Image.new("1", (4000, 3000)).save(tmp_path / "white.png")  # which is honest
    assert read_picture(str(tmp_path / "white.png")).shape == (3000, 4000, 1)


def test_idx_labels_that_are_more_than_the_images_take_no_memory(tmp_path):
    def idx(shape: tuple[int, ...]) -> bytes:
        return bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes() + bytes(int(np.prod(shape)))

    (tmp_path / "images-idx3-ubyte").write_bytes(idx((4, 3, 3)))
    (tmp_path / "labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx((1 << 25,))))
    refused(lambda: datasets.read(tmp_path), "hold 4 integers, one for each image", 4 << 20)


@pytest.mark.parametrize("name", ["x" * 3000, "a\u0001.png", "\u202ea.png"], ids=["long", "control", "direction"])
def test_csv_names_that_are_none_are_refused_in_a_printable_line(name, tmp_path):
    (tmp_path / "labels.csv").write_text(f"filename,label\n{name},1\n", encoding="utf-8")
    refused(lambda: datasets.read(tmp_path, "csv"), "[Ee]xpected|no such file|too long")


def test_failed_download_removes_its_part_while_it_is_its_own(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl", reason="this system has no such locks")
    unlink, seen = Path.unlink, []

    def watched(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".part":
            with open(path, "rb") as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            seen.append(path)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", watched)
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(DownloadError):
        download("http://127.0.0.1:1/x", tmp_path / "x", timeout=1)
    assert [path.name for path in seen] == ["x.part"]
    assert not list(tmp_path.iterdir())


# --- the fuzzer ---


def targets() -> dict:
    pytest.importorskip("h5py", reason="the extra [keras] is not installed")
    pytest.importorskip("resource", reason="the fuzzer needs Linux")
    if not Path("/proc/self/statm").exists():
        pytest.skip("the fuzzer needs Linux")
    import fuzz_targets

    return fuzz_targets.TARGETS


@pytest.mark.once
def test_fuzzed_inputs_are_read_or_refused(tmp_path):
    """Every reader, on its seeds and on changes of them that follow from a seed: as the fuzzer, not guided."""
    from fuzz_cases import pack, unpack, write

    readers = targets()
    from fuzz_guard import examine
    from fuzz_mutators import mutate
    from fuzz_targets import seeds_of

    source = random.Random(1)
    for name, target in readers.items():
        seeds = seeds_of(name)
        for number in range(24):
            files = seed = seeds[number % len(seeds)]
            if number >= len(seeds):
                files = mutate(seed, source, lambda data: data[: len(data) // 2])
            assert unpack(pack(files)) == files
            folder = tmp_path / f"{name}-{number}"
            folder.mkdir()
            try:
                write(files, folder)
            except (OSError, ValueError):
                continue
            examine(target.read, target.use, folder)


def test_fuzz_guard_finds_what_must_not_be(tmp_path):
    targets()
    from fuzz_guard import Finding, examine

    def nothing(result: object) -> None:
        pass

    def failing(error: BaseException):
        def read(folder: Path) -> None:
            raise error
        return read

    assert examine(lambda folder: 1, nothing, tmp_path)
    assert not examine(failing(FormatError("Expected x. Received: y")), nothing, tmp_path)
    for read, kind in (
            (failing(RuntimeError("x")), "error"), (failing(KeyError("x")), "error"), (failing(MemoryError()), "error"),
            (failing(ValueError("two\nlines expected")), "message"), (failing(ValueError("no idea")), "message"),
            (lambda folder: open(folder / "x", "w").close(), "files"),
            (lambda folder: open("/etc/passwd").close(), "files"),
            (lambda folder: os.remove(folder / "y"), "files")):
        (tmp_path / "y").write_bytes(b"")
        with pytest.raises(Finding, match=kind):
            examine(read, nothing, tmp_path)
