"""Mixtures within components: all parts one by one, reductions to plain emissions, starts."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp

from sklvm import HMM, GaussianMixture, GaussianMixtureEmission, Mixture
from sklvm.emissions.bisection import bisected
from sklvm.emissions.gaussian_mixture import GaussianMixtures
from sklvm.emissions.simplex import Point
from tests._chains import sequences
from tests.emissions.builders import emission, gradient_at, responsibilities, rows

K, M, D = 2, 3, 4
STRUCTURES = pytest.mark.parametrize("structure", ["full", "tied", "diag", "spherical", "VEV"])


def nested(structure="full", **options):
    weights = np.random.default_rng(5).dirichlet(np.ones(M), size=K)
    parts = emission(f"gaussian-{structure}", K * M, D, **options)
    return GaussianMixtures(Point(weights), parts)


def flat(value, of_components):
    """The mixture of all parts that a mixture of the components is."""
    weights = np.ravel(np.reshape(of_components, (K, 1)) * value.weights.mean)
    return Mixture.from_parameters(weights=weights, emission=value.parts)


@STRUCTURES
def test_a_component_is_the_sum_of_its_parts(structure):
    value, X = nested(structure), rows()
    each = value.parts.log_prob(X).reshape(len(X), K, M) + np.log(value.weights.mean)
    assert_allclose(value.log_prob(X), logsumexp(each, axis=2), rtol=1e-10, atol=1e-12)
    assert_allclose(value.log_prob(X)[1], 0.0, atol=1e-12)  # nothing seen
    assert_allclose(value.expectation()[1], value.weights.mean[1] @ value.parts.means[M:])


@STRUCTURES
def test_statistics_are_those_of_the_parts(structure):
    value, X = nested(structure), rows()
    resp = responsibilities(len(X), K)
    each = value.parts.log_prob(X).reshape(len(X), K, M) + np.log(value.weights.mean)
    inner = resp[..., None] * np.exp(each - logsumexp(each, axis=2, keepdims=True))
    found = value.stats(X, resp)
    assert_allclose(found.counts, inner.sum(axis=0), rtol=1e-10)
    updated, expected = value.m_step(found), inner.reshape(len(X), -1)
    assert_allclose(
        updated.parts.means,
        value.parts.m_step(value.parts.stats(X, expected)).means,
        rtol=1e-9,
    )
    assert_allclose(updated.weights.mean.sum(axis=1), 1.0)
    halves = value.stats(X[:11], resp[:11]) + value.stats(X[11:], resp[11:])
    assert_allclose(value.m_step(halves).parts.means, updated.parts.means, rtol=1e-9)
    order = np.array([1, 0])
    turned = value.take(order).m_step(found.take(order))
    assert_allclose(turned.log_prob(X), updated.log_prob(X)[:, order], rtol=1e-9, atol=1e-12)


def test_the_gradient_vanishes_at_the_end_of_a_fit():
    X = np.concatenate(sequences("gaussian", (150,), missing=0.1))
    settings = {"covariance_type": "diag", "tol": 1e-14, "max_iter": 9999, "random_state": 0}
    model = Mixture(2, emission="gaussian_mixture", **settings).fit(X)
    assert np.abs(gradient_at(model.state_, X)).max() < 1e-5


def test_joint_is_marginal_times_conditional():
    value = nested()
    X = rows(missing=0.0)[2:]
    seen, rest = np.array([0, 2]), np.array([1, 3])
    for x in X[:5]:
        left = value.condition(seen, x[seen]).log_prob(x[None, rest])
        assert_allclose(
            value.marginal(seen).log_prob(x[None, seen]) + left, value.log_prob(x[None]), rtol=1e-9
        )
        mean, covariance = value.conditional_moments(x[None], seen, rest)
        conditional = value.condition(seen, x[seen])
        assert_allclose(conditional.expectation(), mean[0], rtol=1e-9)
        whole = np.full((1, 2), np.nan)
        nothing = np.empty(0, int)
        moments = conditional.conditional_moments(whole, nothing, np.arange(2))
        assert_allclose(moments[1][0], covariance[0], rtol=1e-9)
        holed = np.where(np.isin(np.arange(D), seen), x, np.nan)
        assert_allclose(value.complete(holed[None])[0][:, rest], mean[0], rtol=1e-9)


def test_draws_have_the_moments_of_the_conditionals():
    value, n = nested(), 40_000
    rng = np.random.default_rng(0)
    seen, rest = np.array([0]), np.array([1, 2, 3])
    x = np.array([0.5, np.nan, np.nan, np.nan])
    for k in range(K):
        mean, covariance = value.conditional_moments(x[None], seen, rest)
        z = np.full(n, k)
        drawn = value.complete_sample(np.tile(x, (n, 1)), z, rng)
        assert (drawn[:, 0] == 0.5).all()
        sd = np.sqrt(np.diag(covariance[0, k]))
        assert (abs(drawn[:, rest].mean(axis=0) - mean[0, k]) < 5 * sd / np.sqrt(n)).all()
        assert_allclose(np.cov(drawn[:, rest].T), covariance[0, k], atol=0.1 * sd.max() ** 2)
        plain = value.sample(z, rng)
        gap = plain.mean(axis=0) - value.expectation()[k]
        assert (abs(gap) < 5 * plain.std(axis=0) / np.sqrt(n)).all()


def test_mixtures_of_mixtures_answer_as_one_flat_mixture():
    value, share = nested(), [0.3, 0.7]
    model, plain = Mixture.from_parameters(weights=share, emission=value), flat(nested(), share)
    X = rows()
    assert_allclose(model.score_samples(X), plain.score_samples(X), rtol=1e-10, atol=1e-12)
    assert_allclose(model.impute(X), plain.impute(X), rtol=1e-9)
    assert_allclose(model.impute(X, how="mode"), plain.impute(X, how="mode"), rtol=1e-5, atol=1e-5)
    probs = plain.predict_proba(X).reshape(len(X), K, M).sum(axis=2)
    assert_allclose(model.predict_proba(X), probs, atol=1e-12)
    for one, other in zip(model.regress(X, [1]), plain.regress(X, [1]), strict=True):
        assert_allclose(one, other, rtol=1e-9)
    assert model.emission.n_mix == M and model.n_parameters_ == plain.n_parameters_


def test_a_chain_of_mixtures_is_a_chain_of_all_parts():
    X = sequences("gaussian", missing=0.15)
    settings = {"covariance_type": "diag", "random_state": 0}
    model = HMM(2, emission=GaussianMixtureEmission(2), **settings).fit(X)
    w = model.emission_.weights.mean
    long = HMM.from_parameters(
        startprob=(model.startprob_[:, None] * w).ravel(),
        transmat=np.repeat((model.transmat_[:, :, None] * w).reshape(2, 4), 2, axis=0),
        emission=model.emission_.parts,
    )
    assert_allclose(model.score_samples(X), long.score_samples(X), rtol=1e-10)
    for one, other in zip(model.predict_proba(X), long.predict_proba(X), strict=True):
        assert_allclose(one, other.reshape(-1, 2, 2).sum(axis=2), atol=1e-10)


@pytest.mark.parametrize("structure", ["full", "tied", "diag"])
def test_one_part_is_no_mixture(structure):
    X = sequences("gaussian", missing=0.15)
    settings = {"covariance_type": structure, "random_state": 0}
    model = HMM(2, emission=GaussianMixtureEmission(1), **settings).fit(X)
    plain = HMM(2, **settings).fit(X)
    assert_allclose(model.history_, plain.history_, rtol=1e-10)
    assert_allclose(model.score_samples(X), plain.score_samples(X), rtol=1e-10)
    assert model.n_parameters_ == plain.n_parameters_


@pytest.mark.parametrize("structure", ["full", "tied", "diag"])
def test_one_state_is_a_gaussian_mixture(structure):
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [6, 5], [-5, 6]])
    X = centres[rng.choice(3, 150, p=[0.5, 0.3, 0.2])] + rng.normal(size=(150, 2))
    settings = {"covariance_type": structure, "tol": 1e-12, "random_state": 0}
    chain = HMM(1, emission=GaussianMixtureEmission(3), **settings).fit([x[None] for x in X])
    mixture = GaussianMixture(3, **settings).fit(X)
    assert chain.lower_bound_ == pytest.approx(mixture.lower_bound_, abs=1e-9)
    assert_allclose(np.sort(chain.emission_.weights.mean[0]), mixture.weights_[::-1], atol=1e-4)


def test_the_model_says_what_the_matrices_are():
    X = sequences("gaussian")
    model = HMM(2, emission="gaussian_mixture", covariance_type="tied", random_state=0).fit(X)
    assert model.emission_.parts.cov.compact.shape == (3, 3)
    part = model.marginal([0, 2])
    assert part.covariance_type == "tied" and part.emission_.spec.n_mix == 2
    again = Mixture.from_parameters(weights=[0.5, 0.5], emission=model.emission_)
    assert again.covariance_type == "tied"


@pytest.mark.parametrize("n_mix", [0, 1.5, True, "2", None])
def test_impossible_numbers_of_parts_are_refused(n_mix):
    model = HMM(2, emission=GaussianMixtureEmission(n_mix))
    with pytest.raises(ValueError, match="n_mix must be an integer of at least 1, got"):
        model.fit(sequences("gaussian"))


def test_a_row_that_no_part_explains_is_shared_evenly():
    value = replace(nested("diag"), weights=Point(np.array([[1.0, 0, 0], [0.5, 0.5, 0]])))
    X = np.array([[1e200, 0, 0, 0], [0, 0, 0, 0]])
    with np.errstate(over="ignore"):
        log_prob = value.log_prob(X)
        counts = value.stats(X[1:], np.ones((1, K))).counts
    assert (log_prob[0] == -np.inf).all() and np.isfinite(log_prob[1]).all()
    assert counts[0].tolist() == [1, 0, 0] and counts[1, 2] == 0


# --- starts -----------------------------------------------------------------------------------


def same_parts(a, b):
    return len(np.unique(a)) == len(np.unique(b)) == len(np.unique(np.stack([a, b]), axis=1).T)


def test_rows_are_bisected_alike_however_they_come():
    rng = np.random.default_rng(0)
    X, weight = rng.normal(size=(50, 3)), rng.integers(1, 4, size=50)
    parts = bisected(X, weight * 1.0, 4)
    assert np.unique(parts).tolist() == [0, 1, 2, 3]
    order = rng.permutation(50)
    assert same_parts(bisected(X[order], weight[order] * 1.0, 4), parts[order])
    repeated = bisected(np.repeat(X, weight, axis=0), np.ones(weight.sum()), 4)
    assert same_parts(repeated, np.repeat(parts, weight))
    assert same_parts(bisected(1e3 * X * [1, 1e-5, 7] - 4, weight * 1.0, 4), parts)


def test_groups_are_told_apart_and_equal_rows_are_not():
    centres = np.array([[0.0, 0], [10, 1], [0, 9], [11, 10]])
    group = np.repeat(np.arange(4), 20)
    X = centres[group] + np.random.default_rng(0).normal(size=(80, 2))
    assert same_parts(bisected(X, np.ones(80), 4), group)
    assert_array_equal(bisected(np.ones((5, 2)), np.ones(5), 3), np.zeros(5))
    assert_array_equal(bisected(X[:0], np.ones(0), 3), np.zeros(0))
