"""The state of Bayesian PCA: a posterior over loadings, and points for all that is shared."""

from dataclasses import dataclass, replace

import numpy as np

from .emissions.covariance import Penalty
from .emissions.factor_pass import FactorBlock, Factors, patterns_of
from .emissions.gaussian import LOG_2PI, Gaussians
from .emissions.low_rank import LowRank
from .factor_state import FactorState
from .inference.em import EMState
from .numerics.linalg import from_log_cholesky, log_cholesky


@dataclass(frozen=True)
class VariationalFactorState(EMState):
    """x = mean + Z w + noise, q(W) = prod_j N(w_j; W_j, S_j), prior w_j ~ N(0, diag(1 / alpha)).

    z ~ N(0, I), noise ~ N(0, noise I); `mean`, `alpha` and `noise` are points (Bishop 1999).
    """

    base_measure = "lebesgue"
    mean: np.ndarray  # (d,)
    W: np.ndarray  # (d, q) expected loadings
    S: np.ndarray  # (d, q, q) their covariances, or (1, q, q) where all features share them
    alpha: np.ndarray  # (q,) prior precisions of the loadings
    noise: float
    floor: float  # the smallest noise allowed

    @classmethod
    def of(cls, mean, vectors, ratios, noise, n, floor):
        """The stationary point of complete data along some of its principal axes.

        vectors (d, q) are the axes, ratios (q,) the variances of their factors over `noise`
        (`inference/bayesian_pca.py`), n the weight of the rows.
        """
        d = len(mean)
        spread = noise * ratios / (d + n * ratios)
        W = vectors * np.sqrt(n * ratios * spread)
        return cls(mean, W, np.diag(spread)[None], d / (noise * ratios), noise, floor).canonical()

    @classmethod
    def of_posterior(cls, mean, W, S, noise):
        """A posterior that no data speak of, with the prior that is best for it."""
        state = cls(mean, W, S, np.ones(W.shape[1]), noise, 0.0)
        return replace(state, alpha=len(W) / state.energies).canonical()

    def check(self, X):
        """Every finite number is in the support."""

    def canonical(self):
        """Factors in descending order of their variance, loadings with a positive sum."""
        order = np.argsort(-self.energies, kind="stable")
        sign = np.where(self.W.sum(axis=0) < 0, -1.0, 1.0)
        return replace(self, W=self.W * sign, S=self.S * np.outer(sign, sign)).take(order)

    def take(self, factors):
        """The model of some of the factors, in this order."""
        S = self.S[:, factors][:, :, factors]
        return replace(self, W=self.W[:, factors], S=S, alpha=self.alpha[factors])

    @property
    def spread(self):
        """Covariance of each feature's loadings: (d, q, q)."""
        return np.broadcast_to(self.S, (len(self.W), *self.S.shape[1:]))

    @property
    def energies(self):
        """E[sum of squared loadings] of each factor: (q,)."""
        return (self.W**2).sum(axis=0) + np.diagonal(self.spread.sum(axis=0))

    def _inferred(self, X):
        """q(z) of each row, as it is best for the bound; and who saw what."""
        patterns, psi = patterns_of(X), np.full(len(self.mean), self.noise)
        diff = patterns.residuals(X, self.mean)
        return Factors.under(self.W, self.spread, psi, diff, patterns), patterns

    def _bound(self, X, factors):
        seen = (~np.isnan(X)).sum(axis=1)
        return -0.5 * (seen * LOG_2PI + factors.log_det + factors.mahalanobis)

    def log_prob(self, X):
        """E_q[log p(x_seen, z | W)] + H[q(z)]: (n, d) -> (n,)."""
        return self._bound(X, self._inferred(X)[0])

    def e_step(self, X, weight):
        factors, patterns = self._inferred(X)
        block = FactorBlock(X, self.mean[None], patterns, [factors])
        return block.moments(weight[:, None]), weight @ self._bound(X, factors)

    def m_step(self, stats):
        """Loadings with the mean, the noise, then shift, scale and rotation: none lowers it."""
        uu, xu, count = stats.uu[0], stats.xu[0], stats.count[0]
        (d, width), known = xu.shape, count > 0
        q = width - 1
        ridge = np.diag(np.append(self.noise * self.alpha, 0.0))
        system = np.where(known[:, None, None], uu, np.eye(width)) + ridge
        groups = len(system)  # features that share one matrix are one system
        solution = np.linalg.solve(system, xu.reshape(groups, d // groups, width).mT)
        solution = solution.mT.reshape(d, width)
        S = self.noise * np.linalg.inv(system[:, :q, :q])
        S = (S + S.mT) / 2
        squares = stats.xx[0] - (solution * (xu + solution @ ridge)).sum(axis=1)
        blur = np.einsum("gij,gji->g", S, uu[:, :q, :q])
        noise = max((squares + blur).sum() / np.broadcast_to(count, d).sum(), self.floor)
        sizes = known * (d // groups)
        shift, second = _shift(S, noise, sizes, stats)
        seen = np.broadcast_to(known, d)[:, None]
        W = np.where(seen, solution[:, :q], 0.0)
        mean = stats.origin[0] + np.where(seen[:, 0], solution[:, q], 0.0) + W @ shift
        W, S, alpha = _rotated(W, S, sizes, second / stats.rows[0])
        return replace(self, mean=mean, W=W, S=S, alpha=alpha, noise=noise)

    def log_prior(self):
        """-KL(q(W) || p(W | alpha))"""
        d, q = self.W.shape
        log_det = (d // len(self.S)) * np.linalg.slogdet(self.S)[1].sum()
        prior = d * (np.log(self.alpha).sum() + q)
        return 0.5 * float(prior + log_det - self.alpha @ self.energies)

    def predictive(self):
        """The Gaussian with the moments of p(x) averaged over q(W)."""
        psi = self.noise + np.trace(self.spread, axis1=1, axis2=2)
        return self._gaussian(self.W, psi)

    def draw(self, rng):
        """A model whose loadings are drawn from q."""
        eps = rng.standard_normal((*self.W.shape, 1))
        W = self.W + (np.linalg.cholesky(self.spread) @ eps)[..., 0]
        return self._gaussian(W, np.full(len(W), self.noise))

    def _gaussian(self, W, psi):
        none = np.zeros_like(psi)
        return FactorState.unturned(
            Gaussians(self.mean[None], LowRank(W[None], psi[None], Penalty(0.0, none), none))
        )

    def elbo_terms(self, X):
        """E[log p(x | z, W)], E[log p(z)], H[q(z)]: three (n,)."""
        (mean, V, _, mahalanobis), patterns = self._inferred(X)
        q = self.W.shape[1]
        squares = (mean**2).sum(axis=1)
        trace = patterns.of_rows(np.trace(V, axis1=1, axis2=2))
        constants = (~np.isnan(X)).sum(axis=1) * (LOG_2PI + np.log(self.noise))
        log_likelihood = -0.5 * (constants + mahalanobis - squares + q - trace)
        log_prior = -0.5 * (q * LOG_2PI + squares + trace)
        entropy = 0.5 * (q * (1 + LOG_2PI) + patterns.of_rows(np.linalg.slogdet(V)[1]))
        return log_likelihood, log_prior, entropy

    @property
    def _unit(self):
        """A typical standard deviation of a feature."""
        return np.sqrt(self.noise + self.energies.sum() / len(self.mean))

    def pack(self, other):
        unit, S = self._unit, log_cholesky(other.S / self._unit**2)
        return np.concatenate(
            [
                (other.mean - self.mean) / unit,
                ((other.W - self.W) / unit).ravel(),
                (S - log_cholesky(self.S / unit**2)).ravel(),
                np.log(other.alpha / self.alpha),
                [np.log(other.noise / self.noise)],
            ]
        )

    def unpack(self, vector):
        (d, q), unit = self.W.shape, self._unit
        start = log_cholesky(self.S / unit**2)
        cuts = np.cumsum([d, d * q, start.size, q])
        mean, W, S, alpha, noise = np.split(vector, cuts)
        return replace(
            self,
            mean=self.mean + unit * mean,
            W=self.W + unit * W.reshape(d, q),
            S=unit**2 * from_log_cholesky(start + S.reshape(start.shape), q),
            alpha=self.alpha * np.exp(alpha),
            noise=max(self.noise * float(np.exp(noise[0])), self.floor),
        )

    @property
    def n_parameters(self):
        d, q = self.W.shape
        return d + d * q - q * (q - 1) // 2 + 1

    @property
    def n_latents(self):
        return self.W.shape[1]

    @property
    def n_features(self):
        return len(self.mean)


def _shift(S, noise, sizes, stats):
    """What to take from every z so that the bound rises most, and the sum of E[zz'] after it.

    The mean takes up E[W] shift; the rest, (W - E[W]) shift, is uncertain and costs. S (g, q, q)
    are the covariances of sizes (g,) features each: -> (q,), (q, q).
    """
    q = S.shape[-1]
    uu, latent, n = stats.uu[0], stats.latent[0], stats.rows[0]
    first = latent[:q, q]
    cost = n * np.eye(q) + np.einsum("g,gij->ij", sizes * uu[:, q, q], S) / noise
    pull = first + np.einsum("g,gij,gj->i", sizes, S, uu[:, :q, q]) / noise
    shift = np.linalg.solve(cost, pull)
    both = np.outer(first, shift)
    return shift, latent[:q, :q] - both - both.T + n * np.outer(shift, shift)


def _rotated(W, S, sizes, second):
    """W and S in the coordinates of z that are best for the bound, and alpha, in closed form.

    With second (q, q) the mean of E[zz'], T T' = second minimises the divergence of q(z), a
    diagonal E[W'W] that of q(W) with alpha at its best, and W T can have both (Ilin & Raiko 2010).
    Features that no row saw, of size 0, return to their prior.
    """
    values, vectors = np.linalg.eigh(second)
    T = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    W, S = W @ T, T @ S @ T
    R = np.linalg.eigh(W.T @ W + np.einsum("g,gij->ij", sizes, S))[1][:, ::-1]
    R = R * np.where(np.diagonal(R) < 0, -1.0, 1.0)  # near the last rotation: for leaps
    W, S = W @ R, R.T @ S @ R
    energies = (W**2).sum(axis=0) + np.einsum("g,gii->i", sizes, S)  # of positive terms
    alpha = sizes.sum() / energies
    return W, np.where(sizes[:, None, None] > 0, S, np.diag(1 / alpha)), alpha
