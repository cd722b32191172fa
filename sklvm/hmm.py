"""Hidden Markov models with any emission, by EM (Baum-Welch) or variational Bayes."""

from functools import partial

import numpy as np

from ._compat import Integral, Interval, Real, StrOptions, _fit_context
from .any_emission import EMISSION_CONSTRAINTS, AnyEmission, checked_weights, with_structure
from .base import all_or_nothing, fitted
from .chain_inference import INFERENCES
from .chain_start import SHORT, TOPOLOGIES, sample_chains, sticky_moves
from .chain_state import Chains, ChainState
from .chain_verbs import ChainVerbs
from .components import ComponentFit, canonical_order
from .emissions.base import Emission
from .emissions.covariance import Penalty
from .emissions.family import STRUCTURES
from .emissions.gaussian import Gaussians
from .emissions.simplex import PenalisedPoint
from .inference.bootstrap import drawn_states, random_weights
from .inference.em import em, em_from_best, evaluate
from .sequences import read_training_sequences, refuse_one
from .validation import checked_array

_PRIOR = [Interval(Real, 0.0, None, closed="neither"), "array-like"]


class HMM(AnyEmission, ComponentFit, ChainVerbs):
    """Hidden Markov model with any emission, fitted by expectation-maximisation.

    A hidden state z_t follows a Markov chain, z_1 ~ startprob_, z_t ~ transmat_[z_(t-1)], and each
    step x_t is drawn from p(x | z_t). ``X[i]`` is the i-th sequence: X is a list of arrays
    (n_steps, n_channels) of any lengths, a 3-D array with NaN behind each end, or a 2-D array with
    a sequence in each row. Missing entries and whole missing steps (NaN) are integrated out
    exactly, weights are counts of sequences, and scores are log densities in the units of X.

    Parameters
    ----------
    n_components : int, default=1
        Number of states K.
    emission : str, spec object or list of pairs (emission, columns), default="gaussian"
        What a state emits: everything that `sklvm.Mixture` accepts, such as "student_t",
        "categorical", "poisson", ``FactorEmission(n_factors=2)``, a mixture of Gaussians within
        each state, ``GaussianMixtureEmission(n_mix=3)``, or a list for channels of mixed types.
    covariance_type : {"full", "tied", "diag", "spherical"} or three letters, default="full"
        Structure of the covariance (Student-t: scale) matrices; see `sklvm.GaussianMixture`.
    inference : {"em", "vb"}, default="em"
        "em" finds the mode of the parameters. "vb" finds a posterior over them by variational
        Bayes, for "gaussian", "gaussian_mixture" and "student_t" emissions of scikit-learn's four
        structures, ``FactorEmission(n_factors=2)``, "bernoulli", "categorical", "poisson",
        "negative_binomial", and lists of these; see Notes.
    startprob_prior : float or array-like of shape (n_components,), default=1.0
        Parameters of a Dirichlet prior of `startprob_`. For "em" at least 1: a value adds itself
        less one to the expected counts, so 1 is maximum likelihood. For "vb" above 0: it adds
        itself.
    transmat_prior : float or array-like of shape (n_components, n_components), default=1.1
        The same for the rows of `transmat_`: by default a move that nobody saw is improbable, not
        impossible.
    sticky : float, default=0.1
        Pseudo-counts on the diagonal besides: staying was seen that many times more.
    topology : {"full", "left-right"}, default="full"
        Which moves are possible. "left-right": chains begin in state 0 and never go back. The other
        probabilities are 0 and stay so.
    startprob_init : array-like of shape (n_components,), default=None
        Start probabilities to begin with; what is 0 stays 0.
    transmat_init : array-like of shape (n_components, n_components), default=None
        Moves to begin with; what is 0 stays 0.
    tol : float, default=1e-6
        Stop when the gain still to come, extrapolated, is below tol nats per observed step.
    reg_covar : float, default=0.0
        Absolute ridge, in squared units of X; see `sklvm.GaussianMixture`.
    covariance_prior : "auto" or float, default="auto"
        Pseudo-observations of the pooled covariance, divided by K^(2/d), that each free matrix
        gets; 0 is maximum likelihood. "auto" is four times that of a mixture (2 d for "full"), or
        as many times as a sequence has steps in the mean: steps depend on each other, and say less
        than as many rows.
    max_iter : int, default=1000
        Largest number of passes over the sequences.
    n_init : int, default=10
        Short runs from different starts, on about 10000 steps; the best is finished on all.
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}, default="k-means++"
        How a start divides the steps; "left-right" cuts the sequences in place of it.
    n_channels : int, default=1
        Channels of a step where X is a 2-D array of rows of numbers, step after step.
    max_memory : float, default=256e6
        Bytes for what is kept of one sequence, about 16 K per step; of longer ones half of the work
        is done twice.
    random_state : int, RandomState instance or None, default=None
        Randomness of the starts.
    warm_start : bool, default=False
        Go on from the last fit.
    accelerate : "squarem" or None, default="squarem"
        Extrapolation of the EM steps; kept only where the objective rises.
    n_jobs : int or None, default=None
        Threads that share the sequences.
    verbose : int, default=0
        Print progress.
    verbose_interval : int, default=10
        Iterations between prints.

    Attributes
    ----------
    startprob_ : ndarray of shape (n_components,)
        Probability of each state at the first step.
    transmat_ : ndarray of shape (n_components, n_components)
        Probability of the move from state i (row) to state j.
    means_ : ndarray of shape (n_components, n_channels)
        E[x_t | z_t = k], in the units of X.
    covariances_ : ndarray
        In the shape of the structure; emissions with matrices only.
    emission_ : Emission
        The fitted conditionals over the channels that vary.
    df_ : ndarray
        Degrees of freedom; Student-t emissions only.
    stationary_distribution_ : ndarray of shape (n_components,)
        Long-run share of the steps in each state.
    expected_durations_ : ndarray of shape (n_components,)
        Expected number of steps of a stay in each state.
    n_timesteps_ : int
        Weighted median length of the training sequences.
    n_channels_ : int
        Channels of a step.
    history_, n_iter_, converged_, lower_bound_, n_parameters_, score_kind_, base_measure_
        The same in every model; the objective is per observed step.

    Raises
    ------
    ValueError
        For anything but finite numbers and NaN, channels without any entry, less total weight than
        states, and priors, labels or probabilities that contradict each other.

    Notes
    -----
    States come in descending order of expected occupancy, unless labels, `startprob_init`,
    `transmat_init`, the topology or a warm start name them.

    With ``inference="vb"`` `startprob_`, `transmat_` and `means_` are expectations, and
    `lower_bound_` is the bound on the log evidence of all sequences, which falls where states are
    not needed, so that it compares numbers of states. Scores and the other verbs use expected
    starts and moves and the predictive of each state (Gaussian: Student-t, Poisson: negative
    binomial): a normalised density, but not the average over all parameters of a whole sequence,
    which has no closed form. Nor has the predictive of a Student-t or of factors, where expected
    parameters, made wider, stand for it, and of a negative binomial, where one of the same mean and
    variance does; degrees of freedom and dispersions are points, as in "em". `covariance_prior` and
    `reg_covar` are those of "em"; the prior of Gaussian and Student-t states, and of the parts of
    Gaussian mixtures, is that of `sklvm.VariationalGMM` with ``empirical_bayes=None``, with weights
    of parts all equally probable; of factors the same for each column, with loadings about 0; that
    of others ``Poisson(pseudo=1.0)`` rows of the average of all rows: a Gamma, Beta or Dirichlet.
    Unobserved entries of a step are latents with a q of their own, except for "diag" and
    "spherical", factors, and where channels are independent; whole missing steps cost nothing.

    The first fit on a machine compiles the recursions, once for each number of states up to 8 and
    once for all above, which took 1.8 s of one core; they are kept beside the package (or in
    NUMBA_CACHE_DIR), and other processes load them in 0.3 s
    (``benchmarks/sequence_start.py`` prints both).

    References
    ----------
    Rabiner (1989), A tutorial on hidden Markov models, section III. Baum, Petrie, Soules & Weiss
    (1970). Dempster, Laird & Rubin (1977) for missing entries. Fox, Sudderth, Jordan & Willsky
    (2011), A sticky HDP-HMM, for extra mass on the diagonal. MacKay (1997), Ensemble learning for
    hidden Markov models, and Beal (2003), chapter 3, for variational Bayes.

    Examples
    --------
    Two sequences of different lengths, as a list; stacked rows with their lengths say the same:

    >>> import numpy as np
    >>> from sklvm import HMM
    >>> rng = np.random.default_rng(0)
    >>> level = np.repeat([0.0, 5.0, 0.0, 5.0], [40, 30, 20, 10])[:, None]
    >>> rows = level + rng.normal(size=(100, 1))
    >>> model = HMM(2, random_state=0).fit([rows[:60], rows[60:]])
    >>> same = HMM(2, random_state=0).fit(rows, lengths=[60, 40])
    >>> bool(model.score([rows]) == same.score([rows]))
    True
    >>> model.means_.ravel().round(1)
    array([0. , 5.2])
    >>> [path.tolist()[-12:] for path in model.predict([rows])]
    [[0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]]
    """

    _parameter_constraints: dict = {
        **ComponentFit._parameter_constraints,
        **EMISSION_CONSTRAINTS,
        "inference": [StrOptions(set(INFERENCES))],
        "startprob_prior": _PRIOR,
        "transmat_prior": _PRIOR,
        "sticky": [Interval(Real, 0.0, None, closed="left")],
        "topology": [StrOptions(set(TOPOLOGIES))],
        "startprob_init": ["array-like", None],
        "transmat_init": ["array-like", None],
        "n_channels": [Interval(Integral, 1, None, closed="left")],
        "max_memory": [Interval(Real, 0.0, None, closed="left")],
    }

    def __init__(
        self,
        n_components=1,
        *,
        emission="gaussian",
        covariance_type="full",
        inference="em",
        startprob_prior=1.0,
        transmat_prior=1.1,
        sticky=0.1,
        topology="full",
        startprob_init=None,
        transmat_init=None,
        tol=1e-6,
        reg_covar=0.0,
        covariance_prior="auto",
        max_iter=1000,
        n_init=10,
        init_params="k-means++",
        n_channels=1,
        max_memory=256e6,
        random_state=None,
        warm_start=False,
        accelerate="squarem",
        n_jobs=None,
        verbose=0,
        verbose_interval=10,
    ):
        self.n_components = n_components
        self.emission = emission
        self.covariance_type = covariance_type
        self.inference = inference
        self.startprob_prior = startprob_prior
        self.transmat_prior = transmat_prior
        self.sticky = sticky
        self.topology = topology
        self.startprob_init = startprob_init
        self.transmat_init = transmat_init
        self.tol = tol
        self.reg_covar = reg_covar
        self.covariance_prior = covariance_prior
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.n_channels = n_channels
        self.max_memory = max_memory
        self.random_state = random_state
        self.warm_start = warm_start
        self.accelerate = accelerate
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.verbose_interval = verbose_interval

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None, *, lengths=None, labels=None):
        """Fit by expectation-maximisation over the paths and the missing entries.

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
        labels : in the container of X, default=None
            Known states, one integer (T_i,) per step, -1 where unknown.

        Returns
        -------
        self : HMM
        """
        given = {"lengths": lengths, "labels": labels}
        data = read_training_sequences(self, X, sample_weight, n_states=self.n_components, **given)
        rows = data.rows()
        length = float(rows.weight.sum() / data.weight.sum())
        family = self._family(rows).dependent(length)
        before = self._before(data) if self._goes_on else None
        self._n_timesteps = data.sequences.median_length(data.weight)
        self._n_steps = float(rows.weight.sum())
        run = self._drive(lambda: self._climb(data, rows, family, before), data)
        if not self._names_components(labels):
            means = run.state.emission.expectation()
            share = run.stats.counts / run.stats.counts.sum()
            order = canonical_order(share, (means - family.mean) / np.sqrt(family.variance))
            run = run._replace(state=run.state.take(order), stats=run.stats.take(order))
        return self._finish(run, data)

    def _parts(self, Z, weight, K, rng):
        divide = TOPOLOGIES[self.topology].divide
        return divide(super()._parts, Z, weight, K, rng)

    def _names_components(self, labels):
        given = self.startprob_init is not None or self.transmat_init is not None
        topology = TOPOLOGIES[self.topology]
        return super()._names_components(labels) or given or topology.names_states

    def _broad(self, family, constant):
        """K equal states, with the priors in place."""
        emission = self._inference.emission(self, family, constant)
        return ChainState(*self._first_and_moves(), emission)

    @property
    def _inference(self):
        return INFERENCES[self.inference]

    def _first_and_moves(self):
        """The chain that starts begin with, its zeros and its priors."""
        K = self.n_components
        can_begin, can_move = TOPOLOGIES[self.topology].allowed(K)
        first, moves = can_begin / can_begin.sum(), sticky_moves(can_move)
        if self.startprob_init is not None:
            first = _given(self.startprob_init, (K,), "startprob_init", can_begin)
        if self.transmat_init is not None:
            moves = _given(self.transmat_init, (K, K), "transmat_init", can_move)
        inference, sticky = self._inference, self.sticky * np.eye(K)
        prior = _concentrations(self.startprob_prior, (K,), "startprob_prior", inference.least)
        priors = _concentrations(self.transmat_prior, (K, K), "transmat_prior", inference.least)
        return inference.simplex(first, prior), inference.simplex(moves, priors + sticky)

    def _climb(self, data, rows, family, before):
        """The best of n_init starts, or the state before, finished on all sequences."""
        chains = Chains.of(data.sequences, data.weight, data.labels, self.max_memory)
        broad = self._broad(family, data.constant)
        self._in_support(rows.X, broad, data.constant)
        ruled_out = np.isneginf(broad.log_prob_of_labels(chains)).sum()
        if ruled_out:
            raise ValueError(
                f"zeros of the start probabilities or moves rule out the labels of {ruled_out} "
                "sequences"
            )
        settings = {
            "max_iter": self.max_iter,
            "tol": self.tol,
            "accelerate": self.accelerate,
            "callback": self._progress(data),
            "n_jobs": self.n_jobs,
        }
        if before is not None:
            start = self._alike(broad, before).m_step(evaluate(before, chains).stats)
            return em_from_best([start], chains, chains, **settings)
        rng, topology = self._rng(), TOPOLOGIES[self.topology]
        sample, steps = sample_chains(chains, topology.longest)
        spec = self._emission(data.constant)
        comparable = partial(self._comparable, spec=spec, family=family, rng=rng)
        divisible, Z = topology.divisible(steps, comparable)
        starts = self._starts(divisible, Z, broad, data.constant, rng)
        return em_from_best(starts, sample, chains, short_iter=SHORT, **settings)

    def _parameter_draws(self, read, n_draws, rng):
        return self._inference.draws(self, read, n_draws, rng)

    def _parameter_kl(self):
        return self._inference.parameter_kl(self.run_.state)

    @fitted
    def lower_bound_(self):
        """The objective: EM nats per observed step, VB the bound on the evidence in nats."""
        return float(self._inference.lower_bound(self.run_.objective, self._n_steps))

    def _params_of(self, state, kept):
        return {**super()._params_of(state, kept), **self._inference.params(state)}

    def _bootstrap(self, read, n_draws, rng):
        """States that EM reaches when each sequence has a random weight, as each row elsewhere."""
        seen = read.take(read.sums(read.observed) > 0)
        once = Chains.of(seen, np.ones(len(seen)), max_memory=self.max_memory)
        once = sample_chains(once, longest=np.inf, size=np.inf)[0]
        refuse_one(len(once.counts))

        def refit():
            chains = once.reweighted(random_weights(once.counts, rng))
            settings = {"max_iter": self.max_iter, "tol": self.tol, "accelerate": "squarem"}
            return em(self.run_.state, chains, **settings)

        return drawn_states(refit, n_draws)

    @classmethod
    def from_parameters(
        cls,
        *,
        startprob,
        transmat,
        emission=None,
        means=None,
        covariances=None,
        covariance_type="full",
    ):
        """A fitted hidden Markov model of known parameters.

        Parameters
        ----------
        startprob : array-like of shape (n_components,)
            Probability of each state at the first step.
        transmat : array-like of shape (n_components, n_components)
            Probabilities of the moves, rows with sum 1.
        emission : Emission, default=None
            The conditionals, such as ``model.emission_``; or else `means` and `covariances`.
        means : array-like of shape (n_components, n_channels), default=None
            Means of Gaussian emissions.
        covariances : array-like, default=None
            Their covariances, in the shape that `covariance_type` has in `covariances_`.
        covariance_type : {"full", "tied", "diag", "spherical"} or three letters, default="full"
            Structure of the covariances.

        Returns
        -------
        model : HMM
            Fitted; all verbs accept it.
        """
        startprob = checked_weights(startprob)
        K = len(startprob)
        transmat = _given(transmat, (K, K), "transmat", np.ones((K, K), bool))
        if (emission is None) == (means is None) or (means is None) != (covariances is None):
            raise ValueError("give emission, or means and covariances")
        if emission is None:
            emission = _gaussians(means, covariances, covariance_type, K)
        if not isinstance(emission, Emission):
            raise TypeError(
                f"emission must be an Emission such as model.emission_, got {emission!r}"
            )
        if len(emission.expectation()) != K:
            raise ValueError(f"{K} start probabilities for {len(emission.expectation())} states")
        points = [PenalisedPoint(p, np.zeros_like(p), p > 0) for p in (startprob, transmat)]
        state = ChainState(*points, emission)
        params = {
            "n_components": K,
            "emission": emission.spec,
            "covariance_type": covariance_type,
            "n_channels": state.n_features,
        }
        return cls._from_state(state, **with_structure(params, state))


