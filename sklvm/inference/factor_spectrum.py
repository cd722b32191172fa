"""The leading eigenvalues that the likelihood of factor analysis needs at given uniquenesses."""

from dataclasses import dataclass, field

import numpy as np

from ..emissions.family import full_rank
from ..numerics.leading import SPARE, largest_eigenpairs, leading_eigenpairs

DIRECT = 128  # columns up to which all eigenvalues cost less than an iteration from a guess
SMALLEST = 0.005  # uniqueness at a start, and one below which a column is a Heywood case
SPARSE = 4  # rows or columns for each vector of the iteration, at least


@dataclass
class Spectrum:
    """u -> the q largest eigenvalues (at least 1) of u^-1/2 R u^-1/2, and their loadings.

    R (d, d) holds correlations. A call starts from the vectors of the call before.
    """

    q: int
    log_det = -np.inf  # of R
    guess: "np.ndarray | None" = field(default=None, init=False)  # without the uniquenesses
    last: tuple = field(default=(None, None), init=False)  # a line search ends where it has been

    def __call__(self, u):
        if not np.array_equal(self.last[0], u):
            self.last = u, self._leading(u)
        return self.last[1]

    def _leading(self, u):
        root = np.sqrt(u)
        pairs = self._near(root) if self.large else None
        values, vectors = self.direct(root) if pairs is None else pairs
        theta = np.maximum(values, 1.0)
        vectors = self.right(values, vectors, root)
        return theta, root[:, None] * vectors * np.sqrt(theta - 1)

    def _near(self, root):
        """Few eigenpairs from those before, or None where they stand too little apart."""
        if self.guess is None:
            shape = (self.side, self.q + SPARE)
            self.guess = np.random.default_rng(0).standard_normal(shape)
        near = self.near(self.guess, root)
        values, vectors, basis = leading_eigenpairs(self.multiplied(root), near, self.q)
        self.guess = self.far(basis, root)
        return None if values is None else (values, vectors)

    @property
    def large(self):
        return SPARSE * (self.q + SPARE) <= self.side

    def starts(self, weight):
        """Yields uniquenesses to start from; of many columns there are hardly two maxima."""
        yield self.principal(0.5)

    def principal(self, u):
        """Two steps of the principal factor method (Harman 1976, 8.5) from u everywhere."""
        u = np.full(self.width, u)
        for _ in range(2):
            u = np.clip(1 - (self(u)[1] ** 2).sum(axis=1), SMALLEST, 1.0)
        return u


@dataclass
class ColumnSpectrum(Spectrum):
    """From the correlations themselves."""

    correlations: np.ndarray  # R (d, d)

    @property
    def side(self):
        return len(self.correlations)

    width = side

    @property
    def large(self):
        return self.side > DIRECT and super().large

    @property
    def log_det(self):
        return np.linalg.slogdet(self.correlations)[1]

    def starts(self, weight):
        """Classical estimates: from multiple correlations, from the largest, principal factors."""
        if self.side <= DIRECT:
            R, d = self.correlations, self.side
            inverse = np.diag(np.linalg.inv(full_rank(R, weight)))
            multiple = max(0.5, 1 - 0.5 * self.q / d) / inverse  # Joreskog (1967)
            largest = np.abs(R - np.eye(d)).max(axis=0)
            for u in (multiple, 1 - largest**2, (1 - largest) ** 2):
                yield np.clip(u, SMALLEST, 1.0)
        yield from super().starts(weight)

    def multiplied(self, root):
        return lambda V: (self.correlations @ (V / root[:, None])) / root[:, None]

    def direct(self, root):
        return largest_eigenpairs(self.correlations / root / root[:, None], self.q)

    def near(self, guess, root):
        """Loadings point to the vectors of any uniquenesses."""
        return guess / root[:, None]

    def far(self, basis, root):
        return basis * root[:, None]

    def right(self, values, vectors, root):
        return vectors


@dataclass
class RowSpectrum(Spectrum):
    """From fewer rows than columns, on the n x n side; rows' rows = R."""

    rows: np.ndarray  # (n, d)

    @property
    def side(self):
        return len(self.rows)

    @property
    def width(self):
        return self.rows.shape[1]

    def multiplied(self, root):
        return lambda V: ((V.T @ self.rows / root**2) @ self.rows.T).T

    def direct(self, root):
        scaled = self.rows / root
        return largest_eigenpairs(scaled @ scaled.T, self.q)

    def near(self, guess, root):
        """Scores hardly feel the uniquenesses."""
        return guess

    def far(self, basis, root):
        return basis

    def right(self, values, vectors, root):
        scaled = (self.rows.T @ vectors) / root[:, None]
        return scaled / np.sqrt(np.maximum(values, 1e-300))
