"""Gaussian mixtures from different starts averaged into one: a density that needs no choice."""

import warnings
from dataclasses import dataclass, replace
from numbers import Integral

import numpy as np

from ._compat import Interval, Real, StrOptions, _fit_context
from .base import all_or_nothing, fitted
from .emissions.gaussian import Gaussians
from .emissions.simplex import Point
from .inference.em import em
from .inference.history import FitInterrupted, Run
from .mixture import GaussianMixture
from .mixture_state import MixtureState
from .mixture_verbs import GaussianVerbs, MixtureVerbs
from .validation import read_training_data

ROWS_PER_COMPONENT = 5  # a member has no more components than a fifth of the rows' weight
SEPARATE = ("diag", "full", "spherical")  # structures in which each component has its own matrix


@dataclass(frozen=True)
class EnsembleState(MixtureState):
    """Several mixtures as one whose components are those of all members."""

    sizes: tuple = ()  # number of components of each member

    @classmethod
    def of(cls, members):
        """Equal shares of mixtures of one structure."""
        weights = np.concatenate([state.weights.mean for state in members]) / len(members)
        means = np.concatenate([state.emission.means for state in members])
        first = members[0].emission.cov
        compact = np.concatenate([state.emission.cov.compact for state in members])
        flat = replace(first.penalty, scale=np.zeros(2 * means.shape[1:]))
        cov = replace(type(first).expand(compact, *means.shape, flat), penalty=first.penalty)
        sizes = tuple(len(state.weights.mean) for state in members)
        return cls(Point(weights), Gaussians(means, cov), sizes)

    @property
    def members(self):
        """The mixtures that are averaged."""
        ends = np.cumsum(self.sizes)
        parts = [self.take(np.arange(end - size, end)) for size, end in zip(self.sizes, ends)]
        return [replace(p, weights=Point(p.weights.mean * len(self.sizes))) for p in parts]

    def refitted(self, X, weight, **settings):
        """The members, climbed on to maxima over other rows: -> list of Run."""
        return [
            em(member, (X, weight), accelerate="squarem", **settings) for member in self.members
        ]

    @property
    def n_parameters(self):
        """The shares of the members are given, so their weights have as many sums to keep."""
        return super().n_parameters - (len(self.sizes) - 1)


