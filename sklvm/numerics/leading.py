"""The largest eigenvalues of a large symmetric matrix, from a good guess of their vectors."""

import numpy as np
from scipy.linalg.lapack import dgeqrf, dorgqr, dsyevr

SPARE = 5  # vectors beyond those asked for: they set the rate of convergence
CLOSE = 1e-6  # residual, as a share of its eigenvalue, that ends the iteration
MOST = 12  # products with the matrix, after which all eigenvalues are computed


def leading_eigenpairs(multiply, guess, q):
    """The q largest eigenpairs of a positive semidefinite matrix: (q,) descending, (n, q), guess.

    By orthogonal iteration with Rayleigh-Ritz steps (Golub & Van Loan 2013, 8.2.4 and 8.3.8) on
    the span of guess (n, p), p >= q; `multiply` is the matrix, (n, p) -> (n, p). The last value is
    the guess for a matrix near by. The values are None where the largest ones stand so little
    apart from the others that it takes long.
    """
    V = orthonormal(guess)
    for _ in range(MOST):
        AV = multiply(V)
        values, turn = np.linalg.eigh(V.T @ AV)
        values, turn = values[::-1], turn[:, ::-1]
        V, AV = V @ turn, AV @ turn
        residual = np.sqrt(((AV[:, :q] - V[:, :q] * values[:q]) ** 2).sum(axis=0))
        if (residual <= CLOSE * np.abs(values[:q])).all():
            return values[:q], V[:, :q], V
        V = orthonormal(AV)
    return None, None, V


def largest_eigenpairs(A, q):
    """The q largest eigenpairs of a symmetric matrix, at most all: (q,) descending, (n, q)."""
    n, some = len(A), min(max(q, 1), len(A))
    values, vectors, _, _, info = dsyevr(A, range="I", il=n - some + 1, iu=n, lower=1)
    if info:
        raise np.linalg.LinAlgError("the eigenvalues of a matrix were not found")
    return values[:some][::-1][:q], vectors[:, ::-1][:, :q]


def orthonormal(V):
    """An orthonormal basis of the columns: (n, p) -> (n, p)."""
    qr, tau, _, _ = dgeqrf(V)
    return dorgqr(qr, tau)[0]
