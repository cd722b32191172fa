"""The information of factor analysis: by differences, bordered, and about turns of the factors."""

from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sklvm.inference.factor_information import (
    FactorPoint,
    add_penalty,
    along,
    expected_information,
    gradient_of_moments,
    hessian_of_moments,
    invertible,
    observed_information,
    outer_product,
    standardised,
)
from sklvm.numerics.manifolds import Oblique, Orthogonal
from sklvm.numerics.rotation import rotate
from sklvm.numerics.rotation_criteria import (
    GeominCriterion,
    ObliminCriterion,
    OrthomaxCriterion,
    PromaxTurn,
    TargetCriterion,
)

RNG = np.random.default_rng
NAN = np.nan
PARTIAL = np.array([[NAN, 0.0], [NAN, 0.1], [NAN, NAN], [0.0, NAN], [0.2, NAN]])
ROTATIONS = {
    "canonical": None,
    "varimax": OrthomaxCriterion(1.0),
    "quartimax raw": OrthomaxCriterion(0.0, kaiser=False),
    "oblimin": ObliminCriterion(0.0),
    "oblimin raw": ObliminCriterion(-0.5, kaiser=False),
    "geomin": GeominCriterion(0.01),
    "geomin orthogonal": GeominCriterion(0.01, Orthogonal, kaiser=False),
    "target": TargetCriterion(PARTIAL),
    "target orthogonal": TargetCriterion(PARTIAL, Orthogonal),
}
each_rotation = pytest.mark.parametrize("name", ROTATIONS)


def point_of(rotation, d=5, q=2, seed=0):
    """Columns of variance one, factors turned as the rotation says."""
    W = RNG(seed).uniform(0.3, 0.9, size=(d, q)) * np.where(
        RNG(seed).uniform(size=(d, q)) < 0.4, -0.3, 1
    )
    psi = RNG(seed + 1).uniform(0.3, 0.8, size=d)
    sd = np.sqrt((W**2).sum(axis=1) + psi)
    W, psi = W / sd[:, None], psi / sd**2
    if rotation is None:
        vectors = np.linalg.eigh((W / psi[:, None]).T @ W)[1]
        return FactorPoint(W @ vectors[:, ::-1], np.eye(q), psi)
    turned = rotate(W, rotation, RNG(0))
    assert turned.converged
    return FactorPoint(turned.loadings, turned.factor_correlation, psi, rotation)


def gradient_at(value, step):
    """By complex steps: (p,) -> (p,)."""
    return np.array([value(step + unit).imag / 1e-20 for unit in 1e-20j * np.eye(len(step))])


def second_derivatives(value, p, h=1e-3):
    """Differences of fourth order of gradients."""
    columns = []
    for unit in h * np.eye(p):
        near, far = (gradient_at(value, m * unit) - gradient_at(value, -m * unit) for m in (1, 2))
        columns.append((8 * near - far) / (12 * h))
    return np.array(columns)


def log_density(C, S, shift):
    """-(log |C| + tr(C^-1 S) + shift' C^-1 shift) / 2, real or complex."""
    P = np.linalg.inv(C)
    return -0.5 * (np.log(np.linalg.det(C)) + np.trace(P @ S) + shift @ P @ shift)


def log_likelihood(point, S, n, step):
    """Of n rows with covariance S about a mean that the first d coordinates shift."""
    L, Phi, psi = point.moved(step)
    return n * log_density(L @ Phi @ L.T + np.diag(psi), S, step[: len(psi)])


# --- the information --------------------------------------------------------------------------


@each_rotation
def test_the_expected_information_is_that_of_the_expected_log_likelihood(name):
    point, n = point_of(ROTATIONS[name]), 7.0
    p = point.ends[-1]
    assert p == 20 + (ROTATIONS[name] is not None and ROTATIONS[name].manifold is Oblique)
    expected = expected_information(point, n)
    value = lambda step: log_likelihood(point, point.covariance, n, step)
    assert_allclose(expected, -second_derivatives(value, p), atol=1e-8 * np.abs(expected).max())
    assert_allclose(expected, hessian_of_moments(point, point.covariance, n), atol=1e-12 * n)


@pytest.mark.parametrize("name", ["canonical", "oblimin"])
def test_moments_have_the_derivatives_of_their_likelihood(name):
    point, n = point_of(ROTATIONS[name], d=4), 7.0
    A = RNG(3).normal(size=(4, 9))
    S, p = A @ A.T / 9, point.ends[-1]
    value = lambda step: log_likelihood(point, S, n, step)
    hessian = hessian_of_moments(point, S, n)
    gradient = gradient_at(value, np.zeros(p))
    assert_allclose(gradient_of_moments(point, S, n), gradient, atol=1e-11 * n)
    assert_allclose(hessian, -second_derivatives(value, p), atol=1e-8 * np.abs(hessian).max())


