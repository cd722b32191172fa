"""Normal-Wishart posteriors: exact evidence, exact predictive, divergences and expectations."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import multigammaln
from scipy.stats import multivariate_normal, wishart

from sklvm.emissions.normal_wishart import NormalWisharts
from tests.emissions.builders import conditional, positive_definite, responsibilities, rows


def prior(d, K=1, seed=0, strength=1.0):
    """A prior, as the posterior of components that have seen nothing."""
    rng = np.random.default_rng(seed)
    S = strength * positive_definite(rng, K, d)
    m, beta, nu = rng.standard_normal((K, d)), rng.uniform(0.3, 2, K), d + rng.uniform(0.5, 4, K)
    p = NormalWisharts.of(m, beta, nu, S)
    return NormalWisharts.of(m, beta, nu, S, p)


def posterior(p, X, sweeps=1):
    for _ in range(sweeps):
        p = p.m_step(p.stats(X, np.ones((len(X), 1))))
    return p


def bound(q, X):
    return float(q.log_prob(X).sum() + q.log_prior())


def log_evidence(p, X, k=0):
    """log p(X) of complete rows in closed form (Murphy 2007, 266), from sums over the rows."""
    m0, beta0, nu0, S0 = p.m[k], p.beta[k], p.nu[k], p.S[k]
    n, d = X.shape
    beta, nu = beta0 + n, nu0 + n
    m = (beta0 * m0 + X.sum(axis=0)) / beta
    S = S0 + X.T @ X + beta0 * np.outer(m0, m0) - beta * np.outer(m, m)
    return (
        -0.5 * n * d * np.log(np.pi)
        + 0.5 * d * np.log(beta0 / beta)
        + 0.5 * nu0 * np.linalg.slogdet(S0)[1]
        - 0.5 * nu * np.linalg.slogdet(S)[1]
        + multigammaln(nu / 2, d)
        - multigammaln(nu0 / 2, d)
    )


def marginal_prior(p, columns):
    """The prior of some columns: an inverse Wishart loses one degree of freedom per column."""
    lost = p.m.shape[1] - len(columns)
    S = p.S[:, columns][:, :, columns]
    return NormalWisharts.of(p.m[:, columns], p.beta, p.nu - lost, S)


def data(n, d, seed=1):
    rng = np.random.default_rng(seed)
    return 1 + rng.standard_normal((n, d)) @ rng.standard_normal((d, d))


# --- one component: everything is exact -------------------------------------------------------


@pytest.mark.parametrize(("n", "d"), [(1, 1), (8, 1), (1, 3), (20, 3), (200, 5)])
def test_the_bound_of_one_component_is_the_log_evidence(n, d):
    p, X = prior(d), data(n, d)
    q = posterior(p, X)
    assert bound(q, X) == pytest.approx(log_evidence(p, X), abs=1e-8)


def test_the_bound_far_from_zero():
    """1e8 away, in a prior that lies there too, the evidence is that of the shifted rows."""
    p, X = prior(3), np.round(data(20, 3) * 64) / 64
    p = replace(p, m=np.round(p.m * 64) / 64)
    p = replace(p, prior=p)
    far = replace(p, m=p.m + 1e8)
    far = replace(far, prior=far)
    assert bound(posterior(far, X + 1e8), X + 1e8) == pytest.approx(log_evidence(p, X), abs=1e-7)


def test_any_other_posterior_bounds_it_from_below():
    p, X = prior(2), data(15, 2)
    q = posterior(p, X)
    rng = np.random.default_rng(2)
    for _ in range(30):
        other = q.unpack(0.3 * rng.standard_normal(len(q.pack(q))))
        assert bound(other, X) < log_evidence(p, X)


def test_integer_weights_are_repeated_rows():
    p, X = prior(2), data(10, 2)
    weight = np.random.default_rng(3).integers(0, 4, 10)
    weighted = p.m_step(p.stats(X, weight[:, None].astype(float)))
    repeated = posterior(p, np.repeat(X, weight, axis=0))
    for name in ("m", "beta", "nu", "S"):
        np.testing.assert_allclose(getattr(weighted, name), getattr(repeated, name), rtol=1e-10)


@pytest.mark.parametrize("seen", [[0, 1, 2], [1], [0, 2]])
def test_the_predictive_is_a_ratio_of_evidences(seen):
    p, X, seen = prior(3), data(12, 3), np.array(seen)
    x = np.full(3, np.nan)
    x[seen] = [0.5, -2.0, 1.5][: len(seen)]
    part = marginal_prior(p, seen)
    more = np.concatenate([X[:, seen], x[None, seen]])
    expected = log_evidence(part, more) - log_evidence(part, X[:, seen])
    predictive = posterior(p, X).predictive()
    assert predictive.log_prob(x[None])[0, 0] == pytest.approx(expected, abs=1e-8)


def test_the_prior_predicts_too():
    p, x = prior(3), np.array([[0.5, -2.0, 1.5]])
    assert p.predictive().log_prob(x)[0, 0] == pytest.approx(log_evidence(p, x), abs=1e-10)


# --- expectations and divergences -------------------------------------------------------------


def draws(q, n, seed=4):
    """(mean, precision) pairs from a Normal-Wishart."""
    rng = np.random.default_rng(seed)
    L = wishart.rvs(q.nu[0], np.linalg.inv(q.S[0]), size=n, random_state=rng)
    L = L.reshape(n, *q.S[0].shape)
    C = np.linalg.cholesky(np.linalg.inv(q.beta[0] * L))
    return q.m[0] + np.einsum("nij,nj->ni", C, rng.standard_normal((n, len(q.m[0])))), L


def log_density(q, mean, L):
    normal = [
        multivariate_normal.logpdf(mu, q.m[0], np.linalg.inv(q.beta[0] * P))
        for mu, P in zip(mean, L, strict=True)
    ]
    return np.array(normal) + wishart.logpdf(np.moveaxis(L, 0, -1), q.nu[0], np.linalg.inv(q.S[0]))


def test_log_prob_is_the_expected_log_likelihood_by_monte_carlo():
    q = posterior(prior(2), data(6, 2))
    mean, L = draws(q, 100_000)
    X = np.array([[0.0, 0.0], [3.0, -1.0]])
    for x, expected in zip(X, q.log_prob(X)[:, 0], strict=True):
        distance = np.einsum("ni,nij,nj->n", x - mean, L, x - mean)
        terms = 0.5 * (np.linalg.slogdet(L)[1] - 2 * np.log(2 * np.pi) - distance)
        assert abs(terms.mean() - expected) < 5 * terms.std() / np.sqrt(len(terms))


def test_log_prob_with_nan_integrates_the_expected_likelihood_over_the_missing_column():
    q = posterior(prior(3), data(6, 3))
    x = np.array([0.4, np.nan, -1.0])
    centre = q.complete(x[None])[0, 0, 1]

    def likelihood(t):
        return np.exp(q.log_prob(np.array([[x[0], t, x[2]]]))[0, 0])

    total = quad(likelihood, -np.inf, centre, epsrel=1e-11, epsabs=0)[0]
    total += quad(likelihood, centre, np.inf, epsrel=1e-11, epsabs=0)[0]
    assert abs(q.log_prob(x[None])[0, 0] - np.log(total)) < 1e-8


def test_the_log_prior_is_minus_the_divergence_by_monte_carlo():
    q = posterior(prior(2), data(4, 2))
    mean, L = draws(q, 4000)
    ratio = log_density(q.prior, mean, L) - log_density(q, mean, L)
    assert abs(q.log_prior() - ratio.mean()) < 5 * ratio.std() / np.sqrt(len(ratio))


def test_the_divergence_is_zero_at_the_prior_and_positive_elsewhere():
    p = prior(3, K=2)
    assert p.log_prior() == pytest.approx(0.0, abs=1e-10)
    rng = np.random.default_rng(5)
    for size in (1e-3, 0.1, 1.0):
        for _ in range(10):
            assert p.unpack(size * rng.standard_normal(len(p.pack(p)))).log_prior() < 0


def test_components_add_up():
    p = prior(2, K=3)
    q = p.m_step(p.stats(rows(d=2), responsibilities(30, 3)))
    parts = [replace(q.take([k]), prior=p.take([k])).log_prior() for k in range(3)]
    assert q.log_prior() == pytest.approx(sum(parts))


# --- missing entries --------------------------------------------------------------------------


def test_the_bound_with_a_missing_entry_is_below_the_exact_evidence():
    """One entry of five rows missing: the exact evidence by quadrature over it."""
    p, X = prior(2), data(5, 2)
    filled = X.copy()

    def evidence(t):
        filled[2, 1] = t
        return np.exp(log_evidence(p, filled))

    exact = np.log(quad(evidence, -np.inf, 1)[0] + quad(evidence, 1, np.inf)[0])
    X[2, 1] = np.nan
    q, history = p, []
    for _ in range(200):
        history.append(bound(q, X))
        q = posterior(q, X)
    assert np.diff(history).min() > -1e-9
    assert exact - 1 < history[-1] < exact
    rng = np.random.default_rng(6)
    for _ in range(20):  # and the fixed point is a maximum of the bound
        assert bound(q.unpack(0.05 * rng.standard_normal(len(q.pack(q)))), X) < history[-1] + 1e-9


def test_a_column_missing_everywhere_leaves_the_bound_below_the_evidence_of_the_other():
    p, X = prior(2), data(6, 2)
    X[:, 1] = np.nan
    q = posterior(p, X, 300)
    exact = log_evidence(marginal_prior(p, [0]), X[:, :1])
    assert bound(q, X) < exact


def test_stats_are_expectations_under_the_expected_precision():
    p, X = prior(4, K=3), rows()
    resp = responsibilities(len(X), 3)
    stats = p.stats(X, resp)
    second = np.zeros((3, 4, 4))
    for n, x in enumerate(X):
        for k in range(3):
            filled, C = conditional(p.m[k], p.S[k] / p.nu[k], x)
            second[k] += resp[n, k] * (np.outer(filled - p.m[k], filled - p.m[k]) + C)
    np.testing.assert_allclose(stats.second, second, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_the_m_step_maximises_the_bound_given_responsibilities(missing):
    """Complete rows: stationary at once. With holes each sweep raises the bound."""
    p, X = prior(3, K=2), np.delete(rows(d=3, missing=missing), 1, axis=0)
    resp = responsibilities(len(X), 2)

    def objective(q):
        return float((resp * q.log_prob(X)).sum() + q.log_prior())

    q, history = p, [objective(p)]
    for _ in range(1 if missing == 0 else 300):
        q = q.m_step(q.stats(X, resp))
        history.append(objective(q))
    assert np.diff(history).min() > -1e-9
    size, step = len(q.pack(q)), 1e-4
    for i in range(size):
        e = step * np.eye(size)[i]
        up, down = objective(q.unpack(e)), objective(q.unpack(-e))
        assert max(up, down) <= history[-1] + 1e-9
        assert abs(up - down) / (2 * step) < 1e-4


def test_a_component_without_rows_returns_to_its_prior():
    p, X = prior(3, K=2), np.delete(rows(d=3), 1, axis=0)
    resp = responsibilities(len(X), 2)
    q = p.m_step(p.stats(X, resp))
    resp[:, 1] = 0
    q = q.m_step(q.stats(X, resp))
    for name in ("m", "beta", "nu", "S"):
        np.testing.assert_allclose(getattr(q, name)[1], getattr(p, name)[1], rtol=1e-9)


# --- a value like every emission --------------------------------------------------------------


def test_an_empty_row_costs_at_most_its_bound():
    q = posterior(prior(3), data(10, 3))
    empty = np.full((1, 3), np.nan)
    assert q.log_prob(empty)[0, 0] < 0  # E log|L| < log|E L|: the price of not knowing
    assert q.predictive().log_prob(empty)[0, 0] == 0.0


def test_marginal_predicts_what_the_predictive_says_of_these_columns():
    q = posterior(prior(4), data(20, 4))
    columns = np.array([3, 1])
    x = np.array([[0.3, 1.2]])
    hidden = np.full((1, 4), np.nan)
    hidden[:, columns] = x
    part = q.marginal(columns)
    expected = q.predictive().log_prob(hidden)
    np.testing.assert_allclose(part.predictive().log_prob(x), expected, rtol=1e-10)
    np.testing.assert_allclose(q.predictive().marginal(columns).log_prob(x), expected, rtol=1e-10)
    assert part.log_prior() <= 0
    assert q.marginal(np.arange(4)).log_prior() == pytest.approx(q.log_prior())


def test_pack_and_unpack_are_inverse_and_free_of_units():
    one, other = prior(3, K=2, seed=1), prior(3, K=2, seed=2)
    np.testing.assert_allclose(one.pack(one), 0.0, atol=1e-12)
    again = one.unpack(one.pack(other))
    for name in ("m", "beta", "nu", "S"):
        np.testing.assert_allclose(getattr(again, name), getattr(other, name), rtol=1e-9)
    units = np.array([1e-8, 1.0, 1e8])

    def scaled(q):
        return NormalWisharts.of(q.m * units, q.beta, q.nu, q.S * np.outer(units, units))

    np.testing.assert_allclose(scaled(one).pack(scaled(other)), one.pack(other), atol=1e-8)


def test_take_reorders_posterior_and_prior():
    p, X = prior(3, K=3), rows(d=3)
    q = p.m_step(p.stats(X, responsibilities(len(X), 3)))
    order = np.array([2, 0, 1])
    taken = q.take(order)
    np.testing.assert_allclose(taken.log_prob(X), q.log_prob(X)[:, order], rtol=1e-12)
    assert taken.log_prior() == pytest.approx(q.log_prior())
    np.testing.assert_array_equal(taken.expectation(), q.m[order])


def test_samples_and_completions_are_those_of_the_predictive():
    q, X = posterior(prior(3), data(20, 3)), rows(d=3)
    z = np.zeros(len(X), int)
    predictive = q.predictive()
    for verb, arguments in [("sample", (z,)), ("complete_sample", (X, z))]:
        ours = getattr(q, verb)(*arguments, np.random.default_rng(0))
        theirs = getattr(predictive, verb)(*arguments, np.random.default_rng(0))
        np.testing.assert_allclose(ours, theirs)
    np.testing.assert_allclose(q.complete(X), predictive.complete(X), rtol=1e-9, atol=1e-9)


def test_n_parameters():
    assert prior(4, K=3).n_parameters == 3 * (4 + 10)
