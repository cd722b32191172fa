"""VAEs that are given columns, p(the rest | them): regression, closed forms, quadrature."""

import pickle
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal, norm
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import check_estimator

from sklvm import VAE, DensityOutlierDetector, EMFactorAnalysis, GaussianMixture, LatentImputer
from sklvm.inference.regression import Directions, slopes_on
from sklvm.inference.sgd import TrainingRows
from sklvm.vae_report import _simple_scores
from tests._models import params_for

QUICK = {"max_iter": 3, "n_importance_samples": 32, "prior": "normal", "random_state": 0}
GIVEN = np.array([False, True, False, False, True, False])  # of the columns of `regressed`
pytestmark = [
    pytest.mark.filterwarnings("ignore:VAE did not converge"),
    pytest.mark.filterwarnings("ignore:on held-out rows"),
]


@cache
def regressed(n=300, seed=0):
    """Four columns that are linear in two contexts, with one common cause beside them."""
    rng = np.random.default_rng(seed)
    c = rng.standard_normal((n, 2)) @ [[1.0, 0.6], [0.0, 0.8]]
    X = np.empty((n, 6))
    X[:, GIVEN], z = c * [100.0, 0.1] + [7.0, -3.0], rng.standard_normal((n, 1))
    noise = rng.uniform(0.3, 0.8, 4) * rng.standard_normal((n, 4))
    mean = c @ rng.standard_normal((2, 4)) + z @ rng.standard_normal((1, 4))
    X[:, ~GIVEN] = (mean + noise) * np.geomspace(0.1, 100, 4) + np.arange(4)
    X.flags.writeable = False
    return X


@cache
def fan(n=400, d=1, seed=0):
    """A context, then columns whose means bend with it and whose spread grows with its size."""
    rng = np.random.default_rng(seed)
    c = rng.uniform(-2, 2, n)
    y = np.sin(2 * c)[:, None] * np.arange(1, d + 1)
    y = y + (0.05 + 0.3 * np.abs(c))[:, None] * rng.standard_normal((n, 1))
    X = np.column_stack([c, y + 0.05 * rng.standard_normal((n, d))])
    X.flags.writeable = False
    return X


def with_holes(X, seed=0):
    """The rows with a fifth of what is modelled missing."""
    holes = np.random.default_rng(seed).uniform(size=X.shape) < 0.2
    return np.where(holes & ~GIVEN, np.nan, X)


@cache
def linear():
    """A linear model of rows with holes."""
    settings = {"hidden_layer_sizes": (), "decoder_variance": "column", "max_iter": 5}
    return VAE(2, condition_on=GIVEN, prior="normal", random_state=0, **settings).fit(
        with_holes(regressed())
    )


@cache
def curved(d=1):
    settings = {"hidden_layer_sizes": (32, 32), "max_iter": 60, "learning_rate_init": 5e-3}
    return VAE(1, condition_on=[0], random_state=0, **settings).fit(fan(d=d))


def at_the_start(X, **params):
    """A VAE whose training has moved nothing, on all rows; its bound is exact where q is."""
    fixed = {"learning_rate_init": 1e-30, "max_iter": 1, "validation_fraction": 0.0}
    usual = {"random_state": 0, "decoder_variance": "column", "objective": "stl", "prior": "normal"}
    return VAE(**{**usual, **fixed, **params})


def same_parameters(a, b):
    for name, values in a.parameters_.items():
        assert_array_equal(values, b.parameters_[name], err_msg=name)


# --- the start ----------------------------------------------------------------------------------


def test_the_first_bound_is_the_likelihood_of_regression_and_factor_analysis_of_residuals():
    """Weighted rows, the encoder exact: each row's bound is its log density, whatever the draw."""
    X, weight = regressed(), np.random.default_rng(1).integers(0, 4, len(regressed()))
    vae = at_the_start(X, n_components=1, condition_on=[1, 4]).fit(X, sample_weight=weight)
    seen = np.repeat(X, weight, axis=0)
    y, c = seen[:, ~GIVEN], np.column_stack([np.ones(len(seen)), seen[:, GIVEN]])
    sd = y.std(axis=0)
    residual = (y - c @ np.linalg.lstsq(c, y, rcond=None)[0]) / sd
    fa = EMFactorAnalysis(1).fit(residual)
    expected = fa.score_samples(residual) - np.log(sd).sum()
    assert vae.history_[0] == pytest.approx(expected.mean(), abs=1e-5)
    assert_allclose(vae.score_samples(seen), expected, atol=1e-5)
    free = VAE(1, random_state=0, max_iter=1).fit(X, sample_weight=weight)
    assert vae.history_[0] > free.history_[0] + 1  # contexts tell much


