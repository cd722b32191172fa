"""Particle filters: unbiased and convergent on lines, enumerated chains, parts, sequences."""

import pickle
from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import gammaln, logsumexp
from scipy.stats import norm
from sklearn.base import clone
from sklearn.utils import estimator_checks

from sklvm import (
    DensityOutlierDetector,
    GaussianFilter,
    LatentImputer,
    LinearGaussianSSM,
    ParticleFilter,
)
from sklvm.numerics.particles import effective_size, systematic
from tests._sequences import CONTAINERS
from tests.test_gaussian_filter import Line, flat, levels
from tests.test_state_space import drawn, holes, known, parameters


def of(p, **settings):
    """The parameters of a linear model as a particle filter, by `fit` on two sequences."""
    model = ParticleFilter(
        Line(p["transition_matrix"]),
        Line(p["observation_matrix"], p["intercept"]),
        **{name: p[name] for name in p if "covariance" in name or name == "initial_mean"},
        **{"random_state": 0, **settings},
    )
    return model.fit(holes(drawn(LinearGaussianSSM.from_parameters(**p), (9, 4))))


@pytest.fixture(scope="module")
def sequences():
    return [*holes(drawn(known())), np.full((2, 3), np.nan), np.empty((0, 3))]


@pytest.fixture(scope="module")
def many():
    return of(parameters(2, 3), n_particles=30000)


# --- lines ------------------------------------------------------------------------------------


def test_the_estimate_of_the_density_is_unbiased(sequences):
    kalman, p = known(), parameters(2, 3)
    exact = kalman.score_samples(sequences)[:3]
    ratios = []
    for seed in range(300):
        model = of(p, n_particles=64, random_state=seed)
        ratios.append(np.exp(model.score_samples(sequences[:3]) - exact))
    error = np.std(ratios, axis=0, ddof=1) / np.sqrt(len(ratios))
    assert (error < 0.12).all() and (np.std(ratios, axis=0) > 0.05).all()
    assert (np.abs(np.mean(ratios, axis=0) - 1) < 4 * error).all(), np.mean(ratios, axis=0)


def test_scores_converge_and_know_their_error(sequences, many):
    exact = known().score_samples(sequences)
    few = of(parameters(2, 3), n_particles=300)
    stderr, small = many.score_stderr(sequences), few.score_stderr(sequences, n_runs=30)
    assert (np.abs(many.score_samples(sequences) - exact) <= 4 * stderr + 1e-12).all()
    assert_array_equal(stderr[3:], 0.0)
    ratio = small[:3] / stderr[:3]  # of 100 times as many particles
    assert (ratio > 4).all() and (ratio < 25).all()
    assert few.score_kind_ == "estimate"


def answers(model, X):
    """Everything that is an expectation, in a row."""
    states = [*model.filter(X)[:2], *model.smooth(X)[:2]]
    return np.concatenate(
        [
            *(flat(part) for part in states),
            *(np.ravel(part) for part in model.forecast(X, 2)),
            flat(model.impute(X)),
            np.ravel(model.transform(X)),
        ]
    )


def test_states_and_steps_are_those_of_the_kalman_filter(sequences):
    kalman, p, n = known(), parameters(2, 3), 4000
    runs = [answers(of(p, n_particles=n, random_state=s), sequences) for s in range(12)]
    expected = answers(kalman, sequences)
    sd, scale = np.std(runs, axis=0, ddof=1), np.maximum(np.abs(expected), 1.0)
    gap = np.abs(np.mean(runs, axis=0) - expected)
    assert np.median(sd / scale) < 0.05 and np.quantile(sd / scale, 0.95) < 0.5
    assert (gap <= 6 * sd / np.sqrt(12) + 20 / n * scale).all()  # smoothed means have a bias of 1/n


