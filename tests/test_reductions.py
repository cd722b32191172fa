"""The reduction lattice: exact equalities between models, closed forms and scikit-learn."""

from contextlib import nullcontext
from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import approx_fprime
from scipy.special import gammaln, logsumexp, multigammaln
from scipy.stats import multivariate_normal, multivariate_t
from sklearn import mixture as peers
from sklearn.datasets import load_iris, load_wine
from sklearn.decomposition import FactorAnalysis
from sklearn.exceptions import ConvergenceWarning

from sklvm import EMFactorAnalysis, GaussianMixture, Mixture, StudentT, VariationalGMM
from tests._models import rows

TYPES = pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
TIGHT = {"tol": 1e-13, "max_iter": 20000}


# --- one Gaussian, four ways ------------------------------------------------------------------


def test_one_component_is_the_sample_mean_and_covariance():
    X = rows(4)
    model = GaussianMixture(1, covariance_prior=0.0).fit(X)
    S = np.cov(X.T, ddof=0)
    assert_allclose(model.means_[0], X.mean(axis=0), rtol=1e-12)
    assert_allclose(model.covariances_[0], S, rtol=1e-9)
    expected = multivariate_normal(X.mean(axis=0), S).logpdf(X)
    assert_allclose(model.score_samples(X), expected, rtol=1e-9)
    for covariance_type, covariance in [
        ("tied", S),
        ("diag", np.diag(np.diag(S))),
        ("spherical", np.eye(4) * np.diag(S).mean()),
    ]:
        other = GaussianMixture(1, covariance_prior=0.0, covariance_type=covariance_type).fit(X)
        expected = multivariate_normal(X.mean(axis=0), covariance).logpdf(X)
        assert_allclose(other.score_samples(X), expected, rtol=1e-9)


@pytest.mark.parametrize("solver", ["profile", "em"])
def test_one_component_is_factor_analysis_with_all_but_one_factor(solver):
    X = rows(3, n=200)  # S - lambda_min I has rank d - 1
    gaussian = GaussianMixture(1, covariance_prior=0.0).fit(X)
    factors = EMFactorAnalysis(2, solver=solver, heywood_penalty=0.0, tol=1e-15, max_iter=50000)
    assert_allclose(factors.fit(X).score(X), gaussian.score(X), atol=1e-8)
    assert_allclose(factors.get_covariance(), gaussian.covariances_[0], rtol=1e-3)


def test_one_component_with_weights_is_the_weighted_moments():
    X, w = rows(3), np.arange(60) % 5 / 2
    model = GaussianMixture(1, covariance_prior=0.0).fit(X, sample_weight=w)
    assert_allclose(model.means_[0], np.average(X, axis=0, weights=w), rtol=1e-12)
    assert_allclose(model.covariances_[0], np.cov(X.T, aweights=w, ddof=0), rtol=1e-9)


def test_the_prior_is_pseudo_observations_of_the_pooled_covariance():
    X = rows(3)
    S = np.cov(X.T, ddof=0)  # K = 1: L0 = S, so the prior changes nothing
    assert_allclose(GaussianMixture(1).fit(X).covariances_[0], S, rtol=1e-9)
    labels = np.repeat([0, 1], [25, 35])
    for s, free in [(0.75, 0.75), ("auto", 1.5)]:
        model = GaussianMixture(2, covariance_prior=s).fit(X, labels=labels)
        for k, part in enumerate([X[:25], X[25:]]):
            W, n = np.cov(part.T, ddof=0) * len(part), len(part)
            expected = (W + free * 2 ** (-2 / 3) * S) / (n + free)
            assert_allclose(model.covariances_[k], expected, rtol=1e-9)


def test_mixture_of_gaussians_is_gaussian_mixture():
    for covariance_type in ("full", "tied", "diag", "spherical"):
        settings = {"covariance_type": covariance_type, "random_state": 0}
        a = GaussianMixture(2, **settings).fit(rows(3, True))
        b = Mixture(2, **settings).fit(rows(3, True))
        assert_allclose(a.score_samples(rows(3, True)), b.score_samples(rows(3, True)), rtol=1e-12)
        assert a.n_parameters_ == b.n_parameters_


