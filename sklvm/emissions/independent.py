"""Columns that are independent given z: what all their emissions answer alike."""

from abc import abstractmethod

import numpy as np
from scipy.special import gammaln

from .base import Emission, Spec

GRID = 4096  # values of a column that the search for a mode compares at once
PATCH = 2**22  # heights that it holds at once
NARROWER = 8.0  # of its finer grids, each against the one before
BLEND = 0.1  # of all rows in each part of a start
FLOOR = 1e-15  # smallest probability, or share of the average rate: log 0 helps nobody


class Independent(Emission):
    """p(x | z = k) = prod_j p(x_j | z = k): a missing entry is one factor fewer."""

    base_measure = "counting"

    @abstractmethod
    def marginal(self, columns) -> "Independent":
        """The emission of some features: columns is an integer array."""

    @abstractmethod
    def variance(self) -> np.ndarray:
        """Var[x | z = k]: (K, d)."""

    @abstractmethod
    def candidates(self) -> np.ndarray:
        """Of a single column: whole numbers (g,), in order, among or between which every mixture of
        the K conditionals is highest."""

    def start(self, X, resp):
        """Some of each part is all rows: EM never fills a value that a part starts without."""
        share = resp.sum(axis=0) / resp.sum()
        whole = resp.sum(axis=1, keepdims=True) * share
        return super().start(X, (1 - BLEND) * resp + BLEND * whole)

    def complete(self, X):
        return np.where(np.isnan(X)[:, None], self.expectation(), X[:, None])

    def complete_sample(self, X, z, rng):
        return np.where(np.isnan(X), self.sample(z, rng), X)

    def climb(self, x, missing, resp):
        """Each missing entry in turn to where p(x) is highest given all other entries: (n, d)."""
        x = x.copy()
        with np.errstate(divide="ignore"):
            joint = np.log(resp)
        for j in np.flatnonzero(missing.any(axis=0)):
            rows = missing[:, j]
            one: Independent = self.marginal(np.array([j]))
            now = x[rows, j]
            others = joint[rows] - one.log_prob(now[:, None])
            best = one.highest(others)
            rises = _height(one, others, best) > _height(one, others, now)
            x[rows, j] = np.where(rises | (now != np.floor(now)), best, now)
            joint[rows] = others + one.log_prob(x[rows, j, None])
        return x

    def climb_within(self, whole, x, missing, resp):
        return Independent.climb(whole, x, missing, resp)

    def highest(self, others):
        """Where sum_k exp(others_k) p(x | z = k) is highest, of a single column: (n, K) -> (n,)."""
        share = np.exp(others - others.max(axis=1, keepdims=True))
        grid = self.candidates()
        p, rows = np.exp(self.log_prob(grid[:, None])).T, max(1, PATCH // len(grid))
        parts = [(share[i : i + rows] @ p).argmax(axis=1) for i in range(0, len(share), rows)]
        x = grid[np.concatenate(parts)]
        step = np.diff(grid).max(initial=1.0)
        while step > 1:
            step = np.ceil(step / NARROWER)
            near = np.maximum(x[:, None] + step * np.arange(-NARROWER, NARROWER + 1), 0.0)
            p = np.exp(self.log_prob(near.reshape(-1, 1))).reshape(*near.shape, -1)
            x = near[np.arange(len(x)), np.einsum("nk,ngk->ng", share, p).argmax(axis=1)]
        return x

    def cdf(self, X):
        """By adding up the probabilities of a column's whole numbers."""
        K, d = self.expectation().shape
        found = np.empty((len(X), K, d))
        for j, x in enumerate(np.floor(X.T)):
            grid = np.arange(x.max(initial=0.0) + 1)[:, None]
            p = np.exp(self.marginal(np.array([j])).log_prob(grid))
            found[..., j] = np.concatenate([np.zeros((1, K)), np.cumsum(p, axis=0)])[
                np.maximum(x + 1, 0).astype(int)
            ]
        return found

    def conditional_moments(self, X, seen, targets):
        """E and Cov of target columns, which seen ones do not change: (n, K, t), (1, K, t, t)."""
        mean, variance = self.expectation()[:, targets], self.variance()[:, targets]
        shape = (len(X), *mean.shape)
        return np.broadcast_to(mean, shape), (variance[:, :, None] * np.eye(len(targets)))[None]

    def condition(self, seen, values):
        """p(x_missing | x_seen = values, z = k): the other columns as they are."""
        return self.marginal(np.setdiff1d(np.arange(self.expectation().shape[1]), seen))


def _height(one, others, x):
    """log sum_k exp(others_k) p(x | z = k) at one value of a single column for each row: (n,)."""
    return np.logaddexp.reduce(others + one.log_prob(x[:, None]), axis=1)


def between(modes):
    """Whole numbers from the lowest mode to the highest; of very many, a grid and the modes.

    Sums of conditionals that rise to their mode and fall behind it are highest in between.
    """
    low, high = modes.min(), modes.max()
    return np.union1d(np.linspace(low, high, int(min(high - low + 1, GRID))).round(), modes)


def refuse_unless(allowed, X, needs):
    """One ValueError that shows the first entry (of those seen) that is not allowed."""
    wrong = ~allowed & ~np.isnan(X)
    if wrong.any():
        raise ValueError(f"Negative values in data, or fractions: {needs}, got {X[wrong][0]:g}")


def whole(X):
    """Which entries are 0, 1, 2, ...: (n, d) -> bool."""
    return (X >= 0) & (np.floor(X) == X)


def log_factorials(X):
    """sum_j log x_j! over seen columns: (n, d) -> (n,)."""
    return gammaln(np.where(np.isnan(X), 0.0, X) + 1.0).sum(axis=1)


class CountingSpec(Spec):
    """A spec of whole numbers, with `pseudo` observations of all rows in its prior."""

    base_measure = "counting"
    pseudo: float

    def set_tags(self, input_tags):
        input_tags.positive_only = True
        input_tags.categorical = True  # scikit-learn's word for whole numbers

    def _checked_pseudo(self):
        """`pseudo` as a float, or ValueError."""
        s = self.pseudo
        number = isinstance(s, int | float | np.number) and not isinstance(s, bool)
        if not number or not 0 <= s < np.inf:
            raise ValueError(f"{type(self).__name__}: pseudo must not be negative, got {s!r}")
        return float(s)
