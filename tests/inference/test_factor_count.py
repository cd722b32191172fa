"""How many factors: tables without factors, the bound on sizes, the growing search."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklvm.inference import factor_count
from sklvm.inference.factor_count import grow, largest_size, parallel_analysis


def table(n, d, q, rng, holes=0.0):
    """Columns of variance one, of which factors in turn explain 25 to 64 %."""
    W = np.zeros((q, d))
    for j in range(d if q else 0):
        W[j % q, j] = rng.uniform(0.5, 0.8)
    noise = rng.normal(size=(n, d)) * np.sqrt(1 - (W**2).sum(axis=0))
    X = rng.normal(size=(n, q)) @ W + noise
    X[rng.uniform(size=(n, d)) < holes] = np.nan
    return X[~np.isnan(X).all(axis=1)]


def eigenvalues(X):
    return np.linalg.eigvalsh(np.corrcoef(X.T))[::-1]


@pytest.mark.parametrize("d", range(1, 60))
def test_the_largest_size_is_ledermanns_bound_but_one(d):
    bound = max(q for q in range(d) if (d - q) ** 2 >= d + q)
    assert largest_size(d, 1e6) == (1 if d == 2 else bound)
    assert largest_size(d, 5.4) == min(largest_size(d, 1e6), 2)


def test_growing_stops_three_sizes_after_the_best():
    asked, values = [], [0.0, 2.0, 1.0, 3.0, 3.0, 2.9, 1.0, 9.0]

    def score(q):
        asked.append(q)
        return values[q]

    best, scores = grow(score, 7)
    assert best == 3 and asked == list(range(7))
    assert_array_equal(scores, values[:7])
    assert grow(lambda q: -q, 0)[0] == 0
    assert grow(lambda q: q, 2)[0] == 2


@pytest.mark.parametrize(("n", "d"), [(8, 5), (5, 5), (4, 9), (40, 3)])
def test_reference_tables_are_normal_tables(n, d):
    rng = np.random.default_rng(0)
    drawn = [
        factor_count._spectrum(factor_count._gram(Z))
        for _ in range(8)
        for Z in factor_count._nulls(float(n), d, rng)
    ]
    plain = np.array([eigenvalues(rng.normal(size=(n, d))) for _ in range(1600)])
    plain, drawn = plain[:, : min(n - 1, d)], np.array(drawn)
    assert drawn.shape == (1600, min(n - 1, d))
    se = np.sqrt((plain.var(axis=0) + drawn.var(axis=0)) / 1600)
    assert (np.abs(plain.mean(axis=0) - drawn.mean(axis=0)) < 4 * se + 1e-9).all()
    gap = np.quantile(plain, 0.95, axis=0) - np.quantile(drawn, 0.95, axis=0)
    assert (np.abs(gap) < 10 * se + 1e-9).all()


@pytest.mark.parametrize(("n", "p"), [(100, 10), (8, 7)])
def test_eigenvalues_are_those_of_the_correlations(n, p):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(n, 10)) * np.arange(1, 11)
    _, values, thresholds = parallel_analysis(X, np.ones(n), rng)
    assert values.shape == thresholds.shape == (p,)
    assert_allclose(values, eigenvalues(X)[:p], atol=1e-10)
    weight = np.arange(n) % 3 + 1
    repeated = np.repeat(X, weight, axis=0)
    weighted = parallel_analysis(X, weight.astype(float), np.random.default_rng(0))
    plain = parallel_analysis(repeated, np.ones(len(repeated)), np.random.default_rng(0))
    assert_allclose(weighted[1], eigenvalues(repeated), atol=1e-10)
    assert_allclose(weighted[2], plain[2], rtol=1e-12)


def test_the_count_ends_at_the_first_eigenvalue_that_noise_reaches(monkeypatch):
    null = np.tile([1.0, 1.0, 0.9, 0.5], (3, 1))
    for values, q in [([3, 2, 1, 0], 3), ([3, 1, 2, 0], 1), ([1, 9, 9, 9], 0), ([3, 3, 3, 3], 4)]:
        monkeypatch.setattr(factor_count, "_complete", lambda *_, v=values: (np.array(v), null))
        assert parallel_analysis(np.ones((2, 4)), np.ones(2), None)[0] == q


def found(n, d, q, holes, tables):
    """The numbers of factors found in seeded tables that have q."""
    rng = np.random.default_rng([n, d, q])
    tables = [table(n, d, q, rng, holes) for _ in range(tables)]
    return np.array([parallel_analysis(X, np.ones(len(X)), rng)[0] for X in tables])


@pytest.mark.parametrize(
    ("n", "d", "holes"), [(100, 8, 0.0), (100, 8, 0.2), (60, 6, 0.4), (12, 20, 0.0)]
)
def test_one_table_in_twenty_without_factors_seems_to_have_one(n, d, holes):
    assert (found(n, d, 0, holes, 60) > 0).sum() <= 7  # more than 7 of 60: 1.2 % at a level of 5 %


@pytest.mark.parametrize(
    ("n", "d", "q", "holes"), [(300, 9, 2, 0.0), (300, 9, 2, 0.3), (40, 60, 3, 0.0)]
)
def test_strong_factors_are_found(n, d, q, holes):
    assert (found(n, d, q, holes, 20) == q).sum() >= 19


def test_thresholds_are_those_of_tables_with_the_same_gaps():
    rng = np.random.default_rng(0)
    gaps = np.zeros((400, 6), bool)
    gaps[30:, :2] = True  # two columns that 30 rows saw
    null = np.array(
        [_pairwise(np.where(gaps, np.nan, rng.normal(size=(400, 6)))) for _ in range(600)]
    )
    X = np.where(gaps, np.nan, rng.normal(size=(400, 6)))
    seeds = [np.random.default_rng(seed) for seed in range(4)]
    thresholds = np.mean([parallel_analysis(X, np.ones(400), r)[2] for r in seeds], axis=0)
    assert_allclose(thresholds, np.quantile(null, 0.95, axis=0), atol=0.04)


def _pairwise(X):
    """Eigenvalues of the correlations, each over the rows that saw both columns."""
    return np.linalg.eigvalsh(np.ma.corrcoef(np.ma.masked_invalid(X), rowvar=False).filled())[::-1]
