"""The restricted Boltzmann machine: every number by counting all states, then the training."""

import itertools
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import quad
from scipy.optimize import check_grad
from scipy.special import expit, logsumexp
from scipy.stats import chi2, multivariate_normal
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.utils.estimator_checks import check_estimator

from sklvm import RBM
from sklvm.inference.contrastive import Bits, Contrast, Normals, Weights
from sklvm.numerics.binary import binary_blocks, bit_entropy, softplus
from sklvm.rbm_fit import (
    BernoulliColumns,
    GaussianColumns,
    Layout,
    exact_objective,
    model_statistics,
    statistics,
)
from sklvm.rbm_sums import AnnealedSum, Annealing, HiddenSum, VisibleSum, nothing_seen
from tests._models import rows

RNG = np.random.default_rng


def states(n):
    return np.array(list(itertools.product([0.0, 1.0], repeat=n)))


def parameters(d=4, q=3, seed=0, scale=1.5):
    rng = RNG(seed)
    return {
        "components": scale * rng.standard_normal((q, d)),
        "intercept_visible": rng.standard_normal(d),
        "intercept_hidden": rng.standard_normal(q),
    }


def bits(d=4, q=3, seed=0, scale=1.5):
    return RBM.from_parameters(**parameters(d, q, seed, scale))


def gaussian(d=2, q=3, seed=0):
    variance = RNG(seed + 100).uniform(0.3, 2, d)
    return RBM.from_parameters(**parameters(d, q, seed), noise_variance=variance)


def table(model):
    """log p(v, h) of a machine of bits, by hand: states of v, of h, (2^d, 2^q)."""
    W, b, c = model.components_, model.intercept_visible_, model.intercept_hidden_
    V, H = states(W.shape[1]), states(W.shape[0])
    log_p = (V @ b)[:, None] + H @ c + V @ W.T @ H.T
    return V, H, log_p - logsumexp(log_p)


def mixture(model):
    """A machine of Gaussian columns as a mixture of 2^q Gaussians: H, log weights, means."""
    W, b, c = model.components_, model.intercept_visible_, model.intercept_hidden_
    H = states(len(c))
    log_w = H @ c + 0.5 * ((H @ W) ** 2 / model.noise_variance_).sum(axis=1)
    return H, log_w - logsumexp(log_w), b + H @ W


def annealed(model, **settings):
    """The same machine, its sums estimated."""
    known = {
        "components": model.components_,
        "intercept_visible": model.intercept_visible_,
        "intercept_hidden": model.intercept_hidden_,
    }
    q, d = model.components_.shape
    chains = {
        "b0": model.run_.state.machine.visible_input(np.full(q, 0.5)),
        "c0": np.zeros(q),
        "particles": states(q),
        **{"n_chains": 200, "n_steps": 300, "seed": 1},
        **settings,
    }
    machine = model.run_.state.machine
    other = RBM.from_parameters(**known, noise_variance=model.noise_variance_)
    state = replace(model.run_.state, sums=AnnealedSum(machine, Annealing(**chains)))
    other.run_ = other.run_._replace(state=state)
    return other


# --- all states counted -----------------------------------------------------------------------


def test_binary_helpers():
    for q in (1, 3, 5):
        assert_array_equal(np.concatenate(list(binary_blocks(q, size=4))), states(q))
    a = np.array([-800.0, -40.0, -1.0, 0.0, 2.0, 800.0])
    assert_allclose(softplus(a), np.logaddexp(0, a), rtol=1e-14)
    p = expit(a[2:5])
    assert_allclose(bit_entropy(a[2:5]), -p * np.log(p) - (1 - p) * np.log1p(-p), rtol=1e-12)
    assert_allclose(bit_entropy(a[[0, 5]]), 0, atol=1e-300)


@pytest.mark.parametrize(("d", "q"), [(4, 3), (3, 5), (1, 1), (2, 13)])
def test_the_score_is_the_sum_over_hidden_states(d, q):
    model = bits(d, q)
    V, _, log_p = table(model)
    assert_allclose(model.score_samples(V), logsumexp(log_p, axis=1), rtol=1e-10, atol=1e-12)
    assert model.score_kind_ == "exact" and model.log_partition_stderr_ == 0
    assert list(model.base_measure_) == ["counting"] * d


