"""Parameters drawn by the weighted-likelihood bootstrap (Newton & Raftery 1994).

A draw is the state that EM reaches, from the fitted one, when every row has a random weight. For
many rows it is a draw from the posterior, whatever the prior; what priors a state has stay in it.
"""

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ..warn import warn_user
from .start import distinct


def random_weights(counts, rng):
    """Dirichlet weights with the sum of the counts: (m,) -> (m,).

    A row weighs what one exponential variable for each time that it is there adds up to.
    """
    weight = rng.standard_gamma(counts)
    return weight * (counts.sum() / weight.sum())


def weighted_rows(X, rng):
    """The distinct rows and a random weight of each, n in all: -> (m, d), (m,)."""
    order, count = distinct(X, np.ones(len(X)))
    return X[order], random_weights(count, rng)


def drawn_states(refit, n_draws):
    """n_draws states; refit() is the Run of one fit to data with new random weights."""
    late = 0
    for _ in range(n_draws):
        run = refit()
        late += not run.converged
        yield run.state
    if late:
        warn_user(
            f"{late} of {n_draws} draws of the parameters did not converge: increase max_iter or "
            "tol",
            ConvergenceWarning,
        )
