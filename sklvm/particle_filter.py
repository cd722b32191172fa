"""Particle filter: state-space models of any functions and any noise, by weighted samples."""

import numpy as np

from ._compat import Integral, Interval, Real, _fit_context
from .base import all_or_nothing
from .gaussian_filter import GaussianFilter
from .gaussian_filter_fit import climb
from .inference.history import Run
from .particle_filter_state import ParticleState
from .particle_filter_verbs import ParticleVerbs
from .particle_model import gaussian_parts
from .particle_parts import check_parts, given_parts, has_given_parts, n_states_given
from .sequences import read_training_sequences

SHARED = (  # parameters with GaussianFilter
    *("transition", "observation", "transition_covariance", "observation_covariance"),
    *("initial_mean", "initial_covariance", "n_components", "tol", "max_iter"),
)


class ParticleFilter(ParticleVerbs):
    """Nonlinear state-space model with any noise, followed by particles (bootstrap filter).

    A model is three parts: how the first state is drawn, how a state moves, how probable a step is
    given its state. A part with Gaussian noise is written as in `GaussianFilter`; any other is a
    function. Scores are logarithms of unbiased estimates of the density,
    ``score_kind_ = "estimate"``, always with the same noise, so they are functions of each sequence
    alone; `score_stderr` says how far off they are. ``X[i]`` is the i-th sequence: X is a list of
    arrays (n_steps, n_channels) of any lengths, a 3-D array with NaN behind each end, or a 2-D
    array with a sequence in each row. NaN is a missing entry.

    Parameters
    ----------
    transition, observation : callable, default=None
        As in `GaussianFilter`: rows of states to rows, None is the identity.
    transition_covariance, observation_covariance, initial_covariance : float or array-like, \
default=None
        As in `GaussianFilter`. What is NaN or None is estimated as it does (``rule="ukf"``), where
        every part of the model is Gaussian.
    initial_mean : array-like of shape (n_components,), default=None
        Likewise.
    sample_transition : callable, default=None
        Instead of `transition`: ``sample_transition(Z, rng)`` draws the next states, rows to rows.
    observation_log_prob : callable, default=None
        Instead of `observation`: ``observation_log_prob(x, Z)``, log p(x | z) of one step x
        (n_channels,) for each row of Z, (n,). It leaves out the entries of x that are NaN, and is
        not asked of steps without any.
    sample_initial : callable, default=None
        Instead of the initial moments: ``sample_initial(n, rng)`` draws (n, n_components).
    transition_log_prob : callable, default=None
        With `sample_transition`: ``transition_log_prob(Z_next, Z)``, (n,). Without it paths are
        traced along ancestors, few of which differ in the early steps of long sequences.
    sample_observation : callable, default=None
        With `observation_log_prob`: ``sample_observation(Z, rng)`` draws steps, independent entries
        given the state. `sample`, `impute` and `forecast` need it.
    n_particles : int, default=1000
        Particles, and paths behind smoothed means.
    ess_threshold : float, default=0.5
        Particles are resampled where their effective number falls below this share.
    n_components : int, default=None
        Dimensions of the state; None: as many as the first state has, or the channels.
    tol : float, default=1e-8
        Of the estimation of noise, as in `GaussianFilter`.
    max_iter : int, default=200
        Likewise.
    n_channels : int, default=1
        Channels of a step where X is a 2-D array of rows of numbers, step after step.
    random_state : int, RandomState instance or None, default=None
        `fit` draws the seed of all noise from it.
    verbose : int, default=0
        Print progress.
    verbose_interval : int, default=10
        Iterations between prints.

    Attributes
    ----------
    transition_covariance_, observation_covariance_, initial_mean_, initial_covariance_ : ndarray
        Of Gaussian parts.
    n_timesteps_, n_channels_ : int
        Weighted median length of the training sequences; channels of a step.
    history_, n_iter_, converged_, n_parameters_, score_kind_, base_measure_
        The same in every model; the objective is that of `GaussianFilter` where it estimates, else
        the score per observed step.

    Raises
    ------
    ValueError
        For anything but finite numbers and NaN, channels without any entry, parts that are given
        twice, and functions whose shapes contradict each other.

    References
    ----------
    Gordon, Salmond & Smith (1993). Kitagawa (1996) for systematic resampling. Dau & Chopin
    (2023), On backward smoothing algorithms.

    Examples
    --------
    Counts with a rate that walks:

    >>> import numpy as np
    >>> from scipy.special import gammaln
    >>> from sklvm import ParticleFilter
    >>> def poisson(x, Z):
    ...     return x[0] * Z[:, 0] - np.exp(Z[:, 0]) - gammaln(x[0] + 1)
    >>> rng = np.random.default_rng(0)
    >>> log_rate = 1 + rng.normal(scale=0.1, size=100).cumsum()
    >>> x = rng.poisson(np.exp(log_rate)).astype(float)[:, None]
    >>> model = ParticleFilter(
    ...     observation_log_prob=poisson,
    ...     transition_covariance=0.01,
    ...     initial_mean=[1.0],
    ...     initial_covariance=1.0,
    ...     random_state=0,
    ... ).fit([x])
    >>> level = model.smooth([x]).mean[0][:, 0]
    >>> bool(np.abs(level - log_rate).mean() < 0.25)
    True
    >>> bool(model.score_stderr([x])[0] < 0.5)
    True
    """

    _parameter_constraints: dict = {
        "transition": [callable, None],
        "observation": [callable, None],
        "transition_covariance": ["array-like", Real, None],
        "observation_covariance": ["array-like", Real, None],
        "initial_mean": ["array-like", None],
        "initial_covariance": ["array-like", Real, None],
        "sample_transition": [callable, None],
        "observation_log_prob": [callable, None],
        "sample_initial": [callable, None],
        "transition_log_prob": [callable, None],
        "sample_observation": [callable, None],
        "n_particles": [Interval(Integral, 2, None, closed="left")],
        "ess_threshold": [Interval(Real, 0.0, 1.0, closed="both")],
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "n_channels": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        transition=None,
        observation=None,
        *,
        transition_covariance=None,
        observation_covariance=None,
        initial_mean=None,
        initial_covariance=None,
        sample_transition=None,
        observation_log_prob=None,
        sample_initial=None,
        transition_log_prob=None,
        sample_observation=None,
        n_particles=1000,
        ess_threshold=0.5,
        n_components=None,
        tol=1e-8,
        max_iter=200,
        n_channels=1,
        random_state=None,
        verbose=0,
        verbose_interval=10,
    ):
        self.transition = transition
        self.observation = observation
        self.transition_covariance = transition_covariance
        self.observation_covariance = observation_covariance
        self.initial_mean = initial_mean
        self.initial_covariance = initial_covariance
        self.sample_transition = sample_transition
        self.observation_log_prob = observation_log_prob
        self.sample_initial = sample_initial
        self.transition_log_prob = transition_log_prob
        self.sample_observation = sample_observation
        self.n_particles = n_particles
        self.ess_threshold = ess_threshold
        self.n_components = n_components
        self.tol = tol
        self.max_iter = max_iter
        self.n_channels = n_channels
        self.random_state = random_state
        self.verbose = verbose
        self.verbose_interval = verbose_interval

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None, *, lengths=None):
        """Check the parts of the model, and estimate what was not given of a Gaussian one.

        Parameters
        ----------
        X : list of array-like of shape (n_steps, n_channels), or array
            Sequences: a list, tuple or object array; (n_sequences, n_steps, n_channels) with NaN
            behind each end; (n_sequences, n_steps * n_channels); with `lengths` stacked rows
            (sum(lengths), n_channels). NaN marks missing entries. One long series is ``[X]``.
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_sequences,), default=None
            Counts: an integer weight equals repeating the sequence.
        lengths : array-like of shape (n_sequences,) of int, default=None
            Number of rows of each sequence, where X holds stacked rows.

        Returns
        -------
        self : ParticleFilter
        """
        check_parts(self)
        given = self.observation_log_prob is not None  # has a density of constants too
        data = read_training_sequences(
            self, X, sample_weight, n_states=1, lengths=lengths, given=given
        )
        self._n_timesteps = data.sequences.median_length(data.weight)
        climb = self._take if has_given_parts(self) else self._estimate
        return self._finish(self._drive(lambda: climb(data), data), data)

    def _estimate(self, data):
        """The Gaussian model, what is free of it as `GaussianFilter` finds it."""
        helper = GaussianFilter(**{name: getattr(self, name) for name in SHARED})
        run = climb(helper, data, self._progress(data))
        found = run.state
        state = self._state(gaussian_parts(found), found.n_latents, found.n_parameters)
        return run._replace(state=state)

    def _take(self, data):
        """The model that was given, with its score."""
        q = n_states_given(self, len(data.constant))
        parts = given_parts(self, q, ~data.constant)
        state = self._state(parts, q, 0)
        total = data.weight @ data.sequences.sums(data.sequences.observed)
        objective = data.weight @ state.log_prob(data.sequences) / total
        callback = self._progress(data)
        if callback is not None:
            callback(1, state, objective)
        return Run(state, np.tile(objective, 2), True, 1)

    @classmethod
    def from_parameters(
        cls,
        transition=None,
        observation=None,
        *,
        transition_covariance=None,
        observation_covariance=None,
        initial_mean=None,
        initial_covariance=None,
        sample_transition=None,
        observation_log_prob=None,
        sample_initial=None,
        transition_log_prob=None,
        sample_observation=None,
        n_particles=1000,
        n_channels=None,
        random_state=None,
    ):
        """A fitted model of known parts: functions, or Gaussian noise in numbers.

        Parameters
        ----------
        transition, observation, sample_transition, observation_log_prob, sample_initial, \
transition_log_prob, sample_observation : callable, default=None
            As in the constructor.
        transition_covariance, observation_covariance, initial_covariance : array-like, default=None
            As in the constructor, without NaN.
        initial_mean : array-like of shape (n_components,), default=None
            Likewise.
        n_particles : int, default=1000
            Particles.
        n_channels : int, default=None
            Channels of a step, with `observation_log_prob`; None is as many as
            `observation_covariance` has.
        random_state : int, RandomState instance or None, default=None
            The seed of all noise is drawn from it.

        Returns
        -------
        model : ParticleFilter
            Fitted; all verbs accept it.
        """
        if n_channels is None:
            if observation_log_prob is not None:
                raise ValueError("observation_log_prob needs n_channels: the channels of a step")
            n_channels = len(np.atleast_1d(observation_covariance))
        params = {
            "transition": transition,
            "observation": observation,
            "transition_covariance": transition_covariance,
            "observation_covariance": observation_covariance,
            "initial_mean": initial_mean,
            "initial_covariance": initial_covariance,
            "sample_transition": sample_transition,
            "observation_log_prob": observation_log_prob,
            "sample_initial": sample_initial,
            "transition_log_prob": transition_log_prob,
            "sample_observation": sample_observation,
            "n_particles": n_particles,
            "n_channels": n_channels,
            "random_state": random_state,
        }
        model = cls(**params)
        model._validate_params()
        check_parts(model)
        q = n_states_given(model, n_channels)
        parts = given_parts(model, q, np.ones(n_channels, bool))
        return cls._from_state(model._state(parts, q, 0), **params)

    def _state(self, parts, q, n_parameters):
        settings = self.n_particles, self.ess_threshold
        seed = int(self._rng().integers(2**31))
        return ParticleState(*parts, q, parts.show.n_features, n_parameters, *settings, seed)
