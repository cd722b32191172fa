"""Folds of stacked rows: sequences stay whole, and are divided as KFold divides a list."""

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score

from sklvm import GaussianMixture, SequenceSplit
from tests._sequences import WhiteNoise, ragged

LENGTHS = (4, 6, 1, 5, 3, 2)
STACKED = np.concatenate(ragged(LENGTHS))
GROUPS = np.repeat(["b", "a", "f", "c", "e", "d"], LENGTHS)
SETTINGS = [{}, {"shuffle": True, "random_state": 3}]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_folds_are_those_of_the_list(settings):
    X = ragged(LENGTHS)
    by_lengths = SequenceSplit(3, lengths=LENGTHS, **settings)
    by_groups = SequenceSplit(3, **settings)
    folds = KFold(3, **settings).split(X)
    pairs = zip(by_lengths.split(STACKED), by_groups.split(STACKED, groups=GROUPS), strict=True)
    for same, (train, test) in zip(pairs, folds, strict=True):
        for (found, again), wanted in zip(zip(*same), (train, test)):
            wanted = np.sort(wanted)
            assert_array_equal(found, again)
            assert_array_equal(STACKED[found], np.concatenate([X[i] for i in wanted]))
            assert_array_equal(by_lengths.lengths_of(found), np.array(LENGTHS)[wanted])


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_loop_over_folds_is_cross_validation_of_the_list(settings):
    folds = SequenceSplit(3, lengths=LENGTHS, **settings)
    scores = []
    for train, test in folds.split(STACKED):
        model = WhiteNoise().fit(STACKED[train], lengths=folds.lengths_of(train))
        parts = np.split(STACKED[test], np.cumsum(folds.lengths_of(test))[:-1])
        scores.append(model.score(parts))
    cut = np.split(STACKED, np.cumsum(LENGTHS)[:-1])
    assert_allclose(scores, cross_val_score(WhiteNoise(), cut, cv=KFold(3, **settings)), rtol=1e-12)


def test_models_of_rows_are_searched_without_cutting_sequences():
    for folds, how in (
        (SequenceSplit(3, lengths=LENGTHS), {}),
        (SequenceSplit(3), {"groups": GROUPS}),
    ):
        search = GridSearchCV(GaussianMixture(), {"n_components": [1]}, cv=folds)
        search.fit(STACKED, **how)
        first = GaussianMixture().fit(STACKED[10:]).score(STACKED[:10])
        assert search.cv_results_["split0_test_score"][0] == pytest.approx(first, rel=1e-12)


def test_groups_are_routed_unasked():
    with sklearn.config_context(enable_metadata_routing=True):
        scores = cross_val_score(
            GaussianMixture(), STACKED, cv=SequenceSplit(3), params={"groups": GROUPS}
        )
    assert len(scores) == 3


def test_sequences_without_rows():
    folds = SequenceSplit(2, lengths=[2, 0, 3])
    found = [(a.tolist(), b.tolist()) for a, b in folds.split(np.zeros((5, 1)))]
    assert found == [([2, 3, 4], [0, 1]), ([0, 1], [2, 3, 4])]


def test_parameters_and_repr():
    folds = SequenceSplit(3, lengths=[1, 2, 3], shuffle=True, random_state=0)
    assert folds.get_n_splits() == folds.get_n_splits(STACKED, groups=GROUPS) == 3
    assert repr(folds) == (
        "SequenceSplit(lengths=[1, 2, 3], n_splits=3, random_state=0, shuffle=True)"
    )
    search = GridSearchCV(GaussianMixture(), {}, cv=folds)
    assert repr(clone(search).cv) == repr(folds)


@pytest.mark.parametrize(
    ("folds", "groups", "message"),
    [
        (SequenceSplit(2), None, "either lengths= or groups.*got neither.*KFold keeps it whole"),
        (SequenceSplit(2, lengths=LENGTHS), GROUPS, "either lengths= or groups.*got both"),
        (SequenceSplit(2, lengths=[20]), None, "lengths sum to 20, but X has 21 rows"),
        (SequenceSplit(2), GROUPS[:-1], "lengths sum to 20, but X has 21 rows"),
        (SequenceSplit(2), np.arange(21) % 3, r"groups \[0, 1, 2\] come back after others"),
        (SequenceSplit(7, lengths=LENGTHS), None, "n_splits=7.*number of samples"),
        (SequenceSplit(1, lengths=LENGTHS), None, "n_splits=1"),
    ],
)
def test_refusals(folds, groups, message):
    with pytest.raises(ValueError, match=message):
        list(folds.split(STACKED, groups=groups))


def test_lengths_of_needs_whole_sequences():
    folds = SequenceSplit(2, lengths=LENGTHS)
    with pytest.raises(ValueError, match="cut a sequence"):
        folds.lengths_of(np.arange(5))
    with pytest.raises(ValueError, match="lengths_of needs SequenceSplit.lengths"):
        SequenceSplit(2).lengths_of(np.arange(4))
