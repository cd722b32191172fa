"""Merges of components: their statistics are sums, and a run ends higher or as it was."""

from functools import partial

import numpy as np
import pytest

from sklvm import VariationalGMM
from sklvm.inference.em import em, evaluate
from sklvm.inference.moves import HALF, likely_merges, reorganised
from sklvm.inference.pruning import merges, pruned
from sklvm.inference.start import Rows
from sklvm.variational_prior import POSTERIORS
from tests._models import rows
from tests.emissions.builders import emission, responsibilities

STRUCTURES = list(POSTERIORS)


def two_groups(n=60):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 2)) + 7.0 * (np.arange(n) % 3 == 0)[:, None]


def split_state(structure, X, empirical_bayes=None):
    """A state in which each of two groups is shared by two components, and a fifth is empty."""
    settings = {"moves": False, "random_state": 0, "max_iter": 1, "tol": 0, "n_init": 1}
    model = VariationalGMM(
        5, covariance_type=structure, empirical_bayes=empirical_bayes, **settings
    )
    with pytest.warns(Warning, match="did not converge"):
        state = model.fit(X).run_.state
    far = (X[:, 0] > 3.5).astype(int)
    resp = np.zeros((len(X), 5))
    resp[np.arange(len(X)), 2 * far] = 0.45
    resp[np.arange(len(X)), 2 * far + 1] = 0.55
    return state.start(X, resp)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("common_origin", [False, True])
def test_merged_statistics_are_those_of_merged_responsibilities(kind, common_origin):
    value = emission(f"gaussian-{kind}", K=4)
    X, resp = np.random.default_rng(1).normal(size=(20, 4)), responsibilities(20, 4)
    stats = value.stats(X, resp)
    if common_origin:
        stats = stats.about(np.full((1, 4), 0.3))
    merged = stats.merged(2, 0)
    resp[:, 2] += resp[:, 0]
    resp[:, 0] = 0.0
    direct = value.stats(X, resp).about(merged.origin)
    for name in ("count", "mass", "first", "second"):
        np.testing.assert_allclose(getattr(merged, name), getattr(direct, name), atol=1e-12)


def test_the_bound_of_merged_statistics_is_the_bound_of_the_merged_rows():
    """Hughes & Sudderth (2013): expected terms from sums, the entropy from the responsibilities."""
    X = two_groups()
    state = split_state("full", X)
    stats = evaluate(state, (X, np.ones(60))).stats
    resp = state.responsibilities(X)
    resp[:, 0] += resp[:, 1]
    resp[:, 1] = 0.0
    merged = state.m_step(stats.merged(0, 1))
    entropy = -(resp * np.log(np.where(resp > 0, resp, 1.0))).sum()
    by_sums = merged.expected(stats.merged(0, 1)) + entropy + merged.log_prior()
    direct = (np.where(resp > 0, resp * (merged.joint(X) - np.log(resp + (resp == 0))), 0)).sum()
    assert by_sums == pytest.approx(direct + merged.log_prior(), rel=1e-11)
    assert evaluate(merged, (X, np.ones(60))).objective * 60 >= by_sums


def merging(weighted, settings):
    return {"lighter": partial(merges, Rows(*weighted)), "margin": settings["tol"]}


@pytest.mark.parametrize("structure", STRUCTURES)
def test_shared_groups_are_merged_and_the_bound_rises(structure):
    X = two_groups()
    weighted = (X, np.ones(60))
    settings = {"max_iter": 2000, "tol": 1e-8, "n_jobs": None}
    state = split_state(structure, X)
    run = pruned(state, weighted, **merging(weighted, settings), climb=em, **settings)
    assert run.converged
    assert (run.state.weights.counts > HALF).sum() == 2
    assert np.diff(run.history).min() > -1e-12
    assert len(run.history) == run.n_iter + 1
    assert run.objective == pytest.approx(evaluate(run.state, weighted).objective, rel=1e-12)
    short = em(state, weighted, **settings)
    assert run.objective > short.objective - 1e-9