@TYPES
def test_student_t_with_huge_df_is_gaussian(covariance_type):
    X, settings = rows(3, True), {"covariance_type": covariance_type, "random_state": 0, **TIGHT}
    t = Mixture(2, emission=StudentT(df=1e7), **settings).fit(X)
    gaussian = GaussianMixture(2, **settings).fit(X)
    assert_allclose(t.score_samples(X), gaussian.score_samples(X), atol=1e-4)
    few = Mixture(2, emission=StudentT(df=3), **settings).fit(X)
    assert np.abs(few.score_samples(X) - gaussian.score_samples(X)).max() > 0.1


@pytest.mark.parametrize("penalty", [0.0, 0.02, 1.0])
def test_one_student_t_is_scipys(penalty):
    X = rows(3)
    model = Mixture(1, emission=StudentT(df_penalty=penalty), **TIGHT).fit(X)
    emission = model.emission_
    t = multivariate_t(model.means_[0], emission.cov.dense()[0], df=model.df_[0])
    assert_allclose(model.score_samples(X), t.logpdf(X), rtol=1e-9)
    gap = approx_fprime(
        np.log(model.df_), lambda v: multivariate_t(t.loc, t.shape, np.exp(v[0])).logpdf(X).mean()
    )
    pull = penalty * model.df_[0] / len(X)
    assert abs(gap[0] - pull) < 1e-4 or model.df_[0] >= 999


# --- factor analysis --------------------------------------------------------------------------


def simulated(n, d, q, seed):
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(q, d))
    return rng.normal(size=(n, q)) @ W + rng.normal(size=(n, d)) * rng.uniform(0.3, 1.5, d)


FACTOR_DATA = {
    "iris": (load_iris().data, 1),
    "wine": (load_wine().data, 3),
    "simulated": (simulated(300, 8, 2, 0), 2),
    "heywood": (simulated(60, 10, 4, 3), 4),
    "too few": (simulated(200, 6, 3, 1), 1),
}


@pytest.mark.parametrize("data", FACTOR_DATA)
def test_factor_analysis_is_a_multivariate_normal(data):
    X, q = FACTOR_DATA[data]
    model = EMFactorAnalysis(q).fit(X)
    normal = multivariate_normal(model.mean_, model.get_covariance())
    assert_allclose(model.score_samples(X), normal.logpdf(X), rtol=1e-8, atol=1e-8)
    assert_allclose(
        model.get_covariance(),
        model.components_.T @ model.components_ + np.diag(model.noise_variance_),
    )


@pytest.mark.parametrize("data", FACTOR_DATA)
def test_factor_analysis_is_no_worse_than_scikit_learn(data):
    X, q = FACTOR_DATA[data]
    X = (X - X.mean(axis=0)) / X.std(axis=0)  # theirs has absolute floors
    ours = EMFactorAnalysis(q, heywood_penalty=0.0, tol=1e-14, max_iter=5000).fit(X)
    theirs = FactorAnalysis(q, svd_method="lapack", tol=1e-10, max_iter=10000)
    stuck = data == "iris"  # a uniqueness that creeps towards zero
    with pytest.warns(ConvergenceWarning) if stuck else nullcontext():
        theirs.fit(X)
    assert ours.score(X) >= theirs.score(X) - 1e-6
    assert (ours.score(X) <= theirs.score(X) + 1e-5) or stuck


