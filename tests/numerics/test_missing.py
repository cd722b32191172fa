"""Conditioning on what was seen: compiled kernels, their plain twins and block formulas agree."""

import numpy as np
import pytest

from sklvm.numerics.missing import (
    conditional_covariance,
    conditional_covariance_numpy,
    fill,
    fill_numpy,
    find_holes,
)

PATTERNS = ["random", "all missing", "one pattern", "every row its own", "one row", "one column"]


def rows_with_holes(pattern, seed=0):
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
    diff = rng.standard_normal(missing.shape)
    diff[missing] = np.nan
    G = rng.standard_normal((d, d + 1))
    return diff, np.linalg.inv(G @ G.T), rng.uniform(0.1, 2, len(diff))


def by_blocks(diff, P, resp):
    """The block formulas of the conditional Gaussian, row by row, from the covariance."""
    S = np.linalg.inv(P)
    filled, total = diff.copy(), np.zeros_like(P)
    log_dets = np.zeros(len(diff))
    for n, row in enumerate(diff):
        m, o = np.flatnonzero(np.isnan(row)), np.flatnonzero(~np.isnan(row))
        if not len(m):
            continue
        regression = S[np.ix_(m, o)] @ np.linalg.inv(S[np.ix_(o, o)])
        filled[n, m] = regression @ row[o]
        left = S[np.ix_(m, m)] - regression @ S[np.ix_(o, m)]
        total[np.ix_(m, m)] += resp[n] * left
        log_dets[n] = -np.linalg.slogdet(left)[1]
    return filled, log_dets, total


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("fill_rows", [fill, fill_numpy])
def test_fill_is_the_conditional_mean_and_log_determinant(pattern, fill_rows):
    diff, P, resp = rows_with_holes(pattern)
    expected, expected_log_det, _ = by_blocks(diff, P, resp)
    seen = ~np.isnan(diff)
    filled = diff.copy()
    log_det = fill_rows(filled, find_holes(diff), P)
    np.testing.assert_allclose(filled, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(log_det, expected_log_det, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(filled[seen], diff[seen])


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("sum_rows", [conditional_covariance, conditional_covariance_numpy])
def test_conditional_covariances_add_up(pattern, sum_rows):
    diff, P, resp = rows_with_holes(pattern)
    _, _, expected = by_blocks(diff, P, resp)
    total = sum_rows(find_holes(diff), P, resp)
    np.testing.assert_allclose(total, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_kernels_equal_their_plain_twins(pattern):
    diff, P, resp = rows_with_holes(pattern, seed=1)
    holes = find_holes(diff)
    compiled, plain = diff.copy(), diff.copy()
    np.testing.assert_allclose(fill(compiled, holes, P), fill_numpy(plain, holes, P), atol=1e-10)
    np.testing.assert_allclose(compiled, plain, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(
        conditional_covariance(holes, P, resp),
        conditional_covariance_numpy(holes, P, resp),
        rtol=1e-10,
        atol=1e-10,
    )


def test_find_holes_groups_every_incomplete_row_once():
    diff, _, _ = rows_with_holes("random", seed=2)
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
    X = np.zeros((3, 20))
    X[0, 17] = X[1, 18] = X[2, 17] = np.nan
    holes = find_holes(X)
    assert len(holes.missing) == 2
    assert sorted(np.diff(holes.starts)) == [1, 2]


@pytest.mark.parametrize("layout", ["C", "F", "read-only P", "strided"])
def test_layouts(layout):
    diff, P, resp = rows_with_holes("random")
    expected, expected_log_det, expected_total = by_blocks(diff, P, resp)
    holes = find_holes(diff)
    if layout == "F":
        diff, P = np.asfortranarray(diff), np.asfortranarray(P)
    elif layout == "read-only P":
        P.flags.writeable = False
    elif layout == "strided":
        P = np.repeat(np.repeat(P, 2, axis=0), 2, axis=1)[::2, ::2]
        resp = np.repeat(resp, 2)[::2]
    np.testing.assert_allclose(fill(diff, holes, P), expected_log_det, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(diff, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(conditional_covariance(holes, P, resp), expected_total, atol=1e-9)
