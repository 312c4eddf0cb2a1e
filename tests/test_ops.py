"""ops: kernels on arrays, against loops in double precision."""

from __future__ import annotations

import errno
import mmap
import threading

import numpy as np
import pytest

from tinyconv import ops
from tinyconv.engine import arrays_reference

# name: (x shape, kernel shape, strides, padding, dilation_rate), for some groups
CONVOLUTIONS = {
    "mnist-1": ((3, 28, 28, 1), (5, 5, 1, 8), 1, "valid", 1),
    "mnist-2": ((2, 12, 12, 8), (5, 5, 8, 16), 1, "valid", 1),
    "same-stride": ((2, 7, 6, 3), (3, 2, 3, 4), (2, 3), "same", 1),
    "even-same": ((1, 8, 5, 2), (4, 4, 2, 3), 1, "same", 1),
    "dilated": ((2, 9, 8, 2), (3, 2, 2, 5), 1, "valid", (2, 3)),
    "dilated-same": ((1, 6, 7, 3), (3, 3, 3, 2), 1, "same", 2),
    "point": ((4, 1, 1, 6), (1, 1, 6, 7), 1, "valid", 1),
    "stride-skips": ((2, 7, 7, 1), (1, 1, 1, 2), 3, "valid", 1),
    "depthwise": ((3, 9, 8, 6), (3, 3, 1, 6), 2, "same", 1, 6),
    "groups": ((2, 6, 7, 4), (3, 2, 2, 6), 1, "valid", 1, 2),
}
# name: (x shape, pool_size, strides, padding)
POOLS = {
    "2": ((2, 6, 6, 3), 2, None, "valid"),
    "overlap": ((1, 7, 7, 2), 3, 1, "valid"),
    "same": ((2, 5, 7, 1), (2, 3), (2, 2), "same"),
    "gaps": ((1, 9, 8, 2), 2, 3, "valid"),
    "wide-same": ((1, 3, 3, 1), 5, 1, "same"),
    "past-the-image": ((2, 5, 5, 3), 2, (1 << 30, 1 << 30), "same"),
    # Windows of 2x2 by 2 columns: whole vectors of them, and what is left.
    "pairs-1": ((1, 4, 71, 1), 2, None, "valid"),
    "pairs-2": ((1, 4, 34, 2), 2, None, "same"),
    "pairs-4": ((1, 5, 23, 4), 2, None, "same"),
    "pairs-8": ((2, 6, 10, 8), 2, None, "valid"),
    "pairs-16": ((1, 4, 7, 16), 2, (1, 2), "valid"),
    "pairs-32": ((1, 7, 5, 32), 2, (3, 2), "same"),
}
convolutions = pytest.mark.parametrize("case", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
pools = pytest.mark.parametrize("case", POOLS.values(), ids=POOLS.keys())


def pair(value):
    return value if isinstance(value, tuple) else (value, value)


def windows(x_shape, size, strides, padding, dilation=(1, 1)):
    """((i, j), (row slice, column slice) of the padded input) and the padded shape; padding per side."""
    pads, outs = [], []
    for axis in (0, 1):
        length, extent = x_shape[axis + 1], (size[axis] - 1) * dilation[axis] + 1
        if padding == "same":
            out = -(-length // strides[axis])
            total = max(0, (out - 1) * strides[axis] + extent - length)
        else:
            out, total = (length - extent) // strides[axis] + 1, 0
        pads.append((total // 2, total - total // 2))
        outs.append(out)
    cells = []
    for i in range(outs[0]):
        for j in range(outs[1]):
            rows = slice(i * strides[0], i * strides[0] + (size[0] - 1) * dilation[0] + 1, dilation[0])
            columns = slice(j * strides[1], j * strides[1] + (size[1] - 1) * dilation[1] + 1, dilation[1])
            cells.append(((i, j), (rows, columns)))
    return cells, pads, tuple(outs)


def conv_oracle(x, kernel, dy, strides, padding, dilation):
    """y, dx, dkernel in float64."""
    x, kernel = x.astype(np.float64), kernel.astype(np.float64)
    cells, pads, outs = windows(x.shape, kernel.shape[:2], pair(strides), padding, pair(dilation))
    padded = np.pad(x, ((0, 0), *pads, (0, 0)))
    y = np.zeros((len(x), *outs, kernel.shape[3]))
    dpadded, dkernel = np.zeros_like(padded), np.zeros_like(kernel)
    for (i, j), (rows, columns) in cells:
        patch = padded[:, rows, columns]
        y[:, i, j] = np.einsum("nhwc,hwcf->nf", patch, kernel)
        if dy is not None:
            g = dy[:, i, j].astype(np.float64)
            dpadded[:, rows, columns] += np.einsum("nf,hwcf->nhwc", g, kernel)
            dkernel += np.einsum("nhwc,nf->hwcf", patch, g)
    (top, _), (left, _) = pads
    return y, dpadded[:, top:top + x.shape[1], left:left + x.shape[2]], dkernel


def grouped_oracle(x, kernel, dy, strides, padding, dilation, groups):
    """The same for groups: a kernel of all channels that is 0 between the groups."""
    channels, filters = x.shape[3] // groups, kernel.shape[3] // groups
    whole = np.zeros((*kernel.shape[:2], x.shape[3], kernel.shape[3]), np.float32)
    blocks = [(slice(channels * g, channels * (g + 1)), slice(filters * g, filters * (g + 1))) for g in range(groups)]
    for rows, columns in blocks:
        whole[:, :, rows, columns] = kernel[..., columns]
    y, dx, dwhole = conv_oracle(x, whole, dy, strides, padding, dilation)
    return y, dx, np.concatenate([dwhole[:, :, rows, columns] for rows, columns in blocks], axis=3)


def tolerance(terms):
    """Of a float32 sum of so many products of standard normals."""
    return 4e-7 * terms + 1e-6


@convolutions
def test_conv2d_matches_loops(case):
    x_shape, kernel_shape, strides, padding, dilation, *groups = case
    how = {"groups": groups[0] if groups else 1}
    rng = np.random.default_rng(1)
    x = rng.standard_normal(x_shape, np.float32)
    kernel = rng.standard_normal(kernel_shape, np.float32)
    bias = rng.standard_normal(kernel_shape[3], np.float32)
    copies = x.copy(), kernel.copy()
    expected = grouped_oracle(x, kernel, None, strides, padding, dilation, **how)[0]
    atol = tolerance(np.prod(kernel_shape[:3]))
    y = ops.conv2d(x, kernel, strides=strides, padding=padding, dilation_rate=dilation, **how)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected, rtol=0, atol=atol)
    y = ops.conv2d(x, kernel, bias, strides, padding, dilation, activation="relu", **how)
    np.testing.assert_allclose(y, np.maximum(expected + bias, 0), rtol=0, atol=atol)
    np.testing.assert_array_equal(x, copies[0])
    np.testing.assert_array_equal(kernel, copies[1])


@convolutions
def test_conv2d_gradients_match_loops(case):
    x_shape, kernel_shape, strides, padding, dilation, *groups = case
    how = {"groups": groups[0] if groups else 1}
    rng = np.random.default_rng(2)
    x = rng.standard_normal(x_shape, np.float32)
    kernel = rng.standard_normal(kernel_shape, np.float32)
    y = ops.conv2d(x, kernel, strides=strides, padding=padding, dilation_rate=dilation, **how)
    dy = rng.standard_normal(y.shape, np.float32)
    _, dx_expected, dk_expected = grouped_oracle(x, kernel, dy, strides, padding, dilation, **how)
    dx = ops.conv2d_backward_input(dy, kernel, x.shape, strides, padding, dilation, **how)
    terms = np.prod(kernel_shape) / kernel_shape[2]
    np.testing.assert_allclose(dx, dx_expected, rtol=0, atol=tolerance(terms))
    dk = ops.conv2d_backward_kernel(x, dy, kernel.shape, strides, padding, dilation, **how)
    assert dk.shape == kernel.shape
    np.testing.assert_allclose(dk, dk_expected, rtol=0, atol=tolerance(np.prod(y.shape[:3])))


def test_conv2d_takes_lists_integers_and_odd_strides():
    x = np.arange(32, dtype=np.uint8).reshape(1, 4, 4, 2)
    kernel = np.ones((2, 2, 2, 1))
    expected = ops.conv2d(x.astype(np.float32), kernel)
    np.testing.assert_array_equal(ops.conv2d(x.tolist(), kernel.tolist()), expected)
    np.testing.assert_array_equal(ops.conv2d(np.asfortranarray(x), kernel), expected)


def test_conv2d_uses_the_new_kernel_on_the_same_geometry():
    x = np.ones((1, 3, 3, 1), np.float32)
    assert ops.conv2d(x, np.full((3, 3, 1, 1), 1.0)).item() == 9
    assert ops.conv2d(x, np.full((3, 3, 1, 1), 2.0)).item() == 18
    dx = ops.conv2d_backward_input([[[[1.0]]]], np.full((3, 3, 1, 1), 3.0), x.shape)
    np.testing.assert_array_equal(dx, 3 * x)


def test_conv2d_backward_results_are_the_callers():
    x, dy = np.ones((1, 3, 3, 1), np.float32), np.ones((1, 1, 1, 1), np.float32)
    first = ops.conv2d_backward_kernel(x, dy, (3, 3, 1, 1))
    kept = first.copy()
    ops.conv2d_backward_kernel(2 * x, dy, (3, 3, 1, 1))
    np.testing.assert_array_equal(first, kept)


def test_conv2d_from_many_threads():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 8, 8, 3), np.float32)
    kernels = [rng.standard_normal((3, 3, 3, 4), np.float32) for _ in range(4)]
    expected = [ops.conv2d(x, kernel) for kernel in kernels]
    wrong: list[int] = []

    def work(i):
        wrong.extend(i for _ in range(20) if not np.array_equal(ops.conv2d(x, kernels[i]), expected[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(("call", "error"), [
    (lambda x, k: ops.conv2d(x[0], k), ValueError),
    (lambda x, k: ops.conv2d(x, k[0]), ValueError),
    (lambda x, k: ops.conv2d(x[..., :1], k), ValueError),
    (lambda x, k: ops.conv2d(x[:0], k), ValueError),
    (lambda x, k: ops.conv2d(x, k[..., :0]), ValueError),
    (lambda x, k: ops.conv2d(x[:, :2], k), ValueError),
    (lambda x, k: ops.conv2d(x, k, np.zeros(5)), ValueError),
    (lambda x, k: ops.conv2d(x, k, strides=0), ValueError),
    (lambda x, k: ops.conv2d(x, k, dilation_rate=-1), ValueError),
    (lambda x, k: ops.conv2d(x, k, padding="full"), ValueError),
    (lambda x, k: ops.conv2d(x, k, activation="no"), ValueError),
    (lambda x, k: ops.conv2d(x, k[:, :, :1], groups=0), ValueError),
    (lambda x, k: ops.conv2d(x, k, groups=2), ValueError),
    (lambda x, k: ops.conv2d(x, k[:, :, :1], groups=3), ValueError),
    (lambda x, k: ops.conv2d(x, k[:, :, :1, :3], groups=2), ValueError),
    (lambda x, k: ops.conv2d(x.astype(complex), k), TypeError),
    (lambda x, k: ops.conv2d(x.astype(str), k), TypeError),
    (lambda x, k: ops.conv2d_backward_input(np.zeros((2, 4, 3, 4)), k, x.shape), ValueError),
    (lambda x, k: ops.conv2d_backward_input(np.zeros((2, 3, 3, 4)), k, x.shape[1:]), ValueError),
    (lambda x, k: ops.conv2d_backward_input(np.zeros((2, 3, 3, 4)), k, (2, 5, 5, 0)), ValueError),
    (lambda x, k: ops.conv2d_backward_input(np.zeros((2, 3, 3, 4)), k, (2**31, 2**31, 2**31, 2)), ValueError),
    (lambda x, k: ops.conv2d_backward_kernel(x, np.zeros((1, 3, 3, 4)), k.shape), ValueError),
    (lambda x, k: ops.conv2d_backward_kernel(x, np.zeros((2, 3, 3, 4)), (3, 3, 3, 4)), ValueError),
    (lambda x, k: ops.conv2d_backward_kernel(x, np.zeros((2, 3, 3, 4)), (3, 3, 2)), ValueError),
])
def test_conv2d_refuses_bad_arguments(call, error):
    x, kernel = np.zeros((2, 5, 5, 2), np.float32), np.zeros((3, 3, 2, 4), np.float32)
    with pytest.raises(error, match="Received: ") as caught:
        call(x, kernel)
    assert "\n" not in str(caught.value)


def pool_oracle(x, size, strides, padding):
    cells, pads, outs = windows(x.shape, size, strides, padding)
    padded = np.pad(x.astype(np.float64), ((0, 0), *pads, (0, 0)), constant_values=-np.inf)
    y = np.zeros((len(x), *outs, x.shape[3]))
    index = np.zeros(y.shape, int)
    for (i, j), (rows, columns) in cells:
        patch = padded[:, rows, columns].reshape(len(x), -1, x.shape[3])
        y[:, i, j] = patch.max(axis=1)
        index[:, i, j] = patch.argmax(axis=1)
    return y, index, pads


@pools
def test_max_pool2d_matches_loops(case):
    x_shape, size, strides, padding = case
    # Few distinct values, so that there are ties.
    x = np.random.default_rng(4).integers(-3, 3, x_shape).astype(np.float32)
    y_expected, index_expected, _ = pool_oracle(x, pair(size), pair(strides or size), padding)
    y, index = ops.max_pool2d(x, size, strides, padding, return_index=True)
    assert y.dtype == np.float32
    assert index.dtype == np.int32
    np.testing.assert_array_equal(y, y_expected)
    np.testing.assert_array_equal(index, index_expected)
    np.testing.assert_array_equal(ops.max_pool2d(x, size, strides, padding), y)


@pools
def test_max_pool2d_backward_matches_loops(case):
    x_shape, size, strides, padding = case
    rng = np.random.default_rng(5)
    x = rng.integers(-3, 3, x_shape).astype(np.float32)
    y, index = ops.max_pool2d(x, size, strides, padding, return_index=True)
    dy = rng.standard_normal(y.shape, np.float32)
    cells, pads, _ = windows(x.shape, pair(size), pair(strides or size), padding)
    expected = np.zeros((x_shape[0], x_shape[1] + sum(pads[0]), x_shape[2] + sum(pads[1]), x_shape[3]))
    for n, i, j, c in np.ndindex(*y.shape):
        row, column = divmod(int(index[n, i, j, c]), pair(size)[1])
        stride = pair(strides or size)
        expected[n, i * stride[0] + row, j * stride[1] + column, c] += dy[n, i, j, c]
    (top, _), (left, _) = pads
    expected = expected[:, top:top + x_shape[1], left:left + x_shape[2]]
    dx = ops.max_pool2d_backward(dy, index, x.shape, size, strides, padding)
    np.testing.assert_allclose(dx, expected, rtol=0, atol=tolerance(np.prod(pair(size))))
    assert len(cells) == y.shape[1] * y.shape[2]


@pools
def test_max_pool2d_matches_the_numpy_reference(case):
    x_shape, size, strides, padding = case
    x = np.random.default_rng(6).standard_normal(x_shape, np.float32)
    x[0, 0, 0, 0] = np.nan
    x[-1, -1, -1, -1] = -np.inf
    y, index = ops.max_pool2d(x, size, strides, padding, return_index=True)
    pads = windows(x.shape, pair(size), pair(strides or size), padding)[1]
    y_expected, index_expected = arrays_reference.max_pool2d(
        x, *pair(size), *pair(strides or size), pads[0][0], pads[1][0], *y.shape[1:3], True)
    np.testing.assert_array_equal(y, y_expected)
    np.testing.assert_array_equal(index, index_expected)
    np.testing.assert_array_equal(ops.max_pool2d(x, size, strides, padding), y)


@pytest.mark.parametrize("nans", [(0,), (1,), (2,), (3,), (0, 3), (1, 2), (0, 1, 2, 3)])
@pytest.mark.parametrize("channels", [3, 8, 16])
def test_max_pool2d_finds_the_first_nan_of_a_window(nans, channels):
    x = np.random.default_rng(8).standard_normal((1, 4, 10, channels), np.float32)
    for place in nans:
        x[:, place // 2::2, place % 2::2] = np.nan
    y, index = ops.max_pool2d(x, 2, return_index=True)
    np.testing.assert_array_equal(y, np.nan)
    np.testing.assert_array_equal(index, nans[0])
    np.testing.assert_array_equal(ops.max_pool2d(x, 2), np.nan)


X = np.zeros((2, 4, 4, 3), np.float32)
DY = np.zeros((2, 2, 2, 3), np.float32)
INDEX = np.zeros((2, 2, 2, 3), np.int32)


@pytest.mark.parametrize(("call", "error"), [
    (lambda: ops.max_pool2d(X[0], 2), ValueError),
    (lambda: ops.max_pool2d(X, 5), ValueError),
    (lambda: ops.max_pool2d(X, 0), ValueError),
    (lambda: ops.max_pool2d(X, 2, strides=0), ValueError),
    (lambda: ops.max_pool2d(X[:, :0], 2), ValueError),
    (lambda: ops.max_pool2d(X, 2, padding="reflect"), ValueError),
    (lambda: ops.max_pool2d_backward(DY, INDEX + 4, X.shape, 2), ValueError),
    (lambda: ops.max_pool2d_backward(DY, INDEX - 1, X.shape, 2), ValueError),
    (lambda: ops.max_pool2d_backward(DY, INDEX.astype(float), X.shape, 2), TypeError),
    (lambda: ops.max_pool2d_backward(DY, INDEX[:1], X.shape, 2), ValueError),
    (lambda: ops.max_pool2d_backward(DY[:, :1], INDEX, X.shape, 2), ValueError),
    (lambda: ops.max_pool2d_backward(DY, INDEX, (2, 4, 4, 2), 2), ValueError),
    (lambda: ops.max_pool2d_backward(DY, INDEX, (2, 4, 4, 0), 2), ValueError),
    # index 0 of a padded window is in the padding
    (lambda: ops.max_pool2d_backward(np.zeros((1, 3, 3, 1)), np.zeros((1, 3, 3, 1), int), (1, 3, 3, 1), 3, 1,
                                     "same"), ValueError),
    (lambda: ops.max_pool2d_backward(DY, INDEX.astype(np.uint64) + np.uint64(2**63), X.shape, 2), ValueError),
])
def test_max_pool2d_refuses_bad_arguments(call, error):
    with pytest.raises(error, match="Received: ") as caught:
        call()
    assert "\n" not in str(caught.value)


# Below, at and above what fills a vector, and what is turned into the lanes.
@pytest.mark.parametrize(("samples", "classes"), [(1, 2), (7, 10), (33, 3), (70, 10), (16, 40), (5, 41), (19, 128),
                                                  (3, 131)])
def test_softmax_cross_entropy_matches_double_precision(samples, classes):
    rng = np.random.default_rng(7)
    logits = (5 * rng.standard_normal((samples, classes))).astype(np.float32)
    ids = rng.integers(0, classes, samples)
    one_hot = np.eye(classes, dtype=np.float32)[ids]
    wide = logits.astype(np.float64)
    p = np.exp(wide - wide.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    expected = -np.log(p[np.arange(samples), ids]).mean()
    for labels in (ids, one_hot, one_hot.astype(np.uint8)):
        loss, gradient = ops.softmax_cross_entropy(logits, labels)
        assert isinstance(loss, float)
        assert gradient.dtype == np.float32
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        np.testing.assert_allclose(gradient, (p - one_hot) / samples, rtol=0, atol=2e-6)
    soft = rng.random((samples, classes))
    loss, gradient = ops.softmax_cross_entropy(logits, soft)
    np.testing.assert_allclose(loss, -(soft * np.log(p)).sum() / samples, rtol=1e-5)
    expected = (p * soft.sum(axis=1, keepdims=True) - soft) / samples
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-5)


def test_softmax_cross_entropy_of_huge_logits():
    loss, gradient = ops.softmax_cross_entropy([[1e4, 0.0]], [1])
    assert loss == 1e4
    np.testing.assert_array_equal(gradient, [[1, -1]])


def test_backward_input_without_addresses_is_a_memory_error(monkeypatch):
    """Where np.zeros would raise one; the system's error is an OSError."""
    def refuse(*arguments):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(MemoryError, match=r"\(1, 13, 17, 1\)"):  # a shape of no other test: the last one is kept
        ops.conv2d_backward_input(np.ones((1, 13, 17, 1)), np.ones((1, 1, 1, 1)), (1, 13, 17, 1))


@pytest.mark.parametrize(("logits", "labels", "error"), [
    (np.zeros((2, 3)), [0, 3], ValueError),
    (np.zeros((2, 3)), [0, -1], ValueError),
    (np.zeros((2, 3)), [0], ValueError),
    (np.zeros((2, 3)), [0.0, 1.0], TypeError),
    (np.zeros((2, 3)), np.zeros((2, 4)), ValueError),
    (np.zeros((2, 3)), np.full((2, 3), np.nan), ValueError),
    (np.zeros((0, 3)), np.zeros(0, int), ValueError),
    (np.zeros(3), [0], ValueError),
    (np.zeros((2, 3), complex), [0, 1], TypeError),
])
def test_softmax_cross_entropy_refuses_bad_arguments(logits, labels, error):
    with pytest.raises(error, match="Received: ") as caught:
        ops.softmax_cross_entropy(logits, labels)
    assert "\n" not in str(caught.value)
