"""State-space models: the dense joint Gaussian of states and steps, reductions, known cases."""

import numpy as np
import pytest
from scipy.linalg import block_diag
from scipy.optimize import approx_fprime
from scipy.stats import multivariate_normal
from sklearn.base import clone

from sklvm import (
    EMFactorAnalysis,
    LinearGaussianSSM,
    local_level,
    local_linear_trend,
    seasonal,
)
from sklvm.chain_state import Chains
from sklvm.inference.em import em, evaluate
from sklvm.sequences import offsets
from sklvm.state_space_start import moments, subspace
from tests._sequences import padded

# Annual flow at Aswan, 1871-1970, in 1e8 cubic metres.
NILE = """
1120 1160 963 1210 1160 1160 813 1230 1370 1140 995 935 1110 994 1020 960 1180 799 958 1140
1100 1210 1150 1250 1260 1220 1030 1100 774 840 874 694 940 833 701 916 692 1020 1050 969
831 726 456 824 702 1120 1100 832 764 821 768 845 864 862 698 845 744 796 1040 759
781 865 845 944 984 897 822 1010 771 676 649 846 812 742 801 1040 860 874 848 890
744 749 838 1050 918 986 797 923 975 815 1020 906 901 1170 912 746 919 718 714 740
"""
FLOW = [np.array(NILE.split(), float)[:, None]]
RADIUS = 0.9
NO_INPUTS = np.zeros(3, bool)  # of three channels


# --- models and data --------------------------------------------------------------------------


def parameters(q, d, seed=0):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((q, q))
    A *= RADIUS / np.abs(np.linalg.eigvals(A)).max()
    half = rng.standard_normal((2, q, q + 1))
    return {
        "transition_matrix": A,
        "transition_covariance": half[0] @ half[0].T,
        "observation_matrix": rng.standard_normal((d, q)),
        "observation_covariance": rng.uniform(0.5, 2.0, d),
        "intercept": rng.standard_normal(d),
        "initial_mean": rng.standard_normal(q),
        "initial_covariance": half[1] @ half[1].T,
    }


def known(q=2, d=3, seed=0):
    return LinearGaussianSSM.from_parameters(**parameters(q, d, seed))


def holes(X, share=0.25, seed=1):
    """Some entries missing, and one whole step of the longest sequence."""
    rng = np.random.default_rng(seed)
    X = [np.where(rng.uniform(size=x.shape) < share, np.nan, x) for x in X]
    X[np.argmax([len(x) for x in X])][1] = np.nan
    return X


def drawn(model, lengths=(6, 1, 4), seed=0):
    return [model.sample(1, seed + T, n_timesteps=T)[0][0] for T in lengths]


class Dense:
    """Moments of (z_1 .. z_T, x_1 .. x_T, x_T+1 ..) of one sequence."""

    def __init__(self, model, T):
        A, C = model.transition_matrix_, model.observation_matrix_
        q, d = len(A), len(C)
        powers = [np.linalg.matrix_power(A, t) for t in range(T)]
        reach = np.zeros((T * q, T * q))
        for t in range(T):
            for s in range(t + 1):
                reach[t * q : t * q + q, s * q : s * q + q] = powers[t - s]
        noise = block_diag(model.initial_covariance_, *[model.transition_covariance_] * (T - 1))
        self.z_mean = np.concatenate([power @ model.initial_mean_ for power in powers])
        self.z_cov = reach @ noise @ reach.T
        self.C = np.kron(np.eye(T), C)
        self.x_mean = self.C @ self.z_mean + np.tile(model.intercept_, T)
        R = np.kron(np.eye(T), model.observation_covariance_)
        self.x_cov = self.C @ self.z_cov @ self.C.T + R
        self.q, self.d, self.T = q, d, T

    def log_prob(self, x):
        seen = ~np.isnan(x)
        if not seen.any():
            return 0.0
        cov = self.x_cov[np.ix_(seen, seen)]
        return multivariate_normal(self.x_mean[seen], cov).logpdf(x[seen])

    def given(self, x):
        """Moments of z and of x given what was seen."""
        seen = ~np.isnan(x)
        across = np.vstack([self.z_cov @ self.C.T, self.x_cov])[:, seen]
        gain = np.linalg.solve(self.x_cov[np.ix_(seen, seen)], across.T).T
        mean = np.concatenate([self.z_mean, self.x_mean]) + gain @ (x - self.x_mean)[seen]
        joint = np.block([[self.z_cov, self.z_cov @ self.C.T], [self.C @ self.z_cov, self.x_cov]])
        cov = joint - gain @ across.T
        n = self.T * self.q
        return mean[:n], cov[:n, :n], mean[n:], cov[n:, n:]


