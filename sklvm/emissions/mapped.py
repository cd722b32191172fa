"""Gaussians over mapped columns, and two kinds of components side by side."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..numerics.column_maps import ColumnMaps
from ..numerics.missing import conditional_variances, find_holes
from .gaussian import Gaussians


@dataclass(frozen=True)
class Mapped:
    """p(x | z = k) = N(g(x); means_k, S_k) prod_j g_j'(x_j), with full matrices.

    Answers, but is no emission that EM climbs: the Gaussians are fitted to g(x).
    """

    gaussians: Gaussians
    maps: ColumnMaps

    def log_prob(self, X):
        density = self.gaussians.log_prob(self.maps.forward(X))
        return density + self.maps.log_slope(X).sum(axis=1, keepdims=True)

    def sample(self, z, rng):
        return self.maps.inverse(self.gaussians.sample(z, rng))

    def complete(self, X):
        """Missing entries at E[x_j | x_seen, z = k], exactly: (n, d) -> (n, K, d)."""
        Z = self.maps.forward(X)
        filled = np.repeat(X[:, None, :], len(self.gaussians.means), axis=1)
        holes = find_holes(Z)
        if holes is None:
            return filled
        pattern = np.repeat(np.arange(len(holes.missing)), np.diff(holes.starts))
        at, column = np.nonzero(holes.missing[pattern])
        row = holes.rows[at]
        means = self.gaussians.complete(Z)[row, :, column]  # (entries, K)
        matrices = self.gaussians.cov.matrices  # type: ignore[attr-defined]
        variances = conditional_variances(holes, matrices)
        spread = variances[pattern[at], :, column]
        filled[row, :, column] = self.maps.mean(means, spread, column[:, None])
        return filled

    def complete_sample(self, X, z, rng):
        drawn = self.maps.inverse(self.gaussians.complete_sample(self.maps.forward(X), z, rng))
        return np.where(np.isnan(X), drawn, X)

    def expectation(self):
        means = self.gaussians.means
        variances = self.gaussians.cov.dense().diagonal(axis1=1, axis2=2)
        return self.maps.mean(means, variances, np.arange(means.shape[1]))

    def marginal(self, columns):
        return Mapped(self.gaussians.marginal(columns), self.maps.take(columns))

    @property
    def n_parameters(self):
        """A map has two numbers less than it has knots: location and scale are the Gaussians'."""
        return self.gaussians.n_parameters + int((self.maps.n_knots - 2).sum())


@dataclass(frozen=True)
class Beside:
    """The components of two emissions, one after the other."""

    parts: tuple[Any, ...]

    base_measure = "lebesgue"
    n_noise = 0

    def check(self, X):
        """Every finite number is inside the support."""

    def predictive(self):
        return self

    def log_prob(self, X):
        return np.concatenate([part.log_prob(X) for part in self.parts], axis=1)

    def complete(self, X):
        return np.concatenate([part.complete(X) for part in self.parts], axis=1)

    def expectation(self):
        return np.concatenate([part.expectation() for part in self.parts])

    def sample(self, z, rng):
        return self._of_component(z, lambda part, rows, z: part.sample(z, rng))

    def complete_sample(self, X, z, rng):
        return self._of_component(z, lambda part, rows, z: part.complete_sample(X[rows], z, rng))

    def _of_component(self, z, draw):
        """Rows that each part draws for the latents of its own: (n,) -> (n, d)."""
        sizes = [len(part.expectation()) for part in self.parts]
        drawn = np.empty((len(z), self.expectation().shape[1]))
        for part, end, size in zip(self.parts, np.cumsum(sizes), sizes):
            rows = (end - size <= z) & (z < end)
            if rows.any():
                drawn[rows] = draw(part, rows, z[rows] - (end - size))
        return drawn

    def marginal(self, columns):
        return replace(self, parts=tuple(part.marginal(columns) for part in self.parts))

    @property
    def n_parameters(self):
        return sum(part.n_parameters for part in self.parts)
