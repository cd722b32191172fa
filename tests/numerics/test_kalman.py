"""Kalman recursions: the dense joint Gaussian of states and observations, and known cases."""

from fractions import Fraction
from itertools import pairwise
from math import log

import numpy as np
import pytest
from scipy.linalg import block_diag
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from sklvm.numerics.kalman import (
    StateSpace,
    expectations,
    filter,
    forecast,
    log_prob,
    sample_states,
    smooth,
)
from sklvm.numerics.kalman_plain import smooth_numpy
from sklvm.numerics.kalman_run import run_filter

LOG_2PI = np.log(2 * np.pi)


# --- models and data --------------------------------------------------------------------------


def random_model(k, d, seed, R="diagonal"):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((k, k))
    A *= 0.9 / np.abs(np.linalg.eigvals(A)).max()
    half = rng.standard_normal((3, max(k, d), max(k, d) + 1))
    Q, P = (M[:k, : k + 1] @ M[:k, : k + 1].T for M in half[:2])
    noise = {
        "diagonal": rng.uniform(0.5, 2, d),
        "full": half[2, :d, : d + 1] @ half[2, :d, : d + 1].T,
    }
    return StateSpace(A, Q, rng.standard_normal((d, k)), noise[R], rng.standard_normal(k), P)


def trend(d=1):
    """A local linear trend: level and slope start anywhere."""
    return StateSpace(
        np.array([[1.0, 1.0], [0.0, 1.0]]),
        np.diag([0.5, 0.1]),
        np.column_stack([np.arange(1.0, d + 1), np.zeros(d)]),
        np.full(d, 0.8),
        np.zeros(2),
        np.zeros((2, 2)),
        np.eye(2),
    )


