"""How training finds q(z | x): by an encoder for all rows, or by numbers of each row's own."""

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import nn

from .networks.autoencoder import Autoencoder
from .networks.by_hand import ElboByHand
from .networks.importance import matched, normal_points, row_blocks
from .networks.objectives import Elbo
from .networks.refinement import improved
from .vae_report import TOLD_ROWS, few

JUDGE_POINTS = 32  # of the importance-weighted bound that chooses the epoch
OWN_DRAWS = 8  # of z by which a step of the networks sees a row's own q
OWN_STEPS = 2  # of a row's q, each time that the networks are trained with it
SHARE = 0.5  # of the natural gradient that such a step goes
FARTHEST = 4.0  # standard deviations that count as a whole step
LAST_STEPS = 10  # of every row's q once the networks are trained


def encoded(state, X, rows=slice(None)):
    """q(z | x) of some standardised rows by the encoder of a state."""
    return state.encoded(X[rows])


class ByEncoder:
    """An encoder says q(z | x) of any row."""

    fewest_draws = 1

    def __init__(self, state, likelihood, training, dtype, device):
        self.rows = torch.from_numpy(training.X.astype(dtype)).to(device)
        self.how = likelihood, state.architecture, self.rows.dtype, device
        self.module = self.networks(state)
        self.state, self.training = state, training

    def networks(self, state):
        """Those of a state, of the dtype and on the device that training has."""
        return Autoencoder.of(state.parameters, *self.how)

    def loss(self, objective):
        """What `train` minimises."""
        return partial(objective, self.module)

    def by_hand(self, objective):
        """The gradient of an objective by hand, where there is one."""
        if ElboByHand.serves(objective, self.module):
            return partial(ElboByHand, objective, self.module)
        return None

    def kept(self, arrays):
        """What a state keeps of the trained arrays."""
        return arrays

    def posteriors(self, state):
        """rows -> q(z | x) of those training rows, for a trained state."""
        return partial(encoded, state, self.training.X)

    def judge(self, held_out, rng):
        """networks -> the bound of held-out rows, by points all share; or None."""
        width = self.state.architecture.width
        return judge_by_bound(held_out, self.rows, self.state.n_latents, width, rng)


class ByRow(ByEncoder):
    """Every training row has a Gaussian of its own, which starts where the encoder puts it.

    `train` sees the numbers of rows. Where the encoder was, the state keeps one that says N(0, I).
    """

    fewest_draws = OWN_DRAWS

    def __init__(self, state, likelihood, training, dtype, device):
        super().__init__(state, likelihood, training, dtype, device)
        own = state.encoded(training.X)
        own = type(own)(*(part.to(self.rows) for part in own))
        self.silent = _silent(state.parameters, dtype)
        self.module = OwnPosteriors(self.module, self.rows, own, self.silent)
        self.rows = torch.arange(len(self.rows), device=device)

    def loss(self, objective):
        if objective != Elbo(objective.draws):
            raise ValueError(
                "amortized=False raises the evidence lower bound itself: it needs "
                f"objective='elbo', beta=1, kl_warmup=0 and free_bits=0, got {objective}"
            )

        def loss(rows, generator, epoch):
            for _ in range(OWN_STEPS if epoch else 0):
                self.module.climb(rows, generator)
            return objective(self.module, rows, generator, epoch)

        return loss

    def by_hand(self, objective):
        return None

    def kept(self, arrays):
        return self.silent | arrays

    def posteriors(self, state):
        width = max(state.likelihood.n_outputs(state.n_features), state.architecture.width)
        q = self.module.arrived(torch.from_numpy(state.points), width)
        return lambda rows=slice(None): type(q)(*(part[rows] for part in q))

    def judge(self, held_out, rng):
        return judge_by_score(self.state, held_out, rng)


def _silent(parameters, dtype):
    """The arrays of an encoder that says N(0, I) of every row."""
    encoder = {name: v for name, v in parameters.items() if name.startswith("encoder")}
    return {name: np.zeros(v.shape, dtype) for name, v in encoder.items()}


