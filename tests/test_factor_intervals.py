"""Intervals of factor analysis: closed forms, rotations, units, counts, holes, simulations."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklvm import EMFactorAnalysis
from sklvm.numerics.rotation import rotate
from sklvm.rotations import ROTATIONS, Oblimin, Orthomax, Promax, Target
from tests._models import make, rows, sweep

RNG = np.random.default_rng
PRECISE = {"tol": 1e-14, "max_iter": 50_000}
NORMAL = 1.959963984540054


def simulated(n=300, d=6, holes=0.0, seed=0):
    """Two correlated factors, each behind half of the columns."""
    rng = RNG(seed)
    W = np.kron(np.eye(2), np.full((1, d // 2), 0.8)) + 0.15 * rng.normal(size=(2, d))
    X = rng.normal(size=(n, 2)) @ [[1.0, 0.4], [0.0, 0.9]] @ W + 0.6 * rng.normal(size=(n, d))
    X[rng.uniform(size=X.shape) < holes] = np.nan
    return X + np.arange(d)


def fit(X, q=2, **settings):
    return EMFactorAnalysis(q, heywood_penalty=0.0, **PRECISE).set_params(**settings).fit(X)


def turned(model, spec):
    """The model with its factors turned."""
    state = model.state_
    criterion = spec.criterion(*state.loadings.shape)
    turn = rotate(state.standardised_loadings, criterion, RNG(0)).turn
    model.run_ = model.run_._replace(state=replace(state, turn=turn))
    model.rotation = spec
    return model


def flat(intervals):
    return [end for part in intervals for end in part]


# --- closed forms -----------------------------------------------------------------------------


def spearman(S):
    """The uniquenesses of three columns and one factor, which explain any covariance."""
    sd = np.sqrt(np.diag(S))
    R = S / np.outer(sd, sd)
    return 1 - np.array(
        [R[j, k] * R[j, m] / R[k, m] for j, k, m in ((0, 1, 2), (1, 0, 2), (2, 0, 1))]
    )


def error_of(function, S, V):
    """Delta method: V (9, 9) is the covariance of the entries of S (3, 3)."""
    h, slopes = 1e-5, []
    for unit in h * np.eye(9).reshape(9, 3, 3):
        both = (unit + unit.T) / 2
        slopes.append((function(S + both) - function(S - both)) / (2 * h))
    J = np.array(slopes).T
    return np.sqrt(np.diag(J @ V @ J.T))


@pytest.mark.parametrize("method", ["expected", "hessian", "sandwich"])
def test_three_columns_and_one_factor_are_as_certain_as_their_covariance(method):
    rng, n = RNG(0), 400
    X = rng.normal(size=(n, 1)) * [0.8, 1.0, 1.2] + rng.standard_t(6, size=(n, 3))
    model = fit(X, 1)
    diff = X - X.mean(axis=0)
    S = diff.T @ diff / n
    if method == "sandwich":
        squares = (diff[:, :, None] * diff[:, None, :]).reshape(n, 9)
        V = np.cov(squares.T, bias=True) / n
    else:
        V = np.einsum("ac,bd->abcd", S, S) + np.einsum("ad,bc->abcd", S, S)
        V = V.reshape(9, 9) / n
    found = model.conf_int(X, method=method)
    assert_allclose(model.uniquenesses_, spearman(S), rtol=1e-6)
    loadings = lambda S: np.sqrt(1 - spearman(S))
    assert_allclose(found.uniquenesses[2], error_of(spearman, S, V), rtol=1e-5)
    assert_allclose(found.communalities[2], found.uniquenesses[2])
    assert_allclose(found.loadings[2][:, 0], error_of(loadings, S, V), rtol=1e-5)
    noise = lambda S: spearman(S) * np.diag(S)
    assert_allclose(found.noise_variance[2], error_of(noise, S, V), rtol=1e-5)
    raw = lambda S: loadings(S) * np.sqrt(np.diag(S))
    assert_allclose(found.components[2][0], error_of(raw, S, V), rtol=1e-5)
    assert_allclose(found.structure[2], found.loadings[2])
    assert_allclose(found.mean[2], np.sqrt(np.diag(S) / n), rtol=1e-5)


def test_ends_are_symmetric_on_their_scales():
    X = simulated()
    model = turned(fit(X), ROTATIONS["oblimin"])
    found = model.conf_int(level=0.95)
    for name, to in [
        ("components", lambda v: v),
        ("loadings", lambda v: v),
        ("structure", lambda v: v),
        ("mean", lambda v: v),
        ("noise_variance", np.log),
        ("uniquenesses", lambda v: np.log(v / (1 - v))),
        ("communalities", lambda v: np.log(v / (1 - v))),
    ]:
        low, high, error = getattr(found, name)
        estimate, h = getattr(model, f"{name}_"), 1e-6
        slope = (to(estimate + h) - to(estimate - h)) / (2 * h)
        assert_allclose(to(high) - to(estimate), NORMAL * slope * error, rtol=1e-6, err_msg=name)
        assert_allclose(to(estimate) - to(low), NORMAL * slope * error, rtol=1e-6, err_msg=name)
    low, high, error = (part[0, 1] for part in found.factor_correlation)
    phi = model.factor_correlation_[0, 1]
    assert np.arctanh(high) - np.arctanh(phi) == pytest.approx(NORMAL * error / (1 - phi**2))
    assert np.arctanh(phi) - np.arctanh(low) == pytest.approx(NORMAL * error / (1 - phi**2))
    assert error > 0
    for part, given in zip(found.factor_correlation, (1.0, 1.0, 0.0)):
        assert_array_equal(np.diag(part), given)


# --- where the information comes from ---------------------------------------------------------


def test_no_rows_are_needed_after_complete_ones():
    X = simulated()
    model = fit(X)
    for method in ("auto", "expected", "hessian"):
        for a, b in zip(
            flat(model.conf_int(method=method)), flat(model.conf_int(X, method=method))
        ):
            assert_allclose(a, b, rtol=1e-8, atol=1e-12)
    by_matrix = EMFactorAnalysis(2, heywood_penalty=0.0, **PRECISE)
    by_matrix.fit_covariance(np.cov(X.T, bias=True), len(X), X.mean(axis=0))
    for a, b in zip(flat(by_matrix.conf_int()), flat(model.conf_int())):
        assert_allclose(a, b, rtol=1e-5, atol=1e-8)
    slow = fit(X, solver="em")
    for a, b in zip(flat(slow.conf_int()), flat(model.conf_int())):
        assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_rows_with_gaps_take_the_observed_information():
    X = simulated(holes=0.15)
    model = fit(X)
    found = model.conf_int(X)
    for a, b in zip(flat(found), flat(model.conf_int(X, method="hessian"))):
        assert_array_equal(a, b)
    whole = fit(simulated()).conf_int()
    assert (found.mean.standard_error > whole.mean.standard_error).all()
    assert (found.uniquenesses.standard_error > 0.9 * whole.uniquenesses.standard_error).all()
    with pytest.raises(ValueError, match="conf_int needs X here.*complete rows"):
        model.conf_int()
    with pytest.raises(ValueError, match="'expected' is for complete rows, X has NaN"):
        model.conf_int(X, method="expected")


def test_expected_and_observed_agree_with_many_rows():
    X = simulated(n=20_000)
    model = turned(fit(X), ROTATIONS["varimax"])
    expected = flat(model.conf_int())
    for method in ("hessian", "sandwich", "opg"):
        for a, b in zip(expected, flat(model.conf_int(X, method=method))):
            assert_allclose(a, b, rtol=0.05, atol=1e-3)


def test_the_penalty_counts():
    X = simulated(n=60)
    strong, weak = (fit(X, heywood_penalty=c) for c in (5.0, 0.0))
    share = strong.conf_int().noise_variance.standard_error / strong.noise_variance_
    assert (share < weak.conf_int().noise_variance.standard_error / weak.noise_variance_).all()


# --- the contract -----------------------------------------------------------------------------


@sweep(["fa", "fa-em", "fa-ml"])
def test_shapes_ranges_and_order(name):
    X = rows(d=4, holes=True)
    model = make(name).set_params(**PRECISE).fit(X)
    found = model.conf_int(X)
    for kind, (low, high, error) in zip(found._fields, found):
        estimate = getattr(model, f"{kind}_")
        assert low.shape == high.shape == error.shape == estimate.shape
        if kind != "factor_correlation":
            assert (low < estimate).all() and (estimate < high).all() and (error > 0).all()
    assert (found.uniquenesses.low > 0).all() and (found.uniquenesses.high < 1).all()
    wider = model.conf_int(X, level=0.99)
    assert (wider.loadings.low < found.loadings.low).all()
    assert (wider.uniquenesses.high > found.uniquenesses.high).all()


@pytest.mark.parametrize("holes", [False, True])
def test_counts_are_repeated_rows_and_rows_of_nothing_are_none(holes):
    X, rng = rows(d=4, holes=holes), RNG(2)
    weight = rng.integers(0, 4, len(X))
    model = make("fa").set_params(**PRECISE).fit(X, sample_weight=weight)
    repeated = rng.permutation(np.repeat(X, weight, axis=0))
    more = np.concatenate([X, np.full((2, 4), np.nan), 1e3 + X[:2]])
    for method in ("auto", "sandwich"):
        expected = flat(model.conf_int(repeated, method=method))
        for other in (
            model.conf_int(X, sample_weight=weight, method=method),
            model.conf_int(more, sample_weight=np.r_[weight, 5, 1, 0, 0], method=method),
        ):
            for a, b in zip(flat(other), expected):
                assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", ["auto", "hessian", "sandwich", "opg"])
@pytest.mark.parametrize("holes", [0.0, 0.1])
def test_units_do_not_matter(method, holes):
    X, scale = simulated(holes=holes), np.array([30.0, 1e-3, 7.0, 1.0, 1e4, 0.5])
    near, far = (
        turned(fit(data), ROTATIONS["varimax"]).conf_int(data, method=method)
        for data in (X, X * scale)
    )
    for kind, factor in [
        ("loadings", 1.0),
        ("structure", 1.0),
        ("uniquenesses", 1.0),
        ("components", scale),
        ("noise_variance", scale**2),
        ("mean", scale),
    ]:
        for a, b in zip(getattr(far, kind), getattr(near, kind)):
            assert_allclose(a, b * factor, rtol=1e-3, atol=1e-3 * np.abs(b * factor).max())


def test_constant_columns_are_certain():
    X = simulated()
    with pytest.warns(UserWarning, match="constant"):
        model = fit(np.insert(X, 1, 7.0, axis=1))
    found, without = model.conf_int(), fit(X).conf_int()
    assert_array_equal([part[1] for part in found.mean], [7.0, 7.0, 0.0])
    assert_array_equal([part[1] for part in found.uniquenesses], [1.0, 1.0, 0.0])
    assert_array_equal([part[1] for part in found.communalities], np.zeros(3))
    assert_array_equal([part[1] for part in found.loadings], np.zeros((3, 2)))
    assert_array_equal([part[:, 1] for part in found.components], np.zeros((3, 2)))
    for a, b in zip(found.loadings, without.loadings):
        assert_allclose(np.delete(a, 1, axis=0), b, rtol=1e-6)


# --- rotations --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROTATIONS)
def test_rotations_share_what_does_not_turn(name):
    X = simulated()
    plain, model = fit(X), turned(fit(X), ROTATIONS[name])
    found, expected = model.conf_int(), plain.conf_int()
    for kind in ("uniquenesses", "communalities", "noise_variance", "mean"):
        for a, b in zip(getattr(found, kind), getattr(expected, kind)):
            assert_allclose(a, b, rtol=1e-6)
    oblique = np.abs(model.factor_correlation_[0, 1]) > 1e-8
    assert (found.factor_correlation.standard_error[0, 1] > 0) == oblique
    same = np.allclose(found.structure.standard_error, found.loadings.standard_error, rtol=1e-6)
    assert same != oblique
    assert (found.loadings.standard_error > 0).all()
    assert not np.allclose(found.loadings.standard_error, expected.loadings.standard_error)


def test_a_complete_target_in_units_of_the_columns_that_vary():
    X = simulated()
    target = Target(np.kron(np.eye(2), np.full((3, 1), 0.7)))
    expected = turned(fit(X), target).conf_int()
    with pytest.warns(UserWarning, match="constant"):
        model = turned(fit(np.insert(X, 2, 1.0, axis=1)), target)
    model.rotation = Target(np.insert(target.target, 2, 5.0, axis=0))
    found = model.conf_int()
    assert_allclose(np.delete(found.loadings.low, 2, axis=0), expected.loadings.low, rtol=1e-5)


SPECS = {
    **ROTATIONS,
    "raw varimax": Orthomax(kaiser=False),
    "raw oblimin": Oblimin(kaiser=False),
    "raw promax": Promax(power=3, kaiser=False),
    "target": Target(np.kron(np.eye(2), np.full((3, 1), 0.7))),
}


def fit_matrix(S, rotation):
    model = EMFactorAnalysis(2, heywood_penalty=0.0, **PRECISE).fit_covariance(S, 100)
    return model if rotation is None else turned(model, SPECS[rotation])


def estimates(S, rotation, like):
    """Loadings, uniquenesses and correlation of factors in one vector; factors as in `like`."""
    model = fit_matrix(S, rotation)
    inner = model.loadings_.T @ like
    order = np.abs(inner).argmax(axis=0)
    sign = np.sign(inner[order, [0, 1]])
    L, C = (A[:, order] * sign for A in (model.loadings_, model.components_.T))
    phi = model.factor_correlation_[0, 1] * sign.prod()
    return np.concatenate([C.ravel(), L.ravel(), model.uniquenesses_, [phi]])


@pytest.mark.parametrize("rotation", [None, *SPECS])
def test_errors_are_those_of_the_estimator(rotation):
    """The whole way from a covariance to rotated loadings, by differences, under Wishart's law."""
    S, h, slopes = fit(simulated()).get_covariance(), 1e-4, []
    model, sd = fit_matrix(S, rotation), np.sqrt(np.diag(S))
    pairs = list(zip(*np.triu_indices(6)))
    for j, k in pairs:
        E = np.zeros((6, 6))
        E[j, k] = E[k, j] = h * sd[j] * sd[k]
        ahead, back = (estimates(S + s * E, rotation, model.loadings_) for s in (1, -1))
        slopes.append((ahead - back) / (2 * h))
    J, R = np.array(slopes).T, S / np.outer(sd, sd)
    V = [[(R[a, c] * R[b, e] + R[a, e] * R[b, c]) / 100 for c, e in pairs] for a, b in pairs]
    expected = np.sqrt(np.diag(J @ np.array(V) @ J.T))
    found = model.conf_int()
    parts = found.components[2].T, found.loadings[2], found.uniquenesses[2]
    errors = [*(part.ravel() for part in parts), [found.factor_correlation[2][0, 1]]]
    assert_allclose(np.concatenate(errors), expected, rtol=2e-3, atol=1e-6)


