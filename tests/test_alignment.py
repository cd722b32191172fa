"""The order of another mixture: the distance, the match, and copies that change nothing else."""

from dataclasses import is_dataclass, replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklvm import (
    EMFactorAnalysis,
    GaussianMixture,
    GaussianMixtureEnsemble,
    Mixture,
    MixtureOfFactorAnalyzers,
    StudentT,
    VariationalGMM,
)
from sklvm.emissions.dense import Full
from sklvm.emissions.overlap import bhattacharyya
from tests._models import can, fitted, make, n_latents, rows, state_equal, sweep

RNG = np.random.default_rng
ALIGNED = can("align_to")


def groups(K=4, n=60, seed=0):
    """Rows of K groups whose sizes change with the seed, and so does their order by size."""
    rng, centres = RNG(seed), 9.0 * np.array([[0, 0], [1, 0], [0, 1], [1, 1]])[:K]
    sizes = rng.permutation(np.arange(1, K + 1)) * n
    return np.concatenate([m + rng.normal(size=(s, 2)) for m, s in zip(centres, sizes)])


# --- the distance -----------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical", "VEV"])
def test_the_distance_is_the_integral(covariance_type):
    X = rows(2) / rows(2).std(axis=0)
    a = GaussianMixture(2, covariance_type=covariance_type, random_state=0).fit(X)
    b = GaussianMixture(2, random_state=0).fit(X[:40])
    distance = bhattacharyya(a.state_.emission, b.state_.emission)
    x = np.linspace(-25, 30, 600)
    grid = np.array(np.meshgrid(x, x)).reshape(2, -1).T
    p, q = (np.exp(model.state_.emission.log_prob(grid) / 2) for model in (a, b))
    assert_allclose(np.exp(-distance), p.T @ q * (x[1] - x[0]) ** 2, rtol=1e-6)


def test_equal_components_have_no_distance_and_far_ones_a_finite_one():
    for name in ("gmm", "mfa", "mixture-t", "vb"):
        emission = fitted(name).state_.predictive().emission
        own = bhattacharyya(emission, emission)
        assert_allclose(np.diag(own), 0.0, atol=1e-10)
        far = replace(emission, means=emission.means + 1e100)
        assert np.isfinite(bhattacharyya(emission, far)).all()


def test_draws_are_close_to_the_closed_form_and_know_no_order():
    model = Mixture(3, emission=StudentT(df=1e6), random_state=0).fit(groups(3))
    t, normal = model.state_.emission, GaussianMixture(3, random_state=0).fit(groups(3))
    closed = bhattacharyya(normal.state_.emission, normal.state_.emission)
    near = closed < 3
    drawn = bhattacharyya(normal.state_.emission, t)
    assert_allclose(np.exp(-drawn)[near], np.exp(-closed)[near], atol=0.05)
    order = [2, 0, 1]
    assert_array_equal(bhattacharyya(t, t.take(order)), bhattacharyya(t, t)[:, order])


