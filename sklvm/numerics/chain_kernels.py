"""The compiled recursions of hidden Markov chains, named and explained in `chain_plain`.

A tuple `pi` tells the compiler the number of states, which makes small kernels two to four times as
fast; otherwise loops go over four rows of a matrix at a time. `forward` is one long function: its
parts as functions cost a tenth of its speed at K = 16, and half of it for a guarded chain.
"""

from math import exp, inf, log

import numpy as np

from .chain_plain import EVERY, HARMLESS, LOST, RARE, RESCALED, SMALL
from .compiled import dividing, exact, ordered


@ordered
def _times(pi, v, M, out):
    """out = v M: in one piece for few states, else four rows of M at a time."""
    K = len(pi)
    if K <= SMALL:
        for j in range(K):
            x = 0.0
            for i in range(K):
                x += v[i] * M[i, j]
            out[j] = x
        return
    for j in range(K):
        out[j] = 0.0
    i = 0
    while i + 4 <= K:
        v0, v1, v2, v3 = v[i], v[i + 1], v[i + 2], v[i + 3]
        for j in range(K):
            out[j] += v0 * M[i, j] + v1 * M[i + 1, j] + v2 * M[i + 2, j] + v3 * M[i + 3, j]
        i += 4
    while i < K:
        v0 = v[i]
        for j in range(K):
            out[j] += v0 * M[i, j]
        i += 1


@exact
def _copy(v, out):
    """out[:] = v, without the words for lengths that differ: they take seconds to compile."""
    for j in range(len(v)):
        out[j] = v[j]


@ordered
def _dropped(predicted, reach, b, v, u):
    total = 0.0
    for j in range(len(u)):
        x = reach[j] * b[j]
        gone = v[j] == 0.0 and predicted[j] > 0.0
        if x < LOST:
            x = LOST if b[j] > 0.0 and (gone or reach[j] > 0.0) else 0.0
        u[j] = x
        total += x
    return total


@dividing
def forward(pi, A, leak, guarded, carry, bounds, alpha, b, c, peak, log_prob, failed):
    K = len(pi)
    predicted, reach = carry[0], carry[1]
    v, u = np.empty(K), np.zeros(K)
    least = 0.0 if guarded else RARE
    for s in range(len(bounds) - 1):
        if s > 0:
            for j in range(K):
                predicted[j] = pi[j]
                reach[j] = 0.0
        before, dropped = 1.0, 0.0
        for t in range(bounds[s], bounds[s + 1]):
            total = 0.0
            for j in range(K):
                x = predicted[j] * b[t, j]
                if x < LOST:
                    x = 0.0
                v[j] = x
                total += x
            if guarded:
                dropped = _dropped(predicted, reach, b[t], v, u)
            if not (total > least * before and dropped < HARMLESS * total):
                failed[s] = True
                alpha[t : bounds[s + 1]] = 0.0
                b[t : bounds[s + 1]] = 0.0
                c[t : bounds[s + 1]] = 1.0
                before = 1.0
                break
            c[t] = total / before
            scale = 1.0 / total
            rate = before * scale
            for j in range(K):
                alpha[t, j] = v[j] * scale
                b[t, j] *= rate
            log_prob[s] += peak[t]
            before = total
            if total < RESCALED:
                for j in range(K):
                    v[j] *= scale
                    u[j] *= scale
                log_prob[s] += log(total)
                before = 1.0
            _times(pi, v, A, predicted)
            if dropped > 0.0:
                _times(pi, u, A, reach)
                for j in range(K):
                    reach[j] += leak[j]
            elif guarded:
                _copy(leak, reach)
        log_prob[s] += log(before)
        for j in range(K):
            predicted[j] /= before
            reach[j] /= before


@ordered
def backward(pi, AT, w, bounds, weight, alpha, q, gamma):
    K = len(pi)
    r = np.empty(K)
    for s in range(len(bounds) - 2, -1, -1):
        if s < len(bounds) - 2:
            for j in range(K):
                w[j] = weight[s]
        for t in range(bounds[s + 1] - 1, bounds[s] - 1, -1):
            for j in range(K):
                x = w[j] if alpha[t, j] > 0.0 else 0.0
                gamma[t, j] = alpha[t, j] * x
                x *= q[t, j]
                r[j] = x
                q[t, j] = x
            _times(pi, r, AT, w)


@exact
def _log_sum(v, row):
    """log sum_i exp(v_i + row_i)"""
    top = -inf
    for i in range(len(v)):
        top = max(top, v[i] + row[i])
    if top == -inf:
        return top
    total = 0.0
    for i in range(len(v)):
        total += exp(v[i] + row[i] - top)
    return top + log(total)


@exact
def log_forward(log_pi, log_AT, carry, bounds, log_alpha, log_b, log_c, peak, log_prob, failed):
    K = len(log_pi)
    predicted = carry[0]
    for s in range(len(bounds) - 1):
        if s > 0:
            _copy(log_pi, predicted)
        for t in range(bounds[s], bounds[s + 1]):
            log_c[t] = total = _log_sum(predicted, log_b[t])
            log_prob[s] += peak[t] + total
            scale = total if total > -inf else 0.0
            for j in range(K):
                log_alpha[t, j] = predicted[j] + log_b[t, j] - scale
                log_b[t, j] -= scale
            for j in range(K):
                predicted[j] = _log_sum(log_alpha[t], log_AT[j])


