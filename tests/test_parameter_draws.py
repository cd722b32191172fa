"""Parameters drawn before the missing entries: from q, by random weights; Rubin's rules."""

import warnings
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import t as student
from sklearn.exceptions import ConvergenceWarning

from sklvm import EMFactorAnalysis, GaussianMixture, VariationalGMM, pool
from sklvm.emissions.simplex import Dirichlet
from sklvm.inference.bootstrap import weighted_rows
from sklvm.numerics.linalg import posterior_and_evidence
from tests._models import CLIMBERS, MODELS, fitted, make, rows, sweep

RNG = np.random.default_rng


def within_5_se(draws, expected):
    """The mean over the first axis is what is expected, within 5 standard errors."""
    gap = np.asarray(draws) - expected
    se = gap.std(axis=0, ddof=1) / np.sqrt(len(gap))
    assert (np.abs(gap.mean(axis=0)) <= 5 * se + 1e-12).all(), (gap.mean(axis=0), se)


# --- draws from q -----------------------------------------------------------------------------


def test_dirichlet_draws():
    q = Dirichlet(np.array([0.01, 2.0, 5.0]), np.ones(3))
    draws = np.array([q.draw(RNG(seed)).mean for seed in range(3000)])
    assert_allclose(draws.sum(axis=1), 1.0, rtol=1e-12)
    within_5_se(draws, q.mean)
    within_5_se((draws - q.mean) ** 2, q.mean * (1 - q.mean) / (q.alpha.sum() + 1))


def test_normal_wishart_draws():
    q = fitted("vb-tight").state_.emission
    K, d = q.m.shape
    rng = RNG(0)
    draws = [q.draw(rng) for _ in range(4000)]
    precision = np.array([g.cov.precisions() for g in draws])
    within_5_se(precision, q.nu[:, None, None] * np.linalg.inv(q.S))
    within_5_se(np.log(np.linalg.det(precision)), q._expected_log_det())
    gap = np.array([g.means for g in draws]) - q.m
    within_5_se(gap, 0.0)
    square = np.einsum("ski,skij,skj->sk", gap, precision, gap)  # beta L is the mean's precision
    within_5_se(square, d / q.beta)


@sweep([name for name in MODELS if name.startswith("vb")])
def test_drawn_densities_average_to_the_predictive(name):
    model, X = fitted(name, holes=True), rows(holes=True)[:8]
    draws = list(model._parameter_draws(X, 3000, RNG(0)))
    joint = np.array([state.joint(X) for state in draws])
    log_prob = np.array([posterior_and_evidence(part)[1] for part in joint])
    expected = model.score_samples(X)
    within_5_se(np.exp(log_prob - expected), 1.0)


# --- random weights ---------------------------------------------------------------------------


def test_repeated_rows_weigh_what_they_weigh_together():
    X = np.array([[1.0, np.nan], [2.0, 0.0], [1.0, np.nan], [1.0, np.nan]])
    weights = []
    for seed in range(2000):
        distinct, weight = weighted_rows(X, RNG(seed))
        weights.append(weight)
    assert_array_equal(distinct, [[1.0, np.nan], [2.0, 0.0]])
    assert_allclose(np.sum(weights, axis=1), 4.0, rtol=1e-12)
    share = np.array(weights)[:, 0] / 4  # Beta(3, 1)
    within_5_se(share, 0.75)
    within_5_se((share - 0.75) ** 2, 0.75 * 0.25 / 5)
    again = weighted_rows(X[::-1], RNG(7))[1]
    assert_array_equal(again, weighted_rows(X, RNG(7))[1])


def test_a_gaussian_has_the_moments_of_the_bayesian_bootstrap():
    X = RNG(0).gamma(2.0, size=(40, 2))
    model = GaussianMixture(covariance_prior=0.0).fit(X)
    drawn = list(model._parameter_draws(X, 1500, RNG(1)))
    means = np.array([state.emission.means[0] for state in drawn])
    S = np.cov(X.T, bias=True)
    within_5_se(means, X.mean(axis=0))
    gap = means - X.mean(axis=0)
    within_5_se(gap[:, :, None] * gap[:, None, :], S / 41)
    matrices = np.array([state.emission.cov.S[0] for state in drawn])
    within_5_se(matrices, S * 40 / 41)


def test_each_member_of_an_ensemble_is_refitted():
    model, X = fitted("ensemble", holes=True), rows(holes=True)
    state = model.state_
    assert_allclose([p.weights.mean.sum() for p in state.members], 1.0, rtol=1e-12)
    average = np.mean([np.exp(p.log_prob(X)) for p in state.members], axis=0)
    assert_allclose(np.log(average), model.score_samples(X), rtol=1e-9)
    (drawn,) = model._parameter_draws(X, 1, RNG(0))
    assert drawn.sizes == state.sizes and drawn.n_parameters == state.n_parameters


# --- the verb ---------------------------------------------------------------------------------


@sweep(CLIMBERS)
def test_copies_differ_where_entries_are_missing(name):
    X, model = rows(holes=True), fitted(name, holes=True)
    settings = {"how": "sample", "n_draws": 3, "parameters": "posterior"}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*draws of the parameters")
        kept = dict(vars(model))
        copies = model.impute(X, random_state=0, **settings)
        again = model.impute(X, random_state=0, **settings)
        one = model.impute(X, how="sample", random_state=0, parameters="posterior")
    assert copies.shape == (3, *X.shape) and one.shape == X.shape
    assert_array_equal(copies, again)
    assert np.isfinite(copies).all()
    seen = ~np.isnan(X)
    assert (copies[:, seen].tobytes() == np.tile(X[seen], 3).tobytes()) and (
        copies[0][~seen] != copies[1][~seen]
    ).any()
    assert vars(model) == kept


