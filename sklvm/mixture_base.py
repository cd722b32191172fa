"""What mixtures share: the fit by EM."""

from contextlib import suppress
from functools import partial

import numpy as np

from ._compat import _fit_context
from .alignment import AlignedComponents
from .base import all_or_nothing
from .components import ComponentFit, canonical_order, sample_rows
from .emissions.simplex import Point
from .inference import moves
from .inference.blocks import blocks, wide
from .inference.em import em, em_from_best, evaluate
from .inference.stream import Pooled
from .mixture_state import MixtureState
from .mixture_stream import StreamedFit
from .mixture_verbs import MixtureVerbs
from .validation import read_labels, read_training_data


class BaseMixture(ComponentFit, AlignedComponents, StreamedFit, MixtureVerbs):
    """What EM and variational mixtures share: the fit."""

    split_merge = False  # a parameter of those that polish their best start

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
        sample = sample_rows(data)
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


def moved(move, sample, Z, broad, state):
    """Starts that differ from a state by one move of components."""
    for resp in move(state, *sample, Z):
        with suppress(np.linalg.LinAlgError):  # too few rows in one half: no start
            yield broad.start(sample.X, resp)
