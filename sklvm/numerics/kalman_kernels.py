"""The compiled passes of `kalman` over stacked sequences: forwards, backwards, and what they store.

Covariances of complete steps do not depend on the data, so a table holds them by age, the number of
complete steps since the start, until they settle. A sequence leaves the table at its first gap and
comes back once its covariance is the settled one again.
"""

import numpy as np
from numba import njit

from .kalman_steps import (
    ORDERED,
    gather,
    make_entries,
    predict_basis,
    predict_root,
    product,
    reduced,
    see,
    see_diffuse,
    settled,
    shrink,
    square_of,
    unsee,
    unsee_diffuse,
)

SETTLED = 1e-14  # relative change of a covariance from one step to the next that counts as none
LOG_2PI = np.log(2 * np.pi)


@njit(cache=True, nogil=True)
def fill_table(model, table):
    """Covariances and gains of complete steps by age; -> (steps before age 0, ages, whether settled)."""
    k, m = model.A.shape[0], len(model.rho)
    entries = make_entries(max(len(model.C), 1), k, model.noise.shape[1])
    S, B, nothing = model.start.copy(), model.basis.copy(), np.zeros(k)
    head, n_left = 0, B.shape[1]
    while n_left and head <= k:
        o = gather(np.zeros(len(model.C)), model.C, model.r, model.R, entries)
        n_left = see_diffuse(o, nothing, S, B, n_left, entries)[1]
        predict_root(model.A, model.noise, S, entries.wide)
        n_left = predict_basis(model.A, B, n_left)
        head += 1
    if n_left:
        return head, 0, False
    before, P = np.empty((k, k)), np.empty((k, k))
    square_of(S, P)
    table.root[0] = S
    closed = np.empty((k, k + m))
    for age in range(len(table.step)):
        table.predicted[age] = P
        _fill_age(age, S, closed, model, table, entries)
        predict_root(model.A, model.noise, S, entries.wide)
        before[:] = P
        square_of(S, P)
        if settled(P, before, SETTLED):
            return head, age + 1, True
        table.root[age + 1] = S
    return head, len(table.step), False


@njit(cache=True, nogil=True)
def _fill_age(age, S, closed, model, table, entries):
    """The filtered mean is `closed` @ (m, y), the whitened innovation the rows `inner` @ (m, y)."""
    k, m = model.A.shape[0], len(model.rho)
    closed[:] = np.eye(k, k + m)
    inner, log_det = np.empty((m, k + m)), 0.0
    for i in range(m):
        u = model.U[i]
        f = shrink(u, model.rho[i], S, entries.gain[i], entries.phi)
        inner[i] = 0.0
        inner[i, k + i] = 1.0
        for a in range(k):
            inner[i] -= u[a] * closed[a]
        for a in range(k):
            closed[a] += entries.gain[i, a] * inner[i]
        inner[i] /= np.sqrt(f)
        log_det += np.log(f)
    table.log_det[age] = log_det
    square_of(S, table.filtered[age])
    table.closed[age] = closed
    table.step[age, :, :k] = product(model.A, closed).T
    table.step[age, :, k:] = inner.T


@njit(cache=True, nogil=True, fastmath=ORDERED)
def _is_complete(x):
    total = 0.0
    for j in range(len(x)):
        total += x[j]
    return not np.isnan(total)


@njit(cache=True, nogil=True)
def forward(data, model, table, out):
    """Filter every sequence: fills all of `out`."""
    k, width = model.A.shape[0], model.basis.shape[1]
    entries = make_entries(max(len(model.C), 1), k, model.noise.shape[1])
    m, S, P = np.empty(k), np.empty((k, k)), np.empty((k, k))
    B, stacked = np.empty((k, width)), np.empty(table.step.shape[1])
    last = table.length - 1
    for s in range(len(data.starts) - 1):
        begin, end = data.starts[s], data.starts[s + 1]
        m[:] = model.mean
        S[:] = model.start
        B[:] = model.basis
        n_left, on_track, run, total = width, True, 0, 0.0
        age = 0 if table.head == 0 and table.length else -1
        t = begin
        while t < end:
            if age >= 0:
                if age == last and table.settled:
                    until = _steady(t, end, m, data, table, out, stacked)
                    total += out.log_prob[t:until].sum()
                    t = until
                    if t == end:
                        break
                elif _is_complete(data.X[t]):
                    _tabled(t, end, age, m, data, table, out, stacked)
                    total += out.log_prob[t]
                    age += 1
                    t += 1
                    if age > last:
                        S[:] = table.root[age]
                        age = -1
                    continue
                S[:] = table.root[age]  # a gap
                age, on_track, run = -1, False, 0
            n_left, seen_all = _general(t, m, S, B, n_left, data, model, out, entries)
            total += out.log_prob[t]
            _advance(t, end, m, S, data, model, out, entries)
            t += 1
            n_left = predict_basis(model.A, B, n_left)
            on_track &= seen_all
            run = run + 1 if seen_all else 0
            if on_track and t - begin == table.head and table.length:
                age = 0
            elif run > 1 and n_left == 0 and table.settled:
                square_of(S, P)
                if settled(P, table.predicted[last], 10 * SETTLED):
                    age = last
        out.total[s] = total
        out.n_diffuse[s] = width - n_left
        out.next_mean[s] = m
        if age >= 0:
            S[:] = table.root[age]
        out.next_root[s] = S
        for h in range(n_left):
            out.next_basis[s, :, h] = B[:, h]


