"""What every location emission must keep, swept over Gaussians and Student-t of every structure."""

from dataclasses import fields, replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import multivariate_normal, multivariate_t

from sklvm.emissions.covariance import Diag
from sklvm.emissions.gaussian import Gaussians
from sklvm.emissions.student_t import StudentTs
from tests.emissions.builders import (
    ELLIPSOIDAL,
    KINDS,
    ONE_UNIT,
    STRUCTURES,
    TIED_BY_EIGEN,
    conditional,
    emission,
    rescaled,
    responsibilities,
    rows,
    weight_of_row,
)

GAUSSIANS = [kind for kind in KINDS if kind.startswith("gaussian")]


def leaves(stats):
    """The arrays of a statistics value, by name."""
    for field in fields(stats):
        value = getattr(stats, field.name)
        if isinstance(value, np.ndarray):
            yield field.name, value
        else:
            yield from leaves(value)


def assert_same_stats(a, b, rtol=1e-10, atol=1e-10):
    for (name, x), (_, y) in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=atol, err_msg=name)


def scipy_log_prob(value, x, k):
    o = np.flatnonzero(~np.isnan(x))
    if not len(o):
        return 0.0
    mean, S = value.means[k, o], value.cov.dense()[k][np.ix_(o, o)]
    if isinstance(value, StudentTs):
        return multivariate_t.logpdf(x[o], mean, S, df=value.df[k])
    return multivariate_normal.logpdf(x[o], mean, S)


