"""Rotation: gradients, closed forms, published loadings, what must not change, what vanishes."""

import numpy as np
import pytest

from sklvm.numerics.gradient_projection import Problem
from sklvm.numerics.manifolds import Oblique, Orthogonal, random_orthogonal
from sklvm.numerics.rotation import rotate, stationarity
from sklvm.numerics.rotation_criteria import (
    GeominCriterion,
    ObliminCriterion,
    OrthomaxCriterion,
    PromaxTurn,
    TargetCriterion,
)

# Harman's eight physical variables, two unrotated factors: the example of Jennrich (2001, 2002) and
# of the programs of Bernaards & Jennrich (2005).
HARMAN = np.array(
    [
        [0.830, -0.396],
        [0.818, -0.469],
        [0.777, -0.470],
        [0.798, -0.401],
        [0.786, 0.500],
        [0.672, 0.458],
        [0.594, 0.444],
        [0.647, 0.333],
    ]
)


def generator(seed=0):
    return np.random.default_rng(seed)


def simple_structure(d, q, seed=0):
    """Each row loads on one factor; sums of squares descend with the columns."""
    rng, L = generator(seed), np.zeros((d, q))
    L[np.arange(d), np.arange(d) % q] = rng.uniform(0.4, 0.9, d)
    return L[:, np.argsort(-(L**2).sum(axis=0))]


def blurred(d, q, seed=0):
    """Loadings near simple structure, in a random turn."""
    rng = generator(seed)
    L = simple_structure(d, q, seed) + rng.normal(0, 0.15, (d, q))
    return L @ random_orthogonal(q, rng)


def partial_target(d, q):
    return np.where(simple_structure(d, q) == 0, 0.0, np.nan)


def criteria(d, q):
    return [
        OrthomaxCriterion(1.0),
        OrthomaxCriterion(0.0, kaiser=False),
        OrthomaxCriterion(q / 2),
        ObliminCriterion(0.0),
        ObliminCriterion(-0.7, kaiser=False),
        GeominCriterion(0.01),
        GeominCriterion(0.05, Orthogonal, kaiser=False),
        TargetCriterion(partial_target(d, q)),
        TargetCriterion(simple_structure(d, q), Orthogonal),
    ]


CRITERIA = criteria(9, 3)
ROTATIONS = [*CRITERIA, PromaxTurn(4.0), PromaxTurn(2.5, kaiser=False)]


def name_of(rotation):
    return f"{type(rotation).__name__}-{rotation.manifold.__name__}-{rotation.kaiser}"


each_criterion = pytest.mark.parametrize("criterion", CRITERIA, ids=name_of)
each_rotation = pytest.mark.parametrize("rotation", ROTATIONS, ids=name_of)


# --- criteria -----------------------------------------------------------------------------------


@each_criterion
def test_gradients_are_derivatives_and_analytic(criterion):
    L, step = blurred(9, 3), 1e-30
    E = generator(1).normal(size=L.shape)
    value, G = criterion.value_and_gradient(L + 1j * step * E)
    _, real = criterion.value_and_gradient(L)
    np.testing.assert_allclose(value.imag / step, (real * E).sum(), rtol=1e-12)
    h = 1e-5
    forth, back = (criterion.value_and_gradient(L + s * h * E)[1] for s in (1, -1))
    np.testing.assert_allclose(G.imag / step, (forth - back) / (2 * h), rtol=1e-7, atol=1e-7)


