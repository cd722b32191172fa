"""The pooled ensemble: density and fills by quadrature, member by member; the default."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from sklearn.base import clone

from sklvm import GaussianMixtureEnsemble, ImputationEnsemble, LatentImputer
from sklvm.imputation_ensemble import PooledState
from sklvm.numerics.column_maps import ColumnMaps

MODEL = ImputationEnsemble(4, n_members=2, tol=1e-4, random_state=0)
GAPS = [[np.nan, 2.0], [1.0, np.nan], [6.0, np.nan], [np.nan, np.nan]]


def rows(n=120, seed=0, holes=True):
    """A skewed column and a related one of few values."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 1)) + 0.5 * rng.normal(size=(n, 2))
    X = np.column_stack([np.exp(z[:, 0]), np.round(2 * z[:, 1]).clip(-2, 2)])
    return np.where(rng.uniform(size=X.shape) < 0.15 * holes, np.nan, X)


@pytest.fixture(scope="module")
def model():
    return clone(MODEL).fit(rows())


def line(model, column, n=60, far=60.0):
    """Nodes and weights of a rule with an end at every knot, far out on either side: (m,), (m,)."""
    knots = model.state_.emission.parts[1].maps.x[column]
    inner = np.concatenate([np.linspace(a, b, 5)[1:] for a, b in pairwise(knots)])
    out = knots.std() * np.geomspace(0.02, far, 12)
    ends = np.concatenate([knots[0] - out[::-1], knots[:1], inner, knots[-1] + out])
    node, weight = np.polynomial.legendre.leggauss(n // 4)
    half = np.diff(ends)[:, None] / 2
    x = (ends[1:] + ends[:-1])[:, None] / 2 + half * node
    return x.ravel(), (half * weight).ravel()


def members(state):
    """The density of each member as a function of rows in the units of X."""
    maps = state.emission.parts[1].maps
    plain, mapped = state.sides
    for member in plain.members:
        yield member.log_prob
    for member in mapped.members:
        yield lambda X, m=member: m.log_prob(maps.forward(X)) + maps.log_slope(X).sum(axis=1)


# --- the density ------------------------------------------------------------------------------


def test_the_density_is_the_mean_of_the_members(model):
    X = rows()
    each = [log_prob(X) for log_prob in members(model.state_)]
    assert len(each) == 4 and model.sizes_ == ((2, 2), (2, 2)) and model.n_components_ == 8
    expected = logsumexp(each, axis=0) - np.log(4)  # 0 where all is missing
    assert_allclose(model.score_samples(X), expected, rtol=1e-10, atol=1e-14)


def test_it_integrates_to_one_and_a_missing_entry_is_integrated_out(model):
    (a, wa), (b, wb) = line(model, 0), line(model, 1)
    plane = np.column_stack([np.repeat(a, len(b)), np.tile(b, len(a))])
    assert np.outer(wa, wb).ravel() @ np.exp(model.score_samples(plane)) == pytest.approx(
        1.0, abs=1e-6
    )
    column = np.column_stack([a, np.full(len(a), 2.0)])
    seen = logsumexp(model.score_samples(column), b=wa)
    assert model.score_samples([[np.nan, 2.0]])[0] == pytest.approx(seen, abs=1e-6)


def test_parameters_are_those_of_the_members_and_of_the_maps(model):
    per_member = 1 + 2 * (2 + 3)
    knots = model.state_.emission.parts[1].maps.n_knots
    assert knots.tolist() == [12, 5]
    assert model.n_parameters_ == 4 * per_member + (12 - 2) + (5 - 2)


# --- what is filled in ------------------------------------------------------------------------


def test_means_are_those_of_each_member_by_quadrature_with_equal_weights(model):
    filled = model.impute(GAPS)
    for row, found in zip(GAPS[:3], filled):
        gap = int(np.isnan(row).argmax())
        x, weight = line(model, gap)
        whole = np.tile(row, (len(x), 1))
        whole[:, gap] = x
        each = []
        for log_prob in members(model.state_):
            mass = weight * np.exp(log_prob(whole))
            each.append(mass @ x / mass.sum())
        assert np.ptp(each) > 0.02  # the members disagree
        assert found[gap] == pytest.approx(np.mean(each), rel=1e-6)
    assert_allclose(filled[3], model.weights_ @ model.means_, rtol=1e-10)


def test_draws_have_the_mean_and_come_from_the_equal_average(model):
    draws = model.impute(GAPS, how="sample", n_draws=4000, random_state=0)
    gap = (draws - model.impute(GAPS))[:, np.isnan(GAPS)]
    assert (np.abs(gap.mean(axis=0)) < 5 * gap.std(axis=0) / np.sqrt(4000)).all()
    X, _ = model.sample(4000, random_state=0)
    u, v = np.tanh(X), np.tanh(draws[:, 3])
    assert (np.abs(u.mean(axis=0) - v.mean(axis=0)) < 5 * u.std(axis=0) * np.sqrt(2 / 4000)).all()


def test_modes_are_those_of_the_plain_mixtures(model):
    plain = model.state_.sides[0]
    assert_allclose(model.impute(GAPS, how="mode"), plain.fill_mode(np.array(GAPS)))


def test_with_maps_that_change_nothing_it_is_the_plain_ensemble():
    X = rows()
    plain = GaussianMixtureEnsemble(4, n_members=2, random_state=0).fit(X).state_
    line = np.tile([-1.0, 1.0], (2, 1))
    pooled = PooledState.of([plain, plain], [ColumnMaps(line, line, np.array([2, 2]))])
    assert_allclose(pooled.log_prob(X), plain.log_prob(X), rtol=1e-10, atol=1e-12)
    assert pooled.n_parameters == 2 * plain.n_parameters
    alone = [member.fill_mean(X) for member in plain.members]
    assert_allclose(pooled.fill_mean(X), np.mean(alone, axis=0), rtol=1e-10)
    assert_allclose(pooled.emission.expectation()[4:], plain.emission.means, rtol=1e-12)


def test_parameters_of_a_posterior_are_drawn(model):
    X = rows()
    copies = model.impute(X, how="sample", n_draws=3, random_state=0, parameters="posterior")
    assert copies.shape == (3, *X.shape) and np.isfinite(copies).all()
    part = model.marginal([1])
    assert type(part) is ImputationEnsemble
    copy = part.impute(X[:, 1:], how="sample", random_state=0, parameters="posterior")
    assert np.isfinite(copy).all()
    seen = model.score_samples(np.column_stack([np.full(len(X), np.nan), X[:, 1]]))
    assert_allclose(part.score_samples(X[:, 1:]), seen, rtol=1e-10)


def test_a_refit_goes_on_from_where_the_fit_ended(model):
    X = rows()
    X = X[~np.isnan(X).all(axis=1)]
    again = model._refit(X, np.ones(len(X)))
    assert model.history_[-1] - 1e-9 <= again.objective < model.history_[-1] + 0.1


# --- the fit ----------------------------------------------------------------------------------


def test_weights_are_counts_and_order_is_none(model):
    X = rows()
    times = np.random.default_rng(1).integers(0, 3, len(X))
    one = clone(MODEL).fit(X, sample_weight=times)
    other = clone(MODEL).fit(np.repeat(X, times, axis=0)[::-1])
    assert_allclose(one.impute(X), other.impute(X), rtol=1e-7)
    assert np.abs(one.impute(GAPS) - model.impute(GAPS)).max() > 0.01


def test_units_change_scores_by_the_jacobian_and_nothing_else(model):
    X, scale, shift = rows(), np.array([1e-3, 50.0]), np.array([7.0, -3.0])
    moved = clone(MODEL).fit(X * scale + shift)
    assert_allclose((moved.impute(X * scale + shift) - shift) / scale, model.impute(X), rtol=1e-6)
    assert_allclose(
        moved.score_samples(X[:9] * scale + shift),
        model.score_samples(X[:9]) - (~np.isnan(X[:9])) @ np.log(scale),
        rtol=1e-6,
    )


def test_the_objective_is_the_mean_of_the_members_in_the_units_of_the_rows():
    X = rows()
    one = ImputationEnsemble(1, n_members=1, covariance_prior=0.0, tol=1e-9).fit(X)
    X = X[~np.isnan(X).all(axis=1)]
    each = [log_prob(X).mean() for log_prob in members(one.state_)]
    assert np.ptp(each) > 0.1
    assert one.history_[-1] == pytest.approx(np.mean(each), rel=1e-9)


def test_the_automatic_prior_is_a_quarter_of_that_of_a_mixture(model):
    quarter = clone(MODEL).set_params(covariance_prior=(2 / 2) / 4).fit(rows())
    assert_array_equal(quarter.means_, model.means_)


def test_a_constant_column_and_few_rows():
    X = np.column_stack([rows(9, holes=False), np.full(9, 3.0)])
    with pytest.warns(UserWarning, match="constant"):
        few = ImputationEnsemble(random_state=0).fit(X)
    assert few.sizes_ == ((1,) * 5, (1,) * 5) and few.means_.shape == (10, 3)
    assert_array_equal(few.impute([[np.nan, 1.0, np.nan]])[:, 1:], [[1.0, 3.0]])


@pytest.mark.parametrize("n_done", [0, 1])
def test_an_interruption_keeps_the_members_that_are_done(monkeypatch, n_done):
    fit, calls = GaussianMixtureEnsemble.fit, []

    def interrupted(self, X, y=None, sample_weight=None):
        calls.append(self)
        if len(calls) > n_done:
            raise KeyboardInterrupt
        return fit(self, X, sample_weight=sample_weight)

    monkeypatch.setattr(GaussianMixtureEnsemble, "fit", interrupted)
    stopped = clone(MODEL)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(rows())
    assert hasattr(stopped, "run_") == (n_done == 1)
    if n_done:
        assert not stopped.converged_ and stopped.sizes_ == ((2, 2),)
        assert np.isfinite(stopped.impute(GAPS)).all()


# --- what it is for ---------------------------------------------------------------------------


def test_it_is_the_default_of_the_imputer():
    fitted = LatentImputer(random_state=0).fit(rows())
    assert type(fitted.estimator_) is ImputationEnsemble


@pytest.mark.parametrize("seed", range(3))
def test_skewed_columns_are_filled_better_than_by_plain_mixtures(seed):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 5)) + 0.4 * rng.normal(size=(300, 5))
    whole = np.exp(z)
    X = np.where(rng.uniform(size=whole.shape) < 0.2, np.nan, whole)

    def error(density):
        gap = LatentImputer(density, random_state=0).fit_transform(X) - whole
        return np.sqrt(np.mean((gap / whole.std(axis=0)) ** 2))

    assert error(None) < 0.95 * error(GaussianMixtureEnsemble())
