"""A mixture within each component: the parts of all components are one emission of K M parts."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .base import Emission
from .bisection import bisected
from .simplex import Point
from .statistics import Statistics
from .sweep import Sweep


@dataclass(frozen=True)
class NestedStats(Statistics):
    """How often each part was meant, and the statistics of the parts: they add."""

    counts: np.ndarray  # (K, M)
    parts: Statistics

    def take(self, order):
        places = parts_of(order, self.counts.shape[1])
        return NestedStats(self.counts[order], self.parts.take(places))


class NestedSweep(Sweep):
    """The pass of all parts; a component's responsibility is shared out among its own."""

    def __init__(self, parts, K, offset):
        self._parts, self.rows = parts, parts.rows
        self._offset = np.zeros((K, 1)) + np.reshape(offset, (-1, 1))

    def block(self, X):
        joint, sums = self._parts.block(X)
        log_prob, within = folded(joint, len(self._offset))

        def statistics(resp):
            inner = within * resp.T[:, None]  # (K, M, n)
            return NestedStats(inner.sum(axis=2), sums(inner.reshape(-1, len(X)).T))

        return (log_prob + self._offset).T, statistics

    def total(self, sums, log_likelihood):
        stats, log_likelihood = self._parts.total(sums.parts, log_likelihood)
        return NestedStats(sums.counts, stats), log_likelihood


def folded(joint, K):
    """log p(x, part | component) (n, K M) -> log p(x | component) (K, n), p(part | x) (K, M, n)."""
    inner = joint.T.reshape(K, -1, len(joint))
    peak = inner.max(axis=1)
    peak[~np.isfinite(peak)] = 0.0  # a row that no part explains
    within = np.exp(inner - peak[:, None])
    total = within.sum(axis=1)
    with np.errstate(divide="ignore"):
        log_prob = np.log(total) + peak
    impossible = total == 0
    within += impossible[:, None]
    within /= np.where(impossible, inner.shape[1], total)[:, None]
    return log_prob, within


def parts_of(components, M):
    """Where the M parts of some components are among all parts: (k,) -> (k M,)."""
    return (np.asarray(components)[:, None] * M + np.arange(M)).ravel()


