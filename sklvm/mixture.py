"""Mixtures by expectation-maximisation: of Gaussians, and of any emission."""

from dataclasses import replace

import numpy as np

from .any_emission import (
    COVARIANCE_CONSTRAINTS,
    EMISSION_CONSTRAINTS,
    AnyEmission,
    checked_weights,
    with_structure,
)
from .emissions.base import Emission
from .emissions.covariance import Penalty
from .emissions.family import STRUCTURES
from .emissions.gaussian import Gaussians
from .emissions.simplex import Point
from .emissions.with_noise import WithNoise
from .intervals import ConfidenceVerbs
from .mixture_base import BaseMixture
from .mixture_state import MixtureState
from .mixture_verbs import GaussianVerbs
from .validation import checked_array

_CONSTRAINTS = {
    **BaseMixture._parameter_constraints,
    **COVARIANCE_CONSTRAINTS,
    "split_merge": ["boolean"],
}


class Mixture(ConfidenceVerbs, AnyEmission, BaseMixture):
    """Mixture of any emission, fitted by expectation-maximisation.

    p(x) = sum_k weights_k p(x | z = k). Missing entries (NaN) are integrated out exactly, weights
    are counts, and every score is a log density in the units of X.

    Parameters
    ----------
    n_components : int, default=1
        Number of components K.
    emission : str, spec object or list of pairs (emission, columns), default="gaussian"
        What a component is: "gaussian", "student_t", "independent_t" (every column a Student-t of
        its own; no matrices), "gaussian_mixture" (a mixture in each component), for whole numbers
        "bernoulli", "categorical", "poisson" and "negative_binomial", or a spec such as
        ``StudentT(df=4)``. Columns of whole numbers are independent within a component, and the
        covariance parameters mean nothing. A list gives
        each group of columns an emission of its own, the groups independent within a component:
        columns of mixed types. Columns are named as in ColumnTransformer (integers, names, a mask
        or a slice), each exactly once; a group may be empty.
    covariance_type : {"full", "tied", "diag", "spherical"} or three letters, default="full"
        Structure of the covariance (Student-t: scale) matrices, by scikit-learn's names or by
        those of mclust's fourteen families, which `GaussianMixture` explains. In a list it holds
        within each Gaussian or Student-t group, and so do the two priors below.
    tol : float, default=1e-6
        Stop when the gain still to come, extrapolated, is below tol nats per unit weight.
    reg_covar : float, default=0.0
        Absolute ridge, in squared units of X: the penalty -(reg_covar sum(w) / 2K) sum_k tr S_k^-1.
    covariance_prior : "auto" or float, default="auto"
        Pseudo-observations of the pooled covariance, divided by K^(2/d), that each free matrix
        gets: "auto" is the number of its free parameters / (d + 1), 0 is maximum likelihood.
        Matrices that share parameters divide them evenly.
    noise_component : bool, default=False
        Add a component n_components for rows that no cluster explains, so that they do not distort
        the others: a fixed broad density that no step changes (mclust's noise). Its columns are
        independent: Student-t with 3 degrees of freedom, about the mean of all rows with 1.5 of
        their standard deviations as scale, where they are measured; even odds for flags and
        categories; negative binomial, at least as spread out as all rows, for counts. It adds one
        parameter, its weight.
    max_iter : int, default=1000
        Largest number of passes over the rows.
    n_init : int, default=10
        Short runs from different starts, on at most 10000 rows; the best is finished on all rows.
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}, default="kmeans"
        How a start divides the rows.
    split_merge : bool, default=True
        Polish the best start, on the same rows: exchange components, two merged and a third split,
        while that ends higher (Ueda et al. 2000). Not done where something names the components.
    random_state : int, RandomState instance or None, default=None
        Randomness of the starts.
    warm_start : bool, default=False
        Go on from the last fit.
    accelerate : "squarem" or None, default="squarem"
        Extrapolation of the EM steps; kept only where the objective rises.
    n_jobs : int or None, default=None
        Threads that share the blocks of rows.
    verbose : int, default=0
        Print progress.
    verbose_interval : int, default=10
        Iterations between prints.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,), with noise (n_components + 1,)
        Mixing proportions, in descending order; that of the noise last.
    means_ : ndarray of shape (n_components, n_features), with noise (n_components + 1, n_features)
        E[x | z = k], in the units of X.
    emission_ : Emission
        The fitted conditionals over the columns that vary: ``emission_.probs`` of categories,
        ``emission_.dispersion`` of negative binomial counts.
    df_ : ndarray of shape (n_components,), or (n_components, n_features) by column
        Degrees of freedom; Student-t emissions only.
    history_, n_iter_, converged_, lower_bound_, n_parameters_, score_kind_, base_measure_
        The same in every model.

    Raises
    ------
    ValueError
        For anything but finite numbers and NaN, for columns without any entry, for less total
        weight than components, and where a list does not name each column exactly once.

    References
    ----------
    Dempster, Laird & Rubin (1977); McLachlan & Peel (2000), Finite Mixture Models, 2.8 and 7.5.
    Hunt & Jorgensen (1999), Mixture model clustering using the MULTIMIX program, and Vermunt &
    Magidson (2002), Latent class cluster analysis, for mixed columns. Banfield & Raftery (1993),
    Model-based Gaussian and non-Gaussian clustering, and Fraley & Raftery (2002), section 5, for
    noise; there it is uniform over the range of the rows.

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import Mixture, StudentT
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.standard_t(4, (60, 2)), 9 + rng.standard_t(4, (40, 2))])
    >>> model = Mixture(2, emission=StudentT(df=4), random_state=0).fit(X)
    >>> model.weights_.round(2)
    array([0.6, 0.4])

    A measurement and a category, clustered together:

    >>> mixed = np.column_stack([rng.normal(size=80), rng.integers(0, 2, size=80)])
    >>> mixed[50:] += [6.0, 2.0]
    >>> emission = [("gaussian", [0]), ("categorical", [1])]
    >>> model = Mixture(2, emission=emission, random_state=0).fit(mixed)
    >>> model.weights_.round(2)
    array([0.63, 0.37])
    >>> model.base_measure_
    array(['lebesgue', 'counting'], dtype=object)

    Two clusters in a cloud of rows that belong to neither:

    >>> rows = np.concatenate([rng.normal(size=(120, 2)), 6 + rng.normal(size=(80, 2))])
    >>> rows = np.concatenate([rows, rng.uniform(-20, 20, size=(40, 2))])
    >>> model = Mixture(2, noise_component=True, random_state=0).fit(rows)
    >>> model.predict([[0.0, 0.0], [6.0, 6.0], [-15.0, 9.0]])
    array([0, 1, 2])
    """

    _parameter_constraints: dict = {
        **_CONSTRAINTS,
        **EMISSION_CONSTRAINTS,
        "noise_component": ["boolean"],
    }

    def __init__(
        self,
        n_components=1,
        *,
        emission="gaussian",
        covariance_type="full",
        tol=1e-6,
        reg_covar=0.0,
        covariance_prior="auto",
        noise_component=False,
        max_iter=1000,
        n_init=10,
        init_params="kmeans",
        split_merge=True,
        random_state=None,
        warm_start=False,
        accelerate="squarem",
        n_jobs=None,
        verbose=0,
        verbose_interval=10,
    ):
        self.n_components = n_components
        self.emission = emission
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.covariance_prior = covariance_prior
        self.noise_component = noise_component
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.split_merge = split_merge
        self.random_state = random_state
        self.warm_start = warm_start
        self.accelerate = accelerate
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.verbose_interval = verbose_interval

    def _broad(self, family, constant):
        state = super()._broad(family, constant)
        if not self.noise_component:
            return state
        noise = self._emission(constant).background(family)
        K = self.n_components + 1
        return MixtureState(Point(np.full(K, 1 / K)), WithNoise(state.emission, noise))

    @classmethod
    def from_parameters(cls, *, weights, emission):
        """A fitted mixture of known conditionals.

        Parameters
        ----------
        weights : array-like of shape (n_components,)
            Mixing proportions: non-negative, with sum 1.
        emission : Emission
            The conditionals, such as ``model.emission_``.

        Returns
        -------
        model : Mixture
            Fitted; all verbs accept it.
        """
        if not isinstance(emission, Emission):
            raise TypeError(
                f"emission must be an Emission such as model.emission_, got {emission!r}"
            )
        weights = checked_weights(weights)
        if len(weights) != len(emission.expectation()):
            raise ValueError(f"{len(weights)} weights for {len(emission.expectation())} components")
        state = MixtureState(Point(weights), emission)
        params = {
            "n_components": len(weights) - emission.n_noise,
            "emission": emission.spec,
            "noise_component": bool(emission.n_noise),
        }
        return cls._from_state(state, **with_structure(params, state))


