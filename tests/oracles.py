"""What the engine should compute, in float64 and from the definitions: loops over pixels and taps.

Independent of tinyconv.  x: (N, H, W, C), kernel: (KH, KW, C, F), y: (N, OH, OW, F);
padding is explicit, ((top, bottom), (left, right)).
"""

from __future__ import annotations

import math

import numpy as np

NO_PADDING = ((0, 0), (0, 0))


def output_size(size, window, stride=1, dilation=1, padding=(0, 0)):
    return (size + padding[0] + padding[1] - (window - 1) * dilation - 1) // stride + 1


def same_padding(size, window, stride=1, dilation=1):
    total = max(0, (math.ceil(size / stride) - 1) * stride + (window - 1) * dilation + 1 - size)
    return total // 2, total - total // 2


def windows(height, width, window, strides=(1, 1), dilation=(1, 1), padding=NO_PADDING):
    """(a, b, i, j, row, column): tap (i, j) of output pixel (a, b) reads that pixel of the image."""
    for a in range(output_size(height, window[0], strides[0], dilation[0], padding[0])):
        for b in range(output_size(width, window[1], strides[1], dilation[1], padding[1])):
            for i in range(window[0]):
                for j in range(window[1]):
                    row = a * strides[0] + i * dilation[0] - padding[0][0]
                    column = b * strides[1] + j * dilation[1] - padding[1][0]
                    if 0 <= row < height and 0 <= column < width:
                        yield a, b, i, j, row, column


# --- operations ---


def conv2d(x, kernel, bias=None, **geometry):
    x, kernel = np.float64(x), np.float64(kernel)
    n, height, width, _ = x.shape
    y = np.zeros((n, *_output(height, width, kernel.shape[:2], **geometry), kernel.shape[3]))
    if bias is not None:
        y += np.float64(bias)
    for a, b, i, j, row, column in windows(height, width, kernel.shape[:2], **geometry):
        y[:, a, b] += x[:, row, column] @ kernel[i, j]
    return y


def conv2d_backward_input(dy, kernel, input_shape, **geometry):
    dy, kernel, dx = np.float64(dy), np.float64(kernel), np.zeros(input_shape)
    for a, b, i, j, row, column in windows(*input_shape[1:3], kernel.shape[:2], **geometry):
        dx[:, row, column] += dy[:, a, b] @ kernel[i, j].T
    return dx


def conv2d_backward_kernel(x, dy, kernel_shape, **geometry):
    x, dy, dw = np.float64(x), np.float64(dy), np.zeros(kernel_shape)
    for a, b, i, j, row, column in windows(*x.shape[1:3], kernel_shape[:2], **geometry):
        dw[i, j] += x[:, row, column].T @ dy[:, a, b]
    return dw


def max_pool2d(x, pool_size, **geometry):
    """The maxima and their places in the window, row-major; the first of equals, a NaN above all."""
    n, height, width, channels = x.shape
    size = _output(height, width, pool_size, **geometry)
    y = np.full((n, *size, channels), -np.inf)
    index = np.full((n, *size, channels), -1)
    for a, b, i, j, row, column in windows(height, width, pool_size, **geometry):
        value, best = x[:, row, column], y[:, a, b]
        better = (index[:, a, b] < 0) | (value > best) | (np.isnan(value) & ~np.isnan(best))
        y[:, a, b] = np.where(better, value, best)
        index[:, a, b] = np.where(better, i * pool_size[1] + j, index[:, a, b])
    return y, index


def max_pool2d_backward(dy, index, input_shape, pool_size, **geometry):
    dx = np.zeros(input_shape)
    for a, b, i, j, row, column in windows(*input_shape[1:3], pool_size, **geometry):
        dx[:, row, column] += np.where(index[:, a, b] == i * pool_size[1] + j, dy[:, a, b], 0)
    return dx


