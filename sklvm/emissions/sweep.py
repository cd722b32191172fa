"""One pass over blocks of rows at fixed parameters: what the blocks share is worked out once.

A Gaussian log density is linear in the features (1, x, x x') of a row, and so are the moments that
EM needs, so both halves of a pass are one matrix product each (a block's features serve both).
Far from a common origin, in units of a component's own spread, such expanded squares lose their
digits; the parameters alone decide whether a sweep may expand.
"""

from functools import cache, partial
from typing import NamedTuple

import numpy as np

from ..numerics.linalg import lowest
from .statistics import DenseMoments, DiagonalMoments, PooledMoments

EXPANDABLE = 1e5  # squared distance, in units of a component's spread, that costs five digits
WIDEST = 32  # features: beyond, whitening takes fewer operations than quadratic features
MOST_ROWS = 2048  # in a block
SMALL = 1e6  # multiplications in a product that BLAS still takes in one piece, without packing
LOG_2PI = np.log(2 * np.pi)


class Sweep:
    """The plain pass: log-probabilities from one question, statistics from another."""

    rows = 1024  # in a block

    def __init__(self, log_prob, stats, offset=0.0):
        self._log_prob, self._stats, self._offset = log_prob, stats, offset

    def block(self, X):
        """log p(x_seen | z = k) + offset_k, and what makes statistics of responsibilities.

        -> (n, K), function of resp (n, K).
        """
        return self._log_prob(X) + self._offset, partial(self._stats, X)

    def total(self, sums, log_likelihood):
        """The statistics and the log-likelihood of all blocks, from the sums over blocks."""
        return sums, log_likelihood

    def sums_of(self, moments):
        """Moments in the form in which this sweep adds them up."""
        return moments


def common_origin(means, variances, precisions):
    """A point about which squares keep their digits, or None: (K, d), (K, d), (K, d) -> (d,).

    `variances` and `precisions` are the diagonals of the matrices and of their inverses.
    """
    origin = means.sum(axis=0) / len(means)
    return origin if keeps_digits(means - origin, precisions, variances.max(axis=0)) else None


def keeps_digits(shift, precisions, squares):
    """Whether squares of means and rows about an origin keep their digits.

    shift (K, d) means from there, squares (d,) those of rows.
    """
    reach = (shift * shift).max(axis=0) + squares
    return (precisions @ reach).max() <= EXPANDABLE


def pays_to_expand(K, d):
    """Whether d^2 / 2 features, shared by K components, cost less than K whitenings."""
    return d <= WIDEST and d < 4 * K


class KnownFeatures(NamedTuple):
    """The quadratic features of rows that fit in one block: no pass over them makes them again."""

    origin: np.ndarray  # (d,)
    largest: np.ndarray  # (1 + d + d (d + 1) / 2,) absolute value of each feature
    F: np.ndarray  # (1 + d + d (d + 1) / 2, n)

    @classmethod
    def of(cls, X, K):
        """None for rows of more than one block, for wide ones, and where entries miss."""
        n, d = X.shape
        size = 1 + d + d * (d + 1) // 2
        if d > WIDEST or n > _block_rows(K * size) or np.isnan(X).any():
            return None
        origin = X.sum(axis=0) / n
        F = quadratic_features(X, origin)
        return cls(origin, np.abs(F).max(axis=1), F)


def known_origin(means, precisions, known):
    """Whether the total moment serves these parameters: its origin near, its rows complete."""
    if known is None or not np.isfinite(known.second).all():
        return False
    squares = np.diag(known.second) / known.mass
    return keeps_digits(means - known.origin, precisions[None], squares)