def test_draws_of_paths_have_the_moments_of_the_smoother(sequences):
    X, p = sequences[:1], parameters(2, 3)
    runs = []
    for seed in range(24):
        posterior = of(p, n_particles=1000, random_state=seed).posterior(X)
        paths = np.array([path[0] for path in posterior.sample(400, random_state=seed)])
        runs.append([paths.mean(axis=0)[:-1], (paths[:, 1:] * paths[:, :-1]).mean(axis=0)])
    expected = known().smooth(X)
    kalman = np.array([path[0] for path in known().posterior(X).sample(20000, random_state=0)])
    lag = (kalman[:, 1:] * kalman[:, :-1]).mean(axis=0)
    error = np.std(runs, axis=0, ddof=1) / np.sqrt(24)
    gap = np.abs(np.mean(runs, axis=0) - [expected.mean[0][:-1], lag])
    assert (gap < 5.5 * error).all(), gap / error


# --- other noise: three discrete states, enumerated -------------------------------------------

MOVES = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
STARTS = np.array([0.5, 0.2, 0.3])
RATES = np.array([[1.0, 6.0], [4.0, 2.0], [9.0, 0.5]])


def draw(probs, rng):
    below = np.cumsum(probs, axis=1) <= rng.uniform(size=(len(probs), 1))
    return below.sum(axis=1)[:, None].astype(float)


def sample_initial(n, rng):
    return draw(np.tile(STARTS, (n, 1)), rng)


def sample_transition(Z, rng):
    return draw(MOVES[Z[:, 0].astype(int)], rng)


def transition_log_prob(later, Z):
    return np.log(MOVES[Z[:, 0].astype(int), later[:, 0].astype(int)])


def counts_log_prob(x, Z):
    rates = RATES[Z[:, 0].astype(int)]
    return np.nansum(x * np.log(rates) - rates - gammaln(x + 1), axis=1)


def sample_counts(Z, rng):
    return rng.poisson(RATES[Z[:, 0].astype(int)]).astype(float)


CHAIN = {
    "sample_initial": sample_initial,
    "sample_transition": sample_transition,
    "observation_log_prob": counts_log_prob,
    "sample_observation": sample_counts,
}
COUNTS = np.array([[2.0, 5.0], [np.nan, 3.0], [np.nan, np.nan], [5.0, 1.0], [11.0, np.nan]])


def enumerated(x):
    """log p(x) and P(z_t = k | x) of all paths: number, (T, 3)."""
    paths = np.array(list(product(range(3), repeat=len(x))))
    log_p = np.log(STARTS[paths[:, 0]])
    for t in range(len(x)):
        log_p += np.log(MOVES[paths[:, t - 1], paths[:, t]]) if t else 0.0
        log_p += counts_log_prob(x[t], paths[:, t : t + 1])
    total = logsumexp(log_p)
    probs = np.exp(log_p - total)
    return total, np.array(
        [[probs[paths[:, t] == k].sum() for k in range(3)] for t in range(len(x))]
    )


@pytest.mark.parametrize("known_moves", [None, transition_log_prob], ids=["traced", "backward"])
def test_given_parts_are_enumerated(known_moves):
    model = ParticleFilter(
        **CHAIN, transition_log_prob=known_moves, n_particles=20000, random_state=1
    ).fit([COUNTS, COUNTS[::-1]])
    score, probs = enumerated(COUNTS)
    stderr = model.score_stderr([COUNTS])[0]
    assert abs(model.score_samples([COUNTS])[0] - score) < 4 * stderr < 0.3
    smoothed = model.smooth([COUNTS]).mean[0][:, 0]
    assert_allclose(smoothed, probs @ np.arange(3), atol=0.04)
    filled = model.impute([COUNTS])[0]
    expected = probs @ RATES
    assert_allclose(filled, np.where(np.isnan(COUNTS), expected, COUNTS), atol=0.2)
    drawn = model.impute([COUNTS], "sample", random_state=0)[0]
    assert (drawn % 1 == 0).all() and (drawn[~np.isnan(COUNTS)] == COUNTS[~np.isnan(COUNTS)]).all()
    last = enumerated(COUNTS)[1][-1] @ MOVES
    ahead = model.forecast([COUNTS], 1)
    assert_allclose(ahead.mean[0, 0], last @ RATES, atol=0.15)
    X, Z = model.sample(500, random_state=0, n_timesteps=2)
    assert_allclose((Z[:, 1, 0] == 1).mean(), (STARTS @ MOVES)[1], atol=0.08)
    assert X.shape == (500, 2, 2) and list(model.base_measure_) == ["given"] * 2


