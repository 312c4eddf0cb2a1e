"""What executors refuse, what they accept, and that they leave their inputs alone."""

from __future__ import annotations

import dataclasses

import engine_helpers
import numpy as np
import pytest
from engine_helpers import (
    Network,
    identity,
    images,
    labels_for,
    new_state,
)

from tinyconv.engine import reference
from tinyconv.engine.program import Loss, Metric, Op, Program
from tinyconv.engine.validate import check_batch, check_labels, check_program

executor_class = engine_helpers.executor_class  # a fixture

DENSE = Loss("categorical_crossentropy")
SPARSE = Loss("sparse_categorical_crossentropy")


def network(seed=0):
    return Network((6, 5, 2), seed).conv2d(3, (3, 3)).flatten().dense(4).activation("softmax").build()


def arguments(n=5, sparse=True):
    program = network()
    return {"x": images(program, n), "y": labels_for(SPARSE if sparse else DENSE, program, n),
            "loss": SPARSE if sparse else DENSE}


BAD = [
    ("x", [[1.0] * 60], TypeError, "x .*array"),
    ("x", np.zeros((5, 60)), TypeError, "uint8 or float32.*float64"),
    ("x", np.zeros((5, 60), np.int8), TypeError, "int8"),
    ("x", np.zeros((5, 60), ">f4"), TypeError, "f4"),
    ("x", np.zeros((5, 60), object), TypeError, "object"),
    ("x", np.zeros((5, 6, 5, 3), np.float32), ValueError, r"\(N, 6, 5, 2\).*\(5, 6, 5, 3\)"),
    ("x", np.zeros((6, 5), np.float32), ValueError, "x.shape"),
    ("x", np.array(1, np.float32), ValueError, "x.shape"),
    ("y", None, TypeError, "y "),
    ("y", np.zeros(5, np.int64), TypeError, "int32.*int64"),
    ("y", np.zeros((5, 4), np.float32), TypeError, "int32.*float32"),
    ("y", np.zeros((5, 4), np.int32), ValueError, r"y.shape=\(5, 4\)"),
    ("y", np.zeros(4, np.int32), ValueError, r"as many samples.*\(4,\)"),
    ("y", np.array([0, 1, 2, 3, 4], np.int32), ValueError, r"\[0, 4\).*0 to 4"),
    ("y", np.array([0, 1, -1, 3, 2], np.int32), ValueError, r"\[0, 4\).*-1 to 3"),
    ("indices", [0, 1], TypeError, "indices"),
    ("indices", np.array([0, 1], np.int32), TypeError, "int64.*int32"),
    ("indices", np.array([[0, 1]]), ValueError, "1 dimension"),
    ("indices", np.array([0, 5]), ValueError, r"\[0, 5\).*0 to 5"),
    ("indices", np.array([-1, 2]), ValueError, "-1 to 2"),
    ("indices", np.array([2**62]), ValueError, "indices"),
    ("sample_weight", [1.0] * 5, TypeError, "sample_weight"),
    ("sample_weight", np.ones(5), TypeError, "float64"),
    ("sample_weight", np.ones(4, np.float32), ValueError, r"\(5,\).*\(4,\)"),
    ("sample_weight", np.ones((5, 1), np.float32), ValueError, "sample_weight.shape"),
    ("predictions", np.zeros((5, 4)), TypeError, "predictions.*float64"),
    ("predictions", np.zeros((5, 3), np.float32), ValueError, "predictions.shape"),
    ("predictions", np.zeros((4, 4), np.float32), ValueError, "5 samples"),
    ("predictions", np.zeros((4, 5), np.float32).T, ValueError, "C-contiguous"),
    ("loss", Loss("hinges"), ValueError, "Unknown loss.*hinges"),
    ("loss", Loss("huber", parameters=(1.0, 2.0)), ValueError, "at most 1 parameters of huber"),
    ("loss", Loss("huber", parameters=(np.nan,)), ValueError, "NaN"),
    ("loss", Loss("huber", reduction="median"), ValueError, "reduction"),
    ("loss", Loss("huber", weight=np.inf), ValueError, "finite weight"),
    ("loss", Loss("sparse_categorical_crossentropy", False, 0.1), ValueError, "label_smoothing"),
    ("loss", DENSE, TypeError, "y .*float32.*int32"),
    ("metrics", (Metric("recall"),), ValueError, "Unknown metric.*recall"),
    ("metrics", (Metric("categorical_accuracy"),), ValueError, "class ids.*categorical_accuracy"),
    ("metrics", (Metric("sparse_top_k_categorical_accuracy", 0),), ValueError, "k="),
]


@pytest.mark.parametrize(("name", "value", "error", "message"), BAD,
                         ids=[f"{i}-{case[0]}" for i, case in enumerate(BAD)])
