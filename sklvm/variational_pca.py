"""Bayesian principal components: as many factors as the data can bear, uncertain loadings."""

from typing import NamedTuple

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ._compat import Integral, Interval, Real, StrOptions, _fit_context
from .base import all_or_nothing, fitted
from .emissions.factor_analyzers import FLOOR
from .factor_analysis import EMFactorAnalysis, _condensed
from .factor_base import FactorModel
from .inference.bayesian_pca import Eigenvalues
from .inference.blocks import has_gaps
from .inference.em import em
from .inference.moments import centred_rows, pooled_moments
from .inference.pruning import fewer_factors, go_on, pruned
from .inference.start import distinct
from .validation import checked_array, read_training_data
from .variational_factor_state import VariationalFactorState

ROUGH = 1e-3  # nats per unit weight to which a climb goes before factors are taken away


class VariationalPCA(FactorModel):
    """Bayesian PCA: the data say how many factors, and how certain the loadings are.

    x = mean + z W' + noise, z ~ N(0, I), noise ~ N(0, noise_variance I), and a priori the loadings
    of factor i are N(0, 1 / ard_precision_i). Variational Bayes fits q(z) q(W); mean, precisions
    and noise variance maximise the bound on the log evidence. Factors whose precision runs off to
    infinity are gone (automatic relevance determination). On complete data the solution is the
    global one, in closed form from one pass; entries may be missing, and then it is climbed to.

    `score_samples` is the log density of the Gaussian with the mean and the covariance of the
    posterior predictive distribution, E[W] E[W]' + diag(trace Cov[w_j]) + noise_variance I: low
    rank plus diagonal, and all verbs are exact for it. `impute(parameters="posterior")` draws the
    loadings; mean and noise variance are points. One noise variance speaks of one unit for all
    columns: standardise columns that have none in common.

    Parameters
    ----------
    n_components : int or None, default=None
        Largest number of factors. More than min(n_features, distinct rows - 1) - 1 are not
        looked for, since they would leave nothing to the noise; that is what None stands for.
    tol : float, default=1e-8
        Gain of the bound still to come, extrapolated, in nats per unit weight.
    max_iter : int, default=1000
        Largest number of passes over the rows.
    accelerate : "squarem" or None, default="squarem"
        Extrapolation of the steps; kept only where the bound rises.
    n_jobs : int or None, default=None
        Threads that share the blocks of rows.
    verbose : int, default=0
        Print progress.
    verbose_interval : int, default=10
        Iterations between prints.

    Attributes
    ----------
    n_active_ : int
        Number of factors found, 0 or more: q below, and the columns of `transform`.
    components_ : ndarray of shape (n_active_, n_features)
        E[loadings], in the units of X, rotated so that E[W' W] is diagonal and descending, each
        with a positive sum; zeros for constant columns.
    components_covariance_ : ndarray of shape (n_features, n_active_, n_active_)
        Covariance of the loadings of each feature under q, in squared units of X.
    noise_variance_ : float
        Variance that the factors leave of each column, as in scikit-learn's PCA.
    mean_ : ndarray of shape (n_features,)
        Column means.
    loadings_, structure_, communalities_, uniquenesses_, factor_correlation_
        Of the density that scores, as in `EMFactorAnalysis`.
    ard_precision_ : ndarray of shape (n_active_,)
        Prior precision of the loadings of each factor, ascending: n_features over the expected
        sum of their squares.
    explained_variance_ratio_ : ndarray of shape (n_active_,)
        Expected sum of squared loadings over the sum of the columns' variances in the model; what
        is left to 1 is noise.
    lower_bound_ : float
        Bound on log p(X), in nats, for all rows together, at the mean, precisions and noise
        variance found.
    history_, n_iter_, converged_, n_parameters_, score_kind_, base_measure_
        The same in every model; `history_` is the bound per unit weight.

    Raises
    ------
    ValueError
        For anything but finite numbers and NaN, and for columns without any entry.

    References
    ----------
    Bishop (1999), Variational principal components. Nakajima, Sugiyama, Babacan & Tomioka (2013),
    Global analytic solution of fully-observed variational Bayesian matrix factorization, JMLR 14
    (the closed form). Ilin & Raiko (2010), Practical approaches to principal component analysis in
    the presence of missing values, JMLR 11 (the rotation).

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import VariationalPCA
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 8)) + 0.5 * rng.normal(size=(300, 8))
    >>> X[::7, 1] = np.nan
    >>> model = VariationalPCA().fit(X)
    >>> model.n_active_
    2
    >>> round(model.noise_variance_, 2)
    0.25
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "accelerate": [StrOptions({"squarem"}), None],
        "n_jobs": [None, Integral],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components=None,
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
        """Fit by variational Bayes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries, which are integrated out.
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Counts: an integer weight equals repeating the row.

        Returns
        -------
        self : object
        """
        data = read_training_data(self, X, sample_weight)
        run = self._drive(lambda: self._climb(data), data)
        return self._finish(run._replace(state=run.state.canonical()), data)

    def _climb(self, data):
        # Distinct rows in order, and their weight rather than their number, decide every bit.
        order, weight = distinct(data.X, data.weight)
        X = data.X[order]
        settings = {
            "max_iter": self.max_iter,
            "accelerate": self.accelerate,
            "callback": self._progress(data),
            "n_jobs": self.n_jobs,
        }
        if has_gaps(X):
            return self._climb_to_the_end(X, weight, settings)
        axes, rows = _complete_axes(X, weight)
        start = axes.state(self._most(X))  # which is the end
        return em(start, rows, tol=self.tol, **settings)

    def _climb_to_the_end(self, X, weight, settings):
        """From the factors that complete rows with the estimated covariance would have.

        Rows with gaps say less, so some may have to go.
        """
        axes = _covariance_axes(*pooled_moments(X, weight), weight.sum())
        start, rows = axes.state(self._most(X)), (X, weight)
        rough = {"tol": max(self.tol, ROUGH), **settings}
        run = pruned(start, rows, lighter=fewer_factors, margin=0.0, climb=em, **rough)
        return go_on(run, em, rows, tol=self.tol, **settings) if run.converged else run

    def _most(self, X):
        """The number of factors that are looked for: X are the distinct rows."""
        most = max(0, min(X.shape[1], len(X) - 1) - 1)
        return most if self.n_components is None else min(most, self.n_components)

    def get_covariance(self):
        """The model's covariance of a row: that of the posterior predictive distribution.

        Returns
        -------
        covariance : ndarray of shape (n_features, n_features)
        """
        check_is_fitted(self)
        return self._restore_square(self._density.covariance)

    @property
    def _derived(self):
        return EMFactorAnalysis

    def _params_of(self, state, kept):
        return {"n_components": max(1, state.n_latents)}

    def _parameter_draws(self, X, n_draws, rng):
        """Gaussians with loadings drawn from q, which knows the rows of `fit`: X is not read."""
        for _ in range(n_draws):
            yield self.run_.state.draw(rng)

    def _parameter_kl(self):
        return -self.run_.state.log_prior()

    @fitted
    def lower_bound_(self):
        """Bound on log p(X), in nats, for all rows together."""
        return float(self.run_.objective * self.total_weight_)

    @fitted
    def n_active_(self):
        """Number of factors found."""
        return self.run_.state.n_latents

    @fitted
    def components_covariance_(self):
        """(n_features, n_active_, n_active_) covariances of the loadings of each feature."""
        return self._restore(self.run_.state.spread.T, fill=0.0).T

    @fitted
    def noise_variance_(self):
        """Variance that the factors leave of each column, in squared units of X."""
        return float(self.run_.state.noise)

    @fitted
    def ard_precision_(self):
        """(n_active_,) prior precision of the loadings of each factor, ascending."""
        return self.run_.state.alpha

    @fitted
    def explained_variance_ratio_(self):
        """(n_active_,) each factor's share of the variance of all columns."""
        state = self.run_.state
        energies = state.energies
        return energies / (energies.sum() + len(state.mean) * state.noise)

    @classmethod
    def from_parameters(cls, *, components, components_covariance, noise_variance, mean=None):
        """A model whose posterior is known; `ard_precision_` is the best for it.

        Parameters
        ----------
        components : array-like of shape (n_active, n_features)
            Expected loadings; signs and order become canonical, the rotation stays.
        components_covariance : array-like of shape (n_features, n_active, n_active)
            Covariance of the loadings of each feature: symmetric positive definite.
        noise_variance : float
            Variance that the factors leave of each column, positive.
        mean : array-like of shape (n_features,), default=None
            Column means; None is zero.

        Returns
        -------
        model : VariationalPCA
            Fitted; all verbs accept it.
        """
        components = np.asarray(components)
        q = len(np.atleast_1d(components))
        W = checked_array(components, (q, None), "components").T
        d = len(W)
        S = checked_array(components_covariance, (d, q, q), "components_covariance")
        if not np.allclose(S, S.mT) or not (np.linalg.eigvalsh(S) > 0).all():
            raise ValueError("components_covariance must be symmetric and positive definite")
        if not (isinstance(noise_variance, Real) and 0 < noise_variance < np.inf):
            raise ValueError(f"noise_variance must be a positive number, got {noise_variance!r}")
        mean = np.zeros(d) if mean is None else checked_array(mean, (d,), "mean")
        state = VariationalFactorState.of_posterior(mean, W, S, float(noise_variance))
        return cls._from_state(state, n_components=max(1, q))


