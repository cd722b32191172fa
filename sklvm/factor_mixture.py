"""Mixtures of factor analysers: clusters, and within each of them a few continuous causes."""

from dataclasses import dataclass, replace

import numpy as np

from ._compat import Integral, Interval, Real, StrOptions
from .base import fitted
from .emissions.covariance import Penalty
from .emissions.factor_analyzers import FactorAnalyzers, FactorEmission
from .emissions.low_rank import LowRank
from .emissions.noise import NOISES
from .emissions.simplex import Point
from .inference.blocks import each_block
from .mixture import checked_weights
from .mixture_base import BaseMixture
from .mixture_state import MixtureState
from .posterior import CategoricalPosterior, GaussianPosterior
from .validation import checked_array


@dataclass(frozen=True)
class FactorMixturePosterior(CategoricalPosterior):
    """Probabilities of the components, and the factors given each of them, row by row.

    Attributes
    ----------
    probs : ndarray of shape (n_samples, n_components), float64
        p(z = k | x).
    prior : ndarray of shape (n_components,), float64
        p(z = k).
    factors : tuple of GaussianPosterior
        One for each component: p(factors | x, z = k), with `mean` (n_samples, n_factors) and
        `covariance` (n_samples, n_factors, n_factors), against the prior N(0, I).
    """

    factors: tuple[GaussianPosterior, ...]


