"""One step of a Kalman filter, there and back, in square-root form: compiled small algebra.

A covariance is kept as a root, P = S S', so it can neither lose its symmetry nor turn negative. The
entries of a step are seen one after the other (Durbin & Koopman 2012, 6.4).
"""

from math import copysign, log, sqrt
from typing import NamedTuple

import numpy as np

from .compiled import dividing as compiled
from .compiled import njit

inlined = njit(inline="always")  # small and called at every step; what calls it says how
NO_VARIANCE = 1e-24  # relative variance below which an entry without noise was known before


class Entries(NamedTuple):
    """Scalar observations of one step with independent noise, and what seeing them left behind."""

    place: np.ndarray  # (d,) rows of C, or whatever takes its place, that they belong to
    value: np.ndarray  # (d,) value = C[index] z + noise
    columns: np.ndarray  # (d,) of X, where their noise must be made independent
    lower: np.ndarray  # (d, d) L of R = L D L'
    rows: np.ndarray  # (d, k) what then takes the place of C
    noise: np.ndarray  # (d,) and of the variances
    gain: np.ndarray  # (d, k)
    spread: np.ndarray  # (d,) variance of the innovation; of a resolving entry the diffuse one
    surprise: np.ndarray  # (d,) innovation
    resolves: np.ndarray  # (d,) True where the entry resolves a diffuse direction
    finite: np.ndarray  # (d,) variance of its innovation without the diffuse part
    bend: np.ndarray  # (d, k) what of its gain vanishes like 1 / kappa
    phi: np.ndarray  # (k,)
    wide: np.ndarray  # (k, k + q + 1)


@compiled
def make_entries(d, k, q):
    return Entries(
        np.empty(d, np.int64),
        np.empty(d),
        np.empty(d, np.int64),
        np.empty((d, d)),
        np.empty((d, k)),
        np.empty(d),
        np.empty((d, k)),
        np.empty(d),
        np.empty(d),
        np.zeros(d, np.bool_),
        np.empty(d),
        np.empty((d, k)),
        np.empty(k),
        np.empty((k, k + q + 1)),
    )


@inlined
def is_complete(t, X):
    total = 0.0
    for j in range(X.shape[1]):
        total += X[t, j]
    return not np.isnan(total)


@inlined
def gather(t, X, C, R, entries):
    """The seen entries of step t; R (d, d), or (0, 0) where their noise is independent as it is."""
    place, value, o = entries.place, entries.value, 0
    for j in range(X.shape[1]):
        place[o], value[o] = j, X[t, j]
        o += not np.isnan(X[t, j])
    if len(R):
        for i in range(o):
            entries.columns[i], place[i] = place[i], i
            _decorrelate(i, C, R, entries)
    return o


@compiled
def _decorrelate(o, C, R, entries):
    """Row o of L in R = L D L' with a unit diagonal; the entry less what those before explain."""
    lower, columns, noise, value = entries.lower, entries.columns, entries.noise, entries.value
    for i in range(o):
        left = R[columns[o], columns[i]]
        for h in range(i):
            left -= lower[o, h] * lower[i, h] * noise[h]
        lower[o, i] = left / noise[i] if noise[i] > 0.0 else 0.0
    left = total = R[columns[o], columns[o]]
    for a in range(C.shape[1]):
        entries.rows[o, a] = C[columns[o], a]
    for i in range(o):
        left -= lower[o, i] * lower[o, i] * noise[i]
        value[o] -= lower[o, i] * value[i]
        for a in range(C.shape[1]):
            entries.rows[o, a] -= lower[o, i] * entries.rows[i, a]
    noise[o] = left if left > 1e-15 * total else 0.0


@inlined
def reduced(t, y, entries):
    """The entries of a complete step, reduced."""
    for i in range(y.shape[1]):
        entries.place[i], entries.value[i] = i, y[t, i]
    return y.shape[1]


@compiled
def known_before(i, rows, S, variance):
    """Whether an entry without noise has no variance beyond rounding either."""
    scale = 0.0
    for a in range(S.shape[0]):
        square = 0.0
        for h in range(S.shape[1]):
            square += S[a, h] * S[a, h]
        scale += abs(rows[i, a]) * sqrt(square)
    return variance <= NO_VARIANCE * scale * scale


@inlined
def take(i, j, value, rows, noise, m, S, gain, phi):
    """Condition N(m, S S') on an entry, value = rows[j] z + noise, in place, by Potter's update.

    -> its variance f and innovation v; gain[i] = P c / f. Raises ZeroDivisionError where the entry
    has no variance given those before it.
    """
    k, v, f = S.shape[0], value, 0.0
    for h in range(k):
        total = 0.0
        for a in range(k):
            total += rows[j, a] * S[a, h]
        phi[h] = total
        f += total * total
        v -= rows[j, h] * m[h]
    if noise == 0.0 and known_before(j, rows, S, f):
        raise ZeroDivisionError("an entry has no variance given those before it")
    f += noise
    part = 1.0 / f
    alpha = 1.0 / (1.0 + sqrt(noise * part))
    for a in range(k):
        total = 0.0
        for h in range(k):
            total += S[a, h] * phi[h]
        total *= part
        gain[i, a] = total
        m[a] += total * v
        total *= alpha
        for h in range(k):
            S[a, h] -= total * phi[h]
    return f, v


