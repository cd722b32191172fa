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
def gather(x, C, r, R, entries):
    """The seen entries of x (d,) with independent noise: R (d, d), or (0, 0) where it is diag(r)."""
    o, k = 0, C.shape[1]
    for j in range(len(x)):
        if np.isnan(x[j]):
            continue
        entries.places[o] = j
        entries.value[o] = x[j]
        entries.noise[o] = r[j]
        for a in range(k):
            entries.rows[o, a] = C[j, a]
        if len(R):
            _decorrelate(o, R, entries)
        o += 1
    return o


@njit(cache=True, nogil=True, fastmath=ORDERED)
def _decorrelate(o, R, entries):
    """Row o of L in R = L D L' with a unit diagonal, and the entry less what those before explain."""
    lower, places = entries.lower, entries.places
    for i in range(o):
        left = R[places[o], places[i]]
        for h in range(i):
            left -= lower[o, h] * lower[i, h] * entries.noise[h]
        lower[o, i] = left / entries.noise[i] if entries.noise[i] > 0.0 else 0.0
    left = total = R[places[o], places[o]]
    for i in range(o):
        left -= lower[o, i] * lower[o, i] * entries.noise[i]
        entries.value[o] -= lower[o, i] * entries.value[i]
        for a in range(entries.rows.shape[1]):
            entries.rows[o, a] -= lower[o, i] * entries.rows[i, a]
    entries.noise[o] = left if left > 1e-15 * total else 0.0


@njit(cache=True, nogil=True)
def reduced(y, U, rho, entries):
    """The entries of a complete step, reduced: y = U z + noise of variances rho."""
    for i in range(len(y)):
        entries.value[i] = y[i]
        entries.noise[i] = rho[i]
        for a in range(U.shape[1]):
            entries.rows[i, a] = U[i, a]
    return len(y)


@njit(cache=True, nogil=True, fastmath=ORDERED)
def _known_before(c, S, variance):
    """Whether an entry without noise has no variance beyond rounding either."""
    scale = 0.0
    for a in range(len(S)):
        row = 0.0
        for h in range(S.shape[1]):
            row += S[a, h] * S[a, h]
        scale += abs(c[a]) * sqrt(row)
    return variance <= NO_VARIANCE * scale * scale


@njit(cache=True, nogil=True, fastmath=ORDERED)
def _project(c, S, phi):
    """phi = S' c, and its squared length."""
    k = len(c)
    for h in range(k):
        phi[h] = 0.0
    for a in range(k):
        for h in range(k):
            phi[h] += c[a] * S[a, h]
    length = 0.0
    for h in range(k):
        length += phi[h] * phi[h]
    return length


@njit(cache=True, nogil=True, fastmath=ORDERED)
def shrink(c, noise, S, gain, phi):
    """Potter's update of S by one entry: its variance f; gain = P c / f.

    Raises ZeroDivisionError where the entry has no variance given those before it.
    """
    k = len(c)
    f = _project(c, S, phi)
    if noise == 0.0 and _known_before(c, S, f):
        raise ZeroDivisionError("an entry has no variance given those before it")
    f += noise
    alpha = 1.0 / (1.0 + sqrt(noise / f))
    for a in range(k):
        total = 0.0
        for h in range(k):
            total += S[a, h] * phi[h]
        gain[a] = total / f
    for a in range(k):
        for h in range(k):
            S[a, h] -= alpha * gain[a] * phi[h]
    return f


@njit(cache=True, nogil=True, fastmath=ORDERED)
def see(o, m, S, entries):
    """Condition N(m, S S') on the entries, in place: sum of log f + v^2 / f."""
    k = len(m)
    total, product = 0.0, 1.0
    for i in range(o):
        c = entries.rows[i]
        f = shrink(c, entries.noise[i], S, entries.gain[i], entries.phi)
        v = entries.value[i]
        for a in range(k):
            v -= c[a] * m[a]
        for a in range(k):
            m[a] += entries.gain[i, a] * v
        entries.spread[i] = f
        entries.surprise[i] = v
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
    k, total = len(m), 0.0
    for i in range(o):
        c, phi = entries.rows[i], np.zeros(n_left)
        size = 0.0
        for h in range(n_left):
            part = 0.0
            for a in range(k):
                phi[h] += c[a] * B[a, h]
                part += abs(c[a] * B[a, h])
            size += part * part
        infinite = (phi * phi).sum()
        v = entries.value[i]
        for a in range(k):
            v -= c[a] * m[a]
        entries.surprise[i] = v
        entries.resolves[i] = infinite > DIFFUSE * size
        if entries.resolves[i]:
            entries.spread[i] = infinite
            _resolve(i, S, B, phi, entries)
            n_left -= 1
        else:
            f = shrink(c, entries.noise[i], S, entries.gain[i], entries.phi)
            entries.spread[i] = f
            total += v * v / f + log(f)
        for a in range(k):
            m[a] += entries.gain[i, a] * v
    return total, n_left