def diagonal_blocks(cov, size):
    return np.stack([cov[i : i + size, i : i + size] for i in range(0, len(cov), size)])


# --- every verb is the dense Gaussian ---------------------------------------------------------


def correlated():
    """Noise that is correlated across channels."""
    half = np.random.default_rng(5).standard_normal((3, 4))
    given = {**parameters(2, 3), "observation_covariance": half @ half.T}
    return LinearGaussianSSM.from_parameters(**given)


@pytest.fixture(
    params=[known, lambda: known(3, 1), correlated], ids=["wide", "narrow", "correlated"]
)
def case(request):
    model = request.param()
    return model, holes(drawn(model))


def test_scores_are_the_dense_density(case):
    model, X = case
    expected = [Dense(model, len(x)).log_prob(x.ravel()) for x in X]
    np.testing.assert_allclose(model.score_samples(X), expected, rtol=1e-9)
    steps = model.score_steps(X)
    np.testing.assert_allclose([step.sum() for step in steps], expected, rtol=1e-9)
    head = Dense(model, 2).log_prob(X[0][:2].ravel())
    assert abs(steps[0][:2].sum() - head) < 1e-9


def test_states_are_the_dense_conditional(case):
    model, X = case
    smoothed, posterior = model.smooth(X), model.posterior(X)
    filtered, mean = model.filter(X), model.transform(X)
    for i, x in enumerate(X):
        dense = Dense(model, len(x))
        z, cov, _, _ = dense.given(x.ravel())
        expected = z.reshape(len(x), -1)
        np.testing.assert_allclose(smoothed.mean[i], expected, atol=1e-9)
        np.testing.assert_allclose(posterior.mean[i], expected, atol=1e-9)
        np.testing.assert_allclose(mean[i], expected.mean(axis=0), atol=1e-9)
        blocks = diagonal_blocks(cov, dense.q)
        np.testing.assert_allclose(smoothed.covariance[i], blocks, atol=1e-9)
        last = np.where(np.arange(len(x))[:, None] < len(x), x, np.nan)
        z, cov, _, _ = dense.given(last.ravel())
        np.testing.assert_allclose(filtered.mean[i][-1], z[-dense.q :], atol=1e-9)
        np.testing.assert_allclose(
            filtered.covariance[i][-1], cov[-dense.q :, -dense.q :], atol=1e-9
        )
    first = Dense(model, 1).given(X[0][:1].ravel())
    np.testing.assert_allclose(filtered.mean[0][0], first[0], atol=1e-9)


def test_imputation_and_forecast_are_the_dense_conditional(case):
    model, X = case
    filled, ahead = model.impute(X), model.forecast(X, horizon=3)
    mode = model.impute(X, how="mode")
    for i, x in enumerate(X):
        longer = np.vstack([x, np.full((3, x.shape[1]), np.nan)])
        dense = Dense(model, len(longer))
        z, z_cov, mean, cov = dense.given(longer.ravel())
        mean = mean.reshape(longer.shape)
        expected = np.where(np.isnan(x), mean[: len(x)], x)
        np.testing.assert_allclose(filled[i], expected, atol=1e-9)
        np.testing.assert_allclose(mode[i], expected, atol=1e-9)
        assert (filled[i] == x)[~np.isnan(x)].all()
        np.testing.assert_allclose(ahead.mean[i], mean[len(x) :], atol=1e-9)
        np.testing.assert_allclose(
            ahead.covariance[i], diagonal_blocks(cov, dense.d)[len(x) :], atol=1e-9
        )
        np.testing.assert_allclose(
            ahead.state_mean[i], z.reshape(len(longer), -1)[len(x) :], atol=1e-9
        )
        blocks = diagonal_blocks(z_cov, dense.q)
        np.testing.assert_allclose(ahead.state_covariance[i], blocks[len(x) :], atol=1e-9)


