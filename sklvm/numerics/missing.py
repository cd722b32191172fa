"""Conditioning of Gaussians on the entries that were seen, for any number of patterns at once."""

from typing import NamedTuple

import numpy as np


class Holes(NamedTuple):
    """The incomplete rows of a block, sorted by which entries they miss."""

    rows: np.ndarray  # (m,) positions in the block, grouped by pattern
    starts: np.ndarray  # (u + 1,) where each pattern's group begins in `rows`
    missing: np.ndarray  # (u, d) True where the pattern misses the entry


def find_holes(X):
    """The incomplete rows of X, or None where every entry is seen: (n, d) -> Holes."""
    missing = np.isnan(X)
    rows = np.flatnonzero(missing.any(axis=1))
    if not len(rows):
        return None
    keys = np.packbits(missing[rows], axis=1)
    _, first, group = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    group = group.ravel()
    order = np.argsort(group, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(group))])
    return Holes(rows[order], starts, missing[rows[first]])


def fill(diff, holes, P):
    """Conditional means of the missing entries, in place, and log |P_mm| of each row of the block.

    With the precision matrix P, x_m | x_o ~ N(-P_mm^-1 P_mo x_o, P_mm^-1) about the mean
    (Rasmussen & Williams 2006, A.6 with the block inverse A.11): diff (n, d) -> (n,).
    """
    from .missing_kernels import fill_rows

    log_det = np.zeros(len(diff))
    fill_rows(diff, holes.rows, holes.starts, holes.missing, np.ascontiguousarray(P), log_det)
    return log_det


def conditional_covariance(holes, P, resp):
    """Sum over rows of resp_n P_mm^-1, zero outside the missing block: resp (n,) -> (d, d)."""
    from .missing_kernels import add_conditional_covariances

    mass = np.add.reduceat(resp[holes.rows], holes.starts[:-1])
    total = np.zeros_like(P, order="C")
    add_conditional_covariances(total, mass, holes.missing, np.ascontiguousarray(P))
    return total


def fill_numpy(diff, holes, P):
    """`fill` with padded batched algebra: the plain twin that the compiled kernel is tested on."""
    log_det = np.zeros(len(diff))
    padded, missing = _padded(holes, P)
    seen_part = np.where(missing, 0.0, diff[holes.rows])
    pull = np.where(missing, seen_part @ P, 0.0)
    diff[holes.rows] = seen_part - np.linalg.solve(padded, pull[..., None])[..., 0]
    log_det[holes.rows] = np.linalg.slogdet(padded)[1]
    return log_det


def conditional_covariance_numpy(holes, P, resp):
    """`conditional_covariance` with padded batched algebra."""
    padded, missing = _padded(holes, P)
    block = missing[:, :, None] & missing[:, None, :]
    return np.einsum("n,nij->ij", resp[holes.rows], np.where(block, np.linalg.inv(padded), 0.0))


def _padded(holes, P):
    """P_mm of each incomplete row, with the identity in place of what was seen."""
    missing = np.repeat(holes.missing, np.diff(holes.starts), axis=0)  # (m, d)
    block = missing[:, :, None] & missing[:, None, :]
    return np.where(block, P, np.eye(len(P))), missing