def test_paths_without_known_moves_follow_ancestors():
    model = ParticleFilter(**CHAIN, n_particles=50, random_state=1).fit([COUNTS, COUNTS[::-1]])
    (path,) = model.posterior([COUNTS]).sample(1, random_state=0)
    assert set(path[0][:, 0]) <= {0.0, 1.0, 2.0}
    assert not hasattr(model.posterior([COUNTS]), "entropy")


def test_a_part_of_the_model_may_be_gaussian():
    def log_prob(x, Z):
        return norm.logpdf(x[0], Z[:, 0], 0.5)

    common = {"transition_covariance": 0.3, "initial_mean": [0.0], "initial_covariance": 1.0}
    X = levels((8, 5, 3), missing=0.2)
    given = ParticleFilter(observation_log_prob=log_prob, **common, random_state=0).fit(X)
    gaussian = ParticleFilter(observation_covariance=0.25, **common, random_state=0).fit(X)
    assert_allclose(given.score_samples(X), gaussian.score_samples(X), rtol=1e-9)
    assert_allclose(flat(given.smooth(X).mean), flat(gaussian.smooth(X).mean), rtol=1e-7)
    assert not hasattr(given, "observation_covariance_")
    assert_array_equal(given.transition_covariance_, [[0.3]])
    with pytest.raises(ValueError, match=r"give sample_observation\(Z, rng\)"):
        given.forecast(X)


def test_known_parts_need_no_fit():
    model = ParticleFilter.from_parameters(**CHAIN, n_channels=2, random_state=0)
    fitted = ParticleFilter(**CHAIN, random_state=0).fit([COUNTS, COUNTS[::-1]])
    assert_array_equal(model.score_samples([COUNTS]), fitted.score_samples([COUNTS]))
    p = {name: v for name, v in parameters(2, 3).items() if "covar" in name or "mean" in name}
    lines = Line(parameters(2, 3)["transition_matrix"]), Line(np.ones((3, 2)))
    X = drawn(known())
    there = ParticleFilter(*lines, **p, random_state=0).fit(X)
    here = ParticleFilter.from_parameters(*lines, **p, random_state=0)
    assert_array_equal(here.score_samples(X), there.score_samples(X))
    with pytest.raises(ValueError, match="transition_covariance needs numbers"):
        ParticleFilter.from_parameters(
            *lines, **{**p, "transition_covariance": None}, random_state=0
        )


# --- noise ------------------------------------------------------------------------------------


def test_scores_depend_on_their_sequence_alone():
    model = of(parameters(2, 3), n_particles=100)
    X = holes(drawn(known(), (6, 1, 4, 9)))
    alone = [model.score_samples([x])[0] for x in X]
    assert_array_equal(model.score_samples(X), alone)
    assert_array_equal(model.score_samples(X[::-1])[::-1], alone)
    assert_array_equal(model.transform([X[2]])[0], model.transform(X)[2])
    assert model.score_steps([X[3][:5]])[0].tolist() == model.score_steps(X)[3][:5].tolist()
    other = of(parameters(2, 3), n_particles=100, random_state=1)
    assert (other.score_samples(X) != alone).all()


def test_a_stream_says_what_the_filter_says():
    model = of(parameters(2, 3), n_particles=100)
    x = holes(drawn(known(), (9,)))[0]
    states, steps, state = model.filter([x]), model.score_steps([x])[0], None
    for t, row in enumerate(x):
        state = model.filter_update(row, state)
        assert_array_equal(state.mean, states.mean[0][t])
        assert_array_equal(state.covariance, states.covariance[0][t])
        assert state.log_density == steps[t]
    with pytest.raises(TypeError, match="what filter_update returned, got int"):
        model.filter_update(x[0], 3)


def test_systematic_resampling_keeps_expected_counts():
    weights = np.array([0.05, 0.4, 0.0, 0.25, 0.3])
    counts = [
        np.bincount(systematic(weights, u), minlength=5) for u in (np.arange(1000) + 0.5) / 1000
    ]
    assert_allclose(np.mean(counts, axis=0), 5 * weights, atol=1e-2)
    assert (np.abs(np.array(counts) - 5 * weights) < 1).all()
    assert effective_size(np.log(np.full(8, 1 / 8))) == pytest.approx(8)
    assert effective_size(np.log([0.5, 0.5, 1e-300])) == pytest.approx(2)


