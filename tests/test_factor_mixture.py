"""What is particular to mixtures of factor analysers: reductions, shared noise, factors, cost."""

import time
import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA

from sklvm import (
    EMFactorAnalysis,
    FactorEmission,
    GaussianMixture,
    Mixture,
    MixtureOfFactorAnalyzers,
)
from sklvm.emissions.gaussian import Gaussians
from sklvm.emissions.noise import NOISES
from tests._models import rows

HOLES = pytest.mark.parametrize("holes", [False, True], ids=["complete", "holes"])
EVERY_NOISE = pytest.mark.parametrize("noise", NOISES)
TIGHT = {"tol": 1e-12, "max_iter": 50000, "random_state": 0}


def simulated(n=300, d=6, q=2, K=2, seed=0, holes=0.0, far=6.0):
    """Rows of K factor analysers with what made them: X, z, means, W (K, q, d), psi (K, d)."""
    rng = np.random.default_rng(seed)
    W, means = rng.normal(size=(K, q, d)), far * rng.normal(size=(K, d))
    psi, z = rng.uniform(0.3, 1.5, (K, d)), rng.integers(K, size=n)
    X = means[z] + np.einsum("nq,nqd->nd", rng.normal(size=(n, q)), W[z])
    X += rng.normal(size=(n, d)) * np.sqrt(psi[z])
    X[rng.uniform(size=X.shape) < holes] = np.nan
    X[np.isnan(X).all(axis=1), 0] = 0.0
    return X, z, means, W, psi


# --- reductions -------------------------------------------------------------------------------


@pytest.mark.parametrize(("holes", "penalty"), [(0, 0.0), (0, 0.05), (0, 2.0), (1, 0.0)])
def test_one_component_is_factor_analysis(holes, penalty):
    """With holes and a penalty the scales differ: variances of what was seen, or pooled ones."""
    X = simulated(K=1, holes=0.15 * holes)[0]
    mixture = MixtureOfFactorAnalyzers(1, n_factors=2, heywood_penalty=penalty, **TIGHT).fit(X)
    tight = {"tol": 1e-13, "max_iter": 50000}
    factors = EMFactorAnalysis(2, heywood_penalty=penalty, **tight).fit(X)
    assert_allclose(mixture.history_[-1], factors.history_[-1], atol=1e-9)
    assert_allclose(mixture.score(X), factors.score(X), atol=1e-6)
    scale = np.diag(factors.get_covariance()).max()
    assert_allclose(mixture.covariances_[0], factors.get_covariance(), atol=1e-4 * scale)
    assert_allclose(mixture.components_[0], factors.components_, atol=1e-2)
    assert mixture.n_parameters_ == factors.n_parameters_


def test_one_component_with_isotropic_noise_is_probabilistic_pca():
    X = simulated(K=1, d=7)[0]
    pca = PCA(2).fit(X)  # its log-likelihood and noise variance divide by n - 1
    values = np.linalg.eigvalsh(np.cov(X.T, ddof=0))[::-1]
    for noise in ("isotropic", "shared_isotropic"):
        model = MixtureOfFactorAnalyzers(1, n_factors=2, noise=noise, heywood_penalty=0.0, **TIGHT)
        model.fit(X)
        assert_allclose(model.noise_variance_, values[2:].mean(), rtol=1e-5)
        ratio = model.components_[0] @ pca.components_.T  # Tipping & Bishop 1999, equation 7
        assert_allclose(abs(ratio), np.diag(np.sqrt(values[:2] - values[2:].mean())), atol=1e-3)
        best = -3.5 * (1 + np.log(2 * np.pi)) - 0.5 * np.log(values[:2]).sum()
        assert_allclose(model.score(X), best - 2.5 * np.log(values[2:].mean()), atol=1e-8)
        assert model.n_parameters_ == 7 + 7 * 2 - 1 + 1


