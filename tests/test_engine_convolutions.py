"""Grouped, depthwise and transposed convolutions of every executor hold loops in float64.

The oracle of a grouped convolution is a plain one with zeros from group to group.
"""

from __future__ import annotations

import engine_helpers
import numpy as np
import oracles
import pytest
from engine_helpers import INNER_PRODUCT, Network, assert_close, assert_rounded, exact, images

from tinyconv import engine

executor_class = engine_helpers.executor_class  # a fixture

# image, kernel, strides, padding, dilation
GEOMETRIES = [
    ((7, 9), (3, 3), (1, 1), "same", (1, 1)),
    ((6, 21), (3, 3), (1, 1), "valid", (1, 1)),
    ((9, 8), (3, 3), (2, 2), "same", (1, 1)),
    ((9, 12), (5, 5), (1, 1), "same", (1, 1)),
    ((11, 10), (3, 2), (2, 3), "valid", (1, 1)),
    ((9, 10), (3, 3), (1, 1), "same", (2, 3)),
    ((4, 7), (1, 1), (1, 1), "valid", (1, 1)),
    ((5, 12), (2, 7), (1, 1), "same", (1, 1)),
    ((3, 3), (5, 5), (1, 1), "same", (1, 1)),
    ((10, 9), (3, 3), (2, 2), "same", (2, 2)),
    ((1, 19), (1, 4), (1, 1), ((0, 0), (3, 0)), (1, 1)),
    ((6, 5), (2, 2), (3, 3), ((0, 2), (1, 0)), (1, 1)),
    ((6, 13), (5, 5), (1, 1), ((0, 3), (4, 1)), (1, 1)),
    ((5, 15), (3, 3), (1, 1), ((3, 1), (0, 4)), (1, 1)),
    ((7, 33), (3, 3), (2, 2), "valid", (1, 1)),
]
# channels, filters, groups: the last ones have one channel a group
GROUPS = [(4, 6, 2), (6, 9, 3), (16, 32, 2), (17, 17, 17), (3, 9, 3), (2, 32, 2)]
CASES = [(*geometry, groups, (1, 3, 16, 17, 33)[(i + k) % 5])
         for i, geometry in enumerate(GEOMETRIES) for k, groups in enumerate(GROUPS)]


def label(value):
    if isinstance(value, tuple):
        return "x".join(map(label, value))
    return str(value)


def case_id(case):
    return "-".join(map(label, case))


def block_diagonal(kernel, groups):
    """The kernel (KH, KW, C, F) without groups that does the same: zeros from one group to another."""
    height, width, channels, filters = kernel.shape
    whole = np.zeros((height, width, channels * groups, filters))
    for c, f in blocks(kernel.shape, groups):
        whole[:, :, c, f] = kernel[:, :, :, f]
    return whole


def blocks(shape, groups):
    """The channels and the filters of every group."""
    channels, filters = shape[2], shape[3] // groups
    return [(slice(g * channels, (g + 1) * channels), slice(g * filters, (g + 1) * filters)) for g in range(groups)]


def parts_of(x, kernel, bias, dy, groups, geometry):
    """y, dx, dkernel."""
    whole = block_diagonal(kernel, groups)
    gradient = oracles.conv2d_backward_kernel(x, dy, whole.shape, **geometry)
    return (oracles.conv2d(x, whole, bias, **geometry), oracles.conv2d_backward_input(dy, whole, x.shape, **geometry),
            np.concatenate([gradient[:, :, c, f] for c, f in blocks(kernel.shape, groups)], axis=-1))


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_groups_and_their_gradients_hold_the_oracle(executor_class, case):
    size, window, strides, padding, dilation, (channels, filters, groups), n = case
    program = Network((*size, channels)).conv2d(filters, window, strides, padding, dilation, groups=groups).build()
    geometry = {"strides": strides, "dilation": dilation, "padding": program.ops[0].attributes["padding"]}
    kernel, bias = program.weights
    x, executor = images(program, n), executor_class(program)
    y = executor.predict(x)
    dy = np.random.default_rng(3).standard_normal(y.shape).astype(np.float32)
    _, (dkernel, dbias), dx = executor.gradients(x, dy, INNER_PRODUCT, input_gradient=True)
    expected = parts_of(x, kernel, bias, dy, groups, geometry)
    magnitude = parts_of(np.abs(x), np.abs(kernel), np.abs(bias), np.abs(dy), groups, geometry)
    pixels = int(np.prod(y.shape[:3]))
    lengths = int(np.prod(kernel.shape[:3])), int(np.prod(window)) * filters // groups, pixels
    for one, other, sizes, length in zip((y, dx, dkernel), expected, magnitude, lengths, strict=True):
        assert_rounded(one, other, sizes, length)
    assert_rounded(dbias, np.float64(dy).sum((0, 1, 2)), np.float64(np.abs(dy)).sum((0, 1, 2)), pixels)


