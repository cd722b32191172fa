"""A transformer of rows, lifted to sequences: same numbers as on the stacked steps."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)
from sklearn.utils import estimator_checks, get_tags

from sklvm import PerStep
from tests._models import LEFT_OUT_CHECKS
from tests._sequences import CONTAINERS, LENGTHS, WhiteNoise, padded, ragged


class Shortened(TransformerMixin, BaseEstimator):
    """No transformer of rows: it drops every second one."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X[::2]


def names_of(frames):
    return [list(frame.columns) for frame in frames]


# --- scikit-learn's checks --------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "lifted",
    [PerStep(StandardScaler()), PerStep(StandardScaler(with_mean=False))],
    ids=repr,
)
def test_every_check_passes(lifted):
    results = estimator_checks.check_estimator(lifted, on_skip=None, on_fail=None)
    assert len(results) >= 50
    not_passed = [r for r in results if r["status"] != "passed"]
    assert [(r["check_name"], r["status"], str(r["exception"])) for r in not_passed] == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("check", LEFT_OUT_CHECKS)
def test_the_checks_that_check_estimator_leaves_out(check):
    getattr(estimator_checks, check)("PerStep", PerStep(StandardScaler()))


def test_tags_are_those_of_the_transformer():
    scaler, pca = get_tags(PerStep(StandardScaler())), get_tags(PerStep(PCA()))
    assert scaler.input_tags.allow_nan and not pca.input_tags.allow_nan
    assert scaler.input_tags.three_d_array and not scaler.input_tags.sparse
    assert scaler.transformer_tags.preserves_dtype == ["float64", "float32"]
    assert get_tags(PerStep(OrdinalEncoder())).input_tags.categorical
    assert not scaler.no_validation and not scaler.non_deterministic


# --- the same numbers as on stacked steps -----------------------------------------------------


@pytest.mark.parametrize("name", CONTAINERS)
def test_it_is_the_transformer_on_all_steps(name):
    X = ragged(LENGTHS, missing=0.3)
    expected = StandardScaler().fit_transform(np.concatenate(X))
    container = CONTAINERS[name](X)
    lifted = PerStep(StandardScaler()).fit(container)
    found = lifted.transform(container)
    assert_allclose(lifted.transformer_.mean_, np.nanmean(np.concatenate(X), axis=0), rtol=1e-12)
    if "padded" in name:
        T = container.shape[1]
        assert_allclose(found, padded(np.split(expected, np.cumsum(LENGTHS)[:-1]), T), rtol=1e-12)
        return
    assert type(found) is type(container)
    assert [len(part) for part in found] == list(LENGTHS)
    assert_allclose(np.concatenate(list(found)), expected, rtol=1e-12)


def test_rows_stay_rows():
    X = np.random.default_rng(0).normal(size=(5, 6))
    steps = StandardScaler().fit_transform(X.reshape(-1, 2))
    assert_allclose(PerStep(StandardScaler(), n_channels=2).fit_transform(X), steps.reshape(5, 6))
    fewer = PerStep(PCA(1), n_channels=2).fit(X)
    assert fewer.transform(X).shape == (5, 3)
    assert fewer.n_features_in_ == 6 and fewer.n_channels_ == 2
    assert list(fewer.get_feature_names_out()) == ["step0_pca0", "step1_pca0", "step2_pca0"]


def test_fit_on_one_container_transform_another():
    X = ragged((3, 3))
    lifted = PerStep(StandardScaler(), n_channels=2).fit(X)
    listed = lifted.transform(X)
    assert_allclose(lifted.transform(np.stack(X)), np.stack(listed))
    assert_allclose(lifted.transform(np.stack(X).reshape(2, 6)), np.stack(listed).reshape(2, 6))
    with pytest.raises(ValueError, match="3 channels, but PerStep was fitted to 2"):
        lifted.transform(ragged((3,), d=3))


def test_the_number_of_channels_may_change():
    X = ragged(LENGTHS, d=3)
    for transformer, width in ((PCA(2), 2), (OneHotEncoder(handle_unknown="ignore"), 48)):
        found = PerStep(transformer).fit_transform(X)
        assert [part.shape for part in found] == [(T, width) for T in LENGTHS]
        assert all(type(part) is np.ndarray for part in found)
        whole = PerStep(transformer).fit_transform(padded(X, 7))
        assert whole.shape == (4, 7, width)
        assert np.isnan(whole[2, 1:]).all() and not np.isnan(whole[2, 0]).any()


