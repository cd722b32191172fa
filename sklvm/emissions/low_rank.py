"""Low-rank plus diagonal covariance matrices: factor analysers, worked out in latent space."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .covariance import Covariance
from .dense import Full
from .factor_pass import FactorBlock, Factors, FactorSweep, patterns_of
from .noise import NOISES, Noise

SMALL_SIDE = 500  # rows or features: the largest matrix whose eigenvectors a start computes


@dataclass(frozen=True)
class LowRank(Covariance):
    """S_k = W_k W_k' + diag(psi_k) (Ghahramani & Hinton 1996). Cost O(n d q), never d x d."""

    feature_axes = 2
    W: np.ndarray  # (K, d, q)
    psi: np.ndarray  # (K, d), shared as `sharing` says
    penalty: Any  # Penalty on diag(psi), scale (d,), for each free number of psi
    floor: np.ndarray  # (d,) the smallest psi allowed
    sharing: Noise = NOISES["free"]

    @staticmethod
    def prior_count(d, K):
        return 0.0

    @classmethod
    def broad(cls, S, K, penalty):
        raise NotImplementedError("LowRank.factors says how many factors to start from")

    @classmethod
    def factors(cls, S, K, q, penalty, floor):
        """K copies of the first q principal factors of S (d, d), at most half of each variance."""
        sd = np.sqrt(np.diag(S))
        values, vectors = np.linalg.eigh(S / np.outer(sd, sd))
        W, psi = _principal(values[::-1][:q], vectors[:, ::-1][:, :q], sd, q)
        return cls(np.tile(W, (K, 1, 1)), np.tile(np.maximum(psi, floor), (K, 1)), penalty, floor)

    def principal(self, X, means, resp):
        """Each component at the principal factors of its part; self lends one row of variance."""
        seen, W, psi = ~np.isnan(X), np.zeros_like(self.W), np.empty_like(self.psi)
        for k, (mean, before) in enumerate(zip(means, self._sd(), strict=True)):
            rows = np.flatnonzero(resp[:, k])
            weight, diff = resp[rows, k], np.where(seen[rows], X[rows] - mean, 0.0)
            sd = np.sqrt((weight @ diff**2 + before**2) / (weight @ seen[rows] + 1))
            Z = np.sqrt(weight / max(weight.sum(), 1.0))[:, None] * diff / sd
            values, vectors = _leading(Z, W.shape[2])
            W[k], psi[k] = _principal(values, vectors, sd, W.shape[2])
        return replace(self, W=W, psi=np.maximum(psi, self.floor))

    def block(self, X, means):
        """A block of rows with all factors inferred once: log_det, mahalanobis and moments."""
        return FactorBlock.of(self.W, self.psi, means, X)

    def posterior(self, k, X, mean):
        """p(z | x_seen, k), residuals with zeros for what is missing, and who saw what."""
        patterns = patterns_of(X)
        diff = patterns.residuals(X, mean)
        return Factors.of(self.W[k], self.psi[k], diff, patterns), diff, patterns

    def log_det_and_mahalanobis(self, X, means):
        block = self.block(X, means)
        return block.log_det, block.mahalanobis

    def moments(self, X, means, resp, scale=None):
        return self.block(X, means).moments(resp, scale)

    def sweep(self, means, offset, known=None):
        return FactorSweep(self, means, offset)

    def m_step(self, moments):
        """Regress each feature on (z, 1): loadings and mean together, over the rows that saw it.

        The loadings and means are those of the expanded model in which the factors have moments of
        their own (PX-EM; Liu, Rubin & Wu 1998): a longer step at the same price.
        """
        solution = moments.regression()
        squares = moments.xx - (solution * moments.xu).sum(axis=2)
        count = np.broadcast_to(moments.count, squares.shape)
        known = (count > 0)[..., None]
        solution = solution @ moments.rescaling()
        return (
            moments.origin + np.where(known, solution, 0.0)[..., -1],
            replace(
                self,
                W=np.where(known, solution[..., :-1], self.W),
                psi=self._noise(squares, count),
            ),
        )

    def _noise(self, squares, count):
        """Uniquenesses that maximise the penalised likelihood of residual squares: (K, d)."""
        pseudo, scale = self._pseudo
        total, count = self.sharing.pooled(squares) + scale, self.sharing.pooled(count)
        known = count > 0
        psi = np.where(known, total / np.where(known, count + pseudo, 1.0), self.psi)
        return np.maximum(np.broadcast_to(psi, self.psi.shape), self.floor)

    @property
    def _pseudo(self):
        """Count and scale of the penalty on each free number: (1, d or 1), (1, d or 1)."""
        scale = self.penalty.scale[None]
        return self.sharing.pooled(np.full_like(scale, self.penalty.count)), self.sharing.pooled(
            scale
        )

    def complete(self, X, means):
        block = self.block(X, means)
        filled = [
            mean + factors.mean @ W.T
            for factors, W, mean in zip(block.factors, self.W, means, strict=True)
        ]
        return np.where(np.isnan(X)[:, None, :], np.stack(filled, axis=1), X[:, None, :])

    def noise(self, z, rng):
        _, d, q = self.W.shape
        factors = rng.standard_normal((len(z), q))
        e = rng.standard_normal((len(z), d)) * np.sqrt(self.psi[z])
        for k in np.unique(z):
            e[z == k] += factors[z == k] @ self.W[k].T
        return e

    @property
    def compact(self):
        return self.dense()

    @staticmethod
    def invert(compact):
        return np.linalg.inv(compact)

    @classmethod
    def expand(cls, compact, K, d, penalty):
        raise NotImplementedError("LowRank is built from loadings and uniquenesses")

    def dense(self):
        return self.W @ self.W.mT + self.psi[:, :, None] * np.eye(self.psi.shape[1])

    def precisions(self):
        scaled = self.W / self.psi[:, :, None]
        inner = np.linalg.inv(np.eye(self.W.shape[2]) + self.W.mT @ scaled)
        return np.eye(self.psi.shape[1]) / self.psi[:, :, None] - scaled @ inner @ scaled.mT

    def log_prior(self):
        (count, scale), psi = self._pseudo, self.sharing.free(self.psi)
        return -0.5 * float((count * np.log(psi) + scale / psi).sum())

    def marginal(self, columns):
        return replace(
            self,
            W=self.W[:, columns],
            psi=self.psi[:, columns],
            penalty=self.penalty.marginal(columns),
            floor=self.floor[columns],
        )

    def conditional(self, seen, missing):
        """The factors keep their number: z | x_seen = m + V^1/2 z', so W_m becomes W_m V^1/2."""
        Ws = self.W[:, seen] / self.psi[:, seen, None]
        V = np.linalg.inv(np.eye(self.W.shape[2]) + self.W[:, seen].mT @ Ws)
        left = self.marginal(missing)
        coefficients = left.W @ V @ Ws.mT
        return coefficients, replace(left, W=left.W @ np.linalg.cholesky((V + V.mT) / 2))

    def scaled(self, factor):
        return replace(
            self,
            W=self.W * np.sqrt(factor)[:, None, None],
            psi=self.psi * factor[:, None],
            sharing=self.sharing.untied,
        )

    def take(self, order):
        return replace(self, W=self.W[order], psi=self.psi[order])

    def canonical(self):
        """The rotation with W' Psi^-1 W diagonal and descending, loadings with a positive sum."""
        scaled = self.W / np.sqrt(self.psi)[:, :, None]
        rotation = np.linalg.eigh(scaled.mT @ scaled)[1][:, :, ::-1]
        sign = np.where((scaled @ rotation).sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
        return replace(self, W=self.W @ rotation * sign)

    @property
    def n_parameters(self):
        K, d, q = self.W.shape
        q = min(q, d)
        loadings = d * q - q * (q - 1) // 2  # less the rotations that change nothing
        free = K * loadings + self.sharing.free(self.psi).size
        return min(free, K * d * (d + 1) // 2)  # beyond Ledermann's bound it is any matrix

    def _sd(self):
        return np.sqrt((self.W**2).sum(axis=2) + self.psi)

    def whiten(self, V):
        return V / self._sd()

    def colour(self, V):
        return V * self._sd()

    def pack(self, other):
        loadings = (other.W - self.W) / self._sd()[:, :, None]
        log_psi = np.log(self.sharing.free(other.psi) / self.sharing.free(self.psi))
        return np.concatenate([loadings.ravel(), log_psi.ravel()])

    def unpack(self, vector):
        loadings, log_psi = np.split(vector, [self.W.size])
        W = self.W + loadings.reshape(self.W.shape) * self._sd()[:, :, None]
        factor = np.exp(log_psi.reshape(self.sharing.free(self.psi).shape))
        return replace(self, W=W, psi=np.maximum(self.psi * factor, self.floor))

    def full(self):
        """The same matrices as an unrestricted structure."""
        return Full.of(self.dense(), replace(self.penalty, scale=np.diag(self.penalty.scale)))


def _leading(Z, q):
    """Largest eigenvalues and their vectors of Z' Z, on the smaller side: -> (p,), (d, p), p <= q.

    Where rows and features are many, equally spaced rows stand for all.
    """
    n, d = Z.shape
    if d <= min(n, SMALL_SIDE):
        values, vectors = np.linalg.eigh(Z.T @ Z)
        return values[::-1][:q], vectors[:, ::-1][:, :q]
    if n > SMALL_SIDE:
        Z = Z[np.linspace(0, n - 1, SMALL_SIDE).astype(int)] * np.sqrt(n / SMALL_SIDE)
    values, left = np.linalg.eigh(Z @ Z.T)
    values, left = np.maximum(values[::-1][:q], 0.0), left[:, ::-1][:, :q]
    return values, Z.T @ left / np.sqrt(np.maximum(values, 1e-300))


def _principal(values, vectors, sd, q):
    """Loadings and uniquenesses of correlations' leading eigenpairs: -> (d, q), (d,).

    The factors take half of each variance at most. At least one fewer than features is used: as
    many could give some of their variance back to the noise, which changes no matrix, and EM would
    creep along that line. A factor without loadings stays without.
    """
    values, vectors = values[: len(sd) - 1], vectors[:, : len(sd) - 1]
    lead = vectors * np.sqrt(np.maximum(values, 0.0))
    share = np.minimum(1.0, np.sqrt(0.5 / np.maximum((lead**2).sum(axis=1), 1e-300)))
    W = np.zeros((len(sd), q))
    W[:, : len(values)] = (share * sd)[:, None] * lead
    return W, sd**2 - (W**2).sum(axis=1)