class GaussianMixture(ConfidenceVerbs, GaussianVerbs, BaseMixture):
    """Gaussian mixture by expectation-maximisation: scikit-learn's names, NaN, weights and a prior.

    p(x) = sum_k weights_k N(x; means_k, S_k). Missing entries (NaN) are integrated out exactly,
    weights are counts, and rescaling a column changes scores by the log-Jacobian and nothing else.

    Parameters
    ----------
    n_components : int, default=1
        Number of components K.
    covariance_type : {"full", "tied", "diag", "spherical"} or three letters, default="full"
        Structure of the covariance matrices, by scikit-learn's names or by those of mclust's
        fourteen families: "EII", "VII", "EEI", "VEI", "EVI", "VVI", "EEE", "VEE", "EVE", "VVE",
        "EEV", "VEV", "EVV", "VVV". The letters say how the components' ellipsoids agree in volume,
        shape and orientation: E equal, V varying, I none (a ball, or axes along the features).
        "tied" is "EEE", "full" "VVV", "diag" "VVI", "spherical" "VII". "EII", "VII", "EVE", "VVE",
        "EEV" and "VEV" compare columns with each other: their fit depends on the columns' units
        (standardise first); all others do not. The last four refuse spreads 1e7 apart.
    tol : float, default=1e-6
        Stop when the gain still to come, extrapolated, is below tol nats per unit weight.
    reg_covar : float, default=0.0
        Absolute ridge, in squared units of X: the penalty -(reg_covar sum(w) / 2K) sum_k tr S_k^-1,
        which adds reg_covar to each variance of a component with the average weight.
    covariance_prior : "auto" or float, default="auto"
        Pseudo-observations of the pooled covariance, divided by K^(2/d), that each free matrix
        gets: "auto" is the number of its free parameters / (d + 1), 0 is maximum likelihood.
        Matrices that share parameters divide them evenly.
    max_iter : int, default=1000
        Largest number of passes over the rows.
    n_init : int, default=10
        Short runs from different starts, on at most 10000 rows; the best is finished on all rows.
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}, default="kmeans"
        How a start divides the rows.
    split_merge : bool, default=True
        Polish the best start, on the same rows: exchange components, two merged and a third split,
        while that ends higher (Ueda et al. 2000). Not done where something names the components.
    weights_init : array-like of shape (n_components,), default=None
        Weights to start from.
    means_init : array-like of shape (n_components, n_features), default=None
        Means to start from.
    precisions_init : array-like, default=None
        Inverse covariances to start from, in the shape of `precisions_`.
    random_state : int, RandomState instance or None, default=None
        Randomness of the starts.
    warm_start : bool, default=False
        Go on from the last fit.
    accelerate : "squarem" or None, default="squarem"
        Extrapolation of the EM steps (Varadhan & Roland 2008); kept only where the objective rises.
    n_jobs : int or None, default=None
        Threads that share the blocks of rows.
    verbose : int, default=0
        Print progress.
    verbose_interval : int, default=10
        Iterations between prints.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
        Mixing proportions, in descending order unless something named the components.
    means_ : ndarray of shape (n_components, n_features)
        Means, in the units of X.
    covariances_, precisions_, precisions_cholesky_ : ndarray
        (n_components, n_features, n_features) for "full", (n_features, n_features) for "tied",
        (n_components, n_features) for "diag", (n_components,) for "spherical"; zeros for constant
        columns. Other families have the shape of "spherical" ("EII"), of "diag" (those that end
        in "I") or of "full".
    lower_bound_ : float
        The objective at the end: mean log-likelihood plus log-prior, nats per unit weight.
    history_, n_iter_, converged_, n_parameters_, score_kind_, base_measure_
        The same in every model.

    Raises
    ------
    ValueError
        For anything but finite numbers and NaN, for columns without any entry, and for less total
        weight than components.

    References
    ----------
    Dempster, Laird & Rubin (1977). Ghahramani & Jordan (1994) for missing entries. Bishop (2006),
    Pattern Recognition and Machine Learning, 9.22-9.25. Celeux & Govaert (1995), Gaussian
    parsimonious clustering models, for the fourteen families.

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import GaussianMixture
    >>> X = np.array([[0.0, 0.1], [0.2, np.nan], [0.1, 0.0], [5.0, 5.2], [np.nan, 5.0], [5.1, 5.1]])
    >>> model = GaussianMixture(2, covariance_type="diag", random_state=0).fit(X)
    >>> model.predict(X) == model.predict([[5.0, np.nan]])
    array([False, False, False,  True,  True,  True])
    >>> model.impute([[5.0, np.nan]]).round(1)
    array([[5. , 5.1]])
    """

    _parameter_constraints: dict = {
        **_CONSTRAINTS,
        "weights_init": ["array-like", None],
        "means_init": ["array-like", None],
        "precisions_init": ["array-like", None],
    }

    def __init__(
        self,
        n_components=1,
        *,
        covariance_type="full",
        tol=1e-6,
        reg_covar=0.0,
        covariance_prior="auto",
        max_iter=1000,
        n_init=10,
        init_params="kmeans",
        split_merge=True,
        weights_init=None,
        means_init=None,
        precisions_init=None,
        random_state=None,
        warm_start=False,
        accelerate="squarem",
        n_jobs=None,
        verbose=0,
        verbose_interval=10,
    ):
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.covariance_prior = covariance_prior
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.split_merge = split_merge
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.accelerate = accelerate
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.verbose_interval = verbose_interval

    @property
    def _given(self):
        return (self.weights_init, self.means_init, self.precisions_init)

    def _names_components(self, labels):
        return super()._names_components(labels) or any(part is not None for part in self._given)

    def _named_start(self, state, constant):
        """The start with weights_init, means_init and precisions_init in place."""
        weights, emission, K = state.weights, state.emission, self.n_components
        d = len(constant)
        if self.weights_init is not None:
            weights = Point(checked_weights(self.weights_init, K))
        if self.means_init is not None:
            means = checked_array(self.means_init, (K, d), "means_init")[:, ~constant]
            emission = replace(emission, means=means)
        if self.precisions_init is not None:
            structure = emission.cov.structure
            compact = structure.invert(np.asarray(self.precisions_init, dtype=np.float64))
            cov = structure.expand(compact, K, d, Penalty(0.0, np.zeros((d, d))))
            cov = cov.marginal(np.flatnonzero(~constant))
            emission = replace(emission, cov=emission.cov.resembling(cov))
        return MixtureState(weights, emission)

    def _params_of(self, state, kept):
        given = {"weights_init": None, "means_init": None, "precisions_init": None}
        return {**with_structure(super()._params_of(state, kept), state), **given}

    @classmethod
    def from_parameters(
        cls, *, weights, means, covariances=None, precisions=None, covariance_type="full"
    ):
        """A fitted Gaussian mixture of known parameters.

        Parameters
        ----------
        weights : array-like of shape (n_components,)
            Mixing proportions: non-negative, with sum 1.
        means : array-like of shape (n_components, n_features)
            Means.
        covariances, precisions : array-like
            Exactly one of them, in the shape that `covariance_type` has in `covariances_`.
        covariance_type : {"full", "tied", "diag", "spherical"} or three letters, default="full"
            Structure of the covariance matrices; ValueError where they are not of that structure.

        Returns
        -------
        model : GaussianMixture
            Fitted; all verbs accept it.
        """
        if covariance_type not in STRUCTURES:
            raise ValueError(
                f"covariance_type must be one of {sorted(STRUCTURES)}, got {covariance_type!r}"
            )
        if (covariances is None) == (precisions is None):
            raise ValueError("give exactly one of covariances and precisions")
        weights = checked_weights(weights)
        means = checked_array(means, (len(weights), None), "means")
        K, d = means.shape
        structure = STRUCTURES[covariance_type]
        if covariances is None:
            covariances = structure.invert(np.asarray(precisions, dtype=np.float64))
        cov = structure.expand(covariances, K, d, Penalty(0.0, np.zeros((d, d))))
        state = MixtureState(Point(weights), Gaussians(means, cov))
        return cls._from_state(state, n_components=K, covariance_type=covariance_type)
