"""How the first state of a state-space model is distributed: three values that answer alike."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_discrete_lyapunov
from scipy.optimize import minimize

from .numerics.linalg import from_log_cholesky, log_cholesky

UNSTABLE = -1e100  # what an unstable transition is worth
STEPS = {"maxiter": 50, "ftol": 1e-15, "gtol": 1e-8}


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

    def transition_step(self, structure, A, Q, stats):
        """A and Q by a structure's M-step: the first state says nothing of them."""
        return structure.transition_step(A, Q, stats)

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

    def transition_step(self, structure, A, Q, stats):
        return structure.transition_step(A, Q, stats)

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

    def transition_step(self, structure, A, Q, stats):
        """Climb the expected log density of first states and moves from A and Q."""
        return Moves(structure, A, Q, stats).best()


def stationary_covariance(A, Q):
    """P = A P A' + Q; LinAlgError where the spectral radius of A is not below 1."""
    if not np.abs(np.linalg.eigvals(A)).max() < 1:
        raise np.linalg.LinAlgError("the transition is not stable: no stationary first state")
    P = solve_discrete_lyapunov(A, Q)
    return (P + P.T) / 2


class Moves:
    """The expected log density of first states and moves, with the stationary P inside.

    Coordinates are A = A0 + D a B, with noise scales D and B that makes the moves' curvature one;
    the noise in log-Cholesky coordinates, or logarithms where it is diagonal.
    """

    def __init__(self, structure, A, Q, stats):
        self.A, self.Q, self.stats, self.free = A, Q, stats, structure.A_free
        self.full = structure.full
        self.noisy = np.diagonal(Q) > 0
        self.q_free = structure.Q_free
        self.scale = np.sqrt(np.where(self.noisy, np.diagonal(Q), 1.0))
        moment = np.diagonal(stats.earlier) + np.diagonal(stats.first)
        self.unit = np.outer(self.scale, 1 / np.sqrt(moment))  # of A's entries
        self.n_A = int(self.free.sum())
        self.root = np.linalg.cholesky(Q) if self.full else np.zeros((0, 0))
        self.start, self.n = np.zeros(self.n_A + self._n_noise), stats.n_first + stats.n_moves

    @property
    def _n_noise(self):
        q = len(self.A)
        return q * (q + 1) // 2 if self.full else int(self.q_free.sum())

    def best(self):
        """A and Q where a climb from the present ones ends, never lower."""
        if not len(self.start):
            return self.A, self.Q
        begin = self.start
        value = self._value_and_gradient(begin)[0]
        found = minimize(
            self._value_and_gradient, begin, jac=True, method="L-BFGS-B", options=STEPS
        )
        return self.at(found.x) if found.fun < value else (self.A, self.Q)

    def at(self, x):
        """A and Q of coordinates."""
        A, Q = self.A.copy(), self.Q.copy()
        A[self.free] += self.unit[self.free] * x[: self.n_A]
        if self.full:
            L = self.root @ self._lower(x[self.n_A :])
            Q = L @ L.T
        else:
            i = np.flatnonzero(self.q_free)
            Q[i, i] *= np.exp(x[self.n_A :])
        return A, Q

    def _lower(self, v):
        q = len(self.A)
        L = np.diag(np.exp(v[:q]))
        L[np.tril_indices(q, -1)] = v[q:]
        return L

    def _value_and_gradient(self, x):
        """Minus the expected log density per step, and its slope."""
        A, Q = self.at(x)
        try:
            value, by_A, by_Q = self._expected(A, Q)
        except np.linalg.LinAlgError:
            return -UNSTABLE, np.zeros(len(x))
        slope = np.empty(len(x))
        slope[: self.n_A] = (by_A * self.unit)[self.free]
        slope[self.n_A :] = self._noise_slope(x[self.n_A :], Q, by_Q)
        return -value / self.n, -slope / self.n

    def _noise_slope(self, v, Q, by_Q):
        if not self.full:
            return (np.diagonal(by_Q) * np.diagonal(Q))[self.q_free]
        q, L = len(Q), self._lower(v)
        by_L = 2 * self.root.T @ by_Q @ self.root @ L
        return np.concatenate([np.diagonal(by_L) * np.diagonal(L), by_L[np.tril_indices(q, -1)]])

    def _expected(self, A, Q):
        """Value, slope by A and by Q (symmetric)."""
        stats, some = self.stats, np.ix_(self.noisy, self.noisy)
        P = stationary_covariance(A, Q)
        value, by_P = _normal(P, stats.first, stats.n_first)
        moved, by_noise = _normal(Q[some], stats.disturbance(A)[some], stats.n_moves)
        pulled = solve_discrete_lyapunov(A.T, by_P)
        by_Q = pulled.copy()
        by_Q[some] += by_noise
        precision = np.zeros_like(Q)
        precision[some] = np.linalg.inv(Q[some])
        by_A = precision @ (stats.lag - A @ stats.earlier) + 2 * pulled @ A @ P
        return value + moved, by_A, by_Q


def _normal(V, S, n):
    """-(n log |V| + tr V^-1 S) / 2 and its slope by V."""
    inverse = np.linalg.inv(np.linalg.cholesky(V))
    precision = inverse.T @ inverse
    value = n * np.log(np.diagonal(inverse)).sum() - 0.5 * (precision * S).sum()
    return value, 0.5 * (precision @ S @ precision - n * precision)


FIRSTS = {"stationary": StationaryFirst, "diffuse": DiffuseFirst}