@pytest.mark.parametrize("channels", [16, 37])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=label)
def test_depthwise_from_array_to_array_holds_the_oracle(executor_class, geometry, channels):
    """Without a bias and a value, neither the convolution nor its gradients need another layout than the arrays'."""
    size, window, strides, padding, dilation = geometry
    network = Network((*size, channels))
    program = network.conv2d(channels, window, strides, padding, dilation, bias=False, groups=channels).build()
    attributes = {"strides": strides, "dilation": dilation, "padding": program.ops[0].attributes["padding"]}
    (kernel,), x, executor = program.weights, images(program, 18), executor_class(program)
    y, zeros = executor.predict(x), np.zeros(channels)
    dy = np.random.default_rng(3).standard_normal(y.shape).astype(np.float32)
    _, (dkernel,), dx = executor.gradients(x, dy, INNER_PRODUCT, input_gradient=True, value=False)
    expected = parts_of(x, kernel, zeros, dy, channels, attributes)
    magnitude = parts_of(np.abs(x), np.abs(kernel), zeros, np.abs(dy), channels, attributes)
    taps = int(np.prod(window))
    lengths = taps, taps, int(np.prod(y.shape[:3]))
    for one, other, sizes, length in zip((y, dx, dkernel), expected, magnitude, lengths, strict=True):
        assert_rounded(one, other, sizes, length)


@pytest.mark.parametrize("sizes", [(6, 24, 3), (16, 32, 2), (20, 96, 2)], ids=label)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=label)
def test_kernel_gradient_in_groups_from_array_to_array_holds_the_oracle(executor_class, geometry, sizes):
    """Groups of whole vectors of filters: their sums have the filters in the lanes."""
    size, window, strides, padding, dilation = geometry
    channels, filters, groups = sizes
    network = Network((*size, channels)).conv2d(filters, window, strides, padding, dilation, bias=False, groups=groups)
    program = network.build()
    attributes = {"strides": strides, "dilation": dilation, "padding": program.ops[0].attributes["padding"]}
    (kernel,), x = program.weights, images(program, 18)
    dy = np.random.default_rng(3).standard_normal((18, *program.output_shape)).astype(np.float32)
    _, (dkernel,), _ = executor_class(program).gradients(x, dy, INNER_PRODUCT, value=False)
    zeros = np.zeros(filters)
    expected = parts_of(x, kernel, zeros, dy, groups, attributes)[2]
    magnitude = parts_of(np.abs(x), np.abs(kernel), zeros, np.abs(dy), groups, attributes)[2]
    assert_rounded(dkernel, expected, magnitude, int(np.prod(dy.shape[:3])))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("window", "place"), [((3, 3), (0, 4)), ((3, 3), (8, 3)), ((5, 5), (0, 4)), ((5, 5), (7, 5))])
def test_depthwise_passes_nan_and_infinity_on_to_what_they_touch(executor_class, window, place, value):
    """Rows beside the image are left out: zeros in their place would make NaN of an infinite pixel."""
    program = Network((9, 12, 3)).conv2d(3, window, padding="same", groups=3).build()
    x, executor, expected = images(program, 5), executor_class(program), exact(program)
    x[1, *place] = value
    dy = np.random.default_rng(3).standard_normal((5, *program.output_shape)).astype(np.float32)
    (_, one, one_x), (_, other, other_x) = (e.gradients(x, dy, INNER_PRODUCT, input_gradient=True)
                                            for e in (executor, expected))
    for a, b in zip([*one, one_x, executor.predict(x)], [*other, other_x, expected.predict(x)], strict=True):
        np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))
    assert np.isfinite(one[0]).any()
    assert not np.isfinite(one[0]).all()


