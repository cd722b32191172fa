"""Noise beside the clusters: a fixed density that takes what none of them explains."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from scipy.stats import t as student
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import check_estimator

from sklvm import Categorical, FactorEmission, GaussianMixture, Mixture, StudentT
from sklvm.components import canonical_order
from sklvm.emissions.base import Emission
from sklvm.emissions.wide import BREADTH, DF
from sklvm.inference.moves import exchanges
from sklvm.numerics.linalg import posterior_and_evidence
from sklvm.validation import training_data

RNG = np.random.default_rng


def noisy(n=500, share=0.15, seed=0, d=3, holes=0.0):
    """Two clusters, and rows all over a box around them: X, z with 2 for noise."""
    rng = RNG(seed)
    z = rng.choice(3, n, p=[0.6 * (1 - share), 0.4 * (1 - share), share])
    X = np.array([[-3.0] * d, [3.0] * d])[np.minimum(z, 1)] + rng.normal(size=(n, d))
    X[z == 2] = rng.uniform(-10, 10, size=((z == 2).sum(), d))
    X[rng.uniform(size=X.shape) < holes] = np.nan
    return X, z


def counts(n=400, seed=0):
    """A measurement, a code, a flag, a count; 15 % of the rows are anything: X, z."""
    rng = RNG(seed)
    z = rng.choice(3, n, p=[0.5, 0.35, 0.15])
    X = np.column_stack(
        [
            np.array([-3.0, 3, 0])[z] + rng.normal(size=n) * np.array([1, 1, 8])[z],
            np.array([0, 2, 0])[z] + (rng.uniform(size=n) < 0.1),
            rng.uniform(size=n) < np.array([0.05, 0.95, 0.5])[z],
            rng.poisson(np.array([2, 9, 5])[z]),
        ]
    )
    wild = z == 2
    X[wild, 1] = rng.integers(0, 4, wild.sum())
    X[wild, 3] = rng.geometric(0.1, wild.sum())
    return X, z


COUNTED = [
    ("gaussian", [0]),
    (Categorical(n_categories=4), [1]),
    ("bernoulli", [2]),
    ("poisson", [3]),
]
EMISSIONS = {
    "gaussian": "gaussian",
    "t4": StudentT(df=4),
    "factors": FactorEmission(1),
    "columns": [("gaussian", [2, 0]), (StudentT(df=4), [1])],
}


def mixture(kind="gaussian", K=2, **settings):
    emission = EMISSIONS.get(kind, COUNTED)
    return Mixture(K, emission=emission, noise_component=True, random_state=0, **settings)


@pytest.fixture(scope="module", params=EMISSIONS)
def fitted(request):
    return mixture(request.param).fit(noisy(holes=0.1)[0])


@pytest.fixture(scope="module")
def counted():
    return mixture("counted").fit(counts()[0])


# --- what it is for ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EMISSIONS)
@pytest.mark.parametrize("seed", [0, 1])
def test_clusters_keep_their_shape_where_plain_ones_do_not(kind, seed):
    X, z = noisy(seed=seed, n=1000)
    model = mixture(kind).fit(X)
    assert model.weights_.shape == (3,) and model.means_.shape == (3, 3)
    assert_allclose(model.means_[:2], [[-3.0] * 3, [3.0] * 3], atol=0.2)
    assert model.weights_[2] == pytest.approx(0.15, abs=0.04)
    assert adjusted_rand_score(z, model.predict(X)) > 0.9
    assert ((model.predict(X) == 2) == (z == 2)).mean() > 0.95
    plain = clone(model).set_params(noise_component=False).fit(X)
    assert adjusted_rand_score(z, plain.predict(X)) < 0.8
    assert model.score(X) > plain.score(X)


def test_noise_in_counts_and_codes(counted):
    X, z = counts(2000, seed=1)
    assert counted.base_measure_.tolist() == ["lebesgue", "counting", "counting", "counting"]
    assert counted.weights_[2] == pytest.approx(0.15, abs=0.05)
    found = counted.predict(X)
    plain = mixture("counted", K=3).set_params(noise_component=False).fit(counts()[0])
    assert (found == z).mean() > 0.85
    assert (found[z < 2] == z[z < 2]).mean() > 0.95
    assert counted.score(X) > plain.score(X)  # three clusters spend more parameters on less
    assert plain.n_parameters_ > counted.n_parameters_


def test_clean_rows_leave_it_no_weight():
    X = noisy(share=0.0)[0]
    model, plain = mixture(tol=1e-9).fit(X), GaussianMixture(2, random_state=0, tol=1e-9).fit(X)
    assert model.weights_[2] < 1e-3
    assert_allclose(model.means_[:2], plain.means_, atol=1e-3)


# --- the density -------------------------------------------------------------------------------


def test_the_noise_of_measured_columns_is_a_product_of_student_t():
    X = noisy(holes=0.1)[0]
    noise = mixture().fit(X).emission_.noise
    expected = student.logpdf(X, DF, noise.centre, noise.scale)
    assert_allclose(noise.log_prob(X)[:, 0], np.nansum(expected, axis=1), rtol=1e-12)
    assert_allclose(noise.variance(), student.var(DF) * noise.scale[None] ** 2)
    complete = noisy()[0]
    noise = mixture().fit(complete).emission_.noise
    assert_allclose(noise.centre, complete.mean(axis=0), rtol=1e-12)
    assert_allclose(noise.scale, BREADTH * complete.std(axis=0), rtol=1e-12)


def line(reach=11.0, n=601):
    t, step = np.linspace(-reach, reach, n, retstep=True)
    return 3 * np.sinh(t), np.log(3 * np.cosh(t) * step)


def test_it_integrates_to_one_and_a_missing_entry_is_integrated_out(fitted):
    x, log_weight = line()
    one = fitted.marginal([1])
    assert logsumexp(one.score_samples(x[:, None]) + log_weight) == pytest.approx(0.0, abs=1e-7)
    for row in noisy()[0][:4]:
        for column in range(3):
            filled = np.tile(row, (len(x), 1))
            filled[:, column] = x
            missing = np.where(np.arange(3) == column, np.nan, row)
            total = logsumexp(fitted.score_samples(filled) + log_weight)
            assert fitted.score_samples(missing[None])[0] == pytest.approx(total, abs=1e-7)


def test_discrete_noise_sums_to_one(counted):
    grid = np.stack(np.meshgrid(np.arange(4.0), [0.0, 1.0], np.arange(400.0)), -1).reshape(-1, 3)
    rest = counted.marginal([1, 2, 3])
    assert logsumexp(rest.score_samples(grid)) == pytest.approx(0.0, abs=1e-7)
    code, flag, count = (counted.marginal(j).emission_.noise for j in (1, 2, 3))
    assert_allclose(code.parts[0].log_prob(np.arange(4.0)[:, None]), np.log(1 / 4))
    assert_allclose(flag.parts[0].log_prob(np.array([[0.0], [1.0]])), np.log(1 / 2))
    assert (count.parts[0].variance() >= count.expectation() * (1 + count.expectation())).all()


@pytest.mark.parametrize("emission", ["categorical", "poisson", "negative_binomial", "bernoulli"])
def test_noise_of_one_kind_alone(emission):
    X = np.minimum(counts(300)[0][:, [1, 2, 3]], 1 if emission == "bernoulli" else np.inf)
    model = Mixture(2, emission=emission, noise_component=True, random_state=0).fit(X)
    assert np.diff(model.history_).min() > -1e-12
    assert model.base_measure_.tolist() == ["counting"] * 3
    (filled,) = model.impute([[1.0, np.nan, np.nan]], how="mode")
    top = 2 if emission == "bernoulli" else 40
    grid = np.array([[1.0, a, b] for a in range(2) for b in range(top)])
    assert_allclose(filled, grid[model.score_samples(grid).argmax()])
    if emission == "categorical":  # what fit did not see has a cell of its own
        cells = model.emission_.noise.sizes
        new = model.emission_.noise.log_prob(np.full((1, 3), 99.0))[0, 0]
        assert new == pytest.approx(-np.log(cells).sum(), rel=1e-12)


def test_condition_times_marginal_is_the_joint(fitted, counted):
    for model, X in ((fitted, noisy()[0]), (counted, counts()[0])):
        d = X.shape[1]
        for known in ([0], [d - 1, 0]):
            rest = np.setdiff1d(np.arange(d), known)
            for x in X[:4]:
                joint = model.marginal(known).score_samples(x[None, known])
                joint += model.condition(known, x[known]).score_samples(x[None, rest])
                assert_allclose(joint, model.score_samples(x[None]), rtol=1e-9)


def test_regression_has_the_moments_of_the_conditional(fitted):
    x = noisy()[0][:1]
    mean, covariance = fitted.regress(x, [0, 1])
    given = fitted.condition([2], x[0, 2:])
    assert_allclose(mean[0], given.weights_ @ given.means_, rtol=1e-9)
    values, log_weight = line(13.0, 2001)
    for j in range(2):
        p = np.exp(given.marginal([j]).score_samples(values[:, None]) + log_weight)
        assert p @ values**2 - (p @ values) ** 2 == pytest.approx(covariance[0, j, j], rel=1e-3)


def test_modes_are_highest_beside_the_noise(fitted):
    X = noisy()[0][:12].copy()
    X[:, 1] = np.nan
    X[::2, 0] = np.nan
    filled = fitted.impute(X, how="mode")
    top = fitted.score_samples(filled)
    moves = [0.0, 1e-3, -1e-3, 0.05, -0.05, 1.0, -1.0, 4.0, -4.0]
    for a in moves:
        for b in moves:
            near = filled + np.isnan(X) * np.array([a, b, 0.0])
            assert (fitted.score_samples(near) <= top + 1e-9).all()


def test_an_emission_without_modes_of_its_own_beside_noise_still_climbs(fitted):
    whole, weights = fitted.emission_, np.log(fitted.weights_)
    x = noisy(seed=3)[0]
    missing = RNG(0).uniform(size=x.shape) < 0.5
    for _ in range(3):
        resp, before = posterior_and_evidence(weights + whole.log_prob(x))
        moved = Emission.climb_within(whole.clusters, whole, x, missing, resp)
        after = posterior_and_evidence(weights + whole.log_prob(moved))[1]
        assert_array_equal(moved[~missing], x[~missing])
        assert (after >= before - 1e-12).all() and (after - before).max() > 1e-6
        x = moved


def test_samples_have_their_posterior_probabilities(fitted):
    X, z = fitted.sample(4000, random_state=0)
    gap = np.eye(3)[z] - fitted.predict_proba(X)
    se = gap.std(axis=0) / np.sqrt(len(gap))
    assert (np.abs(gap.mean(axis=0)) < 5 * se).all()
    assert_allclose(np.bincount(z) / 4000, fitted.weights_, atol=0.03)
    draws = fitted.impute(np.tile([3.0, np.nan, np.nan], (4000, 1)), how="sample", random_state=0)
    wide = (np.abs(draws[:, 1:]) > 8).any(axis=1).mean()
    many = fitted.condition([0], [3.0]).sample(4000, random_state=1)[0]
    assert wide == pytest.approx((np.abs(many) > 8).any(axis=1).mean(), abs=0.02)


# --- the fit -----------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", ["full", "tied", "diag", "spherical", "VEE"])
@pytest.mark.parametrize("holes", [0.0, 0.1])
def test_the_objective_never_falls_whatever_the_sweep(structure, holes):
    X = noisy(holes=holes, n=3000)[0]  # more rows than a block
    model = mixture(covariance_type=structure).fit(X)
    history = model.history_
    assert np.diff(history).min() > -1e-12
    objective = model.score(X[~np.isnan(X).all(axis=1)])
    objective += model.state_.log_prior() / model.total_weight_
    assert history[-1] == pytest.approx(objective, rel=1e-9)


@pytest.mark.parametrize("kind", ["gaussian", "columns", "counted"])
def test_weights_are_repeated_rows(kind):
    X = counts()[0] if kind == "counted" else noisy(holes=0.1)[0]
    weight = RNG(1).integers(0, 4, len(X))
    weighted = mixture(kind, tol=1e-9).fit(X, sample_weight=weight)
    repeated = mixture(kind, tol=1e-9).fit(np.repeat(X, weight, axis=0))
    assert_allclose(weighted.score_samples(X), repeated.score_samples(X), rtol=1e-6, atol=1e-7)


def test_units_change_scores_by_the_jacobian(fitted):
    X, units = noisy(holes=0.1)[0], np.array([1e4, 1e-3, 7.0])
    moved = clone(fitted).fit(X * units + [5, -2, 0])
    jacobian = ~np.isnan(X) @ np.log(units)
    scores = moved.score_samples(X * units + [5, -2, 0]) + jacobian
    assert_allclose(scores, fitted.score_samples(X), atol=1e-6)


def test_it_stays_last_and_counts_one_parameter(fitted):
    plain = clone(fitted).set_params(noise_component=False).fit(noisy()[0])
    assert fitted.n_parameters_ == plain.n_parameters_ + 1
    assert fitted.weights_[0] > fitted.weights_[1] > fitted.weights_[2]
    heavy = canonical_order(np.array([0.2, 0.3, 0.5]), np.zeros((3, 2)), n_clusters=2)
    assert heavy.tolist() == [1, 0, 2]


def test_moves_leave_it_alone():
    X, _ = noisy()
    model = mixture(K=3).fit(X)
    resp = model.predict_proba(X)
    moved = list(exchanges(model.state_, X, np.ones(len(X)), X))
    assert len(moved) > 1
    for other in moved:
        assert_array_equal(other[:, 3], resp[:, 3])
        assert_allclose(other.sum(axis=1), 1.0)


@pytest.mark.parametrize("kind", [*EMISSIONS, "counted"])
def test_a_sweep_says_what_log_prob_and_stats_say(kind):
    X = counts()[0] if kind == "counted" else noisy(holes=0.1)[0]
    emission = mixture(kind, tol=1.0).fit(X).emission_
    offset = np.log([0.2, 0.5, 0.3])
    joint, sums = emission.sweep(offset).block(X)
    assert_allclose(joint, emission.log_prob(X) + offset, rtol=1e-9, atol=1e-9)
    resp, _ = posterior_and_evidence(joint)
    stats, log_likelihood = emission.sweep(offset).total(sums(resp), 7.0)
    new, plain = emission.m_step(stats), emission.m_step(emission.stats(X, resp))
    assert log_likelihood == 7.0
    assert_allclose(emission.pack(new), emission.pack(plain), rtol=1e-7, atol=1e-9)
    order = np.array([1, 0, 2])
    taken = emission.take(order).m_step(stats.take(order))
    assert_allclose(taken.log_prob(X), new.log_prob(X)[:, order], rtol=1e-9)


def test_a_stream_renames_clusters_only():
    X, _ = noisy()
    model = mixture().fit(X)
    clusters = model.emission_.clusters
    cov = clusters.cov.scaled(np.array([100.0, 1.0]))  # this one takes the rows of the noise now
    emission = replace(model.emission_, clusters=replace(clusters, cov=cov))
    run = model.run_._replace(state=replace(model.state_, emission=emission))
    data = training_data(model, X, np.ones(len(X)))
    renamed = model._renamed(run, model.state_, data).state
    assert_array_equal(renamed.emission.noise.scale, model.emission_.noise.scale)
    assert renamed.weights.mean[2] == model.weights_[2]
    assert renamed.n_clusters == 2


def test_labels_name_clusters_and_warm_starts_go_on():
    X, z = noisy()
    labels = np.where((z < 2) & (np.arange(len(z)) < 50), 1 - z, -1)
    model = mixture().fit(X, labels=labels)
    assert (model.predict(X)[z < 2] == 1 - z[z < 2]).mean() > 0.95
    warm = mixture(warm_start=True).fit(X)
    before = warm.lower_bound_
    assert warm.fit(X).lower_bound_ >= before - 1e-12
    with pytest.raises(ValueError, match="cannot go on from 2 Gaussians of Full and noise"):
        warm.set_params(noise_component=False).fit(X)


def test_batches_lead_where_all_rows_do():
    X, z = noisy(4000)
    stream = mixture()
    for start in range(0, len(X), 200):
        stream.partial_fit(X[start : start + 200])
    whole = mixture().fit(X)
    order = np.r_[np.argsort(-stream.weights_[:2]), 2]
    assert_allclose(stream.weights_[order], whole.weights_, atol=0.02)
    assert_allclose(stream.means_[order], whole.means_, atol=0.1)
    assert_allclose(stream.emission_.noise.scale, whole.emission_.noise.scale, rtol=1e-9)


def test_it_is_rebuilt_from_parameters(fitted, counted):
    for model, X in ((fitted, noisy()[0]), (counted, counts()[0])):
        again = Mixture.from_parameters(weights=model.weights_, emission=model.emission_)
        assert again.n_components == 2 and again.noise_component
        assert_allclose(again.score_samples(X), model.score_samples(X), rtol=1e-12)
        assert clone(again).fit(X).weights_.shape == (3,)
        copy = pickle.loads(pickle.dumps(model))
        assert_array_equal(copy.score_samples(X), model.score_samples(X))


def test_constant_columns_and_degrees_of_freedom():
    X = np.insert(noisy()[0], 1, 3.0, axis=1)
    with pytest.warns(UserWarning, match="constant"):
        model = mixture().fit(X)
    assert_array_equal(model.means_[:, 1], 3.0)
    expected = mixture().fit(noisy()[0]).score_samples(noisy()[0])
    assert_allclose(model.score_samples(X), expected, rtol=1e-10)
    assert mixture("t4").fit(noisy()[0]).df_.tolist() == [4.0, 4.0]
    assert not hasattr(model, "df_")


def test_one_cluster_beside_noise():
    X, z = noisy()
    model = mixture(K=1).fit(X[z != 1])
    assert_allclose(model.means_[0], -3.0, atol=0.25)
    checks = check_estimator(mixture(K=1), on_skip=None, on_fail=None)
    assert {check["status"] for check in checks} == {"passed"}
