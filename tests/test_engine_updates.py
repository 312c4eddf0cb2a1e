"""Updates of weights: every optimizer and option against float64, on every executor."""

from __future__ import annotations

import math

import engine_helpers
import numpy as np
import pytest
from engine_helpers import EPSILON, INNER_PRODUCT, executors

from tinyconv import engine, optimizers
from tinyconv.engine.program import OPTIMIZERS, Loss, ProgramBuilder, UpdateOptions, WeightRules
from tinyconv.engine.validate import check_program, check_update

executor_class = engine_helpers.executor_class
INPUTS, UNITS, SAMPLES, STEPS = 65, 67, 2, 7  # a kernel of two shares and a bit, whole vectors and a rest
SQUARED = Loss("mean_squared_error")

RULES = [
    ("SGD", {}), ("SGD", {"momentum": 0.9}), ("SGD", {"momentum": 0.9, "nesterov": True}), ("Adam", {}),
    ("Adam", {"amsgrad": True, "beta_2": 0.5}), ("AdamW", {"weight_decay": 0.1}), ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.5}), ("RMSprop", {"centered": True, "rho": 0.7}),
    ("RMSprop", {"centered": True, "momentum": 0.5, "rho": 0.7}), ("Adamax", {"beta_2": 0.7}), ("Nadam", {}),
    ("Adagrad", {"initial_accumulator_value": 0.3}), ("Adadelta", {"rho": 0.8}),
]
OPTIONS = [
    {"weight_decay": 0.05}, {"clipnorm": 1.5}, {"clipnorm": 1e6}, {"global_clipnorm": 2.0}, {"clipvalue": 0.4},
    {"use_ema": True, "ema_momentum": 0.7}, {"use_ema": True, "ema_momentum": 0.7, "ema_overwrite_frequency": 2},
    {"gradient_accumulation_steps": 3},
    {"gradient_accumulation_steps": 2, "use_ema": True, "ema_momentum": 0.6, "ema_overwrite_frequency": 2,
     "weight_decay": 0.1, "global_clipnorm": 1.0},
]


def label(value):
    return str(value).replace(" ", "") if isinstance(value, dict) else value


def parameters(rng):
    kernel = rng.standard_normal((INPUTS, UNITS)).astype(np.float32)
    return [kernel, rng.standard_normal(UNITS).astype(np.float32)]


def dense_program(weights, rules=(None, None), trainable=True):
    """A program whose gradients are x.T @ y and y.sum(0): for `INNER_PRODUCT` whatever one likes."""
    builder = ProgramBuilder((1, 1, weights[0].shape[0]))
    indices = tuple(builder.weight(w.copy(), trainable, r) for w, r in zip(weights, rules, strict=True))
    builder.add("dense", (1, 1, weights[0].shape[1]), indices)
    return builder.build()


def batches(rng, steps=STEPS):
    return [(rng.standard_normal((SAMPLES, INPUTS)).astype(np.float32),
             rng.standard_normal((SAMPLES, UNITS)).astype(np.float32)) for _ in range(steps)]


def train(make, optimizer, weights, data, loss=INNER_PRODUCT, rules=(None, None)):
    """The program after a step a batch."""
    program = dense_program(weights, rules)
    executor = make(program)
    optimizer.build(program.weights, program.trainable, ["kernel", "bias"])
    for x, y in data:
        step = optimizer.batches
        executor.train_step(x, y, loss, optimizer.kind, optimizer.hyperparameters(), optimizer.state, step,
                            options=optimizer.options())
        optimizer.batches = step + 1
    return program


# --- the oracle: Keras' formulas in float64, from the settings alone ---


def nadam_share(o, t):
    return o["beta_1"] * (1 - 0.5 * 0.96**t)