def test_bad_arguments_are_refused_in_one_line(executor_class, name, value, error, message):
    program = network()
    executor = executor_class(program)
    given = {**arguments(), name: value}
    with pytest.raises(error, match=message) as caught:
        executor.evaluate(**given)
    assert "\n" not in str(caught.value)
    with pytest.raises(error, match=message):
        executor.train_step(optimizer="sgd", hyperparameters=(0.1,), state=new_state(program, 0), step=0,
                            **given)
    if name not in ("metrics", "predictions"):
        with pytest.raises(error, match=message):
            executor.gradients(**given)
    if name in ("x", "indices"):
        with pytest.raises(error, match=message):
            executor.predict(given["x"], given.get("indices"))


def test_read_only_predictions_are_refused(executor_class):
    predictions = np.zeros((5, 4), np.float32)
    predictions.flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        executor_class(network()).evaluate(**arguments(), predictions=predictions)


@pytest.mark.parametrize(("optimizer", "hyperparameters", "state", "error"), [
    ("rmsprop", (0.1,), [[]] * 4, ValueError),
    ("sgd", (), [[]] * 4, ValueError),
    ("adam", (0.1, 0.9), [[]] * 4, ValueError),
    ("adam", (0.1, 0.9, 0.999, 1e-7), [[]] * 4, ValueError),
    ("momentum", (0.1, 0.9, 0), [[np.zeros(3, np.float32)]] * 4, ValueError),
    ("momentum", (0.1, 0.9, 0), [], ValueError),
    ("momentum", (0.1, 0.9, 0), "float64", (TypeError, ValueError)),
], ids=str)
def test_bad_updates_are_refused_and_change_nothing(executor_class, optimizer, hyperparameters, state, error):
    program = network()
    if state == "float64":
        state = [[np.zeros(w.shape)] for w in program.weights]
    before = [w.copy() for w in program.weights]
    with pytest.raises(error) as caught:
        executor_class(program).train_step(optimizer=optimizer, hyperparameters=hyperparameters, state=state,
                                           step=0, **arguments())
    assert "\n" not in str(caught.value)
    assert all((w == kept).all() for w, kept in zip(program.weights, before, strict=True))


def all_calls(executor, program, given):
    """Every method once, on copies of the weights; all results as one list."""
    results = [executor.predict(given["x"], given.get("indices")), executor.evaluate(**given)]
    sums, gradients, dx = executor.gradients(**given, input_gradient=True)
    results += [sums, *gradients, dx]
    kept = [w.copy() for w in program.weights]
    results.append(executor.train_step(optimizer="sgd", hyperparameters=(0.1,), state=new_state(program, 0),
                                       step=0, **given))
    results += [w.copy() for w in program.weights]
    for weight, value in zip(program.weights, kept, strict=True):
        weight[...] = value
    executor.weights_changed()
    return results


@pytest.mark.parametrize("sparse", [True, False], ids=["sparse", "dense"])
@pytest.mark.parametrize("x_type", [np.uint8, np.float32])
def test_layout_of_the_inputs_does_not_matter_and_they_stay(executor_class, sparse, x_type):
    program = network()
    executor = executor_class(program)
    given = arguments(18, sparse)
    given["x"] = np.random.default_rng(4).integers(0, 5, (18, 6, 5, 2)).astype(x_type)
    given["sample_weight"] = np.linspace(0, 2, 18, dtype=np.float32)
    given["indices"] = np.random.default_rng(5).integers(0, 18, 21)
    expected = all_calls(executor, program, given)

    def strided(array):
        wide = np.zeros((*array.shape, 2), array.dtype)
        wide[..., 0] = array
        return wide[..., 0]

    def unaligned(array):
        room = np.zeros(array.nbytes + 1, np.uint8)
        moved = room[1:].view(array.dtype).reshape(array.shape)
        moved[...] = array
        return moved

    def read_only(array):
        copy = array.copy()
        copy.flags.writeable = False
        return copy

    changes = (strided, unaligned, read_only, np.asfortranarray, lambda array: array[::-1].copy()[::-1])
    for change in changes:
        changed = {name: value if name == "loss" else change(value) for name, value in given.items()}
        copies = {name: value.copy() for name, value in changed.items() if name != "loss"}
        for one, other in zip(all_calls(executor, program, changed), expected, strict=True):
            np.testing.assert_array_equal(one, other)
        for name, copy in copies.items():
            np.testing.assert_array_equal(changed[name], copy)


def test_any_trailing_shape_of_the_right_size_is_taken(executor_class):
    program = network()
    executor, given = executor_class(program), arguments(4)
    expected = executor.evaluate(**given)
    for shape in ((4, 60), (4, 6, 10), (4, 6, 5, 2, 1)):
        given["x"] = given["x"].reshape(shape)
        for labels in ((4,), (4, 1), (4, 1, 1)):
            given["y"] = given["y"].reshape(labels)
            assert executor.evaluate(**given).tolist() == expected.tolist()


def test_only_the_labels_of_the_batch_are_looked_at(executor_class):
    program = network()
    executor, given = executor_class(program), arguments(5)
    given["y"][3] = 4
    assert np.isfinite(executor.evaluate(**given, indices=np.array([0, 1, 4]))).all()
    with pytest.raises(ValueError, match=r"\[0, 4\)"):
        executor.evaluate(**given, indices=np.array([0, 3]))


