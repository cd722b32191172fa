"""A belief network with large layers: draws of the hidden bits, weighed by importance."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import expit, logsumexp

from .dbn_counts import prior_draw, seen_bits
from .dbn_layers import DirectedLayer, log_bits, thrown
from .numerics.binary import bit_entropy
from .rbm_machine import by_completeness
from .rbm_state import RBMState

FILLS = 10  # rounds of up and down by which gaps are filled before the way up
PROPOSALS = 4  # fresh ways up in each step of a chain


@dataclass(frozen=True)
class WeighedDraws:
    """log p(x_seen) as the log mean of p(x_seen, h) / q(h); all rows share the noise of h.

    Rows without gaps have the recognition as q. For the others it says less: q is the recognition
    of the row filled in, or with the same probability a draw from the model itself.
    """

    layers: "tuple[DirectedLayer, ...]"
    top: RBMState
    column_mean: np.ndarray  # (d,) what gaps are first filled with
    n_draws: int
    seed: int

    kind = "estimate"

    @cached_property
    def particles(self):
        """Draws of h_1, ..., h_(L-1) from the model, (M, q_l) each, and their log p."""
        rng = np.random.default_rng([self.seed, 1])
        h = prior_draw(self.layers, self.top, (self.n_draws + 1) // 2, rng)[1][:-1]
        return h, self._log_prior(h)

    def work_out(self):
        self.top.work_out()
        return self.particles

    # -- the recognition -----------------------------------------------------------------------

    def _filled(self, rows):
        """Rows whose gaps hold what the network makes of the rest: Seen without gaps."""
        if rows.mask.all():
            return rows
        layer = self.layers[0]
        x = np.where(rows.mask, rows.x, self.column_mean)
        for _ in range(FILLS):
            p = expit(layer.hidden_input(layer.units.drive(x)))
            x = np.where(rows.mask, rows.x, layer.mean(p))
        return layer.whole(x)

    def _climb(self, drive, rng, n):
        """A way up for each row, with n rows of noise (1: shared): -> h_1 ... h_(L-1), log q."""
        h, log_q, below = [], 0.0, drive
        for layer in self.layers:
            odds = layer.hidden_input(below)
            below = thrown(odds, rng.random((n, layer.n_latents)))
            h.append(below)
            log_q = log_q + log_bits(odds, below)
        return h, log_q

    def _log_recognition(self, drive, h):
        """log q(h_1, ..., h_(L-1) | x): (n,)."""
        below = [drive, *h]
        return sum(log_bits(a.hidden_input(x), y) for a, x, y in zip(self.layers, below, h))

    def _log_prior(self, h):
        """log p(h_1, ..., h_(L-1)): (n,)."""
        total = self.top.log_prob(h[-1])
        for layer, below, above in zip(self.layers[1:], h, h[1:]):
            total = total + layer.log_down(seen_bits(below), above)
        return total

    # -- weights -------------------------------------------------------------------------------

    def _proposals(self, rows):
        """Yields h_1 ... h_(L-1) and log p(x_seen, h) / q(h), n_draws times."""
        whole, rng = self._filled(rows), np.random.default_rng([self.seed, 2])
        n_particles = 0 if rows.mask.all() else len(self.particles[1])
        share = n_particles / self.n_draws
        for _ in range(self.n_draws - n_particles):
            h, log_q = self._climb(whole.drive, rng, 1)
            yield h, self._log_weight(rows, h, self._log_prior(h), log_q, share)
        for *h, log_p in zip(*self.particles[0], self.particles[1][:n_particles]):
            h = [np.broadcast_to(a, (len(rows.x), len(a))) for a in h]
            log_q = self._log_recognition(whole.drive, h)
            yield h, self._log_weight(rows, h, log_p, log_q, share)

    def _log_weight(self, rows, h, log_p, log_q, share=0.0):
        """log p(x_seen, h) / q(h), where a share of the draws is from the model: (n,)."""
        if share:
            log_q = np.logaddexp(np.log(1 - share) + log_q, np.log(share) + log_p)
        return self.layers[0].log_down(rows, h[0]) + log_p - log_q

    def log_prob(self, rows):
        """Estimates of log p(x_seen): (n,)."""
        return by_completeness(rows, self._log_prob, self._log_prob)

    def _log_prob(self, rows):
        log_weight = np.stack([log_w for _, log_w in self._proposals(rows)])
        return logsumexp(log_weight, axis=0) - np.log(len(log_weight))

    # -- the recognition as the posterior ------------------------------------------------------

    def _climbs(self, rows):
        whole, rng = self._filled(rows), np.random.default_rng([self.seed, 3])
        for _ in range(self.n_draws):
            yield self._climb(whole.drive, rng, 1)[0]

    def lowest_mean(self, rows):
        """E[h_1 | x] of rows without gaps: (n, q_1)."""
        return expit(self.layers[0].hidden_input(rows.drive))

    def means(self, rows):
        """Means of all hidden layers along ways up: list of (n, q_l)."""
        drive = self._filled(rows).drive
        above = [*self.layers[1:], self.top.machine]
        found = [np.zeros((len(rows.x), layer.n_latents)) for layer in above]
        for h in self._climbs(rows):
            for mean, layer, below in zip(found, above, h):
                mean += expit(layer.hidden_input(below)) / self.n_draws
        return [expit(self.layers[0].hidden_input(drive)), *found]

    def elbo_terms(self, rows):
        """E_q[log p(x_seen | h)], E_q[log p(h)], entropy of q, averaged over ways up."""
        drive = self._filled(rows).drive
        likelihood, prior, entropy = np.zeros((3, len(rows.x)))
        for h in self._climbs(rows):
            odds = [a.hidden_input(x) for a, x in zip(self.layers, [drive, *h])]
            above = bit_entropy(self.top.machine.hidden_input(h[-1])).sum(axis=1)
            likelihood += self.layers[0].log_down(rows, h[0]) / self.n_draws
            entropy += (sum(bit_entropy(a).sum(axis=1) for a in odds) + above) / self.n_draws
            prior += (self._log_prior(h) - above) / self.n_draws
        return likelihood, prior, entropy

    def draw(self, rows, rng):
        """All hidden layers by the recognition: list of (n, q_l)."""
        h, _ = self._climb(self._filled(rows).drive, rng, len(rows.x))
        odds = self.top.machine.hidden_input(h[-1])
        return [*h, thrown(odds, rng.random(odds.shape))]

    def log_posterior(self, rows, h):
        """log q(all hidden bits | x_seen): (n,)."""
        above = log_bits(self.top.machine.hidden_input(h[-2]), h[-1])
        return self._log_recognition(self._filled(rows).drive, h[:-1]) + above

    # -- chains --------------------------------------------------------------------------------

    def _resampled(self, proposals, rng, n):
        """One of the proposals for each row, with probabilities as their weights: h_1 ... h_(L-1).

        n rows of noise, or 1 that all rows share.
        """
        best, chosen = -np.inf, None
        for h, log_weight in proposals:
            height = log_weight + rng.gumbel(size=n)
            new = (height > best)[:, None]
            chosen = h if chosen is None else [np.where(new, a, b) for a, b in zip(h, chosen)]
            best = np.maximum(height, best)
        return chosen

    def _ways_up(self, x, h, rng, n):
        """Yields where a chain is, and fresh ways up from the row as it is filled, with weights."""
        rows = self.layers[0].whole(x)
        log_q = self._log_recognition(rows.drive, h)
        yield h, self._log_weight(rows, h, self._log_prior(h), log_q)
        for _ in range(PROPOSALS):
            h, log_q = self._climb(rows.drive, rng, n)
            yield h, self._log_weight(rows, h, self._log_prior(h), log_q)

    def _chain(self, rows, rng, n):
        """Yields hidden states that tend to p(h | x_seen): Gibbs steps between h and the gaps.

        The step to h given a filled row chooses among the present h and fresh proposals (Andrieu,
        Lee & Vihola 2018), which leaves p(h | x) as it is whatever the recognition.
        """
        h = self._resampled(self._proposals(rows), rng, n)
        for _ in range(self.n_draws):
            noise = self.layers[0].units.noise(rng, (n, self.layers[0].n_features))
            drawn = self.layers[0].units.draw(self.layers[0].visible_input(h[0]), noise)
            x = np.where(rows.mask, rows.x, drawn)
            h = self._resampled(self._ways_up(x, h, rng, n), rng, n)
            yield h

    def visible_mean(self, rows):
        """E[x | x_seen] over the draws behind the score, weighed by it: (n, d)."""
        total = self._log_prob(rows) + np.log(self.n_draws)
        parts = (
            np.exp(log_weight - total)[:, None] * self.layers[0].mean(h[0])
            for h, log_weight in self._proposals(rows)
        )
        return sum(parts)

    def draw_visible(self, rows, rng):
        """x given x_seen, at the end of a chain for each row: (n, d)."""
        *_, h = self._chain(rows, rng, len(rows.x))
        return self.layers[0].draw(h[0], rng)

    def likely(self, rows, n):
        """Yields n ways up: (n_rows, q_1) each."""
        for h, _ in zip(self._climbs(rows), range(n)):
            yield h[0]

    def expectation(self, odds, number):
        """E[x] for bits of hidden layer `number` with log odds (n, q), over ways down: (n, d)."""
        rng, total = np.random.default_rng([self.seed, 5]), 0.0
        for _ in range(self.n_draws):
            h = thrown(odds, rng.random((1, odds.shape[1])))
            for layer in self.layers[number:0:-1]:
                h = thrown(layer.visible_input(h), rng.random((1, layer.n_features)))
            total = total + self.layers[0].mean(h) / self.n_draws
        return total
