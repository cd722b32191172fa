"""From constructor words to penalties: the rules of regularisation, by their formulas."""

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from sklvm.emissions.family import STRUCTURES, CovarianceFamily, full_rank
from sklvm.emissions.gaussian import Gaussians
from tests.emissions.builders import ONE_UNIT, positive_definite

K, D, WEIGHT = 3, 4, 120.0
ONE_MATRIX = ("EII", "EEI", "EEE")
# mclust's nVarParams for d = 4, G = 3, from the formulas of Celeux & Govaert (1995), table 1.
PARAMETERS = {
    **{"EII": 1, "VII": 3, "EEI": 4, "VEI": 6, "EVI": 10, "VVI": 12, "EEE": 10, "VEE": 12},
    **{"EVE": 16, "VVE": 18, "EEV": 22, "VEV": 24, "EVV": 28, "VVV": 30},
}
S = positive_definite(np.random.default_rng(0), D)


def family(name, prior="auto", reg_covar=0.0, pooled=S, weight=WEIGHT):
    mean = np.zeros(len(pooled))
    return CovarianceFamily(STRUCTURES[name], prior, reg_covar, mean, pooled, weight)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        *(("full", D / 2), ("tied", D / 2), ("diag", D / (D + 1)), ("spherical", 1 / (D + 1))),
        *(
            (name, PARAMETERS[name] / (1 if "V" not in name else K) / (D + 1))
            for name in PARAMETERS
        ),
    ],
)
def test_pseudo_observations_are_free_parameters_over_d_plus_one(name, count):
    cov = family(name).broad(K)
    assert cov.penalty.count == pytest.approx(count)
    target = count * K ** (-2 / D) * S
    expected = target if cov.penalty.scale.ndim == 2 else np.diag(target)
    assert cov.penalty.scale.ndim == (1 if name in ("diag", "spherical") or name[2] == "I" else 2)
    np.testing.assert_allclose(cov.penalty.scale, expected, rtol=1e-12)
    free = cov.n_parameters / (1 if name in ("tied", *ONE_MATRIX) else K)
    assert cov.penalty.count == pytest.approx(free / (D + 1))


@pytest.mark.parametrize("name", STRUCTURES)
def test_zero_is_maximum_likelihood(name):
    cov = family(name, prior=0).broad(K)
    assert cov.penalty.count == 0
    assert not cov.penalty.scale.any()
    assert cov.log_prior() == 0.0


def weighted_scatters(X, resp):
    means = resp.T @ X / resp.sum(axis=0)[:, None]
    return np.stack(
        [(r[:, None] * (X - m)).T @ (X - m) for r, m in zip(resp.T, means, strict=True)]
    )


def one_step(cov, X, resp):
    value = Gaussians(np.zeros((resp.shape[1], X.shape[1])), cov)
    return value.m_step(value.stats(X, resp)).cov.dense()


def data():
    rng = np.random.default_rng(1)
    return rng.standard_normal((120, D)), rng.dirichlet(np.ones(K), 120)


def test_the_m_step_adds_s_pseudo_observations_of_the_target():
    X, resp = data()
    n, W, L0 = resp.sum(axis=0), weighted_scatters(X, resp), K ** (-2 / D) * S
    s = D / 2
    expected = (W + s * L0) / (n + s)[:, None, None]
    np.testing.assert_allclose(one_step(family("full").broad(K), X, resp), expected, rtol=1e-10)
    expected = (W.sum(axis=0) + s * L0) / (n.sum() + s)
    np.testing.assert_allclose(one_step(family("tied").broad(K), X, resp)[1], expected, rtol=1e-10)
    s = 3.0
    expected = (W + s * L0) / (n + s)[:, None, None]
    diagonal = np.diagonal(expected, axis1=1, axis2=2)
    for name, variances in [("diag", diagonal), ("spherical", diagonal.mean(axis=1)[:, None])]:
        after = one_step(family(name, prior=s).broad(K), X, resp)
        np.testing.assert_allclose(
            np.diagonal(after, axis1=1, axis2=2), np.broadcast_to(variances, (K, D)), rtol=1e-10
        )


