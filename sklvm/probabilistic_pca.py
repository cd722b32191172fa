"""Probabilistic PCA: principal components as a density, in closed form where nothing is missing."""

import numpy as np

from ._compat import Integral, Interval, Real, StrOptions, _fit_context
from .base import all_or_nothing, fitted
from .emissions.covariance import Penalty
from .emissions.factor_analyzers import FLOOR
from .factor_base import FactorModel, checked_factors
from .factor_state import FactorState
from .inference.em import em
from .inference.history import Run
from .inference.moments import centred_rows, pooled_moments, sample_moments
from .inference.principal import Principal, principal_of_covariance, principal_of_rows
from .validation import read_training_data


class ProbabilisticPCA(FactorModel):
    """Principal component analysis as a density, with missing entries and weights.

    x = mean + z components + noise, z ~ N(0, I), noise ~ N(0, noise_variance I): factor analysis
    with one noise variance for all columns. On complete data the maximum of the likelihood is in
    closed form: the directions of `sklearn.decomposition.PCA`. The columns should be in one unit.

    Parameters
    ----------
    n_components : int, default=2
        Number of components q. As many as columns, or more, give the density of q = n_features - 1,
        any covariance matrix; the surplus loadings are zero.
    tol : float, default=1e-8
        With missing entries: stop EM when the gain still to come, extrapolated, is below tol nats
        per unit weight.
    max_iter : int, default=1000
        With missing entries: largest number of passes over the rows.
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
        Loadings, in the units of X: orthogonal, of length sqrt(explained_variance_ -
        noise_variance_), descending, with a positive sum; zeros for constant columns.
    noise_variance_ : float
        Variance that the components leave in each column, as in scikit-learn's PCA.
    mean_ : ndarray of shape (n_features,)
        Column means.
    explained_variance_ : ndarray of shape (n_components,)
        The model's variance along each component, noise included; with divisor n, not n - 1.
    explained_variance_ratio_ : ndarray of shape (n_components,)
        Its share of the total variance.
    history_, n_iter_, converged_, n_parameters_, score_kind_, base_measure_
        The same in every model; the closed form is one iteration, from noise alone.

    Raises
    ------
    ValueError
        For anything but finite numbers and NaN, and for columns without any entry.

    See Also
    --------
    EMFactorAnalysis : a noise variance of its own for each column; units do not matter.
    VariationalPCA : finds the number of components.

    References
    ----------
    Tipping & Bishop (1999), Probabilistic principal component analysis, (7)-(8); their EM for
    missing entries. Roweis (1998).

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import ProbabilisticPCA
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 1)) * [2.0, 1.0, 3.0] + 0.5 * rng.normal(size=(500, 3))
    >>> X[::7, 1] = np.nan
    >>> model = ProbabilisticPCA(n_components=1).fit(X)
    >>> model.components_.round(0)
    array([[2., 1., 3.]])
    >>> round(model.noise_variance_, 2)
    0.26
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
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
        tol=1e-8,
        max_iter=1000,
        accelerate="squarem",
        n_jobs=None,
        verbose=0,
        verbose_interval=10,
    ):
        self.n_components = n_components
        self.tol = tol
        self.max_iter = max_iter
        self.accelerate = accelerate
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.verbose_interval = verbose_interval

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Fit by maximum likelihood.

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
        climb = self._solve if data.complete else self._climb
        return self._finish(self._drive(lambda: climb(data), data), data)

    def _solve(self, data):
        """The closed form, from the smaller one of X' X and X X'."""
        X, weight = data.X, data.weight
        if weight.sum() >= X.shape[1]:
            mean, S = sample_moments(X, weight)
            found = principal_of_covariance(S, self.n_components)
        else:
            mean, rows = centred_rows(X, weight)
            found = principal_of_rows(rows, self.n_components)
        state, watch = _state(mean, found), self._progress(data)
        if watch is not None:
            watch(1, state, found.objective)
        return Run(state, np.array([found.without_components, found.objective]), True, 1)

    def _climb(self, data):
        mean, S = pooled_moments(data.X, data.weight)
        run = em(
            _state(mean, principal_of_covariance(S, self.n_components)),
            (data.X, data.weight),
            max_iter=self.max_iter,
            tol=self.tol,
            accelerate=self.accelerate,
            callback=self._progress(data),
            n_jobs=self.n_jobs,
        )
        return run._replace(state=run.state.canonical())

    def _wrap(self, state, kept):
        return super()._wrap(state.canonical(), kept)

    @fitted
    def noise_variance_(self):
        """Variance that the components leave in each column, in squared units of X."""
        return float(self.run_.state.emission.cov.psi[0, 0])

    @fitted
    def explained_variance_(self):
        """(n_components,) the model's variance along each component, noise included."""
        W = self.run_.state.emission.cov.W[0]
        variances = (W**2).sum(axis=0) + self.noise_variance_
        variances[len(W) :] = 0.0  # there are no more directions than columns
        return variances

    @fitted
    def explained_variance_ratio_(self):
        """(n_components,) share of the total variance along each component."""
        return self.explained_variance_ / self.run_.state.variance.sum()

    @classmethod
    def from_parameters(cls, *, components, noise_variance, mean=None):
        """A fitted probabilistic PCA of known parameters.

        Parameters
        ----------
        components : array-like of shape (n_components, n_features)
            Loadings; they are rotated to the canonical form, which changes no density.
        noise_variance : float
            Variance that the components leave in each column, positive.
        mean : array-like of shape (n_features,), default=None
            Column means; None is zero.

        Returns
        -------
        model : ProbabilisticPCA
            Fitted; all verbs accept it.
        """
        components, mean = checked_factors(components, mean)
        if not (isinstance(noise_variance, Real) and 0 < noise_variance < np.inf):
            raise ValueError(f"noise_variance must be a positive number, got {noise_variance!r}")
        found = Principal(components.T, float(noise_variance))
        return cls._from_state(_state(mean, found), n_components=len(components))


def _state(mean, found):
    """One noise variance for all columns."""
    d = len(mean)
    floor = np.full(d, FLOOR * ((found.W**2).sum() / d + found.noise))
    psi, flat = np.full(d, found.noise), Penalty(0.0, np.zeros(d))
    return FactorState.of(mean, found.W, psi, flat, floor, noise="isotropic")
