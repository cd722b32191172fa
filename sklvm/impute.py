"""Imputation: a density fills in what is missing, as a step of a Pipeline."""

import hashlib
from typing import NamedTuple

import numpy as np
from scipy.stats import norm, t
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from ._compat import HasMethods, StrOptions, _fit_context
from .containers import open_container
from .imputation_ensemble import ImputationEnsemble
from .inference.randomness import generator
from .wrapper import DensityWrapper


class LatentImputer(DensityWrapper, OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Fill every NaN from p(missing | seen) of a latent-variable model.

    The model is fitted to what is seen of each row, without a first guess for what is not.
    Observed entries stay as they are, to the bit.

    Parameters
    ----------
    estimator : estimator with fit and impute, default=None
        The density. None is ``sklvm.ImputationEnsemble()``.
    how : {"mean", "mode", "sample"}, default="mean"
        Conditional mean, joint mode, or a draw. Means and modes are less spread out than data;
        draws keep variances and correlations as they are.
    random_state : int, RandomState instance or None, default=None
        Decides the draws, and each `random_state` of `estimator`, nested ones too, that is None.

    Attributes
    ----------
    estimator_ : estimator
        The fitted density.
    seed_ : int
        Decides the draws of ``how="sample"``; drawn in fit.
    n_features_in_ : int
        Number of features, where `estimator_` knows it.
    feature_names_in_ : ndarray of shape (n_features_in_,), object
        Names of the features, where `estimator_` knows them.

    See Also
    --------
    sklvm.ImputationEnsemble : The default density; its `impute` also gives several draws at once.
    sklearn.impute.IterativeImputer : A chain of regressions, without a joint density.

    Notes
    -----
    With ``how="sample"`` the noise of a row comes from `seed_` and the row's own numbers. So
    `transform` repeats itself and a row is filled alike alone, among others and in any order, as
    Pipelines take for granted; the price is that identical rows are filled alike, that another
    unit of measurement gives another draw, and a call of the model for every distinct incomplete
    row. Independent draws for multiple imputation are those of
    ``estimator_.impute(X, how="sample", n_draws=m, parameters="posterior")``, to be analysed one by
    one and put together by `sklvm.pool`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import LatentImputer
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 1)) * [1.0, 2.0] + 0.1 * rng.normal(size=(500, 2))
    >>> imputer = LatentImputer(random_state=0).fit(X)
    >>> imputer.transform([[1.0, np.nan], [np.nan, -1.0]]).round(1)
    array([[ 1. ,  2. ],
           [-0.5, -1. ]])
    """

    _doc_link_module = "sklvm"
    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit", "impute"]), None],
        "how": [StrOptions({"mean", "mode", "sample"})],
        "random_state": ["random_state"],
    }

    def __init__(self, estimator=None, *, how="mean", random_state=None):
        self.estimator = estimator
        self.how = how
        self.random_state = random_state

    def _default(self):
        return ImputationEnsemble()

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, sample_weight=None):
        """Fit the density to what is seen.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or whatever `estimator` accepts
            Rows, or sequences; NaN marks missing entries.
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Counts of the rows.

        Returns
        -------
        self : LatentImputer

        Raises
        ------
        TypeError
            If `estimator` has no `impute`, or its fit takes no `sample_weight` and one is given.
        """
        rng = generator(self.random_state)
        density = self._seeded(rng)
        if sample_weight is not None and not has_fit_parameter(density, "sample_weight"):
            raise TypeError(
                f"{type(density).__name__}.fit takes no sample_weight: leave sample_weight out, or "
                "impute by a density that takes weights"
            )
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        self.estimator_ = density.fit(X, **weights)
        self.seed_ = int(rng.integers(2**31 - 1))
        return self

    def transform(self, X):
        """Fill every NaN.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, in the form that `fit` was given; NaN marks missing entries.

        Returns
        -------
        X_filled : ndarray of shape (n_samples, n_features), float64
            Completed rows; sequences come back in their own container.
        """
        check_is_fitted(self)
        if self.how != "sample":
            return self.estimator_.impute(X, how=self.how)
        whole, draws = self.estimator_.impute(X, how="mean"), {}
        filled = list(whole) if isinstance(whole, tuple) else whole
        for row, entries in enumerate(_entries(X)):
            if not np.isnan(entries).any():
                continue
            name = entries.tobytes()
            if name not in draws:
                alone, seed = _only(X, row), _seed(name, self.seed_)
                draws[name] = self.estimator_.impute(alone, how="sample", random_state=seed)[0]
            filled[row] = draws[name]
        return tuple(filled) if isinstance(whole, tuple) else filled

    @available_if(lambda self: hasattr(self._density(), "score"))
    def score(self, X, y=None, sample_weight=None):
        """Mean log density of what is seen, so that a grid search may choose the density.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, in the form that `fit` was given.
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the mean.

        Returns
        -------
        score : float
            Nats per row; higher is better.
        """
        check_is_fitted(self)
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        return self.estimator_.score(X, **weights)


class PooledEstimate(NamedTuple):
    """What several completed copies of a table say together."""

    estimate: np.ndarray  # mean of the copies' estimates
    standard_error: np.ndarray  # of that mean, within and between copies
    df: np.ndarray  # degrees of freedom of the t distribution of (estimate - truth) / error
    fraction_missing: np.ndarray  # share of the information that the missing entries took
    low: np.ndarray  # ends of the interval
    high: np.ndarray


def pool(estimates, variances, *, complete_df=np.inf, level=0.95):
    """One estimate with an interval from those of several completed copies, by Rubin's rules.

    Parameters
    ----------
    estimates : array-like of shape (n_draws, ...)
        The estimate, or an array of them, from each copy; two copies at least.
    variances : array-like of shape (n_draws, ...)
        The squared standard error of each estimate, as if the copy were data.
    complete_df : float or array-like of shape (...), default=inf
        Degrees of freedom that the analysis would have without missing entries, such as the
        residual ones of a regression; it makes the small-sample correction (Barnard & Rubin 1999).
    level : float, default=0.95
        Probability that the interval covers the truth.

    Returns
    -------
    pooled : PooledEstimate
        Named tuple of `estimate`, `standard_error`, `df`, `fraction_missing`, `low` and `high`,
        each of shape (...).

    Raises
    ------
    ValueError
        For fewer than two copies, shapes that differ, numbers that are not finite, negative
        variances, a `level` outside (0, 1) and a `complete_df` that is not positive.

    References
    ----------
    Rubin (1987), Multiple Imputation for Nonresponse in Surveys, 3.1.2-3.1.6 and 3.3. Barnard &
    Rubin (1999), Small-sample degrees of freedom with multiple imputation, Biometrika 86.

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import GaussianMixture, pool
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 1)) + rng.normal(size=(100, 2))
    >>> X[rng.uniform(size=X.shape) < 0.3] = np.nan
    >>> model = GaussianMixture(random_state=0).fit(X)
    >>> settings = {"how": "sample", "n_draws": 20, "parameters": "posterior"}
    >>> copies = model.impute(X, random_state=0, **settings)
    >>> pooled = pool(copies.mean(axis=1), copies.var(axis=1, ddof=1) / 100, complete_df=99)
    >>> pooled.estimate.shape, bool((pooled.low < pooled.estimate).all())
    ((2,), True)
    >>> bool((pooled.fraction_missing > 0.1).all())
    True
    """
    q, u = np.asarray(estimates, dtype=np.float64), np.asarray(variances, dtype=np.float64)
    _refuse_to_pool(q, u, complete_df, level)
    m = len(q)
    within, between = u.mean(axis=0), (1 + 1 / m) * q.var(axis=0, ddof=1)
    total = within + between
    share = between / np.where(total > 0, total, 1.0)
    seen = _observed_df(np.asarray(complete_df, dtype=np.float64), share)
    with np.errstate(divide="ignore"):  # no spread between copies, and no limit within them
        df = 1 / (share**2 / (m - 1) + 1 / seen)
    # (r + 2 / (df + 3)) / (r + 1) with r = between / within, for which a variance of 0 is no matter
    lost = share + (1 - share) * 2 / (df + 3)
    error = np.sqrt(total)
    half = np.where(np.isfinite(df), t.ppf((1 + level) / 2, df), norm.ppf((1 + level) / 2)) * error
    mean = q.mean(axis=0)
    return PooledEstimate(mean, error, df, lost, mean - half, mean + half)


def _observed_df(complete_df, share):
    """Degrees of freedom that what is seen leaves (Barnard & Rubin 1999)."""
    finite = np.isfinite(complete_df)
    df = np.where(finite, complete_df, 1.0)
    return np.where(finite, (df + 1) / (df + 3) * df * (1 - share), np.inf)


def _refuse_to_pool(q, u, complete_df, level):
    if q.ndim < 1 or len(q) < 2 or q.shape != u.shape:
        raise ValueError(
            "pool needs estimates and variances of one shape, (n_draws, ...) with two draws at "
            f"least, got {q.shape} and {u.shape}"
        )
    if not np.isfinite(q).all() or not np.isfinite(u).all() or (u < 0).any():
        raise ValueError("pool needs finite estimates, and variances that are not negative")
    if not (np.asarray(complete_df) > 0).all():
        raise ValueError(f"complete_df must be positive, got {complete_df!r}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level!r}")


def _entries(X):
    """The numbers of each row, or of each sequence of a list, with one spelling of 0 and NaN."""
    rows = _sequences(X)
    if rows is None:
        rows = check_array(X, dtype=np.float64, ensure_all_finite=False)
    for row in rows:
        row = np.asarray(row, dtype=np.float64)
        yield np.where(np.isnan(row), np.nan, row + 0.0)


def _sequences(X):
    """The steps of each sequence without padding, or None where X is a table."""
    items = isinstance(X, (list, tuple)) or (isinstance(X, np.ndarray) and X.dtype == object)
    if getattr(X, "ndim", 0) != 3 and not (items and any(np.ndim(x) > 1 for x in X)):
        return None
    opened = open_container(X, None, 1)
    return np.split(np.asarray(opened.table), np.cumsum(opened.lengths)[:-1])


def _only(X, row):
    """One row, in a container like X."""
    return X.iloc[[row]] if hasattr(X, "iloc") else X[row : row + 1]


def _seed(name, seed):
    """A seed that belongs to these bytes."""
    digest = hashlib.blake2b(name, digest_size=4, key=seed.to_bytes(8, "big")).digest()
    return int.from_bytes(digest, "big")
