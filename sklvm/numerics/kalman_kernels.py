"""The compiled forward pass of `kalman` over stacked sequences, and what it stores.

Covariances of complete steps do not depend on the data, so a table holds them by age, the number of
complete steps since the start, until they settle. A sequence leaves the table at its first gap and
comes back once its covariance is the settled one again.
"""

from math import log, pi, sqrt

import numpy as np

from .kalman_diffuse import predict_basis, see_diffuse
from .kalman_steps import (
    compiled,
    copy,
    gather,
    inlined,
    is_complete,
    make_entries,
    predict_root,
    reduced,
    see,
    settled,
    square_of,
    take,
)

SETTLED = 1e-14  # relative change of a covariance from one step to the next that counts as none
LOG_2PI = log(2 * pi)


@compiled
def observation_of(model, entries):
    """C, the reduced U and rho, and what the indices of `entries` point into: rows, variances."""
    C, r = model.C.copy(), model.r.copy()
    full = len(model.R) > 0
    rows, noise = (entries.rows, entries.noise) if full else (C, r)
    return C, model.U.copy(), model.rho.copy(), rows, noise


@compiled
def fill_table(model, table):
    """Fill it, by age: -> (diffuse steps before age 0, ages, whether the last one is settled)."""
    A, noise, (d, k) = model.A, model.noise, model.C.shape
    entries = make_entries(d, k, noise.shape[1])
    C, U, rho, rows, noises = observation_of(model, entries)
    S, B, nothing = model.start.copy(), model.basis.copy(), np.zeros(k)
    head, n_left, X = 0, B.shape[1], np.zeros((1, d))
    while n_left and head <= k:
        o = gather(0, X, C, model.R, entries)
        n_left = see_diffuse(o, nothing, S, B, n_left, rows, noises, entries)[1]
        predict_root(A, noise, S, entries.wide)
        n_left = predict_basis(A, B, n_left)
        head += 1
    if n_left:
        return head, 0, False
    copy(S, table.root[0])
    for age in range(len(table.step)):
        square_of(S, table.predicted[age])
        _fill_age(age, S, A, U, rho, table, entries)
        predict_root(A, noise, S, entries.wide)
        copy(S, table.root[age + 1])
        if age and settled(table.predicted[age], table.predicted[age - 1], SETTLED):
            return head, age + 1, True
    return head, len(table.step), False


@compiled
def _fill_age(age, S, A, U, rho, table, entries):
    """The filtered mean is `closed` (m, y), the white innovation `inner` (m, y)."""
    (m, k), closed, step = U.shape, table.closed[age], table.step[age]
    total, nothing = 0.0, np.zeros(k)
    for a in range(k):
        for h in range(k + m):
            closed[a, h] = a == h
    for i in range(m):
        f, _ = take(i, i, 0.0, U, rho[i], nothing, S, entries.gain, entries.phi)
        total += log(f)
        for h in range(k + m):
            inner = 1.0 * (h == k + i)
            for a in range(k):
                inner -= U[i, a] * closed[a, h]
            for a in range(k):
                closed[a, h] += entries.gain[i, a] * inner
            step[h, k + i] = inner / sqrt(f)
    table.log_det[age] = total
    square_of(S, table.filtered[age])
    for h in range(k + m):
        for a in range(k):
            step[h, a] = 0.0
            for c in range(k):
                step[h, a] += A[a, c] * closed[c, h]


@compiled
def forward(data, model, table, out):
    """Filter every sequence: fills all of `out`."""
    X, starts, width = data.X, data.starts, model.basis.shape[1]
    (d, k), last = model.C.shape, table.length - 1
    entries = make_entries(d, k, model.noise.shape[1])
    observation = observation_of(model, entries)
    m, S, P, B = np.empty(k), np.empty((k, k)), np.empty((k, k)), np.empty_like(model.basis)
    for s in range(len(starts) - 1):
        t, end, total = starts[s], starts[s + 1], 0.0
        for a in range(k):
            m[a] = model.mean[a]
        copy(model.start, S)
        copy(model.basis, B)
        n_left, on_track, run = width, True, 0
        age = 0 if table.head == 0 and table.length else -1
        while t < end:
            if age >= 0:
                until, age = _tabled(t, end, age, m, data, table, out)
                for i in range(t, until):
                    total += out.log_prob[i]
                t = until
                if age > last:
                    copy(table.root[age], S)
                    age = -1
                if t == end or age < 0:
                    continue
                copy(table.root[age], S)  # a gap
                age, on_track, run = -1, False, 0
            seen_all = is_complete(t, X)
            n_left = _general(
                t, m, S, B, n_left, seen_all, data, model.R, observation, out, entries
            )
            total += out.log_prob[t]
            _next_mean(t, end, model.A, data.b, m, entries.phi)
            predict_root(model.A, model.noise, S, entries.wide)
            if n_left:
                n_left = predict_basis(model.A, B, n_left)
            t += 1
            on_track &= seen_all
            run = run + 1 if seen_all else 0
            if on_track and t - starts[s] == table.head and table.length:
                age = 0
            elif run > 1 and n_left == 0 and table.settled:
                square_of(S, P)
                if settled(P, table.predicted[last], 10 * SETTLED):
                    age = last
        if age >= 0:
            copy(table.root[age], S)
        out.total[s], out.n_diffuse[s] = total, width - n_left
        copy(S, out.next_root[s])
        for a in range(k):
            out.next_mean[s, a] = m[a]
        for a in range(len(B)):
            for h in range(n_left):
                out.next_basis[s, a, h] = B[a, h]


