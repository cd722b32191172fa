"""Conditioning of Gaussians on the entries that were seen, for any number of patterns at once."""

from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

NEGLIGIBLE = 1e-30  # relative weight that no sum of squares can feel


class Holes(NamedTuple):
    """The incomplete rows of a block, sorted by which entries they miss."""

    rows: np.ndarray  # (m,) positions in the block, grouped by pattern
    starts: np.ndarray  # (u + 1,) where each pattern's group begins in `rows`
    missing: np.ndarray  # (u, d) True where the pattern misses the entry


class Matrices(NamedTuple):
    """Covariance matrices from both sides: conditioning works on the smaller one.

    One for each of K components, or a single one for all of them.
    """

    S: np.ndarray  # (K or 1, d, d)
    P: np.ndarray  # (K or 1, d, d) inverses
    log_det: np.ndarray  # (K or 1,) log |S|


def find_holes(X):
    """The incomplete rows of X, or None where every entry is seen: (n, d) -> Holes."""
    missing = np.isnan(X)
    rows = np.flatnonzero(missing.any(axis=1))
    if not len(rows):
        return None
    group = pattern_groups(missing[rows])
    order = np.argsort(group, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(group))])
    return Holes(rows[order], starts, missing[rows[order[starts[:-1]]]])


def pattern_groups(missing):
    """Rows with one pattern get one number, counted from 0: (m, d) bool -> (m,) integers."""
    bits = np.packbits(missing, axis=1)
    words = np.zeros((len(bits), -(-bits.shape[1] // 8) * 8), np.uint8)
    words[:, : bits.shape[1]] = bits
    group = np.zeros(len(bits), np.int64)
    for word in words.view(np.uint64).T:  # 64 columns at a time
        rank = np.unique(word, return_inverse=True)[1]
        group = np.unique(group * len(bits) + rank, return_inverse=True)[1]
    return group


def fill(diff, holes, matrices):
    """Conditional means of the missing entries, in place, and log |S_oo| of each row of the block.

    diff (K, n, d) holds rows less the mean of each component: -> (K, n).

    With the precision matrix P, x_m | x_o ~ N(-P_mm^-1 P_mo x_o, P_mm^-1) about the mean
    (Rasmussen & Williams 2006, A.6 with the block inverse A.11), or with the covariance matrix S,
    x_m | x_o ~ N(S_mo S_oo^-1 x_o, ...): whichever matrix to factorise is smaller.
    """
    from .missing_kernels import fill_rows

    log_det = _log_dets(diff, matrices)
    S, P, whole = matrices
    with _singular_is_an_error():
        fill_rows(diff, holes.rows, holes.starts, holes.missing, S, P, whole, log_det)
    return log_det


@contextmanager
def _singular_is_an_error():
    """A pivot of zero in compiled algebra is what numpy calls a LinAlgError."""
    try:
        yield
    except ZeroDivisionError:
        raise np.linalg.LinAlgError("a covariance matrix is singular") from None


def _log_dets(diff, matrices):
    return np.broadcast_to(matrices.log_det[:, None], diff.shape[:2]).copy()


def conditional_covariance(holes, matrices, resp):
    """Sum over rows of resp_nk Cov(x_m | x_o, k), zero outside the missing block.

    resp (n, K) -> (K, d, d); for a single matrix the sum over components: (1, d, d).
    """
    from .missing_kernels import add_conditional_covariances

    mass = np.add.reduceat(_for(matrices, resp)[holes.rows], holes.starts[:-1], axis=0)
    mass[mass < NEGLIGIBLE * mass.max(axis=0)] = 0.0
    total = np.zeros(matrices.S.shape)
    with _singular_is_an_error():
        add_conditional_covariances(total, mass, holes.missing, matrices.S, matrices.P)
    return total


def conditional_variances(holes, matrices):
    """Var(x_j | x_o, k) of the entries that each pattern misses, 0 of others: -> (u, K, d)."""
    from .missing_kernels import add_conditional_variances

    variances = np.zeros((len(holes.missing), *matrices.S.shape[:2]))
    with _singular_is_an_error():
        add_conditional_variances(variances, holes.missing, matrices.S, matrices.P)
    return variances


def _for(matrices, resp):
    return resp if len(matrices.S) == resp.shape[1] else resp.sum(axis=1, keepdims=True)


def fill_numpy(diff, holes, matrices):
    """`fill` with padded batched algebra: the plain twin that the compiled kernel is tested on."""
    log_det = _log_dets(diff, matrices)
    for k, rows in enumerate(diff):
        P = matrices.P[min(k, len(matrices.P) - 1)]
        padded, missing = _padded(holes, P)
        seen_part = np.where(missing, 0.0, rows[holes.rows])
        pull = np.where(missing, seen_part @ P, 0.0)
        rows[holes.rows] = seen_part - np.linalg.solve(padded, pull[..., None])[..., 0]
        log_det[k, holes.rows] += np.linalg.slogdet(padded)[1]
    return log_det


def conditional_covariance_numpy(holes, matrices, resp):
    """`conditional_covariance` with padded batched algebra."""
    total = np.zeros(matrices.S.shape)
    for k, weight in enumerate(_for(matrices, resp)[holes.rows].T):
        padded, missing = _padded(holes, matrices.P[k])
        block = missing[:, :, None] & missing[:, None, :]
        total[k] = np.einsum("n,nij->ij", weight, np.where(block, np.linalg.inv(padded), 0.0))
    return total


def conditional_variances_numpy(holes, matrices):
    """`conditional_variances` with padded batched algebra."""
    one = holes._replace(
        rows=np.arange(len(holes.missing)), starts=np.arange(len(holes.missing) + 1)
    )
    inverses = [np.linalg.inv(_padded(one, P)[0]) for P in matrices.P]
    spread = np.stack([inverse.diagonal(axis1=1, axis2=2) for inverse in inverses], axis=1)
    return np.where(holes.missing[:, None], spread, 0.0)


def _padded(holes, P):
    """P_mm of each incomplete row, with the identity in place of what was seen."""
    missing = np.repeat(holes.missing, np.diff(holes.starts), axis=0)  # (m, d)
    block = missing[:, :, None] & missing[:, None, :]
    return np.where(block, P, np.eye(len(P))), missing
