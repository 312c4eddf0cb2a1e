"""The programs of three TensorFlow.js tutorials, line for line, on the real sprite.

What they must reach is what Keras 3.15 (TensorFlow 2.21, CPU) reached with the same
settings on the same images: the lowest of five seeds, or of three for the longer
programs.  One run from fixed weights in fixed order is compared figure by figure.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from tinyconv import Sequential, datasets, engine, layers, optimizers

IMAGE_WIDTH, IMAGE_HEIGHT, IMAGE_CHANNELS = 28, 28, 1
NUM_OUTPUT_CLASSES = 10
CLASS_NAMES = ["Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine"]

needs_speed = pytest.mark.skipif(engine.backend() == "numpy", reason="takes minutes on the NumPy backend")


@pytest.fixture
def sprite_folder(data_folder):
    folder = data_folder / "mnist"
    if not folder.is_dir():
        pytest.skip(f"no sprite: {folder} is not there")
    return folder


@pytest.fixture
def data(sprite_folder):
    return datasets.MnistData(sprite_folder, seed=1).load()


def images_of(xs: np.ndarray) -> np.ndarray:
    return xs.reshape(len(xs), IMAGE_WIDTH, IMAGE_HEIGHT, IMAGE_CHANNELS)


def get_model(optimizer="adam", dropout: float | None = None) -> Sequential:
    model = Sequential(seed=1)
    model.add(layers.conv2d(
        input_shape=(IMAGE_WIDTH, IMAGE_HEIGHT, IMAGE_CHANNELS), kernel_size=5, filters=8, strides=1,
        activation="relu", kernel_initializer="variance_scaling"))
    model.add(layers.max_pooling2d(pool_size=(2, 2), strides=(2, 2)))
    model.add(layers.conv2d(kernel_size=5, filters=16, strides=1, activation="relu",
                            kernel_initializer="variance_scaling"))
    model.add(layers.max_pooling2d(pool_size=(2, 2), strides=(2, 2)))
    model.add(layers.flatten())
    if dropout is not None:
        model.add(layers.dropout(rate=dropout))
    model.add(layers.dense(units=NUM_OUTPUT_CLASSES, kernel_initializer="variance_scaling",
                           activation="softmax"))
    model.compile(optimizer=optimizer, loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def at_least(keras: float, images: int) -> float:
    """What an accuracy as good as Keras' stays above: three standard errors of a share of so many images."""
    return keras - 3 * math.sqrt(keras * (1 - keras) / images)


# At Adam's default rate, the tutorial's, these 110 steps are too few for 0.95: Keras ends between 0.901
# and 0.931, and so does tinyconv.  0.95 is the goal at 0.005, where Keras ends between 0.951 and 0.970.
@needs_speed
@pytest.mark.parametrize(("learning_rate", "validation", "prediction", "worst_class"), [
    (0.001, at_least(0.901, 1000), at_least(0.900, 500), at_least(0.745, 50)),
    (0.005, 0.95, at_least(0.954, 500), at_least(0.894, 50)),
], ids=["rate-0.001", "rate-0.005"])
def test_tutorial_handwritten_digits(data, capsys, learning_rate, validation, prediction, worst_class):
    """Adam, 5,500 and 1,000 images, batches of 512, 10 epochs; then 500 predictions."""
    batch_size, train_data_size, test_data_size = 512, 5500, 1000
    model = get_model(optimizers.Adam(learning_rate))
    model.summary()
    assert "Total params: 5,994" in capsys.readouterr().out

    train_xs, train_ys = data.next_train_batch(train_data_size)
    test_xs, test_ys = data.next_test_batch(test_data_size)
    history = model.fit(images_of(train_xs), train_ys, batch_size=batch_size,
                        validation_data=(images_of(test_xs), test_ys), epochs=10, shuffle=True, verbose=0)
    assert set(history.history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert history.epoch == list(range(10))
    assert history.history["val_accuracy"][-1] >= validation

    xs, test_labels = data.next_test_batch(500)
    labels = test_labels.argmax(axis=-1)
    predictions = model.predict(images_of(xs)).argmax(axis=-1)
    class_accuracy = {}
    for index, name in enumerate(CLASS_NAMES):
        of_class = labels == index
        assert of_class.sum() > 20
        class_accuracy[name] = float(np.mean(predictions[of_class] == index))
    assert np.mean(predictions == labels) >= prediction
    assert min(class_accuracy.values()) >= worst_class


def test_tutorial_fit_on_one_batch_at_a_time(data):
    """SGD 0.15, `fit` on a batch of 64, 100 times; validation every fifth time."""
    learning_rate, batch_size, train_batches = 0.15, 64, 100
    test_batch_size, test_iteration_frequency = 1000, 5
    if engine.backend() == "numpy":  # so that it takes seconds there
        test_batch_size = 100
    model = get_model(optimizers.SGD(learning_rate))
    losses, accuracies, validations = [], [], []
    for i in range(train_batches):
        xs, labels = data.next_train_batch(batch_size)
        validation_data = None
        if i % test_iteration_frequency == 0:
            test_xs, test_labels = data.next_test_batch(test_batch_size)
            validation_data = (images_of(test_xs), test_labels)
        history = model.fit(images_of(xs), labels, batch_size=batch_size, validation_data=validation_data,
                            epochs=1, verbose=0)
        assert ("val_loss" in history.history) == (validation_data is not None)
        losses.append(history.history["loss"][0])
        accuracies.append(history.history["accuracy"][0])
        if validation_data is not None:
            validations.append(history.history["val_accuracy"][0])
    assert model.optimizer.iterations == train_batches
    assert len(validations) == train_batches // test_iteration_frequency
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) / 4  # Keras: from 2.0 to 0.21 ... 0.26
    assert np.mean(accuracies[-10:]) >= at_least(0.922, 10 * batch_size)
    assert validations[-1] >= at_least(0.936, test_batch_size)


