"""K products of negative binomial distributions: columns of counts that vary more than Poisson."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import betainc

from .cells import CellSweep
from .dispersion import (
    BINS,
    BOUNDS,
    CELLS,
    EDGES,
    TABLE,
    cells_beyond,
    fitted_dispersion,
    log_prior,
    rises,
    steps,
    sums_to,
)
from .independent import (
    FLOOR,
    CountingSpec,
    Independent,
    between,
    log_factorials,
    refuse_unless,
    whole,
)
from .statistics import Statistics, positive

ROUNDS = 20  # of means and dispersions in an M-step, which needs three
ROUNDING = 1e-11  # relative fall of a sum that rounding may cause
CLOSE = 1e-13  # of a mean to the one before, relatively
SMALL = 0.01  # the typical dispersion where all rows together vary less than Poisson counts


@dataclass(frozen=True)
class Histograms(Statistics):
    """How often the counts of each column lay in each cell, and how far inside."""

    count: np.ndarray  # (K, d, CELLS) sum of resp
    excess: np.ndarray  # (K, d) sum of resp * (x - the least count of its cell)
    slope: np.ndarray  # (K, d) sum of resp * d f / d log dispersion from there to x


@dataclass(frozen=True)
class NegativeBinomials(Independent):
    """E[x | z = k] = mean, Var[x | z = k] = mean + dispersion mean^2 (Lawless 1987)."""

    mean: np.ndarray  # (K, d)
    dispersion: np.ndarray  # (K, d)
    pseudo: float  # the prior of each column: as many rows ...
    centre: np.ndarray  # (d,) ... of this average ...
    spread: np.ndarray  # (d,) ... and variance

    def check(self, X):
        refuse_unless(whole(X), X, "NegativeBinomial() needs counts 0, 1, 2, ...")

    def _slope_and_constant(self):
        """log p(x | z = k) = f(x) + x slope - constant - log x!: (K, d), (K, d)."""
        log = np.log1p(self.dispersion * self.mean)
        return np.log(self.mean) - log, log / self.dispersion

    def sweep(self, offset=0.0, known=None):
        return _CountSweep(self, offset, known)

    def log_prob(self, X):
        return self.sweep().block(X)[0]

    def stats(self, X, resp):
        return self.sweep(known=0.0).block(X)[1](resp)

    def known(self, X, weight, total):
        """The part of the log-likelihood that no parameter changes."""
        return -float(total(lambda x, w: (w @ log_factorials(x),), (X, weight))[0])

    def m_step(self, stats):
        """Means and dispersions in turn, which a prior alone makes depend on each other."""
        rows, total, above = self.sums(stats)
        there, mean = self, self._best_means(rows, total)
        for _ in range(ROUNDS):
            there = replace(there, mean=mean)._with_dispersions(rows, total, above, stats.slope)
            mean = there._best_means(rows, total)
            if np.abs(mean / there.mean - 1).max(initial=0.0) < CLOSE:
                break
        return there

    @staticmethod
    def sums(stats):
        """Weight and sum of counts, and weight beyond each cell: (K, d), (K, d), (K, d, top)."""
        count = stats.count
        above = np.cumsum(count[..., ::-1], axis=-1)[..., ::-1][..., 1:]
        above = above[..., : 1 + int(np.flatnonzero(above.any(axis=(0, 1))).max(initial=0))]
        return count.sum(axis=-1), count @ EDGES + stats.excess, above

    def _with_dispersions(self, rows, total, above, slope):
        """The best dispersions for these means, where they are no worse than those at hand."""
        prior = self._typical, self.pseudo
        found = fitted_dispersion(self.dispersion, self.mean, rows, total, above, slope, *prior)
        sums = rows, total, above, slope
        height, there = self._expected(*sums), replace(self, dispersion=found)._expected(*sums)
        keeps = (rows > 0) & (there >= height - ROUNDING * (1 + np.abs(height)))
        return replace(self, dispersion=np.where(keeps, found, self.dispersion))

    def _best_means(self, rows, total):
        """The positive root m of rows (total / rows - m) + k (centre - m) (1 + a m) = 0."""
        a, k = self.dispersion, self._prior_rows
        linear, constant = rows + k - k * a * self.centre, total + k * self.centre
        divisor = linear + np.sqrt(linear**2 + 4 * k * a * constant)
        mean = np.maximum(2 * constant / positive(divisor), FLOOR * self.centre)
        return np.where(rows + k > 0, mean, self.mean)

    def _expected(self, rows, total, above, slope):
        """Expected log-likelihood and prior, but for what no dispersion changes: (K, d)."""
        a = self.dispersion
        value = (above * steps(a, above.shape[-1])[0]).sum(axis=-1) + slope * np.log(a)
        value += log_prior(a, self._typical, self.pseudo)
        return value - (total + rows / a) * np.log1p(a * self.mean)

    @property
    def _prior_rows(self):
        """Poisson rows as informative as `pseudo` of all rows, whose variance is `spread`: (d,)."""
        return self.pseudo * self.centre / self.spread

    @property
    def _typical(self):
        """The dispersion of all rows, or a small one where they vary less than Poisson: (d,)."""
        return np.maximum((self.spread - self.centre) / self.centre**2, SMALL)

    def log_prior(self):
        ratio = self.mean / self.centre
        of_means = self._prior_rows * self.centre * (np.log(ratio) - ratio + 1)
        return float((of_means + log_prior(self.dispersion, self._typical, self.pseudo)).sum())

    def sample(self, z, rng):
        a, mean = self.dispersion[z], self.mean[z]
        return rng.negative_binomial(1 / a, 1 / (1 + a * mean)).astype(float)

    def expectation(self):
        return self.mean

    def variance(self):
        return self.mean + self.dispersion * self.mean**2

    def cdf(self, X):
        x, a = np.floor(X)[:, None], self.dispersion
        return np.where(x < 0, 0.0, betainc(1 / a, np.maximum(x, 0.0) + 1, 1 / (1 + a * self.mean)))

    def candidates(self):
        return between(np.floor(self.mean * np.maximum(1 - self.dispersion, 0.0))[:, 0])

    def take(self, order):
        return replace(self, mean=self.mean[order], dispersion=self.dispersion[order])

    def marginal(self, columns):
        return replace(
            self,
            mean=self.mean[:, columns],
            dispersion=self.dispersion[:, columns],
            centre=self.centre[columns],
            spread=self.spread[columns],
        )

    def pack(self, other):
        ratios = (other.mean / self.mean, other.dispersion / self.dispersion)
        return np.log(np.concatenate([ratio.ravel() for ratio in ratios]))

    def unpack(self, vector):
        mean, dispersion = np.exp(vector).reshape(2, *self.mean.shape)
        return replace(
            self,
            mean=np.maximum(self.mean * mean, FLOOR * self.centre),
            dispersion=np.clip(self.dispersion * dispersion, *BOUNDS),
        )

    @property
    def n_parameters(self):
        return 2 * self.mean.size

    @property
    def spec(self):
        return NegativeBinomial(self.pseudo)


class _CountSweep(CellSweep):
    """Counts by their cells; how far they lie inside one, beyond TABLE, entry by entry."""

    def __init__(self, emission, offset, known):
        self._slope, constant = emission._slope_and_constant()
        self._a, (K, d) = emission.dispersion, self._slope.shape
        table = rises(self._a) + self._slope[..., None] * EDGES
        log_p = (table - constant[..., None]).reshape(K, -1)
        sizes = np.full(d, CELLS)
        super().__init__(log_p, sizes, offset, lambda counts: counts.reshape(K, d, -1))
        start = sums_to(self._a[..., None], BINS)
        self._start = start[0] + self._slope[..., None] * BINS, start[1]
        self._known = known

    def block(self, X):
        rows, columns = np.nonzero(X > TABLE)
        beyond, codes = X[rows, columns], X
        cells = cells_beyond(beyond)
        if len(rows):
            codes = X.copy()
            codes[rows, columns] = TABLE + cells
        joint, counts = super().block(codes)
        parts = [sums_to(a[columns], beyond) for a in self._a] if len(rows) else []
        for k, (logs, _) in enumerate(parts):
            more = logs + beyond * self._slope[k, columns] - self._start[0][k, columns, cells]
            joint[:, k] += np.bincount(rows, more, minlength=len(X))
        if self._known is None:
            joint -= log_factorials(X)[:, None]

        def statistics(resp):
            def sums(values):
                return np.bincount(columns, values, minlength=X.shape[1])

            excess, slope = np.zeros((2, *self._a.shape))
            for k, (_, slopes) in enumerate(parts):
                taken = resp[rows, k]
                excess[k] = sums(taken * (beyond - BINS[cells]))
                slope[k] = sums(taken * (slopes - self._start[1][k, columns, cells]))
            return Histograms(counts(resp), excess, slope)

        return joint, statistics

    def total(self, sums, log_likelihood):
        return sums, log_likelihood + (self._known or 0.0)


class NegativeBinomial(CountingSpec):
    """Negative binomial emission: counts whose variance exceeds their mean, component by component.

    Within a component, column j has mean m and variance m + a m^2; the dispersion a >= 0 is learned
    for each component and column. With a = 0 it is a Poisson distribution.

    Parameters
    ----------
    pseudo : float, default=1.0
        Prior rows, of the average of all rows, that the mean of each component gets, and the
        strength of a prior of its dispersion about that of all rows; 0 is maximum likelihood.

    See Also
    --------
    Poisson : Counts whose variance is their mean.

    References
    ----------
    Lawless (1987), Negative binomial and mixed Poisson regression. Levin & Reeds (1977), Compound
    multinomial likelihood functions are unimodal.

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import Mixture, NegativeBinomial
    >>> rng = np.random.default_rng(0)
    >>> rate = np.repeat([[5.0], [60.0]], [600, 400], axis=0) * rng.gamma(4, 1 / 4, (1000, 1))
    >>> model = Mixture(2, emission=NegativeBinomial(), random_state=0).fit(rng.poisson(rate))
    >>> bool(abs(model.emission_.dispersion - 1 / 4).max() < 0.05)
    True
    """

    def __init__(self, pseudo=1.0):
        self.pseudo = pseudo

    def broad(self, family, K):
        """K copies of one product that has the moments of all rows."""
        centre, spread = family.mean, family.variance
        mean, pseudo = np.tile(centre, (K, 1)), self._checked_pseudo()
        start = NegativeBinomials(mean, np.ones_like(mean), pseudo, centre, spread)
        with np.errstate(all="ignore"):  # `check` refuses what is no count
            return replace(start, dispersion=np.tile(start._typical, (K, 1)))

    def background(self, family):
        """As spread out as all rows, and no less than a geometric distribution."""
        pooled = self.broad(family, 1)
        return replace(pooled, dispersion=np.maximum(pooled.dispersion, 1.0))

    def comparable(self, X, family, complete):
        """Square roots, standardised: their spread grows less than that of counts."""
        roots = np.sqrt(np.where(np.isnan(X), family.mean, X))
        spread = roots.std(axis=0)
        return (roots - roots.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
