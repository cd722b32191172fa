"""Sequences: every container says the same, and gets its results back in its own form."""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

from sklvm import DensityOutlierDetector, LatentImputer, PerStep
from sklvm.sequences import read_sequences, read_training_sequences
from tests._models import LEFT_OUT_CHECKS
from tests._sequences import CONTAINERS, LENGTHS, WhiteNoise, object_array, padded, ragged


class Reader(BaseEstimator):
    """An estimator that only remembers what it read."""

    def __init__(self, n_channels=1):
        self.n_channels = n_channels


def read(X, lengths=None, n_channels=1):
    return read_sequences(Reader(n_channels), X, reset=True, lengths=lengths)


sweep = pytest.mark.parametrize("name", CONTAINERS)


# --- reading ----------------------------------------------------------------------------------


@sweep
def test_every_container_is_read_to_the_same_steps(name):
    X = ragged(LENGTHS, missing=0.3)
    found = read(CONTAINERS[name](X))
    assert_array_equal(found.steps, np.concatenate(X))
    assert_array_equal(found.starts, [0, 4, 10, 11, 16])
    assert_array_equal(found.lengths, LENGTHS)
    assert found.steps.dtype == np.float64 and found.steps.flags.c_contiguous
    assert len(found) == 4 and found.n_channels == 2
    for part, x in zip(found, X, strict=True):
        assert_array_equal(part, x)


@pytest.mark.parametrize("frame", [np.asarray, pd.DataFrame, pl.DataFrame, np.ndarray.tolist])
def test_stacked_rows_are_read_by_their_lengths(frame):
    X = ragged(LENGTHS)
    found = read(frame(np.concatenate(X)), lengths=list(LENGTHS))
    assert_array_equal(found.steps, np.concatenate(X))
    assert_array_equal(found.lengths, LENGTHS)


@pytest.mark.parametrize("frame", [np.asarray, pd.DataFrame, pl.DataFrame, np.ndarray.tolist])
def test_rows_of_a_table_are_steps_and_in_them_channels(frame):
    rows = np.arange(12.0).reshape(2, 6)
    one, three = read(frame(rows)), read(frame(rows), n_channels=3)
    assert_array_equal(one.steps, np.arange(12.0)[:, None])
    assert_array_equal(one.starts, [0, 6, 12])
    assert_array_equal(three.steps, np.arange(12.0).reshape(4, 3))
    assert_array_equal(three.starts, [0, 2, 4])


def test_one_dimensional_sequences_are_rows():
    X = [np.arange(4.0), np.arange(2.0)]
    assert_array_equal(read(X).steps, [[0], [1], [2], [3], [0], [1]])
    assert_array_equal(read(X, n_channels=2).steps, [[0, 1], [2, 3], [0, 1]])
    assert_array_equal(read([x.tolist() for x in X]).starts, [0, 4, 6])
    assert_array_equal(read(pd.Series(X)).starts, [0, 4, 6])


@pytest.mark.parametrize("dtype", [np.float32, np.int16, bool, object])
def test_numbers_of_any_kind_become_float64(dtype):
    X = [np.array([[1, 0], [0, 1]], dtype), np.array([[1, 1]], dtype)]
    for container in (X, np.stack([X[0], X[0]]), X[0]):
        found = read(container)
        assert found.steps.dtype == np.float64
        assert_array_equal(found.steps[:2].ravel()[:2], [1, 0])


def test_missing_marks_of_frames_become_nan():
    frame = pd.DataFrame({"a": pd.array([1, None], "Int64"), "b": [1.0, 2.0]})
    assert_array_equal(read([frame]).steps, [[1, 1], [np.nan, 2]])


