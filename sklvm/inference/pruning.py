"""Merges after a climb, on the statistics of all rows, kept where the climb ends higher.

What merges into another component is left without rows: it returns to its prior. Coordinate ascent
alone needs hundreds of steps to empty a component (Hughes & Sudderth 2013).
"""

from functools import partial

import numpy as np

from .em import SHORT, hopeless_run, short_em
from .history import FitInterrupted
from .moves import likely_merges


def pruned(state, rows, *, sample, climb, max_iter, tol, callback=None, **settings):
    """Climb, and merge components as long as that ends higher by more than tol: -> Run.

    `sample` (X, weight) are rows that say which components overlap. The passes of trials count as
    iterations, at the objective that stays: the history never falls.
    """

    def go_on(before):
        later = callback and partial(_later, callback, before.n_iter)
        left = max_iter - before.n_iter
        try:
            rest = climb(before.state, rows, max_iter=left, tol=tol, callback=later, **settings)
        except FitInterrupted as stop:
            raise FitInterrupted(_joined(before, stop.run)) from None
        return _joined(before, rest)

    run = climb(state, rows, max_iter=max_iter, tol=tol, callback=callback, **settings)
    moved = True
    while moved and run.converged:
        run, moved = _with_merge(run, rows, sample, max_iter, tol, settings["n_jobs"])
        if moved:
            run = go_on(run)
    return run


def _with_merge(run, rows, sample, max_iter, tol, n_jobs):
    """The run with the first merge that ends higher, and whether there was one: -> Run, bool."""
    resp = run.state.responsibilities(sample[0])
    for into, other in likely_merges(resp, sample[1], run.stats.counts):
        left = min(SHORT, max_iter - run.n_iter - 1)
        if left < 1:
            break
        start = run.state.m_step(run.stats.merged(into, other))
        hopeless = partial(hopeless_run, run.objective, [])
        try:
            trial, _ = short_em(start, rows, left, tol, None, hopeless, n_jobs)
        except FitInterrupted:
            raise FitInterrupted(run._replace(converged=False)) from None
        passes = np.full(trial.n_iter + 1, run.objective)
        history, n_iter = np.append(run.history, passes), run.n_iter + len(passes)
        if trial.objective > run.objective + tol:
            history[-1] = trial.objective
            return trial._replace(history=history, n_iter=n_iter), True
        run = run._replace(history=history, n_iter=n_iter)
    return run, False


def _later(callback, offset, iteration, state, objective):
    """What watches the climbs is told the iterations of all of them."""
    return callback(offset + iteration, state, objective)


def _joined(first, then):
    """One run after the other."""
    history = np.append(first.history, then.history[1:])
    return then._replace(history=history, n_iter=first.n_iter + then.n_iter)
