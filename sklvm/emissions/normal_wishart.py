"""Posteriors over means and precision matrices: one Wishart per component, or one for all."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.special import digamma, gammaln

from ..numerics.linalg import log_det, whiteners
from .conjugate import MULTIPLES, Conjugate, no_penalty
from .dense import Full, Tied
from .gaussian import Gaussians
from .student_t import StudentTs
from .sweep import LOG_2PI

LOG_PI = np.log(np.pi)


@dataclass(frozen=True)
class NormalWisharts(Conjugate):
    """q(mu_k, L_k) = N(mu_k; m_k, (beta_k L_k)^-1) W(L_k; S_k^-1, nu_k) (Bishop 2006, 10.59)."""

    structure = Full
    free = slice(None)  # which of the K Wisharts are not copies of another

    m: np.ndarray  # (K, d)
    beta: np.ndarray  # (K,)
    nu: np.ndarray  # (K,) > d - 1
    S: np.ndarray  # (K, d, d) inverse scale: E[L] = nu S^-1
    A: np.ndarray  # (K, d, d) lower triangular, A S A' = I
    prior: Any = field(default=None, repr=False)  # NormalWisharts, or None where nothing is fitted
    learnt: tuple = ()
    base: Any = field(default=None, repr=False)  # (d, d)

    @staticmethod
    def least_degrees(d):
        return d - 1.0

    @staticmethod
    def usual_degrees(d):
        return d + 2.0

    @staticmethod
    def shapes(K, d):
        return (K,), (K,)

    @classmethod
    def of(cls, m, beta, nu, S, prior=None, learnt=()):
        """From the parameters of q; raises LinAlgError when an S is not positive definite."""
        return cls(m, beta, nu, S, whiteners(S), prior, learnt)

    @classmethod
    def around(cls, m, beta, nu, cov):
        K = len(m)
        beta, nu = np.broadcast_to(beta, K), np.broadcast_to(nu, K)
        S = np.broadcast_to(cov.dense(), (K, *cov.dense().shape[1:]))
        return cls.of(m, beta, nu, S * nu[:, None, None])

    @property
    def cov(self):
        nu = self.nu[:, None, None]
        return self.structure(self.S / nu, self.A * np.sqrt(nu), self._shape.penalty)

    @property
    def _shape(self):
        return self.structure(self.S, self.A, no_penalty(self.m.shape[1]))

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
        logs, distance = self.slack(None)
        return logs - 0.5 * distance

    def slack(self, seen):
        """The same for all rows, whatever is seen of them: (K,), (K,)."""
        d = self.m.shape[1]
        log_det_of_mean = d * np.log(self.nu) - log_det(self.A)
        return 0.5 * (self._expected_log_det() - log_det_of_mean), d / self.beta

    def widened(self):
        return self.cov.scaled(1 + 1 / self.beta)

    def sweep(self, offset=0.0, known=None):
        return self._plug_in.sweep(offset + self._surplus(), known)

    def expected(self, stats):
        d = self.m.shape[1]
        one = self._expected_log_det() - d * LOG_2PI - d / self.beta
        distance = self._distance(stats.about(self.m).second)
        return 0.5 * float(stats.count @ one - (self.nu[self.free] * distance).sum())

    def _distance(self, second):
        """tr(S_k^-1 C_k) of scatters C (K, d, d): -> (K,)"""
        return (self.A * (self.A @ second)).sum(axis=(1, 2))

    def _updated(self, stats):
        """Bishop 10.60-10.63, about the origin of the statistics."""
        p, n = self.prior, stats.mass
        beta = p.beta + n
        shift = p.m - stats.origin
        m = (p.beta[:, None] * shift + stats.first) / beta[:, None]
        S = p.S + stats.second + self._pooled(_outer(p.beta, shift) - _outer(beta, m))
        S = (S + S.mT) / 2
        nu = p.nu + self._pooled(stats.count)
        return self.of(stats.origin + m, beta, nu, S, p, self.learnt)

    @staticmethod
    def _pooled(per_component):
        """What the components say of each Wishart."""
        return per_component

    def _gaps(self):
        """(m_k - m_0)' S_k^-1 (m_k - m_0): (K,)"""
        return (self._shape.whiten(self.m - self.prior.m) ** 2).sum(axis=1)

    def log_prior(self):
        """-KL(q || prior), summed over components."""
        p, d = self.prior, self.m.shape[1]
        ratio = p.beta / self.beta
        normal = 0.5 * (d * (ratio - 1 - np.log(ratio)) + p.beta * self.nu * self._gaps())
        trace = (self.A * (self.A @ p.S)).sum(axis=(1, 2))
        wishart = (
            _log_wishart_normaliser(self)
            - _log_wishart_normaliser(p)
            + 0.5 * (self.nu - p.nu) * self._expected_log_det()
            + 0.5 * self.nu * (trace - d)
        )
        return -float(normal.sum() + wishart[self.free].sum())

    def _distances(self):
        return float((self.m.shape[1] / self.beta + self.nu * self._gaps()).sum())

    def _with_best_scale(self, prior):
        """In the basis of the S_0 that it began with: there the bounds are numbers."""
        A = whiteners(prior.base[None])[0]
        L = np.linalg.inv(A)
        precision = (self.nu[:, None, None] * (self.A.mT @ self.A))[self.free].mean(axis=0)
        values, vectors = np.linalg.eigh(L.T @ precision @ L / prior.nu[0])
        multiples = np.clip(1 / np.maximum(values, 1e-300), *MULTIPLES)
        root = L @ vectors * np.sqrt(multiples)
        S = np.broadcast_to(root @ root.T, self.S.shape)
        return replace(prior, S=S, A=np.broadcast_to(whiteners(S[:1]), S.shape))

    @property
    def _found(self):
        return (*self.learnt, "A") if "S" in self.learnt else self.learnt

    def draw(self, rng):
        """The precisions by Bartlett's decomposition, then the means."""
        K, d = self.m.shape
        nu, A = self.nu[self.free], self.A[self.free]
        T = np.tril(rng.standard_normal(A.shape), -1)
        T[:, range(d), range(d)] = np.sqrt(rng.chisquare(nu[:, None] - np.arange(d)))
        root = np.linalg.inv(T.mT @ A)  # L = (T'A)' T'A, so the covariance is root root'
        noise = rng.standard_normal((K, d, 1)) / np.sqrt(self.beta)[:, None, None]
        S = np.broadcast_to(root @ root.mT, self.S.shape)
        cov = self.structure.of((S + S.mT) / 2, no_penalty(d))
        return Gaussians(self.m + (root @ noise)[..., 0], cov)

    def predictive(self):
        """Student-t with nu + 1 - d degrees of freedom (Bishop 10.81)."""
        df = self.nu + 1 - self.m.shape[1]
        cov = self._shape.scaled((1 + self.beta) / (self.beta * df))
        return StudentTs(self.m, cov, df, learn_df=False)

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
        least, shape = self.least_degrees(self.m.shape[1]), self._shape
        return np.concatenate(
            [
                shape.whiten(other.m - self.m).ravel(),
                np.log(other.beta / self.beta),
                np.log((other.nu - least) / (self.nu - least))[self.free],
                shape.pack(other._shape),
            ]
        )

    def unpack(self, vector):
        (K, d), shape = self.m.shape, self._shape
        least, n_free = self.least_degrees(d), len(self.nu[self.free])
        m, beta, nu, S = np.split(vector, np.cumsum([self.m.size, K, n_free]))
        return self.of(
            self.m + shape.colour(m.reshape(K, d)),
            self.beta * np.exp(beta),
            least + (self.nu - least) * np.exp(nu),
            shape.unpack(S).S,
            self.prior,
            self.learnt,
        )