# --- density ----------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_log_prob_is_the_marginal_of_what_is_seen(kind, d):
    value, X = emission(kind, d=d), rows(d=d)
    expected = [[scipy_log_prob(value, x, k) for k in range(3)] for x in X]
    np.testing.assert_allclose(value.log_prob(X), expected, rtol=1e-10, atol=1e-10)
    complete = X[:1]
    np.testing.assert_allclose(value.log_prob(complete), expected[:1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_row_scores_zero(kind):
    np.testing.assert_array_equal(emission(kind).log_prob(np.full((2, 4), np.nan)), 0.0)
    X = rows()
    np.testing.assert_array_equal(emission(kind).log_prob(X)[1], 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_nan_is_quadrature_over_the_missing_column(kind):
    value = emission(kind, K=2, d=3, seed=3)
    x = np.array([0.3, np.nan, -0.7])
    for k in range(2):
        centre = value.complete(x[None])[0, k, 1]

        def density(t, k=k):
            return np.exp(value.log_prob(np.array([[x[0], t, x[2]]]))[0, k])

        halves = [
            quad(density, *ends, epsabs=0, epsrel=1e-11, limit=200)[0]
            for ends in ((-np.inf, centre), (centre, np.inf))
        ]
        assert abs(value.log_prob(x[None])[0, k] - np.log(sum(halves))) < 1e-8


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_scores_the_same_in_any_company_and_layout(kind):
    value, X = emission(kind), rows()
    whole = value.log_prob(X)
    one_by_one = np.concatenate([value.log_prob(x[None]) for x in X])
    np.testing.assert_allclose(one_by_one, whole, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(value.log_prob(np.asfortranarray(X)), whole, rtol=1e-12, atol=1e-12)
    strided = np.repeat(X, 2, axis=1)[:, ::2]
    strided.flags.writeable = False
    np.testing.assert_allclose(value.log_prob(strided), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_writes_to_its_input(kind):
    value, X = emission(kind), rows()
    resp = responsibilities(len(X), 3)
    for array in (X, resp, value.means):
        array.flags.writeable = False
    before = X.copy()
    value.m_step(value.stats(X, resp))
    value.complete(X)
    value.complete_sample(X, np.zeros(len(X), int), np.random.default_rng(0))
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("kind", KINDS)
def test_means_a_million_deviations_apart(kind):
    value = emission(kind, K=2, d=3)
    units = np.ones(3)
    far = rescaled(value, units, np.array([[0.0], [1e6]]))
    X = rows(d=3)
    near = far.log_prob(X + 1e6)[:, 1]
    np.testing.assert_allclose(near, value.log_prob(X)[:, 1], atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_units_change_the_density_by_the_jacobian(kind):
    spherical = kind.endswith("spherical")
    units = np.full(4, 1e-8) if spherical else np.array([1e-8, 1.0, 1e8, 3.0])
    value, X = emission(kind), rows()
    other = rescaled(value, units, 0.0)
    jacobian = ~np.isnan(X) @ np.log(units)
    np.testing.assert_allclose(
        other.log_prob(X * units) + jacobian[:, None], value.log_prob(X), rtol=1e-9, atol=1e-9
    )


# --- sufficient statistics --------------------------------------------------------------------


def expected_rows(value, X, resp):
    """Per row and component: resp, resp * u, E[x], cov(x) given what is seen, loops and all."""
    S = value.cov.dense()
    for n, x in enumerate(X):
        for k in range(len(S)):
            yield (
                n,
                k,
                resp[n, k],
                weight_of_row(value, x, k),
                *conditional(value.means[k], S[k], x),
            )


@pytest.mark.parametrize("kind", [k for k in KINDS if k.endswith(("full", "tied"))])
def test_dense_stats_are_expected_moments_given_what_is_seen(kind):
    value, X = emission(kind), rows()
    resp = responsibilities(len(X), 3)
    count, mass = np.zeros(3), np.zeros(3)
    first, second = np.zeros((3, 4)), np.zeros((3, 4, 4))
    for _, k, r, u, filled, C in expected_rows(value, X, resp):
        diff = filled - value.means[k]
        count[k] += r
        mass[k] += r * u
        first[k] += r * u * diff
        second[k] += r * u * np.outer(diff, diff) + r * C
    stats = value.stats(X, resp)
    moments = stats.moments if isinstance(value, StudentTs) else stats
    if moments.second.ndim == 2:
        second = second.sum(axis=0)  # one matrix for all components
    for name, expected in [("count", count), ("mass", mass), ("first", first), ("second", second)]:
        np.testing.assert_allclose(
            getattr(moments, name), expected, rtol=1e-9, atol=1e-9, err_msg=name
        )


@pytest.mark.parametrize("kind", [k for k in KINDS if k.endswith(("diag", "spherical"))])
def test_diagonal_stats_are_sums_over_the_rows_that_saw_the_feature(kind):
    value, X = emission(kind), rows()
    resp = responsibilities(len(X), 3)
    expected = {name: np.zeros((3, 4)) for name in ("count", "mass", "first", "second")}
    for n, k, r, u, _, _ in expected_rows(value, X, resp):
        for j in np.flatnonzero(~np.isnan(X[n])):
            diff = X[n, j] - value.means[k, j]
            terms = {"count": r, "mass": r * u, "first": r * u * diff, "second": r * u * diff**2}
            for name, term in terms.items():
                expected[name][k, j] += term
    stats = value.stats(X, resp)
    moments = stats.moments if isinstance(value, StudentTs) else stats
    for name, array in expected.items():
        np.testing.assert_allclose(
            getattr(moments, name), array, rtol=1e-10, atol=1e-10, err_msg=name
        )


@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize("kind", ["gaussian-low_rank", "student-low_rank"])
def test_latent_stats_are_expected_moments_of_the_factors(kind, missing):
    value, X = emission(kind), rows(missing=missing)
    if not missing:
        X = np.delete(X, 1, axis=0)
    resp = responsibilities(len(X), 3)
    W, psi = value.cov.W, value.cov.psi
    count, xx = np.zeros((3, 4)), np.zeros((3, 4))
    uu, xu = np.zeros((3, 4, 3, 3)), np.zeros((3, 4, 3))
    for n, x in enumerate(X):
        o = np.flatnonzero(~np.isnan(x))
        for k in range(3):
            r, pull = resp[n, k], resp[n, k] * weight_of_row(value, x, k)
            S_oo = W[k, o] @ W[k, o].T + np.diag(psi[k, o])
            gain = W[k, o].T @ np.linalg.inv(S_oo)  # (q, o)
            u = np.append(gain @ (x[o] - value.means[k, o]), 1.0)
            V = np.zeros((3, 3))
            V[:2, :2] = np.eye(2) - gain @ W[k, o]
            for j in o:
                diff = x[j] - value.means[k, j]
                count[k, j] += r
                uu[k, j] += pull * np.outer(u, u) + r * V
                xu[k, j] += pull * diff * u
                xx[k, j] += pull * diff**2
    stats = value.stats(X, resp)
    moments = stats.moments if isinstance(value, StudentTs) else stats
    for name, expected in [("count", count), ("uu", uu), ("xu", xu), ("xx", xx)]:
        actual = np.broadcast_to(getattr(moments, name), expected.shape)  # features may share it
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_add_however_the_rows_are_split(kind):
    value, X = emission(kind), rows(n=31)
    resp = responsibilities(len(X), 3)
    whole = value.stats(X, resp)
    for cuts in ([1, 2, 3, 30], [10, 20], [30]):  # blocks of one row among them
        parts = [
            value.stats(x, r) for x, r in zip(np.split(X, cuts), np.split(resp, cuts), strict=True)
        ]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        assert_same_stats(total, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_subtract_and_scale(kind):
    value, X = emission(kind), rows()
    resp = responsibilities(len(X), 3)
    whole, part = value.stats(X, resp), value.stats(X[:11], resp[:11])
    assert_same_stats(whole - part, value.stats(X[11:], resp[11:]))
    assert_same_stats(whole * 3.0, value.stats(X, 3 * resp))
    assert_same_stats(3.0 * whole, value.stats(X, 3 * resp))
    assert_same_stats(np.float64(3) * whole, value.stats(X, 3 * resp))


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_of_two_is_a_row_twice_and_zero_none(kind):
    value, X = emission(kind), rows()
    resp = responsibilities(len(X), 3)
    weight = np.random.default_rng(0).integers(0, 3, len(X))
    assert_same_stats(
        value.stats(X, resp * weight[:, None]),
        value.stats(np.repeat(X, weight, axis=0), np.repeat(resp, weight, axis=0)),
    )


@pytest.mark.parametrize("offset", [0.0, 1e8])
@pytest.mark.parametrize("kind", GAUSSIANS[:4])
def test_recentring_is_exact(kind, offset):
    """The second operand is brought to the first one's origin, far from zero too."""
    dense = kind.endswith(("full", "tied"))  # with holes their expectations depend on the means
    X = np.delete(rows(missing=0.0 if dense else 0.4), 1, axis=0)
    X = np.round(X * 64) / 64 + offset  # exact, as are the means
    value, resp = emission(kind), responsibilities(len(X), 3)
    here = Gaussians(np.round(value.means * 64) / 64 + offset, value.cov)
    there = Gaussians(here.means + 0.5, value.cov)
    expected = here.stats(X, resp)
    moved = there.stats(X, resp).about(here.means)
    assert_same_stats(moved, expected, rtol=1e-11, atol=1e-11)
    both = here.stats(X[:5], resp[:5]) + there.stats(X[5:], resp[5:])
    assert_same_stats(both, expected, rtol=1e-11, atol=1e-11)


def test_latent_moments_recentre_exactly():
    value, X = emission("gaussian-low_rank"), rows()
    resp = responsibilities(len(X), 3)
    stats = value.stats(X, resp)
    origin = value.means + np.random.default_rng(1).standard_normal(value.means.shape)
    moved = stats.about(origin)
    seen, step = ~np.isnan(X), value.means - origin
    for k in range(3):
        diff = np.where(seen, X - origin[k], 0.0)
        np.testing.assert_allclose(moved.xx[k], resp[:, k] @ diff**2, rtol=1e-10)
        np.testing.assert_allclose(moved.xu[k, :, -1], resp[:, k] @ diff, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(
            moved.xu[k], stats.xu[k] + step[k][:, None] * stats.uu[k, :, -1], rtol=1e-10
        )
    assert_same_stats(moved.about(value.means), stats)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_means_are_weighted_means_of_what_is_seen(structure):
    missing = 0.0 if structure in ELLIPSOIDAL else 0.4
    value, X = emission(f"gaussian-{structure}"), rows(missing=missing)
    X = np.delete(X, 1, axis=0)
    resp, seen = responsibilities(len(X), 3), ~np.isnan(X)
    expected = resp.T @ np.where(seen, X, 0.0) / (resp.T @ seen)
    np.testing.assert_allclose(value.stats(X, resp).means(), expected, rtol=1e-10)


def with_unseen_column(kind):
    """An emission of four features, the same one without the last, rows that never saw the last."""
    wide = emission(kind, strength=0.0)
    X = rows()
    X[:, 3] = np.nan
    return wide, wide.marginal(np.arange(3)), X


def column_by_column(kind):
    """Whether features hang together neither through filling in nor through one volume of all."""
    structure = kind.split("-")[1]
    return structure not in TIED_BY_EIGEN or structure in ("EII", "EEI", "VEI")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if column_by_column(kind)])
def test_a_column_that_no_row_saw_changes_nothing_else(kind):
    wide, narrow, X = with_unseen_column(kind)
    resp = responsibilities(len(X), 3)
    np.testing.assert_allclose(wide.log_prob(X), narrow.log_prob(X[:, :3]), rtol=1e-9, atol=1e-9)
    after = wide.m_step(wide.stats(X, resp))
    expected = narrow.m_step(narrow.stats(X[:, :3], resp))
    np.testing.assert_allclose(after.means[:, :3], expected.means, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        after.cov.dense()[:, :3, :3], expected.cov.dense(), rtol=1e-9, atol=1e-9
    )
    assert np.isfinite(after.means).all()
    assert np.linalg.eigvalsh(after.cov.dense()).min() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_component_without_rows_stays_as_it_was(kind):
    """Nothing was observed of it, so any value maximises: it must not become NaN or singular."""
    value = emission(kind)
    X = np.delete(rows(missing=0.0), 1, axis=0)
    resp = responsibilities(len(X), 3)
    resp[:, 1] = 0.0
    after = value.m_step(value.stats(X, resp))
    np.testing.assert_allclose(after.means[1], value.means[1], rtol=1e-12)
    if kind.split("-")[1] not in ("tied", *TIED_BY_EIGEN):  # what is shared, others may move
        np.testing.assert_allclose(after.cov.dense()[1], value.cov.dense()[1], rtol=1e-12)
    assert np.isfinite(after.log_prob(X)).all()


@pytest.mark.parametrize("structure", ["full", "diag", "spherical"])
def test_a_component_of_one_point_is_a_linalg_error_without_a_prior(structure):
    value = emission(f"gaussian-{structure}")
    X = np.delete(rows(missing=0.0), 1, axis=0)
    resp = responsibilities(len(X), 3)
    resp[:, 1] = np.arange(len(X)) == 0
    stats = value.stats(X, resp)
    stats = stats.about(np.repeat(X[:1], 3, axis=0))
    with pytest.raises(np.linalg.LinAlgError):
        value.m_step(stats)


# --- M-step -----------------------------------------------------------------------------------


def expected_objective(old, new, X, resp):
    """E_old[log p(x; new)] + log_prior, with missing entries where the structure fills them in."""
    if isinstance(new.cov, Diag):
        return (resp * new.log_prob(X)).sum() + new.log_prior()
    total, S = 0.0, new.cov.dense()
    P, log_det = np.linalg.inv(S), np.linalg.slogdet(S)[1]
    for _, k, r, _, filled, C in expected_rows(old, X, resp):
        diff = filled - new.means[k]
        second = C + np.outer(diff, diff)
        total -= 0.5 * r * (4 * np.log(2 * np.pi) + log_det[k] + np.trace(P[k] @ second))
    return total + new.log_prior()


@pytest.mark.parametrize("penalised", [False, True])
@pytest.mark.parametrize("structure", [*STRUCTURES[:4], *TIED_BY_EIGEN])
def test_m_step_maximises_the_penalised_expected_log_likelihood(structure, penalised):
    options = {"count": 2.5, "strength": 3.0} if penalised else {}
    old, X = emission(f"gaussian-{structure}", **options), rows()
    resp = responsibilities(len(X), 3)
    stats = old.stats(X, resp)
    best = old.m_step(stats)
    for _ in range(20 if structure in ("EVE", "VVE") else 0):  # their axes turn step by step
        best = best.m_step(stats)
    top = expected_objective(old, best, X, resp)
    assert top >= expected_objective(old, old, X, resp)
    size = len(best.pack(best))
    step = 1e-4
    for i in range(size):
        ends = [
            expected_objective(old, best.unpack(s * step * np.eye(size)[i]), X, resp)
            for s in (-1, 1)
        ]
        assert max(ends) <= top + 1e-10
        assert abs(ends[1] - ends[0]) / (2 * step) < 1e-5 * (1 + abs(top))


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("kind", KINDS)
def test_an_em_step_never_lowers_the_objective(kind, missing):
    value = emission(kind, K=1, seed=5, count=0.7, strength=0.5)
    X = np.delete(rows(n=60, missing=missing, seed=5), 1, axis=0)
    weight = np.random.default_rng(0).uniform(0.2, 2, (len(X), 1))
    history = []
    for _ in range(60):
        history.append(float((weight * value.log_prob(X)).sum() + value.log_prior()))
        value = value.m_step(value.stats(X, weight))
    assert np.diff(history).min() > -1e-10 * abs(history[-1])
    assert history[-1] > history[0] + 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_em_fixed_point_is_a_stationary_point(kind):
    """Fisher's identity: where EM stands still the gradient of the observed likelihood vanishes."""
    value = emission(kind, K=1, d=3, seed=6, count=0.7, strength=0.5, q=1)
    rng = np.random.default_rng(7)
    X = rng.standard_normal((80, 1)) * [1.0, 0.8, 0.6] + 0.5 * rng.standard_normal((80, 3))
    X /= np.sqrt(rng.chisquare(4, (80, 1)) / 4)
    X[:20, 0] = np.nan
    weight = np.ones((80, 1))
    for _ in range(1000):
        value = value.m_step(value.stats(X, weight))

    def objective(v):
        other = value.unpack(v)
        return float(other.log_prob(X).sum() + other.log_prior())

    size, step = len(value.pack(value)), 1e-4
    for i in range(size):
        e = step * np.eye(size)[i]
        assert abs(objective(e) - objective(-e)) / (2 * step) < 1e-3


@pytest.mark.parametrize("distance", [1e6, 1e9])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_start_from_responsibilities_survives_distant_clusters(structure, distance):
    """About one far origin the squares would cancel: 1e9 squared leaves no digit of a variance."""
    rng = np.random.default_rng(8)
    X = rng.standard_normal((200, 2))
    X[100:] += distance
    resp = np.repeat(np.eye(2), 100, axis=0)
    broad = Gaussians(
        np.tile(X.mean(axis=0), (2, 1)), emission(f"gaussian-{structure}", 2, 2, q=1).cov
    )
    value = broad.start(X, resp)
    for _ in range(200 if structure == "low_rank" else 0):
        value = value.m_step(value.stats(X, resp))
    np.testing.assert_allclose(
        value.means, [X[:100].mean(axis=0), X[100:].mean(axis=0)], rtol=1e-12
    )
    expected = np.stack([np.cov(X[:100].T, bias=True), np.cov(X[100:].T, bias=True)])
    if structure == "full":
        np.testing.assert_allclose(value.cov.dense(), expected, rtol=1e-7, atol=1e-8)
    if structure in ("diag", "low_rank"):
        np.testing.assert_allclose(
            np.diagonal(value.cov.dense(), axis1=1, axis2=2),
            np.diagonal(expected, axis1=1, axis2=2),
            rtol=1e-4 if structure == "low_rank" else 1e-7,
        )


def test_one_component_is_the_sample_mean_and_covariance_in_one_step():
    X = np.random.default_rng(9).standard_normal((50, 3)) + 1e8
    value = emission("gaussian-full", K=1, d=3)
    value = Gaussians(value.means + 1e8, value.cov)
    after = value.m_step(value.stats(X, np.ones((50, 1))))
    np.testing.assert_allclose(after.means[0], X.mean(axis=0), rtol=1e-15)
    np.testing.assert_allclose(after.cov.S[0], np.cov(X.T, bias=True), rtol=1e-6, atol=1e-8)


# --- coordinates ------------------------------------------------------------------------------


@pytest.mark.parametrize("learn_df", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_pack_and_unpack_are_inverse(kind, learn_df):
    one = emission(kind, seed=1, learn_df=learn_df)
    other = emission(kind, seed=2, learn_df=learn_df)
    np.testing.assert_allclose(one.pack(one), 0.0, atol=1e-12)
    again = one.unpack(one.pack(other))
    np.testing.assert_allclose(again.means, other.means, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(again.cov.dense(), other.cov.dense(), rtol=1e-9, atol=1e-9)
    if kind.startswith("student"):
        np.testing.assert_allclose(again.df, other.df if learn_df else one.df, rtol=1e-12)
    vector = 0.1 * np.random.default_rng(3).standard_normal(len(one.pack(other)))
    np.testing.assert_allclose(one.pack(one.unpack(vector)), vector, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_coordinates_are_free_of_units(kind):
    units = np.full(4, 2e5) if kind.endswith(tuple(ONE_UNIT)) else np.array([1e-8, 1.0, 1e8, 3.0])
    one, other = emission(kind, seed=1), emission(kind, seed=2)
    there, then = (rescaled(value, units, 0.0) for value in (one, other))
    if kind.endswith(tuple(TIED_BY_EIGEN)):  # other units are other matrices: tie them again
        there, then = (replace(v, cov=one.cov.resembling(v.cov)) for v in (there, then))
    moved = there.pack(then)
    np.testing.assert_allclose(moved, one.pack(other), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_an_absurd_vector_is_a_value_or_a_linalg_error(kind):
    """SQUAREM may leap anywhere: what comes back is judged by its objective."""
    value, X = emission(kind), rows()
    vector = np.full(len(value.pack(value)), 800.0)
    with np.errstate(all="ignore"):
        try:
            scores = value.unpack(vector).log_prob(X)
        except np.linalg.LinAlgError:
            return
    assert scores.shape == (len(X), 3)


# --- structure --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_take_reorders_components(kind):
    value, X = emission(kind), rows()
    order = np.array([2, 0, 1])
    taken = value.take(order)
    np.testing.assert_allclose(taken.log_prob(X), value.log_prob(X)[:, order], rtol=1e-12)
    np.testing.assert_array_equal(taken.expectation(), value.expectation()[order])


@pytest.mark.parametrize("kind", KINDS)
def test_marginal_is_the_density_with_nan_elsewhere(kind):
    value, X = emission(kind, count=1.0, strength=1.0), rows()
    columns = np.array([3, 1])
    hidden = np.full_like(X, np.nan)
    hidden[:, columns] = X[:, columns]
    part = value.marginal(columns)
    np.testing.assert_allclose(
        part.log_prob(X[:, columns]), value.log_prob(hidden), rtol=1e-9, atol=1e-9
    )
    refit = part.m_step(part.stats(X[:, columns], responsibilities(len(X), 3)))
    assert np.isfinite(refit.log_prior())


@pytest.mark.parametrize("seen", [[0], [3, 1], [2, 0, 3]])
@pytest.mark.parametrize("kind", KINDS)
def test_marginal_times_conditional_is_the_joint(kind, seen):
    value, seen = emission(kind), np.array(seen)
    x = np.array([0.5, -1.0, 2.0, 0.3])
    left = value.condition(seen, x[seen])
    rest = np.setdiff1d(np.arange(4), seen)
    parts = value.marginal(seen).log_prob(x[None, seen]) + left.log_prob(x[None, rest])
    np.testing.assert_allclose(parts, value.log_prob(x[None]), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(
        left.expectation(),
        value.complete(np.where(np.isin(np.arange(4), seen), x, np.nan)[None])[0][:, rest],
        rtol=1e-9,
        atol=1e-9,
    )


@pytest.mark.parametrize("structure", STRUCTURES)
def test_precisions_invert_the_covariances(structure):
    value = emission(f"gaussian-{structure}")
    product = value.cov.precisions() @ value.cov.dense()
    np.testing.assert_allclose(product, np.tile(np.eye(4), (3, 1, 1)), atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_precisions_give_the_gradient_and_an_upper_bound(kind):
    """-log p(x) has gradient P (x - mean) and lies below the parabola of curvature P."""
    value = emission(kind)
    X = np.random.default_rng(1).standard_normal((6, 4))
    P = value.precisions(X)
    diff = X[:, None, :] - value.means
    gradient = np.einsum("nkij,nkj->nki", np.broadcast_to(P, (6, 3, 4, 4)), diff)
    step = 1e-5
    for j in range(4):
        e = step * np.eye(4)[j]
        slope = (value.log_prob(X - e) - value.log_prob(X + e)) / (2 * step)
        np.testing.assert_allclose(gradient[:, :, j], slope, atol=1e-6)
    move = np.random.default_rng(2).standard_normal((6, 4))
    parabola = (gradient * move[:, None]).sum(axis=2) + 0.5 * np.einsum(
        "ni,nkij,nj->nk", move, np.broadcast_to(P, (6, 3, 4, 4)), move
    )
    rise = value.log_prob(X) - value.log_prob(X + move)
    assert (rise <= parabola + 1e-9).all()


@pytest.mark.parametrize(
    ("structure", "shape"),
    [
        ("full", 3 * 10),
        ("tied", 10),
        ("diag", 3 * 4),
        ("spherical", 3),
        ("low_rank", 3 * 10),  # two factors of four features are beyond Ledermann's bound
        *(("EII", 1), ("EEI", 4), ("VEI", 3 + 3), ("EVI", 1 + 3 * 3)),
        *(("VEE", 3 + 3 + 6), ("EVE", 1 + 3 * 3 + 6), ("VVE", 3 + 3 * 3 + 6)),
        *(("EEV", 1 + 3 + 3 * 6), ("VEV", 3 + 3 + 3 * 6), ("EVV", 1 + 3 * 3 + 3 * 6)),
    ],
)
def test_n_parameters(structure, shape):
    assert emission(f"gaussian-{structure}").n_parameters == 3 * 4 + shape
    assert emission(f"student-{structure}").n_parameters == 3 * 4 + shape + 3
    assert emission(f"student-{structure}", learn_df=False).n_parameters == 3 * 4 + shape


# --- randomness -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_samples_have_the_moments(kind):
    value, n = emission(kind), 40_000
    rng = np.random.default_rng(4)
    for k in range(2):
        X = value.sample(np.full(n, k), rng)
        spread = 1.0 if kind.startswith("gaussian") else value.df[k] / (value.df[k] - 2)
        S = value.cov.dense()[k] * spread
        assert (np.abs(X.mean(axis=0) - value.means[k]) < 5 * np.sqrt(np.diag(S) / n)).all()
        products = (X - value.means[k])[:, :, None] * (X - value.means[k])[:, None, :]
        if kind.startswith("gaussian"):
            error = products.std(axis=0) / np.sqrt(n)
            assert (np.abs(products.mean(axis=0) - S) < 5 * error).all()
        # the probability transform of the squared distance works without fourth moments
        distance = value.cov.log_det_and_mahalanobis(X, value.means)[1][:, k]
        assert abs((distance < np.median(distance)).mean() - 0.5) < 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_is_drawn_from_its_own_component(kind):
    value = emission(kind)
    far = rescaled(value, np.ones(4), 1e4 * np.arange(3)[:, None])
    z = np.array([2, 0, 1, 1, 0])
    X = far.sample(z, np.random.default_rng(0))
    assert (far.log_prob(X).argmax(axis=1) == z).all()


@pytest.mark.parametrize("kind", KINDS)
def test_complete_is_the_conditional_mean(kind):
    value, X = emission(kind), rows()
    S = value.cov.dense()
    filled = value.complete(X)
    for n, x in enumerate(X):
        for k in range(3):
            np.testing.assert_allclose(
                filled[n, k], conditional(value.means[k], S[k], x)[0], rtol=1e-9, atol=1e-9
            )
    seen = ~np.isnan(X)
    np.testing.assert_array_equal(filled[:, 1][seen], X[seen])


@pytest.mark.parametrize("kind", KINDS)
def test_complete_sample_draws_from_the_conditional(kind):
    value, n, k = emission(kind), 40_000, 1
    x = np.array([0.5, np.nan, 2.0, np.nan])
    z = np.full(n, k)
    z[: n // 2] = 2  # neighbours of another component do not disturb
    draws = value.complete_sample(np.tile(x, (n, 1)), z, np.random.default_rng(5))[n // 2 :]
    mean, C = conditional(value.means[k], value.cov.dense()[k], x)
    if kind.startswith("student"):
        u, o = weight_of_row(value, x, k), 2
        C = C / u * (value.df[k] + o) / (value.df[k] + o - 2)
    assert (draws[:, [0, 2]] == x[[0, 2]]).all()
    m = [1, 3]
    assert (np.abs(draws.mean(axis=0) - mean)[m] < 5 * np.sqrt(np.diag(C)[m] / (n / 2))).all()
    products = (draws - mean)[:, m][:, :, None] * (draws - mean)[:, m][:, None, :]
    error = products.std(axis=0) / np.sqrt(n / 2)
    assert (np.abs(products.mean(axis=0) - C[np.ix_(m, m)]) < 5 * error).all()
