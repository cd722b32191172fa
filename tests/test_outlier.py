"""DensityOutlierDetector: the checks, honest p-values, weights as counts, any density inside."""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from sklearn.base import BaseEstimator, DensityMixin, clone
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.mixture import BayesianGaussianMixture
from sklearn.mixture import GaussianMixture as PeerMixture
from sklearn.model_selection import GroupKFold, KFold
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks, get_tags

from sklvm import DensityOutlierDetector, EMFactorAnalysis, GaussianMixture

# scikit-learn's own mixture refuses its default start while array_api_dispatch is on, so its common
# tests, and ours, give it this one.
PEER = PeerMixture(n_components=2, init_params="random_from_data")

DENSITIES = [
    None,
    GaussianMixture(n_components=2),
    EMFactorAnalysis(n_components=1, solver="em"),
    PEER,
    KernelDensity(),
    FactorAnalysis(n_components=1),
    make_pipeline(StandardScaler(), PEER),
]


class Sequences(DensityMixin, BaseEstimator):
    """A stub of the suite's chains: X[i] is a sequence, its steps normal about mean_."""

    def fit(self, X, y=None, sample_weight=None):
        weight = np.ones(len(X)) if sample_weight is None else sample_weight
        length = np.array([len(x) for x in X])
        self.mean_ = weight @ [x.sum(axis=0) for x in X] / (weight @ length)
        return self

    def score_samples(self, X):
        return np.array([-0.5 * np.nansum((x - self.mean_) ** 2) for x in X])


def rows(n=60, d=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)) * np.arange(1, d + 1) + 5


def same(one, other, **tolerance):
    """Whether two fits learnt the same, to rounding."""
    X = rows(30, seed=9)
    tolerance = {"rtol": 1e-9, "atol": 1e-9} | tolerance
    np.testing.assert_allclose(one.offset_, other.offset_, **tolerance)
    np.testing.assert_allclose(one.calibration_scores_, other.calibration_scores_, **tolerance)
    np.testing.assert_array_equal(one.calibration_weights_, other.calibration_weights_)
    np.testing.assert_allclose(one.pvalue(X), other.pvalue(X), **tolerance)
    np.testing.assert_array_equal(one.predict(X), other.predict(X))


# --- scikit-learn -----------------------------------------------------------------------------


@pytest.mark.parametrize("density", DENSITIES, ids=repr)
def test_every_check_passes(density):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks' tiny data sets
        results = estimator_checks.check_estimator(
            DensityOutlierDetector(density), on_skip=None, on_fail=None
        )
    assert len(results) > 50
    assert [(r["check_name"], r["exception"]) for r in results if r["status"] != "passed"] == []


@pytest.mark.parametrize(
    "check",
    [
        "check_dataframe_column_names_consistency",
        "check_param_validation",
        "check_readonly_memmap_input",
    ],
)
def test_checks_that_check_estimator_leaves_out(check):
    detector = DensityOutlierDetector()
    getattr(estimator_checks, check)(type(detector).__name__, detector)


@pytest.mark.parametrize(
    "density",
    [
        BayesianGaussianMixture(n_components=2),
        PCA(n_components=1),
        PeerMixture(2),
        EMFactorAnalysis(1),
        make_pipeline(StandardScaler(), GaussianMixture()),
    ],
    ids=repr,
)
def test_other_densities(density):
    X = rows()
    detector = DensityOutlierDetector(density, random_state=0).fit(X)
    np.testing.assert_array_equal(detector.score_samples(X), detector.estimator_.score_samples(X))
    assert (detector.predict(X) == -1).sum() == 6


@pytest.mark.parametrize("density", [KernelDensity(), GaussianMixture(), PCA(1)], ids=repr)
def test_takes_what_the_density_takes(density):
    tags, inner = get_tags(DensityOutlierDetector(density)).input_tags, get_tags(density).input_tags
    assert (tags.allow_nan, tags.sparse) == (inner.allow_nan, inner.sparse)


def test_clone_and_pickle():
    X = rows()
    detector = DensityOutlierDetector(GaussianMixture(2), contamination=0.2, random_state=0).fit(X)
    same(detector, pickle.loads(pickle.dumps(detector)), rtol=0, atol=0)
    same(detector, clone(detector).fit(X), rtol=0, atol=0)


