"""K multivariate Student-t distributions: Gaussians whose scale is one more latent of each row."""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import digamma, gammaln, stdtr

from .base import Emission, Spec
from .gaussian import Gaussians
from .statistics import Statistics
from .sweep import Sweep
from .wide import Wide

DF_BOUNDS = (0.5, 1000.0)  # beyond 1000 the density is a Gaussian to four digits


@dataclass(frozen=True)
class StudentStats(Statistics):
    """Moments weighted by the expected scales, and what the degrees of freedom need."""

    moments: Statistics
    count: np.ndarray  # (K,) sum of resp
    log_scale: np.ndarray  # (K,) sum of resp (E[log u] - E[u])


class ScaledRows(Emission):
    """Rows x ~ N(mean, S / u) with u ~ Gamma(df / 2, df / 2), points or posteriors of mean and S.

    The best q(u) is a Gamma of (df + seen columns) / 2 and (df + squared distance) / 2, and
    `log_prob` has u integrated out.
    """

    cov: Any
    df: np.ndarray  # (K,)
    learn_df: bool
    df_penalty: float  # nats per degree of freedom

    @property
    @abstractmethod
    def location(self):
        """(K, d)"""

    @abstractmethod
    def _log_det_distance_and_seen(self, X):
        """log |S_oo|, squared distances and seen columns: (n, K), (n, K), (n, 1)."""

    def sweep(self, offset=0.0, known=None):
        return _StudentSweep(self, offset)

    def known(self, X, weight, total):
        return None

    def log_prob(self, X):
        return self._log_prob_at(*self._log_det_distance_and_seen(X))

    def _log_prob_at(self, log_det, distance, o):
        half = (self.df + o) / 2
        constant = gammaln(half) - gammaln(self.df / 2) - 0.5 * o * np.log(np.pi * self.df)
        return constant - 0.5 * log_det - half * np.log1p(distance / self.df)

    def stats(self, X, resp):
        _, distance, o = self._log_det_distance_and_seen(X)
        return self._stats_at(X, distance, o, resp)

    def _stats_at(self, X, distance, o, resp):
        u = (self.df + o) / (self.df + distance)
        log_u = digamma((self.df + o) / 2) - np.log((self.df + distance) / 2)
        moments = self.cov.moments(X, self.location, resp, u)
        return StudentStats(moments, resp.sum(axis=0), (resp * (log_u - u)).sum(axis=0))

    def _with_best_df(self: Any, stats):
        if not self.learn_df:
            return self
        return replace(self, df=solved_df(stats.log_scale, stats.count, self.df, self.df_penalty))

    @property
    def _df_prior(self):
        return -self.df_penalty * self.learn_df * float(self.df.sum())

    def _packed_df(self, other):
        return np.log(other.df / self.df) if self.learn_df else np.empty(0)

    def _unpacked_df(self, vector):
        """The rest of a vector, and the degrees of freedom at its end."""
        if not self.learn_df:
            return vector, self.df
        rest, log_df = np.split(vector, [-len(self.df)])
        return rest, np.clip(self.df * np.exp(log_df), *DF_BOUNDS)

    @property
    def spec(self):
        return StudentT(None if self.learn_df else float(self.df.mean()), self.df_penalty)


@dataclass(frozen=True)
class StudentTs(ScaledRows, Gaussians):
    """p(x | z = k) = t(x; df_k, means_k, S_k) = E_u N(x; means_k, S_k / u), u ~ Gamma(df/2, df/2).

    EM over (u, x_missing) as in Liu & Rubin (1995); S is the scale matrix, not the covariance.
    """

    df: np.ndarray  # (K,)
    learn_df: bool = True
    df_penalty: float = 0.0  # nats per degree of freedom

    @property
    def location(self):
        return self.means

    def _log_det_distance_and_seen(self, X):
        seen = (~np.isnan(X)).sum(axis=1, keepdims=True)
        return *self.cov.log_det_and_mahalanobis(X, self.means), seen

    def scale(self, X):
        """E[u | x_seen, z = k]: (n, d) -> (n, K)."""
        _, mahalanobis, o = self._log_det_distance_and_seen(X)
        return (self.df + o) / (self.df + mahalanobis)

    def m_step(self, stats):
        return super().m_step(stats.moments)._with_best_df(stats)

    def log_prior(self):
        return super().log_prior() + self._df_prior

    def sample(self, z, rng):
        u = rng.chisquare(self.df[z]) / self.df[z]
        return self.means[z] + self.cov.noise(z, rng) / np.sqrt(u)[:, None]

    def complete_sample(self, X, z, rng):
        _, mahalanobis, o = self._log_det_distance_and_seen(X)
        mahalanobis = np.take_along_axis(mahalanobis, z[:, None], axis=1)
        df = self.df[z][:, None]
        u = rng.chisquare(df + o) / (df + mahalanobis)
        return np.where(np.isnan(X), self.residual_draw(X, z, rng, 1 / np.sqrt(u)), X)

    def cdf(self, X):
        return stdtr(self.df[:, None], self._standardised(X))

    def precisions(self, X):
        """E[u | x] S^-1: the curvature of a parabola that touches -log p from above at x."""
        return self.scale(X)[:, :, None, None] * self.cov.precisions()

    def conditional_moments(self, X, seen, targets):
        """As for Gaussians; the covariance is infinite where df + seen columns is 2 or less."""
        means, scales = super().conditional_moments(X, seen, targets)
        _, mahalanobis = self.cov.marginal(seen).log_det_and_mahalanobis(
            X[:, seen], self.means[:, seen]
        )
        left = self.df + len(seen) - 2
        factor = np.where(left > 0, (self.df + mahalanobis) / np.where(left > 0, left, 1.0), np.inf)
        return means, factor[:, :, None, None] * scales

    def condition(self, seen, values):
        _, mahalanobis = self.cov.marginal(seen).log_det_and_mahalanobis(
            values[None], self.means[:, seen]
        )
        left = super().condition(seen, values)
        df = self.df + len(seen)
        factor = (self.df + mahalanobis[0]) / df
        return replace(left, df=df, cov=left.cov.scaled(factor))

    def take(self, order):
        return replace(super().take(order), df=self.df[order])

    def pack(self, other):
        return np.concatenate([super().pack(other), self._packed_df(other)])

    def unpack(self, vector):
        rest, df = self._unpacked_df(vector)
        return replace(super().unpack(rest), df=df)

    @property
    def n_parameters(self):
        return super().n_parameters + self.learn_df * len(self.df)


