"""What is particular to the variational mixture: its bound, its priors, components that empty."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import multivariate_t
from sklearn.datasets import load_iris

from sklvm import GaussianMixture, VariationalGMM
from tests._models import rows


def groups(n=90, seed=0):
    rng = np.random.default_rng(seed)
    z = np.repeat([0, 1, 2], [n // 2, n // 3, n - n // 2 - n // 3])
    return rng.normal(size=(n, 2)) + np.array([[0, 0], [8, 0], [0, 8.0]])[z], z


def test_surplus_components_return_to_their_prior():
    X, _ = groups()
    model = VariationalGMM(8, empirical_bayes=None, random_state=0).fit(X)
    assert model.n_active_ == 3
    assert_allclose(model.weights_[3:], (1 / 8) / (len(X) + 1), rtol=1e-6)
    assert_allclose(model.mean_precision_[3:], 0.1, rtol=1e-6)
    assert_allclose(model.degrees_of_freedom_[3:], 4.0, rtol=1e-6)
    assert_allclose(model.means_[3:], np.tile(X.mean(axis=0), (5, 1)), atol=1e-4)
    assert (np.diff(model.weights_) <= 1e-12).all()


def test_the_bound_prefers_the_right_number_of_components():
    X, _ = groups()
    bounds = [VariationalGMM(k, random_state=0).fit(X).lower_bound_ for k in (1, 2, 3)]
    assert np.argmax(bounds) == 2


def test_the_bound_is_the_total_and_history_is_per_row():
    X, _ = groups()
    weight = np.arange(90) % 3
    model = VariationalGMM(3, random_state=0).fit(X, sample_weight=weight)
    assert model.lower_bound_ == pytest.approx(model.history_[-1] * weight.sum(), rel=1e-12)
    terms = model.elbo(X)
    total = weight @ sum(terms[:3]) - terms.parameter_kl
    assert total == pytest.approx(model.lower_bound_, rel=1e-9)


@pytest.mark.parametrize(
    "attribute", ["means", "mean_precision", "degrees_of_freedom", "covariances"]
)
def test_no_step_aside_raises_the_bound(attribute):
    # The bound of a changed q, from the state: the M-step is where the bound is highest.
    from dataclasses import replace

    X, _ = groups()
    model = VariationalGMM(2, random_state=0, tol=1e-13, max_iter=5000).fit(X)
    state = model.state_
    q = state.emission

    def bound(emission):
        changed = replace(state, emission=emission)
        return sum(changed.elbo_terms(X)).sum() + changed.log_prior()

    best = bound(q)
    assert best == pytest.approx(model.lower_bound_, abs=1e-7)
    for step in (1e-2, -1e-2):
        m, beta, nu, S = q.m, q.beta, q.nu, q.S
        if attribute == "means":
            m = m + step
        elif attribute == "mean_precision":
            beta = beta * (1 + step)
        elif attribute == "degrees_of_freedom":
            nu = nu * (1 + step)
        else:
            S = S * (1 + step)
        assert bound(q.of(m, beta, nu, S, q.prior)) < best - 1e-8


def test_many_rows_tend_to_maximum_likelihood():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(4000, 2)) + 6.0 * (rng.uniform(size=4000) < 0.3)[:, None]
    vb = VariationalGMM(2, random_state=0).fit(X)
    ml = GaussianMixture(2, covariance_prior=0.0, random_state=0).fit(X)
    assert_allclose(vb.means_, ml.means_, atol=0.02)
    assert_allclose(vb.covariances_, ml.covariances_, atol=0.03)
    assert_allclose(vb.score(X), ml.score(X), atol=2e-3)


def test_a_large_concentration_makes_weights_equal():
    X, _ = groups()
    even = VariationalGMM(3, weight_concentration_prior=1e6, random_state=0).fit(X)
    assert_allclose(even.weights_, 1 / 3, atol=1e-3)


def test_the_default_priors_are_the_documented_ones():
    X = rows(3)
    model = VariationalGMM(2, empirical_bayes=None, random_state=0)
    d, K = 3, 2
    explicit = VariationalGMM(
        K,
        mean_precision_prior=0.1,
        weight_concentration_prior=1 / K,
        mean_prior=X.mean(axis=0),
        degrees_of_freedom_prior=d + 2,
        covariance_prior=(d + 2) * np.cov(X.T, ddof=0) / K ** (2 / d),
        random_state=0,
    )
    assert_allclose(model.fit(X).score_samples(X), explicit.fit(X).score_samples(X), rtol=1e-8)
    assert model.lower_bound_ == pytest.approx(explicit.lower_bound_, rel=1e-9)


def test_given_priors_leave_out_constant_columns():
    X, T = rows(2), np.diag([2.0, 500.0])
    settings = {"degrees_of_freedom_prior": 6.0, "random_state": 0}
    model = VariationalGMM(2, covariance_prior=T, mean_prior=[1.0, 99.0], **settings).fit(X)
    wide = VariationalGMM(
        2, covariance_prior=np.diag([2.0, 7.0, 500.0]), mean_prior=[1.0, 0.0, 99.0], **settings
    )
    with pytest.warns(UserWarning, match="constant"):
        wide.fit(np.insert(X, 1, 3.0, axis=1))
    assert_allclose(wide.score_samples(np.insert(X, 1, 3.0, axis=1)), model.score_samples(X))


def test_parts_are_student_t_mixtures_that_agree_by_hand():
    X = rows(3)
    model = VariationalGMM(1).fit(X)
    part = model.marginal([0, 2])
    df = model.degrees_of_freedom_[0] + 1 - 3
    assert_allclose(part.df_, df)
    beta = model.mean_precision_[0]
    S = model.covariances_[0] * model.degrees_of_freedom_[0] * (1 + beta) / (beta * df)
    keep = np.ix_([0, 2], [0, 2])
    expected = multivariate_t(model.means_[0, [0, 2]], S[keep], df)
    assert_allclose(part.score_samples(X[:, [0, 2]]), expected.logpdf(X[:, [0, 2]]), rtol=1e-9)
    assert_allclose(model.condition([1], [100.0]).df_, df + 1)


def test_labels_name_the_components():
    X, z = groups()
    labels = np.where(np.arange(90) % 6 == 0, 2 - z, -1)
    model = VariationalGMM(3, random_state=0).fit(X, labels=labels)
    assert (model.predict(X) == 2 - z).all()


def test_predictive_covariance_is_wider_than_the_plug_in():
    X = load_iris().data[:12]
    vb = VariationalGMM(1).fit(X)
    far = X.mean(axis=0) + 8 * X.std(axis=0)
    ml = GaussianMixture(1).fit(X)
    assert vb.score(far[None]) > ml.score(far[None]) + 10
