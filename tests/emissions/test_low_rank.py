"""Low-rank covariances: their start, their borders (no factor, too many), their floor."""

import numpy as np
import pytest

from sklvm.emissions.covariance import Diag, Penalty
from sklvm.emissions.gaussian import Gaussians
from sklvm.emissions.low_rank import LowRank
from tests.emissions.builders import emission, positive_definite, responsibilities, rows


def value(d, q, K=2, seed=0, floor=1e-9, **penalty):
    rng = np.random.default_rng(seed)
    W, psi = rng.standard_normal((K, d, q)), rng.uniform(0.5, 2, (K, d))
    flat = Penalty(penalty.get("count", 0.0), np.full(d, penalty.get("scale", 0.0)))
    return Gaussians(rng.standard_normal((K, d)), LowRank(W, psi, flat, np.full(d, floor)))


@pytest.mark.parametrize(("d", "q"), [(3, 5), (3, 3), (1, 1), (1, 2)])
@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_more_factors_than_features(d, q, missing):
    low, X = value(d, q), rows(d=d, missing=missing)
    full = Gaussians(low.means, low.cov.full())
    np.testing.assert_allclose(low.log_prob(X), full.log_prob(X), rtol=1e-9, atol=1e-9)
    after = low.m_step(low.stats(X, responsibilities(len(X), 2)))
    assert np.isfinite(after.log_prob(X)).all()
    assert low.n_parameters <= full.n_parameters


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_no_factor_is_a_diagonal(missing):
    low, X = value(4, 0, count=1.5, scale=0.7), rows(missing=missing)
    resp = responsibilities(len(X), 2)
    diag = Gaussians(low.means, Diag(low.cov.psi, low.cov.penalty))
    np.testing.assert_allclose(low.log_prob(X), diag.log_prob(X), rtol=1e-12, atol=1e-12)
    after, expected = low.m_step(low.stats(X, resp)), diag.m_step(diag.stats(X, resp))
    np.testing.assert_allclose(after.means, expected.means, rtol=1e-12)
    np.testing.assert_allclose(after.cov.psi, expected.cov.v, rtol=1e-10)
    assert low.log_prior() == pytest.approx(diag.log_prior())
    assert low.n_parameters == diag.n_parameters
    assert low.sample(np.zeros(3, int), np.random.default_rng(0)).shape == (3, 4)


def test_the_factor_posterior_is_that_of_the_joint_gaussian():
    low, X = value(4, 2, K=1), rows()
    W, psi = low.cov.W[0], low.cov.psi[0]
    seen = ~np.isnan(X)
    factors, diff, patterns = low.cov.posterior(0, X, low.means[0])
    V = patterns.of_rows(factors.V)
    for n in range(len(X)):
        o = np.flatnonzero(seen[n])
        S_oo = W[o] @ W[o].T + np.diag(psi[o])
        gain = W[o].T @ np.linalg.inv(S_oo)
        np.testing.assert_allclose(factors.mean[n], gain @ diff[n, o], atol=1e-10)
        np.testing.assert_allclose(V[n], np.eye(2) - gain @ W[o], atol=1e-10)
        np.testing.assert_allclose(factors.log_det[n], np.linalg.slogdet(S_oo)[1], atol=1e-10)
        np.testing.assert_allclose(
            factors.mahalanobis[n], diff[n, o] @ np.linalg.solve(S_oo, diff[n, o]), atol=1e-10
        )


@pytest.mark.parametrize("rows_seen", ["one complete", "one with holes", "all complete"])
def test_one_row_is_as_good_as_many(rows_seen):
    """A block of one row has one posterior covariance, whether the row is complete or not."""
    low, X = value(4, 2), rows()
    X = {"one complete": X[:1], "one with holes": X[2:3], "all complete": X[[0, 0, 0]]}[rows_seen]
    assert np.isnan(X).any() == (rows_seen == "one with holes")
    resp = responsibilities(len(X), 2)
    alone = low.stats(X, resp)
    company = rows(n=20)
    both = low.stats(np.concatenate([X, company]), np.concatenate([resp, responsibilities(20, 2)]))
    rest = low.stats(company, responsibilities(20, 2))
    for name in ("count", "uu", "xu", "xx", "rows", "latent"):
        expected = getattr(both, name) - getattr(rest, name)
        actual = np.broadcast_to(getattr(alone, name), expected.shape)  # features may share it
        np.testing.assert_allclose(actual, expected, atol=1e-10, err_msg=name)


def test_the_start_takes_the_leading_factors_and_leaves_positive_uniquenesses():
    rng = np.random.default_rng(1)
    units = np.array([1e-8, 1.0, 1e8, 3.0, 10.0])
    S = positive_definite(rng, 5)
    floor = np.full(5, 1e-6)
    cov = LowRank.factors(S, 3, 2, Penalty(0.0, np.zeros(5)), floor * np.diag(S))
    assert cov.W.shape == (3, 5, 2)
    np.testing.assert_allclose(np.diagonal(cov.dense()[0]), np.diag(S), rtol=1e-10)
    assert (cov.psi >= 0.5 * np.diag(S) - 1e-12).all()
    scaled = LowRank.factors(
        S * np.outer(units, units), 3, 2, Penalty(0.0, np.zeros(5)), floor * np.diag(S) * units**2
    )
    np.testing.assert_allclose(scaled.dense(), cov.dense() * np.outer(units, units), rtol=1e-7)


def test_the_start_with_more_factors_than_features():
    cov = LowRank.factors(np.diag([1.0, 2.0]), 2, 4, Penalty(0.0, np.zeros(2)), np.full(2, 1e-9))
    assert cov.W.shape == (2, 2, 4)
    np.testing.assert_allclose(np.diagonal(cov.dense()[0]), [1.0, 2.0], rtol=1e-10)


def test_uniquenesses_never_pass_their_floor():
    """Two equal columns are one factor without noise: EM sends psi to the floor, no further."""
    x = np.random.default_rng(2).standard_normal((100, 1))
    X = np.hstack([x, x, np.random.default_rng(3).standard_normal((100, 1))])
    low = value(3, 1, K=1, floor=1e-3)
    history = []
    for _ in range(300):
        history.append(low.log_prob(X).sum())
        low = low.m_step(low.stats(X, np.ones((100, 1))))
    assert low.cov.psi.min() == 1e-3
    assert np.diff(history).min() > -1e-9 * abs(history[-1])


def test_scaled_multiplies_each_matrix():
    low = value(3, 2)
    factor = np.array([2.0, 0.1])
    np.testing.assert_allclose(
        low.cov.scaled(factor).dense(), low.cov.dense() * factor[:, None, None], rtol=1e-12
    )


def test_noise_needs_no_loadings_per_row():
    """Memory for n draws is O(n (d + q)), not O(n d q)."""
    import tracemalloc

    low = value(50, 20)
    z = np.zeros(5000, int)
    tracemalloc.start()
    low.sample(z, np.random.default_rng(0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * 5000 * 50 * 20 * 8


def test_full_keeps_the_density():
    low, X = emission("gaussian-low_rank", count=1.0, strength=1.0), rows()
    full = Gaussians(low.means, low.cov.full())
    np.testing.assert_allclose(full.log_prob(X), low.log_prob(X), rtol=1e-9, atol=1e-9)
