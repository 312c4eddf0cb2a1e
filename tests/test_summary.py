"""Sequential.summary: its columns, its totals, its arguments."""

from __future__ import annotations

import model_helpers
import pytest
from model_helpers import normed, seed_network

from tinyconv import Sequential, layers

fresh_names = model_helpers.fresh_names  # a fixture


def summary_of(model: Sequential, **arguments) -> list[str]:
    lines: list[str] = []
    model.summary(print_fn=lines.append, **arguments)
    return lines


def test_summary_shows_shapes_and_totals():
    lines = summary_of(seed_network())
    assert lines[0] == 'Model: "sequential"'
    assert lines[2].split() == ["Layer", "(type)", "Output", "Shape", "Param", "#", "Multiply-Adds", "Bytes"]
    # 24 * 24 outputs of 8 filters, 5 * 5 taps each; 4 bytes for 208 parameters and 24 * 24 * 8 outputs.
    assert lines[4].split() == ["conv2d", "(Conv2D)", "(None,", "24,", "24,", "8)", "208", "115,200", "19,264"]
    assert "Total params: 5,994 (23.41 KB)" in lines
    assert "Trainable params: 5,994 (23.41 KB)" in lines
    assert "Non-trainable params: 0 (0.00 B)" in lines
    assert "Multiply-adds of a sample: 322,560" in lines
    assert len(lines) == 4 + 6 + 6


def test_summary_of_some_layers_and_whether_they_train():
    model = seed_network()
    model.layers[2].trainable = False
    lines = summary_of(model, show_trainable=True, layer_range=("max_pooling2d", "flatten"))
    assert lines[2].split()[-1] == "Trainable"
    assert [line.split()[0] for line in lines[4:8]] == ["max_pooling2d", "conv2d_1", "max_pooling2d_1", "flatten"]
    assert [line.split()[-1] for line in lines[4:8]] == ["Y", "N", "Y", "Y"]


@pytest.mark.parametrize("positions", [[0.3, 0.55, 0.7, 0.85, 1.0], [30, 55, 70, 85, 100]])
def test_summary_positions(positions):
    lines = summary_of(seed_network(), line_length=100, positions=positions)
    assert lines[4].index("(None") == 31
    assert lines[4][54:70].strip() == "208"
    assert lines[4].endswith("19,264")
    assert len(lines[4]) == 100


@pytest.mark.parametrize("arguments", [{"positions": [1, 2]}, {"positions": [5, 4, 3, 2, 1]}, {"positions": 3},
                                       {"layer_range": ("conv2d", "nothing")}, {"layer_range": "conv2d"},
                                       {"line_length": 3}])
def test_summary_refuses_bad_arguments(arguments):
    with pytest.raises(ValueError, match="Received: "):
        seed_network().summary(**arguments)


def test_summary_counts_frozen_layers():
    model = seed_network()
    model.layers[0].trainable = False
    assert "Non-trainable params: 208 (832.00 B)" in summary_of(model)


def test_summary_before_building():
    lines = summary_of(Sequential([layers.Dense(3)]))
    assert lines[4].split() == ["dense", "(Dense)", "?", "?", "?", "?"]
    assert "Total params: ?" in "\n".join(lines)


def test_summary_line_length_and_print(capsys):
    model = seed_network()
    assert {len(line) for line in summary_of(model, line_length=90) if line.startswith(("_", "="))} == {90}
    assert all(len(line) <= 40 for line in summary_of(model, line_length=40))
    model.summary()
    assert capsys.readouterr().out.splitlines() == summary_of(model)


def test_summary_counts_moving_statistics_as_not_trainable(capsys):
    normed().summary()
    text = capsys.readouterr().out
    assert "Total params: 140 " in text and "Trainable params: 134 " in text and "Non-trainable params: 6 " in text