def test_one_column_given_the_others_is_linear_regression():
    X = regressed()[:, :3]
    vae = at_the_start(X, condition_on=[0, 1], decoder_variance="shared").fit(X)
    c = np.column_stack([np.ones(len(X)), X[:, :2]])
    mean = c @ np.linalg.lstsq(c, X[:, 2], rcond=None)[0]
    expected = norm(mean, (X[:, 2] - mean).std()).logpdf(X[:, 2])
    assert_allclose(vae.score_samples(X), expected, atol=1e-5)


@pytest.mark.parametrize("holes", [False, True], ids=["complete", "holes"])
def test_the_encoder_starts_where_the_posterior_is(holes):
    """What is missing stands at its mean given the contexts, so it pulls nowhere."""
    X = with_holes(regressed()) if holes else regressed()
    state = at_the_start(X, n_components=1, condition_on=[1, 4]).fit(X).state_
    q, posterior = (
        state.model().encoder(torch.from_numpy(state.standardised(X))),
        state.posterior(X),
    )
    if not holes:
        assert_allclose(q.mean.numpy(), posterior.mean, atol=1e-5)
        assert_allclose(q.variance().numpy(), posterior.covariance[:, 0], rtol=1e-5)
    far = np.abs(q.mean.numpy() - posterior.mean) / np.sqrt(posterior.covariance[:, 0])
    assert far.max() < 3 and np.median(far) < 0.2


def test_directions_and_slopes_are_weighted_least_squares():
    rng = np.random.default_rng(0)
    c, v = rng.standard_normal((60, 3)), rng.standard_normal((60, 4))
    c = np.column_stack([c, c[:, 0] - c[:, 1]])  # collinear
    weight = rng.integers(1, 4, 60).astype(float)
    v[rng.uniform(size=60) < 0.3, 2], v[:, 3] = np.nan, 0.1
    directions = Directions.of(c, weight)
    u = directions.along(c)
    assert_allclose((u.T * weight) @ u / weight.sum(), np.eye(3), atol=1e-12)
    slopes = directions.basis @ slopes_on(u, v, weight)
    for j in range(3):
        seen = ~np.isnan(v[:, j])
        design, root = np.column_stack([np.ones(seen.sum()), c[seen]]), np.sqrt(weight[seen])
        fitted = design @ np.linalg.lstsq(root[:, None] * design, root * v[seen, j])[0]
        assert_allclose(np.ptp(c[seen] @ slopes[:, j] - fitted), 0.0, atol=1e-12)
    assert (slopes[:, 3] == 0).all()
    few = slopes_on(u[:10], v[:10, :1], np.ones(10))
    assert (few[:2] != 0).all() and (few[2:] == 0).all()  # ten rows tell of two slopes


def test_more_contexts_than_rows_are_no_obstacle():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 62))
    vae = VAE(condition_on=slice(2, None), **QUICK).fit(X[:30])
    assert vae.score(X[30:]) > -6  # of two standard normals: -2.84


# --- the linear model in closed form ------------------------------------------------------------


def closed_form(vae, x):
    """Mean (d - m,) and covariance of what is modelled of one row, in the units of X."""
    parameters, given = vae.parameters_, vae.state_.given
    W, b = parameters["decoder.skip.weight"], parameters["decoder.skip.bias"]
    q, location, scale = vae.n_components_, vae.location_, vae.scale_
    noise = vae.noise_floor**2 + np.exp(parameters["decoder.constants"])
    c = ((x - location) / scale)[given]
    mean = (W[:, q:] @ c + b) * scale[~given] + location[~given]
    S = W[:, :q] @ W[:, :q].T + np.diag(noise)
    return mean, S * scale[~given] * scale[~given][:, None]


