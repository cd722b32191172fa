"""Full and tied covariance matrices: whitening by Cholesky, missing entries by regression."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..numerics.linalg import from_log_cholesky, log_cholesky, log_det, whiteners
from ..numerics.missing import conditional_covariance, fill, find_holes
from .covariance import Covariance, _positive, checked_shape
from .statistics import DenseMoments


@dataclass(frozen=True)
class Full(Covariance):
    """An unrestricted matrix for each component."""

    feature_axes = 2
    S: np.ndarray  # (K, d, d)
    A: np.ndarray  # (K, d, d) lower triangular, A S A' = I
    penalty: Any  # Penalty, scale (d, d)

    @staticmethod
    def prior_count(d):
        return d / 2

    @classmethod
    def of(cls, S, penalty):
        """From matrices; raises LinAlgError when one is not positive definite: (K, d, d)."""
        return cls(S, whiteners(S), penalty)

    @classmethod
    def broad(cls, S, K, penalty):
        return cls.of(np.tile(S, (K, 1, 1)), penalty)

    def _residuals(self, X, means):
        """Yield x - mean_k with the missing part at its conditional mean, and log|P_mm|."""
        holes = find_holes(X)
        for k, mean in enumerate(means):
            diff = np.subtract(X, mean, order="C")  # one layout, one compiled kernel
            yield k, diff, fill(diff, holes, self.A[k].T @ self.A[k]) if holes else 0.0, holes

    def log_det_and_mahalanobis(self, X, means):
        # log|S_oo| = log|S| + log|P_mm|, and filling in leaves the distance as it is.
        log_dets, maha = np.empty((2, len(X), len(means)))
        whole = log_det(self.A)
        for k, diff, log_det_missing, _ in self._residuals(X, means):
            white = diff @ self.A[k].T
            maha[:, k] = np.einsum("nd,nd->n", white, white)
            log_dets[:, k] = whole[k] + log_det_missing
        log_dets[np.isnan(X).all(axis=1)] = 0.0  # |S| and |P| would cancel only to rounding
        return log_dets, maha

    def moments(self, X, means, resp, scale=None):
        pull = resp if scale is None else resp * scale
        first, second = np.empty_like(means), np.empty_like(self.S)
        for k, diff, _, holes in self._residuals(X, means):
            first[k] = pull[:, k] @ diff
            diff *= np.sqrt(pull[:, k, None])
            second[k] = diff.T @ diff
            if holes:
                second[k] += conditional_covariance(holes, self.A[k].T @ self.A[k], resp[:, k])
        return DenseMoments(resp.sum(axis=0), pull.sum(axis=0), first, second, means)

    def m_step(self, moments):
        shift, scatter = moments.centred()
        count = (moments.count + self.penalty.count)[:, None, None]
        S = (scatter + self.penalty.scale) / _positive(count)
        return moments.origin + shift, self._of(np.where(count > 0, S, self.S))

    def _of(self, S):
        return type(self).of((S + S.mT) / 2, self.penalty)

    def complete(self, X, means):
        filled = [
            mean + diff
            for (_, diff, _, _), mean in zip(self._residuals(X, means), means, strict=True)
        ]
        return np.where(np.isnan(X)[:, None, :], np.stack(filled, axis=1), X[:, None, :])

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
        return self.A.mT @ self.A

    def _log_priors(self):
        trace = (self.A * (self.A @ self.penalty.scale)).sum(axis=(1, 2))
        return -0.5 * (self.penalty.count * log_det(self.A) + trace)

    def log_prior(self):
        return float(self._log_priors().sum())

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

    @classmethod
    def of(cls, S, penalty):
        one = S[:1]
        return cls(np.broadcast_to(one, S.shape), np.broadcast_to(whiteners(one), S.shape), penalty)

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
        S = (scatter.sum(axis=0) + self.penalty.scale) / _positive(count)
        return moments.origin + shift, self._of(np.broadcast_to(S, scatter.shape))

    def log_prior(self):
        return float(self._log_priors()[0])

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
