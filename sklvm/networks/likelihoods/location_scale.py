"""Columns with a location and a scale: Gaussian, Student-t, log-normal."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np
import torch

from ...emissions.student_t import StudentT
from .base import Eta, Factors, Likelihood, Linear

LOG_2PI = math.log(2 * math.pi)
LARGEST_LOG_VARIANCE = 20.0  # in squared standard deviations of the column: far out, never overflow
DF_START, DF_LEAST, DF_MOST = 10.0, 1.0, 1000.0  # below 1 there is no mean, 1000 is a Gaussian
BEND = 4.0  # scales, beyond which a feature of a heavy-tailed column hardly grows
QUARTILES = 1.3489795003921634  # of the standard normal: the distance between them


class Noise(NamedTuple):
    """Where the raw scales are."""

    outputs: object  # positions of a column's outputs: (columns, d) -> array
    constants: object  # and of its constants
    split: object  # eta -> location, raw, the constants that are left
    whole: object  # the inverse, where no constants are left: location, raw -> eta
    pool: object  # the squared scales that a start may have: (d,) -> (d,)


def _own(columns, d):
    return np.asarray(columns)


def _twice(columns, d):
    return np.concatenate([columns, d + np.asarray(columns)])


def _none(columns, d):
    return np.arange(0)


def _one(columns, d):
    return np.arange(1)


def _by_network(eta):
    location, raw = eta.outputs.chunk(2, -1)
    return location, raw, eta.constants


def _side_by_side(location, raw):
    return Eta(torch.cat([location, raw], -1), raw.new_empty(0))


def _by_column(eta):
    d = eta.outputs.shape[-1]
    return eta.outputs, eta.constants[:d], eta.constants[d:]


def _by_all(eta):
    return eta.outputs, eta.constants[:1], eta.constants[1:]


def _as_they_are(square):
    return square


def _averaged(square):
    return np.full_like(square, square.mean())


@dataclass(frozen=True)
class GaussianLikelihood(Likelihood):
    """x_j ~ N(location_j, floor^2 + exp(raw_j)), in standardised units.

    Without the floor the likelihood has no upper bound (Mattei & Frellsen 2018). `variance` says
    whether raw is one number per "column", an output of the "network", or "shared" by all columns.
    """

    variance: str = "column"
    floor: float = 1e-2  # standard deviations of the column

    name: ClassVar[str] = "gaussian"
    NOISES: ClassVar[dict] = {
        "column": Noise(_own, _own, _by_column, Eta, _as_they_are),
        "network": Noise(_twice, _none, _by_network, _side_by_side, _as_they_are),
        "shared": Noise(_own, _one, _by_all, Eta, _averaged),
    }

    @property
    def noise(self):
        """What `variance` stands for."""
        return self.NOISES[self.variance]

    @property
    def solver(self):
        return "principal" if self.variance == "shared" else "factors"

    def outputs(self, columns, d):
        return self.noise.outputs(columns, d)

    def constants(self, columns, d):
        return self.noise.constants(columns, d)

    def units(self, line, weight, mean, variance):
        return mean, np.sqrt(variance)

    def moments(self, eta):
        """Location and squared scale: each (..., d), or what broadcasts to it."""
        location, raw, _ = self.noise.split(eta)
        return location, self.floor**2 + raw.clamp(max=LARGEST_LOG_VARIANCE).exp()

    def terms(self, x, eta):
        location, square = self.moments(eta)
        return -0.5 * ((x - location) ** 2 / square + (square.log() + LOG_2PI))

    def log_prob_and_slope(self, x, eta):
        """By hand."""
        location, raw, _ = self.noise.split(eta)
        part = raw.clamp(max=LARGEST_LOG_VARIANCE).exp()
        square = part + self.floor**2
        away = x - location if self.complete else (x - location).nan_to_num_()
        slope = away / square
        distance = slope * away
        share = (part / square).mul_(raw <= LARGEST_LOG_VARIANCE).mul_(0.5)  # half d log / d raw
        terms, raw_slope = distance + (square.log() + LOG_2PI), (distance - 1).mul_(share)
        if not self.complete:
            seen = (~x.isnan()).to(x.dtype)
            terms, raw_slope = terms.mul_(seen), raw_slope.mul_(seen)
        return -0.5 * terms.sum(-1), self.noise.whole(slope, raw_slope.sum_to_size(raw.shape))

    def _informed(self, eta):
        """Information about the location of a unit scale, and about the log of its square."""
        return torch.tensor(1.0), torch.tensor(0.5)

    def fisher(self, eta):
        location, square = self.moments(eta)
        about_location, about_log = self._informed(eta)
        share = 1 - self.floor**2 / square  # d log square / d raw
        parts = [about_location / square, about_log * share**2]
        both = torch.cat([part.expand(location.shape) for part in parts], -1)
        return both[..., : eta.outputs.shape[-1]]

    def mean(self, eta):
        return self.moments(eta)[0]

    mode = mean

    def sample(self, eta, rng):
        location, square = self.moments(eta)
        return location + square.sqrt() * torch.from_numpy(self._standard(eta, rng))

    def _standard(self, eta, rng):
        """Noise of location 0 and scale 1: -> (..., d)."""
        return rng.standard_normal(self.moments(eta)[0].shape)

    def working(self, x, weight):
        return x

    def linear(self, x, weight, factors):
        return self._linear(factors, 1.0, np.empty(0))

    def _linear(self, factors, informed, more):
        """`informed` about the location of a unit scale; `more` constants after those of the noise.

        The noise of the factors is the square of the scale.
        """
        columns, d = np.arange(len(factors.mean)), len(factors.mean)
        square = np.maximum(self.noise.pool(factors.noise), 2 * self.floor**2)  # some raw gives it
        raw = np.log(square - self.floor**2)
        offset = np.concatenate([factors.mean, raw])[: len(self.outputs(columns, d))]
        constants = np.concatenate([raw[self.noise.constants(columns, d)], more])
        F = informed / square
        return Linear.of_columns(factors.W, offset, constants, F, F, factors.mean)


@dataclass(frozen=True)
class StudentLikelihood(GaussianLikelihood):
    """x_j ~ location_j + scale_j t(df_j), squared scales as in a Gaussian's variance.

    A column's unit comes from its quartiles, so that no wild entry decides what the floor is.
    """

    df: float | None = None  # of every column; None: exp(a constant of the column) + DF_LEAST

    name: ClassVar[str] = "student_t"

    @property
    def spec(self):
        return self.name if self.df is None else StudentT(df=self.df)

    def _n_noise(self, d):
        return len(self.noise.constants(np.arange(d), d))

    def constants(self, columns, d):
        own = [] if self.df is not None else self._n_noise(d) + np.asarray(columns)
        return np.concatenate([self.noise.constants(columns, d), own]).astype(int)

    def units(self, line, weight, mean, variance):
        """Medians, and distances of the quartiles in standard deviations of a Gaussian.

        Where half of the entries are one number, the standard deviation stands in.
        """
        low, middle, high = np.transpose([_quartiles(*each) for each in _seen(line, weight)])
        scale = (high - low) / QUARTILES
        return middle, np.where(scale > 0, scale, np.sqrt(variance))

    def degrees(self, eta):
        """Degrees of freedom: (d,) or one number."""
        if self.df is not None:
            return torch.tensor(self.df, dtype=eta.outputs.dtype, device=eta.outputs.device)
        raw = self.noise.split(eta)[2]
        return DF_LEAST + raw.clamp(max=math.log(DF_MOST)).exp()

    def terms(self, x, eta):
        location, square = self.moments(eta)
        df = self.degrees(eta)
        half = (df + 1) / 2
        constant = half.lgamma() - (df / 2).lgamma() - 0.5 * (df * math.pi).log()
        return constant - 0.5 * square.log() - half * ((x - location) ** 2 / (square * df)).log1p()

    log_prob_and_slope = Likelihood.log_prob_and_slope

    def _informed(self, eta):
        df = self.degrees(eta)
        return (df + 1) / (df + 3), df / (df + 3) / 2

    def _standard(self, eta, rng):
        shape = self.moments(eta)[0].shape
        return rng.standard_t(self.degrees(eta).expand(shape).numpy())

    def shown(self, x):
        return x / (1 + (x / BEND) ** 2).sqrt()

    def working(self, x, weight):
        return x / np.sqrt(1 + (x / BEND) ** 2)

    def linear(self, x, weight, factors):
        df = DF_START if self.df is None else self.df
        more = np.full(len(factors.mean) * (self.df is None), math.log(DF_START - DF_LEAST))
        bounded = Factors(factors.mean, factors.W, factors.noise * max(1 - 2 / df, 0.5))
        return self._linear(bounded, (df + 1) / (df + 3), more)


@dataclass(frozen=True)
class LogNormalLikelihood(GaussianLikelihood):
    """log x_j is Gaussian: x_j is positive, and location and scale are those of log x_j."""

    spread: "np.ndarray | None" = None  # (d,) scale of log x; the mean of x needs it

    name: ClassVar[str] = "log_normal"
    positive_only: ClassVar[bool] = True
    needs: ClassVar[str] = "numbers above 0"

    def _inside(self, X):
        return X > 0

    def in_units(self, scale):
        return replace(self, spread=scale)

    def take(self, columns):
        return replace(self, spread=self.spread[columns])

    def to_line(self, X):
        return np.log(X)

    def from_line(self, line):
        return np.exp(line)

    def log_slope(self, X):
        return np.log(X)

    def mean(self, eta):
        return self._moved(eta, 0.5)

    def mode(self, eta):
        return self._moved(eta, -1.0)

    def _moved(self, eta, times):
        """The location of log x, moved by a multiple of its variance, in units of `spread`."""
        location, square = self.moments(eta)
        return location + times * square * torch.tensor(self.spread)


def _seen(line, weight):
    for column in line.T:
        seen = ~np.isnan(column)
        yield column[seen], weight[seen]


def _quartiles(values, weight):
    """The smallest values that a quarter, a half and three quarters of the weight do not exceed."""
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weight[order])
    at = np.searchsorted(share, np.array([0.25, 0.5, 0.75]) * share[-1] * (1 - 1e-12))
    return values[order][at]
