"""What every model keeps: a density that integrates, NaN, weights, units, verbs that agree."""

import contextlib
import inspect
import io
import pickle
import re

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.exceptions import ConvergenceWarning

from tests._models import (
    BINARY,
    CLIMBERS,
    CLOSED,
    CONTINUOUS,
    DEEP,
    DISCRETE,
    EXACT,
    MODELS,
    MOMENTS_ONLY,
    ONE_UNIT,
    UNIT_FREE,
    can,
    fitted,
    make,
    n_clusters,
    n_latents,
    one_start,
    params_for,
    rows,
    sweep,
)

HOLES = pytest.mark.parametrize("holes", [False, True], ids=["complete", "holes"])


def tolerance(name, exact=1e-6):
    """Of a density: rounding and quadrature where it is exact, 1 % where it is estimated."""
    return exact if name in EXACT else 1e-2


def within_5_se(draws, expected=0.0):
    """The mean over the first axis is what is expected, within 5 standard errors."""
    draws = np.asarray(draws, float) - expected
    se = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    assert np.abs(draws.mean(axis=0)).max() < np.inf
    assert (np.abs(draws.mean(axis=0)) <= 5 * se + 1e-12).all(), (draws.mean(axis=0), se)


def line(x, n=401, reach=9.0):
    """Nodes and weights of the trapezoid rule over the whole line, under x = m + s sinh(t)."""
    t, step = np.linspace(-reach, reach, n, retstep=True)
    m, s = np.nanmean(x), np.nanstd(x)
    return m + s * np.sinh(t), s * np.cosh(t) * step


def plane(name, X):
    """Nodes (N, 2) and weights (N,) of the product rule; fewer nodes where scoring is slow."""
    size = {} if name in EXACT else {"n": 121, "reach": 4.0}
    (a, wa), (b, wb) = line(X[:, 0], **size), line(X[:, 1], **size)
    return np.column_stack([np.repeat(a, len(b)), np.tile(b, len(a))]), np.outer(wa, wb).ravel()


# --- the density ------------------------------------------------------------------------------


@sweep(MODELS)
def test_density_integrates_to_one_on_the_line(name):
    x, weight = line(rows(1))
    scores = fitted(name, 1).score_samples(x[:, None])
    assert weight @ np.exp(scores) == pytest.approx(1.0, abs=tolerance(name))


@HOLES
@sweep(MODELS)
def test_density_integrates_to_one_in_the_plane(name, holes):
    model = fitted(name, 2, holes)
    x, weight = plane(name, rows(2))
    scores = model.score_samples(x)
    assert weight @ np.exp(scores) == pytest.approx(1.0, abs=tolerance(name))


@HOLES
@sweep(MODELS)
def test_a_missing_entry_is_integrated_out(name, holes):
    model, X = fitted(name, 3, holes), rows()
    for column in range(3):
        x, weight = line(X[:, column])
        for row in X[[0, 7]]:
            filled = np.tile(row, (len(x), 1))
            filled[:, column] = x
            row = np.where(np.arange(3) == column, np.nan, row)
            expected = logsumexp(model.score_samples(filled), b=weight)
            assert model.score_samples(row[None])[0] == pytest.approx(expected, abs=tolerance(name))


@sweep(MODELS)
def test_two_missing_entries_are_integrated_out(name):
    model, X = fitted(name), rows()
    pair, weight = plane(name, X[:, :2])
    filled = np.column_stack([pair, np.full(len(pair), X[5, 2])])
    expected = logsumexp(model.score_samples(filled), b=weight)
    seen = model.score_samples([[np.nan, np.nan, X[5, 2]]])[0]
    assert seen == pytest.approx(expected, abs=tolerance(name))


@sweep(MODELS)
def test_samples_agree_with_the_density(name):
    model = fitted(name, 2)
    x, weight = plane(name, rows(2))
    log_p = model.score_samples(x)
    mass = weight * np.exp(log_p)
    mass /= mass.sum()
    X, _ = model.sample(4000, random_state=7)
    assert X.shape == (4000, 2)
    within_5_se(model.score_samples(X), mass @ log_p)  # minus the entropy

    def bounded(x):  # moments that exist whatever the tails
        u = np.tanh((x - rows(2).mean(axis=0)) / rows(2).std(axis=0))
        return np.column_stack([u, u**2, u.prod(axis=1)])

    within_5_se(bounded(X), mass @ bounded(x))


