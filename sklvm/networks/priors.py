"""p(z): the standard normal, or a mixture of Gaussians whose component is summed out exactly."""

import torch
from torch import nn
from torch.nn.functional import linear

from .posteriors import LOG_2PI, log_normal


class StandardNormal(nn.Module):
    """N(0, I) in q dimensions."""

    def __init__(self, q):
        super().__init__()
        self.q = q

    def log_prob(self, z):
        """log p(z): (..., q) -> (...)."""
        return log_normal(z)

    def expected_log_prob(self, posterior, z):
        """E_q[log p(z)] of each row, in closed form: -> (n,)."""
        return self.of_second_moment(posterior.mean**2 + posterior.variance())

    def of_second_moment(self, second):
        """E[log p(z)] where E[z_j^2] is known: (n, q) -> (n,)."""
        return -0.5 * (second.sum(-1) + self.q * LOG_2PI)

    def precision(self, z):
        """A positive definite curvature of -log p at z: (n, q) -> (n, q, q)."""
        return torch.eye(self.q, dtype=z.dtype).expand(len(z), -1, -1)

    def curvature(self, z):
        """Gradient of log p at z and minus its Hessian: (n, q) -> (n, q), (n, q, q)."""
        return -z, self.precision(z)

    def spread(self, points):
        """Standard normal points (S, q) where this prior has them: -> points, log densities.

        The second is a function of z (..., q): log p, and the log density of what the first are
        points of.
        """

        def log_densities(z):
            log_p = self.log_prob(z)
            return log_p, log_p

        return points, log_densities

    def sample(self, n, rng):
        """Draws: -> (n, q)."""
        return torch.from_numpy(rng.standard_normal((n, self.q)))

    n_parameters = 0

    @property
    def degeneracy(self):
        """Dimension of the transformations of z that change no density of x."""
        return self.q * (self.q - 1) // 2


class MixturePrior(nn.Module):
    """Σ_k π_k N(z; m_k, (A_k' A_k)^-1), A_k lower triangular with exp of a diagonal in `root`."""

    def __init__(self, K, q):
        super().__init__()
        self.q = q
        self.logits = nn.Parameter(torch.empty(K))
        self.means = nn.Parameter(torch.empty(K, q))
        self.root = nn.Parameter(torch.empty(K, q, q))

    def roots(self):
        """A_k: -> (K, q, q)."""
        return self.root.tril(-1) + self.root.diagonal(dim1=-2, dim2=-1).exp().diag_embed()

    def log_joint(self, z):
        """log p(z, k): (..., q) -> (..., K)."""
        log_det = self.root.diagonal(dim1=-2, dim2=-1).sum(-1)
        return log_normal(self._white(z)) + log_det + self.logits.log_softmax(0)

    def _white(self, z):
        """A_k (z - m_k) by one product of matrices: (..., q) -> (..., K, q)."""
        roots = self.roots()
        centres = torch.einsum("kij,kj->ki", roots, self.means)
        return linear(z, roots.flatten(0, 1), -centres.flatten()).unflatten(-1, centres.shape)

    def log_prob(self, z):
        return self.log_joint(z).logsumexp(-1)

    def responsibilities(self, z):
        """p(k | z): (..., q) -> (..., K)."""
        return self.log_joint(z).softmax(-1)

    def expected_log_prob(self, posterior, z):
        """E_q[log p(z)] of each row by its draws z (draws, n, q): -> (n,)."""
        return self.log_prob(z).mean(0)

    def precision(self, z):
        roots = self.roots()
        return torch.einsum("nk,kij->nij", self.responsibilities(z), roots.mT @ roots)

    def curvature(self, z):
        """With components' gradients g_k: E g and E P - E gg' + Eg Eg', E over p(k | z)."""
        slopes = -torch.einsum("kji,nkj->nki", self.roots(), self._white(z))
        share = self.responsibilities(z)
        slope = torch.einsum("nk,nki->ni", share, slopes)
        away = (slopes - slope[:, None]) * share.sqrt()[..., None]
        return slope, self.precision(z) - away.mT @ away

    def _placed(self, k, noise):
        """Standard normal noise (n, q) as draws of the components k (n,)."""
        scaled = torch.linalg.solve_triangular(self.roots()[k], noise[..., None], upper=False)
        return self.means[k] + scaled[..., 0]

    def spread(self, points):
        share = self.logits.softmax(0)
        counts = _apportioned(share, len(points))
        k = torch.repeat_interleave(torch.arange(len(share)), counts)
        log_share = (counts / len(points)).log() - self.logits.log_softmax(0)

        def log_densities(z):
            log_joint = self.log_joint(z)
            return log_joint.logsumexp(-1), (log_joint + log_share).logsumexp(-1)

        return self._placed(k, points), log_densities

    def sample(self, n, rng):
        share = self.logits.softmax(0).numpy()
        k = torch.from_numpy(rng.choice(len(share), size=n, p=share / share.sum()))
        return self._placed(k, torch.from_numpy(rng.standard_normal((n, self.q))))

    @property
    def n_parameters(self):
        K, q = self.means.shape
        return K - 1 + K * q + K * q * (q + 1) // 2

    @property
    def degeneracy(self):
        return self.q * (self.q + 1)


def _apportioned(share, n):
    """n points by the largest remainder, one for each part where there are enough: -> (K,)."""
    least = (share > 0).long() * int(n >= 2 * len(share))
    wanted = share * (n - least.sum())
    counts = wanted.floor().long()
    left = n - int(least.sum() + counts.sum())
    counts[(wanted - counts).argsort(descending=True, stable=True)[:left]] += 1
    return counts + least


def mixture_parameters(weights, means, precision_roots):
    """Arrays of a `MixturePrior`: (K,), (K, q), lower triangular A_k -> {name: ndarray}."""
    root = torch.tensor(precision_roots)
    root.diagonal(dim1=-2, dim2=-1).log_()
    return {
        "prior.logits": torch.tensor(weights).log().numpy(),
        "prior.means": torch.tensor(means).numpy(),
        "prior.root": root.tril().numpy(),
    }


def prior_of(parameters, q):
    """The prior that arrays describe."""
    if "prior.logits" not in parameters:
        return StandardNormal(q)
    return MixturePrior(len(parameters["prior.logits"]), q)