def _concentrations(prior, shape, name, least):
    """Parameters of a Dirichlet prior."""
    if np.ndim(prior) > 0:
        prior = checked_array(prior, shape, name)
    if np.min(prior) < least:
        raise ValueError(
            f"{name} must be at least 1, the maximum-likelihood value (inference='vb': above 0), "
            f"got {prior!r}"
        )
    return np.full(shape, prior, dtype=np.float64)


def _given(p, shape, name, allowed):
    """Rows of probabilities that the user gave, or ValueError."""
    p = checked_array(p, shape, name)
    if (p < 0).any() or (abs(p.sum(axis=-1) - 1) > 1e-6).any():
        raise ValueError(f"{name} must hold probabilities with sum 1 (in each row), got {p!r}")
    if (p[~allowed] > 0).any():
        raise ValueError(f"{name} allows what the topology does not, got {p!r}")
    return p / p.sum(axis=-1, keepdims=True)


def _gaussians(means, covariances, covariance_type, K):
    if covariance_type not in STRUCTURES:
        raise ValueError(
            f"covariance_type must be one of {sorted(STRUCTURES)}, got {covariance_type!r}"
        )
    means = checked_array(means, (K, None), "means")
    d = means.shape[1]
    penalty = Penalty(0.0, np.zeros((d, d)))
    return Gaussians(means, STRUCTURES[covariance_type].expand(covariances, K, d, penalty))
