"""Gaussian filters: state-space models of any functions, by extended, unscented, cubature rules."""

from functools import partial

import numpy as np

from ._compat import Integral, Interval, Real, StrOptions, _fit_context
from .base import all_or_nothing
from .gaussian_filter_fit import climb, maximise
from .gaussian_filter_start import start
from .gaussian_filter_verbs import GaussianFilterVerbs
from .inference.bootstrap import drawn_states, random_weights
from .moment_rules import RULES, MomentRule
from .sequences import distinct, read_training_sequences, refuse_one


class GaussianFilter(GaussianFilterVerbs):
    """Nonlinear state-space model, followed by a Gaussian: extended, unscented, cubature filters.

    z_1 ~ N(initial_mean, initial_covariance), z_t = transition(z_t-1) + N(0, Q),
    x_t = observation(z_t) + N(0, R). At each step the state is taken to be Gaussian, with moments
    that `rule` finds (assumed-density filtering). Scores are therefore approximations of log
    densities, ``score_kind_ = "estimate"``; where both functions are linear they are exact, and all
    rules agree with `LinearGaussianSSM`. ``X[i]`` is the i-th sequence: X is a list of arrays
    (n_steps, n_channels) of any lengths, a 3-D array with NaN behind each end, or a 2-D array with
    a sequence in each row. NaN is a missing entry, weights are counts of sequences.

    Parameters
    ----------
    transition : callable, default=None
        How states move: rows of states (n, n_components) to rows (n, n_components). None: they stay
        where they are, but for noise.
    observation : callable, default=None
        What a step shows: rows of states to rows (n, n_channels). None: the leading components.
    transition_covariance : float or array-like of shape (n_components,) or \
(n_components, n_components), default=None
        Q: one variance for all, variances, or a matrix, which may be singular. Numbers are kept,
        NaN (on a diagonal) is estimated, None is estimated in every variance.
    observation_covariance : float or array-like of shape (n_channels,) or \
(n_channels, n_channels), default=None
        R, positive definite, likewise.
    initial_mean : array-like of shape (n_components,), default=None
        Mean of the first state. Numbers are kept, NaN is estimated; None is estimated throughout.
    initial_covariance : float or array-like of shape (n_components,) or \
(n_components, n_components), default=None
        Covariance of the first state. Numbers are kept; NaN is estimated, which needs several
        sequences; None is as broad as the channels, seen through the functions at the first mean.
    rule : {"ekf", "ukf", "cubature", "gauss_hermite"} or a rule, default="ukf"
        How moments of functions are found; `Extended`, `Unscented`, `Cubature` and `GaussHermite`
        have parameters.
    n_components : int, default=None
        Dimensions of the state; None is the length of `initial_mean`, or the number of channels.
    transition_jacobian : callable, default=None
        For ``rule="ekf"``: rows of states to (n, n_components, n_components). None: differences.
    observation_jacobian : callable, default=None
        Rows of states to (n, n_channels, n_components).
    tol : float, default=1e-8
        The fit stops when the relative gain of a step of L-BFGS is below it.
    max_iter : int, default=200
        Largest number of steps.
    n_channels : int, default=1
        Channels of a step where X is a 2-D array of rows of numbers, step after step.
    verbose : int, default=0
        Print progress.
    verbose_interval : int, default=10
        Iterations between prints.

    Attributes
    ----------
    transition_covariance_, initial_covariance_ : ndarray of shape (n_components, n_components)
        Q, and that of the first state.
    observation_covariance_ : ndarray of shape (n_channels, n_channels)
        R; zeros for constant channels.
    initial_mean_ : ndarray of shape (n_components,)
        Of the first state.
    n_timesteps_, n_channels_ : int
        Weighted median length of the training sequences; channels of a step.
    history_, n_iter_, converged_, n_parameters_, score_kind_, base_measure_
        The same in every model; the objective is per observed step.

    Raises
    ------
    ValueError
        For anything but finite numbers and NaN, channels without any entry, and functions or
        moments whose shapes contradict each other.

    Notes
    -----
    A function must treat each row on its own and have no memory; `fit` checks that. Of inputs or of
    time make components of the state, which nothing disturbs (a zero in `transition_covariance`).
    The noise is estimated by maximum likelihood, as the rule approximates it, on a scale of
    logarithms; its gradient comes from copies of the sequences that move on together.

    References
    ----------
    Särkkä (2013), Bayesian Filtering and Smoothing, chapters 5, 6, 9 and 10. Ito & Xiong (2000),
    Gaussian filters for nonlinear filtering problems.

    Examples
    --------
    A pendulum of which one sees the sine of the angle:

    >>> import numpy as np
    >>> from sklvm import GaussianFilter
    >>> def swing(Z, dt=0.05):
    ...     angle, speed = Z.T
    ...     return np.stack([angle + dt * speed, speed - 9.81 * dt * np.sin(angle)], axis=1)
    >>> def shadow(Z):
    ...     return np.sin(Z[:, :1])
    >>> truth = {
    ...     "transition_covariance": [1e-5, 1e-3],
    ...     "observation_covariance": 0.1,
    ...     "initial_mean": [1.5, 0.0],
    ...     "initial_covariance": [0.5, 0.5],
    ... }
    >>> model = GaussianFilter.from_parameters(swing, shadow, **truth)
    >>> X, Z = model.sample(20, random_state=0, n_timesteps=60)
    >>> error = {}
    >>> for rule in ("ekf", "ukf", "cubature"):
    ...     model = GaussianFilter.from_parameters(swing, shadow, **truth, rule=rule)
    ...     error[rule] = np.sqrt(np.mean((model.filter(X).mean - Z) ** 2))
    >>> bool(error["ukf"] < error["ekf"] and error["cubature"] < error["ekf"])
    True
    """

    _parameter_constraints: dict = {
        "transition": [callable, None],
        "observation": [callable, None],
        "transition_covariance": ["array-like", Real, None],
        "observation_covariance": ["array-like", Real, None],
        "initial_mean": ["array-like", None],
        "initial_covariance": ["array-like", Real, None],
        "rule": [StrOptions(set(RULES)), MomentRule],
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "transition_jacobian": [callable, None],
        "observation_jacobian": [callable, None],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "n_channels": [Interval(Integral, 1, None, closed="left")],
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
        rule="ukf",
        n_components=None,
        transition_jacobian=None,
        observation_jacobian=None,
        tol=1e-8,
        max_iter=200,
        n_channels=1,
        verbose=0,
        verbose_interval=10,
    ):
        self.transition = transition
        self.observation = observation
        self.transition_covariance = transition_covariance
        self.observation_covariance = observation_covariance
        self.initial_mean = initial_mean
        self.initial_covariance = initial_covariance
        self.rule = rule
        self.n_components = n_components
        self.transition_jacobian = transition_jacobian
        self.observation_jacobian = observation_jacobian
        self.tol = tol
        self.max_iter = max_iter
        self.n_channels = n_channels
        self.verbose = verbose
        self.verbose_interval = verbose_interval

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None, *, lengths=None):
        """Check the functions, and estimate what was not given by maximum likelihood.

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
        self : GaussianFilter
        """
        data = read_training_sequences(self, X, sample_weight, n_states=1, lengths=lengths)
        self._n_timesteps = data.sequences.median_length(data.weight)
        return self._finish(
            self._drive(lambda: climb(self, data, self._progress(data)), data), data
        )

    def _parameter_draws(self, read, n_draws, rng):
        """States that fits reach when each sequence has a random weight, as each row elsewhere."""
        seen = read.take(read.sums(read.observed) > 0)
        once, counts = distinct(seen, np.ones(len(seen)))
        refuse_one(len(once))
        settings = {"max_iter": self.max_iter, "tol": self.tol, "callback": None}
        refit = partial(maximise, self.run_.state, once, **settings)
        return drawn_states(lambda: refit(random_weights(counts, rng)), n_draws)

    @classmethod
    def from_parameters(
        cls,
        transition=None,
        observation=None,
        *,
        transition_covariance,
        observation_covariance,
        initial_mean,
        initial_covariance,
        rule="ukf",
        transition_jacobian=None,
        observation_jacobian=None,
    ):
        """A fitted model of known parameters.

        Parameters
        ----------
        transition, observation : callable, default=None
            As in the constructor.
        transition_covariance, initial_covariance : float or array-like of shape \
(n_components,) or (n_components, n_components)
            Q, and that of the first state, which may be singular.
        observation_covariance : array-like of shape (n_channels,) or (n_channels, n_channels)
            R: variances, or a positive definite matrix.
        initial_mean : array-like of shape (n_components,)
            Of the first state.
        rule : {"ekf", "ukf", "cubature", "gauss_hermite"} or a rule, default="ukf"
            How moments of functions are found.
        transition_jacobian, observation_jacobian : callable, default=None
            As in the constructor.

        Returns
        -------
        model : GaussianFilter
            Fitted; all verbs accept it.
        """
        d = len(np.atleast_1d(observation_covariance))
        params = {
            "transition": transition,
            "observation": observation,
            "transition_covariance": transition_covariance,
            "observation_covariance": observation_covariance,
            "initial_mean": initial_mean,
            "initial_covariance": initial_covariance,
            "rule": rule,
            "n_components": np.size(initial_mean),
            "transition_jacobian": transition_jacobian,
            "observation_jacobian": observation_jacobian,
            "n_channels": d,
        }
        model = cls(**params)
        model._validate_params()
        moments = np.zeros(d), np.ones(d)
        state = start(model, moments, np.ones(d, bool))
        if state.n_parameters:
            raise ValueError("from_parameters needs numbers, got NaN: nothing is estimated")
        return cls._from_state(state, **params)
