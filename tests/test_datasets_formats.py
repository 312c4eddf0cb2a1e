"""Data sets in every format: what is written is read again, what is damaged or hostile is refused."""

from __future__ import annotations

import gzip
import os
import re
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from dataset_helpers import refused
from PIL import Image

from tinyconv import cli, datasets
from tinyconv.datasets import ImageSet, Sprite, contact_sheet, registry, trees
from tinyconv.datasets.idx import read_idx, write_idx

pytestmark = pytest.mark.once

NAMES = ["cat", "dog", "owl"]


def make(count=9, shape=(28, 28, 1), names=NAMES, **options):
    """Random images, class by class: the order that every format keeps."""
    random = np.random.default_rng(count)
    labels = np.sort(np.arange(count) % len(names))
    return ImageSet(random.integers(0, 256, (count, *shape), dtype=np.uint8), labels, names, **options)


def same(found, expected):
    np.testing.assert_array_equal(found.images, expected.images)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert (found.class_names, found.num_train) == (expected.class_names, expected.num_train)


def files_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# --- round trips ---


@pytest.mark.parametrize("name", [kind.name for kind in registry.FORMATS])
def test_what_a_format_writes_it_reads_and_is_recognised(name, tmp_path):
    images = make()
    assert datasets.write(images, tmp_path / "out", name) == name
    assert registry.recognise(tmp_path / "out").name == name
    same(datasets.read(tmp_path / "out"), images)


def test_a_sprite_goes_through_every_format_and_comes_back(tmp_path):
    expected = make(12)
    before = datasets.write(expected, tmp_path / "sprite")
    assert before == "sprite"
    path = tmp_path / "sprite"
    for name in ("idx", "csv", "quickdraw", "folders", "sprite"):
        datasets.write(datasets.read(path), tmp_path / name / "data", name)
        path = tmp_path / name / "data"
    same(datasets.read(path), expected)
    np.testing.assert_array_equal(Sprite(path).images, expected.images)


@pytest.mark.parametrize(("target", "files"), [
    ("new.png", ["class_names.txt", "new_images.png", "new_labels_uint8"]),
    ("images.png", ["class_names.txt", "images.png", "labels_uint8"]),
    ("x-images-idx3-ubyte.gz", ["class_names.txt", "x-images-idx3-ubyte.gz", "x-labels-idx1-ubyte.gz"]),
    ("labels.csv", ["class_names.txt", *(f"images/{i:06d}.png" for i in range(9)), "labels.csv"]),
])
def test_the_format_to_write_follows_from_the_name(target, files, tmp_path):
    datasets.write(make(), tmp_path / "out" / target)
    assert files_of(tmp_path / "out") == files
    same(datasets.read(tmp_path / "out"), make())


@pytest.mark.parametrize("name", ["idx", "csv", "folders", "sprite"])
def test_colours_survive(name, tmp_path):
    images = make(6, (5, 7, 3))
    datasets.write(images, tmp_path / "out", name)
    same(datasets.read(tmp_path / "out", image_shape=(5, 7, 3)), images)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
def test_idx_keeps_every_type_and_shape(dtype, compress, tmp_path):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    with open(tmp_path / "x", "wb") as file:
        write_idx(file, array, compress)
    found = read_idx(tmp_path / "x")
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_idx_is_what_mnists_page_describes(tmp_path):
    (tmp_path / "x").write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6]))
    np.testing.assert_array_equal(read_idx(tmp_path / "x"), [[1, 2, 3], [4, 5, 6]])


def test_idx_folder_with_two_pairs_keeps_the_split(tmp_path):
    images = make(num_train=6)
    datasets.write(images, tmp_path, "idx")
    assert {"train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"} <= set(files_of(tmp_path))
    same(datasets.read(tmp_path), images)
    (tmp_path / "t10k-images-idx3-ubyte").rename(tmp_path / "other-images-idx3-ubyte")
    (tmp_path / "t10k-labels-idx1-ubyte").rename(tmp_path / "other-labels-idx1-ubyte")
    datasets.read(tmp_path)
    same(datasets.read(tmp_path / "train-images-idx3-ubyte"),
         ImageSet(images.images[:6], images.labels[:6], NAMES))


