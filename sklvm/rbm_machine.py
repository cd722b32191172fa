"""A Boltzmann machine of two layers as arrays: what it says of rows without gaps."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from .numerics.binary import softplus
from .rbm_units import BernoulliUnits, Units


class Seen(NamedTuple):
    """Rows as a machine reads them."""

    x: np.ndarray  # (n, d) NaN where missing
    mask: np.ndarray  # (n, d) bool: what was seen
    drive: np.ndarray  # (n, d) 0 where missing
    base: np.ndarray  # (n,) log base measure of what was seen

    def take(self, rows):
        return Seen(*(array[rows] for array in self))


def by_completeness(rows, complete, partial):
    """complete(rows) of rows without gaps, partial(rows) of the others, put together."""
    whole = rows.mask.all(axis=1)
    if whole.all():
        return complete(rows)
    if not whole.any():
        return partial(rows)
    parts = complete(rows.take(whole)), partial(rows.take(~whole))
    merged = np.empty((len(whole), *parts[0].shape[1:]))
    merged[whole], merged[~whole] = parts
    return merged


@dataclass(frozen=True)
class BoltzmannMachine:
    """p*(x, h) = exp(log_base(x) + drive(x) a(h) + c h) with inputs a(h) = b + W' h."""

    units: Units
    b: np.ndarray  # (d,)
    c: np.ndarray  # (q,)
    W: np.ndarray  # (q, d)

    @property
    def n_features(self):
        return len(self.b)

    @property
    def n_latents(self):
        return len(self.c)

    def seen(self, X):
        """Rows in the units of X, read: (n, d) -> Seen."""
        x = self.units.read(X)
        mask = ~np.isnan(x)
        if mask.all():
            return Seen(x, mask, self.units.drive(x), self.units.log_base(x).sum(axis=1))
        there = np.where(mask, x, 0.0)
        drive = np.where(mask, self.units.drive(there), 0.0)
        return Seen(x, mask, drive, np.where(mask, self.units.log_base(there), 0.0).sum(axis=1))

    def hidden_input(self, drive):
        """Log odds of the hidden units given a row without gaps: (n, d) -> (n, q)."""
        return self.c + drive @ self.W.T

    def visible_input(self, h):
        """(n, q) -> (n, d)."""
        return self.b + h @ self.W

    def log_unnormalised(self, rows):
        """log sum_h p*(x, h), minus the free energy, of rows without gaps: Seen -> (n,)."""
        hidden = softplus(self.hidden_input(rows.drive)).sum(axis=1)
        return rows.base + rows.drive @ self.b + hidden

    def log_joint(self, rows, H):
        """log p*(x_seen, h) row by row, what is missing summed out: (n, q) -> (n,)."""
        a = self.visible_input(H)
        there = np.where(rows.mask, rows.drive * a, self.units.log_sum(a)).sum(axis=1)
        return rows.base + H @ self.c + there

    def log_hidden(self, H):
        """log sum_x p*(x, h): (..., q) -> (...)."""
        return H @ self.c + self.units.log_sum(self.visible_input(H)).sum(axis=-1)

    def gibbs(self, rows, h, rng, n_steps, shared=False, watch=None):
        """n_steps of x_missing given h, h given x: -> x (n, d), h (n, q).

        With `shared` all rows get the same noise, so that a row's chain is a function of the row.
        `watch(p, h)` sees the probabilities of h and the draw.
        """
        n = 1 if shared else len(h)
        x = rows.x
        for _ in range(n_steps):
            noise = self.units.noise(rng, (n, self.n_features))
            x = np.where(rows.mask, rows.x, self.units.draw(self.visible_input(h), noise))
            p = expit(self.hidden_input(self.units.drive(x)))
            h = (rng.random((n, self.n_latents)) < p).astype(np.float64)
            if watch is not None:
                watch(p, h)
        return x, h

    def climb(self, rows, x, n_steps=200, tol=1e-12):
        """Missing entries moved to where log p*(x) is no lower, until they rest: (n, d) -> (n, d).

        Each step maximises the expectation of log p*(x, h) under p(h given the x before it).
        """
        for _ in range(n_steps):
            p = expit(self.hidden_input(self.units.drive(x)))
            new = np.where(rows.mask, rows.x, self.units.mode(self.visible_input(p)))
            moved, x = np.abs(new - x).max(initial=0.0), new
            if moved <= tol * np.abs(x).max(initial=1.0):
                break
        return x

    def transposed(self):
        """The machine in which the layers change places (bits above and below)."""
        if not isinstance(self.units, BernoulliUnits):
            raise ValueError("only a machine of bits above and below has a transpose")
        return BoltzmannMachine(BernoulliUnits(), self.c, self.b, self.W.T)

    def tempered(self, b0, c0, beta):
        """Between independent columns with inputs b0, c0 (beta = 0) and this machine (1)."""
        b, c = (1 - beta) * b0 + beta * self.b, (1 - beta) * c0 + beta * self.c
        return replace(self, b=b, c=c, W=beta * self.W)
