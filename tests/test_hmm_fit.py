"""Fits of hidden Markov models: every emission, weights, containers, labels, priors and zeros."""

import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

from sklvm import HMM, DensityOutlierDetector, GaussianMixture, LatentImputer, PerStep
from sklvm.chain_start import CONTEXT, in_context, sample_chains
from sklvm.inference.em import em, evaluate
from tests._chains import CHAINS, COUNTS, LENGTHS, REAL, chains_of, make, sequences, states
from tests._models import LEFT_OUT_CHECKS, state_equal
from tests._sequences import CONTAINERS, padded

sweep = pytest.mark.parametrize("name", CHAINS)
WEIGHT = np.array([1.0, 2.0, 3.0, 1.0, 2.0])


def flat(parts):
    return np.concatenate(list(parts))


def random_start(model, chains, seed=0):
    """A state of the model whose emission comes from random parts of the steps."""
    seen = chains.weight > 0
    resp = np.random.default_rng(seed).dirichlet([1.0, 1.0], size=seen.sum())
    return model.state_.start(chains.X[seen], resp * chains.weight[seen, None])


# --- every emission ---------------------------------------------------------------------------


@sweep
def test_the_objective_never_falls(name):
    X = sequences(name, missing=0.15)
    chains = chains_of(X, WEIGHT)
    start = random_start(make(name).fit(X, sample_weight=WEIGHT), chains)
    for accelerate in (None, "squarem"):
        settings = {"max_iter": 40, "tol": 0, "strict": True}
        run = em(start, chains, accelerate=accelerate, **settings)
        assert np.isfinite(run.history).all() and run.history[-1] > run.history[0]


@sweep
def test_the_objective_is_the_bound_with_the_prior(name):
    X = sequences(name, missing=0.15)
    model = make(name).fit(X, sample_weight=WEIGHT)
    steps = sum(w * (~np.isnan(x).all(axis=1)).sum() for w, x in zip(WEIGHT, X, strict=True))
    elbo = model.elbo(X)
    total = WEIGHT @ np.sum(elbo[:3], axis=0) + model.state_.log_prior()
    assert model.history_[-1] == pytest.approx(total / steps, rel=1e-10)
    variational = model.inference == "vb"
    assert model.lower_bound_ == pytest.approx(total / (1 if variational else steps), rel=1e-10)
    assert elbo.parameter_kl == (-model.state_.log_prior() if variational else 0.0)


@sweep
def test_weights_are_repeats(name):
    X = sequences(name, missing=0.15)
    once = make(name).fit(X, sample_weight=[2, 1, 0, 3, 1])
    again = make(name).fit([X[0], X[0], X[1], X[3], X[3], X[3], X[4]])
    assert_allclose(again.score_samples(X), once.score_samples(X), rtol=1e-7)
    assert_allclose(again.transmat_, once.transmat_, rtol=1e-6, atol=1e-9)
    doubled = once.bic(X, sample_weight=[2, 1, 0, 1, 1])
    assert doubled == pytest.approx(once.bic([X[0], *X[:2], *X[3:]]), rel=1e-10)


@sweep
def test_order_of_sequences_and_states_that_nobody_saw_change_nothing(name):
    X = sequences(name, missing=0.15)
    model = make(name).fit(X)
    turned = make(name).fit([*X[::-1], np.full((4, 3), np.nan)])
    assert_allclose(turned.score_samples(X), model.score_samples(X), rtol=1e-7)
    assert_allclose(turned.means_, model.means_, rtol=1e-6)


