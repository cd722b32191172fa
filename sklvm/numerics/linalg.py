"""Small linear algebra for stacks of matrices, and the normalisation that every E-step ends in."""

from math import isfinite

import numpy as np
from scipy.linalg.blas import dtrmm
from scipy.linalg.lapack import dpotrf, dtrtri

FEW = 32  # numbers that Python looks at faster than numpy


def whiteners(S):
    """Lower triangular A with A S A' = I for each matrix of the stack: (K, d, d) -> (K, d, d).

    Raises `numpy.linalg.LinAlgError` when a matrix is not positive definite.
    """
    if not isfinite(S.sum()):
        raise np.linalg.LinAlgError("a covariance matrix is not finite")
    A = np.array(S, order="C")
    for transposed in A.mT if A.shape[-1] else ():  # in LAPACK's layout, so both work in place
        _, info = dpotrf(transposed, overwrite_a=1)
        if info == 0:
            _, info = dtrtri(transposed, overwrite_c=1)
        if info:
            raise np.linalg.LinAlgError("a covariance matrix is not positive definite")
    return A


def lowest(values):
    """The smallest number of an array: of a few, a list finds it in a quarter of the time."""
    if values.ndim == 1 and 0 < len(values) < FEW:
        return min(values.tolist())
    return values.min(initial=np.inf)


def whiten_rows(diff, A):
    """Rows times A', in place where diff is C-contiguous: (n, d), lower triangular (d, d)."""
    if not len(diff):
        return diff
    return dtrmm(1.0, A.T, diff.T, trans_a=1, overwrite_b=1).T


def log_det(A):
    """log |S| of the matrices that A whitens: (K, d, d) -> (K,)."""
    return -2.0 * np.add.reduce(np.log(A.diagonal(axis1=-2, axis2=-1)), axis=-1)


def posterior_and_evidence(joint):
    """log p(x, z) -> p(z | x), log p(x): (n, K) -> (n, K), (n,).

    A row that no component explains (all -inf) has evidence -inf and a uniform posterior.
    """
    peak = joint.max(axis=1, keepdims=True)
    peak[~np.isfinite(peak)] = 0.0
    posterior = np.exp(joint - peak)
    total = posterior.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        evidence = (np.log(total) + peak)[:, 0]
    impossible = total == 0
    posterior += impossible
    posterior /= np.where(impossible, joint.shape[1], total)
    return posterior, evidence


def weighted_posterior_and_evidence(joint, weight):
    """weight p(z | x), log p(x): (n, K), (n,) -> (n, K), (n,); fast where `joint` is (K, n)'s view.

    `joint` is overwritten.
    """
    logs = joint.T
    peak = np.maximum.reduce(logs)
    if np.minimum.reduce(peak) == -np.inf:
        posterior, evidence = posterior_and_evidence(joint)
        return posterior * weight[:, None], evidence
    logs -= peak
    np.exp(logs, out=logs)
    total = np.add.reduce(logs)
    logs *= weight / total
    return joint, np.log(total) + peak


def log_cholesky(C):
    """Positive definite matrices in unconstrained coordinates: (K, d, d) -> (K, d (d + 1) / 2)."""
    L = np.linalg.cholesky(C)
    below = np.tril_indices(C.shape[-1], -1)
    return np.hstack([np.log(np.diagonal(L, axis1=1, axis2=2)), L[:, below[0], below[1]]])


def from_log_cholesky(v, d):
    """The inverse of `log_cholesky`: (K, d (d + 1) / 2) -> (K, d, d)."""
    L = np.zeros((len(v), d, d))
    L[:, range(d), range(d)] = np.exp(v[:, :d])
    below = np.tril_indices(d, -1)
    L[:, below[0], below[1]] = v[:, d:]
    return L @ L.mT
