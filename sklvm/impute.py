"""Imputation: a density fills in what is missing, as a step of a Pipeline."""

import hashlib

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from ._compat import HasMethods, StrOptions, _fit_context
from .inference.randomness import generator
from .wrapper import DensityWrapper


class LatentImputer(DensityWrapper, OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Fill every NaN from p(missing | seen) of a latent-variable model.

    The model is fitted to what is seen of each row, without a first guess for what is not.
    Observed entries stay as they are, to the bit.

    Parameters
    ----------
    estimator : estimator with fit and impute, default=None
        The density. None is ``sklvm.GaussianMixtureEnsemble()``.
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
    sklvm.GaussianMixtureEnsemble : The default density; its `impute` also gives several draws at
        once.
    sklearn.impute.IterativeImputer : A chain of regressions, without a joint density.

    Notes
    -----
    With ``how="sample"`` the noise of a row comes from `seed_` and the row's own numbers. So
    `transform` repeats itself and a row is filled alike alone, among others and in any order, as
    Pipelines take for granted; the price is that identical rows are filled alike, that another
    unit of measurement gives another draw, and a call of the model for every distinct incomplete
    row. Independent draws for multiple imputation are those of
    ``estimator_.impute(X, how="sample", n_draws=m)``.

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
        filled, draws = self.estimator_.impute(X, how="mean"), {}
        for row, entries in enumerate(_entries(X)):
            if not np.isnan(entries).any():
                continue
            name = entries.tobytes()
            if name not in draws:
                alone, seed = _only(X, row), _seed(name, self.seed_)
                draws[name] = self.estimator_.impute(alone, how="sample", random_state=seed)[0]
            filled[row] = draws[name]
        return filled

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


def _entries(X):
    """The numbers of each row, or of each sequence of a list, with one spelling of 0 and NaN."""
    ragged = isinstance(X, list) and any(np.ndim(x) > 1 for x in X)
    rows = X if ragged else check_array(X, dtype=np.float64, ensure_all_finite=False, allow_nd=True)
    for row in rows:
        row = np.asarray(row, dtype=np.float64)
        yield np.where(np.isnan(row), np.nan, row + 0.0)


def _only(X, row):
    """One row, in a container like X."""
    return X.iloc[[row]] if hasattr(X, "iloc") else X[row : row + 1]


def _seed(name, seed):
    """A seed that belongs to these bytes."""
    digest = hashlib.blake2b(name, digest_size=4, key=seed.to_bytes(8, "big")).digest()
    return int.from_bytes(digest, "big")
