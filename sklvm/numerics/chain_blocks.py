"""How a recursion walks over stacked sequences: in blocks of rows, forward and then backward.

Three recursions answer the same questions. `Scaled` works with probabilities, `Logarithmic` with
their logarithms, `MaxPlus` with the most probable path. `walk` gives a group of whole sequences, or
the blocks of one long sequence, to the first; what fails there goes to the second.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

LOST = 1e-150  # as in the kernels: probabilities below are dropped
RARE = 1e-30  # a chain whose moves are all more probable forgets what was dropped
TINY = 1e-300  # stands for exp(log_b) where that is no longer a number but not zero either
SMALL = 8  # states: up to here the compiler is told how many
MAX_MEMORY = 256e6  # bytes


class Piece(NamedTuple):
    """Rows of whole sequences, or some rows of one."""

    rows: slice
    bounds: np.ndarray  # offsets of the parts in the block
    fresh: bool  # whether the first part begins its sequence
    final: bool  # whether the last part ends it

    def beginnings(self):
        """Positions in the block where a sequence begins."""
        some = self.bounds[:-1][np.diff(self.bounds) > 0]
        return some if self.fresh else some[1:]


class Block(NamedTuple):
    """What a recursion knows of a block after its forward half."""

    alpha: np.ndarray  # (n, K) p(z_t | x_1..t), its logarithm, or scores of the best paths
    q: Any  # (n, K) p(x_t | z_t) / p(x_t | x_<t), or its logarithm
    log_density: Any  # (n,) log p(x_t | x_<t)
    log_prob: np.ndarray  # (S,) of the parts
    failed: np.ndarray  # (S,) bool: an exact answer needs the logarithms
    consume: Any  # what the caller does with p(z_t | x)


def _kernels():
    from . import chain_kernels

    return chain_kernels


def _log(x):
    with np.errstate(divide="ignore"):
        return np.log(x)


@dataclass(frozen=True)
class _Recursion:
    """A chain, prepared for its kernels."""

    pi: np.ndarray  # (K,)
    A: np.ndarray  # (K, K)

    def __post_init__(self):  # one memory layout: one compiled version of each kernel
        for name in ("pi", "A"):
            object.__setattr__(self, name, np.array(getattr(self, name), np.float64, order="C"))

    @cached_property
    def states(self):
        """pi, as a tuple where the number of states is worth a kernel of its own."""
        return tuple(self.pi.tolist()) if len(self.pi) <= SMALL else self.pi

    @cached_property
    def AT(self):
        return np.ascontiguousarray(self.A.T)

    @cached_property
    def log_pi(self):
        return _log(self.pi)

    @cached_property
    def log_A(self):
        return _log(self.A)

    @cached_property
    def log_AT(self):
        return _log(self.AT)

    @staticmethod
    def _peaks(log_b):
        """log_b less the largest of each step, as its (K, n) copy, and the largest."""
        log_b = np.array(log_b.T, np.float64, order="C")
        peak = log_b.max(axis=0)
        if peak.min() == -np.inf:
            peak[peak == -np.inf] = 0.0
        log_b -= peak
        return log_b, peak

    @staticmethod
    def _sizes(piece, n):
        parts = len(piece.bounds) - 1
        return np.empty(n), np.zeros(parts), np.zeros(parts, bool)


class Scaled(_Recursion):
    """Probabilities, scaled to one at each step (Rabiner 1989, section V.A).

    What falls below the smallest numbers is dropped. That is exact to rounding where every move has
    a probability above RARE, since the next step makes it up. For other chains the kernel carries a
    bound on what each state has lost, and fails a sequence as soon as that could be felt.
    """

    @cached_property
    def guarded(self):
        return bool(self.A.min() < RARE)

    @cached_property
    def _moves(self):
        """Moves that are not dropped, and where those that are could lead: (K, K), (K,)."""
        gone = (self.A > 0) & (self.A < LOST)
        return np.where(gone, 0.0, self.A), np.where(gone.any(axis=0), LOST, 0.0)

    def start(self):
        return np.stack([self.pi, np.zeros_like(self.pi)])

    def forward(self, emitted, piece, carry):
        b, peak = self._peaks(emitted[0])
        if self.guarded:
            possible = b > -np.inf
        np.exp(b, out=b)
        if self.guarded:
            b[possible & (b < TINY)] = TINY
        b = np.ascontiguousarray(b.T)
        alpha = np.empty_like(b)
        c, log_prob, failed = self._sizes(piece, len(b))
        A, leak = self._moves
        _kernels().forward(
            self.states,
            A,
            leak,
            self.guarded,
            carry,
            piece.bounds,
            b,
            peak,
            alpha,
            c,
            log_prob,
            failed,
        )
        return Block(alpha, b, (c, peak), log_prob, failed, emitted[1])

    @staticmethod
    def filtered(block):
        c, peak = block.log_density
        return block.alpha, np.log(c) + peak

    def backward(self, block, piece, weight, following):
        """Weighted p(z_t | x) and expected moves: -> (n, K), (K, K), what the block before needs."""
        alpha, r = block.alpha, block.q
        w = np.full(len(self.pi), weight[-1]) if following is None else following[0]
        gamma = np.empty_like(alpha)
        _kernels().backward(self.states, self.AT, w, piece.bounds, weight, alpha, r, gamma)
        r_next = r[0].copy()
        r[piece.beginnings()] = 0.0  # nothing moves into a first step
        xi = alpha[:-1].T @ r[1:]
        if following is not None:
            xi += np.outer(alpha[-1], following[1])
        return gamma, xi * self.A, (w, r_next)

    def draw(self, block, piece, u, after, paths):
        _kernels().draw_backward(self.AT, piece.bounds, block.alpha, u, after, paths)


class Logarithmic(_Recursion):
    """The same with logarithms: slow, and exact where probabilities underflow."""

    def start(self):
        return self.log_pi[None].copy()

    def forward(self, emitted, piece, carry):
        b, peak = self._peaks(emitted[0])
        b = np.ascontiguousarray(b.T)
        alpha = np.empty_like(b)
        log_c, log_prob, failed = self._sizes(piece, len(b))
        _kernels().log_forward(
            self.log_pi, self.log_AT, carry, piece.bounds, b, peak, alpha, log_c, log_prob
        )
        return Block(alpha, b, (log_c, peak), log_prob, failed, emitted[1])

    @staticmethod
    def filtered(block):
        return np.exp(block.alpha), sum(block.log_density)

    def backward(self, block, piece, weight, following):
        alpha, r = block.alpha, block.q
        log_weight = _log(weight)
        w = np.full(len(self.pi), log_weight[-1]) if following is None else following[0]
        gamma, xi = np.empty_like(alpha), np.zeros_like(self.A)
        _kernels().log_backward(self.log_A, w, piece.bounds, log_weight, alpha, r, gamma, xi)
        if following is not None:
            xi += np.exp(alpha[-1][:, None] + self.log_A + following[1])
        return gamma, xi, (w, r[0].copy())

    def draw(self, block, piece, u, after, paths):
        _kernels().log_draw_backward(self.log_AT, piece.bounds, block.alpha, u, after, paths)


class MaxPlus(_Recursion):
    """Scores of the most probable paths (Viterbi 1967)."""

    def start(self):
        return self.log_pi[None].copy()

    def forward(self, emitted, piece, carry):
        b, peak = self._peaks(emitted[0])
        b = np.ascontiguousarray(b.T)
        _, log_prob, failed = self._sizes(piece, 0)
        _kernels().best_forward(
            self.states, self.log_pi, self.log_A, carry, piece.bounds, b, peak, b, log_prob
        )
        return Block(b, None, None, log_prob, failed, emitted[1])

    def trace(self, block, piece, after, path):
        _kernels().best_backward(self.log_AT, piece.bounds, block.alpha, after, path)


def groups(starts, rows):
    """Runs of whole sequences of at most that many rows, or one longer one: pairs of numbers."""
    first, S = 0, len(starts) - 1
    while first < S:
        fit = int(np.searchsorted(starts, starts[first] + rows, side="right")) - 1
        last = max(first + 1, fit)
        yield first, last
        first = last


def pieces(starts, first, last, rows):
    """The blocks of a group."""
    begin, end = int(starts[first]), int(starts[last])
    if end - begin <= rows or last > first + 1:
        return [Piece(slice(begin, end), starts[first : last + 1] - begin, True, True)]
    cuts = [*range(begin, end, rows), end]
    return [
        Piece(slice(a, b), np.array([0, b - a]), a == begin, b == end)
        for a, b in zip(cuts[:-1], cuts[1:])
    ]


def walk(recursion, emit, parts, kept, visit):
    """Forward over the blocks of a group, then `visit` them backward.

    The last `kept` blocks stay in memory; others are made again from what entered them. -> the sums
    of log-probabilities (S,) of the group, and which of its sequences failed.
    """
    carry, marks, blocks, log_prob = recursion.start(), [], {}, 0.0
    for i, piece in enumerate(parts):
        marks.append(carry.copy())
        block = recursion.forward(emit(piece.rows), piece, carry)
        log_prob = log_prob + block.log_prob
        if len(parts) > 1 and block.failed[0]:
            return log_prob, block.failed
        if i >= len(parts) - kept:
            blocks[i] = block
    following = None
    for i in reversed(range(len(parts))):
        block = blocks.pop(i, None) or recursion.forward(emit(parts[i].rows), parts[i], marks[i])
        following = visit(recursion, block, parts[i], following)
    return log_prob, block.failed