@exact
def log_backward(log_A, log_w, bounds, log_weight, log_alpha, log_q, gamma, xi):
    K = len(log_w)
    for s in range(len(bounds) - 2, -1, -1):
        if s < len(bounds) - 2:
            log_w[:] = log_weight[s]
        for t in range(bounds[s + 1] - 1, bounds[s] - 1, -1):
            log_r = log_q[t]
            for j in range(K):
                possible = log_alpha[t, j] > -inf
                gamma[t, j] = exp(log_alpha[t, j] + log_w[j]) if possible else 0.0
                log_r[j] = log_r[j] + log_w[j] if possible else -inf
            for i in range(K):
                log_w[i] = _log_sum(log_r, log_A[i])
                if t > bounds[s]:
                    for j in range(K):
                        xi[i, j] += exp(log_alpha[t - 1, i] + log_A[i, j] + log_r[j])


@exact
def _max_plus(pi, v, M, out):
    """out_j = max_i v_i + M_ij, four rows of M at a time."""
    K = len(pi)
    for j in range(K):
        out[j] = -inf
    i = 0
    while i + 4 <= K:
        v0, v1, v2, v3 = v[i], v[i + 1], v[i + 2], v[i + 3]
        for j in range(K):
            x, y = v0 + M[i, j], v1 + M[i + 1, j]
            x = x if x > y else y
            y, z = v2 + M[i + 2, j], v3 + M[i + 3, j]
            y = y if y > z else z
            x = x if x > y else y
            out[j] = x if x > out[j] else out[j]
        i += 4
    while i < K:
        v0 = v[i]
        for j in range(K):
            x = v0 + M[i, j]
            out[j] = x if x > out[j] else out[j]
        i += 1


@exact
def best_forward(pi, log_pi, log_A, carry, bounds, delta, peak, log_prob):
    K = len(pi)
    predicted, v = carry[0], np.empty(K)
    for s in range(len(bounds) - 1):
        if s > 0:
            _copy(log_pi, predicted)
        for t in range(bounds[s], bounds[s + 1]):
            top = 0.0
            if t % EVERY == 0 or t == bounds[s + 1] - 1:
                top = -inf
                for j in range(K):
                    x = predicted[j] + delta[t, j]
                    top = x if x > top else top
                log_prob[s] += top
                if top == -inf:
                    top = 0.0
            for j in range(K):
                v[j] = predicted[j] + delta[t, j] - top
                delta[t, j] = v[j]
            log_prob[s] += peak[t]
            _max_plus(pi, v, log_A, predicted)


@exact
def best_backward(log_AT, bounds, delta, after, path):
    K = len(log_AT)
    none = np.zeros(K)
    for s in range(len(bounds) - 2, -1, -1):
        if s < len(bounds) - 2:
            after[0] = -1
        for t in range(bounds[s + 1] - 1, bounds[s] - 1, -1):
            step = none if after[0] < 0 else log_AT[after[0]]
            best, top = 0, -inf
            for i in range(K):
                x = delta[t, i] + step[i]
                if x > top:
                    best, top = i, x
            path[t] = after[0] = best


@exact
def draw_backward(AT, bounds, alpha, u, after, paths):
    n_draws, K = len(u), len(AT)
    ones, cumulative = np.ones(K), np.empty(K)
    for m in range(n_draws):
        for s in range(len(bounds) - 2, -1, -1):
            if s < len(bounds) - 2:
                after[m] = -1
            for t in range(bounds[s + 1] - 1, bounds[s] - 1, -1):
                step = ones if after[m] < 0 else AT[after[m]]
                total = 0.0
                for i in range(K):
                    total += alpha[t, i] * step[i]
                    cumulative[i] = total
                after[m] = paths[m, t] = _place(cumulative, u[m, t] * total)


@exact
def log_draw_backward(log_AT, bounds, log_alpha, u, after, paths):
    n_draws, K = len(u), len(log_AT)
    none, cumulative = np.zeros(K), np.empty(K)
    for m in range(n_draws):
        for s in range(len(bounds) - 2, -1, -1):
            if s < len(bounds) - 2:
                after[m] = -1
            for t in range(bounds[s + 1] - 1, bounds[s] - 1, -1):
                step = none if after[m] < 0 else log_AT[after[m]]
                norm, total = _log_sum(log_alpha[t], step), 0.0
                for i in range(K):
                    total += exp(log_alpha[t, i] + step[i] - norm) if norm > -inf else 0.0
                    cumulative[i] = total
                after[m] = paths[m, t] = _place(cumulative, u[m, t] * total)


@exact
def _place(cumulative, x):
    last = 0
    for i in range(len(cumulative)):
        if cumulative[i] > x:
            return i
        if cumulative[i] > (cumulative[i - 1] if i else 0.0):
            last = i
    return last
