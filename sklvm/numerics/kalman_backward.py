"""The compiled backward pass of `kalman`: smoothed moments of stacked sequences and their sums."""

import numpy as np

from .kalman_diffuse import diffuse_moments, diffuse_step, double
from .kalman_kernels import SETTLED, observation_of, replay
from .kalman_steps import (
    compiled,
    congruence,
    copy,
    inlined,
    is_complete,
    make_entries,
    multiply,
    settled,
    square_of,
    through,
    unsee,
)


@compiled
def backward(data, model, table, out, weight, result):
    """Smooth every sequence: means, and as far as `result` has room covariances and sums.

    r and N say what later steps tell of the predicted state (Durbin & Koopman 2012, 4.38, 4.42); no
    covariance is inverted. Over settled steps N settles, too, and only r moves on.
    """
    starts, (d, k) = data.starts, model.C.shape
    entries = make_entries(d, k, model.noise.shape[1])
    observation = observation_of(model, entries)
    _, U, _, rows, _ = observation
    m, S, P, B = np.empty(k), np.empty((k, k)), np.empty((k, k)), np.empty_like(model.basis)
    r, N, V, lag = np.empty(k), np.empty((k, k)), np.empty((k, k)), np.empty((k, k))
    r2, N2, before = np.empty(2 * k), np.empty((2 * k, 2 * k)), np.empty((k, k))
    scratch = np.empty((4, k, k))
    last = table.length - 1 if table.settled else -2
    with_N = len(result.covariance) > 0 or len(result.seen) > 0
    for s in range(len(starts) - 1):
        begin, end = starts[s], starts[s + 1]
        r[:] = 0.0
        N[:] = 0.0
        diffuse, frozen, t = False, False, end - 1
        while t >= begin:
            age = out.age[t]
            if frozen and age == last and t > begin:
                t = _coast(t, begin, weight[s], r, V, lag, table, out, result)
                continue
            if age >= 0:
                if with_N:
                    _spread(table.filtered[age], N, model.A, model.Q, V, lag, scratch)
                    copy(N, before)
                    _table_N(table.step[age], N, scratch[0])
                frozen = age == last and (not with_N or settled(N, before, SETTLED))
                _table_r(t, table.step[age], out.white, r, m)
                _smooth_mean(t, table.predicted[age], r, out.mean, result.mean)
            else:
                frozen = False
                o, whole, n_left = replay(t, m, S, B, data, model.R, observation, out, entries)
                if out.n_left[t]:
                    if not diffuse:
                        double(r, N, r2, N2)
                    diffuse = True
                    diffuse_moments(S, B, n_left, N2, model.A, model.Q, V, lag)
                    diffuse_step(t, o, r2, N2, model.A, out, rows, entries, result.mean)
                else:
                    if with_N:
                        square_of(S, P)
                        _spread(P, N, model.A, model.Q, V, lag, scratch)
                        congruence(model.A, N, P)
                    through(model.A, r, m)
                    unsee(o, r, N, U if whole else rows, entries, with_N)
                    square_of(out.root[t], P)
                    _smooth_mean(t, P, r, out.mean, result.mean)
            if len(result.covariance):
                copy(V, result.covariance[t])
            if len(result.seen):
                _add(t, begin, end, weight[s], V, lag, data.X, result)
            t -= 1


@compiled
def _spread(filtered, N, A, Q, V, lag, scratch):
    """Cov(z_t) and Cov(z_t+1, z_t) given everything, from what was filtered and N of step t + 1."""
    moved, pulled, following, left = scratch[0], scratch[1], scratch[2], scratch[3]
    k = len(N)
    multiply(A, filtered, moved)
    multiply(N, moved, pulled)
    for a in range(k):
        for h in range(k):
            total = Q[a, h]
            for c in range(k):
                total += moved[a, c] * A[h, c]
            following[a, h] = total
            V[a, h] = filtered[a, h]
    for c in range(k):
        for a in range(k):
            for h in range(k):
                V[a, h] -= moved[c, a] * pulled[c, h]
    multiply(following, pulled, left)
    for a in range(k):
        for h in range(k):
            lag[a, h] = moved[a, h] - left[a, h]


