"""How certain a mixture's parameters are: confidence intervals from the observed information."""

from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.utils.metaestimators import available_if

from .emissions.gaussian import Gaussian
from .emissions.student_t import StudentT
from .inference.information import information
from .warn import warn_user


class Interval(NamedTuple):
    """Ends of the intervals of an array of parameters, and standard errors; of the same shape."""

    low: np.ndarray
    high: np.ndarray
    standard_error: np.ndarray


class ConfidenceIntervals(NamedTuple):
    """Intervals of all parameters of a mixture."""

    weights: Interval  # (K,), on the scale of log odds
    means: Interval  # (K, d)
    covariances: Interval  # in the shape of `covariances_`; variances on the scale of logarithms
    df: "Interval | None"  # (K,) on the scale of logarithms; None where components are Gaussians


def _of_distances(model):
    """Whether all components are Gaussians or Student-t distributions with parameters."""
    emission = getattr(model, "emission", "gaussian")
    if getattr(model, "noise_component", False):
        return False
    return isinstance(emission, Gaussian | StudentT) or emission in ("gaussian", "student_t")


class ConfidenceVerbs:
    """What mixtures of Gaussians and of Student-t distributions say of their own parameters."""

    @available_if(_of_distances)
    def conf_int(self, X, level=0.95, sample_weight=None, *, method="hessian"):
        """Confidence intervals of weights, means and covariances.

        They come from the exact second derivative of the penalised log-likelihood of the rows, so
        that missing entries and overlapping components widen them as they must.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows of `fit`; NaN marks missing entries.
        level : float, default=0.95
            Probability that an interval covers its parameter, for many rows.
        sample_weight : array-like of shape (n_samples,), default=None
            The counts of `fit`.
        method : {"hessian", "sandwich", "opg"}, default="hessian"
            "hessian" inverts the observed information. "sandwich" puts the outer product of the
            rows' scores between two such inverses, and stays right where the model is wrong (Huber
            1967, White 1982). "opg" inverts the outer product, and leaves out the prior.

        Returns
        -------
        intervals : ConfidenceIntervals
            Named tuple of `weights`, `means`, `covariances` (Student-t: scale matrices) and `df`
            (None for Gaussians), each a named tuple of `low`, `high` and `standard_error` in the
            shape of the attribute. Zero standard errors for what is given: constant columns,
            weights of a single component, fixed degrees of freedom; NaN for degrees of freedom that
            ended at a bound.

        Raises
        ------
        ValueError
            For a `level` outside (0, 1) and an unknown `method`.

        Warns
        -----
        UserWarning
            If the information is not positive definite, as where components coincide or die; all
            intervals are NaN then. If the maximum is elsewhere by more than half a standard error:
            the rows, counts or labels were others in `fit`, or it stopped early.

        Notes
        -----
        Intervals for weights are symmetric in log odds, those for variances and degrees of freedom
        in logarithms, all others on their own scale. They speak of the components that the fit
        found: which maximum it is, and how many components there are, they take as given. The prior
        counts as `covariance_prior` pseudo-observations do. Cost: n p^2 for p parameters.

        References
        ----------
        Louis (1982), Finding the observed information matrix when using the EM algorithm. Basford,
        Greenway, McLachlan & Peel (1997), Standard errors of fitted component means of normal
        mixtures. Boldea & Magnus (2009), Maximum likelihood estimation of the multivariate normal
        mixture model.

        Examples
        --------
        >>> import numpy as np
        >>> from sklvm import GaussianMixture
        >>> X = np.random.default_rng(0).normal(size=(400, 1)) * 3 + 10
        >>> model = GaussianMixture(covariance_prior=0).fit(X)
        >>> intervals = model.conf_int(X)
        >>> bool(np.isclose(intervals.means.standard_error, X.std() / 20).all())
        True
        >>> low, high, _ = intervals.means
        >>> low.round(1), high.round(1)
        (array([[9.6]]), array([[10.2]]))
        """
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1, got {level!r}")
        if method not in COVARIANCES:
            raise ValueError(f"method must be one of {list(COVARIANCES)}, got {method!r}")
        weight = self._counts(X, sample_weight)
        X, state = self._read(X)[weight > 0], self.run_.state
        found = information(state, X, weight[weight > 0])
        V = covariance_of(found, method)
        return self._intervals(state, found.coordinates, V, norm.ppf((1 + level) / 2))

    def _intervals(self, state, where, V, z):
        odds, means, matrices, df = np.split(np.arange(len(V)), where.ends[:-1])
        pi, cov = state.weights.mean, state.emission.cov
        K, d = state.emission.means.shape
        rest = np.where(pi < 1, 1 - pi, 1.0)
        error = _errors(where.weights / rest[:, None], V[np.ix_(odds, odds)])
        weights = Interval(*(expit(logit(pi) + s * z * error) for s in (-1, 1)), error * pi * rest)
        parts = [V[np.ix_(part, part)] for part in means.reshape(K, d)]
        error = np.array([_errors(B, part) for B, part in zip(where.means, parts)])
        centres = symmetric(state.emission.means, error, z)
        error = _errors(where.compact, V[np.ix_(matrices, matrices)])
        squares = (positive, positive, of_matrices)[cov.feature_axes](cov.compact, error, z)
        return ConfidenceIntervals(
            weights,
            Interval(*map(self._restore, centres[:2]), self._restore(centres[2], 0.0)),
            Interval(*map(self._whole, squares)),
            _of_df(state.emission, where, V[np.ix_(df, df)], z),
        )


