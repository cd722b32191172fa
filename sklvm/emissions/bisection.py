"""Rows divided among parts without chance: the widest part is bisected until there are enough."""

import numpy as np

LLOYD = 5  # steps of k-means at the end: a cut may pass through the middle of a group
MIDDLE = 1e-9  # in units of a part's spread: rows nearer to its mean are on the same side of it


def bisected(X, weight, M):
    """The part that each row is in: (n, d) without gaps, (n,) -> (n,) integers below M.

    Var-Part of Su & Dy (2007), A deterministic method for initializing K-means clustering: a part
    is cut at its mean, across its principal axis in standardised columns. Order and repetition of
    rows change nothing, units neither.
    """
    part = np.zeros(len(X), int)
    if M == 1 or not len(X):
        return part
    Z = _standardised(X, weight)
    axes = [_principal(Z, weight)]
    for new in range(1, M):
        widest = int(np.argmax([spread for spread, _, _ in axes]))
        spread, mean, axis = axes[widest]
        inside = np.flatnonzero(part == widest)
        along = (Z[inside] - mean) @ axis
        part[inside[along > MIDDLE * np.abs(along).max(initial=0.0)]] = new
        axes[widest] = _principal(Z[part == widest], weight[part == widest])
        axes.append(_principal(Z[part == new], weight[part == new]))
    for _ in range(LLOYD):
        part = _nearest(Z, weight, part, M)
    return part


def _nearest(Z, weight, part, M):
    """The part whose mean each row is nearest to; of parts without rows, none."""
    held = np.eye(M)[part] * weight[:, None]
    mass = held.sum(axis=0)
    means = held.T @ Z / np.where(mass > 0, mass, 1.0)[:, None]
    distance = np.where(mass > 0, (means**2).sum(axis=1), np.inf) - 2 * Z @ means.T
    return distance.argmin(axis=1)


def _standardised(X, weight):
    share = weight / weight.sum()
    Z = X - share @ X
    sd = np.sqrt(share @ Z**2)
    return Z / np.where(sd > 0, sd, 1.0)


def _principal(Z, weight):
    """Sum of squares along the principal axis, mean and axis, of a part: number, (d,), (d,)."""
    if not len(Z):
        return 0.0, np.zeros(Z.shape[1]), np.zeros(Z.shape[1])
    mean = weight @ Z / weight.sum()
    diff = Z - mean
    values, vectors = np.linalg.eigh((diff * weight[:, None]).T @ diff)
    axis = vectors[:, -1]
    return values[-1], mean, axis * np.sign(axis[np.abs(axis).argmax()])