def test_padding_is_no_data_but_unobserved_steps_are():
    X = [np.array([[1.0], [np.nan], [2.0], [np.nan]]), np.full((2, 1), np.nan)]
    assert_array_equal(read(X).lengths, [4, 2])  # a list: the steps at the end are real
    assert_array_equal(read(padded(X)).lengths, [3, 0])  # 3-D: they are padding
    assert_array_equal(read(padded(X)[:, :, 0]).lengths, [4, 4])  # 2-D: missing steps
    assert_array_equal(read(X).observed, [True, False, True, False, False, False])
    half = np.array([[[1.0, 1.0], [np.nan, 2.0], [np.nan, np.nan]]])
    assert_array_equal(read(half).lengths, [2])


def test_reading_changes_nothing():
    for name, container in CONTAINERS.items():
        X = container(ragged(LENGTHS))
        before = pickle.dumps(X)
        read(X)
        assert pickle.dumps(X) == before, name


# --- results go back --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["list", "tuple", "object array", "frames", "nested lists"])
def test_results_of_ragged_sequences_are_ragged(name):
    X = CONTAINERS[name](ragged(LENGTHS))
    found = read(X)
    paths, probs = found.restore(np.arange(16)), found.restore(np.ones((16, 3)))
    assert type(paths) is type(X) and len(paths) == 4
    if name == "object array":
        assert paths.dtype == object and paths.shape == (4,)
    assert [part.shape for part in paths] == [(4,), (6,), (1,), (5,)]
    assert [part.shape for part in probs] == [(4, 3), (6, 3), (1, 3), (5, 3)]
    assert_array_equal(np.concatenate(list(paths)), np.arange(16))


def test_an_object_array_of_equal_lengths_stays_one():
    found = read(object_array(ragged((3, 3))))
    assert found.restore(np.arange(6)).shape == (2,)


def test_results_of_padded_sequences_are_padded():
    found = read(padded(ragged((2, 0, 3)), 4))
    paths, probs = found.restore(np.arange(5)), found.restore(np.ones((5, 3)))
    assert_array_equal(paths, [[0, 1, -1, -1], [-1] * 4, [2, 3, 4, -1]])
    assert paths.dtype.kind == "i"
    assert found.restore(np.arange(5, dtype=np.uint8)).tolist() == paths.tolist()
    assert np.isnan(found.restore(np.ones(5, bool))).tolist() == (paths == -1).tolist()
    assert probs.shape == (3, 4, 3)
    assert_array_equal(np.isnan(probs).all(axis=2), paths == -1)
    assert np.isnan(probs).sum() == 3 * 7


def test_results_of_rows_and_of_stacked_steps():
    found = read(np.zeros((2, 6)), n_channels=2)
    assert_array_equal(found.restore(np.arange(6)), [[0, 1, 2], [3, 4, 5]])
    assert found.restore(np.zeros((6, 5))).shape == (2, 3, 5)
    assert found.restore_data(np.zeros((6, 5))).shape == (2, 15)
    stacked = read(np.zeros((5, 2)), lengths=[2, 3])
    assert_array_equal(stacked.restore(np.arange(5)), np.arange(5))


def everything():
    """Every container, as (X, lengths, n_channels)."""
    X = ragged(LENGTHS, missing=0.2)
    names = ("list", "tuple", "object array", "padded", "over-padded", "Fortran order")
    return [
        *(pytest.param(CONTAINERS[name](X), None, 1, id=name) for name in names),
        pytest.param(np.stack(ragged((3, 3))), None, 1, id="3-D"),
        pytest.param(np.concatenate(X), LENGTHS, 1, id="stacked"),
        pytest.param(np.arange(12.0).reshape(2, 6), None, 1, id="rows"),
        pytest.param(np.arange(12.0).reshape(2, 6), None, 3, id="rows of 3 channels"),
        pytest.param([np.arange(4.0), np.arange(2.0)], None, 2, id="ragged rows"),
    ]


@pytest.mark.parametrize(("X", "lengths", "n_channels"), everything())
def test_restored_data_are_the_input(X, lengths, n_channels):
    found = read(X, lengths, n_channels)
    again = found.restore_data(found.steps)
    assert type(again) is type(X)
    for part, x in zip(again, X, strict=True):
        assert_array_equal(part, x)


