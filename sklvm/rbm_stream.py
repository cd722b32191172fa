"""`partial_fit` of a Boltzmann machine: chains that go on from batch to batch."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ._compat import _fit_context
from .base import all_or_nothing, fitted, freeze
from .column_types import dtype_words
from .inference.contrastive import Weights
from .inference.history import Run
from .inference.start import spread
from .inference.training_rows import TrainingRows
from .rbm_fit import first_weights
from .rbm_state import RBMState
from .rbm_training import TrainedMachine
from .validation import TrainingData, read_rows, read_weight, telling, training_data


@dataclass(frozen=True)
class ChainStream:
    """What training knows between two batches."""

    columns: Any  # how rows are trained
    location: np.ndarray  # (d,) of the first rows, or of the model that was fitted before
    scale: np.ndarray  # (d,)
    weights: Weights
    particles: np.ndarray  # (M, q) hidden states of the chains
    hidden_mean: np.ndarray  # (q,)
    hot: np.ndarray  # (T - 1, M, q) hidden states of the chains at other temperatures
    base: np.ndarray  # (d,) inputs of independent columns like those rows
    seed: int
    n_batches: int
    n_updates: int
    total: float  # weight of all rows so far

    def units(self, X, weight):
        return self.location, self.scale


class StreamedChains(TrainedMachine):
    """Turns the stochastic solver into one that goes on, batch by batch."""

    _stream = None  # ChainStream, once a batch was seen

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None):
        """Learn from one more batch by persistent contrastive divergence, whatever the solver.

        Each call is one epoch over its rows. The step length falls as 1 / (1 + steps / n_updates).
        The first rows decide what the columns are and their units. After `fit` it goes on from
        there.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries. The first batch needs a total weight of 2.
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Counts: an integer weight equals repeating the row within the batch.

        Returns
        -------
        self : object
            `history_` holds the contrast of free energies after each batch.

        Raises
        ------
        ValueError
            Besides what `fit` refuses: rows of another width, values outside the support, and a
            column that was constant in the first rows and varies now.
        """
        fresh = "run_" not in vars(self)
        visible = visible_of(X, self.visible)
        X = read_rows(self, X, reset=fresh, dtype=self._input_dtype)
        weight = read_weight(sample_weight, X)
        if fresh:
            data = training_data(self, X, weight)
            stream = self._first_stream(data, visible)
        else:
            use = telling(X, weight)
            if not use.any():
                return self
            if self.n_components != self.run_.state.n_latents:
                raise ValueError(
                    f"partial_fit goes on with {self.run_.state.n_latents} hidden bits, but "
                    f"n_components is now {self.n_components}: use fit to begin again"
                )
            rows = self._in_support(self._still_varying(X[use]), self.run_.state, self.constant_)
            data = TrainingData(rows, weight[use], None, self.constant_, self.constant_values_)
            stream = self._stream or self._stream_of_fit()
        return self._learn(stream, data)

    @fitted
    def n_samples_seen_(self):
        """Rows that `fit` or `partial_fit` saw, counted by weight: a float."""
        return self.total_weight_

    def _first_stream(self, data, visible):
        columns, rng = self._columns_of(data, visible), self._rng()
        training = TrainingRows.of(columns.read(data.X), data.weight, columns.units)
        weights = first_weights(columns, training, self.n_components, rng)
        chains = (rng.random((self.n_chains, self.n_components)) < 0.5).astype(np.float64)
        return self._begin(columns, training, weights, chains, 0.0, rng)

    def _stream_of_fit(self):
        """From a fitted model: what a few rows say of location and scale would undo the fit."""
        state, rng = self.run_.state, self._rng()
        machine, columns = state.machine, self._columns_like(state.machine)
        chains = state.sample(self.n_chains, rng)[1]
        x = machine.units.mean(machine.visible_input(chains))
        location, scale = columns.units_like(machine, x)
        like = TrainingRows(x, np.ones(len(x)), location, scale)
        weights = columns.standardise(machine, location, scale)
        return self._begin(columns, like, weights, chains, self.total_weight_, rng)

    def _begin(self, columns, training, weights, chains, total, rng):
        return ChainStream(
            columns,
            training.location,
            training.scale,
            weights,
            chains,
            np.full(weights.c.shape, 0.5),
            np.empty((0, *chains.shape)),
            columns.base(training.X, training.weight) * training.scale,
            int(rng.integers(2**31)),
            0,
            0,
            total,
        )

    def _learn(self, stream, data):
        """One epoch over a batch."""
        rng = np.random.default_rng([stream.seed, stream.n_batches])
        columns, total = stream.columns, stream.total + float(data.weight.sum())
        rows = TrainingRows.of(columns.read(data.X), data.weight, stream.units)
        base = stream.base / stream.scale
        contrast = self._contrast(columns, rows, stream.weights, True, rng, base)
        contrast.go_on(stream.particles, stream.hidden_mean, stream.hot, total)
        points = spread(rows.weight, math.ceil(rows.weight.sum() * (1 - 1e-12)))
        batches = math.ceil(len(points) / self.batch_size)
        n_updates = stream.n_updates
        for some in np.array_split(points[rng.permutation(len(points))], batches):
            rate = self._rate(columns) / (1 + n_updates / self.n_updates)
            contrast.step(some, rate, self.weight_prior / total)
            n_updates += 1
        end = contrast.end()
        stream = replace(
            stream,
            weights=end.weights,
            particles=end.particles,
            hidden_mean=end.hidden_mean,
            hot=end.hot,
            n_batches=stream.n_batches + 1,
            n_updates=n_updates,
            total=total,
        )
        machine = columns.machine(end.weights, stream.location, stream.scale)
        chains = self._annealing(stream.base, end.particles, end.hidden_mean, stream.seed)
        state = RBMState.of(machine, chains)
        return self._report(stream, state, contrast.contrast(), data)

    def _report(self, stream, state, objective, data):
        before = [objective] if stream.n_batches == 1 else self.history_
        run = Run(state, np.append(before, objective), False, stream.n_batches)
        if self.verbose and stream.n_batches % self.verbose_interval == 0:
            print(f"{type(self).__name__} batch {stream.n_batches}: contrast {objective:.6f}")
        freeze(state)
        vars(self).update(self._fitted_attributes(run, data))
        self._stream, self.total_weight_ = stream, stream.total
        return self

    def _still_varying(self, X):
        """The columns of the density; those outside it must stay what they are."""
        constant = self.constant_
        left = X[:, constant]
        departs = ((left != self.constant_values_[constant]) & ~np.isnan(left)).any(axis=0)
        if departs.any():
            raise ValueError(
                f"columns {np.flatnonzero(constant)[departs].tolist()} were constant in the first "
                "rows and are outside the density, but vary now: start with rows in which they vary"
            )
        return self._varying(X)


def visible_of(X, visible):
    """What `visible` says, or where it is "auto" the dtypes of a DataFrame do."""
    words = set(dtype_words(X))
    if visible == "categorical" or "categorical" not in words:
        return visible
    if visible == "auto" and words <= {"categorical", "bernoulli"}:
        return "categorical"
    return refuse_categories(X, ", or give visible='categorical' the codes of all columns")


def refuse_categories(X, advice=""):
    """Categories are no numbers that bits, counts or Gaussian columns could mean."""
    if "categorical" in dtype_words(X):
        raise ValueError(
            f"X has categorical columns: make bits of them first, with OneHotEncoder{advice}"
        )
