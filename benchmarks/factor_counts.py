"""How often each way finds the number of factors: `python benchmarks/factor_counts.py`.

Tables of 4 to 40 columns with 0 to 4 factors (loadings 0.5 to 0.8, one factor for each column);
"minor" tables have fifty more factors that share a tenth of each uniqueness, as real ones have
(Tucker, Koopman & Linn 1969). Parallel analysis looks at eigenvalues of the correlations, which is
what `n_components="parallel"` does, or of correlations reduced by squared multiple correlations
(Humphreys & Montanelli 1975). Behind each share of tables, the mean error.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported

import numpy as np
from _timing import table

from sklvm import EMFactorAnalysis

SIZES = [(8, 0), (20, 0), (4, 1), (6, 1), (10, 2), (20, 3), (40, 4)]  # columns, factors
TABLES = 10


def simulated(n, d, q, minor, rng):
    """Rows of q factors, and of fifty small ones that share `minor` of each uniqueness: (n, d)."""
    W = np.zeros((q, d))
    for j in range(d if q else 0):
        W[j % q, j] = rng.uniform(0.5, 0.8)
    unique = 1 - (W**2).sum(axis=0)
    M = rng.normal(size=(50, d)) * 0.8 ** np.arange(50)[:, None]
    M *= np.sqrt(minor * unique / (M**2).sum(axis=0))
    noise = rng.normal(size=(n, d)) * np.sqrt((1 - minor) * unique)
    return rng.normal(size=(n, q)) @ W + rng.normal(size=(n, 50)) @ M + noise


def reduced(X):
    """Eigenvalues of the correlations, multiple correlations on the diagonal: (d,)."""
    R = np.corrcoef(X.T)
    return np.linalg.eigvalsh(R - np.diag(1 / np.diag(np.linalg.inv(R))))[::-1]


def reduced_count(X, thresholds):
    return int(np.argmin(np.append(reduced(X) > thresholds, False)))


def errors(n, minor):
    """Number found less number there: (4 ways, tables)."""
    found, rng = [], np.random.default_rng(n)
    for d, q in SIZES:
        null = [reduced(rng.normal(size=(n, d))) for _ in range(200)]
        thresholds = np.quantile(null, 0.95, axis=0)
        for seed in range(TABLES):
            X = simulated(n, d, q, minor, rng)
            ways = [
                EMFactorAnalysis(w, random_state=seed).fit(X) for w in ("parallel", "bic", "cv")
            ]
            counts = [model.n_components_ for model in ways]
            found.append([counts[0], reduced_count(X, thresholds), *counts[1:]])
            found[-1] = [count - q for count in found[-1]]
    return np.array(found).T


def main():
    rows = []
    for minor in (0.0, 0.1):
        for n in (60, 200, 1000):
            cells = [f"{np.mean(e == 0):.2f} ({e.mean():+.2f})" for e in errors(n, minor)]
            rows.append(["minor" if minor else "exact", str(n), *cells])
    table("Numbers of factors", ["tables", "n", "parallel", "reduced", "bic", "cv"], rows)


if __name__ == "__main__":
    main()
