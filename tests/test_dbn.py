"""The deep belief network: every number by counting all states, then the training."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import quad
from scipy.optimize import check_grad
from scipy.special import expit, logsumexp
from scipy.stats import chi2, norm
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

from sklvm import RBM, DeepBeliefNetwork
from sklvm.dbn_counts import CountedStates, states
from sklvm.dbn_fit import (
    Network,
    bits,
    counted_objective,
    drawn,
    next_data,
    plain,
    transposed_start,
)
from sklvm.dbn_weights import WeighedDraws
from sklvm.inference.contrastive import Bits, DrawnContrast, Normals, Weights
from sklvm.inference.training_rows import TrainingRows
from sklvm.inference.wake_sleep import Half, WakeSleep
from sklvm.numerics.binary import softplus
from sklvm.rbm_fit import BernoulliColumns, GaussianColumns
from tests._models import rows

RNG = np.random.default_rng


def parameters(sizes, d, seed=0, scale=1.2):
    rng, below = RNG(seed), [d, *sizes]
    return {
        "components": [
            scale * rng.standard_normal((q, n)) for q, n in zip(sizes, below, strict=False)
        ],
        "intercepts": [rng.standard_normal(n) for n in below],
    }


def network(sizes=(3, 2), d=4, seed=0, **settings):
    return DeepBeliefNetwork.from_parameters(**parameters(sizes, d, seed), **settings)


def log_bits(x, a):
    return (x * a - np.logaddexp(0, a)).sum(axis=-1)


def table(model, X):
    """log p(x, h_1, ..., h_L) by hand: all hidden states side by side, (n, S)."""
    W, b = model.components_, model.intercepts_
    H = [np.array(list(itertools.product([0.0, 1.0], repeat=len(w)))) for w in W]
    top = (H[-2] @ b[-2])[:, None] + H[-1] @ b[-1] + H[-2] @ W[-1].T @ H[-1].T
    top = top - logsumexp(top)
    log_p, whole = [], []
    for places in itertools.product(*(range(len(h)) for h in H)):
        h = [a[i] for a, i in zip(H, places)]
        total = top[places[-2:]]
        for below, above, w, bias in zip(h[:-1], h[1:-1], W[1:-1], b[1:-2]):
            total = total + log_bits(below, bias + above @ w)
        a = b[0] + h[0] @ W[0]
        if model.visible_ == "gaussian":
            total = total + norm(a, np.sqrt(model.noise_variance_)).logpdf(X).sum(axis=1)
        else:
            total = total + log_bits(X, a)
        log_p.append(total)
        whole.append(np.concatenate(h))
    return np.array(whole), np.stack(log_p, axis=1)


def weighed(model, n_draws=2000, seed=0):
    """The same network, its sums estimated."""
    state, other = model.run_.state, clone(model)
    mean = state.layers[0].mean(np.full(state.layers[0].n_latents, 0.5))
    sums = WeighedDraws(state.layers, state.top, mean, n_draws, seed)
    vars(other).update(vars(model))
    other.run_ = model.run_._replace(state=replace(state, sums=sums))
    return other


def good_recognition(sizes=(3, 2), d=4, seed=0):
    """A network whose way up is near its posterior: small weights."""
    known = parameters(sizes, d, seed, scale=0.5)
    return DeepBeliefNetwork.from_parameters(**known)


# --- all states counted -----------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(3, 2), (2, 3, 2)])
def test_every_answer_by_counting(sizes):
    V = states(4)
    for shown in range(len(sizes)):
        model = network(sizes, output_layer=shown)
        H, log_p = table(model, V)
        exact = logsumexp(log_p, axis=1)
        assert_allclose(model.score_samples(V), exact, rtol=1e-10)
        assert np.exp(exact).sum() == pytest.approx(1)
        share = np.exp(log_p - exact[:, None])
        ends = np.cumsum((0, *sizes))[shown : shown + 2]
        assert_allclose(model.transform(V), share @ H[:, slice(*ends)], rtol=1e-9)
        assert model.n_components_ == sizes[shown]
        states_shown = states(sizes[shown])
        mean = []
        for h in states_shown:
            fits = (H[:, slice(*ends)] == h).all(axis=1)
            joint = np.exp(log_p[:, fits]).sum(axis=1)
            mean.append(joint @ V / joint.sum())
        assert_allclose(model.inverse_transform(states_shown), mean, rtol=1e-9)
    posterior, terms = model.posterior(V), model.elbo(V)
    found = [posterior.log_prob(np.tile(h, (16, 1))) for h in H]
    assert_allclose(np.exp(found).T, share, rtol=1e-8, atol=1e-14)
    assert_allclose(posterior.entropy(), -(share * np.log(share)).sum(axis=1), rtol=1e-9)
    prior = logsumexp(log_p, axis=0)
    assert_allclose(terms.expected_log_prior, share @ prior, rtol=1e-9)
    assert_allclose(posterior.kl_to_prior(), (share * (np.log(share) - prior)).sum(axis=1))
    assert_allclose(sum(terms[:3]), exact, rtol=1e-10)
    draws = posterior.sample(3000, random_state=0)
    assert draws.shape == (3000, 16, sum(sizes))
    assert_allclose(draws.mean(axis=0), share @ H, atol=5 * 0.5 / np.sqrt(3000))


def test_missing_bits_are_summed_out():
    model, V = network(), states(4)
    p = np.exp(model.score_samples(V))
    for row in ([1, np.nan, 0, np.nan], [np.nan, 1, 1, 0], [np.nan] * 3 + [1]):
        seen = ~np.isnan(row)
        fits = (V[:, seen] == np.array(row)[seen]).all(axis=1)
        share = p[fits] / p[fits].sum()
        assert model.score_samples([row])[0] == pytest.approx(np.log(p[fits].sum()), abs=1e-10)
        assert_allclose(model.impute([row])[0], share @ V[fits], rtol=1e-9)
        assert_allclose(model.transform([row])[0], share @ model.transform(V[fits]), rtol=1e-9)
        assert_array_equal(model.impute([row], how="mode")[0], V[fits][share.argmax()])
        draws = model.impute([row], how="sample", n_draws=1500, random_state=0)[:, 0]
        frequency = (draws[:, None] == V[fits]).all(axis=2).mean(axis=0)
        assert_allclose(frequency, share, atol=5 * 0.5 / np.sqrt(1500))


def test_gaussian_columns_are_a_mixture_of_gaussians():
    variance = np.array([0.5, 2.0])
    model = network((3, 2), 2, noise_variance=variance)
    X = 3 * RNG(1).standard_normal((30, 2))
    _, log_p = table(model, X)
    assert_allclose(model.score_samples(X), logsumexp(log_p, axis=1), rtol=1e-9)
    assert_allclose(model.noise_variance_, variance)
    one = network((2, 3), 1, noise_variance=[0.7])
    total, _ = quad(lambda x: np.exp(one.score_samples([[x]])[0]), -30, 30, limit=200)
    assert total == pytest.approx(1, abs=1e-8)
    gap = np.column_stack([X[:, :1], np.full(30, np.nan)])
    y = np.linspace(-30, 30, 6001)
    for row in (0, 3):
        line = np.column_stack([np.full(6001, X[row, 0]), y])
        mass = np.exp(model.score_samples(line)) * (y[1] - y[0])
        assert model.score_samples(gap[[row]])[0] == pytest.approx(np.log(mass.sum()), abs=1e-8)
        assert model.impute(gap[[row]])[0, 1] == pytest.approx(mass @ y / mass.sum(), abs=1e-7)


def test_samples_match_the_joint():
    model = network()
    V, H = model.sample(20000, random_state=2)
    p = np.exp(model.score_samples(states(4)))
    count = np.bincount((V @ [8, 4, 2, 1]).astype(int), minlength=16)
    assert chi2.sf(((count - 20000 * p) ** 2 / (20000 * p)).sum(), 15) > 0.01
    gap = H - model.transform(V)
    assert (np.abs(gap.mean(axis=0)) < 5 * gap.std(axis=0) / np.sqrt(20000)).all()
    assert (np.abs((gap * V[:, :1]).mean(axis=0)) < 5 * 0.5 / np.sqrt(20000)).all()


# --- reductions -------------------------------------------------------------------------------


@pytest.mark.parametrize("visible", ["bernoulli", "gaussian"])
def test_one_layer_is_an_rbm(visible):
    X = np.array(rows(3, True)) if visible == "gaussian" else bars_and_stripes()
    X[2, 1] = np.nan
    settings = {"random_state": 0, "max_iter": 60, "tol": 0.1}
    machine = RBM(3, **settings).fit(X)
    model = DeepBeliefNetwork((3,), **settings).fit(X)
    for verb in ("score_samples", "transform", "impute", "elbo"):
        for a, b in zip(getattr(model, verb)(X), getattr(machine, verb)(X)):
            assert_array_equal(a, b)
    assert_array_equal(model.sample(9, random_state=1)[0], machine.sample(9, random_state=1)[0])
    assert_array_equal(model.history_, machine.history_)
    assert_array_equal(model.intercepts_[1], machine.intercept_hidden_)
    assert model.log_partition_ == machine.log_partition_
    known = {
        "components": model.components_,
        "intercepts": model.intercepts_,
        "noise_variance": model.noise_variance_,
    }
    again = DeepBeliefNetwork.from_parameters(**known)
    assert_allclose(again.score_samples(X), machine.score_samples(X), rtol=1e-9)


def test_a_transposed_machine_on_top_changes_nothing():
    rng = RNG(3)
    W, b, c = rng.standard_normal((3, 4)), rng.standard_normal(4), rng.standard_normal(3)
    machine = RBM.from_parameters(components=W, intercept_visible=b, intercept_hidden=c)
    model = DeepBeliefNetwork.from_parameters(components=[W, W.T], intercepts=[b, c, b])
    V = states(4)
    exact = machine.score_samples(V)
    assert_allclose(model.score_samples(V), exact, rtol=1e-10)
    bound = weighed(model, 3)  # whatever is drawn: q(h | x) is the posterior
    assert_allclose(bound.score_samples(V), exact, rtol=1e-10)
    q = expit(c + V @ W.T)
    terms, H = 0.0, states(3)
    share = np.exp(log_bits(H, (c + V @ W.T)[:, None]))
    terms = share @ model.run_.state.top.log_prob(H) + (q * 0).sum(axis=1)
    down = log_bits(V[:, None], b + H @ W)
    terms += (share * down).sum(axis=1) - (share * np.log(share)).sum(axis=1)
    assert_allclose(terms, exact, rtol=1e-10)


def test_the_next_layer_starts_where_the_last_one_ended():
    """Its bound begins at the likelihood of the machine below, and does not fall."""
    X = bars_and_stripes()
    settings = {"weight_prior": 0.0, "random_state": 0, "max_iter": 40, "tol": 0.1}
    machine = RBM(3, **settings).fit(X)
    model = DeepBeliefNetwork((3, 9), fine_tuning=None, **settings).fit(X)
    assert model.history_[0] == pytest.approx(machine.score(X), abs=1e-6)  # weights of 24 bits
    assert (np.diff(model.history_) > -1e-12).all() and model.history_[-1] > machine.score(X)
    assert model.score(X) >= model.history_[-1] - 1e-9  # a bound
    tuned = DeepBeliefNetwork((3, 9), **settings).fit(X)
    assert tuned.history_[0] == pytest.approx(model.score(X), abs=1e-5)
    assert tuned.score(X) == pytest.approx(tuned.history_[-1], abs=1e-9)
    assert (np.diff(tuned.history_) > -1e-12).all() and tuned.score(X) > model.score(X)


def test_starts_with_bits_to_spare_and_with_too_few():
    W, b, c = RNG(0).standard_normal((3, 5)), RNG(1).standard_normal(5), RNG(2).standard_normal(3)
    machine = RBM.from_parameters(components=W, intercept_visible=b, intercept_hidden=c)
    machine, mean = machine.run_.state.machine, np.array([0.1, 0.9, 0.5, 0.3, 0.2])
    H = states(3)

    def log_p(q):
        start = transposed_start(machine, q, mean, RNG(4))
        top = BernoulliColumns().plain(start)
        log_p = H @ top.b + softplus(top.c + H @ top.W.T).sum(axis=1)
        assert top.W.shape == (q, 3)
        return log_p - logsumexp(log_p)

    exact = H @ c + softplus(b + H @ W).sum(axis=1)
    exact -= logsumexp(exact)
    assert_allclose(log_p(5), exact, atol=1e-12)
    assert 0 < np.abs(log_p(8) - exact).max() < 0.1
    assert np.abs(log_p(4) - exact).max() < np.abs(exact).max() / 3


# --- estimates --------------------------------------------------------------------------------


def test_estimates_tend_to_the_exact_values():
    model, V = good_recognition(), states(4)
    exact = model.score_samples(V)
    few, many = (weighed(model, n).score_samples(V) - exact for n in (4, 4000))
    assert np.abs(many).max() < 0.05 < np.abs(few).max()
    bound = sum(weighed(model, 4000).elbo(V)[:3])
    assert (bound < exact).all() and (bound > exact - 1).all()
    kl = exact - bound
    H, log_p = table(model, V)
    log_q = [weighed(model).posterior(V).log_prob(np.tile(h, (16, 1))) for h in H]
    gap = (np.exp(log_q) * (np.array(log_q) + exact - log_p.T)).sum(axis=0)
    assert_allclose(np.exp(log_q).sum(axis=0), 1, rtol=1e-10)
    assert_allclose(kl, gap, atol=0.05)  # log p - bound = KL(q || posterior)


def test_estimated_answers_about_rows_with_gaps():
    model = good_recognition()
    X = states(4)[3:11].copy()
    X[::2, 0] = np.nan
    X[1::3, 2:] = np.nan
    X[3] = np.nan
    estimate = weighed(model, 2000)
    scores = estimate.score_samples(X)
    assert_allclose(scores, model.score_samples(X), atol=0.05)
    assert scores[3] == 0 and estimate.score_kind_ == "estimate"
    alone = np.concatenate([estimate.score_samples(row[None]) for row in X])
    assert_allclose(alone, scores, rtol=1e-9)  # the noise is that of all rows
    assert_allclose(estimate.impute(X), model.impute(X), atol=0.05)
    assert_array_equal(estimate.impute(X)[~np.isnan(X)], X[~np.isnan(X)])
    draws = weighed(model, 30).impute(X, how="sample", n_draws=1500, random_state=0)
    assert_allclose(draws.mean(axis=0), model.impute(X), atol=5 * 0.5 / np.sqrt(1500))
    pair = (draws[:, 4, 0] * draws[:, 4, 2]).mean()
    exact = model.impute(X, how="sample", n_draws=6000, random_state=0)
    assert pair == pytest.approx((exact[:, 4, 0] * exact[:, 4, 2]).mean(), abs=0.06)
    mode = estimate.impute(X, how="mode")
    assert (
        model.score_samples(mode) > model.score_samples(model.impute(X, how="mode")) - 0.2
    ).all()
    H = states(2)
    assert_allclose(estimate.inverse_transform(H), model.inverse_transform(H), atol=0.03)
    draws = estimate.posterior(X).sample(2000, random_state=0).mean(axis=0)
    assert_allclose(draws[:, 3:], estimate.transform(X), atol=0.06)


def test_a_hundred_draws_fill_gaps_far_better_than_column_means():
    model = DeepBeliefNetwork.from_parameters(**parameters((6, 4), 12, scale=1.5))
    X, _ = model.sample(60, random_state=0)
    gaps = RNG(1).random(X.shape) < 0.4
    holed = np.where(gaps, np.nan, X)
    exact, mean = model.impute(holed), model.sample(3000, random_state=0)[0].mean(axis=0)
    error = (weighed(model, 100).impute(holed) - exact)[gaps]
    assert error.std() < 0.5 * (np.broadcast_to(mean, X.shape) - exact)[gaps].std()


def test_a_chain_corrects_a_wrong_recognition():
    """Imputation draws from p(x_missing | x_seen) though the way up says something else."""
    known = parameters((2, 2), 4, scale=1.0)
    wrong = [np.zeros((2, 4))]
    model = DeepBeliefNetwork.from_parameters(**known, recognition_components=wrong)
    estimate = weighed(DeepBeliefNetwork.from_parameters(**known), 60)
    layers = (replace(estimate.state_.layers[0], R=wrong[0], c=np.zeros(2)),)
    sums = replace(estimate.state_.sums, layers=layers)
    estimate.run_ = estimate.run_._replace(state=replace(estimate.state_, sums=sums))
    row = [[1, 1, np.nan, np.nan]]
    draws = estimate.impute(row, how="sample", n_draws=2000, random_state=0)[:, 0, 2:]
    exact = model.impute(row)[0, 2:]
    assert_allclose(draws.mean(axis=0), exact, atol=5 * 0.5 / np.sqrt(2000))


# --- what the next layer sees, and slopes -----------------------------------------------------


def test_the_next_layer_sees_the_aggregated_posterior():
    rng = RNG(0)
    W, b, c = rng.standard_normal((3, 4)), rng.standard_normal(4), rng.standard_normal(3)
    model = RBM.from_parameters(components=W, intercept_visible=b, intercept_hidden=c)
    X, weight = states(4)[2:9], rng.uniform(1, 3, 7)
    training = TrainingRows(X, weight, np.zeros(4), np.ones(4))
    data = next_data(model.run_.state.machine, training, rng)
    share = np.exp(log_bits(states(3), (c + X @ W.T)[:, None]))
    assert_allclose(data.rows.weight, weight @ share, rtol=1e-10)
    assert_array_equal(data.rows.X, states(3))
    down = log_bits(X[:, None], b + states(3) @ W)
    bound = (share * (down - np.log(share))).sum(axis=1)
    assert data.bound == pytest.approx(weight @ bound / weight.sum())


def test_units_leave_no_trace_in_the_weights_that_the_next_layer_sees():
    rng, columns = RNG(0), GaussianColumns(0.1)
    shapes = (4,), (12,), (12, 4), (4,)
    trained = Weights(*(np.float64(np.float32(0.1 * rng.standard_normal(s))) for s in shapes))
    for location, scale in ((0.0, 1.0), (3.0, 1e6), (-0.1, 7e-5)):
        units = np.full(4, location), np.full(4, scale)
        seen = plain(columns, columns.machine(trained, *units), TrainingRows(None, None, *units))
        for name in ("b", "c", "W"):
            assert_array_equal(getattr(seen, name), getattr(trained, name))
        assert_array_equal(seen.units.scale, np.exp(0.5 * trained.log_variance))


def test_rows_of_a_large_layer_are_drawn_anew():
    P = np.tile([0.0, 0.2, 0.7, 1.0], (5000, 1))
    kept = drawn(bits(P, np.ones(5000)), RNG(0)).X
    assert_allclose(kept.mean(axis=0), P[0], atol=5 * 0.5 / np.sqrt(5000))
    start = Weights(np.zeros(4), np.zeros(2), np.zeros((2, 4)), np.empty(0))
    settings = {"batch_size": 5000, "n_chains": 10, "n_steps": 1, "persistent": True}
    contrast = DrawnContrast(Bits(RNG(0)), start, P, np.ones(5000), rng=RNG(1), **settings)
    first, second = np.empty((2, 5000, 4), np.float32)
    contrast._take(np.arange(5000), first)
    contrast._take(np.arange(5000), second)
    assert_allclose(first.mean(axis=0), P[0], atol=5 * 0.5 / np.sqrt(5000))
    assert set(np.unique(first)) == {0, 1} and (first != second).any()


def small_network(gaussian, seed=0):
    """Weights of a (3, 2, 2) network above 4 standardised columns, and rows."""
    rng = RNG(seed)
    directed = tuple(
        (rng.standard_normal(d), rng.standard_normal((q, d))) for q, d in ((3, 4), (2, 3))
    )
    top = Weights(
        rng.standard_normal(2), rng.standard_normal(2), rng.standard_normal((2, 2)), np.empty(0)
    )
    log_variance = 0.3 * rng.standard_normal(4) if gaussian else np.empty(0)
    X = rng.standard_normal((12, 4)) if gaussian else states(4)[1:13].copy()
    return Network(directed, log_variance, top), X


@pytest.mark.parametrize("gaussian", [False, True])
def test_the_exact_slope_is_the_slope(gaussian):
    start, X = small_network(gaussian)
    columns = GaussianColumns(0.1) if gaussian else BernoulliColumns()
    X[2, 1] = X[5, :3] = np.nan
    share = RNG(1).uniform(size=len(X))
    objective = counted_objective(columns, start, X, share / share.sum(), 0.3)
    vector = start.pack()
    assert check_grad(lambda x: objective(x)[0], lambda x: objective(x)[1], vector) < 1e-5
    assert np.linalg.norm(objective(vector)[1]) > 0.1


@pytest.mark.parametrize("gaussian", [False, True])
def test_wake_slopes_tend_to_the_exact_ones(gaussian):
    """Many ways up and many chains: the generative slopes are those of the likelihood."""
    start, X = small_network(gaussian)
    columns = GaussianColumns(0.1) if gaussian else BernoulliColumns()
    X[2, 1] = np.nan
    exact = counted_objective(columns, start, X, np.full(12, 1 / 12), 0.0)(start.pack())[1]
    exact = start.unpack(exact)
    halves = [Half(b, W, np.zeros(len(W)), 0.3 * W) for b, W in start.directed]
    sampler = Normals(RNG(0), -4.0) if gaussian else Bits(RNG(0))
    settings = {"n_particles": 20000, "n_chains": 40000, "n_steps": 40, "rng": RNG(2)}
    wake = WakeSleep(sampler, halves, start.top, start.log_variance, X, np.ones(12), **settings)
    means = [m.copy() for m in wake.means]
    slopes, h, w = wake._wake(np.arange(12))
    scale = np.exp(start.log_variance) if gaussian else 1.0
    for number, (slope, (b, W)) in enumerate(zip(slopes, exact.directed)):
        lam, scale = wake.means[number], scale if number == 0 else 1.0
        centred = scale * W - np.outer(lam, scale * b)
        assert_allclose(slope.W, centred, atol=0.03)
        assert_allclose(slope.b, scale * b - lam @ centred, atol=0.03)
    (b, c, W), _ = wake._on_top(h, w)
    below, above = wake.means[-2], wake.means[-1]
    centred = exact.top.W - np.outer(exact.top.c, below) - np.outer(above, exact.top.b)
    assert_allclose(W, centred, atol=0.02)
    assert_allclose(b, exact.top.b - above @ centred, atol=0.02)
    assert_allclose(c, exact.top.c - centred @ below, atol=0.02)
    assert any((a != m).any() for a, m in zip(wake.means, means))


# --- training ---------------------------------------------------------------------------------


def bars_and_stripes(size=3):
    lines = states(size)
    both = [np.repeat(lines, size, axis=1), np.tile(lines, (1, size))]
    return np.unique(np.concatenate(both), axis=0)


@pytest.mark.parametrize("fine_tuning", ["reweighted", "up_down"])
def test_fine_tuning_helps(fine_tuning):
    X = bars_and_stripes()
    settings = {"random_state": 0, "n_updates": 800, "max_iter": 100, "tol": 0.01}
    greedy = DeepBeliefNetwork((6, 3), fine_tuning=None, **settings).fit(X)
    settings["learning_rate_init"] = 0.5
    tuned = DeepBeliefNetwork((6, 3), fine_tuning=fine_tuning, **settings).fit(X)
    assert tuned.score(X) > greedy.score(X) + 0.03
    assert tuned.n_iter_ == 800 and tuned.converged_ and len(tuned.history_) == 801


@pytest.mark.parametrize("data", ["bits", "gaussian"])
def test_stochastic_training_keeps_the_laws_of_rows(data):
    """Weights are counts, order and units change nothing, to rounding."""
    X = np.array(rows(3, True) if data == "gaussian" else bars_and_stripes(), dtype=float)
    X[1:9, 1] = np.nan
    model = DeepBeliefNetwork((11, 12), n_updates=40, n_importance_samples=9, random_state=0)
    model.set_params(n_annealing_chains=3, n_annealing_steps=10)
    weight, order = RNG(2).integers(0, 4, len(X)), RNG(1).permutation(len(X))
    weighted = clone(model).fit(X[order], sample_weight=weight[order])
    repeated = clone(model).fit(np.repeat(X, weight, axis=0))
    assert weighted.score_kind_ == "estimate"
    assert_array_equal(weighted.score_samples(X), repeated.score_samples(X))
    assert not np.array_equal(weighted.score_samples(X), clone(model).fit(X).score_samples(X))
    if data == "gaussian":
        scale, shift = np.array([30.0, 1e-3, 7.0]), np.array([5.0, -2.0, 0.1])
        moved = clone(model).fit(X * scale + shift).score_samples(X * scale + shift)
        moved = moved + ~np.isnan(X) @ np.log(scale)
        assert_allclose(moved, clone(model).fit(X).score_samples(X), rtol=1e-8)


def test_thresholds_and_columns_of_one_value():
    X = np.column_stack([bars_and_stripes(), np.ones(14)])
    settings = {"hidden_layer_sizes": (2, 2), "max_iter": 30, "tol": 0.1, "random_state": 0}
    with pytest.warns(UserWarning, match="constant"):
        plain = DeepBeliefNetwork(**settings).fit(X)
    with pytest.warns(UserWarning, match="middle of its range"):
        cut = DeepBeliefNetwork(**settings, visible="bernoulli").fit(3 * X + 1)
    assert_allclose(cut.score_samples(3 * X + 1), plain.score_samples(X), rtol=1e-10)
    assert_allclose(cut.sample(9, random_state=0)[0], 3 * plain.sample(9, random_state=0)[0] + 1)
    holed = np.where(np.arange(10) == 4, np.nan, X)
    for how in ("mean", "mode", "sample"):
        filled = cut.impute(3 * holed + 1, how=how, random_state=0)
        assert_allclose(filled, 3 * plain.impute(holed, how=how, random_state=0) + 1)
    known = {"thresholds": cut.thresholds_, "levels": cut.levels_}
    again = DeepBeliefNetwork.from_parameters(
        components=cut.components_, intercepts=cut.intercepts_, **known
    )
    assert_allclose(again.score_samples(3 * X[:, :9] + 1), cut.score_samples(3 * X + 1), rtol=1e-9)


def test_an_interrupted_stack_keeps_the_layers_so_far(monkeypatch, capsys):
    X = bars_and_stripes()
    settings = {"solver": "persistent", "n_updates": 20, "random_state": 0, "verbose": 1}
    settings |= {"hidden_layer_sizes": (3, 2, 2), "fine_tuning": "up_down"}
    whole = DeepBeliefNetwork(**settings).fit(X)
    assert capsys.readouterr().out.count("DeepBeliefNetwork iteration 10:") == 4  # stages
    step, calls = WakeSleep.step, []

    def stop(self, *args):
        calls.append(1)
        if len(calls) > 12:
            raise KeyboardInterrupt
        step(self, *args)

    monkeypatch.setattr(WakeSleep, "step", stop)
    model = DeepBeliefNetwork(**settings)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X)
    assert model.n_iter_ == 12 and not model.converged_ and len(model.components_) == 3
    assert np.isfinite(model.score(X)) and model.score(X) != whole.score(X)


def test_what_it_refuses():
    X = RNG(0).standard_normal((30, 3))
    with pytest.raises(ValueError, match=r"at most 10 bits.*\[11, 2\].*reweighted"):
        DeepBeliefNetwork((11, 2), fine_tuning="exact", n_updates=1).fit(X)
    with pytest.raises(ValueError, match="each of hidden_layer_sizes must be.*got 0"):
        DeepBeliefNetwork((3, 0)).fit(X)
    with pytest.raises(ValueError, match="output_layer must be one of the 2 layers.*got 2"):
        DeepBeliefNetwork((3, 2), output_layer=2).fit(X)
    with pytest.raises(ValueError, match="one more than components, got 2 and 2"):
        DeepBeliefNetwork.from_parameters(components=[X, X], intercepts=[X, X])
    known = parameters((3, 2), 4)
    known["intercepts"][1] = np.zeros(2)
    with pytest.raises(ValueError, match=r"intercepts\[1\] must be finite"):
        DeepBeliefNetwork.from_parameters(**known)


@pytest.mark.parametrize("name", ["recognition_components", "recognition_intercepts"])
def test_a_way_up_of_another_length_is_refused(name):
    known = parameters((3, 2), 4)
    arrays = known["components"] if name.endswith("components") else known["intercepts"][1:]
    for given in ([], arrays):
        with pytest.raises(ValueError, match=f"{name} must be one for each layer but the last, 1"):
            DeepBeliefNetwork.from_parameters(**known, **{name: given})
    with pytest.raises(ValueError, match="each layer but the last, 0, got 1"):
        DeepBeliefNetwork.from_parameters(**parameters((3,), 4), **{name: arrays[:1]})


def test_states_of_another_shape_are_refused():
    model, X = network((3, 2), 4), np.zeros((2, 4))
    assert np.isfinite(model.posterior(X).log_prob(np.zeros((2, 5)))).all()
    for z in (np.zeros((2, 3)), np.zeros((3, 5)), np.zeros(5)):
        with pytest.raises(ValueError, match=r"z must be finite numbers of shape \(2, 5\), got"):
            model.posterior(X).log_prob(z)


def test_codes_and_counts_are_refused():
    X = pd.DataFrame(RNG(0).poisson(2.0, (30, 3)))
    for visible in ("poisson", "categorical"):
        with pytest.raises(ValueError, match="'visible' parameter of DeepBeliefNetwork must be"):
            DeepBeliefNetwork((2, 2), visible=visible).fit(X)
    assert "n_temperatures" not in DeepBeliefNetwork._parameter_constraints
    with pytest.raises(ValueError, match="make bits of them first, with OneHotEncoder$"):
        DeepBeliefNetwork((2, 2)).fit(X.astype("category"))


def test_parameters_of_an_estimated_network_round_trip():
    X = np.array(rows(3))
    settings = {"n_updates": 20, "n_importance_samples": 20, "random_state": 0}
    model = DeepBeliefNetwork((11, 2), **settings).fit(X)
    names = ("recognition_components", "recognition_intercepts", "noise_variance")
    known = {name: getattr(model, f"{name}_") for name in names}
    again = DeepBeliefNetwork.from_parameters(
        components=model.components_, intercepts=model.intercepts_, **known
    )
    assert_allclose(
        again.run_.state.sums.elbo_terms(again.run_.state._seen(X))[2],
        model.elbo(X).entropy,
        rtol=0.2,
    )
    counted = CountedStates(again.state_.layers[:0] + again.state_.layers, again.state_.top)
    same = CountedStates(model.state_.layers, model.state_.top)
    seen = again.state_.layers[0].seen(X)
    assert_allclose(
        counted.log_prob(seen), same.log_prob(model.state_.layers[0].seen(X)), rtol=1e-9
    )
    log_q = [
        m.state_.sums._log_recognition(m.state_.layers[0].seen(X).drive, [np.ones((60, 11))])
        for m in (model, again)
    ]
    assert_allclose(*log_q, rtol=1e-9)


@pytest.mark.filterwarnings("ignore")
def test_every_check_passes():
    model = DeepBeliefNetwork((11, 3), n_updates=30, n_importance_samples=10, random_state=0)
    results = check_estimator(model, on_skip=None, on_fail=None)
    failed = [r for r in results if r["status"] != "passed"]
    assert [(r["check_name"], r["status"], str(r["exception"])) for r in failed] == []
