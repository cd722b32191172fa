"""Fine-tuning of a belief network: awake its generative half learns, asleep its recognition."""

from typing import NamedTuple

import numpy as np
from scipy.special import expit

from ..numerics.binary import softplus
from .contrastive import HIDDEN_RATE, WATCHED, Weights


class Half(NamedTuple):
    """One directed layer of standardised columns: slopes have the same fields."""

    b: np.ndarray  # (d,)
    W: np.ndarray  # (q, d)
    c: np.ndarray  # (q,)
    R: np.ndarray  # (q, d)


class Dreams(NamedTuple):
    """The end of fine-tuning."""

    halves: "tuple[Half, ...]"
    top: Weights
    particles: np.ndarray  # (M, q_L) hidden states of the chains on top
    means: "list[np.ndarray]"  # moving means of every hidden layer, from the bottom up


class WakeSleep:
    """Arrays of one run. `contrastive` drives it, as it drives a Contrast.

    Awake, each row goes up n_particles times; what the ways up are worth together, normalised
    importance weights, pulls the generative weights, and the recognition where there are several
    (reweighted wake-sleep, Bornschein & Bengio 2015, with 1 wake-sleep: Hinton, Osindero & Teh
    2006). Asleep, chains on top go on and what they dream pulls the recognition. All slopes are
    centred with moving means.
    """

    def __init__(
        self, units, halves, top, log_variance, X, weight, *, n_particles, n_chains, n_steps, rng
    ):
        self.units, self.n_particles, self.n_steps, self.rng = units, n_particles, n_steps, rng
        self.halves = [Half(*(np.array(a, np.float32) for a in half)) for half in halves]
        self.top = Weights(*(np.array(a, np.float32) for a in top))
        self.log_variance = np.asarray(log_variance, np.float32)
        self.weights = [a for half in self.halves for a in half] + list(self.top)
        seen = ~np.isnan(X)
        share = weight / weight.sum()
        mean = share @ np.nan_to_num(X) / np.maximum(share @ seen, 1e-300)
        self.visible_mean = mean.astype(np.float32)
        self.gaps = None if seen.all() else ~seen
        self.X = np.where(seen, X, self.visible_mean).astype(np.float32)
        self.means = [np.full(len(a.c), 0.5, np.float32) for a in (*self.halves, self.top)]
        rows = rng.choice(len(X), n_chains, p=share)
        below = self._climb(self.X[rows])[0][-1]
        self.h = self._thrown(below @ self.top.W.T + self.top.c)

    def end(self, weights=None):
        """What is left of the run: its last weights, or others."""
        arrays = [np.array(a, np.float64) for a in (self.weights if weights is None else weights)]
        halves = tuple(Half(*arrays[i : i + 4]) for i in range(0, len(arrays) - 4, 4))
        return Dreams(halves, Weights(*arrays[-4:]), self.h.copy(), [m.copy() for m in self.means])

    # -- up and down ---------------------------------------------------------------------------

    def _thrown(self, odds):
        h = np.empty_like(odds)
        self.units.draw(odds, h)
        return h

    def _recognised(self, number, below):
        """Log odds of hidden layer `number`."""
        half = self.halves[number]
        if number:
            return below @ half.R.T + half.c
        upward = self.units.upward(Weights(half.b, half.c, half.R, self.log_variance))
        return below @ upward.T + half.c

    def _climb(self, V):
        """Ways up: rows (n, d) -> bits of the directed layers, their log odds."""
        h, odds, below = [], [], V
        for number in range(len(self.halves)):
            odds.append(self._recognised(number, below))
            below = self._thrown(odds[-1])
            h.append(below)
        return h, odds

    def _descend(self, h):
        """h_(L-1) -> all layers from the bottom up, drawn downwards."""
        found = [h]
        for number in range(len(self.halves) - 1, -1, -1):
            half = self.halves[number]
            a = found[0] @ half.W + half.b
            found.insert(0, self._thrown(a) if number else self._shown(a))
        return found

    def _shown(self, a):
        """Rows given their inputs."""
        V, half = np.empty_like(a), self.halves[0]
        self.units.draw_visible(a, Weights(half.b, half.c, half.W, self.log_variance), V)
        return V

    def _log_weight(self, V, seen, h, odds, inputs):
        """log p(x_seen, h_1, ..., h_(L-1)) Z / q, row by row: (n,)."""
        total = self.units.log_down(V, inputs[0], self.log_variance, seen)
        for below, a in zip(h, inputs[1:]):
            total += (below * a - softplus(a)).sum(axis=1)
        for bits, a in zip(h, odds):
            total -= (bits * a - softplus(a)).sum(axis=1)
        above = softplus(h[-1] @ self.top.W.T + self.top.c).sum(axis=1)
        return total + h[-1] @ self.top.b + above

    def _inputs(self, h):
        """Inputs of each layer given the one above."""
        return [above @ half.W + half.b for half, above in zip(self.halves, h)]

    # -- a step --------------------------------------------------------------------------------

    def _wake(self, rows):
        """Slopes of both halves, and what the top sees with its weights."""
        V, K = self.X[rows], self.n_particles
        seen = None if self.gaps is None else ~np.tile(self.gaps[rows], (K, 1))
        V = np.tile(V, (K, 1))
        h, odds = self._climb(V)
        inputs = self._inputs(h)
        w = np.full(len(V), 1 / len(rows), np.float32)
        if K > 1:
            log_w = self._log_weight(V, seen, h, odds, inputs).reshape(K, -1)
            w = np.exp(log_w - log_w.max(axis=0))
            w = (w / w.sum(axis=0) / len(rows)).astype(np.float32).ravel()
        if seen is not None:
            self._refill(rows, w.reshape(K, -1), inputs[0])
        slopes = []
        for number, (below, above, a) in enumerate(zip([V, *h], h, inputs)):
            there = below - (expit(a) if number else self.units.mean(a))
            if not number and seen is not None:
                there *= seen
            there *= w[:, None]
            self._follow(number, w @ above)
            b, W = _centred(there.sum(axis=0), above.T @ there, self.means[number])
            c, R = self._recognition_slope(number, below, above, odds[number], w)
            slopes.append(Half(b, W, c, R))
        return slopes, h[-1], w

    def _recognition_slope(self, number, below, above, odds, w):
        gap = (above - expit(odds)) * w[:, None]
        mean = self.means[number - 1] if number else self.visible_mean
        c, R = _centred(gap.sum(axis=0), (below.T @ gap), mean)
        return c, R.T

    def _follow(self, number, mean):
        self.means[number] += HIDDEN_RATE * (mean - self.means[number])

    def _refill(self, rows, w, a):
        """Gaps drawn anew given the way up that was chosen by weight."""
        chosen = (w / w.sum(axis=0)).cumsum(axis=0) > self.rng.random(w.shape[1])
        place = chosen.argmax(axis=0) * len(rows) + np.arange(len(rows))
        self.X[rows] = np.where(self.gaps[rows], self._shown(a[place]), self.X[rows])

    def _on_top(self, h, w):
        """Slopes of the machine on top, and the bits below it that its chains end with."""
        for _ in range(self.n_steps):
            fantasy = self._thrown(self.h @ self.top.W + self.top.b)
            odds = fantasy @ self.top.W.T + self.top.c
            self.h = self._thrown(odds)
        p, there = expit(h @ self.top.W.T + self.top.c), expit(odds)
        self._follow(-1, w @ p)
        p *= w[:, None]
        there *= np.float32(1 / len(there))
        W = p.T @ h - there.T @ fantasy
        b, c = w @ h - fantasy.mean(axis=0), p.sum(axis=0) - there.sum(axis=0)
        below, above = self.means[-2], self.means[-1]
        W -= np.outer(c, below) + np.outer(above, b)
        return (b - above @ W, c - W @ below, W), fantasy

    def step(self, rows, rate, decay):
        slopes, h, w = self._wake(rows)
        top, fantasy = self._on_top(h, w)
        layers = self._descend(fantasy)
        share = np.full(len(fantasy), 1 / len(fantasy), np.float32)
        for number, (half, slope) in enumerate(zip(self.halves, slopes)):
            below, above = layers[number], layers[number + 1]
            odds = self._recognised(number, below)
            c, R = self._recognition_slope(number, below, above, odds, share)
            if self.n_particles > 1:
                c, R = (c + slope.c) / 2, (R + slope.R) / 2
            for a, change in zip(half, (slope.b, slope.W, c, R)):
                a += np.float32(rate) * change
            half.W.__imul__(1 - np.float32(rate * decay))
        for a, change in zip(self.top, top):
            a += np.float32(rate) * change
        self.top.W.__imul__(1 - np.float32(rate * decay))

    def contrast(self):
        """Mean log weight of the rows less that of what is dreamt: no likelihood, it tends to 0."""
        rows = slice(None, None, max(1, len(self.X) // WATCHED))
        below = self._thrown(self.h @ self.top.W + self.top.b)
        dream = self._descend(below)[0]
        gaps = None if self.gaps is None else ~self.gaps[rows]
        found = []
        for V, seen in ((self.X[rows], gaps), (dream, None)):
            h, odds = self._climb(V)
            found.append(float(self._log_weight(V, seen, h, odds, self._inputs(h)).mean()))
        return found[0] - found[1]


def _centred(b, W, mean):
    """Slopes as if the inputs of W (q, d) had their mean (q,) taken away."""
    W = W - np.outer(mean, b)
    return b - mean @ W, W
