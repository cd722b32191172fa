"""What rows tell of a mixture's parameters: the score of each row and the observed information.

Everything is in closed form, in unit-free coordinates about the fitted state: contrasts of the log
weights, shifts of the means in units of their component (`Covariance.colour`), the coordinates of
`Covariance.unpack`, and log degrees of freedom. With the score s_k and the Hessian H_k of component
k's log density of what is seen, Fisher's identity makes the score of a row s = sum_k r_k s_k, and
Louis (1982) its Hessian sum_k r_k (H_k + s_k s_k') - s s'.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ..emissions.radial import df_penalties, free_df, radial
from .blocks import blocks

STEP = 1e-3  # of first differences of matrices, of fourth order ...
LONG_STEP = 1e-2  # ... and of second differences


class Information(NamedTuple):
    """Derivatives of log-likelihood plus log-prior at the state, in p coordinates."""

    hessian: np.ndarray  # (p, p) the observed information: minus the second derivative
    outer: np.ndarray  # (p, p) sum over rows of w s s', s the score of a row without the prior
    gradient: np.ndarray  # (p,) zero at a maximum
    coordinates: "Coordinates"


@dataclass(frozen=True)
class Coordinates:
    """How parameters move with the coordinates, to first order. In order: weights, means, matrices
    and degrees of freedom."""

    weights: np.ndarray  # (K, K - 1) of log weights
    means: np.ndarray  # (K, d, d)
    matrices: np.ndarray  # (K, d, d, c)
    compact: np.ndarray  # (..., c) of the matrices' compact form
    df: np.ndarray  # (f,) components whose degrees of freedom are free

    @classmethod
    def of(cls, state):
        emission, cov = state.emission, state.emission.cov
        K, d = emission.means.shape
        means = np.stack([cov.colour(np.tile(unit, (K, 1))) for unit in np.eye(d)], axis=2)
        contrasts = np.linalg.qr(np.eye(K) - 1 / K)[0][:, : K - 1]
        mean = state.weights.mean @ contrasts
        return cls(contrasts - mean, means, *_moves(cov), free_df(emission))

    @property
    def ends(self):
        """Where weights, means, matrices and degrees of freedom end."""
        K, d = self.means.shape[:2]
        return np.cumsum([K - 1, K * d, self.matrices.shape[-1], len(self.df)])

    def moving(self, k):
        """Which of the matrix coordinates move matrix k."""
        return np.flatnonzero(self.matrices[k].any(axis=(0, 1)))

    def of_mean(self, k):
        d = self.means.shape[1]
        return self.ends[0] + k * d + np.arange(d)

    def of_df(self, k):
        return self.ends[2] + np.flatnonzero(self.df == k)


def _moves(cov):
    """Derivatives of dense (K, d, d) and compact matrices along each coordinate, in a last axis."""
    units = STEP * np.eye(len(cov.pack(cov)))
    values = [
        [(value.dense(), value.compact) for value in map(cov.unpack, (u, -u, 2 * u, -2 * u))]
        for u in units
    ]
    dense, compact = (
        np.stack([_slope(*(value[i] for value in four)) for four in values], axis=-1)
        for i in range(2)
    )
    return dense, compact


def _slope(ahead, back, far, far_back):
    return (8 * (ahead - back) - (far - far_back)) / (12 * STEP)


def _curvature(cov, slopes):
    """Second derivative of sum_k tr(slope_k S_k) in the coordinates of `cov.unpack`: (c, c).

    Structures whose sums keep their structure are their own coordinates: they have none.
    """
    c = len(cov.pack(cov))
    if cov.linear:
        return np.zeros((c, c))

    def value(vector):
        return float((slopes * cov.unpack(vector).dense()).sum())

    at_zero = value(np.zeros(c))

    def second(u):
        near, far = (value(m * u) + value(-m * u) for m in (LONG_STEP, 2 * LONG_STEP))
        return (16 * near - far - 30 * at_zero) / (12 * LONG_STEP**2)

    units = np.eye(c)
    own = np.array([second(u) for u in units])
    curve = np.diag(own)
    for i, j in zip(*np.triu_indices(c, 1)):
        curve[i, j] = curve[j, i] = (second(units[i] + units[j]) - own[i] - own[j]) / 2
    return curve


@dataclass(frozen=True)
class _Component:
    """What a component's log density of o features is made of, and how it moves."""

    k: int
    columns: np.ndarray  # (m,) the coordinates it depends on: weights, mean, c of the matrix, df
    weights: np.ndarray  # (K - 1,)
    mean: np.ndarray  # (o,)
    S: np.ndarray  # (o, o)
    P: np.ndarray  # (o, o) its inverse
    B: np.ndarray  # (o, d) d mean
    J: np.ndarray  # (o, o, c) d S
    free: int  # 1 where the degrees of freedom are coordinates, else 0

    @classmethod
    def of(cls, state, where, k):
        S, moving = state.emission.cov.dense()[k], where.moving(k)
        own = [where.of_mean(k), where.ends[1] + moving, where.of_df(k)]
        return cls(
            k,
            np.concatenate([np.arange(where.ends[0]), *own]),
            where.weights[k],
            state.emission.means[k],
            S,
            np.linalg.inv(S),
            where.means[k],
            where.matrices[k][..., moving],
            len(own[2]),
        )

    def seen(self, columns):
        """The same of some features."""
        square = np.ix_(columns, columns)
        S, J = self.S[square], self.J[square]
        P = np.linalg.inv(S)
        return replace(self, mean=self.mean[columns], S=S, P=P, B=self.B[columns], J=J)

    def sandwiched(self, M):
        """tr(M J_i P J_j), symmetric in i and j: -> (c, c)."""
        flat = self.J.reshape(len(self.P) ** 2, -1)
        product = np.einsum("ab,bci,cd->adi", M, self.J, self.P, optimize=True)
        both = product.reshape(len(flat), -1).T @ flat
        return (both + both.T) / 2

    def derivatives(self, X, emission, weight):
        """Scores of rows (n, o), their weighted sum of Hessians, and that of d log p / d S.

        -> (n, m), (m, m), (o, o)
        """
        diff = X - self.mean
        y = diff @ self.P
        h = radial(emission, self.k, (y * diff).sum(axis=1), X.shape[1])
        squares = (y[:, :, None] * y[:, None, :]).reshape(len(y), -1) @ self._flat
        dD = np.hstack([-2 * y @ self.B, -squares])  # of the distance: (n, d + c)
        log_det = np.concatenate([np.zeros(self.B.shape[1]), self.P.ravel() @ self._flat])
        of_df = np.repeat(h.l[:, None], self.free, axis=1)
        of_weights = np.tile(self.weights, (len(X), 1))
        score = np.hstack([of_weights, h.D[:, None] * dD - log_det / 2, of_df])
        pull = weight * h.D
        M = (y * pull[:, None]).T @ y
        slope = -weight.sum() * self.P / 2 - M
        return score, self._hessian(dD, h, weight, pull @ y, pull.sum(), M), slope

    @property
    def _flat(self):
        return self.J.reshape(len(self.P) ** 2, -1)

    def _hessian(self, dD, h, weight, y, pull, M):
        """sum of w d2 log p: with D'' from sums over rows, and h'' D' D'' from each of them."""
        d, c, first = self.B.shape[1], self.J.shape[2], len(self.weights)
        H = np.zeros((len(self.columns), len(self.columns)))
        mean, matrix = slice(first, first + d), slice(first + d, first + d + c)
        H[mean, mean] = 2 * pull * self.B.T @ self.P @ self.B
        H[matrix, mean] = 2 * np.einsum("a,abi,bd->id", y, self.J, self.P @ self.B, optimize=True)
        H[mean, matrix] = H[matrix, mean].T
        H[matrix, matrix] = self.sandwiched(weight.sum() * self.P / 2 + 2 * M)
        both = slice(first, first + d + c)
        H[both, both] += (dD * (weight * h.DD)[:, None]).T @ dD
        if self.free:
            H[both, -1] = H[-1, both] = (weight * h.Dl) @ dD
            H[-1, -1] = weight @ h.ll
        return H


