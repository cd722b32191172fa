"""K products of negative binomial distributions: columns of counts that vary more than Poisson."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import gammaln

from .cells import CellSweep
from .dispersion import BOUNDS, TABLE, fitted_dispersion, rises, smooth_rise, sums_to
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


@dataclass(frozen=True)
class Histograms(Statistics):
    """How often each column was 0, 1, ..., TABLE or more, and what the larger counts add."""

    count: np.ndarray  # (K, d, TABLE + 1) sum of resp; the last cell holds all from TABLE on
    excess: np.ndarray  # (K, d) sum of resp * (x - TABLE) over these
    slope: np.ndarray  # (K, d) sum of resp * d log p / d log dispersion over these, beyond TABLE


@dataclass(frozen=True)
class NegativeBinomials(Independent):
    """E[x | z = k] = mean, Var[x | z = k] = mean + dispersion mean^2 (Lawless 1987)."""

    mean: np.ndarray  # (K, d)
    dispersion: np.ndarray  # (K, d)
    pseudo: float  # the prior of each column: as many rows ...
    centre: np.ndarray  # (d,) ... of this average ...
    spread: np.ndarray  # (d,) ... and variance: zeros, and one number c + v / c

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
        """Means are averages, whatever the dispersion; then a line search for each dispersion."""
        count, rows = stats.count, stats.count.sum(axis=-1) + self.pseudo
        some = rows > 0
        total = count @ np.arange(TABLE + 1) + stats.excess + self.pseudo * self.centre
        mean = np.where(some, np.maximum(total / positive(rows), FLOOR * self.centre), self.mean)
        above = np.cumsum(count[..., ::-1], axis=-1)[..., ::-1][..., 1:]
        top = 1 + int(np.flatnonzero(above.any(axis=(0, 1))).max(initial=0))
        above = above[..., :top]
        found = fitted_dispersion(
            self.dispersion, mean, rows, above, stats.slope, *self._prior_rows()
        )
        there, here = replace(self, mean=mean, dispersion=found), replace(self, mean=mean)
        better = there._expected(stats, rows, above) > here._expected(stats, rows, above)
        return replace(there, dispersion=np.where(some & better, found, self.dispersion))

    def _prior_rows(self):
        """How many of the prior's rows are not zero, and what these hold: (d,), (d,)."""
        nonzero = self.centre**2 / (self.centre**2 + self.spread)
        return self.pseudo * nonzero, self.centre / nonzero

    def _expected(self, stats, rows, above):
        """Expected log-likelihood and prior, but for what no dispersion changes: (K, d)."""
        a, prior_rows = self.dispersion, self._prior_rows()
        steps = np.log1p(a[..., None] * np.arange(above.shape[-1]))
        value = (above * steps).sum(axis=-1) + stats.slope * np.log(a)
        value += prior_rows[0] * smooth_rise(a, prior_rows[1])
        return value - rows * (self.mean + 1 / a) * np.log1p(a * self.mean)

    def log_prior(self):
        slope, constant = self._slope_and_constant()
        prior_rows, count = self._prior_rows()
        value = prior_rows * (smooth_rise(self.dispersion, count) - gammaln(count + 1))
        return float((value + self.pseudo * (self.centre * slope - constant)).sum())

    def sample(self, z, rng):
        a, mean = self.dispersion[z], self.mean[z]
        return rng.negative_binomial(1 / a, 1 / (1 + a * mean)).astype(float)

    def expectation(self):
        return self.mean

    def variance(self):
        return self.mean + self.dispersion * self.mean**2

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
    """Counts up to TABLE by their cells; what is beyond TABLE entry by entry."""

    def __init__(self, emission, offset, known):
        self._slope, constant = emission._slope_and_constant()
        self._a, (K, d) = emission.dispersion, self._slope.shape
        table = rises(self._a) + self._slope[..., None] * np.arange(TABLE + 1)
        log_p = (table - constant[..., None]).reshape(K, -1)
        sizes = np.full(d, TABLE + 1)
        super().__init__(log_p, sizes, offset, lambda counts: counts.reshape(K, d, -1))
        start = sums_to(self._a, float(TABLE))
        self._start = start[0] + TABLE * self._slope, start[1]
        self._known = known

    def block(self, X):
        joint, counts = super().block(X)
        rows, columns = np.nonzero(X > TABLE)
        beyond = X[rows, columns]
        parts = [sums_to(a[columns], beyond) for a in self._a] if len(rows) else []
        for k, (logs, _) in enumerate(parts):
            more = logs + beyond * self._slope[k, columns] - self._start[0][k, columns]
            joint[:, k] += np.bincount(rows, more, minlength=len(X))
        if self._known is None:
            joint -= log_factorials(X)[:, None]

        def statistics(resp):
            def sums(values):
                return np.bincount(columns, values, minlength=X.shape[1])

            excess, slope = np.zeros((2, *self._a.shape))
            for k, (_, slopes) in enumerate(parts):
                taken = resp[rows, k]
                excess[k] = sums(taken * (beyond - TABLE))
                slope[k] = sums(taken * slopes) - self._start[1][k] * sums(taken)
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
        Prior rows, of the average and the variance of all rows, that each component gets; 0 is
        maximum likelihood.

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
        with np.errstate(all="ignore"):  # `check` refuses what is no count
            excess = np.nan_to_num((spread - centre) / centre**2)
        dispersion = np.tile(np.clip(excess, 1e-2, 1e2), (K, 1))
        mean = np.tile(centre, (K, 1))
        return NegativeBinomials(mean, dispersion, self._checked_pseudo(), centre, spread)

    def background(self, family):
        """As spread out as all rows, and no less than a geometric distribution."""
        pooled = self.broad(family, 1)
        return replace(pooled, dispersion=np.maximum(pooled.dispersion, 1.0))

    def comparable(self, X, family, complete):
        """Square roots, standardised: their spread grows less than that of counts."""
        roots = np.sqrt(np.where(np.isnan(X), family.mean, X))
        spread = roots.std(axis=0)
        return (roots - roots.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
