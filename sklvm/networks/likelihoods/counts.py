"""Columns of counts: Poisson, negative binomial."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from .base import Likelihood, Linear, seen_mean, standardised

LARGEST_LOG_MEAN = 30.0  # far out, never overflow
SMALLEST_DISPERSION = 1e-4  # below, nothing tells the counts from Poisson's
START_DISPERSION = 0.01  # the smallest that training starts at


@dataclass(frozen=True)
class PoissonLikelihood(Likelihood):
    """x_j ~ Poisson(exp(eta_j))."""

    name: ClassVar[str] = "poisson"
    base_measure: ClassVar[str] = "counting"
    positive_only: ClassVar[bool] = True
    needs: ClassVar[str] = "counts 0, 1, 2, ..."

    def _inside(self, X):
        return (X >= 0) & (np.floor(X) == X)

    def _log_mean(self, eta):
        return eta.outputs.clamp(max=LARGEST_LOG_MEAN)

    def terms(self, x, eta):
        log_mean = self._log_mean(eta)
        return x * log_mean - log_mean.exp() - (x + 1).lgamma()

    def fisher(self, eta):
        return self.mean(eta)

    def mean(self, eta):
        return self._log_mean(eta).exp()

    def mode(self, eta):
        return self.mean(eta).floor()

    def sample(self, eta, rng):
        return torch.from_numpy(rng.poisson(self.mean(eta).numpy()).astype(np.float64))

    def shown(self, x):
        return (x + 0.5).log()

    def working(self, x, weight):
        return standardised(np.log(x + 0.5), weight)[0]

    def linear(self, x, weight, factors):
        return self._linear(x, weight, factors, np.zeros(x.shape[1]), np.empty(0))

    def _linear(self, x, weight, factors, dispersion, constants):
        """Logarithms of the means that are linear in z, so that averages over z are those of x."""
        _, centre, spread = standardised(np.log(x + 0.5), weight)
        W = factors.W * spread[:, None]
        offset = np.log(seen_mean(x, weight)) - 0.5 * (W**2).sum(axis=1)
        mean = np.exp(offset)
        F = mean / (1 + dispersion * mean)
        return Linear.of_columns(W, offset, constants, F, F, centre, spread)


@dataclass(frozen=True)
class NegativeBinomialLikelihood(PoissonLikelihood):
    """Counts of mean m_j = exp(eta_j) and variance m_j + a_j m_j^2; a_j is one of each column."""

    name: ClassVar[str] = "negative_binomial"

    def constants(self, columns, d):
        return np.asarray(columns)

    def dispersion(self, eta):
        """a: (d,)."""
        return SMALLEST_DISPERSION + eta.constants.exp()

    def terms(self, x, eta):
        a, log_mean = self.dispersion(eta), self._log_mean(eta)
        r, log_odds = 1 / a, log_mean + a.log()
        ways = (x + r).lgamma() - r.lgamma() - (x + 1).lgamma()
        return ways + x * log_odds - (x + r) * torch.nn.functional.softplus(log_odds)

    def fisher(self, eta):
        mean = self.mean(eta)
        return mean / (1 + self.dispersion(eta) * mean)

    def mode(self, eta):
        return (self.mean(eta) * (1 - self.dispersion(eta)).clamp(min=0.0)).floor()

    def sample(self, eta, rng):
        a, mean = self.dispersion(eta).numpy(), self.mean(eta).numpy()
        p = np.broadcast_to(1 / (1 + a * mean), mean.shape)
        return torch.from_numpy(rng.negative_binomial(1 / a, p).astype(np.float64))

    def linear(self, x, weight, factors):
        """What the factors do not explain of the variance beyond Poisson's is dispersion."""
        _, _, spread = standardised(np.log(x + 0.5), weight)
        mean = seen_mean(x, weight)
        beyond = seen_mean((x - mean) ** 2, weight) - mean
        explained = np.exp((factors.W**2).sum(axis=1) * spread**2)
        a = np.maximum((1 + beyond / mean**2) / explained - 1, START_DISPERSION)
        raw = np.log(a - SMALLEST_DISPERSION)
        return self._linear(x, weight, factors, a, raw)
