"""ONNX files of other writers, read: every idiom of an exporter by hand, as it writes it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_helpers import CONV, assert_close, node, onnx, random, run, samples, write

from tinyconv import Sequential, layers, load_model

IMAGE = (2, 8, 9)


def check(path: Any, shape: tuple[int, ...], *classes: type, count: int = 2) -> Sequential:
    """The file loads, consists of certain layers, and gives what it gives elsewhere."""
    model = load_model(path)
    if classes:
        assert [type(layer) for layer in model.layers] == list(classes)
    x = samples(shape, count)
    assert_close(model.predict(x, verbose=0), run(path, x))
    return model


@pytest.mark.parametrize(("name", "opset"), [("dynamo", 20), ("torchscript", 13), ("torchscript", 9),
                                             ("torchscript", 7)])
def test_pytorch_network_of_the_tutorial(name, opset, tmp_path):
    constants = {"w1": random(4, 1, 3, 3), "b1": random(4), "w2": random(10, 36), "b2": random(10)}
    nodes = [node("Conv", "input w1 b1", "c", dilations=[1, 1], group=1, kernel_shape=[3, 3], pads=[0] * 4,
                  strides=[1, 1]),
             node("Relu", "c", "r"), node("MaxPool", "r", "p", kernel_shape=[2, 2], pads=[0] * 4, strides=[2, 2])]
    if name == "dynamo":  # shapes are folded
        constants["shape"] = np.array([-1, 36])
        nodes.append(node("Reshape", "p shape", "f", allowzero=1))
    else:  # x.view(x.size(0), -1)
        nodes += [node("Shape", "p", "s"), node("Constant", "", "zero",
                                                value=onnx.numpy_helper.from_array(np.array(0))),
                  node("Gather", "s zero", "n", axis=0)]
        if opset < 13:
            nodes.append(node("Unsqueeze", "n", "n1", axes=[0]))
        else:
            constants["axes"] = np.array([0])
            nodes.append(node("Unsqueeze", "n axes", "n1"))
        nodes += [node("Constant", "", "rest", value=onnx.numpy_helper.from_array(np.array([-1]))),
                  node("Concat", "n1 rest", "shape", axis=0), node("Reshape", "p shape", "f")]
    nodes += [node("Gemm", "f w2 b2", "g", alpha=1.0, beta=1.0, transB=1), node("LogSoftmax", "g", "y", axis=1)]
    path = write(tmp_path / "m.onnx", nodes, (1, 8, 8), constants, opset)
    model = check(path, (1, 8, 8), layers.Permute, layers.Conv2D, layers.MaxPooling2D, layers.Flatten, layers.Dense)
    assert model.layers[1].activation.__name__ == "relu"
    assert model.layers[4].activation.__name__ == "log_softmax"
    np.testing.assert_array_equal(model.layers[1].get_weights()[0], constants["w1"].transpose(2, 3, 1, 0))


def test_pytorch_normalizations_dropout_and_pooling_of_everything(tmp_path):
    constants = {"w": random(4, 2, 3, 3), "b": random(4), "scale": random(4), "mean": random(4),
                 "var": random(4) ** 2 + 0.1,
                 "low": np.float32(0), "high": np.float32(6), "ratio": np.float32(0.25), "f": random(3, 4),
                 "axes": np.array([-1, -2])}
    nodes = [node("Conv", "input w b", "c", pads=[1] * 4),
             node("BatchNormalization", "c scale b mean var", "n", epsilon=1e-5),
             node("Clip", "n low high", "r"), node("Dropout", "r ratio", "d"), node("Identity", "d", "i"),
             node("ReduceMean", "i axes", "m", keepdims=0), node("Gemm", "m f", "g", transB=1),
             node("Softmax", "g", "y", axis=-1)]
    path = write(tmp_path / "m.onnx", nodes, IMAGE, constants, 18)
    model = check(path, IMAGE, layers.Permute, layers.Conv2D, layers.BatchNormalization, layers.Activation,
                  layers.Dropout, layers.GlobalAveragePooling2D, layers.Dense)
    assert model.layers[1].padding == "same"
    assert not model.layers[-1].use_bias


@pytest.mark.parametrize("opset", [11, 13])
def test_pytorch_mean_over_axes_and_flatten(opset, tmp_path):
    nodes = [node("Conv", "input w b", "c"), node("ReduceMean", "c", "m", axes=[2, 3], keepdims=1),
             node("Flatten", "m", "y")]
    check(write(tmp_path / "m.onnx", nodes, IMAGE, CONV, opset), IMAGE, layers.Permute, layers.Conv2D,
          layers.GlobalAveragePooling2D)


CNTK = {"w": random(8, 1, 5, 5), "b": random(8, 1, 1), "v": random(8, 4, 4, 10), "rows": np.array([1, 128]),
        "shape": np.array([128, 10]), "c": random(1, 10)}


def test_cntk_network_of_the_model_zoo(tmp_path):
    nodes = [node("Reshape", "v shape", "matrix"), node("Conv", "input w", "k", auto_pad="SAME_UPPER",
                                                        kernel_shape=[5, 5]),
             node("Add", "k b", "s"), node("Relu", "s", "r"),
             node("MaxPool", "r", "p", auto_pad="NOTSET", kernel_shape=[3, 3], strides=[3, 3], pads=[0] * 4),
             node("Reshape", "p rows", "f"), node("MatMul", "f matrix", "t"), node("Add", "t c", "y")]
    path = write(tmp_path / "m.onnx", nodes, (1, 12, 12), CNTK, 8, batch=1)
    model = load_model(path)
    assert [type(layer) for layer in model.layers] == [layers.Permute, layers.Conv2D, layers.MaxPooling2D,
                                                       layers.Flatten,
                                                       layers.Dense]
    x = samples((1, 12, 12), 3)  # more of them than the file is for
    expected = np.concatenate([run(path, x[index:index + 1]) for index in range(3)])
    assert_close(model.predict(x, verbose=0), expected)


def test_tf2onnx_network_of_keras(tmp_path):
    constants = {"w": random(4, 2, 3, 3), "b": random(4), "matrix": random(5, 3), "d": random(3),
                 "scale": np.float32(1 / 255),
                 "one": np.array([1]), "zero": np.array([0]), "k": random(5, 4, 1, 1), "kb": random(1, 5, 1, 1),
                 "axes": np.array([2, 3]),
                 "factor": random(5, 1, 1) ** 2, "summand": random(5, 1, 1)}
    nodes = [node("Mul", "input scale", "scaled"), node("Cast", "scaled", "cast", to=1),
             node("Transpose", "cast", "t", perm=[0, 3, 1, 2]),
             node("Conv", "t w b", "c", auto_pad="SAME_UPPER", strides=[2, 2]),
             node("Transpose", "c", "t2", perm=[0, 2, 3, 1]),
             node("Softsign", "t2", "a"), node("Transpose", "a", "t3", perm=[0, 3, 1, 2]), node("Conv", "t3 k", "c2"),
             node("Add", "c2 kb", "c3"), node("Mul", "c3 factor", "n1"), node("Add", "n1 summand", "n2"),
             node("Relu", "n2", "r"),
             node("GlobalAveragePool", "r", "g"), node("Squeeze", "g axes", "s"), node("MatMul", "s matrix", "m"),
             node("Add", "m d", "e"), node("Sigmoid", "e", "y")]
    path = write(tmp_path / "m.onnx", nodes, (9, 8, 2), constants, 15)
    model = check(path, (9, 8, 2), layers.Rescaling, layers.Conv2D, layers.Conv2D, layers.BatchNormalization,
                  layers.Activation,
                  layers.GlobalAveragePooling2D, layers.Dense)
    assert not model.layers[3].trainable  # it is not a normalization by the batch
    assert model.layers[1].activation.__name__ == "softsign"


def test_keras_flatten_behind_a_transposition_keeps_the_rows(tmp_path):
    matrix = random(4 * 6 * 7, 5)
    nodes = [node("Transpose", "input", "t", perm=[0, 3, 1, 2]), node("Conv", "t w b", "c"),
             node("Transpose", "c", "t2", perm=[0, 2, 3, 1]), node("Shape", "c", "s"),
             node("Gather", "s order", "g", axis=0),
             node("Cast", "g", "i", to=6), node("Slice", "i zero one", "n"), node("Concat", "n rest", "k", axis=0),
             node("Cast", "k", "l", to=7), node("Reshape", "t2 l", "f"), node("MatMul", "f matrix", "y")]
    constants = {**CONV, "order": np.array([0, 2, 3, 1]), "zero": np.array([0]), "one": np.array([1]),
                 "rest": np.array([168], np.int32), "matrix": matrix}
    path = write(tmp_path / "m.onnx", nodes, (8, 9, 2), constants)
    model = check(path, (8, 9, 2), layers.Conv2D, layers.Flatten, layers.Dense)
    np.testing.assert_array_equal(model.layers[2].get_weights()[0], matrix)


def test_convolutions_of_sequences_as_images_of_one_row(tmp_path):
    constants = {"w": random(5, 3, 1, 3), "b": random(1, 5, 1), "pads": np.array([0, 2, 0, 0, 0, 0]),
                 "minus": np.array([-3]),
                 "two": np.array([2])}
    nodes = [node("Pad", "input pads", "p"), node("Unsqueeze", "p minus", "u"),
             node("Transpose", "u", "t", perm=[0, 3, 1, 2]),
             node("Conv", "t w", "c", kernel_shape=[1, 3]), node("Squeeze", "c two", "s"), node("Add", "s b", "a"),
             node("Relu", "a", "r"), node("GlobalMaxPool", "r", "g"), node("Flatten", "g", "y")]
    check(write(tmp_path / "m.onnx", nodes, (20, 3), constants), (20, 3), layers.ZeroPadding1D, layers.Reshape,
          layers.Permute,
          layers.Conv2D, layers.Reshape, layers.GlobalMaxPooling1D)


REPEATS: dict[str, list[Any]] = {
    "torch-rows": [node("Unsqueeze", "x three", "u"), node("Equal", "count minus", "q"),
                   node("Where", "q ones count", "w"),
                   node("Expand", "u w", "e"), node("Reshape", "e taller", "y")],
    "tf-rows-turned": [node("Unsqueeze", "x three", "u"), node("Tile", "u times", "t"),
                       node("Transpose", "t", "v", perm=[0, 2, 3, 4, 1]), node("Reshape", "v turned", "w"),
                       node("Transpose", "w", "y", perm=[0, 3, 1, 2])],
    "columns": [node("Unsqueeze", "x four", "u"), node("Tile", "u wide", "t"), node("Cast", "t", "c", to=1),
                node("Reshape", "c wider", "y")],
    "both": [node("Unsqueeze", "x three", "u"), node("Tile", "u times", "t"), node("Reshape", "t taller", "r"),
             node("Unsqueeze", "r four", "v"), node("Tile", "v wide", "w"), node("Reshape", "w both", "y")],
}


@pytest.mark.parametrize("name", REPEATS)
def test_pixels_repeated_along_a_further_axis(name, tmp_path):
    constants = {"three": [3], "four": [4], "minus": [-1] * 5, "ones": [1] * 5, "count": [-1, -1, -1, 2, -1],
                 "taller": [-1, 2, 16, 9],
                 "times": [1, 1, 1, 2, 1], "turned": [-1, 16, 9, 2], "wide": [1, 1, 1, 1, 3], "wider": [-1, 2, 8, 27],
                 "both": [-1, 2, 16, 27]}
    nodes = [node("Conv", "input k", "x"), *REPEATS[name]]
    path = write(tmp_path / "m.onnx", nodes, IMAGE, {**constants, "k": random(2, 2, 1, 1)})
    model = check(path, IMAGE, layers.Permute, layers.Conv2D, layers.UpSampling2D, layers.Permute)
    assert model.layers[2].size == {"columns": (1, 3), "both": (2, 3)}.get(name, (2, 1))


def test_operators_may_stand_in_any_order(tmp_path):
    nodes = [node("Identity", "s", "y"), node("Softmax", "a", "s"), node("Add", "t b", "a"),
             node("MatMul", "input w", "t")]
    path = write(tmp_path / "m.onnx", nodes, (6,), {"w": random(6, 3), "b": random(3)})  # as keras2onnx has them
    model = load_model(path)
    assert [type(layer) for layer in model.layers] == [layers.Dense]
    assert model.layers[0].use_bias


# How exporters write functions: what they are here, and the operators from x to y.
FUNCTIONS: dict[str, tuple[str, list[Any]]] = {
    "silu": ("silu", [node("Sigmoid", "x", "s"), node("Mul", "x s", "y")]),
    "silu-turned": ("silu", [node("Transpose", "x", "t", perm=[0, 2, 1, 3]), node("Sigmoid", "t", "s"),
                             node("Transpose", "x", "u", perm=[0, 2, 1, 3]), node("Mul", "s u", "v"),
                             node("Transpose", "v", "y", perm=[0, 2, 1, 3])]),
    "mish": ("mish", [node("Softplus", "x", "s"), node("Tanh", "s", "t"), node("Mul", "x t", "y")]),
    "gelu-torch": ("gelu", [node("Div", "x root2", "d"), node("Erf", "d", "e"), node("Add", "e one", "a"),
                            node("Mul", "x a", "m"), node("Mul", "m half", "y")]),
    "gelu-tanh": ("gelu_tanh", [node("Pow", "x three", "p"), node("Mul", "p cubic", "c"), node("Add", "x c", "a"),
                                node("Mul", "a root", "r"), node("Tanh", "r", "t"), node("Add", "t one", "o"),
                                node("Mul", "x half", "h"), node("Mul", "h o", "y")]),
    "hard-swish": ("hard_silu", [node("Add", "x three", "a"), node("Clip", "a zero six", "c"), node("Mul", "x c", "m"),
                                 node("Div", "m six", "y")]),
    "softsign": ("softsign", [node("Abs", "x", "a"), node("Add", "a one", "c"), node("Div", "x c", "y")]),
    "softplus": ("softplus", [node("Softplus", "x", "s"), node("Greater", "x twenty", "g"),
                              node("Where", "g x s", "y")]),
    "tanh-shrink": ("tanh_shrink", [node("Tanh", "x", "t"), node("Sub", "x t", "y")]),
    "log-sigmoid": ("log_sigmoid", [node("Sigmoid", "x", "s"), node("Log", "s", "y")]),
    "soft-shrink": ("soft_shrink", [node("Shrink", "x", "y", lambd=0.5, bias=0.5)]),
    "swish-of-casts": ("silu", [node("Cast", "x", "c", to=1), node("Sigmoid", "c", "s"), node("Mul", "c s", "y")]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_in_pieces_are_recognized(name, tmp_path):
    activation, nodes = FUNCTIONS[name]
    numbers = {"one": 1.0, "half": 0.5, "three": 3.0, "six": 6.0, "zero": 0.0, "twenty": 20.0, "root2": 2**0.5,
               "root": (2 / np.pi) ** 0.5, "cubic": 0.044715}
    constants = {**CONV, **{key: np.float32(value) for key, value in numbers.items()}}
    path = write(tmp_path / "m.onnx", [node("Conv", "input w b", "x"), *nodes], IMAGE, constants)
    model = check(path, IMAGE, layers.Permute, layers.Conv2D, layers.Permute)
    assert model.layers[1].activation.__name__ == activation


LAYERS: dict[str, tuple[list[Any], type, dict[str, Any]]] = {
    "threshold": ([node("LessOrEqual", "x tenth", "l"), node("Where", "l zero x", "y")], layers.ReLU,
                  {"threshold": 0.1}),
    "leaky": ([node("Mul", "x tenth", "m"), node("Max", "x m", "y")], layers.LeakyReLU, {"negative_slope": 0.1}),
    "elu": ([node("Exp", "x", "e"), node("Sub", "e one", "s"), node("Mul", "s tenth", "m"), node("Less", "x zero", "l"),
             node("Where", "l m x", "y")], layers.ELU, {"alpha": 0.1}),
    "bounded": ([node("Clip", "x - tenth", "y")], layers.ReLU, {"max_value": 0.1, "negative_slope": 1.0}),
    "bounded-far-off": ([node("Clip", "x lowest highest", "y")], layers.ReLU,
                        {"max_value": 65504.0, "negative_slope": 1.0}),
    "bounded-below-zero": ([node("Clip", "x lowest minus-tenth", "y")], layers.ReLU,
                           {"max_value": 65503.9, "negative_slope": 0.0}),
    "huge-factors": ([node("Mul", "x factors", "y")], layers.BatchNormalization, {}),
    "prelu": ([node("Relu", "x", "r"), node("Neg", "x", "n"), node("Relu", "n", "q"), node("Mul", "minus q", "m"),
               node("Add", "r m", "y")], layers.PReLU, {"shared_axes": [1, 2]}),
    "prelu-node": ([node("PRelu", "x minus", "y")], layers.PReLU, {"shared_axes": [1, 2]}),
    "hard-sigmoid": ([node("HardSigmoid", "x", "y")], layers.ReLU, {"max_value": 1.0}),
    "thresholded": ([node("ThresholdedRelu", "x", "y", alpha=0.5)], layers.ReLU, {}),
    "softmax": ([node("Softmax", "x", "y", axis=2)], layers.Softmax, {"axis": 1}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_functions_with_parameters_become_layers(name, tmp_path):
    nodes, cls, settings = LAYERS[name]
    constants = {**CONV, "tenth": np.float32(0.1), "zero": np.float32(0), "one": np.float32(1),
                 "minus": -random(4, 1, 1), "lowest": np.float32(-65504), "highest": np.float32(65504),
                 "minus-tenth": np.float32(-0.1), "factors": np.array([1e-25, 1, 1e9, 2], np.float32).reshape(4, 1, 1)}
    path = write(tmp_path / "m.onnx", [node("Conv", "input w b", "x"), *nodes], IMAGE, constants)
    model = check(path, IMAGE)
    config = next(layer for layer in model.layers if isinstance(layer, cls)).get_config()
    assert {key: config[key] for key in settings} == settings


WINDOWS: dict[str, tuple[list[Any], tuple[type, ...]]] = {
    "same-lower": ([node("Conv", "input w b", "y", auto_pad="SAME_LOWER", strides=[2, 2])], ()),
    "both-sides": ([node("Conv", "input w b", "y", pads=[1] * 4, strides=[2, 2])], ()),
    "pads-of-conv": ([node("Pad", "input pads", "p"), node("Conv", "p w b", "y")], ()),
    "max-of-positive": ([node("Relu", "input", "r"), node("MaxPool", "r", "y", kernel_shape=[3, 3], strides=[2, 2],
                                                          pads=[1] * 4)],
                        (layers.Activation, layers.Permute, layers.ZeroPadding2D, layers.MaxPooling2D, layers.Permute)),
    "max-of-any": ([node("MaxPool", "input", "y", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)],
                   (layers.Permute, layers.MaxPooling2D, layers.MaxPooling2D, layers.Permute)),
    "max-behind-pad": ([node("Relu", "input", "r"), node("Pad", "r pads low", "p"),
                        node("MaxPool", "p", "y", kernel_shape=[4, 4], strides=[3, 3])], ()),
    "max-behind-edge": ([node("Pad", "input edges", "p", mode="edge"),
                         node("MaxPool", "p", "y", kernel_shape=[2, 3], strides=[2, 2])],
                        (layers.Permute, layers.MaxPooling2D, layers.Permute)),
    "bias-behind-cut": ([node("ConvTranspose", "input v", "t", strides=[2, 2], pads=[1, 1, 0, 0]),
                         node("Add", "t c1", "a"),
                         node("Relu", "a", "y")], (layers.Permute, layers.Conv2DTranspose, layers.Cropping2D,
                                                   layers.Permute)),
    "max-ceil": ([node("MaxPool", "input", "y", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)],
                 (layers.Permute, layers.MaxPooling2D, layers.Permute)),
    "mean": ([node("AveragePool", "input", "y", kernel_shape=[3, 3], pads=[1] * 4)],
             (layers.Permute, layers.AveragePooling2D, layers.Permute)),
    "mean-with-zeros": ([node("AveragePool", "input", "y", kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)],
                        (layers.Permute, layers.ZeroPadding2D, layers.AveragePooling2D, layers.Permute)),
    "global-by-window": ([node("AveragePool", "input", "p", kernel_shape=[8, 9]), node("Flatten", "p", "y")], ()),
    "transposed": ([node("ConvTranspose", "input v c", "y", strides=[2, 2], pads=[1] * 4)], ()),
    "transposed-extra": ([node("ConvTranspose", "input v c", "y", strides=[2, 2], pads=[1] * 4,
                               output_padding=[1, 1])], ()),
    "transposed-shape": ([node("ConvTranspose", "input v c", "y", strides=[2, 2], output_shape=[16, 18])], ()),
    "depthwise": ([node("Conv", "input d", "y", group=2, dilations=[2, 1])],
                  (layers.Permute, layers.DepthwiseConv2D, layers.Permute)),
    "cut": ([node("Slice", "input starts ends axes", "y")], (layers.Permute, layers.Cropping2D, layers.Permute)),
    "cut-and-pad": ([node("Pad", "input mixed", "y")], ()),
    "nearest": ([node("Resize", "input - scales", "y", mode="nearest", coordinate_transformation_mode="asymmetric",
                      nearest_mode="floor")], (layers.Permute, layers.UpSampling2D, layers.Permute)),
    "nearest-sizes": ([node("Resize", "input - - sizes", "y", mode="nearest", nearest_mode="round_prefer_ceil")],
                      (layers.Permute, layers.Resizing, layers.Permute)),
    "linear": ([node("Resize", "input - scales", "y", mode="linear",
                     coordinate_transformation_mode="pytorch_half_pixel")],
               (layers.Permute, layers.UpSampling2D, layers.Permute)),
    "sizes": ([node("Resize", "input - - sizes", "y", mode="linear")],
              (layers.Permute, layers.Resizing, layers.Permute)),
}
WINDOW_CONSTANTS = {**CONV, "v": random(2, 3, 3, 3), "c": random(3), "c1": random(3, 1, 1), "d": random(4, 1, 3, 3),
                    "pads": [0, 0, 2, 1, 0, 0, 0, 3],
                    "low": np.float32(-np.inf), "edges": [0, 0, 0, 1, 0, 0, 0, 1],
                    "mixed": [0, 0, 1, -1, 0, 0, -2, 1], "starts": [1, -6], "ends": [9999, -1], "axes": [2, -1],
                    "scales": np.array([1, 1, 2, 3], np.float32), "sizes": [2, 2, 5, 12]}


@pytest.mark.parametrize("name", WINDOWS)
def test_windows_and_padding(name, tmp_path):
    nodes, classes = WINDOWS[name]
    check(write(tmp_path / "m.onnx", nodes, IMAGE, WINDOW_CONSTANTS, batch=2 if "sizes" in name else "N"), IMAGE,
          *classes)


def test_old_operators_have_attributes_where_new_ones_have_inputs(tmp_path):
    nodes = [node("Pad", "input", "p", pads=[0, 0, 1, 1, 0, 0, 1, 1], value=0.0), node("Conv", "p w b", "c"),
             node("Clip", "c", "k", min=0.0, max=6.0), node("Upsample", "k scales", "u", mode="nearest"),
             node("Slice", "u", "s", starts=[1], ends=[15], axes=[2]), node("Dropout", "s", "d", ratio=0.5),
             node("ReduceMax", "d", "e", axes=[2, 3], keepdims=0), node("Unsqueeze", "e", "f", axes=[1]),
             node("Squeeze", "f", "g", axes=[1]), node("Reshape", "g shape", "y")]
    constants = {**CONV, "scales": np.array([1, 1, 2, 2], np.float32), "shape": np.array([0, -1])}
    check(write(tmp_path / "m.onnx", nodes, IMAGE, constants, 9), IMAGE)


@pytest.mark.parametrize("kind", ["float16", "float64", "float_data", "bfloat16"])
def test_weights_of_other_types_are_converted(kind, tmp_path):
    matrix = random(6, 3).astype(np.float16).astype(np.float32)  # what a smaller type holds
    tensor = onnx.numpy_helper.from_array(matrix.astype(np.float64 if kind == "float64" else np.float16), "w")
    if kind == "bfloat16":
        matrix = (matrix.view(np.uint32) & 0xFFFF0000).view(np.float32)
        tensor = onnx.helper.make_tensor("w", onnx.TensorProto.BFLOAT16, [6, 3],
                                         (matrix.view(np.uint32) >> 16).astype("<u2").tobytes(),
                                         raw=True)
    if kind == "float_data":
        tensor = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [6, 3], matrix.ravel().tolist())
    path = write(tmp_path / "m.onnx", [node("MatMul", "input w", "y")], (6,), {})
    model = onnx.load(path)
    model.graph.initializer.append(tensor)
    onnx.save(model, path)
    np.testing.assert_array_equal(load_model(path).get_weights()[0], matrix)


def test_initializers_may_be_inputs_and_what_leads_nowhere_is_left_out(tmp_path):
    path = write(tmp_path / "m.onnx", [node("MatMul", "input w", "y"), node("Unknown", "w", "z"),
                                       node("Shape", "input", "s")], (6,),
                 {"w": random(6, 3)})
    model = onnx.load(path)
    model.graph.input.append(onnx.helper.make_tensor_value_info("w", 1, [6, 3]))
    onnx.save(model, path)
    assert load_model(path).count_params() == 18
