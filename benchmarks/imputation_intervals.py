"""Coverage of 95 % intervals after imputation: `python benchmarks/imputation_intervals.py`.

Tables of a predictor x and y = x + noise, 30 % of the entries missing completely at random. Three
ways to the slope of y on x and to the mean of y: one completed copy analysed as if it were data, 20
copies from the fitted density, and 20 copies with parameters of their own
(`parameters="posterior"`), the latter two pooled by Rubin's rules.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported

import time

import numpy as np
from _timing import table
from scipy.stats import t as student

from sklvm import EMFactorAnalysis, GaussianMixture, VariationalGMM, pool

TABLES, ROWS, COPIES, MISSING = 1000, 50, 20, 0.3
MODELS = {
    "GaussianMixture(1)": GaussianMixture(tol=1e-5),
    "VariationalGMM(1)": VariationalGMM(tol=1e-5),
    "EMFactorAnalysis(1)": EMFactorAnalysis(1, tol=1e-5),
}
TRUTH = np.array([1.0, 0.0])  # slope, mean


def problem(seed, n=ROWS):
    """Rows (x, y) with holes, each of them with an entry."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    X = np.column_stack([x, x + rng.standard_normal(n)])
    X[rng.uniform(size=X.shape) < MISSING] = np.nan
    return X


def analyse(copies):
    """Slope and mean of each copy, and their variances: (m, n, 2) -> (m, 2), (m, 2)."""
    n = copies.shape[1]
    x, y = copies[..., 0], copies[..., 1]
    dx, dy = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    slope = (dx * dy).sum(axis=1) / (dx**2).sum(axis=1)
    rest = ((dy - slope[:, None] * dx) ** 2).sum(axis=1) / (n - 2)
    estimates = np.column_stack([slope, y.mean(axis=1)])
    return estimates, np.column_stack([rest / (dx**2).sum(axis=1), y.var(axis=1, ddof=1) / n])


def intervals(copies):
    """Low and high ends: one copy as if it were data, or several pooled."""
    estimates, variances = analyse(copies)
    complete_df = np.array([copies.shape[1] - 2, copies.shape[1] - 1])
    if len(copies) > 1:
        pooled = pool(estimates, variances, complete_df=complete_df)
        return pooled.low, pooled.high
    half = student.ppf(0.975, complete_df) * np.sqrt(variances[0])
    return estimates[0] - half, estimates[0] + half


def covers(model, X, seed, copies=COPIES):
    """Whether each interval covers its truth: (3 ways, 2 estimates)."""
    model.fit(X)
    draw = {"how": "sample", "random_state": seed}
    ways = [
        model.impute(X, **draw)[None],
        model.impute(X, n_draws=copies, **draw),
        model.impute(X, n_draws=copies, parameters="posterior", **draw),
    ]
    ends = [intervals(way) for way in ways]
    return np.array([(low <= TRUTH) & (high >= TRUTH) for low, high in ends])


def main():
    lines = []
    for name, model in MODELS.items():
        began = time.process_time()
        hits = np.mean([covers(model, problem(s), s) for s in range(TABLES)], axis=0)
        took = (time.process_time() - began) / TABLES
        lines.append([name, *(f"{100 * hit:.1f}" for hit in hits.T.ravel()), f"{took:.3f}"])
    ways = ["one copy", "point", "posterior"]
    header = ["model", *(f"slope, {w}" for w in ways), *(f"mean, {w}" for w in ways), "CPU s"]
    table(f"covered by 95 % intervals, %, of {TABLES} tables of {ROWS} rows", header, lines)


if __name__ == "__main__":
    main()
