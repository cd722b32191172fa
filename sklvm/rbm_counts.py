"""Visible units of counts: Poisson given the hidden bits, whose sum over bits always exists."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import gammaln, ndtri, pdtr

from .emissions.independent import whole
from .rbm_units import Units, refuse_outside

LARGE = 1e12  # rates above which the normal approximation is exact to rounding


@dataclass(frozen=True)
class PoissonUnits(Units):
    """Poisson(x; exp(a)) = exp((x - origin) a - log_sum(a)) / x!."""

    origin: np.ndarray  # (d,) where the hidden biases are meant: counts about it are centred

    name: ClassVar[str] = "poisson"
    base_measure: ClassVar[str] = "counting"

    def check(self, X):
        needs = "visible='poisson' needs counts 0, 1, 2, ..."
        refuse_outside(whole(X), X, f"Negative values in data, or fractions: {needs}")

    def drive(self, x):
        return x - self.origin

    def log_base(self, x):
        return -gammaln(x + 1.0)

    def log_sum(self, a):
        return np.exp(a) - self.origin * a

    def drive_mean(self, a):
        return np.exp(a) - self.origin

    def mean(self, a):
        return np.exp(a)

    def mode(self, a):
        return np.floor(np.exp(a))

    def draw(self, a, noise):
        return poisson_quantile(noise, np.exp(a))

    def offset_drive(self, b):
        """At x = 0."""
        return -self.origin

    def offset_log_z(self, b):
        return -float(self.origin @ b)


def poisson_quantile(u, rate):
    """The smallest count with P(X <= count) >= u: (...), (...) -> (...).

    A guess by the expansion of Cornish and Fisher (1938), put right step by step.
    """
    u, rate = np.broadcast_arrays(u, rate)
    z = ndtri(np.clip(u, 1e-16, 1 - 1e-16))
    x = np.maximum(np.floor(rate + np.sqrt(rate) * z + (z**2 + 2) / 6), 0.0)
    for step, wrong in ((1.0, _too_low), (-1.0, _too_high)):
        left = np.nonzero((rate < LARGE) & wrong(x, u, rate))
        while len(left[0]):
            x[left] += step
            still = wrong(x[left], u[left], rate[left])
            left = tuple(index[still] for index in left)
    return x


def _too_low(x, u, rate):
    return pdtr(x, rate) < u


def _too_high(x, u, rate):
    return (x > 0) & (pdtr(x - 1, rate) >= u)