@sweep
def test_verbs_agree_with_each_other(name):
    X = sequences(name, missing=0.15)
    model = make(name).fit(X)
    scores = model.score_samples(X)
    assert_allclose([s.sum() for s in model.score_steps(X)], scores, rtol=1e-9)
    if model.inference == "em":
        assert_allclose(np.sum(model.elbo(X)[:3], axis=0), scores, rtol=1e-9)
    posterior, means = model.posterior(X), [p.mean(axis=0) for p in model.predict_proba(X)]
    best, other = (posterior.log_prob(z) for z in (model.predict(X), states(LENGTHS)))
    assert (best <= 1e-9).all() and (best >= other - 1e-9).all()
    assert_allclose(model.transform(X), means, atol=1e-12)
    for how in ("mean", "mode", "sample"):
        whole = model.impute(X, how, random_state=0)
        seen = ~np.isnan(flat(X))
        assert_array_equal(flat(whole)[seen], flat(X)[seen])
        assert not np.isnan(flat(whole)).any()
    Y, _ = model.sample(3, random_state=0)
    assert Y.shape == (3, model.n_timesteps_, 3) and np.isfinite(model.score_samples(Y)).all()
    ahead = model.forecast(X, 2)
    assert ahead.mean.shape == (5, 2, 3) and ahead.covariance.shape == (5, 2, 3, 3)
    steps, p = sum((~np.isnan(x).all(axis=1)).sum() for x in X), model.n_parameters_
    assert model.bic(X) == pytest.approx(p * np.log(steps) - 2 * scores.sum(), rel=1e-12)
    assert model.aic(X) == pytest.approx(2 * p - 2 * scores.sum(), rel=1e-12)
    assert model.icl(X) == pytest.approx(model.bic(X) + 2 * posterior.entropy().sum(), rel=1e-12)
    part = model.marginal([0, 2])
    assert part.n_channels == 2 and part.n_timesteps_ == model.n_timesteps_
    hidden = [np.where([False, True, False], np.nan, x) for x in X]
    assert_allclose(
        part.score_samples([x[:, [0, 2]] for x in X]), model.score_samples(hidden), rtol=1e-9
    )
    assert np.isfinite(clone(part).fit([x[:, [0, 2]] for x in X]).score([x[:, [0, 2]] for x in X]))


@sweep
def test_fits_pickle_and_clone(name):
    X = sequences(name)
    model = make(name).fit(X)
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.score_samples(X), model.score_samples(X))
    assert state_equal(clone(model).fit(X).state_, model.state_)
    chain = {"startprob": model.startprob_, "transmat": model.transmat_}
    known = HMM.from_parameters(**chain, emission=model.emission_)
    assert_allclose(known.score_samples(X), model.score_samples(X), rtol=1e-12)
    assert_array_equal(flat(known.predict(X)), flat(model.predict(X)))


@sweep
def test_steps_of_one_state_follow_a_known_path(name):
    """With labels for all steps the fit is closed: counts of starts and moves."""
    X, z = sequences(name), states(LENGTHS)
    one_way = make(name).topology == "left-right"
    if one_way:
        z = [np.sort(part) for part in z]
        z = [part - part[0] for part in z]
    model = make(name).fit(X, labels=z)
    first, moves = np.zeros(2), np.zeros((2, 2))
    for part in z:
        first[part[0]] += 1
        np.add.at(moves, (part[:-1], part[1:]), 1)
    allowed = np.triu(np.ones((2, 2))) if one_way else np.ones((2, 2))
    mode = model.inference == "em"  # a mode has one pseudo-count less than an expectation
    first = (first + model.startprob_prior - mode) * ([1, 0] if one_way else 1)
    moves = allowed * (moves + model.transmat_prior - mode + model.sticky * np.eye(2))
    assert_allclose(model.startprob_, first / first.sum(), atol=1e-9)
    assert_allclose(model.transmat_, moves / moves.sum(axis=1, keepdims=True), atol=1e-9)
    if name in ("gaussian", "tied", "diag", "spherical", "VEV"):
        expected = [flat(X)[flat(z) == k].mean(axis=0) for k in range(2)]
        assert_allclose(model.means_, expected, rtol=1e-9)


@pytest.mark.parametrize("name", [name for name in REAL if name not in ("spherical", "VEV")])
def test_units_do_not_matter(name):
    X = sequences(name, missing=0.1)
    factor, shift = np.array([1e-3, 7.0, 1e4]), np.array([5.0, -300.0, 0.1])
    model = make(name).fit(X)
    other = make(name).fit([x * factor + shift for x in X])
    seen = [(~np.isnan(x)).sum(axis=0) @ np.log(factor) for x in X]
    found = other.score_samples([x * factor + shift for x in X]) + seen
    assert_allclose(found, model.score_samples(X), rtol=1e-5, atol=1e-5)