@compiled
def project(j, rows, S, phi):
    """phi = S' c for row j, and its squared length."""
    k, length = S.shape[0], 0.0
    for h in range(k):
        total = 0.0
        for a in range(k):
            total += rows[j, a] * S[a, h]
        phi[h] = total
        length += total * total
    return length


@inlined
def see(o, m, S, rows, noise, entries):
    """Condition N(m, S S') on the entries, in place: sum of log f + v^2 / f."""
    place, value, gain, phi = entries.place, entries.value, entries.gain, entries.phi
    spread, surprise = entries.spread, entries.surprise
    total, product = 0.0, 1.0
    for i in range(o):
        j = place[i]
        f, v = take(i, j, value[i], rows, noise[j], m, S, gain, phi)
        spread[i], surprise[i] = f, v
        total += v * v / f
        product *= f
        if not 1e-100 < product < 1e100:  # one logarithm serves many entries
            total += log(product)
            product = 1.0
    return total + log(product)


@compiled
def to_lower(wide, p, S):
    """S lower triangular with S S' = W W', W = wide[:, :p], by reflections; W is overwritten."""
    k = len(wide)
    for i in range(k):
        square = 0.0
        for h in range(i, p):
            square += wide[i, h] * wide[i, h]
        for a in range(i):
            S[a, i] = 0.0
        if square == 0.0:
            S[i, i] = 0.0
            for a in range(i + 1, k):
                S[a, i] = wide[a, i]
            continue
        norm = copysign(sqrt(square), wide[i, i])
        beta = 1.0 / (square + abs(norm * wide[i, i]))
        wide[i, i] += norm
        S[i, i] = -norm
        for a in range(i + 1, k):
            dot = 0.0
            for h in range(i, p):
                dot += wide[i, h] * wide[a, h]
            dot *= beta
            for h in range(i, p):
                wide[a, h] -= dot * wide[i, h]
            S[a, i] = wide[a, i]


@inlined
def predict_root(A, root, S, wide):
    """S becomes a root of A S S' A' + root root'."""
    k, q = root.shape
    for a in range(k):
        for h in range(k):
            total = 0.0
            for c in range(k):
                total += A[a, c] * S[c, h]
            wide[a, h] = total
        for h in range(q):
            wide[a, k + h] = root[a, h]
    to_lower(wide, k + q, S)


@inlined
def unsee(o, r, N, rows, entries, with_N):
    """r and N before the entries from those after them (Durbin & Koopman 2012, 6.15), in place."""
    place, gain, spread = entries.place, entries.gain, entries.spread
    surprise, pull, k = entries.surprise, entries.phi, r.shape[0]
    for i in range(o - 1, -1, -1):
        j = place[i]
        along = surprise[i] / spread[i]
        for a in range(k):
            along -= gain[i, a] * r[a]
        for a in range(k):
            r[a] += rows[j, a] * along
        if not with_N:
            continue
        half = 1.0 / spread[i]
        for a in range(k):
            total = 0.0
            for h in range(k):
                total += N[a, h] * gain[i, h]
            pull[a] = total
            half += gain[i, a] * total
        half *= 0.5
        for a in range(k):
            pull[a] -= half * rows[j, a]
        for a in range(k):  # N - c pull' - pull c', with half of c (1 / f + K' N K) c' in either
            for h in range(k):
                N[a, h] -= rows[j, a] * pull[h] + pull[a] * rows[j, h]


@inlined
def through(A, r, scratch):
    """r becomes A' r."""
    k = len(r)
    for h in range(k):
        total = 0.0
        for a in range(k):
            total += A[a, h] * r[a]
        scratch[h] = total
    for h in range(k):
        r[h] = scratch[h]


@compiled
def congruence(A, N, scratch):
    """N becomes A' N A."""
    multiply(N, A, scratch)
    k = len(N)
    for a in range(k):
        for h in range(a + 1):
            total = 0.0
            for c in range(k):
                total += A[c, a] * scratch[c, h]
            N[a, h] = N[h, a] = total


@compiled
def multiply(a, b, out):
    """out = a b."""
    for i in range(a.shape[0]):
        for h in range(b.shape[1]):
            total = 0.0
            for j in range(a.shape[1]):
                total += a[i, j] * b[j, h]
            out[i, h] = total


@compiled
def square_of(S, P):
    """P = S S'."""
    k = S.shape[0]
    for a in range(k):
        for h in range(a + 1):
            total = 0.0
            for j in range(S.shape[1]):
                total += S[a, j] * S[h, j]
            P[a, h] = total
            P[h, a] = total


@inlined
def copy(a, out):
    for i in range(a.shape[0]):
        for h in range(a.shape[1]):
            out[i, h] = a[i, h]


@compiled
def settled(P, before, tolerance):
    """Whether no entry moved by more than `tolerance` of what the diagonal says it may be."""
    for a in range(len(P)):
        for h in range(a + 1):
            if abs(P[a, h] - before[a, h]) > tolerance * sqrt(P[a, a] * P[h, h]):
                return False
    return True
