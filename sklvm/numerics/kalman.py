"""Linear-Gaussian state-space models: filter, smooth, forecast and draw states of many sequences.

z_1 ~ N(mean, P), z_t = A z_t-1 + b_t + N(0, Q), x_t = C z_t + c_t + N(0, R). Steps of all sequences
are stacked, (n, d), and `starts` says where each begins. NaN is an entry that was not seen.
"""

from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular

LOG_2PI = np.log(2 * np.pi)
DIFFUSE = 1e-20  # relative square above which an entry says something of a diffuse direction
ROUNDING = 1e-13  # relative size below which what is left of a difference is rounding
MAX_AGES = 1000  # complete steps for which covariances are tabled while they have not settled


class StateSpace(NamedTuple):
    """The parameters; matrices of noise may be singular or zero."""

    A: np.ndarray  # (k, k) transition
    Q: np.ndarray  # (k, k) covariance of the state noise
    C: np.ndarray  # (d, k) observation
    R: np.ndarray  # (d,) variances or (d, d) covariance of the observation noise
    mean: np.ndarray  # (k,) of the first state
    P: np.ndarray  # (k, k) covariance of the first state
    diffuse: np.ndarray | None = None  # (k, r) columns along which its variance is infinite


class Filtered(NamedTuple):
    """What a filter knows: before a step (predicted) and after it (filtered)."""

    log_prob: np.ndarray  # (S,) log density of each sequence
    step_log_prob: np.ndarray  # (n,) log p(x_t | x before it)
    n_diffuse: np.ndarray  # (S,) values that resolved the start, left out of the density
    predicted_mean: np.ndarray  # (n, k)
    predicted_covariance: np.ndarray  # (n, k, k) without what is infinite
    mean: np.ndarray  # (n, k)
    covariance: np.ndarray  # (n, k, k)


class Smoothed(NamedTuple):
    """Moments of the states given all of their sequence."""

    log_prob: np.ndarray  # (S,)
    mean: np.ndarray  # (n, k)
    covariance: np.ndarray  # (n, k, k)


class Sums(NamedTuple):
    """What an M-step needs: sums over steps of weighted expectations given all of the sequence."""

    log_prob: np.ndarray  # (S,)
    mean: np.ndarray  # (n, k) smoothed means
    first_mean: np.ndarray  # (k,) E[z_1]
    first: np.ndarray  # (k, k) E[z_1 z_1']
    earlier: np.ndarray  # (k, k) E[z_t z_t'] over all steps but the last
    later: np.ndarray  # (k, k) E[z_t z_t'] over all steps but the first
    lag: np.ndarray  # (k, k) E[z_t z_t-1']
    zz: np.ndarray  # (d, k, k) E[z_t z_t'] over steps that saw feature j
    xz: np.ndarray  # (d, k) (x_tj - c_tj) E[z_t]' over them


class Forecast(NamedTuple):
    """The steps after the end of each sequence."""

    mean: np.ndarray  # (S, h, d) of x
    covariance: np.ndarray  # (S, h, d, d)
    state_mean: np.ndarray  # (S, h, k)
    state_covariance: np.ndarray  # (S, h, k, k)


# --- the verbs --------------------------------------------------------------------------------


def filter(model, X, starts, b=None, c=None):
    """The log density of each sequence, and every state given the steps up to it.

    X (n, d), starts (S + 1,) with starts[0] = 0 and starts[S] = n, offsets b (n, k) and c (n, d); b
    of a first step is not used. With a diffuse start the density is that of the other values given
    those that resolve it, in the order of steps and columns (Durbin & Koopman 2012, 5.2).
    """
    from .kalman_kernels import moments

    run = _run(model, X, starts, b, c)
    n, k = run.out.mean.shape
    mean, covariance, predicted = np.empty((n, k)), np.empty((n, k, k)), np.empty((n, k, k))
    moments(*run, mean, covariance, predicted)
    out = run.out
    return Filtered(out.total, out.log_prob, out.n_diffuse, out.mean, predicted, mean, covariance)


def log_prob(model, X, starts, b=None, c=None):
    """The log density of each sequence and of each step: (S,), (n,)."""
    out = _run(model, X, starts, b, c).out
    return out.total, out.log_prob


def smooth(model, X, starts, b=None, c=None):
    """Means and covariances of every state given its whole sequence.

    A direction that no value resolves keeps the finite part of its covariance. An error of a smoothed
    covariance is rounding relative to the filtered one, however much smaller it is.
    """
    run = _run(model, X, starts, b, c)
    n, k = run.out.mean.shape
    result = _back(run, np.ones(len(starts) - 1), (n, k, k), (0, k, k))
    return Smoothed(run.out.total, result.mean, result.covariance)


