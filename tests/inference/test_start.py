"""Starts depend on the weighted set of rows alone: not on order, repetition or units."""

import numpy as np
import pytest
from sklearn.cluster import KMeans

from sklvm.emissions.covariance import Penalty
from sklvm.emissions.dense import Full
from sklvm.emissions.gaussian import Gaussians
from sklvm.inference import start
from sklvm.inference.blocks import BLOCK
from sklvm.inference.moments import column_moments, pooled_moments
from sklvm.inference.start import (
    SAMPLE,
    STARTS,
    complete_by_draw,
    distinct,
    lexicographic,
    representative,
    spread,
)


def data(n=300, d=3, seed=0, holes=0.2, ties=True):
    """Rows with NaN, repeated rows, and tied values in the first columns."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    if ties:
        X = np.round(X * 2) / 2
    X[rng.uniform(size=X.shape) < holes] = np.nan
    X[np.isnan(X).all(axis=1)] = 0.25
    return X


def as_set(X, weight):
    """The weighted set of rows as a dictionary: row -> weight."""
    total: dict = {}
    for row, w in zip(X, weight, strict=True):
        key = tuple("nan" if np.isnan(value) else float(value) for value in row)
        total[key] = total.get(key, 0.0) + w
    return total


def assert_same_set(a, b):
    a, b = as_set(*a), as_set(*b)
    assert a.keys() == b.keys()
    for key, weight in a.items():
        assert weight == pytest.approx(b[key], rel=1e-12)


# --- order ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (1, 3), (50, 1), (300, 3), (2500, 2)])
def test_lexicographic_is_numpy_lexsort(n, d, ties):
    X = data(n, d, ties=ties)
    np.testing.assert_array_equal(lexicographic(X), np.lexsort(X.T[::-1]))


def test_lexicographic_puts_nan_last_in_every_column():
    nan = np.nan
    X = np.array([[nan, 1.0], [2.0, nan], [2.0, 1.0], [nan, nan], [-np.inf, 0.0], [2.0, 1.0]])
    np.testing.assert_array_equal(lexicographic(X), [4, 2, 5, 1, 0, 3])


@pytest.mark.parametrize("n", [1, 300, 3 * BLOCK])
def test_distinct_rows_and_their_weights(n):
    X, weight = data(n), np.random.default_rng(1).uniform(0.5, 2, n)
    order, mass = distinct(X, weight)
    assert len(as_set(X[order], mass)) == len(order)
    assert_same_set((X[order], mass), (X, weight))
    np.testing.assert_array_equal(lexicographic(X[order]), np.arange(len(order)))


def test_distinct_ties_across_the_border_of_a_block():
    X = np.repeat(np.arange(3.0), BLOCK)[:, None]
    order, mass = distinct(X, np.ones(len(X)))
    np.testing.assert_array_equal(X[order, 0], [0, 1, 2])
    np.testing.assert_array_equal(mass, BLOCK)


def changed(X, weight, how, seed=3):
    """The same weighted set of rows, written down differently, and in other units."""
    rng = np.random.default_rng(seed)
    if how == "shuffled":
        order = rng.permutation(len(X))
        return X[order], weight[order]
    if how == "repeated":
        return np.repeat(X, weight.astype(int), axis=0), np.ones(int(weight.sum()))
    if how == "rescaled":
        return X * [2.0, 1024.0, 2.0**-20], weight
    if how == "shifted":
        return X + [16.0, -2.0, 1024.0], weight
    assert how == "zero weights"
    extra = rng.integers(-9, 9, (40, X.shape[1])) + 0.125
    X, weight = np.concatenate([X, extra]), np.concatenate([weight, np.zeros(40)])
    return X, weight


BACK = {
    "rescaled": lambda X: X / [2.0, 1024.0, 2.0**-20],
    "shifted": lambda X: X - [16.0, -2.0, 1024.0],
}
CHANGES = ["shuffled", "repeated", "rescaled", "shifted"]


@pytest.mark.parametrize("size", [50, 10_000])
@pytest.mark.parametrize("how", CHANGES)
def test_representatives_depend_on_the_weighted_set_alone(how, size):
    X, weight = data(), np.random.default_rng(2).integers(1, 5, 300).astype(float)
    here = representative(X, weight, size)
    there = representative(*changed(X, weight, how), size)
    rows = BACK.get(how, lambda X: X)(there.X)
    np.testing.assert_allclose(rows, here.X, rtol=1e-12)
    np.testing.assert_allclose(there.weight, here.weight, rtol=1e-12)


def test_representatives_ignore_rows_without_weight_where_they_must_choose():
    X, weight = data(), np.random.default_rng(2).integers(1, 5, 300).astype(float)
    assert_same_set(
        representative(X, weight, 50), representative(*changed(X, weight, "zero weights"), 50)
    )


def test_few_distinct_rows_are_all_kept_with_their_weights():
    X, weight = data(), np.random.default_rng(1).uniform(0.5, 2, 300)
    assert_same_set(representative(X, weight), (X, weight))


def test_many_rows_are_thinned_to_the_size_with_the_weight_of_all():
    X = np.random.default_rng(0).standard_normal((20_000, 2))
    weight = np.random.default_rng(1).uniform(0.5, 2, 20_000)
    X_few, mass = representative(X, weight)
    assert len(X_few) <= SAMPLE
    assert mass.sum() == pytest.approx(weight.sum())
    mean = np.average(X, axis=0, weights=weight)
    assert np.abs(np.average(X_few, axis=0, weights=mass) - mean).max() < 0.05


def test_a_heavy_row_stays_heavy():
    X = np.arange(1000.0)[:, None]
    weight = np.where(X[:, 0] == 500, 1000.0, 1.0)
    X_few, mass = representative(X, weight, 100)
    assert mass[X_few[:, 0] == 500].sum() == pytest.approx(1000, rel=0.05)


@pytest.mark.parametrize("n_points", [1, 4, 7, 100])
def test_spread_takes_equally_spaced_points_of_the_cumulative_weight(n_points):
    weight = np.array([1.0, 0.0, 2.0, 1.0, 0.0])
    positions = spread(weight, n_points)
    assert len(positions) == n_points
    assert (np.diff(positions) >= 0).all()
    counts = np.bincount(positions, minlength=5)
    assert counts[1] == counts[4] == 0  # no weight, no point
    assert (np.abs(counts - weight / 4 * n_points) <= 1).all()
    heavier = spread(1e6 * weight, n_points)
    np.testing.assert_array_equal(positions, heavier)


# --- moments ----------------------------------------------------------------------------------


@pytest.mark.parametrize("holes", [0.0, 0.3])
@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_column_moments_are_weighted_moments_of_what_is_seen(holes, offset):
    X = data(3000, holes=holes, ties=False)
    X[0, 0] = np.nan
    X = np.round(X * 64) / 64
    weight = np.random.default_rng(1).uniform(0.5, 2, len(X))
    mean, variance = column_moments(X + offset, weight)
    for j in range(3):
        seen = ~np.isnan(X[:, j])
        expected = np.average(X[seen, j], weights=weight[seen])
        squares = np.average((X[seen, j] - expected) ** 2, weights=weight[seen])
        assert mean[j] - offset == pytest.approx(expected, abs=1e-7 if offset else 1e-12)
        assert variance[j] == pytest.approx(squares, rel=1e-10)


def test_column_moments_with_a_first_row_far_away():
    X = np.random.default_rng(0).standard_normal((2000, 1))
    X[0] = 1e9
    mean, variance = column_moments(X, np.r_[1e-12, np.ones(1999)])
    assert mean[0] == pytest.approx(X[1:].mean() + 1e-3 / 1999, abs=1e-6)
    assert variance[0] == pytest.approx(X[1:].var() + 1e6 / 1999, rel=1e-5)


def test_pooled_moments_of_complete_rows_are_sample_moments():
    X = data(2500, holes=0.0, ties=False) + 1e6
    weight = np.random.default_rng(1).uniform(0.5, 2, len(X))
    mean, S = pooled_moments(X, weight)
    np.testing.assert_allclose(mean, np.average(X, axis=0, weights=weight), rtol=1e-12)
    np.testing.assert_allclose(S, np.cov(X.T, aweights=weight, bias=True), rtol=1e-7, atol=1e-10)


def holey(n=800):
    rng = np.random.default_rng(4)
    L = np.array([[1.0, 0, 0], [0.9, 0.3, 0], [0.5, -0.5, 1.0]])
    X = rng.standard_normal((n, 3)) @ L.T + [1.0, 2.0, 3.0]
    X[rng.uniform(size=X.shape) < 0.25] = np.nan
    return X[~np.isnan(X).all(axis=1)]


def test_pooled_moments_with_nan_are_the_em_estimate():
    """One pseudo-observation of the observed variances is in it: a share of 1 / (n + 1)."""
    X, weight = holey(), np.ones(len(holey()))
    mean, S = pooled_moments(X, weight, max_iter=500, tol=1e-12)
    one = Gaussians(mean[None], Full.of(S[None], Penalty(0.0, np.zeros((3, 3)))))
    _, variance = column_moments(X, weight)
    prior = Penalty(1.0, np.diag(variance))
    value = Gaussians(one.means, Full.of(S[None], prior))
    again = value.m_step(value.stats(X, weight[:, None]))
    np.testing.assert_allclose(again.means[0], mean, rtol=1e-9)
    np.testing.assert_allclose(again.cov.S[0], S, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("how", CHANGES)
def test_pooled_moments_follow_the_rows_and_their_units(how):
    X = data(ties=False)
    weight = np.random.default_rng(2).integers(1, 5, 300).astype(float)
    mean, S = pooled_moments(X, weight)
    other_mean, other_S = pooled_moments(*changed(X, weight, how))
    units = np.array([2.0, 1024.0, 2.0**-20]) if how == "rescaled" else np.ones(3)
    shift = np.array([16.0, -2.0, 1024.0]) if how == "shifted" else np.zeros(3)
    np.testing.assert_allclose(other_mean, mean * units + shift, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(other_S, S * np.outer(units, units), rtol=1e-7, atol=1e-12)


def test_pooled_moments_of_few_rows_with_nan_are_invertible():
    X = np.random.default_rng(0).standard_normal((4, 6))
    X[[0, 1, 2, 3], [0, 1, 2, 3]] = np.nan
    _, S = pooled_moments(X, np.ones(4))
    assert np.linalg.eigvalsh(S).min() > 1e-6


def test_completed_rows_keep_what_was_seen_and_draw_the_rest():
    X = holey(20_000)
    mean, S = pooled_moments(X, np.ones(len(X)))
    filled = complete_by_draw(X, mean, S, np.random.default_rng(0))
    seen = ~np.isnan(X)
    np.testing.assert_array_equal(filled[seen], X[seen])
    # draws, not means: the completed rows have the pooled covariance
    np.testing.assert_allclose(np.cov(filled.T), S, atol=0.05)
    complete = X[seen.all(axis=1)]
    assert complete_by_draw(complete, mean, S, None) is complete


# --- partitions -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STARTS)
def test_a_start_divides_the_rows(name):
    Z, K = data(holes=0.0, ties=False), 4
    resp = STARTS[name](Z, np.ones(300), K, np.random.default_rng(0))
    assert resp.shape == (300, K)
    np.testing.assert_allclose(resp.sum(axis=1), 1.0)
    assert (resp >= 0).all()
    assert (resp.sum(axis=0) > 0).all()
    again = STARTS[name](Z, np.ones(300), K, np.random.default_rng(0))
    np.testing.assert_array_equal(again, resp)
    assert (STARTS[name](Z, np.ones(300), K, np.random.default_rng(1)) != resp).any()


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("name", STARTS)
def test_a_start_depends_on_the_weighted_set_of_rows_alone(name, how):
    """As a fit calls it: representatives, standardised, then a partition of these."""
    X = data(holes=0.0)
    weight = np.random.default_rng(2).integers(1, 5, 300).astype(float)

    def partition(X, weight):
        rows = representative(X, weight)
        mean, variance = column_moments(X, weight)
        Z = (rows.X - mean) / np.sqrt(variance)
        return STARTS[name](Z, rows.weight, 3, np.random.default_rng(5))

    np.testing.assert_allclose(partition(*changed(X, weight, how)), partition(X, weight), atol=1e-9)


@pytest.mark.parametrize("how", CHANGES)
def test_k_means_of_some_rows_depends_on_the_weighted_set_alone(how, monkeypatch):
    monkeypatch.setattr(start, "LLOYD", 60)
    test_a_start_depends_on_the_weighted_set_of_rows_alone("kmeans", how)


def test_k_means_of_some_rows_divides_all_of_them(monkeypatch):
    Z = np.concatenate([[[0.0, 0.0]], np.random.default_rng(6).standard_normal((300, 2))])
    Z[:, 0] += np.repeat([0.0, 50.0, 100.0], [101, 100, 100])
    seen = []
    whole = KMeans.fit
    monkeypatch.setattr(
        KMeans, "fit", lambda self, X, **known: seen.append(len(X)) or whole(self, X, **known)
    )
    monkeypatch.setattr(start, "LLOYD", 60)
    z = STARTS["kmeans"](Z, np.ones(301), 3, np.random.default_rng(0)).argmax(axis=1)
    assert len({*z[:101]}) == len({*z[101:201]}) == len({*z[201:]}) == 1
    heavy = np.where(np.arange(301) == 0, 1e9, 1.0)  # one row has nearly all the weight
    resp = STARTS["kmeans"](Z, heavy, 3, np.random.default_rng(0))
    assert resp.shape == (301, 3)
    assert seen == [60, 301]


@pytest.mark.parametrize("name", ["kmeans", "k-means++", "random_from_data"])
def test_distant_clusters_are_found_by_some_start(name):
    rng = np.random.default_rng(6)
    Z = np.repeat([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]], 40, axis=0) + rng.standard_normal(
        (120, 2)
    )
    truth = np.repeat(np.arange(3), 40)
    found = False
    for seed in range(10):
        z = STARTS[name](Z, np.ones(120), 3, np.random.default_rng(seed)).argmax(axis=1)
        found |= len({(a, b) for a, b in zip(truth, z, strict=True)}) == 3
    assert found


@pytest.mark.parametrize("name", STARTS)
def test_more_components_than_distinct_rows(name):
    Z = np.array([[0.0, 0.0], [1.0, 2.0]])
    resp = STARTS[name](Z, np.ones(2), 4, np.random.default_rng(0))
    assert resp.shape == (2, 4)
    np.testing.assert_allclose(resp.sum(axis=1), 1.0)


@pytest.mark.parametrize("name", ["k-means++", "random_from_data", "kmeans"])
def test_weight_draws_the_centres(name):
    """A far cluster of hardly any weight hardly ever gets a centre by chance."""
    Z = np.concatenate([np.random.default_rng(0).standard_normal((200, 1)), [[4.0]]])
    weight = np.r_[np.ones(200), 1e-9]
    alone = 0
    for seed in range(10):
        resp = STARTS[name](Z, weight, 2, np.random.default_rng(seed))
        alone += resp[:, resp[-1].argmax()].sum() == 1
    assert alone == 0
