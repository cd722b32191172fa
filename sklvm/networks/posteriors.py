"""q(z | x) as values: what an encoder says of each row, with reparameterised draws."""

import math
from typing import NamedTuple

import torch

LOG_2PI = math.log(2 * math.pi)


def log_normal(z):
    """log N(z; 0, I): (..., q) -> (...)."""
    return -0.5 * ((z * z).sum(-1) + z.shape[-1] * LOG_2PI)


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
        q = self.mean.shape[-1]
        i, j = torch.tril_indices(q, q, -1, device=self.mean.device)
        root = self.log_sd.exp().diag_embed()
        root[:, i, j] = self.lower
        return root

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

    detach = Diagonal.detach


POSTERIORS = {"diagonal": Diagonal, "full": Full}
