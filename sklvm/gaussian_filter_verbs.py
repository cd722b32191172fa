"""What a fitted Gaussian filter answers besides what every chain of continuous states does."""

from typing import NamedTuple

import numpy as np

from .base import fitted
from .state_functions import params_of_channels
from .state_space_verbs import StateVerbs


class StreamState(NamedTuple):
    """What a stream has said so far of the state that it is in."""

    mean: np.ndarray  # (q,) E[z_t | x_1..t]
    covariance: np.ndarray  # (q, q)
    log_density: float  # log p(x_t | x_<t), nats


class GaussianFilterVerbs(StateVerbs):
    """The verbs of a chain of states that is followed by a Gaussian."""

    def filter_update(self, x, state=None):
        """Take in one step of a stream.

        Parameters
        ----------
        x : array-like of shape (n_channels,), or DataFrame of one row
            What came; NaN marks missing entries.
        state : StreamState, default=None
            What the last update returned; None where x is the first step.

        Returns
        -------
        state : StreamState
            Named tuple of `mean` and `covariance` of the state given what came so far, and
            `log_density`, log p(x_t | x_1..t-1).
        """
        if not isinstance(state, StreamState | None):
            raise TypeError(
                f"state must be what filter_update returned, got {type(state).__name__}"
            )
        before = None if state is None else (state.mean, state.covariance)
        return StreamState(*self._density.update(self._read_step(x).steps, before))

    def _params_of(self, state, kept):
        """A part of the channels is shown by a part of the functions, with a part of the noise."""
        params = params_of_channels(super()._params_of(state, kept), kept, self.n_channels_)
        return {**params, "n_components": state.n_latents}

    # -- fitted attributes ---------------------------------------------------------------------

    @fitted
    def transition_covariance_(self):
        """(n_components, n_components) Q, of the noise of a move."""
        return self._density.Q

    @fitted
    def observation_covariance_(self):
        """(n_channels, n_channels) R, in squared units of X; zeros for constant channels."""
        return self._restore_square(self._density.R)

    @fitted
    def initial_mean_(self):
        """(n_components,) of the first state."""
        return self._density.mean

    @fitted
    def initial_covariance_(self):
        """(n_components, n_components) of the first state."""
        return self._density.P

    @fitted
    def score_kind_(self):
        """ "estimate": the state is taken to be Gaussian at each step."""
        return "estimate"

    @fitted
    def lower_bound_(self):
        """The objective at the end of the fit, nats per observed step."""
        return float(self.run_.objective)
