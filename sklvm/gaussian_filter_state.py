"""The state of a Gaussian filter: two functions, their noise, and what the model answers."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from .gaussian_filter_posterior import GaussianPathPosterior
from .numerics import root_filter
from .numerics.kalman import Forecast
from .numerics.kalman_run import root_of


class Ahead(NamedTuple):
    """What `filtered` tells of each step before it comes, and after."""

    log_density: np.ndarray  # (N,) log p(x_t | x_<t)
    mean: np.ndarray  # (N, q) E[z_t | x_1..t]
    covariance: np.ndarray  # (N, q, q)
    root: np.ndarray  # (N, q, q) of it


class Smoothed(NamedTuple):
    """Moments of the states given all of their sequence, and how each depends on the next."""

    log_prob: np.ndarray  # (n,)
    mean: np.ndarray  # (N, q)
    covariance: np.ndarray  # (N, q, q)
    root: np.ndarray  # (N, q, q) of it
    found: Any  # the filter's
    back: Any  # root_filter.Backwards


class Free(NamedTuple):
    """Which parameters a fit estimates."""

    Q: np.ndarray  # (q,) variances of the state noise
    R: np.ndarray  # (d,) of the observation noise
    P: np.ndarray  # (q,) of the first state
    mean: np.ndarray  # (q,) of it


@dataclass(frozen=True)
class GaussianFilterState:
    """z_1 ~ N(mean, P), z_t = f(z_t-1) + N(0, Q), x_t = h(z_t) + N(0, R), by a rule of moments.

    What it is asked of are `Sequences` of the channels that vary.
    """

    f: Any  # StateMap
    h: Any
    rule: Any
    Q: np.ndarray  # (q, q)
    R: np.ndarray  # (d, d)
    mean: np.ndarray  # (q,)
    P: np.ndarray  # (q, q)
    free: Free
    unit: np.ndarray  # (q,) of the states, in which their mean moves

    def check(self, X):
        """Every finite number is in the support."""

    @property
    def model(self):
        """The parameters as the recursions read them."""
        Q, R, P = (square_root(S)[None] for S in (self.Q, self.R, self.P))
        return root_filter.NonlinearModel(self.f, self.h, self.rule, Q, R, self.mean[None], P)

    def log_prob(self, sequences):
        """log p(x_seen) of each sequence, by the rule: -> (n,)."""
        return sequences.sums(self._run(sequences).log_density)

    def _run(self, sequences):
        return root_filter.run(self.model, sequences.steps, sequences.starts)

    def filtered(self, sequences):
        """What each step and those before it say of its state."""
        found = self._run(sequences)
        return Ahead(found.log_density, found.mean, found.root @ found.root.mT, found.root)

    def smoothed(self, sequences):
        """Moments of all states given their sequences."""
        found = self._run(sequences)
        back = root_filter.backwards(self.model, found)
        mean, root = root_filter.smooth(found, back, sequences.starts)
        total = sequences.sums(found.log_density)
        return Smoothed(total, mean, root @ root.mT, root, found, back)

    def posterior(self, sequences):
        return GaussianPathPosterior(self, sequences, self.smoothed(sequences))

    def latent_mean(self, sequences):
        """Mean smoothed state of a sequence, of none its first: (n, q)."""
        states = sequences.sums(self.smoothed(sequences).mean)
        states[sequences.lengths == 0] = self.mean
        return states / np.maximum(sequences.lengths, 1)[:, None]

    def update(self, x, before):
        """One step x (1, d) of a stream, after `before`, mean (q,) and covariance, or None."""
        model = self.model
        mean, root = model.mean, model.P
        if before is not None:
            root = square_root(before[1])[None]
            told = self.rule(self.f, before[0][None], root)
            mean, root = told.mean, root_filter.tria(told.slope, told.excess, model.Q)
        density, mean, root = root_filter.seen_step(model, model.R, mean, root, x)
        return mean[0], root[0] @ root[0].T, float(density[0])

    # -- what a fit moves ----------------------------------------------------------------------

    def unpack(self, vector):
        """This state moved: logarithms of free variances and free means in units, self at zero."""
        sizes = np.cumsum([part.sum() for part in self.free[:-1]])
        *logs, shift = np.split(vector, sizes)
        S = [_scaled(a, free, v) for a, free, v in zip((self.Q, self.R, self.P), self.free, logs)]
        mean = self.mean.copy()
        mean[self.free.mean] += shift * self.unit[self.free.mean]
        return replace(self, Q=S[0], R=S[1], P=S[2], mean=mean)

    @property
    def n_parameters(self):
        return int(sum(part.sum() for part in self.free))

    # -- what it answers -----------------------------------------------------------------------

    def predictive(self):
        return self

    def elbo_terms(self, sequences):
        """E[log p(x | z)], E[log p(z)], H[z] of each sequence, all by the rule: three (n,)."""
        posterior = self.posterior(sequences)
        entropy = posterior.entropy()
        prior = -posterior.kl_to_prior() - entropy
        return posterior.expected_log_likelihood(), prior, entropy

    def sample(self, n, T, rng):
        """n sequences of T steps: -> (n, T, d), (n, T, q)."""
        Q, q = square_root(self.Q), len(self.mean)
        Z = [self.mean + rng.standard_normal((n, q)) @ square_root(self.P).T]
        for _ in range(T - 1):
            Z.append(self.f(Z[-1]) + rng.standard_normal((n, q)) @ Q.T)
        Z = np.stack(Z, axis=1)
        X = self._observed(Z.reshape(n * T, -1), rng)
        return X.reshape(n, T, -1), Z

    def _observed(self, Z, rng):
        """Draws of x given states: (N, q) -> (N, d)."""
        return self.h(Z) + rng.standard_normal((len(Z), len(self.R))) @ square_root(self.R).T

    def forecast(self, sequences, horizon):
        model, some = self.model, sequences.lengths > 0
        n = len(sequences)
        mean, root = (np.broadcast_to(a, (n, *a.shape[1:])).copy() for a in (model.mean, model.P))
        last = sequences.starts[1:][some] - 1
        found = self._run(sequences)
        told = self.rule(self.f, found.mean[last], found.root[last])
        noise = np.broadcast_to(model.Q, (len(last), *model.Q.shape[1:]))
        mean[some], root[some] = told.mean, root_filter.tria(told.slope, told.excess, noise)
        z, z_root, x, x_root = root_filter.ahead(model, mean, root, horizon)
        return Forecast(x, x_root @ x_root.mT, z, z_root @ z_root.mT)

    def fill_mean(self, sequences):
        """E[x | x_seen] of unseen entries: the noise of seen ones tells of theirs by R."""
        smoothed = self.smoothed(sequences)
        shown = self.rule(self.h, smoothed.mean, smoothed.root).mean
        return shown + noise_given(self.R, sequences.steps, shown)

    fill_mode = fill_mean  # a Gaussian's mode is its mean

    def fill_sample(self, sequences, rng):
        smoothed = self.smoothed(sequences)
        told = smoothed.found, smoothed.back, sequences.starts
        Z = root_filter.sample_paths(*told, rng, 1)[0]
        drawn = self._observed(Z, rng)
        return drawn + noise_given(self.R, sequences.steps, drawn)

    def marginal(self, columns):
        free = self.free._replace(R=self.free.R[columns])
        R = self.R[np.ix_(columns, columns)]
        return replace(self, h=self.h.some(columns), R=R, free=free)

    @property
    def n_latents(self):
        return len(self.mean)

    @property
    def n_features(self):
        return len(self.R)

    base_measure = "lebesgue"


def noise_given(R, x, expected):
    """E[noise | seen entries' departure from what was expected]: (N, d), 0 where R is diagonal.

    Rows with the same pattern of seen entries share one regression.
    """
    noise, seen = np.zeros(x.shape), ~np.isnan(x)
    patterns, which = np.unique(seen, axis=0, return_inverse=True)
    for i, pattern in enumerate(patterns):
        if pattern.any() and not pattern.all():
            rows = np.flatnonzero(which.ravel() == i)
            gap = (x - expected)[np.ix_(rows, pattern)]
            across = np.linalg.solve(R[np.ix_(pattern, pattern)], R[np.ix_(pattern, ~pattern)])
            noise[np.ix_(rows, ~pattern)] = gap @ across
    return noise


def _scaled(S, free, logs):
    """Free variances of a diagonal covariance times exp(logs)."""
    if not free.any():
        return S
    variances = np.diagonal(S).copy()
    variances[free] *= np.exp(logs)
    return np.diag(variances)


def square_root(S):
    """(q, q) root with root root' = S, for any positive semi-definite S."""
    root = root_of(S)
    return np.pad(root, [(0, 0), (0, len(S) - root.shape[1])])
