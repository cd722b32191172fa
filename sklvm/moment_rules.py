"""Rules of Gaussian filters as people name them; `points(q)` makes what the filter needs."""

from abc import ABC, abstractmethod
from numbers import Integral, Real

import numpy as np

from .numerics.moment_rules import Tangent, gauss_hermite, unscented
from .parameters import Parameters

MOST_POINTS = 100_000  # of a product rule


class MomentRule(Parameters, ABC):
    """How the moments of a function of a Gaussian state are found, with its parameters."""

    @abstractmethod
    def points(self, q):
        """What the filter asks, for states of q dimensions; ValueError where a parameter is out."""


class Extended(MomentRule):
    """The tangent at the mean: the extended Kalman filter (``rule="ekf"``).

    Jacobians are those that the filter was given, else differences of fourth order with steps of a
    thousandth of a standard deviation.

    References
    ----------
    Särkkä (2013), Bayesian Filtering and Smoothing, chapter 5.

    Examples
    --------
    >>> from sklvm import GaussianFilter
    >>> GaussianFilter(rule="ekf").rule
    'ekf'
    """

    def points(self, q):
        return Tangent()


class Unscented(MomentRule):
    """Two points on each axis of the covariance, and the mean (``rule="ukf"``).

    Parameters
    ----------
    alpha : float, default=1.0
        Spread of the points: sqrt(alpha^2 (q + kappa)) standard deviations.
    beta : float or None, default=None
        What the mean counts more in the covariance; None is zero, or, where kappa is negative (more
        than three states), the least that leaves every covariance positive: -alpha^2 kappa / q.
    kappa : float or None, default=None
        None is 3 - q: the fourth moments along the axes are those of a Gaussian.

    References
    ----------
    Julier & Uhlmann (1997); Julier (2002), The scaled unscented transformation. van der Merwe's
    weights are ``Unscented(alpha=1e-3, beta=2.0, kappa=0.0)``.

    Examples
    --------
    >>> from sklvm import Unscented
    >>> Unscented().points(1).points.round(3).ravel()
    array([ 1.732, -1.732])
    """

    def __init__(self, alpha=1.0, beta=None, kappa=None):
        self.alpha = alpha
        self.beta = beta
        self.kappa = kappa

    def points(self, q):
        alpha = _number(self, "alpha")
        kappa = 3.0 - q if self.kappa is None else _number(self, "kappa")
        if alpha <= 0 or q + kappa <= 0:
            raise ValueError(
                f"{self!r} needs alpha > 0 and kappa > -{q}, the number of states: there are no "
                "points else"
            )
        least = -(alpha**2) * kappa / q
        beta = max(0.0, least) if self.beta is None else _number(self, "beta")
        rule = unscented(q, alpha, beta, kappa)
        if np.isnan(rule.pull):
            raise ValueError(
                f"{self!r} of {q} states can make a covariance that is none: beta must be at least "
                f"{least:g}"
            )
        return rule


class Cubature(MomentRule):
    """Two points on each axis, of equal weight (``rule="cubature"``).

    References
    ----------
    Arasaratnam & Haykin (2009), Cubature Kalman filters.

    Examples
    --------
    >>> from sklvm import Cubature
    >>> Cubature().points(2).weights
    array([0.25, 0.25, 0.25, 0.25])
    """

    def points(self, q):
        return unscented(q, 1.0, 0.0, 0.0)


class GaussHermite(MomentRule):
    """The product of one-dimensional Gauss-Hermite rules (``rule="gauss_hermite"``).

    Parameters
    ----------
    n_points : int, default=3
        Points on each axis; n_points ** q in all.

    References
    ----------
    Ito & Xiong (2000), Gaussian filters for nonlinear filtering problems.

    Examples
    --------
    >>> from sklvm import GaussHermite
    >>> GaussHermite(5).points(2).points.shape  # without the mean
    (24, 2)
    """

    def __init__(self, n_points=3):
        self.n_points = n_points

    def points(self, q):
        n = self.n_points
        if not isinstance(n, Integral) or isinstance(n, bool) or n < 2:
            raise ValueError(f"n_points must be an integer of at least 2, got {n!r}")
        if n**q > MOST_POINTS:
            raise ValueError(
                f"{self!r} of {q} states has {n**q} points, more than {MOST_POINTS}: use "
                "rule='cubature' or 'ukf'"
            )
        return gauss_hermite(q, n)


RULES = {
    "ekf": Extended(),
    "ukf": Unscented(),
    "cubature": Cubature(),
    "gauss_hermite": GaussHermite(),
}


def named_rule(rule):
    """A rule by name or as it is."""
    return RULES[rule] if isinstance(rule, str) else rule


def _number(rule, name):
    value = getattr(rule, name)
    if not isinstance(value, Real) or isinstance(value, bool) or not np.isfinite(value):
        raise ValueError(f"{name} of {type(rule).__name__} must be a finite number, got {value!r}")
    return float(value)
