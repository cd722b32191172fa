"""Sums over what a row did not show: hidden states counted, visible states counted, or annealed."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from .inference.annealing import annealed, annealed_backwards
from .inference.tempering import tempered
from .numerics.binary import STATES, binary_blocks
from .rbm_machine import BoltzmannMachine, Seen
from .rbm_units import BernoulliUnits
from .warn import warn_user

ENUMERABLE = 20  # bits: a million states
THINNING = 5  # Gibbs steps between two draws along a chain
FEWEST_CHAINS = 3  # that carry an estimate of log Z; its standard error cannot exceed 1
POINTS = 200  # draws of the hidden units behind an expectation that has no closed form


class Statistics(NamedTuple):
    """Weighted sums of expectations given rows: derivatives of sum w log p*(x_seen)."""

    value: float
    b: np.ndarray  # (d,) E[drive]
    c: np.ndarray  # (q,) E[h]
    W: np.ndarray  # (q, d) E[h drive']
    log_variance: np.ndarray  # (d,) in log scale^2; () for bits

    def __add__(self, other):
        return Statistics(*(a + b for a, b in zip(self, other, strict=True)))

    def __sub__(self, other):
        return Statistics(*(a - b for a, b in zip(self, other, strict=True)))


def nothing_seen(machine, n=1):
    """Rows without an entry: -> Seen."""
    shape = n, machine.n_features
    return Seen(np.full(shape, np.nan), np.zeros(shape, bool), np.zeros(shape), np.zeros(n))


def sums_for(machine, annealing):
    """The exact sum where a layer is small, else the annealed one."""
    if machine.n_latents <= ENUMERABLE:
        return HiddenSum(machine)
    if isinstance(machine.units, BernoulliUnits) and machine.n_features <= ENUMERABLE:
        return VisibleSum(machine)
    return AnnealedSum(machine, annealing)


@dataclass(frozen=True)
class HiddenSum:
    """All states of the hidden layer: the machine as a mixture with 2^q components."""

    machine: BoltzmannMachine

    kind = "exact"

    def _blocks(self, rows):
        """Yields states H (S, q), their inputs A (S, d), log p*(x_seen, h) (n, S)."""
        m = self.machine
        for H in binary_blocks(m.n_latents):
            A = m.visible_input(H)
            missing = ~rows.mask @ m.units.log_sum(A).T
            yield H, A, rows.base[:, None] + H @ m.c + rows.drive @ A.T + missing

    def log_partial(self, rows):
        """log sum over h and what is missing of p*(x, h): Seen -> (n,)."""
        return _log_sum(joint for _, _, joint in self._blocks(rows))

    def log_partition(self):
        return float(self.log_partial(nothing_seen(self.machine))[0]), 0.0

    def _sum_and_blocks(self, rows):
        """What `log_partial` says, and the blocks again; a single block is worked out once."""
        if 2**self.machine.n_latents > STATES:
            return self.log_partial(rows), self._blocks(rows)
        blocks = list(self._blocks(rows))
        return _log_sum(joint for _, _, joint in blocks), blocks

    def _shares(self, rows):
        """Yields H, A and p(h | x_seen), (n, S)."""
        total, blocks = self._sum_and_blocks(rows)
        for H, A, joint in blocks:
            yield H, A, np.exp(joint - total[:, None])

    def means(self, rows):
        """E[h | x_seen], E[x | x_seen]: (n, q), (n, d)."""
        parts = ((r @ H, r @ self.machine.units.mean(A)) for H, A, r in self._shares(rows))
        return _added(parts)

    def energies(self, rows):
        """E[log p*(x_seen, h) | x_seen], E[log sum_x p*(x, h) | x_seen]: (n,), (n,)."""
        total, blocks = self._sum_and_blocks(rows)

        def parts():
            for H, _, joint in blocks:
                r = np.exp(joint - total[:, None])
                finite = np.where(r > 0, joint, 0.0)
                yield (r * finite).sum(axis=1), r @ self.machine.log_hidden(H)

        return _added(parts())

    def draw(self, rows, rng):
        """h given x_seen: -> (n, q)."""
        u = rng.random(len(rows.x))[:, None]
        return _inverse(((H, r) for H, _, r in self._shares(rows)), u)

    def most_probable(self, rows, n):
        """Yields the n most probable states of h given what was seen, (n_rows, q) each."""
        H, joint = None, None
        for states, _, here in self._blocks(rows):
            states = np.broadcast_to(states, (len(here), *states.shape))
            if H is not None:
                states, here = np.concatenate([H, states], 1), np.concatenate([joint, here], 1)
            top = np.argsort(-here, axis=1, kind="stable")[:, :n]
            joint = np.take_along_axis(here, top, axis=1)
            H = np.take_along_axis(states, top[:, :, None], axis=1)
        yield from np.swapaxes(H, 0, 1)

    def prior_draw(self, n, rng, n_steps=None):
        """h from p(h): -> (n, q)."""
        H, r = zip(*((H, r[0]) for H, _, r in self._shares(nothing_seen(self.machine))))
        cumulative = np.cumsum(np.concatenate(r))
        places = np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")
        return np.concatenate(H)[places]

    def statistics(self, rows, weight):
        """Sum over rows of weight times the derivatives of log p*(x_seen)."""
        m, missing = self.machine, ~rows.mask
        total, blocks = self._sum_and_blocks(rows)
        Eh, Edrive, EhW, square = 0.0, 0.0, 0.0, np.zeros_like(rows.x)
        for H, A, joint in blocks:
            r = np.exp(joint - total[:, None])
            share = (weight[:, None] * r).T @ missing * m.units.drive_mean(A)  # (S, d)
            Eh, Edrive, EhW = Eh + r @ H, Edrive + share.sum(axis=0), EhW + H.T @ share
            square = square + r @ A**2
        slope = m.units.scale_slope(rows.x, rows.mask, m.visible_input(Eh), square)
        weighted = weight[:, None] * Eh
        return Statistics(
            float(weight @ total),
            Edrive + weight @ rows.drive,
            weight @ Eh,
            EhW + weighted.T @ rows.drive,
            weight @ slope if slope.ndim == 2 else slope,
        )


class Sampled:
    """What is answered by draws of h where the hidden states are too many to count."""

    machine: BoltzmannMachine
    seed: int

    def energies(self, rows):
        rng = np.random.default_rng([self.seed, 1])
        joint, hidden = np.zeros((2, len(rows.x)))
        for h in self.draws(rows, rng, POINTS):
            joint += self.machine.log_joint(rows, h) / POINTS
            hidden += self.machine.log_hidden(h) / POINTS
        return joint, hidden


@dataclass(frozen=True)
class VisibleSum(Sampled):
    """All states of a small layer of visible bits under a large hidden one."""

    machine: BoltzmannMachine

    kind = "exact"
    seed = 0

    def _blocks(self, rows):
        """Yields states V (S, d) and log p*(v), -inf where v is not what a row saw, (n, S)."""
        for V in binary_blocks(self.machine.n_features):
            seen = Seen(V, np.ones(V.shape, bool), V, np.zeros(len(V)))
            there = np.where(rows.mask, rows.drive, 0.0)
            wrong = (rows.mask - there) @ V.T + there @ (1 - V).T  # entries that differ
            yield V, np.where(wrong > 0.5, -np.inf, self.machine.log_unnormalised(seen))

    def log_partial(self, rows):
        return _log_sum(joint for _, joint in self._blocks(rows))

    def log_partition(self):
        return float(self.log_partial(nothing_seen(self.machine))[0]), 0.0

    def _shares(self, rows):
        total = self.log_partial(rows)[:, None]
        for V, joint in self._blocks(rows):
            yield V, np.exp(joint - total)

    def means(self, rows):
        parts = ((r @ expit(self.machine.hidden_input(V)), r @ V) for V, r in self._shares(rows))
        return _added(parts)

    def draw(self, rows, rng):
        return self._drawn(rows, rng, len(rows.x))

    def _drawn(self, rows, rng, n):
        """h given x_seen with n (or one, shared) rows of noise: (n_rows, q)."""
        u = np.broadcast_to(rng.random((n, 1)), (len(rows.x), 1))
        p = expit(self.machine.hidden_input(_inverse(self._shares(rows), u)))
        return (rng.random((n, p.shape[1])) < p).astype(np.float64)

    def draws(self, rows, rng, n):
        """Yields n states (n_rows, q); the noise is that of all rows."""
        for _ in range(n):
            yield self._drawn(rows, rng, 1)

    def prior_draw(self, n, rng, n_steps=None):
        V, r = zip(*((V, r[0]) for V, r in self._shares(nothing_seen(self.machine))))
        cumulative = np.cumsum(np.concatenate(r))
        places = np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")
        p = expit(self.machine.hidden_input(np.concatenate(V)[places]))
        return (rng.random(p.shape) < p).astype(np.float64)


class Annealing(NamedTuple):
    """How sums are estimated when no layer can be counted."""

    b0: np.ndarray  # (d,) inputs of independent columns, where chains begin
    c0: np.ndarray  # (q,) the same of the hidden units
    particles: np.ndarray  # (M, q) hidden states of the training chains
    n_chains: int
    n_steps: int
    seed: int
    n_temperatures: int = 1  # of the chains behind `prior_draw`


@dataclass(frozen=True)
class AnnealedSum(Sampled):
    """Annealed importance sampling for sums, clamped Gibbs chains for draws."""

    machine: BoltzmannMachine
    annealing: Annealing

    kind = "estimate"

    @property
    def seed(self):
        return self.annealing.seed

    def _settings(self):
        names = ("b0", "c0", "n_chains", "n_steps", "seed")
        return {name: getattr(self.annealing, name) for name in names}

    def _anneal(self, rows):
        return annealed(self.machine, rows=rows, **self._settings())

    def _in_parts(self, rows, answer):
        """answer(some rows) for all of them: their chains are many times as many."""
        size = max(1, 2048 // self.annealing.n_chains)
        parts = [answer(rows.take(slice(i, i + size))) for i in range(0, len(rows.x), size)]
        return np.concatenate(parts)

    def log_partial(self, rows):
        return self._in_parts(rows, lambda some: self._anneal(some)[0])

    def log_partition(self):
        value, error = (float(a[0]) for a in self._anneal(nothing_seen(self.machine)))
        n = self.annealing.n_chains
        effective = n / (1 + (n - 1) * error**2)  # (sum w)^2 / sum w^2
        if effective < min(FEWEST_CHAINS, n / 2):
            warn_user(
                f"the estimate of log Z rests on {effective:.1f} of {n} annealing chains, and may "
                "be far too low, scores far too high: raise n_annealing_steps (now "
                f"{self.annealing.n_steps})"
            )
        return value, error

    def lower_bound(self, rows):
        """Below log p(x), in expectation, for rows without gaps: (n,)."""
        return self._in_parts(rows, self._anneal_back)

    def _anneal_back(self, rows):
        return annealed_backwards(self.machine, rows=rows, **self._settings())

    def _start(self, n, rng, shared=False):
        particles = self.annealing.particles
        chosen = rng.integers(len(particles), size=1 if shared else n)
        return np.broadcast_to(particles[chosen], (n, particles.shape[1]))

    def means(self, rows):
        """Averages along one clamped chain for each row, the same noise for all of them."""
        rng, n_steps = np.random.default_rng([self.seed, 2]), self.annealing.n_steps
        burn = n_steps // 4
        h = self._start(len(rows.x), rng, shared=True)
        _, h = self.machine.gibbs(rows, h, rng, burn, shared=True)
        hidden, visible = np.zeros(h.shape), np.zeros(rows.x.shape)

        def watch(p, h):
            np.add(hidden, p, out=hidden)
            np.add(visible, self.machine.units.mean(self.machine.visible_input(h)), out=visible)

        self.machine.gibbs(rows, h, rng, n_steps - burn, shared=True, watch=watch)
        return hidden / (n_steps - burn), visible / (n_steps - burn)

    def draw(self, rows, rng):
        """h at the end of a clamped chain for each row: (n, q)."""
        h = self._start(len(rows.x), rng)
        n_steps = 1 if rows.mask.all() else self.annealing.n_steps
        return self.machine.gibbs(rows, h, rng, n_steps)[1]

    def draws(self, rows, rng, n):
        """Yields n states (n_rows, q) along one clamped chain for each row, the noise shared."""
        h = self._start(len(rows.x), rng, shared=True)
        if not rows.mask.all():
            h = self.machine.gibbs(rows, h, rng, self.annealing.n_steps // 4, shared=True)[1]
        for _ in range(n):
            h = self.machine.gibbs(rows, h, rng, THINNING, shared=True)[1]
            yield h

    def prior_draw(self, n, rng, n_steps=None):
        h = self._start(n, rng)
        n_steps = self.annealing.n_steps if n_steps is None else n_steps
        b0, c0, *_, n_temperatures = self.annealing
        if n_temperatures > 1:
            settings = {"n_steps": n_steps, "n_temperatures": n_temperatures}
            return tempered(self.machine, b0, c0, h, rng, **settings)
        return self.machine.gibbs(nothing_seen(self.machine, n), h, rng, n_steps)[1]


def _log_sum(joints):
    """log sum exp along the last axis of (n, S) blocks: -> (n,)."""
    total = None
    for joint in joints:
        high = joint.max(axis=1)
        safe = np.where(np.isfinite(high), high, 0.0)
        with np.errstate(divide="ignore"):
            here = safe + np.log(np.exp(joint - safe[:, None]).sum(axis=1))
        total = here if total is None else np.logaddexp(total, here)
    return total


def _added(parts):
    total = None
    for part in parts:
        total = part if total is None else tuple(a + b for a, b in zip(total, part, strict=True))
    return total


def _inverse(blocks, u):
    """The state at which the cumulative share passes u: blocks of states and (n, S), u (n, 1)."""
    before, chosen = np.zeros(len(u)), None
    for states, share in blocks:
        cumulative = before[:, None] + np.cumsum(share, axis=1)
        if chosen is None:
            chosen = np.zeros((len(u), states.shape[1]))
        here = (u[:, 0] >= before) if len(states) else np.zeros(len(u), bool)
        place = np.minimum((cumulative <= u).sum(axis=1), len(states) - 1)
        chosen[here] = states[place[here]]
        before = cumulative[:, -1]
    return chosen
