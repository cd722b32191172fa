"""Exact inference in hidden Markov chains over stacked, ragged sequences: pure functions of arrays.

z_1 ~ pi, z_t ~ A[z_{t-1}], and log_b[t, k] = log p(x_t | z_t = k), rows of zeros where nothing was
seen. Sequence s has the rows starts[s] to starts[s + 1]. pi and the rows of A may hold zeros and may
sum to less than one. A sequence that the chain cannot make has the log-likelihood -inf, no states
(probabilities of zero, -1 in paths) and no weight in what is counted.

Rabiner (1989), "A tutorial on hidden Markov models and selected applications in speech
recognition", section III.
"""

from typing import Any, NamedTuple

import numpy as np

from .chain_blocks import MAX_MEMORY, Logarithmic, MaxPlus, Scaled, groups, pieces, walk

BLOCK = 2**16  # numbers in a block's array: a few of them stay in the L2 cache
MOST_ROWS = 2048


class Counts(NamedTuple):
    """What the E-step of a chain is for."""

    log_likelihood: np.ndarray  # (S,)
    first: np.ndarray  # (K,) expected starts: sum over sequences of weight p(z_1 | x)
    xi: np.ndarray  # (K, K) expected moves: sum of weight p(z_{t-1} = i, z_t = j | x)
    stats: Any  # the sum of what the emissions made of weight p(z_t | x), None without rows


class Smoothed(NamedTuple):
    """Expected states and moves given whole sequences."""

    log_likelihood: np.ndarray  # (S,)
    gamma: np.ndarray  # (N, K) weight p(z_t = k | x)
    first: np.ndarray  # (K,)
    xi: np.ndarray  # (K, K)


class Filtered(NamedTuple):
    """States given the past."""

    log_likelihood: np.ndarray  # (S,)
    probs: np.ndarray  # (N, K) p(z_t = k | x_1..t)
    log_density: np.ndarray  # (N,) log p(x_t | x_1..t-1)


class Decoded(NamedTuple):
    """The most probable paths."""

    log_joint: np.ndarray  # (S,) max_z log p(x, z)
    path: np.ndarray  # (N,)