@sweep(DISCRETE)
def test_sampled_components_have_their_posterior_probabilities(name):
    model = fitted(name, 2)
    X, z = model.sample(4000, random_state=3)
    assert z.shape == (4000,) and z.dtype.kind == "i"
    probs = model.predict_proba(X)
    gap = np.eye(n_latents(model))[z] - probs
    if n_latents(model) > n_clusters(model):  # clean rows leave noise no weight: test_noise.py
        assert model.weights_[-1] < 1e-5 and (z < n_clusters(model)).all()
        gap, probs = gap[:, :-1], probs[:, :-1]
    within_5_se(gap)
    within_5_se(gap * probs)
    within_5_se(np.eye(n_latents(model))[z][:, : probs.shape[1]], model.weights_[: probs.shape[1]])


@sweep(CONTINUOUS)
def test_sampled_factors_have_their_posterior_moments(name):
    model = fitted(name)
    X, Z = model.sample(4000, random_state=3)
    assert Z.shape == (4000, n_latents(model))
    posterior = model.posterior(X)
    if name in EXACT:  # elsewhere the posterior is an approximation
        within_5_se(Z - posterior.mean)
        square = (Z - posterior.mean)[:, :, None] * (Z - posterior.mean)[:, None, :]
        within_5_se((square - posterior.covariance).reshape(4000, -1))
    within_5_se(Z)
    within_5_se(Z**2, 1.0)


@sweep(can("inverse_transform"))
def test_inverse_transform_is_the_mean_given_the_latents(name):
    model = fitted(name, 2)
    X, Z = model.sample(4000, random_state=5)
    if name in DISCRETE:
        Z = np.eye(n_latents(model))[Z]
        assert_allclose(model.inverse_transform(np.eye(n_latents(model))), model.means_)
    expected = model.inverse_transform(Z)
    assert expected.shape == X.shape
    spread = rows(2).std(axis=0)
    within_5_se(np.clip((X - expected) / spread, -20, 20))
    within_5_se(np.clip((X - expected) / spread, -20, 20) * np.tanh(Z[:, :1]))


@sweep(MODELS)
def test_score_is_a_function_of_the_row_alone(name):
    model, X = fitted(name, holes=True), rows(holes=True)
    scores = model.score_samples(X)
    assert scores.shape == (60,) and scores.dtype == np.float64 and np.isfinite(scores).all()
    assert_array_equal(model.score_samples(X), scores)
    alone = np.concatenate([model.score_samples(row[None]) for row in X])
    assert_allclose(alone, scores, rtol=1e-10, atol=1e-10)
    assert_allclose(model.score_samples(X[::-1])[::-1], scores, rtol=1e-10, atol=1e-10)
    many = np.tile(X, (40, 1))  # more rows than a block
    assert_allclose(model.score_samples(many), np.tile(scores, 40), rtol=1e-10, atol=1e-10)


@sweep(MODELS)
def test_what_kind_of_score_it_is(name):
    model = fitted(name)
    assert (model.score_kind_ == "exact") == (name in EXACT)
    assert model.score_kind_ in {"exact", "lower", "estimate", "conditional"}
    assert list(model.base_measure_) == ["lebesgue"] * 3


# --- the bound --------------------------------------------------------------------------------


@HOLES
@sweep(can("elbo"))
def test_elbo_never_exceeds_the_score(name, holes):
    model, X = fitted(name, 3, holes), rows(3, holes)
    terms = model.elbo(X)
    assert terms._fields == (
        "expected_log_likelihood",
        "expected_log_prior",
        "entropy",
        "parameter_kl",
    )
    assert all(np.shape(term) == (60,) for term in terms[:3]) and np.ndim(terms[3]) == 0
    gap = model.score_samples(X) - sum(terms[:3])
    assert name in MOMENTS_ONLY or gap.min() > -tolerance(name, 1e-9)
    if name not in EXACT:
        return
    if terms.parameter_kl == 0:
        assert_allclose(gap, 0.0, atol=1e-9)
    else:  # the bound of all rows, once the parameters are paid for
        assert terms.parameter_kl > 0 and gap.max() > 1e-4
        total = sum(terms[:3]).sum() - terms.parameter_kl
        assert total == pytest.approx(model.lower_bound_, rel=1e-8)


@sweep(can("elbo"))
def test_elbo_terms_mean_what_they_are_called(name):
    model, X = fitted(name), rows()
    terms, posterior = model.elbo(X), model.posterior(X)
    if terms.parameter_kl:
        return  # its terms are expectations over the parameters too
    assert_allclose(terms.entropy, posterior.entropy(), rtol=1e-10, atol=1e-12)
    kl = -(terms.expected_log_prior + terms.entropy)
    assert_allclose(kl, posterior.kl_to_prior(), rtol=1e-8, atol=1e-10)


# --- missing rows and entries -----------------------------------------------------------------


