"""Batches that are remembered: the end of full passes, an exact bound that never falls."""

from functools import partial

import numpy as np
import pytest

from sklvm import VariationalGMM
from sklvm.inference.em import em, evaluate
from sklvm.inference.memoised import _batches, memoised
from sklvm.variational_prior import POSTERIORS
from tests._models import rows

STRUCTURES = list(POSTERIORS)


def start(structure, X, weight, kind="dirichlet_distribution", learns=None):
    """A variational mixture after two passes over the rows."""
    model = VariationalGMM(
        4,
        covariance_type=structure,
        weight_concentration_prior_type=kind,
        empirical_bayes=learns,
        moves=False,
        accelerate=None,
        max_iter=1,
        tol=0,
        n_init=1,
        init_params="random",
        random_state=0,
    )
    with pytest.warns(Warning, match="did not converge"):
        return model.fit(X, sample_weight=weight).run_.state


def problem(structure, holes):
    X = rows(3, holes) / np.array([1.0, 20.0, 0.3])
    weight = 1.0 + np.arange(len(X)) % 3
    return X, weight, start(structure, X, weight)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("holes", [False, True])
def test_batches_reach_the_fixed_point_of_full_passes(structure, holes):
    X, weight, state = problem(structure, holes)
    settings = {"max_iter": 5000, "tol": 1e-11}
    full = em(state, (X, weight), strict=True, **settings)
    for batch_size in (60, 13):
        run = memoised(state, (X, weight), batch_size=batch_size, **settings)
        assert run.converged
        assert np.diff(run.history).min() > -1e-12
        assert run.objective == pytest.approx(full.objective, abs=1e-7)
        np.testing.assert_allclose(run.state.emission.m, full.state.emission.m, atol=1e-4)
        np.testing.assert_allclose(run.stats.counts, full.stats.counts, atol=1e-3)


def test_one_batch_is_em_pass_by_pass():
    X, weight, state = problem("full", True)
    full = em(state, (X, weight), max_iter=6, tol=0)
    run = memoised(state, (X, weight), batch_size=1000, max_iter=6, tol=0)
    # After a batch of all rows the bound is that of its E-step, at the parameters that follow.
    assert (run.history[1:6] > full.history[1:6]).all()
    assert (run.history[1:6] < full.history[2:7]).all()
    assert run.objective == pytest.approx(full.objective, rel=1e-12)
    np.testing.assert_allclose(run.state.emission.m, full.state.emission.m)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_bound_after_each_pass_is_that_of_the_responsibilities_so_far(structure):
    """Recomputed from rows: each row's bound at the responsibilities that its batch had last."""
    X, weight, state = problem(structure, False)
    seen = []
    watch = {"callback": lambda *step: seen.append(step)}
    memoised(state, (X, weight), batch_size=20, max_iter=2, tol=0, **watch)
    batches, resp = _batches((X, weight), 20), np.empty((len(X), 4))
    mass = np.empty(len(X))
    first = total = evaluate(state, (X, weight)).stats
    current = state.m_step(first)
    for places, w in batches:
        mass[places], part = w, (X[places], w)
        resp[places] = current.responsibilities(X[places])
        total = total - evaluate(state, part).stats + evaluate(current, part).stats
        current = current.m_step(total)
    np.testing.assert_allclose(mass, weight)
    joint = current.joint(X)
    bound = (mass[:, None] * resp * (joint - np.log(resp))).sum() + current.log_prior()
    assert seen[0][2] == pytest.approx(bound / weight.sum(), rel=1e-10)


def test_repeats_and_order_of_rows_change_nothing():
    X, weight, state = problem("full", True)
    run = partial(memoised, state, batch_size=10, max_iter=6, tol=0)
    plain = run((X, weight))
    repeated = np.repeat(X, weight.astype(int), axis=0)
    order = np.random.default_rng(0).permutation(len(repeated))
    shuffled = run((repeated[order], np.ones(len(order))))
    np.testing.assert_allclose(plain.history, shuffled.history, rtol=1e-12)


def test_known_labels_hold():
    X, weight, state = problem("full", False)
    labels = np.where(np.arange(60) % 4 == 0, np.arange(60) % 3, -1)
    settings = {"max_iter": 3000, "tol": 1e-11}
    full = em(state, (X, weight, labels), **settings)
    run = memoised(state, (X, weight, labels), batch_size=13, **settings)
    assert run.objective == pytest.approx(full.objective, abs=1e-8)


@pytest.mark.parametrize("kind", ["dirichlet_distribution", "dirichlet_process"])
@pytest.mark.parametrize("learns", [None, "weights", "all"])
def test_it_never_falls_with_sticks_and_learnt_priors(kind, learns):
    X, weight = rows(3, True), np.ones(60)
    state = start("full", X, weight, kind, learns)
    run = memoised(state, (X, weight), batch_size=9, max_iter=60, tol=1e-9)
    assert np.diff(run.history).min() > -1e-12


def test_single_precision_is_widened_batch_by_batch():
    X, weight, state = problem("full", False)
    narrow = X.astype(np.float32)
    run = partial(memoised, state, batch_size=11, max_iter=3, tol=0)
    history = run((narrow, weight)).history
    np.testing.assert_allclose(history, run((narrow.astype(float), weight)).history, rtol=1e-12)


def test_the_estimator_has_it_as_a_parameter():
    X = rows(3)
    settings = {"moves": False, "random_state": 0, "tol": 1e-10, "max_iter": 5000}
    full = VariationalGMM(3, **settings).fit(X)
    batches = VariationalGMM(3, batch_size=16, **settings).fit(X)
    assert batches.converged_
    assert batches.lower_bound_ == pytest.approx(full.lower_bound_, abs=1e-6)
    terms = batches.elbo(X)
    bound = sum(terms[:3]).sum() - terms.parameter_kl
    assert batches.lower_bound_ == pytest.approx(bound, rel=1e-12)
