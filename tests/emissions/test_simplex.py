"""Probabilities as points and as Dirichlet posteriors."""

from itertools import permutations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import betaln, gammaln
from scipy.stats import beta, dirichlet

from sklvm.emissions.simplex import Dirichlet, Point, StickBreaking

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


# --- sticks --------------------------------------------------------------------------------------

COUNTS = np.array([3.0, 0.0, 11.5, 6.0])


def log_evidence_of_sticks(counts, g):
    """log p(counts), each row's label a draw from the sticks: the sticks in the order given."""
    after = counts[::-1].cumsum()[::-1] - counts
    return (betaln(1 + counts, g + after) - betaln(1, g))[:-1].sum()


def log_evidence_of_dirichlet(counts, a):
    return (gammaln(a + counts) - gammaln(a)).sum() + gammaln(a.sum()) - gammaln((a + counts).sum())


@pytest.mark.parametrize("g", [0.3, 1.0, 4.0])
def test_the_bound_of_counts_is_the_evidence_of_the_best_order(g):
    q = StickBreaking.unseen(4, g).m_step(COUNTS)
    bound = COUNTS @ q.log_prob() + q.log_prior()
    best = max(log_evidence_of_sticks(COUNTS[list(p)], g) for p in permutations(range(4)))
    assert bound == pytest.approx(best, abs=1e-10)
    assert bound == pytest.approx(log_evidence_of_sticks(COUNTS[q.order], g), abs=1e-10)
    assert q.log_prior() < 0
    np.testing.assert_allclose(q.counts, COUNTS, atol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_no_order_of_sticks_is_better(seed):
    rng = np.random.default_rng(seed)
    counts, g = rng.gamma(0.5, 5, size=5), rng.uniform(0.2, 6)
    q = StickBreaking.unseen(5, g).m_step(counts)
    best = max(log_evidence_of_sticks(counts[list(p)], g) for p in permutations(range(5)))
    assert log_evidence_of_sticks(counts[q.order], g) == pytest.approx(best, abs=1e-8)


def test_stick_expectations_by_monte_carlo():
    q = StickBreaking.unseen(4, 0.8).m_step(COUNTS)
    rng = np.random.default_rng(0)
    v = np.ones((100_000, 4))
    v[:, :3] = rng.beta(q.a[:-1], q.b[:-1], size=(100_000, 3))
    left = np.cumprod(np.column_stack([np.ones(len(v)), 1 - v[:, :3]]), axis=1)
    draws = np.empty_like(v)
    draws[:, q.order] = v * left
    np.testing.assert_allclose(draws.sum(axis=1), 1.0)
    for expected, sample in [(q.mean, draws), (q.log_prob(), np.log(draws))]:
        error = sample.std(axis=0) / np.sqrt(len(draws))
        assert (np.abs(sample.mean(axis=0) - expected) < 5 * error).all()
    assert q.mean.sum() == pytest.approx(1.0, abs=1e-12)
    ratio = beta.logpdf(v[:, :3], 1, 0.8) - beta.logpdf(v[:, :3], q.a[:-1], q.b[:-1])
    ratio = ratio.sum(axis=1)
    assert abs(q.log_prior() - ratio.mean()) < 5 * ratio.std() / np.sqrt(len(ratio))


def test_take_pack_and_predictive_of_sticks():
    q = StickBreaking.unseen(4, 0.8).m_step(COUNTS)
    other = StickBreaking.unseen(4, 0.8).m_step(COUNTS[::-1] + 1)
    order = np.array([2, 0, 3, 1])
    taken = q.take(order)
    np.testing.assert_allclose(taken.mean, q.mean[order])
    np.testing.assert_allclose(taken.log_prob(), q.log_prob()[order])
    np.testing.assert_allclose(taken.counts, COUNTS[order], atol=1e-12)
    assert taken.log_prior() == q.log_prior()
    assert (np.diff(q.take(np.argsort(-q.size)).counts) <= 0).all()
    np.testing.assert_allclose(q.pack(q), 0.0, atol=1e-12)
    np.testing.assert_allclose(q.unpack(q.pack(other)).counts, other.counts, atol=1e-12)
    assert q.unpack(np.full(4, -50.0)).counts.min() == 0
    np.testing.assert_allclose(q.predictive().mean, q.mean)
    assert q.n_parameters == 3
    a, b = q.concentrations
    np.testing.assert_allclose(a, 1 + COUNTS)
    assert b[q.order[-1]] == 0


def test_one_component_has_no_stick():
    q = StickBreaking.unseen(1, 2.0, learns_prior=True).m_step(np.array([5.0]))
    assert q.mean == [1.0]
    assert q.log_prob() == [0.0]
    assert q.log_prior() == 0.0
    assert q.concentration == 2.0


# --- empirical Bayes -----------------------------------------------------------------------------


def test_learnt_concentrations_are_where_the_evidence_is_highest():
    q = Dirichlet(np.full(4, 0.9), np.full(4, 0.9), learns_prior=True).m_step(COUNTS)
    found = minimize_scalar(
        lambda t: -log_evidence_of_dirichlet(COUNTS, np.full(4, np.exp(t))), bounds=(-6, 0)
    )
    np.testing.assert_allclose(q.prior, np.exp(found.x), rtol=1e-4)
    np.testing.assert_allclose(q.counts, COUNTS)
    sticks = StickBreaking.unseen(4, 0.9, learns_prior=True).m_step(COUNTS)
    found = minimize_scalar(
        lambda t: -log_evidence_of_sticks(np.sort(COUNTS)[::-1], np.exp(t)), bounds=(-6, 4)
    )
    assert sticks.concentration == pytest.approx(np.exp(found.x), rel=1e-4)


@pytest.mark.parametrize("counts", [np.array([30.0, 0, 0]), np.array([10.0, 10, 10]), np.zeros(3)])
def test_learnt_concentrations_stay_within_bounds_and_never_lower_the_bound(counts):
    for start in (1e-3, 0.1, 1.0):
        plain = Dirichlet(np.full(3, start), np.full(3, start))
        learnt = Dirichlet(np.full(3, start), np.full(3, start), learns_prior=True)
        sticks = StickBreaking.unseen(3, start), StickBreaking.unseen(3, start, True)
        for fixed, free in [(plain, learnt), sticks]:
            fixed, free = fixed.m_step(counts), free.m_step(counts)
            gain = counts @ free.log_prob() + free.log_prior()
            assert gain >= counts @ fixed.log_prob() + fixed.log_prior() - 1e-10
            assert 1e-3 * (1 - 1e-9) <= free.prior_concentration <= 100 * (1 + 1e-9)


def test_a_prior_resumes_what_was_learnt():
    before = Dirichlet(np.ones(4), np.ones(4), learns_prior=True).m_step(COUNTS)
    again = Dirichlet(np.ones(4), np.ones(4), learns_prior=True).resuming(before)
    np.testing.assert_array_equal(again.prior, before.prior)
    np.testing.assert_array_equal(again.counts, 0.0)
    given = Dirichlet(np.ones(4), np.ones(4)).resuming(before)
    np.testing.assert_array_equal(given.prior, 1.0)
    before = StickBreaking.unseen(4, 1.0, learns_prior=True).m_step(COUNTS)
    again = StickBreaking.unseen(4, 1.0, learns_prior=True).resuming(before)
    assert again.concentration == before.concentration != 1.0
    assert again.log_prior() == pytest.approx(0.0, abs=1e-12)
    assert StickBreaking.unseen(4, 1.0).resuming(before).concentration == 1.0
