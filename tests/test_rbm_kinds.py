"""Boltzmann machines of codes and of counts, and tempered chains: by counting states."""

import itertools
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import check_grad
from scipy.special import expit, gammaln, logsumexp
from scipy.stats import chi2, norm, poisson
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

from sklvm import RBM
from sklvm.inference.contrastive import Contrast, Weights
from sklvm.inference.tempering import exchange, inverse_temperatures
from sklvm.rbm_cells import one_of_each, softmax
from sklvm.rbm_columns import CategoricalColumns, PoissonColumns
from sklvm.rbm_counts import poisson_quantile
from sklvm.rbm_fit import (
    BernoulliColumns,
    GaussianColumns,
    Layout,
    exact_objective,
    model_statistics,
    statistics,
)
from sklvm.rbm_sums import AnnealedSum, Annealing, HiddenSum, nothing_seen

RNG = np.random.default_rng
SIZES = np.array([3, 2, 4])  # categories of the columns of codes
KINDS = ["categorical", "poisson"]


def states(*sizes):
    return np.array(list(itertools.product(*map(range, sizes))), dtype=float)


def known(kind, q=3, seed=0):
    rng, cells = RNG(seed), SIZES.sum() if kind == "categorical" else 2
    about = {"n_categories": SIZES} if kind == "categorical" else {"visible": "poisson"}
    scale = 1.5 if kind == "categorical" else 0.6
    return {
        "components": scale * rng.standard_normal((q, cells)),
        "intercept_visible": rng.standard_normal(cells),
        "intercept_hidden": rng.standard_normal(q),
        **about,
    }


def machine_of(kind, q=3, seed=0):
    return RBM.from_parameters(**known(kind, q, seed))


def support(kind):
    """All rows: of codes, and of counts beyond which there is no probability that counts."""
    return states(*SIZES) if kind == "categorical" else states(60, 60)


def table(kind, model):
    """log p(v, h) by hand: rows V, states H, (len(V), len(H))."""
    W, b, c = model.components_, model.intercept_visible_, model.intercept_hidden_
    V, H = support(kind), states(*[2] * len(c))
    seen = V
    if kind == "categorical":
        seen = np.hstack([np.eye(n)[V[:, j].astype(int)] for j, n in enumerate(SIZES)])
    base = 0.0 if kind == "categorical" else -gammaln(V + 1).sum(axis=1)
    log_p = (base + seen @ b)[:, None] + H @ c + seen @ W.T @ H.T
    return V, H, log_p, logsumexp(log_p)


def annealed(model, **settings):
    """The same machine, its sums estimated."""
    machine, q = model.run_.state.machine, len(model.intercept_hidden_)
    chains = {
        "b0": machine.visible_input(np.full(q, 0.5)),
        "c0": np.zeros(q),
        "particles": states(*[2] * q),
        **{"n_chains": 200, "n_steps": 300, "seed": 1},
        **settings,
    }
    other = clone(model)
    vars(other).update(vars(model))
    state = replace(model.run_.state, sums=AnnealedSum(machine, Annealing(**chains)))
    other.run_ = model.run_._replace(state=state)
    return other


# --- all states counted -----------------------------------------------------------------------


@pytest.mark.parametrize("q", [3, 13])
@pytest.mark.parametrize("kind", KINDS)
def test_the_score_is_the_sum_over_hidden_states(kind, q):
    if q == 13 and kind == "poisson":
        q = 5  # 3600 rows
    model = machine_of(kind, q)
    V, _, log_p, log_z = table(kind, model)
    assert model.log_partition_ == pytest.approx(log_z, abs=1e-9)
    assert_allclose(model.score_samples(V), logsumexp(log_p, axis=1) - log_z, rtol=1e-9, atol=1e-9)
    assert model.score_kind_ == "exact" and model.log_partition_stderr_ == 0
    assert list(model.base_measure_) == ["counting"] * V.shape[1]
    assert model.visible_ == kind