@HOLES
def test_no_factor_is_a_diagonal_mixture(holes):
    X, settings = rows(3, holes), {"random_state": 0, "tol": 1e-12, "max_iter": 5000}
    model = MixtureOfFactorAnalyzers(2, n_factors=0, heywood_penalty=0.0, **settings).fit(X)
    diag = GaussianMixture(2, covariance_type="diag", covariance_prior=0.0, **settings).fit(X)
    assert_allclose(model.score_samples(X), diag.score_samples(X), atol=1e-5)
    assert_allclose(model.noise_variance_, diag.covariances_, rtol=1e-4)
    assert model.components_.shape == (2, 0, 3) and model.factors(X).shape == (60, 2, 0)
    assert model.n_parameters_ == diag.n_parameters_


@pytest.mark.parametrize("n_factors", [2, 3, 5])
def test_all_factors_are_a_full_covariance(n_factors):
    """d - 1 factors are enough: S less its smallest eigenvalue has rank d - 1."""
    X, z = rows(3, n=200), np.arange(200) % 2
    model = MixtureOfFactorAnalyzers(2, n_factors=n_factors, heywood_penalty=0.0, **TIGHT)
    model.fit(X, labels=z)
    full = GaussianMixture(2, covariance_prior=0.0, random_state=0).fit(X, labels=z)
    assert_allclose(model.score(X), full.score(X), atol=1e-7)
    assert_allclose(model.covariances_, full.covariances_, rtol=1e-2, atol=1e-3)
    assert model.n_parameters_ == full.n_parameters_


def test_the_emission_makes_the_same_mixture():
    X = simulated()[0]
    for noise in NOISES:
        model = MixtureOfFactorAnalyzers(2, noise=noise, random_state=0).fit(X)
        other = Mixture(2, emission=FactorEmission(2, noise), random_state=0).fit(X)
        assert_allclose(other.score_samples(X), model.score_samples(X), rtol=1e-8)
        assert other.n_parameters_ == model.n_parameters_
        again = Mixture.from_parameters(weights=other.weights_, emission=other.emission_)
        assert again.emission == FactorEmission(2, noise)


@EVERY_NOISE
def test_scores_are_marginal_gaussians(noise):
    X = simulated(holes=0.3)[0]
    model = MixtureOfFactorAnalyzers(2, noise=noise, random_state=0).fit(X)
    for x, score in zip(X[:40], model.score_samples(X[:40])):
        o = np.flatnonzero(~np.isnan(x))
        parts = [
            np.log(weight) + multivariate_normal(mean[o], S[np.ix_(o, o)]).logpdf(x[o])
            for weight, mean, S in zip(model.weights_, model.means_, model.covariances_)
        ]
        assert score == pytest.approx(logsumexp(parts), rel=1e-9)


# --- the fit ----------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@HOLES
@EVERY_NOISE
def test_the_gradient_vanishes(noise, holes, penalty):
    """Of the penalised likelihood of what was seen, in every free parameter."""
    X = simulated(240, 4, 1, holes=0.2 * holes, far=2.0, seed=12)[0]  # without Heywood cases
    settings = {"n_factors": 1, "noise": noise, "heywood_penalty": penalty, **TIGHT}
    state = MixtureOfFactorAnalyzers(2, **settings).fit(X).state_

    def objective(vector):
        other = state.unpack(vector)
        return (other.log_prob(X).sum() + other.log_prior()) / len(X)

    size, step = len(state.pack(state)), 1e-4
    slopes = [(objective(step * e) - objective(-step * e)) / (2 * step) for e in np.eye(size)]
    assert np.abs(slopes).max() < 2e-5
    assert (
        size == 2 + 8 + 8 + {"free": 8, "shared": 4, "isotropic": 2, "shared_isotropic": 1}[noise]
    )


