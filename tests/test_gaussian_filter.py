"""Gaussian filters: the Kalman filter on lines, the textbook's steps on curves, fits, sequences."""

import pickle
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

from sklvm import (
    DensityOutlierDetector,
    GaussianFilter,
    LatentImputer,
    LinearGaussianSSM,
    PerStep,
    Unscented,
    local_level,
)
from sklvm.gaussian_filter_fit import maximise
from tests._models import LEFT_OUT_CHECKS, state_equal
from tests._sequences import CONTAINERS
from tests.test_state_space import Dense, diagonal_blocks, drawn, holes, known, parameters

RULES = ("ekf", "ukf", "cubature", "gauss_hermite")
NONLINEAR = ("ekf", "ukf", "cubature")


class Line:
    """z -> z M' + c, which can be pickled."""

    def __init__(self, M, c=0.0):
        self.M, self.c = np.asarray(M), c

    def __call__(self, Z):
        return Z @ self.M.T + self.c


def of(p, rule="ukf", **other):
    """The parameters of a linear model as a Gaussian filter."""
    return GaussianFilter.from_parameters(
        Line(p["transition_matrix"]),
        Line(p["observation_matrix"], p["intercept"]),
        **{name: p[name] for name in p if "covariance" in name or name == "initial_mean"} | other,
        rule=rule,
    )


def flat(parts):
    return np.concatenate([np.ravel(part) for part in parts])


@pytest.fixture(params=[(2, 3), (3, 1)], ids=["wide", "narrow"])
def case(request):
    """A linear model, its parameters, and ragged sequences with gaps, one without any entry."""
    model = known(*request.param)
    X = holes(drawn(model))
    nothing = [np.full((2, request.param[1]), np.nan), np.empty((0, request.param[1]))]
    return model, parameters(*request.param), [*X, *nothing]


# --- lines ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_on_lines_it_is_the_kalman_filter(case, rule):
    kalman, p, X = case
    model, close = of(p, rule), {"rtol": 1e-9, "atol": 1e-9}
    assert_allclose(model.score_samples(X), kalman.score_samples(X), **close)
    assert_array_equal(model.score_samples(X)[-2:], 0.0)
    assert_allclose(flat(model.score_steps(X)), flat(kalman.score_steps(X)), **close)
    for verb in ("filter", "smooth"):
        found, expected = getattr(model, verb)(X), getattr(kalman, verb)(X)
        assert_allclose(flat(found.mean), flat(expected.mean), **close)
        assert_allclose(flat(found.covariance), flat(expected.covariance), **close)
    for found, expected in zip(model.forecast(X, 3), kalman.forecast(X, 3)):
        assert_allclose(found, expected, **close)
    assert_allclose(model.transform(X), kalman.transform(X), **close)
    assert_allclose(flat(model.impute(X)), flat(kalman.impute(X)), **close)
    assert model.score_kind_ == "estimate" and kalman.score_kind_ == "exact"


@pytest.mark.parametrize("rule", RULES)
def test_on_lines_the_posterior_is_that_of_the_kalman_smoother(case, rule):
    kalman, p, X = case
    model, close = of(p, rule), {"rtol": 1e-8, "atol": 1e-8}
    found, expected = model.posterior(X), kalman.posterior(X)
    paths = expected.sample(1, random_state=0)[0]
    assert_allclose(found.log_prob(paths), expected.log_prob(paths), **close)
    for verb in ("entropy", "kl_to_prior", "expected_log_likelihood"):
        assert_allclose(getattr(found, verb)(), getattr(expected, verb)(), **close)
    assert_allclose(sum(model.elbo(X)[:3]), model.score_samples(X), **close)


def test_draws_of_paths_have_their_moments():
    p = parameters(2, 3)
    model, X = of(p), holes(drawn(known()))[:1]
    posterior = model.posterior(X)
    Z = np.array([path[0] for path in posterior.sample(4000, random_state=1)]).reshape(4000, -1)
    mean, covariance, _, _ = Dense(known(), len(X[0])).given(X[0].ravel())
    assert_allclose(posterior.mean[0].ravel(), mean, atol=1e-9)
    sd = np.sqrt(np.diagonal(covariance))
    assert (np.abs(Z.mean(axis=0) - mean) < 5 * sd / np.sqrt(4000)).all()
    assert (np.abs(np.cov(Z.T) - covariance) < 5 * np.outer(sd, sd) * np.sqrt(2 / 4000)).all()
    log_q = posterior.log_prob([Z[0].reshape(-1, 2)])
    assert log_q == pytest.approx(multivariate_normal(mean, covariance).logpdf(Z[0]), abs=1e-8)


