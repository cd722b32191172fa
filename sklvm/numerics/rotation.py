"""Factor rotation: the same common part of a covariance, told by factors that are easier to read.

Uncorrelated factors z with loadings W become f = B z of unit variance: the rows of B have length 1,
Cov f = Phi = B B', and the loadings are L = W inv(B), so that W W' = L Phi L'.
"""

from typing import NamedTuple

import numpy as np


class Rotated(NamedTuple):
    """Loadings on turned factors.

    Attributes
    ----------
    loadings : ndarray of shape (d, q)
        Pattern loadings L; the structure, Cov(x, f), is L Phi.
    turn : ndarray of shape (q, q)
        B, by which factors turn: f = B z.
    factor_correlation : ndarray of shape (q, q)
        Phi = Cov f, the identity where factors stay uncorrelated.
    converged : bool
        Whether the projected gradient vanished.
    """

    loadings: np.ndarray
    turn: np.ndarray
    factor_correlation: np.ndarray
    converged: bool


def rotate(W, rotation, rng, n_starts=10) -> Rotated:
    """Turn factors so that a criterion of their loadings is smallest.

    The search goes from the principal axes and from random turns, and the lowest minimum is kept:
    loadings that differ by an orthogonal turn have the same answer. Factors are in descending order
    of their sums of squared loadings, and each column of loadings has a positive sum, unless a
    target names them. Factors that explain nothing (W of lower rank) come last, with loadings of
    zero and uncorrelated with the others. Sums of squares depend on the units of the rows: W should
    be that of a correlation matrix.

    Parameters
    ----------
    W : ndarray of shape (d, q)
        Loadings of uncorrelated factors.
    rotation : Turning
        A value of `rotation_criteria`.
    rng : numpy.random.Generator
        Random turns that the search starts from.
    n_starts : int, default=10
        Number of starts.

    Returns
    -------
    rotated : Rotated

    References
    ----------
    Jennrich (2001), Psychometrika 66, 289-306. Jennrich (2002), Psychometrika 67, 7-19. Bernaards &
    Jennrich (2005), Educational and Psychological Measurement 65, 676-696. Kaiser (1958),
    Psychometrika 23, 187-200 (rows divided by the roots of their communalities).

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm.numerics.rotation import rotate
    >>> from sklvm.numerics.rotation_criteria import ObliminCriterion
    >>> simple = np.array([[0.9, 0], [0.8, 0], [0.7, 0], [0, 0.6], [0, 0.7]])
    >>> correlation = np.array([[1.0, 0.3], [0.3, 1.0]])
    >>> W = simple @ np.linalg.cholesky(correlation)
    >>> rotated = rotate(W, ObliminCriterion(gamma=0.0), np.random.default_rng(0))
    >>> bool(np.allclose(rotated.loadings, simple))
    True
    >>> rotated.factor_correlation.round(6)
    array([[1. , 0.3],
           [0.3, 1. ]])
    """
    B, converged = rotation.turn(W, rng, n_starts)
    L = W @ rotation.manifold.inverse(B)
    order, sign = rotation.arrange(L)
    B = (B * sign[:, None])[order]
    L = (L * sign)[:, order]
    return Rotated(L, B, rotation.manifold.correlation(B), converged)


def stationarity(L, Phi, rotation):
    """What vanishes where loadings and factor correlations make a criterion stationary.

    Minus the derivatives of the criterion as the factors turn. With M = L' dQ/dL they are, for
    orthogonal factors, the q (q - 1) / 2 entries of M - M' above the diagonal; for oblique ones,
    the q (q - 1) entries of M inv(Phi) off the diagonal, row by row. Kaiser's weights follow L and
    Phi. With diag(Phi) = 1 these are the constraints that border the information matrix.

    Parameters
    ----------
    L : ndarray of shape (d, q)
        Loadings, real or complex.
    Phi : ndarray of shape (q, q)
        Factor correlations, real or complex.
    rotation : Turning
        A value of `rotation_criteria`; promax, which makes no criterion stationary, is refused.

    Returns
    -------
    constraints : ndarray of shape (q (q - 1) / 2,) or (q (q - 1),)

    Raises
    ------
    ValueError
        For promax.

    References
    ----------
    Archer & Jennrich (1973), Psychometrika 38, 581-592 (orthogonal). Jennrich (1973), Psychometrika
    38, 593-604 (oblique). Jennrich (1974), British Journal of Mathematical and
    Statistical Psychology 27, 122-131 (the bordered information).

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm.numerics.rotation import rotate, stationarity
    >>> from sklvm.numerics.rotation_criteria import GeominCriterion
    >>> W = np.random.default_rng(0).normal(size=(8, 3))
    >>> geomin = GeominCriterion(epsilon=0.01)
    >>> L, _, Phi, _ = rotate(W, geomin, np.random.default_rng(1))
    >>> bool(np.abs(stationarity(L, Phi, geomin)).max() < 1e-8)
    True
    >>> stationarity(W, np.eye(3), geomin).shape
    (6,)
    """
    return rotation.stationarity(L, Phi)