@sweep(MODELS)
def test_a_row_of_nothing(name):
    X, model = rows(holes=True), fitted(name, holes=True)
    nothing = np.full((2, 3), np.nan)
    assert_allclose(model.score_samples(nothing), 0.0, atol=1e-12)
    same = make(name).fit(np.concatenate([nothing, X, nothing]))
    assert_array_equal(same.score_samples(X), model.score_samples(X))
    imputed = model.impute(nothing)
    assert_allclose(imputed[0], imputed[1], rtol=1e-12)
    spread = np.nanstd(X, axis=0)
    draws, latents = model.sample(4000, random_state=0)
    within_5_se(np.clip(draws - imputed[0], -50 * spread, 50 * spread))
    if name in BINARY:
        within_5_se(latents - model.transform(nothing)[0])
    if name in EXACT:
        prior = [model.weights_] if name in DISCRETE else np.zeros((1, n_latents(model)))
        prior = model.transform(nothing)[:1] if name in BINARY else prior
        assert_allclose(model.transform(nothing)[:1], prior, atol=1e-12)
        if name not in DEEP:  # there E[x | z] bends, and its mean is not that of a mean
            assert_allclose(imputed[:1], model.inverse_transform(prior), rtol=1e-10)


@sweep(MODELS)
def test_a_column_that_nobody_saw_is_refused(name):
    X = rows().copy()
    X[:, 1] = np.nan
    with pytest.raises(ValueError, match=r"columns \[1\] are NaN in every row"):
        make(name).fit(X)


# --- weights ----------------------------------------------------------------------------------


@HOLES
@sweep(MODELS)
def test_integer_weights_are_repeated_rows(name, holes):
    X, rng = rows(3, holes), np.random.default_rng(2)
    weight = rng.integers(0, 4, size=60)
    repeated = rng.permutation(np.repeat(X, weight, axis=0))
    order = rng.permutation(60)
    weighted = make(name).fit(X[order], sample_weight=weight[order])
    plain = make(name).fit(repeated)
    assert_allclose(weighted.score_samples(X), plain.score_samples(X), rtol=1e-7, atol=1e-7)
    assert_allclose(weighted.transform(X), plain.transform(X), rtol=1e-6, atol=1e-7)
    assert weighted.n_iter_ == plain.n_iter_
    for criterion in {"aic", "bic", "icl"} & set(dir(weighted)):
        there = getattr(plain, criterion)(repeated)
        assert getattr(weighted, criterion)(X, sample_weight=weight) == pytest.approx(there)


@sweep(MODELS)
def test_a_row_without_weight_is_no_row(name):
    X = rows()
    wild = np.concatenate([X, 1e6 * X[:5], np.full((1, 3), np.nan)])
    weight = np.r_[np.ones(60), np.zeros(6)]
    model = make(name).fit(wild, sample_weight=weight)
    assert_array_equal(model.score_samples(X), fitted(name).score_samples(X))


@HOLES
@sweep(MODELS)
def test_the_order_of_rows_changes_nothing(name, holes):
    X = rows(3, holes)
    other = make(name).fit(X[np.random.default_rng(2).permutation(60)])
    expected = fitted(name, 3, holes).score_samples(X)
    assert_allclose(other.score_samples(X), expected, rtol=1e-8, atol=1e-8)


@sweep(MODELS)
def test_normalised_weights_get_a_warning(name):
    with pytest.warns(UserWarning, match="below a tenth.*multiply them by the number of rows"):
        make(name).fit(rows(), sample_weight=np.full(60, 0.09))


# --- units ------------------------------------------------------------------------------------


@HOLES
@sweep(UNIT_FREE)
def test_rescaling_and_shifting_move_scores_by_the_log_jacobian(name, holes):
    X = rows(3, holes)
    scale, shift = np.array([30.0, 1e-3, 7.0]), np.array([5.0, -2.0, 0.1])
    if name in ONE_UNIT:
        scale = np.full(3, 30.0)
    model = make(name).fit(X * scale + shift)
    moved = model.score_samples(X * scale + shift) + ~np.isnan(X) @ np.log(scale)
    assert_allclose(moved, fitted(name, 3, holes).score_samples(X), rtol=1e-7, atol=1e-7)
    back = (model.impute(X * scale + shift) - shift) / scale
    assert_allclose(back, fitted(name, 3, holes).impute(X), rtol=1e-6, atol=1e-6)


@HOLES
@sweep(UNIT_FREE)
def test_tiny_units(name, holes):
    X = rows(3, holes)
    moved = make(name).fit(1e-8 * X).score_samples(1e-8 * X)
    moved = moved + (~np.isnan(X)).sum(axis=1) * np.log(1e-8)
    assert_allclose(moved, fitted(name, 3, holes).score_samples(X), rtol=1e-7, atol=1e-7)