# --- containers -------------------------------------------------------------------------------

VERBS = ("predict", "predict_proba", "filter", "score_steps", "impute")


def per_step(values, X):
    """What a verb returned of any container, step by step."""
    if isinstance(values, np.ndarray) and values.dtype != object:
        return np.concatenate([row[: len(x)] for row, x in zip(values, X, strict=True)])
    return np.concatenate([np.asarray(part) for part in values])


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_the_same_answers(name):
    X = [x[:, :2] for x in sequences("gaussian", (8, 5, 1, 9, 7), missing=0.1)]
    for x in X:
        x[-1] = 0.5, 2.0  # a last step that is there
    held = CONTAINERS[name](X)
    model, other = HMM(2, random_state=0).fit(X), HMM(2, random_state=0).fit(held)
    assert state_equal(other.state_, model.state_)
    for verb in ("score_samples", "transform"):
        assert_allclose(getattr(other, verb)(held), getattr(model, verb)(X), rtol=1e-12)
    for verb in VERBS:
        found, expected = getattr(other, verb)(held), flat(getattr(model, verb)(X))
        assert_allclose(per_step(found, X), expected, rtol=1e-12)
    assert_allclose(other.posterior(held).entropy(), model.posterior(X).entropy(), rtol=1e-12)
    assert_allclose(other.forecast(held, 2).mean, model.forecast(X, 2).mean, rtol=1e-12)


def test_padding_stays_padding():
    X = padded([x[:, :2] for x in sequences("gaussian")])
    gone = np.isnan(X).all(axis=2)
    model = HMM(2, random_state=0).fit(X)
    assert_array_equal(model.predict(X) == -1, gone)
    for verb in ("predict_proba", "filter", "impute"):
        assert_array_equal(np.isnan(getattr(model, verb)(X)).all(axis=2), gone)
    assert_array_equal(np.isnan(model.score_steps(X)), gone)
    path = model.posterior(X).sample(1, random_state=0)[0]
    assert_array_equal(path == -1, gone)


def test_rows_of_numbers_and_stacked_rows():
    X = sequences("gaussian", (6, 6, 6, 6))
    model = HMM(2, random_state=0).fit(X)
    rows = HMM(2, n_channels=3, random_state=0).fit(np.reshape(X, (4, 18)))
    stacked = HMM(2, random_state=0).fit(np.concatenate(X), lengths=[6, 6, 6, 6])
    assert state_equal(rows.state_, model.state_) and state_equal(stacked.state_, model.state_)
    assert rows.n_features_in_ == 18 and rows.n_channels_ == 3
    assert rows.predict(np.reshape(X, (4, 18))).shape == (4, 6)
    with pytest.warns(UserWarning, match=r"fit\(\[X\]\)"):
        HMM(2, random_state=0).fit(np.concatenate(X * 20)[:, :1])


def test_channels_have_names():
    pd = pytest.importorskip("pandas")
    X = [pd.DataFrame(x, columns=["a", "b", "c"]) for x in sequences("columns")]
    emission = [("gaussian", ["a"]), ("poisson", ["c"]), ("bernoulli", ["b"])]
    model = HMM(2, emission=emission, random_state=0).fit(X)
    assert_allclose(model.score_samples(X), make("columns").fit(X).score_samples(X), rtol=1e-12)
    assert list(model.marginal(["a", "c"]).feature_names_in_) == ["a", "c"]
    with pytest.raises(ValueError, match="feature names"):
        model.predict([x[["b", "a", "c"]] for x in X])
    assert list(model.get_feature_names_out()) == ["hmm0", "hmm1"]