def test_bands_of_states_hold_their_probability():
    model = known()
    X = drawn(model, (5, 5))
    for container in (X, tuple(X), padded(X)):
        for states in (model.smooth(container), model.filter(container)):
            low, high = states.interval(0.9)
            assert type(low) is type(states.mean) is type(high)
            for a, b, mean, V in zip(low, high, states.mean, states.covariance):
                sd = np.sqrt(np.diagonal(V, axis1=1, axis2=2))
                np.testing.assert_allclose((b - a) / (2 * sd), 1.6448536269514722)
                np.testing.assert_allclose((a + b) / 2, mean)
    np.testing.assert_array_equal(states.quantile(0.5), states.mean)
    with pytest.raises(ValueError, match="level must lie between 0 and 1"):
        states.interval(95)
    first = local_linear_trend().fit(FLOW).filter(FLOW)
    assert np.isinf(first.covariance[0][0, 1, 1])
    assert np.isinf(first.interval()[1][0][0, 1])
    assert np.isfinite(first.covariance[0][1:]).all()


def test_bands_of_forecasts_hold_their_probability():
    model = known()
    ahead = model.forecast(drawn(model), horizon=2)
    low, high = ahead.interval(0.9)
    sd = np.sqrt(np.diagonal(ahead.covariance, axis1=-2, axis2=-1))
    np.testing.assert_allclose((high - low) / (2 * sd), 1.6448536269514722)
    np.testing.assert_allclose((high + low) / 2, ahead.mean)
    with pytest.raises(ValueError, match="level must lie between 0 and 1"):
        ahead.interval(95)


def test_elbo_and_posterior_are_those_of_the_dense_conditional(case):
    model, X = case
    terms, posterior = model.elbo(X), model.posterior(X)
    paths = posterior.sample(1, random_state=0)[0]
    log_prob, kl, entropy = posterior.log_prob(paths), posterior.kl_to_prior(), posterior.entropy()
    for i, x in enumerate(X):
        dense = Dense(model, len(x))
        z, cov, _, _ = dense.given(x.ravel())
        path = multivariate_normal(z, cov, allow_singular=False)
        assert abs(log_prob[i] - path.logpdf(paths[i].ravel())) < 1e-8
        assert abs(entropy[i] - path.entropy()) < 1e-8
        assert abs(terms.entropy[i] - path.entropy()) < 1e-8
        prior = multivariate_normal(dense.z_mean, dense.z_cov)
        gap, precision = z - dense.z_mean, np.linalg.inv(dense.z_cov)
        expected = prior.logpdf(dense.z_mean) - 0.5 * (
            gap @ precision @ gap + np.trace(precision @ cov)
        )
        assert abs(terms.expected_log_prior[i] - expected) < 1e-7
        assert abs(kl[i] + path.entropy() + expected) < 1e-7
    np.testing.assert_allclose(sum(terms[:3]), model.score_samples(X), rtol=1e-9)


