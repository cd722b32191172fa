"""Randomness is an argument: one local generator from what scikit-learn calls a random_state."""

import numpy as np
from sklearn.utils import check_random_state


def generator(random_state):
    """A numpy Generator: an int repeats, a RandomState moves on, None leaves numpy's own alone."""
    if random_state is None:
        return np.random.default_rng()
    return np.random.default_rng(check_random_state(random_state).randint(2**31 - 1))
