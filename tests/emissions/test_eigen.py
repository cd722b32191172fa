"""The families of Celeux & Govaert: optimal steps, exact counts, nesting, parts, poor data."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import expm
from scipy.optimize import minimize
from sklearn.datasets import load_iris

from sklvm import GaussianMixture, Mixture, StudentT
from sklvm.emissions.covariance import Diag, Penalty, Spherical
from sklvm.emissions.dense import Full, Tied
from sklvm.emissions.eigen import EigenDecomposed
from sklvm.emissions.eigen_steps import _rounds, nearest_rotation
from sklvm.emissions.family import STRUCTURES, named_structure
from sklvm.emissions.statistics import DenseMoments, DiagonalMoments

from .builders import (
    ONE_UNIT,
    TIED_BY_EIGEN,
    covariance,
    eigen_composed,
    positive_definite,
)

FAMILIES = ["EII", "VII", "EEI", "VEI", "EVI", "VVI", *TIED_BY_EIGEN[4:], "EEE", "VVV"]
NAMES = pytest.mark.parametrize("name", TIED_BY_EIGEN)
ALL = pytest.mark.parametrize("name", FAMILIES)
K, D = 3, 3
QUIET = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def structure(name, K=K, d=D, seed=0, **options):
    return covariance(name, K, d, np.random.default_rng(seed), **options)


# --- the M-step is the maximum ----------------------------------------------------------------


def skew(v, d):
    Q = np.zeros((d, d))
    Q[np.tril_indices(d, -1)] = v
    return Q - Q.T


def composed(v, name, K, d):
    """Matrices from log volumes, log shapes and rotations exp(Q), by the letters alone."""
    parts = []
    for letter, width in zip(name, (1, d - 1, d * (d - 1) // 2), strict=True):
        copies = {"I": 0, "E": 1, "V": K}[letter]
        part, v = v[: copies * width].reshape(copies, width), v[copies * width :]
        parts.append(part if copies == K else np.tile(part, (K, 1)) if copies else None)
    assert not len(v)
    S = []
    for k in range(K):
        volume, shape, turn = (None if part is None else part[k] for part in parts)
        log_a = np.zeros(d) if shape is None else np.append(shape, -shape.sum())
        R = np.eye(d) if turn is None else expm(skew(turn, d))
        S.append(np.exp(volume[0]) * R @ np.diag(np.exp(log_a)) @ R.T)
    return np.array(S)


def free_numbers(name, K, d):
    widths = (1, d - 1, d * (d - 1) // 2)
    return sum({"I": 0, "E": 1, "V": K}[c] * w for c, w in zip(name, widths, strict=True))


def target(S, W, n):
    """sum n log|S| + tr(S^-1 W); with n (K, d) for diagonal matrices."""
    if n.ndim == 2:
        v = np.diagonal(S, axis1=1, axis2=2)
        return (n * np.log(v) + np.diagonal(W, axis1=1, axis2=2) / v).sum()
    return sum(
        m * np.linalg.slogdet(s)[1] + np.trace(np.linalg.solve(s, w))
        for s, w, m in zip(S, W, n, strict=True)
    )


def moments_of(W, n):
    origin, zeros = np.zeros((1, D)), np.zeros((K, D))
    if n.ndim == 2:
        return DiagonalMoments(n, n, zeros, np.diagonal(W, axis1=1, axis2=2), origin)
    return DenseMoments(n, n, zeros, W, origin)


@pytest.mark.parametrize("unequal", [False, True], ids=["complete", "holes"])
@pytest.mark.parametrize("penalised", [False, True])
@NAMES
def test_the_m_step_is_the_best_that_an_optimiser_finds(name, penalised, unequal):
    rng = np.random.default_rng(1)
    aligned = name.endswith("I")
    if unequal and not aligned:
        return  # dense structures fill in first: their counts are equal over the features
    options = {"count": 1.5, "strength": 2.0} if penalised else {}
    cov = structure(name, **options)
    W = positive_definite(rng, K, D) * np.array([20.0, 40.0, 90.0])[:, None, None]
    n = np.array([15.0, 30.0, 45.0])
    if aligned:
        n = np.tile(n[:, None], D)
        n = n - rng.uniform(0, 10, n.shape) if unequal else n
    moments = moments_of(W, n)
    heights = []
    for _ in range(200):  # closed forms are there at once, the others climb on
        _, cov = cov.m_step(moments)
        heights.append(target(cov.dense(), W, n) - 2 * cov.log_prior())
    assert np.diff(heights).max() <= 1e-9

    penalty = cov.penalty
    scale = np.diag(penalty.scale) if penalty.scale.ndim == 1 else penalty.scale
    bears = (1 if "V" not in name else K) / K  # a matrix that all share bears the penalty once

    def objective(v):
        S = composed(v, name, K, D)
        prior = target(S, np.tile(scale, (K, 1, 1)), np.full(K, penalty.count))
        return target(S, W, n) + bears * prior

    best = min(
        minimize(objective, 0.5 * rng.normal(size=free_numbers(name, K, D)), tol=1e-10).fun
        for _ in range(6)
    )
    assert heights[-1] == pytest.approx(best, abs=1e-6)
    if name in ("EII", "EEI", "VEI", "VEE", "EEV", "VEV", "EVV") and not unequal:
        assert heights[0] == pytest.approx(best, abs=1e-6)  # to the end in one step


@pytest.mark.parametrize("name", ["EVE", "VVE"])
def test_equal_variances_along_wrong_axes_are_left_behind(name):
    """Two crossed groups whose common axes are the diagonals: along x and y nothing differs."""
    W = 50.0 * np.array([[[1, 0.8], [0.8, 1]], [[1, -0.8], [-0.8, 1]]])
    cov = STRUCTURES[name].broad(np.eye(2), 2, Penalty(0.0, np.zeros((2, 2))))
    _, cov = cov.m_step(
        DenseMoments(*[np.full(2, 50.0)] * 2, np.zeros((2, 2)), W, np.zeros((1, 2)))
    )
    assert_allclose(cov.dense(), W / 50, atol=1e-12)


@pytest.mark.parametrize("d", [2, 3, 4, 7, 10])
def test_a_sweep_turns_every_plane_once_in_disjoint_rounds(d):
    pairs = [tuple(p) for table in _rounds(d) for p in table.T]
    assert sorted(pairs) == sorted((i, j) for i in range(d) for j in range(i + 1, d))
    assert all(len(set(table.ravel())) == table.size for table in _rounds(d))
    assert len(_rounds(d)) == d - 1 + d % 2


@NAMES
def test_axes_stay_orthogonal_and_the_ties_hold_over_many_steps(name):
    cov = structure(name, d=4)
    rng = np.random.default_rng(2)
    for _ in range(50):
        W = 10 * positive_definite(rng, K, 4)
        n = np.full(K, 10.0) if cov.penalty.scale.ndim == 2 else np.full((K, 4), 10.0)
        second = W if n.ndim == 1 else np.diagonal(W, axis1=1, axis2=2)
        statistics = DenseMoments if n.ndim == 1 else DiagonalMoments
        _, cov = cov.m_step(statistics(n, n, np.zeros((K, 4)), second, np.zeros((1, 4))))
    again = STRUCTURES[name].expand(cov.compact, K, 4, Penalty(0.0, np.zeros((4, 4))))
    assert_allclose(again.dense(), cov.dense(), rtol=1e-7, atol=1e-9)
    assert_allclose(cov.dense(), np.swapaxes(cov.dense(), 1, 2), rtol=0, atol=0)
    if hasattr(cov, "D"):
        assert_allclose(np.swapaxes(cov.D, 1, 2) @ cov.D, np.tile(np.eye(4), (K, 1, 1)), atol=1e-13)


# --- exact counts -----------------------------------------------------------------------------


@pytest.mark.parametrize(("K", "d"), [(2, 3), (3, 4), (4, 2), (2, 1), (1, 3)])
@NAMES
def test_the_free_parameters_are_the_rank_of_what_they_do(name, K, d):
    cov = structure(name, K, d, seed=3)
    size, step = len(cov.pack(cov)), 1e-6
    ends = [[cov.unpack(s * step * e).dense().ravel() for e in np.eye(size)] for s in (1, -1)]
    jacobian = (np.array(ends[0]) - np.array(ends[1])) / (2 * step)
    assert np.linalg.matrix_rank(jacobian, tol=1e-6) == cov.n_parameters == size
    assert cov.n_parameters == free_numbers(name, K, d)


# --- nesting, and what is known ---------------------------------------------------------------


def blobs(seed=0, n=40, d=3, K=3):
    rng = np.random.default_rng(seed)
    z = np.repeat(np.arange(K), [n, n + 20, n + 40])
    L = rng.normal(size=(K, d, d))
    return np.einsum("nij,nj->ni", L[z], rng.normal(size=(len(z), d))) + 4 * z[:, None], z


def allows(one, other):
    """Whether each letter of `other` leaves as much freedom as that of `one`."""
    return all("IEV".index(a) <= "IEV".index(b) for a, b in zip(one, other, strict=True))


@QUIET
@pytest.mark.parametrize("holes", [False, True], ids=["complete", "holes"])
def test_more_freedom_ends_higher(holes):
    X, z = blobs()
    if holes:
        X[np.random.default_rng(1).uniform(size=X.shape) < 0.1] = np.nan
        X = X[~np.isnan(X).all(axis=1)]
        z = z[: len(X)]
    settings = {"covariance_prior": 0.0, "tol": 1e-11, "max_iter": 3000}
    ends = {
        name: GaussianMixture(3, covariance_type=name, **settings).fit(X, labels=z).lower_bound_
        for name in FAMILIES
    }
    pairs = [(a, b) for a, b in product(FAMILIES, repeat=2) if a != b and allows(a, b)]
    assert len(pairs) == 61
    for a, b in pairs:
        assert ends[a] < ends[b] + 1e-9, (a, b)
    assert len({round(end, 6) for end in ends.values()}) == 14


def test_four_names_are_scikit_learns_structures():
    X, _ = blobs()
    X[::7, 1] = np.nan
    for name, plain in {"EEE": "tied", "VVV": "full", "VVI": "diag", "VII": "spherical"}.items():
        one, other = (
            GaussianMixture(3, covariance_type=c, random_state=0).fit(X) for c in (name, plain)
        )
        assert_array_equal(one.score_samples(X), other.score_samples(X))
        assert one.n_parameters_ == other.n_parameters_
        assert one.covariances_.shape == other.covariances_.shape


@ALL
def test_one_component_is_the_plain_structure(name):
    X, _ = blobs()
    X[::7, 1] = np.nan
    plain = {"II": "spherical", "EI": "diag", "VI": "diag"}.get(name[1:], "full")
    settings = {"tol": 1e-13, "max_iter": 3000}
    one, other = (GaussianMixture(1, covariance_type=c, **settings).fit(X) for c in (name, plain))
    assert_allclose(one.score_samples(X), other.score_samples(X), rtol=1e-8, atol=1e-8)
    assert one.n_parameters_ == other.n_parameters_


# BIC that mclust's documentation prints for iris with two components; higher is better there.
MCLUST = {
    **{"EII": -1123.4117, "VII": -1012.2352, "EEI": -1042.9679, "VEI": -956.2823},
    **{"EVI": -1007.3082, "VVI": -857.5515, "EEE": -688.0972, "VEE": -656.3270},
    **{"EVE": -657.2263, "EEV": -644.5997, "VEV": -561.7285, "EVV": -658.3306},
    **{"VVE": -605.1841, "VVV": -574.0178},
}


@ALL
def test_iris_ends_where_mclust_does_or_higher(name):
    X = load_iris().data
    settings = {"covariance_prior": 0.0, "random_state": 0, "tol": 1e-9}
    model = GaussianMixture(2, covariance_type=name, **settings).fit(X)
    assert -model.bic(X) >= MCLUST[name] - 1e-4
    if name != "VVE":  # mclust stops half a nat below
        assert -model.bic(X) == pytest.approx(MCLUST[name], abs=1e-3)


# --- turning and stretching the data ----------------------------------------------------------


@ALL
def test_which_families_a_rotation_leaves_alone(name):
    X, _ = blobs()
    R = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    z = np.repeat([0, 1, 2], [40, 60, 80])
    settings = {"covariance_type": name, "tol": 1e-12, "max_iter": 3000}
    here = GaussianMixture(3, **settings).fit(X, labels=z).score_samples(X)
    there = GaussianMixture(3, **settings).fit(X @ R.T, labels=z).score_samples(X @ R.T)
    moved = np.abs(here - there).max()
    free = name[2] != "I" or name[1] == "I"  # the prior turns with the pooled covariance
    assert moved < 1e-6 if free else moved > 1e-3


@ALL
def test_which_families_other_units_leave_alone(name):
    X, z = blobs()
    units = np.array([3.0, 0.5, 1.0])
    settings = {"covariance_type": name, "tol": 1e-12, "max_iter": 3000}
    here = GaussianMixture(3, **settings).fit(X, labels=z).score_samples(X)
    there = GaussianMixture(3, **settings).fit(X * units, labels=z).score_samples(X * units)
    moved = np.abs(here - there - np.log(units).sum()).max()
    assert moved > 1e-3 if name in (*ONE_UNIT, "VII") else moved < 1e-6


# --- parts ------------------------------------------------------------------------------------

KEEPS = {"EII", "EEI", "VEI", "VEE"}  # some features of such matrices are such matrices


@NAMES
def test_parts_are_of_the_type_that_they_say(name):
    X, _ = blobs()
    model = GaussianMixture(3, covariance_type=name, random_state=0).fit(X)
    plain = "diag" if name.endswith("I") else "full"
    for part in (model.marginal([2, 0]), model.condition([1], [0.3])):
        assert part.covariance_type == (name if name in KEEPS else plain)
        S = part.run_.state.emission.cov
        assert type(S) in {"diag": (Diag,), "full": (Full,)}.get(part.covariance_type, (type(S),))
        again = GaussianMixture.from_parameters(
            weights=part.weights_,
            means=part.means_,
            covariances=part.covariances_,
            covariance_type=part.covariance_type,
        )
        assert_allclose(again.score_samples(X[:, :2]), part.score_samples(X[:, :2]), rtol=1e-9)
        assert again.n_parameters_ == part.n_parameters_
        part.fit(X[:, :2])  # and can be fitted afresh


@NAMES
def test_parts_of_student_ts_are_of_the_type_that_they_say(name):
    X, _ = blobs()
    model = Mixture(3, emission=StudentT(df=5), covariance_type=name, random_state=0).fit(X)
    given = model.condition([1], [0.3])
    freed = {"EII": "spherical", "EEI": "VEI", "VEI": "VEI", "EVI": "diag", "VEE": "VEE"}
    assert given.covariance_type == freed.get(name, "full")  # each scale has its own factor
    again = Mixture.from_parameters(weights=given.weights_, emission=given.emission_)
    assert again.covariance_type == given.covariance_type
    assert again.n_parameters_ == given.n_parameters_
    total = model.marginal([1]).score_samples([[0.3]]) + given.score_samples([[0.1, 0.2]])
    assert total == pytest.approx(model.score_samples([[0.1, 0.3, 0.2]]), abs=1e-9)


@NAMES
def test_scaled_matrices_are_in_a_family_that_holds_them(name):
    cov, factor = structure(name), np.array([2.0, 0.5, 7.0])
    scaled = cov.scaled(factor)
    assert_allclose(scaled.dense(), cov.dense() * factor[:, None, None], rtol=1e-12)
    word = named_structure(scaled, name)
    again = STRUCTURES[word].expand(scaled.compact, K, D, Penalty(0.0, np.zeros((D, D))))
    assert_allclose(again.dense(), scaled.dense(), rtol=1e-9)


def test_the_word_for_a_structure():
    assert named_structure(structure("full"), "VVV") == "VVV"
    assert named_structure(structure("full"), "tied") == "full"
    assert named_structure(structure("tied"), "full") == "tied"
    assert named_structure(structure("VEV"), "full") == "VEV"
    assert named_structure(structure("low_rank"), "full") == "full"  # no word names it


# --- given matrices ---------------------------------------------------------------------------


@pytest.mark.parametrize("other", TIED_BY_EIGEN)
@NAMES
def test_matrices_of_another_family_are_refused(name, other):
    if name.endswith("I") != other.endswith("I") or (name == "EII") != (other == "EII"):
        return  # of another shape
    S = eigen_composed(other, K, D, np.random.default_rng(4))
    compact = np.diagonal(S, axis1=1, axis2=2) if name.endswith("I") else S
    compact = compact[:, 0] if name == "EII" else compact
    penalty = Penalty(0.0, np.zeros((D, D)))
    if allows(other, name):
        assert_allclose(
            STRUCTURES[name].expand(compact, K, D, penalty).dense(), S, rtol=1e-8, atol=1e-9
        )
    else:
        with pytest.raises(ValueError, match=f"not of type {name}"):
            STRUCTURES[name].expand(compact, K, D, penalty)


def test_unequal_variances_are_not_of_type_EII():
    with pytest.raises(ValueError, match="not of type EII"):
        GaussianMixture.from_parameters(
            weights=[0.5, 0.5], means=np.eye(2), covariances=[1.0, 2.0], covariance_type="EII"
        )


def test_a_family_that_is_a_plain_structure_is_no_eigen_decomposition():
    for name, plain in {"EEE": Tied, "VVV": Full, "VVI": Diag, "VII": Spherical}.items():
        assert STRUCTURES[name] is plain
        with pytest.raises(ValueError, match=f"'{name}'"):
            EigenDecomposed(*name)


@NAMES
def test_precisions_to_start_from_with_a_constant_column(name):
    """What is left of the matrices need not be of the family: the nearest that is starts."""
    X, _ = blobs()
    S = eigen_composed(name, 3, 4, np.random.default_rng(6))
    P = np.linalg.inv(S)
    diagonal = np.diagonal(P, axis1=1, axis2=2)
    given = {"II": diagonal[:, 0], "EI": diagonal, "VI": diagonal}.get(name[1:], P)
    model = GaussianMixture(3, covariance_type=name, precisions_init=given, random_state=0)
    with pytest.warns(UserWarning, match="constant"):
        model.fit(np.insert(X, 1, 4.0, axis=1))
    assert np.diff(model.history_).min() >= -1e-9
    assert np.isfinite(model.score(np.insert(X, 1, 4.0, axis=1)))


# --- degenerate data --------------------------------------------------------------------------


@ALL
def test_fewer_rows_than_features(name):
    X = np.random.default_rng(0).normal(size=(8, 12))
    model = GaussianMixture(3, covariance_type=name, random_state=0).fit(X)
    assert np.isfinite(model.score_samples(X)).all()
    assert np.diff(model.history_).min() >= -1e-9 * (1 + np.abs(model.history_).max())


@ALL
def test_duplicate_columns_and_rows(name):
    X, _ = blobs(n=10)
    X = np.concatenate([X, X])[:, [0, 1, 2, 0]]
    model = GaussianMixture(3, covariance_type=name, random_state=0).fit(X)
    assert np.isfinite(model.score_samples(X)).all()


@pytest.mark.parametrize("name", ["EII", "EEI", "VEI", "EEE", "VEE", "EEV", "VEV"])
def test_shared_shapes_need_no_prior_where_a_component_has_few_rows(name):
    X, z = blobs(d=5)
    few = np.flatnonzero((z > 0) | (np.arange(len(z)) < 3))  # three rows of five features
    settings = {"covariance_prior": 0.0, "covariance_type": name}
    model = GaussianMixture(3, **settings).fit(X[few], labels=z[few])
    assert np.isfinite(model.score_samples(X)).all()
    with pytest.raises(ValueError, match="singular covariance"):
        model.set_params(covariance_type="VVV").fit(X[few], labels=z[few])


@ALL
def test_columns_of_very_different_spread(name):
    X, _ = blobs()
    model = GaussianMixture(2, covariance_type=name, random_state=0)
    far = X * np.array([1e-4, 1.0, 1e2])
    assert np.isfinite(model.fit(far).score_samples(far)).all() and model.converged_
    absurd = X * np.array([1e-4, 1.0, 1e5])
    if name in ("EVE", "VVE", "EEV", "VEV"):
        with pytest.raises(ValueError, match=rf"type {name} compares columns.*factor of \de\+\d+"):
            model.fit(absurd)
    else:
        assert np.isfinite(model.fit(absurd).score_samples(absurd)).all() and model.converged_


@pytest.mark.parametrize("ridge", [0.0, 0.4])
@NAMES
def test_a_component_without_rows_lets_nothing_fall(name, ridge):
    """With and without a penalty that speaks of its matrix though no row does."""
    cov = structure(name)
    scale = ridge * (np.ones(D) if cov.penalty.scale.ndim == 1 else np.eye(D))
    cov = replace(cov, penalty=Penalty(0.0, scale))
    W = 30 * positive_definite(np.random.default_rng(3), K, D)
    n = np.array([30.0, 0.0, 30.0])
    W[1] = 0.0
    if scale.ndim == 1:
        n = np.tile(n[:, None], D)
    heights = [target(cov.dense(), W, n) - 2 * cov.log_prior()]
    for _ in range(20):
        _, cov = cov.m_step(moments_of(W, n))
        heights.append(target(cov.dense(), W, n) - 2 * cov.log_prior())
        assert np.isfinite(cov.dense()).all()
    assert np.diff(heights).max() <= 1e-9
    assert heights[-1] < heights[0] - 1.0


def test_the_nearest_rotation_mirrors_nothing():
    rng = np.random.default_rng(0)
    R = np.linalg.qr(rng.normal(size=(50, 4, 4)))[0]
    near = nearest_rotation(R)
    assert_allclose(np.linalg.det(near), 1.0)
    assert_allclose(np.abs(near), np.abs(R))
    close = np.linalg.qr(np.eye(4) + 0.1 * rng.normal(size=(50, 4, 4)))[0]
    assert (nearest_rotation(close).diagonal(axis1=1, axis2=2) > 0).all()