def test_conditionals_by_counting():
    model = bits()
    V, H, log_p = table(model)
    given_v = np.exp(log_p - logsumexp(log_p, axis=1, keepdims=True))
    given_h = np.exp(log_p - logsumexp(log_p, axis=0))
    assert_allclose(model.transform(V), given_v @ H, rtol=1e-10)
    assert_allclose(model.inverse_transform(H), given_h.T @ V, rtol=1e-10)
    log_q = np.column_stack([model.posterior(V).log_prob(np.tile(h, (len(V), 1))) for h in H])
    assert_allclose(np.exp(log_q), given_v, rtol=1e-10)


@pytest.mark.parametrize("q", [3, 13, 22])
def test_missing_bits_are_summed_out(q):
    """13 hidden bits are two blocks of states; with 22 the visible layer is counted instead."""
    model = bits(4, q, scale=0.4)
    sums = model.run_.state.sums
    assert isinstance(sums, VisibleSum if q == 22 else HiddenSum)
    V = states(4)
    p = np.exp(model.score_samples(V))
    assert p.sum() == pytest.approx(1, abs=1e-10)
    for row in ([1, np.nan, 0, np.nan], [np.nan, 1, 1, 0], [np.nan] * 3 + [1]):
        seen = ~np.isnan(row)
        fits = (V[:, seen] == np.array(row)[seen]).all(axis=1)
        assert model.score_samples([row])[0] == pytest.approx(np.log(p[fits].sum()), abs=1e-10)
        share = p[fits] / p[fits].sum()
        assert_allclose(model.impute([row])[0], share @ V[fits], rtol=1e-9)
        assert_allclose(model.transform([row])[0], share @ model.transform(V[fits]), rtol=1e-9)
        mode = model.impute([row], how="mode")[0]
        assert_array_equal(mode, V[fits][share.argmax()])
        draws = model.impute([row], how="sample", n_draws=1500, random_state=0)[:, 0]
        frequency = (draws[:, None] == V[fits]).all(axis=2).mean(axis=0)
        assert_allclose(frequency, share, atol=5 * 0.5 / np.sqrt(1500))
    assert model.score_samples([[np.nan] * 4])[0] == 0


def test_answers_of_the_posterior_with_missing_entries():
    model = bits()
    V, H, log_p = table(model)
    row = np.array([[1, np.nan, np.nan, 0]])
    fits = (V[:, 0] == 1) & (V[:, 3] == 0)
    log_q = logsumexp(log_p[fits], axis=0) - logsumexp(log_p[fits])
    prior = logsumexp(log_p, axis=0)
    q, posterior = np.exp(log_q), model.posterior(row)
    assert_allclose([posterior.log_prob(h[None])[0] for h in H], log_q, rtol=1e-9)
    assert posterior.entropy()[0] == pytest.approx(-q @ log_q)
    assert posterior.kl_to_prior()[0] == pytest.approx(q @ (log_q - prior))
    draws = posterior.sample(4000, random_state=0)[:, 0]
    frequency = (draws[:, None] == H).all(axis=2).mean(axis=0)
    assert_allclose(frequency, q, atol=5 * 0.5 / np.sqrt(4000))
    terms = model.elbo(row)
    assert sum(terms[:3])[0] == pytest.approx(model.score_samples(row)[0], abs=1e-10)
    assert terms.expected_log_prior[0] == pytest.approx(q @ prior)


@pytest.mark.parametrize("d", [2, 3])
def test_gaussian_columns_are_a_mixture_of_gaussians(d):
    model = gaussian(d)
    H, log_w, means = mixture(model)
    X = 3 * RNG(1).standard_normal((40, d))
    S = np.diag(model.noise_variance_)
    joint = log_w + np.column_stack([multivariate_normal(m, S).logpdf(X) for m in means])
    assert_allclose(model.score_samples(X), logsumexp(joint, axis=1), rtol=1e-9, atol=1e-9)
    share = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    assert_allclose(model.transform(X), share @ H, rtol=1e-8, atol=1e-10)
    gap = X.copy()
    gap[:, 0] = np.nan
    S = S[1:, 1:]
    joint = log_w + np.column_stack(
        [np.atleast_1d(multivariate_normal(m[1:], S).logpdf(X[:, 1:])) for m in means]
    )
    assert_allclose(model.score_samples(gap), logsumexp(joint, axis=1), rtol=1e-9, atol=1e-9)
    share = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    assert_allclose(model.impute(gap)[:, 0], share @ means[:, 0], rtol=1e-9)
    assert list(model.base_measure_) == ["lebesgue"] * d