def test_padding_is_not_fitted_and_unobserved_steps_do_not_count():
    X = ragged((2, 4))
    X[0][1] = np.nan
    listed, in_array = PerStep(StandardScaler()).fit(X), PerStep(StandardScaler()).fit(padded(X, 9))
    assert_allclose(in_array.transformer_.mean_, listed.transformer_.mean_, rtol=1e-12)
    assert_array_equal(listed.transformer_.n_samples_seen_, [5, 5])
    assert np.isnan(listed.transform(X)[0][1]).all()


def test_sequences_without_steps_stay_so():
    X = ragged((3, 0, 2), d=3)
    lifted = PerStep(PCA(2)).fit(X)
    assert [part.shape for part in lifted.transform(X)] == [(3, 2), (0, 2), (2, 2)]
    assert [part.shape for part in lifted.transform(X[1:2])] == [(0, 2)]
    alone = lifted.transform(padded(X)[1:2])
    assert alone.shape == (1, 3, 2) and np.isnan(alone).all()


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool])
def test_padding_of_whole_numbers_is_padding_for_the_next_step(dtype):
    X = padded(ragged((2, 4)))
    coded = PerStep(FunctionTransformer(lambda x: (x > 3).astype(dtype))).fit_transform(X)
    assert_array_equal(np.isnan(coded), np.isnan(X))
    assert_array_equal(coded[~np.isnan(X)], X[~np.isnan(X)] > 3)


def test_categories_are_encoded_step_by_step():
    X = [np.array([["a"], ["b"]], object), np.array([["c"]], object), np.empty((0, 1), object)]
    found = PerStep(OrdinalEncoder()).fit_transform(X)
    assert [part.ravel().tolist() for part in found] == [[0, 1], [2], []]
    again = PerStep(OrdinalEncoder()).fit(X).inverse_transform(found)
    assert [part.ravel().tolist() for part in again] == [["a", "b"], ["c"], []]


# --- and back ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["list", "tuple", "object array", "padded", "rows"])
@pytest.mark.parametrize(
    "transformer",
    [StandardScaler(), FunctionTransformer(np.exp, np.log), PCA()],
    ids=repr,
)
def test_inverse_transform_undoes_it(name, transformer):
    X = ragged((4, 4, 4) if name == "rows" else LENGTHS)
    container = np.stack(X).reshape(3, 8) if name == "rows" else CONTAINERS[name](X)
    lifted = PerStep(transformer, n_channels=2).fit(container)
    back = lifted.inverse_transform(lifted.transform(container))
    assert type(back) is type(container)
    for part, x in zip(back, container, strict=True):
        assert_allclose(part, x, rtol=1e-9)
    with pytest.raises(ValueError, match="inverse_transform needs sequences of 2 channels, got 3"):
        lifted.inverse_transform(ragged((3,), d=3))


def test_inverse_transform_of_fewer_channels():
    X = np.random.default_rng(0).normal(size=(6, 1, 2)) * np.ones((6, 4, 1))
    flat = X.reshape(6, 8)
    lifted = PerStep(PCA(1), n_channels=2).fit(flat)
    expected = lifted.transformer_.inverse_transform(lifted.transform(flat).reshape(-1, 1))
    assert_allclose(lifted.inverse_transform(lifted.transform(flat)), expected.reshape(6, 8))


def test_no_inverse_without_the_transformer_s():
    assert hasattr(PerStep(StandardScaler()), "inverse_transform")
    assert not hasattr(PerStep(Shortened()), "inverse_transform")


# --- names and frames -------------------------------------------------------------------------


def test_lists_of_frames_reach_the_transformer_as_a_frame():
    frames = CONTAINERS["frames"](ragged(LENGTHS))
    columns = make_column_transformer((StandardScaler(), ["b"]), ("passthrough", ["a"]))
    lifted = PerStep(columns).fit(frames)
    assert list(lifted.feature_names_in_) == ["a", "b"]
    assert list(lifted.get_feature_names_out()) == ["standardscaler__b", "passthrough__a"]
    stacked = pd.concat(frames)
    expected = clone(columns).fit_transform(stacked)
    assert_allclose(np.concatenate(lifted.transform(frames)), expected)
    with pytest.raises(ValueError, match="must be in the same order"):
        lifted.transform([frame[["b", "a"]] for frame in frames])


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_set_output_makes_frames(kind):
    frame_type = pd.DataFrame if kind == "pandas" else pl.DataFrame
    X = ragged(LENGTHS)
    lifted = PerStep(StandardScaler()).set_output(transform=kind).fit(X)
    found = lifted.transform(X)
    assert all(type(part) is frame_type for part in found)
    assert names_of(found) == [["x0", "x1"]] * 4
    assert [len(part) for part in found] == list(LENGTHS)
    assert type(lifted.transform(padded(X))) is np.ndarray
    arrays = lifted.set_output(transform="default").transform(X)
    for part, array in zip(found, arrays):
        assert type(array) is np.ndarray
        assert_array_equal(part.to_numpy(), array)


