"""What a fitted state-space model answers besides what every model of sequences does."""

from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri

from .base import fitted, positive_int
from .inference.quantiles import central, checked_levels
from .sequence_model import SequenceModel


class States(NamedTuple):
    """Means and covariances of the states at each step, in the container of X.

    With a diffuse start the covariances are their finite parts: a direction that no value has
    resolved yet, as the slope of a trend at the first step, counts as known. `forecast` says
    infinity there, `n_diffuse` how many values resolved the start.
    """

    mean: Any  # (T_i, n_components) per sequence
    covariance: Any  # (T_i, n_components, n_components) per sequence


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


class StateSpaceVerbs(SequenceModel):
    """The verbs of a chain of continuous states."""

    def filter(self, X):
        """States given the steps up to them (Kalman filter).

        Parameters
        ----------
        X : list of array-like of shape (n_steps, n_channels), or array
            Sequences; NaN marks missing entries.

        Returns
        -------
        states : States
            Named tuple of `mean` (T_i, n_components) and `covariance` (T_i, n_components,
            n_components) per sequence, in the container of X; NaN in padding.
        """
        read = self._read(X)
        found = self._density.filtered(read)
        return States(read.restore(found.mean), read.restore(found.covariance))

    def smooth(self, X):
        """States given all of their sequence (Kalman smoother).

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
        horizon, read = positive_int(horizon, "horizon"), self._read(X)
        found = self._density.forecast(read, horizon)
        return StateForecast(
            self._restore(found.mean),
            self._restore_square(found.covariance),
            found.state_mean,
            found.state_covariance,
        )

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
        return self._restore(self._density.C.T, fill=0.0).T

    @fitted
    def observation_covariance_(self):
        """(n_channels, n_channels) R, diagonal, in squared units of X."""
        return np.diag(self._restore(self._density.R, fill=0.0))

    @fitted
    def intercept_(self):
        """(n_channels,) E[x_t] where the state is zero."""
        return self._restore(self._density.c)

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
