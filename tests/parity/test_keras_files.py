"""Files of either library, read by the other: the same outputs, the same bits of weights, training goes on."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity.cases_layers import CASES
from parity.cases_optimizers import OPTIMIZERS
from parity.harness import assert_agrees, is_present, keras, make, random_array, tinyconv

pytest.importorskip("h5py", reason="the extra [keras] is not installed")

BATCH = 5
CLASSES = 3
# One operation at a time, which JAX compiles once for all tests: no whole step for every optimizer.
EAGER = True
PRESENT = [(shape, call) for shape, call in CASES if is_present(call)]
# Every layer in a .keras file, and in turn in one of the two kinds of .h5 files.
FILES = [(shape, call, name, dialect) for number, (shape, call) in enumerate(PRESENT)
         for name, dialect in (("model.keras", None), ("model.h5", ("keras2", None)[number % 2]))]


def test_every_layer_goes_into_a_file_of_each_kind():
    names = {type(make(tinyconv, call)).__name__ for _, call, *_ in FILES}
    base = tinyconv.layers.Layer
    layers = [value for name in tinyconv.layers.__all__ if isinstance(value := getattr(tinyconv.layers, name), type)]
    assert {layer.__name__ for layer in layers if issubclass(layer, base)} - names == {"InputLayer", "Layer"}


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # h5py and Keras' own.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield


def same_bits(ours: Any, theirs: Any) -> bool:
    pairs = zip(ours.get_weights(), theirs.get_weights(), strict=True)
    # Keras counts in integers.
    return all(a.shape == b.shape and a.tobytes() == np.asarray(b, np.float32).tobytes() for a, b in pairs)


def set_random_weights(model: Any) -> None:
    model.set_weights([
        np.full(w.shape, 7) if w.name == "count" else np.abs(random_array(w.shape, i, 0.5)) + np.float32(0.1)
        for i, w in enumerate(model.weights)])


@pytest.mark.parametrize(("name", "dialect"), [("model.keras", None), ("model.h5", None), ("model.h5", "keras2")])
def test_keras_passes_over_class_names_and_image_input(name, dialect, tmp_path):
    model = tinyconv.Sequential([tinyconv.Input((4, 4, 1)), tinyconv.layers.Flatten(), tinyconv.layers.Dense(2)])
    model.class_names = ["cat", "Hund"]
    model.image_input = tinyconv.ImageInput("content", True)
    model.save(tmp_path / name, dialect=dialect)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an .h5 file is Keras' legacy format
        theirs = keras.models.load_model(tmp_path / name, compile=False)
    assert same_bits(model, theirs)


@pytest.mark.parametrize(("shape", "call", "name", "dialect"), FILES,
                         ids=[f"{'x'.join(map(str, s))}-{c}-{n}-{d}" for s, c, n, d in FILES])
def test_layer_goes_to_keras_and_back(shape, call, name, dialect, tmp_path):
    model = tinyconv.Sequential([tinyconv.Input(shape), make(tinyconv, call)], seed=1)
    set_random_weights(model)
    if dialect == "keras2" and not isinstance(call.kwargs.get("axis", -1), int):
        pytest.skip("Keras 3 drops other axes when it reads Keras 2's files")
    try:
        model.save(tmp_path / name, dialect=dialect)
    except UserWarning as warning:
        assert dialect == "keras2", warning  # it says what Keras 2 does not have
        pytest.skip(str(warning))
    with warnings.catch_warnings():
        if dialect == "keras2":  # Keras 3 warns of arguments that it has renamed
            warnings.simplefilter("ignore")
        theirs = keras.models.load_model(tmp_path / name)
    assert same_bits(model, theirs)
    x = random_array((BATCH, *shape), 1)
    if name == "model.keras":  # what is computed follows from the configuration, which is the same in the others
        length = max(x.size, *(int(np.prod(w.shape)) for w in model.weights), 1) if model.weights else x.size
        assert_agrees(model.predict(x), theirs(x, training=False), length)
    if name == "model.h5" and type(theirs.layers[0]).__name__.startswith("Random"):
        return  # Keras 3.15 cannot write such a layer again that it read from an .h5 file, its own neither
    theirs.save(tmp_path / f"again-{name}")
    again = tinyconv.load_model(tmp_path / f"again-{name}")
    assert same_bits(again, model)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    assert dialect == "keras2" or as_json(again.layers) == as_json(model.layers, batch_input_shape=[None, *shape])


def as_json(layers: list[Any], **changes: Any) -> list[dict[str, Any]]:
    """The configurations of layers, tuples as lists."""
    return [json.loads(json.dumps({**layer.get_config(), **changes})) for layer in layers]


def network(library: Any) -> Any:
    # No bias before the normalization: its gradient is nothing but rounding, which Adam takes for steps.
    layers = library.layers
    return library.Sequential([
        library.Input((8, 8, 2)), layers.Conv2D(4, 3, use_bias=False), layers.BatchNormalization(),
        layers.Activation("relu"), layers.MaxPooling2D(2), layers.Flatten(),
        layers.Dense(CLASSES, activation="softmax"),
    ])


def batch() -> tuple[np.ndarray, np.ndarray]:
    return random_array((8, 8, 8, 2), 3), np.arange(8) % CLASSES


def trained(library: Any, optimizer: Any, epochs: int = 3) -> Any:
    model = network(library)
    set_random_weights(model)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], run_eagerly=EAGER)
    train(model, epochs)
    return model


def train(model: Any, epochs: int) -> None:
    x, y = batch()
    for _ in range(epochs):
        model.train_on_batch(x, y)


def _optimizers() -> list[Any]:
    """Every optimizer with every option, in turn in a .keras and in an .h5 file."""
    seen: dict[str, Any] = {repr(call): call for call in OPTIMIZERS if is_present(call)}
    return [pytest.param(call, ("model.keras", "model.h5")[number % 2], id=f"{call}-{number % 2}")
            for number, call in enumerate(seen.values())]


def assert_continues(one: Any, other: Any) -> None:
    """Both make the same steps from here: rounding grows with each, not the difference of states."""
    for _ in range(3):
        for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_allclose(a, np.asarray(b), rtol=2e-4, atol=2e-5)
        for model in (one, other):
            train(model, 1)


@pytest.mark.parametrize(("call", "name"), _optimizers())
def test_training_goes_on_in_keras(call, name, tmp_path):
    name = "model.keras"  # on JAX, Keras 3.15 trains no model that it reads from an .h5 file, its own neither
    model = trained(tinyconv, make(tinyconv, call))
    model.save(tmp_path / name)
    theirs = keras.models.load_model(tmp_path / name)
    theirs.run_eagerly = EAGER
    assert same_bits(model, theirs)
    assert int(theirs.optimizer.iterations) == model.optimizer.iterations
    assert theirs.optimizer.get_config().keys() >= {"learning_rate"}
    assert_continues(model, theirs)


@pytest.mark.parametrize(("call", "name"), _optimizers())
def test_training_goes_on_from_keras(call, name, tmp_path):
    theirs = trained(keras, make(keras, call))
    theirs.save(tmp_path / name)
    model = tinyconv.load_model(tmp_path / name)
    assert same_bits(model, theirs)
    assert int(theirs.optimizer.iterations) == model.optimizer.iterations
    assert_continues(model, theirs)


def test_layers_frozen_in_the_midst_of_training_keep_their_state(tmp_path):
    """Keras has the state of all weights in its file and cannot take it back; here training goes on."""
    theirs = trained(keras, keras.optimizers.RMSprop(0.01))
    theirs.layers[0].trainable = False
    theirs.save(tmp_path / "theirs.keras")
    model = tinyconv.load_model(tmp_path / "theirs.keras")
    assert not model.layers[0].trainable
    model.save(tmp_path / "ours.keras")
    again = keras.models.load_model(tmp_path / "ours.keras")  # with the state of the others
    assert int(again.optimizer.iterations) == model.optimizer.iterations
    for each in (model, theirs):
        each.layers[0].trainable = True
    theirs.compile(theirs.optimizer, theirs.loss)
    assert_continues(model, theirs)


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_functional_chain_of_keras_is_read(name, tmp_path):
    layers = keras.layers
    given = keras.Input((8, 8, 2))
    y = given
    for layer in (layers.Conv2D(3, 3, name="second"), layers.BatchNormalization(), layers.Dropout(0.5),
                  layers.Conv2D(2, 3, activation=layers.LeakyReLU(0.1), name="first"), layers.Flatten(),
                  layers.Dense(4, activation="hard_sigmoid")):
        y = layer(y)
    theirs = keras.Model(given, y)
    set_random_weights(theirs)
    theirs.save(tmp_path / name)
    model = tinyconv.load_model(tmp_path / name)
    x, _ = batch()
    assert same_bits(model, theirs)
    assert_agrees(model.predict(x), theirs(x), x.size)


def _nested(kind: str, is_frozen: bool) -> Any:
    """Augmentation and a base of two levels, as in Keras' tutorials on transfer; layers of the same name in each."""
    layers = keras.layers
    deep = keras.Sequential([keras.Input((6, 6, 4)), layers.Conv2D(3, 1, name="in_the_base")], name="deep")
    parts = [layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Conv2D(4, 1), layers.BatchNormalization(), deep]
    if kind == "Sequential":
        base = keras.Sequential([keras.Input((8, 8, 2)), *parts], name="base")
    else:
        given = y = keras.Input((8, 8, 2))
        for part in parts:
            y = part(y)
        base = keras.Model(given, y, name="base")
    base.trainable = not is_frozen
    move = keras.Sequential([layers.RandomTranslation(0.0, 0.0)], name="augmentation")  # nothing that is drawn
    name = "in_the_base" if kind == "Sequential" else None  # Keras' .h5 files cannot hold it twice otherwise
    rest = [layers.Conv2D(2, 3, name=name), layers.Flatten(), layers.Dense(CLASSES)]
    if kind == "Sequential":
        return keras.Sequential([keras.Input((8, 8, 2)), move, base, *rest])
    given = y = keras.Input((8, 8, 2))
    for part in (move, base, *rest):
        y = part(y)
    return keras.Model(given, y)


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
@pytest.mark.parametrize("is_frozen", [False, True], ids=["", "frozen"])
@pytest.mark.parametrize("kind", ["Sequential", "Functional"])
def test_models_in_models_of_keras_are_read(kind, is_frozen, name, tmp_path):
    theirs = _nested(kind, is_frozen)
    set_random_weights(theirs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)  # large here: Keras clips probabilities
    theirs.compile(keras.optimizers.Adam(0.01, epsilon=0.01), loss, run_eagerly=EAGER)
    train(theirs, 1)
    theirs.save(tmp_path / name)
    model = tinyconv.load_model(tmp_path / name)
    x, _ = batch()
    assert_agrees(model.predict(x), theirs(x, training=False), x.size * len(model.layers) ** 2)
    assert sorted(value.tobytes() for value in model.get_weights()) == sorted(
        np.asarray(value).tobytes() for value in theirs.get_weights())
    assert len(model.trainable_weights) == len(theirs.trainable_weights)
    assert model.optimizer.iterations == 1
    assert_continues(model, theirs)


