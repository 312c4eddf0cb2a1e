"""ONNX files that this package wrote, read; and what is refused."""

from __future__ import annotations

from typing import Any

import hypothesis
import numpy as np
import pytest
from formats_cases import same_bits, small_model
from onnx_helpers import (
    CONV,
    MODELS,
    as_channels_first,
    assert_close,
    filled,
    node,
    random,
    run,
    samples,
    write,
)
from parity.architectures import architectures
from parity.calls import make

import tinyconv
from tinyconv import Sequential, layers, load_model
from tinyconv.formats import FormatError
from tinyconv.image_input import ImageInput

# --- what this package wrote ---

# Constants there, no weights, or in another order of rows.
NOT_BY_BITS = {"slopes", "normalized", "channels-first"}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_comes_back(name, tmp_path):
    shape, stack = MODELS[name]
    model = filled(shape, *stack)
    model.save(tmp_path / "m.onnx")
    again = load_model(tmp_path / "m.onnx")
    assert again.input_shape == model.input_shape
    assert again.name == model.name
    assert_close(again.predict(samples(shape), verbose=0), model.predict(samples(shape), verbose=0))
    if name not in NOT_BY_BITS:
        assert [weight.tobytes() for weight in again.get_weights()] == [
            weight.tobytes() for weight in model.get_weights()]


@pytest.mark.parametrize("name", ["tutorial", "sequence", "transposed-extra", "dense-of-images"])
def test_a_model_of_channels_first_images_comes_back_behind_a_permutation(name, tmp_path):
    shape, stack = MODELS[name]
    model = filled(shape, *stack)
    model.save(tmp_path / "m.onnx", data_format="channels_first")
    again = load_model(tmp_path / "m.onnx")
    x, expected = samples(shape), model.predict(samples(shape), verbose=0)
    y = again.predict(as_channels_first(x), verbose=0)
    assert_close(y, as_channels_first(expected) if y.ndim > 2 else expected)
    assert same_bits(model, again)
    if y.ndim == 2:  # without it, images are as they are here
        assert isinstance(again.layers[0], layers.Permute)
        assert_close(Sequential(again.layers[1:]).predict(x, verbose=0), expected)


def test_names_and_activations_of_layers_come_back(tmp_path):
    model = Sequential([
        layers.Input((8, 8, 2)), layers.Conv2D(3, 3, activation="relu", name="first"),
        layers.MaxPooling2D(name="second"),
        layers.Flatten(name="third"), layers.Dense(4, activation="gelu", name="fourth"),
        layers.BatchNormalization(epsilon=0.01, momentum=0.9, name="fifth"), layers.LeakyReLU(0.1, name="sixth"),
    ], name="mine")
    model.save(tmp_path / "m.onnx")
    again = load_model(tmp_path / "m.onnx")
    assert [layer.name for layer in again.layers] == ["first", "second", "third", "fourth", "fifth", "sixth"]
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in model.layers]
    assert again.get_layer("first").activation is model.get_layer("first").activation
    assert again.get_layer("fourth").activation is model.get_layer("fourth").activation
    assert (again.get_layer("fifth").epsilon, again.get_layer("fifth").momentum) == (0.01, 0.9)
    assert again.get_layer("sixth").negative_slope == 0.1


def test_class_names_and_the_preparation_of_images_come_back(tmp_path):
    model = small_model()
    model.class_names, model.image_input = ["a", "b", "ç", "d"], ImageInput(fit="content", invert=True)
    model.save(tmp_path / "m.onnx")
    again = load_model(tmp_path / "m.onnx")
    assert again.class_names == model.class_names
    assert again.image_input.get_config() == model.image_input.get_config()


def test_the_content_tells_the_format(tmp_path):
    small_model().save(tmp_path / "m.onnx")
    (tmp_path / "m.onnx").rename(tmp_path / "anything")
    assert same_bits(small_model(), load_model(tmp_path / "anything"))
    again = Sequential.load(tmp_path / "anything")
    again.compile("adam", "categorical_crossentropy")  # and can be trained on
    again.fit(samples((8, 8, 1), 8), np.eye(4, dtype=np.float32)[[0, 1, 2, 3] * 2], verbose=0)


