"""Annealing from independent columns to a Boltzmann machine: sums; and backwards: bounds."""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit, logsumexp

from ..numerics.binary import softplus


class Path(NamedTuple):
    """p_t(x, h) has visible inputs (1 - t) b0 + t (b + W'h), hidden (1 - t) c0 + t (c + W drive).

    What `mask` (n, d) says was seen stays at `there` (n, d). All rows share their noise, drawn for
    n_chains chains: chain i of row r is row r n_chains + i.
    """

    machine: Any
    b0: np.ndarray  # (d,)
    c0: np.ndarray  # (q,)
    mask: np.ndarray
    there: np.ndarray
    n_chains: int
    rng: np.random.Generator

    def _tile(self, noise):
        return np.tile(noise, (len(self.mask) // self.n_chains, 1))

    def visible(self, a):
        """x given inputs a: (n, d)."""
        noise = self.machine.units.noise(self.rng, (self.n_chains, a.shape[1]))
        return np.where(self.mask, self.there, self.machine.units.draw(a, self._tile(noise)))

    def gain(self, x, low, high):
        """log p*_high(x) - log p*_low(x), h summed out, and the hidden inputs at t = 1."""
        drive = self.machine.units.drive(x)
        hidden = self.machine.hidden_input(drive)
        linear = np.where(self.mask, 0.0, drive) @ (self.machine.b - self.b0)
        cold, warm = (softplus((1 - t) * self.c0 + t * hidden).sum(axis=1) for t in (low, high))
        return (high - low) * linear + warm - cold, hidden

    def step(self, hidden, t):
        """x after h given x and x given h at t, from the hidden inputs at t = 1."""
        u = self._tile(self.rng.random((self.n_chains, hidden.shape[1])))
        h = (u < expit((1 - t) * self.c0 + t * hidden)).astype(np.float64)
        return self.visible((1 - t) * self.b0 + t * self.machine.visible_input(h))

    def start(self):
        """log of the sum at t = 0 over h and what is missing, what was seen left out: (n,)."""
        there = np.where(self.mask, 0.0, self.machine.units.log_sum(self.b0)).sum(axis=1)
        return there + softplus(self.c0).sum()


def annealed(machine, b0, c0, rows, *, n_chains, n_steps, seed):
    """log of the sum over h and what is missing of p*(x, h), row by row, with its standard error.

    Chains go from t = 0 to 1 in n_steps equal steps (Neal 2001; Salakhutdinov & Murray 2008). A row
    that saw nothing asks for log Z: -> (n,), (n,).
    """
    mask = np.repeat(rows.mask, n_chains, axis=0)
    there = np.repeat(np.where(rows.mask, rows.x, 0.0), n_chains, axis=0)
    path = Path(machine, b0, c0, mask, there, n_chains, np.random.default_rng(seed))
    x = path.visible(np.broadcast_to(b0, mask.shape))
    log_weight = path.start()
    for low, high in pairwise(np.linspace(0.0, 1.0, n_steps + 1)):
        gain, hidden = path.gain(x, low, high)
        log_weight += gain
        if high < 1:
            x = path.step(hidden, high)
    log_weight = log_weight.reshape(-1, n_chains) + (rows.base + rows.drive @ machine.b)[:, None]
    log_mean = logsumexp(log_weight, axis=1) - np.log(n_chains)
    spread = np.exp(log_weight - log_mean[:, None]).std(axis=1, ddof=1)
    return log_mean, spread / np.sqrt(n_chains)


def annealed_backwards(machine, b0, c0, rows, *, n_chains, n_steps, seed):
    """Below log p(x) of the ends of forward chains, in expectation; rows without gaps: (n,).

    Chains go from the row at t = 1 to 0 (Burda, Grosse & Salakhutdinov 2015, RAISE). Weights of n
    chains are averaged before the logarithm, which only tightens it.
    """
    mask = np.zeros((len(rows.x) * n_chains, rows.x.shape[1]), dtype=bool)
    path = Path(machine, b0, c0, mask, mask, n_chains, np.random.default_rng(seed))
    x = np.repeat(rows.x, n_chains, axis=0)
    log_weight = -path.start()
    hidden = machine.hidden_input(machine.units.drive(x))
    for high, low in pairwise(np.linspace(1.0, 0.0, n_steps + 1)):
        x = path.step(hidden, high)
        gain, hidden = path.gain(x, low, high)
        log_weight -= gain
    log_weight = log_weight.reshape(-1, n_chains)
    return machine.log_unnormalised(rows) + logsumexp(log_weight, axis=1) - np.log(n_chains)
