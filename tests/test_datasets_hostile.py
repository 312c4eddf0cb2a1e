"""Data sets whose few bytes ask for much time or memory: refused before, or read in time."""

from __future__ import annotations

import io
import os
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tinyconv import datasets
from tinyconv.datasets import image_files, png, trees

pytestmark = pytest.mark.once
SECONDS = 2.0


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def a_png(width: int, height: int, data: bytes, before: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + before + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def a_sprite(folder: Path, picture: bytes) -> Path:
    (folder / "images.png").write_bytes(picture)
    (folder / "labels_uint8").write_bytes(bytes(2))
    return folder


def deflated_zeros(megabytes: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(megabytes)) + packer.flush()


def test_data_behind_the_last_row_of_a_png_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = a_sprite(tmp_path, a_png(784, 2, deflated_zeros(200)))
    unpacked = []

    class Counting:
        def __init__(self) -> None:
            self.inner = inflater()

        def decompress(self, data: bytes) -> bytes:
            unpacked.append(len(found := self.inner.decompress(data)))
            return found

    inflater = zlib.decompressobj
    monkeypatch.setattr(zlib, "decompressobj", Counting)
    assert len(datasets.read(path)) == 2
    assert sum(unpacked) < 32 << 20


def test_a_png_of_too_many_chunks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png, "_MAX_CHUNKS", 100)
    rows = zlib.compress(bytes(2 * 785))
    for count in (97, 98):
        path = a_sprite(tmp_path, a_png(784, 2, rows, chunk(b"tEXt", b"a\0b") * count))
        if count == 97:
            assert len(datasets.read(path)) == 2
        else:
            with pytest.raises(ValueError, match="to have at most 100 chunks. Received: more"):
                datasets.read(path)


def folders(folder: Path, name: str, data: bytes) -> Path:
    for label in "ab":
        (folder / label).mkdir()
        (folder / label / name).write_bytes(data)
    return folder


def test_a_jpeg_of_many_scans_is_refused_unless_it_is_small(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("L", (3000, 3000)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    starts = [place for place in range(len(data)) if data.startswith(b"\xff\xda", place)]
    again = data[starts[1]:starts[2]]  # some bytes for nine million pixels
    assert len(again) < 100
    path = folders(tmp_path, "x.jpg", data[:starts[2]] + again * 10_000 + data[starts[2]:])
    began = time.process_time()
    with pytest.raises(ValueError, match="3000 x 3000 pixels in 1000[0-9] scans"):
        datasets.read(path, image_size=4)
    assert time.process_time() - began < SECONDS
    for label in "ab":
        (path / label / "x.jpg").write_bytes(data)
    assert datasets.read(path, image_size=4).images.max() == 0


def test_scans_are_counted_where_a_piece_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (40, 40), np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG", progressive=True)
    path = folders(tmp_path, "x.jpg", buffer.getvalue())
    expected = datasets.read(path).images
    count = buffer.getvalue().count(b"\xff\xda")
    for piece in (4, 5, 7, 4096):
        monkeypatch.setattr(image_files, "_PIECE", piece)
        monkeypatch.setattr(image_files, "_MAX_SCANNED", 1600 * count)
        np.testing.assert_array_equal(datasets.read(path).images, expected)
        monkeypatch.setattr(image_files, "_MAX_SCANNED", 1600 * count - 1)
        with pytest.raises(ValueError, match=f"40 x 40 pixels in {count} scans"):
            datasets.read(path)


def test_scans_of_what_a_jpeg_carries_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cameras put a preview into a block of the file, and a film or their raw data behind it."""
    buffer = io.BytesIO()
    Image.new("L", (64, 64)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    monkeypatch.setattr(image_files, "_MAX_SCANNED", 64 * 64 * data.count(b"\xff\xda"))
    carried = b"\xff\xda\x00\x02" * 1000
    block = b"\xff\xed" + (len(carried) + 2).to_bytes(2, "big") + carried
    for changed in (data[:2] + block + data[2:], data + carried, data[:2] + block + data[2:] + carried):
        folder = tmp_path / str(len(changed))
        folder.mkdir()
        assert datasets.read(folders(folder, "x.jpg", changed)).images.shape[1:] == (64, 64, 1)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The images that are decoded."""
    found: list[Any] = []
    true_opened = trees.opened_image
    monkeypatch.setattr(trees, "opened_image", lambda what, file: (found.append(what), true_opened(what, file))[1])
    return found


def test_a_file_that_a_csv_file_names_often_is_read_once(tmp_path: Path, opened: list) -> None:
    for number in range(2):
        Image.new("L", (5, 4), 60 * number).save(tmp_path / f"{number}.png")
    names = ["0.png", "1.png", "./0.png", ".//1.png", "0.png"]
    if os.name != "nt":
        os.link(tmp_path / "1.png", tmp_path / "linked.png")
        (tmp_path / "soft.png").symlink_to("0.png")
        names += ["linked.png", "soft.png"]
    (tmp_path / "labels.csv").write_text("filename,label\n" + "".join(f"{name},7\n" for name in names))
    images = datasets.read(tmp_path)
    assert images.images[:, 0, 0, 0].tolist() == [0, 60, 0, 60, 0, 60, 0][:len(names)]
    assert len(opened) == 2


@pytest.mark.parametrize(("text", "message"), [
    ("filename,label\n" + "," * (1 << 20), "a line of more than 262144 characters"),
    ('filename,label\n"' + "x" * (1 << 20), "a line of more than 262144 characters"),
    ("filename,label\n" + "\n" * (3 << 20), "more than 1048576 rows"),
], ids=["fields", "text", "rows"])
def test_csv_files_that_would_become_many_objects_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        datasets.read(tmp_path, "csv")
