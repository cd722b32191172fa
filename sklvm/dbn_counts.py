"""A belief network whose directed layers are small: all their states are counted."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import expit, logsumexp

from .dbn_layers import DirectedLayer, log_bits
from .numerics.binary import binary_blocks, bit_entropy
from .rbm_machine import Seen
from .rbm_state import RBMState

COUNTED = 10  # bits of a hidden layer: tables between two of them have 2^20 entries


def states(q):
    """All 2^q vectors of q bits: (2^q, q)."""
    return np.concatenate(list(binary_blocks(q)))


def seen_bits(H):
    """Rows of bits without gaps, read."""
    return Seen(H, np.ones(H.shape, bool), H, np.zeros(len(H)))


def joints(tables, log_top):
    """log p(h_l, h_(l+1)) and log p(h_l), layer by layer, from the top down.

    tables[l] is log p(h_l | h_(l+1)), (S_l, S_(l+1)), and log_top that of the last layer, (S,):
    -> a list of tables, and of one array more.
    """
    priors, found = [log_top], []
    for table in reversed(tables):
        found.insert(0, table + priors[0])
        priors.insert(0, logsumexp(found[0], axis=1))
    return found, priors


@dataclass(frozen=True)
class CountedStates:
    """The network as a mixture: one component for each state of the lowest hidden layer."""

    layers: "tuple[DirectedLayer, ...]"
    top: RBMState

    @property
    def kind(self):
        return self.top.sums.kind

    @cached_property
    def tables(self):
        """What does not depend on rows; made once, at the end of a fit."""
        H = [states(layer.n_latents) for layer in self.layers]
        down = [self.layers[i].log_table(seen_bits(H[i - 1]), H[i]) for i in range(1, len(H))]
        found, priors = joints(down, self.top.log_prob(H[-1]))
        up = [np.exp(joint - prior[:, None]) for joint, prior in zip(found, priors)]
        odds = self.top.machine.hidden_input(H[-1])
        entropy = [bit_entropy(odds).sum(axis=1)]
        for joint, prior, share in zip(found[::-1], priors[-2::-1], up[::-1]):
            own = -(share * np.where(share > 0, joint - prior[:, None], 0.0)).sum(axis=1)
            entropy.insert(0, own + share @ entropy[0])
        return Tables(H, priors[0], up, expit(odds), entropy[0])

    def work_out(self):
        self.top.work_out()
        return self.tables

    def _joint(self, rows):
        """log p(x_seen, h_1): (n, S)."""
        return self.layers[0].log_table(rows, self.tables.H[0]) + self.tables.log_prior

    def _shares(self, rows):
        joint = self._joint(rows)
        return np.exp(joint - logsumexp(joint, axis=1, keepdims=True))

    def log_prob(self, rows):
        """log p(x_seen): (n,)."""
        return logsumexp(self._joint(rows), axis=1)

    def lowest_mean(self, rows):
        """E[h_1 | x] of rows without gaps: (n, q_1)."""
        return self._shares(rows) @ self.tables.H[0]

    def means(self, rows):
        """E[h_l | x_seen] of all hidden layers, from the bottom up."""
        share, found = self._shares(rows), []
        for H, up in zip(self.tables.H, [*self.tables.up, None]):
            found.append(share @ H)
            share = share if up is None else share @ up
        return [*found, share @ self.tables.top_mean]

    def visible_mean(self, rows):
        """E[x | x_seen]: (n, d)."""
        return self._shares(rows) @ self.layers[0].mean(self.tables.H[0])

    def draw_visible(self, rows, rng):
        """x given x_seen: (n, d)."""
        return self.layers[0].draw(self.draw(rows, rng)[0], rng)

    def draw(self, rows, rng):
        """All hidden layers given x_seen: list of (n, q_l)."""
        places, found = _chosen(self._shares(rows), rng), []
        for H, up in zip(self.tables.H, [*self.tables.up, None]):
            found.append(H[places])
            places = places if up is None else _chosen(up[places], rng)
        p = self.tables.top_mean[places]
        return [*found, (rng.random(p.shape) < p).astype(np.float64)]

    def elbo_terms(self, rows):
        """E[log p(x_seen | h)], E[log p(h)], entropy of all hidden bits given x_seen: (n,) each."""
        joint = self._joint(rows)
        log_p = logsumexp(joint, axis=1)
        log_share = joint - log_p[:, None]
        share = np.exp(log_share)
        own = -(share * np.where(share > 0, log_share, 0.0)).sum(axis=1)
        likelihood = (share * (joint - self.tables.log_prior)).sum(axis=1)
        entropy = own + share @ self.tables.entropy
        return likelihood, log_p - likelihood - entropy, entropy

    def log_posterior(self, rows, h):
        """log p(all hidden bits | x_seen): Seen, list of (n, q_l) -> (n,)."""
        return log_all(self.layers, self.top, rows, h) - self.log_prob(rows)

    def expectation(self, odds, number):
        """E[x] for bits of hidden layer `number` with log odds (n, q): (n, d)."""
        share = np.exp(log_bits(odds[:, None], self.tables.H[number]))
        for i in range(number, 0, -1):
            table = self.layers[i].log_table(seen_bits(self.tables.H[i - 1]), self.tables.H[i])
            share = share @ np.exp(table).T
        return share @ self.layers[0].mean(self.tables.H[0])

    def likely(self, rows, n):
        """Yields the n most probable states of h_1 given what was seen: (n_rows, q_1) each."""
        joint, H = self._joint(rows), self.tables.H[0]
        for places in np.argsort(-joint, axis=1, kind="stable")[:, :n].T:
            yield H[places]


@dataclass(frozen=True)
class Tables:
    """Sums over states that rows share."""

    H: list  # of (S_l, q_l): states of each directed layer
    log_prior: np.ndarray  # (S_1,) log p(h_1)
    up: list  # of (S_l, S_(l+1)): p(h_(l+1) | h_l)
    top_mean: np.ndarray  # (S, q_L) E[h_L | h_(L-1)]
    entropy: np.ndarray  # (S_1,) of all layers above, given h_1


def _chosen(share, rng):
    """A position in each row of probabilities: (n, S) -> (n,)."""
    cumulative = np.cumsum(share, axis=1)
    u = rng.random((len(share), 1)) * cumulative[:, -1:]
    return np.minimum((cumulative <= u).sum(axis=1), share.shape[1] - 1)


def log_all(layers, top, rows, h):
    """log p(x_seen, h_1, ..., h_L): Seen, list of (n, q_l) -> (n,)."""
    total = top.machine.log_joint(seen_bits(h[-2]), h[-1]) - top.log_partition
    for layer, below, above in zip(layers, [rows, *map(seen_bits, h)], h):
        total = total + layer.log_down(below, above)
    return total


def prior_draw(layers, top, n, rng, n_steps=None):
    """x, and all hidden layers, from the top down: (n, d), list of (n, q_l)."""
    h = [top.sums.prior_draw(n, rng, n_steps)]
    h.insert(0, top.draw_visible(h[0], rng))
    for layer in layers[:0:-1]:
        h.insert(0, layer.draw(h[0], rng))
    return layers[0].draw(h[0], rng), h
