"""What mixtures share: the fit by EM."""

from contextlib import suppress
from functools import partial

import numpy as np

from ._compat import Integral, Interval, Real, StrOptions, _fit_context
from .alignment import AlignedComponents
from .base import all_or_nothing
from .emissions.family import STRUCTURES, ColumnFamily, CovarianceFamily
from .emissions.gaussian import Gaussian
from .emissions.simplex import Point
from .inference import moves
from .inference.blocks import blocks, sum_blocks, wide
from .inference.em import SHORT, em, em_from_best, evaluate
from .inference.moments import column_moments, pooled_moments
from .inference.start import (
    STARTS,
    complete_by_draw,
    representative,
)
from .inference.stream import Pooled
from .mixture_state import MixtureState
from .mixture_stream import StreamedFit
from .mixture_verbs import MixtureVerbs
from .validation import read_labels, read_training_data


def canonical_order(weights, means, n_clusters=None):
    """Descending weight rounded to 1e-6, ties by lexicographic means: -> (K,). Noise stays last."""
    noise = np.arange(len(weights)) >= (len(weights) if n_clusters is None else n_clusters)
    return np.lexsort((*means.T[::-1], -np.round(weights, 6), noise))


class BaseMixture(AlignedComponents, StreamedFit, MixtureVerbs):
    """What EM and variational mixtures share: the fit."""

    split_merge = False  # a parameter of those that polish their best start

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "init_params": [StrOptions(set(STARTS))],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "accelerate": [StrOptions({"squarem"}), None],
        "n_jobs": [None, Integral],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
    }

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None, *, labels=None):
        """Fit by expectation-maximisation over the latents and the missing entries.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries, which are integrated out exactly.
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Counts: an integer weight equals repeating the row.
        labels : array-like of shape (n_samples,) of int, default=None
            Known components of some rows, -1 where unknown.

        Returns
        -------
        self : object
        """
        labels = read_labels(labels, self.n_components)
        data = read_training_data(
            self,
            X,
            sample_weight,
            labels,
            min_weight=max(2, self.n_components),
            dtype=(np.float64, np.float32),  # each block is widened when it is its turn
        )
        family = self._family(data)
        before = self._before(data) if self._goes_on else None
        self._pooled, self._stream, self._gathered = Pooled.of(family), None, None
        run = self._drive(lambda: self._climb(data, family, before), data)
        if not self._names_components(labels):
            scale = np.sqrt(family.variance)
            means = (run.state.emission.expectation() - family.mean) / scale
            order = canonical_order(run.state.weights.size, means, run.state.n_clusters)
            run = run._replace(state=run.state.take(order), stats=run.stats.take(order))
        return self._finish(run, data)

    def _emission(self, constant):
        """The spec of what a component is, over the columns that vary: constant is (d,) bool."""
        return Gaussian()

    def _family(self, data):
        """What the rows say of the scale of the parameters."""
        spec, rows = self._emission(data.constant), (data.X, data.weight)
        moments = pooled_moments if spec.matrix else column_moments
        with self._naming_columns(data.constant):
            tally = spec.tally(*rows, sum_blocks)
        return self._family_of(spec, *moments(*rows), float(data.weight.sum()), tally)

    def _family_of(self, spec, mean, spread, weight, tally):
        if spec.matrix:
            return CovarianceFamily(*self._structure(), mean, spread, weight, tally)
        return ColumnFamily(mean, spread, weight, tally)

    def _structure(self):
        """Covariance structure, pseudo-observations of the pooled covariance, absolute ridge."""
        return STRUCTURES[self.covariance_type], self.covariance_prior, self.reg_covar

    @property
    def _goes_on(self):
        """Whether a fit starts where the last one ended."""
        return self.warm_start and "run_" in vars(self)

    def _names_components(self, labels):
        """Whether something outside the data says which component is which."""
        return labels is not None or self._goes_on

    def _broad(self, family, constant):
        """K equal components, with the penalty in place."""
        K = self.n_components
        return MixtureState(Point(np.full(K, 1 / K)), self._emission(constant).broad(family, K))

    def _climb(self, data, family, before=None):
        """The best of n_init starts, or the state before, finished on all rows."""
        rows = (data.X, data.weight) + (() if data.labels is None else (data.labels,))
        broad = self._broad(family, data.constant)
        with self._naming_columns(data.constant):
            for block in blocks(len(data.X)):
                broad.check(wide(data.X[block]))
        settings = {
            "max_iter": self.max_iter,
            "tol": self.tol,
            "accelerate": self.accelerate,
            "callback": self._progress(data),
            "n_jobs": self.n_jobs,
        }
        if before is not None:
            start = self._alike(broad, before).m_step(evaluate(before, rows).stats)
            return em_from_best([start], rows, rows, finish=self._ascent(None), **settings)
        sample = _sample(data)
        rng = self._rng()
        Z = self._comparable(sample, self._emission(data.constant), family, rng)
        starts = self._starts(sample, Z, broad, data.constant, rng)
        named = self._names_components(data.labels)
        neighbours = None if named else self._neighbours(sample, Z, broad)
        finish = self._ascent(None if named else sample)
        return em_from_best(starts, sample, rows, neighbours=neighbours, finish=finish, **settings)

    def _neighbours(self, sample, Z, broad):
        """What yields further starts near a state, or None."""
        if not self.split_merge or self.n_components < 3:
            return None
        return partial(moved, moves.exchanges, sample, Z, broad)

    def _ascent(self, sample):
        """The driver over all rows; with a sample, components may be merged."""
        return em

    def _before(self, data):
        state = self.run_.state
        K = state.n_clusters
        if self.n_components != K or not np.array_equal(data.constant, self.constant_):
            raise ValueError(
                f"warm_start goes on from {K} components over the same varying columns; got "
                f"n_components={self.n_components}: fit a fresh model"
            )
        return state

    def _alike(self, broad, before):
        """A state of this model's settings, refused where one before is of another kind."""
        now, was = _kind(broad), _kind(before)
        if now != was:
            raise ValueError(
                f"{type(self).__name__} cannot go on from {was} as {now}: put the parameters back, "
                "or fit a fresh model"
            )
        return broad

    def _comparable(self, sample, spec, family, rng):
        """Rows without gaps, of a common unit of length: (n, m)."""

        def complete(X):
            filled = self._completed(X, sample[1], spec, family, rng)
            return (filled - family.mean) / np.sqrt(family.variance)

        return spec.comparable(sample[0], family, complete)

    def _starts(self, sample, Z, broad, constant, rng):
        X, weight = sample[:2]
        for n_filled in self._filled_components():
            resp = np.zeros((len(Z), self.n_components))
            resp[:, :n_filled] = STARTS[self.init_params](Z, weight, n_filled, rng)
            if len(sample) == 3:
                resp = _respect(sample[2], weight, resp, Z)
            try:
                start = broad.start(X, broad.emission.shared(resp * weight[:, None]))
            except np.linalg.LinAlgError:
                continue  # a component of too few rows; `em_from_best` says so if no start is left
            yield self._named_start(start, constant)

    def _completed(self, X, weight, spec, family, rng):
        """Rows of the starts with a draw for each missing entry: (n, d) -> (n, d).

        From the pooled covariance, or from one component where no matrix of all features is made.
        """
        if spec.matrix:
            return complete_by_draw(X, family.mean, family.target(1), rng)
        if not np.isnan(X).any():
            return X
        one = MixtureState(Point(np.ones(1)), spec.broad(family, 1))
        start = one.start(X, weight[:, None])
        one = em(start, (X, weight), max_iter=SHORT, tol=self.tol).state
        return one.fill_sample(X, rng)

    def _filled_components(self):
        """How many components each start gives rows to."""
        n_starts = self.n_init if self.n_components > 1 else 1  # one component has one start
        return [self.n_components] * n_starts

    def _named_start(self, state, constant):
        """A start with what the user fixed of it in place, less the constant (d,) columns."""
        return state


