"""What rows tell of factors: the information about loadings, uniquenesses and correlations.

Turning the factors changes no density, so the information is singular along the turns. What fixes
them, a canonical form or the stationarity of a rotation's criterion, is a set of constraints
h = 0, and the covariance is Z (Z' I Z)^-1 Z' with Z a basis of the null space of dh (Silvey 1959;
Jennrich 1974). That is the upper left block of the inverse of the information bordered by dh.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import qr

from ..numerics.manifolds import Oblique
from ..numerics.rotation import stationarity
from ..numerics.rotation_criteria import Turning
from .blocks import blocks
from .information import Information

STEP = 1e-20  # of complex steps, which have no rounding error (Squire & Trapp 1998)
INDEPENDENT = 1e-8  # share of a constraint's gradient that no other constraint explains, at least


@dataclass(frozen=True)
class FactorPoint:
    """Parameters of factor analysis, and the coordinates about them.

    In order: the means (d), the loadings row by row (d q), the log uniquenesses (d) and, where they
    are free, the correlations of factors above the diagonal (q (q - 1) / 2). Columns of variance
    near one make all of them comparable.
    """

    L: np.ndarray  # (d, q) pattern loadings
    Phi: np.ndarray  # (q, q) correlations of the factors
    psi: np.ndarray  # (d,)
    rotation: "Turning | None" = None  # None: L' Psi^-1 L is diagonal
    then: "Callable | None" = None  # what makes the shown loadings and correlations of these

    @cached_property
    def pairs(self):
        """Rows and columns of the factor correlations that are coordinates."""
        oblique = self.rotation is not None and self.rotation.manifold is Oblique
        return np.triu_indices(len(self.Phi) if oblique else 0, 1)

    @cached_property
    def ends(self):
        """Where means, loadings, uniquenesses and correlations end."""
        d, q = self.L.shape
        return np.cumsum([d, d * q, d, len(self.pairs[0])])

    @property
    def covariance(self):
        return self.L @ self.Phi @ self.L.T + np.diag(self.psi)

    def moved(self, step):
        """Loadings, correlations and uniquenesses at coordinates (p,), real or complex."""
        _, loadings, log_psi, correlations = np.split(step, self.ends[:-1])
        Phi = self.Phi + np.zeros_like(step, shape=self.Phi.shape)
        Phi[self.pairs] += correlations
        Phi.T[self.pairs] = Phi[self.pairs]
        return self.L + loadings.reshape(self.L.shape), Phi, self.psi * np.exp(log_psi)

    def jacobian(self, function):
        """Derivatives of function(L, Phi, psi) -> (k,) by the complex step: (k, p)."""
        steps = 1j * STEP * np.eye(self.ends[-1])[self.ends[0] :]
        moves = np.array([function(*self.moved(step)).imag / STEP for step in steps])
        return np.pad(moves.T, ((0, 0), (self.ends[0], 0)))

    def constraints(self, L, Phi, psi):
        """What vanishes because the factors are the ones that they are: (m,)."""
        if self.rotation is None:
            inner = (L / psi[:, None]).T @ L
            return inner[np.triu_indices(len(inner), 1)]
        return stationarity(standardised(L, Phi, psi)[0], Phi, self.rotation)

    def shown(self, L, Phi, psi):
        """Loadings of columns of variance one, correlations of factors, variances of columns."""
        loadings, variance = standardised(L, Phi, psi)
        return *((loadings, Phi) if self.then is None else self.then(loadings)), variance

    @cached_property
    def gradients(self):
        """H, the derivatives of the constraints: (m, p)."""
        return self.jacobian(self.constraints)

    def free_directions(self):
        """Z, an orthonormal basis of the moves that keep the constraints: (p, p - m).

        NaN where the constraints do not fix the factors, as where two columns of loadings weigh the
        same in the canonical form.
        """
        H = self.gradients
        size = np.linalg.norm(H, axis=1, keepdims=True)
        Q, R, _ = qr((H / np.where(size > 0, size, 1.0)).T, pivoting=True)
        m = len(H)
        fixed = (np.abs(np.diag(R)) > INDEPENDENT).all() and (size > 0).all()
        return Q[:, m:] if fixed else np.full_like(Q[:, m:], np.nan)


def standardised(L, Phi, psi):
    """Loadings of columns of variance one, and variances: (d, q), (d,)."""
    variance = ((L @ Phi) * L).sum(axis=1) + psi
    return L / np.sqrt(variance)[:, None], variance


@dataclass(frozen=True)
class _Directions:
    """Moves of the covariance: dSigma_i = scale_i (b_u b_v' + b_v b_u'), u = first_i, v = second_i.

    All of them are made of few vectors b, the columns of `base`: units, the structure L Phi, L.
    """

    base: np.ndarray  # (d, d + 2 q)
    first: np.ndarray  # (c,)
    second: np.ndarray  # (c,)
    scale: np.ndarray  # (c,)

    @classmethod
    def of(cls, point):
        d, q = point.L.shape
        base = np.hstack([np.eye(d), point.L @ point.Phi, point.L])
        units, structure, loadings = np.split(np.arange(d + 2 * q), [d, d + q])
        r, s = point.pairs
        return cls(
            base,
            np.concatenate([np.repeat(units, q), units, loadings[r]]),
            np.concatenate([np.tile(structure, d), units, loadings[s]]),
            np.concatenate([np.ones(d * q), point.psi / 2, np.ones(len(r))]),
        )

    def squares(self, A, P):
        """tr(A dSigma_i P dSigma_j) of symmetric matrices (d, d): -> (c, c)."""
        A, P = (self.base.T @ M @ self.base for M in (A, P))
        u, v = self.first, self.second
        crossed = A[np.ix_(u, v)] * P[np.ix_(v, u)]
        total = A[np.ix_(u, u)] * P[np.ix_(v, v)] + A[np.ix_(v, v)] * P[np.ix_(u, u)]
        return np.outer(self.scale, self.scale) * (total + crossed + crossed.T)

    def traces(self, G):
        """tr(G dSigma_i): -> (c,)."""
        G = self.base.T @ G @ self.base
        return 2 * self.scale * G[self.first, self.second]

    def products(self, Y):
        """y' dSigma_i y of rows: (n, d) -> (n, c)."""
        Y = Y @ self.base
        return 2 * self.scale * Y[:, self.first] * Y[:, self.second]

    def moved(self, P, m):
        """P dSigma_i m: (d, d), (d,) -> (d, c)."""
        P, m = P @ self.base, m @ self.base
        return self.scale * (P[:, self.first] * m[self.second] + P[:, self.second] * m[self.first])


