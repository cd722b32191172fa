"""Emissions side by side: one block-diagonal Gaussian is the oracle, and each part its own."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklvm.emissions.categorical import Categoricals
from sklvm.emissions.columns import ColumnEmissions
from sklvm.emissions.covariance import Diag, Penalty
from sklvm.emissions.dense import Full
from sklvm.emissions.factor_analyzers import FactorAnalyzers
from sklvm.emissions.gaussian import Gaussians
from sklvm.emissions.simplex import Point
from sklvm.inference.blocks import sum_blocks
from sklvm.inference.em import evaluate, known_of
from sklvm.mixture_state import MixtureState
from sklvm.numerics.linalg import posterior_and_evidence

from .builders import covariance, emission, responsibilities

K = 3
OFFSET = np.log([0.5, 0.3, 0.2])
PLACES = (np.array([4, 1]), np.array([2, 3]), np.array([0, 5, 6]))
D = 7


def factors(K, d, seed):
    rng = np.random.default_rng(seed)
    return FactorAnalyzers(rng.normal(size=(K, d)), covariance("low_rank", K, d, rng, q=1))


def mixed():
    """A group out of order, one that stands together, and one that does not."""
    return ColumnEmissions(
        (emission("gaussian-full", K, 2), emission("student-diag", K, 2, seed=1), factors(K, 3, 2)),
        PLACES,
    )


def gaussians(structures=("full", "full", "full"), **options):
    kinds = [f"gaussian-{structure}" for structure in structures]
    parts = [
        emission(kind, K, len(place), seed=s, **options)
        for s, (kind, place) in enumerate(zip(kinds, PLACES, strict=True))
    ]
    return ColumnEmissions(tuple(parts), PLACES)


def as_one(value):
    """The Gaussian of all columns whose covariance is block-diagonal."""
    means, S = np.empty((K, D)), np.zeros((K, D, D))
    for part, place in zip(value.parts, value.places, strict=True):
        means[:, place] = part.means
        S[:, place[:, None], place] = part.cov.dense()
    return Gaussians(means, Full.of(S, Penalty(0.0, np.zeros((D, D)))))


def some_rows(holes=0.3, n=40, d=D, seed=3):
    rng = np.random.default_rng(seed)
    X = 2 * rng.standard_normal((n, d))
    X[rng.uniform(size=X.shape) < holes] = np.nan
    if holes:
        X[0, PLACES[0]] = np.nan
        X[1, PLACES[2]] = np.nan
        X[2] = np.nan
    return X


VALUES = {"mixed": mixed, "gaussians": gaussians}
EACH = pytest.mark.parametrize("value", [make() for make in VALUES.values()], ids=list(VALUES))
HOLES = pytest.mark.parametrize("holes", [0.0, 0.3], ids=["complete", "holes"])


# --- one block-diagonal Gaussian ---------------------------------------------------------------


@HOLES
def test_the_density_is_that_of_one_gaussian(holes):
    value, X = gaussians(), some_rows(holes)
    assert_allclose(value.log_prob(X), as_one(value).log_prob(X), rtol=1e-11, atol=1e-11)
    assert_allclose(value.complete(X), as_one(value).complete(X), rtol=1e-10, atol=1e-12)
    assert_array_equal(value.expectation(), as_one(value).means)


@pytest.mark.parametrize("columns", [[3], [4, 1], [1, 4], [6, 2, 0, 1], [3, 2, 5, 0, 6, 1, 4]])
def test_a_marginal_cuts_across_groups_and_reorders(columns):
    value, X, columns = gaussians(), some_rows(), np.array(columns)
    some, one = value.marginal(columns), as_one(value).marginal(columns)
    assert some.n_features == len(columns)
    assert_allclose(some.log_prob(X[:, columns]), one.log_prob(X[:, columns]), rtol=1e-10)
    assert_array_equal(some.expectation(), one.means)
    assert all(len(place) for place in some.places)  # a group without a column is gone


@pytest.mark.parametrize("seen", [[1], [2, 3], [6, 4], [0, 3, 1, 5], [5, 0, 6, 2, 3, 4]])
def test_conditioning_is_that_of_one_gaussian(seen):
    value, X, seen = gaussians(), some_rows(0.0), np.array(seen)
    values, rest = X[4, seen], np.setdiff1d(np.arange(D), seen)
    left, one = value.condition(seen, values), as_one(value).condition(seen, values)
    assert_allclose(left.expectation(), one.means, rtol=1e-10)
    assert_allclose(left.log_prob(X[:, rest]), one.log_prob(X[:, rest]), rtol=1e-9)


@EACH
@pytest.mark.parametrize("seen", [[1], [2, 3], [6, 4], [0, 3, 1, 5]])
def test_condition_times_marginal_is_the_joint(value, seen):
    X, seen = some_rows(0.0), np.array(seen)
    rest = np.setdiff1d(np.arange(D), seen)
    for x in X[:5]:
        joint = value.marginal(seen).log_prob(x[None, seen])
        joint += value.condition(seen, x[seen]).log_prob(x[None, rest])
        assert_allclose(joint, value.log_prob(x[None]), rtol=1e-10)


@pytest.mark.parametrize("targets", [[1, 4], [3, 0, 4], [2]])
@pytest.mark.parametrize("seen", [[], [5], [6, 5]])
def test_conditional_moments_are_those_of_one_gaussian(seen, targets):
    value, X = gaussians(), some_rows(0.0)
    asked = np.array(seen, int), np.array(targets)
    means, covariances = value.conditional_moments(X, *asked)
    expected = as_one(value).conditional_moments(X, *asked)
    assert_allclose(means, expected[0], rtol=1e-10, atol=1e-12)
    assert_allclose(np.broadcast_to(covariances, expected[1].shape), expected[1], atol=1e-12)


def test_conditional_moments_of_groups_with_and_without_a_covariance_per_row():
    value, X = mixed(), some_rows(0.0)
    seen, targets = np.array([3, 1]), np.array([6, 2, 4])
    means, covariances = value.conditional_moments(X, seen, targets)
    assert covariances.shape == (len(X), K, 3, 3)
    gauss, student, factor = value.parts
    for mine, part, own, wanted in [(2, gauss, [1], [0]), (1, student, [1], [0])]:
        place = value.places[0 if part is gauss else 1]
        mean, cov = part.conditional_moments(X[:, place], np.array(own), np.array(wanted))
        assert_allclose(means[:, :, mine], mean[:, :, 0])
        assert_allclose(
            covariances[:, :, mine, mine], np.tile(cov[:, :, 0, 0], (len(X) // len(cov), 1))
        )
    assert_allclose(means[:, :, 0], np.tile(factor.means[:, 2], (len(X), 1)))
    assert (covariances[:, :, [0, 0, 1], [1, 2, 2]] == 0).all()


# --- EM ----------------------------------------------------------------------------------------


@EACH
@HOLES
def test_a_step_is_that_of_each_group_over_the_rows_that_saw_it(value, holes):
    X, resp = some_rows(holes), responsibilities(40, K)
    stepped = value.m_step(value.stats(X, resp))
    started = value.start(X, resp)
    for part, new, start, place in zip(
        value.parts, stepped.parts, started.parts, PLACES, strict=True
    ):
        saw = ~np.isnan(X[:, place]).all(axis=1)
        x, r = X[np.ix_(saw, place)], resp[saw]
        assert_allclose(new.pack(part.m_step(part.stats(x, r))), 0.0, atol=1e-9)
        assert_allclose(start.pack(part.start(x, r)), 0.0, atol=1e-9)


STRUCTURES = [
    ("full", "full", "full"),
    ("tied", "diag", "tied"),
    ("diag", "tied", "spherical"),
    ("tied", "tied", "tied"),
]


@pytest.mark.parametrize("structures", STRUCTURES)
@pytest.mark.parametrize("holes", [0.0, 0.3, "a group in a run of rows"])
def test_a_sweep_says_what_log_prob_and_stats_say(structures, holes):
    value = gaussians(structures, count=1.0, strength=1.0)
    X = some_rows(0.0 if isinstance(holes, str) else holes, n=3000)
    if isinstance(holes, str):  # whole blocks in which one group was not seen at all
        X[:2500, PLACES[2]] = np.nan
    state = MixtureState(Point(np.exp(OFFSET)), value)
    rows = X, np.random.default_rng(0).integers(0, 3, len(X)).astype(float)
    resp = state.responsibilities(X) * rows[1][:, None]
    for known in (None, known_of(state, rows)):
        point = evaluate(state, rows, known=known)
        expected = (rows[1] @ state.log_prob(X) + value.log_prior()) / rows[1].sum()
        assert point.objective == pytest.approx(expected, rel=1e-10)
        new, plain = value.m_step(point.stats.emission), value.m_step(value.stats(X, resp))
        assert_allclose(value.pack(new), value.pack(plain), rtol=1e-7, atol=1e-9)


def test_an_impossible_component_stays_impossible():
    value, X = gaussians(("tied", "full", "diag")), some_rows()
    offset = np.array([0.0, -np.inf, 1.0])
    joint, _ = value.sweep(offset).block(X)
    assert np.isneginf(joint[:, 1]).all() and np.isfinite(joint[:, [0, 2]]).all()


def test_what_no_parameter_changes_is_known_without_a_copy_of_the_rows():
    value, n = gaussians(("tied", "tied", "tied")), 5000
    X = some_rows(0.0, n)
    asked = []

    def total(function, arrays):
        asked.append(type(arrays[0]).__name__)
        return sum_blocks(function, arrays)

    for known, place in zip(value.known(X, np.ones(n), total), PLACES, strict=True):
        x = X[:, place] - known.origin
        assert_allclose(known.second, x.T @ x, rtol=1e-10)
    assert asked == ["Scattered", "ndarray", "Scattered"]
    assert np.shares_memory(X, X[:, 2:4])


def test_it_leaps_in_coordinates_of_its_own():
    value, other = mixed(), mixed()
    moved = replace(value, parts=tuple(part.take(np.array([1, 0, 2])) for part in other.parts))
    vector = value.pack(moved)
    there = value.unpack(vector)
    assert_allclose(value.pack(value), 0.0, atol=1e-12)
    assert_allclose(there.log_prob(some_rows()), moved.log_prob(some_rows()), rtol=1e-8)


# --- the verbs ---------------------------------------------------------------------------------


@EACH
def test_samples_are_drawn_in_place(value):
    z = np.repeat(np.arange(K), 4000)
    X = value.sample(z, np.random.default_rng(0))
    spread = X.std(axis=0)
    for k in range(K):
        gap = X[z == k].mean(axis=0) - value.expectation()[k]
        assert (np.abs(gap) < 0.1 * spread).all()
    corr = np.corrcoef(X[z == 0].T)
    groups = np.zeros(D, int)
    for g, place in enumerate(value.places):
        groups[place] = g
    assert np.abs(corr[groups[:, None] != groups]).max() < 0.08


@EACH
def test_completing_asks_each_group(value):
    X = some_rows()
    z = np.arange(len(X)) % K
    drawn = value.complete_sample(X, z, np.random.default_rng(0))
    assert_array_equal(drawn[~np.isnan(X)], X[~np.isnan(X)])
    assert np.isfinite(drawn).all()
    completed, missing = value.complete(X), np.isnan(X)
    for part, place in zip(value.parts, value.places, strict=True):
        assert_allclose(completed[:, :, place], part.complete(X[:, place]), rtol=1e-12)
    x = completed[:, 0]
    for _ in range(3):
        resp, before = posterior_and_evidence(OFFSET + value.log_prob(x))
        x = value.climb(x, missing, resp)
        assert_array_equal(x[~missing], X[~missing])
        after = posterior_and_evidence(OFFSET + value.log_prob(x))[1]
        assert (after - before > -1e-10).all()


@pytest.mark.parametrize("first", ["code", "number"])
def test_groups_climb_one_after_the_other(first):
    """With the responsibilities of before, a second group could undo what the first one won."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        codes = Categoricals(
            rng.dirichlet([0.3] * 3, K) + 1e-3, np.array([3]), np.zeros(3), False, 0.0
        )
        flat = Penalty(0.0, np.zeros(1))
        one = Gaussians(4 * rng.normal(size=(K, 1)), Diag(rng.uniform(0.1, 3, (K, 1)), flat))
        parts = (codes, one) if first == "code" else (one, codes)
        value = ColumnEmissions(parts, (np.array([0]), np.array([1])))
        x = np.column_stack([rng.integers(0, 3, 60).astype(float), 4 * rng.normal(size=60)])
        x = x if first == "code" else x[:, ::-1]
        resp, before = posterior_and_evidence(OFFSET + value.log_prob(x))
        moved = value.climb(x, np.ones((60, 2), bool), resp)
        after = posterior_and_evidence(OFFSET + value.log_prob(moved))[1]
        assert (after - before).min() > -1e-10


