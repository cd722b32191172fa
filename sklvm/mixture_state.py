"""The state of every mixture: weights and an emission, points or posteriors."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .emissions.simplex import Point
from .emissions.statistics import Statistics
from .inference.em import EMState
from .inference.modes import joint_modes
from .numerics.linalg import posterior_and_evidence, weighted_posterior_and_evidence
from .posterior import CategoricalPosterior


@dataclass(frozen=True)
class MixtureStats(Statistics):
    """Expected counts and the emission's statistics: they add."""

    counts: np.ndarray  # (K,)
    emission: Any


def hold(joint, labels):
    """Leave no other latent possible where it is known, in place: (n, K), (n,) -1 unknown."""
    known = labels >= 0
    held = np.eye(joint.shape[1], dtype=bool)[labels[known]]
    joint[known] = np.where(held, joint[known], -np.inf)


class MixtureSweep:
    """The E-step of one state over blocks of rows."""

    def __init__(self, emission):
        self._emission, self.rows = emission, emission.rows

    def e_step(self, X, weight, labels=None):
        """Expected counts, the emission's sums and the weighted log-likelihood of a block."""
        joint, sums = self._emission.block(X)
        if labels is not None:
            hold(joint, labels)
        resp, evidence = weighted_posterior_and_evidence(joint, weight)
        return resp.sum(axis=0), sums(resp), weight @ evidence

    def total(self, counts, sums, log_likelihood):
        """What the sums over blocks say: statistics and log-likelihood."""
        stats, log_likelihood = self._emission.total(sums, log_likelihood)
        return MixtureStats(counts, stats), log_likelihood


@dataclass(frozen=True)
class MixtureState(EMState):
    """p(x) = sum_k weights_k p(x | z = k); with posteriors as weights and emission, its bound."""

    weights: Any  # Simplex
    emission: Any  # Emission

    def check(self, X):
        self.emission.check(X)

    def joint(self, X):
        """log p(x_seen, z = k): (n, d) -> (n, K)."""
        return self.weights.log_prob() + self.emission.log_prob(X)

    def log_prob(self, X):
        """log p(x_seen): (n, d) -> (n,)."""
        return posterior_and_evidence(self.joint(X))[1]

    def responsibilities(self, X):
        """p(z = k | x_seen): (n, d) -> (n, K)."""
        return posterior_and_evidence(self.joint(X))[0]

    def posterior(self, X):
        return CategoricalPosterior(self.responsibilities(X), self.weights.mean)

    def known(self, X, weight, total):
        return self.emission.known(X, weight, total)

    def sweep(self, known=None):
        return MixtureSweep(self.emission.sweep(self.weights.log_prob(), known))

    def e_step(self, X, weight, labels=None):
        """Expected statistics of rows and their weighted log-likelihood; labels -1 are unknown."""
        sweep = self.sweep()
        return sweep.total(*sweep.e_step(X, weight, labels))

    def m_step(self, stats):
        return MixtureState(self.weights.m_step(stats.counts), self.emission.m_step(stats.emission))

    def start(self, X, resp):
        """The state that weighted responsibilities (n, K) of all components imply."""
        weights = self.weights.m_step(resp.sum(axis=0))
        return replace(self, weights=weights, emission=self.emission.start(X, resp))

    def expected(self, stats):
        """E_q[log p(rows, z | parameters)] from expected statistics; posteriors only."""
        return float(stats.counts @ self.weights.log_prob()) + self.emission.expected(
            stats.emission
        )

    def log_prior(self):
        return self.weights.log_prior() + self.emission.log_prior()

    def predictive(self):
        return MixtureState(self.weights.predictive(), self.emission.predictive())

    def elbo_terms(self, X):
        """E[log p(x | z)], E[log p(z)], H[z] under the responsibilities: three (n,)."""
        log_prob, log_weights = self.emission.log_prob(X), self.weights.log_prob()
        resp = posterior_and_evidence(log_prob + log_weights)[0]
        weighted = [
            np.where(resp > 0, resp * np.where(resp > 0, term, 0.0), 0.0).sum(axis=1)
            for term in (log_prob, np.broadcast_to(log_weights, resp.shape))
        ]
        return *weighted, CategoricalPosterior(resp, self.weights.mean).entropy()

    def sample(self, n, rng):
        z = rng.choice(len(self.weights.mean), size=n, p=self.weights.mean)
        return self.emission.sample(z, rng), z

    def expectation(self, Z):
        """E[x | z], mixed by the rows of Z: (n, K) -> (n, d)."""
        return Z @ self.emission.expectation()

    def fill_mean(self, X):
        return np.einsum("nk,nkd->nd", self.responsibilities(X), self.emission.complete(X))

    def fill_mode(self, X):
        return joint_modes(X, self.weights.log_prob(), self.emission)

    def fill_sample(self, X, rng):
        cumulative = np.cumsum(self.responsibilities(X), axis=1)[:, :-1]
        z = (cumulative <= rng.uniform(size=(len(X), 1))).sum(axis=1)
        return self.emission.complete_sample(X, z, rng)

    def marginal(self, columns):
        return replace(self, emission=self.emission.marginal(columns))

    def condition(self, seen, values):
        """p(x_missing | x_seen = values): the weights take the evidence of what is known."""
        log_prob = self.emission.marginal(seen).log_prob(values[None])
        resp = posterior_and_evidence(log_prob + self.weights.log_prob())[0][0]
        return MixtureState(Point(resp), self.emission.condition(seen, values))

    def conditional_moments(self, X, seen, targets):
        """E and Cov of target columns given seen ones, by the law of total covariance."""
        resp = self.marginal(seen).responsibilities(X[:, seen])
        means, covariances = self.emission.conditional_moments(X, seen, targets)
        mean = np.einsum("nk,nkt->nt", resp, means)
        gap = means - mean[:, None]
        within = np.einsum(
            "nk,nkst->nst",
            resp,
            np.broadcast_to(covariances, (*resp.shape, *covariances.shape[2:])),
        )
        return mean, within + np.einsum("nk,nks,nkt->nst", resp, gap, gap)

    def take(self, order):
        return MixtureState(self.weights.take(order), self.emission.take(order))

    def pack(self, other):
        return np.concatenate(
            [self.weights.pack(other.weights), self.emission.pack(other.emission)]
        )

    def unpack(self, vector):
        weights, emission = np.split(vector, [len(self.weights.mean)])
        return MixtureState(self.weights.unpack(weights), self.emission.unpack(emission))

    @property
    def n_parameters(self):
        return self.weights.n_parameters + self.emission.n_parameters

    @property
    def n_latents(self):
        return len(self.weights.mean)

    @property
    def n_clusters(self):
        """Components that are no noise; they come first."""
        return self.n_latents - self.emission.n_noise

    @property
    def n_features(self):
        return self.emission.expectation().shape[1]

    @property
    def base_measure(self):
        return self.emission.base_measure