def average_pool2d(x, pool_size, **geometry):
    n, height, width, channels = x.shape
    y = np.zeros((n, *_output(height, width, pool_size, **geometry), channels))
    for a, b, _, _, row, column in windows(height, width, pool_size, **geometry):
        y[:, a, b] += x[:, row, column]
    return y / _counts(height, width, pool_size, **geometry)


def average_pool2d_backward(dy, input_shape, pool_size, **geometry):
    share = np.float64(dy) / _counts(*input_shape[1:3], pool_size, **geometry)
    dx = np.zeros(input_shape)
    for a, b, _, _, row, column in windows(*input_shape[1:3], pool_size, **geometry):
        dx[:, row, column] += share[:, a, b]
    return dx


def _output(height, width, window, strides=(1, 1), dilation=(1, 1), padding=NO_PADDING):
    return (output_size(height, window[0], strides[0], dilation[0], padding[0]),
            output_size(width, window[1], strides[1], dilation[1], padding[1]))


def _counts(height, width, window, **geometry):
    counts = np.zeros((*_output(height, width, window, **geometry), 1))
    for a, b, *_ in windows(height, width, window, **geometry):
        counts[a, b] += 1
    return counts


def dropout_mask(seed, step, stream, images, values, rate):
    """Kept or not, (images, values): splitmix64 and lowbias32 number by number."""
    mask = np.zeros((images, values), bool)
    for image in range(images):
        z = 0
        for part in (seed, step, stream, image):
            z = _splitmix64((z ^ part) % 2**64)
        for element in range(values):
            mask[image, element] = _lowbias32(element, z % 2**32, z >> 32) >> 8 >= math.ceil(rate * 2**24)
    return mask


def normals(seed, step, stream, images, values):
    """Box and Muller's, (images, values): the cosine's of the numbers 2 e and 2 e + 1."""
    found = np.zeros((images, values))
    for image in range(images):
        z = 0
        for part in (seed, step, stream, image):
            z = _splitmix64((z ^ part) % 2**64)
        for element in range(values):
            u, v = (_lowbias32(2 * element + k, z % 2**32, z >> 32) >> 8 for k in (0, 1))
            found[image, element] = math.sqrt(-2 * math.log((u + 1) / 2**24)) * math.cos(2 * math.pi * v / 2**24)
    return found


def random_number(seed, step, stream, image, element):
    """The 24 bits of one element of one image."""
    z = 0
    for part in (seed, step, stream, image):
        z = _splitmix64((z ^ part) % 2**64)
    return _lowbias32(element, z % 2**32, z >> 32) >> 8


