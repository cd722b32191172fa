"""Negative binomial emissions: the probabilities, the search for dispersions, the Poisson limit."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from scipy.stats import nbinom, poisson

from sklvm import Mixture, NegativeBinomial, Poisson
from sklvm.emissions.dispersion import BOUNDS, EDGES, TABLE, rises, steps, sums_to
from sklvm.emissions.negative_binomial import NegativeBinomials
from sklvm.emissions.poisson import Poissons
from sklvm.inference.em import evaluate, known_of
from tests.emissions.builders import gradient_at

DISPERSIONS = [1e-8, 1e-4, 0.03, 0.7, 5.0, 1e4]


def value(mean, dispersion, pseudo=0.0):
    mean, dispersion = np.atleast_2d(mean).astype(float), np.atleast_2d(dispersion).astype(float)
    d = mean.shape[1]
    return NegativeBinomials(mean, dispersion, pseudo, np.full(d, 3.0), np.full(d, 12.0))


def counts(size=1.0, n=400, seed=0):
    """Two groups in three columns; with size 100 most counts are beyond the table."""
    rng = np.random.default_rng(seed)
    rate = size * np.array([[4.0, 9.0, 2.0], [12.0, 3.0, 5.0]])[rng.integers(0, 2, n)]
    X = rng.poisson(rate * rng.gamma(3, 1 / 3, rate.shape)).astype(float)
    return np.where(rng.uniform(size=X.shape) < 0.1, np.nan, X)


# --- the probabilities ------------------------------------------------------------------------


@pytest.mark.parametrize("dispersion", DISPERSIONS)
def test_the_sum_by_table_and_by_formula(dispersion):
    """Up to TABLE it is a table, beyond a formula: both are the plain sum, and so is the slope."""
    t = np.arange(3 * TABLE)
    terms, shares = np.log1p(dispersion * t), dispersion * t / (1 + dispersion * t)
    table = rises(np.array([dispersion]))[0]
    plain = np.concatenate([[0], np.cumsum(terms)])
    edges = EDGES[len(plain) > EDGES].astype(int)
    assert edges[-1] > 2 * TABLE
    assert_allclose(table[: len(edges)], plain[edges], rtol=1e-11, atol=1e-12)
    x = np.array([TABLE, TABLE + 1.0, TABLE + 50, 3 * TABLE])
    logs, slopes = (part - part[0] for part in sums_to(dispersion, x))
    for got, summed in ((logs, terms), (slopes, shares)):
        expected = [summed[TABLE : int(top)].sum() for top in x]
        assert_allclose(got, expected, rtol=1e-7 if dispersion < 1e-6 else 1e-11, atol=1e-12)


@pytest.mark.parametrize("dispersion", DISPERSIONS[2:])
@pytest.mark.parametrize("mean", [0.05, 3.0, 400.0])
def test_log_probabilities(mean, dispersion):
    x = np.array([0.0, 1, 2, 17, TABLE - 1, TABLE, TABLE + 1, 900, 20000])
    expected = nbinom.logpmf(x, 1 / dispersion, 1 / (1 + dispersion * mean))
    got = value(mean, dispersion).log_prob(x[:, None])[:, 0]
    assert_allclose(got, expected, rtol=1e-9)


def test_no_dispersion_is_a_poisson_distribution():
    x = np.array([0.0, 1, 5, 40, 300, 1000])[:, None]
    gap = value(20.0, BOUNDS[0]).log_prob(x)[:, 0] - poisson.logpmf(x[:, 0], 20.0)
    # the first term of the expansion in the dispersion
    assert_allclose(gap, BOUNDS[0] * ((x[:, 0] - 20) ** 2 - x[:, 0]) / 2, rtol=1e-3, atol=1e-11)


@pytest.mark.parametrize("size", [1.0, 60.0])
def test_a_mixed_row_of_small_large_and_missing_counts(size):
    X = counts(size)
    X[0] = [3.0, 1e5, np.nan]
    means, dispersions = (
        np.array([[4, 900.0, 2], [300, 3, 5]]),
        np.array([[0.1, 2, 0.5], [1, 3, 7]]),
    )
    expected = np.nansum(
        nbinom.logpmf(X[:, None], 1 / dispersions, 1 / (1 + dispersions * means)), axis=2
    )
    assert_allclose(value(means, dispersions).log_prob(X), expected, rtol=1e-9)


# --- statistics and the M-step ----------------------------------------------------------------


@pytest.mark.parametrize("size", [1.0, 60.0])
def test_statistics_add(size):
    X, resp = counts(size), np.random.default_rng(1).dirichlet([1, 1], 400)
    emission = value(size * np.array([[4, 9, 2], [12, 3, 5.0]]), np.full((2, 3), 0.4))
    whole = emission.stats(X, resp)
    parts = emission.stats(X[:150], resp[:150]) + emission.stats(X[150:], resp[150:])
    for name in ("count", "excess", "slope"):
        assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-10, atol=1e-10)
    assert_allclose(whole.count.sum(axis=2), resp.T @ ~np.isnan(X), rtol=1e-12)
    total = whole.count @ EDGES + whole.excess
    assert_allclose(total, resp.T @ np.nan_to_num(X), rtol=1e-12)


@pytest.mark.parametrize("pseudo", [0.0, 1.0])
@pytest.mark.parametrize("dispersion", [0.02, 0.4, 3.0])
def test_one_component_is_the_maximum(dispersion, pseudo):
    """Against a general optimiser over both parameters."""
    x = np.random.default_rng(3).negative_binomial(1 / dispersion, 1 / (1 + 6 * dispersion), 300)
    X = x[:, None].astype(float)
    model = Mixture(emission=NegativeBinomial(pseudo), tol=1e-12).fit(X)
    assert model.means_[0, 0] == pytest.approx(x.mean(), rel=1e-9)

    def loss(parameters):
        mean, a = np.exp(parameters)
        there = replace(model.emission_, mean=mean * np.eye(1), dispersion=a * np.eye(1))
        return -nbinom.logpmf(x, 1 / a, 1 / (1 + a * mean)).sum() - there.log_prior()

    start = np.log([x.mean(), dispersion])
    best = minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-10})
    found = np.log([model.means_[0, 0], model.emission_.dispersion[0, 0]])
    assert_allclose(found, best.x, atol=1e-5)
    assert model.lower_bound_ * 300 == pytest.approx(-best.fun, abs=1e-8)


@pytest.mark.parametrize("size", [1.0, 60.0])
@pytest.mark.parametrize("pseudo", [0.0, 1.0])
def test_the_gradient_vanishes(pseudo, size):
    X = counts(size)
    spec = NegativeBinomial(pseudo)
    model = Mixture(2, emission=spec, tol=1e-13, max_iter=9999, random_state=0).fit(X)
    assert np.abs(gradient_at(model.state_, X)).max() < 1e-5
    inside = (BOUNDS[0] < model.emission_.dispersion) & (model.emission_.dispersion < BOUNDS[1])
    assert inside.all()


@pytest.mark.parametrize("size", [1.0, 60.0])
@pytest.mark.parametrize("start", [1e-6, 0.01, 1.0, 1e3])
def test_no_m_step_lowers_the_objective(size, start):
    """From far away too, where the expected log-likelihood is flat or bends the wrong way."""
    X = counts(size)
    resp = np.random.default_rng(0).dirichlet([1, 1], 400)
    emission = value(size * np.array([[4, 9, 2], [12, 3, 5.0]]), np.full((2, 3), start), pseudo=1.0)
    heights = []
    for _ in range(4):
        heights.append((resp * emission.log_prob(X)).sum() + emission.log_prior())
        emission = emission.m_step(emission.stats(X, resp))
    assert np.diff(heights).min() > -1e-9 * abs(heights[0])
    assert heights[-1] - heights[-2] < 0.05 * (heights[1] - heights[0]) + 1e-8


def test_a_component_without_rows_keeps_its_parameters():
    emission = value([[4.0, 9.0], [2.0, 1.0]], [[0.4, 0.1], [2.0, 3.0]])
    X, resp = counts()[:, :2], np.tile([1.0, 0.0], (400, 1))
    after = emission.m_step(emission.stats(X, resp))
    assert_array_equal(after.mean[1], emission.mean[1])
    assert_array_equal(after.dispersion[1], emission.dispersion[1])


def test_counts_that_vary_less_than_poisson_get_the_least_dispersion():
    X = np.array([[4.0], [5], [5], [6]] * 20)
    model = Mixture(emission=NegativeBinomial(0.0)).fit(X)
    assert model.emission_.dispersion[0, 0] == pytest.approx(BOUNDS[0])
    same = Mixture(emission=Poisson(0.0)).fit(X)
    assert_allclose(model.score_samples(X), same.score_samples(X), atol=1e-6)


def test_poisson_counts_get_a_mixture_of_poissons():
    rng = np.random.default_rng(0)
    X = rng.poisson(np.array([[2, 9], [12, 3]])[rng.integers(0, 2, 3000)]).astype(float)
    model = Mixture(2, emission=NegativeBinomial(0.0), random_state=0).fit(X)
    same = Mixture(2, emission=Poisson(0.0), random_state=0).fit(X)
    assert model.emission_.dispersion.max() < 0.02
    assert -1e-6 < model.score(X) - same.score(X) < 1e-3


def test_the_objective_counts_what_no_parameter_changes():
    X = counts(60.0)
    state = Mixture(2, emission="negative_binomial", random_state=0).fit(X).state_
    rows = (X, np.arange(len(X)) % 3.0)
    known = evaluate(state, rows, known=known_of(state, rows))
    by_score = rows[1] @ state.log_prob(X) + state.log_prior()
    assert known.objective == pytest.approx(by_score / rows[1].sum(), rel=1e-12)
    assert known.objective == pytest.approx(evaluate(state, rows).objective, rel=1e-12)


def test_the_prior_is_mild_and_ends_at_the_scale_of_all_rows():
    emission = value(3.0, 0.5, pseudo=2.0)
    typical = (12.0 - 3.0) / 3.0**2
    assert emission._typical == pytest.approx(typical)
    at = {
        a: replace(emission, dispersion=np.array([[a]])).log_prior() for a in (1e-6, 0.5, 1.0, 1e5)
    }
    assert max(at, key=at.get) == 1.0 and at[1.0] == pytest.approx(0.0, abs=1e-12)
    assert at[1e-6] > -2.0 * np.log(1e6) and at[1e5] > -2.0 * np.log(1e5)
    empty = emission.m_step(emission.stats(np.empty((0, 1)), np.empty((0, 1))))
    assert empty.mean[0, 0] == pytest.approx(3.0)  # where the prior is all there is


def test_an_odd_row_in_the_prior_does_not_spread_a_component():
    """Means of 20 and 20000 in a column: neither learns its dispersion from the other."""
    rng = np.random.default_rng(0)
    X = rng.poisson(np.array([[20.0, 5], [20000, 50]])[rng.integers(0, 2, 500)]).astype(float)
    model = Mixture(2, emission="negative_binomial", random_state=0).fit(X)
    assert model.emission_.dispersion.max() < 0.05
    assert_allclose(np.sort(model.means_[:, 0]), [20, 20000], rtol=0.02)


def test_a_search_ends_once_all_columns_are_found(monkeypatch):
    """What has been found stays, so the search takes Newton's few steps, not those of bisection."""
    X, taken = counts(n=60), []
    resp = np.random.default_rng(0).dirichlet(np.ones(4), size=len(X))
    start = value(np.full((4, 3), 6.0), np.full((4, 3), 2.0), 1.0)
    stats = start.stats(X, resp)

    def counted(*args):
        taken.append(1)
        return steps(*args)

    monkeypatch.setattr("sklvm.emissions.dispersion.steps", counted)
    found = start.m_step(stats).m_step(stats)
    assert len(taken) < 60
    assert np.ptp(found.dispersion) > 0.1