@pytest.mark.parametrize(
    "frame", [pd.DataFrame, lambda X, columns: pl.DataFrame(X, schema=columns)]
)
def test_frames(frame):
    X, names = rows(), ["a", "b", "c"]
    detector = DensityOutlierDetector(random_state=0).fit(frame(X, columns=names))
    assert list(detector.feature_names_in_) == names
    assert detector.n_features_in_ == 3
    plain = DensityOutlierDetector(random_state=0).fit(X)
    assert not hasattr(plain, "feature_names_in_")
    np.testing.assert_array_equal(detector.pvalue(frame(X, columns=names)), plain.pvalue(X))
    with pytest.raises(ValueError, match="feature names"):
        detector.predict(pd.DataFrame(X, columns=names)[["b", "a", "c"]])


def test_sample_weight_can_be_routed():
    X, weight = rows(), np.arange(60) % 3
    with sklearn.config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        detector = DensityOutlierDetector(random_state=0).set_fit_request(sample_weight=True)
        routed = make_pipeline(scaler, detector).fit(X, sample_weight=weight)
    Z = StandardScaler().fit_transform(X)
    plain = DensityOutlierDetector(random_state=0).fit(Z, sample_weight=weight)
    assert routed[-1].offset_ == plain.offset_


# --- the threshold ----------------------------------------------------------------------------


@pytest.mark.parametrize("contamination", [0.01, 0.07, 0.29, 0.3, 0.5])
def test_predicts_the_contaminated_share(contamination):
    X = rows(100)
    detector = DensityOutlierDetector(contamination=contamination, cv=None).fit(X)
    assert (detector.predict(X) == -1).sum() == round(100 * contamination)


def test_weights_count_in_the_share():
    X, weight = rows(50), np.r_[np.full(25, 3.0), np.ones(25)]
    detector = DensityOutlierDetector(KernelDensity(), contamination=0.25, cv=None)
    outlier = detector.fit(X, sample_weight=weight).predict(X) == -1
    assert weight[outlier].sum() <= 25 < weight[outlier].sum() + 3


def test_a_share_below_one_row_is_no_row():
    X = rows(20)
    detector = DensityOutlierDetector(contamination=0.04, cv=None).fit(X)
    assert (detector.predict(X) == 1).all()
    assert detector.decision_function(X).min() < 1e-6


def test_no_training_row_lies_on_the_threshold():
    X = rows(40)
    detector = DensityOutlierDetector(contamination=0.25, cv=None).fit(X)
    below, above = np.sort(detector.decision_function(X))[9:11]
    assert below == pytest.approx(-above) and above > 1e-6


@pytest.mark.parametrize("contamination", [0.0, -0.1, 0.51, "auto"])
def test_contamination_out_of_range(contamination):
    with pytest.raises(ValueError, match="'contamination' parameter.*range"):
        DensityOutlierDetector(contamination=contamination).fit(rows())


# --- p-values ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("density", "least"),
    [
        (FactorAnalysis(n_components=1), 0.85),
        (GaussianMixture(), 0.8),
        (KernelDensity(bandwidth=0.2), 0.5),
    ],
    ids=repr,
)
def test_pvalues_are_super_uniform(density, least):
    """P(p <= a) is at most a over training sets and fresh rows, yet not far below; KernelDensity
    overfits by a lot, so that its training scores would give nothing like it."""
    rng = np.random.default_rng(1)
    n, sets = 80, 100
    p = np.empty((sets, 100))
    for seed in range(sets):
        X, fresh = rng.standard_t(5, size=(n, 2)), rng.standard_t(5, size=(100, 2))
        p[seed] = DensityOutlierDetector(density, random_state=seed).fit(X).pvalue(fresh)
    assert p.min() >= 1 / (n + 1) and p.max() <= 1
    for a in [0.02, 0.05, 0.1, 0.2, 0.35, 0.5]:
        share = (p <= a).mean(axis=1)
        error = share.std() / np.sqrt(sets)
        assert share.mean() <= a + 3 * error
        assert share.mean() >= least * a - 1 / (n + 1) - 3 * error


