"""Gaussian mixtures by variational Bayes: posteriors over parameters, a bound without gaps."""

from dataclasses import replace

import numpy as np

from ._compat import Interval, Real
from .base import fitted
from .emissions.conjugate import NormalWisharts
from .emissions.covariance import Penalty
from .emissions.dense import Full
from .emissions.simplex import Dirichlet
from .mixture import Mixture
from .mixture_base import BaseMixture
from .mixture_state import MixtureState
from .validation import checked_array


class VariationalGMM(BaseMixture):
    """Bayesian Gaussian mixture: finite Dirichlet weights, Normal-Wishart components.

    Variational Bayes fits q(z) q(weights) prod_k q(mean_k, precision_k). `score_samples` is the
    posterior predictive density under q, a mixture of Student-t distributions that integrates to
    one; `lower_bound_` is a bound on the log evidence log p(X) with every constant in it.

    Parameters
    ----------
    n_components : int, default=1
        Largest number of components K; surplus ones return to their prior.
    weight_concentration_prior : float or None, default=None
        Dirichlet concentration of each component; None is 1 / n_components, which empties surplus
        components (Rousseau & Mengersen 2011).
    mean_precision_prior : float, default=0.1
        Pseudo-observations of each mean at `mean_prior`.
    mean_prior : array-like of shape (n_features,) or None, default=None
        Prior mean; None is the mean of the rows.
    degrees_of_freedom_prior : float or None, default=None
        Degrees of freedom of the Wishart prior, more than n_features - 1; None is n_features + 2.
    covariance_prior : array-like of shape (n_features, n_features) or None, default=None
        Inverse scale matrix of the Wishart prior; None is degrees_of_freedom_prior times the
        covariance of the rows, divided by n_components^(2 / n_features).
    tol : float, default=1e-6
        Stop when the gain still to come, extrapolated, is below tol nats per unit weight.
    max_iter : int, default=1000
        Largest number of passes over the rows.
    n_init : int, default=10
        Short runs from different starts, on at most 5000 rows; the best is finished on all rows.
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}, default="kmeans"
        How a start divides the rows.
    random_state : int, RandomState instance or None, default=None
        Randomness of the starts.
    warm_start : bool, default=False
        Go on from the last fit.
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
    weights_ : ndarray of shape (n_components,)
        E[weights], in descending order.
    means_ : ndarray of shape (n_components, n_features)
        E[mean_k], in the units of X.
    covariances_ : ndarray of shape (n_components, n_features, n_features)
        E[precision_k]^-1; zeros for constant columns.
    weight_concentration_, mean_precision_, degrees_of_freedom_ : ndarray of shape (n_components,)
        The posterior's Dirichlet concentrations, and per component the pseudo-observations of the
        mean and the degrees of freedom.
    lower_bound_ : float
        Bound on log p(X), in nats, for all rows together.
    history_, n_iter_, converged_, n_parameters_, score_kind_, base_measure_
        The same in every model; `history_` is the bound per unit weight.

    Raises
    ------
    ValueError
        For anything but finite numbers and NaN, for columns without any entry, for less total
        weight than components, and for priors of the wrong shape or sign.

    References
    ----------
    Attias (2000), A variational Bayesian framework for graphical models. Bishop (2006), Pattern
    Recognition and Machine Learning, 10.2 (10.57-10.81).

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import VariationalGMM
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(size=(80, 2)), 8 + rng.normal(size=(40, 2))])
    >>> model = VariationalGMM(5, random_state=0).fit(X)
    >>> int((model.weights_ > 0.02).sum())
    2
    """

    _parameter_constraints: dict = {
        **BaseMixture._parameter_constraints,
        "weight_concentration_prior": [Interval(Real, 0.0, None, closed="neither"), None],
        "mean_precision_prior": [Interval(Real, 0.0, None, closed="neither")],
        "mean_prior": ["array-like", None],
        "degrees_of_freedom_prior": [Interval(Real, 0.0, None, closed="neither"), None],
        "covariance_prior": ["array-like", None],
    }

    def __init__(
        self,
        n_components=1,
        *,
        weight_concentration_prior=None,
        mean_precision_prior=0.1,
        mean_prior=None,
        degrees_of_freedom_prior=None,
        covariance_prior=None,
        tol=1e-6,
        max_iter=1000,
        n_init=10,
        init_params="kmeans",
        random_state=None,
        warm_start=False,
        accelerate="squarem",
        n_jobs=None,
        verbose=0,
        verbose_interval=10,
    ):
        self.n_components = n_components
        self.weight_concentration_prior = weight_concentration_prior
        self.mean_precision_prior = mean_precision_prior
        self.mean_prior = mean_prior
        self.degrees_of_freedom_prior = degrees_of_freedom_prior
        self.covariance_prior = covariance_prior
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.random_state = random_state
        self.warm_start = warm_start
        self.accelerate = accelerate
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.verbose_interval = verbose_interval

    def _broad(self, family, constant):
        """The prior, as the posterior of K components that have seen nothing."""
        K, varying = self.n_components, np.flatnonzero(~constant)
        d = len(varying)
        nu = d + 2.0 if self.degrees_of_freedom_prior is None else self.degrees_of_freedom_prior
        if nu <= d - 1:
            raise ValueError(f"degrees_of_freedom_prior must exceed {d - 1}, got {nu}")
        m, S = family.mean, nu * family.target(K)
        if self.mean_prior is not None:
            m = checked_array(self.mean_prior, constant.shape, "mean_prior")[varying]
        if self.covariance_prior is not None:
            S = np.asarray(self.covariance_prior, dtype=np.float64)
            S = Full.expand(S[None], 1, len(constant), Penalty(0.0, np.zeros((d, d))))
            S = S.S[0][np.ix_(varying, varying)]
        alpha = self.weight_concentration_prior
        concentration = np.full(K, 1 / K if alpha is None else alpha)
        return _unseen(concentration, np.tile(m, (K, 1)), self.mean_precision_prior, nu, S)

    def _structure(self):
        return Full, 0.0, 0.0

    def _filled_components(self):
        # Emptying a component step by step is slow: some starts leave components at their prior.
        return np.linspace(self.n_components, 1, self.n_init).round().astype(int)

    @property
    def _derived(self):
        return Mixture

    def _params_of(self, state, kept):
        return {"n_components": len(state.weights.mean), "emission": "student_t"}

    def _parameter_kl(self):
        return -self.run_.state.log_prior()

    @fitted
    def lower_bound_(self):
        """Bound on log p(X), in nats, for all rows together."""
        return float(self.run_.objective * self.total_weight_)

    @fitted
    def covariances_(self):
        """(n_components, n_features, n_features) E[precision_k]^-1, in squared units of X."""
        emission = self.run_.state.emission
        return self._restore_square(emission.S / emission.nu[:, None, None])

    @fitted
    def weight_concentration_(self):
        """(n_components,) Dirichlet concentrations of q(weights)."""
        return self.run_.state.weights.alpha

    @fitted
    def mean_precision_(self):
        """(n_components,) pseudo-observations of each mean."""
        return self.run_.state.emission.beta

    @fitted
    def degrees_of_freedom_(self):
        """(n_components,) degrees of freedom of each Wishart."""
        return self.run_.state.emission.nu

    @classmethod
    def from_parameters(
        cls, *, weight_concentration, means, mean_precision, degrees_of_freedom, covariances
    ):
        """A model whose posterior is known; its parameters are their own prior (parameter_kl = 0).

        Parameters
        ----------
        weight_concentration, mean_precision : array-like of shape (n_components,)
            As in the attributes of the same names; positive.
        degrees_of_freedom : array-like of shape (n_components,)
            As in the attribute of the same name; above n_features - 1.
        means : array-like of shape (n_components, n_features)
            Posterior means.
        covariances : array-like of shape (n_components, n_features, n_features)
            E[precision_k]^-1.

        Returns
        -------
        model : VariationalGMM
            Fitted; all verbs accept it.
        """
        alpha = checked_array(weight_concentration, (None,), "weight_concentration")
        means = checked_array(means, (len(alpha), None), "means")
        K, d = means.shape
        beta = checked_array(mean_precision, (K,), "mean_precision")
        nu = checked_array(degrees_of_freedom, (K,), "degrees_of_freedom")
        if not (alpha > 0).all() or not (beta > 0).all() or not (nu > d - 1).all():
            raise ValueError(
                "weight_concentration and mean_precision must be positive, and degrees_of_freedom "
                f"must exceed {d - 1}"
            )
        S = Full.expand(covariances, K, d, Penalty(0.0, np.zeros((d, d)))).S
        return cls._from_state(
            _unseen(alpha, means, beta, nu, S * nu[:, None, None]), n_components=K
        )


def _unseen(alpha, m, beta, nu, S):
    """The state of K components whose posterior is their prior."""
    K, d = m.shape
    beta, nu = np.broadcast_to(beta, K), np.broadcast_to(nu, K)
    prior = NormalWisharts.of(m, beta, nu, np.broadcast_to(S, (K, d, d)))
    return MixtureState(Dirichlet(alpha, alpha), replace(prior, prior=prior))
