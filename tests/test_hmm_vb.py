"""Variational hidden Markov models: bounds on an enumerated evidence, draws, zeros, refusals."""

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import gammaln

from sklvm import HMM, VariationalGMM
from sklvm.emissions.simplex import Dirichlet, DirichletRows
from sklvm.inference.em import em
from sklvm.sequences import read_training_sequences
from tests._chains import chains_of, sequences

STRUCTURES = pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])


def log_multinomials(counts, prior):
    """log of the integral of prod p^counts over Dirichlet rows."""
    alive = prior > 0
    after = np.where(alive, prior + counts, 1.0)
    log_b = gammaln(after) - gammaln(np.where(alive, prior, 1.0))
    sums = gammaln((prior + counts * alive).sum(axis=-1)) - gammaln(prior.sum(axis=-1))
    return (log_b.sum(axis=-1) - sums).sum()


def log_marginal(prior, x):
    """log of the integral of p(x | parameters) over one state's prior: a product of predictives."""
    unseen = replace(prior, prior=prior)
    total, q, stats = 0.0, unseen, None
    for row in x:
        total += q.predictive().log_prob(row[None])[0, 0]
        part = unseen.stats(row[None], np.ones((1, 1)))
        stats = part if stats is None else stats + part
        q = unseen.m_step(stats)
    return total


def log_evidence(state, X):
    """log p(X) under the priors of a state, summed over all paths of all sequences."""
    lengths, rows, terms = [len(x) for x in X], np.concatenate(X), []
    K = len(state.startprob.prior)
    cuts = np.cumsum(lengths)[:-1]
    priors = [state.emission.take([k]).prior for k in range(K)]
    for path in product(range(K), repeat=len(rows)):
        z = np.array(path)
        first, moves = np.zeros(K), np.zeros((K, K))
        for part in np.split(z, cuts):
            first[part[0]] += 1
            for i, j in pairwise(part):
                moves[i, j] += 1
        if (first[state.startprob.prior == 0] > 0).any() or (
            moves[state.transmat.prior == 0]
        ).any():
            continue
        terms.append(
            log_multinomials(first, state.startprob.prior)
            + log_multinomials(moves, state.transmat.prior)
            + sum(log_marginal(priors[k], rows[z == k]) for k in range(K))
        )
    return np.logaddexp.reduce(terms)


@pytest.mark.parametrize("topology", ["full", "left-right"])
@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
def test_the_bound_is_below_the_evidence(covariance_type, topology):
    rng = np.random.default_rng(0)
    X = [
        np.array([[0.0, 1.0], [0.4, 0.8], [5.0, -2.0]]) + 0.3 * rng.normal(size=(3, 2)),
        np.array([[0.2, 1.3], [4.6, -1.7]]),
    ]
    model = HMM(
        2, inference="vb", covariance_type=covariance_type, topology=topology, random_state=0
    )
    model.fit(X)
    evidence = log_evidence(model.state_, X)
    assert model.lower_bound_ < evidence < model.lower_bound_ + 4.0


@STRUCTURES
def test_one_state_has_the_exact_evidence(covariance_type):
    X = sequences("gaussian")
    model = HMM(1, inference="vb", covariance_type=covariance_type).fit(X)
    rows = np.concatenate(X)
    alone = VariationalGMM(1, covariance_type=covariance_type, empirical_bayes=None).fit(rows)
    assert model.lower_bound_ == pytest.approx(alone.lower_bound_, rel=1e-12)
    assert model.lower_bound_ == pytest.approx(log_marginal(model.state_.emission.prior, rows))


@STRUCTURES
def test_the_bound_never_falls(covariance_type):
    X = sequences("gaussian", missing=0.2)
    X[0][3] = np.nan
    model = HMM(2, inference="vb", covariance_type=covariance_type, random_state=0).fit(X)
    chains = chains_of(X)
    seen = chains.weight > 0
    resp = np.random.default_rng(1).dirichlet([1.0, 1.0], size=seen.sum())
    start = model.state_.start(chains.X[seen], resp)
    for accelerate in (None, "squarem"):
        run = em(start, chains, max_iter=50, tol=0, accelerate=accelerate, strict=True)
        assert run.history[-1] > run.history[0]


def test_sequences_of_one_step_are_a_variational_mixture():
    rows = np.concatenate(sequences("gaussian", (60, 60)))
    model = HMM(2, inference="vb", tol=1e-10, random_state=0).fit([row[None] for row in rows])
    mixture = VariationalGMM(
        2, weight_concentration_prior=1.0, empirical_bayes=None, tol=1e-10, random_state=0
    ).fit(rows)
    assert model.lower_bound_ == pytest.approx(mixture.lower_bound_, abs=1e-4)
    assert_allclose(model.startprob_, mixture.weights_, atol=1e-3)


