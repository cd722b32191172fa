"""The plain twin of the compiled passes of `kalman`: covariances, step by step, nothing shared.

It is what the kernels are tested on, and follows the book (Durbin & Koopman 2012, 4.4, 5.3, 6.4).
"""

import numpy as np

from .kalman_run import DIFFUSE, LOG_2PI, ROUNDING


def independent_entries(x, C, R):
    """Seen entries of a step with independent noise: values (o,), rows (o, k), variances (o,)."""
    seen = ~np.isnan(x)
    R = (np.diag(R) if R.ndim == 1 else R)[np.ix_(seen, seen)]
    L, D = np.eye(len(R)), np.zeros(len(R))
    for j in range(len(R)):
        left = R[j:, j] - (L[j:, :j] * D[:j]) @ L[j, :j]
        D[j] = left[0] if left[0] > 1e-15 * R[j, j] else 0.0
        L[j + 1 :, j] = left[1:] / D[j] if D[j] else 0.0
    both = np.linalg.solve(L, np.column_stack([x[seen], C[seen]]))
    return both[:, 0], both[:, 1:], D


def smooth_numpy(model, X, b):
    """One sequence: log p of each step, smoothed means (T, k), Cov (T, k, k), Cov(z_t+1, z_t).

    X (T, d) less its offsets, b (T, k).
    """
    k, T = len(model.A), len(X)
    B = np.zeros((k, 0)) if model.diffuse is None else model.diffuse
    m, P, infinite = model.mean, model.P, B @ B.T
    log_prob, steps = np.zeros(T), []
    for t in range(T):
        if t:
            m, P = model.A @ m + b[t], model.A @ P @ model.A.T + model.Q
            infinite = _clean(model.A @ infinite @ model.A.T, model.A, infinite)
        before, seen = (m, P, infinite), []
        for value, c, noise in zip(*independent_entries(X[t], model.C, model.R)):
            m, P, infinite, told, density = _see(m, P, infinite, value, c, noise)
            seen.append(told)
            log_prob[t] += density
        steps.append((before, (P, infinite), seen))
    return log_prob, *_backwards(model, steps)


def _clean(moved, A, infinite):
    size = np.abs(A) @ np.abs(infinite) @ np.abs(A.T)
    return np.where(np.abs(moved) > ROUNDING * size, moved, 0.0)


def _see(m, P, infinite, value, c, noise):
    """One entry: moments after it, what its innovation was, and its log density."""
    v, f, gain = value - c @ m, c @ P @ c + noise, P @ c
    f_infinite, gain_infinite = c @ infinite @ c, infinite @ c
    size = np.abs(c) @ np.abs(infinite) @ np.abs(c)
    if f_infinite <= np.sqrt(DIFFUSE) * size:
        K = gain / f
        keep = np.eye(len(m)) - np.outer(K, c)
        P = keep @ P @ keep.T + noise * np.outer(K, K)  # Joseph
        density = -0.5 * (LOG_2PI + np.log(f) + v * v / f)
        return m + K * v, P, infinite, (c, v, f, None, K, None), density
    K = gain_infinite / f_infinite
    keep = np.eye(len(m)) - np.outer(K, c)
    after = keep @ P @ keep.T + noise * np.outer(K, K)
    left = infinite - np.outer(K, gain_infinite)
    row = np.sqrt(np.diag(infinite))
    left[np.abs(left) <= ROUNDING * np.outer(row, row)] = 0.0
    bend = (K * f - gain) / f_infinite
    return m + K * v, after, left, (c, v, f, f_infinite, K, bend), 0.0


def _backwards(model, steps):
    """r and N as powers of 1 / kappa, (2 k,) and (2 k, 2 k), through all entries of all steps."""
    k, T = len(model.A), len(steps)
    r, N, twice = np.zeros(2 * k), np.zeros((2 * k, 2 * k)), np.kron(np.eye(2), model.A)
    means, covariances, lags = np.zeros((T, k)), np.zeros((T, k, k)), np.zeros((T, k, k))
    for t in range(T - 1, -1, -1):
        (m, P, infinite), filtered, seen = steps[t]
        F = np.hstack(filtered)
        following = model.A @ F @ twice.T + np.hstack([model.Q, np.zeros((k, k))])
        lags[t] = model.A @ filtered[0] - following @ N @ twice @ F.T
        r, N = twice.T @ r, twice.T @ N @ twice
        covariances[t] = filtered[0] - F @ N @ F.T
        for told in reversed(seen):
            r, N = _unsee(r, N, *told)
        means[t] = m + np.hstack([P, infinite]) @ r
    return means, covariances, lags


def _unsee(r, N, c, v, f, f_infinite, K, bend):
    k = len(c)
    L = np.eye(2 * k) - np.kron(np.eye(2), np.outer(K, c))
    if f_infinite is None:
        known = np.kron([[1.0, 0.0], [0.0, 0.0]], np.outer(c, c) / f)
        return L.T @ r + np.concatenate([c * v / f, 0 * c]), L.T @ N @ L + known
    L[:k, k:] += np.outer(bend, c)
    powers = [[0.0, 1.0], [1.0, -f / f_infinite]]
    known = np.kron(powers, np.outer(c, c) / f_infinite)
    return L.T @ r + np.concatenate([0 * c, c * v / f_infinite]), L.T @ N @ L + known
