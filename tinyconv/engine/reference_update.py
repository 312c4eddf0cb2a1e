"""Optimizer updates, penalties and constraints of the NumPy reference."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tinyconv.engine.program import OPTIMIZERS, Program, UpdateOptions

__all__ = ["add_penalty_gradient", "penalty", "update"]

_Arrays = list[np.ndarray]
_Gradients = list[np.ndarray | None]


# --- penalties ---


def penalty(program: Program) -> float:
    """What the trainable weights add to the mean loss of a batch."""
    return sum(rules.penalty(program.weights[i]) for i, rules in program.rules.items() if program.trainable[i])


def add_penalty_gradient(program: Program, gradients: _Gradients) -> None:
    """Adds the gradient of `penalty`; that of |w| is 0 where w is 0."""
    for i, rules in program.rules.items():
        gradient = gradients[i]
        if gradient is not None and (rules.l1 or rules.l2):
            weight = program.weights[i].astype(gradient.dtype, copy=False)
            gradient += rules.l1 * np.sign(weight) + 2 * rules.l2 * weight


# --- rules: (weight, gradient, state, hyperparameters) -> new weight; the state is updated in place ---


def _sgd(w: np.ndarray, g: np.ndarray, state: _Arrays, learning_rate: float) -> np.ndarray:
    return w - learning_rate * g


def _momentum(w: np.ndarray, g: np.ndarray, state: _Arrays, learning_rate: float, momentum: float,
              nesterov: float) -> np.ndarray:
    m = momentum * state[0] - learning_rate * g
    state[0][...] = m
    return w + (momentum * m - learning_rate * g if nesterov else m)


def _moments(g: np.ndarray, state: _Arrays, beta_1: float, beta_2: float) -> tuple[np.ndarray, np.ndarray]:
    m = state[0] + (g - state[0]) * (1 - beta_1)
    v = state[1] + (g * g - state[1]) * (1 - beta_2)
    state[0][...], state[1][...] = m, v
    return m, v


def _adam(w: np.ndarray, g: np.ndarray, state: _Arrays, alpha: float, beta_1: float, beta_2: float,
          epsilon: float) -> np.ndarray:
    m, v = _moments(g, state, beta_1, beta_2)
    if len(state) > 2:  # amsgrad
        v = state[2][...] = np.maximum(state[2], v)
    return w - m * alpha / (np.sqrt(v) + epsilon)


def _rmsprop(w: np.ndarray, g: np.ndarray, velocity: np.ndarray, momentums: np.ndarray | None,
             means: np.ndarray | None, learning_rate: float, rho: float, momentum: float,
             epsilon: float) -> np.ndarray:
    v = velocity[...] = rho * velocity + (1 - rho) * (g * g)
    if means is not None:
        means[...] = rho * means + (1 - rho) * g
        v = np.maximum(v - np.square(means), 0)
    step = learning_rate * g / np.sqrt(v + epsilon)
    if momentums is not None:
        step = momentums[...] = momentum * momentums + step
    return w - step


def _rmsprop_plain(w: np.ndarray, g: np.ndarray, state: _Arrays, *numbers: float) -> np.ndarray:
    return _rmsprop(w, g, state[0], None, None, *numbers)


def _rmsprop_momentum(w: np.ndarray, g: np.ndarray, state: _Arrays, *numbers: float) -> np.ndarray:
    return _rmsprop(w, g, state[0], state[1], None, *numbers)


def _rmsprop_centered(w: np.ndarray, g: np.ndarray, state: _Arrays, *numbers: float) -> np.ndarray:
    return _rmsprop(w, g, state[0], None, state[1], *numbers)


def _rmsprop_centered_momentum(w: np.ndarray, g: np.ndarray, state: _Arrays, *numbers: float) -> np.ndarray:
    return _rmsprop(w, g, state[0], state[1], state[2], *numbers)


def _adamax(w: np.ndarray, g: np.ndarray, state: _Arrays, alpha: float, beta_1: float, beta_2: float,
            epsilon: float) -> np.ndarray:
    m = state[0][...] = state[0] + (g - state[0]) * (1 - beta_1)
    u = state[1][...] = np.maximum(beta_2 * state[1], np.abs(g))
    return w - alpha * m / (u + epsilon)


def _nadam(w: np.ndarray, g: np.ndarray, state: _Arrays, momentum_rate: float, gradient_rate: float,
           beta_1: float, beta_2: float, velocity_scale: float, epsilon: float) -> np.ndarray:
    m, v = _moments(g, state, beta_1, beta_2)
    return w - (momentum_rate * m + gradient_rate * g) / (np.sqrt(velocity_scale * v) + epsilon)


def _adagrad(w: np.ndarray, g: np.ndarray, state: _Arrays, learning_rate: float, epsilon: float) -> np.ndarray:
    state[0] += g * g
    return w - learning_rate * g / np.sqrt(state[0] + epsilon)


def _adadelta(w: np.ndarray, g: np.ndarray, state: _Arrays, learning_rate: float, rho: float,
              epsilon: float) -> np.ndarray:
    a = state[0][...] = rho * state[0] + (1 - rho) * (g * g)
    d = np.sqrt(state[1] + epsilon) * g / np.sqrt(a + epsilon)
    state[1][...] = rho * state[1] + (1 - rho) * (d * d)
    return w - learning_rate * d


_RULES: dict[str, Callable[..., np.ndarray]] = {
    "sgd": _sgd, "momentum": _momentum, "adam": _adam, "amsgrad": _adam, "rmsprop": _rmsprop_plain,
    "rmsprop_momentum": _rmsprop_momentum, "rmsprop_centered": _rmsprop_centered,
    "rmsprop_centered_momentum": _rmsprop_centered_momentum, "adamax": _adamax, "nadam": _nadam,
    "adagrad": _adagrad, "adadelta": _adadelta,
}


# --- around them ---


def _clip(gradients: _Gradients, options: UpdateOptions) -> _Gradients:
    if options.clipvalue:
        return [None if g is None else np.clip(g, -options.clipvalue, options.clipvalue) for g in gradients]
    if not (options.clipnorm or options.global_clipnorm):
        return gradients
    squares = [0.0 if g is None else float(np.square(g).sum(dtype=np.float64)) for g in gradients]
    if options.clipnorm:
        scales = [_scale(math.sqrt(square), options.clipnorm) for square in squares]
    else:
        norm = math.sqrt(sum(squares))
        # Keras': one gradient that is not finite makes all of them NaN.
        scales = [_scale(norm, options.global_clipnorm) + (norm - norm)] * len(squares)
    return [None if g is None else g * scale for g, scale in zip(gradients, scales, strict=True)]


def _scale(norm: float, limit: float) -> float:
    return 1.0 if norm <= limit else limit / norm


def update(program: Program, optimizer: str, hyperparameters: tuple[float, ...], state: list[_Arrays],
           gradients: _Gradients, options: UpdateOptions) -> None:
    """Updates the trainable weights and their state in place; `UpdateOptions` has the order."""
    numbers = [float(number) for number in hyperparameters]
    count = OPTIMIZERS[optimizer][1]
    trained = [i for i, gradient in enumerate(gradients) if gradient is not None]
    arrays = {i: [a.reshape(program.weights[i].shape) for a in state[i]] if i < len(state) else [] for i in trained}
    gradients = list(gradients)
    if options.accumulation_steps:
        for i in trained:
            total = gradients[i] + arrays[i][count]
            gradients[i] = total / options.accumulation_steps
            arrays[i][count][...] = 0 if options.applies else total
    if options.applies:
        gradients = _clip(gradients, options)
        for i in trained:
            weight = program.weights[i]
            if options.decay and i not in options.undecayed:
                weight -= options.decay * weight
            weight[...] = _RULES[optimizer](weight, gradients[i], arrays[i][:count], *numbers)
    for i in trained:
        weight = program.weights[i]
        if options.average_momentum is not None:
            average = arrays[i][count + bool(options.accumulation_steps)]
            average[...] = options.average_momentum * average + (1 - options.average_momentum) * weight
            if options.overwrites:
                weight[...] = average
        if i in program.rules:
            program.rules[i].constrain(weight)
