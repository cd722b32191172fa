"""Linear-Gaussian state-space models: filter, smooth, forecast and draw states of many sequences.

z_1 ~ N(mean, P), z_t = A z_t-1 + b_t + N(0, Q), x_t = C z_t + c_t + N(0, R). Steps of all sequences
are stacked, (n, d), and `starts` says where each begins. NaN is an entry that was not seen.
"""

from typing import NamedTuple

import numpy as np

from .kalman_run import ROUNDING, matrix_of, read_only, root_of, run_filter, run_smoother


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
    covariance: np.ndarray  # (n, k, k) infinite where nothing resolved a diffuse direction


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
    covariance: np.ndarray  # (n, k, k) of each state, or (0, k, k)


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

    run = run_filter(model, X, starts, b, c)
    n, k = run.out.mean.shape
    mean, covariance, predicted = np.empty((n, k)), np.empty((n, k, k)), np.empty((n, k, k))
    out, bases = run.out, np.zeros((n, k, run.model.basis.shape[1]))
    moments(run.data, run.model, run.table, out, mean, covariance, predicted, bases)
    if bases.any():
        covariance = _endless(covariance, bases @ bases.mT)
    return Filtered(out.total, out.log_prob, out.n_diffuse, out.mean, predicted, mean, covariance)


def log_prob(model, X, starts, b=None, c=None):
    """The log density of each sequence and of each step: (S,), (n,)."""
    out = run_filter(model, X, starts, b, c).out
    return out.total, out.log_prob


def smooth(model, X, starts, b=None, c=None):
    """Means and covariances of every state given its whole sequence.

    The variance of a direction that no value resolves is infinite. Another smoothed covariance is
    exact up to rounding of the filtered one, however much smaller it is.
    """
    run = run_filter(model, X, starts, b, c)
    n, k = run.out.mean.shape
    result = run_smoother(run, np.ones(len(starts) - 1), (n, k, k), (0, k, k))
    covariance = _with_unresolved(result.covariance, run.model, run.out, np.asarray(starts))
    return Smoothed(run.out.total, result.mean, covariance)


def _with_unresolved(covariance, told, out, starts):
    """Infinity where whole sequences leave a part of the first state open: (n, k, k)."""
    k = covariance.shape[1]
    some = np.flatnonzero(out.next_basis.any(axis=(1, 2)))
    if not len(some):
        return covariance
    endless, lengths = np.zeros_like(covariance), np.diff(starts)[some]
    open_part = _moved(told.basis[:k], out.next_basis[some, k:])
    for t in range(lengths.max()):
        longer = lengths > t
        endless[starts[some[longer]] + t] = (open_part @ open_part.mT)[longer]
        open_part = _moved(told.A, open_part)
    return _endless(covariance, endless)


def _moved(A, B):
    """A B, where rounding of sums that cancel is zero."""
    moved, size = A @ B, np.abs(A) @ np.abs(B)
    return np.where(np.abs(moved) > ROUNDING * size, moved, 0.0)


def expectations(model, X, starts, weight, b=None, c=None, *, by_step=False):
    """Sums of expected statistics over all steps, weighted by sequence: weight (S,).

    `by_step`: with the covariance of every state besides.
    """
    run = run_filter(model, X, starts, b, c)
    d, k = model.C.shape
    result = run_smoother(run, weight, (len(X) * by_step, k, k), (d, k, k))
    weighted = result.mean
    if (weight != 1).any():
        weighted = weighted * np.repeat(weight, np.diff(starts))[:, None]
    xz = run.data.X.T @ weighted
    if np.isnan(xz).any():
        xz = np.nan_to_num(run.data.X).T @ weighted
    sums = (result.first_mean, result.first, result.earlier, result.later, result.lag)
    zz = result.seen + result.whole
    return Sums(run.out.total, result.mean, *sums, zz, xz, result.covariance)


def forecast(model, X, starts, horizon, b=None, c=None, future_b=None, future_c=None):
    """Moments of the next steps; future_b (S, horizon, k), future_c (S, horizon, d)."""
    out = run_filter(model, X, starts, b, c).out
    mean, covariance = out.next_mean, out.next_root @ out.next_root.mT
    basis = out.next_basis[:, : len(model.A)]
    infinite = basis @ basis.mT
    means, covariances, growing = [], [], []
    for step in range(horizon):
        if future_b is not None:
            mean = mean + future_b[:, step]
        means.append(mean)
        covariances.append(covariance)
        growing.append(infinite)
        mean = mean @ model.A.T
        covariance = model.A @ covariance @ model.A.T + model.Q
        infinite = model.A @ infinite @ model.A.T
    z, P, endless = (np.stack(v, axis=1) for v in (means, covariances, growing))
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
    run, k = run_filter(model, X, starts, b, c), len(model.A)
    return run_smoother(run, np.ones(len(starts) - 1), (0, k, k), (0, k, k)).mean


def _draw(model, starts, rng):
    """States and observations of the model without offsets: (n, k), (n, d)."""
    from .kalman_kernels import roll

    n = int(starts[-1])
    first, noise, spread = root_of(model.P), root_of(model.Q), root_of(matrix_of(model.R))
    z = rng.standard_normal((n, noise.shape[1])) @ noise.T
    begins = starts[:-1][np.diff(starts) > 0]
    z[begins] = model.mean + rng.standard_normal((len(begins), first.shape[1])) @ first.T
    roll(read_only(model.A), read_only(starts, np.int64), z)
    return z, z @ model.C.T + rng.standard_normal((n, spread.shape[1])) @ spread.T