def test_csv_takes_named_columns_subfolders_and_class_numbers(tmp_path):
    images = make(4)
    (tmp_path / "pictures").mkdir()
    for row in range(4):
        Image.fromarray(images.images[row, ..., 0]).save(tmp_path / "pictures" / f"{row}.png")
    (tmp_path / "train.csv").write_text("id,Label,filename\n" + "".join(f"7,{row},{row}.png\n" for row in range(4)))
    found = datasets.read(tmp_path / "train.csv")
    np.testing.assert_array_equal(found.images, images.images)
    assert (found.labels.tolist(), found.class_names) == ([0, 1, 2, 3], ["0", "1", "2", "3"])
    (tmp_path / "train.csv").write_text("pictures/2.png,owl\npictures/0.png,cat\n")
    found = datasets.read(tmp_path)
    np.testing.assert_array_equal(found.images, images.images[[2, 0]])
    assert (found.labels.tolist(), found.class_names) == ([1, 0], ["cat", "owl"])


def test_image_files_are_resized_and_their_channels_chosen(tmp_path):
    for name, size in (("a", 8), ("b", 4)):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((size, size), size, np.uint8)).save(tmp_path / name / "x.png")
    refused(lambda: datasets.read(tmp_path), "one size", "x.png")
    found = datasets.read(tmp_path, image_size=2, channels=3)
    assert found.images.shape == (2, 2, 2, 3)
    assert found.images[:, 0, 0, 0].tolist() == [8, 4]
    refused(lambda: datasets.read(tmp_path, channels=2), "channels=2")


def test_16_bit_images_keep_their_high_byte(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(np.full((2, 2), 0x1234, np.uint16)).save(tmp_path / "a" / "x.png")
    assert datasets.read(tmp_path).images.ravel().tolist() == [0x12] * 4


def test_real_folders_and_csv_are_the_same_digits(data_folder):
    if not (data_folder / "mnist-csv").is_dir():
        pytest.skip("no mnist-csv in the data folder")
    by_class = datasets.read(data_folder / "mnist-folders")
    by_table = datasets.read(data_folder / "mnist-csv")
    assert (len(by_class), by_class.class_names) == (600, [str(digit) for digit in range(10)])
    order = np.argsort(by_table.labels, kind="stable")
    np.testing.assert_array_equal(by_class.labels, by_table.labels[order])
    np.testing.assert_array_equal(np.sort(by_class.images.reshape(600, -1).sum(axis=1)),
                                  np.sort(by_table.images.reshape(600, -1).sum(axis=1)))


# --- what is refused ---


def idx_bytes(shape, data=b"", code=8):
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + data


HOSTILE_IDX = {
    "empty": (b"", "IDX file"),
    "other": (b"PK\3\4 and so on", "IDX file"),
    "type": (idx_bytes((1,), b"1", code=7), "IDX file"),
    "rank": (b"\0\0\x08\xff" + bytes(1020), "IDX file"),
    "header": (b"\0\0\x08\x03\0\0", "header"),
    "short": (idx_bytes((10, 28, 28), bytes(100)), "a shorter file"),
    "huge": (idx_bytes((2**32 - 1,) * 8), "max_bytes"),
    "giga": (idx_bytes((60_000, 100, 100)), "a shorter file"),
    "long": (idx_bytes((2, 2), bytes(5)), "more bytes"),
}


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("case", HOSTILE_IDX)
def test_idx_that_lies_is_refused_without_taking_memory(case, compress, tmp_path):
    data, word = HOSTILE_IDX[case]
    (tmp_path / "x").write_bytes(gzip.compress(data) if compress else data)
    if compress and case == "short":
        word = "Received: 100 bytes"  # as long as deflate could have made it
    tracemalloc.start()
    refused(lambda: read_idx(tmp_path / "x"), word, "x")
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_gzip_bombs_and_damage_are_refused(tmp_path):
    bomb = gzip.compress(idx_bytes((1 << 20, 28), bytes(1 << 24)), 9)  # 16 of 28 MB of zeros in a few KB
    (tmp_path / "bomb").write_bytes(bomb)
    assert len(bomb) < 20_000
    refused(lambda: read_idx(tmp_path / "bomb"), "29360128 bytes")
    refused(lambda: read_idx(tmp_path / "bomb", max_bytes=1 << 20), "max_bytes=1048576")
    good = bytearray(gzip.compress(idx_bytes((4, 4), bytes(range(16)))))
    (tmp_path / "cut").write_bytes(good[:-9])
    good[-5] ^= 1  # its checksum
    (tmp_path / "wrong").write_bytes(good)
    (tmp_path / "junk").write_bytes(b"\x1f\x8b" + bytes(50))
    for name in ("cut", "wrong", "junk"):
        refused(lambda name=name: read_idx(tmp_path / name), name)


def test_idx_sets_that_do_not_fit_are_refused(tmp_path):
    datasets.write(make(), tmp_path, "idx")
    labels = tmp_path / "labels-idx1-ubyte"
    for data in (idx_bytes((8,), bytes(8)), idx_bytes((3, 3), bytes(9)), idx_bytes((9,), bytes(36), code=0x0D)):
        labels.write_bytes(data)
        refused(lambda: datasets.read(tmp_path, "idx"), "ubyte to hold")
    labels.write_bytes(idx_bytes((9,), bytes([5] * 9)))
    refused(lambda: datasets.read(tmp_path), "a name for every class up to 5")
    refused(lambda: datasets.read(tmp_path / "labels-idx1-ubyte", "idx"), "a pair")


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "images/../../secret.png", "C:\\x.png", "a\0b.png",
                                  "link.png", "folder", "gone.png", ""])
