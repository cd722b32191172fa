"""Blocks of rows: they cover, they add, and threads change nothing."""

import numpy as np
import pytest

from sklvm.inference.blocks import BLOCK, blocks, each_block, sum_blocks

SIZES = [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 20 * BLOCK + 7]


@pytest.mark.parametrize("n", [0, *SIZES])
def test_blocks_cover_every_row_once(n):
    covered = np.concatenate([np.arange(n)[rows] for rows in blocks(n)] or [[]])
    np.testing.assert_array_equal(covered, np.arange(n))
    assert all(rows.stop - rows.start <= BLOCK for rows in blocks(n))


@pytest.mark.parametrize("n", [0, *SIZES])
def test_each_block_is_the_function_of_all_rows(n):
    X = np.random.default_rng(0).standard_normal((n, 2))
    sizes = []

    def double(x):
        sizes.append(len(x))
        return 2 * x

    np.testing.assert_array_equal(each_block(double, X), 2 * X)
    assert max(sizes) <= BLOCK


@pytest.mark.parametrize("n_jobs", [None, 1, 2, -1])
@pytest.mark.parametrize("n", SIZES)
def test_sum_blocks_adds_every_part(n, n_jobs):
    rng = np.random.default_rng(1)
    X, w = rng.standard_normal((n, 2)), rng.uniform(size=n)
    total, count = sum_blocks(lambda x, v: (v @ x, float(len(x))), (X, w), n_jobs)
    np.testing.assert_allclose(total, w @ X, rtol=1e-12)
    assert count == n


def test_no_block_is_larger_than_the_cache_asks():
    sizes = []

    def note(x):
        sizes.append(len(x))
        return (0.0,)

    sum_blocks(note, (np.zeros((5 * BLOCK + 1, 1)),))
    assert sizes == [BLOCK] * 5 + [1]


def test_threads_raise_what_a_block_raises():
    def singular(x):
        raise np.linalg.LinAlgError("singular")

    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        sum_blocks(singular, (np.zeros((3 * BLOCK, 1)),), n_jobs=2)


def test_different_lengths_of_parts_are_an_error():
    def uneven(x):
        return (1.0,) * len(x)

    with pytest.raises(ValueError):
        sum_blocks(uneven, (np.zeros((BLOCK + 1, 1)),))
