"""Names and signatures: who changes the import of a Keras script finds what Keras has.

What tinyconv has under a name of Keras stands in a table of cases or in `NOT_COMPARED`, with the reason;
its arguments are Keras', in Keras' order with Keras' defaults, or the difference stands in `DIFFERENCES`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from fnmatch import fnmatch
from typing import Any

import pytest
from parity import (
    cases_activations,
    cases_callbacks,
    cases_layers,
    cases_losses,
    cases_metrics,
    cases_optimizers,
    cases_weights,
)
from parity.differences import DIFFERENCES, LEFT_OUT, NOT_COMPARED, REFUSED
from parity.harness import New, as_numpy, assert_agrees, has, keras, make, member, random_array, tinyconv

MODULES = ("layers", "losses", "metrics", "optimizers", "optimizers.schedules", "initializers", "activations",
           "regularizers", "constraints", "callbacks")
SHARED = sorted(f"{module}.{name}" for module in (*MODULES, "models", "utils") for name in dir(member(keras, module))
                if not name.startswith("_") and has(f"{module}.{name}")
                and callable(member(keras, f"{module}.{name}")))
# Functions of arrays, with the arguments after x.  Keras takes the axis 0 of an array for -1, and fails.
FUNCTIONS = [
    ("utils.to_categorical", [[0, 2, 1], [3, 0, 0]], {}), ("utils.to_categorical", [[0], [2]], {}),
    ("utils.to_categorical", [0, 2, 1], {"num_classes": 5}),
    *(("utils.normalize", random_array((3, 4, 2), 1), {"axis": axis, "order": order})
      for axis in (-1, 1) for order in (1, 2, 3)),
    ("utils.normalize", [[0.0, 0.0], [3.0, 4.0]], {}),
]


def calls() -> list[New]:
    """All calls of the tables."""
    found: list[New] = [call for _, call in (*cases_layers.CASES, *cases_losses.CASES, *cases_metrics.CASES)]
    found += [*cases_metrics.PLAIN, *cases_optimizers.OPTIMIZERS, *cases_optimizers.SCHEDULES,
              *cases_callbacks.CASES, *cases_weights.INITIALIZERS, *cases_weights.REGULARIZERS,
              *cases_weights.CONSTRAINTS]
    return found


def compared() -> set[str]:
    """Paths that some table has a case of."""
    return ({call.path for call in calls()} | {f"activations.{name}" for name, _ in cases_activations.CASES}
            | {path for path, _, _ in FUNCTIONS})


def classes_compared() -> set[Any]:
    return {member(tinyconv, path) for path in compared() if has(path)}


@pytest.mark.parametrize("path", SHARED)
def test_name_of_keras_is_in_a_table(path):
    ours = member(tinyconv, path)
    function_of = {getattr(cls, "function", None) for cls in classes_compared() if isinstance(cls, type)}
    found = ours in classes_compared() or ours in function_of
    assert found or explained(path, NOT_COMPARED), f"{path}: a case in a table, or a reason in NOT_COMPARED"


# Layers of other networks than those of images in a row, of arrays of other machines, and functions that merge.
OF_OTHER_NETWORKS = (
    "*3D*", "*RNN*", "*LSTM*", "*GRU*", "Bidirectional", "TimeDistributed", "*Attention", "*Embedding", "EinsumDense",
    "Masking", "Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract", "add", "average",
    "concatenate", "dot", "maximum", "minimum", "multiply", "subtract", "CategoryEncoding", "Discretization", "Hash*",
    "*Lookup", "*Spectrogram", "TextVectorization", "*Layer", "*Wrapper", "legacy",
)


@pytest.mark.parametrize("module", MODULES)
def test_name_that_is_left_out_stands_on_the_page(module):
    missing = [name for name in dir(member(keras, module)) if not name.startswith("_") and not has(f"{module}.{name}")]
    assert [name for name in missing if name not in LEFT_OUT and not explained(name, OF_OTHER_NETWORKS)] == []


@pytest.mark.parametrize("module", ["utils", "saving", "models", "datasets", "backend", "preprocessing",
                                    "preprocessing.image"])
def test_tool_that_is_left_out_stands_on_the_page(module):
    missing = [name for name in dir(member(keras, module)) if not name.startswith("_") and not has(f"{module}.{name}")]
    assert [name for name in missing if not explained(name, LEFT_OUT)] == []


def test_module_that_is_left_out_stands_on_the_page():
    missing = [name for name in dir(keras) if not name.startswith("_") and not has(name) and name != "src"]
    assert [name for name in missing if not explained(name, LEFT_OUT) and f"keras.{name}" not in LEFT_OUT] == []


# Objects of both libraries, and what the page calls their kind.
KINDS = {"models": "Model", "layers": "Layer", "optimizers": "Optimizer", "metrics": "Metric", "losses": "Loss"}
OBJECTS = ("models.Sequential", "layers.Dense", "layers.RandomFlip", "optimizers.Adam", "metrics.Mean", "metrics.AUC",
           "losses.Huber", "callbacks.EarlyStopping", "initializers.GlorotNormal", "regularizers.L2",
           "constraints.MaxNorm", "optimizers.schedules.CosineDecay")


@pytest.mark.parametrize("path", OBJECTS)
def test_method_that_is_left_out_stands_on_the_page(path):
    arguments: Any = {"layers.Dense": (2,), "optimizers.schedules.CosineDecay": (0.1, 10)}.get(path, ())
    ours, theirs = (member(library, path)(*arguments) for library in (tinyconv, keras))
    if path.startswith("models."):
        ours.add(tinyconv.layers.Flatten())
        ours.compile("sgd", "mse")
    if path.startswith(("layers.", "models.")):
        ours.build((None, 4, 4, 3))
    kind = KINDS.get(path.split(".")[0], "")
    missing = [name for name in dir(type(theirs)) if not name.startswith("_") and not hasattr(ours, name)]
    assert [name for name in missing if not explained(name, LEFT_OUT)
            and not explained(f"{kind}.{name}", LEFT_OUT)] == []


def test_names_that_are_left_out_are_not_there():
    for name in LEFT_OUT:
        places = [f"{module}.{name}" for module in MODULES if hasattr(member(keras, module), name)]
        assert not places or not all(map(has, places)), name


def explained(path: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(path, pattern) for pattern in patterns)


def parameters(function: Any) -> dict[str, Any]:
    """Names and defaults, in order; what is gathered in *args and **kwargs is left out."""
    return {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)}


def accepts_any_name(function: Any) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values())


def is_same(one: Any, other: Any) -> bool:
    if isinstance(one, (tuple, list)) and isinstance(other, (tuple, list)):
        return list(one) == list(other)
    return one is other or (type(one) is not bool and type(other) is not bool and one == other)


def differences(path: str) -> dict[str, str]:
    """What differs between the signatures, by the argument's path."""
    ours, theirs = parameters(member(tinyconv, path)), parameters(member(keras, path))
    found = {}
    for name, default in theirs.items():
        if name not in ours:
            found[f"{path}.{name}"] = "missing"
        elif not is_same(ours[name], default):
            found[f"{path}.{name}"] = f"{ours[name]!r}, Keras {default!r}"
    common = [name for name in ours if name in theirs]
    if list(ours)[:len(common)] != common or common != [name for name in theirs if name in ours]:
        found[path] = f"order {list(ours)}, Keras {list(theirs)}"
    return found


