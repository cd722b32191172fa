"""A mixture that chooses its size: what it tries, what it measures, what it keeps."""

import numpy as np
import pytest

from sklvm import AutoGaussianMixture, GaussianMixture
from sklvm.auto import Part
from sklvm.inference import growth
from sklvm.inference.history import FitInterrupted
from sklvm.size_search import CRITERIA, SizeSearch, sizes

RNG = np.random.default_rng
QUICK = {"covariance_types": ("full", "diag"), "prior_strengths": (1.0, 0.1), "random_state": 0}


def groups(n=60, centres=(-6.0, 0.0, 6.0), d=2, seed=0):
    rng = RNG(seed)
    return np.concatenate([rng.normal(m, 1.0, size=(n, d)) for m in centres])


@pytest.fixture(scope="module")
def found():
    X = groups()
    return X, AutoGaussianMixture(6, **QUICK).fit(X)


@pytest.mark.parametrize("criterion", sorted(CRITERIA))
def test_it_finds_three_groups(criterion):
    model = AutoGaussianMixture(6, criterion=criterion, random_state=0).fit(groups())
    assert model.n_components_ == 3
    assert model.covariance_type_ in ("diag", "VEI")
    assert len(np.unique(model.predict([[-6, -6], [0, 0], [6, 6]]))) == 3


def test_sizes_are_all_small_ones_then_steps_of_a_quarter():
    assert sizes(20) == [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 18]
    assert sizes(1) == [1]


def test_the_best_candidate_is_the_one_that_is_finished(found):
    X, model = found
    results, best = model.results_, model.best_index_
    good = results["score"] >= results["score"].max() - 0.01
    assert good[best]
    assert results["n_parameters"][best] == results["n_parameters"][good].min()
    assert results["n_components"][best] == model.n_components_ == len(model.weights_)
    assert results["n_parameters"][best] == model.n_parameters_
    np.testing.assert_allclose(results["bic"][best], model.bic(X), rtol=1e-5)
    np.testing.assert_allclose(results["icl"][best], model.icl(X), rtol=1e-5)
    np.testing.assert_allclose(
        results["log_likelihood"][best], model.score_samples(X).sum(), rtol=1e-5
    )
    np.testing.assert_array_equal(results["score"], results["held_out"])
    assert {len(column) for column in results.values()} == {len(results["score"])}


@pytest.mark.parametrize(("criterion", "column"), [("bic", "bic"), ("icl", "icl")])
def test_the_lowest_criterion_wins(criterion, column):
    X = groups(30, (-2.0, 0.0, 1.5))
    model = AutoGaussianMixture(5, criterion=criterion, random_state=0).fit(X)
    assert model.best_index_ == model.results_[column].argmin()
    assert np.isnan(model.results_["held_out"]).all()
    assert set(model.results_["prior_strength"]) == {1.0}


def test_held_out_is_what_the_folds_say():
    X = groups(20, (-3.0, 3.0))
    told = {"covariance_types": ("full",), "prior_strengths": (1.0,), "random_state": 0}
    model = AutoGaussianMixture(1, cv=4, **told).fit(X)
    expected, means = 0.0, []
    family = model._family(_data(model, X))
    for part in model._parts(X, np.ones(len(X)), family)[1:]:
        assert len(part.test.X) + len(part.train.X) == len(X)
        mean = part.train.X.mean(axis=0)
        scatter = (part.train.X - mean).T @ (part.train.X - mean)
        S = (scatter + np.cov(X.T, bias=True)) / (len(part.train.X) + 1)  # s = d / 2 = 1
        one = GaussianMixture.from_parameters(weights=[1.0], means=[mean], covariances=[S])
        scores = one.score_samples(part.test.X)
        expected += scores.sum() / len(X)
        means.append(scores.mean())
    np.testing.assert_allclose(model.results_["held_out"], expected, rtol=1e-9)
    np.testing.assert_allclose(model.results_["held_out_se"], np.std(means, ddof=1) / 2, rtol=1e-9)


def _data(model, X):
    from sklvm.validation import read_training_data

    return read_training_data(model, X, None)


def test_weights_are_counts_and_order_is_nothing():
    X, rng = groups(30), RNG(1)
    weight = rng.integers(0, 3, len(X))
    X[rng.uniform(size=X.shape) < 0.1] = np.nan
    rows = rng.permutation(np.repeat(X, weight, axis=0))
    a = AutoGaussianMixture(4, **QUICK).fit(X, sample_weight=weight)
    b = AutoGaussianMixture(4, **QUICK).fit(rows)
    np.testing.assert_allclose(a.results_["score"], b.results_["score"], rtol=1e-9)
    np.testing.assert_allclose(a.means_, b.means_, rtol=1e-9)


def test_units_change_scores_by_the_jacobian():
    X, scale = groups(30), np.array([1e3, 0.02])
    a = AutoGaussianMixture(4, **QUICK).fit(X)
    b = AutoGaussianMixture(4, **QUICK).fit(X * scale + 7.0)
    np.testing.assert_allclose(
        b.results_["score"], a.results_["score"] - np.log(scale).sum(), rtol=1e-6
    )
    assert a.n_components_ == b.n_components_


