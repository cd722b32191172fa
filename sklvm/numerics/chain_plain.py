"""The recursions of hidden Markov chains in numpy, step by step: what `chain_kernels` compiles.

A block holds the rows of one or more sequences, or of a part of one; `bounds` are the offsets of
its parts. What enters and leaves a block is overwritten in place (`carry`, `w`, `after`), so that a
long sequence goes block by block. The first argument, where it is `pi`, says how many states there
are.
"""

import numpy as np

LOST = 1e-150  # probabilities below are dropped; the product of two that are not is never 0
RESCALED = 1e-20  # totals below are scaled to one
RARE = 1e-30  # of moves, and of a step given those before: nothing that is dropped comes near
HARMLESS = 1e-25  # share of a total that may have been dropped
SMALL = 8  # states: up to here they are told to the compiler
EVERY = 32  # steps between shifts of the scores of paths


def forward(pi, A, leak, guarded, carry, bounds, alpha, b, c, peak, log_prob, failed):
    """Filtered states alpha and densities c; b becomes b / c (Rabiner 1989, eq. 20, 91).

    carry is what enters the block: p(z_t | x_<t) and a bound on what underflow took from it.
    """
    predicted, reach = carry
    for s in range(len(bounds) - 1):
        if s > 0:
            predicted[:], reach[:] = pi, 0.0
        before, dropped = 1.0, 0.0  # total of the step before, bound on what was dropped
        for t in range(bounds[s], bounds[s + 1]):
            v = predicted * b[t]
            v[v < LOST] = 0.0
            total = v.sum()
            if guarded:
                u = _dropped(predicted, reach, b[t], v)
                dropped = u.sum()
            if not (total > (0.0 if guarded else RARE * before) and dropped < HARMLESS * total):
                rest = slice(t, bounds[s + 1])
                failed[s], alpha[rest], b[rest], c[rest], before = True, 0.0, 0.0, 1.0, 1.0
                break
            c[t] = total / before
            alpha[t] = v / total
            b[t] *= before / total
            log_prob[s] += peak[t]
            before = total
            if total < RESCALED:
                v /= total
                if guarded:
                    u /= total
                log_prob[s] += np.log(total)
                before = 1.0
            predicted[:] = v @ A
            reach[:] = u @ A + leak if guarded else 0.0
        log_prob[s] += np.log(before)
        carry /= before


def _dropped(predicted, reach, b, v):
    """A bound on what each state has lost: what came along, at least LOST where a path exists."""
    u = reach * b
    possible = (b > 0) & ((reach > 0) | ((v == 0) & (predicted > 0)))
    return np.where(u < LOST, np.where(possible, LOST, 0.0), u)


def backward(pi, AT, w, bounds, weight, alpha, q, gamma):
    """Smoothed states gamma = alpha w; q becomes r = q w, the next w is A r (eq. 25, 27).

    w is p(x_>t | z_t) / p(x_>t | x_1..t), times the weight of the sequence.
    """
    for s in reversed(range(len(bounds) - 1)):
        if s < len(bounds) - 2:
            w[:] = weight[s]
        for t in reversed(range(bounds[s], bounds[s + 1])):
            possible = np.where(alpha[t] > 0, w, 0.0)
            gamma[t] = alpha[t] * possible
            q[t] *= possible
            w[:] = q[t] @ AT


def _log_sum(x):
    """log sum_i exp(x_i) along the last axis."""
    top = x.max(axis=-1)
    top = np.where(np.isneginf(top), 0.0, top)
    with np.errstate(divide="ignore"):
        return top + np.log(np.exp(x - top[..., None]).sum(axis=-1))


def log_forward(log_pi, log_AT, carry, bounds, log_alpha, log_b, log_c, peak, log_prob, failed):
    """`forward` with logarithms; nothing fails."""
    predicted = carry[0]
    for s in range(len(bounds) - 1):
        if s > 0:
            predicted[:] = log_pi
        for t in range(bounds[s], bounds[s + 1]):
            log_alpha[t] = predicted + log_b[t]
            log_c[t] = total = _log_sum(log_alpha[t])
            log_prob[s] += peak[t] + total
            if total > -np.inf:
                log_alpha[t] -= total
                log_b[t] -= total
            predicted[:] = _log_sum(log_AT + log_alpha[t])


def log_backward(log_A, log_w, bounds, log_weight, log_alpha, log_q, gamma, xi):
    """`backward` with logarithms; xi are the weighted moves within the parts."""
    for s in reversed(range(len(bounds) - 1)):
        if s < len(bounds) - 2:
            log_w[:] = log_weight[s]
        for t in reversed(range(bounds[s], bounds[s + 1])):
            possible = log_alpha[t] > -np.inf
            gamma[t] = np.where(possible, np.exp(log_alpha[t] + np.where(possible, log_w, 0)), 0)
            log_q[t] = np.where(possible, log_q[t] + log_w, -np.inf)
            log_w[:] = _log_sum(log_A + log_q[t])
            if t > bounds[s]:
                xi += np.exp(log_alpha[t - 1][:, None] + log_A + log_q[t])


def best_forward(pi, log_pi, log_A, carry, bounds, delta, peak, log_prob):
    """delta, from log_b: scores of the best paths to each state, shifted (Rabiner, eq. 33a)."""
    predicted = carry[0]
    for s in range(len(bounds) - 1):
        if s > 0:
            predicted[:] = log_pi
        for t in range(bounds[s], bounds[s + 1]):
            delta[t] += predicted
            if t % EVERY == 0 or t == bounds[s + 1] - 1:  # so that scores keep their digits
                top = delta[t].max()
                log_prob[s] += top
                delta[t] -= top if top > -np.inf else 0.0
            log_prob[s] += peak[t]
            predicted[:] = (delta[t][:, None] + log_A).max(axis=0)


def best_backward(log_AT, bounds, delta, after, path):
    """The best path back from the state `after`, or from the best last state where that is -1."""
    for s in reversed(range(len(bounds) - 1)):
        if s < len(bounds) - 2:
            after[0] = -1
        for t in reversed(range(bounds[s], bounds[s + 1])):
            step = log_AT[after[0]] if after[0] >= 0 else 0.0
            path[t] = after[0] = np.argmax(delta[t] + step)


def draw_backward(AT, bounds, alpha, u, after, paths):
    """States from p(z_t | z_{t+1}, x_1..t), one for each number of u, from the last step back."""
    _draw(bounds, u, after, paths, lambda t, j: alpha[t] * (AT[j] if j >= 0 else 1.0))


def log_draw_backward(log_AT, bounds, log_alpha, u, after, paths):
    """`draw_backward` with logarithms."""

    def weights(t, j):
        x = log_alpha[t] + (log_AT[j] if j >= 0 else 0.0)
        norm = _log_sum(x)
        return np.exp(x - norm) if norm > -np.inf else np.zeros_like(x)

    _draw(bounds, u, after, paths, weights)


def _draw(bounds, u, after, paths, weights):
    for m in range(len(u)):
        for s in reversed(range(len(bounds) - 1)):
            if s < len(bounds) - 2:
                after[m] = -1
            for t in reversed(range(bounds[s], bounds[s + 1])):
                cumulative = np.cumsum(weights(t, after[m]))
                after[m] = paths[m, t] = _place(cumulative, u[m, t] * cumulative[-1])


def _place(cumulative, x):
    """The first state whose cumulative weight exceeds x, or the last that has any."""
    place = np.searchsorted(cumulative, x, side="right")
    return min(place, np.searchsorted(cumulative, cumulative[-1]))