def test_labels_of_several_positions_are_looked_at(executor_class):
    program = identity(2, 2, 3)
    x, y = images(program, 4), np.zeros((4, 2, 2), np.int32)
    executor = executor_class(program)
    assert np.isfinite(executor.evaluate(x, y, Loss(SPARSE.kind, True))).all()
    for place in ((0, 1, 0), (3, 1, 1)):
        y[:] = 0
        y[place] = 3
        with pytest.raises(ValueError, match=r"\[0, 3\)"):
            executor.evaluate(x, y, Loss(SPARSE.kind, True))


def test_check_labels():
    check_labels(np.array([0, 1, 2]), 3)
    check_labels(np.zeros((0, 4), np.int32), 3)
    check_labels(np.array([[255]], np.uint8), 256)
    with pytest.raises(ValueError, match=r"\[0, 3\).*0 to 3"):
        check_labels(np.array([0, 3]), 3)
    with pytest.raises(ValueError, match="-1 to 0"):
        check_labels(np.array([0, -1]), 3)
    with pytest.raises(TypeError, match="float64"):
        check_labels(np.array([0.0]), 3)


def test_check_batch_copies_nothing_that_is_in_order():
    program, given = network(), arguments(6)
    indices, weight = np.arange(3), np.ones(6, np.float32)
    predictions = np.empty((3, 4), np.float32)
    x, y, same_indices, same_weight, same_predictions, n = check_batch(
        program, given["x"], given["y"], indices, weight, SPARSE, (), predictions)
    assert x is given["x"] and y is given["y"] and same_indices is indices
    assert same_weight is weight and same_predictions is predictions and n == 3


# --- programs ---


def changed(program, i, **fields):
    """The program with other fields, or attributes, of operation i."""
    op = program.ops[i]
    attributes = {**op.attributes, **{k: v for k, v in fields.items() if k in op.attributes}}
    fields = {k: v for k, v in fields.items() if k not in op.attributes}
    ops = list(program.ops)
    ops[i] = dataclasses.replace(op, attributes=attributes, **fields)
    return dataclasses.replace(program, ops=tuple(ops))


def whole_program():
    network = Network((6, 5, 2)).rescale(2.0).conv2d(3, (3, 3)).activation("relu").pool("max", (2, 2))
    return network.dropout(0.5).flatten().dense(4).activation("softmax").build()


@pytest.mark.parametrize(("i", "fields"), [
    (0, {"kind": "resize"}),
    (0, {"input_shape": (6, 5, 3)}),
    (0, {"output_shape": (5, 6, 2)}),
    (1, {"output_shape": (4, 4, 3)}),
    (1, {"kernel_size": (3, 2)}),
    (1, {"kernel_size": (0, 3)}),
    (1, {"strides": (0, 1)}),
    (1, {"strides": (2, 1)}),
    (1, {"dilation_rate": (1, 0)}),
    (1, {"padding": ((1, 0), (0, 0))}),
    (1, {"padding": ((-1, 1), (0, 0))}),
    (1, {"weights": (1, 0)}),
    (1, {"weights": ()}),
    (1, {"weights": (0, 9)}),
    (2, {"function": "swoosh"}),
    (2, {"parameters": (0.0, 1.0, 2.0, 3.0)}),
    (3, {"pool_size": (5, 5)}),
    (3, {"padding": ((2, 0), (0, 0)), "output_shape": (3, 1, 3)}),
    (3, {"output_shape": (2, 1, 2)}),
    (4, {"rate": 1.5}),
    (4, {"rate": 1.0, "noise": "alpha_dropout"}),
    (4, {"rate": -0.1}),
    (4, {"rate": float("nan")}),
    (5, {"output_shape": (1, 1, 7)}),
    (6, {"weights": (0, 1)}),
    (7, {"output_shape": (1, 4, 1)}),
], ids=str)
def test_check_program_refuses_what_does_not_fit(i, fields):
    program = whole_program()
    check_program(program)
    bad = changed(program, i, **fields)
    with pytest.raises(ValueError, match="Received") as caught:
        check_program(bad)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError):
        reference.Executor(bad)


def test_check_program_refuses_bad_weights_and_outputs():
    program = whole_program()
    for weights, error in [((program.weights[0].astype(np.float64), *program.weights[1:]), TypeError),
                           ((np.asfortranarray(program.weights[0]), *program.weights[1:]), TypeError),
                           (program.weights[:3], ValueError)]:
        with pytest.raises(error):
            check_program(dataclasses.replace(program, weights=weights))
    with pytest.raises(ValueError, match="output_shape"):
        check_program(dataclasses.replace(program, output_shape=(2, 2, 1)))
    check_program(Program((Op("reshape", (1, 2, 2), (4, 1, 1)),), (), (), (1, 2, 2), (4, 1, 1)))


def test_executors_refuse_a_program_that_does_not_fit(executor_class):
    for i, fields in [(1, {"kernel_size": (3, 2)}), (1, {"strides": (0, 1)}), (6, {"weights": (0, 1)}),
                      (5, {"output_shape": (1, 1, 7)}), (1, {"weights": (0, 9)})]:
        with pytest.raises(ValueError):
            executor_class(changed(whole_program(), i, **fields))
