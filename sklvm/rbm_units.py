"""Visible units of a Boltzmann machine: p(x given a) for the total input a of each column."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import expit

from .emissions.base import OutsideSupport
from .numerics.binary import softplus

LOG_2PI = np.log(2 * np.pi)


class Units:
    """What units have in common that neither shift nor scale what they show."""

    n_parameters: int = 0  # beside the biases

    def n_columns(self, n_cells):
        """Columns of X behind so many inputs."""
        return n_cells

    def n_free(self, n_cells):
        """Inputs that are free parameters."""
        return n_cells

    def read(self, X):
        """Rows as the machine sees them, NaN kept: (n, d) -> (n, d) float64."""
        return X.astype(np.float64)

    def drive(self, x):
        """What the weights multiply: (n, d)."""
        return x

    def log_base(self, x):
        """log p(x given a = 0) less log_sum(0) is no function of a: (n, d)."""
        return np.zeros_like(x)

    def noise(self, rng, shape):
        return rng.random(shape)

    def mean_input(self, b):
        """b as a visible intercept in the units of X."""
        return b

    def offset_drive(self, b):
        """The drive at which the hidden intercept is meant: at x = 0."""
        return np.zeros_like(b)

    def offset_log_z(self, b):
        """By how much log Z is less, told with that intercept."""
        return 0.0

    def shown(self, x):
        """Rows, or means of rows, in the units of X."""
        return x

    def scale_slope(self, x, seen, a, a_square):
        """No scale, no slope."""
        return np.zeros((0,))


def refuse_outside(allowed, X, needs):
    """OutsideSupport with the columns of wrong entries and the first of these: (n, d) bool."""
    wrong = ~allowed & ~np.isnan(X)
    if wrong.any():
        columns = np.flatnonzero(wrong.any(axis=0))
        first = X[wrong[:, columns[0]], columns[0]][0]
        raise OutsideSupport(f"{needs}, got {first:g}", columns)


@dataclass(frozen=True)
class BernoulliUnits(Units):
    """Bits: log p(x given a) = x a - softplus(a)."""

    threshold: "np.ndarray | None" = None  # (d,) what is above is 1; None: X holds 0 and 1
    levels: "np.ndarray | None" = None  # (2, d) what stands for 0 and 1 in X; None: themselves

    name: ClassVar[str] = "bernoulli"
    base_measure: ClassVar[str] = "counting"

    def check(self, X):
        if self.threshold is None:
            needs = "visible='bernoulli' needs 0 or 1 (or NaN), as in fit"
            refuse_outside((X == 0) | (X == 1), X, needs)

    def read(self, X):
        """Rows as bits, NaN kept: (n, d) float64."""
        if self.threshold is None:
            return X.astype(np.float64)
        return np.where(np.isnan(X), np.nan, self.threshold < X)

    def log_sum(self, a):
        """log of the sum over x of exp(log_base(x) + drive(x) a)."""
        return softplus(a)

    def drive_mean(self, a):
        """E[drive(x) given a]."""
        return expit(a)

    mean = drive_mean

    def draw(self, a, noise):
        return (noise < expit(a)).astype(np.float64)

    def mode(self, a):
        return (a > 0).astype(np.float64)

    def shown(self, x):
        """Bits, or means of bits, in the units of X."""
        return x if self.levels is None else self.levels[0] + x * (self.levels[1] - self.levels[0])


@dataclass(frozen=True)
class GaussianUnits(Units):
    """N(x; origin + a, scale^2) = N(x; origin, scale^2) exp(drive(x) a - log_sum(a))."""

    origin: np.ndarray  # (d,) where the hidden biases are meant
    scale: np.ndarray  # (d,) standard deviations

    name: ClassVar[str] = "gaussian"
    base_measure: ClassVar[str] = "lebesgue"

    @property
    def n_parameters(self):
        return len(self.scale)

    def check(self, X):
        """Every number is one."""

    def drive(self, x):
        return (x - self.origin) / self.scale**2

    def log_base(self, x):
        return -0.5 * (((x - self.origin) / self.scale) ** 2 + LOG_2PI) - np.log(self.scale)

    def log_sum(self, a):
        return 0.5 * (a / self.scale) ** 2

    def drive_mean(self, a):
        return a / self.scale**2

    def mean(self, a):
        return self.origin + a

    mode = mean

    def noise(self, rng, shape):
        return rng.standard_normal(shape)

    def draw(self, a, noise):
        return self.origin + a + self.scale * noise

    def mean_input(self, b):
        return self.origin + b

    def offset_drive(self, b):
        """At x = origin + b."""
        return b / self.scale**2

    def offset_log_z(self, b):
        return float(self.log_sum(b).sum())

    def scale_slope(self, x, seen, a, a_square):
        """Derivative of log p*(x_seen, ...) in log scale^2, entry by entry: (..., d).

        a and a_square are the expectations of the input and its square given the row.
        """
        y = np.where(seen, x - self.origin, 0.0)
        there = 0.5 * (y / self.scale) ** 2 - 0.5 - y * a / self.scale**2
        return np.where(seen, there, -0.5 * a_square / self.scale**2)