def test_a_linear_model_is_the_gaussian_of_its_parameters():
    vae, X = linear(), with_holes(regressed(), 1)[:20]
    scores, filled = vae.score_samples(X), vae.impute(X)
    for x, score, full in zip(X, scores, filled, strict=True):
        mean, S = closed_form(vae, x)
        y, seen = x[~GIVEN], ~np.isnan(x[~GIVEN])
        expected = multivariate_normal(mean[seen], S[np.ix_(seen, seen)]).logpdf(y[seen])
        assert score == pytest.approx(expected, abs=1e-7)
        pull = np.linalg.solve(S[np.ix_(seen, seen)], y[seen] - mean[seen])
        y[~seen] = (mean + S[:, seen] @ pull)[~seen]
        assert_allclose((full[~GIVEN] - y) / np.sqrt(np.diag(S)), 0.0, atol=0.01)
        assert_array_equal(full[GIVEN], x[GIVEN])
    assert_allclose(sum(vae.elbo(X)[:3]), scores, atol=1e-5)  # the posterior is a Gaussian
    assert_allclose(vae.tighten(X, 0)[0] + vae.regret(X), scores, atol=1e-7)
    assert (vae.amortisation_gap(X) > -1e-9).all()


def test_draws_are_those_of_the_gaussian():
    vae, c = linear(), regressed()[5, GIVEN]
    X, Z = vae.sample(20000, random_state=0, contexts=c)
    assert_array_equal(X[:, GIVEN], np.tile(c, (20000, 1)))
    mean, S = closed_form(vae, regressed()[5])
    sd = np.sqrt(np.diag(S))
    assert_allclose((X[:, ~GIVEN].mean(axis=0) - mean) / sd, 0.0, atol=0.03)
    assert_allclose(np.cov(X[:, ~GIVEN].T) / np.outer(sd, sd), S / np.outer(sd, sd), atol=0.04)
    assert_allclose(Z.std(axis=0), 1.0, atol=0.03)
    lacking = np.where(GIVEN, regressed()[5], np.nan)[None]
    expected = vae.impute(lacking)[0, ~GIVEN]  # E[the rest | contexts], by 256 points
    assert_allclose((expected - mean) / sd, 0.0, atol=0.02)
    copies = vae.impute(lacking, how="sample", n_draws=4000, random_state=0)[:, 0, ~GIVEN]
    assert_allclose((copies.mean(axis=0) - mean) / sd, 0.0, atol=0.08)


def test_parameters_are_those_of_regression_and_factor_analysis():
    """Slopes in two contexts, one loading, location and noise of each of four columns."""
    vae = at_the_start(regressed(), n_components=1, condition_on=[1, 4], hidden_layer_sizes=())
    assert vae.fit(regressed()).n_parameters_ == 4 * (2 + 1 + 1 + 1)


# --- the density --------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [-1.8, 0.0, 1.1])
def test_the_density_of_the_rest_integrates_to_one(c):
    y = np.linspace(-6, 6, 1501)
    density = np.exp(curved().score_samples(np.column_stack([np.full(1501, c), y])))
    assert np.trapezoid(density, y) == pytest.approx(1.0, abs=2e-3)


def test_a_missing_entry_is_integrated_out():
    vae, y = curved(2), np.linspace(-8, 8, 2001)
    for c, first in ((-1.5, 0.3), (0.2, 0.5), (1.7, -0.8)):
        rows = np.column_stack([np.full(2001, c), np.full(2001, first), y])
        whole = np.trapezoid(np.exp(vae.score_samples(rows)), y)
        missing = vae.score_samples([[c, first, np.nan]])
        assert np.exp(missing[0]) == pytest.approx(whole, rel=5e-3)


def test_a_curved_model_beats_linear_regression_on_rows_that_no_fit_saw():
    train, test = fan(), fan(seed=1)
    design = np.column_stack([np.ones(len(train)), train[:, 0]])
    slope = np.linalg.lstsq(design, train[:, 1], rcond=None)[0]
    sd = (train[:, 1] - design @ slope).std()
    mean = np.column_stack([np.ones(len(test)), test[:, 0]]) @ slope
    regression = norm(mean, sd).logpdf(test[:, 1]).mean()
    assert curved().score(test) > regression + 0.5
    spread = [curved().sample(2000, 0, contexts=[c])[0][:, 1].std() for c in (0.0, 1.9)]
    assert spread[1] > 3 * spread[0]  # truly 0.07 and 0.62


