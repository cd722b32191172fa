"""The highest point of a mixture's conditional density (Carreira-Perpinan 2000, mean shift)."""

import numpy as np

from ..numerics.linalg import posterior_and_evidence

ROWS = 1024  # that climb at one time


def joint_modes(X, log_weights, emission, max_iter=200, tol=1e-13):
    """Missing entries at the mode of p(x_missing | x_seen): (n, d) with NaN -> (n, d).

    Climbs from each component's own mode and keeps the highest end. A step of the emission's
    `climb` never lowers the density; the climb ends when it gains less than tol nats, relatively.
    `log_weights` are (K,), or (n, K) where each row has its own.
    """
    missing = np.isnan(X)
    log_weights = np.broadcast_to(log_weights, (len(X), np.shape(log_weights)[-1]))
    log_weights, emission = emission.unfolded(log_weights)
    completed = emission.complete(X)  # (n, K, d)
    best, height, (n, K, d) = X, np.full(len(X), -np.inf), completed.shape
    together = max(1, ROWS // max(1, n))  # components that rows start from at one time
    for first in range(0, K, together):
        starts = completed[:, first : first + together].swapaxes(0, 1)  # (k, n, d)
        only = np.repeat(np.eye(K)[first : first + together], n, axis=0)
        rows = [np.tile(part, (len(starts), 1)) for part in (missing, log_weights)]
        x = emission.climb(starts.reshape(-1, d), rows[0], only)
        ends, tops = _climbed(x, *rows, emission, max_iter, tol)
        for end, top in zip(ends.reshape(starts.shape), tops.reshape(len(starts), n), strict=True):
            best = np.where((top > height)[:, None], end, best)
            height = np.maximum(top, height)
    return best


def _climbed(x, missing, log_weights, emission, max_iter, tol):
    """Where rows (n, d) end, and how high: x is overwritten."""
    resp, top = height_of(x, log_weights, emission)
    going = np.arange(len(x))  # rows that still gain
    for _ in range(max_iter):
        there, before = emission.climb(x[going], missing[going], resp[going]), top[going]
        x[going] = there
        resp[going], top[going] = height_of(there, log_weights[going], emission)
        going = going[top[going] - before > tol * (1 + np.abs(top[going]))]
        if not len(going):
            break
    return x, top


def height_of(x, log_weights, emission):
    """Responsibilities and log density of complete rows: (n, d) -> (n, K), (n,)."""
    return posterior_and_evidence(log_weights + emission.log_prob(x))