def holed(point, n=9, seed=5):
    rng = RNG(seed)
    X = rng.multivariate_normal(np.full(len(point.psi), 0.3), 1.3 * point.covariance, size=n)
    X[rng.uniform(size=X.shape) < 0.3] = np.nan
    return X[~np.isnan(X).all(axis=1)]


def row_log_likelihood(point, mean, x, step):
    L, Phi, psi = point.moved(step)
    seen = ~np.isnan(x)
    C = (L @ Phi @ L.T + np.diag(psi))[np.ix_(seen, seen)]
    return log_density(C, 0.0 * C, (x - mean - step[: len(psi)])[seen])


@pytest.mark.parametrize("name", ["canonical", "oblimin"])
def test_rows_with_gaps_have_the_derivatives_of_their_likelihood(name):
    point = point_of(ROTATIONS[name], d=4)
    X, mean, p = holed(point), np.full(4, 0.1), point.ends[-1]
    weight = RNG(2).integers(1, 4, len(X)).astype(float)
    rows = [partial(row_log_likelihood, point, mean, x) for x in X]
    scores = np.array([gradient_at(row, np.zeros(p)) for row in rows])
    hessian, gradient = observed_information(point, mean, X, weight)
    assert_allclose(gradient, weight @ scores, atol=1e-10)
    outer = outer_product(point, mean, X, weight)
    assert_allclose(outer, (scores * weight[:, None]).T @ scores, atol=1e-9)
    total = lambda step: sum(w * row(step) for w, row in zip(weight, rows))
    assert_allclose(hessian, -second_derivatives(total, p), atol=1e-8 * np.abs(hessian).max())


def test_complete_rows_have_the_information_of_their_moments():
    point = point_of(ROTATIONS["geomin"])
    X = RNG(0).normal(size=(40, 5))
    mean, S = X.mean(axis=0), np.cov(X.T, bias=True)
    hessian, gradient = observed_information(point, mean, X, np.ones(40))
    assert_allclose(hessian, hessian_of_moments(point, S, 40), atol=1e-10)
    assert_allclose(gradient, gradient_of_moments(point, S, 40), atol=1e-10)


def test_the_penalty_is_in_the_derivatives():
    point, scale = point_of(None), np.arange(1.0, 6.0)
    value = lambda step: -0.5 * (scale / point.moved(step)[2]).sum()
    p = point.ends[-1]
    hessian, gradient = add_penalty(point, scale, np.zeros((p, p)), np.zeros(p))
    assert_allclose(gradient, gradient_at(value, np.zeros(p)), atol=1e-11)
    assert_allclose(hessian, -second_derivatives(value, p), atol=1e-7)


# --- constraints --------------------------------------------------------------------------------


