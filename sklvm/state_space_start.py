"""Where the fit of a state-space model starts: subspace identification from autocovariances."""

from typing import NamedTuple

import numpy as np

LAGS = 10  # longest history of a state, in steps, that the Hankel matrix sees
STABLE = 0.98  # largest spectral radius of a start
LEAST = 0.1  # share of a feature's variance that a start leaves to the noise


class Moments(NamedTuple):
    """Location, scale and autocovariances of the steps, missing entries left out pair by pair."""

    mean: np.ndarray  # (d,)
    sd: np.ndarray  # (d,)
    autocovariance: np.ndarray  # (lags + 1, d, d) E[x_t+l x_t'] of standardised features


def moments(chains):
    """Moments of weighted sequences."""
    seen = ~np.isnan(chains.X)
    lengths = np.diff(chains.starts)
    weight = np.repeat(chains.counts, lengths)[:, None] * seen
    mass = weight.sum(axis=0)
    X = np.where(seen, chains.X, 0.0)
    origin = X.sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    mean = origin + (weight * np.where(seen, X - origin, 0.0)).sum(axis=0) / mass
    X = np.where(seen, X - mean, 0.0)
    sd = np.sqrt((weight * X**2).sum(axis=0) / mass)
    X, left = X / sd, np.repeat(lengths, lengths) - np.arange(len(X))
    left += np.repeat(chains.starts[:-1], lengths)  # steps from here to the end, this one included
    most = int(min(2 * LAGS, max(lengths.max() - 1, 0)))
    seen = seen.astype(np.float64)
    found = [_covariance(X, seen, weight, lag, left > lag) for lag in range(most + 1)]
    return Moments(mean, sd, np.stack(found))


def _covariance(X, seen, weight, lag, has_later):
    """E[x_t+lag x_t'] over pairs of seen entries, 0 where there are none: (d, d)."""
    t = np.flatnonzero(has_later)
    w = weight[t].max(axis=1, initial=0.0)[:, None]  # of the sequence, wherever anything was seen
    sums = X[t + lag].T @ (w * X[t])
    pairs = seen[t + lag].T @ (w * seen[t])
    return np.where(pairs > 0, sums / np.where(pairs > 0, pairs, 1.0), 0.0)


def centred(chains, A, C):
    """The same sequences less the path of one first state, without noise, that fits them best.

    Where the first state is diffuse this changes no density, but states about zero lose no digits.
    Only states whose way to the steps is given (no NaN in A and C) have a part in it. Paths that
    explode are left alone.
    """
    lengths = np.diff(chains.starts)
    known = _given_all_the_way(A, C)
    A, C = A[np.ix_(known, known)], C[:, known]
    if not known.any() or np.abs(np.linalg.eigvals(A)).max() > 1 + 1e-9:
        return chains
    paths, power = [], C
    for _ in range(lengths.max()):
        paths.append(power)
        power = power @ A
    step = np.arange(len(chains.X)) - np.repeat(chains.starts[:-1], lengths)
    design = np.stack(paths)[step]  # (N, d, q)
    seen = ~np.isnan(chains.X)
    root = np.sqrt(np.repeat(chains.counts, lengths))[:, None]
    rows, values = (root[..., None] * design)[seen], (root * chains.X)[seen]
    first = np.linalg.lstsq(rows, values, rcond=None)[0]
    return chains._replace(X=chains.X - design @ first)


def _given_all_the_way(A, C):
    """(q,) states that move to such states only, by what is given, and are shown by it."""
    known = ~(np.isnan(A).any(axis=0) | np.isnan(C).any(axis=0))
    while (A[np.ix_(~known, known)] != 0).any():
        known &= ~(A[~known] != 0).any(axis=0)
    return known


def units_of_inputs(chains, given, y, u, with_intercept):
    """(m,) root mean squares of the inputs; ValueError where they are linearly dependent."""
    if not u.shape[1]:
        return np.empty(0)
    weight = np.repeat(chains.counts, np.diff(chains.starts))
    unit = np.sqrt((weight @ u**2) / weight.sum())
    begins = np.zeros(len(u), bool)
    begins[chains.starts[:-1]] = True
    one = np.ones((len(u), int(with_intercept)))
    designs = [(u[~begins][:, np.isnan(row)], "input_matrix") for row in given.B]
    for column, row in zip(y.T, given.D):
        free, seen = np.isnan(row), ~np.isnan(column)
        if free.any():
            designs.append((np.hstack([u[:, free], one])[seen], "feedthrough_matrix"))
    for design, name in designs:
        size = np.sqrt((design**2).sum(axis=0))
        if design.shape[1] and (
            not (size > 0).all() or np.linalg.matrix_rank(design / size) < design.shape[1]
        ):
            raise ValueError(
                f"input_columns are linearly dependent over the steps that tell of {name} (with "
                "fit_intercept a constant input is, too): drop some, or give entries"
            )
    return unit


