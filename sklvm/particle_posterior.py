"""p(z | x) by particles: paths of states of every sequence."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .inference.randomness import generator


@dataclass(frozen=True)
class ParticlePosterior:
    """Paths drawn backwards through the particles of each sequence; it has no density.

    `mean` and `covariance` are those of single steps, over paths that are always the same.
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
        """Draw paths: a list of n, each in the container of the input."""
        rng = generator(random_state)
        draws = np.concatenate(list(self.state.paths(self.sequences, n, lambda: rng)), axis=1)
        return [self.sequences.restore(path) for path in draws]
