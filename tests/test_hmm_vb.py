"""Variational hidden Markov models: bounds on an enumerated evidence, draws, zeros, refusals."""

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import quad
from scipy.special import betaln, gammaln
from scipy.stats import beta, gamma, nbinom, poisson

from sklvm import HMM, Bernoulli, Categorical, Poisson, VariationalGMM
from sklvm.emissions.bernoulli import Bernoullis
from sklvm.emissions.exponential import Totals
from sklvm.emissions.poisson import Poissons
from sklvm.emissions.rate_posteriors import Betas, Gammas
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


def log_marginal(emission, x):
    """log of the integral of p(x | parameters) over one state's prior: a product of predictives."""
    prior = emission.prior
    unseen = replace(prior, prior=prior)
    total, q, stats = 0.0, unseen, None
    for row in x:
        total += q.predictive().log_prob(row[None])[0, 0]
        part = unseen.stats(row[None], np.ones((1, 1)))
        stats = part if stats is None else stats + part
        q = unseen.m_step(stats)
    return total


def of_coins(emission, x):
    """The same of zeros and ones, in closed form."""
    a, b = emission.pseudo * emission.centre, emission.pseudo * (1 - emission.centre)
    ones, zeros = (x == 1).sum(axis=0), (x == 0).sum(axis=0)
    return (betaln(a + ones, b + zeros) - betaln(a, b)).sum()


def of_counts(emission, x):
    a, b = emission.pseudo * emission.centre, emission.pseudo
    n, total = (~np.isnan(x)).sum(axis=0), np.nansum(x, axis=0)
    each = a * np.log(b) - gammaln(a) + gammaln(a + total) - (a + total) * np.log(b + n)
    return each.sum() - gammaln(np.nan_to_num(x) + 1).sum()


def of_codes(emission, x):
    total, first = 0.0, 0
    for column, size in zip(x.T, emission.sizes, strict=True):
        prior = emission.prior[first : first + size]
        counts = np.array([(column == c).sum() for c in range(size)])
        total += log_multinomials(counts, prior)
        first += size
    return total


def of_columns(emission, x):
    kinds = [log_marginal, of_coins, of_counts]
    parts = zip(kinds, emission.parts, x.T[:, :, None], strict=True)
    return sum(closed_form(part, own[~np.isnan(own[:, 0])]) for closed_form, part, own in parts)


COUNTING = {"bernoulli": of_coins, "poisson": of_counts, "categorical": of_codes}


def log_evidence(state, X, log_marginal=log_marginal):
    """log p(X) under the priors of a state, summed over all paths of all sequences."""
    lengths, rows, terms = [len(x) for x in X], np.concatenate(X), []
    K = len(state.startprob.prior)
    cuts = np.cumsum(lengths)[:-1]
    states = [state.emission.take([k]) for k in range(K)]
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
            + sum(log_marginal(states[k], rows[z == k]) for k in range(K))
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
    assert model.lower_bound_ == pytest.approx(log_marginal(model.state_.emission, rows))


@pytest.mark.parametrize("emission", COUNTING)
def test_the_bound_of_counts_is_below_the_evidence(emission):
    X = [
        np.array([[0.0, 1], [0, 1], [1, np.nan], [0, 1]]),
        np.array([[np.nan, 0], [1.0, 0], [1, 0]]),
    ]
    X = [3 * x for x in X] if emission == "poisson" else X
    model = HMM(2, inference="vb", emission=emission, random_state=0).fit(X)
    evidence = log_evidence(model.state_, X, COUNTING[emission])
    assert model.lower_bound_ < evidence < model.lower_bound_ + 4.0


@pytest.mark.parametrize("emission", COUNTING)
def test_one_state_of_counts_has_the_exact_evidence_and_predictive(emission):
    X = sequences(emission, missing=0.15)
    model = HMM(1, inference="vb", emission=emission).fit(X)
    closed_form, q = COUNTING[emission], model.state_.emission
    rows = np.concatenate(X)
    assert model.lower_bound_ == pytest.approx(closed_form(q, rows), rel=1e-11)
    for new in ([1.0, 0, 1], [0.0, np.nan, 1]):
        longer = closed_form(q, np.concatenate([rows, [new]]))
        expected = longer - closed_form(q, rows)
        assert model.score([[new]]) == pytest.approx(expected, rel=1e-9)


def test_one_state_of_mixed_columns_has_the_exact_evidence():
    X = sequences("columns", missing=0.15)
    emission = [("gaussian", [0]), ("bernoulli", [1]), ("poisson", [2])]
    model = HMM(1, inference="vb", emission=emission).fit(X)
    expected = of_columns(model.state_.emission, np.concatenate(X))
    assert model.lower_bound_ == pytest.approx(expected, rel=1e-9)


