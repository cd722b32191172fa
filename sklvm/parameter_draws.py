"""Imputation that knows how uncertain the parameters are: each copy has parameters of its own."""

import numpy as np

from .inference.bootstrap import drawn_states, weighted_rows
from .inference.em import EMState, em


class DrawnParameters:
    """Draws a model's parameters: EM with random weights, unless a class has a posterior."""

    def _copies_of_drawn_parameters(self, X, varying, n_draws, rng):
        """X (n, d) filled by draws of n_draws densities in turn: -> (n_draws n, d)."""
        densities = self._parameter_draws(varying, n_draws, rng)
        return np.concatenate(
            [
                self._filled(X, varying, lambda rows, p=density: p.fill_sample(rows, rng))
                for density in densities
            ]
        )

    def _parameter_draws(self, X, n_draws, rng):
        """Densities with parameters from their posterior given the rows X (n, d_varying)."""
        if not isinstance(self.run_.state, EMState):
            raise ValueError(f"{type(self).__name__} has no posterior of its parameters to draw")
        seen = ~np.isnan(X)
        few = np.flatnonzero(seen.sum(axis=0) < 2)
        if len(few):
            raise ValueError(
                "parameters='posterior' refits the model to the rows of X: it needs two entries in "
                f"each of its columns, and {len(few)} have fewer; give it the whole table"
            )
        X = X[seen.any(axis=1)]
        return drawn_states(lambda: self._refit(*weighted_rows(X, rng)), n_draws)

    def _refit(self, X, weight):
        """EM over other rows, from the fitted state: -> Run."""
        settings = {"max_iter": self.max_iter, "tol": self.tol, "accelerate": "squarem"}
        return em(self.run_.state, (X, weight), **settings)