def test_a_gaussian_density_integrates_to_one():
    model = gaussian(1)
    total, _ = quad(lambda x: np.exp(model.score_samples([[x]])[0]), -30, 30, limit=200)
    assert total == pytest.approx(1, abs=1e-8)


def test_no_weights_no_dependence():
    known = parameters()
    model = RBM.from_parameters(**{**known, "components": np.zeros((3, 4))})
    b, c, V = known["intercept_visible"], known["intercept_hidden"], states(4)
    assert model.log_partition_ == pytest.approx(softplus(b).sum() + softplus(c).sum())
    assert_allclose(model.score_samples(V), V @ b - softplus(b).sum(), rtol=1e-12)
    assert_allclose(model.transform(V), np.tile(expit(c), (16, 1)), rtol=1e-12)


def test_flipping_a_hidden_bit_changes_nothing():
    known = parameters()
    W, b, c = known["components"], known["intercept_visible"], known["intercept_hidden"]
    flipped = RBM.from_parameters(
        components=W * [[-1], [1], [1]],
        intercept_visible=b + W[0],
        intercept_hidden=c * [-1, 1, 1],
    )
    assert_allclose(flipped.score_samples(states(4)), bits().score_samples(states(4)), rtol=1e-10)


def test_the_layers_may_change_places():
    machine = bits(4, 3).run_.state.machine
    assert machine.transposed().transposed().W is not None
    there, here = HiddenSum(machine.transposed()), HiddenSum(machine)
    assert there.log_partition()[0] == pytest.approx(here.log_partition()[0], abs=1e-10)
    with pytest.raises(ValueError, match="bits above and below"):
        gaussian().run_.state.machine.transposed()


def test_pseudo_likelihood_by_its_definition():
    model, V = bits(), states(4)
    log_p = model.score_samples(V)
    expected = np.zeros(16)
    for j in range(4):
        other = np.where(np.arange(4) == j, 1 - V, V)
        expected += log_p - np.logaddexp(log_p, model.score_samples(other))
    assert_allclose(model.pseudo_likelihood(V), expected, rtol=1e-10)
    with pytest.raises(ValueError, match="without NaN"):
        model.pseudo_likelihood([[np.nan, 1, 1, 1]])
    assert not hasattr(gaussian(), "pseudo_likelihood")


# --- draws and estimates ----------------------------------------------------------------------


def chi_square(frequency, p, n):
    expected = n * p
    return chi2.sf(((frequency - expected) ** 2 / expected).sum(), len(p) - 1)


def test_gibbs_frequencies_match_the_probabilities():
    model = bits()
    machine, n = model.run_.state.machine, 20000
    h = (RNG(0).random((n, 3)) < 0.5) * 1.0
    V, _ = machine.gibbs(nothing_seen(machine, n), h, RNG(1), 60)
    numbers = (V @ [8, 4, 2, 1]).astype(int)
    p = np.exp(model.score_samples(states(4)))
    assert chi_square(np.bincount(numbers, minlength=16), p, n) > 0.01
    assert chi_square(np.bincount(numbers, minlength=16), np.roll(p, 1), n) < 1e-6


@pytest.mark.parametrize("q", [3, 21])
def test_samples_match_the_joint(q):
    model = bits(q=q, scale=0.8 if q == 3 else 0.3)
    V, H = model.sample(20000, random_state=2)
    p = np.exp(model.score_samples(states(4)))
    numbers = (V @ [8, 4, 2, 1]).astype(int)
    assert chi_square(np.bincount(numbers, minlength=16), p, 20000) > 0.01
    gap = H - model.transform(V)
    assert (np.abs(gap.mean(axis=0)) < 5 * gap.std(axis=0) / np.sqrt(20000)).all()
    assert (np.abs((gap * V[:, :1]).mean(axis=0)) < 5 * 0.5 / np.sqrt(20000)).all()


def test_samples_of_chains_match_the_joint():
    model = bits()
    V, H = annealed(model).sample(20000, random_state=2, n_steps=60)
    numbers = (V @ [8, 4, 2, 1]).astype(int)
    p = np.exp(model.score_samples(states(4)))
    assert chi_square(np.bincount(numbers, minlength=16), p, 20000) > 0.01
    gap = H - model.transform(V)
    assert (np.abs(gap.mean(axis=0)) < 5 * gap.std(axis=0) / np.sqrt(20000)).all()
    few, _ = annealed(model, particles=np.zeros((1, 3))).sample(20000, random_state=2, n_steps=1)
    numbers = (few @ [8, 4, 2, 1]).astype(int)
    assert chi_square(np.bincount(numbers, minlength=16), p, 20000) < 1e-6  # one step is too short


