"""Means and covariances of all rows, in passes block by block, with or without missing entries."""

import numpy as np

from ..emissions.covariance import Penalty
from ..emissions.dense import Full
from ..emissions.gaussian import Gaussians
from .blocks import BLOCK, has_gaps, sum_blocks, wide

NEAR = 100.0  # squared means per variance up to which sums of squares lose no digit that counts


def sample_moments(X, weight):
    """Weighted mean and covariance of complete rows in one pass: -> (d,), (d, d).

    Sums are about the mean of the first block, so no large square is subtracted; where the rows lie
    near zero, and where they weigh the same, they are used as they are.
    """
    first = wide(X[:BLOCK])
    origin = first.mean(axis=0)
    if (origin**2 <= NEAR * first.var(axis=0)).all():
        origin = None
    shared = weight[0] if (weight == weight[0]).all() else None

    def sums(x, w):
        diff = x if origin is None else x - origin
        if shared is None:
            root = np.sqrt(w)
            diff = diff * root[:, None]
            return root @ diff, diff.T @ diff
        return np.full(len(x), shared) @ diff, shared * (diff.T @ diff)

    total = weight.sum()
    first, second = sum_blocks(sums, (X, weight))
    shift = first / total
    mean = shift if origin is None else origin + shift
    return mean, second / total - np.outer(shift, shift)


def sample_mean(X, weight):
    """Weighted mean of complete rows: -> (d,)."""
    origin = wide(X[:BLOCK]).mean(axis=0)
    (first,) = sum_blocks(lambda x, w: (w @ (x - origin),), (X, weight))
    return origin + first / weight.sum()


def centred_rows(X, weight):
    """The mean (d,) of complete rows, and rows about it with rows' rows = their covariance."""
    mean = sample_mean(X, weight)
    return mean, np.sqrt(weight / weight.sum())[:, None] * (X - mean)


def column_moments(X, weight):
    """Weighted mean and variance of what is seen of each column: -> (d,), (d,)."""

    def sums(x, w):
        seen = ~np.isnan(x)
        return (
            w @ np.where(seen, x - origin, 0.0),
            w @ np.where(seen, (x - origin) ** 2, 0.0),
            w @ seen,
        )

    origin = wide(X[0])
    for column in np.flatnonzero(np.isnan(origin)):
        origin = np.where(np.arange(X.shape[1]) == column, _first_seen(X[:, column]), origin)
    for _ in range(2):  # the second pass is about the mean, so no large square is subtracted
        first, second, mass = sum_blocks(sums, (X, weight))
        origin = origin + first / mass
    return origin, second / mass - (first / mass) ** 2


def _first_seen(column):
    return column[np.argmin(np.isnan(column))]


def pooled_moments(X, weight, max_iter=50, tol=1e-4):
    """Mean and covariance of one Gaussian: sample moments, or the EM estimate where X has NaN.

    With NaN one pseudo-observation of the observed variances keeps the matrix invertible.
    """
    if not has_gaps(X):
        return sample_moments(X, weight)
    mean, variance = column_moments(X, weight)
    gaussian = Gaussians(
        mean[None], Full.of(np.diag(variance)[None], Penalty(0.0, 0.0 * np.eye(len(mean))))
    )
    total = weight.sum()

    def moments(x, w):
        return (gaussian.stats(x, w[:, None]),)

    for iteration in range(max_iter):
        (stats,) = sum_blocks(moments, (X, weight))
        shift, scatter = stats.centred()
        mean = (gaussian.means + shift)[0]
        S = (scatter[0] + np.diag(variance)) / (total + 1)
        change = np.abs(S - gaussian.cov.S[0]) / np.sqrt(np.outer(variance, variance))
        gaussian = Gaussians(mean[None], Full.of(((S + S.T) / 2)[None], gaussian.cov.penalty))
        if iteration and change.max() < tol:
            break
    return gaussian.means[0], gaussian.cov.S[0]
