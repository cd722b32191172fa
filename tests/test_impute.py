"""LatentImputer: the checks, observed entries to the bit, draws that belong to rows, pipelines."""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture as PeerMixture
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks, get_tags

from sklvm import EMFactorAnalysis, GaussianMixture, ImputationEnsemble, LatentImputer
from tests._models import LEFT_OUT_CHECKS

HOWS = ["mean", "mode", "sample"]
SMALL = ImputationEnsemble(6, n_members=2)  # as the default, in less time


class Sequences(BaseEstimator):
    """A stub of the suite's chains: X[i] is a sequence, every step normal about mean_."""

    def fit(self, X, y=None):
        self.mean_ = np.nanmean(np.concatenate(X), axis=0)
        return self

    def impute(self, X, how="mean", random_state=None):
        rng = np.random.default_rng(random_state)
        noise = [(how == "sample") * rng.normal(size=x.shape) for x in X]
        return [np.where(np.isnan(x), self.mean_ + e, x) for x, e in zip(X, noise)]


class Seeded(GaussianMixture):
    """A mixture that tells how often its impute was asked for draws."""

    asked = 0

    def impute(self, X, how="mean", n_draws=1, random_state=None):
        type(self).asked += how == "sample"
        return super().impute(X, how, n_draws, random_state)