@pytest.mark.parametrize("make", [bits, gaussian])
def test_annealing_finds_log_z_within_its_error(make):
    model = make(6, 5) if make is bits else make(3, 5)
    estimate = annealed(model)
    gap = estimate.log_partition_ - model.log_partition_
    assert 0 < estimate.log_partition_stderr_ < 0.1
    assert abs(gap) < 3 * estimate.log_partition_stderr_
    assert estimate.score_kind_ == "estimate"


@pytest.mark.parametrize("make", [bits, gaussian])
def test_annealed_answers_are_near_the_exact_ones(make):
    model = make(6, 5, scale=0.8) if make is bits else make(3, 4)
    estimate = annealed(model, n_steps=400)
    X, _ = model.sample(8, random_state=0)
    X[::2, 0] = np.nan
    X[1::3, 2] = np.nan
    X[3] = np.nan
    scores = estimate.score_samples(X)
    assert_allclose(scores, model.score_samples(X), atol=0.1)
    assert scores[3] == 0
    assert_allclose(estimate.transform(X), model.transform(X), atol=0.15)
    spread = 1.0 if make is bits else np.abs(model.components_).max()
    assert_allclose(estimate.impute(X), model.impute(X), atol=0.25 * spread)
    assert_allclose(estimate.posterior(X).entropy(), model.posterior(X).entropy(), atol=0.3)
    assert_allclose(estimate.posterior(X).kl_to_prior(), model.posterior(X).kl_to_prior(), atol=0.3)
    alone = np.concatenate([estimate.score_samples(row[None]) for row in X])
    assert_allclose(alone, scores, rtol=1e-9)  # the noise is that of all rows
    assert_array_equal(estimate.impute(X)[~np.isnan(X)], X[~np.isnan(X)])
    draws = estimate.impute(X, how="sample", n_draws=200, random_state=0)
    assert_allclose(draws.mean(axis=0), model.impute(X), atol=0.2 * spread)


@pytest.mark.parametrize("make", [bits, gaussian])
def test_annealing_backwards_bounds_the_score(make):
    model = make(6, 5) if make is bits else make(3, 5)
    X, _ = model.sample(20, random_state=0)
    exact = model.score_samples(X)
    assert_array_equal(model.score_lower_bound(X), exact)
    coarse, fine = (
        annealed(model, n_chains=20, n_steps=n).score_lower_bound(X) - exact for n in (3, 300)
    )
    assert coarse.mean() < fine.mean() - 0.05
    assert -0.1 < fine.mean() < 0.03
    with pytest.raises(ValueError, match="score_lower_bound needs rows without NaN"):
        model.score_lower_bound(np.full((1, X.shape[1]), np.nan))


# --- gradients --------------------------------------------------------------------------------


def weights_of(columns, d, q, seed=3):
    rng = RNG(seed)
    log_variance = rng.uniform(-0.5, 0.3, d if isinstance(columns, GaussianColumns) else 0)
    W = 0.6 * rng.normal(size=(q, d))
    return Weights(0.5 * rng.normal(size=d), rng.normal(size=q), W, log_variance)


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("columns", [BernoulliColumns(None), GaussianColumns(0.1)])
def test_the_exact_slope_is_the_slope(columns, holes):
    d, q, rng = 4, 3, RNG(5)
    X = (rng.random((30, d)) < 0.4) * 1.0 if columns == BernoulliColumns(None) else None
    X = rng.standard_normal((30, d)) if X is None else X
    if holes:
        X[rng.random(X.shape) < 0.3] = np.nan
        X = X[~np.isnan(X).all(axis=1)]
    share = rng.uniform(size=len(X))
    layout = Layout(d, q, isinstance(columns, GaussianColumns))
    objective = exact_objective(columns, layout, X, share / share.sum(), 0.3)
    vector = layout.pack(weights_of(columns, d, q))
    error = check_grad(lambda x: objective(x)[0], lambda x: objective(x)[1], vector)
    assert error < 1e-5
    assert np.linalg.norm(objective(vector)[1]) > 0.1