def posterior(kind, start, seed=0):
    """q of two components and three columns, with some rows seen."""
    rng = np.random.default_rng(seed)
    rows = rng.uniform(1, 9, size=(2, 3))
    centre = np.array([0.3, 0.5, 0.1])
    unseen = kind.unseen(start(np.tile(centre, (2, 1)), 1.5, centre))
    return unseen.m_step(Totals(rows, rows * rng.uniform(size=(2, 3))))


@pytest.mark.parametrize("kind, start", [(Betas, Bernoullis), (Gammas, Poissons)])
def test_expectations_and_divergences_of_rates(kind, start):
    q = posterior(kind, start)
    a, b = q.rows * q.mean, q.rows * (1 - q.mean)
    known = {Betas: lambda k, j: beta(a[k, j], b[k, j])}
    known[Gammas] = lambda k, j: gamma(a[k, j], scale=1 / q.rows[k, j])
    a0, rows = q.pseudo * q.centre, q.pseudo
    prior = {Betas: lambda j: beta(a0[j], rows - a0[j])}
    prior[Gammas] = lambda j: gamma(a0[j], scale=1 / rows)
    x = np.array([[1.0, 0, 1], [np.nan, 1, 0]])
    kl, expected = 0.0, np.zeros((2, 2))
    for k in range(2):
        for j in range(3):
            p = known[kind](k, j)
            low, high = p.ppf([1e-13, 1 - 1e-13])

            def average(f, p=p, low=low, high=high):
                return quad(lambda t: p.pdf(t) * f(t), low, high, limit=200, epsabs=1e-10)[0]

            kl += average(lambda t, p=p, j=j: p.logpdf(t) - prior[kind](j).logpdf(t))
            for i in np.flatnonzero(~np.isnan(x[:, j])):
                log_p = {
                    Betas: lambda t, i=i, j=j: np.log(t if x[i, j] else 1 - t),
                    Gammas: lambda t, i=i, j=j: poisson.logpmf(x[i, j], t),
                }[kind]
                expected[i, k] += average(log_p)
    assert q.log_prior() == pytest.approx(-kl, rel=1e-5)
    assert_allclose(q.log_prob(x), expected, rtol=1e-6)
    assert q.prior.log_prior() == pytest.approx(0.0, abs=1e-12)


def test_the_predictive_of_a_rate_is_negative_binomial():
    q, x = posterior(Gammas, Poissons), np.arange(30.0)
    predictive = q.marginal(np.array([1])).predictive()
    for k in range(2):
        p = nbinom(q.rows[k, 1] * q.mean[k, 1], q.rows[k, 1] / (q.rows[k, 1] + 1))
        assert_allclose(predictive.log_prob(x[:, None])[:, k], p.logpmf(x), rtol=1e-9)
        assert_allclose(predictive.cdf(x[:, None])[:, k, 0], p.cdf(x), rtol=1e-9)


@pytest.mark.parametrize("emission", ["bernoulli", "categorical", "poisson"])
def test_draws_of_counts_average_to_the_expectations(emission):
    model = HMM(2, inference="vb", emission=emission, random_state=0).fit(sequences(emission))
    q, rng = model.state_.emission, np.random.default_rng(0)
    means = np.array([q.draw(rng).expectation() for _ in range(2000)])
    gap = abs(means.mean(axis=0) - q.expectation())
    assert (gap < 5 * means.std(axis=0) / np.sqrt(2000)).all() and means.std() > 0.01
    there = q.unpack(q.pack(q.m_step(q.stats(np.ones((4, 3)), np.ones((4, 2))))))
    assert_allclose(
        there.log_prior(), q.m_step(q.stats(np.ones((4, 3)), np.ones((4, 2)))).log_prior()
    )
    assert_allclose(q.take([1, 0]).log_prior(), q.log_prior(), rtol=1e-12)


@pytest.mark.parametrize("spec", [Bernoulli(0), Categorical(pseudo=0), Poisson(0)])
def test_no_prior_rows_are_no_prior(spec):
    with pytest.raises(ValueError, match="pseudo must be positive for inference='vb'"):
        HMM(2, inference="vb", emission=spec).fit(sequences("bernoulli"))


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
    "settings, why",
    [
        ({"emission": [("independent_t", [0, 1, 2])]}, "inference='vb' has .* got IndependentT"),
        ({"covariance_type": "VEV"}, "needs a covariance_type of .* got 'VEV'"),
    ],
)
def test_what_has_no_posterior_is_refused(settings, why):
    with pytest.raises(ValueError, match=why):
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
    assert_allclose(fitted.transmat.prior, [[1.2, 1.1], [1.1, 1.2]], rtol=1e-12)