@HOLES
@sweep(UNIT_FREE)
def test_a_far_origin(name, holes):
    near = (rows(3, holes) + 1e8) - 1e8  # rounded, so that adding 1e8 is exact
    far = near + 1e8
    assert_array_equal(far - 1e8, near)
    tight = {"tol": 1e-11, "max_iter": 20000} if name in CLIMBERS else {}
    scores = make(name).set_params(**tight).fit(far).score_samples(far)
    expected = make(name).set_params(**tight).fit(near).score_samples(near)
    assert_allclose(scores, expected, atol=1e-5)  # means are rounded to 1.5e-8


# --- constant columns -------------------------------------------------------------------------


@sweep(MODELS)
def test_constant_columns_stay_outside_the_density(name):
    X, model = rows(holes=True), make(name)
    with_constant = np.insert(X, 1, -4.25, axis=1)
    with_constant[3, 1] = np.nan
    with pytest.warns(UserWarning) as caught:
        model.fit(with_constant)
    assert [str(w.message) for w in caught] == [
        "columns [1] are constant; they stay outside the fitted density"
    ]
    without = fitted(name, holes=True)
    assert_array_equal(model.constant_, [False, True, False, False])
    assert_array_equal(model.constant_values_, [0, -4.25, 0, 0])
    close = {"rtol": 1e-7, "atol": 1e-8}  # the layout in memory differs, and so does rounding
    assert_allclose(model.score_samples(with_constant), without.score_samples(X), **close)
    assert_allclose(model.transform(with_constant), without.transform(X), **close)
    assert model.n_parameters_ == without.n_parameters_
    elsewhere = np.insert(X, 1, 99.0, axis=1)
    assert_array_equal(model.score_samples(elsewhere), model.score_samples(with_constant))
    assert_array_equal(model.impute(elsewhere)[:, 1], 99.0)
    filled = model.impute(with_constant)
    assert_array_equal(filled[:, 1], -4.25)
    assert_allclose(np.delete(filled, 1, axis=1), without.impute(X), **close)
    draws, _ = model.sample(5, random_state=0)
    assert_array_equal(draws[:, 1], -4.25)
    expected, _ = without.sample(5, random_state=0)
    assert_allclose(np.delete(draws, 1, axis=1), expected, **close)
    assert_array_equal(model.inverse_transform(model.transform(with_constant))[:, 1], -4.25)


@sweep(CLOSED)
def test_parts_of_a_model_with_a_constant_column(name):
    X, model = rows(), make(name)
    with pytest.warns(UserWarning, match="constant"):
        model.fit(np.insert(X, 1, 3.0, axis=1))
    part = model.marginal([3, 1])
    expected = fitted(name).marginal([2]).score_samples(X[:, [2]])
    assert_allclose(part.score_samples(np.column_stack([X[:, 2], np.full(60, 3.0)])), expected)
    assert_array_equal(part.constant_, [False, True])
    assert_array_equal(part.sample(3, random_state=0)[0][:, 1], 3.0)
    given = model.condition([1, 0], [3.0, 1.0])
    expected = fitted(name).condition([0], [1.0]).score_samples(X[:, 1:])
    assert_allclose(given.score_samples(X[:, 1:]), expected)
    with pytest.raises(ValueError, match="constant"):
        model.marginal([1])


# --- imputation -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["mean", "mode", "sample"])
@sweep(MODELS)
def test_imputing_leaves_what_was_seen(name, how):
    X, model = rows(holes=True), fitted(name, holes=True)
    filled = model.impute(X, how=how, random_state=0)
    assert filled.shape == X.shape and np.isfinite(filled).all()
    seen = ~np.isnan(X)
    assert filled[seen].tobytes() == X[seen].tobytes()
    complete = rows()
    again = model.impute(complete, how=how, random_state=0)
    assert again is not complete and again.tobytes() == complete.tobytes()


@sweep(MODELS)
def test_imputation_draws_have_the_imputed_mean(name):
    X, model = rows(holes=True)[:12], fitted(name, holes=True)
    draws = model.impute(X, how="sample", n_draws=600, random_state=0)
    assert draws.shape == (600, 12, 3)
    gap = (draws - model.impute(X))[:, np.isnan(X)]
    assert (gap.std(axis=0) > 0).all()
    scale = np.nanstd(rows(holes=True), axis=0)[np.nonzero(np.isnan(X))[1]]
    within_5_se(np.clip(gap / scale, -50, 50))