class OwnPosteriors(nn.Module):
    """p(x | z) p(z) of an autoencoder, and a Gaussian q(z) for each row, by its number."""

    def __init__(self, model, x, own, silent):
        super().__init__()
        self.decoder, self.prior, self.likelihood = model.decoder, model.prior, model.likelihood
        self.x, self.own, self.silent = x, own, silent

    def encode(self, rows):
        """q(z) of the rows of these numbers."""
        return type(self.own)(*(part[rows] for part in self.own))

    @torch.no_grad()
    def climb(self, rows, generator):
        """A natural gradient step of each row's q, by noise that is new each time.

        Hoffman, Blei, Wang & Paisley (2013). The noise, with moments 0 and I, is common to the
        rows: one that comes twice goes the same way. Old noise would be what q fits in the end.
        """
        x, q, like = self.x[rows], self.encode(rows), self.own.mean
        half = 2 * like.shape[1] + 2, like.shape[1]
        noise = torch.randn(half, generator=generator, dtype=like.dtype, device=like.device)
        noise = matched(torch.cat([noise, -noise]))[:, None]
        slope = torch.func.grad(lambda z: self.log_joint(x, z).sum())(q.at(noise))
        step = q.ascent(slope, noise)
        far = torch.maximum(step.stretch(), step.shift.abs().amax(-1) / FARTHEST)
        for part, moved in zip(self.own, q.moved(step, SHARE / far.clamp(min=1.0)), strict=True):
            part[rows] = moved

    @torch.no_grad()
    def arrived(self, points, width):
        """q(z) of every row, improved by common points until little is left to gain: float64."""
        noise = matched(points)[:, None].to(self.x)
        blocks = row_blocks(len(self.x), len(points), width)
        parts = [
            improved(self, self.x[rows], self.encode(rows), noise, LAST_STEPS)[0] for rows in blocks
        ]
        whole = [torch.cat(pieces).double().cpu() for pieces in zip(*parts, strict=True)]
        return type(self.own)(*whole)

    def log_likelihood(self, rows, z):
        """log p(x_seen | z) of the rows of these numbers: (n,), (..., n, q) -> (..., n)."""
        return Autoencoder.log_likelihood(self, self.x[rows], z)

    def arrays(self):
        """Those of an autoencoder whose encoder says nothing."""
        trained = dict(self.named_parameters())
        return self.silent | {k: p.detach().cpu().numpy().copy() for k, p in trained.items()}

    told = Autoencoder.told
    decode = Autoencoder.decode
    log_joint = Autoencoder.log_joint
    bending_matrices = Autoencoder.bending_matrices


def judge_by_bound(held_out, like, q, width, rng):
    """module -> the importance-weighted bound of held-out rows, by points all share; or None."""
    if not len(held_out.X):
        return None
    points = normal_points(JUDGE_POINTS, q, rng)
    noise = torch.from_numpy(points).to(like)[:, None]
    X = torch.from_numpy(held_out.X).to(like)
    weight = torch.from_numpy(held_out.weight / held_out.weight.sum())
    slices = row_blocks(len(X), JUDGE_POINTS, max(2 * X.shape[1], width))

    @torch.no_grad()
    def judge(module):
        bounds = torch.cat([module.bound(X[rows], noise) for rows in slices])
        return float(weight @ bounds.double().cpu())

    return judge


def judge_by_score(state, held_out, rng):
    """module -> mean log p(x) of held-out rows (200 at most), no encoder needed; or None."""
    if not len(held_out.X):
        return None
    told, q = few(held_out, TOLD_ROWS), state.n_latents
    points = normal_points(max(JUDGE_POINTS, 2 * q), q, rng)
    X, shift = state.in_units(told.X), state.mean_log_jacobian(told)

    def judge(module):
        scores = replace(state, parameters=module.arrays(), points=points).log_prob(X)
        return float(np.average(scores, weights=told.weight) + shift)

    return judge


WAYS = {True: ByEncoder, False: ByRow}