def explained_by_inputs(chains, y, u, D, with_intercept):
    """D (d, m) by least squares where it is free (NaN): where the fit starts."""
    weight = np.repeat(chains.counts, np.diff(chains.starts))
    one = np.ones((len(u), int(with_intercept)))
    D = D.copy()
    for j, row in enumerate(D):
        seen, free = ~np.isnan(y[:, j]) & (weight > 0), np.isnan(row)
        root = np.sqrt(weight[seen])[:, None]
        gap = y[seen, j] - u[seen][:, ~free] @ row[~free]
        design = np.column_stack([u[seen][:, free], one[seen]])
        size = np.sqrt((design**2).mean(axis=0))
        size = np.where(size > 0, size, 1.0)
        found = np.linalg.lstsq(root * design / size, root[:, 0] * gap, rcond=None)[0] / size
        row[free] = found[: free.sum()]
    return D


class Matrices(NamedTuple):
    """A start, of standardised features."""

    A: np.ndarray  # (q, q)
    Q: np.ndarray  # (q, q)
    C: np.ndarray  # (d, q)
    R: np.ndarray  # (d,)


def starts(autocovariance, q):
    """Subspaces that a long and a short history show, and principal components that move."""
    lags, d = len(autocovariance) - 1, autocovariance.shape[1]
    longest, least = min(LAGS, (lags + 1) // 2), -(-q // d) + 1
    for half in sorted({min(longest, least), min(longest, 2 * least), longest}):
        yield subspace(autocovariance, q, half)
    if q <= d and lags:
        yield principal(autocovariance, q)


def directions(S, C):
    """Loadings (d, q) of states from some that are given (C, NaN where free), largest entries 1.

    A state goes with what is correlated (S) with the features whose loadings are given; one without
    such loadings is a principal component.
    """
    known = np.nan_to_num(C)
    vectors = np.linalg.eigh(S)[1][:, ::-1]
    principal = vectors[:, np.arange(C.shape[1]) % len(S)]
    found = np.where((known != 0).any(axis=0), S @ known, principal)
    size = np.abs(found).max(axis=0)
    return found / np.where(size > 0, size, 1.0)


def subspace(autocovariance, q, half):
    """From the Hankel matrix of autocovariances, which is O K, O = (C, C A, ...).

    Ho & Kalman (1966). States that it does not show are white noise along the leading directions of
    what is left.
    """
    d = autocovariance.shape[1]
    A, C = np.diag(0.5 / (1.0 + np.arange(q))), np.zeros((d, q))
    shown = min(q, max(half - 1, 0) * d)
    if shown:
        A[:shown, :shown], C[:, :shown] = _realised(autocovariance, half, shown)
    spread = autocovariance[0] - C[:, :shown] @ C[:, :shown].T
    values, vectors = np.linalg.eigh(spread)
    for i in range(shown, q):
        rank = (i - shown) % d
        C[:, i] = vectors[:, -1 - rank] * np.sqrt(max(values[-1 - rank], LEAST))
    return _with_noise(autocovariance, A, C)


def principal(autocovariance, q):
    """States are principal components of the steps, A their autocovariance."""
    values, vectors = np.linalg.eigh(autocovariance[0])
    noise = values[:-q].mean() if q < len(values) else 0.0
    size = np.sqrt(np.maximum(values[-q:] - noise, LEAST))
    C = vectors[:, -q:] * size
    back = vectors[:, -q:] / size
    return _with_noise(autocovariance, _stable(back.T @ autocovariance[1] @ back), C)


def _with_noise(autocovariance, A, C):
    """Noise that leaves states of about unit variance, and the features theirs."""
    values, vectors = np.linalg.eigh(np.eye(len(A)) - A @ A.T)
    Q = (vectors * np.maximum(values, 1 - STABLE**2)) @ vectors.T
    R = np.maximum(np.diagonal(autocovariance[0]) - (C**2).sum(axis=1), LEAST)
    return Matrices(A, Q, C, R)


def _stable(A):
    radius = np.abs(np.linalg.eigvals(A)).max()
    return A * min(1.0, STABLE / radius) if radius > 0 else A


def _realised(autocovariance, half, q):
    """A, and C of states with about unit variance, from the Hankel matrix of `half` lags."""
    d = autocovariance.shape[1]
    hankel = np.block([[autocovariance[i + j + 1] for j in range(half)] for i in range(half)])
    U, size, _ = np.linalg.svd(hankel)
    O = U[:, :q] * np.sqrt(np.maximum(size[:q], 1e-8 * size[0]))
    A = np.linalg.lstsq(O[:-d], O[d:], rcond=1e-8)[0]
    C = O[:d]
    explained = np.einsum("ij,ij->i", C, C)
    return _stable(A), C * np.sqrt((1 - LEAST) / max(1 - LEAST, explained.max()))
