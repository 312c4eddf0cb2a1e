"""Sequential: the stack, its shapes, weights, configuration and program."""

from __future__ import annotations

import model_helpers
import numpy as np
import pytest
from model_helpers import images, seed_network

import tinyconv
from tinyconv import Sequential, layers, models, optimizers, utils

fresh_names = model_helpers.fresh_names  # a fixture


# --- the stack ---

def test_sequential_builds_as_layers_are_added():
    model = seed_network()
    assert model.built
    assert model.count_params() == 5994
    assert model.input_shape == (None, 28, 28, 1)
    assert model.output_shape == (None, 10)
    assert [layer.output_shape for layer in model.layers] == [
        (24, 24, 8), (12, 12, 8), (8, 8, 16), (4, 4, 16), (256,), (10,)]
    assert [layer.name for layer in model.layers] == [
        "conv2d", "max_pooling2d", "conv2d_1", "max_pooling2d_1", "flatten", "dense"]


def test_sequential_input_layer_is_not_among_the_layers():
    model = Sequential([layers.Input(shape=(4,)), layers.Dense(2)])
    assert model.built
    assert [type(layer) for layer in model.layers] == [layers.Dense]
    assert model.get_layer(index=0) is model.get_layer("dense")


def test_sequential_builds_for_its_first_data():
    model = Sequential([layers.Dense(3), layers.Dense(2)])
    assert not model.built
    assert model(np.zeros((5, 4), np.float32)).shape == (5, 2)
    assert model.input_shape == (None, 4)
    assert model.count_params() == 4 * 3 + 3 + 3 * 2 + 2


def test_sequential_builds_for_a_shape():
    model = Sequential([layers.Dense(3)])
    model.build((None, 7))
    assert model.output_shape == (None, 3)
    with pytest.raises(ValueError, match="Expected inputs of shape"):
        model.build((None, 8))


def test_sequential_without_shape_says_so():
    model = Sequential([layers.Dense(3)])
    with pytest.raises(ValueError, match="Expected an input_shape"):
        model.build()
    with pytest.raises(AttributeError, match="never built"):
        model.input_shape  # noqa: B018
    with pytest.raises(AttributeError, match="never built"):
        model.output_shape  # noqa: B018
    with pytest.raises(ValueError, match="no weights yet"):
        model.count_params()
    with pytest.raises(ValueError, match="no program yet"):
        model.program  # noqa: B018


def test_sequential_without_layers_says_so():
    with pytest.raises(ValueError, match="at least one layer"):
        Sequential().predict(np.zeros((1, 2), np.float32))
    with pytest.raises(ValueError, match="to pop"):
        Sequential().pop()


def test_sequential_adds_after_building():
    model = Sequential([layers.Dense(3, input_shape=(4,))], seed=1)
    before = model.get_weights()
    assert model(np.ones((2, 4), np.float32)).shape == (2, 3)
    model.add(layers.Dense(5))
    assert model.output_shape == (None, 5)
    assert model(np.ones((2, 4), np.float32)).shape == (2, 5)
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_sequential_pops():
    model = Sequential([layers.Dense(3, input_shape=(4,)), layers.Dense(5)])
    popped = model.pop()
    assert popped.units == 5
    assert model.output_shape == (None, 3)
    assert model(np.ones((2, 4), np.float32)).shape == (2, 3)
    model.pop()
    assert model.layers == []
    assert not model.built


def test_sequential_refuses_what_does_not_fit():
    with pytest.raises(TypeError, match="instance of tinyconv.layers.Layer"):
        Sequential().add("dense")
    with pytest.raises(TypeError, match="list of layers"):
        Sequential(layers.Dense(1))
    with pytest.raises(ValueError, match="only in the first place"):
        Sequential([layers.Dense(1), layers.Input(shape=(2,))])
    with pytest.raises(ValueError, match="unique names"):
        Sequential([layers.Dense(1, name="a"), layers.Dense(1, name="a")])
    with pytest.raises(ValueError, match="seed"):
        Sequential(seed=-1)
    dense = layers.Dense(1)
    with pytest.raises(ValueError, match="unique names"):
        Sequential([dense, dense])


def test_sequential_add_that_fails_leaves_the_model_whole():
    model = Sequential([layers.MaxPooling2D(2, input_shape=(4, 4, 1))])
    with pytest.raises(ValueError, match="Received: "):
        model.add(layers.Conv2D(1, 5))
    assert len(model.layers) == 1
    assert model(np.ones((1, 4, 4, 1), np.float32)).shape == (1, 2, 2, 1)


