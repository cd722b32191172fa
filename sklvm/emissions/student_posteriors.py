"""Posteriors over the locations and scales of Student-t distributions."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .base import Integrated
from .student_t import ScaledRows, StudentTs


@dataclass(frozen=True)
class StudentPosteriors(ScaledRows, Integrated):
    """q(means, precisions) of x ~ N(mean, (u L)^-1) with u ~ Gamma(df / 2, df / 2) for each row.

    Squared distances are expected ones, and the determinant is that of E[log |L|]: `log_prob` is
    the log of the integral over u and x_missing of exp E_q[log p(x, u)] (Svensen & Bishop 2005,
    Robust Bayesian mixture modelling). Degrees of freedom are points, under the penalty of EM.
    """

    q: Any  # Conjugate
    df: np.ndarray  # (K,)
    learn_df: bool = True
    df_penalty: float = 0.0  # nats per degree of freedom

    def _log_det_distance_and_seen(self, X):
        log_det, mahalanobis = self.q.cov.log_det_and_mahalanobis(X, self.q.m)
        seen = ~np.isnan(X)
        logs, distance = self.q.slack(seen)
        return log_det - 2 * logs, mahalanobis + distance, seen.sum(axis=1, keepdims=True)

    def m_step(self, stats):
        return replace(self, q=self.q.m_step(stats.moments))._with_best_df(stats)

    def start(self, X, resp):
        """About the moments of Gaussians: a prior knows no distances yet."""
        return replace(self, q=self.q.start(X, resp))

    def log_prior(self):
        return self.q.log_prior() + self._df_prior

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
    def location(self):
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
        return np.concatenate([self.q.pack(other.q), self._packed_df(other)])

    def unpack(self, vector):
        rest, df = self._unpacked_df(vector)
        return replace(self, q=self.q.unpack(rest), df=df)

    @property
    def n_parameters(self):
        return self.q.n_parameters + self.learn_df * len(self.df)