def test_criteria_are_what_their_formulas_say():
    L, d, q = blurred(7, 3), 7, 3
    squares = L**2
    varimax = -sum(d * (s**2).sum() - s.sum() ** 2 for s in squares.T) / (4 * d)
    assert OrthomaxCriterion(1.0).value_and_gradient(L)[0] == pytest.approx(varimax, rel=1e-12)
    pairs = [(squares[:, j], squares[:, k]) for j in range(q) for k in range(q) if j < k]
    for gamma in (0.0, -1.0):
        oblimin = sum(a @ b - gamma / d * a.sum() * b.sum() for a, b in pairs) / 2
        value = ObliminCriterion(gamma).value_and_gradient(L)[0]
        assert value == pytest.approx(oblimin, rel=1e-12)
    geomin = ((squares + 0.01).prod(axis=1) ** (1 / q)).sum()
    assert GeominCriterion(0.01).value_and_gradient(L)[0] == pytest.approx(geomin, rel=1e-12)
    target = np.array([[0.5, np.nan, 0.0]] * d)
    distance = (((L - target)[:, [0, 2]]) ** 2).sum() / 2
    value, G = TargetCriterion(target).value_and_gradient(L)
    assert value == pytest.approx(distance, rel=1e-12)
    assert (G[:, 1] == 0).all()


# --- closed forms and published values ----------------------------------------------------------


def planar_angle(x, y, gamma):
    """Kaiser (1958), p. 190: the angle of the best plane rotation; gamma = 0 is quartimax."""
    u, v = x**2 - y**2, 2 * x * y
    above = 2 * (u @ v) - 2 * gamma * u.sum() * v.sum() / len(x)
    below = u @ u - v @ v - gamma * (u.sum() ** 2 - v.sum() ** 2) / len(x)
    return np.arctan2(above, below) / 4


