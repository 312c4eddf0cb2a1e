"""Checks of a program's operations, one for each kind: no bad number in their attributes reaches C."""

from __future__ import annotations

from math import inf, prod

import numpy as np

from tinyconv.engine.program import (
    ACTIVATIONS,
    FILL_MODES,
    LEVELS,
    MAX_AFFINE_VALUES,
    NOISES,
    TRANSFORMS,
    Op,
    Program,
)

__all__ = ["OP_CHECKS", "refusal"]

_FLOAT32, _INT32 = np.dtype(np.float32), np.dtype(np.int32)
_LARGEST = float(np.finfo(np.float32).max)


def refusal(i: int, op: Op, expected: str, received: str) -> ValueError:
    """The error of an operation, by its position and layer."""
    where = f"{op.kind} (operation {i}{', layer ' + op.layer if op.layer else ''})"
    return ValueError(f"{where} expected {expected}. Received: {received}")


def _check_weights(program: Program, i: int, op: Op, *shapes: tuple[int, ...]) -> None:
    """The kernel of the first shape must be there, those behind it may."""
    if any(not 0 <= w < len(program.weights) for w in op.weights):
        raise refusal(i, op, f"weights from 0 to {len(program.weights) - 1}", f"weights={op.weights}")
    found = tuple(program.weights[w].shape for w in op.weights)
    if not found or found != shapes[:len(found)]:
        raise refusal(i, op, f"weights of the shapes {shapes}", f"{found}")


def _check_window(i: int, op: Op, size: str, transposed: bool = False) -> None:
    """Integers and the arithmetic of the output's height and width; transposed: of the input's."""
    wide, narrow = (op.output_shape, op.input_shape) if transposed else (op.input_shape, op.output_shape)
    sizes, strides = op.attributes[size], op.attributes["strides"]
    dilation, padding = op.attributes.get("dilation_rate", (1, 1)), op.attributes["padding"]
    if min(*sizes, *strides, *dilation) < 1 or min(*padding[0], *padding[1]) < 0:
        raise refusal(i, op, "positive sizes, strides and dilation, and padding of 0 or more",
                      f"{op.attributes}")
    for axis in (0, 1):
        extent = (sizes[axis] - 1) * dilation[axis] + 1
        room = wide[axis] + sum(padding[axis]) - extent
        if room < 0 or room // strides[axis] + 1 != narrow[axis]:
            raise refusal(i, op, f"an {'input' if transposed else 'output'} of "
                          f"{max(0, room // strides[axis] + 1)} along axis {axis}",
                          f"shapes {op.input_shape} -> {op.output_shape}")
        if size == "pool_size" and max(padding[axis]) >= extent:
            raise refusal(i, op, "padding smaller than the window", f"padding={padding}")


