"""The state of a linear-Gaussian state-space model: its matrices, and what it answers."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from .numerics import kalman
from .state_space_coordinates import StateSpaceCoordinates
from .state_space_noise import Explained
from .state_space_posterior import PathPosterior
from .state_space_structure import StateSpaceStats, Structure


class Ahead(NamedTuple):
    """What `filtered` tells of each step before it comes, and after."""

    log_density: np.ndarray  # (N,) log p(x_t | x_<t)
    mean: np.ndarray  # (N, q) E[z_t | x_1..t]
    covariance: np.ndarray  # (N, q, q)
    n_diffuse: np.ndarray  # (n,) values of each sequence that resolved its start


@dataclass(frozen=True)
class StateSpaceState(StateSpaceCoordinates):
    """z_t = A z_t-1 + B u_t + N(0, Q), x_t = C z_t + D u_t + c + N(0, R) (Bishop, 13.75-13.77).

    What it is asked of are `Sequences` of the channels that vary and of the inputs u among them.
    """

    A: np.ndarray  # (q, q)
    B: np.ndarray  # (q, m)
    Q: np.ndarray  # (q, q)
    C: np.ndarray  # (d, q)
    D: np.ndarray  # (d, m)
    R: np.ndarray  # (d,), or (d, d) where the noise is full
    c: np.ndarray  # (d,)
    first: Any
    structure: Structure
    inputs: np.ndarray  # (d + m,) bool: which columns of a step are inputs

    def check(self, X):
        """Every finite number is in the support."""

    @property
    def model(self):
        """The parameters as the recursions read them, without the intercept."""
        mean, P, diffuse = self.first.moments(self.A, self.Q)
        return kalman.StateSpace(self.A, self.Q, self.C, self.R, mean, P, diffuse)

    @property
    def noise_covariance(self):
        """(d, d) R."""
        return self.R if self.R.ndim == 2 else np.diag(self.R)

    # -- inputs and outputs --------------------------------------------------------------------

    def told(self, steps):
        """What of steps (N, d + m) the states explain, and the inputs: (N, d), (N, m)."""
        if not self.inputs.any():
            return steps - self.c, steps[:, :0]
        u = steps[:, self.inputs]
        return steps[:, ~self.inputs] - self.shift(u), u

    def shift(self, u):
        """D u + c: (..., m) -> (..., d)."""
        return u @ self.D.T + self.c

    def pushed(self, u):
        """B u, how inputs move the states, or None: (..., m) -> (..., q)."""
        return u @ self.B.T if self.inputs.any() else None

    def among_inputs(self, values, u=0.0):
        """Values of the outputs, and inputs in their places: (..., d), (..., m) -> (..., d + m)."""
        if not self.inputs.any():
            return values
        whole = np.empty((*values.shape[:-1], len(self.inputs)))
        whole[..., ~self.inputs], whole[..., self.inputs] = values, u
        return whole

    def _ask(self, question, sequences):
        X, u = self.told(sequences.steps)
        return question(self.model, X, sequences.starts, self.pushed(u))

    def log_prob(self, sequences):
        """log p(x_seen) of each sequence: -> (n,)."""
        return self._ask(kalman.log_prob, sequences)[0]

    def filtered(self, sequences):
        """What each step and those before it say of its state."""
        found = self._ask(kalman.filter, sequences)
        return Ahead(found.step_log_prob, found.mean, found.covariance, found.n_diffuse)

    def smoothed(self, sequences):
        """Moments of all states given their sequences: (n,), (N, q), (N, q, q)."""
        return self._ask(kalman.smooth, sequences)

    def posterior(self, sequences):
        return PathPosterior(self, sequences, self.smoothed(sequences))

    def latent_mean(self, sequences):
        """Mean smoothed state of a sequence, of none its first: (n, q)."""
        states = sequences.sums(self.smoothed(sequences).mean)
        states[sequences.lengths == 0] = self.model.mean
        return states / np.maximum(sequences.lengths, 1)[:, None]

    # -- expectation-maximisation --------------------------------------------------------------

    def resolved(self, chains):
        """What values that resolve first states say of A and C, and counts of what says more."""
        return self.first.resolved(self, self.told(chains.X)[0], chains.starts, chains.counts)

    def walk(self, chains, n_jobs=None, known=None):
        """Expected statistics and log-likelihood of all sequences."""
        (X, u), lengths = self.told(chains.X), np.diff(chains.starts)
        by_step = self.structure.noise.by_step and bool(np.isnan(X).any())
        resolved, counts = self.resolved(chains)
        sums, lag, earlier = self.moves(X, u, chains.starts, counts, by_step)
        weight = np.repeat(counts, lengths)
        regressors = np.column_stack([u, np.ones(len(u))])
        told = Explained(X, sums.mean, sums.covariance, regressors, weight, sums.zz, sums.xz)
        theta = np.column_stack([self.C, np.zeros_like(self.D), np.zeros(len(self.C))])
        stats = StateSpaceStats(
            float(counts @ (lengths > 0)),
            float(counts @ np.maximum(lengths - 1, 0)),
            *(sums.first_mean, sums.first, earlier, sums.later, lag),
            *self.structure.noise.sums(self.R, theta, told),
            resolved,
        )
        return stats, float(chains.counts @ sums.log_prob)

    def moves(self, X, u, starts, counts, by_step=False):
        """Sums over the states of weighted sequences, and `lag` and `earlier` with the inputs."""
        b = self.pushed(u)
        sums = kalman.expectations(self.model, X, starts, counts, b, by_step=by_step)
        if b is None:
            return sums, sums.lag, sums.earlier
        later = np.ones(len(u), bool)
        later[starts[:-1][np.diff(starts) > 0]] = False
        t = np.flatnonzero(later)
        weighted = np.repeat(counts, np.diff(starts))[t, None] * u[t]
        across = sums.mean[t - 1].T @ weighted
        earlier = np.block([[sums.earlier, across], [across.T, u[t].T @ weighted]])
        return sums, np.hstack([sums.lag, sums.mean[t].T @ weighted]), earlier

    def m_step(self, stats):
        q = len(self.A)
        F, Q = self.first.transition_step(self.structure, self.F, self.Q, self.C, stats)
        shown = self.C, self.D, self.R, self.c
        C, D, R, c = self.first.observation_step(self.structure, F[:, :q], *shown, stats)
        first = self.first.m_step(stats)
        return replace(self, A=F[:, :q], B=F[:, q:], Q=Q, C=C, D=D, R=R, c=c, first=first)

    def log_prior(self):
        return 0.0

    # -- the basis of the state ----------------------------------------------------------------

    def turned(self, T):
        """The same density told by the states T z: T (q, q) regular."""
        back = np.linalg.inv(T)
        Q = T @ self.Q @ T.T
        return replace(
            self,
            A=T @ self.A @ back,
            B=T @ self.B,
            Q=(Q + Q.T) / 2,
            C=self.C @ back,
            first=self.first.turned(T),
        )

    def canonical(self):
        """States with Q = I, C' R^-1 C diagonal and descending, loadings with a positive sum."""
        if not self.structure.unconstrained:
            return self
        white = self.turned(np.linalg.inv(np.linalg.cholesky(self.Q)))
        white = replace(white, Q=np.eye(len(self.Q)))
        scaled = np.linalg.solve(np.linalg.cholesky(self.noise_covariance), white.C)
        rotation = np.linalg.eigh(scaled.T @ scaled)[1][:, ::-1]
        sign = np.where((scaled @ rotation).sum(axis=0) < 0, -1.0, 1.0)
        turned = white.turned((rotation * sign).T)
        return replace(turned, Q=np.eye(len(self.Q)))

    # -- what it answers -----------------------------------------------------------------------

    def predictive(self):
        return self

    def elbo_terms(self, sequences):
        """E[log p(x | z)], E[log p(z)], H[z] of each sequence: three (n,)."""
        posterior = self.posterior(sequences)
        log_prior, log_likelihood = posterior.log_prior(), posterior.expected_log_likelihood()
        return log_likelihood, log_prior, self.log_prob(sequences) - log_likelihood - log_prior

    def sample(self, n, T, rng, u=None):
        """n sequences of T steps with inputs u (n, T, m): -> (n, T, d + m), (n, T, q)."""
        if self.model.diffuse is not None:
            raise ValueError(
                "a diffuse start is no distribution to draw from; give the first state: "
                "from_parameters(..., initial_mean=, initial_covariance=)"
            )
        u = np.zeros((n * T, 0)) if u is None else u.reshape(n * T, -1)
        nothing = np.full((n * T, len(self.c)), np.nan)
        starts = np.arange(n + 1) * T
        Z = kalman.sample_states(self.model, nothing, starts, rng, b=self.pushed(u))[0]
        noise = self.structure.noise.draw(self.R, n * T, rng)
        X = self.among_inputs(Z @ self.C.T + self.shift(u) + noise, u)
        return X.reshape(n, T, -1), Z.reshape(n, T, -1)

    def forecast(self, sequences, horizon, u=None):
        """The next steps, given their inputs u (n, horizon, m)."""
        X, seen = self.told(sequences.steps)
        u = np.zeros((len(sequences), horizon, 0)) if u is None else u
        ahead = (self.pushed(seen), None, self.pushed(u), self.shift(u))
        found = kalman.forecast(self.model, X, sequences.starts, horizon, *ahead)
        rows = np.swapaxes(self.among_inputs(found.covariance), -1, -2)
        return found._replace(
            mean=self.among_inputs(found.mean, u), covariance=self.among_inputs(rows)
        )

    def _refuse_unresolved(self, sequences):
        """Entries cannot be filled in where their own sequence leaves the start infinitely wide."""
        if self.model.diffuse is None:
            return
        missing = sequences.sums(np.isnan(sequences.steps).any(axis=1)) > 0
        resolved = self.filtered(sequences).n_diffuse == self.model.diffuse.shape[1]
        if (missing & ~resolved).any():
            raise ValueError(
                "some sequences have too few entries to resolve the diffuse start of their state, "
                "so there is no distribution to fill them in from: sequences "
                f"{np.flatnonzero(missing & ~resolved).tolist()}"
            )

    def fill_mean(self, sequences):
        self._refuse_unresolved(sequences)
        X, u = self.told(sequences.steps)
        mean = self.smoothed(sequences).mean @ self.C.T
        noise = self.structure.noise.expected(self.R, X - mean)
        return self.among_inputs(mean + noise + self.shift(u), u)

    fill_mode = fill_mean  # a Gaussian's mode is its mean

    def fill_sample(self, sequences, rng):
        self._refuse_unresolved(sequences)
        X, u = self.told(sequences.steps)
        starts, b = sequences.starts, self.pushed(u)
        (Z,) = kalman.sample_states(self.model, X, starts, rng, b=b)
        mean, noise = Z @ self.C.T, self.structure.noise
        drawn = noise.draw(self.R, len(Z), rng)  # less what the seen noise says it is (Hoffman
        drawn += noise.expected(self.R, X - mean - drawn)  # & Ribak 1991)
        return self.among_inputs(mean + drawn + self.shift(u), u)

    def marginal(self, columns):
        """Of some of the channels, among them all inputs."""
        inputs = self.inputs[columns]
        if inputs.sum() < self.inputs.sum():
            raise ValueError("marginal must keep all input_columns: the others depend on them")
        place = np.cumsum(self.inputs) - 1
        kept = (np.cumsum(~self.inputs) - 1)[columns][~inputs]
        order = place[columns][inputs]
        structure = self.structure.marginal(kept)
        return replace(
            self,
            B=self.B[:, order],
            C=self.C[kept],
            D=self.D[np.ix_(kept, order)],
            R=self.structure.noise.of_columns(self.R, kept),
            c=self.c[kept],
            structure=structure.with_inputs(order),
            inputs=inputs,
        )

    @property
    def n_parameters(self):
        return self.structure.n_parameters + self.first.n_parameters

    @property
    def n_latents(self):
        return len(self.A)

    @property
    def n_features(self):
        return len(self.inputs)

    base_measure = "lebesgue"
