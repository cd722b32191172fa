"""Rows of probabilities: as points, and as Dirichlet posteriors over them."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import digamma, gammaln


@dataclass(frozen=True)
class Point:
    """Probabilities that EM estimates; a zero stays zero."""

    mean: np.ndarray  # (..., K)

    def log_prob(self):
        if self.mean.min() > 0:
            return np.log(self.mean)
        with np.errstate(divide="ignore"):
            return np.log(self.mean)

    def m_step(self, counts):
        total = counts.sum(axis=-1, keepdims=True)
        empty = total <= 0
        if not empty.any():
            return Point(counts / total)
        return Point(np.where(empty, self.mean, counts / np.where(empty, 1.0, total)))

    def log_prior(self):
        return 0.0

    def predictive(self):
        return self

    def take(self, order):
        return replace(self, mean=self.mean[..., order])

    def pack(self, other):
        alive = (self.mean > 0) & (other.mean > 0)
        ratio = np.where(alive, other.mean, 1.0) / np.where(alive, self.mean, 1.0)
        return np.log(ratio).ravel()

    def unpack(self, vector):
        shift = vector.reshape(self.mean.shape)
        return self.m_step(self.mean * np.exp(shift - shift.max(axis=-1, keepdims=True)))

    @property
    def n_parameters(self):
        return self.mean.size - self.mean.size // self.mean.shape[-1]


@dataclass(frozen=True)
class Dirichlet:
    """q(pi) = Dirichlet(alpha) against the prior Dirichlet(prior) (Bishop 2006, 10.57)."""

    alpha: np.ndarray  # (..., K)
    prior: np.ndarray  # (..., K)

    @property
    def mean(self):
        return self.alpha / self.alpha.sum(axis=-1, keepdims=True)

    def log_prob(self):
        """E[log pi] (Bishop 10.66)."""
        return digamma(self.alpha) - digamma(self.alpha.sum(axis=-1, keepdims=True))

    def m_step(self, counts):
        return replace(self, alpha=self.prior + counts)

    def log_prior(self):
        """-KL(q || prior)."""
        gap = ((self.alpha - self.prior) * self.log_prob()).sum()
        return float(_log_normaliser(self.alpha) - _log_normaliser(self.prior) - gap)

    def predictive(self):
        return Point(self.mean)

    def draw(self, rng):
        """Probabilities drawn from q."""
        return Point(np.apply_along_axis(rng.dirichlet, -1, self.alpha))

    def take(self, order):
        return replace(self, alpha=self.alpha[..., order], prior=self.prior[..., order])

    def pack(self, other):
        return np.log(other.alpha / self.alpha).ravel()

    def unpack(self, vector):
        return replace(self, alpha=self.alpha * np.exp(vector.reshape(self.alpha.shape)))

    @property
    def n_parameters(self):
        return self.alpha.size - self.alpha.size // self.alpha.shape[-1]


def _log_normaliser(alpha):
    """Sum over rows of log B(alpha)."""
    return (gammaln(alpha).sum(axis=-1) - gammaln(alpha.sum(axis=-1))).sum()