class _Axes(NamedTuple):
    """The principal axes of rows, the longest first."""

    mean: np.ndarray  # (d,)
    values: np.ndarray  # (p,) eigenvalues of the covariance
    vectors: np.ndarray  # (d, p)
    n: float  # weight of the rows

    def state(self, q):
        """The solution for complete rows, with those of the first q factors that pay."""
        d, total = len(self.mean), self.values.sum()
        leading = Eigenvalues(self.values[:q], total, self.n, d)
        floor = FLOOR * total / d
        noise = leading.noise_variance(floor)
        ratios = leading.paying(noise)
        vectors, some = self.vectors[:, :q], ratios > 0
        return VariationalFactorState.of(
            self.mean, vectors[:, some], ratios[some], noise, self.n, floor
        )


def _covariance_axes(mean, S, n):
    values, vectors = np.linalg.eigh(S)
    return _Axes(mean, np.maximum(values[::-1], 0.0), vectors[:, ::-1], n)


def _complete_axes(X, weight):
    """Axes, and weighted rows that have them too: few, where X has more rows than columns."""
    n = weight.sum()
    if n >= X.shape[1]:
        mean, S = pooled_moments(X, weight)
        return _covariance_axes(mean, S, n), _condensed(mean, S, weight)
    mean, rows = centred_rows(X, weight)
    values, left = np.linalg.eigh(rows @ rows.T)
    values, left = np.maximum(values[::-1], 0.0), left[:, ::-1]
    vectors = rows.T @ left / np.sqrt(np.maximum(values, 1e-300))
    return _Axes(mean, values, vectors, n), (X, weight)