def expectations(model, X, starts, weight, b=None, c=None):
    """Sums of expected statistics over all steps, weighted by sequence: weight (S,)."""
    run = _run(model, X, starts, b, c)
    d, k = model.C.shape
    result = _back(run, weight, (0, k, k), (d, k, k))
    weighted = result.mean
    if (weight != 1).any():
        weighted = weighted * np.repeat(weight, np.diff(starts))[:, None]
    xz = run.data.X.T @ weighted
    if np.isnan(xz).any():
        xz = np.nan_to_num(run.data.X).T @ weighted
    sums = (result.first_mean, result.first, result.earlier, result.later, result.lag)
    return Sums(run.out.total, result.mean, *sums, result.seen + result.whole, xz)


def forecast(model, X, starts, horizon, b=None, c=None, future_b=None, future_c=None):
    """Moments of the next steps; future_b (S, horizon, k), future_c (S, horizon, d)."""
    out = _run(model, X, starts, b, c).out
    mean, covariance = out.next_mean, out.next_root @ out.next_root.mT
    infinite = out.next_basis @ out.next_basis.mT
    means, covariances, endless = [], [], []
    for step in range(horizon):
        if future_b is not None:
            mean = mean + future_b[:, step]
        means.append(mean)
        covariances.append(covariance)
        endless.append(infinite)
        mean = mean @ model.A.T
        covariance = model.A @ covariance @ model.A.T + model.Q
        infinite = model.A @ infinite @ model.A.T
    z, P, endless = (np.stack(values, axis=1) for values in (means, covariances, endless))
    x = z @ model.C.T + (0.0 if future_c is None else future_c)
    F = model.C @ P @ model.C.T + (np.diag(model.R) if model.R.ndim == 1 else model.R)
    return Forecast(x, _endless(F, model.C @ endless @ model.C.T), z, _endless(P, endless))


def _endless(covariance, infinite):
    """Infinity, with its sign, where the part that grows without bound is not zero."""
    spread = np.sqrt(np.diagonal(infinite, axis1=-2, axis2=-1))
    grows = np.abs(infinite) > 1e-12 * spread[..., :, None] * spread[..., None, :]
    return np.where(grows, np.copysign(np.inf, infinite), covariance)


def sample_states(model, X, starts, rng, n_draws=1, b=None, c=None):
    """Draws of all states given their sequences: (n_draws, n, k) (Durbin & Koopman 2002)."""
    mean = _smoothed_means(model, X, starts, b, c)
    n, k = mean.shape
    starts = np.asarray(starts)
    many = np.append((np.arange(n_draws)[:, None] * n + starts[:-1]).ravel(), n_draws * n)
    drawn = _draw(model._replace(mean=np.zeros(k)), many, rng)
    centred = model._replace(mean=np.zeros(k))
    fake = np.where(np.isnan(np.tile(X, (n_draws, 1))), np.nan, drawn[1])
    return mean + (drawn[0] - _smoothed_means(centred, fake, many)).reshape(n_draws, n, k)


def _smoothed_means(model, X, starts, b=None, c=None):
    run, k = _run(model, X, starts, b, c), len(model.A)
    return _back(run, np.ones(len(starts) - 1), (0, k, k), (0, k, k)).mean


def _draw(model, starts, rng):
    """States and observations of the model without offsets: (n, k), (n, d)."""
    from .kalman_kernels import roll

    n = int(starts[-1])
    first, noise, spread = root_of(model.P), root_of(model.Q), root_of(_matrix(model.R))
    z = rng.standard_normal((n, noise.shape[1])) @ noise.T
    begins = starts[:-1][np.diff(starts) > 0]
    z[begins] = model.mean + rng.standard_normal((len(begins), first.shape[1])) @ first.T
    roll(_read_only(model.A), _read_only(starts, np.int64), z)
    return z, z @ model.C.T + rng.standard_normal((n, spread.shape[1])) @ spread.T


# --- what the kernels are told ----------------------------------------------------------------


class _Data(NamedTuple):
    X: np.ndarray  # (n, d) less the offsets
    y: np.ndarray  # (n, m) reduced
    rest: np.ndarray  # (n,) -2 log density of what the reduction leaves out
    starts: np.ndarray  # (S + 1,)
    b: np.ndarray  # (n, k) or (0, k)


