"""Posteriors over the probabilities of categories: one Dirichlet for each component and column."""

from dataclasses import dataclass, fields, replace

import numpy as np
from scipy.special import digamma, gammaln

from .base import Integrated
from .categorical import Categoricals, CellCounts
from .cells import CellSweep, cells_of
from .independent import FLOOR


@dataclass(frozen=True)
class DirichletCells(Integrated, Categoricals):
    """q(p_k of column j) = Dirichlet(alpha of its cells); `prior` is alpha before any row was seen.

    `probs` are the expected probabilities, those of the predictive.
    """

    alpha: np.ndarray  # (K, cells)

    @classmethod
    def unseen(cls, start):
        """The prior of the components of `start`, which EM begins with."""
        values = {field.name: getattr(start, field.name) for field in fields(start)}
        return cls(**values, alpha=start.probs)._at(np.tile(start.prior, (len(start.probs), 1)))

    def _at(self, alpha):
        return replace(self, alpha=alpha, probs=alpha / self._of_cells(self._by_column(alpha)))

    def sweep(self, offset=0.0, known=None):
        return CellSweep(self._expected_log(), self.sizes, offset, CellCounts)

    def _expected_log(self):
        """E[log p] (Bishop 10.66)."""
        return digamma(self.alpha) - self._of_cells(digamma(self._by_column(self.alpha)))

    def m_step(self, stats):
        return self._at(self.prior + stats.count)

    def log_prior(self):
        """-KL(q || prior), summed over components and columns."""
        gap = ((self.alpha - self.prior) * self._expected_log()).sum()
        unseen = len(self.alpha) * self._log_normaliser(self.prior)
        return float(self._log_normaliser(self.alpha) - unseen - gap)

    def _log_normaliser(self, alpha):
        return gammaln(alpha).sum() - gammaln(self._by_column(alpha)).sum()

    def predictive(self):
        return self._point(self.probs)

    def draw(self, rng):
        """Probabilities drawn from q."""
        gamma = rng.standard_gamma(self.alpha)
        return self._point(np.maximum(gamma / self._of_cells(self._by_column(gamma)), FLOOR))

    def _point(self, probs):
        return Categoricals(probs, self.sizes, self.prior, self.is_open, self.pseudo)

    def take(self, order):
        return replace(super().take(order), alpha=self.alpha[order])

    def marginal(self, columns):
        cells = cells_of(columns, self.sizes)
        return replace(super().marginal(columns), alpha=self.alpha[:, cells])

    def pack(self, other):
        return np.log(other.alpha / self.alpha).ravel()

    def unpack(self, vector):
        return self._at(self.alpha * np.exp(vector.reshape(self.alpha.shape)))
