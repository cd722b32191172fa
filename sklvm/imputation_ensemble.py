"""Gaussian mixtures of the columns and of their normal scores, averaged to fill in gaps."""

import warnings
from dataclasses import dataclass
from numbers import Integral

import numpy as np

from ._compat import Interval, Real, StrOptions, _fit_context
from .base import all_or_nothing, fitted
from .emissions.dense import Full
from .emissions.mapped import Beside, Mapped
from .emissions.simplex import Point
from .ensemble import EnsembleState, GaussianMixtureEnsemble, average
from .inference.history import FitInterrupted, Run
from .mixture_state import MixtureState
from .mixture_verbs import DiscreteVerbs
from .numerics.column_maps import ColumnMaps
from .validation import read_training_data

PRIOR_SHARE = 0.25  # of the pseudo-observations that a mixture gets: gaps want more detail


@dataclass(frozen=True)
class PooledState(MixtureState):
    """Mixtures of plain and of mapped columns; each fills gaps on its own, the fills are pooled.

    The emission is a `Beside` of Gaussians and `Mapped`, or of Gaussians if a fit was cut off.
    """

    sizes: tuple[tuple, ...] = ()  # number of components of each member, plain and mapped

    @classmethod
    def of(cls, sides, maps):
        """Ensembles of plain and, for each of maps, of mapped columns; members share evenly."""
        n_members = sum(len(side.sizes) for side in sides)
        weights = [side.weights.mean * len(side.sizes) / n_members for side in sides]
        plain, *mapped = (side.emission for side in sides)
        emission = Beside((plain, *map(Mapped, mapped, maps)))
        return cls(Point(np.concatenate(weights)), emission, tuple(side.sizes for side in sides))

    @property
    def sides(self):
        """The ensembles of plain columns, and of mapped ones in the coordinates of the maps."""
        plain, *mapped = self.emission.parts
        weights = np.split(self.weights.mean, [len(plain.means)])
        emissions = (plain, *(part.gaussians for part in mapped))
        return tuple(
            EnsembleState(Point(weight / weight.sum()), emission, sizes)
            for weight, emission, sizes in zip(weights, emissions, self.sizes)
        )

    def pool(self, X):
        """p(z = k | x_seen) within each member, the members with equal shares: (n, d) -> (n, K)."""
        joint, sizes = self.joint(X), np.array(sum(self.sizes, ()))
        starts = np.cumsum(sizes) - sizes
        each = np.repeat(np.arange(len(sizes)), sizes)
        resp = np.exp(joint - np.maximum.reduceat(joint, starts, axis=1)[:, each])
        return resp / (np.add.reduceat(resp, starts, axis=1)[:, each] * len(sizes))

    def fill_mean(self, X):
        return np.einsum("nk,nkd->nd", self.pool(X), self.emission.complete(X))

    def fill_mode(self, X):
        return self.sides[0].fill_mode(X)

    def fill_sample(self, X, rng):
        cumulative = np.cumsum(self.pool(X), axis=1)[:, :-1]
        z = (cumulative <= rng.uniform(size=(len(X), 1))).sum(axis=1)
        return self.emission.complete_sample(X, z, rng)

    def predictive(self):
        return self

    @property
    def n_parameters(self):
        """The shares of the members are given, so their weights have as many sums to keep."""
        return super().n_parameters - (sum(map(len, self.sizes)) - 1)