class _Model(NamedTuple):
    A: np.ndarray
    Q: np.ndarray
    noise: np.ndarray  # (k, q) root of Q
    C: np.ndarray
    r: np.ndarray  # (d,) variances
    R: np.ndarray  # (d, d), or (0, 0) where it is diag(r)
    mean: np.ndarray
    start: np.ndarray  # (k, k) root of P
    basis: np.ndarray  # (k, r) diffuse directions
    U: np.ndarray  # (m, k) y = U z + noise
    rho: np.ndarray  # (m,) its variances


class _Table(NamedTuple):
    root: np.ndarray  # (ages + 1, k, k) of predicted covariances
    predicted: np.ndarray  # (ages, k, k)
    filtered: np.ndarray  # (ages, k, k)
    closed: np.ndarray  # (ages, k, k + m) filtered mean from (predicted mean, y)
    step: np.ndarray  # (ages, k + m, k + m) next mean and white innovation from them, transposed
    log_det: np.ndarray  # (ages,)
    head: int = 0  # diffuse steps before age 0
    length: int = 0
    settled: bool = False


class _Out(NamedTuple):
    log_prob: np.ndarray  # (n,)
    total: np.ndarray  # (S,)
    n_diffuse: np.ndarray  # (S,)
    age: np.ndarray  # (n,) row of the table, or -1
    mean: np.ndarray  # (n, k) predicted
    white: np.ndarray  # (n, m) whitened innovations of tabled steps
    root: np.ndarray  # (n, k, k) of the predicted covariance, where age is -1
    n_left: np.ndarray  # (n,) diffuse directions before the step
    basis: np.ndarray  # (n, k, r)
    next_mean: np.ndarray  # (S, k) of the step after the last
    next_root: np.ndarray  # (S, k, k)
    next_basis: np.ndarray  # (S, k, r)


class _Result(NamedTuple):
    mean: np.ndarray  # (n, k)
    covariance: np.ndarray  # (n, k, k) or (0, k, k)
    first_mean: np.ndarray
    first: np.ndarray
    earlier: np.ndarray
    later: np.ndarray
    lag: np.ndarray
    whole: np.ndarray  # (k, k) over complete steps
    seen: np.ndarray  # (d, k, k) over the others, by feature; or (0, k, k)


class _Run(NamedTuple):
    data: _Data
    model: _Model
    table: _Table
    out: _Out


def _read_only(array, dtype=np.float64):
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


def _matrix(R):
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


def _run(model, X, starts, b, c):
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
    data = _Data(*map(_read_only, (X, y, rest)), _read_only(starts, np.int64), _read_only(b))
    start = np.zeros((k, k))
    root = root_of(model.P)
    start[:, : root.shape[1]] = root
    basis = np.empty((k, 0)) if model.diffuse is None else model.diffuse
    full = model.R.ndim == 2
    told = _Model(
        *map(_read_only, (model.A, model.Q, root_of(model.Q), model.C)),
        _read_only(np.diagonal(model.R) if full else model.R),
        _read_only(model.R if full else np.empty((0, 0))),
        *map(_read_only, (model.mean, start, basis, U, rho)),
    )
    with _singular_is_an_error():
        table = _new_table(min(MAX_AGES, int(np.diff(starts).max(initial=0))), k, m)
        head, length, settled = fill_table(told, table)
        table = table._replace(head=head, length=length, settled=settled)
        out = _new_out(len(X), len(starts) - 1, k, m, basis.shape[1])
        forward(data, told, table, out)
    return _Run(data, told, table, out)


def _new_table(ages, k, m):
    return _Table(
        np.empty((ages + 1, k, k)),
        np.empty((ages, k, k)),
        np.empty((ages, k, k)),
        np.empty((ages, k, k + m)),
        np.empty((ages, k + m, k + m)),
        np.empty(ages),
    )


def _new_out(n, S, k, m, r):
    return _Out(
        np.empty(n),
        np.empty(S),
        np.empty(S, np.int64),
        np.empty(n, np.int64),
        np.empty((n, k)),
        np.empty((n, m)),
        np.empty((n, k, k)),
        np.empty(n, np.int64),
        np.empty((n, k, r)),
        np.empty((S, k)),
        np.empty((S, k, k)),
        np.zeros((S, k, r)),
    )


def _back(run, weight, covariance, seen):
    """Smooth: `covariance` and `seen` are shapes, with 0 in front where nobody asks."""
    from .kalman_kernels import backward

    n, k = run.out.mean.shape
    sums = [np.zeros(k), *(np.zeros((k, k)) for _ in range(5))]
    result = _Result(np.empty((n, k)), np.empty(covariance), *sums, np.zeros(seen))
    backward(*run, _read_only(weight), result)
    return result
