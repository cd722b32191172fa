"""The parts of a model that particles need, as values: Gaussian ones, and given functions."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from .gaussian_filter_state import noise_given, square_root
from .posterior import LOG_2PI
from .state_functions import Told

ADVICE = "it gets one state in each row of Z (n, n_components) and returns one {one} for each"


class Parts(NamedTuple):
    """How states begin and move, and what they show."""

    first: Any
    move: Any
    show: Any


# --- Gaussian noise ---------------------------------------------------------------------------


def gaussian_parts(state):
    """Those of a Gaussian filter's state."""
    return Parts(
        GaussianFirst(state.mean, state.P, square_root(state.P)),
        GaussianMove(state.f, state.Q, square_root(state.Q)),
        GaussianShow(state.h, state.R),
    )


@dataclass(frozen=True)
class GaussianFirst:
    """z_1 ~ N(mean, P)."""

    mean: np.ndarray  # (q,)
    P: np.ndarray  # (q, q)
    root: np.ndarray  # (q, q) of P

    def __call__(self, n, rng):
        return self.mean + rng.standard_normal((n, len(self.mean))) @ self.root.T


@dataclass(frozen=True)
class GaussianMove:
    """z_t = f(z_t-1) + N(0, Q)."""

    f: Any  # StateMap
    Q: np.ndarray  # (q, q)
    root: np.ndarray  # (q, q) of Q

    def __call__(self, Z, rng):
        return self.f(Z) + rng.standard_normal(Z.shape) @ self.root.T

    @property
    def log_density(self):
        """log p(z_t+1 | z_t), (n, q), (n, q) -> (n,); None where Q is singular."""
        try:
            np.linalg.cholesky(self.Q)
        except np.linalg.LinAlgError:
            return None
        return self._log_density

    def _log_density(self, later, Z):
        return log_normal(later - self.f(Z), self.Q)


@dataclass(frozen=True)
class GaussianShow:
    """x_t = h(z_t) + N(0, R)."""

    h: Any  # StateMap
    R: np.ndarray  # (d, d)

    base_measure = "lebesgue"

    def log_prob(self, x, Z):
        """log p(x_seen | z): (d,), (n, q) -> (n,)."""
        seen = ~np.isnan(x)
        return log_normal((x - self.h(Z))[:, seen], self.R[np.ix_(seen, seen)])

    def sample(self, Z, rng):
        return self.h(Z) + rng.standard_normal((len(Z), len(self.R))) @ square_root(self.R).T

    def moments(self, Z, weights, rng):
        """Mean (d,) and covariance (d, d) of x over weighted states."""
        mean, covariance = weighted_moments(self.h(Z), weights)
        return mean, covariance + self.R

    def fill_mean(self, X, paths):
        """E[x | x_seen] over paths: (T, d), (m, T, q) -> (T, d)."""
        shown = _over_paths(self.h, paths)
        return shown + noise_given(self.R, X, shown)

    def fill_sample(self, X, Z, rng):
        """A draw of x given x_seen and states (T, q): -> (T, d)."""
        drawn = self.sample(Z, rng)
        return drawn + noise_given(self.R, X, drawn)

    def some(self, columns):
        R = self.R[columns][:, columns]
        return GaussianShow(self.h.some(columns), R)

    @property
    def n_features(self):
        return len(self.R)


# --- functions that people give ---------------------------------------------------------------


@dataclass(frozen=True)
class GivenFirst:
    """`sample_initial(n, rng)`."""

    function: Callable
    n_components: "int | None" = None  # None where it is to tell

    def __call__(self, n, rng):
        Z = np.asarray(self.function(n, rng), dtype=np.float64)
        q = self.n_components
        fits = Z.ndim == 2 and len(Z) == n and (q is None or Z.shape[1] == q)
        if not fits or not np.isfinite(Z).all():
            wanted = "n_components" if q is None else f"n_components={q}"
            raise ValueError(
                f"sample_initial({n}, rng) must return finite numbers of shape ({n}, {wanted}), "
                f"got {'NaN or infinity' if fits else f'shape {Z.shape}'}"
            )
        return Z