def test_units_of_the_rest_shift_scores_and_those_of_contexts_do_not():
    X, settings = regressed(), {"condition_on": [1, 4], **QUICK}
    plain = VAE(**settings).fit(X)
    scores = plain.score_samples(X)
    rest = np.where(GIVEN, 1.0, [3.0, 1, 0.01, 7, 1, 1000])
    moved = X * rest + 5 * ~GIVEN
    scaled = VAE(**settings).fit(moved)
    same_parameters(scaled, plain)
    assert_allclose(scaled.score_samples(moved), scores - np.log(rest).sum(), rtol=1e-9)
    moved = np.where(GIVEN, X * 77.7 - 13, X)
    scaled = VAE(**settings).fit(moved)
    same_parameters(scaled, plain)
    assert_allclose(scaled.score_samples(moved), scores, rtol=1e-9)


def test_weights_are_repeated_rows_and_rows_without_weight_are_absent():
    X, weight = with_holes(regressed())[:80], np.arange(80) % 3
    plain = VAE(condition_on=[1, 4], **QUICK).fit(np.repeat(X, weight, axis=0))
    absent = np.where((weight == 0)[:, None], np.nan, X)  # and so may what they are given
    weighted = VAE(condition_on=[1, 4], **QUICK).fit(absent, sample_weight=weight)
    same_parameters(plain, weighted)


def test_contexts_alone_say_nothing():
    """Such a row scores 0, is no row of the fit, and its latents have their prior."""
    X = regressed()[:80]
    alone = np.where(GIVEN, X[:5] + 1, np.nan)
    settings = {"condition_on": [1, 4], "n_components": 1, **QUICK}
    one, other = (VAE(**settings).fit(rows) for rows in (X, np.vstack([X, alone])))
    assert_array_equal(one.score_samples(X), other.score_samples(X))
    assert_array_equal(one.score_samples(alone), np.zeros(5))
    assert_allclose(one.transform(alone), 0.0, atol=1e-9)
    assert one.bic(np.vstack([X, alone])) == pytest.approx(one.bic(X))
    mixed = VAE(n_clusters=2, **settings | {"prior": "mixture"}).fit(X)
    assert_array_equal(mixed.score_samples(alone), np.zeros(5))
    _, diagnostics = mixed.score_samples(alone, return_diagnostics=True)
    assert_array_equal(diagnostics.standard_error, np.zeros(5))


# --- which columns, and of what kind ------------------------------------------------------------


@cache
def frame(n=200, seed=0):
    rng = np.random.default_rng(seed)
    colour, on = rng.integers(0, 3, n), rng.uniform(size=n) < 0.4
    count = rng.poisson(np.exp(0.5 * colour))
    size = np.sin(colour) + on + 0.3 * rng.standard_normal(n)
    return pd.DataFrame(
        {
            "size": size,
            "colour": pd.Categorical.from_codes(colour, ["blue", "green", "red"]),
            "on": on,
            "count": count,
            "class": pd.Categorical.from_codes((colour + on) % 3, list("xyz")),
        }
    )


def test_contexts_of_a_frame_are_what_its_dtypes_say():
    X = frame()
    settings = {"max_iter": 40, "random_state": 0}
    vae = VAE(1, condition_on=["on", "colour"], **settings).fit(X)
    assert_array_equal(vae.condition_on_, [2, 1])
    assert vae.base_measure_.tolist() == ["lebesgue", "given", "given", "lebesgue", "counting"]
    assert vae.parameters_["decoder.skip.weight"].shape[1] == 1 + 2 + 1  # one code has no column
    classes = pd.concat([X.iloc[[0]].assign(**{"class": k}) for k in "xyz"], ignore_index=True)
    classes["class"] = pd.Categorical(classes["class"], list("xyz"))
    classes[["size", "count"]] = np.nan
    assert np.exp(vae.score_samples(classes)).sum() == pytest.approx(1.0, abs=0.02)
    drawn, _ = vae.sample(2, 0, contexts=X[["colour", "on"]][:2])  # by their names
    codes = X["colour"].cat.codes.to_numpy()[:2]
    assert_array_equal(drawn[:, [1, 2]], np.column_stack([codes, X["on"][:2]]))
    assert_array_equal(vae.sample(2, 0, contexts=[X["on"][0], codes[0]])[0][0, 1:3], drawn[0, 1:3])
    with pytest.raises(ValueError, match=r"contexts must have the columns .* \['colour'\] are"):
        vae.sample(2, contexts=X[["on"]][:2])


