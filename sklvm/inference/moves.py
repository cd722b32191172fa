"""Moves that no EM step makes: a component split in two, two merged into one (Ueda et al. 2000).

They propose responsibilities; what follows from these is climbed, and kept if it ends higher.
"""

import numpy as np

from ..numerics.linalg import posterior_and_evidence

N_PAIRS = 5  # pairs that are merged, and for each of them
N_SPLITS = 2  # components that are split instead
N_REMOVED = 2  # light components that are tried without
HALF = 0.5  # expected rows: a component with fewer is empty


def halves(Z, mass):
    """Which rows of a component lie above its mean along its longest axis: (n, d), (n,) -> bool."""
    centred = Z - mass @ Z / mass.sum()
    _, axes = np.linalg.eigh((centred * mass[:, None]).T @ centred)
    return centred @ axes[:, -1] > 0


def overlap(resp, weight):
    """Cosine of the responsibilities of each pair of components: (n, K), (n,) -> (K, K)."""
    common = (resp * weight[:, None]).T @ resp
    size = np.sqrt(np.diag(common))
    return common / np.maximum(np.outer(size, size), np.finfo(float).tiny)


def misfit(resp, log_prob, weight):
    """Divergence of each component from the rows it took: (n, K), (n, K), (n,) -> (K,) nats.

    sum_i w_i f_ik (log f_ik - log p(x_i | z = k)) with f_ik = resp_ik / sum_j w_j resp_jk.
    """
    total = np.maximum(weight @ resp, np.finfo(float).tiny)
    share = resp * weight[:, None] / total
    taken = share > 0
    log_density = np.log(np.where(taken, resp, 1.0)) - np.log(total)  # repeats change nothing
    return (share * (log_density - np.where(taken, log_prob, 0.0))).sum(axis=0)


def with_split(resp, Z, weight, k):
    """One component more: k keeps one half of its rows, the last takes the other: (n, K + 1)."""
    upper = halves(Z, resp[:, k] * weight)
    grown = np.column_stack([resp, np.where(upper, resp[:, k], 0.0)])
    grown[upper, k] = 0.0
    return grown


def with_merged(resp, i, j):
    """One component less: i takes what j had: (n, K - 1)."""
    merged = resp.copy()
    merged[:, i] += resp[:, j]
    return np.delete(merged, j, axis=1)


def nearest_pairs(resp, weight):
    """Pairs of components, those that overlap most first."""
    i, j = np.triu_indices(resp.shape[1], 1)
    order = np.argsort(-overlap(resp, weight)[i, j], kind="stable")
    return list(zip(i[order].tolist(), j[order].tolist(), strict=True))


def worst_fitted(state, X, resp, weight):
    """Components with more than one row's weight, those that describe theirs worst first."""
    log_prob = state.emission.log_prob(X)[:, : resp.shape[1]]
    order = np.argsort(-misfit(resp, log_prob, weight), kind="stable")
    return order[(resp.T @ weight)[order] > 1].tolist()


def exchanges(state, X, weight, Z):
    """Weighted responsibilities of as many components, two of them merged and a third split.

    Z (n, d) are the rows without gaps, in comparable units.
    """
    resp, noise = np.split(state.responsibilities(X), [state.n_clusters], axis=1)
    worst = worst_fitted(state, X, resp, weight)
    for i, j in nearest_pairs(resp, weight)[:N_PAIRS]:
        for k in [k for k in worst if k not in (i, j)][:N_SPLITS]:
            moved = with_merged(with_split(resp, Z, weight, k), i, j)
            yield np.concatenate([moved, noise], axis=1) * weight[:, None]


def resized(state, X, weight, Z, K):
    """Weighted responsibilities of K components, from a state that may have fewer or more."""
    resp = state.responsibilities(X)
    missing = K - resp.shape[1]
    if missing == 0:
        yield resp * weight[:, None]
    elif missing > 0:
        worst = worst_fitted(state, X, resp, weight)
        for first in range(N_SPLITS if missing == 1 else 1):
            yield _grown(resp, Z, weight, K, worst[first : first + missing]) * weight[:, None]
    else:
        yield _shrunk(resp, weight, K) * weight[:, None]


def _grown(resp, Z, weight, K, first):
    """Split some components, then the heaviest, until there are K."""
    for k in first:
        resp = with_split(resp, Z, weight, k)
    while resp.shape[1] < K:
        resp = with_split(resp, Z, weight, int(np.argmax(weight @ resp)))
    return resp


def _shrunk(resp, weight, K):
    """Merge the nearest pair until there are K components."""
    while resp.shape[1] > K:
        resp = with_merged(resp, *nearest_pairs(resp, weight)[0])
    return resp


def likely_merges(resp, weight, counts):
    """Pairs (into, other): those that overlap most, and the lightest with what it overlaps most.

    resp (n, K) of rows that stand for those that the expected counts (K,) are of.
    """
    alive = counts > HALF
    pairs = [(i, j) for i, j in nearest_pairs(resp, weight) if alive[i] and alive[j]]
    if not pairs:
        return []
    lightest = min(np.flatnonzero(alive), key=lambda k: counts[k])
    last = [pair for pair in pairs[N_PAIRS:] if lightest in pair][:1]
    by_size = [sorted(pair, key=lambda k: -counts[k]) for pair in pairs[:N_PAIRS] + last]
    return [tuple(pair) for pair in by_size]


def reorganised(state, X, weight, Z, births):
    """Weighted responsibilities of K components, some of which may be empty, after one move.

    Two components become one; a light one gives its rows to the others; with `births` one that
    describes its rows badly is split in two where a component is empty. Z as in `exchanges`.
    """
    joint = state.joint(X)
    resp = posterior_and_evidence(joint)[0]
    counts = weight @ resp
    for into, other in likely_merges(resp, weight, counts):
        yield _emptied(with_merged(resp, into, other), other) * weight[:, None]
    alive = np.flatnonzero(counts > HALF)
    if len(alive) > 1:
        for k in alive[np.argsort(counts[alive], kind="stable")][:N_REMOVED]:
            without = joint.copy()
            without[:, k] = -np.inf
            yield posterior_and_evidence(without)[0] * weight[:, None]
    empty = np.flatnonzero(counts <= HALF)
    if births and len(empty):
        for k in worst_fitted(state, X, resp, weight)[:N_SPLITS]:
            grown = with_split(resp, Z, weight, k)
            grown[:, empty[0]] = grown[:, -1]
            yield grown[:, :-1] * weight[:, None]


def _emptied(resp, k):
    """Responsibilities of one component more, which has no rows: (n, K - 1) -> (n, K)."""
    return np.insert(resp, k, 0.0, axis=1)