def correlated():
    """Parameters with correlated observation noise, and what `Dense` reads of them."""
    p = parameters(2, 3)
    half = np.random.default_rng(5).normal(size=(3, 3))
    p["observation_covariance"] = half @ half.T + 0.3 * np.eye(3)
    shown = SimpleNamespace(**{f"{name}_": np.asarray(value) for name, value in p.items()})
    return p, shown


@pytest.mark.parametrize("rule", RULES)
def test_correlated_noise_with_gaps_is_the_dense_gaussian(rule):
    p, shown = correlated()
    model, X = of(p, rule), holes(drawn(known()))
    filled, ahead, terms = model.impute(X), model.forecast(X, 1), model.elbo(X)
    for i, x in enumerate(X):
        dense = Dense(shown, len(x) + 1)
        longer = np.vstack([x, np.full((1, 3), np.nan)])
        z, cov, mean, x_cov = dense.given(longer.ravel())
        score = Dense(shown, len(x)).log_prob(x.ravel())
        assert model.score_samples([x])[0] == pytest.approx(score, abs=1e-9)
        assert_allclose(model.smooth([x]).mean[0], z.reshape(-1, 2)[:-1], atol=1e-9)
        assert_allclose(filled[i], np.where(np.isnan(x), mean.reshape(-1, 3)[:-1], x), atol=1e-9)
        assert_allclose(ahead.covariance[i, 0], diagonal_blocks(x_cov, 3)[-1], atol=1e-9)
    assert_allclose(sum(terms[:3]), model.score_samples(X), atol=1e-9)


def test_imputed_draws_have_the_imputed_mean():
    p, _ = correlated()
    model, X = of(p), holes(drawn(known()))[:1]
    draws = np.array([c[0] for c in model.impute(X, "sample", n_draws=300, random_state=0)])
    gap = (draws - model.impute(X)[0])[:, np.isnan(X[0])]
    assert (np.abs(gap.mean(axis=0)) < 5 * gap.std(axis=0) / np.sqrt(300)).all()
    both = np.cov(gap.T)
    dense = Dense(correlated()[1], len(X[0])).given(X[0].ravel())[3]
    missing = np.isnan(X[0]).ravel()
    expected = dense[np.ix_(missing, missing)]
    sd = np.sqrt(np.diagonal(expected))
    assert (np.abs(both - expected) < 5 * np.outer(sd, sd) * np.sqrt(2 / 300)).all()


def test_a_state_that_nothing_disturbs_and_one_that_is_known():
    clock = np.array([[1.0, 1.0], [0.0, 1.0]])  # the second component is a constant step
    p = parameters(2, 1) | {
        "transition_matrix": clock,
        "transition_covariance": np.diag([0.3, 0.0]),
        "initial_mean": np.array([0.0, 0.5]),
        "initial_covariance": np.diag([1.0, 0.0]),
    }
    kalman = LinearGaussianSSM.from_parameters(**p)
    X = holes(drawn(kalman))
    for rule in RULES:
        model = of(p, rule)
        assert_allclose(model.score_samples(X), kalman.score_samples(X), atol=1e-9)
        assert_allclose(flat(model.smooth(X).mean), flat(kalman.smooth(X).mean), atol=1e-9)
        assert_allclose(flat(model.smooth(X).mean).reshape(-1, 2)[:, 1], 0.5, rtol=1e-12)
        with pytest.raises(ValueError, match="the states have no density"):
            model.posterior(X).entropy()


