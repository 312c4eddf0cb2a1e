"""Window arithmetic against cases worked out by hand and against counting windows one by one."""

from __future__ import annotations

import numpy as np
import pytest

from tinyconv import shapes


@pytest.mark.parametrize(
    "size, window, stride, expected",
    [
        (28, 5, 1, (2, 2)),
        (28, 2, 2, (0, 0)),
        (5, 2, 2, (0, 1)),  # an odd total goes after
        (7, 3, 2, (1, 1)),
        (8, 3, 2, (0, 1)),
        (3, 2, 5, (0, 0)),  # steps longer than the window
        (2, 5, 1, (2, 2)),  # window larger than the input
        (1, 4, 3, (1, 2)),
    ],
)
def test_same_padding_matches_hand_worked_cases(size, window, stride, expected):
    assert shapes.same_padding(size, window, stride) == expected


@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("window", [1, 2, 3, 4, 5, 7])
def test_window_output_size_counts_windows(window, stride):
    for size in range(1, 20):
        padding = shapes.same_padding(size, window, stride)
        assert shapes.window_output_size(size, window, stride, padding) == -(-size // stride)
        assert 0 <= padding[1] - padding[0] <= 1
        starts = [start for start in range(0, size, stride) if start + window <= size]
        assert max(shapes.window_output_size(size, window, stride, (0, 0)), 0) == len(starts)


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ({"filters": 8, "kernel_size": (5, 5)}, (24, 24, 8)),
        ({"filters": 8, "kernel_size": (5, 5), "padding": "same"}, (28, 28, 8)),
        ({"filters": 4, "kernel_size": (3, 2), "strides": (2, 3)}, (13, 9, 4)),
        ({"filters": 4, "kernel_size": (3, 3), "strides": (2, 2), "padding": "same"}, (14, 14, 4)),
        ({"filters": 1, "kernel_size": (3, 3), "dilation_rate": (2, 4)}, (24, 20, 1)),
        ({"filters": 1, "kernel_size": (28, 28)}, (1, 1, 1)),
    ],
    ids=str,
)
def test_conv2d_output_shape(arguments, expected):
    assert shapes.conv2d_output_shape((28, 28, 3), **arguments) == expected


def test_pool2d_output_shape_drops_the_last_partial_window():
    assert shapes.pool2d_output_shape((7, 5, 3), (2, 2), (2, 2)) == (3, 2, 3)
    assert shapes.pool2d_output_shape((7, 5, 3), (2, 2), (2, 2), "same") == (4, 3, 3)


def test_window_padding_counts_dilation():
    assert shapes.window_padding((10, 10, 1), (3, 3), (1, 1), "same", (2, 3)) == ((2, 2), (3, 3))
    assert shapes.window_padding((10, 10, 1), (3, 3), (1, 1), "valid", (2, 3)) == ((0, 0), (0, 0))


def test_output_shape_refuses_windows_larger_than_the_input():
    with pytest.raises(ValueError, match="Kernel larger than its input.*Received: window=\\(5, 5\\)"):
        shapes.conv2d_output_shape((4, 9, 1), 8, (5, 5))
    with pytest.raises(ValueError, match="Kernel larger"):
        shapes.conv2d_output_shape((6, 6, 1), 8, (3, 3), dilation_rate=(3, 3))
    with pytest.raises(ValueError, match="Pool larger than its input"):
        shapes.pool2d_output_shape((2, 2, 1), (3, 3), (1, 1))
    with pytest.raises(ValueError, match="height, width, channels"):
        shapes.pool2d_output_shape((28, 28), (2, 2), (2, 2))


@pytest.mark.parametrize("value", [0, -1, 1.0, "3", None, True, 2**31, [1]], ids=repr)
def test_check_integer_refuses(value):
    with pytest.raises(ValueError, match="filters.*Received: filters="):
        shapes.check_integer(value, "filters")


def test_check_integer_accepts_numpy_integers():
    number = shapes.check_integer(np.int64(3), "filters")
    assert number == 3 and type(number) is int
    assert shapes.check_integer(0, "seed", minimum=0) == 0


@pytest.mark.parametrize(
    "value", [0, (1, 0), (1, 2, 3), (3,), 2.5, "33", None, (True, 1), (1.0, 1)], ids=repr
)
def test_standardize_pair_refuses(value):
    with pytest.raises(ValueError, match="strides.*Received: strides="):
        shapes.standardize_pair(value, "strides")


def test_standardize_pair_repeats_one_number():
    assert shapes.standardize_pair(3, "strides") == (3, 3)
    assert shapes.standardize_pair([1, 2], "strides") == (1, 2)


@pytest.mark.parametrize("value", ["causal", None, 1, "", np.zeros(2)], ids=str)
def test_standardize_padding_refuses(value):
    with pytest.raises(ValueError, match="'valid' or 'same'"):
        shapes.standardize_padding(value)


def test_standardize_padding_and_data_format_ignore_case():
    assert shapes.standardize_padding("SAME") == "same"
    assert shapes.standardize_data_format(None) == "channels_last"
    with pytest.raises(ValueError, match="channels_first"):
        shapes.standardize_data_format("channels_first")


@pytest.mark.parametrize(
    "shape", [(), (1, 2, 3, 4), (None, 3), (0, 3), (28.0,), "28", 28, (2**16, 2**16)], ids=repr
)
def test_check_shape_refuses(shape):
    with pytest.raises(ValueError, match="input_shape.*Received: input_shape="):
        shapes.check_shape(shape)


def test_reshape_target_fills_in_what_is_left():
    assert shapes.reshape_target((4, 6), (2, -1)) == (2, 12)
    assert shapes.reshape_target((4, 6), (24,)) == (24,)
    assert shapes.reshape_target((4, 6), (-1, 3, 2)) == (4, 3, 2)
    for target in ((5, -1), (23,), (4, 7)):
        with pytest.raises(ValueError, match="24 values"):
            shapes.reshape_target((4, 6), target)


def test_describe_is_one_short_line():
    text = shapes.describe(np.arange(1000).reshape(10, 100))
    assert "\n" not in text and len(text) <= 100
    assert shapes.describe("a\nb") == repr("a\nb")
