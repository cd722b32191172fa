"""Standardised distinct rows: what training works on, whatever the order and units of the rows."""

from typing import NamedTuple

import numpy as np

from .start import distinct

FEWEST_TO_SPLIT = 20  # distinct rows; with fewer, all of them train
MOST_TO_JUDGE = 5000  # distinct rows held out: more would not change the choice of an epoch


class TrainingRows(NamedTuple):
    """What a fit works on: it follows from the weighted set of rows, whatever their units."""

    X: np.ndarray  # (n, d) distinct standardised rows, lexicographic, rounded to 24 bits
    weight: np.ndarray  # (n,)
    location: np.ndarray  # (d,)
    scale: np.ndarray  # (d,)

    @classmethod
    def of(cls, X, weight, units):
        """From rows and their counts; `units(X, weight)` says location and scale of each column."""
        order, weight = distinct(X, weight)
        X = X[order].astype(np.float64)
        location, scale = units(X, weight)
        X = round_significant((X - location) / scale)
        order, weight = distinct(X, weight)  # rounding can make rows equal
        return cls(X[order], weight, location, scale)

    def split(self, fraction, rng):
        """Rows to train on, and whole distinct rows held out (none of very few)."""
        n = len(self.X)
        n_out = min(round(fraction * n), MOST_TO_JUDGE) if n >= FEWEST_TO_SPLIT else 0
        out = np.isin(np.arange(n), rng.permutation(n)[:n_out])
        return self.take(~out), self.take(out)

    def take(self, rows):
        return self._replace(X=self.X[rows], weight=self.weight[rows])

    def log_jacobian(self):
        """Mean over the weight of sum_j log scale_j over what is seen."""
        return float(self.weight @ (~np.isnan(self.X) @ np.log(self.scale)) / self.weight.sum())


def round_significant(values):
    """To 24 significant bits, or to 2^-24 where that is coarser: numbers that float32 holds.

    Rounding standardised rows makes training blind to the last bits, in which units show.
    """
    _, exponent = np.frexp(values)
    unit = np.ldexp(1.0, np.maximum(exponent, 0) - 24)
    return np.round(values / unit) * unit
