"""The state of a linear-Gaussian state-space model: its matrices, and what it answers."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from .inference.em import EMState
from .numerics import kalman
from .numerics.linalg import from_log_cholesky, log_cholesky
from .state_space_posterior import PathPosterior
from .state_space_slope import log_cholesky_slope, observation_slopes
from .state_space_structure import StateSpaceStats, Structure


class Ahead(NamedTuple):
    """What `filtered` tells of each step before it comes, and after."""

    log_density: np.ndarray  # (N,) log p(x_t | x_<t)
    mean: np.ndarray  # (N, q) E[z_t | x_1..t]
    covariance: np.ndarray  # (N, q, q)
    n_diffuse: np.ndarray  # (n,) values of each sequence that resolved its start


@dataclass(frozen=True)
class StateSpaceState(EMState):
    """z_t = A z_t-1 + N(0, Q), x_t = C z_t + c + N(0, diag R) (Bishop 2006, 13.75-13.77).

    What it is asked of are `Sequences` of the channels that vary.
    """

    A: np.ndarray  # (q, q)
    Q: np.ndarray  # (q, q)
    C: np.ndarray  # (d, q)
    R: np.ndarray  # (d,)
    c: np.ndarray  # (d,)
    first: Any
    structure: Structure

    def check(self, X):
        """Every finite number is in the support."""

    @property
    def model(self):
        """The parameters as the recursions read them, without the intercept."""
        mean, P, diffuse = self.first.moments(self.A, self.Q)
        return kalman.StateSpace(self.A, self.Q, self.C, self.R, mean, P, diffuse)

    def _ask(self, question, sequences):
        return question(self.model, sequences.steps - self.c, sequences.starts)

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

    def walk(self, chains, n_jobs=None, known=None):
        """Expected statistics and log-likelihood of all sequences."""
        X, lengths = chains.X - self.c, np.diff(chains.starts)
        sums = kalman.expectations(self.model, X, chains.starts, chains.counts)
        seen = ~np.isnan(X)
        X[~seen] = 0.0
        weight = np.repeat(chains.counts, lengths)[:, None]
        mean = seen.T.astype(np.float64) @ (weight * sums.mean)  # (d, q)
        stats = StateSpaceStats(
            float(chains.counts @ (lengths > 0)),
            float(chains.counts @ np.maximum(lengths - 1, 0)),
            *(sums.first_mean, sums.first, sums.earlier, sums.later, sums.lag),
            _bordered(sums.zz, mean, (weight * seen).sum(axis=0)),
            np.column_stack([sums.xz, (weight * X).sum(axis=0)]),
            (weight * X**2).sum(axis=0),
        )
        return stats, float(chains.counts @ sums.log_prob)

    def m_step(self, stats):
        A, Q = self.first.transition_step(self.structure, self.A, self.Q, stats)
        C, R, c = self.structure.observation_step(self.C, self.R, self.c, stats)
        return replace(self, A=A, Q=Q, C=C, R=R, c=c, first=self.first.m_step(stats))

    def log_prior(self):
        return 0.0

    @property
    def _units(self):
        """Scales of the states and of the features: (q,), (d,)."""
        variance = np.diagonal(self.Q)
        return np.sqrt(np.where(variance > 0, variance, 1.0)), np.sqrt(self.R)

    def pack(self, other):
        units = self._units
        return other._coordinates(*units) - self._coordinates(*units)

    def _coordinates(self, z, x):
        """Free parameters, in units z (q,) of the states and x (d,) of the features."""
        free = self.structure
        noise = self.Q / np.outer(z, z)
        return np.concatenate(
            [
                (self.A * z / z[:, None])[free.A_free],
                log_cholesky(noise[None])[0] if free.full else np.log(np.diag(noise)[free.Q_free]),
                (self.C * z / x[:, None])[free.C_free],
                np.log(self.R / x**2)[: 1 if free.isotropic else None],
                (self.c / x)[: None if free.c_free else 0],
                self.first.pack(z),
            ]
        )

    @property
    def _sizes(self):
        """How many coordinates A, Q, C, R, c and the first state have."""
        free, (d, q) = self.structure, self.C.shape
        return [
            int(free.A_free.sum()),
            q * (q + 1) // 2 if free.full else int(free.Q_free.sum()),
            int(free.C_free.sum()),
            1 if free.isotropic else d,
            d * free.c_free,
            self.first.n_parameters,
        ]

    def unpack(self, vector):
        (z, x), free, q = self._units, self.structure, len(self.A)
        vector = vector + self._coordinates(z, x)
        ends = np.cumsum(self._sizes[:-1])
        a, noise, loadings, spread, shift, first = np.split(vector, ends)
        A, Q, C = self.A.copy(), self.Q.copy(), self.C.copy()
        A[free.A_free] = a * (z[:, None] / z)[free.A_free]
        C[free.C_free] = loadings * (x[:, None] / z)[free.C_free]
        if free.full:
            Q = from_log_cholesky(noise[None], q)[0] * np.outer(z, z)
        else:
            Q[free.Q_free, free.Q_free] = np.exp(noise) * z[free.Q_free] ** 2
        R = np.exp(spread) * x**2
        c = shift * x if free.c_free else self.c
        first = self.first.unpack(first, z)
        return replace(self, A=A, Q=Q, C=C, R=np.maximum(R, free.floor), c=c, first=first)

    # -- the slope of the log-likelihood, by the coordinates of `pack` ---------------------------

    def slope(self, stats, origin):
        """From the sums of an E-step at this state, in the coordinates of another one's `pack`."""
        (z, x), free = origin._units, self.structure
        by_A, by_Q = self.first.slopes(self.A, self.Q, stats)
        by_C, by_R, by_c = observation_slopes(self.C, self.R, stats)
        spread = by_R * self.R
        square = np.outer(z, z)
        noise = np.diagonal(by_Q * self.Q)[free.Q_free]
        if free.full:
            noise = log_cholesky_slope(by_Q * square, self.Q / square)
        return np.concatenate(
            [
                (by_A * z[:, None] / z)[free.A_free],
                noise,
                (by_C * x[:, None] / z)[free.C_free],
                spread.sum(keepdims=True) if free.isotropic else spread,
                (by_c * x)[: None if free.c_free else 0],
                self.first.slope(stats, z),
            ]
        )

    def curvature(self, stats):
        """About how large minus the second derivatives are, by coordinate."""
        (z, _), free, q = self._units, self.structure, len(self.A)
        seen = stats.design[:, -1, -1]
        moved = np.tile((np.diagonal(stats.earlier) + np.diagonal(stats.first)) / z**2, (q, 1))
        used = np.diagonal(stats.design, axis1=1, axis2=2)[:, :-1] / z**2
        n = stats.n_moves + stats.n_first
        noise = np.full(free.Q_free.sum(), n / 2)
        if free.full:
            noise = n * np.concatenate([np.full(q, 2.0), np.ones(q * (q - 1) // 2)])
        return np.concatenate(
            [
                moved[free.A_free],
                noise,
                used[free.C_free],
                seen.sum(keepdims=True) / 2 if free.isotropic else seen / 2,
                seen[: None if free.c_free else 0],
                self.first.curvature(stats, z),
            ]
        )

    def bounds(self):
        """Lowest and highest coordinates: the noise of the observations has a floor."""
        sizes, free = self._sizes, self.structure
        low = np.full(sum(sizes), -np.inf)
        begin = sum(sizes[:3])
        least = np.log(free.floor / self.R)
        low[begin : begin + sizes[3]] = least[: sizes[3]]
        return np.minimum(low, 0.0), np.inf

    @property
    def log_variances(self):
        """(p,) which coordinates are logarithms of variances of states or steps."""
        sizes, free = self._sizes, self.structure
        kinds = np.repeat([False, not free.full, False, True, False, False], sizes)
        return kinds

    # -- the basis of the state ----------------------------------------------------------------

    def turned(self, T):
        """The same density told by the states T z: T (q, q) regular."""
        back = np.linalg.inv(T)
        Q = T @ self.Q @ T.T
        return replace(
            self,
            A=T @ self.A @ back,
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
        scaled = white.C / np.sqrt(self.R)[:, None]
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
        log_likelihood, log_prior = posterior.expected_log_likelihood(), posterior.log_prior()
        return log_likelihood, log_prior, self.log_prob(sequences) - log_likelihood - log_prior

    def sample(self, n, T, rng):
        """n sequences of T steps: -> (n, T, d), (n, T, q)."""
        if self.model.diffuse is not None:
            raise ValueError(
                "a diffuse start is no distribution to draw from; give the first state: "
                "from_parameters(..., initial_mean=, initial_covariance=)"
            )
        nothing = np.full((n * T, len(self.c)), np.nan)
        starts = np.arange(n + 1) * T
        Z = kalman.sample_states(self.model, nothing, starts, rng)[0]
        return self._observed(Z, rng).reshape(n, T, -1), Z.reshape(n, T, -1)

    def _observed(self, Z, rng):
        """Draws of x given states: (N, q) -> (N, d)."""
        noise = np.sqrt(self.R) * rng.standard_normal((len(Z), len(self.R)))
        return Z @ self.C.T + self.c + noise

    def forecast(self, sequences, horizon):
        found = kalman.forecast(self.model, sequences.steps - self.c, sequences.starts, horizon)
        return found._replace(mean=found.mean + self.c)

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
        return self.smoothed(sequences).mean @ self.C.T + self.c

    fill_mode = fill_mean  # a Gaussian's mode is its mean

    def fill_sample(self, sequences, rng):
        self._refuse_unresolved(sequences)
        (Z,) = kalman.sample_states(self.model, sequences.steps - self.c, sequences.starts, rng)
        return self._observed(Z, rng)

    def marginal(self, columns):
        return replace(
            self,
            C=self.C[columns],
            R=self.R[columns],
            c=self.c[columns],
            structure=self.structure.marginal(columns),
        )

    @property
    def n_parameters(self):
        return self.structure.n_parameters + self.first.n_parameters

    @property
    def n_latents(self):
        return len(self.A)

    @property
    def n_features(self):
        return len(self.C)

    base_measure = "lebesgue"


def _bordered(zz, mean, count):
    """((zz, mean), (mean', count)) of each feature: -> (d, q + 1, q + 1)."""
    d, q = mean.shape
    whole = np.empty((d, q + 1, q + 1))
    whole[:, :q, :q], whole[:, :q, q], whole[:, q, :q], whole[:, q, q] = zz, mean, mean, count
    return whole
