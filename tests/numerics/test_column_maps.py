"""Maps of columns: increasing, invertible, normal scores; means through them by quadrature."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import norm

from sklvm.numerics.column_maps import KNOTS, ColumnMaps


def table(n=300, seed=0):
    """A skewed column, one of three values and one of two; a tenth of the entries is missing."""
    rng = np.random.default_rng(seed)
    X = np.column_stack(
        [rng.lognormal(size=n), rng.integers(0, 3, n) ** 2.0, rng.uniform(size=n) < 0.3]
    )
    return np.where(rng.uniform(size=X.shape) < 0.1, np.nan, X)


def maps_of(X, weight=None):
    return ColumnMaps.of(X, np.ones(len(X)) if weight is None else weight)


def far_and_near(maps, n=41):
    """Points between the knots, at them, and beyond the last on either side: (m, d)."""
    low, high = maps.x[:, :1], maps.x[:, -1:]
    grid = low + (high - low) * np.linspace(-0.5, 1.5, n)
    return np.concatenate([grid, maps.x], axis=1).T


def test_scores_are_normal_quantiles_of_the_share_below():
    X = table()
    maps = maps_of(X)
    assert maps.n_knots.tolist() == [KNOTS, 3, 2]
    Z = maps.forward(X)
    assert (np.isnan(Z) == np.isnan(X)).all()
    for value in (0.0, 1.0, 4.0):
        seen = X[~np.isnan(X[:, 1]), 1]
        share = np.mean(seen < value) + np.mean(seen == value) / 2
        assert_allclose(Z[X[:, 1] == value, 1], norm.ppf(share), rtol=1e-12)
    skewed = np.sort(X[~np.isnan(X[:, 0]), 0])
    exact = norm.ppf((np.arange(len(skewed)) + 0.5) / len(skewed))
    assert_allclose(np.interp(maps.z[0], exact, skewed), maps.x[0], rtol=1e-12)


def test_weights_are_counts_and_order_is_none():
    X = table()
    times = np.random.default_rng(1).integers(1, 4, len(X))
    one = maps_of(X, times.astype(float))
    other = maps_of(np.repeat(X, times, axis=0)[::-1])
    assert_allclose(one.x, other.x, rtol=1e-12)
    assert_allclose(one.z, other.z, rtol=1e-12)


def test_a_value_of_hardly_any_weight_has_a_score_of_its_own():
    maps = maps_of(np.array([[0.0], [1.0], [2.0]]), np.array([1.0, 1e-30, 1e-30]))
    assert (np.diff(maps.z) > 0).all() and np.isfinite(maps.z).all()


def test_units_of_a_column_change_the_knots_as_they_change_the_column():
    X = table()
    maps, moved = maps_of(X), maps_of(X * [1e-8, 3.0, 1e6] + [5.0, -2.0, 0.0])
    assert_allclose(moved.z, maps.z)
    assert_allclose((moved.x.T - [5.0, -2.0, 0.0]) / [1e-8, 3.0, 1e6], maps.x.T, rtol=1e-6)


def test_there_and_back():
    maps = maps_of(table())
    X = far_and_near(maps)
    Z = maps.forward(X)
    assert_allclose(maps.inverse(Z), X, rtol=1e-10, atol=1e-10)
    order = np.argsort(X, axis=0)
    assert (np.diff(np.take_along_axis(Z, order, axis=0), axis=0) >= 0).all()


def test_two_values_make_one_line():
    maps = maps_of(table()).take(np.array([2]))
    x = np.linspace(-3, 4, 9)[:, None]
    assert_allclose(np.diff(maps.forward(x), n=2, axis=0), 0.0, atol=1e-12)


def test_slopes_are_those_of_finite_differences():
    maps, step = maps_of(table()), 1e-7
    X = far_and_near(maps)[:41] + 1e-3  # no knot
    rise = maps.forward(X + step / 2) - maps.forward(X - step / 2)
    assert_allclose(np.exp(maps.log_slope(X)), rise / step, rtol=1e-5)
    assert (maps.log_slope(np.full((1, 3), np.nan)) == 0).all()


@pytest.mark.parametrize("sd", [0.0, 1e-6, 0.3, 2.0])
def test_means_are_those_of_quadrature(sd):
    maps = maps_of(table())
    mean = np.linspace(-4, 4, 17)[:, None] * np.ones(3)
    found = maps.mean(mean, np.full_like(mean, sd**2), np.arange(3))
    if sd == 0:
        assert_allclose(found, maps.inverse(mean), rtol=1e-12, atol=1e-12)
        return
    node, weight = np.polynomial.legendre.leggauss(40)
    for j in range(3):
        for m, value in zip(mean[:, j], found[:, j]):
            ends = np.unique(
                np.clip(np.r_[m - 10 * sd, maps.z[j], m + 10 * sd], *[m - 10 * sd, m + 10 * sd])
            )
            ends = np.unique(np.r_[ends, np.linspace(m - 10 * sd, m + 10 * sd, 11)])
            half = np.diff(ends)[:, None] / 2
            z = ((ends[1:] + ends[:-1]) / 2)[:, None] + half * node
            x = maps.inverse(np.tile(z.reshape(-1, 1), 3))[:, j].reshape(z.shape)
            assert_allclose(
                value, (half * weight * x * norm.pdf(z, m, sd)).sum(), rtol=1e-9, atol=1e-9
            )