@pytest.mark.parametrize("path", SHARED)
def test_signature_is_that_of_keras(path):
    found = differences(path)
    assert not {key: value for key, value in found.items() if not explained(key, DIFFERENCES)}


@pytest.mark.parametrize(("path", "x", "arguments"), FUNCTIONS)
def test_function_has_the_values_of_keras(path, x, arguments):
    theirs = as_numpy(member(keras, path)(x, **arguments))
    assert_agrees(member(tinyconv, path)(x, **arguments), theirs, 4, path)


@pytest.mark.parametrize("pattern", REFUSED)
def test_argument_that_is_said_to_be_refused_is(pattern):
    """A case of what has come since is compared, not left out."""
    for call in calls():
        if any(fnmatch(f"{call.path}.{argument}", pattern) for argument in call.kwargs) and has(call.path):
            with pytest.raises(ValueError, match=pattern.rpartition(".")[2]):
                make(tinyconv, call)


def test_entries_of_the_tables_are_true():
    """Nothing is excused that needs no excuse."""
    found = {key for path in SHARED for key in differences(path)}
    assert not [pattern for pattern in DIFFERENCES if not any(fnmatch(key, pattern) for key in found)]
    assert not [pattern for pattern in NOT_COMPARED if not any(fnmatch(path, pattern) for path in SHARED)]