def test_a_known_direction_that_is_no_axis():
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    p = parameters(3, 2) | {
        "transition_matrix": turn @ np.diag([0.9, 0.8, 1.0]) @ turn.T,
        "transition_covariance": turn @ np.diag([1.0, 0.5, 0.0]) @ turn.T,
        "initial_covariance": turn @ np.diag([1.0, 2.0, 0.0]) @ turn.T,
    }
    kalman = LinearGaussianSSM.from_parameters(**p)
    X = holes(drawn(kalman, (40, 5)))
    for rule in RULES:
        found, expected = of(p, rule).smooth(X), kalman.smooth(X)
        assert_allclose(flat(found.mean), flat(expected.mean), atol=1e-7)
        assert_allclose(flat(found.covariance), flat(expected.covariance), atol=1e-7)


@pytest.mark.parametrize("rule", RULES)
def test_precise_steps_leave_covariances_positive(rule):
    p = parameters(3, 2) | {"observation_covariance": np.full(2, 1e-12)}
    p["initial_covariance"] = 1e6 * np.eye(3)
    kalman = LinearGaussianSSM.from_parameters(**p)
    X = drawn(kalman, (30,))
    states = of(p, rule).smooth(X)
    assert np.linalg.eigvalsh(states.covariance[0]).min() >= 0
    expected = kalman.smooth(X)
    sd = np.sqrt(np.diagonal(expected.covariance[0], axis1=1, axis2=2))
    scale = np.maximum(sd, 1e-6)
    assert (np.abs(states.mean[0] - expected.mean[0]) < 1e-2 * scale).all()


# --- curves: the textbook, step by step -------------------------------------------------------


def swing(Z, dt=0.1):
    angle, speed = Z.T
    return np.stack([angle + dt * speed, speed - 9.81 * dt * np.sin(angle)], axis=1)


def swing_jacobian(Z, dt=0.1):
    J = np.tile([[1.0, dt], [0.0, 1.0]], (len(Z), 1, 1))
    J[:, 1, 0] = -9.81 * dt * np.cos(Z[:, 0])
    return J


def shadow(Z):
    return np.stack([np.sin(Z[:, 0]), np.cos(Z[:, 0]) * Z[:, 1]], axis=1)


def shadow_jacobian(Z):
    s, c = np.sin(Z[:, 0]), np.cos(Z[:, 0])
    return np.moveaxis(np.array([[c, 0 * c], [-s * Z[:, 1], c]]), -1, 0)


PENDULUM = {
    "transition_covariance": np.array([[1e-3, 2e-4], [2e-4, 2e-2]]),
    "observation_covariance": np.array([[0.1, 0.02], [0.02, 0.3]]),
    "initial_mean": [1.2, 0.0],
    "initial_covariance": [0.3, 0.5],
}
JACOBIANS = {"transition_jacobian": swing_jacobian, "observation_jacobian": shadow_jacobian}


def pendulum(rule="ukf", **other):
    return GaussianFilter.from_parameters(swing, shadow, **PENDULUM, rule=rule, **other)


def textbook_moments(rule, f, jacobian, m, P):
    """E f, Cov f and Cov(z, f), by weights and points or by the tangent (Särkkä 2013, ch. 5, 6)."""
    q = len(m)
    if rule == "ekf":
        J = jacobian(m[None])[0]
        return f(m[None])[0], J @ P @ J.T, P @ J.T
    kappa = {"ukf": 3.0 - q, "cubature": 0.0}[rule]
    steps = np.sqrt(q + kappa) * np.linalg.cholesky(P).T
    Z = np.concatenate([m[None], m + steps, m - steps])
    w = np.r_[kappa, np.full(2 * q, 0.5)] / (q + kappa)
    Y = f(Z)
    mean = w @ Y
    return mean, (w[:, None] * (Y - mean)).T @ (Y - mean), (w[:, None] * (Z - m)).T @ (Y - mean)


