"""Posteriors over the locations and scales of Student-t distributions."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import digamma, gammaln

from .base import Integrated
from .student_t import DF_BOUNDS, StudentStats, StudentT, StudentTs, solved_df


@dataclass(frozen=True)
class StudentPosteriors(Integrated):
    """q(means, precisions) of x ~ N(mean, (u L)^-1) with u ~ Gamma(df / 2, df / 2) for each row.

    The best q(u) of a row is a Gamma of (df + seen columns) / 2 and (df + D) / 2, D the expected
    squared distance; `log_prob` has it integrated out, and what L does of `Conjugate` (Svensen &
    Bishop 2005, Robust Bayesian mixture modelling). Degrees of freedom are points, under the
    penalty of EM.
    """

    q: Any  # Conjugate
    df: np.ndarray  # (K,)
    learn_df: bool = True
    df_penalty: float = 0.0  # nats per degree of freedom

    def _distances(self, X):
        """log|S_oo|, what expected logarithms add, D, and the seen columns: (n, K) or less each."""
        log_det, mahalanobis = self.q.cov.log_det_and_mahalanobis(X, self.q.m)
        seen = ~np.isnan(X)
        logs, distance = self.q.slack(seen)
        return log_det, logs, mahalanobis + distance, seen.sum(axis=1, keepdims=True)

    def log_prob(self, X):
        """log of the integral over u and x_missing of exp E_q[log p(x, u)]."""
        log_det, logs, distance, o = self._distances(X)
        half = (self.df + o) / 2
        constant = gammaln(half) - gammaln(self.df / 2) - 0.5 * o * np.log(np.pi * self.df)
        return constant + logs - 0.5 * log_det - half * np.log1p(distance / self.df)

    def stats(self, X, resp):
        _, _, distance, o = self._distances(X)
        u = (self.df + o) / (self.df + distance)
        log_u = digamma((self.df + o) / 2) - np.log((self.df + distance) / 2)
        moments = self.q.cov.moments(X, self.q.m, resp, u)
        return StudentStats(moments, resp.sum(axis=0), (resp * (log_u - u)).sum(axis=0))

    def m_step(self, stats):
        updated = replace(self, q=self.q.m_step(stats.moments))
        if not self.learn_df:
            return updated
        df = solved_df(stats.log_scale, stats.count, self.df, self.df_penalty)
        return replace(updated, df=df)

    def start(self, X, resp):
        """About the moments of Gaussians: a prior knows no distances yet."""
        return replace(self, q=self.q.start(X, resp))

    def log_prior(self):
        return self.q.log_prior() - self.df_penalty * self.learn_df * float(self.df.sum())

    def predictive(self):
        """Student-t of the expected precision, wider by what is not known of the location.

        A density that stands for the average over q, which has no closed form.
        """
        return StudentTs(self.q.m, self.q.widened(), self.df, self.learn_df, self.df_penalty)

    def draw(self, rng):
        """Student-t distributions whose locations and scales are drawn from q."""
        drawn = self.q.draw(rng)
        return StudentTs(drawn.means, drawn.cov, self.df, self.learn_df, self.df_penalty)

    def complete(self, X):
        return self.q.complete(X)

    def expectation(self):
        return self.q.m

    @property
    def cov(self):
        """E[L_k]^-1"""
        return self.q.cov

    def take(self, order):
        return replace(self, q=self.q.take(order), df=self.df[order])

    def marginal(self, columns):
        return replace(self, q=self.q.marginal(columns))

    def pack(self, other):
        tail = np.log(other.df / self.df) if self.learn_df else []
        return np.concatenate([self.q.pack(other.q), tail])

    def unpack(self, vector):
        if not self.learn_df:
            return replace(self, q=self.q.unpack(vector))
        rest, log_df = np.split(vector, [-len(self.df)])
        df = np.clip(self.df * np.exp(log_df), *DF_BOUNDS)
        return replace(self, q=self.q.unpack(rest), df=df)

    @property
    def spec(self):
        return StudentT(None if self.learn_df else float(self.df.mean()), self.df_penalty)

    @property
    def n_parameters(self):
        return self.q.n_parameters + self.learn_df * len(self.df)
