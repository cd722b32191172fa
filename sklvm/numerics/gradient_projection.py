"""Gradient projection over matrices with orthogonal rows, or with rows of unit length.

Minimises Q(A inv(B)) over B. With M = L' dQ/dL the gradient in B is -M inv(B)'; it is projected
onto the tangent space, and the step is put back on the manifold (Jennrich 2001, 2002). The length
of a step is that of Barzilai & Borwein (1988), halved until the criterion is below the highest of
the last values (Grippo, Lampariello & Lucidi 1986).
"""

from typing import NamedTuple

import numpy as np

TOL = 1e-10  # of the projected gradient, relative to the gradient where it is largest at a start
MAX_ITER = 2000
MEMORY = 5  # values that a step must stay below the highest of
MAX_HALVINGS = 60
ENOUGH = 1e-4  # of the decrease that the gradient promises
SLACK = 1e-15  # rounding of a value, relative to the gradient


class Orthogonal:
    """B B' = I."""

    @staticmethod
    def tangent(D, B):
        """The part of D along which B may move: skew(D B') B."""
        S = D @ B.T
        return (S - S.T) / 2 @ B

    @staticmethod
    def retract(X):
        """The nearest orthogonal matrix."""
        U, _, Vt = np.linalg.svd(X)
        return U @ Vt

    @staticmethod
    def inverse(B):
        return B.T

    @staticmethod
    def correlation(B):
        return np.eye(len(B))


class Oblique:
    """diag(B B') = I."""

    @staticmethod
    def tangent(D, B):
        """The part of D along which B may move: each row orthogonal to that of B."""
        return D - (D * B).sum(axis=1, keepdims=True) * B

    @staticmethod
    def retract(X):
        return X / np.linalg.norm(X, axis=1, keepdims=True)

    @staticmethod
    def inverse(B):
        return np.linalg.inv(B)

    @staticmethod
    def correlation(B):
        Phi = B @ B.T
        np.fill_diagonal(Phi, 1.0)
        return Phi


class Place(NamedTuple):
    """A matrix, its value, its projected gradient, and the size of what was projected."""

    B: np.ndarray
    value: float
    gradient: np.ndarray
    size: float


class Minimum(NamedTuple):
    """Where a descent ended."""

    B: np.ndarray
    value: float
    converged: bool


def best_minimum(A, criterion, manifold, starts):
    """The lowest minimum from several starts (q, q): A is (d, q), criterion L -> (value, dQ/dL).

    Ends that are not stationary count only where none is: not all criteria have a lower bound.
    """
    with np.errstate(all="ignore"):  # trial steps may overflow; they are halved
        places = [_place(A, criterion, manifold, B) for B in starts]
        scale = max(place.size for place in places)
        minima = [_descend(A, criterion, manifold, place, scale) for place in places]
    return min(minima, key=lambda end: (not end.converged, end.value))


def random_orthogonal(q, rng):
    """Uniform over all orthogonal matrices (q, q)."""
    Q, R = np.linalg.qr(rng.standard_normal((q, q)))
    return Q * np.sign(np.diag(R))


def _place(A, criterion, manifold, B):
    inverse = manifold.inverse(B)
    L = A @ inverse
    value, G = criterion(L)
    gradient = manifold.tangent(-(L.T @ G) @ inverse.T, B)
    return Place(B, value, gradient, float(np.linalg.norm(L) * np.linalg.norm(G)))


def _descend(A, criterion, manifold, place, scale):
    """Gradient projection from one place (Bernaards & Jennrich 2005)."""
    step, values = None, [place.value]
    for _ in range(MAX_ITER):
        slope = np.linalg.norm(place.gradient)
        if slope <= TOL * scale:
            return Minimum(place.B, place.value, True)
        step = 0.5 / slope if step is None else step
        highest = max(values[-MEMORY:]) + SLACK * scale
        new, step = _halved(A, criterion, manifold, place, step, slope, highest)
        if new is None:
            break
        step = _next_step(new.B - place.B, new.gradient - place.gradient, step)
        place = new
        values.append(place.value)
    return Minimum(place.B, place.value, False)


def _halved(A, criterion, manifold, place, step, slope, highest):
    """The next place, the step halved until it is low enough: (Place or None, step)."""
    for _ in range(MAX_HALVINGS):
        try:
            B = manifold.retract(place.B - step * place.gradient)
            new = _place(A, criterion, manifold, B)
        except np.linalg.LinAlgError:  # two factors became one
            new = place._replace(value=np.inf)
        if new.value <= highest - ENOUGH * step * slope**2:
            return new, step
        step /= 2
    return None, step


def _next_step(move, change, step):
    """The length that a quadratic would ask for; twice the last where the curvature is negative."""
    curvature = (move * change).sum()
    return (move**2).sum() / curvature if curvature > 0 else 2 * step
