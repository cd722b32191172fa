"""How a Boltzmann machine is fitted: exact slopes where a layer is small, else contrasts."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from scipy.special import expit

from .inference.blocks import blocks
from .inference.contrastive import Bits, Normals, Weights
from .inference.moments import column_moments
from .numerics.binary import softplus
from .rbm_columns import Columns
from .rbm_machine import BoltzmannMachine
from .rbm_sums import HiddenSum, Statistics, nothing_seen
from .rbm_units import BernoulliUnits, GaussianUnits

START = 0.1  # standard deviation of the first weights, for standardised columns


@dataclass(frozen=True)
class BernoulliColumns(Columns):
    """How bits are trained: as they are."""

    threshold: "np.ndarray | None" = None
    levels: "np.ndarray | None" = None

    learning_rate: ClassVar[float] = 0.1

    def read(self, X):
        """Rows as bits."""
        return BernoulliUnits(self.threshold).read(X)

    def start(self, X, weight, W):
        """Biases at which the mean of h = 1/2 gives the mean of the rows, smoothed."""
        b = self.base(X, weight)
        return Weights(b - 0.5 * W.sum(axis=0), np.zeros(len(W)), W, np.empty(0))

    def base(self, X, weight):
        """Inputs of independent columns, standardised: (d,)."""
        ones, count = weight @ np.nan_to_num(X), weight @ ~np.isnan(X)
        return np.log(ones + 0.5) - np.log(count - ones + 0.5)

    def machine(self, weights, location=0.0, scale=1.0):
        units = BernoulliUnits(self.threshold, self.levels)
        return BoltzmannMachine(units, weights.b, weights.c, weights.W)

    def plain(self, weights):
        """The machine of the rows that training sees."""
        return BoltzmannMachine(BernoulliUnits(), weights.b, weights.c, weights.W)

    def sampler(self, rng):
        return Bits(rng)


@dataclass(frozen=True)
class GaussianColumns(Columns):
    """How Gaussian columns are trained: standardised."""

    noise_floor: float

    learning_rate: ClassVar[float] = 0.02

    @property
    def log_floor(self):
        """Of the log variance given h."""
        return 2 * np.log(self.noise_floor)

    def read(self, X):
        return X

    def units(self, X, weight):
        mean, variance = column_moments(X, weight)
        return mean, np.sqrt(variance)

    def units_like(self, machine, x):
        """The scale is none at which the noise of the machine would lie below its floor."""
        noise = machine.units.scale
        scale = np.sqrt(noise**2 + x.var(axis=0))
        return x.mean(axis=0), np.minimum(scale, noise / self.noise_floor)

    def start(self, X, weight, W):
        """The mean of h = 1/2 gives the mean of the rows, 0; nearly all variance is noise."""
        return Weights(-0.5 * W.sum(axis=0), np.zeros(len(W)), W, np.full(W.shape[1], -0.1))

    def base(self, X, weight):
        return np.zeros(X.shape[1])

    def machine(self, weights, location=0.0, scale=1.0):
        spread = np.exp(0.5 * weights.log_variance) * scale
        units = GaussianUnits(np.broadcast_to(location, spread.shape).astype(float), spread)
        return BoltzmannMachine(units, weights.b * scale, weights.c, weights.W * scale)

    plain = machine

    def standardise(self, machine, location, scale):
        units = machine.units
        moved = (units.origin - location) / scale  # where the hidden biases are meant
        c = machine.c - machine.W @ ((units.origin - location) / units.scale**2)
        log_variance = 2 * np.log(units.scale / scale)
        return Weights(machine.b / scale + moved, c, machine.W / scale, log_variance)

    def sampler(self, rng):
        return Normals(rng, self.log_floor)


class Layout(NamedTuple):
    """Weights as one vector, for L-BFGS."""

    d: int
    q: int
    gaussian: bool

    def pack(self, weights):
        return np.concatenate([np.ravel(array) for array in weights])

    def bounds(self, log_floor, largest=np.inf):
        """Lower and upper ones: variances have a floor, weights a largest size."""
        free = np.full(self.d + self.q, np.inf)
        weights = np.full(self.d * self.q, largest)
        upper = np.concatenate([free, weights, np.full(self.d * self.gaussian, np.inf)])
        lower = -upper
        lower[len(lower) - self.d * self.gaussian :] = log_floor
        return lower, upper

    def unpack(self, vector):
        d, q = self.d, self.q
        b, c, W, log_variance = np.split(vector, [d, d + q, d + q + d * q])
        return Weights(b, c, W.reshape(q, d), log_variance)


def statistics(machine, X, weight):
    """Weighted sums over rows of log p*(x_seen) and its derivatives."""
    total = None
    for rows in blocks(len(X)):
        seen, w = machine.seen(X[rows]), weight[rows]
        whole = seen.mask.all(axis=1)
        for part, answer in ((whole, _complete), (~whole, _partial)):
            if part.any():
                found = answer(machine, seen.take(part), w[part])
                total = found if total is None else total + found
    return total


def _partial(machine, rows, weight):
    return HiddenSum(machine).statistics(rows, weight)


def _complete(machine, rows, weight):
    hidden = machine.hidden_input(rows.drive)
    P = expit(hidden)
    slope = machine.units.scale_slope(rows.x, rows.mask, machine.visible_input(P), 0.0)
    value = rows.base + rows.drive @ machine.b + softplus(hidden).sum(axis=1)
    weighted = weight[:, None] * P
    return Statistics(
        float(weight @ value),
        weight @ rows.drive,
        weighted.sum(axis=0),
        weighted.T @ rows.drive,
        weight @ slope if slope.ndim == 2 else slope,
    )


def model_statistics(machine):
    """log Z and its derivatives, by counting the states of the smaller layer."""
    bits = isinstance(machine.units, BernoulliUnits)
    if not bits or machine.n_latents <= machine.n_features:
        return HiddenSum(machine).statistics(nothing_seen(machine), np.ones(1))
    turned = machine.transposed()
    found = HiddenSum(turned).statistics(nothing_seen(turned), np.ones(1))
    return found._replace(b=found.c, c=found.b, W=found.W.T)


def exact_objective(columns, layout, X, share, decay, pseudo=0.0):
    """vector -> (value, slope) of the mean log-likelihood with the priors, `pseudo` times one."""

    def value_and_gradient(vector):
        climbed = layout.unpack(vector)
        weights = columns.natural(climbed)
        machine = columns.plain(weights)
        gap = statistics(machine, X, share) - model_statistics(machine)
        prior, pull = columns.log_prior(weights)
        value = gap.value - 0.5 * decay * np.sum(weights.W**2) + pseudo * prior
        W = gap.W - decay * weights.W + 0.5 * pseudo * pull
        slopes = Weights(gap.b + pseudo * pull, gap.c, W, gap.log_variance)
        return value, layout.pack(columns.climbed_slopes(climbed, slopes))

    return value_and_gradient


def first_weights(columns, training, q, rng):
    """Small random weights about independent columns."""
    W = START * rng.standard_normal((q, training.X.shape[1]))
    return columns.start(training.X, training.weight, W)
