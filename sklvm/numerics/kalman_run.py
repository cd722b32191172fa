"""What the compiled passes of `kalman` are told and give back, and how they are run."""

from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular

LOG_2PI = np.log(2 * np.pi)
DIFFUSE = 1e-20  # relative square above which an entry says something of a diffuse direction
ROUNDING = 1e-13  # relative size below which what is left of a difference is rounding
MAX_AGES = 1000  # complete steps for which covariances are tabled while they have not settled


class Data(NamedTuple):
    """Observations as the kernels read them."""

    X: np.ndarray  # (n, d) less the offsets
    y: np.ndarray  # (n, m) reduced
    rest: np.ndarray  # (n,) -2 log density of what the reduction leaves out
    starts: np.ndarray  # (S + 1,)
    b: np.ndarray  # (n, k) or (0, k)


class Told(NamedTuple):
    """The model as the kernels read it."""

    A: np.ndarray
    Q: np.ndarray
    noise: np.ndarray  # (k, q) root of Q
    C: np.ndarray
    r: np.ndarray  # (d,) variances
    R: np.ndarray  # (d, d), or (0, 0) where it is diag(r)
    mean: np.ndarray
    start: np.ndarray  # (k, k) root of P
    basis: np.ndarray  # (k + r, r) diffuse directions, and below them what becomes of each
    U: np.ndarray  # (m, k) y = U z + noise
    rho: np.ndarray  # (m,) its variances


class Table(NamedTuple):
    """Covariances and gains of complete steps by age; `fill_table` fills it."""

    root: np.ndarray  # (ages + 1, k, k) of predicted covariances
    predicted: np.ndarray  # (ages, k, k)
    filtered: np.ndarray  # (ages, k, k)
    closed: np.ndarray  # (ages, k, k + m) filtered mean from (predicted mean, y)
    step: np.ndarray  # (ages, k + m, k + m) next mean and white innovation from them, transposed
    log_det: np.ndarray  # (ages,)
    head: int = 0  # diffuse steps before age 0
    length: int = 0
    settled: bool = False


class Found(NamedTuple):
    """What the forward pass found."""

    log_prob: np.ndarray  # (n,)
    total: np.ndarray  # (S,)
    n_diffuse: np.ndarray  # (S,)
    age: np.ndarray  # (n,) row of the table, or -1
    mean: np.ndarray  # (n, k) predicted
    white: np.ndarray  # (n, m) whitened innovations of tabled steps
    root: np.ndarray  # (n, k, k) of the predicted covariance, where age is -1
    n_left: np.ndarray  # (n,) diffuse directions before the step
    basis: np.ndarray  # (n, k + r, r)
    next_mean: np.ndarray  # (S, k) of the step after the last
    next_root: np.ndarray  # (S, k, k)
    next_basis: np.ndarray  # (S, k + r, r)


class Result(NamedTuple):
    """What the backward pass found."""

    mean: np.ndarray  # (n, k)
    covariance: np.ndarray  # (n, k, k) or (0, k, k)
    first_mean: np.ndarray
    first: np.ndarray
    earlier: np.ndarray
    later: np.ndarray
    lag: np.ndarray
    whole: np.ndarray  # (k, k) over complete steps
    seen: np.ndarray  # (d, k, k) over the others, by feature; or (0, k, k)


class Run(NamedTuple):
    """A finished forward pass."""

    data: Data
    model: Told
    table: Table
    out: Found


def read_only(array, dtype=np.float64):
    """One memory layout for all, so that kernels are compiled once."""
    view = np.ascontiguousarray(array, dtype).view()
    view.flags.writeable = False
    return view


def root_of(S):
    """(k, q) with root root' = S, for any positive semi-definite S (k, k)."""
    scale = np.sqrt(np.diagonal(S))
    unit = np.where(scale > 0, scale, 1.0)
    correlation = S / np.outer(unit, unit)
    try:
        return scale[:, None] * np.linalg.cholesky(correlation)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(correlation)
        kept = values > 1e-15 * len(S)
        return scale[:, None] * vectors[:, kept] * np.sqrt(values[kept])


def matrix_of(R):
    return np.diag(R) if R.ndim == 1 else R