@pytest.mark.parametrize(("d", "q"), [(3, 5), (5, 3)])
def test_model_statistics_count_either_layer(d, q):
    columns = BernoulliColumns(None)
    machine = columns.plain(weights_of(columns, d, q))
    counted = HiddenSum(machine).statistics(nothing_seen(machine), np.ones(1))
    for a, b in zip(model_statistics(machine), counted):
        assert_allclose(a, b, rtol=1e-10)


@pytest.mark.parametrize(("n_steps", "calls"), [(40, 1), (1, 40)])
@pytest.mark.parametrize("columns", [BernoulliColumns(None), GaussianColumns(0.1)])
def test_the_stochastic_slope_tends_to_the_exact_one(columns, n_steps, calls):
    """Centring moves the biases with the weights; put back, it is the slope of the likelihood."""
    d, q, rng = 4, 3, RNG(0)
    weights = weights_of(columns, d, q)
    if isinstance(columns, GaussianColumns):
        X = rng.standard_normal((200, d)).astype(np.float32)
    else:
        X = (rng.random((200, d)) < 0.4).astype(np.float32)
    contrast = Contrast(
        columns.sampler(RNG(1)),
        weights,
        X,
        np.ones(200),
        batch_size=200,
        n_chains=40000,
        n_steps=n_steps,
        persistent=True,
        rng=rng,
    )
    for _ in range(calls):
        slopes, variance = contrast.slopes(np.arange(200))
    machine = columns.plain(weights)
    exact = statistics(machine, X.astype(float), np.full(200, 1 / 200)) - model_statistics(machine)
    scale = np.exp(weights.log_variance) if isinstance(columns, GaussianColumns) else 1.0
    mu, lam = contrast.visible_mean, contrast.hidden_mean
    plain_b = scale * exact.b
    centred = scale * exact.W - np.outer(exact.c, mu) - np.outer(lam, plain_b)
    assert_allclose(slopes.W, centred, atol=0.03)
    assert_allclose(slopes.b, plain_b - lam @ centred, atol=0.03)
    assert_allclose(slopes.c, exact.c - centred @ mu, atol=0.03)
    if isinstance(columns, GaussianColumns):
        assert_allclose(variance, exact.log_variance, atol=0.05)


def test_bits_are_drawn_with_their_probabilities():
    a = np.repeat(np.float32([-3, 0, 1.5]), 40000)
    out = np.empty_like(a)
    Bits(RNG(0)).draw(a, out)
    assert_allclose(out.reshape(3, -1).mean(axis=1), expit([-3, 0, 1.5]), atol=5 * 0.5 / 200)


@pytest.mark.parametrize("kind", ["bits", "normals"])
def test_free_energies_are_those_of_the_machine(kind):
    columns = BernoulliColumns(None) if kind == "bits" else GaussianColumns(0.1)
    sampler = Bits(RNG(0)) if kind == "bits" else Normals(RNG(0), -4.0)
    weights = weights_of(columns, 4, 3)
    X = states(4)
    machine = columns.plain(weights)
    there = machine.log_unnormalised(machine.seen(X)) + sampler.free_energy(X, weights)
    assert_allclose(there, there[0], rtol=1e-6)


# --- batch by batch ---------------------------------------------------------------------------


def test_a_stream_learns_what_a_fit_learns():
    cause = RNG(0).random((2000, 1)) < 0.5
    X = (RNG(1).random((2000, 5)) < np.where(cause, 0.9, 0.1)) * 1.0
    model = RBM(1, random_state=0, n_updates=200, batch_size=25, learning_rate_init=0.5)
    for _ in range(10):
        for batch in np.array_split(X, 8):
            model.partial_fit(batch)
    assert model.n_samples_seen_ == 20000 and model.n_iter_ == 80
    best = RBM(1, random_state=0).fit(X).score(X)
    assert best - 0.02 < model.score(X) < best
    before = model.score(X)
    model.set_params(n_chains=30).partial_fit(X)  # other chains are fine
    assert abs(model.score(X) - before) < 0.02
    with pytest.raises(ValueError, match="goes on with 1 hidden bits.*now 2"):
        model.set_params(n_components=2).partial_fit(X)
    with pytest.raises(ValueError, match="0 or 1"):
        model.set_params(n_components=1).partial_fit(2 * X)


