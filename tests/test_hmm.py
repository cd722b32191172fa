"""Hidden Markov models of known parameters: all paths one by one, and reductions to mixtures."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal

from sklvm import HMM, GaussianMixture, Mixture
from sklvm.inference.modes import joint_modes
from tests._chains import COVARIANCES, MEANS, PI, SMALL, A, Paths, make, sequences, small_chain


def flat(parts):
    return np.concatenate(list(parts))


# --- all paths, one by one --------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    return small_chain(), [Paths(x) for x in SMALL]


def test_scores_are_sums_over_all_paths(small):
    model, paths = small
    assert_allclose(model.score_samples(SMALL), [p.log_likelihood for p in paths], atol=1e-12)
    assert model.score_samples(SMALL)[3] == 0
    assert model.score(SMALL[:3]) == pytest.approx(model.score_samples(SMALL[:3]).mean())
    weight = [1, 2, 0, 1, 3]
    average = np.average([p.log_likelihood for p in paths], weights=weight)
    assert model.score(SMALL, sample_weight=weight) == pytest.approx(average, rel=1e-12)


def test_steps_are_scored_given_the_steps_before(small):
    model, _ = small
    for x, found, probs in zip(SMALL, model.score_steps(SMALL), model.filter(SMALL), strict=True):
        so_far = [Paths(x[: t + 1]) for t in range(len(x))]
        evidence = np.array([0.0, *(p.log_likelihood for p in so_far)])
        assert_allclose(found, np.diff(evidence), atol=1e-12)
        assert_allclose(probs, [p.probs()[-1] for p in so_far] or np.empty((0, 3)), atol=1e-12)


def test_states_given_the_whole_sequence(small):
    model, paths = small
    for found, best, p in zip(model.predict_proba(SMALL), model.predict(SMALL), paths, strict=True):
        assert_allclose(found, p.probs(), atol=1e-12)
        assert_array_equal(best, p.z[p.log_joint.argmax()])
    shares = [p.probs().mean(axis=0) if p.z.size else PI for p in paths]
    assert_allclose(model.transform(SMALL), shares, atol=1e-12)


def test_the_posterior_of_whole_paths(small):
    model, paths = small
    posterior = model.posterior(SMALL)
    entropy = [-(p.posterior * np.log(p.posterior)).sum() for p in paths]
    assert_allclose(posterior.entropy(), entropy, atol=1e-12)
    kl = [p.posterior @ (np.log(p.posterior) - p.log_prior) for p in paths]
    assert_allclose(posterior.kl_to_prior(), kl, atol=1e-12)
    for which in (0, 5, 17):
        z = [p.z[which % len(p.z)] for p in paths]
        expected = [np.log(p.posterior[which % len(p.z)]) for p in paths]
        assert_allclose(posterior.log_prob(z), expected, atol=1e-11)
    for found, p in zip(posterior.probs, paths, strict=True):
        assert_allclose(found, p.probs(), atol=1e-12)
    assert_allclose(flat(posterior.mean), flat(posterior.probs))


def test_the_bound_is_the_score_term_by_term(small):
    model, paths = small
    elbo = model.elbo(SMALL)
    terms = [
        [p.posterior @ p.log_x for p in paths],
        [p.posterior @ p.log_prior for p in paths],
        [-(p.posterior * np.log(p.posterior)).sum() for p in paths],
    ]
    assert_allclose(elbo[:3], terms, atol=1e-11)
    assert_allclose(np.sum(elbo[:3], axis=0), model.score_samples(SMALL), atol=1e-11)
    assert elbo.parameter_kl == 0


def test_paths_are_drawn_from_the_posterior(small):
    model, paths = small
    n = 20_000
    draws = model.posterior(SMALL).sample(n, random_state=0)
    assert len(draws) == n and [z.shape for z in draws[0]] == [(len(x),) for x in SMALL]
    for i in (0, 1):
        codes = np.array([z[i] for z in draws]) @ 3 ** np.arange(len(SMALL[i]))[::-1]
        counts = np.bincount(codes, minlength=len(paths[i].z))
        expected = n * paths[i].posterior
        assert (abs(counts - expected) < 5 * np.sqrt(expected) + 5).all()
    again = model.posterior(SMALL).sample(2, random_state=0)
    assert_array_equal(flat(again[0]), flat(model.posterior(SMALL).sample(2, random_state=0)[0]))


def conditional(x, k):
    """Mean and covariance of the missing entries of one step given the seen ones."""
    seen, S = ~np.isnan(x), COVARIANCES[k]
    gain = S[np.ix_(~seen, seen)] @ np.linalg.inv(S[np.ix_(seen, seen)])
    mean = MEANS[k][~seen] + gain @ (x[seen] - MEANS[k][seen])
    return mean, S[np.ix_(~seen, ~seen)] - gain @ S[np.ix_(seen, ~seen)]


def test_imputed_means_are_averages_over_the_states(small):
    model, paths = small
    for x, whole, p in zip(SMALL, model.impute(SMALL), paths, strict=True):
        seen, probs = ~np.isnan(x), p.probs()
        assert_array_equal(whole[seen], x[seen])
        for t in np.flatnonzero(~seen.all(axis=1)):
            expected = sum(probs[t, k] * conditional(x[t], k)[0] for k in range(3))
            assert_allclose(whole[t][~seen[t]], expected, atol=1e-12)


def test_imputed_draws_have_the_moments_of_the_posterior(small):
    model, paths = small
    x, n = SMALL[0], 4000
    draws = np.array([d[0] for d in model.impute([x], "sample", n_draws=n, random_state=1)])
    assert_array_equal(draws[:, ~np.isnan(x)], np.tile(x[~np.isnan(x)], (n, 1)))
    entries = np.argwhere(np.isnan(x))
    mean, second = np.zeros(len(entries)), np.zeros((len(entries), len(entries)))
    for z, share in zip(paths[0].z, paths[0].posterior, strict=True):
        parts = [conditional(x[t], z[t]) for t in range(5)]
        m = np.concatenate([m for m, _ in parts])
        S = np.zeros((len(m), len(m)))
        end = 0
        for part, _ in enumerate(parts):
            size = len(parts[part][0])
            S[end : end + size, end : end + size] = parts[part][1]
            end += size
        mean += share * m
        second += share * (S + np.outer(m, m))
    found = draws[:, entries[:, 0], entries[:, 1]]
    variance = np.diag(second) - mean**2
    assert (abs(found.mean(axis=0) - mean) < 5 * np.sqrt(variance / n)).all()
    assert_allclose(np.cov(found.T), second - np.outer(mean, mean), atol=0.15)


def test_imputed_modes_are_the_highest_points_of_each_step(small):
    model, paths = small
    whole, grid = model.impute(SMALL, "mode"), np.linspace(-6, 6, 4001)
    for x, filled, p in zip(SMALL, whole, paths, strict=True):
        for t in np.flatnonzero(np.isnan(x).sum(axis=1) == 1):
            moments = [conditional(x[t], k) for k in range(3)]
            height = sum(
                share * multivariate_normal(m, S).pdf(grid)
                for share, (m, S) in zip(p.probs()[t], moments, strict=True)
            )
            found = filled[t][np.isnan(x[t])][0]
            assert abs(found - grid[height.argmax()]) < 0.004
    assert not np.isnan(flat(whole)).any()


def test_modes_where_each_row_has_weights_of_its_own(small):
    rng, emission = np.random.default_rng(0), small[0].emission_
    X = 1.5 * rng.normal(size=(60, 2))
    X[np.arange(60), rng.integers(2, size=60)] = np.nan
    log_weights = np.log(rng.dirichlet([0.5, 0.5, 0.5], size=60))
    alone = [joint_modes(X[[i]], log_weights[i], emission)[0] for i in range(60)]
    assert_allclose(joint_modes(X, log_weights, emission), alone, atol=1e-6)


def test_a_forecast_is_what_missing_steps_at_the_end_would_be(small):
    model, _ = small
    horizon = 3
    ahead = model.forecast(SMALL, horizon)
    longer = [np.concatenate([x, np.full((horizon, 2), np.nan)]) for x in SMALL]
    probs = np.array([p[-horizon:] for p in model.predict_proba(longer)])
    means = np.array([x[-horizon:] for x in model.impute(longer)])
    assert_allclose(ahead.probs, probs, atol=1e-12)
    assert_allclose(ahead.mean, means, atol=1e-12)
    for index in np.ndindex(probs.shape[:2]):
        gap = MEANS - means[index]
        expected = np.einsum("k,kij->ij", probs[index], COVARIANCES)
        expected += np.einsum("k,ki,kj->ij", probs[index], gap, gap)
        assert_allclose(ahead.covariance[index], expected, atol=1e-12)
    with pytest.raises(ValueError, match="horizon must be an integer of at least 1"):
        model.forecast(SMALL, 0)


def test_a_stream_is_filtered_step_by_step(small):
    model, _ = small
    for x, probs, scores in zip(SMALL, model.filter(SMALL), model.score_steps(SMALL), strict=True):
        state = None
        for t, step in enumerate(x):
            state = model.filter_update(step, state)
            assert_allclose(state.probs, probs[t], atol=1e-12)
            assert state.log_density == pytest.approx(scores[t], abs=1e-12)


def test_samples_follow_the_chain(small):
    model, _ = small
    X, Z = model.sample(400, random_state=0, n_timesteps=50)
    assert X.shape == (400, 50, 2) and Z.shape == (400, 50)
    moves = np.zeros((3, 3))
    np.add.at(moves, (Z[:, :-1].ravel(), Z[:, 1:].ravel()), 1)
    n = moves.sum(axis=1, keepdims=True)
    assert (abs(moves / n - A) < 5 * np.sqrt(A * (1 - A) / n)).all()
    first = np.bincount(Z[:, 0], minlength=3) / 400
    assert (abs(first - PI) < 5 * np.sqrt(PI * (1 - PI) / 400)).all()
    for k in range(3):
        x = X[k == Z]
        assert_allclose(x.mean(axis=0), MEANS[k], atol=5 * 1.1 / np.sqrt(len(x)))
        assert_allclose(np.cov(x.T), COVARIANCES[k], atol=0.1)
    assert_array_equal(X, model.sample(400, random_state=0, n_timesteps=50)[0])
    with pytest.raises(ValueError, match="sample needs n_timesteps"):
        model.sample(3)


def test_some_channels_of_a_chain(small):
    model, _ = small
    part = model.marginal([1])
    hidden = [np.column_stack([np.full(len(x), np.nan), x[:, 1]]) for x in SMALL]
    alone = [x[:, 1:] for x in SMALL]
    assert type(part) is HMM and part.n_features_in_ == part.n_channels_ == 1
    assert_allclose(part.score_samples(alone), model.score_samples(hidden), atol=1e-12)


def test_durations_and_long_run_shares(small):
    model, _ = small
    assert_allclose(model.expected_durations_, 1 / (1 - np.diag(A)), rtol=1e-12)
    share = model.stationary_distribution_
    assert_allclose(share @ A, share, atol=1e-13)
    assert share.sum() == pytest.approx(1)
    split = [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]  # two chains in one, no way between
    closed = HMM.from_parameters(startprob=PI, transmat=split, emission=model.emission_)
    assert_allclose(closed.stationary_distribution_, [0.4, 0.4, 0.2], atol=1e-13)
    assert closed.expected_durations_[2] == np.inf
    cycle = HMM.from_parameters(
        startprob=[1.0, 0, 0], transmat=np.roll(np.eye(3), 1, axis=1), emission=model.emission_
    )
    assert_allclose(cycle.stationary_distribution_, np.full(3, 1 / 3), atol=1e-13)


# --- reductions -------------------------------------------------------------------------------


def test_equal_rows_of_moves_are_a_mixture():
    model = small_chain()
    iid = HMM.from_parameters(startprob=PI, transmat=np.tile(PI, (3, 1)), emission=model.emission_)
    mixture = GaussianMixture.from_parameters(weights=PI, means=MEANS, covariances=COVARIANCES)
    expected = [mixture.score_samples(x).sum() if len(x) else 0.0 for x in SMALL]
    assert_allclose(iid.score_samples(SMALL), expected, atol=1e-12)
    assert_allclose(iid.predict_proba(SMALL)[0], mixture.predict_proba(SMALL[0]), atol=1e-12)
    assert_allclose(iid.impute(SMALL)[0], mixture.impute(SMALL[0]), atol=1e-12)
    assert_allclose(iid.impute(SMALL, "mode")[0], mixture.impute(SMALL[0], "mode"), atol=1e-6)


@pytest.mark.parametrize("name", ["gaussian", "tied", "diag", "student_t", "poisson", "columns"])
def test_sequences_of_one_step_are_a_mixture(name):
    rows = flat(sequences(name, (60, 60), missing=0.1))
    rows = rows[~np.isnan(rows).all(axis=1)]
    settings = {"n_components": 2, "tol": 1e-10, "random_state": 0}
    model = make(name).set_params(transmat_prior=1.0, **settings)
    model.fit([row[None] for row in rows])
    mixture = Mixture(emission=model.emission, covariance_type=model.covariance_type, **settings)
    mixture.fit(rows)
    assert model.lower_bound_ == pytest.approx(mixture.lower_bound_, abs=1e-7)
    assert_allclose(model.startprob_, mixture.weights_, atol=2e-4)
    assert_allclose(model.means_, mixture.means_, rtol=2e-3)
    assert_allclose(
        model.score_samples([row[None] for row in rows]), mixture.score_samples(rows), atol=5e-3
    )


def test_one_state_is_one_gaussian():
    X = sequences("gaussian", missing=0.2)
    prior = 4 * 1.5  # of three columns: steps count a quarter of what rows do
    model, alone = HMM().fit(X), GaussianMixture(covariance_prior=prior).fit(flat(X))
    assert_allclose(model.means_, alone.means_, rtol=1e-4)
    assert_allclose(model.score_samples(X).sum(), alone.score_samples(flat(X)).sum(), rtol=1e-6)
    assert_array_equal(model.transmat_, [[1.0]])
