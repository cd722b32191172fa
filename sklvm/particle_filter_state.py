"""The state of a particle filter: the parts of its model, a seed, and what they answer."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from .numerics import particles
from .numerics.kalman import Forecast
from .particle_posterior import ParticlePosterior

PATHS, FUTURE = 1, 2  # second part of the seed of paths, and of forecasts; steps have 0


class Ahead(NamedTuple):
    """What `filtered` tells of each step before it comes, and after."""

    log_density: np.ndarray  # (N,) log p(x_t | x_<t), estimated
    mean: np.ndarray  # (N, q) E[z_t | x_1..t]
    covariance: np.ndarray  # (N, q, q)


@dataclass(frozen=True)
class ParticleState:
    """z_1 ~ first, z_t ~ move(z_t-1), x_t ~ show(z_t), followed by weighted particles.

    What it is asked of are `Sequences` of the channels that vary. Each of them sees the same noise,
    that of `seed`, so its answers are its own.
    """

    first: Any
    move: Any
    show: Any
    n_latents: int
    n_features: int
    n_parameters: int
    n_particles: int
    threshold: float
    seed: int

    def check(self, X):
        """Every finite number may be in the support: `show` decides."""

    @property
    def base_measure(self):
        return self.show.base_measure

    @property
    def model(self):
        """The parts as the recursions read them."""
        move, show = self.move, self.show
        return particles.ParticleModel(self.first, move, show.log_prob, move.log_density)

    def predictive(self):
        return self

    def _settings(self, run=0):
        return (self.seed, 0, run), self.n_particles, self.threshold

    def log_prob(self, sequences):
        """Log of the estimate of p(x_seen) of each sequence: -> (n,)."""
        return sequences.sums(self._step_densities(sequences, 0))

    def _step_densities(self, sequences, run):
        return np.array([swarm.log_density for swarm in self._swarms(sequences, run)])

    def _swarms(self, sequences, run=0):
        """The particles after each step of one sequence after the other."""
        model, settings = self.model, self._settings(run)
        for x in sequences:
            yield from particles.swarms(model, x, *settings)

    def log_prob_runs(self, sequences, n_runs):
        """The same by other noise: -> (n_runs, n)."""
        runs = range(1, n_runs + 1)
        return np.array([sequences.sums(self._step_densities(sequences, run)) for run in runs])

    def filtered(self, sequences):
        """What each step and those before it say of its state."""
        N, q = len(sequences.steps), self.n_latents
        told = Ahead(np.empty(N), np.empty((N, q)), np.empty((N, q, q)))
        for row, swarm in enumerate(self._swarms(sequences)):
            told.log_density[row] = swarm.log_density
            told.mean[row], told.covariance[row] = swarm.moments()
        return told

    def update(self, x, before, t):
        """The swarm after step t, x (d,), of a stream."""
        seed, *settings = self._settings()
        return particles.advance(self.model, before, x, seed, t, *settings)

    # -- paths ---------------------------------------------------------------------------------

    def paths(self, sequences, n, rng_of):
        """Draws of the states of each sequence, one after the other: (n, T_i, q) each."""
        model = self.model
        for x in sequences:
            if not len(x):
                yield np.empty((n, 0, self.n_latents))
                continue
            steps = list(particles.swarms(model, x, *self._settings()))
            yield particles.paths(model, steps, rng_of(), n)

    def _own_paths(self, sequences):
        """The paths behind means: the same noise for every sequence, always."""
        return self.paths(
            sequences, self.n_particles, lambda: np.random.default_rng([self.seed, PATHS])
        )

    def smoothed(self, sequences):
        """Moments of all states given their sequences, over as many paths as particles."""
        means, covariances = [], []
        for Z in self._own_paths(sequences):
            mean = Z.mean(axis=0)
            gap = Z - mean
            means.append(mean)
            covariances.append(np.einsum("mti,mtj->tij", gap, gap) / len(Z))
        return Ahead(np.empty(0), np.concatenate(means), np.concatenate(covariances))

    def posterior(self, sequences):
        return ParticlePosterior(self, sequences, self.smoothed(sequences))

    def latent_mean(self, sequences):
        """Mean smoothed state of a sequence, of none its first: (n, q)."""
        states = sequences.sums(self.smoothed(sequences).mean)
        states[sequences.lengths == 0] = self._first_swarm().mean(axis=0)
        return states / np.maximum(sequences.lengths, 1)[:, None]

    def _first_swarm(self):
        return self.first(self.n_particles, np.random.default_rng([*self._settings()[0], 0]))

    # -- steps ---------------------------------------------------------------------------------

    def sample(self, n, T, rng):
        """n sequences of T steps: -> (n, T, d), (n, T, q)."""
        Z = [self.first(n, rng)]
        for _ in range(T - 1):
            Z.append(self.move(Z[-1], rng))
        Z = np.stack(Z, axis=1)
        return self.show.sample(Z.reshape(n * T, -1), rng).reshape(n, T, -1), Z

    def forecast(self, sequences, horizon):
        """Moments over particles that go on without being told anything."""
        told = [self._ahead(x, horizon) for x in sequences]
        return Forecast(*(np.stack(part) for part in zip(*told)))

    def _ahead(self, x, horizon):
        """Of one sequence: x (h, d), (h, d, d), z (h, q), (h, q, q)."""
        rng, Z = np.random.default_rng([self.seed, FUTURE]), None
        for swarm in particles.swarms(self.model, x, *self._settings()):
            Z, log_weights = swarm.Z, swarm.log_weights
        if Z is None:
            Z, log_weights = (
                self._first_swarm(),
                np.full(self.n_particles, -np.log(self.n_particles)),
            )
        else:
            Z = self.move(Z, rng)
        steps, weights = [], np.exp(log_weights)
        for step in range(horizon):
            Z = self.move(Z, rng) if step else Z
            swarm = particles.Swarm(Z, log_weights, np.arange(len(Z)), 0.0)
            steps.append((*self.show.moments(Z, weights, rng), *swarm.moments()))
        return [np.stack(part) for part in zip(*steps)]

    def fill_mean(self, sequences):
        """E[x | x_seen] over paths."""
        filled = [self.show.fill_mean(x, Z) for x, Z in zip(sequences, self._own_paths(sequences))]
        return np.concatenate(filled)

    def fill_mode(self, sequences):
        raise ValueError("particles have no mode: use how='mean' or how='sample'")

    def fill_sample(self, sequences, rng):
        paths = self.paths(sequences, 1, lambda: rng)
        filled = [self.show.fill_sample(x, Z[0], rng) for x, Z in zip(sequences, paths)]
        return np.concatenate(filled)

    def marginal(self, columns):
        show = self.show.some(columns)
        return replace(self, show=show, n_features=show.n_features)
