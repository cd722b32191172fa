"""Which entries of a matrix are free, and which of the free ones are one parameter."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Entries:
    """The parameter that each entry of a matrix is: 0 .. n - 1, or -1 where the entry is given."""

    label: np.ndarray  # of the shape of the matrix

    @classmethod
    def named(cls, free, names):
        """Free entries (a mask) of which those with one name are one parameter; "" is no name."""
        label, seen = np.full(free.shape, -1), {}
        for place in zip(*np.nonzero(free)):
            label[place] = seen.setdefault(names[place] or place, len(seen))
        return cls(label)

    @classmethod
    def where(cls, free):
        """Each free entry a parameter of its own."""
        return cls(np.where(free, np.cumsum(free).reshape(free.shape) - 1, -1))

    @property
    def free(self):
        """A mask."""
        return self.label >= 0

    @property
    def n(self):
        """How many parameters there are."""
        return int(self.label.max(initial=-1)) + 1

    @property
    def shared(self):
        """Whether any parameter is several entries."""
        return self.n < self.free.sum()

    @property
    def _which(self):
        """The parameter of each free entry."""
        return self.label[self.free]

    def take(self, matrix):
        """Of each parameter its first entry: (n,)."""
        return matrix[self.free][np.unique(self._which, return_index=True)[1]]

    def put(self, matrix, values):
        """The matrix with the values (n,) of the parameters in their entries."""
        changed = matrix.copy()
        changed[self.free] = values[self._which]
        return changed

    def total(self, matrix):
        """Sums over the entries of each parameter: (n,)."""
        return np.bincount(self._which, matrix[self.free], self.n)

    def mean(self, matrix):
        """The matrix whose entries of one parameter are their mean."""
        return self.put(matrix, self.total(matrix) / np.bincount(self._which, minlength=self.n))

    def total_square(self, system):
        """Sums of rows and columns of a matrix over all entries, row by row: (n, n)."""
        total, which = np.zeros((self.n, self.n)), self._which
        free = np.flatnonzero(self.free)
        np.add.at(total, np.ix_(which, which), system[np.ix_(free, free)])
        return total

    def part(self, places):
        """Of the matrix that `matrix[places]` is."""
        label = self.label[places]
        free = label >= 0
        label[free] = np.unique(label[free], return_inverse=True)[1].ravel()
        return Entries(label)


def beside(*parts):
    """The entries of matrices side by side, whose parameters differ."""
    before = np.cumsum([0, *(part.n for part in parts)])
    labels = [np.where(part.free, part.label + n, -1) for part, n in zip(parts, before)]
    return Entries(np.column_stack(labels))