def test_what_does_not_end_higher_is_left_alone():
    X = two_groups()
    model = VariationalGMM(2, moves=False, random_state=0).fit(X)
    weighted = (X, np.ones(60))
    settings = {"max_iter": 1000, "tol": 1e-6, "n_jobs": None}
    run = pruned(model.run_.state, weighted, **merging(weighted, settings), climb=em, **settings)
    plain = em(model.run_.state, weighted, **settings)
    assert run.state.emission.m.tobytes() == plain.state.emission.m.tobytes()
    assert run.n_iter > plain.n_iter  # the passes of trials count
    assert (run.history[plain.n_iter :] == plain.objective).all()


def test_passes_stay_within_max_iter_and_are_told():
    X = two_groups()
    weighted, told = (X, np.ones(60)), []
    for max_iter in (3, 8, 15):
        told.clear()
        run = pruned(
            split_state("full", X),
            weighted,
            lighter=partial(merges, Rows(*weighted)),
            margin=1e-8,
            climb=em,
            max_iter=max_iter,
            tol=1e-8,
            n_jobs=None,
            callback=lambda i, state, objective: told.append((i, objective)) and False,
        )
        assert run.n_iter <= max_iter
        numbers = [i for i, _ in told]
        assert numbers == sorted(set(numbers))
        assert all(run.history[i] == pytest.approx(objective) for i, objective in told)


def test_trials_stop_at_max_iter():
    X = two_groups()
    weighted = (X, np.ones(60))
    state = VariationalGMM(2, moves=False, random_state=0).fit(X).run_.state
    settings = {"tol": 1e-6, "n_jobs": None}
    plain = em(state, weighted, max_iter=1000, **settings)
    whole = pruned(
        state, weighted, **merging(weighted, settings), climb=em, max_iter=1000, **settings
    )
    assert whole.n_iter > plain.n_iter + 1
    for left in (0, 1, 2):
        max_iter = plain.n_iter + left
        run = pruned(
            state, weighted, **merging(weighted, settings), climb=em, max_iter=max_iter, **settings
        )
        assert run.n_iter <= max_iter
        assert run.converged


def test_likely_merges_name_live_pairs_and_the_lightest():
    resp = np.zeros((40, 5))
    for k, (a, b) in enumerate([(0, 16), (10, 26), (24, 36), (36, 40)]):
        resp[a:b, k] = 1.0
    resp /= resp.sum(axis=1, keepdims=True)
    counts = resp.sum(axis=0)
    pairs = likely_merges(resp, np.ones(40), counts)
    assert pairs[0] == (0, 1)
    assert all(counts[i] >= counts[j] for i, j in pairs)
    assert any(3 in pair for pair in pairs)  # the lightest overlaps with nothing
    assert not any(4 in pair for pair in pairs)  # empty


def test_moves_reorganise_without_changing_the_number_of_components():
    X = two_groups()
    state = split_state("full", X)
    weight = 1.0 + np.arange(60) % 2
    found = list(reorganised(state, X, weight, X, births=True))
    for resp in found:
        assert resp.shape == (60, 5)
        np.testing.assert_allclose(resp.sum(axis=1), weight)
    alive = [int((resp.sum(axis=0) > HALF).sum()) for resp in found]
    assert 3 in alive
    assert 5 in alive
    fewer = [int((r.sum(axis=0) > HALF).sum()) for r in reorganised(state, X, weight, X, False)]
    assert max(fewer) == 3


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("learns", [None, "all"])
def test_moves_never_lower_what_a_fit_reaches(structure, learns):
    X = rows(2, n=90) / [1.0, 20.0]
    settings = {"covariance_type": structure, "empirical_bayes": learns, "random_state": 1}
    settings |= {"n_init": 1, "init_params": "random"}
    plain = VariationalGMM(6, moves=False, **settings).fit(X)
    moved = VariationalGMM(6, **settings).fit(X)
    assert moved.lower_bound_ > plain.lower_bound_ - 1e-4 * len(X)
    assert np.diff(moved.history_).min() > -1e-12


def test_births_find_a_group_that_no_component_has():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1200, 1)) * 0.5 + np.repeat([0.0, 3.0, 6.0], 400)[:, None]
    model = VariationalGMM(3, moves=False, n_init=1, random_state=0).fit(X)
    state = model.run_.state
    labels = np.repeat([0, 0, 1], 400)
    shared = state.start(X, np.eye(3)[labels])
    split = [r.sum(axis=0) for r in reorganised(shared, X, np.ones(1200), X, births=True)]
    assert any(abs(counts - 400).max() < 20 for counts in split)