def oracle_step(name, o, t, w, g, s):
    """One update, the t-th; s is this weight's state, by name."""
    lr, zero = o["learning_rate"], np.zeros_like(w)
    if name == "SGD":
        if not o["momentum"]:
            return w - lr * g
        s["m"] = o["momentum"] * s.get("m", zero) - lr * g
        return w + (o["momentum"] * s["m"] - lr * g if o["nesterov"] else s["m"])
    if name == "Adagrad":
        s["a"] = s.get("a", zero + o["initial_accumulator_value"]) + g**2
        return w - lr * g / np.sqrt(s["a"] + o["epsilon"])
    if name in ("RMSprop", "Adadelta"):
        mean = lambda key, value: o["rho"] * s.get(key, zero) + (1 - o["rho"]) * value
        s["v"] = mean("v", g**2)
        if name == "Adadelta":
            d = g * np.sqrt(s.get("d", zero) + o["epsilon"]) / np.sqrt(s["v"] + o["epsilon"])
            s["d"] = mean("d", d**2)
            return w - lr * d
        variance = s["v"]
        if o["centered"]:
            s["a"] = mean("a", g)
            variance = variance - s["a"] ** 2
        s["m"] = o["momentum"] * s.get("m", zero) + lr * g / np.sqrt(variance + o["epsilon"])
        return w - s["m"]
    s["m"] = o["beta_1"] * s.get("m", zero) + (1 - o["beta_1"]) * g
    if name == "Adamax":
        s["u"] = np.maximum(o["beta_2"] * s.get("u", zero), np.abs(g))
        return w - lr / (1 - o["beta_1"] ** t) * s["m"] / (s["u"] + o["epsilon"])
    s["v"] = o["beta_2"] * s.get("v", zero) + (1 - o["beta_2"]) * g**2
    if name == "Nadam":
        product = math.prod(nadam_share(o, k) for k in range(1, t + 1))
        now, following = nadam_share(o, t), nadam_share(o, t + 1)
        mean = following * s["m"] / (1 - product * following) + (1 - now) * g / (1 - product)
        return w - lr * mean / (np.sqrt(s["v"] / (1 - o["beta_2"] ** t)) + o["epsilon"])
    s["h"] = np.maximum(s.get("h", zero), s["v"]) if o["amsgrad"] else s["v"]
    alpha = lr * math.sqrt(1 - o["beta_2"] ** t) / (1 - o["beta_1"] ** t)
    return w - alpha * s["m"] / (np.sqrt(s["h"]) + o["epsilon"])


def clipped(gradients, o):
    norms = [math.sqrt((g**2).sum()) for g in gradients]
    if o["clipnorm"]:
        return [g * min(1, o["clipnorm"] / norm) for g, norm in zip(gradients, norms, strict=True)]
    if o["global_clipnorm"]:
        return [g * min(1, o["global_clipnorm"] / math.hypot(*norms)) for g in gradients]
    return [np.clip(g, -o["clipvalue"], o["clipvalue"]) if o["clipvalue"] else g for g in gradients]


def oracle(name, o, weights, gradients):
    """Weights after every gradient, and what they are when training ends."""
    weights = [np.float64(w) for w in weights]
    states, totals = [{} for _ in weights], [np.zeros_like(w) for w in weights]
    averages = list(weights)
    every, t = o["gradient_accumulation_steps"] or 1, 0
    for step, parts in enumerate(gradients):
        totals = [total + g for total, g in zip(totals, parts, strict=True)]
        first, frequency = t == 0, o["ema_overwrite_frequency"]
        overwrites = bool(frequency) and (t + 1) % frequency == 0
        if (step + 1) % every == 0:
            t += 1
            means = clipped([total / every for total in totals], o)
            decay = 1 - (o["weight_decay"] or 0) * o["learning_rate"]
            weights = [oracle_step(name, o, t, w * decay, g, s)
                       for w, g, s in zip(weights, means, states, strict=True)]
            totals = [np.zeros_like(w) for w in weights]
        if o["use_ema"]:
            m = 0 if first else o["ema_momentum"]
            averages = [m * a + (1 - m) * w for a, w in zip(averages, weights, strict=True)]
            weights = list(averages) if overwrites else weights
    return weights, averages if o["use_ema"] else weights


