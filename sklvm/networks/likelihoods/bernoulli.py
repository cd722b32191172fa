"""Columns of zeros and ones."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch.nn.functional import softplus

from .base import Eta, Likelihood, Linear, seen_mean


@dataclass(frozen=True)
class BernoulliLikelihood(Likelihood):
    """x_j is 1 with probability 1 / (1 + exp(-eta_j)), else 0."""

    name: ClassVar[str] = "bernoulli"
    base_measure: ClassVar[str] = "counting"
    positive_only: ClassVar[bool] = True
    needs: ClassVar[str] = "0, 1"

    def _inside(self, X):
        return (X == 0) | (X == 1)

    def terms(self, x, eta):
        return x * eta.outputs - softplus(eta.outputs)

    def log_prob_and_slope(self, x, eta):
        """By hand."""
        seen = None if self.complete else (~x.isnan()).to(x.dtype)  # faster factors than bool
        x = x if self.complete else x.nan_to_num()
        log_p = softplus(eta.outputs).neg_().addcmul_(x, eta.outputs)
        slope = eta.outputs.sigmoid().neg_().add_(x)
        if seen is not None:
            log_p, slope = log_p.mul_(seen), slope.mul_(seen)
        return log_p.sum(-1), Eta(slope, torch.zeros_like(eta.constants))

    def fisher(self, eta):
        return eta.outputs.sigmoid() * (-eta.outputs).sigmoid()

    def mean(self, eta):
        return eta.outputs.sigmoid()

    def mode(self, eta):
        return (eta.outputs > 0).to(eta.outputs.dtype)

    def sample(self, eta, rng):
        uniform = torch.from_numpy(rng.uniform(size=eta.outputs.shape))
        return (uniform < eta.outputs.sigmoid()).to(eta.outputs.dtype)

    def working(self, x, weight):
        p = _share(x, weight)
        return (x - p) / np.sqrt(p * (1 - p))

    def linear(self, x, weight, factors):
        """Smoothed log odds, and loadings as if every column had even odds: slope 1/4."""
        p = _share(x, weight)
        offset = np.log(p) - np.log1p(-p)
        return Linear.of_columns(
            2 * factors.W, offset, np.empty(0), p * (1 - p), np.ones(len(p)), p
        )


def _share(x, weight):
    return seen_mean(x, weight, pseudo=1.0, prior=0.5)
