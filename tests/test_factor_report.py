"""The report of factor analysis: published tests of fit, indices by their formulas, tables."""

import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import chi2, multivariate_normal, ncx2, norm
from sklearn import config_context
from sklearn.exceptions import NotFittedError

from sklvm import EMFactorAnalysis, GaussianMixture
from sklvm.inference.factor_fit import LogLikelihoods, fit_indices
from sklvm.rotations import ROTATIONS
from tests._models import rows
from tests.test_factor_intervals import fit, simulated, turned

RNG = np.random.default_rng
# ability.cov of R: general, picture, blocks, maze, reading, vocab of 112 people (Bartholomew &
# Knott 1999, Latent variable models and factor analysis, 3.16).
ABILITY = np.array(
    [
        [24.641, 5.991, 33.520, 6.023, 20.755, 29.701],
        [5.991, 6.700, 18.137, 1.782, 4.936, 7.204],
        [33.520, 18.137, 149.831, 19.424, 31.430, 50.753],
        [6.023, 1.782, 19.424, 12.711, 4.757, 9.075],
        [20.755, 4.936, 31.430, 4.757, 52.604, 66.762],
        [29.701, 7.204, 50.753, 9.075, 66.762, 135.292],
    ]
)


def ability(q, penalty=0.0):
    return EMFactorAnalysis(q, heywood_penalty=penalty, tol=1e-14).fit_covariance(ABILITY, 112)


# --- the test of fit --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("q", "chi_square", "dof", "p_value"), [(1, 75.18, 9, 1.46e-12), (2, 6.11, 4, 0.191)]
)
def test_the_published_test_of_ability_cov(q, chi_square, dof, p_value):
    """What R's documentation of factanal prints."""
    found = ability(q).fit_indices()
    assert found.chi_square == pytest.approx(chi_square, abs=0.005)
    assert found.dof == dof
    assert found.p_value == pytest.approx(p_value, rel=3e-3)


def test_indices_are_what_their_formulas_say():
    X = simulated(n=150)
    model, (n, d) = fit(X), X.shape
    found = model.fit_indices()
    S = np.cov(X.T, bias=True)
    sd = np.sqrt(np.diag(S))
    of_model = multivariate_normal(X.mean(axis=0), model.get_covariance()).logpdf(X).sum()
    saturated = multivariate_normal(X.mean(axis=0), S).logpdf(X).sum()
    independent = norm(X.mean(axis=0), sd).logpdf(X).sum()
    T, T_0 = 2 * (saturated - of_model), 2 * (saturated - independent)
    dof, dof_0 = 4, 15
    assert found.log_likelihood == pytest.approx(of_model)
    assert found.log_likelihood == pytest.approx(n * model.score(X))
    assert found.likelihood_ratio == pytest.approx(T)
    assert found.chi_square == pytest.approx(T * (n - 1 - 17 / 6 - 4 / 3) / n)
    assert found.dof == dof == d * (d + 1) // 2 - (model.n_parameters_ - d)
    assert found.p_value == pytest.approx(chi2.sf(found.chi_square, dof))
    assert found.rmsea == pytest.approx(np.sqrt(max(T - dof, 0) / (dof * n)))
    assert found.tli == pytest.approx((T_0 / dof_0 - T / dof) / (T_0 / dof_0 - 1))
    assert found.cfi == pytest.approx(1 - max(T - dof, 0) / (T_0 - dof_0))
    residuals = ((S - model.get_covariance()) / np.outer(sd, sd))[np.triu_indices(d)]
    assert found.srmr == pytest.approx(np.sqrt((residuals**2).mean()))
    assert found.aic == pytest.approx(model.aic(X))
    assert found.bic == pytest.approx(model.bic(X))


def test_the_interval_of_rmsea_inverts_the_noncentral_distribution():
    found = ability(1).fit_indices()
    for end, share in ((found.rmsea_low, 0.95), (found.rmsea_high, 0.05)):
        noncentrality = end**2 * 9 * 112
        assert ncx2.cdf(found.likelihood_ratio, 9, noncentrality) == pytest.approx(share)
    good = ability(2).fit_indices()
    assert 0 == good.rmsea_low < good.rmsea < good.rmsea_high
    ends = [
        fit_indices(LogLikelihoods(-ratio / 2, 0.0, -9e9), 1000.0, 6, 2, 17, 0.0)
        for ratio in (0.0, 1e-3, 4.0, 50.0, 1e4, 1e8)
    ]
    assert ends[0].rmsea_high == 0 and ends[0].cfi == 1
    for less, more in pairwise(ends):
        assert less.rmsea_low <= less.rmsea <= less.rmsea_high <= more.rmsea_high


