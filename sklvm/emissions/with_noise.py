"""Any emission with one more component: a broad density that is never fitted."""

from dataclasses import dataclass, replace

import numpy as np

from .base import Emission
from .independent import Independent, between
from .statistics import Statistics
from .sweep import Sweep

SHARE = 0.3  # of every row that a start leaves to the noise: much, so that clusters may shrink


@dataclass(frozen=True)
class ClusterStats(Statistics):
    """The statistics of all components but the last, which needs none."""

    clusters: Statistics

    def take(self, order):
        return ClusterStats(self.clusters.take(order[:-1]))


class NoiseSweep(Sweep):
    """The pass of the clusters; responsibilities for the noise change no parameter."""

    def __init__(self, clusters, noise, offset):
        self._clusters, self._noise, self._offset = clusters, noise, offset
        self.rows = clusters.rows

    def block(self, X):
        joint, sums = self._clusters.block(X)
        noise = self._noise.log_prob(X) + self._offset
        return np.concatenate([joint, noise], axis=1), lambda resp: sums(resp[:, :-1])

    def total(self, sums, log_likelihood):
        stats, log_likelihood = self._clusters.total(sums, log_likelihood)
        return ClusterStats(stats), log_likelihood


@dataclass(frozen=True)
class WithNoise(Emission):
    """K clusters, and noise that takes the rows that none of them explains (Banfield & Raftery).

    What passes over the same rows could share (`known`) is left out: it would count on clusters
    that share every row among themselves.
    """

    clusters: Emission  # K
    noise: Emission  # 1

    n_noise = 1

    def _each(self, question):
        return [question(self.clusters), question(self.noise)]

    @property
    def base_measure(self):  # type: ignore[override]
        return self.clusters.base_measure

    @property
    def groups(self):
        return self.clusters.groups

    @property
    def kind(self):
        return f"{self.clusters.kind} and noise"

    @property
    def df(self):
        """(K,) degrees of freedom of the clusters, where these are Student-t."""
        return self.clusters.df  # type: ignore[attr-defined]

    def check(self, X):
        self.clusters.check(X)

    def log_prob(self, X):
        return np.concatenate(self._each(lambda part: part.log_prob(X)), axis=1)

    def stats(self, X, resp):
        return ClusterStats(self.clusters.stats(X, resp[:, :-1]))

    def sweep(self, offset=0.0, known=None):
        offset = np.zeros(len(self.expectation())) + offset
        return NoiseSweep(self.clusters.sweep(offset[:-1]), self.noise, offset[-1])

    def m_step(self, stats):
        return replace(self, clusters=self.clusters.m_step(stats.clusters))

    def shared(self, resp):
        """A start leaves the same small share of every row to the noise: (n, K) -> (n, K + 1)."""
        noise = SHARE * resp.sum(axis=1, keepdims=True)
        return np.concatenate([(1 - SHARE) * resp, noise], axis=1)

    def start(self, X, resp):
        return replace(self, clusters=self.clusters.start(X, resp[:, :-1]))

    def log_prior(self):
        return self.clusters.log_prior()

    def predictive(self):
        return replace(self, clusters=self.clusters.predictive())

    def sample(self, z, rng):
        return self._of_component(z, lambda part, rows, z: part.sample(z, rng))

    def complete(self, X):
        return np.concatenate(self._each(lambda part: part.complete(X)), axis=1)

    def complete_sample(self, X, z, rng):
        return self._of_component(z, lambda part, rows, z: part.complete_sample(X[rows], z, rng))

    def _of_component(self, z, draw):
        """Rows that each side draws for the latents of its own: (n,) -> (n, d)."""
        K, d = self.clusters.expectation().shape
        drawn = np.empty((len(z), d))
        for part, rows, first in ((self.clusters, z < K, 0), (self.noise, z == K, K)):
            if rows.any():
                drawn[rows] = draw(part, rows, z[rows] - first)
        return drawn

    def climb(self, x, missing, resp):
        return self.clusters.climb_within(self, x, missing, resp)

    def cdf(self, X):
        return np.concatenate(self._each(lambda part: part.cdf(X)), axis=1)

    def expectation(self):
        return np.concatenate(self._each(lambda part: part.expectation()))

    @property
    def means(self):
        """(K + 1, d), as `climb_within` of Gaussians asks."""
        return self.expectation()

    def precisions(self, X):
        """(n, K + 1, d, d), as `climb_within` of Gaussians asks."""
        return _side_by_side(*self._each(lambda part: part.precisions(X)))

    def candidates(self):
        """As `climb_within` of independent columns asks."""
        grids = np.concatenate(self._each(lambda part: part.candidates()))
        return np.union1d(grids, between(grids))

    highest = Independent.highest

    def take(self, order):
        return replace(self, clusters=self.clusters.take(order[:-1]))

    def marginal(self, columns):
        return WithNoise(*self._each(lambda part: part.marginal(columns)))

    def condition(self, seen, values):
        return WithNoise(*self._each(lambda part: part.condition(seen, values)))

    def conditional_moments(self, X, seen, targets):
        (means, S), (mean, V) = self._each(lambda p: p.conditional_moments(X, seen, targets))
        return np.concatenate([means, mean], axis=1), _side_by_side(S, V)

    def pack(self, other):
        return self.clusters.pack(other.clusters)

    def unpack(self, vector):
        return replace(self, clusters=self.clusters.unpack(vector))

    @property
    def spec(self):
        return self.clusters.spec

    @property
    def n_parameters(self):
        return self.clusters.n_parameters


def _side_by_side(S, V):
    """Matrices of the clusters and of the noise: (n or 1, K, d, d), (n or 1, 1, d, d)."""
    n = max(len(S), len(V))
    both = [np.broadcast_to(part, (n, *part.shape[1:])) for part in (S, V)]
    return np.concatenate(both, axis=1)