@dataclass(frozen=True)
class NormalSharedWishart(NormalWisharts):
    """q(mu_1..K, L) = W(L; S^-1, nu) prod_k N(mu_k; m_k, (beta_k L)^-1); arrays repeat nu and S."""

    structure = Tied
    free = slice(1)

    @classmethod
    def of(cls, m, beta, nu, S, prior=None, learnt=()):
        K, d = m.shape
        one = S.reshape(-1, d, d)[:1]
        A = np.broadcast_to(whiteners(one), (K, d, d))
        nu = np.broadcast_to(np.ravel(nu)[0], K)
        return cls(m, beta, nu, np.broadcast_to(one, (K, d, d)), A, prior, learnt)

    @staticmethod
    def _pooled(per_component):
        return per_component.sum(axis=0)

    def _distance(self, second):
        return super()._distance(second)[self.free]


def _outer(weight, a):
    return weight[:, None, None] * a[:, :, None] * a[:, None, :]


def _log_wishart_normaliser(q):
    """log B(S^-1, nu) (Bishop B.79)."""
    d = q.m.shape[1]
    half = q.nu / 2
    log_gamma = gammaln(half[:, None] - np.arange(d) / 2).sum(axis=1) + d * (d - 1) / 4 * LOG_PI
    return half * log_det(q.A) - half * d * np.log(2) - log_gamma