@dataclass(frozen=True)
class NestedMixtures(Emission):
    """p(x | z = k) = sum_m weights_km p(x | part m of k); part m of k is `parts`' k M + m."""

    weights: Point  # (K, M)
    parts: Any  # Emission, K M

    @property
    def base_measure(self):  # type: ignore[override]
        return self.parts.base_measure

    @property
    def groups(self):
        return self.parts.groups

    @property
    def _shape(self):
        """K and M."""
        return self.weights.mean.shape

    def _log_weights(self):
        return self.weights.log_prob().ravel()

    def _folded(self, X):
        return folded(self.parts.log_prob(X) + self._log_weights(), len(self.weights.mean))

    def _within(self, X):
        """p(part | x_seen, component): (n, d) -> (K, M, n)."""
        return self._folded(X)[1]

    def check(self, X):
        self.parts.check(X)

    def log_prob(self, X):
        return self._folded(X)[0].T

    def stats(self, X, resp):
        sweep = self.sweep()
        return sweep.total(sweep.block(X)[1](resp), 0.0)[0]

    def sweep(self, offset=0.0, known=None):
        parts = self.parts.sweep(self._log_weights(), known)
        return NestedSweep(parts, len(self.weights.mean), offset)

    def known(self, X, weight, total):
        return self.parts.known(X, weight, total)

    def m_step(self, stats):
        return replace(
            self, weights=self.weights.m_step(stats.counts), parts=self.parts.m_step(stats.parts)
        )

    def start(self, X, resp):
        """Every component's rows bisected into its parts, the widest part first."""
        K, M = self._shape
        inner = np.zeros((len(X), K, M))
        for k in range(K):
            rows = np.flatnonzero(resp[:, k] > 0)
            x = X[rows]
            if np.isnan(x).any():
                x = self.take([k]).complete(x)[:, 0]
            inner[rows, k, bisected(x, resp[rows, k], M)] = resp[rows, k]
        weights = self.weights.m_step(inner.sum(axis=0))
        return replace(self, weights=weights, parts=self.parts.start(X, inner.reshape(len(X), -1)))

    def log_prior(self):
        return self.parts.log_prior()

    def sample(self, z, rng):
        return self.parts.sample(self._drawn(self.weights.mean[z], z, rng), rng)

    def _drawn(self, share, z, rng):
        """A part of each row's component: shares (n, M), components (n,) -> (n,)."""
        below = np.cumsum(share, axis=1)[:, :-1] <= rng.uniform(size=(len(z), 1))
        return z * share.shape[1] + below.sum(axis=1)

    def complete(self, X):
        parts = self.parts.complete(X).reshape(len(X), *self._shape, -1)
        mean = np.einsum("kmn,nkmd->nkd", self._within(X), parts)
        return np.where(np.isnan(X)[:, None], mean, X[:, None])

    def complete_sample(self, X, z, rng):
        share = self._within(X)[z, :, np.arange(len(X))]
        return self.parts.complete_sample(X, self._drawn(share, z, rng), rng)

    def climb(self, x, missing, resp):
        inner = self._within(x) * resp.T[:, None]
        return self.parts.climb(x, missing, inner.reshape(-1, len(x)).T)

    def unfolded(self, log_weights):
        """The same mixture with the parts as its components."""
        inner = log_weights[..., None] + self.weights.log_prob()
        return self.parts.unfolded(inner.reshape(len(log_weights), -1))

    def expectation(self):
        return self._averaged(self.parts.expectation())

    def _averaged(self, values):
        """Averages over the parts of each component: (..., K M, d) -> (..., K, d)."""
        values = values.reshape(*values.shape[:-2], *self._shape, values.shape[-1])
        return np.einsum("km,...kmd->...kd", self.weights.mean, values)

    def cdf(self, X):
        return self._averaged(self.parts.cdf(X))

    def conditional_moments(self, X, seen, targets):
        """E and Cov of target columns given seen ones: -> (n, K, t), (n, K, t, t)."""
        share = np.moveaxis(self.marginal(seen)._within(X[:, seen]), 2, 0)  # (n, K, M)
        means, covariances = self.parts.conditional_moments(X, seen, targets)
        means = means.reshape(*share.shape, -1)
        covariances = covariances.reshape(len(covariances), *self._shape, *covariances.shape[2:])
        mean = np.einsum("nkm,nkmt->nkt", share, means)
        gap = means - mean[:, :, None]
        covariances = np.broadcast_to(covariances, (*share.shape, *covariances.shape[3:]))
        within = np.einsum("nkm,nkmst->nkst", share, covariances)
        return mean, within + np.einsum("nkm,nkms,nkmt->nkst", share, gap, gap)

    def condition(self, seen, values):
        share = self.marginal(seen)._within(values[None])[:, :, 0]
        return replace(self, weights=Point(share), parts=self.parts.condition(seen, values))

    def take(self, order):
        places = parts_of(order, self._shape[1])
        weights = Point(self.weights.mean[order])
        return replace(self, weights=weights, parts=self.parts.take(places))

    def marginal(self, columns):
        return replace(self, parts=self.parts.marginal(columns))

    def pack(self, other):
        return np.concatenate([self.weights.pack(other.weights), self.parts.pack(other.parts)])

    def unpack(self, vector):
        weights, parts = np.split(vector, [self.weights.mean.size])
        return replace(self, weights=self.weights.unpack(weights), parts=self.parts.unpack(parts))

    @property
    def kind(self):
        return f"mixtures of {self._shape[1]} {self.parts.kind}"

    @property
    def n_parameters(self):
        return self.weights.n_parameters + self.parts.n_parameters
