"""Weighted linear regression on contexts that may be collinear, or more than rows can tell of."""

from typing import NamedTuple

import numpy as np

ROWS_PER_SLOPE = 5  # at least; with fewer, only the leading directions of the contexts count
SMALL = 1e-10  # share of the largest variance below which a direction of the contexts is no other


class Directions(NamedTuple):
    """Uncorrelated variables of variance 1 that contexts are: u = (c - centre) basis."""

    centre: np.ndarray  # (m,)
    basis: np.ndarray  # (m, r) the direction of largest variance first

    @classmethod
    def of(cls, c, weight):
        """From rows of contexts without gaps: (n, m)."""
        centre, total = weight @ c / weight.sum(), weight.sum()
        values, vectors = np.linalg.eigh((c - centre).T * weight @ (c - centre) / total)
        values, vectors = values[::-1], vectors[:, ::-1]
        kept = values > SMALL * values.max(initial=0.0)
        return cls(centre, vectors[:, kept] / np.sqrt(values[kept]))

    def along(self, c):
        """u of rows: (n, m) -> (n, r)."""
        return (c - self.centre) @ self.basis


def slopes_on(u, v, weight):
    """Slopes of E[v | u] = intercept + u slopes by least squares: (n, r), (n, p) -> (r, p).

    NaN in v is missing. What a column says too little about is 0.
    """
    slopes = np.zeros((u.shape[1], v.shape[1]))
    for rows, columns in _equally_seen(v) if len(slopes) else ():
        r, root = min(len(slopes), int(weight[rows].sum() // ROWS_PER_SLOPE)), np.sqrt(weight[rows])
        design = root[:, None] * np.column_stack([np.ones(len(root)), u[rows, :r]])
        y = v[np.ix_(rows, columns)]
        found = np.linalg.lstsq(design, root[:, None] * y, rcond=None)[0]
        slopes[:r, columns] = np.where(np.ptp(y, axis=0) > 0, found[1:], 0.0)
    return slopes


def _equally_seen(v):
    """Pairs of rows and of the columns that are seen in these alone."""
    patterns, which = np.unique(~np.isnan(v), axis=1, return_inverse=True)
    for k, seen in enumerate(patterns.T):
        if seen.any():
            yield np.flatnonzero(seen), np.flatnonzero(which.ravel() == k)
