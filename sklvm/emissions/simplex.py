"""Rows of probabilities: as points, and as posteriors over them (Dirichlet, stick-breaking)."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.special import betaln, digamma, gammaln

from ..numerics.linalg import lowest
from .concentration import (
    CONCENTRATIONS,
    SPARSE,
    best_concentration,
    best_order,
    dirichlet_evidence,
    stick_evidence,
    sums_after,
)


@dataclass(frozen=True)
class Point:
    """Probabilities that EM estimates; a zero stays zero."""

    mean: np.ndarray  # (..., K)

    @property
    def size(self):
        """What components are sorted by: (..., K)."""
        return self.mean

    def log_prob(self):
        if np.count_nonzero(self.mean) == self.mean.size:
            return np.log(self.mean)
        with np.errstate(divide="ignore"):
            return np.log(self.mean)

    def m_step(self, counts):
        total = counts.sum(axis=-1, keepdims=True)
        if lowest(total) > 0:
            return Point(counts / total)
        empty = total <= 0
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
class PenalisedPoint:
    """Probabilities at the mode under a Dirichlet prior: of starts (K,), or of moves (K, K).

    What is not allowed is 0 and no parameter; what has become 0 stays so.
    """

    mean: np.ndarray
    pseudo: np.ndarray  # parameters of the prior, less one: counts that nobody saw; at least 0
    allowed: np.ndarray  # bool

    def log_prob(self):
        return Point(self.mean).log_prob()

    @property
    def weights(self):
        """exp(log_prob())"""
        return self.mean

    def predictive(self):
        return self

    def m_step(self, counts):
        """The mode given counts; a row without any, of either kind, stays as it is."""
        alive = self.mean > 0
        return replace(self, mean=Point(self.mean).m_step(counts + self.pseudo * alive).mean)

    def log_prior(self):
        """Of what is not 0, without constants."""
        alive = self.mean > 0
        return float((self.pseudo * alive * np.log(np.where(alive, self.mean, 1.0))).sum())

    def take(self, order):
        """The states in another order, on every axis."""
        grid = np.ix_(*[order] * self.mean.ndim)
        return PenalisedPoint(self.mean[grid], self.pseudo[grid], self.allowed[grid])

    def pack(self, other):
        return Point(self.mean).pack(other)

    def unpack(self, vector):
        return replace(self, mean=Point(self.mean).unpack(vector).mean)

    @property
    def n_parameters(self):
        return int(self.allowed.sum()) - self.mean.size // self.mean.shape[-1]


@dataclass(frozen=True)
class DirichletRows:
    """q = Dirichlet(alpha) of starts (K,) or of the rows of moves (K, K), where the prior is not 0.

    Beal (2003), Variational algorithms for approximate Bayesian inference, 3.4.
    """

    alpha: np.ndarray
    prior: np.ndarray  # parameters of the prior; 0 is what is not allowed

    @property
    def mean(self):
        return self.alpha / self.alpha.sum(axis=-1, keepdims=True)

    def log_prob(self):
        """E[log p] (Bishop 10.66)."""
        alive = self.prior > 0
        expected = digamma(np.where(alive, self.alpha, 1.0))
        expected -= digamma(self.alpha.sum(axis=-1, keepdims=True))
        return np.where(alive, expected, -np.inf)

    @property
    def weights(self):
        """exp(log_prob()), rows with sums below one."""
        return np.exp(self.log_prob())

    def m_step(self, counts):
        return replace(self, alpha=self.prior + counts * (self.prior > 0))

    def log_prior(self):
        """-KL(q || prior)."""
        alive = self.prior > 0
        gap = np.where(alive, (self.alpha - self.prior) * np.where(alive, self.log_prob(), 0.0), 0)
        return float(
            self._log_normaliser(self.alpha) - self._log_normaliser(self.prior) - gap.sum()
        )

    def _log_normaliser(self, alpha):
        """Sum over rows of log B(alpha), of what is allowed."""
        each = gammaln(np.where(self.prior > 0, alpha, 1.0))
        return (each.sum(axis=-1) - gammaln(alpha.sum(axis=-1))).sum()

    def _point(self, mean):
        return PenalisedPoint(mean, np.zeros_like(mean), self.prior > 0)

    def predictive(self):
        return self._point(self.mean)

    def draw(self, rng):
        """Probabilities drawn from q."""
        gamma = rng.standard_gamma(np.where(self.prior > 0, self.alpha, 0.0))
        return self._point(gamma / gamma.sum(axis=-1, keepdims=True))

    def take(self, order):
        """The states in another order, on every axis."""
        grid = np.ix_(*[order] * self.alpha.ndim)
        return DirichletRows(self.alpha[grid], self.prior[grid])

    def pack(self, other):
        alive = self.prior > 0
        ratio = np.where(alive, other.alpha, 1.0) / np.where(alive, self.alpha, 1.0)
        return np.log(ratio).ravel()

    def unpack(self, vector):
        return replace(self, alpha=self.alpha * np.exp(vector.reshape(self.alpha.shape)))

    @property
    def n_parameters(self):
        return int((self.prior > 0).sum()) - self.alpha.size // self.alpha.shape[-1]


@dataclass(frozen=True)
class Dirichlet:
    """q(pi) = Dirichlet(alpha) against the prior Dirichlet(prior) (Bishop 2006, 10.57)."""

    alpha: np.ndarray  # (..., K)
    prior: np.ndarray  # (..., K)
    learns_prior: bool = False  # by empirical Bayes: one number for all components

    @property
    def mean(self):
        return self.alpha / self.alpha.sum(axis=-1, keepdims=True)

    @property
    def size(self):
        """What components are sorted by: (..., K)."""
        return self.mean

    @property
    def counts(self):
        """Rows that spoke for each component: (..., K)."""
        return self.alpha - self.prior

    @property
    def concentrations(self):
        """(..., K)"""
        return self.alpha

    @property
    def prior_concentration(self):
        """Of every component, or (..., K) where the prior tells them apart."""
        one = self.prior.ravel()[0]
        return float(one) if (self.prior == one).all() else self.prior

    def log_prob(self):
        """E[log pi] (Bishop 10.66)."""
        return digamma(self.alpha) - digamma(self.alpha.sum(axis=-1, keepdims=True))

    def m_step(self, counts):
        prior = self.prior
        if self.learns_prior:
            evidence = partial(dirichlet_evidence, counts)
            prior = np.full(prior.shape, best_concentration(evidence, prior.ravel()[0], SPARSE))
        return replace(self, alpha=prior + counts, prior=prior)

    def resuming(self, other):
        """This prior, with what another posterior has learnt."""
        prior = other.prior if self.learns_prior else self.prior
        return replace(self, alpha=prior, prior=prior)

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


@dataclass(frozen=True)
class StickBreaking:
    """Truncated Dirichlet process: pi at the j-th stick is v_j prod_i<j (1 - v_i), the last v is 1.

    q(v_j) = Beta(a_j, b_j) against Beta(1, concentration) (Blei & Jordan 2006). Which component
    breaks which stick is a parameter too, found with the others; components keep their places.
    """

    a: np.ndarray  # (K,) in the order of the sticks
    b: np.ndarray  # (K,) the last is 0: what is left
    order: np.ndarray  # (K,) the component at each stick
    concentration: float
    learns_prior: bool = False

    @classmethod
    def unseen(cls, K, concentration, learns_prior=False):
        """The prior."""
        return cls._of(np.zeros(K), np.arange(K), concentration, learns_prior)

    @classmethod
    def _of(cls, counts, order, concentration, learns_prior):
        """The posterior of counts (K,) with the sticks in this order."""
        sorted_counts = counts[order]
        b = concentration + sums_after(sorted_counts)
        b[-1] = 0.0
        return cls(1 + sorted_counts, b, order, concentration, learns_prior)

    def _by_component(self, values):
        unsorted = np.empty(len(values))
        unsorted[self.order] = values
        return unsorted

    @property
    def mean(self):
        """Products of expected sticks, which are independent: (K,)."""
        v = self.a / (self.a + self.b)
        return self._by_component(v * np.concatenate([[1.0], np.cumprod(1 - v[:-1])]))

    @property
    def size(self):
        """What components are sorted by: the places of their sticks."""
        K = len(self.order)
        return self._by_component(1 - np.arange(K) / K)

    @property
    def counts(self):
        """Rows that spoke for each component: (K,)."""
        return self._by_component(self.a - 1)

    @property
    def concentrations(self):
        """a and b of the stick that each component is: (K,), (K,); b = 0 where all is left."""
        return self._by_component(self.a), self._by_component(self.b)

    @property
    def prior_concentration(self):
        """Of each stick but the last: Beta(1, this)."""
        return self.concentration

    def _expected_logs(self):
        """E[log v] and E[log (1 - v)] of all sticks but the last."""
        a, b = self.a[:-1], self.b[:-1]
        total = digamma(a + b)
        return digamma(a) - total, digamma(b) - total

    def log_prob(self):
        """E[log pi]"""
        taken, left = self._expected_logs()
        before = np.concatenate([[0.0], np.cumsum(left)])
        return self._by_component(np.append(taken, 0.0) + before)

    def m_step(self, counts):
        concentration = self.concentration
        order = best_order(counts, concentration)
        if self.learns_prior and len(order) > 1:
            evidence = partial(stick_evidence, counts[order])
            concentration = best_concentration(evidence, concentration, CONCENTRATIONS)
        return self._of(counts, order, concentration, self.learns_prior)

    def resuming(self, other):
        """This prior, with what another posterior has learnt."""
        source = other if self.learns_prior else self
        return self.unseen(len(self.a), source.concentration, self.learns_prior)

    def log_prior(self):
        """-KL(q || prior)."""
        a, b, g = self.a[:-1], self.b[:-1], self.concentration
        taken, left = self._expected_logs()
        gap = (a - 1) * taken + (b - g) * left
        return float((betaln(a, b) - betaln(1.0, g) - gap).sum())

    def predictive(self):
        return Point(self.mean)

    def draw(self, rng):
        """Probabilities drawn from q."""
        v = np.append(rng.beta(self.a[:-1], self.b[:-1]), 1.0)
        return Point(self._by_component(v * np.concatenate([[1.0], np.cumprod(1 - v[:-1])])))

    def take(self, order):
        place = np.empty(len(order), int)
        place[order] = np.arange(len(order))
        return replace(self, order=place[self.order])

    def pack(self, other):
        """The counts of another value, at the sticks of this one."""
        return np.log((1 + other.counts[self.order]) / self.a)

    def unpack(self, vector):
        counts = self._by_component(np.maximum(self.a * np.exp(vector) - 1, 0.0))
        return self._of(counts, self.order, self.concentration, self.learns_prior)

    @property
    def n_parameters(self):
        return len(self.a) - 1
