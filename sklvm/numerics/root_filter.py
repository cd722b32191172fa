"""Gaussian filter and smoother in square-root form, for a rule that makes functions lines.

z_1 ~ N(mean, P), z_t = f(z_t-1) + N(0, Q), x_t = h(z_t) + N(0, R). Steps of all sequences are
stacked, (N, d), and `starts` says where each begins; sequences move on together, step by step. NaN
is an entry that was not seen.
"""

from typing import Any, NamedTuple

import numpy as np

from .moment_rules import Rule

LOG_2PI = np.log(2 * np.pi)
SINGULAR = 1e-10  # relative standard deviation of a direction that counts as known


class NonlinearModel(NamedTuple):
    """Roots of covariances and the first mean: one for all sequences (1, ...), or one each."""

    f: Any  # (n, q) -> (n, q)
    h: Any  # (n, q) -> (n, d)
    rule: Rule
    Q: np.ndarray  # (1 or n, q, r) Q = root root'
    R: np.ndarray  # (1 or n, d, d)
    mean: np.ndarray  # (1 or n, q)
    P: np.ndarray  # (1 or n, q, q)


class Filtered(NamedTuple):
    """What each step, and those before it, say of its state."""

    log_density: np.ndarray  # (N,) log p(x_t | x_<t)
    mean: np.ndarray  # (N, q)
    root: np.ndarray  # (N, q, q) of the covariance


class Backwards(NamedTuple):
    """z_t given z_t+1 and x_1..t: mean + gain (z_t+1 - ahead), covariance root root'."""

    ahead: np.ndarray  # (N, q) E[z_t+1 | x_1..t]
    ahead_root: np.ndarray  # (N, q, q)
    gain: np.ndarray  # (N, q, q)
    root: np.ndarray  # (N, q, q)


def tria(*parts):
    """Lower triangular root of the sum of part part': (n, p, k) each, k >= p in all; (n, p, p)."""
    return np.asarray(np.linalg.qr(np.concatenate(parts, axis=-1).mT, mode="r")).mT


def clock(starts):
    """The rows of the first steps of all sequences, of the second steps, ...; longest first."""
    lengths = np.diff(starts)
    order = np.argsort(-lengths, kind="stable")
    for t in range(lengths.max(initial=0)):
        alive = order[: np.searchsorted(-lengths[order], -t)]
        yield alive, starts[alive] + t


# --- one step ---------------------------------------------------------------------------------


def moved(f, rule, mean, root, noise):
    """Of f(z) and z together: the mean of f(z), and the root of the joint covariance in blocks.

    -> (n, p), then (n, p, p), (n, q, p), (n, q, q) of [[S, 0], [G, D]]: S S' is the
    covariance of f(z) + noise, G S' that of z with it, D D' that of z given it.
    """
    told = rule(f, mean, root)
    noise = np.broadcast_to(noise, (len(mean), *noise.shape[1:]))
    S, G, D = _joint(np.concatenate([told.slope, told.excess, noise], axis=-1), root)
    return told.mean, S, G, D


def _joint(top, root):
    p, q = top.shape[-2], root.shape[-1]
    whole = np.zeros((len(top), p + q, max(top.shape[-1], p + q)))
    whole[:, :p, : top.shape[-1]] = top
    whole[:, p:, :q] = root
    whole = tria(whole)
    return whole[:, :p, :p], whole[:, p:, :p], whole[:, p:, p:]


def seen_step(model, R, mean, root, x):
    """A step comes: log density (n,), mean (n, q) and root (n, q, q) after it; x (n, d) with NaN.

    An unseen entry has the innovation 0 and a noise of its own of variance 1, so it says nothing.
    """
    seen = ~np.isnan(x)
    told = model.rule(model.h, mean, root)
    unseen = np.eye(x.shape[1]) * ~seen[:, None, :]
    parts = [told.slope, told.excess, np.broadcast_to(R, (len(x), *R.shape[1:]))]
    top = np.concatenate([*(part * seen[..., None] for part in parts), unseen], axis=-1)
    S, gain, left = _joint(top, root)
    white = np.linalg.solve(S, np.where(seen, x - told.mean, 0.0)[..., None])
    some = seen.any(axis=1)
    log_det = np.log(np.abs(np.diagonal(S, axis1=1, axis2=2))).sum(axis=1)
    square = (white[..., 0] ** 2).sum(axis=1) + seen.sum(axis=1) * LOG_2PI
    density = np.where(some, -0.5 * square - log_det, 0.0)
    kept = some[:, None]
    after = np.where(kept, mean + (gain @ white)[..., 0], mean)
    return density, after, np.where(kept[..., None], left, root)


