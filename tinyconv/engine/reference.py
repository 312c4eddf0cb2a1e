"""Runs a `Program` in NumPy: the oracle of the tests, the yardstick of the benchmarks, and the
fallback where no compiler exists."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from tinyconv.engine import reference_objective as objective
from tinyconv.engine import reference_ops as ops
from tinyconv.engine import reference_update as updates
from tinyconv.engine.program import Loss, Metric, Program, UpdateOptions
from tinyconv.engine.reference_losses import measure
from tinyconv.engine.validate import check_batch, check_program, check_update

__all__ = ["Executor"]

# Images run in chunks of about this much working memory: with less, the calls cost more
# than the work; with more, nothing is gained.
_CHUNK_BYTES = 16 << 20

_CROSSENTROPIES = ("categorical_crossentropy", "sparse_categorical_crossentropy")


# (input, what backward needs) of every operation, then (output, None).
_Tape = list[tuple[Any, Any]]


class _Batch(NamedTuple):
    """One call's arguments, checked: see `Executor`."""

    x: np.ndarray
    y: Any
    indices: np.ndarray | None
    sample_weight: np.ndarray | None
    predictions: np.ndarray | None
    n: int

    def rows(self, start: int, stop: int) -> Any:
        """What selects the samples [start, stop) of the batch from x, y and sample_weight."""
        return slice(start, stop) if self.indices is None else self.indices[start:stop]


class _Objective(NamedTuple):
    """What is asked of a pass over a batch."""

    loss: Loss
    metrics: tuple[Metric, ...] = ()
    training: bool = False
    step: int = 0
    moving: bool = False  # whether the moving statistics of batch normalization move
    scale: float = 1.0  # of the losses of this batch
    parameters: tuple[float, ...] = ()


