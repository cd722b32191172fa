"""Contrastive divergence: stochastic gradients of a Boltzmann machine from rows and fantasies."""

import math
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from ..numerics.binary import softplus
from .history import FitInterrupted, Run
from .start import spread
from .tempering import Ladder

HIDDEN_RATE = 0.01  # share of a batch in the moving mean of the hidden units
LOG_VARIANCE_STEP = np.float32(0.1)  # of the learning rate
STEEPEST = 1.0  # root mean square of a gradient of Gaussian columns; a longer one is shortened
WATCHED = 1000  # rows whose free energy the history shows


class Weights(NamedTuple):
    """What is trained, for standardised columns."""

    b: np.ndarray  # (d,)
    c: np.ndarray  # (q,)
    W: np.ndarray  # (q, d)
    log_variance: np.ndarray  # (d,) of Gaussian columns


class Fantasies(NamedTuple):
    """The end of training."""

    weights: Weights
    particles: np.ndarray  # (M, q) hidden states of the chains
    hidden_mean: np.ndarray  # (q,) moving mean of p(h given a row)
    hot: np.ndarray = np.empty((0, 0, 0))  # (T - 1, M, q) hidden states at other temperatures


class Bits:
    """Bits above and below: sigmoid(a) > u is a > logit(u), and 16 bits of u are enough."""

    _grid = (np.arange(65536) + 0.5) / 65536
    _logits = (np.log(_grid) - np.log1p(-_grid)).astype(np.float32)

    def __init__(self, rng):
        self.rng = rng

    def draw(self, a, out):
        """out = 1 with probability sigmoid(a), else 0: (n, ...)."""
        u = np.frombuffer(self.rng.bytes(2 * a.size), np.uint16).reshape(a.shape)
        np.greater(a, np.take(self._logits, u), out=out)

    def draw_visible(self, a, weights, out):
        self.draw(a, out)

    def drive(self, V, weights):
        """What visible inputs multiply in log p*(v, h): (..., d)."""
        return V

    def centred(self, X):
        """Rows as the weights multiply them."""
        return X

    def evened(self, slopes):
        """Slopes (..., d) in units in which steps may be alike; it may work in place."""
        return slopes

    def pull(self, weights):
        """(d,) slope in b, at h = 1/2, of a prior of what columns are."""
        return None

    def bound(self, W):
        """Keep weights where the machine makes sense, in place."""

    def upward(self, weights):
        """The matrix (q, d) that takes rows to hidden inputs."""
        return weights.W

    def shortening(self, gradient):
        """What multiplies a step."""
        return 1.0

    def log_variance_slope(self, A, signs, slopes, hidden_mean, weights):
        return np.float32(0.0)

    def mean(self, a):
        """E[v given inputs a]."""
        return expit(a)

    def log_down(self, V, a, log_variance, seen):
        """log p(v_seen given inputs a) but for a constant: (n, d) -> (n,); seen None: all of it."""
        return _over(V * a - softplus(a), seen)

    def free_energy(self, V, weights):
        """-log sum_h p*(v, h) but for a constant: (n, d) -> (n,)."""
        hidden = np.logaddexp(0.0, V @ weights.W.T + weights.c).sum(axis=1)
        return -(V @ weights.b) - hidden


class Normals(Bits):
    """Gaussian columns under hidden bits. Slopes in W are times the variance, which evens steps."""

    def __init__(self, rng, log_floor):
        super().__init__(rng)
        self.log_floor = log_floor

    def draw_visible(self, a, weights, out):
        noise = self.rng.standard_normal(a.shape, dtype=np.float32)
        np.multiply(noise, np.exp(0.5 * weights.log_variance), out=out)
        out += a

    def drive(self, V, weights):
        return V * np.exp(-weights.log_variance)

    def upward(self, weights):
        return weights.W * np.exp(-weights.log_variance)

    def shortening(self, gradient):
        return min(1.0, STEEPEST / max(float(np.sqrt(np.mean(gradient**2))), 1e-30))

    def log_variance_slope(self, A, signs, slopes, hidden_mean, weights):
        """Data less fantasies of (y^2 - 2 y a) / (2 variance): (d,)."""
        product = (weights.b + hidden_mean @ weights.W) * slopes.b_plain
        product += (weights.W * slopes.W).sum(axis=0)
        return (signs @ A**2 - 2 * product) * np.exp(-weights.log_variance) / 2

    def mean(self, a):
        return a

    def log_down(self, V, a, log_variance, seen):
        return _over(-0.5 * ((V - a) ** 2 * np.exp(-log_variance) + log_variance), seen)

    def free_energy(self, V, weights):
        precision = np.exp(-weights.log_variance)
        hidden = np.logaddexp(0.0, (V * precision) @ weights.W.T + weights.c).sum(axis=1)
        return (V**2 / 2 - V * weights.b) @ precision - hidden


