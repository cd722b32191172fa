"""The VAE against what is known: factor analysis, closed forms, quadrature, enumeration."""

import io
import itertools
import pickle
import warnings
from functools import cache, partial

import joblib
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.utils.estimator_checks import check_estimator

from sklvm import VAE, EMFactorAnalysis
from sklvm.inference.history import FitInterrupted
from sklvm.inference.sgd import TrainingRows
from sklvm.networks.architectures import Dense
from sklvm.networks.autoencoder import Autoencoder, blank_parameters
from sklvm.networks.by_hand import ElboByHand
from sklvm.networks.importance import Laplace, laplace, matched, normal_points
from sklvm.networks.importance import climb as climb_to_mode
from sklvm.networks.likelihoods import Eta, GaussianLikelihood
from sklvm.networks.objectives import OBJECTIVES
from sklvm.vae_inference import judge_by_bound
from sklvm.vae_start import _awake, linear_start
from tests.networks._small import parabola

QUICK = {"max_iter": 3, "n_importance_samples": 32, "random_state": 0}
pytestmark = [
    pytest.mark.filterwarnings("ignore:VAE did not converge"),
    pytest.mark.filterwarnings("ignore:on held-out rows [a-z_]*mixture is better"),
]


@cache
def correlated(n=300, d=5, q=2, seed=0):
    """Rows of a linear factor model in different units."""
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((d, q))
    X = rng.standard_normal((n, q)) @ W.T + rng.uniform(0.3, 1.0, d) * rng.standard_normal((n, d))
    X = X * np.geomspace(0.1, 100, d) + np.arange(d)
    X.flags.writeable = False
    return X


bent = partial(parabola, 300)


def with_holes(X, seed=0):
    X = X.copy()
    X[np.random.default_rng(seed).uniform(size=X.shape) < 0.2] = np.nan
    return X


@cache
def curved(q, variance="network", d=2, prior="normal"):
    """A VAE that has learnt to bend."""
    settings = {"hidden_layer_sizes": (32,), "max_iter": 150, "random_state": 0}
    return VAE(q, decoder_variance=variance, prior=prior, **settings).fit(bent()[:, :d])


def same_fit(a, b):
    assert a.parameters_.keys() == b.parameters_.keys()
    for name, values in a.parameters_.items():
        assert_array_equal(values, b.parameters_[name], err_msg=name)


# --- scikit-learn -------------------------------------------------------------------------------


class ParityVAE(VAE):
    """A Bernoulli VAE of whether each entry's integer part is odd: the checks feed real numbers."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = tags.input_tags.categorical = False
        return tags

    def _in_support(self, X, density, constant):
        return np.where(np.isnan(X), np.nan, np.floor(X) % 2).astype(X.dtype)


class SinglePrecisionVAE(VAE):
    """Reads everything as float32, as if the checks had fed that."""

    _input_dtype = (np.float32,)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


CHECKED = {
    "shared": VAE(decoder_variance="shared", **QUICK),
    "bernoulli": ParityVAE(likelihood="bernoulli", **QUICK),
    "float32": SinglePrecisionVAE(**QUICK),
}


@pytest.mark.filterwarnings("ignore")  # the checks fit constant columns, too few iterations, ...
@pytest.mark.parametrize("name", CHECKED)
def test_every_check_passes(name):
    results = check_estimator(CHECKED[name], on_skip=None, on_fail=None)
    assert len(results) >= 50
    assert [(r["check_name"], r["exception"]) for r in results if r["status"] != "passed"] == []


# --- the start ----------------------------------------------------------------------------------


def at_the_start(X, **params):
    """A VAE whose training has moved nothing, on all rows."""
    fixed = {"learning_rate_init": 1e-30, "max_iter": 1, "validation_fraction": 0.0}
    return VAE(**{"random_state": 0, "decoder_variance": "column", **fixed, **params}).fit(X)


@pytest.mark.parametrize("variance", ["column", "network"])
@pytest.mark.parametrize("holes", [False, True], ids=["complete", "holes"])
def test_the_start_is_factor_analysis(variance, holes, monkeypatch):
    X = with_holes(correlated()) if holes else correlated()
    fits = []

    class Kept(EMFactorAnalysis):
        def fit(self, *args, **kwargs):
            fits.append(super().fit(*args, **kwargs))
            return fits[-1]

    monkeypatch.setattr("sklvm.vae_start.EMFactorAnalysis", Kept)
    vae, fa = at_the_start(X, decoder_variance=variance), EMFactorAnalysis(2).fit(X)
    (own,), sd = fits, np.nanstd(X, axis=0)
    Z = (X - np.nanmean(X, axis=0)) / sd
    jacobian = (~np.isnan(X)) @ np.log(sd)
    assert_allclose(own.score_samples(Z).mean() - jacobian.mean(), fa.score(X), atol=2e-6)
    assert_allclose(vae.score_samples(X), own.score_samples(Z) - jacobian, atol=2e-6)
    assert_allclose(
        np.abs(vae.transform(X)), np.abs(own.transform(Z)), atol=1e-5
    )  # the sign of a factor is free


def test_the_first_objective_is_the_likelihood_of_factor_analysis():
    """On complete data the encoder is exact, so the bound has no gap: only one draw per row."""
    X = correlated(n=4000)
    vae = at_the_start(X)
    assert vae.history_[0] == pytest.approx(EMFactorAnalysis(2).fit(X).score(X), abs=0.05)
    assert vae.history_[0] == pytest.approx(vae.history_[1], abs=0.05)


def test_the_encoder_starts_at_the_exact_posterior():
    X = correlated()
    state = at_the_start(X).state_
    model = state.model()
    x = torch.tensor((X - state.location) / state.scale)
    mean, log_sd = model.encoder(x)
    posterior = state.posterior(X)
    assert_allclose(mean.detach().numpy(), posterior.mean, atol=1e-5)
    diagonal = np.diagonal(posterior.covariance, axis1=1, axis2=2)
    assert_allclose((2 * log_sd).exp().detach().numpy(), diagonal, rtol=1e-5)
    off = posterior.covariance - diagonal[:, :, None] * np.eye(2)
    assert np.abs(off).max() < 1e-6


def test_a_factor_with_nothing_to_explain_is_given_half_the_noise_of_a_column():
    """Independent columns: factor analysis sees nothing, and an encoder at 0 would stay there."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 400)
    X = np.column_stack([np.cos(angle), np.sin(angle)]) + 0.1 * rng.standard_normal((400, 2))
    start = at_the_start(X)
    fa = EMFactorAnalysis(2).fit(X)
    assert start.score(X) == pytest.approx(fa.score(X), abs=0.01)
    W = start.parameters_["decoder.skip.weight"]
    assert (np.linalg.norm(W, axis=0) > 0.5).all()
    vae = VAE(2, max_iter=60, random_state=0).fit(X)
    assert vae.score(X) > fa.score(X) + 0.3


