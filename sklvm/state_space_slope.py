"""The slope of the exact log-likelihood of a state-space model, from the sums of an E-step.

Fisher's identity: it is the slope of the expected log density at the same parameters.
"""

import numpy as np

from .inference.ascend import ascend
from .inference.em import em, evaluate
from .inference.history import FitInterrupted

EM_STEPS = 20  # before L-BFGS takes over
LEAST_CURVATURE = 1e-4  # that shapes first steps, per observed step
NOWHERE = 10.0  # nats per observed step below the start: where parameters are no model


def normal_value_and_slope(V, S, n):
    """-(n log |V| + tr V^-1 S) / 2 and its slope by V (q, q)."""
    inverse = np.linalg.inv(np.linalg.cholesky(V))
    precision = inverse.T @ inverse
    value = n * np.log(np.diagonal(inverse)).sum() - 0.5 * (precision * S).sum()
    return value, 0.5 * (precision @ S @ precision - n * precision)


def moves_value_and_slopes(F, Q, stats):
    """Expected log density of moves less a constant, and its slopes by F = (A, B) and Q.

    States without noise have no part in it: what they do is given.
    """
    noisy = np.diagonal(Q) > 0
    some = np.ix_(noisy, noisy)
    by_Q, precision = np.zeros_like(Q), np.zeros_like(Q)
    value, by_Q[some] = normal_value_and_slope(Q[some], stats.disturbance(F)[some], stats.n_moves)
    precision[some] = np.linalg.inv(Q[some])
    return value, precision @ (stats.lag - F @ stats.earlier), by_Q


def log_cholesky_slope(by_S, S):
    """The slope by the coordinates of `log_cholesky` of S (q, q)."""
    L = np.linalg.cholesky(S)
    by_L = 2 * by_S @ L
    below = np.tril_indices(len(S), -1)
    return np.concatenate([np.diagonal(by_L) * np.diagonal(L), by_L[below]])


def em_then_lbfgs(state, rows, *, max_iter, tol, callback=None):
    """A few steps of EM, then L-BFGS on the exact log-likelihood: -> Run."""
    begun = em(state, rows, max_iter=min(EM_STEPS, max_iter), tol=tol, callback=callback)
    if begun.converged or begun.n_iter < EM_STEPS or begun.n_iter == max_iter:
        return begun

    run = begun._replace(converged=False)
    while run.n_iter < max_iter and not run.converged:
        before = run
        run = _again(before, rows, max_iter - before.n_iter, tol, callback)
        small = run.objective - before.objective <= tol * (1 + abs(run.objective))
        run = run._replace(converged=small and run.converged)
        if small:
            break
    return run


def _again(before, rows, max_iter, tol, callback):
    """A climb with units and curvatures of where it begins."""

    def later(iteration, state, objective):
        return callback is not None and callback(before.n_iter + iteration, state, objective)

    try:
        return _joined(before, _climb(before, rows, max_iter, tol / 10, later))
    except FitInterrupted as stop:
        raise FitInterrupted(_joined(before, stop.run)) from None


def _joined(begun, run):
    history = np.concatenate([begun.history, run.history[1:]])
    return run._replace(history=history, n_iter=len(history) - 1)


def _climb(begun, rows, max_iter, tol, callback):
    origin, total = begun.state, float(rows[1].sum())
    stats = evaluate(origin, rows).stats

    def value_and_gradient(v):
        with np.errstate(all="ignore"):  # a line search may try what is no model
            try:
                there = origin.unpack(v)
                point = evaluate(there, rows)
                slope = there.slope(point.stats, origin) / total
            except np.linalg.LinAlgError:
                return begun.objective - NOWHERE, np.zeros(len(v))
        if not (np.isfinite(point.objective) and np.isfinite(slope).all()):
            return begun.objective - NOWHERE, np.zeros(len(v))
        return point.objective, slope

    return ascend(
        value_and_gradient,
        np.zeros(len(origin.pack(origin))),
        origin.unpack,
        bounds=origin.bounds(),
        max_iter=max_iter,
        tol=tol,
        curvature=np.maximum(origin.curvature(stats) / total, LEAST_CURVATURE),
        callback=callback,
    )
