"""The compiled halves of `missing`: one factorisation per pattern, on the missing side."""

from math import log, sqrt

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _cholesky(P, index, L):
    """Lower Cholesky factor of P[index, index], into the leading corner of L."""
    m = len(index)
    for i in range(m):
        for j in range(i + 1):
            total = P[index[i], index[j]]
            for k in range(j):
                total -= L[i, k] * L[j, k]
            L[i, j] = sqrt(total) if i == j else total / L[j, j]


@njit(cache=True, nogil=True)
def _solve(L, b, m):
    """Solve L L' x = b in place."""
    for i in range(m):
        for k in range(i):
            b[i] -= L[i, k] * b[k]
        b[i] /= L[i, i]
    for i in range(m - 1, -1, -1):
        for k in range(i + 1, m):
            b[i] -= L[k, i] * b[k]
        b[i] /= L[i, i]


@njit(cache=True, nogil=True)
def fill_rows(diff, rows, starts, missing, P, log_det):
    d = P.shape[0]
    L = np.empty((d, d))
    b = np.empty(d)
    for u in range(len(missing)):
        gone = np.flatnonzero(missing[u])
        kept = np.flatnonzero(~missing[u])
        m = len(gone)
        _cholesky(P, gone, L)
        half = 0.0
        for i in range(m):
            half += log(L[i, i])
        for row in rows[starts[u] : starts[u + 1]]:
            for i in range(m):
                b[i] = 0.0
                for j in kept:
                    b[i] -= P[gone[i], j] * diff[row, j]
            _solve(L, b, m)
            for i in range(m):
                diff[row, gone[i]] = b[i]
            log_det[row] = 2.0 * half


@njit(cache=True, nogil=True)
def add_conditional_covariances(total, mass, missing, P):
    d = P.shape[0]
    L = np.empty((d, d))
    b = np.empty(d)
    for u in range(len(missing)):
        gone = np.flatnonzero(missing[u])
        m = len(gone)
        _cholesky(P, gone, L)
        for j in range(m):
            b[:m] = 0.0
            b[j] = mass[u]
            _solve(L, b, m)
            for i in range(m):
                total[gone[i], gone[j]] += b[i]