def test_csv_names_no_file_outside_of_its_folder(name, tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "secret.png")
    folder = tmp_path / "data"
    (folder / "folder").mkdir(parents=True)
    os.symlink(tmp_path / "secret.png", folder / "link.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "good.png")
    (folder / "labels.csv").write_text(f"good.png,0\n{name},1\n", encoding="utf-8")
    refused(lambda: datasets.read(folder))


@pytest.mark.parametrize(("text", "word"), [
    (b"", "no rows"), (b"filename,label\n", "no rows"), (b"good.png\n", "row 1"),
    (b"good.png,1\n\xff\xfe,0\n", "UTF-8"), (b'"' + b"x" * 200_000 + b'",1\n', "field larger"),
    (b"good.png,99999\n", "labels"), (b"good.png,123456\ngone,0\n", "gone"),
], ids=["empty", "title", "column", "bytes", "field", "number", "file"])
def test_csv_that_is_damaged_is_refused(text, word, tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "good.png")
    (tmp_path / "labels.csv").write_bytes(text)
    refused(lambda: datasets.read(tmp_path / "labels.csv"), word)


def test_csv_that_is_too_long_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(trees, "_MAX_ROWS", 3)
    (tmp_path / "labels.csv").write_text("filename,label\n" + "gone.png,0\n" * 3)
    refused(lambda: datasets.read(tmp_path / "labels.csv"), "no such file")
    (tmp_path / "labels.csv").write_text("gone.png,0\n" * 4)
    refused(lambda: datasets.read(tmp_path / "labels.csv"), "more than 3 rows")
    monkeypatch.setattr(trees, "_MAX_CSV_BYTES", 40)
    refused(lambda: datasets.read(tmp_path / "labels.csv"), "at most 40 bytes")


def png_that_claims(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b""))


@pytest.mark.parametrize("data", [b"", b"no image", png_that_claims(2**31 - 1, 2**31 - 1), png_that_claims(9000, 9000),
                                  png_that_claims(50, 50)[:60]])
def test_image_files_that_are_none_or_too_large_are_refused(data, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").write_bytes(data)
    refused(lambda: datasets.read(tmp_path), "x.png")


@pytest.mark.parametrize("names", [b"\xff", b"a\na\nb\n", b"a\n" * 3, b"x" * 300, b"a\x07\nb\nc\n"])
def test_class_names_that_are_none_are_refused(names, tmp_path):
    datasets.write(make(), tmp_path)
    (tmp_path / "class_names.txt").write_bytes(names)
    refused(lambda: datasets.read(tmp_path))


@pytest.mark.parametrize("absolute", [False, True])
def test_a_line_of_class_names_is_no_path(absolute, tmp_path):
    datasets.write(make(), tmp_path / "in", "folders")
    (tmp_path / "private").mkdir()
    Image.new("L", (28, 28), 77).save(tmp_path / "private" / "x.png")
    names = [*NAMES, str(tmp_path / "private") if absolute else "../private"]
    (tmp_path / "in" / "class_names.txt").write_text("\n".join(names))
    found = datasets.read(tmp_path / "in")
    np.testing.assert_array_equal(found.images, make().images)
    assert found.counts().tolist() == [3, 3, 3, 0]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege")
@pytest.mark.parametrize("inside", [False, True])
def test_a_class_that_is_a_link_is_refused(inside, tmp_path):
    datasets.write(make(), tmp_path / "in", "folders")
    (tmp_path / "private").mkdir()
    Image.new("L", (28, 28)).save(tmp_path / "private" / "x.png")
    target = tmp_path / "in" / "cat" if inside else tmp_path / "private"
    (tmp_path / "in" / "secret").symlink_to(target, target_is_directory=True)
    refused(lambda: datasets.read(tmp_path / "in"), "secret", "a link")


@pytest.mark.parametrize("name", ["..", "a/b", ".hidden", "a\\b", "c:", "end."])
def test_class_names_become_no_path(name, tmp_path):
    images = make(names=["cat", "dog", name])
    for kind in ("folders", "quickdraw"):
        if kind == "folders" or not name[0].isalnum() or "/" in name or "\\" in name or ":" in name:
            refused(lambda kind=kind: datasets.write(images, tmp_path / "out", kind), "class names")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["folders", "csv"])
