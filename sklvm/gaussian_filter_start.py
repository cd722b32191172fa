"""What a Gaussian filter is told of its noise, and where a fit of the rest starts."""

from typing import NamedTuple

import numpy as np

from .gaussian_filter_state import Free, GaussianFilterState
from .moment_rules import named_rule
from .numerics.moment_rules import Tangent
from .state_functions import state_map
from .state_space_given import checked_covariance, is_regular
from .validation import checked_array

STATE_SHARE = 0.1  # of a state's squared unit: the noise of a move at the start of a fit
NEAR = 1e-3  # how far apart states are at which functions are tried
MAX_UNITS, STRIDE = 40, 1e3  # changes of the units of states, and the largest of one
MAX_STEPS = 20  # towards the mean of the channels
NOISE_SHARE = 0.5  # of a channel's variance: the noise of the observations


class Noise(NamedTuple):
    """Moments that the user gave: NaN where a fit is to estimate; None where nothing was said."""

    Q: np.ndarray  # (q, q)
    R: np.ndarray  # (d, d)
    P: "np.ndarray | None"  # (q, q)
    mean: "np.ndarray | None"  # (q,)


def read_noise(estimator, q, d):
    """The constructor's covariances and first moments, or one clear ValueError."""
    P, mean = estimator.initial_covariance, estimator.initial_mean
    if mean is not None:
        mean = _with_gaps(mean, (q,), "initial_mean")
    return Noise(
        read_covariance(estimator.transition_covariance, q, "transition_covariance"),
        read_covariance(estimator.observation_covariance, d, "observation_covariance", True),
        None if P is None else read_covariance(P, q, "initial_covariance"),
        mean,
    )


def read_covariance(given, size, name, regular=False):
    """(size, size) of a number, variances or a matrix; NaN on the diagonal is free, None is all."""
    if given is None:
        given = np.full(size, np.nan)
    S = np.asarray(given, dtype=np.float64)
    if S.ndim < 2:
        S = np.diag(_with_gaps(np.broadcast_to(S, (size,)) if S.ndim == 0 else S, (size,), name))
    free = np.isnan(np.diagonal(S)) if S.shape == (size, size) else np.zeros(size, bool)
    if free.any() and (S[~np.eye(size, dtype=bool)] != 0).any():
        raise ValueError(f"{name} with NaN (free) must be a diagonal matrix, got {given!r}")
    whole = np.array(S)
    whole[np.diag(free) if free.any() else np.zeros(S.shape, bool)] = 1.0
    whole = checked_covariance(whole, (size, size), name)
    if regular and not is_regular(whole):
        raise ValueError(f"{name} must be positive definite, got {given!r}")
    return np.where(np.diag(free), np.nan, whole)


def _with_gaps(given, shape, name):
    array = np.array(given, dtype=np.float64)
    filled = checked_array(np.where(np.isnan(array), 0.0, array), shape, name)
    return np.where(np.isnan(array), np.nan, filled)


def n_states(estimator, d):
    """How many components a state has: as said, as its first mean has, or as there are channels."""
    if estimator.n_components is not None:
        return estimator.n_components
    return d if estimator.initial_mean is None else np.size(estimator.initial_mean)


def maps(estimator, q, d):
    """The two functions, from states of q components: to states, and to d channels."""
    f = state_map(estimator.transition, estimator.transition_jacobian, "transition", q, q)
    h = state_map(estimator.observation, estimator.observation_jacobian, "observation", q, d)
    return f, h


