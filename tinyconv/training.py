"""Training: what `Sequential` inherits from `Trainer`.

A training step is one call into the executor: it takes the whole data set and
the row numbers of the batch, and changes the weights in place.  What is random
follows from the model's seed, the number of epochs trained (shuffling) and the
optimizer's number of batches (dropout); all three are saved with the model, so
training that was interrupted goes on exactly as if it had not been.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyconv import data as adapters
from tinyconv import shapes
from tinyconv.callbacks import CallbackList, History
from tinyconv.data import Data
from tinyconv.evaluation import (
    DEFAULT_BATCH_SIZE,
    Callbacks,
    Evaluator,
    Results,
    as_results,
    batch_hooks,
    by_name,
)
from tinyconv.interrupts import Interrupts
from tinyconv.objective import Objective
from tinyconv.progress import Progress, verbosity
from tinyconv.sources import Stream, is_stream, warn_of_end
from tinyconv.utils import check_number, check_seed

if TYPE_CHECKING:
    from tinyconv.engine.reference import Executor

__all__ = ["Trainer"]


@dataclass
class _Fit:
    """What a call of `fit` is to do, and the figures of the epoch that it is in."""

    data: Data | Stream
    validation: Data | Stream | None
    batch_size: int
    steps: int | None  # at most so many batches an epoch
    count: int | None  # as many as there are, as far as that is known
    first: int
    epochs: int
    shuffle: bool
    class_weight: Any
    validation_batch_size: int | None
    validation_steps: int | None
    due: Callable[[int], bool]  # whether to validate after an epoch, counted from 1
    level: int  # of what is printed: 0, 1 or 2
    logs: dict[str, float] = field(default_factory=dict)


class Trainer(Evaluator):
    """A network with `compile`, `fit`, `evaluate` and `predict`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.history: History | None = None
        self.stop_training = False
        self.interrupted = False  # whether Ctrl-C ended the last `fit`
        self._initial_epoch: int | None = None  # set by a callback that restores a backup
        self._epochs_seen = 0
        self._steps_made = 0
        super().__init__(*args, **kwargs)

    # --- fit ---

    def fit(self, x: Any = None, y: Any = None, batch_size: int | None = None, epochs: int = 1,
            verbose: str | int = "auto", callbacks: Callbacks = None, validation_split: float = 0.0,
            validation_data: Any = None, shuffle: bool = True, class_weight: Any = None,
            sample_weight: Any = None, initial_epoch: int = 0, steps_per_epoch: int | None = None,
            validation_steps: int | None = None, validation_batch_size: int | None = None,
            validation_freq: int | Iterable[int] = 1) -> History:
        """Trains for a number of epochs.

        Ctrl-C ends it after the step that runs: the history of the epochs so far is returned, the
        model can be used, and `interrupted` is set.  A second Ctrl-C raises `KeyboardInterrupt`.

        Args:
            x: Inputs (N, ...), uint8 or float32; other numbers are converted, once, or batch by batch
                where x is a `numpy.memmap`. Or an iterable of batches (x, y) or (x, y, sample_weight):
                a generator, a PyTorch DataLoader, an object with `__len__` and `__getitem__`.
                Arrays may stand in a list of their own, as in Keras: `fit([x], [y])`.
            y: Labels, one-hot (N, classes) or class ids (N,), as the loss wants them.
            batch_size: Samples a step; the last batch of an epoch may be smaller. Defaults to 32.
            epochs: The epoch to stop before, counted from 0: from initial_epoch=0 on, how many. Defaults to 1.
            verbose: 0 silent, 1 a progress bar, 2 a line an epoch. Defaults to `"auto"`: 1.
            callbacks: Callbacks to call while training.
            validation_split: Share of the samples, the last ones, to validate with. Defaults to 0.
            validation_data: (x, y), (x, y, sample_weight) or an iterable of batches to validate with instead.
            shuffle: Whether every epoch visits the samples (of an object with `__getitem__` the batches)
                in an order of its own. Defaults to `True`.
            class_weight: dict from class id to the weight of its samples in the loss; validation does without.
            sample_weight: Weight of every sample in the loss, (N,).
            initial_epoch: The epoch to start at. Defaults to 0.
            steps_per_epoch: At most so many batches an epoch; the next epoch goes on where it ended, up to
                the end of the data, where a shorter epoch ends as well. Defaults to all.
            validation_steps: At most so many batches a validation. Defaults to all.
            validation_batch_size: Samples a batch of validation, where it matters: see `evaluate`.
                Defaults to batch_size.
            validation_freq: Validate every n-th epoch, or after the epochs (from 1) of a list. Defaults to 1.

        Returns:
            `History`: its `history` has the figures of every epoch, means over the samples.

        Raises:
            ValueError: If shapes, lengths or values do not fit each other or the model.
            TypeError: If an argument has a wrong type.
        """
        epochs = shapes.check_integer(epochs, "epochs", 0)
        first = shapes.check_integer(initial_epoch, "initial_epoch", 0)
        steps = None if steps_per_epoch is None else shapes.check_integer(steps_per_epoch, "steps_per_epoch")
        for name, value in (("validation_steps", validation_steps),
                            ("validation_batch_size", validation_batch_size)):
            if value is not None:
                shapes.check_integer(value, name)
        due = _validation_epochs(validation_freq)
        level = verbosity(verbose)
        data, validation = self._sources(x, y, sample_weight, class_weight, batch_size, shuffle, validation_data,
                                         validation_split)
        size = DEFAULT_BATCH_SIZE if batch_size is None else batch_size
        task = _Fit(data=data, validation=validation, batch_size=size, steps=steps, count=_steps(data, size, steps),
                    first=first, epochs=epochs, shuffle=bool(shuffle), class_weight=class_weight,
                    validation_batch_size=validation_batch_size, validation_steps=validation_steps, due=due,
                    level=level)
        params = {"verbose": level, "epochs": epochs, "steps": task.count, "validation": validation is not None}
        if isinstance(data, Data):
            params["samples"] = len(data.x)
        history = History()
        listeners = CallbackList([*CallbackList(callbacks).callbacks, history], self, params)
        self.history, self.stop_training, self.interrupted, self._initial_epoch = history, False, False, None
        before = self._steps_made
        with Interrupts() as interrupts:
            try:
                with interrupts.allowed():
                    listeners.call("on_train_begin", {})
                    self._fit_epochs(task, listeners, interrupts)
            except KeyboardInterrupt:
                if not interrupts.first():
                    raise
                self.interrupted = True
            finally:
                if self._steps_made > before:  # else an average is one of an earlier training
                    self._finalize_weights()
            self.interrupted = self.interrupted or interrupts.came()
        if self.interrupted:
            self.stop_training = True
            if level:
                print(f"Interrupted: training ends after {len(history.epoch)} whole epochs.", flush=True)
        listeners.call("on_train_end", task.logs)
        return history

    def _sources(self, x: Any, y: Any, sample_weight: Any, class_weight: Any, batch_size: int | None, shuffle: bool,
                 validation_data: Any, validation_split: float | None) -> tuple[Data | Stream, Data | Stream | None]:
        """What `fit` trains with, and what it validates with, if anything."""
        share = 0.0 if validation_split is None else check_number(validation_split, "validation_split", 0.0, 1.0,
                                                                  exclusive=True)
        data = self._source(x, y, sample_weight, class_weight, batch_size,
                            order=self._order() if shuffle else None)
        if validation_data is not None:
            return data, self._validation_source(validation_data)
        if not share:
            return data, None
        if is_stream(x) or not isinstance(data, Data):
            raise ValueError("Expected arrays for validation_split; give validation_data. "
                             f"Received: x={type(x).__name__}, validation_split={validation_split}")
        data, validation = adapters.split_validation(data, share)
        if class_weight is not None:  # of the training alone; sample_weight and class_weight exclude each other
            validation = validation._replace(sample_weight=None)
        return data, validation

    def _fit_epochs(self, task: _Fit, listeners: CallbackList, interrupts: Interrupts) -> None:
        for epoch in range(task.first if self._initial_epoch is None else self._initial_epoch, task.epochs):
            listeners.call("on_epoch_begin", epoch, {})
            progress = Progress(task.level, f"Epoch {epoch + 1}/{task.epochs}", task.count)
            try:
                batches = self._batches(task, epoch - task.first)
                task.logs, done = self._train_epoch(batches, listeners, progress, interrupts)
                if not done:
                    raise ValueError("Expected at least one batch an epoch. Received: x that yields none")
                self._epochs_seen += 1
                if task.validation is not None and task.due(epoch + 1):
                    results = self._evaluate(task.validation, task.validation_batch_size, task.validation_steps,
                                             listeners, task.batch_size)
                    task.logs.update({f"val_{name}": value for name, value in by_name(results).items()})
                listeners.call("on_epoch_end", epoch, task.logs)
                progress.end(task.logs, done)
            finally:
                progress.close()
            if self.stop_training or (isinstance(task.data, Stream) and task.data.exhausted):
                break

    def _validation_source(self, validation_data: Any) -> Data | Stream:
        if is_stream(validation_data):
            return self._source(validation_data, None, None, prefix="validation ")
        return self._source(*adapters.unpack(validation_data), prefix="validation ")

    def _batches(self, task: _Fit, epoch: int) -> Generator[tuple[Data, np.ndarray | None], None, None]:
        """The batches of one epoch, counted from where `fit` began: data, and which rows of them (None: all)."""
        source, size, steps = task.data, task.batch_size, task.steps
        seed, number = self._order()
        if isinstance(source, Stream):
            for x, y, weight in source.epoch(steps, (seed, number) if task.shuffle else None):
                yield self._prepare(x, y, weight, task.class_weight), None
            return
        count = -(-len(source.x) // size)
        begun = epoch % -(-count // steps) if steps else 0  # how many epochs ago the data began
        order = adapters.epoch_order(len(source.x), task.shuffle, seed, max(0, number - begun))
        parts = adapters.batches(order, size, begun * (steps or 0), steps)
        for rows in parts:
            yield adapters.ready(source, rows)
        if steps is not None and len(parts) < steps:
            warn_of_end("x", len(parts))

    def _order(self) -> tuple[int, int]:
        """What the order of an epoch's samples or batches follows from."""
        return self._seed, self._epochs_seen

    def _finalize_weights(self) -> None:
        """The weights become their moving average, where the optimizer keeps one."""
        if self.optimizer.use_ema and self.optimizer.built:
            self.optimizer.finalize_variable_values()
            self._weights_changed()
            self._notify_sharers()

    def _ready_to_train(self) -> Executor:
        """The executor, after whatever changed since the last step was seen to."""
        self._refresh_trainable()
        self._build_optimizer()
        return self._executor()

    def _train_epoch(self, batches: Generator[tuple[Data, np.ndarray | None], None, None], listeners: CallbackList,
                     progress: Progress, interrupts: Interrupts) -> tuple[dict[str, float], int]:
        """The figures of an epoch and its number of batches."""
        executor, objective = self._ready_to_train(), self._resolve()
        objective.reset()
        sums = np.zeros(1 + len(objective.counted))
        samples = batch = 0
        listening = listeners.listens(*batch_hooks("train"))
        tick = progress.batch
        with self._telling(), closing(batches):
            for data, indices in batches:
                if listening:
                    listeners.call("on_train_batch_begin", batch, {})
                with interrupts.held():
                    sums += self._step(executor, objective, data, indices)
                samples += len(data.x if indices is None else indices)
                if tick is not None:
                    tick()
                if listening:
                    self._notify_sharers()
                    listeners.call("on_train_batch_end", batch, by_name(objective.results(sums, samples)))
                batch += 1
                if self.stop_training:
                    break
        return by_name(objective.results(sums, samples)), batch

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """However what runs inside ends: models that share layers with this one hear that training wrote them."""
        try:
            yield
        finally:
            self._notify_sharers()

    def _step(self, executor: Executor, objective: Objective, data: Data,
              indices: np.ndarray | None) -> np.ndarray:
        """One batch: forward, backward, update.  Returns the sums of the loss and the counted metrics."""
        x, y, weight = data
        self._steps_made += 1
        optimizer = self.optimizer
        step = optimizer.batches
        predictions = objective.buffer(len(x if indices is None else indices)) if objective.others else None
        arguments = optimizer.kind, optimizer.hyperparameters(step), optimizer.state, step
        options = optimizer.options(step)
        optimizer.batches = step + 1  # before the step: Ctrl-C strikes as soon as it is done
        try:
            sums = executor.train_step(x, y, objective.loss, *arguments, objective.counted, indices, weight,
                                       predictions, options)
        except Exception:  # the step was not made
            optimizer.batches = step
            raise
        if predictions is not None:
            rows = slice(None) if indices is None else indices
            objective.update(y[rows], predictions, None if weight is None else weight[rows])
        return sums

    def train_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None,
                       return_dict: bool = False) -> Results:
        """One training step.

        Args:
            x, y, sample_weight, class_weight: As in `fit`.
            return_dict: Whether to return a dict. Defaults to `False`.

        Returns:
            Loss and metrics of this batch, before the update, as `evaluate` returns them.
        """
        data = self._prepare(x, y, sample_weight, class_weight)
        executor, objective = self._ready_to_train(), self._resolve()
        objective.reset()
        with self._telling():
            sums = self._step(executor, objective, data, None)
        return as_results(objective.results(sums, len(data.x)), return_dict)

    # --- what is saved besides weights and optimizer ---

    def get_training_state(self) -> dict[str, Any]:
        """What the order of the samples and the random numbers of further training follow from."""
        return {"seed": self._seed, "epochs_seen": self._epochs_seen}

    def set_training_state(self, state: dict[str, Any]) -> None:
        """Takes over what `get_training_state` returned.

        Raises:
            ValueError: If a number is out of range.
            TypeError: If state is no dict.
        """
        if not isinstance(state, dict):
            raise TypeError(f"Expected state to be a dict. Received: state={state!r}")
        seed = check_seed(state.get("seed", self._seed))
        epochs = shapes.check_integer(state.get("epochs_seen", self._epochs_seen), "epochs_seen", 0)
        self._seed, self._epochs_seen = seed, epochs
        self._forget_program()


def _steps(source: Data | Stream, size: int, steps: int | None) -> int | None:
    """The number of batches an epoch; None where it is not known."""
    known = source.steps if isinstance(source, Stream) else -(-len(source.x) // size)
    if steps is None or isinstance(source, Stream) or known is None:
        return known if steps is None else steps
    return min(steps, known)


def _validation_epochs(frequency: Any) -> Callable[[int], bool]:
    """Whether to validate after an epoch, counted from 1."""
    if isinstance(frequency, (list, tuple, set, frozenset, range)):
        chosen = {shapes.check_integer(epoch, "validation_freq") for epoch in frequency}
        return chosen.__contains__
    every = shapes.check_integer(frequency, "validation_freq")
    return lambda epoch: epoch % every == 0
