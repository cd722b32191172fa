"""The compiled halves of `missing`: one factorisation per pattern, on the smaller side."""

from math import log, sqrt

import numpy as np

from .compiled import exact, ordered


@ordered
def _cholesky(M, index, L):
    """Lower Cholesky factor of M[index, index] into the corner of L, and its log-determinant."""
    half = 0.0
    for i in range(len(index)):
        for j in range(i + 1):
            total = M[index[i], index[j]]
            for k in range(j):
                total -= L[i, k] * L[j, k]
            L[i, j] = sqrt(total) if i == j else total / L[j, j]
        half += log(L[i, i])
    return 2.0 * half


@ordered
def _forward(L, b, m):
    """Solve L x = b in place."""
    for i in range(m):
        for k in range(i):
            b[i] -= L[i, k] * b[k]
        b[i] /= L[i, i]


@ordered
def _solve(L, b, m):
    """Solve L L' x = b in place."""
    _forward(L, b, m)
    for i in range(m - 1, -1, -1):
        for k in range(i + 1, m):
            b[i] -= L[k, i] * b[k]
        b[i] /= L[i, i]


@ordered
def _regress(M, to, of, x, b):
    """b_i = sum_j M[to_i, of_j] x_j."""
    for i in range(len(to)):
        total = 0.0
        for j in of:
            total += M[to[i], j] * x[j]
        b[i] = total


@exact
def _split(missing, gone, kept):
    """Positions of missing and seen entries, and how many are missing."""
    m = 0
    for j in range(len(missing)):
        if missing[j]:
            gone[m] = j
            m += 1
        else:
            kept[j - m] = j
    return m


@exact
def fill_rows(diff, rows, starts, missing, S, P, log_det_S, log_det):
    K, _, d = diff.shape
    gone, kept = np.empty(d, np.int64), np.empty(d, np.int64)
    L = np.empty((d, d))
    b, spread = np.empty(d), np.zeros(d)
    seen_log_det = 0.0
    for u in range(len(missing)):
        m = _split(missing[u], gone, kept)
        by_precision = 2 * m <= d
        for k in range(K):
            if k < len(S):  # one matrix may serve all components
                if by_precision:
                    seen_log_det = log_det_S[k] + _cholesky(P[k], gone[:m], L)
                else:
                    seen_log_det = _cholesky(S[k], kept[: d - m], L)
            one = min(k, len(S) - 1)
            for row in rows[starts[u] : starts[u + 1]]:
                x = diff[k, row]
                if by_precision:
                    _fill_by_precision(x, gone[:m], kept[: d - m], P[one], L, b)
                else:
                    _fill_by_covariance(x, gone[:m], kept[: d - m], S[one], L, b, spread)
                log_det[k, row] = seen_log_det


@exact
def _fill_by_precision(x, gone, kept, P, L, b):
    _regress(P, gone, kept, x, b)
    _solve(L, b, len(gone))
    for i in range(len(gone)):
        x[gone[i]] = -b[i]


@exact
def _fill_by_covariance(x, gone, kept, S, L, b, spread):
    o = len(kept)
    for j in range(o):
        b[j] = x[kept[j]]
    _solve(L, b, o)
    for j in range(o):
        spread[kept[j]] = b[j]
    _regress(S, gone, kept, spread, b)
    for i in range(len(gone)):
        x[gone[i]] = b[i]


@exact
def add_conditional_covariances(total, mass, missing, S, P):
    d = S.shape[1]
    gone, kept = np.empty(d, np.int64), np.empty(d, np.int64)
    L, half = np.empty((d, d)), np.empty((d, d))
    for u in range(len(missing)):
        m = _split(missing[u], gone, kept)
        for k in range(len(S)):
            if mass[u, k] == 0.0:
                continue
            if 2 * m <= d:
                _cholesky(P[k], gone[:m], L)
                _add_inverse(total[k], mass[u, k], gone[:m], L, half)
            else:
                _cholesky(S[k], kept[: d - m], L)
                _add_remainder(total[k], mass[u, k], gone[:m], kept[: d - m], S[k], L, half)


@ordered
def _add_inverse(total, mass, gone, L, half):
    """total += mass P_mm^-1, where L L' = P_mm: half becomes L^-1, row i its column i."""
    m = len(gone)
    for j in range(m):
        half[j, j] = 1.0 / L[j, j]
        for i in range(j + 1, m):
            left = 0.0
            for k in range(j, i):
                left -= L[i, k] * half[j, k]
            half[j, i] = left / L[i, i]
    for i in range(m):
        for j in range(i + 1):
            inner = 0.0
            for k in range(i, m):
                inner += half[i, k] * half[j, k]
            total[gone[i], gone[j]] += mass * inner
            if i != j:
                total[gone[j], gone[i]] += mass * inner


@ordered
def _add_remainder(total, mass, gone, kept, S, L, half):
    """total += mass (S_mm - S_mo S_oo^-1 S_om), where L L' = S_oo."""
    o = len(kept)
    for i in range(len(gone)):
        for k in range(o):
            half[i, k] = S[gone[i], kept[k]]
        _forward(L, half[i], o)
        for j in range(i + 1):
            left = S[gone[i], gone[j]]
            for k in range(o):
                left -= half[i, k] * half[j, k]
            total[gone[i], gone[j]] += mass * left
            if i != j:
                total[gone[j], gone[i]] += mass * left


@exact
def add_conditional_variances(variances, missing, S, P):
    d = S.shape[1]
    total, mass = np.empty(S.shape), np.ones((1, len(S)))
    for u in range(len(missing)):
        total[:] = 0.0
        add_conditional_covariances(total, mass, missing[u : u + 1], S, P)
        for k in range(len(S)):
            for j in range(d):
                variances[u, k, j] += total[k, j, j]
