"""q(z | x) as values: what an encoder says of each row, with reparameterised draws.

A `Step` moves one in its own coordinates: z = mean + L (shift + E noise), L the root of its
covariance, E lower triangular with exp(log_scale) on the diagonal and `shear` below.
"""

import math
from typing import NamedTuple

import torch

LOG_2PI = math.log(2 * math.pi)


def log_normal(z):
    """log N(z; 0, I): (..., q) -> (...)."""
    return -0.5 * ((z * z).sum(-1) + z.shape[-1] * LOG_2PI)


def below(q, device="cpu"):
    """Rows and columns of the entries below a diagonal."""
    return torch.tril_indices(q, q, -1, device=device)


def lower_triangular(log_diagonal, lower):
    """Matrices with exp(log_diagonal) (n, q) on the diagonal and `lower` below: -> (n, q, q)."""
    i, j = below(log_diagonal.shape[-1], log_diagonal.device)
    matrix = log_diagonal.exp().diag_embed()
    matrix[:, i, j] = lower
    return matrix


class Step(NamedTuple):
    """A direction in which Gaussians can move, seen from where they are."""

    shift: torch.Tensor  # (n, q)
    log_scale: torch.Tensor  # (n, q)
    shear: torch.Tensor  # (n, q (q - 1) / 2), or (n, 0)

    def squared_slope(self):
        """Rise of a function along the natural gradient of it that this is: -> (n,)."""
        return (self.shift**2 + 2 * self.log_scale**2).sum(-1) + (self.shear**2).sum(-1)

    def stretch(self):
        """The largest change of a log standard deviation: -> (n,)."""
        return self.log_scale.abs().amax(-1)


class Diagonal(NamedTuple):
    """N(mean, diag(exp(log_sd))^2)."""

    mean: torch.Tensor  # (n, q)
    log_sd: torch.Tensor  # (n, q)

    @staticmethod
    def n_lower(q):
        """How many numbers there are below the diagonal of the root of the covariance."""
        return 0

    def at(self, noise):
        """z for standard normal noise: (..., n, q) -> (..., n, q)."""
        return self.mean + self.log_sd.exp() * noise

    def log_prob_at(self, noise):
        """log q(at(noise)): (..., n, q) -> (..., n)."""
        return log_normal(noise) - self.log_sd.sum(-1)

    def log_prob(self, z):
        """log q(z): (..., n, q) -> (..., n)."""
        return self.log_prob_at((z - self.mean) * (-self.log_sd).exp())

    def entropy(self):
        """In nats: -> (n,)."""
        return self.log_sd.sum(-1) + 0.5 * self.mean.shape[-1] * (1 + LOG_2PI)

    def variance(self):
        """Of each dimension: -> (n, q)."""
        return (2 * self.log_sd).exp()

    def ascent(self, slope, noise):
        """Natural gradient of E[f(z)] + entropy, by the slope of f at(noise): (S, n, q) -> Step."""
        white = slope * self.log_sd.exp()
        return Step(white.mean(0), ((white * noise).mean(0) + 1) / 2, white[0, :, :0])

    def moved(self, step, length):
        """This, moved along a step by (n,) lengths."""
        shift, log_scale, _ = (length[:, None] * part for part in step)
        return Diagonal(self.mean + self.log_sd.exp() * shift, self.log_sd + log_scale)

    def detach(self):
        """The same without a gradient."""
        return type(self)(*(part.detach() for part in self))


class Full(NamedTuple):
    """N(mean, L L'), L with exp(log_sd) on its diagonal and `lower` below, row by row."""

    mean: torch.Tensor  # (n, q)
    log_sd: torch.Tensor  # (n, q)
    lower: torch.Tensor  # (n, q (q - 1) / 2)

    @staticmethod
    def n_lower(q):
        return q * (q - 1) // 2

    def root(self):
        """L: -> (n, q, q)."""
        return lower_triangular(self.log_sd, self.lower)

    def at(self, noise):
        return self.mean + torch.einsum("nij,...nj->...ni", self.root(), noise)

    log_prob_at = Diagonal.log_prob_at

    def log_prob(self, z):
        away = (z - self.mean).unsqueeze(-1)
        noise = torch.linalg.solve_triangular(self.root(), away, upper=False).squeeze(-1)
        return self.log_prob_at(noise)

    entropy = Diagonal.entropy

    def variance(self):
        return (self.root() ** 2).sum(-1)

    def ascent(self, slope, noise):
        white = torch.einsum("nij,sni->snj", self.root(), slope)
        outer = torch.einsum("sni,snj->nij", white, noise.expand_as(white)) / len(white)
        diagonal, (i, j) = outer.diagonal(dim1=-2, dim2=-1), below(white.shape[-1])
        return Step(white.mean(0), (diagonal + 1) / 2, outer[:, i, j])

    def moved(self, step, length):
        shift, log_scale, shear = (length[:, None] * part for part in step)
        root, (i, j) = self.root(), below(self.mean.shape[-1])
        lower = (root @ lower_triangular(log_scale, shear))[:, i, j]
        mean = self.mean + torch.einsum("nij,nj->ni", root, shift)
        return Full(mean, self.log_sd + log_scale, lower)

    detach = Diagonal.detach


POSTERIORS = {"diagonal": Diagonal, "full": Full}
