"""How an RBM trains: what its columns are, which solver, and where its estimates begin."""

import math

import numpy as np

from .base import fitted
from .inference.ascend import ascend
from .inference.bootstrap import drawn_states, weighted_rows
from .inference.contrastive import Contrast, contrastive
from .inference.tempering import LEAST_ACTIVE
from .inference.training_rows import TrainingRows
from .rbm_columns import CategoricalColumns, PoissonColumns
from .rbm_fit import BernoulliColumns, GaussianColumns, Layout, exact_objective
from .rbm_state import RBMState
from .rbm_sums import ENUMERABLE, Annealing
from .rbm_units import GaussianUnits
from .warn import warn_user

COLUMNS = {"categorical": CategoricalColumns, "poisson": PoissonColumns}
QUICK = 10  # bits of a layer that the exact solver counts in each step by default


class TrainedMachine:
    """The part of the estimator between validated rows and a Run."""

    _contrast_of = Contrast  # what batches of rows are
    n_temperatures = 1  # of chains, unless the model has a parameter of that name

    # -- what the columns are, as `_units` of a fitted model says ------------------------------

    @fitted
    def noise_variance_(self):
        """(n_varying_features,) variances of Gaussian columns given what is hidden, or None."""
        return self._units.scale**2 if isinstance(self._units, GaussianUnits) else None

    @fitted
    def visible_(self):
        """What the columns are."""
        return self._units.name

    @fitted
    def thresholds_(self):
        """(n_varying_features,) what is above is 1; None where X holds 0 and 1, or numbers."""
        return getattr(self._units, "threshold", None)

    @fitted
    def levels_(self):
        """(2, n_varying_features) what is shown for bits of columns that were cut, or None."""
        return getattr(self._units, "levels", None)

    # -- how they are trained ------------------------------------------------------------------

    def _columns_of(self, data, visible=None):
        """How these rows are trained; `visible` overrides the parameter."""
        visible = self.visible if visible is None else visible
        if visible in COLUMNS:
            with self._naming_columns(data.constant):
                return COLUMNS[visible].of(data.X, data.weight)
        bits = ((data.X == 0) | (data.X == 1) | np.isnan(data.X)).all()
        if visible == "gaussian" or (visible == "auto" and not bits):
            return GaussianColumns(self.noise_floor)
        if bits:
            return BernoulliColumns()
        warn_user(
            "visible='bernoulli' got values other than 0 and 1: each column is cut at the middle "
            "of its range, scores are those of the bits, and what is drawn or filled in is the "
            "mean entry of its side"
        )
        low, high = np.nanmin(data.X, axis=0), np.nanmax(data.X, axis=0)
        cut = low.astype(np.float64) / 2 + high.astype(np.float64) / 2
        sides = [data.weight[:, None] * side for side in (cut >= data.X, cut < data.X)]
        levels = [(side * np.nan_to_num(data.X)).sum(axis=0) / side.sum(axis=0) for side in sides]
        return BernoulliColumns(cut, np.array(levels))

    def _columns_like(self, machine):
        """How rows of a fitted machine are trained."""
        if isinstance(machine.units, GaussianUnits):
            return GaussianColumns(self.noise_floor)
        if machine.units.name in COLUMNS:
            return COLUMNS[machine.units.name].like(machine)
        return BernoulliColumns(machine.units.threshold, machine.units.levels)

    def _solver(self, columns, training):
        """The method that trains: (columns, training, rng, report) -> Run."""
        q, d = self.n_components, training.X.shape[1]
        bits = isinstance(columns, BernoulliColumns) and not np.isnan(training.X).any()
        smaller = min(q, d) if bits else q
        if self.solver == "exact" and smaller > ENUMERABLE:
            raise ValueError(
                f"solver='exact' counts the states of a layer of at most {ENUMERABLE} bits (the "
                f"hidden one with Gaussian columns or NaN), got {smaller}: use solver='persistent'"
            )
        exact = self.solver == "exact" or (self.solver == "auto" and smaller <= QUICK)
        return self._climb if exact else self._descend

    def _climb(self, columns, training, start, rng, report, offset=0.0):
        """L-BFGS on the exact likelihood, told with an offset: -> Run."""
        total = training.weight.sum()
        layout = Layout(training.X.shape[1], len(start.c), len(start.log_variance) > 0)
        seed = int(rng.integers(2**31))

        def state_of(vector):
            weights = columns.natural(layout.unpack(vector))
            machine = columns.machine(weights, training.location, training.scale)
            half = np.full(len(weights.c), 0.5)
            base = columns.base(training.X, training.weight) * training.scale
            return RBMState.of(machine, self._annealing(base, half[None], half, seed))

        return ascend(
            exact_objective(
                columns,
                layout,
                training.X,
                training.weight / total,
                self.weight_prior / total,
                1 / total,
            ),
            layout.pack(columns.climbed(start)),
            state_of,
            bounds=layout.bounds(columns.log_floor, columns.largest),
            max_iter=self.max_iter,
            tol=self.tol / 100 / columns.misfit(training.X, training.weight / total),
            offset=offset - training.log_jacobian(),
            curvature=layout.pack(columns.curvature(start)),
            callback=report,
        )

    def _descend(self, columns, training, start, rng, report):
        """Stochastic steps along contrasts: -> Run."""
        total = training.weight.sum()
        contrast = self._contrast(columns, training, start, self.solver != "contrastive", rng)
        base = columns.base(training.X, training.weight) * training.scale
        seed = int(rng.integers(2**31))

        def state_of(end):
            machine = columns.machine(end.weights, training.location, training.scale)
            chains = self._annealing(base, end.particles, end.hidden_mean, seed)
            return RBMState.of(machine, chains)

        return contrastive(
            contrast,
            training.weight,
            epochs=self._n_epochs(total),
            batch_size=self.batch_size,
            learning_rate=self._rate(columns),
            decay=self.weight_prior / total,
            rng=rng,
            state_of=state_of,
            callback=report,
        )

    def _contrast(self, columns, training, start, persistent, rng, base=None):
        """Batches and chains; `base` has the inputs of the hottest ones, by default the rows'."""
        quick = np.random.Generator(np.random.SFC64(int(rng.integers(2**63))))
        return self._contrast_of(
            columns.sampler(quick),
            start,
            training.X,
            training.weight,
            batch_size=min(self.batch_size, math.ceil(training.weight.sum())),
            n_chains=self.n_chains,
            n_steps=self.n_steps,
            persistent=persistent,
            rng=rng,
            n_temperatures=self.n_temperatures,
            base=columns.base(training.X, training.weight) if base is None else base,
        )

    def _rate(self, columns):
        automatic = self.learning_rate_init == "auto"
        return columns.learning_rate if automatic else self.learning_rate_init

    def _n_epochs(self, total):
        return math.ceil(self.n_updates / math.ceil(math.ceil(total) / self.batch_size))

    def _most_iterations(self, data):
        return max(self.max_iter, self._n_epochs(data.weight.sum()))

    def _annealing(self, base, particles, hidden_mean, seed):
        """Where chains begin: independent columns like the rows, active as in training."""
        mean = np.clip(hidden_mean, LEAST_ACTIVE, 1 - LEAST_ACTIVE).astype(np.float64)
        return Annealing(
            base,
            np.log(mean) - np.log1p(-mean),
            particles.astype(np.float64),
            self.n_annealing_chains,
            self.n_annealing_steps,
            seed,
            self.n_temperatures,
        )

    def _parameter_draws(self, X, n_draws, rng):
        if self.run_.state.sums.kind != "exact":
            raise ValueError("parameters='posterior' needs a model whose likelihood is exact")
        use = ~np.isnan(X).all(axis=1)
        rows = X[use]
        return drawn_states(lambda: self._refit(*weighted_rows(rows, rng), rng), n_draws)

    def _refit(self, X, weight, rng):
        """The exact solver over other rows, from the fitted weights: -> Run."""
        machine = self.run_.state.machine
        columns = self._columns_like(machine)
        training = TrainingRows.of(columns.read(X), weight, columns.units)
        start = columns.standardise(machine, training.location, training.scale)
        return self._climb(columns, training, start, rng, None)
