"""What is particular to factor analysis: its form, its penalty, its solvers."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal
from sklearn.exceptions import ConvergenceWarning

from sklvm import EMFactorAnalysis
from tests._models import rows


def simulated(n=300, d=6, q=2, seed=0):
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(q, d))
    psi = rng.uniform(0.3, 1.5, d)
    X = rng.normal(size=(n, q)) @ W + rng.normal(size=(n, d)) * np.sqrt(psi)
    return X + np.arange(d), W, psi


@pytest.mark.parametrize("solver", ["profile", "em"])
def test_loadings_have_the_canonical_form(solver):
    X, _, _ = simulated()
    model = EMFactorAnalysis(2, solver=solver).fit(X)
    W, psi = model.components_, model.noise_variance_
    assert W.shape == (2, 6) and psi.shape == (6,)
    inner = W / psi @ W.T
    assert_allclose(inner - np.diag(np.diag(inner)), 0.0, atol=1e-8 * inner.max())
    assert inner[0, 0] >= inner[1, 1]
    assert ((W / np.sqrt(psi)).sum(axis=1) >= 0).all()
    assert_allclose(model.mean_, X.mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize("holes", [0.0, 0.2])
def test_many_rows_recover_the_model(holes):
    X, W, psi = simulated(n=8000)
    X[np.random.default_rng(1).uniform(size=X.shape) < holes] = np.nan
    model = EMFactorAnalysis(2, heywood_penalty=0.0).fit(X)
    assert_allclose(model.get_covariance(), W.T @ W + np.diag(psi), atol=0.2)
    assert_allclose(model.noise_variance_, psi, atol=0.15)
    assert_allclose(model.mean_, np.arange(6), atol=0.15)


def test_posterior_is_joint_gaussian_conditioning():
    X = rows(4, holes=True)[:15]
    model = EMFactorAnalysis(2).fit(rows(4))
    posterior = model.posterior(X)
    W, C = model.components_, model.get_covariance()
    for x, mean, V in zip(X, posterior.mean, posterior.covariance):
        o = ~np.isnan(x)
        gain = W[:, o] @ np.linalg.inv(C[np.ix_(o, o)])
        assert_allclose(mean, gain @ (x - model.mean_)[o], rtol=1e-7, atol=1e-9)
        assert_allclose(V, np.eye(2) - gain @ W[:, o].T, rtol=1e-6, atol=1e-9)


def test_imputation_is_the_gaussian_regression():
    X = rows(4, holes=True)[:15]
    model = EMFactorAnalysis(2).fit(rows(4))
    C, filled = model.get_covariance(), model.impute(X)
    for x, row in zip(X, filled):
        o = ~np.isnan(x)
        B = C[np.ix_(~o, o)] @ np.linalg.inv(C[np.ix_(o, o)])
        assert_allclose(row[~o], model.mean_[~o] + B @ (x - model.mean_)[o], rtol=1e-7)


def test_condition_is_the_gaussian_conditional():
    model = EMFactorAnalysis(2).fit(rows(4))
    C, m, x = model.get_covariance(), model.mean_, rows(4)[0]
    given = model.condition([1, 3], x[[1, 3]])
    B = C[np.ix_([0, 2], [1, 3])] @ np.linalg.inv(C[np.ix_([1, 3], [1, 3])])
    S = C[np.ix_([0, 2], [0, 2])] - B @ C[np.ix_([1, 3], [0, 2])]
    expected = multivariate_normal(m[[0, 2]] + B @ (x - m)[[1, 3]], S)
    other = rows(4)[:, [0, 2]]
    assert_allclose(given.score_samples(other), expected.logpdf(other), rtol=1e-8)
    assert_allclose(given.get_covariance(), S, rtol=1e-8)


def test_the_penalty_keeps_uniquenesses_off_zero():
    rng = np.random.default_rng(6)
    W = rng.normal(size=(4, 10))
    X = rng.normal(size=(60, 4)) @ W + 0.3 * rng.normal(size=(60, 10))
    least = []
    for penalty in (0.0, 0.05, 1.0):
        settings = {"heywood_penalty": penalty, "max_iter": 5000}
        model = EMFactorAnalysis(4, solver="profile", **settings).fit(X)
        least.append((model.noise_variance_ / X.var(axis=0)).min())
    assert least[0] < 1e-6 < 1e-4 < least[1] < least[2]


def test_the_objective_is_the_penalised_mean_log_likelihood():
    X, _, _ = simulated()
    for solver in ("profile", "em"):
        model = EMFactorAnalysis(2, solver=solver, heywood_penalty=0.7).fit(X)
        penalty = 0.35 * (X.var(axis=0) / model.noise_variance_).sum() / len(X)
        assert model.history_[-1] == pytest.approx(model.score(X) - penalty, abs=1e-8)


@pytest.mark.parametrize(
    ("d", "q", "free"),
    [
        (6, 2, 6 + 12 + 6 - 1),
        (6, 1, 6 + 6 + 6),
        (4, 2, 4 + 10),  # Ledermann: any covariance
        (3, 1, 3 + 6),
        (5, 5, 5 + 15),
        (2, 3, 2 + 3),
    ],
)
def test_free_parameters(d, q, free):
    X = simulated(d=d)[0]
    model = EMFactorAnalysis(q, tol=1e-5).fit(X)
    assert model.n_parameters_ == free
    assert model.components_.shape == (q, d)
    assert np.isfinite(model.score(X))


def test_a_correlation_matrix_is_enough():
    X, _, _ = simulated()
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    from_rows = EMFactorAnalysis(2).fit(Z)
    from_matrix = EMFactorAnalysis(2).fit_covariance(np.corrcoef(X.T), 300)
    assert_allclose(from_matrix.noise_variance_, from_rows.noise_variance_, rtol=1e-3)
    assert_allclose(from_matrix.mean_, 0.0)
    assert from_matrix.n_features_in_ == 6
    assert from_matrix.bic(Z) == pytest.approx(from_rows.bic(Z), abs=1e-3)


def test_auto_takes_em_where_entries_are_missing():
    X = simulated()[0]
    auto, profile = EMFactorAnalysis(2).fit(X), EMFactorAnalysis(2, solver="profile").fit(X)
    assert_array_equal(auto.noise_variance_, profile.noise_variance_)
    X[0, 0] = np.nan
    auto, em = EMFactorAnalysis(2).fit(X), EMFactorAnalysis(2, solver="em").fit(X)
    assert_array_equal(auto.noise_variance_, em.noise_variance_)


@pytest.mark.parametrize("solver", ["profile", "em"])
def test_too_few_iterations_are_said_and_kept(solver):
    X = simulated()[0]
    model = EMFactorAnalysis(2, solver=solver, max_iter=2)
    with pytest.warns(ConvergenceWarning, match="2 iterations; increase max_iter"):
        model.fit(X)
    assert not model.converged_ and len(model.history_) == 3
    assert model.score(X) < EMFactorAnalysis(2).fit(X).score(X)


def test_from_parameters_accepts_any_rotation():
    W, psi = np.array([[1.0, 2.0, 0.5], [0.3, -1.0, 1.0]]), np.array([0.5, 1.0, 2.0])
    turn = np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]])
    a = EMFactorAnalysis.from_parameters(components=W, noise_variance=psi)
    b = EMFactorAnalysis.from_parameters(components=turn @ W, noise_variance=psi)
    assert_allclose(a.rotate(None).components_, b.rotate(None).components_, rtol=1e-10)
    assert_allclose(b.components_, turn @ W, rtol=1e-12)
    assert_allclose(a.get_covariance(), W.T @ W + np.diag(psi), atol=1e-12)
    one = EMFactorAnalysis.from_parameters(components=[1.0, 2.0], noise_variance=0.5)
    assert_array_equal(one.noise_variance_, [0.5, 0.5])
