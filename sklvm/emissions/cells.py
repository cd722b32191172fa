"""Whole numbers as cells, one of which each seen entry lies in: tables instead of formulas.

A row's cells are a sparse row of ones, so that a table of log-probabilities (cells, K) makes the
log-probabilities of a block in one product, and another counts how often each cell was seen. The
cost is that of the entries, however many cells there are.
"""

import numpy as np
from scipy import sparse

from .sweep import Sweep


def first_cells(sizes):
    """Where the cells of each column begin, side by side: (d,) -> (d,)."""
    return np.cumsum(sizes) - sizes


def cells_of(columns, sizes):
    """All cells of some columns, in their order: -> (m,) integers."""
    first = first_cells(sizes)
    return np.concatenate([np.arange(first[j], first[j] + sizes[j]) for j in columns])


def one_hot(X, sizes):
    """The cell of each seen entry; the last one of a column holds all numbers from there on.

    (n, d), (d,) -> sparse (n, sum of sizes)
    """
    n, d = X.shape
    cells, seen = np.minimum(X, sizes - 1) + first_cells(sizes), ~np.isnan(X)
    if seen.all():
        cells, ends = cells.ravel(), np.arange(0, n * d + 1, d, dtype=np.int32)
    else:
        ends = np.concatenate([[0], np.cumsum(seen.sum(axis=1))]).astype(np.int32)
        cells = cells[seen]
    shape = (n, int(sizes.sum()))
    return sparse.csr_array((np.ones(len(cells)), cells.astype(np.int32), ends), shape=shape)


class CellSweep(Sweep):
    """One sparse product makes log-probabilities of a block, another counts cells."""

    def __init__(self, log_p, sizes, offset, statistics):
        self._table, self._sizes = np.ascontiguousarray(log_p.T), sizes  # (cells, K)
        self._offset, self._statistics = np.zeros((len(log_p), 1)), statistics
        self._offset[:, 0] = offset

    def block(self, X):
        cells = one_hot(X, self._sizes)
        joint = (cells @ self._table).T + self._offset
        return joint.T, lambda resp: self._statistics((cells.T @ resp).T)