@njit(cache=True, nogil=True)
def _general(t, m, S, B, n_left, data, model, out, entries):
    """See step t by itself: what was predicted goes to `out`, what is filtered stays in m, S, B."""
    seen_all = _is_complete(data.X[t])
    out.mean[t], out.root[t] = m, S
    out.age[t], out.n_left[t] = -1, n_left
    if n_left:
        out.basis[t] = B
        o = gather(data.X[t], model.C, model.r, model.R, entries)
        square, n_left = see_diffuse(o, m, S, B, n_left, entries)
        o -= out.n_left[t] - n_left
    elif seen_all:
        o = reduced(data.y[t], model.U, model.rho, entries)
        square = see(o, m, S, entries) + data.rest[t]
    else:
        o = gather(data.X[t], model.C, model.r, model.R, entries)
        square = see(o, m, S, entries)
    out.log_prob[t] = -0.5 * (square + o * LOG_2PI)
    return n_left, seen_all


@njit(cache=True, nogil=True)
def _advance(t, end, m, S, data, model, out, entries):
    """From the filtered state of step t to the prediction of the next."""
    moved = np.dot(model.A, m)
    m[:] = moved
    if len(data.b) and t + 1 < end:
        m += data.b[t + 1]
    predict_root(model.A, model.noise, S, entries.wide)


@njit(cache=True, nogil=True, fastmath=ORDERED)
def _move(step, y, m, stacked):
    """`stacked` = the next mean and the whitened innovation."""
    k, width = len(m), len(stacked)
    for i in range(width):
        stacked[i] = 0.0
    for j in range(k):
        for i in range(width):
            stacked[i] += step[j, i] * m[j]
    for j in range(width - k):
        for i in range(width):
            stacked[i] += step[k + j, i] * y[j]


@njit(cache=True, nogil=True, fastmath=ORDERED)
def _tabled(t, end, age, m, data, table, out, stacked):
    k = len(m)
    square = data.rest[t] + table.log_det[age] + (len(stacked) - k) * LOG_2PI
    _move(table.step[age], data.y[t], m, stacked)
    out.age[t] = age
    out.n_left[t] = 0
    for a in range(k):
        out.mean[t, a] = m[a]
        m[a] = stacked[a]
    for i in range(k, len(stacked)):
        out.white[t, i - k] = stacked[i]
        square += stacked[i] * stacked[i]
    if len(data.b) and t + 1 < end:
        for a in range(k):
            m[a] += data.b[t + 1, a]
    out.log_prob[t] = -0.5 * square


@njit(cache=True, nogil=True, fastmath=ORDERED)
def _steady(t, end, m, data, table, out, stacked):
    """Steps from t on with the settled gains, until a gap or the end."""
    age = table.length - 1
    while t < end and _is_complete(data.X[t]):
        _tabled(t, end, age, m, data, table, out, stacked)
        t += 1
    return t


# --- what was filtered ------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _replay(t, m, S, B, data, model, out, entries):
    """See step t again from what was predicted: -> (entries seen, directions left)."""
    m[:], S[:] = out.mean[t], out.root[t]
    if out.n_left[t]:
        B[:] = out.basis[t]
        o = gather(data.X[t], model.C, model.r, model.R, entries)
        return o, see_diffuse(o, m, S, B, out.n_left[t], entries)[1]
    if _is_complete(data.X[t]):
        o = reduced(data.y[t], model.U, model.rho, entries)
    else:
        o = gather(data.X[t], model.C, model.r, model.R, entries)
    see(o, m, S, entries)
    return o, 0


