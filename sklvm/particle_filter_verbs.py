"""What a fitted particle filter answers besides what every chain of continuous states does."""

from typing import Any, NamedTuple

import numpy as np

from .base import Absent, fitted, positive_int
from .state_functions import params_of_channels
from .state_space_verbs import StateVerbs


class ParticleStream(NamedTuple):
    """What a stream has said so far of the state that it is in."""

    mean: np.ndarray  # (q,) E[z_t | x_1..t]
    covariance: np.ndarray  # (q, q)
    log_density: float  # log p(x_t | x_<t), nats, estimated
    swarm: Any  # the particles
    n_steps: int  # taken in so far


class ParticleVerbs(StateVerbs):
    """The verbs of a chain of states that is followed by particles."""

    elbo = Absent()  # paths of particles have no density

    def posterior(self, X):
        """p(z | x) of each sequence, an object with mean, covariance and sample.

        Parameters
        ----------
        X : list of array-like of shape (n_steps, n_channels), or array
            Sequences; NaN marks missing entries.

        Returns
        -------
        posterior : object
            Paths of particles: they have no density, so there is no entropy either.
        """
        return super().posterior(X)

    def filter_update(self, x, state=None):
        """Take in one step of a stream.

        Parameters
        ----------
        x : array-like of shape (n_channels,), or DataFrame of one row
            What came; NaN marks missing entries.
        state : ParticleStream, default=None
            What the last update returned; None where x is the first step.

        Returns
        -------
        state : ParticleStream
            Named tuple of `mean` and `covariance` of the state given what came so far,
            `log_density`, the estimate of log p(x_t | x_1..t-1), and the particles: what `filter`
            and `score_steps` say of the same steps.
        """
        if not isinstance(state, ParticleStream | None):
            raise TypeError(
                f"state must be what filter_update returned, got {type(state).__name__}"
            )
        t, before = (0, None) if state is None else (state.n_steps, state.swarm)
        swarm = self._density.update(self._read_step(x).steps[0], before, t)
        return ParticleStream(*swarm.moments(), swarm.log_density, swarm, t + 1)

    def score_stderr(self, X, n_runs=10):
        """Standard error of `score_samples`: over runs with other noise.

        Parameters
        ----------
        X : list of array-like of shape (n_steps, n_channels), or array
            Sequences; NaN marks missing entries.
        n_runs : int, default=10
            Runs of the filter, at least 2.

        Returns
        -------
        stderr : ndarray of shape (n_sequences,), float64
            Standard deviation of the estimated log density of each sequence; it falls as the root
            of `n_particles`. The estimate of the density itself has no bias; its logarithm is too
            small by about half the square of this.
        """
        n_runs = positive_int(n_runs, "n_runs")
        if n_runs < 2:
            raise ValueError("n_runs must be at least 2: one run says nothing of its error")
        return self._density.log_prob_runs(self._read(X), n_runs).std(axis=0, ddof=1)

    def _params_of(self, state, kept):
        """A part of the channels is shown by a part of the functions, with a part of the noise."""
        params = params_of_channels(super()._params_of(state, kept), kept, self.n_channels_)
        return {**params, "n_components": state.n_latents}

    def _parameter_draws(self, read, n_draws, rng):
        raise ValueError(
            "ParticleFilter has no posterior of its parameters to draw; GaussianFilter has"
        )

    # -- fitted attributes ---------------------------------------------------------------------

    @fitted
    def transition_covariance_(self):
        """(n_components, n_components) Q, of Gaussian moves."""
        return self._density.move.Q

    @fitted
    def observation_covariance_(self):
        """(n_channels, n_channels) R, of Gaussian steps; zeros for constant channels."""
        return self._restore_square(self._density.show.R)

    @fitted
    def initial_mean_(self):
        """(n_components,) of a Gaussian first state."""
        return self._density.first.mean

    @fitted
    def initial_covariance_(self):
        """(n_components, n_components) of a Gaussian first state."""
        return self._density.first.P

    @fitted
    def score_kind_(self):
        """ "estimate": by particles."""
        return "estimate"

    @fitted
    def lower_bound_(self):
        """The objective at the end of the fit, nats per observed step."""
        return float(self.run_.objective)