@pytest.mark.parametrize("kind", KINDS)
def test_conditionals_by_counting(kind):
    model = machine_of(kind)
    V, H, log_p, _ = table(kind, model)
    given_v = np.exp(log_p - logsumexp(log_p, axis=1, keepdims=True))
    given_h = np.exp(log_p - logsumexp(log_p, axis=0))
    assert_allclose(model.transform(V), given_v @ H, rtol=1e-9)
    assert_allclose(model.inverse_transform(H), given_h.T @ V, rtol=1e-8)
    terms = model.elbo(V)
    assert_allclose(sum(terms[:3]), model.score_samples(V), atol=1e-9)
    log_q = np.column_stack([model.posterior(V).log_prob(np.tile(h, (len(V), 1))) for h in H])
    assert_allclose(np.exp(log_q), given_v, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_entries_are_summed_out(kind):
    model = machine_of(kind)
    V, H, log_p, log_z = table(kind, model)
    p = np.exp(log_p - log_z)
    for row in ([1.0, np.nan, 3.0], [np.nan, 1.0, np.nan], [2.0, np.nan, np.nan]):
        row = np.array(row[: V.shape[1]])
        seen = ~np.isnan(row)
        fits = (V[:, seen] == row[seen]).all(axis=1)
        joint = p[fits]
        assert model.score_samples([row])[0] == pytest.approx(np.log(joint.sum()), abs=1e-9)
        share = joint.sum(axis=1) / joint.sum()
        assert_allclose(model.impute([row])[0], share @ V[fits], rtol=1e-8)
        assert_allclose(model.transform([row])[0], joint.sum(axis=0) @ H / joint.sum(), rtol=1e-8)
        assert_array_equal(model.impute([row], how="mode")[0], V[fits][share.argmax()])
        draws = model.impute([row], how="sample", n_draws=2000, random_state=0)[:, 0]
        error = np.sqrt(share @ (V[fits] - share @ V[fits]) ** 2 / 2000)
        assert (np.abs(draws.mean(axis=0) - share @ V[fits]) <= 5 * error + 1e-9).all()
        frequency = (draws[:, None] == V[fits][share > 0.01]).all(axis=2).mean(axis=0)
        assert_allclose(frequency, share[share > 0.01], atol=5 * 0.5 / np.sqrt(2000))
    assert model.score_samples(np.full((1, V.shape[1]), np.nan))[0] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_no_weights_no_dependence(kind):
    given = known(kind)
    model = RBM.from_parameters(**{**given, "components": 0 * given["components"]})
    b, V = given["intercept_visible"], support(kind)[:200]
    if kind == "poisson":
        expected = poisson(np.exp(b)).logpmf(V).sum(axis=1)
        log_z = np.exp(b).sum()
    else:
        parts = [part - logsumexp(part) for part in np.split(b, np.cumsum(SIZES)[:-1])]
        expected = sum(part[V[:, j].astype(int)] for j, part in enumerate(parts))
        log_z = sum(map(logsumexp, np.split(b, np.cumsum(SIZES)[:-1])))
    assert_allclose(model.score_samples(V), expected, rtol=1e-9)
    hidden = np.logaddexp(0, given["intercept_hidden"]).sum()
    assert model.log_partition_ == pytest.approx(log_z + hidden)
    assert_allclose(model.transform(V), np.tile(expit(given["intercept_hidden"]), (len(V), 1)))


def test_two_categories_are_bits():
    rng, V = RNG(0), states(2, 2, 2, 2)
    W, b, c = rng.standard_normal((3, 4)), rng.standard_normal(4), rng.standard_normal(3)
    bits = RBM.from_parameters(components=W, intercept_visible=b, intercept_hidden=c)
    cells = np.tile([0.0, 1.0], 4)
    codes = RBM.from_parameters(
        components=np.repeat(W, 2, axis=1) * cells,
        intercept_visible=np.repeat(b, 2) * cells,
        intercept_hidden=c,
        n_categories=[2] * 4,
    )
    assert_allclose(codes.score_samples(V), bits.score_samples(V), rtol=1e-10)
    assert codes.n_parameters_ == bits.n_parameters_ == 3 * 4 + 4 + 3
    V[::2, 1] = V[1::3, 3] = np.nan
    assert_allclose(codes.score_samples(V), bits.score_samples(V), rtol=1e-10)
    assert_allclose(codes.transform(V), bits.transform(V), rtol=1e-10)
    assert_allclose(codes.impute(V), bits.impute(V), rtol=1e-10)
    assert_array_equal(codes.impute(V, how="mode"), bits.impute(V, how="mode"))


def test_adding_to_all_cells_of_a_column_changes_nothing():
    given = known("categorical")
    shift = np.repeat([0.3, -1.0, 2.0], SIZES)
    moved = {
        **given,
        "components": given["components"] + shift * np.array([[1], [-2], [0.5]]),
        "intercept_visible": given["intercept_visible"] - shift,
    }
    hidden = given["intercept_hidden"] - np.array([1, -2, 0.5]) * 1.3  # one cell of each column
    there = RBM.from_parameters(**{**moved, "intercept_hidden": hidden})
    here, V = machine_of("categorical"), support("categorical")
    assert_allclose(there.score_samples(V), here.score_samples(V), rtol=1e-9)


# --- units ------------------------------------------------------------------------------------


def test_the_highest_cell_of_each_column_the_first_of_equals():
    height = np.array([[1.0, 3, 3, 0, -1, 7, 7, 7, 7], [0.0, 0, 0, 0, 2, 1, 2, 3, 4]])
    expected = [[0, 1, 0, 1, 0, 1, 0, 0, 0], [1, 0, 0, 0, 1, 0, 0, 0, 1]]
    assert_array_equal(one_of_each(height, SIZES), expected)
    shares = softmax(height * 300, SIZES)
    assert_allclose(shares[0, :3], [0, 0.5, 0.5], atol=1e-12)
    assert_allclose(np.add.reduceat(shares, [0, 3, 5], axis=1), np.ones((2, 3)))


def test_quantiles_of_poisson_counts():
    u = np.r_[RNG(0).random(300), 1e-9, 1 - 1e-9, 0.0]
    for rate in (1e-4, 0.3, 1.0, 7.3, 200.0, 1e5):
        assert_array_equal(poisson_quantile(u, rate), np.maximum(poisson(rate).ppf(u), 0))
    large = poisson_quantile(u, 1e14)
    assert_allclose((large - 1e14) / 1e7, norm.ppf(np.clip(u, 1e-16, 1)), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_codes_and_counts_that_are_refused(kind):
    model = machine_of(kind)
    word = "codes 0 to 3" if kind == "categorical" else "counts 0, 1, 2"
    for wrong, got in ((-1.0, "Negative values in data.*got -1"), (0.5, "fractions.*got 0.5")):
        row = np.ones((1, model.n_features_in_))
        row[0, 1] = wrong
        with pytest.raises(ValueError, match=rf"{got} \(columns \[1\]\)") as caught:
            model.score_samples(row)
        assert word in str(caught.value)
        with pytest.raises(ValueError, match=got):
            RBM(visible=kind).fit(np.vstack([row, 1 + row]))
    with pytest.raises(ValueError, match="got inf|infinity"):
        model.score_samples(np.full((1, model.n_features_in_), np.inf))


def test_parameters_that_are_refused():
    given = known("categorical")
    for change, message in (
        ({"n_categories": [3, 2, 5]}, "has 9 cells.*need 10, or 13"),
        ({"n_categories": [3, 2, 1.5]}, "whole numbers of at least 2"),
        ({"noise_variance": np.ones(9)}, "n_categories is nothing that visible='gaussian' has"),
        ({"thresholds": np.ones(9)}, "thresholds is nothing that visible='categorical' has"),
        ({"visible": "poisson"}, "n_categories is nothing that visible='poisson' has"),
        ({"visible": "words"}, "visible must be 'auto' or one of"),
        ({"n_categories": None, "visible": "categorical"}, "needs n_categories"),
    ):
        with pytest.raises(ValueError, match=message):
            RBM.from_parameters(**{**given, **change})
    with pytest.raises(ValueError, match=r"rates of up to exp\(60\)"):
        RBM.from_parameters(
            components=[[30.0, 0], [20, -9]],
            intercept_visible=[10.0, 1],
            intercept_hidden=[0.0, 0],
            visible="poisson",
        )


# --- draws and estimates ----------------------------------------------------------------------


def chi_square(rows, V, p):
    """How well rows have the probabilities p of the states V; rare ones are put together."""
    places = {tuple(v): i for i, v in enumerate(V)}
    count = np.bincount([places[tuple(row)] for row in rows], minlength=len(V))
    rare, n = p * len(rows) < 8, len(rows)
    count = np.append(count[~rare], count[rare].sum())
    expected = n * np.append(p[~rare], 1 - p[~rare].sum())
    use = expected > 1e-3 * n / len(V)
    return chi2.sf(((count - expected)[use] ** 2 / expected[use]).sum(), use.sum() - 1)


@pytest.mark.parametrize("kind", KINDS)
def test_frequencies_of_draws_and_of_gibbs_chains_match_the_probabilities(kind):
    model, n = machine_of(kind), 8000
    V, _, log_p, log_z = table(kind, model)
    p = np.exp(logsumexp(log_p, axis=1) - log_z)
    X, H = model.sample(n, random_state=2)
    assert chi_square(X, V, p) > 0.01
    gap = H - model.transform(X)
    assert (np.abs(gap.mean(axis=0)) < 5 * gap.std(axis=0) / np.sqrt(n)).all()
    machine = model.run_.state.machine
    h = (RNG(0).random((n, 3)) < 0.5) * 1.0
    X = machine.units.shown(machine.gibbs(nothing_seen(machine, n), h, RNG(1), 40)[0])
    assert chi_square(X, V, p) > 0.01
    assert chi_square(X, V, np.roll(p, 1)) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_annealed_answers_are_near_the_exact_ones(kind):
    model = machine_of(kind, 5)
    estimate = annealed(model)
    gap = estimate.log_partition_ - model.log_partition_
    assert 0 < estimate.log_partition_stderr_ < 0.1
    assert abs(gap) < 3 * estimate.log_partition_stderr_
    X, _ = model.sample(6, random_state=0)
    exact = model.score_samples(X)
    bound = estimate.score_lower_bound(X) - exact
    assert -0.1 < bound.mean() < 0.03
    X[::2, 0] = np.nan
    scores = estimate.score_samples(X)
    assert_allclose(scores, model.score_samples(X), atol=0.1)
    assert_allclose(estimate.transform(X), model.transform(X), atol=0.15)
    assert_allclose(estimate.impute(X), model.impute(X), atol=0.3, rtol=0.1)
    alone = np.concatenate([estimate.score_samples(row[None]) for row in X])
    assert_allclose(alone, scores, rtol=1e-9)  # the noise is that of all rows


# --- training ---------------------------------------------------------------------------------


def rows(kind, n=200, holes=False, seed=0):
    """Two groups of rows: codes with 3, 2 and 4 categories, counts of three sizes."""
    rng = RNG(seed)
    z = (rng.random((n, 1)) < 0.4).astype(int)
    if kind == "categorical":
        X = np.floor(SIZES * rng.random((n, 3)) ** np.where(z, 0.4, 2.5))
    else:
        X = rng.poisson(np.where(z, [1.0, 12.0, 60.0], [4.0, 5.0, 40.0])).astype(float)
    if holes:
        X[rng.random(X.shape) < 0.2] = np.nan
        X[0, 0] = 0
    return X


def columns_and_weights(kind, X, weight, q=3):
    rng = RNG(3)
    make = CategoricalColumns if kind == "categorical" else PoissonColumns
    columns = make.of(X, weight)
    X = columns.read(X)
    start = columns.start(X, weight, 0.6 * rng.standard_normal((q, X.shape[1])))
    return columns, X, start._replace(c=0.5 * rng.standard_normal(q))


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_exact_slope_is_the_slope(kind, holes):
    X, share = rows(kind, 30, holes), RNG(1).uniform(size=30)
    use = ~np.isnan(X).all(axis=1)
    X, share = X[use], share[use] / share[use].sum()
    columns, X, weights = columns_and_weights(kind, X, share)
    layout = Layout(X.shape[1], 3, False)
    objective = exact_objective(columns, layout, X, share, 0.3, 0.2)
    vector = layout.pack(weights)
    slope = objective(vector)[1]
    error = check_grad(lambda x: objective(x)[0], lambda x: objective(x)[1], vector)
    assert error < 2e-5 * np.linalg.norm(slope)
    assert np.linalg.norm(slope) > 0.1


def test_the_exact_solver_keeps_up_with_large_rates():
    """One bit makes two products of Poisson distributions: near those that made the rows."""
    rate = np.array([[50.0, 1e5], [1000.0, 2e6]])
    X = RNG(0).poisson(np.repeat(rate, 20, axis=0)).astype(float)
    columns, _, weights = columns_and_weights("poisson", X, np.ones(40))
    for a, b in zip(columns.natural(columns.climbed(weights)), weights):
        assert_allclose(a, b, rtol=1e-6)
    model = RBM(1, visible="poisson", random_state=0).fit(X)
    truth = np.log(0.5) + poisson(np.repeat(rate, 20, axis=0)).logpmf(X).sum(axis=1)
    assert model.score(X) > truth.mean() - 1e-3
    assert_allclose(np.sort(model.inverse_transform([[0.0], [1.0]]), axis=0), rate, rtol=0.1)


def test_the_exact_solver_stops_at_a_share_of_a_nat_however_large_the_rates():
    rate = 1e6 * RNG(1).uniform(0.5, 2, (4, 4))
    X = RNG(0).poisson(np.repeat(rate, 20, axis=0)).astype(float)
    model = RBM(3, visible="poisson", random_state=0).fit(X)
    longer = clone(model).set_params(tol=1e-9).fit(X)
    assert model.converged_ and abs(longer.score(X) - model.score(X)) < 1e-3


@pytest.mark.parametrize("n_temperatures", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_stochastic_slope_tends_to_the_exact_one(kind, n_temperatures):
    X = rows(kind)
    columns, X, weights = columns_and_weights(kind, X, np.ones(200))
    contrast = Contrast(
        columns.sampler(RNG(1)),
        weights,
        X,
        np.ones(200),
        batch_size=200,
        n_chains=10000,
        n_steps=20,
        persistent=True,
        rng=RNG(0),
        n_temperatures=n_temperatures,
        base=columns.base(X, np.ones(200)),
    )
    slopes, _ = contrast.slopes(np.arange(200))
    machine = columns.plain(weights)
    exact = statistics(machine, X, np.full(200, 1 / 200)) - model_statistics(machine)
    even = 1.0 if kind == "categorical" else 1 / np.maximum(columns.origin, 1)
    mu, lam = contrast.visible_mean, contrast.hidden_mean
    centred = even * (exact.W - np.outer(exact.c, mu) - np.outer(lam, exact.b))
    assert_allclose(slopes.W, centred, atol=0.03)
    assert_allclose(slopes.b, even * exact.b - lam @ centred, atol=0.03)
    assert_allclose(slopes.c, exact.c - centred @ mu, atol=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_free_energies_are_those_of_the_machine(kind):
    columns, X, weights = columns_and_weights(kind, rows(kind), np.ones(200))
    machine, sampler = columns.plain(weights), columns.sampler(RNG(0))
    single = Weights(*(np.float32(array) for array in weights))
    energy = sampler.free_energy(sampler.centred(X), single)
    there = machine.log_unnormalised(machine.seen(X)) + energy
    assert np.ptp(energy) > 1
    assert_allclose(there, np.full(200, there[0]), atol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_solver_learns(kind):
    X = rows(kind)
    exact = RBM(1, visible=kind, random_state=0).fit(X)
    assert exact.score_kind_ == "exact" and exact.converged_ and exact.visible_ == kind
    independent = RBM(1, visible=kind, weight_prior=1e9, random_state=0).fit(X)
    assert exact.score(X) > independent.score(X) + 0.15
    for solver in ("persistent", "contrastive"):
        model = RBM(1, visible=kind, solver=solver, n_updates=500, random_state=0)
        model.set_params(learning_rate_init=0.5).fit(X)
        assert exact.score(X) - 0.05 < model.score(X) < exact.score(X) + 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_stochastic_training_keeps_the_laws_of_rows(kind):
    X = rows(kind, 60, holes=True)
    weight, order = RNG(2).integers(0, 4, len(X)), RNG(1).permutation(len(X))
    model = RBM(2, visible=kind, solver="persistent", n_updates=20, n_temperatures=2)
    model.set_params(random_state=0)
    weighted = clone(model).fit(X[order], sample_weight=weight[order])
    repeated = clone(model).fit(np.repeat(X, weight, axis=0))
    assert_allclose(weighted.score_samples(X), repeated.score_samples(X), rtol=1e-9)
    assert not np.allclose(weighted.score_samples(X), clone(model).fit(X).score_samples(X))


@pytest.mark.filterwarnings("ignore:RBM did not converge")  # nor need it, to stay finite
def test_counts_that_vary_wildly_and_long_steps_stay_finite():
    X = np.floor(np.exp(RNG(0).normal(2.0, 2.5, (100, 3))))
    for solver in ("exact", "persistent"):
        model = RBM(6, visible="poisson", solver=solver, n_updates=60, random_state=0)
        model.set_params(learning_rate_init=20.0, max_iter=100, tol=0.1).fit(X)
        assert np.isfinite(model.score(X)) and np.isfinite(model.log_partition_)
        assert np.isfinite(model.sample(100, random_state=0)[0]).all()
        assert np.abs(model.components_).max() <= 10


@pytest.mark.parametrize("solver", ["exact", "persistent"])
def test_a_code_that_fit_did_not_see_is_improbable_not_impossible(solver):
    X = rows("categorical")
    X[:, 2] = np.where(X[:, 2] == 1, 2, X[:, 2])  # a gap among the codes
    model = RBM(1, visible="categorical", solver=solver, n_updates=1500, random_state=0)
    model.set_params(learning_rate_init=0.5).fit(X)
    assert_array_equal(model.n_categories_, SIZES)
    unseen = np.full((3, 3), np.nan)
    unseen[[0, 1, 2], [0, 1, 2]] = [3, 2, 1]
    p = np.exp(model.score_samples(unseen))
    assert (p > 1e-4).all() and (p < 5e-3).all()  # about one of its prior's rows in 201
    beyond = np.array([[17.0, np.nan, np.nan]])
    assert_allclose(model.score_samples(beyond), np.log(p[:1]))
    assert_array_equal(model.impute(beyond)[0, :1], [17])
    assert np.isfinite(model.partial_fit(np.vstack([X, [[9, 0, 0]]])).score(X))


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_follows_the_slope_and_the_prior(kind):
    X = rows(kind)
    columns, X, weights = columns_and_weights(kind, X, np.ones(200))
    settings = {"batch_size": 50, "n_chains": 30, "n_steps": 2, "persistent": True}
    one, other = (
        Contrast(columns.sampler(RNG(1)), weights, X, np.ones(200), rng=RNG(0), **settings)
        for _ in range(2)
    )
    slopes, _ = one.slopes(np.arange(50))
    other.step(np.arange(50), 0.01, 0.0)
    _, pull = columns.log_prior(weights)
    rate = 0.01 * one.units.shortening(slopes.W)
    if kind == "categorical":
        rate, pull = 0.01, pull / 200 * 0.01
        assert np.abs(pull).max() > 1e-6
    assert_allclose(other.weights.b - weights.b, rate * slopes.b + pull, atol=3e-7)
    assert_allclose(other.weights.W - weights.W, rate * slopes.W + 0.5 * pull, atol=3e-7)
    assert_allclose(other.weights.c - weights.c, rate * slopes.c, atol=3e-7)


def test_rates_of_fantasies_and_steps_have_an_end():
    columns = PoissonColumns(np.array([3.0, 40.0]), np.array([4.0, 90.0]), np.array([9.0, 70.0]))
    sampler, out = columns.sampler(RNG(0)), np.empty((500, 2), np.float32)
    sampler.draw_visible(np.full((500, 2), 50.0, np.float32), None, out)
    assert_allclose(out.mean(axis=0) + columns.origin, [90, 700], rtol=0.02)
    steep = np.array([[60.0, -80.0]])
    there = np.sqrt(np.mean(steep**2 * columns.origin))
    assert sampler.shortening(steep) == pytest.approx(1 / there)
    assert sampler.shortening(1e-3 * steep) == 1.0


def test_a_bit_changes_a_rate_by_no_more_than_the_largest_factor():
    X = np.repeat([[0.0, 0.0], [1e7, 2e7]], 20, axis=0) + RNG(0).poisson(0.1, (40, 2))
    X[:20] = 0
    model = RBM(1, visible="poisson", weight_prior=0.0, random_state=0).fit(X)
    assert np.isfinite(model.score_samples(X)).all()
    assert np.abs(model.components_).max() == 10


@pytest.mark.parametrize("kind", KINDS)
def test_known_parameters_give_the_fitted_model(kind):
    X = rows(kind, 60, holes=True)
    model = RBM(2, visible=kind, random_state=0, max_iter=30, tol=0.1).fit(X)
    names = ("components", "intercept_visible", "intercept_hidden", "visible", "n_categories")
    again = RBM.from_parameters(**{name: getattr(model, f"{name}_") for name in names})
    assert_allclose(again.score_samples(X), model.score_samples(X), rtol=1e-9)
    assert_allclose(again.transform(X), model.transform(X), rtol=1e-8)
    assert again.log_partition_ == pytest.approx(model.log_partition_)
    assert again.n_parameters_ == model.n_parameters_ and again.n_features_in_ == 3
    assert_array_equal(again.sample(5, random_state=0)[0], model.sample(5, random_state=0)[0])
    free = SIZES.sum() - 3 if kind == "categorical" else 3
    assert model.n_parameters_ == 2 * free + free + 2


@pytest.mark.parametrize("kind", KINDS)
def test_batch_by_batch(kind):
    X = rows(kind, 400)
    model = RBM(1, visible=kind, random_state=0, n_updates=50, n_temperatures=2)
    model.set_params(learning_rate_init=1.0 if kind == "poisson" else 2.0)
    for _ in range(20):
        for batch in np.array_split(X, 8):
            model.partial_fit(batch)
    best = RBM(1, visible=kind, random_state=0).fit(X).score(X)
    assert best - 0.05 < model.score(X) < best + 1e-3
    exact = RBM(1, visible=kind, random_state=0).fit(X)
    before = exact.score(X)
    assert abs(exact.partial_fit(X).score(X) - before) < 0.1
    copies = exact.impute(
        rows(kind, 60, True), "sample", n_draws=2, random_state=0, parameters="posterior"
    )
    assert copies.shape == (2, 60, 3) and np.isfinite(copies).all()


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian", *KINDS])
def test_a_batch_that_says_little_leaves_the_fit_nearly_as_it_is(kind):
    if kind == "gaussian":
        X = 1e3 + np.repeat(RNG(0).standard_normal((200, 1)), 3, axis=1) * [1, 10, 100]
        X += RNG(1).standard_normal(X.shape)
    else:
        X = rows("poisson" if kind == "poisson" else "categorical", 200)
        X = np.minimum(X, 1) if kind == "bernoulli" else X
    fitted = RBM(2, visible=kind, random_state=0, tol=1e-2).fit(X)
    first = X[fitted.score_samples(X).argmax()]
    gap, near = np.repeat(first[None], 3, axis=0), np.repeat(first[None], 2, axis=0)
    gap[:, 1] = np.nan
    near[1] += 1e-9 if kind == "gaussian" else 0
    zero = np.zeros((3, 3)) if kind == "poisson" else gap
    for batch in (first[None], gap, near, zero):
        after = deepcopy(fitted).set_params(learning_rate_init=0.01).partial_fit(batch)
        assert abs(after.score(X) - fitted.score(X)) < 0.2


def test_going_on_after_a_fit_begins_at_its_parameters():
    model = RBM.from_parameters(
        components=[[1.0, 30.0], [0.0, 5.0]],
        intercept_visible=[2.0, 1000.0],
        intercept_hidden=[0.3, -0.2],
        noise_variance=[1.0, 4.0],
    )
    stream = model._stream_of_fit()
    machine = stream.columns.machine(stream.weights, stream.location, stream.scale)
    assert_allclose(stream.location, model.sample(5000, 0)[0].mean(axis=0), rtol=0.05)
    assert (stream.weights.log_variance >= stream.columns.log_floor - 1e-12).all()
    X = RNG(0).standard_normal((5, 2)) + [2.0, 1015.0]
    ours, theirs = machine.seen(X), model.run_.state.machine.seen(X)
    log_p = [
        m.log_unnormalised(rows) - HiddenSum(m).log_partition()[0]
        for m, rows in ((machine, ours), (model.run_.state.machine, theirs))
    ]
    assert_allclose(*log_p, rtol=1e-10)


def test_visible_auto_reads_dtypes():
    X = rows("categorical", 60)
    settings = {"n_components": 1, "max_iter": 20, "tol": 0.1, "random_state": 0}
    frame = pd.DataFrame(X.astype(int)).astype("category")
    frame.columns = ["a", "b", "c"]
    model = RBM(**settings).fit(frame)
    assert model.visible_ == "categorical"
    named = RBM(**settings, visible="categorical").fit(X)
    assert_array_equal(named.score_samples(X), model.score_samples(frame))
    mixed = frame.assign(b=frame["b"] == 1)
    assert RBM(**settings).fit(mixed).visible_ == "categorical"
    assert RBM(**settings).partial_fit(mixed).visible_ == "categorical"
    assert RBM(**settings).fit(frame[["b"]] == 1).visible_ == "bernoulli"
    assert RBM(**settings).fit(X).visible_ == "gaussian"
    for visible, table in (("auto", frame.assign(b=X[:, 1] * 2.5)), ("gaussian", frame)):
        with pytest.raises(ValueError, match="categorical columns.*OneHotEncoder"):
            RBM(**settings, visible=visible).fit(table)
    with pytest.raises(ValueError, match="encode them first, with OrdinalEncoder"):
        RBM().fit(frame.assign(b=pd.Categorical(np.where(X[:, 1] == 1, "yes", "no"))))
    with pytest.raises(ValueError, match="no position among categories"):
        RBM(visible="categorical").fit(X + 1e6)


def test_an_annealing_that_few_chains_carry_is_reported():
    model = machine_of("categorical", q=5)
    good, rushed = annealed(model), annealed(two_modes(d=16, strength=20.0), n_steps=1)
    assert good.state_.log_partition == good.state_.partition[0]
    with pytest.warns(UserWarning, match=r"rests on [12]\.\d of 200 annealing chains"):
        error = rushed.state_.partition[1]
    assert error > 0.5


def test_categories_that_are_missing_are_missing_codes():
    X = rows("categorical", 60)
    X[::7, 1] = X[3, 0] = np.nan
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).astype("Int64").astype("category")
    settings = {"n_components": 1, "tol": 0.1, "random_state": 0}
    model = RBM(**settings).fit(frame)
    assert model.visible_ == "categorical"
    named = RBM(**settings, visible="categorical").fit(X)
    assert_array_equal(model.score_samples(frame), named.score_samples(X))
    assert_array_equal(model.impute(frame.iloc[:8]), named.impute(X[:8]))
    begun = [m.partial_fit(T).score(T) for m, T in ((clone(model), frame), (clone(named), X))]
    assert begun[0] == begun[1]


@pytest.mark.parametrize("dtype", [pl.Categorical, pl.Enum(["no", "yes"])])
def test_categories_of_polars_are_no_numbers(dtype):
    table = pl.DataFrame({"a": [1.0, 2.0, 4.0], "b": ["no", "yes", "no"]})
    with pytest.raises(ValueError, match=r"strings.*OrdinalEncoder"):
        RBM(1).fit(table.with_columns(pl.col("b").cast(dtype)))


# --- parallel tempering -----------------------------------------------------------------------


def two_modes(d=6, strength=8.0):
    """Bits that are nearly all 0, or, with probability 0.7, nearly all 1."""
    return RBM.from_parameters(
        components=np.full((1, d), strength),
        intercept_visible=np.full(d, -strength / 2),
        intercept_hidden=[-strength * d / 2 + np.log(7 / 3)],
    )


def bit_frequencies_fit(X, model):
    V = states(*[2] * X.shape[1])
    return chi_square(X, V, np.exp(model.score_samples(V)))


def test_tempering_visits_modes_that_gibbs_steps_do_not_leave():
    model = two_modes()
    V = states(*[2] * 6)
    share = np.exp(model.score_samples(V)) @ (V.sum(axis=1) > 3)
    assert 0.6 < share < 0.8
    stuck = {"particles": np.zeros((1, 1)), "b0": np.full(6, 0.3), "c0": np.array([-1.5])}
    plain = annealed(model, **stuck).sample(4000, random_state=0, n_steps=60)[0]
    assert (plain.sum(axis=1) > 3).mean() < 0.05
    X, H = annealed(model, **stuck, n_temperatures=6).sample(4000, random_state=0, n_steps=60)
    assert bit_frequencies_fit(X, model) > 0.01
    assert bit_frequencies_fit(plain, model) < 1e-6
    assert abs(H.mean() - model.transform(V)[:, 0] @ np.exp(model.score_samples(V))) < 0.05


@pytest.mark.parametrize("n_temperatures", [1, 6])
def test_tempered_training_chains_visit_both_modes(n_temperatures):
    model = two_modes()
    machine = model.run_.state.machine
    X, n = model.sample(200, random_state=0)[0], 3000
    weights = Weights(machine.b, machine.c, machine.W, np.empty(0))
    contrast = Contrast(
        BernoulliColumns().sampler(RNG(1)),
        weights,
        X,
        np.ones(200),
        batch_size=200,
        n_chains=n,
        n_steps=1,
        persistent=True,
        rng=RNG(0),
        n_temperatures=n_temperatures,
        base=np.zeros(6),
    )
    contrast.go_on(np.zeros((1, 1)), np.full(1, 0.8), np.empty((0, 1, 1)), 200)
    for _ in range(60):
        contrast.slopes(np.arange(200))
    fits = bit_frequencies_fit(contrast.A[:n].astype(float), model)
    assert fits > 0.01 if n_temperatures > 1 else fits < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_tempering_keeps_the_distribution_of_codes_and_counts(kind):
    model = annealed(machine_of(kind), n_temperatures=4, c0=np.array([1.0, -1.5, 0.5]))
    V, _, log_p, log_z = table(kind, model)
    X = model.sample(6000, random_state=0, n_steps=30)[0]
    assert chi_square(X, V, np.exp(logsumexp(log_p, axis=1) - log_z)) > 0.01


@pytest.mark.parametrize("n_temperatures", [1, 8])
def test_tempering_crosses_between_gaussian_modes(n_temperatures):
    """Chains begin in one of two Gaussians of six standard deviations' distance."""
    variance, n = np.array([1.0, 4.0]), 3000
    model = RBM.from_parameters(
        components=[[6.0, -3.0]],
        intercept_visible=[-3.0, 1.5],
        intercept_hidden=[np.log(7 / 3) - 36 / 2 - 9 / 8],
        noise_variance=variance,
    )
    share = model.transform([[np.nan, np.nan]])[0, 0]
    assert share == pytest.approx(0.7)
    error = 5 * np.sqrt(share * (1 - share) / n)
    start = {"particles": np.zeros((1, 1)), "n_temperatures": n_temperatures}
    X, H = annealed(model, **start).sample(n, random_state=0, n_steps=60)
    assert (abs(H.mean() - share) < error) == (n_temperatures > 1)
    columns = GaussianColumns(0.1)
    contrast = Contrast(
        columns.sampler(RNG(1)),
        columns.standardise(model.run_.state.machine, 0.0, 1.0),
        X[:50],
        np.ones(50),
        batch_size=50,
        n_chains=n,
        n_steps=1,
        persistent=True,
        rng=RNG(0),
        n_temperatures=n_temperatures,
        base=np.zeros(2),
    )
    contrast.go_on(np.zeros((1, 1)), np.full(1, 0.7), np.empty((0, 1, 1)), 50)
    for _ in range(60):
        contrast.slopes(np.arange(50))
    assert (abs(contrast.h.mean() - share) < error) == (n_temperatures > 1)


def test_chains_of_other_temperatures_go_on():
    columns, X, weights = columns_and_weights("categorical", rows("categorical"), np.ones(200))
    settings = {"batch_size": 50, "n_chains": 7, "n_steps": 1, "persistent": True, "rng": RNG(0)}
    settings = {**settings, "n_temperatures": 3, "base": columns.base(X, np.ones(200))}
    contrast = Contrast(columns.sampler(RNG(1)), weights, X, np.ones(200), **settings)
    hot = (RNG(5).random((2, 7, 3)) < 0.5) * 1.0
    contrast.go_on(np.ones((7, 3)), np.full(3, 0.5), hot, 200)
    assert_array_equal(contrast.end().hot, hot)
    contrast.go_on(np.ones((7, 3)), np.full(3, 0.5), np.empty((0, 7, 3)), 200)
    assert_array_equal(contrast.end().hot, np.ones((2, 7, 3)))


def test_the_number_of_temperatures_reaches_training_and_draws():
    X = (rows("categorical", 40) > 0) * 1.0
    model = RBM(21, solver="persistent", n_updates=3, n_annealing_steps=3, random_state=0)
    X = np.hstack([X] * 7)  # neither layer can be counted
    plain = clone(model).fit(X)
    warm = clone(model).set_params(n_temperatures=3).fit(X)
    assert not np.array_equal(plain.components_, warm.components_)
    known = {
        "components": plain.components_,
        "intercept_visible": plain.intercept_visible_,
        "intercept_hidden": plain.intercept_hidden_,
        "n_annealing_steps": 3,
    }
    draws = [
        RBM.from_parameters(**known, n_temperatures=n).sample(50, random_state=0)[0] for n in (1, 3)
    ]
    assert not np.array_equal(*draws)
    assert warm.run_.state.sums.annealing.n_temperatures == 3


def test_trades_keep_the_distribution_of_each_temperature():
    """Draws from exp(t gain) at each t are such draws after a trade too."""
    t, rng, n = inverse_temperatures(3), RNG(0), 200000
    heights = np.array([0.0, 1.0, 3.0])
    p = np.exp(np.outer(t, heights))
    p /= p.sum(axis=1, keepdims=True)
    state = np.array([rng.choice(3, n, p=row) for row in p])
    for first in (0, 1):
        before = state.copy()
        exchange(t, heights[state], (state,), rng, first)
        for row, q in zip(state, p):
            assert_allclose(np.bincount(row, minlength=3) / n, q, atol=5 * 0.5 / np.sqrt(n))
        moved = (state != before).any(axis=1)
        assert_array_equal(moved, [True, True, False] if first == 0 else [False, True, True])
    rises = state[0].astype(float)
    kept = state.copy()
    exchange(t, np.stack([rises * 0 + 50, rises * 0, rises * 0]), (kept,), rng, 0)
    assert_array_equal(kept, state)  # nobody climbs down fifty nats for half a temperature


# --- scikit-learn -----------------------------------------------------------------------------


class Mapped(RBM):
    """For these checks only: validation maps any number into the support."""

    def _into(self, X):
        table = np.asarray(X)
        if table.ndim != 2 or not table.size or not np.isreal(table).all():
            return X  # for validation to refuse
        return np.floor(np.abs(np.asarray(table, float) * 3.0)) % 7

    def fit(self, X, y=None, sample_weight=None):
        return super().fit(self._into(X), y, sample_weight)

    def partial_fit(self, X, y=None, sample_weight=None):
        return super().partial_fit(self._into(X), y, sample_weight)

    def _read_all(self, X):
        return self._into(super()._read_all(X))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = tags.input_tags.categorical = False
        tags.transformer_tags.preserves_dtype = ["float64"]
        return tags


# scikit-learn's one check that heeds no tags draws its rows from [0, 1].
NO_TAGS = {"check_sample_weight_equivalence_on_dense_data"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cls", [RBM, Mapped])
@pytest.mark.parametrize("kind", KINDS)
def test_every_check_passes(kind, cls):
    results = check_estimator(cls(2, visible=kind, random_state=0), on_skip=None, on_fail=None)
    excused = NO_TAGS if cls is RBM else ()
    left = [r for r in results if r["status"] != "passed" and r["check_name"] not in excused]
    assert [(r["check_name"], r["status"], str(r["exception"])) for r in left] == []
    assert len(results) >= 50


@pytest.mark.parametrize("visible", ["auto", "bernoulli", "gaussian", *KINDS])
def test_tags_follow_the_columns(visible):
    tags = RBM(visible=visible).__sklearn_tags__().input_tags
    assert tags.positive_only == tags.categorical == (visible in KINDS)
