"""K products of categorical distributions: columns of codes 0, 1, 2, ... without an order."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import xlogy

from .cells import CellSweep, cells_of, first_cells, one_hot
from .independent import FLOOR, CountingSpec, Independent, refuse_unless, whole
from .statistics import Statistics

MOST = 100_000  # categories of a column: beyond, codes are names, not positions
COMPARED = 32  # categories of a column, the most frequent ones, by which starts compare rows


@dataclass(frozen=True)
class CellCounts(Statistics):
    """How often each cell of each column was seen."""

    count: np.ndarray  # (K, cells)


@dataclass(frozen=True)
class Categoricals(Independent):
    """p(x | z = k) = prod_j p_k(cell of x_j in column j); the cells of a column sum to one."""

    probs: np.ndarray  # (K, cells) the columns side by side
    sizes: np.ndarray  # (d,) cells of each column
    prior: np.ndarray  # (cells,) pseudo-counts
    is_open: bool  # whether the last cell of each column is reserved for what fit did not see
    pseudo: float  # what the pseudo-counts of a column sum to

    def check(self, X):
        _refuse_unless_codes(X, None if self.is_open else self.sizes)

    def sweep(self, offset=0.0, known=None):
        return CellSweep(np.log(self.probs), self.sizes, offset, CellCounts)

    def log_prob(self, X):
        return self.sweep().block(X)[0]

    def stats(self, X, resp):
        return CellCounts((one_hot(X, self.sizes).T @ resp).T)

    def m_step(self, stats):
        count = stats.count + self.prior
        total = self._of_cells(self._by_column(count))
        share = count / np.where(total > 0, total, 1.0)
        return replace(self, probs=np.maximum(np.where(total > 0, share, self.probs), FLOOR))

    def log_prior(self):
        return float(xlogy(self.prior, self.probs).sum())

    def _by_column(self, values):
        """Sums over the cells of each column: (..., cells) -> (..., d)."""
        return np.add.reduceat(values, first_cells(self.sizes), axis=-1)

    def _of_cells(self, values):
        """The value of each cell's column: (..., d) -> (..., cells)."""
        return np.repeat(values, self.sizes, axis=-1)

    @property
    def codes(self):
        """(cells,) the code of each cell; a reserved one has the first code beyond."""
        return (np.arange(len(self.prior)) - self._of_cells(first_cells(self.sizes))).astype(float)

    def sample(self, z, rng):
        X = np.empty((len(z), len(self.sizes)))
        for j, probs in enumerate(np.split(self.probs, first_cells(self.sizes)[1:], axis=1)):
            below, u = np.cumsum(probs, axis=1)[:, :-1], rng.uniform(size=len(z))
            for k in np.unique(z):
                X[z == k, j] = np.searchsorted(below[k], u[z == k], side="right")
        return X

    def expectation(self):
        return self._by_column(self.probs * self.codes)

    def variance(self):
        gap = self.codes - self._of_cells(self.expectation())
        return self._by_column(self.probs * gap**2)

    def cdf(self, X):
        """The last cell of a column stands for the first code beyond."""
        return super().cdf(np.minimum(X, self.sizes - 1))

    def candidates(self):
        return self.codes

    def take(self, order):
        return replace(self, probs=self.probs[order])

    def marginal(self, columns):
        cells = cells_of(columns, self.sizes)
        sizes = self.sizes[columns]
        return replace(self, probs=self.probs[:, cells], prior=self.prior[cells], sizes=sizes)

    def pack(self, other):
        return np.log(other.probs / self.probs).ravel()

    def unpack(self, vector):
        shift = vector.reshape(self.probs.shape)
        peak = np.maximum.reduceat(shift, first_cells(self.sizes), axis=1)
        grown = self.probs * np.exp(shift - self._of_cells(peak))
        share = grown / self._of_cells(self._by_column(grown))
        return replace(self, probs=np.maximum(share, FLOOR))

    @property
    def kind(self):
        return f"Categoricals of {self.sizes.tolist()} cells"

    @property
    def n_parameters(self):
        """Of seen or declared categories: the prior alone says what a reserved cell holds."""
        return len(self.probs) * int((self.sizes - 1 - self.is_open).sum())

    @property
    def spec(self):
        return Categorical(None if self.is_open else int(self.sizes.max()), self.pseudo)