def test_draws_have_the_dense_moments():
    model, x = known(2, 2), None
    X = holes(drawn(model, (3,)), 0.4)
    (x,) = X
    z, cov, mean, x_cov = Dense(model, 3).given(x.ravel())
    n = 20_000
    paths = np.stack([p[0].ravel() for p in model.posterior(X).sample(n, random_state=0)])
    np.testing.assert_allclose(paths.mean(axis=0), z, atol=0.06)
    np.testing.assert_allclose(np.cov(paths.T), cov, atol=0.12)
    copies = model.impute(X, how="sample", n_draws=2000, random_state=0)
    filled = np.stack([copy[0].ravel() for copy in copies])
    assert (filled[:, ~np.isnan(x.ravel())] == x[~np.isnan(x)]).all()
    np.testing.assert_allclose(filled.mean(axis=0), mean, atol=0.15)
    np.testing.assert_allclose(np.cov(filled.T), x_cov, atol=0.25)
    steps, states = model.sample(n, random_state=1, n_timesteps=3)
    dense = Dense(model, 3)
    np.testing.assert_allclose(steps.reshape(n, -1).mean(axis=0), dense.x_mean, atol=0.1)
    scale = np.sqrt(np.outer(np.diag(dense.x_cov), np.diag(dense.x_cov)))
    gap = np.cov(steps.reshape(n, -1).T) - dense.x_cov
    assert np.abs(gap / scale).max() < 0.04
    gap = np.cov(states.reshape(n, -1).T) - dense.z_cov
    assert np.abs(gap).max() < 0.04 * np.diag(dense.z_cov).max()


def test_marginal_leaves_channels_out():
    model = known(2, 3)
    X = holes(drawn(model))
    one = model.marginal([2, 0])
    hidden = [np.column_stack([x[:, 0], np.full(len(x), np.nan), x[:, 2]]) for x in X]
    some = [x[:, [2, 0]] for x in X]
    np.testing.assert_allclose(one.score_samples(some), model.score_samples(hidden), rtol=1e-10)
    assert type(one) is LinearGaussianSSM
    assert model.n_parameters_ - one.n_parameters_ == 2 + 1 + 1  # loadings, noise, intercept


# --- the fit ----------------------------------------------------------------------------------


def chains_of(X, weight=None):
    counts = np.ones(len(X)) if weight is None else np.asarray(weight, float)
    steps, lengths = np.concatenate(X), np.array([len(x) for x in X])
    seen = ~np.isnan(steps).all(axis=1)
    return Chains(steps, np.repeat(counts, lengths) * seen, offsets(lengths), counts)


def training(lengths=(40, 1, 25, 12), q=2, d=3, seed=3, share=0.2):
    model = LinearGaussianSSM.from_parameters(
        **{k: v for k, v in parameters(q, d, seed).items() if not k.startswith("initial")}
    )
    return holes(drawn(model, lengths, seed), share, seed)


def given_of(model):
    """What it was given for three channels."""
    return model._given(np.zeros(3, bool), NO_INPUTS)


STRUCTURES = {
    "stationary": LinearGaussianSSM(2),
    "free": LinearGaussianSSM(2, initial="free"),
    "isotropic": LinearGaussianSSM(2, initial="free", observation_noise="isotropic"),
    "full": LinearGaussianSSM(1, observation_noise="full"),
    "one": LinearGaussianSSM(1),
    "triangular": LinearGaussianSSM(
        2,
        transition_matrix=[[np.nan, 0.0], [0.3, np.nan]],
        observation_matrix=[[1.0, 0.0], [np.nan, 1.0], [np.nan, np.nan]],
    ),
    "diagonal noise": LinearGaussianSSM(
        2,
        transition_matrix=[[np.nan, 0.2], [np.nan, np.nan]],
        transition_covariance=[[np.nan, 0.0], [0.0, 1.0]],
    ),
    "autoregression": LinearGaussianSSM(
        2,
        transition_matrix=[[np.nan, np.nan], [1.0, 0.0]],
        transition_covariance=[[np.nan, 0.0], [0.0, 0.0]],
        observation_matrix=[[1.0, 0.0], [0.5, 0.0], [np.nan, 0.0]],
    ),
    "random walks": LinearGaussianSSM(
        2,
        initial="diffuse",
        transition_matrix=np.eye(2),
        transition_covariance=[[np.nan, 0.0], [0.0, np.nan]],
        observation_matrix=[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]],
        fit_intercept=False,
    ),
}


@pytest.fixture(params=STRUCTURES)
def structured(request):
    return clone(STRUCTURES[request.param])


