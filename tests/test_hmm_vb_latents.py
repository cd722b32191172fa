"""Posteriors of emissions with one more latent a row: Student-t, negative binomial, nested."""

from itertools import pairwise, product

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.special import gammaln, logsumexp
from scipy.stats import gamma, nbinom, norm, t
from sklearn.utils.estimator_checks import check_estimator

from sklvm import HMM, FactorEmission, GaussianMixtureEmission, NegativeBinomial, StudentT
from sklvm.emissions.conjugate import MEAN_PRECISION
from sklvm.emissions.factor_posteriors import DEGREES
from sklvm.inference.em import em
from tests._chains import chains_of, sequences
from tests.test_hmm_vb import log_evidence, log_marginal, log_multinomials

STRUCTURES = pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
SHORT = [np.array([[0.0], [0.5], [6.0]]), np.array([[5.0], [0.3]])]


def counts(lengths=(40, 30, 1), missing=0.0):
    rng = np.random.default_rng(0)
    X = [
        rng.negative_binomial(2, 2 / (2 + 3.0 + 15 * (rng.uniform() < 0.5)), (T, 2))
        for T in lengths
    ]
    return [np.where(rng.uniform(size=x.shape) < missing, np.nan, x) for x in X]


def of_students(emission, x):
    """log of the integral of prod t(x) over one state's prior of mean and precision, by sums."""
    p, df = emission.q.prior, emission.df[0]
    m, beta, nu, S = (float(np.ravel(v)[0]) for v in (p.m, p.beta, p.nu, p.S))
    log_l = np.linspace(-14, 8, 500)
    precision = np.exp(log_l)[:, None]
    sd = 1 / np.sqrt(beta * precision)
    unit = np.linspace(-9, 9, 1501)
    mean = m + sd * unit
    log_p = norm.logpdf(mean, m, sd) + np.log(sd)
    log_p = log_p + gamma.logpdf(precision, nu / 2, scale=2 / S) + np.log(precision)
    for value in np.ravel(x):
        log_p = log_p + t.logpdf(value, df, mean, 1 / np.sqrt(precision))
    cell = (log_l[1] - log_l[0]) * (unit[1] - unit[0])
    return logsumexp(log_p) + np.log(cell)


def of_mixtures(emission, x):
    """The same of a nested mixture: a sum over the part that each row comes from."""
    M, terms = emission.weights.mean.shape[1], []
    parts = [emission.parts.take([m]) for m in range(M)]
    for choice in product(range(M), repeat=len(x)):
        part = np.array(choice, dtype=int)
        often = np.bincount(part, minlength=M)[None]
        one = log_multinomials(often, emission.weights.prior)
        terms.append(one + sum(log_marginal(parts[m], x[part == m]) for m in range(M)))
    return np.logaddexp.reduce(terms)


def of_factors(emission, x, n=200_000):
    """The same of one column with one factor, over draws from the prior."""
    rng = np.random.default_rng(0)
    psi = emission.scale[0] / rng.chisquare(DEGREES, n)
    w, mean = np.sqrt(psi / MEAN_PRECISION) * rng.standard_normal((2, n))
    log_p = norm.logpdf(x, emission.centre + mean, np.sqrt(w**2 + psi)).sum(axis=0)
    return logsumexp(log_p) - np.log(n)


def of_dispersed(emission, x):
    """The same of counts at the dispersion that was found, by quadrature over the mean."""
    prior = emission._prior_rows * emission.centre, emission._prior_rows
    a, r = float(prior[0][0]), float(1 / emission.dispersion[0, 0])

    def height(log_mean):
        mean = np.exp(log_mean)
        log_p = gamma.logpdf(mean, a, scale=1 / prior[1][0]) + log_mean
        return np.exp(log_p + nbinom.logpmf(np.ravel(x), r, r / (r + mean)).sum())

    return np.log(quad(height, -25, 9, points=[0, 1, 2, 3], limit=400, epsrel=1e-10)[0])


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_the_bound_of_students_is_below_the_evidence(covariance_type):
    settings = {"covariance_type": covariance_type, "inference": "vb", "random_state": 0}
    model = HMM(2, emission=StudentT(df=3), tol=1e-9, **settings).fit(SHORT)
    evidence = log_evidence(model.state_, SHORT, of_students)
    assert model.lower_bound_ < evidence < model.lower_bound_ + 4.0
    alone = HMM(1, emission=StudentT(df=3), tol=1e-9, **settings).fit(SHORT)
    evidence = of_students(alone.state_.emission, np.concatenate(SHORT))
    assert alone.lower_bound_ < evidence < alone.lower_bound_ + 0.6


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_the_bound_of_nested_mixtures_is_below_the_evidence(covariance_type):
    settings = {"covariance_type": covariance_type, "inference": "vb", "random_state": 0}
    emission = GaussianMixtureEmission(2)
    model = HMM(2, emission=emission, tol=1e-9, **settings).fit(SHORT)
    evidence = log_evidence(model.state_, SHORT, of_mixtures)
    assert model.lower_bound_ < evidence < model.lower_bound_ + 6.0
    alone = HMM(1, emission=emission, tol=1e-9, **settings).fit(SHORT)
    evidence = of_mixtures(alone.state_.emission, np.concatenate(SHORT))
    assert alone.lower_bound_ < evidence < alone.lower_bound_ + 3.0


