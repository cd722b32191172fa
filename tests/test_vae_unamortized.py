"""A VAE without an encoder: every training row has a Gaussian of its own."""

import warnings
from functools import partial

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from sklvm import VAE, DensityOutlierDetector, EMFactorAnalysis
from sklvm import vae as vae_module
from sklvm.inference.history import FitInterrupted
from sklvm.networks.posteriors import POSTERIORS
from sklvm.vae_inference import OwnPosteriors
from tests.networks._small import parabola, random_model, random_rows

pytestmark = [
    pytest.mark.filterwarnings("ignore:VAE did not converge"),
    pytest.mark.filterwarnings("ignore:on held-out rows [a-z_]* is better"),
]
OWN = {"amortized": False, "random_state": 0}
QUICK = OWN | {"max_iter": 4, "hidden_layer_sizes": (8,), "n_importance_samples": 32}


bent = partial(parabola, 60)


def layers(n_inputs):
    """A network of one's own."""
    return nn.Sequential(nn.Linear(n_inputs, 6), nn.Tanh())


def from_the_prior(model, x, family):
    """Gaussians that have seen nothing of their rows."""
    n, q = len(x), model.n_components
    parts = [torch.zeros(n, size, dtype=x.dtype) for size in (q, q, family.n_lower(q))]
    return OwnPosteriors(model, x, family(*parts[: len(family._fields)]), {})


# --- the Gaussian of a row ------------------------------------------------------------------------


@pytest.mark.parametrize("name", POSTERIORS)
def test_a_row_arrives_at_its_posterior_under_a_linear_decoder(name):
    """The mean, and the precision or its diagonal (the best of such Gaussians): closed forms."""
    model, x = random_model("column", ()), random_rows("column", n=5, holes=True)
    own, generator = from_the_prior(model, x, POSTERIORS[name]), torch.Generator().manual_seed(0)
    for _ in range(60):
        own.climb(torch.arange(5), generator)
    W, b = model.decoder.skip.weight.detach(), model.decoder.skip.bias.detach()
    noise = model.likelihood.floor**2 + model.decoder.constants.detach().exp()
    weight = (~x.isnan()) / noise
    precision = torch.eye(2) + torch.einsum("dq,nd,dr->nqr", W, weight, W)
    pull = (weight * (x - b).nan_to_num()) @ W
    q = own.encode(torch.arange(5))
    assert_allclose(q.mean, torch.linalg.solve(precision, pull), atol=1e-6)
    best = torch.linalg.inv(precision).diagonal(dim1=1, dim2=2)
    if name == "diagonal":
        best = 1 / precision.diagonal(dim1=1, dim2=2)
    assert_allclose(q.variance(), best, rtol=1e-6)


def test_noise_is_new_at_each_visit_and_common_to_the_rows():
    model, x = random_model(), random_rows(n=3)
    x[2] = x[0]
    once, again = (from_the_prior(model, x, POSTERIORS["diagonal"]) for _ in range(2))
    generator = torch.Generator().manual_seed(0)
    once.climb(torch.arange(3), generator)
    again.climb(torch.arange(3), generator)
    assert_array_equal(once.own.mean[0], once.own.mean[2])
    assert (again.own.mean[0] - once.own.mean[0]).abs().max() > 1e-4


def test_a_step_into_the_unknown_is_short():
    """A count of 1e6 pulls at z = 0 as if 1e6 standard deviations away."""
    X = np.random.default_rng(0).poisson(3.0, (40, 2)).astype(float)
    X[0] = 1e6
    vae = VAE(1, likelihood="poisson", **QUICK).fit(X)
    assert np.isfinite(vae.history_).all() and vae.n_iter_ == 4
    model, x = random_model("column", ()), random_rows("column", n=5) + 1e4
    own = from_the_prior(model, x, POSTERIORS["diagonal"])
    own.climb(torch.arange(5), torch.Generator().manual_seed(0))
    assert own.encode(torch.arange(5)).mean.abs().max() <= 2.0


# --- training -------------------------------------------------------------------------------------


def test_training_of_a_linear_decoder_finds_factor_analysis(monkeypatch):
    """Value, noise and subspace, from a start at the factors of other rows."""
    rng = np.random.default_rng(0)
    W = [[1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 1, -1, 1, 1, 1, 1]]
    X = rng.standard_normal((150, 2)) @ W + 0.7 * rng.standard_normal((150, 8))
    fa = EMFactorAnalysis(2, heywood_penalty=0.0).fit(X)

    def elsewhere(rows, *rest):
        return start(rows._replace(X=rng.permuted(rows.X, axis=0)), *rest)

    start = vae_module.linear_start
    monkeypatch.setattr(vae_module, "linear_start", elsewhere)
    linear = {"hidden_layer_sizes": (), "decoder_variance": "column", "prior": "normal"}
    settings = {"encoder_covariance": "full", "validation_fraction": 0.0, "max_iter": 120}
    vae = VAE(2, learning_rate_init=1e-2, weight_average=0.99, **linear, **settings, **OWN).fit(X)
    assert vae.history_[0] < fa.score(X) - 0.5
    assert vae.history_[-20:].mean() == pytest.approx(fa.score(X), abs=0.02)
    assert vae.score(X) == pytest.approx(fa.score(X), abs=0.01)
    arrays = vae.parameters_
    noise = (1e-4 + np.exp(arrays["decoder.constants"])) * vae.scale_**2
    assert_allclose(noise, fa.noise_variance_, rtol=0.1)
    W = arrays["decoder.skip.weight"] * vae.scale_[:, None]
    angles = np.linalg.svd(np.linalg.qr(W)[0].T @ np.linalg.qr(fa.components_.T)[0])[1]
    assert angles.min() > 0.995


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_training_bound_is_at_or_above_that_of_an_encoder(seed):
    """`history_` is by noise that no row's q has seen."""
    settings = {"max_iter": 60, "tol": 0.0, "validation_fraction": 0.0, "prior": "normal"}
    settings |= {"hidden_layer_sizes": (32,), "learning_rate_init": 3e-3}
    make = partial(VAE, 2, random_state=seed, **settings)
    own, amortized = (make(amortized=a).fit(bent(seed=seed)) for a in (False, True))
    assert own.history_[-10:].mean() > amortized.history_[-10:].mean()
    assert own.score(bent(seed=seed)) > own.history_[-10:].mean() - 0.01
    assert_allclose(own.history_terms_.sum(axis=1), own.history_, atol=1e-9)


