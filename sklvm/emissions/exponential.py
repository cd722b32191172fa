"""Columns of one-parameter exponential families: log p(x | z = k) is linear in x."""

from abc import abstractmethod
from dataclasses import dataclass, replace

import numpy as np

from .independent import FLOOR, Independent
from .statistics import Statistics, positive
from .sweep import Sweep


@dataclass(frozen=True)
class Totals(Statistics):
    """What each column needs: how many rows saw it, and the sum of what they saw."""

    rows: np.ndarray  # (K, d) sum of resp over the rows that saw the column
    total: np.ndarray  # (K, d) sum of resp * x over the same rows


@dataclass(frozen=True)
class Exponential(Independent):
    """log p(x_j | z = k) = eta_kj x_j - A_kj + log h_j(x_j), with `pseudo` rows in its prior."""

    mean: np.ndarray  # (K, d) E[x | z = k]
    pseudo: float  # the prior of each column: as many rows ...
    centre: np.ndarray  # (d,) ... of this average

    @abstractmethod
    def natural(self) -> tuple[np.ndarray, np.ndarray]:
        """eta and A: (K, d), (K, d)."""

    def log_base(self, X):
        """sum_j log h_j(x_j) over seen columns: (n, d) -> (n,)."""
        return np.zeros(len(X))

    def _inside(self, mean):
        """Means held off the boundary by the last digit: (K, d) -> (K, d)."""
        return np.maximum(mean, FLOOR * self.centre)

    def _coordinates(self):
        """The means without bounds: (K, d)."""
        return np.log(self.mean)

    def _mean_at(self, coordinates):
        return np.exp(coordinates)

    def known(self, X, weight, total):
        """The part of the log-likelihood that no parameter changes."""
        return float(total(lambda x, w: (w @ self.log_base(x),), (X, weight))[0])

    def sweep(self, offset=0.0, known=None):
        return LinearSweep(*self.natural(), offset, self.log_base, known)

    def log_prob(self, X):
        return self.sweep().block(X)[0]

    def stats(self, X, resp):
        return self.sweep(known=0.0).block(X)[1](resp)

    def m_step(self, stats):
        rows = stats.rows + self.pseudo
        mean = (stats.total + self.pseudo * self.centre) / positive(rows)
        return replace(self, mean=self._inside(np.where(rows > 0, mean, self.mean)))

    def log_prior(self):
        eta, A = self.natural()
        return self.pseudo * float((self.centre * eta - A).sum())

    def expectation(self):
        return self.mean

    def take(self, order):
        return replace(self, mean=self.mean[order])

    def marginal(self, columns):
        return replace(self, mean=self.mean[:, columns], centre=self.centre[columns])

    def pack(self, other):
        return (other._coordinates() - self._coordinates()).ravel()

    def unpack(self, vector):
        moved = self._coordinates() + vector.reshape(self.mean.shape)
        return replace(self, mean=self._inside(self._mean_at(moved)))

    @property
    def n_parameters(self):
        return self.mean.size


class LinearSweep(Sweep):
    """One product makes log-probabilities of a block, another makes statistics.

    What no parameter changes, log_base(rows), is left out where its total over all rows is known.
    """

    rows = 2048

    def __init__(self, eta, A, offset, log_base, known):
        self._eta, self._A, self._offset = eta, A, np.zeros(len(eta)) + offset
        self._whole = self._offset - A.sum(axis=1)
        self._log_base, self._known = log_base, known

    def block(self, X):
        gaps = np.isnan(X)
        if gaps.any():
            seen, x = (~gaps).astype(float), np.where(gaps, 0.0, X)
            joint = self._eta @ x.T
            joint -= self._A @ seen.T
            joint += self._offset[:, None]
        else:
            seen, x = None, X
            joint = self._eta @ x.T
            joint += self._whole[:, None]
        if self._known is None:
            joint += self._log_base(X)
        return joint.T, lambda resp: self._totals(resp.T, x, seen)

    @staticmethod
    def _totals(resp, x, seen):
        total = resp @ x
        if seen is not None:
            return Totals(resp @ seen, total)
        return Totals(np.repeat(resp.sum(axis=1)[:, None], x.shape[1], axis=1), total)

    def total(self, sums, log_likelihood):
        return sums, log_likelihood + (self._known or 0.0)
