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
from parity.differences import DIFFERENCES, LEFT_OUT, NOT_COMPARED
from parity.harness import New, has, keras, member, tinyconv

MODULES = ("layers", "losses", "metrics", "optimizers", "optimizers.schedules", "initializers", "activations",
           "regularizers", "constraints", "callbacks")
PRESENT = [module for module in MODULES if has(module)]
SHARED = sorted(f"{module}.{name}" for module in PRESENT for name in dir(member(keras, module))
                if not name.startswith("_") and has(f"{module}.{name}")
                and callable(member(keras, f"{module}.{name}")))


def compared() -> set[str]:
    """Paths that some table has a case of."""
    calls: list[New] = [call for _, call in (*cases_layers.CASES, *cases_losses.CASES, *cases_metrics.CASES)]
    calls += [*cases_metrics.PLAIN, *cases_optimizers.OPTIMIZERS, *cases_optimizers.SCHEDULES,
              *cases_callbacks.CASES, *cases_weights.INITIALIZERS, *cases_weights.REGULARIZERS, *cases_weights.CONSTRAINTS]
    return {call.path for call in calls} | {f"activations.{name}" for name, _ in cases_activations.CASES}


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


@pytest.mark.parametrize("module", PRESENT)
def test_name_that_is_left_out_stands_on_the_page(module):
    missing = [name for name in dir(member(keras, module)) if not name.startswith("_") and not has(f"{module}.{name}")]
    assert [name for name in missing if name not in LEFT_OUT and not explained(name, OF_OTHER_NETWORKS)] == []


def test_names_that_are_left_out_are_not_there():
    for name in LEFT_OUT:
        places = [f"{module}.{name}" for module in PRESENT if hasattr(member(keras, module), name)]
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


def test_entries_of_the_tables_are_true():
    """Nothing is excused that needs no excuse."""
    found = {key for path in SHARED for key in differences(path)}
    assert not [pattern for pattern in DIFFERENCES if not any(fnmatch(key, pattern) for key in found)]
    assert not [pattern for pattern in NOT_COMPARED if not any(fnmatch(path, pattern) for path in SHARED)]
