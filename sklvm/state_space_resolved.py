"""What the values that resolve diffuse first states say of the matrices, and steps that know it.

Scores are densities given those values x_1, so log p(x) less log p(x_1) under a first state of
variance kappa -> infinity. With M_1 the rows C_j A^(t-1) of those values the second term is
-log |M_1 M_1'| / 2 and a constant: a function of A and C.
"""

from typing import NamedTuple

import numpy as np

from .numerics.kalman_run import DIFFUSE, ROUNDING, matrix_of
from .state_space_slope import moves_value_and_slopes

HALVINGS = 30  # of a step that ends lower, before it is given up


class Resolving(NamedTuple):
    """The values that resolve the first states of some sequences."""

    weight: float  # of the sequences
    step: np.ndarray  # (r,) counted from 0
    column: np.ndarray  # (r,)


class Resolved(NamedTuple):
    """log |M_1 M_1'| / 2 of weighted sequences, by the kinds of their values."""

    kinds: tuple = ()

    @property
    def n_values(self):
        """How many values resolve first states, weighted."""
        return sum(kind.weight * len(kind.step) for kind in self.kinds)

    def value(self, A, C):
        return self.value_and_slopes(A, C)[0]

    def value_and_slopes(self, A, C):
        """The sum, and its slopes by A and by C."""
        value, by_A, by_C = 0.0, np.zeros_like(A), np.zeros_like(C)
        for weight, step, column in self.kinds:
            powers = [np.eye(len(A))]
            for _ in range(step.max()):
                powers.append(powers[-1] @ A)
            M = np.stack([C[j] @ powers[t] for t, j in zip(step, column)])
            turn, R = np.linalg.qr(M.T)
            value += weight * np.log(np.abs(np.diagonal(R))).sum()
            by_M = weight * np.linalg.solve(R, turn.T)  # (r, q)
            for t, j, by_row in zip(step, column, by_M):
                by_C[j] += powers[t] @ by_row
                for s in range(t):
                    by_A += np.outer(C[j] @ powers[s], powers[t - 1 - s] @ by_row)
        return value, by_A, by_C


def resolved(A, C, X, starts, counts):
    """Which values resolve first states, and the counts of the sequences that say more.

    Sequences that are too short to resolve their first state, or just not, score 0 and leave states
    open: they go, but where no other one sees a feature.
    """
    seen = ~np.isnan(X)
    places = _all_first_values(A, C, seen, starts)
    n_seen = np.add.reduceat(np.append(seen.sum(axis=1), 0), starts[:-1])
    n_seen[np.diff(starts) == 0] = 0
    n_first = np.array([len(one) for one in places])
    told = np.where((n_seen > n_first) | (n_first == len(A)), counts, 0.0)
    kept = np.repeat(told > 0, np.diff(starts))
    if not (seen[kept].any(axis=0) >= seen.any(axis=0)).all():
        told = counts
    kinds = {}
    for one, weight in zip(places, told):
        kinds[one] = kinds.get(one, 0.0) + weight
    found = [Resolving(weight, *np.transpose(one)) for one, weight in kinds.items() if one]
    return Resolved(tuple(kind for kind in found if kind.weight)), told


def _all_first_values(A, C, seen, starts):
    """`_first_values` of every sequence, each pattern of missing entries in their heads once."""
    lengths, places, known = np.diff(starts), [()] * (len(starts) - 1), {}
    left, head = np.flatnonzero(lengths), len(A)
    while len(left):
        for i in left:
            part = seen[starts[i] : starts[i] + min(head, lengths[i])]
            key = part.tobytes()
            if key not in known:
                known[key] = _first_values(A, C, part)
            places[i] = known[key]
        left = [i for i in left if len(places[i]) < len(A) and lengths[i] > head]
        head *= 2
    return places


def _first_values(A, C, seen):
    """Places (step, column) of the first values that resolve all they can, as the filter does."""
    B, places = np.eye(len(A)), []
    for t, step in enumerate(seen):
        for j in np.flatnonzero(step):
            along, size = C[j] @ B, np.abs(C[j]) @ np.abs(B)
            if along @ along > DIFFUSE * (size @ size):
                places.append((t, int(j)))
                rest = np.linalg.qr(along[:, None], mode="complete")[0][:, 1:]
                B = _cleaned(B @ rest, np.abs(B).sum(axis=1, keepdims=True))
            if not B.any():
                return tuple(places)
        B = _cleaned(A @ B, np.abs(A) @ np.abs(B))
    return tuple(places)


def _cleaned(B, size):
    return np.where(np.abs(B) > ROUNDING * size, B, 0.0)


# -- M-steps -----------------------------------------------------------------------------------


def transition_step(structure, F, Q, C, stats):
    """F = (A, B) and Q of no lower expected log density given the values that resolve."""
    q, known = len(Q), stats.resolved
    if known.kinds and stats.n_moves:
        pull = np.zeros_like(F)
        pull[:, :q] = known.value_and_slopes(F[:, :q], C)[1]
        aim = structure.moved(F, Q, stats._replace(lag=stats.lag + Q @ pull))
        slopes = [moves_value_and_slopes(one, Q, stats)[1] for one in (F, aim)]
        F = _climbed(F, aim, slopes, lambda there: known.value(there[:, :q], C))
    elif stats.n_moves:
        F = structure.moved(F, Q, stats)
    return F, structure.noise_step(F, Q, stats)


def observation_step(structure, A, C, D, R, c, stats):
    """C, D, R, c of no lower expected log density given the values that resolve."""
    theta, known, q = structure.coefficients(C, D), stats.resolved, len(A)
    if known.kinds:
        pull = np.zeros_like(theta)
        pull[:, :q] = known.value_and_slopes(A, C)[2]
        more = stats._replace(product=stats.product + matrix_of(R) @ pull)
        aim = structure.regressed(theta, R, more)
        slopes = [structure.noise.slopes(one, R, stats)[0] for one in (theta, aim)]
        theta = _climbed(theta, aim, slopes, lambda there: known.value(A, there[:, :q]))
    else:
        theta = structure.regressed(theta, R, stats)
    return structure.observed(theta, D, R, c, stats)


def _climbed(here, aim, slopes, more):
    """The longest of ever shorter steps towards `aim` that does not lower a quadratic and `more`.

    The quadratic is known by its slopes at both ends.
    """
    move, begin = aim - here, more(here)
    rise = (slopes[0] * move).sum()
    bend = ((slopes[0] - slopes[1]) * move).sum()
    slack = ROUNDING * (abs(rise) + abs(bend) + abs(begin))
    for halving in range(HALVINGS):
        t = 0.5**halving
        there = here + t * move
        if t * rise - t * t * bend / 2 + more(there) - begin >= -slack:
            return there
    return here