def test_dispersions_are_found():
    rng = np.random.default_rng(0)
    truth = np.array([[0.2, 2.0], [0.5, 0.05]])
    means, z = np.array([[5.0, 400.0], [60.0, 20.0]]), rng.integers(0, 2, 6000)
    X = rng.negative_binomial(1 / truth[z], 1 / (1 + (truth * means)[z])).astype(float)
    model = Mixture(2, emission="negative_binomial", random_state=0).fit(X)
    order = np.argsort(model.means_[:, 0])
    assert_allclose(model.emission_.dispersion[order], truth, rtol=0.3)
    assert_allclose(model.means_[order], means, rtol=0.06)
    there = replace(model.emission_, mean=means, dispersion=truth)
    drawn = Mixture.from_parameters(weights=[0.5, 0.5], emission=there)
    assert 0 < model.score(X) - drawn.score(X) < 10 / len(X)


def test_the_limit_of_a_large_table():
    emission = Poissons(np.array([[5.0, 2.0]]), 0.0, np.ones(2))
    same = value([[5.0, 2.0]], [[BOUNDS[0]] * 2])
    X = np.array([[3.0, 0.0], [7, 2], [np.nan, 1]])
    assert_allclose(same.log_prob(X), emission.log_prob(X), atol=1e-6)
    assert_allclose(same.variance(), emission.variance(), atol=1e-6)
    assert same.spec == NegativeBinomial(0.0)
