"""Batches whose statistics are remembered: parameters move after each, the bound stays exact.

Neal & Hinton (1998) for the view of EM, Hughes & Sudderth (2013) for variational Bayes.
"""

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ..warn import warn_user
from .blocks import wide
from .em import Climb, Point, climbed, evaluate
from .start import distinct


def memoised(
    state, rows, *, batch_size, max_iter, tol, accelerate=None, callback=None, n_jobs=None
):
    """Climb as `em` does, with an M-step after every batch of distinct rows.

    The state answers `expected(stats)`, the expected log joint density of rows with these
    statistics. The last pass is one full E-step, so the bound at the end is that of `em`. The moves
    from batch to batch are no map that extrapolation could speed up: `accelerate` is not used.
    """
    climb = _BatchClimb(_batches(rows, batch_size), rows, n_jobs)
    run, trouble = climbed(climb, state, max(max_iter - 1, 0), tol, callback)
    if trouble:
        warn_user(trouble, ConvergenceWarning)
    if not max_iter:
        return run
    last = evaluate(run.state, rows, n_jobs)
    history = np.append(run.history, max(last.objective, run.objective))
    return run._replace(history=history, n_iter=run.n_iter + 1, stats=last.stats)


def _batches(rows, batch_size):
    """Distinct rows dealt out in lexicographic order, so that every batch stands for all rows.

    Repeating or shuffling rows changes nothing: a list of positions and weights.
    """
    X, weight, *labels = rows
    order, weight = distinct(np.column_stack([X, *labels]) if labels else X, weight)
    n_batches = -(-len(order) // batch_size)
    return [(order[b::n_batches], weight[b::n_batches]) for b in range(n_batches)]


class _BatchClimb(Climb):
    """A step is one pass: batch by batch an E-step, its statistics replaced, an M-step."""

    def __init__(self, batches, rows, n_jobs):
        super().__init__(rows, n_jobs, None)
        self.batches = batches
        self.parts, self.entropies = [], np.zeros(len(batches))

    def begin(self, state):
        self.parts = [self._part(state, b) for b in range(len(self.batches))]
        self._keep([self._point(state)])

    def _part(self, state, b):
        """The statistics of a batch; what its latents' entropy adds to the bound is noted."""
        places, weight = self.batches[b]
        X, _, *labels = self.rows
        batch = wide(X[places]), weight, *(part[places] for part in labels)
        stats, log_likelihood = state.walk(batch, self.n_jobs)
        self.entropies[b] = log_likelihood - state.expected(stats)
        return stats

    def _total(self):
        total = self.parts[0]
        for part in self.parts[1:]:
            total = total + part
        return total

    def _point(self, state):
        """The bound at the responsibilities that each batch had last (Neal & Hinton, theorem 2)."""
        total = self._total()
        bound = state.expected(total) + self.entropies.sum() + state.log_prior()
        return Point(state, total, float(bound) / float(self.rows[1].sum()))

    def _after(self, point):
        total, state = point.stats, point.state.m_step(point.stats)
        for b, before in enumerate(self.parts):
            self.parts[b] = self._part(state, b)
            total = self.parts[b] + (total - before)
            state = state.m_step(total)
        return self._point(state)
