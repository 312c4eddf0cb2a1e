"""Keras' files that are damaged or malicious: a clear error of one line, or a correct load."""

from __future__ import annotations

import io
import json
import struct
import sys
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from formats_cases import same_bits, small_model

from tinyconv import Sequential, load_model
from tinyconv.formats import FormatError

h5py = pytest.importorskip("h5py", reason="the extra [keras] is not installed")

KERNEL = "model_weights/conv2d/sequential/conv2d/kernel"


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sequential, Path]:
    """A model and the folder of its files; the tests change copies."""
    model = small_model()
    model.name = "sequential"
    for layer, name in zip(model.layers, ("conv2d", "pool", "dropout", "flatten", "dense"), strict=True):
        layer.name = name
    model.compile("adam", "categorical_crossentropy")
    folder = tmp_path_factory.mktemp("origin")
    for name in ("m.keras", "m.h5"):
        model.save(folder / name)
    return model, folder


def refused(path: Path, message: str = "[Ee]xpected") -> None:
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=message) as caught:
            load_model(path)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def outcome(path: Path, model: Sequential) -> bool:
    """True where the file loads with the model's weights, False where it is refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            loaded = load_model(path)
        except FormatError as error:
            assert "\n" not in str(error)
            return False
    assert same_bits(loaded, model)
    return True


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_files_that_are_cut_off_are_refused(name, origin, tmp_path):
    model, folder = origin
    data = (folder / name).read_bytes()
    for size in range(0, len(data), 1024):
        (tmp_path / name).write_bytes(data[:size])
        assert not outcome(tmp_path / name, model)
    (tmp_path / name).write_bytes(data)
    assert outcome(tmp_path / name, model)


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_flipped_bits_are_refused_or_harmless(name, origin, tmp_path):
    model, folder = origin
    data = (folder / name).read_bytes()
    random = np.random.default_rng(7)
    results = []
    for place in random.integers(len(data), size=150).tolist():
        changed = bytearray(data)
        changed[place] ^= 1 << int(random.integers(8))
        (tmp_path / name).write_bytes(changed)
        results.append(outcome(tmp_path / name, model))
    assert not all(results)


# --- HDF5 ---


@pytest.fixture
def change(origin: tuple[Sequential, Path], tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a changed copy of the `.h5` file, without the checksum."""
    def change(edit: Callable[[Any], object]) -> Path:
        path = tmp_path / "m.h5"
        path.write_bytes((origin[1] / "m.h5").read_bytes())
        with h5py.File(path, "r+") as file:
            del file.attrs["tinyconv"]
            edit(file)
        return path

    return change


def replace(file: Any, **arguments: Any) -> None:
    del file[KERNEL]
    file.create_dataset(KERNEL, **arguments)


def test_external_links_are_refused(change, origin):
    def edit(file: Any) -> None:
        del file[KERNEL]
        file[KERNEL] = h5py.ExternalLink(str(origin[1] / "m.h5"), KERNEL)

    refused(change(edit), "no links to other places.*ExternalLink")


def test_soft_links_are_refused(change):
    def edit(file: Any) -> None:
        file["elsewhere"] = file[KERNEL]
        del file[KERNEL]
        file[KERNEL] = h5py.SoftLink("/elsewhere")

    refused(change(edit), "no links to other places.*SoftLink")


def test_external_storage_is_refused(change, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(108))
    refused(change(lambda file: replace(file, shape=(3, 3, 1, 3), dtype="f4",
                                        external=[(str(tmp_path / "secret"), 0, 108)])), "an external dataset")


def test_virtual_datasets_are_refused(change, origin):
    def edit(file: Any) -> None:
        layout = h5py.VirtualLayout((3, 3, 1, 3), "f4")
        layout[:] = h5py.VirtualSource(str(origin[1] / "m.h5"), KERNEL, (3, 3, 1, 3))
        del file[KERNEL]
        file.create_virtual_dataset(KERNEL, layout)

    refused(change(edit), "a virtual dataset")


def test_references_and_texts_are_no_weights(change):
    for dtype in (h5py.ref_dtype, h5py.string_dtype(), "S4", "c8", np.dtype([("a", "f4")])):
        refused(change(lambda file, dtype=dtype: replace(file, shape=(3, 3, 1, 3), dtype=dtype)), "array of numbers")


def test_shapes_are_compared_before_anything_is_read(change):
    refused(change(lambda file: replace(file, shape=(1 << 40,), dtype="f4", chunks=(1 << 20,))), "shape")
    refused(change(lambda file: replace(file, shape=(3, 3, 3, 1), dtype="f4")), r"expected shape \[3, 3, 1, 3\]")
    refused(change(lambda file: replace(file, data=h5py.Empty("f4"))), "an empty dataset")


