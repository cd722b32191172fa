"""Sufficient statistics: values that add, so a block, a core and a mini-batch are one thing."""

from dataclasses import dataclass, fields, replace
from typing import ClassVar

import numpy as np

from ..numerics.linalg import lowest


def positive(count):
    """Counts to divide by: 1 where there is nothing to divide."""
    return count if lowest(count) > 0 else np.where(count > 0, count, 1.0)


@dataclass(frozen=True)
class Statistics:
    """Additive statistics; `+` and `-` first bring both sides to one origin, exactly."""

    shared: ClassVar[tuple] = ()  # fields that all components have in common

    def about(self, origin):
        """The same statistics about another origin; without a location there is none to change."""
        return self

    def means(self) -> np.ndarray:
        """Weighted means of a location family: (K, d)."""
        raise NotImplementedError

    def take(self, order):
        """The statistics of the components in another order."""
        names = [field.name for field in fields(self) if field.name not in self.shared]
        return replace(self, **{name: _taken(getattr(self, name), order) for name in names})

    def merged(self, into, other):
        """All that component `other` had given to component `into`."""
        origin, one = self._origin(), self
        if origin is not None and len(origin) > 1:
            moved = origin.copy()
            moved[other] = origin[into]
            one = self.about(moved)
        names = [f.name for f in fields(self) if f.name not in (*self.shared, "origin")]
        return replace(one, **{name: _merged(getattr(one, name), into, other) for name in names})

    def _origin(self):
        return getattr(self, "origin", None)

    def _map(self, function, *others):
        values = {
            field.name: function(*(getattr(s, field.name) for s in (self, *others)))
            for field in fields(self)
            if field.name != "origin"
        }
        return replace(self, **values)

    def __add__(self, other):
        return self._map(lambda a, b: a + b, other.about(self._origin()))

    def __sub__(self, other):
        return self + -1.0 * other

    def __mul__(self, factor):
        return self._map(lambda a: a * factor)

    __rmul__ = __mul__


def _taken(part, order):
    """A part whose one row serves all components stays what it is."""
    if isinstance(part, Statistics):
        return part.take(order)
    return part[order] if len(part) > 1 else part


def _merged(part, into, other):
    if isinstance(part, Statistics):
        return part.merged(into, other)
    part = part.copy()
    part[into] += part[other]
    part[other] = 0.0
    return part


@dataclass(frozen=True)
class DenseMoments(Statistics):
    """Weighted moments about `origin` whose second moment is a matrix."""

    count: np.ndarray  # (K,) sum of resp
    mass: np.ndarray  # (K,) sum of resp * scale
    first: np.ndarray  # (K, d)
    second: np.ndarray  # (K, d, d), symmetric to the bit
    origin: np.ndarray  # (K, d), or (1, d) for all

    def about(self, origin):
        if origin is self.origin:
            return self
        shift = self.origin - origin
        cross = self.first[:, :, None] * shift[:, None, :]
        outer = shift[:, :, None] * shift[:, None, :]
        return replace(
            self,
            first=self.first + self.mass[:, None] * shift,
            second=self.second + (cross + cross.mT) + self.mass[:, None, None] * outer,
            origin=origin,
        )

    def centred(self):
        """Means relative to the origin, and scatters about them: (K, d), (K, d, d)."""
        shift = self.first / positive(self.mass)[:, None]
        outer = shift[:, :, None] * shift[:, None, :]
        return shift, self.second - self.mass[:, None, None] * outer

    def means(self):
        return self.origin + self.centred()[0]


@dataclass(frozen=True)
class PooledMoments(Statistics):
    """Weighted moments about `origin`; the second moment is that of all components together."""

    shared = ("second",)
    count: np.ndarray  # (K,) sum of resp
    mass: np.ndarray  # (K,) sum of resp * scale
    first: np.ndarray  # (K, d)
    second: np.ndarray  # (d, d), each row about the origin of its component
    origin: np.ndarray  # (K, d), or (1, d) for all

    def about(self, origin):
        if origin is self.origin:
            return self
        shift = self.origin - origin
        cross = self.first.T @ shift
        outer = (self.mass[:, None] * shift).T @ shift
        return replace(
            self,
            first=self.first + self.mass[:, None] * shift,
            second=self.second + cross + cross.T + outer,
            origin=origin,
        )

    def centred(self):
        """Means relative to the origin, and the pooled scatter about them: (K, d), (d, d)."""
        shift = self.first / positive(self.mass)[:, None]
        return shift, self.second - self.first.T @ shift

    def means(self):
        return self.origin + self.centred()[0]