def _curvature(point, G):
    """tr(G d2Sigma_ij) of a symmetric matrix (d, d), less the first-order part: -> (c, c)."""
    (d, q), (r, s) = point.L.shape, point.pairs
    loadings, psi, GL = slice(0, d * q), np.arange(d * q, d * q + d), G @ point.L
    curve = np.zeros((d * q + d + len(r),) * 2)
    curve[loadings, loadings] = 2 * np.kron(G, point.Phi)
    curve[psi, psi] = np.diag(G) * point.psi
    for k in range(len(r)):
        both = np.zeros((d, q))
        both[:, r[k]], both[:, s[k]] = 2 * GL[:, s[k]], 2 * GL[:, r[k]]
        curve[loadings, d * q + d + k] = curve[d * q + d + k, loadings] = both.ravel()
    return curve


def _joined(P, cross, squares):
    """Blocks of means and of the others."""
    return np.block([[P, cross], [cross.T, squares]])


def expected_information(point, n):
    """Fisher's information of n complete rows, n/2 tr(P dSigma_i P dSigma_j): -> (p, p).

    (Lawley & Maxwell 1971, 5.)
    """
    P, moves = np.linalg.inv(point.covariance), _Directions.of(point)
    squares = n / 2 * moves.squares(P, P)
    return _joined(n * P, np.zeros((len(P), len(squares))), squares)


