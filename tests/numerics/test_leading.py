"""The largest eigenpairs, from a guess and outright, against all of them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sklvm.numerics.leading import largest_eigenpairs, leading_eigenpairs, orthonormal


def spectrum(values, seed=0):
    """A symmetric matrix with these eigenvalues, and their vectors."""
    n = len(values)
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]
    return (Q * values) @ Q.T, Q


def test_a_guess_becomes_the_eigenvectors():
    values = np.concatenate([[900.0, 400.0, 100.0], np.linspace(2.0, 0.1, 57)])
    A, Q = spectrum(values)
    asked = []

    def multiply(V):
        asked.append(V.shape)
        return A @ V

    guess = np.random.default_rng(1).standard_normal((60, 8))
    found, vectors, basis = leading_eigenpairs(multiply, guess, 3)
    assert_allclose(found, values[:3], rtol=1e-10)
    assert_allclose(np.abs(vectors.T @ Q[:, :3]), np.eye(3), atol=1e-6)
    assert_allclose(basis.T @ basis, np.eye(8), atol=1e-12)
    cold = len(asked)
    leading_eigenpairs(multiply, basis, 3)
    assert len(asked) - cold == 1 < cold


def test_eigenvalues_that_stand_close_are_given_up():
    A, _ = spectrum(np.linspace(2.0, 1.0, 60))
    guess = np.random.default_rng(1).standard_normal((60, 8))
    values, vectors, _ = leading_eigenpairs(lambda V: A @ V, guess, 3)
    assert values is None and vectors is None


@pytest.mark.parametrize("q", [0, 1, 3, 5, 9])
def test_the_largest_outright(q):
    values = np.array([5.0, 4.0, 3.0, 1.0, 0.0])
    A, Q = spectrum(values)
    found, vectors = largest_eigenpairs(A, q)
    q = min(q, 5)
    assert_allclose(found, values[:q], atol=1e-12)
    assert_allclose(np.abs(vectors.T @ Q[:, :q]), np.eye(q), atol=1e-10)


def test_a_basis_of_the_columns():
    V = np.random.default_rng(0).standard_normal((20, 4)) * [1.0, 1e-6, 1e6, 1.0]
    B = orthonormal(V)
    assert_allclose(B.T @ B, np.eye(4), atol=1e-12)
    assert_allclose(B @ (B.T @ V), V, rtol=1e-8, atol=1e-12)