@dataclass(frozen=True)
class TotalMoment(Statistics):
    """The second moment of all rows about one origin, whichever component they belong to."""

    mass: np.ndarray  # () sum of the weights
    second: np.ndarray  # (d, d)
    origin: np.ndarray  # (d,)


@dataclass(frozen=True)
class DiagonalMoments(Statistics):
    """Weighted moments of each feature about `origin`, over the rows that saw it."""

    count: np.ndarray  # (K, d) sum of resp
    mass: np.ndarray  # (K, d) sum of resp * scale
    first: np.ndarray  # (K, d)
    second: np.ndarray  # (K, d)
    origin: np.ndarray  # (K, d), or (1, d) for all

    def about(self, origin):
        if origin is self.origin:
            return self
        shift = self.origin - origin
        return replace(
            self,
            first=self.first + self.mass * shift,
            second=self.second + 2 * self.first * shift + self.mass * shift**2,
            origin=origin,
        )

    def centred(self):
        """Means relative to the origin, and sums of squares about them: (K, d), (K, d)."""
        shift = self.first / positive(self.mass)
        return shift, self.second - self.first * shift

    def means(self):
        return self.origin + self.centred()[0]


@dataclass(frozen=True)
class LatentMoments(Statistics):
    """Moments of x and u = (z, 1) per feature, over the rows that saw it (never d x d).

    Where every row saw everything, `count` and `uu` are the same for all features: one serves.
    """

    count: np.ndarray  # (K, d or 1) sum of resp
    uu: np.ndarray  # (K, d or 1, q + 1, q + 1) sum of resp E[u u']
    xu: np.ndarray  # (K, d, q + 1) sum of resp (x - origin) E[u]
    xx: np.ndarray  # (K, d) sum of resp (x - origin)^2
    rows: np.ndarray  # (K,) sum of resp over all rows
    latent: np.ndarray  # (K, q + 1, q + 1) sum of resp E[u u'] over all rows
    origin: np.ndarray  # (K, d), or (1, d) for all

    def about(self, origin):
        if origin is self.origin:
            return self
        shift = self.origin - origin
        return replace(
            self,
            xu=self.xu + shift[..., None] * self.uu[..., -1],
            xx=self.xx + 2 * shift * self.xu[..., -1] + shift**2 * self.uu[..., -1, -1],
            origin=origin,
        )

    def means(self):
        mass = self.uu[..., -1, -1]
        return self.origin + self.xu[..., -1] / np.where(mass > 0, mass, 1.0)

    def regression(self):
        """Coefficients of each feature on u, zero where no row saw it: (K, d, q + 1)."""
        K, d, width = self.xu.shape
        groups = self.uu.shape[1]  # features that share one matrix are one system
        known = (self.count > 0)[..., None, None]
        uu = np.where(known, self.uu, np.eye(width))
        xu = self.xu.reshape(K, groups, d // groups, width)
        return np.linalg.solve(uu, xu.mT).mT.reshape(K, d, width)

    def rescaling(self):
        """T (K, q + 1, q + 1) with (w, mu) T the loadings and mean for standard factors.

        In the expanded model z ~ N(alpha, Lambda) the M-step has alpha and Lambda at the moments of
        the factors; T = [[Lambda^1/2, alpha], [0, 1]] takes them back to zero and one.
        """
        q = self.latent.shape[-1] - 1
        T = np.tile(np.eye(q + 1), (len(self.latent), 1, 1))
        some = self.rows > 0
        moments, rows = self.latent[some], self.rows[some, None, None]
        alpha = moments[:, :q, q] / moments[:, q, q, None]
        spread = moments[:, :q, :q] - moments[:, :q, q, None] * alpha[:, None, :]
        values, vectors = np.linalg.eigh(spread / rows)
        T[some, :q, :q] = (vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]) @ vectors.mT
        T[some, :q, q] = alpha
        return T