@sweep(MODELS)
def test_imputation_draws_follow_the_conditional_density(name):
    # Of rows drawn from the model itself, filled-in entries are exchangeable with the true ones.
    model = fitted(name)
    truth, _ = model.sample(3000, random_state=11)
    gaps = truth.copy()
    gaps[:, 0] = np.nan
    filled = model.impute(gaps, how="sample", random_state=12)
    within_5_se(model.score_samples(filled) - model.score_samples(truth))
    u = [np.tanh((x - truth.mean(axis=0)) / truth.std(axis=0)) for x in (filled, truth)]
    within_5_se(u[0][:, 0] * u[0][:, 1] - u[1][:, 0] * u[1][:, 1])
    within_5_se(u[0][:, 0] ** 2 - u[1][:, 0] ** 2)


@sweep(EXACT)
def test_the_imputed_mode_is_the_highest_point(name):
    X, model = rows(holes=True)[:25], fitted(name, holes=True)
    height = model.score_samples(model.impute(X, how="mode"))
    assert (height >= model.score_samples(model.impute(X)) - 1e-9).all()
    for draw in model.impute(X, how="sample", n_draws=60, random_state=0):
        assert (height >= model.score_samples(draw) - 1e-9).all()


@sweep(MODELS)
def test_randomness_is_an_argument(name):
    X, model = rows(holes=True), fitted(name, holes=True)
    X = np.concatenate([X, np.full((1, 3), np.nan)])  # a row whose component is anyone's guess
    draws = {
        "sample": lambda seed: model.sample(4, random_state=seed)[0],
        "impute": lambda seed: model.impute(X, how="sample", random_state=seed),
        "posterior": lambda seed: model.posterior(X).sample(50, random_state=seed),
    }
    for verb, draw in draws.items():
        assert_array_equal(draw(4), draw(4), err_msg=verb)
        assert not np.array_equal(draw(4), draw(5)), verb
        assert not np.array_equal(draw(None), draw(None)), verb


# --- parts of a model -------------------------------------------------------------------------


@pytest.mark.parametrize("known", [[0], [2, 0], [1]])
@sweep(CLOSED)
def test_marginal_times_conditional_is_the_joint(name, known):
    model, X = fitted(name, holes=True), rows()
    rest = np.setdiff1d(np.arange(3), known)
    part = model.marginal(known)
    for row in X[:6]:
        given = model.condition(known, row[known])
        total = part.score_samples(row[None, known]) + given.score_samples(row[None, rest])
        assert_allclose(total, model.score_samples(row[None]), rtol=1e-9, atol=1e-9)


@sweep(can("marginal"))
def test_a_marginal_scores_what_is_left(name):
    model, X = fitted(name), rows(holes=True)
    part = model.marginal([2, 0])
    assert part.n_features_in_ == 2
    without = np.where(np.arange(3) == 1, np.nan, X)
    assert_allclose(
        part.score_samples(X[:, [2, 0]]), model.score_samples(without), rtol=1e-9, atol=1e-9
    )
    assert_allclose(part.transform(X[:, [2, 0]]), model.transform(without), rtol=1e-7, atol=1e-9)
    assert np.isfinite(part.sample(3, random_state=0)[0]).all()
    assert part.n_parameters_ > 0 and part.score_kind_ == model.score_kind_


@sweep(CLOSED)
def test_a_conditional_is_what_imputation_draws_from(name):
    model, X = fitted(name), rows()
    for row in X[:4]:
        given = model.condition([1], row[[1]])
        gap = row.copy()[None]
        gap[0, [0, 2]] = np.nan
        nothing = np.full((1, 2), np.nan)
        assert_allclose(given.impute(nothing)[0], model.impute(gap)[0, [0, 2]], rtol=1e-8)
        mode = given.impute(nothing, how="mode")
        assert_allclose(mode[0], model.impute(gap, how="mode")[0, [0, 2]], rtol=1e-5)


@sweep(CLOSED)
def test_the_class_of_the_parts(name):
    model = fitted(name)
    for part in (model.marginal([0, 1]), model.condition([2], [0.0])):
        if name.startswith("vb"):
            independent = name == "vb-diag"
            assert type(part).__name__ == "Mixture"
            assert part.emission == ("independent_t" if independent else "student_t")
            assert part.df_.shape[0] == n_latents(model)
            assert part.df_.ndim == 1 + independent
        else:
            gaussian = "ensemble" in name or "auto" in name
            expected = "GaussianMixture" if gaussian else type(model).__name__
            expected = "EMFactorAnalysis" if name in MOMENTS_ONLY else expected
            assert type(part).__name__ == expected
        assert part.get_params()["n_components"] == n_clusters(model)
        assert part.marginal([1]).condition is not None