def test_waking_a_factor_changes_no_variance():
    W, noise = np.array([[1.0, 0.05], [2.0, 0.1], [0.5, -0.02]]), np.array([0.3, 0.5, 0.9])
    awake, rest = _awake(W.copy(), noise.copy())
    assert_allclose((awake**2).sum(axis=1) + rest, (W**2).sum(axis=1) + noise)
    assert_array_equal(awake[:, 0], W[:, 0])
    assert_allclose(awake[:, 1], [0.0, 0.0, np.sqrt((0.9 + 0.02**2) / 2)])
    assert_array_equal(_awake(10 * W, noise.copy())[0], 10 * W)


def test_a_column_that_varies_only_in_held_out_rows_is_no_obstacle():
    X = np.column_stack([correlated()[:60], np.zeros(60), np.full(60, np.nan)])
    X[7, 5], X[11:13, 6] = 1.0, [3.0, 4.0]
    for variance, seed in itertools.product(["network", "column", "shared"], range(4)):
        vae = VAE(decoder_variance=variance, **{**QUICK, "random_state": seed}).fit(X)
        assert np.isfinite(vae.score_samples(X)).all()


def test_columns_that_do_not_vary_share_the_noise_of_the_others():
    """Under one shared noise it must be the same number, whichever column comes first."""
    X = np.column_stack([np.full(50, 2.0), correlated()[:50, :3]])
    for variance in ("shared", "column"):
        rows = TrainingRows(X, np.ones(50), np.zeros(4), np.ones(4))
        likelihood = GaussianLikelihood(variance)
        linear = linear_start(rows, 1, likelihood, np.random.default_rng(0))
        eta = Eta(torch.tensor(linear.offset), torch.tensor(linear.constants))
        mean, square = likelihood.moments(eta)
        assert square.expand(4)[0] == pytest.approx(square.expand(4)[1:].max().item())
        assert mean[0] == 0.0 and (linear.W[0] == 0).all()


def test_held_out_rows_are_judged_by_their_weight():
    X, weight = correlated(n=40), np.arange(40.0)
    state = at_the_start(X).state_
    model = state.model()
    rows = TrainingRows((X - state.location) / state.scale, weight, state.location, state.scale)
    judge = judge_by_bound(rows, torch.tensor(X), 2, 1, np.random.default_rng(0))
    expected = weight @ (state.log_prob(X) + np.log(state.scale).sum()) / weight.sum()
    assert judge(model) == pytest.approx(expected, abs=1e-5)
    assert judge_by_bound(rows.take([]), torch.tensor(X), 2, 1, np.random.default_rng(0)) is None


# --- the linear VAE -----------------------------------------------------------------------------


def linear_bound(model, x, variance):
    """The ELBO of a linear autoencoder in closed form (Lucas et al. 2019, eq. 8): -> mean, nats."""
    mean, log_sd = model.encoder(x)
    W, bias = model.decoder.skip.weight, model.decoder.skip.bias
    noise = variance(model)
    residual = (x - mean @ W.T - bias) ** 2 + (2 * log_sd).exp() @ (W**2).T
    fit = -0.5 * (residual / noise + noise.log() + np.log(2 * np.pi)).sum(-1)
    kl = 0.5 * (mean**2 + (2 * log_sd).exp() - 1).sum(-1) - log_sd.sum(-1)
    return (fit - kl).mean()


def noise_of(model):
    return model.likelihood.floor**2 + model.decoder.constants.exp()


def climb(x, q, likelihood, seed=0):
    """Maximise the closed form from a random start: -> module, the bound."""
    d, rng = x.shape[1], np.random.default_rng(seed)
    parameters = blank_parameters(d, q, Dense(), likelihood, rng)
    parameters = {k: v + 0.3 * rng.standard_normal(v.shape) for k, v in parameters.items()}
    model = Autoencoder.of(parameters, likelihood, Dense())
    tensors = list(model.parameters())

    def value_and_gradient(vector):
        torch.nn.utils.vector_to_parameters(torch.tensor(vector), tensors)
        value = -linear_bound(model, x, noise_of)
        gradient = torch.autograd.grad(value, tensors)
        return value.item(), torch.cat([g.ravel() for g in gradient]).numpy()

    start = torch.nn.utils.parameters_to_vector(tensors).detach().numpy()
    options = {"maxiter": 20000, "maxfun": 40000, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 50}
    best = minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options=options)
    return model, -best.fun


def test_the_optimum_of_the_linear_vae_is_probabilistic_pca():
    """Value, noise, subspace, and W'W diagonal (Lucas et al. 2019; Tipping & Bishop 1999)."""
    X, q = correlated(d=6), 2
    x = (X - X.mean(axis=0)) / X.std(axis=0)
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    noise = values[:-q].mean()
    S = np.cov(x.T, bias=True)
    C = vectors[:, -q:] * (values[-q:] - noise) @ vectors[:, -q:].T + noise * np.eye(6)
    best = -0.5 * (
        6 * np.log(2 * np.pi) + np.linalg.slogdet(C)[1] + np.trace(np.linalg.solve(C, S))
    )
    model, bound = climb(torch.tensor(x), q, GaussianLikelihood("shared"))
    assert bound == pytest.approx(best, abs=1e-8) and bound <= best + 1e-12
    assert noise_of(model).item() == pytest.approx(noise, rel=1e-4)
    W = model.decoder.skip.weight.detach().numpy()
    assert_allclose(W @ W.T, C - noise * np.eye(6), atol=1e-4)
    assert abs((W.T @ W)[0, 1]) < 1e-3
    start = at_the_start(X, n_components=q, decoder_variance="shared", hidden_layer_sizes=())
    assert start.score(X) == pytest.approx(best - np.log(X.std(axis=0)).sum(), abs=1e-6)


