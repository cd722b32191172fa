"""State-space models with free matrices: diffuse starts, parameters that are several entries."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone

from sklvm import LinearGaussianSSM
from sklvm.inference.em import em, evaluate
from sklvm.state_space import _that_resolve_most
from sklvm.state_space_entries import Entries
from sklvm.state_space_resolved import Resolved, Resolving
from sklvm.state_space_slope import moves_value_and_slopes
from sklvm.state_space_start import _given_all_the_way
from tests.test_state_space import NO_INPUTS, Dense, chains_of, flat, given_of, training

FREE = np.nan
LEVEL_AND_CYCLE = {
    "transition_matrix": [[1.0, 0.0], [0.0, FREE]],
    "transition_covariance": [[FREE, 0.0], [0.0, FREE]],
    "observation_matrix": [[1.0, 1.0]],
    "fit_intercept": False,
}
STRUCTURES = {
    "everything": LinearGaussianSSM(2, initial="diffuse"),
    "autoregression": LinearGaussianSSM(
        2,
        initial="diffuse",
        transition_matrix=[[FREE, FREE], [1.0, 0.0]],
        transition_covariance=[[FREE, 0.0], [0.0, 0.0]],
        observation_matrix=[[1.0, 0.0], [0.5, 0.0], [FREE, 0.0]],
    ),
    "level and full noise": LinearGaussianSSM(
        2,
        initial="diffuse",
        transition_matrix=[[1.0, 0.0], [0.0, FREE]],
        transition_covariance=[[FREE, 0.0], [0.0, FREE]],
        observation_matrix=[[1.0, 1.0], [0.0, 1.0], ["c", "c"]],
        observation_noise="full",
        fit_intercept=False,
    ),
    "shared, diffuse": LinearGaussianSSM(
        2,
        initial="diffuse",
        transition_matrix=[["a", 0.1], ["b", "a"]],
        transition_covariance=[["q", 0.0], [0.0, "q"]],
        observation_matrix=[[1.0, 0.0], ["c", 1.0], [FREE, "c"]],
    ),
    "shared, stationary": LinearGaussianSSM(
        2,
        transition_matrix=[["a", "b"], ["b", FREE]],
        transition_covariance=[["q", 0.0], [0.0, "q"]],
        observation_matrix=[[1.0, 0.0], ["c", 1.0], [FREE, "c"]],
    ),
    "shared, all noise": LinearGaussianSSM(
        2,
        initial="free",
        transition_matrix=[["a", "b"], ["b", FREE]],
        observation_matrix=[[1.0, 0.0], [0.0, 1.0], ["c", "c"]],
        observation_noise="isotropic",
    ),
}


@pytest.fixture(params=STRUCTURES)
def structured(request):
    return clone(STRUCTURES[request.param])


def differences(f, v, h=1e-5):
    """Central ones."""
    return np.array([(f(v + e) - f(v - e)) / (2 * h) for e in h * np.eye(len(v))])


def test_em_never_falls(structured):
    chains = chains_of(training())
    start = next(structured._starts(chains, given_of(structured), NO_INPUTS))
    run = em(start, chains, max_iter=30, tol=0.0, strict=True)
    assert np.diff(run.history).min() > -1e-13
    assert run.history[-1] > run.history[0] + 0.1


def test_slope_is_that_of_the_likelihood_of_which_fits_are_maxima(structured):
    X = training()
    chains = chains_of(X)
    start = next(structured._starts(chains, given_of(structured), NO_INPUTS))
    there = start.unpack(0.1 * np.cos(np.arange(len(start.pack(start)))))
    expected = differences(lambda v: evaluate(start.unpack(v), chains).objective, start.pack(there))
    total = chains.weight.sum()
    slope = there.slope(evaluate(there, chains).stats, start) / total
    np.testing.assert_allclose(slope, expected, atol=1e-7, rtol=1e-5)
    model = structured.set_params(tol=1e-10).fit(X)
    end = model.state_
    assert np.diff(model.history_).min() > -1e-13
    slope = end.slope(evaluate(end, chains).stats, end) / total
    low = end.bounds()[0] > -1e-6
    np.testing.assert_allclose(slope[~low], 0.0, atol=5e-4)


# --- diffuse starts ---------------------------------------------------------------------------


def series(T=60, seed=0, phi=0.6):
    """A level that walks and a cycle that decays, (T, 1), with holes."""
    rng, cycle = np.random.default_rng(seed), np.zeros(T)
    for t in range(1, T):
        cycle[t] = phi * cycle[t - 1] + rng.standard_normal()
    x = 0.5 * rng.standard_normal(T).cumsum() + cycle + 0.5 * rng.standard_normal(T)
    x[[7, 8, 20]] = np.nan
    return x[:, None]


def known(A, C, R, Q=None, **start):
    q = len(A)
    return LinearGaussianSSM.from_parameters(
        transition_matrix=A,
        transition_covariance=np.eye(q) if Q is None else Q,
        observation_matrix=C,
        observation_covariance=R,
        **(start or {"initial": "diffuse"}),
    )


def first_values(model, x):
    """Positions among the seen values of those that resolve the start, and the rows M of all."""
    A, C = model.transition_matrix_, model.observation_matrix_
    M = np.concatenate([C @ np.linalg.matrix_power(A, t) for t in range(len(x))])
    M, places = M[~np.isnan(x.ravel())], []
    for i in range(len(M)):
        if np.linalg.matrix_rank(M[[*places, i]]) > len(places):
            places.append(i)
    return places, M


@pytest.mark.parametrize("full", [False, True])
def test_scores_are_densities_given_the_values_that_resolve(full):
    """By the dense joint Gaussian, and by ever larger variances of a first state."""
    rng = np.random.default_rng(0)
    A, C = np.array([[1.0, 0.0], [0.2, 0.7]]), np.array([[0.0, 1.0], [1.0, 0.5], [2.0, -1.0]])
    half = rng.standard_normal((3, 4))
    R = half @ half.T if full else np.array([0.5, 1.0, 2.0])
    model = known(A, C, R)
    x = rng.standard_normal((7, 3))
    x[0] = [np.nan, 1.0, np.nan]
    x[3, 1] = np.nan
    places, M = first_values(model, x)
    seen = ~np.isnan(x.ravel())
    V = Dense(known(A, C, R, initial_covariance=np.zeros((2, 2))), 7).x_cov[np.ix_(seen, seen)]
    y = x.ravel()[seen]
    score = model.score_samples([x])[0]
    expected = flat(y, M, V) - flat(y[places], M[places], V[np.ix_(places, places)])
    assert score == pytest.approx(expected, abs=1e-9)
    alone = np.full(seen.sum(), np.nan)
    alone[places] = y[places]
    x_1 = np.full(x.size, np.nan)
    x_1[seen] = alone
    gaps = []
    for kappa in (1e4, 1e6):
        wide = known(A, C, R, initial_covariance=kappa * np.eye(2))
        both = wide.score_samples([x, x_1.reshape(x.shape)])
        gaps.append(both[0] - both[1] - score)
    assert abs(gaps[1]) < 1e-4
    assert gaps[0] / gaps[1] == pytest.approx(100, rel=0.05)  # as 1 / kappa


def test_no_basis_of_the_states_is_preferred():
    X = training()
    state = LinearGaussianSSM(2, initial="diffuse").fit(X).state_
    chains = chains_of(X)
    turned = state.turned(np.array([[3.0, 1.0], [-2.0, 0.5]]))
    here, there = evaluate(state, chains).objective, evaluate(turned, chains).objective
    assert there == pytest.approx(here, abs=1e-10)


def test_an_autoregression_is_given_its_first_value():
    """Without noise of the steps: least squares (the diffuse likelihood itself says no other)."""
    rng = np.random.default_rng(0)
    x = np.array([z := 0.0, *[z := 0.8 * z + rng.standard_normal() for _ in range(40)]])
    model = known([[0.7]], [[1.0]], [1e-12])
    expected = -0.5 * (np.log(2 * np.pi) + (x[1:] - 0.7 * x[:-1]) ** 2).sum()
    assert model.score_samples([x[:, None]])[0] == pytest.approx(expected, abs=1e-8)


def test_what_the_values_that_resolve_say_keeps_the_likelihood_bounded():
    """Where a cycle turns into a second level the diffuse likelihood has no bound: scores do."""
    x = series()
    seen = ~np.isnan(x.ravel())
    scores, diffuse = [], []
    for gap in (1e-3, 1e-4, 1e-5):
        A, C = np.diag([1.0, 1.0 - gap]), np.ones((1, 2))
        model = known(A, C, [0.5])
        scores.append(model.score_samples([x])[0])
        V = Dense(known(A, C, [0.5], initial_covariance=np.zeros((2, 2))), len(x)).x_cov
        M = first_values(model, x)[1]
        diffuse.append(flat(x.ravel()[seen], M, V[np.ix_(seen, seen)]))
    assert np.diff(diffuse)[1] == pytest.approx(np.log(10), abs=1e-2)
    assert abs(np.diff(scores)[1]) < 1e-2


def test_fits_of_a_level_and_a_cycle_are_maxima_of_the_dense_density():
    X = [series(40, 0), series(25, 1)]
    X[1][:3] = np.nan
    model = LinearGaussianSSM(2, initial="diffuse", tol=1e-11, **LEVEL_AND_CYCLE).fit(X)
    assert model.converged_
    assert model.n_parameters_ == 4
    assert model.n_diffuse(X).tolist() == [2, 2]
    phi, Q = model.transition_matrix_[1, 1], model.transition_covariance_
    r = model.observation_covariance_[0]

    def value(v):
        A = np.diag([1.0, phi + v[0]])
        changed = Q * np.diag(np.exp(v[1:3])), r * np.exp(v[3])
        total = 0.0
        for x in X:
            dense = known(
                A, [[1.0, 1.0]], changed[1], changed[0], initial_covariance=np.zeros((2, 2))
            )
            seen = ~np.isnan(x.ravel())
            V = Dense(dense, len(x)).x_cov[np.ix_(seen, seen)]
            places, M = first_values(dense, x)
            y = x.ravel()[seen]
            head = flat(y[places], M[places], V[np.ix_(places, places)])
            total += flat(y, M, V) - head
        return total

    assert model.score_samples(X).sum() == pytest.approx(value(np.zeros(4)), abs=1e-7)
    steps = 0.05 * np.vstack([np.eye(4), -np.eye(4)])
    assert max(value(step) for step in steps) < value(np.zeros(4)) + 1e-9
    interval = model.conf_int(X).transition_matrix
    assert interval.standard_error[0, 0] == 0
    assert interval.low[1, 1] < phi < interval.high[1, 1]


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 1e8), (1e6, 0.0)])
def test_a_level_and_a_cycle_have_no_unit(scale, shift):
    X = [series(40, 0), series(25, 1)]
    model = LinearGaussianSSM(2, initial="diffuse", **LEVEL_AND_CYCLE)
    other = clone(model).fit([x * scale + shift for x in X])
    model.fit(X)
    told = (~np.isnan(np.concatenate(X))).sum() - 4
    gap = other.score_samples([x * scale + shift for x in X]).sum() + told * np.log(scale)
    assert gap == pytest.approx(model.score_samples(X).sum(), abs=1e-5)
    a, b = (m.transition_matrix_[1, 1] for m in (model, other))
    assert b == pytest.approx(a, abs=1e-3)


def test_sequences_that_only_resolve_say_nothing():
    X = [series(40, 0), series(25, 1)]
    model = LinearGaussianSSM(2, initial="diffuse", tol=1e-10, **LEVEL_AND_CYCLE)
    more = clone(model).fit([*X, np.array([[5.0]]), np.array([[np.nan], [1.0], [2.0]])])
    start = model.fit(X)
    found, expected = more.transition_matrix_, start.transition_matrix_
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_array_equal(more.score_samples([np.array([[5.0]])]), 0.0)

    start = clone(model).fit(X).state_
    steps = [start.m_step(evaluate(start, chains_of(some)).stats) for some in (X, [*X, X[0][:1]])]
    for name in "AQR":
        here, there = (getattr(step, name) for step in steps)
        np.testing.assert_allclose(here, there, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("shown", [1.0, FREE])
def test_em_ends_where_the_likelihood_does(shown):
    X = [series(40, 0), series(25, 1)]
    given = {**LEVEL_AND_CYCLE, "observation_matrix": [[1.0, shown]]}
    given["transition_covariance"] = np.diag([FREE, 1.0 if np.isnan(shown) else FREE])
    model = LinearGaussianSSM(2, initial="diffuse", tol=1e-11, **given)
    em_only = clone(model).set_params(solver="em").fit(X)
    assert em_only.score(X) == pytest.approx(model.fit(X).score(X), abs=1e-6)
    np.testing.assert_allclose(em_only.transition_matrix_, model.transition_matrix_, atol=1e-3)


def test_fits_start_where_values_resolve_all_states():
    X = training()
    state = LinearGaussianSSM(2, initial="diffuse").fit(X).state_
    hidden = replace(state, A=np.diag([0.5, 0.6]), C=state.C * [1.0, 0.0])
    assert _that_resolve_most([hidden, state, hidden], chains_of(X)) == [state]


@pytest.mark.parametrize("T", [1, 2, 3])
def test_fits_to_sequences_that_hardly_tell_more_are_finite(T):
    X = [series(40, seed)[9 : 9 + T] for seed in range(6)]
    model = LinearGaussianSSM(2, initial="diffuse").fit(X)
    scores = model.score_samples(X)
    assert np.isfinite(scores).all()
    assert (scores == 0).all() == (T < 3)
    assert np.diff(model.history_).min(initial=0.0) > -1e-13


def test_weights_are_counts():
    X, weight = [series(40, 0), series(25, 1), series(30, 2)], np.array([2, 0, 3])
    model = LinearGaussianSSM(2, initial="diffuse", tol=1e-10, **LEVEL_AND_CYCLE)
    other = clone(model).fit([x for x, w in zip(X, weight) for _ in range(w)])
    model.fit(X, sample_weight=weight)
    np.testing.assert_array_equal(model.transition_matrix_, other.transition_matrix_)


def test_slopes_of_what_resolves_are_differences():
    rng = np.random.default_rng(0)
    A, C = rng.standard_normal((3, 3)), rng.standard_normal((2, 3))
    kinds = (
        Resolving(2.0, np.array([0, 0, 3]), np.array([0, 1, 1])),
        Resolving(0.5, np.array([1, 4]), np.array([1, 0])),
    )
    known = Resolved(kinds)
    value, by_A, by_C = known.value_and_slopes(A, C)
    M = np.stack([C[0], C[1], C[1] @ np.linalg.matrix_power(A, 3)])
    N = np.stack([C[1] @ A, C[0] @ np.linalg.matrix_power(A, 4)])
    expected = 2.0 * np.linalg.slogdet(M)[1] + 0.25 * np.linalg.slogdet(N @ N.T)[1]
    assert value == pytest.approx(expected, rel=1e-12)
    for matrix, slope, of in (
        (A, by_A, lambda v: known.value(v.reshape(A.shape), C)),
        (C, by_C, lambda v: known.value(A, v.reshape(C.shape))),
    ):
        np.testing.assert_allclose(slope.ravel(), differences(of, matrix.ravel()), atol=1e-7)


# --- parameters that are several entries ------------------------------------------------------


@pytest.mark.parametrize("noise", ["diag", "isotropic", "full"])
def test_steps_of_shared_entries_are_maxima(noise):
    """The slope of what an M-step climbs is zero by each parameter, not by each entry."""
    model = LinearGaussianSSM(
        2,
        initial="free",
        transition_matrix=[["a", "b"], [0.1, "a"]],
        transition_covariance=np.diag([0.3, 2.0]),
        observation_matrix=[[1.0, 0.0], ["c", 1.0], [FREE, "c"]],
        observation_noise=noise,
    )
    chains = chains_of(training())
    state = next(model._starts(chains, given_of(model), NO_INPUTS))
    stats, free = evaluate(state, chains).stats, state.structure
    F = free.moved(state.F, state.Q, stats)
    by_F = moves_value_and_slopes(F, state.Q, stats)[1]
    assert F[0, 0] == F[1, 1]
    np.testing.assert_allclose(free.F.total(by_F), 0.0, atol=1e-9)
    assert np.abs(by_F).max() > 1.0
    theta = free.regressed(free.coefficients(state.C, state.D), state.R, stats)
    by_theta = free.noise.slopes(theta, state.R, stats)[0]
    assert theta[1, 0] == theta[2, 1]
    np.testing.assert_allclose(free.C.total(by_theta[:, :2]), 0.0, atol=1e-8)
    np.testing.assert_allclose(by_theta[:, -1], 0.0, atol=1e-8)
    assert np.abs(by_theta).max() > 1e-2


@pytest.mark.parametrize("initial", ["stationary", "diffuse"])
@pytest.mark.parametrize("solver", ["auto", "em"])
def test_twins_are_one_series_seen_twice(initial, solver):
    """Two channels with a state each, and all parameters shared: as many sequences of one."""
    X = [np.hstack([series(40, seed), series(40, seed + 9)]) for seed in range(3)]
    X[0][5:9, 0] = np.nan
    given = {"initial": initial, "fit_intercept": False, "tol": 1e-11, "solver": solver}
    for Q, C, two in (
        ([["q", 0], [0, "q"]], np.eye(2), ([[FREE]], [[1.0]])),
        (0.3 * np.eye(2), [["c", 0.0], [0.0, "c"]], ([[0.3]], [[FREE]])),
    ):
        model = LinearGaussianSSM(
            2,
            transition_matrix=[["a", 0], [0, "a"]],
            transition_covariance=Q,
            observation_matrix=C,
            observation_noise="isotropic",
            **given,
        ).fit(X)
        apart = [x[:, [j]] for x in X for j in range(2)]
        one = LinearGaussianSSM(
            1, transition_covariance=two[0], observation_matrix=two[1], **given
        ).fit(apart)
        assert model.n_parameters_ == one.n_parameters_ == 3
        total = one.score_samples(apart).sum()
        assert model.score_samples(X).sum() == pytest.approx(total, abs=1e-5)
        np.testing.assert_allclose(
            np.diag(model.transition_matrix_), one.transition_matrix_[0, 0], rtol=1e-3
        )
        if solver == "auto":
            both, single = model.conf_int(X), one.conf_int(apart)
            for name in ("transition_matrix", "transition_covariance", "observation_matrix"):
                found = np.diag(getattr(both, name).standard_error)
                expected = getattr(single, name).standard_error[0, 0]
                np.testing.assert_allclose(found, expected, rtol=1e-2, err_msg=name)


def test_what_inputs_do_is_shared_too():
    rng, inputs = np.random.default_rng(0), np.arange(5) > 2
    X = [np.column_stack([x, rng.standard_normal((len(x), 2))]) for x in training()]
    model = LinearGaussianSSM(
        2,
        initial="diffuse",
        input_columns=[3, 4],
        transition_matrix=[["a", 0.1], [FREE, "a"]],
        input_matrix=[["b", FREE], [0.0, "b"]],
        feedthrough_matrix=[["d", 0.0], [0.0, "d"], [FREE, "d"]],
        observation_matrix=[[1.0, 0.0], ["c", 1.0], [FREE, "c"]],
    )
    chains = chains_of(X)
    start = next(model._starts(chains, model._given(np.zeros(5, bool), inputs), inputs))
    run = em(start, chains, max_iter=20, tol=0.0, strict=True)
    assert np.diff(run.history).min() > 0
    assert run.state.B[0, 0] == run.state.B[1, 1] != 0
    assert run.state.D[0, 0] == run.state.D[1, 1] == run.state.D[2, 1] != 0
    there = run.state
    expected = differences(lambda v: evaluate(start.unpack(v), chains).objective, start.pack(there))
    slope = there.slope(evaluate(there, chains).stats, start) / chains.weight.sum()
    np.testing.assert_allclose(slope, expected, atol=1e-7, rtol=1e-5)


def test_entries_of_one_name_stay_equal(structured):
    X = training()
    model = structured.fit(X)
    for name in ("transition_matrix", "transition_covariance", "observation_matrix"):
        if (given := getattr(model, name)) is not None:
            found = getattr(model, f"{name}_")
            given = np.array(given, dtype=object)
            for value in {entry for entry in given.flat if isinstance(entry, str)}:
                assert np.ptp(found[given == value]) == 0.0
            kept = np.array([[isinstance(v, int | float) and v == v for v in row] for row in given])
            np.testing.assert_array_equal(found[kept], given[kept].astype(float))


def test_entries_take_put_and_sum():
    names = np.array([["a", "", ""], ["b", "a", ""]], dtype=object)
    free = np.array([[True, False, True], [True, True, True]])
    entries = Entries.named(free, names)
    assert entries.label.tolist() == [[0, -1, 1], [2, 0, 3]]
    matrix = np.arange(6.0).reshape(2, 3)
    assert entries.take(matrix).tolist() == [0.0, 2.0, 3.0, 5.0]
    assert entries.total(matrix).tolist() == [4.0, 2.0, 3.0, 5.0]
    assert entries.mean(matrix).tolist() == [[2.0, 1.0, 2.0], [3.0, 2.0, 5.0]]
    system = np.arange(36.0).reshape(6, 6)
    pick = np.stack([(entries.label == i).ravel() for i in range(4)]).astype(float)
    assert entries.total_square(system).tolist() == (pick @ system @ pick.T).tolist()
    assert entries.part(([1],)).label.tolist() == [[1, 0, 2]]


def test_names_are_told_from_numbers():
    X = training()
    given = np.array([["0.5", "nan"], ["a", "1e-1"]])
    model = LinearGaussianSSM(2, transition_matrix=given).fit(X)
    assert np.diag(model.transition_matrix_).tolist() == [0.5, 0.1]
    assert model.transition_matrix_[1, 0] != 0


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"transition_matrix": [["a", 0], [0, 1]], "observation_matrix": [["a", 1]] * 3},
            "'a' is in transition_matrix and in observation_matrix",
        ),
        ({"transition_covariance": [["q", "q"], ["q", "q"]]}, "on its diagonal only"),
        ({"transition_covariance": [["q", FREE], [FREE, "q"]]}, "cannot share"),
        ({"transition_matrix": [["a", 0]]}, "shape"),
    ],
)
def test_names_that_cannot_be_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        LinearGaussianSSM(2, **parameters).fit(training())


def test_marginals_keep_names():
    X = training()
    C = [[1.0, 0.0], ["c", 1.0], [FREE, "c"]]
    model = LinearGaussianSSM(2, observation_matrix=C).fit(X)
    part = model.marginal([1, 2])
    assert part.observation_matrix[0, 0] == part.observation_matrix[1, 1] == "c"
    assert part.state_.structure.C.label.tolist() == [[0, -1], [1, 0]]


def test_which_states_are_given_all_the_way():
    """One that moves to another that moves to a free one is not; one that stands alone is."""
    A = np.array([[1.0, 0, 0, 0], [1, 0, 0, 0], [0, 1, np.nan, 0], [0, 0, 0, 1]])
    C = np.array([[1.0, 0, 0, 1]])
    assert_array_equal(_given_all_the_way(A, C), [False, False, False, True])
    C[0, 3] = np.nan
    assert not _given_all_the_way(A, C).any()
