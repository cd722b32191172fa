"""p(z | x) by a Gaussian filter: a Gaussian over paths, built backwards from the last step."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from .emissions.gaussian import LOG_2PI
from .inference.randomness import generator
from .numerics import root_filter


@dataclass(frozen=True)
class GaussianPathPosterior:
    """A Gaussian over the whole path of states of each sequence.

    `mean` and `covariance` are those of single steps; draws and densities are of paths. All of it
    is an approximation unless the functions are linear.
    """

    state: Any
    sequences: Any
    smoothed: Any

    @property
    def mean(self):
        """E[z_t | x], (T_i, q) per sequence."""
        return self.sequences.restore(self.smoothed.mean)

    @property
    def covariance(self):
        """Cov[z_t | x], (T_i, q, q) per sequence."""
        return self.sequences.restore(self.smoothed.covariance)

    def sample(self, n=1, random_state=None):
        """Draw paths backwards: a list of n, each in the container of the input."""
        told = self.smoothed.found, self.smoothed.back, self.sequences.starts
        draws = root_filter.sample_paths(*told, generator(random_state), n)
        return [self.sequences.restore(path) for path in draws]

    def log_prob(self, z):
        """log p(z | x) of paths in the container of the input: -> (n_sequences,)."""
        z = self.sequences.gather(z, "paths")
        found, back, earlier = self.smoothed.found, self.smoothed.back, self._earlier()
        mean = found.mean.copy()
        gap = z[earlier + 1] - back.ahead[earlier]
        mean[earlier] += (back.gain[earlier] @ gap[..., None])[..., 0]
        white = np.linalg.solve(self._roots(), (z - mean)[..., None])[..., 0]
        return self.sequences.sums(-0.5 * (white**2).sum(axis=1)) - self._log_volume()

    def entropy(self):
        """-E[log p(z | x)] of whole paths, in nats: (n_sequences,)."""
        q = len(self.state.mean)
        return self._log_volume() + 0.5 * q * self.sequences.lengths

    def kl_to_prior(self):
        """KL(p(z | x) || p(z)) of whole paths in nats, its expectations by the rule: (n,)."""
        return -self.entropy() - self._log_prior()

    def expected_log_likelihood(self):
        """E[log p(x | z)], the expectation by the rule: (n_sequences,)."""
        shown = self.state.rule(self.state.h, self.smoothed.mean, self.smoothed.root)
        x = self.sequences.steps
        seen = ~np.isnan(x)
        square = _squares(np.where(seen, x - shown.mean, 0.0))
        spread = np.concatenate([shown.slope, shown.excess], axis=-1) * seen[..., None]
        square += spread @ spread.mT
        noise = np.where(seen[:, :, None] & seen[:, None, :], self.state.R, np.eye(x.shape[1]))
        return self.sequences.sums(
            _expected(noise, square, seen.sum(axis=1)) if len(x) else np.empty(0)
        )

    # -- its parts -----------------------------------------------------------------------------

    def _earlier(self):
        """Rows of all steps but the last ones."""
        last = np.zeros(len(self.sequences.steps), bool)
        last[self.sequences.starts[1:][self.sequences.lengths > 0] - 1] = True
        return np.flatnonzero(~last)

    def _roots(self):
        """Of the covariance of each state given the next one, if there is one: (N, q, q)."""
        roots, earlier = self.smoothed.found.root.copy(), self._earlier()
        roots[earlier] = self.smoothed.back.root[earlier]
        return roots

    def _log_volume(self):
        """log |2 pi Cov| / 2 of paths: (n_sequences,)."""
        diagonal = np.abs(np.diagonal(self._roots(), axis1=1, axis2=2))
        if (diagonal == 0).any() or _singular(self.state.Q):
            raise ValueError("the states have no density: their noise is singular")
        q = len(self.state.mean)
        return self.sequences.sums(np.log(diagonal).sum(axis=1) + 0.5 * q * LOG_2PI)

    def _log_prior(self):
        """E[log p(z)], each move by the rule's line at the smoothed state: (n_sequences,)."""
        state, smoothed, earlier = self.state, self.smoothed, self._earlier()
        if _singular(state.P):
            raise ValueError("the states have no density: the first one's covariance is singular")
        mean, P, q = smoothed.mean, smoothed.covariance, len(state.mean)
        told = state.rule(state.f, mean[earlier], smoothed.root[earlier])
        root, sd = smoothed.root[earlier], np.sqrt(np.diagonal(P[earlier], axis1=1, axis2=2))
        unit = np.where(sd > 0, sd, 1.0)[..., None]
        back = np.linalg.pinv(root / unit) @ (smoothed.back.gain[earlier] / unit)
        across = told.slope @ back @ P[earlier + 1]
        spread = np.concatenate([told.slope, told.excess], axis=-1)
        noise = _squares(mean[earlier + 1] - told.mean) + P[earlier + 1] + spread @ spread.mT
        steps = np.empty(len(mean))
        steps[earlier + 1] = _expected(state.Q, noise - across - across.mT, q)
        begins = np.array([a for a, b in pairwise(self.sequences.starts) if b > a], int)
        first = _squares(mean[begins] - state.mean) + P[begins]
        steps[begins] = _expected(state.P, first, q)
        return self.sequences.sums(steps)


def _squares(rows):
    return rows[:, :, None] * rows[:, None, :]


def _expected(S, square, n):
    """E[log N(e; 0, S)] of e with this second moment, n of whose entries count: -> (n_rows,)."""
    sd = np.sqrt(np.diagonal(S, axis1=-2, axis2=-1))
    S, square = (part / sd[..., None] / sd[..., None, :] for part in (S, square))
    trace = np.trace(np.linalg.solve(S, square), axis1=-2, axis2=-1)
    log_det = np.linalg.slogdet(S)[1] + 2 * np.log(sd).sum(axis=-1)
    return -0.5 * (n * LOG_2PI + log_det + trace)


def _singular(S):
    scale = np.sqrt(np.diagonal(S))
    if (scale == 0).any():
        return True
    return np.linalg.eigvalsh(S / np.outer(scale, scale))[0] <= 1e-14
