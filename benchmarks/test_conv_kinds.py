"""Depthwise, one-dimensional and transposed convolutions, from arrays to arrays, as programs of one operation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from benchmarks.conftest import Measure
from benchmarks.machine import Setup
from tinyconv.engine.program import Loss, Program, ProgramBuilder

# Its gradient with respect to the output is y_true: what the backward kernels are given.
INNER_PRODUCT = Loss("inner_product")


@dataclass(frozen=True)
class Case:
    """A convolution that keeps the image's size, or divides it by the stride; transposed: multiplies it."""

    name: str
    shape: tuple[int, int, int]
    filters: int
    kernel: tuple[int, int]
    stride: int = 1
    groups: int = 1
    transposed: bool = False
    images: int = 64

    def __str__(self) -> str:
        return f"{self.name} {self.images}x{'x'.join(map(str, self.shape))} to {self.filters}"

    @property
    def output_shape(self) -> tuple[int, int, int]:
        height, width, _ = self.shape
        if self.transposed:
            return height * self.stride, width * self.stride, self.filters
        return -(-height // self.stride), -(-width // self.stride), self.filters

    @property
    def operations(self) -> float:
        """Two a multiply-add; a transposed convolution has those of the convolution that it turns round."""
        height, width, channels = self.shape
        pixels = height * width if self.transposed else self.output_shape[0] * self.output_shape[1]
        taps = self.kernel[0] * self.kernel[1] * channels // self.groups
        return 2.0 * self.images * pixels * taps * self.filters

    def program(self, trainable: bool) -> Program:
        """Without bias; a frozen kernel has no gradient to compute."""
        rows, columns = self.kernel
        channels = self.shape[2]
        builder = ProgramBuilder(self.shape)
        if self.transposed:
            kernel = builder.weight(uniform(rows, columns, self.filters, channels), trainable)
            builder.add("conv2d_transpose", self.output_shape, (kernel,), kernel_size=self.kernel,
                        strides=(self.stride, self.stride), dilation_rate=(1, 1), padding=((0, 1), (0, 1)))
        else:
            kernel = builder.weight(uniform(rows, columns, channels // self.groups, self.filters), trainable)
            builder.add("conv2d", self.output_shape, (kernel,), kernel_size=self.kernel,
                        strides=(self.stride, self.stride), dilation_rate=(1, 1),
                        padding=((rows // 2, rows // 2), (columns // 2, columns // 2)), groups=self.groups)
        return builder.build()


CASES = (
    Case("depthwise 3x3", (28, 28, 32), 32, (3, 3), groups=32),
    Case("depthwise 3x3 stride 2", (28, 28, 32), 32, (3, 3), 2, groups=32),
    Case("depthwise 5x5", (14, 14, 64), 64, (5, 5), groups=64),
    Case("depthwise 3x3", (7, 7, 128), 128, (3, 3), groups=128),
    Case("conv1d 5", (1, 128, 16), 32, (1, 5)),
    Case("transposed 3x3 stride 2", (14, 14, 32), 16, (3, 3), 2, transposed=True),
)

cases = pytest.mark.parametrize("case", CASES, ids=str)


def uniform(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).random(shape, dtype=np.float32) - np.float32(0.5)


@cases
def test_conv_kinds_forward(case: Case, setup: Setup, measure: Measure) -> None:
    executor, x = setup.executor(case.program(trainable=False)), uniform(case.images, *case.shape)
    y = measure(lambda: executor.predict(x), f"{case} forward", operations=case.operations)
    assert y.shape == (case.images, *case.output_shape)


@cases
def test_conv_kinds_backward_input(case: Case, setup: Setup, measure: Measure) -> None:
    executor, x = setup.executor(case.program(trainable=False)), uniform(case.images, *case.shape)
    dy = uniform(case.images, *case.output_shape)
    _, _, dx = measure(lambda: executor.gradients(x, dy, INNER_PRODUCT, input_gradient=True, value=False),
                       f"{case} backward input", operations=case.operations)
    assert dx.shape == x.shape


@cases
def test_conv_kinds_backward_kernel(case: Case, setup: Setup, measure: Measure) -> None:
    program = case.program(trainable=True)
    executor = setup.executor(program)
    x, dy = uniform(case.images, *case.shape), uniform(case.images, *case.output_shape)
    _, (dw,), _ = measure(lambda: executor.gradients(x, dy, INNER_PRODUCT, value=False), f"{case} backward kernel",
                          operations=case.operations)
    assert dw.shape == program.weights[0].shape
