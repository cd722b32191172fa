"""Independent Student-t columns: densities, EM, and what is missing, entry by entry."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import kstest
from scipy.stats import t as student

from sklvm import IndependentT, Mixture, StudentT
from sklvm.emissions.independent_t import IndependentTs
from tests.emissions.builders import covariance, responsibilities, rows


def value(K=3, d=4, seed=0, learn_df=True, **options):
    rng = np.random.default_rng(seed)
    cov = covariance("diag", K, d, rng, **options)
    return IndependentTs(2 * rng.standard_normal((K, d)), cov, rng.uniform(3, 9, (K, d)), learn_df)


def column(q, k, j):
    return student(q.df[k, j], q.means[k, j], np.sqrt(q.cov.v[k, j]))


def test_the_density_is_a_product_over_what_is_seen():
    q, X = value(), rows()
    expected = np.zeros((len(X), 3))
    for k in range(3):
        for j in range(4):
            expected[:, k] += np.nan_to_num(column(q, k, j).logpdf(X[:, j]))
    assert_allclose(q.log_prob(X), expected, rtol=1e-11, atol=1e-12)
    assert (q.log_prob(np.full((1, 4), np.nan)) == 0).all()


def test_statistics_by_loops_over_entries():
    q, X = value(), rows(n=12)
    resp = responsibilities(12, 3)
    stats = q.stats(X, resp)
    for k in range(3):
        for j in range(4):
            seen = np.flatnonzero(~np.isnan(X[:, j]))
            diff = X[seen, j] - q.means[k, j]
            u = (q.df[k, j] + 1) / (q.df[k, j] + diff**2 / q.cov.v[k, j])
            r = resp[seen, k]
            found = [getattr(stats.moments, name)[k, j] for name in ("count", "mass", "first")]
            assert_allclose(found, [r.sum(), (r * u).sum(), (r * u * diff).sum()])
            assert stats.moments.second[k, j] == pytest.approx((r * u * diff**2).sum())


@pytest.mark.parametrize("learn_df", [False, True])
def test_the_m_step_never_lowers_the_penalised_likelihood(learn_df):
    q, X = value(learn_df=learn_df, count=1.0, strength=1.0), rows(n=60)
    resp, history = responsibilities(60, 3), []
    for _ in range(60):
        history.append(float((resp * q.log_prob(X)).sum() + q.log_prior()))
        q = q.m_step(q.stats(X, resp))
    assert np.diff(history).min() > -1e-9
    assert history[-1] > history[0] + 1
    if learn_df:  # tails without bound come slowly
        return
    size = len(q.pack(q))
    best = float((resp * q.log_prob(X)).sum() + q.log_prior())
    for i in range(size):
        e = 0.05 * np.eye(size)[i]
        for aside in (q.unpack(e), q.unpack(-e)):
            assert float((resp * aside.log_prob(X)).sum() + aside.log_prior()) < best + 1e-6


def test_in_one_column_it_is_the_student_t():
    X = np.random.default_rng(0).standard_t(3, size=(80, 1))
    X[5] = np.nan
    settings = {"random_state": 0, "tol": 1e-10, "max_iter": 5000}
    for df in (4.0, None):
        ours = Mixture(2, emission=IndependentT(df), covariance_type="diag", **settings).fit(X)
        theirs = Mixture(2, emission=StudentT(df), covariance_type="diag", **settings).fit(X)
        assert ours.lower_bound_ == pytest.approx(theirs.lower_bound_, abs=1e-7)
        assert ours.n_parameters_ == theirs.n_parameters_


def test_samples_and_completions_follow_the_columns():
    q = value(K=2)
    z = np.repeat([0, 1], 4000)
    X = q.sample(z, np.random.default_rng(0))
    X_holes = np.where(np.arange(4) % 2, np.nan, X)
    filled = q.complete_sample(X_holes, z, np.random.default_rng(1))
    assert_allclose(filled[:, ::2], X[:, ::2])
    for k in range(2):
        for j in range(4):
            assert kstest(X[z == k, j], column(q, k, j).cdf).pvalue > 1e-3
            assert kstest(filled[z == k, j], column(q, k, j).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(X[z == 0] ** 2 > 9, rowvar=False)[0, 1]) < 0.1


def test_conditionals_and_moments():
    q = value(K=2)
    seen, targets = np.array([0, 2]), np.array([3, 1])
    left = q.condition(seen, np.array([5.0, -3.0]))
    assert_allclose(left.means, q.means[:, [1, 3]])
    assert_allclose(left.df, q.df[:, [1, 3]])
    means, covariances = q.conditional_moments(np.zeros((3, 4)), seen, targets)
    assert means.shape == (3, 2, 2)
    for k in range(2):
        expected = [column(q, k, j).var() for j in targets]
        assert_allclose(covariances[0, k], np.diag(expected))
    heavy = replace(q, df=np.full((2, 4), 1.5))
    assert np.isinf(heavy.conditional_moments(np.zeros((1, 4)), seen, targets)[1][0, 0, 0, 0])


def test_climbing_raises_the_joint_density_of_what_is_missing():
    q, rng = value(K=2), np.random.default_rng(0)
    x = 4 * rng.standard_normal((6, 4))
    missing, resp = rng.uniform(size=(6, 4)) < 0.5, np.full((6, 2), 0.5)
    before = (resp * q.log_prob(x)).sum(axis=1)
    moved = q.climb(x, missing, resp)
    assert ((resp * q.log_prob(moved)).sum(axis=1) > before - 1e-12).all()
    assert_allclose(moved[~missing], x[~missing])


def test_take_marginal_pack_and_spec():
    one, other = value(seed=1), value(seed=2)
    X, order, columns = rows(), np.array([2, 0, 1]), np.array([3, 1])
    assert_allclose(one.take(order).log_prob(X), one.log_prob(X)[:, order])
    hidden = np.where(np.isin(np.arange(4), columns), X, np.nan)
    assert_allclose(one.marginal(columns).log_prob(X[:, columns]), one.log_prob(hidden))
    again = one.unpack(one.pack(other))
    assert_allclose(again.log_prob(X), other.log_prob(X), rtol=1e-9)
    assert one.n_parameters == 3 * 12
    assert value(learn_df=False).n_parameters == 2 * 12
    assert one.spec == IndependentT(df_penalty=0.0)
    assert replace(one, df_penalty=0.5).spec == IndependentT(df_penalty=0.5)
    with pytest.raises(ValueError, match="IndependentT: df must be a number of at least 0.5"):
        Mixture(2, emission=IndependentT(0.1)).fit(rows(missing=0))


def test_one_wild_entry_leaves_the_other_columns_their_weight():
    X = np.random.default_rng(0).normal(size=(60, 2))
    X[0] = [1000.0, 3.0]
    independent = Mixture(emission=IndependentT(df=4)).fit(X).emission_
    whole = Mixture(emission=StudentT(df=4), covariance_type="diag").fit(X).emission_
    assert independent.scale(X)[0, 0, 1] > 100 * whole.scale(X)[0, 0]
