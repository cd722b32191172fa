"""The search for the best maximum of a factor analysis: two starts, and when one is enough."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import chi2, multivariate_normal

from sklvm import EMFactorAnalysis
from sklvm.factor_search import starts
from sklvm.inference.em import em
from sklvm.inference.factor_profile import Profile, maximum_likelihood
from sklvm.inference.moments import pooled_moments

SETTINGS = {"max_iter": 1000, "tol": 1e-10}
PENALTY = 0.05


def near_duplicates(seed):
    """A table with pairs of columns that nearly repeat each other, and a number of factors."""
    rng = np.random.default_rng(seed)
    d, q, n = int(rng.integers(5, 11)), int(rng.integers(1, 4)), int(rng.choice([50, 200]))
    noise = 10 ** rng.uniform(-2, -0.3)
    W = rng.normal(size=(n, q)) @ rng.normal(size=(q, d))
    X = W * rng.uniform(0.5, 1.5) + rng.normal(size=(n, d))
    for j in (0, 2)[: 1 + seed % 2]:
        X[:, j + 1] = X[:, j] + noise * rng.normal(size=n)
    return X, q


def plain(n, d=6, q=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, q)) @ rng.normal(size=(q, d)) + rng.normal(size=(n, d))


def profile_of(X, q):
    return Profile.of_covariance(np.cov(X.T, ddof=0), float(len(X)), q, PENALTY)


@pytest.mark.parametrize(("seed", "better"), [(225, 0), (207, 1)])
def test_the_highest_of_several_maxima_is_taken(seed, better):
    X, q = near_duplicates(seed)
    profile = profile_of(X, q)
    runs = [profile.climb(np.log(u), np.copy, **SETTINGS) for u in profile.starts()]
    ends = [run.objective for run in runs]
    assert ends[better] > ends[1 - better] + 0.01  # nats per row
    best = maximum_likelihood(profile, lambda W, psi, *_: psi, **SETTINGS)
    assert best.objective == max(ends)
    model = EMFactorAnalysis(q, **SETTINGS).fit(X)
    assert model.history_[-1] == pytest.approx(max(ends), abs=1e-9)


@pytest.mark.parametrize(("q", "holds"), [(1, False), (2, True)])
def test_a_fit_holds_where_the_chi_square_test_accepts_it(q, holds):
    X = plain(5000)
    profile = profile_of(X, q)
    run = profile.climb(np.log(next(profile.starts())), np.copy, **SETTINGS)
    assert profile.holds(run.objective) == holds
    S, (n, d) = np.cov(X.T, ddof=0), X.shape
    saturated = multivariate_normal(X.mean(axis=0), S).logpdf(X).mean()
    critical = chi2.isf(1e-3, ((d - q) ** 2 - d - q) / 2) / (2 * n)
    assert profile.holds(saturated - 0.99 * critical)
    assert not profile.holds(saturated - 1.01 * critical)


def test_no_fit_holds_on_few_rows_or_where_any_covariance_fits():
    few, many = profile_of(plain(179), 2), profile_of(plain(180), 2)  # ten rows per parameter
    assert many.holds(1e3) and not few.holds(1e3)
    assert not profile_of(plain(5000), 3).holds(1e3)  # Ledermann's bound of 6 columns


def test_one_climb_is_enough_where_it_holds(monkeypatch):
    climbs = []
    climb = Profile.climb

    def counted(self, *args, **settings):
        climbs.append(1)
        return climb(self, *args, **settings)

    monkeypatch.setattr(Profile, "climb", counted)
    for n, expected in [(5000, 1), (100, 4)]:
        climbs.clear()
        maximum_likelihood(profile_of(plain(n), 2), lambda W, psi, *_: psi, **SETTINGS)
        assert len(climbs) == expected


@pytest.mark.parametrize(("seed", "better"), [(8, 0), (25, 1)])
def test_with_missing_entries_the_better_start_is_taken(seed, better):
    X = plain(80, 6, 2, seed)
    X[np.random.default_rng(seed).uniform(size=X.shape) < 0.2] = np.nan
    rows = X, np.ones(80)
    mean, S = pooled_moments(*rows)
    profile = Profile.of_covariance(S, 80.0, 1, PENALTY)
    states = list(starts(mean, S, profile))
    ends = [em(s, rows, accelerate="squarem", max_iter=1000, tol=1e-9).objective for s in states]
    assert len(states) == 2 and ends[better] > ends[1 - better] + 0.01  # nats per row
    model = EMFactorAnalysis(1, tol=1e-9).fit(X)
    assert model.history_[-1] == pytest.approx(ends[better], abs=1e-7)


@pytest.mark.parametrize(("n", "d"), [(50, 6), (20, 30), (400, 200)])
def test_no_factor_leaves_the_variances(n, d):
    rng = np.random.default_rng(0)
    mean, S, profile = Profile.of_data(rng.normal(size=(n, d)), np.ones(n), 3, PENALTY)
    none = profile.sized(0)
    assert len(mean) == d and (S is None) == (n < d) and none.spectrum.guess is None
    W, psi, _, _ = none.factors(np.zeros(d))
    assert W.shape == (d, 0)
    assert_allclose(psi, profile.variance)
    run = maximum_likelihood(none, lambda W, psi, *_: psi, **SETTINGS)
    assert_allclose(run.state, profile.variance * (1 + PENALTY / n), rtol=1e-5)
    assert_array_equal(profile.sized(3).factors(np.zeros(d) - 1)[0].shape, (d, 3))
