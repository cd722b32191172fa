"""M-steps of matrices that share volume, shape or orientation (Celeux & Govaert 1995).

Each lowers sum_k n_k log|S_k| + tr(S_k^-1 W_k), given scatters W and counts n, within its family:
to the minimum in closed form where there is one, else by steps that start at the current matrices
and never rise. docs/derivations/eigen_decomposed.md derives them.
"""

from functools import cache

import numpy as np

from ..numerics.linalg import log_det, whiteners

LONGEST = 100  # inner steps: the next E-step moves the target anyway
TURNS = 3  # of all planes in one M-step: the next one goes on from where they end
CLOSE = 1e-11  # relative change, or gain per unit of count, that ends the inner steps
FAINT = 1e-12  # share of all counts that a component which no row speaks of gets of its own matrix


def heard(W, n, S) -> tuple[np.ndarray, np.ndarray]:
    """Where n is zero, a faint count of the current values: no other pull, so they stay.

    A majorisation: log s + s_now / s is lowest at s_now, so what is added rules no rise out.
    """
    silent = n <= 0
    if not silent.any():
        return W, n
    faint = FAINT * (n.sum() or 1.0)
    wide = silent.reshape(silent.shape + (1,) * (W.ndim - n.ndim))
    return np.where(wide, W + faint * S, W), np.where(silent, faint, n)


def proper(v):
    """The variances, or LinAlgError where they are none."""
    if not (np.isfinite(v) & (v > 0)).all():
        raise np.linalg.LinAlgError("a variance is not positive and finite")
    return v


def settle(step, x):
    """Repeat a step until positive numbers hardly change."""
    for _ in range(LONGEST):
        x, before = step(x), x
        if not np.abs(np.log(x / before)).max() > CLOSE:
            break
    return x


def _one(w, n, v):
    """EII: one variance for everything."""
    return np.full_like(w, w.sum() / n.sum())


def _shape(w, n, v):
    """EEI: one variance for each axis."""
    return np.broadcast_to(w.sum(axis=0) / n.sum(axis=0), w.shape)


def _volume_times_shape(w, n, v):
    """VEI: v_kj = volume_k shape_j, a convex problem in their logarithms, one side at a time."""

    of_shape, of_volume = n.sum(axis=0), n.sum(axis=1)

    def shape_for(volume):
        return (1 / volume) @ w / of_shape

    def step(volume):
        return w @ (1 / shape_for(volume)) / of_volume

    volume = settle(step, np.exp(np.log(v).mean(axis=1)))
    return volume[:, None] * shape_for(volume)


def _one_volume(w, n, v):
    """EVI: all rows of v have one product. Closed form for counts equal over the axes.

    Other axes get what they lack in counts of their current variance, a majorisation.
    """
    most = n.max(axis=1, keepdims=True)

    def step(v):
        whole = w + (most - n) * v
        size = np.exp(np.log(proper(whole)).mean(axis=1, keepdims=True))
        return whole * (size.sum() / most.sum() / size)

    return step(v) if (n == most).all() else settle(step, v)


def _free(w, n, v):
    """VVI: each variance is its own."""
    return w / n


# How volumes and shapes are tied -> variances (K, d) from sums of squares w (K, d), counts n (K, d)
# and current variances.
VARIANCES = {"EI": _one, "EE": _shape, "VE": _volume_times_shape, "EV": _one_volume, "VV": _free}


def variances(ties, w, n, v) -> np.ndarray:
    """Variances along known axes that lower the target: (K, d), (K, d), (K, d) -> (K, d)."""
    with np.errstate(all="ignore"):  # a collapse is reported by `proper`
        return proper(VARIANCES[ties](w, n, v))


def one_volume(W, n):
    """EVV: S_k = W_k times what gives all S_k one determinant -> S, whiteners: (K, d, d) twice."""
    A, d = whiteners(W), W.shape[-1]
    size = np.exp(log_det(A) / max(d, 1))
    factor = (size.sum() / n.sum() / size)[:, None, None]
    return W * factor, A / np.sqrt(factor)


def proportional(W, n, volume):
    """VEE: S_k = volume_k M, a geodesically convex problem -> S, whiteners; volume (K,)."""
    K, d, _ = W.shape
    flat = W.reshape(K, -1)

    def common(volume):
        M = ((1 / volume) @ flat).reshape(d, d) / n.sum()
        return M, whiteners(M[None])[0]

    def step(volume):
        _, A = common(volume)
        return proper(flat @ (A.T @ A).ravel() / (n * d))

    volume = settle(step, volume)
    M, A = common(volume)
    return volume[:, None, None] * M, A / np.sqrt(volume)[:, None, None]