def test_frames_keep_their_index():
    frames = CONTAINERS["frames"](ragged(LENGTHS))
    for frame in frames:
        frame.index = 0.5 * np.arange(len(frame))  # times of measurement
    found = PerStep(StandardScaler()).set_output(transform="pandas").fit_transform(frames)
    for part, frame in zip(found, frames, strict=True):
        assert part.index.equals(frame.index)


def test_a_table_becomes_a_frame_with_its_index():
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(3, 4)), index=[7, 8, 9])
    X.columns = list("abcd")
    lifted = PerStep(StandardScaler(), n_channels=2).set_output(transform="pandas").fit(X)
    found = lifted.transform(X)
    assert list(found.columns) == ["step0_x0", "step0_x1", "step1_x0", "step1_x1"]
    assert list(found.columns) == list(lifted.get_feature_names_out())
    assert list(found.index) == [7, 8, 9]


def test_global_output_and_a_pipeline_s():
    X = ragged(LENGTHS)
    with sklearn.config_context(transform_output="pandas"):
        found = PerStep(StandardScaler()).fit_transform(X)
    assert names_of(found) == [["x0", "x1"]] * 4
    pipe = make_pipeline(PerStep(StandardScaler()), WhiteNoise()).set_output(transform="pandas")
    Z = pipe.fit(X).transform(X)
    assert list(Z.columns) == ["whitenoise0", "whitenoise1"]
    assert list(pipe[-1].feature_names_in_) == ["x0", "x1"]
    plain = make_pipeline(PerStep(StandardScaler()), WhiteNoise()).fit(X)
    assert_allclose(pipe.score_samples(X), plain.score_samples(X), rtol=1e-12)


# --- weights, parameters, refusals ------------------------------------------------------------


def test_weights_of_sequences_are_weights_of_their_steps():
    X, weight = ragged(LENGTHS), np.array([2, 0, 3, 1])
    weighted = PerStep(StandardScaler()).fit(X, sample_weight=weight)
    repeated = PerStep(StandardScaler()).fit([X[i] for i in np.repeat(np.arange(4), weight)])
    for found, expected in zip(weighted.transform(X), repeated.transform(X)):
        assert_allclose(found, expected, rtol=1e-12)
    with pytest.raises(TypeError, match="MinMaxScaler.fit takes no sample_weight"):
        PerStep(MinMaxScaler()).fit(X, sample_weight=weight)
    with pytest.raises(ValueError, match="Negative values in data"):
        PerStep(StandardScaler()).fit(X, sample_weight=-weight)
    with pytest.raises(ValueError, match="shape"):
        PerStep(StandardScaler()).fit(X, sample_weight=np.ones(16))


def test_parameters_clone_and_pickle():
    X = ragged(LENGTHS)
    lifted = PerStep(StandardScaler()).set_params(transformer__with_std=False).fit(X)
    assert lifted.get_params()["transformer__with_std"] is False
    assert not hasattr(lifted.transformer, "mean_")
    found = pickle.loads(pickle.dumps(lifted)).transform(X)
    for part, x in zip(found, clone(lifted).fit_transform(X, np.arange(4))):
        assert_array_equal(part, x)
    assert not hasattr(clone(lifted), "transformer_")


def test_unfitted_use_and_wrong_parameters():
    X = ragged(LENGTHS)
    for verb in ("transform", "inverse_transform"):
        with pytest.raises(NotFittedError):
            getattr(PerStep(StandardScaler()), verb)(X)
    with pytest.raises(ValueError, match="'n_channels' parameter"):
        PerStep(StandardScaler(), n_channels=0).fit(X)
    with pytest.raises(ValueError, match="'transformer' parameter.*'fit' and 'transform'"):
        PerStep(LinearRegression()).fit(X)


def test_a_transformer_that_drops_rows_is_refused():
    with pytest.raises(ValueError, match="Shortened made 8 rows of 16 steps"):
        PerStep(Shortened()).fit(ragged(LENGTHS)).transform(ragged(LENGTHS))


def test_what_the_transformer_refuses_is_refused():
    X = ragged(LENGTHS)
    X[1][0] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        PerStep(StandardScaler()).fit(X)
    X[1][0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        PerStep(PCA()).fit(X)