def test_a_stream_goes_on_from_a_fit():
    X = rows(3)
    model = RBM(2, random_state=0).fit(X)
    before = model.score(X)
    model.partial_fit(X)
    assert 0 < abs(model.score(X) - before) < 0.1
    assert model.n_samples_seen_ == 120
    known = gaussian(3).set_params(random_state=0)
    assert np.isfinite(known.partial_fit(X).score(X))


# --- training ---------------------------------------------------------------------------------


def bars_and_stripes(size=3):
    lines = states(size)
    both = [np.repeat(lines, size, axis=1), np.tile(lines, (1, size))]
    return np.unique(np.concatenate(both), axis=0)


def test_the_exact_solver_climbs_to_a_stationary_point():
    X = (RNG(0).random((60, 4)) < [0.2, 0.5, 0.6, 0.7]) * 1.0
    model = RBM(2, tol=1e-12, random_state=0, weight_prior=0.5).fit(X)
    assert (np.diff(model.history_) > -1e-12).all() and model.converged_
    columns, layout = BernoulliColumns(None), Layout(4, 2, False)
    weights = columns.standardise(model.state_.machine, 0.0, 1.0)
    objective = exact_objective(columns, layout, X, np.full(60, 1 / 60), 0.5 / 60)
    value, slope = objective(layout.pack(weights))
    assert value == pytest.approx(model.history_[-1])
    assert np.abs(slope).max() < 1e-4


@pytest.mark.parametrize("solver", ["persistent", "contrastive"])
def test_stochastic_training_learns_bars_and_stripes(solver):
    X = bars_and_stripes()
    model = RBM(8, solver=solver, random_state=0, n_updates=3000).fit(X)
    uniform, best = -9 * np.log(2), -np.log(len(X))
    assert model.score(X) > best - 1.0 > uniform + 2.5
    assert model.n_iter_ == 3000 and model.converged_
    assert len(model.history_) == 3001


def test_persistent_chains_come_near_the_exact_solver():
    X = rows(3)
    exact = RBM(2, random_state=0).fit(X)
    model = RBM(2, solver="persistent", learning_rate_init=0.1, random_state=0).fit(X)
    assert exact.score(X) - 0.3 < model.score(X) < exact.score(X) + 1e-6
    assert model.score_kind_ == "exact"


@pytest.mark.parametrize("data", ["bits", "gaussian"])
def test_stochastic_training_keeps_the_laws_of_rows(data):
    """Weights are counts, order and units change nothing, to rounding."""
    X = np.array(rows(3, True) if data == "gaussian" else bars_and_stripes(), dtype=float)
    X[1:9, 1] = np.nan
    model = RBM(3, solver="persistent", n_updates=60, random_state=0)
    weight = RNG(2).integers(0, 4, len(X))
    order = RNG(1).permutation(len(X))
    weighted = clone(model).fit(X[order], sample_weight=weight[order])
    repeated = clone(model).fit(np.repeat(X, weight, axis=0))
    assert_array_equal(weighted.score_samples(X), repeated.score_samples(X))
    assert not np.array_equal(weighted.score_samples(X), clone(model).fit(X).score_samples(X))
    if data == "gaussian":
        scale, shift = np.array([30.0, 1e-3, 7.0]), np.array([5.0, -2.0, 0.1])
        moved = clone(model).fit(X * scale + shift).score_samples(X * scale + shift)
        moved = moved + ~np.isnan(X) @ np.log(scale)
        assert_allclose(moved, clone(model).fit(X).score_samples(X), rtol=1e-9)


def test_a_stochastic_fit_is_watched_and_interrupted(monkeypatch, capsys):
    X = bars_and_stripes()
    settings = {"solver": "persistent", "n_updates": 30, "max_iter": 5, "random_state": 0}
    plain = RBM(3, **settings).fit(X)
    loud = RBM(3, **settings, verbose=1).set_callbacks(ProgressBar()).fit(X)
    assert_array_equal(loud.score_samples(X), plain.score_samples(X))
    assert "RBM iteration 30: " in capsys.readouterr().out
    step, calls = Contrast.step, []

    def stop(self, *args):
        calls.append(1)
        if len(calls) > 12:
            raise KeyboardInterrupt
        step(self, *args)

    monkeypatch.setattr(Contrast, "step", stop)
    model = RBM(3, **settings)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X)
    assert model.n_iter_ == 12 and not model.converged_ and len(model.history_) == 13
    assert np.isfinite(model.score_samples(X)).all()