def test_new_folders_replace_nothing_and_are_whole_or_absent(kind, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("kept")
    refused(lambda: datasets.write(make(), tmp_path / "there", kind), "new or empty", error=FileExistsError)
    (tmp_path / "empty").mkdir()
    datasets.write(make(), tmp_path / "empty", kind)
    calls = []

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise OSError("disk full")

    monkeypatch.setattr("tinyconv.datasets.trees.write_png", fail)
    with pytest.raises(OSError, match="disk full"):
        datasets.write(make(), tmp_path / "new", kind)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "there"]
    assert (tmp_path / "there" / "file").read_text() == "kept"


@pytest.mark.parametrize(("arguments", "word"), [
    ((np.zeros((2, 4, 4), np.float32), [0, 1]), "uint8"),
    ((np.zeros((2, 4, 4, 2), np.uint8), [0, 1]), "channels"),
    ((np.zeros((0, 4, 4), np.uint8), []), "not empty"),
    ((np.zeros((2, 4, 4), np.uint8), [0, -1]), "labels"),
    ((np.zeros((2, 4, 4), np.uint8), [0, 1, 2]), "labels"),
    ((np.zeros((2, 4, 4), np.uint8), [0, 2], ["a", "b"]), "a name for every class"),
    ((np.zeros((2, 4, 4), np.uint8), [0, 1], ["a", "a"]), "class_names"),
    ((np.zeros((2, 4, 4), np.uint8), [0, 1], None, 2), "num_train"),
])
def test_image_sets_hold_what_fits(arguments, word):
    refused(lambda: ImageSet(*arguments), word, error=(ValueError, TypeError))


def test_formats_that_do_not_exist_are_named(tmp_path):
    refused(lambda: datasets.read(tmp_path / "gone"), "gone", error=FileNotFoundError)
    refused(lambda: datasets.read(tmp_path), "sprite", "folders")
    refused(lambda: datasets.read(tmp_path, "tiff"), "'tiff'")
    refused(lambda: datasets.write(make(), tmp_path / "out.csv"), "labels.csv")
    refused(lambda: datasets.write(make(6, (4, 4, 1)), tmp_path / "q", "quickdraw"), "28x28x1")
    assert files_of(tmp_path) == []


# --- contact sheets and the command ---


def test_contact_sheet_has_a_row_a_class():
    images = make(9, (6, 5, 1))
    sheet = contact_sheet(images, columns=2)
    assert sheet.shape[0] == 3 * 30 + 2
    assert sheet.shape[1:] == (112 + 2 * 7, 3)
    np.testing.assert_array_equal(sheet[2:8, 112:117, 0], images.images[0, ..., 0])
    np.testing.assert_array_equal(sheet[62:68, 119:124, 1], images.images[7, ..., 0])
    large = contact_sheet(make(3, (300, 200, 3)), columns=1)
    assert large.shape == (3 * 102 + 2, 112 + 69, 3)


def test_dataset_info_counts_and_writes_a_sheet(tmp_path, capsys):
    datasets.write(make(10), tmp_path / "sprite")
    picture = tmp_path / "sheet.png"
    assert cli.main(["dataset", "info", str(tmp_path / "sprite"), "--sheet", str(picture), "--columns", "3"]) == 0
    text = capsys.readouterr().out
    assert "sprite, 10 images 28x28x1 of 3 classes" in text
    assert re.findall(r"^  (\w+) +(\d+)$", text, re.MULTILINE) == [("cat", "4"), ("dog", "3"), ("owl", "3")]
    with Image.open(picture) as sheet:
        assert sheet.size == (112 + 3 * 30, 3 * 30 + 2)