def seasonal():
    """A level and a season of four: diffuse but for a known slope, one noise for five states."""
    A = block_diag([[1.0, 1.0], [0.0, 1.0]], [[-1, -1, -1], [1, 0, 0], [0, 1, 0]])
    G = np.array([[1.0, 0.3], [0.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    C = np.array([[1.0, 0.0, 1.0, 0.0, 0.0], [0.5, 0.2, 0.0, 0.0, 0.0]])
    P = np.diag([0.0, 0.4, 0, 0, 0])
    R = np.array([[1.0, 0.6], [0.6, 0.9]])
    return StateSpace(A, G @ G.T, C, R, np.zeros(5), P, np.eye(5)[:, [0, 2, 3, 4]])


def singular_noise():
    G = np.array([[1.0], [0.5], [0.0]])
    model = random_model(3, 2, 4)
    return model._replace(Q=G @ G.T, P=np.zeros((3, 3)))


def rank_one_R():
    model = random_model(3, 3, 6)
    return model._replace(R=np.outer([1.0, 2.0, -1.0], [1.0, 2.0, -1.0]))


MODELS = {
    "diagonal R": random_model(2, 3, 0),
    "full R": random_model(2, 3, 1, R="full"),
    "more states than features": random_model(4, 1, 2),
    "as many": random_model(3, 3, 3, R="full"),
    "singular state noise": singular_noise(),
    "zeros in R": random_model(3, 2, 5)._replace(R=np.array([0.0, 0.7])),
    "singular R": rank_one_R(),
    "no noise after the first state": random_model(2, 2, 7)._replace(Q=np.zeros((2, 2))),
    "trend": trend(),
    "two diffuse features": trend(2),
    "partly diffuse": random_model(3, 2, 8, R="full")._replace(diffuse=np.array([[1.0], [0], [2]])),
    "seasonal": seasonal(),
}
PATTERNS = ["complete", "holes", "gaps", "one gap"]


def data(model, pattern, seed=0, lengths=(9, 1, 5)):
    """Stacked steps of ragged sequences with offsets and holes: X, starts, b, c."""
    rng = np.random.default_rng(seed)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    n, (d, k) = starts[-1], model.C.shape
    X, b, c = (2 * rng.standard_normal((n, width)) for width in (d, k, d))
    if pattern == "holes":
        X[rng.uniform(size=X.shape) < 0.3] = np.nan
    elif pattern == "gaps":
        X[rng.uniform(size=n) < 0.4] = np.nan
    elif pattern == "one gap":
        X[n // 3, 0] = np.nan
    return X, starts, b, c


# --- the dense joint Gaussian -----------------------------------------------------------------


class Dense:
    """All states of one sequence, z = mean + basis delta + N(0, S), and their observations."""

    def __init__(self, model, X, b, c):
        T, (d, k) = len(X), model.C.shape
        self.k, self.T = k, T
        diffuse = np.empty((k, 0)) if model.diffuse is None else model.diffuse
        means, bases, S = [model.mean], [diffuse], np.zeros((T, T, k, k))
        for t in range(1, T):
            means.append(model.A @ means[-1] + b[t])
            bases.append(model.A @ bases[-1])
        variance = model.P
        for t in range(T):
            S[t, t] = across = variance
            for later in range(t + 1, T):
                across = model.A @ across
                S[later, t], S[t, later] = across, across.T
            variance = model.A @ variance @ model.A.T + model.Q
        self.mean, self.basis = np.concatenate(means), np.concatenate(bases)
        self.S = S.transpose(0, 2, 1, 3).reshape(T * k, T * k)
        R = np.diag(model.R) if model.R.ndim == 1 else model.R
        C, x = np.kron(np.eye(T), model.C), (X - c).ravel()
        seen = ~np.isnan(x)
        self.C, self.x = C[seen], x[seen]
        self.R = np.kron(np.eye(T), R)[np.ix_(seen, seen)]
        self.step = np.repeat(np.arange(T), d)[seen]

    def given(self, kept):
        """Moments of all states and log density, given the first entries, as many as are kept."""
        C, x, R = self.C[kept], self.x[kept], self.R[np.ix_(kept, kept)]
        F, gain = C @ self.S @ C.T + R, self.S @ C.T
        Z, e = C @ self.basis, x - C @ self.mean
        resolving = independent_rows(Z)
        weights = np.linalg.solve(F, np.column_stack([Z, e]))
        information = Z.T @ weights[:, :-1]
        delta = np.linalg.pinv(information, rtol=1e-9) @ (Z.T @ weights[:, -1])
        left = self.basis - gain @ weights[:, :-1]
        mean = self.mean + gain @ weights[:, -1] + left @ delta
        spread = np.linalg.pinv(information, rtol=1e-9)
        covariance = self.S - gain @ np.linalg.solve(F, gain.T) + left @ spread @ left.T
        square = e @ weights[:, -1] - delta @ information @ delta
        log_dets = np.linalg.slogdet(F)[1]
        if len(resolving) == Z.shape[1]:
            log_dets += np.linalg.slogdet(information)[1]
            log_dets -= 2 * np.linalg.slogdet(Z[resolving])[1]
        density = -0.5 * ((len(x) - len(resolving)) * LOG_2PI + log_dets + square)
        return mean, covariance, density, len(resolving)

    def blocks(self, covariance, t, u):
        k = self.k
        return covariance[t * k : t * k + k, u * k : u * k + k]


def independent_rows(Z):
    """The first rows that span what all rows span."""
    chosen = []
    for i in range(len(Z)):
        if np.linalg.matrix_rank(Z[[*chosen, i]], tol=1e-8) > len(chosen):
            chosen.append(i)
    return chosen


def sequences(X, starts, b, c):
    for begin, end in pairwise(starts):
        yield slice(begin, end), X[begin:end], b[begin:end], c[begin:end]


def close(found, expected, tolerance=1e-9):
    scale = max(1.0, np.abs(expected).max(initial=0.0))
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * scale)


CASES = [(name, pattern) for name in MODELS for pattern in PATTERNS]


@pytest.mark.parametrize(("name", "pattern"), CASES)
def test_filter_is_the_dense_gaussian(name, pattern):
    model = MODELS[name]
    X, starts, b, c = data(model, pattern)
    found = filter(model, X, starts, b, c)
    for s, (here, *of_one) in enumerate(sequences(X, starts, b, c)):
        dense = Dense(model, *of_one)
        everything = np.ones(len(dense.x), bool)
        _, _, density, n_diffuse = dense.given(everything)
        n_directions = dense.basis.shape[1]
        assert found.n_diffuse[s] == n_diffuse
        if n_diffuse == n_directions:
            close(found.log_prob[s], density)
        close(found.step_log_prob[here].sum(), found.log_prob[s])
        for t in range(dense.T):
            block = slice(t * dense.k, (t + 1) * dense.k)
            for before, mean, covariance in [
                (dense.step < t, found.predicted_mean, found.predicted_covariance),
                (dense.step <= t, found.mean, found.covariance),
            ]:
                expected = dense.given(before)
                if expected[3] == n_directions:
                    close(mean[here][t], expected[0][block])
                    close(covariance[here][t], expected[1][block, block])


@pytest.mark.parametrize(("name", "pattern"), CASES)
def test_smoother_is_the_dense_gaussian(name, pattern):
    model = MODELS[name]
    k = len(model.A)
    X, starts, b, c = data(model, pattern)
    found = smooth(model, X, starts, b, c)
    for here, *of_one in sequences(X, starts, b, c):
        dense = Dense(model, *of_one)
        mean, covariance, _, resolved = dense.given(np.ones(len(dense.x), bool))
        if resolved < dense.basis.shape[1]:
            continue
        close(found.mean[here], mean.reshape(-1, k))
        close(found.covariance[here], [dense.blocks(covariance, t, t) for t in range(dense.T)])


@pytest.mark.parametrize(("name", "pattern"), CASES)
def test_sums_are_those_of_the_dense_gaussian(name, pattern):
    model = MODELS[name]
    d, k = model.C.shape
    lengths = (9, 7) if model.diffuse is not None else (9, 1, 5)
    X, starts, b, c = data(model, pattern, lengths=lengths)
    weight = np.random.default_rng(1).uniform(0.5, 2, len(lengths))
    found = expectations(model, X, starts, weight, b, c)
    close(found.mean, smooth(model, X, starts, b, c).mean)
    first_mean, first, earlier, later, lag = np.zeros(k), *np.zeros((4, k, k))
    zz, xz = np.zeros((d, k, k)), np.zeros((d, k))
    for w, (_, *of_one) in zip(weight, sequences(X, starts, b, c)):
        dense = Dense(model, *of_one)
        mean, covariance, _, resolved = dense.given(np.ones(len(dense.x), bool))
        assert resolved == dense.basis.shape[1]
        second = covariance + np.outer(mean, mean)
        first_mean += w * mean[:k]
        first += w * second[:k, :k]
        for t in range(dense.T):
            own = w * dense.blocks(second, t, t)
            if t:
                later += own
                lag += w * dense.blocks(second, t, t - 1)
            if t < dense.T - 1:
                earlier += own
            x = (of_one[0] - of_one[2])[t]
            zz[~np.isnan(x)] += own
            xz += w * np.outer(np.nan_to_num(x), mean[t * k : t * k + k])
    for value, expected in [
        *((found.first_mean, first_mean), (found.first, first), (found.earlier, earlier)),
        *((found.later, later), (found.lag, lag), (found.zz, zz), (found.xz, xz)),
    ]:
        close(value, expected)


# --- the plain twin ---------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", MODELS)
def test_kernels_equal_their_plain_twin(name, pattern):
    """Long enough for covariances to settle, for gaps after that, and for the way back."""
    model = MODELS[name]
    if model.diffuse is None and not model.Q.any():
        model = model._replace(A=model.A / 0.9)  # with its own noise gone, the state would die out
    d, k = model.C.shape
    X, starts, b, c = data(model, pattern, seed=2, lengths=(70, 12))
    if pattern == "holes":
        X[20:50] = 1.0
    found, steps = smooth(model, X, starts, b, c), log_prob(model, X, starts, b, c)[1]
    sums = expectations(model, X, starts, np.ones(2), b, c)
    lag = np.zeros((k, k))
    for here, own, own_b, own_c in sequences(X, starts, b, c):
        densities, means, covariances, lags = smooth_numpy(model, own - own_c, own_b)
        close(steps[here], densities, 1e-10)
        close(found.mean[here], means, 1e-10)
        close(found.covariance[here], covariances, 1e-10)
        lag += lags[:-1].sum(axis=0) + means[1:].T @ means[:-1]
    close(sums.lag, lag, 1e-10)


def test_covariances_settle_are_left_at_a_gap_and_come_back():
    model = MODELS["diagonal R"]
    X = np.ones((200, 3))
    X[100, 1] = np.nan
    run = run_filter(model, X, [0, 200], None, None)
    ages, last = run.out.age, run.table.length - 1
    assert run.table.settled
    np.testing.assert_array_equal(ages[:100], np.minimum(np.arange(100), last))
    assert (ages[100:103] == -1).all()
    assert (ages[160:] == last).all()


# --- known cases ------------------------------------------------------------------------------


def test_without_memory_it_is_factor_analysis():
    rng = np.random.default_rng(0)
    W, psi = rng.standard_normal((4, 2)), rng.uniform(0.5, 2, 4)
    model = StateSpace(np.zeros((2, 2)), np.eye(2), W, psi, np.zeros(2), np.eye(2))
    X = rng.standard_normal((30, 4))
    expected = multivariate_normal(cov=W @ W.T + np.diag(psi)).logpdf(X)
    close(log_prob(model, X, [0, 10, 30])[1], expected)
    X[::3, 1] = np.nan
    seen = [0, 2, 3]
    expected[::3] = multivariate_normal(cov=(W @ W.T + np.diag(psi))[np.ix_(seen, seen)]).logpdf(
        X[::3, seen]
    )
    close(log_prob(model, X, [0, 10, 30])[1], expected)


def local_level(observation, level):
    """A random walk seen with noise, from a diffuse start."""
    one = np.ones((1, 1))
    return StateSpace(one, level * one, one, np.array([observation]), np.zeros(1), 0 * one, one)


def test_a_random_walk_has_the_gain_of_its_riccati_equation():
    r, q = 2.0, 0.3
    X = np.random.default_rng(0).standard_normal((100, 1)).cumsum(axis=0)
    found = filter(local_level(r, q), X, [0, 100])
    p = q / 2 + np.sqrt(q * q / 4 + q * r)
    close(found.predicted_covariance[-1, 0, 0], p, 1e-12)
    close(found.covariance[-1, 0, 0], p * r / (p + r), 1e-12)


# Annual flow of the Nile at Aswan, 1871-1970 (Durbin & Koopman 2012, 2.2.5)
NILE = """
1120 1160 963 1210 1160 1160 813 1230 1370 1140 995 935 1110 994 1020 960 1180 799 958 1140
1100 1210 1150 1250 1260 1220 1030 1100 774 840 874 694 940 833 701 916 692 1020 1050 969 831
726 456 824 702 1120 1100 832 764 821 768 845 864 862 698 845 744 796 1040 759 781 865 845 944
984 897 822 1010 771 676 649 846 812 742 801 1040 860 874 848 890 744 749 838 1050 918 986 797
923 975 815 1020 906 901 1170 912 746 919 718 714 740
"""


def test_the_local_level_of_the_nile_is_that_of_the_book():
    """2.10.2: 15099 and 1469; the likelihood is that of all years but the first, given it.

    statsmodels says -633.464563 with use_exact_diffuse=True, which counts log(2 pi) / 2 once more,
    and -632.5376 with a start of variance 1e6.
    """
    X = np.array(NILE.split(), float)[:, None]

    def objective(logarithms):
        return -log_prob(local_level(*np.exp(logarithms)), X, [0, 100])[0][0]

    found = minimize(objective, [9.0, 8.0], method="Nelder-Mead", options={"xatol": 1e-6})
    np.testing.assert_allclose(found.fun, 633.464563 - LOG_2PI / 2, atol=2e-6)
    np.testing.assert_allclose(np.exp(found.x), [15099, 1469], atol=1)


fractions = np.vectorize(Fraction, otypes=[object])


def exact_solve(F, B):
    """F^-1 B and |F| in rational arithmetic, by elimination: F (n, n), B (n, m) of floats."""
    rows, determinant = fractions(np.column_stack([F, B])), Fraction(1)
    for i in range(len(rows)):
        determinant *= rows[i, i]
        rows[i] /= rows[i, i]
        for other in range(len(rows)):
            if other != i:
                rows[other] -= rows[other, i] * rows[i]
    return rows[:, len(F) :], determinant


def test_noise_of_1e_12_leaves_digits():
    """Against rational arithmetic: level and slope with noise of 2**-40, only the level is seen."""
    T, noise = 6, 2.0**-40
    model = trend(2)._replace(R=np.full(2, noise), Q=noise * np.eye(2), P=np.eye(2), diffuse=None)
    rng = np.random.default_rng(0)
    X = np.outer(1 + 0.5 * np.arange(T), [1.0, 2.0]) + 1e-6 * rng.standard_normal((T, 2))
    dense = Dense(model, X, np.zeros((T, 2)), np.zeros((T, 2)))  # its sums are exact
    across = dense.S @ dense.C.T
    weights, determinant = exact_solve(
        dense.C @ across + dense.R, np.column_stack([across.T, dense.x])
    )
    square = float(fractions(dense.x) @ weights[:, -1])
    log_det = log(determinant.numerator) - log(determinant.denominator)
    exact = fractions(across) @ weights
    mean = exact[:, -1].astype(float).reshape(T, 2)
    variance = np.diag(fractions(dense.S) - exact[:, :-1]).astype(float).reshape(T, 2)

    found, filtered = smooth(model, X, [0, T]), filter(model, X, [0, T])
    expected = -0.5 * (2 * T * LOG_2PI + log_det + square)
    np.testing.assert_allclose(found.log_prob[0], expected, rtol=1e-8)
    assert np.abs((found.mean - mean) / np.sqrt(variance)).max() < 1e-2
    np.testing.assert_allclose(np.diag(filtered.covariance[-1]), variance[-1], rtol=1e-8)
    assert np.linalg.eigvalsh(filtered.covariance).min() > 0
    off = np.diagonal(found.covariance, axis1=1, axis2=2) - variance
    assert (np.abs(off) < 1e-12 * np.diagonal(filtered.covariance, axis1=1, axis2=2) + 1e-16).all()


# --- several sequences ------------------------------------------------------------------------


def test_a_weight_is_a_number_of_sequences():
    model = MODELS["seasonal"]
    X, starts, b, c = data(model, "holes", lengths=(9, 12))
    weighted = expectations(model, X, starts, np.array([2.0, 1.0]), b, c)
    order = np.r_[0:9, 0:9, 9:21]
    repeated = expectations(model, X[order], [0, 9, 18, 30], np.ones(3), b[order], c[order])
    for name in ("first_mean", "first", "earlier", "later", "lag", "zz", "xz"):
        close(getattr(weighted, name), getattr(repeated, name), 1e-12)


@pytest.mark.parametrize("name", ["diagonal R", "seasonal"])
def test_sequences_do_not_see_each_other(name):
    model = MODELS[name]
    X, starts, b, c = data(model, "one gap", lengths=(9, 0, 30, 8))
    together = smooth(model, X, starts, b, c)
    for s, (here, *of_one) in enumerate(sequences(X, starts, b, c)):
        T = len(of_one[0])
        alone = smooth(model, of_one[0], [0, T], *of_one[1:])
        assert alone.log_prob[0] == together.log_prob[s]
        np.testing.assert_array_equal(alone.mean, together.mean[here])
        np.testing.assert_array_equal(alone.covariance, together.covariance[here])


def test_steps_without_entries_score_zero():
    X = np.full((5, 3), np.nan)
    total, steps = log_prob(MODELS["diagonal R"], X, [0, 5])
    assert total[0] == 0.0
    assert (steps == 0.0).all()


@pytest.mark.parametrize("name", ["diagonal R", "full R", "trend", "seasonal"])
def test_a_forecast_is_the_prediction_of_missing_steps(name):
    model, horizon = MODELS[name], 4
    d, k = model.C.shape
    X, starts, b, c = data(model, "holes", seed=3, lengths=(12, 9))
    rng = np.random.default_rng(1)
    future_b, future_c = rng.standard_normal((2, horizon, k)), rng.standard_normal((2, horizon, d))
    found = forecast(model, X, starts, horizon, b, c, future_b, future_c)
    R = np.diag(model.R) if model.R.ndim == 1 else model.R
    for s, (_, own, own_b, own_c) in enumerate(sequences(X, starts, b, c)):
        longer = np.vstack([own, np.full((horizon, d), np.nan)])
        offsets = np.vstack([own_b, future_b[s]]), np.vstack([own_c, future_c[s]])
        ahead = filter(model, longer, [0, len(longer)], *offsets)
        mean, covariance = ahead.mean[-horizon:], ahead.covariance[-horizon:]
        close(found.state_mean[s], mean)
        close(found.state_covariance[s], covariance)
        close(found.mean[s], mean @ model.C.T + future_c[s])
        close(found.covariance[s], model.C @ covariance @ model.C.T + R)


@pytest.mark.parametrize("seen", [0, 1, 2, 3])
@pytest.mark.parametrize("name", [n for n in MODELS if MODELS[n].diffuse is not None])
def test_what_no_value_resolves_is_infinite(name, seen):
    """What grows with the variance of a wide start; all else is what a wide start leaves."""
    model, T = MODELS[name], 6
    d, k = model.C.shape
    X = np.full((T, d), np.nan)
    X.ravel()[[1, 2 * d, 2 * d + 1][:seen]] = [1.0, 2.0, -1.0][:seen]  # and nothing after them
    wide, wider = (
        model._replace(P=model.P + size * model.diffuse @ model.diffuse.T, diffuse=None)
        for size in (1e5, 1e6)
    )
    for verb in (smooth, filter):
        found, before, after = (verb(m, X, [0, T]).covariance for m in (model, wide, wider))
        endless = np.isinf(found)
        np.testing.assert_array_equal(endless, np.abs(after - before) / 9e5 > 1e-8)
        close(found[~endless], after[~endless], 1e-3)
        assert (found[endless] * after[endless] > 0).all()
    assert seen or endless.any()


def test_a_forecast_says_where_nothing_is_known():
    found = forecast(trend(), np.ones((1, 1)), [0, 1], 2)
    assert found.state_covariance[0, 0, 1, 1] == np.inf  # the slope
    assert found.covariance[0, 0, 0, 0] == np.inf
    assert np.isfinite(forecast(trend(), np.ones((2, 1)), [0, 2], 2).covariance).all()


@pytest.mark.parametrize("name", ["diagonal R", "singular state noise", "seasonal", "zeros in R"])
def test_draws_have_the_moments_of_the_smoother(name):
    model, n_draws = MODELS[name], 20000
    X, starts, b, c = data(model, "holes", seed=4, lengths=(9, 6))
    found = smooth(model, X, starts, b, c)
    drawn = sample_states(model, X, starts, np.random.default_rng(0), n_draws, b, c)
    n, k = found.mean.shape
    spread = np.sqrt(np.maximum(np.diagonal(found.covariance, axis1=1, axis2=2), 0.0))
    error = np.abs(drawn.mean(axis=0) - found.mean)
    assert (error <= 5 * spread / np.sqrt(n_draws) + 1e-8).all()
    centred = drawn - found.mean
    covariance = np.einsum("sti,stj->tij", centred, centred) / n_draws
    scale = spread[:, :, None] * spread[:, None, :]
    assert (np.abs(covariance - found.covariance) <= 8 * scale / np.sqrt(n_draws) + 1e-8).all()
    pair = np.einsum("ti,tj->ij", centred[:, 3], centred[:, 2]) / n_draws  # neighbours go together
    own, own_b, own_c = (value[:9] for value in (X, b, c))
    lag = smooth_numpy(model, own - own_c, own_b)[3][2]
    scale = np.outer(spread[3], spread[2])
    assert (np.abs(pair - lag) <= 8 * scale / np.sqrt(n_draws) + 1e-8).all()


# --- what is accepted -------------------------------------------------------------------------


def test_layouts_change_nothing_and_compile_nothing():
    from sklvm.numerics.kalman_backward import backward
    from sklvm.numerics.kalman_kernels import fill_table, forward

    model = MODELS["full R"]
    X, starts, b, c = data(model, "holes")
    expected = expectations(model, X, starts, np.ones(3), b, c)
    for array in model[:6]:
        array.flags.writeable = False
    strided = np.repeat(X, 2, axis=0)[::2]
    for rows in (np.asfortranarray(X), strided, X.astype(np.float32).astype(np.float64)):
        rows.flags.writeable = False
        found = expectations(model, rows, starts.astype(np.int32), np.ones(3), b, c)
        close(found.lag, expected.lag, 1e-6)
    smooth(MODELS["seasonal"], np.ones((3, 2)), [0, 3])
    for kernel in (fill_table, forward, backward):
        assert len(kernel.signatures) == 1


@pytest.mark.parametrize("R", [np.zeros(2), np.zeros((2, 2))], ids=["diagonal", "full"])
def test_an_observation_without_variance_is_a_linear_algebra_error(R):
    model = StateSpace(np.eye(1), np.eye(1), np.ones((2, 1)), R, np.zeros(1), np.eye(1))
    with pytest.raises(np.linalg.LinAlgError, match="no variance"):
        log_prob(model, np.ones((3, 2)), [0, 3])
