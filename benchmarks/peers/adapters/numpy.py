"""Plain NumPy: im2col, BLAS products, a backward pass and Adam written by hand.
The others must agree with it before they are timed."""

from __future__ import annotations

LIBRARY = "numpy"
ENVIRONMENT = "numpy"
INSTRUCTION_SETS = True
_TRAINING = ("im2col", "im2col-tuned")
VARIANTS = {"W1": _TRAINING, "W1e": _TRAINING, "W2": _TRAINING, "W3": _TRAINING, "W4": ("im2col-tuned",),
            "W6": ("im2col-tuned",), "W7": ("im2col-tuned",)}


def columns(np, x, case):
    """(N * OH * OW, KH * KW * C): the window of every output pixel."""
    if case.border:
        b = case.border
        x = np.pad(x, ((0, 0), (b, b), (b, b), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (case.extent, case.extent), axis=(1, 2))
    windows = windows[:, ::case.stride, ::case.stride, :, ::case.dilation, ::case.dilation]
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, case.size**2 * x.shape[3])


def by_group(np, values, kernel, case, subscripts):
    """The products of every group's columns (m pixels, t taps, g groups, c channels) or filters (m, g, f)."""
    if case.groups == 1:
        matrix = kernel.reshape(-1, case.filters)
        return values @ (matrix if subscripts.endswith("f") else matrix.T)
    taps, split = case.size**2, (case.groups, case.filters // case.groups)
    shape = (-1, *split) if subscripts.startswith("mgf") else (-1, taps, case.groups, case.channels // case.groups)
    result = np.einsum(subscripts, values.reshape(shape), kernel.reshape(taps, -1, *split), optimize=True)
    return result.reshape(len(values), -1)


def conv_backward_input(np, dy, kernel, shape, case):
    n, oh, ow, filters = dy.shape
    _, height, width, channels = shape
    d = by_group(np, dy.reshape(-1, filters), kernel, case, "mgf,tcgf->mtgc")
    d = d.reshape(n, oh, ow, case.size, case.size, channels)
    b, s = case.border, case.stride
    dx = np.zeros((n, height + 2 * b, width + 2 * b, channels), np.float32)
    for i in range(case.size):
        for j in range(case.size):
            top, left = i * case.dilation, j * case.dilation
            dx[:, top:top + (oh - 1) * s + 1:s, left:left + (ow - 1) * s + 1:s] += d[:, :, :, i, j]
    return dx[:, b:b + height, b:b + width]


def _quarters(x):
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    return [x[:, i:height:2, j:width:2] for i in (0, 1) for j in (0, 1)]


def pool(np, x):
    a, b, c, d = _quarters(x)
    y = np.maximum(a, b)
    np.maximum(y, c, out=y)
    return np.maximum(y, d, out=y)


def pool_backward(np, x, y, dy):
    dx = np.zeros_like(x)
    free = np.ones(y.shape, bool)
    for part, to in zip(_quarters(x), _quarters(dx)):
        mask = (part == y) & free
        np.multiply(dy, mask, out=to)
        free &= ~mask
    return dx


def softmax(np, z):
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return p


def cross_entropy(np, z, y):
    """The mean loss and its gradient."""
    p = softmax(np, z)
    rows = np.arange(len(y))
    loss = -np.log(p[rows, y]).mean()
    p[rows, y] -= 1
    p /= np.float32(len(y))
    return loss, p


class Model:
    def __init__(self, np, network):
        from .. import workloads as wl

        self.np, self.wl, self.network = np, wl, network
        self.weights = wl.initial_weights(network)
        self.moments = [(np.zeros_like(w), np.zeros_like(w)) for w in self.weights]
        self.steps = 0

    def forward(self, x):
        """The logits, and what the backward pass needs of every layer."""
        np, wl = self.np, self.wl
        weights, saved = iter(self.weights), []
        for layer in self.network.layers:
            match layer:
                case wl.Conv():
                    case = wl.Convolution(*x.shape, layer.filters, layer.size, layer.padding)
                    kernel, bias = next(weights), next(weights)
                    patches = columns(np, x, case)
                    y = (patches @ kernel.reshape(-1, layer.filters)).reshape(len(x), *case.output_size, -1)
                    y += bias
                    np.maximum(y, 0, out=y)
                    saved.append((case, patches, x.shape, kernel, y))
                case wl.Pool():
                    y = pool(np, x)
                    saved.append((x, y))
                case wl.Flatten():
                    y = x.reshape(len(x), -1)
                    saved.append(x.shape)
                case wl.Dense():
                    kernel, bias = next(weights), next(weights)
                    y = x @ kernel
                    y += bias
                    if layer.relu:
                        np.maximum(y, 0, out=y)
                    saved.append((x, kernel, y))
            x = y
        return x, saved

    def step(self, x, y):
        np, wl = self.np, self.wl
        logits, saved = self.forward(x)
        loss, d = cross_entropy(np, logits, y)
        correct = (logits.argmax(1) == y).sum()
        gradients = []
        for number, layer in reversed(list(enumerate(self.network.layers))):
            match layer:
                case wl.Conv():
                    case, patches, shape, kernel, output = saved[number]
                    d = d * (output > 0)
                    dw = patches.T @ d.reshape(-1, layer.filters)
                    gradients += [d.sum((0, 1, 2)), dw.reshape(kernel.shape)]
                    if number:
                        d = conv_backward_input(np, d, kernel, shape, case)
                case wl.Pool():
                    d = pool_backward(np, *saved[number], d)
                case wl.Flatten():
                    d = d.reshape(saved[number])
                case wl.Dense():
                    inputs, kernel, output = saved[number]
                    if layer.relu:
                        d = d * (output > 0)
                    gradients += [d.sum(0), inputs.T @ d]
                    d = d @ kernel.T
        self._adam(reversed(gradients))
        return loss, correct

    def _adam(self, gradients):
        np, wl = self.np, self.wl
        self.steps += 1
        first, second = 1 - wl.BETA_1**self.steps, 1 - wl.BETA_2**self.steps
        for w, (m, v), g in zip(self.weights, self.moments, gradients, strict=True):
            m += np.float32(1 - wl.BETA_1) * (g - m)
            v += np.float32(1 - wl.BETA_2) * (g * g - v)
            scale = np.sqrt(v / np.float32(second)) + np.float32(wl.EPSILON)
            w -= np.float32(wl.LEARNING_RATE / first) * m / scale


class Engine:
    def __init__(self, variant, threads):
        import numpy

        self.np = numpy

    def trainer(self, network, x, y, batch):
        model = Model(self.np, network)

        def epoch(rows):
            results = [model.step(x[i], y[i]) for i in rows]
            return float(sum(loss for loss, _ in results) / len(rows))
        return epoch

    def fit(self, network, training, validation, batch, epochs):
        (x, y), (xv, yv) = training, validation
        model, random = Model(self.np, network), self.np.random.default_rng(0)
        for _ in range(epochs):
            order = random.permutation(len(x))
            for i in range(0, len(x), batch):
                model.step(x[order[i:i + batch]], y[order[i:i + batch]])
            logits, _ = model.forward(xv)
            loss, accuracy = cross_entropy(self.np, logits, yv)[0], (logits.argmax(1) == yv).mean()
        return loss, accuracy

    def predictor(self, network, batch):
        model = Model(self.np, network)
        return lambda x: softmax(self.np, model.forward(x)[0])

    def convolution(self, case, x, kernel, dy):
        np = self.np

        def forward():
            y = by_group(np, columns(np, x, case), kernel, case, "mtgc,tcgf->mgf")
            return y.reshape(case.images, *case.output_size, case.filters)

        def backward_kernel():
            patches, d = columns(np, x, case), dy.reshape(-1, case.filters)
            if case.groups == 1:
                return (patches.T @ d).reshape(kernel.shape)
            patches = patches.reshape(len(d), case.size**2, case.groups, -1)
            return np.einsum("mtgc,mgf->tcgf", patches, d.reshape(len(d), case.groups, -1),
                             optimize=True).reshape(kernel.shape)
        return forward, lambda: conv_backward_input(np, dy, kernel, x.shape, case), backward_kernel

    def max_pool(self, x, dy):
        y = pool(self.np, x)
        return lambda: pool(self.np, x), lambda: pool_backward(self.np, x, y, dy)

    def softmax_cross_entropy(self, logits, labels):
        return lambda: cross_entropy(self.np, logits, labels)[0]