def test_the_test_keeps_its_level():
    """Where the model holds, the corrected ratio is a chi-square on average, with 50 rows too."""
    rng, ratios = RNG(0), []
    for _ in range(200):
        X = rng.normal(size=(50, 1)) @ np.full((1, 6), 0.9) + 0.6 * rng.normal(size=(50, 6))
        model = EMFactorAnalysis(1, heywood_penalty=0.0).fit(X)
        ratios.append(model.fit_indices()[:4])
    corrected, dof, p_value, plain = np.array(ratios).T
    assert (dof == 9).all()
    assert corrected.mean() == pytest.approx(9, abs=3 * np.sqrt(18 / 200))
    assert plain.mean() - corrected.mean() > 3 * np.sqrt(18 / 200)
    assert np.mean(p_value < 0.05) == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / 200))


def test_rows_give_what_their_covariance_gives():
    X, rng = simulated(), RNG(1)
    weight = rng.integers(1, 4, len(X))
    model = EMFactorAnalysis(2).fit(X, sample_weight=weight)
    kept = model.fit_indices()
    for other in (
        model.fit_indices(X, sample_weight=weight),
        model.fit_indices(rng.permutation(np.repeat(X, weight, axis=0))),
        EMFactorAnalysis(2).fit(X * 1e3, sample_weight=weight).fit_indices(),
    ):
        assert_allclose(other[:10], kept[:10], rtol=1e-5, atol=1e-7)
    shifted = model.fit_indices(X + 0.1, sample_weight=weight)
    expected = weight @ model.score_samples(X + 0.1)
    assert shifted.log_likelihood == pytest.approx(expected)


def test_with_gaps_the_rival_is_the_best_gaussian():
    X = simulated(holes=0.15)
    model = fit(X)
    found = model.fit_indices(X)
    gaussian = GaussianMixture(covariance_prior=0.0, tol=1e-12, max_iter=50_000).fit(X)
    saturated = len(X) * gaussian.score(X)
    independent = sum(
        norm(c.mean(), c.std()).logpdf(c).sum() for c in (c[~np.isnan(c)] for c in X.T)
    )
    T, T_0 = (2 * (saturated - v) for v in (len(X) * model.score(X), independent))
    assert found.likelihood_ratio == pytest.approx(T, abs=1e-4)
    assert found.tli == pytest.approx((T_0 / 15 - T / 4) / (T_0 / 15 - 1), abs=1e-5)
    sd = np.sqrt(np.diag(gaussian.covariances_[0]))
    residuals = (gaussian.covariances_[0] - model.get_covariance()) / np.outer(sd, sd)
    srmr = np.sqrt((residuals[np.triu_indices(6)] ** 2).mean())
    assert found.srmr == pytest.approx(srmr, abs=1e-5)
    assert found.bic == pytest.approx(model.bic(X))
    with pytest.raises(ValueError, match="fit_indices needs X here"):
        model.fit_indices()


def test_where_nothing_can_be_tested():
    X = simulated(n=200)
    just = fit(X[:, :3], 1).fit_indices()  # any covariance of three columns
    assert just.dof == 0 and just.likelihood_ratio == pytest.approx(0, abs=1e-6)
    assert np.isnan([just.p_value, just.rmsea, just.rmsea_low, just.tli]).all()
    assert just.cfi == pytest.approx(1) and np.isfinite([just.srmr, just.bic]).all()
    beyond = EMFactorAnalysis(3).fit(X[:, :4]).fit_indices()
    assert beyond.dof < 0 and np.isnan([beyond.chi_square, beyond.p_value, beyond.cfi]).all()
    few = EMFactorAnalysis(1).fit(X[:5]).fit_indices(X[:5])
    assert np.isnan([few.chi_square, few.p_value, few.rmsea, few.tli, few.cfi]).all()
    assert np.isfinite([few.srmr, few.log_likelihood, few.aic, few.bic]).all()
    shrunk = EMFactorAnalysis(2).fit_covariance(ABILITY, 6).fit_indices()  # no six rows have it
    assert np.isnan(shrunk.chi_square) and np.isfinite(shrunk.bic)
    twice = np.column_stack([X, X[:, 0]])
    assert np.isnan(EMFactorAnalysis(2).fit(twice).fit_indices().chi_square)
    few_gaps = np.where(np.arange(30).reshape(5, 6) == 7, np.nan, X[:5])
    assert np.isnan(EMFactorAnalysis(1).fit(few_gaps).fit_indices(few_gaps).chi_square)


def test_unfitted_models_say_so():
    for verb in ("fit_indices", "summary", "conf_int"):
        with pytest.raises(NotFittedError):
            getattr(EMFactorAnalysis(), verb)()


# --- the table --------------------------------------------------------------------------------


