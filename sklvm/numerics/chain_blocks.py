"""How a recursion walks over stacked sequences in blocks of rows: forward, then backward."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from .chain_recursions import Logarithmic, Piece

BLOCK = 64_000  # numbers in an array of a block: a few of them stay in the L2 cache
MOST_ROWS = 8000  # no power of two, which would send the K columns to the same cache lines
FEWEST_ROWS = 128
MAX_MEMORY = 256e6  # bytes


class Task:
    """What is asked of the blocks of a group, on the way forward and on the way back."""

    turns = True  # whether there is a way back

    def ahead(self, recursion, block, piece):
        """Called for each block in order."""

    def back(self, recursion, block, piece, span, consume, following):
        """Called for each block in reverse order, with what the block after it returned.

        `span` are the numbers of the group's sequences, `consume` comes from `emit`.
        """


class Workspace(NamedTuple):
    """Arrays that all groups use: one large one costs less to come by than many small ones."""

    alpha: np.ndarray  # (kept * rows, K)
    q: np.ndarray
    rows: int

    @classmethod
    def of(cls, starts, K, rows, max_memory):
        kept = max(1, int(max_memory // (16 * rows * K)))
        needed = max(rows, int(np.diff(starts).max(initial=0)))
        shape = min(needed, kept * rows, int(starts[-1])), K
        return cls(np.empty(shape), np.empty(shape), rows)

    @property
    def kept(self):
        """Blocks that there is room for."""
        return -(-len(self.alpha) // self.rows)

    def room(self, i, piece):
        rows = slice(i * self.rows, i * self.rows + len(piece))
        return self.alpha[rows], self.q[rows]


def groups(starts, rows):
    """Runs of whole sequences with at most so many rows, or one longer one: first, last."""
    first, S = 0, len(starts) - 1
    while first < S:
        fit = int(np.searchsorted(starts, starts[first] + rows, side="right")) - 1
        last = max(first + 1, fit)
        yield first, last
        first = last


def pieces(starts, first, last, rows):
    """The blocks of a group."""
    begin, end = int(starts[first]), int(starts[last])
    if end - begin <= rows:
        return [Piece(slice(begin, end), starts[first : last + 1] - begin, True)]
    cuts = [*range(begin, end, rows), end]
    return [Piece(slice(a, b), np.array([0, b - a]), a == begin) for a, b in pairwise(cuts)]


def walk(recursion, emit, task, parts, span, workspace, ask_once):
    """Forward over the blocks of a group, then back.

    As many of the last blocks as there is room for are kept; the others are made again from what
    entered them. -> log-probabilities of the group's sequences, and which of them failed.
    """
    carry, marks, blocks, log_prob = recursion.start(), [], {}, 0.0
    dropped = max(0, len(parts) - workspace.kept)

    def forward(i, carry):
        log_b, consume = emit(parts[i].rows)
        room = workspace.room(max(0, i - dropped), parts[i])
        return recursion.forward(log_b, parts[i], carry, room), consume

    for i, piece in enumerate(parts):
        marks.append(carry.copy())
        block, consume = forward(i, carry)
        log_prob = log_prob + block.log_prob
        if len(parts) > 1 and block.failed[0]:
            return log_prob, block.failed
        task.ahead(recursion, block, piece)
        if i >= dropped:
            blocks[i] = block, consume if ask_once or piece is parts[-1] else None
    following = None
    for i in reversed(range(len(parts) if task.turns else 0)):
        block, consume = blocks.pop(i, None) or forward(i, marks[i])
        consume = consume or emit(parts[i].rows)[1]
        following = task.back(recursion, block, parts[i], span, consume, following)
    return log_prob, block.failed


def walk_all(recursion, emit, task, starts, *, rows, max_memory, ask_once):
    """`walk` over all groups; a sequence that failed again, with logarithms: -> (S,)."""
    K = len(recursion.pi)
    rows = rows or min(MOST_ROWS, max(FEWEST_ROWS, BLOCK // K))
    workspace = Workspace.of(starts, K, rows, max_memory if task.turns else 0)
    log_prob = np.zeros(len(starts) - 1)

    def one(recursion, first, last):
        span, parts = slice(first, last), pieces(starts, first, last, rows)
        log_prob[span], failed = walk(recursion, emit, task, parts, span, workspace, ask_once)
        return first + np.flatnonzero(failed)

    for first, last in groups(starts, rows):
        if starts[first] < starts[last]:
            for s in one(recursion, first, last):
                one(Logarithmic(recursion.pi, recursion.A), s, s + 1)
    return log_prob