def test_pvalue_by_its_formula():
    X, fresh = rows(), rows(20, seed=1)
    weight = 1.0 + np.arange(60) % 3
    detector = DensityOutlierDetector(random_state=0).fit(X, sample_weight=weight)
    score, calibration = detector.score_samples(fresh), detector.calibration_scores_
    count = ((calibration <= score[:, None]) * detector.calibration_weights_).sum(axis=1)
    np.testing.assert_allclose(detector.pvalue(fresh), (1 + count) / (1 + weight.sum()))
    assert (np.diff(calibration) >= 0).all()
    assert detector.calibration_weights_.sum() == weight.sum()


def test_calibration_rows_were_not_seen():
    """A kernel that reaches no other row: held out, every row is as improbable as can be."""
    X = 100.0 * np.arange(20).reshape(-1, 1)
    density = KernelDensity(kernel="tophat", bandwidth=1.0)
    detector = DensityOutlierDetector(density, cv=4, random_state=0).fit(X)
    assert (detector.calibration_scores_ == -np.inf).all()
    np.testing.assert_array_equal(detector.pvalue([[50.0], [100.0]]), [1.0, 1.0])


def test_copies_of_a_row_share_a_fold():
    X = np.repeat(100.0 * np.arange(20).reshape(-1, 1), 2, axis=0)
    density = KernelDensity(kernel="tophat", bandwidth=1.0)
    detector = DensityOutlierDetector(density, random_state=0).fit(X)
    assert (detector.calibration_scores_ == -np.inf).all()


@pytest.mark.parametrize(
    "cv", [KFold(3), list(KFold(3).split(np.empty(60)))], ids=["splitter", "list"]
)
def test_folds_of_the_user(cv):
    X, weight = rows(), np.arange(60) % 3
    detector = DensityOutlierDetector(KernelDensity(), cv=cv).fit(X, sample_weight=weight)
    scores = np.concatenate(
        [
            KernelDensity()
            .fit(X[train], sample_weight=weight[train] + 1e-300)
            .score_samples(X[test])
            for train, test in KFold(3).split(X)
        ]
    )
    np.testing.assert_allclose(detector.calibration_scores_, np.sort(scores[weight > 0]))
    np.testing.assert_array_equal(
        detector.calibration_weights_, weight[weight > 0][scores[weight > 0].argsort()]
    )


