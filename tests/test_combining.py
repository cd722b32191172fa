"""Combined components: the pair that is merged, the entropies, the elbow, the unchanged density."""

from itertools import combinations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklvm import GaussianMixture
from sklvm.combining import elbow, hierarchy
from tests._models import DISCRETE, fitted, n_latents, rows, state_equal, sweep

RNG = np.random.default_rng


def entropy(resp, weight):
    """By the definition, row by row."""
    return sum(w * -sum(p * np.log(p) for p in row if p > 0) for row, w in zip(resp, weight))


def soft(n=40, K=5, seed=0):
    """Responsibilities with zeros among them, and counts."""
    rng = RNG(seed)
    resp = rng.dirichlet(np.full(K, 0.4), n)
    resp[resp < 1e-2] = 0.0
    return resp / resp.sum(axis=1, keepdims=True), rng.integers(0, 4, n).astype(float)


SHAPES = np.array([[4.0, 0.9], [0.9, 4.0], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
CENTRES = np.array([[0, 0], [0, 0], [20, 0], [0, 25], [2.2, 25]], float)


def cross(n=150, seed=0):
    """Two arms across each other, a ball, and a pair of balls that touch."""
    rng = RNG(seed)
    return np.concatenate([m + rng.normal(size=(n, 2)) * s for m, s in zip(CENTRES, SHAPES)])


def crossing():
    """The mixture that rows come from."""
    return GaussianMixture.from_parameters(
        weights=np.full(5, 0.2), means=CENTRES, covariances=SHAPES**2, covariance_type="diag"
    )


@pytest.mark.parametrize("seed", range(8))
def test_the_pair_whose_union_lowers_the_entropy_most_is_merged(seed):
    resp, weight = soft(n=12, K=7, seed=seed)
    mappings, entropies = hierarchy(resp, weight)
    for m in range(7, 1, -1):
        clusters = np.eye(m)[mappings[m - 1]]
        before = resp @ clusters
        assert entropies[m - 1] == pytest.approx(entropy(before, weight), rel=1e-12)
        merged = {}
        for i, j in combinations(range(m), 2):
            union = np.column_stack(
                [np.delete(before, [i, j], axis=1), before[:, i] + before[:, j]]
            )
            merged[i, j] = entropy(union, weight)
        best = min(merged, key=merged.get)
        assert entropies[m - 2] == pytest.approx(merged[best], rel=1e-9, abs=1e-9)
        together = [mappings[m - 2][mappings[m - 1] == c][0] for c in best]
        assert together[0] == together[1]
    assert entropies[0] == pytest.approx(0.0, abs=1e-12)


def test_many_components_are_merged_as_few():
    resp, weight = soft(n=60, K=12, seed=1)
    mappings, entropies = hierarchy(resp, weight)
    for m in (1, 4, 9, 12):
        assert entropies[m - 1] == pytest.approx(
            entropy(resp @ np.eye(m)[mappings[m - 1]], weight), abs=1e-9
        )
        assert sorted(set(mappings[m - 1])) == list(range(m))
        first = [np.flatnonzero(mappings[m - 1] == c)[0] for c in range(m)]
        assert first == sorted(first)


@sweep(DISCRETE)
def test_the_hierarchy_of_a_model(name):
    model, X = fitted(name, holes=True), rows(holes=True)
    before = model.score_samples(X)
    kept = dict(vars(model))
    combined = model.combine_components(X)
    K = n_latents(model) if "ensemble" not in name else len(model.weights_)
    assert combined.mappings.shape == (K, K) and combined.entropies.shape == (K,)
    assert (np.diff(combined.entropies) >= -1e-9).all()
    whole = combined.with_n_clusters(K)
    assert_array_equal(whole.mapping, np.arange(K))
    assert_allclose(whole.probabilities, model.predict_proba(X), rtol=1e-12)
    assert_array_equal(whole.labels, model.predict(X))
    assert combined.entropies[-1] == pytest.approx(model.posterior(X).entropy().sum(), abs=1e-9)
    one = model.combine_components(X, 1)
    assert one.n_clusters == 1 and not one.labels.any()
    assert_allclose(one.probabilities, 1.0, rtol=1e-12)
    assert state_equal(dict(vars(model)), kept)
    assert_array_equal(model.score_samples(X), before)


def test_clusters_of_several_components():
    X, model = cross(), crossing()
    combined = model.combine_components(X)
    assert combined.n_clusters == 3
    truth = np.repeat([0, 0, 1, 2, 2], 150)
    for label in range(3):
        inside = np.bincount(truth[combined.labels == label], minlength=3)
        assert inside.max() >= 0.99 * inside.sum()
    assert_array_equal(combined.labels, combined.probabilities.argmax(axis=1))
    new = cross(seed=3)
    assert_array_equal(combined.predict(new), combined.predict_proba(new).argmax(axis=1))
    by_hand = model.predict_proba(new) @ np.eye(3)[combined.mapping]
    assert_allclose(combined.predict_proba(new), by_hand, rtol=1e-12)


def test_weights_are_repeated_rows_and_a_row_of_nothing_is_no_row():
    X, rng = cross(40), RNG(4)
    X[rng.uniform(size=X.shape) < 0.2] = np.nan
    X[:2] = np.nan
    weight = rng.integers(0, 4, len(X))
    model = crossing()
    a = model.combine_components(X, sample_weight=weight)
    b = model.combine_components(np.repeat(X, weight, axis=0))
    c = model.combine_components(X[2:], sample_weight=weight[2:])
    for other in (b, c):
        assert other.n_clusters == a.n_clusters
        assert_array_equal(other.mappings, a.mappings)
        assert_allclose(other.entropies, a.entropies, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("entropies", "expected"),
    [
        ([0.0], 1),
        ([0.0, 50.0], 2),  # two points make one line
        ([0.0, 1.0, 60.0], 2),
        ([0.0, 0.5, 1.0, 40.0, 80.0], 3),
        ([0.0, 0.5, 1.0, 1.5, 70.0], 4),
        ([0.0, 0.1, 0.1, 0.2, 0.2], 5),  # they hardly overlap: 0.2 of 100 log 5
    ],
)
def test_the_elbow(entropies, expected):
    assert elbow(np.array(entropies), 100.0) == expected


def test_the_elbow_is_where_two_fitted_lines_meet():
    values = np.sort(RNG(2).gamma(1.0, 20.0, 9))
    number = np.arange(1, 10)

    def misfit(m):
        sides = (number <= m, number >= m)
        return sum(
            ((values[s] - np.polyval(np.polyfit(number[s], values[s], 1), number[s])) ** 2).sum()
            for s in sides
        )

    assert elbow(values, 100.0) == min(range(2, 9), key=misfit)


@pytest.mark.parametrize("number", [0, 3, 1.0, True, "2"])
def test_other_numbers_are_refused(number):
    model, X = fitted("gmm"), rows()
    with pytest.raises(ValueError, match="n_clusters must be an integer from 1 to 2"):
        model.combine_components(X, number)
    with pytest.raises(ValueError, match="n_clusters must be an integer from 1 to 2"):
        model.combine_components(X).with_n_clusters(number)
