"""Covariance structures as values: scikit-learn's shapes, inverses, scaling, refusals."""

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from sklvm.emissions.covariance import Penalty
from sklvm.emissions.family import STRUCTURES
from tests.emissions.builders import covariance

NAMES = ["full", "tied", "diag", "spherical"]


def fitted_by_sklearn(name):
    X = np.random.default_rng(0).standard_normal((200, 3)) @ np.random.default_rng(1).normal(
        size=(3, 3)
    )
    return GaussianMixture(2, covariance_type=name, random_state=0).fit(X), X


@pytest.mark.parametrize("name", NAMES)
def test_the_shapes_are_those_of_scikit_learn(name):
    peer, X = fitted_by_sklearn(name)
    cov = STRUCTURES[name].expand(peer.covariances_, 2, 3, Penalty(0.0, np.zeros((3, 3))))
    np.testing.assert_allclose(cov.compact, peer.covariances_, rtol=1e-12)
    np.testing.assert_allclose(type(cov).invert(cov.compact), peer.precisions_, rtol=1e-9)
    log_det, distance = cov.log_det_and_mahalanobis(X, peer.means_)
    log_prob = -0.5 * (3 * np.log(2 * np.pi) + log_det + distance) + np.log(peer.weights_)
    np.testing.assert_allclose(
        np.logaddexp.reduce(log_prob, axis=1), peer.score_samples(X), rtol=1e-9
    )


@pytest.mark.parametrize("name", NAMES)
def test_precision_roots_are_those_of_scikit_learn(name):
    peer, _ = fitted_by_sklearn(name)
    cov = STRUCTURES[name].expand(peer.covariances_, 2, 3, Penalty(0.0, np.zeros((3, 3))))
    np.testing.assert_allclose(
        cov.precision_roots, peer.precisions_cholesky_, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("name", NAMES)
def test_expand_undoes_compact(name):
    cov = covariance(name, 3, 4, np.random.default_rng(0))
    again = type(cov).expand(cov.compact, 3, 4, Penalty(0.0, np.zeros((4, 4))))
    np.testing.assert_allclose(again.dense(), cov.dense(), rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_another_shape_or_no_covariance_is_refused(name):
    cov = covariance(name, 3, 4, np.random.default_rng(0))
    penalty = Penalty(0.0, np.zeros((4, 4)))
    with pytest.raises(ValueError, match="shape"):
        type(cov).expand(cov.compact[..., None], 3, 4, penalty)
    with pytest.raises(ValueError, match="positive"):
        type(cov).expand(-cov.compact, 3, 4, penalty)
    with pytest.raises(ValueError, match="finite"):
        type(cov).expand(np.nan * cov.compact, 3, 4, penalty)


@pytest.mark.parametrize("name", ["full", "tied"])
def test_an_asymmetric_matrix_is_refused(name):
    cov = covariance(name, 3, 4, np.random.default_rng(0))
    compact = np.array(cov.compact)
    compact[..., 0, 1] += 0.1
    with pytest.raises(ValueError, match="symmetric"):
        type(cov).expand(compact, 3, 4, Penalty(0.0, np.zeros((4, 4))))


@pytest.mark.parametrize("name", [*NAMES, "low_rank"])
def test_scaled_multiplies_each_matrix_by_its_own_factor(name):
    cov, factor = covariance(name, 3, 4, np.random.default_rng(0)), np.array([2.0, 0.5, 1e4])
    np.testing.assert_allclose(
        cov.scaled(factor).dense(), cov.dense() * factor[:, None, None], rtol=1e-12
    )


@pytest.mark.parametrize("name", [*NAMES, "low_rank"])
def test_whiten_and_colour_are_inverse(name):
    cov, V = (
        covariance(name, 3, 4, np.random.default_rng(0)),
        np.random.default_rng(1).normal(size=(3, 4)),
    )
    np.testing.assert_allclose(cov.colour(cov.whiten(V)), V, rtol=1e-10)
    if name != "low_rank":  # there the columns are only divided by their deviations
        distance = np.einsum("ki,kij,kj->k", V, np.linalg.inv(cov.dense()), V)
        np.testing.assert_allclose((cov.whiten(V) ** 2).sum(axis=1), distance, rtol=1e-9)


@pytest.mark.parametrize("name", [*NAMES, "low_rank"])
def test_log_prior_is_the_penalty_of_each_free_matrix(name):
    cov = covariance(name, 3, 4, np.random.default_rng(0), count=1.7, strength=2.0)
    scale = cov.penalty.scale if cov.penalty.scale.ndim == 2 else np.diag(cov.penalty.scale)
    free = cov.dense()[:1] if name == "tied" else cov.dense()
    if name == "low_rank":
        free = np.stack([np.diag(psi) for psi in cov.psi])
    expected = -0.5 * sum(
        1.7 * np.linalg.slogdet(S)[1] + np.trace(np.linalg.solve(S, scale)) for S in free
    )
    assert cov.log_prior() == pytest.approx(expected, rel=1e-10)
