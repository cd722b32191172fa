"""Posteriors of all four structures: exact evidence and predictive, divergences, learnt priors."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.special import betaln, gammaln, logsumexp, multigammaln
from scipy.stats import gamma, norm

from sklvm.emissions.conjugate import PSEUDO_ROWS
from sklvm.emissions.simplex import Dirichlet, StickBreaking
from sklvm.inference.em import em, evaluate
from sklvm.mixture_state import MixtureState
from sklvm.variational_prior import POSTERIORS
from tests.emissions.builders import covariance, responsibilities, rows

STRUCTURES = list(POSTERIORS)
MASKED = ["diag", "spherical"]  # a missing entry drops out: everything stays closed
over = pytest.mark.parametrize("structure", STRUCTURES)


def prior(structure, d, K=1, seed=0, learnt=()):
    """A prior as `VariationalGMM` makes them: the same for all components."""
    rng = np.random.default_rng(seed)
    kind = POSTERIORS[structure]
    cov = covariance(structure, 1, d, rng)
    m = np.tile(rng.standard_normal(d), (K, 1))
    nu = kind.least_degrees(d) + rng.uniform(1, 4)
    return kind.unseen(m, rng.uniform(0.3, 1), nu, cov, learnt)


def data(n, d, seed=1):
    rng = np.random.default_rng(seed)
    return 1 + rng.standard_normal((n, d)) @ rng.standard_normal((d, d))


def updated(p, X, resp=None):
    return p.m_step(p.stats(X, np.ones((len(X), 1)) if resp is None else resp))


def log_evidence(structure, p, X, z):
    """log p(X | z) in closed form: the components' means, and the precisions they share, are out.

    NaN only for the structures of `MASKED`.
    """
    K, d = p.m.shape
    beta0, m0 = np.broadcast_to(p.beta.reshape(K, -1), (K, d)), p.m
    total, scatters, counts = 0.0, [], []
    for k in range(K):
        x = X[z == k]
        seen = ~np.isnan(x)
        n, first = seen.sum(axis=0), np.where(seen, x - m0[k], 0.0).sum(axis=0)
        outer = np.einsum("ni,nj->ij", *2 * [np.where(seen, x - m0[k], 0.0)])
        total += 0.5 * np.log(beta0[k] / (beta0[k] + n)).sum() - 0.5 * n.sum() * np.log(np.pi)
        root = first / np.sqrt(beta0[k] + n)
        scatters.append(outer - np.outer(root, root))
        counts.append(n)
    if structure in MASKED:
        for k, (scatter, n) in enumerate(zip(scatters, counts, strict=True)):
            squares = np.diag(scatter)
            if structure == "spherical":
                squares, n = squares.sum(keepdims=True), n.sum(keepdims=True)
            for S0, nu0, extra, more in zip(p.S[k], p.nu[k], squares, n, strict=True):
                total += _log_wishart_ratio(np.eye(1) * S0, nu0, np.eye(1) * extra, more)
        return total
    if structure == "tied":
        scatters, counts = [sum(scatters)], [sum(counts)]
    for k, (scatter, n) in enumerate(zip(scatters, counts, strict=True)):
        total += _log_wishart_ratio(p.S[k], p.nu[k], scatter, n[0])
    return total


def _log_wishart_ratio(S0, nu0, scatter, n):
    """Normalisers of a Wishart before and after n rows with a scatter."""
    d, nu = len(S0), nu0 + n
    before = 0.5 * nu0 * np.linalg.slogdet(S0)[1] - multigammaln(nu0 / 2, d)
    after = 0.5 * nu * np.linalg.slogdet(S0 + scatter)[1] - multigammaln(nu / 2, d)
    return before - after


# --- one component: everything is exact -------------------------------------------------------


@over
@pytest.mark.parametrize(("n", "d"), [(1, 1), (20, 1), (7, 3), (60, 4)])
def test_the_bound_of_one_component_is_the_log_evidence(structure, n, d):
    p, X = prior(structure, d), data(n, d)
    q = updated(p, X)
    bound = float(q.log_prob(X).sum() + q.log_prior())
    assert bound == pytest.approx(log_evidence(structure, p, X, np.zeros(n)), abs=1e-8)


@pytest.mark.parametrize("structure", MASKED)
def test_missing_entries_leave_it_exact_where_columns_are_independent(structure):
    p, X = prior(structure, 4), rows()
    q = updated(p, X)
    bound = float(q.log_prob(X).sum() + q.log_prior())
    assert bound == pytest.approx(log_evidence(structure, p, X, np.zeros(len(X))), abs=1e-8)
    assert q.log_prob(np.full((1, 4), np.nan))[0, 0] == 0.0


@over
def test_the_structures_agree_in_one_dimension(structure):
    X = data(12, 1)
    full = prior("full", 1)
    cov = covariance(structure, 1, 1, np.random.default_rng(0))
    cov = cov.scaled(full.cov.S.ravel() / cov.dense().ravel())
    p = POSTERIORS[structure].unseen(full.m, full.beta, full.nu, cov)
    assert_allclose(updated(p, X).log_prob(X), updated(full, X).log_prob(X), rtol=1e-10)
    assert updated(p, X).log_prior() == pytest.approx(updated(full, X).log_prior(), rel=1e-10)


def test_tied_with_one_component_is_full():
    X, full = rows(), prior("full", 4)
    tied = POSTERIORS["tied"].unseen(full.m, full.beta, full.nu, full.cov)
    for _ in range(3):
        full, tied = updated(full, X), updated(tied, X)
    assert_allclose(tied.log_prob(X), full.log_prob(X), rtol=1e-10)
    assert tied.log_prior() == pytest.approx(full.log_prior(), rel=1e-10)
    assert_allclose(tied.predictive().log_prob(X), full.predictive().log_prob(X), rtol=1e-10)


@over
def test_the_predictive_is_a_ratio_of_evidences(structure):
    """Each component's, given who belongs to whom; tied ones learn from each other's rows."""
    d, K = 3, 2
    p, X = prior(structure, d, K), data(14, d)
    z = np.arange(14) % 2
    q = updated(p, X, np.eye(K)[z])
    new = np.array([[0.5, -2.0, 1.5], [9.0, 0.0, 4.0]])
    for k in range(K):
        for x, found in zip(new, q.predictive().log_prob(new)[:, k], strict=True):
            more = log_evidence(structure, p, np.vstack([X, x]), np.append(z, k))
            assert found == pytest.approx(more - log_evidence(structure, p, X, z), abs=1e-8)


@over
def test_the_predictive_is_a_density_and_a_missing_entry_is_integrated_out(structure):
    p = prior(structure, 2)
    q = updated(p, data(8, 2)).predictive()

    def slice_(x):
        return lambda y: np.exp(q.log_prob(np.array([[x, y]]))[0, 0])

    def line(f):
        return quad(f, -np.inf, 1, epsabs=1e-13)[0] + quad(f, 1, np.inf, epsabs=1e-13)[0]

    for x in (0.3, -4.0):
        hidden = np.exp(q.log_prob(np.array([[x, np.nan]]))[0, 0])
        assert line(slice_(x)) == pytest.approx(hidden, rel=1e-8)
    assert line(lambda x: np.exp(q.log_prob(np.array([[x, np.nan]]))[0, 0])) == pytest.approx(1)


# --- two components: the bound is below the exact evidence ------------------------------------


def log_prior_of_assignments(weights, z):
    counts = np.bincount(z, minlength=2)
    if isinstance(weights, Dirichlet):
        a = weights.prior
        return (
            (gammaln(a + counts) - gammaln(a)).sum()
            + gammaln(a.sum())
            - gammaln(a.sum() + counts.sum())
        )
    g = weights.concentration
    first, second = counts[weights.order]
    return betaln(1 + first, g + second) - betaln(1, g)


WEIGHTS = {
    "dirichlet": Dirichlet(np.array([0.7, 0.7]), np.array([0.7, 0.7])),
    "sticks": StickBreaking.unseen(2, 1.3),
}


@over
@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_bound_is_below_the_evidence_of_all_assignments(structure, weights):
    """And the gap, KL(q || posterior) of z and parameters, is at least that of z alone."""
    X, K, n = data(7, 2), 2, 7
    X[:3] += 4
    state = MixtureState(WEIGHTS[weights], prior(structure, 2, K))
    start = state.start(X, np.random.default_rng(0).dirichlet(np.ones(K), n))
    run = em(start, (X, np.ones(n)), max_iter=2000, tol=1e-12, strict=True)
    joint, log_q = [], []
    resp = run.state.responsibilities(X)
    for z in map(np.array, product(range(K), repeat=n)):
        prior_of_z = log_prior_of_assignments(run.state.weights, z)
        joint.append(prior_of_z + log_evidence(structure, state.emission.prior, X, z))
        log_q.append(np.log(resp[np.arange(n), z]).sum())
    joint, log_q = np.array(joint), np.array(log_q)
    evidence, bound = logsumexp(joint), run.objective * n
    divergence = float(np.exp(log_q) @ (log_q - joint + evidence))
    assert 0 < divergence < evidence - bound < 4
    assert np.diff(run.history).min() > -1e-12


# --- expectations and divergences -------------------------------------------------------------


@over
def test_expected_statistics_say_what_rows_say(structure):
    p, X = prior(structure, 3, K=2), data(20, 3)
    resp = responsibilities(20, 2)
    q = updated(p, X, resp)
    direct = float((resp * q.log_prob(X)).sum())
    assert q.expected(p.stats(X, resp)) == pytest.approx(direct, rel=1e-11)
    assert q.expected(q.stats(X, resp)) == pytest.approx(direct, rel=1e-11)


@pytest.mark.parametrize("structure", MASKED)
def test_the_log_prior_is_minus_the_divergence_by_monte_carlo(structure):
    q = updated(prior(structure, 2), data(5, 2))
    rng = np.random.default_rng(0)
    precision = rng.gamma(q.nu[0] / 2, 2 / q.S[0], (100_000, q.S.shape[1]))
    mean = rng.normal(q.m[0], 1 / np.sqrt(q.beta[0] * precision))

    def log_density(p):
        log_gamma = gamma.logpdf(precision, p.nu[0] / 2, scale=2 / p.S[0]).sum(axis=1)
        return log_gamma + norm.logpdf(mean, p.m[0], 1 / np.sqrt(p.beta[0] * precision)).sum(axis=1)

    ratio = log_density(q.prior) - log_density(q)
    assert abs(q.log_prior() - ratio.mean()) < 5 * ratio.std() / np.sqrt(len(ratio))
    terms = norm.logpdf([[0.5, -1.0]], mean, 1 / np.sqrt(precision)).sum(axis=1)
    expected = q.log_prob(np.array([[0.5, -1.0]]))[0, 0]
    assert abs(terms.mean() - expected) < 5 * terms.std() / np.sqrt(len(terms))


@over
@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_a_sweep_says_what_the_plain_questions_say(structure, missing):
    p, X = prior(structure, 4, K=3), rows(missing=missing)
    X = X if missing else X[[0, *range(2, 30)]]
    q = updated(p, X, responsibilities(len(X), 3))
    offset = np.array([0.3, -1.0, 0.0])
    for value in (q, replace(q, m=q.m + 1e6)):  # and where squares are not expanded
        rows_ = X + (value.m - q.m)[0]
        sweep = value.sweep(offset)
        log_prob, sums = sweep.block(rows_)
        assert_allclose(log_prob, value.log_prob(rows_) + offset, rtol=1e-7, atol=1e-7)
        resp = responsibilities(len(X), 3)
        total, _ = sweep.total(sums(resp), 0.0)
        found, plain = total.about(value.m).second, value.stats(rows_, resp).about(value.m).second
        if structure == "spherical":  # a ball asks for the sum over the columns
            found, plain = found.sum(axis=1), plain.sum(axis=1)
        assert_allclose(found, plain, rtol=1e-6, atol=1e-6)


# --- a value like every emission --------------------------------------------------------------


@over
def test_a_component_without_rows_returns_to_its_prior(structure):
    p, X = prior(structure, 3, K=2), np.delete(rows(d=3), 1, axis=0)
    resp = responsibilities(len(X), 2)
    q = updated(p, X, resp)
    resp[:, 1] = 0
    q = updated(q, X, resp)
    for name in ("m", "beta"):
        assert_allclose(getattr(q, name)[1], getattr(p, name)[1], rtol=1e-9)
    if structure != "tied":
        assert_allclose(q.S[1], p.S[1], rtol=1e-9)


@over
def test_pack_and_unpack_are_inverse_and_q_is_where_the_bound_is_highest(structure):
    p, X = prior(structure, 3, K=2), data(20, 3)
    resp = responsibilities(20, 2)
    q = updated(p, X, resp)
    assert_allclose(q.pack(q), 0.0, atol=1e-12)
    again = p.unpack(p.pack(q))
    for name in ("m", "beta", "nu", "S"):
        assert_allclose(getattr(again, name), getattr(q, name), rtol=1e-9)

    def bound(other):
        return float((resp * other.log_prob(X)).sum() + other.log_prior())

    size, step = len(q.pack(q)), 1e-4
    for i in range(size):
        e = step * np.eye(size)[i]
        assert max(bound(q.unpack(e)), bound(q.unpack(-e))) < bound(q)
        assert abs(bound(q.unpack(e)) - bound(q.unpack(-e))) / (2 * step) < 1e-4


@over
def test_take_and_marginal(structure):
    p, X = prior(structure, 3, K=3), data(20, 3)
    q = updated(p, X, responsibilities(20, 3))
    order, columns = np.array([2, 0, 1]), np.array([2, 0])
    assert_allclose(q.take(order).log_prob(X), q.log_prob(X)[:, order], rtol=1e-12)
    assert q.take(order).log_prior() == pytest.approx(q.log_prior())
    hidden = X.copy()
    hidden[:, 1] = np.nan
    part = q.marginal(columns).predictive().log_prob(X[:, columns])
    assert_allclose(part, q.predictive().log_prob(hidden), rtol=1e-9)
    assert_allclose(q.predictive().marginal(columns).log_prob(X[:, columns]), part, rtol=1e-9)
    free = {"full": 9 + 18, "tied": 9 + 6, "diag": 9 + 9, "spherical": 9 + 3}
    assert q.n_parameters == free[structure]


# --- empirical Bayes --------------------------------------------------------------------------


def profile(p, X, resp):
    """The bound, less what only the latents say, at the best q for a prior."""
    q = replace(p, learnt=())
    q = updated(replace(q, prior=q), X, resp)
    return float((resp * q.log_prob(X)).sum() + q.log_prior())


@over
def test_learnt_priors_climb_to_where_no_step_aside_is_better(structure):
    X = np.concatenate([data(30, 3), 9 + data(30, 3, seed=2)])
    resp = np.eye(2)[np.repeat([0, 1], 30)]
    q, history = prior(structure, 3, K=2, learnt=("beta", "S")), []
    stats = q.stats(X, resp)
    for _ in range(150):
        q = q.m_step(stats)
        history.append(profile(q.prior, X, resp))
    assert np.diff(history).min() > -1e-9
    assert history[-1] > profile(prior(structure, 3, K=2), X, resp) + 1
    p = q.prior
    for factor in (0.98, 1.02):
        assert profile(replace(p, beta=p.beta * factor), X, resp) < history[-1]
        if structure in MASKED:
            aside = replace(p, S=p.S * factor)
        else:
            aside = p.of(p.m, p.beta, p.nu, p.S * factor)
        assert profile(aside, X, resp) < history[-1]


@over
def test_learnt_priors_stay_within_bounds(structure):
    """Equal rows ask for a scale of zero and a mean precision without end."""
    X = np.ones((40, 2))
    p = prior(structure, 2, K=2, learnt=("beta", "S"))
    p = p.resuming(replace(p, prior=replace(p.prior, m=np.ones((2, 2)))))
    q = p
    for _ in range(60):
        q = q.m_step(q.stats(X, np.full((40, 2), 0.5)))
    assert PSEUDO_ROWS[0] <= q.prior.beta.min() <= q.prior.beta.max() <= PSEUDO_ROWS[1]
    ratio = np.linalg.eigvalsh(np.linalg.solve(_matrix(p.prior.base), _matrix(q.prior.S[0])))
    assert_allclose(ratio.min(), 1e-4, rtol=1e-6)


def _matrix(S):
    return S if S.ndim == 2 else np.diag(S)


@over
def test_a_prior_resumes_what_was_learnt(structure):
    X, fresh = data(30, 3), prior(structure, 3, K=2, learnt=("beta", "S"))
    before = fresh.m_step(fresh.stats(X, responsibilities(30, 2)))
    again = fresh.resuming(before)
    for q in (again, again.prior):
        assert_allclose(q.S, before.prior.S)
        assert_allclose(q.beta, before.prior.beta)
        assert_allclose(q.log_prob(X), before.prior.log_prob(X))
    assert not np.allclose(again.S, fresh.S)
    assert again.learnt == fresh.learnt
    assert again.log_prior() == pytest.approx(0.0, abs=1e-10)
    given = prior(structure, 3, K=2)
    assert_allclose(given.resuming(before).S, given.S)


@over
def test_what_is_given_is_not_learnt(structure):
    X = data(30, 3)
    for learnt, kept in ((("beta",), "S"), (("S",), "beta")):
        p = prior(structure, 3, K=2, learnt=learnt)
        q = p.m_step(p.stats(X, responsibilities(30, 2)))
        assert_allclose(getattr(q.prior, kept), getattr(p.prior, kept))
        assert not np.allclose(getattr(q.prior, learnt[0]), getattr(p.prior, learnt[0]))


def test_evaluate_and_expected_agree_at_a_fixed_point():
    X = data(25, 2)
    state = MixtureState(WEIGHTS["dirichlet"], prior("full", 2, K=2))
    start = state.start(X, np.random.default_rng(0).dirichlet(np.ones(2), 25))
    point = evaluate(start, (X, np.ones(25)))
    resp = start.responsibilities(X)
    entropy = -(resp * np.log(resp)).sum()
    bound = start.expected(point.stats) + entropy + start.log_prior()
    assert bound / 25 == pytest.approx(point.objective, rel=1e-12)