def test_promax_of_another_varimax_is_refused():
    model = turned(fit(simulated()), ROTATIONS["promax"])
    turn = np.array([[1.0, 0.0], [0.6, 0.8]])
    model.run_ = model.run_._replace(state=replace(model.state_, turn=turn))
    with pytest.raises(ValueError, match="conf_int is for fitted models"):
        model.conf_int()


# --- what goes wrong --------------------------------------------------------------------------


def test_a_heywood_case_is_said_once_and_gives_nan():
    rng = RNG(6)
    W = rng.normal(size=(4, 10))
    model = EMFactorAnalysis(4).fit(rng.normal(size=(60, 4)) @ W + 0.3 * rng.normal(size=(60, 10)))
    assert model.heywood_.any()
    with pytest.warns(UserWarning, match=r"columns \[.*Heywood cases.*boundary") as caught:
        found = model.conf_int()
    assert len(caught) == 1 and caught[0].filename == __file__
    assert np.isnan(found.loadings.standard_error).all()
    assert np.isnan(found.uniquenesses.low).all()


def test_more_factors_than_columns_tell_apart():
    model = EMFactorAnalysis(3, max_iter=5000).fit(simulated(d=4))
    model._heywood = np.zeros(4, bool)
    with pytest.warns(UserWarning, match="not positive definite") as caught:
        found = model.conf_int()
    assert len(caught) == 1 and caught[0].filename == __file__
    assert np.isnan(found.loadings.low).all()


