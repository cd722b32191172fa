"""Factor analysis: a few latent causes behind many columns, by maximum likelihood."""

from copy import copy
from functools import partial

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from ._compat import Integral, Interval, Real, StrOptions, _fit_context
from .base import all_or_nothing, fitted, freeze
from .factor_base import FactorModel, checked_factors
from .factor_report import FactorReport
from .factor_search import SEARCHES, FactorSearch, starts
from .factor_state import FactorState
from .inference.em import em, em_from_best
from .inference.factor_profile import (
    Profile,
    heywood_cases,
    maximum_likelihood,
    plentiful,
)
from .inference.factor_spectrum import SMALLEST
from .inference.history import FitInterrupted
from .inference.moments import pooled_moments
from .inference.start import distinct
from .rotations import ROTATIONS, Rotation
from .validation import TrainingData, checked_array, read_training_data
from .warn import warn_user


class EMFactorAnalysis(FactorReport, FactorModel):
    """Factor analysis by maximum likelihood, with missing entries, weights and no Heywood surprise.

    x = mean + z components + noise, z ~ N(0, I), noise ~ N(0, diag(noise_variance)). On complete
    data one pass over the rows gives the covariance, and nothing after it depends on their number.

    Parameters
    ----------
    n_components : int or {"parallel", "bic", "cv"}, default=2
        Number of factors q, or how to find it; 0, which a search may find as well, makes the
        columns independent, and `transform` then has no columns. "parallel" counts the eigenvalues
        of the correlations that exceed those of tables without factors (their 95 % quantiles);
        "bic" takes the smallest Bayesian information criterion, "cv" the highest log-likelihood of
        rows held out (5 folds of distinct rows). The last two try ever more factors, until three
        sizes in a row were no better.
    rotation : None, str or Rotation, default=None
        How the factors are turned after the fit, which changes no density: "varimax", "quartimax",
        "equamax", "promax", "oblimin" and "geomin", or `Orthomax`, `Promax`, `Oblimin`, `Geomin`
        and `Target` with parameters of their own. It works on `loadings_`, from several starts that
        are the same in every fit. None keeps the canonical factors.
    solver : {"auto", "profile", "em"}, default="auto"
        "profile" climbs the likelihood in the log uniquenesses, the loadings maximised out, by
        L-BFGS (complete data only); "em" is expectation-maximisation, exact with missing entries;
        "auto" takes the first on complete data.
    heywood_penalty : float, default=0.05
        The soft penalty -(c/2) sum_j variance_j / noise_variance_j, in nats for all rows together:
        it keeps uniquenesses off zero and vanishes as rows come in; 0 is maximum likelihood.
    tol : float, default=1e-8
        EM: gain still to come, extrapolated, in nats per unit weight; profile: relative gain.
    max_iter : int, default=1000
        Largest number of iterations.
    accelerate : "squarem" or None, default="squarem"
        Extrapolation of the EM steps; kept only where the objective rises.
    random_state : int, RandomState instance or None, default=None
        Randomness of the tables without factors (n_components="parallel").
    n_jobs : int or None, default=None
        Threads that share the blocks of rows (EM).
    verbose : int, default=0
        Print progress.
    verbose_interval : int, default=10
        Iterations between prints.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        Loadings, in the units of X; zeros for constant columns. Without a rotation
        components_ / noise_variance_ @ components_.T is diagonal and descending.
    noise_variance_ : ndarray of shape (n_features,)
        Variance of each column that the factors leave, in squared units of X.
    mean_ : ndarray of shape (n_features,)
        Column means.
    loadings_, structure_ : ndarray of shape (n_features, n_components)
        Loadings of columns of variance one (the pattern), and correlations with the factors.
    factor_correlation_ : ndarray of shape (n_components, n_components)
        Correlations of the factors: the identity unless the rotation is oblique.
    communalities_, uniquenesses_ : ndarray of shape (n_features,)
        Shares of each column's variance that the factors explain, and that they leave.
    explained_variance_ratio_ : ndarray of shape (n_components,)
        Share of the variance of all standardised columns that each factor explains.
    heywood_ : ndarray of shape (n_features,), bool
        Heywood cases: columns whose uniqueness would end below 0.005 without the penalty; where
        entries are missing, as the EM estimate of the covariance has it.
    n_components_ : int
        The number of factors that was given or found.
    component_search_ : dict of ndarrays
        What a search for it saw, empty where it was given: "eigenvalues" and "thresholds" one by
        one ("parallel"); "n_components" and "bic", or "held_out" in nats per unit weight.
    history_, n_iter_, converged_, n_parameters_, score_kind_, base_measure_
        The same in every model.

    Raises
    ------
    ValueError
        For anything but finite numbers and NaN, for columns without any entry, and for
        solver="profile" on data with NaN.

    References
    ----------
    Joreskog (1967), Psychometrika 32 (the profile likelihood). Bernaards & Jennrich (2005),
    Educational and Psychological Measurement 65 (rotations). Rubin & Thayer (1982) and Ghahramani
    & Hinton (1996) (EM). Bishop (2006), 12.64-12.70. Horn (1965), Psychometrika 30, and Glorfeld
    (1995) (parallel analysis).

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import EMFactorAnalysis
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(500, 1))
    >>> X = z * [2.0, 1.0, 3.0] + rng.normal(size=(500, 3))
    >>> X[::7, 1] = np.nan
    >>> model = EMFactorAnalysis(n_components=1).fit(X)
    >>> model.components_.round(0)
    array([[2., 1., 3.]])
    >>> bool(model.score(X) > model.score(3 * X))
    True
    >>> EMFactorAnalysis(n_components="parallel", random_state=0).fit(X).n_components_
    1
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 0, None, closed="left"), StrOptions(set(SEARCHES))],
        "rotation": [StrOptions(set(ROTATIONS)), Rotation, None],
        "solver": [StrOptions({"auto", "profile", "em"})],
        "heywood_penalty": [Interval(Real, 0.0, None, closed="left")],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "accelerate": [StrOptions({"squarem"}), None],
        "random_state": ["random_state"],
        "n_jobs": [None, Integral],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components=2,
        *,
        rotation=None,
        solver="auto",
        heywood_penalty=0.05,
        tol=1e-8,
        max_iter=1000,
        accelerate="squarem",
        random_state=None,
        n_jobs=None,
        verbose=0,
        verbose_interval=10,
    ):
        self.n_components = n_components
        self.rotation = rotation
        self.solver = solver
        self.heywood_penalty = heywood_penalty
        self.tol = tol
        self.max_iter = max_iter
        self.accelerate = accelerate
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.verbose_interval = verbose_interval

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Fit by maximum penalised likelihood.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries, which are integrated out exactly.
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Counts: an integer weight equals repeating the row.

        Returns
        -------
        self : object
        """
        self._forget()
        data = read_training_data(self, X, sample_weight)
        complete = data.complete
        if self.solver == "profile" and not complete:
            raise ValueError("solver='profile' needs complete data, X has NaN: use 'em' or 'auto'")
        self._q, self._search = self._counted(data.X, data.weight)
        self._turning(data.constant, data.X.shape[1], self._q)  # refuses before the work, not after
        climb = self._climb_profile if complete and self.solver != "em" else self._climb_em
        return self._finish(self._drive(lambda: climb(data), data), data)

    def _forget(self):
        """Nothing that an earlier fit saw says anything of this one."""
        for name in ("_heywood", "_moments", "_search"):
            vars(self).pop(name, None)

    def _counted(self, X, weight):
        """The number of factors, and what a search for it saw."""
        if not isinstance(self.n_components, str):
            return self.n_components, {}
        search = FactorSearch(X, weight, self.heywood_penalty, self._rng())
        return SEARCHES[self.n_components](search)

    def _climb_profile(self, data):
        # A climb along a boundary, or where rows are few, magnifies the last bit. Distinct rows in
        # order, and their weight rather than their number, decide every bit.
        if plentiful(data.weight.sum(), data.X.shape[1], self._q):
            run = self._climb_rows(data, data.X, data.weight)
            if (run.state.uniquenesses >= SMALLEST).all():
                return run
        order, weight = distinct(data.X, data.weight)
        return self._climb_rows(data, data.X[order], weight)

    def _climb_rows(self, data, X, weight):
        mean, self._moments, profile = Profile.of_data(X, weight, self._q, self.heywood_penalty)
        return self._climb(profile, mean, data)

    def _climb(self, profile, mean, data):
        run = maximum_likelihood(
            profile,
            lambda *factors: FactorState.of(mean, *factors),
            max_iter=self.max_iter,
            tol=self.tol,
            callback=self._progress(data),
        )
        self._judge(profile, run)
        return run

    def _judge(self, profile, run):
        """Keep which columns are Heywood cases."""
        psi, settings = run.state.emission.cov.psi[0], {"max_iter": self.max_iter, "tol": self.tol}
        try:
            self._heywood = heywood_cases(profile, psi, **settings)
        except FitInterrupted:  # the fit itself is done
            raise FitInterrupted(run) from None

    def _climb_em(self, data):
        mean, S = pooled_moments(data.X, data.weight)
        profile = Profile.of_covariance(S, data.weight.sum(), self._q, self.heywood_penalty)
        self._moments = S if data.complete and data.weight.sum() >= len(S) else None
        if data.complete:
            rows = _condensed(mean, S, data.weight)
            climb = partial(em, FactorState.principal(mean, S, self._q, self.heywood_penalty))
        else:
            rows = (data.X, data.weight)
            climb = partial(em_from_best, starts(mean, S, profile), rows)
        run = climb(
            rows,
            max_iter=self.max_iter,
            tol=self.tol,
            accelerate=self.accelerate,
            callback=self._progress(data),
            n_jobs=self.n_jobs,
        )
        self._judge(profile, run)
        return run._replace(state=run.state.canonical())

    def _params_of(self, state, kept):
        return {**super()._params_of(state, kept), "rotation": None}

    def _finish(self, run, data, report=True):
        state = self._turned(run.state, data.constant)
        return super()._finish(run._replace(state=state), data, report)

    def _turned(self, state, constant):
        """The state with factors as `rotation` turns them: constant is (d,) bool."""
        criterion = self._turning(constant, *state.shape)
        if criterion is None:
            return state.unturned(state.emission)
        state, converged = state.turned(criterion, np.random.default_rng(0))
        if not converged:
            warn_user(
                f"rotation={self.rotation!r} found no minimum where its gradient vanishes: factors "
                "may have become one; try fewer factors or another rotation",
                ConvergenceWarning,
            )
        return state

    def rotate(self, rotation):
        """The same density told by other factors.

        Parameters
        ----------
        rotation : None, str or Rotation
            As the constructor takes it.

        Returns
        -------
        model : EMFactorAnalysis
            A fitted copy.
        """
        check_is_fitted(self)
        model = copy(self).set_params(rotation=clone(rotation, safe=False))
        model._validate_params()
        before = self.run_.state.canonical() if rotation is None else self.run_.state
        state = model._turned(before, self.constant_)
        freeze(state)
        model.run_ = self.run_._replace(state=state)
        return model

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def fit_covariance(self, S, n_samples, mean=None):
        """Fit to a covariance or correlation matrix, for people who have only that.

        Parameters
        ----------
        S : array-like of shape (n_features, n_features)
            Covariance of the rows, with divisor n_samples; positive diagonal.
        n_samples : float
            Number of rows (their total weight) behind S.
        mean : array-like of shape (n_features,), default=None
            Column means; None is zero.

        Returns
        -------
        self : object
        """
        self._forget()
        given, S = S, check_array(S, dtype=np.float64)
        d = len(S)
        if S.shape != (d, d) or not (np.diag(S) > 0).all() or not _symmetric(S):
            raise ValueError("S must be a square symmetric matrix with a positive diagonal")
        validate_data(self, given if hasattr(given, "columns") else S, skip_check_array=True)
        if not (isinstance(n_samples, Real) and 2 <= n_samples < np.inf):
            raise ValueError(f"n_samples must be at least 2, got {n_samples!r}")
        sd = np.sqrt(np.diag(S))
        if np.linalg.eigvalsh(S / np.outer(sd, sd))[0] < -1e-8 * d:
            raise ValueError("S must be positive semidefinite: it has correlations no data have")
        if self.solver == "em":
            raise ValueError("fit_covariance climbs the profile likelihood: use solver='auto'")
        if self.n_components == "cv":
            raise ValueError(
                "n_components='cv' holds rows out, and fit_covariance has none: use 'parallel', "
                "'bic' or a number"
            )
        mean = np.zeros(d) if mean is None else checked_array(mean, (d,), "mean")
        S = (S + S.T) / 2
        self._q, self._search = self._counted(*_condensed(mean, S, np.array([float(n_samples)])))
        data = TrainingData(
            np.empty((0, d)), np.array([float(n_samples)]), None, np.zeros(d, bool), np.zeros(d)
        )
        self._turning(data.constant, d, self._q)
        self._moments = S
        profile = Profile.of_covariance(
            self._moments, float(n_samples), self._q, self.heywood_penalty
        )
        return self._finish(self._drive(lambda: self._climb(profile, mean, data), data), data)

    @fitted
    def n_components_(self):
        """Number of factors: what was asked for, or found."""
        return self.run_.state.n_latents

    @fitted
    def component_search_(self):
        """What a search for the number of factors saw; empty where the number was given."""
        return dict(vars(self).get("_search", {}))

    @fitted
    def heywood_(self):
        """(n_features,) bool: columns whose uniqueness the likelihood alone would send to zero."""
        whole = np.zeros(len(self.constant_), bool)
        small = self.run_.state.uniquenesses < SMALLEST  # all that a model without a fit knows
        whole[~self.constant_] = vars(self).get("_heywood", small)
        return whole

    @classmethod
    def from_parameters(cls, *, components, noise_variance, mean=None, factor_correlation=None):
        """A fitted factor analysis of known parameters.

        Parameters
        ----------
        components : array-like of shape (n_components, n_features)
            Loadings; the factors stay as they are given.
        noise_variance : array-like of shape (n_features,), or float
            Variance that the factors leave, positive.
        mean : array-like of shape (n_features,), default=None
            Column means; None is zero.
        factor_correlation : array-like of shape (n_components, n_components), default=None
            Correlations of the factors, positive definite; None is the identity.

        Returns
        -------
        model : EMFactorAnalysis
            Fitted; all verbs accept it.
        """
        components, mean = checked_factors(components, mean)
        q, d = components.shape
        noise = np.full(d, noise_variance) if np.ndim(noise_variance) == 0 else noise_variance
        noise = checked_array(noise, (d,), "noise_variance")
        if not (noise > 0).all():
            raise ValueError("noise_variance must be positive")
        turn = np.eye(q) if factor_correlation is None else _root(factor_correlation, q)
        state = FactorState.given(mean, components.T, noise, turn)
        return cls._from_state(state, n_components=q)


def _symmetric(S):
    """Whether correlations are, whatever the units."""
    sd = np.sqrt(np.diag(S))
    R = S / np.outer(sd, sd)
    return np.allclose(R, R.T)


def _root(correlation, q):
    """B with B B' = the correlation matrix (q, q); or ValueError."""
    correlation = checked_array(correlation, (q, q), "factor_correlation")
    symmetric = np.allclose(correlation, correlation.T) and np.allclose(np.diag(correlation), 1.0)
    if not symmetric or np.linalg.eigvalsh(correlation)[0] <= 0:
        raise ValueError(
            "factor_correlation must be symmetric and positive definite, with a unit diagonal"
        )
    return np.linalg.cholesky(correlation)


def _condensed(mean, S, weight):
    """2d weighted rows with the mean, covariance and total weight of all complete rows."""
    values, vectors = np.linalg.eigh(S)
    arms = (np.sqrt(len(S) * np.maximum(values, 0.0)) * vectors).T
    rows = np.concatenate([mean + arms, mean - arms])
    return rows, np.full(len(rows), weight.sum() / len(rows))