def textbook(rule, x):
    """Filtered and smoothed means and covariances and the log density of one sequence, plainly."""
    Q, R = PENDULUM["transition_covariance"], PENDULUM["observation_covariance"]
    m, P = np.array(PENDULUM["initial_mean"]), np.diag(PENDULUM["initial_covariance"])
    filtered, moves, score = [], [], 0.0
    for t, row in enumerate(x):
        if t:
            mean, S, C = textbook_moments(rule, swing, swing_jacobian, m, P)
            moves.append((mean, S + Q, C))
            m, P = mean, S + Q
        seen = ~np.isnan(row)
        if seen.any():
            mean, S, C = textbook_moments(rule, shadow, shadow_jacobian, m, P)
            S, C = (S + R)[np.ix_(seen, seen)], C[:, seen]
            K = np.linalg.solve(S, C.T).T
            score += multivariate_normal(mean[seen], S).logpdf(row[seen])
            m, P = m + K @ (row - mean)[seen], P - K @ S @ K.T
        filtered.append((m, P))
    smoothed = [(m, P)]
    for (m, P), (mean, S, C) in zip(filtered[-2::-1], moves[::-1]):
        G = np.linalg.solve(S, C.T).T
        ms, Ps = smoothed[-1]
        smoothed.append((m + G @ (ms - mean), P + G @ (Ps - S) @ G.T))
    return filtered, smoothed[::-1], score


@pytest.mark.parametrize("jacobians", [{}, JACOBIANS], ids=["differences", "jacobians"])
@pytest.mark.parametrize("rule", NONLINEAR)
def test_on_curves_it_is_the_textbook(rule, jacobians):
    model = pendulum(rule, **jacobians)
    X, _ = model.sample(2, random_state=3, n_timesteps=25)
    X = [*holes(list(X)), X[0][:1]]
    filtered, smoothed, scores = model.filter(X), model.smooth(X), model.score_samples(X)
    for i, x in enumerate(X):
        there = textbook(rule, x)
        assert scores[i] == pytest.approx(there[2], abs=1e-8)
        for found, expected in zip((filtered, smoothed), there):
            assert_allclose(found.mean[i], [m for m, _ in expected], atol=1e-8)
            assert_allclose(found.covariance[i], [P for _, P in expected], atol=1e-8)


def test_curved_rules_beat_the_tangent():
    errors = {}
    X, Z = pendulum().sample(40, random_state=0, n_timesteps=40)
    for rule in RULES:
        error = pendulum(rule).filter(X).mean - Z
        errors[rule] = np.sqrt((error[..., 0] ** 2).mean())
    assert max(errors["ukf"], errors["cubature"], errors["gauss_hermite"]) < 0.97 * errors["ekf"]


def test_scores_do_not_depend_on_the_company():
    model = pendulum()
    X, _ = model.sample(6, random_state=1, n_timesteps=12)
    X = [x[:T] for x, T in zip(holes(list(X)), (12, 3, 7, 1, 12, 9))]
    alone = [model.score_samples([x])[0] for x in X]
    assert_allclose(model.score_samples(X), alone, rtol=1e-12)
    assert_allclose(model.score_samples(X[::-1])[::-1], alone, rtol=1e-12)


def test_a_stream_says_what_the_filter_says():
    model = pendulum()
    x = holes(list(model.sample(1, random_state=2, n_timesteps=9)[0]))[0]
    states, steps, state = model.filter([x]), model.score_steps([x])[0], None
    for t, row in enumerate(x):
        state = model.filter_update(row, state)
        assert_allclose(state.mean, states.mean[0][t], atol=1e-10)
        assert_allclose(state.covariance, states.covariance[0][t], atol=1e-10)
        assert state.log_density == pytest.approx(steps[t], abs=1e-9)
    with pytest.raises(TypeError, match="what filter_update returned, got tuple"):
        model.filter_update(x[0], (0, 1))


def test_forecasts_are_predictions_of_unseen_steps():
    model = pendulum()
    x = model.sample(1, random_state=2, n_timesteps=8)[0][0]
    longer = np.vstack([x, np.full((3, 2), np.nan)])
    ahead, states = model.forecast([x], 3), model.filter([longer])
    assert_allclose(ahead.state_mean[0], states.mean[0][8:], atol=1e-12)
    assert_allclose(ahead.state_covariance[0], states.covariance[0][8:], atol=1e-12)
    low, high = ahead.interval(0.9)
    assert (low < high).all()


