"""The classifier for scikit-learn, held to scikit-learn's own checks."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra [sklearn] is not installed")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from tinyconv import Sequential, datasets, layers, optimizers
from tinyconv.callbacks import EarlyStopping, LambdaCallback
from tinyconv.sklearn import Classifier

# Checks that cannot hold, each with its reason.
EXPECTED_FAILED_CHECKS = {
    "check_sample_weight_equivalence_on_dense_data":
        "training steps take batches of samples: leaving out or repeating samples makes other batches, so the "
        "result is close to that of weights, not equal to 7 digits",
}


@pytest.mark.parametrize(("estimator", "check"), [
    pytest.param(estimator, check, id=check.func.__name__)
    for estimator, check in estimator_checks_generator(Classifier(random_state=0), legacy=True)
    if check.func.__name__ not in EXPECTED_FAILED_CHECKS])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_checks(estimator, check):
    check(copy.deepcopy(estimator))


def test_the_exceptions_are_checks_that_exist():
    names = {check.func.__name__ for _, check in estimator_checks_generator(Classifier())}
    assert set(EXPECTED_FAILED_CHECKS) <= names


@pytest.fixture(scope="module")
def drawn():
    """Drawn digits as scikit-learn has images: rows of features."""
    (x, y), (x_test, y_test) = datasets.digits.load_data(1500, 300, seed=2)
    return x.reshape(len(x), -1), y, x_test.reshape(len(x_test), -1), y_test


def test_images_as_features_and_as_images_give_the_same(drawn):
    x, y, x_test, y_test = drawn
    scaled = x / np.float32(255)
    flat, shaped = (Classifier(image_shape=(28, 28, 1), epochs=4, random_state=3) for _ in range(2))
    flat.fit(scaled, y)
    shaped.fit(scaled.reshape(-1, 28, 28, 1), y)
    probabilities = flat.predict_proba(x_test / np.float32(255))
    np.testing.assert_array_equal(probabilities, shaped.predict_proba(x_test.reshape(-1, 28, 28, 1) / np.float32(255)))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert flat.score(x_test / np.float32(255), y_test) > 0.8  # chance: 0.1
    assert flat.n_iter_ == 4
    assert len(flat.history_["loss"]) == 4


def test_pipeline_cross_validation_and_grid_search(drawn):
    x, y, _, _ = drawn
    pipeline = make_pipeline(MinMaxScaler(), Classifier(image_shape=(28, 28, 1), epochs=3, random_state=0))
    scores = cross_val_score(pipeline, x[:600], y[:600], cv=2)
    assert scores.shape == (2,)
    assert scores.mean() > 0.5
    search = GridSearchCV(pipeline, {"classifier__epochs": [1, 3], "classifier__learning_rate": [0.0, 0.005]}, cv=2)
    search.fit(x[:600], y[:600])
    assert search.best_params_ == {"classifier__epochs": 3, "classifier__learning_rate": 0.005}


def own_network(input_shape, classes) -> Sequential:
    return Sequential([layers.Input(shape=input_shape), layers.Dense(8, activation="tanh"),
                       layers.Dense(classes, activation="softmax")])


X = np.random.default_rng(0).standard_normal((60, 4))
Y = np.array(["no", "yes"])[(X[:, 0] > 0).astype(int)]


def test_a_network_of_ones_own_and_its_copies():
    ours = Classifier(own_network, optimizer="sgd", learning_rate=0.5, random_state=1).fit(X, Y)
    assert [type(layer).__name__ for layer in ours.model_.layers] == ["Dense", "Dense"]
    assert ours.model_.optimizer.learning_rate == 0.5
    assert ours.score(X, Y) > 0.9
    again = copy.deepcopy(ours)
    np.testing.assert_array_equal(again.predict_proba(X), ours.predict_proba(X))
    for one in (again, ours):  # the state of training is copied as well
        one.partial_fit(X, Y)
    np.testing.assert_array_equal(again.predict_proba(X), ours.predict_proba(X))
    assert not hasattr(clone(ours), "model_")


def test_loaded_and_adapted_weights_are_kept_and_not_changed():
    adapted = layers.Normalization(name="normalization")
    adapted.adapt(X)
    trained = Sequential([layers.Input(shape=(4,)), adapted, layers.Dense(2, activation="softmax")])
    trained.layers[1].set_weights([[[1.0, -1.0]] * 4, [0.5, 0.0]])
    before = trained.get_weights()
    ours = Classifier(lambda shape, classes: trained, learning_rate=0.0, epochs=1).fit(X, Y)
    np.testing.assert_array_equal(ours.predict_proba(X), trained.predict(X))
    for learning_rate, same in ((0.0, True), (0.5, False)):
        ours = Classifier(lambda shape, classes: trained, learning_rate=learning_rate, epochs=1).fit(X, Y)
        for one, other in zip(ours.model_.layers[0].get_weights(), adapted.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
        assert np.array_equal(ours.model_.layers[1].get_weights()[0], before[-2]) == same
    for one, other in zip(before, trained.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_random_state_decides_the_weights_of_a_network_that_knows_its_input():
    one, same, other = (Classifier(own_network, random_state=seed, epochs=2).fit(X, Y) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.predict_proba(X), same.predict_proba(X))
    assert not np.array_equal(one.predict_proba(X), other.predict_proba(X))


def test_the_learning_rate_is_the_optimizers_own_unless_another_is_given():
    def rate(**arguments):
        return Classifier(epochs=1, **arguments).fit(X, Y).model_.optimizer.learning_rate

    falling = optimizers.schedules.ExponentialDecay(0.25, 1000, 0.5, staircase=True)
    assert rate() == 0.005
    assert rate(optimizer="adam") == 0.001
    assert rate(optimizer="adam", learning_rate=0.5) == 0.5
    assert rate(optimizer=optimizers.SGD(0.1)) == 0.1
    assert rate(optimizer=optimizers.SGD(falling)) == 0.25
    assert rate(optimizer=optimizers.SGD(falling), learning_rate=0.5) == 0.5
    assert rate(optimizer=optimizers.SGD(lambda step: 0.75)) == 0.75
    assert rate(optimizer="sgd", learning_rate=falling) == 0.25
    given = optimizers.SGD(0.1, momentum=0.5)
    ours = Classifier(optimizer=given, epochs=1).fit(X, Y).fit(X, Y)
    assert ours.model_.optimizer.momentum == 0.5 and not given.built and given.iterations == 0


def test_partial_fit_and_warm_start_go_on():
    ours = Classifier(random_state=1, epochs=2)
    ours.partial_fit(X, Y, classes=["no", "yes"])
    steps = ours.model_.optimizer.iterations
    ours.partial_fit(X, Y)
    assert ours.model_.optimizer.iterations == 2 * steps
    warm = Classifier(random_state=1, epochs=2, warm_start=True).fit(X, Y).fit(X, Y)
    cold = Classifier(random_state=1, epochs=4).fit(X, Y)
    np.testing.assert_array_equal(warm.predict_proba(X), cold.predict_proba(X))


def test_weights_of_classes_and_samples():
    rare = np.r_[np.flatnonzero(Y == "no")[:3], np.flatnonzero(Y == "yes")]
    x, y = X[rare], Y[rare]
    weight = np.where(y == "no", 10.0, 1.0)
    by_sample = Classifier(random_state=0).fit(x, y, sample_weight=weight)
    by_class = Classifier(random_state=0, class_weight={"no": 10.0}).fit(x, y)
    np.testing.assert_array_equal(by_sample.predict_proba(x), by_class.predict_proba(x))
    count = len(y)
    balanced = Classifier(random_state=0, class_weight="balanced").fit(x, y)
    explicit = Classifier(random_state=0, class_weight={"no": count / 6, "yes": count / (2 * (count - 3))}).fit(x, y)
    np.testing.assert_allclose(balanced.predict_proba(x), explicit.predict_proba(x), rtol=1e-4)


def test_callbacks_and_validation_reach_the_training():
    seen = []
    ours = Classifier(epochs=2, validation_split=0.25, random_state=0,
                      callbacks=[LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))]).fit(X, Y)
    assert seen == [0, 1]
    assert "val_loss" in ours.history_


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"image_shape": (3, 3, 1)}, ValueError, "9 features.*Received: 4 features"),
    ({"model": lambda shape, classes: "network"}, TypeError, "to return a Sequential"),
    ({"model": lambda shape, classes: own_network(shape, 5)}, ValueError, "2 outputs"),
    ({"class_weight": [1, 2]}, ValueError, "class_weight to be a dict"),
    ({"epochs": 0}, ValueError, "epochs"),
    ({"learning_rate": -1.0}, ValueError, "learning_rate"),
])
def test_bad_parameters_are_refused_in_fit(arguments, error, message):
    with pytest.raises(error, match=message):
        Classifier(**arguments).fit(X, Y)


def test_what_cannot_be_done_is_said():
    with pytest.raises(NotFittedError):
        Classifier().predict(X)
    with pytest.raises(ValueError, match="classes at the first call"):
        Classifier().partial_fit(X, Y)
    ours = Classifier(random_state=0).fit(X, Y)
    with pytest.raises(ValueError, match="known already. Received: \\['maybe'\\]"):
        ours.partial_fit(X, np.where(Y == "yes", "maybe", Y))
    with pytest.raises(ValueError, match="classes of the first call"):
        ours.partial_fit(X, Y, classes=["a", "b"])


def blobs():
    random = np.random.default_rng(1)
    y = np.arange(60) % 3
    return (random.normal(size=(60, 4)) + 3 * y[:, None]).astype(np.float32), y


def test_callbacks_of_a_fitted_classifier_are_copied_and_pickled():
    x, y = blobs()
    digits = Classifier(epochs=2, random_state=0, callbacks=[EarlyStopping("loss")]).fit(x, y)
    again = pickle.loads(pickle.dumps(digits))
    np.testing.assert_array_equal(again.predict_proba(x), digits.predict_proba(x))
    assert clone(digits).callbacks[0].monitor == "loss"
    assert len(cross_val_score(digits, x, y, cv=2, error_score="raise")) == 2


@pytest.mark.parametrize("parameters", [
    {"batch_size": 0}, {"optimizer": "nothing"}, {"class_weight": {5: None}}, {"class_weight": {5: "a"}},
    {"class_weight": {5: float("nan")}}, {"model": 3}, {"validation_split": 2},
], ids=str)
def test_fit_that_fails_leaves_what_was_fitted(parameters):
    x, y = blobs()
    digits = Classifier(epochs=2, random_state=0).fit(x, y)
    before = digits.predict_proba(x)
    with pytest.raises((ValueError, TypeError), match="Received: "):
        digits.set_params(**parameters).fit(x[:, :2], y + 5)
    np.testing.assert_array_equal(digits.classes_, [0, 1, 2])
    np.testing.assert_array_equal(digits.predict_proba(x), before)


def test_images_may_lack_their_last_1():
    random = np.random.default_rng(0)
    images, y = random.random((30, 8, 8)).astype(np.float32), np.arange(30) % 2
    one, other = (Classifier(image_shape=(8, 8, 1), epochs=1, random_state=0).fit(x, y)
                  for x in (images, images[..., None]))
    np.testing.assert_array_equal(one.predict_proba(images), other.predict_proba(images.reshape(30, 64)))
