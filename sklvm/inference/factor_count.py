"""How many factors: parallel analysis, and ever more of them until a score stops rising."""

import numpy as np

from .blocks import has_gaps, sum_blocks
from .moments import pooled_moments, sample_mean, sample_moments

QUANTILE = 0.95  # of the eigenvalues of tables without factors (Glorfeld 1995)
FEWEST, MOST, WORK = 40, 200, 2e9  # tables drawn; eigenvalues of the largest vary least
PATIENCE = 3  # sizes in a row without a higher score


def largest_size(d, weight):
    """The most factors that are tried for d columns and rows of this total weight.

    Ledermann's bound: with more of them a model has as many parameters as any covariance. One
    factor is tried in any case.
    """
    ledermann = int((2 * d + 1 - np.sqrt(8 * d + 1)) / 2)
    return min(max(ledermann, min(1, d - 1)), int(weight // 2))


def grow(score, largest):
    """Scores of 0, 1, ... factors until none was higher for PATIENCE sizes: -> best q, (m,)."""
    scores: list[float] = []
    for q in range(largest + 1):
        scores.append(score(q))
        if q - np.argmax(scores) == PATIENCE:
            break
    return int(np.argmax(scores)), np.array(scores)


def parallel_analysis(X, weight, rng):
    """Eigenvalues of the correlations beside those of tables without factors (Horn 1965).

    -> their number before the first that such tables reach, eigenvalues (p,), thresholds (p,).
    """
    values, reference = (_with_gaps if has_gaps(X) else _complete)(X, weight, rng)
    thresholds = np.quantile(reference, QUANTILE, axis=0)
    values = np.pad(values, (0, max(0, len(thresholds) - len(values))))[: len(thresholds)]
    return int(np.argmin(np.append(values > thresholds, False))), values, thresholds


def _complete(X, weight, rng):
    n, d = weight.sum(), X.shape[1]
    reference = [_spectrum(_gram(Z)) for Z in _nulls(n, d, rng)]
    if n > d:
        return _spectrum(_correlations(sample_moments(X, weight)[1])), reference
    return _spectrum(_gram(np.sqrt(weight)[:, None] * (X - sample_mean(X, weight)))), reference


def _with_gaps(X, weight, rng):
    """Without factors a correlation varies as 1 / the weight of the rows that saw both columns."""
    d = X.shape[1]
    (both,) = sum_blocks(_seen_together, (X, weight))
    both = np.maximum(both, 1.0)
    others = ~np.eye(d, dtype=bool)
    n = 1 / np.mean(1 / both[others]) if d > 1 else weight.sum()
    spread = np.where(others, np.sqrt(n / both), 1.0)
    reference = [_spectrum(_correlations(Z.T @ Z) * spread) for Z in _nulls(n, d, rng)]
    return _spectrum(_correlations(pooled_moments(X, weight)[1])), reference


def _seen_together(X, weight):
    seen = (~np.isnan(X)).astype(float)
    return ((weight[:, None] * seen).T @ seen,)


def _nulls(n, d, rng):
    """Tables (p, d) with the cross-products of n centred rows of independent columns, p <= d."""
    for _ in range(int(np.clip(WORK / min(n, d) ** 3, FEWEST, MOST))):
        yield _triangle(n, d, rng) if n > d else rng.standard_normal((max(1, round(n) - 1), d))


def _triangle(n, d, rng):
    """Bartlett's decomposition of a Wishart matrix (Anderson 2003, 7.2): -> (d, d)."""
    Z = np.triu(rng.standard_normal((d, d)), 1)
    Z[np.diag_indices(d)] = np.sqrt(rng.chisquare(n - 1 - np.arange(d)))
    return Z


def _correlations(S):
    sd = np.sqrt(np.diag(S))
    return S / sd / sd[:, None]


def _gram(Z):
    """A matrix with the eigenvalues of the correlations of centred rows, on the smaller side."""
    Z = Z / np.sqrt((Z**2).sum(axis=0))
    return Z @ Z.T if len(Z) < Z.shape[1] else Z.T @ Z


def _spectrum(R):
    return np.linalg.eigvalsh(R)[::-1]