@njit(cache=True, nogil=True)
def moments(data, model, table, out, means, covariances, predicted):
    """Filtered means and covariances and predicted covariances of every step."""
    k = model.A.shape[0]
    entries = make_entries(max(len(model.C), 1), k, model.noise.shape[1])
    m, S, B = np.empty(k), np.empty((k, k)), np.empty((k, model.basis.shape[1]))
    joined = np.empty(table.step.shape[1])
    for t in range(len(data.X)):
        age = out.age[t]
        if age >= 0:
            joined[:k], joined[k:] = out.mean[t], data.y[t]
            means[t] = np.dot(table.closed[age], joined)
            covariances[t], predicted[t] = table.filtered[age], table.predicted[age]
        else:
            square_of(out.root[t], predicted[t])
            _replay(t, m, S, B, data, model, out, entries)
            means[t] = m
            square_of(S, covariances[t])


# --- backwards --------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def backward(data, model, table, out, weight, result):
    """Smooth every sequence: means, and as far as `result` has room covariances and sums.

    r and N say what later steps tell of the predicted state (Durbin & Koopman 2012, 4.38, 4.42); no
    covariance is inverted. Over settled steps N settles, too, and only r moves on.
    """
    k, width = model.A.shape[0], model.basis.shape[1]
    entries = make_entries(max(len(model.C), 1), k, model.noise.shape[1])
    m, S, P, B = np.empty(k), np.empty((k, k)), np.empty((k, k)), np.empty((k, width))
    r, N, V, lag = np.empty(k), np.empty((k, k)), np.empty((k, k)), np.empty((k, k))
    r2, N2, before = np.empty(2 * k), np.empty((2 * k, 2 * k)), np.empty((k, k))
    last = table.length - 1 if table.settled else -2
    with_N = len(result.covariance) > 0 or len(result.seen) > 0
    for s in range(len(data.starts) - 1):
        begin, end = data.starts[s], data.starts[s + 1]
        r[:], N[:] = 0.0, 0.0
        diffuse, frozen, t = False, False, end - 1
        while t >= begin:
            age = out.age[t]
            if frozen and age == last and t > begin:
                t = _coast(t, begin, weight[s], r, V, lag, table, out, result)
                continue
            if age >= 0:
                if with_N:
                    _spread(table.filtered[age], N, model, V, lag)
                    before[:] = N
                    _table_N(table.step[age], N)
                frozen = age == last and (not with_N or settled(N, before, SETTLED))
                _table_r(table.step[age], out.white[t], r, m)
                _smooth_mean(table.predicted[age], r, out.mean[t], result.mean[t])
            else:
                frozen = False
                o, n_left = _replay(t, m, S, B, data, model, out, entries)
                if out.n_left[t]:
                    if not diffuse:
                        r2[:], N2[:] = 0.0, 0.0
                        r2[:k], N2[:k, :k] = r, N
                    diffuse = True
                    _diffuse_step(t, o, n_left, S, B, r2, N2, V, lag, model, out, entries, result)
                else:
                    if with_N:
                        square_of(S, P)
                        _spread(P, N, model, V, lag)
                    _through(model.A, r, N, with_N, m)
                    unsee(o, r, N, entries, with_N)
                    square_of(out.root[t], P)
                    _smooth_mean(P, r, out.mean[t], result.mean[t])
            if len(result.covariance):
                result.covariance[t] = V
            if len(result.seen):
                _add(t, begin, end, weight[s], V, lag, data.X[t], result)
            t -= 1


@njit(cache=True, nogil=True)
def _spread(filtered, N, model, V, lag):
    """Cov(z_t) and Cov(z_t+1, z_t) given everything, from what was filtered and N of step t + 1."""
    moved = product(model.A, filtered)
    pulled = product(N, moved)
    following = product(moved, model.A.T) + model.Q
    V[:] = filtered - product(moved.T, pulled)
    lag[:] = moved - product(following, pulled)


@njit(cache=True, nogil=True)
def _table_N(step, N):
    """N before a complete step: (A D)' N (A D) + E' E."""
    k = len(N)
    closed, inner = step[:k, :k], step[:k, k:]
    N[:] = product(product(closed, N), closed.T) + product(inner, inner.T)


@njit(cache=True, nogil=True, fastmath=ORDERED)
def _table_r(step, white, r, scratch):
    k = len(r)
    for a in range(k):
        total = 0.0
        for h in range(k):
            total += step[a, h] * r[h]
        for i in range(len(white)):
            total -= step[a, k + i] * white[i]
        scratch[a] = total
    for a in range(k):
        r[a] = scratch[a]