def test_dataset_convert_writes_another_format(tmp_path, capsys):
    datasets.write(make(), tmp_path / "a", "folders")
    assert cli.main(["dataset", "convert", str(tmp_path / "a"), str(tmp_path / "b"), "--to", "idx"]) == 0
    assert "from folders to idx" in capsys.readouterr().out
    assert cli.main(["dataset", "convert", str(tmp_path / "b"), str(tmp_path / "c.png")]) == 0
    assert cli.main(["dataset", "convert", str(tmp_path / "a"), str(tmp_path / "d"), "--shape", "14x10x3",
                     "--from", "folders", "--to", "csv"]) == 0
    same(datasets.read(tmp_path), make())
    assert datasets.read(tmp_path / "d").images.shape == (9, 14, 10, 3)


def test_dataset_convert_does_not_write_into_what_it_reads(tmp_path, capsys):
    datasets.write(make(), tmp_path / "a", "folders")
    (tmp_path / "link").symlink_to("a")
    before = sorted(tmp_path.rglob("*"))
    for target in ("./a", "a/x.png", "a/cat", "a/new", "link/x.png"):
        assert cli.main(["dataset", "convert", str(tmp_path / "a"), f"{tmp_path}/{target}"]) == 2
        assert "Expected OUT to be another place than IN, and not in it" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_dataset_convert_names_what_it_wrote(tmp_path, capsys):
    datasets.write(make(), tmp_path / "a", "folders")
    for name, written in (("b.png", "b_images.png"), ("c_images.png", "c_images.png"), ("d", "d")):
        assert cli.main(["dataset", "convert", str(tmp_path / "a"), str(tmp_path / name)]) == 0
        assert capsys.readouterr().out.endswith(f"to sprite: {tmp_path / written}\n")
        assert (tmp_path / written).exists()


def test_dataset_info_looks_at_the_name_of_its_sheet_first(tmp_path, capsys):
    assert cli.main(["dataset", "info", str(tmp_path / "gone"), "--sheet", "x.jpg"]) == 2
    assert "Expected --sheet to be a PNG file. Received: x.jpg" in capsys.readouterr().err


def test_dataset_errors_are_one_line(tmp_path, capsys):
    for argv in (["info", str(tmp_path)], ["convert", str(tmp_path / "gone"), str(tmp_path / "x")],
                 ["info", str(tmp_path), "--from", "what"]):
        assert cli.main(["dataset", *argv]) == 2
        line, = capsys.readouterr().err.splitlines()
        assert line.startswith("tinyconv: error: ")
    with pytest.raises(SystemExit):
        cli.main(["dataset", "info", str(tmp_path), "--shape", "3"])
    assert capsys.readouterr().err.count("error: ") == 1


def damaged(data, random):
    """A file cut short, with bytes put in, or with some of its first bytes changed."""
    data, how = bytearray(data), random.integers(0, 3)
    if how == 0:
        return bytes(data[:random.integers(0, len(data))])
    if how == 1:
        place = random.integers(0, len(data))
        data[place:place] = random.bytes(int(random.integers(1, 20)))
    else:
        for place in random.integers(0, min(len(data), 200), 4):
            data[place] = random.integers(0, 256)
    return bytes(data)


@pytest.mark.parametrize("target", ["images-idx3-ubyte", "images-idx3-ubyte.gz", "labels.csv", "quickdraw", "sprite",
                                    "folders"])
def test_damaged_files_are_read_or_refused_in_one_line(target, tmp_path):
    random = np.random.default_rng(7)
    is_format = target in [kind.name for kind in registry.FORMATS]
    datasets.write(make(), tmp_path / "out" / target, target if is_format else None)
    files = [path for path in sorted((tmp_path / "out").rglob("*")) if path.is_file()]
    folder = tmp_path / "out" / target if is_format else tmp_path / "out"
    for number in range(60):
        path = files[number % len(files)]
        whole = path.read_bytes()
        path.write_bytes(damaged(whole, random))
        try:
            assert len(datasets.read(folder)) > 0
        except (ValueError, FileNotFoundError) as error:
            assert "Received: " in str(error)
            assert "\n" not in str(error)
        path.write_bytes(whole)
