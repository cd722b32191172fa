"""Columns that are Student-t on their own: what integrating a precision per column leaves."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import digamma, gammaln, stdtr

from .base import Spec
from .covariance import Diag
from .gaussian import Gaussians
from .statistics import DiagonalMoments
from .student_t import DF_BOUNDS, StudentStats, checked_df, solved_df
from .sweep import Sweep
from .wide import Wide


@dataclass(frozen=True)
class IndependentTs(Gaussians):
    """p(x | z = k) = prod_j t(x_j; df_kj, means_kj, v_kj): a latent scale for every entry.

    EM over the scales as in Liu & Rubin (1995), column by column; v are squared scales.
    """

    cov: Any  # Diag
    df: np.ndarray  # (K, d)
    learn_df: bool = True
    df_penalty: float = 0.0  # nats per degree of freedom

    def sweep(self, offset=0.0, known=None):
        return Sweep(self.log_prob, self.stats, offset)

    def known(self, X, weight, total):
        return None

    def _columns(self, X):
        """Component by component the standardised residuals, zero where missing: k, (n, d)."""
        seen = ~np.isnan(X)
        for k, (mean, v) in enumerate(zip(self.means, self.cov.v)):
            yield k, np.where(seen, X - mean, 0.0) / np.sqrt(v)

    def log_prob(self, X):
        half = (self.df + 1) / 2
        constant = gammaln(half) - gammaln(self.df / 2) - 0.5 * np.log(np.pi * self.df * self.cov.v)
        log_prob = ~np.isnan(X) @ constant.T
        for k, e in self._columns(X):
            log_prob[:, k] -= np.log1p(e**2 / self.df[k]) @ half[k]
        return log_prob

    def scale(self, X):
        """E[u_j | x_j, z = k], of missing entries their prior mean 1: (n, d) -> (n, K, d)."""
        u = [(self.df[k] + 1) / (self.df[k] + e**2) for k, e in self._columns(X)]
        return np.where(np.isnan(X)[:, None], 1.0, np.stack(u, axis=1))

    def stats(self, X, resp):
        seen, half = ~np.isnan(X), (self.df + 1) / 2
        count, log_scale = resp.T @ seen, np.empty_like(self.df)
        mass, first, second = (np.empty_like(self.df) for _ in range(3))
        for k, e in self._columns(X):
            u = (self.df[k] + 1) / (self.df[k] + e**2)
            pull = u * seen
            mass[k], first[k], second[k] = (resp[:, k] @ (pull * e**i) for i in range(3))
            log_u = digamma(half[k]) - np.log(half[k]) + np.log(u)
            log_scale[k] = resp[:, k] @ (seen * (log_u - u))
        first, second = first * np.sqrt(self.cov.v), second * self.cov.v
        moments = DiagonalMoments(count, mass, first, second, self.means)
        return StudentStats(moments, count, log_scale)

    def start(self, X, resp):
        """About the mean of each part, every entry at its mean scale."""
        moments = Gaussians(self.means, self.cov).stats(X, resp)
        return super(Gaussians, replace(self, means=moments.means())).start(X, resp)

    def m_step(self, stats):
        updated = super().m_step(stats.moments)
        if not self.learn_df:
            return updated
        df = solved_df(stats.log_scale, stats.count, self.df, self.df_penalty)
        return replace(updated, df=df)

    def log_prior(self):
        return super().log_prior() - self.df_penalty * self.learn_df * float(self.df.sum())

    def sample(self, z, rng):
        u = rng.chisquare(self.df[z]) / self.df[z]
        return self.means[z] + self.cov.noise(z, rng) / np.sqrt(u)

    def complete_sample(self, X, z, rng):
        return np.where(np.isnan(X), self.sample(z, rng), X)

    def cdf(self, X):
        return stdtr(self.df, self._standardised(X))

    def precisions(self, X):
        """E[u | x] / v: the curvature of a parabola that touches -log p from above at x."""
        return self.scale(X)[..., None] * self.cov.precisions()

    def conditional_moments(self, X, seen, targets):
        """The columns know nothing of each other; the variance is infinite where df is 2 or less.

        -> (n, K, t), (1, K, t, t)
        """
        left = self.df[:, targets] - 2
        factor = np.where(left > 0, self.df[:, targets] / np.where(left > 0, left, 1.0), np.inf)
        covariance = np.zeros((len(factor), len(targets), len(targets)))
        diagonal = np.arange(len(targets))
        covariance[:, diagonal, diagonal] = factor * self.cov.v[:, targets]
        means = self.means[:, targets]
        return np.broadcast_to(means, (len(X), *means.shape)), covariance[None]

    def condition(self, seen, values):
        return self.marginal(np.setdiff1d(np.arange(self.means.shape[1]), seen))

    def take(self, order):
        return replace(super().take(order), df=self.df[order])

    def marginal(self, columns):
        return replace(super().marginal(columns), df=self.df[:, columns])

    def pack(self, other):
        tail = np.log(other.df / self.df).ravel() if self.learn_df else []
        return np.concatenate([super().pack(other), tail])

    def unpack(self, vector):
        if not self.learn_df:
            return super().unpack(vector)
        rest, log_df = np.split(vector, [-self.df.size])
        df = np.clip(self.df * np.exp(log_df.reshape(self.df.shape)), *DF_BOUNDS)
        return replace(super().unpack(rest), df=df)

    @property
    def spec(self):
        return IndependentT(None if self.learn_df else float(self.df.mean()), self.df_penalty)

    @property
    def n_parameters(self):
        return super().n_parameters + self.learn_df * self.df.size


class IndependentT(Spec):
    """Independent Student-t columns: one wild entry of a row leaves the others their weight.

    Parameters
    ----------
    df : float or None, default=None
        Degrees of freedom of every column and component, at least 0.5; None learns them, each
        column and component its own, from a start of 10.
    df_penalty : float, default=0.02
        The penalty -df_penalty * df of each learned df, in nats for all rows together, as in
        `StudentT`; 0 is maximum likelihood, up to df = 1000.

    Examples
    --------
    >>> from sklvm import IndependentT, Mixture
    >>> Mixture(2, emission=IndependentT(df=4))
    Mixture(emission=IndependentT(df=4, df_penalty=0.02), n_components=2)
    """

    name = "independent_t"
    matrix = True

    def __init__(self, df=None, df_penalty=0.02):
        self.df = df
        self.df_penalty = df_penalty

    def broad(self, family, K):
        """K copies of Student-t columns about the moments of all rows."""
        cov = replace(family, structure=Diag).broad(K)
        df, penalty = checked_df(self)
        df, means = np.full((K, len(family.mean)), df), np.tile(family.mean, (K, 1))
        return IndependentTs(means, cov, df, self.df is None, penalty)

    def background(self, family):
        """Heavier tails than any column has."""
        return Wide.of(family)