@njit(cache=True, nogil=True, fastmath=ORDERED)
def _smooth_mean(P, r, predicted, mean):
    for a in range(len(r)):
        total = predicted[a]
        for h in range(len(r)):
            total += P[h, a] * r[h]
        mean[a] = total


@njit(cache=True, nogil=True)
def _through(A, r, N, with_N, scratch):
    """r and N of what was filtered from those of the next prediction."""
    scratch[:] = np.dot(A.T, r)
    r[:] = scratch
    if with_N:
        N[:] = product(A.T, product(N, A))


@njit(cache=True, nogil=True)
def _diffuse_step(t, o, n_left, S, B, r, N, V, lag, model, out, entries, result):
    """A step of the diffuse phase: r and N hold powers of 1 / kappa, covariances of kappa."""
    k = len(S)
    P, A = np.zeros((k, 2 * k)), np.zeros((2 * k, 2 * k))
    A[:k, :k], A[k:, k:] = model.A, model.A
    P[:, :k] = product(S, S.T)
    P[:, k:] = product(B[:, :n_left], B[:, :n_left].T)
    moved = product(model.A, P)
    following = product(moved, A.T)
    following[:, :k] += model.Q
    pulled = product(product(N, A), P.T)
    V[:] = P[:, :k] - product(product(P, A.T), pulled)
    lag[:] = moved[:, :k] - product(following, pulled)
    r[:] = product(A.T, r.reshape(-1, 1))[:, 0]
    N[:] = product(A.T, product(N, A))
    unsee_diffuse(o, r, N, entries)
    basis = out.basis[t, :, : out.n_left[t]]
    P[:, :k] = product(out.root[t], out.root[t].T)
    P[:, k:] = product(basis, basis.T)
    result.mean[t] = out.mean[t] + product(P, r.reshape(-1, 1))[:, 0]


@njit(cache=True, nogil=True, fastmath=ORDERED)
def _add(t, begin, end, w, V, lag, x, result):
    """The share of step t in the sums."""
    z, k = result.mean[t], len(V)
    second = np.empty((k, k))
    for a in range(k):
        for h in range(k):
            second[a, h] = w * (V[a, h] + z[a] * z[h])
    if t == begin:
        result.first[:] += second
        result.first_mean[:] += w * z
    else:
        result.later[:] += second
    if t < end - 1:
        result.earlier[:] += second
        following = result.mean[t + 1]
        for a in range(k):
            for h in range(k):
                result.lag[a, h] += w * (lag[a, h] + following[a] * z[h])
    if _is_complete(x):
        result.whole[:] += second
        return
    for j in range(len(x)):
        if not np.isnan(x[j]):
            for a in range(k):
                for h in range(k):
                    result.seen[j, a, h] += second[a, h]


@njit(cache=True, nogil=True, fastmath=ORDERED)
def _coast(t, begin, w, r, V, lag, table, out, result):
    """Settled steps from t backwards, the first of a sequence left out: only r and the means move."""
    k, age, came = len(r), table.length - 1, t
    m = out.white.shape[1]
    back = np.ascontiguousarray(table.step[age, :k].T)  # (k + m, k)
    P, moved = table.predicted[age], np.empty(k)
    squares, products = np.zeros((k, k)), np.zeros((k, k))
    while t > begin and out.age[t] == age:
        z = result.mean[t]
        for a in range(k):
            moved[a] = 0.0
            z[a] = out.mean[t, a]
        for h in range(k):
            for a in range(k):
                moved[a] += back[h, a] * r[h]
        for i in range(m):
            for a in range(k):
                moved[a] -= back[k + i, a] * out.white[t, i]
        for h in range(k):
            r[h] = moved[h]
            for a in range(k):
                z[a] += P[h, a] * moved[h]
        for a in range(k):
            for h in range(k):
                squares[a, h] += z[a] * z[h]
                products[a, h] += result.mean[t + 1, a] * z[h]
        t -= 1
    if len(result.covariance):
        for i in range(t + 1, came + 1):
            result.covariance[i] = V
    if len(result.seen):
        count = came - t
        second = w * (squares + count * V)
        result.later[:] += second
        result.earlier[:] += second
        result.whole[:] += second
        result.lag[:] += w * (products + count * lag)
    return t


@njit(cache=True, nogil=True, fastmath=ORDERED)
def roll(A, starts, z):
    """z_t += A z_t-1 within each sequence, in place."""
    k = len(A)
    for s in range(len(starts) - 1):
        for t in range(starts[s] + 1, starts[s + 1]):
            for a in range(k):
                for h in range(k):
                    z[t, a] += A[a, h] * z[t - 1, h]
