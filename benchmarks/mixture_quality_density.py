"""How well a mixture that chooses its own size models held-out rows: `... --data PATH`.

The peer is scikit-learn's GaussianMixture, whose K 1..10, covariance type and ridge are chosen by
5-fold likelihood on the training rows. Half of the rows train, the others are scored. Columns with
fewer than 20 distinct values are left out; in other columns with ties each value becomes uniform
over the median step between neighbouring values, the same draw for all. Everything on one thread.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported

import warnings
from functools import partial

import numpy as np
import sklearn
from _quality import Results, arguments, drawn, standardised, table
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, KFold
from threadpoolctl import threadpool_limits

import sklvm
from sklvm import AutoGaussianMixture

REFERENCE = "scikit-learn's grid"
EQUAL = 0.02  # nats per row that count as no difference
GRID = {
    "n_components": range(1, 11),
    "covariance_type": ["full", "tied", "diag", "spherical"],
    "reg_covar": [1e-6, 1e-3, 1e-2],
}


def _grid(seed):
    folds = KFold(5, shuffle=True, random_state=seed)
    return GridSearchCV(GaussianMixture(random_state=seed), GRID, cv=folds)


METHODS = {REFERENCE: _grid, "sklvm": lambda seed: AutoGaussianMixture(random_state=seed)}


def dequantised(X, rng):
    """Columns of at least 20 values; tied ones spread over their median step: (n, d) -> (n, p)."""
    columns = []
    for column in X.T:
        values, counts = np.unique(column, return_counts=True)
        if len(values) < 20:
            continue
        step = np.median(np.diff(values)) if counts.max() > 1 else 0.0
        columns.append(column + step * (rng.uniform(size=len(column)) - 0.5))
    return np.array(columns).reshape(-1, len(X)).T


def split(file, seed, size):
    """Training and test rows, standardised by the former."""
    X, rng = np.load(file)["X"].astype(float), np.random.default_rng(seed)
    X = dequantised(X, np.random.default_rng(0))
    X = X[drawn(len(X), size, rng)]
    return standardised(X[: len(X) // 2], X[len(X) // 2 :])


def density(file, seed, size, method):
    """Mean log density of the test rows, in standardised columns."""
    train, test = split(file, seed, size)
    return float(METHODS[method](seed).fit(train).score(test))


def version(method):
    return sklearn.__version__ if method == REFERENCE else sklvm.__version__


def report(found, names):
    """One line per table: nats per row of the reference, and how far the others are above."""
    ours = [method for method in METHODS if method != REFERENCE]
    rows, reached = [], dict.fromkeys(ours, 0)
    for name in names:
        reference = np.array(found[name, REFERENCE])
        rows.append([name, f"{reference.mean():.3f} ({reference.std():.3f})"])
        for method in ours:
            gain = np.array(found[name, method]) - reference
            reached[method] += gain.mean() >= -EQUAL
            rows[-1].append(f"{gain.mean():+.3f} ({gain.std():.3f})")
    title = "held-out nats per row, mean (sd) over seeds; others: gain over it"
    table(title, ["table", REFERENCE, *ours], rows)
    for method, count in reached.items():
        print(f"  {method}: at or above {REFERENCE} on {count} of {len(names)} tables")


def main():
    """Measure what is not in the cache, and print the table."""
    content = "X, regression and classification sets"
    options = arguments(__doc__.splitlines()[0], "uci", content, max_rows=2000)
    results = Results(options.cache)
    warnings.simplefilter("ignore")
    found, seconds = {}, {}
    names = [name for name, file in options.files.items() if split(file, 0, 100)[0].shape[1] > 1]
    with threadpool_limits(1):
        for seed in range(options.seeds):
            for name in names:
                for method in options.methods or METHODS:
                    key = (method, version(method), name, seed, options.max_rows)
                    compute = partial(density, options.files[name], seed, options.max_rows, method)
                    value, cost = results.get(key, compute)
                    found.setdefault((name, method), []).append(value)
                    seconds.setdefault(method, []).append(cost)
    if options.methods:
        for key, values in found.items():
            print(*key, f"{np.mean(values):.4f}")
        return
    report(found, names)
    costs = {method: f"{np.mean(cost):.2f}" for method, cost in seconds.items()}
    print("\nCPU seconds of a fit, mean:", costs)


if __name__ == "__main__":
    main()
