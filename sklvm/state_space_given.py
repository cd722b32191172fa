"""Matrices of a state-space model that the user gave: numbers are kept, NaN is free."""

from typing import NamedTuple

import numpy as np

from .validation import checked_array, input_places


class Given(NamedTuple):
    """The matrices, NaN where an entry is free."""

    A: np.ndarray  # (q, q)
    Q: np.ndarray  # (q, q)
    C: np.ndarray  # (d, q)
    B: np.ndarray  # (q, m)
    D: np.ndarray  # (d, m)


def read_given(model, n_outputs, n_inputs):
    """What the constructor of a model was given, or one clear ValueError."""
    q = model.n_components
    A = _entries(model.transition_matrix, (q, q), "transition_matrix")
    Q = _entries(model.transition_covariance, (q, q), "transition_covariance")
    C = _entries(model.observation_matrix, (n_outputs, q), "observation_matrix")
    B = _of_inputs(model.input_matrix, (q, n_inputs), "input_matrix")
    D = _of_inputs(model.feedthrough_matrix, (n_outputs, n_inputs), "feedthrough_matrix")
    _check_noise(Q, model.transition_covariance, {"transition_matrix": A, "input_matrix": B})
    return Given(A, Q, C, B, D)


def _check_noise(Q, given, moving):
    """Refuse what is no covariance, and free entries of `moving` matrices that it cannot tell."""
    free, still = np.isnan(Q), np.diagonal(Q) == 0
    if free.all():
        return
    if free.any() and (Q[~np.eye(len(Q), dtype=bool)] != 0).any():
        raise ValueError(
            "transition_covariance with NaN (free) must be a diagonal matrix, or NaN in every "
            f"entry, got {given!r}"
        )
    if free.any() and (np.diagonal(Q) < 0).any():
        raise ValueError("transition_covariance has negative variances")
    if not free.any():
        checked_covariance(Q, Q.shape, "transition_covariance")
    for name, matrix in moving.items():
        if np.isnan(matrix[still]).any():
            raise ValueError(
                f"{name} has free entries (NaN) in rows of states without noise: they cannot be "
                "estimated; give them"
            )
        if not free.any() and np.isnan(matrix).any() and not _regular(Q, still):
            raise ValueError(f"transition_covariance is singular where {name} is free")


def read_inputs(input_matrix, feedthrough_matrix, columns, d, q):
    """B (q, m), D (d, m) and which of d + m columns are inputs, of a model from parameters."""
    given = [part for part in (input_matrix, feedthrough_matrix) if part is not None]
    m = np.shape(given[0])[-1] if given and np.ndim(given[0]) == 2 else 0
    if columns is not None and not given:
        raise ValueError("input_columns need input_matrix or feedthrough_matrix")
    pairs = (input_matrix, q, "input_matrix"), (feedthrough_matrix, d, "feedthrough_matrix")
    B, D = (
        np.zeros((n, m)) if part is None else checked_array(part, (n, m or None), name)
        for part, n, name in pairs
    )
    inputs = np.zeros(d + m, bool)
    if m:
        places = np.arange(d, d + m) if columns is None else input_places(columns, d + m)
        inputs[places] = True
    if inputs.sum() != m:
        raise ValueError(f"input_columns must name {m} of {d + m} columns, got {columns!r}")
    return B, D, inputs


def _of_inputs(given, shape, name):
    if not shape[1] and given is not None:
        raise ValueError(f"{name} needs input_columns")
    return np.empty(shape) if not shape[1] else _entries(given, shape, name)


def _entries(given, shape, name):
    """(shape) floats in which NaN is free; None is free throughout."""
    if given is None:
        return np.full(shape, np.nan)
    array = np.array(given, dtype=np.float64)
    filled = checked_array(np.where(np.isnan(array), 0.0, array), shape, name)
    return np.where(np.isnan(array), np.nan, filled)


def _regular(Q, still):
    return is_regular(Q[np.ix_(~still, ~still)])


def is_regular(S):
    """Whether a covariance matrix has full rank, in whatever units: that of the correlations."""
    variances = np.diagonal(S)
    if not len(S) or not (variances > 0).all():
        return not len(S)
    sd = np.sqrt(variances)
    return np.linalg.matrix_rank(S / sd[:, None] / sd, hermitian=True) == len(S)


def checked_covariance(S, shape, name):
    """A covariance matrix, which may be singular, or ValueError."""
    S = checked_array(S, shape, name)
    size = np.abs(S).max(initial=0.0)
    if S.shape[0] != S.shape[1] or not np.allclose(S, S.T, atol=1e-10 * size):
        raise ValueError(f"{name} must be symmetric, got {S!r}")
    if np.linalg.eigvalsh(S)[0] < -1e-10 * size:
        raise ValueError(f"{name} must be positive semi-definite, got {S!r}")
    return (S + S.T) / 2


def read_noise(covariance, d):
    """Variances (d,), or a covariance (d, d) that is not diagonal; or ValueError."""
    if np.ndim(covariance) == 2:
        covariance = checked_covariance(covariance, (d, d), "observation_covariance")
        if (covariance != np.diag(np.diagonal(covariance))).any():
            if not is_regular(covariance):
                raise ValueError("observation_covariance must be regular")
            return covariance
        covariance = np.diagonal(covariance)
    variances = checked_array(covariance, (d,), "observation_covariance")
    if not (variances > 0).all():
        raise ValueError("observation_covariance must have positive variances")
    return variances
