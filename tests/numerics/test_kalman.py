"""Kalman recursions against the dense joint Gaussian of all states and observations, and known cases."""

import numpy as np
import pytest
from scipy.linalg import block_diag
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

LOG_2PI = np.log(2 * np.pi)


# --- models and data --------------------------------------------------------------------------


def random_model(k, d, seed, R="diagonal"):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((k, k))
    A *= 0.9 / np.abs(np.linalg.eigvals(A)).max()
    half = rng.standard_normal((3, max(k, d), max(k, d) + 1))
    Q, P = (M[:k, : k + 1] @ M[:k, : k + 1].T for M in half[:2])
    noise = {"diagonal": rng.uniform(0.5, 2, d), "full": half[2, :d, : d + 1] @ half[2, :d, : d + 1].T}
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
    "partly diffuse": random_model(3, 2, 8, R="full")._replace(diffuse=np.array([[1.0], [2], [0]])),
    "seasonal": seasonal(),
}
LENGTHS = {"diagonal R": [9, 1, 0, 4]}
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
    for begin, end in zip(starts[:-1], starts[1:]):
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
    for w, (here, *of_one) in zip(weight, sequences(X, starts, b, c)):
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