def _errors(move, V):
    """Standard errors of parameters that move (..., p) with coordinates of covariance V (p, p)."""
    return np.sqrt(np.einsum("...i,ij,...j->...", move, V, move))


def symmetric(estimate, error, z):
    return Interval(estimate - z * error, estimate + z * error, error)


def positive(estimate, error, z):
    """Symmetric in logarithms; a zero stays one."""
    factor = np.exp(z * error / np.where(estimate > 0, estimate, 1.0))
    return Interval(estimate / factor, estimate * factor, error)


def of_matrices(estimate, error, z):
    """Variances in logarithms, covariances as they are: (..., d, d)."""
    variance = np.eye(estimate.shape[-1], dtype=bool)
    parts = [np.where(variance, part, 1.0) for part in (estimate, error)]
    pairs = zip(positive(*parts, z), symmetric(estimate, error, z))
    return Interval(*(np.where(variance, *pair) for pair in pairs))


def _of_df(emission, where, V, z):
    if not hasattr(emission, "df"):
        return None
    error = np.full(len(emission.df), np.nan if emission.learn_df else 0.0)
    error[where.df] = emission.df[where.df] * np.sqrt(np.diag(V))
    return positive(emission.df, error, z)


# -- covariances of the coordinates -----------------------------------------------------------


def inverse(A):
    """The inverse of a positive definite matrix; NaN where it is none: (p, p)."""
    size = np.sqrt(np.maximum(np.diag(A), 0.0))
    if len(A) and not (size.min() > 0 and np.isfinite(A).all()):
        return np.full_like(A, np.nan)
    values, vectors = np.linalg.eigh(A / np.outer(size, size))
    if len(A) and values[0] <= 100 * len(A) * np.finfo(float).eps:
        return np.full_like(A, np.nan)
    return (vectors / values) @ vectors.T / np.outer(size, size)


COVARIANCES = {
    "hessian": lambda bread, outer: bread,
    "sandwich": lambda bread, outer: bread @ outer @ bread,
    "opg": lambda bread, outer: inverse(outer),
}
FAR = 0.5  # standard errors


def covariance_of(found, method):
    """Of the coordinates, (p, p); what makes it meaningless is said once."""
    bread = inverse(found.hessian)
    V = COVARIANCES[method](bread, found.outer)
    if np.isnan(bread).any() or np.isnan(V).any():
        warn_user(
            "the information is not positive definite, so the model is at no interior maximum of "
            "the likelihood of these rows and all intervals are NaN: give conf_int the rows and "
            "weights of fit, or fit fewer components"
        )
        return np.full_like(V, np.nan)
    far = np.sqrt(found.gradient @ bread @ found.gradient)
    if far > FAR:
        warn_user(
            f"the maximum of the likelihood of these rows lies {far:.2g} standard errors away: "
            "give conf_int the rows and weights of fit, or fit with a smaller tol"
        )
    return V
