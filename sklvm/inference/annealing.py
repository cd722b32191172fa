"""Annealed importance sampling of a Boltzmann machine's partition function, rows clamped or not."""

from itertools import pairwise

import numpy as np
from scipy.special import expit, logsumexp

from ..numerics.binary import softplus


def annealed(machine, b0, c0, rows, *, n_chains, n_steps, seed):
    """log of the sum over h and what is missing of p*(x, h), row by row, with its standard error.

    Chains go from independent columns with inputs b0 (d,), c0 (q,) to the machine in n_steps equal
    steps (Neal 2001; Salakhutdinov & Murray 2008, base rates). What a row saw stays clamped; a row
    that saw nothing asks for log Z. All rows share the noise of `seed`: -> (n,), (n,).
    """
    rng = np.random.default_rng(seed)
    n, d = rows.mask.shape
    mask = np.repeat(rows.mask, n_chains, axis=0)
    there = np.repeat(np.where(rows.mask, rows.x, 0.0), n_chains, axis=0)

    def same_for_all_rows(noise):
        return np.tile(noise, (n, 1))

    def visible(a):
        noise = same_for_all_rows(machine.units.noise(rng, (n_chains, d)))
        return np.where(mask, there, machine.units.draw(a, noise))

    def slopes(x):
        """What log p*_beta(x) is made of: the missing drive, and the hidden inputs at beta = 1."""
        drive = machine.units.drive(x)
        hidden = machine.hidden_input(drive)
        return np.where(mask, 0.0, drive) @ (machine.b - b0), hidden

    x = visible(np.broadcast_to(b0, mask.shape))
    log_weight = np.zeros(len(x))
    betas = np.linspace(0.0, 1.0, n_steps + 1)
    for before, beta in pairwise(betas):
        linear, hidden = slopes(x)
        cold, warm = (softplus((1 - t) * c0 + t * hidden).sum(axis=1) for t in (before, beta))
        log_weight += (beta - before) * linear + warm - cold
        if beta < 1:
            u = same_for_all_rows(rng.random((n_chains, machine.n_latents)))
            h = (u < expit((1 - beta) * c0 + beta * hidden)).astype(np.float64)
            x = visible((1 - beta) * b0 + beta * machine.visible_input(h))
    start = np.where(rows.mask, 0.0, machine.units.log_sum(b0)).sum(axis=1)
    start += softplus(c0).sum() + rows.base + rows.drive @ machine.b
    log_weight = log_weight.reshape(n, n_chains)
    log_mean = logsumexp(log_weight, axis=1) - np.log(n_chains)
    spread = np.exp(log_weight - log_mean[:, None]).std(axis=1, ddof=1)
    return start + log_mean, spread / np.sqrt(n_chains)
