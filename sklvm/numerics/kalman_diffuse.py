"""Steps of a Kalman filter and smoother while a part of the first state is diffuse: compiled.

The covariance is S S' + kappa B B' with kappa -> infinity (Koopman 1997; Durbin & Koopman 2012, 5).
"""

from math import copysign, log, sqrt

import numpy as np

from .kalman_run import DIFFUSE, ROUNDING
from .kalman_steps import (
    compiled,
    congruence,
    multiply,
    project,
    take,
    through,
    to_lower,
)


@compiled
def see_diffuse(o, m, S, B, n_left, rows, noise, entries):
    """`see` where the covariance is S S' + kappa B B', kappa -> infinity (Koopman 1997).

    -> (sum of log f + v^2 / f over entries that resolve nothing, directions left in B[:, :n_left]).
    """
    gain, spread, place = entries.gain, entries.spread, entries.place
    k, total, along = len(m), 0.0, np.empty(max(n_left, 1))
    for i in range(o):
        j, size, infinite = place[i], 0.0, 0.0
        for h in range(n_left):
            part = whole = 0.0
            for a in range(k):
                part += rows[j, a] * B[a, h]
                whole += abs(rows[j, a] * B[a, h])
            along[h] = part
            infinite += part * part
            size += whole * whole
        entries.resolves[i] = infinite > DIFFUSE * size
        if entries.resolves[i]:
            v, spread[i] = entries.value[i], infinite
            for a in range(k):
                v -= rows[j, a] * m[a]
            _resolve(i, j, S, B, along, n_left, rows, noise[j], entries)
            for a in range(k):
                m[a] += gain[i, a] * v
            n_left -= 1
        else:
            f, v = take(i, j, entries.value[i], rows, noise[j], m, S, gain, entries.phi)
            spread[i] = f
            total += v * v / f + log(f)
        entries.surprise[i] = v
    return total, n_left


@compiled
def _resolve(i, j, S, B, along, n_left, rows, noise, entries):
    """Entry i takes one direction out of B; S to a root of (1 - K c') P (1 - K c')' + r K K'."""
    k, infinite = len(S), entries.spread[i]
    gain, phi, wide = entries.gain, entries.phi, entries.wide
    finite = project(j, rows, S, phi) + noise
    entries.finite[i] = finite
    for a in range(k):
        total = covariance = 0.0
        for h in range(n_left):
            total += B[a, h] * along[h]
        for h in range(k):
            covariance += S[a, h] * phi[h]
        gain[i, a] = total / infinite
        entries.bend[i, a] = (gain[i, a] * finite - covariance) / infinite
        for h in range(k):
            wide[a, h] = S[a, h] - gain[i, a] * phi[h]
        wide[a, k] = gain[i, a] * sqrt(noise)
    to_lower(wide, k + 1, S)
    _leave_out(B, along, n_left)


@compiled
def _leave_out(B, along, n_left):
    """A reflection turns `along` into the last axis of B, which goes; rounding becomes zero."""
    last, square = n_left - 1, 0.0
    for h in range(n_left):
        square += along[h] * along[h]
    norm = copysign(sqrt(square), along[last])
    beta = 1.0 / (square + abs(norm * along[last]))
    along[last] += norm
    for a in range(len(B)):
        dot = row = 0.0
        for h in range(n_left):
            dot += B[a, h] * along[h]
            row += abs(B[a, h])
        for h in range(last):
            B[a, h] -= beta * dot * along[h]
            if abs(B[a, h]) < ROUNDING * row:
                B[a, h] = 0.0
        B[a, last] = 0.0


@compiled
def predict_basis(A, B, n_left):
    """B becomes A B; -> directions left: none where nothing of B is left."""
    k, column, any_left = len(A), np.empty(len(A)), False
    for h in range(n_left):
        for a in range(k):
            total = size = 0.0
            for c in range(k):
                total += A[a, c] * B[c, h]
                size += abs(A[a, c] * B[c, h])
            column[a] = total if abs(total) > ROUNDING * size else 0.0
            any_left |= column[a] != 0.0
        for a in range(k):
            B[a, h] = column[a]
    return n_left if any_left else 0


@compiled
def unsee_diffuse(o, r, N, rows, entries):
    """`unsee` for r = (r0, r1), N = ((N0, N1), (N1', N2)), the powers of 1 / kappa (ibid., 5.3)."""
    place, gain, surprise = entries.place, entries.gain, entries.surprise
    k = len(r) // 2
    L, scratch, moved = np.empty((2 * k, 2 * k)), np.empty((2 * k, 2 * k)), np.empty(2 * k)
    for i in range(o - 1, -1, -1):
        j, f, finite = place[i], entries.spread[i], entries.finite[i]
        resolves = entries.resolves[i]
        for a in range(k):
            for h in range(k):
                L[a, h] = L[k + a, k + h] = (a == h) - gain[i, a] * rows[j, h]
                L[a, k + h] = entries.bend[i, a] * rows[j, h] if resolves else 0.0
                L[k + a, h] = 0.0
        congruence(L, N, scratch)
        through(L, r, moved)
        for a in range(k):
            r[a + k * resolves] += rows[j, a] * surprise[i] / f
            for h in range(k):
                square = rows[j, a] * rows[j, h] / f
                if resolves:
                    N[a, k + h] += square
                    N[k + a, h] += square
                    N[k + a, k + h] -= square * finite / f
                else:
                    N[a, h] += square


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
def diffuse_moments(S, B, n_left, N, A, Q, V, lag):
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
def diffuse_step(t, o, r, N, A, out, rows, entries, mean):
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


@compiled
def double(r, N, r2, N2):
    """r and N as powers of 1 / kappa, of which there is the 0th only."""
    r2[:] = 0.0
    N2[:] = 0.0
    for a in range(len(r)):
        r2[a] = r[a]
        for h in range(len(r)):
            N2[a, h] = N[a, h]
