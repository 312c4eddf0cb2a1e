"""Constant linear maps of images: bytes read and written by padding, enlarging and permuting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.conftest import Measure
from benchmarks.machine import Setup
from tinyconv import maps
from tinyconv.engine.program import Loss, ProgramBuilder

IMAGES, SHAPE = 256, (28, 28, 16)
CASES: dict[str, tuple[tuple[int, int, int], dict[str, Any]]] = {
    "pad": ((30, 30, 16), maps.of_image(maps.window(-1, 30), maps.window(-1, 30), SHAPE)),
    "up nearest": ((56, 56, 16), maps.of_image(maps.resize(28, 56, "nearest"), maps.resize(28, 56, "nearest"), SHAPE)),
    "up bilinear": ((56, 56, 16), maps.of_image(maps.resize(28, 56), maps.resize(28, 56), SHAPE)),
    "permute": ((16, 28, 28), maps.of_permutation(SHAPE, (2, 0, 1))),
}


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("case", CASES)
def test_gather(case: str, direction: str, setup: Setup, measure: Measure) -> None:
    shape, attributes = CASES[case]
    builder = ProgramBuilder(SHAPE)
    builder.add("gather", shape, **attributes)
    executor = setup.executor(builder.build())
    x, dy = (np.random.default_rng(1).random((IMAGES, *size), dtype=np.float32) for size in (SHAPE, shape))
    if direction == "forward":
        result = measure(lambda: executor.predict(x), f"gather {case} {direction}", moved=x.nbytes + dy.nbytes)
        assert result.shape == dy.shape
    else:
        _, _, dx = measure(lambda: executor.gradients(x, dy, Loss("inner_product"), input_gradient=True, value=False),
                           f"gather {case} {direction}", moved=x.nbytes + dy.nbytes)
        assert dx.shape == x.shape
