"""Columns of numbers from 0 to 1."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from .base import Eta, Likelihood, Linear, seen_mean, standardised

NEAR = 0.1  # of a natural parameter from 0: within, series are exact to the last digits
LARGEST = 300.0  # half a natural parameter whose hyperbolic sine has a square
LEAST_MEAN = 1e-3  # that a start takes seriously


@dataclass(frozen=True)
class ContinuousBernoulliLikelihood(Likelihood):
    """p(x_j) = exp(eta_j x_j) / Z(eta_j) on [0, 1] with Z(eta) = (exp(eta) - 1) / eta, Z(0) = 1.

    The continuous Bernoulli of Loaiza-Ganem & Cunningham (2019), eta its log odds. Their normaliser
    is part of Z, which is smooth at 0, where the density is uniform.
    """

    name: ClassVar[str] = "continuous_bernoulli"
    positive_only: ClassVar[bool] = True
    needs: ClassVar[str] = "numbers from 0 to 1"

    def _inside(self, X):
        return (X >= 0) & (X <= 1)

    def terms(self, x, eta):
        return (x - 0.5) * eta.outputs - log_sinhc(eta.outputs / 2)

    def fisher(self, eta):
        return _cases(
            eta.outputs,
            lambda e: 1 / 12 - e**2 / 240 + e**4 / 6048 - e**6 / 172800,
            lambda e: 1 / e**2 - 0.25 / (e / 2).clamp(-LARGEST, LARGEST).sinh() ** 2,
        )

    def mean(self, eta):
        return _mean(eta.outputs)

    def mode(self, eta):
        return (eta.outputs.sign() + 1) / 2

    def sample(self, eta, rng):
        """By the inverse distribution function, seen from the end where the density is highest."""
        e = eta.outputs
        u = torch.from_numpy(rng.uniform(size=e.shape))
        steep = e.abs().clamp(min=1e-12)
        distance = (-torch.log1p(u * torch.expm1(-steep)) / steep).clamp(max=1.0)
        return torch.where(e > 0, 1 - distance, distance)

    def working(self, x, weight):
        return standardised(x, weight)[0]

    def linear(self, x, weight, factors):
        """Loadings as if every column were uniform: variance 1/12."""
        mean = seen_mean(x, weight).clip(LEAST_MEAN, 1 - LEAST_MEAN)
        offset = natural_of_mean(mean)
        F = self.fisher(Eta(torch.from_numpy(offset), torch.empty(0))).numpy()
        W = math.sqrt(12.0) * factors.W
        return Linear.of_columns(W, offset, np.empty(0), F, np.ones(len(F)), mean)


def log_sinhc(u):
    """log(sinh(u) / u), 0 at 0."""
    return _cases(
        u,
        lambda u: u**2 / 6 - u**4 / 180 + u**6 / 2835 - u**8 / 37800,
        lambda u: u.abs() + torch.log1p(-torch.exp(-2 * u.abs())) - (2 * u.abs()).log(),
        NEAR / 2,
    )


def _mean(e):
    return _cases(
        e,
        lambda e: 0.5 + e / 12 - e**3 / 720 + e**5 / 30240 - e**7 / 1209600,
        lambda e: -1 / torch.expm1(-e) - 1 / e,
    )


def _cases(e, series, formula, near=NEAR):
    """The series near 0 and the formula elsewhere; neither sees what would spoil a gradient."""
    inside = e.abs() < near
    far = torch.where(inside, near, e)
    return torch.where(inside, series(torch.where(inside, e, 0.0)), formula(far))


def natural_of_mean(mean):
    """The natural parameters whose densities have these means, by bisection: (d,) -> (d,)."""
    nearer = np.minimum(mean, 1 - mean)
    low, high = -1 / nearer, np.zeros(len(mean))
    for _ in range(60):
        middle = (low + high) / 2
        below = _mean(torch.from_numpy(middle)).numpy() < nearer
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.where(mean < 0.5, low, -low)
