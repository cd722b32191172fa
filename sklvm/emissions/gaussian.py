"""K Gaussians over any covariance structure."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr

from .base import Emission, Spec
from .covariance import Covariance
from .sweep import LOG_2PI
from .wide import Wide


@dataclass(frozen=True)
class Gaussians(Emission):
    """p(x | z = k) = N(x; means_k, S_k)."""

    means: np.ndarray  # (K, d)
    cov: Covariance

    def log_prob(self, X):
        log_det, mahalanobis = self.cov.log_det_and_mahalanobis(X, self.means)
        seen = (~np.isnan(X)).sum(axis=1, keepdims=True)
        return -0.5 * (seen * LOG_2PI + log_det + mahalanobis)

    def stats(self, X, resp):
        return self.cov.moments(X, self.means, resp)

    def sweep(self, offset=0.0, known=None):
        return self.cov.sweep(self.means, offset, known)

    def known(self, X, weight, total):
        return self.cov.known(self.means, X, weight, total)

    def m_step(self, stats):
        means, cov = self.cov.m_step(stats)
        return replace(self, means=means, cov=cov)

    def start(self, X, resp):
        """About the mean of each part: far from one shared origin squares lose their digits."""
        means = self.cov.moments(X, self.means, resp).means()
        return super(Gaussians, replace(self, means=means)).start(X, resp)

    def log_prior(self):
        return self.cov.log_prior()

    def sample(self, z, rng):
        return self.means[z] + self.cov.noise(z, rng)

    def complete(self, X):
        return self.cov.complete(X, self.means)

    def complete_sample(self, X, z, rng):
        return np.where(np.isnan(X), self.residual_draw(X, z, rng, 1.0), X)

    def residual_draw(self, X, z, rng, scale):
        """Conditional mean plus `scale` times a draw of what remains, by Matheron's rule.

        A joint draw e ~ N(0, S_z) minus its own regression on its seen part has the conditional
        covariance; scale is a number or (n, 1).
        """
        e = self.cov.noise(z, rng)
        gaps = np.where(np.isnan(X), np.nan, e)
        expected = np.empty_like(e)
        mean = np.empty_like(e)
        for k in np.unique(z):
            rows, one = z == k, self.take([k])
            mean[rows] = one.complete(X[rows])[:, 0]
            expected[rows] = one.cov.complete(gaps[rows], np.zeros_like(one.means))[:, 0]
        return mean + scale * (e - expected)

    def expectation(self):
        return self.means

    def cdf(self, X):
        return ndtr(self._standardised(X))

    def _standardised(self, X):
        """Each entry less its mean, over the scale of its column: (n, d) -> (n, K, d)."""
        scales = np.sqrt(np.diagonal(self.cov.dense(), axis1=1, axis2=2))
        return (X[:, None] - self.means) / scales

    def precisions(self, X):
        """Curvature of -log p(x | z = k) at complete rows: (n, d) -> (n or 1, K, d, d)."""
        return self.cov.precisions()[None]

    def climb(self, x, missing, resp):
        """One Newton step on sum_k resp_k log p(x | z = k), in the missing entries: (n, d)."""
        (K, d), P = self.means.shape, self.precisions(x)
        curvature = resp[:, None, :] @ P.reshape(-1, K, d * d)  # (n, 1, d d)
        gap = resp[:, :, None] * (x[:, None, :] - self.means)
        pull = (gap.reshape(-1, 1, K * d) @ P.reshape(-1, K * d, d))[:, 0]
        block = missing[:, :, None] & missing[:, None, :]
        padded = np.where(block, curvature.reshape(-1, d, d), np.eye(d))
        return x - np.linalg.solve(padded, np.where(missing, pull, 0.0)[..., None])[..., 0]

    def climb_within(self, whole, x, missing, resp):
        return Gaussians.climb(whole, x, missing, resp)

    def conditional_moments(self, X, seen, targets):
        """E and Cov of target columns given seen ones: -> (n, K, t), (n or 1, K, t, t)."""
        coefficients, cov = self.cov.conditional(seen, targets)
        shift = np.einsum("kto,nko->nkt", coefficients, X[:, None, seen] - self.means[:, seen])
        return self.means[:, targets] + shift, cov.dense()[None]

    def condition(self, seen, values):
        """p(x_missing | x_seen = values, z = k): seen (o,) columns, values (o,)."""
        missing = np.setdiff1d(np.arange(self.means.shape[1]), seen)
        coefficients, cov = self.cov.conditional(seen, missing)
        shift = np.einsum("kmo,ko->km", coefficients, values - self.means[:, seen])
        return replace(self, means=self.means[:, missing] + shift, cov=cov)

    def take(self, order):
        return replace(self, means=self.means[order], cov=self.cov.take(order))

    def marginal(self, columns):
        return replace(self, means=self.means[:, columns], cov=self.cov.marginal(columns))

    def pack(self, other):
        return np.concatenate(
            [self.cov.whiten(other.means - self.means).ravel(), self.cov.pack(other.cov)]
        )

    def unpack(self, vector):
        shift, shape = np.split(vector, [self.means.size])
        means = self.means + self.cov.colour(shift.reshape(self.means.shape))
        return replace(self, means=means, cov=self.cov.unpack(shape))

    @property
    def kind(self):
        return f"{super().kind} of {type(self.cov).__name__}"

    @property
    def spec(self):
        return Gaussian()

    @property
    def n_parameters(self):
        return self.means.size + self.cov.n_parameters


class Gaussian(Spec):
    """Gaussian emission, of the covariance structure that the model's `covariance_type` names."""

    matrix = True

    def broad(self, family, K):
        """K copies of one Gaussian fitted to all rows."""
        return Gaussians(np.tile(family.mean, (K, 1)), family.broad(K))

    def background(self, family):
        """Independent heavy-tailed columns."""
        return Wide.of(family)
