"""Low-rank plus diagonal covariance matrices: factor analysers, worked out in latent space."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from .covariance import Covariance
from .dense import Full
from .statistics import LatentMoments


class Factors(NamedTuple):
    """The posterior over the factors of one component, and what its evidence needs."""

    mean: np.ndarray  # (n, q)
    covariance: np.ndarray  # (n, q, q), repeated without copying where every row saw everything
    log_det: np.ndarray  # (n,) log |S_oo|
    mahalanobis: np.ndarray  # (n,)


@dataclass(frozen=True)
class LowRank(Covariance):
    """S_k = W_k W_k' + diag(psi_k) (Ghahramani & Hinton 1996). Cost O(n d q^2), never d x d."""

    feature_axes = 2
    W: np.ndarray  # (K, d, q)
    psi: np.ndarray  # (K, d)
    penalty: Any  # Penalty on diag(psi), scale (d,)
    floor: np.ndarray  # (d,) the smallest psi allowed

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
        q_data = min(q, len(S))
        W = np.zeros((len(S), q))
        lead = vectors[:, ::-1][:, :q_data] * np.sqrt(np.maximum(values[::-1][:q_data], 0.0))
        share = np.minimum(1.0, np.sqrt(0.5 / np.maximum((lead**2).sum(axis=1), 1e-300)))
        W[:, :q_data] = (share * sd)[:, None] * lead
        psi = np.maximum(np.diag(S) - (W**2).sum(axis=1), floor)
        return cls(np.tile(W, (K, 1, 1)), np.tile(psi, (K, 1)), penalty, floor)

    def factor_posterior(self, k, diff, seen):
        """p(z | x_seen) of component k, for diff = x - mean with zeros where nothing was seen."""
        W, psi = self.W[k], self.psi[k]
        d, q = W.shape
        if seen.all():
            precision = (np.eye(q) + (W.T / psi) @ W)[None]
            log_psi = np.full(len(diff), np.log(psi).sum())
        else:
            outer = (W[:, :, None] * W[:, None, :]).reshape(d, q * q)
            precision = np.eye(q) + ((seen / psi) @ outer).reshape(len(diff), q, q)
            log_psi = seen @ np.log(psi)
        covariance = np.linalg.inv(precision)
        covariance = np.broadcast_to((covariance + covariance.mT) / 2, (len(diff), q, q))
        mean = np.einsum("nij,nj->ni", covariance, (diff / psi) @ W)
        rest = diff - seen * (mean @ W.T)  # x - mu - W E[z]: no difference of large squares
        mahalanobis = (rest**2 / psi).sum(axis=1) + (mean**2).sum(axis=1)
        log_det = log_psi + np.linalg.slogdet(precision)[1]
        return Factors(mean, covariance, log_det, mahalanobis)

    def _posteriors(self, X, means):
        seen = ~np.isnan(X)
        for k, mean in enumerate(means):
            diff = np.where(seen, X - mean, 0.0)
            yield k, diff, seen, self.factor_posterior(k, diff, seen)

    def log_det_and_mahalanobis(self, X, means):
        log_dets, maha = np.empty((2, len(X), len(means)))
        for k, _, _, factors in self._posteriors(X, means):
            log_dets[:, k], maha[:, k] = factors.log_det, factors.mahalanobis
        return log_dets, maha

    def moments(self, X, means, resp, scale=None):
        pull = resp if scale is None else resp * scale
        K, d, q = self.W.shape
        uu, xu, xx = np.zeros((K, d, q + 1, q + 1)), np.empty((K, d, q + 1)), np.empty((K, d))
        for k, diff, seen, factors in self._posteriors(X, means):
            u = np.hstack([factors.mean, np.ones((len(X), 1))])
            pulled, weight = pull[:, k, None] * u, resp[:, k]
            uu[k] = (seen.T @ (pulled[:, :, None] * u[:, None, :]).reshape(len(X), -1)).reshape(
                d, q + 1, q + 1
            )
            if seen.all():
                uu[k, :, :q, :q] += weight.sum() * factors.covariance[0]
            else:
                spread = (weight[:, None, None] * factors.covariance).reshape(len(X), q * q)
                uu[k, :, :q, :q] += (seen.T @ spread).reshape(d, q, q)
            xu[k] = diff.T @ pulled
            xx[k] = pull[:, k] @ diff**2
        return LatentMoments(resp.T @ (~np.isnan(X)), uu, xu, xx, means)

    def m_step(self, moments):
        """Regress each feature on (z, 1): loadings and mean together, over the rows that saw it."""
        count = moments.count
        known = count > 0
        q = self.W.shape[2]
        uu = np.where(known[..., None, None], moments.uu, np.eye(q + 1))
        solution = np.linalg.solve(uu, moments.xu[..., None])[..., 0]  # (K, d, q + 1)
        W = np.where(known[..., None], solution[..., :-1], self.W)
        squares = moments.xx - (solution * moments.xu).sum(axis=2)
        psi = (squares + self.penalty.scale) / np.where(known, count + self.penalty.count, 1.0)
        psi = np.maximum(np.where(known, psi, self.psi), self.floor)
        return moments.origin + solution[..., -1], replace(self, W=W, psi=psi)

    def complete(self, X, means):
        filled = [
            mean + factors.mean @ self.W[k].T
            for (k, _, _, factors), mean in zip(self._posteriors(X, means), means, strict=True)
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
        count, scale = self.penalty.count, self.penalty.scale
        return -0.5 * float((count * np.log(self.psi) + scale / self.psi).sum())

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
            self, W=self.W * np.sqrt(factor)[:, None, None], psi=self.psi * factor[:, None]
        )

    def take(self, order):
        return replace(self, W=self.W[order], psi=self.psi[order])

    @property
    def n_parameters(self):
        K, d, q = self.W.shape
        q = min(q, d)
        free = d * q + d - q * (q - 1) // 2  # less the rotations that change nothing
        return K * min(free, d * (d + 1) // 2)  # beyond Ledermann's bound it is any matrix

    def _sd(self):
        return np.sqrt((self.W**2).sum(axis=2) + self.psi)

    def whiten(self, V):
        return V / self._sd()

    def colour(self, V):
        return V * self._sd()

    def pack(self, other):
        loadings = (other.W - self.W) / self._sd()[:, :, None]
        return np.concatenate([loadings.ravel(), np.log(other.psi / self.psi).ravel()])

    def unpack(self, vector):
        loadings, log_psi = np.split(vector, [self.W.size])
        W = self.W + loadings.reshape(self.W.shape) * self._sd()[:, :, None]
        psi = np.maximum(self.psi * np.exp(log_psi.reshape(self.psi.shape)), self.floor)
        return replace(self, W=W, psi=psi)

    def full(self):
        """The same matrices as an unrestricted structure."""
        return Full.of(self.dense(), replace(self.penalty, scale=np.diag(self.penalty.scale)))
