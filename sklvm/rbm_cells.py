"""Visible units of codes: a softmax over the cells of each column, which the machine sees."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .emissions.cells import first_cells
from .emissions.independent import whole
from .rbm_units import Units, refuse_outside


def of_cells(values, sizes):
    """The value of each cell's column: (..., d) -> (..., cells)."""
    return np.repeat(values, sizes, axis=-1)


def by_column(reduce, values, sizes):
    """`reduce`, such as np.add, over the cells of each column: (..., cells) -> (..., d)."""
    return reduce.reduceat(values, first_cells(sizes), axis=-1)


def one_of_each(height, sizes):
    """One for the highest cell of each column, the first one of equals: (..., cells), float64."""
    highest = height == of_cells(by_column(np.maximum, height, sizes), sizes)
    if np.count_nonzero(highest) * highest.shape[-1] == highest.size * len(sizes):
        return highest * 1.0
    before = np.cumsum(highest, axis=-1) - highest
    return (highest & (before == of_cells(before[..., first_cells(sizes)], sizes))) * 1.0


def softmax(a, sizes):
    """Shares of the cells of each column: (..., cells)."""
    grown = np.exp(a - of_cells(by_column(np.maximum, a, sizes), sizes))
    return grown / of_cells(by_column(np.add, grown, sizes), sizes)


@dataclass(frozen=True)
class CategoricalUnits(Units):
    """One cell of each column is 1: log p(x given a) = a_x - log sum of exp(a) over the column.

    Rows are read as cells side by side, so that inputs, weights and drives are those of cells.
    """

    sizes: np.ndarray  # (d,) cells of each column
    is_open: bool  # whether the last cell of a column is reserved for codes that fit did not see
    prior: np.ndarray  # (cells,) rows of each cell in the prior of what a column is at h = 1/2

    name: ClassVar[str] = "categorical"
    base_measure: ClassVar[str] = "counting"

    def n_columns(self, n_cells):
        return len(self.sizes)

    def n_free(self, n_cells):
        """A column's cells sum to one, and the prior alone says what a reserved cell holds."""
        return int((self.n_categories - 1).sum())

    @property
    def n_categories(self):
        """(d,) codes of each column that have a cell of their own."""
        return self.sizes - self.is_open

    @property
    def codes(self):
        """(cells,) the code of each cell; a reserved one has the first code beyond."""
        return np.arange(self.sizes.sum()) - of_cells(first_cells(self.sizes), self.sizes)

    def check(self, X):
        allowed = whole(X) if self.is_open else whole(X) & (self.sizes > X)
        known = "0, 1, 2, ..." if self.is_open else f"0 to {self.sizes.max() - 1}"
        needs = f"visible='categorical' needs codes {known}, as OrdinalEncoder makes them"
        refuse_outside(allowed, X, f"Negative values in data, or fractions: {needs}")

    def read(self, X):
        """Codes as cells, all of them NaN where a code is missing: (n, d) -> (n, cells)."""
        code = of_cells(np.minimum(X, self.sizes - 1), self.sizes)
        return np.where(np.isnan(code), np.nan, code == self.codes)

    def log_sum(self, a):
        """In the first cell of each column, 0 in the others: (..., cells)."""
        peak = by_column(np.maximum, a, self.sizes)
        grown = by_column(np.add, np.exp(a - of_cells(peak, self.sizes)), self.sizes)
        total = np.zeros(a.shape)
        total[..., first_cells(self.sizes)] = peak + np.log(grown)
        return total

    def drive_mean(self, a):
        return softmax(a, self.sizes)

    mean = drive_mean

    def noise(self, rng, shape):
        return rng.gumbel(size=shape)

    def draw(self, a, noise):
        """The highest of inputs with Gumbel noise is a draw from the softmax."""
        return one_of_each(a + noise, self.sizes)

    def mode(self, a):
        return one_of_each(a, self.sizes)

    def shown(self, x):
        """Cells as codes; shares of cells as mean codes: (..., cells) -> (..., d)."""
        return by_column(np.add, x * self.codes, self.sizes)


class CellUnits(CategoricalUnits):
    """The same for rows that are cells already."""

    def read(self, X):
        return X
