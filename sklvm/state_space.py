"""Linear-Gaussian state-space models (linear dynamical systems), by maximum likelihood."""

from functools import partial

import numpy as np

from ._compat import Integral, Interval, Real, StrOptions, _fit_context
from .base import all_or_nothing
from .chain_state import Chains
from .inference.bootstrap import drawn_states, random_weights
from .inference.em import em, em_from_best
from .numerics.kalman import matrix_of
from .sequences import distinct, read_training_sequences, refuse_one
from .state_space_entries import Entries
from .state_space_first import FIRSTS, FreeFirst, KnownFirst, stationary_covariance
from .state_space_given import checked_covariance, read_given, read_inputs, read_noise
from .state_space_intervals import StateSpaceConfidence
from .state_space_noise import NOISES, DiagonalNoise, FullNoise
from .state_space_slope import em_then_lbfgs
from .state_space_start import (
    Matrices,
    centred,
    directions,
    explained_by_inputs,
    moments,
    starts,
    units_of_inputs,
)
from .state_space_state import StateSpaceState
from .state_space_structure import Structure
from .state_space_verbs import StateSpaceVerbs
from .validation import checked_array

FLOOR = 1e-8  # smallest variance of the observation noise, as a share of the feature's

POLES = 0.5, 0.9  # of states whose moves are partly given: where fits start
UNLIKE = 0.1  # how unlike their moves are, where diffuse first states need them unlike


