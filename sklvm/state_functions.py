"""Functions of states that people give: rows in, rows out, checked."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

ADVICE = (
    "it gets one state in each row of Z (n, n_components) and returns one row for each; of a "
    "function of one state make lambda Z: np.stack([function(z) for z in Z])"
)


@dataclass(frozen=True)
class StateMap:
    """A function (n, q) -> (n, p) with its Jacobian (n, q) -> (n, p, q), where that is known."""

    function: Callable
    derivative: Any
    name: str
    n_outputs: int
    columns: Any = None  # which of the outputs are kept; None is all

    def __call__(self, Z):
        return self._kept(self._rows(self.function, Z, (self.n_outputs,), self.name))

    @property
    def jacobian(self):
        """Rows of states -> (n, p, q), or None."""
        return None if self.derivative is None else self._jacobian

    def _jacobian(self, Z):
        shape = (self.n_outputs, Z.shape[1])
        return self._kept(self._rows(self.derivative, Z, shape, f"{self.name}_jacobian"))

    def _kept(self, values):
        return values if self.columns is None else values[:, self.columns]

    def _rows(self, function, Z, shape, name):
        if not len(Z):  # which few functions expect
            return np.empty((0, *shape))
        view = Z.view()
        view.flags.writeable = False  # what a filter knows is not the function's to change
        values = np.asarray(function(view), dtype=np.float64)
        if values.shape != (len(Z), *shape):
            raise ValueError(
                f"{name} must return an array of shape {(len(Z), *shape)} for {len(Z)} states, got "
                f"{values.shape}: {ADVICE}"
            )
        if not np.isfinite(values).all():
            raise ValueError(f"{name} returned NaN or infinity for finite states")
        return values

    def some(self, columns):
        """The same map with some of its outputs."""
        kept = np.arange(self.n_outputs) if self.columns is None else self.columns
        return replace(self, columns=kept[columns])

    def check(self, Z):
        """Refuse a function that mixes rows: its value at a state is that of the state alone."""
        together = self(Z)
        alone = np.concatenate([self(Z[[i]]) for i in range(len(Z))])
        if not np.allclose(together, alone, rtol=1e-6, atol=1e-9 * np.abs(alone).max()):
            raise ValueError(f"{self.name} gives a state another value beside others: {ADVICE}")


def state_map(function, derivative, name, n_inputs, n_outputs):
    """The map that a user means; None is the leading components of the state themselves."""
    if function is None:
        if n_outputs > n_inputs:
            raise ValueError(
                f"{name}=None shows the leading components of the state, but n_components="
                f"{n_inputs} is less than {n_outputs} channels: give {name}"
            )
        return StateMap(Leading(n_outputs), LeadingJacobian(n_outputs), name, n_outputs)
    if not callable(function):
        raise TypeError(f"{name} must be a function of states or None, got {function!r}")
    return StateMap(function, derivative, name, n_outputs)


@dataclass(frozen=True)
class Leading:
    """The first n components of a state."""

    n: int

    def __call__(self, Z):
        return Z[:, : self.n]


@dataclass(frozen=True)
class LeadingJacobian:
    """What they move by."""

    n: int

    def __call__(self, Z):
        return np.broadcast_to(np.eye(self.n, Z.shape[1]), (len(Z), self.n, Z.shape[1]))


# --- parts of the channels --------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """Some columns of what a function gives, itself a function that can be pickled."""

    function: Callable
    columns: np.ndarray

    def __call__(self, Z, *args):
        return np.asarray(self.function(Z, *args))[:, self.columns]


@dataclass(frozen=True)
class Told:
    """A log density of steps of which some channels come and the others are missing."""

    function: Callable
    columns: np.ndarray
    n_channels: int

    def __call__(self, x, Z):
        whole = np.full(self.n_channels, np.nan)
        whole[self.columns] = x
        return self.function(whole, Z)


def params_of_channels(params, kept, n_channels):
    """Constructor parameters of a model that shows some of the channels of another."""
    params, R = dict(params), params["observation_covariance"]
    if params["observation"] is None and params.get("observation_log_prob") is None:
        params["observation"] = Leading(n_channels)
    for name in ("observation", "observation_jacobian", "sample_observation"):
        if params.get(name) is not None:
            params[name] = Shown(params[name], kept)
    if params.get("observation_log_prob") is not None:
        params["observation_log_prob"] = Told(params["observation_log_prob"], kept, n_channels)
    if np.ndim(R) > 0:
        R = np.asarray(R, dtype=np.float64)
        params["observation_covariance"] = R[np.ix_(*[kept] * R.ndim)]
    return params
