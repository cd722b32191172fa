"""How the noise of a step is distributed: three values that answer alike.

R is what each of them keeps, (d,) variances or a covariance (d, d). Coefficients theta (d, f) are
those of a step's f = q + m + 1 regressors: the state, the inputs and 1.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .emissions.gaussian import LOG_2PI
from .inference.blocks import blocks
from .numerics.linalg import from_log_cholesky, log_cholesky
from .state_space_slope import log_cholesky_slope, normal_value_and_slope
from .state_space_structure import floored, solved


class Explained(NamedTuple):
    """Steps, and what is expected of their states given all of each sequence."""

    X: np.ndarray  # (N, d) less what intercept and inputs explain; NaN where nothing was seen
    mean: np.ndarray  # (N, q) E[z]
    covariance: np.ndarray  # (N, q, q), or (0, q, q) where no one needs it
    known: np.ndarray  # (N, m + 1) inputs and 1
    weight: np.ndarray  # (N,)
    zz: np.ndarray  # (d, q, q) E[z z'] over the steps that saw feature j, weighted
    xz: np.ndarray  # (d, q) x_j E[z]' over them


@dataclass(frozen=True)
class DiagonalNoise:
    """A variance for each feature: R (d,)."""

    floor: np.ndarray  # (d,) smallest variances

    by_step = False  # whether its sums need the covariance of the state at each step
    logarithmic = True  # whether its coordinates are logarithms of variances

    @classmethod
    def of(cls, floor):
        """Whose variances are at least `floor` (d,)."""
        return cls(floor)

    def start(self, variance):
        """R of these variances (d,)."""
        return variance

    def marginal(self, columns):
        return type(self)(self.floor[columns])

    def of_columns(self, R, columns):
        """The R of some features."""
        return R[columns]

    def scales(self, R):
        """(d,) standard deviations."""
        return np.sqrt(R)

    def draw(self, R, n, rng):
        return np.sqrt(R) * rng.standard_normal((n, len(R)))

    def expected(self, R, residual):
        """E[noise] of missing entries given those of their step that were seen: (N, d)."""
        return np.zeros_like(residual)

    def log_density(self, R, residual, C, V):
        """E[log p(x | z)] of each step: residual (N, d) about E[z], V (N or 1, q, q) its Cov."""
        square = residual**2 + np.einsum("di,nij,dj->nd", C, V, C)
        seen = ~np.isnan(residual)
        return -0.5 * np.where(seen, LOG_2PI + np.log(R) + square / R, 0.0).sum(axis=1)

    # -- expectation-maximisation --------------------------------------------------------------

    def sums(self, R, theta, told):
        """design (d, f, f), product (d, f) and square (d,) of `StateSpaceStats`."""
        seen = ~np.isnan(told.X)
        X, seen = np.where(seen, told.X, 0.0), seen.astype(np.float64)
        known = told.weight[:, None] * told.known
        d, q, f = X.shape[1], told.mean.shape[1], told.mean.shape[1] + known.shape[1]
        design = np.empty((d, f, f))
        design[:, :q, :q] = told.zz
        for i, column in enumerate(known.T):
            across = seen.T @ (column[:, None] * told.mean)
            design[:, :q, q + i] = design[:, q + i, :q] = across
            design[:, q:, q + i] = seen.T @ (column[:, None] * told.known)
        square = (told.weight[:, None] * X**2).sum(axis=0)
        return design, np.column_stack([told.xz, X.T @ known]), square

    def counts(self, stats):
        """(d,) steps that saw each feature."""
        return stats.design[:, -1, -1]

    def squares(self, stats):
        """(d, f) sums of squares of the regressors."""
        return np.diagonal(stats.design, axis1=1, axis2=2)

    def regress(self, theta, entries, R, stats):
        """Coefficients whose free ones are least squares given the others."""
        if entries.shared:
            return _regressed_together(theta, entries, R, stats)
        theta, free = theta.copy(), entries.free
        for pattern in np.unique(free, axis=0):
            rows = (free == pattern).all(axis=1)
            theta[rows] = _regressed(theta[rows], pattern, stats.design[rows], stats.product[rows])
        return theta

    def m_step(self, theta, stats):
        return np.maximum(self._left(theta, stats) / self.counts(stats), self.floor)

    def _left(self, theta, stats):
        fitted = np.einsum("dij,dj->di", stats.design, theta)
        return stats.square + (theta * (fitted - 2 * stats.product)).sum(axis=1)

    def slopes(self, theta, R, stats):
        """Of the expected log density of what was seen, by theta and by R."""
        fitted = np.einsum("dij,dj->di", stats.design, theta)
        by_theta = (stats.product - fitted) / R[:, None]
        return by_theta, 0.5 * (self._left(theta, stats) / R - self.counts(stats)) / R

    # -- coordinates, in units x (d,) of the features --------------------------------------------

    def pack(self, R, x):
        return np.log(R / x**2)

    def unpack(self, vector, x):
        return np.maximum(np.exp(vector) * x**2, self.floor)

    def slope(self, by_R, R, x):
        return by_R * R

    def curvature(self, counts):
        return counts / 2

    def lowest(self, R, x):
        """Coordinates of the floor."""
        return np.log(self.floor / x**2)

    def n_parameters(self, d):
        return d


class IsotropicNoise(DiagonalNoise):
    """One variance for all features: R (d,), all alike."""

    @classmethod
    def of(cls, floor):
        return cls(np.full_like(floor, floor.mean()))

    def start(self, variance):
        return np.full_like(variance, variance.mean())

    def m_step(self, theta, stats):
        left = self._left(theta, stats).sum() / self.counts(stats).sum()
        return np.maximum(np.full(len(self.floor), left), self.floor)

    def pack(self, R, x):
        return super().pack(R, x)[:1]

    def unpack(self, vector, x):
        return super().unpack(np.repeat(vector, len(x)), x)

    def slope(self, by_R, R, x):
        return super().slope(by_R, R, x).sum(keepdims=True)

    def curvature(self, counts):
        return super().curvature(counts).sum(keepdims=True)

    def lowest(self, R, x):
        return super().lowest(R, x)[:1]

    def n_parameters(self, d):
        return 1


class FullNoise(DiagonalNoise):
    """Correlated noise: R (d, d). Missing entries are expected given those of their step."""

    by_step = True
    logarithmic = False

    def start(self, variance):
        return np.diag(variance)

    def of_columns(self, R, columns):
        return R[np.ix_(columns, columns)]

    def scales(self, R):
        return np.sqrt(np.diagonal(R))

    def draw(self, R, n, rng):
        return rng.standard_normal((n, len(R))) @ np.linalg.cholesky(R).T

    def expected(self, R, residual):
        found = np.empty_like(residual)
        for rows in blocks(len(residual)):
            seen = ~np.isnan(residual[rows])
            e = np.where(seen, residual[rows], 0.0)
            weights = np.linalg.solve(_seen_part(R, seen), e[..., None])[..., 0]
            found[rows] = weights @ R
        return found

    def log_density(self, R, residual, C, V):
        values = np.zeros(len(residual))
        V = np.broadcast_to(V, (len(residual), *V.shape[1:]))
        for rows in blocks(len(residual)):
            seen = ~np.isnan(residual[rows])
            e, S = np.where(seen, residual[rows], 0.0), _seen_part(R, seen)
            both = seen[:, :, None] & seen[:, None, :]
            moment = e[:, :, None] * e[:, None, :] + np.where(both, C @ V[rows] @ C.T, 0.0)
            square = (np.linalg.inv(S) * moment).sum(axis=(1, 2))
            log_det = np.linalg.slogdet(S)[1]
            values[rows] = -0.5 * (LOG_2PI * seen.sum(axis=1) + log_det + square)
        return values

    def sums(self, R, theta, told):
        """design (f, f), product (d, f) and square (d, d): of completed steps."""
        phi, w = np.hstack([told.mean, told.known]), told.weight[:, None]
        missing = np.isnan(told.X)
        if not missing.any():
            design, q = phi.T @ (w * phi), told.mean.shape[1]
            design[:q, :q] = told.zz[0]
            return design, told.X.T @ (w * phi), told.X.T @ (w * told.X)
        some = np.flatnonzero(~missing.all(axis=1))
        parts = [_completed(R, theta, told, phi, some[rows]) for rows in blocks(len(some))]
        return tuple(sum(part) for part in zip(*parts))

    def counts(self, stats):
        return np.full(len(stats.product), stats.design[-1, -1])

    def squares(self, stats):
        return np.broadcast_to(np.diagonal(stats.design), stats.product.shape)

    def regress(self, theta, entries, R, stats):
        """Generalised least squares over the free coefficients."""
        if entries.free.all() and not entries.shared:
            return solved(stats.design, stats.product.T).T
        theta, weight = np.where(entries.free, 0.0, theta), np.linalg.inv(R)
        gap = weight @ (stats.product - theta @ stats.design)
        system = entries.total_square(np.kron(weight, stats.design))
        return entries.put(theta, solved(system, entries.total(gap))) if entries.n else theta

    def m_step(self, theta, stats):
        S = self._left(theta, stats) / stats.design[-1, -1]
        return floored(S, np.diag(self.floor), 1.0)

    def _left(self, theta, stats):
        across = theta @ stats.product.T
        S = stats.square - across - across.T + theta @ stats.design @ theta.T
        return (S + S.T) / 2

    def slopes(self, theta, R, stats):
        by_theta = np.linalg.solve(R, stats.product - theta @ stats.design)
        return by_theta, normal_value_and_slope(R, self._left(theta, stats), stats.design[-1, -1])[
            1
        ]

    def pack(self, R, x):
        return log_cholesky((R / np.outer(x, x))[None])[0]

    def unpack(self, vector, x):
        return from_log_cholesky(vector[None], len(x))[0] * np.outer(x, x)

    def slope(self, by_R, R, x):
        square = np.outer(x, x)
        return log_cholesky_slope(by_R * square, R / square)

    def curvature(self, counts):
        below = counts[np.tril_indices(len(counts), -1)[0]]
        return np.concatenate([2 * counts, below])

    def lowest(self, R, x):
        """What a feature varies given those before it has the floor, too."""
        d = len(x)
        return np.concatenate([np.log(self.floor / x**2) / 2, np.full(d * (d - 1) // 2, -np.inf)])

    def n_parameters(self, d):
        return d * (d + 1) // 2


NOISES = {"diag": DiagonalNoise, "isotropic": IsotropicNoise, "full": FullNoise}


def _regressed(theta, free, design, product):
    """Rows of coefficients whose free ones are least squares given the others."""
    if not free.any():
        return theta
    theta = np.where(free, 0.0, theta)
    gap = product - np.einsum("dij,dj->di", design, theta)
    theta[:, free] = solved(design[:, free][:, :, free], gap[:, free, None])[..., 0]
    return theta


def _regressed_together(theta, entries, R, stats):
    """Least squares over all rows at once, whose free coefficients share parameters."""
    theta = np.where(entries.free, 0.0, theta)
    gap = (stats.product - np.einsum("dij,dj->di", stats.design, theta)) / R[:, None]
    system = np.zeros((entries.n, entries.n))
    for label, design, variance in zip(entries.label, stats.design, R):
        free = np.flatnonzero(label >= 0)
        np.add.at(system, np.ix_(label[free], label[free]), design[np.ix_(free, free)] / variance)
    return entries.put(theta, solved(system, entries.total(gap)))


def _seen_part(R, seen):
    """R with the rows and columns of the identity where nothing was seen: (n, d) -> (n, d, d)."""
    both = seen[:, :, None] & seen[:, None, :]
    return np.where(both, R, np.eye(len(R)))


def _completed(R, theta, told, phi, rows):
    """E[phi phi'], E[x phi'] and E[x x'] of some steps, pattern by pattern of what was seen.

    A missing entry is theta phi + R_ms R_ss^-1 (x_s - theta_s phi) and noise of its own.
    """
    seen, q = ~np.isnan(told.X[rows]), told.mean.shape[1]
    patterns, group = np.unique(seen, axis=0, return_inverse=True)
    order = np.argsort(group.ravel(), kind="stable")
    begins = np.searchsorted(group.ravel()[order], np.arange(len(patterns)))
    rows, seen = rows[order], seen[order]
    x, z, w = np.where(seen, told.X[rows], 0.0), phi[rows], told.weight[rows]

    def total(a, b):
        return np.add.reduceat((w[:, None] * a)[:, :, None] * b[:, None, :], begins)

    zz, xz, xx = total(z, z), total(x, z), total(x, x)
    zz[:, :q, :q] += np.add.reduceat(w[:, None, None] * told.covariance[rows], begins)
    both = patterns[:, :, None] & patterns[:, None, :]
    inverse = np.where(both, np.linalg.inv(_seen_part(R, patterns)), 0.0)
    gain = R @ inverse  # (U, d, d): zero columns where nothing was seen
    model = (np.eye(len(R)) - gain) @ theta  # (U, d, f)
    noise = np.add.reduceat(w, begins)[:, None, None] * (R - gain @ R)
    across = gain @ xz @ model.mT
    square = gain @ xx @ gain.mT + across + across.mT + model @ zz @ model.mT + noise
    return zz.sum(axis=0), (gain @ xz + model @ zz).sum(axis=0), square.sum(axis=0)
