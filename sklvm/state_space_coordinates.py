"""The free parameters of a state-space model as a vector, and the slope of its log-likelihood."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from .inference.em import EMState
from .numerics.linalg import from_log_cholesky, log_cholesky
from .state_space_slope import log_cholesky_slope


class Units(NamedTuple):
    """Scales of states, features and inputs, in which coordinates are pure numbers."""

    z: np.ndarray  # (q,)
    x: np.ndarray  # (d,)
    u: np.ndarray  # (m,)

    @property
    def matrices(self):
        """Of the entries of A, B, C and D."""
        z, x = self.z[:, None], self.x[:, None]
        return z / self.z, z / self.u, x / self.z, x / self.u


class StateSpaceCoordinates(EMState):
    """What a state knows of its own coordinates: units, differences, derivatives."""

    @property
    def F(self):
        """(q, q + m) A and B side by side: what moves a state."""
        return np.hstack([self.A, self.B])

    @property
    def _units(self):
        variance = np.diagonal(self.Q)
        z = np.sqrt(np.where(variance > 0, variance, 1.0))
        return Units(z, self.structure.noise.scales(self.R), self.structure.unit)

    @property
    def _free(self):
        """The free entries of A, B, C and D."""
        free = self.structure
        return free.A, free.B, free.C, free.D

    @property
    def given(self):
        """A and C, NaN where an entry is free."""
        pairs = (self.A, self.structure.A), (self.C, self.structure.C)
        return tuple(np.where(entries.free, np.nan, matrix) for matrix, entries in pairs)

    def pack(self, other):
        units = self._units
        return other._coordinates(units) - self._coordinates(units)

    def _coordinates(self, units):
        """Free parameters, in units."""
        return np.concatenate(self._parts(units))

    def _parts(self, units):
        """The coordinates of A, B, Q, C, D, R, c and the first state."""
        free, (z, x, _) = self.structure, units
        matrices = zip((self.A, self.B, self.C, self.D), units.matrices, self._free)
        A, B, C, D = (entries.take(matrix / unit) for matrix, unit, entries in matrices)
        noise = self.Q / np.outer(z, z)
        return [
            *(A, B),
            log_cholesky(noise[None])[0] if free.full else np.log(free.Q.take(np.diag(noise))),
            *(C, D),
            free.noise.pack(self.R, x),
            (self.c / x)[: None if free.c_free else 0],
            self.first.pack(z),
        ]

    def unpack(self, vector):
        units, free = self._units, self.structure
        own = self._parts(units)
        vector = vector + np.concatenate(own)
        a, b, noise, *cd, spread, shift, first = np.split(vector, np.cumsum([*map(len, own)])[:-1])
        parts = zip((self.A, self.B, self.C, self.D), (a, b, *cd), units.matrices, self._free)
        matrices = [
            entries.put(matrix, part * entries.take(unit)) for matrix, part, unit, entries in parts
        ]
        (A, B, C, D), (z, x, _), Q = matrices, units, self.Q.copy()
        if free.full:
            Q = from_log_cholesky(noise[None], len(z))[0] * np.outer(z, z)
        else:
            np.fill_diagonal(Q, free.Q.put(np.diag(Q), np.exp(noise) * free.Q.take(z**2)))
        R, c = free.noise.unpack(spread, x), shift * x if free.c_free else self.c
        first = self.first.unpack(first, z)
        return replace(self, A=A, B=B, Q=Q, C=C, D=D, R=R, c=c, first=first)

    # -- the slope of the log-likelihood, by the coordinates of `pack` ---------------------------

    def slope(self, stats, origin):
        """From the sums of an E-step at this state, in the coordinates of another one's `pack`."""
        units, free, q = origin._units, self.structure, len(self.A)
        z, x, _ = units
        by_F, by_Q = self.first.slopes(self.F, self.Q, stats)
        theta = np.column_stack([self.C, np.zeros_like(self.D), np.zeros(len(self.C))])
        by_theta, by_R = free.noise.slopes(theta, self.R, stats)
        _, by_A, by_C = stats.resolved.value_and_slopes(self.A, self.C)
        slopes = by_F[:, :q] + by_A, by_F[:, q:], by_theta[:, :q] + by_C, by_theta[:, q:-1]
        slopes = [
            entries.total(by) * entries.take(unit)
            for by, unit, entries in zip(slopes, units.matrices, self._free)
        ]
        square = np.outer(z, z)
        noise = free.Q.total(np.diagonal(by_Q * self.Q))
        if free.full:
            noise = log_cholesky_slope(by_Q * square, self.Q / square)
        return np.concatenate(
            [
                *slopes[:2],
                noise,
                *slopes[2:],
                free.noise.slope(by_R, self.R, x),
                (by_theta[:, -1] * x)[: None if free.c_free else 0],
                self.first.slope(stats, z),
            ]
        )

    def curvature(self, stats):
        """About how large minus the second derivatives are, by coordinate."""
        units, free, q = self._units, self.structure, len(self.A)
        seen, squares = free.noise.counts(stats), free.noise.squares(stats)
        moved = np.diagonal(stats.earlier).copy()
        moved[:q] += np.diagonal(stats.first)
        moved = np.tile(moved / np.concatenate([units.z, units.u]) ** 2, (q, 1))
        used = squares[:, :-1] / np.concatenate([units.z, units.u]) ** 2
        n = stats.n_moves + stats.n_first
        noise = free.Q.total(np.full(q, n / 2))
        if free.full:
            noise = n * np.concatenate([np.full(q, 2.0), np.ones(q * (q - 1) // 2)])
        sizes = moved[:, :q], moved[:, q:], used[:, :q], used[:, q:]
        sizes = [
            entries.total(size * (entries.put(unit, entries.take(unit)) / unit) ** 2)
            for size, unit, entries in zip(sizes, units.matrices, self._free)
        ]
        return np.concatenate(
            [
                *sizes[:2],
                noise,
                *sizes[2:],
                free.noise.curvature(seen),
                seen[: None if free.c_free else 0],
                self.first.curvature(stats, units.z),
            ]
        )

    def bounds(self):
        """Lowest and highest coordinates: the noise of the observations has a floor."""
        units, noise = self._units, self.structure.noise
        low = [np.full(len(part), -np.inf) for part in self._parts(units)]
        with np.errstate(divide="ignore"):  # no floor
            low[5] = noise.lowest(self.R, units.x) - noise.pack(self.R, units.x)
        return np.minimum(np.concatenate(low), 0.0), np.inf

    @property
    def log_variances(self):
        """(p,) which coordinates are logarithms of variances of states or steps."""
        free, sizes = self.structure, [*map(len, self._parts(self._units))]
        noise = free.noise.logarithmic
        kinds = False, False, not free.full, False, False, noise, False, False
        return np.repeat(kinds, sizes)
