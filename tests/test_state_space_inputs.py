"""State-space models with inputs and correlated noise: the dense joint Gaussian, reductions."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklvm import EMFactorAnalysis, LinearGaussianSSM, PerStep
from sklvm.inference.em import em, evaluate
from tests._sequences import padded
from tests.test_state_space import Dense, chains_of, diagonal_blocks, holes, parameters

INPUTS = np.array([False, True, False, True, False])  # of columns: three outputs, two inputs
B = np.array([[1.0, -0.5], [0.3, 2.0]])
D = np.array([[0.0, 1.0], [-2.0, 0.5], [1.5, 0.0]])


def known(**changes):
    half = np.random.default_rng(5).standard_normal((3, 4))
    given = {
        **parameters(2, 3),
        "observation_covariance": half @ half.T,
        "input_matrix": B,
        "feedthrough_matrix": D,
        "input_columns": np.flatnonzero(INPUTS),
    }
    return LinearGaussianSSM.from_parameters(**{**given, **changes})


def stationary(**changes):
    first = {"initial_mean": None, "initial_covariance": None}
    return known(**first, transition_covariance=np.eye(2), **changes)


def drawn(model, lengths, seed=0, share=0.2):
    """Sequences with inputs, and holes among the outputs."""
    rng, X = np.random.default_rng(seed), []
    for T in lengths:
        u = rng.standard_normal((T, 2)) * [1.0, 3.0] + [1.0, 0.0]
        X.append(model.sample(1, rng.integers(2**31), inputs=u)[0][0])
    some = holes([x[:, ~INPUTS] for x in X], share, seed)
    for x, outputs in zip(X, some):
        x[:, ~INPUTS] = outputs
    return X


class Given(Dense):
    """The dense Gaussian of the outputs, given the inputs."""

    def __init__(self, model, x):
        super().__init__(model, len(x))
        u, mean = x[:, INPUTS], model.initial_mean_
        means = [mean]
        for now in u[1:]:
            means.append(model.transition_matrix_ @ means[-1] + model.input_matrix_ @ now)
        self.z_mean = np.concatenate(means)
        shift = u @ model.feedthrough_matrix_.T + model.intercept_
        self.x_mean = self.C @ self.z_mean + shift.ravel()


@pytest.fixture(scope="module")
def case():
    model = known()
    return model, drawn(model, (6, 1, 4))


@pytest.fixture(scope="module", params=["diag", "full"])
def fit(request):
    noise = {"full": known().observation_covariance_, "diag": [1.0, 2.0, 0.7]}[request.param]
    X = drawn(stationary(observation_covariance=noise), (60, 40, 30), 1)
    return LinearGaussianSSM(2, observation_noise=request.param, input_columns=[1, 3]).fit(X), X


# --- every verb is the dense Gaussian given the inputs ------------------------------------------


def test_verbs_are_the_dense_conditional(case):
    model, X = case
    scores, smoothed, filled = model.score_samples(X), model.smooth(X), model.impute(X)
    filtered, terms, posterior = model.filter(X), model.elbo(X), model.posterior(X)
    paths = posterior.sample(1, random_state=0)[0]
    log_prob = posterior.log_prob(paths)
    for i, x in enumerate(X):
        dense, y = Given(model, x), x[:, ~INPUTS]
        z, cov, mean, _ = dense.given(y.ravel())
        assert_allclose(scores[i], dense.log_prob(y.ravel()), rtol=1e-9)
        assert_allclose(smoothed.mean[i].ravel(), z, atol=1e-9)
        assert_allclose(smoothed.covariance[i], diagonal_blocks(cov, 2), atol=1e-9)
        assert_allclose(filtered.mean[i][-1], z[-2:], atol=1e-9)
        expected = np.where(np.isnan(y), mean.reshape(y.shape), y)
        assert_allclose(filled[i][:, ~INPUTS], expected, atol=1e-9)
        assert_array_equal(filled[i][:, INPUTS], x[:, INPUTS])
        gap = paths[i].ravel() - z
        normal = -0.5 * (gap @ np.linalg.solve(cov, gap) + np.linalg.slogdet(2 * np.pi * cov)[1])
        assert_allclose(log_prob[i], normal, atol=1e-7)
    assert_allclose(sum(terms[:3]), scores, rtol=1e-9)
    assert_allclose([step.sum() for step in model.score_steps(X)], scores, rtol=1e-9)


def test_forecasts_are_given_the_inputs_to_come(case):
    model, X = case
    u = np.random.default_rng(3).standard_normal((len(X), 2, 2))
    ahead = model.forecast(X, 2, inputs=u)
    for i, x in enumerate(X):
        longer = np.full((len(x) + 2, 5), np.nan)
        longer[: len(x)], longer[len(x) :, INPUTS] = x, u[i]
        dense = Given(model, longer)
        _, _, mean, cov = dense.given(longer[:, ~INPUTS].ravel())
        assert_allclose(ahead.mean[i][:, ~INPUTS].ravel(), mean[-6:], atol=1e-9)
        blocks = diagonal_blocks(cov, 3)[len(x) :]
        assert_allclose(ahead.covariance[i][:, ~INPUTS][:, :, ~INPUTS], blocks, atol=1e-9)
        assert_array_equal(ahead.mean[i][:, INPUTS], u[i])
        assert (ahead.covariance[i][:, INPUTS] == 0).all()
    shared = model.forecast(X, 2, inputs=u[0])
    assert_array_equal(shared.mean[0], ahead.mean[0])
    with pytest.raises(ValueError, match="the model has 2 inputs, got inputs=None"):
        model.forecast(X)


def test_draws_have_the_dense_moments():
    model = known()
    (x,) = drawn(model, (3,), 4, 0.4)
    _, _, mean, cov = Given(model, x).given(x[:, ~INPUTS].ravel())
    copies = model.impute([x], how="sample", n_draws=1500, random_state=0)
    filled = np.stack([copy[0][:, ~INPUTS].ravel() for copy in copies])
    sd = np.sqrt(np.diag(cov).max())
    assert_allclose(filled.mean(axis=0), mean, atol=0.1 * sd)
    assert_allclose(np.cov(filled.T), cov, atol=0.12 * sd**2)


def test_marginals_keep_the_inputs(case):
    model, X = case
    one = model.marginal([4, 3, 0, 1])
    hidden = [np.where(np.arange(5) == 2, np.nan, x) for x in X]
    some = [x[:, [4, 3, 0, 1]] for x in X]
    assert one.input_columns == [1, 3]
    assert_allclose(one.score_samples(some), model.score_samples(hidden), rtol=1e-9)
    with pytest.raises(ValueError, match="marginal must keep all input_columns"):
        model.marginal([0, 1])


# --- the fit ------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", ["diag", "isotropic", "full"])
@pytest.mark.parametrize("initial", ["stationary", "free"])
def test_em_never_falls_and_the_slope_is_that_of_the_likelihood(noise, initial):
    X = drawn(stationary(), (30, 20, 10), 2)
    model = LinearGaussianSSM(
        2,
        initial=initial,
        observation_noise=noise,
        input_columns=[1, 3],
        input_matrix=[[np.nan, -0.5], [np.nan, np.nan]],
        feedthrough_matrix=[[0.0, np.nan], [np.nan] * 2, [np.nan] * 2],
    )
    chains = chains_of(X)._replace(weight=np.ones(60))
    start = next(model._starts(chains, model._given(np.zeros(5, bool), INPUTS), INPUTS))
    run = em(start, chains, max_iter=30, tol=0.0, strict=True)
    assert np.diff(run.history).min() > -1e-13
    assert run.history[-1] > run.history[0] + 0.1
    assert run.state.B[0, 1] == -0.5
    assert run.state.D[0, 0] == 0.0
    assert (run.state.B != start.B).sum() == 3
    there = start.m_step(evaluate(start, chains).stats)
    at, h = start.pack(there), 1e-5
    values = [
        [evaluate(start.unpack(at + sign * h * unit), chains).objective for sign in (1, -1)]
        for unit in np.eye(len(at))
    ]
    by_difference = -np.diff(values)[:, 0] / (2 * h)
    exact = there.slope(evaluate(there, chains).stats, start) / 60
    assert_allclose(exact, by_difference, atol=1e-7)


def test_fits_recover_what_inputs_do(fit):
    model, X = fit
    assert model.converged_
    assert np.diff(model.history_).min() > -1e-13
    truth = stationary()
    reply = truth.observation_matrix_ @ truth.input_matrix_  # whatever the basis of the states
    assert_allclose(model.observation_matrix_ @ model.input_matrix_, reply, atol=1.5)
    assert_allclose(model.feedthrough_matrix_, D, atol=0.8)
    for i, x in enumerate(X):
        expected = Given(model, x).log_prob(x[:, ~INPUTS].ravel())
        assert_allclose(model.score_samples(X)[i], expected, rtol=1e-8)
    errors = model.conf_int(X)
    gap = np.abs(model.feedthrough_matrix_ - D) / errors.feedthrough_matrix.standard_error
    assert gap.max() < 3.5
    assert (errors.input_matrix.standard_error > 0).all()


def test_units_of_inputs_and_padding_have_no_part(fit):
    model, X = fit
    scale = np.array([1.0, 1e-6, 1.0, 1e5, 1.0])
    other = clone(model).fit([x * scale for x in X])
    assert_allclose(other.score([x * scale for x in X]), model.score(X), atol=1e-6)
    assert_allclose(model.score_samples(padded(X)), model.score_samples(X), rtol=1e-12)


def test_inputs_that_do_nothing_are_no_inputs():
    X = drawn(stationary(), (30, 20, 25), 3)
    nothing = {"input_matrix": np.zeros((2, 2)), "feedthrough_matrix": np.zeros((3, 2))}
    for noise in ("diag", "full"):
        plain = LinearGaussianSSM(2, observation_noise=noise).fit([x[:, ~INPUTS] for x in X])
        model = LinearGaussianSSM(2, observation_noise=noise, input_columns=[1, 3], **nothing)
        assert_allclose(model.fit(X).score(X), plain.score([x[:, ~INPUTS] for x in X]), rtol=1e-6)
        assert model.n_parameters_ == plain.n_parameters_  # no input fixes the basis of the states


def test_a_constant_input_is_an_intercept():
    X = drawn(stationary(), (30, 20, 25), 3)
    plain = LinearGaussianSSM(1, observation_noise="full").fit([x[:, ~INPUTS] for x in X])
    ones = [np.column_stack([np.full(len(x), 2.0), x[:, ~INPUTS]]) for x in X]
    given = {"input_columns": 0, "fit_intercept": False, "input_matrix": [[0.0]]}
    model = LinearGaussianSSM(1, observation_noise="full", **given).fit(ones)
    assert_allclose(model.score(ones), plain.score([x[:, ~INPUTS] for x in X]), rtol=1e-6)
    assert_allclose(2 * model.feedthrough_matrix_[:, 0], plain.intercept_, rtol=1e-2)
    assert not model.constant_.any()
    with pytest.raises(ValueError, match="linearly dependent over the steps"):
        LinearGaussianSSM(1, input_columns=0).fit(ones)


def test_without_memory_outputs_are_a_regression():
    """A = C = 0 leaves least squares on inputs and intercept, column by column."""
    X = drawn(stationary(), (30, 20, 25), 3)
    still = {"transition_matrix": [[0.0]], "transition_covariance": [[1.0]]}
    still |= {"observation_matrix": np.zeros((3, 1)), "input_matrix": np.zeros((1, 2))}
    model = LinearGaussianSSM(1, input_columns=[1, 3], tol=1e-12, **still).fit(X)
    rows = np.concatenate(X)
    for j, y in enumerate(rows[:, ~INPUTS].T):
        seen = ~np.isnan(y)
        design = np.column_stack([rows[:, INPUTS], np.ones(len(rows))])[seen]
        found, left = np.linalg.lstsq(design, y[seen], rcond=None)[:2]
        assert_allclose(model.feedthrough_matrix_[j], found[:2], rtol=1e-6)
        assert_allclose(model.observation_covariance_[j, j], left[0] / seen.sum(), rtol=1e-6)


def test_correlated_noise_alone_is_one_gaussian():
    """C = 0: the maximum-likelihood mean and covariance of rows with missing entries."""
    rows = np.concatenate(drawn(stationary(), (40, 40, 45), 3))[:, ~INPUTS]
    still = {"transition_matrix": [[0.0]], "transition_covariance": [[1.0]]}
    model = LinearGaussianSSM(
        1, observation_noise="full", observation_matrix=np.zeros((3, 1)), tol=1e-12, **still
    ).fit([rows])
    factors = EMFactorAnalysis(1, heywood_penalty=0.0, tol=1e-12, max_iter=5000).fit(rows)
    total = factors.score_samples(rows).sum()  # one factor of three columns: any covariance
    assert_allclose(model.score([rows]), total, rtol=1e-6)
    assert_allclose(model.observation_covariance_, factors.get_covariance(), rtol=1e-2, atol=0.05)


def test_searches_and_pipelines_take_inputs():
    X = drawn(stationary(), (12,) * 6, 6)
    model = LinearGaussianSSM(1, input_columns=[1, 3], max_iter=300)
    pipeline = make_pipeline(PerStep(StandardScaler()), model)
    assert np.isfinite(cross_val_score(pipeline, X, cv=2)).all()
    grid = {"observation_noise": ["diag", "isotropic"]}
    assert GridSearchCV(model, grid, cv=2).fit(X).best_score_ < 0
    flat = model.set_params(n_channels=5).fit(np.stack(X).reshape(6, -1))
    assert_allclose(flat.score_samples(np.stack(X)), model.fit(X).score_samples(X), rtol=1e-9)
    assert flat.sample(2, 0, inputs=np.ones((4, 2)))[0].shape == (2, 4, 5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_columns": [0, 7]}, "columns must lie in"),
        ({"input_columns": slice(None)}, "are all columns of X"),
        ({"input_matrix": np.zeros((2, 2))}, "input_matrix needs input_columns"),
        ({"input_columns": 1, "input_matrix": np.zeros((2, 2))}, "input_matrix must be finite"),
        ({"input_columns": 0}, r"input_columns \[0\] of X contain NaN"),
    ],
)
def test_inputs_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        LinearGaussianSSM(2, **changes).fit(drawn(stationary(), (9, 8)))


def test_scores_need_inputs(fit):
    model, X = fit
    X = [x.copy() for x in X]
    X[0][2, 1] = np.nan
    with pytest.raises(ValueError, match=r"input_columns \[1\] of X contain NaN"):
        model.score_samples(X)


# --- the order of inputs ----------------------------------------------------------------------


def test_inputs_come_in_the_order_of_the_columns():
    """Matrices have inputs in that order: another one would give them to each other's columns."""
    with pytest.raises(ValueError, match="in the order of the columns"):
        known(input_columns=[3, 1])
    with pytest.raises(ValueError, match="in the order of the columns"):
        LinearGaussianSSM(n_components=1, input_columns=[2, 1]).fit(
            [np.random.default_rng(0).standard_normal((20, 3))]
        )