@pytest.mark.parametrize("groups", [32, 4])
@pytest.mark.parametrize("images_at_once", [2, 40])
def test_groups_from_array_to_array_do_not_depend_on_threads(images_at_once, groups):
    program = Network((30, 31, 32)).conv2d(32, (3, 3), padding="same", bias=False, groups=groups).build()
    x, before, results = images(program, images_at_once), engine.get_num_threads(), []
    try:
        for number in (1, 2, 3):
            engine.set_num_threads(number)
            executor = engine.Executor(program)
            dkernel = executor.gradients(x, x, INNER_PRODUCT, value=False)[1][0]
            dx = executor.gradients(x, x, INNER_PRODUCT, input_gradient=True, value=False)[2]
            results.append([executor.predict(x), dkernel, dx])
    finally:
        engine.set_num_threads(before)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("groups", [2, 6])
def test_groups_fuse_with_activation_and_pool(executor_class, groups):
    network = Network((9, 10, 6)).conv2d(12, (3, 3), padding="same", groups=groups).activation("relu")
    program = network.pool("max", (2, 2)).conv2d(12, (3, 3), padding="same", groups=4).activation("elu").build()
    x, expected, executor = images(program, 19), exact(program), executor_class(program)
    y = expected.predict(x)
    assert_close(executor.predict(x), y)
    dy = np.random.default_rng(3).standard_normal(y.shape).astype(np.float32)
    one = executor.gradients(x, dy, INNER_PRODUCT, input_gradient=True)
    other = expected.gradients(x, dy, INNER_PRODUCT, input_gradient=True)
    engine_helpers.assert_all_close([*one[1], one[2]], [*other[1], other[2]])


@pytest.mark.parametrize(("window", "channels", "filters", "groups", "shape"), [
    ((1, 3), 4, 6, 2, (3, 2, 6)), ((3, 3), 4, 8, 4, (3, 3, 4, 2)), ((1, 3), 4, 8, 4, (3, 4, 2)),
])
def test_kernel_has_the_shape_that_its_layer_keeps(executor_class, window, channels, filters, groups, shape):
    results = []
    for own in (None, shape):
        network = Network((5, 9, channels)).conv2d(filters, window, bias=False, groups=groups)
        if own:
            network.weights[0] = network.weights[0].reshape(own)
        program = network.build()
        x, executor = images(program, 5), executor_class(program)
        y = executor.predict(x)
        _, (gradient,), _ = executor.gradients(x, y, INNER_PRODUCT)
        assert gradient.shape == program.weights[0].shape
        results.append((y, gradient.ravel()))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("strides", [(1 << 40, 1 << 40), (1, 1 << 40), (7, 6)])
def test_strides_past_the_image_cost_nothing(executor_class, strides):
    program = Network((7, 6, 2)).conv2d(3, (3, 2), strides).build()
    x, kernel = images(program, 3), program.weights[0]
    geometry = {"strides": [min(stride, 7) for stride in strides]}
    y = executor_class(program).predict(x)
    assert_close(y, oracles.conv2d(x, kernel, program.weights[1], **geometry), 1e-5)
    dy = np.ones_like(y)
    _, _, dx = executor_class(program).gradients(x, dy, INNER_PRODUCT, input_gradient=True)
    assert_close(dx, oracles.conv2d_backward_input(dy, kernel, x.shape, **geometry), 1e-5)


def test_groups_that_do_not_divide_are_refused(executor_class):
    program = Network((4, 4, 6)).conv2d(6, (3, 3), groups=2).build()
    for groups in (0, -1, 4):
        program.ops[0].attributes["groups"] = groups
        with pytest.raises(ValueError, match=f"groups that divide 6 channels and 6 filters. Received: groups={groups}"):
            executor_class(program)


# --- transposed convolutions ---

# output size, kernel, strides, padding, dilation of the convolution that it is the gradient of
TRANSPOSED = [
    ((7, 9), (3, 3), (1, 1), "same", (1, 1)),
    ((8, 6), (3, 3), (1, 1), "valid", (1, 1)),
    ((28, 12), (3, 3), (2, 2), "same", (1, 1)),
    ((9, 11), (2, 2), (2, 2), "valid", (1, 1)),
    ((12, 13), (2, 3), (3, 4), "valid", (1, 1)),
    ((10, 12), (5, 4), (2, 3), "same", (1, 1)),
    ((9, 10), (3, 3), (1, 1), "same", (2, 3)),
    ((1, 20), (1, 5), (1, 2), "same", (1, 1)),
    ((6, 7), (1, 1), (1, 1), "valid", (1, 1)),
    ((9, 8), (3, 3), (2, 2), ((0, 2), (1, 0)), (1, 1)),
]
TRANSPOSED_CASES = [(*geometry, channels, (1, 17, 3, 33)[(i + k) % 4]) for i, geometry in enumerate(TRANSPOSED)
                    for k, channels in enumerate([(3, 2), (1, 8), (8, 5), (17, 16)])]