def test_the_optimum_of_the_linear_vae_is_factor_analysis():
    X = correlated(d=7)
    fa = EMFactorAnalysis(2, heywood_penalty=0.0).fit(X)
    x = torch.tensor((X - X.mean(axis=0)) / X.std(axis=0))
    model, bound = climb(x, 2, GaussianLikelihood("column"))
    assert bound - np.log(X.std(axis=0)).sum() == pytest.approx(fa.score(X), abs=1e-6)
    noise = noise_of(model).detach().numpy() * X.var(axis=0)
    assert_allclose(noise, fa.noise_variance_, rtol=1e-2)


def test_training_a_linear_vae_stays_at_factor_analysis():
    X = correlated(n=1000)
    linear = {"hidden_layer_sizes": (), "decoder_variance": "column", "prior": "normal"}
    vae = VAE(**linear, max_iter=60, random_state=0).fit(X)
    fa = EMFactorAnalysis(2).fit(X)
    assert vae.score(X) == pytest.approx(fa.score(X), abs=0.02)
    assert_allclose(vae.score_samples(X), fa.score_samples(X), atol=0.5)
    assert vae.n_parameters_ == fa.n_parameters_


def test_the_one_draw_gradient_is_unbiased():
    """Reparameterised gradients average to the gradient of the closed form, within 5 SE."""
    likelihood, rng = GaussianLikelihood("column"), np.random.default_rng(1)
    parameters = blank_parameters(3, 2, Dense(), likelihood, rng)
    parameters = {k: v + 0.4 * rng.standard_normal(v.shape) for k, v in parameters.items()}
    model = Autoencoder.of(parameters, likelihood, Dense())
    x = torch.tensor(rng.standard_normal((4, 3)))
    tensors = list(model.parameters())

    def gradient(value):
        return torch.cat([g.ravel() for g in torch.autograd.grad(value, tensors)]).numpy()

    expected = gradient(-linear_bound(model, x, noise_of))
    generator = torch.Generator().manual_seed(0)
    rows, objective = x.repeat(50, 1), OBJECTIVES["elbo"]()
    draws = np.array([gradient(objective(model, rows, generator, 1)[0].mean()) for _ in range(200)])
    se = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(axis=0) - expected) <= 5 * se + 1e-12).all()
    assert se.max() < 0.2 * np.abs(expected).max()  # small enough to see a term that is missing


# --- the density by quadrature ------------------------------------------------------------------


def grid(q, reach=8.0):
    """Nodes (S, q) of the trapezoid rule and the logarithm of a cell's volume."""
    axis = np.linspace(-reach, reach, 4001 if q == 1 else 401)
    Z = np.stack(np.meshgrid(*[axis] * q, indexing="ij"), axis=-1).reshape(-1, q)
    return Z, q * np.log(axis[1] - axis[0])


def quadrature(vae, X):
    """log p(x, z) at the nodes of a grid: (n, S), with the cell's volume in it; and nodes."""
    state = vae.state_
    Z, log_cell = grid(state.n_latents)
    model = state.model()
    eta = model.decoder(torch.tensor(Z))
    log_weight = model.prior.log_prob(torch.tensor(Z)).numpy() + log_cell
    x = torch.tensor((X - state.location) / state.scale)
    log_p = np.stack([state.likelihood.log_prob(row[None], eta).numpy() for row in x])
    return log_p + log_weight - (~np.isnan(X) @ np.log(state.scale))[:, None], Z


def with_points(vae, n, seed=3):
    """The same density, estimated with other points."""
    params = {k: getattr(vae, f"{k}_") for k in ("parameters", "location", "scale")}
    points = normal_points(n, vae.n_components, np.random.default_rng(seed))
    return VAE.from_parameters(**params, decoder_variance=vae.decoder_variance, points=points)


CURVED = pytest.mark.parametrize(
    "case", [(1, "network"), (1, "column"), (2, "network"), (2, "shared")], ids=str
)


@CURVED
def test_scores_are_the_integral_over_the_latents(case):
    vae, X = curved(*case), np.vstack([with_holes(bent()[:40, :2]), bent()[40:60, :2]])
    exact = logsumexp(quadrature(vae, X)[0], axis=1)
    exact[np.isnan(X).all(axis=1)] = 0.0
    scores = vae.score_samples(X)
    assert np.isnan(X).all(axis=1).any() and np.isnan(X).any(axis=1).sum() > 10
    assert np.abs(scores - exact).mean() < 0.01
    assert np.abs(scores - exact).max() < 0.25
    assert abs(np.exp(scores - exact).mean() - 1) < 0.01


def test_scores_under_a_fitted_prior_are_the_integral_too():
    """A mixture makes the posterior less Gaussian; 2048 points are closer than 256."""
    vae, X = curved(2, prior="auto"), bent()[:60, :2]
    assert len(vae.parameters_["prior.logits"]) > 1
    exact = logsumexp(quadrature(vae, X)[0], axis=1)
    off = np.abs(vae.score_samples(X) - exact)
    assert off.mean() < 0.03 and off.max() < 0.25
    assert np.abs(with_points(vae, 2048).score_samples(X) - exact).mean() < min(0.01, off.mean())


@CURVED
def test_the_bound_is_below_by_the_divergence_of_q(case):
    """log p(x) - ELBO = KL(q || p(z | x)), all three by quadrature."""
    vae, X = with_points(curved(*case), 8192), bent()[:12, :2]
    log_joint, Z = quadrature(vae, X)
    exact = logsumexp(log_joint, axis=1)
    bound = sum(vae.elbo(X)[:3])
    assert (bound <= exact + 1e-3).all()
    posterior = vae.posterior(X)
    _, log_cell = grid(Z.shape[1])
    for i in range(len(X)):
        diff = Z - posterior.mean[i]
        distance = (diff @ np.linalg.inv(posterior.covariance[i]) * diff).sum(axis=1)
        log_q = log_cell - 0.5 * (
            distance + np.linalg.slogdet(2 * np.pi * posterior.covariance[i])[1]
        )
        kl = np.exp(log_q) @ (log_q - log_joint[i] + exact[i])
        assert exact[i] - bound[i] == pytest.approx(kl, abs=0.05 + 0.05 * kl)