@pytest.mark.parametrize("gamma", [0.0, 1.0])
@pytest.mark.parametrize("kaiser", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_two_factors_turn_by_kaisers_angle(gamma, kaiser, seed):
    W = blurred(8, 2, seed)
    h = np.sqrt((W**2).sum(axis=1, keepdims=True)) if kaiser else 1.0
    phi = planar_angle(*(W / h).T, gamma)
    L = W @ np.array([[np.cos(phi), -np.sin(phi)], [np.sin(phi), np.cos(phi)]])
    L = (L * np.sign(L.sum(axis=0)))[:, np.argsort(-(L**2).sum(axis=0))]
    rotated = rotate(W, OrthomaxCriterion(gamma, kaiser), generator())
    np.testing.assert_allclose(rotated.loadings, L, atol=1e-8)


def test_harman_quartimax_as_published():
    published = [
        [0.898755404698, 0.194819718010],
        [0.933943963768, 0.129744643591],
        [0.902131929972, 0.103860391511],
        [0.876508987992, 0.171280454135],
        [0.315575786274, 0.876474713336],
        [0.251126515145, 0.773487862472],
        [0.198010187248, 0.714677525704],
        [0.307860074445, 0.659333128671],
    ]
    rotated = rotate(HARMAN, OrthomaxCriterion(0.0, kaiser=False), generator())
    np.testing.assert_allclose(rotated.loadings, published, atol=1e-5)  # they stopped at 1e-5


def test_harman_quartimin_as_published():
    published = [
        [0.891822, 0.056015],
        [0.953680, -0.023246],
        [0.929150, -0.046503],
        [0.876683, 0.033658],
        [0.013701, 0.925000],
        [-0.017265, 0.821253],
        [-0.052445, 0.764953],
        [0.085890, 0.683115],
    ]
    rotated = rotate(HARMAN, ObliminCriterion(0.0, kaiser=False), generator())
    np.testing.assert_allclose(rotated.loadings, published, atol=1e-5)


def test_harman_target_as_published():
    target = np.array(
        [[8, -3], [8, -4], [7, -4], [9, -4], [8, 5], [6, 4], [5, 4], [6, 3]], dtype=float
    )
    published = [
        [0.84168, -0.37053],
        [0.83191, -0.44386],
        [0.79096, -0.44611],
        [0.80985, -0.37650],
        [0.77040, 0.52371],
        [0.65774, 0.47826],
        [0.58020, 0.46189],
        [0.63656, 0.35255],
    ]
    rotated = rotate(HARMAN, TargetCriterion(target / 10, Orthogonal), generator())
    np.testing.assert_allclose(rotated.loadings, published, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_a_complete_target_is_orthogonal_procrustes(seed):
    W, target = blurred(8, 3, seed), generator(seed + 10).normal(size=(8, 3))
    U, _, Vt = np.linalg.svd(W.T @ target)
    rotated = rotate(W, TargetCriterion(target, Orthogonal), generator())
    np.testing.assert_allclose(rotated.loadings, W @ U @ Vt, atol=1e-9)


def varimax_by_svd(W):
    """R's stats::varimax, to convergence: rows of unit length, polar factors of a gradient."""
    X = W / np.sqrt((W**2).sum(axis=1, keepdims=True))
    T = np.eye(W.shape[1])
    for _ in range(500):
        Z = X @ T
        U, _, Vt = np.linalg.svd(X.T @ (Z**3 - Z * (Z**2).mean(axis=0)))
        T = U @ Vt
    return T


@pytest.mark.parametrize("power", [3.0, 4.0])
def test_promax_is_that_of_r(power):
    W = blurred(12, 3, seed=2)
    T = varimax_by_svd(W)
    x = W @ T
    U = np.linalg.solve(x.T @ x, x.T @ (x * np.abs(x) ** (power - 1)))
    U = U @ np.diag(np.sqrt(np.diag(np.linalg.inv(U.T @ U))))
    z, Phi = x @ U, np.linalg.inv((T @ U).T @ (T @ U))
    order, sign = np.argsort(-(z**2).sum(axis=0)), np.sign(z.sum(axis=0))
    rotated = rotate(W, PromaxTurn(power), generator())
    np.testing.assert_allclose(rotated.loadings, (z * sign)[:, order], atol=1e-8)
    Phi = (Phi * np.outer(sign, sign))[np.ix_(order, order)]
    np.testing.assert_allclose(rotated.factor_correlation, Phi, atol=1e-8)


# --- recovery -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rotation",
    [
        OrthomaxCriterion(0.0),
        OrthomaxCriterion(1.0),
        OrthomaxCriterion(2.0),
        ObliminCriterion(0.0),
        ObliminCriterion(-1.0),
        GeominCriterion(0.01),
        GeominCriterion(0.01, Orthogonal, kaiser=False),
        TargetCriterion(partial_target(12, 4)),
        TargetCriterion(partial_target(12, 4), Orthogonal),
        PromaxTurn(4.0),
    ],
    ids=name_of,
)
def test_simple_structure_of_uncorrelated_factors_is_found_again(rotation):
    L = simple_structure(12, 4)
    rotated = rotate(L @ random_orthogonal(4, generator(1)), rotation, generator())
    np.testing.assert_allclose(rotated.loadings, L, atol=1e-7)
    np.testing.assert_allclose(rotated.factor_correlation, np.eye(4), atol=1e-7)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "rotation",
    [
        ObliminCriterion(0.0),
        ObliminCriterion(0.0, kaiser=False),
        TargetCriterion(partial_target(12, 4)),
    ],
    ids=name_of,
)
def test_simple_structure_of_correlated_factors_is_found_again(rotation, seed):
    L = simple_structure(12, 4)
    B = Oblique.retract(np.eye(4) + 0.4 * generator(seed).normal(size=(4, 4)))
    rotated = rotate(L @ B @ random_orthogonal(4, generator(seed + 1)), rotation, generator())
    np.testing.assert_allclose(rotated.loadings, L, atol=1e-7)
    np.testing.assert_allclose(rotated.factor_correlation, B @ B.T, atol=1e-7)


# --- what must hold for every rotation and all loadings -----------------------------------------


def without_rows(W):
    W = W.copy()
    W[[1, 4]] = 0.0
    return W


LOADINGS = {
    "plain": blurred(9, 3),
    "zero rows": without_rows(blurred(9, 3)),
    "zero column": blurred(9, 3) * [1.0, 0.0, 1.0],
    "two surplus factors": np.outer(np.linspace(0.3, 0.9, 9), [0.6, -0.8, 0.0]),
    "all zero": np.zeros((9, 3)),
}


