"""Confidence intervals of state-space models: curvature by brute force, coverage, conventions."""

import numpy as np
import pytest

from sklvm import LinearGaussianSSM, local_level, local_linear_trend
from sklvm.state_space_intervals import _spread, _standard_errors
from tests.test_state_space import NILE, chains_of, training

FLOW = np.array(NILE.split(), float)[:, None]


def level(q, r):
    return LinearGaussianSSM.from_parameters(
        transition_matrix=[[1.0]],
        transition_covariance=[[q]],
        observation_matrix=[[1.0]],
        observation_covariance=[r],
        initial="diffuse",
    )


def test_nile_is_what_second_differences_of_the_likelihood_say():
    """Also 1280.4 and 3145.6, which statsmodels has from the same information."""
    model = local_level().fit([FLOW])
    intervals = model.conf_int([FLOW])
    q, r = model.transition_covariance_[0, 0], model.observation_covariance_[0, 0]

    def value(a, b):
        return level(q * np.exp(a), r * np.exp(b)).score_samples([FLOW])[0]

    h = 1e-2
    cross = (value(h, h) - value(h, -h) - value(-h, h) + value(-h, -h)) / (4 * h * h)
    own = [(value(*(h * e)) - 2 * value(0.0, 0.0) + value(*(-h * e))) / (h * h) for e in np.eye(2)]
    V = np.linalg.inv(-np.array([[own[0], cross], [cross, own[1]]]))
    errors = np.array([intervals.transition_covariance[2], intervals.observation_covariance[2]])
    np.testing.assert_allclose(errors.ravel(), np.sqrt(np.diag(V)) * [q, r], rtol=1e-3)
    np.testing.assert_allclose(errors.ravel(), [1280.4, 3145.6], rtol=1e-3)
    low, high, error = intervals.transition_covariance
    np.testing.assert_allclose(np.log(high / low), 2 * 1.959964 * error / q, rtol=1e-6)
    assert intervals.transition_matrix.standard_error == intervals.intercept.standard_error == 0
    narrow = model.conf_int([FLOW], level=0.5).transition_covariance
    assert low < narrow.low < q < narrow.high < high


def test_intervals_cover_the_truth():
    rng, inside, n = np.random.default_rng(0), [], 60
    for _ in range(n):
        z = rng.standard_normal(160).cumsum()
        X = [(z + 1.5 * rng.standard_normal(160))[:, None]]
        found = local_level().fit(X).conf_int(X)
        pairs = (found.transition_covariance, 1.0), (found.observation_covariance, 2.25)
        inside += [part.low[0, 0] < truth < part.high[0, 0] for part, truth in pairs]
    assert 0.89 <= np.mean(inside) <= 0.99  # 2.8 standard errors of 120 answers


@pytest.mark.parametrize("initial", ["stationary", "free"])
def test_the_basis_of_the_fit_has_no_part(initial):
    X = training((60, 40, 50, 30, 40, 20))
    model = LinearGaussianSSM(2, initial=initial, tol=1e-11).fit(X)
    turned = model.state_.turned(np.array([[2.0, 0.3], [-0.5, 1.0]]))
    here, there = (_standard_errors(s, chains_of(X)) for s in (model.state_, turned))
    for one, other in zip(here, there):
        np.testing.assert_allclose(other, one, rtol=5e-3, atol=1e-6)
    assert (here[0] > 0).all()
    np.testing.assert_allclose(here[1], 0.0, atol=1e-6)  # Q = I is a convention


def test_an_autoregression_is_as_certain_as_its_information():
    """Var of a is (1 - a^2) / T where the state is seen (Brockwell & Davis 1991, 8.7.1)."""
    rng, z, T = np.random.default_rng(1), 0.0, 2000
    x = np.array([z := 0.8 * z + rng.standard_normal() for _ in range(T)])[:, None]
    given = {"transition_covariance": [[1.0]], "observation_matrix": [[30.0]]}
    model = LinearGaussianSSM(1, **given, fit_intercept=False)
    X = [30.0 * x + rng.standard_normal(x.shape)]  # noise of a thousandth of the variance
    model.fit(X)
    a = model.transition_matrix_[0, 0]
    error = model.conf_int(X).transition_matrix.standard_error[0, 0]
    assert 1.0 < error / np.sqrt((1 - a * a) / T) < 1.1  # the noise is estimated, too


def test_weights_are_counts_and_missing_entries_widen():
    X, weight = training((60, 50, 40), q=1, seed=4), np.array([2, 0, 3])
    model = LinearGaussianSSM(1).fit(X, sample_weight=weight)
    repeated = [x for x, w in zip(X, weight) for _ in range(w)]
    one, other = model.conf_int(X, sample_weight=weight), model.conf_int(repeated)
    for part, same in zip(one, other):
        np.testing.assert_allclose(part.standard_error, same.standard_error, rtol=1e-6)
    full = training((60, 50, 40), q=1, seed=4, share=0.0)
    narrow = LinearGaussianSSM(1).fit(full, sample_weight=weight).conf_int(full, 0.95, weight)
    assert (one.observation_covariance[2] >= narrow.observation_covariance[2]).all()


def test_what_has_no_interval_is_said():
    model = local_linear_trend().fit([FLOW])  # its slope does not change
    with pytest.warns(UserWarning, match="variances are at the boundary"):
        found = model.conf_int([FLOW])
    assert np.isnan(found.transition_covariance.high[1, 1])
    assert np.isfinite(found.transition_covariance.high[0, 0])
    assert np.isfinite(found.observation_covariance.low).all()
    open_basis = LinearGaussianSSM(2, transition_covariance=np.eye(2)).fit(training((60, 50)))
    with pytest.warns(UserWarning, match="not positive definite"):
        found = open_basis.conf_int(training((60, 50)))
    assert np.isnan(found.transition_matrix.low).all()
    with pytest.warns(UserWarning, match="standard errors away"):
        local_level().fit([FLOW]).conf_int([FLOW * 0.8])
    with pytest.raises(ValueError, match="for fitted models"):
        level(1.0, 1.0).conf_int([FLOW])
    with pytest.raises(ValueError, match="level must lie between"):
        model.conf_int([FLOW], level=95)


def test_constant_channels_are_certain():
    X = [np.column_stack([x, np.full(len(x), 4.0)]) for x in training((60, 50))]
    with pytest.warns(UserWarning, match="constant"):
        model = LinearGaussianSSM(1).fit(X)
    found = model.conf_int(X)
    assert found.observation_matrix.standard_error.shape == (4, 1)
    assert found.observation_matrix.standard_error[3, 0] == 0
    assert found.intercept.low[3] == found.intercept.high[3] == 4.0
    assert (found.observation_covariance.high[3] == 0).all()


def test_without_entries_there_are_no_intervals():
    model = local_level().fit([FLOW])
    with pytest.raises(ValueError, match="with weight and an entry"):
        model.conf_int([np.full((3, 1), np.nan)])


def test_errors_in_extreme_units_lose_no_square():
    V = np.array([[4.0, 1.0], [1.0, 2.0]])
    J = np.array([[3.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    expected = np.array([6.0, np.sqrt(8.0), 0.0])
    for unit in (1.0, 1e-200, 1e200):
        np.testing.assert_allclose(_spread(unit * J, V), unit * expected, rtol=1e-12)
