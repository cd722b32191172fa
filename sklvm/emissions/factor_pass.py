"""The posterior over factors of K low-rank Gaussians, and the sums that EM needs of a block."""

from typing import NamedTuple

import numpy as np

from ..numerics.missing import pattern_groups
from .statistics import LatentMoments
from .sweep import LOG_2PI, Sweep


class Complete:
    """Rows that saw everything: one posterior covariance serves them all."""

    def __init__(self, X):
        self.shape = X.shape

    def residuals(self, X, mean):
        """x - mean: -> (n, d)."""
        return X - mean

    def mask(self, rest):
        """Zeros, in place, where nothing was seen."""

    def over_seen(self, values):
        """Sum of values (d, p) over what each pattern saw: -> (1, p)."""
        return values.sum(axis=0, keepdims=True)

    def over_features(self, sums):
        """Sums by pattern (1, p) as sums over the rows that saw each feature: all are equal."""
        return sums

    def of_rows(self, values):
        """A value of each pattern for each row: (1, ...) -> (n, ...), nothing copied."""
        return np.broadcast_to(values, (self.shape[0], *values.shape[1:]))

    def times(self, A, V):
        """Each row of A (n, q) times the matrix of its pattern, V (1, q, q)."""
        return A @ V[0]

    def sums(self, weight):
        """Weight by pattern: (n,) -> (1,)."""
        return weight.sum(keepdims=True)

    def outer_sums(self, A, B):
        """Sum of a b' by pattern: (n, a), (n, b) -> (1, a, b)."""
        return (A.T @ B)[None]


class Holed:
    """Rows with missing entries: those that saw the same share their algebra (u patterns)."""

    def __init__(self, gaps):
        self.gaps = gaps
        self.group = pattern_groups(gaps)  # (n,) the pattern of each row
        count = np.bincount(self.group)
        self.order = np.argsort(self.group, kind="stable")
        self.starts = np.cumsum(count) - count
        self.seen = (~gaps[self.order[self.starts]]).astype(float)  # (u, d)

    def residuals(self, X, mean):
        diff = X - mean
        diff[self.gaps] = 0.0
        return diff

    def mask(self, rest):
        rest[self.gaps] = 0.0

    def over_seen(self, values):
        return self.seen @ values

    def over_features(self, sums):
        return self.seen.T @ sums

    def of_rows(self, values):
        return values[self.group]

    def times(self, A, V):
        return np.matmul(A[:, None, :], V[self.group])[:, 0]

    def sums(self, weight):
        return np.add.reduceat(weight[self.order], self.starts)

    def outer_sums(self, A, B):
        products = A[self.order][:, :, None] * B[self.order][:, None, :]
        return np.add.reduceat(products, self.starts, axis=0)


def patterns_of(X):
    """Which entries the rows of a block saw: (n, d) -> Complete or Holed."""
    gaps = np.isnan(X)
    return Holed(gaps) if gaps.any() else Complete(X)


