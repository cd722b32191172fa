"""The state of a hidden Markov model: how a chain starts and moves, and what it emits."""

from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .chain_posterior import ChainPosterior
from .emissions.column_sweep import told_block
from .emissions.simplex import PenalisedPoint
from .emissions.statistics import Statistics
from .emissions.sweep import MOST_ROWS
from .inference.blocks import blocks, sum_parts
from .inference.em import EMState
from .inference.modes import joint_modes
from .mixture_state import hold
from .numerics import chain

RUNS = 16  # of sequences, for threads to share


class Chains(NamedTuple):
    """What a fit walks over: the steps of weighted sequences below each other."""

    X: np.ndarray  # (N, d)
    weight: np.ndarray  # (N,) of the steps, 0 where nothing was seen
    starts: np.ndarray  # (S + 1,) sequence s is X[starts[s] : starts[s + 1]]
    counts: np.ndarray  # (S,) weights of the sequences
    labels: "np.ndarray | None" = None  # (N,) known states, -1 where unknown
    max_memory: float = chain.MAX_MEMORY  # bytes for what is kept of one sequence

    @classmethod
    def of(cls, sequences, counts, labels=None, max_memory=chain.MAX_MEMORY):
        weight = sequences.spread(counts) * sequences.observed
        return cls(sequences.steps, weight, sequences.starts, counts, labels, max_memory)

    def reweighted(self, counts):
        """The same sequences with other weights (S,)."""
        weight = np.repeat(counts, np.diff(self.starts)) * (self.weight > 0)
        return self._replace(counts=counts, weight=weight)

    def runs(self, n):
        """Slices of sequences that have about as many steps each, n at most."""
        ends = np.searchsorted(self.starts, self.starts[-1] * np.arange(1, n + 1) / n)
        cuts = np.unique(np.concatenate([[0], ends]))
        return [slice(a, b) for a, b in pairwise(cuts)]


@dataclass(frozen=True)
class ChainStats(Statistics):
    """Expected starts and moves, and the emission's statistics: they add."""

    first: np.ndarray  # (K,)
    moves: np.ndarray  # (K, K)
    emission: Any

    @property
    def counts(self):
        """Expected steps in each state: (K,)."""
        return self.first + self.moves.sum(axis=0)

    def take(self, order):
        """The statistics of the states in another order."""
        moves = self.moves[np.ix_(order, order)]
        return ChainStats(self.first[order], moves, self.emission.take(order))


