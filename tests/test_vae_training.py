"""How a VAE is trained, what its latents come from, and what a fit reports."""

import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import check_estimator

from sklvm import VAE, EMFactorAnalysis, GaussianMixture, Mixture, vae_inference
from sklvm.autoencoding import units_of
from sklvm.inference.training_rows import TrainingRows
from sklvm.vae_inference import encoded
from sklvm.vae_prior import in_order
from sklvm.vae_report import baselines, diagnosed
from tests._models import rows
from tests.networks._small import mixture_arrays, random_model

pytestmark = [
    pytest.mark.filterwarnings("ignore:VAE did not converge"),
    pytest.mark.filterwarnings("ignore:on held-out rows [a-z_]*mixture is better"),
]
QUICK = {"max_iter": 8, "hidden_layer_sizes": (8,), "n_importance_samples": 32, "random_state": 0}


@cache
def clustered(n=300, seed=0):
    """Three groups of rows, each along a line, and which row is in which: (n, 3), (n,)."""
    rng = np.random.default_rng(seed)
    k = rng.integers(3, size=n)
    centres = np.array([[0, 0, 0], [4, 1, -2], [-3, 3, 2.0]])
    line = rng.standard_normal((n, 1)) * [0.3, 0.5, 0.2]
    X = centres[k] + line + 0.3 * rng.standard_normal((n, 3))
    X.flags.writeable = False
    return X, k