def check_against_oracle(make, name, arguments):
    rng = np.random.default_rng(3)
    weights, data = parameters(rng), batches(rng)
    optimizer = getattr(optimizers, name)(learning_rate=0.05, **arguments)
    program = train(make, optimizer, weights, data)
    gradients = [[np.float64(x).T @ np.float64(y), np.float64(y).sum(0)] for x, y in data]
    trained, final = oracle(name, optimizer.get_config(), weights, gradients)
    for stage in (trained, final):
        for actual, expected in zip(program.weights, stage, strict=True):
            # A step is of size 1 at most, and every one of them is rounded a few times; the largest
            # relative error of a step is where a variance is a difference of nearly equal numbers.
            bound = EPSILON * 16 * STEPS * (np.abs(expected) + 1)
            assert (np.abs(actual - expected) <= bound).all(), np.abs((actual - expected) / bound).max()
        optimizer.finalize_variable_values()


@pytest.mark.parametrize(("name", "arguments"), RULES, ids=label)
def test_rule_agrees_with_float64(executor_class, name, arguments):
    check_against_oracle(executor_class, name, arguments)


@pytest.mark.parametrize("arguments", OPTIONS, ids=label)
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_option_agrees_with_float64(executor_class, name, arguments):
    check_against_oracle(executor_class, name, arguments)


def test_every_rule_has_an_optimizer_with_its_states():
    made = {}
    for name, arguments in RULES:
        optimizer = getattr(optimizers, name)(**arguments)
        made[optimizer.kind] = (len(optimizer.hyperparameters()), len(optimizer.slots))
    assert made == {kind: (len(names), states) for kind, (names, states) in OPTIMIZERS.items()}


@pytest.mark.parametrize("options", [{}, *OPTIONS], ids=label)
def test_update_has_the_same_bits_for_any_number_of_threads(options):
    if engine.backend() != "native":
        pytest.skip("NumPy has threads of its own")
    rng = np.random.default_rng(5)
    weights, data = parameters(rng), batches(rng)
    rules = (WeightRules(0.01, 0.02, "norm", 0.0, 1.0, 1.0, (1, INPUTS, 1, 1, UNITS)), WeightRules(0.1, 0.0, "non_neg"))
    kept, results = engine.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 5):
            engine.set_num_threads(threads)
            program = train(executors()["native"], optimizers.Adam(**options), weights, data, SQUARED, rules)
            results.append([w.tobytes() for w in program.weights])
    finally:
        engine.set_num_threads(kept)
    assert results == [results[0]] * 4


def test_gradient_that_is_not_finite_reaches_the_weights(executor_class):
    rng = np.random.default_rng(6)
    weights, ((x, y),) = parameters(rng), batches(rng, 1)
    y[0, 3] = np.nan
    for arguments, hit in (({"clipvalue": 1.0}, 3), ({"clipnorm": 1.0}, slice(None)),
                           ({"global_clipnorm": 1.0}, slice(None))):
        program = train(executor_class, optimizers.SGD(**arguments), weights, [(x, y)])
        assert np.isnan(program.weights[0][:, hit]).all() and np.isnan(program.weights[1][hit]).all()
    assert np.isfinite(train(executor_class, optimizers.SGD(clipvalue=1.0), weights, [(x, y)]).weights[0][:, 4:]).all()


def test_excluded_weights_do_not_decay(executor_class):
    rng = np.random.default_rng(7)
    weights = parameters(rng)
    still = [(np.zeros((SAMPLES, INPUTS), np.float32), np.zeros((SAMPLES, UNITS), np.float32))] * 3
    optimizer = optimizers.SGD(0.5, weight_decay=0.2)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    program = train(executor_class, optimizer, weights, still)
    np.testing.assert_array_equal(program.weights[1], weights[1])
    np.testing.assert_allclose(program.weights[0], weights[0] * 0.9**3, rtol=8 * EPSILON)
    with pytest.raises(ValueError, match="Received: optimizer 'sgd', which has begun"):
        optimizer.exclude_from_weight_decay(var_names=["kernel"])


