"""Stepwise EM: rows come in batches, and expected statistics are averaged (Cappé & Moulines 2009).

s <- (1 - g_t) s + g_t s_batch with g_t = (t + 2)^-0.6, per unit weight. The state that is reported
comes from the average of s over the last steps, the state of the E-steps from s itself.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..emissions.covariance import Penalty
from ..emissions.gaussian import Gaussians
from .blocks import sum_blocks

POWER = 0.6  # of the step length: above 1/2, so that the noise of the batches averages out
TAIL = 3.0  # the running average weighs step t by t^TAIL (Shamir & Zhang 2013): the last quarter


def enough(weight, n_rows, K, d):
    """Whether a step, or a start, of K components in d columns may rest on these rows.

    It counts their weight; many rows of little weight will do as well.
    """
    return bool(max(weight, n_rows) >= K * max(20, 2 * d))


@dataclass(frozen=True)
class Pooled:
    """One Gaussian of everything seen so far: the scale of priors, as statistics that add."""

    gaussian: Gaussians  # K = 1, with a pseudo-observation so that no variance is zero
    moments: Any  # of that Gaussian
    weight: float
    tally: Any = None  # of the first rows: `Spec.tally`

    @classmethod
    def of(cls, family):
        """From what a family says of the rows."""
        S, weight = family.spread, family.weight
        gaussian = _gaussian(family.whole, family.mean, S, weight)
        zero = gaussian.stats(np.empty((0, len(S))), np.empty((0, 1)))
        count = zero.count + weight
        moments = replace(zero, count=count, mass=count, second=weight * S[None])
        return cls(gaussian, moments, weight, family.tally)

    def mean_and_spread(self):
        """-> (d,), (d, d) or (d,)"""
        shift, scatter = self.moments.centred()
        return (self.moments.origin + shift)[0], scatter[0] / self.moments.count[0]

    def add(self, X, weight, n_jobs=None):
        """With the rows of a batch; what they miss is expected given the Gaussian so far."""
        (stats,) = sum_blocks(
            lambda x, w: (self.gaussian.stats(x, w[:, None]),), (X, weight), n_jobs
        )
        both = replace(self, moments=stats + self.moments, weight=self.weight + float(weight.sum()))
        structure = type(self.gaussian.cov)
        return replace(both, gaussian=_gaussian(structure, *both.mean_and_spread(), both.weight))


def _gaussian(structure, mean, S, weight):
    variance = S if S.ndim == 1 else np.diag(S)
    one_more = variance if S.ndim == 1 else np.diag(variance)
    S = (weight * S + one_more) / (weight + 1)
    return Gaussians(mean[None], structure.of(S[None], Penalty(0.0, np.zeros_like(S))))


@dataclass(frozen=True)
class Batch:
    """Rows since the last step: their statistics, weighted log-likelihood and weight."""

    stats: Any
    log_likelihood: float
    weight: float
    n_rows: int

    def __add__(self, other):
        return Batch(
            self.stats + other.stats,
            self.log_likelihood + other.log_likelihood,
            self.weight + other.weight,
            self.n_rows + other.n_rows,
        )


@dataclass(frozen=True)
class Stream:
    """What the batches so far have taught: an immutable value."""

    state: Any  # the E-steps use it
    pooled: Pooled  # of all rows seen
    stats: Any = None  # per unit weight; None before the first row
    average: Any = None  # of `stats` over the last steps
    known: float = 0.0  # weight behind `stats` at the start
    begin: float = 0.0  # t of the first step
    steps: int = 0
    waiting: "Batch | None" = None  # rows too few for a step

    @classmethod
    def of(cls, state, stats, pooled):
        """From the end of a fit: its state, the statistics there and the moments of its rows."""
        known = pooled.weight if stats is not None else 0.0
        mean = None if stats is None else stats * (1 / known)
        return cls(state, pooled, stats=mean, average=mean, known=known)

    def read(self, X, weight, pooled, n_jobs=None):
        """With the rows of a batch waiting for the next step, pooled with all before."""
        stats, log_likelihood = sum_blocks(self.state.e_step, (X, weight), n_jobs)
        batch = Batch(stats, float(log_likelihood), float(weight.sum()), len(X))
        return replace(
            self,
            pooled=pooled,
            waiting=batch if self.waiting is None else self.waiting + batch,
        )

    def ready(self, K):
        """Whether the rows that wait are enough for a step."""
        d = self.pooled.gaussian.means.shape[1]
        return enough(self.waiting.weight, self.waiting.n_rows, K, d)

    def step(self, broad):
        """One step with what waits: -> Stream, its objective per unit weight before the step.

        `broad` is a state that holds the prior. The first step gives a batch at most the share that
        it has of all rows, so a fit on many rows is not forgotten.
        """
        batch, t = self.waiting, self.steps
        objective = batch.log_likelihood / batch.weight
        objective += self.state.log_prior() / self.pooled.weight
        begin = self.begin
        if not t:
            share = batch.weight / (self.known + batch.weight)
            begin = max(share ** (-1 / POWER) - 2, 0.0)
        stats = batch.stats * (1 / batch.weight)
        if self.stats is not None:
            stats = _towards(self.stats, stats, (begin + t + 2) ** -POWER)
        average = stats
        if self.average is not None:
            average = _towards(self.average, stats, (TAIL + 1) / (begin + t + 1 + TAIL))
        moved = replace(
            self,
            state=broad.m_step(stats * self.pooled.weight),
            stats=stats,
            average=average,
            begin=begin,
            steps=t + 1,
            waiting=None,
        )
        return moved, objective

    def reported(self, broad):
        """The state that the averaged statistics imply."""
        return broad.m_step(self.average * self.pooled.weight)


def _towards(old, new, g):
    return new * g + old * (1 - g)  # about the latest means
