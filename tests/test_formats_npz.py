"""Weights alone, in NumPy archives."""

from __future__ import annotations

import io
import os
import zipfile

import numpy as np
import pytest

from tinyconv import Sequential, layers
from tinyconv.formats import FormatError


def model_of(seed: int = 1) -> Sequential:
    return Sequential([layers.Conv2D(2, 3, input_shape=(6, 6, 1), name="a"), layers.Flatten(),
                       layers.Dense(3, name="b")], seed=seed)


def test_weights_come_back_bit_for_bit_and_numpy_reads_them(tmp_path):
    model, other = model_of(1), model_of(2)
    model.save_weights(tmp_path / "w.npz")
    other.load_weights(str(tmp_path / "w.npz"))
    assert all(np.array_equal(v, w) for v, w in zip(model.get_weights(), other.get_weights(), strict=True))
    with np.load(tmp_path / "w.npz", allow_pickle=False) as archive:
        assert sorted(archive.files) == ["a/bias", "a/kernel", "b/bias", "b/kernel"]
        np.testing.assert_array_equal(archive["a/kernel"], model.get_weights()[0])
    assert [path.name for path in tmp_path.iterdir()] == ["w.npz"]
    x = np.random.default_rng(0).standard_normal((3, 6, 6, 1)).astype(np.float32)
    np.testing.assert_array_equal(other(x), model(x))


def test_an_archive_of_another_program_is_read(tmp_path):
    model = model_of()
    arrays = {f"{layer.name}/{weight.name}": np.asfortranarray(weight.numpy() + 1, dtype=np.float64)
              for layer in model.layers for weight in layer.weights}
    np.savez_compressed(tmp_path / "w.npz", **arrays)
    before = model.get_weights()
    model.load_weights(tmp_path / "w.npz")
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_allclose(new, old + 1, rtol=1e-6)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=array.dtype == object)
    return file.getvalue()


def archive(path, **changes: bytes | None) -> None:
    parts: dict[str, bytes | None] = {f"{layer.name}/{weight.name}": npy(weight.numpy())
                                      for layer in model_of().layers for weight in layer.weights}
    parts |= changes
    with zipfile.ZipFile(path, "w") as file:
        for name, data in parts.items():
            if data is not None:
                file.writestr(f"{name}.npy", data)


HUGE = npy(np.zeros(3, np.float32)).replace(b"(3,), }", b"(3000000000,), }")


@pytest.mark.parametrize("changes", [
    {"a/bias": None},
    {"c/bias": npy(np.zeros(2, np.float32))},
    {"a/bias": npy(np.zeros(3, np.float32))},
    {"a/bias": npy(np.zeros(2, object))},
    {"a/bias": npy(np.zeros(2, np.int64))},
    {"a/bias": npy(np.zeros(2, np.float32))[:-1]},
    {"a/bias": npy(np.zeros(2, np.float32)) + b"\0"},
    {"a/bias": b"text"},
    {"a/bias": b""},
    {"b/bias": HUGE},
], ids=str)
def test_what_does_not_fit_changes_nothing(tmp_path, changes):
    archive(tmp_path / "w.npz", **changes)
    model = model_of()
    before = model.get_weights()
    with pytest.raises(ValueError, match="expected .* Received: ") as caught:
        model.load_weights(tmp_path / "w.npz")
    assert "\n" not in str(caught.value)
    assert all(np.array_equal(v, w) for v, w in zip(before, model.get_weights(), strict=True))


def test_a_file_that_is_no_archive_or_missing(tmp_path):
    (tmp_path / "w.npz").write_bytes(b"PK but no zip")
    with pytest.raises(ValueError, match="expected an .npz archive"):
        model_of().load_weights(tmp_path / "w.npz")
    with pytest.raises(FileNotFoundError):
        model_of().load_weights(tmp_path / "missing.npz")


def header(text: str) -> bytes:
    padded = text + " " * (117 - len(text)) + "\n"
    return b"\x93NUMPY\1\0" + len(padded).to_bytes(2, "little") + padded.encode() + bytes(8)


@pytest.mark.parametrize("text", [
    "{", "(((", "'", "{'a':", "  {}\n {}", "{[]: 1}", "-" * 110,
    "{'descr': ('<f4',), 'fortran_order': False, 'shape': (2,)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}",
    "{'descr': '|O', 'fortran_order': False, 'shape': (2,)}",
])
def test_headers_that_are_none_are_refused(tmp_path, text):
    archive(tmp_path / "w.npz", **{"a/bias": header(text)})
    with pytest.raises(FormatError, match="a/bias: expected .* Received: "):
        model_of().load_weights(tmp_path / "w.npz")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damage_is_found_or_does_not_matter(tmp_path, method):
    model, other = model_of(1), model_of(2)
    arrays = {f"{layer.name}/{weight.name}.npy": npy(weight.numpy()) for layer in model.layers
              for weight in layer.weights}
    with zipfile.ZipFile(tmp_path / "w.npz", "w", method) as file:
        for name, data in arrays.items():
            file.writestr(name, data)
    whole, before = (tmp_path / "w.npz").read_bytes(), other.get_weights()
    damaged = [whole[:size] for size in range(0, len(whole), 7)]
    damaged += [whole[:i] + bytes([whole[i] ^ flip]) + whole[i + 1:] for i in range(0, len(whole), 3)
                for flip in (1, 255)]
    for data in damaged:
        (tmp_path / "v.npz").write_bytes(data)
        try:
            other.load_weights(tmp_path / "v.npz")
        except FormatError:
            expected = before
        else:
            expected = model.get_weights()
        assert all(np.array_equal(v, w) for v, w in zip(expected, other.get_weights(), strict=True))
        other.set_weights(before)


