"""One step of a Kalman filter, there and back, in square-root form: compiled small algebra.

A covariance is kept as a root, P = S S', so it can neither lose its symmetry nor turn negative. The
entries of a step are seen one after the other (Durbin & Koopman 2012, 6.4).
"""

from math import copysign, log, sqrt
from typing import NamedTuple

import numpy as np
from numba import njit

ORDERED = {"reassoc", "contract", "arcp", "nsz"}  # sums in any order; NaN and infinity are data
NO_VARIANCE = 1e-24  # relative variance below which an entry without noise was known before
DIFFUSE = 1e-20  # relative square above which an entry says something of a diffuse direction
ROUNDING = 1e-13  # relative size below which what is left of a difference is rounding


class Entries(NamedTuple):
    """Scalar observations of one step with independent noise, and what seeing them left behind."""

    rows: np.ndarray  # (d, k) value = rows z + noise
    noise: np.ndarray  # (d,) variances
    value: np.ndarray  # (d,)
    lower: np.ndarray  # (d, d) L of R = L D L'
    places: np.ndarray  # (d,) columns of X
    gain: np.ndarray  # (d, k)
    spread: np.ndarray  # (d,) variance of the innovation; of a resolving entry the diffuse one
    surprise: np.ndarray  # (d,) innovation
    resolves: np.ndarray  # (d,) True where the entry resolves a diffuse direction
    finite: np.ndarray  # (d,) variance of its innovation without the diffuse part
    bend: np.ndarray  # (d, k) what of its gain vanishes like 1 / kappa
    phi: np.ndarray  # (k,)
    wide: np.ndarray  # (k, k + q + 1)


@njit(cache=True, nogil=True)
def make_entries(d, k, q):
    return Entries(
        np.empty((d, k)),
        np.empty(d),
        np.empty(d),
        np.empty((d, d)),
        np.empty(d, np.int64),
        np.empty((d, k)),
        np.empty(d),
        np.empty(d),
        np.zeros(d, np.bool_),
        np.empty(d),
        np.empty((d, k)),
        np.empty(k),
        np.empty((k, k + q + 1)),
    )


@njit(cache=True, nogil=True, fastmath=ORDERED)
def is_complete(t, X):
    total = 0.0
    for j in range(X.shape[1]):
        total += X[t, j]
    return not np.isnan(total)


@njit(cache=True, nogil=True, fastmath=ORDERED)
def gather(t, X, C, r, R, entries):
    """The seen entries of step t with independent noise: R (d, d), or (0, 0) where it is diag(r)."""
    rows, noise, value = entries.rows, entries.noise, entries.value
    o, k = 0, C.shape[1]
    for j in range(X.shape[1]):
        if np.isnan(X[t, j]):
            continue
        value[o] = X[t, j]
        noise[o] = r[j]
        for a in range(k):
            rows[o, a] = C[j, a]
        if R.shape[0]:
            entries.places[o] = j
            _decorrelate(o, R, entries)
        o += 1
    return o


@njit(cache=True, nogil=True, fastmath=ORDERED)
def _decorrelate(o, R, entries):
    """Row o of L in R = L D L' with a unit diagonal, and the entry less what those before explain."""
    lower, places, noise, value = entries.lower, entries.places, entries.noise, entries.value
    for i in range(o):
        left = R[places[o], places[i]]
        for h in range(i):
            left -= lower[o, h] * lower[i, h] * noise[h]
        lower[o, i] = left / noise[i] if noise[i] > 0.0 else 0.0
    left = total = R[places[o], places[o]]
    for i in range(o):
        left -= lower[o, i] * lower[o, i] * noise[i]
        value[o] -= lower[o, i] * value[i]
        for a in range(entries.rows.shape[1]):
            entries.rows[o, a] -= lower[o, i] * entries.rows[i, a]
    noise[o] = left if left > 1e-15 * total else 0.0


@njit(cache=True, nogil=True)
def reduced(t, y, U, rho, entries):
    """The entries of a complete step, reduced: y = U z + noise of variances rho."""
    rows, noise, value = entries.rows, entries.noise, entries.value
    for i in range(y.shape[1]):
        value[i] = y[t, i]
        noise[i] = rho[i]
        for a in range(U.shape[1]):
            rows[i, a] = U[i, a]
    return y.shape[1]