@pytest.mark.parametrize(("X", "lengths", "n_channels"), everything())
def test_gather_undoes_restore(X, lengths, n_channels):
    found = read(X, lengths, n_channels)
    values = np.arange(found.starts[-1])
    assert_array_equal(found.gather(found.restore(values), "labels"), values)
    probs = np.random.default_rng(0).normal(size=(len(values), 3))
    assert_array_equal(found.gather(found.restore(probs), "labels"), probs)
    for wrong in (found.restore(values)[:-1], values[:-1], [values, values[:-1]], 3):
        with pytest.raises(ValueError, match="labels need one entry per step.*container"):
            found.gather(wrong, "labels")


# --- parts, sums, lengths ---------------------------------------------------------------------


def test_sequences_without_steps():
    X = ragged((0, 3, 0, 0, 2, 0))
    found, same = read(X), read(padded(X))
    assert_array_equal(same.starts, found.starts)
    assert_allclose(found.sums(np.ones(5)), [0, 3, 0, 0, 2, 0])
    assert_allclose(found.sums(found.steps)[[1, 4]], [X[1].sum(axis=0), X[4].sum(axis=0)])
    assert_array_equal(found.sums(found.steps)[[0, 2, 3, 5]], np.zeros((4, 2)))
    nothing = read(ragged((0, 0)))
    assert_array_equal(nothing.sums(np.ones((0, 3))), np.zeros((2, 3)))
    assert [part.shape for part in nothing.restore(np.ones(0))] == [(0,), (0,)]


@pytest.mark.parametrize("index", [[3, 0, 0], [], np.array([True, False, False, True]), slice(1)])
def test_take_and_channels(index):
    X = ragged(LENGTHS, d=3)
    wanted = [X[i] for i in np.arange(4)[index]]
    for container in (X, padded(X)):
        some = read(container).take(index)
        assert [part.tolist() for part in some] == [x.tolist() for x in wanted]
        part = some.channels([2, 0])
        assert part.steps.flags.c_contiguous
        assert_array_equal(part.steps, some.steps[:, [2, 0]])
    assert_array_equal(read(padded(X)).take(index).restore(some.steps), padded(X)[index])


def test_spread_and_median_length():
    found = read(ragged(LENGTHS))
    assert_array_equal(found.spread(np.arange(4)), np.repeat(np.arange(4), LENGTHS))
    assert found.spread(np.ones((4, 2))).shape == (16, 2)
    assert found.median_length(np.ones(4)) == 4
    assert found.median_length(np.array([0.9, 1, 1, 0])) == 4
    assert found.median_length(np.array([1.0, 3.1, 1, 1])) == 6
    weight = np.array([1, 3, 0, 2])
    repeated = read(ragged(LENGTHS)).take(np.repeat(np.arange(4), weight))
    assert found.median_length(weight) == repeated.median_length(np.ones(6)) == 5
    assert type(found.median_length(weight)) is int


# --- what the estimator remembers -------------------------------------------------------------


def known(reader):
    names = getattr(reader, "feature_names_in_", None)
    return reader.n_features_in_, reader.n_channels_, None if names is None else list(names)


def test_what_is_remembered_of_the_input():
    X, reader = ragged((3, 2)), Reader()
    for container in (X, padded(X)):
        read_sequences(reader, container, reset=True)
        assert known(reader) == (2, 2, None)
    read_sequences(reader, np.concatenate(X), reset=True, lengths=[3, 2])
    assert known(reader) == (2, 2, None)
    read_sequences(reader, CONTAINERS["frames"](X), reset=True)
    assert known(reader) == (2, 2, ["a", "b"])
    read_sequences(reader, X, reset=True)
    assert known(reader) == (2, 2, None)
    read_sequences(reader, pd.DataFrame(np.zeros((3, 4)), columns=list("abcd")), reset=True)
    assert known(reader) == (4, 1, list("abcd"))
    reader.n_channels = 2
    read_sequences(reader, np.zeros((3, 4)), reset=True)
    assert known(reader) == (4, 2, None)


