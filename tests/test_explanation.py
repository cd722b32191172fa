"""Contributions of features to a score: the sum, the axioms, the average over orders."""

from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklvm import DensityOutlierDetector, EMFactorAnalysis, GaussianMixture, Mixture
from sklvm.explanation import EXACT_FEATURES, shapley
from tests._models import CLOSED, fitted, rows, sweep

RNG = np.random.default_rng


def wide(d=13, n=80):
    rng = RNG(0)
    return rng.normal(size=(n, 3)) @ rng.normal(size=(3, d)) + rng.normal(size=(n, d))


@pytest.mark.parametrize("holes", [False, True], ids=["complete", "holes"])
@sweep(CLOSED)
def test_contributions_sum_to_the_score(name, holes):
    model, X = fitted(name, holes=holes), rows(holes=holes)
    contributions = model.explain_score(X)
    assert contributions.shape == X.shape
    assert_allclose(contributions.sum(axis=1), model.score_samples(X), rtol=1e-9, atol=1e-9)
    assert_array_equal(contributions[np.isnan(X)], 0.0)


def test_it_is_the_average_over_all_orders():
    X = wide(4)
    X[::3, 1] = np.nan
    model = GaussianMixture(2, random_state=0).fit(X)
    expected = np.zeros_like(X)
    orders = list(permutations(range(4)))
    for order in orders:
        seen, before = np.full_like(X, np.nan), np.zeros(len(X))
        for column in order:
            seen[:, column] = X[:, column]
            after = model.score_samples(seen)
            expected[:, column] += (after - before) / len(orders)
            before = after
    assert_allclose(model.explain_score(X), expected, rtol=1e-9, atol=1e-10)


def test_independent_features_contribute_their_own_density():
    X = wide(3)
    model = GaussianMixture(1, covariance_type="diag", covariance_prior=0.0).fit(X)
    own = [model.marginal([j]).score_samples(X[:, [j]]) for j in range(3)]
    assert_allclose(model.explain_score(X), np.array(own).T, rtol=1e-9)


def test_another_unit_changes_the_feature_s_own_contribution_only():
    X, scale = wide(3), np.array([1.0, 1e3, 0.01])
    a = GaussianMixture(2, random_state=0).fit(X).explain_score(X)
    b = GaussianMixture(2, random_state=0).fit(X * scale).explain_score(X * scale)
    assert_allclose(b, a - np.log(scale), rtol=1e-6, atol=1e-6)


def test_drawn_orders_sum_exactly_and_tell_their_error():
    X = wide(EXACT_FEATURES + 3)
    model = EMFactorAnalysis(2).fit(X)
    found = model.explain_score(X[:20], n_orders=40, return_std_error=True)
    assert_allclose(found.contributions.sum(axis=1), model.score_samples(X[:20]), rtol=1e-9)
    assert (found.standard_error > 0).all()
    exact = model.explain_score(X[:20], n_orders=4000, random_state=1)
    z = (found.contributions - exact) / found.standard_error
    assert 0.5 < np.sqrt(np.mean(z**2)) < 1.6
    again = model.explain_score(X[:20], n_orders=40)
    assert_array_equal(again, found.contributions)


def test_reversed_orders_are_exact_for_pairwise_games():
    """Where sets interact in pairs only, an order and its reverse have the right mean."""
    d, pairs = EXACT_FEATURES + 2, RNG(0).normal(size=(EXACT_FEATURES + 2,) * 2)

    def marginal(columns):
        value = np.triu(pairs)[np.ix_(np.sort(columns), np.sort(columns))].sum()
        return SimpleNamespace(log_prob=lambda X: np.full(len(X), value))

    found = shapley(SimpleNamespace(marginal=marginal), np.zeros((1, d)), 4, RNG(1))
    upper = np.triu(pairs, 1)
    expected = np.diag(pairs) + (upper.sum(axis=0) + upper.sum(axis=1)) / 2
    assert_allclose(found.contributions[0], expected, rtol=1e-10)
    assert_allclose(found.standard_error, 0.0, atol=1e-7)


def test_few_features_have_no_error():
    X = wide(3)
    error = GaussianMixture(2, random_state=0).fit(X).explain_score(X, return_std_error=True)[1]
    assert_array_equal(error, np.zeros_like(X))


def test_the_culprit_and_the_constant_column():
    X = np.column_stack([wide(3), np.full(80, 7.0)])
    with pytest.warns(UserWarning, match="constant"):
        model = Mixture(1, emission="student_t").fit(X)
    odd = X[:1].copy()
    odd[0, 2] += 50.0
    contributions = model.explain_score(odd)
    assert contributions.argmin() == 2
    assert contributions[0, 3] == 0.0


def test_a_detector_explains_its_scores():
    X = wide(3)
    detector = DensityOutlierDetector(GaussianMixture(2, random_state=0), cv=None).fit(X)
    assert_array_equal(detector.explain_score(X), detector.estimator_.explain_score(X))
    from sklearn.neighbors import KernelDensity

    assert not hasattr(DensityOutlierDetector(KernelDensity()).fit(X), "explain_score")


def test_too_few_orders_are_refused():
    with pytest.raises(ValueError, match="n_orders"):
        fitted("gmm").explain_score(rows(), n_orders=3)