def test_the_bound_chooses_the_number_of_states():
    X = sequences("gaussian", (150, 100))
    bounds = [HMM(K, inference="vb", random_state=0).fit(X).lower_bound_ for K in (1, 2, 3)]
    assert np.argmax(bounds) == 1


def test_draws_average_to_the_expectations():
    X = sequences("gaussian", missing=0.1)
    settings = {"topology": "left-right", "transmat_prior": 2.0, "random_state": 0}
    model = HMM(2, inference="vb", **settings).fit(X)
    rng = np.random.default_rng(0)
    draws = list(model._parameter_draws(model._read(X), 3000, rng))
    moves = np.array([state.transmat.mean for state in draws])
    assert_allclose(moves.mean(axis=0), model.transmat_, atol=5 * 0.5 / np.sqrt(3000))
    assert (moves[:, 1, 0] == 0).all() and moves[:, 0, 0].std() > 0.01
    means = np.array([state.emission.means for state in draws])
    gap = abs(means.mean(axis=0) - model.means_)
    assert (gap < 5 * means.std(axis=0) / np.sqrt(3000)).all()
    copies = model.impute(X, "sample", n_draws=2, parameters="posterior", random_state=0)
    assert len(copies) == 2 and not np.isnan(np.concatenate(copies[0])).any()


def test_rows_of_dirichlets_are_dirichlets():
    rng = np.random.default_rng(0)
    alpha, prior = rng.uniform(0.5, 4.0, size=(2, 3, 3))
    rows = DirichletRows(alpha, prior)
    alone = [Dirichlet(a, p) for a, p in zip(alpha, prior, strict=True)]
    assert_allclose(rows.log_prob(), [q.log_prob() for q in alone], rtol=1e-12)
    assert rows.log_prior() == pytest.approx(sum(q.log_prior() for q in alone), rel=1e-12)
    assert rows.n_parameters == 6 and (rows.weights.sum(axis=1) < 1).all()
    holed = DirichletRows(*(np.where(np.eye(3) == 1, 0.0, a) for a in (alpha, prior)))
    smaller = [Dirichlet(*(np.delete(a[k], k) for a in (alpha, prior))) for k in range(3)]
    assert holed.log_prior() == pytest.approx(sum(q.log_prior() for q in smaller), rel=1e-12)
    assert_array_equal(np.diag(holed.weights), np.zeros(3))
    after = holed.m_step(np.ones((3, 3)))
    assert_array_equal(np.diag(after.alpha), np.zeros(3))
    assert holed.n_parameters == 3
    assert_allclose(holed.unpack(holed.pack(after)).alpha, after.alpha, rtol=1e-12)
    order = [2, 0, 1]
    assert_array_equal(holed.take(order).alpha, holed.alpha[order][:, order])


@pytest.mark.parametrize(
    "settings",
    [
        {"emission": "student_t"},
        {"emission": [("gaussian", [0, 1, 2])]},
        {"covariance_type": "VEV"},
    ],
)
def test_what_has_no_posterior_is_refused(settings):
    with pytest.raises(ValueError, match="inference='vb' needs emission='gaussian'"):
        HMM(2, inference="vb", **settings).fit(sequences("gaussian"))


def test_priors_below_one_are_for_posteriors():
    X = sequences("gaussian")
    sparse = {"startprob_prior": 0.1, "transmat_prior": 0.1, "random_state": 0}
    assert np.isfinite(HMM(2, inference="vb", **sparse).fit(X).lower_bound_)
    with pytest.raises(ValueError, match="startprob_prior must be at least 1"):
        HMM(2, **sparse).fit(X)


def test_a_variational_chain_goes_on_and_leaves_channels():
    X = sequences("gaussian", missing=0.1)
    model = HMM(2, inference="vb", warm_start=True, random_state=0).fit(X)
    before = model.lower_bound_
    assert model.fit(X).lower_bound_ >= before - 1e-9
    part = model.marginal([1])
    assert part.inference == "em" and part.emission.__class__.__name__ == "StudentT"
    with pytest.raises(ValueError, match="cannot go on"):
        model.set_params(inference="em").fit(X)


def test_a_training_set_is_read_alike():
    """The state's prior is that of the data: shrinking nothing, whatever the path."""
    X = sequences("gaussian")
    model = HMM(2, inference="vb", random_state=0)
    data = read_training_sequences(model, X, n_states=2)
    broad = model._broad(model._family(data.rows()), data.constant)
    fitted = model.fit(X).state_
    assert_allclose(fitted.emission.prior.S, broad.emission.prior.S, rtol=1e-12)
    assert_allclose(fitted.transmat.prior, [[1.1, 1.0], [1.0, 1.1]], rtol=1e-12)