def test_other_rows_are_noticed():
    X = simulated()
    model = fit(X)
    with pytest.warns(UserWarning, match=r"lies \d[\d.]* standard errors away"):
        model.conf_int(X + 0.05)
    with pytest.warns(UserWarning, match=r"lies \d[\d.]* standard errors away"):
        model.conf_int(X * np.linspace(0.9, 1.1, 6))


def test_what_is_refused():
    X = simulated()
    model = fit(X)
    for level in (0, 1.0, 95):
        with pytest.raises(ValueError, match="level must lie between 0 and 1"):
            model.conf_int(X, level)
    with pytest.raises(ValueError, match="method must be one of.*sandwich"):
        model.conf_int(X, method="bootstrap")
    for method in ("sandwich", "opg"):
        with pytest.raises(ValueError, match=f"'{method}' needs the rows: give conf_int X"):
            model.conf_int(method=method)
    with pytest.raises(ValueError, match="give conf_int X as well"):
        model.conf_int(sample_weight=np.ones(len(X)))
    part = model.marginal([0, 1, 2, 3, 4])
    with pytest.raises(ValueError, match="conf_int needs X here"):
        part.conf_int()
    with pytest.raises(ValueError, match="conf_int is for fitted models"):
        part.conf_int(X[:, :5])
    with pytest.raises(ValueError, match="conf_int needs X here"):
        fit(X).fit(X[:4]).conf_int()
    with pytest.raises(ValueError, match="conf_int needs X here"):
        model.fit(simulated(holes=0.1)).conf_int()


