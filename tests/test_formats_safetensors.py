"""Weights in safetensors files: laid out for PyTorch, and nothing believed that a file says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyconv import Sequential, formats, layers
from tinyconv.formats import FormatError, torch_modules, torch_names

needs_package = pytest.mark.usefixtures("package")


@pytest.fixture
def package() -> Any:
    return pytest.importorskip("safetensors.numpy", reason="the extra [safetensors] is not installed")


def model_of(seed: int = 1) -> Sequential:
    return Sequential([
        layers.Input((6, 5, 2)), layers.Conv2D(3, (3, 2), activation="relu", name="a"),
        layers.BatchNormalization(name="n"),
        layers.Flatten(), layers.Dropout(0.5), layers.Dense(4, name="b"),
    ], seed=seed)


def same_bits(first: Sequential, second: Sequential) -> bool:
    return all(v.tobytes() == w.tobytes() for v, w in zip(first.get_weights(), second.get_weights(), strict=True))


def file_of(tensors: dict[str, tuple[str, list[int], bytes]], **changes: Any) -> bytes:
    """A file of (type, shape, bytes), the entries of its header changed; made here, byte by byte."""
    header: dict[str, Any] = {}
    data = b""
    for name, (dtype, shape, values) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    for name, change in changes.items():
        header[name] = {**header[name], **change} if name in header and isinstance(change, dict) else change
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def tensors_of(model: Sequential) -> dict[str, tuple[str, list[int], bytes]]:
    """What PyTorch has of `model_of`, written out here a second time."""
    kernel, bias, gamma, beta, mean, variance, dense, dense_bias = model.get_weights()
    rows = dense.reshape(4, 4, 3, 4).transpose(3, 2, 0, 1).reshape(4, 48)  # height, width, channels -> channels first
    arrays = {"0.weight": kernel.transpose(3, 2, 0, 1), "0.bias": bias, "2.weight": gamma, "2.bias": beta,
              "2.running_mean": mean, "2.running_var": variance, "5.weight": rows, "5.bias": dense_bias}
    return {name: ("F32", list(array.shape), array.astype("<f4").tobytes()) for name, array in arrays.items()}


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@needs_package
def test_weights_come_back_bit_for_bit_in_the_layout_of_pytorch(tmp_path, package):
    model, other = model_of(1), model_of(2)
    model.save_weights(tmp_path / "w.safetensors")
    other.load_weights(str(tmp_path / "w.safetensors"))
    assert same_bits(model, other)
    found = package.load_file(tmp_path / "w.safetensors")
    expected = tensors_of(model)
    assert found.keys() == {*expected, "2.num_batches_tracked"}
    for name, (_, shape, data) in expected.items():
        assert list(found[name].shape) == shape
        assert found[name].tobytes() == data
    assert found["2.num_batches_tracked"].dtype == np.int64
    assert found["2.num_batches_tracked"].shape == ()
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


@needs_package
def test_a_file_without_counters_and_with_other_numbers_is_read(tmp_path):
    model, other = model_of(1), model_of(2)
    tensors = {name.replace("5.", "11.").replace("2.", "7.").replace("0.", "3."): value
               for name, value in tensors_of(model).items()}
    other.load_weights(write(tmp_path / "w.safetensors", file_of(tensors)))
    assert same_bits(model, other)
    prefixed = {f"net.layers.{name}": value for name, value in reversed(tensors.items())}
    other = model_of(2)
    other.load_weights(write(tmp_path / "w.safetensors", file_of(prefixed, __metadata__={"format": "pt"})))
    assert same_bits(model, other)


def named(model: Sequential, names: dict[str, str]) -> bytes:
    return file_of({f"{names[name.split('.')[0]]}{name[1:]}": value for name, value in tensors_of(model).items()})


@pytest.mark.parametrize("names", [
    {"0": "conv1", "2": "bn1", "5": "fc1"}, {"0": "features.0", "2": "norm", "5": "classifier.0"},
    {"0": "z", "2": "y.inner", "5": "a"},
], ids=str)
@needs_package
def test_modules_with_names_are_found_by_their_shapes(names, tmp_path):
    model, other = model_of(1), model_of(2)
    other.load_weights(write(tmp_path / "w.safetensors", named(model, names)))
    assert same_bits(model, other)


@needs_package
def test_modules_of_equal_shapes_go_by_the_numbers_in_their_names(tmp_path):
    model, other = (Sequential([layers.Input((4,)), *(layers.Dense(4) for _ in range(11))], seed=seed)
                    for seed in (1, 2))
    tensors = {}
    for index, (kernel, bias) in enumerate(zip(model.get_weights()[::2], model.get_weights()[1::2]), start=1):
        tensors[f"fc{index}.weight"] = ("F32", [4, 4], np.ascontiguousarray(kernel.T).tobytes())
        tensors[f"fc{index}.bias"] = ("F32", [4], bias.tobytes())
    other.load_weights(write(tmp_path / "w.safetensors", file_of(dict(sorted(tensors.items())))))
    assert same_bits(model, other)
    before = other.get_weights()
    stray = {name.replace("fc3", "head"): value for name, value in tensors.items()}
    with pytest.raises(FormatError, match="numbers that say the order of the modules of"):
        other.load_weights(write(tmp_path / "w.safetensors", file_of(stray)))
    with pytest.raises(FormatError, match=r"11 modules of 'bias \[4\], weight \[4, 4\]'. Received: '10'"):
        other.load_weights(write(tmp_path / "w.safetensors", file_of(
            {name: value for name, value in tensors.items() if "fc3" not in name})))
    more = {**tensors, "out.weight": ("F32", [1], bytes(4))}
    with pytest.raises(FormatError, match="expected 11 modules with tensors. Received: \"12"):
        other.load_weights(write(tmp_path / "w.safetensors", file_of(more)))
    assert all(map(np.array_equal, before, other.get_weights()))


@pytest.mark.parametrize("shape", [[], [1]])
@needs_package
def test_counters_of_one_dimension_are_read(shape, tmp_path):
    model, other = model_of(1), model_of(2)
    tensors = {**tensors_of(model), "2.num_batches_tracked": ("I64", shape, bytes(8))}
    other.load_weights(write(tmp_path / "w.safetensors", file_of(tensors)))
    assert same_bits(model, other)


def test_modules_and_names_of_pytorch():
    model = model_of()
    assert [name for name, _ in torch_modules(model)] == ["Conv2d", "ReLU", "BatchNorm2d", "Flatten", "Dropout",
    "Linear"]
    assert torch_modules(model)[0][1] == {
        "in_channels": 2, "out_channels": 3, "kernel_size": (3, 2), "stride": (1, 1), "dilation": (1, 1), "groups": 1,
        "bias": True, "padding": (0, 0)}
    assert torch_names(model) == {
        "0.weight": "a/kernel", "0.bias": "a/bias", "2.weight": "n/gamma", "2.bias": "n/beta",
        "2.running_mean": "n/moving_mean", "2.running_var": "n/moving_variance", "5.weight": "b/kernel",
        "5.bias": "b/bias"}
    with pytest.raises(ValueError, match="expected a built model"):
        torch_modules(Sequential([layers.Dense(2)]))


UNMAPPED = [
    ((4, 3, 2), layers.Permute((2, 1, 3))),
    ((4, 3, 2), layers.Conv2D(2, 2, activation="sparse_plus")),
    ((4, 3, 2), layers.ReLU(2.0, threshold=1.0)),
    ((4, 3, 2), layers.PReLU()),
    ((4, 3, 2), layers.Normalization(axis=(1, 3))),
    ((4, 3, 2), layers.Normalization(axis=1)),
    ((4, 3, 2), layers.Normalization(invert=True)),
    ((4, 3, 2), layers.BatchNormalization(axis=2)),
    ((4, 3, 2), layers.Softmax((1, 2))),
    ((4, 3, 2), layers.AveragePooling2D(2, 1, "same")),
    ((4, 3, 2), layers.Resizing(8, 8, "bicubic")),
    ((4, 3, 2), layers.Resizing(2, 2, antialias=True)),
    ((4, 3, 2), layers.CenterCrop(8, 8)),
    ((4, 3, 2), layers.Reshape((2, 3, 4))),
    ((4, 3, 2), layers.Flatten()),  # at the end: PyTorch's vector has another order
]


@pytest.mark.parametrize(("shape", "layer"), UNMAPPED, ids=lambda value: getattr(value, "name", ""))
@needs_package
def test_what_pytorch_lacks_is_kept_under_its_own_names(shape, layer, tmp_path):
    def build(seed: int) -> Sequential:
        made = type(layer).from_config({**layer.get_config(), "name": "x"})
        return Sequential([layers.Input(shape), layers.Dense(2, name="d"), made], seed=seed)

    model, other = build(1), build(2)
    for call in (torch_modules, torch_names):
        with pytest.raises(ValueError, match=r"^Expected .* Received: .*'x'[^\n]*$"):
            call(model)
    with pytest.warns(UserWarning, match="PyTorch will not take these weights"):
        model.save_weights(tmp_path / "w.safetensors")
    other.load_weights(tmp_path / "w.safetensors")
    assert same_bits(model, other)
    with pytest.raises(FormatError, match="these are PyTorch's"):
        model.load_weights(write(tmp_path / "v.safetensors", file_of(tensors_of(model_of()))))


def floats(values: list[float], dtype: str) -> bytes:
    if dtype == "BF16":
        return b"".join(np.float32(value).tobytes()[2:] for value in values)
    return np.array(values, {"F16": "<f2", "F32": "<f4", "F64": "<f8"}[dtype]).tobytes()


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32", "F64"])
@needs_package
def test_types_of_floats_are_read(tmp_path, dtype):
    model = Sequential([layers.Input((2,)), layers.Dense(1)])
    values = [-1.5, 0.375]
    tensors = {"0.weight": (dtype, [1, 2], floats(values, dtype)), "0.bias": ("F32", [1], floats([2.0], "F32"))}
    model.load_weights(write(tmp_path / "w.safetensors", file_of(tensors)))
    np.testing.assert_array_equal(model.get_weights()[0].ravel(), values)
    tensors["0.weight"] = (dtype, [1, 2], floats([np.inf, np.nan], dtype))
    model.load_weights(write(tmp_path / "w.safetensors", file_of(tensors)))
    np.testing.assert_array_equal(model.get_weights()[0].ravel(), [np.inf, np.nan])


def _header(text: bytes, length: int | None = None) -> bytes:
    return (len(text) if length is None else length).to_bytes(8, "little") + text


GOOD = tensors_of(model_of())
BIAS = GOOD["0.bias"]
WITHOUT = {name: value for name, value in GOOD.items() if name != "0.bias"}
HOSTILE = {
    "empty": b"",
    "seven bytes": b"\2\0\0\0\0\0\0",
    "no header": _header(b""),
    "a header of 2**63 bytes": _header(b"{}", 2**63),
    "a header longer than the file": _header(b"{}", 3),
    "a header of 17 MB": _header(b"{}", 17 << 20),
    "no JSON": _header(b"not JSON"),
    "no UTF-8": _header(b'{"\xff": 1}'),
    "a list": _header(b"[]"),
    "deep": _header(b"[" * 5000 + b"]" * 5000),
    "NaN": _header(b'{"0.weight": NaN}'),
    "a huge integer": _header(b'{"0.weight": {"dtype": "F32", "shape": [1' + b"0" * 5000 + b']}}'),
    "a name twice": _header(b'{"0.bias": {}, "0.bias": {}}'),
    "no tensors": file_of({}),
    "one missing": file_of(WITHOUT),
    "one more": file_of({**GOOD, "6.bias": BIAS}),
    "wrong names": file_of({f"conv{name}s": value for name, value in GOOD.items()}),
    "another stem": file_of({f"x.{name}" if name == "0.bias" else name: value for name, value in GOOD.items()}),
    "own names": file_of({"a/kernel": GOOD["0.weight"]}),
    "both kinds of names": file_of({**WITHOUT, "a/bias": BIAS}),
    "a name of control characters": file_of({**WITHOUT, "0.bias\n": BIAS}),
    "an empty name": file_of({**GOOD, "": BIAS}),
    "metadata of numbers": file_of(GOOD, __metadata__={"a": 1}),
    "metadata a list": file_of(GOOD, __metadata__=[]),
    "an entry that is a list": file_of(GOOD, **{"0.bias": []}),
    "no type": file_of(GOOD, **{"0.bias": {"dtype": None}}),
    "an unknown type": file_of(GOOD, **{"0.bias": {"dtype": "F8_E4M3"}}),
    "integers": file_of({**GOOD, "0.bias": ("I32", [3], bytes(12))}),
    "a counter of floats twice": file_of({**GOOD, "2.num_batches_tracked": ("F32", [2], bytes(8))}),
    "a shape that is none": file_of(GOOD, **{"0.bias": {"shape": 3}}),
    "another shape": file_of(GOOD, **{"0.bias": {"shape": [3, 1]}}),
    "a negative shape": file_of(GOOD, **{"0.bias": {"shape": [-3]}}),
    "an overflowing shape": file_of(GOOD, **{"0.bias": {"shape": [2**40, 2**40]}}),
    "a hidden overflow": file_of(GOOD, **{"0.bias": {"shape": [2**40, 2**40, 0]}}),
    "many dimensions": file_of(GOOD, **{"0.bias": {"shape": [1] * 1000}}),
    "offsets that are none": file_of(GOOD, **{"0.bias": {"data_offsets": [0]}}),
    "negative offsets": file_of(GOOD, **{"0.bias": {"data_offsets": [-12, 0]}}),
    "offsets backwards": file_of(GOOD, **{"0.bias": {"data_offsets": [156, 144]}}),
    "offsets of floats": file_of(GOOD, **{"0.bias": {"data_offsets": [144.0, 156.0]}}),
    "offsets beyond the file": file_of(GOOD, **{"0.bias": {"data_offsets": [2**40, 2**40 + 12]}}),
    "overlapping tensors": file_of(GOOD, **{"0.bias": {"data_offsets": [0, 12]}}),
    "fewer bytes": file_of(GOOD)[:-1],
    "more bytes": file_of(GOOD) + b"\0",
    "a hole": file_of({**WITHOUT, "0.bias": ("F32", [3], bytes(16))}, **{"0.bias": {"data_offsets": [
        sum(len(value[2]) for value in WITHOUT.values()) + 4, sum(len(value[2]) for value in WITHOUT.values()) + 16]}}),
}


@pytest.mark.parametrize("name", HOSTILE)
@needs_package
def test_what_does_not_fit_changes_nothing(tmp_path, name):
    model = model_of()
    before = model.get_weights()
    with pytest.raises(FormatError, match=r"^[^\n]*[Ee]xpected[^\n]* Received: [^\n]*$") as caught:
        model.load_weights(write(tmp_path / "w.safetensors", HOSTILE[name]))
    assert len(str(caught.value)) < 500
    assert all(np.array_equal(v, w) for v, w in zip(before, model.get_weights(), strict=True))


@needs_package
def test_damage_is_found_or_within_the_values(tmp_path):
    model, other = model_of(1), model_of(2)
    whole, before = file_of(GOOD), other.get_weights()
    start = 8 + int.from_bytes(whole[:8], "little")
    damaged = [whole[:size] for size in range(0, len(whole), 37)]
    damaged += [whole[:i] + bytes([whole[i] ^ flip]) + whole[i + 1:] for i in range(0, start + 9, 4) for flip in (1,
    255)]
    for data in damaged:
        try:
            other.load_weights(write(tmp_path / "v.safetensors", data))
        except FormatError:
            assert all(np.array_equal(v, w) for v, w in zip(before, other.get_weights(), strict=True))
        else:  # in the values, or a name of the header's that means the same
            assert len(data) == len(whole)
            for v, w in zip(model.get_weights()[1:], other.get_weights()[1:], strict=True):
                np.testing.assert_array_equal(v, w)
        other.set_weights(before)


@needs_package
def test_nothing_is_allocated_for_what_a_header_says(tmp_path, monkeypatch):
    huge = file_of({**GOOD, "5.weight": ("F32", [4, 48], b"")}, **{"5.weight": {"shape": [2**31 - 1],
    "data_offsets": [0, 2**33]}})
    model = model_of()
    monkeypatch.setattr(np, "empty", lambda *_: pytest.fail("memory is taken"))
    with pytest.raises(FormatError, match="data_offsets|bytes"):
        model.load_weights(write(tmp_path / "w.safetensors", huge))


@needs_package
def test_a_weight_that_the_layer_lacks_has_to_be_of_no_effect(tmp_path):
    def build() -> Sequential:
        return Sequential([layers.Input((3,)), layers.BatchNormalization(scale=False)])

    tensors = {name: ("F32", [3], np.full(3, value, "<f4").tobytes()) for name, value in
               (("0.weight", 1), ("0.bias", 2), ("0.running_mean", 3), ("0.running_var", 4))}
    model = build()
    model.load_weights(write(tmp_path / "w.safetensors", file_of(tensors)))
    assert [weight[0] for weight in model.get_weights()] == [2, 3, 4]
    tensors["0.weight"] = ("F32", [3], np.array([1, 1, 1.5], "<f4").tobytes())
    with pytest.raises(FormatError, match="expected 1 alone: 'batch_normalization.*' has no such weight"):
        model.load_weights(write(tmp_path / "w.safetensors", file_of(tensors)))


@needs_package
def test_a_missing_file_and_a_model_to_replace(tmp_path):
    with pytest.raises(FileNotFoundError):
        model_of().load_weights(tmp_path / "missing.safetensors")
    model_of(1).save_weights(tmp_path / "w.safetensors")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        model_of().save_weights(tmp_path / "w.safetensors", overwrite=False)
    model_of(2).save_weights(tmp_path / "w.safetensors")
    other = model_of(3)
    other.load_weights(tmp_path / "w.safetensors")
    assert same_bits(other, model_of(2))
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.safetensors")
        with pytest.raises(FormatError, match="a plain file"):
            other.load_weights(tmp_path / "pipe.safetensors")


def test_a_file_of_weights_is_no_model(tmp_path):
    with pytest.raises(FormatError, match="holds weights alone"):
        formats.load_model(write(tmp_path / "w.safetensors", file_of(GOOD)))
    with pytest.raises(ValueError, match="or the name of a folder"):
        model_of().save(tmp_path / "w.safetensors")
