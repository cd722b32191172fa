"""Whitening, log-Cholesky coordinates and the normalisation of log joints."""

import numpy as np
import pytest
from scipy.special import logsumexp

from sklvm.numerics.linalg import (
    from_log_cholesky,
    log_cholesky,
    log_det,
    posterior_and_evidence,
    whiteners,
)


def positive_definite(K, d, seed=0):
    G = np.random.default_rng(seed).standard_normal((K, d, d + 2))
    return G @ np.swapaxes(G, 1, 2)


@pytest.mark.parametrize("d", [1, 2, 7])
def test_whiteners_are_lower_triangular_and_whiten(d):
    S = positive_definite(4, d)
    A = whiteners(S)
    np.testing.assert_allclose(
        A @ S @ np.swapaxes(A, 1, 2), np.tile(np.eye(d), (4, 1, 1)), atol=1e-11
    )
    np.testing.assert_array_equal(A, np.tril(A))
    np.testing.assert_allclose(log_det(A), np.linalg.slogdet(S)[1], rtol=1e-12, atol=1e-12)


def test_whiteners_leave_the_input_alone_and_take_any_layout():
    S = positive_definite(3, 4)
    expected, copy = whiteners(S), S.copy()
    S.flags.writeable = False
    np.testing.assert_array_equal(whiteners(S), expected)
    np.testing.assert_allclose(whiteners(np.asfortranarray(S)), expected, rtol=1e-12)
    np.testing.assert_allclose(
        whiteners(np.broadcast_to(S[:1], S.shape))[2], expected[0], rtol=1e-12
    )
    np.testing.assert_array_equal(S, copy)


def test_whiteners_of_matrices_of_extreme_scale():
    units = np.array([1e-8, 1.0, 1e8])
    S = positive_definite(2, 3)
    A = whiteners(S * np.outer(units, units))
    np.testing.assert_allclose(A * units, whiteners(S), rtol=1e-10)


@pytest.mark.parametrize(
    "S",
    [
        [[1.0, 2.0], [2.0, 1.0]],  # indefinite
        [[0.0, 0.0], [0.0, 0.0]],
        [[1.0, 0.0], [0.0, np.nan]],
        [[np.inf, 0.0], [0.0, 1.0]],
    ],
)
def test_whiteners_refuse_what_is_not_positive_definite(S):
    with pytest.raises(np.linalg.LinAlgError):
        whiteners(np.stack([np.eye(2), np.array(S)]))


def test_posterior_and_evidence_against_scipy():
    joint = np.random.default_rng(1).normal(0, 30, (50, 4))
    joint[0] += 1e4
    joint[1] -= 1e4
    joint[2:6, 1] = -np.inf
    joint[7] = [-np.inf, -np.inf, -3.0, -np.inf]
    kept = joint.copy()
    posterior, evidence = posterior_and_evidence(joint)
    np.testing.assert_allclose(evidence, logsumexp(kept, axis=1), rtol=1e-13)
    np.testing.assert_allclose(posterior, np.exp(kept - evidence[:, None]), rtol=1e-10, atol=1e-300)
    np.testing.assert_allclose(posterior.sum(axis=1), 1.0, rtol=1e-14)
    assert (posterior[2:6, 1] == 0).all()
    np.testing.assert_array_equal(posterior[7], [0, 0, 1, 0])
    np.testing.assert_array_equal(joint, kept)


def test_a_row_that_no_component_explains():
    joint = np.array([[-np.inf, -np.inf], [0.0, -np.inf]])
    posterior, evidence = posterior_and_evidence(joint)
    np.testing.assert_array_equal(posterior, [[0.5, 0.5], [1.0, 0.0]])
    np.testing.assert_array_equal(evidence, [-np.inf, 0.0])


@pytest.mark.parametrize("d", [1, 2, 5])
def test_log_cholesky_round_trip(d):
    C = positive_definite(3, d, seed=2)
    v = log_cholesky(C)
    assert v.shape == (3, d * (d + 1) // 2)
    np.testing.assert_allclose(from_log_cholesky(v, d), C, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(log_cholesky(np.eye(d)[None]), 0.0, atol=1e-15)


def test_every_vector_is_a_positive_definite_matrix():
    v = np.random.default_rng(3).normal(0, 2, (20, 6))
    C = from_log_cholesky(v, 3)
    assert np.linalg.eigvalsh(C).min() > 0
    np.testing.assert_allclose(log_cholesky(C), v, rtol=1e-8, atol=1e-8)