def test_a_constant_channel_is_outside_the_density():
    X = sequences("gaussian")
    held = [np.insert(x, 1, 7.0, axis=1) for x in X]
    with pytest.warns(UserWarning, match=r"columns \[1\] are constant"):
        model = HMM(2, random_state=0).fit(held)
    alone = HMM(2, random_state=0).fit(X)
    assert_array_equal(model.score_samples(held), alone.score_samples(X))
    assert_array_equal(model.means_[:, 1], [7.0, 7.0])
    assert (model.covariances_[:, 1] == 0).all()
    assert (model.sample(2, random_state=0)[0][..., 1] == 7).all()
    holes = [x.copy() for x in held]
    holes[0][3] = np.nan
    assert model.impute(holes)[0][3, 1] == 7
    ahead = model.forecast(held)
    assert (ahead.mean[..., 1] == 7).all() and (ahead.covariance[..., 1] == 0).all()


# --- starts, priors, zeros, labels ------------------------------------------------------------


def test_states_come_in_descending_order_of_occupancy():
    X = sequences("gaussian", (60, 60), seed=3)
    for seed in range(4):
        model = HMM(3, random_state=seed).fit(X)
        share = flat(model.predict_proba(X)).mean(axis=0)
        assert (np.diff(share) <= 1e-6).all()
        stats = evaluate(model.state_, chains_of(X)).stats
        assert_allclose(model.run_.stats.moves, stats.moves, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("n_init", [1, 3])
def test_a_left_right_chain_never_goes_back(n_init):
    rng = np.random.default_rng(0)
    z = [np.repeat([0, 1, 2], rng.integers(3, 9, size=3)) for _ in range(12)]
    X = [2.0 * (part[:, None] % 2) + 0.5 * rng.normal(size=(len(part), 1)) for part in z]
    model = HMM(3, topology="left-right", n_init=n_init, random_state=0).fit(X)
    assert_array_equal(model.startprob_, [1, 0, 0])
    assert (model.transmat_[np.tril_indices(3, -1)] == 0).all()
    assert model.transmat_[2, 2] == 1 and model.expected_durations_[2] == np.inf
    paths = model.predict(X)
    assert all((np.diff(path) >= 0).all() for path in paths)
    assert np.mean(flat(paths) == flat(z)) > 0.95
    assert model.n_parameters_ == 0 + 3 + 3 * 2  # starts; moves; means and variances


def test_zeros_stay_zero_and_are_no_parameters():
    X = sequences("diag", (40, 30), seed=1)
    ring = np.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5]])
    settings = {"startprob_init": [0.5, 0.5, 0.0], "transmat_init": ring, "transmat_prior": 2.0}
    model = HMM(3, covariance_type="diag", random_state=0, **settings).fit(X)
    assert_array_equal(model.transmat_ > 0, ring > 0)
    assert model.startprob_[2] == 0
    assert model.n_parameters_ == 1 + 3 + 3 * 6
    with pytest.raises(ValueError, match="allows what the topology does not"):
        HMM(3, topology="left-right", transmat_init=ring).fit(X)


def test_known_states_are_held():
    X, z = sequences("gaussian", seed=4), states(LENGTHS, seed=4)
    some = [np.where(np.arange(len(part)) % 5 == 0, 1 - part, -1) for part in z]
    model = HMM(2, random_state=0).fit(X, labels=some)
    known = flat(some) >= 0
    assert np.mean(flat(model.predict(X))[known] == flat(some)[known]) > 0.9
    chains = chains_of(X, labels=flat(some))
    stats = evaluate(model.state_, chains).stats
    labelled = chains_of([x[:1] for x in X], labels=np.array([part[0] for part in some]))
    held = evaluate(model.state_, labelled).stats
    assert_allclose(held.counts, np.bincount([part[0] for part in some], minlength=2), atol=1e-12)
    assert stats.counts.sum() == pytest.approx(sum(LENGTHS))
    assert stats.moves.sum() == pytest.approx(sum(LENGTHS) - len(LENGTHS))
    assert_allclose(stats.moves.sum(axis=0) + stats.first, stats.counts, rtol=1e-9)


