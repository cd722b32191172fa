"""Mixtures of mixed columns: reductions, enumeration, and the user's names for columns."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV

from sklvm import Categorical, FactorEmission, GaussianMixture, Mixture, StudentT
from sklvm.validation import column_groups

from ._models import rows

NAMES = ["a", "b", "count", "code", "flag"]
MIXED = [("gaussian", ["a", "b"]), ("poisson", ["count"]), ("categorical", ["code"])]
MIXED += [("bernoulli", ["flag"])]


def table(n=300, holes=0.1, seed=0):
    """Three clusters in two measurements, a count, a code and a flag: X, z."""
    rng = np.random.default_rng(seed)
    z = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    noise = rng.normal(size=(n, 2)) @ [[1.0, 0.8], [0.0, 1.5]]
    codes = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])
    X = np.column_stack(
        [
            np.array([[0, 0], [3, -2], [6, 5.0]])[z] + noise,
            rng.poisson(np.array([2.0, 5, 9])[z]),
            (rng.uniform(size=n)[:, None] > np.cumsum(codes, axis=1)[z]).sum(axis=1),
            rng.uniform(size=n) < np.array([0.1, 0.5, 0.9])[z],
        ]
    )
    X[rng.uniform(size=X.shape) < holes] = np.nan
    return pd.DataFrame(X, columns=NAMES), z


def mixed(**settings):
    return Mixture(3, **{"emission": MIXED, "random_state": 0, **settings})


@pytest.fixture(scope="module")
def fitted():
    return mixed().fit(table()[0])


# --- reductions --------------------------------------------------------------------------------


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("emission", ["gaussian", "student_t", FactorEmission(1)])
def test_one_group_is_the_plain_mixture(emission, holes):
    X = rows(3, holes)
    plain = Mixture(2, emission=emission, random_state=0).fit(X)
    listed = Mixture(2, emission=[(emission, slice(None))], random_state=0).fit(X)
    assert_array_equal(listed.score_samples(X), plain.score_samples(X))
    assert_array_equal(listed.history_, plain.history_)
    assert_array_equal(listed.sample(9, 0)[0], plain.sample(9, 0)[0])
    assert_array_equal(listed.impute(X), plain.impute(X))
    assert listed.n_parameters_ == plain.n_parameters_


@pytest.mark.parametrize("holes", [False, True])
def test_single_gaussian_columns_are_diagonal_matrices(holes):
    X = rows(3, holes, n=200)[:, [2, 0, 1]] * [1, 0.7, 1]
    settings = {"covariance_prior": 0, "random_state": 0, "tol": 1e-12}
    columns = [("gaussian", [j]) for j in range(3)]
    listed = Mixture(2, emission=columns, **settings).fit(X)
    plain = GaussianMixture(2, covariance_type="diag", **settings).fit(X)
    assert_allclose(listed.score_samples(X), plain.score_samples(X), rtol=1e-10)
    assert_allclose(listed.means_, plain.means_, rtol=1e-10)
    assert listed.n_parameters_ == plain.n_parameters_


def test_the_prior_of_a_group_is_that_of_its_own_columns():
    X = rows(3)
    listed = Mixture(2, emission=[("gaussian", [0, 1]), ("gaussian", [2])], random_state=0).fit(X)
    pair, one = listed.emission_.parts
    S = np.cov(X.T, bias=True)
    assert_allclose(pair.cov.penalty.scale, 2 ** (-2 / 2) * S[:2, :2] * (2 / 2), rtol=1e-9)
    assert_allclose(one.cov.penalty.scale, 2 ** (-2 / 1) * S[2:, 2:] * (1 / 2), rtol=1e-9)


def test_equal_kinds_in_two_groups_are_one_group():
    X = table(holes=0.0)[0].to_numpy()[:, [2, 4, 3]]
    one = [(Categorical(), [0, 1, 2])]
    two = [(Categorical(), [2, 0]), (Categorical(), [1])]
    settings = {"random_state": 0, "accelerate": None, "n_init": 1, "tol": 1e-3}
    a, b = (Mixture(2, emission=e, **settings).fit(X) for e in (one, two))
    assert_allclose(a.score_samples(X), b.score_samples(X), rtol=1e-8, atol=1e-12)


# --- the density -------------------------------------------------------------------------------


def grid(model, x, names):
    """Every value of some columns of a row, and log weights: counting, or the sinh rule."""
    values, logs = [], []
    for name in names:
        if model.base_measure_[NAMES.index(name)] == "counting":
            v = {"count": np.arange(60.0), "code": np.arange(4.0), "flag": np.arange(2.0)}[name]
            values.append(v), logs.append(np.zeros(len(v)))
        else:
            t, step = np.linspace(-9, 9, 401, retstep=True)
            values.append(np.sinh(t) * 3), logs.append(np.log(3 * np.cosh(t) * step))
    index = [i.ravel() for i in np.meshgrid(*[np.arange(len(v)) for v in values], indexing="ij")]
    filled = pd.DataFrame(np.tile(x, (len(index[0]), 1)), columns=NAMES)
    for name, i, v in zip(names, index, values, strict=True):
        filled[name] = v[i]
    return filled, sum(log[i] for log, i in zip(logs, index, strict=True))


@pytest.mark.parametrize("names", [["a"], ["count"], ["code", "flag"], ["b", "code"]])
def test_a_missing_entry_is_summed_or_integrated_out(fitted, names):
    x = np.array([0.5, -1.0, 3, 1, 0])
    filled, log_weight = grid(fitted, x, names)
    missing = np.where(np.isin(NAMES, names), np.nan, x)[None]
    total = logsumexp(fitted.score_samples(filled) + log_weight)
    expected = fitted.score_samples(pd.DataFrame(missing, columns=NAMES))[0]
    assert total == pytest.approx(expected, abs=1e-7)


def test_base_measures_are_those_of_the_columns(fitted):
    assert fitted.base_measure_.tolist() == ["lebesgue"] * 2 + ["counting"] * 3
    assert fitted.marginal(["flag", "b"]).base_measure_.tolist() == ["counting", "lebesgue"]


def test_condition_times_marginal_is_the_joint(fitted):
    X = table(holes=0.0, seed=1)[0].iloc[:5]
    for known in (["code", "a"], ["flag"], ["b", "a", "count"]):
        rest = [name for name in NAMES if name not in known]
        for i in range(len(X)):
            x = X.iloc[[i]]
            left = fitted.condition(known, x[known].to_numpy()[0])
            parts = left.score_samples(x[rest]) + fitted.marginal(known).score_samples(x[known])
            assert parts[0] == pytest.approx(fitted.score_samples(x)[0], rel=1e-10)


def test_regression_is_the_mean_of_the_conditional(fitted):
    x = table(holes=0.0, seed=2)[0].iloc[[3]]
    mean, covariance = fitted.regress(x, ["flag", "a"])
    left = fitted.condition(["b", "count", "code"], x[["b", "count", "code"]].to_numpy()[0])
    draws = left.sample(40000, 0)[0][:, [1, 0]]
    assert_allclose(mean[0], (left.weights_ @ left.means_)[[1, 0]], rtol=1e-10)
    assert_allclose(covariance[0], np.cov(draws.T), atol=0.05)


def test_modes_are_highest_over_mixed_columns(fitted):
    x = np.array([np.nan, -1.0, np.nan, np.nan, 1.0])
    found = fitted.impute(pd.DataFrame(x[None], columns=NAMES), how="mode")[0]
    top = fitted.score_samples(pd.DataFrame(found[None], columns=NAMES))[0]
    filled, _ = grid(fitted, x, ["code"])
    best = -np.inf
    for code in range(4):
        for count in range(25):
            many = np.tile(x, (400, 1))
            many[:, 0], many[:, 2], many[:, 3] = np.linspace(-5, 12, 400), count, code
            best = max(best, fitted.score_samples(pd.DataFrame(many, columns=NAMES)).max())
    assert best <= top + 1e-9 and best > top - 1e-3


# --- the fit -----------------------------------------------------------------------------------


def test_it_finds_clusters_of_mixed_columns(fitted):
    X, z = table(seed=5, n=1000)
    alone = [adjusted_rand_score(z, fitted.marginal(j).predict(X[[j]])) for j in NAMES]
    assert adjusted_rand_score(z, fitted.predict(X)) > max(alone) + 0.15
    assert np.diff(fitted.history_).min() > -1e-12


def test_weights_are_repeated_rows():
    X, _ = table()
    weight = np.random.default_rng(1).integers(0, 4, len(X))
    weighted = mixed().fit(X, sample_weight=weight)
    repeated = mixed().fit(X.iloc[np.repeat(np.arange(len(X)), weight)])
    assert_allclose(weighted.score_samples(X), repeated.score_samples(X), rtol=1e-7)


def test_units_change_scores_by_the_jacobian_of_measured_columns(fitted):
    X, _ = table()
    units = np.array([1000.0, 0.01, 1, 1, 1])
    moved = mixed().fit(X * units + [5, -3, 0, 0, 0])
    jacobian = X.notna().to_numpy() @ np.log(units)
    scores = moved.score_samples(X * units + [5, -3, 0, 0, 0])
    assert_allclose(scores + jacobian, fitted.score_samples(X), atol=1e-6)


@pytest.mark.parametrize("structure", ["tied", "diag", "EVE"])
def test_the_structure_is_that_of_each_gaussian_group(structure):
    X, _ = table()
    model = mixed(covariance_type=structure).fit(X)
    assert type(model.emission_.parts[0].cov).__name__ in {"Tied", "Diag", "Turned"}
    again = Mixture.from_parameters(weights=model.weights_, emission=model.emission_)
    assert again.covariance_type == structure
    assert_allclose(again.score_samples(X.to_numpy()), model.score_samples(X), rtol=1e-12)
    if structure != "EVE":  # whose marginals have no common axes
        assert model.marginal(["a", "count"]).covariance_type == structure


def test_batches_lead_where_all_rows_do():
    X, z = table(2000)
    stream = mixed()
    for start in range(0, len(X), 250):
        stream.partial_fit(X.iloc[start : start + 250])
    whole = mixed().fit(X)
    assert whole.score(X) - stream.score(X) < 0.02
    assert adjusted_rand_score(stream.predict(X), whole.predict(X)) > 0.9


def test_a_warm_start_goes_on_and_refuses_another_kind():
    X, _ = table()
    model = mixed(warm_start=True).fit(X)
    before = model.lower_bound_
    assert model.fit(X).lower_bound_ >= before - 1e-12
    model.set_params(emission=[("gaussian", ["b"]), ("student_t", ["a"]), *MIXED[1:]])
    with pytest.raises(ValueError, match="cannot go on from 3 Gaussians of Full in"):
        model.fit(X)


def test_known_labels_name_the_components():
    X, z = table(holes=0.0)
    labels = np.where(np.arange(len(z)) < 60, (z + 1) % 3, -1)
    model = mixed().fit(X, labels=labels)
    assert (model.predict(X) == (z + 1) % 3).mean() > 0.8


# --- which columns -----------------------------------------------------------------------------


def test_constant_columns_leave_their_group():
    X, _ = table()
    wide = X.assign(one=3.0).assign(other=1.0)[["one", "a", "b", "count", "other", "code", "flag"]]
    emission = [("gaussian", ["a", "one", "b"]), *MIXED[1:], ("poisson", ["other"])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = mixed(emission=emission).fit(wide)
    assert_array_equal(model.score_samples(wide), mixed().fit(X).score_samples(X))
    measures = ["lebesgue"] * 3 + ["counting"] * 4
    assert model.base_measure_.tolist() == measures
    part = model.marginal(["other", "b", "one", "flag"])
    expected = model.marginal(["b", "flag"]).score_samples(X[["b", "flag"]])
    assert_array_equal(part.score_samples(wide[["other", "b", "one", "flag"]]), expected)
    assert part.emission == [("gaussian", [1, 2]), ("bernoulli", [3]), ("poisson", [0])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        again = clone(part).fit(wide[["other", "b", "one", "flag"]])
    assert again.base_measure_.tolist() == ["counting", "lebesgue", "lebesgue", "counting"]


def test_columns_are_renumbered_for_parts_of_a_model(fitted):
    part = fitted.marginal(["code", "b", "count"])
    assert part.emission == [("gaussian", [1]), ("poisson", [2]), ("categorical", [0])]
    left = fitted.condition(["a", "count"], [0.0, 3.0])
    assert left.emission == [("gaussian", [0]), ("categorical", [1]), ("bernoulli", [2])]
    X = table()[0][["code", "b", "count"]]
    assert np.isfinite(clone(part).fit(X).score(X))


@pytest.mark.parametrize(
    "emission",
    [
        [("gaussian", [1, 0]), ("poisson", -3), ("categorical", [-2]), ("bernoulli", [4])],
        [
            ("gaussian", slice(2)),
            ("poisson", [2]),
            ("categorical", "code"),
            ("bernoulli", ["flag"]),
        ],
        [
            ("gaussian", np.array([True, True, False, False, False])),
            ("poisson", [False, False, True, False, False]),
            ("categorical", slice(3, 4)),
            ("bernoulli", slice(4, None)),
            ("student_t", slice(5, None)),
            ("student_t", []),
        ],
    ],
)
def test_columns_are_named_as_in_column_transformer(fitted, emission):
    X = table()[0]
    assert_array_equal(mixed(emission=emission).fit(X).score_samples(X), fitted.score_samples(X))


@pytest.mark.parametrize(
    ("emission", "message"),
    [
        (
            [("gaussian", [0, 1])],
            r"exactly once: \['count', 'code', 'flag'\] are in no group, \[\]",
        ),
        ([*MIXED, ("gaussian", ["a"])], r"\[\] are in no group, \['a'\] in more than one"),
        ([("gaussian", ["x"])], r"unknown columns \['x'\]"),
        ([("gaussian", [9])], r"columns must lie in 0..4, got \[9\]"),
        ([("gaussian", ["a"], 3)], r"pairs \(emission, columns\), got \('gaussian', \['a'\], 3\)"),
        ([(MIXED, slice(None))], r"pairs \(emission, columns\)"),
        ([("normal", slice(None))], "emission must be one of"),
        ([], "are in no group"),
    ],
)
def test_groups_that_are_no_partition_are_refused(emission, message):
    with pytest.raises(ValueError, match=message):
        mixed(emission=emission).fit(table()[0])


def test_an_entry_outside_a_support_names_the_columns(fitted):
    X = table()[0].assign(one=1.0)[["one", *NAMES]]
    emission = [("gaussian", ["one"]), *MIXED]
    wrong = X.assign(count=-1.0 * X["count"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with pytest.raises(ValueError, match=r"Poisson\(\) needs counts.*\(columns \['count'\]\)"):
            mixed(emission=emission).fit(wrong)
        by_number = [("gaussian", [0, 1, 2]), ("poisson", [3]), ("categorical", [4])]
        model = mixed(emission=[*by_number, ("bernoulli", [5])]).fit(X.to_numpy())
        with pytest.raises(ValueError, match=r"Categorical\(\) needs codes.*\(columns \[4\]\)"):
            mixed(emission=[*by_number, ("bernoulli", [5])]).fit(
                X.assign(code=0.5 * X["code"]).to_numpy()
            )
    with pytest.raises(ValueError, match=r"got -\d+ \(columns \[3\]\)"):
        model.score_samples(wrong.to_numpy())


def test_groups_of_columns():
    groups = column_groups([slice(2, None), [1, 0]], 4)
    assert [group.tolist() for group in groups] == [[2, 3], [0, 1]]
    assert [group.tolist() for group in column_groups([slice(1, None), 0], 1)] == [[], [0]]


def test_a_list_is_a_parameter_like_any_other(fitted):
    X = table(120)[0]
    choices = [MIXED, [(StudentT(df=4), ["a", "b"]), *MIXED[1:]]]
    search = GridSearchCV(mixed(n_init=1), {"emission": choices}, cv=2).fit(X)
    assert search.best_params_["emission"] in choices
    assert "('poisson', ['count'])" in repr(fitted)
    again = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(again.score_samples(X), fitted.score_samples(X))
