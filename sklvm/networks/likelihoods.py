"""p(x | eta), column by column: what a decoder's outputs mean; each a true density or pmf."""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch.nn.functional import softplus

LOG_2PI = math.log(2 * math.pi)
LARGEST_LOG_VARIANCE = 20.0  # in squared standard deviations of the column: far out, never overflow


class Layout(NamedTuple):
    """Which of eta a column owns; each maps (columns, d) to positions.

    eta is what varies with z (`outputs`) followed by what does not (`constants`, a single one
    serving all columns).
    """

    outputs: object
    constants: object
    start: str  # the linear model that training starts at


def _none(columns, d):
    return np.arange(0)


def _one(columns, d):
    return np.arange(1)


def _each(columns, d):
    return np.asarray(columns)


def _twice(columns, d):
    return np.concatenate([columns, d + np.asarray(columns)])


class Differentiable:
    """A likelihood whose derivative is left to torch."""

    def log_prob_and_slope(self, x, eta):
        """`log_prob` and its derivative in eta: (n, d), (n, width) -> (n,), (n, width)."""
        with torch.enable_grad():
            eta = eta.detach().requires_grad_()
            log_p = self.log_prob(x, eta)
            (slope,) = torch.autograd.grad(log_p.sum(), eta)
        return log_p.detach(), slope


@dataclass(frozen=True)
class GaussianLikelihood(Differentiable):
    """x_j ~ N(mean_j, floor^2 + exp(raw_j)) with eta = (mean, raw), in standardised units.

    Without the floor the likelihood has no upper bound (Mattei & Frellsen 2018). `variance` says
    whether raw is one number per "column", an output of the "network", or "shared" by all columns.
    """

    variance: str = "column"
    floor: float = 1e-2  # standard deviations of the column

    base_measure: ClassVar[str] = "lebesgue"
    LAYOUTS: ClassVar[dict] = {
        "column": Layout(_each, _each, "factors"),
        "network": Layout(_twice, _none, "factors"),
        "shared": Layout(_each, _one, "principal"),
    }

    @property
    def layout(self):
        return self.LAYOUTS[self.variance]

    def width(self, d):
        """Length of eta."""
        return 2 * d

    def check(self, X):
        """Every number is in the support."""

    def admissible(self, variance):
        """The nearest variances that some raw gives."""
        return np.maximum(variance, 2 * self.floor**2)

    def eta(self, mean, variance):
        """The eta of given moments, numpy (d,), (d,) -> (2d,)."""
        return np.concatenate([mean, np.log(self.admissible(variance) - self.floor**2)])

    def moments(self, eta):
        """(..., 2d) -> mean, variance, each (..., d)."""
        mean, raw = eta.chunk(2, -1)
        return mean, self.floor**2 + raw.clamp(max=LARGEST_LOG_VARIANCE).exp()

    def log_prob(self, x, eta):
        """log p(x_seen | eta), NaN marking what is missing: (n, d), (..., n, 2d) -> (..., n)."""
        mean, variance = self.moments(eta)
        terms = (x.nan_to_num() - mean) ** 2 / variance + variance.log() + LOG_2PI
        return -0.5 * (terms * ~x.isnan()).sum(-1)

    def log_prob_and_slope(self, x, eta):
        """`log_prob` and its derivative in eta: (n, d), (n, 2d) -> (n,), (n, 2d)."""
        mean, raw = eta.chunk(2, -1)
        seen, part = ~x.isnan(), raw.clamp(max=LARGEST_LOG_VARIANCE).exp()
        variance = part + self.floor**2
        away = (x - mean).nan_to_num_()
        slope = away / variance
        square = slope * away
        log_p = -0.5 * ((square + variance.log() + LOG_2PI) * seen).sum(-1)
        moving = seen & (raw <= LARGEST_LOG_VARIANCE)
        raw_slope = (square - 1).mul_(part).div_(variance).mul_(moving).mul_(0.5)
        return log_p, torch.cat([slope, raw_slope], -1)

    def fisher(self, x, eta):
        """Diagonal of the Fisher information of x_seen about eta: (n, d), (n, 2d) -> (n, 2d)."""
        mean, variance = self.moments(eta)
        share = 1 - self.floor**2 / variance  # d log variance / d raw
        return torch.cat([1 / variance, share**2 / 2], -1) * (~x.isnan()).repeat(1, 2)

    def mean(self, eta):
        """E[x | eta]: (..., 2d) -> (..., d)."""
        return self.moments(eta)[0]

    mode = mean

    def sample(self, eta, rng):
        """A draw of x: (..., 2d) -> (..., d)."""
        mean, variance = self.moments(eta)
        return mean + variance.sqrt() * torch.from_numpy(rng.standard_normal(mean.shape))


@dataclass(frozen=True)
class BernoulliLikelihood(Differentiable):
    """x_j is 1 with probability 1 / (1 + exp(-eta_j)), else 0."""

    base_measure: ClassVar[str] = "counting"
    layout: ClassVar[Layout] = Layout(_each, _none, "log odds")

    def check(self, X):
        """Refuse what is neither 0 nor 1."""
        outside = ~(np.isnan(X) | (X == 0) | (X == 1))
        if outside.any():
            raise ValueError(
                f"likelihood='bernoulli' takes 0, 1 and NaN, got {X[outside][0]:g}; use "
                "likelihood='gaussian', or a Binarizer before the VAE"
            )

    def width(self, d):
        """Length of eta."""
        return d

    def log_prob(self, x, eta):
        """log p(x_seen | eta), NaN marking what is missing: (n, d), (..., n, d) -> (..., n)."""
        return ((x.nan_to_num() * eta - softplus(eta)) * ~x.isnan()).sum(-1)

    def log_prob_and_slope(self, x, eta):
        """`log_prob` and its derivative in eta: (n, d), (n, d) -> (n,), (n, d)."""
        seen, x = (~x.isnan()).to(x.dtype), x.nan_to_num()  # numbers: faster factors than bool
        log_p = (x * eta).sub_(softplus(eta)).mul_(seen).sum(-1)
        return log_p, (x - eta.sigmoid()).mul_(seen)

    def fisher(self, x, eta):
        """Diagonal of the Fisher information of x_seen about eta: (n, d), (n, d) -> (n, d)."""
        return eta.sigmoid() * (-eta).sigmoid() * ~x.isnan()

    def mean(self, eta):
        """E[x | eta]: (..., d) -> (..., d)."""
        return eta.sigmoid()

    def mode(self, eta):
        """The more probable of 0 and 1: (..., d) -> (..., d)."""
        return (eta > 0).to(eta.dtype)

    def sample(self, eta, rng):
        """A draw of x: (..., d) -> (..., d)."""
        uniform = torch.from_numpy(rng.uniform(size=eta.shape))
        return (uniform < eta.sigmoid()).to(eta.dtype)
