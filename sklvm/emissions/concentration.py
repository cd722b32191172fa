"""Concentrations by empirical Bayes, and the best order of sticks, from expected counts."""

from functools import partial

import numpy as np
from scipy.special import digamma, gammaln, zeta

SPARSE = (1e-3, 1.0)  # where a Dirichlet's concentration may lie
CONCENTRATIONS = (1e-3, 1e2)  # ... and that of sticks
trigamma = partial(zeta, 2)


def dirichlet_evidence(counts, a):
    """log p(counts | every alpha = a), and its first two derivatives in a."""
    K, n = counts.shape[-1], counts.sum(axis=-1)
    return tuple(
        float((f(a + counts) - f(a)).sum() - K**i * (f(K * a + n) - f(K * a)).sum())
        for i, f in enumerate((gammaln, digamma, trigamma))
    )


def sums_after(counts):
    """Sums of what follows each entry: (K,) -> (K,)."""
    return np.append(np.cumsum(counts[:0:-1])[::-1], 0.0)


def best_order(counts, g):
    """The sticks in the order that makes the counts (K,) most probable: components, (K,).

    Up to a constant log p(counts) is -sum_j log(g + what stick j and later ones have), and
    log Gamma(g + N) - log Gamma(1 + N) of the last: descending counts, unless g > 1 and one that
    is not the smallest gains by being last (Kurihara et al. 2007 sort).
    """
    descending = np.argsort(-counts, kind="stable")
    best, best_value = descending, -np.inf
    for last in descending[:: -1 if g > 1 else -len(counts)]:
        order = np.append(descending[descending != last], last)
        N = counts[order]
        left = N[:-1] + sums_after(N)[:-1]
        value = gammaln(g + N[-1]) - gammaln(1 + N[-1]) - np.log(g + left).sum()
        if value > best_value + 1e-9:
            best, best_value = order, value
    return best


def stick_evidence(counts, g):
    """log p(counts | concentration g) of sorted counts, and its first two derivatives in g."""
    after, before = g + sums_after(counts)[:-1], 1 + g + counts[:-1] + sums_after(counts)[:-1]
    own = (np.log(g), 1 / g, -1 / g**2)
    return tuple(
        float(len(after) * own[i] + (f(after) - f(before)).sum())
        for i, f in enumerate((gammaln, digamma, trigamma))
    )


def best_concentration(evidence, start, bounds):
    """Newton's method on the logarithm of a concentration, within bounds; it never falls.

    `evidence` gives a function and its first two derivatives.
    """
    low, high = np.log(bounds)
    log_a = float(np.clip(np.log(start), low, high))
    value, slope, bend = evidence(np.exp(log_a))
    for _ in range(50):
        a = np.exp(log_a)
        slope, bend = a * slope, a * slope + a**2 * bend
        step = -slope / bend if bend < 0 else np.sign(slope)
        step = float(np.clip(log_a + np.clip(step, -2.0, 2.0), low, high) - log_a)
        trial = evidence(np.exp(log_a + step))
        while trial[0] < value and abs(step) > 1e-7:
            step /= 4
            trial = evidence(np.exp(log_a + step))
        if trial[0] < value or abs(step) < 1e-7:
            break
        log_a, (value, slope, bend) = log_a + step, trial
    return float(np.exp(log_a))
