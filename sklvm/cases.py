"""Weighted rows of any container as distinct cases: what cross-fitting divides into folds."""

from numbers import Integral
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import check_cv
from sklearn.utils import check_array

from .inference.start import distinct, lexicographic


class Cases(NamedTuple):
    """The distinct rows with weight, in a random order over their sorted set, so that neither
    shuffling nor repeating rows changes anything that is made from them."""

    X: object  # the user's container of n rows
    position: np.ndarray  # (m,) where in X each case lies first
    mass: np.ndarray  # (m,) what it weighs in all
    of_row: np.ndarray  # (n,) the case of each row
    weight: np.ndarray  # (n,)
    by_weight: bool  # whether weights reach the density as sample_weight, not as repeated rows

    @classmethod
    def of(cls, X, weight, by_weight, rng):
        entries, rows = table(X), np.flatnonzero(weight)
        if entries is None or not entries.size:
            order, group = np.arange(len(rows)), np.arange(len(rows))
        else:
            order, group = _group(entries.reshape(len(entries), -1)[rows])
        shuffle = rng.permutation(len(order))
        of_row = np.zeros(len(weight), int)
        of_row[rows] = np.argsort(shuffle)[group]
        mass = np.bincount(of_row, weight, minlength=len(order))
        return cls(X, rows[order[shuffle]], mass, of_row, weight, by_weight)

    def rows(self, mass):
        """The cases that weigh something, in the user's container."""
        return take(self.X, self.position[mass > 0])

    def training_data(self, mass):
        """The cases as often as `mass` says: rows, and further arguments of fit."""
        if self.by_weight:
            return self.rows(mass), {"sample_weight": mass[mass > 0]}
        return take(self.X, np.repeat(self.position, mass.astype(int))), {}

    def folds(self, cv):
        """What each case weighs in training and in test, fold by fold: yields (m,), (m,)."""
        m = len(self.mass)
        if m < 2:
            raise ValueError(
                f"cv={cv!r} needs two distinct rows at least, got {m}; "
                "with cv=None there is no calibration"
            )
        if isinstance(cv, Integral):
            for fold in range(min(cv, m)):
                test = np.arange(m) % min(cv, m) == fold
                yield self.mass * ~test, self.mass * test
        else:
            for train, test in check_cv(cv).split(self.X):
                yield self._mass_of(train), self._mass_of(test)

    def _mass_of(self, rows):
        return np.bincount(self.of_row[rows], self.weight[rows], minlength=len(self.mass))


def table(X):
    """X as float64 of two or three dimensions, or None: ragged, sparse, or not of numbers."""
    try:
        return check_array(
            X,
            dtype=np.float64,
            ensure_all_finite=False,
            allow_nd=True,
            ensure_min_samples=0,
            ensure_min_features=0,
        )
    except (TypeError, ValueError):
        return None


def _group(rows):
    """The distinct rows, sorted, and which of them each row is: -> positions (m,), index (n,)."""
    first, _ = distinct(rows, np.ones(len(rows)))
    order, new = lexicographic(rows), np.zeros(len(rows), int)
    new[first] = 1
    group = np.empty(len(rows), int)
    group[order] = np.cumsum(new[order]) - 1
    return first, group


def take(X, rows):
    """Some rows of a DataFrame, an array, a sparse matrix or a list."""
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    return X[rows] if hasattr(X, "shape") else [X[row] for row in rows]
