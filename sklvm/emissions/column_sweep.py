"""One pass over groups of columns: each group's sweep reads its own columns of the same blocks."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .statistics import Statistics
from .sweep import MOST_ROWS, Sweep


class Scattered(NamedTuple):
    """Some columns of many rows, copied block by block, for what reads rows in blocks only."""

    X: np.ndarray  # (n, d)
    columns: np.ndarray  # (m,)

    @property
    def shape(self):
        return len(self.X), len(self.columns)

    def __len__(self):
        return len(self.X)

    def __getitem__(self, rows):
        return self.X[rows].take(self.columns, axis=1)


def run_of(columns):
    """The slice that columns in a row, in order, are; or the columns: (m,) -> slice or (m,)."""
    first = int(columns[0])
    together = np.array_equal(columns, np.arange(first, first + len(columns)))
    return slice(first, first + len(columns)) if together else columns


def picked(X, run):
    """Some columns of X in C order, without a copy where they stand together: -> (n, m)."""
    return X[:, run] if isinstance(run, slice) else X.take(run, axis=1)


def view(X, run):
    """Some columns of all rows, without a copy of many rows."""
    scattered = not isinstance(run, slice) and len(X) > MOST_ROWS
    return Scattered(X, run) if scattered else picked(X, run)


def told(x):
    """Which rows have an entry in these columns: (n, m) -> (n,) bool, or None for all of them."""
    if not np.isnan(x[:, 0]).any():
        return None
    some = ~np.isnan(x).all(axis=1)
    return None if some.all() else some


@dataclass(frozen=True)
class ColumnStats(Statistics):
    """The statistics of each group of columns, or the sums that they are made of."""

    parts: tuple

    def _map(self, function, *others):
        rows = zip(*(stats.parts for stats in (self, *others)), strict=True)
        return ColumnStats(tuple(function(*row) for row in rows))

    def take(self, order):
        return self._map(lambda part: part.take(order))


class ColumnSweep(Sweep):
    """The sweeps of all groups over the same blocks of rows; the first one bears the offset."""

    def __init__(self, sweeps, runs, offsets):
        self._sweeps, self._runs, self._offsets = sweeps, runs, offsets
        self.rows = min(sweep.rows for sweep in sweeps)

    def block(self, X):
        parts = [
            told_block(sweep, picked(X, run), offset)
            for sweep, run, offset in zip(self._sweeps, self._runs, self._offsets, strict=True)
        ]
        (joint, _), *rest = parts
        for log_prob, _ in rest:
            joint += log_prob
        return joint, lambda resp: ColumnStats(tuple(sums(resp) for _, sums in parts))

    def total(self, sums, log_likelihood):
        parts = []
        for sweep, part in zip(self._sweeps, sums.parts, strict=True):
            stats, log_likelihood = sweep.total(part, log_likelihood)
            parts.append(stats)
        return ColumnStats(tuple(parts)), log_likelihood


def told_block(sweep, x, offset):
    """A block of one group, whose rows without any entry say nothing of its parameters."""
    some = told(x)
    if some is None:
        return sweep.block(x)
    joint = np.tile(offset, (len(x), 1))
    joint[some], sums = sweep.block(x[some])
    return joint, lambda resp: sums(resp[some])