@inlined
def _general(t, m, S, B, n_left, seen_all, data, R, observation, out, entries):
    """See step t by itself: what was predicted goes to `out`, what is filtered stays in m, S, B."""
    for a in range(len(m)):
        out.mean[t, a] = m[a]
    copy(S, out.root[t])
    out.age[t], out.n_left[t] = -1, n_left
    if n_left:
        copy(B, out.basis[t])
    o, square, left = _observe(t, m, S, B, n_left, seen_all, data, R, observation, entries)
    if seen_all and n_left == 0:
        square += data.rest[t]
    out.log_prob[t] = -0.5 * (square + (o - n_left + left) * LOG_2PI)
    return left


@compiled
def _observe(t, m, S, B, n_left, seen_all, data, R, observation, entries):
    """Condition on step t, in place: -> (entries, sum of log f + v^2 / f, directions left)."""
    C, U, rho, rows, noise = observation
    if seen_all and n_left == 0:
        o, rows, noise = reduced(t, data.y, entries), U, rho
    else:
        o = gather(t, data.X, C, R, entries)
    if n_left == 0:
        return o, see(o, m, S, rows, noise, entries), 0
    square, n_left = see_diffuse(o, m, S, B, n_left, rows, noise, entries)
    return o, square, n_left


@inlined
def _next_mean(t, end, A, b, m, moved):
    k = len(m)
    for a in range(k):
        total = 0.0
        for h in range(k):
            total += A[a, h] * m[h]
        moved[a] = total
    for a in range(k):
        m[a] = moved[a]
        if len(b) and t + 1 < end:
            m[a] += b[t + 1, a]


@compiled
def _tabled(t, end, age, m, data, table, out):
    """Complete steps from t on by the table, until a gap or its end: -> (t, age) after them."""
    last, settles = table.length - 1, table.settled
    k, width = len(m), table.step.shape[1]
    while t < end and age <= last:
        constant = table.log_det[age] + (width - k) * LOG_2PI
        until = end if age == last and settles else t + 1
        arrays = (data.X, data.y, data.rest, data.b, out.mean, out.white, out.log_prob, out.age)
        reached = _march(t, until, end, age, m, table.step[age], constant, arrays, out.n_left)
        if reached < until:
            return reached, age
        t = until
        if not (age == last and settles):
            age += 1
    return t, age


@compiled
def _march(t, until, end, age, m, step, constant, arrays, n_left):
    """Steps from t to `until` with one gain, or to a gap."""
    X, y, rest, b, mean, white, log_prob, ages = arrays
    k, width = m.shape[0], step.shape[0]
    following = np.empty(width)
    while t < until:
        if not is_complete(t, X):
            break
        for i in range(width):
            following[i] = 0.0
        for j in range(k):
            mean[t, j] = m[j]
            for i in range(width):
                following[i] += step[j, i] * m[j]
        for j in range(width - k):
            for i in range(width):
                following[i] += step[k + j, i] * y[t, j]
        square = rest[t] + constant
        for j in range(width - k):
            white[t, j] = following[k + j]
            square += following[k + j] * following[k + j]
        for a in range(k):
            m[a] = following[a]
        ages[t], n_left[t], log_prob[t] = age, 0, -0.5 * square
        t += 1
        if len(b) and t < end:
            for a in range(k):
                m[a] += b[t, a]
    return t


@inlined
def replay(t, m, S, B, data, R, observation, out, entries):
    """See step t again from what was predicted: -> (entries, whether reduced, directions left)."""
    for a in range(len(m)):
        m[a] = out.mean[t, a]
    copy(out.root[t], S)
    n_left, seen_all = out.n_left[t], is_complete(t, data.X)
    if n_left:
        copy(out.basis[t], B)
    o, _, left = _observe(t, m, S, B, n_left, seen_all, data, R, observation, entries)
    return o, seen_all and n_left == 0, left


@compiled
def moments(data, model, table, out, means, covariances, predicted, bases):
    """Filtered means and covariances, predicted covariances and diffuse directions of each step."""
    (m, k), d = model.U.shape, len(model.C)
    entries = make_entries(d, k, model.noise.shape[1])
    observation = observation_of(model, entries)
    z, S, B = np.empty(k), np.empty((k, k)), np.empty_like(model.basis)
    for t in range(len(data.X)):
        age = out.age[t]
        if age >= 0:
            copy(table.filtered[age], covariances[t])
            copy(table.predicted[age], predicted[t])
            for a in range(k):
                z[a] = 0.0
                for h in range(k):
                    z[a] += table.closed[age, a, h] * out.mean[t, h]
                for i in range(m):
                    z[a] += table.closed[age, a, k + i] * data.y[t, i]
        else:
            square_of(out.root[t], predicted[t])
            left = replay(t, z, S, B, data, model.R, observation, out, entries)[2]
            square_of(S, covariances[t])
            for a in range(k):
                for h in range(left):
                    bases[t, a, h] = B[a, h]
        for a in range(k):
            means[t, a] = z[a]


@compiled
def roll(A, starts, z):
    """z_t += A z_t-1 within each sequence, in place."""
    k = len(A)
    for s in range(len(starts) - 1):
        for t in range(starts[s] + 1, starts[s + 1]):
            for a in range(k):
                for h in range(k):
                    z[t, a] += A[a, h] * z[t - 1, h]