def _check_conv2d(program: Program, i: int, op: Op) -> None:
    _check_window(i, op, "kernel_size")
    channels, filters, groups = op.input_shape[2], op.output_shape[2], op.attributes.get("groups", 1)
    if groups < 1 or channels % groups or filters % groups:
        raise refusal(i, op, f"groups that divide {channels} channels and {filters} filters", f"groups={groups}")
    size = tuple(op.attributes["kernel_size"])
    kernels = [(*size, channels // groups, filters)]
    if channels == groups:
        kernels.append((*size, channels, filters // channels))
    if size[0] == 1:
        kernels += [kernel[1:] for kernel in kernels]
    found = program.weights[op.weights[0]].shape if op.weights and op.weights[0] < len(program.weights) else ()
    _check_weights(program, i, op, found if found in kernels else kernels[0], (filters,))


def _check_conv2d_transpose(program: Program, i: int, op: Op) -> None:
    _check_window(i, op, "kernel_size", transposed=True)
    size, filters = tuple(op.attributes["kernel_size"]), op.output_shape[2]
    kernel = (*size, filters, op.input_shape[2])
    found = program.weights[op.weights[0]].shape if op.weights and op.weights[0] < len(program.weights) else ()
    _check_weights(program, i, op, kernel[1:] if size[0] == 1 and found == kernel[1:] else kernel, (filters,))


def _check_dense(program: Program, i: int, op: Op) -> None:
    if op.input_shape[:2] != (1, 1) or op.output_shape[:2] != (1, 1):
        raise refusal(i, op, "vectors, (1, 1, F)", f"shapes {op.input_shape} -> {op.output_shape}")
    units = op.output_shape[2]
    _check_weights(program, i, op, (op.input_shape[2], units), (units,))


def _check_pool(program: Program, i: int, op: Op) -> None:
    _check_window(i, op, "pool_size")
    if op.input_shape[2] != op.output_shape[2]:
        raise refusal(i, op, "as many channels out as in", f"shapes {op.input_shape} -> {op.output_shape}")


def _check_same_shape(program: Program, i: int, op: Op) -> None:
    if op.input_shape != op.output_shape:
        raise refusal(i, op, "an output of its input's shape",
                      f"shapes {op.input_shape} -> {op.output_shape}")


def _check_activation(program: Program, i: int, op: Op) -> None:
    _check_same_shape(program, i, op)
    function = op.attributes["function"]
    parameters = op.attributes.get("parameters") or ()
    if function not in ACTIVATIONS or len(parameters) > len(ACTIVATIONS[function]):
        raise refusal(i, op, "a function of ACTIVATIONS and at most its parameters",
                      f"{function!r}, {parameters}")


def _check_dropout(program: Program, i: int, op: Op) -> None:
    _check_same_shape(program, i, op)
    noise, rate = op.attributes.get("noise", "dropout"), op.attributes["rate"]
    if noise not in NOISES:
        raise refusal(i, op, f"a noise of {NOISES}", f"noise={noise!r}")
    drops = noise in ("dropout", "spatial_dropout")
    if not (0 <= rate < (1 if noise != "gaussian_noise" else _LARGEST) or (drops and rate == 1)):
        raise refusal(i, op, f"a rate in [0, 1{']' if drops else ')'}", f"rate={rate}")


def _check_batch_normalization(program: Program, i: int, op: Op) -> None:
    _check_same_shape(program, i, op)
    epsilon, momentum = op.attributes["epsilon"], op.attributes["momentum"]
    if not (0 < epsilon < inf and -inf < momentum < inf):
        raise refusal(i, op, "a positive epsilon and a finite momentum", f"epsilon={epsilon}, momentum={momentum}")
    count = 2 + bool(op.attributes["scale"]) + bool(op.attributes["center"])
    if len(op.weights) != count:
        raise refusal(i, op, f"{count} weights", f"weights={op.weights}")
    _check_weights(program, i, op, *[(op.input_shape[2],)] * count)
    if op.attributes.get("inverse") and (count > 2 or not op.attributes["frozen"]):
        raise refusal(i, op, "to be frozen, without gamma and beta, as an inverse", f"{op.attributes}")
    if any(program.trainable[w] for w in op.weights[-2:]):
        raise refusal(i, op, "moving statistics that are not trainable", f"trainable={program.trainable}")


def _check_prelu(program: Program, i: int, op: Op) -> None:
    _check_same_shape(program, i, op)
    shared = op.attributes["shared"]
    if len(shared) != 3 or len(op.weights) != 1:
        raise refusal(i, op, "three axes and one weight", f"shared={shared}, weights={op.weights}")
    _check_weights(program, i, op, tuple(1 if one else size for one, size in zip(shared, op.input_shape)))


def _check_reshape(program: Program, i: int, op: Op) -> None:
    if prod(op.input_shape) != prod(op.output_shape):
        raise refusal(i, op, "as many values out as in", f"shapes {op.input_shape} -> {op.output_shape}")


def _check_random_affine(program: Program, i: int, op: Op) -> None:
    _check_same_shape(program, i, op)
    a = op.attributes
    if a["transform"] not in TRANSFORMS or a["fill_mode"] not in FILL_MODES:
        raise refusal(i, op, f"a transform of {TRANSFORMS} and a fill mode of {FILL_MODES}",
                      f"{a['transform']!r}, {a['fill_mode']!r}")
    factors = a["factors"]
    if len(factors) != 4 or not all(-1 <= factor <= 1 for factor in factors) or not abs(a["fill_value"]) <= _LARGEST:
        raise refusal(i, op, "four factors in [-1, 1] and a finite fill value", f"{factors}, {a['fill_value']}")
    if prod(op.input_shape) > MAX_AFFINE_VALUES:
        raise refusal(i, op, f"images of at most {MAX_AFFINE_VALUES} values", f"shape {op.input_shape}")


def _check_random_levels(program: Program, i: int, op: Op) -> None:
    _check_same_shape(program, i, op)
    levels, factors, limits = (op.attributes[name] for name in ("levels", "factors", "limits"))
    if levels not in LEVELS:
        raise refusal(i, op, f"levels of {LEVELS}", f"levels={levels!r}")
    if len(factors) != 2 or len(limits) != 2 or not all(abs(number) <= _LARGEST for number in (*factors, *limits)) \
            or not limits[0] <= limits[1]:
        raise refusal(i, op, "two finite factors and two finite limits in order", f"{factors}, {limits}")


def _check_gather(program: Program, i: int, op: Op) -> None:
    a = op.attributes
    run, starts, indices, factors = a["run"], a["starts"], a["indices"], a["factors"]
    if run < 1 or op.input_shape[2] % run or op.output_shape[2] % run:
        raise refusal(i, op, "a run that divides the channels",
                      f"run={run}, shapes {op.input_shape} -> {op.output_shape}")
    for name, array, dtype in (("starts", starts, _INT32), ("indices", indices, _INT32),
                               ("factors", factors, _FLOAT32)):
        if array is None and name == "factors":
            continue
        if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 1 or not array.flags.carray:
            raise refusal(i, op, f"{name} to be a C-contiguous {dtype} vector",
                          f"{getattr(array, 'dtype', type(array).__name__)}")
    rows, inputs = prod(op.output_shape) // run, prod(op.input_shape) // run
    if starts.size != rows + 1 or starts[0] != 0 or starts[-1] != indices.size or np.any(starts[1:] < starts[:-1]) \
            or (factors is not None and factors.size != indices.size):
        raise refusal(i, op, f"{rows + 1} ascending starts from 0 to the number of indices and factors",
                      f"{starts.size} starts, {indices.size} indices")
    if indices.size and (indices.min() < 0 or indices.max() >= inputs):
        raise refusal(i, op, f"indices in [0, {inputs})", f"indices from {indices.min()} to {indices.max()}")


OP_CHECKS = {
    "conv2d": _check_conv2d, "conv2d_transpose": _check_conv2d_transpose, "dense": _check_dense,
    "max_pool2d": _check_pool, "average_pool2d": _check_pool,
    "activation": _check_activation, "dropout": _check_dropout, "rescale": _check_same_shape,
    "reshape": _check_reshape, "gather": _check_gather,
    "batch_normalization": _check_batch_normalization,
    "random_affine": _check_random_affine, "prelu": _check_prelu,
    "random_levels": _check_random_levels,
}
