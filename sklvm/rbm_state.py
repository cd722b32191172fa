"""The state of a restricted Boltzmann machine: arrays that answer every question of a density."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import expit

from .inference.randomness import generator
from .numerics.binary import bit_entropy, softplus
from .rbm_machine import BoltzmannMachine, by_completeness
from .rbm_sums import AnnealedSum, HiddenSum, VisibleSum, sums_for

STARTS = 8  # states of the hidden units from which a mode is sought


@dataclass(frozen=True)
class RBMState:
    """A machine, and how what a row did not show is summed out."""

    machine: BoltzmannMachine
    sums: "HiddenSum | VisibleSum | AnnealedSum"

    @classmethod
    def of(cls, machine, annealing):
        return cls(machine, sums_for(machine, annealing))

    @cached_property
    def partition(self):
        """log Z and its standard error; worked out once, at the end of a fit."""
        return self.sums.log_partition()

    def work_out(self):
        """Find log Z now, so that no verb changes the state later."""
        return self.partition

    @property
    def log_partition(self):
        return self.partition[0]

    @property
    def n_latents(self):
        return self.machine.n_latents

    @property
    def n_features(self):
        """Columns of X."""
        return self.machine.units.n_columns(self.machine.n_features)

    @property
    def base_measure(self):
        return self.machine.units.base_measure

    @property
    def n_parameters(self):
        m = self.machine
        free = m.units.n_free(m.n_features)
        return (m.n_latents + 1) * free + m.n_latents + m.units.n_parameters

    def check(self, X):
        self.machine.units.check(X)

    def predictive(self):
        return self

    def log_unnormalised(self, X):
        """log p(x_seen) + log Z: (n,)."""
        rows = self.machine.seen(X)
        return by_completeness(rows, self.machine.log_unnormalised, self.sums.log_partial)

    def log_prob(self, X):
        nothing = np.isnan(X).all(axis=1)
        log_p = np.zeros(len(X))
        log_p[~nothing] = self.log_unnormalised(X[~nothing]) - self.log_partition
        return log_p

    def hidden_mean(self, X):
        """E[h | x_seen]: (n, q)."""
        return by_completeness(
            self.machine.seen(X),
            lambda rows: expit(self.machine.hidden_input(rows.drive)),
            lambda rows: self.sums.means(rows)[0],
        )

    def lower_bound(self, X):
        """log p(x) or what reverse annealing finds below it, of rows without gaps: (n,)."""
        if isinstance(self.sums, AnnealedSum):
            return self.sums.lower_bound(self.machine.seen(X))
        return self.log_prob(X)

    def pseudo_likelihood(self, X):
        """sum_j log p(x_j | the others) of rows of bits without gaps: (n,)."""
        m = self.machine
        x = m.seen(X).drive
        hidden, total = m.hidden_input(x), np.zeros(len(x))
        for j, w in enumerate(m.W.T):
            without = hidden - np.outer(x[:, j], w)
            odds = m.b[j] + (softplus(without + w) - softplus(without)).sum(axis=1)
            total += x[:, j] * odds - softplus(odds)
        return total

    def posterior(self, X):
        return BinaryPosterior(self, X.copy())

    def elbo_terms(self, X):
        joint, hidden = self.sums.energies(self.machine.seen(X))
        entropy = self.posterior(X).entropy()
        return joint - hidden, hidden - self.log_partition, entropy

    def sample(self, n, rng, n_steps=None):
        h = self.sums.prior_draw(n, rng, n_steps)
        return self.machine.units.shown(self.draw_visible(h, rng)), h

    def draw_visible(self, h, rng):
        """x given h: (n, q) -> (n, d)."""
        units = self.machine.units
        noise = units.noise(rng, (len(h), self.machine.n_features))
        return units.draw(self.machine.visible_input(h), noise)

    def expectation(self, Z):
        """E[x | h], for means of h between 0 and 1 too: (n, q) -> (n, d)."""
        units = self.machine.units
        return units.shown(units.mean(self.machine.visible_input(Z.astype(np.float64))))

    def fill_mean(self, X):
        return self.machine.units.shown(self.sums.means(self.machine.seen(X))[1])

    def fill_sample(self, X, rng):
        h = self.sums.draw(self.machine.seen(X), rng)
        return self.machine.units.shown(self.draw_visible(h, rng))

    def fill_mode(self, X):
        """The highest of the points reached from likely hidden states: (n, d)."""
        m = self.machine
        rows = m.seen(X)
        best, height = None, np.full(len(X), -np.inf)
        for h in self._likely(rows):
            start = np.where(rows.mask, rows.x, m.units.mode(m.visible_input(h)))
            x = m.climb(rows, start)
            seen = rows._replace(drive=m.units.drive(x), base=m.units.log_base(x).sum(axis=1))
            log_p = m.log_unnormalised(seen)
            best = x if best is None else np.where((log_p > height)[:, None], x, best)
            height = np.maximum(height, log_p)
        return m.units.shown(best)

    def _likely(self, rows):
        """Hidden states (n, q) that fit what was seen: their mean, and draws all rows share."""
        yield self.sums.means(rows)[0]
        if isinstance(self.sums, HiddenSum):
            yield from self.sums.most_probable(rows, STARTS)
        else:
            yield from self.sums.draws(rows, np.random.default_rng(self.sums.seed), STARTS)


@dataclass(frozen=True)
class BinaryPosterior:
    """p(h | x_seen) over hidden bits, row by row.

    Bits are independent given a row without gaps; given a row with gaps they are not, and answers
    sum over states where the model can count them, else they are averages over clamped chains with
    the same noise for all rows.
    """

    state: RBMState
    X: np.ndarray  # (n, d) rows in the units of the model

    @property
    def mean(self):
        """E[h | x_seen]: (n_samples, n_components)."""
        return self.state.hidden_mean(self.X)

    def sample(self, n=1, random_state=None):
        """Draw hidden states: -> (n, n_samples, n_components) of 0 and 1."""
        rng = generator(random_state)
        machine = self.state.machine
        rows = machine.seen(self.X)
        p = expit(machine.hidden_input(rows.drive))
        gaps = ~rows.mask.all(axis=1)
        draws = (rng.random((n, *p.shape)) < p).astype(np.float64)
        if gaps.any():
            for draw in draws:
                draw[gaps] = self.state.sums.draw(rows.take(gaps), rng)
        return draws

    def entropy(self):
        """-E[log p(h | x_seen)] in nats: (n_samples,)."""
        state = self.state
        return by_completeness(
            state.machine.seen(self.X),
            lambda rows: bit_entropy(state.machine.hidden_input(rows.drive)).sum(axis=1),
            lambda rows: state.sums.log_partial(rows) - state.sums.energies(rows)[0],
        )

    def log_prob(self, z):
        """log p(h | x_seen): z (n_samples, n_components) of 0 and 1 -> (n_samples,)."""
        machine = self.state.machine
        joint = machine.log_joint(machine.seen(self.X), np.asarray(z, dtype=np.float64))
        return joint - self.state.log_unnormalised(self.X)

    def kl_to_prior(self):
        """KL(p(h | x_seen) || p(h)) in nats: (n_samples,)."""
        hidden = self.state.sums.energies(self.state.machine.seen(self.X))[1]
        return self.state.log_partition - hidden - self.entropy()
