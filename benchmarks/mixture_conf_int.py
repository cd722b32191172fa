"""Coverage of `conf_int`: `python benchmarks/mixture_conf_int.py`.

Tables of 500 rows from two overlapping components in two columns: Gaussians, the same with 20 % of
the entries missing, and Student-t distributions, for which a Gaussian mixture is wrong and the
target is its fit to 200000 rows. Each fit is aligned to the target. Printed is the share of 95 %
intervals that hold it, over tables and parameters of a kind.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported

import time

import numpy as np
from _timing import table

from sklvm import GaussianMixture

TABLES, ROWS = 500, 500
KINDS = ("weights", "means", "covariances")
PARAMETERS = {
    "weights": [0.6, 0.4],
    "means": np.array([[0.0, 0.0], [3.0, 1.0]]),
    "covariances": np.array([[[1.0, 0.5], [0.5, 1.0]], [[1.5, -0.4], [-0.4, 0.8]]]),
}
TRUTH = GaussianMixture.from_parameters(**PARAMETERS)


def gaussian_rows(seed, n=ROWS, df=np.inf):
    """Rows of the truth, or of Student-t distributions about its centres."""
    rng = np.random.default_rng(seed)
    z = rng.choice(2, size=n, p=PARAMETERS["weights"])
    noise = rng.standard_normal((n, 2, 1))
    if df < np.inf:
        noise /= np.sqrt(rng.chisquare(df, size=(n, 1, 1)) / df)
    roots = np.linalg.cholesky(PARAMETERS["covariances"])
    return PARAMETERS["means"][z] + (roots[z] @ noise)[..., 0]


def holed_rows(seed):
    """In 40 % of the rows one of the two entries is missing."""
    X, rng = gaussian_rows(seed), np.random.default_rng([seed, 1])
    row = np.flatnonzero(rng.uniform(size=ROWS) < 0.4)
    X[row, rng.integers(2, size=len(row))] = np.nan
    return X


def heavy_rows(seed, n=ROWS):
    return gaussian_rows(seed, n, df=8)


def fit(X, target=None):
    model = GaussianMixture(2, random_state=0).fit(X)
    return model if target is None else model.align_to(target)


def covers(X, target, method="hessian"):
    """Whether each interval holds the target: an array for each kind of parameter."""
    intervals = fit(X, target).conf_int(X, method=method)
    truth = [getattr(target, f"{kind}_") for kind in KINDS]
    ends = [getattr(intervals, kind) for kind in KINDS]
    return [(end.low <= value) & (value <= end.high) for end, value in zip(ends, truth)]


def main():
    heavy = fit(heavy_rows(0, 200_000), TRUTH)
    lines = []
    for name, draw, target, method in [
        ("Gaussians", gaussian_rows, TRUTH, "hessian"),
        ("Gaussians", gaussian_rows, TRUTH, "sandwich"),
        ("Gaussians", gaussian_rows, TRUTH, "opg"),
        ("Gaussians, 20 % missing", holed_rows, TRUTH, "hessian"),
        ("Student-t", heavy_rows, heavy, "hessian"),
        ("Student-t", heavy_rows, heavy, "sandwich"),
    ]:
        began = time.process_time()
        hits = zip(*(covers(draw(1 + seed), target, method) for seed in range(TABLES)))
        took = (time.process_time() - began) / TABLES
        cells = [f"{100 * np.mean(kind):.1f}" for kind in hits]
        lines.append([name, method, *cells, f"{took:.3f}"])
    header = ["rows", "method", *KINDS, "CPU s, fit and intervals"]
    table(f"covered by 95 % intervals, %, of {TABLES} tables of {ROWS} rows", header, lines)


if __name__ == "__main__":
    main()