@pytest.mark.parametrize("W", LOADINGS.values(), ids=LOADINGS)
@each_rotation
def test_the_common_part_does_not_change(rotation, W):
    L, B, Phi, converged = rotate(W, rotation, generator(), n_starts=3)
    assert converged
    np.testing.assert_allclose(L @ Phi @ L.T, W @ W.T, atol=1e-10)
    np.testing.assert_allclose(L @ B, W, atol=1e-12)
    np.testing.assert_allclose(B @ B.T, Phi, atol=1e-12)
    np.testing.assert_array_equal(np.diag(Phi), 1.0)
    if rotation.manifold is Orthogonal:
        np.testing.assert_array_equal(Phi, np.eye(3))


def assert_the_turn_does_not_matter(W, rotation):
    expected = rotate(W, rotation, generator())
    for R in (random_orthogonal(3, generator(5)), np.diag([1.0, -1.0, -1.0])[[2, 0, 1]]):
        L, _, Phi, _ = rotate(W @ R, rotation, generator())
        np.testing.assert_allclose(L, expected.loadings, atol=1e-7)
        np.testing.assert_allclose(Phi, expected.factor_correlation, atol=1e-7)


@pytest.mark.parametrize("name", ["plain", "zero rows"])
@each_rotation
def test_the_turn_of_the_input_does_not_matter(rotation, name):
    assert_the_turn_does_not_matter(LOADINGS[name], rotation)


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize(
    "rotation", [r for r in ROTATIONS if not isinstance(r, TargetCriterion)], ids=name_of
)
def test_surplus_factors_load_on_nothing_and_are_alone(rotation, rank):
    W = LOADINGS["zero column" if rank == 2 else "two surplus factors"]
    L, _, Phi, _ = rotate(W, rotation, generator())
    np.testing.assert_allclose(L[:, rank:], 0.0, atol=1e-14)
    np.testing.assert_allclose(Phi[rank:], np.eye(3)[rank:], atol=1e-14)
    assert_the_turn_does_not_matter(W, rotation)


@pytest.mark.parametrize("rotation", criteria(2, 3)[:7] + [PromaxTurn(4.0)], ids=name_of)
def test_more_factors_than_rows(rotation):
    W = blurred(2, 3)
    L, _, Phi, converged = rotate(W, rotation, generator())
    assert converged
    np.testing.assert_allclose(L @ Phi @ L.T, W @ W.T, atol=1e-12)
    np.testing.assert_allclose(L[:, 2], 0.0, atol=1e-14)


@pytest.mark.parametrize("rotation", criteria(5, 1) + [PromaxTurn(4.0)], ids=name_of)
def test_one_factor_keeps_its_loadings(rotation):
    W = np.array([[0.9, 0.2, -0.3, 0.5, 0.8]]).T
    for sign in (1, -1):
        L, B, Phi, converged = rotate(sign * W, rotation, generator())
        assert converged
        np.testing.assert_allclose(L, W, rtol=1e-14)
        np.testing.assert_array_equal(B, [[sign]])
        np.testing.assert_array_equal(Phi, [[1.0]])


def test_a_generator_decides_every_bit():
    W = blurred(9, 3)
    one, two = (rotate(W, GeominCriterion(0.001), generator(3)) for _ in range(2))
    for a, b in zip(one, two):
        np.testing.assert_array_equal(a, b)


# --- order, signs, starts -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "rotation", [r for r in ROTATIONS if not isinstance(r, TargetCriterion)], ids=name_of
)
def test_factors_are_in_canonical_order(rotation):
    for seed in range(3):
        L = rotate(blurred(9, 3, seed), rotation, generator()).loadings
        assert (np.diff((L**2).sum(axis=0)) < 0).all()
        assert (L.sum(axis=0) > 0).all()


def test_equal_factors_are_in_the_order_of_their_rows():
    L = np.kron(np.eye(3), [[0.8], [-0.6], [-0.2]])  # sums of zero, too
    for seed in range(5):
        W = L[::-1] @ random_orthogonal(3, generator(seed))
        rotated = rotate(W, ObliminCriterion(0.0), generator()).loadings
        np.testing.assert_allclose(rotated, -L[::-1][:, ::-1], atol=1e-7)


