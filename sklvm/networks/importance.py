"""log p(x) of a decoder: climb to the most probable z, then weigh points spread around it.

An encoder is worst where scores matter most, at outliers, so it only says where a climb starts
(Kim et al. 2018; Cremer et al. 2018). Every function treats each row by itself.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import ndtri
from scipy.stats import qmc

from .posteriors import log_normal

PRIOR_SHARE = 0.2  # of the points come from the prior, so that no weight is unbounded
MAX_STEPS = 30
HALVINGS = 12
SMALL_STEP = 1e-6  # in posterior standard deviations; Newton then lands within its square
CLEARLY_HIGHER = 1e-6  # nats; below it, the mode next to the encoder's guess is preferred
ELEMENTS = 2**22  # of the largest temporary


class Laplace(NamedTuple):
    """M Gaussians N(mode, precision^-1), each standing for p(z | x_seen) about one climb's end."""

    mode: torch.Tensor  # (M, n, q)
    precision: torch.Tensor  # (M, n, q, q) curvature of -log p(x_seen, z) there
    height: torch.Tensor  # (M, n) log p(x_seen, mode)

    def best(self):
        """The highest of them: mode (n, q), precision (n, q, q)."""
        favoured = self.height.clone()
        favoured[0] += CLEARLY_HIGHER
        chosen = favoured.argmax(0), torch.arange(self.height.shape[1])
        return self.mode[chosen], self.precision[chosen]


class Weighted(NamedTuple):
    """Points that stand for p(z | x_seen)."""

    z: torch.Tensor  # (S, n, q)
    log_weight: torch.Tensor  # (S, n) log p(x_seen, z) - log r(z) for the proposal r
    log_control: torch.Tensor  # (S, n) log N(z; best) - log r(z), whose mean is known: 1

    def log_evidence(self):
        """log p(x_seen): a ratio estimator, exact where the posterior is the best Gaussian."""
        return self.log_weight.logsumexp(0) - self.log_control.logsumexp(0)

    def share(self):
        """Self-normalised weights (S, n)."""
        return self.log_weight.softmax(0)

    def standard_error(self):
        """Of `log_evidence`, as if the points were independent: -> (n,).

        The delta method for a ratio: its residuals are shares of the weights less those of the
        control.
        """
        S = len(self.z)
        surplus = self.share() - self.log_control.softmax(0)
        return ((surplus**2).sum(0) * S / (S - 1)).sqrt()

    def effective_size(self):
        """How many equally weighted points these are worth (Kish 1965): -> (n,)."""
        return 1 / (self.share() ** 2).sum(0)

    def mean(self, mode):
        """E[z | x_seen]: where the weights move the best Gaussian's mode (n, q), whose mean it is.

        What the points get wrong of that Gaussian's own mean is taken off.
        """
        surplus = self.share() - self.log_control.softmax(0)
        return mode + torch.einsum("sn,snq->nq", surplus, self.z - mode)


def normal_points(n_points, q, rng):
    """A scrambled Sobol set seen through the normal quantile function: -> (n_points, q)."""
    sobol = qmc.Sobol(q, seed=rng)
    uniform = sobol.random_base2(math.ceil(math.log2(n_points)))[:n_points]
    return ndtri(np.clip(uniform, 2.0**-40, 1 - 2.0**-40))


def matched(points):
    """Points moved so that their mean is 0 and their covariance I: exact for quadratics."""
    centred = points - points.mean(0)
    root = torch.linalg.cholesky(centred.mT @ centred / len(points))
    return torch.linalg.solve_triangular(root, centred.mT, upper=False).mT


def jacobian(function, z):
    """d function / d z, row by row, by a forward-mode pass per latent: (n, q) -> (n, q, width)."""

    def along(direction):
        return torch.func.jvp(function, (z,), (direction.expand_as(z),))[1]

    return torch.func.vmap(along, out_dims=1)(torch.eye(z.shape[1], dtype=z.dtype))


def curvature(model, x, z):
    """Gradient of log p(x_seen, z) in z and minus its Hessian: -> (n, q), (n, q, q).

    Where minus the Hessian is not positive definite, the Fisher information stands in for it.
    """
    gradient = torch.func.grad(lambda z: model.likelihood.log_prob(x, model.decode(x, z)).sum())
    slope, precision = model.prior.curvature(z)
    precision = precision - jacobian(gradient, z)
    precision = (precision + precision.mT) / 2
    saddle = torch.linalg.cholesky_ex(precision)[1] > 0
    if saddle.any():
        precision[saddle] = fisher(model, x[saddle], z[saddle])
    return gradient(z) + slope, precision


