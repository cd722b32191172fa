"""Bayesian PCA of complete data in closed form: the global maximum of its bound, by eigenvalues."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq

POINTS = 16  # of each interval in which the sign of the slope is looked at


class Eigenvalues(NamedTuple):
    """Of a covariance matrix, in descending order, and what they are a part of."""

    values: np.ndarray  # (r,) the largest ones, not negative
    total: float  # the trace
    n: float  # rows, by weight
    d: int

    @property
    def faintest(self):
        """Least n eigenvalue / noise at which a factor of its own can be stationary."""
        return (np.sqrt(self.n) + np.sqrt(self.d)) ** 2

    def ratios(self, noise):
        """Variance of each factor over that of the noise at its stationary point: -> (r,).

        The larger root of n eigenvalue / noise = n + d + n b + d / b, or 0 where it is not real
        (Nakajima et al. 2013).
        """
        ratio = self.n * self.values / noise
        excess = ratio - self.n - self.d
        root = np.sqrt(np.maximum(excess**2 - 4 * self.n * self.d, 0.0))
        return np.where(ratio >= self.faintest, (excess + root) / (2 * self.n), 0.0)

    def costs(self, ratios):
        """What factors of these ratios add to -2 bound; below zero where they pay: (r,) -> (r,)."""
        n, d = self.n, self.d
        return n * np.log1p(ratios) + d * np.log1p(n * ratios / d) - n * ratios

    def paying(self, noise):
        """The ratios, 0 for a factor that would lower the bound: -> (r,)."""
        ratios = self.ratios(noise)
        return np.where(self.costs(ratios) < 0, ratios, 0.0)

    def loss(self, noise):
        """-2 bound, less a constant, with the factors that pay."""
        costs = self.costs(self.paying(noise))
        return self.n * (self.d * np.log(noise) + self.total / noise) + costs.sum()

    def slope(self, log_noise, k):
        """Derivative of -2 bound in log noise, with the first k factors."""
        noise = np.exp(log_noise)
        explained = self.total / noise - self._first(k).ratios(noise).sum()
        return self.n * (self.d - explained)

    def _first(self, k):
        return self._replace(values=self.values[:k])

    def _threshold(self):
        """The n eigenvalue / noise from which a factor pays."""
        edge = np.sqrt(self.d / self.n)
        high = 2 * edge + 2
        while self.costs(high) > 0:
            high *= 2
        b = brentq(self.costs, edge, high, xtol=1e-14 * edge)
        return self.n + self.d + self.n * b + self.d / b

    def noise_variance(self, floor):
        """The noise variance, above `floor`, at which the bound is highest.

        Between the noise variances at which a factor starts to pay the bound is smooth, and there
        it has no maximum: it is sought where the slope changes its sign in one of the intervals.
        """
        most = self.total / self.d
        edges = np.clip(self.n * self.values / self._threshold(), floor, most)
        edges = np.concatenate([[most], edges, [floor]])
        found = [most, floor]
        for k, (high, low) in enumerate(pairwise(edges)):
            if high > low:
                found += self._minima(np.linspace(np.log(low), np.log(high), POINTS), k)
        return min(found, key=self.loss)

    def _minima(self, places, k):
        """Noise variances between the places at which the slope with k factors turns positive."""
        inside = places.copy()
        inside[[0, -1]] += np.array([1e-12, -1e-12])  # a factor at its threshold may be none
        slopes = np.array([self.slope(place, k) for place in inside])
        turns = np.flatnonzero((slopes[:-1] < 0) & (slopes[1:] >= 0))
        return [
            float(np.exp(brentq(self.slope, inside[i], inside[i + 1], args=(k,), xtol=1e-15)))
            for i in turns
        ]