@pytest.mark.parametrize("name", STRUCTURES)
def test_reg_covar_adds_to_the_diagonal_where_components_weigh_the_same(name):
    """As in scikit-learn, whose M-step adds reg_covar to every variance."""
    X, _ = data()
    resp = np.full((120, K), 1 / K)
    after = one_step(family(name, prior=0, reg_covar=0.3).broad(K), X, resp)
    plain = one_step(family(name, prior=0).broad(K), X, resp)
    np.testing.assert_allclose(after, plain + 0.3 * np.eye(D), rtol=1e-10, atol=1e-12)
    if name not in ("full", "tied", "diag", "spherical"):
        return
    peer = GaussianMixture(1, covariance_type=name, reg_covar=0.3).fit(X)
    diagonal = np.diagonal(after[0]) if name != "spherical" else after[0, 0, 0]
    compact = peer.covariances_.squeeze() if name != "tied" else peer.covariances_
    expected = np.diagonal(compact) if compact.ndim == 2 else compact
    np.testing.assert_allclose(diagonal, expected, rtol=1e-8)


@pytest.mark.parametrize("name", STRUCTURES)
def test_reg_covar_is_the_fixed_penalty(name):
    """-(reg_covar sum(w) / 2K) sum_k tr S_k^-1, in every structure."""
    cov = family(name, prior=0, reg_covar=0.3).broad(K)
    traces = np.trace(np.linalg.inv(cov.dense()), axis1=1, axis2=2)
    assert cov.log_prior() == pytest.approx(-0.3 * WEIGHT / (2 * K) * traces.sum(), rel=1e-10)


def test_the_target_shrinks_with_the_number_of_components():
    np.testing.assert_allclose(family("full").target(1), S)
    np.testing.assert_allclose(family("full").target(16), S / 4, rtol=1e-12)  # 16^(-2/4)
    one = family("full", pooled=np.array([[9.0]]))
    np.testing.assert_allclose(one.target(3), 1.0)  # 3^-2


@pytest.mark.parametrize("name", STRUCTURES)
def test_broad_copies_the_pooled_covariance(name):
    dense = family(name).broad(K).dense()
    assert dense.shape == (K, D, D)
    round_, aligned = np.eye(D) * np.trace(S) / D, np.diag(np.diag(S))
    expected = {"II": round_, "EI": aligned, "VI": aligned}.get(name[1:], S)
    expected = {"spherical": round_, "diag": aligned}.get(name, expected)
    np.testing.assert_allclose(dense, np.tile(expected, (K, 1, 1)), rtol=1e-12)


def test_a_full_rank_matrix_is_left_alone():
    np.testing.assert_array_equal(full_rank(S, 10.0), S)
    units = np.array([1e-8, 1.0, 1e8, 3.0])
    scaled = S * np.outer(units, units)
    np.testing.assert_array_equal(full_rank(scaled, 10.0), scaled)


def fewer_rows_than_columns():
    X = np.random.default_rng(2).standard_normal((3, D))
    return np.cov(X.T, bias=True), 3.0


def duplicate_columns():
    X = np.random.default_rng(2).standard_normal((50, D))
    X[:, 3] = 7 * X[:, 0] + 1
    return np.cov(X.T, bias=True), 50.0


@pytest.mark.parametrize("case", [fewer_rows_than_columns, duplicate_columns])
@pytest.mark.parametrize("units", [1.0, 1e-8, np.array([1e-8, 1.0, 1e8, 3.0])])
def test_a_singular_matrix_is_drawn_to_its_diagonal(case, units):
    pooled, weight = case()
    pooled = pooled * np.outer(units * np.ones(D), units * np.ones(D))
    shrink = D / (weight + D)
    expected = (1 - shrink) * pooled + shrink * np.diag(np.diag(pooled))
    np.testing.assert_allclose(full_rank(pooled, weight), expected, rtol=1e-12)
    np.linalg.cholesky(full_rank(pooled, weight))
    for name in STRUCTURES:
        one = family(name, pooled=pooled, weight=weight)
        if np.ptp(units) and name in ONE_UNIT and name not in ("spherical", "EII"):
            with pytest.raises(ValueError, match="compares columns"):
                one.broad(K)
            continue
        assert np.isfinite(one.broad(K).log_prior())


@pytest.mark.parametrize("name", ["full", "tied", "diag"])
def test_the_penalty_follows_the_units(name):
    units = np.array([1e-8, 1.0, 1e8, 3.0])
    here = family(name).broad(K)
    there = family(name, pooled=S * np.outer(units, units)).broad(K)
    scale = np.outer(units, units) if here.penalty.scale.ndim == 2 else units**2
    np.testing.assert_allclose(there.penalty.scale, here.penalty.scale * scale, rtol=1e-12)