class _StudentSweep(Sweep):
    """Distances serve both the log-probabilities and the expected scales."""

    def __init__(self, emission, offset):
        self._emission, self._offset = emission, offset

    def block(self, X):
        log_det, mahalanobis, o = self._emission._log_det_distance_and_seen(X)
        log_prob = self._emission._log_prob_at(log_det, mahalanobis, o)
        return log_prob + self._offset, lambda resp: self._emission._stats_at(
            X, mahalanobis, o, resp
        )


def solved_df(log_scale, count, df, penalty):
    """Degrees of freedom that maximise; what no row speaks of keeps its own: any shape."""
    mean = (log_scale - 2 * penalty) / np.where(count > 0, count, 1.0)
    solved = np.array([_solve_df(m) for m in mean.ravel()]).reshape(mean.shape)
    return np.where(count > 0, solved, df)


def checked_df(spec):
    """Degrees of freedom that a fit starts at and their penalty, or ValueError."""
    df, penalty = spec.df, spec.df_penalty
    if df is not None and not (
        isinstance(df, int | float | np.number) and DF_BOUNDS[0] <= df < np.inf
    ):
        raise ValueError(
            f"{type(spec).__name__}: df must be a number of at least {DF_BOUNDS[0]}, got {df!r}"
        )
    if not isinstance(penalty, int | float | np.number) or not 0 <= penalty < np.inf:
        raise ValueError(f"{type(spec).__name__}: df_penalty must not be negative: {penalty!r}")
    return 10.0 if df is None else float(df), float(penalty)


def _solve_df(mean):
    """Root of 1 + log(df/2) - digamma(df/2) + mean (Liu & Rubin 1995).

    mean is E[log u - u], less what the penalty pulls.
    """

    def slope(log_df):
        half = np.exp(log_df) / 2
        return 1 + np.log(half) - digamma(half) + mean

    low, high = np.log(DF_BOUNDS)
    if slope(high) > 0:
        return DF_BOUNDS[1]
    if slope(low) < 0:
        return DF_BOUNDS[0]
    return float(np.exp(brentq(slope, low, high, xtol=1e-12)))


class StudentT(Spec):
    """Student-t emission: heavier tails than a Gaussian, so outliers pull less.

    Parameters
    ----------
    df : float or None, default=None
        Degrees of freedom of every component, at least 0.5; None learns them, each component its
        own, from a start of 10.
    df_penalty : float, default=0.02
        The penalty -df_penalty * df of each learned df, in nats for all rows together: an
        exponential prior (Geweke 1993), which keeps the degrees of freedom of Gaussian components
        finite and vanishes as rows come in; 0 is maximum likelihood, up to df = 1000.

    Examples
    --------
    >>> from sklvm import Mixture, StudentT
    >>> Mixture(2, emission=StudentT(df=4))
    Mixture(emission=StudentT(df=4, df_penalty=0.02), n_components=2)
    """

    name = "student_t"
    matrix = True

    def __init__(self, df=None, df_penalty=0.02):
        self.df = df
        self.df_penalty = df_penalty

    def broad(self, family, K):
        """K copies of one Student-t about the moments of all rows."""
        df, penalty = checked_df(self)
        means = np.tile(family.mean, (K, 1))
        return StudentTs(means, family.broad(K), np.full(K, df), self.df is None, penalty)

    def background(self, family):
        """Independent heavy-tailed columns."""
        return Wide.of(family)