@pytest.mark.parametrize("accelerate", [None, "squarem"])
def test_em_never_falls(structured, accelerate):
    chains = chains_of(training())
    start = next(structured._starts(chains, given_of(structured), NO_INPUTS))
    run = em(start, chains, max_iter=40, tol=0.0, accelerate=accelerate, strict=True)
    assert np.diff(run.history).min() > -1e-13
    assert run.history[-1] > run.history[0] + 0.1


def test_slope_is_that_of_the_likelihood_and_zero_at_the_end(structured):
    X = training()
    model, chains = structured.set_params(tol=1e-11).fit(X), chains_of(X)
    assert np.diff(model.history_).min() > -1e-13
    assert model.converged_
    total = chains.weight.sum()

    def slopes(state, there):
        """By differences and in closed form, per observed step."""
        values = approx_fprime(
            state.pack(there), lambda v: evaluate(state.unpack(v), chains).objective, 1e-6
        )
        return values, there.slope(evaluate(there, chains).stats, state) / total

    start = next(structured._starts(chains, given_of(structured), NO_INPUTS))
    there = start.m_step(evaluate(start, chains).stats)
    by_difference, exact = slopes(start, there)
    np.testing.assert_allclose(exact, by_difference, atol=2e-5)
    assert np.abs(exact).max() > 1e-2
    by_difference, exact = slopes(model.state_, model.state_)
    assert np.abs(exact).max() < 2e-4
    assert np.abs(by_difference).max() < 2e-4


@pytest.mark.filterwarnings("ignore:LinearGaussianSSM did not converge")
@pytest.mark.parametrize("name", ["free", "isotropic", "autoregression"])
def test_lbfgs_ends_no_lower_than_em(name):
    X, model = training(), clone(STRUCTURES[name])
    slow = clone(model).set_params(solver="em", max_iter=200).fit(X)
    assert model.fit(X).lower_bound_ > slow.lower_bound_ - 1e-6
    assert model.n_iter_ < 200


def test_more_states_than_channels():
    X = training((60, 80), q=3, d=1, share=0.1)
    model = LinearGaussianSSM(3).fit(X)
    assert np.diff(model.history_).min() > -1e-13
    assert np.abs(model.poles_).max() < 1
    assert model.lower_bound_ > LinearGaussianSSM(1).fit(X).lower_bound_
    for x, score in zip(X, model.score_samples(X)):
        assert abs(Dense(model, len(x)).log_prob(x.ravel()) - score) < 1e-7


def test_coordinates_come_back(structured):
    X = training()
    state = next(structured._starts(chains_of(X), given_of(structured), NO_INPUTS))
    other = state.m_step(evaluate(state, chains_of(X)).stats)
    there = state.unpack(state.pack(other))
    for name in ("A", "Q", "C", "R", "c"):
        np.testing.assert_allclose(getattr(there, name), getattr(other, name), atol=1e-12)
    gap = evaluate(there, chains_of(X)).objective - evaluate(other, chains_of(X)).objective
    assert abs(gap) < 1e-12


def test_free_entries_are_generalised_least_squares():
    X = training()
    model = LinearGaussianSSM(
        2, initial="free", transition_matrix=[[np.nan, 0.1], [np.nan, np.nan]]
    )
    state = next(model._starts(chains_of(X), given_of(model), NO_INPUTS))
    state = state.turned(np.array([[1.0, 0.0], [0.8, 0.6]]))  # so that the noise is correlated
    stats = evaluate(state, chains_of(X)).stats
    A = state.structure.transition_step(state.F, state.Q, stats)[0]
    slope = np.linalg.solve(state.Q, stats.lag - A @ stats.earlier)
    free = state.structure.A.free
    assert np.abs(slope[free]).max() < 1e-9 * np.abs(slope[~free]).max()
    assert A[0, 1] == state.A[0, 1]


def test_a_sequence_without_steps_is_at_its_start():
    model = known()
    np.testing.assert_array_equal(model.transform([np.empty((0, 3))])[0], model.initial_mean_)