@CURVED
def test_transform_is_the_mean_of_the_latents_given_the_row(case):
    vae, X = with_points(curved(*case), 8192), bent()[:12, :2]
    log_joint, Z = quadrature(vae, X)
    probability = np.exp(log_joint - logsumexp(log_joint, axis=1, keepdims=True))
    assert_allclose(vae.transform(X), probability @ Z, atol=5e-3)  # 0.02 with 256 points
    assert_array_equal(vae.transform(X), vae.posterior(X).mean)


def most_probable_latents(vae, X):
    mode, precision = vae.state_._ask(X, lambda model, x, found: found.best())
    return mode, precision


@CURVED
def test_the_climbs_end_at_the_most_probable_latents(case):
    vae, X = curved(*case), bent()[:25, :2]
    log_joint, Z = quadrature(vae, X)
    state, (mode, precision) = vae.state_, most_probable_latents(vae, X)
    model = state.model()
    x = torch.tensor((X - state.location) / state.scale)
    z = torch.tensor(mode).requires_grad_()
    height = model.log_joint(x, z)
    (gradient,) = torch.autograd.grad(height.sum(), z)
    assert gradient.abs().max() < 1e-5
    highest = log_joint.max(axis=1) - grid(Z.shape[1])[1] + np.log(state.scale).sum()
    assert (height.detach().numpy() > highest - 1e-6).mean() > 0.9  # two climbs find it mostly
    hessian = torch.autograd.functional.hessian(lambda z: model.log_joint(x[:1], z).sum(), z[:1])
    assert_allclose(precision[0], -hessian[0, :, 0].numpy(), rtol=1e-6)
    assert_allclose(vae.posterior(X).covariance, np.linalg.inv(precision), rtol=1e-9)


def test_density_integrates_to_one():
    for case in [(1, "network"), (2, "network"), (2, "shared")]:
        vae = curved(*case)
        sides = [
            np.linspace(x.min() - 3 * x.std(), x.max() + 3 * x.std(), 70) for x in bent().T[:2]
        ]
        X = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
        cell = (sides[0][1] - sides[0][0]) * (sides[1][1] - sides[1][0])
        assert np.exp(vae.score_samples(X)).sum() * cell == pytest.approx(1.0, abs=0.01)


def test_a_missing_column_is_integrated_out():
    vae = curved(2, "network", d=3)
    for row in bent()[:3]:
        for column in range(3):
            x = bent()[:, column]
            line = np.linspace(x.min() - 4 * x.std(), x.max() + 4 * x.std(), 400)
            filled = np.tile(row, (400, 1))
            filled[:, column] = line
            seen = np.where(np.arange(3) == column, np.nan, row)
            expected = logsumexp(vae.score_samples(filled)) + np.log(line[1] - line[0])
            assert vae.score_samples(seen[None])[0] == pytest.approx(expected, abs=0.03)


def test_a_row_without_entries_scores_zero():
    vae = curved(2)
    X = np.full((2, 2), np.nan)
    assert_array_equal(vae.score_samples(X), 0.0)
    posterior = vae.posterior(X)
    assert_allclose(posterior.mean, 0.0, atol=1e-12)
    assert_allclose(posterior.covariance, np.tile(np.eye(2), (2, 1, 1)), atol=1e-12)
    assert_allclose(sum(vae.elbo(X)[:3]), 0.0, atol=1e-12)


def test_more_points_are_closer():
    """The estimate converges; where the posterior is Gaussian, it is exact with any points."""
    vae, X = curved(2), bent()[:40, :2]
    exact = logsumexp(quadrature(vae, X)[0], axis=1)
    errors = []
    for n in (16, 2048):
        errors.append(np.sqrt(np.mean((with_points(vae, n).score_samples(X) - exact) ** 2)))
    assert errors[1] < 0.02 < errors[0]
    few = at_the_start(correlated(), n_importance_samples=16)
    assert_allclose(
        few.score_samples(correlated()),
        EMFactorAnalysis(2).fit(correlated()).score_samples(correlated()),
        atol=2e-6,
    )


def test_points_are_standard_normal_and_can_be_matched():
    points = normal_points(256, 3, np.random.default_rng(0))
    assert np.abs(points.mean(axis=0)).max() < 0.02
    assert np.abs(np.cov(points.T) - np.eye(3)).max() < 0.05
    moved = matched(torch.tensor(points)).numpy()
    assert_allclose(moved.mean(axis=0), 0.0, atol=1e-12)
    assert_allclose(np.cov(moved.T, bias=True), np.eye(3), atol=1e-12)


def test_the_climb_repairs_an_encoder_that_is_wrong():
    """An outlier far from all training rows: the encoder's guess costs nats, the climb does not."""
    vae = curved(1, "column")
    state = vae.state_
    broken = dict(state.parameters)
    broken["encoder.skip.bias"] = broken["encoder.skip.bias"] + 3.0
    params = {"location": vae.location_, "scale": vae.scale_, "points": vae.points_}
    other = VAE.from_parameters(parameters=broken, decoder_variance="column", **params)
    X = np.vstack([bent()[:20, :2], [[4.0, -3.0], [0.0, 9.0]]])
    assert_allclose(other.score_samples(X), vae.score_samples(X), atol=0.02)
    model = state.model()
    x = torch.tensor((X - state.location) / state.scale)
    found = laplace(model, x, torch.tensor(state.points))
    assert (found.height.max(0).values >= model.log_joint(x, model.encoder(x)[0])).all()


def test_of_two_climbs_the_higher_end_counts():
    """Within rounding of each other, the one next to the encoder's guess does."""
    mode = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])[:, :, None]
    height = torch.tensor([[0.0, 0.0, 0.0], [1.0, -1.0, 1e-9]], dtype=torch.float64)
    best_mode, best_precision = Laplace(mode, 10 * mode[..., None], height).best()
    assert best_mode[:, 0].tolist() == [4.0, 2.0, 3.0]
    assert best_precision[:, 0, 0].tolist() == [40.0, 20.0, 30.0]


