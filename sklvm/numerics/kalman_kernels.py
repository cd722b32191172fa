"""The compiled passes of `kalman` over stacked sequences: forwards, backwards, and what they store.

Covariances of complete steps do not depend on the data, so a table holds them by age, the number of
complete steps since the start, until they settle. A sequence leaves the table at its first gap and
comes back once its covariance is the settled one again.
"""

from math import log, pi, sqrt

import numpy as np

from .kalman_steps import (
    compiled,
    congruence,
    copy,
    gather,
    inlined,
    is_complete,
    make_entries,
    multiply,
    predict_basis,
    predict_root,
    reduced,
    see,
    see_diffuse,
    settled,
    square_of,
    take,
    through,
    unsee,
    unsee_diffuse,
)

SETTLED = 1e-14  # relative change of a covariance from one step to the next that counts as none
LOG_2PI = log(2 * pi)


@compiled
def _observation(model, entries):
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
    C, U, rho, rows, noises = _observation(model, entries)
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


# --- forwards ---------------------------------------------------------------------------------


@compiled
def forward(data, model, table, out):
    """Filter every sequence: fills all of `out`."""
    X, starts, width = data.X, data.starts, model.basis.shape[1]
    (d, k), last = model.C.shape, table.length - 1
    entries = make_entries(d, k, model.noise.shape[1])
    observation = _observation(model, entries)
    m, S, P, B = np.empty(k), np.empty((k, k)), np.empty((k, k)), np.empty((k, width))
    for s in range(len(starts) - 1):
        t, end, total = starts[s], starts[s + 1], 0.0
        m[:] = model.mean
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


@inlined
def _observe(t, m, S, B, n_left, seen_all, data, R, observation, entries):
    """Condition on step t, in place: -> (entries, sum of log f + v^2 / f, directions left)."""
    C, U, rho, rows, noise = observation
    if seen_all and n_left == 0:
        o = reduced(t, data.y, entries)
        return o, see(o, m, S, U, rho, entries), 0
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


# --- what was filtered ------------------------------------------------------------------------


@inlined
def _replay(t, m, S, B, data, R, observation, out, entries):
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
def moments(data, model, table, out, means, covariances, predicted):
    """Filtered means and covariances and predicted covariances of every step."""
    (m, k), d = model.U.shape, len(model.C)
    entries = make_entries(d, k, model.noise.shape[1])
    observation = _observation(model, entries)
    z, S, B = np.empty(k), np.empty((k, k)), np.empty((k, model.basis.shape[1]))
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
            _replay(t, z, S, B, data, model.R, observation, out, entries)
            square_of(S, covariances[t])
        means[t] = z


# --- backwards --------------------------------------------------------------------------------


@compiled
def backward(data, model, table, out, weight, result):
    """Smooth every sequence: means, and as far as `result` has room covariances and sums.

    r and N say what later steps tell of the predicted state (Durbin & Koopman 2012, 4.38, 4.42); no
    covariance is inverted. Over settled steps N settles, too, and only r moves on.
    """
    starts, width, (d, k) = data.starts, model.basis.shape[1], model.C.shape
    entries = make_entries(d, k, model.noise.shape[1])
    observation = _observation(model, entries)
    _, U, _, rows, _ = observation
    m, S, P, B = np.empty(k), np.empty((k, k)), np.empty((k, k)), np.empty((k, width))
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
                o, whole, n_left = _replay(t, m, S, B, data, model.R, observation, out, entries)
                if out.n_left[t]:
                    if not diffuse:
                        _double(r, N, r2, N2)
                    diffuse = True
                    _diffuse_moments(S, B, n_left, N2, model.A, model.Q, V, lag)
                    _diffuse_step(t, o, r2, N2, model.A, out, rows, entries, result.mean)
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
def _double(r, N, r2, N2):
    """r and N as powers of 1 / kappa, of which there is the 0th only."""
    r2[:] = 0.0
    N2[:] = 0.0
    for a in range(len(r)):
        r2[a] = r[a]
        for h in range(len(r)):
            N2[a, h] = N[a, h]


@compiled
def _powers(S, B, n_left, P):
    """P = (S S', B B'), the covariance as powers of kappa: (k, 2 k)."""
    k = len(S)
    for a in range(k):
        for h in range(k):
            P[a, h] = P[a, k + h] = 0.0
            for c in range(k):
                P[a, h] += S[a, c] * S[h, c]
            for c in range(n_left):
                P[a, k + h] += B[a, c] * B[h, c]


@compiled
def _diffuse_moments(S, B, n_left, N, A, Q, V, lag):
    """`_spread` in the diffuse phase: V = P - P A' N A P' over powers of kappa."""
    k = len(S)
    P, moved, pulled = np.empty((k, 2 * k)), np.empty((k, 2 * k)), np.zeros((2 * k, k))
    across, AP = np.empty((2 * k, k)), np.empty((k, 2 * k))
    _powers(S, B, n_left, P)
    multiply(A, P, AP)
    for a in range(k):
        for h in range(k):
            across[a, h], across[k + a, h] = AP[a, h], AP[a, k + h]
    multiply(N, across, pulled)
    for a in range(k):
        for h in range(k):
            moved[a, h], moved[a, k + h] = Q[a, h], 0.0
            for c in range(k):
                moved[a, h] += AP[a, c] * A[h, c]
                moved[a, k + h] += AP[a, k + c] * A[h, c]
    for a in range(k):
        for h in range(k):
            V[a, h], lag[a, h] = P[a, h], AP[a, h]
            for c in range(2 * k):
                V[a, h] -= across[c, a] * pulled[c, h]
                lag[a, h] -= moved[a, c] * pulled[c, h]


@compiled
def _diffuse_step(t, o, r, N, A, out, rows, entries, mean):
    """r and N before a step of the diffuse phase, and its smoothed mean."""
    k = len(A)
    twice, scratch, P = np.zeros((2 * k, 2 * k)), np.empty((2 * k, 2 * k)), np.empty((k, 2 * k))
    for a in range(k):
        for h in range(k):
            twice[a, h] = twice[k + a, k + h] = A[a, h]
    congruence(twice, N, scratch)
    through(twice, r, np.empty(2 * k))
    unsee_diffuse(o, r, N, rows, entries)
    _powers(out.root[t], out.basis[t], out.n_left[t], P)
    for a in range(k):
        mean[t, a] = out.mean[t, a]
        for c in range(2 * k):
            mean[t, a] += P[a, c] * r[c]


@inlined
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


@compiled
def roll(A, starts, z):
    """z_t += A z_t-1 within each sequence, in place."""
    k = len(A)
    for s in range(len(starts) - 1):
        for t in range(starts[s] + 1, starts[s + 1]):
            for a in range(k):
                for h in range(k):
                    z[t, a] += A[a, h] * z[t - 1, h]
