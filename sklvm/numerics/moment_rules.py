"""Moments of a function of a Gaussian, as values: sigma points, and the tangent at the mean.

A rule turns f(m + L u), u ~ N(0, I), into mean + slope u + N(0, excess excess'): the best line
under its points (statistical linear regression, Lefebvre, Bruyninckx & De Schutter 2002), and what
the line leaves out. So one square-root Kalman filter serves all of them, and nothing is subtracted
that could leave a covariance without its sign.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

STEP = 1e-3  # of differences, in standard deviations: fourth order, so the error is 1e-13 of them


class Moments(NamedTuple):
    """f(m + L u) is mean + slope u + N(0, excess excess')."""

    mean: np.ndarray  # (n, p)
    slope: np.ndarray  # (n, p, q) by u
    excess: np.ndarray  # (n, p, r)


class Rule(Protocol):
    """What a filter asks of a rule."""

    def __call__(self, f: Any, mean: np.ndarray, root: np.ndarray) -> Moments:
        """Of f: (n, q) -> (n, p) at n Gaussians, means (n, q), roots (n, q, q) of covariances."""


@dataclass(frozen=True)
class SigmaPoints:
    """f is seen at the mean and at points about it, in units of the root of the covariance.

    Weights are positive, sum_i w_i u_i = 0 and sum_i w_i u_i u_i' = I; what is left of 1 is the
    weight of the mean. `pull` says how far residuals are moved towards zero mean, which is all that
    the weight of the mean in the covariance changes.
    """

    points: np.ndarray  # (m, q) without the mean
    weights: np.ndarray  # (m,)
    pull: float

    def __call__(self, f, mean, root):
        """The weighted regression of f on u."""
        n, q = mean.shape
        at_mean = f(mean)
        places = mean[:, None] + self.points @ root.mT  # (n, m, q)
        values = f(places.reshape(-1, q)).reshape(n, len(self.points), at_mean.shape[1])
        away = values - at_mean[:, None]
        shift = self.weights @ away  # (n, p)
        slope = away.mT @ (self.weights[:, None] * self.points)
        rest = away - self.points @ slope.mT - self.pull * shift[:, None]
        return Moments(at_mean + shift, slope, (np.sqrt(self.weights)[:, None] * rest).mT)


@dataclass(frozen=True)
class Tangent:
    """f is its tangent at the mean: its Jacobian, or differences of fourth order."""

    def __call__(self, f, mean, root):
        empty = np.empty((len(mean), 0))
        value = f(mean)
        slope = _differences(f, mean, root) if f.jacobian is None else f.jacobian(mean) @ root
        return Moments(value, slope, np.broadcast_to(empty[:, None], (*value.shape, 0)))


def _differences(f: Callable, mean, root):
    """The slope of f(mean + root u) by u: -> (n, p, q)."""
    n, q = mean.shape
    steps = STEP * np.array([1.0, -1.0, 2.0, -2.0])
    places = mean[:, None, None] + steps[:, None, None] * root.mT[:, None]  # (n, 4, q, q)
    values = f(places.reshape(-1, q))
    values = values.reshape(n, 4, q, values.shape[1])
    slopes = np.array([8.0, -8.0, -1.0, 1.0]) / (12 * STEP)
    return np.einsum("s,nsqp->npq", slopes, values)


def unscented(q, alpha, beta, kappa):
    """Points on the axes of the scaled unscented transform (Julier 2002).

    Written about f(mean), its covariance is sum_i w_i r_i r_i' + (beta - alpha^2) shift shift', r_i
    the residuals of f - f(mean): no weight of order -1 / alpha^2 cancels. It is one for every f
    where 1 + (beta - alpha^2) sum_i w_i is not negative.
    """
    reach = alpha**2 * (q + kappa)
    points = np.sqrt(reach) * np.concatenate([np.eye(q), -np.eye(q)])
    return SigmaPoints(points, np.full(2 * q, 0.5 / reach), pull(q / reach, beta - alpha**2))


def pull(total, extra):
    """c with sum_i w_i (r_i - c shift)(...)' = sum_i w_i r_i r_i' + extra shift shift'.

    `total` is sum_i w_i; NaN where no such c exists.
    """
    square = 1 + total * extra
    return (1 - np.sqrt(max(square, 0.0))) / total if square > -1e-12 else np.nan


def gauss_hermite(q, n_points):
    """The product of Gauss-Hermite rules: exact for polynomials up to degree 2 n_points - 1."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n_points)
    grid = np.stack(np.meshgrid(*[nodes] * q, indexing="ij"), axis=-1).reshape(-1, q)
    mass = np.stack(np.meshgrid(*[weights / weights.sum()] * q, indexing="ij"), axis=-1)
    mass = mass.reshape(-1, q).prod(axis=1)
    away = np.abs(grid).max(axis=1) > 1e-8
    return SigmaPoints(grid[away], mass[away], pull(mass[away].sum(), -1.0))