class Executor:
    """Executes a program.

    Args:
        program: What to run.  Its weights are read at every call and written by `train_step`.
        dtype: Of all computation and of the results: float32, or float64 as a reference for tests.

    Arguments that the methods share:
        x: uint8 or float32 (N, ...), N samples of H*W*C values.
        y: float32 (N, ...) of the output's size, or int32 (N, ...) with a class id a position
            for the sparse losses and metrics.
        indices: int64 (n,), the rows of x, y and sample_weight to take; None takes all in order.
        sample_weight: float32 (N,), factors of the samples' losses; None means 1.
        predictions: float32 (n, ...) of the output's size, overwritten with the outputs; or None.

    Raises (all methods):
        TypeError: If an argument has a wrong type or dtype.
        ValueError: If shapes do not fit, or an index or a label is out of range.
    """

    backend = "numpy"

    def __init__(self, program: Program, dtype: Any = np.float32) -> None:
        check_program(program)
        self.program = program
        self._dtype = np.dtype(dtype)
        # The first operation whose gradient somebody wants, and the last one before which
        # a cross-entropy is taken exactly.
        numbered = list(enumerate(program.ops))
        trained = [i for i, op in numbered if any(program.trainable[w] for w in op.weights)]
        self._lowest = min(trained, default=len(program.ops))
        self._last_activation = max((i for i, op in numbered if op.kind != "reshape"), default=0)

    def predict(self, x: np.ndarray, indices: np.ndarray | None = None) -> np.ndarray:
        """The outputs, (n, H, W, C)."""
        batch = _Batch(*check_batch(self.program, x, None, indices))
        output = np.empty((batch.n, *self.program.output_shape), self._dtype)
        weights = self._weights()
        with np.errstate(all="ignore"):
            for start, stop in self._chunks(batch.n, False):
                z = self._gather(batch, start, stop)
                for op in self.program.ops:
                    z, _ = ops.FORWARD[op.kind](op, z, [weights[w] for w in op.weights], None)
                output[start:stop] = z
        return output

    def evaluate(self, x: np.ndarray, y: np.ndarray, loss: Loss, metrics: tuple[Metric, ...] = (),
                 indices: np.ndarray | None = None, sample_weight: np.ndarray | None = None,
                 predictions: np.ndarray | None = None) -> np.ndarray:
        """[n times the batch's loss, sum of each metric over the samples], float64.

        The first is larger by n times the penalty of the trainable weights (`WeightRules`);
        "inner_product" has none.
        """
        batch = _Batch(*check_batch(self.program, x, y, indices, sample_weight, loss, metrics, predictions))
        return self._run(batch, _Objective(loss, tuple(metrics)), None, None)

    def train_step(self, x: np.ndarray, y: np.ndarray, loss: Loss, optimizer: str,
                   hyperparameters: tuple[float, ...], state: list[list[np.ndarray]], step: int,
                   metrics: tuple[Metric, ...] = (), indices: np.ndarray | None = None,
                   sample_weight: np.ndarray | None = None, predictions: np.ndarray | None = None,
                   options: UpdateOptions | None = None) -> np.ndarray:
        """Updates the trainable weights and the optimizer's state in place; sums as `evaluate`.

        optimizer and hyperparameters: a name in OPTIMIZERS and its numbers of this step.
        state: for every weight its arrays, float32 of the weight's shape.  step: keys the
        random numbers.  options: what the update does around the rule; None is nothing.  The
        sums are of the weights before the update, with dropout.
        """
        options = options or UpdateOptions()
        batch = _Batch(*check_batch(self.program, x, y, indices, sample_weight, loss, metrics, predictions))
        check_update(self.program, optimizer, hyperparameters, state, options)
        gradients = self._zero_gradients()
        sums = self._run(batch, _Objective(loss, tuple(metrics), True, step, True), gradients, None)
        if batch.n:
            with np.errstate(all="ignore"):
                updates.update(self.program, optimizer, hyperparameters, state, gradients, options)
        return sums

    def gradients(self, x: np.ndarray, y: np.ndarray, loss: Loss, step: int = 0, training: bool = True,
                  indices: np.ndarray | None = None, sample_weight: np.ndarray | None = None,
                  input_gradient: bool = False, value: bool = True,
                  ) -> tuple[np.ndarray, list[np.ndarray | None], np.ndarray | None]:
        """The gradients of sum(sample_weight * loss) / n and of the weights' penalties.

        "inner_product" is not divided by n and has no penalties: its gradients are
        vector-Jacobian products of the outputs alone.

        training: whether dropout is active, keyed by step.  value: False where the caller does
        not want the sum, which may then be anything.

        Returns:
            (sums, gradients, input gradient): the sum of the losses (1,), for every weight its
            gradient or None where it is not trainable, and (n, H, W, C) or None.
        """
        batch = _Batch(*check_batch(self.program, x, y, indices, sample_weight, loss))
        gradients = self._zero_gradients()
        dx = np.zeros((batch.n, *self.program.input_shape), self._dtype) if input_gradient else None
        sums = self._run(batch, _Objective(loss, (), bool(training), step), gradients, dx)
        return sums, gradients, dx

    def weights_changed(self) -> None:
        """To be called after anything but `train_step` wrote weights; here they are read afresh anyway."""

    def workspace_bytes(self, n: int, training: bool = True) -> int:
        """Bytes of working memory for a batch of n samples, about."""
        images = self._chunks(n, training, training)[0][1] if n else 0
        return images * ops.saved_values(self.program, training) * self._dtype.itemsize

    # --- one pass ---

    def _run(self, batch: _Batch, wanted: _Objective, gradients: list[np.ndarray | None] | None,
             dx: np.ndarray | None) -> np.ndarray:
        """Forward, and where gradients are given backward, chunk by chunk; gradients are added to."""
        sums = np.zeros(1 + len(wanted.metrics))
        height, width, _ = self.program.output_shape
        scale, parameters = wanted.loss.terms(batch.y, batch.indices, batch.sample_weight, batch.n, height * width)
        wanted = wanted._replace(scale=scale, parameters=parameters)
        weights = self._weights()
        lowest = 0 if dx is not None else self._lowest
        backward = gradients is not None and (dx is not None or lowest < len(self.program.ops))
        with np.errstate(all="ignore"):
            for start, stop in self._chunks(batch.n, backward, wanted.training):
                noise = ops.Noise(self.program.seed, wanted.step, start) if wanted.training else None
                tape = self._forward(self._gather(batch, start, stop), weights, noise, backward, wanted.moving)
                end, dy = self._measure(batch, start, stop, wanted, tape, sums)
                if not backward:
                    continue
                dz = self._backward(end, lowest, dy, tape, weights, gradients, dx is not None)
                if dx is not None:
                    dx[start:stop] = dz
            if batch.n and wanted.loss.kind != "inner_product":
                sums[0] += batch.n * updates.penalty(self.program)
                if gradients is not None:
                    updates.add_penalty_gradient(self.program, gradients)
        return sums

    def _forward(self, z: np.ndarray, weights: list[np.ndarray], noise: ops.Noise | None,
                 backward: bool, moving: bool) -> _Tape:
        """Runs every operation; without backward only what the loss may need is kept."""
        tape: _Tape = []
        for i, op in enumerate(self.program.ops):
            y, saved = ops.FORWARD[op.kind](op, z, [weights[w] for w in op.weights], noise)
            if moving and op.kind == "batch_normalization":
                ops.move_statistics(op, saved, [self.program.weights[w] for w in op.weights])
            keep = backward or i >= self._last_activation
            tape.append((z, saved) if keep else (None, None))
            z = y
        tape.append((z, None))
        return tape

    def _measure(self, batch: _Batch, start: int, stop: int, wanted: _Objective, tape: _Tape,
                 sums: np.ndarray) -> tuple[int, np.ndarray]:
        """Adds loss and metrics to sums; the operation to go back from, and the gradient of its input."""
        height, width, channels = self.program.output_shape
        shape = (stop - start, height * width, channels)
        rows, loss = batch.rows(start, stop), wanted.loss
        output, labels = tape[-1][0].reshape(shape), batch.y[rows]
        labels = labels.reshape(shape[:2] if labels.dtype.kind == "i" else shape)
        if batch.predictions is not None:
            batch.predictions.reshape(batch.n, *shape[1:])[start:stop] = output
        fused = not loss.from_logits and (
            self.program.softmax_output if loss.kind in _CROSSENTROPIES
            else loss.kind == "binary_crossentropy" and self.program.sigmoid_output)
        end = self._last_activation if fused else len(self.program.ops)
        measured = tape[end][0]
        values, gradient = measure(loss, wanted.parameters, fused or loss.from_logits, measured.reshape(shape), labels)
        if batch.sample_weight is not None:
            weight = batch.sample_weight[rows]
            values = values * weight
            # A sample of weight 0 does not train, whatever its gradient: not even a NaN.
            gradient = np.where(weight[:, None, None] == 0, 0, gradient * weight[:, None, None])
        sums[0] += wanted.scale * values.sum()
        for i, metric in enumerate(wanted.metrics):
            sums[1 + i] += objective.count(metric, output, labels).sum()
        if loss.kind != "inner_product":
            gradient = gradient * gradient.dtype.type(wanted.scale / batch.n)
        return end, gradient.reshape(measured.shape)

    def _backward(self, end: int, lowest: int, dy: np.ndarray, tape: _Tape,
                  weights: list[np.ndarray], gradients: list[np.ndarray | None] | None,
                  want_dx: bool) -> np.ndarray | None:
        """From the gradient of operation `end`'s input down to that of operation `lowest`'s."""
        dz: Any = dy
        for i in range(end - 1, lowest - 1, -1):
            op = self.program.ops[i]
            dz, parts = ops.BACKWARD[op.kind](op, dz, tape[i][1], [weights[w] for w in op.weights],
                                              want_dx or i > lowest)
            for w, part in zip(op.weights, parts):
                if gradients is not None and gradients[w] is not None:
                    gradients[w] += part
            tape[i] = (None, None)  # gives the memory back
        return dz

    # --- small things ---

    def _weights(self) -> list[np.ndarray]:
        return [weight.astype(self._dtype, copy=False) for weight in self.program.weights]

    def _zero_gradients(self) -> list[np.ndarray | None]:
        return [np.zeros(weight.shape, self._dtype) if trainable else None
                for weight, trainable in zip(self.program.weights, self.program.trainable)]

    def _gather(self, batch: _Batch, start: int, stop: int) -> np.ndarray:
        taken = batch.x[batch.rows(start, stop)].astype(self._dtype, copy=False)
        return taken.reshape(stop - start, *self.program.input_shape)

    def _chunk_size(self, training: bool) -> int:
        return max(1, _CHUNK_BYTES // (ops.saved_values(self.program, training) * self._dtype.itemsize))

    def _chunks(self, n: int, backward: bool, training: bool = False) -> list[tuple[int, int]]:
        """The batch in chunks of nearly equal size; in one where its statistics are taken."""
        whole = n and any(ops.takes_batch_statistics(op, training) for op in self.program.ops)
        count = 1 if whole else math.ceil(n / self._chunk_size(backward))
        return [(i * n // count, (i + 1) * n // count) for i in range(count)]
