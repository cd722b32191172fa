"""Gradient ascent by L-BFGS, with the history and the callbacks of EM."""

import numpy as np
from scipy.optimize import Bounds, minimize

from .history import FitInterrupted, Run


def ascend(
    value_and_gradient,
    start,
    state_of,
    *,
    bounds,
    max_iter,
    tol,
    offset=0.0,
    curvature=1.0,
    callback=None,
):
    """Maximise a smooth function of a vector between bounds (Byrd et al. 1995).

    `value_and_gradient(x) -> (float, (p,))` in nats per unit weight, `state_of(x)` makes the state
    that `Run` and `callback(iteration, state, objective)` carry; tol bounds the relative gain,
    `bounds` is a pair of numbers or arrays (p,).
    `offset` is a term without x: it is reported, and has no part in when to stop. `curvature`, a
    number or (p,), says about how large the second derivatives are: it shapes the first steps.
    """
    history = []
    scale = np.sqrt(curvature)  # L-BFGS moves y = scale x
    low, high = map(np.asarray, bounds)
    best = np.clip(np.asarray(start, float), low, high)

    def descend(y):
        value, gradient = value_and_gradient(y / scale)
        return -value, -gradient / scale

    def record(intermediate_result):
        nonlocal best
        best = intermediate_result.x / scale
        history.append(offset - float(intermediate_result.fun))
        if callback is not None and callback(len(history) - 1, state_of(best), history[-1]):
            raise StopIteration

    history.append(offset - float(descend(best * scale)[0]))
    options = {"maxiter": max_iter, "ftol": tol, "gtol": 1e-9, "maxcor": 20, "maxls": 50}
    try:
        result = minimize(
            descend,
            best * scale,
            jac=True,
            method="L-BFGS-B",
            bounds=Bounds(low * scale, high * scale),
            callback=record,
            options=options,
        )
    except KeyboardInterrupt:
        run = Run(state_of(best), np.array(history), False, len(history) - 1)
        raise FitInterrupted(run) from None
    # A line search that rounding ends is the end of the climb too, where the gradient agrees:
    # a bound may hold back the rest of it.
    x = result.x / scale
    uphill = np.clip(x - scale * result.jac, low, high) - x
    converged = bool(result.success or np.abs(uphill).max(initial=0.0) < 1e-6)
    return Run(state_of(best), np.array(history), converged, len(history) - 1)
