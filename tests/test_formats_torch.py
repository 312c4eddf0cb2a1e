"""The torch.nn.Sequential of a model's layers computes what the model does, from the same file of weights."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyconv import Sequential, layers
from tinyconv.formats import torch_modules, torch_names

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="the extra [safetensors] is not installed")

PAGE = Path(__file__).resolve().parent.parent / "docs" / "formats.md"
BATCH = 4
IMAGE, STEPS, VECTOR = (7, 6, 3), (9, 4), (5,)
ACTIVATIONS = [
    "celu", "elu", "gelu", "gelu_tanh", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu",
    "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink",
    "softmax", "softplus", "softsign", "tanh", "tanh_shrink",
]


class Rescaling(torch.nn.Module):
    def __init__(self, scale: float, offset: float) -> None:
        super().__init__()
        self.scale, self.offset = scale, offset

    def forward(self, x: Any) -> Any:
        return x * self.scale + self.offset


def network_of(model: Sequential) -> Any:
    """The network of `docs/formats.md`."""
    modules = [Rescaling(**arguments) if name == "Rescaling" else getattr(torch.nn, name)(**arguments)
               for name, arguments in torch_modules(model)]
    return torch.nn.Sequential(*modules).eval()


def layer(name: str, /, *args: Any, **kwargs: Any) -> Any:
    return pytest.param(lambda: [getattr(layers, name)(*args, **kwargs)], id=f"{name}{args}{kwargs}"[:90])


def row(name: str, *made: Any) -> Any:
    return pytest.param(lambda: [make() for make in made], id=name)


FIRST = {"data_format": "channels_first"}
CASES = {
    VECTOR: [
        layer("Dense", 4), layer("Dense", 3, use_bias=False, activation="softmax"), layer("BatchNormalization"),
        layer("PReLU"), layer("PReLU", shared_axes=[1]), layer("Dropout", 0.5), layer("AlphaDropout", 0.2),
        layer("GaussianNoise", 0.3), layer("GaussianDropout", 0.3), layer("Rescaling", 1 / 255, -0.5),
        layer("RepeatVector", 3), layer("Normalization"), layer("Normalization", mean=2.0, variance=9.0, axis=None),
        layer("Normalization", mean=2.0, variance=0.0, axis=None, invert=True), layer("Softmax"),
        row("an image of a vector", lambda: layers.Dense(24, "tanh"), lambda: layers.BatchNormalization(),
            lambda: layers.PReLU(), lambda: layers.Reshape((3, 4, 2)), lambda: layers.Conv2DTranspose(3, 3, 2, "same")),
        row("a sequence of a vector", lambda: layers.Dense(12, use_bias=False), lambda: layers.Reshape((-1, 3)),
            lambda: layers.Conv1D(2, 2)),
    ],
    STEPS: [
        layer("Conv1D", 4, 3), layer("Conv1D", 4, 3, 2, "same", activation="tanh"),
        layer("Conv1D", 4, 3, padding="causal", dilation_rate=2),
        layer("Conv1D", 6, 4, groups=2, use_bias=False, padding="same"),
        layer("DepthwiseConv1D", 3, 2, "same"), layer("DepthwiseConv1D", 3, depth_multiplier=2, dilation_rate=2),
        layer("SeparableConv1D", 4, 3, 2, "same", depth_multiplier=2), layer("Conv1DTranspose", 4, 5, 3, "same"),
        layer("Conv1DTranspose", 4, 4, 2, "same", activation="relu"), layer("Conv1DTranspose", 3, 2, 3),
        layer("Conv1DTranspose", 3, 4, 2, output_padding=1), layer("Dense", 3), layer("BatchNormalization"),
        layer("MaxPooling1D"), layer("MaxPooling1D", 3, 2, "same"), layer("MaxPooling1D", 2, 1, "same"),
        layer("AveragePooling1D", 2), layer("AveragePooling1D", 3, 1, "same"), layer("AveragePooling1D", 2, 2, "same"),
        layer("GlobalAveragePooling1D"), layer("GlobalMaxPooling1D", keepdims=True), layer("ZeroPadding1D", (1, 3)),
        layer("Cropping1D", (2, 1)), layer("UpSampling1D", 3), layer("SpatialDropout1D", 0.5), layer("Normalization"),
        layer("PReLU", shared_axes=[1]), layer("Softmax", 1), layer("Softmax"),
        row("dense behind a sequence", lambda: layers.Flatten(), lambda: layers.Dense(3)),
    ],
    IMAGE: [
        layer("Dense", 4, activation="relu"), layer("Conv2D", 4, 3), layer("Conv2D", 4, 3, padding="same"),
        layer("Conv2D", 4, (3, 2), 2, "same"), layer("Conv2D", 2, (3, 1), dilation_rate=(2, 3), use_bias=False),
        layer("Conv2D", 6, (2, 3), (2, 1), "same", groups=3, activation="softmax"),
        layer("Conv2D", 4, 3, activation=layers.LeakyReLU(0.1)),
        layer("DepthwiseConv2D", (2, 3), 2, "same", 3, activation="relu"),
        layer("DepthwiseConv2D", 2, dilation_rate=(2, 3), use_bias=False), layer("SeparableConv2D", 5, 3),
        layer("SeparableConv2D", 5, (3, 2), 2, "same", depth_multiplier=2, activation="elu", use_bias=False),
        layer("Conv2DTranspose", 5, 3), layer("Conv2DTranspose", 5, 3, 2, "same", activation="relu"),
        layer("Conv2DTranspose", 2, (2, 4), (3, 2), use_bias=False),
        layer("Conv2DTranspose", 2, (3, 2), (2, 3), "same", 1),
        layer("Conv2DTranspose", 2, 1, (3, 2), "valid", (2, 0)),
        layer("Conv2DTranspose", 2, 3, dilation_rate=2, padding="same"),
        layer("Conv2DTranspose", 2, 5, 4, "same"), layer("BatchNormalization"),
        layer("BatchNormalization", scale=False), layer("BatchNormalization", center=False),
        layer("BatchNormalization", center=False, scale=False, epsilon=0.1),
        layer("PReLU", shared_axes=[1, 2]), layer("PReLU", shared_axes=[1, 2, 3]), layer("Normalization"),
        layer("MaxPooling2D"), layer("MaxPooling2D", (2, 3), 1, "same"), layer("MaxPooling2D", 3, 2, "same"),
        layer("AveragePooling2D", (2, 3)), layer("AveragePooling2D", 3, 1, "same"),
        layer("AveragePooling2D", 2, 2, "same"),
        layer("GlobalAveragePooling2D"), layer("GlobalMaxPooling2D", keepdims=True), layer("SpatialDropout2D", 0.5),
        layer("ZeroPadding2D", ((1, 2), (3, 0))), layer("Cropping2D", ((1, 2), (3, 0))), layer("CenterCrop", 4, 3),
        layer("CenterCrop", 7, 6), layer("UpSampling2D", (2, 3)), layer("UpSampling2D", 2, interpolation="bilinear"),
        layer("Resizing", 5, 9), layer("Resizing", 5, 9, interpolation="nearest"), layer("RandomFlip"),
        layer("RandomBrightness", 0.1), layer("RandomContrast", 0.1),
        layer("RandomRotation", 0.1), layer("RandomTranslation", 0.1, 0.1), layer("RandomZoom", 0.1),
        layer("LeakyReLU", 0.2), layer("ReLU", 1.5), layer("ReLU", 6.0), layer("ReLU", negative_slope=0.1),
        layer("ELU", 0.5), layer("Softmax", 1), layer("Softmax", -2), layer("Softmax", 3),
        *(layer("Activation", name) for name in ACTIVATIONS),
        layer("Conv2D", 4, 3, activation="elu", **FIRST), layer("Conv2D", 4, 2, activation="softmax", **FIRST),
        layer("MaxPooling2D", **FIRST),
        row("channels first normalized", lambda: layers.Conv2D(2, 3, **FIRST), lambda: layers.BatchNormalization(1),
            lambda: layers.Normalization(1), lambda: layers.Softmax(1)),
        layer("GlobalAveragePooling2D", keepdims=True, **FIRST),
        layer("UpSampling2D", (2, 3), **FIRST), layer("ZeroPadding2D", (1, 2), **FIRST),
        layer("SpatialDropout2D", 0.5, **FIRST),
        row("dense behind channels first", lambda: layers.Conv2D(2, 3, **FIRST),
            lambda: layers.PReLU(shared_axes=[2, 3]), lambda: layers.Softmax(1), lambda: layers.Flatten(),
            lambda: layers.Dense(3)),
        row("flattened as channels last", lambda: layers.Conv2D(2, 3, **FIRST),
        lambda: layers.Flatten("channels_first"),
            lambda: layers.Dense(3)),
        row("dense behind images", lambda: layers.Conv2D(4, 3, activation="relu"), lambda: layers.MaxPooling2D(2),
            lambda: layers.Flatten(), lambda: layers.Dropout(0.5), lambda: layers.BatchNormalization(),
            lambda: layers.PReLU(),
            lambda: layers.Dense(6, "relu"), lambda: layers.Dense(3, "softmax")),
        row("there and back", lambda: layers.Conv2D(2, 3, padding="same"), lambda: layers.Flatten(),
        lambda: layers.Reshape((7, 6, 2)),
            lambda: layers.Conv2D(1, 3)),
    ],
}


def test_every_layer_is_compared_or_refused() -> None:
    compared = {type(one).__name__ for cases in CASES.values() for case in cases for one in case.values[0]()}
    classes = [value for name in layers.__all__ if isinstance(value := getattr(layers, name), type)]
    names = {value.__name__ for value in classes if issubclass(value, layers.Layer)}
    assert names - compared == {"InputLayer", "Layer", "Permute"}


def test_the_code_of_the_page_builds_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second, third = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[:3]
    (tmp_path / "page.py").write_text(f"{first}\n{second}\n{third}", encoding="utf-8")
    model = random_model((8, 7, 2), [layers.Rescaling(0.1, 0.2), layers.Conv2D(3, 2, padding="same", activation="relu"),
                                     layers.MaxPooling2D(), layers.Flatten(), layers.Dense(4, "softmax")])
    x = np.random.default_rng(5).uniform(size=(BATCH, 8, 7, 2)).astype(np.float32)
    page = runpy.run_path(str(tmp_path / "page.py"), {"model": model, "x": x})
    np.testing.assert_allclose(page["y"].detach().numpy(), model.predict(x), rtol=1e-5, atol=1e-6)


def random_model(shape: tuple[int, ...], made: list[Any]) -> Sequential:
    model = Sequential([layers.Input(shape), *made], seed=1)
    random = np.random.default_rng(3)
    model.set_weights([np.full(w.shape, 7) if w.name == "count" else random.uniform(0.1, 0.9,
    w.shape) for w in model.weights])
    return model


def channels_first(x: np.ndarray, model: Sequential) -> np.ndarray:
    is_last = all(getattr(one, "data_format", "channels_last") == "channels_last" or isinstance(one, layers.Flatten)
                  for one in model.layers)
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if is_last else x


@pytest.mark.parametrize(("shape", "make"), [pytest.param(shape, *case.values, id=f"{len(shape)}-{case.id}")
                                             for shape, cases in CASES.items() for case in cases])
def test_torch_computes_the_same_from_the_file(shape: tuple[int, ...], make: Any, tmp_path: Path) -> None:
    model = random_model(shape, make())
    model.save_weights(tmp_path / "w.safetensors")
    network = network_of(model)
    state = safetensors_torch.load_file(tmp_path / "w.safetensors")
    network.load_state_dict(state)  # strict: every tensor is there, of its shape
    assert torch_names(model).keys() <= state.keys()
    x = np.random.default_rng(5).normal(size=(BATCH, *shape)).astype(np.float32)
    with torch.no_grad():
        y = network(torch.from_numpy(channels_first(x, model))).numpy()
    expected = channels_first(model.predict(x), model)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5 * max(1, np.abs(expected).max()))

    names = torch_names(model)
    for name, value in network.state_dict().items():
        if names.get(name, "/count").partition("/")[2] != "count":  # not a count, nor what the layer lacks
            value.copy_(value / 2)
    safetensors_torch.save_file(network.state_dict(), tmp_path / "v.safetensors")
    before = model.get_weights()
    model.load_weights(tmp_path / "v.safetensors")
    for weight, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.value, old if weight.name == "count" else old / 2)


def test_a_network_of_torch_is_read_whatever_its_numbers_are(tmp_path: Path) -> None:
    nn = torch.nn
    theirs = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
    nn.Dropout(0.3),
                           nn.Flatten(), nn.Linear(4 * 4 * 3, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 3))
    holder = nn.Module()
    holder.net = theirs
    for number, parameter in enumerate(theirs.parameters()):
        nn.init.uniform_(parameter, 0.1, 0.3 + number / 10)
    theirs(torch.rand(16, 1, 8, 6))  # moves the statistics
    theirs.eval()
    ours = Sequential([
        layers.Input((8, 6, 1)), layers.Conv2D(4, 3, padding="same"),
        layers.BatchNormalization(epsilon=1e-5, momentum=0.9),
        layers.ReLU(), layers.MaxPooling2D(), layers.Flatten(), layers.Dense(5, "relu"), layers.Dense(3)])
    x = np.random.default_rng(2).uniform(size=(BATCH, 8, 6, 1)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(np.moveaxis(x, -1, 1).copy())).numpy()
    for module in (theirs, holder):
        safetensors_torch.save_file(module.state_dict(), tmp_path / "w.safetensors")
        ours.set_weights([np.zeros(w.shape) for w in ours.weights])
        ours.load_weights(tmp_path / "w.safetensors")
        np.testing.assert_allclose(ours.predict(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_types_of_torch_are_read(dtype: str, tmp_path: Path) -> None:
    model = Sequential([layers.Input((4,)), layers.Dense(3)], seed=1)
    weight = torch.rand(3, 4, dtype=torch.float64).to(getattr(torch, dtype))
    safetensors_torch.save_file({"0.weight": weight, "0.bias": torch.zeros(3, dtype=torch.float32)},
    tmp_path / "w.safetensors")
    model.load_weights(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(model.get_weights()[0], weight.float().numpy().T)