@each_rotation
def test_the_constraints_hold_and_leave_as_many_directions_as_parameters(name):
    d, q = (5, 2) if "target" in name else (7, 3)
    point = point_of(ROTATIONS[name], d, q)
    assert np.abs(point.constraints(point.L, point.Phi, point.psi)).max() < 1e-8
    Z = point.free_directions()
    assert Z.shape[1] == d + (d * q + d - q * (q - 1) // 2)
    free = Z.T @ expected_information(point, 1.0) @ Z
    assert np.linalg.eigvalsh(free)[0] > 1e-6


@each_rotation
def test_free_directions_are_the_bordered_information(name):
    point = point_of(ROTATIONS[name])
    information, H = expected_information(point, 50.0), point.gradients
    p, m = information.shape[0], len(H)
    bordered = np.block([[information, H.T], [H, np.zeros((m, m))]])
    Z = point.free_directions()
    V = Z @ np.linalg.inv(Z.T @ information @ Z) @ Z.T
    assert_allclose(V, np.linalg.inv(bordered)[:p, :p], atol=1e-8 * np.abs(V).max())


@each_rotation
def test_the_covariance_matrix_is_as_certain_however_factors_turn(name):
    """V of the entries of Sigma is one matrix: no constraint changes it."""

    def of_sigma(point):
        Z = point.free_directions()
        V = Z @ np.linalg.inv(Z.T @ expected_information(point, 1.0) @ Z) @ Z.T
        J = point.jacobian(lambda L, Phi, psi: (L @ Phi @ L.T + np.diag(psi)).ravel())
        return J @ V @ J.T

    assert_allclose(of_sigma(point_of(ROTATIONS[name])), of_sigma(point_of(None)), atol=1e-7)


@each_rotation
def test_jacobians_follow_the_refitted_rotation(name):
    """Loadings of a nearby covariance, rotated anew, move as Z Z' says along a free direction."""
    rotation, h = ROTATIONS[name], 1e-4
    point = point_of(rotation)
    Z = point.free_directions()
    step = Z @ RNG(4).normal(size=Z.shape[1])

    def again(m):
        L, Phi, psi = point.moved(m * h * step)
        W = L @ np.linalg.cholesky(Phi)
        if rotation is None:
            W = W @ np.linalg.eigh((W / psi[:, None]).T @ W)[1][:, ::-1]
            return W * np.sign((W * point.L).sum(axis=0))
        sd = np.sqrt((W**2).sum(axis=1) + psi)
        turned = rotate(W / sd[:, None], rotation, RNG(0))
        return sd[:, None] * turned.loadings

    moved = (8 * (again(1) - again(-1)) - (again(2) - again(-2))) / (12 * h)
    d = len(point.psi)
    assert_allclose(moved.ravel(), step[d : d + moved.size], atol=1e-5)


def test_one_factor_needs_no_constraint():
    for rotation in (None, OrthomaxCriterion(1.0), ObliminCriterion(0.0)):
        point = point_of(None, d=4, q=1)
        point = FactorPoint(point.L, point.Phi, point.psi, rotation)
        Z = point.free_directions()
        assert_allclose(Z @ Z.T, np.eye(12), atol=1e-12)


def test_factors_that_nothing_fixes_are_not_known():
    L, psi = np.zeros((6, 2)), np.full(6, 0.51)
    L[:3, 0] = L[3:, 1] = 0.7  # two factors that weigh the same
    least = {}
    for name in ("canonical", "varimax", "oblimin"):
        point = FactorPoint(L, np.eye(2), psi, ROTATIONS[name])
        Z = point.free_directions()
        least[name] = np.linalg.eigvalsh(Z.T @ expected_information(point, 1.0) @ Z)[0]
    assert abs(least["canonical"]) < 1e-12
    assert least["varimax"] > 0.01 and least["oblimin"] > 0.01


def test_constraints_that_say_nothing_leave_no_directions():
    L = np.array([[0.7, 0.0]] * 4)  # a factor that explains nothing
    point = FactorPoint(L, np.eye(2), np.full(4, 0.51), OrthomaxCriterion(0.0, kaiser=False))
    assert not np.isnan(point.free_directions()).any()
    point = FactorPoint(0 * L, np.eye(2), np.ones(4), OrthomaxCriterion(0.0, kaiser=False))
    assert np.isnan(point.free_directions()).all()


def test_a_singular_matrix_has_no_inverse():
    A, scale = RNG(0).normal(size=(9, 7)), 10.0 ** np.arange(7)
    assert invertible(A.T @ A) and invertible(1e-12 * A.T @ A * np.outer(scale, scale))
    assert not invertible(A @ A.T) and not invertible(np.zeros((2, 2)))
    assert not invertible(np.full((2, 2), np.nan)) and not invertible(-np.eye(2))
    for entry in (2.0, 1.0, 1.0 - 1e-15):
        assert not invertible(np.array([[1.0, entry], [entry, 1.0]]))


def test_promax_is_refused():
    point = point_of(None)
    promax = FactorPoint(point.L, point.Phi, point.psi, PromaxTurn(4.0))
    with pytest.raises(ValueError, match="promax makes no criterion stationary"):
        promax.free_directions()


# --- closed forms -------------------------------------------------------------------------------


def test_one_factor_of_three_columns_is_any_covariance():
    """q = 1, d = 3 is saturated, so Sigma is as certain as that of a Gaussian (Anderson 2003)."""
    point, n = point_of(None, d=3, q=1), 20.0
    V = np.linalg.inv(expected_information(point, n))
    J = point.jacobian(lambda L, Phi, psi: (L @ Phi @ L.T + np.diag(psi)).ravel())
    C = point.covariance
    wishart = (np.einsum("ac,bd->abcd", C, C) + np.einsum("ad,bc->abcd", C, C)) / n
    assert_allclose(J @ V @ J.T, wishart.reshape(9, 9), rtol=1e-9, atol=1e-12)
    assert_allclose(V[:3, :3], C / n, rtol=1e-12)


def test_communalities_do_not_know_the_rotation():
    def errors(point):
        Z = point.free_directions()
        V = Z @ np.linalg.inv(Z.T @ expected_information(point, 1.0) @ Z) @ Z.T
        J = point.jacobian(lambda *at: at[2] / standardised(*at)[1])
        return np.sqrt(np.diag(J @ V @ J.T))

    canonical = errors(point_of(None))
    for name, rotation in ROTATIONS.items():
        assert_allclose(errors(point_of(rotation)), canonical, rtol=1e-6, err_msg=name)


def test_along_keeps_free_directions_only():
    point = point_of(None)
    information = expected_information(point, 3.0)
    Z = point.free_directions()
    found = along(Z, information, 2 * information, np.arange(20.0))
    assert_allclose(found.hessian, Z.T @ information @ Z)
    assert_allclose(found.outer, 2 * found.hessian)
    assert_allclose(found.gradient, np.arange(20.0) @ Z)