def start(estimator, moments, varying):
    """The state at which a fit starts; what is given has its value already.

    `moments` are means and variances (d_varying,) of the channels `varying` (d,) bool.
    """
    d = len(varying)
    q = n_states(estimator, d)
    given = read_noise(estimator, q, d)
    f, h = maps(estimator, q, d)
    mean = np.zeros(q) if given.mean is None else np.where(np.isnan(given.mean), 0.0, given.mean)
    if estimator.observation is None:
        unknown = np.ones(d, bool) if given.mean is None else np.isnan(given.mean[:d])
        mean[:d][varying & unknown] = moments[0][unknown[varying]]
    for function in (f, h):
        function.check(mean + NEAR * (1 + np.abs(mean)) * np.arange(q + 1)[:, None])
    h, R, sd = h.some(varying), given.R[np.ix_(varying, varying)], np.sqrt(moments[1])
    free = Free(
        np.isnan(np.diagonal(given.Q)),
        np.isnan(np.diagonal(R)),
        np.zeros(q, bool) if given.P is None else np.isnan(np.diagonal(given.P)),
        np.ones(q, bool) if given.mean is None else np.isnan(given.mean),
    )
    unit = state_units(f, h, mean, sd)
    mean = towards(h, mean, unit * free.mean, moments[0], sd)
    unit = state_units(f, h, mean, sd)
    return GaussianFilterState(
        f,
        h,
        named_rule(estimator.rule).points(q),
        _filled(given.Q, STATE_SHARE * unit**2),
        _filled(R, NOISE_SHARE * moments[1]),
        mean,
        np.diag(unit**2) if given.P is None else _filled(given.P, unit**2),
        free,
        unit,
    )


def _filled(S, variances):
    return np.where(np.isnan(S), np.diag(variances), S)


def state_units(f, h, mean, sd):
    """How far each state moves to move a channel by its standard deviation sd (d,): -> (q,).

    A state that no channel shows is measured by the first of the following steps that shows it.
    The tangent is a difference over a part of the units, so they are found again until they stay;
    those of a function that is too small to move a channel so far never do.
    """
    step = np.ones(len(mean))
    units = []
    for _ in range(MAX_UNITS):
        reach = _reaches(f, h, mean, step, sd)
        known = reach > 0
        told = step / np.where(known, reach, 1.0)
        rest = np.exp(np.log(told[known]).mean()) if known.any() else 1.0
        units.append(np.where(known, told, rest))
        if np.allclose(units[-1], step, rtol=0.01, atol=0.0):
            return units[-1]
        step = np.clip(units[-1], step / STRIDE, step * STRIDE)
    return units[0]


def _reaches(f, h, mean, unit, sd):
    """How many deviations a channel moves where a state moves by its unit: (q,), 0 if none does."""
    at, root, tangent = mean[None], np.diag(unit)[None], Tangent()
    shown = tangent(h, at, root).slope[0] / sd[:, None]
    move = tangent(f, at, root).slope[0] / unit[:, None]
    reaches = []
    for _ in unit:
        reaches.append(np.abs(shown).max(axis=0))
        shown = shown @ move
    reaches = np.array(reaches)
    some = reaches > 1e-8 * reaches.max(axis=0)  # of the state itself: what rounding leaves is less
    return np.take_along_axis(reaches, some.argmax(axis=0)[None], axis=0)[0]


def towards(h, mean, unit, target, sd):
    """A mean that shows the means of the channels, by Gauss-Newton steps: (q,) -> (q,).

    States move as far as their `unit` (q,) says, those with 0 not at all; no step leads away.
    """

    def gap(at):
        try:
            with np.errstate(all="ignore"):
                return (target - h(at[None])[0]) / sd
        except ValueError:  # the function is not defined as far away
            return np.full(len(sd), np.inf)

    for _ in range(MAX_STEPS):
        left = gap(mean)
        slope = Tangent()(h, mean[None], np.diag(unit)[None]).slope[0] / sd[:, None]
        move = unit * (np.linalg.pinv(slope, rcond=1e-8) @ left)
        places = (mean + share * move for share in 0.5 ** np.arange(30))
        better = (z for z in places if np.linalg.norm(gap(z)) < (1 - 1e-6) * np.linalg.norm(left))
        if (place := next(better, None)) is None:
            return mean
        mean = place
    return mean