def test_a_target_names_its_factors():
    L = simple_structure(9, 3)[:, [1, 2, 0]] * [-1.0, 1.0, 1.0]
    W = L @ random_orthogonal(3, generator(4))
    for manifold in (Orthogonal, Oblique):
        target = TargetCriterion(np.where(L < 0, -0.5, L), manifold)
        rotated = rotate(W, target, generator()).loadings
        assert np.abs(rotated - L).max() < 0.1
    zeros = TargetCriterion(np.where(L == 0, 0.0, np.nan))  # its signs are free, its order is not
    np.testing.assert_allclose(rotate(W, zeros, generator()).loadings, np.abs(L), atol=1e-7)


def test_the_best_of_many_starts_is_kept():
    W, geomin = blurred(12, 4, seed=3), GeominCriterion(0.001)

    def value(n_starts):
        L = rotate(W, geomin, generator(), n_starts).loadings
        h = np.sqrt((W**2).sum(axis=1, keepdims=True))
        return geomin.value_and_gradient(L / h)[0]

    values = [value(n) for n in (1, 5, 10)]
    assert (np.diff(values) <= 1e-9).all()
    assert values[-1] < values[0] - 0.1


@pytest.mark.parametrize(
    "criterion", [c for c in CRITERIA if c.manifold is Orthogonal], ids=name_of
)
def test_factors_of_very_different_size_converge(criterion):
    W = generator(2).normal(size=(9, 3)) * [1.0, 1e-2, 1e-4]
    L, _, Phi, converged = rotate(W, criterion, generator())
    assert converged
    np.testing.assert_allclose(stationarity(L, Phi, criterion), 0.0, atol=1e-8)


@each_criterion
def test_newtons_derivatives(criterion):
    manifold, h = criterion.manifold, 1e-5
    problem = Problem(blurred(9, 3), criterion.value_and_gradient, manifold, 1.0)
    B = manifold.retract(np.eye(3) + 0.3 * generator(1).normal(size=(3, 3)))
    units = manifold.directions(3)
    slopes, hessian = problem._derivatives(B, units)
    for m, E in enumerate(units):
        forth, back = (manifold.retract(B + s * E @ np.linalg.inv(B).T) for s in (h, -h))
        change = problem.place(forth).value - problem.place(back).value
        assert slopes[m] == pytest.approx(change / (2 * h), rel=1e-6, abs=1e-8)
        change = problem._derivatives(forth, units)[0] - problem._derivatives(back, units)[0]
        np.testing.assert_allclose(hessian[m], change / (2 * h), rtol=1e-5, atol=1e-7)


def test_factors_that_become_one_have_not_converged():
    problem = Problem(np.zeros((4, 2)), ObliminCriterion(0.0).value_and_gradient, Oblique, 1.0)
    for angle, converged in ((1e-5, False), (1e-3, True)):  # nothing to descend in either
        B = Oblique.retract(np.array([[1.0, 0.0], [1.0, angle]]))
        assert problem.descend(problem.place(B)).converged is converged


def test_a_criterion_without_a_lower_bound_does_not_converge():
    W = blurred(20, 6)
    L, _, Phi, converged = rotate(W, ObliminCriterion(0.9), generator(), n_starts=2)
    assert not converged  # Jennrich (1979): gamma above 0


def test_promax_without_a_solution_is_varimax():
    W = np.array([[1e9, 2e9], [1.0, -0.5], [0.3, 0.9], [0.2, 0.1]])
    L, B, Phi, converged = rotate(W, PromaxTurn(4.0), generator())
    assert not converged
    np.testing.assert_array_equal(B, rotate(W, OrthomaxCriterion(1.0), generator()).turn)
    np.testing.assert_allclose(Phi, np.eye(2), atol=1e-14)