def test_random_state_decides_the_folds():
    X = rows()
    calibration = [
        DensityOutlierDetector(KernelDensity(), random_state=seed).fit(X).calibration_scores_
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(calibration[0], calibration[1])
    assert (calibration[0] != calibration[2]).any()


def test_without_calibration():
    detector = DensityOutlierDetector(cv=None).fit(rows())
    assert detector.calibration_scores_ is None
    with pytest.raises(ValueError, match="cv=None"):
        detector.pvalue(rows())


def test_a_fold_that_fails_says_what_to_do():
    X = np.repeat([[0.0, 0.0], [1.0, 2.0]], 5, axis=0)
    with pytest.raises(ValueError) as caught:
        DensityOutlierDetector(random_state=0).fit(X)
    assert "cv=None" in caught.value.__notes__[0]
    DensityOutlierDetector(cv=None).fit(X)


# --- weights and order ------------------------------------------------------------------------

COUNTED = [None, GaussianMixture(2), KernelDensity(), PeerMixture(2), FactorAnalysis(1)]


@pytest.mark.parametrize("density", COUNTED, ids=repr)
def test_weights_are_repeats(density):
    X, weight = rows(), np.arange(60) % 4
    detector = DensityOutlierDetector(density, random_state=3)
    weighted = clone(detector).fit(X, sample_weight=weight)
    repeated = clone(detector).fit(np.repeat(X, weight, axis=0))
    same(weighted, repeated, rtol=1e-6)


@pytest.mark.parametrize("density", COUNTED, ids=repr)
def test_zero_weight_is_no_row(density):
    X, weight = rows(), (np.arange(60) % 4 > 0) * 1.0
    detector = DensityOutlierDetector(density, random_state=3)
    X[weight == 0] += 1000
    same(clone(detector).fit(X, sample_weight=weight), clone(detector).fit(X[weight > 0]))


@pytest.mark.parametrize("density", COUNTED, ids=repr)
def test_order_does_not_matter(density):
    X = np.concatenate([rows(), rows()[:10]])
    shuffled = np.random.default_rng(1).permutation(X)
    detector = DensityOutlierDetector(density, random_state=3)
    same(clone(detector).fit(X), clone(detector).fit(shuffled), rtol=0, atol=0)


def test_fractions_need_a_density_with_weights():
    X = rows()
    DensityOutlierDetector(KernelDensity()).fit(X, sample_weight=np.full(60, 0.5))
    with pytest.raises(ValueError, match="GaussianMixture.fit takes no sample_weight.*0.5"):
        DensityOutlierDetector(PEER).fit(X, sample_weight=np.full(60, 0.5))


def test_weights_are_passed_only_when_given():
    class Spy(KernelDensity):
        def fit(self, X, y=None, sample_weight=None):
            self.given_, self.n_ = sample_weight, len(X)
            return super().fit(X, y, sample_weight)

    X = np.concatenate([rows(), rows()])
    plain = DensityOutlierDetector(Spy(), cv=None).fit(X).estimator_
    assert plain.given_ is None and plain.n_ == 120
    weighted = DensityOutlierDetector(Spy(), cv=None).fit(X, sample_weight=np.ones(120)).estimator_
    assert weighted.given_.sum() == 120


@pytest.mark.parametrize(
    ("weight", "message"),
    [(np.zeros(60), "zero"), (-np.ones(60), "Negative"), (np.ones(59), "shape|size")],
)
def test_bad_weights(weight, message):
    with pytest.raises(ValueError, match=message):
        DensityOutlierDetector().fit(rows(), sample_weight=weight)


# --- randomness of the inner density ----------------------------------------------------------


def test_unset_seeds_are_set_everywhere_and_set_ones_kept():
    unset = make_pipeline(PCA(2), PeerMixture(2))
    steps = DensityOutlierDetector(unset, random_state=0).fit(rows()).estimator_
    assert isinstance(steps[0].random_state, int) and isinstance(steps[1].random_state, int)
    assert unset[1].random_state is None
    kept = DensityOutlierDetector(PeerMixture(2, random_state=7), random_state=0).fit(rows())
    assert kept.estimator_.random_state == 7


# --- what comes in ----------------------------------------------------------------------------


def test_nan_passes_through():
    X = rows(100)
    X[np.random.default_rng(2).random(X.shape) < 0.2] = np.nan
    detector = DensityOutlierDetector(random_state=0).fit(X)
    np.testing.assert_array_equal(detector.score_samples(X), detector.estimator_.score_samples(X))
    assert (detector.predict(X) == -1).sum() == 10
    assert np.isfinite(detector.calibration_scores_).all()
    with pytest.raises(ValueError, match="NaN"):
        DensityOutlierDetector(KernelDensity()).fit(X)


@pytest.mark.parametrize(
    "density", [GaussianMixture(), KernelDensity(), make_pipeline(StandardScaler(), PEER)], ids=repr
)
def test_departures_from_a_constant_column_rank_lowest(density):
    X = np.insert(rows(), 1, 7.0, axis=1)
    X = np.concatenate([X, X[:1] + [0, 1, 0, 0]])
    weight = np.ones(61)
    weight[-1] = 0  # constant over the rows with weight
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        detector = DensityOutlierDetector(density, random_state=0).fit(X, sample_weight=weight)
    assert len([w for w in caught if "constant" in str(w.message)]) <= 1
    np.testing.assert_array_equal(detector.constant_, [False, True, False, False])
    assert detector.constant_values_[1] == 7.0
    fresh = X[:3] + [[0, 0, 0, 0], [0, 1e-9, 0, 0], [0, 0, 1e3, 0]]
    scores = detector.score_samples(fresh)
    np.testing.assert_array_equal(scores == -np.inf, [False, True, False])
    np.testing.assert_array_equal(detector.predict(fresh)[1:], [-1, -1])
    assert detector.pvalue(fresh)[1] == 1 / 61
    np.testing.assert_array_equal(detector.decision_function(fresh), scores - detector.offset_)


def test_constant_columns_are_those_of_the_density_if_it_names_them():
    """A chain's constants are channels, not columns: a first step that was always 0 may move."""

    class Chain(KernelDensity):
        def fit(self, X, y=None, sample_weight=None):
            self.constant_, self.constant_values_ = np.array([False]), np.array([0.0])
            return super().fit(X, y, sample_weight)

    X = np.insert(rows(), 0, 0.0, axis=1)
    detector = DensityOutlierDetector(Chain(), random_state=0).fit(X)
    assert detector.constant_ is None
    assert np.isfinite(detector.score_samples(X + 0.1)).all()


def test_scores_of_the_density_are_not_written_to():
    class Cached(KernelDensity):
        def score_samples(self, X):
            scores = super().score_samples(X)
            scores.flags.writeable = False
            return scores

    X = np.insert(rows(), 0, 0.0, axis=1)
    detector = DensityOutlierDetector(Cached(), random_state=0).fit(X)
    assert (detector.score_samples(X + 1) == -np.inf).all()


def test_a_hole_in_a_constant_column_is_no_departure():
    X = np.insert(rows(), 1, 7.0, axis=1)
    with pytest.warns(UserWarning, match="constant"):
        detector = DensityOutlierDetector(random_state=0).fit(X)
    X[0, 1] = np.nan
    assert np.isfinite(detector.score_samples(X)).all()


def test_sequences_pass_through():
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(length, 2)) for length in rng.integers(3, 9, size=60)]
    X[0][0] = np.nan
    X[1] += 20
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector = DensityOutlierDetector(Sequences(), random_state=0).fit(X[2:])
    assert detector.constant_ is None and not hasattr(detector, "n_features_in_")
    np.testing.assert_array_equal(detector.score_samples(X), detector.estimator_.score_samples(X))
    np.testing.assert_array_equal(detector.pvalue(X[:2]) < 0.05, [False, True])
    assert len(detector.calibration_scores_) == 58
    weight = np.arange(60) % 3
    weighted = DensityOutlierDetector(Sequences(), random_state=0).fit(
        X[2:], sample_weight=weight[2:]
    )
    assert weighted.calibration_weights_.sum() == weight[2:].sum()


