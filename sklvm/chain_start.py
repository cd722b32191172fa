"""What the short runs of a hidden Markov model see, and the chains that they begin with."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from .chain_state import Chains
from .inference.blocks import each_block
from .inference.start import SAMPLE, thinned
from .sequences import offsets

SHORT = 30  # iterations of a start's short run: moves take longer to learn than components
PIECE = 256  # steps: for the short runs a longer sequence is several
EVEN = 5.0  # the higher, the more alike are the parts that a sequence is cut into
STAY = 0.9  # probability that a start gives to staying in a state
CONTEXT = 0.5  # largest share of their distance that the steps before and after add to a step's


class Steps(NamedTuple):
    """The steps with an entry of the sequences that the short runs see."""

    X: np.ndarray  # (n, d)
    weight: np.ndarray  # (n,)
    labels: "np.ndarray | None"  # (n,) -1 where unknown
    places: np.ndarray  # (n,) where in its sequence each is, in (0, 1)
    beside: np.ndarray  # (n, 2) the steps before and after each, -1 where there is none

    @property
    def rows(self):
        """What a start is made from: X, weight and labels, where there are any."""
        known = () if self.labels is None else (self.labels,)
        return self.X, self.weight, *known


class AnyMove:
    """Every state may follow every other one."""

    longest = PIECE
    names_states = False

    @staticmethod
    def allowed(K):
        """Which states may come first, and which may follow which: (K,), (K, K) bool."""
        return np.ones(K, bool), np.ones((K, K), bool)

    @staticmethod
    def divisible(steps, comparable):
        """What starts divide among the states, and by what: X, weight and labels; (n, m)."""
        return steps.rows, in_context(comparable(steps.rows), steps)

    @staticmethod
    def divide(partition, Z, weight, K, rng):
        """One division, which heeds neighbours more or less: responsibilities (n, K)."""
        less = rng.uniform()
        scale = np.repeat([1.0, less, less], Z.shape[1] // 3)
        return partition(Z * scale, weight, K, rng)


class LeftRight:
    """States follow each other in their order, from the first one: none is returned to."""

    longest = np.inf  # a piece would not begin in the first state
    names_states = True

    @staticmethod
    def allowed(K):
        return np.arange(K) == 0, np.tri(K, dtype=bool).T

    @staticmethod
    def divisible(steps, comparable):
        return steps.rows, steps.places[:, None]

    @staticmethod
    def divide(partition, Z, weight, K, rng):
        """All sequences cut at the same places, about evenly."""
        cuts = np.cumsum(rng.dirichlet(np.full(K, EVEN)))[:-1]
        return np.eye(K)[np.searchsorted(cuts, Z[:, 0])]


TOPOLOGIES = {"full": AnyMove, "left-right": LeftRight}


def in_context(Z, steps):
    """Steps, and what comes before and after each (the average, where nothing does): (n, 3 m).

    States tell apart what follows what, not only what is: alike steps in unlike places are two.
    """
    average = steps.weight @ Z / steps.weight.sum()
    before, after = np.vstack([Z, average])[steps.beside.T]
    return np.hstack([Z, CONTEXT * before, CONTEXT * after])


def sticky_moves(allowed):
    """Moves to begin with: mostly none, the others alike where they are allowed: (K, K)."""
    here = np.eye(len(allowed), dtype=bool)
    stay, go = allowed & here, allowed & ~here
    moves = STAY * stay + (1 - STAY) * go / np.maximum(go.sum(axis=1, keepdims=True), 1)
    return moves / moves.sum(axis=1, keepdims=True)


def sample_chains(chains, longest, size=SAMPLE):
    """Distinct sequences, or pieces of them, that stand for all, of about `size` steps in all.

    They depend on the weighted set of sequences alone, not on its order. -> Chains, and their steps
    that have an entry.
    """
    lengths = np.diff(chains.starts)
    which, begin, end = _pieces(chains.starts, longest)
    order, mass = _distinct(chains, begin, end, chains.counts[which])
    steps = (end - begin)[order]
    if steps.sum() > size:
        chosen, mass = thinned(mass, max(1, int(size * mass.sum() / (mass @ steps))))
        order, steps = order[chosen], steps[chosen]
    starts = offsets(steps)
    rows = np.arange(starts[-1]) + np.repeat(begin[order] - starts[:-1], steps)
    origin = np.repeat(which[order], steps)
    places = (rows - chains.starts[origin] + 0.5) / lengths[origin]
    weight = np.repeat(mass, steps) * (chains.weight[rows] > 0)
    labels = None if chains.labels is None else chains.labels[rows]
    sample = Chains(chains.X[rows], weight, starts, mass, labels, chains.max_memory)
    seen = weight > 0
    known = None if labels is None else labels[seen]
    return sample, Steps(sample.X[seen], weight[seen], known, places[seen], _beside(starts, seen))


def _beside(starts, seen):
    """Numbers, among the steps seen, of those before and after each, -1 for none: (n, 2)."""
    number = np.where(seen, np.cumsum(seen) - 1, -1)
    before, after = np.roll(number, 1), np.roll(number, -1)
    before[starts[:-1]], after[starts[1:] - 1] = -1, -1
    return np.column_stack([before, after])[seen]


def _pieces(starts, longest):
    """Sequences cut into pieces of equal length: of which, first row, end."""
    lengths = np.diff(starts)
    n = np.maximum(1, np.ceil(lengths / longest)).astype(int)
    which = np.repeat(np.arange(len(n)), n)
    number = np.arange(len(which)) - np.repeat(np.cumsum(n) - n, n)
    cuts = [starts[which] + lengths[which] * (number + i) // n[which] for i in (0, 1)]
    return which, *cuts


def _distinct(chains, begin, end, counts):
    """The distinct pieces in lexicographic order, and what they weigh together."""
    X = chains.X if chains.labels is None else np.column_stack([chains.X, chains.labels])
    sortable = each_block(_sortable, X)
    keys = [sortable[a:b].astype(">u8").tobytes() for a, b in zip(begin, end, strict=True)]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__))
    new = [True, *(keys[a] != keys[b] for a, b in pairwise(order))]
    return order[new], np.add.reduceat(counts[order], np.flatnonzero(new))


def _sortable(X):
    """Integers that sort as the numbers do, NaN last: (N, d) -> (N, d), big-endian bytes too."""
    bits = np.where(np.isnan(X), np.nan, X + 0.0).view(np.uint64)
    sign = np.uint64(1 << 63)
    return np.where(bits & sign, ~bits, bits | sign)
