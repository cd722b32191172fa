"""Posteriors over the parameters of Gaussians: an emission whose log_prob is an expectation."""

from abc import abstractmethod
from dataclasses import replace
from typing import Any

import numpy as np

from .base import Emission
from .covariance import Covariance, Penalty
from .gaussian import Gaussians

PSEUDO_ROWS = (1e-4, 1e4)  # where empirical Bayes looks for the pseudo-observations of the means


class Conjugate(Emission):
    """q(means, precisions) against a prior of the same kind, for one covariance structure.

    q(mu_k | L_k) = N(mu_k; m_k, (beta_k L_k)^-1), and q(L_k) has nu_k degrees of freedom and the
    inverse scale S_k, so that E[L_k] = nu_k S_k^-1. Gaussians of the expected precisions know how
    to marginalise, complete and sum; the expectation adds a constant for what is not known.
    """

    structure: type[Covariance]  # of the expected precisions
    m: np.ndarray  # (K, d)
    beta: np.ndarray  # (K,) or (K, d)
    nu: np.ndarray  # (K,), (K, d) or (K, 1)
    prior: Any  # of the same class, or None where nothing is fitted
    learnt: tuple  # names of the fields of the prior that empirical Bayes finds: beta, S

    @staticmethod
    @abstractmethod
    def least_degrees(d) -> float:
        """The degrees of freedom must exceed this."""

    @staticmethod
    def usual_degrees(d) -> float:
        """Degrees of freedom with which the expected covariance is the prior's scale."""
        raise NotImplementedError

    @staticmethod
    @abstractmethod
    def shapes(K, d) -> tuple:
        """Of beta and of `degrees`."""

    @classmethod
    @abstractmethod
    def around(cls, m, beta, nu, cov):
        """q with E[L_k]^-1 = cov_k; beta and nu in any shape that broadcasts."""

    @classmethod
    def unseen(cls, m, beta, nu, cov, learnt=()):
        """A prior, as the posterior of components that have seen nothing."""
        prior = cls.around(m, beta, nu, cov)
        return replace(prior, prior=prior, learnt=learnt)

    @property
    @abstractmethod
    def cov(self) -> Covariance:
        """E[L_k]^-1"""

    @abstractmethod
    def expected(self, stats) -> float:
        """E_q[log p(rows | parameters)] from the statistics of complete rows."""

    @abstractmethod
    def _updated(self, stats):
        """The best q given the statistics (Bishop 10.60-10.63)."""

    @abstractmethod
    def _fitted_prior(self):
        """The prior that is nearest to q, `learnt` fields in closed form."""

    @property
    def _plug_in(self):
        return Gaussians(self.m, self.cov)

    def m_step(self, stats):
        q = self._updated(stats)
        return replace(q, prior=q._fitted_prior()) if self.learnt else q

    def _learnt_beta(self, distance):
        """The mean precision that maximises d K log beta - beta distance, in the prior's shape."""
        beta = self.prior.beta
        if "beta" not in self.learnt:
            return beta
        return np.full(beta.shape, np.clip(self.m.size / distance, *PSEUDO_ROWS))

    def stats(self, X, resp):
        return self._plug_in.stats(X, resp)

    def known(self, X, weight, total):
        return self._plug_in.known(X, weight, total)

    def sample(self, z, rng):
        return self.predictive().sample(z, rng)

    def complete(self, X):
        return self._plug_in.complete(X)

    def complete_sample(self, X, z, rng):
        return self.predictive().complete_sample(X, z, rng)

    def climb(self, x, missing, resp):
        return self.predictive().climb(x, missing, resp)

    def expectation(self):
        return self.m

    @property
    def degrees(self):
        """nu as scikit-learn shows it: (K,), or (K, d) where each column has its own."""
        return self.nu

    @property
    def spec(self):
        return self.predictive().spec

    @property
    def n_parameters(self):
        return self.m.size + self.cov.n_parameters


def no_penalty(d, axes=2):
    """A penalty that asks for nothing, for matrices (axes=2) or variances."""
    return Penalty(0.0, np.zeros((d,) * axes))
