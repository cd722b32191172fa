"""How columns of a Boltzmann machine are trained: what they share, codes and counts."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from .emissions.base import OutsideSupport
from .emissions.categorical import MOST, prior_shares
from .emissions.cells import first_cells
from .inference.contrastive import Weights
from .inference.fantasies import Cells, Counts
from .inference.moments import column_moments
from .rbm_cells import CategoricalUnits, CellUnits, by_column, of_cells, softmax
from .rbm_counts import PoissonUnits
from .rbm_machine import BoltzmannMachine

LEAST = 1e-3  # rows of a cell without any, where annealing begins


class Columns:
    """How columns are trained that nothing standardises."""

    log_floor: ClassVar[float] = 0.0  # of a log variance; there is none
    largest: ClassVar[float] = np.inf  # weight

    def units(self, X, weight):
        """Location and scale of each column."""
        return np.zeros(X.shape[1]), np.ones(X.shape[1])

    def units_like(self, machine, x):
        """The same of a machine, without rows, from means (n, d) of x given draws of h."""
        return np.zeros(x.shape[1]), np.ones(x.shape[1])

    def log_prior(self, weights):
        """Of inputs at h = 1/2, besides the prior of W, and its slope in them: -> float, (d,)."""
        return 0.0, 0.0

    def misfit(self, X, share):
        """By how much the stop of the exact solver must be finer than the objective is large."""
        return 1.0

    def climbed(self, weights):
        """Weights as the exact solver moves them: -> Weights."""
        return weights

    def natural(self, climbed):
        """Back again: -> Weights."""
        return climbed

    def climbed_slopes(self, climbed, slopes):
        """Slopes in what the exact solver moves, of those in the weights: -> Weights."""
        return slopes

    def curvature(self, weights):
        """About how large second derivatives are: a number, or Weights of them."""
        return Weights(*map(np.ones_like, weights))

    def standardise(self, machine, location, scale):
        """Weights of a machine, as training sees them."""
        return Weights(machine.b, machine.c, machine.W, np.empty(0))


@dataclass(frozen=True)
class CategoricalColumns(Columns):
    """How codes are trained: as cells, which begin with prior rows like all rows."""

    cells: CategoricalUnits

    learning_rate: ClassVar[float] = 0.1

    @classmethod
    def of(cls, X, weight):
        """Cells for the codes that rows have, and one for others in each column."""
        CategoricalUnits(np.zeros(X.shape[1], int), True, np.empty(0)).check(X)
        highest = np.fmax.reduce(X, axis=0)
        if highest.max() >= MOST:
            raise OutsideSupport(
                f"visible='categorical': a code of {highest.max():g} is no position among "
                "categories; encode them first, with OrdinalEncoder for example",
                np.flatnonzero(highest >= MOST),
            )
        units = CategoricalUnits(highest.astype(int) + 2, True, np.empty(0))
        counts = weight @ np.nan_to_num(units.read(X))
        by_code = np.split(counts, first_cells(units.sizes)[1:])
        return cls(replace(units, prior=np.concatenate([prior_shares(n) for n in by_code])))

    @classmethod
    def like(cls, machine):
        """As a machine has it."""
        return cls(machine.units)

    def read(self, X):
        return self.cells.read(X)

    def start(self, X, weight, W):
        """Biases at which the mean of h = 1/2 gives the mean of the rows, smoothed."""
        return Weights(self.base(X, weight) - 0.5 * W.sum(axis=0), np.zeros(len(W)), W, np.empty(0))

    def base(self, X, weight):
        """Inputs of independent columns: (cells,)."""
        return np.log(weight @ np.nan_to_num(X) + np.maximum(self.cells.prior, LEAST))

    def log_prior(self, weights):
        """Prior rows of each column, told by what the column is at h = 1/2."""
        a = weights.b + 0.5 * weights.W.sum(axis=0)
        prior, sizes = self.cells.prior, self.cells.sizes
        weight = of_cells(by_column(np.add, prior, sizes), sizes)
        value = prior @ a - weight @ self.cells.log_sum(a)
        return float(value), prior - weight * softmax(a, sizes)

    def machine(self, weights, location=0.0, scale=1.0):
        return BoltzmannMachine(self.cells, weights.b, weights.c, weights.W)

    def plain(self, weights):
        """The machine of the rows that training sees."""
        units = CellUnits(self.cells.sizes, self.cells.is_open, self.cells.prior)
        return BoltzmannMachine(units, weights.b, weights.c, weights.W)

    def sampler(self, rng):
        return Cells(rng, self.cells, self.log_prior)


@dataclass(frozen=True)
class PoissonColumns(Columns):
    """How counts are trained: about their mean, with steps that know how large they are."""

    origin: np.ndarray  # (d,)
    variance: np.ndarray  # (d,) at least 1: it makes first weights comparable
    highest: np.ndarray  # (d,) count seen

    learning_rate: ClassVar[float] = 0.1
    largest: ClassVar[float] = 10.0  # no bit changes a rate by more than the factor exp(10)

    @classmethod
    def of(cls, X, weight):
        """Centred at the mean of the rows."""
        PoissonUnits(np.zeros(X.shape[1])).check(X)
        mean, variance = column_moments(X, weight)
        return cls(mean, np.maximum(variance, 1.0), np.fmax.reduce(X, axis=0))

    @classmethod
    def like(cls, machine):
        """As a machine has it, its rates at h = 1/2 in place of what rows say."""
        rate = np.exp(machine.visible_input(np.full(machine.n_latents, 0.5)))
        return cls(machine.units.origin, np.maximum(rate, 1.0), rate)

    @property
    def counts(self):
        return PoissonUnits(self.origin)

    def read(self, X):
        return self.counts.read(X)

    def _sides(self, climbed):
        """Inputs with each bit 1 and 0, the others at 1/2: (q, d), (q, d)."""
        half = 0.5 * climbed.W
        return climbed.b + half, climbed.b - half

    def _middle(self, weights, sign):
        return weights._replace(b=weights.b + sign * 0.5 * weights.W.sum(axis=0))

    def _odds(self, weights, climbed, sign):
        """Hidden biases with, or without, the log Z that a bit's two sides of rates would bring."""
        one, zero = map(self.counts.log_sum, self._sides(climbed))
        return weights._replace(c=weights.c + sign * (one - zero).sum(axis=1))

    def climbed(self, weights):
        """Inputs at h = 1/2, and log odds of each bit with its effect on log Z.

        The probability of a state of h has rates in its exponent, so biases of bits must follow the
        rates closely; here they may stay.
        """
        middle = self._middle(weights, 1)
        return self._odds(middle, middle, 1)

    def natural(self, climbed):
        return self._middle(self._odds(climbed, climbed, -1), -1)

    def climbed_slopes(self, climbed, slopes):
        one, zero = map(self.counts.drive_mean, self._sides(climbed))
        b = slopes.b - slopes.c @ (one - zero)
        W = slopes.W - 0.5 * slopes.b - 0.5 * slopes.c[:, None] * (one + zero)
        return slopes._replace(b=b, W=W)

    def curvature(self, weights):
        rate = np.maximum(self.origin, 0.1)
        ones = Weights(*map(np.ones_like, weights))
        return ones._replace(b=rate, c=0.25 * ones.c, W=0.25 * rate * ones.W)

    def start(self, X, weight, W):
        """Biases at which the mean of h = 1/2 gives the mean of the rows."""
        W = W / np.sqrt(self.variance)
        return Weights(self.base(X, weight) - 0.5 * W.sum(axis=0), np.zeros(len(W)), W, np.empty(0))

    def base(self, X, weight):
        """Inputs of independent columns: (d,)."""
        return np.log(column_moments(X, weight)[0])

    def misfit(self, X, share):
        """Nats that independent columns lack: with large counts so many that a share of them, at
        which a climb may stop, would be nats too."""
        x, a, units = np.nan_to_num(X), self.base(X, share), self.counts
        log_p = units.log_base(x) + units.drive(x) * a - units.log_sum(a)
        return max(1.0, -float(share @ np.where(np.isnan(X), 0.0, log_p).sum(axis=1)))

    def machine(self, weights, location=0.0, scale=1.0):
        return BoltzmannMachine(self.counts, weights.b, weights.c, weights.W)

    plain = machine

    def sampler(self, rng):
        return Counts(rng, self.origin, self.highest, self.largest)
