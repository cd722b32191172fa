"""p(z_1..T | x) of sequences as a value: what `posterior(X)` of a hidden Markov model returns."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import xlogy

from .inference.blocks import blocks
from .inference.randomness import generator
from .numerics import chain

PAIRS = 2**18  # pairs of states that are looked at together


@dataclass(frozen=True)
class ChainPosterior:
    """The states of sequences given their observations: one distribution of paths per sequence.

    Results per step come in the container of the input.

    Attributes
    ----------
    log_likelihood : ndarray of shape (n_sequences,), float64
        log p(x), nats.
    """

    sequences: Any
    startprob: np.ndarray  # (K,)
    transmat: np.ndarray  # (K, K)
    log_b: np.ndarray  # (N, K)
    alpha: np.ndarray  # (N, K) p(z_t | x_1..t)
    gamma: np.ndarray  # (N, K) p(z_t | x)
    log_likelihood: np.ndarray  # (n,)

    @classmethod
    def of(cls, log_b, sequences, startprob, transmat):
        arguments = log_b, sequences.starts, startprob, transmat
        alpha = chain.forward(*arguments).probs
        smoothed = chain.forward_backward(*arguments)
        return cls(
            sequences, startprob, transmat, log_b, alpha, smoothed.gamma, smoothed.log_likelihood
        )

    @property
    def probs(self):
        """p(z_t = k | x) of each step: (T_i, K) per sequence."""
        return self.sequences.restore(self.gamma)

    @property
    def mean(self):
        """The probabilities: the mean of the one-hot states."""
        return self.probs

    def sample(self, n=1, random_state=None):
        """Draw paths (Chib 1996): a list of n, each in the container of the input."""
        u = generator(random_state).uniform(size=(n, len(self.gamma)))
        arguments = self.log_b, self.sequences.starts, self.startprob, self.transmat
        return [self.sequences.restore(path) for path in chain.backward_sample(*arguments, u)]

    def log_prob(self, z):
        """log p(z | x) of paths in the container of the input: -> (n_sequences,)."""
        z = self.sequences.gather(z, "paths")
        with np.errstate(divide="ignore"):
            log_pi, log_A = np.log(self.startprob), np.log(self.transmat)
        steps = self.log_b[np.arange(len(z)), z]
        begins = self._begins()
        steps = steps + np.where(begins, log_pi[z], log_A[np.roll(z, 1), z])
        return self.sequences.sums(steps) - self.log_likelihood

    def entropy(self):
        """-E[log p(z | x)] of whole paths, in nats: (n_sequences,)."""
        return self.prior_and_entropy()[1]

    def kl_to_prior(self):
        """KL(p(z | x) || p(z)) of whole paths, in nats: (n_sequences,)."""
        log_prior, entropy = self.prior_and_entropy()
        return -entropy - log_prior

    def expected_log_likelihood(self):
        """E[log p(x | z)]: (n_sequences,)."""
        log_b = np.where(self.gamma > 0, self.log_b, 0.0)
        return self.sequences.sums((self.gamma * log_b).sum(axis=1))

    def prior_and_entropy(self):
        """E[log p(z)] and the entropy of paths: (n_sequences,), (n_sequences,).

        Read backwards the path is a chain, too: p(z_t | z_(t+1), x) is proportional to
        alpha_t A[:, z_(t+1)], and the entropies of its steps add.
        """
        begins = self._begins()
        ends = np.roll(begins, -1)
        log_prior = np.where(begins, _weighted_log(self.gamma, self.startprob), 0.0)
        entropy = np.where(ends, -xlogy(self.gamma, self.gamma).sum(axis=1), 0.0)
        later, K = np.flatnonzero(~begins), self.gamma.shape[1]
        for some in blocks(len(later), max(1, PAIRS // K**2)):
            t = later[some]
            pairs = self.alpha[t - 1, :, None] * self.transmat  # (n, K, K)
            total = pairs.sum(axis=1, keepdims=True)
            back = pairs / np.where(total > 0, total, 1.0)  # p(z_(t-1) | z_t, x_<t)
            pairs = back * self.gamma[t, None, :]
            log_prior[t] = _weighted_log(pairs, self.transmat).sum(axis=1)
            entropy[t] -= _weighted_log(pairs, back).sum(axis=1)
        return self.sequences.sums(log_prior), self.sequences.sums(entropy)

    def _begins(self):
        """(N,) which steps begin a sequence."""
        begins = np.zeros(len(self.gamma), bool)
        starts = self.sequences.starts
        begins[starts[:-1][np.diff(starts) > 0]] = True
        return begins


def _weighted_log(weights, p):
    """sum over the last axis of weights log p, where weights are not 0."""
    return xlogy(weights, np.where(weights > 0, p, 1.0)).sum(axis=-1)
