"""Gaussian mixtures by variational Bayes: posteriors over parameters, a bound without gaps."""

from functools import partial

import numpy as np

from ._compat import Integral, Interval, Real, StrOptions
from .base import fitted
from .emissions.family import STRUCTURES
from .inference.em import em
from .inference.memoised import memoised
from .inference.moves import HALF, reorganised
from .inference.pruning import merges, pruned
from .mixture import Mixture, with_structure
from .mixture_base import BaseMixture, moved
from .mixture_state import MixtureState
from .mixture_verbs import GaussianVerbs
from .validation import checked_array
from .variational_prior import (
    POSTERIORS,
    SIMPLEXES,
    Hyperparameters,
    known_emission,
    known_weights,
)

MANY = 1000  # total weight above which components may be split as well


class VariationalGMM(GaussianVerbs, BaseMixture):
    """Bayesian Gaussian mixture: Dirichlet or stick-breaking weights, conjugate components.

    Variational Bayes fits q(z) q(weights) q(means, precisions). `score_samples` is the posterior
    predictive density under q, a mixture of Student-t distributions that integrates to one;
    `lower_bound_` is a bound on the log evidence log p(X) with every constant in it. Surplus
    components return to their prior, whose share of the predictive density stays.

    Parameters
    ----------
    n_components : int, default=1
        Largest number of components K.
    covariance_type : {"full", "tied", "diag", "spherical"}, default="full"
        "full": a Wishart for the precision of each component. "tied": one Wishart for all. "diag":
        a Gamma for each column of each component; the predictive columns are independent
        Student-t. "spherical": one Gamma for all columns of a component; it compares columns, so
        their units matter.
    weight_concentration_prior_type : {"dirichlet_distribution", "dirichlet_process"}, \
            default="dirichlet_distribution"
        A finite Dirichlet, or a Dirichlet process truncated at K sticks (the last one takes what is
        left). Neither is a consistent estimate of a number of components; for the process that is a
        theorem (Miller & Harrison 2013).
    weight_concentration_prior : float or None, default=None
        Dirichlet concentration of each component, or concentration of the process. None is
        1 / n_components, which empties surplus components (Rousseau & Mengersen 2011), or 1 for the
        process; empirical Bayes goes on from there.
    mean_precision_prior : float or None, default=None
        Pseudo-observations of each mean at `mean_prior`; None is 0.1, where empirical Bayes starts.
    mean_prior : array-like of shape (n_features,) or None, default=None
        Prior mean; None is the mean of the rows.
    degrees_of_freedom_prior : float or None, default=None
        Degrees of freedom of the prior of the precisions: more than n_features - 1 for "full" and
        "tied", where None is n_features + 2; positive for "diag" and "spherical", where None is 3.
        They count rows, for "spherical" entries.
    covariance_prior : array-like or None, default=None
        Inverse scale of the prior of the precisions, in the shape of one component's covariance:
        (n_features, n_features), for "diag" (n_features,), for "spherical" a float. None is
        degrees_of_freedom_prior times the covariance of the rows (its diagonal, the mean of that),
        divided by n_components^(2 / n_features); empirical Bayes starts there.
    empirical_bayes : {"all", "weights"} or None, default="all"
        Which hyperparameters that are None maximise the bound with everything else: the weight
        concentration alone, or mean precision and inverse scale too (not with one component, which
        cannot say how components differ). They stay within 0.001 and 1 (100 for the process),
        0.0001 and 1, and 0.0001 and 100 times where they start.
    tol : float, default=1e-6
        Stop when the gain still to come, extrapolated, is below tol nats per unit weight.
    max_iter : int, default=1000
        Largest number of passes over the rows.
    n_init : int, default=10
        Short runs from different starts, on at most 10000 rows; the best is finished on all rows.
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}, default="kmeans"
        How a start divides the rows.
    moves : bool, default=True
        Propose to merge components, to remove light ones and, above a total weight of 1000, to
        split one where another is empty: of the best start on the same rows, and merges on all rows
        after the climb. Kept where the bound ends higher. Not done where labels or `warm_start`
        name the components.
    batch_size : int or None, default=None
        Distinct rows after which the posteriors are updated, with the statistics of all other
        batches remembered (Hughes & Sudderth 2013): the bound is still that of all rows and never
        falls, and the end is the same. Half the passes of a climb without acceleration, each of
        them dearer, and no acceleration: for rows whose reading is what costs. It keeps one set of
        statistics per batch. None updates once a pass.
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
        E[weights], in descending order; for a process in the order of the sticks.
    means_ : ndarray of shape (n_components, n_features)
        E[mean_k], in the units of X.
    covariances_, precisions_, precisions_cholesky_ : ndarray
        E[precision_k]^-1, E[precision_k] and its upper triangular root, in scikit-learn's shape for
        the structure; zeros for constant columns.
    n_active_ : int
        Components with an expected count of more than half a row.
    weight_concentration_ : ndarray of shape (n_components,), or a pair of them
        Dirichlet concentrations of q(weights); a and b of the Beta sticks, with b = 0 for the last.
    weight_concentration_prior_ : float
        The concentration that was given or learnt.
    mean_precision_, degrees_of_freedom_ : ndarray of shape (n_components,)
        Pseudo-observations of the mean and degrees of freedom of the precision. Columns miss
        different entries, so "diag" has both per column, (n_components, n_features), and
        "spherical" the first.
    lower_bound_ : float
        Bound on log p(X), in nats, for all rows together, at the hyperparameters that were learnt.
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
    Recognition and Machine Learning, 10.2 (10.57-10.81). Blei & Jordan (2006) and Kurihara et
    al. (2007) for sticks. Hughes & Sudderth (2013), Memoized online variational inference for
    Dirichlet process mixture models. Minka (2000), Estimating a Dirichlet distribution.

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import VariationalGMM
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(size=(80, 2)), 8 + rng.normal(size=(40, 2))])
    >>> model = VariationalGMM(5, random_state=0).fit(X)
    >>> model.n_active_
    2
    """

    _parameter_constraints: dict = {
        **BaseMixture._parameter_constraints,
        "covariance_type": [StrOptions(set(POSTERIORS))],
        "weight_concentration_prior_type": [StrOptions(set(SIMPLEXES))],
        "weight_concentration_prior": [Interval(Real, 0.0, None, closed="neither"), None],
        "mean_precision_prior": [Interval(Real, 0.0, None, closed="neither"), None],
        "mean_prior": ["array-like", None],
        "degrees_of_freedom_prior": [Interval(Real, 0.0, None, closed="neither"), None],
        "covariance_prior": ["array-like", Interval(Real, 0.0, None, closed="neither"), None],
        "empirical_bayes": [StrOptions({"weights", "all"}), None],
        "moves": ["boolean"],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self,
        n_components=1,
        *,
        covariance_type="full",
        weight_concentration_prior_type="dirichlet_distribution",
        weight_concentration_prior=None,
        mean_precision_prior=None,
        mean_prior=None,
        degrees_of_freedom_prior=None,
        covariance_prior=None,
        empirical_bayes="all",
        tol=1e-6,
        max_iter=1000,
        n_init=10,
        init_params="kmeans",
        moves=True,
        batch_size=None,
        random_state=None,
        warm_start=False,
        accelerate="squarem",
        n_jobs=None,
        verbose=0,
        verbose_interval=10,
    ):
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.weight_concentration_prior_type = weight_concentration_prior_type
        self.weight_concentration_prior = weight_concentration_prior
        self.mean_precision_prior = mean_precision_prior
        self.mean_prior = mean_prior
        self.degrees_of_freedom_prior = degrees_of_freedom_prior
        self.covariance_prior = covariance_prior
        self.empirical_bayes = empirical_bayes
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.moves = moves
        self.batch_size = batch_size
        self.random_state = random_state
        self.warm_start = warm_start
        self.accelerate = accelerate
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.verbose_interval = verbose_interval

    def _broad(self, family, constant):
        """The prior, as the posterior of K components that have seen nothing."""
        K, alpha = self.n_components, self.weight_concentration_prior
        learns = self.empirical_bayes is not None and alpha is None
        weights = SIMPLEXES[self.weight_concentration_prior_type](K, alpha, learns)
        said = Hyperparameters(
            self.covariance_type,
            self.mean_precision_prior,
            self.mean_prior,
            self.degrees_of_freedom_prior,
            self.covariance_prior,
        )
        many = K > 1  # one component cannot say how components differ
        emission = said.emission(family, constant, K, many and self.empirical_bayes == "all")
        return MixtureState(weights, emission)

    def _alike(self, broad, before):
        broad = super()._alike(broad, before)
        return MixtureState(
            broad.weights.resuming(before.weights), broad.emission.resuming(before.emission)
        )

    def _structure(self):
        return STRUCTURES[self.covariance_type], 0.0, 0.0

    def _filled_components(self):
        # Emptying a component step by step is slow: some starts leave components at their prior.
        return np.linspace(self.n_components, 1, self.n_init).round().astype(int)

    def _neighbours(self, sample, Z, broad):
        if not self.moves or self.n_components < 2:
            return None
        move = partial(reorganised, births=sample.weight.sum() > MANY)
        return partial(moved, move, sample, Z, broad)

    def _ascent(self, sample):
        climb = em if self.batch_size is None else partial(memoised, batch_size=self.batch_size)
        if sample is None or not self.moves or self.n_components < 2:
            return climb
        return partial(pruned, lighter=partial(merges, sample), margin=self.tol, climb=climb)

    @property
    def _derived(self):
        return Mixture

    def _params_of(self, state, kept):
        K = len(state.weights.mean)
        return with_structure({"n_components": K, "emission": state.emission.spec.name}, state)

    def _parameter_draws(self, X, n_draws, rng):
        """Mixtures drawn from q, which knows the rows of `fit`: X is not read.

        In q the parameters do not depend on the missing entries, so it understates their spread
        where much is missing.
        """
        q = self.run_.state
        for _ in range(n_draws):
            yield MixtureState(q.weights.draw(rng), q.emission.draw(rng))

    def _parameter_kl(self):
        return -self.run_.state.log_prior()

    @fitted
    def lower_bound_(self):
        """Bound on log p(X), in nats, for all rows together."""
        return float(self.run_.objective * self.total_weight_)

    @fitted
    def n_active_(self):
        """Number of components with an expected count above one half; others are at their prior."""
        return int((self.run_.state.weights.counts > HALF).sum())

    @fitted
    def weight_concentration_(self):
        """Concentrations of q(weights): (n_components,), or a pair of them for Beta sticks."""
        return self.run_.state.weights.concentrations

    @fitted
    def weight_concentration_prior_(self):
        """Concentration of the prior of the weights, given or learnt."""
        return self.run_.state.weights.prior_concentration

    @fitted
    def mean_precision_(self):
        """Pseudo-observations of each mean: (n_components,); by column for "diag", "spherical"."""
        return self._by_column(self.run_.state.emission.beta)

    @fitted
    def degrees_of_freedom_(self):
        """Of the precisions: (n_components,); (n_components, n_features) for "diag"."""
        emission = self.run_.state.emission
        return self._by_column(emission.degrees)

    def _by_column(self, values):
        return self._restore(values, 0.0) if values.ndim == 2 else values

    @classmethod
    def from_parameters(
        cls,
        *,
        weight_concentration,
        means,
        mean_precision,
        degrees_of_freedom,
        covariances,
        covariance_type="full",
        weight_concentration_prior_type="dirichlet_distribution",
    ):
        """A model whose posterior is known; its parameters are their own prior (parameter_kl = 0).

        Parameters
        ----------
        weight_concentration : array-like of shape (n_components,) or pair of them
            As in the attribute of the same name; positive. Sticks are broken in the order given,
            and their prior is the one that a and b imply, so its divergence is not zero.
        means : array-like of shape (n_components, n_features)
            Posterior means.
        mean_precision, degrees_of_freedom : array-like
            As in the attributes of the same names; positive, degrees of freedom above
            n_features - 1 for "full" and "tied".
        covariances : array-like
            E[precision_k]^-1, as in `covariances_`.
        covariance_type : {"full", "tied", "diag", "spherical"}, default="full"
            Structure of the covariance matrices.
        weight_concentration_prior_type : {"dirichlet_distribution", "dirichlet_process"}, \
                default="dirichlet_distribution"
            What q(weights) is.

        Returns
        -------
        model : VariationalGMM
            Fitted; all verbs accept it.
        """
        weights = known_weights(weight_concentration, weight_concentration_prior_type)
        K = len(weights.mean)
        means = checked_array(means, (K, None), "means")
        emission = known_emission(
            covariance_type, means, mean_precision, degrees_of_freedom, covariances
        )
        return cls._from_state(
            MixtureState(weights, emission),
            n_components=K,
            covariance_type=covariance_type,
            weight_concentration_prior_type=weight_concentration_prior_type,
        )
