"""Matrices of a state-space model that the user gave: numbers are kept, NaN is free."""

from functools import partial
from typing import NamedTuple

import numpy as np

from .state_space_entries import Entries
from .validation import checked_array, input_places


class Given(NamedTuple):
    """The matrices, NaN where an entry is free."""

    A: np.ndarray  # (q, q)
    Q: np.ndarray  # (q, q)
    C: np.ndarray  # (d, q)
    B: np.ndarray  # (q, m)
    D: np.ndarray  # (d, m)
    entries: dict  # by these names (Q: of its diagonal) which are free, and one parameter

    def of_outputs(self, kept):
        """What is given of some of the features."""
        some = {name: self.entries[name].part(kept) for name in "CD"}
        return self._replace(C=self.C[kept], D=self.D[kept], entries={**self.entries, **some})


def read_given(model, n_outputs, n_inputs):
    """What the constructor of a model was given, or one clear ValueError."""
    q = model.n_components
    shapes = {
        "transition_matrix": (q, q),
        "transition_covariance": (q, q),
        "observation_matrix": (n_outputs, q),
        "input_matrix": (q, n_inputs),
        "feedthrough_matrix": (n_outputs, n_inputs),
    }
    if not n_inputs:
        _refuse_of_inputs(model)
    read = {name: _entries(getattr(model, name), shape, name) for name, shape in shapes.items()}
    _check_names({name: names for name, (_, names) in read.items()})
    A, Q, C, B, D = (values for values, _ in read.values())
    _check_noise(Q, model.transition_covariance, {"transition_matrix": A, "input_matrix": B})
    entries = [Entries.named(np.isnan(values), names) for values, names in read.values()]
    if np.isnan(Q).all() and entries[1].shared:
        raise ValueError("a transition_covariance that is free in every entry cannot share any")
    entries[1] = entries[1].part(np.diag_indices(q))
    return Given(A, Q, C, B, D, dict(zip("AQCBD", entries)))


def _check_names(names):
    """Refuse names (arrays of str, by matrix) that several matrices have, or a covariance."""
    Q = names["transition_covariance"]
    if (Q[~np.eye(len(Q), dtype=bool)] != "").any():
        raise ValueError("transition_covariance can have names on its diagonal only")
    owners = {}
    for matrix, array in names.items():
        for name in set(array.ravel()) - {""}:
            if owners.setdefault(name, matrix) != matrix:
                raise ValueError(
                    f"{name!r} is in {owners[name]} and in {matrix}: entries of one matrix can "
                    "share a parameter, those of two cannot"
                )


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


def _refuse_of_inputs(model):
    for name in ("input_matrix", "feedthrough_matrix"):
        if getattr(model, name) is not None:
            raise ValueError(f"{name} needs input_columns")


def _entries(given, shape, name):
    """(shape) floats in which NaN is free, and names or "": None is free throughout."""
    if given is None:
        return np.full(shape, np.nan), np.full(shape, "", dtype=object)
    given = np.array(given, dtype=object)
    is_name = _is_name(given)
    array = np.where(is_name, np.nan, given).astype(np.float64)
    filled = checked_array(np.where(np.isnan(array), 0.0, array), shape, name)
    return np.where(np.isnan(array), np.nan, filled), np.where(is_name, given, "")


@partial(np.vectorize, otypes=[bool])
def _is_name(entry):
    """Whether it is a string that is no number."""
    if not isinstance(entry, str):
        return False
    try:
        float(entry)
    except ValueError:
        return True
    return False


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
