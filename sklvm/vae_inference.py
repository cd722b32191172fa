"""How training finds q(z | x): by an encoder for all rows, or by numbers of each row's own."""

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import nn

from .networks.autoencoder import Autoencoder
from .networks.by_hand import ElboByHand
from .networks.importance import matched, normal_points, row_blocks
from .networks.refinement import improved
from .vae_report import TOLD_ROWS, few

JUDGE_POINTS = 32  # of the importance-weighted bound that chooses the epoch
OWN_POINTS = 32  # that a row's own q is improved by
LAST_STEPS = 10  # of every row's q once the networks are trained


def encoded(state, X, rows=slice(None)):
    """q(z | x) of some standardised rows by the encoder of a state."""
    return state.model().encoder(torch.from_numpy(X[rows]))


class ByEncoder:
    """An encoder says q(z | x) of any row."""

    def __init__(self, state, likelihood, training, dtype, device):
        self.rows = torch.from_numpy(training.X.astype(dtype)).to(device)
        how = likelihood, state.architecture, self.rows.dtype, device
        self.module = Autoencoder.of(state.parameters, *how)
        self.state, self.training = state, training

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
        """state or module -> the bound of held-out rows, by points all share; or None."""
        return judge_by_bound(held_out, self.rows, self.state.n_latents, rng)


class ByRow(ByEncoder):
    """Every training row has a Gaussian of its own, which starts where the encoder puts it.

    `train` sees the numbers of rows. Where the encoder was, the state keeps one that says N(0, I).
    """

    def __init__(self, state, likelihood, training, dtype, device):
        super().__init__(state, likelihood, training, dtype, device)
        family, encoder = self.module.encoder.family, encoded(state, training.X)
        own = family(*(part.to(self.rows) for part in encoder))
        points = matched(torch.tensor(state.points[: max(OWN_POINTS, 2 * state.n_latents)]))
        self.silent = {
            name: np.zeros(array.shape, dtype)
            for name, array in state.parameters.items()
            if name.startswith("encoder")
        }
        noise = points.to(self.rows)[:, None]
        self.module = OwnPosteriors(self.module, self.rows, own, noise, self.silent)
        self.rows = torch.arange(len(self.rows), device=device)

    def by_hand(self, objective):
        return None

    def kept(self, arrays):
        return self.silent | arrays

    def posteriors(self, state):
        q = self.module.improved(self.rows, LAST_STEPS)
        q = type(q)(*(part.double().cpu() for part in q))
        return lambda rows=slice(None): type(q)(*(part[rows] for part in q))

    def judge(self, held_out, rng):
        return judge_by_score(self.state, held_out, rng)


class OwnPosteriors(nn.Module):
    """p(x | z) p(z) of an autoencoder, and a Gaussian q(z) for each row, by its number.

    A row's q moves by a natural gradient step whenever the row is trained with.
    """

    def __init__(self, model, x, own, noise, silent):
        super().__init__()
        self.decoder, self.prior, self.likelihood = model.decoder, model.prior, model.likelihood
        self.x, self.own, self.noise, self.silent = x, own, noise, silent

    def encode(self, rows):
        """q(z) of the rows of these numbers; while training, after a step."""
        if torch.is_grad_enabled():
            for part, moved in zip(self.own, self.improved(rows, 1), strict=True):
                part[rows] = moved
        return type(self.own)(*(part[rows] for part in self.own))

    @torch.no_grad()
    def improved(self, rows, n_steps):
        """q(z) of the rows of these numbers after steps uphill on their own bounds."""
        q = type(self.own)(*(part[rows] for part in self.own))
        return improved(self, self.x[rows], q, self.noise, n_steps)[0]

    def log_joint(self, x, z):
        """log p(x_seen, z): (n, d), (..., n, q) -> (..., n)."""
        return self.likelihood.log_prob(x, self.decoder(z)) + self.prior.log_prob(z)

    def log_likelihood(self, rows, z):
        """log p(x_seen | z) of the rows of these numbers: (n,), (..., n, q) -> (..., n)."""
        return self.likelihood.log_prob(self.x[rows], self.decoder.at_once(z))

    def arrays(self):
        """Those of an autoencoder whose encoder says nothing."""
        trained = dict(self.named_parameters())
        return self.silent | {k: p.detach().cpu().numpy().copy() for k, p in trained.items()}

    bending_matrices = Autoencoder.bending_matrices


def judge_by_bound(held_out, like, q, rng):
    """module -> the importance-weighted bound of held-out rows, by points all share; or None."""
    if not len(held_out.X):
        return None
    points = normal_points(JUDGE_POINTS, q, rng)
    noise = torch.from_numpy(points).to(like)[:, None]
    X = torch.from_numpy(held_out.X).to(like)
    weight = torch.from_numpy(held_out.weight / held_out.weight.sum())
    slices = row_blocks(len(X), JUDGE_POINTS, 2 * X.shape[1])

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