@pytest.mark.parametrize("penalty", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("data", ["wine", "simulated", "too few"])  # without a Heywood case
def test_profile_and_em_climb_to_the_same_place(data, penalty):
    X, q = FACTOR_DATA[data]
    settings = {"heywood_penalty": penalty, "tol": 1e-13, "max_iter": 50000}
    profile = EMFactorAnalysis(q, solver="profile", **settings).fit(X)
    em = EMFactorAnalysis(q, solver="em", **settings).fit(X)
    assert_allclose(em.history_[-1], profile.history_[-1], atol=1e-7)
    assert_allclose(em.score_samples(X), profile.score_samples(X), atol=2e-3)
    assert_allclose(em.noise_variance_, profile.noise_variance_, rtol=0.02)


def test_more_columns_than_rows_is_the_same_problem():
    X = simulated(30, 40, 2, 5)
    settings = {"tol": 1e-14, "max_iter": 50000}
    wide = EMFactorAnalysis(2, solver="profile", **settings).fit(X)
    em = EMFactorAnalysis(2, solver="em", **settings).fit(X)
    assert_allclose(wide.history_[-1], em.history_[-1], atol=1e-6)
    S = np.cov(X.T, ddof=0)
    dense = EMFactorAnalysis(2, **settings).fit_covariance(S, 30, mean=X.mean(axis=0))
    assert_allclose(wide.score(X), dense.score(X), atol=1e-6)


def test_the_covariance_is_all_that_complete_data_say():
    X = simulated(100, 6, 2, 2)
    a = EMFactorAnalysis(2).fit(X)
    S = np.cov(X.T, ddof=0)
    b = EMFactorAnalysis(2).fit_covariance(S, 100, mean=X.mean(axis=0))
    assert_allclose(a.score_samples(X), b.score_samples(X), rtol=1e-6)


@pytest.mark.parametrize("solver", ["auto", "em"])
@pytest.mark.parametrize("holes", [False, True])
def test_no_factor_is_a_diagonal_gaussian(solver, holes):
    X, settings = rows(4, holes), {"heywood_penalty": 0.0, "tol": 1e-13}
    factors = EMFactorAnalysis(0, solver=solver, **settings).fit(X)
    gaussian = GaussianMixture(1, covariance_type="diag", covariance_prior=0.0, **TIGHT).fit(X)
    assert_allclose(factors.noise_variance_, gaussian.covariances_[0], rtol=1e-6)
    assert_allclose(factors.score_samples(X), gaussian.score_samples(X), rtol=1e-8)


@pytest.mark.parametrize("penalty", [0.0, 0.05])
def test_factor_analysis_is_equivariant_under_a_change_of_scale(penalty):
    X = simulated(150, 6, 2, 3)
    scale, settings = 10.0 ** np.array([-3, 0, 2, 5, -1, 1]), {"heywood_penalty": penalty, **TIGHT}
    a = EMFactorAnalysis(2, **settings).fit(X)
    b = EMFactorAnalysis(2, **settings).fit(X * scale)
    assert_allclose(b.components_, a.components_ * scale, rtol=1e-5)
    assert_allclose(b.noise_variance_, a.noise_variance_ * scale**2, rtol=1e-5)
    moved = b.score_samples(X * scale) + np.log(scale).sum()
    assert_allclose(moved, a.score_samples(X), rtol=1e-7)


SEEDED = [(200, 6, 1), (150, 8, 2), (400, 12, 3), (100, 5, 2), (60, 10, 2), (300, 7, 3)]
SEEDED = [(*size, seed + i) for seed in (0, 7) for i, size in enumerate(SEEDED)]  # no Heywood case


@pytest.mark.parametrize("penalty", [0.05, 0.0])
@pytest.mark.parametrize(("n", "d", "q", "seed"), SEEDED)
def test_solvers_agree_to_a_millionth_of_a_nat_as_they_stand(n, d, q, seed, penalty):
    X = simulated(n, d, q, seed)
    profile = EMFactorAnalysis(q, heywood_penalty=penalty, solver="profile").fit(X)
    em = EMFactorAnalysis(q, heywood_penalty=penalty, solver="em").fit(X)
    assert not profile.heywood_.any()
    assert em.history_[-1] == pytest.approx(profile.history_[-1], abs=1e-6)
    assert em.score(X) == pytest.approx(profile.score(X), abs=1e-3)


def test_a_row_with_missing_entries_scores_its_marginal_gaussian():
    X = rows(4, True)
    model = EMFactorAnalysis(2).fit(X)
    C, scores = model.get_covariance(), model.score_samples(X)
    assert len(np.unique(np.isnan(X), axis=0)) > 8
    for x, score in zip(X, scores):
        o = ~np.isnan(x)
        there = multivariate_normal(model.mean_[o], C[np.ix_(o, o)])
        assert score == pytest.approx(there.logpdf(x[o]), abs=1e-9)


def test_one_factor_of_three_columns_is_spearmans_triad():
    X = simulated(500, 3, 1, 1)
    S = np.cov(X.T, ddof=0)
    model = EMFactorAnalysis(1, heywood_penalty=0.0, **TIGHT).fit(X)
    products = [
        S[0, 1] * S[0, 2] / S[1, 2],
        S[0, 1] * S[1, 2] / S[0, 2],
        S[0, 2] * S[1, 2] / S[0, 1],
    ]
    assert min(products) > 0 and (products < np.diag(S)).all()
    assert_allclose(model.components_[0] ** 2, products, rtol=1e-5)
    assert_allclose(model.get_covariance(), S, rtol=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 3])  # without a Heywood case
