"""Random emissions of every covariance structure, and conditioning by plain block formulas."""

from dataclasses import replace

import numpy as np

from sklvm.emissions.covariance import Diag, Penalty, Spherical
from sklvm.emissions.dense import Full, Tied
from sklvm.emissions.family import STRUCTURES as FAMILIES
from sklvm.emissions.gaussian import Gaussians
from sklvm.emissions.low_rank import LowRank
from sklvm.emissions.student_t import StudentTs

TIED_BY_EIGEN = ["EII", "EEI", "VEI", "EVI", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV"]
ELLIPSOIDAL = ["full", "tied", *TIED_BY_EIGEN[4:]]  # these fill in what is missing first
ONE_UNIT = ["spherical", "EII", "EVE", "VVE", "EEV", "VEV"]  # these compare columns
STRUCTURES = ["full", "tied", "diag", "spherical", "low_rank", *TIED_BY_EIGEN]
KINDS = [f"{family}-{structure}" for family in ("gaussian", "student") for structure in STRUCTURES]


def positive_definite(rng, *shape):
    G = rng.standard_normal((*shape, shape[-1] + 2))
    return G @ np.swapaxes(G, -1, -2) / shape[-1]


def eigen_composed(name, K, d, rng):
    """Random matrices volume_k D_k shape_k D_k' of a family by its letters: (K, d, d)."""

    def copies(letter, none, draw):
        if letter == "I":
            return np.array([none] * K)
        return np.array([draw()] * K) if letter == "E" else np.array([draw() for _ in range(K)])

    def shape():
        log_v = rng.normal(size=d)
        return np.exp(log_v - log_v.mean())

    volume = copies(name[0], 1.0, lambda: rng.uniform(0.5, 3))
    shapes = copies(name[1], np.ones(d), shape)
    D = copies(name[2], np.eye(d), lambda: np.linalg.qr(rng.normal(size=(d, d)))[0])
    return volume[:, None, None] * (D * shapes[:, None, :]) @ np.swapaxes(D, 1, 2)


def covariance(structure, K, d, rng, count=0.0, strength=0.0, q=2):
    """A random value of a structure; its penalty is `count` and a matrix of size `strength`."""
    scale = strength * positive_definite(rng, d)
    flat = Penalty(count, np.diag(scale))
    if structure == "full":
        return Full.of(positive_definite(rng, K, d), Penalty(count, scale))
    if structure == "tied":
        one = positive_definite(rng, d)
        return Tied.of(np.broadcast_to(one, (K, d, d)), Penalty(count, scale))
    if structure == "diag":
        return Diag(rng.uniform(0.5, 2, (K, d)), flat)
    if structure == "spherical":
        return Spherical(np.tile(rng.uniform(0.5, 2, (K, 1)), (1, d)), flat)
    if structure in TIED_BY_EIGEN:
        S = eigen_composed(structure, K, d, rng)
        diagonal = np.diagonal(S, axis1=1, axis2=2)
        compact = {"II": diagonal[:, 0], "EI": diagonal, "VI": diagonal}.get(structure[1:], S)
        return FAMILIES[structure].expand(compact, K, d, Penalty(count, scale))
    W = rng.standard_normal((K, d, q))
    return LowRank(W, rng.uniform(0.5, 2, (K, d)), flat, np.full(d, 1e-9))


def emission(kind, K=3, d=4, seed=0, learn_df=True, **options):
    """gaussian-full, student-tied, ...: K components in d dimensions."""
    family, structure = kind.split("-")
    rng = np.random.default_rng(seed)
    cov = covariance(structure, K, d, rng, **options)
    means = 2 * rng.standard_normal((K, d))
    if family == "gaussian":
        return Gaussians(means, cov)
    return StudentTs(means, cov, rng.uniform(3, 9, K), learn_df)


def rows(n=30, d=4, seed=0, missing=0.4):
    """Rows with NaN: one complete, one empty, and random holes in the others."""
    rng = np.random.default_rng(seed + 100)
    X = 2 * rng.standard_normal((n, d))
    X[rng.uniform(size=X.shape) < missing] = np.nan
    X[0] = rng.standard_normal(d)
    X[1] = np.nan
    return X


def responsibilities(n, K, seed=0):
    return np.random.default_rng(seed + 200).uniform(0.05, 1, (n, K))


def conditional(mean, S, x):
    """E and covariance of a whole row given its seen entries: (d,), (d, d)."""
    m, o = np.flatnonzero(np.isnan(x)), np.flatnonzero(~np.isnan(x))
    regression = S[np.ix_(m, o)] @ np.linalg.inv(S[np.ix_(o, o)])
    filled, C = x.copy(), np.zeros_like(S)
    filled[m] = mean[m] + regression @ (x[o] - mean[o])
    C[np.ix_(m, m)] = S[np.ix_(m, m)] - regression @ S[np.ix_(o, m)]
    return filled, C


def weight_of_row(value, x, k):
    """E[u | x_seen] of a Student-t component, 1 for a Gaussian."""
    if not isinstance(value, StudentTs):
        return 1.0
    o = np.flatnonzero(~np.isnan(x))
    diff = x[o] - value.means[k, o]
    S = value.cov.dense()[k][np.ix_(o, o)]
    return (value.df[k] + len(o)) / (value.df[k] + diff @ np.linalg.inv(S) @ diff)


def rescaled(value, units, offset):
    """The same emission in other units: x -> x * units + offset."""
    cov, means = value.cov, value.means * units + offset
    if isinstance(cov, Full):
        new = type(cov).of(cov.S * np.outer(units, units), cov.penalty)
    elif isinstance(cov, LowRank):
        new = replace(
            cov, W=cov.W * units[:, None], psi=cov.psi * units**2, floor=cov.floor * units**2
        )
    else:
        new = replace(cov, v=cov.v * units**2)
    return replace(value, means=means, cov=new)


def gradient_at(state, X, step=1e-5):
    """The objective's gradient per row in a mixture's own coordinates, by central differences."""
    size = len(state.pack(state))
    gradient = np.empty(size)
    for i, direction in enumerate(step * np.eye(size)):
        ends = [state.unpack(sign * direction) for sign in (1, -1)]
        high, low = (end.log_prob(X).sum() + end.log_prior() for end in ends)
        gradient[i] = (high - low) / (2 * step * len(X))
    return gradient