def test_contexts_may_be_of_every_kind():
    rng = np.random.default_rng(0)
    kinds = ["student_t", "bernoulli", "poisson", "continuous_bernoulli", "log_normal"]
    kinds += ["negative_binomial", "categorical"]
    X = np.exp(rng.standard_normal((60, 8)))
    X[:, 2], X[:, 4] = X[:, 2] > 1, 1 / (1 + X[:, 4])
    for j in (3, 6, 7):
        X[:, j] = np.floor(X[:, j]).clip(max=4)
    pairs = [(kind, [j]) for j, kind in enumerate(["gaussian", *kinds])]
    vae = VAE(likelihood=pairs, condition_on=slice(1, None), **QUICK).fit(X)
    assert np.isfinite(vae.score_samples(X)).all()
    other = VAE(likelihood=pairs, condition_on=[0, 7], **QUICK).fit(X)
    assert np.isfinite(other.score_samples(X)).all()
    assert_allclose(other.sample(3, 0, contexts=X[:3, [0, 7]])[0][:, [0, 7]], X[:3, [0, 7]])
    part = other.marginal([7, 2, 0])
    assert part.likelihood_ == [("gaussian", [2]), ("bernoulli", [1]), ("categorical", [0])]
    rest = np.where(np.isin(np.arange(8), [0, 2, 7]), X, np.nan)
    assert_allclose(part.score_samples(X[:, [7, 2, 0]]), other.score_samples(rest), atol=1e-9)


def test_images_and_networks_of_the_users_own_take_contexts():
    """Stripes across or along, as the first column says, which is no pixel."""
    rng = np.random.default_rng(0)
    along = rng.uniform(size=80) < 0.5
    stripes = np.array([[1, 1, 1, 0, 0, 0] * 2, [1, 0] * 6])[along.astype(int)]
    pixels = stripes + 0.3 * rng.standard_normal((80, 12))
    X = np.column_stack([along, pixels, rng.uniform(size=80)])
    X[0, 3] = np.nan
    shape, model = {"image_shape": (2, 6)}, VAE(1, condition_on=[0, 13], **QUICK)

    def network(n_inputs):
        return torch.nn.Sequential(torch.nn.Linear(n_inputs, 7), torch.nn.Tanh())

    few = X[:, [0, 1, 4, 13]]
    lacking = np.where(np.isin(np.arange(14), [0, 1, 4, 13]), X, np.nan)
    for settings in (shape, {"encoder": network, "decoder": network}):
        vae = clone(model).set_params(**settings).fit(X)
        other = np.column_stack([~along, X[:, 1:]])
        assert vae.score(X) > vae.score(other) + 5
        part = vae.marginal([0, 1, 4, 13])
        assert_allclose(part.score_samples(few), vae.score_samples(lacking), atol=1e-8)
        assert_allclose(part.tighten(few, 0), vae.tighten(lacking, 0), atol=1e-8)
        with pytest.raises(ValueError, match="contexts in one order"):
            vae.marginal([13, 1, 0])
    with pytest.raises(ValueError, match="image_shape"):
        clone(model).set_params(image_shape=(2, 7)).fit(X)


def test_missing_contexts_are_refused_by_name():
    X, bad = regressed(), np.array(regressed())
    bad[3, 4] = np.nan
    for ask in ("fit", "score_samples", "transform", "impute", "elbo", "tighten", "posterior"):
        with pytest.raises(ValueError, match=r"are missing \(NaN\).*fill them \(columns \[4\]\)"):
            getattr(linear() if ask != "fit" else VAE(condition_on=[1, 4]), ask)(bad)
    names = pd.DataFrame(bad, columns=list("abcdef"))
    with pytest.raises(ValueError, match=r"columns \['e'\]"):
        VAE(condition_on=["b", "e"], **QUICK).fit(names)
    assert np.isfinite(linear().score_samples(X)).all()