def test_at_ledermanns_bound_factors_reproduce_the_covariance(seed):
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(6, 3))
    S = W @ W.T + np.diag(rng.uniform(1.0, 2.0, 6))  # q = 3 of d = 6: as many parameters as S
    nudge = np.triu(rng.normal(size=(6, 6)), 1)
    S += 0.003 * np.sqrt(np.outer(np.diag(S), np.diag(S))) * (nudge + nudge.T)  # no factor model
    model = EMFactorAnalysis(3, heywood_penalty=0.0, **TIGHT).fit_covariance(S, 1000)
    assert model.n_parameters_ == 6 + 21 and not model.heywood_.any()
    assert_allclose(model.get_covariance(), S, atol=1e-5 * np.diag(S).max())
    fewer = EMFactorAnalysis(2, heywood_penalty=0.0, **TIGHT).fit_covariance(S, 1000)
    assert np.abs(fewer.get_covariance() - S).max() > 1e-2


# --- scikit-learn's mixture -------------------------------------------------------------------


def our_copy(theirs, **parameters):
    return GaussianMixture.from_parameters(
        weights=theirs.weights_,
        means=theirs.means_,
        covariance_type=theirs.covariance_type,
        **parameters,
    )


@TYPES
@pytest.mark.parametrize("data", [rows(3), load_iris().data, load_wine().data], ids=len)
def test_the_same_parameters_give_the_same_scores(covariance_type, data):
    theirs = peers.GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(data)
    ours = our_copy(theirs, covariances=theirs.covariances_)
    assert_allclose(ours.score_samples(data), theirs.score_samples(data), rtol=1e-10, atol=1e-10)
    assert_allclose(ours.predict_proba(data), theirs.predict_proba(data), atol=1e-10)
    assert_allclose(ours.bic(data), theirs.bic(data), rtol=1e-10)
    assert_allclose(ours.aic(data), theirs.aic(data), rtol=1e-10)
    precise = our_copy(theirs, precisions=theirs.precisions_)
    assert_allclose(precise.score_samples(data), theirs.score_samples(data), rtol=1e-7)
    roots = theirs.precisions_cholesky_
    assert_allclose(ours.precisions_cholesky_, roots, rtol=1e-6, atol=1e-9 * np.abs(roots).max())
    assert_allclose(
        ours.precisions_, theirs.precisions_, rtol=1e-6, atol=1e-9 * np.abs(roots).max()
    )


@TYPES
def test_likelihood_is_no_lower_than_scikit_learns(covariance_type):
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(60, 2)) + c for c in ([0, 0], [8, 0], [0, 8])])
    settings = {"n_components": 3, "covariance_type": covariance_type, "random_state": 0}
    ours = GaussianMixture(covariance_prior=0.0, **settings, **TIGHT).fit(X)
    theirs = peers.GaussianMixture(reg_covar=0.0, n_init=5, tol=1e-10, max_iter=5000, **settings)
    assert ours.score(X) >= theirs.fit(X).score(X) - 1e-9
    assert ours.lower_bound_ == pytest.approx(ours.score(X), rel=1e-12)


# --- gradients vanish -------------------------------------------------------------------------


def log_cholesky_to_matrix(v, d):
    L = np.zeros((d, d))
    L[np.tril_indices(d)] = v
    L[np.diag_indices(d)] = np.exp(np.diag(L))
    return L @ L.T


def to_log_cholesky(S):
    L = np.linalg.cholesky(S)
    L[np.diag_indices(len(L))] = np.log(np.diag(L))
    return L[np.tril_indices(len(L))]