def test_inputs_of_dataframes_go_by_name():
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(np.random.default_rng(0).standard_normal((30, 3)), columns=["x", "u", "v"])
    model = LinearGaussianSSM(n_components=1, input_columns=["u", "v"], tol=0.1).fit([X])
    ahead = pd.DataFrame({"v": [1.0], "u": [0.0]})
    expected = model.forecast([X], 1, inputs=[[0.0, 1.0]]).mean
    assert_array_equal(model.forecast([X], 1, inputs=ahead).mean, expected)
    assert_array_equal(model.forecast([X], 1, inputs=[ahead]).mean, expected)
    with pytest.raises(ValueError, match="must have the columns"):
        model.forecast([X], 1, inputs=ahead.rename(columns={"v": "w"}))


def test_marginals_keep_their_part_of_given_matrices():
    rng = np.random.default_rng(0)
    X = [rng.standard_normal((40, 5)) for _ in range(2)]
    C, D = np.array([[1.0], [2.0], [3.0]]), np.array([[1.0, np.nan], [2.0, 0.0], [3.0, np.nan]])
    model = LinearGaussianSSM(
        n_components=1,
        observation_matrix=C,
        input_matrix=[[0.5, np.nan]],
        feedthrough_matrix=D,
        input_columns=[1, 3],
        tol=0.1,
    ).fit(X)
    part = clone(model.marginal([3, 4, 1, 0])).fit([x[:, [3, 4, 1, 0]] for x in X])
    assert_array_equal(part.observation_matrix_, C[[2, 0]])
    assert part.input_matrix_[0, 1] == 0.5
    assert_array_equal(part.feedthrough_matrix_[:, 1], D[[2, 0], 0])
    with pytest.raises(ValueError, match=r"shape \(2, 1\), got"):
        LinearGaussianSSM(n_components=1, observation_matrix=C).fit([x[:, :2] for x in X])