@pytest.mark.parametrize(("names", "error"), [("bias", TypeError), (["("], ValueError)])
def test_exclude_from_weight_decay_refuses_what_is_no_list_of_expressions(names, error):
    with pytest.raises(error, match="Expected var_names to be"):
        optimizers.AdamW().exclude_from_weight_decay(var_names=names)


# --- penalties ---

PENALTIES = [(0.3, 0.0), (0.0, 0.2), (0.05, 0.4)]


@pytest.mark.parametrize(("l1", "l2"), PENALTIES)
def test_penalty_is_part_of_loss_and_gradient(executor_class, l1, l2):
    rng = np.random.default_rng(8)
    weights, ((x, y),) = parameters(rng), batches(rng, 1)
    weights[0][:4] = 0
    plain, penalized = dense_program(weights), dense_program(weights, (WeightRules(l1, l2), None))
    kernel = np.float64(weights[0])
    value = SAMPLES * (l1 * np.abs(kernel).sum() + l2 * (kernel**2).sum())
    for method in ("evaluate", "gradients"):
        without, with_penalty = (np.ravel(getattr(executor_class(p), method)(x, y, SQUARED)[0])[0]
                                 for p in (plain, penalized))
        np.testing.assert_allclose(with_penalty - without, value, rtol=20 * EPSILON, atol=20 * EPSILON * without)
    before, after = (executor_class(p).gradients(x, y, SQUARED)[1] for p in (plain, penalized))
    np.testing.assert_allclose(after[0] - before[0], l1 * np.sign(kernel) + 2 * l2 * kernel,
                               atol=4 * EPSILON * np.abs(after[0]).max())
    np.testing.assert_array_equal(after[1], before[1])
    sums = executor_class(penalized).train_step(x, y, SQUARED, "sgd", (0.5,), [[], []], 0)
    np.testing.assert_allclose(sums[0], executor_class(plain).evaluate(x, y, SQUARED)[0] + value, rtol=20 * EPSILON)
    np.testing.assert_allclose(penalized.weights[0], kernel - 0.5 * np.float64(after[0]),
                               atol=4 * EPSILON * (np.abs(kernel).max() + np.abs(after[0]).max()))


def test_penalty_is_no_part_of_inner_products_and_frozen_weights(executor_class):
    rng = np.random.default_rng(9)
    weights, ((x, y),) = parameters(rng), batches(rng, 1)
    rules = (WeightRules(1.0, 1.0), WeightRules(1.0, 1.0))
    plain, penalized = executor_class(dense_program(weights)), executor_class(dense_program(weights, rules))
    np.testing.assert_array_equal(penalized.gradients(x, y, INNER_PRODUCT)[1][0],
                                  plain.gradients(x, y, INNER_PRODUCT)[1][0])
    frozen = executor_class(dense_program(weights, rules, trainable=False))
    assert frozen.evaluate(x, y, SQUARED)[0] == plain.evaluate(x, y, SQUARED)[0]


# --- constraints ---


def norm_layout(shape, axes):
    """Five axes, kept and summed in turn, that `WeightRules` wants; found the slow way."""
    sizes, summed = [1], False
    for axis, size in enumerate(shape):
        if (axis in axes) == summed:
            sizes[-1] *= size
        else:
            sizes.append(size)
            summed = not summed
    return tuple(sizes + [1] * (5 - len(sizes)))