def test_a_step_that_no_particle_explains():
    def log_prob(x, Z):
        return np.where(np.abs(x[0] - Z[:, 0]) < 0.5, 0.0, -np.inf)

    common = {"transition_covariance": 0.1, "initial_mean": [0.0], "initial_covariance": 0.1}
    X = [np.array([[0.0], [0.1], [0.2]]), np.array([[0.0], [50.0], [0.1]])]
    model = ParticleFilter(observation_log_prob=log_prob, **common, random_state=0).fit(X)
    scores = model.score_samples(X)
    assert np.isfinite(scores[0]) and scores[1] == -np.inf
    assert np.isfinite(flat(model.filter(X).mean)).all()


# --- fits, containers, scikit-learn -----------------------------------------------------------


def test_what_is_free_is_estimated_as_the_gaussian_filter_does():
    X = levels((20, 15, 9))
    model, helper = ParticleFilter(random_state=0).fit(X), GaussianFilter().fit(X)
    for name in ("transition_covariance_", "observation_covariance_", "initial_mean_"):
        assert_array_equal(getattr(model, name), getattr(helper, name))
    assert_array_equal(model.initial_covariance_, helper.initial_covariance_)
    assert model.n_parameters_ == helper.n_parameters_ == 3
    assert_allclose(model.score_samples(X), helper.score_samples(X), atol=1.0)


@pytest.mark.filterwarnings("ignore")
def test_every_check_passes():
    model = ParticleFilter(n_particles=50)
    results = estimator_checks.check_estimator(model, on_skip=None, on_fail=None)
    assert len(results) >= 50
    not_passed = [r for r in results if r["status"] != "passed"]
    assert [(r["check_name"], r["status"], str(r["exception"])) for r in not_passed] == []


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_the_same_answers(name):
    X = levels((6, 4, 1, 5), d=2, missing=0.2)
    X = [np.where(np.arange(len(x))[:, None] == len(x) - 1, 1.0, x) for x in X]
    given = {"transition_covariance": 1.0, "observation_covariance": [1.0, 100.0]}
    first = {"initial_mean": [2.0, 60.0], "initial_covariance": [9.0, 900.0]}
    model = ParticleFilter(**given, **first, n_particles=100, random_state=0)
    there = CONTAINERS[name](X)
    plain, other = model.fit(X), clone(model).fit(there)
    assert_allclose(other.score_samples(there), plain.score_samples(X), rtol=1e-12)
    assert_allclose(other.transform(there), plain.transform(X), rtol=1e-12)
    found = [part[: len(x)] for part, x in zip(other.smooth(there).mean, X)]
    assert_allclose(flat(found), flat(plain.smooth(X).mean), rtol=1e-12)


def test_channels_wrappers_and_pickles():
    model, X = of(parameters(2, 3), n_particles=200), holes(drawn(known(), (8,) * 6))
    part = model.marginal([2, 0])
    seen = [np.where([True, False, True], x, np.nan) for x in X]
    pairs = [x[:, [2, 0]] for x in X]
    assert_allclose(part.score_samples(pairs), model.score_samples(seen), rtol=1e-9)
    again = clone(part).fit(pairs)
    assert_array_equal(again.score_samples(pairs), part.score_samples(pairs))
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.score_samples(X), model.score_samples(X))
    chain = ParticleFilter(**CHAIN, random_state=0).fit([COUNTS, COUNTS[::-1]])
    first = np.where([True, False], COUNTS, np.nan)
    scores = chain.marginal([0]).score_samples([COUNTS[:, :1]])
    assert_array_equal(scores, chain.score_samples([first]))
    again = clone(chain.marginal([0])).fit([COUNTS[:, :1], COUNTS[::-1, :1]])
    assert_array_equal(again.score_samples([COUNTS[:, :1]]), scores)
    assert_array_equal(again.sample(3, 0)[0], chain.marginal([0]).sample(3, 0, n_timesteps=5)[0])
    given = {"transition_covariance": 1.0, "observation_covariance": 1.0}
    few = ParticleFilter(**given, n_particles=50, random_state=0)
    detector = DensityOutlierDetector(few, cv=2, random_state=0).fit(X)
    assert detector.predict([X[0] + 500.0])[0] == -1
    assert not np.isnan(flat(LatentImputer(few).fit(X).transform(X))).any()


