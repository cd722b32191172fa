"""How far apart components are: Bhattacharyya distances between those of two emissions."""

import numpy as np
from scipy.special import logsumexp

from ..numerics.linalg import log_det, whiteners
from .gaussian import Gaussians
from .independent_t import IndependentTs
from .student_t import StudentTs

N_DRAWS = 500  # of each component, where there is no closed form
FARTHEST = 1e6  # nats; what has no common support would be infinitely far apart


def bhattacharyya(a, b):
    """-log of the integral of sqrt(p(x | a, j) p(x | b, k)): -> (K_a, K_b) nats, 0 where equal.

    In closed form between Gaussians of any structure. Otherwise by draws, the same noise for every
    component, so that the components alone decide.
    """
    between = _closed_form if _gaussian(a) and _gaussian(b) else _by_draws
    return np.minimum(between(a, b), FARTHEST)


def _gaussian(emission):
    return isinstance(emission, Gaussians) and not isinstance(emission, StudentTs | IndependentTs)


def _closed_form(a, b):
    """Mahalanobis distance under the mean matrix / 8 + log |mean| / sqrt(|S_j| |S_k|) / 2."""
    there = b.cov.dense()
    distance = np.empty((len(a.means), len(there)))
    for j, (mean, S) in enumerate(zip(a.means, a.cov.dense())):
        A = whiteners((S + there) / 2)
        gap = np.einsum("kde,ke->kd", A, b.means - mean)
        distance[j] = (gap**2).sum(axis=1) / 8 + log_det(A) / 2
    own = [log_det(whiteners(emission.cov.dense())) / 4 for emission in (a, b)]
    return distance - own[0][:, None] - own[1]


def _by_draws(a, b):
    """E[sqrt(p q) / m] under m = (p + q) / 2: a mean of numbers between 0 and 1."""
    here, there = _scores(a, b), _scores(b, a)  # (K_a, N, K_a + K_b), (K_b, N, K_b + K_a)
    K = len(here)
    distance = np.empty((K, len(there)))
    for j in range(K):
        for k in range(len(there)):
            log_p = np.concatenate([here[j, :, j], there[k, :, len(there) + j]])
            log_q = np.concatenate([here[j, :, K + k], there[k, :, k]])
            terms = (log_p + log_q) / 2 - np.logaddexp(log_p, log_q) + np.log(2)
            distance[j, k] = np.log(len(terms)) - logsumexp(terms)
    return distance


def _scores(own, other):
    """Draws of each component of one emission, scored by all components of both."""
    K = len(own.expectation())
    X = [own.sample(np.full(N_DRAWS, k), np.random.default_rng(0)) for k in range(K)]
    return np.array([np.hstack([own.log_prob(x), other.log_prob(x)]) for x in X])