@sweep(can("marginal"))
def test_columns_by_name_mask_and_slice(name):
    import pandas as pd

    X = pd.DataFrame(rows(), columns=["a", "b", "c"])
    model = make(name).fit(X)
    expected = model.marginal([0, 2]).score_samples(X[["a", "c"]])
    for columns in (["a", "c"], [True, False, True], np.array([0, -1]), slice(0, 3, 2)):
        part = model.marginal(columns)
        assert list(part.feature_names_in_) == ["a", "c"]
        assert_array_equal(part.score_samples(X[["a", "c"]]), expected)
    assert list(model.marginal("b").feature_names_in_) == ["b"]
    assert list(model.marginal(["c", "a"]).feature_names_in_) == ["c", "a"]
    assert model.marginal(1).n_features_in_ == 1
    if name in CLOSED:
        given = model.condition("b", 100.0)
        assert list(given.feature_names_in_) == ["a", "c"]
        scores = given.score_samples(X[["a", "c"]])
        for columns in ([1], [False, True, False], slice(1, 2)):
            again = model.condition(columns, [100.0]).score_samples(X[["a", "c"]])
            assert_array_equal(again, scores)


# --- from_parameters, posterior, transform ----------------------------------------------------


@sweep(can("from_parameters"))
def test_from_parameters_round_trip(name):
    model, X = fitted(name), rows(holes=True)
    names = inspect.signature(type(model).from_parameters).parameters
    choices = [["precisions"], ["covariances"]] if "precisions" in names else [[]]
    for skip in choices:
        again = type(model).from_parameters(**params_for(model, skip))
        assert_allclose(again.score_samples(X), model.score_samples(X), rtol=1e-9, atol=1e-9)
        assert_allclose(again.transform(X), model.transform(X), rtol=1e-6, atol=1e-8)
        assert_allclose(again.impute(X), model.impute(X), rtol=1e-8)
        assert again.n_features_in_ == 3 and n_clusters(again) == n_clusters(model)
        assert again.n_parameters_ == model.n_parameters_
        assert np.isfinite(again.sample(3, random_state=0)[0]).all()
        assert np.isfinite(again.elbo(X)[0]).all() and np.isfinite(again.bic(X))
        assert pickle.loads(pickle.dumps(again)).score(X) == again.score(X)


@sweep(can("from_parameters"))
def test_from_parameters_keeps_its_own_copy(name):
    given = {
        k: np.array(v) if isinstance(v, np.ndarray) else v
        for k, v in params_for(fitted(name), ["precisions"]).items()
    }
    again = type(MODELS[name]).from_parameters(**given)
    before = again.score_samples(rows())
    for value in given.values():
        if isinstance(value, np.ndarray):
            value[...] = 0.5 * value
    assert_array_equal(again.score_samples(rows()), before)


@HOLES
@sweep(MODELS)
def test_transform_is_the_posterior_mean(name, holes):
    model, X = fitted(name, 3, holes), rows(3, holes)
    Z = model.transform(X)
    assert Z.shape == (60, n_latents(model)) and Z.dtype == np.float64
    assert_array_equal(Z, model.posterior(X).mean)
    assert_allclose(make(name).fit_transform(X), Z, rtol=1e-12)
    if name in DISCRETE:
        assert_array_equal(model.predict_proba(X), Z)
        assert_array_equal(model.predict(X), Z.argmax(axis=1))
        assert_allclose(Z.sum(axis=1), 1.0, rtol=1e-12)
        assert_array_equal(make(name).fit_predict(X), model.predict(X))


@sweep(DISCRETE)
def test_questions_to_a_discrete_posterior(name):
    model, X = fitted(name, holes=True), rows(holes=True)
    posterior, p = model.posterior(X), model.predict_proba(X)
    assert_array_equal(posterior.probs, p)
    K = n_latents(model)
    log_p = np.column_stack([posterior.log_prob(np.full(60, k)) for k in range(K)])
    assert_allclose(np.exp(log_p), p, rtol=1e-12)
    entropy = [-sum(v * np.log(v) for v in row if v > 0) for row in p]
    assert_allclose(posterior.entropy(), entropy, rtol=1e-10, atol=1e-14)
    kl = [sum(v * np.log(v / w) for v, w in zip(r, model.weights_) if v > 0) for r in p]
    assert_allclose(posterior.kl_to_prior(), kl, rtol=1e-10, atol=1e-14)
    draws = posterior.sample(3000, random_state=0)
    assert draws.shape == (3000, 60)
    se = np.sqrt(p * (1 - p) / 3000)
    assert (np.abs(np.eye(K)[draws].mean(axis=0) - p) <= 5 * se + 1e-3).all()


