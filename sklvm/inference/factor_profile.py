"""The likelihood of factor analysis, loadings maximised out: a function of log uniquenesses."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import chdtri

from ..emissions.covariance import Penalty
from ..emissions.factor_analyzers import FLOOR
from .ascend import ascend
from .factor_spectrum import SMALLEST, ColumnSpectrum, RowSpectrum, Spectrum
from .history import FitInterrupted, Run
from .moments import centred_rows, sample_moments

PLENTY = 10  # rows for each parameter
REJECTED = 1e-3  # level of the test that a fit must pass to end the search
LOG_2PI = np.log(2 * np.pi)


@dataclass(frozen=True)
class Profile:
    """log p of the rows at uniquenesses u (shares of the variances), in nats per unit weight."""

    variance: np.ndarray  # (d,)
    spectrum: Spectrum
    weight: float  # of all rows
    penalty: float  # c of -(c/2) sum_j 1 / u_j

    @classmethod
    def of_covariance(cls, S, weight, q, penalty):
        """From the covariance of the rows (d, d)."""
        variance = np.diag(S).copy()
        sd = np.sqrt(variance)
        return cls(variance, ColumnSpectrum(q, S / sd / sd[:, None]), weight, penalty)

    @classmethod
    def of_rows(cls, rows, weight, q, penalty):
        """From centred rows (n, d) with rows' rows = covariance, n < d."""
        variance = np.einsum("ij,ij->j", rows, rows)
        return cls(variance, RowSpectrum(q, rows / np.sqrt(variance)), weight, penalty)

    @classmethod
    def of_data(cls, X, weight, q, penalty):
        """From complete rows (n, d), on the smaller side: -> mean (d,), covariance, the profile.

        Where rows are fewer than columns no covariance is made: None.
        """
        total = weight.sum()
        if total >= X.shape[1]:
            mean, S = sample_moments(X, weight)
            return mean, S, cls.of_covariance(S, total, q, penalty)
        mean, rows = centred_rows(X, weight)
        return mean, None, cls.of_rows(rows, total, q, penalty)

    def sized(self, q):
        """The same rows with q factors."""
        return replace(self, spectrum=replace(self.spectrum, q=q))

    def value_and_gradient(self, log_u):
        """By log u (Joreskog 1967, 22 and 26)."""
        u, soft = np.exp(log_u), self.penalty / self.weight
        theta, L = self.spectrum(u)
        fit = log_u.sum() + (1 / u).sum() + (np.log(theta) - theta + 1).sum()
        value = -0.5 * (fit + soft * (1 / u).sum())
        return value, -0.5 * (np.einsum("ij,ij->i", L, L) + u - 1 - soft) / u

    def curvature(self, u):
        """Second derivatives by each log u: (1 - h)^2 / 2, h the share of the factors' directions.

        From the approximation of Joreskog (1967, 29), and not too far from 1/2: (d,) -> (d,).
        """
        theta, L = self.spectrum(u)
        h = (L**2 / np.maximum(theta - 1, np.finfo(float).tiny)).sum(axis=1) / u
        return 0.5 * np.maximum(1 - h, 0.3) ** 2

    def factors(self, log_u):
        """Loadings (d, q), uniquenesses (d,), both in the units of the rows; Penalty; floor."""
        u, variance = np.exp(log_u), self.variance
        W = np.zeros((len(u), self.spectrum.q))
        _, L = self.spectrum(u)
        W[:, : L.shape[1]] = np.sqrt(variance)[:, None] * L
        return W, variance * u, Penalty(0.0, self.penalty * variance), FLOOR * variance

    def climb(self, log_u, state_of, **settings):
        """L-BFGS from log u."""
        offset = -0.5 * (len(log_u) * LOG_2PI + np.log(self.variance).sum())
        return ascend(
            self.value_and_gradient,
            log_u,
            state_of,
            bounds=(np.log(FLOOR), np.log(2.0)),
            offset=offset,
            curvature=self.curvature(np.exp(log_u)),
            **settings,
        )

    def starts(self):
        """Uniquenesses (d,) to start from, the most promising first."""
        return self.spectrum.starts(self.weight)

    def holds(self, objective):
        """Whether the fit at this objective leaves no room for a better maximum elsewhere.

        That is where rows are plenty and the chi-square test against any covariance does not reject
        (Lawley & Maxwell 1971, 4.4).
        """
        d, q = len(self.variance), self.spectrum.q
        df = ((d - q) ** 2 - d - q) / 2
        if df <= 0 or not plentiful(self.weight, d, q):
            return False
        log_det = self.spectrum.log_det + np.log(self.variance).sum()
        saturated = -0.5 * (log_det + d * (1 + LOG_2PI))
        return 2 * self.weight * (saturated - objective) < chdtri(df, REJECTED)


def plentiful(weight, d, q):
    """Whether rows of this total weight are many for q factors of d columns."""
    return weight >= PLENTY * d * (q + 1)


def maximum_likelihood(profile, state_of, **settings):
    """The best maximum found; `state_of(W, psi, penalty, floor)` makes the state: -> Run.

    There can be several: on tables whose columns nearly repeat each other their likelihoods differ
    by nats per row.
    """
    runs: list[Run] = []
    try:
        for u in profile.starts():
            runs.append(
                profile.climb(np.log(u), lambda x: state_of(*profile.factors(x)), **settings)
            )
            if profile.holds(runs[-1].objective):
                break
    except FitInterrupted as stop:
        raise FitInterrupted(_best([*runs, stop.run])._replace(converged=False)) from None
    return _best(runs)


def _best(runs):
    return max(runs, key=lambda run: run.objective)


def heywood_cases(profile, psi, *, max_iter, tol):
    """Columns whose uniqueness goes to zero from psi on, without the penalty: (d,) -> (d,) bool."""
    u = psi / profile.variance
    if profile.penalty:
        free = replace(profile, penalty=0.0)
        u = np.exp(free.climb(np.log(u), np.copy, max_iter=max_iter, tol=tol).state)
    return u < SMALLEST