def test_missing_entries_help_stochastic_training():
    """Rows with gaps tell of the columns that they show."""
    rng = RNG(0)
    cause = rng.random((400, 1)) < 0.5
    X = (rng.random((400, 4)) < np.where(cause, 0.9, 0.1)) * 1.0
    X[300:, 2:] = np.nan
    model = RBM(1, solver="persistent", random_state=0, n_updates=4000).fit(X)
    exact = RBM(1, random_state=0).fit(X)
    assert model.score(X) > exact.score(X) - 0.02


def test_visible_auto_and_thresholds():
    X = bars_and_stripes()
    frame = pd.DataFrame(X.astype(bool))
    settings = {"n_components": 2, "max_iter": 30, "tol": 0.1, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert RBM(**settings).fit(frame).visible_ == "bernoulli"
        assert RBM(**settings).fit(X).visible_ == "bernoulli"
        assert RBM(**settings).fit(X * 2).visible_ == "gaussian"
        assert RBM(**settings, visible="gaussian").fit(X).visible_ == "gaussian"
        plain = RBM(**settings).fit(X)
    with pytest.warns(UserWarning) as caught:
        cut = RBM(**settings, visible="bernoulli").fit(X * 3 + 1)
    assert "middle of its range" in str(caught[0].message)
    assert_array_equal(cut.thresholds_, np.full(9, 2.5))
    assert_allclose(cut.score_samples(X * 3 + 1), plain.score_samples(X), rtol=1e-10)
    assert plain.thresholds_ is None and plain.noise_variance_ is None
    drawn = cut.sample(50, random_state=0)[0]
    assert_allclose(np.unique(drawn.round(9)), [1, 4])
    assert_array_equal(cut.levels_, [np.ones(9), np.full(9, 4.0)])
    assert_allclose(drawn, 3 * plain.sample(50, random_state=0)[0] + 1)
    holed = np.where(np.arange(9) == 4, np.nan, X)
    for how in ("mean", "mode", "sample"):
        filled = cut.impute(3 * holed + 1, how=how, random_state=0)
        assert_allclose(filled, 3 * plain.impute(holed, how=how, random_state=0) + 1)
    with pytest.raises(ValueError, match=r"0 or 1.*got 2 \(columns \[0"):
        plain.score_samples(X * 2)
    with pytest.raises(ValueError, match="OneHotEncoder"):
        RBM().fit(pd.DataFrame({"a": pd.Categorical([1, 2, 1]), "b": [1.0, 2.0, 3.0]}))


def test_what_it_refuses():
    X = RNG(0).standard_normal((30, 3))
    with pytest.raises(ValueError, match="at most 20 bits.*got 21.*persistent"):
        RBM(21, solver="exact").fit(X)
    with pytest.raises(ValueError, match="noise_variance must be positive"):
        RBM.from_parameters(**parameters(3, 2), noise_variance=[1, -1, 1])
    with pytest.raises(ValueError, match=r"intercept_hidden must be finite.*\(2,\)"):
        RBM.from_parameters(**{**parameters(3, 2), "intercept_hidden": [1.0]})
    with pytest.raises(ValueError, match="n_steps must be an integer"):
        bits().sample(3, n_steps=0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "model",
    [
        RBM(2, visible="bernoulli", random_state=0),
        RBM(3, solver="persistent", n_updates=50, random_state=0),
        RBM(22, n_updates=50, n_annealing_chains=4, n_annealing_steps=20, random_state=0),
    ],
    ids=["thresholds", "persistent", "annealed"],
)
def test_every_check_passes(model):
    results = check_estimator(model, on_skip=None, on_fail=None)
    failed = [r for r in results if r["status"] != "passed"]
    assert [(r["check_name"], r["status"], str(r["exception"])) for r in failed] == []


def test_log_partition_is_that_of_the_weights_as_they_are_shown():
    """By counting the hidden states of p(h) = exp(c'h + |W'h|^2 / 2 in units of noise) / Z."""
    X = RNG(3).standard_normal((200, 2)) @ RNG(4).standard_normal((2, 4)) + 10
    X += RNG(5).standard_normal(X.shape)
    model = RBM(3, random_state=0, max_iter=300, tol=1e-4).fit(X)
    H = np.array(list(itertools.product([0.0, 1.0], repeat=3)))
    push = H @ model.components_
    energy = H @ model.intercept_hidden_ + 0.5 * (push**2 / model.noise_variance_).sum(axis=1)
    assert model.log_partition_ == pytest.approx(logsumexp(energy), abs=1e-10)