def moved(move, sample, Z, broad, state):
    """Starts that differ from a state by one move of components."""
    for resp in move(state, *sample, Z):
        with suppress(np.linalg.LinAlgError):  # too few rows in one half: no start
            yield broad.start(sample.X, resp)


def _kind(state):
    """What a state is made of: two of a kind understand each other's statistics."""
    return f"{state.n_clusters} {state.emission.kind} ({state.n_parameters} parameters)"


def _sample(data):
    """Distinct rows that the short runs see; rows with different labels are different rows."""
    if data.labels is None:
        return representative(data.X, data.weight)
    labelled, weight = representative(np.column_stack([data.X, data.labels]), data.weight)
    return labelled[:, :-1], weight, labelled[:, -1].astype(int)


def _respect(labels, weight, resp, Z):
    """Responsibilities that hold the known labels; other rows go to the nearest centre.

    Components with a known row start at the mean of these rows; the others take over those
    starting clusters that lie farthest from any known centre.
    """
    K, known = resp.shape[1], labels >= 0
    named = np.unique(labels[known])
    held = np.eye(K)[labels[known]][:, named] * weight[known, None]
    centres = held.T @ Z[known] / held.sum(axis=0)[:, None]
    free = np.setdiff1d(np.arange(K), named)
    mass = weight @ resp
    clusters = ((resp * weight[:, None]).T @ Z)[mass > 0] / mass[mass > 0, None]
    if len(named):
        clusters = clusters[np.argsort(-_squared_distance(clusters, centres).min(axis=1))]
    centres = np.concatenate([centres, clusters[: len(free)]])
    component = np.concatenate([named, free])[: len(centres)]
    nearest = component[_squared_distance(Z, centres).argmin(axis=1)]
    return np.eye(K)[np.where(known, labels, nearest)]


def _squared_distance(A, B):
    return ((A[:, None, :] - B) ** 2).sum(axis=2)
