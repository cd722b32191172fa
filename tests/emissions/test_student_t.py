"""Student-t emissions: the density, its Gaussian limit, the M-step of the degrees of freedom."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import dblquad, quad
from scipy.optimize import minimize_scalar
from scipy.special import digamma, gammaln, logsumexp
from scipy.stats import gamma, multivariate_normal
from sklearn.base import clone

from sklvm.emissions import StudentT
from sklvm.emissions.family import STRUCTURES, CovarianceFamily
from sklvm.emissions.gaussian import Gaussians
from sklvm.emissions.student_t import DF_BOUNDS, StudentTs
from tests.emissions.builders import STRUCTURES as NAMES
from tests.emissions.builders import emission, responsibilities, rows


def test_the_density_integrates_to_one_in_one_dimension():
    value = emission("student-full", d=1)
    for k in range(3):
        centre = value.means[k, 0]

        def density(x, k=k):
            return np.exp(value.log_prob(np.array([[x]]))[0, k])

        total = quad(density, -np.inf, centre)[0] + quad(density, centre, np.inf)[0]
        assert abs(total - 1) < 1e-6


@pytest.mark.parametrize("structure", ["full", "low_rank"])
def test_the_density_integrates_to_one_in_two_dimensions(structure):
    value = emission(f"student-{structure}", K=1, d=2, q=1).take([0])
    value = StudentTs(value.means, value.cov, np.array([6.0]))
    L = np.linalg.cholesky(value.cov.dense()[0])

    def density(angle, radius):
        x = value.means[0] + radius * L @ [np.cos(angle), np.sin(angle)]
        return radius * np.exp(value.log_prob(x[None])[0, 0]) * np.prod(np.diag(L))

    total = dblquad(density, 0, np.inf, 0, 2 * np.pi, epsabs=1e-8, epsrel=1e-8)[0]
    assert abs(total - 1) < 1e-6


@pytest.mark.parametrize("seen", [[0, 1, 2], [2], [0, 2]])
def test_it_is_a_gaussian_mixed_over_its_scale(seen):
    value = emission("student-full", d=3)
    x = np.full(3, np.nan)
    x[seen] = [0.4, -1.1, 0.8][: len(seen)]
    for k, df in enumerate(value.df):
        mean, S = value.means[k, seen], value.cov.S[k][np.ix_(seen, seen)]

        def mixed(u, df=df, mean=mean, S=S):
            prior = gamma.pdf(u, df / 2, scale=2 / df)
            return prior * multivariate_normal.pdf(x[seen], mean, S / u)

        expected = quad(mixed, 0, 1)[0] + quad(mixed, 1, np.inf)[0]
        assert abs(value.log_prob(x[None])[0, k] - np.log(expected)) < 1e-7
        weight = quad(lambda u: u * mixed(u), 0, 1)[0] + quad(lambda u: u * mixed(u), 1, np.inf)[0]
        assert abs(value.scale(x[None])[0, k] - weight / expected) < 1e-6


@pytest.mark.parametrize("structure", NAMES)
def test_many_degrees_of_freedom_are_a_gaussian(structure):
    value, X = emission(f"student-{structure}"), rows()
    X = X / 2
    value = StudentTs(value.means / 4, value.cov, np.full(3, DF_BOUNDS[1]))
    gaussian = Gaussians(value.means, value.cov)
    maha = value.cov.log_det_and_mahalanobis(X, value.means)[1]
    # the first term of the expansion in 1 / df: (delta^2 - 2 o delta + o^2 - 2 o) / (4 df)
    o = (~np.isnan(X)).sum(axis=1, keepdims=True)
    first = (maha**2 - 2 * o * maha + o**2 - 2 * o) / (4 * value.df)
    gap = value.log_prob(X) - gaussian.log_prob(X)
    small = maha < 20
    np.testing.assert_allclose(gap[small], first[small], atol=4e-3)
    assert np.abs(gap[maha < 5]).max() < 2e-2
    np.testing.assert_allclose(
        value.stats(X, responsibilities(30, 3)).moments.count,
        gaussian.stats(X, responsibilities(30, 3)).count,
        rtol=1e-12,
    )


def test_the_m_step_of_df_maximises_its_term_of_the_expected_log_likelihood():
    """sum resp (df/2 log(df/2) - log Gamma(df/2) + df/2 E[log u - u]) by a search of its own."""
    value, X = emission("student-full"), rows(n=200)
    resp = responsibilities(200, 3)
    o = (~np.isnan(X)).sum(axis=1, keepdims=True)
    maha = value.cov.log_det_and_mahalanobis(X, value.means)[1]
    shape, rate = (value.df + o) / 2, (value.df + maha) / 2
    mean = (resp * (digamma(shape) - np.log(rate) - shape / rate)).sum(axis=0) / resp.sum(axis=0)
    after = value.m_step(value.stats(X, resp))
    for k in range(3):

        def term(log_df, k=k):
            half = np.exp(log_df) / 2
            return -(half * np.log(half) - gammaln(half) + half * mean[k])

        best = minimize_scalar(
            term, bounds=np.log(DF_BOUNDS), method="bounded", options={"xatol": 1e-10}
        )
        np.testing.assert_allclose(np.log(after.df[k]), best.x, atol=1e-4)


def test_df_stays_within_its_bounds():
    value = emission("student-diag", K=1)
    X = np.tile(value.means, (200, 1)) + 1e-3 * np.random.default_rng(0).choice([-1, 1], (200, 4))
    light, heavy = replace(value, df=np.array([900.0])), value
    wild = np.random.default_rng(1).standard_cauchy((200, 4)) ** 5
    for _ in range(200):
        light = light.m_step(light.stats(X, np.ones((200, 1))))
        heavy = heavy.m_step(heavy.stats(wild, np.ones((200, 1))))
    assert light.df[0] == DF_BOUNDS[1]
    assert heavy.df[0] == DF_BOUNDS[0]
    assert np.isfinite(light.log_prob(X)).all()
    assert np.isfinite(heavy.log_prob(wild)).all()


def test_fixed_df_stays_fixed():
    value, X = emission("student-full", learn_df=False), rows()
    after = value.m_step(value.stats(X, responsibilities(len(X), 3)))
    np.testing.assert_array_equal(after.df, value.df)


@pytest.mark.parametrize("structure", NAMES)
def test_em_for_a_mixture_of_student_t_never_falls(structure):
    rng = np.random.default_rng(3)
    X = rng.standard_t(3, (150, 3)) @ rng.standard_normal((3, 3))
    X[75:] += 4
    X[rng.uniform(size=X.shape) < 0.2] = np.nan
    X = X[~np.isnan(X).all(axis=1)]
    value, log_weights = (
        emission(f"student-{structure}", K=2, d=3, count=0.5, strength=0.5),
        np.log([0.5, 0.5]),
    )
    history = []
    for _ in range(80):
        joint = value.log_prob(X) + log_weights
        evidence = logsumexp(joint, axis=1)
        history.append(evidence.sum() + value.log_prior())
        resp = np.exp(joint - evidence[:, None])
        value = value.m_step(value.stats(X, resp))
        log_weights = np.log(resp.mean(axis=0))
    assert np.diff(history).min() > -1e-9 * abs(history[-1])
    assert history[-1] > history[0] + 1


def test_outliers_pull_less_than_on_a_gaussian():
    X = np.random.default_rng(4).standard_normal((100, 2))
    X[0] = 1e4
    value = emission("student-full", K=1, d=2)
    for _ in range(200):
        value = value.m_step(value.stats(X, np.ones((100, 1))))
    assert np.abs(value.means - np.median(X, axis=0)).max() < 0.3


def family(d=2, K=3):
    return CovarianceFamily(STRUCTURES["full"], "auto", 0.0, np.arange(d) * 1.0, np.eye(d), 50.0)


def test_the_spec_starts_with_ten_learnt_or_the_given_fixed_degrees_of_freedom():
    learnt, fixed = StudentT().broad(family(), 3), StudentT(df=4).broad(family(), 3)
    np.testing.assert_array_equal(learnt.df, 10.0)
    np.testing.assert_array_equal(fixed.df, 4.0)
    assert learnt.learn_df
    assert not fixed.learn_df
    np.testing.assert_array_equal(learnt.means, np.tile([0.0, 1.0], (3, 1)))


@pytest.mark.parametrize("df", [0.1, 0, -3.0, np.nan, np.inf, "4"])
def test_impossible_degrees_of_freedom_are_refused(df):
    with pytest.raises(ValueError, match=r"df must be a number of at least 0.5, got"):
        StudentT(df=df).broad(family(), 2)


@pytest.mark.parametrize("penalty", [-0.1, np.nan, np.inf, "weak"])
def test_impossible_penalties_are_refused(penalty):
    with pytest.raises(ValueError, match=r"df_penalty must not be negative"):
        StudentT(df_penalty=penalty).broad(family(), 2)


def test_the_spec_of_a_value_makes_such_values_again():
    for spec in (StudentT(), StudentT(df=4, df_penalty=0.5), StudentT(df_penalty=0.0)):
        assert spec.broad(family(), 3).spec == spec


def test_the_spec_is_cloned_compared_and_printed_by_its_parameters():
    spec = StudentT(df=4)
    assert clone(spec) == spec
    assert hash(clone(spec)) == hash(spec)
    assert spec != StudentT()
    assert repr(spec) == "StudentT(df=4, df_penalty=0.02)"
    assert spec.set_params(df=7) is spec
    assert spec.get_params() == {"df": 7, "df_penalty": 0.02}
    with pytest.raises(ValueError, match="no parameter 'dof'"):
        spec.set_params(dof=3)
