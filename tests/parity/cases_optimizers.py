"""Optimizers and schedules: a line is a call."""

from __future__ import annotations

from typing import Any

from parity.harness import New


def optimizer(name: str, /, *args: Any, **kwargs: Any) -> New:
    return New(f"optimizers.{name}", *args, **kwargs)


def schedule(name: str, /, *args: Any, **kwargs: Any) -> New:
    return New(f"optimizers.schedules.{name}", *args, **kwargs)


# Options that all of them have.
OPTIONS: list[dict[str, Any]] = [
    {"weight_decay": 0.05},
    {"clipnorm": 0.1},
    {"global_clipnorm": 0.1},
    {"clipvalue": 0.02},
    {"use_ema": True},
    {"use_ema": True, "ema_momentum": 0.8, "ema_overwrite_frequency": 3},
    {"gradient_accumulation_steps": 3},
    {"loss_scale_factor": 128.0},
    {"gradient_accumulation_steps": 2, "clipnorm": 0.1, "weight_decay": 0.01},
    {"name": "mine"},
]
OPTIMIZERS: list[New] = [
    optimizer("SGD"),
    optimizer("SGD", 0.1),
    optimizer("SGD", 0.1, momentum=0.9),
    optimizer("SGD", 0.1, 0.9, True),
    *[optimizer("SGD", 0.1, momentum=0.5, **option) for option in OPTIONS],
    optimizer("Adam"),
    optimizer("Adam", 0.01, beta_1=0.8, beta_2=0.95, epsilon=1e-3),
    optimizer("Adam", 0.01, amsgrad=True),
    *[optimizer("Adam", 0.01, **option) for option in OPTIONS],
    optimizer("AdamW"),
    optimizer("AdamW", 0.01, weight_decay=0.1, amsgrad=True),
    optimizer("RMSprop"),
    optimizer("RMSprop", 0.01, rho=0.8, epsilon=1e-3),
    optimizer("RMSprop", 0.01, momentum=0.5),
    optimizer("RMSprop", 0.01, centered=True),
    optimizer("RMSprop", 0.01, momentum=0.5, centered=True, weight_decay=0.1),
    optimizer("RMSprop", 0.01, 0.8, 0.5, 1e-5, True),
    optimizer("AdamW", 0.01, 0.1, 0.8, 0.95, 1e-3),
    optimizer("Adagrad"),
    optimizer("Adagrad", 0.1, initial_accumulator_value=0.5),
    optimizer("Adadelta"),
    optimizer("Adadelta", 1.0, rho=0.9, epsilon=1e-5),
    optimizer("Adamax"),
    optimizer("Adamax", 0.01, beta_1=0.8, beta_2=0.95, weight_decay=0.1),
    optimizer("Adagrad", 0.1, 0.2, 1e-3), optimizer("Adadelta", 1.0, 0.8, 1e-3),
    optimizer("Adamax", 0.01, 0.8, 0.95, 1e-3),
    *[optimizer(name, 0.05, **options) for name, options in (
        ("RMSprop", {"clipnorm": 0.1}), ("Adagrad", {"global_clipnorm": 0.1}), ("Adadelta", {"clipvalue": 0.02}),
        ("Adamax", {"use_ema": True, "ema_momentum": 0.8, "ema_overwrite_frequency": 3}),
        ("Nadam", {"weight_decay": 0.05}), ("AdamW", {"use_ema": True, "ema_momentum": 0.8}))],
    optimizer("Nadam"),
    optimizer("Nadam", 0.01, 0.8, 0.95, 1e-3),
    optimizer("Nadam", 0.01, beta_1=0.8, beta_2=0.95, clipvalue=0.02),
    optimizer("Ftrl"),
    optimizer("Ftrl", 0.1, l1_regularization_strength=0.01, l2_regularization_strength=0.02, beta=0.1),
    optimizer("Ftrl", 0.1, l2_shrinkage_regularization_strength=0.02, learning_rate_power=-0.6),
    optimizer("Lion"),
    optimizer("Lion", 0.01, beta_1=0.8, beta_2=0.95, weight_decay=0.1),
    optimizer("Lamb"),
    optimizer("Lamb", 0.01, beta_1=0.8, beta_2=0.95, weight_decay=0.1),
    optimizer("Adafactor"),
    optimizer("Adafactor", 0.01, relative_step=False),
]
SCHEDULES: list[New] = [
    schedule("ExponentialDecay", 0.1, 7, 0.9),
    schedule("ExponentialDecay", 0.1, 7, 0.9, staircase=True),
    schedule("PiecewiseConstantDecay", [3, 8], [0.1, 0.03, 0.01]),
    schedule("PolynomialDecay", 0.1, 20),
    schedule("PolynomialDecay", 0.1, 6, end_learning_rate=0.01, power=2.0, cycle=True),
    schedule("InverseTimeDecay", 0.1, 7, 0.5),
    schedule("InverseTimeDecay", 0.1, 7, 0.5, True),
    schedule("CosineDecay", 0.1, 20),
    schedule("CosineDecay", 0.01, 15, alpha=0.1, warmup_target=0.1, warmup_steps=6),
    schedule("CosineDecay", 0.01, 15, warmup_target=0.1, warmup_steps=6, name="mine"),
    schedule("PolynomialDecay", 0.1, 8, 0.02, 0.5),  # 1 / 8 is exact: compiled, Keras multiplies by it
    schedule("PiecewiseConstantDecay", [100, 110, 120], [1.0, 0.1, 0.01, 0.001]),
    schedule("CosineDecayRestarts", 0.1, 5),
    schedule("CosineDecayRestarts", 0.1, 4, t_mul=1.5, m_mul=0.9, alpha=0.05),
]
OPTIMIZERS += [optimizer(name, schedule("ExponentialDecay", 0.05, 5, 0.5)) for name in ("SGD", "Adam")]
