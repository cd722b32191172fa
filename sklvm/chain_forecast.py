"""What is expected of the steps that follow sequences of a hidden Markov chain."""

from typing import Any, NamedTuple

import numpy as np

from .inference.quantiles import central, checked_levels, mixture_quantiles


class Forecast(NamedTuple):
    """The steps that follow sequences: a mixture of the states' conditionals at each horizon."""

    mean: np.ndarray  # (n_sequences, horizon, n_channels)
    covariance: np.ndarray  # (n_sequences, horizon, n_channels, n_channels) of each step
    probs: np.ndarray  # (n_sequences, horizon, n_components) of the states
    emission: Any  # p(x_t | z_t) of the channels that vary
    varying: np.ndarray  # (n_channels,) bool; the others are their mean

    def quantile(self, q):
        """Quantiles of each entry.

        Parameters
        ----------
        q : float or array-like of float
            Between 0 and 1.

        Returns
        -------
        x : ndarray of shape (*shape of q, n_sequences, horizon, n_channels)
            The least x with P(x_t <= x) >= q, channel by channel: whole numbers where the channel
            counts.
        """
        levels = checked_levels(q)
        found = np.array([self._quantile(level) for level in levels.ravel()])
        return found.reshape(*levels.shape, *self.mean.shape)

    def interval(self, level=0.95):
        """Bounds that each entry lies between with this probability (of counts: at least).

        Parameters
        ----------
        level : float, default=0.95
            Between 0 and 1; as much of the rest lies below as above.

        Returns
        -------
        low, high : ndarray of shape (n_sequences, horizon, n_channels)
        """
        return tuple(self.quantile(central(level)))

    def _quantile(self, q):
        """(n_sequences, horizon, n_channels)"""
        whole, d = self.mean.copy(), int(self.varying.sum())
        centre = self.mean[..., self.varying].reshape(-1, d)
        variance = np.diagonal(self.covariance, axis1=-2, axis2=-1)[..., self.varying]
        probs = self.probs.reshape(len(centre), -1)
        with np.errstate(invalid="ignore"):
            spread = np.sqrt(variance).reshape(-1, d)
        found = mixture_quantiles(probs, self.emission, q, centre, spread)
        whole[..., self.varying] = found.reshape(*whole.shape[:-1], d)
        return whole