def test_a_climb_never_ends_lower_and_nearly_always_ends_at_a_peak():
    vae = curved(2)
    state, rng = vae.state_, np.random.default_rng(0)
    model = state.model()
    x = torch.tensor((bent()[:200, :2] - state.location) / state.scale)
    start = torch.tensor(2 * rng.standard_normal((200, 2)))
    end = climb_to_mode(model, x, start)
    before, after = model.log_joint(x, start), model.log_joint(x, end)
    assert (after >= before - 1e-9 * (1 + before.abs())).all()
    z = end.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model.log_joint(x, z).sum(), z)
    assert (gradient.abs().amax(1) < 1e-5).double().mean() > 0.97


def test_the_bound_that_chooses_the_epoch_is_exact_where_the_encoder_is():
    """Importance weights are constant on a linear model; elsewhere the bound is below log p."""
    X = correlated()
    state = at_the_start(X).state_
    model = state.model()
    x = torch.tensor((X - state.location) / state.scale)
    bound = model.bound(x, torch.tensor(normal_points(4, 2, np.random.default_rng(0)))[:, None])
    expected = state.log_prob(X) + np.log(state.scale).sum()
    assert_allclose(bound.numpy(), expected, atol=1e-4)
    state = curved(2).state_
    model = state.model()
    x = torch.tensor((bent()[:30, :2] - state.location) / state.scale)
    exact = logsumexp(quadrature(curved(2), bent()[:30, :2])[0], axis=1)
    noise = torch.randn((40, 8, 1, 2), generator=torch.Generator().manual_seed(0)).double()
    bound = np.mean([model.bound(x, some).numpy() for some in noise], axis=0)
    gap = exact + np.log(state.scale).sum() - bound
    assert 0 < gap.mean() < 1


# --- missing entries ----------------------------------------------------------------------------


def conditional_moments(vae, X):
    """E and variance of the missing entries given the seen, by quadrature: (n, d), (n, d)."""
    log_joint, Z = quadrature(vae, X)
    share = np.exp(log_joint - logsumexp(log_joint, axis=1, keepdims=True))
    state = vae.state_
    model = state.model()
    mean, variance = (m.numpy() for m in state.likelihood.moments(model.decoder(torch.tensor(Z))))
    first, second = share @ mean, share @ (mean**2 + variance)
    return first * state.scale + state.location, (second - first**2) * state.scale**2


def test_imputation_by_mean_is_the_conditional_mean():
    vae, X = curved(2, "network", d=3), with_holes(bent()[:60])
    X = X[np.isnan(X).any(axis=1)]
    expected, variance = conditional_moments(vae, X)
    filled = vae.impute(X)
    gap = (filled - expected)[np.isnan(X)] / np.sqrt(variance[np.isnan(X)])
    assert np.sqrt(np.mean(gap**2)) < 0.03
    assert_array_equal(filled[~np.isnan(X)], X[~np.isnan(X)])


def test_imputation_by_draws_has_the_conditional_moments():
    vae, X = curved(2, "network", d=3), with_holes(bent()[:60])
    X = X[np.isnan(X).any(axis=1)][:8]
    expected, variance = conditional_moments(vae, X)
    draws = vae.impute(X, how="sample", n_draws=800, random_state=0)
    holes = np.isnan(X)
    assert_array_equal(draws[:, ~holes], np.broadcast_to(X[~holes], (800, (~holes).sum())))
    gap = (draws - expected)[:, holes] / np.sqrt(variance[holes])
    assert np.abs(gap.mean(axis=0)).max() < 5 / np.sqrt(800) + 0.02
    assert np.abs(gap.var(axis=0) - 1).max() < 0.4
    assert_array_equal(draws[:3], vae.impute(X, how="sample", n_draws=800, random_state=0)[:3])


def test_imputation_by_mode_decodes_the_most_probable_latents():
    vae, X = curved(2, "network", d=3), with_holes(bent()[:30])
    expected = vae.inverse_transform(most_probable_latents(vae, X)[0])
    filled = vae.impute(X, how="mode")
    assert_allclose(filled[np.isnan(X)], expected[np.isnan(X)], rtol=1e-9)


def test_training_never_reads_what_is_missing():
    """A column seen in half of the rows: its density comes from those."""
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.standard_normal(400), 5 + 0.5 * rng.standard_normal(400)])
    X[::2, 1] = np.nan
    vae = VAE(1, max_iter=40, random_state=0).fit(X)
    x = np.linspace(2, 8, 400)
    scores = vae.marginal([1]).score_samples(x[:, None])
    mass = np.exp(scores) * (x[1] - x[0])
    mean = mass @ x
    assert mean == pytest.approx(5.0, abs=0.1)
    assert np.sqrt(mass @ (x - mean) ** 2) == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("variance", ["network", "column", "shared"])
def test_a_marginal_is_what_missing_columns_leave(variance):
    X = bent()
    vae = VAE(2, decoder_variance=variance, hidden_layer_sizes=(16, 8), **QUICK).fit(X)
    part = vae.marginal([2, 0])
    hidden = X.copy()
    hidden[:, 1] = np.nan
    assert_allclose(part.score_samples(X[:, [2, 0]]), vae.score_samples(hidden), rtol=1e-9)
    assert_allclose(part.transform(X[:, [2, 0]]), vae.transform(hidden), rtol=1e-6, atol=1e-9)
    Z = vae.transform(X)
    assert_allclose(part.inverse_transform(Z), vae.inverse_transform(Z)[:, [2, 0]], rtol=1e-9)
    assert part.n_features_in_ == 2 and part.n_parameters_ < vae.n_parameters_
    x = torch.tensor((X - vae.location_) / vae.scale_)
    x[:, 1] = torch.nan
    encode = [m.state_.model().encoder for m in (vae, part)]
    for whole, sliced in zip(encode[0](x), encode[1](x[:, [2, 0]])):
        assert_allclose(whole.detach().numpy(), sliced.detach().numpy(), atol=1e-12)


# --- weights, units, order, precision -----------------------------------------------------------