def test_a_line_for_each_column():
    X = pd.DataFrame(simulated(), columns=list("abcdef"))
    model = fit(X)
    table = model.summary()
    assert table.index.tolist() == list("abcdef")
    factors = ["emfactoranalysis0", "emfactoranalysis1"]
    errors = [f"se {name}" for name in factors]
    assert table.columns.tolist() == [*factors, "communality", "uniqueness", "heywood", *errors]
    assert_array_equal(table[factors], model.loadings_)
    assert_array_equal(table["communality"], model.communalities_)
    assert_array_equal(table["uniqueness"], model.uniquenesses_)
    assert_array_equal(table["heywood"], model.heywood_)
    assert_array_equal(table[errors], model.conf_int().loadings.standard_error)
    assert table.attrs["fit_indices"] == model.fit_indices()._asdict()
    assert table.attrs["factor_correlation"] == np.eye(2).tolist()


def test_the_table_of_rows_with_gaps_and_counts():
    X, weight = rows(d=4, holes=True), RNG(0).integers(1, 3, 60)
    model = EMFactorAnalysis(1).fit(X, sample_weight=weight)
    table = model.summary(X, sample_weight=weight)
    assert table.index.tolist() == ["x0", "x1", "x2", "x3"]
    errors = model.conf_int(X, sample_weight=weight).loadings.standard_error
    assert_array_equal(table[["se emfactoranalysis0"]], errors)
    assert table.attrs["fit_indices"]["bic"] == pytest.approx(model.bic(X, weight))
    with pytest.raises(ValueError, match="needs X here"):
        model.summary()


def test_what_is_constant_is_in_the_table():
    X = np.insert(simulated(), 2, 1.0, axis=1)
    with pytest.warns(UserWarning, match="constant"):
        model = fit(X)
    table = model.summary()
    assert len(table) == 7
    assert table.loc["x2"].tolist() == [0.0, 0.0, 0.0, 1.0, False, 0.0, 0.0]
    assert table.attrs["fit_indices"]["dof"] == 4


def test_the_table_of_a_rotated_model():
    model = turned(fit(simulated()), ROTATIONS["promax"])
    table = model.summary()
    assert_array_equal(table["emfactoranalysis1"], model.loadings_[:, 1])
    errors = model.conf_int().loadings.standard_error
    assert_array_equal(table[["se emfactoranalysis0", "se emfactoranalysis1"]], errors)
    assert table.attrs["factor_correlation"] == model.factor_correlation_.tolist()
    assert table.attrs["factor_correlation"][0][1] > 0.1


def test_a_missing_pandas_is_said(monkeypatch):
    model = fit(simulated())
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pandas\.DataFrame: pip install pandas"):
        model.summary()


# --- in a notebook ----------------------------------------------------------------------------


def html_of(model):
    html = model._repr_html_()
    bundle = model._repr_mimebundle_()
    assert bundle["text/plain"] == repr(model)
    assert bundle["text/html"].count("<td>") == html.count("<td>")
    return html


def report_of(model):
    html = html_of(model)
    assert "sk-container" in html  # scikit-learn's diagram
    return html.rpartition("<table>")[2] if model._report() else ""


def test_the_report_is_below_the_diagram():
    X = pd.DataFrame(simulated(), columns=["a<b", *"bcdef"])
    model = fit(X)
    report = report_of(model)
    assert report.count("<tr>") == 7
    error = model.conf_int().loadings.standard_error[1, 0]
    assert f"<td>{model.loadings_[1, 0]:.2f} ({error:.2f})</td>" in report
    assert f"<td>{model.uniquenesses_[3]:.2f}</td>" in report
    assert "<td>a&lt;b</td>" in report and "<th>emfactoranalysis1</th>" in report
    found = model.fit_indices()
    assert f"χ² = {found.chi_square:.2f} on 4 degrees of freedom" in report
    assert f"BIC = {found.bic:.1f}" in report


def test_a_report_without_rows_leaves_out_what_needs_them():
    report = report_of(fit(simulated(holes=0.1)))
    assert report.count("<tr>") == 7 and "(" not in report and "χ²" not in report
    part = report_of(fit(simulated()).marginal([0, 3]))
    assert part.count("<tr>") == 3 and "(" not in part


def test_a_report_of_a_heywood_case_does_not_warn():
    rng = RNG(6)
    W = rng.normal(size=(4, 10))
    model = EMFactorAnalysis(4).fit(rng.normal(size=(60, 4)) @ W + 0.3 * rng.normal(size=(60, 10)))
    report = report_of(model)
    assert report.count("<td>Heywood</td>") == model.heywood_.sum() > 0


def test_a_long_report_is_cut():
    X = RNG(0).normal(size=(300, 1)) + RNG(1).normal(size=(300, 60))
    report = report_of(EMFactorAnalysis(1).fit(X))
    assert report.count("<tr>") == 42 and "and 20 more columns" in report


def test_scikit_learn_decides_whether_there_is_a_picture():
    model = EMFactorAnalysis()
    assert report_of(model) == ""
    with config_context(display="text"):
        assert not hasattr(model, "_repr_html_")
        assert model._repr_mimebundle_() == {"text/plain": repr(model)}