# --- refusals ---------------------------------------------------------------------------------

FIRST = {"initial_mean": [0.0, 0.0], "initial_covariance": 1.0}
REFUSED = {
    "twice": (
        {**CHAIN, "transition": Line(np.eye(2))},
        r"sample_transition stands for transition and transition_covariance: do not give \['trans",
    ),
    "alone": ({"transition_log_prob": transition_log_prob}, "belongs to sample_transition"),
    "free Q": (
        {"observation_log_prob": counts_log_prob, **FIRST},
        "transition_covariance needs numbers: .* only where every part of the model is Gaussian",
    ),
    "free mean": (
        {"observation_log_prob": counts_log_prob, "initial_covariance": 1.0},
        "initial_mean needs numbers",
    ),
    "shape of the first": (
        {**CHAIN, "sample_initial": lambda n, rng: rng.normal(size=n)},
        "sample_ini",
    ),
    "shape of a move": (
        {**CHAIN, "sample_transition": lambda Z, rng: Z[:, 0]},
        r"sample_transition must return finite numbers of shape \(1000, 1\), got shape \(1000,\)",
    ),
    "NaN": (
        {**CHAIN, "observation_log_prob": lambda x, Z: x[0] - Z[:, 0]},
        "observation_log_prob must return numbers below infinity.*NaN in a step is left out",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused(name):
    params, message = REFUSED[name]
    model = ParticleFilter(**params, random_state=0)
    with pytest.raises(ValueError, match=message):
        model.fit([COUNTS, COUNTS[::-1]])
    assert not hasattr(model, "n_features_in_")


def test_what_particles_have_not_is_said(sequences):
    model = of(parameters(2, 3), n_particles=50)
    assert not hasattr(model, "elbo")
    with pytest.raises(ValueError, match="particles have no mode"):
        model.impute(sequences, how="mode")
    with pytest.raises(ValueError, match="has no posterior of its parameters"):
        model.impute(sequences, "sample", 2, 0, parameters="posterior")
    with pytest.raises(ValueError, match="n_runs must be at least 2"):
        model.score_stderr(sequences, n_runs=1)


def test_a_given_density_has_constant_channels():
    """Nothing is estimated, so nothing needs them to vary."""
    X = [np.column_stack([COUNTS[[0, 1, 3], 1], np.full(3, 4.0)]), np.zeros((2, 2)) + 4.0]
    known = ParticleFilter.from_parameters(**CHAIN, n_channels=2, n_particles=50, random_state=0)
    model = ParticleFilter(**CHAIN, n_particles=50, random_state=0)
    assert_array_equal(model.fit(X).score_samples(X), known.score_samples(X))
    nothing = [np.zeros((3, 2))]
    assert_array_equal(model.fit(nothing).score_samples(nothing), known.score_samples(nothing))


def test_the_first_states_are_as_many_as_said():
    with pytest.raises(ValueError, match=r"shape \(1000, n_components=2\), got shape \(1000, 1\)"):
        ParticleFilter(**CHAIN, n_components=2, random_state=0).fit([COUNTS])
    bad = {**CHAIN, "sample_initial": lambda n, rng: np.full((n, 1), np.nan)}
    with pytest.raises(ValueError, match="got NaN or infinity"):
        ParticleFilter(**bad, random_state=0).fit([COUNTS])


def test_a_density_does_not_say_how_many_channels_there_are():
    with pytest.raises(ValueError, match="observation_log_prob needs n_channels"):
        ParticleFilter.from_parameters(**CHAIN, random_state=0)


@pytest.mark.filterwarnings("error")
def test_particles_that_are_ruled_out_go_on_without_weight():
    def far(x, Z):
        return np.where(Z[:, 0] == 0, 0.0, -np.inf)

    model = ParticleFilter.from_parameters(
        **{**CHAIN, "observation_log_prob": far}, n_channels=2, n_particles=50, random_state=0
    )
    ahead = model.forecast([COUNTS[:1]], 2)
    assert np.isfinite(ahead.mean).all() and np.isfinite(ahead.state_mean).all()