@pytest.mark.parametrize(("shape", "axes"), [
    ((37, 5), (0,)), ((37, 5), (1,)), ((37, 150), (0,)), ((3, 3, 4, 18), (0, 1, 2)), ((3, 3, 4, 18), (0,)),
    ((3, 3, 4, 18), (1, 3)), ((3, 3, 4, 18), (0, 2)), ((3, 3, 4, 18), (0, 1, 2, 3)), ((19,), (0,)),
], ids=str)
@pytest.mark.parametrize(("minimum", "maximum", "rate"), [(0.0, 0.9, 1.0), (1.0, 1.0, 1.0), (1.5, 2.0, 0.3)])
def test_norms_are_constrained_along_axes(executor_class, shape, axes, minimum, maximum, rate):
    rng = np.random.default_rng(10)
    weight = (rng.standard_normal(shape) / 3).astype(np.float32)
    rules = WeightRules(constraint="norm", minimum=minimum, maximum=maximum, rate=rate, shape=norm_layout(shape, axes))
    program = dense_program([weight.reshape(1, -1)], (rules,))
    still = np.zeros((1, 1), np.float32), np.zeros((1, weight.size), np.float32)
    executor_class(program).train_step(*still, INNER_PRODUCT, "sgd", (0.1,), [[]], 0)
    exact = np.float64(weight)
    norms = np.sqrt((exact**2).sum(axis=axes, keepdims=True))
    expected = exact * (rate * np.clip(norms, minimum, maximum) + (1 - rate) * norms) / (norms + 1e-7)
    np.testing.assert_allclose(program.weights[0].reshape(shape), expected, rtol=EPSILON * (6 + math.sqrt(weight.size)))


def test_negative_values_are_put_back_to_zero(executor_class):
    weight = np.array([[-1.0, 2.0, np.nan, -np.inf, np.inf, 0.5, -0.25]], np.float32)
    program = dense_program([weight], (WeightRules(constraint="non_neg"),))
    still = np.zeros((1, 1), np.float32), np.zeros((1, 7), np.float32)
    executor_class(program).train_step(*still, INNER_PRODUCT, "sgd", (0.0,), [[]], 0)
    np.testing.assert_array_equal(program.weights[0], [[0, 2, np.nan, 0, np.inf, 0.5, 0]])


def test_constraint_follows_accumulation_and_average(executor_class):
    rng = np.random.default_rng(11)
    weights, data = parameters(rng), batches(rng, 4)
    optimizer = optimizers.SGD(0.5, gradient_accumulation_steps=4, use_ema=True, ema_overwrite_frequency=1)
    program = train(executor_class, optimizer, weights, data, rules=(WeightRules(constraint="non_neg"), None))
    assert program.weights[0].min() == 0 and program.weights[1].min() < 0


# --- what is refused ---


@pytest.mark.parametrize(("rules", "message"), [
    (WeightRules(l1=-1.0), "penalties of weight 0.*l1=-1.0"),
    (WeightRules(l2=math.nan), "penalties of weight 0.*l2=nan"),
    (WeightRules(constraint="positive"), "Unknown constraint.*'positive'"),
    (WeightRules(constraint="norm"), "five axes.*shape=None"),
    (WeightRules(constraint="norm", shape=(1, INPUTS, 1, 1, UNITS + 1)), "five axes"),
], ids=lambda value: "" if isinstance(value, str) else str(value))
def test_rules_that_do_not_fit_are_refused(rules, message):
    with pytest.raises(ValueError, match=message):
        check_program(dense_program(parameters(np.random.default_rng(0)), (rules, None)))


@pytest.mark.parametrize(("options", "message"), [
    (UpdateOptions(clipnorm=1.0, clipvalue=1.0), "at most one limit"),
    (UpdateOptions(clipnorm=-1.0), "limit above 0"),
    (UpdateOptions(applies=False), "accumulation_steps=0"),
    (UpdateOptions(overwrites=True), "average_momentum=None"),
    (UpdateOptions(average_momentum=0.5), "Expected 1 state arrays"),
    (UpdateOptions(accumulation_steps=2, average_momentum=0.5), "Expected 2 state arrays"),
], ids=str)
def test_options_that_do_not_fit_are_refused(executor_class, options, message):
    program = dense_program(parameters(np.random.default_rng(0)))
    with pytest.raises(ValueError, match=message):
        check_update(program, "sgd", (0.1,), [[], []], options)
    x, y = batches(np.random.default_rng(1), 1)[0]
    with pytest.raises(ValueError, match=message):
        executor_class(program).train_step(x, y, INNER_PRODUCT, "sgd", (0.1,), [[], []], 0, options=options)