@pytest.mark.parametrize(
    ("model", "least"),
    [(GaussianMixture(), 1.7), (EMFactorAnalysis(1), 1.7), (VariationalGMM(), 1.1)],
    ids=lambda value: type(value).__name__,
)
def test_drawn_parameters_spread_what_is_common_to_all_rows(model, least):
    X = RNG(0).normal(size=(60, 2))
    X[10:, 1] = np.nan  # ten rows say where the second column lies, and q says it of sixty
    model.fit(X)
    spread = [
        model.impute(X, "sample", 40, 0, parameters)[:, 10:, 1].mean(axis=1).std()
        for parameters in ("point", "posterior")
    ]
    assert spread[1] > least * spread[0]


def test_the_bootstrap_reads_the_rows_that_are_imputed():
    model, X = fitted("gmm", holes=True), rows(holes=True)
    few = X[:1].copy()
    few[0, 0] = np.nan
    settings = {"how": "sample", "parameters": "posterior"}
    with pytest.raises(ValueError, match="refits the model to the rows of X.*whole table"):
        model.impute(few, **settings)
    drawn = fitted("vb", holes=True).impute(few, random_state=0, **settings)  # q knows its rows
    assert np.isfinite(drawn).all()


def test_what_is_refused():
    model, X = fitted("gmm"), rows(holes=True)
    with pytest.raises(ValueError, match="parameters must be 'point' or 'posterior', got 'q'"):
        model.impute(X, how="sample", parameters="q")
    with pytest.raises(ValueError, match="parameters='posterior' needs how='sample', got 'mean'"):
        model.impute(X, parameters="posterior")


def test_an_autoencoder_has_none():
    with pytest.raises(ValueError, match="VAE has no posterior of its parameters"):
        fitted("vae").impute(rows(holes=True), how="sample", parameters="posterior")


def test_draws_that_do_not_converge_are_reported():
    X = rows(holes=True)
    model = make("gmm").fit(X).set_params(max_iter=2)
    with pytest.warns(ConvergenceWarning, match="2 of 2 draws of the parameters"):
        model.impute(X, how="sample", n_draws=2, parameters="posterior", random_state=0)


# --- Rubin's rules ----------------------------------------------------------------------------


def test_rubin_by_hand():
    q, u = np.array([1.0, 1.4, 0.9, 1.1, 1.6]), np.array([0.04, 0.05, 0.03, 0.045, 0.035])
    pooled = pool(q, u, level=0.9)
    W, B = u.mean(), q.var(ddof=1)
    T, r = W + 1.2 * B, 1.2 * B / W
    df = 4 * (1 + 1 / r) ** 2  # Rubin (1987), 3.1.6
    assert pooled.estimate == pytest.approx(1.2)
    assert pooled.standard_error == pytest.approx(np.sqrt(T))
    assert pooled.df == pytest.approx(df)
    assert pooled.fraction_missing == pytest.approx((r + 2 / (df + 3)) / (1 + r))
    half = student.ppf(0.95, df) * np.sqrt(T)
    assert_allclose([pooled.low, pooled.high], [1.2 - half, 1.2 + half], rtol=1e-12)
    small = pool(q, u, complete_df=10)
    seen = 11 / 13 * 10 * (1 - 1.2 * B / T)
    assert small.df == pytest.approx(1 / (1 / df + 1 / seen))  # Barnard & Rubin (1999), 3


def test_copies_that_agree_lose_nothing():
    pooled = pool(np.full((3, 2), 2.0), np.full((3, 2), 0.25))
    assert_allclose(pooled.standard_error, 0.5)
    assert_array_equal(pooled.df, np.inf)
    assert_array_equal(pooled.fraction_missing, 0.0)
    assert_allclose(pooled.high, 2 + 0.5 * 1.959963985, rtol=1e-9)
    small = pool(np.ones((3, 2)), np.ones((3, 2)), complete_df=[5, 50])
    assert_allclose(small.df, [6 / 8 * 5, 51 / 53 * 50])
    constant = pool([1.0, 1.0], [0.0, 0.0])
    assert constant.low == constant.high == 1.0


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (([1.0], [1.0]), {}, "two draws at least"),
        (([1.0, 2.0], [1.0]), {}, "one shape"),
        ((3.0, 1.0), {}, "two draws at least"),
        (([1.0, np.nan], [1.0, 1.0]), {}, "finite"),
        (([1.0, 2.0], [1.0, -1.0]), {}, "negative"),
        (([1.0, 2.0], [1.0, 1.0]), {"level": 1.0}, "level must lie between 0 and 1"),
        (([1.0, 2.0], [1.0, 1.0]), {"complete_df": 0}, "complete_df must be positive"),
    ],
)
def test_what_pool_refuses(arguments, settings, message):
    with pytest.raises(ValueError, match=message):
        pool(*arguments, **settings)


def test_pooled_intervals_cover_and_those_of_one_copy_do_not(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "benchmarks")
    benchmark = import_module("imputation_intervals")

    n = 100
    model = GaussianMixture(tol=1e-4)
    hits = np.array([benchmark.covers(model, benchmark.problem(s, 40), s, 8) for s in range(n)])
    single, _, posterior = hits.sum(axis=0).sum(axis=1) / (2 * n)
    assert posterior > 0.95 - 3 * np.sqrt(0.95 * 0.05 / n)  # 3 binomial standard errors
    assert single < 0.95 - 3 * np.sqrt(0.95 * 0.05 / n)
