"""Posteriors over means and precisions of independent columns: a Gamma each, or one for all."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.special import digamma, gammaln

from .conjugate import MULTIPLES, Conjugate, no_penalty
from .covariance import Diag, Spherical
from .gaussian import Gaussians
from .independent_t import IndependentTs
from .student_t import StudentTs
from .sweep import LOG_2PI, Sweep, common_origin


@dataclass(frozen=True)
class NormalGammas(Conjugate):
    """q(mu_kj, l_kj) = N(mu_kj; m_kj, 1 / (beta_kj l_kj)) Gamma(l_kj; nu_kj / 2, S_kj / 2).

    A missing entry says nothing of its column, so that each column has its own counts.
    """

    structure = Diag

    m: np.ndarray  # (K, d)
    beta: np.ndarray  # (K, d)
    nu: np.ndarray  # (K, d); (K, 1) where the columns share one Gamma
    S: np.ndarray  # as nu; E[l] = nu / S
    prior: Any = field(default=None, repr=False)  # NormalGammas, or None where nothing is fitted
    learnt: tuple = ()
    base: Any = field(default=None, repr=False)  # (d,) or (1,)

    @staticmethod
    def least_degrees(d):
        return 0.0

    @staticmethod
    def usual_degrees(d):
        return 3.0

    @staticmethod
    def shapes(K, d):
        return (K, d), (K, d)

    @classmethod
    def _gammas(cls, values):
        """Of what holds for every column (K, d), what each Gamma has: (K, d) or (K, 1)."""
        return values

    @classmethod
    def around(cls, m, beta, nu, cov):
        v = cls._gammas(np.broadcast_to(cov.v, m.shape))
        nu = np.broadcast_to(np.reshape(nu, (-1, v.shape[1]) if np.ndim(nu) else ()), v.shape)
        return cls(m, np.broadcast_to(beta, m.shape), nu, v * nu)

    @property
    def cov(self):
        v = np.broadcast_to(self.S / self.nu, self.m.shape)
        return self.structure(v, no_penalty(self.m.shape[1], axes=1))

    def _expected_log(self):
        """E[log l]"""
        return digamma(self.nu / 2) - np.log(self.S / 2)

    def _surplus(self):
        """What the expectation adds to the log-density of the expected precision: (K, d)."""
        return self._log_slack() - 0.5 / self.beta

    def _log_slack(self):
        return 0.5 * (digamma(self.nu / 2) - np.log(self.nu / 2))

    def slack(self, seen):
        logs = np.broadcast_to(self._log_slack(), self.m.shape)
        return seen @ logs.T, seen @ (1 / self.beta).T

    def widened(self):
        return self._predictive_scale()

    def log_prob(self, X):
        """The sum over seen entries of E_q[log N(x_j; mu_kj, 1 / l_kj)]."""
        return self._plug_in.log_prob(X) + ~np.isnan(X) @ self._surplus().T

    def sweep(self, offset=0.0, known=None):
        v = self.cov.v
        origin = common_origin(self.m, v, 1 / v)
        if origin is None:
            return Sweep(self.log_prob, self.stats, offset)
        return self.structure.expanded(self.m, v, origin, offset, self._surplus())

    def expected(self, stats):
        one = self._expected_log() - LOG_2PI - 1 / self.beta
        squares = (self.nu / self.S) * stats.about(self.m).second
        return 0.5 * float((stats.count * one - squares).sum())

    @staticmethod
    def _pooled(per_column):
        """What the columns (K, d) say of each Gamma."""
        return per_column

    def _updated(self, stats):
        """Bishop 10.60-10.63 for one column, about the origin of the statistics."""
        p, n = self.prior, stats.mass
        beta = p.beta + n
        shift = p.m - stats.origin
        m = (p.beta * shift + stats.first) / beta
        S = p.S + self._pooled(stats.second + p.beta * shift**2 - beta * m**2)
        return replace(
            self, m=stats.origin + m, beta=beta, nu=p.nu + self._pooled(stats.count), S=S
        )

    def log_prior(self):
        """-KL(q || prior), summed over components and columns."""
        p, ratio = self.prior, self.prior.beta / self.beta
        pull = p.beta * self.nu / self.S * (self.m - p.m) ** 2
        normal = 0.5 * (ratio - 1 - np.log(ratio) + pull)
        gamma = (
            log_gamma_normaliser(self.nu, self.S)
            - log_gamma_normaliser(p.nu, p.S)
            + 0.5 * (self.nu - p.nu) * self._expected_log()
            + 0.5 * self.nu * (p.S / self.S - 1)
        )
        return -float(normal.sum() + gamma.sum())

    def _distances(self):
        p = self.prior
        return float((1 / self.beta + self.nu / self.S * (self.m - p.m) ** 2).sum())

    def _with_best_scale(self, prior):
        S = prior.nu[0] / (self.nu / self.S).mean(axis=0)
        S = prior.base * np.clip(S / prior.base, *MULTIPLES)
        return replace(prior, S=np.broadcast_to(S, self.S.shape))

    def draw(self, rng):
        d = self.m.shape[1]
        v = np.broadcast_to(self.S / rng.chisquare(self.nu), self.m.shape)
        means = self.m + rng.standard_normal(self.m.shape) * np.sqrt(v / self.beta)
        return Gaussians(means, self.structure(v, no_penalty(d, axes=1)))

    def predictive(self):
        """Each column a Student-t with nu degrees of freedom, independent of the others."""
        return IndependentTs(self.m, self._predictive_scale(), self.nu, learn_df=False)

    def _predictive_scale(self):
        v = self.S / self.nu * (1 + 1 / self.beta)
        return Diag(v, no_penalty(v.shape[1], axes=1))

    def take(self, order):
        rest = {name: getattr(self, name)[order] for name in ("m", "beta", "nu", "S")}
        return replace(self, **rest, prior=self.prior and self.prior.take(order))

    def marginal(self, columns):
        return replace(
            self,
            m=self.m[:, columns],
            beta=self.beta[:, columns],
            nu=self.nu[:, columns],
            S=self.S[:, columns],
            prior=self.prior and self.prior.marginal(columns),
            learnt=(),
        )

    def pack(self, other):
        return np.concatenate(
            [
                (self.cov.whiten(other.m - self.m)).ravel(),
                np.log(other.beta / self.beta).ravel(),
                np.log(other.nu / self.nu).ravel(),
                np.log(other.S / self.S).ravel(),
            ]
        )

    def unpack(self, vector):
        sizes = np.cumsum([self.m.size, self.m.size, self.nu.size])
        m, beta, nu, S = np.split(vector, sizes)
        return replace(
            self,
            m=self.m + self.cov.colour(m.reshape(self.m.shape)),
            beta=self.beta * np.exp(beta.reshape(self.m.shape)),
            nu=self.nu * np.exp(nu.reshape(self.nu.shape)),
            S=self.S * np.exp(S.reshape(self.S.shape)),
        )


@dataclass(frozen=True)
class NormalSharedGammas(NormalGammas):
    """q(mu_k, l_k) = Gamma(l_k; nu_k / 2, S_k / 2) prod_j N(mu_kj; m_kj, 1 / (beta_kj l_k))."""

    structure = Spherical

    @staticmethod
    def shapes(K, d):
        return (K, d), (K,)

    @property
    def degrees(self):
        return self.nu[:, 0]

    @classmethod
    def _gammas(cls, values):
        return values[:, :1]

    @staticmethod
    def _pooled(per_column):
        return per_column.sum(axis=1, keepdims=True)

    def predictive(self):
        """Student-t with nu degrees of freedom: the columns share the scale that is not known."""
        return StudentTs(self.m, self._predictive_scale(), self.nu[:, 0], learn_df=False)

    def marginal(self, columns):
        return replace(
            self,
            m=self.m[:, columns],
            beta=self.beta[:, columns],
            prior=self.prior and self.prior.marginal(columns),
            learnt=(),
        )


def log_gamma_normaliser(nu, S):
    """Of Gamma(nu / 2, S / 2)."""
    return nu / 2 * np.log(S / 2) - gammaln(nu / 2)