def test_the_networks_see_eight_draws_of_each_row():
    usual, eight, one = (VAE(1, n_draws=n, **QUICK).fit(bent()) for n in ("auto", 8, 1))
    assert_array_equal(usual.history_, eight.history_)
    assert (usual.history_ != one.history_).any()


@pytest.mark.parametrize("prior", ["auto", "mixture"])
def test_a_mixture_prior_sees_the_latents_of_rows(prior):
    rng = np.random.default_rng(0)
    X = np.repeat([[0.0, 0, 0], [6, 2, -3], [-5, 4, 2]], 40, axis=0)
    X += 0.3 * rng.standard_normal(X.shape)
    settings = {"decoder_variance": "column", "n_clusters": 3, "tol": 1e-3}
    vae = VAE(2, prior=prior, **settings, **QUICK).fit(X)
    assert "prior.logits" in vae.parameters_
    plain = VAE(2, prior="normal", **settings, **QUICK).fit(X)
    assert vae.score(X) > plain.score(X) + 0.3
    assert vae.active_units_ == 2 and vae.kl_per_dimension_.min() > 0.5


# --- what there is without an encoder -------------------------------------------------------------


def test_what_stands_for_the_encoder_says_nothing():
    vae = VAE(1, **QUICK).fit(bent())
    encoder = [v for k, v in vae.parameters_.items() if k.startswith("encoder")]
    assert encoder and not any(v.any() for v in encoder)
    assert not vae.state_.has_encoder
    for verb in ("regret", "amortisation_gap"):
        assert hasattr(VAE(1), verb) and not hasattr(vae, verb)
    with pytest.raises((TypeError, ValueError, AttributeError), match="regret"):
        DensityOutlierDetector(VAE(1, **QUICK), statistic="regret").fit(bent())
    bounds = vae.tighten(bent()[:5], n_steps=3)
    assert (np.diff(bounds, axis=0) >= 0).all()


def test_a_model_of_known_weights_has_no_encoder_either():
    vae = VAE(1, decoder=layers, **QUICK).fit(bent())
    names = ("parameters", "location", "scale", "points", "architecture")
    other = VAE.from_parameters(**{name: getattr(vae, f"{name}_") for name in names})
    assert_array_equal(other.score_samples(bent()), vae.score_samples(bent()))
    assert not other.amortized and other.encoder is None and other.decoder is layers
    some = vae.marginal([0, 1])
    assert np.isfinite(some.score_samples(bent()[:, :2])).all() and not some.amortized


def test_images_and_gaps():
    X = np.random.default_rng(0).uniform(size=(40, 20)).round()
    X[::3, 4] = np.nan
    for networks in ({}, {"decoder": layers}):
        vae = VAE(2, likelihood="bernoulli", image_shape=(4, 5), **networks, **QUICK).fit(X)
        assert np.isfinite(vae.score_samples(X)).all()


def test_float32_stays_float32():
    vae = VAE(1, **QUICK).fit(bent().astype(np.float32))
    assert {v.dtype for v in vae.parameters_.values()} == {np.dtype(np.float32)}


def test_a_fit_that_is_stopped_keeps_a_state_without_encoder(monkeypatch):
    def stopping(self, data):
        def report(i, state, value):
            assert not state.has_encoder
            raise KeyboardInterrupt

        return report

    monkeypatch.setattr(VAE, "_progress", stopping)
    vae = VAE(1, **QUICK)
    with pytest.raises((FitInterrupted, KeyboardInterrupt)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        vae.fit(bent())
    assert not vae.state_.has_encoder and np.isfinite(vae.score(bent()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective": "iwae"}, "needs objective='elbo', beta=1"),
        ({"objective": "stl"}, "needs objective='elbo', beta=1"),
        ({"beta": 0.5}, "needs objective='elbo', beta=1"),
        ({"kl_warmup": 3}, "kl_warmup=0"),
        ({"free_bits": 1.0}, "free_bits=0"),
        ({"encoder": layers, "decoder": layers}, "encoder must be None"),
        ({"encoder": layers}, "encoder must be None"),
    ],
)
def test_what_needs_an_encoder_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        VAE(1, **QUICK | change).fit(bent())
