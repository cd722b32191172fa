"""Conditioning on what was seen: compiled kernels, their plain twins and block formulas agree."""

import numpy as np
import pytest

from sklvm.numerics.missing import (
    Matrices,
    conditional_covariance,
    conditional_covariance_numpy,
    conditional_variances,
    conditional_variances_numpy,
    fill,
    fill_numpy,
    find_holes,
)

K = 3
PATTERNS = ["random", "all missing", "one pattern", "every row its own", "one row", "one column"]


def rows_with_holes(pattern, seed=0, n_matrices=K):
    """Rows less the means of K components, that many matrices or one, and responsibilities."""
    rng = np.random.default_rng(seed)
    n, d = 40, 5
    missing = rng.uniform(size=(n, d)) < 0.4
    if pattern == "all missing":
        missing[::3] = True
        missing[1::3] = False
    elif pattern == "one pattern":
        missing = np.tile([True, False, True, False, False], (n, 1))
    elif pattern == "every row its own":
        missing = (np.arange(1, 31)[:, None] >> np.arange(d)) % 2 == 1
    elif pattern == "one row":
        missing = missing[:1]
    elif pattern == "one column":
        missing, d = missing[:, :1], 1
    diff = rng.standard_normal((K, *missing.shape))
    diff[:, missing] = np.nan
    G = rng.standard_normal((n_matrices, d, d + 1))
    S = G @ G.mT
    matrices = Matrices(S, np.linalg.inv(S), np.linalg.slogdet(S)[1])
    return diff, matrices, rng.uniform(0.1, 2, (len(missing), K))


def by_blocks(diff, matrices, resp):
    """The block formulas of the conditional Gaussian, row by row, from the covariance."""
    filled, total = diff.copy(), np.zeros_like(matrices.S)
    log_dets = np.zeros(diff.shape[:2])
    for k, rows in enumerate(diff):
        which = min(k, len(matrices.S) - 1)
        S = matrices.S[which]
        for n, row in enumerate(rows):
            m, o = np.flatnonzero(np.isnan(row)), np.flatnonzero(~np.isnan(row))
            regression = S[np.ix_(m, o)] @ np.linalg.inv(S[np.ix_(o, o)])
            filled[k, n, m] = regression @ row[o]
            left = S[np.ix_(m, m)] - regression @ S[np.ix_(o, m)]
            total[which][np.ix_(m, m)] += resp[n, k] * left
            log_dets[k, n] = np.linalg.slogdet(S[np.ix_(o, o)])[1]
    return filled, log_dets, total