class Coordinates:
    """A Gaussian mixture's parameters as one unconstrained vector, in the columns' own scale."""

    def __init__(self, model):
        self.type, self.shape = model.covariance_type, model.means_.shape
        self.unit = np.sqrt(np.mean([np.diag(S) for S in self.dense(model.covariances_)], axis=0))
        C = model.covariances_
        if self.type == "full":
            shape = [to_log_cholesky(S / np.outer(self.unit, self.unit)) for S in C]
        elif self.type == "tied":
            shape = to_log_cholesky(C / np.outer(self.unit, self.unit))
        else:
            shape = np.log(C)
        self.split = np.cumsum([self.shape[0], model.means_.size])
        parts = [np.log(model.weights_), model.means_ / self.unit, shape]
        self.start = np.concatenate([np.ravel(part) for part in parts])

    def dense(self, C):
        K, d = self.shape
        return {
            "full": lambda: C,
            "tied": lambda: np.tile(C, (K, 1, 1)),
            "diag": lambda: np.array([np.diag(v) for v in C]),
            "spherical": lambda: np.array([v * np.eye(d) for v in C]),
        }[self.type]()

    def model(self, v):
        log_weights, means, shape = np.split(v, self.split)
        K, d = self.shape
        scale = np.outer(self.unit, self.unit)
        if self.type == "full":
            C = np.array([scale * log_cholesky_to_matrix(r, d) for r in shape.reshape(K, -1)])
        elif self.type == "tied":
            C = scale * log_cholesky_to_matrix(shape, d)
        else:
            C = np.exp(shape).reshape((K, d) if self.type == "diag" else K)
        return GaussianMixture.from_parameters(
            weights=np.exp(log_weights - logsumexp(log_weights)),
            means=means.reshape(K, d) * self.unit,
            covariances=C,
            covariance_type=self.type,
        )


def numerical_gradient(f, x, step=1e-5):
    return np.array([(f(x + e) - f(x - e)) / (2 * step) for e in step * np.eye(len(x))])


@TYPES
@pytest.mark.parametrize("holes", [False, True], ids=["complete", "holes"])
@pytest.mark.parametrize("prior", [0.0, "auto", "ridge"])
def test_the_gradient_vanishes_at_convergence(covariance_type, holes, prior):
    if holes and prior == "auto":
        return  # the pooled covariance of rows with NaN is an EM estimate of its own
    X, K = rows(2, holes), 2
    X = X[~np.isnan(X).all(axis=1)]
    d, ridge = 2, 0.3 if prior == "ridge" else 0.0
    model = GaussianMixture(
        K,
        covariance_type=covariance_type,
        covariance_prior="auto" if prior == "auto" else 0.0,
        reg_covar=ridge,
        random_state=0,
        **TIGHT,
    ).fit(X)
    # DESIGN section 2, Regularisation: s = free parameters / (d + 1), L0 = K^(-2/d) S.
    free = {"full": 3, "tied": 3, "diag": 2, "spherical": 1}[covariance_type]
    s = free / (d + 1) if prior == "auto" else 0.0
    L0 = K ** (-2 / d) * np.cov(rows(2).T, ddof=0)
    coordinates = Coordinates(model)

    def objective(v):
        there = coordinates.model(v)
        S = coordinates.dense(there.covariances_)
        if covariance_type == "tied":
            S = S[:1]
        penalty = -0.5 * sum(
            s * np.linalg.slogdet(M)[1] + np.trace(np.linalg.solve(M, s * L0)) for M in S
        )
        weight = ridge * len(X) / (2 * len(S))
        penalty -= weight * sum(np.trace(np.linalg.inv(M)) for M in S)
        return there.score(X) + penalty / len(X)

    gradient = numerical_gradient(objective, coordinates.start)
    assert np.abs(gradient).max() < 2e-6
    assert objective(coordinates.start) == pytest.approx(model.history_[-1], abs=1e-9)
    moved = coordinates.start + 0.1
    assert np.abs(numerical_gradient(objective, moved)).max() > 1e-3  # it can be seen to be off


@pytest.mark.parametrize("solver", ["profile", "em"])
@pytest.mark.parametrize("penalty", [0.0, 0.05])
def test_the_gradient_of_factor_analysis_vanishes(solver, penalty):
    X = simulated(200, 6, 2, 2)
    model = EMFactorAnalysis(2, solver=solver, heywood_penalty=penalty, **TIGHT).fit(X)
    variance, n = X.var(axis=0), len(X)

    def objective(v):
        W, log_psi = v[:12].reshape(2, 6), v[12:18]
        there = EMFactorAnalysis.from_parameters(
            components=W, noise_variance=np.exp(log_psi), mean=v[18:]
        )
        return there.score(X) - 0.5 * penalty * (variance / np.exp(log_psi)).sum() / n

    parts = [model.components_.ravel(), np.log(model.noise_variance_), model.mean_]
    start = np.concatenate(parts)
    assert np.abs(numerical_gradient(objective, start)).max() < 1e-5
    assert objective(start) == pytest.approx(model.history_[-1], abs=1e-9)