def fisher(model, x, z):
    """Expected curvature of -log p(x_seen, z), P + J' F J with J = d outputs / d z: (n, q, q).

    P is the precision of the prior; of a mixture, its average over the components that z suggests.
    """
    J = jacobian(lambda z: model.decode(x, z).outputs, z)
    return model.prior.precision(z) + model.likelihood.information(x, model.decode(x, z), J)


def laplace(model, x, points):
    """Climbs from the encoder's mean and from the point that is most probable beside x."""
    placed, _ = model.prior.spread(points)
    starts = torch.stack(
        [model.encoder(x).mean, placed[model.log_joint(x, placed[:, None]).argmax(0)]]
    )
    rows = x.repeat(len(starts), 1)
    mode = climb(model, rows, starts.flatten(0, 1))
    found = mode, curvature(model, rows, mode)[1], model.log_joint(rows, mode)
    return Laplace(*(part.unflatten(0, (len(starts), len(x))) for part in found))


def climb(model, x, z):
    """Damped Newton steps on log p(x_seen, z), each row until it stands still: -> (n, q)."""
    z, active = z.clone(), torch.arange(len(x))
    for _ in range(MAX_STEPS):
        here, rows = z[active], x[active]
        gradient, precision = curvature(model, rows, here)
        step = torch.linalg.solve(precision, gradient)
        z[active] = _ascend(model, rows, here, step)
        active = active[(gradient * step).sum(-1) > SMALL_STEP**2]
        if not len(active):
            break
    return z


def _ascend(model, x, z, step):
    """z + t step with the first t of 1, 1/2, 1/4, ... that does not lower log p(x_seen, z)."""
    floor = model.log_joint(x, z)
    floor = floor - 1e-12 * (1 + floor.abs())  # rounding is no fall
    t = torch.ones_like(floor)
    for _ in range(HALVINGS):
        there = z + t[:, None] * step
        low = ~(model.log_joint(x, there) >= floor)
        if not low.any():
            return there
        t = torch.where(low, t / 2, t)
    return torch.where(low[:, None], z, there)


def weigh(model, x, found, points):
    """Points from broadened Gaussians and the prior, weighed against the mixture of them all.

    Deterministic mixture (Owen & Zhou 2000): each part has its own of the points, all are weighed
    against the whole. points (S, q) are standard normal.
    """
    M, n, q = found.mode.shape
    n_prior = max(1, round(PRIOR_SHARE * len(points)))
    parts = [*points[: len(points) - n_prior].tensor_split(M), points[len(points) - n_prior :]]
    gaussians = [Gaussian(*each) for each in zip(found.mode, found.precision, strict=True)]
    broad = 1 + 0.7 / math.sqrt(q)  # of the scale: costs the same share of points for every q
    near = [g.at(broad * part) for g, part in zip(gaussians, parts, strict=False)]
    placed, log_densities = model.prior.spread(parts[-1])
    z = torch.cat([*near, placed[:, None].expand(-1, n, -1)])  # (S, n, q)
    log_prior, log_placed = log_densities(z)
    densities = [*(g.log_prob(z, broad) for g in gaussians), log_placed]
    shares = [math.log(len(part) / len(points)) for part in parts]
    log_r = torch.stack([p + share for p, share in zip(densities, shares, strict=True)]).logsumexp(
        0
    )
    control = Gaussian(*found.best()).log_prob(z)
    log_joint = model.likelihood.log_prob(x, model.decode(x, z)) + log_prior
    return Weighted(z, log_joint - log_r, control - log_r)


class Gaussian:
    """N(mean, precision^-1) of each row: mean (n, q), precision (n, q, q)."""

    def __init__(self, mean, precision):
        self.mean, self.root = mean, torch.linalg.cholesky(precision)  # precision = root root'

    def at(self, points):
        """Standard normal points (S, q) where this Gaussian has them: -> (S, n, q)."""
        spread = torch.linalg.solve_triangular(
            self.root.mT, points.T.expand(len(self.mean), -1, -1), upper=True
        )
        return self.mean + spread.permute(2, 0, 1)

    def entropy(self):
        """In nats: -> (n,)."""
        log_det = self.root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return 0.5 * self.mean.shape[1] * (1 + math.log(2 * math.pi)) - log_det

    def log_prob(self, z, scale=1.0):
        """Log density at z (S, n, q), the standard deviations multiplied by scale: -> (S, n)."""
        white = torch.einsum("nij,sni->snj", self.root, z - self.mean) / scale
        log_det = self.root.diagonal(dim1=-2, dim2=-1).log().sum(-1) - z.shape[-1] * math.log(scale)
        return log_normal(white) + log_det


def row_blocks(n, n_points, width):
    """Slices of rows that keep (n_points, rows, width) within a bounded memory."""
    size = max(1, ELEMENTS // (n_points * width))
    return [slice(i, i + size) for i in range(0, n, size)]