def _reduction(C, R):
    """W (d, d), U (m, k), rho (m,) and a constant: the first m of W x are U z + N(0, diag rho).

    The others are noise alone, N(0, I): with regular noise the filter need not see them (Jungbacker
    & Koopman 2015). The constant is what they and the change of variables add to -2 log p(x).
    """
    d, k = C.shape
    variance = R if R.ndim == 1 else _unit_lower(R)[1]
    if not (variance > 0).all():
        L = np.eye(d) if R.ndim == 1 else _unit_lower(R)[0]
        W = solve_triangular(L, np.eye(d), lower=True, unit_diagonal=True)
        return W, W @ C, variance, 0.0
    L = np.eye(d) if R.ndim == 1 else _unit_lower(R)[0]
    white = solve_triangular(L, np.eye(d), lower=True, unit_diagonal=True)
    white /= np.sqrt(variance)[:, None]
    order = np.argsort(-np.abs(white @ C).sum(axis=1), kind="stable")  # large rows first: stable
    turn, U = np.linalg.qr((white @ C)[order], mode="complete")
    m = min(d, k)
    constant = np.log(variance).sum() + (d - m) * LOG_2PI
    return turn.T @ white[order], U[:m], np.ones(m), constant


def _unit_lower(R):
    """L with a unit diagonal and D (d,) such that R = L diag(D) L'; R may be singular."""
    d = len(R)
    L, D = np.eye(d), np.zeros(d)
    for j in range(d):
        left = R[j:, j] - (L[j:, :j] * D[:j]) @ L[j, :j]
        D[j] = left[0] if left[0] > 1e-15 * R[j, j] else 0.0
        if D[j]:
            L[j + 1 :, j] = left[1:] / D[j]
    return L, D


@contextmanager
def _singular_is_an_error():
    """An entry without variance is what numpy calls a LinAlgError."""
    try:
        yield
    except ZeroDivisionError:
        message = "an observation has no variance given those before it: add noise to R"
        raise np.linalg.LinAlgError(message) from None


def run_filter(model, X, starts, b, c):
    """Filter: what the kernels were told and what they found."""
    from .kalman_kernels import fill_table, forward

    k, X = len(model.A), np.asarray(X, np.float64)
    X = X if c is None else X - c
    W, U, rho, constant = _reduction(model.C, model.R)
    m = len(U)
    y, left_out = X @ W[:m].T, X @ W[m:].T
    rest = np.einsum("ij,ij->i", left_out, left_out)
    rest += constant
    b = np.empty((0, k)) if b is None else b
    y, rest, starts = read_only(y), read_only(rest), read_only(starts, np.int64)
    data = Data(read_only(X), y, rest, starts, read_only(b))
    start = np.zeros((k, k))
    root = root_of(model.P)
    start[:, : root.shape[1]] = root
    basis = np.empty((k, 0)) if model.diffuse is None else model.diffuse
    full = model.R.ndim == 2
    told = Told(
        read_only(model.A),
        read_only(model.Q),
        read_only(root_of(model.Q)),
        read_only(model.C),
        read_only(np.diagonal(model.R) if full else model.R),
        read_only(model.R if full else np.empty((0, 0))),
        read_only(model.mean),
        read_only(start),
        read_only(np.vstack([basis, np.eye(basis.shape[1])])),
        read_only(U),
        read_only(rho),
    )
    with _singular_is_an_error():
        table = _new_table(min(MAX_AGES, int(np.diff(starts).max(initial=0))), k, m)
        head, length, settled = fill_table(told, table)
        table = table._replace(head=head, length=length, settled=settled)
        out = _new_out(len(X), len(starts) - 1, k, m, basis.shape[1])
        forward(data, told, table, out)
    return Run(data, told, table, out)


def _new_table(ages, k, m):
    return Table(
        np.empty((ages + 1, k, k)),
        np.empty((ages, k, k)),
        np.empty((ages, k, k)),
        np.empty((ages, k, k + m)),
        np.empty((ages, k + m, k + m)),
        np.empty(ages),
    )


def _new_out(n, S, k, m, r):
    return Found(
        np.empty(n),
        np.empty(S),
        np.empty(S, np.int64),
        np.empty(n, np.int64),
        np.empty((n, k)),
        np.empty((n, m)),
        np.empty((n, k, k)),
        np.empty(n, np.int64),
        np.empty((n, k + r, r)),
        np.empty((S, k)),
        np.empty((S, k, k)),
        np.zeros((S, k + r, r)),
    )


def run_smoother(run, weight, covariance, seen):
    """Smooth: `covariance` and `seen` are shapes, with 0 in front where nobody asks."""
    from .kalman_backward import backward

    n, k = run.out.mean.shape
    first, earlier, later, lag, whole = np.zeros((5, k, k))
    sums = (np.zeros(k), first, earlier, later, lag, whole, np.zeros(seen))
    result = Result(np.empty((n, k)), np.empty(covariance), *sums)
    backward(run.data, run.model, run.table, run.out, read_only(weight), result)
    return result
