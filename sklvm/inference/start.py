"""Starts that depend on the weighted set of rows alone: not on their order, units or repetition."""

from typing import NamedTuple

import numpy as np
from sklearn.cluster import KMeans, kmeans_plusplus

from ..emissions.covariance import Penalty
from ..emissions.dense import Full
from ..emissions.gaussian import Gaussians
from .blocks import blocks, sum_blocks

SAMPLE = 5000  # rows that the short runs see: the cost of restarts does not grow with n


class Rows(NamedTuple):
    """Rows and what they weigh; with `labels` (-1 unknown) where some latents are known."""

    X: np.ndarray  # (n, d)
    weight: np.ndarray  # (n,)


def lexicographic(X):
    """The order that sorts rows by their first column, ties by the next ones; NaN last: -> (n,)."""
    order = np.argsort(X[:, 0], kind="stable")
    first = X[order, 0]
    same = (first[1:] == first[:-1]) | (np.isnan(first[1:]) & np.isnan(first[:-1]))
    tied = np.concatenate([[False], same]) | np.concatenate([same, [False]])
    if X.shape[1] > 1 and tied.any():
        group = np.cumsum(np.concatenate([[True], ~same]))[tied]
        rows = order[tied]
        order[tied] = rows[np.lexsort((*X[rows, :0:-1].T, group))]
    return order


def distinct(X, weight):
    """The distinct rows in lexicographic order and the weight of each: -> order, weight.

    `order` holds one position in X for each distinct row.
    """
    order = lexicographic(X)
    new = np.ones(len(order), bool)
    for rows in blocks(len(order) - 1):
        here, there = X[order[rows.start + 1 : rows.stop + 1]], X[order[rows]]
        same = (here == there) | (np.isnan(here) & np.isnan(there))
        new[rows.start + 1 : rows.stop + 1] = ~same.all(axis=1)
    return order[new], np.add.reduceat(weight[order], np.flatnonzero(new))


def spread(weight, n_points):
    """Positions of n_points equally spaced points on the cumulative weight: -> (n_points,)."""
    cumulative = np.cumsum(weight)
    points = (np.arange(n_points) + 0.5) * (cumulative[-1] / n_points)
    return np.minimum(np.searchsorted(cumulative, points, side="right"), len(weight) - 1)


def representative(X, weight, size=SAMPLE):
    """At most `size` distinct rows that stand for all rows, with the total weight of all."""
    order, mass = distinct(X, weight)
    if len(order) > size:
        chosen, counts = np.unique(spread(mass, size), return_counts=True)
        order, mass = order[chosen], counts * (weight.sum() / size)
    return Rows(X[order], mass)


def column_moments(X, weight):
    """Weighted mean and variance of what is seen of each column: -> (d,), (d,)."""

    def sums(x, w):
        seen = ~np.isnan(x)
        return (
            w @ np.where(seen, x - origin, 0.0),
            w @ np.where(seen, (x - origin) ** 2, 0.0),
            w @ seen,
        )

    origin = X[0]
    for column in np.flatnonzero(np.isnan(origin)):
        origin = np.where(np.arange(X.shape[1]) == column, _first_seen(X[:, column]), origin)
    for _ in range(2):  # the second pass is about the mean, so no large square is subtracted
        first, second, mass = sum_blocks(sums, (X, weight))
        origin = origin + first / mass
    return origin, second / mass - (first / mass) ** 2


def _first_seen(column):
    return column[np.flatnonzero(~np.isnan(column))[0]]


def pooled_moments(X, weight, max_iter=50, tol=1e-4):
    """Mean and covariance of one Gaussian: sample moments, or the EM estimate where X has NaN.

    With NaN one pseudo-observation of the observed variances keeps the matrix invertible.
    """
    mean, variance = column_moments(X, weight)
    gaussian = Gaussians(
        mean[None], Full.of(np.diag(variance)[None], Penalty(0.0, 0.0 * np.eye(len(mean))))
    )
    total = weight.sum()

    def moments(x, w):
        stats = gaussian.stats(x, w[:, None])
        return stats, w @ np.isnan(x)

    for iteration in range(max_iter):
        stats, missing = sum_blocks(moments, (X, weight))
        shift, scatter = stats.centred()
        mean = (gaussian.means + shift)[0]
        if not missing.any():
            return mean, scatter[0] / total
        S = (scatter[0] + np.diag(variance)) / (total + 1)
        change = np.abs(S - gaussian.cov.S[0]) / np.sqrt(np.outer(variance, variance))
        gaussian = Gaussians(mean[None], Full.of(((S + S.T) / 2)[None], gaussian.cov.penalty))
        if iteration and change.max() < tol:
            break
    return gaussian.means[0], gaussian.cov.S[0]


def complete_by_draw(X, mean, S, rng):
    """Missing entries drawn from one Gaussian given the seen ones: a start for rows with NaN."""
    if not np.isnan(X).any():
        return X
    pooled = Gaussians(mean[None], Full.of(S[None], Penalty(0.0, np.zeros_like(S))))
    return pooled.complete_sample(X, np.zeros(len(X), int), rng)


def _kmeans(Z, weight, K, rng):
    seed = int(rng.integers(2**31 - 1))
    return KMeans(K, n_init=1, max_iter=30, random_state=seed).fit(Z, sample_weight=weight).labels_


def _nearest(Z, centres):
    return ((Z[:, None, :] - centres) ** 2).sum(axis=2).argmin(axis=1)


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
