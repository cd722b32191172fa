"""Rows in cache-sized blocks: memory is bounded by the block, and cores take blocks in turn."""

import numpy as np
from joblib import Parallel, delayed

BLOCK = 1024  # rows; a block's work stays in the L2 cache


def blocks(n, size=BLOCK):
    """Slices that cover n rows."""
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]


def wide(block):
    """Single precision to double, block by block: X itself is not copied."""
    return block.astype(np.float64) if block.dtype == np.float32 else block


def gaps(block):
    """Whether each row misses an entry: (n, d) -> (n,) bool.

    One product looks at all entries; sums that are NaN are looked at again, for large numbers of
    opposite signs make some, too.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        rows = np.isnan(block @ np.ones(block.shape[1], block.dtype))
    if rows.any():
        rows[rows] = np.isnan(block[rows]).any(axis=1)
    return rows


def has_gaps(X):
    """Whether an entry of X is missing."""
    return any(gaps(X[rows]).any() for rows in blocks(len(X)))


def each_block(function, X):
    """function(rows of a block) concatenated over the blocks of X."""
    if len(X) <= BLOCK:
        return function(X)
    return np.concatenate([function(X[rows]) for rows in blocks(len(X))])


def sum_blocks(function, arrays, n_jobs=None, size=BLOCK):
    """Sum of function(*rows of a block), a tuple of values that add, over all blocks.

    With n_jobs each worker thread sums a contiguous run of blocks.
    """
    if 0 < len(arrays[0]) <= size:
        return function(*arrays)
    slices = blocks(len(arrays[0]), size)
    if n_jobs is None or n_jobs == 1:
        return _sum_run(function, arrays, slices)
    runs = [run for run in np.array_split(np.array(slices, dtype=object), 16) if len(run)]
    return sum_parts(lambda run: _sum_run(function, arrays, run), runs, n_jobs)


def sum_parts(function, parts, n_jobs):
    """Sum of function(part), a tuple of values that add, over parts that worker threads share."""
    if len(parts) == 1:
        return function(parts[0])
    run = Parallel(n_jobs=n_jobs, prefer="threads")
    return _add(run(delayed(function)(part) for part in parts))


def _sum_run(function, arrays, slices):
    return _add(function(*(wide(a[rows]) for a in arrays)) for rows in slices)


def _add(parts):
    total = None
    for part in parts:
        total = part if total is None else tuple(a + b for a, b in zip(total, part, strict=True))
    return total