def test_filters_that_would_load_a_plugin_are_refused(change):
    def edit(file: Any) -> None:
        del file[KERNEL]
        parent, _, name = KERNEL.rpartition("/")
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((3, 3, 1, 3))
        plist.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, ())
        h5py.h5d.create(file[parent].id, name.encode(), h5py.h5t.IEEE_F32LE,
                        h5py.h5s.create_simple((3, 3, 1, 3)), plist)

    refused(change(edit), "unusual filters")


def write_chunk(file: Any, data: bytes, filters: list[Callable[[Any], object]], mask: int = 0) -> None:
    del file[KERNEL]
    parent, _, name = KERNEL.rpartition("/")
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((3, 3, 1, 3))
    for set_filter in filters:
        set_filter(plist)
    dataset = h5py.h5d.create(file[parent].id, name.encode(), h5py.h5t.IEEE_F32LE,
                              h5py.h5s.create_simple((3, 3, 1, 3)), plist)
    dataset.write_direct_chunk((0, 0, 0, 0), data, mask)


def deflate(plist: Any) -> None:
    plist.set_deflate(9)


def shuffle(plist: Any) -> None:
    plist.set_shuffle()


def peak_memory() -> int:
    """The most memory that this process has had, in bytes: libhdf5's is none of tracemalloc's."""
    resource = pytest.importorskip("resource")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.parametrize("filters", [[deflate], [shuffle, deflate]], ids=["deflate", "shuffle"])
def test_a_chunk_that_inflates_to_more_is_refused(filters, change):
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush()
    path = change(lambda file: write_chunk(file, data, filters))
    before = peak_memory()
    refused(path, "chunk: expected 108 bytes. Received: 'more'")
    assert peak_memory() - before < 64 << 20


@pytest.mark.parametrize(("filters", "data", "message"), [
    ([deflate, deflate], zlib.compress(zlib.compress(bytes(108))), "unusual filters"),
    ([deflate, shuffle], zlib.compress(bytes(108)), "unusual filters"),
    ([deflate], zlib.compress(bytes(107)), "expected 108 bytes. Received: '107 bytes'"),
    ([deflate], bytes(range(9)), "a stream of deflate"),
])
def test_chunks_that_do_not_unpack_to_their_values_are_refused(filters, data, message, change):
    refused(change(lambda file: write_chunk(file, data, filters)), message)


@pytest.mark.parametrize("chunks", [(3, 3, 1, 3), (2, 2, 1, 2), (1, 3, 1, 1)])
@pytest.mark.parametrize("options", [
    {"compression": "gzip"}, {"compression": "gzip", "shuffle": True}, {"shuffle": True},
    {"compression": "gzip", "shuffle": True, "fletcher32": True},
])
def test_compressed_weights_are_read_bit_for_bit(options, chunks, change, origin):
    path = change(lambda file: replace(file, data=origin[0].get_weights()[0], chunks=chunks, **options))
    assert same_bits(load_model(path), origin[0])


def test_chunks_stored_without_their_filters_are_read(change, origin):
    data = origin[0].get_weights()[0].tobytes()
    assert same_bits(load_model(change(lambda file: write_chunk(file, data, [deflate], mask=1))), origin[0])


def test_large_weights_without_bytes_are_refused(change):
    def edit(file: Any) -> None:
        config = json.loads(file.attrs["model_config"])
        dense = config["config"]["layers"][-1]
        dense["config"]["units"] = 50_000_000
        file.attrs["model_config"] = json.dumps(config)
        for name, shape in (("kernel", (27, 50_000_000)), ("bias", (50_000_000,))):
            path = f"model_weights/dense/sequential/dense/{name}"
            del file[path]
            file.create_dataset(path, shape, "f4", compression="gzip")

    refused(change(edit), "a file of")


@pytest.mark.parametrize(("name", "value"), [
    ("model_config", np.arange(3)), ("model_config", "{"), ("model_config", "[" * 1000), ("model_config", "[]"),
])
def test_attributes_of_another_kind_are_refused(name, value, change):
    refused(change(lambda file: file.attrs.__setitem__(name, value)))


def test_texts_that_lie_in_one_place_are_bounded(change):
    text, count = b"x" * 1_234_567, 4000

    def edit(file: Any) -> None:
        file["model_weights"].attrs["layer_names"] = np.array([text, *[b"y"] * (count - 1)], h5py.string_dtype())

    path = change(edit)
    data = path.read_bytes()
    # An element is its length, the address of a heap and the number of its object there: each becomes the first.
    start = data.index(len(text).to_bytes(4, "little"))
    first = data[start:start + 16]
    path.write_bytes(data[:start] + first * count + data[start + 16 * count:])
    before = peak_memory()
    refused(path, "attribute 'layer_names': expected a size of at most")
    assert peak_memory() - before < 64 << 20


def test_lists_of_texts_of_variable_length_are_read(change, origin):
    names = ["conv2d", "pool", "dropout", "flatten", "dense"]
    path = change(lambda file: file["model_weights"].attrs.__setitem__("layer_names", names))
    assert same_bits(load_model(path), origin[0])