def test_padded_sequences_are_told_apart():
    X = np.random.default_rng(0).normal(size=(30, 4, 2))
    weight = 1 + np.arange(30) % 2
    detector = DensityOutlierDetector(Sequences(), random_state=0)
    weighted = clone(detector).fit(X, sample_weight=weight)
    repeated = clone(detector).fit(np.repeat(X, weight, axis=0))
    np.testing.assert_allclose(weighted.calibration_scores_, repeated.calibration_scores_)


# --- statistics -------------------------------------------------------------------------------


class Regretful(KernelDensity):
    """A density with a regret: the size of the first column."""

    def regret(self, X):
        return np.abs(np.asarray(X)[:, 0])


def test_typicality_finds_the_dense_centre_that_the_density_does_not():
    X = np.random.default_rng(0).normal(size=(300, 100))
    centre, far = np.zeros((1, 100)), np.full((1, 100), 1.5)
    pvalue = {
        statistic: [
            DensityOutlierDetector(EMFactorAnalysis(0), statistic=statistic, random_state=0)
            .fit(X)
            .pvalue(row)
            .item()
            for row in (centre, far)
        ]
        for statistic in ("log_density", "typicality")
    }
    assert pvalue["typicality"] == [1 / 301, 1 / 301]
    assert pvalue["log_density"] == [1.0, 1 / 301]


@pytest.mark.parametrize("density", [GaussianMixture(2), KernelDensity(), PEER], ids=repr)
def test_typicality_by_its_formula(density):
    X, weight = rows(), 1.0 + np.arange(60) % 3
    detector = DensityOutlierDetector(density, statistic="typicality", random_state=0)
    detector.fit(X, sample_weight=weight)
    score = detector.estimator_.score_samples
    mean = np.average(score(X), weights=weight)
    assert detector.statistic_.entropy == pytest.approx(-mean)
    np.testing.assert_allclose(detector.score_samples(X), -np.abs(score(X) - mean), atol=1e-12)
    assert weight[detector.predict(X) == -1].sum() <= 12
    repeated = clone(detector).fit(np.repeat(X, weight.astype(int), axis=0))
    np.testing.assert_allclose(repeated.offset_, detector.offset_, rtol=1e-6)


