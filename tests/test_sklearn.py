"""Living inside scikit-learn: every check passes, and pipelines, searches and containers work."""

import inspect
import io
import pickle
from dataclasses import fields, is_dataclass
from functools import partial

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

from tests._models import (
    DEFAULTS,
    DISCRETE,
    LABELLED,
    LEFT_OUT_CHECKS,
    MODELS,
    fitted,
    make,
    n_latents,
    rows,
    sized,
    state_equal,
    sweep,
)

EXTRA_CHECKS = {
    **{name: getattr(estimator_checks, name) for name in LEFT_OUT_CHECKS},
    "check_array_api_input_and_values": partial(
        estimator_checks.check_array_api_input_and_values, array_namespace="numpy"
    ),
}
CHECKED = {**DEFAULTS, **MODELS}


@pytest.mark.filterwarnings("ignore")  # the checks fit constant columns, too few iterations, ...
@pytest.mark.parametrize("name", CHECKED)
def test_every_check_passes(name):
    results = estimator_checks.check_estimator(clone(CHECKED[name]), on_skip=None, on_fail=None)
    assert len(results) >= 50  # 53 for a transforming density with sample_weight in 1.9.1
    not_passed = [r for r in results if r["status"] != "passed"]
    assert [(r["check_name"], r["status"], str(r["exception"])) for r in not_passed] == []


# These are about containers, whatever is fitted: a search of the least size does for them.
QUICK = {**DEFAULTS, "AutoGaussianMixture": MODELS["auto"]}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("check", EXTRA_CHECKS)
@pytest.mark.parametrize("name", QUICK)
def test_the_checks_that_check_estimator_leaves_out(name, check):
    estimator = clone(QUICK[name])
    EXTRA_CHECKS[check](type(estimator).__name__, estimator)


@sweep(MODELS)
def test_nothing_is_excused(name):
    tags = MODELS[name].__sklearn_tags__()
    assert not tags.non_deterministic and not tags.no_validation and not tags._skip_test
    assert tags.input_tags.two_d_array and tags.input_tags.allow_nan
    assert tags.estimator_type == "density_estimator"


@sweep(MODELS)
def test_signatures(name):
    model = MODELS[name]
    fit = list(inspect.signature(model.fit).parameters.values())
    assert [p.name for p in fit[:3]] == ["X", "y", "sample_weight"]
    assert all(p.kind is p.KEYWORD_ONLY for p in fit[3:])
    assert list(inspect.signature(model.score).parameters) == ["X", "y", "sample_weight"]
    for verb in ("sample", "impute"):
        assert "random_state" in inspect.signature(getattr(model, verb)).parameters


@sweep(MODELS)
def test_y_is_ignored(name):
    X = rows()
    other = make(name).fit(X, np.arange(len(X)) % 3)
    assert_array_equal(other.score_samples(X), fitted(name).score_samples(X))
    assert other.score(X, np.arange(len(X))) == fitted(name).score(X)


@sweep(MODELS)
def test_score_is_the_mean_as_a_python_float(name):
    model, X = fitted(name), rows()
    scores, weight = model.score_samples(X), np.arange(len(X)) % 4
    assert type(model.score(X)) is float
    assert model.score(X) == pytest.approx(scores.mean(), rel=1e-12)
    weighted = model.score(X, sample_weight=weight)
    assert type(weighted) is float
    assert weighted == pytest.approx(scores @ weight / weight.sum(), rel=1e-12)


@sweep(MODELS)
def test_pipeline_and_grid_search(name):
    step = type(MODELS[name]).__name__.lower()
    search = GridSearchCV(
        make_pipeline(StandardScaler(), make(name)),
        [{f"{step}__{k}": [value]} for n in (1, 2) for k, value in sized(name, n).items()],
        cv=3,
        n_jobs=2,
        error_score="raise",
    )
    search.fit(rows(), np.arange(60) % 2)  # a classifier's y reaches every step
    results = search.cv_results_["mean_test_score"]
    assert np.isfinite(results).all()
    assert search.best_score_ == results.max()
    assert np.isfinite(search.score(rows()))


