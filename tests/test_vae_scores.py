"""What a VAE says of single rows: errors of scores, bounds that rise, regret."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError

from sklvm import VAE, DensityOutlierDetector, EMFactorAnalysis
from sklvm.networks.importance import matched, normal_points
from sklvm.networks.posteriors import POSTERIORS
from sklvm.networks.refinement import lower_bound
from tests.networks._small import random_model, random_rows

pytestmark = pytest.mark.filterwarnings("ignore:VAE did not converge", "ignore:on held-out rows")


@cache
def bent(n=160, seed=0):
    """A parabola with noise and some gaps: (n, 3); row 0 is empty."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(-2, 2, n)
    X = np.column_stack([t, t**2, rng.standard_normal(n)]) + 0.15 * rng.standard_normal((n, 3))
    X[rng.uniform(size=X.shape) < 0.1] = np.nan
    X[0] = np.nan
    X.flags.writeable = False
    return X


@cache
def fitted(covariance="diagonal"):
    settings = {"hidden_layer_sizes": (16,), "max_iter": 60, "random_state": 0}
    settings["prior"] = "normal"
    return VAE(2, encoder_covariance=covariance, **settings).fit(bent()[1:])


def with_points(vae, n, seed):
    params = {k: getattr(vae, f"{k}_") for k in ("parameters", "location", "scale")}
    points = normal_points(n, vae.n_components, np.random.default_rng(seed))
    return VAE.from_parameters(**params, points=points)