def test_pvalues_of_typicality_are_uniform():
    rng, p = np.random.default_rng(1), []
    for seed in range(40):
        X, fresh = rng.normal(size=(80, 8)), rng.normal(size=(50, 8))
        detector = DensityOutlierDetector(
            GaussianMixture(), statistic="typicality", random_state=seed
        )
        p.append(detector.fit(X).pvalue(fresh))
    for a in [0.05, 0.2, 0.5]:
        share = (np.array(p) <= a).mean(axis=1)
        assert 0.6 * a <= share.mean() <= a + 3 * share.std() / np.sqrt(40)


def test_a_regret_is_what_the_density_says_it_is():
    X = np.insert(rows(), 1, 7.0, axis=1)
    detector = DensityOutlierDetector(Regretful(), statistic="regret", random_state=0).fit(X)
    np.testing.assert_array_equal(detector.score_samples(X), -np.abs(X[:, 0]))
    assert (detector.predict(X) == -1).sum() == 6
    assert detector.score_samples(X[:1] + [[0, 1, 0, 0]]) == -np.inf
    with pytest.raises(TypeError, match="'regret' needs .* method 'regret', which KernelDensity"):
        DensityOutlierDetector(KernelDensity(), statistic="regret").fit(X)


def test_only_a_log_density_is_explained_feature_by_feature():
    X = rows()
    plain = DensityOutlierDetector(GaussianMixture(), cv=None).fit(X)
    typical = DensityOutlierDetector(GaussianMixture(), statistic="typicality", cv=None).fit(X)
    assert hasattr(plain, "explain_score") and not hasattr(typical, "explain_score")


def test_every_check_passes_with_typicality():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks' tiny data sets
        results = estimator_checks.check_estimator(
            DensityOutlierDetector(KernelDensity(), statistic="typicality"),
            on_skip=None,
            on_fail=None,
        )
    assert [(r["check_name"], r["exception"]) for r in results if r["status"] != "passed"] == []


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "estimator", [RandomForestClassifier(), StandardScaler(), make_pipeline(StandardScaler())]
)
def test_a_density_has_score_samples(estimator):
    with pytest.raises(TypeError, match="'fit' and 'score_samples'"):
        DensityOutlierDetector(estimator).fit(rows())


class Odd(KernelDensity):
    def score_samples(self, X):
        return self.answer(super().score_samples(X))


class Columns(Odd):
    answer = staticmethod(lambda scores: scores[:, None])


class Holes(Odd):
    answer = staticmethod(lambda scores: scores * np.nan)


class Impossible(Odd):
    answer = staticmethod(lambda scores: scores - np.inf)


@pytest.mark.parametrize(
    ("density", "message"),
    [
        (Columns(), r"one number, got shape \(60, 1\)"),
        (Holes(), "got NaN"),
        (Impossible(), "no finite score"),
    ],
)
def test_scores_that_are_no_scores(density, message):
    with pytest.raises(ValueError, match=message):
        DensityOutlierDetector(density).fit(rows())


def test_too_little_to_calibrate():
    X = np.ones((5, 2))
    with pytest.raises(ValueError, match="two distinct rows at least, got 1"):
        DensityOutlierDetector(KernelDensity()).fit(X)
    with pytest.raises(ValueError, match="total weight 2 at least, got 1"):
        DensityOutlierDetector(KernelDensity(), cv=None).fit(X[:1])


def test_fewer_rows_than_folds():
    detector = DensityOutlierDetector(KernelDensity(), cv=10).fit(rows(4))
    assert len(detector.calibration_scores_) == 4


def test_a_splitter_that_needs_groups():
    with pytest.raises(ValueError, match="groups"):
        DensityOutlierDetector(cv=GroupKFold(3)).fit(rows())
