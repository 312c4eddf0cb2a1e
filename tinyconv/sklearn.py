"""A classifier for scikit-learn; needs it installed (`pip install tinyconv[sklearn]`).

    from tinyconv.sklearn import Classifier

    digits = Classifier(image_shape=(8, 8, 1), epochs=30, random_state=0)
    cross_val_score(make_pipeline(MinMaxScaler(), digits), x, y)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinyconv import layers, optimizers
from tinyconv.models import Sequential, clone_model
from tinyconv.shapes import check_integer, check_shape
from tinyconv.utils import check_number, missing_extra, seed_scope

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError:
    raise missing_extra("scikit-learn", "sklearn", "The classes of tinyconv.sklearn") from None

__all__ = ["Classifier"]


class Classifier(ClassifierMixin, BaseEstimator):
    """A network that scikit-learn can fit, score, clone, and search the parameters of.

    scikit-learn's arrays have two dimensions, (samples, features); `image_shape` says how
    the features of a sample are an image. Images as they are, (samples, *image_shape), are taken too.

    Args:
        model: A function `f(input_shape, classes)` that returns a `Sequential` ending in a softmax over the
            classes; a copy of it is trained, which begins with its weights, be they loaded or adapted, or
            drawn by `random_state`. None for a convolutional network like that of the MNIST tutorial where
            `image_shape` has a height and a width of 8 or more, else for one hidden layer of 64 units.
        image_shape: Shape of a sample, such as (28, 28, 1). Defaults to None: (features,).
        optimizer: Name, config or instance; an instance is not changed. Defaults to None: `Adam(0.005)`,
            which suits small sets of samples.
        learning_rate: A number or a schedule that replaces the optimizer's, for searches. Defaults to
            None: the optimizer's own.
        batch_size: Samples a step. Defaults to 32.
        epochs: Defaults to 20.
        validation_split: Share of the samples, the last ones, that only validate. Defaults to 0.
        class_weight: dict from label to weight, `"balanced"`, or None. Defaults to None.
        callbacks: List of callbacks for `fit`. Defaults to None.
        verbose: As of `Sequential.fit`. Defaults to 0.
        random_state: Seed or `numpy.random.RandomState`: what weights, order and dropout follow
            from. Defaults to None: every fit is different.
        warm_start: Whether `fit` goes on with the weights of the last one. Defaults to `False`.

    Attributes:
        classes_: The labels, sorted.
        model_: The `Sequential` that was fitted.
        history_: Its history: dict from `"loss"`, `"accuracy"`, ... to a list with a value an epoch.
        n_features_in_: Number of features of a sample.
        n_iter_: Number of epochs that the last `fit` ran.
    """

    classes_: np.ndarray

    def __init__(self, model: Callable[..., Sequential] | None = None, *, image_shape: tuple[int, ...] | None = None,
                 optimizer: Any = None, learning_rate: Any = None, batch_size: int = 32, epochs: int = 20,
                 validation_split: float = 0.0, class_weight: Any = None, callbacks: Any = None,
                 verbose: int = 0, random_state: Any = None, warm_start: bool = False) -> None:
        # As scikit-learn wants it: kept as given, checked in fit.
        self.model = model
        self.image_shape = image_shape
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.epochs = epochs
        self.validation_split = validation_split
        self.class_weight = class_weight
        self.callbacks = callbacks
        self.verbose = verbose
        self.random_state = random_state
        self.warm_start = warm_start

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Classifier:
        """Trains on samples X, (N, features) or (N, *image_shape), with one label each.

        Raises:
            ValueError: If shapes, labels or parameters do not fit.
        """
        return self._fit(X, y, sample_weight, None, check_integer(self.epochs, "epochs"), bool(self.warm_start))

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Classifier:
        """One more epoch over these samples.

        Args:
            X, y, sample_weight: As in `fit`.
            classes: All labels there will be; needed by the first call.

        Raises:
            ValueError: If the first call has no classes, or samples do not fit.
        """
        if classes is None and not hasattr(self, "classes_"):
            raise ValueError("Expected classes at the first call of partial_fit. Received: classes=None")
        return self._fit(X, y, sample_weight, classes, 1, True)

    def _fit(self, X: Any, y: Any, sample_weight: Any, classes: Any, epochs: int, go_on: bool) -> Classifier:
        kept = self.__dict__.copy()
        try:
            return self._train(X, y, sample_weight, classes, epochs, go_on)
        except Exception:  # what was fitted before still holds together
            self.__dict__ = kept
            raise

    def _train(self, X: Any, y: Any, sample_weight: Any, classes: Any, epochs: int, go_on: bool) -> Classifier:
        first = not (go_on and hasattr(self, "model_"))
        X, y = validate_data(self, self._flat(X), y, dtype=(np.float32, np.float64), reset=first)
        check_classification_targets(y)
        if first or classes is not None:
            known = np.unique(y if classes is None else classes)
            if not first and not np.array_equal(known, self.classes_):
                raise ValueError(f"Expected the classes of the first call. Received: classes={known.tolist()}")
            self.classes_ = known
        if len(self.classes_) < 2:
            raise ValueError("Expected labels of two classes or more. Received: 1 class")
        unknown = np.setdiff1d(y, self.classes_).tolist()
        if unknown:
            raise ValueError(f"Expected labels that are known already. Received: {unknown}")
        ids = np.searchsorted(self.classes_, y).astype(np.int32)
        shape = self._shape(X.shape[1])
        if first:
            self.model_ = self._compiled(shape, len(self.classes_))
        history = self.model_.fit(
            X.astype(np.float32).reshape(len(X), *shape), ids, sample_weight=self._weights(X, y, ids, sample_weight),
            batch_size=self.batch_size, epochs=epochs, validation_split=self.validation_split,
            callbacks=self.callbacks, verbose=self.verbose)
        self.history_ = history.history
        self.n_iter_ = len(history.epoch)
        return self

    def _compiled(self, shape: tuple[int, ...], classes: int) -> Sequential:
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with seed_scope(seed):
            if self.model is not None and not callable(self.model):
                raise TypeError(f"Expected model to be a function that returns a Sequential. Received: {self.model!r}")
            given = (default_network if self.model is None else self.model)(shape, classes)
            if not isinstance(given, Sequential):
                raise TypeError(f"Expected model to return a Sequential. Received: {given!r}")
            model = clone_model(given)
            if not model.built:
                model.build((None, *shape))
        if given.built:
            model.set_weights(given.get_weights())
        if model.output_shape != (None, classes):
            raise ValueError(f"Expected model to return a network with {classes} outputs. "
                             f"Received: output_shape={model.output_shape}")
        optimizer = optimizers.Adam(0.005) if self.optimizer is None else optimizers.get(self.optimizer)
        optimizer = optimizer.fresh(self.learning_rate)
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    def _weights(self, X: np.ndarray, y: np.ndarray, ids: np.ndarray, sample_weight: Any) -> np.ndarray | None:
        """One weight a sample, from both arguments."""
        if sample_weight is None and self.class_weight is None:
            return None
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
        if isinstance(self.class_weight, str) and self.class_weight == "balanced":
            counts = np.bincount(ids, weights=weight, minlength=len(self.classes_))
            weight = weight * weight.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1e-300))[ids]
        elif self.class_weight is not None:
            if not isinstance(self.class_weight, dict):
                raise ValueError("Expected class_weight to be a dict, 'balanced' or None. "
                                 f"Received: class_weight={self.class_weight!r}")
            factors = {label: check_number(factor, "class_weight") for label, factor in self.class_weight.items()}
            weight = weight * np.array([factors.get(label, 1.0) for label in y.tolist()])
        return weight.astype(np.float32)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes, float32 (N, classes)."""
        check_is_fitted(self)
        X = validate_data(self, self._flat(X), dtype=(np.float32, np.float64), reset=False)
        return self.model_.predict(X.astype(np.float32).reshape(len(X), *self._shape(X.shape[1])), verbose=0)

    def predict(self, X: Any) -> np.ndarray:
        """The most likely label of every sample, (N,)."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]

    def _flat(self, X: Any) -> Any:
        """Images of `image_shape` as rows of features."""
        shape = getattr(X, "shape", ())
        if self.image_shape is None or len(shape) <= 2:
            return X
        image = tuple(self.image_shape)
        if tuple(shape[1:]) == image or (*shape[1:], 1) == image:  # as in Keras, a last 1 may be missing
            return np.asarray(X).reshape(len(X), -1)
        return X

    def _shape(self, features: int) -> tuple[int, ...]:
        if self.image_shape is None:
            return (features,)
        shape = check_shape(self.image_shape, "image_shape")
        if math.prod(shape) != features:
            raise ValueError(f"Expected samples of {math.prod(shape)} features for image_shape={shape}. "
                             f"Received: {features} features")
        return shape

    # A model itself is not pickled; its config and its arrays are, for those who copy estimators.

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        model = state.pop("model_", None)
        if model is not None:
            state["_saved"] = {"config": model.get_config(), "compile": model.get_compile_config(),
                               "weights": model.get_weights(), "optimizer": model.optimizer.get_weights(),
                               "training": model.get_training_state()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        saved = state.pop("_saved", None)
        super().__setstate__(state)
        if saved is not None:
            model = Sequential.from_config(saved["config"])
            model.set_training_state(saved["training"])
            model.set_weights(saved["weights"])
            model.compile_from_config(saved["compile"])
            model.optimizer.set_weights(saved["optimizer"])
            self.model_ = model


def default_network(input_shape: tuple[int, ...], classes: int) -> Sequential:
    """The network of the MNIST tutorial for images large enough, else one hidden layer."""
    model = Sequential([layers.Input(shape=input_shape)])
    if len(input_shape) == 3 and min(input_shape[:2]) >= 8:
        for filters in (8, 16):
            model.add(layers.Conv2D(filters, 5, padding="same", activation="relu"))
            model.add(layers.MaxPooling2D(2))
    model.add(layers.Flatten())
    if len(input_shape) != 3 or min(input_shape[:2]) < 8:
        model.add(layers.Dense(64, activation="relu"))
    model.add(layers.Dense(classes, activation="softmax"))
    return model
