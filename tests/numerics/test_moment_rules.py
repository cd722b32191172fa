"""Rules of moments: polynomials, textbook weights, what makes a covariance."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sklvm import Cubature, Extended, GaussHermite, Unscented
from sklvm.numerics.moment_rules import gauss_hermite, unscented
from sklvm.state_functions import StateMap

MEAN = np.array([[0.3, -1.0, 2.0], [1.0, 0.5, -0.2]])
ROOT = np.linalg.cholesky(
    np.array([[[2.0, 0.3, 0.1], [0.3, 1.0, -0.4], [0.1, -0.4, 0.8]], np.diag([0.5, 0.1, 3.0])])
)
COVARIANCE = ROOT @ ROOT.mT
RULES = {"ekf": Extended(), "ukf": Unscented(), "cubature": Cubature(), "gh": GaussHermite()}


def of(function, p, derivative=None):
    return StateMap(function, derivative, "transition", p)


def curve(Z):
    return np.stack([np.sin(Z[:, 0]) * Z[:, 1], np.exp(0.3 * Z[:, 2])], axis=1)


def curve_jacobian(Z):
    a, b, c = Z.T
    zero = np.zeros(len(Z))
    rows = [[np.cos(a) * b, np.sin(a), zero], [zero, zero, 0.3 * np.exp(0.3 * c)]]
    return np.moveaxis(np.array(rows), -1, 0)


def covariance(told):
    return told.slope @ told.slope.mT + told.excess @ told.excess.mT


@pytest.mark.parametrize("name", RULES)
def test_lines_are_exact(name):
    M = np.random.default_rng(0).normal(size=(2, 3))
    told = RULES[name].points(3)(of(lambda Z: Z @ M.T + 5.0, 2), MEAN, ROOT)
    assert_allclose(told.mean, MEAN @ M.T + 5.0, rtol=1e-12)
    assert_allclose(told.slope, M @ ROOT, atol=1e-11)
    assert_allclose(covariance(told), M @ COVARIANCE @ M.T, atol=1e-11)


@pytest.mark.parametrize("name", ["ukf", "cubature", "gh"])
def test_squares_have_their_mean(name):
    S = np.array([[1.0, 0.2, 0.0], [0.2, -0.5, 0.4], [0.0, 0.4, 2.0]])
    f = of(lambda Z: np.einsum("ni,ij,nj->n", Z, S, Z)[:, None], 1)
    told = RULES[name].points(3)(f, MEAN, ROOT)
    expected = np.einsum("ni,ij,nj->n", MEAN, S, MEAN) + np.trace(S @ COVARIANCE, axis1=1, axis2=2)
    assert_allclose(told.mean[:, 0], expected, rtol=1e-12)
    assert_allclose(told.slope, 2 * (MEAN @ S)[:, None] @ ROOT, atol=1e-12)
    if name == "gh":  # and their variance: degree 4
        twice = 2 * np.trace(S @ COVARIANCE @ S @ COVARIANCE, axis1=1, axis2=2)
        spread = 4 * np.einsum("ni,nij,nj->n", MEAN @ S, COVARIANCE, MEAN @ S)
        assert_allclose(covariance(told)[:, 0, 0], twice + spread, rtol=1e-12)


@pytest.mark.parametrize("n_points", [2, 3, 6])
def test_product_rules_integrate_polynomials(n_points):
    rule = gauss_hermite(2, n_points)
    x, y = rule.points.T
    centre = 1 - rule.weights.sum()
    assert (rule.weights > 0).all() and centre > -1e-12
    moment = {0: 1, 1: 0, 2: 1, 3: 0, 4: 3, 5: 0, 6: 15, 8: 105, 10: 945}
    for a in range(0, 2 * n_points, 2):
        for b in range(0, 2 * n_points, 2):
            value = rule.weights @ (x**a * y**b) + centre * (a == b == 0)
            assert value == pytest.approx(moment[a] * moment[b], rel=1e-12)


def textbook(f, mean, root, alpha, beta, kappa):
    """Mean, covariance and cross-covariance by the weights of van der Merwe."""
    q = len(mean)
    lam = alpha**2 * (q + kappa) - q
    steps = np.sqrt(q + lam) * root.T
    Z = np.concatenate([mean[None], mean + steps, mean - steps])
    w = np.full(2 * q + 1, 0.5 / (q + lam))
    w[0] = lam / (q + lam)
    W = w.copy()
    W[0] += 1 - alpha**2 + beta
    Y = f(Z)
    m = w @ Y
    return m, (Y - m).T @ (W[:, None] * (Y - m)), (Z - mean).T @ (w[:, None] * (Y - m))


@pytest.mark.parametrize(
    ("alpha", "beta", "kappa"), [(1.0, 0.0, 0.0), (1.0, 2.0, 0.5), (0.1, 2.0, 0.0), (1.7, 3.0, 1.0)]
)
def test_unscented_moments_are_the_textbooks(alpha, beta, kappa):
    told = Unscented(alpha, beta, kappa).points(3)(of(curve, 2), MEAN, ROOT)
    for i in range(2):
        m, S, across = textbook(curve, MEAN[i], ROOT[i], alpha, beta, kappa)
        assert_allclose(told.mean[i], m, rtol=1e-10)
        assert_allclose(covariance(told)[i], S, rtol=1e-9, atol=1e-9)
        assert_allclose(ROOT[i] @ told.slope[i].T, across, rtol=1e-9, atol=1e-9)


def test_defaults_of_the_unscented_rule():
    for q, beta in ((1, 0.0), (3, 0.0), (6, 0.5)):
        known = unscented(q, 1.0, beta, 3.0 - q)
        found = Unscented().points(q)
        assert_allclose(found.points, known.points)
        assert found.pull == pytest.approx(known.pull, abs=1e-7)
    assert_allclose(np.abs(Unscented().points(1).points).ravel(), np.sqrt(3.0))
    hermite = gauss_hermite(1, 3)
    assert_allclose(np.sort(hermite.points, axis=0), np.sort(Unscented().points(1).points, axis=0))
    assert hermite.pull == pytest.approx(Unscented().points(1).pull)


def test_small_spreads_keep_their_digits():
    rule = Unscented(1e-3, 2.0, 0.0).points(1)
    told = rule(of(lambda Z: Z**2, 1), np.zeros((1, 1)), np.eye(1)[None])
    assert told.mean[0, 0] == pytest.approx(1.0, rel=1e-9)
    assert covariance(told)[0, 0, 0] == pytest.approx(2.0, rel=1e-9)


def test_tangents_with_and_without_a_jacobian():
    rule = Extended().points(3)
    given = rule(of(curve, 2, curve_jacobian), MEAN, ROOT)
    found = rule(of(curve, 2), MEAN, ROOT)
    assert_allclose(given.slope, curve_jacobian(MEAN) @ ROOT, rtol=1e-14)
    assert_allclose(found.slope, given.slope, atol=1e-10)
    assert_allclose(found.mean, curve(MEAN), rtol=1e-14)
    assert found.excess.shape == (2, 2, 0)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Unscented(alpha=0.0), "needs alpha > 0 and kappa > -4"),
        (Unscented(kappa=-4.0), "needs alpha > 0 and kappa > -4"),
        (Unscented(beta=0.0), r"can make a covariance that is none: beta must be at least 0\.25"),
        (Unscented(alpha="1"), "alpha of Unscented must be a finite number, got '1'"),
        (GaussHermite(1), "n_points must be an integer of at least 2, got 1"),
        (GaussHermite(20), "160000 points, more than 100000"),
    ],
)
def test_rules_that_cannot_be_are_refused(rule, message):
    with pytest.raises(ValueError, match=message):
        rule.points(4)


def test_rules_are_values():
    assert Unscented(beta=2.0) == Unscented(1.0, 2.0) != Unscented()
    assert repr(GaussHermite(5)) == "GaussHermite(n_points=5)"
    assert Unscented().set_params(alpha=0.5).alpha == 0.5