@njit(cache=True, nogil=True, fastmath=ORDERED)
def _known_before(i, rows, S, variance):
    """Whether an entry without noise has no variance beyond rounding either."""
    scale = 0.0
    for a in range(S.shape[0]):
        square = 0.0
        for h in range(S.shape[1]):
            square += S[a, h] * S[a, h]
        scale += abs(rows[i, a]) * sqrt(square)
    return variance <= NO_VARIANCE * scale * scale


@njit(cache=True, nogil=True, fastmath=ORDERED)
def shrink(i, rows, noise, S, gain, phi):
    """Potter's update of S by entry i: -> its variance f; gain[i] = P c / f.

    Raises ZeroDivisionError where the entry has no variance given those before it.
    """
    k = S.shape[0]
    f = project(i, rows, S, phi)
    if noise == 0.0 and _known_before(i, rows, S, f):
        raise ZeroDivisionError("an entry has no variance given those before it")
    f += noise
    part, alpha = 1.0 / f, 1.0 / (1.0 + sqrt(noise / f))
    for a in range(k):
        total = 0.0
        for h in range(k):
            total += S[a, h] * phi[h]
        total *= part
        gain[i, a] = total
        total *= alpha
        for h in range(k):
            S[a, h] -= total * phi[h]
    return f


@njit(cache=True, nogil=True, fastmath=ORDERED)
def project(i, rows, S, phi):
    """phi = S' c for the row c of entry i, and its squared length."""
    k = S.shape[0]
    for h in range(k):
        phi[h] = 0.0
    for a in range(k):
        for h in range(k):
            phi[h] += rows[i, a] * S[a, h]
    length = 0.0
    for h in range(k):
        length += phi[h] * phi[h]
    return length


@njit(cache=True, nogil=True, fastmath=ORDERED)
def see(o, m, S, entries):
    """Condition N(m, S S') on the entries, in place: sum of log f + v^2 / f."""
    rows, noise, gain, phi = entries.rows, entries.noise, entries.gain, entries.phi
    value, spread, surprise = entries.value, entries.spread, entries.surprise
    k = m.shape[0]
    total, product = 0.0, 1.0
    for i in range(o):
        f = shrink(i, rows, noise[i], S, gain, phi)
        v = value[i]
        for a in range(k):
            v -= rows[i, a] * m[a]
        for a in range(k):
            m[a] += gain[i, a] * v
        spread[i] = f
        surprise[i] = v
        total += v * v / f
        product *= f
        if not 1e-100 < product < 1e100:  # one logarithm serves many entries
            total += log(product)
            product = 1.0
    return total + log(product)


@njit(cache=True, nogil=True, fastmath=ORDERED)
def to_lower(wide, p, S):
    """S lower triangular with S S' = W W', where W = wide[:, :p], by reflections; W is overwritten."""
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


@njit(cache=True, nogil=True, fastmath=ORDERED)
def predict_root(A, root, S, wide):
    """S becomes a root of A S S' A' + root root'."""
    k, q = root.shape
    for a in range(k):
        for h in range(k):
            wide[a, h] = 0.0
        for c in range(k):
            for h in range(k):
                wide[a, h] += A[a, c] * S[c, h]
        for h in range(q):
            wide[a, k + h] = root[a, h]
    to_lower(wide, k + q, S)


# --- diffuse directions -----------------------------------------------------------------------


@njit(cache=True, nogil=True)
def see_diffuse(o, m, S, B, n_left, entries):
    """`see` where the covariance is S S' + kappa B B', kappa -> infinity (Koopman 1997).

    -> (sum of log f + v^2 / f over entries that resolve nothing, directions left in B[:, :n_left]).
    """
    rows, gain, spread = entries.rows, entries.gain, entries.spread
    k, total, along = len(m), 0.0, np.empty(max(n_left, 1))
    for i in range(o):
        size = infinite = 0.0
        for h in range(n_left):
            part = whole = 0.0
            for a in range(k):
                part += rows[i, a] * B[a, h]
                whole += abs(rows[i, a] * B[a, h])
            along[h] = part
            infinite += part * part
            size += whole * whole
        v = entries.value[i]
        for a in range(k):
            v -= rows[i, a] * m[a]
        entries.surprise[i] = v
        entries.resolves[i] = infinite > DIFFUSE * size
        if entries.resolves[i]:
            spread[i] = infinite
            _resolve(i, S, B, along, n_left, entries)
            n_left -= 1
        else:
            spread[i] = shrink(i, rows, entries.noise[i], S, gain, entries.phi)
            total += v * v / spread[i] + log(spread[i])
        for a in range(k):
            m[a] += gain[i, a] * v
    return total, n_left