@pytest.mark.parametrize("rule", RULES)
def test_sequences_without_steps(rule):
    model, X = pendulum(rule), [np.empty((0, 2))]
    assert_allclose(model.forecast(X, 1).state_mean[0, 0], PENDULUM["initial_mean"])
    assert_allclose(model.transform(X)[0], PENDULUM["initial_mean"])
    assert model.score_samples(X).tolist() == [0.0]
    assert model.smooth(X).mean[0].shape == model.impute(X)[0].shape == (0, 2)
    assert model.posterior(X).entropy().tolist() == [0.0]
    assert np.array(sum(model.elbo(X)[:3])).tolist() == [0.0]
    one_by_one = GaussianFilter.from_parameters(
        lambda Z: np.stack([swing(z[None])[0] for z in Z]), shadow, **PENDULUM, rule=rule
    )
    X = [pendulum().sample(1, 0, n_timesteps=3)[0][0], *X]
    assert_allclose(one_by_one.score_samples(X), model.score_samples(X), rtol=1e-12)
    assert_allclose(one_by_one.forecast(X[1:]).mean, model.forecast(X[1:]).mean, rtol=1e-12)


# --- fits -------------------------------------------------------------------------------------


def levels(lengths=(40, 25, 1, 30), d=1, missing=0.1, seed=0):
    """Levels that walk, in units of their own."""
    rng = np.random.default_rng(seed)
    X = []
    for T in lengths:
        x = rng.normal(size=(T, d)).cumsum(axis=0) + 0.7 * rng.normal(size=(T, d))
        x = (x + 2.0) * np.array([1.0, 40.0])[:d]
        x[rng.uniform(size=x.shape) < missing] = np.nan
        X.append(x)
    X[2][:] = 1.5
    return X


@pytest.fixture(scope="module")
def fitted():
    return GaussianFilter().fit(levels())


def test_the_default_is_a_local_level_by_maximum_likelihood(fitted):
    X = levels()
    first = {"initial_mean": fitted.initial_mean_, "initial_covariance": fitted.initial_covariance_}

    def score(q, r):
        p = {"transition_covariance": [[q]], "observation_covariance": [r], **first}
        one = {"transition_matrix": [[1.0]], "observation_matrix": [[1.0]]}
        return LinearGaussianSSM.from_parameters(**one, **p).score(X)

    q, r = fitted.transition_covariance_[0, 0], fitted.observation_covariance_[0, 0]
    best = fitted.score(X)
    assert best == pytest.approx(score(q, r), rel=1e-12)
    assert fitted.history_[-1] * np.isfinite(flat(X)).sum() == pytest.approx(4 * best)
    assert best > max(
        score(1.05 * q, r), score(q / 1.05, r), score(q, 1.05 * r), score(q, r / 1.05)
    )
    assert fitted.converged_ and (np.diff(fitted.history_) >= -1e-12).all()
    assert fitted.n_parameters_ == 3
    diffuse = local_level().fit(X)
    assert q == pytest.approx(diffuse.transition_covariance_[0, 0], rel=0.1)


def test_the_slope_of_the_objective_is_zero_at_the_end():
    X, _ = pendulum().sample(8, random_state=5, n_timesteps=25)
    model = GaussianFilter(
        swing,
        shadow,
        transition_covariance=[1e-3, np.nan],
        observation_covariance=np.nan,
        initial_mean=[np.nan, 0.0],
        initial_covariance=[0.3, 0.5],
        n_channels=2,
        tol=1e-12,
    ).fit(X)
    assert model.n_parameters_ == 4 and model.transition_covariance_[0, 0] == 1e-3
    assert model.initial_mean_[1] == 0.0
    state, read = model.state_, model._read(X)
    for step in 1e-3 * np.eye(4):
        up, down = (state.unpack(s * step).log_prob(read).sum() for s in (1, -1))
        assert abs(up - down) / 2e-3 / 400 < 1e-5
    assert 0.05 < model.observation_covariance_[0, 0] < 0.2
    assert 0.15 < model.observation_covariance_[1, 1] < 0.6
    assert 0.005 < model.transition_covariance_[1, 1] < 0.08