def test_the_gradient_of_factor_analysis_with_missing_entries_vanishes():
    X = simulated(80, 5, 1, 4)
    X[np.random.default_rng(0).uniform(size=X.shape) < 0.2] = np.nan
    model = EMFactorAnalysis(1, heywood_penalty=0.0, **TIGHT).fit(X)

    def objective(v):
        return EMFactorAnalysis.from_parameters(
            components=v[None, :5], noise_variance=np.exp(v[5:10]), mean=v[10:]
        ).score(X)

    parts = [model.components_.ravel(), np.log(model.noise_variance_), model.mean_]
    assert np.abs(numerical_gradient(objective, np.concatenate(parts))).max() < 1e-5


# --- variational Bayes with one component is exact --------------------------------------------


class NormalWishart:
    """The conjugate update, evidence and predictive, written from Murphy (2007), section 8.

    In his letters: kappa, mu, nu and T, the inverse scale of the Wishart.
    """

    def __init__(self, mu, kappa, nu, T):
        self.mu, self.kappa, self.nu, self.T = np.asarray(mu), kappa, nu, np.asarray(T)

    def given(self, X):
        n, mean = len(X), X.mean(axis=0)
        scatter = (X - mean).T @ (X - mean)
        gap = mean - self.mu
        T = self.T + scatter + self.kappa * n / (self.kappa + n) * np.outer(gap, gap)
        mu = (self.kappa * self.mu + n * mean) / (self.kappa + n)
        return NormalWishart(mu, self.kappa + n, self.nu + n, T)

    def log_evidence(self, X):
        n, d = X.shape
        if n == 0:
            return 0.0
        after = self.given(X)
        return (
            -0.5 * n * d * np.log(np.pi)
            + multigammaln(after.nu / 2, d)
            - multigammaln(self.nu / 2, d)
            + 0.5 * self.nu * np.linalg.slogdet(self.T)[1]
            - 0.5 * after.nu * np.linalg.slogdet(after.T)[1]
            + 0.5 * d * (np.log(self.kappa) - np.log(after.kappa))
        )

    def predictive(self):
        df = self.nu - len(self.mu) + 1
        return multivariate_t(self.mu, self.T * (self.kappa + 1) / (self.kappa * df), df)


def default_prior(X, K, beta=0.1):
    """The prior that VariationalGMM documents, for the columns of X."""
    d = X.shape[1]
    nu = d + 2.0
    return NormalWishart(X.mean(axis=0), beta, nu, nu * np.cov(X.T, ddof=0) / K ** (2 / d))


@pytest.mark.parametrize("d", [2, 3, 5])
def test_vb_with_one_component_is_the_exact_evidence_and_predictive(d):
    X = rows(d, n=50)
    model = VariationalGMM(1).fit(X)
    prior = default_prior(X, 1)
    assert model.lower_bound_ == pytest.approx(prior.log_evidence(X), abs=1e-8)
    scores = prior.given(X).predictive().logpdf(X)
    assert_allclose(model.score_samples(X), scores, atol=1e-8)
    assert model.elbo(X).parameter_kl > 0


def test_vb_with_one_component_on_the_line():
    X = rows(1)
    model = VariationalGMM(1).fit(X)
    T = (3.0 * np.var(X)).reshape(1, 1)
    prior = NormalWishart(X.mean(axis=0), 0.1, 3.0, T)
    assert model.lower_bound_ == pytest.approx(prior.log_evidence(X), abs=1e-8)
    assert_allclose(model.score_samples(X), prior.given(X).predictive().logpdf(X), atol=1e-8)


def test_vb_takes_the_prior_that_it_is_given():
    X, weight = rows(2), np.arange(60) % 3
    T = np.array([[2.0, 0.5], [0.5, 300.0]])
    model = VariationalGMM(
        1,
        mean_prior=[1.0, 90.0],
        mean_precision_prior=0.7,
        degrees_of_freedom_prior=4.5,
        covariance_prior=T,
    ).fit(X, sample_weight=weight)
    prior, repeated = NormalWishart([1.0, 90.0], 0.7, 4.5, T), np.repeat(X, weight, axis=0)
    after = prior.given(repeated)
    assert model.lower_bound_ == pytest.approx(prior.log_evidence(repeated), abs=1e-8)
    assert_allclose(model.score_samples(X), after.predictive().logpdf(X), atol=1e-8)
    assert_allclose(model.means_[0], after.mu, rtol=1e-10)
    assert_allclose(model.covariances_[0], after.T / after.nu, rtol=1e-10)
    assert model.degrees_of_freedom_[0] == pytest.approx(after.nu)
    assert model.mean_precision_[0] == pytest.approx(after.kappa)
    assert model.weight_concentration_[0] == pytest.approx(1.0 + weight.sum())


