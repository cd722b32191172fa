"""Codes and counts as contrastive training draws them, in single precision."""

import numpy as np
from scipy.special import gammaln

from .contrastive import STEEPEST, Bits

BEYOND = np.float32(10.0)  # times the largest count seen: no fantasy has a higher rate


class Cells(Bits):
    """Cells of columns of codes: one of each column is 1."""

    def __init__(self, rng, units, log_prior):
        super().__init__(rng)
        self.units, self.log_prior = units, log_prior

    def draw_visible(self, a, weights, out):
        noise = self.rng.standard_exponential(a.shape, dtype=np.float32)
        with np.errstate(divide="ignore"):  # infinity is the right answer
            out[...] = self.units.draw(a, -np.log(noise))

    def pull(self, weights):
        return self.log_prior(weights)[1].astype(np.float32)


class Counts(Bits):
    """Counts about their mean. Slopes in W are over that mean, which evens steps."""

    def __init__(self, rng, origin, highest, largest):
        super().__init__(rng)
        self.largest = largest  # weight
        self.origin = origin.astype(np.float32)
        self.even = (1 / np.maximum(origin, 1.0)).astype(np.float32)
        self.ceiling = np.log(BEYOND * np.maximum(highest, 1.0)).astype(np.float32)

    def centred(self, X):
        return X - self.origin

    def draw_visible(self, a, weights, out):
        out[...] = self.rng.poisson(np.exp(np.minimum(a, self.ceiling)))
        out -= self.origin

    def evened(self, W):
        W *= self.even
        return W

    def bound(self, W):
        np.clip(W, -self.largest, self.largest, out=W)

    def shortening(self, gradient):
        steepness = float(np.sqrt(np.mean(gradient**2 / self.even)))
        return min(1.0, STEEPEST / max(steepness, 1e-30))

    def free_energy(self, V, weights):
        return super().free_energy(V, weights) + gammaln(V + self.origin + 1.0).sum(axis=1)
