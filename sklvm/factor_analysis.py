"""Factor analysis: a few latent causes behind many columns, by maximum likelihood."""

import warnings
from copy import copy

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_array, check_is_fitted

from ._compat import Integral, Interval, Real, StrOptions, _fit_context
from .base import all_or_nothing, fitted, freeze
from .emissions.covariance import Penalty
from .emissions.factor_analyzers import FLOOR
from .emissions.gaussian import Gaussians
from .emissions.low_rank import LowRank
from .factor_base import FactorModel, checked_factors
from .factor_report import FactorReport
from .factor_state import FactorState
from .inference.em import em
from .inference.factor_profile import (
    Profile,
    heywood_cases,
    maximum_likelihood,
    plentiful,
)
from .inference.factor_spectrum import SMALLEST
from .inference.moments import pooled_moments, sample_mean, sample_moments
from .inference.start import distinct
from .rotations import ROTATIONS, Rotation, rotation_of
from .validation import TrainingData, checked_array, read_training_data


class EMFactorAnalysis(FactorReport, FactorModel):
    """Factor analysis by maximum likelihood, with missing entries, weights and no Heywood surprise.

    x = mean + z components + noise, z ~ N(0, I), noise ~ N(0, diag(noise_variance)). On complete
    data one pass over the rows gives the covariance, and nothing after it depends on their number.

    Parameters
    ----------
    n_components : int, default=2
        Number of factors q.
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
    & Hinton (1996) (EM). Bishop (2006), 12.64-12.70.

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
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "rotation": [StrOptions(set(ROTATIONS)), Rotation, None],
        "solver": [StrOptions({"auto", "profile", "em"})],
        "heywood_penalty": [Interval(Real, 0.0, None, closed="left")],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "accelerate": [StrOptions({"squarem"}), None],
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
        data = read_training_data(self, X, sample_weight)
        complete = data.complete
        if self.solver == "profile" and not complete:
            raise ValueError("solver='profile' needs complete data, X has NaN: use 'em' or 'auto'")
        climb = self._climb_profile if complete and self.solver != "em" else self._climb_em
        return self._finish(self._drive(lambda: climb(data), data), data)

    def _climb_profile(self, data):
        # A climb along a boundary, or where rows are few, magnifies the last bit. Distinct rows in
        # order, and their weight rather than their number, decide every bit.
        if plentiful(data.weight.sum(), data.X.shape[1], self.n_components):
            run = self._climb_rows(data, data.X, data.weight)
            if (run.state.uniquenesses >= SMALLEST).all():
                return run
        order, weight = distinct(data.X, data.weight)
        return self._climb_rows(data, data.X[order], weight)

    def _climb_rows(self, data, X, weight):
        total = weight.sum()
        if total >= X.shape[1]:
            mean, S = sample_moments(X, weight)
            profile = Profile.of_covariance(S, total, self.n_components, self.heywood_penalty)
            self._moments = S
        else:
            self._moments = None
            mean = sample_mean(X, weight)
            rows = np.sqrt(weight / total)[:, None] * (X - mean)
            profile = Profile.of_rows(rows, total, self.n_components, self.heywood_penalty)
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
        self._heywood = heywood_cases(profile, psi, **settings)

    def _climb_em(self, data):
        mean, S = pooled_moments(data.X, data.weight)
        variance, total, complete = np.diag(S), data.weight.sum(), data.complete
        self._moments = S if complete and total >= len(S) else None
        penalty = Penalty(0.0, self.heywood_penalty * variance)
        cov = LowRank.factors(S, 1, self.n_components, penalty, FLOOR * variance)
        run = em(
            FactorState.unturned(Gaussians(mean[None], cov)),
            _condensed(mean, S, data.weight) if complete else (data.X, data.weight),
            max_iter=self.max_iter,
            tol=self.tol,
            accelerate=self.accelerate,
            callback=self._progress(data),
            n_jobs=self.n_jobs,
        )
        profile = Profile.of_covariance(S, total, self.n_components, self.heywood_penalty)
        self._judge(profile, run)
        return run

    def _finish(self, run, data, report=True):
        state = self._turned(run.state, data.constant)
        return super()._finish(run._replace(state=state), data, report)

    def _turned(self, state, constant):
        """The state with factors as `rotation` turns them: constant is (d,) bool."""
        if self.rotation is None:
            return state.canonical()
        criterion = rotation_of(self.rotation).among(constant).criterion(*state.shape)
        state, converged = state.turned(criterion, np.random.default_rng(0))
        if not converged:
            warnings.warn(
                f"rotation={self.rotation!r} found no minimum where its gradient vanishes: factors "
                "may have become one; try fewer factors or another rotation",
                ConvergenceWarning,
                stacklevel=2,
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
        model = copy(self).set_params(rotation=rotation)
        model._validate_params()
        state = model._turned(self.run_.state, self.constant_)
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
        S = check_array(S, dtype=np.float64)
        d = len(S)
        if S.shape != (d, d) or not np.allclose(S, S.T) or not (np.diag(S) > 0).all():
            raise ValueError("S must be a square symmetric matrix with a positive diagonal")
        if not (isinstance(n_samples, Real) and 2 <= n_samples < np.inf):
            raise ValueError(f"n_samples must be at least 2, got {n_samples!r}")
        sd = np.sqrt(np.diag(S))
        if np.linalg.eigvalsh(S / np.outer(sd, sd))[0] < -1e-8 * d:
            raise ValueError("S must be positive semidefinite: it has correlations no data have")
        if self.solver == "em":
            raise ValueError("fit_covariance climbs the profile likelihood: use solver='auto'")
        mean = np.zeros(d) if mean is None else checked_array(mean, (d,), "mean")
        data = TrainingData(
            np.empty((0, d)), np.array([float(n_samples)]), None, np.zeros(d, bool), np.zeros(d)
        )
        self.n_features_in_, self._moments = d, (S + S.T) / 2
        profile = Profile.of_covariance(
            self._moments, float(n_samples), self.n_components, self.heywood_penalty
        )
        return self._finish(self._drive(lambda: self._climb(profile, mean, data), data), data)

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
        cov = LowRank(
            (components.T @ turn)[None], noise[None], Penalty(0.0, np.zeros(d)), 0 * noise
        )
        state = FactorState(Gaussians(mean[None], cov), turn)
        return cls._from_state(state, n_components=q)


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
