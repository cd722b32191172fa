"""The shape of a tail, against samples whose tail is known."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import genpareto

from sklvm.numerics.pareto import PRIOR_SIZE, pareto_shape, tail_shape


def excesses(k, m=400, n=50, seed=0):
    return np.sort(genpareto.rvs(k, size=(m, n), random_state=seed), axis=0)


@pytest.mark.parametrize("k", [-0.4, 0.0, 0.3, 0.7, 1.0, 1.5])
def test_the_shape_of_pareto_samples_is_found(k):
    """Unbiased but for the prior, with the spread (1 + k) / sqrt(m) of maximum likelihood."""
    m, n = 100, 300
    found = pareto_shape(excesses(k, m, n))
    expected = (m * k + PRIOR_SIZE / 2) / (m + PRIOR_SIZE)
    spread = (1 + max(k, 0)) / np.sqrt(m)
    assert abs(found.mean() - expected) < 3 * spread / np.sqrt(n) + 0.01
    assert 0.5 * spread < found.std() < 1.5 * spread


def test_the_shape_is_near_that_of_maximum_likelihood():
    excess = excesses(0.6, m=1000, n=3)
    likely = [genpareto.fit(column, floc=0)[0] for column in excess.T]
    found = pareto_shape(excess)
    assert_allclose((found * (1000 + PRIOR_SIZE) - PRIOR_SIZE / 2) / 1000, likely, atol=0.01)
    assert_allclose(pareto_shape(7.0 * excess), found, rtol=1e-10)


def test_only_the_tail_counts_and_its_scale_does_not():
    rng = np.random.default_rng(0)
    log_value = np.log(genpareto.rvs(0.8, size=(2000, 4), random_state=rng)) + 5
    found = tail_shape(log_value)
    assert_allclose(tail_shape(log_value + [700, -700, 3, 0]), found, rtol=1e-9)
    body = np.where(log_value < np.quantile(log_value, 0.9, axis=0), -50.0, log_value)
    assert_allclose(tail_shape(body), found, rtol=1e-10)
    assert_allclose(found, 0.8, atol=0.4)
    m = 135  # ceil(3 sqrt(2000))
    value = np.sort(np.exp(log_value), axis=0)[-m - 1 :]
    assert_allclose(found, pareto_shape(value[1:] - value[0]), rtol=1e-9)


def test_tails_without_a_shape():
    """Nothing varies; one point has everything."""
    log_value = np.zeros((100, 2))
    log_value[0, 1] = 800.0
    assert_array_equal(tail_shape(log_value), [-np.inf, np.inf])
    assert np.isfinite(tail_shape(np.random.default_rng(0).standard_normal((16, 3)))).all()