@pytest.mark.filterwarnings("ignore:LinearGaussianSSM did not converge")
def test_given_entries_stay(structured):
    model = structured.set_params(max_iter=25).fit(training())
    for given, fitted in (
        (model.transition_matrix, model.transition_matrix_),
        (model.transition_covariance, model.transition_covariance_),
        (model.observation_matrix, model.observation_matrix_),
    ):
        if given is not None:
            given = np.array(given)
            kept = ~np.isnan(given)
            np.testing.assert_array_equal(fitted[kept], given[kept])
            assert (fitted != np.where(kept, given, 0.0))[~kept].all()


def test_weights_are_counts(structured):
    X = training()
    weight = np.array([2, 0, 1, 3])
    model = clone(structured).fit(X, sample_weight=weight)
    repeated = clone(structured).fit([x for x, w in zip(X, weight) for _ in range(w)])
    np.testing.assert_allclose(
        model.score_samples(X), repeated.score_samples(X), rtol=1e-7, atol=1e-7
    )


def test_units_change_scores_by_the_jacobian(structured):
    if structured.observation_matrix is not None or structured.observation_noise != "diag":
        return  # the units of what was given are part of it
    X = training()
    scale, shift = np.array([1e-3, 1.0, 1e4]), np.array([5.0, -1e3, 1e6])
    structured.set_params(tol=1e-12)
    model = clone(structured).fit(X)
    moved = [x * scale + shift for x in X]
    other = clone(structured).fit(moved)
    jacobian = [(~np.isnan(x) * np.log(scale)).sum() for x in X]
    np.testing.assert_allclose(
        other.score_samples(moved) + jacobian, model.score_samples(X), rtol=1e-6
    )


def test_padding_is_the_end(structured):
    X = training()
    model = structured.fit(X)
    again = clone(structured).fit(padded(X))
    np.testing.assert_allclose(again.score_samples(X), model.score_samples(X), rtol=1e-12)
    np.testing.assert_allclose(
        model.score_samples(padded(X, 60)), model.score_samples(X), rtol=1e-12
    )
    tail = model.smooth(padded(X)).mean[1, len(X[1]) :]
    assert np.isnan(tail).all()


def test_basis_of_the_state_is_the_convention():
    model = LinearGaussianSSM(2).fit(training())
    C, R = model.observation_matrix_, model.observation_covariance_
    np.testing.assert_allclose(model.transition_covariance_, np.eye(2), atol=1e-12)
    gram = C.T @ np.linalg.inv(R) @ C
    assert abs(gram[0, 1]) < 1e-9 * gram[0, 0]
    assert gram[0, 0] >= gram[1, 1]
    assert ((C / np.sqrt(np.diag(R))[:, None]).sum(axis=0) >= 0).all()
    P = model.initial_covariance_
    A = model.transition_matrix_
    np.testing.assert_allclose(P, A @ P @ A.T + np.eye(2), rtol=1e-9)


@pytest.mark.filterwarnings("ignore:LinearGaussianSSM did not converge")
def test_free_parameters_are_counted():
    X = training()
    counts = {
        "stationary": 3 * 2 + 3 + 3 + 3,  # C, Q, R, c: A is what the basis of the state costs
        "free": 3 * 2 + 3 + 3 + 3 + 2 + 3,
        "isotropic": 3 * 2 + 3 + 1 + 3 + 2 + 3,
        "full": 3 + 1 + 6 + 3,
        "triangular": 2 + 3 + 3 + 3 + 3,
        "diagonal noise": 3 + 1 + 6 + 3 + 3,
        "autoregression": 2 + 1 + 1 + 3 + 3,
        "random walks": 2 + 3,
    }
    for name, count in counts.items():
        model = clone(STRUCTURES[name]).set_params(max_iter=2).fit(X)
        assert model.n_parameters_ == count
    n = sum((~np.isnan(x).all(axis=1)).sum() for x in X)
    expected = -2 * model.score_samples(X).sum() + 5 * np.log(n)
    assert abs(model.bic(X) - expected) < 1e-9