@dataclass(frozen=True)
class ChainState(EMState):
    """p(x) = sum over z of pi[z_1] prod_t A[z_(t-1), z_t] prod_t p(x_t | z_t).

    What it is asked of are `Sequences` of the channels that vary.
    """

    startprob: PenalisedPoint  # pi (K,)
    transmat: PenalisedPoint  # A (K, K)
    emission: Any  # Emission

    def check(self, X):
        self.emission.check(X)

    @property
    def _chain(self):
        return self.startprob.mean, self.transmat.mean

    def _ask(self, question, sequences):
        """A question of `numerics.chain` about sequences."""
        return question(self._log_b(sequences), sequences.starts, *self._chain)

    def _log_b(self, sequences):
        """log p(x_t seen | z_t = k) for a slice of steps."""
        return lambda rows: self.emission.log_prob(sequences.steps[rows])

    def log_prob(self, sequences):
        """log p(x_seen) of each sequence: -> (n,)."""
        return self._ask(chain.evidence, sequences)

    def log_prob_of_labels(self, chains):
        """log p(z known) of each sequence, 0 where no state is known: -> (S,)."""
        if chains.labels is None:
            return np.zeros(len(chains.counts))
        log_b = np.zeros((len(chains.X), self.n_latents))
        hold(log_b, chains.labels)
        return chain.evidence(log_b, chains.starts, *self._chain)

    def smoothed(self, sequences):
        """p(z_t = k | x) of all steps: -> (N, K)."""
        return self._ask(chain.forward_backward, sequences).gamma

    def filtered(self, sequences):
        """p(z_t = k | x_1..t) and log p(x_t | x_<t) of all steps."""
        return self._ask(chain.forward, sequences)

    def paths(self, sequences):
        """The most probable path of each sequence: -> (N,)."""
        return self._ask(chain.viterbi, sequences).path

    def posterior(self, sequences):
        log_b = self.emission.log_prob(sequences.steps)
        return ChainPosterior.of(log_b, sequences, *self._chain)

    def latent_mean(self, sequences):
        """Expected share of the steps of a sequence in each state, of none its start: (n, K)."""
        steps = sequences.sums(self.smoothed(sequences))
        none = sequences.lengths == 0
        steps[none] = self.startprob.mean
        return steps / np.maximum(sequences.lengths, 1)[:, None]

    # -- expectation-maximisation --------------------------------------------------------------

    def known(self, X, weight, total):
        """What every pass shares: of few rows features, which belong to blocks of rows, are not."""
        seen = weight > 0
        if len(X) <= MOST_ROWS or not seen.any():
            return None
        return self.emission.known(*((X, weight) if seen.all() else (X[seen], weight[seen])), total)

    def walk(self, chains, n_jobs=None, known=None):
        """Expected statistics and log-likelihood of all sequences."""
        sweep = self.emission.sweep(0.0, known)
        runs = chains.runs(1 if n_jobs in (None, 1) else RUNS)
        sums = partial(self._sums, sweep, chains)
        first, moves, emission, log_likelihood = sum_parts(sums, runs, n_jobs)
        emission, log_likelihood = sweep.total(emission, log_likelihood)
        return ChainStats(first, moves, emission), log_likelihood

    def _sums(self, sweep, chains, run):
        """What a run of sequences adds to the statistics, and their weighted log-likelihood."""
        begin, end = chains.starts[run.start], chains.starts[run.stop]
        X, counts = chains.X[begin:end], chains.counts[run]
        labels = None if chains.labels is None else chains.labels[begin:end]
        impartial = np.zeros(self.n_latents)

        def emit(rows):
            log_b, sums = told_block(sweep, X[rows], impartial)
            if labels is not None:
                hold(log_b, labels[rows])
            return log_b, sums

        starts = chains.starts[run.start : run.stop + 1] - begin
        found = chain.sweep(emit, starts, *self._chain, counts, max_memory=chains.max_memory)
        return found.first, found.xi, found.stats, float(counts @ found.log_likelihood)

    def m_step(self, stats):
        return ChainState(
            self.startprob.m_step(stats.first),
            self.transmat.m_step(stats.moves),
            self.emission.m_step(stats.emission),
        )

    def start(self, X, resp):
        """The state whose emission weighted responsibilities (N, K) of steps imply."""
        return replace(self, emission=self.emission.start(X, resp))

    def log_prior(self):
        return self.startprob.log_prior() + self.transmat.log_prior() + self.emission.log_prior()

    # -- what it answers -----------------------------------------------------------------------

    def predictive(self):
        return self

    def elbo_terms(self, sequences):
        """E[log p(x | z)], E[log p(z)], H[z] of each sequence: three (n,)."""
        posterior = self.posterior(sequences)
        return posterior.expected_log_likelihood(), *posterior.prior_and_entropy()

    def sample(self, n, T, rng):
        """n sequences of T steps: -> (n, T, d), (n, T)."""
        z = np.empty((n, T), int)
        moves, before = self.transmat.mean.cumsum(axis=1), self.startprob.mean.cumsum()
        for t in range(T):
            u = rng.uniform(size=(n, 1)) * before[..., -1:]
            z[:, t] = (before[..., :-1] <= u).sum(axis=1)
            before = moves[z[:, t]]
        x = self.emission.sample(z.ravel(), rng)
        return x.reshape(n, T, -1), z

    def step_moments(self, probs):
        """Mean and covariance of a step from probabilities of its state.

        (..., K) -> (..., d), (..., d, d), by the law of total covariance.
        """
        means, d = self.emission.expectation(), self.n_features
        nothing = np.empty(0, int)
        seen = np.full((1, d), np.nan)
        within = self.emission.conditional_moments(seen, nothing, np.arange(d))[1][0]
        within = np.broadcast_to(within, (len(means), d, d))
        mean = probs @ means
        gap = means - mean[..., None, :]  # (..., K, d)
        between = np.einsum("...k,...ki,...kj->...ij", probs, gap, gap)
        return mean, np.einsum("...k,kij->...ij", probs, within) + between

    def fill_mean(self, sequences):
        return self._filled(
            sequences,
            lambda x, gamma: np.einsum("nk,nkd->nd", gamma, self.emission.complete(x)),
            self.smoothed(sequences),
        )

    def fill_mode(self, sequences):
        """Each step at the mode of p(x_t missing | all that was seen)."""
        return self._filled(sequences, self._modes, self.smoothed(sequences))

    def _modes(self, x, gamma):
        with np.errstate(divide="ignore"):
            log_gamma = np.log(gamma)
        elsewhere = np.where(gamma > 0, log_gamma - self.emission.log_prob(x), -np.inf)
        return joint_modes(x, elsewhere, self.emission)

    def fill_sample(self, sequences, rng):
        u = rng.uniform(size=(1, len(sequences.steps)))
        z = self._ask(partial(_drawn, u=u), sequences)
        return self._filled(
            sequences, lambda x, z: self.emission.complete_sample(x, np.maximum(z, 0), rng), z
        )

    @staticmethod
    def _filled(sequences, fill, latents):
        """Steps with gaps filled by fill(steps, latents of these), block by block: (N, d)."""
        whole = sequences.steps.copy()
        holes = np.flatnonzero(np.isnan(whole).any(axis=1))
        for some in blocks(len(holes)):
            rows = holes[some]
            whole[rows] = fill(whole[rows], latents[rows])
        return whole

    def marginal(self, columns):
        return replace(self, emission=self.emission.marginal(columns))

    def take(self, order):
        return ChainState(
            self.startprob.take(order), self.transmat.take(order), self.emission.take(order)
        )

    def pack(self, other):
        parts = ("startprob", "transmat", "emission")
        return np.concatenate([getattr(self, p).pack(getattr(other, p)) for p in parts])

    def unpack(self, vector):
        K = self.n_latents
        first, moves, emission = np.split(vector, [K, K + K * K])
        return ChainState(
            self.startprob.unpack(first),
            self.transmat.unpack(moves),
            self.emission.unpack(emission),
        )

    @property
    def n_parameters(self):
        parts = self.startprob, self.transmat, self.emission
        return sum(part.n_parameters for part in parts)

    @property
    def n_latents(self):
        return len(self.startprob.mean)

    n_clusters = n_latents

    @property
    def n_features(self):
        return self.emission.expectation().shape[1]

    @property
    def base_measure(self):
        return self.emission.base_measure


def _drawn(log_b, starts, pi, A, u):
    return chain.backward_sample(log_b, starts, pi, A, u)[0]
