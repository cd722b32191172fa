"""Posteriors over the mixtures within components: weights of parts, and the parts themselves."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .base import Integrated
from .gaussian_mixture import GaussianMixtures
from .nested import parts_of
from .simplex import DirichletRows, Point

CONCENTRATION = 1.0  # of the weights of each component's parts: all equally probable


@dataclass(frozen=True)
class GaussianMixturePosteriors(Integrated, GaussianMixtures):
    """q(weights of the parts of k) = Dirichlet, times q of each part, against priors of the kind.

    A part is one more latent of each row; its best q is Bayes' rule with expected logarithms, so
    that `log_prob` has it summed out (Bishop 2006, 10.2).
    """

    weights: DirichletRows  # type: ignore[assignment]  # (K, M)
    parts: Any  # Conjugate, K M

    @classmethod
    def unseen(cls, parts, K):
        """The prior, as the posterior of components that have seen nothing."""
        alpha = np.full((K, len(parts.m) // K), CONCENTRATION)
        return cls(DirichletRows(alpha, alpha), parts)

    def log_prior(self):
        return self.weights.log_prior() + self.parts.log_prior()

    def predictive(self):
        return GaussianMixtures(Point(self.weights.mean), self.parts.predictive())

    def draw(self, rng):
        """Mixtures whose parameters are drawn from q."""
        return GaussianMixtures(Point(self.weights.draw(rng).mean), self.parts.draw(rng))

    def take(self, order):
        places = parts_of(order, self._shape[1])
        weights = DirichletRows(self.weights.alpha[order], self.weights.prior[order])
        return replace(self, weights=weights, parts=self.parts.take(places))