def test_functional_graph_of_keras_is_refused(tmp_path):
    given = keras.Input((4,))
    y = keras.layers.Dense(4)(given)
    keras.Model(given, keras.layers.Add()([given, y])).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="a layer that tinyconv has|plain chain"):
        tinyconv.load_model(tmp_path / "model.keras")


def test_weights_go_both_ways(tmp_path):
    model, theirs = network(tinyconv), network(keras)
    set_random_weights(model)
    model.save_weights(tmp_path / "ours.weights.h5")
    theirs.load_weights(tmp_path / "ours.weights.h5")
    assert same_bits(model, theirs)
    for weight in theirs.weights:
        weight.assign(weight.value + 1)
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    theirs.save(tmp_path / "theirs.keras")
    theirs.save(tmp_path / "theirs.h5")
    for name in ("theirs.weights.h5", "theirs.keras", "theirs.h5"):
        other = network(tinyconv)
        other.load_weights(tmp_path / name)
        assert same_bits(other, theirs)


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_compile_settings_go_both_ways(name, tmp_path):
    def settings(library: Any) -> dict[str, Any]:
        return {
            "optimizer": library.optimizers.SGD(
                library.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5, staircase=True), momentum=0.9),
            "loss": library.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
            "metrics": ["accuracy", library.metrics.TopKCategoricalAccuracy(2, name="top")],
        }

    model = network(tinyconv)
    model.compile(**settings(tinyconv))
    model.save(tmp_path / name)
    theirs = keras.models.load_model(tmp_path / name)
    assert theirs.loss.label_smoothing == 0.1
    assert theirs.loss.from_logits
    assert theirs.optimizer.get_config()["learning_rate"]["config"]["staircase"] is True
    if name == "model.h5" and type(theirs.layers[0]).__name__.startswith("Random"):
        return  # Keras 3.15 cannot write such a layer again that it read from an .h5 file, its own neither
    theirs.save(tmp_path / f"again-{name}")
    again = tinyconv.load_model(tmp_path / f"again-{name}").get_compile_config()
    expected = model.get_compile_config()
    assert again["optimizer"] == expected["optimizer"]
    for key, value in expected["loss"]["config"].items():
        assert again["loss"]["config"][key] == value
    assert again["metrics"][0] == "accuracy"
    assert again["metrics"][1]["config"]["k"] == 2


def test_keras_passes_over_what_is_ours(tmp_path):
    model = trained(tinyconv, tinyconv.optimizers.Adam())
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        assert "tinyconv" in json.loads(archive.read("metadata.json"))
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    assert keras.models.load_model(Path(tmp_path) / "model.keras").compiled