def test_what_is_given_stays():
    given = {
        "transition_covariance": [[0.5, 0.1], [0.1, 0.4]],
        "observation_covariance": [0.3, 2.0],
        "initial_mean": [1.0, 2.0],
        "initial_covariance": 3.0,
    }
    X = levels(d=2)
    model = GaussianFilter(**given, n_channels=2).fit(X)
    assert_array_equal(model.transition_covariance_, given["transition_covariance"])
    assert_array_equal(model.observation_covariance_, np.diag([0.3, 2.0]))
    assert_array_equal(model.initial_covariance_, 3.0 * np.eye(2))
    assert model.n_parameters_ == 0 and model.n_iter_ == 1 and model.converged_
    same = GaussianFilter.from_parameters(**given)
    assert_array_equal(same.score_samples(X), model.score_samples(X))
    with pytest.raises(AttributeError, match="read-only.*from_parameters"):
        model.initial_mean_ = np.zeros(2)


def test_weights_are_counts_and_order_is_none():
    X, weight = levels(), np.array([2, 1, 0, 3])
    model = GaussianFilter().fit(X, sample_weight=weight)
    repeated = [x for x, w in zip(X, weight) for _ in range(w)]
    other = GaussianFilter().fit(repeated[::-1])
    assert state_equal(other.state_, model.state_)
    assert_array_equal(other.score_samples(X), model.score_samples(X))
    assert model.bic(X, sample_weight=weight) == pytest.approx(other.bic(repeated))


@pytest.mark.parametrize(("scale", "shift"), [(1e-6, 0.0), (1e4, 5.0), (1.0, 1e6)])
def test_units_change_scores_by_the_jacobian(fitted, scale, shift):
    X = levels()
    there = [scale * (x + shift) for x in X]
    moved = GaussianFilter().fit(there)
    seen = np.array([np.isfinite(x).sum() for x in X])
    expected = fitted.score_samples(X) - seen * np.log(scale)
    assert_allclose(moved.score_samples(there), expected, rtol=1e-6)


def test_states_are_measured_by_what_shows_them():
    X = [x * 1e5 for x in levels(missing=0.0)]

    def move(Z):
        return np.stack([Z[:, 0] + 0.1 * Z[:, 1], Z[:, 1]], axis=1)

    model = GaussianFilter(move, n_components=2).fit(X)
    position, speed = model.state_.unit
    assert position == pytest.approx(np.concatenate(X).std(), rel=1e-6)
    assert speed == pytest.approx(position / 0.1, rel=1e-6)
    assert model.initial_mean_.shape == (2,) and np.isfinite(model.score(X))


def test_a_constant_channel_is_outside_the_density():
    X = levels(d=2)
    wider = [np.insert(x, 1, 7.0, axis=1) for x in X]
    with pytest.warns(UserWarning, match=r"columns \[1\] are constant"):
        model = GaussianFilter(n_components=3, n_channels=3).fit(wider)
    assert (model.impute(wider)[0][:, 1] == 7.0).all()
    assert model.observation_covariance_[1, 1] == 0.0
    assert (model.forecast(wider).covariance[:, :, 1] == 0).all()
    plain = GaussianFilter(Line(np.eye(3)), Line(np.eye(3)[[0, 2]]), n_components=3).fit(X)
    assert np.isfinite(plain.score(X)) and np.isfinite(model.score(wider))


def test_channels_of_a_model_are_a_model():
    p, shown = correlated()
    X = holes(drawn(known()))
    model = of(p)
    part = model.marginal([2, 0])
    seen = [np.where([True, False, True], x, np.nan) for x in X]
    expected = model.score_samples(seen)
    assert_allclose(part.score_samples([x[:, [2, 0]] for x in X]), expected, rtol=1e-10)
    again = clone(part).fit([x[:, [2, 0]] for x in X])
    assert_allclose(again.score_samples([x[:, [2, 0]] for x in X]), expected, rtol=1e-10)
    assert pickle.loads(pickle.dumps(part)).score([x[:, [2, 0]] for x in X]) == part.score(
        [x[:, [2, 0]] for x in X]
    )


def test_imputation_knows_how_uncertain_the_parameters_are(fitted):
    X = levels()
    copies = fitted.impute(X, "sample", 3, 0, parameters="posterior")
    seen = ~np.isnan(flat(X))
    assert all((flat(copy)[seen] == flat(X)[seen]).all() for copy in copies)
    states = fitted._parameter_draws(fitted._read(X), 6, np.random.default_rng(0))
    assert np.std([np.log(state.Q[0, 0]) for state in states]) > 0.02


