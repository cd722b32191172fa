"""Parallel tempering: chains between independent columns and a Boltzmann machine trade places."""

import numpy as np
from scipy.special import expit

LEAST_ACTIVE = 1e-3  # of a hidden bit among independent ones


def inverse_temperatures(n):
    """1 for the machine itself, and on in equal steps to 0, independent columns: (n,)."""
    return np.linspace(1.0, 0.0, n)


def exchange(t, gain, states, rng, first):
    """Neighbours trade states with the probability that keeps each distribution, in place.

    Chain m at t[i] is at a state whose log-probability rises by t gain[i, m] from t = 0, so a trade
    of i and i + 1 is accepted with min(1, exp((t[i] - t[i + 1]) (gain[i + 1] - gain[i]))) (Geyer
    1991). t: (T,), gain: (T, M), states: arrays (T, M, ...). Pairs start at i = first, first + 2...
    """
    low = np.arange(first, len(t) - 1, 2)
    log_ratio = (t[low] - t[low + 1])[:, None] * (gain[low + 1] - gain[low])
    pairs, chains = np.nonzero(np.log1p(-rng.random(log_ratio.shape)) < log_ratio)
    here = low[pairs], chains
    there = low[pairs] + 1, chains
    for array in states:
        array[here], array[there] = array[there], array[here]


def tempered(machine, b0, c0, h, rng, *, n_steps, n_temperatures):
    """n_steps Gibbs steps and trades at each temperature from hidden states (n, q): -> (n, q).

    At t the visible inputs are (1 - t) b0 + t (b + W'h), the hidden ones (1 - t) c0 + t (c + W
    drive), as on the path of annealing.
    """
    t = inverse_temperatures(n_temperatures)
    hot, cold = (1 - t)[:, None, None], t[:, None, None]
    H = np.repeat(h[None], n_temperatures, axis=0)  # (T, n, q)
    for step in range(n_steps):
        a = hot * b0 + cold * machine.visible_input(H)
        drive = machine.units.drive(machine.units.draw(a, machine.units.noise(rng, a.shape)))
        hidden = machine.hidden_input(drive)
        gain = drive @ (machine.b - b0) + np.einsum("tnq,tnq->tn", hidden - c0, H)
        exchange(t, gain, (hidden,), rng, step % 2)
        H = (rng.random(H.shape) < expit(hot * c0 + cold * hidden)) * 1.0
    return H[0]


class Ladder:
    """The chains of contrastive training at all temperatures; those at t = 1 are its fantasies."""

    def __init__(self, units, b0, h, n_temperatures):
        self.units, self.b0 = units, np.asarray(b0, np.float32)
        self.t = inverse_temperatures(n_temperatures).astype(np.float32)
        self.H = np.repeat(h[None], n_temperatures, axis=0)  # (T, M, q)
        self.V = np.empty((*self.H.shape[:2], len(b0)), np.float32)
        self.first = 0

    def climb(self, contrast, h, n_steps):
        """Steps and trades from h (M, q) at t = 1 and the other chains as they were left: V (M, d).

        The last draws of the hidden bits at t = 1 are left to the caller.
        """
        weights, units, H, V = contrast.weights, self.units, self.H, self.V
        mean = np.clip(contrast.hidden_mean, LEAST_ACTIVE, 1 - LEAST_ACTIVE)
        c0 = np.log(mean) - np.log1p(-mean)
        hot, cold = (1 - self.t)[:, None, None], self.t[:, None, None]
        H[0] = h
        for _ in range(n_steps):
            a = hot * self.b0 + cold * (H @ weights.W + weights.b)
            units.draw_visible(a, weights, V)
            hidden = contrast.hidden_input(V)
            gain = units.drive(V, weights) @ (weights.b - self.b0)
            gain += np.einsum("tmq,tmq->tm", hidden - c0, H)
            exchange(self.t, gain, (hidden, V), units.rng, self.first)
            self.first = 1 - self.first
            units.draw(hot * c0 + cold * hidden, H)
        return V[0]
