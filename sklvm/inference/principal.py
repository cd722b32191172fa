"""Principal components as maximum likelihood: probabilistic PCA in closed form."""

from typing import NamedTuple

import numpy as np

from ..emissions.factor_analyzers import FLOOR
from ..numerics.leading import largest_eigenpairs

LOG_2PI = np.log(2 * np.pi)


class Principal(NamedTuple):
    """The maximum of the likelihood (Tipping & Bishop 1999, 7-8), and its value."""

    W: np.ndarray  # (d, q) loadings, descending
    noise: float  # variance
    objective: float = np.nan  # nats per unit weight
    without_components: float = np.nan  # the same of noise alone, where a search would start


def principal_of_covariance(S, q):
    """From the covariance of the rows (d, d)."""
    return _principal(*largest_eigenpairs(S, min(q, len(S) - 1)), np.trace(S), q)


def principal_of_rows(rows, q):
    """From centred rows (n, d) with rows' rows = covariance, n < d, on the n x n side."""
    n, d = rows.shape
    q_used = min(q, n, d - 1)
    values, left = largest_eigenpairs(rows @ rows.T, q_used)
    values = np.maximum(values, 0.0)
    vectors = rows.T @ left / np.sqrt(np.maximum(values, np.finfo(float).tiny))
    return _principal(values, vectors, np.einsum("ij,ij->", rows, rows), q)


def _principal(values, vectors, total, q):
    """From the leading eigenpairs of a covariance with this trace; surplus loadings are zero."""
    d, used = vectors.shape
    left = max(total - values.sum(), 0.0)
    noise = max(left / (d - used), FLOOR * total / d)
    W = np.zeros((d, q))
    W[:, :used] = vectors * np.sqrt(np.maximum(values - noise, 0.0))
    variances = np.maximum(values, noise)
    log_det = np.log(variances).sum() + (d - used) * np.log(noise)
    fit = (values / variances).sum() + left / noise
    alone = d * (1 + np.log(total / d))
    return Principal(W, noise, *(-0.5 * (d * LOG_2PI + term) for term in (log_det + fit, alone)))