def test_sharing_noise_never_raises_the_likelihood():
    X, z = simulated()[:2]
    score = {}
    for noise in NOISES:
        settings = {"noise": noise, "heywood_penalty": 0.0, **TIGHT}
        score[noise] = MixtureOfFactorAnalyzers(2, **settings).fit(X, labels=z).lower_bound_
    assert score["free"] > score["shared"] > score["shared_isotropic"]
    assert score["free"] > score["isotropic"] > score["shared_isotropic"]


def test_noise_is_shared_as_asked():
    X = simulated()[0]
    psi = {
        noise: MixtureOfFactorAnalyzers(2, noise=noise, random_state=0).fit(X).noise_variance_
        for noise in NOISES
    }
    for noise, distinct in [("free", 12), ("shared", 6), ("isotropic", 2), ("shared_isotropic", 1)]:
        assert psi[noise].shape == (2, 6)
        assert len(np.unique(psi[noise])) == distinct
    assert_array_equal(psi["shared"][0], psi["shared"][1])
    assert_array_equal(psi["isotropic"][:, 0], psi["isotropic"][:, 5])


@pytest.mark.parametrize("holes", [0.0, 0.2])
def test_many_rows_recover_the_model(holes):
    X, z, means, W, psi = simulated(8000, holes=holes)
    model = MixtureOfFactorAnalyzers(2, random_state=0, n_init=3).fit(X)
    order = np.argmin(((model.means_ - means[:, None]) ** 2).sum(axis=2), axis=1)
    assert_allclose(model.means_[order], means, atol=0.2)
    assert_allclose(model.noise_variance_[order], psi, atol=0.2)
    assert_allclose(model.covariances_[order], W.mT @ W + psi[:, :, None] * np.eye(6), atol=0.5)
    assert (order[z] == model.predict(X)).mean() > 0.99


def test_the_penalty_keeps_noise_off_zero():
    rng = np.random.default_rng(0)
    z = rng.standard_normal((60, 1))
    X = np.hstack([z, 2 * z, z + rng.standard_normal((60, 3))])  # two columns without noise
    kept = MixtureOfFactorAnalyzers(1, n_factors=1, random_state=0).fit(X)
    assert (kept.noise_variance_ > 1e-4 * X.var(axis=0)).all()
    settings = {"n_factors": 1, "heywood_penalty": 0.0, "max_iter": 3000}
    free = MixtureOfFactorAnalyzers(1, **settings).fit(X)
    assert free.noise_variance_.min() < 1e-6 and np.isfinite(free.score(X))


def test_fewer_rows_than_a_component_has_parameters():
    X = simulated(30, 40, 3)[0]
    model = MixtureOfFactorAnalyzers(3, n_factors=4, random_state=0, max_iter=5000).fit(X)
    assert np.isfinite(model.score_samples(X)).all()
    assert (np.diff(model.history_) >= -1e-9 * (1 + np.abs(model.history_[1:]))).all()


def test_expanded_steps_are_longer():
    """Passes until plain EM and PX-EM, both without leaps, have nothing left to gain."""
    X = load_wine().data
    settings = {"n_factors": 2, "random_state": 0, "accelerate": None, "n_init": 1}
    model = MixtureOfFactorAnalyzers(1, **settings).fit(X)
    assert model.n_iter_ < 100  # plain EM: 131


def test_warm_start_goes_on_with_the_same_factors():
    X = simulated()[0]
    model = MixtureOfFactorAnalyzers(2, random_state=0, warm_start=True).fit(X)
    before = model.components_.copy()
    model.set_params(tol=1e-9).fit(X)
    assert_allclose(model.components_, before, atol=0.05)
    assert model.n_iter_ < 30


# --- factors ----------------------------------------------------------------------------------


