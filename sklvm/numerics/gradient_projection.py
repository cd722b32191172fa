"""Gradient projection: turns of factors that make a criterion of their loadings small.

Minimises Q(L), L = A inv(B), over B. With M = L' dQ/dL the gradient in B is -M inv(B)'; it is
projected onto the tangent space, and the step is put back on the manifold (Jennrich 2001, 2002).
The length of a step is that of Barzilai & Borwein (1988), halved until the criterion is below the
highest of the last values (Grippo, Lampariello & Lucidi 1986). What has not converged by then goes
on by Newton's method, whose second derivatives are complex steps of the first: factors of very
different size leave a criterion flat in some directions.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from .manifolds import Oblique, Orthogonal, apart

TOL = 1e-10  # of the projected gradient, relative to the gradient where it is largest at a start
MAX_STEPS = 200
MAX_NEWTON = 50
MEMORY = 5  # values that a step must stay below the highest of
MAX_HALVINGS = 60
ENOUGH = 1e-4  # of the decrease that the gradient promises
SLACK = 1e-15  # rounding of a value, relative to the gradient
COMPLEX_STEP = 1e-30
FLAT = 1e-14  # curvatures below this share of the largest are rounding


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
    problem = Problem(A, criterion, manifold, 0.0)
    places = [problem.place(B) for B in starts]
    problem = replace(problem, scale=max(place.size for place in places))
    minima = [problem.descend(place) for place in places]
    return min(minima, key=lambda end: (not end.converged, end.value))


@dataclass(frozen=True)
class Problem:
    """What is minimised, over which matrices."""

    A: np.ndarray  # (d, q)
    criterion: Callable  # L -> (value, dQ/dL), real or complex
    manifold: type[Orthogonal] | type[Oblique]
    scale: float  # of gradients

    def place(self, B):
        inverse = self.manifold.inverse(B)
        L = self.A @ inverse
        value, G = self.criterion(L)
        gradient = self.manifold.tangent(-(L.T @ G) @ inverse.T, B)
        return Place(B, value, gradient, float(np.linalg.norm(L) * np.linalg.norm(G)))

    def descend(self, place):
        """Where the criterion ends up from one place: -> Minimum."""
        with np.errstate(all="ignore"):  # trial steps may overflow; they are halved
            place = self._newton(self._project(place))
        return Minimum(place.B, place.value, self._ended(place) and apart(place.B))

    def _ended(self, place):
        return bool(np.linalg.norm(place.gradient) <= TOL * self.scale)

    def _project(self, place):
        """Gradient projection from one place (Bernaards & Jennrich 2005)."""
        step, values = 0.5 / np.linalg.norm(place.gradient), [place.value]
        for _ in range(MAX_STEPS):
            if self._ended(place):
                break
            direction, slope = -place.gradient, -(place.gradient**2).sum()
            new, step = self._halved(place, direction, slope, step, max(values[-MEMORY:]))
            if new is None:
                break
            step = _next_step(new.B - place.B, new.gradient - place.gradient, step)
            place = new
            values.append(place.value)
        return place

    def _newton(self, place):
        """Newton's method along E = dB B', up no curvature: eigenvalues count by their size."""
        units = self.manifold.directions(len(place.B))
        for _ in range(MAX_NEWTON):
            if self._ended(place) or not apart(place.B):
                break
            slopes, hessian = self._derivatives(place.B, units)
            curvature, axes = np.linalg.eigh((hessian + hessian.T) / 2)
            curvature = np.maximum(np.abs(curvature), FLAT * np.abs(curvature).max())
            step = -axes @ (axes.T @ slopes / curvature)
            direction = np.tensordot(step, units, 1) @ self.manifold.inverse(place.B).T
            new, _ = self._halved(place, direction, slopes @ step, 1.0, place.value)
            if new is None:
                break
            place = new
        return place

    def _derivatives(self, B, units):
        """First and second derivatives along units of dB B': (m,), (m, m).

        dL = -L E inv(Phi) and dPhi = E + E', so that the complex step needs no turn.
        """

        def slopes(L, Phi):
            return -self.manifold.stationarity(L, self.criterion(L)[1], Phi)

        L, Phi = self.A @ self.manifold.inverse(B), B @ B.T
        moves = 1j * COMPLEX_STEP * units
        steps = [slopes(L - L @ np.linalg.solve(Phi, E.mT).mT, Phi + E + E.mT) for E in moves]
        return slopes(L, Phi), np.array(steps).imag / COMPLEX_STEP

    def _halved(self, place, direction, slope, step, highest):
        """The next place, the step halved until it is low enough: (Place or None, step)."""
        for _ in range(MAX_HALVINGS):
            try:
                new = self.place(self.manifold.retract(place.B + step * direction))
            except np.linalg.LinAlgError:  # two factors became one
                new = place._replace(value=np.inf)
            if new.value <= highest + ENOUGH * step * slope + SLACK * self.scale:
                return new, step
            step /= 2
        return None, step


def _next_step(move, change, step):
    """The length that a quadratic would ask for; twice the last where the curvature is negative."""
    curvature = (move * change).sum()
    return (move**2).sum() / curvature if curvature > 0 else 2 * step