def test_labels_that_the_zeros_rule_out_are_refused():
    X = sequences("gaussian")
    labels = [np.full(len(x), -1) for x in X]
    labels[0][:2] = 1, 0
    with pytest.raises(ValueError, match="rule out the labels of 1 sequences"):
        HMM(2, topology="left-right", random_state=0).fit(X, labels=labels)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"startprob_prior": 0.5}, "startprob_prior"),
        ({"transmat_prior": np.full((2, 2), 0.5)}, "transmat_prior must be at least 1"),
        ({"transmat_prior": np.ones((3, 3))}, r"transmat_prior must be finite numbers of shape"),
        ({"transmat_init": [[0.5, 0.6], [0.5, 0.5]]}, "probabilities with sum 1"),
        ({"startprob_init": [1.0]}, "startprob_init must be finite numbers of shape"),
        ({"sticky": -1.0}, "sticky"),
        ({"topology": "ring"}, "topology"),
        ({"emission": "normal"}, "emission must be one of"),
        ({"emission": [("gaussian", [0])]}, "each column exactly once"),
    ],
)
def test_parameters_that_make_no_sense(settings, message):
    model = HMM(2, **settings)
    with pytest.raises(ValueError, match=message):
        model.fit(sequences("gaussian"))
    assert "run_" not in vars(model)


def test_entries_outside_the_support_are_refused_with_their_columns():
    with pytest.raises(ValueError, match=r"Poisson\(\) needs counts"):
        make("poisson").fit(sequences("gaussian"))
    model = make("columns").fit(sequences("columns"))
    X = sequences("columns")
    X[1][2, 2] = 0.5
    with pytest.raises(ValueError, match=r"columns \[2\]"):
        model.predict(X)


def test_from_parameters_checks_what_it_is_given():
    good = {"startprob": [0.5, 0.5], "transmat": np.eye(2)}
    gaussian = {"means": np.zeros((2, 1)), "covariances": np.ones((2, 1, 1))}
    model = HMM.from_parameters(**good, **gaussian)
    assert model.score_samples([np.zeros((3, 1))])[0] == pytest.approx(-1.5 * np.log(2 * np.pi))
    emission = model.emission_
    with pytest.raises(ValueError, match="give emission, or means and covariances"):
        HMM.from_parameters(**good)
    with pytest.raises(ValueError, match="give emission, or means and covariances"):
        HMM.from_parameters(**good, emission=emission, **gaussian)
    with pytest.raises(ValueError, match="transmat must hold probabilities"):
        HMM.from_parameters(startprob=[0.5, 0.5], transmat=np.ones((2, 2)), emission=emission)
    with pytest.raises(ValueError, match="3 start probabilities for 2 states"):
        HMM.from_parameters(startprob=np.full(3, 1 / 3), transmat=np.eye(3), emission=emission)
    with pytest.raises(TypeError, match="must be an Emission"):
        HMM.from_parameters(**good, emission="gaussian")
    with pytest.raises(AttributeError, match="from_parameters"):
        model.transmat_ = np.eye(2)


# --- the driver -------------------------------------------------------------------------------


def test_imputation_knows_how_uncertain_the_parameters_are():
    """Of one state the bootstrapped means spread as a mean does: S / n for n sequences."""
    rng = np.random.default_rng(0)
    X = [x[None] for x in rng.normal(size=(60, 2)) * [1.0, 5.0]]
    model = HMM(covariance_prior=0).fit(X)
    draws = model._parameter_draws(model._read(X), 300, rng)
    means = np.array([state.emission.means[0] for state in draws])
    expected = np.diag(model.covariances_[0]) / 60
    assert_allclose(means.var(axis=0), expected, rtol=0.3)
    X[3][0, 1] = X[9][0, 0] = np.nan
    copies = model.impute(X, "sample", n_draws=3, parameters="posterior", random_state=1)
    assert len(copies) == 3 and not np.isnan(flat(copies[0])).any()
    assert copies[0][3][0, 1] != copies[1][3][0, 1] and copies[0][3][0, 0] == X[3][0, 0]
    again = model.impute(X, "sample", n_draws=3, parameters="posterior", random_state=1)
    assert_array_equal(flat(again[2]), flat(copies[2]))
    with pytest.raises(ValueError, match="needs two that differ"):
        model.impute(X[:1], "sample", parameters="posterior")
    with pytest.raises(ValueError, match="parameters='posterior' needs how='sample'"):
        model.impute(X, parameters="posterior")