class Categorical(CountingSpec):
    """Categorical emission: columns of codes, independent within a component (latent classes).

    Codes are whole numbers from 0, as OrdinalEncoder makes them; their order means nothing, though
    `means_` and ``impute(how="mean")`` average them: ``impute(how="mode")`` gives a category.

    Parameters
    ----------
    n_categories : int or None, default=None
        Categories of each column. None learns them: one more than the largest code that fit saw,
        and one reserved cell for whatever else comes, so that a new category is improbable and
        never impossible (samples show it as the first code beyond). With a number, larger codes
        are refused.
    pseudo : float, default=1.0
        Prior rows that each component gets, with the frequencies of all rows; of c categories that
        fit saw, 1 in c + 1 of these rows goes to those that it did not. 0 is maximum likelihood.

    References
    ----------
    Goodman (1974), Exploratory latent structure analysis. Vermunt & Magidson (2016), Technical
    guide for Latent GOLD, for pseudo-observations with the observed frequencies.

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import Categorical, Mixture
    >>> X = np.repeat([[0, 2, 1], [1, 0, 0]], [20, 10], axis=0)
    >>> model = Mixture(2, emission=Categorical(n_categories=3), random_state=0).fit(X)
    >>> model.impute([[0, np.nan, np.nan]], how="mode")
    array([[0., 2., 1.]])
    """

    def __init__(self, n_categories=None, pseudo=1.0):
        self.n_categories = n_categories
        self.pseudo = pseudo

    def tally(self, X, weight, total):
        """How often each code was seen: an array for each column."""
        sizes = self._sizes(X)
        known = None if self.n_categories is None else sizes

        def counts(x, w):
            _refuse_unless_codes(x, known)
            return (one_hot(x, sizes).T @ w,)

        return tuple(np.split(total(counts, (X, weight))[0], first_cells(sizes)[1:]))

    def _sizes(self, X):
        """Cells of each column without the reserved one: (d,)."""
        C = self.n_categories
        if C is not None:
            if not isinstance(C, int | np.integer) or isinstance(C, bool) or C < 2:
                raise ValueError(f"Categorical: n_categories must be at least 2 or None, got {C!r}")
            return np.full(X.shape[1], C)
        highest = np.fmax.reduce(X, axis=0)
        if highest.max() >= MOST:
            raise ValueError(
                f"Categorical: a code of {highest.max():g} is no position among categories; "
                "encode them first, with OrdinalEncoder for example"
            )
        return np.maximum(highest, 0).astype(int) + 1

    def broad(self, family, K):
        """K copies of one product fitted to all rows."""
        pseudo, is_open = self._checked_pseudo(), self.n_categories is None
        counts = [np.append(part, [0.0] * is_open) for part in family.tally]
        prior = np.concatenate([pseudo * prior_shares(part) for part in counts])
        sizes = np.array([len(part) for part in counts])
        probs = np.empty((K, len(prior)))
        empty = Categoricals(probs, sizes, prior, is_open, pseudo)
        return empty.m_step(CellCounts(np.tile(np.concatenate(counts), (K, 1))))

    def background(self, family):
        """Every cell of a column alike, the reserved one too."""
        pooled = self.broad(family, 1)
        return replace(pooled, probs=np.repeat(1 / pooled.sizes, pooled.sizes)[None])

    def comparable(self, X, family, complete):
        """Ones for what a row has, of total variance 1 for a column of equally many of each."""
        columns = zip(X.T[:, :, None], family.tally, strict=True)
        return np.hstack([_indicators(x, count) for x, count in columns])


def _refuse_unless_codes(X, sizes):
    """Codes are whole numbers from 0, and below `sizes` (d,) where these are known."""
    allowed = whole(X) if sizes is None else whole(X) & (sizes > X)
    known = "0, 1, 2, ..." if sizes is None else f"0 to {max(sizes) - 1}"
    refuse_unless(allowed, X, f"Categorical() needs codes {known}, as OrdinalEncoder makes them")


def _indicators(x, count):
    """The frequent categories of a column as columns of their own: (n, 1), (C,) -> (n, m)."""
    c = np.count_nonzero(count)
    codes = np.argsort(-count, kind="stable")[: min(c, COMPARED)]
    share = count[codes] / count.sum()
    return np.where(np.isnan(x), share, x == codes) * np.sqrt(c / (c - 1))


def prior_shares(count):
    """The shares of the prior rows that a column's cells get: frequencies, and some for unseen."""
    seen = count > 0
    if seen.all():
        return count / count.sum()
    c = np.count_nonzero(seen)
    unseen = 1 / ((c + 1) * np.count_nonzero(~seen))
    return np.where(seen, c / (c + 1) * count / count.sum(), unseen)
