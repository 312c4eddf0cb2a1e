"""What the tests of ONNX files share: models to write, and somebody else to run the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyconv import Sequential, layers

onnx: Any = pytest.importorskip("onnx", reason="the extra [onnx] is not installed")


def run(path: Path, x: np.ndarray) -> np.ndarray:
    """The file's output by ONNX Runtime; skips the test where that is not installed.

    onnx' own evaluator would not do: it passes over the epsilon of a BatchNormalization.
    """
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, {"input": x})[0]


def assert_close(actual: np.ndarray, expected: np.ndarray) -> None:
    """Equal to 1e-5 of the largest number."""
    assert actual.shape == expected.shape
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * max(1e-6, np.abs(expected).max()))


def filled(shape: tuple[int, ...], *stack: layers.Layer, seed: int = 1) -> Sequential:
    """A model whose weights are all different, biases and statistics too."""
    model = Sequential([layers.Input(shape), *stack], seed=seed)
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if "variance" in weight.name:
            weight.assign(random.uniform(0.5, 2, weight.shape))
        elif weight.name != "kernel" or not weight.value.any():
            weight.assign(random.normal(0.2, 0.3, weight.shape))
    return model


def samples(shape: tuple[int, ...], count: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def as_channels_first(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, -1, 1)


IMAGE, SEQUENCE = (9, 7, 4), (9, 4)

# name -> (shape of a sample, layers)
MODELS: dict[str, tuple[tuple[int, ...], list[layers.Layer]]] = {
    "tutorial": ((28, 28, 1), [
        layers.Conv2D(8, 5, activation="relu"), layers.MaxPooling2D(2), layers.Conv2D(16, 5, activation="relu"),
        layers.MaxPooling2D(2), layers.Dropout(0.3), layers.Flatten(), layers.Dense(10, activation="softmax")]),
    "groups": (IMAGE, [layers.Conv2D(6, 3, strides=2, padding="same", groups=2), layers.BatchNormalization(),
                       layers.Softmax(axis=1)]),
    "other axes": (IMAGE, [layers.Conv2D(3, 2), layers.BatchNormalization(axis=2), layers.Softmax(axis=(1, 3)),
                           layers.BatchNormalization(axis=1), layers.Softmax(axis=(1, 2, 3))]),
    "dilated": (IMAGE, [layers.Conv2D(3, (2, 3), dilation_rate=(2, 1), use_bias=False, activation="softmax")]),
    "separable": (IMAGE, [layers.SeparableConv2D(6, 3, strides=2, padding="same", depth_multiplier=2),
                          layers.GlobalAveragePooling2D()]),
    "depthwise": (IMAGE, [layers.DepthwiseConv2D(3, depth_multiplier=2), layers.AveragePooling2D(2, padding="same"),
                          layers.GlobalMaxPooling2D(keepdims=True)]),
    "sequence": (SEQUENCE, [layers.DepthwiseConv1D(3), layers.Conv1D(5, 3, padding="causal", dilation_rate=2),
                            layers.SeparableConv1D(3, 2), layers.MaxPooling1D(3, 2, padding="same"),
                            layers.Flatten(), layers.Dense(3)]),
    "sequence-pools": (SEQUENCE, [layers.AveragePooling1D(2), layers.UpSampling1D(2), layers.Cropping1D((1, 0)),
                                  layers.ZeroPadding1D((0, 2)), layers.GlobalAveragePooling1D()]),
    "sequence-transposed": (SEQUENCE, [layers.Conv1DTranspose(3, 4, strides=3), layers.GlobalMaxPooling1D()]),
    "transposed-same": (IMAGE, [layers.Conv2DTranspose(3, 3, strides=2, padding="same", activation="tanh")]),
    "transposed-sparse": (IMAGE, [layers.Conv2DTranspose(3, 2, strides=3, dilation_rate=1)]),
    "transposed-extra": (IMAGE, [layers.Conv2DTranspose(3, 4, strides=2, padding="same", output_padding=1)]),
    "dense-of-images": (IMAGE, [layers.Conv2D(5, 2), layers.Dense(3, activation="sigmoid"),
                                layers.Dense(2, use_bias=False)]),
    "slopes": (IMAGE, [layers.PReLU(shared_axes=[1, 2]), layers.Conv2D(3, 2), layers.PReLU(),
                       layers.LeakyReLU(0.1), layers.ELU(0.5), layers.BatchNormalization(scale=False)]),
    "normalized": (IMAGE, [layers.Normalization(), layers.Rescaling(0.5, 1), layers.BatchNormalization(center=False),
                           layers.Normalization(axis=(1, 3), invert=True)]),
    "standardized": (SEQUENCE, [layers.Normalization(axis=None, mean=1, variance=4), layers.Rescaling(1 / 255)]),
    "reshaped": (IMAGE, [layers.Permute((3, 1, 2)), layers.Reshape((6, -1)), layers.Reshape((-1,)),
                         layers.ReLU(), layers.Dense(3), layers.RepeatVector(4)]),
    "flat-in-between": (IMAGE, [layers.Conv2D(3, 2), layers.Flatten(), layers.GaussianNoise(0.1),
                                layers.Activation("gelu"), layers.Dense(4)]),
    "flat-at-the-end": (IMAGE, [layers.Conv2D(3, 2), layers.Flatten()]),
    "flat-normalized": (IMAGE, [layers.Conv2D(3, 2), layers.Flatten(), layers.BatchNormalization(), layers.PReLU()]),
    "channels-first": ((4, 9, 7), [
        layers.Conv2D(3, 3, data_format="channels_first"), layers.MaxPooling2D(2, data_format="channels_first"),
        layers.UpSampling2D(2, data_format="channels_first"),
        layers.SpatialDropout2D(0.2, data_format="channels_first"),
        layers.Flatten(), layers.Dense(3)]),
    "flat-channels-first": ((4, 9, 7), [layers.Conv2D(3, 3, data_format="channels_first"),
                                        layers.Flatten(data_format="channels_first"), layers.Dense(3)]),
    "borders": (IMAGE, [layers.ZeroPadding2D(((1, 2), (0, 3))), layers.Cropping2D(((1, 0), (2, 1))),
                        layers.CenterCrop(5, 5)]),
    "resized": (IMAGE, [layers.UpSampling2D((2, 3)), layers.UpSampling2D(2, interpolation="bilinear"),
                        layers.Resizing(20, 7, "nearest"), layers.Resizing(7, 10), layers.CenterCrop(8, 8)]),
    "resized-cubic": (IMAGE, [layers.UpSampling2D(2, interpolation="bicubic")]),
    "resized-in-proportion": (IMAGE, [layers.Resizing(7, 4, crop_to_aspect_ratio=True),
                                      layers.Resizing(8, 8, pad_to_aspect_ratio=True)]),
    "noise-alone": (IMAGE, [layers.Dropout(0.5), layers.RandomFlip(), layers.RandomZoom(0.1),
                            layers.RandomBrightness(0.1), layers.RandomContrast(0.1)]),
    "vectors": ((7,), [layers.Dense(4, use_bias=False, activation="gelu_tanh"), layers.Dense(3, activation="softmax")]),
}


# --- files as others write them ---


def node(op: str, inputs: str, output: str, **attributes: Any) -> Any:
    """An operator; `inputs` are names with spaces between, "-" where nothing is given."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return onnx.helper.make_node(op, names, output.split(), name=f"/{op}_{output}", **attributes)


def write(path: Path, nodes: list[Any], shape: tuple[int, ...], constants: dict[str, Any], opset: int = 13,
          batch: Any = "N", output: str = "y") -> Path:
    """A file with the input "input" and one output; arrays of whole numbers are int64, others float32."""
    tensors = []
    for name, value in constants.items():
        array = np.asarray(value)
        if array.dtype.kind in "fi" and array.dtype.itemsize == 8:
            array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        tensors.append(onnx.numpy_helper.from_array(array, name))
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(nodes, "main_graph",
                                   [onnx.helper.make_tensor_value_info("input", kind, (batch, *shape))],
                                   [onnx.helper.make_tensor_value_info(output, kind, None)], tensors)
    opsets = [onnx.helper.make_opsetid("", opset)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, producer_name="other",
                                   ir_version=max(onnx.helper.find_min_ir_version_for(opsets), 4))
    onnx.save(model, path)
    return path


def random(*shape: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.1, 0.4, shape).astype(np.float32)


# The constants of a small convolution.
CONV = {"w": random(4, 2, 3, 3), "b": random(4)}
