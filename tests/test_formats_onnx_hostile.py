"""ONNX files made to do harm: one error of one line, at once, without memory that the file does not account for."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_helpers import MODELS, filled, node, onnx, random, write

from tinyconv import load_model
from tinyconv.formats import FormatError

SECONDS = 2.0


def refused(path: Path, message: str = "") -> str:
    """The error of a file, in time and on one line."""
    start = time.process_time()
    with pytest.raises(FormatError) as caught:
        load_model(path)
    assert time.process_time() - start < SECONDS
    text = str(caught.value)
    assert message in text
    assert "\n" not in text
    assert len(text) < 800
    return text


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("onnx") / "m.onnx"
    shape, stack = MODELS["tutorial"]
    model = filled(shape, *stack)
    model.class_names = list("abcdefghij")
    model.save(path)
    return path.read_bytes()


def test_every_cut_of_a_file_is_refused(good, tmp_path):
    path = tmp_path / "m.onnx"
    for end in (0, 1, 2, 3, *range(7, len(good), len(good) // 150)):
        path.write_bytes(good[:end])
        refused(path)


def test_every_damaged_byte_is_refused_or_changes_numbers(good, tmp_path):
    path = tmp_path / "m.onnx"
    generator = np.random.default_rng(5)
    start = time.process_time()
    for _ in range(400):
        data = bytearray(good)
        for place in generator.integers(0, len(data), generator.integers(1, 4)):
            # The structure is at both ends, the weights in between.
            place = place % 1500 if generator.random() < 0.5 else len(data) - 1 - place % 1500
            data[place] = generator.integers(256)
        path.write_bytes(data)
        try:
            load_model(path)
        except FormatError as error:
            assert "\n" not in str(error)
    assert time.process_time() - start < 400 * SECONDS / 10


def field(number: int, payload: bytes) -> bytes:
    size, length = len(payload), b""
    while size >= 128:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + payload


@pytest.mark.parametrize(("data", "message"), [
    (field(7, field(1, b"") * 1_000_000), "more than 200000 fields"),  # operators, two bytes each
    (field(7, field(5, b"") * 1_000_000), "more than 200000 fields"),  # tensors
    (field(7, field(1, field(5, field(8, b"\x01" * 2_000_000)))), "more than 200000 fields"),  # packed numbers
    (field(14, b"") * 1_000_000, "more than 200000 fields"),
    (field(6, b"x" * (17 << 20)), "bytes beside the weights"),
    (b"\x08\x08" + b"\xff" * 20, "a number has no end"),
    (b"\x3b\x3c", "wire type 3"),
    (field(7, b"\x0a\x7f"), "longer than what holds it"),
], ids=range(8))
def test_a_file_that_would_become_many_objects_is_refused_before(data, message, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path, message)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 << 10  # kilobytes


def test_graphs_within_graphs_are_counted_without_recursion(tmp_path):
    data = b""
    for _ in range(3000):
        data = field(1, field(5, field(6, data)))  # an operator's attribute's graph
    path = tmp_path / "m.onnx"
    path.write_bytes(field(7, data))
    refused(path)


def saved(tmp_path: Path, change: Any, nodes: Any = None, constants: Any = None, shape: tuple[int, ...] = (6,)) -> Path:
    path = write(tmp_path / "m.onnx", nodes or [node("MatMul", "input w", "y")], shape,
                 constants or {"w": random(6, 3)})
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def dims(*sizes: int) -> Any:
    def change(model: Any) -> None:
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(sizes)
    return change


def data_type(number: int) -> Any:
    return lambda model: setattr(model.graph.initializer[0], "data_type", number)


def second_input(model: Any) -> None:
    model.graph.input.append(onnx.helper.make_tensor_value_info("other", 1, [None, 6]))


def unknown_size(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "size"


def twice(model: Any) -> None:
    model.graph.node.append(model.graph.node[0])


def sparse(model: Any) -> None:
    model.graph.sparse_initializer.add()


def functions(model: Any) -> None:
    model.functions.add(name="f", domain="d")


def domain(model: Any) -> None:
    model.graph.node[0].domain = "com.microsoft"


def opset(version: int) -> Any:
    return lambda model: setattr(model.opset_import[0], "version", version)


def attribute(**values: Any) -> Any:
    def change(model: Any) -> None:
        for key, value in values.items():
            model.graph.node[0].attribute.append(onnx.helper.make_attribute(key, value))
    return change


CHANGES = {
    "dims-huge": (dims(2**40, 2**40), "a size of at most"),
    "dims-negative": (dims(-6, -3), "an integer from 0"),
    "dims-of-nothing": (dims(0, 2**62), "an integer from 0|a size of at most|0 bytes"),
    "dims-many": (dims(*[1] * 9), "at most 8 dimensions"),
    "dims-other": (dims(6, 4), "96 bytes for shape [6, 4]"),
    "type-text": (data_type(8), "a tensor of numbers"),
    "type-unknown": (data_type(99), "a tensor of numbers"),
    "inputs": (second_input, "one input and one output"),
    "size-free": (unknown_size, "1 to 3 known dimensions"),
    "twice": (twice, "every name once"),
    "sparse": (sparse, "plain tensors alone"),
    "functions": (functions, "operators and plain tensors"),
    "domain": (domain, "operators of ONNX. Received"),
    "opset-old": (opset(6), "an opset from 7 to"),
    "opset-future": (opset(2**40), "an opset from 7 to"),
    "opset-of-others": (lambda model: setattr(model.opset_import[0], "domain", "ai.onnx.ml"),
                        "operators of ONNX. Received: ['ai.onnx.ml']"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_contents_are_checked(name, tmp_path):
    change, message = CHANGES[name]
    text = refused(saved(tmp_path, change))
    assert any(part in text for part in message.split("|"))


@pytest.mark.parametrize("nodes", [
    [node("Softmax", "input", "y", axis=[1])], [node("Flatten", "input", "y", axis="a")],
    [node("Elu", "input", "y", alpha=1)],
    [node("Conv", "input k", "y", pads=3)], [node("MaxPool", "input", "y", kernel_shape=2.0)],
    [node("Cast", "input", "y", to=[1])],
    [node("Mul", "k k k", "c"), node("Add", "input c", "y")], [node("Neg", "k k", "c"), node("Add", "input c", "y")],
    [node("Sigmoid", "input", "s"), node("Mul", "input s s", "y")], [node("Resize", "input - two", "y")],
    [node("Re\x01lu", "input", "y")],
], ids=range(11))
def test_attributes_and_inputs_are_as_onnx_defines_them(nodes, tmp_path):
    path = write(tmp_path / "m.onnx", nodes, (2, 8, 8), {"k": random(2, 2, 1, 1), "two": np.array([2, 2], np.float32)})
    text = refused(path)
    assert "expected" in text
    assert text.isprintable()
    assert not any(word in text for word in ("instances", "object", "NoneType", "index", "argument", "array"))


SMALL = {"w": random(6, 6), "k": random(2, 2, 1, 1)}
IMAGE = (2, 8, 8)

BOMBS: dict[str, tuple[tuple[int, ...], list[Any], dict[str, Any]]] = {
    "shared-weights": ((600,), [node("MatMul", f"{'input' if not k else f't{k}'} big",
                                     f"t{k + 1}" if k < 99 else "y") for k in range(100)],
                       {"big": random(600, 600)}),
    "pads": (IMAGE, [node("Pad", "input pads", "y")], {"pads": [0, 0, 2**40, 0, 0, 0, 0, 0]}),
    "pads-of-conv": (IMAGE, [node("Conv", "input k", "y", pads=[0, 0, 10**9, 10**9])], SMALL),
    "strides": (IMAGE, [node("Conv", "input k", "y", strides=[10**12, 1])], SMALL),
    "dilations": (IMAGE, [node("Conv", "input k", "y", dilations=[2**62, 1])], SMALL),
    "window": (IMAGE, [node("MaxPool", "input", "y", kernel_shape=[2**40, 2**40], auto_pad="SAME_UPPER")], SMALL),
    "kernel-of-nothing": (IMAGE, [node("MaxPool", "input", "y", kernel_shape=[0, 0])], SMALL),
    "groups": (IMAGE, [node("Conv", "input k", "y", group=-1)], SMALL),
    "resize": (IMAGE, [node("Resize", "input - scales", "y")],
               {"scales": np.array([1, 1, np.inf, np.nan], np.float32)}),
    "resize-sizes": (IMAGE, [node("Resize", "input - - sizes", "y")], {"sizes": [1, 2, 2**40, 2**40]}),
    "tile": ((1, 6), [node("Tile", "input repeats", "y")], {"repeats": [1, 2**40, 1]}),
    "repeats": (IMAGE, [node("Unsqueeze", "input axis", "u"), node("Tile", "u repeats", "t"),
                        node("Reshape", "t shape", "y")],
                {"axis": [3], "repeats": [1, 1, 1, 2**40, 1], "shape": [-1, 2, 2**43, 8]}),
    "filled": (IMAGE, [node("ConstantOfShape", "shape", "c"), node("Add", "input c", "y")], {"shape": [2**20, 2**20]}),
    "expanded": ((6,), [node("Mul", "column row", "w"), node("MatMul", "input w", "y")],
                 {"column": random(3000, 1), "row": random(1, 3000)}),
    "doubled": ((6,), [*(node("Concat", f"{'w' if not k else f't{k}'} {'w' if not k else f't{k}'}", f"t{k + 1}",
                              axis=1) for k in range(50)),
                       node("MatMul", "input t50", "y")], SMALL),
    "recalculated": ((600,), [*(node("Neg", f"{'big' if not k else f't{k}'}", f"t{k + 1}") for k in range(3000)),
                              node("MatMul", "input t3000", "y")], {"big": random(600, 600)}),
    "many-layers": ((6,), [node("Relu", f"{'input' if not k else f't{k}'}",
                                f"t{k + 1}" if k < 4999 else "y") for k in range(5000)], SMALL),
    "many-operators": ((6,), [node("Identity", f"{'input' if not k else f't{k}'}",
                                   f"t{k + 1}" if k < 5999 else "y") for k in range(6000)],
                       SMALL),
    "branches": ((6,), [*(node("Add", f"{'input' if not k else f't{k}'} input", f"t{k + 1}") for k in range(3000)),
                        node("Relu", "t3000", "y")], SMALL),
    "loop": ((6,), [node("Relu", "b", "a"), node("Relu", "a", "b"), node("Add", "a input", "y")], SMALL),
    "too-few-inputs": ((6,), [node("MatMul", "input", "y")], SMALL),
    "no-inputs": ((6,), [node("Add", "", "c"), node("MatMul", "input c", "y")], SMALL),
    "slopes": ((6,), [node("PRelu", "input w", "y")], SMALL),
    "scale-of-nothing": ((6,), [node("Div", "input zero", "y")], {"zero": np.float32(0)}),
    "infinite": ((6,), [node("Mul", "input c", "y")], {"c": np.float32(np.inf)}),
    "not-a-number": ((6,), [node("Add", "input c", "d"), node("Relu", "d", "y")], {"c": np.float32(np.nan)}),
    "dropped": ((6,), [node("Dropout", "input ratio", "y")], {"ratio": np.float32(np.nan)}),
    "epsilon": ((6,), [node("BatchNormalization", "input v v v v", "y", epsilon=-1.0)], {"v": random(6)}),
    "permutation": (IMAGE, [node("Transpose", "input", "y", perm=[0, 1, 1, 2])], SMALL),
    "axis": (IMAGE, [node("Softmax", "input", "y", axis=2**40)], SMALL),
    "shape": (IMAGE, [node("Reshape", "input shape", "y")], {"shape": [-1, -1, -1]}),
    "shape-negative": (IMAGE, [node("Reshape", "input shape", "y")], {"shape": [-1, -5]}),
    "rank": (IMAGE, [node("Reshape", "input shape", "y")], {"shape": [-1, 2, 2, 2, 16]}),
}


@pytest.mark.parametrize("name", BOMBS)
def test_operators_that_ask_for_too_much_are_refused(name, tmp_path):
    shape, nodes, constants = BOMBS[name]
    path = write(tmp_path / "m.onnx", nodes, shape, constants)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < (40 << 10) + 4 * path.stat().st_size / 1024


@pytest.mark.parametrize("text", ["[", "[]", '{"class_names": 3}', '{"class_names": ["a", "a"]}',
                                  '{"image_input": {"fit": []}}',
                                  '{"class_names": {"a": 1}}', "\x00", "9" * 5000, "[" * 100_000])
def test_what_the_file_says_of_this_package_is_checked(text, tmp_path):
    def change(model: Any) -> None:
        onnx.helper.set_model_props(model, {"tinyconv": text})
    refused(saved(tmp_path, change))


def test_names_are_no_layer_names_where_they_cannot_be(tmp_path):
    def change(model: Any) -> None:
        model.producer_name = "tinyconv"
        model.graph.name = "n" * 100_000
        model.graph.node[0].name = "a\nb"
    model = load_model(saved(tmp_path, change))
    assert model.layers[0].name.startswith("dense")
    assert len(model.name) < 50


def test_paths_that_are_no_files(tmp_path):
    (tmp_path / "folder.onnx").mkdir()
    for path, message in ((tmp_path / "missing.onnx", ""), (tmp_path / "folder.onnx", "")):
        refused(path, message)
