"""JAX on the CPU: a jitted, donated training step, and whole epochs in one lax.scan ("scan").

XLA's gradients of convolutions are slow on the CPU, inside a scan slower still: "im2col"
writes convolutions as shifted slices and one product, pools as reshape and maximum."""

from __future__ import annotations

LIBRARY = "jax"
ENVIRONMENT = "jax"
INSTRUCTION_SETS = True
_TRAINING = ("step", "step-tuned", "step-im2col-tuned", "scan-im2col-tuned")
VARIANTS = {"W1": _TRAINING, "W2": _TRAINING, "W1e": ("step", "step-im2col-tuned", "scan-im2col-tuned"),
            "W3": ("jit", "jit-tuned", "jit-im2col-tuned"), "W4": ("jit-tuned", "jit-im2col-tuned"),
            "W6": ("jit-tuned", "jit-im2col-tuned")}


class Engine:
    def __init__(self, variant, threads):
        import os

        if threads == 1:
            os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
        import jax

        self.jax, self.jnp = jax, jax.numpy
        self.words = variant.split("-")

    # --- the network ---

    def _conv(self, x, kernel, border, stride=1, dilation=1):
        jax, jnp = self.jax, self.jnp
        if "im2col" not in self.words:
            return jax.lax.conv_general_dilated(x, kernel, (stride, stride), [(border, border)] * 2,
                                                rhs_dilation=(dilation, dilation),
                                                dimension_numbers=("NHWC", "HWIO", "NHWC"))
        size, _, _, filters = kernel.shape
        x = jnp.pad(x, ((0, 0), (border, border), (border, border), (0, 0)))
        extent = (size - 1) * dilation
        height, width = ((n - extent - 1) // stride + 1 for n in x.shape[1:3])
        taps = [x[:, i:i + (height - 1) * stride + 1:stride, j:j + (width - 1) * stride + 1:stride]
                for i in range(0, extent + 1, dilation) for j in range(0, extent + 1, dilation)]
        patches = jnp.stack(taps, 3).reshape(x.shape[0], height, width, -1)
        return patches @ kernel.reshape(-1, filters)

    def _pool(self, x):
        jax, jnp = self.jax, self.jnp
        if "im2col" not in self.words:
            return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        n, height, width, channels = x.shape
        x = x[:, :height // 2 * 2, :width // 2 * 2]
        return x.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))

    def _logits(self, network, weights, x):
        from .. import workloads as wl

        weights = iter(weights)
        for layer in network.layers:
            match layer:
                case wl.Conv():
                    border = layer.size // 2 if layer.padding == "same" else 0
                    x = self.jax.nn.relu(self._conv(x, next(weights), border) + next(weights))
                case wl.Pool():
                    x = self._pool(x)
                case wl.Flatten():
                    x = x.reshape(x.shape[0], -1)
                case wl.Dense():
                    x = x @ next(weights) + next(weights)
                    x = self.jax.nn.relu(x) if layer.relu else x
        return x

    def _loss(self, logits, y):
        return -self.jnp.take_along_axis(self.jax.nn.log_softmax(logits), y[:, None], 1).mean()

    # --- training ---

    def _initial(self, network):
        from .. import workloads as wl

        jnp = self.jnp
        weights = [jnp.asarray(w) for w in wl.initial_weights(network)]
        first, second = ([jnp.zeros_like(w) for w in weights] for _ in range(2))
        return weights, first, second, jnp.float32(0)

    def _update(self, network, state, x, y):
        """One step of Adam: (state, loss, correct)."""
        from .. import workloads as wl

        weights, first, second, steps = state

        def objective(weights):
            logits = self._logits(network, weights, x)
            return self._loss(logits, y), (logits.argmax(1) == y).sum()
        (loss, correct), gradients = self.jax.value_and_grad(objective, has_aux=True)(weights)
        steps = steps + 1
        first = [wl.BETA_1 * m + (1 - wl.BETA_1) * g for m, g in zip(first, gradients)]
        second = [wl.BETA_2 * v + (1 - wl.BETA_2) * g * g for v, g in zip(second, gradients)]
        rate, scale = wl.LEARNING_RATE / (1 - wl.BETA_1**steps), 1 - wl.BETA_2**steps
        weights = [w - rate * m / (self.jnp.sqrt(v / scale) + wl.EPSILON)
                   for w, m, v in zip(weights, first, second)]
        return (weights, first, second, steps), loss, correct

    def _step(self, network):
        """step(state, (loss, correct), x, y, rows) of one batch."""
        def step(state, totals, x, y, rows):
            state, loss, correct = self._update(network, state, x[rows], y[rows])
            return state, (totals[0] + loss, totals[1] + correct)
        return self.jax.jit(step, donate_argnums=(0, 1))

    def _scan(self, network):
        """scan(state, x, y, rows of all batches)."""
        def scan(state, x, y, rows):
            def body(state, i):
                state, loss, correct = self._update(network, state, x[i], y[i])
                return state, (loss, correct)
            state, (loss, correct) = self.jax.lax.scan(body, state, rows)
            return state, loss.sum(), correct.sum()
        return self.jax.jit(scan, donate_argnums=(0,))

    def _epoch(self, network, x, y):
        """The function epoch(state, rows) -> (state, mean loss)."""
        jnp = self.jnp
        x, y = jnp.asarray(x), jnp.asarray(y, jnp.int32)
        if "scan" in self.words:
            scan = self._scan(network)

            def epoch(state, rows):
                state, loss, correct = scan(state, x, y, rows)
                int(correct)
                return state, float(loss) / len(rows)
            return epoch
        step = self._step(network)

        def epoch(state, rows):
            totals = jnp.float32(0), jnp.int32(0)
            for i in rows:
                state, totals = step(state, totals, x, y, i)
            int(totals[1])
            return state, float(totals[0]) / len(rows)
        return epoch

    def trainer(self, network, x, y, batch):
        run, state = self._epoch(network, x, y), self._initial(network)

        def epoch(rows):
            nonlocal state
            state, loss = run(state, rows.astype("int32"))
            return loss
        return epoch

    def fit(self, network, training, validation, batch, epochs):
        import numpy as np

        jnp = self.jnp
        run, state, random = self._epoch(network, *training), self._initial(network), np.random.default_rng(0)
        xv, yv = jnp.asarray(validation[0]), jnp.asarray(validation[1], jnp.int32)

        @self.jax.jit
        def evaluate(weights):
            logits = self._logits(network, weights, xv)
            return self._loss(logits, yv), (logits.argmax(1) == yv).mean()
        samples = len(training[0])
        for _ in range(epochs):
            order = random.permutation(samples).astype(np.int32)
            if "scan" in self.words:  # takes batches of one size: drops the last, smaller one
                rows = order[:samples // batch * batch].reshape(-1, batch)
            else:  # the smaller batch compiles a second program
                rows = [order[i:i + batch] for i in range(0, samples, batch)]
            state, _ = run(state, rows)
            result = [float(value) for value in evaluate(state[0])]
        return result

    # --- the rest ---

    def predictor(self, network, batch):
        import numpy as np

        weights = self._initial(network)[0]
        run = self.jax.jit(lambda x: self.jax.nn.softmax(self._logits(network, weights, x)))
        return lambda x: np.asarray(run(x))

    def _timed(self, function, *arguments):
        compiled = self.jax.jit(function)
        arguments = [self.jax.device_put(a) for a in arguments]
        return lambda: self.jax.block_until_ready(compiled(*arguments))

    def convolution(self, case, x, kernel, dy):
        jax, jnp = self.jax, self.jnp

        def conv(x, kernel):
            return self._conv(x, kernel, case.border, case.stride, case.dilation)

        def backward_input(kernel, dy):
            return jax.vjp(lambda x: conv(x, kernel), jnp.zeros(x.shape))[1](dy)[0]

        def backward_kernel(x, dy):
            return jax.vjp(lambda kernel: conv(x, kernel), jnp.zeros(kernel.shape))[1](dy)[0]
        return (self._timed(conv, x, kernel), self._timed(backward_input, kernel, dy),
                self._timed(backward_kernel, x, dy))

    def max_pool(self, x, dy):
        def backward(x, dy):
            return self.jax.vjp(self._pool, x)[1](dy)[0]
        return self._timed(self._pool, x), self._timed(backward, x, dy)

    def softmax_cross_entropy(self, logits, labels):
        both = self._timed(self.jax.value_and_grad(self._loss), logits, labels.astype("int32"))
        return lambda: both()[0]