def test_any_container_of_the_same_channels_fits():
    X = ragged((3, 3))
    rows = np.stack(X).reshape(2, -1)
    wide = np.concatenate([rows, rows], axis=1)
    for first in (X, padded(X), rows):
        reader = Reader(n_channels=2)
        read_sequences(reader, first, reset=True)
        before = dict(vars(reader))
        for other in (X, padded(X, 5), rows):
            assert_array_equal(read_sequences(reader, other, reset=False).steps, np.concatenate(X))
        assert vars(reader) == before
        if first is rows:  # scikit-learn's rule for tables
            with pytest.raises(ValueError, match="X has 12 features.*expecting 6"):
                read_sequences(reader, wide, reset=False)
        else:
            assert len(read_sequences(reader, wide, reset=False).steps) == 12


def test_other_channels_are_refused():
    reader = Reader()
    read_sequences(reader, ragged((3, 2)), reset=True)
    with pytest.raises(ValueError, match="X has sequences of 3 channels, but Reader.*to 2$"):
        read_sequences(reader, ragged((3, 2), d=3), reset=False)
    with pytest.raises(ValueError, match=r"1 channels.*fitted to 2 \(2-D X.*passed as \[X\]\)"):
        read_sequences(reader, ragged((3,))[0], reset=False)


def test_names_are_checked():
    reader, frames = Reader(), CONTAINERS["frames"](ragged((3, 2)))
    read_sequences(reader, frames, reset=True)
    with pytest.raises(ValueError, match="must be in the same order"):
        read_sequences(reader, [frame[["b", "a"]] for frame in frames], reset=False)
    with pytest.raises(ValueError, match=r"differ in their columns: \['a', 'b'\] and \['b', 'a'\]"):
        read_sequences(reader, [frames[0], frames[1][["b", "a"]]], reset=True)
    with pytest.raises(ValueError, match="differ in their columns.*None"):
        read_sequences(reader, [frames[0], frames[1].to_numpy()], reset=True)
    with pytest.warns(UserWarning, match="valid feature names"):
        read_sequences(reader, ragged((3, 2)), reset=False)


# --- refusals ---------------------------------------------------------------------------------

