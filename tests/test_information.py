"""conf_int: the information by differences and in closed form, units, counts, holes, coverage."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklvm import GaussianMixture, Mixture, StudentT
from sklvm.emissions.family import STRUCTURES
from sklvm.emissions.simplex import Point
from sklvm.inference.information import information
from sklvm.mixture_state import MixtureState
from tests._models import DISCRETE, can, fitted, make, rows, sweep

RNG = np.random.default_rng
KINDS = ("weights", "means", "covariances")
PRECISE = {"tol": 1e-13, "max_iter": 50000}


def told(n=400, d=2, seed=0, df=3.0):
    """Two overlapping groups of heavy-tailed rows, an eighth of the entries missing."""
    rng = RNG(seed)
    X = rng.standard_normal((n, d)) / np.sqrt(rng.chisquare(df, (n, 1)) / df)
    X = X @ (np.eye(d) + 0.5 * np.tri(d, k=-1)) + 2.5 * (rng.uniform(size=(n, 1)) < 0.4)
    X[rng.uniform(size=X.shape) < 0.12] = np.nan
    return X[~np.isnan(X).all(axis=1)]


def moved(state, where, v):
    """The state at other coordinates."""
    odds, means, matrices, df = np.split(v, where.ends[:-1])
    e = state.emission
    weights = state.weights.mean * np.exp(where.weights @ odds)
    shift = np.einsum("kij,kj->ki", where.means, means.reshape(e.means.shape))
    emission = replace(e, means=e.means + shift, cov=e.cov.unpack(matrices))
    if len(where.df):
        factor = np.ones(len(e.df))
        factor[where.df] = np.exp(df)
        emission = replace(emission, df=e.df * factor)
    return MixtureState(Point(weights / weights.sum()), emission)


def second_differences(f, scale, h=5e-3):
    """The matrix of second derivatives at zero by differences of fourth order."""
    units, at_zero = np.diag(scale), f(0 * scale)

    def second(u):
        near, far = (f(m * u) + f(-m * u) for m in (h, 2 * h))
        return (16 * near - far - 30 * at_zero) / (12 * h**2)

    own = np.array([second(u) for u in units])
    H = np.diag(own)
    for i, j in zip(*np.triu_indices(len(own), 1)):
        H[i, j] = H[j, i] = (second(units[i] + units[j]) - own[i] - own[j]) / 2
    return H


# --- the information --------------------------------------------------------------------------

EMISSIONS = {
    **{name: GaussianMixture(2, covariance_type=name, random_state=0) for name in STRUCTURES},
    "strong prior": GaussianMixture(2, covariance_prior=20.0, random_state=0),
    "ridge": GaussianMixture(2, covariance_type="diag", reg_covar=0.3, random_state=0),
    "t": Mixture(2, emission="student_t", random_state=0),
    "t-tied": Mixture(2, emission="student_t", covariance_type="tied", random_state=0),
    "t5": Mixture(2, emission=StudentT(df=5), covariance_type="VEV", random_state=0),
    "one": Mixture(1, emission="student_t", random_state=0),
}


@pytest.mark.parametrize("name", EMISSIONS)
def test_the_information_is_the_second_derivative(name):
    X = told()
    weight = RNG(1).integers(1, 4, len(X)).astype(float)
    state = EMISSIONS[name].set_params(**PRECISE).fit(X, sample_weight=weight).state_
    found = information(state, X, weight)
    if name in ("t", "t-tied", "one"):
        assert len(found.coordinates.df) == len(state.weights.mean)
    p = state.n_parameters
    assert found.hessian.shape == (p, p)

    def objective(v):
        there = moved(state, found.coordinates, v)
        return weight @ there.log_prob(X) + there.log_prior()

    scale = np.sqrt(weight.sum() / np.diag(found.hessian))
    by_differences = -second_differences(objective, scale) / weight.sum()
    exact = found.hessian * np.outer(scale, scale) / weight.sum()
    assert_allclose(exact, by_differences, atol=1e-5)  # the climb ends that near
    assert np.abs(scale * found.gradient).max() < 1e-3 * np.sqrt(weight.sum())


def test_scores_are_gradients_row_by_row():
    X, h = told()[:40], 1e-3
    state = EMISSIONS["t"].fit(told()).state_
    whole = information(state, X, np.ones(40))
    scores = np.empty((40, len(whole.gradient)))
    for j, unit in enumerate(np.eye(len(whole.gradient))):
        at = {m: moved(state, whole.coordinates, m * h * unit).log_prob(X) for m in (-2, -1, 1, 2)}
        scores[:, j] = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h)
    assert_allclose(whole.outer, scores.T @ scores, rtol=1e-7, atol=1e-7)
    for i in (0, 7):
        alone = information(state, X[[i]], np.ones(1))
        assert_allclose(alone.outer, np.outer(scores[i], scores[i]), rtol=1e-7, atol=1e-7)


# --- closed forms -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["hessian", "sandwich", "opg"])
def test_one_gaussian_has_the_textbook_s_standard_errors(method):
    n, S = 400, np.array([[2.0, 0.7, 0.1], [0.7, 1.0, -0.3], [0.1, -0.3, 3.0]])
    X = RNG(0).multivariate_normal([1.0, -5.0, 100.0], S, size=n)
    model = GaussianMixture(covariance_prior=0.0).fit(X)
    found = model.conf_int(X, method=method)
    (S,) = model.covariances_
    if method == "hessian":
        assert_allclose(found.means.standard_error[0], np.sqrt(np.diag(S) / n), rtol=1e-6)
        v = np.diag(S)
        expected = np.sqrt((np.outer(v, v) + S**2) / n)
        assert_allclose(found.covariances.standard_error[0], expected, rtol=1e-6)
        half = 1.959963984540054 * np.sqrt(v / n)
        assert_allclose(found.means.low[0], X.mean(axis=0) - half, rtol=1e-9)
        ends = [v * np.exp(s * 1.959963984540054 * np.sqrt(2 / n)) for s in (-1, 1)]
        assert_allclose(np.diag(found.covariances.low[0]), ends[0], rtol=1e-6)
        assert_allclose(np.diag(found.covariances.high[0]), ends[1], rtol=1e-6)
        gap = found.covariances.high[0] - found.covariances.low[0]
        assert gap[0, 1] == pytest.approx(2 * 1.959963984540054 * expected[0, 1])
    if method == "sandwich":  # the fourth moments of the rows themselves
        diff = X - X.mean(axis=0)
        squares = diff[:, :, None] * diff[:, None, :]
        expected = np.sqrt(squares.var(axis=0) / n)
        assert_allclose(found.covariances.standard_error[0], expected, rtol=1e-6)
        assert_allclose(found.means.standard_error[0], diff.std(axis=0) / np.sqrt(n), rtol=1e-6)
    assert_array_equal([found.weights.low, found.weights.high], 1.0)
    assert_array_equal(found.weights.standard_error, 0.0)
    assert found.df is None


@pytest.mark.parametrize(
    ("covariance_type", "variance"),
    [
        ("spherical", lambda v, n, d: 2 * v.mean() ** 2 / (n * d)),
        ("diag", lambda v, n, d: 2 * v**2 / n),
    ],
)
def test_variances_of_simpler_matrices(covariance_type, variance):
    X = RNG(0).normal(size=(200, 3))
    model = GaussianMixture(covariance_type=covariance_type, covariance_prior=0.0).fit(X)
    found = model.conf_int(X).covariances
    assert found.low.shape == model.covariances_.shape
    expected = np.sqrt(variance(X.var(axis=0), 200, 3))
    assert_allclose(found.standard_error[0], expected, rtol=1e-6)


def test_far_apart_components_are_counted_and_fitted_one_by_one():
    rng = RNG(0)
    parts = [rng.normal(size=(80, 2)), 1000 + rng.normal(size=(120, 2)) * [1.0, 5.0]]
    settings = {"covariance_prior": 0.0, "random_state": 0}
    found = GaussianMixture(2, **settings).fit(X := np.concatenate(parts)).conf_int(X)
    assert_allclose(found.weights.standard_error, np.sqrt(0.6 * 0.4 / 200), rtol=1e-6)
    odds, error = np.log(1.5), np.sqrt(1 / 80 + 1 / 120)  # of a share, in log odds
    assert found.weights.low[0] == pytest.approx(1 / (1 + np.exp(1.959963985 * error - odds)))
    for k, part in enumerate(parts[::-1]):
        alone = GaussianMixture(**settings).fit(part).conf_int(part)
        assert_allclose(found.means.low[k], alone.means.low[0], rtol=1e-6)
        assert_allclose(found.covariances.high[k], alone.covariances.high[0], rtol=1e-6)


def test_a_missing_entry_is_worth_what_the_others_say_of_it():
    """Two columns, the second seen in n rows of N: the variance of its mean (Anderson 1957)."""
    rng, N, n = RNG(0), 400, 150
    X = rng.multivariate_normal([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]], size=N)
    X[n:, 1] = np.nan
    model = GaussianMixture(covariance_prior=0.0, **PRECISE).fit(X)
    (S,) = model.covariances_
    rest = S[1, 1] - S[0, 1] ** 2 / S[0, 0]
    slope_part = (model.means_[0, 0] - X[:n, 0].mean()) ** 2 / X[:n, 0].var()
    expected = rest / n * (1 + slope_part) + S[0, 1] ** 2 / S[0, 0] / N
    assert model.conf_int(X).means.standard_error[0, 1] == pytest.approx(np.sqrt(expected), 1e-6)


# --- the contract -----------------------------------------------------------------------------

INTERVALS = [name for name in can("conf_int") if name in DISCRETE]


def flat(intervals):
    parts = [part for part in intervals if part is not None]
    return [end for part in parts for end in part]


@sweep(INTERVALS)
def test_shapes_ranges_and_order(name):
    model = make(name).set_params(tol=1e-10, max_iter=5000).fit(X := rows(holes=True))
    found = model.conf_int(X)
    assert found._fields == (*KINDS, "df")
    estimates = [model.weights_, model.means_, model.state_.emission.cov.compact]
    for estimate, (low, high, error) in zip(estimates, found):
        assert low.shape == high.shape == error.shape == estimate.shape
        assert (low < estimate).all() and (estimate < high).all() and (error > 0).all()
    assert (found.weights.low > 0).all() and (found.weights.high < 1).all()
    wider = model.conf_int(X, level=0.99)
    assert all((a.low > b.low).all() for a, b in zip(found[:3], wider))
    if found.df is not None:
        assert found.df.low.shape == model.df_.shape


@sweep(["gmm", "gmm-tied", "gmm-VEE", "mixture-t4"])
def test_counts_are_repeated_rows_and_rows_of_nothing_are_none(name):
    X, rng = rows(holes=True), RNG(2)
    weight = rng.integers(0, 4, len(X))
    model = make(name).set_params(tol=1e-10, max_iter=5000).fit(X, sample_weight=weight)
    repeated = rng.permutation(np.repeat(X, weight, axis=0))
    more = np.concatenate([X, np.full((2, 3), np.nan), 1e3 + X[:2]])
    expected = flat(model.conf_int(repeated))
    for other in (
        model.conf_int(X, sample_weight=weight),
        model.conf_int(more, sample_weight=np.r_[weight, 5, 1, 0, 0]),
    ):
        for a, b in zip(flat(other), expected):
            assert_allclose(a, b, rtol=1e-7)


@pytest.mark.parametrize("method", ["hessian", "sandwich", "opg"])
@sweep(["gmm", "gmm-diag", "gmm-VEE", "mixture-t"])
def test_units_do_not_matter(name, method):
    X, scale = rows(holes=True), np.array([30.0, 1e-3, 7.0])
    settings = {"tol": 1e-12, "max_iter": 20000}
    near = make(name).set_params(**settings).fit(X).conf_int(X, method=method)
    far = make(name).set_params(**settings).fit(X * scale).conf_int(X * scale, method=method)
    square = scale**2 if name == "gmm-diag" else np.outer(scale, scale)
    assert_allclose(far.weights.standard_error, near.weights.standard_error, rtol=1e-4)
    assert_allclose(far.means.standard_error, near.means.standard_error * scale, rtol=1e-4)
    expected = near.covariances.standard_error * square
    assert_allclose(far.covariances.standard_error, expected, rtol=1e-4)


def test_constant_columns_are_certain():
    X = np.insert(rows(holes=True), 1, 7.0, axis=1)
    with pytest.warns(UserWarning, match="constant"):
        model = GaussianMixture(2, random_state=0, tol=1e-10).fit(X)
    found, without = model.conf_int(X), make("gmm").set_params(tol=1e-10)
    without = without.fit(rows(holes=True)).conf_int(rows(holes=True))
    assert_array_equal(found.means.low[:, 1], 7.0)
    assert_array_equal(found.means.standard_error[:, 1], 0.0)
    assert_array_equal(found.covariances.high[:, 1], 0.0)
    for a, b in zip(found.means, without.means):
        assert_allclose(np.delete(a, 1, axis=1), b, rtol=1e-6)


def test_degrees_of_freedom():
    rng = RNG(0)
    X = rng.standard_normal((600, 2)) / np.sqrt(rng.chisquare(4, (600, 1)) / 4)
    model = Mixture(1, emission="student_t", **PRECISE).fit(X)
    found = model.conf_int(X)
    assert 2 < found.df.low[0] < 4 < found.df.high[0] < 8
    fixed = Mixture(1, emission=StudentT(df=4), **PRECISE).fit(X).conf_int(X)
    assert_array_equal(fixed.df, [[4.0], [4.0], [0.0]])
    assert (found.covariances.standard_error > 0.9 * fixed.covariances.standard_error).all()
    normal = RNG(0).uniform(size=(300, 2))  # lighter tails than a Gaussian's
    bound = Mixture(1, emission=StudentT(df_penalty=0.0), **PRECISE).fit(normal)
    assert bound.df_[0] == 1000
    assert np.isnan(bound.conf_int(normal).df.standard_error).all()
    assert np.isfinite(bound.conf_int(normal).means.low).all()


# --- what goes wrong --------------------------------------------------------------------------


def test_no_interior_maximum_is_said_once_and_gives_nan():
    twins = GaussianMixture.from_parameters(
        weights=[0.5, 0.5], means=[[0.0], [0.0]], covariances=[[[1.0]], [[1.0]]]
    )
    X = RNG(0).normal(size=(50, 1))
    for method in ("hessian", "sandwich", "opg"):
        with pytest.warns(UserWarning, match="not positive definite") as caught:
            found = twins.conf_int(X, method=method)
        assert len(caught) == 1
        assert all(np.isnan(end).all() for end in flat(found))


def test_other_rows_are_noticed():
    model, X = fitted("gmm"), rows()
    model.conf_int(X)
    with pytest.warns(UserWarning, match=r"lies \d[\d.]* standard errors away.*rows and weights"):
        model.conf_int(X + 0.05 * X.std(axis=0))


def test_what_is_refused():
    model, X = fitted("gmm"), rows()
    for level in (0, 1.0, 95):
        with pytest.raises(ValueError, match="level must lie between 0 and 1"):
            model.conf_int(X, level)
    with pytest.raises(ValueError, match="method must be one of.*sandwich"):
        model.conf_int(X, method="bootstrap")
    assert not hasattr(fitted("mixture-factors"), "conf_int")
    assert {"gmm", "mixture", "mixture-t4"} <= set(INTERVALS)


# --- coverage ---------------------------------------------------------------------------------


def test_intervals_cover(monkeypatch):
    """The benchmark in small: 95 % within four binomial standard errors of the tables."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "benchmarks")
    benchmark, n = import_module("mixture_conf_int"), 80
    hits = [benchmark.covers(benchmark.gaussian_rows(1 + s), benchmark.TRUTH) for s in range(n)]
    for kind, covered in zip(KINDS, zip(*hits)):
        share = np.mean(covered, axis=0)
        assert np.abs(share - 0.95).max() < 4 * np.sqrt(0.95 * 0.05 / n), kind