def test_a_rotation_that_was_not_fitted_is_noticed():
    model = turned(fit(simulated()), ROTATIONS["varimax"])
    model.rotation = "varimax"
    model.conf_int()
    for rotation in (None, "oblimin"):
        model.rotation = rotation
        with pytest.raises(ValueError, match="a rotation that was set after the fit: use rotate"):
            model.conf_int()


def test_known_parameters_take_rows():
    X = simulated()
    model = fit(X)
    known = EMFactorAnalysis.from_parameters(
        components=model.components_, noise_variance=model.noise_variance_, mean=model.mean_
    )
    for a, b in zip(flat(known.conf_int(X)), flat(model.conf_int(X))):
        assert_allclose(a, b, rtol=1e-6, atol=1e-9)


# --- coverage ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rotation", [None, "varimax", "oblimin"])
def test_standard_errors_are_the_spread_of_estimates(rotation, monkeypatch):
    """The benchmark in small: four standard errors of a deviation are 4 / sqrt(2 n)."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "benchmarks")
    benchmark, n = import_module("factor_conf_int"), 100
    for kind, error, deviation, covered in benchmark.study(rotation, n):
        if kind == "factor_correlation" and rotation != "oblimin":
            assert error.max() < 1e-12 and deviation.max() < 1e-12
            continue
        log_ratio = np.log(error / deviation)
        assert np.abs(log_ratio).max() < 4 / np.sqrt(2 * n), kind
        assert np.abs(log_ratio.mean()) < 2.5 / np.sqrt(2 * n), kind
        assert np.abs(covered - 0.95).max() < 4 * np.sqrt(0.95 * 0.05 / n), kind