def test_sequential_automatic_names_make_way():
    first = Sequential([layers.Dense(2, input_shape=(2,))])
    utils.clear_session()
    first.add(layers.Dense(2))  # would be "dense" again
    assert [layer.name for layer in first.layers] == ["dense", "dense_1"]


def test_sequential_finds_layers():
    model = seed_network()
    assert model.get_layer("flatten") is model.layers[4]
    assert model.get_layer(index=-1) is model.layers[5]
    for arguments in ({}, {"name": "no"}, {"index": 6}, {"name": "flatten", "index": 1}):
        with pytest.raises(ValueError, match="Received: "):
            model.get_layer(**arguments)


# --- weights ---

def test_sequential_weights_follow_from_the_seed():
    first, second, other = seed_network(1), seed_network(1), seed_network(2)
    for a, b in zip(first.get_weights(), second.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.get_weights()[0], other.get_weights()[0])
    kernels = [w.ravel()[:16] for w in first.get_weights() if w.ndim > 1]
    scaled = [kernel / np.abs(kernel).max() for kernel in kernels]
    assert not np.allclose(scaled[0], scaled[1])


def test_sequential_weights_do_not_depend_on_when_it_is_built():
    deferred = Sequential([layers.Dense(3), layers.Dropout(0.5), layers.Dense(2)], seed=3)
    deferred.build((None, 4))
    declared = Sequential([layers.Dense(3, input_shape=(4,)), layers.Dense(2)], seed=3)
    for a, b in zip(deferred.get_weights(), declared.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_sequential_seed_comes_from_set_random_seed():
    utils.set_random_seed(5)
    first, second = Sequential(), Sequential()
    utils.set_random_seed(5)
    assert Sequential().seed == first.seed
    assert first.seed != second.seed


def test_sequential_sets_weights():
    source, target = seed_network(1), seed_network(2)
    x = images(3)
    target.predict(x)  # so that packed copies exist
    target.set_weights(source.get_weights())
    np.testing.assert_array_equal(source.predict(x), target.predict(x))


def test_sequential_set_weights_changes_nothing_where_one_does_not_fit():
    model = seed_network()
    before = model.get_weights()
    wrong = [np.zeros_like(w) for w in before]
    wrong[-1] = np.zeros(11, np.float32)
    with pytest.raises(ValueError, match=r"Received: shape=\(11,\)"):
        model.set_weights(wrong)
    with pytest.raises(ValueError, match="Received: 5 arrays"):
        model.set_weights(wrong[:5])
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_sequential_sees_weights_that_layers_set():
    model = Sequential([layers.Dense(2, input_shape=(3,))])
    x = np.ones((1, 3), np.float32)
    model.predict(x)
    model.layers[0].set_weights([np.zeros((3, 2)), np.array([1.0, 2.0])])
    np.testing.assert_array_equal(model.predict(x), [[1, 2]])
    model.layers[0].bias.assign([3.0, 4.0])
    np.testing.assert_array_equal(model.predict(x), [[3, 4]])


def test_sequential_shares_layers():
    dense = layers.Dense(2, input_shape=(3,))
    one, two = Sequential([dense]), Sequential([dense, layers.Activation("softmax")])
    x = np.ones((4, 3), np.float32)
    one.predict(x), two.predict(x)
    two.compile("sgd", "sparse_categorical_crossentropy")
    two.train_on_batch(x, np.zeros(4, np.int32))
    fresh = Sequential([layers.Dense(2, input_shape=(3,))])
    fresh.set_weights(dense.get_weights())
    np.testing.assert_array_equal(one.predict(x), fresh.predict(x))


def test_sequential_trainable_splits_the_weights():
    model = seed_network()
    model.layers[0].trainable = False
    assert len(model.trainable_weights) == 4
    assert len(model.non_trainable_weights) == 2
    assert len(model.weights) == 6
    model.trainable = False
    assert model.trainable_weights == []
    assert not model.trainable
    assert [layer.trainable for layer in model.layers[::3]] == [False, False]
    assert model.variables == model.weights == model.non_trainable_variables


def test_a_model_that_is_not_trainable_trains_none_of_its_layers():
    """As in Keras: the model's own switch stands above those of its layers, also of layers that come later."""
    model = Sequential([layers.Dense(2, input_shape=(3,))], trainable=False)
    model.add(layers.Dense(2))
    assert not model.trainable and [layer.trainable for layer in model.layers] == [True, True]
    assert model.trainable_variables == [] and model.program.trainable == (False,) * 4
    model.trainable = True
    model.layers[0].trainable = False
    assert model.trainable and model.trainable_weights == model.layers[1].trainable_variables
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    model.trainable, model.layers[0].trainable = False, True
    before = model.get_weights()
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="trainable to be True or False. Received: trainable='no'"):
        model.trainable = "no"


