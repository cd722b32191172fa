"""Posteriors over the parameters of Gaussians: an emission whose log_prob is an expectation."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.special import digamma, multigammaln

from ..numerics.linalg import log_det, whiteners
from .base import Emission
from .covariance import Penalty
from .dense import Full
from .gaussian import Gaussians
from .student_t import StudentTs


@dataclass(frozen=True)
class NormalWisharts(Emission):
    """q(mu_k, L_k) = N(mu_k; m_k, (beta_k L_k)^-1) W(L_k; S_k^-1, nu_k) (Bishop 2006, 10.59)."""

    m: np.ndarray  # (K, d)
    beta: np.ndarray  # (K,)
    nu: np.ndarray  # (K,) > d - 1
    S: np.ndarray  # (K, d, d) inverse scale: E[L] = nu S^-1
    A: np.ndarray  # (K, d, d) lower triangular, A S A' = I
    prior: Any = field(default=None, repr=False)  # NormalWisharts, or None where nothing is fitted

    @classmethod
    def of(cls, m, beta, nu, S, prior=None):
        """From the parameters of q; raises LinAlgError when an S is not positive definite."""
        return cls(m, beta, nu, S, whiteners(S), prior)

    @property
    def _plug_in(self):
        """Gaussians of the expected precisions: they know how to marginalise and complete."""
        nu = self.nu[:, None, None]
        return Gaussians(self.m, Full(self.S / nu, self.A * np.sqrt(nu), self._shape.penalty))

    @property
    def _shape(self):
        d = self.m.shape[1]
        return Full(self.S, self.A, Penalty(0.0, np.zeros((d, d))))

    def _expected_log_det(self):
        """E[log |L_k|] (Bishop 10.65)."""
        d = self.m.shape[1]
        halves = (self.nu[:, None] - np.arange(d)) / 2
        return digamma(halves).sum(axis=1) + d * np.log(2) - log_det(self.A)

    def log_prob(self, X):
        """log of the integral over x_missing of exp E_q[log N(x; mu_k, L_k^-1)] (Bishop 10.64)."""
        return self._plug_in.log_prob(X) + self._surplus()

    def _surplus(self):
        """What the expectation adds to the log-density of the expected precision: (K,)."""
        d = self.m.shape[1]
        return 0.5 * (self._expected_log_det() + log_det(self._plug_in.cov.A) - d / self.beta)

    def sweep(self, offset=0.0, known=None):
        return self._plug_in.sweep(offset + self._surplus(), known)

    def known(self, X, weight, total):
        return self._plug_in.known(X, weight, total)

    def stats(self, X, resp):
        return self._plug_in.stats(X, resp)

    def m_step(self, stats):
        """Bishop 10.60-10.63, about the origin of the statistics."""
        p, n = self.prior, stats.mass
        beta = p.beta + n
        shift = p.m - stats.origin
        m = (p.beta[:, None] * shift + stats.first) / beta[:, None]
        S = p.S + stats.second + _outer(p.beta, shift) - _outer(beta, m)
        return self.of(stats.origin + m, beta, p.nu + n, (S + S.mT) / 2, p)

    def log_prior(self):
        """-KL(q || prior), summed over components."""
        p, d = self.prior, self.m.shape[1]
        gap = self._shape.whiten(self.m - p.m)
        ratio = p.beta / self.beta
        normal = 0.5 * (d * (ratio - 1 - np.log(ratio)) + p.beta * self.nu * (gap**2).sum(axis=1))
        trace = (self.A * (self.A @ p.S)).sum(axis=(1, 2))
        wishart = (
            _log_wishart_normaliser(self)
            - _log_wishart_normaliser(p)
            + 0.5 * (self.nu - p.nu) * self._expected_log_det()
            + 0.5 * self.nu * (trace - d)
        )
        return -float((normal + wishart).sum())

    def predictive(self):
        """Student-t with nu + 1 - d degrees of freedom (Bishop 10.81)."""
        df = self.nu + 1 - self.m.shape[1]
        cov = self._shape.scaled((1 + self.beta) / (self.beta * df))
        return StudentTs(self.m, cov, df, learn_df=False)

    def draw(self, rng):
        """Gaussians drawn from q: the precision by Bartlett's decomposition, then the mean."""
        K, d = self.m.shape
        T = np.tril(rng.standard_normal((K, d, d)), -1)
        T[:, range(d), range(d)] = np.sqrt(rng.chisquare(self.nu[:, None] - np.arange(d)))
        root = np.linalg.inv(T.mT @ self.A)  # L = (T'A)' T'A, so the covariance is root root'
        noise = rng.standard_normal((K, d, 1)) / np.sqrt(self.beta)[:, None, None]
        S = root @ root.mT
        cov = Full.of((S + S.mT) / 2, self._shape.penalty)
        return Gaussians(self.m + (root @ noise)[..., 0], cov)

    def sample(self, z, rng):
        return self.predictive().sample(z, rng)

    def complete(self, X):
        return self._plug_in.complete(X)

    def complete_sample(self, X, z, rng):
        return self.predictive().complete_sample(X, z, rng)

    def climb(self, x, missing, resp):
        return self.predictive().climb(x, missing, resp)

    def expectation(self):
        return self.m

    def take(self, order):
        rest = {name: getattr(self, name)[order] for name in ("m", "beta", "nu", "S", "A")}
        return replace(self, **rest, prior=self.prior and self.prior.take(order))

    def marginal(self, columns):
        """The marginal of a Wishart is a Wishart with the degrees that the lost columns took."""
        lost = self.m.shape[1] - len(columns)
        S = self.S[:, columns[:, None], columns]
        prior = self.prior and self.prior.marginal(columns)
        return self.of(self.m[:, columns], self.beta, self.nu - lost, S, prior)

    def pack(self, other):
        d, shape = self.m.shape[1], self._shape
        return np.concatenate(
            [
                shape.whiten(other.m - self.m).ravel(),
                np.log(other.beta / self.beta),
                np.log((other.nu - d + 1) / (self.nu - d + 1)),
                shape.pack(other._shape),
            ]
        )

    def unpack(self, vector):
        (K, d), shape = self.m.shape, self._shape
        m, beta, nu, S = np.split(vector, np.cumsum([self.m.size, K, K]))
        return self.of(
            self.m + shape.colour(m.reshape(K, d)),
            self.beta * np.exp(beta),
            d - 1 + (self.nu - d + 1) * np.exp(nu),
            shape.unpack(S).S,
            self.prior,
        )

    @property
    def spec(self):
        return self.predictive().spec

    @property
    def n_parameters(self):
        K, d = self.m.shape
        return K * d + K * d * (d + 1) // 2


def _outer(weight, a):
    return weight[:, None, None] * a[:, :, None] * a[:, None, :]


def _log_wishart_normaliser(q):
    """log B(S^-1, nu) (Bishop B.79)."""
    d = q.m.shape[1]
    half = q.nu / 2
    log_gamma = np.array([multigammaln(h, d) for h in half])
    return half * log_det(q.A) - half * d * np.log(2) - log_gamma
