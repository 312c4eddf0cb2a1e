"""Callbacks that decide: a line is a call."""

from __future__ import annotations

from typing import Any

from parity.harness import New


def stopping(**kwargs: Any) -> New:
    return New("callbacks.EarlyStopping", **kwargs)


def plateau(**kwargs: Any) -> New:
    return New("callbacks.ReduceLROnPlateau", **kwargs)


def checkpoint(**kwargs: Any) -> New:
    return New("callbacks.ModelCheckpoint", "nowhere/{epoch:02d}-{loss:.2f}.keras", **kwargs)


CASES = [
    stopping(), stopping(patience=2), stopping(patience=3, min_delta=0.02),
    stopping(monitor="accuracy", mode="max", patience=1),
    stopping(patience=2, mode="max"), stopping(patience=2, mode="min", baseline=0.7),
    stopping(patience=2, restore_best_weights=True), stopping(start_from_epoch=3),
    stopping(patience=1, start_from_epoch=4, restore_best_weights=True, monitor="loss"),
    plateau(patience=2), plateau(patience=1, factor=0.5, cooldown=2), plateau(patience=1, min_delta=0.02),
    plateau(patience=1, min_lr=0.02), plateau(monitor="accuracy", mode="max", patience=2),
    plateau(patience=1, mode="max"),
    checkpoint(), checkpoint(save_best_only=True), checkpoint(save_best_only=True, monitor="accuracy", mode="max"),
    checkpoint(save_best_only=True, mode="max", monitor="loss"),
    checkpoint(save_best_only=True, initial_value_threshold=0.75),
]
BY_BATCHES = [checkpoint(save_freq=4), checkpoint(save_freq=2)]
