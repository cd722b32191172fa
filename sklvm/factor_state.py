"""The state of factor analysis: one Gaussian whose covariance is low rank plus diagonal."""

from dataclasses import dataclass, replace

import numpy as np

from .emissions.covariance import Penalty
from .emissions.factor_analyzers import FLOOR
from .emissions.gaussian import LOG_2PI, Gaussians
from .emissions.low_rank import LowRank
from .emissions.noise import NOISES
from .inference.em import EMState
from .numerics.rotation import rotate
from .posterior import GaussianPosterior


class OneSweep:
    """The E-step over blocks of rows: what is inferred of the factors serves both of its parts."""

    rows = EMState.rows
    total = EMState.total

    def __init__(self, sweep):
        self._sweep = sweep

    def e_step(self, X, weight):
        """The emission's statistics and the weighted log-likelihood of a block."""
        log_prob, stats = self._sweep.block(X)
        return stats(weight[:, None]), weight @ log_prob[:, 0]


@dataclass(frozen=True)
class FactorState(EMState):
    """x = mean + W z + noise, z ~ N(0, I), noise ~ N(0, diag(psi)) (Bishop 2006, 12.64).

    What the model shows are the factors f = turn z: rows of length one make their variances one,
    and W z = loadings f with loadings = W turn^-1.
    """

    emission: Gaussians  # K = 1, its covariance LowRank
    turn: np.ndarray  # (q, q)

    @classmethod
    def of(cls, mean, W, psi, penalty, floor, noise="free"):
        """From mean (d,), loadings (d, q) and uniquenesses (d,), rotated to the canonical form."""
        cov = LowRank(W[None], psi[None], penalty, floor, NOISES[noise])
        return cls.unturned(Gaussians(mean[None], cov.canonical()))

    @classmethod
    def principal(cls, mean, S, q, penalty):
        """A start of EM: mean (d,), the first q principal factors of S (d, d); Heywood penalty."""
        variance = np.diag(S)
        soft = Penalty(0.0, penalty * variance)
        return cls.unturned(Gaussians(mean[None], LowRank.factors(S, 1, q, soft, FLOOR * variance)))

    @classmethod
    def given(cls, mean, L, psi, turn):
        """From mean (d,), loadings (d, q) of factors f = turn z, and uniquenesses (d,)."""
        nothing = np.zeros(len(mean))
        cov = LowRank((L @ turn)[None], psi[None], Penalty(0.0, nothing), nothing)
        return cls(Gaussians(mean[None], cov), turn)

    @classmethod
    def unturned(cls, emission):
        """With the factors z themselves."""
        return cls(emission, np.eye(emission.cov.W.shape[2]))

    def check(self, X):
        """Every finite number is in the support."""

    def canonical(self):
        """The rotation and the signs that W' Psi^-1 W and the sums of loadings decide."""
        return self.unturned(replace(self.emission, cov=self.emission.cov.canonical()))

    def turned(self, rotation, rng):
        """Factors as a `Turning` has them, and whether it found a minimum; rows count alike."""
        W = self.emission.cov.W[0] / np.sqrt(self.variance)[:, None]
        found = rotate(W, rotation, rng)
        return replace(self, turn=found.turn), found.converged

    # -- parameters --------------------------------------------------------------------------------

    @property
    def shape(self):
        """Features and factors: (d, q)."""
        return self.emission.cov.W.shape[1:]

    @property
    def factor_correlation(self):
        """(q, q)"""
        return self.turn @ self.turn.T

    @property
    def loadings(self):
        """(d, q) of the factors f, in the units of x."""
        return np.linalg.solve(self.turn.T, self.emission.cov.W[0].T).T

    @property
    def variance(self):
        """(d,) of the columns."""
        cov = self.emission.cov
        return (cov.W[0] ** 2).sum(axis=1) + cov.psi[0]

    @property
    def standardised_loadings(self):
        """(d, q) for columns of variance one."""
        return self.loadings / np.sqrt(self.variance)[:, None]

    @property
    def uniquenesses(self):
        """(d,) shares of the variances."""
        return self.emission.cov.psi[0] / self.variance

    @property
    def covariance(self):
        """(d, d)"""
        return self.emission.cov.dense()[0]

    # -- rows --------------------------------------------------------------------------------------

    def _factors(self, X):
        """p(z | x_seen), residuals with zeros for what is missing, and who saw what."""
        return self.emission.cov.posterior(0, X, self.emission.means[0])

    def log_prob(self, X):
        return self.emission.log_prob(X)[:, 0]

    def posterior(self, X):
        factors, _, patterns = self._factors(X)
        V = patterns.of_rows(self.turn @ factors.V @ self.turn.T)
        return GaussianPosterior(factors.mean @ self.turn.T, V, self.factor_correlation)

    def expected_factors(self, X):
        """E[f | x_seen]: (n, d) -> (n, q)."""
        return self._factors(X)[0].mean @ self.turn.T

    def bartlett_factors(self, X):
        """Factors by weighted least squares, NaN where a row does not determine them: -> (n, q)."""
        factors, _, patterns = self._factors(X)
        precision = np.linalg.inv(factors.V)
        fit = precision - np.eye(self.n_latents)  # W' Psi^-1 W over what was seen
        enough = np.linalg.matrix_rank(fit, hermitian=True) == self.n_latents
        unshrunk = np.full_like(fit, np.nan)
        unshrunk[enough] = np.linalg.solve(fit[enough], precision[enough])
        return patterns.times(factors.mean, unshrunk.mT) @ self.turn.T

    def sweep(self, known=None):
        return OneSweep(self.emission.sweep())

    def e_step(self, X, weight):
        return self.sweep().e_step(X, weight)

    def m_step(self, stats):
        return replace(self, emission=self.emission.m_step(stats))

    def log_prior(self):
        return self.emission.log_prior()

    def predictive(self):
        return self

    def elbo_terms(self, X):
        """E[log p(x | f)], E[log p(f)], H[f] under the exact posterior: three (n,)."""
        (factors, diff, patterns), seen = self._factors(X), ~np.isnan(X)
        W, psi = self.emission.cov.W[0], self.emission.cov.psi[0]
        V = patterns.of_rows(factors.V)
        rest = (diff - seen * (factors.mean @ W.T)) ** 2
        spread = np.einsum("di,nij,dj->nd", W, V, W)
        log_likelihood = -0.5 * (seen * (LOG_2PI + np.log(psi) + (rest + spread) / psi)).sum(axis=1)
        squares = (factors.mean**2).sum(axis=1) + np.trace(V, axis1=1, axis2=2)
        stretch = np.linalg.slogdet(self.turn)[1]
        log_prior = -0.5 * (W.shape[1] * LOG_2PI + squares) - stretch
        return log_likelihood, log_prior, GaussianPosterior(factors.mean, V).entropy() + stretch

    def sample(self, n, rng):
        cov = self.emission.cov
        Z = rng.standard_normal((n, cov.W.shape[2]))
        noise = rng.standard_normal((n, len(cov.psi[0]))) * np.sqrt(cov.psi[0])
        return self.emission.means[0] + Z @ cov.W[0].T + noise, Z @ self.turn.T

    def expectation(self, F):
        """E[x | f]: (n, q) -> (n, d)."""
        return self.emission.means[0] + F @ self.loadings.T

    def fill_mean(self, X):
        return self.emission.complete(X)[:, 0]

    fill_mode = fill_mean  # a Gaussian's mode is its mean

    def fill_sample(self, X, rng):
        return self.emission.complete_sample(X, np.zeros(len(X), dtype=int), rng)

    def marginal(self, columns):
        return replace(self, emission=self.emission.marginal(columns))

    def condition(self, seen, values):
        return self.unturned(self.emission.condition(seen, values)).canonical()

    def conditional_moments(self, X, seen, targets):
        """E and Cov of target columns given seen ones: -> (n, t), (n, t, t)."""
        means, covariances = self.emission.conditional_moments(X, seen, targets)
        t = len(targets)
        return means[:, 0], np.broadcast_to(covariances[:, 0], (len(X), t, t)).copy()

    def pack(self, other):
        return self.emission.pack(other.emission)

    def unpack(self, vector):
        return replace(self, emission=self.emission.unpack(vector))

    @property
    def n_parameters(self):
        return self.emission.n_parameters

    @property
    def n_latents(self):
        return self.emission.cov.W.shape[2]

    @property
    def n_features(self):
        return self.emission.means.shape[1]

    @property
    def base_measure(self):
        return self.emission.base_measure