# --- the match --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        GaussianMixture(4, random_state=0),
        GaussianMixture(4, covariance_type="tied", random_state=0),
        Mixture(4, emission="student_t", random_state=0),
        VariationalGMM(4, random_state=0),
        MixtureOfFactorAnalyzers(4, n_factors=1, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_components_of_another_resample_are_matched(model):
    a, b = groups(seed=0), groups(seed=1)
    first = model.fit(a)
    second = GaussianMixture(4, random_state=0).fit(b)
    aligned = second.align_to(first)
    assert np.abs(second.means_ - first.means_).max() > 5
    assert np.abs(aligned.means_ - first.means_).max() < 1
    back = first.align_to(second)
    assert np.abs(back.means_ - second.means_).max() < 1
    assert_array_equal(back.predict(b), second.predict(b))


def arrays_in(part):
    """All arrays that a state holds."""
    if isinstance(part, np.ndarray):
        yield part
    elif isinstance(part, tuple) or is_dataclass(part):
        for inner in part if isinstance(part, tuple) else vars(part).values():
            yield from arrays_in(inner)


@sweep(ALIGNED)
def test_a_copy_is_the_model_it_comes_from(name):
    model, X = fitted(name, holes=True), rows(holes=True)
    K, kept = n_latents(model), dict(vars(model))
    order = RNG(1).permutation(K) if K > 2 else np.array([1, 0])
    shuffled = model._reordered(order)
    assert state_equal(dict(vars(model)), kept)
    assert type(shuffled) is type(model) and shuffled.get_params() == model.get_params()
    assert_allclose(shuffled.score_samples(X), model.score_samples(X), rtol=1e-12, atol=1e-12)
    assert_array_equal(shuffled.means_, model.means_[order])
    assert_allclose(shuffled.predict_proba(X), model.predict_proba(X)[:, order], rtol=1e-9)
    again = shuffled.align_to(model)
    assert_array_equal(again.means_, model.means_)
    assert_array_equal(again.weights_, model.weights_)
    assert_array_equal(again.history_, model.history_)
    assert not any(array.flags.writeable for array in arrays_in(again.state_))


def test_more_components_follow_and_fewer_are_refused():
    many, few = (GaussianMixture(K, random_state=0).fit(groups(seed=K)) for K in (4, 2))
    three = few.marginal([0, 1])
    aligned = many.align_to(three)
    match = aligned.means_[:2] - few.means_
    assert np.abs(match).max() < 8
    assert sorted(aligned.means_[:, 0]) == sorted(many.means_[:, 0])
    assert aligned.weights_[2] >= aligned.weights_[3]
    with pytest.raises(ValueError, match="that has 4, this one 2"):
        few.align_to(many)


@pytest.mark.parametrize("emission", ["gaussian", "student_t"])
def test_units_do_not_matter(emission):
    models = [Mixture(4, emission=emission, random_state=0).fit(groups(seed=s)) for s in (0, 1)]
    here = [model.state_.emission for model in models]
    scale, shift = np.array([1e-3, 500.0]), np.array([7.0, -2.0])
    there = [
        replace(
            part,
            means=part.means * scale + shift,
            cov=Full.of(part.cov.S * np.outer(scale, scale), part.cov.penalty),
        )
        for part in here
    ]
    assert_allclose(bhattacharyya(*there), bhattacharyya(*here), rtol=1e-8, atol=1e-10)


def test_a_column_that_is_constant_for_one_model():
    X = np.column_stack([groups(seed=0), np.zeros(600)])
    with pytest.warns(UserWarning, match="constant"):
        first = GaussianMixture(4, random_state=0).fit(X)
    X = np.column_stack([groups(seed=1), RNG(0).normal(size=600)])
    second = GaussianMixture(4, random_state=0).fit(X)
    assert np.abs(second.align_to(first).means_ - first.means_)[:, :2].max() < 1
    with pytest.warns(UserWarning, match="constant"):
        other = GaussianMixture(4, random_state=0).fit(X * [0, 0, 1])
    with pytest.raises(ValueError, match="no column varies in both"):
        first.align_to(other)


@pytest.mark.parametrize("verb", ["fit", "partial_fit"])
def test_a_stream_goes_on_in_the_new_order(verb):
    batches = [RNG(s).permutation(groups(seed=0)) for s in range(6)]
    plain = GaussianMixture(4, random_state=0)
    for batch in batches[:3]:
        getattr(plain, verb)(batch)
    order = [2, 0, 3, 1]
    shuffled = plain._reordered(order)
    for batch in batches[3:]:
        plain.partial_fit(batch)
        shuffled.partial_fit(batch)
    assert_allclose(shuffled.means_, plain.means_[order], rtol=1e-9)
    assert_allclose(shuffled.weights_, plain.weights_[order], rtol=1e-9)
    assert shuffled.n_samples_seen_ == plain.n_samples_seen_


def test_a_warm_start_keeps_the_new_order():
    first = GaussianMixture(4, random_state=0).fit(groups(seed=0))
    second = GaussianMixture(4, random_state=0, warm_start=True).fit(groups(seed=1))
    aligned = second.align_to(first)
    before = aligned.means_
    assert_allclose(aligned.fit(groups(seed=1)).means_, before, atol=1e-2)


@pytest.mark.parametrize(
    ("other", "kind", "message"),
    [
        (GaussianMixture(2), TypeError, "fitted mixture"),
        (EMFactorAnalysis(1).fit(rows()), TypeError, "fitted mixture"),
        (None, TypeError, "fitted mixture"),
        (GaussianMixture(2).fit(rows(2)), ValueError, "same columns"),
    ],
)
def test_other_models_are_refused(other, kind, message):
    with pytest.raises(kind, match=message):
        fitted("gmm").align_to(other)


def test_columns_of_other_names_are_refused():
    import pandas as pd

    models = [
        make("gmm").fit(pd.DataFrame(rows(), columns=list(names))) for names in ("abc", "acb")
    ]
    with pytest.raises(ValueError, match=r"same columns.*\['a', 'b', 'c'\].*\['a', 'c', 'b'\]"):
        models[0].align_to(models[1])
    ensemble = GaussianMixtureEnsemble(2, n_members=1, random_state=0).fit(rows())
    assert len(fitted("gmm").align_to(ensemble).weights_) == 2