def sweep(
    emit, starts, pi, A, weight=None, *, rows=None, max_memory=MAX_MEMORY, held=0, recursion=Scaled
):
    """The E-step of a chain, block by block.

    Parameters
    ----------
    emit : callable
        emit(slice of rows) -> log_b (n, K) and a function of weight p(z_t | x) (n, K) whose values
        add. Each block is asked for once where a sequence fits in `max_memory`, else twice.
    starts : (S + 1,) integers
    pi, A : (K,), (K, K)
    weight : (S,) weights of sequences, or None for ones
    rows : rows of a block, or None for what fits in the cache
    max_memory : bytes for the arrays of one long sequence
    held : numbers per row that the function from `emit` keeps alive
    recursion : `Scaled`, which leaves to logarithms what it cannot do exactly, or `Logarithmic`

    Returns
    -------
    Counts
    """
    starts, S = np.asarray(starts, np.int64), len(starts) - 1
    weight = np.ones(S) if weight is None else np.array(weight, np.float64)
    first, xi, stats = np.zeros(len(pi)), np.zeros((len(pi), len(pi))), None

    def visit(recursion, block, piece, span, following):
        nonlocal stats
        gamma, moves, following = recursion.backward(block, piece, weight[span], following)
        first[:] += gamma[piece.beginnings()].sum(axis=0)
        xi[:] += moves
        part = block.consume(gamma)
        stats = part if stats is None else stats + part
        return following

    rows = rows or _block_rows(len(pi))
    kept = int(max_memory // (8 * rows * (2 * len(pi) + held)))
    log_likelihood = _each_group(recursion, emit, starts, pi, A, visit, rows, kept)
    return Counts(log_likelihood, first, xi, stats)


def _block_rows(K):
    return int(min(MOST_ROWS, max(128, BLOCK // K)))


def _each_group(recursion, emit, starts, pi, A, visit, rows, kept):
    """Log-likelihoods (S,); what fails in one recursion is walked again with logarithms."""
    log_likelihood = np.zeros(len(starts) - 1)
    chain, exact = recursion(pi, A), Logarithmic(pi, A)

    def group(chain, first, last):
        def visit_group(*args):
            return visit(*args[:-1], slice(first, last), args[-1])

        parts = pieces(starts, first, last, rows)
        log_prob, failed = walk(chain, emit, parts, max(kept, 1), visit_group)
        log_likelihood[first:last] = log_prob
        return first + np.flatnonzero(failed)

    for first, last in groups(starts, rows):
        if starts[first] < starts[last]:
            for s in group(chain, first, last):
                group(exact, s, s + 1)
    return log_likelihood


def _rows_of(log_b, consume=None):
    """log_b, an array or a function of slices, as what `sweep` asks for."""
    ask = log_b if callable(log_b) else log_b.__getitem__
    return lambda rows: (ask(rows), consume and consume(rows))


def forward_backward(log_b, starts, pi, A, weight=None, *, recursion=Scaled):
    """p(z_t | x) for all rows, and the expected starts and moves: -> Smoothed.

    log_b is an (N, K) array or a function that returns a slice of its rows.
    """
    gamma = np.zeros((starts[-1], len(pi)))

    def consume(rows):
        def store(values):
            gamma[rows] = values
            return 0

        return store

    counts = sweep(_rows_of(log_b, consume), starts, pi, A, weight, recursion=recursion)
    return Smoothed(counts.log_likelihood, gamma, counts.first, counts.xi)


def forward(log_b, starts, pi, A, *, recursion=Scaled):
    """p(z_t | x_1..t) and log p(x_t | x_1..t-1) for all rows: -> Filtered."""
    starts = np.asarray(starts, np.int64)
    probs, log_density = np.zeros((starts[-1], len(pi))), np.zeros(starts[-1])

    def visit(recursion, block, piece, span, following):
        probs[piece.rows], log_density[piece.rows] = recursion.filtered(block)

    rows = _block_rows(len(pi))
    log_prob = _each_group(recursion, _rows_of(log_b), starts, pi, A, visit, rows, MOST_ROWS)
    return Filtered(log_prob, probs, log_density)


def backward_sample(log_b, starts, pi, A, u, *, recursion=Scaled):
    """Paths from p(z | x), by filtering forward and drawing backward: u (m, N) -> (m, N).

    u are uniform numbers in [0, 1), one for each step of each draw (Frühwirth-Schnatter 2006,
    algorithm 11.5).
    """
    starts = np.asarray(starts, np.int64)
    paths = np.full(u.shape, -1)

    def visit(recursion, block, piece, span, after):
        after = np.full(len(u), -1) if after is None else after
        some, drawn = np.ascontiguousarray(u[:, piece.rows]), paths[:, piece.rows].copy()
        recursion.draw(block, piece, some, after, drawn)
        paths[:, piece.rows] = drawn
        return after

    rows = _block_rows(len(pi))
    kept = int(MAX_MEMORY // (16 * rows * len(pi)))
    log_prob = _each_group(recursion, _rows_of(log_b), starts, pi, A, visit, rows, kept)
    paths[:, np.repeat(np.isneginf(log_prob), np.diff(starts))] = -1
    return paths


def viterbi(log_b, starts, pi, A, *, max_memory=MAX_MEMORY):
    """The most probable paths; ties go to the lower state, from the last step back: -> Decoded."""
    starts = np.asarray(starts, np.int64)
    path = np.full(starts[-1], -1)

    def visit(recursion, block, piece, span, after):
        after = np.full(1, -1) if after is None else after
        recursion.trace(block, piece, after, path[piece.rows])
        return after

    rows = _block_rows(len(pi))
    kept = int(max_memory // (8 * rows * len(pi)))
    log_joint = _each_group(MaxPlus, _rows_of(log_b), starts, pi, A, visit, rows, kept)
    path[np.repeat(np.isneginf(log_joint), np.diff(starts))] = -1
    return Decoded(log_joint, path)


def predict_ahead(probs, A, horizon):
    """p(z_{t+h} | x_1..t) for h = 1 to horizon: (..., K), (K, K) -> (horizon, ..., K)."""
    ahead = np.empty((horizon, *np.shape(probs)))
    for h in range(horizon):
        probs = ahead[h] = probs @ A
    return ahead
