"""What each feature contributes to a row's log density: Shapley values over exact marginals.

The game's value of a set of features is log p(x_set), the others integrated out: 0 for none, the
score for all. So contributions sum to the score, a missing entry contributes nothing, and another
unit of a feature changes its own contribution only.
"""

from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np

EXACT_FEATURES = 10  # up to here all 2^d sets are weighed: beyond, random orders are drawn


class Explanation(NamedTuple):
    """Contributions to the score of each row, in nats."""

    contributions: np.ndarray  # (n, d) each row sums to its score
    standard_error: np.ndarray  # (n, d) of the contributions; 0 where they are exact


def shapley(density, X, n_orders, rng):
    """Contributions of the columns of X (n, d) to density.log_prob(X): -> Explanation."""
    if X.shape[1] <= EXACT_FEATURES:
        exact = _over_all_sets(density, X)
        found = Explanation(exact, np.zeros_like(exact))
    else:
        found = _over_random_orders(density, X, n_orders, rng)
    missing = np.isnan(X)  # they change no value: what stands there is rounding
    return Explanation(*(np.where(missing, 0.0, part) for part in found))


def _log_prob(density, X, columns):
    """log p(x_columns): (n, d) -> (n,)."""
    columns = np.asarray(columns, dtype=int)
    if not len(columns):
        return np.zeros(len(X))
    return density.marginal(columns).log_prob(X[:, columns])


def _over_all_sets(density, X):
    """Every set of features, with the share of orders in which it comes before a feature."""
    n, d = X.shape
    contributions = np.zeros((n, d))
    for size in range(d + 1):
        for members in combinations(range(d), size):
            value = _log_prob(density, X, members)[:, None]
            inside = np.zeros(d, dtype=bool)
            inside[list(members)] = True
            # a set counts for its members, which came last, and against those that come next
            gain = inside / (d * comb(d - 1, size - 1)) if size else np.zeros(d)
            loss = ~inside / (d * comb(d - 1, size)) if size < d else np.zeros(d)
            contributions += value * (gain - loss)
    return contributions


def _over_random_orders(density, X, n_orders, rng):
    """Orders and their reverses, drawn in pairs; the spread over pairs is the standard error."""
    pairs = max(2, n_orders // 2)
    total, squares = np.zeros(X.shape), np.zeros(X.shape)
    for _ in range(pairs):
        order = rng.permutation(X.shape[1])
        mean = (_along(density, X, order) + _along(density, X, order[::-1])) / 2
        total += mean
        squares += mean**2
    mean = total / pairs
    variance = np.maximum(squares / pairs - mean**2, 0.0)
    return Explanation(mean, np.sqrt(variance / (pairs - 1)))


def _along(density, X, order):
    """By how much each feature raises the log density of those before it: -> (n, d)."""
    rises, before = np.empty(X.shape), np.zeros(len(X))
    for j, column in enumerate(order):
        value = _log_prob(density, X, order[: j + 1])
        rises[:, column], before = value - before, value
    return rises