def test_a_warm_start_goes_on():
    X = sequences("gaussian", (80, 60), seed=2)
    model = HMM(2, warm_start=True, max_iter=2, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        first = model.fit(X).lower_bound_
        for _ in range(200):
            if model.fit(X).converged_:
                break
    assert model.lower_bound_ >= first
    cold = HMM(2, tol=1e-9, random_state=0).fit(X)
    assert model.lower_bound_ == pytest.approx(cold.lower_bound_, abs=1e-5)
    with pytest.raises(ValueError, match="warm_start goes on from 2"):
        model.set_params(n_components=3).fit(X)


def test_threads_and_memory_change_nothing_but_rounding():
    X = sequences("gaussian", (30,) * 40, missing=0.1)
    one = HMM(2, random_state=0).fit(X)
    assert_allclose(HMM(2, n_jobs=2, random_state=0).fit(X).transmat_, one.transmat_, rtol=1e-6)
    long = [np.concatenate(X * 3)]
    whole, little = (evaluate(one.state_, chains_of(long, max_memory=m)) for m in (256e6, 0))
    assert little.objective == pytest.approx(whole.objective, rel=1e-12)
    assert_allclose(little.stats.moves, whole.stats.moves, rtol=1e-9)
    together, parts = (evaluate(one.state_, chains_of(X), n_jobs=n) for n in (1, 2))
    assert_allclose(parts.stats.moves, together.stats.moves, rtol=1e-10)
    assert_allclose(parts.stats.emission.means(), together.stats.emission.means(), rtol=1e-10)
    assert parts.objective == pytest.approx(together.objective, rel=1e-12)


@pytest.mark.parametrize("n", [4, 40])
@pytest.mark.parametrize("name", ["gaussian", "tied", "poisson", "columns"])
def test_what_passes_share_changes_nothing(name, n):
    X = sequences(name, (90,) * n)
    X[3][4] = np.nan
    chains = chains_of(X)
    state = make(name).set_params(n_init=1, max_iter=30).fit(X[:6]).state_
    known = state.known(chains.X, chains.weight, lambda f, rows: f(*rows))
    assert (known is not None) == (n == 40 and name != "gaussian")
    plain, shared = evaluate(state, chains), evaluate(state, chains, known=known)
    assert shared.objective == pytest.approx(plain.objective, rel=1e-11)
    assert_allclose(shared.stats.moves, plain.stats.moves, rtol=1e-8)


def test_long_tables_are_started_on_a_part():
    rng = np.random.default_rng(0)
    z = np.cumsum(rng.uniform(size=30_000) > 0.98) % 2
    X = z[:, None] * 4.0 + rng.normal(size=(30_000, 1))
    series = HMM(2, random_state=0).fit([X])
    assert_allclose(np.sort(series.means_.ravel()), [0, 4], atol=0.05)
    assert_allclose(np.diag(series.transmat_), 0.98, atol=0.01)
    parts = np.split(X, 300)
    once = HMM(2, random_state=0).fit(parts)
    order = rng.permutation(300)
    turned = HMM(2, random_state=0).fit([parts[i] for i in order])
    assert_allclose(turned.means_, once.means_, rtol=1e-9)
    twice = HMM(2, random_state=0).fit(parts, sample_weight=np.full(300, 2.0))
    assert_allclose(HMM(2, random_state=0).fit(parts * 2).means_, twice.means_, rtol=1e-9)


def test_what_the_short_runs_see_does_not_depend_on_units():
    rng = np.random.default_rng(1)
    X = [rng.normal(size=(T, 2)).round(1) for T in rng.integers(1, 40, size=900)]
    X[5][0, 1] = np.nan
    labels = rng.integers(-1, 2, size=sum(map(len, X)))
    chains = chains_of(X, rng.integers(1, 4, size=900), labels)
    moved = chains._replace(X=3.0 * chains.X - [7.0, -200.0])
    (some, steps), (other, _) = (sample_chains(c, 16, size=2000) for c in (chains, moved))
    assert 1500 < len(some.X) < 2500 and some.counts.sum() > chains.counts.sum()
    assert_array_equal(other.starts, some.starts)
    assert_array_equal(other.labels, some.labels)
    assert_allclose(other.X, 3.0 * some.X - [7.0, -200.0], rtol=1e-12)
    assert np.diff(some.starts).max() <= 16
    assert len(steps.X) == (~np.isnan(some.X).all(axis=1)).sum()
    assert (steps.places > 0).all() and (steps.places < 1).all()


def test_starts_see_what_comes_before_and_after_a_step():
    X = [np.array([[1.0], [2.0], [np.nan], [4.0]]), np.array([[5.0], [6.0]])]
    steps = sample_chains(chains_of(X, [1, 3]), longest=np.inf)[1]
    assert steps.X.ravel().tolist() == [1, 2, 4, 5, 6]
    average = (1 + 2 + 4 + 3 * 5 + 3 * 6) / 9
    before, after = [average, 1, average, average, 5], [2, average, average, 6, average]
    expected = np.column_stack([steps.X, CONTEXT * np.array(before), CONTEXT * np.array(after)])
    assert_allclose(in_context(steps.X, steps), expected, rtol=1e-15)


def test_what_watches_a_fit(capsys):
    X = sequences("gaussian")
    HMM(2, verbose=1, verbose_interval=1, random_state=0).fit(X)
    assert "HMM iteration 1: " in capsys.readouterr().out
    with pytest.warns(ConvergenceWarning, match="HMM did not converge in 1 iterations"):
        HMM(2, max_iter=1, tol=0.0, random_state=0).fit(X)


# --- scikit-learn -----------------------------------------------------------------------------

CHECKED = {
    "default": HMM(),
    "states": HMM(2, covariance_type="diag", random_state=0),
    "student_t": HMM(2, emission="student_t", n_init=2, random_state=0),
    "left-right": HMM(2, topology="left-right", n_init=2, random_state=0),
    "vb": HMM(2, inference="vb", n_init=2, random_state=0),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CHECKED)
def test_every_check_passes(name):
    model = clone(CHECKED[name])
    results = estimator_checks.check_estimator(model, on_skip=None, on_fail=None)
    assert len(results) >= 50
    not_passed = [r for r in results if r["status"] != "passed"]
    assert [(r["check_name"], r["status"], str(r["exception"])) for r in not_passed] == []


# scikit-learn's one check that heeds no tags draws its rows from [0, 1].
NO_TAGS = {"check_sample_weight_equivalence_on_dense_data"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("emission", ["categorical", "poisson", "negative_binomial"])
def test_every_check_that_heeds_the_tags_passes(emission):
    model = HMM(2, emission=emission, n_init=2, random_state=0)
    results = estimator_checks.check_estimator(model, on_skip=None, on_fail=None)
    left = [r for r in results if r["status"] != "passed" and r["check_name"] not in NO_TAGS]
    assert [(r["check_name"], r["status"], str(r["exception"])) for r in left] == []
    assert len(results) >= 50


class Mapped(HMM):
    """For these checks only: validation maps any number into the support."""

    def _into(self, X):
        table = np.asarray(X)
        if table.ndim != 2 or not table.size or not np.isreal(table).all():
            return X  # for validation to refuse
        return np.floor(np.abs(np.asarray(table, float) * 3.0)) % 2

    def fit(self, X, y=None, sample_weight=None, *, lengths=None, labels=None):
        return super().fit(self._into(X), y, sample_weight, lengths=lengths, labels=labels)

    def _read_all(self, X, lengths=None):
        read = super()._read_all(X, lengths)
        return replace(read, steps=self._into(read.steps))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = tags.input_tags.categorical = False
        return tags


# Two states of one 0-or-1 channel have paths of equal probability, which rounding chooses among.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("K", "emission"), [(1, "bernoulli"), (2, "poisson")])
def test_every_check_passes_where_validation_maps_into_the_support(K, emission):
    model = Mapped(K, emission=emission, n_init=2, random_state=0)
    results = estimator_checks.check_estimator(model, on_skip=None, on_fail=None)
    left = [r for r in results if r["status"] != "passed"]
    assert [(r["check_name"], r["status"], str(r["exception"])) for r in left] == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("check", LEFT_OUT_CHECKS)
def test_the_checks_that_check_estimator_leaves_out(check):
    getattr(estimator_checks, check)("HMM", HMM(2, random_state=0))


@pytest.mark.parametrize("container", [list, padded], ids=["list", "padded"])
def test_searches_pipelines_and_cross_validation(container):
    X = container(sequences("gaussian", (10,) * 12))
    pipeline = make_pipeline(PerStep(StandardScaler()), HMM(2, random_state=0))
    assert np.isfinite(cross_val_score(pipeline, X, cv=3)).all()
    search = GridSearchCV(HMM(random_state=0, n_init=2), {"n_components": [1, 2]}, cv=3).fit(X)
    assert search.best_params_ == {"n_components": 2}
    assert len(pipeline.fit(X).predict(X)) == 12


def test_wrappers_take_sequences():
    X = sequences("gaussian", (10,) * 20, missing=0.1)
    odd = X[0] + np.array([40.0, -900.0, 9.0])
    detector = DensityOutlierDetector(HMM(2, random_state=0), cv=2, random_state=0).fit(X)
    assert detector.predict([*X[:2], odd])[-1] == -1
    assert detector.pvalue([odd])[0] <= 0.05
    filled = LatentImputer(HMM(2, random_state=0)).fit(X).transform(X)
    assert not np.isnan(flat(filled)).any()
    assert_array_equal(flat(filled)[~np.isnan(flat(X))], flat(X)[~np.isnan(flat(X))])


def test_models_of_rows_say_where_sequences_belong():
    X = sequences("gaussian")
    for model in (DensityOutlierDetector(), LatentImputer(), GaussianMixture(2)):
        with pytest.raises(ValueError, match="describes rows, and X holds tables: sequences are"):
            model.fit(X)


def test_paths_of_stacked_rows():
    X = sequences("gaussian")
    rows, lengths = np.concatenate(X), [len(x) for x in X]
    stacked = HMM(2, random_state=0).fit_predict(rows, lengths=lengths)
    listed = HMM(2, random_state=0).fit_predict(X)
    assert stacked.shape == (len(rows),)
    assert_array_equal(stacked, flat(listed))


def test_warnings_point_at_the_line_of_the_user():
    X = [np.column_stack([x, np.ones(len(x))]) for x in sequences("gaussian")]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        HMM(2, max_iter=2, n_init=1, tol=0, random_state=0).fit(X, sample_weight=[0.05] * 5)
        HMM(random_state=0, max_iter=1, tol=0).fit_predict(X)
        GridSearchCV(HMM(max_iter=1, tol=0), {"n_components": [1]}, cv=2).fit(X)
    kinds = {str(w.message).split()[0] for w in caught}
    assert {"columns", "HMM", "the"} <= kinds and {w.filename for w in caught} == {__file__}


def test_searches_route_weights_and_labels():
    with config_context(enable_metadata_routing=True):
        model = HMM().set_fit_request(sample_weight=True, labels=True)
        request = model.get_metadata_routing()
    assert request.fit.requests["labels"] is True and "lengths" in request.fit.requests
    assert not hasattr(HMM(), "inverse_transform")


def test_counts_are_declared():
    tags = HMM(emission="poisson").__sklearn_tags__().input_tags
    assert tags.positive_only and tags.three_d_array and tags.allow_nan
    assert set(COUNTS) < set(CHAINS)