def test_the_bound_of_factors_is_below_the_evidence():
    for K, most in ((1, 1.5), (2, 5.0)):
        model = HMM(K, emission=FactorEmission(1), inference="vb", tol=1e-9, random_state=0)
        state = model.fit(SHORT).state_
        evidence = log_evidence(state, SHORT, of_factors)
        assert model.lower_bound_ < evidence < model.lower_bound_ + most


def test_what_factors_are_expected_to_say():
    """log_prob is the log of the integral over z of N(z; 0, 1) exp E_q[log p(x_seen | z)]."""
    model = HMM(2, emission=FactorEmission(1), inference="vb", random_state=0)
    q = model.fit(sequences("gaussian", missing=0.2)).state_.emission
    x = np.array([[2.0, np.nan, -1.5], [np.nan, 130.0, -1.0], [0.5, 100.0, -2.0]])
    got, seen = q.log_prob(x), ~np.isnan(x)
    z = np.linspace(-12, 12, 4001)
    u = np.column_stack([z, np.ones_like(z)])
    for k, n in product(range(2), range(3)):
        log_p = norm.logpdf(z)
        for j in np.flatnonzero(seen[n]):
            l, C = gamma(q.nu[k, j] / 2, scale=2 / q.S[k, j]), np.linalg.inv(q.L[k, j])
            square = l.mean() * (x[n, j] - u @ q.M[k, j]) ** 2 + np.einsum("zi,ij,zj->z", u, C, u)
            log_p += 0.5 * (l.expect(np.log) - np.log(2 * np.pi) - square)
        assert logsumexp(log_p) + np.log(z[1] - z[0]) == pytest.approx(got[n, k], abs=1e-6)


def test_no_factors_are_independent_gaussians():
    X = sequences("gaussian")
    none = HMM(2, emission=FactorEmission(0), inference="vb", random_state=0).fit(X)
    plain = HMM(2, covariance_type="diag", inference="vb", random_state=0).fit(X)
    assert none.lower_bound_ == pytest.approx(plain.lower_bound_, rel=1e-9)
    assert_allclose(none.means_, plain.means_, rtol=1e-6)


def test_factors_raise_the_bound_where_columns_hang_together():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((300, 1)) @ rng.standard_normal((1, 8))
    X = [rows + 0.3 * rng.standard_normal((300, 8))]
    of = {q: HMM(1, emission=FactorEmission(q), inference="vb").fit(X) for q in (0, 1, 2)}
    assert of[1].lower_bound_ > of[0].lower_bound_ + 500
    assert of[1].lower_bound_ > of[2].lower_bound_ - 3  # what is not needed does not pay


def test_noise_that_is_shared_has_no_posterior():
    with pytest.raises(ValueError, match="needs noise='free', got 'shared'"):
        HMM(2, emission=FactorEmission(1, noise="shared"), inference="vb").fit(
            sequences("gaussian")
        )


def test_the_bound_of_dispersed_counts_is_below_the_evidence():
    X = [np.array([[0.0], [3], [14]]), np.array([[1.0], [22]])]
    for K, most in ((1, 2.0), (2, 4.0)):
        model = HMM(K, emission="negative_binomial", inference="vb", tol=1e-9, random_state=0)
        state = model.fit(X).state_
        penalty = state.emission.log_prior() - of_means(state.emission)
        evidence = log_evidence(state, X, of_dispersed) + penalty
        assert model.lower_bound_ < evidence < model.lower_bound_ + most


def of_means(emission):
    """-KL(q || prior) of the means, by quadrature: the rest of `log_prior` is of dispersions."""
    total, k = 0.0, emission._prior_rows
    for (i, j), mean in np.ndenumerate(emission.mean):
        rows = emission.rows[i, j]
        q = gamma(rows * mean, scale=1 / rows)
        p = gamma(k[j] * emission.centre[j], scale=1 / k[j])
        ends = q.ppf([1e-14, 0.01, 0.5, 0.99, 1 - 1e-14])

        def gap(x, q=q, p=p):
            return q.pdf(x) * (q.logpdf(x) - p.logpdf(x))

        total -= sum(quad(gap, low, high)[0] for low, high in pairwise(ends))
    return total


