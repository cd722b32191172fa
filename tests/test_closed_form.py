"""Regression through the model: E and Cov of some columns given the others."""

import numpy as np
import pytest

from sklvm import EMFactorAnalysis, GaussianMixture, Mixture, StudentT, VariationalGMM

RNG = np.random.default_rng(0)
X = np.concatenate(
    [RNG.normal(size=(100, 4)) @ RNG.normal(size=(4, 4)), 5 + RNG.normal(size=(50, 4))]
)
MODELS = [
    *(GaussianMixture(2, covariance_type=c, random_state=0) for c in ("full", "tied", "diag")),
    VariationalGMM(3, random_state=0),
    Mixture(2, emission=StudentT(df=6), random_state=0),
    EMFactorAnalysis(1),
]


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_regression_agrees_with_imputation(model):
    model = model.fit(X)
    rows = np.repeat(X[:3], 1, axis=0)
    rows[1, 0] = np.nan
    rows[2] = np.nan
    hidden = rows.copy()
    hidden[:, [3, 1]] = np.nan
    mean, covariance = model.regress(rows, [3, 1])
    assert mean == pytest.approx(model.impute(hidden)[:, [3, 1]], abs=1e-10)
    draws = model.impute(hidden, how="sample", n_draws=20000, random_state=0)[:, :, [3, 1]]
    for i in range(3):
        sd = np.sqrt(np.diag(covariance[i]))
        assert (np.cov(draws[:, i].T) - covariance[i]) / np.outer(sd, sd) == pytest.approx(
            0, abs=0.06
        )


def test_the_targets_own_values_are_not_read():
    model = GaussianMixture(2, random_state=0).fit(X)
    changed = X.copy()
    changed[:, 2] = 1e3
    assert np.array_equal(model.regress(X, 2)[0], model.regress(changed, 2)[0])


def test_constant_targets_are_their_constant_without_variance():
    with pytest.warns(UserWarning, match="constant"):
        model = GaussianMixture(2, random_state=0).fit(np.column_stack([X, np.full(len(X), 7.0)]))
    mean, covariance = model.regress(np.column_stack([X[:5], np.full(5, 7.0)]), [4, 0])
    assert (mean[:, 0] == 7).all()
    assert (covariance[:, 0] == 0).all() and (covariance[:, :, 0] == 0).all()
    assert (covariance[:, 1, 1] > 0).all()