class Factors(NamedTuple):
    """p(z | x_seen) of one component, and what its evidence needs; V is one matrix per pattern."""

    mean: np.ndarray  # (n, q)
    V: np.ndarray  # (u, q, q) covariances
    log_det: np.ndarray  # (n,) log |S_oo|
    mahalanobis: np.ndarray  # (n,)

    @classmethod
    def of(cls, W, psi, diff, patterns, extra=0.0):
        """For diff = x - mean with zeros where nothing was seen: (d, q), (d,), (n, d).

        `extra` (u, q, q) is added to the precision of z.
        """
        d, q = W.shape
        A = W / psi[:, None]
        products = np.column_stack([(A[:, :, None] * W[:, None, :]).reshape(d, q * q), np.log(psi)])
        sums = patterns.over_seen(products)  # one product for all rows, never one row at a time
        precision = np.eye(q) + extra + sums[:, :-1].reshape(len(sums), q, q)
        V = np.linalg.inv(precision)
        V = (V + V.mT) / 2
        mean = patterns.times(diff @ A, V)
        rest = diff - mean @ W.T  # x - mu - W E[z]: no difference of large squares
        patterns.mask(rest)
        mahalanobis = np.square(rest, out=rest) @ (1 / psi) + (mean**2).sum(axis=1)
        log_det = patterns.of_rows(sums[:, -1] + np.linalg.slogdet(precision)[1])
        return cls(mean, V, log_det, mahalanobis)

    @classmethod
    def under(cls, W, spread, psi, diff, patterns):
        """q(z) under loadings with means W and covariances spread (d, q, q) of their rows.

        E[(x - w'z)^2] = (x - E[w]'z)^2 + z' Cov[w] z: the second term makes each factor smaller,
        and `log_det` and `mahalanobis` are those of a bound, E_q[log p(x_seen, z | W)] + H[q(z)].
        """
        d, q = W.shape
        scaled = (spread / psi[:, None, None]).reshape(d, q * q)
        extra = patterns.over_seen(scaled)
        extra = extra.reshape(len(extra), q, q)
        plain = cls.of(W, psi, diff, patterns, extra)
        pull = (patterns.times(plain.mean, extra) * plain.mean).sum(axis=1)
        return plain._replace(mahalanobis=plain.mahalanobis + pull)


class FactorBlock:
    """A block of rows whose factors all components have inferred: distances, then moments."""

    def __init__(self, X, means, patterns, factors):
        self.X, self.means = X, means
        self.patterns, self.factors = patterns, factors

    @classmethod
    def of(cls, W, psi, means, X):
        patterns = patterns_of(X)
        factors = [
            Factors.of(loadings, noise, patterns.residuals(X, mean), patterns)
            for loadings, noise, mean in zip(W, psi, means, strict=True)
        ]
        return cls(X, means, patterns, factors)

    @property
    def log_det(self):
        """(n, K) log |S_oo|"""
        return np.stack([factors.log_det for factors in self.factors], axis=1)

    @property
    def mahalanobis(self):
        """(n, K)"""
        return np.stack([factors.mahalanobis for factors in self.factors], axis=1)

    def moments(self, resp, scale=None):
        """E[moments of x and u = (z, 1) | x_seen]: resp (n, K), scale (n, K) of a Student-t."""
        pull = resp if scale is None else resp * scale
        parts = [self._moments(k, resp[:, k], pull[:, k]) for k in range(len(self.means))]
        count, uu, xu, xx, rows, latent = map(np.stack, zip(*parts, strict=True))
        return LatentMoments(count, uu, xu, xx, rows, latent, self.means)

    def _moments(self, k, weight, pull):
        patterns, (mean, V, *_) = self.patterns, self.factors[k]
        q = V.shape[-1]
        u = np.column_stack([mean, np.ones(len(mean))])
        pulled = pull[:, None] * u
        mass = patterns.sums(weight)
        uu = patterns.outer_sums(pulled, u)
        uu[:, :q, :q] += mass[:, None, None] * V
        diff = patterns.residuals(self.X, self.means[k])
        return (
            patterns.over_features(mass[:, None])[:, 0],
            patterns.over_features(uu.reshape(len(uu), -1)).reshape(-1, q + 1, q + 1),
            diff.T @ pulled,
            pull @ np.square(diff, out=diff),
            mass.sum(),
            uu.sum(axis=0),
        )


class FactorSweep(Sweep):
    """Factors inferred once in each block serve the log-probabilities and the statistics."""

    def __init__(self, cov, means, offset):
        self._cov, self._means, self._offset = cov, means, offset

    def block(self, X):
        block = self._cov.block(X, self._means)
        seen = (~np.isnan(X)).sum(axis=1, keepdims=True)
        log_prob = -0.5 * (seen * LOG_2PI + block.log_det + block.mahalanobis)
        return log_prob + self._offset, block.moments
