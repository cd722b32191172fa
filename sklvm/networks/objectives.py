"""What training maximises, one number per row, by draws whose gradients reach the encoder.

Every objective returns its loss and, without a gradient, the three terms of the evidence lower
bound: E_q[log p(x | z)], E_q[log p(z)] and H[q].
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch


@dataclass(frozen=True)
class Objective:
    """A bound on log p(x): log p(x | z) + weight (log p(z) - log q(z)), from `draws` z per row.

    The weight is `beta` after a linear rise over the first `warmup` epochs.
    """

    draws: int = 1
    beta: float = 1.0
    warmup: int = 0
    free_bits: float = 0.0

    usual_draws: ClassVar[int] = 1
    has_divergence: ClassVar[bool] = False  # of a row, some of which may be free

    def weight(self, epoch):
        """Of the prior and the entropy in an epoch, counted from 1; 0 is the start."""
        return self.beta * min(1.0, epoch / self.warmup) if self.warmup else self.beta

    def __call__(self, model, x, generator, epoch):
        """-> loss (n,), terms: three of (n,)."""
        q = model.encode(x)
        shape, like = (self.draws, *q.mean.shape), q.mean
        noise = torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
        return self.loss(model, x, q, q.at(noise), epoch)


class Elbo(Objective):
    """The evidence lower bound; the divergence is exact under a standard normal prior.

    Kingma & Welling (2014), eq. 10. `free_bits` nats of the divergence of a row cost nothing
    (Kingma et al. 2016).
    """

    has_divergence = True

    def loss(self, model, x, q, z, epoch):
        fit = model.log_likelihood(x, z).mean(0)
        loss, terms, _ = self.combine(fit, model.prior.expected_log_prob(q, z), q.entropy(), epoch)
        return loss, terms

    def combine(self, fit, log_prior, entropy, epoch):
        """The loss and its terms, each (n,), and what a divergence counts: number or (n, 1)."""
        divergence, weight = -log_prior - entropy, self.weight(epoch)
        if not self.free_bits:
            return weight * divergence - fit, (fit, log_prior, entropy), weight
        paid = weight * (divergence > self.free_bits)
        loss = weight * divergence.clamp(min=self.free_bits) - fit
        return loss, (fit, log_prior, entropy), paid[:, None]


class StickingTheLanding(Objective):
    """The same bound from draws alone; its gradient has no variance where q is exact.

    The density of q keeps its dependence on z and not that on the encoder (Roeder, Wu & Duvenaud
    2017).
    """

    def log_weights(self, model, x, q, z, epoch):
        """log p(x | z), log p(z), log p(x, z) - log q(z) with q's parameters held: (draws, n)."""
        fit, log_prior = model.log_likelihood(x, z), model.prior.log_prob(z)
        divergence = q.detach().log_prob(z) - log_prior
        return fit, log_prior, fit - self.weight(epoch) * divergence

    def loss(self, model, x, q, z, epoch):
        fit, log_prior, log_weight = self.log_weights(model, x, q, z, epoch)
        return -log_weight.mean(0), (fit.mean(0), log_prior.mean(0), q.entropy())


class ImportanceWeighted(StickingTheLanding):
    """The importance-weighted bound (Burda, Grosse & Salakhutdinov 2016, eq. 8).

    The encoder's gradient is doubly reparameterised: draw k counts by the square of its share of
    the weights (Tucker, Lawson, Gu & Maddison 2019, eq. 8).
    """

    usual_draws = 5

    def loss(self, model, x, q, z, epoch):
        fit, log_prior, log_weight = self.log_weights(model, x, q, z, epoch)
        share = log_weight.detach().softmax(0)
        if z.requires_grad:
            z.register_hook(lambda slope: share[..., None] * slope)
        bound = log_weight.logsumexp(0) - math.log(len(z))
        return -bound, (fit.mean(0), log_prior.mean(0), q.entropy())


OBJECTIVES = {"elbo": Elbo, "stl": StickingTheLanding, "iwae": ImportanceWeighted}