@cache
def trained(prior):
    settings = {"decoder_variance": "column", "max_iter": 40, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return VAE(2, prior=prior, n_clusters=3, **settings).fit(clustered()[0][:200])


def same_fit(a, b):
    for name, values in a.parameters_.items():
        assert_array_equal(values, b.parameters_[name], err_msg=name)


# --- a linear decoder under a mixture prior is a Gaussian mixture ---------------------------------


def linear_mixture(d=4, q=2, K=3, n_points=4096):
    """A VAE with a linear decoder and the Gaussian mixture that it is (common loadings)."""
    parameters = random_model("column", (), d, q, K=K, seed=1).arrays()
    params = {"parameters": parameters, "location": np.zeros(d), "scale": np.ones(d)}
    settings = {"decoder_variance": "column", "noise_floor": 0.1}
    vae = VAE.from_parameters(**params, **settings, n_importance_samples=n_points)
    weights, means, roots = mixture_arrays(K, q, 1)
    W, noise = parameters["decoder.skip.weight"], 0.01 + np.exp(parameters["decoder.constants"])
    S = np.linalg.inv(roots.transpose(0, 2, 1) @ roots)
    mixture = GaussianMixture.from_parameters(
        weights=weights,
        means=means @ W.T + parameters["decoder.skip.bias"],
        covariances=W @ S @ W.T + np.diag(noise),
    )
    return vae, mixture


def test_a_linear_decoder_under_a_mixture_is_a_mixture_with_common_loadings():
    vae, mixture = linear_mixture()
    X = mixture.sample(60, random_state=0)[0]
    X[::3, 0], X[1::5, 2] = np.nan, np.nan
    assert_allclose(vae.score_samples(X), mixture.score_samples(X), atol=0.02)
    assert_allclose(vae.predict_proba(X), mixture.predict_proba(X), atol=0.02)
    assert_array_equal(vae.predict(X), vae.predict_proba(X).argmax(axis=1))
    assert_allclose(vae.impute(X), mixture.impute(X), atol=0.05)
    X, Z = vae.sample(4000, random_state=0)
    other = mixture.sample(4000, random_state=1)[0]
    assert vae.prior == "mixture" and Z.shape == (4000, 2)
    assert mixture.score(X) == pytest.approx(mixture.score(other), abs=0.1)
    assert_allclose(np.cov(X.T), np.cov(other.T), atol=0.8)


def test_its_parameters_are_those_of_the_decoder_and_the_prior_less_changes_of_basis():
    vae, _ = linear_mixture()
    assert vae.n_parameters_ == (4 * 2 + 4 + 4) + (2 + 3 * 2 + 3 * 3) - (2 * 2 + 2)


def test_the_divergence_from_a_mixture_is_in_the_bound():
    vae, mixture = linear_mixture()
    X = mixture.sample(40, random_state=0)[0]
    terms, posterior = vae.elbo(X), vae.posterior(X)
    assert_allclose(posterior.kl_to_prior(), -terms.expected_log_prior - terms.entropy, rtol=1e-9)
    gap = mixture.score_samples(X) - sum(terms[:3])
    assert gap.min() > -0.02 and gap.mean() < 0.5
    prior = vae.state_.model().prior
    draws = torch.from_numpy(posterior.sample(4000, random_state=0))
    expected = prior.log_prob(draws).mean(0).detach().numpy()
    assert_allclose(terms.expected_log_prior, expected, atol=0.15)


# --- mixtures that are fitted ---------------------------------------------------------------------


def test_a_mixture_prior_finds_the_groups_and_raises_the_score():
    X, k = clustered()
    normal, auto, mixture = (trained(prior) for prior in ("normal", "auto", "mixture"))
    assert adjusted_rand_score(k[200:], mixture.predict(X[200:])) > 0.95
    assert "prior.logits" in auto.parameters_ and "prior.logits" not in normal.parameters_
    assert auto.score(X[200:]) > normal.score(X[200:]) + 0.1
    assert mixture.score(X[200:]) > normal.score(X[200:]) + 0.3
    logits = mixture.parameters_["prior.logits"]
    assert (np.diff(np.round(np.exp(logits) / np.exp(logits).sum(), 6)) <= 0).all()
    assert not hasattr(normal, "predict") and not hasattr(auto, "predict_proba")


def test_a_mixture_that_held_out_rows_do_not_like_is_not_kept():
    X = np.random.default_rng(0).standard_normal((200, 3))
    vae = VAE(1, prior="auto", n_clusters=8, tol=0.05, **QUICK).fit(X)
    plain = VAE(1, prior="normal", tol=0.05, **QUICK).fit(X)
    same_fit(vae, plain)
    few = VAE(1, **QUICK).fit(clustered(30)[0])  # 26 train: not enough for 3 components
    assert "prior.logits" not in few.parameters_
    alone = VAE(1, prior="auto", n_clusters=2, validation_fraction=0.0, **QUICK).fit(X)
    assert "prior.logits" not in alone.parameters_  # nothing to judge it by


def test_the_number_of_components_is_what_held_out_rows_like():
    X, settings = clustered()[0], {"decoder_variance": "column", **QUICK}
    vae = VAE(2, **settings).fit(X)
    K = len(vae.parameters_["prior.logits"])
    assert K in (3, 10)  # 255 rows are too few for 30
    assert vae.score(X) > VAE(2, prior="normal", **settings).fit(X).score(X) + 0.1
    other = VAE(2, n_clusters=13 - K, **settings).fit(X)
    assert vae.baselines_["vae"] >= other.baselines_["vae"]
    single = VAE(2, **settings).fit(X.astype(np.float32))
    assert single.parameters_["prior.means"].dtype == np.float32


def test_priors_are_judged_where_training_computes(monkeypatch):
    """On a device the rows that judge are there, in the dtype of training."""
    seen, by_bound = set(), vae_inference.judge_by_bound

    def recording(*told):
        judge = by_bound(*told)

        def see(networks):
            seen.update((p.dtype, p.device) for p in networks.parameters())
            return judge(networks)

        return see

    monkeypatch.setattr(vae_inference, "judge_by_bound", recording)
    X = clustered()[0].astype(np.float32)
    vae = VAE(2, decoder_variance="column", **QUICK).fit(X)
    assert "prior.logits" in vae.parameters_
    assert seen == {(torch.float32, torch.device("cpu"))}


def test_a_prior_that_only_a_bad_encoder_likes_is_not_kept():
    """An encoder that never saw gaps: its bound rises by more than 0.2 nats, log p(x) falls."""
    X = np.array(clustered(60)[0])
    X[:, 2] = np.nan
    X[11:13, 2] = [3.0, 4.0]
    settings = {**QUICK, "max_iter": 1, "validation_fraction": 0.5, "random_state": 8}
    assert "prior.logits" not in VAE(1, **settings).fit(X).parameters_


def test_components_are_in_descending_order():
    arrays = {
        "prior.logits": np.log([0.2, 0.5, 0.3]),
        "prior.means": np.array([[0.0], [1.0], [2.0]]),
        "prior.root": np.arange(3.0)[:, None, None],
        "other": np.ones(3),
    }
    ordered = in_order(arrays)
    assert ordered["prior.means"].ravel().tolist() == [1.0, 2.0, 0.0]
    assert ordered["prior.root"].ravel().tolist() == [1.0, 2.0, 0.0]
    assert_allclose(np.exp(ordered["prior.logits"]), [0.5, 0.3, 0.2])
    assert ordered["other"] is arrays["other"]


@pytest.mark.parametrize("prior", ["mixture", "auto"])
def test_weights_are_repeats_and_units_do_not_matter(prior):
    X, _ = clustered(90)
    weight = np.random.default_rng(0).integers(1, 4, len(X))
    vae = VAE(2, prior=prior, n_clusters=2, **QUICK).fit(X, sample_weight=weight)
    same_fit(vae, VAE(2, prior=prior, n_clusters=2, **QUICK).fit(np.repeat(X, weight, axis=0)))
    other = VAE(2, prior=prior, n_clusters=2, **QUICK).fit(X * [1e3, 1e-4, 7], sample_weight=weight)
    same_fit(vae, other)


# --- objectives and posteriors --------------------------------------------------------------------

KINDS = {
    "stl": {"objective": "stl"},
    "iwae": {"objective": "iwae", "n_draws": 4},
    "full": {"encoder_covariance": "full"},
    "average": {"weight_average": 0.9},
    "warm-up": {"kl_warmup": 4},
    "free bits": {"free_bits": 0.2},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_training_climbs(kind):
    X, _ = clustered()
    settings = {"decoder_variance": "column", "hidden_layer_sizes": (16,), "random_state": 0}
    vae = VAE(2, max_iter=30, **settings, **KINDS[kind]).fit(X[:200])
    fa = EMFactorAnalysis(2).fit(X[:200])
    assert vae.score(X[200:]) > fa.score(X[200:]) + 0.1
    again = VAE(2, max_iter=30, **settings, **KINDS[kind]).fit(X[:200])
    same_fit(vae, again)


def test_options_change_the_training_and_beta_not_the_score():
    X, _ = clustered(120)
    plain = VAE(2, **QUICK).fit(X)
    for kind in KINDS.values():
        other = VAE(2, **QUICK, **kind).fit(X)
        assert not np.array_equal(
            other.parameters_["decoder.skip.weight"], plain.parameters_["decoder.skip.weight"]
        )
    loose = VAE(2, beta=0.1, **QUICK).fit(X)
    params = {k: getattr(loose, f"{k}_") for k in ("parameters", "location", "scale", "points")}
    assert_array_equal(VAE.from_parameters(**params).score_samples(X), loose.score_samples(X))


def test_a_full_posterior_survives_from_parameters_and_marginal():
    X, _ = clustered(120)
    vae = VAE(3, encoder_covariance="full", prior="mixture", n_clusters=2, **QUICK).fit(X)
    params = {k: getattr(vae, f"{k}_") for k in ("parameters", "location", "scale", "points")}
    other = VAE.from_parameters(**params)
    assert (other.encoder_covariance, other.prior) == ("full", "mixture")
    assert_array_equal(other.score_samples(X), vae.score_samples(X))
    assert_array_equal(other.predict(X), vae.predict(X))
    hidden = X.copy()
    hidden[:, 1] = np.nan
    part = vae.marginal([0, 2])
    assert_allclose(part.score_samples(X[:, [0, 2]]), vae.score_samples(hidden), rtol=1e-9)


def test_free_bits_are_for_the_evidence_lower_bound():
    with pytest.raises(ValueError, match="free_bits=1.0 needs objective='elbo'"):
        VAE(free_bits=1.0, objective="iwae", **QUICK).fit(clustered()[0])


@pytest.mark.filterwarnings("ignore")
def test_every_check_passes():
    quick = {**QUICK, "max_iter": 2}
    estimator = VAE(
        prior="mixture", n_clusters=2, encoder_covariance="full", objective="iwae", **quick
    )
    results = check_estimator(estimator, on_skip=None, on_fail=None)
    assert [(r["check_name"], r["exception"]) for r in results if r["status"] != "passed"] == []


def test_before_fit_nothing_is_known():
    vae, X = VAE(prior="mixture"), clustered()[0]
    for verb in ("predict", "predict_proba", "amortisation_gap"):
        with pytest.raises(NotFittedError):
            getattr(vae, verb)(X)
    with pytest.raises(NotFittedError):
        vae.baselines_


# --- what a fit reports ---------------------------------------------------------------------------


def test_the_terms_of_the_bound_add_up_to_the_history():
    vae = trained("normal")
    assert vae.history_terms_.shape == (vae.n_iter_ + 1, 3)
    assert_allclose(vae.history_terms_.sum(axis=1), vae.history_, rtol=1e-9)
    terms = vae.elbo(clustered()[0][:200])
    assert_allclose(vae.history_terms_[-1, 1:], [terms[1].mean(), terms[2].mean()], atol=0.2)


def test_baselines_are_held_out_log_densities_in_the_units_of_the_rows():
    X, _ = clustered()
    settings = {"validation_fraction": 0.3, "max_iter": 3, "random_state": 0}
    vae = VAE(1, **settings).fit(X)
    other = VAE(1, **settings).fit(X * [10.0, 1.0, 0.1] * 3)
    assert set(vae.baselines_) == {"vae", "factor_analysis", "gaussian_mixture"}
    fa = EMFactorAnalysis(1).fit(X)
    assert vae.baselines_["factor_analysis"] == pytest.approx(fa.score(X), abs=0.3)
    assert vae.baselines_["vae"] == pytest.approx(vae.score(X), abs=0.3)
    for name, value in vae.baselines_.items():
        assert other.baselines_[name] == pytest.approx(value - 3 * np.log(3), abs=1e-6)
    assert VAE(1, **{**settings, "validation_fraction": 0.0}).fit(X).baselines_ == {}
    coin = np.random.default_rng(0).uniform(size=(200, 8)) < 0.5
    bits = VAE(1, likelihood="bernoulli", **settings).fit(coin.astype(float))
    assert set(bits.baselines_) == {"vae", "bernoulli_mixture"}
    assert bits.baselines_["bernoulli_mixture"] == pytest.approx(-8 * np.log(2), abs=0.6)


def test_baselines_of_mixed_columns_are_mixtures_of_the_same_groups():
    rng = np.random.default_rng(0)
    t = rng.standard_normal((200, 4)) * 0.5 + 3 * rng.integers(2, size=(200, 1))
    X = np.column_stack([t[:, 0], np.exp(t[:, 1]), rng.poisson(np.exp(t[:, 2])), t[:, 3] > 1.5])
    pairs = [("gaussian", [0]), ("log_normal", [1]), ("poisson", [2]), ("bernoulli", [3])]
    vae = VAE(1, likelihood=pairs, validation_fraction=0.3, **QUICK).fit(X)
    other = VAE(1, likelihood=pairs, validation_fraction=0.3, **QUICK).fit(X * [10.0, 0.1, 1, 1])
    line = np.column_stack([X[:, 0], np.log(X[:, 1]), X[:, 2:]])
    emission = [("gaussian", [0]), ("gaussian", [1]), *pairs[2:]]
    score = Mixture(3, emission=emission, random_state=0).fit(line).score(line)
    kinds = vae.state_.likelihood
    told = TrainingRows.of(kinds.to_line(X), np.ones(200), units_of(kinds))
    found = baselines(vae.state_, told, told, rng)
    assert found["mixture"] == pytest.approx(score - np.log(X[:, 1]).mean(), abs=0.02)
    assert found["vae"] == pytest.approx(vae.score(X), abs=0.5)
    assert set(vae.baselines_) == {"vae", "mixture"}
    for name, value in vae.baselines_.items():
        assert other.baselines_[name] == pytest.approx(value, abs=1e-6)  # 10 and 1/10
    unit = VAE(1, likelihood="continuous_bernoulli", **QUICK).fit(rng.uniform(size=(60, 2)))
    assert set(unit.baselines_) == {"vae"}
    logs, plain = VAE(1, likelihood="log_normal", **QUICK), VAE(1, **QUICK)
    logs, plain = logs.fit(np.exp(t)).baselines_, plain.fit(t).baselines_
    assert logs.keys() == {"vae", "factor_analysis", "gaussian_mixture"}
    gaps = [logs[name] - plain[name] for name in plain]
    assert_allclose(gaps, gaps[0], atol=1e-6)


def test_baselines_ask_no_more_of_the_rows_than_the_vae():
    """A column that training rows lack, and a total weight below the number of components."""
    X = np.array(clustered(60)[0])
    X[:, 2] = np.nan
    X[11:13, 2] = [3.0, 4.0]
    settings = {**QUICK, "max_iter": 1, "validation_fraction": 0.5}
    fits = [VAE(1, **{**settings, "random_state": i}).fit(X) for i in range(12)]
    empty = [vae.baselines_ == {} for vae in fits]
    assert any(empty) and not all(empty)
    light = VAE(1, **settings).fit(clustered(24)[0], sample_weight=np.full(24, 0.11))
    assert np.isfinite(light.baselines_["gaussian_mixture"])


def test_a_baseline_that_wins_clearly_is_told():
    X, _ = clustered()
    settings = {"max_iter": 2, "random_state": 0, "validation_fraction": 0.3}
    with pytest.warns(UserWarning, match="gaussian_mixture is better than this VAE by [12]"):
        VAE(1, **settings).fit(X)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="on held-out rows")
        VAE(1, **settings).fit(rows(3, n=60))  # 18 rows prove nothing
        VAE(2, **settings).fit(np.random.default_rng(0).standard_normal((200, 3)))


def test_latents_that_are_used_are_counted():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 1)) @ np.ones((1, 4)) + 0.3 * rng.standard_normal((300, 4))
    vae = VAE(2, learning_rate_init=1e-30, max_iter=1, random_state=0, decoder_variance="column")
    vae.fit(X)
    module = vae.state_.model()
    q = module.encoder(torch.from_numpy((X - vae.location_) / vae.scale_))
    divergence = 0.5 * (q.mean**2 + q.variance() - 1) - q.log_sd
    assert_allclose(vae.kl_per_dimension_, divergence.mean(0), atol=0.1)
    assert vae.active_units_ == (q.mean.var(0) > 0.01).sum()
    asleep = dict(vae.state_.parameters)
    asleep["encoder.skip.weight"] = asleep["encoder.skip.weight"] * [[1.0], [1e-3]]
    state = replace(vae.state_, parameters=asleep)
    told = TrainingRows((X - vae.location_) / vae.scale_, np.ones(300), vae.location_, vae.scale_)
    assert diagnosed(encoded(state, told.X), told.weight)[0] == 1


def test_the_amortisation_gap_is_what_a_wrong_encoder_costs():
    vae = trained("normal")
    X = clustered()[0][:40]
    good = vae.amortisation_gap(X)
    broken = dict(vae.state_.parameters)
    broken["encoder.skip.bias"] = broken["encoder.skip.bias"] + 2.0
    params = {"location": vae.location_, "scale": vae.scale_, "points": vae.points_}
    bad = VAE.from_parameters(parameters=broken, decoder_variance="column", **params)
    assert good.shape == (40,) and good.min() > -0.3
    assert (bad.amortisation_gap(X) > good + 1).all()


def test_a_model_that_no_fit_made_knows_of_no_training():
    vae, _ = linear_mixture(n_points=64)
    for name in ("baselines_", "history_terms_", "active_units_", "kl_per_dimension_"):
        with pytest.raises(AttributeError, match="only a VAE that fit has trained"):
            getattr(vae, name)