def test_the_divergence_of_means_of_counts():
    """Two states whose dispersions are alike: what `log_prior` says of means, by differences."""
    q = HMM(2, emission="negative_binomial", inference="vb", random_state=0).fit(counts()).state_
    before = q.emission.unseen(q.emission)
    alike = before.unpack(before.pack(before))
    assert of_means(alike) == pytest.approx(0.0, abs=1e-8)
    gap = q.emission.log_prior() - of_means(q.emission)
    same = type(q.emission)(
        **{**vars(before), "dispersion": q.emission.dispersion}
    )  # the prior's means, the dispersions found
    assert gap == pytest.approx(same.log_prior(), rel=1e-7)


def test_one_part_is_no_mixture():
    X = sequences("gaussian", missing=0.1)
    nested = HMM(2, emission=GaussianMixtureEmission(1), inference="vb", random_state=0).fit(X)
    plain = HMM(2, inference="vb", random_state=0).fit(X)
    assert nested.lower_bound_ == pytest.approx(plain.lower_bound_, rel=1e-10)
    assert_allclose(nested.score_samples(X), plain.score_samples(X), rtol=1e-10)


@STRUCTURES
def test_many_degrees_of_freedom_are_a_gaussian(covariance_type):
    X = sequences("gaussian", missing=0.1)
    settings = {"covariance_type": covariance_type, "inference": "vb", "random_state": 0}
    wide = HMM(2, emission=StudentT(df=1e7), **settings).fit(X)
    plain = HMM(2, **settings).fit(X)
    assert wide.lower_bound_ == pytest.approx(plain.lower_bound_, rel=1e-6)
    assert_allclose(wide.means_, plain.means_, rtol=1e-4)


@pytest.mark.parametrize("emission", ["student_t", "gaussian_mixture"])
@STRUCTURES
def test_the_bound_never_falls(emission, covariance_type):
    X = sequences("gaussian", missing=0.2)
    X[0][3] = np.nan
    settings = {"emission": emission, "covariance_type": covariance_type, "inference": "vb"}
    climbs(HMM(2, **settings, random_state=0).fit(X).state_, X)


def test_the_bound_of_factors_never_falls():
    X = sequences("gaussian", missing=0.2)
    climbs(HMM(2, emission=FactorEmission(1), inference="vb", random_state=0).fit(X).state_, X)


def test_the_bound_of_counts_never_falls():
    X = counts(missing=0.2)
    climbs(HMM(2, emission="negative_binomial", inference="vb", random_state=0).fit(X).state_, X)


def climbs(state, X):
    chains = chains_of(X)
    seen = chains.weight > 0
    resp = np.random.default_rng(1).dirichlet([1.0, 1.0], size=seen.sum())
    start = state.start(chains.X[seen], resp)
    for accelerate in (None, "squarem"):
        run = em(start, chains, max_iter=40, tol=0, accelerate=accelerate, strict=True)
        assert run.history[-1] > run.history[0]


def test_a_missing_entry_is_integrated_out_of_the_expectation():
    """With a q of its own a missing entry is the integral of exp E_q[log p] over it."""
    emission = HMM(2, emission="student_t", inference="vb", random_state=0)
    q = emission.fit(sequences("gaussian")).state_.emission
    x = np.array([2.0, 130.0, -1.5])
    holed = q.log_prob(np.array([[2.0, np.nan, -1.5]]))[0]
    for k in range(2):

        def height(v, k=k):
            return np.exp(q.log_prob(np.array([[x[0], v, x[2]]]))[0, k])

        at = q.complete(np.array([[2.0, np.nan, -1.5]]))[0, k, 1]
        ends = at + np.array([-1e5, -200, -20, 0, 20, 200, 1e5])
        total = sum(quad(height, a, b, limit=200)[0] for a, b in pairwise(ends))
        assert np.log(total) == pytest.approx(holed[k], abs=1e-6)


def test_what_counts_are_expected_to_say():
    """log_prob is the log of the integral over u of Gamma(u) exp E_q[log Poisson(x; m u)]."""
    q = HMM(2, emission="negative_binomial", inference="vb", random_state=0).fit(counts()).state_
    q = q.emission.marginal([0])
    for k, x in product(range(2), (0.0, 3.0, 40.0)):
        r, shape, rate = 1 / q.dispersion[k, 0], q._shape[k, 0], q.rows[k, 0]
        log_mean = gamma(shape, scale=1 / rate).expect(np.log)

        def height(u, r=r, x=x, mean=shape / rate, log_mean=log_mean):
            expected = x * (np.log(u) + log_mean) - mean * u - gammaln(x + 1)
            return np.exp(gamma.logpdf(u, r, scale=1 / r) + expected)

        total = quad(height, 0, 1)[0] + quad(height, 1, np.inf)[0]
        assert q.log_prob(np.array([[x]]))[0, k] == pytest.approx(np.log(total), abs=1e-6)