class LinearGaussianSSM(StateSpaceConfidence, StateSpaceVerbs):
    """Linear-Gaussian state-space model: a continuous hidden state that moves, by EM.

    z_t = A z_t-1 + N(0, Q), x_t = C z_t + intercept + N(0, R); known inputs may move the states and
    the steps (`input_columns`). ``X[i]`` is the i-th sequence: X is a list of arrays (n_steps,
    n_channels) of any lengths, a 3-D array with NaN behind each end, or a 2-D array with a sequence
    in each row. Missing entries and whole missing steps (NaN) are integrated out exactly, weights
    are counts of sequences, and scores are log densities in the units of X.

    Parameters
    ----------
    n_components : int, default=2
        Dimensions q of the state.
    initial : {"stationary", "free", "diffuse"}, default="stationary"
        The first state: as every other one; with a mean and covariance of its own, which needs
        several sequences to say much of new ones; or anywhere: then scores, and what fits climb,
        are conditional on the values that resolve it.
    transition_matrix : array-like of shape (n_components, n_components), default=None
        A. Numbers are kept, NaN is free; None is free in every entry. A string is free, too, and
        entries of one matrix with the same string are one parameter: ``[["a", 0], [0, "a"]]``.
    transition_covariance : array-like of shape (n_components, n_components), default=None
        Q. None is free in every entry; else a covariance that is kept, or a diagonal matrix whose
        NaN and strings are free and whose zeros are states that nothing disturbs.
    observation_matrix : array-like of shape (n_channels, n_components), default=None
        C, in the units of X. As `transition_matrix`.
    observation_noise : {"diag", "isotropic", "full"}, default="diag"
        Whether each channel has a noise variance of its own, all share one, or their noise is
        correlated.
    fit_intercept : bool, default=True
        Whether the observations have an intercept; without it it is zero.
    input_columns : int, str, or array-like of int, str or bool, or slice, default=None
        Columns of X that are inputs u_t, named as in ColumnTransformer: known, not modelled,
        without NaN. Scores are densities of the others, the outputs, given the inputs; matrices
        below have a row for each output.
    input_matrix : array-like of shape (n_components, n_inputs), default=None
        B, how inputs move the states: z_t = A z_t-1 + B u_t + noise from the second step on.
        As `transition_matrix`.
    feedthrough_matrix : array-like of shape (n_channels, n_inputs), default=None
        D, in the units of X: x_t = C z_t + D u_t + intercept + noise. As `transition_matrix`.
    solver : {"auto", "em"}, default="auto"
        "auto": some steps of expectation-maximisation, then L-BFGS on the exact log-likelihood;
        "em": expectation-maximisation to the end, whose rate falls as the noise does.
    tol : float, default=1e-8
        "em" stops when the gain still to come, extrapolated, is below tol nats per observed step,
        L-BFGS when the relative gain of a step is.
    max_iter : int, default=1000
        Largest number of passes over the sequences.
    n_channels : int, default=1
        Channels of a step where X is a 2-D array of rows of numbers, step after step.
    accelerate : "squarem" or None, default="squarem"
        Extrapolation of the steps of solver="em"; kept only where the objective rises.
    verbose : int, default=0
        Print progress.
    verbose_interval : int, default=10
        Iterations between prints.

    Attributes
    ----------
    transition_matrix_, transition_covariance_ : ndarray of shape (n_components, n_components)
        A and Q.
    observation_matrix_ : ndarray of shape (n_channels, n_components)
        C, in the units of X; zeros for constant channels.
    observation_covariance_ : ndarray of shape (n_channels, n_channels)
        R, in squared units of X; zeros for constant channels.
    input_matrix_ : ndarray of shape (n_components, n_inputs)
        B.
    feedthrough_matrix_ : ndarray of shape (n_channels, n_inputs)
        D, in the units of X; zeros for constant channels.
    input_columns_ : ndarray of shape (n_inputs,), integers
        Which columns of X are inputs.
    intercept_ : ndarray of shape (n_channels,)
        E[x_t] where the state is zero.
    initial_mean_, initial_covariance_ : ndarrays of shape (n_components,) and \
(n_components, n_components)
        Moments of the first state; infinite variances where it is diffuse.
    poles_ : ndarray of shape (n_components,), complex
        Eigenvalues of A in descending order of modulus: exp(-1 / decay time + i angle per step).
    n_timesteps_ : int
        Weighted median length of the training sequences.
    n_channels_ : int
        Channels of a step.
    history_, n_iter_, converged_, n_parameters_, score_kind_, base_measure_
        The same in every model; the objective is per observed step.

    Raises
    ------
    ValueError
        For anything but finite numbers and NaN, channels without any entry, and matrices whose
        shapes or entries contradict each other.

    Notes
    -----
    Without given matrices the basis of the state is a convention: Q is the identity and
    C' R^-1 C diagonal and descending, with loadings of a positive sum.

    With ``initial="diffuse"`` fits climb the density of each sequence given the first values that
    resolve its state, in the order of steps and columns, which is what scores tell. Where matrices
    are free it differs from the diffuse likelihood by more than a constant.

    Inputs have no part in the first state. They should not be collinear, nor lie far from zero
    beside an intercept: centre them.

    The first fit on a machine compiles the recursions, which took 32 s of one core; they are kept
    beside the package (or in NUMBA_CACHE_DIR), and other processes load them in 0.4 s
    (``benchmarks/sequence_start.py`` prints both).

    References
    ----------
    Kalman (1960). Shumway & Stoffer (1982) and Ghahramani & Hinton (1996) for EM. Durbin & Koopman
    (2012), Time Series Analysis by State Space Methods, chapters 4, 5 and 7. Francke, Koopman &
    de Vos (2010) for likelihoods with diffuse starts. Ho & Kalman (1966) for the start.

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import LinearGaussianSSM
    >>> rng = np.random.default_rng(0)
    >>> z = np.zeros(300)
    >>> for t in range(1, 300):
    ...     z[t] = 0.9 * z[t - 1] + rng.normal()
    >>> x = z[:, None] * [1.0, 2.0] + rng.normal(size=(300, 2))
    >>> model = LinearGaussianSSM(1).fit([x[:200], x[200:]])
    >>> model.transition_matrix_.round(1)
    array([[0.9]])
    >>> model.forecast([x], horizon=2).mean.shape
    (1, 2, 2)
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "initial": [StrOptions({"stationary", "free", "diffuse"})],
        "transition_matrix": ["array-like", None],
        "transition_covariance": ["array-like", None],
        "observation_matrix": ["array-like", None],
        "observation_noise": [StrOptions(set(NOISES))],
        "fit_intercept": ["boolean"],
        "input_columns": [Integral, str, slice, "array-like", None],
        "input_matrix": ["array-like", None],
        "feedthrough_matrix": ["array-like", None],
        "solver": [StrOptions({"auto", "em"})],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "n_channels": [Interval(Integral, 1, None, closed="left")],
        "accelerate": [StrOptions({"squarem"}), None],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components=2,
        *,
        initial="stationary",
        transition_matrix=None,
        transition_covariance=None,
        observation_matrix=None,
        observation_noise="diag",
        fit_intercept=True,
        input_columns=None,
        input_matrix=None,
        feedthrough_matrix=None,
        solver="auto",
        tol=1e-8,
        max_iter=1000,
        n_channels=1,
        accelerate="squarem",
        verbose=0,
        verbose_interval=10,
    ):
        self.n_components = n_components
        self.initial = initial
        self.transition_matrix = transition_matrix
        self.transition_covariance = transition_covariance
        self.observation_matrix = observation_matrix
        self.observation_noise = observation_noise
        self.fit_intercept = fit_intercept
        self.input_columns = input_columns
        self.input_matrix = input_matrix
        self.feedthrough_matrix = feedthrough_matrix
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.n_channels = n_channels
        self.accelerate = accelerate
        self.verbose = verbose
        self.verbose_interval = verbose_interval

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None, *, lengths=None):
        """Fit by expectation-maximisation over the states and the missing entries.

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
        self : LinearGaussianSSM
        """
        data = read_training_sequences(self, X, sample_weight, n_states=1, lengths=lengths)
        self._n_timesteps = data.sequences.median_length(data.weight)
        run = self._drive(lambda: self._climb(data), data)
        return self._finish(run._replace(state=run.state.canonical()), data)

    def _climb(self, data):
        chains = Chains.of(*distinct(data.sequences, data.weight))
        inputs = data.sequences.inputs
        inputs = np.zeros(chains.X.shape[1], bool) if inputs is None else inputs
        given = self._given(data.constant, inputs)
        if self.initial == "diffuse":
            chains = self._centred(chains, given.A, given.C, inputs)
        settings = {
            "max_iter": self.max_iter,
            "tol": self.tol,
            "callback": self._progress(data),
        }
        finish = em_then_lbfgs
        if self.solver == "em":
            finish = partial(em, accelerate=self.accelerate)
        begin = _that_resolve_most(list(self._starts(chains, given, inputs)), chains)
        if len(begin) == 1:
            return finish(begin[0], chains, **settings)
        return em_from_best(begin, chains, chains, finish=finish, **settings)

    def _centred(self, chains, A, C, inputs):
        """Where the first state may be anywhere, outputs about the path of one that fits.

        NaN is free in A and C.
        """
        if self.initial != "diffuse":
            return chains
        X = chains.X.copy()
        X[:, ~inputs] = centred(chains._replace(X=X[:, ~inputs]), A, C).X
        return chains._replace(X=X)

    # -- the start -----------------------------------------------------------------------------

    def _starts(self, chains, given, inputs):
        """States that subspaces and the given matrices make."""
        y, u = chains.X[:, ~inputs], chains.X[:, inputs]
        unit = units_of_inputs(chains, given, y, u, self.fit_intercept)
        D = explained_by_inputs(chains, y, u, given.D, self.fit_intercept)
        B = np.where(np.isnan(given.B), 0.0, given.B)
        found = moments(chains._replace(X=y - u @ D.T))
        structure = self._structure(given, found.sd**2, unit)
        c = found.mean if self.fit_intercept else np.zeros_like(found.mean)
        for A, Q, C, R in self._matrices(found, given, structure):
            C, R = C * found.sd[:, None], structure.noise.start(R * found.sd**2)
            C = structure.C.mean(np.where(structure.C.free, C, given.C))
            size = (np.abs(C) / found.sd[:, None]).max()  # of a state's effect
            size = size if size > 0 else 1.0
            if not structure.unconstrained:
                Q = np.where(np.isnan(given.Q), 0.1 / size**2 * np.eye(len(Q)), given.Q)
            first = self._first(A, Q)
            A, D = structure.A.mean(A), structure.D.mean(D)
            yield StateSpaceState(A, B, Q, C, D, R, c, first, structure, inputs)

    def _matrices(self, found, given, structure):
        """Matrices in which what is free has a value: of standardised features."""
        q, S = self.n_components, found.autocovariance[0]
        if structure.A.free.all() and structure.C.free.all() and not structure.shared:
            yield from starts(found.autocovariance, q)
            if self.initial != "diffuse":
                return
        for pole in POLES if structure.A.n else POLES[:1]:
            A = np.where(structure.A.free, self._moves(pole), given.A)
            C = directions(S, given.C / found.sd[:, None])
            yield Matrices(A, np.eye(q), C, np.full(len(S), 0.5))

    def _moves(self, pole):
        """A with these poles; where values must resolve all states, every one is seen."""
        q = self.n_components
        if self.initial != "diffuse":
            return pole * np.eye(q)
        return pole * np.diag(1 - UNLIKE * np.arange(q) / q) + UNLIKE / q * (1 - np.eye(q))

    def _structure(self, given, variance, unit):
        free = given.entries
        return Structure(
            free["A"],
            free["B"],
            free["Q"],
            bool(np.isnan(given.Q).all()),
            free["C"],
            free["D"],
            self.fit_intercept,
            NOISES[self.observation_noise].of(variance * FLOOR),
            unit,
            not given.B.any(),  # NaN counts as something
        )

    def _given(self, constant, inputs):
        """The matrices that the user gave, of the channels that vary."""
        m = int(inputs.sum())
        given = read_given(self, len(constant) - m, m)
        if constant.any():
            everywhere = np.zeros(len(constant), bool)
            everywhere[~constant] = inputs
            varies = ~constant[~everywhere]
            return given.of_outputs(varies)
        return given

    def _first(self, A, Q):
        """How the first state is distributed at the start."""
        if self.initial == "stationary":
            _refuse_unstable(A)
        if self.initial == "free":
            stable = np.abs(np.linalg.eigvals(A)).max() < 1
            P = stationary_covariance(A, Q) if stable else Q + np.eye(len(Q)) * np.trace(Q)
            return FreeFirst(np.zeros(len(A)), P)
        return FIRSTS[self.initial]()

    def _parameter_draws(self, read, n_draws, rng):
        """States that fits reach when each sequence has a random weight, as each row elsewhere."""
        seen = read.take(read.sums(read.observed) > 0)
        once, counts = distinct(seen, np.ones(len(seen)))
        refuse_one(len(once))
        state = self.run_.state

        def refit():
            chains = Chains.of(once, random_weights(counts, rng))
            chains = self._centred(chains, *state.given, state.inputs)
            return em_then_lbfgs(state, chains, max_iter=self.max_iter, tol=self.tol)

        return drawn_states(refit, n_draws)

    @classmethod
    def from_parameters(
        cls,
        *,
        transition_matrix,
        transition_covariance,
        observation_matrix,
        observation_covariance,
        intercept=None,
        input_matrix=None,
        feedthrough_matrix=None,
        input_columns=None,
        initial="stationary",
        initial_mean=None,
        initial_covariance=None,
    ):
        """A fitted state-space model of known parameters.

        Parameters
        ----------
        transition_matrix, transition_covariance : array-likes of shape (n_components, n_components)
            A and Q, which may be singular.
        observation_matrix : array-like of shape (n_channels, n_components)
            C.
        observation_covariance : array-like of shape (n_channels,) or (n_channels, n_channels)
            R, of the observation noise: positive variances, or a regular covariance matrix.
        intercept : array-like of shape (n_channels,), default=None
            None is zero.
        input_matrix : array-like of shape (n_components, n_inputs), default=None
            B; None is zero where there are inputs.
        feedthrough_matrix : array-like of shape (n_channels, n_inputs), default=None
            D; None is zero where there are inputs.
        input_columns : int or array-like of int or bool, or slice, default=None
            Columns of X that are inputs; None is the last ones.
        initial : {"stationary", "diffuse"}, default="stationary"
            The first state, where `initial_covariance` is None.
        initial_mean : array-like of shape (n_components,), default=None
            Mean of the first state, with `initial_covariance`; None is zero.
        initial_covariance : array-like of shape (n_components, n_components), default=None
            Its covariance.

        Returns
        -------
        model : LinearGaussianSSM
            Fitted; all verbs accept it.
        """
        C = checked_array(observation_matrix, (None, None), "observation_matrix")
        d, q = C.shape
        A = checked_array(transition_matrix, (q, q), "transition_matrix")
        Q = checked_covariance(transition_covariance, (q, q), "transition_covariance")
        R = read_noise(observation_covariance, d)
        B, D, inputs = read_inputs(input_matrix, feedthrough_matrix, input_columns, d, q)
        c = np.zeros(d) if intercept is None else checked_array(intercept, (d,), "intercept")
        if initial not in FIRSTS:
            raise ValueError(f"initial must be one of {list(FIRSTS)}, got {initial!r}")
        if initial_covariance is not None:
            P = checked_covariance(initial_covariance, (q, q), "initial_covariance")
            mean = np.zeros(q) if initial_mean is None else initial_mean
            first = KnownFirst(checked_array(mean, (q,), "initial_mean"), P)
        elif initial_mean is not None:
            raise ValueError("initial_mean needs initial_covariance")
        else:
            first = FIRSTS[initial]()
        free = [Entries.where(np.ones(np.shape(part), bool)) for part in (A, B, A[0], C, D)]
        noise = (FullNoise if R.ndim == 2 else DiagonalNoise)(FLOOR * matrix_of(R).diagonal())
        unit = np.ones(B.shape[1])
        structure = Structure(*free[:3], True, *free[3:], True, noise, unit)
        state = StateSpaceState(A, B, Q, C, D, R, c, first, structure, inputs)
        if initial == "stationary" and initial_covariance is None:
            _refuse_unstable(A)
        columns = np.flatnonzero(inputs).tolist() or None
        given = {"n_channels": len(inputs), "input_columns": columns}
        return cls._from_state(state, n_components=q, initial=initial, **given)


def _that_resolve_most(begin, chains):
    """States whose first ones are resolved as far as any are: others are conditional on less."""
    found = [state.resolved(chains)[0].n_values for state in begin]
    return [state for state, n in zip(begin, found) if n >= max(found) * (1 - 1e-9)]


def _refuse_unstable(A):
    if not np.abs(np.linalg.eigvals(A)).max() < 1:
        raise ValueError(
            "initial='stationary' needs a transition_matrix with eigenvalues inside the unit "
            "circle; use initial='diffuse', or give initial_covariance"
        )