@HOLES
def test_factors_are_joint_gaussian_conditioning(holes):
    X = simulated(holes=0.3 * holes)[0]
    model = MixtureOfFactorAnalyzers(2, random_state=0).fit(X)
    scores, posterior = model.factors(X), model.posterior(X)
    assert scores.shape == (300, 2, 2)
    assert len(posterior.factors) == 2
    for k, (W, S) in enumerate(zip(model.components_, model.covariances_)):
        assert_allclose(posterior.factors[k].mean, scores[:, k], rtol=1e-12)
        for x, score, V in zip(X[:20], scores[:, k], posterior.factors[k].covariance):
            o = np.flatnonzero(~np.isnan(x))
            gain = W[:, o] @ np.linalg.inv(S[np.ix_(o, o)])
            assert_allclose(score, gain @ (x - model.means_[k])[o], rtol=1e-7, atol=1e-9)
            assert_allclose(V, np.eye(2) - gain @ W[:, o].T, rtol=1e-6, atol=1e-9)
    assert_array_equal(posterior.probs, model.predict_proba(X))
    assert np.isfinite(posterior.factors[1].entropy()).all()


def test_factors_carry_what_made_the_rows():
    rng = np.random.default_rng(1)
    _, z, means, W, psi = simulated(500)
    truth = rng.normal(size=(500, 2))
    X = means[z] + np.einsum("nq,nqd->nd", truth, W[z])
    X += rng.normal(size=X.shape) * np.sqrt(psi[z])
    model = MixtureOfFactorAnalyzers.from_parameters(
        weights=[0.5, 0.5], means=means, components=W, noise_variance=psi
    )
    scores = model.factors(X)[np.arange(500), model.predict(X)]
    for k in range(2):  # up to the canonical rotation, which is linear
        residual = np.linalg.lstsq(scores[z == k], truth[z == k], rcond=None)[1]
        V = np.linalg.inv(np.eye(2) + W[k] / psi[k] @ W[k].T)
        assert residual.sum() / (z == k).sum() == pytest.approx(np.trace(V), rel=0.15)
    rows_of = model.components_[z]
    explained = model.means_[z] + np.einsum("nq,nqd->nd", scores, rows_of)
    assert ((X - explained) ** 2).mean() < ((X - means[z]) ** 2).mean() / 2


@EVERY_NOISE
def test_loadings_have_the_canonical_form(noise):
    model = MixtureOfFactorAnalyzers(2, noise=noise, random_state=0).fit(simulated()[0])
    given = model.condition([0], [0.3])
    for fit in (model, given):
        for W, psi in zip(fit.components_, fit.noise_variance_):
            inner = W / psi @ W.T
            assert_allclose(inner - np.diag(np.diag(inner)), 0.0, atol=1e-8 * inner.max())
            assert inner[0, 0] >= inner[1, 1]
            assert ((W / np.sqrt(psi)).sum(axis=1) >= 0).all()


def test_constant_columns_have_no_loadings():
    X = np.insert(simulated()[0], 2, 7.0, axis=1)
    with pytest.warns(UserWarning, match="columns \\[2\\] are constant"):
        model = MixtureOfFactorAnalyzers(2, random_state=0).fit(X)
    assert (model.components_[:, :, 2] == 0).all() and (model.noise_variance_[:, 2] == 0).all()
    assert (model.means_[:, 2] == 7).all() and (model.covariances_[:, 2] == 0).all()


# --- known parameters -------------------------------------------------------------------------