def test_too_few_iterations_are_reported():
    with pytest.warns(ConvergenceWarning, match=r"did not converge in 1 iteration.*max_iter"):
        GaussianFilter(max_iter=1).fit(levels())


# --- scikit-learn, containers -----------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_every_check_passes():
    results = estimator_checks.check_estimator(GaussianFilter(), on_skip=None, on_fail=None)
    assert len(results) >= 50
    not_passed = [r for r in results if r["status"] != "passed"]
    assert [(r["check_name"], r["status"], str(r["exception"])) for r in not_passed] == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("check", LEFT_OUT_CHECKS)
def test_the_checks_that_check_estimator_leaves_out(check):
    short = GaussianFilter(transition_covariance=1.0, rule="ekf", max_iter=2)
    getattr(estimator_checks, check)("GaussianFilter", short)


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_the_same_answers(name):
    X = levels((6, 4, 1, 5), d=2, missing=0.2)
    X = [np.where(np.arange(len(x))[:, None] == len(x) - 1, 1.0, x) for x in X]
    model = GaussianFilter(initial_mean=[2.0, 60.0], max_iter=20, tol=1e-3)
    there = CONTAINERS[name](X)
    plain, other = model.fit(X), clone(model).fit(there)
    assert_allclose(other.score_samples(there), plain.score_samples(X), rtol=1e-12)
    assert_allclose(other.transform(there), plain.transform(X), rtol=1e-12)
    found = [part[: len(x)] for part, x in zip(other.smooth(there).mean, X)]
    assert_allclose(flat(found), flat(plain.smooth(X).mean), rtol=1e-12)


def test_searches_pipelines_and_wrappers():
    X = levels((8,) * 9, d=2, missing=0.0)
    few = {"max_iter": 20, "tol": 1e-3, "n_channels": 2}
    pipeline = make_pipeline(PerStep(StandardScaler()), GaussianFilter(**few))
    grid = {"gaussianfilter__rule": ["ekf", Unscented(beta=2.0)]}
    search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(X)
    assert np.isfinite(search.best_score_)
    odd = X[0] + 500.0
    detector = DensityOutlierDetector(GaussianFilter(**few), cv=2, random_state=0).fit(X)
    assert detector.predict([*X[:2], odd])[-1] == -1
    gaps = levels((8,) * 9, d=2, missing=0.2)
    filled = LatentImputer(GaussianFilter(**few)).fit(gaps).transform(gaps)
    assert not np.isnan(flat(filled)).any()


def test_fits_pickle_and_randomness_is_an_argument():
    X = holes(drawn(known()))
    model = of(parameters(2, 3))
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.score_samples(X), model.score_samples(X))
    for draw in (
        lambda seed: model.sample(2, seed, n_timesteps=3)[0],
        lambda seed: flat(model.impute(X, "sample", random_state=seed)),
        lambda seed: flat(model.posterior(X).sample(1, random_state=seed)[0]),
    ):
        assert_array_equal(draw(4), draw(4))
        assert not np.array_equal(draw(4), draw(5))
        assert not np.array_equal(draw(None), draw(None))


# --- refusals ---------------------------------------------------------------------------------


def one_state(Z):
    return np.array([Z[0], Z[1]])


def mixing(Z):
    return Z - Z.mean(axis=0)


def change(Z):
    Z += 1
    return Z


