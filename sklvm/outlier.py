"""Outliers: the rows that a density, ours or scikit-learn's, finds odd."""

import warnings
from typing import NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.utils import indexable
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from ._compat import HasMethods, Interval, Real, StrOptions, _fit_context
from .cases import Cases, table
from .ensemble import GaussianMixtureEnsemble
from .inference.randomness import generator
from .outlier_statistics import STATISTICS
from .validation import read_weight
from .wrapper import DensityWrapper

ROUNDING = 1e-9  # relative: scores closer than this may be the same number


class DensityOutlierDetector(DensityWrapper, OutlierMixin, BaseEstimator):
    """Any density estimator as an outlier detector, with p-values.

    A row is an outlier where its score, by default its log density, lies below the `contamination`
    quantile of the training scores. `pvalue` compares a row with scores that cross-fitting gave to
    rows the model had not seen, so it says how surprising the row is whatever the density and
    however it overfits.

    Parameters
    ----------
    estimator : estimator with fit and score_samples, default=None
        The density: a model of this package, scikit-learn's GaussianMixture,
        BayesianGaussianMixture, KernelDensity, FactorAnalysis or PCA, or a Pipeline that ends in
        one. None is ``sklvm.GaussianMixtureEnsemble(50, n_companions=6, largest_group=0.2,
        reach=1.0, tol=0.03)``, for training rows with anomalies among them and without; see Notes.
    statistic : {"log_density", "typicality", "regret"}, default="log_density"
        The score, lower where a row is odder:

        * "log_density": improbable rows are odd;
        * "typicality": -abs(log density + entropy), with minus the mean log density of the training
          rows as the entropy. In many dimensions rows about the peak of a density are as odd as
          those far out: nearly no row lies there [2]_;
        * "regret": minus the likelihood regret of an `estimator` that has a method ``regret``, as
          `sklvm.VAE` has [3]_: what its encoder misjudges is odd.
    contamination : float in (0, 0.5], default=0.1
        The largest share of the training weight that `predict` may call outliers.
    cv : int, cross-validation splitter, iterable of (train, test) positions, or None, default=5
        Folds of the cross-fitting behind `pvalue`. An integer makes folds of distinct rows, in an
        order that the set of rows alone decides. None leaves the calibration out and fits once.
    random_state : int, RandomState instance or None, default=None
        Decides the folds, the order in which rows reach `estimator`, and each `random_state` of
        `estimator`, nested ones too, that is None.

    Attributes
    ----------
    estimator_ : estimator
        The density fitted on all rows.
    statistic_ : LogDensity, Typicality or Regret
        The score as a function of `estimator_` and rows; a Typicality has the attribute `entropy`,
        in nats.
    offset_ : float
        The threshold on `score_samples`, in nats.
    calibration_scores_ : ndarray of shape (n_calibration,), float64
        Held-out scores of the distinct training rows in ascending order, in nats; None where `cv`
        is None.
    calibration_weights_ : ndarray of shape (n_calibration,), float64
        How many training rows each of them stands for.
    constant_ : ndarray of shape (n_features,), bool
        Columns with one value in training; None where X is not a 2-D table of numbers.
    constant_values_ : ndarray of shape (n_features,), float64
        Their values; without meaning elsewhere.
    n_features_in_ : int
        Number of features, where `estimator_` knows it.
    feature_names_in_ : ndarray of shape (n_features_in_,), object
        Names of the features, where `estimator_` knows them.

    See Also
    --------
    sklvm.GaussianMixtureEnsemble : The default density.

    Notes
    -----
    Weights are counts, and shuffled or repeated rows change nothing, whatever the density: rows
    reach `estimator` in a random order drawn over the sorted distinct rows (sequences in lists:
    over positions). A density whose fit takes no `sample_weight` gets each row as often as its
    weight says, which must then be whole.

    The p-values are those of cross-conformal prediction [1]_, with one score for a new row, that of
    the density fitted on all rows: P(p <= a) <= a to the extent that leaving out one fold moves the
    scores little. They are conservative where it moves them much.

    The default density averages five mixtures of ten components and asks for six companions: of a
    row it says how probable it is *together with* six more rows from its component. Large
    components describe normal rows in detail, and a group of anomalies that has a component of its
    own, but no fifth of the rows, still has few companions. No component reaches farther than the
    columns vary, so that rows far out along its long axes are odd too. So one default serves clean
    training rows and dirty ones; ``n_companions=0`` is a little better where all training rows are
    known to be normal.

    Rows with NaN are scored by the density of what is seen of them; a row with less to see has a
    density of fewer columns. A row that departs from a constant column scores -inf, below all.

    References
    ----------
    .. [1] V. Vovk, "Cross-conformal predictors", Annals of Mathematics and Artificial Intelligence
       74, 2015, equation 4.
    .. [2] E. Nalisnick, A. Matsukawa, Y. W. Teh and B. Lakshminarayanan, "Detecting
       out-of-distribution inputs to deep generative models using typicality", arXiv 1906.02994,
       2019. Here for single rows.
    .. [3] Z. Xiao, Q. Yan and Y. Amit, "Likelihood regret: an out-of-distribution detection score
       for variational auto-encoder", NeurIPS 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import DensityOutlierDetector, EMFactorAnalysis
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> detector = DensityOutlierDetector(contamination=0.05, random_state=0).fit(X)
    >>> int((detector.predict(X) == -1).sum())
    10
    >>> detector.predict([[0.0, 0.0], [6.0, -6.0]])
    array([ 1, -1])
    >>> detector.pvalue([[6.0, -6.0]]).round(3)
    array([0.005])

    The peak of a density in many dimensions, by its density and by its typicality:

    >>> X = np.random.default_rng(0).normal(size=(400, 100))
    >>> for statistic in ("log_density", "typicality"):
    ...     detector = DensityOutlierDetector(EMFactorAnalysis(0), statistic=statistic).fit(X)
    ...     print(detector.predict(np.zeros((1, 100))))
    [1]
    [-1]
    """

    _doc_link_module = "sklvm"
    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit", "score_samples"]), None],
        "statistic": [StrOptions(set(STATISTICS))],
        "contamination": [Interval(Real, 0, 0.5, closed="right")],
        "cv": ["cv_object"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator=None,
        *,
        statistic="log_density",
        contamination=0.1,
        cv=5,
        random_state=None,
    ):
        self.estimator = estimator
        self.statistic = statistic
        self.contamination = contamination
        self.cv = cv
        self.random_state = random_state

    def _default(self):
        return GaussianMixtureEnsemble(50, n_companions=6, largest_group=0.2, reach=1.0, tol=0.03)

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, sample_weight=None):
        """Fit the density, the threshold, and the calibration of the p-values.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or whatever `estimator` accepts
            Rows, or sequences; NaN and lists of sequences reach `estimator` as they are.
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Counts of the rows; whole numbers where the fit of `estimator` takes no weights.

        Returns
        -------
        self : DensityOutlierDetector

        Raises
        ------
        TypeError
            If `estimator` has no score_samples, or no regret where `statistic` asks for it.
        ValueError
            If the rows weigh less than 2, if weights are fractions and the fit of `estimator` takes
            none, if a training row gets no finite score, or if there is one distinct row only and
            `cv` is not None.
        """
        rng = generator(self.random_state)
        density = self._seeded(rng)
        self._refuse_density(density)
        (X,) = indexable(X)
        by_weight = sample_weight is not None and has_fit_parameter(density, "sample_weight")
        cases = Cases.of(X, read_weight(sample_weight, X), by_weight, rng)
        self._refuse_weights(cases)
        fitted = _Scorer.fit(density, self.statistic, cases, cases.mass)
        scores = fitted.scores(cases.rows(cases.mass))
        if not np.isfinite(scores).all():
            raise ValueError(f"{fitted.model} gives some of its own training rows no finite score")
        self.calibration_scores_, self.calibration_weights_ = self._calibrate(density, cases)
        self.estimator_, self.statistic_, self.constant_, self.constant_values_ = fitted
        self.offset_ = _threshold(scores, cases.mass, self.contamination)
        return self

    def _refuse_density(self, density):
        verb = STATISTICS[self.statistic].verb
        if not hasattr(density, verb):
            raise TypeError(
                f"statistic={self.statistic!r} needs an estimator with a method {verb!r}, which "
                f"{type(density).__name__} has not"
            )

    def _refuse_weights(self, cases):
        total = cases.mass.sum()
        if total < 2:
            raise ValueError(
                f"{type(self).__name__} needs rows of total weight 2 at least, got {total:g} "
                f"(n_samples = {len(cases.weight)})"
            )
        fractions = cases.mass[cases.mass != np.round(cases.mass)]
        if len(fractions) and not cases.by_weight:
            raise ValueError(
                f"{type(self._density()).__name__}.fit takes no sample_weight, so weights must be "
                f"whole numbers here, by which rows are repeated; got {fractions[0]:g}"
            )

    def _calibrate(self, density, cases):
        """Scores of rows under densities that had not seen them, ascending, and their weights."""
        if self.cv is None:
            return None, None
        scores, weights = [], []
        for fold, (train, test) in enumerate(cases.folds(self.cv)):
            try:
                with warnings.catch_warnings():  # fit has said so, of the same columns, already
                    warnings.filterwarnings("ignore", message="columns .* are constant")
                    fitted = _Scorer.fit(density, self.statistic, cases, train)
                    held_out = fitted.scores(cases.rows(test))
            except Exception as error:
                error.add_note(f"in fold {fold} of the calibration, which cv=None leaves out")
                raise
            scores.append(held_out)
            weights.append(test[test > 0])
        scores, weights = np.concatenate(scores), np.concatenate(weights)
        order = np.argsort(scores)
        return scores[order], weights[order]

    def score_samples(self, X):
        """The statistic of each row, -inf where it departs from a constant column.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, in the form that `fit` was given.

        Returns
        -------
        scores : ndarray of shape (n_samples,), float64
            Nats; lower is more abnormal.
        """
        check_is_fitted(self)
        scorer = _Scorer(self.estimator_, self.statistic_, self.constant_, self.constant_values_)
        return scorer.scores(X)

    @available_if(lambda detector: _explains(detector))
    def explain_score(self, X, **settings):
        """What each feature contributes to the log density, if that is the score, of a row.

        Available where the density can say it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, in the form that `fit` was given.
        **settings : dict
            Further arguments of `estimator_.explain_score`.

        Returns
        -------
        contributions : ndarray of shape (n_samples, n_features)
            Nats, with the log density of the row as their sum; a constant column contributes 0,
            although a row that departs from it scores -inf.
        """
        check_is_fitted(self)
        return self.estimator_.explain_score(X, **settings)

    def decision_function(self, X):
        """`score_samples` less `offset_`: negative for outliers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, in the form that `fit` was given.

        Returns
        -------
        scores : ndarray of shape (n_samples,), float64
            Nats.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        """Whether each row is an inlier or an outlier.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, in the form that `fit` was given.

        Returns
        -------
        labels : ndarray of shape (n_samples,), int
            1 for inliers, -1 for outliers.
        """
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def pvalue(self, X):
        """How probable it is that a row from the training distribution looks as odd as this one.

        (1 + number of calibration scores <= the row's score) / (1 + number of calibration scores).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, in the form that `fit` was given.

        Returns
        -------
        p : ndarray of shape (n_samples,), float64
            In (0, 1]; small for outliers.

        Raises
        ------
        ValueError
            If the detector was fitted with ``cv=None``.
        """
        check_is_fitted(self)
        if self.calibration_scores_ is None:
            raise ValueError(
                "pvalue needs calibration scores, and cv=None makes none: fit with cv=5"
            )
        counts = np.concatenate([[0.0], np.cumsum(self.calibration_weights_)])
        rank = np.searchsorted(self.calibration_scores_, self.score_samples(X), side="right")
        return (1 + counts[rank]) / (1 + counts[-1])


def _explains(detector):
    if not STATISTICS[detector.statistic].is_explained:
        return False
    density = vars(detector).get("estimator_", None)
    return hasattr(detector._density() if density is None else density, "explain_score")


class _Scorer(NamedTuple):
    """A fitted density, and the constant columns that it does not describe."""

    model: object
    statistic: object  # of `outlier_statistics`
    constant: "np.ndarray | None"  # (d,) bool
    values: "np.ndarray | None"  # (d,)

    @classmethod
    def fit(cls, density, statistic, cases, mass):
        """Fit a clone on cases that weigh `mass`."""
        X, fit_params = cases.training_data(mass)
        model = clone(density).fit(X, **fit_params)
        statistic = STATISTICS[statistic].of(model, X, fit_params.get("sample_weight"))
        return cls(model, statistic, *_constant_columns(model, X))

    def scores(self, X):
        """Statistic of each row, -inf where it departs from a constant column: -> (n,)."""
        scores = np.array(self.statistic(self.model, X), dtype=np.float64)
        if scores.ndim != 1 or np.isnan(scores).any():
            raise ValueError(
                f"{type(self.model).__name__}.{self.statistic.verb} must give each row one number, "
                f"got {'NaN' if scores.ndim == 1 else f'shape {scores.shape}'}"
            )
        if self.constant is not None and self.constant.any():
            seen = table(X)[:, self.constant]
            departs = (seen != self.values[self.constant]) & ~np.isnan(seen)
            scores[departs.any(axis=1)] = -np.inf
        return scores


def _constant_columns(model, X):
    """Which columns had one value in training, and which: as the model says, or from the rows."""
    rows = table(X)
    if rows is None or rows.ndim != 2:
        return None, None
    constant = getattr(model, "constant_", None)
    if constant is None:
        low, high = np.fmin.reduce(rows, axis=0), np.fmax.reduce(rows, axis=0)
        return low == high, low
    return (constant, model.constant_values_) if len(constant) == rows.shape[1] else (None, None)


def _threshold(scores, weight, contamination):
    """Halfway over the gap that leaves at most the contaminated share of the weight below it.

    Halfway, so that the rounding error of a score moves no training row across.
    """
    values, inverse = np.unique(scores, return_inverse=True)
    mass = np.bincount(inverse, weight)
    below = np.cumsum(mass) - mass
    lowest_inlier = np.flatnonzero(below <= contamination * weight.sum() * (1 + ROUNDING))[-1]
    inlier = values[lowest_inlier]
    if lowest_inlier == 0:
        return float(inlier - ROUNDING * max(1.0, abs(inlier)))
    return float((values[lowest_inlier - 1] + inlier) / 2)