SMALL = {"n_components": 2, "hidden_layer_sizes": (8,), "max_iter": 12}
SMALL |= {"n_importance_samples": 32, "random_state": 3}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("variance", ["network", "column", "shared"])
def test_a_weight_is_a_repeated_row_to_the_bit(variance, dtype):
    X = with_holes(bent()[:70]).astype(dtype)
    rng = np.random.default_rng(0)
    weight = rng.integers(0, 4, len(X))
    weighted = VAE(decoder_variance=variance, **SMALL).fit(X, sample_weight=weight)
    repeated = np.repeat(X, weight, axis=0)
    other = VAE(decoder_variance=variance, **SMALL).fit(repeated[rng.permutation(len(repeated))])
    same_fit(weighted, other)
    assert_array_equal(weighted.history_, other.history_)
    assert_array_equal(weighted.score_samples(X), other.score_samples(X))
    removed = VAE(decoder_variance=variance, **SMALL).fit(
        X[weight > 0], sample_weight=weight[weight > 0]
    )
    same_fit(weighted, removed)


@pytest.mark.parametrize("variance", ["network", "column", "shared"])
def test_units_change_the_score_by_the_jacobian_and_nothing_else(variance):
    X, scale, shift = with_holes(bent()[:70]), np.array([1e-7, 3.3, 70.0]), np.array([2, 0.1, -9])
    vae = VAE(decoder_variance=variance, **SMALL).fit(X)
    other = VAE(decoder_variance=variance, **SMALL).fit(X * scale + shift * scale)
    same_fit(vae, other)
    jacobian = ~np.isnan(X) @ np.log(scale)
    Y = X * scale + shift * scale
    assert_allclose(other.score_samples(Y), vae.score_samples(X) - jacobian, atol=1e-6)
    assert_allclose(other.transform(Y), vae.transform(X), atol=1e-6)
    assert_allclose(other.sample(5, 0)[0], (vae.sample(5, 0)[0] + shift) * scale, rtol=1e-6)
    assert np.ptp(vae.history_ - other.history_) < 1e-9


def test_float32_rows_train_float32_networks_and_score_in_float64():
    X = bent()
    double = VAE(prior="normal", **SMALL).fit(X)
    single = VAE(prior="normal", **SMALL).fit(X.astype(np.float32))
    assert {v.dtype for v in single.parameters_.values()} == {np.dtype(np.float32)}
    assert {v.dtype for v in double.parameters_.values()} == {np.dtype(np.float64)}
    assert single.score_samples(X.astype(np.float32)).dtype == np.float64
    assert single.transform(X.astype(np.float32)).dtype == np.float32
    assert single.inverse_transform(np.zeros((2, 2), np.float32)).dtype == np.float32
    assert single.impute(with_holes(X).astype(np.float32)).dtype == np.float32
    assert single.location_.dtype == single.scale_.dtype == np.float64
    assert single.score(X) == pytest.approx(double.score(X), abs=0.01)
    alone = [single.score_samples(row[None])[0] for row in X[:20].astype(np.float32)]
    assert_allclose(alone, single.score_samples(X[:20].astype(np.float32)), rtol=1e-9)


def test_a_seed_repeats_to_the_bit_and_nothing_global_moves():
    torch.manual_seed(11)
    np.random.seed(11)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    numpy_before = np.random.get_state()[1].copy()
    first, again = (VAE(**SMALL).fit(bent()) for _ in range(2))
    same_fit(first, again)
    assert_array_equal(first.score_samples(bent()), again.score_samples(bent()))
    first.sample(3), first.impute(with_holes(bent())[:9], how="sample")
    assert torch.equal(before, torch.get_rng_state()) and threads == torch.get_num_threads()
    VAE(**SMALL).fit(bent()).sample(3, random_state=0)
    other = VAE(**{**SMALL, "random_state": 4}).fit(bent())
    assert not np.array_equal(first.points_, other.points_)
    assert_array_equal(numpy_before[:5], np.random.RandomState(11).get_state()[1][:5])


def test_the_score_of_a_row_is_its_own():
    vae, X = curved(2), with_holes(bent()[:40, :2])
    alone = np.concatenate([vae.score_samples(row[None]) for row in X])
    assert_allclose(vae.score_samples(X), alone, rtol=1e-10, atol=1e-10)
    assert_allclose(vae.score_samples(np.tile(X, (60, 1)))[-40:], alone, rtol=1e-10, atol=1e-10)


# --- training -----------------------------------------------------------------------------------


def test_it_fits_what_factor_analysis_cannot():
    X = bent()
    vae = VAE(1, max_iter=200, random_state=0).fit(X[:200])
    fa = EMFactorAnalysis(1).fit(X[:200])
    assert vae.score(X[200:]) > fa.score(X[200:]) + 0.3


def test_it_can_learn_twenty_rows_by_heart():
    X = np.random.default_rng(0).standard_normal((20, 4))
    settings = {"max_iter": 400, "n_iter_no_change": 400, "validation_fraction": 0.0}
    vae = VAE(2, random_state=0, learning_rate_init=5e-3, **settings).fit(X)
    gaussian = -0.5 * (4 * (1 + np.log(2 * np.pi)) + np.linalg.slogdet(np.cov(X.T, bias=True))[1])
    assert vae.score(X) > gaussian + 2
    # An epoch is one draw for each of 20 rows, with a noise of 0.3 nats per row: compare means.
    assert vae.history_[-50:].mean() > vae.history_[:5].mean() + 1.5


def test_more_columns_than_rows_do_not_diverge():
    X = np.random.default_rng(0).standard_normal((30, 500))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vae = VAE(random_state=0, max_iter=80, n_iter_no_change=30).fit(X)
    assert np.isfinite(vae.history_).all() and np.isfinite(vae.score_samples(X)).all()
    assert vae.score(X) > -500 * 1.6


def test_history_is_in_nats_per_row_and_in_the_units_of_the_columns():
    X = bent()
    vae = VAE(2, max_iter=40, n_iter_no_change=40, validation_fraction=0.0, random_state=0).fit(X)
    assert len(vae.history_) == vae.n_iter_ + 1 == 41
    assert vae.history_[-1] > vae.history_[0]
    assert vae.history_[-1] == pytest.approx(vae.score(X), abs=0.3)  # a bound of these rows


def test_the_epoch_that_held_out_rows_like_is_kept():
    """With a learning rate that ruins the model, the start is what they like."""
    X = correlated(n=120)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        vae = VAE(learning_rate_init=0.3, max_iter=10, random_state=0).fit(X)
    start = VAE(learning_rate_init=1e-30, max_iter=1, random_state=0).fit(X)
    assert vae.history_[-1] < vae.history_[0] - 1
    same_fit(vae, start)