def test_what_cannot_be_told_is_refused():
    X = regressed()
    with pytest.raises(ValueError, match=r"are all columns of X \(n_features=1\)"):
        VAE(condition_on=0).fit(X[:, :1])
    with pytest.raises(ValueError, match="columns must lie in"):
        VAE(condition_on=[6]).fit(X)
    with pytest.raises(ValueError, match="named once each"):
        VAE(condition_on=[1, 1]).fit(X)
    with (
        pytest.raises(ValueError, match="every column but those of condition_on is constant"),
        pytest.warns(UserWarning, match="are constant"),
    ):
        VAE(condition_on=[0]).fit(np.column_stack([X[:, 0], np.ones(len(X))]))
    with pytest.raises(ValueError, match=r"the model has 2 contexts .* got contexts=None"):
        linear().sample(3)
    assert not hasattr(linear(), "inverse_transform")  # it would have to invent contexts
    with pytest.raises(ValueError, match=r"contexts must be finite numbers of shape \(3, 2\)"):
        linear().sample(3, contexts=X[:2, GIVEN])
    with pytest.raises(ValueError, match="the model has 0 contexts"):
        VAE(**QUICK).fit(X[:60]).sample(3, contexts=X[:3, :1])
    unseen = frame().iloc[:60].assign(colour=pd.Categorical(["violet"] * 60))
    vae = VAE(condition_on="colour", **QUICK).fit(frame())
    with pytest.raises(ValueError, match=r"categories that fit has not seen.*\['colour'\]"):
        vae.score_samples(unseen)
    with pytest.raises(ValueError, match="categories that fit has not seen"):
        vae.sample(contexts=[3])


def test_constant_contexts_tell_nothing():
    X = np.column_stack([regressed()[:80, :3], np.full(80, 4.0)])
    with pytest.warns(UserWarning, match=r"columns \[3\] are constant"):
        vae = VAE(1, condition_on=[3, 1], **QUICK).fit(X)
    assert_array_equal(vae.condition_on_, [3, 1])
    without = VAE(1, condition_on=[1], **QUICK).fit(X[:, :3])
    same_parameters(vae, without)
    scores = vae.score_samples(X + [0, 0, 0, 1])
    assert_allclose(scores, without.score_samples(X[:, :3]), rtol=1e-12)
    assert_array_equal(vae.sample(1, 0, contexts=[9.0, 2.0])[0][0, [3, 1]], [9.0, 2.0])
    with pytest.warns(UserWarning, match="are constant"):
        nothing = VAE(1, condition_on=[3], **QUICK).fit(X)
    free = VAE(1, **QUICK).fit(X[:, :3])
    same_parameters(nothing, free)
    assert_allclose(nothing.score_samples(X), free.score_samples(X[:, :3]), rtol=1e-12)


# --- models made from others --------------------------------------------------------------------


def test_a_marginal_keeps_what_it_is_given():
    vae, X = curved(2), fan(d=2)[:30]
    part = vae.marginal([2, 0])
    assert part.condition_on == [1]
    assert_array_equal(part.condition_on_, [1])
    lacking = np.where([False, True, False], np.nan, X)
    assert_allclose(part.score_samples(X[:, [2, 0]]), vae.score_samples(lacking), atol=1e-9)
    assert_allclose(part.transform(X[:, [2, 0]]), vae.transform(lacking), atol=1e-6)
    assert_allclose(part.tighten(X[:, [2, 0]], 0), vae.tighten(lacking, 0), atol=1e-9)
    with pytest.raises(ValueError, match="marginal must keep all of condition_on"):
        vae.marginal([1, 2])
    with pytest.raises(ValueError, match="these columns are all given"):
        vae.marginal([0])
    model, rows = linear(), with_holes(regressed(), 3)[:20]
    part, lacking = model.marginal([4, 0, 1]), np.where(GIVEN | (np.arange(6) < 1), rows, np.nan)
    assert_allclose(part.score_samples(rows[:, [4, 0, 1]]), model.score_samples(lacking), atol=1e-9)
    names = pd.DataFrame(regressed()[:60], columns=list("abcdef"))
    model = VAE(1, condition_on=["e", "b"], **QUICK).fit(names)
    part = model.marginal(["a", "b", "e"])
    assert part.condition_on == [2, 1]
    drawn, _ = part.sample(1, 0, contexts=names.loc[0, ["e", "b"]].to_numpy())
    assert_array_equal(drawn[0, [2, 1]], names.loc[0, ["e", "b"]])