def own_axes(W, n, axes):
    """EEV, VEV: each component's eigenvectors, by ascending eigenvalue: -> (K, d, d)."""
    return np.linalg.eigh(W)[1]


def _log_slope(w, n):
    """VVE: -2 times the profile log-likelihood sum_jk n_k log w_kj, and its slope in w."""
    return float(n @ np.log(w).sum(axis=1)), n[:, None] / w


def _size_slope(w, n):
    """EVE: the same for d N log sum_k g_k, g_k the geometric mean of w_k, up to a constant."""
    size = np.exp(np.log(w).mean(axis=1, keepdims=True))
    total = w.shape[1] * n.sum()
    return float(total * np.log(size.sum())), n.sum() * size / size.sum() / w


@cache
def _rounds(d):
    """Every pair of d axes once, in rounds of disjoint pairs: a tournament table."""
    seats = list(range(d + d % 2))
    half, table = len(seats) // 2, []
    for _ in range(len(seats) - 1):
        pairs = [sorted(p) for p in zip(seats[:half], seats[: half - 1 : -1], strict=True)]
        table.append(np.array([p for p in pairs if p[1] < d]).T)
        seats = [seats[0], seats[-1], *seats[1:-1]]
    return table


def _turn(T, D, i, j, slope):
    """Turn disjoint planes (i, j) to where sum_kj slope_kj (D' W_k D)_jj is lowest, in place."""
    gap = slope[:, i] - slope[:, j]
    along = (gap * (T[:, i, i] - T[:, j, j])).sum(axis=0) / 2
    across = (gap * T[:, i, j]).sum(axis=0)
    angle = np.arctan2(-across, -along) / 2
    angle[(gap == 0).all(axis=0)] = np.pi / 4  # equal variances lie at a ridge or where all is flat
    c, s = np.cos(angle), np.sin(angle)
    for M in (T, T.mT, D):  # columns, rows, axes
        M[..., i], M[..., j] = c * M[..., i] + s * M[..., j], c * M[..., j] - s * M[..., i]


def _common_axes(profile):
    def axes(W, n, axes):
        """EVE, VVE: one set of axes by plane rotations (after Flury & Gautschi 1986).

        The profile is concave in the variances, so its tangent lies above it, and each rotation
        to the lowest point of the tangent lowers it. Of the current axes and the eigenvectors of
        the pooled scatter the better ones are the start.
        """

        def value(D):
            return profile(_squares(W, D), n)

        D = min((axes[0], np.linalg.eigh(W.sum(axis=0))[1]), key=lambda D: value(D)[0]).copy()
        T = D.T @ W @ D
        height = value(D)[0]
        for _ in range(TURNS):
            for i, j in _rounds(len(D)) if len(D) > 1 else ():
                _turn(T, D, i, j, profile(_diagonal(T), n)[1])
            before, height = height, profile(_diagonal(T), n)[0]
            if not before - height > CLOSE * n.sum():
                break
        D = 1.5 * D - 0.5 * D @ (D.T @ D)  # what rounding took from D' D = I
        return np.broadcast_to(D, W.shape)

    return axes


def _diagonal(T):
    return proper(T.diagonal(axis1=1, axis2=2))


def _squares(W, D):
    return proper(np.einsum("ij,kil,lj->kj", D, W, D, optimize=True))


common_axes_of_one_volume = _common_axes(_size_slope)
common_axes = _common_axes(_log_slope)


def nearest_rotation(R):
    """Signs of the columns of orthogonal matrices so that they turn little and mirror nothing."""
    diagonal = R.diagonal(axis1=1, axis2=2)
    sign = np.where(diagonal < 0, -1.0, 1.0)
    mirrored = np.flatnonzero(np.linalg.det(R * sign[:, None, :]) < 0)
    sign[mirrored, np.abs(diagonal[mirrored]).argmin(axis=1)] *= -1
    return R * sign[:, None, :]


def squares_along(W, axes):
    """Diagonals of D_k' W_k D_k: (K, d, d), (K, d, d) -> (K, d)."""
    return ((W @ axes) * axes).sum(axis=1)