@pytest.mark.parametrize("n_matrices", [K, 1])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("fill_rows", [fill, fill_numpy])
def test_fill_is_the_conditional_mean_and_log_determinant(pattern, fill_rows, n_matrices):
    diff, matrices, resp = rows_with_holes(pattern, n_matrices=n_matrices)
    expected, expected_log_det, _ = by_blocks(diff, matrices, resp)
    seen = ~np.isnan(diff)
    filled = diff.copy()
    log_det = fill_rows(filled, find_holes(diff[0]), matrices)
    np.testing.assert_allclose(filled, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(log_det, expected_log_det, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(filled[seen], diff[seen])


@pytest.mark.parametrize("n_matrices", [K, 1])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("sum_rows", [conditional_covariance, conditional_covariance_numpy])
def test_conditional_covariances_add_up(pattern, sum_rows, n_matrices):
    diff, matrices, resp = rows_with_holes(pattern, n_matrices=n_matrices)
    _, _, expected = by_blocks(diff, matrices, resp)
    total = sum_rows(find_holes(diff[0]), matrices, resp)
    np.testing.assert_allclose(total, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_kernels_equal_their_plain_twins(pattern):
    diff, matrices, resp = rows_with_holes(pattern, seed=1)
    holes = find_holes(diff[0])
    compiled, plain = diff.copy(), diff.copy()
    one, other = fill(compiled, holes, matrices), fill_numpy(plain, holes, matrices)
    np.testing.assert_allclose(one, other, atol=1e-10)
    np.testing.assert_allclose(compiled, plain, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(
        conditional_covariance(holes, matrices, resp),
        conditional_covariance_numpy(holes, matrices, resp),
        rtol=1e-10,
        atol=1e-10,
    )


def test_find_holes_groups_every_incomplete_row_once():
    diff = rows_with_holes("random", seed=2)[0][0]
    holes = find_holes(diff)
    np.testing.assert_array_equal(np.sort(holes.rows), np.flatnonzero(np.isnan(diff).any(axis=1)))
    assert holes.starts[0] == 0
    assert holes.starts[-1] == len(holes.rows)
    assert len(np.unique(holes.missing, axis=0)) == len(holes.missing)
    for u, pattern in enumerate(holes.missing):
        for row in holes.rows[holes.starts[u] : holes.starts[u + 1]]:
            np.testing.assert_array_equal(np.isnan(diff[row]), pattern)


def test_complete_rows_have_no_holes():
    assert find_holes(np.ones((3, 2))) is None


def test_many_columns_keep_their_patterns_apart():
    X = np.zeros((4, 200))  # several machine words a row
    X[0, 17] = X[1, 18] = X[2, 17] = np.nan
    X[0, 199] = X[2, 199] = X[3, 198] = np.nan
    holes = find_holes(X)
    assert len(holes.missing) == 3
    assert sorted(np.diff(holes.starts)) == [1, 1, 2]


@pytest.mark.parametrize("layout", ["F", "read-only", "strided"])
def test_layouts(layout):
    diff, matrices, resp = rows_with_holes("random")
    expected, expected_log_det, expected_total = by_blocks(diff, matrices, resp)
    holes = find_holes(diff[0])
    if layout == "F":
        diff, matrices = np.asfortranarray(diff), Matrices(*map(np.asfortranarray, matrices))
    elif layout == "read-only":
        for array in matrices:
            array.flags.writeable = False
    elif layout == "strided":
        matrices = Matrices(*(np.repeat(array, 2, axis=0)[::2] for array in matrices))
        resp = np.repeat(resp, 2, axis=0)[::2]
    log_det = fill(diff, holes, matrices)
    np.testing.assert_allclose(log_det, expected_log_det, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(diff, expected, rtol=1e-9, atol=1e-9)
    total = conditional_covariance(holes, matrices, resp)
    np.testing.assert_allclose(total, expected_total, atol=1e-9)


@pytest.mark.parametrize("n_missing", [1, 4], ids=["by precision", "by covariance"])
def test_a_singular_matrix_is_a_linear_algebra_error(n_missing):
    """Not a ZeroDivisionError: a leap of the climb may end there, and is then no proposal."""
    diff = np.ones((1, 2, 5))
    diff[:, :, :n_missing] = np.nan
    nothing = np.zeros((1, 5, 5))
    matrices = Matrices(nothing, nothing, np.zeros(1))
    for function in (fill, fill_numpy):
        with pytest.raises(np.linalg.LinAlgError):
            function(diff.copy(), find_holes(diff[0]), matrices)
    with pytest.raises(np.linalg.LinAlgError):
        conditional_covariance(find_holes(diff[0]), matrices, np.ones((2, 1)))


@pytest.mark.parametrize("spread_of", [conditional_variances, conditional_variances_numpy])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_variances_of_what_is_missing_are_those_of_the_block_formula(pattern, spread_of):
    diff, matrices, _ = rows_with_holes(pattern)
    holes = find_holes(diff[0])
    spread = spread_of(holes, matrices)
    for missing, found in zip(holes.missing, spread, strict=True):
        row = np.where(missing, np.nan, 0.0)
        for k, S in enumerate(matrices.S):
            one = Matrices(S[None], np.linalg.inv(S)[None], np.linalg.slogdet(S)[1:])
            total = by_blocks(row[None, None], one, np.ones((1, 1)))[2][0]
            np.testing.assert_allclose(found[k], np.diag(total), rtol=1e-8, atol=1e-12)
