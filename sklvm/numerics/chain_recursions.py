"""Three recursions along a hidden Markov chain, which answer the same questions block by block.

`Scaled` works with probabilities, `Logarithmic` with their logarithms, `MaxPlus` with the scores of
the most probable paths.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from .chain_plain import LOST, RARE, SMALL

TINY = 1e-155  # for what is smaller but possible; its product with LOST is a normal number


class Piece(NamedTuple):
    """Rows of whole sequences, or some rows of one."""

    rows: slice
    bounds: np.ndarray  # (S + 1,) offsets of the parts within these rows
    fresh: bool  # whether the first part begins its sequence

    def __len__(self):
        return self.rows.stop - self.rows.start

    def beginnings(self):
        """Positions within these rows where a sequence begins."""
        some = self.bounds[:-1][np.diff(self.bounds) > 0]
        return some if self.fresh else some[1:]


class Block(NamedTuple):
    """What a recursion knows of a piece after its forward half."""

    alpha: np.ndarray  # (n, K) p(z_t | x_1..t), its logarithm, or scores of the best paths
    q: np.ndarray  # (n, K) p(x_t | z_t) / p(x_t | x_<t), or its logarithm
    c: np.ndarray  # (n,) p(x_t | x_<t) / exp(peak_t), or its logarithm
    peak: np.ndarray  # (n,) largest log_b of the step
    log_prob: np.ndarray  # (S,) of the parts
    failed: np.ndarray  # (S,) bool: an exact answer needs logarithms


def _kernels():
    from . import chain_kernels

    return chain_kernels


def _log(x):
    with np.errstate(divide="ignore"):
        return np.log(x)


@dataclass(frozen=True)
class _Recursion:
    """A chain, prepared for the kernels."""

    pi: np.ndarray  # (K,)
    A: np.ndarray  # (K, K)

    def __post_init__(self):  # one memory layout, so that each kernel is compiled once
        for name in ("pi", "A"):
            object.__setattr__(self, name, np.array(getattr(self, name), np.float64, order="C"))

    @cached_property
    def states(self):
        """pi, as a tuple where the number of states deserves a kernel of its own."""
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

    def _block(self, log_b, piece, room):
        """log_b (n, K), less the largest of each step and transposed; a block to be filled."""
        log_b = np.require(log_b.T, np.float64, ["C", "W"])
        peak = log_b.max(axis=0)
        if peak.min() == -np.inf:
            peak[peak == -np.inf] = 0.0
        log_b -= peak
        S = len(piece.bounds) - 1
        return log_b, Block(
            room[0], room[1], np.empty(len(peak)), peak, np.zeros(S), np.zeros(S, bool)
        )


class Scaled(_Recursion):
    """Probabilities, scaled to one at each step (Rabiner 1989, section V.A).

    What falls below LOST is dropped. Where every move is more probable than RARE that is exact to
    rounding, since the next step makes it up. For other chains the kernel carries a bound on what
    each state has lost, and fails a sequence as soon as that could be felt.
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
        """What enters a first step: its states before x is seen, a bound on what they lost."""
        return np.stack([self.pi, np.zeros_like(self.pi)])

    def forward(self, log_b, piece, carry, room):
        """The forward half of a piece; `carry` becomes what enters the next one."""
        log_b, block = self._block(log_b, piece, room)
        floor = TINY * (log_b > -np.inf) if self.guarded else None
        b = np.exp(log_b, out=log_b)
        if floor is not None:
            np.maximum(b, floor, out=b)
        block.q[...] = b.T
        moves = *self._moves, self.guarded
        _kernels().forward(self.states, *moves, carry, piece.bounds, *block)
        return block

    @staticmethod
    def filtered(block):
        """p(z_t | x_1..t) and log p(x_t | x_<t): (n, K), (n,)."""
        return block.alpha, np.log(block.c) + block.peak

    def backward(self, block, piece, weight, gamma, following):
        """Weighted p(z_t | x) into gamma; weighted moves (K, K), and what the piece before needs.

        `block.q` becomes r, with p(z_{t-1} = i, z_t = j | x) = alpha_{t-1,i} A_ij r_tj.
        """
        alpha, r = block.alpha, block.q
        w = np.full(len(self.pi), weight[-1]) if following is None else following[0]
        _kernels().backward(self.states, self.AT, w, piece.bounds, weight, alpha, r, gamma)
        first = r[0].copy()
        r[piece.beginnings()] = 0.0  # nothing moves into a first step
        xi = alpha[:-1].T @ r[1:]
        if following is not None:
            xi += np.outer(alpha[-1], following[1])
        return xi * self.A, (w, first)

    def draw(self, block, piece, u, after):
        """One state for each number of u (m, n), from the last step back: -> (m, n)."""
        paths = np.empty(u.shape, np.int64)
        _kernels().draw_backward(self.AT, piece.bounds, block.alpha, u, after, paths)
        return paths


class Logarithmic(_Recursion):
    """The same with logarithms: slow, and exact where probabilities underflow."""

    def start(self):
        return self.log_pi[None].copy()

    def forward(self, log_b, piece, carry, room):
        log_b, block = self._block(log_b, piece, room)
        block.q[...] = log_b.T
        _kernels().log_forward(self.log_pi, self.log_AT, carry, piece.bounds, *block)
        return block

    @staticmethod
    def filtered(block):
        return np.exp(block.alpha), block.c + block.peak

    def backward(self, block, piece, weight, gamma, following):
        alpha, r = block.alpha, block.q
        log_weight, xi = _log(weight), np.zeros_like(self.A)
        w = np.full(len(self.pi), log_weight[-1]) if following is None else following[0]
        _kernels().log_backward(self.log_A, w, piece.bounds, log_weight, alpha, r, gamma, xi)
        if following is not None:
            xi += np.exp(alpha[-1][:, None] + self.log_A + following[1])
        return xi, (w, r[0].copy())

    def draw(self, block, piece, u, after):
        paths = np.empty(u.shape, np.int64)
        _kernels().log_draw_backward(self.log_AT, piece.bounds, block.alpha, u, after, paths)
        return paths


class MaxPlus(_Recursion):
    """Scores of the most probable paths (Viterbi 1967)."""

    def start(self):
        return self.log_pi[None].copy()

    def forward(self, log_b, piece, carry, room):
        log_b, block = self._block(log_b, piece, room)
        block.alpha[...] = log_b.T
        chain = self.states, self.log_pi, self.log_A
        _kernels().best_forward(
            *chain, carry, piece.bounds, block.alpha, block.peak, block.log_prob
        )
        return block

    def trace(self, block, piece, after, path):
        _kernels().best_backward(self.log_AT, piece.bounds, block.alpha, after, path)