def test_ctrl_c_stores_the_best_so_far(monkeypatch):
    calls = []

    def step(self, x, generator, epoch, plain=ElboByHand.__call__):
        calls.append(1)
        if len(calls) > 60:
            raise KeyboardInterrupt
        return plain(self, x, generator, epoch)

    monkeypatch.setattr(ElboByHand, "__call__", step)
    vae = VAE(random_state=0)
    with pytest.raises(FitInterrupted):
        vae.fit(correlated())
    assert 0 < vae.n_iter_ < 60 and not vae.converged_
    fa = EMFactorAnalysis(2).fit(correlated())
    assert vae.history_[0] == pytest.approx(fa.score(correlated()), abs=0.6)
    assert vae.score(correlated()) > fa.score(correlated()) - 0.6


def test_verbose_prints_in_the_units_of_the_columns(capsys):
    X = correlated() * 1e6
    vae = VAE(verbose=1, verbose_interval=2, **QUICK).fit(X)
    printed = capsys.readouterr().out
    assert f"VAE iteration 2: {vae.history_[2]:.6f} nats per row" in printed
    assert "iteration 1:" not in printed


def test_batches_are_an_eighth_of_the_rows_between_bounds(monkeypatch):
    from sklvm import vae as module

    asked = []

    def train(*args, batch_size, **kwargs):
        asked.append(batch_size)
        raise ZeroDivisionError

    monkeypatch.setattr(module, "train", train)
    for n, size in ((40, "auto"), (400, "auto"), (2000, "auto"), (40, 7)):
        with pytest.raises(ZeroDivisionError):
            VAE(batch_size=size, validation_fraction=0.0).fit(correlated(n=n))
    assert asked == [16, 50, 128, 7]


# --- Bernoulli ----------------------------------------------------------------------------------


@cache
def binary(n=300):
    """Five columns that mostly agree or mostly disagree with one coin."""
    rng = np.random.default_rng(0)
    coin = rng.uniform(size=(n, 1)) < 0.5
    flip = rng.uniform(size=(n, 5)) < 0.1
    X = np.where(np.arange(5) < 3, coin ^ flip, ~coin ^ flip).astype(float)
    X.flags.writeable = False
    return X


@cache
def coins():
    vae = VAE(1, likelihood="bernoulli", hidden_layer_sizes=(16,), max_iter=100, random_state=0)
    return vae.fit(binary())


TABLE = np.array(list(itertools.product([0.0, 1.0], repeat=5)))


def test_a_binary_vae_is_a_pmf_that_learns():
    vae = coins()
    scores = vae.score_samples(TABLE)
    assert np.exp(scores).sum() == pytest.approx(1.0, abs=0.01)
    exact = logsumexp(quadrature(vae, TABLE)[0], axis=1)
    assert np.abs(scores - exact).max() < 0.02
    p = binary().mean(axis=0)
    independent = (p * np.log(p) + (1 - p) * np.log(1 - p)).sum()
    assert vae.score(binary()) > independent + 0.8
    assert set(vae.base_measure_) == {"counting"}
    assert_array_equal(vae.location_, 0.0)
    assert_array_equal(vae.scale_, 1.0)


def test_missing_bits_are_summed_out_and_filled_in():
    vae = coins()
    seen = np.array([[1.0, np.nan, 0.0, np.nan, 1.0]])
    table = np.array([np.where(np.isnan(seen[0]), row, seen[0]) for row in TABLE])
    table = np.unique(table, axis=0)
    log_p = vae.score_samples(table)
    assert vae.score_samples(seen)[0] == pytest.approx(logsumexp(log_p), abs=0.01)
    share = np.exp(log_p - logsumexp(log_p))
    assert_allclose(vae.impute(seen)[0], share @ table, atol=0.01)
    assert set(vae.impute(seen, how="mode")[0]) <= {0.0, 1.0}
    draws = vae.impute(seen, how="sample", n_draws=2000, random_state=0)[:, 0]
    assert set(np.unique(draws)) == {0.0, 1.0}
    assert_allclose(draws.mean(axis=0), share @ table, atol=0.06)
    X, Z = vae.sample(3000, random_state=0)
    assert set(np.unique(X)) == {0.0, 1.0} and Z.shape == (3000, 1)
    pairs = np.exp(vae.score_samples(TABLE)) @ (TABLE[:, :1] * TABLE)
    assert_allclose((X[:, :1] * X).mean(axis=0), pairs, atol=0.05)


def test_a_binary_start_is_independent_columns_with_smoothed_odds():
    vae = VAE(
        1, likelihood="bernoulli", learning_rate_init=1e-30, max_iter=1, validation_fraction=0.0
    )
    vae.set_params(random_state=0).fit(binary())
    ones = binary().sum(axis=0)
    expected = np.log((ones + 0.5) / (300 - ones + 0.5))
    assert_allclose(vae.parameters_["decoder.skip.bias"], expected, atol=1e-6)


def test_only_bits_are_bits():
    message = "likelihood='bernoulli' takes 0, 1 and NaN, got 0.3"
    with pytest.raises(ValueError, match=message):
        VAE(likelihood="bernoulli").fit(binary() * 0.3)
    for verb in ("score_samples", "transform", "posterior", "elbo", "impute"):
        with pytest.raises(ValueError, match=message):
            getattr(coins(), verb)(np.full((1, 5), 0.3))


# --- attributes, persistence, refusals ----------------------------------------------------------


def test_what_kind_of_number_a_score_is():
    vae = curved(2)
    assert vae.score_kind_ == "estimate" and set(vae.base_measure_) == {"lebesgue"}
    state = vae.state_
    assert (
        vae.n_parameters_ == sum(v.size for k, v in state.parameters.items() if "decoder" in k) - 1
    )


def test_parameters_can_be_read_and_not_written():
    vae = curved(2)
    with pytest.raises(ValueError, match="read-only"):
        vae.parameters_["decoder.skip.bias"][0] = 0.0
    with pytest.raises(TypeError):
        vae.parameters_["decoder.skip.bias"] = 0.0
    with pytest.raises(AttributeError, match="from_parameters"):
        vae.parameters_ = {}


