"""Poisson emissions: the probabilities, closed forms, large counts."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import poisson

from sklvm import Mixture, Poisson
from sklvm.emissions.poisson import Poissons
from sklvm.inference.em import evaluate, known_of
from tests.emissions.builders import gradient_at


def counts(n=300, d=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.poisson(np.array([[1, 4, 10, 2], [5, 2, 12, 0.5]])[rng.integers(0, 2, n), :d])
    return np.where(rng.uniform(size=X.shape) < 0.1, np.nan, X)


@pytest.mark.parametrize("rate", [1e-9, 0.3, 40.0, 1e6])
def test_log_probabilities(rate):
    value = Poissons(np.array([[rate]]), 0.0, np.array([2.0]))
    x = np.array([0.0, 1, 7, 39, 1e6])
    assert_allclose(
        value.log_prob(x[:, None])[:, 0], poisson.logpmf(x, rate), rtol=1e-12, atol=1e-15
    )


@pytest.mark.parametrize("pseudo", [0.0, 1.0, 2.5])
def test_one_component_is_the_average(pseudo):
    X, weight = counts(50), np.random.default_rng(1).integers(0, 3, 50)
    model = Mixture(emission=Poisson(pseudo)).fit(X, sample_weight=weight)
    average = weight @ np.nan_to_num(X) / (weight @ ~np.isnan(X))
    assert_allclose(model.means_[0], average, rtol=1e-12)
    expected = np.nansum(poisson.logpmf(X, average), axis=1)
    assert_allclose(model.score_samples(X), expected, rtol=1e-12)
    assert model.lower_bound_ == pytest.approx(weight @ expected / weight.sum(), rel=1e-12)


def test_the_m_step_adds_pseudo_rows():
    X, rng = counts(30), np.random.default_rng(2)
    resp = rng.dirichlet([1, 1], 30)
    start = Poissons(np.ones((2, 4)), 0.7, np.nanmean(X, axis=0))
    found = start.m_step(start.stats(X, resp))
    total, seen = resp.T @ np.nan_to_num(X), resp.T @ ~np.isnan(X)
    assert_allclose(found.mean, (total + 0.7 * start.centre) / (seen + 0.7), rtol=1e-12)
    # no other rates are better

    def objective(value):
        return (resp * value.log_prob(X)).sum() + value.log_prior()

    for move in 0.01 * rng.normal(size=(20, 8)):
        assert objective(found.unpack(move)) < objective(found)


@pytest.mark.parametrize("pseudo", [0.0, 1.0])
def test_the_gradient_vanishes(pseudo):
    X = counts()
    model = Mixture(2, emission=Poisson(pseudo), tol=1e-13, max_iter=9999, random_state=0).fit(X)
    assert np.abs(gradient_at(model.state_, X)).max() < 1e-5


def test_a_total_that_no_rate_changes_is_worked_out_once():
    """The driver's pass leaves the factorials out and adds their total: the same objective."""
    X = counts()
    state = Mixture(2, emission="poisson", random_state=0).fit(X).state_
    rows = (X, np.arange(len(X)) % 3.0)
    plain, known = evaluate(state, rows), evaluate(state, rows, known=known_of(state, rows))
    assert known.objective == pytest.approx(plain.objective, rel=1e-13)
    assert_allclose(known.stats.emission.total, plain.stats.emission.total, rtol=1e-12)
    by_score = rows[1] @ state.log_prob(X) + state.log_prior()
    assert plain.objective == pytest.approx(by_score / rows[1].sum(), rel=1e-13)


@pytest.mark.parametrize("size", [1e4, 1e7])
def test_large_counts(size):
    rng = np.random.default_rng(0)
    X = rng.poisson(size * np.array([[1.0, 2.0], [1.5, 1.0]])[rng.integers(0, 2, 200)])
    model = Mixture(2, emission="poisson", random_state=0).fit(X)
    assert np.diff(model.history_).min() > -1e-9 and model.converged_
    assert_allclose(np.sort(model.means_[:, 0]) / size, [1, 1.5], rtol=0.01)
    (mode,) = model.impute([[np.nan, X[0, 1]]], how="mode")
    near = mode[0] + np.arange(-50.0, 51)
    scores = model.score_samples(np.column_stack([near, np.full(101, X[0, 1])]))
    assert scores[50] == pytest.approx(scores.max(), abs=1e-6 if size > 1e6 else 1e-12)


def test_a_component_of_zeros_keeps_a_rate():
    X = np.repeat([[0.0, 5], [7, 0], [0, 0]], [10, 10, 5], axis=0)
    for pseudo in (0.0, 1.0):
        model = Mixture(3, emission=Poisson(pseudo), random_state=0).fit(X)
        assert (model.means_ > 0).all() and np.isfinite(model.score_samples([[3, 3]])).all()


def test_modes_far_apart():
    """A range of values too wide to be compared at once: a grid, then finer ones."""
    means = np.array([[3.5, 1.0], [200000.5, 3.0], [201000.5, 2.0]])
    value = Poissons(means, 0.0, np.ones(2))
    model = Mixture.from_parameters(weights=[0.2, 0.4, 0.4], emission=value)
    x = np.r_[np.arange(30.0), np.arange(199000.0, 202000.0)]
    for other in (0, 1, 2, 3, 6):
        best = x[model.score_samples(np.column_stack([x, np.full(len(x), other)])).argmax()]
        assert model.impute([[np.nan, other]], how="mode")[0, 0] == best