@cache
def linear():
    """A linear VAE of factor analysis, its encoder's covariance full, and the rows."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 2)) @ rng.standard_normal((2, 5)) + 0.6 * rng.standard_normal(
        (200, 5)
    )
    still = {"learning_rate_init": 1e-30, "max_iter": 1, "validation_fraction": 0.0}
    vae = VAE(2, decoder_variance="column", encoder_covariance="full", random_state=0, **still)
    return vae.fit(X), X


def broken(vae, shift, log_sd=0.0):
    """The same density beside an encoder that is wrong by so much."""
    parameters = dict(vae.parameters_)
    parameters["encoder.skip.bias"] = parameters["encoder.skip.bias"] + shift
    parameters["encoder.log_sd"] = parameters["encoder.log_sd"] + log_sd
    params = {k: getattr(vae, f"{k}_") for k in ("location", "scale", "points")}
    return VAE.from_parameters(
        parameters=parameters, decoder_variance=vae.decoder_variance, **params
    )


# --- diagnostics ----------------------------------------------------------------------------------


def test_diagnostics_change_no_score():
    vae, X = fitted(), bent()
    scores, told = vae.score_samples(X, return_diagnostics=True)
    assert_array_equal(scores, vae.score_samples(X))
    assert told._fields == ("standard_error", "effective_sample_size", "pareto_k")
    assert all(values.shape == scores.shape for values in told)
    assert scores[0] == 0 and told.standard_error[0] == 0
    assert (told.effective_sample_size >= 1).all()
    assert (told.effective_sample_size <= vae.n_importance_samples).all()
    assert (told.pareto_k < 0.7).mean() > 0.95


def test_the_standard_error_is_that_of_independent_points():
    """Over independent sets of normal points scores spread by what one set says."""
    vae, X, rng = fitted(), bent()[1:30], np.random.default_rng(0)
    states = [replace(vae.state_, points=rng.standard_normal((400, 2))) for _ in range(40)]
    told = np.array([state.diagnosed_log_prob(X) for state in states])
    spread, said = told[:, :, 0].std(axis=0, ddof=1), told[:, :, 1].mean(axis=0)
    assert 0.7 < np.median(spread / said) < 1.2


def test_quasi_random_points_do_better_than_the_standard_error_says():
    vae, X = fitted(), bent()[1:40]
    exact = with_points(vae, 8192, 5).score_samples(X)
    scores, told = vae.score_samples(X, return_diagnostics=True)
    assert (np.abs(scores - exact) < 3 * told.standard_error + 1e-3).all()


def test_where_the_posterior_is_gaussian_there_is_no_error():
    vae, X = linear()
    told = vae.score_samples(X, return_diagnostics=True)[1]
    assert told.standard_error.max() < 1e-9
    assert (told.effective_sample_size > 0.5 * vae.n_importance_samples).all()
    assert (told.pareto_k < 0.5).all()


def test_a_row_has_its_own_diagnostics():
    vae, X = fitted(), bent()
    whole = vae.score_samples(X, return_diagnostics=True)[1]
    alone = vae.score_samples(X[7:8], return_diagnostics=True)[1]
    many = vae.score_samples(np.tile(X, (5, 1)), return_diagnostics=True)[1]
    for all_rows, one, tiled in zip(whole, alone, many, strict=True):
        assert_allclose(one, all_rows[7:8], rtol=1e-6)
        assert_allclose(tiled[-len(X) :], all_rows, rtol=1e-6, atol=1e-12)


# --- bounds that rise -----------------------------------------------------------------------------


@pytest.mark.parametrize("family", POSTERIORS)
def test_a_step_is_the_gradient_of_the_bound_by_differences(family):
    """Natural: of each coordinate the slope over the Fisher information 1, 2, 1."""
    model = random_model(posterior=family).requires_grad_(False)
    x, noise = (
        random_rows(),
        matched(torch.from_numpy(np.random.default_rng(0).normal(size=(64, 2)))),
    )
    noise, q, ones = noise[:, None], model.encoder(x), torch.ones(6, dtype=torch.float64)
    slope = torch.func.grad(lambda z: model.log_joint(x, z).sum())(q.at(noise))
    step, h = q.ascent(slope, noise), 1e-5
    for place, information in enumerate([1.0, 2.0, 1.0]):
        for j in range(step[place].shape[1]):
            along = [torch.zeros_like(part) for part in step]
            along[place][:, j] = 1.0
            ends = [q.moved(type(step)(*along), s * h * ones) for s in (1, -1)]
            up, down = (lower_bound(model, x, end, noise) for end in ends)
            assert_allclose(step[place][:, j], (up - down) / (2 * h) / information, atol=1e-6)
    rise = lower_bound(model, x, q.moved(step, h * ones), noise)
    fall = lower_bound(model, x, q.moved(step, -h * ones), noise)
    assert_allclose((rise - fall) / (2 * h), step.squared_slope(), rtol=1e-5)


@pytest.mark.parametrize("covariance", POSTERIORS)
def test_bounds_never_fall_and_end_near_the_score(covariance):
    vae, X = fitted(covariance), bent()
    bounds = vae.tighten(X, 12)
    assert bounds.shape == (13, len(X))
    assert (np.diff(bounds, axis=0) >= 0).all()
    gap = vae.score_samples(X) - bounds
    assert gap[-1].min() > -0.05 and gap[-1].mean() < 0.7 * gap[0].mean()
    assert_array_equal(vae.tighten(X, 4), bounds[:5])
    if covariance == "full":
        assert (bounds[-1] > sum(vae.elbo(X)[:3]) - 0.01).all()


def test_bounds_of_a_linear_decoder_end_at_log_p():
    """From a bad encoder too, whose distance and width are wrong."""
    vae, X = linear()
    exact = EMFactorAnalysis(2).fit(X).score_samples(X[:60])
    for wrong in (broken(vae, 3.0, -2.0), broken(vae, -1.0, 1.5)):
        bounds = wrong.tighten(X[:60], 25)
        assert (np.diff(bounds, axis=0) >= 0).all()
        assert (bounds[0] < exact - 0.5).all()
        assert_allclose(bounds[-1], exact, atol=1e-5)


def test_the_first_bound_is_the_encoders():
    vae, X = fitted(), bent()[:30]
    own = sum(vae.elbo(X)[:3])
    assert_allclose(vae.tighten(X, 0)[0], own - vae.amortisation_gap(X), atol=1e-9)


def test_units_move_bounds_by_the_jacobian_and_regret_not_at_all():
    X, unit = bent()[1:], np.array([10.0, 0.1, 4.0])
    settings = {"max_iter": 5, "n_importance_samples": 32, "random_state": 0}
    vae, other = VAE(1, **settings).fit(X), VAE(1, **settings).fit(X * unit)
    moved = vae.tighten(X, 3) - ~np.isnan(X) @ np.log(unit)
    assert_allclose(other.tighten(X * unit, 3), moved, atol=1e-6)
    assert_allclose(other.regret(X * unit), vae.regret(X), atol=1e-6)


@pytest.mark.parametrize("n_steps", [-1, 1.5, "3"])
def test_steps_are_counted_in_whole_numbers(n_steps):
    with pytest.raises(ValueError, match="n_steps must be a whole number from 0, got"):
        fitted().tighten(bent(), n_steps)


# --- regret ---------------------------------------------------------------------------------------


def test_regret_is_the_gap_between_score_and_first_bound():
    vae, X = fitted(), bent()
    regret = vae.regret(X)
    assert_allclose(regret, vae.score_samples(X) - vae.tighten(X, 0)[0], rtol=1e-9)
    assert regret.min() > -0.05
    exact, rows = linear()
    assert np.abs(exact.regret(rows)).max() < 1e-4
    assert (broken(exact, 2.0).regret(rows) > 1).all()


def test_outliers_by_regret():
    vae = VAE(2, hidden_layer_sizes=(16,), max_iter=30, random_state=0)
    X = bent()[1:]
    detector = DensityOutlierDetector(vae, statistic="regret", cv=2, random_state=0).fit(X)
    assert_array_equal(detector.score_samples(X), -detector.estimator_.regret(X))
    assert (detector.predict(X) == -1).sum() == 15
    odd = np.array([[5.0, -5.0, 0.0]])
    assert detector.predict(odd) == -1 and detector.pvalue(odd) < 0.02


def test_before_fit_there_is_nothing_to_tell():
    for verb in ("tighten", "regret"):
        with pytest.raises(NotFittedError):
            getattr(VAE(), verb)(bent())
