"""How the first state of a state-space model is distributed: three values that answer alike."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .numerics.linalg import from_log_cholesky, log_cholesky
from .state_space_resolved import (
    HALVINGS,
    Resolved,
    observation_step,
    resolved,
    transition_step,
)
from .state_space_slope import (
    log_cholesky_slope,
    moves_value_and_slopes,
    normal_value_and_slope,
)
from .state_space_structure import floored, solved

LARGEST_RADIUS = 1 - 1e-10  # of a stable transition
DOUBLINGS = 50  # of a sum of powers: more than such a radius needs
ROUNDING = 1e-13  # relative fall that rounding may cause


@dataclass(frozen=True)
class FreeFirst:
    """z_1 ~ N(mean, P), both estimated."""

    mean: np.ndarray  # (q,)
    P: np.ndarray  # (q, q)

    name = "free"

    def moments(self, A, Q):
        """Mean, covariance and diffuse directions (or None)."""
        return self.mean, self.P, None

    def m_step(self, stats):
        mean = stats.first_mean / stats.n_first
        spread = stats.first - stats.n_first * np.outer(mean, mean)
        return FreeFirst(mean, (spread + spread.T) / (2 * stats.n_first))

    def transition_step(self, structure, F, Q, C, stats):
        """F = (A, B) and Q by a structure's M-step: the first state says nothing of them."""
        return structure.transition_step(F, Q, stats)

    def observation_step(self, structure, A, C, D, R, c, stats):
        """C, D, R and c by a structure's M-step."""
        return structure.observation_step(C, D, R, c, stats)

    def resolved(self, state, X, starts, counts):
        """What values that resolve the first state say of A and C, and the counts that are left."""
        return Resolved(), counts

    def slopes(self, F, Q, stats):
        """Of the expected log density of first states and moves: by F = (A, B) and by Q."""
        return moves_value_and_slopes(F, Q, stats)[1:]

    def slope(self, stats, scale):
        """By the coordinates of `pack`."""
        across = np.outer(stats.first_mean, self.mean)
        S = stats.first - across - across.T + stats.n_first * np.outer(self.mean, self.mean)
        _, by_P = normal_value_and_slope(self.P, S, stats.n_first)
        by_mean = np.linalg.solve(self.P, stats.first_mean - stats.n_first * self.mean)
        square = np.outer(scale, scale)
        return np.concatenate([by_mean * scale, log_cholesky_slope(by_P * square, self.P / square)])

    def curvature(self, stats, scale):
        """About how large second derivatives are, by coordinate."""
        q, n = len(scale), stats.n_first
        return n * np.concatenate(
            [scale**2 / np.diagonal(self.P), np.full(q, 2.0), np.ones(q * (q - 1) // 2)]
        )

    def turned(self, T):
        """Of the state T z."""
        return FreeFirst(T @ self.mean, T @ self.P @ T.T)

    def pack(self, scale):
        mean, P = self.mean / scale, self.P / np.outer(scale, scale)
        return np.concatenate([mean, log_cholesky(P[None])[0]])

    def unpack(self, vector, scale):
        mean, root = np.split(vector, [len(scale)])
        P = from_log_cholesky(root[None], len(scale))[0]
        return FreeFirst(mean * scale, P * np.outer(scale, scale))

    @property
    def n_parameters(self):
        q = len(self.mean)
        return q + q * (q + 1) // 2


@dataclass(frozen=True)
class KnownFirst(FreeFirst):
    """z_1 ~ N(mean, P), both given."""

    name = "known"
    n_parameters = 0

    def m_step(self, stats):
        return self

    def slope(self, stats, scale):
        return np.empty(0)

    def curvature(self, stats, scale):
        return np.empty(0)

    def turned(self, T):
        return KnownFirst(T @ self.mean, T @ self.P @ T.T)

    def pack(self, scale):
        return np.empty(0)

    def unpack(self, vector, scale):
        return self


@dataclass(frozen=True)
class DiffuseFirst:
    """z_1 may be anywhere: what resolves it is conditioned on."""

    name = "diffuse"
    n_parameters = 0

    def moments(self, A, Q):
        q = len(A)
        return np.zeros(q), np.zeros((q, q)), np.eye(q)

    def m_step(self, stats):
        return self

    def transition_step(self, structure, F, Q, C, stats):
        return transition_step(structure, F, Q, C, stats)

    def observation_step(self, structure, A, C, D, R, c, stats):
        return observation_step(structure, A, C, D, R, c, stats)

    def resolved(self, state, X, starts, counts):
        """Sequences of such values alone say nothing where A or C is free."""
        if not (state.structure.A.n or state.structure.C.n):
            return Resolved(), counts
        return resolved(state.A, state.C, X, starts, counts)

    def slopes(self, F, Q, stats):
        return moves_value_and_slopes(F, Q, stats)[1:]

    def slope(self, stats, scale):
        return np.empty(0)

    def curvature(self, stats, scale):
        return np.empty(0)

    def turned(self, T):
        return self

    def pack(self, scale):
        return np.empty(0)

    def unpack(self, vector, scale):
        return self


@dataclass(frozen=True)
class StationaryFirst(DiffuseFirst):
    """z_1 ~ N(0, P) with P = A P A' + Q: every state is distributed alike."""

    name = "stationary"

    def moments(self, A, Q):
        """Raises LinAlgError where the transition is not stable."""
        return np.zeros(len(A)), stationary_covariance(A, Q), None

    def resolved(self, state, X, starts, counts):
        return Resolved(), counts

    def transition_step(self, structure, F, Q, C, stats):
        """F = (A, B) and Q of no lower expected log density of first states and moves."""
        return Moves(structure, stats, np.diagonal(Q) > 0).step(F, Q)

    def slopes(self, F, Q, stats):
        return stationary_value_and_slopes(F, Q, stats)[1:]


def stationary_covariance(A, Q):
    """P = A P A' + Q; LinAlgError where the spectral radius of A is not below 1."""
    if not np.abs(np.linalg.eigvals(A)).max() < LARGEST_RADIUS:
        raise np.linalg.LinAlgError("the transition is not stable: no stationary first state")
    return summed_powers(A, Q)


def summed_powers(A, S):
    """The sum over i >= 0 of A^i S A'^i, which solves P = A P A' + S, by doubling (Smith 1968)."""
    P, M = (S + S.T) / 2, A
    for _ in range(DOUBLINGS):
        more = M @ P @ M.T
        P = P + more
        if np.abs(more).max() <= 1e-17 * np.abs(P).max():
            break
        M = M @ M
    return (P + P.T) / 2


class Moves:
    """The expected log density of first states and moves, with the stationary P inside.

    A step along its slope, shaped by the curvature of moves, replaces the maximum that has no
    closed form: the EM gradient algorithm (Lange 1995).
    """

    def __init__(self, structure, stats, noisy):
        self.structure, self.stats = structure, stats
        self.n, q = stats.n_first + stats.n_moves, len(noisy)
        self.moment = stats.earlier.copy()
        self.moment[:q, :q] += stats.first
        self.some = np.ix_(noisy, noisy)

    def step(self, F, Q):
        """F = (A, B) and Q with an expected log density that is no lower."""
        here = self.expected(F, Q)
        if self.structure.F.n:
            dF = self._towards_F(Q, here)
            F, here = self._climbed(here, lambda t: (F + t * dF, Q))
        if self.structure.full or self.structure.Q.n:
            dQ = (2 / self.n) * Q @ here.by_Q @ Q
            _, here = self._climbed(here, lambda t: (F, self._noise(Q + t * dQ, Q)))
        return here.F, here.Q

    def _noise(self, new, old):
        """Noise with the structure that the old one has."""
        if self.structure.full:
            return floored(new, self.moment[: len(new), : len(new)] / self.n)
        return self.structure.with_free(new, old)

    def _climbed(self, here, along):
        """Where the longest of ever shorter steps ends that does not lower the value."""
        for halving in range(HALVINGS):
            try:
                there = self.expected(*along(0.5**halving))
            except np.linalg.LinAlgError:
                continue
            if there.value >= here.value - ROUNDING * (self.n + abs(here.value)):
                return there.F, there
        return here.F, here

    def _towards_F(self, Q, here):
        entries = self.structure.F
        if entries.free.all() and not entries.shared:
            return Q @ solved(self.moment, here.by_F.T).T
        precision = np.zeros_like(Q)
        precision[self.some] = np.linalg.inv(Q[self.some])
        system = entries.total_square(np.kron(precision, self.moment))
        return entries.put(np.zeros_like(here.by_F), solved(system, entries.total(here.by_F)))

    def expected(self, F, Q):
        """The value and its slopes; LinAlgError where A is unstable or Q no covariance."""
        value, by_F, by_Q = stationary_value_and_slopes(F, Q, self.stats)
        return Expected(value, F, Q, by_F, by_Q)


class Expected(NamedTuple):
    """A value, where it was found, and its slopes there."""

    value: float
    F: np.ndarray
    Q: np.ndarray
    by_F: np.ndarray
    by_Q: np.ndarray


def stationary_value_and_slopes(F, Q, stats):
    """Expected log density of first states and moves, and its slopes by F = (A, B) and Q."""
    A = F[:, : len(Q)]
    P = stationary_covariance(A, Q)
    value, by_P = normal_value_and_slope(P, stats.first, stats.n_first)
    moved, by_F, by_Q = moves_value_and_slopes(F, Q, stats)
    pulled = summed_powers(A.T, by_P)
    by_F[:, : len(Q)] += 2 * pulled @ A @ P
    return value + moved, by_F, by_Q + pulled


FIRSTS = {"stationary": StationaryFirst, "diffuse": DiffuseFirst}
