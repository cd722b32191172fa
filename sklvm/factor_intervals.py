"""How certain a factor analysis is: confidence intervals of loadings, uniquenesses and the rest."""

from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.utils.validation import check_is_fitted

from .inference.blocks import has_gaps
from .inference.factor_information import (
    FactorPoint,
    add_penalty,
    along,
    expected_information,
    gradient_of_moments,
    hessian_of_moments,
    invertible,
    observed_information,
    outer_product,
)
from .intervals import COVARIANCES, Interval, covariance_of, positive, symmetric
from .numerics.rotation_criteria import PromaxTurn
from .rotations import rotation_of
from .warn import warn_user

METHODS = ("auto", "expected", *COVARIANCES)
STARTS = 10  # of varimax, before promax
NOT_AS_FITTED = (
    "conf_int is for fitted models: the factors of this one are not turned as a fit turns them (a "
    "part of a model, or a rotation that was set after the fit: use rotate), so nothing says how "
    "they move with the data"
)
OFF = 1e-3  # how far, in standardised loadings, the factors may be from where constraints put them


class FactorConfidenceIntervals(NamedTuple):
    """Intervals of all parameters of a factor analysis."""

    components: Interval  # (q, d)
    noise_variance: Interval  # (d,) on the scale of logarithms
    loadings: Interval  # (d, q)
    structure: Interval  # (d, q)
    uniquenesses: Interval  # (d,) on the scale of log odds
    communalities: Interval  # (d,) on the scale of log odds
    factor_correlation: Interval  # (q, q) on Fisher's scale, artanh
    mean: Interval  # (d,)