class ImputationEnsemble(DiscreteVerbs):
    """Gaussian mixtures of the columns and of their normal scores: made to fill in what is missing.

    Half of the members are Gaussian mixtures of the columns as they are, half of their normal
    scores: each column goes through an increasing, piecewise linear map that makes it about normal,
    so skewed, heavy-tailed and bounded columns need no components of their own. A member of either
    kind is a density of a row in the units of X, and says exactly what a missing entry is expected
    to be given the seen ones. The members' answers are averaged, each with the same weight: the
    squared error of an average is at most the average of the squared errors.

    Parameters
    ----------
    n_components : int, default=75
        Number of components of all members of one kind together, shared out evenly. On few rows the
        members have fewer, at least 1: each at most a fifth of their total weight.
    n_members : int, default=5
        Number of mixtures of either kind; at most `n_components`.
    tol : float, default=1e-2
        Each member stops when the gain still to come, extrapolated, is below tol nats per unit
        weight. Averages need no more.
    covariance_prior : "auto" or float, default="auto"
        Pseudo-observations of the pooled covariance that each matrix gets; "auto" is a quarter of
        those of `GaussianMixture`.
    max_iter : int, default=1000
        Largest number of passes over the rows, for each member.
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
        Mixing proportions of the components of all members, member by member, those of plain
        columns first; n_all is the sum of the members' numbers of components.
    means_ : ndarray of shape (n_all, n_features)
        E[x | z = k], in the units of X.
    n_components_ : int
        Number of components of all members of both kinds.
    sizes_ : tuple of two tuples of int
        Number of components of each member: of the columns, and of their scores.
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
    LatentImputer : What this is the default of.
    GaussianMixtureEnsemble : One half of it.

    Notes
    -----
    `score_samples` is the log of the members' average density. `impute` averages the members'
    *conditional* distributions, each with the same weight, where the conditional of that one
    density would weigh the members by how probable they find what is seen. ``how="sample"`` draws
    a member, then from its conditional. ``how="mode"`` is the joint mode of the mixtures of plain
    columns alone: the densities of the others have edges, where the maps bend.

    A map goes through the normal scores of up to 12 values or quantiles of its column, and straight
    on beyond them. It changes with the units of the column as the column does. The number of
    parameters counts what a map has more than a location and a scale.

    References
    ----------
    Breiman (1996), Bagging predictors, section 4.1, for the error of averages. Liu, Lafferty &
    Wasserman (2009), The nonparanormal, for normal scores in place of columns. Ormoneit & Tresp
    (1996), Improved Gaussian mixture density estimates using Bayesian penalty terms and network
    averaging.

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import ImputationEnsemble
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(500, 1)) + 0.3 * rng.normal(size=(500, 2))
    >>> model = ImputationEnsemble(random_state=0).fit(np.exp(z))  # two skewed columns
    >>> model.impute([[1.0, np.nan], [np.nan, 5.0]]).round(1)
    array([[1. , 1. ],
           [5.2, 5. ]])
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "n_members": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "covariance_prior": [StrOptions({"auto"}), Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
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
        tol=1e-2,
        covariance_prior="auto",
        max_iter=1000,
        random_state=None,
        n_jobs=None,
        verbose=0,
        verbose_interval=10,
    ):
        self.n_components = n_components
        self.n_members = n_members
        self.tol = tol
        self.covariance_prior = covariance_prior
        self.max_iter = max_iter
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.verbose_interval = verbose_interval

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Fit every member by expectation-maximisation.

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
        run = self._drive(lambda: self._fit_sides(data), data)
        return self._finish(run, data)

    def _fit_sides(self, data):
        """The mixtures of the columns, then those of their scores; an interruption keeps both."""
        rng, maps, done = self._rng(), [ColumnMaps.of(data.X, data.weight)], []
        try:
            for rows in _coordinates(data.X, maps):
                side = self._side(rows.shape[1], int(rng.integers(2**31 - 1)))
                with warnings.catch_warnings():  # the whole says so once, for both
                    warnings.filterwarnings("ignore", message=f"{type(side).__name__} did not conv")
                    done.append(side.fit(rows, sample_weight=data.weight).run_)
        except KeyboardInterrupt as stop:
            done += [stop.run] if isinstance(stop, FitInterrupted) else []
            if not done:
                raise
            run = _pooled(done, maps, data.X, data.weight)
            raise FitInterrupted(run._replace(converged=False)) from None
        return _pooled(done, maps, data.X, data.weight)

    def _side(self, d, seed):
        """The ensemble of one kind, d columns wide, told the rest of what this one was told."""
        told = {**self.get_params(deep=False), "random_state": seed}
        if self.covariance_prior == "auto":
            told["covariance_prior"] = PRIOR_SHARE * Full.prior_count(d, self.n_components)
        return GaussianMixtureEnsemble(**told)

    def _refit(self, X, weight):
        state, settings = self.run_.state, {"max_iter": self.max_iter, "tol": self.tol}
        maps = [part.maps for part in state.emission.parts[1:]]
        sides = zip(state.sides, _coordinates(X, maps))
        runs = [average(side.refitted(rows, weight, **settings)) for side, rows in sides]
        return _pooled(runs, maps, X, weight)

    @fitted
    def weights_(self):
        """(n_all,) mixing proportions."""
        return self._density.weights.mean

    @fitted
    def means_(self):
        """(n_all, n_features) E[x | z = k], in the units of X."""
        return self._restore(self.run_.state.emission.expectation())

    @fitted
    def n_components_(self):
        """Number of components of all members of both kinds."""
        return self.run_.state.n_latents

    @fitted
    def sizes_(self):
        """Number of components of each member: of the columns, and of their scores."""
        return self.run_.state.sizes


def _coordinates(X, maps):
    """The rows as each kind of member sees them: plain first."""
    return [X, *(one.forward(X) for one in maps)]


def _pooled(runs, maps, X, weight):
    """One run of both kinds, the objective of the scores in the units of X."""
    shifts = [0.0, *(weight @ one.log_slope(X).sum(axis=1) / weight.sum() for one in maps)]
    longest = max(run.n_iter for run in runs)
    history = [
        np.pad(run.history, (0, longest - run.n_iter), mode="edge") + log_slope
        for run, log_slope in zip(runs, shifts)
    ]
    members = [len(run.state.sizes) for run in runs]
    state = PooledState.of([run.state for run in runs], maps)
    converged = all(run.converged for run in runs)
    return Run(state, np.average(history, axis=0, weights=members), converged, longest)
