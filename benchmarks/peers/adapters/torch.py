"""PyTorch on the CPU: eager and torch.compile, NCHW and channels_last ("cl"); for prediction
also traced, frozen and optimised ("jit-opt")."""

from __future__ import annotations

LIBRARY = "torch"
ENVIRONMENT = "torch"
INSTRUCTION_SETS = True
_TRAINING = ("eager-nchw", "eager-cl", "eager-nchw-tuned", "compile-nchw-tuned")
VARIANTS = {
    "W1": _TRAINING, "W2": _TRAINING,
    "W1e": ("eager-nchw", "eager-nchw-tuned", "compile-nchw-tuned", "compile-nchw-coldcache"),
    "W3": ("eager-nchw", "eager-cl", "jit-opt", "jit-opt-tuned", "compile-nchw-tuned"),
    "W4": ("nchw-tuned", "cl-tuned"), "W6": ("nchw-tuned", "cl-tuned"), "W7": ("nchw-tuned", "cl-tuned"),
}


class Engine:
    def __init__(self, variant, threads):
        import os
        import tempfile

        self.words = variant.split("-")
        if "compile" in self.words:
            os.environ.setdefault("TORCHINDUCTOR_CPP_WRAPPER", "1")  # least overhead a step
            if "coldcache" in self.words:
                self._cache = tempfile.TemporaryDirectory()
                os.environ["TORCHINDUCTOR_CACHE_DIR"] = self._cache.name
        import torch

        torch.set_num_threads(threads)
        self.torch = torch
        self.layout = torch.channels_last if "cl" in self.words else torch.contiguous_format

    def _images(self, x):
        return self.torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=self.layout)

    def _model(self, network):
        from .. import workloads as wl

        nn = self.torch.nn
        weights = iter(wl.channels_first_weights(network))
        modules = []
        for layer in network.layers:
            match layer:
                case wl.Pool():
                    modules.append(nn.MaxPool2d(2))
                    continue
                case wl.Flatten():
                    modules.append(nn.Flatten())
                    continue
                case wl.Conv():
                    border = layer.size // 2 if layer.padding == "same" else 0
                    module = nn.Conv2d(layer.channels, layer.filters, layer.size, padding=border)
                case wl.Dense():
                    module = nn.Linear(layer.inputs, layer.units)
            with self.torch.no_grad():
                module.weight.copy_(self.torch.from_numpy(next(weights)))
                module.bias.copy_(self.torch.from_numpy(next(weights)))
            modules.append(module)
            if isinstance(layer, wl.Conv) or layer.relu:
                modules.append(nn.ReLU())
        return nn.Sequential(*modules).to(memory_format=self.layout)

    def _step(self, network):
        """The model and step(x, y, loss, correct), which trains and adds to the last two."""
        from .. import workloads as wl

        torch, model = self.torch, self._model(network)
        adam = torch.optim.Adam(model.parameters(), lr=wl.LEARNING_RATE, betas=(wl.BETA_1, wl.BETA_2),
                                eps=wl.EPSILON, fused=True)

        def forward(x, y):
            logits = model(x)
            return torch.nn.functional.cross_entropy(logits, y), (logits.detach().argmax(1) == y).sum()
        run = torch.compile(forward, dynamic=False) if "compile" in self.words else forward

        def step(x, y, total_loss, total_correct):
            loss, correct = run(x, y)
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
            total_loss += loss.detach()
            total_correct += correct
        return model, step

    def _batch(self, x, rows):
        return x[rows].contiguous(memory_format=self.layout)

    def trainer(self, network, x, y, batch):
        torch = self.torch
        x, y = self._images(x), torch.from_numpy(y)
        _, step = self._step(network)

        def epoch(rows):
            loss, correct = torch.zeros(()), torch.zeros((), dtype=torch.int64)
            for i in torch.from_numpy(rows):
                step(self._batch(x, i), y[i], loss, correct)
            correct.item()
            return loss.item() / len(rows)
        return epoch

    def fit(self, network, training, validation, batch, epochs):
        torch = self.torch
        x, y = self._images(training[0]), torch.from_numpy(training[1])
        xv, yv = self._images(validation[0]), torch.from_numpy(validation[1])
        model, step = self._step(network)
        for _ in range(epochs):
            loss, correct = torch.zeros(()), torch.zeros((), dtype=torch.int64)
            for i in torch.randperm(len(x)).split(batch):
                step(self._batch(x, i), y[i], loss, correct)
            with torch.inference_mode():
                logits = model(xv)
                result = (torch.nn.functional.cross_entropy(logits, yv).item(),
                          (logits.argmax(1) == yv).float().mean().item())
        return result

    def predictor(self, network, batch):
        torch = self.torch
        height, width, channels = network.input_shape
        model = torch.nn.Sequential(self._model(network), torch.nn.Softmax(1)).eval()
        with torch.inference_mode():
            if "jit" in self.words:
                traced = torch.jit.trace(model, torch.zeros(batch, channels, height, width))
                model = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
            elif "compile" in self.words:
                torch._inductor.config.freezing = True
                model = torch.compile(model, dynamic=False)
        plain = channels == 1 and "cl" not in self.words  # NHWC and NCHW have the same bytes

        def predict(x):
            with torch.inference_mode():
                x = torch.from_numpy(x)
                return model(x.view(-1, channels, height, width) if plain else x.permute(0, 3, 1, 2)).numpy()
        return predict

    def convolution(self, case, x, kernel, dy):
        torch = self.torch
        x, dy = self._images(x), self._images(dy)
        kernel = torch.from_numpy(kernel).permute(3, 2, 0, 1).contiguous(memory_format=self.layout)
        pairs = [case.stride] * 2, [case.border] * 2, [case.dilation] * 2
        how = dict(zip(("stride", "padding", "dilation", "groups"), (*pairs, case.groups), strict=True))

        def backward(which):
            mask = [i == which for i in range(3)]
            arguments = (dy, x, kernel, [case.filters], *pairs, False, [0, 0], case.groups, mask)
            return lambda: torch.ops.aten.convolution_backward(*arguments)[which]
        return lambda: torch.nn.functional.conv2d(x, kernel, **how), backward(0), backward(1)

    def max_pool(self, x, dy):
        torch = self.torch
        x, dy = self._images(x), self._images(dy)
        _, index = torch.ops.aten.max_pool2d_with_indices(x, [2, 2], [2, 2])
        backward = torch.ops.aten.max_pool2d_with_indices_backward
        return (lambda: torch.nn.functional.max_pool2d(x, 2),
                lambda: backward(dy, x, [2, 2], [2, 2], [0, 0], [1, 1], False, index))

    def softmax_cross_entropy(self, logits, labels):
        torch = self.torch
        logits, labels = torch.from_numpy(logits).requires_grad_(), torch.from_numpy(labels)

        def run():
            logits.grad = None
            loss = torch.nn.functional.cross_entropy(logits, labels)
            loss.backward()
            return loss.detach()
        return run
