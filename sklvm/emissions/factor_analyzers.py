"""K factor analysers as one emission: Gaussians whose covariance is low rank plus diagonal."""

from dataclasses import dataclass, replace

import numpy as np

from .base import Emission, Spec
from .covariance import Penalty
from .gaussian import Gaussians
from .low_rank import LowRank
from .noise import NOISES
from .wide import Wide

FLOOR = 1e-8  # smallest uniqueness, as a share of the variance


@dataclass(frozen=True)
class FactorAnalyzers(Gaussians):
    """p(x | z = k) = N(x; means_k, W_k W_k' + diag(psi_k)) (Ghahramani & Hinton 1996)."""

    cov: LowRank

    def start(self, X, resp):
        """The mean and the principal factors of each part, and one EM step."""
        seen = ~np.isnan(X)
        mass = resp.T @ seen
        origin = self.means[0]
        first = resp.T @ np.where(seen, X - origin, 0.0)
        means = np.where(mass > 0, origin + first / np.where(mass > 0, mass, 1.0), self.means)
        there = replace(self, means=means, cov=self.cov.principal(X, means, resp))
        return Emission.start(there, X, resp)

    def canonical(self):
        """The same densities with the canonical rotation of each component's factors."""
        return replace(self, cov=self.cov.canonical())

    def factors(self, X):
        """E[z | x_seen, k]: (n, d) -> (n, K, q)."""
        return np.stack([part.mean for part in self.cov.block(X, self.means).factors], axis=1)

    def factor_posteriors(self, X):
        """Mean (n, q) and covariance (n, q, q) of the factors, component by component."""
        block = self.cov.block(X, self.means)
        return [(part.mean, block.patterns.of_rows(part.V)) for part in block.factors]

    def condition(self, seen, values):
        return super().condition(seen, values).canonical()

    def climb(self, x, missing, resp):
        """One Newton step on sum_k resp_k log p(x | z = k), worked out in factor space.

        The curvature in the missing entries is D - U U', D diagonal and U (m, K q), so its inverse
        needs a matrix of size K q only (Woodbury).
        """
        W, psi = self.cov.W, self.cov.psi
        K, d, q = W.shape
        A = W / psi[:, :, None]
        V = np.linalg.inv(np.eye(q) + W.mT @ A)
        U = A @ np.linalg.cholesky((V + V.mT) / 2)  # (K, d, q): S_k^-1 = 1 / psi_k - U_k U_k'
        diff = x[:, None, :] - self.means
        inside = np.einsum("nkd,kdq->nkq", diff, U)
        pull = np.einsum("nk,nkd->nd", resp, diff / psi - np.einsum("nkq,kdq->nkd", inside, U))
        D = np.where(missing, resp @ (1 / psi), 1.0)
        g = np.where(missing, pull, 0.0) / D
        U = U.transpose(1, 0, 2).reshape(d, K * q)
        outer = (U[:, :, None] * U[:, None, :]).reshape(d, -1)
        root = np.repeat(np.sqrt(resp), q, axis=1)  # (n, K q)
        inner = np.eye(K * q) - root[:, :, None] * root[:, None, :] * (
            (missing / D) @ outer
        ).reshape(len(x), K * q, K * q)
        bend = np.linalg.solve(inner, (root * (g @ U))[..., None])[..., 0]
        return x - g - np.where(missing, (root * bend) @ U.T, 0.0) / D

    @property
    def spec(self):
        return FactorEmission(self.cov.W.shape[2], noise=self.cov.sharing.name)


class FactorEmission(Spec):
    """Factor analysers as the components of a mixture: x = mean_k + W_k z + noise_k.

    Parameters
    ----------
    n_factors : int, default=2
        Number of factors of each component; 0 makes the features independent.
    noise : {"free", "shared", "isotropic", "shared_isotropic"}, default="free"
        Which noise variances are one number: none, those of one column, those of one component,
        all.
    heywood_penalty : float, default=0.05
        The soft penalty -(c/2) sum of K^(-2/d) variance_j / noise_variance_kj, in nats for all rows
        together; 0 is maximum likelihood.

    Examples
    --------
    >>> from sklvm import FactorEmission, Mixture
    >>> Mixture(2, emission=FactorEmission(n_factors=1))
    Mixture(emission=FactorEmission(n_factors=1, noise='free', heywood_penalty=0.05),
            n_components=2)
    """

    def __init__(self, n_factors=2, noise="free", heywood_penalty=0.05):
        self.n_factors = n_factors
        self.noise = noise
        self.heywood_penalty = heywood_penalty

    def broad(self, family, K):
        """K components without factors at the moments of all columns, which a start sets apart."""
        self._check()
        variance, sharing = family.variance, NOISES[self.noise]
        d = len(variance)
        penalty = Penalty(0.0, self.heywood_penalty * K ** (-2 / max(d, 1)) * variance)
        common = sharing.common(variance)
        W, psi = np.zeros((K, d, self.n_factors)), np.tile(common, (K, 1))
        cov = LowRank(W, psi, penalty, FLOOR * common, sharing)
        return FactorAnalyzers(np.tile(family.mean, (K, 1)), cov)

    def background(self, family):
        """Independent heavy-tailed columns."""
        return Wide.of(family)

    def _check(self):
        q, c = self.n_factors, self.heywood_penalty
        if not isinstance(q, int | np.integer) or isinstance(q, bool) or q < 0:
            raise ValueError(f"FactorEmission: n_factors must be an integer of at least 0: {q!r}")
        if self.noise not in NOISES:
            raise ValueError(f"FactorEmission: noise must be in {list(NOISES)}: {self.noise!r}")
        if not isinstance(c, int | float | np.number) or not 0 <= c < np.inf:
            raise ValueError(f"FactorEmission: heywood_penalty must not be negative: {c!r}")
