"""Matrices of a state-space model that the user gave: numbers are kept, NaN is free."""

from typing import NamedTuple

import numpy as np

from .validation import checked_array


class Given(NamedTuple):
    """The matrices, NaN where an entry is free."""

    A: np.ndarray  # (q, q)
    Q: np.ndarray  # (q, q)
    C: np.ndarray  # (d, q)


def read_given(transition_matrix, transition_covariance, observation_matrix, q, n_channels):
    """What the constructor was given, or one clear ValueError."""
    A = _entries(transition_matrix, (q, q), "transition_matrix")
    Q = _entries(transition_covariance, (q, q), "transition_covariance")
    C = _entries(observation_matrix, (n_channels, q), "observation_matrix")
    free = np.isnan(Q)
    if not free.all():
        if free.any() and (Q[~np.eye(q, dtype=bool)] != 0).any():
            raise ValueError(
                "transition_covariance with NaN (free) must be a diagonal matrix, or NaN in every "
                f"entry, got {transition_covariance!r}"
            )
        if not free.any():
            checked_covariance(Q, (q, q), "transition_covariance")
        still = np.diagonal(Q) == 0
        if np.isnan(A[still]).any():
            raise ValueError(
                "transition_matrix has free entries (NaN) in rows of states without noise: they "
                "cannot be estimated; give them"
            )
        if free.any() and (np.diagonal(Q) < 0).any():
            raise ValueError("transition_covariance has negative variances")
        if not free.any() and np.isnan(A).any() and not _regular(Q, still):
            raise ValueError("transition_covariance is singular where transition_matrix is free")
    return Given(A, Q, C)


def _entries(given, shape, name):
    """(shape) floats in which NaN is free; None is free throughout."""
    if given is None:
        return np.full(shape, np.nan)
    array = np.array(given, dtype=np.float64)
    filled = checked_array(np.where(np.isnan(array), 0.0, array), shape, name)
    return np.where(np.isnan(array), np.nan, filled)


def _regular(Q, still):
    some = Q[np.ix_(~still, ~still)]
    return not len(some) or np.linalg.matrix_rank(some, hermitian=True) == len(some)


def checked_covariance(S, shape, name):
    """A covariance matrix, which may be singular, or ValueError."""
    S = checked_array(S, shape, name)
    size = np.abs(S).max(initial=0.0)
    if S.shape[0] != S.shape[1] or not np.allclose(S, S.T, atol=1e-10 * size):
        raise ValueError(f"{name} must be symmetric, got {S!r}")
    if np.linalg.eigvalsh(S)[0] < -1e-10 * size:
        raise ValueError(f"{name} must be positive semi-definite, got {S!r}")
    return (S + S.T) / 2
