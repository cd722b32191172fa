"""p(z | x) of a linear-Gaussian state-space model: paths of states of every sequence."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .emissions.gaussian import LOG_2PI
from .inference.randomness import generator
from .numerics import kalman


@dataclass(frozen=True)
class PathPosterior:
    """A Gaussian over the whole path of states of each sequence.

    `mean` and `covariance` are those of single steps; draws and densities are of paths.
    """

    state: Any
    sequences: Any
    smoothed: kalman.Smoothed

    @property
    def mean(self):
        """E[z_t | x], (T_i, q) per sequence."""
        return self.sequences.restore(self.smoothed.mean)

    @property
    def covariance(self):
        """Cov[z_t | x], (T_i, q, q) per sequence."""
        return self.sequences.restore(self.smoothed.covariance)

    def sample(self, n=1, random_state=None):
        """Draw paths (Durbin & Koopman 2002): a list of n, each in the container of the input."""
        (X, u), rng = self.state.told(self.sequences.steps), generator(random_state)
        starts, b = self.sequences.starts, self.state.pushed(u)
        draws = kalman.sample_states(self.state.model, X, starts, rng, n, b)
        return [self.sequences.restore(path) for path in draws]

    def log_prob(self, z):
        """log p(z | x) of paths in the container of the input: -> (n_sequences,)."""
        z = self.sequences.gather(z, "paths")
        first, moves = self._densities()
        begins, steps = self._begins(), np.empty(len(z))
        steps[begins] = first(z[begins] - self.state.model.mean)
        later = np.flatnonzero(~begins)
        u = self.state.told(self.sequences.steps)[1]
        moved = np.hstack([z[later - 1], u[later]]) @ self.state.F.T
        steps[later] = moves(z[later] - moved)
        steps += self._log_likelihood(z, np.zeros((1, z.shape[1], z.shape[1])))
        return self.sequences.sums(steps) - self.smoothed.log_prob

    def entropy(self):
        """-E[log p(z | x)] of whole paths, in nats: (n_sequences,)."""
        self._refuse_diffuse()
        return self.smoothed.log_prob - self.expected_log_likelihood() - self.log_prior()

    def kl_to_prior(self):
        """KL(p(z | x) || p(z)) of whole paths, in nats: (n_sequences,)."""
        self._refuse_diffuse()
        return self.expected_log_likelihood() - self.smoothed.log_prob

    def expected_log_likelihood(self):
        """E[log p(x | z)]: (n_sequences,)."""
        return self.sequences.sums(
            self._log_likelihood(self.smoothed.mean, self.smoothed.covariance)
        )

    def _log_likelihood(self, mean, covariance):
        """E[log p(x_t | z_t)] of each step: (N, q), (N or 1, q, q) -> (N,)."""
        residual = self.state.told(self.sequences.steps)[0] - mean @ self.state.C.T
        noise = self.state.structure.noise
        return noise.log_density(self.state.R, residual, self.state.C, covariance)

    def log_prior(self):
        """E[log p(z)]: (n_sequences,)."""
        first, moves = self._densities()
        X, u = self.state.told(self.sequences.steps)
        values = np.zeros(len(self.sequences))
        for i, (a, b) in enumerate(zip(self.sequences.starts, self.sequences.starts[1:])):
            if b > a:
                one, bounds = np.ones(1), np.array([0, b - a])
                sums = self.state.moves(X[a:b], u[a:b], bounds, one)
                values[i] = self._expected_prior(*sums, b - a, first, moves)
        return values

    def _expected_prior(self, sums, lag, earlier, T, first, moves):
        mean, F = self.state.model.mean, self.state.F
        across = np.outer(sums.first_mean, mean)
        begin = sums.first - across - across.T + np.outer(mean, mean)
        across = F @ lag.T
        noise = sums.later - across - across.T + F @ earlier @ F.T
        return first.expected(begin, 1) + moves.expected(noise, T - 1)

    def _densities(self):
        """The densities of a first state and of a move."""
        self._refuse_diffuse()
        return _Normal(self.state.model.P), _Normal(self.state.Q)

    def _refuse_diffuse(self):
        if self.state.model.diffuse is not None:
            raise ValueError("a diffuse start has no prior density of its states to compare with")

    def _begins(self):
        """(N,) which steps begin a sequence."""
        begins = np.zeros(len(self.sequences.steps), bool)
        begins[self.sequences.starts[:-1][self.sequences.lengths > 0]] = True
        return begins


class _Normal:
    """N(0, V) with regular V (q, q)."""

    def __init__(self, V):
        try:
            self.white = np.linalg.inv(np.linalg.cholesky(V))
        except np.linalg.LinAlgError:
            raise ValueError(
                "the states have no density: their noise is singular (structural models)"
            ) from None
        self.peak = np.log(np.diagonal(self.white)).sum() - len(V) * LOG_2PI / 2

    def __call__(self, z):
        """log N(z): (n, q) -> (n,)."""
        return self.peak - 0.5 * ((z @ self.white.T) ** 2).sum(axis=1)

    def expected(self, S, n):
        """Sum of E[log N(z)] over n states with summed second moment S (q, q)."""
        return n * self.peak - 0.5 * ((self.white @ S) * self.white).sum()
