"""Probabilistic PCA: the closed form, the formula, scikit-learn's directions, EM with holes."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA

from sklvm import EMFactorAnalysis, MixtureOfFactorAnalyzers, ProbabilisticPCA

LOG_2PI = np.log(2 * np.pi)


def table(n=200, d=6, q=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, q)) @ rng.normal(size=(q, d)) + 0.7 * rng.normal(size=(n, d)) + 5.0


def test_the_log_likelihood_is_the_formula():
    """Tipping & Bishop (1999), between (7) and (8)."""
    X, q = table(), 2
    model = ProbabilisticPCA(q).fit(X)
    values = np.linalg.eigvalsh(np.cov(X.T, bias=True))[::-1]
    noise, d = values[q:].mean(), X.shape[1]
    log_det = np.log(values[:q]).sum() + (d - q) * np.log(noise)
    assert model.score(X) == pytest.approx(-0.5 * (d * (LOG_2PI + 1) + log_det), abs=1e-12)
    assert model.history_[-1] == pytest.approx(model.score(X), abs=1e-12)
    assert_allclose(model.noise_variance_, noise)
    assert_allclose(model.explained_variance_, values[:q])
    assert_allclose(model.explained_variance_ratio_, values[:q] / values.sum())
    expected = multivariate_normal(X.mean(axis=0), model.get_covariance()).logpdf(X)
    assert_allclose(model.score_samples(X), expected)


@pytest.mark.parametrize("shape", [(200, 6), (9, 30)])
def test_the_directions_are_those_of_pca(shape):
    X = table(*shape)
    model, pca = ProbabilisticPCA(2).fit(X), PCA(2).fit(X)
    lengths = np.sqrt((model.components_**2).sum(axis=1))
    cosines = (model.components_ / lengths[:, None]) @ pca.components_.T
    assert_allclose(np.abs(cosines), np.eye(2), atol=1e-10)
    assert_allclose(lengths**2, model.explained_variance_ - model.noise_variance_)
    ddof = len(X) / (len(X) - 1)
    assert_allclose(model.explained_variance_ * ddof, pca.explained_variance_)
    assert_allclose(model.explained_variance_ratio_, pca.explained_variance_ratio_)


def test_at_its_parameters_it_scores_as_scikit_learn_does():
    X = table()
    pca = PCA(2).fit(X)
    root = np.sqrt(pca.explained_variance_ - pca.noise_variance_)
    model = ProbabilisticPCA.from_parameters(
        components=root[:, None] * pca.components_,
        noise_variance=pca.noise_variance_,
        mean=pca.mean_,
    )
    assert_allclose(model.score_samples(X), pca.score_samples(X), rtol=1e-10)
    assert_allclose(model.get_covariance(), pca.get_covariance(), rtol=1e-10)


def test_both_sides_give_one_answer():
    """30 rows of weight 1 in 40 columns, and the same with the weights of 60."""
    X = table(30, 40)
    rows_side = ProbabilisticPCA(3).fit(X)
    column_side = ProbabilisticPCA(3).fit(X, sample_weight=np.full(30, 2.0))
    assert_allclose(rows_side.components_, column_side.components_, rtol=1e-8, atol=1e-10)
    assert_allclose(rows_side.noise_variance_, column_side.noise_variance_)
    assert rows_side.history_[-1] == pytest.approx(column_side.history_[-1])


def test_em_over_missing_entries_climbs_to_where_the_gradient_vanishes():
    X = table()
    rng = np.random.default_rng(1)
    X[rng.uniform(size=X.shape) < 0.2] = np.nan
    model = ProbabilisticPCA(2, tol=1e-13, max_iter=5000).fit(X)
    assert model.converged_
    W, noise, mean = model.components_, model.noise_variance_, model.mean_

    def score(W, noise, mean):
        known = {"components": W, "noise_variance": noise, "mean": mean}
        return ProbabilisticPCA.from_parameters(**known).score(X)

    step = 1e-5
    for move in rng.normal(size=(5, W.size + 1 + len(mean))):
        dW, dn, dm = np.split(move, [W.size, W.size + 1])
        ends = [
            score(W + s * dW.reshape(W.shape), noise * np.exp(s * dn[0]), mean + s * dm)
            for s in (-step, step)
        ]
        assert (ends[1] - ends[0]) / (2 * step) == pytest.approx(0.0, abs=2e-6)
    assert model.score(X) >= model.history_[0]


def test_em_takes_over_from_the_closed_form_without_a_jump():
    """One missing entry among many changes next to nothing."""
    X = table(2000)
    whole = ProbabilisticPCA(2).fit(X)
    X[0, 0] = np.nan
    holed = ProbabilisticPCA(2).fit(X)
    assert_allclose(holed.get_covariance(), whole.get_covariance(), rtol=0.02, atol=0.02)


def test_isotropic_factor_analysis_is_the_same_model():
    X = table()
    ppca = ProbabilisticPCA(2).fit(X)
    settings = {"n_factors": 2, "noise": "isotropic", "heywood_penalty": 0.0, "tol": 1e-12}
    mixture = MixtureOfFactorAnalyzers(1, **settings).fit(X)
    assert mixture.score(X) == pytest.approx(ppca.score(X), abs=1e-9)
    assert_allclose(mixture.noise_variance_[0], ppca.noise_variance_, rtol=1e-4)
    free = EMFactorAnalysis(2, heywood_penalty=0.0).fit(X)
    assert free.score(X) >= ppca.score(X)


@pytest.mark.parametrize(("d", "q"), [(3, 2), (3, 3), (3, 5), (1, 1)])
def test_as_many_components_as_columns_are_any_covariance(d, q):
    X = table(d=d)
    model = ProbabilisticPCA(q).fit(X)
    assert_allclose(model.get_covariance(), np.cov(X.T, bias=True).reshape(d, d), atol=1e-12)
    assert model.components_.shape == (q, d)
    assert_array_equal(model.components_[d - 1 :], 0.0)
    assert model.n_parameters_ == d + d * (d + 1) // 2


def test_free_parameters():
    assert ProbabilisticPCA(2).fit(table()).n_parameters_ == 6 + (2 * 6 - 1) + 1


def test_rows_in_a_plane_get_a_finite_density():
    X = table(50, 5, 1) * 0 + np.outer(np.arange(50.0), np.arange(1.0, 6.0))
    model = ProbabilisticPCA(2).fit(X)
    assert np.isfinite(model.score_samples(X)).all()
    assert model.noise_variance_ > 0


@pytest.mark.parametrize("noise_variance", [0.0, -1.0, np.inf, [1.0, 1.0]])
def test_one_positive_noise_variance_is_asked_for(noise_variance):
    with pytest.raises(ValueError, match="a positive number"):
        ProbabilisticPCA.from_parameters(components=[[1.0, 2.0]], noise_variance=noise_variance)


def test_parts_have_orthogonal_components_of_their_own():
    X = table()
    model = ProbabilisticPCA(3).fit(X)
    for columns in ([0, 1], [2], [0, 1, 2, 3]):
        part = model.marginal(columns)
        values = np.linalg.eigvalsh(part.get_covariance())[::-1]
        k = min(3, len(columns))
        assert_allclose(part.explained_variance_[:k], values[:k])
        assert_array_equal(part.explained_variance_[k:], 0.0)
    assert ProbabilisticPCA(9).fit(X).explained_variance_ratio_.sum() == pytest.approx(1.0)
