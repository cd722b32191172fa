"""Which entries of a state-space model are free, and the M-steps over them."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh

SMALLEST = 1e-10  # state noise as a share of the state's second moment, in any direction


class StateSpaceStats(NamedTuple):
    """Weighted sums of expectations given all of each sequence; x is about the intercept."""

    n_first: float  # sequences with a step
    n_moves: float  # steps but the first ones
    first_mean: np.ndarray  # (q,) E[z_1]
    first: np.ndarray  # (q, q) E[z_1 z_1']
    earlier: np.ndarray  # (q, q) E[z_t-1 z_t-1']
    later: np.ndarray  # (q, q) E[z_t z_t']
    lag: np.ndarray  # (q, q) E[z_t z_t-1']
    design: np.ndarray  # (d, q + 1, q + 1) E[(z, 1) (z, 1)'] over steps that saw feature j
    product: np.ndarray  # (d, q + 1) x_j E[(z, 1)] over them
    square: np.ndarray  # (d,) x_j^2

    def disturbance(self, A):
        """Second moment of z_t - A z_t-1, summed: (q, q)."""
        across = A @ self.lag.T
        S = self.later - across - across.T + A @ self.earlier @ A.T
        return (S + S.T) / 2


@dataclass(frozen=True)
class Structure:
    """What is free: entries of A and C, the state noise as a whole or entries of its diagonal."""

    A_free: np.ndarray  # (q, q) bool
    Q_free: np.ndarray  # (q,) bool: diagonal entries
    full: bool  # every entry of Q is free
    C_free: np.ndarray  # (d, q) bool
    c_free: bool
    isotropic: bool  # one variance for all features
    floor: np.ndarray  # (d,) of the variances of the observation noise

    @property
    def unconstrained(self):
        """Whether another basis of the state tells the same density."""
        return self.full and bool(self.A_free.all() and self.C_free.all())

    @property
    def n_parameters(self):
        """Free parameters but those of the first state, less a basis where none is preferred."""
        d, q = self.C_free.shape
        noise = q * (q + 1) // 2 if self.full else int(self.Q_free.sum())
        entries = int(self.A_free.sum() + self.C_free.sum()) + noise
        gauge = q * q if self.unconstrained else 0
        return entries - gauge + (1 if self.isotropic else d) + d * self.c_free

    def marginal(self, columns):
        """The structure of some of the features."""
        return Structure(
            self.A_free,
            self.Q_free,
            self.full,
            self.C_free[columns],
            self.c_free,
            self.isotropic,
            self.floor[columns],
        )

    # -- M-steps -------------------------------------------------------------------------------

    def transition_step(self, A, Q, stats):
        """A and Q that maximise the expected log density of all moves: (q, q), (q, q)."""
        if not stats.n_moves:
            return A, Q
        A = self._moved(A, Q, stats)
        return A, self._noise(Q, stats.disturbance(A) / stats.n_moves, stats)

    def _moved(self, A, Q, stats):
        """Generalised least squares over the free entries of A."""
        free = self.A_free
        if not free.any():
            return A
        if free.all():
            return np.linalg.solve(stats.earlier, stats.lag.T).T
        weight = np.linalg.inv(Q) if self.full else np.eye(len(A))  # rows that do not meet
        fixed = np.where(free, 0.0, A)
        gap = weight @ (stats.lag - fixed @ stats.earlier)
        system = np.kron(weight, stats.earlier)[np.ix_(free.ravel(), free.ravel())]
        moved = fixed.copy()
        moved[free] = np.linalg.solve(system, gap[free])
        return moved

    def _noise(self, Q, S, stats):
        if not self.full:
            diagonal = np.where(self.Q_free, np.diagonal(S), np.diagonal(Q))
            return np.where(np.eye(len(Q), dtype=bool), diagonal, Q)
        return floored(S, stats.later / stats.n_moves)

    def observation_step(self, C, R, c, stats):
        """C, R, c that maximise the expected log density of what was seen: (d, q), (d,), (d,)."""
        d = len(C)
        theta = np.column_stack([C, np.zeros(d)])
        free = np.column_stack([self.C_free, np.full(d, self.c_free)])
        for pattern in np.unique(free, axis=0):
            rows = (free == pattern).all(axis=1)
            theta[rows] = _regressed(theta[rows], pattern, stats.design[rows], stats.product[rows])
        fitted = np.einsum("dij,dj->di", stats.design, theta)
        left = stats.square + (theta * (fitted - 2 * stats.product)).sum(axis=1)
        count = stats.design[:, -1, -1]
        if self.isotropic:
            left, count = np.full(d, left.sum()), np.full(d, count.sum())
        return theta[:, :-1], np.maximum(left / count, self.floor), c + theta[:, -1]


def _regressed(theta, free, design, product):
    """Rows of coefficients whose free ones are least squares given the others."""
    if not free.any():
        return theta
    theta = np.where(free, 0.0, theta)
    gap = product - np.einsum("dij,dj->di", design, theta)
    system = design[:, free][:, :, free]
    theta[:, free] = np.linalg.solve(system, gap[:, free, None])[..., 0]
    return theta


def floored(S, moment):
    """S with no direction below SMALLEST of a second moment: both (q, q)."""
    share, V = eigh(S, moment)
    if share[0] >= SMALLEST:
        return S
    dual = moment @ V
    return (dual * np.maximum(share, SMALLEST)) @ dual.T
