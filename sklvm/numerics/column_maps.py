"""Each column on a scale of its own: increasing, piecewise linear maps to normal scores."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

KNOTS = 12  # at most, of each column
NEGLIGIBLE = 1e-9  # share of weight that gives a value a score of its own all the same
ROOT_2PI = np.sqrt(2 * np.pi)


@dataclass(frozen=True)
class ColumnMaps:
    """x -> z of d columns, through knots (x, z) and straight on beyond them."""

    x: np.ndarray  # (d, J) ascending, in the units of the columns
    z: np.ndarray  # (d, J) ascending
    n_knots: np.ndarray  # (d,) how many say something: those after them lie on the last line

    @classmethod
    def of(cls, X, weight):
        """Normal scores of what is seen: (n, d) with NaN, (n,) -> maps.

        The score of a value is the normal quantile of the share of weight below it, ties halved.
        Up to `KNOTS` distinct values are knots; of more, as many quantiles at even scores.
        """
        knots = [_knots(column, weight) for column in X.T]
        x, z = (np.array([_straight_on(side) for side in sides]) for sides in zip(*knots))
        return cls(x, z, np.array([len(one) for one, _ in knots]))

    def forward(self, X):
        """(n, d) -> (n, d), NaN to NaN."""
        return _along(X, self.x, self.z)

    def inverse(self, Z):
        return _along(Z, self.z, self.x)

    def log_slope(self, X):
        """log dz/dx at each entry, 0 where it is missing: (n, d) -> (n, d)."""
        slopes = np.log(np.diff(self.z) / np.diff(self.x))
        at = np.take_along_axis(slopes, _segments(X, self.x).T, axis=1).T
        return np.where(np.isnan(X), 0.0, at)

    def mean(self, mean, variance, column):
        """E[x] of z ~ N(mean, variance), exactly; column says whose map: arrays that broadcast.

        x is a line through the first segment plus a hinge for each bend, and E of a hinge is
        E[max(z - t, 0)] = s phi(u) + (m - t) Phi(u) with u = (m - t) / s.
        """
        x, z, sd = self.x[column], self.z[column], np.sqrt(variance)
        slope = np.diff(self.x)[column] / np.diff(self.z)[column]
        total = x[..., 0] + slope[..., 0] * (mean - z[..., 0])
        for j in range(1, self.x.shape[1] - 1):
            gap = mean - z[..., j]
            u = gap / np.where(sd > 0, sd, 1.0)
            hinge = sd * np.exp(-0.5 * u * u) / ROOT_2PI + gap * ndtr(u)
            hinge = np.where(sd > 0, hinge, np.maximum(gap, 0.0))
            total += (slope[..., j] - slope[..., j - 1]) * hinge
        return total

    def take(self, columns):
        return ColumnMaps(self.x[columns], self.z[columns], self.n_knots[columns])


def _knots(column, weight):
    """Values and their scores, ascending: (n,), (n,) -> (j,), (j,)."""
    seen = ~np.isnan(column)
    value, group = np.unique(column[seen], return_inverse=True)
    mass = np.bincount(group, weight[seen])
    mass = np.maximum(mass, NEGLIGIBLE * mass.sum())
    score = ndtri((np.cumsum(mass) - mass / 2) / mass.sum())
    if len(value) <= KNOTS:
        return value, score
    even = np.linspace(score[0], score[-1], KNOTS)
    return np.interp(even, score, value), even


def _straight_on(side):
    """As many knots as all columns have, the new ones on the last line: (j,) -> (KNOTS,)."""
    more = np.arange(1, KNOTS + 1 - len(side))
    return np.concatenate([side, side[-1] + more * (side[-1] - side[-2])])


def _segments(X, knots):
    """Which segment holds each entry: (n, d), (d, J) -> (n, d) from 0 to J - 2."""
    inner = [np.searchsorted(k[1:-1], x, side="right") for x, k in zip(X.T, knots)]
    return np.array(inner).T.reshape(X.shape)


def _along(X, here, there):
    segment = _segments(X, here).T
    start, end, base, top = (
        np.take_along_axis(knots, segment + step, axis=1)
        for knots in (here, there)
        for step in (0, 1)
    )
    return base.T + (X - start.T) * ((top - base) / (end - start)).T
