"""What states of networks share: rows in the units that training works in, and back."""

from typing import Any

import numpy as np


class StandardisedState:
    """A density of (x on its line - location) / scale, of which columns a `Likelihood` knows."""

    likelihood: Any
    location: np.ndarray  # (d,)
    scale: np.ndarray  # (d,)

    def check(self, X):
        self.likelihood.check(X)

    @property
    def n_features(self):
        return len(self.location)

    @property
    def given(self):
        """(d,) bool: columns that the density is given."""
        return self.likelihood.given(self.n_features)

    def says_nothing(self, X):
        """Which rows have no entry of what is modelled: (n, d) -> (n,) bool."""
        return (np.isnan(X) | self.given).all(axis=1)

    @property
    def base_measure(self):
        return self.likelihood.base_measure

    def predictive(self):
        return self

    def standardised(self, X):
        """Rows in the units of training: (n, d) -> (n, d)."""
        return (self.likelihood.to_line(X.astype(np.float64)) - self.location) / self.scale

    def in_units(self, x):
        """Standardised rows as they were: (..., d) -> (..., d)."""
        return self.likelihood.from_line(np.asarray(x) * self.scale + self.location)

    def log_jacobian(self, X):
        """Sum over what is seen, not given, of log |dx / d standardised x|: (n, d) -> (n,)."""
        slope = self.likelihood.log_slope(X.astype(np.float64)) + np.log(self.scale)
        return np.nansum(np.where(np.isnan(X) | self.given, 0.0, slope), axis=1)

    def mean_log_jacobian(self, rows):
        """Its weighted mean over `TrainingRows`."""
        return float(rows.weight @ self.log_jacobian(self.in_units(rows.X)) / rows.weight.sum())
