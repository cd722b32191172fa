"""Restricted Boltzmann machine: hidden bits above columns of one kind, with a likelihood."""

import numpy as np
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ._compat import Integral, Interval, Real, StrOptions, _fit_context
from .base import Absent, LatentVariableModel, all_or_nothing, fitted, positive_int
from .inference.blocks import each_block
from .inference.randomness import generator
from .inference.training_rows import TrainingRows
from .rbm_fit import first_weights
from .rbm_known import known_machine
from .rbm_state import RBMState
from .rbm_stream import StreamedChains, visible_of
from .rbm_sums import Annealing
from .rbm_training import COLUMNS
from .validation import read_training_data

VISIBLE = ("auto", "bernoulli", "categorical", "gaussian", "poisson")


def _has_bits(model):
    return "run_" not in vars(model) or model.visible_ == "bernoulli"


class RBM(StreamedChains, LatentVariableModel):
    """Restricted Boltzmann machine with a likelihood, missing entries and weights.

    p(x, h) = exp(log_base(x) + b drive(x) + c h + h W drive(x)) / Z over hidden bits h. With bits
    and counts x, drive(x) = x, and given h a count is Poisson with rate exp(b + W' h); with codes
    drive(x) has a one for the cell of each column that x is in, and x given h is a softmax of
    b + W' h; with Gaussian columns x given h is N(b + W' h, noise_variance). Given x the hidden
    bits are independent, and so are the columns given h. Where the hidden layer, or one of visible
    bits, has at most 20 bits log Z is a sum over its states and `score_samples` is exact; elsewhere
    log Z is estimated by annealed importance sampling, with a standard error.

    Parameters
    ----------
    n_components : int, default=10
        Number of hidden bits q.
    visible : {"auto", "bernoulli", "categorical", "gaussian", "poisson"}, default="auto"
        What the columns are. "auto" is "categorical" for a DataFrame whose columns have the dtype
        category, or bool, "bernoulli" where every observed entry is 0 or 1, else "gaussian".
        "bernoulli" turns other data into bits at the middle of each column's range in `fit`, with a
        warning; scores are then those of the bits. "categorical" needs codes 0, 1, 2, ... whose
        order means nothing; each column has one more cell for codes that `fit` did not see, which
        one prior row makes improbable and never impossible (a draw shows the first code beyond).
        ``impute(how="mean")`` averages codes, ``impute(how="mode")`` gives one. "poisson" needs
        counts; where they are in the dozens or above only the exact solver gets far, and a
        stochastic one wants ``n_temperatures=5``.
    solver : {"auto", "exact", "persistent", "contrastive"}, default="auto"
        "exact" climbs the likelihood by L-BFGS, counting states of the smaller layer; "persistent"
        is stochastic with chains that go on from step to step (PCD), "contrastive" with chains that
        start at the rows (CD). "auto" is "exact" where that layer has at most 10 bits, else
        "persistent".
    n_steps : int, default=5
        Gibbs steps of the chains for each step of a stochastic solver.
    n_chains : int, default=100
        Persistent chains.
    n_temperatures : int, default=1
        Parallel tempering of persistent chains, and of `sample` where no layer can be counted:
        each chain has company at so many inverse temperatures from 1 to 0, where columns are
        independent, and neighbours trade states (Desjardins et al. 2010). It costs as many times
        more, and crosses between modes that Gibbs steps do not leave. 1 is none.
    learning_rate_init : float or "auto", default="auto"
        Of the first step of a stochastic solver; it falls linearly to 0. "auto" is 0.02 for
        Gaussian columns, whose chains are thrown off by longer steps, else 0.1. Steps of weights of
        counts are over the mean of the column.
    batch_size : int, default=100
        Rows per step.
    n_updates : int, default=5000
        Steps of a stochastic solver, rounded up to whole epochs.
    weight_prior : float, default=0.01
        Precision of a Gaussian prior of the weights of standardised columns.
    noise_floor : float, default=0.1
        Smallest standard deviation of a Gaussian column given h, in standard deviations of the
        column. Without a floor the likelihood has no upper bound.
    max_iter : int, default=500
        Most iterations of L-BFGS.
    tol : float, default=1e-4
        L-BFGS stops where 100 iterations at the last pace would gain less, relative to the
        objective, or in nats where columns are counts: it crawls where hidden bits are many.
    n_annealing_chains, n_annealing_steps : int, default=100 and 1000
        Of the estimates where neither layer can be counted.
    random_state : int, RandomState instance or None, default=None
        First weights, batches, chains, and the noise that scores of all rows share.
    verbose : int, default=0
        Print progress.
    verbose_interval : int, default=10
        Iterations between prints.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_varying_features)
        Weights W, in the units of a Gaussian column. Of codes each cell of each column has one:
        the shape is (n_components, n_cells), cells of a column beside each other.
    intercept_visible_ : ndarray of shape (n_varying_features,) or (n_cells,)
        b: log odds of bits, log odds of cells but for a constant per column, log rates of counts,
        means of Gaussian columns, at h = 0.
    intercept_hidden_ : ndarray of shape (n_components,)
        c: log odds of the hidden bits at drive(x) = 0, with Gaussian columns at x = b.
    noise_variance_ : ndarray of shape (n_varying_features,)
        Of Gaussian columns given h.
    visible_ : {"bernoulli", "categorical", "gaussian", "poisson"}
    n_categories_ : ndarray of shape (n_varying_features,) or None
        Codes of each column that `fit` knows, without the reserved cell.
    thresholds_ : ndarray of shape (n_varying_features,) or None
        Where columns were made bits.
    levels_ : ndarray of shape (2, n_varying_features) or None
        Mean entries below and above the thresholds: what `sample` and `impute` show for 0 and 1.
    log_partition_, log_partition_stderr_ : float
        log Z, and its standard error: 0 where it is exact.
    history_ : ndarray of shape (n_iter_ + 1,)
        "exact": the penalised log-likelihood, nats per unit weight. Else the mean free energy of
        the fantasies less that of the rows, which tends to 0 and is no likelihood.
    n_iter_, converged_, n_parameters_, score_kind_, base_measure_, constant_
        The same in every model. A stochastic fit has converged when its schedule is through.

    Raises
    ------
    ValueError
        For anything but finite numbers and NaN, for columns without any entry, for values outside
        the support (where fit saw only 0 and 1, other values), and for solver="exact" where no
        layer can be counted.

    References
    ----------
    Smolensky (1986); Hinton (2002), contrastive divergence. Tieleman (2008), persistent chains.
    Melchior, Fischer & Wiskott (2016), How to center deep Boltzmann machines. Salakhutdinov &
    Murray (2008), On the quantitative analysis of deep belief networks. Liao, Kornblith, Ren, Fleet
    & Hinton (2022), Gaussian-Bernoulli RBMs without tears. Welling, Rosen-Zvi & Hinton (2004),
    Exponential family harmoniums, for counts. Salakhutdinov, Mnih & Hinton (2007), for codes.
    Desjardins, Courville, Bengio, Vincent & Delalleau (2010), Tempered Markov chain Monte Carlo.

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import RBM
    >>> rng = np.random.default_rng(0)
    >>> cause = rng.uniform(size=(200, 2)) < 0.5
    >>> X = (rng.uniform(size=(200, 6)) < np.repeat(np.where(cause, 0.9, 0.1), 3, axis=1)) * 1.0
    >>> X[0, 0] = np.nan
    >>> model = RBM(n_components=2, random_state=0).fit(X)
    >>> model.visible_, model.score_kind_
    ('bernoulli', 'exact')
    >>> bool(model.score(X) > -6 * np.log(2) + 1)
    True
    >>> model.impute(X[:1]).shape
    (1, 6)

    Counts: one bit is a mixture of two products of Poisson distributions.

    >>> counts = rng.poisson(np.where(cause[:, :1], 9.0, 2.0), size=(200, 4))
    >>> model = RBM(n_components=1, visible="poisson", random_state=0).fit(counts)
    >>> np.sort(model.inverse_transform([[0.0], [1.0]])[:, 0]).round()
    array([2., 9.])
    """

    _input_dtype = (np.float64, np.float32)

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "visible": [StrOptions(set(VISIBLE))],
        "solver": [StrOptions({"auto", "exact", "persistent", "contrastive"})],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "n_chains": [Interval(Integral, 1, None, closed="left")],
        "n_temperatures": [Interval(Integral, 1, None, closed="left")],
        "learning_rate_init": [StrOptions({"auto"}), Interval(Real, 0.0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "n_updates": [Interval(Integral, 1, None, closed="left")],
        "weight_prior": [Interval(Real, 0.0, None, closed="left")],
        "noise_floor": [Interval(Real, 0.0, 1.0, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "n_annealing_chains": [Interval(Integral, 2, None, closed="left")],
        "n_annealing_steps": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
    }

    marginal = Absent()  # p(x_seen) of an RBM is no RBM

    def __init__(
        self,
        n_components=10,
        *,
        visible="auto",
        solver="auto",
        n_steps=5,
        n_chains=100,
        n_temperatures=1,
        learning_rate_init="auto",
        batch_size=100,
        n_updates=5000,
        weight_prior=0.01,
        noise_floor=0.1,
        max_iter=500,
        tol=1e-4,
        n_annealing_chains=100,
        n_annealing_steps=1000,
        random_state=None,
        verbose=0,
        verbose_interval=10,
    ):
        self.n_components = n_components
        self.visible = visible
        self.solver = solver
        self.n_steps = n_steps
        self.n_chains = n_chains
        self.n_temperatures = n_temperatures
        self.learning_rate_init = learning_rate_init
        self.batch_size = batch_size
        self.n_updates = n_updates
        self.weight_prior = weight_prior
        self.noise_floor = noise_floor
        self.max_iter = max_iter
        self.tol = tol
        self.n_annealing_chains = n_annealing_chains
        self.n_annealing_steps = n_annealing_steps
        self.random_state = random_state
        self.verbose = verbose
        self.verbose_interval = verbose_interval

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        if self.visible in COLUMNS:
            tags.input_tags.positive_only = True
            tags.input_tags.categorical = True  # scikit-learn's word for whole numbers
        return tags

    # -- fitting -------------------------------------------------------------------------------

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Fit by exact or stochastic ascent of the likelihood.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries, which are summed out.
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Counts: an integer weight equals repeating the row.

        Returns
        -------
        self : object
        """
        visible = visible_of(X, self.visible)
        data = read_training_data(self, X, sample_weight, dtype=self._input_dtype)
        columns = self._columns_of(data, visible)
        rng = self._rng()
        training = TrainingRows.of(columns.read(data.X), data.weight, columns.units)
        start = first_weights(columns, training, self.n_components, rng)
        solve = self._solver(columns, training)
        run = self._drive(lambda: solve(columns, training, start, rng, self._progress(data)), data)
        return self._finish(run, data)

    def _fitted_attributes(self, run, data):
        run.state.work_out()
        return super()._fitted_attributes(run, data) | {"_stream": None}

    # -- fitted attributes ---------------------------------------------------------------------

    @property
    def _machine(self):
        return self.run_.state.machine

    @property
    def _units(self):
        return self._machine.units

    @fitted
    def components_(self):
        """(n_components, n_varying_features) weights; of codes (n_components, n_cells)."""
        return self._machine.W

    @fitted
    def intercept_visible_(self):
        """(n_varying_features,) input of each column at h = 0; of codes (n_cells,)."""
        return self._machine.units.mean_input(self._machine.b)

    @fitted
    def intercept_hidden_(self):
        """(n_components,) log odds of h at drive 0, with Gaussian columns at x = b."""
        machine = self._machine
        return machine.c + machine.W @ machine.units.offset_drive(machine.b)

    @fitted
    def n_categories_(self):
        """(n_varying_features,) codes of each column that are known; None where there are none."""
        return getattr(self._units, "n_categories", None)

    @fitted
    def log_partition_(self):
        """log Z, for the weights and intercepts as they are shown."""
        machine = self._machine
        return self.run_.state.partition[0] - machine.units.offset_log_z(machine.b)

    @fitted
    def log_partition_stderr_(self):
        """Standard error of log Z: 0 where it is exact."""
        return self.run_.state.partition[1]

    @fitted
    def score_kind_(self):
        """ "exact" where a layer has at most 20 bits, else "estimate"."""
        return self.run_.state.sums.kind

    # -- verbs ---------------------------------------------------------------------------------

    def sample(self, n_samples=1, random_state=None, *, n_steps=None):
        """Draw rows, and the hidden bits that caused them.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            Two calls with None differ, an int repeats.
        n_steps : int, default=None
            Gibbs steps from the training chains where no layer can be counted, each with a trade
            where `n_temperatures` asks for it; None takes `n_annealing_steps`. Draws are exact
            where a layer can.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Rows.
        H : ndarray of shape (n_samples, n_components)
            Hidden bits.
        """
        check_is_fitted(self)
        if n_steps is not None:
            positive_int(n_steps, "n_steps")
        n_samples = positive_int(n_samples, "n_samples")
        X, H = self._density.sample(n_samples, generator(random_state), n_steps)
        return self._restore(X), H

    def score_lower_bound(self, X):
        """A lower bound of log p(x), in expectation, by annealing backwards from each row (RAISE).

        An estimated log Z is too low as a rule, which makes `score_samples` too high; this errs in
        the other direction. It bounds the distribution of the ends of annealing chains, which is
        p(x) up to their error. Where the score is exact it is returned as it is.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows without NaN.

        Returns
        -------
        bound : ndarray of shape (n_samples,)
            Nats (Burda, Grosse & Salakhutdinov 2015). It costs as much as log Z for each row.
        """
        return self._density.lower_bound(self._without_gaps(X, "score_lower_bound"))

    def _without_gaps(self, X, verb):
        X = self._read(X)
        if np.isnan(X).any():
            raise ValueError(f"{verb} needs rows without NaN")
        return X

    @available_if(_has_bits)
    def pseudo_likelihood(self, X):
        """Sum over columns of log p(x_j given the other columns), of rows of bits without NaN.

        It is no likelihood: it may rise while the model gets worse.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows without NaN.

        Returns
        -------
        value : ndarray of shape (n_samples,)
            Nats (Besag 1975).
        """
        X = self._without_gaps(X, "pseudo_likelihood")
        return each_block(self._density.pseudo_likelihood, X)

    @classmethod
    def from_parameters(
        cls,
        *,
        components,
        intercept_visible,
        intercept_hidden,
        visible="auto",
        noise_variance=None,
        thresholds=None,
        levels=None,
        n_categories=None,
        n_temperatures=1,
        n_annealing_chains=100,
        n_annealing_steps=1000,
        random_state=0,
    ):
        """A fitted machine of known weights.

        Parameters
        ----------
        components : array-like of shape (n_components, n_features) or (n_components, n_cells)
            Weights.
        intercept_visible : array-like of shape (n_features,) or (n_cells,)
            Input of each column, or cell, at h = 0.
        intercept_hidden : array-like of shape (n_components,)
            Log odds of h at x = 0, of Gaussian columns at x = intercept_visible.
        visible : {"auto", "bernoulli", "categorical", "gaussian", "poisson"}, default="auto"
            What the columns are. "auto" is "gaussian" with `noise_variance`, "categorical" with
            `n_categories`, else "bernoulli".
        noise_variance : array-like of shape (n_features,), default=None
            Of Gaussian columns.
        thresholds : array-like of shape (n_features,), default=None
            What is above is 1; None: X holds 0 and 1.
        levels : array-like of shape (2, n_features), default=None
            What stands for 0 and 1 in rows that are drawn or filled in; None: themselves.
        n_categories : array-like of shape (n_features,), default=None
            Of columns of codes: n_cells is their sum, or a cell more in each column, its last one,
            for all codes beyond. Without such a cell these are refused.
        n_temperatures : int, default=1
            As in the constructor.
        n_annealing_chains, n_annealing_steps : int, default=100 and 1000
            As in the constructor.
        random_state : int, RandomState instance or None, default=0
            Of the estimates where neither layer can be counted.

        Returns
        -------
        model : RBM
            Fitted; all verbs accept it.

        Raises
        ------
        ValueError
            For shapes that do not fit each other, variances that are not positive, rates that no
            count can hold, and parameters of another kind of column.
        """
        machine = known_machine(
            visible,
            components,
            intercept_visible,
            intercept_hidden,
            noise_variance=noise_variance,
            thresholds=thresholds,
            levels=levels,
            n_categories=n_categories,
        )
        q = machine.n_latents
        params = {
            "n_components": q,
            "visible": machine.units.name,
            "n_temperatures": n_temperatures,
            "n_annealing_chains": n_annealing_chains,
            "n_annealing_steps": n_annealing_steps,
            "random_state": random_state,
        }
        model = cls(**params)
        model._validate_params()
        seed = int(model._rng().integers(2**31))
        chains = Annealing(
            machine.visible_input(np.full(q, 0.5)),
            np.zeros(q),
            (np.random.default_rng(seed).random((100, q)) < 0.5).astype(np.float64),
            n_annealing_chains,
            n_annealing_steps,
            seed,
            n_temperatures,
        )
        return cls._from_state(RBMState.of(machine, chains), **params)
