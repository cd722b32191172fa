"""Exact inference in hidden Markov chains over stacked, ragged sequences: pure functions of arrays.

z_1 ~ pi, z_t ~ A[z_{t-1}], and log_b[t, k] = log p(x_t | z_t = k), zeros where nothing was seen.
Sequence s has the rows starts[s] to starts[s + 1]. pi and the rows of A may hold zeros and may sum
to less than one; log_b may hold -inf. A sequence that the chain cannot make has a log-likelihood of
-inf, no states (probabilities of 0, paths of -1) and no part in what is counted. `log_b` is an
(N, K) array, or a function that returns it for a slice of rows, which is asked block by block.

Rabiner (1989), "A tutorial on hidden Markov models and selected applications in speech
recognition", section III.
"""

from typing import Any, NamedTuple

import numpy as np

from .chain_blocks import MAX_MEMORY, Task, walk_all
from .chain_recursions import MaxPlus, Scaled


class Counts(NamedTuple):
    """What an E-step says of a chain."""

    log_likelihood: np.ndarray  # (S,)
    first: np.ndarray  # (K,) expected starts: sum of weight p(z_1 = k | x)
    xi: np.ndarray  # (K, K) expected moves: sum of weight p(z_{t-1} = i, z_t = j | x)
    stats: Any  # the sum of what became of weight p(z_t | x); None without rows


class Smoothed(NamedTuple):
    """States given whole sequences."""

    log_likelihood: np.ndarray  # (S,)
    gamma: np.ndarray  # (N, K) weight p(z_t = k | x)
    first: np.ndarray  # (K,)
    xi: np.ndarray  # (K, K)


class Filtered(NamedTuple):
    """States given the past."""

    log_likelihood: np.ndarray  # (S,)
    probs: np.ndarray  # (N, K) p(z_t = k | x_1..t)
    log_density: np.ndarray  # (N,) log p(x_t | x_<t)


class Decoded(NamedTuple):
    """The most probable paths."""

    log_joint: np.ndarray  # (S,) log p(x, z)
    path: np.ndarray  # (N,) z


def sweep(
    emit,
    starts,
    pi,
    A,
    weight=None,
    *,
    rows=None,
    max_memory=MAX_MEMORY,
    ask_once=False,
    recursion=Scaled,
):
    """The E-step of a chain, block by block.

    Parameters
    ----------
    emit : callable
        emit(slice of rows) -> log_b (n, K), which is overwritten, and a function that makes values
        that add of weight p(z_t | x) (n, K), an array that is used again. Short sequences ask once
        for each row; one that fills several blocks twice (for the second half of the answer alone,
        while its blocks fit in `max_memory`).
    starts : (S + 1,) array of int
    pi, A : (K,) and (K, K) arrays
    weight : (S,) array or None
        Weights of the sequences.
    rows : int or None
        Rows in a block; None: what fits in the cache.
    max_memory : float
        Bytes for what is kept of one sequence, about 16 K a step. What does not fit is worked out
        twice.
    ask_once : bool
        Keep the functions of `emit` with the blocks that are kept: for emissions that are slow.
    recursion : {Scaled, Logarithmic}
        `Scaled` leaves to `Logarithmic` the sequences that it cannot do exactly.

    Returns
    -------
    Counts
    """
    starts = np.asarray(starts, np.int64)
    weight = np.ones(len(starts) - 1) if weight is None else np.array(weight, np.float64)
    task = _Smooth(weight, len(pi))
    settings = {"rows": rows, "max_memory": max_memory, "ask_once": ask_once}
    log_likelihood = walk_all(recursion(pi, A), emit, task, starts, **settings)
    return Counts(log_likelihood, task.first, task.xi, task.stats)


class _Smooth(Task):
    """Expected states, starts and moves."""

    def __init__(self, weight, K):
        self._weight, self._gamma = weight, np.empty((0, K))
        self.first, self.xi, self.stats = np.zeros(K), np.zeros((K, K)), None

    def back(self, recursion, block, piece, span, consume, following):
        if len(self._gamma) < len(piece):
            self._gamma = np.empty_like(block.alpha)
        gamma = self._gamma[: len(piece)]
        weight = self._weight[span]
        xi, following = recursion.backward(block, piece, weight, gamma, following)
        self.xi += xi
        self.first += gamma[piece.beginnings()].sum(axis=0)
        part = consume(gamma)
        self.stats = part if self.stats is None else self.stats + part
        return following


def forward_backward(log_b, starts, pi, A, weight=None, *, recursion=Scaled):
    """p(z_t | x) of all rows, expected starts and moves: -> Smoothed.

    >>> result = forward_backward(np.zeros((3, 2)), [0, 3], [1.0, 0.0], [[0.5, 0.5], [0.0, 1.0]])
    >>> result.gamma.tolist()
    [[1.0, 0.0], [0.5, 0.5], [0.25, 0.75]]
    >>> result.xi.tolist()
    [[0.75, 0.75], [0.0, 0.5]]
    """
    gamma = np.zeros((starts[-1], len(pi)))

    def store_at(rows):
        def store(values):
            gamma[rows] = values
            return 0

        return store

    emit = _emit(log_b, store_at)
    counts = sweep(emit, starts, pi, A, weight, recursion=recursion)
    return Smoothed(counts.log_likelihood, gamma, counts.first, counts.xi)