@sweep(MODELS)
def test_cross_val_score_is_the_held_out_score(name):
    X = rows()
    scores = cross_val_score(make(name), X, cv=2, error_score="raise")
    first = make(name).fit(X[30:]).score(X[:30])
    assert_allclose(scores[0], first, rtol=1e-12)


@sweep(MODELS)
def test_clone_has_parameters_and_no_fit(name):
    copy = clone(fitted(name))
    assert not [attribute for attribute in vars(copy) if attribute.endswith("_")]
    assert repr(copy) == repr(MODELS[name])
    assert_array_equal(copy.fit(rows()).score_samples(rows()), fitted(name).score_samples(rows()))


def _joblib_round_trip(model):
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


@pytest.mark.parametrize("copy", [lambda m: pickle.loads(pickle.dumps(m)), _joblib_round_trip])
@sweep(MODELS)
def test_pickle_and_joblib_keep_every_bit(name, copy):
    model, X = fitted(name, holes=True), rows(holes=True)
    again = copy(model)
    assert vars(again).keys() == vars(model).keys()
    assert state_equal(again.history_, model.history_)
    assert_array_equal(again.score_samples(X), model.score_samples(X))
    assert_array_equal(again.impute(X), model.impute(X))
    assert_array_equal(again.sample(3, random_state=1)[0], model.sample(3, random_state=1)[0])


def _fit_and_score(model, X):
    return model.fit(X).score_samples(X)


def test_processes_and_threads_of_joblib_agree():
    X = rows()
    models = {
        name: make(name) for name in MODELS if name in {"gmm", "mixture-t", "vb", "fa", "vae"}
    }
    here = [fitted(name).score_samples(X) for name in models]
    for backend in ("loky", "threading"):
        there = joblib.Parallel(n_jobs=2, backend=backend)(
            joblib.delayed(_fit_and_score)(clone(m), X) for m in models.values()
        )
        for name, a, b in zip(models, here, there):
            assert_allclose(a, b, rtol=1e-12, atol=1e-12, err_msg=name)


@sweep(MODELS)
def test_set_output_pandas(name):
    X = pd.DataFrame(rows(), columns=["a", "b", "c"], index=np.arange(60) + 1000)
    model = make(name).set_output(transform="pandas").fit(X)
    Z = model.transform(X)
    assert isinstance(Z, pd.DataFrame)
    assert Z.index.equals(X.index)
    prefix = type(model).__name__.lower()
    assert list(Z.columns) == [f"{prefix}{i}" for i in range(n_latents(model))]
    assert list(model.get_feature_names_out()) == list(Z.columns)
    assert_array_equal(Z.to_numpy(), model.set_output(transform="default").transform(X))


@sweep(MODELS)
def test_a_dataframe_gives_what_its_array_gives(name):
    X = pd.DataFrame(rows(holes=True), columns=["a", "b", "c"])
    model = make(name).fit(X)
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    expected = fitted(name, holes=True).score_samples(rows(holes=True))
    assert_allclose(model.score_samples(X), expected, rtol=1e-9)  # the layout in memory differs


@sweep(LABELLED)
def test_metadata_routing_of_weights_and_labels(name):
    X, K = rows(), MODELS[name].n_components
    weight = np.arange(60) % 3 + 1
    labels = np.where(np.arange(60) % 5 == 0, np.arange(60) % K, -1)
    with sklearn.config_context(enable_metadata_routing=True):
        step = make(name).set_fit_request(sample_weight=True, labels=True)
        step.set_score_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipe = make_pipeline(scaler, step).fit(X, sample_weight=weight, labels=labels)
        routed = pipe.score(X, sample_weight=weight)
    Z = StandardScaler().fit_transform(X)
    alone = make(name).fit(Z, sample_weight=weight, labels=labels)
    assert_allclose(routed, alone.score(Z, sample_weight=weight), rtol=1e-12)
    assert abs(routed - make(name).fit(Z).score(Z, sample_weight=weight)) > 1e-6


