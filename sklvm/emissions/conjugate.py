"""Posteriors over the parameters of Gaussians: an emission whose log_prob is an expectation."""

from abc import abstractmethod
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from .base import Integrated
from .covariance import Covariance, Penalty
from .gaussian import Gaussians

MEAN_PRECISION = 0.1  # pseudo-observations of each mean, where none are given
PSEUDO_ROWS = (1e-4, 1.0)  # where empirical Bayes looks for the pseudo-observations of the means
MULTIPLES = (1e-4, 1e2)  # ... and for the prior's scale, in units of the one that it starts from
ROUNDS = 3  # of prior and posterior in turn in one M-step; the empty components follow the prior


class Conjugate(Integrated):
    """q(means, precisions) against a prior of the same kind, for one covariance structure.

    q(mu_k | L_k) = N(mu_k; m_k, (beta_k L_k)^-1), and q(L_k) has nu_k degrees of freedom and the
    inverse scale S_k, so that E[L_k] = nu_k S_k^-1. Gaussians of the expected precisions know how
    to marginalise, complete and sum; the expectation adds a constant for what is not known.
    """

    structure: ClassVar[Any]  # the Covariance class of the expected precisions
    m: np.ndarray  # (K, d)
    beta: np.ndarray  # (K,) or (K, d)
    nu: np.ndarray  # (K,), (K, d) or (K, 1)
    prior: Any  # of the same class, or None where nothing is fitted
    learnt: tuple  # names of the fields of the prior that empirical Bayes finds: "beta", "S"
    base: Any  # the S of one component that a prior began with, where S is learnt

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
        prior = replace(prior, base=prior.S[0])
        return replace(prior, prior=prior, learnt=learnt)

    @property
    @abstractmethod
    def cov(self) -> Covariance:
        """E[L_k]^-1"""

    @abstractmethod
    def expected(self, stats) -> float:
        """E_q[log p(rows | parameters)] from the statistics of complete rows."""

    @abstractmethod
    def slack(self, seen) -> tuple:
        """What expectations add to log|L| / 2, and to squared distances: (n, K) each."""

    @abstractmethod
    def widened(self) -> Covariance:
        """E[L_k]^-1, and the uncertainty of the means on top of it."""

    @abstractmethod
    def _updated(self, stats):
        """The best q given the statistics (Bishop 10.60-10.63)."""

    @abstractmethod
    def _distances(self) -> float:
        """Sum over means of E[(mu - m_0)' L (mu - m_0)]: what beta_0 multiplies in the bound."""

    @abstractmethod
    def _with_best_scale(self, prior):
        """The prior with the S_0 that q is nearest to, in closed form within bounds."""

    @property
    def _plug_in(self):
        return Gaussians(self.m, self.cov)

    def m_step(self, stats):
        q = self._updated(stats)
        for _ in range(ROUNDS if self.learnt else 0):
            q = replace(q, prior=q._fitted_prior())._updated(stats)
        return q

    def _fitted_prior(self):
        """The prior that is nearest to q in what is learnt, in closed form."""
        p = self.prior
        if "beta" in self.learnt:
            beta = np.clip(self.m.size / self._distances(), *PSEUDO_ROWS)
            p = replace(p, beta=np.full(p.beta.shape, beta))
        return self._with_best_scale(p) if "S" in self.learnt else p

    def resuming(self, other):
        """This prior, with what another posterior has learnt."""
        prior = replace(self.prior, **{name: getattr(other.prior, name) for name in self._found})
        return replace(prior, prior=prior, learnt=self.learnt)

    @property
    def _found(self):
        """The fields of the prior that are not what they began as."""
        return self.learnt

    def stats(self, X, resp):
        return self._plug_in.stats(X, resp)

    def known(self, X, weight, total):
        return self._plug_in.known(X, weight, total)

    @abstractmethod
    def draw(self, rng) -> Gaussians:
        """Gaussians whose parameters are drawn from q."""

    def complete(self, X):
        return self._plug_in.complete(X)

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