def _emit(log_b, consume=lambda rows: True):
    """An array, or a function of slices, as `sweep` asks for it."""
    ask = log_b if callable(log_b) else lambda rows: np.array(log_b[rows], order="F")
    return lambda rows: (ask(rows), consume(rows))


def _walk(recursion, log_b, starts, task, max_memory):
    settings = {"rows": None, "max_memory": max_memory, "ask_once": True}
    return walk_all(recursion, _emit(log_b), task, starts, **settings)


def evidence(log_b, starts, pi, A, *, recursion=Scaled):
    """log p(x) of each sequence, of which no row is kept: -> (S,).

    >>> evidence(np.log([[0.5, 0.1], [0.5, 0.1]]), [0, 2], [1.0, 0.0], np.eye(2)).round(3).tolist()
    [-1.386]
    """
    return _walk(recursion(pi, A), log_b, np.asarray(starts, np.int64), _Score(), 0)


class _Score(Task):
    """Log-likelihoods alone: no way back."""

    turns = False


def forward(log_b, starts, pi, A, *, recursion=Scaled):
    """p(z_t | x_1..t) and log p(x_t | x_<t) of all rows: -> Filtered.

    >>> result = forward(np.log([[0.5, 0.1], [0.5, 0.1]]), [0, 2], [0.5, 0.5], np.eye(2))
    >>> np.exp(result.log_density).round(3).tolist()
    [0.3, 0.433]
    """
    starts = np.asarray(starts, np.int64)
    task = _Filter(starts[-1], len(pi))
    log_likelihood = _walk(recursion(pi, A), log_b, starts, task, 0)
    return Filtered(log_likelihood, task.probs, task.log_density)


class _Filter(Task):
    """States given the past: no way back."""

    turns = False

    def __init__(self, N, K):
        self.probs, self.log_density = np.empty((N, K)), np.empty(N)

    def ahead(self, recursion, block, piece):
        self.probs[piece.rows], self.log_density[piece.rows] = recursion.filtered(block)


def backward_sample(log_b, starts, pi, A, u, *, max_memory=MAX_MEMORY, recursion=Scaled):
    """Paths drawn from p(z | x), by filtering forward and drawing backward: u (m, N) -> (m, N).

    u are uniform numbers in [0, 1), one for each step of each draw. Chib (1996), "Calculating
    posterior distributions and modal estimates in Markov mixture models".
    """
    starts = np.asarray(starts, np.int64)
    task = _Draw(u)
    log_likelihood = _walk(recursion(pi, A), log_b, starts, task, max_memory)
    return _without_impossible(task.paths, log_likelihood, starts)


class _Draw(Task):
    """Paths from the posterior."""

    def __init__(self, u):
        self._u, self.paths = u, np.full(u.shape, -1)

    def back(self, recursion, block, piece, span, consume, after):
        after = np.full(len(self._u), -1) if after is None else after
        u = np.array(self._u[:, piece.rows], np.float64, order="C")
        self.paths[:, piece.rows] = recursion.draw(block, piece, u, after)
        return after


def viterbi(log_b, starts, pi, A, *, max_memory=MAX_MEMORY):
    """The most probable paths; ties go to the lower state, from the last step back: -> Decoded.

    >>> result = viterbi(np.log([[0.9, 0.1], [0.4, 0.6]]), [0, 2], [0.5, 0.5], [[0.9, 0.1], [0, 1]])
    >>> result.path.tolist(), np.exp(result.log_joint).round(3).tolist()
    ([0, 0], [0.162])
    """
    starts = np.asarray(starts, np.int64)
    task = _Decode(starts[-1])
    log_joint = _walk(MaxPlus(pi, A), log_b, starts, task, 2 * max_memory)  # one array of the two
    return Decoded(log_joint, _without_impossible(task.path, log_joint, starts))


class _Decode(Task):
    """The most probable paths."""

    def __init__(self, N):
        self.path = np.full(N, -1)

    def back(self, recursion, block, piece, span, consume, after):
        after = np.full(1, -1) if after is None else after
        recursion.trace(block, piece, after, self.path[piece.rows])
        return after


def _without_impossible(paths, log_prob, starts):
    """-1 in the rows of sequences that no path explains: (..., N) -> (..., N)."""
    paths[..., np.repeat(np.isneginf(log_prob), np.diff(starts))] = -1
    return paths


def predict_ahead(probs, A, horizon):
    """p(z_{t+h} | x_1..t) for h = 1 to horizon: (..., K), (K, K) -> (horizon, ..., K).

    >>> predict_ahead(np.array([1.0, 0.0]), np.array([[0.5, 0.5], [0.0, 1.0]]), 2).tolist()
    [[0.5, 0.5], [0.25, 0.75]]
    """
    ahead = np.empty((horizon, *np.shape(probs)))
    for h in range(horizon):
        probs = ahead[h] = probs @ A
    return ahead
