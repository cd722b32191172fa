"""The state of factor analysis: one Gaussian whose covariance is low rank plus diagonal."""

from dataclasses import dataclass, replace

import numpy as np

from .emissions.gaussian import LOG_2PI, Gaussians
from .emissions.low_rank import LowRank
from .inference.em import EMState
from .posterior import GaussianPosterior


@dataclass(frozen=True)
class FactorState(EMState):
    """x = mean + W z + noise, z ~ N(0, I), noise ~ N(0, diag(psi)) (Bishop 2006, 12.64)."""

    emission: Gaussians  # K = 1, its covariance LowRank

    @classmethod
    def of(cls, mean, W, psi, penalty, floor):
        """From mean (d,), loadings (d, q) and uniquenesses (d,), rotated to the canonical form."""
        return cls(Gaussians(mean[None], LowRank(W[None], psi[None], penalty, floor))).canonical()

    def check(self, X):
        """Every finite number is in the support."""

    def canonical(self):
        """The rotation and the signs that W' Psi^-1 W and the sums of loadings decide."""
        return FactorState(replace(self.emission, cov=self.emission.cov.canonical()))

    def _factors(self, X):
        """p(z | x_seen), residuals with zeros for what is missing, and who saw what."""
        return self.emission.cov.posterior(0, X, self.emission.means[0])

    def log_prob(self, X):
        return self.emission.log_prob(X)[:, 0]

    def posterior(self, X):
        factors, _, patterns = self._factors(X)
        return GaussianPosterior(factors.mean, patterns.of_rows(factors.V))

    def e_step(self, X, weight):
        return self.emission.stats(X, weight[:, None]), weight @ self.log_prob(X)

    def m_step(self, stats):
        return FactorState(self.emission.m_step(stats))

    def log_prior(self):
        return self.emission.log_prior()

    def predictive(self):
        return self

    def elbo_terms(self, X):
        """E[log p(x | z)], E[log p(z)], H[z] under the exact posterior: three (n,)."""
        (factors, diff, _), seen = self._factors(X), ~np.isnan(X)
        W, psi = self.emission.cov.W[0], self.emission.cov.psi[0]
        posterior = self.posterior(X)
        V = posterior.covariance
        rest = (diff - seen * (factors.mean @ W.T)) ** 2
        spread = np.einsum("di,nij,dj->nd", W, V, W)
        log_likelihood = -0.5 * (seen * (LOG_2PI + np.log(psi) + (rest + spread) / psi)).sum(axis=1)
        squares = (factors.mean**2).sum(axis=1) + np.trace(V, axis1=1, axis2=2)
        log_prior = -0.5 * (W.shape[1] * LOG_2PI + squares)
        return log_likelihood, log_prior, posterior.entropy()

    def sample(self, n, rng):
        cov = self.emission.cov
        Z = rng.standard_normal((n, cov.W.shape[2]))
        noise = rng.standard_normal((n, len(cov.psi[0]))) * np.sqrt(cov.psi[0])
        return self.expectation(Z) + noise, Z

    def expectation(self, Z):
        """E[x | z]: (n, q) -> (n, d)."""
        return self.emission.means[0] + Z @ self.emission.cov.W[0].T

    def fill_mean(self, X):
        return self.emission.complete(X)[:, 0]

    fill_mode = fill_mean  # a Gaussian's mode is its mean

    def fill_sample(self, X, rng):
        return self.emission.complete_sample(X, np.zeros(len(X), dtype=int), rng)

    def marginal(self, columns):
        return FactorState(self.emission.marginal(columns))

    def condition(self, seen, values):
        return FactorState(self.emission.condition(seen, values)).canonical()

    def conditional_moments(self, X, seen, targets):
        """E and Cov of target columns given seen ones: -> (n, t), (n, t, t)."""
        means, covariances = self.emission.conditional_moments(X, seen, targets)
        t = len(targets)
        return means[:, 0], np.broadcast_to(covariances[:, 0], (len(X), t, t)).copy()

    def pack(self, other):
        return self.emission.pack(other.emission)

    def unpack(self, vector):
        return FactorState(self.emission.unpack(vector))

    @property
    def n_parameters(self):
        return self.emission.n_parameters

    @property
    def n_latents(self):
        return self.emission.cov.W.shape[2]

    @property
    def n_features(self):
        return self.emission.means.shape[1]

    @property
    def base_measure(self):
        return self.emission.base_measure