def test_processes_change_nothing(found):
    X, model = found
    again = AutoGaussianMixture(6, n_jobs=2, **QUICK).fit(X)
    np.testing.assert_array_equal(again.results_["score"], model.results_["score"])
    np.testing.assert_array_equal(again.means_, model.means_)


def test_more_components_never_fit_worse_under_one_prior(found):
    X = groups(40, (-2.0, 0.0, 1.5))
    told = {"covariance_types": ("full",), "prior_strengths": (1e-6,), "patience": 9}
    results = AutoGaussianMixture(7, criterion="bic", random_state=0, **told).fit(X).results_
    assert (np.diff(results["log_likelihood"]) > -0.05).all()


def test_patience_ends_the_growth_and_weaker_priors_are_left_out():
    X = groups(100, (0.0,))
    told = {"covariance_types": ("full",), "prior_strengths": (1.0, 0.1, 0.01, 1e-3, 1e-4)}
    results = AutoGaussianMixture(25, patience=2, random_state=0, **told).fit(X).results_
    assert results["n_components"].max() == 3  # 1 is the best, 2 and 3 are not better
    of_one = results["prior_strength"][results["n_components"] == 1]
    assert of_one.tolist() == [1.0, 0.1, 0.01]  # of one Gaussian, all are as good


def test_no_more_components_than_half_the_rows():
    X = groups(4, (0.0, 5.0))
    model = AutoGaussianMixture(25, patience=50, **QUICK).fit(X)
    assert model.results_["n_components"].max() == 3  # each fold trains on 6 or 7 rows
    assert np.isfinite(AutoGaussianMixture(**QUICK).fit([[0.0], [1.0]]).score_samples([[0.5]]))


@pytest.mark.parametrize("calls", [1, 20])
def test_an_interruption_keeps_the_best_so_far(monkeypatch, calls):
    X, done = groups(20), []

    def counted(*args, **kwargs):
        done.append(1)
        if len(done) > 6 * calls:
            raise KeyboardInterrupt
        return growth.search_from(*args, **kwargs)

    monkeypatch.setattr("sklvm.size_search.search_from", counted)
    model = AutoGaussianMixture(6, **QUICK)
    with pytest.raises(FitInterrupted):
        model.fit(X)
    assert not model.converged_
    assert len(model.results_["score"]) == calls
    assert model.n_components_ == model.results_["n_components"][model.best_index_]
    assert np.isfinite(model.score_samples(X)).all()


def test_an_interruption_before_anything_leaves_nothing(monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("sklvm.size_search.search_from", interrupted)
    model = AutoGaussianMixture(6, **QUICK)
    before = dict(vars(model))
    with pytest.raises(KeyboardInterrupt):
        model.fit(groups(20))
    assert vars(model) == before


def test_the_best_line_is_merged_downwards(monkeypatch):
    """A state that a merge improves replaces the one that growth found."""
    X = groups(40)
    model = AutoGaussianMixture(5, criterion="bic", **QUICK)
    data = _data(model, X)
    family = model._family(data)
    search = SizeSearch(
        model._parts(X, np.ones(len(X)), family), family, CRITERIA["bic"], 5, [1.0], patience=2
    )
    search._grow("full")
    line = search.lines["full", 1.0]
    poor = search._broad("full", 1.0, 3)
    bad = line[3].found[0]._replace(run=line[3].found[0].run._replace(state=poor))
    worse = {**line[3].measures, "score": -99.0}
    line[3] = line[3]._replace(found=[bad], measures=worse)
    search.good = [line[3]]
    search._shrink()
    assert search.best.K == 3
    assert search.best.score > -5


@pytest.mark.parametrize(
    ("told", "pattern"),
    [
        ({"covariance_types": "full"}, "array-like"),
        ({"covariance_types": ()}, "sequence"),
        ({"covariance_types": ("full", "round")}, "round"),
        ({"prior_strengths": ()}, "positive"),
        ({"prior_strengths": (1.0, 0.0)}, "positive"),
        ({"prior_strengths": (np.inf,)}, "positive"),
        ({"prior_strengths": "strong"}, "prior_strengths"),
        ({"cv": 1}, "cv"),
        ({"cv": "five"}, "cv"),
        ({"criterion": "aic"}, "criterion"),
    ],
)
def test_what_it_refuses(told, pattern):
    with pytest.raises(ValueError, match=pattern):
        AutoGaussianMixture(**told).fit(groups(5))


def test_parts_keep_holes_and_complete_only_their_samples():
    X = groups(10)
    X[::4, 1] = np.nan
    model = AutoGaussianMixture(2, **QUICK)
    data = _data(model, X)
    parts = model._parts(X, np.ones(len(X)), model._family(data))
    assert all(isinstance(part, Part) for part in parts)
    assert np.isnan(parts[0].train.X).sum() == np.isnan(X).sum()
    assert not any(np.isnan(part.Z).any() for part in parts)
    assert len({part.seed for part in parts}) == 1
