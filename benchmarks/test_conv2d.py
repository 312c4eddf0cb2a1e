"""The convolution and its gradients, from NHWC arrays to NHWC arrays, as programs of one operation."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.conftest import Measure
from benchmarks.machine import Setup
from benchmarks.peers.workloads import CONVOLUTIONS, Convolution
from tinyconv.engine.program import Loss, Program, ProgramBuilder

# Its gradient with respect to the output is y_true: what the backward kernels are given.
INNER_PRODUCT = Loss("inner_product")

convolutions = pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)


def program_of(case: Convolution, trainable: bool) -> Program:
    """One convolution without bias; a frozen one has no gradient of its kernel to compute."""
    builder = ProgramBuilder((case.height, case.width, case.channels))
    kernel = builder.weight(uniform(case.size, case.size, case.channels, case.filters), trainable)
    builder.add("conv2d", (*case.output_size, case.filters), (kernel,), kernel_size=(case.size, case.size),
                strides=(case.stride, case.stride), dilation_rate=(case.dilation, case.dilation),
                padding=((case.border, case.border), (case.border, case.border)))
    return builder.build()


def uniform(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).random(shape, dtype=np.float32) - np.float32(0.5)


def images_of(case: Convolution) -> np.ndarray:
    return uniform(case.images, case.height, case.width, case.channels)


def gradient_of(case: Convolution) -> np.ndarray:
    return uniform(case.images, *case.output_size, case.filters)


@convolutions
def test_conv2d_forward(case: Convolution, setup: Setup, measure: Measure) -> None:
    executor, x = setup.executor(program_of(case, trainable=False)), images_of(case)
    y = measure(lambda: executor.predict(x), f"conv2d {case} forward", operations=case.operations)
    assert y.shape == (case.images, *case.output_size, case.filters)


@convolutions
def test_conv2d_backward_input(case: Convolution, setup: Setup, measure: Measure) -> None:
    executor, x, dy = setup.executor(program_of(case, trainable=False)), images_of(case), gradient_of(case)
    _, _, dx = measure(lambda: executor.gradients(x, dy, INNER_PRODUCT, input_gradient=True, value=False),
                       f"conv2d {case} backward input", operations=case.operations)
    assert dx.shape == x.shape


@convolutions
def test_conv2d_backward_kernel(case: Convolution, setup: Setup, measure: Measure) -> None:
    executor, x, dy = setup.executor(program_of(case, trainable=True)), images_of(case), gradient_of(case)
    _, (dw,), _ = measure(lambda: executor.gradients(x, dy, INNER_PRODUCT, value=False),
                          f"conv2d {case} backward kernel", operations=case.operations)
    assert dw.shape == (case.size, case.size, case.channels, case.filters)
