"""Moments in one pass, wherever the rows lie and whatever they weigh; rows with gaps are found."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklvm.inference.blocks import BLOCK, gaps, has_gaps
from sklvm.inference.moments import pooled_moments, sample_mean, sample_moments
from sklvm.validation import _ranges, telling


def table(n=3 * BLOCK + 7, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 4)) @ rng.normal(size=(4, 4)), rng.integers(0, 4, n).astype(float)


@pytest.mark.parametrize("origin", [0.0, 3.0, 1e6])
@pytest.mark.parametrize("weighing", ["ones", "twos", "counts"])
def test_one_pass_is_the_textbook(origin, weighing):
    X, counts = table()
    weight = {"ones": np.ones(len(X)), "twos": np.full(len(X), 2.0), "counts": counts}[weighing]
    mean, S = sample_moments(X + origin, weight)
    expected = np.average(X, axis=0, weights=weight)
    assert_allclose(mean - origin, expected, atol=1e-9)
    exact = np.cov(X.T, aweights=weight, bias=True)
    assert_allclose(S, exact, rtol=1e-9, atol=1e-9 * np.abs(exact).max())
    assert_allclose(sample_mean(X + origin, weight) - origin, expected, atol=1e-9)
    assert_array_equal(pooled_moments(X + origin, weight)[1], S)


def test_a_first_block_far_from_the_others_costs_no_digits():
    X, _ = table()
    X[:BLOCK] += 1e4
    mean, S = sample_moments(X, np.ones(len(X)))
    assert_allclose(mean, X.mean(axis=0), rtol=1e-12)
    assert_allclose(S, np.cov(X.T, bias=True), rtol=1e-9)


def test_moments_do_not_drown_in_a_far_origin():
    """Sums of squares about zero would lose all digits of a variance of 1 at 1e9."""
    X = np.array([[0.0], [1.0], [2.0], [3.0]]) + 1e9
    assert_allclose(sample_moments(X, np.ones(4))[1], [[1.25]], rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rows_with_gaps_are_found(dtype):
    X = table()[0].astype(dtype)
    assert not gaps(X).any() and not has_gaps(X)
    X[[5, BLOCK + 3], [0, 3]] = np.nan
    assert_array_equal(np.flatnonzero(gaps(X)), [5, BLOCK + 3])
    assert has_gaps(X)


def test_large_numbers_of_opposite_signs_are_no_gap():
    X = np.ones((2, 64))
    X[0] = np.tile([1e308, -1e308], 32)
    X[1, 5] = np.nan
    with np.errstate(all="ignore"):
        assert np.isnan(X.reshape(2, 32, 2).sum(axis=1).sum(axis=1)).all()  # lane by lane
    assert_array_equal(gaps(X), [False, True])


def test_rows_of_nothing_or_without_weight_tell_nothing():
    X, weight = table()[0], np.ones(3 * BLOCK + 7)
    X[[2, BLOCK + 1]] = np.nan
    X[7, 1] = np.nan
    weight[[0, 2 * BLOCK]] = 0.0
    assert_array_equal(np.flatnonzero(~telling(X, weight)), [0, 2, BLOCK + 1, 2 * BLOCK])


def test_columns_that_vary_late_or_never():
    X = table()[0]
    X[:, 1], X[:, 2] = 5.0, np.nan
    X[: 2 * BLOCK, 3] = 1.0
    low, high = _ranges(X)
    assert low[1] == high[1] == 5.0 and np.isnan([low[2], high[2]]).all()
    assert low[3] < 1.0 < high[3] and low[0] < high[0]
