"""The highest point of a mixture's conditional density (Carreira-Perpinan 2000, mean shift)."""

import numpy as np

from ..numerics.linalg import posterior_and_evidence


def joint_modes(X, log_weights, emission, max_iter=200, tol=1e-10):
    """Missing entries at the mode of p(x_missing | x_seen): (n, d) with NaN -> (n, d).

    Climbs from each component's conditional mean and keeps the highest end; every step solves the
    mixture's curvature restricted to the missing entries, which never lowers the density.
    """
    missing = np.isnan(X)
    completed = emission.complete(X)  # (n, K, d)
    best, height = None, np.full(len(X), -np.inf)
    for k in range(completed.shape[1]):
        x = completed[:, k].copy()
        for _ in range(max_iter):
            step = _step(x, missing, log_weights, emission)
            x -= step
            if np.abs(step).max(initial=0.0) <= tol * (1 + np.abs(x).max(initial=0.0)):
                break
        _, log_density = posterior_and_evidence(log_weights + emission.log_prob(x))
        higher = log_density > height
        best = x if best is None else np.where(higher[:, None], x, best)
        height = np.where(higher, log_density, height)
    return best


def _step(x, missing, log_weights, emission):
    """Weighted gradient over weighted curvature, in the missing entries: (n, d)."""
    resp, _ = posterior_and_evidence(log_weights + emission.log_prob(x))
    curvature = resp[:, :, None, None] * emission.precisions(x)  # (n, K, d, d)
    pull = np.einsum("nkij,nkj->ni", curvature, x[:, None, :] - emission.means)
    block = missing[:, :, None] & missing[:, None, :]
    padded = np.where(block, curvature.sum(axis=1), np.eye(x.shape[1]))
    return np.linalg.solve(padded, np.where(missing, pull, 0.0)[..., None])[..., 0]
