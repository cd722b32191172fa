"""Full and tied covariance matrices: whitening by Cholesky, missing entries by regression."""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from ..numerics.linalg import from_log_cholesky, log_cholesky, log_det, whiten_rows, whiteners
from ..numerics.missing import NEGLIGIBLE, Matrices, conditional_covariance, fill, find_holes
from .covariance import Covariance, checked_shape
from .statistics import DenseMoments, PooledMoments, TotalMoment, positive
from .sweep import (
    LOG_2PI,
    KnownFeatures,
    QuadraticSweep,
    Sweep,
    TiedSweep,
    common_origin,
    keeps_digits,
    known_origin,
    pays_to_expand,
)

ROOM = 2**20  # numbers that the filled rows of a block may take


class HoledSweep(Sweep):
    """Complete rows by one sweep; rows with holes by what is expected of the holes."""

    def __init__(self, complete, cov, means, offset):
        self._complete, self._cov, self._means = complete, cov, means
        self._offset = np.reshape(offset, (-1, 1))
        self.rows = min(complete.rows, max(64, ROOM // means.size))

    def block(self, X):
        gaps = np.isnan(X)
        if not gaps.any():
            return self._complete.block(X)
        holed = gaps.any(axis=1)
        joint, stats_of_holed = self._filled(X[holed])
        if holed.all():
            return joint, stats_of_holed
        whole = np.empty((len(self._means), len(X)))
        complete, stats_of_complete = self._complete.block(X[~holed])
        whole[:, holed], whole[:, ~holed] = joint.T, complete.T
        return whole.T, lambda resp: stats_of_complete(resp[~holed]) + stats_of_holed(resp[holed])

    def _filled(self, X):
        """The block of rows that all have holes."""
        cov, means, holes = self._cov, self._means, find_holes(X)
        diffs = np.subtract(X[None], means[:, None, :], order="C")
        log_det = fill(diffs, holes, cov.matrices)
        joint = -0.5 * ((~np.isnan(X)).sum(axis=1) * LOG_2PI + log_det) + self._offset
        for k, diff in enumerate(diffs):
            white = whiten_rows(diff.copy(), cov.A[k])
            joint[k] -= 0.5 * np.vecdot(white, white)

        def stats(resp):
            parts = [_moments(diff, resp[:, k]) for k, diff in enumerate(diffs)]
            moments = cov.dense_moments(means, resp.sum(axis=0), None, parts)
            return self._complete.sums_of(cov.with_uncertainty(moments, holes, resp))

        return joint.T, stats

    def total(self, sums, log_likelihood):
        return self._complete.total(sums, log_likelihood)


def _moments(diff, weight):
    """First and second weighted moment; diff is overwritten: (n, d), (n,) -> (d,), (d, d)."""
    first = weight @ diff
    diff *= np.sqrt(weight)[:, None]
    return first, diff.T @ diff


def _weighty(weight):
    """The rows whose share of the sum is above its rounding error, if that spares the others."""
    rows = np.flatnonzero(weight > NEGLIGIBLE * weight.max(initial=0.0))
    return rows if 2 * len(rows) < len(weight) else slice(None)


class _kept:
    """`functools.cached_property` without the lock that it takes before Python 3.12."""

    def __init__(self, function):
        self.function, self.name = function, function.__name__

    def __get__(self, instance, owner=None):
        value = instance.__dict__[self.name] = self.function(instance)
        return value


@dataclass(frozen=True)
class Full(Covariance):
    """An unrestricted matrix for each component."""

    feature_axes = 2
    S: np.ndarray  # (K, d, d)
    A: np.ndarray  # (K, d, d) lower triangular, A S A' = I
    penalty: Any  # Penalty, scale (d, d)

    def __getstate__(self):
        return {field.name: getattr(self, field.name) for field in fields(self)}  # no caches

    @staticmethod
    def prior_count(d, K):
        return d / 2

    @classmethod
    def of(cls, S, penalty):
        """From matrices; raises LinAlgError when one is not positive definite: (K, d, d)."""
        return cls(S, whiteners(S), penalty)

    @classmethod
    def broad(cls, S, K, penalty):
        return cls.of(np.tile(S, (K, 1, 1)), penalty)

    def narrowed(self, variances):
        """Precisions plus those of a diagonal matrix: (S_k^-1 + diag(1 / variances))^-1."""
        L = np.linalg.cholesky(self.S)
        B = L / np.sqrt(variances)[:, None]
        M = np.linalg.cholesky(np.eye(len(variances)) + B.mT @ B)
        H = np.linalg.solve(M, L.mT)  # L (I + B'B)^-1 L' = H'H
        return type(self).of(H.mT @ H, self.penalty)

    def log_det_and_mahalanobis(self, X, means):
        holes = find_holes(X)
        maha = np.empty((len(means), len(X)))
        log_dets = np.tile(self.log_det[:, None], len(X))
        for k, mean in enumerate(means):
            diff = np.subtract(X, mean, order="C")  # one layout, one compiled kernel
            if holes:
                log_dets[k] = fill(diff[None], holes, self._matrices(k))[0]
            white = whiten_rows(diff, self.A[k])  # filling in leaves the distance as it is
            np.vecdot(white, white, out=maha[k])
        return log_dets.T, maha.T

    def known(self, means, X, weight, total):
        return KnownFeatures.of(X, len(means))

    def sweep(self, means, offset, known=None):
        if known is not None:
            sweep = QuadraticSweep(means, self.P, self.log_det, known.origin, offset, known.F)
            if sweep.keeps_digits(known.largest):
                return sweep
        origin = None
        if pays_to_expand(*means.shape):
            variances, precisions = (M.diagonal(axis1=1, axis2=2) for M in (self.S, self.P))
            origin = common_origin(means, variances, precisions)
        if origin is None:
            complete = super().sweep(means, offset)
        else:
            complete = QuadraticSweep(means, self.P, self.log_det, origin, offset)
        return HoledSweep(complete, self, means, offset)

    @property
    def matrices(self):
        """The matrices and their inverses, for conditioning on what was seen."""
        return Matrices(self.S, self.P, self.log_det)

    def _matrices(self, k):
        return Matrices(self.S[k : k + 1], self.P[k : k + 1], self.log_det[k : k + 1])

    @_kept
    def log_det(self):
        """(K,) log |S_k|"""
        return log_det(self.A)

    @_kept
    def P(self):
        """(K, d, d) inverses"""
        return self.A.mT @ self.A

    def moments(self, X, means, resp, scale=None):
        pull = resp if scale is None else resp * scale
        holes = find_holes(X)
        parts = []
        for k, mean in enumerate(means):
            rows = _weighty(pull[:, k]) if holes is None else slice(None)
            diff = np.subtract(X[rows], mean, order="C")
            if holes:
                fill(diff[None], holes, self._matrices(k))
            parts.append(_moments(diff, pull[rows, k]))
        mass = None if scale is None else pull.sum(axis=0)
        moments = self.dense_moments(means, resp.sum(axis=0), mass, parts)
        return moments if holes is None else self.with_uncertainty(moments, holes, resp)

    def dense_moments(self, means, count, mass, parts):
        """Statistics from the first and second moment of each component about its mean."""
        first, second = map(np.array, zip(*parts, strict=True))
        return DenseMoments(count, count if mass is None else mass, first, second, means)

    def with_uncertainty(self, moments, holes, resp):
        """The statistics with the conditional covariance of what is missing added to them."""
        spread = conditional_covariance(holes, self.matrices, resp)
        return replace(moments, second=moments.second + spread)

    def m_step(self, moments):
        shift, scatter = moments.centred()
        count = moments.count + self.penalty.count
        divisor = positive(count)
        S = (scatter + self.penalty.scale) / divisor[:, None, None]
        if divisor is not count:  # a component without rows stays what it is
            S = np.where((count > 0)[:, None, None], S, self.S)
        return moments.origin + shift, self.of(S, self.penalty)

    def _of(self, S):
        return self.of((S + S.mT) / 2, self.penalty)

    def complete(self, X, means):
        diff, holes = np.subtract(X[None], means[:, None, :], order="C"), find_holes(X)
        if holes:
            fill(diff, holes, self.matrices)
        filled = (diff + means[:, None, :]).swapaxes(0, 1)
        return np.where(np.isnan(X)[:, None, :], filled, X[:, None, :])

    def noise(self, z, rng):
        L = np.linalg.cholesky(self.S)
        eps = rng.standard_normal((len(z), self.S.shape[-1]))
        for k in np.unique(z):
            eps[z == k] = eps[z == k] @ L[k].T
        return eps

    def dense(self):
        return self.S

    @property
    def compact(self):
        return self.S

    @property
    def precision_roots(self):
        """Upper triangular U with U U' = precision, in scikit-learn's shape."""
        return self.A.mT

    @staticmethod
    def invert(compact):
        try:
            return np.linalg.inv(compact)
        except np.linalg.LinAlgError:
            raise ValueError("matrices must be square and invertible") from None

    @classmethod
    def expand(cls, compact, K, d, penalty):
        return cls._checked(checked_shape(compact, (K, d, d)), penalty)

    @classmethod
    def _checked(cls, S, penalty):
        if not np.allclose(S, S.mT, rtol=1e-7, atol=1e-12 * np.abs(S).max(initial=0.0)):
            raise ValueError("covariance matrices must be symmetric")
        try:
            return cls.of((S + S.mT) / 2, penalty)
        except np.linalg.LinAlgError:
            raise ValueError("covariance matrices must be positive definite") from None

    def precisions(self):
        return self.P

    def log_prior(self):
        trace = np.vdot(self.P.sum(axis=0), self.penalty.scale)
        return -0.5 * float(self.penalty.count * self.log_det.sum() + trace)

    def marginal(self, columns):
        S = self.S[:, columns[:, None], columns]
        return type(self).of(S, self.penalty.marginal(columns))

    def conditional(self, seen, missing):
        cross = self.S[:, missing[:, None], seen]
        A = whiteners(self.S[:, seen[:, None], seen])
        half = cross @ A.mT
        left = self.S[:, missing[:, None], missing] - half @ half.mT
        penalty = self.penalty.marginal(missing)
        return half @ A, type(self).of((left + left.mT) / 2, penalty)

    def scaled(self, factor):
        factor = factor[:, None, None]
        return Full(self.S * factor, self.A / np.sqrt(factor), self.penalty)

    def take(self, order):
        return replace(self, S=self.S[order], A=self.A[order])

    @property
    def n_parameters(self):
        K, d, _ = self.S.shape
        return K * d * (d + 1) // 2

    def whiten(self, V):
        return np.einsum("kij,kj->ki", self.A, V)

    def colour(self, V):
        return np.einsum("kij,kj->ki", np.linalg.cholesky(self.S), V)

    def pack(self, other):
        return log_cholesky(self.A @ other.S @ self.A.mT).ravel()

    def unpack(self, vector):
        K, d, _ = self.S.shape
        L = np.linalg.cholesky(self.S)
        return self._of(L @ from_log_cholesky(vector.reshape(K, -1), d) @ L.mT)


@dataclass(frozen=True)
class Tied(Full):
    """One matrix that all components share; the arrays repeat it without copying."""

    @staticmethod
    def n_matrices(K):
        return 1

    @classmethod
    def of(cls, S, penalty):
        one = S[:1]
        return cls(np.broadcast_to(one, S.shape), np.broadcast_to(whiteners(one), S.shape), penalty)

    @_kept
    def P(self):
        return np.broadcast_to(self.A[0].T @ self.A[0], self.A.shape)

    def known(self, means, X, weight, total):
        origin = self._origin(means)
        if origin is None:
            return None

        def second_moment(X, weight):
            x = X - origin
            return (TotalMoment(weight.sum(), (x * weight[:, None]).T @ x, origin),)

        (known,) = total(second_moment, (X, weight))
        return known

    def _origin(self, means):
        variances, precisions = (np.diag(M[0])[None] for M in (self.S, self.P))
        zero = np.zeros_like(means[0])  # an origin that costs nothing
        near = keeps_digits(means, precisions, variances[0])
        return zero if near else common_origin(means, variances, precisions)

    def sweep(self, means, offset, known=None):
        if known_origin(means, np.diag(self.P[0]), known):
            return TiedSweep(means, self.P[0], self.log_det[:1], known, offset)
        return HoledSweep(Covariance.sweep(self, means, offset), self, means, offset)

    @property
    def matrices(self):
        return self._matrices(0)

    def dense_moments(self, means, count, mass, parts):
        m = super().dense_moments(means, count, mass, parts)
        return PooledMoments(m.count, m.mass, m.first, m.second.sum(axis=0), m.origin)

    def with_uncertainty(self, moments, holes, resp):
        (spread,) = conditional_covariance(holes, self.matrices, resp)
        return replace(moments, second=moments.second + spread)

    @property
    def compact(self):
        return self.S[0]

    @property
    def precision_roots(self):
        return self.A[0].T

    @classmethod
    def expand(cls, compact, K, d, penalty):
        return cls._checked(np.broadcast_to(checked_shape(compact, (d, d)), (K, d, d)), penalty)

    def m_step(self, moments):
        shift, scatter = moments.centred()
        count = moments.count.sum() + self.penalty.count
        S = (scatter + self.penalty.scale) / positive(count)
        return moments.origin + shift, self._of(np.broadcast_to(S, self.S.shape))

    def log_prior(self):
        trace = np.vdot(self.P[0], self.penalty.scale)
        return -0.5 * float(self.penalty.count * self.log_det[0] + trace)

    @property
    def n_parameters(self):
        return super().n_parameters // len(self.S)

    def pack(self, other):
        return log_cholesky(self.A[:1] @ other.S[:1] @ self.A[:1].mT).ravel()

    def unpack(self, vector):
        d = self.S.shape[-1]
        L = np.linalg.cholesky(self.S[0])
        one = L @ from_log_cholesky(vector.reshape(1, -1), d) @ L.T
        return self._of(np.broadcast_to(one, self.S.shape))
