"""The state of a deep belief network: directed layers below, a Boltzmann machine on top."""

from dataclasses import dataclass

import numpy as np

from .dbn_counts import COUNTED, CountedStates, prior_draw
from .dbn_weights import WeighedDraws
from .inference.randomness import generator
from .validation import checked_array

STARTS = 8  # states of the lowest hidden layer from which a mode is sought
CLIMB = 200  # steps to it at most


@dataclass(frozen=True)
class BeliefState:
    """p(x, h_1, ..., h_L) = p(x | h_1) ... p(h_(L-2) | h_(L-1)) p_top(h_(L-1), h_L)."""

    sums: "CountedStates | WeighedDraws"
    shown: int  # the hidden layer whose bits are the latents, from 0

    @classmethod
    def of(cls, layers, top, shown, column_mean, n_draws, seed):
        """Counted where all directed layers are small."""
        if max(layer.n_latents for layer in layers) <= COUNTED:
            return cls(CountedStates(tuple(layers), top), shown)
        return cls(WeighedDraws(tuple(layers), top, column_mean, n_draws, seed), shown)

    @property
    def layers(self):
        return self.sums.layers

    @property
    def top(self):
        return self.sums.top

    def work_out(self):
        """Find log Z and what rows share now, so that no verb changes the state later."""
        self.sums.work_out()

    @property
    def sizes(self):
        """Bits of each hidden layer, from the bottom up."""
        return [layer.n_latents for layer in self.layers] + [self.top.n_latents]

    @property
    def n_latents(self):
        return self.sizes[self.shown]

    @property
    def n_features(self):
        return self.layers[0].n_features

    @property
    def units(self):
        return self.layers[0].units

    @property
    def base_measure(self):
        return self.units.base_measure

    @property
    def n_parameters(self):
        """Of the density: the recognition has none of them."""
        directed = sum(layer.W.size + layer.b.size for layer in self.layers)
        return directed + self.units.n_parameters + self.top.n_parameters

    def check(self, X):
        self.units.check(X)

    def predictive(self):
        return self

    def _seen(self, X):
        return self.layers[0].seen(X)

    def log_prob(self, X):
        nothing = np.isnan(X).all(axis=1)
        log_p = np.zeros(len(X))
        if not nothing.all():
            log_p[~nothing] = self.sums.log_prob(self._seen(X[~nothing]))
        return log_p

    def means(self, X):
        """E[h_l | x_seen] of every hidden layer: list of (n, q_l)."""
        return self.sums.means(self._seen(X))

    def posterior(self, X):
        return BeliefPosterior(self, X.copy())

    def elbo_terms(self, X):
        return self.sums.elbo_terms(self._seen(X))

    def sample(self, n, rng, n_steps=None):
        x, h = prior_draw(self.layers, self.top, n, rng, n_steps)
        return self.units.shown(x), h[self.shown]

    def expectation(self, Z):
        """E[x | h] for the layer shown, for means of h between 0 and 1 too: (n, q) -> (n, d)."""
        Z = Z.astype(np.float64)
        if self.shown == 0:
            return self.units.shown(self.layers[0].mean(Z))
        above = [*self.layers[1:], self.top.machine][self.shown - 1]
        return self.units.shown(self.sums.expectation(above.visible_input(Z), self.shown - 1))

    def fill_mean(self, X):
        return self.units.shown(self.sums.visible_mean(self._seen(X)))

    def fill_sample(self, X, rng):
        return self.units.shown(self.sums.draw_visible(self._seen(X), rng))

    def fill_mode(self, X):
        """The highest of the points reached from likely hidden states: (n, d)."""
        rows = self._seen(X)
        best, height = None, np.full(len(X), -np.inf)
        for h in [self.sums.means(rows)[0], *self.sums.likely(rows, STARTS)]:
            x = self._climb(rows, h)
            log_p = self.sums.log_prob(self.layers[0].whole(x))
            best = x if best is None else np.where((log_p > height)[:, None], x, best)
            height = np.maximum(height, log_p)
        return self.units.shown(best)

    def _climb(self, rows, h):
        """Gaps moved to the mode at the mean inputs given the row before, until they rest."""
        x = np.where(rows.mask, rows.x, self.units.mode(self.layers[0].visible_input(h)))
        for _ in range(CLIMB):
            a = self.layers[0].visible_input(self.sums.lowest_mean(self.layers[0].whole(x)))
            new = np.where(rows.mask, rows.x, self.units.mode(a))
            moved, x = np.abs(new - x).max(initial=0.0), new
            if moved <= 1e-12 * np.abs(x).max(initial=1.0):
                break
        return x


@dataclass(frozen=True)
class BeliefPosterior:
    """p(h_1, ..., h_L | x_seen) over the bits of all hidden layers, row by row.

    `mean` is that of the layer that the model shows; the other answers are about all layers, bits
    side by side, lowest layer first. Where a layer is too large to count, the recognition
    distribution stands for the posterior.
    """

    state: BeliefState
    X: np.ndarray  # (n, d) rows in the units of the model

    def _seen(self):
        return self.state._seen(self.X)

    @property
    def mean(self):
        """E[h | x_seen] of the layer shown: (n_samples, n_components)."""
        return self.state.means(self.X)[self.state.shown]

    def sample(self, n=1, random_state=None):
        """Draw hidden states: -> (n, n_samples, sum of sizes) of 0 and 1."""
        rng, rows = generator(random_state), self._seen()
        draws = [np.hstack(self.state.sums.draw(rows, rng)) for _ in range(n)]
        return np.stack(draws)

    def entropy(self):
        """-E[log p(h | x_seen)] in nats: (n_samples,)."""
        return self.state.sums.elbo_terms(self._seen())[2]

    def log_prob(self, z):
        """log p(h | x_seen): z (n_samples, sum of sizes) of 0 and 1 -> (n_samples,)."""
        z = checked_array(z, (len(self.X), sum(self.state.sizes)), "z")
        parts = np.split(z, np.cumsum(self.state.sizes)[:-1], axis=1)
        return self.state.sums.log_posterior(self._seen(), parts)

    def kl_to_prior(self):
        """KL(p(h | x_seen) || p(h)) in nats: (n_samples,)."""
        _, prior, entropy = self.state.sums.elbo_terms(self._seen())
        return -prior - entropy