@njit(cache=True, nogil=True)
def _resolve(i, S, B, along, n_left, entries):
    """Entry i takes one direction out of B, and S to a root of (1 - K c') P (1 - K c')' + r K K'."""
    k, noise, infinite = len(S), entries.noise[i], entries.spread[i]
    gain, phi, wide = entries.gain, entries.phi, entries.wide
    finite = project(i, entries.rows, S, phi) + noise
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


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
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


# --- backwards --------------------------------------------------------------------------------


@njit(cache=True, nogil=True, fastmath=ORDERED)
def unsee(o, r, N, entries, with_N):
    """r and N before the entries from those after them (Durbin & Koopman 2012, 6.15), in place."""
    rows, gain, spread = entries.rows, entries.gain, entries.spread
    surprise, pull, k = entries.surprise, entries.phi, r.shape[0]
    for i in range(o - 1, -1, -1):
        along = surprise[i] / spread[i]
        for a in range(k):
            along -= gain[i, a] * r[a]
        for a in range(k):
            r[a] += rows[i, a] * along
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
            pull[a] -= half * rows[i, a]
        for a in range(k):  # N - c pull' - pull c', with half of c (1 / f + K' N K) c' in either
            for h in range(k):
                N[a, h] -= rows[i, a] * pull[h] + pull[a] * rows[i, h]


@njit(cache=True, nogil=True)
def unsee_diffuse(o, r, N, entries):
    """`unsee` for r = (r0, r1), N = ((N0, N1), (N1', N2)), the powers of 1 / kappa (ibid., 5.3)."""
    rows, gain, surprise = entries.rows, entries.gain, entries.surprise
    k = len(r) // 2
    L, scratch, moved = np.empty((2 * k, 2 * k)), np.empty((2 * k, 2 * k)), np.empty(2 * k)
    for i in range(o - 1, -1, -1):
        f, finite = entries.spread[i], entries.finite[i]
        resolves = entries.resolves[i]
        for a in range(k):
            for h in range(k):
                L[a, h] = L[k + a, k + h] = (a == h) - gain[i, a] * rows[i, h]
                L[a, k + h] = entries.bend[i, a] * rows[i, h] if resolves else 0.0
                L[k + a, h] = 0.0
        congruence(L, N, scratch)
        through(L, r, moved)
        for a in range(k):
            r[a + k * resolves] += rows[i, a] * surprise[i] / f
            for h in range(k):
                square = rows[i, a] * rows[i, h] / f
                if resolves:
                    N[a, k + h] += square
                    N[k + a, h] += square
                    N[k + a, k + h] -= square * finite / f
                else:
                    N[a, h] += square


@njit(cache=True, nogil=True, fastmath=ORDERED)
def through(A, r, scratch):
    """r becomes A' r."""
    k = len(r)
    for h in range(k):
        scratch[h] = 0.0
    for a in range(k):
        for h in range(k):
            scratch[h] += A[a, h] * r[a]
    for h in range(k):
        r[h] = scratch[h]


@njit(cache=True, nogil=True, fastmath=ORDERED)
def congruence(A, N, scratch):
    """N becomes A' N A."""
    multiply(N, A, scratch)
    k = len(N)
    for a in range(k):
        for h in range(k):
            N[a, h] = 0.0
    for j in range(k):
        for a in range(k):
            for h in range(k):
                N[a, h] += A[j, a] * scratch[j, h]


@njit(cache=True, nogil=True, fastmath=ORDERED)
def multiply(a, b, out):
    """out = a b."""
    for i in range(a.shape[0]):
        for h in range(b.shape[1]):
            out[i, h] = 0.0
        for j in range(a.shape[1]):
            for h in range(b.shape[1]):
                out[i, h] += a[i, j] * b[j, h]


@njit(cache=True, nogil=True, fastmath=ORDERED)
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


@njit(cache=True, nogil=True)
def copy(a, out):
    for i in range(a.shape[0]):
        for h in range(a.shape[1]):
            out[i, h] = a[i, h]


@njit(cache=True, nogil=True)
def settled(P, before, tolerance):
    """Whether no entry moved by more than `tolerance` of what the diagonal says it may be."""
    for a in range(len(P)):
        for h in range(a + 1):
            if abs(P[a, h] - before[a, h]) > tolerance * sqrt(P[a, a] * P[h, h]):
                return False
    return True
