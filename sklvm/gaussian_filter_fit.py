"""Maximum of a Gaussian filter's likelihood over noise and first moments, by L-BFGS."""

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from .gaussian_filter_start import start
from .inference.ascend import ascend
from .inference.history import Run
from .numerics import root_filter
from .sequences import distinct
from .warn import warn_user

STEP = 1e-4  # of the central differences, in logarithms and in units of the states
LOWEST, HIGHEST = np.log(1e-12), np.log(1e12)  # of a variance, beside that at the start
FLOOR = 1e-8  # smallest variance of the observation noise, as a share of that at the start
REACH = 1e6  # of a first mean, in units of the state


def climb(estimator, data, callback):
    """The fit of what `estimator` leaves free to training sequences: -> Run."""
    sequences, weight = distinct(data.sequences, data.weight)
    begin = start(estimator, _moments(sequences, weight), ~data.constant)
    settings = {"max_iter": estimator.max_iter, "tol": estimator.tol}
    return maximise(begin, sequences, weight, callback=callback, **settings)


def _moments(sequences, weight):
    """Means and variances of the channels over weighted steps: (d,), (d,)."""
    w = sequences.spread(weight)[:, None] * ~np.isnan(sequences.steps)
    x = np.nan_to_num(sequences.steps)
    mean = (w * x).sum(axis=0) / w.sum(axis=0)
    return mean, (w * (x - mean) ** 2).sum(axis=0) / w.sum(axis=0)


def maximise(begin, sequences, weight, *, max_iter, tol, callback):
    """The best state from `begin` on: the objective is per observed step."""
    total = float(weight @ sequences.sums(sequences.observed))

    def objective(vectors):
        """Of many vectors in one pass: (m, p) -> (m,)."""
        return _log_probs(begin, vectors, sequences) @ weight / total

    p = begin.n_parameters
    if not p:
        value = objective(np.zeros((1, 0)))
        if callback is not None:
            callback(1, begin, value[0])
        return Run(begin, np.tile(value, 2), True, 1)

    def value_and_gradient(vector):
        steps = STEP * np.concatenate([np.zeros((1, p)), np.eye(p), -np.eye(p)])
        values = objective(vector + steps)
        return values[0], (values[1 : p + 1] - values[p + 1 :]) / (2 * STEP)

    run = ascend(
        value_and_gradient,
        np.zeros(p),
        begin.unpack,
        bounds=_bounds(begin.free),
        max_iter=max_iter,
        tol=tol,
        callback=callback,
    )
    _warn_at_the_end_of_reach(begin, run.state)
    return run


def _warn_at_the_end_of_reach(begin, found):
    """A first mean that stopped at its bound is no maximum."""
    far = np.abs(found.mean - begin.mean) >= (1 - 1e-9) * REACH * begin.unit
    if (far & begin.free.mean).any():
        warn_user(
            f"the means {np.flatnonzero(far).tolist()} of the first state stopped at the bound of "
            "the fit: give initial_mean near the states",
            ConvergenceWarning,
        )


def _bounds(free):
    """Lowest and highest coordinates: (p,), (p,)."""
    low = [(free.Q, LOWEST), (free.R, np.log(FLOOR)), (free.P, LOWEST), (free.mean, -REACH)]
    high = [(free.Q, HIGHEST), (free.R, HIGHEST), (free.P, HIGHEST), (free.mean, REACH)]
    return tuple(
        np.concatenate([np.full(part.sum(), value) for part, value in bound])
        for bound in (low, high)
    )


def _log_probs(begin, vectors, sequences):
    """log p of each sequence under each of many parameters: (m, p) -> (m, n).

    Copies of the sequences move on together, so that the time is about that of one pass.
    """
    m, n = len(vectors), len(sequences)
    models = [begin.unpack(vector).model for vector in vectors]
    noise = [np.repeat(np.concatenate(parts), n, axis=0) for parts in zip(*(m[3:] for m in models))]
    model = models[0]._replace(**dict(zip(("Q", "R", "mean", "P"), noise)))
    copies = sequences.take(np.tile(np.arange(n), m))
    found = root_filter.run(model, copies.steps, copies.starts)
    return copies.sums(found.log_density).reshape(m, n)
