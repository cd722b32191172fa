"""Bootstrap particle filter of one sequence, and paths drawn backwards through its particles.

The noise of step t comes from a generator of (seed, t): a stream and a whole sequence see the same,
and so do all sequences.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

MOVES = 5  # of a path among the particles of a step


class ParticleModel(NamedTuple):
    """A state-space model as functions of rows of states."""

    first: Callable  # (n, rng) -> (n, q)
    move: Callable  # (n, q), rng -> (n, q)
    tell: Callable  # (d,), (n, q) -> (n,) log p(x_t | z_t); x may hold NaN
    log_move: Callable | None  # (n, q), (n, q) -> (n,) log p(z_t+1 | z_t), where it is known


class Swarm(NamedTuple):
    """Weighted particles after a step."""

    Z: np.ndarray  # (N, q)
    log_weights: np.ndarray  # (N,) of sum one
    parents: np.ndarray  # (N,) which particle of the step before each comes from
    log_density: float  # log of the estimate of p(x_t | x_<t)

    def moments(self):
        """Mean (q,) and covariance (q, q)."""
        weights = np.exp(self.log_weights)
        mean = weights @ self.Z
        gap = self.Z - mean
        return mean, (weights[:, None] * gap).T @ gap


def systematic(weights, u):
    """Indices of a systematic resample (Kitagawa 1996): weights (N,) of sum one, 0 <= u < 1."""
    n = len(weights)
    places = (u + np.arange(n)) / n
    return np.minimum(np.searchsorted(np.cumsum(weights), places, side="right"), n - 1)


def effective_size(log_weights):
    """1 / sum of squared weights: between 1 and N."""
    return float(1 / np.exp(2 * log_weights).sum())


def advance(model, before, x, seed, t, n_particles, threshold):
    """Take in step t, x (d,), after the swarm `before` (None: it is the first).

    The product of exp(log_density) is an unbiased estimate of p(x) (Del Moral 2004, 7.4.1).
    """
    rng = np.random.default_rng([*seed, t])
    if before is None:
        parents = np.arange(n_particles)
        Z, log_weights = model.first(n_particles, rng), np.full(n_particles, -np.log(n_particles))
    else:
        parents, log_weights = resampled(before.log_weights, threshold, rng)
        Z = model.move(before.Z[parents], rng)
    if np.isnan(x).all():
        return Swarm(Z, log_weights, parents, 0.0)
    joint = log_weights + model.tell(x, Z)
    peak = joint.max()
    if peak == -np.inf:  # no particle explains x: what it says of the state is lost
        return Swarm(Z, log_weights, parents, -np.inf)
    density = float(peak + np.log(np.exp(joint - peak).sum()))
    return Swarm(Z, joint - density, parents, density)


def resampled(log_weights, threshold, rng):
    """Parents and log weights before a move: new ones where the effective size is too small."""
    n = len(log_weights)
    if effective_size(log_weights) >= threshold * n:
        return np.arange(n), log_weights
    parents = systematic(np.exp(log_weights), rng.uniform())
    return parents, np.full(n, -np.log(n))


def swarms(model, X, seed, n_particles, threshold):
    """The particles after each step of one sequence X (T, d), one by one."""
    swarm = None
    for t, x in enumerate(X):
        swarm = advance(model, swarm, x, seed, t, n_particles, threshold)
        yield swarm


def paths(model, steps, rng, n_paths):
    """Draws of the states of all steps given all of them: list of T swarms -> (n_paths, T, q).

    Each path is traced along its ancestors, and at each step moved among the particles by `MOVES`
    steps of a Markov chain whose distribution is p(z_t | z_t+1, x_1..t) (Dau & Chopin 2023), which
    takes a time like the filter's. Where the density of a move is not known, ancestors stay as they
    are; the earlier the step, the fewer differ.
    """
    chosen = _choose(steps[-1].log_weights, rng.uniform(size=n_paths))
    Z = [steps[-1].Z[chosen]]
    for now, later in zip(steps[-2::-1], steps[:0:-1]):
        chosen = later.parents[chosen]
        if model.log_move is not None:
            chosen = _moved(model.log_move, now, Z[-1], chosen, rng)
        Z.append(now.Z[chosen])
    return np.stack(Z[::-1], axis=1)


def _moved(log_move, now, ends, chosen, rng):
    """Metropolis-Hastings steps of indices (m,) with proposals by weight; ends (m, q)."""
    told = log_move(ends, now.Z[chosen])
    for _ in range(MOVES):
        proposed = _choose(now.log_weights, rng.uniform(size=len(chosen)))
        new = log_move(ends, now.Z[proposed])
        better = np.log(rng.uniform(size=len(chosen))) < new - told
        chosen, told = np.where(better, proposed, chosen), np.where(better, new, told)
    return chosen


def _choose(log_weights, u):
    """Indices by inversion: log weights (N,), u (m,) -> (m,)."""
    below = np.cumsum(np.exp(log_weights))
    return np.minimum(np.searchsorted(below, u * below[-1], side="right"), len(below) - 1)