# --- all steps --------------------------------------------------------------------------------


def run(model, X, starts):
    """The filter over all sequences: X (N, d), starts (n + 1,)."""
    n, q = len(starts) - 1, model.mean.shape[1]
    Q, R, mean, root = (np.broadcast_to(a, (n, *a.shape[1:])) for a in model[3:])
    found = Filtered(np.empty(len(X)), np.empty((len(X), q)), np.empty((len(X), q, q)))
    for t, (alive, rows) in enumerate(clock(starts)):
        before = mean[alive], root[alive]
        if t:
            told = model.rule(model.f, found.mean[rows - 1], found.root[rows - 1])
            before = told.mean, tria(told.slope, told.excess, Q[alive])
        step = seen_step(model, R[alive], *before, X[rows])
        found.log_density[rows], found.mean[rows], found.root[rows] = step
    return found


def backwards(model, found):
    """What z_t+1 says of z_t, at every step at once; at the last step of a sequence: the next.

    Where a direction of z_t+1 is known, columns of G belong to none: they say nothing and are left.
    """
    ahead, S, G, D = moved(model.f, model.rule, found.mean, found.root, model.Q)
    sd = np.sqrt((S**2).sum(axis=-1))
    unit = np.where(sd > 0, sd, 1.0)
    white = S / unit[..., None]
    inverse = np.linalg.pinv(white, rcond=SINGULAR)
    told = G @ inverse
    return Backwards(ahead, S, told / unit[:, None, :], tria(D, G - told @ white))


def smooth(found, back, starts):
    """Means (N, q) and roots (N, q, q) given all of the sequence (Rauch et al. 1965)."""
    mean, root = found.mean.copy(), found.root.copy()
    for _, later in reversed(list(clock(starts))[1:]):
        rows = later - 1
        gain = back.gain[rows]
        mean[rows] += (gain @ (mean[later] - back.ahead[rows])[..., None])[..., 0]
        root[rows] = tria(gain @ root[later], back.root[rows])
    return mean, root


def sample_paths(found, back, starts, rng, n_draws):
    """Draws of the states of all steps given their sequences: -> (n_draws, N, q)."""
    noise = rng.standard_normal((n_draws, *found.mean.shape))
    last = starts[1:][np.diff(starts) > 0] - 1
    Z = found.mean + (back.root @ noise[..., None])[..., 0]
    Z[:, last] = found.mean[last] + (found.root[last] @ noise[:, last, :, None])[..., 0]
    for _, later in reversed(list(clock(starts))[1:]):
        rows = later - 1
        Z[:, rows] += (back.gain[rows] @ (Z[:, later] - back.ahead[rows])[..., None])[..., 0]
    return Z


def ahead(model, mean, root, horizon):
    """Moments of the next states and steps from those of the first: lists of horizon of each.

    mean (n, q), root (n, q, q) -> z (n, h, q), its root, x (n, h, d), its root.
    """
    steps = []
    for step in range(horizon):
        if step:
            told = model.rule(model.f, mean, root)
            Q = np.broadcast_to(model.Q, (len(mean), *model.Q.shape[1:]))
            mean, root = told.mean, tria(told.slope, told.excess, Q)
        shown = model.rule(model.h, mean, root)
        R = np.broadcast_to(model.R, (len(mean), *model.R.shape[1:]))
        steps.append((mean, root, shown.mean, _square_root(shown, R)))
    return [np.stack(part, axis=1) for part in zip(*steps)]


def _square_root(shown, R):
    """Root of the covariance of x, (n, d, d)."""
    return tria(shown.slope, shown.excess, R)
