"""Exchanges of components: what they propose, and that they find what starts miss."""

import numpy as np
import pytest
from scipy.special import xlogy
from scipy.stats import multivariate_normal

from sklvm import GaussianMixture, Mixture, MixtureOfFactorAnalyzers
from sklvm.inference import moves

RNG = np.random.default_rng


def blobs(seed=0, n=600):
    """Rows from six uneven Gaussians in three dimensions."""
    rng = RNG(seed)
    means, axes = rng.normal(size=(6, 3)) * 2, rng.normal(size=(6, 3, 3)) / 2
    z = rng.choice(6, n, p=rng.dirichlet(np.full(6, 3.0)))
    return means[z] + (axes[z] @ rng.normal(size=(n, 3, 1)))[:, :, 0]


@pytest.fixture(scope="module")
def fitted():
    X = blobs()
    state = GaussianMixture(4, n_init=1, random_state=0).fit(X).state_
    return X, state, RNG(1).integers(1, 4, len(X)).astype(float)


def test_halves_part_the_longest_axis_at_the_weighted_mean():
    rng = RNG(0)
    Z = rng.normal(size=(200, 2)) * [0.3, 5.0] + [4.0, -7.0]
    mass = rng.uniform(size=200)
    upper = moves.halves(Z, mass)
    above = Z[:, 1] > mass @ Z[:, 1] / mass.sum()
    assert max(np.mean(upper == above), np.mean(upper != above)) > 0.97


def test_overlap_is_the_cosine_of_responsibilities():
    resp = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.2, 0.8]])
    weight = np.array([2.0, 1.0, 3.0])
    repeated = np.repeat(resp, weight.astype(int), axis=0)
    norms = np.linalg.norm(repeated, axis=0)
    np.testing.assert_allclose(
        moves.overlap(resp, weight), repeated.T @ repeated / np.outer(norms, norms), rtol=1e-12
    )
    i, j = moves.nearest_pairs(resp, weight)[0]
    assert (i, j) == (1, 2)


def test_misfit_is_the_divergence_from_the_rows_of_a_component(fitted):
    X, state, weight = fitted
    resp = state.responsibilities(X)
    found = moves.misfit(resp, state.emission.log_prob(X), weight)
    for k in range(4):
        model = multivariate_normal(state.emission.means[k], state.emission.cov.S[k])
        density = resp[:, k] / (weight @ resp[:, k])
        expected = weight @ (xlogy(density, density) - density * model.logpdf(X))
        np.testing.assert_allclose(found[k], expected, rtol=1e-9)


def test_misfit_of_a_repeated_row_is_that_of_a_weight(fitted):
    X, state, weight = fitted
    rows = np.repeat(np.arange(len(X)), weight.astype(int))
    resp, log_prob = state.responsibilities(X), state.emission.log_prob(X)
    np.testing.assert_allclose(
        moves.misfit(resp, log_prob, weight),
        moves.misfit(resp[rows], log_prob[rows], np.ones(len(rows))),
        rtol=1e-10,
    )


def test_misfit_of_an_empty_component_is_finite():
    resp = np.array([[1.0, 0.0], [1.0, 0.0]])
    found = moves.misfit(resp, np.array([[-1.0, -np.inf], [-2.0, -5.0]]), np.ones(2))
    np.testing.assert_allclose(found, [np.log(0.5) + 1.5, 0.0])


def test_a_split_parts_the_weighted_rows():
    Z, weight = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([9.0, 1.0, 1.0, 1.0])
    resp = np.column_stack([np.ones(4), np.zeros(4)])
    split = moves.with_split(resp, Z, weight, 0)
    np.testing.assert_array_equal(split.sum(axis=1), 1)
    assert sorted(split.sum(axis=0)) == [0, 1, 3]  # the mean is 0.5; that of the bare rows is 1.5


def test_the_worst_fitted_is_first_and_one_row_is_never_split():
    rng = RNG(0)
    two_in_one = np.concatenate([rng.normal(-9, 1, 200), rng.normal(9, 1, 200)])
    X = np.concatenate([two_in_one, rng.normal(60, 1, 400), [200.0]])[:, None]
    resp = np.repeat(np.eye(3), [400, 400, 1], axis=0)
    state = GaussianMixture.from_parameters(
        weights=[0.4, 0.4, 0.2], means=[[0.0], [60.0], [200.0]], covariances=[[[82]], [[1]], [[1]]]
    ).state_
    assert moves.worst_fitted(state, X, resp, np.ones(801)) == [0, 1]


def test_an_exchange_merges_a_pair_and_splits_a_third(fitted):
    X, state, weight = fitted
    resp = state.responsibilities(X) * weight[:, None]
    seen = 0
    for proposed in moves.exchanges(state, X, weight, X):
        seen += 1
        np.testing.assert_allclose(proposed.sum(axis=1), weight, rtol=1e-12)
        kept = [np.abs(proposed - column[:, None]).max(axis=0).min() < 1e-12 for column in resp.T]
        assert sum(kept) == 1  # of four, two are merged and one is split
    assert seen == moves.N_PAIRS * moves.N_SPLITS


@pytest.mark.parametrize("seed", [3, 5, 9])
def test_it_finds_what_one_start_misses(seed):
    X = blobs(seed)
    settings = {"n_components": 6, "random_state": 0}
    best = GaussianMixture(**settings, n_init=60, split_merge=False).fit(X).lower_bound_
    polished = GaussianMixture(**settings, n_init=1).fit(X).lower_bound_
    plain = GaussianMixture(**settings, n_init=1, split_merge=False).fit(X).lower_bound_
    assert polished > best - 1e-4
    assert polished > plain + 1e-3


@pytest.mark.parametrize(
    "model",
    [
        Mixture(5, emission="student_t"),
        GaussianMixture(5, covariance_type="tied"),
        MixtureOfFactorAnalyzers(5, n_factors=1),
    ],
    ids=["student_t", "tied", "factors"],
)
def test_any_emission_is_polished(model):
    X = blobs(4)
    X[RNG(0).uniform(size=X.shape) < 0.1] = np.nan
    model = model.set_params(n_init=1, random_state=0)
    polished = model.fit(X).lower_bound_
    assert polished >= model.set_params(split_merge=False).fit(X).lower_bound_ - 1e-4


def test_labels_and_given_starts_are_kept():
    X = blobs()
    labels = np.full(len(X), -1)
    labels[:60] = GaussianMixture(6, random_state=0).fit_predict(X)[:60]
    for given, fit in (({}, {"labels": labels}), ({"means_init": X[:6]}, {})):
        with_, without = (
            GaussianMixture(6, random_state=0, n_init=1, split_merge=s, **given).fit(X, **fit)
            for s in (True, False)
        )
        np.testing.assert_array_equal(with_.means_, without.means_)


@pytest.mark.parametrize("K", [1, 2, 3, 4, 5, 7])
def test_a_state_is_resized_to_any_number_of_components(fitted, K):
    X, state, weight = fitted
    resp = state.responsibilities(X) * weight[:, None]
    proposals = list(moves.resized(state, X, weight, X, K))
    assert len(proposals) == (moves.N_SPLITS if K == 5 else 1)
    for proposed in proposals:
        assert proposed.shape == (len(X), K)
        np.testing.assert_allclose(proposed.sum(axis=1), weight, rtol=1e-12)
        kept = [np.abs(proposed - column[:, None]).max(axis=0).min() < 1e-12 for column in resp.T]
        assert sum(kept) == {1: 0, 2: sum(kept), 3: 2, 4: 4, 5: 3, 7: 1}[K]
