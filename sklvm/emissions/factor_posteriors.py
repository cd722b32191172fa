"""Posteriors over factor analysers: a Normal-Gamma for the loadings, mean and noise of a column."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import digamma

from .base import Emission, Integrated
from .conjugate import MEAN_PRECISION
from .factor_analyzers import FactorAnalyzers
from .normal_gamma import NormalGammas, log_gamma_normaliser
from .statistics import LatentMoments
from .sweep import LOG_2PI

DEGREES = NormalGammas.usual_degrees(1)  # of the prior of a noise precision


@dataclass(frozen=True)
class FactorPosteriors(Integrated):
    """q(b_kj | l_kj) = N(M_kj, (l_kj L_kj)^-1), q(l_kj) = Gamma(nu_kj / 2, S_kj / 2).

    b = (loadings, mean) of column j, l its noise precision: x_j = b_j (z, 1) + noise. The prior is
    the same with loadings about 0, as sure of them as of means (Ghahramani & Beal 2000, Variational
    inference for Bayesian mixtures of factor analysers, without their hierarchy). The best q of a
    row's factors is a Gaussian; `log_prob` has them integrated out. A missing entry says nothing of
    its column.
    """

    M: np.ndarray  # (K, d, q + 1)
    L: np.ndarray  # (K, d, q + 1, q + 1)
    nu: np.ndarray  # (K, d)
    S: np.ndarray  # (K, d)
    centre: np.ndarray  # (d,) the prior's means
    scale: np.ndarray  # (d,) the prior's S
    plain: FactorAnalyzers  # what EM would begin with

    @classmethod
    def unseen(cls, plain, family):
        """The prior of the components of `plain`, as the posterior of some that saw nothing."""
        K, d, q = plain.cov.W.shape
        M = np.zeros((K, d, q + 1))
        M[..., -1] = family.mean
        L = np.tile(MEAN_PRECISION * np.eye(q + 1), (K, d, 1, 1))
        scale = DEGREES * K ** (-2 / max(d, 1)) * family.variance
        nu, S = np.full((K, d), DEGREES), np.tile(scale, (K, 1))
        return cls(M, L, nu, S, family.mean, scale, plain)

    def _expected_log(self):
        """E[log l]: (K, d)"""
        return digamma(self.nu / 2) - np.log(self.S / 2)

    def _factors(self, X, k):
        """q(z | x_seen, k), its mean (n, q) and precision (n, q, q), and log p: (n,)."""
        seen = (~np.isnan(X)).astype(float)
        w, C, l = self.M[k, :, :-1], np.linalg.inv(self.L[k]), self.nu[k] / self.S[k]
        gap = np.where(seen > 0, X - self.M[k, :, -1], 0.0)
        q = w.shape[1]
        each = l[:, None, None] * w[:, :, None] * w[:, None, :] + C[:, :-1, :-1]
        A = np.eye(q) + (seen @ each.reshape(len(each), q * q)).reshape(len(X), q, q)
        pull = gap @ (l[:, None] * w) - seen @ C[:, :-1, -1]
        mean = np.linalg.solve(A, pull[..., None])[..., 0]
        constant = self._expected_log()[k] - LOG_2PI - C[:, -1, -1]
        inside = seen @ constant - gap**2 @ l + np.vecdot(pull, mean)
        return mean, A, 0.5 * (inside - np.linalg.slogdet(A)[1])

    def log_prob(self, X):
        """log of the integral over z of p(z) exp of the sum of E_q[log p(x_j | z)] of the seen."""
        return np.stack([self._factors(X, k)[2] for k in range(len(self.M))], axis=1)

    def stats(self, X, resp):
        parts = [self._sums(X, k, r) for k, r in enumerate(resp.T)]
        count, uu, xu, xx, latent = (np.stack(part) for part in zip(*parts))
        return LatentMoments(count, uu, xu, xx, resp.sum(axis=0), latent, self.M[..., -1])

    def _sums(self, X, k, r):
        """Of component k: (d,), (d, q + 1, q + 1), (d, q + 1), (d,), (q + 1, q + 1)."""
        mean, A, _ = self._factors(X, k)
        u = np.column_stack([mean, np.ones(len(X))])
        uu = u[:, :, None] * u[:, None, :]
        uu[:, :-1, :-1] += np.linalg.inv(A)
        mass = r[:, None] * ~np.isnan(X)
        gap = np.where(mass > 0, X - self.M[k, :, -1], 0.0)
        by_column = (mass.T @ uu.reshape(len(X), -1)).reshape(-1, *uu.shape[1:])
        return mass.sum(axis=0), by_column, (mass * gap).T @ u, r @ gap**2, np.tensordot(r, uu, 1)

    def m_step(self, stats):
        stats = stats.about(self.centre[None])
        L = stats.uu + MEAN_PRECISION * np.eye(self.M.shape[2])
        M = np.linalg.solve(L, stats.xu[..., None])[..., 0]
        S = self.scale + stats.xx - np.vecdot(M, stats.xu)
        M[..., -1] += self.centre
        return replace(self, M=M, L=L, nu=DEGREES + stats.count, S=S)

    def start(self, X, resp):
        """At the principal factors of each part, as certain as its rows make it."""
        plain = self.plain.start(X, resp)
        count = resp.T @ ~np.isnan(X)
        M = np.concatenate([plain.cov.W, plain.means[..., None]], axis=2)
        L = self.L + count[..., None, None] * np.eye(M.shape[2])
        there = replace(self, M=M, L=L, nu=DEGREES + count, S=plain.cov.psi * (DEGREES + count))
        return Emission.start(there, X, resp)

    def log_prior(self):
        """-KL(q || prior), summed over components and columns."""
        K, d, width = self.M.shape
        gap = self.M - np.append(np.zeros((d, width - 1)), self.centre[:, None], axis=1)
        spread = MEAN_PRECISION * np.trace(np.linalg.inv(self.L), axis1=2, axis2=3)
        dets = np.linalg.slogdet(self.L)[1] - width * np.log(MEAN_PRECISION)
        pull = MEAN_PRECISION * self.nu / self.S * (gap**2).sum(axis=2)
        gamma = log_gamma_normaliser(self.nu, self.S) - log_gamma_normaliser(DEGREES, self.scale)
        gamma += 0.5 * (self.nu - DEGREES) * self._expected_log()
        gamma += 0.5 * self.nu * (self.scale / self.S - 1)
        return -float((0.5 * (spread - width + dets + pull) + gamma).sum())

    def predictive(self):
        """Factor analysers of the expected loadings, wider by what is not known of them.

        A density that stands for the average over q, which has no closed form.
        """
        spread = np.trace(np.linalg.inv(self.L), axis1=2, axis2=3)
        return self._point(self.M, self.S / self.nu * (1 + spread))

    def draw(self, rng):
        """Factor analysers whose parameters are drawn from q."""
        psi = self.S / rng.chisquare(self.nu)
        noise = rng.standard_normal(self.M.shape)[..., None]
        b = np.linalg.solve(np.linalg.cholesky(self.L).mT, noise)[..., 0]
        return self._point(self.M + np.sqrt(psi)[..., None] * b, psi)

    def _point(self, M, psi):
        cov = replace(self.plain.cov, W=M[..., :-1], psi=psi)
        return replace(self.plain, means=M[..., -1], cov=cov)

    def complete(self, X):
        filled = [b[:, -1] + self._factors(X, k)[0] @ b[:, :-1].T for k, b in enumerate(self.M)]
        return np.where(np.isnan(X)[:, None, :], np.stack(filled, axis=1), X[:, None, :])

    def expectation(self):
        return self.M[..., -1]

    def take(self, order):
        rest = {name: getattr(self, name)[order] for name in ("M", "L", "nu", "S")}
        return replace(self, **rest, plain=self.plain.take(order))

    def marginal(self, columns):
        rest = {name: getattr(self, name)[:, columns] for name in ("M", "L", "nu", "S")}
        prior = {name: getattr(self, name)[columns] for name in ("centre", "scale")}
        return replace(self, **rest, **prior, plain=self.plain.marginal(columns))

    def pack(self, other):
        """Roots of L by those that are here: triangular, their diagonals in logarithms."""
        root = np.linalg.solve(np.linalg.cholesky(self.L), np.linalg.cholesky(other.L))
        i = np.arange(self.M.shape[2])
        root[..., i, i] = np.log(root[..., i, i])
        coefficients = (other.M - self.M) / np.sqrt(self.S / self.nu)[..., None]
        parts = coefficients, np.log(other.nu / self.nu), np.log(other.S / self.S), root
        return np.concatenate([part.ravel() for part in parts])

    def unpack(self, vector):
        parts = self.M, self.nu, self.S, self.L
        flat = np.split(vector, np.cumsum([part.size for part in parts[:-1]]))
        M, nu, S, root = (v.reshape(part.shape) for v, part in zip(flat, parts, strict=True))
        i, root = np.arange(self.M.shape[2]), np.tril(root)
        root[..., i, i] = np.exp(root[..., i, i])
        root = np.linalg.cholesky(self.L) @ root
        M = self.M + M * np.sqrt(self.S / self.nu)[..., None]
        return replace(self, M=M, nu=self.nu * np.exp(nu), S=self.S * np.exp(S), L=root @ root.mT)

    @property
    def spec(self):
        return self.plain.spec

    @property
    def n_parameters(self):
        return self.plain.n_parameters