# --- reductions and known cases ---------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_without_memory_it_is_factor_analysis(share):
    X = training((60, 50, 40), q=2, d=5, share=share)
    still = {"transition_matrix": np.zeros((2, 2)), "transition_covariance": np.eye(2)}
    model = LinearGaussianSSM(2, **still, tol=1e-12).fit(X)
    rows = np.concatenate(X)
    rows = rows[~np.isnan(rows).all(axis=1)]
    factors = EMFactorAnalysis(2, heywood_penalty=0.0, tol=1e-12, max_iter=5000)
    factors.fit(rows)
    total = model.score_samples(X).sum()
    assert abs(total - factors.score_samples(rows).sum()) < 1e-4
    C = model.observation_matrix_
    covariance = C @ C.T + model.observation_covariance_
    np.testing.assert_allclose(covariance, factors.get_covariance(), rtol=2e-3, atol=2e-3)
    same = LinearGaussianSSM.from_parameters(
        **still,
        observation_matrix=factors.components_.T,
        observation_covariance=factors.noise_variance_,
        intercept=factors.mean_,
    )
    np.testing.assert_allclose(
        same.score_samples(X),
        [factors.score_samples(x).sum() for x in X],
        rtol=1e-10,
    )
    np.testing.assert_allclose(same.smooth(X).mean[0], factors.transform(X[0]), atol=1e-10)


def test_nile():
    """Durbin & Koopman (2012), 2.2.5 and 2.10.3: the local level by maximum likelihood."""
    flow = np.array(NILE.split(), float)[:, None]
    model = local_level().fit([flow])
    assert abs(model.score_samples([flow])[0] + 632.5456) < 1e-4
    assert abs(model.transition_covariance_[0, 0] / 1469.1 - 1) < 1e-3
    assert abs(model.observation_covariance_[0, 0] / 15098.5 - 1) < 1e-3
    assert model.score_kind_ == "conditional"
    assert model.n_diffuse([flow]).tolist() == [1]
    missing = np.vstack([[np.nan], [np.nan], flow])
    assert abs(model.score_samples([missing])[0] + 632.5456) < 1e-4


def flat(x, O, V):
    """log of the integral of N(x; O delta, V) over all delta."""
    weights = np.linalg.solve(V, np.column_stack([O, x]))
    information, product = O.T @ weights[:, :-1], O.T @ weights[:, -1]
    square = x @ weights[:, -1] - product @ np.linalg.solve(information, product)
    log_det = np.linalg.slogdet(V)[1] + np.linalg.slogdet(information)[1]
    return -0.5 * ((len(x) - len(product)) * np.log(2 * np.pi) + log_det + square)


@pytest.mark.parametrize(
    "model", [local_level(), local_linear_trend(), seasonal(4)], ids=["level", "trend", "seasonal"]
)
def test_structural_models_are_conditional_densities(model):
    rng = np.random.default_rng(0)
    x = np.tile([4.0, 0.0, -3.0, 1.0], 8) + rng.standard_normal(32).cumsum()
    x += 2 * rng.standard_normal(32)  # without noise the dense matrices would be near singular
    x[[9, 20]] = np.nan
    model = clone(model).fit([x[:, None]])
    assert model.converged_
    q, T = model.n_components, len(x)
    A, C = model.transition_matrix_, model.observation_matrix_
    given = LinearGaussianSSM.from_parameters(
        transition_matrix=A,
        transition_covariance=model.transition_covariance_,
        observation_matrix=C,
        observation_covariance=model.observation_covariance_,
        initial_covariance=np.zeros((q, q)),
    )
    V, seen = Dense(given, T).x_cov, ~np.isnan(x)
    O = np.stack([(C @ np.linalg.matrix_power(A, t))[0] for t in range(T)])
    everything = flat(x[seen], O[seen], V[np.ix_(seen, seen)])
    head = flat(x[:q], O[:q], V[:q, :q])
    assert abs(model.score_samples([x[:, None]])[0] - (everything - head)) < 1e-7
    assert model.n_diffuse([x[:, None]])[0] == q == model.n_diffuse_
    still = np.diag(model.transition_covariance_)[2:]
    assert (still == 0).all()


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 1e8), (1e6, 0.0), (1e-3, 5.0)])
def test_structural_models_have_no_unit(scale, shift):
    flow = np.array(NILE.split(), float)[:, None]
    model, other = local_level().fit([flow]), local_level().fit([flow * scale + shift])
    gap = other.score([flow * scale + shift]) + 99 * np.log(scale) - model.score([flow])
    assert abs(gap) < 1e-6
    ratio = other.transition_covariance_ / scale**2 / model.transition_covariance_
    assert abs(ratio[0, 0] - 1) < 1e-4