def gradient_of_moments(point, S, n):
    """Derivatives of the log-likelihood of n complete rows with covariance S: -> (p,)."""
    P, moves = np.linalg.inv(point.covariance), _Directions.of(point)
    return np.concatenate([np.zeros(len(P)), n / 2 * moves.traces(P @ S @ P - P)])


def hessian_of_moments(point, S, n):
    """Minus the second derivatives of the same: -> (p, p)."""
    P, moves = np.linalg.inv(point.covariance), _Directions.of(point)
    M = P @ S @ P
    squares = n / 2 * (moves.squares(2 * M - P, P) - _curvature(point, M - P))
    return _joined(n * P, np.zeros((len(P), len(squares))), squares)


def _patterns(point, mean, X):
    """Per pattern of missing entries: P (d, d), zeros where missing, and rows y = P (x - mean)."""
    covariance = point.covariance
    patterns, group = np.unique(~np.isnan(X), axis=0, return_inverse=True)
    for which, seen in enumerate(patterns):
        rows, square = np.flatnonzero(group.ravel() == which), np.ix_(seen, seen)
        P = np.zeros_like(covariance)
        P[square] = np.linalg.inv(covariance[square])
        yield P, rows, np.where(seen, X[rows] - mean, 0.0) @ P


def observed_information(point, mean, X, weight):
    """Minus the second derivative of the log-likelihood of rows with NaN, and its gradient.

    (n, d) -> (p, p), (p,).
    """
    moves, d = _Directions.of(point), len(mean)
    hessian, slope, pull = 0.0, np.zeros((d, d)), np.zeros(d)
    for P, rows, Y in _patterns(point, mean, X):
        w = weight[rows]
        M, m = (Y * w[:, None]).T @ Y, w @ Y
        squares = moves.squares(M - w.sum() / 2 * P, P)
        hessian = hessian + _joined(w.sum() * P, moves.moved(P, m), squares)
        slope += (M - w.sum() * P) / 2
        pull += m
    hessian[d:, d:] -= _curvature(point, slope)
    return hessian, np.concatenate([pull, moves.traces(slope)])


def outer_product(point, mean, X, weight):
    """Sum of w s s' with s the scores of rows with NaN: (n, d) -> (p, p)."""
    moves, total = _Directions.of(point), 0.0
    for P, rows, Y in _patterns(point, mean, X):
        for block in blocks(len(rows)):
            y = Y[block]
            scores = np.hstack([y, (moves.products(y) - moves.traces(P)) / 2])
            total = total + (scores * weight[rows[block], None]).T @ scores
    return total


def add_penalty(point, scale, hessian, gradient):
    """The same with -(1/2) sum_j scale_j / psi_j in the log-likelihood: scale is (d,)."""
    psi, pull = slice(*point.ends[1:3]), scale / point.psi / 2
    hessian, gradient = hessian.copy(), gradient.copy()
    hessian[psi, psi] += np.diag(pull)
    gradient[psi] += pull
    return hessian, gradient


def along(Z, hessian, outer, gradient):
    """Information about the free directions (p, f)."""
    return Information(Z.T @ hessian @ Z, Z.T @ outer @ Z, Z.T @ gradient, None)


def invertible(A):
    """Whether a positive semidefinite matrix (f, f) has an inverse, by its pivots."""
    size = np.sqrt(np.maximum(np.diag(A), 0.0))
    if not (np.isfinite(A).all() and (size > 0).all()):
        return False
    try:
        pivots = np.diag(np.linalg.cholesky(A / np.outer(size, size))) ** 2
    except np.linalg.LinAlgError:
        return False
    return bool((pivots > 100 * len(A) * np.finfo(float).eps).all())
