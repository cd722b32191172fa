"""Posteriors over probabilities and rates of independent columns: one Beta or Gamma for each."""

from abc import abstractmethod
from dataclasses import dataclass, fields, replace

import numpy as np
from scipy.special import betaln, digamma, gammaln

from .base import Integrated
from .bernoulli import Bernoullis
from .exponential import Exponential
from .independent import Independent
from .negative_binomial import NegativeBinomials
from .poisson import Poissons


@dataclass(frozen=True)
class RatePosterior(Integrated, Exponential):
    """q(theta_kj) conjugate to p(x_j | theta_kj), as if `rows` rows had been seen, of this mean.

    The prior is that of `pseudo` rows of the average `centre`, so that the expected mean is what EM
    finds. log p is linear in x with expected natural parameters, and a missing entry says nothing
    of its column (Bishop 2006, 10.4).
    """

    rows: np.ndarray  # (K, d) seen, and those of the prior

    @classmethod
    def unseen(cls, start):
        """The prior of the components of `start`, which EM begins with."""
        values = {field.name: getattr(start, field.name) for field in fields(start)}
        centre = np.broadcast_to(start.centre, start.mean.shape)
        return cls(**{**values, "mean": centre, "rows": np.full(centre.shape, start.pseudo)})

    @property
    def prior(self):
        """q before any row was seen."""
        return replace(
            self,
            mean=np.broadcast_to(self.centre, self.mean.shape),
            rows=np.full(self.mean.shape, self.pseudo),
        )

    @abstractmethod
    def expected_natural(self):
        """E[eta], E[A]: (K, d), (K, d)."""

    @abstractmethod
    def log_normaliser(self):
        """log of the integral of exp(rows (mean eta - A)) over the conjugate family: (K, d)."""

    @abstractmethod
    def predictive(self) -> Independent:
        """p(x | z = k) averaged over q."""

    @abstractmethod
    def draw(self, rng):
        """The emission at parameters drawn from q."""

    def _point(self, kind, mean):
        return kind(mean, self.pseudo, self.centre)

    def m_step(self, stats):
        return replace(super().m_step(stats), rows=stats.rows + self.pseudo)

    def log_prior(self):
        """-KL(q || prior), summed over components and columns."""
        prior, (eta, A) = self.prior, self.expected_natural()
        total = self.rows * self.mean - prior.rows * prior.mean
        gap = total * eta - (self.rows - prior.rows) * A
        return float((self.log_normaliser() - prior.log_normaliser() - gap).sum())

    def variance(self):
        return self.predictive().variance()

    def take(self, order):
        return replace(super().take(order), rows=self.rows[order])

    def marginal(self, columns):
        return replace(super().marginal(columns), rows=self.rows[:, columns])

    def pack(self, other):
        return np.concatenate([super().pack(other), np.log(other.rows / self.rows).ravel()])

    def unpack(self, vector):
        mean, rows = np.split(vector, 2)
        rows = self.rows * np.exp(rows.reshape(self.rows.shape))
        return replace(super().unpack(mean), rows=rows)


@dataclass(frozen=True)
class Betas(RatePosterior, Bernoullis):
    """q(p_kj) = Beta(rows mean, rows (1 - mean)), for zeros and ones."""

    def _parameters(self):
        return self.rows * self.mean, self.rows * (1 - self.mean)

    def expected_natural(self):
        a, b = self._parameters()
        log_not = digamma(b) - digamma(self.rows)
        return digamma(a) - digamma(b), -log_not

    natural = expected_natural

    def log_normaliser(self):
        return betaln(*self._parameters())

    def predictive(self):
        return self._point(Bernoullis, self.mean)

    def draw(self, rng):
        return self._point(Bernoullis, self._inside(rng.beta(*self._parameters())))


@dataclass(frozen=True)
class Gammas(RatePosterior, Poissons):
    """q(rate_kj) = Gamma(rows mean, rows), for counts; the predictive is negative binomial."""

    @property
    def _shape(self):
        return self.rows * self.mean

    def expected_natural(self):
        return digamma(self._shape) - np.log(self.rows), self.mean

    def natural(self):
        """About the Poisson distribution of all rows, as without a posterior."""
        eta, A = self.expected_natural()
        return eta - np.log(self.centre), A - self.centre

    def log_normaliser(self):
        return gammaln(self._shape) - self._shape * np.log(self.rows)

    def predictive(self):
        spread = self.centre * (1 + 1 / self.pseudo)  # of the prior's predictive
        return NegativeBinomials(self.mean, 1 / self._shape, self.pseudo, self.centre, spread)

    def draw(self, rng):
        rates = rng.standard_gamma(self._shape) / self.rows
        return self._point(Poissons, self._inside(rates))
