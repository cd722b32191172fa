"""Densities that fall with the distance: log p(x) = -log|S| / 2 + h(D).

D is the squared Mahalanobis distance of o seen entries. Derivatives of h for Gaussians and for
Student-t distributions, whose degrees of freedom are a parameter too: l is their logarithm.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import digamma, polygamma

from .student_t import DF_BOUNDS, StudentTs


class Radial(NamedTuple):
    """Derivatives of h at the distances of n rows."""

    D: np.ndarray  # (n,) dh/dD
    DD: np.ndarray  # (n,)
    l: np.ndarray  # (n,)
    Dl: np.ndarray  # (n,)
    ll: np.ndarray  # (n,)


def radial(emission, k, D, o):
    """Derivatives for component k at the squared distances D (n,) of o entries."""
    if not isinstance(emission, StudentTs):
        zero = np.zeros_like(D)
        return Radial(zero - 0.5, zero, zero, zero, zero)
    return _student(emission.df[k], D, o)


def free_df(emission):
    """Components whose degrees of freedom are learned, and lie between their bounds."""
    if not isinstance(emission, StudentTs) or not emission.learn_df:
        return np.array([], dtype=int)
    low, high = DF_BOUNDS
    return np.flatnonzero((emission.df > low) & (emission.df < high))


def df_penalties(emission):
    """The penalty of each free df: less it, both slopes of the objective in l change.

    The penalty is proportional to df, the exponential of l.
    """
    free = free_df(emission)
    return emission.df_penalty * emission.df[free] if len(free) else np.array([])


def _student(nu, D, o):
    """h = log G((nu + o)/2) - log G(nu/2) - o/2 log(pi nu) - (nu + o)/2 log(1 + D/nu)."""
    near, total = nu + D, nu + o
    half = (nu + o) / 2, nu / 2
    ratio = D / (nu * near)
    d_nu = 0.5 * (digamma(half[0]) - digamma(half[1]) - o / nu - np.log1p(D / nu) + total * ratio)
    d_nu_nu = 0.5 * (
        0.5 * (polygamma(1, half[0]) - polygamma(1, half[1]))
        + o / nu**2
        + 2 * ratio
        - total * D * (2 * nu + D) / (nu * near) ** 2
    )
    return Radial(
        D=-0.5 * total / near,
        DD=0.5 * total / near**2,
        l=nu * d_nu,
        Dl=-0.5 * nu * (D - o) / near**2,
        ll=nu**2 * d_nu_nu + nu * d_nu,
    )