class _Sums:
    """Sums over blocks of rows of one pattern of missing entries, and the prior."""

    def __init__(self, state, where):
        self.state, p = state, int(where.ends[-1])
        self.hessian, self.outer, self.gradient = np.zeros((p, p)), np.zeros((p, p)), np.zeros(p)
        self.slopes = np.zeros_like(state.emission.cov.dense())

    def add(self, components, columns, X, weight):
        """Rows (n, d) in which `columns` are seen."""
        resp, square = self.state.responsibilities(X), np.ix_(columns, columns)
        score = np.zeros((len(X), len(self.gradient)))
        for k, part in enumerate(components):
            mass = weight * resp[:, k]
            s, H, slope = part.derivatives(X[:, columns], self.state.emission, mass)
            self.hessian[np.ix_(part.columns, part.columns)] += H + (s * mass[:, None]).T @ s
            self.slopes[k][square] += slope
            score[:, part.columns] += resp[:, [k]] * s
        outer = (score * weight[:, None]).T @ score
        self.hessian -= outer
        self.outer += outer
        self.gradient += weight @ score

    def add_df_prior(self, columns):
        """The exponential prior of the degrees of freedom, in their logarithms."""
        pull = df_penalties(self.state.emission)
        self.gradient[columns] -= pull
        self.hessian[columns, columns] -= np.diag(pull)

    def add_prior(self, part, share):
        """The penalty is that of `count` rows with the scatter `scale` about the mean."""
        penalty, first = self.state.emission.cov.penalty, len(part.weights) + part.B.shape[1]
        scale = np.diag(penalty.scale) if np.ndim(penalty.scale) == 1 else penalty.scale
        M = -share / 2 * part.P @ scale @ part.P
        slope = -share * penalty.count / 2 * part.P - M
        which = part.columns[first : first + part.J.shape[2]]
        self.gradient[which] += slope.ravel() @ part._flat
        bend = part.sandwiched(share * penalty.count * part.P / 2 + 2 * M)
        self.hessian[np.ix_(which, which)] += bend
        self.slopes[part.k] += slope


def information(state, X, weight):
    """What rows (n, d) with counts (n,) tell of the parameters of a mixture: -> Information.

    The components are Gaussians or Student-t distributions of any covariance structure.
    """
    where = Coordinates.of(state)
    K, cov = len(state.weights.mean), state.emission.cov
    components = [_Component.of(state, where, k) for k in range(K)]
    total = _Sums(state, where)
    patterns, group = np.unique(~np.isnan(X), axis=0, return_inverse=True)
    for which, pattern in enumerate(patterns):
        rows, columns = np.flatnonzero(group.ravel() == which), np.flatnonzero(pattern)
        parts = [part.seen(columns) for part in components]
        for block in blocks(len(rows)):
            total.add(parts, columns, X[rows[block]], weight[rows[block]])
    for part in components:
        total.add_prior(part, cov.structure.n_matrices(K) / K)
    total.add_df_prior(slice(*where.ends[2:4]))
    odds, matrices = slice(0, where.ends[0]), slice(*where.ends[1:3])
    C = where.weights
    total.hessian[odds, odds] -= weight.sum() * (C * state.weights.mean[:, None]).T @ C
    total.hessian[matrices, matrices] += _curvature(cov, total.slopes)
    return Information(-total.hessian, total.outer, total.gradient, where)