class MixtureOfFactorAnalyzers(BaseMixture):
    """Mixture of factor analysers: Gaussian components that are low rank plus diagonal.

    p(x) = sum_k weights_k N(x; means_k, W_k W_k' + diag(noise_k)): each component explains its rows
    by `n_factors` continuous causes, x = means_k + W_k z + noise, z ~ N(0, I). It has fewer
    parameters than a full covariance, and time and memory grow in proportion to the number of
    features. Missing entries (NaN) are integrated out exactly.

    Parameters
    ----------
    n_components : int, default=1
        Number of components K.
    n_factors : int, default=2
        Number of factors q of each component; 0 is a Gaussian mixture with diagonal covariances.
    noise : {"free", "shared", "isotropic", "shared_isotropic"}, default="free"
        Which noise variances are one number: none; those of one column in all components
        (Ghahramani & Hinton 1996); those of one component, for columns in one unit (Tipping &
        Bishop 1999); all.
    heywood_penalty : float, default=0.05
        The soft penalty -(c/2) sum of K^(-2/d) variance_j / noise_variance_kj over the free noise
        variances, in nats for all rows together: it keeps them off zero and vanishes as rows come
        in; 0 is maximum likelihood.
    tol : float, default=1e-6
        Stop when the gain still to come, extrapolated, is below tol nats per unit weight.
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
    components_ : ndarray of shape (n_components, n_factors, n_features)
        Loadings of each component, in the units of X, rotated so that W / noise @ W.T is diagonal
        and descending, with a positive sum in units of noise; zeros for constant columns.
    noise_variance_ : ndarray of shape (n_components, n_features)
        Variance that the factors leave, in squared units of X, repeated where it is shared.
    covariances_ : ndarray of shape (n_components, n_features, n_features)
        W_k' W_k + diag(noise_k), made when it is asked for; zeros for constant columns.
    lower_bound_ : float
        The objective at the end: mean log-likelihood plus log-prior, nats per unit weight.
    history_, n_iter_, converged_, n_parameters_, score_kind_, base_measure_
        The same in every model.

    Raises
    ------
    ValueError
        For anything but finite numbers and NaN, for columns without any entry, and for less total
        weight than components.

    See Also
    --------
    EMFactorAnalysis : one component.
    GaussianMixture : unrestricted, tied and diagonal covariances.

    References
    ----------
    Ghahramani & Hinton (1996), The EM algorithm for mixtures of factor analyzers. Tipping & Bishop
    (1999), Mixtures of probabilistic principal component analyzers. McLachlan & Peel (2000), Finite
    Mixture Models, chapter 8. Liu, Rubin & Wu (1998) for the longer steps (PX-EM).

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import MixtureOfFactorAnalyzers
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(300, 1))
    >>> X = np.where(np.arange(300)[:, None] < 200, z * [3.0, 3.0, 0.0], 20 + z * [0.0, 3.0, -3.0])
    >>> X = X + rng.normal(size=(300, 3))
    >>> X[::7, 1] = np.nan
    >>> model = MixtureOfFactorAnalyzers(2, n_factors=1, random_state=0).fit(X)
    >>> model.weights_.round(2)
    array([0.67, 0.33])
    >>> model.factors(X[:2]).shape
    (2, 2, 1)
    """

    _parameter_constraints: dict = {
        **BaseMixture._parameter_constraints,
        "split_merge": ["boolean"],
        "n_factors": [Interval(Integral, 0, None, closed="left")],
        "noise": [StrOptions(set(NOISES))],
        "heywood_penalty": [Interval(Real, 0.0, None, closed="left")],
    }

    def __init__(
        self,
        n_components=1,
        *,
        n_factors=2,
        noise="free",
        heywood_penalty=0.05,
        tol=1e-6,
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
        self.n_factors = n_factors
        self.noise = noise
        self.heywood_penalty = heywood_penalty
        self.tol = tol
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

    def _emission(self, constant):
        return FactorEmission(self.n_factors, self.noise, self.heywood_penalty)

    def _finish(self, run, data, report=True):
        emission = run.state.emission.canonical()
        return super()._finish(
            run._replace(state=replace(run.state, emission=emission)), data, report
        )

    def posterior(self, X):
        """p(z | x) of each row, and p(factors | x, z = k) for each component k.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries.

        Returns
        -------
        posterior : FactorMixturePosterior
            `probs`, `mean`, `entropy()` and the like are those of the components; `factors[k]` is a
            GaussianPosterior.
        """
        X, state = self._read(X), self.run_.state
        factors = tuple(GaussianPosterior(*part) for part in state.emission.factor_posteriors(X))
        return FactorMixturePosterior(*vars(state.posterior(X)).values(), factors)

    def factors(self, X):
        """Factor scores: the posterior mean of the factors under each component.

        Each component has factors of its own, so scores of different components do not compare;
        `model.factors(X)[np.arange(len(X)), model.predict(X)]` are those of the most probable one.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_components, n_factors)
            E[factors | x, z = k]; the factors have mean zero and variance one.
        """
        X = self._read(X)
        return each_block(self.run_.state.emission.factors, X)

    @fitted
    def components_(self):
        """(n_components, n_factors, n_features) loadings, in the units of X."""
        return self._restore(self.run_.state.emission.cov.W.mT, fill=0.0)

    @fitted
    def noise_variance_(self):
        """(n_components, n_features) variance that the factors leave, in squared units of X."""
        return self._restore(self.run_.state.emission.cov.psi, fill=0.0)

    @fitted
    def covariances_(self):
        """(n_components, n_features, n_features) covariances, in squared units of X."""
        return self._restore_square(self.run_.state.emission.cov.dense())

    @classmethod
    def from_parameters(cls, *, weights, means, components, noise_variance, noise="free"):
        """A fitted mixture of factor analysers of known parameters.

        Parameters
        ----------
        weights : array-like of shape (n_components,)
            Mixing proportions: non-negative, with sum 1.
        means : array-like of shape (n_components, n_features)
            Means.
        components : array-like of shape (n_components, n_factors, n_features)
            Loadings; they are rotated to the canonical form, which changes no density.
        noise_variance : array-like of shape (n_components, n_features), (n_features,) or float
            Variance that the factors leave, positive.
        noise : {"free", "shared", "isotropic", "shared_isotropic"}, default="free"
            Which noise variances are one number.

        Returns
        -------
        model : MixtureOfFactorAnalyzers
            Fitted; all verbs accept it.
        """
        if noise not in NOISES:
            raise ValueError(f"noise must be one of {list(NOISES)}, got {noise!r}")
        weights = checked_weights(weights)
        means = checked_array(means, (len(weights), None), "means")
        (K, d), components = means.shape, np.asarray(components, dtype=np.float64)
        q = components.shape[1] if components.ndim == 3 else 0
        if components.shape != (K, 0, d):
            components = checked_array(components, (K, None, d), "components")
        psi = _checked_noise(noise_variance, K, d, NOISES[noise])
        flat = Penalty(0.0, np.zeros(d))
        cov = LowRank(components.mT, psi, flat, np.zeros(d), NOISES[noise])
        state = MixtureState(Point(weights), FactorAnalyzers(means, cov).canonical())
        return cls._from_state(state, n_components=K, n_factors=q, noise=noise)


def _checked_noise(noise_variance, K, d, sharing):
    """Positive noise variances that are shared as they are said to be: -> (K, d)."""
    given = np.array(noise_variance, dtype=np.float64)
    psi = np.tile(given, (K, 1)) if given.shape == (d,) else given
    psi = checked_array(np.full((K, d), psi) if psi.ndim == 0 else psi, (K, d), "noise_variance")
    if not (psi > 0).all():
        raise ValueError("noise_variance must be positive")
    if not np.allclose(psi, sharing.free(psi), rtol=1e-9, atol=0.0):
        raise ValueError(f"noise_variance has differences that noise={sharing.name!r} excludes")
    return np.broadcast_to(sharing.free(psi), (K, d)).copy()
