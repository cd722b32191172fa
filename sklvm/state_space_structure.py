"""Which entries of a state-space model are free, and the M-steps over them."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import eigh

from .state_space_entries import Entries, beside
from .state_space_resolved import Resolved

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
    resolved: Resolved = Resolved()  # what diffuse first states took

    def disturbance(self, F):
        """Second moment of z_t - A z_t-1 - B u_t, summed, with F = (A, B): (q, q)."""
        across = F @ self.lag.T
        S = self.later - across - across.T + F @ self.earlier @ F.T
        return (S + S.T) / 2


@dataclass(frozen=True)
class Structure:
    """What is free: entries of matrices, the state noise as a whole or entries of its diagonal."""

    A: Entries  # (q, q)
    B: Entries  # (q, m)
    Q: Entries  # (q,) diagonal entries
    full: bool  # every entry of Q is free
    C: Entries  # (d, q)
    D: Entries  # (d, m)
    c_free: bool
    noise: Any  # of the observations
    unit: np.ndarray  # (m,) of the inputs
    unmoved: bool = True  # B is given, and zero

    @property
    def F(self):
        """(q, q + m) of A and B side by side."""
        return beside(self.A, self.B)

    @property
    def shared(self):
        """Whether any parameter is several entries of A, B, C or D."""
        return any(part.shared for part in (self.A, self.B, self.C, self.D))

    @property
    def unconstrained(self):
        """Whether another basis of the state tells the same density."""
        free = self.full and not self.shared and self.A.free.all() and self.C.free.all()
        return bool(free and (self.unmoved or self.B.free.all()))

    @property
    def n_parameters(self):
        """Free parameters but those of the first state, less a basis where none is preferred."""
        d, q = self.C.label.shape
        noise = q * (q + 1) // 2 if self.full else self.Q.n
        entries = self.A.n + self.B.n + self.C.n + self.D.n + noise
        gauge = q * q if self.unconstrained else 0
        return entries - gauge + self.noise.n_parameters(d) + d * self.c_free

    def marginal(self, columns):
        """The structure of some of the features."""
        C, D = self.C.part(columns), self.D.part(columns)
        return replace(self, C=C, D=D, noise=self.noise.marginal(columns))

    def with_inputs(self, order):
        """The structure with the inputs in another order."""
        B, D = (part.part((slice(None), order)) for part in (self.B, self.D))
        return replace(self, B=B, D=D, unit=self.unit[order])

    # -- M-steps -------------------------------------------------------------------------------

    def transition_step(self, F, Q, stats):
        """F = (A, B) and Q that maximise the expected log density of all moves."""
        if not stats.n_moves:
            return F, Q
        F = self.moved(F, Q, stats)
        return F, self.noise_step(F, Q, stats)

    def moved(self, F, Q, stats):
        """Generalised least squares over the free entries of A and B."""
        entries = self.F
        free = entries.free
        if not free.any():
            return F
        if free.all() and not entries.shared:
            return solved(stats.earlier, stats.lag.T).T
        weight = self._precision(Q)
        fixed = np.where(free, 0.0, F)
        gap = weight @ (stats.lag - fixed @ stats.earlier)
        system = entries.total_square(np.kron(weight, stats.earlier))
        return entries.put(fixed, solved(system, entries.total(gap)))

    def _precision(self, Q):
        """Q^-1 as far as rows of A and B meet in it; states without noise have no free entries."""
        if self.full:
            return np.linalg.inv(Q)
        if not self.F.shared:
            return np.eye(len(Q))
        noisy = np.diagonal(Q) > 0
        precision = np.zeros_like(Q)
        precision[np.ix_(noisy, noisy)] = np.linalg.inv(Q[np.ix_(noisy, noisy)])
        return precision

    def noise_step(self, F, Q, stats):
        """Q that maximises the expected log density of all moves."""
        if not stats.n_moves:
            return Q
        S = stats.disturbance(F) / stats.n_moves
        return floored(S, stats.later / stats.n_moves) if self.full else self.with_free(S, Q)

    def with_free(self, S, Q):
        """Q with the free entries of its diagonal from S."""
        diagonal = np.where(self.Q.free, np.diagonal(S), np.diagonal(Q))
        return np.where(np.eye(len(Q), dtype=bool), self.Q.mean(diagonal), Q)

    def observation_step(self, C, D, R, c, stats):
        """C, D, R, c that maximise the expected log density of what was seen."""
        theta = self.regressed(self.coefficients(C, D), R, stats)
        return self.observed(theta, D, R, c, stats)

    def coefficients(self, C, D):
        """(d, f): what D and c explain is no part of x any more, so their steps are small."""
        return np.column_stack([C, np.zeros_like(D), np.zeros(len(C))])

    def regressed(self, theta, R, stats):
        """Coefficients that maximise the expected log density of what was seen."""
        c = Entries.where(np.full((len(theta), 1), self.c_free))
        return self.noise.regress(theta, beside(self.C, self.D, c), R, stats)

    def observed(self, theta, D, R, c, stats):
        """C, D, R, c by coefficients."""
        R, q = self.noise.m_step(theta, stats), self.C.label.shape[1]
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