@sweep(MODELS)
def test_metadata_routing_in_a_search(name):
    weight = (np.arange(60) % 3).astype(float)
    with sklearn.config_context(enable_metadata_routing=True):
        step = make(name).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        grid = [{key: [value]} for n in (1, 2) for key, value in sized(name, n).items()]
        search = GridSearchCV(step, grid, cv=2, error_score="raise")
        search.fit(rows(), sample_weight=weight)
    alone = make(name).set_params(**sized(name, 1))
    alone.fit(rows()[30:], sample_weight=weight[30:])
    expected = alone.score(rows()[:30], sample_weight=weight[:30])
    assert_allclose(search.cv_results_["split0_test_score"][0], expected, rtol=1e-12)


def public_attributes(model):
    """Every fitted attribute that a user finds by dir()."""
    return [a for a in dir(model) if a.endswith("_") and not a.startswith("_")]


@sweep(MODELS)
def test_fitted_attributes_are_read_only(name):
    model = make(name).fit(rows())
    before = pickle.dumps(vars(model))
    attributes = set(public_attributes(model)) - {"n_features_in_", "feature_names_in_"}
    assert attributes >= {"n_iter_", "converged_", "history_", "n_parameters_", "constant_"}
    for attribute in attributes - {"run_", "total_weight_"}:  # kept as they are, not shown
        with pytest.raises(AttributeError, match="read-only.*from_parameters"):
            setattr(model, attribute, getattr(model, attribute))
    for attribute in attributes:
        value = getattr(model, attribute)
        if isinstance(value, np.ndarray):
            with pytest.raises(ValueError, match="read-only"):
                value[...] = 0
    assert pickle.dumps(vars(model)) == before


def arrays_of(value):
    """Every array inside a state, however deep."""
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, dict):
        return [a for part in value.values() for a in arrays_of(part)]
    if isinstance(value, tuple):
        return [a for part in value for a in arrays_of(part)]
    if is_dataclass(value):
        return [a for f in fields(value) for a in arrays_of(getattr(value, f.name))]
    return []


@sweep(MODELS)
def test_the_arrays_of_a_fitted_state_are_read_only(name):
    arrays = arrays_of(make(name).fit(rows()).state_)
    assert len(arrays) >= 3
    assert not any(array.flags.writeable for array in arrays)


@sweep(MODELS)
def test_no_global_random_state_is_touched(name):
    state = np.random.get_state()
    X = rows(holes=True)
    for seed in (3, None):
        model = make(name)
        if "random_state" in model.get_params():
            model.set_params(random_state=seed)
        model.fit(X)
        model.sample(5, random_state=seed)
        model.impute(X, how="sample", random_state=seed)
        model.posterior(X).sample(2, random_state=seed)
    now = np.random.get_state()
    assert now[0] == state[0] and now[2:] == state[2:]
    assert_array_equal(now[1], state[1])


@sweep(MODELS)
def test_a_random_state_object_moves_on(name):
    model, source = fitted(name), np.random.RandomState(0)
    first, second = (model.sample(4, random_state=source)[0] for _ in range(2))
    assert not np.array_equal(first, second)


@sweep(MODELS)
def test_predicting_writes_nothing_into_the_model_or_the_rows(name):
    model, X = make(name).fit(rows(holes=True)), rows(holes=True).copy()
    before, keys = pickle.dumps(vars(model)), list(vars(model))
    for verb in ("score_samples", "transform", "posterior", "elbo", "impute", "aic", "bic"):
        if hasattr(model, verb):
            getattr(model, verb)(X)
    model.impute(X, how="sample", random_state=0)
    model.sample(3, random_state=0)
    if name in DISCRETE:
        model.predict_proba(X)
    assert list(vars(model)) == keys
    assert pickle.dumps(vars(model)) == before
    assert_array_equal(X, rows(holes=True))
