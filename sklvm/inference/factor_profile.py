"""The likelihood of factor analysis, loadings maximised out: a function of log uniquenesses."""

from functools import partial

import numpy as np
from scipy.linalg import eigh

from ..emissions.covariance import Penalty
from ..emissions.family import full_rank
from .ascend import ascend

SHORT_RUN = 10  # iterations from each start, to pick the best one
FLOOR = 1e-8  # smallest uniqueness, as a share of the variance
LOG_2PI = np.log(2 * np.pi)


def profile_factors(rows, S, weight, q, state_of, *, penalty, max_iter, tol, callback=None):
    """Maximum likelihood factors by L-BFGS over log uniquenesses (Joreskog 1967).

    From S (d, d), or from centred rows (n, d), n < d, with rows' rows = S and S None;
    `state_of(W, psi, penalty, floor)` makes the state; penalty is c of -(c/2) sum_j s_jj / psi_j.
    """
    sd = np.sqrt((rows**2).sum(axis=0) if S is None else np.diag(S))
    spectrum = _row_spectrum(rows / sd, q) if S is None else _spectrum(S / np.outer(sd, sd), q)
    starts = [np.full(len(sd), 0.5)]
    if S is not None:
        starts.append(_start(S / np.outer(sd, sd), weight, q))
    constant = -0.5 * len(sd) * LOG_2PI - np.log(sd).sum()
    soft = penalty / weight

    def value_and_gradient(log_u):
        u = np.exp(log_u)
        theta, L = spectrum(u)
        fit = log_u.sum() + (1 / u).sum() + (np.log(theta) - theta + 1).sum()
        value = -0.5 * (fit + soft * (1 / u).sum())
        return value, -0.5 * ((L**2).sum(axis=1) + u - 1 - soft) / u

    def state(log_u):
        u = np.exp(log_u)
        W = np.zeros((len(sd), q))
        _, L = spectrum(u)
        W[:, : L.shape[1]] = sd[:, None] * L
        return state_of(W, sd**2 * u, Penalty(0.0, penalty * sd**2), FLOOR * sd**2)

    bounds = [(np.log(FLOOR), np.log(2.0))] * len(sd)
    settings = {"bounds": bounds, "tol": tol, "offset": constant}
    climb = partial(ascend, value_and_gradient, state_of=state, **settings)
    best = max(starts, key=lambda start: climb(np.log(start), max_iter=SHORT_RUN).objective)
    return climb(np.log(best), max_iter=max_iter, callback=callback)


def _start(R, weight, q):
    """Joreskog's start (1 - q / 2d) / r^jj from a correlation matrix: -> (d,)."""
    d = len(R)
    inverse = np.diag(np.linalg.inv(full_rank(R, weight)))
    return np.clip(max(0.5, 1 - 0.5 * q / d) / inverse, 0.005, 1.0)


def _spectrum(R, q):
    """u -> the q largest eigenvalues (at least 1) of u^-1/2 R u^-1/2, and their loadings."""
    d = len(R)

    def leading(u):
        root = np.sqrt(u)
        values, vectors = eigh(R / np.outer(root, root), subset_by_index=[max(0, d - q), d - 1])
        return _loadings(values[::-1], vectors[:, ::-1], root)

    return leading


def _row_spectrum(rows, q):
    """The same from centred rows (n, d) with n < d, on the n x n side."""
    n = len(rows)

    def leading(u):
        root = np.sqrt(u)
        scaled = rows / root
        values, left = eigh(scaled @ scaled.T, subset_by_index=[max(0, n - q), n - 1])
        vectors = (scaled.T @ left) / np.sqrt(np.maximum(values, 1e-300))
        return _loadings(values[::-1], vectors[:, ::-1], root)

    return leading


def _loadings(values, vectors, root):
    theta = np.maximum(values, 1.0)
    return theta, root[:, None] * vectors * np.sqrt(theta - 1)
