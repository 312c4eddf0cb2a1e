"""Window arithmetic: same and valid padding, strides, dilation.  Pure functions.

Shapes are without the batch dimension: (height, width, channels).  Padding is
always explicit, ((top, bottom), (left, right)).
"""

from __future__ import annotations

import operator
from typing import Any

__all__ = [
    "DATA_FORMATS", "MAX_SIZE", "check_integer", "check_shape", "clip_dilation", "clip_window",
    "conv2d_output_shape", "describe", "dilated_size", "element_count", "pool2d_output_shape",
    "reshape_target", "same_padding", "standardize_data_format", "standardize_padding", "standardize_pair",
    "standardize_sizes", "transposed_padding", "transposed_size", "window_output_size", "window_padding",
]

Pair = tuple[int, int]
Padding2D = tuple[tuple[int, int], tuple[int, int]]

# No dimension of any tensor, window or stride is larger: products of two then fit 64 bits.
MAX_SIZE = 2**31 - 1
# Where the channels of an image stand.
DATA_FORMATS = ("channels_last", "channels_first")


def describe(value: Any) -> str:
    """`value` for an error message: on one line, and not too long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 100 else text[:97] + "..."


def check_integer(value: Any, name: str, minimum: int = 1, maximum: int = MAX_SIZE) -> int:
    """Returns `value` as an int in [minimum, maximum]; booleans and floats are refused.

    Raises:
        ValueError: If it is none, or out of range.
    """
    kind = {0: "a non-negative integer", 1: "a positive integer"}.get(minimum, f"an integer >= {minimum}")
    try:
        number = operator.index(value)
    except TypeError:
        number = minimum - 1
    if isinstance(value, bool) or number < minimum:
        raise ValueError(f"Expected {name} to be {kind}. Received: {name}={describe(value)}")
    if number > maximum:
        raise ValueError(f"Expected {name} to be at most {maximum}. Received: {name}={describe(value)}")
    return number


def standardize_pair(value: Any, name: str) -> Pair:
    """Returns `value`, a positive integer or two of them, as a pair (height, width).

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(
                f"Expected {name} to be an integer or 2 integers. "
                f"Received: {name}={describe(value)}"
            )
        pair = tuple(value)
    else:
        pair = (value, value)
    try:
        return check_integer(pair[0], name), check_integer(pair[1], name)
    except ValueError:
        raise ValueError(
            f"Expected {name} to be a positive integer or 2 of them. Received: {name}={describe(value)}"
        ) from None


def standardize_sizes(value: Any, rank: int, name: str) -> tuple[int, ...]:
    """Returns `value`, a positive integer or `rank` of them, as a tuple."""
    if rank == 2:
        return standardize_pair(value, name)
    if isinstance(value, (tuple, list)) and len(value) == 1:
        value = value[0]
    return (check_integer(value, name),)


def standardize_padding(value: Any, name: str = "padding", allowed: tuple[str, ...] = ("valid", "same")) -> str:
    """Returns one of the `allowed` names: "valid", "same", "causal".

    Raises:
        ValueError: If it is another.
    """
    padding = value.lower() if isinstance(value, str) else ""
    if padding not in allowed:
        raise ValueError(f"Expected {name} to be {' or '.join(map(repr, allowed))}. "
                         f"Received: {name}={describe(value)}")
    return padding


def standardize_data_format(value: Any, allowed: tuple[str, ...] = ("channels_last",)) -> str:
    """Returns one of the `allowed` formats; None is "channels_last".

    Activations of the engine are (height, width, channels): a layer that allows
    "channels_first" permutes them.

    Raises:
        ValueError: If it is another.
    """
    data_format = "channels_last" if value is None else value
    if isinstance(data_format, str) and data_format.lower() in allowed:
        return data_format.lower()
    raise ValueError(
        f"Expected data_format to be None or {' or '.join(map(repr, allowed))}. "
        f"Received: data_format={describe(value)}"
    )


def check_shape(shape: Any, name: str = "input_shape") -> tuple[int, ...]:
    """Returns a per-sample shape of 1 to 3 known, positive dimensions as a tuple of ints.

    Raises:
        ValueError: If it is another.
    """
    if not isinstance(shape, (tuple, list)) or not 1 <= len(shape) <= 3:
        raise ValueError(
            f"Expected {name} to be a tuple of 1 to 3 dimensions, without the batch. "
            f"Received: {name}={describe(shape)}"
        )
    try:
        dimensions = tuple(check_integer(dimension, name) for dimension in shape)
    except ValueError:
        raise ValueError(
            f"Expected {name} to be of known, positive dimensions. "
            f"Received: {name}={describe(tuple(shape))}"
        ) from None
    if element_count(dimensions) > MAX_SIZE:
        raise ValueError(
            f"Expected {name} to have at most {MAX_SIZE} values. Received: {name}={dimensions}"
        )
    return dimensions


def element_count(shape: tuple[int, ...]) -> int:
    """The number of values of a shape (Python integers: no overflow)."""
    count = 1
    for dimension in shape:
        count *= int(dimension)
    return count


def dilated_size(size: int, dilation: int) -> int:
    """The extent of a window of `size` taps, `dilation` apart."""
    return (size - 1) * dilation + 1


