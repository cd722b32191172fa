"""A directed layer of a belief network: what bits above say of what is below, and the way back."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from .numerics.binary import softplus
from .rbm_machine import BoltzmannMachine, Seen
from .rbm_units import BernoulliUnits, GaussianUnits


@dataclass(frozen=True)
class DirectedLayer:
    """p(x | h) has inputs b + W'h, the recognition q(h | x) log odds c + R drive(x)."""

    units: "BernoulliUnits | GaussianUnits"
    b: np.ndarray  # (d,)
    W: np.ndarray  # (q, d)
    c: np.ndarray  # (q,)
    R: np.ndarray  # (q, d)

    @classmethod
    def of(cls, machine):
        """As a machine has them: its conditionals."""
        return cls(machine.units, machine.b, machine.W, machine.c, machine.W)

    @property
    def n_features(self):
        return len(self.b)

    @property
    def n_latents(self):
        return len(self.c)

    @property
    def machine(self):
        """A machine with the same p(x | h)."""
        return BoltzmannMachine(self.units, self.b, self.c, self.W)

    def seen(self, X):
        """Rows in the units of X, read: (n, d) -> Seen."""
        return self.machine.seen(X)

    def whole(self, x):
        """Rows without gaps, in the layer's own reading: (n, d) -> Seen."""
        base = self.units.log_base(x).sum(axis=1)
        return Seen(x, np.ones(x.shape, bool), self.units.drive(x), base)

    def visible_input(self, h):
        """(..., q) -> (..., d)."""
        return self.b + h @ self.W

    def hidden_input(self, drive):
        """Log odds of q(h | x): (..., d) -> (..., q)."""
        return self.c + drive @ self.R.T

    def mean(self, h):
        """E[x | h], in the layer's own reading of x: (..., q) -> (..., d)."""
        return self.units.mean(self.visible_input(h))

    def draw(self, h, rng):
        """x given h: (n, q) -> (n, d)."""
        noise = self.units.noise(rng, (len(h), self.n_features))
        return self.units.draw(self.visible_input(h), noise)

    def log_down(self, rows, h):
        """log p(x_seen | h), row by row: Seen, (n, q) -> (n,)."""
        a = self.visible_input(h)
        there = np.where(rows.mask, rows.drive * a - self.units.log_sum(a), 0.0)
        return rows.base + there.sum(axis=1)

    def log_table(self, rows, H):
        """log p(x_seen | h) of each row and each state: Seen, (S, q) -> (n, S)."""
        A = self.visible_input(H)
        return rows.base[:, None] + rows.drive @ A.T - rows.mask @ self.units.log_sum(A).T


def log_bits(odds, h):
    """log probability of bits with log odds: (..., q), (..., q) -> (...)."""
    return (odds * h - softplus(odds)).sum(axis=-1)


def thrown(odds, u):
    """Bits with log odds, from uniform noise."""
    return (u < expit(odds)).astype(np.float64)
