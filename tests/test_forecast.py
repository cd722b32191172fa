"""Quantiles of forecasts: distribution functions of every emission, and mixtures inverted."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import quad
from scipy.stats import norm

from sklvm import HMM, LinearGaussianSSM
from sklvm.inference.quantiles import mixture_quantiles
from tests._chains import CHAINS, make, sequences

LEVELS = [0.05, 0.5, 0.9]


@pytest.fixture(scope="module")
def fitted():
    """Models of every emission, fitted once."""
    known = {}

    def get(name):
        if name not in known:
            known[name] = make(name).fit(sequences(name, missing=0.1))
        return known[name]

    return get


@pytest.mark.parametrize("name", CHAINS)
def test_distribution_functions_are_those_of_the_densities(name, fitted):
    emission = fitted(name)._density.emission
    measures = np.broadcast_to(emission.base_measure, 3)
    for j in range(3):
        one = emission.marginal(np.array([j]))
        mean = one.expectation()[:, 0]
        for k in range(2):

            def density(x, one=one, k=k):
                return np.exp(one.log_prob(np.array([[x]]))[0, k])

            if measures[j] == "counting":
                top = np.ceil(mean[k])
                expected = sum(density(x) for x in np.arange(top + 1))
                inside = one.cdf(np.array([[top], [top + 0.5], [-1.0]]))[:, k, 0]
                assert_allclose(inside, [expected, expected, 0.0], rtol=1e-9)
                assert one.cdf(np.array([[1e4]]))[0, k, 0] == pytest.approx(1.0, abs=1e-9)
            else:
                found = one.cdf(mean[:, None] + [[0.5], [1.0]])[:, k, 0]
                part = quad(density, *(mean + [0.5, 1.0]), limit=200, epsabs=1e-11)[0]
                assert found[1] - found[0] == pytest.approx(part, abs=1e-8)
    whole = np.array([[0.0, 1.0, 2.0]])
    alone = [emission.marginal(np.array([j])).cdf(whole[:, [j]])[..., 0] for j in range(3)]
    assert_allclose(np.moveaxis(emission.cdf(whole), 2, 0), alone, rtol=1e-12)


@pytest.mark.parametrize("name", CHAINS)
def test_quantiles_are_where_the_mixture_reaches_them(name, fitted):
    model = fitted(name)
    ahead = model.forecast(sequences(name, missing=0.1)[:2], 3)
    x = ahead.quantile(LEVELS)
    assert x.shape == (3, 2, 3, 3) and (np.diff(x, axis=0) >= 0).all()
    emission = model._density.emission
    counts = np.broadcast_to(emission.base_measure, 3) == "counting"
    probs = ahead.probs.reshape(6, 2)
    for level, bound in zip(LEVELS, x.reshape(3, 6, 3), strict=True):
        reached = np.einsum("nk,nkd->nd", probs, emission.cdf(bound))
        assert_allclose(reached[:, ~counts], level, atol=1e-9)
        before = np.einsum("nk,nkd->nd", probs, emission.cdf(bound - 1))
        assert (reached[:, counts] >= level - 1e-9).all()
        assert (before[:, counts] < level).all()
        assert_array_equal(bound[:, counts], np.floor(bound[:, counts]))
    low, high = ahead.interval(0.9)
    assert_allclose(low, ahead.quantile(0.05), rtol=1e-12)
    assert_allclose(high, ahead.quantile(0.95), rtol=1e-12)


def test_draws_fall_below_quantiles_as_often_as_they_say(fitted):
    model = fitted("vb-columns")
    X = [sequences("vb-columns", missing=0.1)[0][-5:]]
    ahead, n = model.forecast(X[:1], 2), 1000
    longer = [np.concatenate([X[0], np.full((2, 3), np.nan)])]
    drawn = model.impute(longer, "sample", n_draws=n, random_state=0)
    future = np.array([copy[0][-2:] for copy in drawn])
    for level in LEVELS:
        share = (future <= ahead.quantile(level)[0]).mean(axis=0)
        assert (share > level - 5 * np.sqrt(level * (1 - level) / n)).all()
        below = (future < ahead.quantile(level)[0]).mean(axis=0)
        assert (below < level + 5 * np.sqrt(level * (1 - level) / n)).all()


def test_constant_channels_are_certain():
    X = [np.column_stack([x, np.full(len(x), 7.0)]) for x in sequences("gaussian")]
    with pytest.warns(UserWarning, match="constant"):
        model = HMM(2, random_state=0).fit(X)
    low, high = model.forecast(X, 2).interval()
    assert (low[..., 3] == 7).all() and (high[..., 3] == 7).all()
    assert (low[..., :3] < high[..., :3]).all()


def test_one_normal_state_and_a_state_space_agree_with_the_normal_distribution():
    X = sequences("gaussian")
    chain = HMM(1).fit(X).forecast(X, 2)
    space = LinearGaussianSSM(1).fit(X).forecast(X, 2)
    for ahead in (chain, space):
        sd = np.sqrt(np.diagonal(ahead.covariance, axis1=-2, axis2=-1))
        for level in LEVELS:
            expected = norm.ppf(level, ahead.mean, sd)
            assert_allclose(ahead.quantile(level), expected, rtol=1e-7, atol=1e-9)
        assert_allclose(ahead.interval(0.8), ahead.quantile([0.1, 0.9]), rtol=1e-12)


@pytest.mark.parametrize("name", ["gaussian", "poisson"])
def test_units_and_far_tails(name, fitted):
    model = fitted(name)
    state = model._density
    centre, spread = np.zeros((1, 3)), np.full((1, 3), np.inf)  # nothing useful to begin with
    probs = np.array([[0.3, 0.7]])
    for q in (1e-12, 0.3, 1 - 1e-12):
        found = mixture_quantiles(probs, state.emission, q, centre, spread)
        there = probs @ state.emission.cdf(found)[0]
        before = probs @ state.emission.cdf(found - (1e-6 if name == "gaussian" else 1.0))[0]
        assert (there >= q * (1 - 1e-11)).all() and (before < q * (1 + 1e-11)).all()


def test_a_quantile_on_a_step_is_the_lower_number():
    emission = make("bernoulli").fit(sequences("bernoulli")).emission_
    coin = type(emission)(np.array([[0.75]]), 1.0, np.array([0.5]))
    model = HMM.from_parameters(startprob=[1.0], transmat=[[1.0]], emission=coin)
    ahead = model.forecast([[[0.0]]])
    assert ahead.quantile([0.2, 0.25, 0.26]).ravel().tolist() == [0, 0, 1]


@pytest.mark.parametrize("q", [0, 1, -0.1, [0.5, 2], np.nan])
def test_impossible_levels_are_refused(q, fitted):
    X = sequences("gaussian")
    for model in (fitted("gaussian"), LinearGaussianSSM(1).fit(X)):
        ahead = model.forecast(X)
        with pytest.raises(ValueError, match="q must lie between 0 and 1"):
            ahead.quantile(q)
        with pytest.raises(ValueError, match="level must lie between 0 and 1"):
            ahead.interval(95)