def test_a_model_in_a_model_adds_its_layers():
    """As TensorFlow's tutorials: augmentation in front, a softmax behind."""
    front = Sequential([layers.RandomFlip("horizontal", input_shape=(28, 28, 1)), layers.Rescaling(0.5)])
    model = Sequential([front, *seed_network().layers])
    assert model.input_shape == (None, 28, 28, 1) and len(model.layers) == 8
    assert model.layers[:2] == front.layers
    inner = Sequential([layers.Dense(4, name="a", input_shape=(3,)), layers.Dense(2, name="b")])
    outer = Sequential([inner, layers.Softmax()])
    x = np.ones((2, 3), np.float32)
    expected = np.exp(inner.predict(x))
    np.testing.assert_allclose(outer.predict(x), expected / expected.sum(axis=1, keepdims=True), rtol=1e-5)
    inner.trainable = False  # the layers are shared
    assert outer.trainable_weights == []
    inner.layers[0].set_weights([np.zeros((3, 4)), np.zeros(4)])
    np.testing.assert_allclose(outer.predict(x), 0.5, rtol=1e-6)
    behind = Sequential([layers.Dense(3, name="first", input_shape=(5,))])
    behind.add(inner)
    assert behind.output_shape == (None, 2)
    before = [layer.name for layer in behind.layers]
    for wrong in (Sequential([layers.Dense(2, name="new"), layers.Dense(2, name="a")]),
                  Sequential([layers.Dense(2, name="new"), layers.Conv2D(2, 3)])):
        with pytest.raises(ValueError, match="Received"):
            behind.add(wrong)
        assert [layer.name for layer in behind.layers] == before and behind.output_shape == (None, 2)


def test_inputs_and_outputs_have_shapes():
    model = seed_network()
    assert model.inputs[0].shape == model.input_shape and model.outputs[0].shape == model.output_shape
    assert (model.input.shape, model.output.shape) == (model.input_shape, model.output_shape)
    assert model.outputs[0].dtype == "float32"


def test_clone_model_begins_afresh():
    model = seed_network()
    model.compile(optimizers.SGD(0.5, momentum=0.9), "categorical_crossentropy",
                  metrics=["accuracy", lambda y, p: p[:, 0]])
    x, y = images(4), np.eye(10, dtype=np.float32)[[1, 2, 3, 4]]
    model.class_names = list("abcdefghij")
    model.train_on_batch(x, y)
    clone = models.clone_model(model)
    assert clone.get_config() == model.get_config() and clone.class_names == model.class_names
    assert not np.array_equal(clone.get_weights()[0], model.get_weights()[0])
    assert clone.optimizer is not model.optimizer and clone.optimizer.iterations == 0
    assert clone.optimizer.get_config() == model.optimizer.get_config()
    clone.set_weights(model.get_weights())
    assert clone.test_on_batch(x, y) == model.test_on_batch(x, y)
    assert clone.train_on_batch(x, y)[0] == model.train_on_batch(x, y)[0]
    bare = models.clone_model(Sequential([layers.Dense(3, name="a")], name="b"))
    assert not bare.built and not bare.compiled and bare.name == "b" and bare.layers[0].name == "a"
    thin = models.clone_model(model, clone_function=lambda layer: layers.Flatten())
    assert thin.output_shape == (None, 784)
    with pytest.raises(TypeError, match="Sequential. Received: model=3"):
        models.clone_model(3)
    with pytest.raises(ValueError, match="input_tensors to be None"):
        models.clone_model(model, input_tensors=x)


def test_json_describes_a_model():
    model = seed_network()
    text = model.to_json(indent=1)
    again = models.model_from_json(text)
    assert again.get_config()["layers"][1:] == model.get_config()["layers"][1:]
    assert again.input_shape == model.input_shape and again.to_json(indent=1) == text
    for bad in ("{", "[]", '{"class_name": "os"}', text.replace("Conv2D", "Lambda"), text.replace('"valid"', '"up"')):
        with pytest.raises(ValueError, match="xpected|line 1"):
            models.model_from_json(bad)
    with pytest.raises(TypeError, match="Received: json_string=int"):
        models.model_from_json(3)
    with pytest.raises(ValueError, match="no weights yet"):
        Sequential([layers.Dense(2)]).to_json()