def transposed_network(size, window, strides, padding, dilation, channels, filters, **arguments):
    padding = engine_helpers.explicit_padding(size, window, strides, padding, dilation)
    inner = engine_helpers.output_size(size, window, strides, padding, dilation)
    network = Network((*inner, channels))
    return network.conv2d_transpose(filters, window, size, strides, padding, dilation, **arguments)


@pytest.mark.parametrize("case", TRANSPOSED_CASES, ids=case_id)
def test_conv2d_transpose_and_its_gradients_hold_the_oracle(executor_class, case):
    *geometry, (channels, filters), n = case
    program = transposed_network(*geometry, channels, filters).build()
    attributes = program.ops[0].attributes
    known = {"strides": attributes["strides"], "dilation": attributes["dilation_rate"],
             "padding": attributes["padding"]}
    kernel, bias = program.weights
    x, executor = images(program, n), executor_class(program)
    y = executor.predict(x)
    dy = np.random.default_rng(3).standard_normal(y.shape).astype(np.float32)
    _, (dkernel, dbias), dx = executor.gradients(x, dy, INNER_PRODUCT, input_gradient=True)
    # The convolution reads dy, and what it would add to the gradient of its input is y.
    pixels, taps = int(np.prod(x.shape[:3])), int(np.prod(kernel.shape[:2]))
    assert_rounded(y, oracles.conv2d_backward_input(x, kernel, y.shape, **known) + np.float64(bias),
                   oracles.conv2d_backward_input(np.abs(x), np.abs(kernel), y.shape, **known) + np.abs(bias),
                   taps * channels)
    assert_rounded(dx, oracles.conv2d(dy, kernel, **known), oracles.conv2d(np.abs(dy), np.abs(kernel), **known),
                   taps * filters)
    assert_rounded(dkernel, oracles.conv2d_backward_kernel(dy, x, kernel.shape, **known),
                   oracles.conv2d_backward_kernel(np.abs(dy), np.abs(x), kernel.shape, **known), pixels)
    assert_rounded(dbias, np.float64(dy).sum((0, 1, 2)), np.float64(np.abs(dy)).sum((0, 1, 2)),
                   int(np.prod(y.shape[:3])))


@pytest.mark.parametrize(("channels", "filters"), [(32, 16), (17, 3), (8, 1), (5, 40)])
@pytest.mark.parametrize("geometry", TRANSPOSED, ids=label)
def test_conv2d_transpose_kernel_gradient_from_arrays_holds_the_oracle(executor_class, geometry, channels, filters):
    """Without a bias, a value and the input's gradient nothing needs another layout than the arrays'."""
    program = transposed_network(*geometry, channels, filters, bias=False).build()
    attributes = program.ops[0].attributes
    known = {"strides": attributes["strides"], "dilation": attributes["dilation_rate"],
             "padding": attributes["padding"]}
    (kernel,), x = program.weights, images(program, 18)
    dy = np.random.default_rng(3).standard_normal((18, *program.output_shape)).astype(np.float32)
    _, (dkernel,), _ = executor_class(program).gradients(x, dy, INNER_PRODUCT, value=False)
    assert_rounded(dkernel, oracles.conv2d_backward_kernel(dy, x, kernel.shape, **known),
                   oracles.conv2d_backward_kernel(np.abs(dy), np.abs(x), kernel.shape, **known),
                   int(np.prod(x.shape[:3])))