def test_from_parameters_takes_noise_in_three_shapes():
    _, _, means, W, psi = simulated()
    given = {"weights": [0.3, 0.7], "means": means, "components": W}
    for noise_variance in (psi, psi[0], 0.5):
        model = MixtureOfFactorAnalyzers.from_parameters(noise_variance=noise_variance, **given)
        assert_allclose(model.noise_variance_, np.broadcast_to(noise_variance, (2, 6)))
        expected = W.mT @ W + model.noise_variance_[:, :, None] * np.eye(6)
        assert_allclose(model.covariances_, expected, rtol=1e-10)
    shared = MixtureOfFactorAnalyzers.from_parameters(
        noise_variance=psi[0], noise="shared", **given
    )
    assert shared.n_parameters_ == 1 + 12 + 2 * 11 + 6
    for marginal in (shared.marginal([0, 1, 4]), shared.condition([0], [1.0])):
        assert marginal.noise == "shared"
        assert_array_equal(marginal.noise_variance_[0], marginal.noise_variance_[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise": "equal"}, "noise must be one of"),
        ({"noise": "shared"}, "noise='shared' excludes"),
        ({"noise": "isotropic"}, "noise='isotropic' excludes"),
        ({"noise_variance": 0.0}, "noise_variance must be positive"),
        ({"noise_variance": [1.0, 2.0]}, "noise_variance must be finite numbers of shape"),
        ({"components": np.ones((2, 6))}, "components must be finite numbers of shape"),
        ({"components": np.ones((1, 2, 6))}, "components must be finite numbers of shape"),
        ({"weights": [0.3, 0.3]}, "weights must be"),
    ],
)
def test_impossible_parameters_are_refused(change, message):
    _, _, means, W, psi = simulated()
    given = {"weights": [0.3, 0.7], "means": means, "components": W, "noise_variance": psi}
    with pytest.raises(ValueError, match=message):
        MixtureOfFactorAnalyzers.from_parameters(**{**given, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_factors": -1}, "n_factors must be an integer of at least 0"),
        ({"n_factors": True}, "n_factors must be an integer of at least 0"),
        ({"n_factors": 1.5}, "n_factors must be an integer of at least 0"),
        ({"noise": "equal"}, "noise must be in"),
        ({"heywood_penalty": -0.1}, "heywood_penalty must not be negative"),
        ({"heywood_penalty": np.inf}, "heywood_penalty must not be negative"),
        ({"heywood_penalty": "auto"}, "heywood_penalty must not be negative"),
    ],
)
def test_impossible_specs_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Mixture(2, emission=FactorEmission(**change)).fit(rows())


# --- cost -------------------------------------------------------------------------------------


@pytest.mark.parametrize("holes", [0.0, 0.1])
def test_no_matrix_of_all_features_is_made(holes):
    d = 4000
    X = simulated(60, d, 3, holes=holes)[0]
    model = MixtureOfFactorAnalyzers(2, n_factors=3, n_init=2, max_iter=20, tol=1e-4)
    model.set_params(random_state=0).fit(X[:, :50])  # what is loaded on first use
    tracemalloc.start()
    model.fit(X)
    model.score(X), model.factors(X), model.posterior(X), model.sample(5), model.impute(X)
    model.impute(X[:4], how="mode"), model.elbo(X), model.bic(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * 8 * d * d  # half of one (d, d) matrix, 64 MB


def test_time_grows_in_proportion_to_the_features():
    X = simulated(300, 2000, 3)[0]
    model = MixtureOfFactorAnalyzers(2, n_factors=3, random_state=0).fit(X[:, :50])
    start = time.process_time()
    model.fit(X)
    assert time.process_time() - start < 20.0  # 1.5 s here; a (d, d) step takes 1 s each
    assert model.converged_


def test_a_climb_in_factor_space_is_a_newton_step():
    """Woodbury's step equals the one with (d, d) curvatures."""
    X = simulated(K=3)[0]
    emission = MixtureOfFactorAnalyzers(3, random_state=0).fit(X).state_.emission
    rng = np.random.default_rng(0)
    resp = rng.dirichlet(np.ones(3), 20)
    resp[0] = [0.0, 1.0, 0.0]
    missing = rng.uniform(size=(20, 6)) < 0.5
    missing[1], missing[2] = True, False
    x = X[:20] + rng.normal(size=(20, 6))
    expected = Gaussians.climb(emission, x, missing, resp)
    assert_allclose(emission.climb(x, missing, resp), expected, rtol=1e-8, atol=1e-8)
