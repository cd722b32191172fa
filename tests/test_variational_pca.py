"""What is particular to Bayesian PCA: its bound, its closed form, its number of factors."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from sklvm import EMFactorAnalysis, VariationalPCA
from sklvm.inference.bayesian_pca import Eigenvalues
from sklvm.inference.em import em, evaluate
from sklvm.inference.pruning import fewer_factors, pruned
from sklvm.variational_factor_state import VariationalFactorState, _rotated, _shift
from tests._models import rows

HOLES = pytest.mark.parametrize("holes", [0.0, 0.25], ids=["complete", "holes"])


def simulated(n, d, k, holes=0.0, seed=0):
    rng = np.random.default_rng([seed, n, d, k])
    X = rng.normal(size=(n, k)) @ rng.normal(size=(k, d)) + rng.normal(size=(n, d)) + np.arange(d)
    X[rng.uniform(size=X.shape) < holes] = np.nan
    return X[~np.isnan(X).all(axis=1)]


def any_state(d, q, seed=0, groups=None):
    rng = np.random.default_rng(seed)
    L = 0.3 * rng.normal(size=(groups or d, q, q))
    S = L @ L.mT + 0.1 * np.eye(q)
    W, alpha = rng.normal(size=(d, q)), rng.uniform(0.5, 2.0, q)
    return VariationalFactorState(rng.normal(size=d), W, S, alpha, 0.7, 1e-9)


def best_factors(state, X):
    """The q(z) of each row that is best for the bound: means and covariances."""
    found = []
    for x in X - state.mean:
        o = ~np.isnan(x)
        inner = state.W[o].T @ state.W[o] + state.spread[o].sum(axis=0)
        V = np.linalg.inv(np.eye(len(inner)) + inner / state.noise)
        found.append((V @ state.W[o].T @ x[o] / state.noise, V))
    return found


def bound_by_definition(state, X, weight, factors=None):
    """E_q[log p(X, Z, W)] + H[q(Z)] + H[q(W)], row by row and feature by feature."""
    W, S, noise, q = state.W, state.spread, state.noise, state.W.shape[1]
    second = np.einsum("ji,jk->jik", W, W) + S  # E[w_j w_j']
    total = 0.0
    for x, w, (z, V) in zip(X - state.mean, weight, factors or best_factors(state, X)):
        o = ~np.isnan(x)
        zz = np.outer(z, z) + V
        squares = x[o] ** 2 - 2 * x[o] * (W[o] @ z) + np.einsum("jik,ki->j", second[o], zz)
        total += w * -0.5 * (np.log(2 * np.pi * noise) + squares / noise).sum()
        total += w * -0.5 * (q * np.log(2 * np.pi) + np.trace(zz))
        total += w * entropy(V)
    for m, C in zip(W, S):
        prior = np.log(state.alpha / (2 * np.pi)) - state.alpha * (m**2 + np.diag(C))
        total += 0.5 * prior.sum() + entropy(C)
    return total


def entropy(C):
    return 0.5 * np.linalg.slogdet(2 * np.pi * np.e * C)[1]


# --- the bound --------------------------------------------------------------------------------


@HOLES
@pytest.mark.parametrize("groups", [1, None], ids=["one S", "an S each"])
def test_the_bound_is_its_definition(holes, groups):
    X = simulated(20, 5, 2, holes)
    state, weight = any_state(5, 3, groups=groups), np.random.default_rng(1).uniform(0.5, 3, 20)
    value = evaluate(state, (X, weight)).objective * weight.sum()
    assert value == pytest.approx(bound_by_definition(state, X, weight), rel=1e-12)
    terms = state.elbo_terms(X)
    assert_allclose(sum(terms), state.log_prob(X), rtol=1e-11)
    squares = np.array([z @ z + np.trace(V) for z, V in best_factors(state, X)])
    prior = -0.5 * (3 * np.log(2 * np.pi) + squares)
    assert_allclose(terms[1], prior, rtol=1e-11)
    assert weight @ sum(terms) + state.log_prior() == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("gap_at", [None, (1, 0)], ids=["complete", "holes"])
def test_the_bound_is_below_the_evidence_by_quadrature(gap_at):
    X = np.array([[2.0, 1.5], [-1.0, -1.2], [0.3, 0.8]])
    if gap_at:
        X[gap_at] = np.nan
    start = replace(any_state(2, 1), noise=0.3)
    state = start
    for _ in range(200):  # q(W) alone, at fixed mean, alpha and noise
        stats, _ = state.walk((X, np.ones(3)))
        new = state.m_step(stats)
        state = replace(state, W=new.W, S=new.S, mean=new.mean)
    grid = np.linspace(-12, 12, 1201)
    loadings = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2)

    def log_evidence(state):
        log_p = 0.5 * (np.log(state.alpha / (2 * np.pi)) - state.alpha * loadings**2).sum(axis=1)
        for x in X - state.mean:
            o = ~np.isnan(x)
            w = loadings[:, o]
            length = (w**2).sum(axis=1)
            rest = (x[o] ** 2).sum() - (w @ x[o]) ** 2 / (state.noise + length)
            log_det = o.sum() * np.log(state.noise) + np.log1p(length / state.noise)
            log_p -= 0.5 * (o.sum() * np.log(2 * np.pi) + log_det + rest / state.noise)
        return logsumexp(log_p) + 2 * np.log(grid[1] - grid[0])

    for tried in (start, state):
        gap = log_evidence(tried) - bound_by_definition(tried, X, np.ones(3))
        assert gap > 0
    assert gap < 1.5  # two signs of the loadings alone cost log 2


def test_a_row_bound_is_below_the_average_over_loadings():
    X, state, rng = simulated(30, 4, 1, 0.2), any_state(4, 2), np.random.default_rng(0)
    drawn = np.array([state.draw(rng).log_prob(X) for _ in range(4000)])
    average = logsumexp(drawn, axis=0) - np.log(len(drawn))
    error = np.exp(drawn - average).std(axis=0) / np.sqrt(len(drawn))
    gap = average - state.log_prob(X)
    assert (gap > -5 * error).all() and np.median(gap / error) > 5


# --- the climb --------------------------------------------------------------------------------


@pytest.mark.parametrize("accelerate", [None, "squarem"])
@HOLES
def test_the_bound_never_falls(holes, accelerate):
    X = simulated(50, 6, 2, holes)
    weight = np.random.default_rng(2).integers(1, 4, len(X)).astype(float)
    settings = {"max_iter": 300, "tol": 1e-10, "accelerate": accelerate, "strict": True}
    for seed in range(3):
        run = em(any_state(6, 4, seed), (X, weight), **settings)
        assert np.diff(run.history).min() > -1e-12
        assert run.history[-1] > run.history[0] + 0.5


@HOLES
def test_the_bound_is_flat_where_it_ends(holes):
    X = simulated(80, 6, 2, holes)
    state = VariationalPCA(tol=1e-14).fit(X).state_
    state = replace(state, S=state.spread.copy())
    weighted, size = (X, np.ones(len(X))), len(state.pack(state))
    assert size == 6 + 12 + 6 * 3 + 2 + 1
    h = 1e-4
    for direction in np.eye(size) * h:
        up, down = (evaluate(state.unpack(s * direction), weighted).objective for s in (1, -1))
        here = evaluate(state, weighted).objective
        assert abs(up - down) / (2 * h) < 1e-6
        assert up + down - 2 * here < 1e-12  # and a maximum along each coordinate


def test_pack_and_unpack_are_inverse():
    a, b = any_state(5, 3, 0), any_state(5, 3, 1)
    again = a.unpack(a.pack(b))
    for name in ("mean", "W", "S", "alpha", "noise"):
        assert_allclose(getattr(again, name), getattr(b, name), rtol=1e-10, err_msg=name)
    assert_allclose(a.pack(a), 0.0, atol=1e-14)
    big = [replace(s, mean=1e3 * s.mean, W=1e3 * s.W, S=1e6 * s.S, noise=1e6 * s.noise,
                   alpha=s.alpha / 1e6) for s in (a, b)]  # fmt: skip
    assert_allclose(big[0].pack(big[1]), a.pack(b), rtol=1e-9)


@HOLES
def test_each_part_of_a_step_is_the_best_of_its_kind(holes):
    X, state, rng = simulated(40, 5, 2, holes), any_state(5, 3), np.random.default_rng(0)
    state = replace(state, S=state.S if holes else state.S[:1])
    weight = rng.uniform(0.5, 2.0, len(X))
    factors, (stats, _) = best_factors(state, X), state.walk((X, weight))
    sizes = np.ones(5) if holes else np.array([5])

    def bound(state, factors):
        return bound_by_definition(state, X, weight, factors)

    def shifted(state, factors, a):
        return replace(state, mean=state.mean + state.W @ a), [(z - a, V) for z, V in factors]

    shift, second = _shift(state.S, state.noise, sizes, stats)
    moved, factors = shifted(state, factors, shift)
    best = bound(moved, factors)
    assert best > bound(state, best_factors(state, X)) + 0.01
    for _ in range(10):
        assert bound(*shifted(moved, factors, 0.1 * rng.normal(size=3))) < best
    sums = sum(w * (np.outer(z, z) + V) for w, (z, V) in zip(weight, factors))
    assert_allclose(second, sums, rtol=1e-10)

    def turned(state, T):
        inverse = np.linalg.inv(T)
        new = replace(state, W=state.W @ T, S=T.T @ state.S @ T)
        new = replace(new, alpha=5 / new.energies)
        return new, [(inverse @ z, inverse @ V @ inverse.T) for z, V in factors]

    W, S, alpha = _rotated(moved.W, moved.S, sizes, second / weight.sum())
    T = np.linalg.lstsq(moved.W, W)[0]
    new, found = turned(moved, T)
    assert_allclose(new.S, S, rtol=1e-8, atol=1e-12)
    assert_allclose(new.alpha, alpha, rtol=1e-9)
    best = bound(new, found)
    assert best > bound(*turned(moved, np.eye(3))) + 0.01
    for _ in range(20):
        assert bound(*turned(moved, T @ (np.eye(3) + 0.1 * rng.normal(size=(3, 3))))) < best
    stepped = state.m_step(stats)
    inner = stepped.W.T @ stepped.W + stepped.spread.sum(axis=0)
    assert_allclose(inner, np.diag(5 / stepped.alpha), atol=1e-10 * inner.max())


def test_a_column_that_no_row_saw_changes_nothing():
    X = simulated(40, 5, 2, 0.2)
    wide = np.insert(X, 2, np.nan, axis=1)
    state = any_state(5, 2)
    extra = replace(
        state,
        mean=np.insert(state.mean, 2, 9.0),
        W=np.insert(state.W, 2, 0.0, axis=0),
        S=np.insert(state.S, 2, np.diag(1 / state.alpha), axis=0),
    )
    weight, rest = np.ones(len(X)), np.delete(np.arange(6), 2)
    for _ in range(3):
        a, b = evaluate(state, (X, weight)), evaluate(extra, (wide, weight))
        assert a.objective == pytest.approx(b.objective, rel=1e-12)
        state, extra = state.m_step(a.stats), extra.m_step(b.stats)
        for name in ("mean", "W", "S"):
            assert_allclose(getattr(extra, name)[rest], getattr(state, name), rtol=1e-9, atol=1e-12)
        assert_allclose(extra.alpha, state.alpha, rtol=1e-10)
        assert extra.noise == pytest.approx(state.noise, rel=1e-12)
        assert extra.mean[2] == 9.0
        assert_allclose(extra.S[2], np.diag(1 / state.alpha), rtol=1e-10)


# --- complete data in closed form -------------------------------------------------------------

SHAPES = [(60, 8, 2), (40, 15, 3), (12, 40, 2), (30, 30, 1), (25, 6, 0), (15, 4, 3)]


@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_steps_from_the_closed_form_do_not_raise_the_bound(n, d, k):
    X = simulated(n, d, k)
    model = VariationalPCA(tol=1e-12).fit(X)
    run = em(model.state_, (X, np.ones(n)), max_iter=50, tol=0.0, strict=True)
    assert run.objective - model.history_[0] < 1e-12 * (1 + abs(run.objective))
    assert model.lower_bound_ == pytest.approx(
        bound_by_definition(model.state_, X, np.ones(n)), rel=1e-11
    )


@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_no_random_start_ends_higher_than_the_closed_form(n, d, k):
    X = simulated(n, d, k)
    best = VariationalPCA().fit(X).history_[-1]
    ends = []
    for seed in range(4):
        q = min(d, n - 1, 6) - 1
        start = replace(any_state(d, q, seed), mean=X.mean(axis=0))
        run = em(start, (X, np.ones(n)), max_iter=300, tol=1e-9, accelerate="squarem", strict=True)
        ends.append(run.objective)
    assert max(ends) < best + 1e-10
    assert max(ends) > best - 0.05  # where a factor that goes to zero takes many steps


def test_steps_lead_to_the_closed_form():
    X = simulated(100, 7, 2)
    model = VariationalPCA().fit(X)
    assert model.n_active_ == 2
    start = any_state(7, 2, 3)
    run = em(start, (X, np.ones(100)), max_iter=1000, tol=1e-13, accelerate="squarem", strict=True)
    end = run.state.canonical()
    assert_allclose(end.W.T, model.components_, rtol=1e-4, atol=1e-5)
    assert_allclose(end.spread, model.components_covariance_, rtol=1e-4, atol=1e-7)
    assert_allclose(end.alpha, model.ard_precision_, rtol=1e-4)
    assert end.noise == pytest.approx(model.noise_variance_, rel=1e-5)


@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
@pytest.mark.parametrize("q", [1, 3])
def test_the_noise_variance_is_the_best_of_a_grid(n, d, k, q):
    S = np.cov(simulated(n, d, k).T, bias=True)
    values = np.linalg.eigvalsh(S)[::-1]
    eigenvalues = Eigenvalues(values[:q], np.trace(S), n, d)
    floor = 1e-8 * np.trace(S) / d
    noise = eigenvalues.noise_variance(floor)
    grid = np.geomspace(floor, np.trace(S) / d, 4001)
    assert eigenvalues.loss(noise) <= min(map(eigenvalues.loss, grid)) + 1e-9
    for k in range(q):  # the slope is the derivative of the loss
        some = eigenvalues._replace(values=values[:k])
        places = np.log(noise * 0.7) + np.array([-1e-5, 0.0, 1e-5])
        ratios = [some.ratios(np.exp(place)) for place in places]
        loss = [
            n * (d * place + np.trace(S) / np.exp(place)) + some.costs(r).sum()
            for place, r in zip(places, ratios)
        ]
        if all((r > 0).all() for r in ratios):
            slope = eigenvalues.slope(places[1], k)
            assert (loss[2] - loss[0]) / 2e-5 == pytest.approx(slope, rel=1e-5, abs=1e-4)


def test_weights_are_counts_in_the_closed_form():
    X = simulated(20, 5, 2)
    weight = np.random.default_rng(0).integers(0, 4, 20)
    once, often = VariationalPCA(), VariationalPCA()
    once.fit(X, sample_weight=weight)
    often.fit(np.repeat(X, weight, axis=0))
    assert once.n_active_ == often.n_active_ > 0
    assert once.lower_bound_ == pytest.approx(often.lower_bound_, rel=1e-12)
    assert_allclose(once.components_covariance_, often.components_covariance_, rtol=1e-9)


# --- the number of factors --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "d", "k", "holes"),
    [
        *((200, 10, 2, 0.0), (1000, 20, 5, 0.0), (500, 30, 8, 0.0), (100, 150, 3, 0.0)),
        *((200, 10, 2, 0.2), (400, 20, 5, 0.3), (300, 30, 3, 0.5), (60, 80, 2, 0.2)),
        *((300, 12, 0, 0.0), (50, 30, 0, 0.0), (300, 12, 0, 0.3), (30, 40, 0, 0.1)),
    ],
)
def test_the_number_of_factors_is_found(n, d, k, holes):
    for seed in range(3):
        model = VariationalPCA().fit(simulated(n, d, k, holes, seed))
        assert model.converged_
        assert model.n_active_ == k
        assert model.components_.shape == (k, d)
        assert model.noise_variance_ == pytest.approx(1.0, abs=0.15)


def test_no_factor_is_a_spherical_gaussian():
    X = simulated(100, 4, 0)
    model = VariationalPCA().fit(X)
    assert model.transform(X).shape == (100, 0)
    assert model.lower_bound_ == pytest.approx(model.score_samples(X).sum(), rel=1e-12)
    one = multivariate_normal(X.mean(axis=0), X.var(axis=0).mean() * np.eye(4))
    assert_allclose(model.score_samples(X), one.logpdf(X), rtol=1e-10)


def test_n_components_is_a_limit():
    X = simulated(300, 10, 4)
    assert [VariationalPCA(q).fit(X).n_active_ for q in (1, 3, 4, 9, 50)] == [1, 3, 4, 4, 4]
    bounds = [VariationalPCA(q).fit(X).lower_bound_ for q in (1, 2, 3, 4, 9)]
    assert (np.diff(bounds[:4]) > 0).all() and bounds[4] == pytest.approx(bounds[3], rel=1e-13)


def test_something_is_left_to_the_noise():
    # As many factors as rows less one would leave nothing, and the bound would have no end.
    for holes in (False, True):
        X = simulated(4, 50, 0)
        X[0, 0] = np.nan if holes else X[0, 0]
        assert VariationalPCA().fit(X).noise_variance_ > 0.1
    X = np.repeat(simulated(4, 50, 0), 2, axis=0)
    assert VariationalPCA().fit(X).n_active_ <= 2


def test_trials_without_a_factor_keep_the_history():
    X = simulated(200, 30, 8, 0.5)
    model = VariationalPCA().fit(X)
    assert (np.diff(model.history_) == 0).sum() > 10  # trials; some factors were taken away
    assert np.diff(model.history_).min() > -1e-12
    assert len(model.history_) == model.n_iter_ + 1
    weighted = X, np.ones(len(X))
    for factor in range(model.n_active_):  # and none that is left can go
        some = np.delete(np.arange(model.n_active_), factor)
        run = em(model.state_.take(some), weighted, max_iter=200, tol=1e-6)
        assert run.objective < model.history_[-1]


@pytest.mark.parametrize(("n", "d", "k"), [(60, 12, 3), (40, 20, 1), (100, 8, 0), (30, 25, 3)])
def test_no_random_start_ends_higher_where_entries_are_missing(n, d, k):
    X = simulated(n, d, k, 0.35)
    model = VariationalPCA().fit(X)
    settings = {"lighter": fewer_factors, "margin": 0.0, "climb": em, "accelerate": "squarem"}
    for seed in range(3):
        start = replace(any_state(d, 5, seed), mean=np.nanmean(X, axis=0))
        rows = X, np.ones(len(X))
        run = pruned(start, rows, tol=1e-5, max_iter=600, n_jobs=None, **settings)
        assert run.objective < model.history_[-1] + 1e-6


# --- the density and what it shows ------------------------------------------------------------


@HOLES
def test_scores_are_those_of_the_predictive_moments(holes):
    X = simulated(80, 6, 2, holes)
    model = VariationalPCA().fit(X)
    assert model.n_active_ == 2
    W, S = model.components_, model.components_covariance_
    noise = model.noise_variance_ + np.trace(S, axis1=1, axis2=2)
    C = W.T @ W + np.diag(noise)
    assert_allclose(model.get_covariance(), C, rtol=1e-12)
    for x, score in zip(X, model.score_samples(X)):
        o = ~np.isnan(x)
        seen = multivariate_normal(model.mean_[o], C[np.ix_(o, o)])
        assert score == pytest.approx(seen.logpdf(x[o]), rel=1e-9)
    draws = [model.state_.draw(np.random.default_rng(i)) for i in range(4000)]
    average = np.array([draw.emission.cov.dense()[0] for draw in draws])
    error = average.std(axis=0) / np.sqrt(len(draws))
    assert (np.abs(average.mean(axis=0) - C) < 5 * error).all()


def test_what_is_shown_of_the_factors():
    X = simulated(200, 6, 3, 0.1)
    model = VariationalPCA().fit(X)
    W, S = model.components_, model.components_covariance_
    inner = W @ W.T + S.sum(axis=0)
    assert_allclose(inner, np.diag(6 / model.ard_precision_), rtol=1e-9, atol=1e-9)
    assert (np.diff(model.ard_precision_) > 0).all() and (W.sum(axis=1) > 0).all()
    total = np.trace(model.get_covariance())
    assert_allclose(model.explained_variance_ratio_, np.diag(inner) / total, rtol=1e-9)
    rest = 6 * model.noise_variance_ / total
    assert model.explained_variance_ratio_.sum() + rest == pytest.approx(1.0, rel=1e-12)
    assert isinstance(model.noise_variance_, float)


def test_constant_columns_have_no_loadings():
    X = np.insert(simulated(100, 5, 2), 1, 7.0, axis=1)
    with pytest.warns(UserWarning, match="constant"):
        model = VariationalPCA().fit(X)
    assert (model.components_[:, 1] == 0).all() and (model.components_covariance_[1] == 0).all()
    assert model.components_covariance_.shape == (6, 2, 2)
    assert (model.get_covariance()[1] == 0).all()
    assert model.mean_[1] == 7.0


def test_many_rows_agree_with_the_maximum_likelihood():
    X = simulated(20000, 6, 2)
    model = VariationalPCA().fit(X)
    values = np.linalg.eigvalsh(np.cov(X.T))[::-1]
    assert model.noise_variance_ == pytest.approx(values[2:].mean(), rel=1e-3)
    assert_allclose(np.linalg.eigvalsh(model.get_covariance())[::-1][:2], values[:2], rtol=1e-3)


def test_parts_are_factor_analyses():
    model = VariationalPCA().fit(simulated(100, 5, 2))
    C = model.get_covariance()
    part = model.marginal([0, 3])
    assert type(part) is EMFactorAnalysis
    assert_allclose(part.get_covariance(), C[np.ix_([0, 3], [0, 3])], rtol=1e-10)


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"noise_variance": 0.0}, "noise_variance must be a positive number, got 0.0"),
        ({"noise_variance": [1.0, 1.0]}, "noise_variance must be a positive number"),
        ({"components": [[1.0, np.nan]]}, "components must be finite"),
        ({"components_covariance": np.ones((2, 2, 2))}, r"components_covariance.*\(2, 1, 1\)"),
        ({"components_covariance": -np.ones((2, 1, 1))}, "symmetric and positive definite"),
        ({"mean": [0.0]}, r"mean.*\(2,\)"),
    ],
)
def test_impossible_parameters_are_refused(known, message):
    good = {"components": [[1.0, 2.0]], "components_covariance": 0.1 * np.ones((2, 1, 1))}
    VariationalPCA.from_parameters(**good, noise_variance=1.0)
    with pytest.raises(ValueError, match=message):
        VariationalPCA.from_parameters(**{**good, "noise_variance": 1.0, **known})


def test_degenerate_rows_have_finite_scores():
    rng = np.random.default_rng(0)
    low_rank = rng.normal(size=(50, 2)) @ rng.normal(size=(2, 6))
    twice = np.column_stack([rng.normal(size=(50, 2))] * 2)
    far, small = 1e8 + rng.normal(size=(50, 4)), 1e-8 * rng.normal(size=(50, 4))
    few = rng.normal(size=(3, 5))
    for X in (low_rank, twice, far, small, few, np.repeat(few, 20, axis=0), rows(1)):
        for holes in (False, True):
            X = X.copy()
            X[0, 0] = np.nan if holes else X[0, 0]
            model = VariationalPCA(max_iter=5000).fit(X)
            assert np.isfinite(model.score_samples(X)).all()
            assert np.isfinite(model.lower_bound_)