@sweep(CONTINUOUS)
def test_questions_to_a_gaussian_posterior(name):
    model, X = fitted(name, holes=True), rows(holes=True)[:20]
    posterior, q = model.posterior(X), n_latents(model)
    assert posterior.mean.shape == (20, q) and posterior.covariance.shape == (20, q, q)
    draws = posterior.sample(3000, random_state=0)
    assert draws.shape == (3000, 20, q)
    within_5_se(draws, posterior.mean)
    log_q = np.array([posterior.log_prob(z) for z in draws[:200]])
    normals = [multivariate_normal(m, S) for m, S in zip(posterior.mean, posterior.covariance)]
    by_hand = np.array([[f.logpdf(z) for f, z in zip(normals, draw)] for draw in draws[:200]])
    assert_allclose(log_q, by_hand, rtol=1e-8)
    assert_allclose(posterior.entropy(), [f.entropy() for f in normals], rtol=1e-10)
    log_q = np.array([posterior.log_prob(z) for z in draws])
    within_5_se(-log_q, posterior.entropy())
    within_5_se(log_q - log_prior(model, draws), posterior.kl_to_prior())


def log_prior(model, z):
    """log p(z) of z (..., q): standard normal but for a mixture that a VAE has fitted."""
    if "prior.logits" not in getattr(model, "parameters_", {}):
        return (
            multivariate_normal(np.zeros(z.shape[-1]), np.eye(z.shape[-1]))
            .logpdf(z)
            .reshape(z.shape[:-1])
        )
    p = model.parameters_
    roots = np.tril(p["prior.root"], -1) + [np.diag(np.exp(np.diag(a))) for a in p["prior.root"]]
    covariances = np.linalg.inv(roots.mT @ roots)
    parts = [
        multivariate_normal(m, S).logpdf(z).reshape(z.shape[:-1]) + logit
        for m, S, logit in zip(p["prior.means"], covariances, p["prior.logits"])
    ]
    return logsumexp(parts, axis=0) - logsumexp(p["prior.logits"])


# --- criteria ---------------------------------------------------------------------------------

# Free parameters for d = 3, counted by hand: weights + means + matrices (+ degrees of freedom).
FREE = {
    **{"gmm-tied": 1 + 6 + 6, "gmm-diag": 1 + 6 + 6, "gmm-spherical": 1 + 6 + 2},
    **{"gmm-EII": 7 + 1, "gmm-EEI": 7 + 3, "gmm-VEI": 7 + 2 + 2, "gmm-EVI": 7 + 1 + 4},
    **{"gmm-VEE": 7 + 2 + 2 + 3, "gmm-EVE": 7 + 1 + 4 + 3, "gmm-VVE": 7 + 2 + 4 + 3},
    **{"gmm-EEV": 7 + 1 + 2 + 6, "gmm-VEV": 7 + 2 + 2 + 6, "gmm-EVV": 7 + 1 + 4 + 6},
    **{"mixture-t-VEE": 7 + 2 + 2 + 3 + 2},
    **{"mixture-t": 1 + 6 + 12 + 2, "mixture-t4": 1 + 6 + 6, "vb": 2 + 9 + 18},
    **{"vb-diag": 1 + 6 + 6, "vb-tied": 2 + 9 + 6, "vb-spherical": 1 + 6 + 2},
    **{"vb-learnt": 2 + 9 + 18, "mixture-ti": 1 + 6 + 6, "mixture-nested": 1 + 2 + 12 + 12},
    **{"vpca": 3 + 5 + 1, "vpca-1": 3 + 3 + 1, "ppca": 3 + 3 + 1},
    **{"fa-varimax": 3 + 6, "fa-oblimin": 3 + 6},
    **{"ensemble": 3 + 15 + 30, "ensemble-shared": 3 + 15 + 30},
    **{"ensemble-diag": 2 + 12 + 12},  # shares of members are given
    **{"rbm": 2 * 3 + 3 + 2 + 3, "dbn": (2 * 3 + 3 + 3) + (2 + 2 + 1)},
    **{"fa": 3 + 6, "fa-em": 3 + 6, "fa-ml": 3 + 6, "mfa-shared": 1 + 6 + 6 + 3},
    **dict.fromkeys(["fa-parallel", "fa-bic", "fa-cv"], 3 + 6),
    **{"vqvae": 1 + 6 + 6},  # no more than the mixture that it is
    **{"noise": 2 + 6 + 12, "noise-columns": 2 + 3 + 4 + 3},
    **{"columns": 1 + 4 + 4 + 6, "columns-tied": 1 + 3 + 4 + 6},
    **{"mfa-spherical": 1 + 6 + 6 + 2, "mfa-spherical-0": 1 + 6 + 1},
}