@pytest.mark.parametrize("variance", ["network", "column", "shared"])
def test_from_parameters_is_the_same_model(variance):
    sizes, few = (6, 5), {**QUICK, "prior": "normal"}
    vae = VAE(3, decoder_variance=variance, hidden_layer_sizes=sizes, noise_floor=0.1, **few)
    vae.fit(bent())
    params = {k: getattr(vae, f"{k}_") for k in ("parameters", "location", "scale", "points")}
    other = VAE.from_parameters(**params, decoder_variance=variance, noise_floor=0.1)
    X = with_holes(bent())
    assert_array_equal(other.score_samples(X), vae.score_samples(X))
    assert_array_equal(other.transform(X), vae.transform(X))
    assert_array_equal(other.sample(9, 0)[0], vae.sample(9, 0)[0])
    for name in ("n_components", "hidden_layer_sizes", "n_importance_samples", "noise_floor"):
        assert getattr(other, name) == getattr(vae, name)
    del params["points"]
    drawn = VAE.from_parameters(**params, decoder_variance=variance, noise_floor=0.1)
    assert_allclose(drawn.score_samples(X), vae.score_samples(X), atol=0.3)


def test_from_parameters_refuses_what_does_not_fit():
    vae = curved(2)
    good = {k: getattr(vae, f"{k}_") for k in ("parameters", "location", "scale", "points")}

    def refused(match, **change):
        with pytest.raises(ValueError, match=match):
            VAE.from_parameters(**{**good, **change})

    lacking = {k: v for k, v in good["parameters"].items() if k != "decoder.skip.bias"}
    refused(r"lacks \['decoder.skip.bias'\]", parameters=lacking)
    refused("should not have.*'more'", parameters={**good["parameters"], "more": np.zeros(1)})
    wrong = {**good["parameters"], "decoder.skip.bias": np.zeros(3)}
    refused(r"decoder.skip.bias must be .* of shape \(4,\), got shape \(3,\)", parameters=wrong)
    infinite = {**good["parameters"], "decoder.skip.bias": np.full(4, np.inf)}
    refused("decoder.skip.bias must be finite", parameters=infinite)
    refused("needs 'encoder.log_sd'", parameters={})
    refused("scale must be positive", scale=[1.0, 0.0])
    refused("location must be", location=[[1.0, 2.0]])
    refused(r"scale must be .* of shape \(1,\)", location=[1.0])
    refused("shape", location=np.zeros(3), scale=np.ones(3))
    refused("categorical columns: give Categorical", likelihood="categorical")
    refused("points must be", points=np.zeros((64, 3)))
    refused("lacks|shape", decoder_variance="column")


def test_pickle_and_memory_maps(tmp_path):
    vae, X = curved(2), with_holes(bent()[:, :2])
    copy = pickle.loads(pickle.dumps(vae))
    assert_array_equal(copy.score_samples(X), vae.score_samples(X))
    joblib.dump(vae, tmp_path / "vae.joblib")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of arrays that it could write to by mistake
        mapped = joblib.load(tmp_path / "vae.joblib", mmap_mode="r")
        for verb in ("score_samples", "transform", "impute"):
            assert_array_equal(getattr(mapped, verb)(X), getattr(vae, verb)(X))
        assert_array_equal(mapped.sample(4, 0)[0], vae.sample(4, 0)[0])
        mapped.elbo(X), mapped.inverse_transform(np.zeros((1, 2)))
        mapped.impute(X, how="sample", random_state=0)
    assert len(io.BytesIO(pickle.dumps(vae)).getvalue()) < 200_000


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"device": "abacus"}, "device='abacus' cannot be used here"),
        ({"device": "meta:x"}, "device='meta:x' cannot be used here"),
        ({"hidden_layer_sizes": (8, 0)}, "hidden_layer_sizes must be positive integers"),
        ({"hidden_layer_sizes": (8.5,)}, "hidden_layer_sizes must be positive integers"),
        ({"n_components": 16, "n_importance_samples": 16}, "must exceed n_components=16"),
        ({"noise_floor": 0.0}, "noise_floor"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"likelihood": "cauchy"}, "likelihood must be one of .*'gaussian'.*, got 'cauchy'"),
        ({"likelihood": [("gaussian", [0, 1])]}, r"likelihood must name each column .*\[2\]"),
        ({"likelihood": ["gaussian"]}, "has pairs"),
    ],
)
def test_bad_settings_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        VAE(**params).fit(bent())


def test_the_number_of_latents_follows_from_the_columns():
    """Two more than parallel analysis finds, at most half of the columns and sixteen."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(300, 12))
    X = 2 * rng.normal(size=(300, 3)) @ rng.normal(size=(3, 12)) + noise
    X[::7, 5] = np.nan
    for rows, q in ((X, 5), (X * 1e6, 5), (X[:, :6], 3), (X[:, :3], 1), (noise, 2)):
        vae = VAE(**QUICK).fit(rows)
        assert vae.n_components_ == q == vae.transform(rows[:2]).shape[1]
    wide = rng.normal(size=(300, 25)) @ rng.normal(size=(25, 60)) + 0.1 * rng.normal(size=(300, 60))
    assert VAE(**QUICK).fit(wide).n_components_ == 16
    assert VAE(3, **QUICK).fit(X).n_components_ == 3


@pytest.mark.parametrize("sizes", [16, (16,), [16], np.array([16])])
def test_hidden_layers_can_be_said_in_several_ways(sizes):
    vae = VAE(2, hidden_layer_sizes=sizes, **QUICK).fit(bent())
    assert vae.parameters_["decoder.nonlinear.layers.0.weight"].shape == (16, 2)


def test_the_noise_never_falls_below_the_floor():
    X = np.column_stack([np.arange(60.0), 3 * np.arange(60.0)])  # on a line: no noise at all
    vae = VAE(1, noise_floor=0.05, max_iter=60, random_state=0).fit(X)
    X_drawn, Z = vae.sample(2000, random_state=0)
    noise = (X_drawn - vae.inverse_transform(Z)) / vae.scale_
    assert noise.std() > 0.05 * 0.95
    assert np.isfinite(vae.score_samples(X)).all()
