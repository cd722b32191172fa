"""A fused pass says what log_prob and stats say one after the other, near and far from home."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sklvm.emissions.covariance import Diag, Penalty
from sklvm.emissions.dense import Full, Tied
from sklvm.emissions.gaussian import Gaussians
from sklvm.emissions.normal_wishart import NormalWisharts
from sklvm.emissions.simplex import Point
from sklvm.emissions.sweep import (
    KnownFeatures,
    QuadraticSweep,
    SquaresSweep,
    TiedSweep,
    common_origin,
    pays_to_expand,
)
from sklvm.inference.blocks import sum_blocks
from sklvm.inference.em import evaluate, known_of
from sklvm.mixture_state import MixtureState

from .builders import KINDS, emission, positive_definite, responsibilities

K, D = 3, 4
OFFSET = np.log([0.5, 0.3, 0.2])


def some_rows(holes, n=40, d=D):
    rng = np.random.default_rng(3)
    X = 2 * rng.standard_normal((n, d))
    X[rng.uniform(size=X.shape) < holes] = np.nan
    return X


def known(value, X):
    return value.known(X, np.ones(len(X)), sum_blocks)


def normal_wisharts():
    rng = np.random.default_rng(1)
    prior = NormalWisharts.of(
        rng.standard_normal((K, D)),
        np.full(K, 0.5),
        np.full(K, D + 2.0),
        positive_definite(rng, K, D),
    )
    return replace(prior, prior=prior)


EMISSIONS = {kind: partial(emission, kind, K, D) for kind in KINDS} | {"vb": normal_wisharts}


@pytest.mark.parametrize("holes", [0.0, 0.1, 0.6, "every row"])
@pytest.mark.parametrize("kind", EMISSIONS)
def test_a_sweep_says_what_log_prob_and_stats_say(kind, holes):
    value = EMISSIONS[kind]()
    X = some_rows(0.3 if holes == "every row" else holes)
    if holes == "every row":
        X[:, 1] = np.nan
    resp = responsibilities(len(X), K)
    resp /= resp.sum(axis=1, keepdims=True)
    for what_is_known in (None, known(value, X)):
        sweep = value.sweep(OFFSET, what_is_known)
        joint, stats = sweep.block(X)
        moments, log_likelihood = sweep.total(stats(resp), 7.0)
        expected = value.log_prob(X) + OFFSET
        if isinstance(sweep, TiedSweep):  # what all components share of a row is in the total
            shared = expected.mean(axis=1, keepdims=True) - joint.mean(axis=1, keepdims=True)
            assert log_likelihood - 7.0 == pytest.approx(shared.sum(), rel=1e-10)
            joint = joint + shared
        else:
            assert log_likelihood == 7.0
        assert_allclose(joint, expected, rtol=1e-10, atol=1e-9)
        one, other = value.m_step(moments), value.m_step(value.stats(X, resp))
        assert_allclose(value.pack(one), value.pack(other), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("holes", [0.0, 0.2])
@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_blocks_add_up_whatever_their_size(kind, holes):
    value = emission(f"gaussian-{kind}", K, D)
    X, weight = some_rows(holes, n=5000), np.random.default_rng(0).uniform(0, 2, 5000)
    X[np.isnan(X).all(axis=1), 0] = 1.0
    state = MixtureState(Point(np.exp(OFFSET)), value)
    whole = evaluate(state, (X, weight), None, known_of(state, (X, weight)))
    resp = state.responsibilities(X) * weight[:, None]
    assert_allclose(whole.stats.counts, resp.sum(axis=0), rtol=1e-10)
    expected = value.m_step(value.stats(X, resp))
    assert_allclose(value.pack(value.m_step(whole.stats.emission)), value.pack(expected), atol=1e-9)
    assert whole.objective * weight.sum() == pytest.approx(weight @ state.log_prob(X), rel=1e-11)


def swept(value, X):
    return type(value.sweep(OFFSET, known(value, X)))


def test_the_parameters_choose_the_kernel():
    X = some_rows(0.0)
    near = emission("gaussian-full", K, D)
    assert isinstance(known(near, X), KnownFeatures)
    assert swept(near, X) is QuadraticSweep
    assert swept(emission("gaussian-tied", K, D), X) is TiedSweep
    assert swept(emission("gaussian-diag", K, D), X) is SquaresSweep
    for structure in ("full", "tied", "diag"):
        value = emission(f"gaussian-{structure}", K, D)
        far = replace(value, means=1e4 * value.means)
        assert swept(far, X) not in (QuadraticSweep, TiedSweep, SquaresSweep)


def test_wide_rows_are_whitened():
    assert pays_to_expand(16, 32)
    assert not pays_to_expand(16, 33)
    assert not pays_to_expand(2, 30)
    assert KnownFeatures.of(np.ones((5, 33)), 2) is None
    assert KnownFeatures.of(np.ones((5000, 30)), 10) is None
    assert KnownFeatures.of(some_rows(0.3), 2) is None


def test_the_origin_must_be_near_in_units_of_every_component():
    means, ones = np.array([[0.0, 0.0], [100.0, 0.0]]), np.ones((2, 2))
    assert_allclose(common_origin(means, ones, ones), [50, 0])
    assert common_origin(means, ones, np.array([[1, 1], [1e3, 1]])) is None


def exact_step(X, resp):
    """Means and covariances in extended precision: (K, d), (K, d, d)."""
    X, resp = X.astype(np.longdouble), resp.astype(np.longdouble)
    count = resp.sum(axis=0)
    means = resp.T @ X / count[:, None]
    diff = X[:, None] - means
    S = (resp[:, :, None, None] * diff[..., :, None] * diff[..., None, :]).sum(axis=0)
    return means, S / count[:, None, None]


@pytest.mark.parametrize("structure", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("separation, offset", [(1e6, 0.0), (5.0, 1e8), (300.0, 1e4), (30.0, 0.0)])
def test_tight_clusters_far_apart_keep_their_digits(structure, separation, offset):
    rng = np.random.default_rng(0)
    z = rng.integers(2, size=200)
    noise = rng.standard_normal((200, 3)) @ np.array([[1, 0, 0], [0.5, 1, 0], [0, 0.3, 1]])
    X = offset + separation * z[:, None] + noise
    resp = np.eye(2)[z]
    means, S = exact_step(X, resp)
    first = means.astype(float)
    if structure == "full":
        S = S.astype(float)
        cov = Full.of(S, Penalty(0.0, np.zeros((3, 3))))
    elif structure == "tied":
        S = np.broadcast_to((resp.mean(axis=0) @ S.reshape(2, -1)).reshape(3, 3), (2, 3, 3))
        S = S.astype(float)
        cov = Tied.of(S, Penalty(0.0, np.zeros((3, 3))))
    else:
        v = np.diagonal(S, axis1=1, axis2=2).astype(float)
        cov = Diag(v, Penalty(0.0, np.zeros(3)))
        S = v[:, :, None] * np.eye(3)
    value = Gaussians(first, cov)
    sweep = value.sweep(0.0, known(value, X))
    _, stats = sweep.block(X)
    step = value.m_step(sweep.total(stats(resp), 0.0)[0])
    spacing = np.spacing(offset + separation)  # what the rows themselves can say
    assert_allclose(step.means, first, atol=20 * spacing + 1e-11)
    assert_allclose(step.cov.dense(), S, rtol=1e-9, atol=1e-9 + 100 * spacing)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_a_component_without_weight_stays_impossible(kind):
    value, X = emission(f"gaussian-{kind}", K, D), some_rows(0.0)
    offset = np.array([0.0, -np.inf, 0.0])
    for rows in (X, some_rows(0.2)):
        joint, _ = value.sweep(offset, known(value, rows)).block(rows)
        assert (joint[:, 1] == -np.inf).all()
        assert np.isfinite(joint[:, [0, 2]]).all()


def test_a_row_without_entries_scores_its_offset_alone():
    for kind in ("full", "tied", "diag"):
        X = some_rows(0.3)
        X[5] = np.nan
        joint, _ = emission(f"gaussian-{kind}", K, D).sweep(OFFSET).block(X)
        assert_allclose(joint[5], OFFSET, rtol=1e-14)


def test_tied_passes_cost_as_many_operations_as_columns():
    """The arrays of a tied sweep grow with d alone: nothing of size n d or d d per row is made."""
    for d in (50, 100):
        value = emission("gaussian-tied", 2, d)
        X = np.random.default_rng(0).standard_normal((100, d))
        sweep = value.sweep(OFFSET[:2], known(value, X))
        joint, stats = sweep.block(X)
        assert stats(np.full((100, 2), 0.5)).shape == (2, 1 + d)


@pytest.mark.parametrize("kind", ["gaussian-full", "student_t-full"])
@pytest.mark.parametrize("holes", [0.0, 0.3])
def test_matrices_are_symmetric_to_the_bit(kind, holes):
    value, X = emission(kind, K, D), some_rows(holes)
    resp = responsibilities(len(X), K)
    moments = value.stats(X, resp)
    for stats in (moments, moments - 0.3 * value.stats(X[:9], resp[:9])):
        S = value.m_step(stats).cov.dense()
        np.testing.assert_array_equal(S, S.mT)
    origin = np.random.default_rng(0).standard_normal((K, D))
    shifted = value.cov.moments(X, value.means, resp).about(origin)
    S = value.cov.m_step(shifted)[1].dense()
    np.testing.assert_array_equal(S, S.mT)
