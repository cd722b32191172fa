"""State-space models as scikit-learn estimators: checks, containers, searches, degenerate data."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

from sklvm import DensityOutlierDetector, LatentImputer, LinearGaussianSSM, PerStep, local_level
from sklvm.sequences import distinct, read_sequences
from tests._models import LEFT_OUT_CHECKS, state_equal
from tests._sequences import CONTAINERS, object_array, padded

LENGTHS = (20, 7, 1, 12, 25)
MODELS = {
    "default": LinearGaussianSSM(),
    "free": LinearGaussianSSM(1, initial="free"),
    "level": local_level(),
    "diffuse": LinearGaussianSSM(1, initial="diffuse"),
}


def sequences(lengths=LENGTHS, missing=0.0, seed=0):
    """A state that decays, seen by two channels in units of their own: a list of (T_i, 2)."""
    rng = np.random.default_rng(seed)
    X = []
    for T in lengths:
        z = np.zeros(T + 30)
        for t in range(1, T + 30):
            z[t] = 0.9 * z[t - 1] + rng.standard_normal()
        x = z[30:, None] * [1.0, -30.0] + rng.standard_normal((T, 2)) * [0.5, 20.0] + [0.0, 100.0]
        x[rng.uniform(size=x.shape) < missing] = np.nan
        X.append(x)
    return X


def flat(parts):
    return np.concatenate(list(parts))


# --- scikit-learn -----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
def test_every_check_passes(name):
    results = estimator_checks.check_estimator(clone(MODELS[name]), on_skip=None, on_fail=None)
    assert len(results) >= 50
    not_passed = [r for r in results if r["status"] != "passed"]
    assert [(r["check_name"], r["status"], str(r["exception"])) for r in not_passed] == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("check", LEFT_OUT_CHECKS)
def test_the_checks_that_check_estimator_leaves_out(check):
    getattr(estimator_checks, check)("LinearGaussianSSM", LinearGaussianSSM(1, initial="free"))


@pytest.mark.parametrize("container", [list, object_array, padded], ids=lambda f: f.__name__)
def test_searches_pipelines_and_cross_validation(container):
    X = container(sequences((15,) * 9))
    pipeline = make_pipeline(PerStep(StandardScaler()), LinearGaussianSSM(1))
    assert np.isfinite(cross_val_score(pipeline, X, cv=3)).all()
    grid = {"initial": ["stationary", "free"]}
    search = GridSearchCV(LinearGaussianSSM(1), grid, cv=3).fit(X)
    assert search.best_params_ == {"initial": "stationary"}
    assert pipeline.fit(X).transform(X).shape == (9, 1)


def test_wrappers_take_sequences():
    X = sequences((10,) * 20, missing=0.1)
    odd = X[0] + np.array([40.0, 900.0])
    detector = DensityOutlierDetector(LinearGaussianSSM(1), cv=2, random_state=0).fit(X)
    assert detector.predict([*X[:2], odd])[-1] == -1
    filled = LatentImputer(LinearGaussianSSM(1)).fit(X).transform(X)
    assert not np.isnan(flat(filled)).any()
    assert_array_equal(flat(filled)[~np.isnan(flat(X))], flat(X)[~np.isnan(flat(X))])


def test_fits_pickle_and_clone():
    X = sequences(missing=0.1)
    model = LinearGaussianSSM(1).fit(X)
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.score_samples(X), model.score_samples(X))
    assert state_equal(clone(model).fit(X).state_, model.state_)
    with pytest.raises(AttributeError, match="from_parameters"):
        model.transition_matrix_ = np.eye(1)


# --- sequences --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_the_same_answers(name):
    X = sequences((9, 7, 1, 8, 9, 6, 9), missing=0.1)
    X = [np.where(np.arange(len(x))[:, None] == len(x) - 1, 1.0, x) for x in X]
    there = CONTAINERS[name](X)
    model, other = LinearGaussianSSM(1).fit(X), LinearGaussianSSM(1).fit(there)
    assert_allclose(other.score_samples(there), model.score_samples(X), rtol=1e-12)
    assert_allclose(other.transform(there), model.transform(X), rtol=1e-12)
    assert_allclose(other.forecast(there).mean, model.forecast(X).mean, rtol=1e-12)
    steps = other.smooth(there).mean
    assert_allclose(
        flat(part[: len(x)] for part, x in zip(steps, X)), flat(model.smooth(X).mean), rtol=1e-12
    )


def test_stacked_rows_and_rows_of_numbers():
    X = sequences((8, 8, 8, 8, 8, 8))
    model = LinearGaussianSSM(1).fit(X)
    stacked = LinearGaussianSSM(1).fit(np.concatenate(X), lengths=[8] * 6)
    rows = LinearGaussianSSM(1, n_channels=2).fit(np.stack(X).reshape(6, -1))
    for other in (stacked, rows):
        assert_array_equal(other.score_samples(X), model.score_samples(X))


def test_order_and_repeats_of_sequences_change_no_bit():
    X = sequences(missing=0.1)
    weight = np.array([2, 1, 3, 0, 1])
    model = LinearGaussianSSM(2).fit(X, sample_weight=weight)
    repeated = [x for x, w in zip(X, weight) for _ in range(w)]
    other = LinearGaussianSSM(2).fit(repeated[::-1])
    assert state_equal(other.state_, model.state_)


def test_distinct_sequences_keep_the_weight():
    X = sequences((3, 4, 3), missing=0.2)
    read = read_sequences(LinearGaussianSSM(), [X[0], X[1], X[0], X[2]], reset=True)
    once, weight = distinct(read, np.array([1.0, 2.0, 4.0, 8.0]))
    found = {x.tobytes(): w for x, w in zip(once, weight)}
    assert found == {X[0].tobytes(): 5.0, X[1].tobytes(): 2.0, X[2].tobytes(): 8.0}


def test_what_says_nothing_scores_nothing():
    X = sequences(missing=0.1)
    model = LinearGaussianSSM(1).fit(X)
    silent, empty = np.full((4, 2), np.nan), np.empty((0, 2))
    scores = model.score_samples([silent, empty, X[0]])
    assert scores[0] == scores[1] == 0.0
    assert_allclose(model.transform([silent, empty]), 0.0, atol=1e-12)
    assert_allclose(model.impute([silent])[0], np.tile(model.intercept_, (4, 1)), rtol=1e-12)
    more = LinearGaussianSSM(1).fit([*X, silent, empty])
    assert_array_equal(more.score_samples(X), model.score_samples(X))


def test_a_constant_channel_is_outside_the_density():
    X = sequences(missing=0.1)
    wider = [np.column_stack([x[:, 0], np.full(len(x), 7.0), x[:, 1]]) for x in X]
    with pytest.warns(UserWarning, match=r"columns \[1\] are constant"):
        model = LinearGaussianSSM(1).fit(wider)
    plain = LinearGaussianSSM(1).fit(X)
    assert_allclose(model.score_samples(wider), plain.score_samples(X), rtol=1e-12)
    assert model.observation_matrix_.shape == (3, 1)
    assert model.observation_matrix_[1, 0] == 0.0
    assert (model.impute(wider)[0][:, 1] == 7.0).all()
    assert model.sample(2, 0)[0].shape == (2, model.n_timesteps_, 3)
    assert (model.forecast(wider).covariance[:, :, 1] == 0).all()
    shown = {"transition_covariance": [[1.0]], "observation_matrix": [[1.0], [2.0], [np.nan]]}
    with pytest.warns(UserWarning, match=r"columns \[1\] are constant"):
        model = LinearGaussianSSM(1, **shown).fit(wider)
    assert model.observation_matrix_[:2, 0].tolist() == [1.0, 0.0]
    assert model.observation_matrix_[2, 0] < -10


def test_imputation_knows_how_uncertain_the_parameters_are():
    X = sequences((12,) * 8, missing=0.2)
    model = LinearGaussianSSM(1).fit(X)
    copies = model.impute(X, "sample", 3, 0, parameters="posterior")
    seen = ~np.isnan(flat(X))
    assert all((flat(copy)[seen] == flat(X)[seen]).all() for copy in copies)
    read, rng = read_sequences(model, X, reset=False), np.random.default_rng(0)
    poles = [state.A[0, 0] for state in model._parameter_draws(read, 20, rng)]
    assert abs(np.mean(poles) - model.transition_matrix_[0, 0]) < 0.1
    assert 0.02 < np.std(poles) < 0.2
    with pytest.raises(ValueError, match="it needs two that differ"):
        model.impute([X[0], X[0]], "sample", parameters="posterior")


# --- degenerate data --------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:LinearGaussianSSM did not converge")
@pytest.mark.parametrize("initial", ["stationary", "free", "diffuse"])
@pytest.mark.parametrize("q", [1, 3])
@pytest.mark.parametrize(
    "X",
    [
        sequences((1,) * 8),
        sequences((2,)),
        sequences((9,)),
        [np.repeat(sequences((5,))[0][:, :1], 2, axis=1)] * 3,
        [np.sin(np.arange(60.0))[:, None] * [1.0, 2.0]],
        [1e8 + x for x in sequences((30, 20))],
        [1e-8 * x for x in sequences((30, 20))],
        [np.cumsum(x, axis=0) for x in sequences((40,))],
        [np.arange(40.0)[:, None] * [1.0, -1.0]],
    ],
    ids=["steps", "two", "one", "equal channels", "sine", "offset", "small", "unit root", "line"],
)
def test_degenerate_data_fit(X, q, initial):
    model = LinearGaussianSSM(q, initial=initial, max_iter=60).fit(X)
    assert np.isfinite(model.score_samples(X)).all()
    assert np.isfinite(flat(model.smooth(X).mean)).all()
    assert np.isfinite(model.forecast(X, 2).mean).all()
    assert np.diff(model.history_).min() > -1e-9 * (1 + np.abs(model.history_).max())


def test_parameters_are_drawn_about_the_path_of_a_diffuse_start():
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(T, 1)).cumsum(axis=0) + rng.normal(size=(T, 1)) for T in (28, 30, 32)]
    X[0][4] = np.nan
    copies = []
    for shift in (0.0, 1e8):
        there = [x + shift for x in X]
        copy = local_level().fit(there).impute(there, "sample", 1, 0, parameters="posterior")
        copies.append(copy[0][4, 0] - shift)
    assert copies[1] == pytest.approx(copies[0], abs=1e-2)


def test_noise_in_any_units_is_regular():
    S = np.array([[1.0, 0.5e-12], [0.5e-12, 1e-24]])
    x = np.array([[0.3, 2e-12]])
    one = {"transition_matrix": 0.5 * np.eye(2), "transition_covariance": S}
    model = LinearGaussianSSM.from_parameters(
        **one, observation_matrix=np.eye(2), observation_covariance=S
    )
    correlation = np.array([[1.0, 0.5], [0.5, 1.0]]) * (1 / 0.75 + 1)
    white = np.array([0.3, 2.0])
    square = white @ np.linalg.solve(correlation, white)
    expected = -0.5 * (square + np.linalg.slogdet(2 * np.pi * correlation)[1]) - np.log(1e-12)
    assert model.score_samples([x])[0] == pytest.approx(expected, rel=1e-9)
    assert np.isfinite(
        LinearGaussianSSM(2, transition_covariance=S)._given(np.zeros(2, bool), np.zeros(2, bool)).Q
    ).all()
    with pytest.raises(ValueError, match="regular"):
        LinearGaussianSSM.from_parameters(
            **one, observation_matrix=np.eye(2), observation_covariance=np.ones((2, 2))
        )