@pytest.mark.slow
@needs_speed
def test_tutorial_with_dropout(data):
    """Dropout 0.9, 1,000 and 200 images, batches of 50, 100 epochs."""
    batch_size, train_data_size, test_data_size = 50, 1000, 200
    model = get_model(dropout=0.9)
    train_xs, train_ys = data.next_train_batch(train_data_size)
    test_xs, test_ys = data.next_test_batch(test_data_size)
    history = model.fit(images_of(train_xs), train_ys, batch_size=batch_size,
                        validation_data=(images_of(test_xs), test_ys), epochs=100, shuffle=True, verbose=0)
    figures = history.history
    assert len(figures["loss"]) == 100
    assert figures["val_accuracy"][-1] >= at_least(0.925, test_data_size)
    # Only a tenth of the features are there in training, all of them in validation.
    assert figures["val_loss"][-1] < figures["loss"][-1]
    assert figures["loss"][-1] < figures["loss"][0] / 2  # Keras: from 2.5 to 0.51 ... 0.67


# Keras' losses, from the weights of `fixed_weights` on the first images of each part, not shuffled.
KERAS_ADAM = {
    "loss": [2.251174, 1.995315, 1.583546, 1.043623, 0.655968, 0.485046, 0.403476, 0.350935, 0.316650,
             0.288003],
    "val_loss": [2.143073, 1.839701, 1.344280, 0.856375, 0.603051, 0.491004, 0.416373, 0.369187, 0.336654,
                 0.312341],
    "val_accuracy": [0.397, 0.637, 0.726, 0.777, 0.816, 0.847, 0.870, 0.892, 0.898, 0.903],
}
KERAS_SGD = {
    "loss": [2.34043, 1.98007, 1.48052, 0.55792, 0.48593, 0.60716, 0.85343, 0.16953, 0.21896, 0.22649,
             0.16760, 0.20179],  # every ninth
    "val_loss": [2.33486, 2.19185, 1.90318, 1.45262, 1.21812, 0.79947, 0.70613, 0.50950, 0.49938, 0.47285,
                 0.38016, 0.40247, 0.36589, 0.34200, 0.31505, 0.32580, 0.27574, 0.28870, 0.25890, 0.28240],
}
# Over a hundred float32 steps the order of the sums shows: this was 1.4e-4 of the last loss away, and the
# instruction sets are 5e-5 from each other.  Batches of 511 are 2e-3 away, as is Adam's epsilon at 1e-6.
OF_KERAS = {"rel": 3e-4}


def fixed_weights(model: Sequential) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.normal(0, 1 / math.sqrt(w[..., 0].size), w.shape).astype(np.float32) if w.ndim > 1
            else np.zeros_like(w) for w in model.get_weights()]


@pytest.fixture
def in_order(sprite_folder):
    """Training and test images and labels as the sprite has them: x (N, 28, 28, 1) in [0, 1], y (N, 10)."""
    return [(images[:6400, ..., None] / np.float32(255), np.eye(10, dtype=np.float32)[labels[:6400]])
            for images, labels in datasets.mnist.load_data(sprite_folder)]


@needs_speed
def test_tutorial_losses_of_adam_are_those_of_keras(in_order):
    (x, y), (x_test, y_test) = in_order
    model = get_model("adam")
    model.set_weights(fixed_weights(model))
    figures = model.fit(x[:5500], y[:5500], batch_size=512, epochs=10, shuffle=False,
                        validation_data=(x_test[:1000], y_test[:1000]), verbose=0).history
    assert figures["loss"] == pytest.approx(KERAS_ADAM["loss"], **OF_KERAS)
    assert figures["val_loss"] == pytest.approx(KERAS_ADAM["val_loss"], **OF_KERAS)
    # One of the thousand images may lie on the border.
    assert figures["val_accuracy"] == pytest.approx(KERAS_ADAM["val_accuracy"], abs=1.5e-3)


@needs_speed
def test_tutorial_losses_of_sgd_are_those_of_keras(in_order):
    (x, y), (x_test, y_test) = in_order
    model = get_model(optimizers.SGD(0.15))
    model.set_weights(fixed_weights(model))
    losses, validations = [], []
    for i in range(100):
        batch = slice(64 * i, 64 * (i + 1))
        validation_data = (x_test[:1000], y_test[:1000]) if i % 5 == 0 else None
        history = model.fit(x[batch], y[batch], batch_size=64, validation_data=validation_data, verbose=0)
        losses += history.history["loss"]
        validations += history.history.get("val_loss", [])
    assert losses[::9] == pytest.approx(KERAS_SGD["loss"], **OF_KERAS)
    assert validations == pytest.approx(KERAS_SGD["val_loss"], **OF_KERAS)
