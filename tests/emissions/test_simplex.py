"""Probabilities as points and as Dirichlet posteriors."""

import numpy as np
import pytest
from scipy.stats import dirichlet

from sklvm.emissions.simplex import Dirichlet, Point

ALPHA, PRIOR = np.array([3.0, 1.0, 7.5]), np.array([0.5, 0.5, 2.0])


def test_a_point_is_the_share_of_the_counts():
    point = Point(np.array([0.2, 0.8])).m_step(np.array([3.0, 1.0]))
    np.testing.assert_allclose(point.mean, [0.75, 0.25])
    np.testing.assert_allclose(point.log_prob(), np.log([0.75, 0.25]))
    assert point.log_prior() == 0.0
    assert point.predictive() is point


def test_rows_of_points_are_normalised_one_by_one():
    point = Point(np.full((2, 3), 1 / 3)).m_step(np.array([[1.0, 1, 2], [0, 5, 0]]))
    np.testing.assert_allclose(point.mean, [[0.25, 0.25, 0.5], [0, 1, 0]])
    assert point.n_parameters == 4


def test_a_row_without_counts_stays_as_it_was():
    point = Point(np.array([[0.3, 0.7], [0.5, 0.5]])).m_step(np.array([[0.0, 0.0], [1.0, 3.0]]))
    np.testing.assert_allclose(point.mean, [[0.3, 0.7], [0.25, 0.75]])


def test_a_zero_stays_zero():
    point = Point(np.array([0.0, 0.5, 0.5]))
    assert point.log_prob()[0] == -np.inf
    other = point.unpack(np.array([5.0, 1.0, -1.0]))
    assert other.mean[0] == 0.0
    assert np.isfinite(point.pack(point)).all()


@pytest.mark.parametrize("shape", [(4,), (2, 4)])
def test_pack_and_unpack_of_points(shape):
    rng = np.random.default_rng(0)
    one, other = (Point(rng.dirichlet(np.ones(4), shape[:-1] or None)) for _ in range(2))
    np.testing.assert_allclose(one.pack(one), 0.0)
    np.testing.assert_allclose(one.unpack(one.pack(other)).mean, other.mean, rtol=1e-12)
    # any vector is a probability
    far = one.unpack(np.full(one.mean.size, 900.0)).mean
    np.testing.assert_allclose(far.sum(axis=-1), 1.0)


def test_dirichlet_expectations_by_monte_carlo():
    q = Dirichlet(ALPHA, PRIOR)
    draws = np.random.default_rng(0).dirichlet(ALPHA, 100_000)
    for expected, sample in [(q.mean, draws), (q.log_prob(), np.log(draws))]:
        error = sample.std(axis=0) / np.sqrt(len(draws))
        assert (np.abs(sample.mean(axis=0) - expected) < 5 * error).all()


def test_the_log_prior_is_minus_the_divergence_by_monte_carlo():
    draws = np.random.default_rng(1).dirichlet(ALPHA, 100_000)
    ratio = dirichlet.logpdf(draws.T, PRIOR) - dirichlet.logpdf(draws.T, ALPHA)
    error = ratio.std() / np.sqrt(len(draws))
    assert abs(Dirichlet(ALPHA, PRIOR).log_prior() - ratio.mean()) < 5 * error


def test_the_divergence_is_zero_at_the_prior_and_positive_elsewhere():
    assert Dirichlet(PRIOR, PRIOR).log_prior() == pytest.approx(0.0, abs=1e-12)
    rng = np.random.default_rng(2)
    for _ in range(20):
        assert Dirichlet(rng.gamma(1, size=3), PRIOR).log_prior() < 0
    rows = Dirichlet(np.stack([ALPHA, PRIOR]), np.stack([PRIOR, PRIOR]))
    assert rows.log_prior() == pytest.approx(Dirichlet(ALPHA, PRIOR).log_prior())


def test_the_m_step_adds_counts_and_maximises_the_bound():
    counts = np.array([4.0, 0.0, 2.5])
    q = Dirichlet(ALPHA, PRIOR).m_step(counts)
    np.testing.assert_allclose(q.alpha, PRIOR + counts)

    def bound(alpha):
        other = Dirichlet(alpha, PRIOR)
        return counts @ other.log_prob() + other.log_prior()

    # conjugate: the bound at its best is the exact log evidence of the counts
    from scipy.special import gammaln

    def log_beta(a):
        return gammaln(a).sum() - gammaln(a.sum())

    assert bound(q.alpha) == pytest.approx(log_beta(PRIOR + counts) - log_beta(PRIOR), abs=1e-10)
    rng = np.random.default_rng(3)
    for _ in range(20):
        assert bound(q.alpha * np.exp(0.1 * rng.standard_normal(3))) < bound(q.alpha)


def test_predictive_take_and_pack_of_dirichlets():
    q, other = Dirichlet(ALPHA, PRIOR), Dirichlet(ALPHA[::-1], PRIOR)
    np.testing.assert_allclose(q.predictive().mean, ALPHA / ALPHA.sum())
    order = np.array([2, 0, 1])
    np.testing.assert_array_equal(q.take(order).alpha, ALPHA[order])
    np.testing.assert_array_equal(q.take(order).prior, PRIOR[order])
    np.testing.assert_allclose(q.pack(q), 0.0)
    np.testing.assert_allclose(q.unpack(q.pack(other)).alpha, other.alpha, rtol=1e-12)
    assert q.n_parameters == 2