class _Slopes(NamedTuple):
    b_plain: np.ndarray  # (d,) data less fantasies of v
    b: np.ndarray  # (d,)
    c: np.ndarray  # (q,)
    W: np.ndarray  # (q, d)


class Contrast:
    """Arrays of one training run: rows and fantasies lie below each other, for one product.

    The two outer products by which centring changes the gradient (Melchior, Fischer & Wiskott 2016,
    with the offsets' moving mean) are two more rows of the same product.
    """

    def __init__(
        self,
        units,
        start,
        X,
        weight,
        *,
        batch_size,
        n_chains,
        n_steps,
        persistent,
        rng,
        n_temperatures=1,
        base=None,
    ):
        self.units, self.n_steps, self.persistent = units, n_steps, persistent
        self.weights = Weights(*(np.array(array, np.float32) for array in start))
        share = weight / weight.sum()
        seen, X = ~np.isnan(X), units.centred(X)
        mean = share @ np.nan_to_num(X) / np.maximum(share @ seen, 1e-300)
        self.gaps = None if seen.all() else ~seen
        self.X = np.where(seen, X, mean).astype(np.float32)
        self.visible_mean = mean.astype(np.float32)
        self.total = weight.sum()
        q, d = self.weights.W.shape
        self.hidden_mean = np.full(q, 0.5, np.float32)
        self.n_chains = n_chains if persistent else batch_size
        self.h = (rng.random((self.n_chains, q)) < 0.5).astype(np.float32)
        self.A = np.zeros((self.n_chains + batch_size + 2, d), np.float32)
        self.P = np.zeros((self.n_chains + batch_size + 2, q), np.float32)
        self.input = np.zeros((self.n_chains, d), np.float32)
        tempers = persistent and n_temperatures > 1
        self.ladder = Ladder(units, base, self.h, n_temperatures) if tempers else None

    def go_on(self, particles, hidden_mean, hot, total):
        """Start from chains of an earlier run, as `end` left them; `total` weighs all rows."""
        self.total = total
        chains = np.arange(len(self.h)) % len(particles)
        self.h[:] = particles[chains]
        self.hidden_mean[:] = hidden_mean
        if self.ladder is not None:
            same = len(hot) == len(self.ladder.H) - 1
            self.ladder.H[1:] = hot[:, chains] if same else self.h

    def end(self, weights=None):
        """What is left of the run: its last weights, or others."""
        weights = self.weights if weights is None else weights
        weights = Weights(*(np.array(array, np.float64) for array in weights))
        hot = np.empty((0, *self.h.shape)) if self.ladder is None else self.ladder.H[1:].copy()
        return Fantasies(weights, self.h.copy(), self.hidden_mean.copy(), hot)

    def hidden_input(self, V, out=None):
        """Log odds of the hidden bits: (..., d) -> (..., q)."""
        hidden = np.matmul(V, self.units.upward(self.weights).T, out=out)
        hidden += self.weights.c
        return hidden

    def _fantasise(self, h, V, n_steps):
        """n_steps of v given h, h given v, the last h left to the caller: into V (m, d)."""
        if self.ladder is not None:
            V[:] = self.ladder.climb(self, h, n_steps)
            return
        a = self.input[: len(V)]
        for step in range(n_steps):
            if step:
                self.units.draw(self.hidden_input(V), h)
            np.matmul(h, self.weights.W, out=a)
            a += self.weights.b
            self.units.draw_visible(a, self.weights, V)

    def _complete(self, rows, V):
        """Missing entries drawn given the others, and remembered for the next visit."""
        missing = self.gaps[rows]
        if not missing.any():
            return
        h, draw = np.empty((len(V), len(self.weights.c)), np.float32), np.empty_like(V)
        for _ in range(self.n_steps):
            self.units.draw(self.hidden_input(V), h)
            a = h @ self.weights.W + self.weights.b
            self.units.draw_visible(a, self.weights, draw)
            np.copyto(V, draw, where=missing)
        self.X[rows] = V

    def _take(self, rows, V):
        np.take(self.X, rows, axis=0, out=V)
        if self.gaps is not None:
            self._complete(rows, V)

    def slopes(self, rows):
        """Data less fantasies of what the weights multiply, centred."""
        n, m = len(rows), self.n_chains if self.persistent else len(rows)
        A, P, h = self.A[: m + n + 2], self.P[: m + n + 2], self.h[:m]
        V = A[m : m + n]
        self._take(rows, V)
        if not self.persistent:
            self.units.draw(self.hidden_input(V), h)
        self._fantasise(h, A[:m], self.n_steps)
        I = self.hidden_input(A[: m + n], out=P[: m + n])
        self.units.draw(I[:m], h)
        _sigmoid(I)
        self.hidden_mean += HIDDEN_RATE * (I[m:].mean(axis=0) - self.hidden_mean)
        I[:m] *= -1 / m
        I[m:] *= 1 / n
        signs = np.r_[np.full(m, -1 / m), np.full(n, 1 / n)].astype(np.float32)
        c, b = np.ones(m + n, np.float32) @ I, signs @ A[: m + n]
        A[m + n], P[m + n] = self.visible_mean, -c
        A[m + n + 1], P[m + n + 1] = b, -self.hidden_mean
        W, b = self.units.evened(P.T @ A), self.units.evened(b)
        centred = _Slopes(b, b - self.hidden_mean @ W, c - W @ self.visible_mean, W)
        variance = self.units.log_variance_slope(
            A[: m + n], signs, centred, self.hidden_mean, self.weights
        )
        return centred, variance

    def step(self, rows, rate, decay):
        slopes, variance = self.slopes(rows)
        rate = np.float32(rate * self.units.shortening(slopes.W))
        w = self.weights
        pull = self.units.pull(w)
        if pull is not None:
            pull *= rate / np.float32(self.total)
            w.b.__iadd__(pull)
            w.W.__iadd__(np.float32(0.5) * pull)
        w.b.__iadd__(rate * slopes.b)
        w.c.__iadd__(rate * slopes.c)
        if decay:
            w.W.__imul__(1 - np.float32(rate * decay))
        slopes.W.__imul__(rate)
        w.W.__iadd__(slopes.W)
        self.units.bound(w.W)
        if len(w.log_variance):
            w.log_variance.__iadd__(LOG_VARIANCE_STEP * rate * np.clip(variance, -1, 1))
            np.clip(w.log_variance, self.units.log_floor, 2.0, out=w.log_variance)

    def contrast(self):
        """Mean free energy of the fantasies less that of the rows: no likelihood, it tends to 0."""
        rows = self.X[:: max(1, len(self.X) // WATCHED)]
        there = self.units.free_energy(rows, self.weights).mean()
        return float(self.units.free_energy(self.A[: self.n_chains], self.weights).mean() - there)


class DrawnContrast(Contrast):
    """Rows are probabilities of bits, drawn anew at each visit."""

    def _take(self, rows, V):
        np.less(self.units.rng.random(V.shape, dtype=np.float32), self.X[rows], out=V)


def _over(terms, seen):
    """Sum of the terms of what was seen, row by row."""
    return (terms if seen is None else np.where(seen, terms, 0.0)).sum(axis=1)


def _sigmoid(a):
    """1 / (1 + exp(-a)), in place."""
    np.negative(a, out=a)
    with np.errstate(over="ignore"):  # infinity is the right answer on the way to 0
        np.exp(a, out=a)
    a += 1
    np.reciprocal(a, out=a)


def contrastive(
    contrast, weight, *, epochs, batch_size, learning_rate, decay, rng, state_of, callback=None
):
    """Train with steps that shrink linearly to 0; the mean weights of the second half are kept.

    Parameters
    ----------
    contrast : Contrast
        Rows in an order that their values decide, and the chains.
    weight : ndarray of shape (n,)
        Counts of the rows: an epoch is a permutation of ceil(sum of weights) equally spaced points
        on the cumulative weight, so integer weights are repeated rows to the bit.
    epochs, batch_size : int
    learning_rate : float
        Of the first step. Persistent chains converge only if it tends to 0 (Tieleman 2008).
    decay : float
        Precision of a Gaussian prior on W, per unit weight.
    state_of : callable
        Fantasies -> what the Run and the callback carry.
    callback : callable, default=None
        (epoch, state, objective) -> True to stop.

    Returns
    -------
    run : Run
        Its history is the contrast of free energies at the start and after each epoch.
    """
    points = spread(weight, math.ceil(weight.sum() * (1 - 1e-12)))
    batches = math.ceil(len(points) / batch_size)
    total, done, tail = epochs * batches, 0, None
    history = [contrast.contrast()]
    finished = False

    def state():
        return state_of(contrast.end(None if tail is None else tail.weights()))

    try:
        for epoch in range(1, epochs + 1):
            for rows in np.array_split(points[rng.permutation(len(points))], batches):
                contrast.step(rows, learning_rate * (1 - done / total), decay)
                done += 1
                if done > total // 2:
                    tail = tail or _Average(contrast.weights)
                    tail.add(contrast.weights)
            history.append(contrast.contrast())
            if callback is not None and callback(epoch, state(), history[-1]):
                break
        finished = done == total
    except KeyboardInterrupt:
        run = Run(state(), np.array(history), False, len(history) - 1)
        raise FitInterrupted(run) from None
    return Run(state(), np.array(history), finished, len(history) - 1)


class _Average:
    """The mean of the weights over the steps so far."""

    def __init__(self, weights):
        self.count = 0
        self.total = [np.zeros(array.shape, np.float32) for array in weights]

    def add(self, weights):
        self.count += 1
        for total, array in zip(self.total, weights):
            total += array

    def weights(self):
        return [total / self.count for total in self.total]