@sweep(EXACT)
def test_free_parameters_and_criteria(name):
    X, model = rows(holes=True), fitted(name, holes=True)
    free = FREE.get(name, 1 + 6 + 12)
    assert model.n_parameters_ == free
    X = np.concatenate([X, np.full((1, 3), np.nan)])  # no row, so it does not count in n
    total, weight = model.score_samples(X).sum(), np.r_[np.full(60, 2), 5]
    assert model.aic(X) == pytest.approx(-2 * total + 2 * free)
    assert model.bic(X) == pytest.approx(-2 * total + free * np.log(60))
    assert model.bic(X, sample_weight=weight) == pytest.approx(-4 * total + free * np.log(120))
    assert type(model.bic(X)) is float and type(model.aic(X)) is float
    if name in DISCRETE:
        entropy = model.posterior(X[:60]).entropy().sum()
        assert model.icl(X) == pytest.approx(model.bic(X) + 2 * entropy)
        weighted = model.bic(X, sample_weight=weight) + 4 * entropy
        assert model.icl(X, sample_weight=weight) == pytest.approx(weighted)


# --- the climb --------------------------------------------------------------------------------


@HOLES
@sweep(CLIMBERS)
def test_the_objective_never_falls(name, holes):
    model = fitted(name, 3, holes)
    history = model.history_
    assert model.n_iter_ == len(history) - 1 >= 1
    assert model.converged_ is True or model.converged_ is np.True_
    assert (np.diff(history) >= -1e-9 * (1 + np.abs(history[1:]))).all()


@HOLES
@sweep([name for name in UNIT_FREE if name in CLIMBERS])
def test_a_longer_climb_ends_no_lower(name, holes):
    X = rows(3, holes)
    longer = make(name).set_params(tol=1e-12, max_iter=20000).fit(X)
    assert longer.history_[-1] >= fitted(name, 3, holes).history_[-1] - 1e-12
    assert longer.history_[-1] - fitted(name, 3, holes).history_[-1] < 1e-4


@sweep(EXACT)
def test_too_few_iterations_are_reported(name):
    model = make(name).set_params(max_iter=1, **one_start(name))
    if name in DISCRETE:
        model.set_params(n_components=4)
    with pytest.warns(ConvergenceWarning) as caught:
        model.fit(rows(4, True, 200))
    assert len(caught) == 1
    text = str(caught[0].message)
    assert re.search(r"did not converge in 1 iteration.*max_iter \(now 1\).*tol", text), text
    assert type(model).__name__ in text
    assert model.n_iter_ == 1 and not model.converged_


class Interrupt(io.StringIO):
    """A standard output that presses Ctrl-C when a line is printed for the n-th time."""

    def __init__(self, after):
        super().__init__()
        self.left = after

    def write(self, text):
        super().write(text)
        self.left -= "\n" in text or text.endswith("\n")
        if self.left <= 0:
            raise KeyboardInterrupt
        return len(text)


@pytest.mark.parametrize("after", [1, 3])
@sweep(MODELS)
def test_ctrl_c_keeps_the_best_state(name, after):
    X = rows(4, True, 200) if "fa" not in name else rows(4, False, 200)
    settings = {"verbose": 1, "verbose_interval": 1, "tol": 0.0}
    if name in DISCRETE:
        settings |= {"n_components": 4} | one_start(name)
    model = make(name).set_params(**settings)
    out = Interrupt(after)
    with contextlib.redirect_stdout(out), pytest.raises(KeyboardInterrupt):
        model.fit(X)
    assert model.converged_ is False
    assert model.n_iter_ == len(model.history_) - 1 >= after - 1
    assert np.isfinite(model.score_samples(X)).all()
    if name in CLIMBERS:
        printed = [float(v) for v in re.findall(r"(-?[\d.]+) nats", out.getvalue())]
        assert len(printed) == after
        assert model.history_[-1] >= max(printed) - 1e-6
    model.set_params(verbose=0, tol=make(name).tol).fit(X)
    assert model.converged_ or name not in CLIMBERS


class CtrlC:
    """Sample weights that press Ctrl-C when they are read."""

    def __array__(self, *args, **kwargs):
        raise KeyboardInterrupt


@sweep(MODELS)
def test_ctrl_c_before_the_first_state_changes_nothing(name):
    fresh, model = make(name), make(name).fit(rows())
    before = vars(model).copy()
    for estimator in (fresh, model):
        with pytest.raises(KeyboardInterrupt):
            estimator.fit(rows(2), sample_weight=CtrlC())
    assert vars(fresh).keys() == vars(make(name)).keys()
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[key] is value for key, value in before.items())
    assert np.isfinite(model.score(rows()))