@cache
def _block_rows(size):
    return int(min(MOST_ROWS, max(192, SMALL // size)))


class Offsets(NamedTuple):
    """What is added to each component: finite numbers for the product, -inf after it."""

    finite: np.ndarray  # (K,) 0 where the offset is -inf, which a product would turn into NaN
    impossible: "np.ndarray | None"  # (K,) bool, None where every component is possible

    @classmethod
    def of(cls, offset):
        if lowest(offset) > -np.inf:
            return cls(offset, None)
        impossible = np.isneginf(offset)
        return cls(np.where(impossible, 0.0, offset), impossible)

    def apply(self, joint):
        """(K, n) -> the (n, K) view of it."""
        if self.impossible is not None:
            joint[self.impossible] = -np.inf
        return joint.T


def _sums(F, resp):
    """Sums of features (P, n) weighted by resp (n, K): (P, K)."""
    return F @ resp


def _where_seen(moments, means):
    """The moments about the means where something has no weight, so that it keeps its mean."""
    return moments if lowest(moments.count) > 0 else moments.about(means)


@cache
def _pairs(d):
    """The upper triangle row by row in a flat matrix, its factors, and where (i, j) is in it."""
    i, j = np.triu_indices(d)
    position = np.empty((d, d), int)
    position[i, j] = position[j, i] = np.arange(len(i))
    return i * d + j, np.where(i == j, -0.5, -1.0), position


def quadratic_features(X, origin):
    """1, x, x_i x_j (i <= j) about the origin: (n, d) -> (1 + d + d (d + 1) / 2, n)."""
    n, d = X.shape
    F = np.empty((1 + d + d * (d + 1) // 2, n))
    F[0] = 1.0
    x = np.subtract(X.T, origin[:, None], out=F[1 : d + 1])
    end = d + 1
    for i in range(d):
        start, end = end, end + d - i
        np.multiply(x[i], x[i:], out=F[start:end])
    return F


class QuadraticSweep(Sweep):
    """Unrestricted matrices: features 1, x, x_i x_j (i <= j)."""

    def __init__(self, means, P, log_det, origin, offset, F=None):
        d = means.shape[1]
        upper, factor, _ = _pairs(d)
        self._means, m = means, means - origin
        theta = np.empty((len(m), 1 + d + len(upper)))
        pull = theta[:, 1 : d + 1]
        np.matmul(P, m[:, :, None], out=pull[:, :, None])
        height = offset - 0.5 * (np.vecdot(pull, m) + (log_det + d * LOG_2PI))
        self._offsets = Offsets.of(height)
        theta[:, 0] = self._offsets.finite
        np.multiply(P.reshape(-1, d * d).take(upper, axis=1), factor, out=theta[:, d + 1 :])
        self._theta = theta
        self._origin, self._d, self._F = origin, d, F
        self.rows = _block_rows(theta.size)

    def keeps_digits(self, largest):
        """Whether no sum has large terms: `largest` (P,) bounds the features of the rows."""
        return lowest(EXPANDABLE - np.abs(self._theta) @ largest) >= 0

    def block(self, X):
        if self._F is not None:
            return self._offsets.apply(self._theta @ self._F), partial(_sums, self._F)
        F = quadratic_features(X, self._origin)
        joint = self._offsets.apply(self._theta @ F)
        return joint, lambda resp: _sums(F, np.ascontiguousarray(resp))  # pays for many features

    def total(self, sums, log_likelihood):
        d = self._d
        count, second = sums[0], sums[d + 1 :].T.take(_pairs(d)[2], axis=1)
        moments = DenseMoments(count, count, sums[1 : d + 1].T, second, self._origin[None])
        return _where_seen(moments, self._means), log_likelihood

    def sums_of(self, moments):
        moments = moments.about(self._origin[None])
        second = moments.second.reshape(len(moments.count), -1)[:, _pairs(self._d)[0]]
        return np.concatenate([moments.count[None], moments.first.T, second.T])


class SquaresSweep(Sweep):
    """Diagonal matrices: features 1, x, x^2 of each column, with a mask where entries miss."""

    def __init__(self, means, v, origin, offset, surplus=0.0):
        """surplus (K, d) is added for each entry that is seen."""
        self._origin, self._d = origin, means.shape[1]
        self._means, m = means, means - origin
        self._offsets = Offsets.of(np.zeros(len(means)) + offset)
        self._v, self._pull = v, m / v
        self._constant = surplus - 0.5 * (LOG_2PI + np.log(v) + self._pull * m)
        whole = (self._offsets.finite + self._constant.sum(axis=1))[:, None]
        self._complete = np.concatenate([whole, self._pull, self._curvature(v)], axis=1)
        self.rows = _block_rows(self._complete.size)

    def block(self, X):
        gaps = np.isnan(X)
        if gaps.any():
            F = self._masked_features(X, gaps)
            return self._offsets.apply(self._masked() @ F), lambda resp: _sums(F[1:], resp)
        F = self._features(X)
        return self._offsets.apply(self._complete @ F), lambda resp: self._spread(_sums(F, resp))

    @staticmethod
    def _curvature(v):
        """What the squared features of complete rows are multiplied by: (K, d) -> (K, s)."""
        return -0.5 / v

    def _masked(self):
        """What the features of rows with gaps are multiplied by: (K, 1 + 3 d)."""
        offset = self._offsets.finite[:, None]
        return np.concatenate([offset, self._constant, self._pull, -0.5 / self._v], axis=1)

    def _features(self, X):
        """1, x and squared features of complete rows: (n, d) -> (1 + d + s, n)."""
        F = np.empty((self._complete.shape[1], len(X)))
        F[0] = 1.0
        x = np.subtract(X.T, self._origin[:, None], out=F[1 : self._d + 1])
        self._square(x, F[self._d + 1 :])
        return F

    @staticmethod
    def _square(x, out):
        np.multiply(x, x, out=out)

    def _masked_features(self, X, gaps):
        d = self._d
        F = np.empty((1 + 3 * d, len(X)))
        F[0] = 1.0
        F[1 : d + 1] = ~gaps.T
        x = F[d + 1 : 2 * d + 1]
        x[...] = np.where(gaps, 0.0, X - self._origin).T
        np.multiply(x, x, out=F[2 * d + 1 :])
        return F

    def _spread(self, sums):
        """Every feature was seen as often as any: (1 + 2d, K) -> (3d, K)."""
        return np.concatenate([np.repeat(sums[:1], self._d, axis=0), sums[1:]])

    def total(self, sums, log_likelihood):
        d = self._d
        count, first, second = sums[:d].T, sums[d : 2 * d].T, sums[2 * d :].T
        moments = DiagonalMoments(count, count, first, second, self._origin[None])
        return _where_seen(moments, self._means), log_likelihood


class BallsSweep(SquaresSweep):
    """One variance for all features: complete rows need their squared length only.

    Second moments are spread evenly over the features: what a ball asks of them is their sum.
    """

    @staticmethod
    def _curvature(v):
        return -0.5 / v[:, :1]

    @staticmethod
    def _square(x, out):
        np.einsum("dn,dn->n", x, x, out=out[0])

    def _spread(self, sums):
        count, first, second = np.split(sums, [1, self._d + 1])
        parts = np.repeat(count, self._d, axis=0), first, np.repeat(second / self._d, self._d, 0)
        return np.concatenate(parts)


class TiedSweep(Sweep):
    """One matrix: its quadratic term is the same for all components, so only totals need it.

    `known` holds the second moments of all rows, which no parameter changes: a pass costs O(n d K).
    """

    rows = MOST_ROWS

    def __init__(self, means, P, log_det, known, offset):
        d = means.shape[1]
        self._means, m = means, means - known.origin
        self._pull = m @ P
        self._constant = offset - 0.5 * (d * LOG_2PI + log_det + (self._pull * m).sum(axis=1))
        self._known, self._moved = known, known.origin.any()
        self._shared = -0.5 * float((P * known.second).sum())

    def block(self, X):
        x = X - self._known.origin if self._moved else X
        joint = self._pull @ x.T
        joint += self._constant[:, None]
        return joint.T, lambda resp: self._sums(resp.T, x)

    @staticmethod
    def _sums(resp, x):
        return np.concatenate([resp.sum(axis=1)[:, None], resp @ x], axis=1)

    def total(self, sums, log_likelihood):
        count, first = sums[:, 0], sums[:, 1:]
        origin = self._known.origin[None]
        moments = PooledMoments(count, count, first, self._known.second, origin)
        return _where_seen(moments, self._means), log_likelihood + self._shared
