"""What a fitted state-space model answers besides what every model of sequences does."""

from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri
from sklearn.utils.validation import check_is_fitted

from .base import fitted, positive_int
from .containers import pack_like
from .inference.quantiles import central, checked_levels
from .inference.randomness import generator
from .sequence_model import SequenceModel
from .validation import checked_array


class States(NamedTuple):
    """Means and covariances of the states at each step, in the container of X.

    With a diffuse start the variance of what no value has resolved yet, as the slope of a trend at
    the first step, is infinite; `n_diffuse` says how many values resolved the start.
    """

    mean: Any  # (T_i, n_components) per sequence
    covariance: Any  # (T_i, n_components, n_components) per sequence

    def interval(self, level=0.95):
        """Bounds that each state lies between with this probability, step by step.

        Parameters
        ----------
        level : float, default=0.95
            Between 0 and 1; as much of the rest lies below as above.

        Returns
        -------
        low, high : in the container of X
            (T_i, n_components) per sequence, as `mean` has them.
        """
        low, high = central(level)
        return self.quantile(low), self.quantile(high)

    def quantile(self, q):
        """The q-quantile of each state, step by step.

        Parameters
        ----------
        q : float
            Between 0 and 1.

        Returns
        -------
        z : in the container of X
            (T_i, n_components) per sequence, as `mean` has them.
        """
        reach = ndtri(checked_levels(q))

        def of(mean, covariance):
            sd = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
            return mean + reach * sd if reach else mean

        if isinstance(self.mean, np.ndarray) and self.mean.dtype != object:
            return of(self.mean, self.covariance)
        parts = [of(*one) for one in zip(self.mean, self.covariance)]
        return pack_like(self.mean, parts)


class StateForecast(NamedTuple):
    """The steps that follow sequences; infinite variances where a diffuse start is unresolved."""

    mean: np.ndarray  # (n_sequences, horizon, n_channels)
    covariance: np.ndarray  # (n_sequences, horizon, n_channels, n_channels) of each step
    state_mean: np.ndarray  # (n_sequences, horizon, n_components)
    state_covariance: np.ndarray  # (n_sequences, horizon, n_components, n_components)

    def quantile(self, q):
        """Quantiles of each entry, which is normal.

        Parameters
        ----------
        q : float or array-like of float
            Between 0 and 1.

        Returns
        -------
        x : ndarray of shape (*shape of q, n_sequences, horizon, n_channels)
        """
        z = ndtri(checked_levels(q))[..., None, None, None]
        sd = np.sqrt(np.diagonal(self.covariance, axis1=-2, axis2=-1))
        return self.mean + z * np.where(z == 0, 0.0, sd)

    def interval(self, level=0.95):
        """Bounds that each entry lies between with this probability.

        Parameters
        ----------
        level : float, default=0.95
            Between 0 and 1; as much of the rest lies below as above.

        Returns
        -------
        low, high : ndarray of shape (n_sequences, horizon, n_channels)
        """
        return tuple(self.quantile(central(level)))


class StateVerbs(SequenceModel):
    """The verbs of a chain of continuous states, linear or not."""

    def filter(self, X):
        """States given the steps up to them.

        Parameters
        ----------
        X : list of array-like of shape (n_steps, n_channels), or array
            Sequences; NaN marks missing entries.

        Returns
        -------
        states : States
            Named tuple of `mean` (T_i, n_components) and `covariance` (T_i, n_components,
            n_components) per sequence, in the container of X; NaN in padding. `interval(level)`
            gives bands.
        """
        read = self._read(X)
        found = self._density.filtered(read)
        return States(read.restore(found.mean), read.restore(found.covariance))

    def smooth(self, X):
        """States given all of their sequence.

        Parameters
        ----------
        X : list of array-like of shape (n_steps, n_channels), or array
            Sequences; NaN marks missing entries.

        Returns
        -------
        states : States
            Named tuple of `mean` and `covariance` per sequence, as `filter` gives them.
        """
        read = self._read(X)
        found = self._density.smoothed(read)
        return States(read.restore(found.mean), read.restore(found.covariance))

    def forecast(self, X, horizon=1):
        """The steps that follow each sequence, with their uncertainty.

        Parameters
        ----------
        X : list of array-like of shape (n_steps, n_channels), or array
            Sequences; NaN marks missing entries.
        horizon : int, default=1
            Steps to look ahead.

        Returns
        -------
        forecast : StateForecast
            Named tuple of `mean` (n_sequences, horizon, n_channels), `covariance` (n_sequences,
            horizon, n_channels, n_channels), zeros for constant channels, `state_mean` and
            `state_covariance`; ``quantile(q)`` and ``interval(level)`` as of hidden Markov models.
        """
        horizon = positive_int(horizon, "horizon")
        return self._told(self._density.forecast(self._read(X), horizon))

    def _told(self, found):
        """A forecast of the state, in the channels of X."""
        return StateForecast(
            self._restore(found.mean),
            self._restore_square(found.covariance),
            found.state_mean,
            found.state_covariance,
        )