@pytest.mark.parametrize("name", ["a/kernel", "/a/kernel.npy", "../a/kernel.npy", "a/kernel.npy.npy"])
def test_names_are_taken_literally(tmp_path, name):
    archive(tmp_path / "w.npz", **{"a/kernel": None})
    with zipfile.ZipFile(tmp_path / "w.npz", "a") as file:
        file.writestr(name, npy(model_of().get_weights()[0]))
    with pytest.raises(FormatError, match="expected the weights"):
        model_of().load_weights(tmp_path / "w.npz")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_and_other_compressions_are_refused(tmp_path):
    archive(tmp_path / "w.npz")
    with zipfile.ZipFile(tmp_path / "w.npz", "a") as file:
        file.writestr("a/bias.npy", npy(np.ones(2, np.float32)))
    with pytest.raises(FormatError, match="expected the weights"):
        model_of().load_weights(tmp_path / "w.npz")
    archive(tmp_path / "w.npz", **{"a/bias": None})
    with zipfile.ZipFile(tmp_path / "w.npz", "a", zipfile.ZIP_BZIP2) as file:
        file.writestr("a/bias.npy", npy(np.ones(2, np.float32)))
    with pytest.raises(FormatError, match="stored or deflated"):
        model_of().load_weights(tmp_path / "w.npz")


def test_what_killed_saves_left_behind_goes_in_time(tmp_path):
    old, new = (tmp_path / f".tinyconv-{digit * 16}.tmp" for digit in "ab")
    for path in (old, new):
        path.write_bytes(b"half a file")
    os.utime(old, (0, 0))
    model_of().save_weights(tmp_path / "w.npz")
    assert not old.exists()
    assert new.exists()


def test_the_file_follows_from_the_weights_alone(tmp_path):
    for name in ("v.npz", "w.npz"):
        model_of().save_weights(tmp_path / name)
    assert (tmp_path / "v.npz").read_bytes() == (tmp_path / "w.npz").read_bytes()


@pytest.mark.parametrize("path", ["w.h5", "w", "w.npz.txt", "", None, 3])
def test_other_names_are_refused(path):
    with pytest.raises(ValueError, match="ends in '.npz', '.safetensors' or '.weights.h5'"):
        model_of().save_weights(path)


@pytest.mark.parametrize("path", ["w", "w.npz.txt", "", None, 3])
def test_other_names_are_refused_when_loading(path):
    with pytest.raises(ValueError, match="[Ee]xpected"):
        model_of().load_weights(path)


def test_nothing_is_overwritten_unasked_and_a_model_needs_weights(tmp_path):
    model_of().save_weights(tmp_path / "w.npz")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        model_of().save_weights(tmp_path / "w.npz", overwrite=False)
    empty = Sequential([layers.Dense(2)])
    for call in (empty.save_weights, empty.load_weights):
        with pytest.raises(ValueError, match="no weights yet"):
            call(tmp_path / "w.npz")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["w.npz", "w.weights.h5", "w.h5", "w.keras"])
def test_pipes_and_folders_hold_no_weights(name, tmp_path):
    os.mkfifo(tmp_path / name)
    with pytest.raises(FormatError, match="load_weights: expected a plain file"):
        model_of().load_weights(tmp_path / name)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(FormatError, match="load_weights: expected a plain file"):
        model_of().load_weights(tmp_path / name)


def test_a_directory_of_many_members_is_refused_before_it_takes_memory(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as file:
        file.writestr("a" * 60_000, b"")
    data = (tmp_path / "w.npz").read_bytes()
    start = data.index(b"PK\1\2")
    entry, end = data[start:-22], bytearray(data[-22:])
    end[12:16] = (20 * len(entry)).to_bytes(4, "little")
    (tmp_path / "w.npz").write_bytes(data[:start] + 20 * entry + end)
    monkeypatch.setattr(zipfile, "ZipInfo", lambda *_: pytest.fail("an entry was made"))
    with pytest.raises(FormatError, match="a directory of more than"):
        model_of().load_weights(tmp_path / "w.npz")


@pytest.mark.skipif(os.name != "posix", reason="permissions and links are others elsewhere")
@pytest.mark.parametrize("name", ["w.npz", "w.weights.h5", "m.keras"])
def test_a_file_that_is_replaced_keeps_its_permissions_and_links_lead_to_it(tmp_path, name):
    if not name.endswith("npz"):
        pytest.importorskip("h5py")
    save = model_of().save if name == "m.keras" else model_of().save_weights
    umask = os.umask(0o027)
    try:
        save(tmp_path / name)
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o640
        (tmp_path / name).chmod(0o604)
        (tmp_path / f"link-{name}").symlink_to(name)
        save(tmp_path / f"link-{name}")
    finally:
        os.umask(umask)
    assert (tmp_path / f"link-{name}").is_symlink()
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o604
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, f"link-{name}"])


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_may_not_be_listed_takes_files(tmp_path):
    folder = tmp_path / "drop"
    folder.mkdir()
    folder.chmod(0o300)
    try:
        model_of().save_weights(folder / "w.npz")
    finally:
        folder.chmod(0o700)
    assert [path.name for path in folder.iterdir()] == ["w.npz"]
