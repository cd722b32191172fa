"""The noise of measured columns: heavy-tailed, independent, about the moments of all rows."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import gammaln, stdtr

from .independent import Independent
from .statistics import Statistics

DF = 3.0  # tails that no outlier falls off, with a variance that is finite
BREADTH = 1.5  # standard deviations of all rows in a scale: of uniform noise it is closest to flat


@dataclass(frozen=True)
class Wide(Independent):
    """p(x) = prod_j t(x_j; DF, centre_j, scale_j), one component that no row changes."""

    base_measure = "lebesgue"
    centre: np.ndarray  # (d,)
    scale: np.ndarray  # (d,)

    @classmethod
    def of(cls, family):
        """About the moments of all rows."""
        return cls(family.mean, BREADTH * np.sqrt(family.variance))

    def _distance(self, X):
        """Squares in units of the scale: (n, d)."""
        return ((X - self.centre) / self.scale) ** 2

    def log_prob(self, X):
        constant = gammaln((DF + 1) / 2) - gammaln(DF / 2) - 0.5 * np.log(np.pi * DF)
        each = constant - np.log(self.scale) - (DF + 1) / 2 * np.log1p(self._distance(X) / DF)
        return np.nansum(each, axis=1, keepdims=True)

    def stats(self, X, resp):
        return Statistics()

    def m_step(self, stats):
        return self

    def log_prior(self):
        return 0.0

    def sample(self, z, rng):
        return self.centre + self.scale * rng.standard_t(DF, size=(len(z), len(self.scale)))

    def climb(self, x, missing, resp):
        return np.where(missing, self.centre, x)

    def candidates(self):
        return self.centre

    def cdf(self, X):
        return stdtr(DF, (X - self.centre) / self.scale)[:, None]

    def expectation(self):
        return self.centre[None]

    def variance(self):
        return DF / (DF - 2) * self.scale[None] ** 2

    def precisions(self, X):
        """Curvature of a parabola that touches -log p from above: (n, d) -> (n, 1, d, d)."""
        curvature = (DF + 1) / (DF + self._distance(X)) / self.scale**2
        return (curvature[:, :, None] * np.eye(len(self.scale)))[:, None]

    def take(self, order):
        return self

    def marginal(self, columns):
        return replace(self, centre=self.centre[columns], scale=self.scale[columns])

    def pack(self, other):
        return np.empty(0)

    def unpack(self, vector):
        return self

    @property
    def spec(self):
        raise AttributeError("noise is no emission that a model is told of")

    @property
    def n_parameters(self):
        return 0
