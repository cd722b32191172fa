"""p(latent | row) as values: what `posterior(X)` returns, with the same verbs for all models."""

from dataclasses import dataclass

import numpy as np
from scipy.special import xlogy

from .inference.randomness import generator

LOG_2PI = np.log(2 * np.pi)


@dataclass(frozen=True)
class CategoricalPosterior:
    """Probabilities of a discrete latent, row by row.

    Attributes
    ----------
    probs : ndarray of shape (n_samples, n_components), float64
        p(z = k | x).
    prior : ndarray of shape (n_components,), float64
        p(z = k).
    """

    probs: np.ndarray
    prior: np.ndarray

    @property
    def mean(self):
        """The probabilities: the mean of the one-hot latent, (n_samples, n_components)."""
        return self.probs

    def sample(self, n=1, random_state=None):
        """Draw latents: -> (n, n_samples) integers."""
        u = generator(random_state).uniform(size=(n, len(self.probs), 1))
        below = np.cumsum(self.probs, axis=1)[:, :-1] <= u
        return below.sum(axis=2)

    def entropy(self):
        """-sum_k p_k log p_k in nats: (n_samples,)."""
        return -xlogy(self.probs, self.probs).sum(axis=1)

    def log_prob(self, z):
        """log p(z | x): z (n_samples,) integers -> (n_samples,)."""
        with np.errstate(divide="ignore"):
            return np.log(self.probs[np.arange(len(self.probs)), z])

    def kl_to_prior(self):
        """KL(p(z | x) || p(z)) in nats: (n_samples,)."""
        used = np.where(self.probs > 0, self.prior, 1.0)
        return -self.entropy() - xlogy(self.probs, used).sum(axis=1)


@dataclass(frozen=True)
class GaussianPosterior:
    """A Gaussian over continuous latents, row by row, against a Gaussian prior of mean 0.

    Attributes
    ----------
    mean : ndarray of shape (n_samples, n_components), float64
    covariance : ndarray of shape (n_samples, n_components, n_components), float64
    prior_covariance : ndarray of shape (n_components, n_components), float64, or None
        None is the identity.
    """

    mean: np.ndarray
    covariance: np.ndarray
    prior_covariance: "np.ndarray | None" = None

    def sample(self, n=1, random_state=None):
        """Draw latents: -> (n, n_samples, n_components)."""
        eps = generator(random_state).standard_normal((n, *self.mean.shape))
        return self.mean + np.einsum("nij,snj->sni", np.linalg.cholesky(self.covariance), eps)

    def _log_det(self):
        return np.linalg.slogdet(self.covariance)[1]

    def entropy(self):
        """log |2 pi e V| / 2 in nats: (n_samples,)."""
        return 0.5 * (self.mean.shape[1] * (1 + LOG_2PI) + self._log_det())

    def log_prob(self, z):
        """log N(z; mean, covariance): z (n_samples, n_components) -> (n_samples,)."""
        diff = z - self.mean
        distance = (diff * np.linalg.solve(self.covariance, diff[..., None])[..., 0]).sum(axis=1)
        return -0.5 * (self.mean.shape[1] * LOG_2PI + self._log_det() + distance)

    def kl_to_prior(self):
        """KL(N(mean, covariance) || prior) in nats: (n_samples,)."""
        q = self.mean.shape[1]
        prior = np.eye(q) if self.prior_covariance is None else self.prior_covariance
        precision = np.linalg.inv(prior)
        trace = np.einsum("ij,nji->n", precision, self.covariance)
        distance = np.einsum("ni,ij,nj->n", self.mean, precision, self.mean)
        volumes = np.linalg.slogdet(prior)[1] - self._log_det()
        return 0.5 * (distance + trace - q + volumes)


@dataclass(frozen=True)
class PriorPosterior(GaussianPosterior):
    """A Gaussian over continuous latents, row by row, against any prior.

    Attributes
    ----------
    log_prior : ndarray of shape (n_samples,), float64
        E[log p(z)] under each Gaussian.
    """

    log_prior: "np.ndarray | None" = None

    def kl_to_prior(self):
        """KL(N(mean, covariance) || prior) in nats: (n_samples,)."""
        return -self.entropy() - self.log_prior