REFUSED = {
    "no rows": ({"transition": one_state}, r"shape \(\d+, 2\) for \d+ states.*np.stack"),
    "mixing": ({"transition": mixing}, "transition gives a state another value beside others"),
    "in place": ({"transition": change}, "read-only"),
    "NaN": ({"observation": lambda Z: Z * np.nan}, "observation returned NaN or infinity"),
    "width": ({"observation": lambda Z: Z[:, :1]}, r"observation must return .*, 2\)"),
    "too narrow": ({"n_components": 1}, "n_components=1 is less than 2 channels: give observation"),
    "Q": ({"transition_covariance": [1.0, 2.0, 3.0]}, "transition_covariance must be finite"),
    "indefinite": ({"transition_covariance": [[1, 2], [2, 1]]}, "positive semi-definite"),
    "singular": ({"observation_covariance": [1.0, 0.0]}, "observation_covariance must be positive"),
    "half free": ({"initial_covariance": [[np.nan, 1], [1, 2]]}, "NaN .free. must be a diagonal"),
    "mean": ({"initial_mean": [1.0, np.inf]}, "initial_mean must be finite"),
    "rule": ({"rule": "ukf2"}, "The 'rule' parameter of GaussianFilter"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused(name):
    params, message = REFUSED[name]
    model = GaussianFilter(**params)
    with pytest.raises(ValueError, match=message):
        model.fit(levels(d=2))
    assert not hasattr(model, "n_features_in_")


def test_from_parameters_needs_numbers():
    given = {"transition_covariance": 1.0, "initial_mean": [0.0], "initial_covariance": 1.0}
    with pytest.raises(ValueError, match="needs numbers, got NaN"):
        GaussianFilter.from_parameters(observation_covariance=[np.nan], **given)


# --- where a fit starts -----------------------------------------------------------------------


class Curve:
    """Rows of z / unit, bent."""

    def __init__(self, unit):
        self.unit = np.asarray(unit)

    def __call__(self, Z):
        return 3 * np.sinh(Z / self.unit / 3)


@pytest.mark.parametrize("d, unit", [(1, [1e-6]), (2, [1.0, 1e12])])
def test_units_of_states_have_no_part(d, unit):
    X = levels((15, 10, 2), d=d, missing=0.0)
    X = [x / np.array([1.0, 40.0])[:d] for x in X]
    fits = [GaussianFilter(observation=Curve(u)).fit(X) for u in (np.ones(d), unit)]
    scores = [fit.score_samples(X) for fit in fits]
    assert_allclose(scores[1], scores[0], rtol=1e-6)
    assert_allclose(fits[1].initial_mean_ / unit, fits[0].initial_mean_, rtol=1e-3, atol=1e-3)


def test_first_means_start_where_the_channels_are():
    X = levels((15, 10, 2), missing=0.0)
    fits = [GaussianFilter(observation=Line([[2.0]])).fit([x + c for x in X]) for c in (0.0, 1e7)]
    assert fits[1].initial_mean_[0] - 5e6 == pytest.approx(fits[0].initial_mean_[0], abs=1e-3)
    scores = [fit.score([x + c for x in X]) for fit, c in zip(fits, (0.0, 1e7))]
    assert scores[1] == pytest.approx(scores[0], rel=1e-6)


def test_a_first_mean_at_its_bound_is_told():
    X = levels((6, 5, 2), missing=0.0)
    model = GaussianFilter().fit(X)
    begin = model.state_
    read, weight = model._counts(X, None)
    far = replace(begin, mean=begin.mean - 2e6 * begin.unit)
    with pytest.warns(ConvergenceWarning, match="stopped at the bound"):
        maximise(far, read, weight, max_iter=200, tol=1e-8, callback=None)


def test_parameters_of_one_sequence_have_no_posterior():
    X = levels((6, 6, 2), missing=0.0)[:1]
    model = GaussianFilter(max_iter=50).fit([X[0], X[0]])
    with pytest.raises(ValueError, match="needs two that differ"):
        model.impute([X[0], X[0]], "sample", parameters="posterior")


def test_units_of_noise_have_no_part_in_what_is_valid_and_in_divergences():
    X = [x / np.array([1.0, 40.0]) for x in levels((6, 5, 2), d=2, missing=0.0)]
    terms = []
    for scale in (1.0, 1e-8, 1e-20):
        unit = np.array([1.0, scale])
        S = np.array([[1.0, 0.3], [0.3, 0.5]]) * np.outer(unit, unit)
        model = GaussianFilter.from_parameters(
            transition_covariance=S,
            observation_covariance=S,
            initial_mean=[0.0, 0.0],
            initial_covariance=S,
        )
        terms.append(model.posterior([x * unit for x in X]).kl_to_prior())
    assert_allclose(terms[1:], [terms[0]] * 2, rtol=1e-6)
    with pytest.raises(ValueError, match="positive definite"):
        GaussianFilter(observation_covariance=np.ones((2, 2))).fit(X)