class StateSpaceVerbs(StateVerbs):
    """What the matrices of a linear chain add, and its inputs."""

    def forecast(self, X, horizon=1, *, inputs=None):
        """The steps that follow each sequence, with their uncertainty.

        Parameters
        ----------
        X : list of array-like of shape (n_steps, n_channels), or array
            Sequences; NaN marks missing entries.
        horizon : int, default=1
            Steps to look ahead.
        inputs : array-like of shape (n_sequences, horizon, n_inputs) or (horizon, n_inputs), \
default=None
            Inputs of those steps, where the model has any.

        Returns
        -------
        forecast : StateForecast
            Named tuple of `mean` (n_sequences, horizon, n_channels), `covariance` (n_sequences,
            horizon, n_channels, n_channels), zeros for constant channels and inputs, `state_mean`
            and `state_covariance`; `interval(level)` gives bands.
        """
        horizon, read = positive_int(horizon, "horizon"), self._read(X)
        u = self._checked_inputs(inputs, len(read), horizon)
        return self._told(self._density.forecast(read, horizon, u))

    def sample(self, n_samples=1, random_state=None, *, n_timesteps=None, inputs=None):
        """Draw sequences, and the states that caused them.

        Parameters
        ----------
        n_samples : int, default=1
            Number of sequences.
        random_state : int, RandomState instance or None, default=None
            Two calls with None differ, an int repeats.
        n_timesteps : int, default=None
            Steps of each; None is the number of `inputs`, or the weighted median of the training
            lengths.
        inputs : array-like of shape (n_samples, n_timesteps, n_inputs) or (n_timesteps, n_inputs),\
 default=None
            Inputs of the steps, where the model has any.

        Returns
        -------
        X : ndarray of shape (n_samples, n_timesteps, n_channels)
            Sequences, the inputs among them.
        Z : ndarray of shape (n_samples, n_timesteps, n_components)
            Their states.
        """
        check_is_fitted(self)
        if n_timesteps is None and inputs is not None and np.ndim(inputs) > 1:
            n_timesteps = np.shape(inputs)[-2]
        n, T = self._checked_sizes(n_samples, n_timesteps)
        u = self._checked_inputs(inputs, n, T)
        X, Z = self._density.sample(n, T, generator(random_state), u)
        return self._restore(X), Z

    def _checked_inputs(self, inputs, n, T):
        """Inputs of T steps of n sequences, (n, T, m) or None; or ValueError."""
        m = len(self.input_columns_)
        if inputs is None and not m:
            return None
        if inputs is None or not m:
            raise ValueError(f"the model has {m} inputs, got inputs={inputs!r}")
        inputs = self._in_order(inputs)
        shared = np.ndim(inputs) == 2
        u = checked_array(inputs, (T, m) if shared else (n, T, m), "inputs")
        return np.broadcast_to(u, (n, T, m))

    def _in_order(self, inputs):
        """Inputs of DataFrames by their names, where the model knows names."""
        if isinstance(inputs, list | tuple):
            return [self._in_order(one) for one in inputs]
        names = self._names
        if names is None or not hasattr(inputs, "columns"):
            return inputs
        wanted = [names[column] for column in self.input_columns_]
        if sorted(map(str, inputs.columns)) != sorted(map(str, wanted)):
            raise ValueError(f"inputs must have the columns {wanted}, got {list(inputs.columns)}")
        return inputs[wanted]

    def n_diffuse(self, X):
        """How many values of each sequence resolved its diffuse start: its score is given them.

        Parameters
        ----------
        X : list of array-like of shape (n_steps, n_channels), or array
            Sequences; NaN marks missing entries.

        Returns
        -------
        n_values : ndarray of shape (n_sequences,), integers
            Zeros where the start is not diffuse.
        """
        return self._density.filtered(self._read(X)).n_diffuse

    def _params_of(self, state, kept):
        given, inputs = np.isin(kept, self.input_columns_), self.input_columns_
        outputs = np.setdiff1d(np.arange(self.n_channels_), inputs)
        params = super()._params_of(state, kept)
        rows = np.searchsorted(outputs, kept[~given])
        columns = np.searchsorted(inputs, kept[given])
        of_matrices = {
            "observation_matrix": (rows, slice(None)),
            "input_matrix": (slice(None), columns),
            "feedthrough_matrix": np.ix_(rows, columns),
        }
        for name, part in of_matrices.items():
            if params[name] is not None:
                params[name] = _matrix(params[name])[part]
        return {**params, "input_columns": np.flatnonzero(given).tolist() or None}

    # -- fitted attributes ---------------------------------------------------------------------

    @fitted
    def transition_matrix_(self):
        """(n_components, n_components) A: how a state moves."""
        return self._density.A

    @fitted
    def transition_covariance_(self):
        """(n_components, n_components) Q, of the noise of a move."""
        return self._density.Q

    @fitted
    def observation_matrix_(self):
        """(n_channels, n_components) C, in the units of X; zeros for constant channels."""
        return self._of_outputs(self._density.C.T, 0.0).T

    @fitted
    def observation_covariance_(self):
        """(n_channels, n_channels) R, in squared units of X; zeros for constant channels."""
        return self._of_outputs(self._of_outputs(self._density.noise_covariance, 0.0).T, 0.0)

    @fitted
    def intercept_(self):
        """(n_channels,) E[x_t] where the state and the inputs are zero."""
        return self._of_outputs(self._density.c)

    @fitted
    def input_matrix_(self):
        """(n_components, n_inputs) B: how inputs move a state."""
        return self._density.B

    @fitted
    def feedthrough_matrix_(self):
        """(n_channels, n_inputs) D, in the units of X; zeros for constant channels."""
        return self._of_outputs(self._density.D.T, 0.0).T

    @fitted
    def input_columns_(self):
        """(n_inputs,) which columns of X are inputs."""
        return np.flatnonzero(~self.constant_)[self._density.inputs]

    def _of_outputs(self, values, fill=None):
        """Put constant channels back among the outputs, along the last axis."""
        whole = self._restore(self._density.among_inputs(values), fill)
        return np.delete(whole, self.input_columns_, axis=-1)

    @fitted
    def initial_mean_(self):
        """(n_components,) of the first state."""
        return self._density.model.mean

    @fitted
    def initial_covariance_(self):
        """(n_components, n_components) of the first state; infinite where it is diffuse."""
        model = self._density.model
        if model.diffuse is None:
            return model.P
        return np.where(np.eye(len(model.P), dtype=bool), np.inf, 0.0)

    @fitted
    def poles_(self):
        """(n_components,) eigenvalues of A in descending order of modulus, complex."""
        poles = np.linalg.eigvals(self._density.A).astype(complex)
        return poles[np.lexsort([-poles.imag, -poles.real, -np.abs(poles).round(12)])]

    @fitted
    def n_diffuse_(self):
        """Directions of the first state that are diffuse: 0, or n_components."""
        diffuse = self._density.model.diffuse
        return 0 if diffuse is None else diffuse.shape[1]

    @fitted
    def score_kind_(self):
        """ "exact"; "conditional" on the values that resolve a diffuse start."""
        return "conditional" if self.n_diffuse_ else "exact"

    @fitted
    def lower_bound_(self):
        """The objective at the end of the fit, nats per observed step."""
        return float(self.run_.objective)


def _matrix(given):
    """Floats, or numbers and names of parameters."""
    named = any(isinstance(entry, str) for entry in np.array(given, dtype=object).flat)
    return np.array(given, dtype=object if named else np.float64)