class FactorConfidence:
    """What a factor analysis says of its own parameters."""

    _moments = None  # covariance (d, d) of the complete rows that were fitted

    def conf_int(self, X=None, level=0.95, sample_weight=None, *, method="auto"):
        """Confidence intervals of loadings, uniquenesses and factor correlations.

        They know what fixes the factors: the canonical form, or the criterion of the rotation whose
        minimum moves with the data (Jennrich 1974), Kaiser's weights included; promax is a function
        of varimax.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), default=None
            The rows of `fit`; NaN marks missing entries. None after a fit to complete rows, at
            least as many as columns, or to a covariance matrix.
        level : float, default=0.95
            Probability that an interval covers its parameter, for many rows.
        sample_weight : array-like of shape (n_samples,), default=None
            The counts of `fit`.
        method : {"auto", "expected", "hessian", "sandwich", "opg"}, default="auto"
            "expected" inverts Fisher's information of complete rows. "hessian" inverts the observed
            information, which is right with entries missing at random (Kenward & Molenberghs 1998).
            "sandwich" puts the outer product of the rows' scores between two such inverses, and
            stays right for columns that are not normal (White 1982); "opg" inverts the outer
            product, and leaves out the penalty. "auto" is "expected", or "hessian" with NaN.

        Returns
        -------
        intervals : FactorConfidenceIntervals
            Named tuple of `components`, `noise_variance`, `loadings`, `structure`, `uniquenesses`,
            `communalities`, `factor_correlation` and `mean`, each a named tuple of `low`, `high`
            and `standard_error` in the shape of the attribute. Zero standard errors for what is
            given: constant columns, correlations of uncorrelated factors.

        Raises
        ------
        ValueError
            For a `level` outside (0, 1), an unknown `method` or one that needs what is not given,
            and for parts of a fitted model, whose factors nothing fixes.

        Warns
        -----
        UserWarning
            In a Heywood case (`heywood_`): the maximum lies at a boundary, where no normal
            distribution is near, and all intervals are NaN. If the information is not positive
            definite, as with more factors than the columns can tell apart. If the maximum is
            elsewhere by more than half a standard error: the rows or counts were others in `fit`.

        Notes
        -----
        Intervals for uniquenesses are symmetric in log odds, for variances in logarithms, for
        correlations of factors in artanh, all others on their own scale. The penalty counts as in
        `fit`. Which rotation, and how many factors, they take as given.

        References
        ----------
        Lawley & Maxwell (1971), Factor analysis as a statistical method, 5. Archer & Jennrich
        (1973), Psychometrika 38, 581-592. Jennrich (1974), British Journal of Mathematical and
        Statistical Psychology 27, 122-131.

        Examples
        --------
        >>> import numpy as np
        >>> from sklvm import EMFactorAnalysis
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(400, 1)) + rng.normal(size=(400, 4))
        >>> intervals = EMFactorAnalysis(n_components=1).fit(X).conf_int()
        >>> intervals.loadings.standard_error.round(3).ravel()
        array([0.035, 0.033, 0.033, 0.034])
        >>> bool((intervals.uniquenesses.low < 0.5).all())
        True
        """
        check_is_fitted(self)
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1, got {level!r}")
        if method not in METHODS:
            raise ValueError(f"method must be one of {list(METHODS)}, got {method!r}")
        point = self._point()
        kind, *found = self._found(point, X, sample_weight, method)
        Z = _fixed(point)
        if self.heywood_.any():
            warn_user(
                f"columns {np.flatnonzero(self.heywood_).tolist()} are Heywood cases: the maximum "
                "lies at a boundary and all intervals are NaN; fit fewer factors or more rows"
            )
            V = np.full((len(Z), len(Z)), np.nan)
        else:
            V = Z @ covariance_of(_told_apart(point, Z, found), kind) @ Z.T
        return self._factor_intervals(point, V, norm.ppf((1 + level) / 2))

    def _turning(self, constant, d, q):
        """What `rotation` makes of loadings (d, q) of the columns that vary; None: canonical."""
        if self.rotation is None or q < 2:  # a single factor cannot turn
            return None
        return rotation_of(self.rotation).among(constant).criterion(d, q)

    def _point(self):
        """The parameters, for columns of variance one."""
        state = self.run_.state
        turning = self._turning(self.constant_, *state.shape)
        if isinstance(turning, PromaxTurn):
            return _before_promax(state, turning)
        Phi = state.factor_correlation
        return FactorPoint(state.standardised_loadings, Phi, state.uniquenesses, turning)

    def _found(self, point, X, sample_weight, method):
        """What is inverted, and the information, outer product and gradient: in point's units."""
        state = self.run_.state
        sd = np.sqrt(state.variance)
        if X is None:
            kind, hessian, outer, gradient = self._of_moments(point, sd, sample_weight, method)
        else:
            weight = self._counts(X, sample_weight)
            X = (self._read(X)[weight > 0] - state.emission.means[0]) / sd
            kind, hessian, outer, gradient = _of_rows(point, X, weight[weight > 0], method)
        penalty = state.emission.cov.penalty.scale / sd**2
        hessian, gradient = add_penalty(point, penalty, hessian, gradient)
        return kind, hessian, outer, gradient

    def _of_moments(self, point, sd, sample_weight, method):
        self._refuse_without_moments("conf_int", sample_weight)
        if method not in ("auto", "expected", "hessian"):
            raise ValueError(f"method={method!r} needs the rows: give conf_int X")
        S, n = self._moments / np.outer(sd, sd), self.total_weight_
        gradient = gradient_of_moments(point, S, n)
        if method == "hessian":
            hessian = hessian_of_moments(point, S, n)
        else:
            hessian = expected_information(point, n)
        return "hessian", hessian, np.zeros_like(hessian), gradient

    def _refuse_without_moments(self, verb, sample_weight):
        if self._moments is None:
            raise ValueError(
                f"{verb} needs X here: only a fit to complete rows, no fewer than columns, or to a "
                "covariance matrix keeps what it is made of"
            )
        if sample_weight is not None:
            raise ValueError(f"sample_weight are counts of rows: give {verb} X as well")

    def _factor_intervals(self, point, V, z):
        """Intervals from the covariance of the coordinates (p, p)."""
        state, (d, q) = self.run_.state, point.L.shape
        shown = partial(_shown, point)
        J = point.jacobian(shown)
        pairs = shown(point.L, point.Phi, point.psi), np.sqrt(((J @ V) * J).sum(axis=1))
        ends = np.cumsum([d * q, d * q, d * q, d])
        *tables, unique, Phi = zip(*(np.split(part, ends) for part in pairs))
        mean, _, log_psi, _ = np.split(np.sqrt(np.diag(V)), point.ends[:-1])
        sd = np.sqrt(state.variance)
        psi, unique = state.emission.cov.psi[0], _share(*unique, z)
        components, loadings, structure = (
            symmetric(*(part.reshape(d, q).T for part in pair), z) for pair in tables
        )
        components = Interval(*(part * sd for part in components))
        return FactorConfidenceIntervals(
            self._whole_interval(components, 0.0),
            self._whole_interval(positive(psi, psi * log_psi, z), 0.0),
            Interval(*(part.T for part in self._whole_interval(loadings, 0.0))),
            Interval(*(part.T for part in self._whole_interval(structure, 0.0))),
            self._whole_interval(unique, 1.0),
            self._whole_interval(Interval(1 - unique.high, 1 - unique.low, unique[2]), 0.0),
            _correlation(*(part.reshape(q, q) for part in Phi), z),
            self._whole_interval(symmetric(state.emission.means[0], mean * sd, z)),
        )

    def _whole_interval(self, interval, fill=None):
        """Constant columns put back, which are certain."""
        low, high, error = interval
        return Interval(
            self._restore(low, fill), self._restore(high, fill), self._restore(error, 0.0)
        )