@hypothesis.settings(max_examples=60, deadline=None, database=None, derandomize=True,
                     suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(architectures())
def test_random_models_run_elsewhere_and_come_back(tmp_path_factory, architecture):
    path = tmp_path_factory.getbasetemp() / "random.onnx"
    model = filled(architecture.input_shape, *(make(tinyconv, call) for call in architecture.layers),
                   seed=architecture.seed)
    x = samples(architecture.input_shape, architecture.batch, architecture.seed)
    expected = model.predict(x, verbose=0)
    first = architecture.seed % 2 == 1 and x.ndim > 2
    model.save(path, data_format="channels_first" if first else None, opset=13 + architecture.seed % 8)
    again = load_model(path)
    x_file = as_channels_first(x) if first else x
    expected = as_channels_first(expected) if first and expected.ndim > 2 else expected
    if np.abs(expected).max() > 1e4 or np.abs(expected).max() < 1e-4:
        return  # activations that blow up or vanish magnify the rounding of what lies between
    assert_close(again.predict(x_file, verbose=0), expected)
    assert_close(run(path, x_file), expected)


# --- what is refused ---

IMAGE_OF_TWO = (2, 8, 9)

REFUSED: dict[str, tuple[list[Any], str]] = {
    "unknown": ([node("LSTM", "input w", "y")],
                "a chain of operators that tinyconv has layers for. Received: \"LSTM '/LSTM_y'\""),
    "residual": ([node("Conv", "input w b", "c", pads=[1] * 4), node("Relu", "c", "r"), node("Add", "c r", "a"),
                  node("Add", "a c", "y")],
                 "branches behind c that meet in Add '/Add_a'"),
    "two-convolutions": ([node("Conv", "input w b", "c"), node("Conv", "input w b", "d"), node("Add", "c d", "y")],
                         "branches behind input that meet in Add '/Add_y'"),
    "residual-convolution": ([node("Conv", "input w b", "c", pads=[1] * 4), node("Conv", "c square", "d", pads=[1] * 4),
                              node("Relu", "d", "r"), node("Add", "r c", "a"), node("Relu", "a", "y")],
                             "branches behind c that meet in Add '/Add_a'"),
    "joined": ([node("MaxPool", "input", "p", kernel_shape=[1, 1]), node("Relu", "p", "r"),
                node("MaxPool", "p", "q", kernel_shape=[1, 1]), node("Concat", "r q", "y", axis=1)],
               "branches behind p that meet in Concat '/Concat_y'"),
    "batch-moved": ([node("Transpose", "input", "y", perm=[1, 0, 2, 3])], "expected samples along the first axis"),
    "batch-mixed": ([node("Reshape", "input flat", "y")], "expected a shape of 144 values a sample"),
    "batch-reduced": ([node("ReduceMean", "input", "y", axes=[0, 1], keepdims=1)],
                      "expected all axes but those of the batch"),
    "pads-that-might-win": ([node("Pad", "input pads", "p", mode="edge"),
                             node("MaxPool", "p", "y", kernel_shape=[1, 1])],
                            "before a MaxPool what is never the largest"),
    "repeated-otherwise": ([node("Unsqueeze", "input three", "u"), node("Tile", "u times", "t"),
                            node("Reshape", "t rows", "y")],
                           "expected a shape of [2, 16, 9]"),
    "pads-by-reflection": ([node("Pad", "input pads", "y", mode="reflect")], "expected zeros around the image"),
    "channels-cut": ([node("Slice", "input ones twos axes", "y")], "expected the channels to stay"),
    "averaged-otherwise": ([node("AveragePool", "input", "y", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 2, 2])],
                           "expected pads"),
    "corners": ([node("Resize", "input - scales", "y", mode="linear", coordinate_transformation_mode="align_corners")],
                "expected pixels whose centres lie at halves"),
    "factors-between-sizes": ([node("Resize", "input - between", "y", mode="linear")],
                              "expected factors that make whole sizes"),
    "numbers-for-a-batch": ([node("Add", "input batched", "y")], "expected numbers for samples of [2, 8, 9]"),
    "capped-far-off": ([node("Relu", "input", "r"), node("Greater", "input hundred", "g"),
                        node("Where", "g hundred r", "y")], "branches behind input"),
    "weights-that-are-calculated": ([node("Conv", "input w b", "c"), node("MatMul", "c c", "y")], "MatMul '/MatMul_y'"),
    "kernel-of-others": ([node("Conv", "input others b", "y")], "expected a kernel for 2 channels in 1 groups"),
    "training": ([node("BatchNormalization", "input b2 b2 b2 b2", "y", training_mode=1)], "outside training"),
    "no-such-tensor": ([node("Relu", "nowhere", "y")], "expected tensors that operators before it gave"),
    "to-whole-numbers": ([node("Cast", "input", "y", to=7)], "expected floating-point numbers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_chain_of_layers_is_refused_by_its_operator(name, tmp_path):
    nodes, message = REFUSED[name]
    constants = {**CONV, "flat": [-1, 7], "pads": [0, 0, 1, 1, 0, 0, 1, 1], "three": [3], "times": [1, 1, 1, 2, 1],
                 "rows": [-1, 2, 8, 18], "square": random(4, 4, 3, 3), "ones": [1, 1], "twos": [2, 2],
                 "axes": [1, 3], "scales": np.array([1, 1, 2, 2], np.float32), "others": random(4, 3, 3, 3),
                 "b2": random(2), "between": np.array([1, 1, 1.5, 1.5], np.float32), "batched": random(3, 1, 1, 1),
                 "hundred": np.float32(100)}
    path = write(tmp_path / "m.onnx", nodes, IMAGE_OF_TWO, constants)
    with pytest.raises(FormatError) as caught:
        load_model(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))
