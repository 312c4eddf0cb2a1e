"""What is run: networks, sizes, data.  Needs the standard library only; NumPy inside functions.

Images are NHWC float32, labels int64, convolution kernels HWIO, dense kernels
(inputs, units), flattened in NHWC order.  Peers convert outside of what is timed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

SEED = 1234
LEARNING_RATE, BETA_1, BETA_2, EPSILON = 1e-3, 0.9, 0.999, 1e-7  # Adam


class Conv(NamedTuple):
    """A convolution of stride 1 with bias and ReLU."""

    size: int
    channels: int
    filters: int
    padding: str


class Pool(NamedTuple):
    """Max-pooling, 2x2 by 2."""


class Flatten(NamedTuple):
    """Ends the convolutional part."""


class Dense(NamedTuple):
    """A dense layer with bias; without ReLU it gives the logits."""

    inputs: int
    units: int
    relu: bool


@dataclass(frozen=True)
class Network:
    name: str
    input_shape: tuple[int, int, int]
    classes: int
    layers: tuple[Conv | Pool | Flatten | Dense, ...]


SEED_NETWORK = Network("seed network", (28, 28, 1), 10, (
    Conv(5, 1, 8, "valid"), Pool(), Conv(5, 8, 16, "valid"), Pool(), Flatten(), Dense(256, 10, False)))
SKETCH_NETWORK = Network("sketch network", (28, 28, 1), 100, (
    Conv(3, 1, 16, "same"), Pool(), Conv(3, 16, 32, "same"), Pool(), Conv(3, 32, 64, "same"), Pool(),
    Flatten(), Dense(576, 128, True), Dense(128, 100, False)))


@dataclass(frozen=True)
class Training:
    """Steady-state training; epochs of `samples` images."""

    network: Network
    samples: int
    batches: tuple[int, ...]


TRAINING = {"W1": Training(SEED_NETWORK, 5500, (512, 64, 32)), "W2": Training(SKETCH_NETWORK, 10240, (256,))}

# W1e: a whole process.
FIT_SAMPLES, FIT_VALIDATION, FIT_BATCH, FIT_EPOCHS = 5500, 1000, 512, 10

# W3
PREDICTION = (SEED_NETWORK, SKETCH_NETWORK)
PREDICTION_BATCHES = (1, 512)


@dataclass(frozen=True)
class Convolution:
    """images x (height, width, channels), filters of size x size."""

    images: int
    height: int
    width: int
    channels: int
    filters: int
    size: int
    padding: str = "valid"
    stride: int = 1
    dilation: int = 1
    groups: int = 1

    @property
    def kernel_shape(self) -> tuple[int, int, int, int]:
        return self.size, self.size, self.channels // self.groups, self.filters

    @property
    def extent(self) -> int:
        return (self.size - 1) * self.dilation + 1

    @property
    def border(self) -> int:
        """Zeros on each side; "same" is used with stride 1 and odd sizes only."""
        return self.extent // 2 if self.padding == "same" else 0

    @property
    def output_size(self) -> tuple[int, int]:
        height, width = ((n + 2 * self.border - self.extent) // self.stride + 1 for n in (self.height, self.width))
        return height, width

    @property
    def operations(self) -> float:
        height, width = self.output_size
        return 2.0 * self.images * height * width * math.prod(self.kernel_shape)

    def __str__(self) -> str:
        more = (f" stride {self.stride}" if self.stride > 1 else "") + (
            f" dilation {self.dilation}" if self.dilation > 1 else "") + (
            f" groups {self.groups}" if self.groups > 1 else "")
        return (f"{self.images}x{self.height}x{self.width} {self.channels}->{self.filters} "
                f"{self.size}x{self.size} {self.padding}{more}")


# W4
CONVOLUTIONS = (
    Convolution(64, 28, 28, 1, 8, 5), Convolution(64, 12, 12, 8, 16, 5),
    Convolution(64, 28, 28, 1, 16, 3, "same"), Convolution(64, 14, 14, 16, 32, 3, "same"),
    Convolution(64, 7, 7, 32, 64, 3, "same"), Convolution(8, 56, 56, 64, 64, 3, "same"),
    Convolution(8, 28, 28, 128, 128, 3, "same"), Convolution(8, 14, 14, 256, 256, 3, "same"),
    Convolution(8, 7, 7, 512, 512, 3, "same"),
)
POOLS = ((512, 24, 24, 8), (256, 28, 28, 16))
LOSSES = ((512, 10), (256, 100), (512, 1000))

# W6: shapes that an engine may not have been made for.
OTHER_CONVOLUTIONS = (
    Convolution(1, 28, 28, 8, 16, 3, "same"), Convolution(3, 28, 28, 8, 16, 3, "same"),
    Convolution(17, 28, 28, 8, 16, 3, "same"), Convolution(1000, 14, 14, 8, 16, 3, "same"),
    Convolution(32, 96, 96, 3, 16, 3, "same"), Convolution(32, 96, 96, 3, 16, 7, stride=2),
    Convolution(32, 31, 17, 4, 10, 5), Convolution(32, 33, 33, 16, 24, 3, stride=2),
    Convolution(32, 28, 28, 16, 16, 3, dilation=2), Convolution(32, 28, 28, 32, 64, 1),
    Convolution(32, 14, 14, 64, 32, 1), Convolution(32, 28, 28, 13, 7, 3, "same"),
)

# W7: depthwise, and in groups.  The gradient of the input is a transposed convolution.
GROUPED_CONVOLUTIONS = (
    Convolution(64, 28, 28, 32, 32, 3, "same", groups=32), Convolution(64, 29, 29, 32, 32, 3, stride=2, groups=32),
    Convolution(64, 14, 14, 64, 64, 5, "same", groups=64), Convolution(64, 7, 7, 128, 128, 3, "same", groups=128),
    Convolution(64, 14, 14, 32, 64, 3, "same", groups=4),
)

WORKLOADS = {
    "W1": "training the seed network",
    "W1e": "the whole process: import, build, train, validate",
    "W2": "training the sketch network",
    "W3": "prediction, NumPy array in to NumPy array out",
    "W4": "single operations",
    "W5": "footprint",
    "W6": "convolutions of other shapes",
    "W7": "depthwise convolutions, and in groups",
}
# Which way is better, by unit.
HIGHER_IS_BETTER = {"images/s": True, "GFLOP/s": True, "GB/s": True, "us": False, "s": False, "MB": False}


def make_data(network: Network, samples: int, seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """Images that can be learned: a template for each class plus noise."""
    import numpy as np

    random = np.random.default_rng(seed)
    templates = np.random.default_rng(SEED).random((network.classes, *network.input_shape), dtype=np.float32)
    y = random.integers(0, network.classes, samples)
    x = random.random((samples, *network.input_shape), dtype=np.float32)
    return np.float32(0.5) * x + np.float32(0.5) * templates[y], y


def initial_weights(network: Network, seed: int = SEED) -> list[np.ndarray]:
    """[kernel, bias, kernel, bias, ...]: Glorot-uniform kernels, biases of zero."""
    import numpy as np

    random = np.random.default_rng(seed)
    weights = []
    for layer in network.layers:
        if isinstance(layer, Conv):
            shape: tuple[int, ...] = (layer.size, layer.size, layer.channels, layer.filters)
            fans = layer.size**2 * (layer.channels + layer.filters)
        elif isinstance(layer, Dense):
            shape, fans = (layer.inputs, layer.units), layer.inputs + layer.units
        else:
            continue
        limit = np.float32(math.sqrt(6.0 / fans))
        weights += [limit * (2 * random.random(shape, dtype=np.float32) - 1), np.zeros(shape[-1], np.float32)]
    return weights


def channels_first_weights(network: Network) -> list[np.ndarray]:
    """The initial weights for NCHW engines: OIHW, (units, inputs), the first dense one reordered."""
    import numpy as np

    weights = iter(initial_weights(network))
    height, width, channels = network.input_shape
    result = []
    flat = False
    for layer in network.layers:
        if isinstance(layer, Conv):
            shrink = layer.size - 1 if layer.padding == "valid" else 0
            height, width, channels = height - shrink, width - shrink, layer.filters
            result += [np.ascontiguousarray(next(weights).transpose(3, 2, 0, 1)), next(weights)]
        elif isinstance(layer, Pool):
            height, width = height // 2, width // 2
        elif isinstance(layer, Dense):
            kernel = next(weights)
            if not flat:
                pixels = kernel.reshape(height, width, channels, -1)
                kernel = pixels.transpose(2, 0, 1, 3).reshape(kernel.shape)
                flat = True
            result += [np.ascontiguousarray(kernel.T), next(weights)]
    return result
