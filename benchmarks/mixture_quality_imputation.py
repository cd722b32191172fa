"""How well densities fill in what is missing: `mixture_quality_imputation.py --data PATH`.

Entries are removed completely at random, 20 and 50 in a hundred. Columns are standardised by what
is left of them. The error is the root mean square over the removed entries of all columns; ratios
are to scikit-learn's IterativeImputer with its default, BayesianRidge. Every method at its
defaults, everything on one thread.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported

import warnings
from functools import partial

import numpy as np
import sklearn
from _quality import Results, arguments, drawn, standardised, table
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - it enables the import
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from threadpoolctl import threadpool_limits

import sklvm
from sklvm import LatentImputer

RATES = (0.2, 0.5)
REFERENCE = "IterativeImputer"
PEERS = {
    REFERENCE: lambda seed: IterativeImputer(random_state=seed),
    "KNNImputer": lambda seed: KNNImputer(),
    "mean": lambda seed: SimpleImputer(),
}
METHODS = {**PEERS, "sklvm": lambda seed: LatentImputer(random_state=seed)}


def holes(file, rate, seed, size):
    """Rows with entries removed, and the rows: standardised by what is left, (n, d) twice."""
    X, rng = np.load(file)["X"].astype(float), np.random.default_rng(seed)
    X = X[drawn(len(X), size, rng)]
    gone = rng.uniform(size=X.shape) < rate
    left = np.where(gone, np.nan, X)
    varies = np.nanstd(left, axis=0) > 0
    return standardised(left[:, varies], X[:, varies])


def error(file, rate, seed, size, method):
    """Root mean square error of the removed entries, in standard deviations."""
    left, whole = holes(file, rate, seed, size)
    filled = METHODS[method](seed).fit_transform(left)
    return float(np.sqrt(np.mean((filled - whole)[np.isnan(left)] ** 2)))


def version(method):
    return sklvm.__version__ if method == "sklvm" else sklearn.__version__


def report(rate, names, methods, found):
    """One line per table: error of the reference, and the others' as ratios to it."""
    rows, ratios = [], {method: [] for method in methods if method != REFERENCE}
    for name in names:
        reference = np.array(found[rate, name, REFERENCE])
        rows.append([name, f"{reference.mean():.3f} ({reference.std():.3f})"])
        for method in ratios:
            each = np.array(found[rate, name, method]) / reference
            ratios[method].append(np.exp(np.log(each).mean()))
            rows[-1].append(f"{ratios[method][-1]:.3f} ({each.std():.3f})")
    for title, mean in (("mean", np.mean), ("geometric mean", lambda r: np.exp(np.log(r).mean()))):
        rows.append([title, "1", *(f"{mean(ratios[method]):.3f}" for method in ratios)])
    title = f"{rate:.0%} missing: RMSE (sd over seeds) of {REFERENCE}, ratios of the others"
    table(title, ["table", REFERENCE, *ratios], rows)


def main():
    """Measure what is not in the cache, and print a table for each rate."""
    options = arguments(__doc__.splitlines()[0], "uci", "X, regression and classification sets")
    results = Results(options.cache)
    warnings.simplefilter("ignore")
    methods = list(dict.fromkeys([REFERENCE, *(options.methods or METHODS)]))
    found, seconds = {}, {}
    with threadpool_limits(1):
        for method in methods:
            for name, file in options.files.items():
                for rate in RATES:
                    for seed in range(options.seeds):
                        key = (method, version(method), rate, name, seed, options.max_rows)
                        value, cost = results.get(
                            key, partial(error, file, rate, seed, options.max_rows, method)
                        )
                        found.setdefault((rate, name, method), []).append(value)
                        seconds.setdefault(method, []).append(cost)
    for rate in RATES:
        report(rate, list(options.files), methods, found)
    costs = {method: f"{np.mean(cost):.2f}" for method, cost in seconds.items()}
    print("\nCPU seconds of a fit with its answers, mean:", costs)


if __name__ == "__main__":
    main()