def test_models_from_parameters_pickles_and_clones_are_the_same():
    vae, X = linear(), with_holes(regressed(), 2)[:20]
    scores = vae.score_samples(X)
    params = params_for(vae, skip=("n_importance_samples", "random_state"))
    again = VAE.from_parameters(**params)
    assert_array_equal(again.score_samples(X), scores)
    assert_array_equal(again.condition_on_, [1, 4])
    value = {**params, "likelihood": vae.state_.likelihood, "condition_on": None}
    assert_array_equal(VAE.from_parameters(**value).score_samples(X), scores)
    assert VAE.from_parameters(**value).condition_on == [1, 4]
    with pytest.raises(ValueError, match=r"likelihood is given \[1, 4\]"):
        VAE.from_parameters(**{**value, "condition_on": [1]})
    with pytest.raises(ValueError, match="encoder.drift.weight must be finite"):
        VAE.from_parameters(**{**params, "condition_on": [1]})
    assert_array_equal(pickle.loads(pickle.dumps(vae)).score_samples(X), scores)
    assert_array_equal(clone(vae).condition_on, GIVEN)


def test_baselines_are_given_the_contexts_too():
    """Regression with factor analysis of its residuals, and a joint mixture, conditioned."""
    state = linear().state_
    x = state.standardised(regressed())
    rows = TrainingRows(x, np.ones(len(x)), state.location, state.scale)
    fit, told = rows.take(slice(0, 250)), rows.take(slice(250, 270))
    scores = _simple_scores(state, fit, told, seed=0)
    assert list(scores) == ["factor_analysis", "gaussian_mixture"]
    joint = GaussianMixture(3, n_init=3, split_merge=False, random_state=0).fit(fit.X)
    given = np.flatnonzero(GIVEN)
    expected = [
        joint.condition(given, row[GIVEN]).score_samples(row[None, ~GIVEN])[0] for row in told.X
    ]
    assert_allclose(scores["gaussian_mixture"], expected, rtol=1e-6)
    design, y = np.column_stack([np.ones(270), x[:270, GIVEN]]), x[:270, ~GIVEN]
    left = y - design @ np.linalg.lstsq(design[:250], y[:250], rcond=None)[0]
    expected = EMFactorAnalysis(2).fit(left[:250]).score_samples(left[250:])
    assert_allclose(scores["factor_analysis"], expected, rtol=1e-6)
    mixed = VAE(1, condition_on=["colour"], **QUICK).fit(frame()[["size", "colour"]])
    assert list(mixed.baselines_) == ["factor_analysis", "mixture", "vae"]


# --- scikit-learn -------------------------------------------------------------------------------


# NaN is refused in contexts, so that the checks are told that it is not allowed everywhere; they
# put it in the first column to see.
@pytest.mark.filterwarnings("ignore")  # the checks fit constant columns, too few iterations, ...
def test_every_check_passes():
    results = check_estimator(VAE(condition_on=[0], **QUICK), on_skip=None, on_fail=None)
    assert len(results) >= 50
    assert [(r["check_name"], r["exception"]) for r in results if r["status"] != "passed"] == []


def test_other_tools_take_conditional_models():
    X, model = with_holes(regressed()), VAE(1, condition_on=[1, 4], **QUICK)
    assert np.isfinite(cross_val_score(model, X[:90], cv=2)).all()
    filled = LatentImputer(model, random_state=0).fit(X).transform(X)
    assert_array_equal(filled[~np.isnan(X)], X[~np.isnan(X)])
    assert not np.isnan(filled).any()
    far = np.array(regressed()[:1])
    far[0, 0] += 50 * np.nanstd(X[:, 0])
    detector = DensityOutlierDetector(model, contamination=0.05).fit(regressed())
    assert detector.predict(far) == [-1]
