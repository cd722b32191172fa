"""Which entries of a state-space model are free, and the M-steps over them."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import eigh

SMALLEST = 1e-10  # state noise as a share of the state's second moment, in any direction


class StateSpaceStats(NamedTuple):
    """Weighted sums of expectations given all of each sequence.

    y is (z, u): a state and the inputs of the step to which it moves. phi is (z, u, 1) of a step. x
    is less what intercept and inputs explain.
    """

    n_first: float  # sequences with a step
    n_moves: float  # steps but the first ones
    first_mean: np.ndarray  # (q,) E[z_1]
    first: np.ndarray  # (q, q) E[z_1 z_1']
    earlier: np.ndarray  # (q + m, q + m) E[y y'] with y = (z_t-1, u_t)
    later: np.ndarray  # (q, q) E[z_t z_t']
    lag: np.ndarray  # (q, q + m) E[z_t y']
    design: np.ndarray  # (d, f, f) E[phi phi'] over steps that saw feature j, or (f, f)
    product: np.ndarray  # (d, f) x_j E[phi] over them
    square: np.ndarray  # (d,) x_j^2, or (d, d)

    def disturbance(self, F):
        """Second moment of z_t - A z_t-1 - B u_t, summed, with F = (A, B): (q, q)."""
        across = F @ self.lag.T
        S = self.later - across - across.T + F @ self.earlier @ F.T
        return (S + S.T) / 2


@dataclass(frozen=True)
class Structure:
    """What is free: entries of matrices, the state noise as a whole or entries of its diagonal."""

    A_free: np.ndarray  # (q, q) bool
    B_free: np.ndarray  # (q, m) bool
    Q_free: np.ndarray  # (q,) bool: diagonal entries
    full: bool  # every entry of Q is free
    C_free: np.ndarray  # (d, q) bool
    D_free: np.ndarray  # (d, m) bool
    c_free: bool
    noise: Any  # of the observations
    unit: np.ndarray  # (m,) of the inputs
    unmoved: bool = True  # B is given, and zero

    @property
    def F_free(self):
        """(q, q + m) of A and B side by side."""
        return np.hstack([self.A_free, self.B_free])

    @property
    def unconstrained(self):
        """Whether another basis of the state tells the same density."""
        inputs = self.unmoved or bool(self.B_free.all())
        return self.full and inputs and bool(self.A_free.all() and self.C_free.all())

    @property
    def n_parameters(self):
        """Free parameters but those of the first state, less a basis where none is preferred."""
        d, q = self.C_free.shape
        noise = q * (q + 1) // 2 if self.full else int(self.Q_free.sum())
        entries = int(self.F_free.sum() + self.C_free.sum() + self.D_free.sum()) + noise
        gauge = q * q if self.unconstrained else 0
        return entries - gauge + self.noise.n_parameters(d) + d * self.c_free

    def marginal(self, columns):
        """The structure of some of the features."""
        some = {"C_free": self.C_free[columns], "D_free": self.D_free[columns]}
        return replace(self, **some, noise=self.noise.marginal(columns))

    def with_inputs(self, order):
        """The structure with the inputs in another order."""
        B_free, D_free = self.B_free[:, order], self.D_free[:, order]
        return replace(self, B_free=B_free, D_free=D_free, unit=self.unit[order])

    # -- M-steps -------------------------------------------------------------------------------

    def transition_step(self, F, Q, stats):
        """F = (A, B) and Q that maximise the expected log density of all moves."""
        if not stats.n_moves:
            return F, Q
        F = self._moved(F, Q, stats)
        return F, self._noise(Q, stats.disturbance(F) / stats.n_moves, stats)

    def _moved(self, F, Q, stats):
        """Generalised least squares over the free entries of A and B."""
        free = self.F_free
        if not free.any():
            return F
        if free.all():
            return solved(stats.earlier, stats.lag.T).T
        weight = np.linalg.inv(Q) if self.full else np.eye(len(F))  # rows that do not meet
        fixed = np.where(free, 0.0, F)
        gap = weight @ (stats.lag - fixed @ stats.earlier)
        system = np.kron(weight, stats.earlier)[np.ix_(free.ravel(), free.ravel())]
        moved = fixed.copy()
        moved[free] = solved(system, gap[free])
        return moved

    def _noise(self, Q, S, stats):
        if not self.full:
            diagonal = np.where(self.Q_free, np.diagonal(S), np.diagonal(Q))
            return np.where(np.eye(len(Q), dtype=bool), diagonal, Q)
        return floored(S, stats.later / stats.n_moves)

    def observation_step(self, C, D, R, c, stats):
        """C, D, R, c that maximise the expected log density of what was seen.

        What D and c explain is no part of x any more: their steps are small.
        """
        d, q = C.shape
        theta = np.column_stack([C, np.zeros_like(D), np.zeros(d)])
        free = np.column_stack([self.C_free, self.D_free, np.full(d, self.c_free)])
        theta = self.noise.regress(theta, free, R, stats)
        R = self.noise.m_step(theta, stats)
        return theta[:, :q], D + theta[:, q:-1], R, c + theta[:, -1]


def solved(S, b):
    """S^-1 b of second moments S (..., f, f), whatever the units of the f quantities."""
    size = np.sqrt(np.diagonal(S, axis1=-2, axis2=-1))
    size = np.where(size > 0, size, 1.0)
    scaled = S / (size[..., :, None] * size[..., None, :])
    if b.ndim < S.ndim:
        return np.linalg.solve(scaled, b / size) / size
    return np.linalg.solve(scaled, b / size[..., None]) / size[..., None]


def floored(S, moment, least=SMALLEST):
    """S with no direction below `least` of a second moment: both (q, q)."""
    share, V = eigh(S, moment)
    if share[0] >= least:
        return S
    dual = moment @ V
    return (dual * np.maximum(share, least)) @ dual.T
