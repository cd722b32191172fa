"""Sufficient statistics: values that add, so a block, a core and a mini-batch are one thing."""

from dataclasses import dataclass, fields, replace

import numpy as np


def positive(count):
    """Counts to divide by: 1 where there is nothing to divide."""
    return count if count.min(initial=np.inf) > 0 else np.where(count > 0, count, 1.0)


@dataclass(frozen=True)
class Statistics:
    """Additive statistics; `+` and `-` first bring both sides to one origin, exactly."""

    def about(self, origin):
        """The same statistics about another origin; without a location there is none to change."""
        return self

    def means(self) -> np.ndarray:
        """Weighted means of a location family: (K, d)."""
        raise NotImplementedError

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


@dataclass(frozen=True)
class DenseMoments(Statistics):
    """Weighted moments about `origin` whose second moment is a matrix."""

    count: np.ndarray  # (K,) sum of resp
    mass: np.ndarray  # (K,) sum of resp * scale
    first: np.ndarray  # (K, d)
    second: np.ndarray  # (K, d, d)
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
            second=self.second + cross + cross.mT + self.mass[:, None, None] * outer,
            origin=origin,
        )

    def centred(self):
        """Means relative to the origin, and scatters about them: (K, d), (K, d, d)."""
        shift = self.first / positive(self.mass)[:, None]
        return shift, self.second - self.first[:, :, None] * shift[:, None, :]

    def means(self):
        return self.origin + self.centred()[0]


@dataclass(frozen=True)
class PooledMoments(Statistics):
    """Weighted moments about `origin`; the second moment is that of all components together."""

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
    """Moments of x and u = (z, 1) per feature, over the rows that saw it (never d x d)."""

    count: np.ndarray  # (K, d) sum of resp
    uu: np.ndarray  # (K, d, q + 1, q + 1) sum of resp E[u u']
    xu: np.ndarray  # (K, d, q + 1) sum of resp (x - origin) E[u]
    xx: np.ndarray  # (K, d) sum of resp (x - origin)^2
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