def _splitmix64(z):
    z = (z + 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def _lowbias32(element, key0, key1):
    u = (element + key0) % 2**32
    u = (u ^ (u >> 16)) * 0x7FEB352D % 2**32
    u ^= key1
    u = (u ^ (u >> 15)) * 0x846CA68B % 2**32
    return u ^ (u >> 16)


# --- activations, number by number ---


def _sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _softplus(x):
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


def _relu(x, slope=0.0, maximum=math.inf, threshold=0.0):
    return min(x, maximum) if x > threshold or math.isnan(x) else slope * (x - threshold) if slope else 0.0


def _elu(x, alpha=1.0):
    return x if x > 0 else alpha * math.expm1(x)


def _hard_sigmoid(x):
    return min(max(x / 6 + 0.5, 0.0), 1.0)


ACTIVATIONS = {
    "linear": lambda x: x,
    "relu": _relu,
    "sigmoid": _sigmoid,
    "tanh": math.tanh,
    "leaky_relu": lambda x, slope=0.2: _relu(x, slope),
    "elu": _elu,
    "selu": lambda x: 1.0507009873554805 * _elu(x, 1.6732632423543772),
    "softplus": _softplus,
    "softsign": lambda x: x / (1 + abs(x)),
    "exponential": math.exp,
    "hard_sigmoid": _hard_sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "hard_silu": lambda x: x * _hard_sigmoid(x),
    "gelu": lambda x: x * 0.5 * math.erfc(-x / math.sqrt(2)),
    "gelu_tanh": lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "mish": lambda x: x * math.tanh(_softplus(x)),
    "celu": lambda x, alpha=1.0: x if x > 0 else alpha * math.expm1(x / alpha),
    "log_sigmoid": lambda x: -_softplus(-x),
    "hard_tanh": lambda x: max(-1.0, min(1.0, x)),
    "tanh_shrink": lambda x: x - math.tanh(x),
    "soft_shrink": lambda x, t=0.5: x - t if x > t else x + t if x < -t else 0.0,
    "hard_shrink": lambda x, t=0.5: x if abs(x) > t else 0.0,
    "squareplus": lambda x, b=4.0: b / 2 / (math.sqrt(x * x + b) - x) if x < 0 else (x + math.sqrt(x * x + b)) / 2,
    "sparse_plus": lambda x: 0.0 if x <= -1 else x if x >= 1 else (x + 1)**2 / 4,
    "sparse_sigmoid": lambda x: 0.0 if x <= -1 else 1.0 if x >= 1 else (x + 1) / 2,
}


def activation(function, x, parameters=()):
    """The function of every value; softmax and log_softmax over the last axis."""
    x = np.float64(x)
    if function in ("softmax", "log_softmax"):
        rows = [_log_softmax(row) for row in x.reshape(-1, x.shape[-1]).tolist()]
        y = np.array(rows).reshape(x.shape)
        return np.exp(y) if function == "softmax" else y
    values = [ACTIVATIONS[function](value, *parameters) for value in x.ravel().tolist()]
    return np.array(values).reshape(x.shape)


def activation_backward(function, dy, x, parameters=(), step=1e-5):
    """dx by central differences; the functions of single values all at once, the others value by value."""
    x = np.float64(x)
    if function in ACTIVATIONS:
        above, below = activation(function, x + step, parameters), activation(function, x - step, parameters)
        return dy * (above - below) / (2 * step)
    return central_difference(lambda z: float((activation(function, z) * dy).sum()), x, step)


def _log_softmax(row):
    largest = max(row)
    total = largest + math.log(math.fsum(math.exp(value - largest) for value in row))
    return [value - total for value in row]


# --- losses, sample by sample ---


def loss(kind, z, y, from_logits, label_smoothing=0.0, parameters=()):
    """The loss of every sample, (N,).

    z: (N, P, C) outputs, probabilities or, with from_logits, what goes into softmax or sigmoid;
    y: (N, P, C), or (N, P) class ids for the sparse loss.
    """
    return np.array([_sample_loss(kind, z[i], y[i], from_logits, label_smoothing, parameters)
                     for i in range(len(z))])


def _sample_loss(kind, z, y, from_logits, smoothing, parameters):
    if kind == "inner_product":
        return math.fsum((np.float64(z) * np.float64(y)).ravel())
    return math.fsum(_position_loss(kind, row.tolist(), target.tolist(), from_logits, smoothing, parameters)
                     for row, target in zip(z, y, strict=True)) / len(z)


def _position_loss(kind, row, target, from_logits, smoothing, parameters):
    channels = len(row)
    if kind in ELEMENT_LOSSES:
        values = [ELEMENT_LOSSES[kind](p, t, *parameters) for p, t in zip(row, target, strict=True)]
        return math.fsum(values) / (1 if kind == "kl_divergence" else channels)
    if kind.startswith("binary"):
        return math.fsum(_binary_loss(p, t * (1 - smoothing) + smoothing / 2, from_logits, *parameters)
                         for p, t in zip(row, target, strict=True)) / channels
    if kind == "categorical_hinge":
        others = max((1 - t) * p for p, t in zip(row, target, strict=True))
        return max(0.0, 1 + others - math.fsum(t * p for p, t in zip(row, target, strict=True)))
    if kind == "cosine_similarity":
        lengths = math.hypot(*row) * math.hypot(*target)
        return -math.fsum(p * t for p, t in zip(row, target, strict=True)) / lengths
    logarithms = _log_softmax(row) if from_logits else [math.log(_clip(p / math.fsum(row))) for p in row]
    if kind == "sparse_categorical_crossentropy":
        return 0.0 if parameters and target == parameters[0] else -logarithms[target]
    smoothed = [t * (1 - smoothing) + smoothing / channels for t in target]
    if kind == "categorical_focal_crossentropy":
        gamma, alpha = parameters or (2.0, 0.25)
        logarithms = [alpha * (1 - math.exp(value)) ** gamma * value for value in logarithms]
    return -math.fsum(t * p for t, p in zip(smoothed, logarithms, strict=True))


def _binary_loss(p, t, from_logits, gamma=0.0, one=1.0, zero=1.0):
    entropy = t * _softplus(-p) + (1 - t) * _softplus(p)
    if from_logits:
        p = 1 / (1 + math.exp(-p))
    else:
        entropy = -t * math.log(_clip(p)) - (1 - t) * math.log(1 - _clip(p))
    return (t * one + (1 - t) * zero) * (1 - (t * p + (1 - t) * (1 - p))) ** gamma * entropy


def _huber(p, t, delta=1.0):
    error = abs(p - t)
    return error**2 / 2 if error <= delta else delta * (error - delta / 2)


def _divergence(p, t):
    p, t = min(max(p, 1e-7), 1.0), min(max(t, 1e-7), 1.0)
    return t * math.log(t / p)


# Of one output and its label, and the kind's parameters.
ELEMENT_LOSSES = {
    "mean_squared_error": lambda p, t: (p - t) ** 2,
    "mean_absolute_error": lambda p, t: abs(p - t),
    "mean_absolute_percentage_error": lambda p, t: 100 * abs(p - t) / max(abs(t), 1e-7),
    "mean_squared_logarithmic_error": lambda p, t: math.log((max(p, 1e-7) + 1) / (max(t, 1e-7) + 1)) ** 2,
    "huber": _huber,
    "log_cosh": lambda p, t: math.log(math.cosh(p - t)),
    "poisson": lambda p, t: p - t * math.log(p + 1e-7),
    "kl_divergence": _divergence,
    "hinge": lambda p, t: max(0.0, 1 - t * p),
    "squared_hinge": lambda p, t: max(0.0, 1 - t * p) ** 2,
}


def _clip(p):
    return min(max(p, 1e-7), 1 - 1e-7)


# --- derivatives ---


def central_difference(function, x, step=1e-5, entries=None):
    """The gradient of a function of a float64 array to a number, at some or all of its flat entries.

    With entries the result is 1-D, in their order.
    """
    x = np.array(x, np.float64)
    flat = x.reshape(-1)
    places = range(flat.size) if entries is None else entries
    gradient = np.zeros(len(places))
    for k, place in enumerate(places):
        kept = flat[place]
        flat[place] = kept + step
        above = function(x)
        flat[place] = kept - step
        gradient[k] = (above - function(x)) / (2 * step)
        flat[place] = kept
    return gradient.reshape(x.shape) if entries is None else gradient


def weight_difference(function, weight, step=1e-5, entries=None):
    """As central_difference for a float32 array that `function()` reads.

    It is changed in place, and restored; what float32 makes of the step is what is divided by.
    """
    flat = weight.reshape(-1)
    places = range(flat.size) if entries is None else entries
    gradient = np.zeros(len(places))
    for k, place in enumerate(places):
        kept = flat[place]
        flat[place] = kept + np.float32(step)
        above, high = function(), float(flat[place])
        flat[place] = kept - np.float32(step)
        gradient[k] = (above - function()) / (high - float(flat[place]))
        flat[place] = kept
    return gradient.reshape(weight.shape) if entries is None else gradient