@compiled
def _table_N(step, N, half):
    """N before a complete step: (A D)' N (A D) + E' E, where step' = ((A D, ..), (E, ..))."""
    k, width = len(N), step.shape[1]
    for a in range(k):
        for h in range(k):
            total = 0.0
            for c in range(k):
                total += step[a, c] * N[c, h]
            half[a, h] = total
    for a in range(k):
        for h in range(a + 1):
            total = 0.0
            for c in range(k):
                total += half[a, c] * step[h, c]
            for i in range(k, width):
                total += step[a, i] * step[h, i]
            N[a, h] = N[h, a] = total


@inlined
def _table_r(t, step, white, r, scratch):
    k = len(r)
    for a in range(k):
        total = 0.0
        for h in range(k):
            total += step[a, h] * r[h]
        for i in range(white.shape[1]):
            total -= step[a, k + i] * white[t, i]
        scratch[a] = total
    for a in range(k):
        r[a] = scratch[a]


@inlined
def _smooth_mean(t, P, r, predicted, mean):
    for a in range(len(r)):
        total = predicted[t, a]
        for h in range(len(r)):
            total += P[h, a] * r[h]
        mean[t, a] = total


@compiled
def _add(t, begin, end, w, V, lag, X, result):
    """The share of step t in the sums."""
    z, seen, k = result.mean, result.seen, len(V)
    first, later, earlier, whole = result.first, result.later, result.earlier, result.whole
    complete = is_complete(t, X)
    for a in range(k):
        for h in range(k):
            second = w * (V[a, h] + z[t, a] * z[t, h])
            if t == begin:
                first[a, h] += second
            else:
                later[a, h] += second
            if t < end - 1:
                earlier[a, h] += second
                result.lag[a, h] += w * (lag[a, h] + z[t + 1, a] * z[t, h])
            if complete:
                whole[a, h] += second
    if t == begin:
        for a in range(k):
            result.first_mean[a] += w * z[t, a]
    if not complete:
        for j in range(X.shape[1]):
            if not np.isnan(X[t, j]):
                for a in range(k):
                    for h in range(k):
                        seen[j, a, h] += w * (V[a, h] + z[t, a] * z[t, h])


@compiled
def _coast(t, begin, w, r, V, lag, table, out, result):
    """Settled steps from t backwards but for the first: only r and the means move."""
    k, age, came = len(r), table.length - 1, t
    squares, products = np.zeros((k, k)), np.zeros((k, k))
    arrays = (out.age, out.mean, out.white, result.mean, squares, products)
    t = _drift(t, begin, age, r, table.step[age], table.predicted[age], arrays)
    if len(result.covariance):
        for i in range(t + 1, came + 1):
            copy(V, result.covariance[i])
    if len(result.seen):
        count = came - t
        for a in range(k):
            for h in range(k):
                second = w * (squares[a, h] + count * V[a, h])
                result.later[a, h] += second
                result.earlier[a, h] += second
                result.whole[a, h] += second
                result.lag[a, h] += w * (products[a, h] + count * lag[a, h])
    return t


@compiled
def _drift(t, begin, age, r, step, P, arrays):
    """The loop of `_coast`; `squares` and `products` are sums of z_t z_t' and z_t+1 z_t'."""
    ages, predicted, white, mean, squares, products = arrays
    k, m = r.shape[0], step.shape[0] - r.shape[0]
    before = np.empty(k)
    while t > begin and ages[t] == age:
        for a in range(k):
            total = 0.0
            for h in range(k):
                total += step[a, h] * r[h]
            for i in range(m):
                total -= step[a, k + i] * white[t, i]
            before[a] = total
        for a in range(k):
            total = predicted[t, a]
            for h in range(k):
                total += P[a, h] * before[h]
            mean[t, a] = total
        for a in range(k):
            r[a] = before[a]
            for h in range(k):
                products[a, h] += mean[t + 1, a] * mean[t, h]
                squares[a, h] += mean[t, a] * mean[t, h]
        t -= 1
    return t