def log_dirichlet_multinomial(counts, alpha):
    """log of the integral of prod pi_k^n_k over Dirichlet(alpha)."""
    total = gammaln(alpha * len(counts)) - gammaln(alpha * len(counts) + counts.sum())
    return total + (gammaln(alpha + counts) - gammaln(alpha)).sum()


@pytest.mark.parametrize("n", [4, 6, 8])
@pytest.mark.parametrize("alpha", [0.5, 3.0])
@pytest.mark.parametrize("gap", [0.5, 6.0])
def test_the_vb_bound_lies_below_the_enumerated_evidence(n, alpha, gap):
    rng = np.random.default_rng(n)
    X = rng.normal(size=(n, 2)) + gap * (np.arange(n) % 2)[:, None]
    given = {"weight_concentration_prior": alpha, "empirical_bayes": None}
    model = VariationalGMM(2, random_state=0, **given, **TIGHT).fit(X)
    prior = default_prior(X, 2)
    assignments = np.array(list(product([0, 1], repeat=n)))
    log_joint = np.array(
        [
            log_dirichlet_multinomial(np.bincount(z, minlength=2), alpha)
            + sum(prior.log_evidence(X[z == k]) for k in range(2))
            for z in assignments
        ]
    )
    log_evidence = logsumexp(log_joint)
    assert model.lower_bound_ <= log_evidence + 1e-9
    # The gap is KL(q(z) q(theta) || p(z, theta | X)): no less than that of q(z) alone, which
    # enumeration gives, and no less than zero.
    posterior = np.exp(log_joint - log_evidence)
    terms = model.elbo(X)
    assert sum(terms[:3]).sum() - terms.parameter_kl == pytest.approx(model.lower_bound_, abs=1e-8)
    log_q = _variational_log_probs(model, X)
    q = np.exp(log_q[np.arange(n), assignments].sum(axis=1))
    assert q.sum() == pytest.approx(1.0)
    kl_of_z = (q * (np.log(np.maximum(q, 1e-300)) - np.log(posterior))).sum()
    assert log_evidence - model.lower_bound_ >= kl_of_z - 1e-8 >= -1e-8


def _variational_log_probs(model, X):
    """log q(z) from Bishop's 10.46-10.49, 10.64-10.66, out of the fitted attributes alone."""
    from scipy.special import digamma

    d = X.shape[1]
    alpha, beta = model.weight_concentration_, model.mean_precision_
    nu, m, S = model.degrees_of_freedom_, model.means_, model.covariances_
    log_pi = digamma(alpha) - digamma(alpha.sum())
    log_rho = np.empty((len(X), len(alpha)))
    for k in range(len(alpha)):
        W = np.linalg.inv(S[k] * nu[k])
        log_det = digamma((nu[k] - np.arange(d)) / 2).sum() + d * np.log(2)
        log_det += np.linalg.slogdet(W)[1]
        gap = X - m[k]
        distance = d / beta[k] + nu[k] * np.einsum("ni,ij,nj->n", gap, W, gap)
        log_rho[:, k] = log_pi[k] + 0.5 * (log_det - d * np.log(2 * np.pi) - distance)
    return log_rho - logsumexp(log_rho, axis=1, keepdims=True)


def test_the_vb_predictive_is_a_mixture_of_student_ts():
    X = rows(3)
    model = VariationalGMM(2, random_state=0).fit(X)
    log_p = [
        np.log(w) + NormalWishart(m, b, nu, S * nu).predictive().logpdf(X)
        for w, m, b, nu, S in zip(
            model.weights_,
            model.means_,
            model.mean_precision_,
            model.degrees_of_freedom_,
            model.covariances_,
        )
    ]
    assert_allclose(model.score_samples(X), logsumexp(log_p, axis=0), rtol=1e-9)
    alpha = model.weight_concentration_
    assert_allclose(model.weights_, alpha / alpha.sum(), rtol=1e-12)