def test_the_predictive_of_counts_has_the_moments_of_draws():
    q = HMM(2, emission="negative_binomial", inference="vb", random_state=0).fit(counts()).state_
    q, rng = q.emission, np.random.default_rng(0)
    draws = [q.draw(rng) for _ in range(20_000)]
    means = np.array([draw.mean for draw in draws])
    error = means.std(axis=0) / np.sqrt(len(draws))
    assert (abs(means.mean(axis=0) - q.predictive().mean) < 5 * error).all()
    variance = np.mean([draw.variance() for draw in draws], axis=0) + means.var(axis=0)
    assert_allclose(variance, q.predictive().variance(), rtol=0.05)
    z = np.zeros(4000, dtype=int)
    assert abs(q.sample(z, rng)[:, 0].mean() / q.mean[0, 0] - 1) < 0.1


@pytest.mark.parametrize("emission", ["student_t", "gaussian_mixture", FactorEmission(1)])
def test_draws_average_to_the_expectations(emission):
    X = sequences("gaussian", missing=0.1)
    q = HMM(2, emission=emission, inference="vb", random_state=0).fit(X).state_.emission
    rng = np.random.default_rng(0)
    means = np.array([q.draw(rng).expectation() for _ in range(3000)])
    gap = abs(means.mean(axis=0) - q.expectation())
    assert (gap < 5 * means.std(axis=0) / np.sqrt(3000)).all()


def test_outliers_pull_a_student_less():
    rng = np.random.default_rng(0)
    X = [rng.standard_normal((100, 1)), rng.standard_normal((100, 1))]
    X[0][::20] += 50.0
    robust = HMM(1, emission="student_t", inference="vb", random_state=0).fit(X)
    plain = HMM(1, inference="vb", random_state=0).fit(X)
    assert abs(robust.means_[0, 0]) < 0.3 < plain.means_[0, 0]
    assert robust.lower_bound_ > plain.lower_bound_ + 50
    assert robust.emission_.df[0] < 3


def test_the_bound_chooses_the_number_of_states_of_counts():
    """Poisson states need several for what one negative binomial says."""
    X = [np.random.default_rng(0).negative_binomial(2, 0.1, (150, 1)).astype(float)]
    of = {K: HMM(K, emission="negative_binomial", inference="vb", random_state=0) for K in (1, 2)}
    bounds = {K: model.fit(X).lower_bound_ for K, model in of.items()}
    assert bounds[1] > bounds[2]
    assert bounds[1] > HMM(1, emission="poisson", inference="vb").fit(X).lower_bound_ + 100


def test_mixed_columns_take_them():
    X = [
        np.column_stack([x[:, 0], np.abs(x[:, 1]).round(), x[:, 2]]) for x in sequences("gaussian")
    ]
    emission = [("student_t", [0]), (NegativeBinomial(), [1]), ("gaussian_mixture", [2])]
    model = HMM(2, emission=emission, inference="vb", random_state=0).fit(X)
    assert np.isfinite(model.lower_bound_) and np.isfinite(model.score_samples(X)).all()


@pytest.mark.parametrize("emission", [StudentT(), GaussianMixtureEmission(2), FactorEmission(1)])
def test_check_estimator(emission):
    model = HMM(2, emission=emission, inference="vb", random_state=0)
    results = check_estimator(model, on_skip=None, on_fail=None)
    assert [r["check_name"] for r in results if r["status"] != "passed"] == []


@pytest.mark.parametrize(
    "emission", ["student_t", "gaussian_mixture", FactorEmission(1), "negative_binomial"]
)
def test_weights_are_repeats_and_units_do_not_matter(emission):
    X = counts((12, 9, 15)) if emission == "negative_binomial" else sequences("gaussian")[:3]
    settings = {"emission": emission, "inference": "vb", "tol": 1e-10, "random_state": 0}
    weight = np.array([2, 0, 1])
    weighted = HMM(2, **settings).fit(X, sample_weight=weight)
    repeated = HMM(2, **settings).fit([X[0], X[0], X[2]])
    assert weighted.lower_bound_ == pytest.approx(repeated.lower_bound_, rel=1e-8)
    if emission != "negative_binomial":  # counts have no units
        far = HMM(2, **settings).fit([1e6 * x for x in X], sample_weight=weight)
        shift = 3 * np.log(1e6) * sum(w * len(x) for w, x in zip(weight, X, strict=True))
        assert far.lower_bound_ + shift == pytest.approx(weighted.lower_bound_, abs=1e-5)