def rows(n=200, missing=0.2, seed=0):
    """Correlated rows with holes; the first row is whole."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 1)) * [1.0, -2.0, 0.5] + 0.3 * rng.normal(size=(n, 3)) + 4
    X[1:][rng.random((n - 1, 3)) < missing] = np.nan
    return X


# --- scikit-learn -----------------------------------------------------------------------------

IMPUTERS = [
    LatentImputer(),
    *(LatentImputer(SMALL, how=how) for how in HOWS[1:]),
    LatentImputer(GaussianMixture(n_components=2), how="sample"),
    LatentImputer(EMFactorAnalysis(n_components=1)),
]


@pytest.mark.parametrize("imputer", IMPUTERS, ids=repr)
def test_every_check_passes(imputer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks' tiny data sets
        results = estimator_checks.check_estimator(imputer, on_skip=None, on_fail=None)
    assert len(results) > 50
    assert [(r["check_name"], r["exception"]) for r in results if r["status"] != "passed"] == []


@pytest.mark.parametrize("check", LEFT_OUT_CHECKS)
@pytest.mark.filterwarnings("ignore:X (does not have|has) ")  # the checks mix frames and arrays
@pytest.mark.parametrize("imputer", [LatentImputer(), LatentImputer(SMALL, how="sample")], ids=repr)
def test_checks_that_check_estimator_leaves_out(check, imputer):
    getattr(estimator_checks, check)("LatentImputer", imputer)


def test_takes_what_the_density_takes():
    assert get_tags(LatentImputer()).input_tags.allow_nan
    assert not get_tags(LatentImputer(Sequences())).input_tags.allow_nan


@pytest.mark.parametrize("how", HOWS)
def test_clone_and_pickle(how):
    X = rows()
    imputer = LatentImputer(SMALL, how=how, random_state=0).fit(X)
    filled = imputer.transform(X)
    np.testing.assert_array_equal(filled, pickle.loads(pickle.dumps(imputer)).transform(X))
    np.testing.assert_array_equal(filled, clone(imputer).fit_transform(X))


# --- what is filled, and what is not ----------------------------------------------------------


@pytest.mark.parametrize("how", HOWS)
def test_observed_entries_stay_to_the_bit(how):
    X = rows()
    X[5] = [-0.0, 5e-324, np.nan]
    before = X.copy()
    filled = LatentImputer(SMALL, how=how, random_state=0).fit(X).transform(X)
    seen = ~np.isnan(X)
    np.testing.assert_array_equal(X, before)
    np.testing.assert_array_equal(filled[seen].view(np.int64), X[seen].view(np.int64))
    assert np.isfinite(filled).all()
    assert not np.shares_memory(filled, X)


@pytest.mark.parametrize("how", ["mean", "mode"])
def test_fills_as_the_density_does(how):
    X = rows()
    density = GaussianMixture(n_components=2, random_state=0).fit(X)
    imputer = LatentImputer(GaussianMixture(n_components=2, random_state=0), how=how)
    np.testing.assert_array_equal(imputer.fit_transform(X), density.impute(X, how=how))


def test_draws_keep_the_spread_that_means_lose():
    X = rows(4000, 0.5)
    X[:, 0] = X[0, 0] + np.random.default_rng(1).normal(size=4000)  # says nothing of the others
    hole = np.isnan(X[:, 1:]).all(axis=1)
    truth = np.nanstd(X[:, 1])
    drawn = LatentImputer(GaussianMixture(), how="sample", random_state=0).fit(X).transform(X)[hole]
    mean = LatentImputer(GaussianMixture()).fit(X).transform(X)[hole]
    assert drawn[:, 1].std() == pytest.approx(truth, rel=0.08)
    assert drawn[:, 1].mean() == pytest.approx(
        np.nanmean(X[:, 1]), abs=4 * truth / np.sqrt(hole.sum())
    )
    assert np.corrcoef(drawn[:, 1], drawn[:, 2])[0, 1] < -0.8
    assert mean[:, 1].std() < 0.2 * truth


# --- draws belong to rows ---------------------------------------------------------------------


def test_a_draw_belongs_to_its_row():
    X = rows()
    imputer = LatentImputer(SMALL, how="sample", random_state=0).fit(X)
    filled = imputer.transform(X)
    order = np.random.default_rng(1).permutation(len(X))
    np.testing.assert_array_equal(filled, imputer.transform(X))
    np.testing.assert_allclose(filled[order], imputer.transform(X[order]), rtol=1e-12)
    np.testing.assert_allclose(filled, np.concatenate([imputer.transform(x[None]) for x in X]))
    np.testing.assert_array_equal(filled, imputer.transform(pd.DataFrame(X).to_numpy().tolist()))


def test_identical_rows_are_filled_alike_by_one_draw():
    X = rows()
    X[:20] = [1.0, np.nan, 0.0]
    X[10:20, 2] = -0.0
    X[15:20, 1] = np.uint64(0xFFF8000000000001).view(np.float64)  # another NaN
    imputer = LatentImputer(Seeded(), how="sample", random_state=0).fit(X)
    Seeded.asked = 0
    filled = imputer.transform(np.concatenate([X[:20], [[1.0, 2.0, 3.0]]]))
    assert Seeded.asked == 1
    assert np.unique(filled[:20, 1]).size == 1


def test_different_rows_get_different_noise():
    X = rows()
    imputer = LatentImputer(SMALL, how="sample", random_state=0).fit(X)
    twins = np.repeat([[4.0, np.nan, 4.0]], 200, axis=0) + 1e-9 * np.arange(200)[:, None]
    drawn, mean = imputer.transform(twins)[:, 1], imputer.estimator_.impute(twins)[:, 1]
    assert np.unique(drawn).size == 200
    independent = imputer.estimator_.impute(twins, how="sample", random_state=0)[:, 1]
    assert (drawn - mean).std() == pytest.approx((independent - mean).std(), rel=0.25)
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 0.25


def test_random_state_decides_the_draws():
    X = rows()
    first, again, other = (
        LatentImputer(SMALL, how="sample", random_state=seed).fit(X).transform(X)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other)[np.isnan(X)].all()


def test_unset_seeds_are_set_and_set_ones_kept():
    X = rows()
    density = GaussianMixture(n_components=2)
    assert isinstance(LatentImputer(density, random_state=0).fit(X).estimator_.random_state, int)
    assert density.random_state is None
    kept = LatentImputer(density.set_params(random_state=7), random_state=0).fit(X)
    assert kept.estimator_.random_state == 7


# --- containers, names, pipelines -------------------------------------------------------------


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_names_and_frames(kind, how):
    X, names = rows(), ["a", "b", "c"]
    frame = pd.DataFrame(X, columns=names) if kind == "pandas" else pl.DataFrame(X, schema=names)
    imputer = LatentImputer(SMALL, how=how, random_state=0).set_output(transform=kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filled = imputer.fit(frame).transform(frame)
    assert list(filled.columns) == list(imputer.get_feature_names_out()) == names
    assert list(imputer.feature_names_in_) == names and imputer.n_features_in_ == 3
    plain = LatentImputer(SMALL, how=how, random_state=0).fit(X)
    np.testing.assert_array_equal(filled.to_numpy(), plain.transform(X))
    assert not hasattr(plain, "feature_names_in_")
    assert list(plain.get_feature_names_out()) == ["x0", "x1", "x2"]
    if kind == "pandas":
        assert filled.index.equals(frame.index)
        with pytest.raises(ValueError, match="feature names"):
            imputer.transform(frame[["b", "a", "c"]])


@pytest.mark.parametrize("how", HOWS)
def test_grid_search_over_a_pipeline(how):
    X = rows()
    y = (np.nan_to_num(X[:, 0], nan=4.0) > 4).astype(int)
    pipeline = make_pipeline(
        StandardScaler(),
        LatentImputer(GaussianMixture(), how=how, random_state=0),
        LogisticRegression(),
    )
    grid = {"latentimputer__estimator__n_components": [1, 2]}
    search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(X, y)
    assert search.best_score_ > 0.8
    again = clone(search).fit(X, y)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], again.cv_results_["mean_test_score"]
    )


def test_grid_search_by_likelihood():
    rng = np.random.default_rng(0)
    X = np.concatenate([rows(150), rows(150, seed=1) + [0.0, 20.0, 0.0]])[rng.permutation(300)]
    grid = {"estimator__n_components": [1, 2]}
    imputer = LatentImputer(GaussianMixture(random_state=0))
    search = GridSearchCV(imputer, grid, cv=3, error_score="raise").fit(X)
    assert search.best_params_ == {"estimator__n_components": 2}
    density = search.best_estimator_.estimator_
    assert search.score(X) == density.score(X)
    weight = np.arange(300) % 2
    weighted = search.best_estimator_.score(X, sample_weight=weight)
    assert weighted == pytest.approx(density.score(X[weight > 0]))
    assert len(cross_val_score(imputer, X)) == 5


def test_no_score_without_the_density_s():
    assert hasattr(LatentImputer(), "score")
    assert not hasattr(LatentImputer(Sequences()), "score")


@pytest.mark.parametrize("how", HOWS)
def test_sequences_pass_through(how):
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(length, 2)) for length in (3, 5, 4, 4)]
    X[1][2:, 0] = np.nan
    X[3] = X[1].copy()
    filled = LatentImputer(Sequences(), how=how, random_state=0).fit(X).transform(X)
    assert [x.shape for x in filled] == [x.shape for x in X]
    np.testing.assert_array_equal(filled[0], X[0])
    np.testing.assert_array_equal(filled[1], filled[3])
    np.testing.assert_array_equal(filled[1][:2], X[1][:2])
    assert np.isfinite(filled[1]).all()


# --- weights ----------------------------------------------------------------------------------


@pytest.mark.parametrize("density", [None, GaussianMixture(2), EMFactorAnalysis(1)], ids=repr)
@pytest.mark.parametrize("how", HOWS)
def test_weights_are_repeats(density, how):
    X, weight = rows(), np.arange(200) % 4
    X[weight == 0] += 100
    imputer = LatentImputer(density, how=how, random_state=0)
    weighted = clone(imputer).fit(X, sample_weight=weight)
    repeated = clone(imputer).fit(np.repeat(X, weight, axis=0))
    np.testing.assert_allclose(weighted.transform(X), repeated.transform(X), rtol=1e-6)


def test_sample_weight_can_be_routed():
    X, weight = rows(), np.arange(200) % 3
    with sklearn.config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        imputer = LatentImputer(random_state=0).set_fit_request(sample_weight=True)
        routed = make_pipeline(scaler, imputer).fit(X, sample_weight=weight)
    Z = StandardScaler().fit_transform(X)
    plain = LatentImputer(random_state=0).fit(Z, sample_weight=weight)
    np.testing.assert_allclose(routed.transform(X), plain.transform(Z))


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", [PeerMixture(), StandardScaler(), "mean"], ids=repr)
def test_a_density_that_imputes(estimator):
    with pytest.raises(TypeError, match="'fit' and 'impute'"):
        LatentImputer(estimator).fit(rows())


def test_weights_for_a_density_without():
    X = [x[None] for x in rows(10, 0.0)]
    with pytest.raises(TypeError, match="Sequences.fit takes no sample_weight"):
        LatentImputer(Sequences()).fit(X, sample_weight=np.ones(10))


def test_how_is_one_of_three():
    with pytest.raises(ValueError, match="'how' parameter.*mean.*Got 'median'"):
        LatentImputer(how="median").fit(rows())
