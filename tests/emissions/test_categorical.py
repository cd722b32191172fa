"""Categorical emissions: cells, the reserved one, closed forms, what is refused."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklvm import Categorical, Mixture
from sklvm.emissions.cells import first_cells, one_hot
from sklvm.emissions.independent import FLOOR
from tests.emissions.builders import gradient_at


def codes(n=300, seed=0):
    """Columns of 3, 4 and 2 categories."""
    rng = np.random.default_rng(seed)
    z = rng.integers(0, 2, n)
    cuts = [[[0.6, 0.9], [0.1, 0.4]], [[0.3, 0.5, 0.9], [0.1, 0.2, 0.4]], [[0.8], [0.2]]]
    X = np.column_stack(
        [(rng.uniform(size=(n, 1)) > np.array(part)[z]).sum(axis=1) for part in cuts]
    )
    return np.where(rng.uniform(size=X.shape) < 0.1, np.nan, X)


def test_one_hot_rows():
    X = np.array([[0.0, 1.0], [2.0, np.nan], [7.0, 0.0], [np.nan, np.nan]])
    cells = one_hot(X, np.array([3, 2])).toarray()
    expected = [[1, 0, 0, 0, 1], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0]]
    assert_array_equal(cells, expected)
    complete = one_hot(X[:1], np.array([3, 2])).toarray()
    assert_array_equal(complete, expected[:1])


@pytest.mark.parametrize("pseudo", [0.0, 1.0, 2.5])
def test_one_component_is_frequencies_and_a_reserved_share(pseudo):
    X, weight = codes(60), np.random.default_rng(1).integers(0, 3, 60)
    model = Mixture(emission=Categorical(pseudo=pseudo)).fit(X, sample_weight=weight)
    columns = np.split(model.emission_.probs[0], first_cells(model.emission_.sizes)[1:])
    for j, (C, p) in enumerate(zip((3, 4, 2), columns)):
        count = np.array([weight[X[:, j] == code].sum() for code in range(C)])
        n = count.sum()
        prior = np.append(C / (C + 1) * count / n, 1 / (C + 1)) * pseudo
        expected = (np.append(count, 0.0) + prior) / (n + pseudo)
        assert_allclose(p, np.maximum(expected, FLOOR), rtol=1e-12)
        for code in range(C + 3):
            row = np.where(np.arange(3) == j, code, np.nan)[None]
            assert model.score_samples(row)[0] == pytest.approx(np.log(p[min(code, C)]))


def test_a_category_that_fit_did_not_see_is_improbable_not_impossible():
    X = codes()
    model = Mixture(2, emission="categorical", random_state=0).fit(X)
    scores = model.score_samples([[3, 0, 0], [99, 0, 0], [0, 0, 0]])
    assert scores[0] == scores[1]  # one reserved cell
    assert -12 < scores[0] - scores[2] < -4
    assert model.n_parameters_ == 1 + 2 * (2 + 3 + 1)  # the reserved cells are the prior's


def test_a_gap_in_the_codes_and_a_declared_category_share_what_is_left_for_the_unseen():
    X = np.repeat([[0.0, 0], [3, 1]], [6, 4], axis=0)  # 1 and 2 are not seen
    learned = Mixture(emission=Categorical(pseudo=1.0)).fit(X)
    assert_allclose(learned.emission_.prior[:5], [2 / 3 * 0.6, 1 / 9, 1 / 9, 2 / 3 * 0.4, 1 / 9])
    declared = Mixture(emission=Categorical(4, pseudo=1.0)).fit(X)
    assert_allclose(declared.emission_.prior[:4], [2 / 3 * 0.6, 1 / 6, 1 / 6, 2 / 3 * 0.4])
    p = np.exp(declared.score_samples([[code, np.nan] for code in range(4)]))
    assert p.sum() == pytest.approx(1.0) and p[1] == pytest.approx((1 / 6) / 11)
    with pytest.raises(ValueError, match="needs codes 0 to 3, as OrdinalEncoder.*got 4"):
        declared.score_samples([[4, 0]])


@pytest.mark.parametrize("n_categories", [None, 4])
@pytest.mark.parametrize("pseudo", [0.5, 1.0])
def test_the_gradient_vanishes(pseudo, n_categories):
    X = codes()
    spec = Categorical(n_categories, pseudo=pseudo)
    model = Mixture(2, emission=spec, tol=1e-13, max_iter=9999, random_state=0).fit(X)
    assert np.abs(gradient_at(model.state_, X)).max() < 1e-5


def test_coordinates_of_leaps():
    value = Mixture(2, emission="categorical", random_state=0).fit(codes()).emission_
    assert_allclose(value.pack(value), 0.0, atol=1e-15)
    rng = np.random.default_rng(0)
    moved = value.unpack(rng.normal(size=value.probs.size))
    sums = np.add.reduceat(moved.probs, first_cells(value.sizes), axis=1)
    assert_allclose(sums, 1.0, rtol=1e-12)
    assert_allclose(value.unpack(value.pack(moved)).probs, moved.probs, rtol=1e-12)
    far = value.unpack(1e4 * rng.normal(size=value.probs.size))
    assert np.isfinite(far.log_prob(codes())).all()


def test_moments_are_those_of_the_codes():
    value = Mixture(2, emission="categorical", random_state=0).fit(codes()).emission_
    X = value.sample(np.repeat([0, 1], 20000), np.random.default_rng(0))
    for k, part in enumerate((X[:20000], X[20000:])):
        assert_allclose(part.mean(axis=0), value.expectation()[k], atol=0.03)
        assert_allclose(part.var(axis=0), value.variance()[k], atol=0.05)
        for j, size in enumerate(value.sizes):
            share = np.bincount(part[:, j].astype(int), minlength=size) / 20000
            cells = first_cells(value.sizes)[j] + np.arange(size)
            assert_allclose(share, value.probs[k, cells], atol=0.02)


def test_many_categories():
    rng = np.random.default_rng(0)
    z = rng.integers(0, 2, 4000)
    X = np.column_stack([rng.integers(0, 2500, 4000) + 2500 * z, rng.integers(0, 3, 4000)])
    X = np.column_stack([X, z]).astype(float)
    model = Mixture(2, emission="categorical", random_state=0).fit(X)
    assert (model.predict(X) == z).mean() in (
        pytest.approx(0, abs=0.01),
        pytest.approx(1, abs=0.01),
    )
    assert np.isfinite(model.impute([[np.nan, 1, 0]], how="mode")).all()


@pytest.mark.parametrize("n_categories", [1, 0, -3, 2.5, True, "many", [3, 4, 2]])
def test_numbers_of_categories_that_are_refused(n_categories):
    with pytest.raises(ValueError, match="n_categories must be at least 2 or None, got"):
        Mixture(2, emission=Categorical(n_categories)).fit(codes())


def test_what_is_refused_by_fit():
    X = codes()
    with pytest.raises(ValueError, match="codes 0 to 2, as OrdinalEncoder makes them, got 3"):
        Mixture(2, emission=Categorical(3)).fit(X)
    with pytest.raises(ValueError, match="a code of 1e[+]09 is no position.*OrdinalEncoder"):
        Mixture(2, emission="categorical").fit(np.where(X == 1, 1e9, X))
    with pytest.raises(ValueError, match="strings.*OrdinalEncoder"):
        Mixture(2, emission="categorical").fit(np.array([["a"], ["b"]] * 5))


def test_a_warm_start_with_other_categories_is_refused():
    X = codes()
    model = Mixture(2, emission="categorical", warm_start=True, random_state=0).fit(X)
    swapped = X[:, [1, 0, 2]]  # as many parameters, in another layout
    with pytest.raises(ValueError, match=r"cannot go on from .*\[4, 5, 3\] cells.*\[5, 4, 3\]"):
        model.fit(swapped)


def test_what_comes_later_in_a_stream_goes_to_the_reserved_cell():
    X = codes(600)
    model = Mixture(2, emission="categorical", random_state=0).fit(X)
    later = np.where(X == 2, 6.0, X)  # a category of its own that the first rows did not have
    before = model.score_samples([[6, np.nan, np.nan]])[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(20):
            model.partial_fit(later)
    assert model.score_samples([[6, np.nan, np.nan]])[0] > before + 2
    assert model.emission_.sizes.tolist() == [4, 5, 3]
