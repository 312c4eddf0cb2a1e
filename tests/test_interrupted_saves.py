"""A process that is killed while it saves leaves the old model or data set, or the new one (`interrupted_saves`)."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from formats_cases import same_bits, small_model

from tinyconv import datasets, load_model
from tinyconv.datasets.replace import JOURNAL, current, file_names
from tinyconv.formats.temporary import new_name, remove_abandoned, temporary_file, temporary_folder

SCRIPT = Path(__file__).with_name("interrupted_saves.py")
KILLS = 8
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@forks
@pytest.mark.once
@pytest.mark.parametrize("names", [("tfjs", "backup"), ("keras", "h5", "weights_h5"), ("npz", "sprite"),
                                   ("idx", "quickdraw"), ("csv", "folders"), ("safetensors",), ("onnx",)], ids="-".join)
def test_killed_saves_leave_the_old_or_the_new(names, tmp_path, run_python):
    for name, package in (("keras", "h5py"), ("safetensors", "safetensors"), ("onnx", "onnx")):
        if name in names:
            pytest.importorskip(package, reason=f"{package} is not installed")
    code = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    printed = run_python(code, str(SCRIPT), str(tmp_path / "work"), "--kills", str(KILLS), "--formats", *names).stdout
    assert [line.partition(":")[0] for line in printed.splitlines()] == list(names)


def images(value: int) -> datasets.ImageSet:
    return datasets.ImageSet(np.full((4, 5, 5), value, np.uint8), [0, 1, 1, value], ["a", "b", "c"])


def age(path: Path) -> None:
    os.utime(path, (0, time.time() - 10))


def leave(folder: Path, kind: str = "tmp") -> Path:
    """What a process leaves that is killed while it writes."""
    path = folder / new_name(kind)
    path.write_bytes(b"half")
    age(path)
    return path


def test_new_folders_are_there_as_a_whole_or_not_at_all(tmp_path):
    left = tmp_path / new_name()
    (left / "a").mkdir(parents=True)
    (left / "a" / "000000.png").write_bytes(b"half")
    age(left)
    datasets.write(images(1), tmp_path / "new", "folders")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_what_killed_saves_leave_is_removed_and_what_others_write_is_not(tmp_path):
    left = leave(tmp_path)
    mine = tmp_path / ".tinyconv-mine.tmp"
    mine.write_bytes(b"mine")
    with temporary_file(tmp_path) as (path, file), temporary_folder(tmp_path) as folder:
        file.write(b"half")
        for being_written in (path, folder):
            age(being_written)
        young = tmp_path / new_name()
        young.write_bytes(b"")
        remove_abandoned(tmp_path)
        if hasattr(os, "fork"):  # where there are locks
            assert not left.exists()
        assert {path, folder, mine, young} <= set(tmp_path.iterdir())
    assert set(tmp_path.iterdir()) - {left} == {mine, young}


@forks
def test_weights_of_a_killed_save_are_removed_with_its_description(tmp_path):
    small_model(1).save(tmp_path)
    new = small_model(2)
    new.save(tmp_path / "other")
    document = json.loads((tmp_path / "other" / "model.json").read_text())
    document["weightsManifest"][0]["paths"] = ["weights-0123456789abcdef.bin"]
    spare = tmp_path / "weights-0123456789abcdef.bin"
    (tmp_path / "other" / "weights.bin").rename(spare)
    description = leave(tmp_path)
    description.write_text(json.dumps(document))
    age(description)
    assert same_bits(load_model(tmp_path), small_model(1))
    new.save(tmp_path)
    assert same_bits(load_model(tmp_path), new)
    assert not spare.exists()
    assert not description.exists()


def interrupt(folder: Path, value: int) -> dict[str, str]:
    """Leaves a sprite as a process does that is killed after the first of its names."""
    datasets.write(images(value), folder / "next", "sprite")
    moves = {}
    for path in sorted((folder / "next").iterdir()):
        moves[path.name] = new_name("new")
        path.rename(folder / moves[path.name])
    (folder / "next").rmdir()
    (folder / JOURNAL).write_text(json.dumps(moves))
    first = next(iter(moves))
    os.replace(folder / moves[first], folder / first)
    return moves


def test_files_that_a_journal_names_are_read_and_placed_by_the_next_writer(tmp_path):
    datasets.write(images(1), tmp_path, "sprite")
    moves = interrupt(tmp_path, 2)
    before = sorted(path.name for path in tmp_path.iterdir())
    found = datasets.read(tmp_path)
    assert (found.images == 2).all()
    assert found.labels.tolist() == [0, 1, 1, 2]
    small_model().save(tmp_path)  # another writer leaves it as it is
    assert (datasets.read(tmp_path, "sprite").images == 2).all()
    after = sorted(path.name for path in tmp_path.iterdir() if "model" not in path.name and "weights" not in path.name)
    assert after == before
    assert current(tmp_path / "labels_uint8").name == moves["labels_uint8"]
    datasets.write(images(0), tmp_path / "x_images.png", "sprite")
    assert (tmp_path / "labels_uint8").read_bytes()[-3:] == bytes([0, 0, 1])
    assert not (tmp_path / JOURNAL).exists()


@pytest.mark.parametrize("content", [
    b"", b"[]", b"{", b'{"a": 1}', b'{"../a": ".tinyconv-0123456789abcdef.new"}', b'{"a": "/etc/passwd"}',
    b'{"a": "../.tinyconv-0123456789abcdef.new"}', b'{".tinyconv-x": null}', b'{"a\\\\b": null}', b'{"": null}',
])
def test_journals_that_nobody_wrote_are_ignored(content, tmp_path):
    datasets.write(images(1), tmp_path, "sprite")
    (tmp_path / JOURNAL).write_bytes(content)
    (tmp_path / ".tinyconv-0123456789abcdef.new").write_bytes(b"foreign")
    assert file_names(tmp_path) == ["class_names.txt", "images.png", "labels_uint8"]
    assert (datasets.read(tmp_path).images == 1).all()
    assert current(tmp_path / "a") == tmp_path / "a"
