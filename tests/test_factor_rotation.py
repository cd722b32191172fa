"""Rotation of a fitted factor analysis: other factors, the same density."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from sklvm import EMFactorAnalysis, Geomin, Target
from sklvm.inference.history import FitInterrupted

NAMES = ["varimax", "quartimax", "equamax", "promax", "oblimin", "geomin"]
OBLIQUE = {"promax", "oblimin", "geomin"}
SIMPLE = np.kron(np.eye(3), [[0.9, 0.8, 0.7, 0.6]]).T  # (12, 3): four columns for each factor
CORRELATION = np.array([[1.0, 0.4, 0.2], [0.4, 1.0, 0.3], [0.2, 0.3, 1.0]])


def table(n=4000, seed=0, units=True):
    """Rows of simple structure with correlated factors, in units of their own."""
    rng = np.random.default_rng(seed)
    factors = rng.multivariate_normal(np.zeros(3), CORRELATION, size=n)
    noise = np.sqrt(1 - (SIMPLE @ CORRELATION * SIMPLE).sum(axis=1))
    X = factors @ SIMPLE.T + noise * rng.normal(size=(n, 12))
    return (X + 3.0) * np.geomspace(0.1, 50.0, 12) if units else X


@pytest.fixture(scope="module")
def fitted():
    return EMFactorAnalysis(3).fit(table())


@pytest.mark.parametrize("name", NAMES)
def test_the_density_stays(fitted, name):
    X, turned = table(), fitted.rotate(name)
    assert_array_equal(turned.score_samples(X), fitted.score_samples(X))
    assert_allclose(turned.get_covariance(), fitted.get_covariance())
    L, Phi = turned.components_.T, turned.factor_correlation_
    common = L @ Phi @ L.T + np.diag(turned.noise_variance_)
    assert_allclose(common, fitted.get_covariance(), rtol=1e-9)
    assert_allclose(turned.communalities_, fitted.communalities_)
    assert_allclose((turned.loadings_ * turned.structure_).sum(axis=1), turned.communalities_)
    assert turned.explained_variance_ratio_.sum() == pytest.approx(turned.communalities_.mean())
    assert_allclose(np.diag(Phi), 1.0)
    assert (np.abs(Phi - np.eye(3)).max() > 1e-3) == (name in OBLIQUE)


@pytest.mark.parametrize("name", ["oblimin", "geomin"])
def test_simple_structure_is_found(fitted, name):
    turned = fitted.rotate(name)
    nearest = np.abs(turned.loadings_.T @ SIMPLE).argmax(axis=1)
    assert sorted(nearest) == [0, 1, 2]
    assert_allclose(turned.loadings_[:, np.argsort(nearest)], SIMPLE, atol=0.06)


@pytest.mark.parametrize("name", NAMES)
def test_fitting_with_a_rotation_is_rotating_a_fit(fitted, name):
    model = EMFactorAnalysis(3, rotation=name).fit(table())
    turned = fitted.rotate(name)
    assert turned.rotation == name and fitted.rotation is None
    assert_allclose(model.components_, turned.components_, rtol=1e-6, atol=1e-9)
    assert_allclose(turned.rotate(None).components_, fitted.components_, rtol=1e-9, atol=1e-12)
    assert clone(turned).get_params() == model.get_params()


def test_units_do_not_matter():
    scaled, plain = table(), table(units=False)
    settings = {"rotation": "oblimin", "heywood_penalty": 0.0}
    a, b = (EMFactorAnalysis(3, **settings).fit(X) for X in (scaled, plain))
    assert_allclose(a.loadings_, b.loadings_, atol=1e-4)
    assert_allclose(a.factor_correlation_, b.factor_correlation_, atol=1e-4)


@pytest.mark.parametrize("name", ["varimax", "oblimin"])
@pytest.mark.parametrize("holes", [False, True])
def test_posteriors_are_those_of_the_turned_factors(fitted, name, holes):
    """Against conditioning of the joint Gaussian of rows and factors."""
    model, X = fitted.rotate(name), table()[:5].copy()
    if holes:
        X[0, [1, 5, 7]] = X[2, :6] = np.nan
    L, Phi, C = model.components_.T, model.factor_correlation_, model.get_covariance()
    posterior = model.posterior(X)
    for row, mean, V, kl in zip(X, posterior.mean, posterior.covariance, posterior.kl_to_prior()):
        o = ~np.isnan(row)
        gain = Phi @ L[o].T @ np.linalg.inv(C[np.ix_(o, o)])
        expected = gain @ (row - model.mean_)[o]
        spread = Phi - gain @ L[o] @ Phi
        assert_allclose(mean, expected, rtol=1e-7)
        assert_allclose(V, spread, rtol=1e-7, atol=1e-12)
        pull = np.trace(np.linalg.solve(Phi, spread)) + expected @ np.linalg.solve(Phi, expected)
        volume = np.linalg.slogdet(Phi)[1] - np.linalg.slogdet(spread)[1]
        assert kl == pytest.approx(0.5 * (pull - 3 + volume))
    assert_allclose(model.transform(X), posterior.mean)
    terms = model.elbo(X)
    total = terms.expected_log_likelihood + terms.expected_log_prior + terms.entropy
    assert_allclose(total, model.score_samples(X))
    kl = -terms.expected_log_prior - terms.entropy
    assert_allclose(kl, posterior.kl_to_prior())


def test_draws_have_the_factors_correlations(fitted):
    model = fitted.rotate("oblimin")
    X, F = model.sample(200_000, random_state=0)
    assert_allclose(np.cov(F.T), model.factor_correlation_, atol=0.01)
    error = (X - model.inverse_transform(F)) / np.sqrt(model.noise_variance_)
    assert_allclose(np.cov(error.T), np.eye(12), atol=0.01)
    assert_allclose(np.corrcoef(X.T, F.T)[:12, 12:], model.structure_, atol=0.01)


@pytest.mark.parametrize("holes", [False, True])
def test_bartlett_scores_are_weighted_least_squares(fitted, holes):
    model, X = fitted.rotate("oblimin"), table()[:4].copy()
    if holes:
        X[1, [0, 4, 8]] = np.nan
        X[3, 2:] = np.nan  # two entries do not determine three factors
    scores = model.factor_scores(X, method="bartlett")
    for row, found in zip(X[:3], scores):
        o = ~np.isnan(row)
        root = np.sqrt(model.noise_variance_[o])
        L = model.components_.T[o] / root[:, None]
        expected = np.linalg.lstsq(L, (row - model.mean_)[o] / root, rcond=None)[0]
        assert_allclose(found, expected, rtol=1e-6)
    assert np.isnan(scores[3]).all() == holes
    assert_array_equal(model.factor_scores(X), model.transform(X))
    with pytest.raises(ValueError, match="method must be one of"):
        model.factor_scores(X, method="anderson")


def test_bartlett_scores_are_unbiased_given_the_factors(fitted):
    model = fitted.rotate("varimax")
    X, F = model.sample(100_000, random_state=1)
    error = model.factor_scores(X, method="bartlett") - F
    assert np.abs(error.mean(axis=0)).max() < 0.01
    assert np.abs(np.corrcoef(error.T, F.T)[:3, 3:]).max() < 0.02
    shrunk = model.factor_scores(X) - F
    assert (shrunk**2).mean() < (error**2).mean()
    assert np.corrcoef(shrunk[:, 0], F[:, 0])[0, 1] < -0.1


def test_a_marginal_keeps_its_factors_and_a_conditional_gets_new_ones(fitted):
    model, X = fitted.rotate("oblimin"), table()[:6]
    part = model.marginal([0, 4, 8, 9])
    assert_allclose(part.components_, model.components_[:, [0, 4, 8, 9]])
    assert_allclose(part.factor_correlation_, model.factor_correlation_)
    given = model.condition([0, 1], X[0, :2])
    assert_array_equal(given.factor_correlation_, np.eye(3))
    C = model.get_covariance()
    gain = C[2:, :2] @ np.linalg.inv(C[:2, :2])
    mean = model.mean_[2:] + gain @ (X[0, :2] - model.mean_[:2])
    expected = multivariate_normal(mean, C[2:, 2:] - gain @ C[:2, 2:]).logpdf(X[:, 2:])
    assert_allclose(given.score_samples(X[:, 2:]), expected)


def test_a_target_speaks_of_the_users_columns():
    """A constant column has a row in it, too."""
    X = np.insert(table(), 1, 7.0, axis=1)
    target = np.insert(np.where(SIMPLE > 0, np.nan, 0.0), 1, np.nan, axis=0)
    with pytest.warns(UserWarning, match="constant"):
        model = EMFactorAnalysis(3, rotation=Target(target)).fit(X)
    assert_allclose(np.delete(model.loadings_, 1, axis=0), SIMPLE, atol=0.06)
    assert_array_equal(model.loadings_[1], 0.0)


def test_what_is_no_rotation_is_refused(fitted):
    with pytest.raises(ValueError, match="rotation"):
        fitted.rotate("sideways")
    with pytest.raises(ValueError, match="epsilon > 0"):
        fitted.rotate(Geomin(epsilon=-1.0))
    with pytest.raises(ValueError, match="target must have shape"):
        EMFactorAnalysis(3, rotation=Target(np.zeros((2, 2)))).fit(table(100))


def test_a_rotation_that_cannot_be_is_refused_before_the_work(monkeypatch):
    def worked(*args, **kwargs):
        raise AssertionError("the fit went on")

    monkeypatch.setattr("sklvm.factor_analysis.maximum_likelihood", worked)
    wrong = EMFactorAnalysis(3, rotation=Geomin(epsilon=-1.0))
    with pytest.raises(ValueError, match="epsilon > 0"):
        wrong.fit(table(100))
    with pytest.raises(ValueError, match="epsilon > 0"):
        wrong.fit_covariance(np.cov(table(100).T), 100)


def test_a_turned_model_has_a_rotation_of_its_own(fitted):
    mine = Geomin(epsilon=0.01)
    turned = fitted.rotate(mine)
    mine.set_params(epsilon=0.5)
    assert turned.rotation.epsilon == 0.01


def test_a_search_without_a_minimum_is_said(fitted, monkeypatch):
    def lost(W, rotation, rng):
        found = rotate(W, rotation, rng)
        return found._replace(converged=False)

    from sklvm.factor_state import rotate

    monkeypatch.setattr("sklvm.factor_state.rotate", lost)
    with pytest.warns(ConvergenceWarning, match="found no minimum"):
        fitted.rotate("oblimin")


def test_heywood_cases_are_reported_where_the_penalty_hides_them():
    """A second column that all but repeats the first leaves one of them no uniqueness."""
    rng = np.random.default_rng(6)
    W = rng.normal(size=(4, 10))
    X = rng.normal(size=(60, 4)) @ W + 0.3 * rng.normal(size=(60, 10))
    penalised = EMFactorAnalysis(4, max_iter=5000).fit(X)
    plain = EMFactorAnalysis(4, heywood_penalty=0.0, max_iter=5000).fit(X)
    assert plain.heywood_.sum() == (plain.uniquenesses_ < 0.005).sum() > 0
    assert_array_equal(penalised.heywood_, plain.heywood_)
    assert penalised.uniquenesses_.min() > 0.005
    assert not EMFactorAnalysis(3).fit(table()).heywood_.any()
    part = penalised.marginal([0, 1, 2])
    assert_array_equal(part.heywood_, part.uniquenesses_ < 0.005)


def test_known_factors_stay_as_they_are_given(fitted):
    turned = fitted.rotate("oblimin")
    known = {
        "components": turned.components_,
        "noise_variance": turned.noise_variance_,
        "mean": turned.mean_,
        "factor_correlation": turned.factor_correlation_,
    }
    again, X = EMFactorAnalysis.from_parameters(**known), table()[:9]
    assert_allclose(again.components_, turned.components_)
    assert_allclose(again.factor_correlation_, turned.factor_correlation_)
    assert_allclose(again.score_samples(X), turned.score_samples(X))
    assert_allclose(again.transform(X), turned.transform(X))
    assert_allclose(again.rotate(None).components_, fitted.components_, rtol=1e-6)
    for wrong in (np.eye(2), 2 * np.eye(3), np.ones((3, 3)), np.tri(3)):
        with pytest.raises(ValueError, match="factor_correlation"):
            EMFactorAnalysis.from_parameters(**{**known, "factor_correlation": wrong})


@pytest.mark.parametrize("q", [0, 1])
@pytest.mark.parametrize("name", [*NAMES, None])
def test_too_few_factors_to_turn_answer_everything(q, name):
    X = table(300)[:, :5]
    model = EMFactorAnalysis(q, rotation=name).fit(X)
    assert model.conf_int().loadings.low.shape == (5, q)
    assert model.summary().shape[0] == 5
    assert "<table" in model._repr_html_() or "sk-" in model._repr_html_()


def test_parts_of_a_model_have_no_rotation_to_refit():
    target = Target(np.where(SIMPLE > 0, np.nan, 0.0))
    model = EMFactorAnalysis(3, rotation=target).fit(table(500))
    for part in (model.marginal([0, 1, 4, 5, 8]), model.condition([0], [1.0])):
        assert part.rotation is None
        assert "rotation" in dir(part)
        assert part._repr_html_()


def test_an_interrupted_search_for_heywood_cases_keeps_the_fit(monkeypatch):
    def stopped(*args, **kwargs):
        raise FitInterrupted(None)

    monkeypatch.setattr("sklvm.factor_analysis.heywood_cases", stopped)
    for X in (table(200)[:, :6], np.where(table(200)[:, :6] > 80, np.nan, table(200)[:, :6])):
        model = EMFactorAnalysis(2)
        with pytest.raises(KeyboardInterrupt):
            model.fit(X)
        assert np.isfinite(model.score(X))
        assert_array_equal(model.heywood_, model.uniquenesses_ < 0.005)


def test_a_matrix_brings_its_own_names():
    X = pd.DataFrame(table(200)[:, :5], columns=list("abcde"))
    model = EMFactorAnalysis(1).fit(X)
    model.fit_covariance(X.cov().to_numpy()[:4, :4], 200)
    assert not hasattr(model, "feature_names_in_") and model.n_features_in_ == 4
    model.fit_covariance(X.cov(), 200)
    assert list(model.feature_names_in_) == list("abcde")
    S = X.cov().to_numpy() * 1e-10
    S[0, 1] = 0.0
    with pytest.raises(ValueError, match="symmetric"):
        EMFactorAnalysis(1).fit_covariance(S, 200)


def test_rows_and_weights_that_say_nothing_are_refused():
    X = table(100)[:, :5]
    model, weight = EMFactorAnalysis(1).fit(X), -np.ones(100)
    for verb in (model.bic, model.fit_indices, model.conf_int):
        with pytest.raises(ValueError, match="counts"):
            verb(X, sample_weight=weight)
    for rows in (
        X[:1],
        np.where(np.arange(5) == 2, np.nan, X),
        np.where(np.arange(5) == 2, 1.0, X),
    ):
        with pytest.raises(ValueError, match="give it the rows of fit"):
            model.fit_indices(rows)
    with pytest.raises(ValueError, match="3 distinct rows"):
        EMFactorAnalysis("cv").fit(np.repeat(X[:2], 10, axis=0))
