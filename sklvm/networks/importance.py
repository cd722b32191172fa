"""log p(x) of a decoder: climb to the most probable z, then weigh points spread around it.

An encoder is worst where scores matter most, at outliers, so it only says where the climb starts
(Kim et al. 2018; Cremer et al. 2018). Every function treats each row by itself.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import ndtri
from scipy.stats import qmc

from .autoencoder import log_prior

BROADEN = 1.1  # the proposal's scale in units of the Laplace approximation's
PRIOR_SHARE = 0.1  # of the points come from the prior, so that no weight is unbounded
MAX_STEPS = 50
HALVINGS = 12
SMALL_STEP = 1e-9  # in posterior standard deviations
ELEMENTS = 2**22  # of the largest temporary


class Laplace(NamedTuple):
    """N(mode, precision^-1), the Gaussian that stands for p(z | x_seen)."""

    mode: torch.Tensor  # (n, q)
    precision: torch.Tensor  # (n, q, q) = I + J' F J, the Fisher information about z


class Weighted(NamedTuple):
    """Points that stand for p(z | x_seen)."""

    z: torch.Tensor  # (S, n, q)
    log_weight: torch.Tensor  # (S, n) log p(x_seen, z) - log r(z) for the proposal r
    log_control: torch.Tensor  # (S, n) log N(z; Laplace) - log r(z), whose mean is known: 1

    def log_evidence(self):
        """log p(x_seen): the ratio estimator, exact where the posterior is the Laplace Gaussian."""
        return self.log_weight.logsumexp(0) - self.log_control.logsumexp(0)

    def share(self):
        """Self-normalised weights (S, n)."""
        return self.log_weight.softmax(0)


def normal_points(n_points, q, rng):
    """A scrambled Sobol set seen through the normal quantile function: -> (n_points, q)."""
    sobol = qmc.Sobol(q, rng=rng)
    uniform = sobol.random_base2(math.ceil(math.log2(n_points)))[:n_points]
    return ndtri(np.clip(uniform, 2.0**-40, 1 - 2.0**-40))


def matched(points):
    """Points moved so that their mean is 0 and their covariance I: exact for quadratics."""
    centred = points - points.mean(0)
    root = torch.linalg.cholesky(centred.mT @ centred / len(points))
    return torch.linalg.solve_triangular(root, centred.mT, upper=False).mT


def jacobian(decoder, z):
    """d eta / d z by one forward-mode pass per latent: (n, q) -> (n, q, width)."""

    def along(direction):
        return torch.func.jvp(decoder, (z,), (direction.expand_as(z),))[1]

    return torch.func.vmap(along, out_dims=1)(torch.eye(z.shape[1], dtype=z.dtype))


def curvature(model, x, z):
    """Gradient of log p(x_seen, z) in z, and its expected curvature: -> (n, q), (n, q, q)."""
    J = jacobian(model.decoder, z)
    eta = model.decoder(z)
    with torch.enable_grad():
        leaf = eta.detach().requires_grad_()
        (score,) = torch.autograd.grad(model.likelihood.log_prob(x, leaf).sum(), leaf)
    gradient = (J @ score[..., None])[..., 0] - z
    identity = torch.eye(z.shape[1], dtype=z.dtype)
    return gradient, identity + (J * model.likelihood.fisher(x, eta)[:, None]) @ J.mT


def laplace(model, x):
    """Damped Fisher scoring from the encoder's mean, each row until it stands still."""
    z = model.encoder(x)[0]
    active = torch.arange(len(x))
    for _ in range(MAX_STEPS):
        here, rows = z[active], x[active]
        gradient, precision = curvature(model, rows, here)
        step = torch.linalg.solve(precision, gradient)
        z[active] = _ascend(model, rows, here, step)
        active = active[(gradient * step).sum(-1) > SMALL_STEP**2]
        if not len(active):
            break
    return Laplace(z, curvature(model, x, z)[1])


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


def weigh(model, x, approximation, points):
    """Points from 0.9 broadened Laplace + 0.1 prior, weighed against that mixture.

    Deterministic mixture (Owen & Zhou 2000): the first points belong to the one part, the last to
    the other, and each is weighed against both. points (S, q) are standard normal.
    """
    mode, precision = approximation
    n_prior = max(1, round(PRIOR_SHARE * len(points)))
    n_near = len(points) - n_prior
    root = torch.linalg.cholesky(precision)  # precision = root root'
    near = torch.linalg.solve_triangular(root.mT, points[:n_near].T, upper=True).permute(2, 0, 1)
    far = points[n_near:, None].expand(-1, len(x), -1)
    z = torch.cat([mode + BROADEN * near, far])  # (S, n, q)
    log_det = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    white = torch.einsum("nij,sni->snj", root, z - mode)
    log_gauss = log_prior(white) + log_det
    log_broad = log_prior(white / BROADEN) + log_det - z.shape[-1] * math.log(BROADEN)
    log_r = torch.logaddexp(
        log_broad + math.log(n_near / len(points)), log_prior(z) + math.log(n_prior / len(points))
    )
    return Weighted(z, model.log_joint(x, z) - log_r, log_gauss - log_r)


def row_blocks(n, n_points, width):
    """Slices of rows that keep (n_points, rows, width) within a bounded memory."""
    size = max(1, ELEMENTS // (n_points * width))
    return [slice(i, i + size) for i in range(0, n, size)]