def test_order_parameters_and_priors():
    value = gaussians(count=1.0, strength=1.0)
    order = np.array([2, 0, 1])
    assert_array_equal(
        value.take(order).log_prob(some_rows()), value.log_prob(some_rows())[:, order]
    )
    assert value.n_parameters == sum(part.n_parameters for part in value.parts) == K * (5 + 5 + 9)
    assert value.log_prior() == pytest.approx(sum(part.log_prior() for part in value.parts))
    resp = responsibilities(40, K)
    stats = value.stats(some_rows(), resp)
    taken = value.take(order).m_step(stats.take(order))
    assert_allclose(taken.pack(value.m_step(stats).take(order)), 0.0, atol=1e-10)


def test_it_says_what_it_is_made_of():
    value = mixed()
    assert value.base_measure.tolist() == ["lebesgue"] * D
    assert value.kind == (
        "Gaussians of Full in [4, 1] and StudentTs of Diag in [2, 3] and "
        "FactorAnalyzers of LowRank in [0, 5, 6]"
    )
    specs = [repr(spec) for spec, _ in value.spec]
    assert specs[:2] == ["Gaussian()", "StudentT(df=None, df_penalty=0.0)"]
    assert [columns for _, columns in value.spec] == [[4, 1], [2, 3], [0, 5, 6]]
    again = pickle.loads(pickle.dumps(value))
    assert_array_equal(again.log_prob(some_rows()), value.log_prob(some_rows()))