@pytest.mark.parametrize(("first", "then"), [((1, 1, 24), (4, 3, 2)), ((3, 2, 4), (2, 4, 3)), ((6, 2, 2), (1, 1, 24))])
def test_conv2d_transpose_sees_the_shape_of_a_reshape(executor_class, first, then):
    # Windows no larger than their strides: no zeros beside the input, and so no copy of it.
    network = Network(first).activation("tanh").reshape(*then)
    program = network.conv2d_transpose(3, (2, 2), (2 * then[0], 2 * then[1]), (2, 2)).build()
    executor, x = executor_class(program), images(program, 19)
    y = executor.predict(x)
    assert_close(y, exact(program).predict(x))
    dy = np.random.default_rng(5).standard_normal(y.shape).astype(np.float32)
    _, gradients, dx = executor.gradients(x, dy, INNER_PRODUCT, input_gradient=True)
    _, expected, expected_dx = exact(program).gradients(x, dy, INNER_PRODUCT, input_gradient=True)
    for one, other in zip([*gradients, dx], [*expected, expected_dx], strict=True):
        assert_close(one, other)


def test_conv2d_transpose_among_other_operations(executor_class):
    network = Network((9, 8, 2)).conv2d(6, (3, 3), (2, 2), "same").activation("relu").conv2d(6, (3, 3), groups=6)
    network.activation("elu").conv2d_transpose(4, (3, 3), (7, 4), (2, 2), ((0, 0), (1, 0))).activation("relu")
    network.conv2d_transpose(3, (3, 3), (7, 4), padding=((1, 1), (1, 1)), bias=False).activation("gelu")
    program = network.conv2d(2, (3, 3), padding="same").flatten().dense(3).activation("softmax").build()
    x, expected, executor = images(program, 19), exact(program), executor_class(program)
    y = expected.predict(x)
    for n in (1, 19):
        assert_close(executor.predict(x[:n]), y[:n])
    loss = engine_helpers.Loss("sparse_categorical_crossentropy")
    labels = engine_helpers.labels_for(loss, program, 19)
    one, other = (e.gradients(x, labels, loss, input_gradient=True) for e in (executor, expected))
    engine_helpers.assert_all_close([*one[1], one[2]], [*other[1], other[2]], 1e-4)
    frozen = executor_class(program).gradients(x, labels, loss)
    for a, b in zip(frozen[1], one[1], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["groups", "depthwise", "transpose"])
def test_gradients_hold_central_differences(executor_class, kind):
    if kind == "transpose":
        program = transposed_network((7, 6), (3, 2), (2, 3), "same", (1, 1), 3, 4).build()
    else:
        groups = {"groups": 2, "depthwise": 4}[kind]
        program = Network((5, 6, 4)).conv2d(8, (3, 2), (2, 1), "same", groups=groups).build()
    x = images(program, 3)
    dy = np.random.default_rng(3).standard_normal((3, *program.output_shape)).astype(np.float32)
    reference = exact(program)
    _, gradients, dx = executor_class(program).gradients(x, dy, INNER_PRODUCT, input_gradient=True)
    z = x.copy()
    expected = [oracles.weight_difference(lambda: float((reference.predict(z) * np.float64(dy)).sum()), array, 1e-3)
                for array in (*program.weights, z)]
    for one, other in zip([*gradients, dx], expected, strict=True):
        assert np.abs(one - other).max() < 1e-3 * np.abs(other).max()


@pytest.mark.parametrize("change", [{"strides": (3, 3)}, {"kernel_size": (9, 9)}, {"padding": ((9, 0), (0, 0))},
                                    {"strides": (0, 1)}])
def test_conv2d_transpose_refuses_what_does_not_fit(executor_class, change):
    program = transposed_network((8, 8), (3, 3), (2, 2), "same", (1, 1), 2, 3).build()
    program.ops[0].attributes.update(change)
    with pytest.raises(ValueError, match="conv2d_transpose .*expected .*Received: "):
        executor_class(program)


@pytest.mark.parametrize("threads", [2, 3])
def test_results_do_not_depend_on_threads(threads):
    network = Network((9, 8, 6)).conv2d(6, (3, 3), padding="same", groups=6).conv2d(4, (3, 3), groups=2)
    program = network.conv2d_transpose(5, (3, 3), (15, 13), (2, 2)).build()
    x, before, results = images(program, 90), engine.get_num_threads(), []
    try:
        for number in (1, threads):
            engine.set_num_threads(number)
            executor = engine.Executor(program)
            _, gradients, dx = executor.gradients(x, np.ones((90, *program.output_shape), np.float32), INNER_PRODUCT,
                                                  input_gradient=True)
            results.append([executor.predict(x), *gradients, dx])
    finally:
        engine.set_num_threads(before)
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)