X2 = np.ones((3, 2))
REFUSED = {
    "a number": (3.0, ValueError, r"shape \(\).*Reshape your data"),
    "one series, 1-D": (
        np.arange(5.0),
        ValueError,
        r"shape \(5,\).*Reshape your data.*reshape\(-1",
    ),
    "one series, a list": ([1.0, 2.0], ValueError, "items of 0 dimensions.*Reshape your data"),
    "4-D": (np.zeros((2, 2, 2, 2)), ValueError, r"shape \(2, 2, 2, 2\).*no collection"),
    "3-D items": ([np.zeros((2, 2, 2))], ValueError, "items of 3 dimensions.*no collection"),
    "nothing": ([], ValueError, "X is empty"),
    "no rows": (np.empty((0, 3)), ValueError, "0 sample"),
    "no columns": (np.empty((3, 0)), ValueError, "0 feature"),
    "no channels": ([np.empty((3, 0))], ValueError, "0 feature"),
    "ragged channels": ([X2, np.ones((3, 4))], ValueError, r"number of channels.*\[2, 4\]"),
    "1-D and 2-D": ([X2, np.ones(2)], ValueError, "some sequences of X are 1-D, others 2-D"),
    "ragged steps": ([[[1.0, 2.0], [3.0]]], ValueError, "no .n_steps, n_channels. array"),
    "infinity": ([X2, X2 * np.inf], ValueError, "X contains infinity"),
    "infinity, 3-D": (np.stack([X2, X2 * np.inf]), ValueError, "X contains infinity"),
    "infinity, 2-D": (X2 * np.inf, ValueError, "X contains infinity"),
    "complex": ([X2, X2 * 1j], ValueError, "Complex data not supported"),
    "complex, 3-D": (np.stack([X2, X2 * 1j]), ValueError, "Complex data not supported"),
    "strings": ([X2, X2.astype(str)], ValueError, "X has strings.*OrdinalEncoder"),
    "strings, 3-D": (X2.astype(str)[None], ValueError, "X has strings.*OrdinalEncoder"),
    "strings, object": ([np.array([["a", 1]], object)], ValueError, "X has strings"),
    "dates": ([X2.astype("datetime64[s]")], TypeError, "dates or durations"),
    "sparse": (sparse.csr_array(X2), TypeError, "[Ss]parse"),
    "sparse items": ([sparse.csr_array(X2)], TypeError, "sparse matrix; make it dense"),
    "masked": ([np.ma.masked_equal(X2, 1)], ValueError, r"masked entries; write NaN.*filled"),
    "masked, 3-D": (np.ma.masked_equal(X2[None], 1), ValueError, "masked entries; write NaN"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_one_clear_error(name):
    X, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        read(X)


@pytest.mark.parametrize(
    ("X", "lengths", "message"),
    [
        (X2, [1, 1], "lengths sum to 2, but X has 3 rows"),
        (X2, [4, -1], "lengths must be a list of numbers of rows"),
        (X2, [1.5, 1.5], "lengths must be a list of numbers of rows"),
        (X2, 3, "lengths must be a list of numbers of rows"),
        (X2[None], [3], r"with lengths X must be one array of stacked rows.*\(1, 3, 2\)"),
        (X2[:, 0], [3], r"stacked rows.*\(3,\)"),
    ],
)
def test_wrong_lengths(X, lengths, message):
    with pytest.raises(ValueError, match=message):
        read(X, lengths)


def test_rows_that_hold_no_whole_steps():
    for X in (np.ones((2, 7)), [np.ones(4), np.ones(7)]):
        with pytest.raises(ValueError, match="7 numbers, which is no multiple of n_channels=2"):
            read(X, n_channels=2)


# --- one long series, passed the hmmlearn way -------------------------------------------------


@pytest.mark.parametrize("shape", [(101, 2), (51, 1), (1000, 3)])
def test_one_long_series_is_told_apart(shape):
    X = np.random.default_rng(0).normal(size=shape)
    n, T = shape
    advice = rf"{n} sequences of {T} steps.*fit\(\[X\]\).*lengths=.*reshape\(X, \({n}, {T}, 1\)\)"
    for frame in (np.asarray, pd.DataFrame, np.ndarray.tolist):
        with pytest.warns(UserWarning, match=advice):
            found = read(frame(X))
        assert len(found) == n
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read([X])
        read(X, lengths=[50, n - 50])
        as_said = read(np.reshape(X, (n, T, 1)))
    assert_array_equal(as_said.steps, found.steps)
    assert_array_equal(as_said.starts, found.starts)


def test_one_long_series_whose_channels_are_counted_is_told_apart():
    X = np.zeros((51, 3))
    with pytest.warns(UserWarning, match=r"51 sequences of 1 steps.*reshape\(X, \(51, 1, 3\)\)"):
        read(X, n_channels=3)


@pytest.mark.parametrize("shape", [(100, 2), (50, 1), (80, 2), (150, 4), (5, 100)])
def test_many_short_sequences_are_left_in_peace(shape):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(np.zeros(shape))
        read(np.zeros((1000, 6)), n_channels=3)
        read(np.zeros((50, 2)), n_channels=2)


# --- training data ----------------------------------------------------------------------------


def train(X, weight=None, **how):
    return read_training_sequences(Reader(), X, weight, **{"n_states": 2, **how})


def test_sequences_that_say_nothing_are_left_out_whole():
    X = ragged((3, 2, 4, 0))
    X[1][:] = np.nan
    X[0][1:] = np.nan  # unobserved steps of a sequence that says something stay
    labels = [np.array([0, 1, -1]), np.array([1, 1]), np.array([0, 0, 1, 1]), np.array([])]
    data = train(X, [1, 1, 2, 1], labels=labels)
    assert_array_equal(data.sequences.steps, np.concatenate([X[0], X[2]]))
    assert_array_equal(data.sequences.starts, [0, 3, 7])
    assert_array_equal(data.weight, [1, 2])
    assert_array_equal(data.labels, [0, 1, -1, 0, 0, 1, 1])
    without = train(X, [0, 1, 1, 1])
    assert_array_equal(without.sequences.steps, X[2])
    assert train(X).labels is None


@pytest.mark.parametrize(("X", "lengths", "n_channels"), everything())
def test_labels_come_in_the_container_of_the_sequences(X, lengths, n_channels):
    reader = Reader(n_channels)
    found = read_sequences(reader, X, reset=True, lengths=lengths)
    states = np.arange(found.starts[-1]) % 3 - 1
    labels = found.restore(states)
    data = read_training_sequences(reader, X, n_states=2, lengths=lengths, labels=labels)
    assert_array_equal(data.labels, states)
    with pytest.raises(ValueError, match=r"integers from -1 \(unknown\) to 0"):
        read_training_sequences(reader, X, n_states=1, lengths=lengths, labels=labels)


def test_labels_that_do_not_fit():
    X = ragged((3, 2))
    for labels in ([np.zeros(3, int)], [np.zeros(2, int), np.zeros(3, int)], np.zeros(5, int), 3):
        with pytest.raises(ValueError, match="labels need one entry per step.*2 sequences, 5"):
            train(X, labels=labels)
    with pytest.raises(ValueError, match="labels must be integers"):
        train(X, labels=[np.zeros(3), np.zeros(2)])
    with pytest.raises(ValueError, match=r"labels are one integer per step, got .*\(2,\)"):
        train(X, labels=[np.zeros((3, 2), int), np.zeros((2, 2), int)])


def test_constant_channels_are_set_aside():
    X = ragged((3, 4), d=3, missing=0.2)
    for x in X:
        x[:, 1] = 7.0
    X.append(np.full((2, 3), 8.0))  # without weight it does not count
    with pytest.warns(UserWarning, match=r"columns \[1\] are constant"):
        data = train(X, [1, 1, 0])
    assert_array_equal(data.constant, [False, True, False])
    assert_array_equal(data.constant_values, [0, 7, 0])
    assert_array_equal(data.sequences.steps, np.concatenate(X[:2])[:, [0, 2]])
    assert_array_equal(data.sequences.starts, [0, 3, 7])


def test_channels_without_entries_are_refused():
    X = ragged((3, 4))
    for x in X:
        x[:, 0] = np.nan
    with pytest.raises(ValueError, match=r"columns \[0\] are NaN in every row"):
        train(X)


@pytest.mark.parametrize(
    ("X", "weight", "n_states", "message"),
    [
        ([np.array([[1.0], [np.nan], [np.nan]])], None, 1, "total weight 2 at least, got 1 "),
        ([np.ones((1, 2))], None, 1, "total weight 2 at least, got 1 .*1 sequences"),
        (ragged((2, 2)), [1, 0.4], 3, "total weight 3 at least, got 2.8"),
        (np.full((2, 3), np.nan), None, 1, "total weight 2 at least, got 0"),
        (ragged((0, 0)), None, 1, "total weight 2 at least, got 0"),
        (ragged((2, 2)), [0, 0], 2, "zero"),
        (ragged((2, 2)), [1, -1], 2, "Negative values in data"),
        (ragged((2, 2)), [1, 1, 1, 1], 2, "shape"),
    ],
)
def test_too_little_weight(X, weight, n_states, message):
    with pytest.raises(ValueError, match=message):
        train(X, weight, n_states=n_states)


# --- a model of sequences inside scikit-learn -------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", [WhiteNoise(), WhiteNoise(shrinkage=2)], ids=repr)
def test_the_convention_passes_every_check(model):
    results = estimator_checks.check_estimator(model, on_skip=None, on_fail=None)
    assert len(results) >= 50
    not_passed = [r for r in results if r["status"] != "passed"]
    assert [(r["check_name"], r["status"], str(r["exception"])) for r in not_passed] == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("check", LEFT_OUT_CHECKS)
def test_the_checks_that_check_estimator_leaves_out(check):
    getattr(estimator_checks, check)("WhiteNoise", WhiteNoise())


def test_no_check_looks_like_one_long_series():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message="2-D X holds one sequence per row")
        results = estimator_checks.check_estimator(WhiteNoise(), on_skip=None, on_fail=None)
    assert {r["status"] for r in results} == {"passed"}


@sweep
def test_every_container_gives_the_same_model(name):
    X = ragged((4, 6, 1, 5, 9), missing=0.3)
    plain, other = WhiteNoise().fit(X), WhiteNoise().fit(CONTAINERS[name](X))
    assert_allclose(other.score_samples(CONTAINERS[name](X)), plain.score_samples(X), rtol=1e-12)
    assert_allclose(other.transform(CONTAINERS[name](X)), plain.transform(X), rtol=1e-12)
    paths = other.predict(CONTAINERS[name](X))
    assert [p[p >= 0].tolist() for p in paths] == [p.tolist() for p in plain.predict(X)]


@pytest.mark.filterwarnings("ignore:X has feature names")
@pytest.mark.parametrize("how", ["mean", "sample"])
@sweep
def test_wrappers_pass_every_container_through(name, how):
    X = ragged((4, 6, 1, 5, 9), missing=0.3)
    container = CONTAINERS[name](X)
    imputer = LatentImputer(WhiteNoise(), how=how, random_state=0).fit(X)
    found, wanted = imputer.transform(container), imputer.transform(X)
    for part, x in zip(found, wanted, strict=True):
        assert_allclose(np.asarray(part)[: len(x)], x, rtol=1e-12)
    if name in ("list", "tuple", "object array"):
        assert type(found) is type(container)
    detector = DensityOutlierDetector(WhiteNoise(), random_state=0).fit(X)
    assert_allclose(detector.score_samples(container), WhiteNoise().fit(X).score_samples(X))


def test_stacked_rows_give_the_same_model():
    X = ragged((4, 6, 1, 5), missing=0.3)
    plain, stacked = WhiteNoise().fit(X), WhiteNoise().fit(np.concatenate(X), lengths=[4, 6, 1, 5])
    assert_allclose(stacked.score_samples(X), plain.score_samples(X), rtol=1e-12)
    assert stacked.n_steps_ == plain.n_steps_ == 4


def test_padding_stays_padding_and_real_steps_are_filled():
    X = ragged((4, 2), missing=0.3)
    X[0][-1] = np.nan
    model = WhiteNoise().fit(X)
    assert [np.isnan(x).sum() for x in model.impute(X)] == [0, 0]
    filled = model.impute(padded(X, 5))
    assert_array_equal(np.isnan(filled).any(axis=2), [[0, 0, 0, 1, 1], [0, 0, 1, 1, 1]])
    assert not np.isnan(
        model.impute(np.array([[1.0, 2.0, np.nan, np.nan]])[:, :, None].repeat(2, 2))[0, :2]
    ).any()
    assert np.isfinite(WhiteNoise().fit(X[0][:3]).impute(np.full((1, 2), np.nan))).all()


def test_sequences_without_entries_score_zero():
    X = ragged((3, 0, 2))
    X[2][:] = np.nan
    model = WhiteNoise().fit(ragged((5, 5)))
    for container in (X, padded(X)):
        scores = model.score_samples(container)
        assert scores[0] < 0 and scores[1] == scores[2] == 0
        assert_array_equal(model.transform(container)[1], [0, 0])


def test_weights_are_repeats_of_sequences():
    X, weight = ragged((4, 6, 1, 5)), np.array([2, 0, 1, 3])
    weighted = WhiteNoise().fit(X, sample_weight=weight)
    repeated = WhiteNoise().fit([X[i] for i in np.repeat(np.arange(4), weight)])
    assert_allclose(weighted.score_samples(X), repeated.score_samples(X), rtol=1e-12)
    assert weighted.n_steps_ == repeated.n_steps_


def many(n=30, seed=0):
    """Two kinds of sequences, and which kind each is."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    return [rng.normal(3 * k, 1.0, size=(rng.integers(2, 9), 2)) for k in y], y


@pytest.mark.parametrize("name", ["list", "tuple", "object array", "padded", "frames"])
def test_searches_pipelines_and_cross_validation(name):
    X, y = many()
    X = CONTAINERS[name](X)
    scores = cross_val_score(WhiteNoise(), X, cv=KFold(3), error_score="raise")
    held_out = many()[0]
    first = WhiteNoise().fit(held_out[10:]).score(held_out[:10])
    assert scores[0] == pytest.approx(first, rel=1e-12)
    pipe = make_pipeline(PerStep(StandardScaler()), WhiteNoise())
    grid = {"whitenoise__shrinkage": [0, 1000], "perstep__transformer__with_std": [True, False]}
    search = GridSearchCV(pipe, grid, cv=3, n_jobs=1, error_score="raise").fit(X, y)
    assert search.best_params_["whitenoise__shrinkage"] == 0
    assert len(search.predict(X)) == 30
    kinds = make_pipeline(PerStep(StandardScaler()), WhiteNoise(), LogisticRegression()).fit(X, y)
    assert kinds.score(X, y) == 1.0


def test_an_object_array_is_sliced_like_its_list():
    X = ragged((3, 3, 3, 3))  # equal lengths, which numpy would gladly stack
    scores = [cross_val_score(WhiteNoise(), c, cv=2) for c in (X, object_array(X), np.stack(X))]
    assert_allclose(scores[1], scores[0], rtol=1e-12)
    assert_allclose(scores[2], scores[0], rtol=1e-12)


def test_weights_and_labels_can_be_routed():
    X, y = many()
    weight, labels = np.arange(30) % 3, [np.full(len(x), k) for x, k in zip(X, y)]
    with sklearn.config_context(enable_metadata_routing=True):
        step = WhiteNoise().set_fit_request(sample_weight=True, labels=True)
        step.set_score_request(sample_weight=True)
        scaler = PerStep(StandardScaler()).set_fit_request(sample_weight=True)
        pipe = make_pipeline(scaler, step)
        search = GridSearchCV(
            pipe, {"whitenoise__shrinkage": [0]}, cv=KFold(2), error_score="raise"
        )
        search.fit(X, sample_weight=weight, labels=labels)
    train, test = slice(15, None), slice(15)
    Z = PerStep(StandardScaler()).fit(X[train], sample_weight=weight[train])
    alone = WhiteNoise().fit(Z.transform(X[train]), None, weight[train])
    expected = alone.score(Z.transform(X[test]), sample_weight=weight[test])
    assert search.cv_results_["split0_test_score"][0] == pytest.approx(expected, rel=1e-12)
    known = search.best_estimator_[-1].known_
    use = weight > 0
    steps = [sum(len(x) for x, k, u in zip(X, y, use) if u and k == kind) for kind in (0, 1)]
    assert_array_equal(known, [0, *steps])


def test_clone_pickle_and_set_output():
    X = ragged((4, 6, 1, 5))
    model = WhiteNoise().set_output(transform="pandas").fit(X)
    assert list(model.transform(X).columns) == ["whitenoise0", "whitenoise1"]
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.score_samples(X), model.score_samples(X))
    assert not hasattr(clone(model), "n_channels_")
    found = read(X)
    copy = pickle.loads(pickle.dumps(found))
    assert_array_equal(copy.restore(np.arange(16))[1], found.restore(np.arange(16))[1])


def test_a_failed_fit_leaves_what_was_known():
    model = WhiteNoise().fit(ragged((3, 4)))
    before = dict(vars(model))
    with pytest.raises(ValueError, match="infinity"):
        model.fit([np.full((3, 5), np.inf)])
    assert vars(model) == before
