"""Sufficient statistics: values that add, so a block, a core and a mini-batch are one thing."""

from dataclasses import dataclass, fields, replace

import numpy as np


@dataclass(frozen=True)
class Statistics:
    """Additive statistics; `+` and `-` first bring both sides to one origin, exactly."""

    def about(self, origin):
        """The same statistics about another origin; without a location there is none to change."""
        return self

    def means(self) -> np.ndarray:
        """Weighted means of a location family: (K, d)."""
        raise NotImplementedError

    def take(self, order):
        """The statistics of the components in another order."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: _taken(part, order) for name, part in parts.items()})

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
    return part.take(order) if isinstance(part, Statistics) else part[order]


@dataclass(frozen=True)
class DenseMoments(Statistics):
    """Weighted moments about `origin` whose second moment is a matrix."""

    count: np.ndarray  # (K,) sum of resp
    mass: np.ndarray  # (K,) sum of resp * scale
    first: np.ndarray  # (K, d)
    second: np.ndarray  # (K, d, d)
    origin: np.ndarray  # (K, d)

    def about(self, origin):
        if origin is self.origin:
            return self
        shift = self.origin - origin
        cross = self.first[:, :, None] * shift[:, None, :]
        outer = shift[:, :, None] * shift[:, None, :]
        return replace(
            self,
            first=self.first + self.mass[:, None] * shift,
            second=self.second + cross + cross.mT + self.mass[:, None, None] * outer,
            origin=origin,
        )

    def centred(self):
        """Means relative to the origin, and scatters about them: (K, d), (K, d, d)."""
        shift = self.first / np.where(self.mass > 0, self.mass, 1.0)[:, None]
        return shift, self.second - self.first[:, :, None] * shift[:, None, :]

    def means(self):
        return self.origin + self.centred()[0]


@dataclass(frozen=True)
class DiagonalMoments(Statistics):
    """Weighted moments of each feature about `origin`, over the rows that saw it."""

    count: np.ndarray  # (K, d) sum of resp
    mass: np.ndarray  # (K, d) sum of resp * scale
    first: np.ndarray  # (K, d)
    second: np.ndarray  # (K, d)
    origin: np.ndarray  # (K, d)

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
        shift = self.first / np.where(self.mass > 0, self.mass, 1.0)
        return shift, self.second - self.first * shift

    def means(self):
        return self.origin + self.centred()[0]


@dataclass(frozen=True)
class LatentMoments(Statistics):
    """Moments of x and u = (z, 1) per feature, over the rows that saw it (never d x d)."""

    count: np.ndarray  # (K, d) sum of resp
    uu: np.ndarray  # (K, d, q + 1, q + 1) sum of resp E[u u']
    xu: np.ndarray  # (K, d, q + 1) sum of resp (x - origin) E[u]
    xx: np.ndarray  # (K, d) sum of resp (x - origin)^2
    origin: np.ndarray  # (K, d)

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
