"""Starts that depend on the weighted set of rows alone: not on their order, units or repetition."""

from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans, kmeans_plusplus

from ..emissions.covariance import Penalty
from ..emissions.dense import Full
from ..emissions.gaussian import Gaussians
from .blocks import blocks, wide

CHUNK = 8192  # rows that are sorted by several columns at once
SAMPLE = 10_000  # rows that the short runs see: the cost of restarts does not grow with n
LLOYD = 2500  # of them, rows whose k-means clusters divide the others


class Rows(NamedTuple):
    """Rows and what they weigh; with `labels` (-1 unknown) where some latents are known."""

    X: np.ndarray  # (n, d)
    weight: np.ndarray  # (n,)


def lexicographic(X):
    """The order that sorts rows by their first column, ties by the next ones; NaN last: -> (n,).

    Rows that are equal keep their order. Beside the result it needs 8 bytes per row, and 16 per
    row of a value that many rows share.
    """
    order = np.argsort(X[:, 0])  # not stable: that would need 4 bytes more, and ties follow anyway
    _refine(X, order, 1)
    return order


def _refine(X, order, j):
    """Sort, in place, each run of rows that tie in column j - 1 by the columns from j on."""
    tied = np.concatenate([[False], ~_changes(X, order, slice(j - 1, j)), [False]])
    first, stop = np.flatnonzero(tied[1:] & ~tied[:-1]), np.flatnonzero(tied[:-1] & ~tied[1:]) + 1
    large = stop - first > CHUNK
    for a, b in zip(first[large], stop[large]):
        run = order[a:b]
        run.sort()
        if j < X.shape[1]:
            run[:] = run[np.argsort(X[run, j])]
            _refine(X, run, j + 1)
    first, length = first[~large], (stop - first)[~large]
    end = np.cumsum(length)
    cuts = np.searchsorted(end, np.arange(CHUNK, end[-1] if len(end) else 0, CHUNK))
    for some, n in zip(np.split(first, cuts), np.split(length, cuts)):
        group = np.repeat(np.arange(len(n)), n)
        places = np.repeat(some - np.cumsum(n) + n, n) + np.arange(len(group))
        rows = order[places]
        order[places] = rows[np.lexsort((rows, *X[rows, : j - 1 : -1].T, group))]


def _changes(X, order, columns):
    """Whether each row after the first differs from the one before it: -> (n - 1,) bool."""
    new = np.empty(len(order) - 1, bool)
    for rows in blocks(len(new)):
        x = X[order[rows.start : rows.stop + 1], columns]
        same = (x[1:] == x[:-1]) | (np.isnan(x[1:]) & np.isnan(x[:-1]))
        new[rows] = ~same.all(axis=1)
    return new


def distinct(X, weight):
    """The distinct rows in lexicographic order and the weight of each: -> order, weight.

    `order` holds one position in X for each distinct row.
    """
    order = lexicographic(X)
    return _merged(order, _new(X, order), weight[order])


def _new(X, order):
    """Whether each row in order differs from the one before it: -> (n,) bool."""
    return np.concatenate([[True], _changes(X, order, slice(None))])


def _merged(order, new, mass):
    return order[new], np.add.reduceat(mass, np.flatnonzero(new))


def spread(weight, n_points, order=None):
    """Positions of n_points equally spaced points on the cumulative weight: -> (n_points,).

    With an order (n,) the weights are taken in that order. They are added up block by block.
    """
    points = (np.arange(n_points) + 0.5) * (weight.sum() / n_points)
    places = np.full(n_points, len(weight) - 1)
    before, done = 0.0, 0
    for rows in blocks(len(weight)):
        cumulative = before + np.cumsum(weight[rows] if order is None else weight[order[rows]])
        before = cumulative[-1]
        end = np.searchsorted(points, before)
        places[done:end] = rows.start + np.searchsorted(cumulative, points[done:end], side="right")
        done = end
    return places


def representative(X, weight, size=SAMPLE):
    """At most `size` distinct rows that stand for all rows, with the total weight of all."""
    order = lexicographic(X)
    new = _new(X, order)
    if np.count_nonzero(new) <= size:
        order, mass = _merged(order, new, weight[order])
        return Rows(wide(X[order]), mass)
    chosen, mass = thinned(weight, size, order)
    order = order[chosen]
    order, mass = _merged(order, _new(X, order), mass)
    return Rows(wide(X[order]), mass)


def thinned(weight, size, order=None):
    """Equally spaced positions on the cumulative weight, `size` at most, and what each stands for.

    -> positions in ascending order, weights with the same sum.
    """
    chosen, counts = np.unique(spread(weight, size, order), return_counts=True)
    return chosen, counts * (weight.sum() / size)


def complete_by_draw(X, mean, S, rng):
    """Missing entries drawn from one Gaussian given the seen ones: a start for rows with NaN."""
    if not np.isnan(X).any():
        return X
    pooled = Gaussians(mean[None], Full.of(S[None], Penalty(0.0, np.zeros_like(S))))
    return pooled.complete_sample(X, np.zeros(len(X), int), rng)


def _kmeans(Z, weight, K, rng):
    kmeans = KMeans(K, n_init=1, max_iter=30, random_state=int(rng.integers(2**31 - 1)))
    if len(Z) > LLOYD:
        some, mass = thinned(weight, LLOYD)
        if len(some) >= 10 * K:  # else few rows have nearly all the weight
            return kmeans.fit(Z[some], sample_weight=mass).predict(Z)
    return kmeans.fit(Z, sample_weight=weight).labels_


def _nearest(Z, centres):
    return cdist(Z, centres, "sqeuclidean").argmin(axis=1)


def _kmeans_plus_plus(Z, weight, K, rng):
    centres, _ = kmeans_plusplus(
        Z, K, sample_weight=weight, random_state=int(rng.integers(2**31 - 1))
    )
    return _nearest(Z, centres)


def _random_rows(Z, weight, K, rng):
    return _nearest(Z, Z[rng.choice(len(Z), K, replace=False, p=weight / weight.sum())])


def _one_hot(partition):
    def responsibilities(Z, weight, K, rng):
        return np.eye(K)[partition(Z, weight, min(K, len(Z)), rng)]

    return responsibilities


def _random(Z, weight, K, rng):
    resp = rng.uniform(size=(len(Z), K))
    return resp / resp.sum(axis=1, keepdims=True)


STARTS = {
    "kmeans": _one_hot(_kmeans),
    "k-means++": _one_hot(_kmeans_plus_plus),
    "random": _random,
    "random_from_data": _one_hot(_random_rows),
}