def _before_promax(state, promax):
    """The varimax loadings that promax begins at: it is a function of them."""
    W = state.emission.cov.W[0] / np.sqrt(state.variance)[:, None]
    B, _ = promax.varimax.turn(W, np.random.default_rng(0), STARTS)
    L, Phi = W @ B.T, np.eye(len(B))
    if np.linalg.matrix_rank(L) < len(B):  # nothing tells surplus factors apart
        return FactorPoint(L, Phi, state.uniquenesses, promax.varimax)
    order, sign = promax.arrange(promax.of_varimax(L)[0])
    L = (L * sign)[:, order]
    if not np.allclose(promax.of_varimax(L)[0], state.standardised_loadings, rtol=0.0, atol=OFF):
        raise ValueError(NOT_AS_FITTED)
    return FactorPoint(L, Phi, state.uniquenesses, promax.varimax, promax.of_varimax)


def _of_rows(point, X, weight, method):
    """The same from standardised rows about the fitted mean: X is (n, d)."""
    mean, gaps = np.zeros(X.shape[1]), has_gaps(X)
    if method == "expected" and gaps:
        raise ValueError("method='expected' is for complete rows, X has NaN: use 'hessian'")
    if method == "auto":
        method = "hessian" if gaps else "expected"
    hessian, gradient = observed_information(point, mean, X, weight)
    outer = np.zeros_like(hessian)
    if method == "expected":
        return "hessian", expected_information(point, weight.sum()), outer, gradient
    if method != "hessian":
        outer = outer_product(point, mean, X, weight)
    return method, hessian, outer, gradient


def _fixed(point):
    """The free directions; refused where the factors are not those that the constraints fix."""
    size = np.linalg.norm(point.gradients, axis=1)
    gap = np.abs(point.constraints(point.L, point.Phi, point.psi))
    if (gap > OFF * size).any():
        raise ValueError(NOT_AS_FITTED)
    return point.free_directions()


def _told_apart(point, Z, found):
    """The information about free directions; none where only the penalty tells factors apart."""
    apart = invertible(Z.T @ expected_information(point, 1.0) @ Z)
    return along(Z, *(part if apart else 0.0 * part for part in found))


def _shown(point, L, Phi, psi):
    """Loadings as they are and standardised, structure, uniquenesses, factor correlations."""
    loadings, Phi, variance = point.shown(L, Phi, psi)
    tables = loadings * np.sqrt(variance)[:, None], loadings, loadings @ Phi
    return np.concatenate([*(part.ravel() for part in tables), psi / variance, Phi.ravel()])


def _share(estimate, error, z):
    """Symmetric in log odds; a share that is everything or nothing is known to be."""
    rest = estimate * (1 - estimate)
    reach = z * error / np.where(rest > 0, rest, 1.0)
    return Interval(expit(logit(estimate) - reach), expit(logit(estimate) + reach), error)


def _correlation(estimate, error, z):
    """Symmetric in artanh; ones where a factor meets itself."""
    itself = np.eye(len(estimate), dtype=bool)
    estimate, error = np.where(itself, 0.0, estimate), np.where(itself, 0.0, error)
    reach = z * error / (1 - estimate**2)
    ends = (np.tanh(np.arctanh(estimate) + sign * reach) for sign in (-1, 1))
    return Interval(*(np.where(itself, 1.0, end) for end in ends), error)
