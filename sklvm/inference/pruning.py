"""Lighter states after a climb, on all rows, kept where the climb ends higher.

Coordinate ascent alone needs hundreds of steps to empty a component (Hughes & Sudderth 2013) or to
let go of a factor.
"""

from functools import partial

import numpy as np

from .em import SHORT, hopeless_run, short_em
from .history import FitInterrupted
from .moves import likely_merges


def pruned(state, rows, *, lighter, margin, climb, max_iter, tol, callback=None, **settings):
    """Climb, and go on from a lighter state as long as that ends higher by the margin: -> Run.

    `lighter(run)` yields states to try. The passes of trials count as iterations, at the objective
    that stays: the history never falls.
    """
    run = climb(state, rows, max_iter=max_iter, tol=tol, callback=callback, **settings)
    moved = True
    while moved and run.converged:
        n_jobs = settings["n_jobs"]
        run, moved = _lightened(run, rows, lighter(run), max_iter, tol, margin, n_jobs)
        if moved:
            run = go_on(run, climb, rows, max_iter, tol=tol, callback=callback, **settings)
    return run


def go_on(before, climb, rows, max_iter, callback=None, **settings):
    """One run after another, from where that ended: -> Run."""
    later = callback and partial(_later, callback, before.n_iter)
    left = max_iter - before.n_iter
    try:
        rest = climb(before.state, rows, max_iter=left, callback=later, **settings)
    except FitInterrupted as stop:
        raise FitInterrupted(_joined(before, stop.run)) from None
    return _joined(before, rest)


def merges(sample, run):
    """The states in which a component has taken in another, likely ones first.

    `sample` (X, weight) are rows that say which components overlap. What merges into another
    component is left without rows: it returns to its prior.
    """
    resp = run.state.responsibilities(sample[0])
    for into, other in likely_merges(resp, sample[1], run.stats.counts):
        yield run.state.m_step(run.stats.merged(into, other))


def fewer_factors(run):
    """The states without one of their factors, the faintest first."""
    state = run.state
    for factor in np.argsort(state.energies):
        yield state.take(np.delete(np.arange(state.n_latents), factor))


def _lightened(run, rows, trials, max_iter, tol, margin, n_jobs):
    """The run with the first trial that ends higher, and whether there was one: -> Run, bool."""
    for start in trials:
        left = min(SHORT, max_iter - run.n_iter - 1)
        if left < 1:
            break
        hopeless = partial(hopeless_run, run.objective, [])
        try:
            trial, _ = short_em(start, rows, left, tol, None, hopeless, n_jobs)
        except FitInterrupted:
            raise FitInterrupted(run._replace(converged=False)) from None
        passes = np.full(trial.n_iter + 1, run.objective)
        history, n_iter = np.append(run.history, passes), run.n_iter + len(passes)
        if trial.objective >= run.objective + margin:
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
