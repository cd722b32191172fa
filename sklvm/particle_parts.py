"""The parts of a particle filter's model as the constructor was given them, checked."""

import numpy as np

from .gaussian_filter_start import n_states, read_covariance
from .gaussian_filter_state import square_root
from .particle_model import (
    GaussianFirst,
    GaussianMove,
    GaussianShow,
    GivenFirst,
    GivenMove,
    GivenShow,
    Parts,
)
from .state_functions import state_map
from .validation import checked_array

INSTEAD = {  # function -> what it stands for
    "sample_initial": ("initial_mean", "initial_covariance"),
    "sample_transition": ("transition", "transition_covariance"),
    "observation_log_prob": ("observation", "observation_covariance"),
}
WITH = {"transition_log_prob": "sample_transition", "sample_observation": "observation_log_prob"}


def has_given_parts(estimator):
    """Whether a part of the model is a function instead of Gaussian noise."""
    return any(getattr(estimator, name) is not None for name in INSTEAD)


def check_parts(estimator):
    """Refuse parts that are given twice, and functions whose companion is missing."""
    for function, others in INSTEAD.items():
        twice = [name for name in others if getattr(estimator, name) is not None]
        if getattr(estimator, function) is not None and twice:
            raise ValueError(f"{function} stands for {' and '.join(others)}: do not give {twice}")
    for function, companion in WITH.items():
        if getattr(estimator, function) is not None and getattr(estimator, companion) is None:
            raise ValueError(f"{function} belongs to {companion}, which is None")


def n_states_given(estimator, d):
    """How many components a state has."""
    if estimator.n_components is None and estimator.sample_initial is not None:
        return GivenFirst(estimator.sample_initial)(2, np.random.default_rng(0)).shape[1]
    return n_states(estimator, d)


def given_parts(estimator, q, varying):
    """Parts of states of q components: functions where they are given, else Gaussian numbers."""
    return Parts(
        _first(estimator, q), _move(estimator, q), _show(estimator, q, len(varying), varying)
    )


def _first(estimator, q):
    if estimator.sample_initial is not None:
        return GivenFirst(estimator.sample_initial, q)
    P = _numbers(estimator, "initial_covariance", q)
    if estimator.initial_mean is None:
        raise ValueError(f"initial_mean {WANTED}")
    mean = checked_array(estimator.initial_mean, (q,), "initial_mean")
    return GaussianFirst(mean, P, square_root(P))


def _move(estimator, q):
    if estimator.sample_transition is not None:
        return GivenMove(estimator.sample_transition, estimator.transition_log_prob)
    Q = _numbers(estimator, "transition_covariance", q)
    f = state_map(estimator.transition, None, "transition", q, q)
    return GaussianMove(f, Q, square_root(Q))


def _show(estimator, q, d, varying):
    if estimator.observation_log_prob is not None:
        given = estimator.observation_log_prob, estimator.sample_observation
        return GivenShow(*given, d, np.flatnonzero(varying))
    R = _numbers(estimator, "observation_covariance", d, regular=True)
    h = state_map(estimator.observation, None, "observation", q, d)
    return GaussianShow(h, R).some(varying)


WANTED = (
    "needs numbers: what is None or NaN is estimated by fit alone, and only where every part of "
    "the model is Gaussian"
)


def _numbers(estimator, name, size, regular=False):
    S = read_covariance(getattr(estimator, name), size, name, regular)
    if np.isnan(S).any():
        raise ValueError(f"{name} {WANTED}")
    return S