@dataclass(frozen=True)
class GivenMove:
    """`sample_transition(Z, rng)`, and `transition_log_prob(Z_next, Z)` where it is known."""

    function: Callable
    transition_log_prob: Any

    def __call__(self, Z, rng):
        return _rows(self.function(_safe(Z), rng), Z.shape, "sample_transition", "state")

    @property
    def log_density(self):
        return None if self.transition_log_prob is None else self._log_density

    def _log_density(self, later, Z):
        values = self.transition_log_prob(_safe(later), _safe(Z))
        return _log_probs(values, len(Z), "transition_log_prob")


@dataclass(frozen=True)
class GivenShow:
    """`observation_log_prob(x, Z)`, and `sample_observation(Z, rng)` where it is known.

    The functions know all channels: those that are left out are missing (NaN) to them.
    """

    function: Callable
    sampler: Any
    n_channels: int
    columns: np.ndarray  # those that are kept

    base_measure = "given"

    def log_prob(self, x, Z):
        told = Told(self.function, self.columns, self.n_channels)
        return _log_probs(told(x, _safe(Z)), len(Z), "observation_log_prob")

    def sample(self, Z, rng):
        if self.sampler is None:
            raise ValueError("steps cannot be drawn: give sample_observation(Z, rng)")
        shape = len(Z), self.n_channels
        X = self.sampler(_safe(Z), rng) if len(Z) else np.empty(shape)
        return _rows(X, shape, "sample_observation", "step")[:, self.columns]

    def moments(self, Z, weights, rng):
        return weighted_moments(self.sample(Z, rng), weights)

    def fill_mean(self, X, paths):
        """Means of draws, always the same ones."""
        return _over_paths(lambda Z: self.sample(Z, np.random.default_rng(0)), paths)

    def fill_sample(self, X, Z, rng):
        return self.sample(Z, rng)

    def some(self, columns):
        return replace(self, columns=self.columns[columns])

    @property
    def n_features(self):
        return len(self.columns)


def _over_paths(function, paths):
    """The mean of a function of states over paths: (m, T, q) -> (T, p)."""
    m, T, q = paths.shape
    values = function(paths.reshape(m * T, q))
    return values.reshape(m, T, values.shape[1]).mean(axis=0)


def _safe(Z):
    """A view that a function cannot change."""
    view = Z.view()
    view.flags.writeable = False
    return view


def _rows(values, shape, name, one):
    values = np.asarray(values, dtype=np.float64)
    if values.shape != shape or not np.isfinite(values).all():
        got = f"shape {values.shape}" if values.shape != shape else "NaN or infinity"
        raise ValueError(
            f"{name} must return finite numbers of shape {shape}, got {got}: "
            f"{ADVICE.format(one=one)}"
        )
    return values


def _log_probs(values, n, name):
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (n,) or not (values < np.inf).all():
        got = f"shape {values.shape}" if values.shape != (n,) else "NaN or infinity"
        raise ValueError(
            f"{name} must return numbers below infinity of shape ({n},), got {got}: "
            f"{ADVICE.format(one='number')}; what is NaN in a step is left out of its density"
        )
    return values


# --- sums -------------------------------------------------------------------------------------


def log_normal(gap, S):
    """log N(gap; 0, S): (n, d), (d, d) -> (n,)."""
    root = np.linalg.cholesky(S)
    white = np.linalg.solve(root, gap.T)
    log_det = np.log(np.diagonal(root)).sum()
    return -0.5 * (white**2).sum(axis=0) - log_det - 0.5 * len(S) * LOG_2PI


def weighted_moments(X, weights):
    """Mean and covariance of weighted rows: (n, d), (n,) -> (d,), (d, d)."""
    mean = weights @ X
    gap = X - mean
    return mean, (weights[:, None] * gap).T @ gap