def test_a_season_comes_back():
    A = np.array(seasonal(4).transition_matrix)
    assert_array_equal = np.testing.assert_array_equal
    assert_array_equal(np.linalg.matrix_power(A, 4), np.eye(4))
    assert_array_equal(sum(np.linalg.matrix_power(A, t)[1, 1:] for t in range(4)), np.zeros(3))


def test_a_season_has_steps():
    with pytest.raises(ValueError, match="period must be an integer of at least 2, got 1"):
        seasonal(1)


def test_start_finds_the_poles():
    rng = np.random.default_rng(0)
    z = np.zeros((20_000, 2))
    for t in range(1, len(z)):
        z[t] = [0.9 * z[t - 1, 0], -0.6 * z[t - 1, 1]]
        z[t] += rng.standard_normal(2)
    X = z @ rng.standard_normal((2, 3)) + rng.standard_normal((len(z), 3))
    A = subspace(moments(chains_of([X])).autocovariance, 2, 3).A
    np.testing.assert_allclose(np.sort(np.linalg.eigvals(A).real), [-0.6, 0.9], atol=0.03)


def test_autocovariances_are_sums_over_pairs():
    X = training((8, 7), d=2)
    weight = np.array([2.0, 1.0])
    found = moments(chains_of(X, weight))
    rows, w = np.concatenate(X), np.repeat(weight, [8, 7])
    mean = [np.average(x[~np.isnan(x)], weights=w[~np.isnan(x)]) for x in rows.T]
    np.testing.assert_allclose(found.mean, mean, rtol=1e-12)
    lag, total, pairs = 2, 0.0, 0.0
    for x, count in zip(X, weight):
        for t in range(len(x) - lag):
            product = (x[t + lag, 0] - mean[0]) * (x[t, 1] - mean[1])
            if not np.isnan(product):
                total, pairs = total + count * product, pairs + count
    expected = total / pairs / found.sd[0] / found.sd[1]
    assert abs(found.autocovariance[lag, 0, 1] - expected) < 1e-12


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"transition_matrix": np.eye(2)}, "eigenvalues inside the unit circle"),
        ({"transition_matrix": np.eye(3)}, "transition_matrix must be finite numbers of shape"),
        ({"transition_covariance": [[1.0, 2.0], [2.0, 1.0]]}, "positive semi-definite"),
        ({"transition_covariance": [[np.nan, 1.0], [1.0, 1.0]]}, "must be a diagonal matrix"),
        ({"transition_covariance": [[np.nan, 0.0], [0.0, 0.0]]}, "rows of states without noise"),
        ({"transition_covariance": [[np.nan, 0.0], [0.0, -1.0]]}, "negative variances"),
        ({"transition_covariance": np.ones((2, 2))}, "singular where transition_matrix is free"),
        ({"observation_matrix": [[1.0, np.inf]] * 3}, "observation_matrix must be finite"),
    ],
)
def test_matrices_that_cannot_be_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        LinearGaussianSSM(2, **parameters).fit(training())


def test_what_a_diffuse_start_has_not_is_said():
    model = LinearGaussianSSM.from_parameters(
        transition_matrix=[[1.0]],
        transition_covariance=[[1.0]],
        observation_matrix=[[1.0]],
        observation_covariance=[1.0],
        initial="diffuse",
    )
    with pytest.raises(ValueError, match="no distribution to draw from"):
        model.sample(1, n_timesteps=3)
    with pytest.raises(ValueError, match="no prior density"):
        model.elbo([[[1.0], [2.0]]])
    assert np.isinf(model.initial_covariance_).all()
    assert np.isinf(model.forecast([[[np.nan]]]).covariance).all()