@njit(cache=True, nogil=True)
def _resolve(i, S, B, phi, entries):
    """Entry i takes one direction out of B, and S to a root of (1 - K c') P (1 - K c')' + r K K'."""
    k, n_left = len(S), len(phi)
    c, gain, noise = entries.rows[i], entries.gain[i], entries.noise[i]
    infinite = entries.spread[i]
    along = entries.phi
    finite = _project(c, S, along) + noise
    entries.finite[i] = finite
    for a in range(k):
        total = 0.0
        for h in range(n_left):
            total += B[a, h] * phi[h]
        gain[a] = total / infinite
        covariance = 0.0
        for h in range(k):
            covariance += S[a, h] * along[h]
        entries.bend[i, a] = (gain[a] * finite - covariance) / infinite
    for a in range(k):
        for h in range(k):
            entries.wide[a, h] = S[a, h] - gain[a] * along[h]
        entries.wide[a, k] = gain[a] * sqrt(noise)
    to_lower(entries.wide, k + 1, S)
    # a reflection turns phi into the last axis, which is then left out
    last = n_left - 1
    norm = copysign(sqrt(infinite), phi[last])
    beta = 1.0 / (infinite + abs(norm * phi[last]))
    phi[last] += norm
    for a in range(k):
        dot = 0.0
        for h in range(n_left):
            dot += B[a, h] * phi[h]
        for h in range(last):
            B[a, h] -= beta * dot * phi[h]
        B[a, last] = 0.0


@njit(cache=True, nogil=True)
def predict_basis(A, B, n_left):
    """B becomes A B; -> directions left: none where nothing of B is left."""
    moved = np.zeros((len(A), n_left))
    for a in range(len(A)):
        for c in range(len(A)):
            for h in range(n_left):
                moved[a, h] += A[a, c] * B[c, h]
    B[:, :n_left] = moved
    return n_left if np.abs(moved).sum() > 0.0 else 0


# --- backwards --------------------------------------------------------------------------------


@njit(cache=True, nogil=True, fastmath=ORDERED)
def unsee(o, r, N, entries, with_N):
    """r and N before the entries from those after them (Durbin & Koopman 2012, 6.15), in place."""
    k = len(r)
    for i in range(o - 1, -1, -1):
        c, gain, f = entries.rows[i], entries.gain[i], entries.spread[i]
        along = entries.surprise[i] / f
        for a in range(k):
            along -= gain[a] * r[a]
        for a in range(k):
            r[a] += c[a] * along
        if not with_N:
            continue
        pull, square = entries.phi, 1.0 / f
        for a in range(k):
            total = 0.0
            for h in range(k):
                total += N[a, h] * gain[h]
            pull[a] = total
        for a in range(k):
            square += gain[a] * pull[a]
        for a in range(k):  # N - c pull' - pull c' + square c c'
            left = square * c[a] - pull[a]
            for h in range(k):
                N[a, h] += left * c[h] - c[a] * pull[h]


@njit(cache=True, nogil=True)
def unsee_diffuse(o, r, N, entries):
    """`unsee` for r = (r0, r1), N = ((N0, N1), (N1', N2)), the powers of 1 / kappa (ibid., 5.3)."""
    k = len(r) // 2
    for i in range(o - 1, -1, -1):
        c, gain, f = entries.rows[i], entries.gain[i], entries.spread[i]
        v, L = entries.surprise[i], np.eye(2 * k)
        square = np.outer(c, c) / f
        L[:k, :k] -= np.outer(gain, c)
        L[k:, k:] -= np.outer(gain, c)
        if entries.resolves[i]:
            L[:k, k:] += np.outer(entries.bend[i], c)
        r[:] = product(L.T, r.reshape(-1, 1))[:, 0]
        N[:] = product(L.T, product(N, L))
        if entries.resolves[i]:
            r[k:] += c * v / f
            N[:k, k:] += square
            N[k:, :k] += square
            N[k:, k:] -= square * entries.finite[i] / f
        else:
            r[:k] += c * v / f
            N[:k, :k] += square


@njit(cache=True, nogil=True, fastmath=ORDERED)
def multiply(a, b, out):
    """out = a b."""
    for i in range(a.shape[0]):
        for h in range(b.shape[1]):
            out[i, h] = 0.0
        for j in range(a.shape[1]):
            for h in range(b.shape[1]):
                out[i, h] += a[i, j] * b[j, h]


@njit(cache=True, nogil=True)
def product(a, b):
    out = np.empty((a.shape[0], b.shape[1]))
    multiply(a, b, out)
    return out


@njit(cache=True, nogil=True, fastmath=ORDERED)
def square_of(S, P):
    """P = S S'."""
    k = len(S)
    for a in range(k):
        for h in range(a + 1):
            total = 0.0
            for j in range(S.shape[1]):
                total += S[a, j] * S[h, j]
            P[a, h] = total
            P[h, a] = total


@njit(cache=True, nogil=True)
def settled(P, before, tolerance):
    """Whether no entry moved by more than `tolerance` of what the diagonal says it may be."""
    for a in range(len(P)):
        for h in range(a + 1):
            if abs(P[a, h] - before[a, h]) > tolerance * sqrt(P[a, a] * P[h, h]):
                return False
    return True