def test_the_parts_of_a_list_are_bounded_together(change):
    def edit(file: Any) -> None:
        attributes = file["model_weights"].attrs
        del attributes["layer_names"]
        for index in range(17):
            attributes[f"layer_names{index}"] = np.array(["x" * (1 << 20)], h5py.string_dtype())

    refused(change(edit), "attribute 'layer_names': expected at most 16777216 bytes")


def test_names_that_lead_elsewhere_are_refused(change):
    for names in ([b"../conv2d"], [b""], [b"/conv2d"], [b"conv2d", b"none"]):
        refused(change(lambda file, names=names: file["model_weights"].attrs.__setitem__("layer_names", names)))


def test_a_file_of_ours_with_other_weights_is_damaged(origin, tmp_path):
    (tmp_path / "m.h5").write_bytes((origin[1] / "m.h5").read_bytes())
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        file[KERNEL][0, 0, 0, 0] += 1
    refused(tmp_path / "m.h5", "the file is damaged")


@pytest.mark.parametrize("digest", ["0" * 63, "0" * 100_000, "0" * 63 + "\n", None, ["0"] * 64])
def test_a_checksum_is_64_digits(digest, change):
    path = change(lambda file: file.attrs.__setitem__("tinyconv", json.dumps({"version": 1, "sha256": digest})))
    refused(path, "sha256: expected 64 hexadecimal digits")


# --- classes ---


def edit_layer(**changes: Any) -> Callable[[Any], None]:
    def edit(file: Any) -> None:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][1].update(changes)
        file.attrs["model_config"] = json.dumps(config)

    return edit


@pytest.mark.parametrize(("changes", "message"), [
    ({"class_name": "Lambda"}, "never run from a file"),
    ({"class_name": "os.system"}, "a layer that tinyconv has"),
    ({"class_name": "Sequential"}, "Sequential layers: expected a list"),
    ({"registered_name": "Mine>Conv2D"}, "the custom object Mine>Conv2D"),
    ({"module": "mine.layers"}, "the custom object mine.layers"),
])
def test_foreign_classes_are_refused_by_name(changes, message, change):
    refused(change(edit_layer(**changes)), message)


# --- zip ---


def rebuilt(origin: tuple[Sequential, Path], path: Path, changes: dict[str, bytes | None],
            method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(origin[1] / "m.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in {**members, **changes}.items():
            if data is not None:
                archive.writestr(name, data)
    return path


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../out", "a\\..\\out", "C:out"])
def test_names_out_of_the_archive_are_refused(name, origin, tmp_path):
    refused(rebuilt(origin, tmp_path / "m.keras", {name: b"x"}), "relative path inside the archive")
    assert [path.name for path in tmp_path.iterdir()] == ["m.keras"]


@pytest.mark.parametrize("name", ["NUL", "a/aux.txt", "com1"])
def test_names_of_devices_are_refused(name, origin, tmp_path):
    refused(rebuilt(origin, tmp_path / "m.keras", {name: b"x"}), "Windows keeps for a device")


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_bombs_are_refused(name, origin, tmp_path):
    refused(rebuilt(origin, tmp_path / "m.keras", {name: bytes(200 << 20)}, zipfile.ZIP_DEFLATED), "at most")


def test_a_directory_of_many_members_is_refused_before_it_takes_memory(tmp_path, monkeypatch):
    count = 30_000
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    # Its count of entries is a lie: only the size of the directory counts.
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, count * len(entry), 0, 0)
    path = tmp_path / "m.keras"
    path.write_bytes(entry * count + end)
    monkeypatch.setattr(zipfile, "ZipInfo", lambda *_: pytest.fail("an entry was made"))
    refused(path, "a directory of more than")


def test_sizes_that_lie_are_refused(origin, tmp_path):
    path = rebuilt(origin, tmp_path / "m.keras", {"config.json": b" " * 100_000}, zipfile.ZIP_DEFLATED)
    data = path.read_bytes()
    path.write_bytes(data.replace((100_000).to_bytes(4, "little"), (50).to_bytes(4, "little")))
    refused(path, "damaged")


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_missing_members_are_refused(name, origin, tmp_path):
    refused(rebuilt(origin, tmp_path / "m.keras", {name: None}), "expected such a member")


def test_members_occur_once(origin, tmp_path):
    path = rebuilt(origin, tmp_path / "m.keras", {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("config.json", b"{}")
    refused(path, "every name once")


def test_an_archive_in_place_of_the_weights_is_refused(origin, tmp_path):
    inner = io.BytesIO((origin[1] / "m.keras").read_bytes())
    refused(rebuilt(origin, tmp_path / "m.keras", {"model.weights.h5": inner.getvalue()}), "readable HDF5 file")


def test_deflated_archives_are_read(origin, tmp_path):
    path = rebuilt(origin, tmp_path / "m.keras", {}, zipfile.ZIP_DEFLATED)
    assert same_bits(load_model(path), origin[0])