@pytest.mark.parametrize("layer", [
    lambda: layers.Conv2D(2, 9, input_shape=(4, 4, 1)), lambda: layers.Dense(2, input_shape=(3,), name="taken"),
    lambda: layers.Conv2D(2, 3, kernel_initializer="identity", input_shape=(4, 4, 1)),
], ids=["shape", "name", "initializer"])
def test_a_failed_add_leaves_the_model_as_it_was(layer):
    model = Sequential([layers.Dense(2, name="taken")] if layer().name == "taken" else None, seed=3)
    with pytest.raises(ValueError, match="Received"):
        model.add(layer())
    with pytest.raises(AttributeError, match="no input_shape yet"):
        _ = model.input_shape
    model = Sequential([*model.layers, layers.Dense(3)], seed=3)
    model.build((None, 7))
    fresh = Sequential([*[layers.Dense(2) for _ in model.layers[1:]], layers.Dense(3)], seed=3)
    fresh.build((None, 7))
    for one, other in zip(model.get_weights(), fresh.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


# --- configuration ---

def test_sequential_config_round_trip():
    model = seed_network()
    config = model.get_config()
    again = Sequential.from_config(config)
    assert again.get_config() == config
    assert again.built
    again.set_weights(model.get_weights())
    x = images(2)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


def test_sequential_config_of_models_without_shape_or_layers():
    deferred = Sequential([layers.Dense(2)])
    assert deferred.get_config()["build_input_shape"] is None
    assert not Sequential.from_config(deferred.get_config()).built
    named = Sequential([layers.Input(shape=(3,))], name="mine")
    again = Sequential.from_config(named.get_config())
    assert again.input_shape == (None, 3)
    assert again.name == "mine"
    with pytest.raises(ValueError, match="list of layers"):
        Sequential.from_config({"name": "x"})


def test_sequential_program_holds_the_layers_arrays():
    model = seed_network()
    assert len(model.program.weights) == len(model.weights)
    for array, weight in zip(model.program.weights, model.weights):
        assert np.shares_memory(array, weight.value)
    assert model.program.seed == model.seed


# --- the package ---

def test_package_names_are_keras_names():
    keras = tinyconv
    model = keras.Sequential([keras.Input(shape=(2,)), keras.layers.Dense(1)])
    assert isinstance(model, keras.models.Sequential)
    assert keras.models.load_model is keras.load_model
    assert keras.callbacks.EarlyStopping and keras.optimizers.Adam and keras.losses.MeanSquaredError
    assert set(tinyconv.__all__) <= set(dir(tinyconv))
    assert tinyconv.ops.conv2d is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tinyconv.nothing  # noqa: B018


def test_show_config_prints_every_entry(capsys):
    from tinyconv.config import config

    tinyconv.show_config()
    printed = capsys.readouterr().out
    for name, value in config().items():
        assert name.replace("_", " ") in printed
        if isinstance(value, str):
            assert value in printed
    assert config()["tinyconv"] == tinyconv.__version__


def test_output_shapes_are_computed_without_building():
    model = Sequential([layers.Conv2D(4, 3), layers.MaxPooling2D(2), layers.Flatten()])
    assert model.compute_output_shape((None, 8, 9, 1)) == (None, 3 * 3 * 4)
    assert model.compute_output_shape((5, 6, 6, 2)) == (5, 2 * 2 * 4)
    assert not model.built
    with pytest.raises(ValueError, match="Received: "):
        model.compute_output_shape((None, 2, 2, 1))


def test_export_writes_onnx_and_nothing_else(tmp_path, capsys):
    onnx = pytest.importorskip("onnx")
    model = Sequential([layers.Dense(2, input_shape=(3,))], seed=1)
    for options, message in (({}, "format to be 'onnx'. Received: format='tf_saved_model'"),
                             ({"format": "onnx", "input_signature": [1]}, "input_signature to be None"),
                             ({"format": "onnx", "opset_version": 5}, "opset")):
        with pytest.raises(ValueError, match=message):
            model.export(tmp_path / "m.onnx", **options)
    assert not list(tmp_path.iterdir())
    model.export(tmp_path / "m", format="onnx", opset_version=17, verbose=True)
    assert capsys.readouterr().out == f"Saved artifact at '{tmp_path / 'm'}'.\n"
    assert onnx.load(tmp_path / "m").opset_import[0].version == 17
    x = np.ones((2, 3), np.float32)
    (tmp_path / "m").rename(tmp_path / "m.onnx")
    np.testing.assert_array_equal(models.load_model(tmp_path / "m.onnx").predict(x), model.predict(x))