class GaussianMixtureEnsemble(GaussianVerbs, MixtureVerbs):
    """Average of Gaussian mixtures from different starts: a density that needs no choice.

    p(x) = mean over members m of p_m(x), where p_m is a `GaussianMixture` with a start of its own.
    The average is itself one Gaussian mixture, with the components of all members, so every verb is
    exact. It is smoother than any member, forgives a bad start, and its log density of any row is
    never below the mean of the members' (Jensen's inequality).

    With `n_companions` = c > 0, p_m is the density of a row *given that c more rows, drawn
    independently, come from the component that it comes from*: weights pi_k become
    pi_k^(1 + c) / sum_j pi_j^(1 + c). Rows of small groups lose density and rows of large ones keep
    it. That is what an outlier detector wants of training rows that hold groups of anomalies. With
    `largest_group` = s a component of that share counts as large enough, and more is no merit:
    weights become proportional to pi_k min(pi_k, s)^c.

    With `reach` = r every matrix S_k becomes (S_k^-1 + diag(1 / (r sd_j)^2))^-1, where sd_j is the
    standard deviation of column j in the member: a component times a Gaussian that reaches r
    standard deviations of the columns to all sides of its mean. Short axes stay as they are, long
    ones, which a few odd rows have stretched, shrink.

    Parameters
    ----------
    n_components : int, default=75
        Number of components of all members together, shared out evenly. On few rows the members
        have fewer, at least 1: each at most a fifth of their total weight.
    n_members : int, default=5
        Number of mixtures; at most `n_components`.
    n_companions : int, default=0
        How many further rows must share the component of a row; 0 is the density of the rows.
    largest_group : float in (0, 1], default=1.0
        The share of the rows from which on a component needs no more companions.
    reach : float, default=inf
        How far components reach at most, in standard deviations of the columns; inf leaves them as
        fitted.
    covariance_type : {"full", "diag", "spherical"}, default="full"
        Structure of the covariance matrices.
    tol : float, default=1e-2
        Each member stops when the gain still to come, extrapolated, is below tol nats per unit
        weight. Averages need no more.
    reg_covar : float, default=0.0
        Absolute ridge of each member, in squared units of X.
    covariance_prior : "auto" or float, default="auto"
        Pseudo-observations of the pooled covariance that each matrix gets; see `GaussianMixture`.
    max_iter : int, default=1000
        Largest number of passes over the rows, for each member.
    n_init : int, default=1
        Starts of each member.
    random_state : int, RandomState instance or None, default=None
        Randomness of the starts.
    n_jobs : int or None, default=None
        Threads that share the blocks of rows.
    verbose : int, default=0
        Print progress.
    verbose_interval : int, default=10
        Iterations between prints.

    Attributes
    ----------
    weights_ : ndarray of shape (n_all,)
        Mixing proportions of the components of all members, member by member; n_all is the sum of
        the members' numbers of components.
    means_ : ndarray of shape (n_all, n_features)
        Means, in the units of X.
    covariances_ : ndarray
        (n_all, n_features, n_features) for "full", (n_all, n_features) for "diag", (n_all,) for
        "spherical"; zeros for constant columns.
    sizes_ : tuple of int
        Number of components of each member.
    history_ : ndarray of shape (n_iter_ + 1,)
        Mean of the members' objectives after each iteration, nats per unit weight.
    n_iter_, converged_, n_parameters_, score_kind_, base_measure_
        The same in every model.

    Raises
    ------
    ValueError
        For anything but finite numbers and NaN, for columns without any entry, for rows of total
        weight less than 2.

    See Also
    --------
    GaussianMixture : one member.
    DensityOutlierDetector, LatentImputer : what this is the default of.

    References
    ----------
    Ormoneit & Tresp (1996), Improved Gaussian mixture density estimates using Bayesian penalty
    terms and network averaging. Smyth & Wolpert (1999), Linearly combining density estimators via
    stacking.

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import GaussianMixtureEnsemble
    >>> angle = np.random.default_rng(0).uniform(0, np.pi, 300)
    >>> X = np.column_stack([np.cos(angle), np.sin(angle)])  # half a circle
    >>> model = GaussianMixtureEnsemble(random_state=0).fit(X)
    >>> model.impute([[0.0, np.nan], [1.0, np.nan]]).round(1)
    array([[0. , 1. ],
           [1. , 0.2]])
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "n_members": [Interval(Integral, 1, None, closed="left")],
        "n_companions": [Interval(Integral, 0, None, closed="left")],
        "largest_group": [Interval(Real, 0.0, 1.0, closed="right")],
        "reach": [Interval(Real, 0.0, None, closed="right")],
        "covariance_type": [StrOptions(set(SEPARATE))],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "reg_covar": [Interval(Real, 0.0, None, closed="left")],
        "covariance_prior": [StrOptions({"auto"}), Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "n_jobs": [None, Integral],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components=75,
        *,
        n_members=5,
        n_companions=0,
        largest_group=1.0,
        reach=np.inf,
        covariance_type="full",
        tol=1e-2,
        reg_covar=0.0,
        covariance_prior="auto",
        max_iter=1000,
        n_init=1,
        random_state=None,
        n_jobs=None,
        verbose=0,
        verbose_interval=10,
    ):
        self.n_components = n_components
        self.n_members = n_members
        self.n_companions = n_companions
        self.largest_group = largest_group
        self.reach = reach
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.covariance_prior = covariance_prior
        self.max_iter = max_iter
        self.n_init = n_init
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.verbose_interval = verbose_interval

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Fit every member by expectation-maximisation, and average them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries, which are integrated out exactly.
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Counts: an integer weight equals repeating the row.

        Returns
        -------
        self : object
        """
        data = read_training_data(self, X, sample_weight)
        largest = max(1, int(data.weight.sum()) // ROWS_PER_COMPONENT)
        sizes = np.minimum(member_sizes(self.n_components, self.n_members), largest)
        members = [self._member(int(size)) for size in sizes]
        run = self._drive(lambda: self._fit_members(members, data), data)
        return self._finish(run, data)

    def _member(self, size):
        """A mixture of this size, told the rest of what the ensemble was told."""
        told = {**self.get_params(deep=False), "n_components": size, "split_merge": False}
        told["accelerate"] = None  # leaps pay near the maximum; a loose tol stops long before
        for name in ("n_members", "n_companions", "largest_group", "reach"):
            del told[name]
        return GaussianMixture(**told)

    def _fit_members(self, members, data):
        """Members one after the other; an interruption keeps those that are done."""
        rng, done, rows = self._rng(), [], np.ascontiguousarray(data.X)
        try:
            for member in members:
                member.set_params(random_state=int(rng.integers(2**31 - 1)))
                with warnings.catch_warnings():  # the ensemble says so once, for all of them
                    warnings.filterwarnings("ignore", message="GaussianMixture did not converge")
                    member.fit(rows, sample_weight=data.weight)
                done.append(member.run_)
        except KeyboardInterrupt as stop:
            if not done and isinstance(stop, FitInterrupted):
                done = [stop.run]
            if not done:
                raise
            raise FitInterrupted(self._average(done)._replace(converged=False)) from None
        return self._average(done)

    def _average(self, runs):
        return average([run._replace(state=self._shaped(run.state)) for run in runs])

    def _shaped(self, member):
        """What the average takes of a member: large components, no farther than they may reach."""
        weights = _shared(member.weights.mean, self.n_companions, self.largest_group)
        cov = member.emission.cov.narrowed(self.reach**2 * _variances(member))
        return replace(member, weights=Point(weights), emission=replace(member.emission, cov=cov))

    def _refit(self, X, weight):
        settings = {"max_iter": self.max_iter, "tol": self.tol}
        return self._average(self.run_.state.refitted(X, weight, **settings))

    @property
    def _derived(self):
        return GaussianMixture

    def _params_of(self, state, kept):
        return {"n_components": state.n_latents, "covariance_type": self.covariance_type}

    @fitted
    def sizes_(self):
        """Number of components of each member."""
        return self.run_.state.sizes

    @classmethod
    def from_parameters(cls, *, weights, means, covariances, sizes=None, covariance_type="full"):
        """A fitted ensemble of known parameters.

        Parameters
        ----------
        weights : array-like of shape (n_all,)
            Mixing proportions: non-negative, with sum 1.
        means : array-like of shape (n_all, n_features)
            Means.
        covariances : array-like
            In the shape that `covariance_type` has in `covariances_`.
        sizes : sequence of int, default=None
            Number of components of each member, with sum n_all; None is one member.
        covariance_type : {"full", "diag", "spherical"}, default="full"
            Structure of the covariance matrices.

        Returns
        -------
        model : GaussianMixtureEnsemble
            Fitted; all verbs accept it.
        """
        if covariance_type not in SEPARATE:
            raise ValueError(f"covariance_type must be one of {SEPARATE}, got {covariance_type!r}")
        whole = GaussianMixture.from_parameters(
            weights=weights, means=means, covariances=covariances, covariance_type=covariance_type
        ).state_
        sizes = (whole.n_latents,) if sizes is None else tuple(int(size) for size in sizes)
        if min(sizes, default=0) < 1 or sum(sizes) != whole.n_latents:
            raise ValueError(f"sizes must be positive with sum {whole.n_latents}, got {sizes}")
        state = EnsembleState(whole.weights, whole.emission, sizes)
        told = {"n_components": sum(sizes), "n_members": len(sizes)}
        return cls._from_state(state, covariance_type=covariance_type, **told)


def member_sizes(total, n_members):
    """Components shared out evenly, at least one to each: -> (n_members,), sum total."""
    n_members = min(n_members, total)
    return np.diff(np.arange(n_members + 1) * total // n_members)


def average(runs):
    """One run of the average of its members; those that ended early stay where they ended."""
    longest = max(run.n_iter for run in runs)
    history = [np.pad(run.history, (0, longest - run.n_iter), mode="edge") for run in runs]
    state = EnsembleState.of([run.state for run in runs])
    converged = all(run.converged for run in runs)
    return Run(state, np.mean(history, axis=0), converged, longest)


def _shared(weights, n_companions, largest_group):
    """p(component given that this many further rows came from it, too): (K,) -> (K,)."""
    enough = np.minimum(weights, largest_group)
    shared = weights * (enough / enough.max()) ** n_companions
    return shared / shared.sum()


def _variances(state):
    """Of each column under a mixture: (d,)."""
    weights, means = state.weights.mean, state.emission.means
    within = np.diagonal(state.emission.cov.dense(), axis1=1, axis2=2)
    return weights @ (within + (means - weights @ means) ** 2)