def same_padding(size: int, window: int, stride: int) -> Pair:
    """Padding (before, after) of one dimension so that the output is ceil(size / stride) long.

    An odd total puts the extra value after, as TensorFlow does.
    """
    output = -(-size // stride)
    total = max(0, (output - 1) * stride + window - size)
    return total // 2, total - total // 2


def window_output_size(size: int, window: int, stride: int, padding: Pair) -> int:
    """How many windows fit into one padded dimension; 0 or less where none does."""
    return (size + padding[0] + padding[1] - window) // stride + 1


def window_padding(input_shape: tuple[int, ...], window_size: Pair, strides: Pair, padding: str,
                   dilation_rate: Pair = (1, 1)) -> Padding2D:
    """The explicit padding ((top, bottom), (left, right)) of "valid", "same" or "causal".

    Args:
        input_shape: (height, width, ...) of the input.
        window_size: Height and width of the kernel or pool, not dilated.
        strides: Steps between windows.
        padding: "valid", "same", or "causal": what a window reads ends at its own position.
        dilation_rate: Steps between the taps of a window.
    """
    padding = standardize_padding(padding, allowed=("valid", "same", "causal"))
    if padding == "valid":
        return (0, 0), (0, 0)
    windows = [dilated_size(size, rate) for size, rate in zip(window_size, dilation_rate, strict=True)]
    if padding == "causal":
        return (windows[0] - 1, 0), (windows[1] - 1, 0)
    return (same_padding(input_shape[0], windows[0], strides[0]),
            same_padding(input_shape[1], windows[1], strides[1]))


def clip_window(input_shape: tuple[int, ...], window_size: Pair, strides: Pair) -> tuple[Pair, Pair]:
    """The window and strides that see the same pixels, without what lies far outside the image.

    With "same" padding a window of twice the image and one pixel more covers the whole
    image from wherever it stands, and a stride of the image's size leaves one window:
    larger ones change nothing but the work.
    """
    height, width = input_shape[:2]
    window = min(window_size[0], 2 * height + 1), min(window_size[1], 2 * width + 1)
    return window, (min(strides[0], height), min(strides[1], width))


def clip_dilation(input_shape: tuple[int, ...], dilation_rate: Pair) -> Pair:
    """The dilation that sees the same pixels, without what lies far outside the image.

    With "same" padding the taps lie evenly about a pixel of the image.  Where they are more than
    twice the image apart, all of them but the one in the middle miss it.
    """
    (rows, columns), (height, width) = dilation_rate, input_shape[:2]
    return min(rows, 2 * height + 1), min(columns, 2 * width + 1)


def _window_output_shape(input_shape: tuple[int, ...], window_size: Pair, strides: Pair, padding: str,
                         dilation_rate: Pair, what: str) -> Pair:
    if len(input_shape) != 3:
        raise ValueError(
            f"Expected an input of shape (height, width, channels). Received: input_shape={input_shape}"
        )
    explicit = window_padding(input_shape, window_size, strides, padding, dilation_rate)
    height, width = (
        window_output_size(input_shape[axis], dilated_size(window_size[axis], dilation_rate[axis]),
                           strides[axis], explicit[axis])
        for axis in (0, 1)
    )
    if height < 1 or width < 1:
        raise ValueError(
            f"{what} larger than its input. Expected a window of at most {input_shape[:2]}. "
            f"Received: window={window_size}, dilation_rate={dilation_rate}, input_shape={input_shape}"
        )
    return height, width


def conv2d_output_shape(input_shape: tuple[int, ...], filters: int, kernel_size: Pair,
                        strides: Pair = (1, 1), padding: str = "valid",
                        dilation_rate: Pair = (1, 1)) -> tuple[int, int, int]:
    """(height, width, channels) -> (output height, output width, filters).

    Raises:
        ValueError: If the input has not three dimensions, or no window fits into it.
    """
    height, width = _window_output_shape(input_shape, kernel_size, strides, padding, dilation_rate, "Kernel")
    return height, width, filters


def pool2d_output_shape(input_shape: tuple[int, ...], pool_size: Pair, strides: Pair,
                        padding: str = "valid") -> tuple[int, int, int]:
    """(height, width, channels) -> (output height, output width, channels).

    Raises:
        ValueError: If the input has not three dimensions, or no window fits into it.
    """
    height, width = _window_output_shape(input_shape, pool_size, strides, padding, (1, 1), "Pool")
    return height, width, input_shape[2]


def transposed_size(size: int, window: int, stride: int, padding: str, output_padding: int | None = None) -> int:
    """The output size of one dimension of a transposed convolution, as Keras has it.

    Args:
        size: Of the input.
        window: The extent of the kernel, dilated.
        stride: Steps between the kernel's places in the output.
        padding: "valid" or "same".
        output_padding: Values after the least output, or None: "same" then gives size * stride
            values, "valid" as many as the windows cover, at least size * stride.
    """
    if output_padding is None:
        return size * stride + (max(window - stride, 0) if padding == "valid" else 0)
    return (size - 1) * stride + window + output_padding - (2 * (window // 2) if padding == "same" else 0)


def transposed_padding(size: int, output: int, window: int, stride: int) -> Pair:
    """The padding of the convolution, from `output` to `size`, that a transposed one is the gradient of:
    what the windows cover and the output lacks."""
    cut = max(0, (size - 1) * stride + window - output)
    return cut // 2, cut - cut // 2


def reshape_target(input_shape: tuple[int, ...], target_shape: tuple[int, ...]) -> tuple[int, ...]:
    """`target_shape` with its -1, if any, replaced by what is left of the input's values.

    Raises:
        ValueError: If the two shapes cannot have the same number of values.
    """
    count = element_count(input_shape)
    known = element_count(tuple(size for size in target_shape if size != -1))
    if -1 in target_shape:
        fits = count % known == 0
        shape = tuple(count // known if size == -1 else size for size in target_shape)
    else:
        fits, shape = count == known, tuple(target_shape)
    if not fits:
        raise ValueError(
            f"Expected target_shape to have {count} values, as many as the input. "
            f"Received: input_shape={input_shape}, target_shape={tuple(target_shape)}"
        )
    return shape