# --- Kaiser's weights ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weighted",
    [
        OrthomaxCriterion(1.0),
        ObliminCriterion(0.0),
        GeominCriterion(0.01),
        GeominCriterion(0.01, Orthogonal),
    ],
    ids=name_of,
)
def test_kaisers_weights_leave_units_out(weighted):
    W, units = blurred(9, 3), np.geomspace(0.1, 10, 9)[:, None]
    plain, scaled = rotate(W, weighted, generator()), rotate(units * W, weighted, generator())
    turn = scaled.turn @ plain.turn.T if weighted.manifold is Orthogonal else None
    if turn is not None:  # but for the order and the signs, which depend on the units
        np.testing.assert_allclose(np.sort(np.abs(turn), axis=None)[:6], 0.0, atol=1e-8)
    order = np.abs(scaled.turn @ np.linalg.inv(plain.turn)).argmax(axis=1)
    ratio = scaled.loadings / (units * plain.loadings[:, order])
    np.testing.assert_allclose(np.abs(ratio), 1.0, rtol=1e-6)


def test_without_them_units_matter():
    W, units = blurred(9, 3), np.geomspace(0.1, 10, 9)[:, None]
    plain = OrthomaxCriterion(1.0, kaiser=False)
    L, scaled = (rotate(X, plain, generator()).loadings for X in (W, units * W))
    assert np.abs(np.sort(np.abs(L)) - np.sort(np.abs(scaled / units))).max() > 0.01


# --- stationarity -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "zero rows", "zero column"])
@each_criterion
def test_constraints_vanish_at_solutions_only(criterion, name):
    W = LOADINGS[name]
    L, _, Phi, _ = rotate(W, criterion, generator(), n_starts=3)
    constraints = stationarity(L, Phi, criterion)
    assert constraints.shape == ((3,) if criterion.manifold is Orthogonal else (6,))
    np.testing.assert_allclose(constraints, 0.0, atol=1e-8)
    turned = W @ random_orthogonal(3, generator(8))
    assert np.abs(stationarity(turned, np.eye(3), criterion)).max() > 0.01


def turned_a_little(L, B, manifold, i, j, step):
    """Loadings after dB B' = step e_i e_j' (less its transpose, for orthogonal factors)."""
    W, E = L @ B, np.zeros((len(B), len(B)))
    E[i, j] = step
    if manifold is Orthogonal:
        E[j, i] = -step
    moved = manifold.retract(B + E @ np.linalg.inv(B).T)
    return W @ np.linalg.inv(moved)


@each_criterion
def test_constraints_are_derivatives_along_turns(criterion):
    L, manifold, h = blurred(9, 3), criterion.manifold, 1e-5
    B = manifold.retract(np.eye(3) + 0.3 * generator(1).normal(size=(3, 3)))
    Phi = B @ B.T
    weight = np.ones(9)
    if criterion.kaiser:
        weight = np.sqrt(np.diag(L @ Phi @ L.T))

    def value(i, j, step):
        moved = turned_a_little(L, B, manifold, i, j, step)
        return criterion.value_and_gradient(moved / weight[:, None])[0]

    pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
    if manifold is Orthogonal:
        pairs = [(i, j) for i, j in pairs if i < j]
    slopes = [(value(i, j, h) - value(i, j, -h)) / (2 * h) for i, j in pairs]
    constraints = stationarity(L, Phi, criterion)
    np.testing.assert_allclose(-constraints, slopes, rtol=1e-6, atol=1e-8)


@each_criterion
def test_constraints_take_the_complex_step(criterion):
    rng, h = generator(2), 1e-6
    L, dL = without_rows(blurred(9, 3)), rng.normal(size=(9, 3))
    dL[[1, 4]] = 0.0  # a row without communality has no derivative where it is weighted
    Phi = np.array([[1, 0.2, 0.1], [0.2, 1, -0.3], [0.1, -0.3, 1]])
    dPhi = rng.normal(size=(3, 3))
    dPhi += dPhi.T
    forth, back = (stationarity(L + s * dL, Phi + s * dPhi, criterion) for s in (h, -h))
    step = stationarity(L + 1e-30j * dL, Phi + 1e-30j * dPhi, criterion)
    np.testing.assert_allclose(step.imag / 1e-30, (forth - back) / (2 * h), rtol=1e-6, atol=1e-7)


def test_promax_has_no_constraints():
    with pytest.raises(ValueError, match="promax makes no criterion stationary"):
        stationarity(HARMAN, np.eye(2), PromaxTurn(4.0))
