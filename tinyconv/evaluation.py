"""Loss, metrics and predictions of a model: what `Trainer` builds on."""

from __future__ import annotations

import copy
import math
from collections.abc import Generator, Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyconv import data as adapters
from tinyconv import losses, optimizers, shapes
from tinyconv.callbacks import Callback, CallbackList
from tinyconv.data import Data
from tinyconv.network import Network
from tinyconv.objective import Objective, check_metrics, serialize_metric
from tinyconv.progress import Progress, verbosity
from tinyconv.sources import Stream, is_stream
from tinyconv.utils import check_number, warn

if TYPE_CHECKING:
    from tinyconv.engine.reference import Executor
    from tinyconv.metrics import Metric

__all__ = ["DEFAULT_BATCH_SIZE", "Evaluator", "as_results", "batch_hooks", "by_name"]

Results = float | list[float] | dict[str, float]
Callbacks = Callback | CallbackList | Iterable[Callback] | None

# Values of the largest activation of an evaluated batch, where the caller leaves its size open.
_EVALUATION_VALUES = 1 << 22
# Keras'.
DEFAULT_BATCH_SIZE = 32


class Evaluator(Network):
    """A network with `compile`, `evaluate` and `predict`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.optimizer: Any  # an optimizers.Optimizer, once compiled
        self.loss: Any
        self._loss: losses.Loss | None
        self._metrics: list[Any]
        self._weighted_metrics: list[Any]
        self._objective: Objective | None
        self._forget_training()
        super().__init__(*args, **kwargs)

    # --- compile ---

    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, loss_weights: Any = None,
                metrics: Any = None, weighted_metrics: Any = None, run_eagerly: bool = False,
                steps_per_execution: int = 1, jit_compile: Any = "auto",
                auto_scale_loss: bool = True) -> None:
        """Says how to train.

        Args:
            optimizer: Name, class, instance or config, such as `"adam"` or `SGD(0.15)`.
            loss: Name, class, instance or function, such as `"categorical_crossentropy"`; or a list of one.
            metrics: List of names, instances or functions `f(y_true, y_pred)`, also in a list for the one
                output. `"accuracy"` picks the kind that fits the loss and the output. Defaults to none.
            loss_weights: Factor of the loss, a number or a list of one. Defaults to 1.
            weighted_metrics: Metrics that count samples by their weights. Defaults to none.
            run_eagerly, steps_per_execution, jit_compile, auto_scale_loss: Accepted for scripts
                that pass them; they do not change what the engine does.

        Raises:
            ValueError: If a name is unknown or an argument is not supported.
        """
        self._compile(optimizer, loss, loss_weights, metrics, weighted_metrics, self.built)

    def _compile(self, optimizer: Any, loss: Any, loss_weights: Any, metrics: Any, weighted_metrics: Any,
                 check: bool) -> None:
        """As `compile`.

        Args:
            check: Whether metrics that do not fit the output are refused, before anything is kept. Without
                it training refuses them: layers may still come, and a model whose layers changed since
                `compile` can be saved and copied as it is.
        """
        if isinstance(loss_weights, (list, tuple)) and len(loss_weights) == 1:
            loss_weights = loss_weights[0]
        weight = 1.0 if loss_weights is None else check_number(loss_weights, "loss_weights")
        while isinstance(loss, (list, tuple)) and len(loss) == 1:
            loss = loss[0]
        if loss is None:
            raise ValueError("Expected a loss such as 'categorical_crossentropy'. Received: loss=None")
        loss = losses.KERAS_2_NAMES.get(loss, loss) if isinstance(loss, str) else loss
        new_optimizer, new_loss = optimizers.get(optimizer), losses.get(loss)
        new_loss.lower()  # refuses what no model can train with
        plain, weighted = check_metrics(metrics), check_metrics(weighted_metrics)
        if check:
            Objective(new_loss, plain, self._output_shape, weighted, weight)
        self._metrics, self._weighted_metrics = plain, weighted
        self._loss_weight = weight
        self.optimizer, self.loss, self._loss = new_optimizer, loss, new_loss
        self._objective = None

    def _forget_training(self) -> None:
        """As before `compile`."""
        self.optimizer, self.loss, self._loss, self._objective = None, None, None, None
        self._metrics, self._weighted_metrics, self._loss_weight = [], [], 1.0

    @property
    def compiled(self) -> bool:
        """Whether `compile` was called."""
        return self._loss is not None

    @property
    def metrics_names(self) -> list[str]:
        """`"loss"` and the names of the metrics, in the order of what `evaluate` returns."""
        return list(self._resolve().names)

    @property
    def metrics(self) -> list[Metric]:
        """The metrics themselves, in the order of `metrics_names` behind "loss"."""
        return list(self._resolve().metrics)

    def _metric_direction(self, name: str) -> str | None:
        """Which way the metric of this name improves, "up" or "down"; None where it does not say."""
        known = dict(zip(self.metrics_names[1:], self.metrics))
        return known[name].direction if name in known else None

    def get_compile_config(self) -> dict[str, Any] | None:
        """Optimizer, loss and metrics as JSON can hold them; None before `compile`.

        Metrics that are the user's own functions are left out, with a warning.
        """
        if self._loss is None or self.optimizer is None:
            return None
        metrics = [serialize_metric(metric) for metric in self._metrics]
        weighted = [serialize_metric(metric) for metric in self._weighted_metrics]
        if None in [*metrics, *weighted]:
            warn("A file cannot hold a metric that is a Python function: it is left out.")
        settings: dict[str, Any] = {
            "optimizer": optimizers.serialize(self.optimizer),
            "loss": self.loss if isinstance(self.loss, str) else losses.serialize(self._loss),
            "metrics": [metric for metric in metrics if metric is not None],
        }
        if weighted:
            settings["weighted_metrics"] = [metric for metric in weighted if metric is not None]
        if self._loss_weight != 1:
            settings["loss_weights"] = self._loss_weight
        return settings

    def _compile_like(self, model: Evaluator) -> None:
        """Compiles as another model is, with an optimizer, a loss and metrics of its own."""
        self._compile(model.optimizer.fresh(), copy.copy(model.loss), model._loss_weight,
                      copy.deepcopy(model._metrics), copy.deepcopy(model._weighted_metrics), check=False)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles from what `get_compile_config` returned.

        A built model's optimizer is then ready for `set_weights`.
        """
        self._compile_from(config, self.built)

    def _compile_from(self, config: dict[str, Any], check: bool = False) -> None:
        """As `compile_from_config`; `check` as of `_compile`."""
        self._compile(config["optimizer"], config["loss"], config.get("loss_weights"), config.get("metrics"),
                      config.get("weighted_metrics"), check)
        if self.built:
            self._build_optimizer()

    def _build_optimizer(self) -> None:
        program = self.program
        self.optimizer.build(program.weights, program.trainable, [weight.name for weight in self.weights])

    def _resolve(self) -> Objective:
        """Loss and metrics for the model's output."""
        if self._loss is None:
            raise ValueError(f"Model '{self.name}' must be compiled first: "
                             "call model.compile(optimizer, loss).")
        if self._objective is None:
            if not self.built:
                raise ValueError(f"Model '{self.name}' must be built first: call model.build(input_shape).")
            self._objective = Objective(self._loss, self._metrics, self._output_shape,
                                        self._weighted_metrics, self._loss_weight)
        return self._objective

    def _forget_program(self) -> None:
        super()._forget_program()
        self._objective = None

    # --- data ---

    def _source(self, x: Any, y: Any, sample_weight: Any, class_weight: Any = None,
                batch_size: int | None = None, prefix: str = "",
                order: tuple[int, int] | None = None) -> Data | Stream:
        """Arrays, checked and converted, or an iterable of batches, which are checked one by one."""
        if batch_size is not None:
            shapes.check_integer(batch_size, "batch_size")
        if not is_stream(x):
            return self._prepare(x, y, sample_weight, class_weight, prefix, lazy=True)
        for name, value in (("y", y), ("sample_weight", sample_weight), ("batch_size", batch_size)):
            if value is not None:
                raise ValueError(f"Expected {name} to be None where {prefix}x yields batches. "
                                 f"Received: {prefix}x={type(x).__name__} and {name}")
        stream = Stream(x, f"{prefix}x", order)
        if self._loss is None:
            self._resolve()  # raises
        if not self.built:
            self._ensure_built(stream.first()[0])
        return stream

    def _prepare(self, x: Any, y: Any, sample_weight: Any, class_weight: Any = None,
                 prefix: str = "", lazy: bool = False) -> Data:
        """Checked and converted data; builds the model where only data tell its input shape."""
        if self._loss is None:
            self._resolve()  # raises
        if not self.built:
            self._ensure_built(adapters.as_array(adapters.only_array(x), f"{prefix}x"))
        objective = self._resolve()
        x = adapters.as_inputs(x, self._input_shape, f"{prefix}x", lazy)
        y = adapters.as_labels(y, objective.loss, self._output_shape, f"{prefix}y")
        if len(x) != len(y):
            raise ValueError(f"Expected as many labels as inputs. Received: {len(x)} in {prefix}x, "
                             f"{len(y)} in {prefix}y")
        if len(x) == 0:
            raise ValueError(f"Expected at least one sample. Received: {prefix}x.shape={x.shape}")
        weight = adapters.as_sample_weight(sample_weight, len(x), f"{prefix}sample_weight")
        if class_weight is not None:
            if weight is not None:
                raise ValueError("Expected either class_weight or sample_weight. Received: both")
            weight = adapters.class_weights(class_weight, y, self._output_shape)
        return Data(x, y, weight)

    # --- evaluate and predict ---

    def evaluate(self, x: Any = None, y: Any = None, batch_size: int | None = None,
                 verbose: str | int = "auto", sample_weight: Any = None, steps: int | None = None,
                 callbacks: Callbacks = None, return_dict: bool = False) -> Results:
        """Loss and metrics, means over the samples; dropout is off.

        Args:
            x, y, sample_weight: As in `fit`; x may be an iterable of batches.
            batch_size: Samples a batch. Defaults to 32 where a loss or a function of one's own depends on
                what is in a batch; other results do not, and the batches are as large as is quick.
            verbose: 0 silent, 1 or 2 one line. Defaults to `"auto"`: 1.
            steps: At most so many batches (of 32 where no batch_size is given). Defaults to all.
            callbacks: Callbacks to call.
            return_dict: Whether to return a dict. Defaults to `False`.

        Returns:
            The loss, or where there are metrics a list of loss and metrics, or a dict by name.

        Raises:
            ValueError: If shapes, lengths or values do not fit each other or the model.
            TypeError: If an argument has a wrong type.
        """
        level = verbosity(verbose)
        source = self._source(x, y, sample_weight, batch_size=batch_size)
        listeners = CallbackList(callbacks, self, {"verbose": level})
        progress = Progress(2 if level else 0, "", 1)
        results = self._evaluate(source, batch_size, steps, listeners)
        progress.end(by_name(results))
        return as_results(results, return_dict)

    def _evaluate(self, source: Data | Stream, batch_size: int | None, steps: int | None,
                  listeners: CallbackList, usual: int = DEFAULT_BATCH_SIZE) -> dict[str, float]:
        self._refresh_trainable()  # frozen weights have no penalty
        executor, objective = self._executor(), self._resolve()
        listening = listeners.listens(*batch_hooks("test"))
        objective.reset()
        sums = np.zeros(1 + len(objective.counted))
        samples = 0
        listeners.call("on_test_begin", {})
        usual = usual if listening or steps is not None or objective.by_batch else 0
        with closing(self._test_batches(source, batch_size, steps, usual)) as batches:
            for batch, data in enumerate(batches):
                if listening:
                    listeners.call("on_test_batch_begin", batch, {})
                sums += self._measure(executor, objective, data)
                samples += len(data.x)
                if listening:
                    listeners.call("on_test_batch_end", batch, by_name(objective.results(sums, samples)))
        if not samples:
            raise ValueError("Expected at least one batch to evaluate; a generator can be read to its end once. "
                             "Received: an iterable that yields none")
        results = objective.results(sums, samples)
        listeners.call("on_test_end", by_name(results))
        return results

    def _test_batches(self, source: Data | Stream, batch_size: int | None, steps: int | None,
                      usual: int) -> Generator[Data, None, None]:
        if isinstance(source, Stream):
            source.restart()  # every validation looks at the same batches
            for x, y, weight in source.epoch(steps):
                yield self._prepare(x, y, weight)
            return
        for start, stop in self._cuts(len(source.x), batch_size, steps, usual):
            yield adapters.ready(source.slice(start, stop))[0]

    def _measure(self, executor: Executor, objective: Objective, data: Data) -> np.ndarray:
        predictions = objective.buffer(len(data.x))
        sums = executor.evaluate(data.x, data.y, objective.loss, objective.counted, None, data.sample_weight,
                                 predictions)
        if predictions is not None:
            objective.update(data.y, predictions, data.sample_weight)
        return sums

    def _cuts(self, samples: int, batch_size: int | None, steps: int | None, usual: int) -> list[tuple[int, int]]:
        """Start and stop of every batch of an evaluation.

        Args:
            samples: How many there are.
            batch_size: What the caller wants; None: `usual`, or where that is 0, because nobody can tell
                the batches, as large as memory makes sensible.
            steps: At most so many batches.
            usual: Keras' size of a batch here, or 0.
        """
        if batch_size is not None:
            size = shapes.check_integer(batch_size, "batch_size")
        elif usual:
            size = usual
        else:
            largest = max(math.prod(op.output_shape) for op in self.program.ops) if self.program.ops else 1
            size = min(1024, max(32, _EVALUATION_VALUES // largest))
        cuts = [(start, min(start + size, samples)) for start in range(0, samples, size)]
        return cuts if steps is None else cuts[:shapes.check_integer(steps, "steps")]

    def predict(self, x: Any, batch_size: int | None = None, verbose: str | int = "auto",
                steps: int | None = None, callbacks: Callbacks = None) -> np.ndarray:
        """The outputs for any number of samples.  Needs no `compile`; safe to call from many threads.

        Args:
            x: Inputs (N, ...), as in `fit`, or an iterable of batches of them; what else a batch holds
                is not used.
            batch_size: Samples a batch. Defaults to what fits caches and memory.
            verbose: 1 or 2 shows a line or a bar. Defaults to `"auto"`: silent.
            steps: At most so many batches (of 32 where no batch_size is given). Defaults to all.
            callbacks: Callbacks to call.

        Returns:
            float32 array (N, *output shape).

        Raises:
            ValueError: If x is empty or its shape is not that of the model's inputs.
            TypeError: If x does not hold real numbers.
        """
        level = verbosity(verbose, auto=0)
        listeners = CallbackList(callbacks, self, {"verbose": level})
        listening = listeners.listens(*batch_hooks("predict"))
        if is_stream(x):
            if batch_size is not None:
                raise ValueError("Expected batch_size to be None where x yields batches. "
                                 f"Received: batch_size={batch_size}")
            stream = Stream(x)
            if not self.built:
                self._ensure_built(stream.first()[0])
            count = stream.steps if steps is None else shapes.check_integer(steps, "steps")
            batches = (adapters.as_inputs(part, self._input_shape) for part, _, _ in stream.epoch(steps))
        else:
            if not self.built:
                self._ensure_built(adapters.as_array(adapters.only_array(x), "x"))
            x = adapters.as_inputs(x, self._input_shape, lazy=True)
            if len(x) == 0:
                raise ValueError(f"Expected at least one sample. Received: x.shape={x.shape}")
            cuts = self._cuts(len(x), batch_size, steps, DEFAULT_BATCH_SIZE if listening or steps is not None else 0)
            count = len(cuts)
            batches = (adapters.as_inputs(x[start:stop], self._input_shape) for start, stop in cuts)
        return self._predict(batches, count, level, listeners, listening)

    def _predict(self, batches: Generator[np.ndarray, None, None], count: int | None, level: int,
                 listeners: CallbackList, listening: bool) -> np.ndarray:
        progress = Progress(level, "", count)
        outputs: list[np.ndarray] = []
        listeners.call("on_predict_begin", {})
        try:
            with closing(batches):
                for batch, x in enumerate(batches):
                    if listening:
                        listeners.call("on_predict_batch_begin", batch, {})
                    outputs.append(self._forward(x))
                    if progress.batch is not None:
                        progress.batch()
                    if listening:
                        listeners.call("on_predict_batch_end", batch, {"outputs": outputs[-1]})
            progress.end({}, len(outputs))
        finally:
            progress.close()
        if not outputs:
            raise ValueError("Expected at least one batch to predict. Received: x that yields none")
        listeners.call("on_predict_end", {})
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None,
                      return_dict: bool = False) -> Results:
        """Loss and metrics of one batch; arguments and result as in `evaluate`."""
        data = self._prepare(x, y, sample_weight)
        objective = self._resolve()
        objective.reset()
        self._refresh_trainable()
        sums = self._measure(self._executor(), objective, data)
        return as_results(objective.results(sums, len(data.x)), return_dict)

    def predict_on_batch(self, x: Any) -> np.ndarray:
        """The outputs for one batch, (N, *output shape)."""
        return self(x, training=False)

    def reset_metrics(self) -> None:
        """For scripts that call it: metrics here never carry over from one call to the next."""


def batch_hooks(kind: str) -> tuple[str, str]:
    """The hooks of callbacks around the batches of "train", "test" or "predict"."""
    return f"on_{kind}_batch_begin", f"on_{kind}_batch_end"


def by_name(results: dict[str, float]) -> dict[str, float]:
    """By name: the order in which Keras 3 records and prints them."""
    return dict(sorted(results.items()))


def as_results(results: dict[str, float], return_dict: bool) -> Results:
    """What `evaluate` returns: a dict; or the values, or where there is only the loss, that alone."""
    if return_dict:
        return by_name(results)
    values = list(results.values())
    return values if len(values) > 1 else values[0]
